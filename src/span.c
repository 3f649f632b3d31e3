/* SPDX-License-Identifier: BSD-3-Clause */
/* span.c - spans of small blocks */
/*
 * A span is one slice of blocks of one size. It has an owner, a thread, which
 * alone takes blocks from it and gives its own back to the list "free"; others
 * push theirs on the list "others". So the common malloc and free have neither
 * lock nor locked instruction.
 *
 * A free block's first word holds the next one's index and a check made of the
 * heap's secret: an index cannot lead out of the span, and a check that does
 * not fit tells that somebody wrote into a free block. Taking a block destroys
 * the check, so that a block which has it when it is freed is free already.
 *
 * Death of the owner, at each store:
 *
 *	malloc	free = next (or fresh + 1) is the step: before it the block is
 *		free, after it the dead one's
 *	free	the block's word first, then free: before that the block is
 *		the dead one's
 *	others	the same with a compare-and-swap
 *	moving others to free (collect):
 *		taken = its head; others = 0, if it still was that; the list's
 *		end = free; free = head; taken = 0. With taken set, adoption
 *		finds out which of these steps were done, and does the rest.
 *	used	counted anew by adoption
 *
 * An orphan's owner is 0 or somebody dead; the next one who needs a span, and
 * trim, find it by a look at all runs (sweep), under the lock. That is done
 * before the heap grows, or when threads said that they left some.
 *
 * Order of memory: words of the owner are stored with release where a death
 * must not find a later store without an earlier one. (The compiler must keep
 * the order; the processor does for a reader after our death, since the kernel
 * stands in between.) "others" is pushed with release and taken with acquire,
 * which hands the blocks' words over.
 */
#include "span.h"

#include "os.h"

#include <errno.h>

#define LOOK 8		 /* spans that a search looks at */
#define STEP_BYTES 16384 /* made present at a time */

struct heap_run shmi_span_none; /* a span without blocks */

#define get(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define set(word, to) atomic_store_explicit(&(word), to, memory_order_release)

static char *block(struct heap_run *r, uint32_t class, uint32_t i)
{
	return (char *)r + HEAP_RUN_LEN + (size_t)i * heap_size[class];
}

static uint32_t check_of(uint64_t secret, uint32_t i)
{
	return ((uint32_t)(secret >> 32) ^ i * 0x9e3779b1u) | 1;
}

static _Atomic uint64_t *word_of(char *b)
{
	return (_Atomic uint64_t *)b;
}

/* What follows block @i, which is free, or dies. */
static uint32_t next_of(const struct shmi_heap *hp, struct heap_run *r,
			uint32_t class, uint32_t i)
{
	uint64_t w;

	if (i >= heap_nblocks(class))
		shmi_heap_die("list of free blocks overwritten", r, hp->h);
	w = get(*word_of(block(r, class, i)));
	if (w >> 32 != check_of(hp->secret, i))
		shmi_heap_die("free block overwritten", block(r, class, i),
			      hp->h);
	return (uint32_t)w;
}

/* Steps from list @head on until @stop or the end; where it ended. */
static uint32_t walk(const struct shmi_heap *hp, struct heap_run *r,
		     uint32_t class, uint32_t head, uint32_t stop,
		     uint32_t *last, uint32_t *n)
{
	*last = 0;
	for (*n = 0; head && head != stop; ++*n) {
		if (*n > heap_nblocks(class))
			shmi_heap_die("list of free blocks has no end", r,
				      hp->h);
		*last = head;
		head = next_of(hp, r, class, head - 1);
	}
	return head;
}

static void link_to(const struct shmi_heap *hp, struct heap_run *r,
		    uint32_t class, uint32_t block1, uint32_t next1)
{
	set(*word_of(block(r, class, block1 - 1)),
	    (uint64_t)check_of(hp->secret, block1 - 1) << 32 | next1);
}

/* Owner: the blocks of others become free. Whether there were any. */
static bool collect(const struct shmi_heap *hp, struct heap_run *r,
		    uint32_t class)
{
	uint64_t head = get(r->others);
	uint32_t last, n;

	if (!head)
		return false;
	do {
		set(r->taken, (uint32_t)head);
		/* acquire: the words of the blocks in it */
	} while (!atomic_compare_exchange_weak_explicit(&r->others, &head, 0,
							memory_order_acq_rel,
							memory_order_relaxed));
	walk(hp, r, class, (uint32_t)head, 0, &last, &n);
	if (get(r->free))
		link_to(hp, r, class, last, get(r->free));
	set(r->free, (uint32_t)head);
	set(r->taken, 0);
	set(r->used, get(r->used) - n);
	return true;
}

/* Adoption: where the last owner died in collect. Can be repeated. */
static void finish_collect(const struct shmi_heap *hp, struct heap_run *r,
			   uint32_t class)
{
	uint32_t taken = get(r->taken), free = get(r->free), last, n;

	if (!taken)
		return;
	/* Is it still others', or at the front of free? */
	if (walk(hp, r, class, (uint32_t)get(r->others), taken, &last, &n) !=
		    taken &&
	    free != taken) {
		if (free && walk(hp, r, class, taken, free, &last, &n) != free)
			link_to(hp, r, class, last, free);
		set(r->free, taken);
	}
	set(r->taken, 0);
}

/* ----- the owner's rings ----- */

static void ring_add(struct shmi_thread *t, uint32_t class, struct heap_run *r)
{
	uint32_t e = t->spare, at = t->ring[class];

	t->spare = t->own[e].next;
	t->own[e].run = r;
	if (at == SPAN_NO_ENTRY) {
		t->own[e].next = t->own[e].prev = e;
	} else {
		t->own[e].prev = at;
		t->own[e].next = t->own[at].next;
		t->own[t->own[e].next].prev = e;
		t->own[at].next = e;
	}
	t->ring[class] = e;
	t->count[class]++;
	t->cur[class] = r;
	r->place = e;
}

static void ring_out(struct shmi_thread *t, uint32_t e)
{
	t->own[t->own[e].prev].next = t->own[e].next;
	t->own[t->own[e].next].prev = t->own[e].prev;
}

static void ring_drop(struct shmi_thread *t, uint32_t class, uint32_t e)
{
	uint32_t next = t->own[e].next;

	ring_out(t, e);
	t->own[e].run = NULL;
	t->own[e].next = t->spare;
	t->spare = e;
	t->count[class]--;
	if (t->ring[class] == e) {
		t->ring[class] = next == e ? SPAN_NO_ENTRY : next;
		t->cur[class] = next == e ? &shmi_span_none : t->own[next].run;
	}
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
	t->own[e].prev = at;
	t->own[e].next = t->own[at].next;
	t->own[t->own[e].next].prev = e;
	t->own[at].next = e;
}

/* ----- malloc ----- */

/* How many more blocks get their pages at a time. */
static uint32_t step(uint32_t class, uint32_t ready)
{
	uint32_t left = heap_nblocks(class) - ready;
	uint32_t n = STEP_BYTES / heap_size[class];

	if (!n)
		n = 1;
	return n < left ? n : left;
}

static int get_ready(struct shmi_thread *t, struct heap_run *r, uint32_t class)
{
	uint32_t ready = get(r->ready), more;
	int err;

	if (ready >= heap_nblocks(class))
		return -ENOMEM;
	more = step(class, ready);
	err = shmi_heap_fill(t->hp, (uintptr_t)block(r, class, ready),
			     (uint64_t)more * heap_size[class]);
	if (!err)
		set(r->ready, ready + more);
	return err;
}

static bool has_block(struct shmi_thread *t, struct heap_run *r, uint32_t class)
{
	return get(r->free) || get(r->fresh) < get(r->ready) ||
	       collect(t->hp, r, class) || !get_ready(t, r, class);
}

/* Makes cur a span of ours that has a block. */
static bool look_around(struct shmi_thread *t, uint32_t class)
{
	uint32_t i, e = t->ring[class];

	for (i = 0; i < LOOK && i < t->count[class]; i++) {
		if (has_block(t, t->own[e].run, class)) {
			t->ring[class] = e;
			t->cur[class] = t->own[e].run;
			return true;
		}
		e = t->own[e].next;
	}
	if (e != SPAN_NO_ENTRY) {
		t->ring[class] = e;
		t->cur[class] = t->own[e].run;
	}
	return false;
}

/* Under the lock: a free slice becomes a span of ours. All of its head is
 * written while the run is free; taking it is one store. */
static int new_span(struct shmi_thread *t, uint32_t class)
{
	struct shmi_heap *hp = t->hp;
	struct heap_run *r;
	struct heap_at at;
	bool dirty; /* no matter: no promise about what is in a block */
	int err = shmi_run_find(hp, 1, 0, &at, &dirty);

	if (err)
		return err;
	r = (struct heap_run *)heap_slice(hp, at);
	err = shmi_heap_fill(hp, (uintptr_t)r,
			     HEAP_RUN_LEN + (uint64_t)step(class, 0) *
						    heap_size[class]);
	if (err)
		return err;
	r->heap = (uintptr_t)hp->h;
	r->kind = class;
	set(r->free, 0);
	set(r->fresh, 0);
	set(r->ready, step(class, 0));
	set(r->used, 0);
	set(r->taken, 0);
	set(r->interior, 0);
	set(r->others, 0);
	r->len = r->block = 0;
	set(r->owner, t->owner);
	set(r->mark, heap_mark(hp, r));
	shmi_run_take(hp, at, 1);
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

static void *take(struct shmi_thread *t, struct heap_run *r, uint32_t class)
{
	uint32_t i = get(r->free), fresh;
	char *b;

	if (i) {
		uint32_t next = next_of(t->hp, r, class, --i);

		b = block(r, class, i);
		set(r->free, next);
		set(r->used, get(r->used) + 1);
		atomic_store_explicit(word_of(b), 0, memory_order_relaxed);
		return b;
	}
	fresh = get(r->fresh);
	if (fresh >= get(r->ready) || fresh >= heap_nblocks(class))
		return NULL;
	set(r->fresh, fresh + 1);
	set(r->used, get(r->used) + 1);
	/* It may have been another span's free block, with a check in it. */
	b = block(r, class, fresh);
	atomic_store_explicit(word_of(b), 0, memory_order_relaxed);
	return b;
}

void *shmi_span_malloc(struct shmi_thread *t, uint32_t class)
{
	void *b = take(t, t->cur[class], class);
	int err = 0;

	while (!b && !err) {
		if (!look_around(t, class))
			err = more_spans(t, class);
		if (!err)
			b = take(t, t->cur[class], class);
	}
	if (err) {
		errno = -err;
		return NULL;
	}
	return b;
}

/* ----- free ----- */

static uint32_t class_of(const struct shmi_heap *hp, const struct heap_run *r)
{
	if (r->kind >= HEAP_CLASSES)
		shmi_heap_die("head of a span overwritten", r, hp->h);
	return r->kind;
}

static uint32_t index_of(const struct shmi_heap *hp, struct heap_run *r,
			 uint32_t class, const void *p)
{
	uintptr_t off = (uintptr_t)p - (uintptr_t)r;
	bool exact;
	uint32_t i;

	if (off < HEAP_RUN_LEN)
		shmi_heap_die("no block", p, hp->h);
	i = heap_index(class, (uint32_t)off - HEAP_RUN_LEN, &exact);
	if ((!exact && !get(r->interior)) || i >= get(r->fresh) ||
	    i >= heap_nblocks(class))
		shmi_heap_die("no block", p, hp->h);
	return i;
}

char *shmi_span_block(const struct shmi_heap *hp, struct heap_run *r,
		      const void *p)
{
	uint32_t class = class_of(hp, r);

	return block(r, class, index_of(hp, r, class, p));
}

static void give_up_span(struct shmi_thread *t, struct heap_run *r,
			 uint32_t class)
{
	if (shmi_heap_lock(t->hp))
		return;
	ring_drop(t, class, entry_of(t, r));
	shmi_run_free(t->hp, r, true);
	shmi_heap_unlock(t->hp);
}

static void push_to_others(struct heap_run *r, _Atomic uint64_t *w,
			   uint64_t check, uint32_t i)
{
	uint64_t head = get(r->others);

	do
		atomic_store_explicit(w, check << 32 | (uint32_t)head,
				      memory_order_relaxed);
	/* release: the word, and what the last user of the block did */
	while (!atomic_compare_exchange_weak_explicit(&r->others, &head, i + 1,
						      memory_order_release,
						      memory_order_relaxed));
}

void shmi_span_free(struct shmi_thread *t, struct heap_run *r, void *p)
{
	uint32_t class = class_of(t->hp, r), i = index_of(t->hp, r, class, p);
	_Atomic uint64_t *w = word_of(block(r, class, i));
	uint64_t check = check_of(t->secret, i);
	uint32_t first;

	if (get(*w) >> 32 == check)
		shmi_heap_die("block freed twice", p, t->h);
	if (get(r->owner) != t->owner) {
		push_to_others(r, w, check, i);
		return;
	}
	first = get(r->free);
	atomic_store_explicit(w, check << 32 | first, memory_order_relaxed);
	set(r->free, i + 1);
	set(r->used, get(r->used) - 1);
	if (r == t->cur[class])
		return;
	if (!get(r->used))
		give_up_span(t, r, class);
	else if (!first)
		ring_next(t, class, entry_of(t, r));
}

/* ----- orphans ----- */

/* Words of a span that nobody has, put in order: its blocks in use. */
static uint32_t settle(struct shmi_heap *hp, struct heap_run *r, uint32_t class)
{
	uint32_t last, n, fresh = get(r->fresh);

	if (fresh > heap_nblocks(class) || get(r->ready) > heap_nblocks(class))
		shmi_heap_die("head of a span overwritten", r, hp->h);
	finish_collect(hp, r, class);
	walk(hp, r, class, get(r->free), 0, &last, &n);
	if (n > fresh)
		shmi_heap_die("list of free blocks overwritten", r, hp->h);
	set(r->used, fresh - n);
	collect(hp, r, class);
	return get(r->used);
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
			shmi_run_free(hp, r, true);
		return 0;
	}
	class = class_of(hp, r);
	if (!shmi_heap_owner_dead(hp, owner))
		return 0;
	if (!settle(hp, r, class)) {
		shmi_run_free(hp, r, true);
	} else if (s->t && class == s->class && !s->found &&
		   (get(r->free) || get(r->fresh) < heap_nblocks(class))) {
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
	for (e = 0; e < t->room; e++) {
		struct heap_run *r = t->own[e].run;

		if (!r)
			continue;
		class = class_of(t->hp, r);
		collect(t->hp, r, class);
		if (get(r->used)) {
			set(r->owner, 0);
			left++;
		} else {
			shmi_run_free(t->hp, r, true);
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
	uint32_t class = r->kind, i, n;
	uint64_t w;

	if (class >= HEAP_CLASSES || r->heap != (uintptr_t)hp->h ||
	    get(r->fresh) > heap_nblocks(class) ||
	    get(r->ready) > heap_nblocks(class))
		return -EUCLEAN;
	if (!shmi_heap_owner_dead(hp, get(r->owner)))
		return 0;
	for (i = get(r->free), n = 0; i; i = (uint32_t)w, n++) {
		if (i > get(r->fresh) || n > heap_nblocks(class))
			return -EUCLEAN;
		w = get(*word_of(block(r, class, i - 1)));
		if (w >> 32 != check_of(hp->secret, i - 1))
			return -EUCLEAN;
	}
	return 0;
}
