/* SPDX-License-Identifier: BSD-3-Clause */
/* large.c - large blocks */
/*
 * A large block is a run of its own: a head, and the block behind it. While it
 * is not yet in its user's hands, or not any more, the head names the thread
 * that is at work; after a death there a sweep frees the run.
 *
 * A thread holds on to a few that were freed, so that the next one of that size
 * takes no lock. To the table they are in use, to everybody else the thread's
 * (owner). What it does not hold goes back to the heap, which keeps the pages
 * or not (run.c); in the latter case the run stays, as a hole.
 *
 * New pages are made present outside of the lock.
 */
#include "large.h"

#include "size.h"

#include <errno.h>

#define HOLD_MOST 64u /* slices that a thread holds; of one run a quarter */

#define get(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define set(word, to) atomic_store_explicit(&(word), to, memory_order_release)

static void *failed(int err)
{
	errno = -err;
	return NULL;
}

/* ----- what a thread holds ----- */

static void drop_held(struct shmi_thread *t, uint32_t i)
{
	shmi_unpoison((void *)heap_base(t->held[i].run),
		      t->held[i].nslices * HEAP_SLICE);
	t->held_slices -= t->held[i].nslices;
	t->held[i] = t->held[--t->nheld];
}

static void give_held(struct shmi_thread *t, uint32_t i)
{
	struct heap_run *r = t->held[i].run;

	drop_held(t, i);
	shmi_run_give(t->hp, r, false, true);
}

/* One that a block of @count slices fills, but for an eighth. */
static struct heap_run *take_held(struct shmi_thread *t, uint32_t count)
{
	struct heap_run *r;
	uint32_t i;

	for (i = 0; i < t->nheld; i++)
		if (t->held[i].nslices >= count &&
		    t->held[i].nslices - count <= count / 8) {
			r = t->held[i].run;
			drop_held(t, i);
			return r;
		}
	return NULL;
}

/* Whether it is ours to hold now. */
static bool hold(struct shmi_thread *t, struct heap_run *r)
{
	uint32_t n = get(r->ready);

	/* It is in shared memory. */
	if (!n || n > HOLD_MOST / 4 ||
	    heap_base(r) + n * HEAP_SLICE > t->lo + t->len)
		return false;
	while (t->nheld == SPAN_HELD || t->held_slices + n > HOLD_MOST)
		give_held(t, 0); /* the oldest, or so */
	t->held[t->nheld].run = r;
	t->held[t->nheld++].nslices = n;
	t->held_slices += n;
	/* All but the head, which others look at. */
	shmi_poison(r + 1, heap_base(r) + n * HEAP_SLICE - (uintptr_t)(r + 1));
	return true;
}

bool shmi_large_let_go(struct shmi_thread *t)
{
	bool any = t->nheld;

	while (t->nheld)
		give_held(t, t->nheld - 1);
	return any;
}

/* What the thread keeps for its next calls, of other sizes, may be what is
 * missing. */
bool shmi_large_make_room(struct shmi_thread *t)
{
	bool any = shmi_large_let_go(t);

	if (!shmi_heap_lock(t->hp)) {
		any |= shmi_stray_let_go(t);
		shmi_heap_unlock(t->hp);
	}
	return shmi_span_let_go(t) || any;
}

/* ----- from the heap ----- */

/* Bytes from the start of a run's slice to the block, with room for any head. */
static uint64_t front(uint64_t align)
{
	uint64_t head = (HEAP_COLOURS - 1) * HEAP_COLOUR + HEAP_RUN_LEN;

	if (align >= HEAP_SLICE)
		return HEAP_SLICE;
	return (head + align - 1) & ~(align - 1);
}

/* Not what the head says: that is in shared memory. */
static void *block_of(const struct heap_run *r, uint64_t align)
{
	return (void *)(heap_base(r) + front(align));
}

static uint32_t slices_of(uint64_t align, uint64_t n)
{
	return (uint32_t)((front(align) + n + HEAP_SLICE - 1) / HEAP_SLICE);
}

/* Of the run @r, up to @n bytes behind @p. */
static uint32_t slices_to(const struct heap_run *r, const void *p, size_t n)
{
	uint64_t off = (uintptr_t)p - heap_base(r);

	return (uint32_t)((off + n + HEAP_SLICE - 1) / HEAP_SLICE);
}

/* Under the lock. */
static int find_run(struct shmi_heap *hp, uint32_t n, uint64_t align,
		    struct heap_at *at)
{
	uint64_t room = n + (align > HEAP_SLICE ? align / HEAP_SLICE : 0);
	int err = shmi_run_find(hp, n, align, at);

	if (err != -ENOMEM)
		return err;
	shmi_span_sweep(hp, NULL, 0);
	err = shmi_run_find(hp, n, align, at);
	if (err == -ENOMEM)
		err = shmi_heap_more(hp, room);
	return err ? err : shmi_run_find(hp, n, align, at);
}

/* A run, and what of it is yet to be made present. */
struct part {
	struct heap_run *r;
	uint64_t from, to; /* offsets in the run */
	bool zero;
};

/* Under the lock. New pages are made present as far as the block goes; the end
 * of a kept run to the last, so that it is whole from then on. */
static int take_run(struct shmi_thread *t, uint64_t n, uint64_t align,
		    uint32_t count, struct part *out)
{
	struct shmi_heap *hp = t->hp;
	struct heap_run *r;
	struct heap_at at;
	uint64_t head;
	uint32_t word;
	bool part;
	int err = find_run(hp, count, align, &at);

	if (err)
		return err;
	word = shmi_run_word(hp, at);
	r = out->r = heap_head(heap_slice(hp, at));
	head = (uintptr_t)(r + 1) - heap_base(r);
	out->zero = !(word & HEAP_DIRTY);
	out->from = out->to = count * HEAP_SLICE; /* nothing */
	if (!(word & HEAP_KEPT)) {
		out->from = head;
		/* Whole for AddressSanitizer: what can be held is poisoned. */
		out->to = SHMI_ASAN ? count * HEAP_SLICE : front(align) + n;
	} else if ((word & HEAP_PART) && (word & HEAP_COUNT) == count) {
		out->from -= HEAP_SLICE;
		if (out->from < head)
			out->from = head;
	}
	if (!shmi_run_there(hp, word))
		err = shmi_heap_have(hp, r, sizeof(*r));
	if (err)
		return err;
	shmi_run_prepare(hp, at, count);
	shmi_run_head(hp, r, t->owner, block_of(r, align), n);
	part = out->to < count * HEAP_SLICE;
	set(r->ready, part ? 0 : count);
	shmi_run_take(hp, at, count, part);
	return 0;
}

static void *from_heap(struct shmi_thread *t, uint64_t n, uint64_t align,
		       bool *zero)
{
	struct part got;
	int err;

	err = shmi_heap_lock(t->hp);
	if (err)
		return failed(err);
	err = take_run(t, n, align, slices_of(align, n), &got);
	shmi_heap_unlock(t->hp);
	shmi_thread_refresh(t);
	if (err)
		return failed(err);
	if (got.from < got.to)
		err = shmi_heap_fill_new(t->hp, heap_base(got.r) + got.from,
					 got.to - got.from);
	if (err) {
		shmi_run_give(t->hp, got.r, false, false);
		return failed(err);
	}
	*zero = got.zero;
	set(got.r->owner, 0); /* the user's */
	return block_of(got.r, align);
}

/* ----- malloc and free ----- */

void *shmi_large_malloc(struct shmi_thread *t, uint64_t n, uint64_t align,
			bool *zero)
{
	struct heap_run *r;
	void *p;

	if (n > HEAP_COUNT * HEAP_SLICE / 2)
		return failed(-ENOMEM);
	r = align <= 16 ? take_held(t, slices_of(align, n)) : NULL;
	if (!r) {
		p = from_heap(t, n, align, zero);
		if (!p && errno == ENOMEM && shmi_large_make_room(t))
			p = from_heap(t, n, align, zero);
		return p;
	}
	*zero = false;
	r->len = n;
	r->block = (uintptr_t)block_of(r, align);
	set(r->owner, 0); /* the user's */
	return block_of(r, align);
}

void shmi_large_check(struct shmi_thread *t, const struct heap_run *r,
		      const void *p)
{
	if (r->kind != HEAP_LARGE || r->block != (uintptr_t)p)
		shmi_heap_die("no block", p, t->h);
	if (get(r->owner))
		shmi_heap_die("block freed twice", p, t->h);
}

/*
 * The length is in shared memory; who copies the block reads as much. It may be
 * wrong, but within the arena, or as long as all of another heap.
 */
uint64_t shmi_large_len(struct shmi_thread *t, const struct heap_run *r,
			const void *p)
{
	const struct shmi_arena *a = t->hp->arena;
	uint64_t len, most = shmi_heap_footprint(t->hp);

	shmi_large_check(t, r, p);
	len = *(const volatile uint64_t *)&r->len; /* once */
	if (a)
		most = a->c.base + shmi_size_now(a) - (uintptr_t)p;
	if (len > most)
		shmi_heap_die("head of a block overwritten", r, t->h);
	return len;
}

void shmi_large_free(struct shmi_thread *t, struct heap_run *r)
{
	set(r->owner, t->owner); /* the user's no more; if we die, a sweep's */
	if (!hold(t, r))
		shmi_run_give(t->hp, r, false, true);
}

/*
 * Its pages did not come: as it was, or at least not kept when it is freed. What
 * came goes back outside of the lock.
 */
static void back(struct shmi_thread *t, struct heap_run *r, uint32_t was,
		 uint32_t count)
{
	if (count > was)
		shmi_heap_punch(t->hp, heap_base(r) + was * HEAP_SLICE,
				(count - was) * HEAP_SLICE);
	if (shmi_heap_lock(t->hp))
		return;
	if (!shmi_run_resize(t->hp, r, was))
		set(r->ready, 0);
	shmi_heap_unlock(t->hp);
}

/*
 * A longer run is one with holes until its pages are there. Dying before the
 * length is stored the block is as it was, in a run that is longer than it needs.
 */
static int enlarge(struct shmi_thread *t, struct heap_run *r, const void *p,
		   size_t old, size_t n)
{
	uint32_t count = slices_to(r, p, n), was;
	int err = shmi_heap_lock(t->hp);

	if (err)
		return err;
	was = get(r->ready);
	set(r->ready, HEAP_HOLES);
	err = shmi_run_resize(t->hp, r, count);
	if (err)
		set(r->ready, was);
	shmi_heap_unlock(t->hp);
	if (err)
		return err;
	err = shmi_heap_fill(t->hp, (uintptr_t)p + old, n - old);
	if (err) {
		back(t, r, slices_to(r, p, old), count);
		return err;
	}
	r->len = n;
	set(r->ready, 0); /* not to be held any more */
	return 0;
}

/*
 * The end of the run becomes one of ours, and goes back as such, outside of the
 * lock. Its head is where the block was, which is shorter already: @n bytes. If
 * we die the end is still a part of its run, or a sweep's.
 *
 * A page for that head may be missing in a heap that is not populated. If it
 * cannot be had the run stays as long as it is, and only the pages go back.
 */
static int shorten(struct shmi_thread *t, struct heap_run *r, const void *p,
		   size_t old, size_t n)
{
	uint32_t count = slices_to(r, p, n), end = slices_to(r, p, old);
	struct heap_run *rest = NULL;
	bool holes;
	int err = shmi_heap_lock(t->hp);

	if (err)
		return err;
	r->len = n;
	if (count < end && count < shmi_run_len(t->hp, r)) {
		rest = heap_head(heap_base(r) + count * HEAP_SLICE);
		if (!t->hp->populate)
			err = shmi_heap_have(t->hp, rest, sizeof(*rest));
	}
	if (err) {
		set(r->ready, HEAP_HOLES);
	} else if (rest) {
		shmi_run_head(t->hp, rest, t->owner, block_of(rest, 16), 0);
		holes = get(r->ready) == HEAP_HOLES;
		set(rest->ready, holes ? HEAP_HOLES : 0);
		/* Before the run is shorter: who holds it asks no table. */
		if (!holes)
			set(r->ready, 0);
		shmi_run_part(t->hp, r, count);
		set(r->ready, 0);
	}
	shmi_heap_unlock(t->hp);
	if (err)
		shmi_heap_punch(t->hp, heap_base(r) + count * HEAP_SLICE,
				(end - count) * HEAP_SLICE);
	else if (rest)
		shmi_run_give(t->hp, rest, false, true);
	return 0;
}

int shmi_large_resize(struct shmi_thread *t, struct heap_run *r, const void *p,
		      size_t old, size_t n)
{
	if (n > HEAP_COUNT * HEAP_SLICE / 2)
		return -ENOMEM;
	return n > old ? enlarge(t, r, p, old, n) : shorten(t, r, p, old, n);
}
