/* SPDX-License-Identifier: BSD-3-Clause */
/* run_trim.c - free runs' pages go back to the system */
/*
 * That takes the system about 0.1 ms for each MiB of small pages, and a heap may
 * keep many. So trim does it piece by piece, and while others
 * have the lock: it takes a piece out of the free runs, as a large block of its
 * own that is being freed. Whoever dies there leaves it to the next sweep. Others
 * do without it meanwhile, as without what any thread holds.
 *
 * This needs a head in the piece. Where its page may be missing and cannot be
 * had, the piece stays where it is, and its pages go back under the lock, which
 * others can have before the next one.
 *
 * So do huge pages, which take about 1 us each. They go by whole pages of all
 * that is free side by side, and not by runs.
 */
#include "run.h"

#define SHARE 16u      /* of a longer run, a piece */
#define HUGE_PIECE 64u /* pages */

/* How far trim has come: @done slices of the run at @run. */
struct cursor {
	struct heap_at run;
	uint32_t done;
	uint64_t stay; /* slices that are kept, yet to be met */
};

static uint32_t length(const struct shmi_heap *hp, struct heap_at at)
{
	return run_get(hp, at) & HEAP_COUNT;
}

/* The run that the cursor is in. Others may have had the lock. */
static struct heap_at run_at(const struct shmi_heap *hp, const struct cursor *c)
{
	struct heap_at at = c->run;

	if (!run_inside(hp, at) ||
	    (run_peek(hp, at) && length(hp, at) > c->done))
		return at;
	at.slice += c->done;
	while (run_inside(hp, at) && !run_peek(hp, at))
		at.slice--;
	return at;
}

static bool stays(const struct cursor *c, uint32_t word, uint32_t n)
{
	return word & HEAP_KEPT && n <= c->stay;
}

/* Goes on to the next free run that has pages to give back. */
static bool find_full(struct shmi_heap *hp, struct cursor *c)
{
	uint32_t word, n, passed;
	struct heap_at at;

	for (; c->run.chunk < hp->nchunks; c->run.chunk++, c->run.slice = 0) {
		if (c->run.slice < hp->chunk[c->run.chunk].nhead) {
			c->run.slice = hp->chunk[c->run.chunk].nhead;
			c->done = 0;
		}
		passed = c->run.slice + c->done;
		at = run_at(hp, c);
		for (; run_inside(hp, at); at = run_next(at, word)) {
			word = run_get(hp, at);
			if (word & HEAP_USED)
				continue;
			c->run = at;
			c->done = passed > at.slice ? passed - at.slice : 0;
			n = (word & HEAP_COUNT) - c->done;
			if (word & (HEAP_DIRTY | HEAP_KEPT) &&
			    !stays(c, word, n))
				return true;
			if (word & HEAP_KEPT)
				c->stay -= n;
			shmi_run_join_before(hp, at);
		}
	}
	return false;
}

static int let_others_in(struct shmi_heap *hp)
{
	shmi_heap_unlock(hp);
	return shmi_heap_lock(hp);
}

/* ----- small pages ----- */

/* The first @n slices of the free run become a large one of ours that is being
 * freed, if there is a page for its head. */
static bool take_in_hand(struct shmi_heap *hp, uint64_t owner,
			 struct heap_at at, uint32_t n)
{
	struct heap_run *r = heap_head(heap_slice(hp, at));

	if (!shmi_run_there(hp, run_get(hp, at)) &&
	    shmi_heap_have(hp, r, sizeof(*r)))
		return false;
	shmi_run_prepare(hp, at, n);
	shmi_run_head(hp, r, owner, r + 1, 0);
	shmi_run_take(hp, at, n, false);
	return true;
}

/* The same without a head. Dying before it is zero it is dirty: no harm. */
static int empty_inside(struct shmi_heap *hp, struct heap_at at, uint32_t n)
{
	if (length(hp, at) > n)
		shmi_run_split(hp, at, n);
	shmi_run_count_kept(hp, run_get(hp, at), false);
	run_put(hp, at, HEAP_DIRTY | n);
	if (!shmi_heap_punch(hp, heap_slice(hp, at), n * HEAP_SLICE))
		run_put(hp, at, n);
	shmi_run_join_before(hp, at);
	return let_others_in(hp);
}

/*
 * A piece of the run. It is joined with what is before it only, and when it has
 * been emptied: all of a run is dirty if a part of it is. -errno: without the
 * lock.
 */
static int purge(struct shmi_heap *hp, uint64_t owner, struct cursor *c)
{
	struct heap_at at = c->run;
	uint32_t n;
	int err;

	if (c->done)
		at = shmi_run_split(hp, at, c->done);
	n = length(hp, at);
	if (n > KEEP_RUN)
		n = n / SHARE > KEEP_RUN ? n / SHARE : KEEP_RUN;
	c->run.slice = at.slice + n;
	c->done = 0;
	if (!take_in_hand(hp, owner, at, n))
		return empty_inside(hp, at, n);
	err = shmi_run_empty(hp, at);
	if (!err)
		shmi_run_make_known(hp, shmi_run_join_before(hp, at));
	return err;
}

/* ----- huge pages ----- */

/* The run, what is free before it and what is behind it and goes as well become
 * one, which is dirty. */
static void gather(struct shmi_heap *hp, struct cursor *c)
{
	uint32_t n = length(hp, c->run), word = HEAP_DIRTY | n, other;
	struct heap_at start, next;

	shmi_run_count_kept(hp, run_get(hp, c->run), false);
	run_put(hp, c->run, word);
	for (next = run_next(c->run, word); run_inside(hp, next);
	     next = run_next(next, other)) {
		other = run_get(hp, next);
		if (other & HEAP_USED || stays(c, other, other & HEAP_COUNT))
			break;
		word = shmi_run_join(hp, c->run, word, next, other);
	}
	start = shmi_run_join_before(hp, c->run);
	c->done += c->run.slice - start.slice;
	c->run = start;
}

/* Up to HUGE_PIECE pages from the cursor's on. -errno: without the lock. */
static int purge_huge(struct shmi_heap *hp, struct cursor *c)
{
	uint64_t page = heap_pagesize(hp);
	uintptr_t start, from, to, end;
	bool zero;

	gather(hp, c);
	start = heap_slice(hp, c->run);
	end = start + length(hp, c->run) * HEAP_SLICE;
	from = (start + c->done * HEAP_SLICE) & ~(page - 1);
	to = from + HUGE_PIECE * page;
	from = from > start ? from : start;
	to = to < end ? to : end;
	zero = !shmi_heap_punch(hp, from, to - from);
	if (zero && from == start && to == end)
		run_put(hp, c->run, length(hp, c->run));
	c->done = (uint32_t)((to - start) / HEAP_SLICE);
	return let_others_in(hp);
}

int shmi_run_purge(struct shmi_heap *hp, uint64_t owner, uint64_t pad,
		   bool *any)
{
	struct cursor c = { .stay = pad / HEAP_SLICE +
				    (pad % HEAP_SLICE != 0) };
	int err = shmi_heap_lock(hp);

	*any = false;
	while (!err && find_full(hp, &c)) {
		*any = true;
		err = heap_pagesize(hp) > HEAP_SLICE ? purge_huge(hp, &c)
						     : purge(hp, owner, &c);
	}
	if (!err)
		shmi_heap_unlock(hp);
	return err;
}
