/* SPDX-License-Identifier: BSD-3-Clause */
/* span.c - spans of small blocks */
/*
 * A span is one slice of blocks of one size. It has an owner, a thread, which
 * alone takes blocks from it and gives its own back to its list of free ones;
 * others push theirs on the list "others". So the common malloc and free
 * (span.h) have neither lock nor locked instruction.
 *
 * Death of the owner, at each store:
 *
 *	malloc	the state is the step: before it the block is free, after it
 *		the dead one's
 *	free	the block's word first, then the state: before that the block
 *		is the dead one's
 *	others	the same with a compare-and-swap
 *	new blocks
 *		their words first, then the state, which both counts them as
 *		used once and has them in the list
 *	moving others to the list (collect):
 *		taken = its head; others = 0, if it still was that; the end
 *		of it = the list; the list = its head; taken = 0. With taken
 *		set, adoption finds out which of these steps were done, and
 *		does the rest, and counts how many blocks are in use
 *
 * An orphan's owner is 0 or somebody dead; the next one who needs a span, and
 * trim, find it by a look at all runs (sweep), under the lock. That is done
 * before the heap grows, or when threads said that they left some.
 *
 * Order of memory: see span_step(). "others" is pushed with release and taken
 * with acquire, which hands the blocks' words over.
 */
#include "span.h"

#include "os.h"

#include <errno.h>

#define LOOK 8		 /* spans that a search looks at */
#define FILL_BYTES 16384 /* made present at a time in a small heap; */
#define FILL_LARGE 64	 /* from this many slices on, a span at once */
#define IDLE_LEAST 12	 /* empty spans that a thread keeps, */
#define IDLE_PART 16	 /* and one for so many of its spans */
#define LINK_BYTES 4096	 /* of new blocks that are linked at a time */

struct heap_run shmi_span_none; /* a span without blocks */

#define get(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define set(word, to) atomic_store_explicit(&(word), to, memory_order_release)

void shmi_span_bad_list(const struct shmi_thread *t, const void *at)
{
	shmi_heap_die("free block overwritten", at, t->h);
}

void shmi_span_freed_twice(const struct shmi_thread *t, const void *p)
{
	shmi_heap_die("block freed twice", p, t->h);
}

static uint32_t ever_of(uint64_t state)
{
	return (uint16_t)(state >> SPAN_EVER_SHIFT);
}

static uint32_t used_of(uint64_t state)
{
	return (uint16_t)(state / SPAN_USED_ONE) & 0x3fff;
}

uint32_t shmi_span_used(const struct heap_run *r)
{
	uint32_t kind = r->kind; /* once: it may change */

	return kind < HEAP_CLASSES ? used_of(span_state(r)) * heap_size[kind]
				   : 0;
}

/* What follows the free block at @off: false for a list that is damaged. */
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

static void link_to(const struct shmi_heap *hp, struct heap_run *r,
		    uint64_t off, uint64_t next)
{
	atomic_store_explicit(span_word(r, off), span_key(hp->secret, r) ^ next,
			      memory_order_relaxed);
}

/*
 * Owner: the blocks of others become free. Whether there were any. None of them
 * is looked at, since they are in other processors' caches: "others" says how
 * many they are, and which is the last; that one's end is right where our list
 * is empty.
 */
static bool collect(const struct shmi_heap *hp, struct heap_run *r)
{
	uint64_t all = get(r->others), state = span_state(r);
	uint64_t list = state & SPAN_LIST, last;

	if (!all)
		return false;
	do {
		set(r->taken, (uint16_t)all);
		/* acquire: the words of the blocks in it */
	} while (!atomic_compare_exchange_weak_explicit(&r->others, &all, 0,
							memory_order_acq_rel,
							memory_order_relaxed));
	last = all >> OTHERS_LAST_SHIFT & SPAN_LIST;
	if (list)
		link_to(hp, r, last, list);
	span_step(r, state - list + (all & SPAN_LIST) -
			     (uint16_t)(all / OTHERS_ONE) * SPAN_USED_ONE);
	set(r->taken, 0);
	return true;
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
			link_to(hp, r, last, list);
		span_step(r, state - list + taken);
	}
	set(r->taken, 0);
}

/* ----- the owner's rings ----- */

static struct heap_known *known(const struct shmi_thread *t,
				const struct heap_run *r)
{
	return &t->map[(uintptr_t)r / HEAP_SLICE % HEAP_KNOWN];
}

/* Entry @e, or none, is the one that blocks come from. */
static void make_current(struct shmi_thread *t, uint32_t class, uint32_t e)
{
	struct heap_run *old = t->cur[class], *r = &shmi_span_none;
	uint32_t i = class ? heap_size[class - 1] / 16u + 1 : 0;

	if (old != r)
		span_step(old, span_state(old) & ~SPAN_CURRENT);
	if (e != SPAN_NO_ENTRY) {
		r = t->own[e].run;
		t->idle -= t->own[e].idle;
		t->own[e].idle = false;
		span_step(r, (span_state(r) & ~SPAN_FULL) | SPAN_CURRENT);
	}
	t->ring[class] = e;
	t->cur[class] = r;
	for (; i <= heap_size[class] / 16u && i <= HEAP_QUICK / 16; i++)
		t->quick[i] = r;
}

/* Behind entry @at. */
static void ring_in(struct shmi_thread *t, uint32_t at, uint32_t e)
{
	t->own[e].prev = at;
	t->own[e].next = t->own[at].next;
	t->own[t->own[e].next].prev = e;
	t->own[at].next = e;
}

static void ring_add(struct shmi_thread *t, uint32_t class, struct heap_run *r)
{
	uint32_t e = t->spare, at = t->ring[class];

	t->spare = t->own[e].next;
	t->own[e].run = r;
	t->own[e].class = (uint8_t) class;
	t->own[e].idle = false;
	t->own[e].bytes = span_bytes(r, class);
	*known(t, r) = (struct heap_known){ r + 1, span_key(t->secret, r),
					    heap_magic[class] };
	if (at == SPAN_NO_ENTRY)
		t->own[e].next = t->own[e].prev = e;
	else
		ring_in(t, at, e);
	t->count[class]++;
	t->spans++;
	r->place = e;
	make_current(t, class, e);
}

static void ring_out(struct shmi_thread *t, uint32_t e)
{
	t->own[t->own[e].prev].next = t->own[e].next;
	t->own[t->own[e].next].prev = t->own[e].prev;
}

static void ring_drop(struct shmi_thread *t, uint32_t class, uint32_t e)
{
	struct heap_known *k = known(t, t->own[e].run);
	uint32_t next = t->own[e].next;

	if (t->ring[class] == e)
		make_current(t, class, next == e ? SPAN_NO_ENTRY : next);
	ring_out(t, e);
	if (k->blocks == t->own[e].run + 1)
		*k = (struct heap_known){ 0 };
	t->own[e].run = NULL;
	t->own[e].next = t->spare;
	t->spare = e;
	t->count[class]--;
	t->spans--;
	t->idle -= t->own[e].idle;
}

/* The span's entry; its hint is in shared memory. */
static uint32_t entry_of(const struct shmi_thread *t, const struct heap_run *r)
{
	uint32_t e = r->place;

	if (e >= t->room || t->own[e].run != r)
		shmi_heap_die("head of a span overwritten", r, t->h);
	return e;
}

/* A full span has room again: the next one to be looked at. */
static void ring_next(struct shmi_thread *t, uint32_t class, uint32_t e)
{
	uint32_t at = t->ring[class];

	if (at == e || t->own[at].next == e)
		return;
	ring_out(t, e);
	ring_in(t, at, e);
}

/* ----- malloc ----- */

/* Bytes of blocks that get their pages at a time. */
static uint32_t fill_bytes(const struct shmi_heap *hp, const struct heap_run *r,
			   uint32_t class, uint32_t ready)
{
	uint32_t left = span_bytes(r, class) - ready;
	uint32_t n = shmi_heap_footprint(hp) >= FILL_LARGE * HEAP_SLICE
			     ? left
			     : FILL_BYTES;

	n = heap_whole(n, class);
	return n < left ? n : left;
}

static bool get_ready(struct shmi_thread *t, struct heap_run *r, uint32_t class)
{
	uint32_t ready = get(r->ready), more;

	if (ready >= span_bytes(r, class))
		return false;
	more = fill_bytes(t->hp, r, class, ready);
	if (shmi_heap_fill(t->hp, (uintptr_t)(r + 1) + ready, more))
		return false;
	set(r->ready, ready + more);
	return true;
}

/* Blocks that were never used, into the list, which is empty. */
static bool add_new(struct shmi_thread *t, struct heap_run *r, uint32_t class)
{
	uint64_t state = span_state(r), off;
	uint32_t size = heap_size[class], ever = ever_of(state);
	uint32_t end = get(r->ready), most, start = span_start(r);

	if (end > span_bytes(r, class) || ever > end || ever % size ||
	    end % size)
		shmi_heap_die("head of a span overwritten", r, t->h);
	if (ever == end)
		return false;
	most = heap_whole(LINK_BYTES, class);
	if (end - ever > most)
		end = ever + most;
	for (off = start + ever; off + size < start + end; off += size)
		link_to(t->hp, r, off, off + size);
	link_to(t->hp, r, off, 0);
	set(r->ever, end);
	span_step(r, (uint64_t)end << SPAN_EVER_SHIFT | (uint32_t)state |
			     (start + ever));
	return true;
}

static bool has_block(struct shmi_thread *t, const struct shmi_own *o,
		      uint32_t class)
{
	struct heap_run *r = o->run;
	uint64_t state = span_state(r);

	if (state & SPAN_LIST || collect(t->hp, r))
		return true;
	return ever_of(state) < o->bytes &&
	       (add_new(t, r, class) ||
		(get_ready(t, r, class) && add_new(t, r, class)));
}

/* Makes cur a span of ours that has a block. */
static bool look_around(struct shmi_thread *t, uint32_t class)
{
	uint32_t i, e = t->ring[class];

	for (i = 0; i < LOOK && i < t->count[class]; i++) {
		struct shmi_own *o = &t->own[e];

		if (has_block(t, o, class)) {
			make_current(t, class, e);
			return true;
		}
		span_step(o->run, span_state(o->run) | SPAN_FULL);
		e = o->next;
	}
	make_current(t, class, e);
	return false;
}

/* Under the lock: a free slice becomes a span of ours. All of its head is
 * written while the run is free; taking it is one store. */
static int new_span(struct shmi_thread *t, uint32_t class)
{
	struct shmi_heap *hp = t->hp;
	struct heap_run *r;
	struct heap_at at;
	uint32_t ready, word;
	int err = shmi_run_find(hp, 1, 0, &at);

	if (err)
		return err;
	r = heap_head(heap_slice(hp, at));
	ready = span_bytes(r, class);
	word = shmi_run_word(hp, at);
	if (!(word & HEAP_KEPT) ||
	    ((word & HEAP_PART) && (word & HEAP_COUNT) == 1)) {
		ready = fill_bytes(hp, r, class, 0);
		err = shmi_heap_fill(hp, (uintptr_t)r, HEAP_RUN_LEN + ready);
		if (err)
			return err;
	}
	r->heap = (uintptr_t)hp->h;
	r->kind = class;
	set(r->interior, 0);
	r->len = r->block = 0;
	set(r->state, 0);
	set(r->ever, 0);
	set(r->ready, ready);
	set(r->taken, 0);
	set(r->others, 0);
	set(r->owner, t->owner);
	set(r->mark, heap_mark(hp, r));
	shmi_run_take(hp, at, 1, ready < span_bytes(r, class));
	ring_add(t, class, r);
	return 0;
}

/* Under the lock: from orphans, free slices, the dead, or the arena. */
static int get_span(struct shmi_thread *t, uint32_t class)
{
	struct shmi_heap *hp = t->hp;
	int err;

	if (get(hp->h->orphans) && shmi_span_sweep(hp, t, class))
		return 0;
	err = new_span(t, class);
	if (err != -ENOMEM)
		return err;
	if (shmi_span_sweep(hp, t, class))
		return 0;
	err = new_span(t, class);
	if (err != -ENOMEM)
		return err;
	err = shmi_heap_more(hp, 1);
	return err ? err : new_span(t, class);
}

static int more_spans(struct shmi_thread *t, uint32_t class)
{
	int err = shmi_thread_room(t);

	if (!err)
		err = shmi_heap_lock(t->hp);
	if (err)
		return err;
	err = get_span(t, class);
	shmi_heap_unlock(t->hp);
	shmi_thread_refresh(t);
	return err;
}

void *shmi_span_malloc(struct shmi_thread *t, uint32_t class)
{
	int err = 0;

	while (!err && !(span_state(t->cur[class]) & SPAN_LIST))
		if (!look_around(t, class))
			err = more_spans(t, class);
	if (err) {
		errno = -err;
		return NULL;
	}
	return span_pop(t, t->cur[class], span_state(t->cur[class]));
}

/* ----- free ----- */

static uint32_t class_of(const struct shmi_heap *hp, const struct heap_run *r)
{
	uint32_t kind = r->kind;

	if (kind >= HEAP_CLASSES)
		shmi_heap_die("head of a span overwritten", r, hp->h);
	return kind;
}

/* Offset of the block that @p is in, or dies. */
static uint64_t offset_of(const struct shmi_heap *hp, struct heap_run *r,
			  uint32_t class, const void *p)
{
	uint64_t at = (uintptr_t)p - (uintptr_t)r - HEAP_RUN_LEN;
	uint32_t in = heap_starts_block(class, (uint32_t)at)
			      ? 0
			      : (uint32_t)at % heap_size[class];

	if (at >= get(r->ever) || at >= span_bytes(r, class) ||
	    (in && !get(r->interior)))
		shmi_heap_die("no block", p, hp->h);
	return (uintptr_t)p % HEAP_SLICE - in;
}

char *shmi_span_block(const struct shmi_heap *hp, struct heap_run *r,
		      const void *p, uint32_t *class)
{
	*class = class_of(hp, r);
	return (char *)span_word(r, offset_of(hp, r, *class, p));
}

/* Whether pages of its blocks may be missing. */
static bool is_part(const struct heap_run *r, uint32_t class)
{
	return get(r->ready) < span_bytes(r, class);
}

/* A span without a block in use. Its state says first that there is no list,
 * since its pages may go. */
static void give_up(struct shmi_thread *t, struct heap_run *r, uint32_t class,
		    uint32_t e)
{
	ring_drop(t, class, e);
	span_step(r, 0);
	shmi_run_give(t->hp, r, is_part(r, class), true);
}

static uint32_t most_idle(const struct shmi_thread *t)
{
	return IDLE_LEAST + (t->spans - t->idle) / IDLE_PART;
}

/* One that is kept, among the next few entries: there are too many of them. */
static void give_up_idle(struct shmi_thread *t)
{
	uint32_t i, e;

	for (i = 0; i < LOOK; i++) {
		e = t->hand++ % t->room;
		if (t->own[e].run && t->own[e].idle) {
			give_up(t, t->own[e].run, t->own[e].class, e);
			return;
		}
	}
}

/* The same, but some stay for the next ones. */
static void retire(struct shmi_thread *t, struct heap_run *r, uint32_t class,
		   uint32_t e)
{
	if (t->own[e].idle)
		return;
	if (t->idle < most_idle(t)) {
		t->own[e].idle = true;
		t->idle++;
		return;
	}
	give_up(t, r, class, e);
	if (t->idle > most_idle(t))
		give_up_idle(t);
}

void shmi_span_let_go(struct shmi_thread *t)
{
	uint32_t e;

	for (e = 0; e < t->room; e++) {
		struct heap_run *r = t->own[e].run;

		if (!r)
			continue;
		collect(t->hp, r);
		if (!used_of(span_state(r)))
			give_up(t, r, t->own[e].class, e);
	}
}

void shmi_span_emptied(struct shmi_thread *t, void *p)
{
	struct heap_run *r = heap_run_of(p);
	uint32_t e = entry_of(t, r), class = t->own[e].class;
	uint64_t state = span_state(r);

	if (state & SPAN_FULL) {
		span_step(r, state & ~SPAN_FULL);
		ring_next(t, class, e);
	}
	if (!used_of(state))
		retire(t, r, class, e);
}

static void push_to_others(struct shmi_thread *t, struct heap_run *r,
			   uint64_t off)
{
	_Atomic uint64_t *w = span_word(r, off);
	uint64_t key = span_key(t->secret, r), all = get(r->others), next;

	if (span_is_offset(get(*w) ^ key))
		shmi_span_freed_twice(t, w);
	do {
		atomic_store_explicit(w, key ^ (all & SPAN_LIST),
				      memory_order_relaxed);
		next = all ? (all & ~(uint64_t)UINT16_MAX) + OTHERS_ONE + off
			   : off << OTHERS_LAST_SHIFT | OTHERS_ONE | off;
		/* release: the word, and what the block's last user did */
	} while (!atomic_compare_exchange_weak_explicit(&r->others, &all, next,
							memory_order_release,
							memory_order_relaxed));
}

void shmi_span_free(struct shmi_thread *t, struct heap_run *r, void *p)
{
	uint32_t class = class_of(t->hp, r);
	uint64_t off = offset_of(t->hp, r, class, p);

	if (get(r->owner) == t->owner)
		span_push(t, r, span_key(t->secret, r), span_word(r, off),
			  span_state(r));
	else
		push_to_others(t, r, off);
}

/* ----- orphans ----- */

/* Words of a span that nobody has, put in order: its blocks in use. */
static uint32_t settle(struct shmi_heap *hp, struct heap_run *r, uint32_t class)
{
	uint64_t state, last;
	uint32_t n, size = heap_size[class], ever, ready = get(r->ready);

	finish_collect(hp, r, class);
	state = span_state(r);
	ever = ever_of(state);
	walk(hp, r, class, state & SPAN_LIST, 0, &last, &n);
	if (ready > span_bytes(r, class) || ever > ready || ever % size ||
	    n > ever / size)
		shmi_heap_die("head of a span overwritten", r, hp->h);
	set(r->ever, ever);
	span_step(r, (uint64_t)ever << SPAN_EVER_SHIFT | (state & SPAN_LIST) |
			     (ever / size - n) * SPAN_USED_ONE);
	collect(hp, r);
	return used_of(span_state(r));
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
		if (owner && shmi_heap_owner_dead(hp, owner))
			shmi_run_free(hp, r, HEAP_DIRTY);
		return 0;
	}
	class = class_of(hp, r);
	if (!shmi_heap_owner_dead(hp, owner))
		return 0;
	if (!settle(hp, r, class)) {
		/* The dead one may have been giving its pages back. */
		shmi_run_free(hp, r, HEAP_DIRTY);
	} else if (s->t && class == s->class && !s->found &&
		   (span_state(r) & SPAN_LIST ||
		    ever_of(span_state(r)) < span_bytes(r, class))) {
		set(r->owner, s->t->owner);
		ring_add(s->t, class, r);
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
	while (t->nheld)
		shmi_run_free(t->hp, t->held[--t->nheld].run,
			      HEAP_DIRTY | HEAP_KEPT);
	for (e = 0; e < t->room; e++) {
		struct heap_run *r = t->own[e].run;

		if (!r)
			continue;
		class = class_of(t->hp, r);
		collect(t->hp, r);
		if (used_of(span_state(r))) {
			set(r->owner, 0);
			left++;
		} else {
			shmi_run_free(
				t->hp, r,
				HEAP_DIRTY | HEAP_KEPT |
					(is_part(r, class) ? HEAP_PART : 0));
		}
	}
	if (left)
		set(t->hp->h->orphans, get(t->hp->h->orphans) + left);
	shmi_heap_unlock(t->hp);
}

/* ----- check ----- */

/* A list whose owner may be at work: bounds only, and no end that never comes. */
int shmi_span_check(const struct shmi_heap *hp, struct heap_run *r)
{
	uint32_t class = r->kind, n = 0, ever = ever_of(span_state(r));
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
