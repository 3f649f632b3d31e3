/* SPDX-License-Identifier: BSD-3-Clause */
/* run.h - a chunk's table, for run.c and its parts. Layer: run, over heap. */
#ifndef SHMI_RUN_H
#define SHMI_RUN_H

#include "heap.h"

#define KEEP_RUN 32u /* slices of a run that is kept, at most */

static inline _Atomic uint32_t *run_table(const struct shmi_heap *hp,
					  uint32_t chunk)
{
	return hp->chunk[chunk].table;
}

static inline uint32_t run_peek(const struct shmi_heap *hp, struct heap_at at)
{
	return atomic_load_explicit(run_table(hp, at.chunk) + at.slice,
				    memory_order_relaxed);
}

/* acquire: pairs with run_put(), so that what was done with a run before it was
 * freed is over. The length is bounded by the chunk, never 0. */
static inline uint32_t run_get(const struct shmi_heap *hp, struct heap_at at)
{
	uint32_t word = atomic_load_explicit(run_table(hp, at.chunk) + at.slice,
					     memory_order_acquire);
	uint32_t n = word & HEAP_COUNT;
	uint32_t left = hp->chunk[at.chunk].nslices - at.slice;

	if (!n || n > left)
		shmi_heap_die("table of runs overwritten",
			      run_table(hp, at.chunk) + at.slice, hp->h);
	return word;
}

/* release: see run_get(); and the word of a second part before the first one's */
static inline void run_put(const struct shmi_heap *hp, struct heap_at at,
			   uint32_t word)
{
	atomic_store_explicit(run_table(hp, at.chunk) + at.slice, word,
			      memory_order_release);
}

static inline struct heap_at run_next(struct heap_at at, uint32_t word)
{
	at.slice += word & HEAP_COUNT;
	return at;
}

static inline bool run_inside(const struct shmi_heap *hp, struct heap_at at)
{
	return at.slice < hp->chunk[at.chunk].nslices;
}

/* ----- run.c: under the lock ----- */

/* What the word says is kept, or not any more. */
void shmi_run_count_kept(const struct shmi_heap *hp, uint32_t word, bool more);
/* Two free runs, one behind the other, become one: its word. */
uint32_t shmi_run_join(struct shmi_heap *hp, struct heap_at at, uint32_t word,
		       struct heap_at behind, uint32_t other);
/* The free run @at, which becomes a part of the one before if they are alike. */
struct heap_at shmi_run_join_before(struct shmi_heap *hp, struct heap_at at);
/* One that has just become free is found from now on. */
void shmi_run_make_known(struct shmi_heap *hp, struct heap_at at);
/* Two free runs instead of one; the second's place. */
struct heap_at shmi_run_split(struct shmi_heap *hp, struct heap_at at,
			      uint32_t n);
/* A run of ours in use becomes a free one without pages, not yet joined. They
 * go back while the lock is free. -errno: it is not taken again. */
int shmi_run_empty(struct shmi_heap *hp, struct heap_at at);

#endif
