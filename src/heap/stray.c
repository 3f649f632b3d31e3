/* SPDX-License-Identifier: BSD-3-Clause */
/* stray.c - blocks of others' spans that a thread has freed, and keeps */
/*
 * They lie in the stray list of one of the thread's spans, its home for that
 * class, and are in use to their own spans. The common malloc and free take
 * them from there and put them there (span.h). Here they are brought home, all
 * of a list, when their holder asks for it (trim), ends, or is found dead: each
 * is pushed on "others" of its span, whoever owns that.
 *
 * Under the lock. Death in here, at each store, of one that goes home:
 *
 *	flight = its address, and how many came home to its span so far
 *	the list = what follows it
 *	others = with it, and one more that came home: one compare-and-swap
 *	flight = the next one's, or 0
 *
 * Who has the lock next looks for a flight (repair): if the list has its
 * block still, nothing was done; if as many came home to the span as before,
 * the push is done now; else it was done, whatever has become of the block since.
 * That counts only what comes home in here, so nobody else moves it before that.
 */
#include "span.h"

#include <errno.h>

#define get(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define set(word, to) atomic_store_explicit(&(word), to, memory_order_release)

#define ADDRESS (((uint64_t)1 << 48) - 1)

static bool in_heap(const struct shmi_heap *hp, uintptr_t slice)
{
	uint32_t i;

	for (i = 0; i < hp->nchunks; i++)
		if (slice - hp->chunk[i].start <
			    hp->chunk[i].nslices * HEAP_SLICE &&
		    slice - hp->chunk[i].start >=
			    hp->chunk[i].nhead * HEAP_SLICE)
			return true;
	return false;
}

/* The span of that class that has such a block; NULL. */
static struct heap_run *span_of(const struct shmi_heap *hp, uint32_t class,
				uintptr_t block)
{
	struct heap_run *r = heap_run_of((void *)block);
	uint64_t at = block - (uintptr_t)r - HEAP_RUN_LEN;

	if (!block || !in_heap(hp, heap_base(r)) || r->kind != class ||
	    get(r->mark) != heap_mark(hp, r, class) || at >= span_ever(r) ||
	    !heap_starts_block(class, (uint32_t)at))
		return NULL;
	return r;
}

static struct heap_run *must_have(const struct shmi_heap *hp, uint32_t class,
				  uintptr_t block)
{
	struct heap_run *r = span_of(hp, class, block);

	if (!r)
		shmi_heap_die("list of free blocks overwritten", (void *)block,
			      hp->h);
	return r;
}

static uint64_t came_home(const struct heap_run *r)
{
	return get(r->others) / OTHERS_HOME;
}

static void finish_flight(struct shmi_heap *hp, struct heap_run *r)
{
	uint64_t flight = get(r->flight);
	uintptr_t block = flight & ADDRESS;
	struct heap_run *span;

	if (!flight)
		return;
	if (span_first(get(r->stray)) != block) {
		span = must_have(hp, r->kind, block);
		if (came_home(span) == flight / OTHERS_HOME)
			shmi_span_push_others(span, hp->secret,
					      block % HEAP_SLICE, OTHERS_HOME);
	}
	set(r->flight, 0);
}

/* The list is bounded by what it may have; a forged one is no longer. */
SHMI_MAY_TOUCH
void shmi_stray_flush(struct shmi_heap *hp, struct heap_run *r)
{
	uint32_t class = shmi_span_class(hp, r), n = span_strays(class);
	uint64_t stray = get(r->stray), next;
	struct heap_run *span;
	uintptr_t block;

	for (; (block = span_first(stray)); stray = get(r->stray)) {
		span = n-- ? must_have(hp, class, block) : NULL;
		next = span ? get(*(_Atomic uint64_t *)block) ^ hp->secret : 0;
		if (!span || !span_is_link(next))
			shmi_heap_die("list of free blocks overwritten", r,
				      hp->h);
		set(r->flight, came_home(span) * OTHERS_HOME | block);
		span_step(&r->stray, next, (uint16_t)stray + 1u);
		shmi_unpoison((void *)block, heap_size[class]);
		shmi_span_push_others(span, hp->secret, block % HEAP_SLICE,
				      OTHERS_HOME);
	}
	set(r->strays, SPAN_STRAYS_FIRST);
	set(r->stray, SPAN_STRAYS_FIRST);
	set(r->flight, 0);
}

bool shmi_stray_let_go(struct shmi_thread *t)
{
	uint32_t class;
	bool any = false;

	for (class = 0; class < HEAP_CLASSES; class ++) {
		if (!t->of[class].home)
			continue;
		any |= span_first(get(t->of[class].home->stray)) != 0;
		shmi_stray_flush(t->hp, t->of[class].home);
	}
	return any;
}

static int repair_one(struct shmi_heap *hp, struct heap_run *r, uint32_t n,
		      void *arg)
{
	(void)n;
	(void)arg;
	if (r->kind < HEAP_CLASSES)
		finish_flight(hp, r);
	return 0;
}

void shmi_stray_repair(struct shmi_heap *hp)
{
	shmi_run_each(hp, repair_one, NULL);
}

/* ----- looking ----- */

/* Calls for each stray of @r until that is @stop: whether it is; -EUCLEAN for a
 * list that is damaged, or that its owner changes. */
SHMI_MAY_TOUCH
static int walk(const struct shmi_heap *hp, const struct heap_run *r,
		uintptr_t stop)
{
	uint32_t class = r->kind, n;
	uintptr_t at = span_first(get(r->stray));

	for (n = 0; at && at != stop; n++) {
		if (n == SPAN_STRAYS || !span_of(hp, class, at))
			return -EUCLEAN;
		at = get(*(_Atomic uint64_t *)at) ^ hp->secret;
	}
	return at != 0;
}

struct search {
	uintptr_t block;
	uint32_t class;
};

static int look_in(struct shmi_heap *hp, struct heap_run *r, uint32_t n,
		   void *arg)
{
	const struct search *s = arg;

	(void)n;
	return r->kind == s->class && walk(hp, r, s->block) == 1;
}

bool shmi_stray_lists(struct shmi_heap *hp, uint32_t class, uintptr_t block)
{
	struct search s = { .block = block, .class = class };

	return shmi_run_each(hp, look_in, &s);
}

int shmi_stray_check(struct shmi_heap *hp, const struct heap_run *r)
{
	return walk(hp, r, 0);
}
