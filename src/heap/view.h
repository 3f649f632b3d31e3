/* SPDX-License-Identifier: BSD-3-Clause */
/* view.h - what threads have at hand of heaps, and how it is taken from them.
 * Layer: view; knows nothing of heaps but their format. */
#ifndef SHMI_VIEW_H
#define SHMI_VIEW_H

#include "heap_layout.h"

#include <stdbool.h>

/* Moves when a heap may be gone or a process has forked. */
extern _Atomic uint64_t shmi_heap_epoch;

/*
 * The span in a slice; two to a line. The thread's own; or another's whose
 * blocks the thread has freed, and which may be gone: its head says so.
 */
struct heap_known {
	_Alignas(32) struct heap_run *blocks; /* where its blocks begin */
	_Atomic uint64_t *list; /* that takes its blocks: the span's state,
				 * or a stray list of the thread's */
	uint64_t mark;		/* in the head, while the span is there */
	uint32_t magic;		/* of its class (heap_class.h) */
	uint16_t ever; /* bytes of blocks that were used, as far as known:
			 * another's may have more; 0: there is no span */
};
#define HEAP_KNOWN 4096u /* slices, by number modulo this */

/*
 * One for each thread and heap. When the epoch moves it is void: @h is none
 * then, and @map empty. So the common malloc and free need not look at the
 * epoch, and the thread's next other call does (thread.c).
 */
struct shmi_view {
	/* relaxed, all of it: who closes an arena or frees a heap while others
	 * use it is wrong in any order; a fork is ordered by itself */
	_Atomic(struct heap_hdr *) h; /* SHMI_NO_HEAP: none */
	_Atomic uintptr_t map; /* HEAP_KNOWN of struct heap_known; + VIEW_OTHERS
				* if some may be others' spans */
	struct shmi_view *next, **at; /* of all threads */
	struct shmi_view *mine;	      /* next of the same thread */
	uint32_t number;	      /* of all views that are there, once */
};
#define VIEW_OTHERS ((uintptr_t)1)

extern struct heap_known shmi_view_empty[HEAP_KNOWN];
/* Not NULL, which is what a failed create returns. */
#define SHMI_NO_HEAP ((struct heap_hdr *)(void *)shmi_view_empty)

/* By the thread whose it is. Gives it a number, up to @most. */
void shmi_view_add(struct shmi_view *v, uint32_t most);
extern _Atomic uint64_t shmi_view_numbers; /* that were given out, ever */
void shmi_view_drop(struct shmi_view *v);
/* Every thread looks anew. */
void shmi_view_void(void);

/* In a forked child. */
void shmi_view_forked(void);

#endif
