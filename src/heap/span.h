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
	/* Where blocks of up to 16 * i bytes come from; as in cur. */
	struct heap_run *quick[HEAP_QUICK / 16 + 1];
	struct heap_run *cur[HEAP_KINDS]; /* never NULL */
	/* From here on for the slow ways. */
	struct heap_hdr *h;
	uint64_t epoch;
	uintptr_t lo;	/* memory in which a block of this heap may be, */
	uint64_t len;	/* there for sure: no fault */
	uint64_t owner; /* our mark in the spans that are ours */
	unsigned long arena_id; /* hp's */
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
	uint32_t room, spare;	      /* entries; first free one */
	uint32_t ring[HEAP_CLASSES];  /* entry of cur; NO_ENTRY: none */
	uint32_t count[HEAP_CLASSES]; /* in the ring */
	uint32_t spans, idle;	      /* in all rings */
	uint32_t hand;		      /* entry where the next look begins */
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
int shmi_thread_room(struct shmi_thread *t); /* for one more span */

static inline bool shmi_thread_valid(struct shmi_thread *t,
				     const struct heap_hdr *h)
{
	return atomic_load_explicit(&t->view.h, memory_order_relaxed) == h;
}

/* ----- span.c ----- */

void *shmi_span_malloc(struct shmi_thread *t, uint32_t class);
void shmi_span_free(struct shmi_thread *t, struct heap_run *r, void *p);
/* Start of the block that @p is in, and its class; or dies. */
char *shmi_span_block(const struct shmi_heap *hp, struct heap_run *r,
		      const void *p, uint32_t *class);
/* Those without a block in use go back to the heap. */
void shmi_span_let_go(struct shmi_thread *t);
uint32_t shmi_span_used(const struct heap_run *r); /* bytes in use */
/* Of the span; or dies. */
uint32_t shmi_span_class(const struct shmi_heap *hp, const struct heap_run *r);
/* Takes what others have freed into the list; whether there was any. */
bool shmi_span_collect(const struct shmi_heap *hp, struct heap_run *r);
/* A span that has become @t's, which has room for it. */
void shmi_span_add(struct shmi_thread *t, uint32_t class, struct heap_run *r);
extern struct heap_run shmi_span_none;
/* What the quick ways below leave to do: a block of another's span, or
 * @slowly. */
void shmi_span_free_other(struct shmi_thread *t, void *p,
			  void (*slowly)(void *p));
void shmi_span_emptied(struct shmi_thread *t, void *p);
_Noreturn void shmi_span_bad_list(const struct shmi_thread *t, const void *at);
/* A block of ours whose word says that it is free already: dies, or frees it. */
void shmi_span_free_marked(struct shmi_thread *t, void *p);

/* ----- span_orphan.c ----- */

/* Gives up all that @t has: to the heap, or as orphans. Takes the lock. */
void shmi_span_leave(struct shmi_thread *t);
/* Under the lock: takes back what the dead had in their hands; spans without a
 * block in use become free runs. Spans of @class go to @t, if it is not NULL:
 * whether any did. */
bool shmi_span_sweep(struct shmi_heap *hp, struct shmi_thread *t,
		     uint32_t class);
/* Whether the block at @off is in a list of free ones; where the span is not
 * ours, as far as can be told while its owner is at work. */
bool shmi_span_lists(const struct shmi_heap *hp, const struct heap_run *r,
		     uint32_t class, uint64_t off);
/* 0 or -EUCLEAN, as far as can be told while owners are at work. */
int shmi_span_check(const struct shmi_heap *hp, struct heap_run *r);

/* ----- the common malloc and free, without lock or locked instruction ----- */

/*
 * A free block's first word is the offset of the next one in the slice, 0 for
 * none, exclusive-or this. So one comparison tells whether a word has
 * been overwritten, and bounds the offset; and a block that has no such word
 * when it is freed is not free already. One that has may be either: memory that
 * its user never wrote can hold such words of an earlier span's blocks, and he
 * may move them to the block's start. The lists tell.
 */
static inline uint64_t span_key(uint64_t secret, const struct heap_run *r)
{
	return secret ^ (uintptr_t)r;
}

static inline bool span_is_offset(uint64_t word)
{
	return !(word & ~(uint64_t)SPAN_LIST);
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

/* Bytes of blocks that were ever used; how many blocks are in use. */
static inline uint32_t span_ever(uint64_t state)
{
	return (uint16_t)(state >> SPAN_EVER_SHIFT);
}

static inline uint32_t span_blocks(uint64_t state)
{
	return (uint16_t)(state / SPAN_USED_ONE) & 0x3fff;
}

/* Whether pages of its blocks may be missing. */
static inline bool span_is_part(const struct heap_run *r, uint32_t class)
{
	return atomic_load_explicit(&r->ready, memory_order_relaxed) <
	       span_bytes(r, class);
}

/* Writes the word of the free block at @off. */
SHMI_MAY_TOUCH
static inline void span_link(const struct shmi_heap *hp, struct heap_run *r,
			     uint64_t off, uint64_t next)
{
	atomic_store_explicit(span_word(r, off), span_key(hp->secret, r) ^ next,
			      memory_order_relaxed);
}

/*
 * The step, for the owner. release: a block's word is written before the list
 * has the block. That keeps the compiler's order, which is all that our own
 * death needs (the kernel stands between us and who reads the span then).
 */
static inline void span_step(struct heap_run *r, uint64_t state)
{
	atomic_store_explicit(&r->state, state, memory_order_release);
}

/* The first block of the list. Dying before the step the block is free, and
 * after it in our hands. */
SHMI_MAY_TOUCH
static inline void *span_pop(const struct shmi_thread *t, struct heap_run *r,
			     uint32_t class, uint64_t state)
{
	uint64_t off = state & SPAN_LIST;
	_Atomic uint64_t *w = span_word(r, off);
	uint64_t next = atomic_load_explicit(w, memory_order_relaxed) ^
			span_key(t->secret, r);

	if (__builtin_expect(!span_is_offset(next), 0))
		shmi_span_bad_list(t, w);
	span_step(r, state - off + next + SPAN_USED_ONE);
	atomic_store_explicit(w, 0, memory_order_relaxed);
	__builtin_prefetch((void *)span_word(r, next), 1); /* the next pop's */
	shmi_unpoison((void *)w, heap_size[class]);
	return (void *)w;
}

/* @slowly: in any other case. */
static inline void *shmi_span_quick_malloc(struct heap_hdr *h, size_t n,
					   void *(*slowly)(void *h, size_t n))
{
	struct shmi_thread *t = shmi_thread_last;
	struct heap_run *r;
	uint64_t state;

	if (__builtin_expect(n > HEAP_QUICK || !shmi_thread_valid(t, h), 0))
		return slowly(h, n);
	r = t->quick[(n + 15) / 16];
	state = span_state(r);
	if (__builtin_expect(!(state & SPAN_LIST), 0))
		return slowly(h, n);
	return span_pop(t, r, heap_class(n), state);
}

/* A block of ours, which is not free. Dying before the step it is in our
 * hands. */
SHMI_MAY_TOUCH
static inline void span_put(struct shmi_thread *t, const struct heap_known *k,
			    void *p, uint64_t state)
{
	struct heap_run *r = k->blocks - 1;
	uint64_t first = (uint16_t)state;

	atomic_store_explicit((_Atomic uint64_t *)p, k->key ^ first,
			      memory_order_relaxed);
	state = state - first + (uintptr_t)p % HEAP_SLICE - SPAN_USED_ONE;
	span_step(r, state);
	shmi_poison(p, heap_size[k->kind]);
	/* FULL, or no block is in use; not CURRENT. */
	if (__builtin_expect((int32_t)state < (int32_t)SPAN_USED_ONE, 0))
		shmi_span_emptied(t, p);
}

/* The same, which may be free. */
SHMI_MAY_TOUCH
static inline void span_push(struct shmi_thread *t, const struct heap_known *k,
			     void *p, uint64_t state)
{
	uint64_t word = atomic_load_explicit((_Atomic uint64_t *)p,
					     memory_order_relaxed);

	if (__builtin_expect(span_is_offset(word ^ k->key), 0))
		shmi_span_free_marked(t, p);
	else
		span_put(t, k, p, state);
}

/*
 * A small block of a span of ours; @slowly: any other, and NULL.
 *
 * Less than 64 KiB behind the span's first block, as "ever" says by its width,
 * is in the span's slice or in the next one; and a block there has another
 * entry of the map.
 */
static inline void shmi_span_quick_free(void *p, void (*slowly)(void *p))
{
	struct shmi_thread *t = shmi_thread_last;
	const struct heap_known *known =
		atomic_load_explicit(&t->view.map, memory_order_relaxed) +
		(uintptr_t)p / HEAP_SLICE % HEAP_KNOWN;
	struct heap_run *blocks = known->blocks;
	uint64_t at = (uintptr_t)p - (uintptr_t)blocks, state;

	/* Without a span there is no state to look at. */
	if (__builtin_expect((uint32_t)at * known->magic >= known->magic, 0)) {
		shmi_span_free_other(t, p, slowly);
		return;
	}
	state = span_state(blocks - 1);
	if (__builtin_expect(at >= state >> SPAN_EVER_SHIFT, 0)) {
		shmi_span_free_other(t, p, slowly);
		return;
	}
	span_push(t, known, p, state);
}

#endif
