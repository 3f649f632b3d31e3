/* SPDX-License-Identifier: BSD-3-Clause */
/* span.h - spans of small blocks, and the threads that own them: the common
 * malloc and free. Layer: heap. */
#ifndef SHMI_SPAN_H
#define SHMI_SPAN_H

#include "heap.h"
#include "heap_class.h"
#include "poison.h"

#define SPAN_HELD 16u

/*
 * What a thread knows of a heap. Private, found through one thread-local
 * pointer, and void when the epoch has moved (thread.c).
 */
struct shmi_thread {
	struct shmi_view view;
	uint64_t secret; /* the heap's */
	uint64_t end;	 /* SPAN_END, one instruction nearer */
	/* Where blocks that lists lead to may be: there, so no fault, as far as
	 * span_in_16() of it is less. In memory of this process's own nobody forges
	 * lists. */
	uintptr_t from;
	uint64_t places;
	/* Where blocks of up to 16 * i bytes come from: the state of cur, or a
	 * stray list. */
	_Atomic uint64_t *quick[HEAP_QUICK / 16 + 1];
	/* From here on for the slow ways. */
	struct shmi_of_class {
		_Alignas(32) struct heap_run *cur; /* never NULL */
		/* Span of ours that has the stray list; NULL: none. */
		struct heap_run *home;
		uint32_t ring;	/* entry of cur; NO_ENTRY: none */
		uint32_t count; /* in the ring */
		bool full;	/* there was no room for a stray */
	} of[HEAP_KINDS];
	uint32_t homes; /* of all classes */
	struct heap_hdr *h;
	uint64_t epoch;
	uintptr_t lo; /* memory in which a head of this heap may be: no fault */
	uint64_t len;
	uint64_t owner;	  /* our mark in the spans that are ours */
	unsigned long id; /* hp's */
	struct shmi_heap *hp;
	struct heap_known *map; /* for the view */
	/* Our spans: a ring for each class, in one table. */
	struct shmi_own {
		struct heap_run *run; /* NULL: free entry */
		uint32_t next, prev;
		uint32_t bytes; /* of all its blocks */
		uint8_t class;
		bool idle; /* no block in use, and kept for the next ones */
	} * own;
	uint32_t room, spare; /* entries; first free one */
	uint32_t spans, idle; /* in all rings */
	uint32_t hand;	      /* entry where the next look begins */
	/* Runs of large blocks that were freed (large.c), oldest first or so. */
	struct {
		struct heap_run *run;
		uint32_t nslices;
	} held[SPAN_HELD];
	uint32_t nheld, held_slices;
	struct shmi_thread *next; /* of the same thread */
};
#define SPAN_NO_ENTRY UINT32_MAX

/* ----- thread.c ----- */

/* Never NULL: at first one that is no heap's. */
extern _Thread_local struct shmi_thread *shmi_thread_last
	__attribute__((tls_model("initial-exec")));
/* The calling thread's, made if need be: 0 or -errno. */
int shmi_thread_get(struct heap_hdr *h, struct shmi_thread **out);
/* Whose block may be at @p; NULL: of no heap that is open here. */
struct shmi_thread *shmi_thread_around(const void *p);
void shmi_thread_refresh(struct shmi_thread *t);
int shmi_thread_room(struct shmi_thread *t);	  /* for one more span */
void shmi_thread_show_map(struct shmi_thread *t); /* homes is, or was, 0 */

static inline bool shmi_thread_valid(struct shmi_thread *t,
				     const struct heap_hdr *h)
{
	return atomic_load_explicit(&t->view.h, memory_order_relaxed) == h;
}

/* ----- ring.c ----- */

static inline struct heap_known *shmi_ring_known(const struct shmi_thread *t,
						 const struct heap_run *r)
{
	return &t->map[(uintptr_t)r / HEAP_SLICE % HEAP_KNOWN];
}

/* A span that has become @t's, which has room for it: the current one. */
void shmi_ring_add(struct shmi_thread *t, uint32_t class, struct heap_run *r);
/* So many bytes of its blocks have been used now. */
void shmi_ring_used(struct shmi_thread *t, const struct heap_run *r,
		    uint32_t ever);
/* Entry @e is the thread's no more. */
void shmi_ring_drop(struct shmi_thread *t, uint32_t class, uint32_t e);
/* Entry @e, or none, is the one that blocks come from. */
void shmi_ring_make_current(struct shmi_thread *t, uint32_t class, uint32_t e);
/* The list that the common malloc takes blocks from. */
void shmi_ring_aim(struct shmi_thread *t, uint32_t class,
		   _Atomic uint64_t *list);
/* A full span has room again: the next one to be looked at. */
void shmi_ring_next(struct shmi_thread *t, uint32_t class, uint32_t e);
/* The span's entry; its hint is in shared memory. Or dies. */
uint32_t shmi_ring_entry(const struct shmi_thread *t, const struct heap_run *r);
/* From now on the thread knows another's span, if it has a home for its
 * strays. */
void shmi_ring_know_other(struct shmi_thread *t, struct heap_run *r,
			  uint32_t class);
/* The span is to go: if it is a home, what the thread knows of others' spans
 * must not lead there. */
void shmi_ring_leave_home(struct shmi_thread *t, struct heap_run *r,
			  uint32_t class);

/* ----- span.c ----- */

void *shmi_span_malloc(struct shmi_thread *t, uint32_t class);
void shmi_span_free(struct shmi_thread *t, struct heap_run *r, void *p);
/* Start of the block that @p is in, and its class; or dies. */
char *shmi_span_block(const struct shmi_heap *hp, struct heap_run *r,
		      const void *p, uint32_t *class);
/* Those without a block in use go back to the heap: whether any did. */
bool shmi_span_let_go(struct shmi_thread *t);
size_t shmi_span_used(const struct heap_run *r); /* bytes in use, less strays */
/* Of the span; or dies. */
uint32_t shmi_span_class(const struct shmi_heap *hp, const struct heap_run *r);
/* Takes what others have freed into the list; whether there was any. */
bool shmi_span_collect(const struct shmi_heap *hp, struct heap_run *r);
extern struct heap_run shmi_span_none;
/* What the quick ways below leave to do: a block of another's span, or
 * @slowly. */
void shmi_span_free_other(void *p, struct shmi_thread *t,
			  void (*slowly)(void *p));
/* A block of a span that the thread knows, whose list says that it is not
 * to be had just so. */
void shmi_span_free_edge(void *p, struct shmi_thread *t);
/* A block that goes to @others of its span, from where the owner takes it. */
void shmi_span_push_others(struct heap_run *r, uint64_t secret, uint64_t off,
			   uint64_t home);
_Noreturn void shmi_span_bad_list(const struct shmi_thread *t, const void *at);
/* A block of ours whose word says that it is free already: dies, or frees it. */
void shmi_span_free_marked(void *p, struct shmi_thread *t);

/* ----- span_orphan.c ----- */

/* Gives up all that @t has: to the heap, or as orphans. Takes the lock. */
void shmi_span_leave(struct shmi_thread *t);
/* Under the lock: takes back what the dead had in their hands; spans without a
 * block in use become free runs. Spans of @class go to @t, if it is not NULL:
 * whether any did. */
bool shmi_span_sweep(struct shmi_heap *hp, struct shmi_thread *t,
		     uint32_t class);
/* Not under the lock. Whether the block is in a list of free ones; where the span is not
 * ours, as far as can be told while its owner is at work. */
bool shmi_span_lists(struct shmi_heap *hp, const struct heap_run *r,
		     uint32_t class, uintptr_t block);
/* 0 or -EUCLEAN, as far as can be told while owners are at work. */
int shmi_span_check(struct shmi_heap *hp, struct heap_run *r);

/* ----- stray.c ----- */

/* Under the lock: brings home what @r, a span of ours or of somebody dead, has
 * of other spans' blocks. */
void shmi_stray_flush(struct shmi_heap *hp, struct heap_run *r);
/* The same for all of the thread's: whether there was any. */
bool shmi_stray_let_go(struct shmi_thread *t);
/* Under the lock: whether a thread has the block among its strays, as far as
 * can be told while it is at work. */
bool shmi_stray_lists(struct shmi_heap *hp, uint32_t class, uintptr_t block);
/* 0 or -EUCLEAN, of a span that nobody owns. */
int shmi_stray_check(struct shmi_heap *hp, const struct heap_run *r);

/* ----- the common malloc and free, without lock or locked instruction ----- */

/*
 * A free block's word leads to the next one, or nowhere, if its upper bits are
 * none. So one comparison tells whether it has been overwritten; and a block that
 * has no such word when it is freed is not free already. One that has may be
 * either: memory that its user never wrote can hold such words of earlier free
 * blocks, and he may move them to the block's start. The lists tell.
 */
#define SPAN_END ((uint64_t)1 << 48)
static inline bool span_is_link(uint64_t word)
{
	return word < SPAN_END;
}

static inline _Atomic uint64_t *span_word(const struct heap_run *r,
					  uint64_t off)
{
	return (_Atomic uint64_t *)(heap_base(r) + off);
}

static inline uint64_t span_state(const struct heap_run *r)
{
	return atomic_load_explicit(&r->state, memory_order_relaxed);
}

/* Of a state or stray list: its first block; blocks in use, or room. */
static inline uintptr_t span_first(uint64_t state)
{
	return state >> SPAN_LIST_SHIFT;
}

static inline uint32_t span_blocks(uint64_t state)
{
	return (uint32_t)state & SPAN_USED;
}

static inline uint32_t span_ever(const struct heap_run *r)
{
	return atomic_load_explicit(&r->ever, memory_order_relaxed);
}

/* Whether pages of its blocks may be missing. */
static inline bool span_is_part(const struct heap_run *r, uint32_t class)
{
	return atomic_load_explicit(&r->ready, memory_order_relaxed) <
	       span_bytes(r, class);
}

/* Writes the word of the free block at @block. */
SHMI_MAY_TOUCH
static inline void span_link(uint64_t secret, uintptr_t block, uintptr_t next)
{
	atomic_store_explicit((_Atomic uint64_t *)block, secret ^ next,
			      memory_order_relaxed);
}

/*
 * The step, for the owner. release: a block's word is written before the list
 * has the block. That keeps the compiler's order, which is all that our own
 * death needs (the kernel stands between us and who reads the list then).
 */
static inline void span_step(_Atomic uint64_t *list, uintptr_t first,
			     uint64_t low)
{
	atomic_store_explicit(list, (first << SPAN_LIST_SHIFT) + low,
			      memory_order_release);
}

/* The same list, with other flags and counts. */
static inline void span_set_low(struct heap_run *r, uint64_t state)
{
	span_step(&r->state, span_first(state), (uint16_t)state);
}

/* The first block of the list, which can be read. Dying before the step the
 * block is free, and after it in our hands. */
SHMI_MAY_TOUCH
static inline void *span_pop(const struct shmi_thread *t,
			     _Atomic uint64_t *list, uint32_t class,
			     uint64_t state)
{
	_Atomic uint64_t *w = (_Atomic uint64_t *)span_first(state);
	uint64_t next =
		atomic_load_explicit(w, memory_order_relaxed) ^ t->secret;

	if (__builtin_expect(next >= t->end, 0)) /* no link */
		shmi_span_bad_list(t, w);
	span_step(list, next, (uint64_t)(uint16_t)state + 1);
	atomic_store_explicit(w, 0, memory_order_relaxed);
	__builtin_prefetch((void *)next, 1); /* the next pop's */
	shmi_unpoison((void *)w, heap_size[class]);
	return (void *)w;
}

/* In steps of 16 bytes; far too many, if there is a rest. */
static inline uint64_t span_in_16(uint64_t bytes)
{
	return bytes >> 4 | bytes << 60;
}

/* @slowly: in any other case. */
static inline void *shmi_span_quick_malloc(struct heap_hdr *h, size_t n,
					   void *(*slowly)(void *h, size_t n))
{
	struct shmi_thread *t = shmi_thread_last;
	_Atomic uint64_t *list;
	uint64_t state;

	if (__builtin_expect(n > HEAP_QUICK || !shmi_thread_valid(t, h), 0))
		return slowly(h, n);
	list = t->quick[(n + 15) / 16];
	state = atomic_load_explicit(list, memory_order_relaxed);
	/* None; or nowhere that a block can be. */
	if (__builtin_expect(
		    span_in_16(span_first(state) - t->from) >= t->places, 0))
		return slowly(h, n);
	return span_pop(t, list, heap_class(n), state);
}

/* A block that is not free, into a list of ours that has @state. Dying before the
 * step it is in our hands. */
SHMI_MAY_TOUCH
static inline void span_put(struct shmi_thread *t, _Atomic uint64_t *list,
			    void *p, uint64_t state)
{
	span_link(t->secret, (uintptr_t)p, span_first(state));
	span_step(list, (uintptr_t)p, (uint64_t)(uint16_t)state - 1);
}

/*
 * Whether there is a block of @k's span at @at behind its first one, which has been
 * used. Less than "ever" behind that, at most 64 KiB, is in the span's slice or
 * in the next one; and a block there has another entry of the map.
 */
static inline bool span_has(const struct heap_known *k, uint64_t at)
{
	return !(__builtin_expect((uint32_t)at * k->magic >= k->magic, 0) ||
		 __builtin_expect(at >= k->ever, 0));
}

/*
 * Whether the span is still there, for a block that is in its place: another's
 * may be gone, and its memory, so this is asked last.
 *
 * relaxed: if it has gone, and there is another one, of whichever heap, this was
 * known to who made that, and so to who had the block from him.
 */
static inline bool span_is_there(const struct heap_known *k)
{
	return atomic_load_explicit(&k->blocks[-1].mark,
				    memory_order_relaxed) == k->mark;
}

/* A block of @k's span. */
SHMI_MAY_TOUCH
static inline void span_free(struct shmi_thread *t, const struct heap_known *k,
			     void *p)
{
	uint64_t state = atomic_load_explicit(k->list, memory_order_relaxed);
	uint64_t word = atomic_load_explicit((_Atomic uint64_t *)p,
					     memory_order_relaxed);

	if (__builtin_expect((word ^ t->secret) < t->end, 0)) { /* a link */
		shmi_span_free_marked(p, t);
	} else if (__builtin_expect((int16_t)state <= 1, 0)) {
		/* FULL, or no block will be in use, and not CURRENT; or no
		 * room. */
		shmi_span_free_edge(p, t);
	} else {
		span_put(t, k->list, p, state);
		shmi_poison(p, heap_size_of(k->magic));
	}
}

/*
 * A small block of a span that the thread knows; @slowly: any other, and NULL.
 * A thread that knows only spans of its own, which nobody takes from it, need not
 * ask whether they are there.
 */
static inline void shmi_span_quick_free(void *p, void (*slowly)(void *p))
{
	struct shmi_thread *t = shmi_thread_last;
	uintptr_t map =
		atomic_load_explicit(&t->view.map, memory_order_relaxed);
	uint64_t slice = (uintptr_t)p / HEAP_SLICE % HEAP_KNOWN;
	const struct heap_known *k;
	bool known;

	if (__builtin_expect(!(map & VIEW_OTHERS), 1)) {
		k = (const struct heap_known *)map + slice;
		known = span_has(k, (uintptr_t)p - (uintptr_t)k->blocks);
	} else {
		k = (const struct heap_known *)(map - VIEW_OTHERS) + slice;
		known = span_has(k, (uintptr_t)p - (uintptr_t)k->blocks) &&
			__builtin_expect(span_is_there(k), 1);
	}
	if (known)
		span_free(t, k, p);
	else
		shmi_span_free_other(p, t, slowly);
}

#endif
