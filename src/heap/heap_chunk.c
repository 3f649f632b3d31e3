/* SPDX-License-Identifier: BSD-3-Clause */
/* heap_chunk.c - a heap's chunks: copied, entered, and cut off again */
/*
 * A new chunk is the arena's new end. It is staged under the arena's lock
 * (size.c): its table is written into pages that nobody sees yet, and the
 * arena's size is published after that. Death in between:
 *
 *	before the size		the file is cut, the pages are gone
 *	after it		grown_at/grown_by name a range inside of the
 *				arena that begins with this heap's mark and is
 *				no chunk: the next one in the lock enters it
 *	after nchunks		grown_by is cleared by the next one
 *
 * The mark is in the last word of the chunk's first slice. A long table has a
 * word of its own there, so it is cleared as soon as the chunk is entered.
 *
 * Trim cuts off a chunk that is all free and at the arena's end: the mark is
 * written, grown_at/grown_by name the chunk, nchunks says that it is none, and
 * then the arena's size is less. Death in between:
 *
 *	before nchunks		it is a chunk: mark and grown_by are cleared
 *	before the size		as above, the next one in the lock enters it
 *				again; its table is as it was
 *	after the size		the file is cut (size.c); the range is beyond
 *				the arena's end, or begins with no mark where
 *				somebody has grown it since: grown_by is
 *				cleared
 *
 * gen moves before nchunks does. Death in between makes others copy the same
 * chunks again; the other way round a process would take its old copy for the
 * present one, and the next one in the lock, who sees from its copy whether the
 * chunk is one, would clear mark and grown_by of a chunk that is none. A cut
 * that fails is no death, but is put right the same way by who tried it.
 *
 * Where the range may be the application's by now, its page with the mark may be
 * missing. If it cannot be had nobody knows what the range is: grown_by stays,
 * and the heap neither grows nor shrinks until it can.
 *
 * Nobody else looks into such a chunk meanwhile: no block, span or run in use is
 * there, and the table is read under the lock.
 *
 * tests/model/chunk.pml is this for spin.
 */
#include "heap.h"

#include "os.h"
#include "size.h"

#include <errno.h>
#include <string.h>

/*
 * Slices of a new chunk, of which less need be asked for: a quarter of what is
 * there, but not more than MANY_SLICES as long as that is a LARGE_PART of it.
 * From 1 GiB on, each chunk adds 1/16, so that HEAP_CHUNKS are enough for any
 * arena, and others' room in it gets less by 1/16 of the heap at most.
 *
 * A private chunk whose pages are all made present, or reserved as huge ones
 * are, when it is mapped has MANY_SLICES until half of the chunks are there.
 */
#define FEW_SLICES ((uint64_t)16)
#define MANY_SLICES ((uint64_t)1024)
#define SMALL_PART 4
#define LARGE_PART 16

/* ----- private copies ----- */

uint64_t shmi_chunk_heads(const struct shmi_heap *hp, uint64_t start,
			  uint64_t n)
{
	uint64_t first =
		start == (uintptr_t)hp->h ? sizeof(struct heap_hdr) : 0;

	return heap_slices(first + n * sizeof(uint32_t));
}

/* Whether [start, start + n slices) may be a chunk of this heap. */
static bool good_chunk(const struct shmi_heap *hp, uint64_t start, uint64_t n,
		       uint64_t nhead)
{
	const struct shmi_arena *a = hp->arena;
	uint64_t size, off;

	if (start % HEAP_SLICE || !n || n > HEAP_COUNT ||
	    nhead != shmi_chunk_heads(hp, start, n) || nhead > n)
		return false;
	if (!a)
		return true;
	size = shmi_size_now(a);
	off = start - a->c.base; /* huge, where start is below */
	return off <= size && n * HEAP_SLICE <= size - off;
}

int shmi_chunk_copy(struct shmi_heap *hp)
{
	struct heap_hdr *h = hp->h;
	uint32_t n = h->nchunks, i, gen = h->gen;
	uint64_t sum = 0;

	if (!n || n > HEAP_CHUNKS || h->chunk[0].start != (uintptr_t)h)
		return -EUCLEAN;
	for (i = 0; i < n; i++) {
		uint64_t start = h->chunk[i].start;
		uint32_t len = h->chunk[i].nslices, nhead = h->chunk[i].nhead;

		if (!good_chunk(hp, start, len, nhead))
			return -EUCLEAN;
		sum += len;
		/* Others read the first one without the lock. What is not
		 * counted may be half of a copy (a fork; heap.c). */
		if (i < hp->nchunks && hp->chunk[i].start == start &&
		    hp->chunk[i].nslices == len)
			continue;
		hp->chunk[i].start = start;
		hp->chunk[i].table =
			(_Atomic uint32_t *)(start +
					     (i ? 0 : sizeof(struct heap_hdr)));
		hp->chunk[i].nslices = len;
		hp->chunk[i].nhead = nhead;
	}
	atomic_store_explicit(&hp->nslices, sum, memory_order_relaxed);
	/* release: who sees the count sees the chunks. */
	atomic_store_explicit(&hp->nchunks, n, memory_order_release);
	hp->gen = gen;
	return 0;
}

static void enter_chunk(struct shmi_heap *hp, uint64_t start, uint64_t n)
{
	struct heap_hdr *h = hp->h;
	uint32_t i = hp->nchunks;

	h->gen++; /* before nchunks: see above */
	/* release: who sees the count sees the chunk. */
	h->chunk[i].start = start;
	h->chunk[i].nslices = (uint32_t)n;
	h->chunk[i].nhead = (uint32_t)shmi_chunk_heads(hp, start, n);
	memset((void *)h->chunk[i].low, 0, sizeof(h->chunk[i].low));
	atomic_store_explicit(&h->nchunks, i + 1, memory_order_release);
}

/* The header of a chunk's table, while it has not been entered. */
static uint64_t chunk_mark(const struct shmi_heap *hp, uint64_t start)
{
	return ~(hp->secret ^ start);
}

static uint64_t *mark_of(uint64_t start)
{
	return (uint64_t *)(uintptr_t)(start + HEAP_SLICE - 8);
}

/* Whether [@start, @n slices), @at and @by in the arena, can be ours. */
static bool is_there(const struct shmi_heap *hp, uint64_t at, uint64_t by,
		     uint64_t start, uint64_t n)
{
	const struct shmi_arena *a = hp->arena;

	return at < a->c.maxsize && by <= shmi_size_now(a) &&
	       at <= shmi_size_now(a) - by &&
	       good_chunk(hp, start, n, shmi_chunk_heads(hp, start, n));
}

/* The header's words of chunk @i: those of the first ones are there. */
static int have_entry(struct shmi_heap *hp, uint32_t i)
{
	return shmi_heap_have(hp, &hp->h->chunk[i], sizeof(hp->h->chunk[i]));
}

void shmi_chunk_finish(struct shmi_heap *hp)
{
	struct shmi_arena *a = hp->arena;
	uint64_t at = hp->h->grown_at, by = hp->h->grown_by, start, n;
	uint32_t i;

	/* Whether it is a chunk counts as it is now. */
	if (!by || shmi_chunk_copy(hp))
		return;
	start = heap_slice_up(a->c.base + at);
	n = (a->c.base + at + by - start) / HEAP_SLICE;
	for (i = 0; i < hp->nchunks && hp->chunk[i].start != start; i++)
		;
	if (is_there(hp, at, by, start, n)) {
		if (shmi_heap_have(hp, mark_of(start), 8) ||
		    (i < HEAP_CHUNKS && have_entry(hp, i)))
			return;
		if (*mark_of(start) == chunk_mark(hp, start)) {
			if (i == hp->nchunks && i < HEAP_CHUNKS)
				enter_chunk(hp, start, n);
			*mark_of(start) = 0;
		}
	}
	hp->h->grown_by = 0;
}

/* ----- chunks ----- */

/* Into pages that are ours alone. @first: bytes before the table. */
int shmi_chunk_table(struct shmi_heap *hp, uint64_t start, uint64_t n,
		     uint64_t first)
{
	_Atomic uint32_t *table = (_Atomic uint32_t *)(start + first);
	uint64_t nhead = heap_slices(first + n * sizeof(uint32_t));
	int err = shmi_heap_have(hp, table, n * sizeof(uint32_t));

	if (err)
		return err;
	if (n > nhead)
		table[nhead] = (uint32_t)(n - nhead);
	return 0;
}

/* Room in the arena for @n slices, and what it takes to align them. */
int shmi_chunk_stage(struct shmi_heap *hp, uint64_t n, uint64_t *at,
		     uint64_t *by)
{
	struct shmi_arena *a = hp->arena;
	uint64_t page = a->c.pagesize, size = shmi_size_now(a);
	uint64_t start = heap_slice_up(a->c.base + size);

	*by = start - (a->c.base + size) + n * HEAP_SLICE;
	*by = (*by + page - 1) & ~(page - 1);
	return shmi_size_stage(a, *by, at);
}

static int more_of_arena(struct shmi_heap *hp, uint64_t n)
{
	struct shmi_arena *a = hp->arena;
	uint64_t at, by, start, *mark;
	int err = shmi_chunk_stage(hp, n, &at, &by);

	if (err)
		return err;
	start = heap_slice_up(a->c.base + at);
	n = (a->c.base + at + by - start) / HEAP_SLICE;
	mark = mark_of(start);
	err = shmi_heap_have(hp, mark, 8);
	if (!err)
		err = shmi_chunk_table(hp, start, n, 0);
	if (err) {
		shmi_size_unstage(a);
		return err;
	}
	*mark = chunk_mark(hp, start);
	hp->h->grown_at = at;
	atomic_store_explicit(&hp->h->grown_by, by, memory_order_release);
	shmi_size_publish(a, at + by);
	enter_chunk(hp, start, n);
	*mark = 0;
	atomic_store_explicit(&hp->h->grown_by, 0, memory_order_release);
	return 0;
}

int shmi_chunk_map(const struct shmi_pages *how, uint64_t n, uint64_t *start)
{
	void *at;
	uint64_t len = (n + 1) * HEAP_SLICE, before;
	int err = shmi_page_map(how, NULL, len, &at);

	if (err)
		return err;
	*start = heap_slice_up((uintptr_t)at);
	/* What is over goes back, or nobody would ever give it back. Of huge pages,
	 * which are aligned, it may be a part of the last one: that is refused. */
	before = *start - (uintptr_t)at;
	if (before)
		shmi_page_unmap(at, before);
	shmi_page_unmap((void *)(uintptr_t)(*start + n * HEAP_SLICE),
			HEAP_SLICE - before);
	return 0;
}

void shmi_chunk_unmap(uint64_t start, uint64_t n)
{
	shmi_page_unmap((void *)(uintptr_t)start, n * HEAP_SLICE);
}

static int more_anonymous(struct shmi_heap *hp, uint64_t n)
{
	uint64_t start;
	int err = shmi_chunk_map(&hp->how, n, &start);

	if (err)
		return err;
	err = shmi_chunk_table(hp, start, n, 0);
	if (err)
		shmi_chunk_unmap(start, n);
	else
		enter_chunk(hp, start, n);
	return err;
}

static uint64_t good_length(const struct shmi_heap *hp)
{
	uint64_t have = shmi_heap_footprint(hp) / HEAP_SLICE;
	uint64_t n = have / SMALL_PART;
	bool whole = !hp->arena && (hp->how.populate || hp->how.how.huge);

	if (n > MANY_SLICES)
		n = MANY_SLICES;
	if (n < have / LARGE_PART && (!whole || hp->nchunks >= HEAP_CHUNKS / 2))
		n = have / LARGE_PART;
	if (n < FEW_SLICES)
		n = FEW_SLICES;
	return n < HEAP_COUNT / 2 ? n : HEAP_COUNT / 2;
}

/* Half as much again and again where there is no room, so that the last of it
 * is not taken in the smallest pieces. */
static int more(struct shmi_heap *hp, uint64_t n, uint64_t least)
{
	int err;

	for (;;) {
		if (n < least)
			n = least;
		err = hp->arena ? more_of_arena(hp, n) : more_anonymous(hp, n);
		if (err != -ENOMEM || n == least)
			return err;
		n /= 2;
	}
}

int shmi_heap_more(struct shmi_heap *hp, uint64_t nslices)
{
	uint64_t least;
	int cancel, err;

	if (!hp->growable || hp->nchunks == HEAP_CHUNKS || hp->h->grown_by)
		return -ENOMEM;
	/* The mark is in the first slice's last word, behind the table. */
	least = nslices + heap_slices(nslices * sizeof(uint32_t) + 64);
	if (least > HEAP_COUNT)
		return -ENOMEM;
	cancel = shmi_os_cancel_off();
	err = have_entry(hp, hp->nchunks);
	if (!err)
		err = more(hp, good_length(hp), least);
	shmi_os_cancel_restore(cancel);
	if (err)
		return err;
	err = shmi_chunk_copy(hp);
	if (!err && hp->h->peak < shmi_heap_footprint(hp))
		hp->h->peak = shmi_heap_footprint(hp);
	return err;
}

/* All of it is one free run, whose pages have been given back. */
static bool is_free(struct shmi_heap *hp, uint32_t i)
{
	const struct heap_at first = { i, hp->chunk[i].nhead };
	uint32_t word;

	if (hp->chunk[i].nhead >= hp->chunk[i].nslices)
		return false;
	word = shmi_run_word(hp, first);
	return !(word & (HEAP_USED | HEAP_KEPT)) &&
	       (word & HEAP_COUNT) == hp->chunk[i].nslices - hp->chunk[i].nhead;
}

static void drop_chunk(struct shmi_heap *hp, uint32_t i)
{
	hp->h->gen++; /* before nchunks: see above */
	/* release: who sees fewer chunks sees where they have gone. */
	atomic_store_explicit(&hp->h->nchunks, i, memory_order_release);
}

static bool less_of_arena(struct shmi_heap *hp, uint32_t i)
{
	struct shmi_arena *a = hp->arena;
	uint64_t start = hp->chunk[i].start, n = hp->chunk[i].nslices;
	uint64_t at = start - a->c.base;

	if (at + n * HEAP_SLICE != shmi_size_now(a) || at % a->c.pagesize ||
	    hp->h->grown_by)
		return false;
	/* Its page has been there since the chunk was made. */
	*mark_of(start) = chunk_mark(hp, start);
	hp->h->grown_at = at;
	atomic_store_explicit(&hp->h->grown_by, n * HEAP_SLICE,
			      memory_order_release);
	drop_chunk(hp, i);
	if (shmi_size_cut(a, at)) {
		shmi_chunk_finish(hp);
		return false;
	}
	atomic_store_explicit(&hp->h->grown_by, 0, memory_order_release);
	return true;
}

bool shmi_heap_less(struct shmi_heap *hp)
{
	uint32_t i = hp->nchunks - 1;
	uint64_t start = hp->chunk[i].start;
	bool done;

	if (!i || !hp->growable || !is_free(hp, i))
		return false;
	if (hp->arena) {
		done = less_of_arena(hp, i);
	} else {
		uint64_t n = hp->chunk[i].nslices;

		drop_chunk(hp, i);
		shmi_chunk_unmap(start, n);
		done = true;
	}
	return !shmi_chunk_copy(hp) && done;
}
