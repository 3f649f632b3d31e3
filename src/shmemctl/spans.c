/* SPDX-License-Identifier: BSD-3-Clause */
/* spans.c - heaps of an arena, read from its files and never believed */
/*
 * Everything comes from pread(2), one piece at a time, and is compared with the
 * arena's bounds before it leads anywhere. A table is walked where it lies, so
 * that a forged length costs no memory, and ends at its first word that makes no
 * sense; a hole reads as such a word. Many forged heaps may name the same table,
 * so each slice is claimed by what begins there, once for all heaps: a run or
 * a table. (Only that slice of a run, since a large block may have a heap in
 * it.) So there are no more steps than the arena has slices, and headers, which
 * are large, are in memory one at a time. In an arena in use a slice may
 * change hands between two looks, so as many may be claimed again, and looks
 * are counted.
 *
 * A heap is at a slice's start and has its own address in it, so that a copy
 * of one, or of its arena, is not taken for one. It is looked for in all that
 * is no hole: the root pointer may lead to something else.
 */
#include "look.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS 1024u   /* of a table that are read at a time */
#define PATIENCE 200u /* looks at what others are changing */

/* ----- reading ----- */

/* Bytes of the arena: false where it has not got them. */
static bool get(const struct ctl_arena *a, uint64_t off, void *buf, size_t len)
{
	size_t done = 0;

	if (off > a->size || len > a->size - off)
		return false;
	while (done < len) {
		ssize_t n =
			pread(ctl_data_fd(a), (char *)buf + done, len - done,
			      (off_t)(a->data_off + off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false; /* it has shrunk, or the disk is bad */
		done += (size_t)n;
	}
	return true;
}

/* Only the first thing counts. */
#define WRONG(h, ...)                                                          \
	do {                                                                   \
		if (!(h)->wrong[0])                                            \
			snprintf((h)->wrong, sizeof((h)->wrong), __VA_ARGS__); \
	} while (0)

/* ----- the header ----- */

static uint64_t slices(uint64_t bytes)
{
	return (bytes + HEAP_SLICE - 1) / HEAP_SLICE;
}

static bool good_chunk(const struct ctl_heap *h, uint32_t i)
{
	const struct heap_chunk *c = &h->h->chunk[i];
	uint64_t first = i ? 0 : sizeof(struct heap_hdr);
	uint64_t n = c->nslices, off = c->start - h->a->h.c.base;

	return c->start % HEAP_SLICE == 0 && n && n <= HEAP_COUNT &&
	       c->nhead == slices(first + n * sizeof(uint32_t)) &&
	       c->nhead <= n && off < h->a->size &&
	       n * HEAP_SLICE <= h->a->size - off;
}

static bool overlap(const struct ctl_heap *h, uint32_t i)
{
	const struct heap_chunk *c = &h->h->chunk[i], *d;
	uint32_t k;

	for (k = 0; k < i; k++) {
		d = &h->h->chunk[k];
		if (c->start < d->start + d->nslices * HEAP_SLICE &&
		    d->start < c->start + c->nslices * HEAP_SLICE)
			return true;
	}
	return false;
}

/* Whether what is in use is to be looked at once more. */
static bool look_again(struct ctl_heap *h, uint32_t looks)
{
	if (!h->in_use || looks >= PATIENCE || !h->all->looks)
		return false;
	h->all->looks--;
	return true;
}

/* A chunk that has been made, or made again, after we looked at the size. */
static bool is_new(const struct ctl_heap *h, uint32_t i)
{
	const struct heap_chunk *c = &h->h->chunk[i];
	uint64_t off = c->start - h->a->h.c.base, size;
	uint64_t len = (uint64_t)c->nslices * HEAP_SLICE;

	/* Most are not. The size is less again where it has been cut. */
	if (!h->in_use || (off < h->a->size && len <= h->a->size - off) ||
	    pread(h->a->fd, &size, sizeof(size),
		  offsetof(struct layout_hdr_words, size)) != sizeof(size))
		return false;
	return off < size && len <= size - off;
}

static void read_once(struct ctl_heap *h)
{
	struct heap_hdr *p = h->h;
	uint32_t i;

	h->wrong[0] = '\0';
	h->nchunks = 0;
	h->nslices = 0;
	memset(p, 0, sizeof(*p));
	if (!get(h->a, h->off, p, sizeof(*p)))
		WRONG(h, "its header is cut");
	else if (p->magic != HEAP_MAGIC)
		WRONG(h, "its magic is overwritten");
	else if (p->format != HEAP_FORMAT)
		WRONG(h, "format %u; this shmemctl knows %u", p->format,
		      HEAP_FORMAT);
	else if (!p->nchunks || p->nchunks > HEAP_CHUNKS)
		WRONG(h, "it cannot have %u chunks", p->nchunks);
	else if (p->chunk[0].start != h->addr)
		WRONG(h, "its first chunk does not begin with it");
	if (h->wrong[0])
		return;
	h->secret = p->secret & ~(HEAP_SLICE - 1);
	h->flags = p->flags;
	h->peak = p->peak;
	for (i = 0; i < p->nchunks; i++) {
		if (is_new(h, i))
			return;
		if (!good_chunk(h, i))
			WRONG(h, "chunk %u makes no sense", i);
		else if (overlap(h, i))
			WRONG(h, "chunk %u lies in another one", i);
		if (h->wrong[0])
			return;
		h->nchunks = i + 1;
		h->nslices += p->chunk[i].nslices;
	}
}

/* One in use may be seen in the middle of a change. */
static void read_header(struct ctl_heap *h)
{
	uint32_t looks = 0;

	do
		read_once(h);
	while (h->wrong[0] && look_again(h, ++looks));
}

/* Whether others have taken the chunk away since the header was read, or put
 * another one there; a trim does so before the pages are gone. */
static bool moved(const struct ctl_heap *h, uint32_t chunk)
{
	const struct heap_chunk *c = &h->h->chunk[chunk];
	uint64_t at =
		h->off + offsetof(struct heap_hdr, chunk) + chunk * sizeof(*c);
	uint32_t n;
	struct {
		uint64_t start;
		uint32_t nslices;
	} now;

	static_assert(offsetof(struct heap_chunk, nslices) == 8, "as now");
	return h->in_use && get(h->a, at, &now, sizeof(now)) &&
	       get(h->a, h->off + offsetof(struct heap_hdr, nchunks), &n,
		   sizeof(n)) &&
	       (n <= chunk || now.start != c->start ||
		now.nslices != c->nslices);
}

/* ----- finding ----- */

static void add(struct ctl_heaps *l, const struct ctl_arena *a, uint64_t off,
		bool in_use)
{
	struct ctl_heap *h;

	l->v = ctl_alloc(l->v, l->n + 1, sizeof(*l->v));
	h = &l->v[l->n++];
	memset(h, 0, sizeof(*h));
	h->a = a;
	h->all = l;
	h->in_use = in_use;
	h->off = off;
	h->addr = a->h.c.base + off;
	h->root = a->h.root == h->addr;
}

/* One that the root pointer leads to is one without its magic, too. */
static bool is_heap(const struct ctl_arena *a, uint64_t off)
{
	uint64_t addr = a->h.c.base + off;
	struct {
		uint64_t magic;
		uint32_t format, flags;
		uint64_t self;
	} first;

	static_assert(offsetof(struct heap_hdr, self) == 16, "the same words");
	return get(a, off, &first, sizeof(first)) && first.self == addr &&
	       (first.magic == HEAP_MAGIC || a->h.root == addr);
}

void ctl_heaps_find(const struct ctl_arena *a, bool in_use, struct ctl_heaps *l)
{
	uint64_t from, to, off = 0, base = a->h.c.base;

	memset(l, 0, sizeof(*l));
	while (ctl_data_next(a, off, &from, &to)) {
		/* Addresses count, and a small page may hold a header. */
		off = (base + from + HEAP_SLICE - 1) / HEAP_SLICE * HEAP_SLICE -
		      base;
		for (; off < to; off += HEAP_SLICE)
			if (is_heap(a, off))
				add(l, a, off, in_use);
		off = to;
	}
	l->spare = a->size / HEAP_SLICE;
	l->looks = l->spare + (uint64_t)20 * PATIENCE;
	/* Zero pages until they are written to, however large it is. */
	l->claimed = l->n ? calloc(a->size / HEAP_SLICE / 8 + 2, 1) : NULL;
	if (l->n && !l->claimed)
		exit(ctl_error(a->path, "%s", strerror(errno)));
}

void ctl_heaps_end(struct ctl_heaps *l)
{
	free(l->claimed);
	free(l->v);
	memset(l, 0, sizeof(*l));
}

/* ----- owners ----- */

/* As shmi_heap_owner_dead(). Guests have no witness. */
static enum ctl_owner owner_of(const struct ctl_heap *h, uint64_t owner)
{
	uint32_t slot = (uint32_t)(owner >> 48) - 1;
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (!owner)
		return CTL_NOBODY;
	if (slot >= LAYOUT_SLOTS ||
	    ((h->h->life[slot] ^ (uint32_t)(owner >> 24)) & 0xffffff))
		return CTL_DEAD;
	if (slot < LAYOUT_GUESTS)
		return CTL_ALIVE;
	l.l_start = (off_t)(LAYOUT_LOCK_SLOT0 + slot);
	l.l_len = 1;
	if (fcntl(h->a->fd, F_OFD_GETLK, &l))
		return CTL_ALIVE;
	return l.l_type == F_UNLCK ? CTL_DEAD : CTL_ALIVE;
}

/* ----- runs ----- */

static uint64_t head_at(uint64_t slice)
{
	return slice + slice / HEAP_SLICE % HEAP_COLOURS * HEAP_COLOUR;
}

/* Offset in its slice of a span's first block. */
static uint32_t start_of(const struct ctl_heap *h, const struct ctl_run *r)
{
	return (uint32_t)(head_at(h->a->h.c.base + r->off) % HEAP_SLICE) +
	       HEAP_RUN_LEN;
}

/* Blocks of the span that are not free, as far as it knows; and strays that are
 * in its keeping, which other spans take for used. */
uint32_t ctl_span_used(const struct ctl_run *r)
{
	return (uint32_t)r->head.state & SPAN_USED;
}

uint32_t ctl_span_strays(const struct ctl_run *r)
{
	uint32_t most = r->head.strays;
	uint32_t room = (uint32_t)r->head.stray & SPAN_USED;

	return room < most ? most - room : 0;
}

uint32_t ctl_span_room(const struct ctl_heap *h, const struct ctl_run *r)
{
	return (HEAP_END - start_of(h, r)) / heap_size[r->head.kind];
}

/* A list that nobody changes any more. */
static bool good_list(const struct ctl_heap *h, const struct ctl_run *r,
		      uint32_t ever)
{
	uint64_t base = h->a->h.c.base + r->off;
	uint32_t size = heap_size[r->head.kind], start = start_of(h, r), n;
	uint64_t at = r->head.state >> SPAN_LIST_SHIFT, off;
	char *slice;

	if (!at)
		return true;
	slice = ctl_alloc(NULL, 1, HEAP_SLICE);
	if (!get(h->a, r->off, slice, HEAP_SLICE))
		at = 1;
	for (n = 0; at && n <= ever / size; n++) {
		off = at - base;
		if (off < start || off - start >= ever || (off - start) % size)
			break;
		memcpy(&at, slice + off, sizeof(at));
		at ^= h->secret;
	}
	free(slice);
	return !at;
}

/* The same of those of other spans, wherever in the arena they are. */
static bool good_strays(const struct ctl_heap *h, const struct ctl_run *r)
{
	uint64_t at = r->head.stray >> SPAN_LIST_SHIFT;
	uint32_t n;

	for (n = 0; at && n < span_strays(r->head.kind); n++) {
		if (at % 16 || !get(h->a, at - h->a->h.c.base, &at, sizeof(at)))
			return false;
		at ^= h->secret;
	}
	return !at;
}

static const char *check_span(const struct ctl_heap *h, const struct ctl_run *r)
{
	uint32_t size = heap_size[r->head.kind];
	uint32_t bytes = ctl_span_room(h, r) * size;
	uint32_t ever = r->head.ever;

	if (r->nslices != 1 || r->head.heap != h->addr ||
	    r->head.ready > bytes || ever > r->head.ready || ever % size)
		return "the head of the span";
	if (r->owner == CTL_ALIVE || r->head.adding == SPAN_GOES)
		return NULL;
	/* Blocks that the dead one was adding are in the list first. */
	if (r->head.adding > ever && r->head.adding <= r->head.ready)
		ever = r->head.adding;
	if (!good_list(h, r, ever))
		return "a free block of the span";
	if (!good_strays(h, r))
		return "a free block of another span";
	return NULL;
}

/* NULL; or what of it is overwritten. */
static const char *check_run(const struct ctl_heap *h, const struct ctl_run *r)
{
	uint64_t slice = h->a->h.c.base + r->off;
	uint64_t front = r->head.block - slice;

	if (r->head.mark !=
	    (h->secret ^ head_at(slice) ^ (uint64_t)r->head.kind << 48))
		return "the mark of the run";
	if (r->head.kind < HEAP_CLASSES)
		return check_span(h, r);
	if (r->head.kind != HEAP_LARGE || front > HEAP_SLICE ||
	    r->head.len > r->nslices * HEAP_SLICE - front)
		return "the head of the large block";
	return NULL;
}

/* ----- the walk ----- */

struct table {
	uint64_t off; /* of its first word in the arena */
	uint32_t chunk, nslices;
	uint32_t first, n; /* which words are here */
	uint32_t word[WORDS];
};

static bool word_at(const struct ctl_heap *h, struct table *t, uint32_t slice,
		    uint32_t *word)
{
	if (slice - t->first >= t->n) {
		t->first = slice;
		t->n = t->nslices - slice;
		if (t->n > WORDS)
			t->n = WORDS;
		if (!get(h->a, t->off + (uint64_t)slice * sizeof(uint32_t),
			 t->word, t->n * sizeof(uint32_t))) {
			t->n = 0;
			return false;
		}
	}
	*word = t->word[slice - t->first];
	return true;
}

static struct table table_of(const struct ctl_heap *h, uint32_t chunk)
{
	const struct heap_chunk *c = &h->h->chunk[chunk];
	struct table t = { .off = c->start - h->a->h.c.base,
			   .chunk = chunk,
			   .nslices = c->nslices };

	if (!chunk)
		t.off += sizeof(struct heap_hdr);
	return t;
}

static bool is_run(const struct table *t, uint32_t slice, uint32_t word)
{
	return (word & HEAP_COUNT) && (word & HEAP_COUNT) <= t->nslices - slice;
}

/* Whether what begins at the slice of that offset is the first thing to be
 * there, of any heap; or one of those that may have changed hands. */
static bool is_free(const struct ctl_heap *h, uint64_t off)
{
	uint64_t i = off / HEAP_SLICE;

	return !(h->all->claimed[i / 8] >> i % 8 & 1) ||
	       (h->in_use && h->all->spare);
}

static bool claim(struct ctl_heap *h, uint64_t off)
{
	uint64_t i = off / HEAP_SLICE;

	if (!is_free(h, off))
		return false;
	if (h->all->claimed[i / 8] >> i % 8 & 1)
		h->all->spare--;
	h->all->claimed[i / 8] |= (uint8_t)(1u << i % 8);
	return true;
}

/* NULL: runs cover the chunk. Or what is wrong with *@slice. */
static const char *uncovered(const struct ctl_heap *h, uint32_t chunk,
			     uint32_t *slice)
{
	uint64_t start = h->h->chunk[chunk].start - h->a->h.c.base;
	uint32_t nhead = h->h->chunk[chunk].nhead, word = 1;
	struct table t = table_of(h, chunk);

	for (*slice = 0; *slice < t.nslices; *slice += word & HEAP_COUNT) {
		if (!is_free(h, start + *slice * HEAP_SLICE))
			return "belongs to something else, too";
		if (*slice >= nhead && (!word_at(h, &t, *slice, &word) ||
					!is_run(&t, *slice, word)))
			return "begins no run";
	}
	return NULL;
}

/*
 * Whether the chunk is still there. Only the first thing that is wrong counts,
 * so behind it nothing is looked at again. Of a chunk that has moved the header
 * is read again: there may be another one now, and more behind it.
 */
static bool check_table(struct ctl_heap *h, uint32_t chunk)
{
	uint32_t slice, looks = 0;
	const char *bad = uncovered(h, chunk, &slice);

	while (bad && !h->wrong[0] && look_again(h, ++looks)) {
		if (moved(h, chunk))
			read_header(h);
		if (chunk >= h->nchunks)
			return false;
		bad = uncovered(h, chunk, &slice);
	}
	if (bad && !moved(h, chunk))
		WRONG(h, "slice %u of chunk %u %s", slice, chunk, bad);
	return true;
}

/* Reads its head: NULL, or what is wrong with it. */
static const char *read_head(const struct ctl_heap *h, struct ctl_run *r)
{
	uint64_t base = h->a->h.c.base;

	memset(&r->head, 0, sizeof(r->head));
	r->owner = CTL_NOBODY;
	if (!(r->word & HEAP_USED))
		return NULL;
	if (!get(h->a, head_at(base + r->off) - base, &r->head,
		 sizeof(r->head)))
		return "the run";
	r->owner = owner_of(h, r->head.owner);
	return check_run(h, r);
}

/*
 * The run at @slice. What is wrong with it is looked at again as long as
 * others may be changing it; it may be gone then (false).
 */
static bool meet(struct ctl_heap *h, struct table *t, uint32_t slice,
		 struct ctl_run *r)
{
	const char *bad = read_head(h, r);
	uint32_t looks = 0;

	while (bad && !h->wrong[0] && look_again(h, ++looks)) {
		t->n = 0;
		if (moved(h, t->chunk) || !word_at(h, t, slice, &r->word) ||
		    !is_run(t, slice, r->word))
			return false;
		r->nslices = r->word & HEAP_COUNT;
		bad = read_head(h, r);
	}
	if (bad && !moved(h, t->chunk))
		WRONG(h, "%s at offset %" PRIu64 " is overwritten", bad,
		      r->off);
	return true;
}

/* Those in the table's slices, for which one call is made. */
static bool claim_table(struct ctl_heap *h, const struct ctl_run *r)
{
	uint32_t i;

	for (i = 0; i < r->nslices; i++)
		if (!claim(h, r->off + i * HEAP_SLICE))
			return false;
	return true;
}

static void walk_chunk(struct ctl_heap *h, uint32_t chunk, ctl_run_fn *each,
		       void *arg)
{
	const struct heap_chunk *c = &h->h->chunk[chunk];
	uint64_t start = c->start - h->a->h.c.base;
	struct table t = table_of(h, chunk);
	struct ctl_run r = { .off = start, .nslices = c->nhead };
	uint32_t slice = c->nhead;

	if (!claim_table(h, &r))
		return;
	each(h, &r, arg);
	while (slice < t.nslices && claim(h, start + slice * HEAP_SLICE) &&
	       word_at(h, &t, slice, &r.word)) {
		r.off = start + slice * HEAP_SLICE;
		r.nslices = r.word & HEAP_COUNT;
		if (is_run(&t, slice, r.word) && meet(h, &t, slice, &r)) {
			each(h, &r, arg);
			slice += r.nslices;
		} else if (h->in_use && !moved(h, chunk)) {
			slice++; /* it has been joined with the one before */
		} else {
			return;
		}
	}
}

void ctl_heap_walk(struct ctl_heap *h, ctl_run_fn *each, void *arg)
{
	uint32_t i;

	h->h = ctl_alloc(NULL, 1, sizeof(*h->h));
	read_header(h);
	for (i = 0; i < h->nchunks; i++)
		if (check_table(h, i))
			walk_chunk(h, i, each, arg);
	/* Destroyed meanwhile. */
	h->gone = h->in_use && h->wrong[0] && !is_heap(h->a, h->off);
	free(h->h);
	h->h = NULL;
}
