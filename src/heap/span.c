/* SPDX-License-Identifier: BSD-3-Clause */
/* span.c - spans of small blocks */
/*
 * A span is one slice of blocks of one size. It has an owner, a thread, which
 * alone takes blocks from it and gives its own back to its list of free ones.
 * What the thread frees of another's span goes into its stray list, for its own
 * next mallocs, in the same way; when that is full, or the thread has no span of
 * that class, the block goes home at once: it is pushed on the list "others" of
 * its span, from where the owner takes it. So the common malloc and free (span.h)
 * have neither lock nor locked instruction, and do not ask whose a block was.
 *
 * Death of the owner, at each store:
 *
 *	malloc	the list's word is the step: before it the block is free, after
 *		it the dead one's
 *	free	the block's word first, then the list's: before that the block
 *		is the dead one's
 *	others	the same with a compare-and-swap
 *	new blocks (add_new)
 *		their words first; adding = their end; the state has them in the
 *		list; ever counts them as used once; adding = 0. With adding
 *		set, adoption sees in the list whether it has them, and does the
 *		rest or nothing
 *	moving others to the list (collect):
 *		taken = its head; others = 0, if it still was that; the end
 *		of it = the list; the list = its head; taken = 0. With taken
 *		set, adoption finds out which of these steps were done, and
 *		does the rest, and counts how many blocks are in use
 *
 * A span that has strays is not given up. Those of the dead are brought home
 * before their spans are looked at (stray.c).
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

#define LOOK 8 /* spans that a search looks at */
#define FILL_BYTES                                                             \
	16384		/* of a new span get pages; its next malloc: the rest */
#define FILL_LARGE 64	/* slices of a populated heap: then a span at once */
#define IDLE_LEAST 12	/* empty spans that a thread keeps, */
#define IDLE_PART 16	/* and one for so many of its spans */
#define LINK_BYTES 4096 /* of new blocks that are linked at a time */

struct heap_run shmi_span_none; /* a span without blocks */

#define get(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define set(word, to) atomic_store_explicit(&(word), to, memory_order_release)

void shmi_span_bad_list(const struct shmi_thread *t, const void *at)
{
	shmi_heap_die("free block overwritten", at, t->h);
}

/* Strays are in use to their spans, and free to whose list has them: so of a
 * span alone it may be less than nothing. */
size_t shmi_span_used(const struct heap_run *r)
{
	uint32_t kind = r->kind; /* once: it may change */
	size_t strays;

	if (kind >= HEAP_CLASSES)
		return 0;
	strays = get(r->strays) - span_blocks(get(r->stray));
	return (span_blocks(span_state(r)) - strays) * heap_size[kind];
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
	uintptr_t list = span_first(state), base = heap_base(r);

	if (!(all & OTHERS_LIST))
		return false;
	do {
		set(r->taken, (uint16_t)(all & OTHERS_FIRST));
		/* acquire: the words of the blocks in it */
	} while (!atomic_compare_exchange_weak_explicit(
		&r->others, &all, all & ~OTHERS_LIST, memory_order_acq_rel,
		memory_order_relaxed));
	if (list)
		span_link(hp->secret,
			  base + (all >> OTHERS_LAST_SHIFT & OTHERS_FIRST),
			  list);
	span_step(&r->state, base + (all & OTHERS_FIRST),
		  (uint16_t)(state - (uint16_t)(all / OTHERS_ONE)));
	set(r->taken, 0);
	return true;
}

/* ----- malloc ----- */

/* Bytes of blocks that get their pages at a time. */
static uint32_t fill_bytes(const struct shmi_heap *hp, const struct heap_run *r,
			   uint32_t class, uint32_t ready)
{
	uint32_t left = span_bytes(r, class) - ready, n;

	if (ready || (hp->populate &&
		      shmi_heap_footprint(hp) >= FILL_LARGE * HEAP_SLICE))
		return left;
	n = heap_whole(FILL_BYTES, class);
	return n < left ? n : left;
}

/* A span of a heap that another process has destroyed is a hole: all is new. */
static bool get_ready(struct shmi_thread *t, struct heap_run *r, uint32_t class)
{
	uint32_t ready = get(r->ready), more, least;
	char *at = (char *)(r + 1) + ready;

	if (ready >= span_bytes(r, class) ||
	    get(r->mark) != heap_mark(t->hp, r, class))
		return false;
	more = fill_bytes(t->hp, r, class, ready);
	if (shmi_heap_have_new(t->hp, at, more)) {
		/* There may be room for less. */
		least = heap_whole(FILL_BYTES, class);
		if (more <= least || shmi_heap_have_new(t->hp, at, least))
			return false;
		more = least;
	}
	set(r->ready, ready + more);
	return true;
}

/* Blocks that were never used, into the list, which is empty. */
static bool add_new(struct shmi_thread *t, struct heap_run *r, uint32_t class)
{
	uintptr_t first = (uintptr_t)(r + 1), at;
	uint32_t size = heap_size[class], ever = span_ever(r);
	uint32_t end = get(r->ready), most;

	if (end > span_bytes(r, class) || ever > end || ever % size ||
	    end % size)
		shmi_heap_die("head of a span overwritten", r, t->h);
	if (ever == end)
		return false;
	most = heap_whole(LINK_BYTES, class);
	if (end - ever > most)
		end = ever + most;
	for (at = first + ever; at + size < first + end; at += size)
		span_link(t->secret, at, at + size);
	span_link(t->secret, at, 0);
	set(r->adding, end);
	span_step(&r->state, first + ever, (uint16_t)span_state(r));
	set(r->ever, end);
	set(r->adding, 0);
	shmi_ring_used(t, r, end);
	return true;
}

#if SHMI_ASAN
/* All of a list that is ours. */
SHMI_MAY_TOUCH
static void poison_list(const struct shmi_thread *t, struct heap_run *r,
			uint32_t class)
{
	uint64_t at = span_first(span_state(r)), n = HEAP_SLICE, next;

	for (; at && n--; at = next) {
		if (at - heap_base(r) >= HEAP_SLICE)
			return; /* the next pop says so */
		next = get(*(_Atomic uint64_t *)at) ^ t->secret;
		shmi_poison((void *)at, heap_size[class]);
	}
}
#else
#define poison_list(t, r, class) ((void)0)
#endif

static bool has_block(struct shmi_thread *t, const struct shmi_own *o,
		      uint32_t class)
{
	struct heap_run *r = o->run;

	if (span_first(span_state(r)))
		return true;
	if (shmi_span_collect(t->hp, r)) {
		poison_list(t, r, class);
		return true;
	}
	return span_ever(r) < o->bytes &&
	       (add_new(t, r, class) ||
		(get_ready(t, r, class) && add_new(t, r, class)));
}

/* Makes cur a span of ours that has a block. */
static bool look_around(struct shmi_thread *t, uint32_t class)
{
	uint32_t i, e = t->of[class].ring;

	for (i = 0; i < LOOK && i < t->of[class].count; i++) {
		struct shmi_own *o = &t->own[e];

		if (has_block(t, o, class)) {
			shmi_ring_make_current(t, class, e);
			return true;
		}
		if (t->of[class].count > LOOK)
			span_set_low(o->run, span_state(o->run) | SPAN_FULL);
		e = o->next;
	}
	shmi_ring_make_current(t, class, e);
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
		/* From the page's start, so that it goes if the others fail. */
		err = shmi_heap_have_new(hp, (void *)heap_base(r),
					 (uintptr_t)(r + 1) - heap_base(r) +
						 ready);
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
	set(r->strays, SPAN_STRAYS_FIRST);
	set(r->stray, SPAN_STRAYS_FIRST);
	set(r->ready, ready);
	set(r->taken, 0);
	set(r->adding, 0);
	set(r->flight, 0);
	set(r->others, 0);
	set(r->owner, t->owner);
	set(r->mark, heap_mark(hp, r, class));
	shmi_run_take(hp, at, 1, ready < span_bytes(r, class));
	shmi_ring_add(t, class, r);
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

/*
 * Each stray may be all that keeps its span in use. So as many are kept as the
 * thread takes: more if it has used up all that there were since there was
 * no room for one. Our death can only spoil statistics.
 */
static void keep_more(struct shmi_thread *t, struct heap_run *home,
		      uint32_t class)
{
	uint32_t n = get(home->strays), more = n;

	if (n + more > span_strays(class))
		more = n < span_strays(class) ? span_strays(class) - n : 0;
	set(home->strays, (uint16_t)(n + more));
	span_step(&home->stray, 0, span_blocks(get(home->stray)) + more);
	t->of[class].full = false;
}

/* What others have freed and we could use goes before what is ours: the next
 * that we free of theirs needs room. NULL: -errno. */
static _Atomic uint64_t *find_list(struct shmi_thread *t, uint32_t class,
				   int *err)
{
	struct heap_run *home = t->of[class].home;

	*err = 0;
	if (home && span_first(get(home->stray)))
		return &home->stray;
	if (home && t->of[class].full)
		keep_more(t, home, class);
	while (!span_first(span_state(t->of[class].cur))) {
		if (!look_around(t, class))
			*err = more_spans(t, class);
		if (*err)
			return NULL;
	}
	return &t->of[class].cur->state;
}

/* Callers write zeroes and copies into the block, and find an aligned address in
 * it, so all of it lies in the arena. */
static bool may_be_block(struct shmi_thread *t, uint32_t class, uintptr_t p)
{
	if (p % 16)
		return false;
	if (!t->hp->arena)
		return true;
	if (p - t->lo > t->len - HEAP_SLICE)
		shmi_thread_refresh(t);
	return p - t->lo <= t->len - heap_size[class];
}

void *shmi_span_malloc(struct shmi_thread *t, uint32_t class)
{
	_Atomic uint64_t *list;
	uint64_t state;
	int err;

	list = find_list(t, class, &err);
	if (!list) {
		errno = -err;
		return NULL;
	}
	shmi_ring_aim(t, class, list);
	state = get(*list); /* once: it may be forged */
	if (!may_be_block(t, class, span_first(state)))
		shmi_span_bad_list(t, (void *)span_first(state));
	return span_pop(t, list, class, state);
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

	if (at >= span_ever(r) || at >= span_bytes(r, class) ||
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

/* A span without a block in use, unless it has strays. It says first that nobody
 * is to follow its list any more, since its pages may go: dying after that,
 * adoption finds it empty. */
static void give_up(struct shmi_thread *t, struct heap_run *r, uint32_t class,
		    uint32_t e)
{
	if (span_first(get(r->stray)))
		return;
	shmi_ring_leave_home(t, r, class);
	shmi_ring_drop(t, class, e);
	set(r->adding, SPAN_GOES);
	set(r->state, 0);
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

bool shmi_span_let_go(struct shmi_thread *t)
{
	uint32_t e, before = t->spans;

	for (e = 0; e < t->room; e++) {
		struct heap_run *r = t->own[e].run;

		if (!r)
			continue;
		shmi_span_collect(t->hp, r);
		if (!span_blocks(span_state(r)))
			give_up(t, r, t->own[e].class, e);
	}
	return t->spans != before;
}

/* A block of ours, which is not free. */
static void put_own(struct shmi_thread *t, struct heap_run *r, uint32_t class,
		    void *p)
{
	uint32_t e = shmi_ring_entry(t, r);
	uint64_t state = span_state(r);

	span_put(t, &r->state, p, state);
	shmi_poison(p, heap_size[class]);
	if ((state & SPAN_FULL) && !(state & SPAN_CURRENT)) {
		span_set_low(r, span_state(r) & ~(uint64_t)SPAN_FULL);
		shmi_ring_next(t, class, e);
	}
	if (span_blocks(state) == 1 && !(state & SPAN_CURRENT))
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

SHMI_MAY_TOUCH
void shmi_span_push_others(struct heap_run *r, uint64_t secret, uint64_t off,
			   uint64_t home)
{
	uintptr_t base = heap_base(r), first;
	uint64_t all = get(r->others), next;

	do {
		first = all & OTHERS_FIRST;
		span_link(secret, base + off, first ? base + first : 0);
		next = all & OTHERS_LIST ? (all & ~(uint64_t)UINT16_MAX) +
						   OTHERS_ONE + off
					 : all + (off << OTHERS_LAST_SHIFT |
						  OTHERS_ONE | off);
		/* release: the word, and what the block's last user did */
	} while (!atomic_compare_exchange_weak_explicit(
		&r->others, &all, next + home, memory_order_release,
		memory_order_relaxed));
}

static void put(struct shmi_thread *t, struct heap_run *r, uint32_t class,
		void *p)
{
	if (get(r->owner) == t->owner)
		put_own(t, r, class, p);
	else
		shmi_span_push_others(r, t->secret, (uintptr_t)p % HEAP_SLICE,
				      0);
}

/* Not inlined, and a last call where it is called, so that the common ways save
 * no register for it. */
__attribute__((noinline, cold)) void shmi_span_free_marked(
	void *p, struct shmi_thread *t)
{
	struct heap_run *r = heap_run_of(p);
	uint32_t class = shmi_span_class(t->hp, r);

	if (shmi_span_lists(t->hp, r, class, (uintptr_t)p))
		shmi_heap_die("block freed twice", p, t->h);
	put(t, r, class, p);
}

/* Whether its word says that it is free. */
SHMI_MAY_TOUCH
static inline bool is_marked(const struct shmi_thread *t, const void *p)
{
	return span_is_link(get(*(_Atomic uint64_t *)(uintptr_t)p) ^ t->secret);
}

void shmi_span_free(struct shmi_thread *t, struct heap_run *r, void *p)
{
	uint32_t class = shmi_span_class(t->hp, r);

	p = span_word(r, offset_of(t->hp, r, class, p));
	if (is_marked(t, p))
		shmi_span_free_marked(p, t);
	else
		put(t, r, class, p);
}

void shmi_span_free_edge(void *p, struct shmi_thread *t)
{
	struct heap_run *r = heap_run_of(p);
	uint32_t class = shmi_span_class(t->hp, r);

	fetch_to_write((uintptr_t)r + offsetof(struct heap_run, others));
	/* Of a heap that another process has destroyed the state is 0, so its
	 * blocks come here. */
	if (get(r->mark) != heap_mark(t->hp, r, class))
		shmi_heap_die("no block", p, t->h);
	if (get(r->owner) != t->owner)
		t->of[class].full = true;
	put(t, r, class, p);
}

/*
 * A block of a span that the thread does not know: the start of one of
 * another's, in the heap that the thread used last. All that is read of the
 * span is in one line, which its owner mostly leaves alone.
 */
void shmi_span_free_other(void *p, struct shmi_thread *t,
			  void (*slowly)(void *p))
{
	struct heap_run *r = heap_run_of(p);
	uint64_t at = (uintptr_t)p - (uintptr_t)r - HEAP_RUN_LEN;
	uint32_t kind;

	fetch_to_write((uintptr_t)r + offsetof(struct heap_run, others));
	if (!t->h || !shmi_thread_valid(t, t->h) ||
	    (uintptr_t)r - t->lo >= t->len) {
		slowly(p);
		return;
	}
	kind = r->kind; /* once: it may be forged */
	if (kind >= HEAP_CLASSES || get(r->mark) != heap_mark(t->hp, r, kind) ||
	    get(r->owner) == t->owner ||
	    !heap_starts_block(kind, (uint32_t)at) || at >= span_ever(r) ||
	    (uintptr_t)p % HEAP_SLICE == 0) {
		slowly(p);
	} else if (__builtin_expect(is_marked(t, p), 0)) {
		shmi_span_free_marked(p, t);
	} else {
		shmi_ring_know_other(t, r, kind);
		shmi_span_push_others(r, t->secret, (uintptr_t)p % HEAP_SLICE,
				      0);
	}
}
