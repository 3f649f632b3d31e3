/* SPDX-License-Identifier: BSD-3-Clause */
/* span_orphan.c - spans whose owner has gone: given up, adopted, checked */
/*
 * What a death of the owner leaves at each store is at the top of span.c.
 */
#include "span.h"

#include <errno.h>

#define get(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define set(word, to) atomic_store_explicit(&(word), to, memory_order_release)

/* What follows the free block at @off: false for a list that is damaged. */
SHMI_MAY_TOUCH
static bool next_of(const struct shmi_heap *hp, const struct heap_run *r,
		    uint32_t class, uint64_t *off)
{
	uint64_t at = *off - span_start(r);

	if (at >= span_bytes(r, class) ||
	    !heap_starts_block(class, (uint32_t)at))
		return false;
	*off = get(*span_word(r, *off)) ^ span_key(hp->secret, r);
	return span_is_offset(*off);
}

/* Steps from @off on until @stop or the end; where it ended. */
static uint64_t walk(const struct shmi_heap *hp, struct heap_run *r,
		     uint32_t class, uint64_t off, uint64_t stop,
		     uint64_t *last, uint32_t *n)
{
	*last = 0;
	for (*n = 0; off && off != stop; ++*n) {
		*last = off;
		if (*n > HEAP_END / heap_size[class] ||
		    !next_of(hp, r, class, &off))
			shmi_heap_die("list of free blocks overwritten", r,
				      hp->h);
	}
	return off;
}

/* Adoption: where the last owner died in collect. Can be repeated. */
static void finish_collect(const struct shmi_heap *hp, struct heap_run *r,
			   uint32_t class)
{
	uint64_t taken = get(r->taken), state = span_state(r), last;
	uint64_t list = state & SPAN_LIST;
	uint32_t n;

	if (!taken)
		return;
	/* Is it still others', or at the front of the list? */
	if (walk(hp, r, class, get(r->others) & SPAN_LIST, taken, &last, &n) !=
		    taken &&
	    list != taken) {
		if (list && walk(hp, r, class, taken, list, &last, &n) != list)
			span_link(hp, r, last, list);
		span_step(r, state - list + taken);
	}
	set(r->taken, 0);
}

/* Words of a span that nobody has, put in order: its blocks in use. */
static uint32_t settle(struct shmi_heap *hp, struct heap_run *r, uint32_t class)
{
	uint64_t state, last;
	uint32_t n, size = heap_size[class], ever, ready = get(r->ready);

	finish_collect(hp, r, class);
	state = span_state(r);
	ever = span_ever(state);
	walk(hp, r, class, state & SPAN_LIST, 0, &last, &n);
	if (ready > span_bytes(r, class) || ever > ready || ever % size ||
	    n > ever / size)
		shmi_heap_die("head of a span overwritten", r, hp->h);
	set(r->ever, ever);
	span_step(r, (uint64_t)ever << SPAN_EVER_SHIFT | (state & SPAN_LIST) |
			     (ever / size - n) * SPAN_USED_ONE);
	shmi_span_collect(hp, r);
	return span_blocks(span_state(r));
}

struct sweep {
	struct shmi_thread *t;
	uint32_t class;
	bool found;
};

/* The mark stays the dead one's until the words are right, so that after a
 * death in here the next sweep does it again. */
static int sweep_one(struct shmi_heap *hp, struct heap_run *r, uint32_t n,
		     void *arg)
{
	struct sweep *s = arg;
	uint64_t owner = get(r->owner);
	uint32_t class;

	(void)n;
	if (get(r->mark) != heap_mark(hp, r))
		shmi_heap_die("head of a run overwritten", r, hp->h);
	if (r->kind == HEAP_LARGE) {
		/*
		 * Its thread writes there without the lock: it may have given
		 * the block out after our first look, and died after that.
		 * The dead write no more.
		 */
		if (owner && shmi_heap_owner_dead(hp, owner) &&
		    get(r->owner) == owner)
			shmi_run_free(hp, r, HEAP_DIRTY);
		return 0;
	}
	class = shmi_span_class(hp, r);
	if (!shmi_heap_owner_dead(hp, owner))
		return 0;
	if (!settle(hp, r, class)) {
		/* The dead one may have been giving its pages back. */
		shmi_run_free(hp, r, HEAP_DIRTY);
	} else if (s->t && class == s->class && !s->found &&
		   (span_state(r) & SPAN_LIST ||
		    span_ever(span_state(r)) < span_bytes(r, class))) {
		set(r->owner, s->t->owner);
		shmi_span_add(s->t, class, r);
		s->found = true;
	}
	return 0;
}

bool shmi_span_sweep(struct shmi_heap *hp, struct shmi_thread *t,
		     uint32_t class)
{
	struct sweep s = { .t = t, .class = class };

	shmi_run_each(hp, sweep_one, &s);
	/* What is left is of other classes or full, and not worth a look each
	 * time; before the heap grows there is one. */
	set(hp->h->orphans, 0);
	return s.found;
}

void shmi_span_leave(struct shmi_thread *t)
{
	uint32_t e, class, left = 0;

	if (shmi_heap_lock(t->hp))
		return;
	while (t->nheld) {
		struct heap_run *r = t->held[--t->nheld].run;

		shmi_unpoison((void *)heap_base(r),
			      t->held[t->nheld].nslices * HEAP_SLICE);
		shmi_run_free(t->hp, r, HEAP_DIRTY | HEAP_KEPT);
	}
	for (e = 0; e < t->room; e++) {
		struct heap_run *r = t->own[e].run;

		if (!r)
			continue;
		class = shmi_span_class(t->hp, r);
		shmi_unpoison((void *)heap_base(r), HEAP_SLICE);
		shmi_span_collect(t->hp, r);
		if (span_blocks(span_state(r))) {
			set(r->owner, 0);
			left++;
		} else {
			shmi_run_free(t->hp, r,
				      HEAP_DIRTY | HEAP_KEPT |
					      (span_is_part(r, class)
						       ? HEAP_PART
						       : 0));
		}
	}
	if (left)
		set(t->hp->h->orphans, get(t->hp->h->orphans) + left);
	shmi_heap_unlock(t->hp);
}

/* ----- check ----- */

#define LOOKS 64 /* at a list that its owner changes meanwhile */

enum where { LISTED, NOT_LISTED, CHANGED };

static enum where look_for(const struct shmi_heap *hp, const struct heap_run *r,
			   uint32_t class, uint64_t off, uint64_t list)
{
	uint32_t n;

	for (n = 0; list && list != off; n++)
		if (n > HEAP_END / heap_size[class] ||
		    !next_of(hp, r, class, &list))
			return CHANGED;
	return list ? LISTED : NOT_LISTED;
}

/*
 * In the order in which collect moves a block on, so that it is not missed
 * while it is moved. What the owner takes out or puts in while we walk along
 * ends the walk or leads it to the list as it is now. We begin anew then, but
 * not for ever: a list that is damaged stays so, and what is in it the next
 * malloc finds. Nothing but offsets of blocks is followed.
 */
bool shmi_span_lists(const struct shmi_heap *hp, const struct heap_run *r,
		     uint32_t class, uint64_t off)
{
	enum where in[3];
	uint32_t i;

	for (i = 0; i < LOOKS; i++) {
		/* acquire: what moved on before we looked is found behind */
		in[0] = look_for(
			hp, r, class, off,
			atomic_load_explicit(&r->others, memory_order_acquire) &
				SPAN_LIST);
		in[1] = look_for(
			hp, r, class, off,
			atomic_load_explicit(&r->taken, memory_order_acquire));
		in[2] = look_for(
			hp, r, class, off,
			atomic_load_explicit(&r->state, memory_order_acquire) &
				SPAN_LIST);
		if (in[0] == LISTED || in[1] == LISTED || in[2] == LISTED)
			return true;
		if (in[0] != CHANGED && in[1] != CHANGED && in[2] != CHANGED)
			return false;
	}
	return false;
}

/* A list whose owner may be at work: bounds only, and no end that never comes. */
int shmi_span_check(const struct shmi_heap *hp, struct heap_run *r)
{
	uint32_t class = r->kind, n = 0, ever = span_ever(span_state(r));
	uint64_t off;

	if (class >= HEAP_CLASSES || r->heap != (uintptr_t)hp->h ||
	    get(r->ready) > span_bytes(r, class) || ever > get(r->ready) ||
	    ever % heap_size[class])
		return -EUCLEAN;
	if (!shmi_heap_owner_dead(hp, get(r->owner)))
		return 0;
	for (off = span_state(r) & SPAN_LIST; off; n++)
		if (off - span_start(r) >= ever || n > ever ||
		    !next_of(hp, r, class, &off))
			return -EUCLEAN;
	return 0;
}
