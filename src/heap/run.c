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
#include "heap.h"

#include "os.h"
#include "size.h"

#include <errno.h>

#define FLAGS (HEAP_DIRTY | HEAP_KEPT | HEAP_PART)
#define KEEP_RUN 32u		   /* slices of a run that is kept, at most */
#define KEEP_LARGE ((uint64_t)256) /* slices that a heap may keep, */
#define KEEP_SPANS ((uint64_t)16)  /* when a span is to be one of them; */
#define KEEP_PART 64		   /* or this part of it */

static inline _Atomic uint32_t *table(const struct shmi_heap *hp,
				      uint32_t chunk)
{
	return hp->chunk[chunk].table;
}

static uint32_t peek(const struct shmi_heap *hp, struct heap_at at)
{
	return atomic_load_explicit(table(hp, at.chunk) + at.slice,
				    memory_order_relaxed);
}

/* acquire: pairs with put(), so that what was done with a run before it was
 * freed is over. The length is bounded by the chunk, never 0. */
static inline uint32_t get(const struct shmi_heap *hp, struct heap_at at)
{
	uint32_t word = atomic_load_explicit(table(hp, at.chunk) + at.slice,
					     memory_order_acquire);
	uint32_t n = word & HEAP_COUNT;
	uint32_t left = hp->chunk[at.chunk].nslices - at.slice;

	if (!n || n > left)
		shmi_heap_die("table of runs overwritten",
			      table(hp, at.chunk) + at.slice, hp->h);
	return word;
}

/* release: see get(); and the word of a second part before the first one's */
static void put(const struct shmi_heap *hp, struct heap_at at, uint32_t word)
{
	atomic_store_explicit(table(hp, at.chunk) + at.slice, word,
			      memory_order_release);
}

static struct heap_at next(struct heap_at at, uint32_t word)
{
	at.slice += word & HEAP_COUNT;
	return at;
}

static bool inside(const struct shmi_heap *hp, struct heap_at at)
{
	return at.slice < hp->chunk[at.chunk].nslices;
}

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
	    (inside(hp, at) && !peek(hp, at)))
		at.slice = hp->chunk[chunk].nhead;
	return at;
}

static uint64_t kept(const struct shmi_heap *hp)
{
	return atomic_load_explicit(&hp->h->kept, memory_order_relaxed);
}

static void count_kept(const struct shmi_heap *hp, uint32_t word, bool more)
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
		for (; inside(hp, at); at = next(at, word)) {
			word = get(hp, at);
			if (!(word & HEAP_USED))
				count_kept(hp, word, true);
			for (i = 1; i < (word & HEAP_COUNT); i++)
				if (table(hp, at.chunk)[at.slice + i])
					put(hp,
					    (struct heap_at){ at.chunk,
							      at.slice + i },
					    0);
		}
	}
}

/* ----- free runs ----- */

/* Joins the free run at @at with the free one behind it. Pages count as kept
 * only where both parts' are, without a gap. */
static uint32_t join(struct shmi_heap *hp, struct heap_at at, uint32_t word,
		     struct heap_at behind, uint32_t other)
{
	uint32_t flags = (word | other) & HEAP_DIRTY;

	count_kept(hp, word, false);
	count_kept(hp, other, false);
	if (word & other & HEAP_KEPT && !(word & HEAP_PART))
		flags |= HEAP_KEPT | (other & HEAP_PART);
	word = flags | ((word & HEAP_COUNT) + (other & HEAP_COUNT));
	put(hp, at, word);
	put(hp, behind, 0); /* dying before this: repair */
	count_kept(hp, word, true);
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

	for (; inside(hp, at); at = next(at, word)) {
		word = get(hp, at);
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
		if (peek(hp, *before))
			return !(get(hp, *before) & HEAP_USED) &&
			       next(*before, get(hp, *before)).slice ==
				       at.slice;
	}
	return false;
}

/* A run that has just become free: joined with its like on both sides. */
static void settle(struct shmi_heap *hp, struct heap_at at)
{
	uint32_t word = get(hp, at), other;
	struct heap_at side = next(at, word);

	if (inside(hp, side) && alike(word, other = get(hp, side)))
		word = join(hp, at, word, side, other);
	if (free_before(hp, at, &side) && alike(other = get(hp, side), word)) {
		join(hp, side, other, at, word);
		at = side;
	}
	while (free_before(hp, at, &side))
		at = side;
	lower(hp, at, free_from(hp, at));
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
static struct heap_at split(struct shmi_heap *hp, struct heap_at at, uint32_t n)
{
	uint32_t word = get(hp, at), flags = word & (HEAP_DIRTY | HEAP_KEPT);
	struct heap_at rest = { at.chunk, at.slice + n };

	put(hp, rest, (word & FLAGS) | ((word & HEAP_COUNT) - n));
	put(hp, at, flags | n);
	return rest;
}

/* In one run whose pages are kept. */
static bool fits_kept(struct shmi_heap *hp, struct heap_at *at, uint32_t n,
		      uint64_t align)
{
	uint32_t word;

	for (; inside(hp, *at); *at = next(*at, word)) {
		word = get(hp, *at);
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
	word = get(hp, at);
	while ((word & HEAP_COUNT) < need)
		word = join(hp, at, word, next(at, word),
			    get(hp, next(at, word)));
	return true;
}

static bool find_in(struct shmi_heap *hp, uint32_t chunk, uint32_t n,
		    uint64_t align, bool kept, struct heap_at *out)
{
	uint32_t k = scale_of(n), seen = hp->chunk[chunk].nslices, len;
	struct heap_at at = first(hp, chunk, k);
	bool found = false;

	while (inside(hp, at) && !found) {
		if (get(hp, at) & HEAP_USED) {
			at = next(at, get(hp, at));
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
				*at = split(hp, *at, skip);
			return 0;
		}
		if (!pass)
			return -ENOMEM;
	}
}

uint32_t shmi_run_word(struct shmi_heap *hp, struct heap_at at)
{
	return get(hp, at);
}

/*
 * The fence is for the compiler, which must not write the head first: our death
 * cannot change the order of what the processor has done.
 */
void shmi_run_prepare(struct shmi_heap *hp, struct heap_at at, uint32_t n)
{
	if ((get(hp, at) & HEAP_COUNT) > n)
		split(hp, at, n);
	put(hp, at, get(hp, at) | HEAP_DIRTY);
	atomic_signal_fence(memory_order_release);
}

void shmi_run_take(struct shmi_heap *hp, struct heap_at at, uint32_t n,
		   bool part)
{
	uint32_t word = get(hp, at);

	count_kept(hp, word, false);
	put(hp, at, HEAP_USED | (part ? HEAP_PART : 0) | n);
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
	uint32_t word = get(hp, at);

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

	put(hp, at, word);
	atomic_store_explicit(&r->mark, 0, memory_order_relaxed);
	count_kept(hp, word, true);
}

void shmi_run_free(struct shmi_heap *hp, struct heap_run *r, uint32_t flags)
{
	struct heap_at at = where(hp, r);

	set_free(hp, at, flags);
	settle(hp, at);
}

/*
 * Takes the lock. Pages that do not stay go back outside of it, all but those
 * of the first slice, where the head says whose the run is: ours, so that a
 * sweep frees it if we die. The first slice's go when the run is free.
 */
void shmi_run_give(struct shmi_heap *hp, struct heap_run *r, bool part,
		   bool keep)
{
	uint32_t flags = HEAP_DIRTY | HEAP_KEPT, word, n;
	struct heap_at at;
	bool zero = true;

	if (shmi_heap_lock(hp))
		return;
	at = where(hp, r);
	word = get_used(hp, at);
	n = word & HEAP_COUNT;
	if (part || word & HEAP_PART)
		flags |= HEAP_PART;
	if (keep && may_keep(hp, r, n)) {
		set_free(hp, at, flags);
		settle(hp, at);
		shmi_heap_unlock(hp);
		return;
	}
	if (n > 1) {
		shmi_heap_unlock(hp);
		zero = !shmi_heap_punch(hp, heap_base(r) + HEAP_SLICE,
					(n - 1) * HEAP_SLICE);
		if (shmi_heap_lock(hp))
			return;
	}
	set_free(hp, at, HEAP_DIRTY);
	if (!shmi_heap_punch(hp, heap_slice(hp, at), HEAP_SLICE) && zero)
		put(hp, at, n);
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

	put(hp, rest, word - n);
	put(hp, at, HEAP_USED | n); /* dying before this: repair */
}

/* The end is cut off, and kept or given back. */
static void cut(struct shmi_heap *hp, struct heap_at at, uint32_t n)
{
	uint32_t word = get(hp, at), len = (word & HEAP_COUNT) - n;
	struct heap_at rest = { at.chunk, at.slice + n };
	uint32_t flags = HEAP_DIRTY | HEAP_KEPT | (word & HEAP_PART);
	struct heap_run *r = heap_head(heap_slice(hp, at));

	put(hp, rest, HEAP_DIRTY | len);
	put(hp, at, HEAP_USED | (has_holes(r) ? HEAP_PART : 0) | n);
	if (!may_keep(hp, r, len))
		flags = shmi_heap_punch(hp, heap_slice(hp, rest),
					len * HEAP_SLICE)
				? HEAP_DIRTY
				: 0;
	put(hp, rest, flags | len);
	count_kept(hp, flags | len, true);
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
		put(hp, at, word | HEAP_PART);
	if (n <= len)
		return 0;
	behind = (struct heap_at){ at.chunk, at.slice + len };
	if (!inside(hp, behind) || !fits_any(hp, behind, n - len, 0))
		return -ENOMEM;
	if ((get(hp, behind) & HEAP_COUNT) > n - len)
		split(hp, behind, n - len);
	word = get(hp, behind);
	count_kept(hp, word, false);
	put(hp, at, HEAP_USED | HEAP_PART | n);
	put(hp, behind, 0); /* dying before this: repair */
	return 0;
}

static uint32_t purge(struct shmi_heap *hp, struct heap_at at, uint32_t word)
{
	uint32_t n = word & HEAP_COUNT;

	count_kept(hp, word, false);
	put(hp, at, HEAP_DIRTY | n);
	if (!shmi_heap_punch(hp, heap_slice(hp, at), n * HEAP_SLICE))
		put(hp, at, n);
	return get(hp, at);
}

/* A death in the middle leaves a run dirty that is not: no harm. */
bool shmi_run_purge(struct shmi_heap *hp, uint64_t pad)
{
	uint64_t stay = pad / HEAP_SLICE + (pad % HEAP_SLICE != 0);
	struct heap_at at, before;
	bool any = false;
	uint32_t word;

	for (at.chunk = 0; at.chunk < hp->nchunks; at.chunk++) {
		at.slice = hp->chunk[at.chunk].nhead;
		for (; inside(hp, at); at = next(at, word)) {
			word = get(hp, at);
			if (word & HEAP_USED)
				continue;
			if (word & HEAP_KEPT && (word & HEAP_COUNT) <= stay) {
				stay -= word & HEAP_COUNT;
			} else if (word & (HEAP_DIRTY | HEAP_KEPT)) {
				word = purge(hp, at, word);
				any = true;
			}
			if (free_before(hp, at, &before) &&
			    alike(get(hp, before), word)) {
				word = join(hp, before, get(hp, before), at,
					    word);
				at = before;
			}
		}
	}
	return any;
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
		for (; inside(hp, at); at = to) {
			word = get(hp, at);
			to = next(at, word);
			if (!(word & HEAP_USED))
				continue;
			ret = each(hp, heap_head(heap_slice(hp, at)),
				   word & HEAP_COUNT, arg);
			if (ret)
				return ret;
			/* It may have been freed, and joined with the next. */
			while (inside(hp, to) && !peek(hp, to))
				to.slice++;
		}
	}
	return 0;
}

/* As get(), but a bad word is an answer. */
int shmi_run_check(struct shmi_heap *hp, uint64_t *nfree)
{
	struct heap_at at;
	uint32_t word, n;

	*nfree = 0;
	for (at.chunk = 0; at.chunk < hp->nchunks; at.chunk++) {
		at.slice = hp->chunk[at.chunk].nhead;
		for (; inside(hp, at); at.slice += n) {
			word = table(hp, at.chunk)[at.slice];
			n = word & HEAP_COUNT;
			if (!n || n > hp->chunk[at.chunk].nslices - at.slice)
				return -EUCLEAN;
			if (!(word & HEAP_USED))
				*nfree += n;
		}
	}
	return 0;
}

/* ----- pages; their system calls are cancellation points ----- */

int shmi_heap_fill(struct shmi_heap *hp, uintptr_t at, uint64_t len)
{
	uint64_t mask, page;
	int cancel, err;

	if (!hp->populate)
		return 0;
	page = hp->arena ? hp->arena->c.pagesize : shmi_os_pagesize();
	mask = page - 1;
	len = ((at + len + mask) & ~mask) - (at & ~mask);
	at &= ~mask;
	cancel = shmi_os_cancel_off();
	if (hp->arena)
		err = shmi_size_fill(hp->arena, at - hp->arena->c.base, len);
	else
		err = shmi_os_populate((void *)at, len, page);
	shmi_os_cancel_restore(cancel);
	return err;
}

int shmi_heap_punch(struct shmi_heap *hp, uintptr_t at, uint64_t len)
{
	uint64_t page = hp->arena ? hp->arena->c.pagesize : hp->how.pagesize;
	uintptr_t from = (at + page - 1) & ~(page - 1);
	uintptr_t end = (at + len) & ~(page - 1);
	int cancel, err;

	if (from >= end)
		return -EINVAL; /* less than a page: not zero either */
	cancel = shmi_os_cancel_off();
	err = shmi_os_discard((void *)from, end - from);
	shmi_os_cancel_restore(cancel);
	/* Its ends are as they were. */
	return from == at && end == at + len ? err : -EINVAL;
}
