/* SPDX-License-Identifier: BSD-3-Clause */
/* span_orphan.c - spans whose owner has gone: given up, adopted, checked */
/*
 * What a death of the owner leaves at each store is at the top of span.c.
 */
#include "span.h"

#include <errno.h>

#define get(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define set(word, to) atomic_store_explicit(&(word), to, memory_order_release)

/* What follows the free block at @at, which must be one of the span: false for a
 * list that is damaged. */
SHMI_MAY_TOUCH
static bool next_of(const struct shmi_heap *hp, const struct heap_run *r,
		    uint32_t class, uintptr_t *at)
{
	uint64_t off = *at - (uintptr_t)(r + 1);

	if (off >= span_bytes(r, class) ||
	    !heap_starts_block(class, (uint32_t)off))
		return false;
	*at = get(*(_Atomic uint64_t *)*at) ^ hp->secret;
	return span_is_link(*at);
}

/* Steps from @at on until @stop or the end; where it ended. */
static uintptr_t walk(const struct shmi_heap *hp, struct heap_run *r,
		      uint32_t class, uintptr_t at, uintptr_t stop,
		      uintptr_t *last, uint32_t *n)
{
	*last = 0;
	for (*n = 0; at && at != stop; ++*n) {
		*last = at;
		if (*n > HEAP_END / heap_size[class] ||
		    !next_of(hp, r, class, &at))
			shmi_heap_die("list of free blocks overwritten", r,
				      hp->h);
	}
	return at;
}

/* Of an offset in the slice, which may be 0 for none. */
static uintptr_t block_at(const struct heap_run *r, uint64_t off)
{
	return off ? heap_base(r) + off : 0;
}

static uintptr_t first_of_others(const struct heap_run *r)
{
	/* acquire: what moved on before we looked is found behind */
	return block_at(r,
			atomic_load_explicit(&r->others, memory_order_acquire) &
				OTHERS_FIRST);
}

/* Adoption: where the last owner died in collect. Can be repeated. */
static void finish_collect(const struct shmi_heap *hp, struct heap_run *r,
			   uint32_t class)
{
	uint64_t state = span_state(r);
	uintptr_t taken = block_at(r, get(r->taken)), last;
	uintptr_t list = span_first(state);
	uint32_t n;

	if (!taken)
		return;
	/* Is it still others', or at the front of the list? */
	if (walk(hp, r, class, first_of_others(r), taken, &last, &n) != taken &&
	    list != taken) {
		if (list && walk(hp, r, class, taken, list, &last, &n) != list)
			span_link(hp->secret, last, list);
		span_step(&r->state, taken, (uint16_t)state);
	}
	set(r->taken, 0);
}

/* The same for new blocks: the list has them, or it has none. */
static void finish_adding(struct heap_run *r, uint32_t class)
{
	uint32_t end = get(r->adding), ever = span_ever(r);

	if (end > ever && end <= span_bytes(r, class) &&
	    span_first(span_state(r)) == (uintptr_t)(r + 1) + ever)
		set(r->ever, end);
	set(r->adding, 0);
}

/* Words of a span that nobody has, put in order: its blocks in use. */
static uint32_t settle(struct shmi_heap *hp, struct heap_run *r, uint32_t class)
{
	uint32_t n, size = heap_size[class], ever, ready = get(r->ready);
	uintptr_t list, last;

	if (get(r->adding) == SPAN_GOES)
		return 0;
	finish_adding(r, class);
	finish_collect(hp, r, class);
	list = span_first(span_state(r));
	ever = span_ever(r);
	walk(hp, r, class, list, 0, &last, &n);
	if (ready > span_bytes(r, class) || ever > ready || ever % size ||
	    n > ever / size)
		shmi_heap_die("head of a span overwritten", r, hp->h);
	span_step(&r->state, list, ever / size - n);
	/* It has no strays; who died changing how many it may have left these. */
	set(r->strays, SPAN_STRAYS_FIRST);
	set(r->stray, SPAN_STRAYS_FIRST);
	shmi_span_collect(hp, r);
	return span_blocks(span_state(r));
}

/* Before the spans are looked at: the dead's strays may be blocks of any. */
static int bring_home(struct shmi_heap *hp, struct heap_run *r, uint32_t n,
		      void *arg)
{
	(void)n;
	(void)arg;
	if (r->kind < HEAP_CLASSES && span_first(get(r->stray)) &&
	    shmi_heap_owner_dead(hp, get(r->owner)))
		shmi_stray_flush(hp, r);
	return 0;
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
	if (get(r->mark) != heap_mark(hp, r, r->kind))
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
	/* It was alive when we looked for its strays. */
	if (span_first(get(r->stray)))
		shmi_stray_flush(hp, r);
	if (!settle(hp, r, class)) {
		/* The dead one may have been giving its pages back. */
		shmi_run_free(hp, r, HEAP_DIRTY);
	} else if (s->t && class == s->class && !s->found &&
		   (span_first(span_state(r)) ||
		    span_ever(r) < span_bytes(r, class))) {
		set(r->owner, s->t->owner);
		shmi_ring_add(s->t, class, r);
		s->found = true;
	}
	return 0;
}

bool shmi_span_sweep(struct shmi_heap *hp, struct shmi_thread *t,
		     uint32_t class)
{
	struct sweep s = { .t = t, .class = class };

	shmi_run_each(hp, bring_home, NULL);
	shmi_run_each(hp, sweep_one, &s);
	/* What is left is of other classes or full, and not worth a look each
	 * time; before the heap grows there is one. */
	set(hp->h->orphans, 0);
	return s.found;
}

void shmi_span_leave(struct shmi_thread *t)
{
	uint32_t e, class, left = 0;

	if (shmi_heap_lock_late(t->hp))
		return;
	while (t->nheld) {
		struct heap_run *r = t->held[--t->nheld].run;

		shmi_unpoison((void *)heap_base(r),
			      t->held[t->nheld].nslices * HEAP_SLICE);
		shmi_run_free(t->hp, r, HEAP_DIRTY | HEAP_KEPT);
	}
	shmi_stray_let_go(t);
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
			   uint32_t class, uintptr_t block, uintptr_t list)
{
	uint32_t n;

	for (n = 0; list && list != block; n++)
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
 * malloc finds. Nothing but addresses of blocks is followed. Strays move to the
 * span under the lock only.
 */
bool shmi_span_lists(struct shmi_heap *hp, const struct heap_run *r,
		     uint32_t class, uintptr_t block)
{
	enum where in[3] = { CHANGED };
	uint32_t i;
	bool found = false, locked = !shmi_heap_lock(hp);

	for (i = 0; i < LOOKS && !found; i++) {
		in[0] = look_for(hp, r, class, block, first_of_others(r));
		in[1] = look_for(
			hp, r, class, block,
			block_at(r, atomic_load_explicit(
					    &r->taken, memory_order_acquire)));
		in[2] = look_for(hp, r, class, block,
				 span_first(atomic_load_explicit(
					 &r->state, memory_order_acquire)));
		found = in[0] == LISTED || in[1] == LISTED || in[2] == LISTED;
		if (in[0] != CHANGED && in[1] != CHANGED && in[2] != CHANGED)
			break;
	}
	if (locked) {
		found = found || shmi_stray_lists(hp, class, block);
		shmi_heap_unlock(hp);
	}
	return found;
}

/* A list whose owner may be at work: bounds only, and no end that never comes. */
int shmi_span_check(struct shmi_heap *hp, struct heap_run *r)
{
	uint32_t class = r->kind, n = 0, ever = span_ever(r);
	uintptr_t at;

	if (class >= HEAP_CLASSES || r->heap != (uintptr_t)hp->h ||
	    get(r->ready) > span_bytes(r, class) || ever > get(r->ready) ||
	    ever % heap_size[class])
		return -EUCLEAN;
	if (!shmi_heap_owner_dead(hp, get(r->owner)) ||
	    get(r->adding) == SPAN_GOES)
		return 0;
	/* Blocks that the dead one was adding are in the list first. */
	if (get(r->adding) > ever && get(r->adding) <= get(r->ready))
		ever = get(r->adding);
	for (at = span_first(span_state(r)); at; n++)
		if (at - (uintptr_t)(r + 1) >= ever || n > ever ||
		    !next_of(hp, r, class, &at))
			return -EUCLEAN;
	return shmi_stray_check(hp, r);
}
