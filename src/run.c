/* SPDX-License-Identifier: BSD-3-Clause */
/* run.c - runs of slices */
/*
 * The table of a chunk is the whole truth: from the first slice on, each run's
 * first word says how long it is, and the next run begins behind it. Words
 * inside of a run are not looked at. So a run is split by writing the word of
 * the second part, which nobody sees, and then the shorter first word; runs
 * are joined by one longer first word. Each step is one store, and a death
 * leaves the table as before or after it.
 *
 * A process remembers where it found room last (rotor), which may have come to
 * lie inside of a run. For its sake the words inside of runs are 0: joining
 * clears the word of the second one, after it. If somebody died in between,
 * the arena's count of deaths has moved, and the next one in the lock clears
 * them all (shmi_run_repair).
 *
 * All of it under the lock.
 */
#include "heap.h"

#include "os.h"
#include "size.h"

#include <errno.h>

static _Atomic uint32_t *table(const struct shmi_heap *hp, uint32_t chunk)
{
	uintptr_t start = hp->chunk[chunk].start;

	if (start == (uintptr_t)hp->h)
		start += sizeof(struct heap_hdr);
	return (_Atomic uint32_t *)start;
}

/* acquire: pairs with put(), so that what was done with a run before it was
 * freed is over. The length is bounded by the chunk, never 0. */
static uint32_t get(const struct shmi_heap *hp, struct heap_at at)
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

void shmi_run_repair(struct shmi_heap *hp)
{
	struct heap_at at;
	uint32_t word, i;

	for (at.chunk = 0; at.chunk < hp->nchunks; at.chunk++) {
		hp->chunk[at.chunk].rotor = 0;
		at.slice = hp->chunk[at.chunk].nhead;
		for (; inside(hp, at); at = next(at, word)) {
			word = get(hp, at);
			for (i = 1; i < (word & HEAP_COUNT); i++)
				if (table(hp, at.chunk)[at.slice + i])
					put(hp,
					    (struct heap_at){ at.chunk,
							      at.slice + i },
					    0);
		}
	}
}

/* Joins the free run at @at with the free ones behind it. */
static uint32_t join(struct shmi_heap *hp, struct heap_at at, uint32_t word)
{
	struct heap_at behind = next(at, word);
	uint32_t other;

	while (inside(hp, behind)) {
		other = get(hp, behind);
		if (other & HEAP_USED)
			break;
		word = ((word | other) & HEAP_DIRTY) |
		       ((word & HEAP_COUNT) + (other & HEAP_COUNT));
		put(hp, at, word);
		put(hp, behind, 0); /* dying before this: repair */
		behind = next(at, word);
	}
	return word;
}

/* How many slices of the free run to leave out for @align. */
static uint64_t lead(const struct shmi_heap *hp, struct heap_at at,
		     uint64_t align)
{
	uintptr_t second = (uintptr_t)heap_slice(hp, at) + HEAP_SLICE;

	if (align <= HEAP_SLICE)
		return 0;
	return (((second + align - 1) & ~(align - 1)) - second) / HEAP_SLICE;
}

static bool find_from(struct shmi_heap *hp, uint32_t chunk, uint32_t from,
		      uint32_t to, uint32_t n, uint64_t align,
		      struct heap_at *out, bool *dirty)
{
	struct heap_at at = { chunk, from };
	uint32_t word, len;
	uint64_t skip;

	for (; inside(hp, at) && at.slice < to; at = next(at, word)) {
		word = get(hp, at);
		if (word & HEAP_USED)
			continue;
		word = join(hp, at, word);
		len = word & HEAP_COUNT;
		skip = lead(hp, at, align);
		if (skip + n > len)
			continue;
		*dirty = word & HEAP_DIRTY;
		if (skip) {
			/* Two free runs instead of one: any reader may join
			 * them again, but the lock is ours. */
			out->chunk = chunk;
			out->slice = at.slice + (uint32_t)skip;
			put(hp, *out,
			    (word & HEAP_DIRTY) | (len - (uint32_t)skip));
			put(hp, at, (word & HEAP_DIRTY) | (uint32_t)skip);
		} else {
			*out = at;
		}
		return true;
	}
	return false;
}

int shmi_run_find(struct shmi_heap *hp, uint32_t n, uint64_t align,
		  struct heap_at *at, bool *dirty)
{
	uint32_t i, head, rotor;

	for (i = 0; i < hp->nchunks; i++) {
		head = hp->chunk[i].nhead;
		rotor = hp->chunk[i].rotor;
		if (rotor < head || rotor >= hp->chunk[i].nslices ||
		    !table(hp, i)[rotor])
			rotor = head;
		if (find_from(hp, i, rotor, UINT32_MAX, n, align, at, dirty) ||
		    find_from(hp, i, head, rotor, n, align, at, dirty)) {
			hp->chunk[i].rotor = at->slice;
			return 0;
		}
	}
	return -ENOMEM;
}

void shmi_run_take(struct shmi_heap *hp, struct heap_at at, uint32_t n)
{
	uint32_t word = get(hp, at), len = word & HEAP_COUNT;
	struct heap_at rest = { at.chunk, at.slice + n };

	if (len > n)
		put(hp, rest, (word & HEAP_DIRTY) | (len - n));
	put(hp, at, HEAP_USED | n);
	hp->chunk[at.chunk].rotor = len > n ? rest.slice : at.slice;
}

static struct heap_at where(struct shmi_heap *hp, const struct heap_run *r)
{
	uintptr_t p = (uintptr_t)r;
	struct heap_at at;

	for (at.chunk = 0; at.chunk < hp->nchunks; at.chunk++) {
		uint64_t off = p - hp->chunk[at.chunk].start;

		at.slice = (uint32_t)(off / HEAP_SLICE);
		if (off < hp->chunk[at.chunk].nslices * HEAP_SLICE &&
		    at.slice >= hp->chunk[at.chunk].nhead)
			return at;
	}
	shmi_heap_die("no run of this heap", r, hp->h);
}

uint32_t shmi_run_len(struct shmi_heap *hp, const struct heap_run *r)
{
	uint32_t word = get(hp, where(hp, r));

	if (!(word & HEAP_USED))
		shmi_heap_die("no run in use", r, hp->h);
	return word & HEAP_COUNT;
}

/*
 * The mark goes last: a run in use without one would be damage. If we die in
 * between, a second free of that address is not told from the first.
 */
void shmi_run_free(struct shmi_heap *hp, struct heap_run *r, bool dirty)
{
	struct heap_at at = where(hp, r);
	uint32_t n = shmi_run_len(hp, r);

	/* relaxed: a hint */
	if (dirty)
		atomic_fetch_add_explicit(&hp->h->dirty, n,
					  memory_order_relaxed);
	put(hp, at, (dirty ? HEAP_DIRTY : 0) | n);
	atomic_store_explicit(&r->mark, 0, memory_order_relaxed);
}

int shmi_run_resize(struct shmi_heap *hp, struct heap_run *r, uint32_t n)
{
	struct heap_at at = where(hp, r), rest;
	uint32_t len = shmi_run_len(hp, r), word, more;

	rest = (struct heap_at){ at.chunk, at.slice + n };
	if (n < len) {
		put(hp, rest, HEAP_DIRTY | (len - n));
		put(hp, at, HEAP_USED | n);
		return 0;
	}
	if (n == len)
		return 0;
	at.slice += len;
	if (!inside(hp, at))
		return -ENOMEM;
	word = get(hp, at);
	if (word & HEAP_USED)
		return -ENOMEM;
	word = join(hp, at, word);
	more = n - len;
	if ((word & HEAP_COUNT) < more)
		return -ENOMEM;
	if ((word & HEAP_COUNT) > more)
		put(hp, rest,
		    (word & HEAP_DIRTY) | ((word & HEAP_COUNT) - more));
	put(hp, where(hp, r), HEAP_USED | n);
	put(hp, at, 0); /* dying before this: repair */
	return 0;
}

/* A death in the middle leaves a run dirty that is not: no harm. */
void shmi_run_purge(struct shmi_heap *hp)
{
	struct heap_at at;
	uint32_t word;

	for (at.chunk = 0; at.chunk < hp->nchunks; at.chunk++) {
		at.slice = hp->chunk[at.chunk].nhead;
		for (; inside(hp, at); at = next(at, word)) {
			word = get(hp, at);
			if (word & HEAP_USED)
				continue;
			word = join(hp, at, word);
			if ((word & HEAP_DIRTY) &&
			    !shmi_heap_punch(hp, (uintptr_t)heap_slice(hp, at),
					     (word & HEAP_COUNT) * HEAP_SLICE))
				put(hp, at, word & HEAP_COUNT);
		}
	}
	atomic_store_explicit(&hp->h->dirty, 0, memory_order_relaxed);
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
			ret = each(hp, (struct heap_run *)heap_slice(hp, at),
				   word & HEAP_COUNT, arg);
			if (ret)
				return ret;
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

/* ----- pages ----- */

int shmi_heap_fill(struct shmi_heap *hp, uintptr_t at, uint64_t len)
{
	uint64_t mask, page;

	if (!hp->populate)
		return 0;
	page = hp->arena ? hp->arena->c.pagesize : shmi_os_pagesize();
	mask = page - 1;
	len = ((at + len + mask) & ~mask) - (at & ~mask);
	at &= ~mask;
	if (!hp->arena)
		return shmi_os_populate((void *)at, len, page);
	return shmi_size_fill(hp->arena, at - hp->arena->c.base, len);
}

int shmi_heap_punch(struct shmi_heap *hp, uintptr_t at, uint64_t len)
{
	uint64_t page = hp->arena ? hp->arena->c.pagesize : hp->how.pagesize;
	uintptr_t end = (at + len) & ~(page - 1);

	at = (at + page - 1) & ~(page - 1);
	if (at >= end)
		return -EINVAL; /* less than a page: not zero either */
	if (at % HEAP_SLICE || end - at != len) {
		shmi_os_discard((void *)at, end - at);
		return -EINVAL; /* its ends are not */
	}
	return shmi_os_discard((void *)at, end - at);
}
