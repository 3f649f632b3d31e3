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
 *		their words first, then the head's note for others of how many
 *		there are, then the state, which both counts them as used once
 *		and has them in the list
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
#define FILL_BYTES 16384 /* get their pages at a time; in a populated heap, */
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

uint32_t shmi_span_used(const struct heap_run *r)
{
	uint32_t kind = r->kind; /* once: it may change */

	return kind < HEAP_CLASSES
		       ? span_blocks(span_state(r)) * heap_size[kind]
		       : 0;
}

/*
 * Owner: the blocks of others become free. Whether there were any. None of them
 * is looked at, since they are in other processors' caches: "others" says how
 * many they are, and which is the last; that one's end is right where our list
 * is empty.
 */
bool shmi_span_collect(const struct shmi_heap *hp, struct heap_run *r)
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
		span_link(hp, r, last, list);
	span_step(r, state - list + (all & SPAN_LIST) -
			     (uint16_t)(all / OTHERS_ONE) * SPAN_USED_ONE);
	set(r->taken, 0);
	return true;
}

/* ----- the owner's rings ----- */

static struct heap_known *known(const struct shmi_thread *t,
				const struct heap_run *r)
{
	return &t->map[(uintptr_t)r / HEAP_SLICE % HEAP_KNOWN];
}

static struct heap_known knowledge(const struct shmi_thread *t,
				   struct heap_run *r, uint32_t class)
{
	return (struct heap_known){ r + 1, span_key(t->secret, r),
				    heap_magic[class], class };
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

void shmi_span_add(struct shmi_thread *t, uint32_t class, struct heap_run *r)
{
	uint32_t e = t->spare, at = t->ring[class];

	t->spare = t->own[e].next;
	t->own[e].run = r;
	t->own[e].class = (uint8_t) class;
	t->own[e].idle = false;
	t->own[e].bytes = span_bytes(r, class);
	*known(t, r) = knowledge(t, r, class);
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
	bool small = shmi_heap_footprint(hp) < FILL_LARGE * HEAP_SLICE;
	uint32_t n = small || !hp->populate ? FILL_BYTES : left;

	n = heap_whole(n, class);
	return n < left ? n : left;
}

static bool get_ready(struct shmi_thread *t, struct heap_run *r, uint32_t class)
{
	uint32_t ready = get(r->ready), more;

	if (ready >= span_bytes(r, class))
		return false;
	more = fill_bytes(t->hp, r, class, ready);
	if (shmi_heap_have(t->hp, (char *)(r + 1) + ready, more))
		return false;
	set(r->ready, ready + more);
	return true;
}

/* Blocks that were never used, into the list, which is empty. */
static bool add_new(struct shmi_thread *t, struct heap_run *r, uint32_t class)
{
	uint64_t state = span_state(r), off;
	uint32_t size = heap_size[class], ever = span_ever(state);
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
		span_link(t->hp, r, off, off + size);
	span_link(t->hp, r, off, 0);
	set(r->ever, end);
	span_step(r, (uint64_t)end << SPAN_EVER_SHIFT | (uint32_t)state |
			     (start + ever));
	return true;
}

#if SHMI_ASAN
/* All of a list that is ours. */
SHMI_MAY_TOUCH
static void poison_list(const struct shmi_thread *t, struct heap_run *r,
			uint32_t class)
{
	uint64_t off = span_state(r) & SPAN_LIST, n = HEAP_SLICE, next;

	for (; off && n--; off = next) {
		next = get(*span_word(r, off)) ^ span_key(t->secret, r);
		if (!span_is_offset(next))
			return; /* the next pop says so */
		shmi_poison(span_word(r, off), heap_size[class]);
	}
}
#else
#define poison_list(t, r, class) ((void)0)
#endif

static bool has_block(struct shmi_thread *t, const struct shmi_own *o,
		      uint32_t class)
{
	struct heap_run *r = o->run;
	uint64_t state = span_state(r);

	if (state & SPAN_LIST)
		return true;
	if (shmi_span_collect(t->hp, r)) {
		poison_list(t, r, class);
		return true;
	}
	return span_ever(state) < o->bytes &&
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
 * written while the run is free; taking it is one store. @found: there is a
 * slice, whether it can have pages or not. */
static int new_span(struct shmi_thread *t, uint32_t class, bool *found)
{
	struct shmi_heap *hp = t->hp;
	struct heap_run *r;
	struct heap_at at;
	uint32_t ready;
	int err = shmi_run_find(hp, 1, 0, &at);

	*found = !err;
	if (err)
		return err;
	r = heap_head(heap_slice(hp, at));
	ready = span_bytes(r, class);
	if (!shmi_run_there(hp, shmi_run_word(hp, at))) {
		ready = fill_bytes(hp, r, class, 0);
		err = shmi_heap_have(hp, r, HEAP_RUN_LEN + ready);
		if (err)
			return err;
	}
	shmi_run_prepare(hp, at, 1);
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
	shmi_span_add(t, class, r);
	return 0;
}

/* Under the lock: from orphans, free slices, the dead, or the arena. */
static int get_span(struct shmi_thread *t, uint32_t class)
{
	struct shmi_heap *hp = t->hp;
	bool found;
	int err;

	if (get(hp->h->orphans) && shmi_span_sweep(hp, t, class))
		return 0;
	err = new_span(t, class, &found);
	if (err != -ENOMEM)
		return err;
	if (shmi_span_sweep(hp, t, class))
		return 0;
	err = new_span(t, class, &found);
	if (err != -ENOMEM || found)
		return err;
	err = shmi_heap_more(hp, 1);
	return err ? err : new_span(t, class, &found);
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

/* The list may be forged. Callers write zeroes and copies into the block, and
 * find an aligned address in it, so all of it lies in the span's slice. */
void *shmi_span_malloc(struct shmi_thread *t, uint32_t class)
{
	uint64_t state = span_state(t->cur[class]);
	int err = 0;

	while (!(state & SPAN_LIST)) {
		if (!look_around(t, class))
			err = more_spans(t, class);
		if (err) {
			errno = -err;
			return NULL;
		}
		state = span_state(t->cur[class]);
	}
	if ((state & SPAN_LIST) > HEAP_END - heap_size[class])
		shmi_span_bad_list(t,
				   span_word(t->cur[class], state & SPAN_LIST));
	return span_pop(t, t->cur[class], class, state);
}

/* ----- free ----- */

uint32_t shmi_span_class(const struct shmi_heap *hp, const struct heap_run *r)
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
	*class = shmi_span_class(hp, r);
	return (char *)span_word(r, offset_of(hp, r, *class, p));
}

/* A span without a block in use. Its state says first that there is no list,
 * since its pages may go. */
static void give_up(struct shmi_thread *t, struct heap_run *r, uint32_t class,
		    uint32_t e)
{
	ring_drop(t, class, e);
	span_step(r, 0);
	shmi_unpoison((void *)heap_base(r), HEAP_SLICE);
	shmi_run_give(t->hp, r, span_is_part(r, class), true);
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
		shmi_span_collect(t->hp, r);
		if (!span_blocks(span_state(r)))
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
	if (!span_blocks(state))
		retire(t, r, class, e);
}

/*
 * A hint: the line is ours alone by the time that it is written, in one step
 * from another processor's cache. gcc knows the instruction only if it is told
 * of the processor; where there is none, it is taken for a no-operation.
 */
static inline void fetch_to_write(uintptr_t at)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw (%0)" : : "r"(at));
#else
	__builtin_prefetch((const void *)at, 1);
#endif
}

/* A block that is not free. @key is the span's. */
SHMI_MAY_TOUCH
static inline void put_on_others(struct heap_run *r, uint64_t key, uint64_t off)
{
	_Atomic uint64_t *w = span_word(r, off);
	uint64_t all = get(r->others), next;

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

/* One that may be free. */
SHMI_MAY_TOUCH
static inline void push_to_others(struct shmi_thread *t, struct heap_run *r,
				  uint64_t key, uint64_t off)
{
	_Atomic uint64_t *w = span_word(r, off);

	if (__builtin_expect(span_is_offset(get(*w) ^ key), 0))
		shmi_span_free_marked(t, (void *)w);
	else
		put_on_others(r, key, off);
}

/* Not inlined, and a last call where it is called, so that the common ways save
 * no register for it. */
__attribute__((noinline, cold)) void shmi_span_free_marked(
	struct shmi_thread *t, void *p)
{
	struct heap_run *r = heap_run_of(p);
	uint32_t class = shmi_span_class(t->hp, r);
	struct heap_known k = knowledge(t, r, class);
	uint64_t off = (uintptr_t)p % HEAP_SLICE;

	if (shmi_span_lists(t->hp, r, class, off))
		shmi_heap_die("block freed twice", p, t->h);
	if (get(r->owner) == t->owner)
		span_put(t, &k, p, span_state(r));
	else
		put_on_others(r, k.key, off);
}

void shmi_span_free(struct shmi_thread *t, struct heap_run *r, void *p)
{
	uint32_t class = shmi_span_class(t->hp, r);
	struct heap_known k = knowledge(t, r, class);
	uint64_t off = offset_of(t->hp, r, class, p);

	if (get(r->owner) == t->owner)
		span_push(t, &k, span_word(r, off), span_state(r));
	else
		push_to_others(t, r, k.key, off);
}

/*
 * The same for what is common: the start of a block of another's span, in the
 * heap that the thread used last. All that is read of the span is in one line,
 * which its owner leaves alone.
 */
void shmi_span_free_other(struct shmi_thread *t, void *p,
			  void (*slowly)(void *p))
{
	struct heap_run *r = heap_run_of(p);
	uint64_t key = span_key(t->secret, r); /* the mark of a run of h */
	uint64_t at = (uintptr_t)p - (uintptr_t)r - HEAP_RUN_LEN;

	fetch_to_write((uintptr_t)r + offsetof(struct heap_run, others));
	if (!t->h || !shmi_thread_valid(t, t->h) ||
	    (uintptr_t)r - t->lo >= t->len || get(r->mark) != key ||
	    get(r->owner) == t->owner ||
	    !heap_starts_block(r->kind, (uint32_t)at) || at >= get(r->ever) ||
	    (uintptr_t)p % HEAP_SLICE == 0)
		slowly(p);
	else
		push_to_others(t, r, key, (uintptr_t)p % HEAP_SLICE);
}
