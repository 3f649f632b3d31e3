/* SPDX-License-Identifier: BSD-3-Clause */
/* run.h - a chunk's table, for run.c and its parts. Layer: run, over heap. */
#ifndef SHMI_RUN_H
#define SHMI_RUN_H

#include "heap.h"

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

#endif
