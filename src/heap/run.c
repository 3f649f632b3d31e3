/* SPDX-License-Identifier: BSD-3-Clause */
/* run.c - runs of slices */
/*
 * The table of a chunk is the whole truth: from the first slice on, each run's
 * first word says how long it is, and the next run begins behind it. So a run
 * is split by writing the word of the second part, which nobody sees, and then
 * the shorter first word; runs are joined by one longer first word. Each step
 * is one store, and a death leaves the table as before or after it.
 *
 * Words inside of a run are 0, so that the run before one is found by going
 * back. Joining clears the word of the second run, after it. If somebody died
 * in between, the arena's count of deaths has moved, and the next one in the
 * lock clears them all, counts what is kept, and forgets the hints
 * (shmi_run_repair).
 *
 * A freed run of up to 2 MiB may keep its pages for the next user (HEAP_KEPT),
 * within a budget; anything else goes back to the system at once. In a run that is
 * kept or in use all pages are there, where the heap is populated, but for the
 * last slice's if it says HEAP_PART.
 *
 * Room is looked for from the lowest address on, in pages that are kept before
 * others. "low" says for each power of two where that can begin; a run that is
 * freed lowers it, a search that found nothing raises it.
 *
 * All of it under the lock. tests/model/run.pml is this for spin.
 */
#include "run.h"

#include <errno.h>

#define FLAGS (HEAP_DIRTY | HEAP_KEPT | HEAP_PART)
#define KEEP_LARGE ((uint64_t)256) /* slices that a heap may keep, */
#define KEEP_SPANS ((uint64_t)16)  /* when a span is to be one of them; */
#define KEEP_PART 64		   /* or this part of it */

/* ----- hints ----- */

static uint32_t scale_of(uint32_t n)
{
	uint32_t k = 31 - (uint32_t)__builtin_clz(n);

	return k < HEAP_SCALES ? k : HEAP_SCALES - 1;
}

/* relaxed, as "kept": only under the lock */
static uint32_t low(const struct shmi_heap *hp, uint32_t chunk, uint32_t k)
{
	return atomic_load_explicit(&hp->h->chunk[chunk].low[k],
				    memory_order_relaxed);
}

static void set_low(const struct shmi_heap *hp, uint32_t chunk, uint32_t k,
		    uint32_t slice)
{
	atomic_store_explicit(&hp->h->chunk[chunk].low[k], slice,
			      memory_order_relaxed);
}

static void lower(const struct shmi_heap *hp, struct heap_at at, uint32_t n)
{
	uint32_t k;

	for (k = 0; k <= scale_of(n); k++)
		if (low(hp, at.chunk, k) > at.slice)
			set_low(hp, at.chunk, k, at.slice);
}

/* Where a search for 2^k slices begins: a run, or the chunk's end. */
static struct heap_at first(const struct shmi_heap *hp, uint32_t chunk,
			    uint32_t k)
{
	struct heap_at at = { chunk, low(hp, chunk, k) };

	if (at.slice < hp->chunk[chunk].nhead ||
	    at.slice > hp->chunk[chunk].nslices ||
	    (run_inside(hp, at) && !run_peek(hp, at)))
		at.slice = hp->chunk[chunk].nhead;
	return at;
}

static uint64_t kept(const struct shmi_heap *hp)
{
	return atomic_load_explicit(&hp->h->kept, memory_order_relaxed);
}

void shmi_run_count_kept(const struct shmi_heap *hp, uint32_t word, bool more)
{
	uint64_t n = word & HEAP_COUNT;

	if (word & HEAP_KEPT)
		atomic_store_explicit(&hp->h->kept,
				      more ? kept(hp) + n : kept(hp) - n,
				      memory_order_relaxed);
}

/* relaxed: whose the run is wrote it, or died before */
static bool has_holes(const struct heap_run *r)
{
	return r->kind == HEAP_LARGE &&
	       atomic_load_explicit(&r->ready, memory_order_relaxed) ==
		       HEAP_HOLES;
}

/* @n slices of the run @r. */
static bool may_keep(const struct shmi_heap *hp, const struct heap_run *r,
		     uint32_t n)
{
	uint64_t most = shmi_heap_footprint(hp) / HEAP_SLICE / KEEP_PART;
	uint64_t least = r->kind == HEAP_LARGE ? KEEP_LARGE : KEEP_SPANS;

	return !has_holes(r) && n <= KEEP_RUN &&
	       kept(hp) + n <= (most > least ? most : least);
}

void shmi_run_repair(struct shmi_heap *hp)
{
	struct heap_at at;
	uint32_t word, i;

	atomic_store_explicit(&hp->h->kept, 0, memory_order_relaxed);
	for (at.chunk = 0; at.chunk < hp->nchunks; at.chunk++) {
		for (i = 0; i < HEAP_SCALES; i++)
			set_low(hp, at.chunk, i, 0);
		at.slice = hp->chunk[at.chunk].nhead;
		for (; run_inside(hp, at); at = run_next(at, word)) {
			word = run_get(hp, at);
			if (!(word & HEAP_USED))
				shmi_run_count_kept(hp, word, true);
			for (i = 1; i < (word & HEAP_COUNT); i++)
				if (run_table(hp, at.chunk)[at.slice + i])
					run_put(hp,
						(struct heap_at){ at.chunk,
								  at.slice +
									  i },
						0);
		}
	}
}

/* ----- free runs ----- */

/* Joins the free run at @at with the free one behind it. Pages count as kept
 * only where both parts' are, without a gap. */
uint32_t shmi_run_join(struct shmi_heap *hp, struct heap_at at, uint32_t word,
		       struct heap_at behind, uint32_t other)
{
	uint32_t flags = (word | other) & HEAP_DIRTY;

	shmi_run_count_kept(hp, word, false);
	shmi_run_count_kept(hp, other, false);
	if (word & other & HEAP_KEPT && !(word & HEAP_PART))
		flags |= HEAP_KEPT | (other & HEAP_PART);
	word = flags | ((word & HEAP_COUNT) + (other & HEAP_COUNT));
	run_put(hp, at, word);
	run_put(hp, behind, 0); /* dying before this: repair */
	shmi_run_count_kept(hp, word, true);
	return word;
}

/* Whether nothing is lost by joining them. */
static bool alike(uint32_t word, uint32_t other)
{
	return !((word | other) & HEAP_USED) &&
	       (word & HEAP_KEPT) == (other & HEAP_KEPT) && !(word & HEAP_PART);
}

/* How many slices are free from @at on, in one or more runs. */
static uint32_t free_from(struct shmi_heap *hp, struct heap_at at)
{
	uint32_t word, n = 0;

	for (; run_inside(hp, at); at = run_next(at, word)) {
		word = run_get(hp, at);
		if (word & HEAP_USED)
			break;
		n += word & HEAP_COUNT;
	}
	return n;
}

/* The run before @at, if there is one and it is free. */
static bool free_before(struct shmi_heap *hp, struct heap_at at,
			struct heap_at *before)
{
	*before = at;
	while (before->slice > hp->chunk[at.chunk].nhead) {
		before->slice--;
		if (run_peek(hp, *before))
			return !(run_get(hp, *before) & HEAP_USED) &&
			       run_next(*before, run_get(hp, *before)).slice ==
				       at.slice;
	}
	return false;
}

/* The free run @at, which becomes a part of the one before if they are alike. */
struct heap_at shmi_run_join_before(struct shmi_heap *hp, struct heap_at at)
{
	uint32_t word = run_get(hp, at), other;
	struct heap_at side;

	if (!free_before(hp, at, &side) ||
	    !alike(other = run_get(hp, side), word))
		return at;
	shmi_run_join(hp, side, other, at, word);
	return side;
}

/* A run that has just become free lowers the hints. */
void shmi_run_make_known(struct shmi_heap *hp, struct heap_at at)
{
	struct heap_at side;

	while (free_before(hp, at, &side))
		at = side;
	lower(hp, at, free_from(hp, at));
}

/* The same, and it is joined with its like on both sides. */
static void settle(struct shmi_heap *hp, struct heap_at at)
{
	uint32_t word = run_get(hp, at), other;
	struct heap_at side = run_next(at, word);

	if (run_inside(hp, side) && alike(word, other = run_get(hp, side)))
		shmi_run_join(hp, at, word, side, other);
	shmi_run_make_known(hp, shmi_run_join_before(hp, at));
}

/* How many slices of free ones at @at to leave out for @align. */
static uint64_t lead(const struct shmi_heap *hp, struct heap_at at,
		     uint64_t align)
{
	uintptr_t second = heap_slice(hp, at) + HEAP_SLICE;

	if (align <= HEAP_SLICE)
		return 0;
	return (((second + align - 1) & ~(align - 1)) - second) / HEAP_SLICE;
}

/* Two free runs instead of one; the second's place. */
struct heap_at shmi_run_split(struct shmi_heap *hp, struct heap_at at,
			      uint32_t n)
{
	uint32_t word = run_get(hp, at),
		 flags = word & (HEAP_DIRTY | HEAP_KEPT);
	struct heap_at rest = { at.chunk, at.slice + n };

	run_put(hp, rest, (word & FLAGS) | ((word & HEAP_COUNT) - n));
	run_put(hp, at, flags | n);
	return rest;
}

/* In one run whose pages are kept. */
static bool fits_kept(struct shmi_heap *hp, struct heap_at *at, uint32_t n,
		      uint64_t align)
{
	uint32_t word;

	for (; run_inside(hp, *at); *at = run_next(*at, word)) {
		word = run_get(hp, *at);
		if (word & HEAP_USED)
			return false;
		if (word & HEAP_KEPT &&
		    lead(hp, *at, align) + n <= (word & HEAP_COUNT))
			return true;
	}
	return false;
}

/* In as many runs as it takes, which become one. */
static bool fits_any(struct shmi_heap *hp, struct heap_at at, uint32_t n,
		     uint64_t align)
{
	uint64_t need = lead(hp, at, align) + n;
	uint32_t word;

	if (free_from(hp, at) < need)
		return false;
	word = run_get(hp, at);
	while ((word & HEAP_COUNT) < need)
		word = shmi_run_join(hp, at, word, run_next(at, word),
				     run_get(hp, run_next(at, word)));
	return true;
}

static bool find_in(struct shmi_heap *hp, uint32_t chunk, uint32_t n,
		    uint64_t align, bool kept, struct heap_at *out)
{
	uint32_t k = scale_of(n), seen = hp->chunk[chunk].nslices, len;
	struct heap_at at = first(hp, chunk, k);
	bool found = false;

	while (run_inside(hp, at) && !found) {
		if (run_get(hp, at) & HEAP_USED) {
			at = run_next(at, run_get(hp, at));
			continue;
		}
		len = free_from(hp, at);
		if (len >> k && seen > at.slice)
			seen = at.slice;
		*out = at;
		if (len >= n)
			found = kept ? fits_kept(hp, out, n, align)
				     : fits_any(hp, at, n, align);
		at.slice += len;
	}
	set_low(hp, chunk, k, seen);
	return found;
}

int shmi_run_find(struct shmi_heap *hp, uint32_t n, uint64_t align,
		  struct heap_at *at)
{
	uint32_t i, pass = kept(hp) >= n, skip;

	for (;; pass--) {
		for (i = 0; i < hp->nchunks; i++) {
			if (!find_in(hp, i, n, align, pass, at))
				continue;
			skip = (uint32_t)lead(hp, *at, align);
			if (skip)
				*at = shmi_run_split(hp, *at, skip);
			return 0;
		}
		if (!pass)
			return -ENOMEM;
	}
}

uint32_t shmi_run_word(struct shmi_heap *hp, struct heap_at at)
{
	return run_get(hp, at);
}

/* Of a kept run only the last slice's can be missing. */
bool shmi_run_there(const struct shmi_heap *hp, uint32_t word)
{
	return hp->populate && word & HEAP_KEPT &&
	       !(word & HEAP_PART && (word & HEAP_COUNT) == 1);
}

/*
 * The fence is for the compiler, which must not write the head first: our death
 * cannot change the order of what the processor has done.
 */
void shmi_run_prepare(struct shmi_heap *hp, struct heap_at at, uint32_t n)
{
	if ((run_get(hp, at) & HEAP_COUNT) > n)
		shmi_run_split(hp, at, n);
	run_put(hp, at, run_get(hp, at) | HEAP_DIRTY);
	atomic_signal_fence(memory_order_release);
}

void shmi_run_head(struct shmi_heap *hp, struct heap_run *r, uint64_t owner,
		   const void *block, uint64_t len)
{
	r->heap = (uintptr_t)hp->h;
	r->kind = HEAP_LARGE;
	r->len = len;
	r->block = (uintptr_t)block;
	/* release: the run is taken by a store after these */
	atomic_store_explicit(&r->owner, owner, memory_order_release);
	atomic_store_explicit(&r->mark, heap_mark(hp, r, HEAP_LARGE),
			      memory_order_release);
}

void shmi_run_take(struct shmi_heap *hp, struct heap_at at, uint32_t n,
		   bool part)
{
	uint32_t word = run_get(hp, at);

	shmi_run_count_kept(hp, word, false);
	run_put(hp, at, HEAP_USED | (part ? HEAP_PART : 0) | n);
}

static struct heap_at where(struct shmi_heap *hp, const struct heap_run *r)
{
	uintptr_t p = (uintptr_t)r;
	struct heap_at at = { .chunk = hp->last };
	uint32_t i;

	for (i = 0; i < hp->nchunks; i++) {
		if (at.chunk >= hp->nchunks)
			at.chunk = 0;
		uint64_t off = p - hp->chunk[at.chunk].start;

		at.slice = (uint32_t)(off / HEAP_SLICE);
		if (off < hp->chunk[at.chunk].nslices * HEAP_SLICE &&
		    at.slice >= hp->chunk[at.chunk].nhead) {
			hp->last = at.chunk;
			return at;
		}
		at.chunk++;
	}
	shmi_heap_die("no run of this heap", r, hp->h);
}

/* The word of a run that is in use. */
static uint32_t get_used(struct shmi_heap *hp, struct heap_at at)
{
	uint32_t word = run_get(hp, at);

	if (!(word & HEAP_USED))
		shmi_heap_die("no run in use", heap_head(heap_slice(hp, at)),
			      hp->h);
	return word;
}

/*
 * The mark goes last: a run in use without one would be damage. If we die in
 * between, a second free of that address is not told from the first.
 */
static void set_free(struct shmi_heap *hp, struct heap_at at, uint32_t flags)
{
	uint32_t word = flags | (get_used(hp, at) & HEAP_COUNT);
	struct heap_run *r = heap_head(heap_slice(hp, at));

	run_put(hp, at, word);
	atomic_store_explicit(&r->mark, 0, memory_order_relaxed);
	shmi_run_count_kept(hp, word, true);
}

void shmi_run_free(struct shmi_heap *hp, struct heap_run *r, uint32_t flags)
{
	struct heap_at at = where(hp, r);

	set_free(hp, at, flags);
	settle(hp, at);
}

/*
 * A run of ours in use becomes a free one without pages, but is not yet joined
 * with others. Its pages go back outside of the lock, all but those of the first
 * slice, where the head says whose the run is: ours, so that a sweep frees it if
 * we die. The first slice's go when the run is free. -errno: without the lock.
 */
int shmi_run_empty(struct shmi_heap *hp, struct heap_at at)
{
	uint32_t n = get_used(hp, at) & HEAP_COUNT;
	uint64_t mask = heap_pagesize(hp) - 1;
	uintptr_t start = heap_slice(hp, at), end = start + n * HEAP_SLICE;
	uintptr_t second = (start + HEAP_SLICE + mask) & ~mask;
	bool zero = true;
	int err;

	if (second < end) {
		shmi_heap_unlock(hp);
		zero = !shmi_heap_punch(hp, second, end - second);
		err = shmi_heap_lock(hp);
		if (err)
			return err;
	} else {
		second = end;
	}
	set_free(hp, at, HEAP_DIRTY);
	if (!shmi_heap_punch(hp, start, second - start) && zero)
		run_put(hp, at, n);
	return 0;
}

/* Takes the lock. What does not stay is emptied. */
void shmi_run_give(struct shmi_heap *hp, struct heap_run *r, bool part,
		   bool keep)
{
	uint32_t flags = HEAP_DIRTY | HEAP_KEPT, word;
	struct heap_at at;

	if (shmi_heap_lock(hp))
		return;
	at = where(hp, r);
	word = get_used(hp, at);
	if (part || word & HEAP_PART)
		flags |= HEAP_PART;
	if (keep && may_keep(hp, r, word & HEAP_COUNT))
		set_free(hp, at, flags);
	else if (shmi_run_empty(hp, at))
		return;
	settle(hp, at);
	shmi_heap_unlock(hp);
}

uint32_t shmi_run_len(struct shmi_heap *hp, const struct heap_run *r)
{
	return get_used(hp, where(hp, r)) & HEAP_COUNT;
}

void shmi_run_part(struct shmi_heap *hp, const struct heap_run *r, uint32_t n)
{
	struct heap_at at = where(hp, r), rest = { at.chunk, at.slice + n };
	uint32_t word = get_used(hp, at);

	run_put(hp, rest, word - n);
	run_put(hp, at, HEAP_USED | n); /* dying before this: repair */
}

/* The end is cut off, and kept or given back. */
static void cut(struct shmi_heap *hp, struct heap_at at, uint32_t n)
{
	uint32_t word = run_get(hp, at), len = (word & HEAP_COUNT) - n;
	struct heap_at rest = { at.chunk, at.slice + n };
	uint32_t flags = HEAP_DIRTY | HEAP_KEPT | (word & HEAP_PART);
	struct heap_run *r = heap_head(heap_slice(hp, at));

	run_put(hp, rest, HEAP_DIRTY | len);
	run_put(hp, at, HEAP_USED | (has_holes(r) ? HEAP_PART : 0) | n);
	if (!may_keep(hp, r, len))
		flags = shmi_heap_punch(hp, heap_slice(hp, rest),
					len * HEAP_SLICE)
				? HEAP_DIRTY
				: 0;
	run_put(hp, rest, flags | len);
	shmi_run_count_kept(hp, flags | len, true);
	settle(hp, rest);
}

int shmi_run_resize(struct shmi_heap *hp, struct heap_run *r, uint32_t n)
{
	struct heap_at at = where(hp, r), behind;
	uint32_t word = get_used(hp, at), len = word & HEAP_COUNT;

	if (n < len)
		cut(hp, at, n);
	/* Somebody who died may have punched out its end. */
	if (n == len && has_holes(r))
		run_put(hp, at, word | HEAP_PART);
	if (n <= len)
		return 0;
	behind = (struct heap_at){ at.chunk, at.slice + len };
	if (!run_inside(hp, behind) || !fits_any(hp, behind, n - len, 0))
		return -ENOMEM;
	if ((run_get(hp, behind) & HEAP_COUNT) > n - len)
		shmi_run_split(hp, behind, n - len);
	word = run_get(hp, behind);
	shmi_run_count_kept(hp, word, false);
	run_put(hp, at, HEAP_USED | HEAP_PART | n);
	run_put(hp, behind, 0); /* dying before this: repair */
	return 0;
}

int shmi_run_each(struct shmi_heap *hp,
		  int (*each)(struct shmi_heap *hp, struct heap_run *r,
			      uint32_t n, void *arg),
		  void *arg)
{
	struct heap_at at, to;
	uint32_t word;
	int ret;

	for (at.chunk = 0; at.chunk < hp->nchunks; at.chunk++) {
		at.slice = hp->chunk[at.chunk].nhead;
		for (; run_inside(hp, at); at = to) {
			word = run_get(hp, at);
			to = run_next(at, word);
			if (!(word & HEAP_USED))
				continue;
			ret = each(hp, heap_head(heap_slice(hp, at)),
				   word & HEAP_COUNT, arg);
			if (ret)
				return ret;
			/* It may have been freed, and joined with the next. */
			while (run_inside(hp, to) && !run_peek(hp, to))
				to.slice++;
		}
	}
	return 0;
}

/* As run_get(), but a bad word is an answer. */
int shmi_run_check(struct shmi_heap *hp, uint64_t *nfree)
{
	struct heap_at at;
	uint32_t word, n;

	*nfree = 0;
	for (at.chunk = 0; at.chunk < hp->nchunks; at.chunk++) {
		at.slice = hp->chunk[at.chunk].nhead;
		for (; run_inside(hp, at); at.slice += n) {
			word = run_table(hp, at.chunk)[at.slice];
			n = word & HEAP_COUNT;
			if (!n || n > hp->chunk[at.chunk].nslices - at.slice)
				return -EUCLEAN;
			if (!(word & HEAP_USED))
				*nfree += n;
		}
	}
	return 0;
}
