/* SPDX-License-Identifier: BSD-3-Clause */
/* span.h - spans of small blocks, and the threads that own them. Layer: heap.
 */
#ifndef SHMI_SPAN_H
#define SHMI_SPAN_H

#include "heap.h"
#include "heap_class.h"

/*
 * What a thread knows of a heap. Private, found through one thread-local
 * pointer, and void when the epoch has moved (thread.c).
 */
struct shmi_thread {
	struct heap_hdr *h;
	uint64_t epoch;
	uint64_t owner;	 /* our mark in the spans that are ours */
	uint64_t secret; /* the heap's */
	uintptr_t lo;	 /* memory in which a block of this heap may be, */
	uint64_t len;	 /* there for sure: no fault */
	struct shmi_heap *hp;
	struct heap_run *cur[HEAP_CLASSES]; /* never NULL */
	/* Our spans: a ring for each class, in one table. */
	struct shmi_own {
		struct heap_run *run; /* NULL: free entry */
		uint32_t next, prev;
	} * own;
	uint32_t room, spare;	      /* entries; first free one */
	uint32_t ring[HEAP_CLASSES];  /* entry of cur; NO_ENTRY: none */
	uint32_t count[HEAP_CLASSES]; /* in the ring */
	struct shmi_thread *next;     /* of the same thread */
};
#define SPAN_NO_ENTRY UINT32_MAX

/* ----- thread.c ----- */

extern _Thread_local struct shmi_thread *shmi_thread_last
	__attribute__((tls_model("initial-exec")));
/* The calling thread's, made if need be: 0 or -errno. */
int shmi_thread_get(struct heap_hdr *h, struct shmi_thread **out);
/* Whose block may be at @p; NULL: of no heap that is open here. */
struct shmi_thread *shmi_thread_around(const void *p);
void shmi_thread_refresh(struct shmi_thread *t);
int shmi_thread_room(struct shmi_thread *t); /* for one more span */

static inline bool shmi_thread_valid(const struct shmi_thread *t,
				     const struct heap_hdr *h)
{
	/* relaxed: who closes an arena or frees a heap while others use it is
	 * wrong in any order; a fork is ordered by itself */
	return t && t->h == h &&
	       t->epoch == atomic_load_explicit(&shmi_heap_epoch,
						memory_order_relaxed);
}

/* ----- span.c ----- */

void *shmi_span_malloc(struct shmi_thread *t, uint32_t class);
void shmi_span_free(struct shmi_thread *t, struct heap_run *r, void *p);
/* Start of the block that @p is in, or dies. */
char *shmi_span_block(const struct shmi_heap *hp, struct heap_run *r,
		      const void *p);
/* Gives up all spans of @t: to the heap, or as orphans. Takes the lock. */
void shmi_span_leave(struct shmi_thread *t);
/* Under the lock: takes back what the dead had in their hands; spans without a
 * block in use become free runs. Spans of @class go to @t, if it is not NULL:
 * whether any did. */
bool shmi_span_sweep(struct shmi_heap *hp, struct shmi_thread *t,
		     uint32_t class);
/* 0 or -EUCLEAN, as far as can be told while owners are at work. */
int shmi_span_check(const struct shmi_heap *hp, struct heap_run *r);
extern struct heap_run shmi_span_none;

#endif
