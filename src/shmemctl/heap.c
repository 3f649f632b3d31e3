/* SPDX-License-Identifier: BSD-3-Clause */
/* heap.c - the heaps of an arena: statistics, and whether they are whole */
#include "look.h"

#include <inttypes.h>
#include <string.h>
#include <tmc/mspace.h>

static const char help[] =
	"usage: shmemctl heap PATH\n"
	"Shows each heap of an arena: memory, spans of small blocks by size "
	"and owner,\n"
	"large blocks, and whether it is whole. PATH can be /proc/PID/fd/N, "
	"for an arena\n"
	"without a name.\n\n"
	"Exit code: 0; 1 it cannot be looked at, is no arena, or is damaged.\n";

/* Of one size class, or all together. */
struct sum {
	uint64_t spans, owned, dead, nobody; /* owned + dead + nobody = spans */
	uint64_t idle;			     /* spans without a block in use */
	uint64_t blocks, room;		     /* in use; that there can be */
	uint64_t bytes;			     /* in use */
	uint64_t strays, stray_bytes; /* free, and in use to their spans */
};

struct tally {
	struct sum size[HEAP_CLASSES], all;
	struct {
		uint64_t n, bytes;
	} large, held, lost; /* in use; a living or dead thread's */
	uint64_t free_runs, free, kept, tables; /* bytes, but for runs */
};

/* ----- counting ----- */

static void add_span(struct sum *s, uint32_t size, uint32_t used,
		     const struct ctl_heap *h, const struct ctl_run *r)
{
	s->spans++;
	s->owned += r->owner == CTL_ALIVE;
	s->dead += r->owner == CTL_DEAD;
	s->nobody += r->owner == CTL_NOBODY;
	s->idle += !used;
	s->blocks += used;
	s->room += ctl_span_room(h, r);
	s->bytes += (uint64_t)used * size;
	s->strays += ctl_span_strays(r);
	s->stray_bytes += (uint64_t)ctl_span_strays(r) * size;
}

/* In an arena in use they are of different times. */
static void leave_strays_out(struct sum *s)
{
	s->blocks -= s->strays < s->blocks ? s->strays : s->blocks;
	s->bytes -= s->stray_bytes < s->bytes ? s->stray_bytes : s->bytes;
}

static void add(const struct ctl_heap *h, const struct ctl_run *r, void *arg)
{
	struct tally *t = arg;
	uint64_t len = r->nslices * HEAP_SLICE;

	if (!r->word) {
		t->tables += len;
	} else if (ctl_run_is_span(r)) {
		uint32_t size = heap_size[r->head.kind];

		add_span(&t->size[r->head.kind], size, ctl_span_used(r), h, r);
		add_span(&t->all, size, ctl_span_used(r), h, r);
	} else if (!(r->word & HEAP_USED)) {
		t->free_runs++;
		t->free += len;
		if (r->word & HEAP_KEPT)
			t->kept += len;
	} else if (r->owner == CTL_NOBODY) {
		t->large.n++;
		t->large.bytes += r->head.len;
	} else if (r->owner == CTL_ALIVE) {
		t->held.n++;
		t->held.bytes += len;
	} else {
		t->lost.n++;
		t->lost.bytes += len;
	}
}

/* ----- printing ----- */

static void row(const char *name, uint64_t n, const char *what)
{
	char text[CTL_HUMAN];

	printf("  %-10s %8s  %s%s%s\n", name, ctl_human(n, text),
	       ctl_colour(CTL_DIM), what, ctl_colour(CTL_PLAIN));
}

static void counted(const char *name, uint64_t count, uint64_t n,
		    const char *what)
{
	char text[96];

	if (!count)
		return;
	snprintf(text, sizeof(text), "%s: %" PRIu64, what, count);
	row(name, n, text);
}

static void print_sum(const char *name, const struct sum *s)
{
	char used[CTL_HUMAN];
	unsigned int percent =
		s->room ? (unsigned int)(s->blocks * 100 / s->room) : 0;

	printf("  %7s %6" PRIu64 " %6" PRIu64 " %5" PRIu64 " %6" PRIu64
	       " %5" PRIu64 " %10" PRIu64 " %10" PRIu64 " %3u%% %6s\n",
	       name, s->spans, s->owned, s->dead, s->nobody, s->idle, s->blocks,
	       s->room, percent, ctl_human(s->bytes, used));
}

static void print_spans(const struct tally *t)
{
	char name[16];
	uint32_t i;

	if (!t->all.spans)
		return;
	printf("\n  %s%7s %6s %6s %5s %6s %5s %10s %10s %4s %6s%s\n",
	       ctl_colour(CTL_BOLD), "size", "spans", "owned", "dead", "nobody",
	       "idle", "blocks", "room", "full", "used", ctl_colour(CTL_PLAIN));
	for (i = 0; i < HEAP_CLASSES; i++) {
		snprintf(name, sizeof(name), "%u", heap_size[i]);
		if (t->size[i].spans)
			print_sum(name, &t->size[i]);
	}
	print_sum("all", &t->all);
}

static void print_flags(uint32_t flags)
{
	const char *between = "";

	printf("  %-10s %8s  ", "flags", "");
	if (flags & (TMC_MSPACE_LOCKED | TMC_MSPACE_SPINLOCK)) {
		printf("for several processes");
		between = ", ";
	}
	if (flags & TMC_MSPACE_NOGROW)
		printf("%sdoes not grow", between);
	if (!flags)
		printf("none");
	printf("\n");
}

static void print_heap(const struct ctl_heap *h, const struct tally *t)
{
	char text[CTL_HUMAN];

	printf("%sheap at %#" PRIx64 "%s, %s from the start%s\n",
	       ctl_colour(CTL_BOLD), h->addr, ctl_colour(CTL_PLAIN),
	       ctl_human(h->off, text),
	       h->root ? "; the root pointer leads to it" : "");
	print_flags(h->flags);
	counted("footprint", h->nchunks, h->nslices * HEAP_SLICE, "chunks");
	row("most", h->peak, "footprint so far");
	row("used", t->all.bytes + t->large.bytes, "in blocks of all sizes");
	counted("small", t->all.spans, t->all.spans * HEAP_SLICE,
		"spans of small blocks");
	counted("large", t->large.n, t->large.bytes, "large blocks in use");
	counted("held", t->held.n, t->held.bytes,
		"runs that a thread holds for its next large block");
	counted("left", t->lost.n, t->lost.bytes,
		"runs that somebody died with, to be swept up");
	counted("free", t->free_runs, t->free, "free runs");
	counted("strays", t->all.strays, t->all.stray_bytes,
		"free blocks of others that threads keep for their next");
	if (t->kept)
		row("kept", t->kept, "of these, with pages for the next ones");
	row("tables", t->tables, "and the header");
	print_spans(t);
}

/* The line that says whether it is whole. */
static bool print_check(const struct ctl_heap *h, bool in_use)
{
	if (!h->wrong[0]) {
		printf("  %scheck: whole%s\n", ctl_colour(CTL_GREEN),
		       ctl_colour(CTL_PLAIN));
		return true;
	}
	printf("  %scheck: %s%s\n", ctl_colour(CTL_RED), h->wrong,
	       ctl_colour(CTL_PLAIN));
	if (in_use)
		printf("  It is in use; that may have been a change under "
		       "way.\n");
	return false;
}

/* ----- the command ----- */

static int look_at(const char *path, const struct ctl_arena *a, bool in_use)
{
	struct ctl_heaps l;
	struct tally t;
	int code = CTL_OK;
	size_t i, k;

	ctl_heaps_find(a, in_use, &l);
	printf("%s%s%s: %zu heap%s%s\n", ctl_colour(CTL_BOLD), a->path,
	       ctl_colour(CTL_PLAIN), l.n, l.n == 1 ? "" : "s",
	       in_use ? "; it is in use, and numbers may be of different times"
		      : "");
	for (i = 0; i < l.n; i++) {
		memset(&t, 0, sizeof(t));
		ctl_heap_walk(&l.v[i], add, &t);
		for (k = 0; k < HEAP_CLASSES; k++)
			leave_strays_out(&t.size[k]);
		leave_strays_out(&t.all);
		if (l.v[i].gone)
			continue;
		printf("\n");
		print_heap(&l.v[i], &t);
		if (!print_check(&l.v[i], in_use) && code == CTL_OK)
			code = ctl_error(path, "heap at %#" PRIx64 ": %s",
					 l.v[i].addr, l.v[i].wrong);
	}
	ctl_heaps_end(&l);
	return code;
}

int ctl_heap(int argc, char **argv)
{
	static const struct option longs[] = { { "help", 0, NULL, 'h' },
					       { 0 } };
	struct ctl_arena a;
	struct ctl_locks l;
	const char *path;
	int code;

	while (ctl_option(argc, argv, "h", longs, help) != -1)
		;
	path = ctl_words(argc, argv, 1);
	if (ctl_look(path, &a, &l))
		return CTL_FAILED;
	code = look_at(path, &a, ctl_locked(&l));
	ctl_inspect_end(&a);
	return code;
}
