/* SPDX-License-Identifier: BSD-3-Clause */
/* heap.h - malloc and free in shared memory. Layer: heap; uses size, arena,
 * page, lock, users, os. */
#ifndef SHMI_HEAP_H
#define SHMI_HEAP_H

#include "arena.h"
#include "heap_layout.h"
#include "page.h"
#include "view.h"

/*
 * A heap as this process knows it; private, one for each heap, kept as long
 * as its arena is open. @mutex is for heaps in no arena; an arena's heap has
 * the arena's lock. Chunks are copied and checked under the lock.
 */
struct shmi_heap {
	struct heap_hdr *h;	  /* NULL: forgotten, but held */
	unsigned long id;	  /* no other heap has it, now or later */
	struct shmi_arena *arena; /* without a reference: used only while the
				   * epoch says that none has closed; NULL:
				   * other memory */
	unsigned long arena_id;
	struct shmi_pages how; /* without an arena: where memory is from */
	bool growable;
	bool populate;
	pthread_mutex_t mutex;
	/* Who we are in owner words; slot is right when life is not 0. */
	uint32_t slot;
	_Atomic uint32_t life;
	uint32_t holds; /* of threads that end; see shmi_heap_is_open() */
	bool gone;	/* lock; destroyed by us: there may be no memory */
	bool torn;	/* without an arena: who made us by fork may have had a
		       * thread in it then */
	uint32_t gen;	/* h->gen when chunk[] was copied */
	/* Stored after what it counts: a private heap's are looked through
	 * without the lock, and copied by a fork at any time. */
	_Atomic uint32_t nchunks;
	_Atomic uint64_t nslices; /* of all chunks; relaxed: how large it is */
	uint32_t last;		  /* chunk in which a run was found */
	struct {
		uint64_t start;
		_Atomic uint32_t *table;
		uint32_t nslices, nhead;
	} chunk[HEAP_CHUNKS];
	uint64_t secret;
	uint32_t flags;
	void *backing; /* a handle of @arena that goes with the heap; NULL */
	struct shmi_heap *next;
};

/* Owner words: slot + 1 << 48 | life << 24 | thread. */
#define HEAP_THREADS 0xffffffu
static inline uint64_t heap_owner(uint32_t slot, uint32_t life, uint32_t thread)
{
	return (uint64_t)(slot + 1) << 48 | (uint64_t)life << 24 | thread;
}
static inline uint32_t heap_owner_slot(uint64_t owner)
{
	return (uint32_t)(owner >> 48) - 1;
}
static inline uint32_t heap_owner_life(uint64_t owner)
{
	return (uint32_t)(owner >> 24) & HEAP_THREADS;
}

static inline struct heap_run *heap_head(uintptr_t slice)
{
	return (struct heap_run *)(slice + slice / HEAP_SLICE % HEAP_COLOURS *
						   HEAP_COLOUR);
}
static inline uintptr_t heap_base(const struct heap_run *r)
{
	return (uintptr_t)r & ~(uintptr_t)(HEAP_SLICE - 1);
}
/* Of the run that has a block at @p. */
static inline struct heap_run *heap_run_of(const void *p)
{
	return heap_head(((uintptr_t)p - 1) & ~(uintptr_t)(HEAP_SLICE - 1));
}

/* No other heap has it there, nor this one for a run of another kind. */
static inline uint64_t heap_mark(const struct shmi_heap *hp, const void *run,
				 uint32_t kind)
{
	return hp->secret ^ (uintptr_t)run ^ (uint64_t)kind << 48;
}

static inline uint64_t heap_slices(uint64_t bytes)
{
	return (bytes + HEAP_SLICE - 1) / HEAP_SLICE;
}

static inline uint64_t heap_slice_up(uint64_t addr)
{
	return (addr + HEAP_SLICE - 1) & ~(HEAP_SLICE - 1);
}

static inline uint64_t heap_pagesize(const struct shmi_heap *hp)
{
	return hp->arena ? hp->arena->c.pagesize : hp->how.pagesize;
}

/* ----- heap_page.c: no lock ----- */

/* Makes a range present that the library itself is to read or write: 0, -ENOMEM,
 * or what the file says. */
int shmi_heap_have(struct shmi_heap *hp, const void *from, uint64_t len);
/* The same for bytes that nobody else uses; they may be zero after it. */
int shmi_heap_have_new(struct shmi_heap *hp, const void *from, uint64_t len);
/* The same for its user's bytes, if that is wanted in this heap. */
int shmi_heap_fill(struct shmi_heap *hp, uintptr_t at, uint64_t len);
int shmi_heap_fill_new(struct shmi_heap *hp, uintptr_t at, uint64_t len);
/* Its whole pages are given back: 0 if all of it reads as zero. */
int shmi_heap_punch(struct shmi_heap *hp, uintptr_t at, uint64_t len);

/* ----- heap_chunk.c: under the lock, or while nobody else has the heap ----- */

/* How many slices the table of a chunk of @n takes, and what is before it. */
uint64_t shmi_chunk_heads(const struct shmi_heap *hp, uint64_t start,
			  uint64_t n);
/* What the header says of them, checked: 0, -EUCLEAN. */
int shmi_chunk_copy(struct shmi_heap *hp);
/* What somebody left who died while he made or cut one. */
void shmi_chunk_finish(struct shmi_heap *hp);
/* Writes a table, @first bytes behind @start. */
int shmi_chunk_table(struct shmi_heap *hp, uint64_t start, uint64_t n,
		     uint64_t first);
/* Room for @n slices: at the arena's end, not yet published; or of our own. */
int shmi_chunk_stage(struct shmi_heap *hp, uint64_t n, uint64_t *at,
		     uint64_t *by);
int shmi_chunk_map(const struct shmi_pages *how, uint64_t n, uint64_t *start);
void shmi_chunk_unmap(uint64_t start, uint64_t n);
/* One more chunk with at least @nslices free. */
int shmi_heap_more(struct shmi_heap *hp, uint64_t nslices);
/* Gives back the last chunk, if it is at the arena's end and all free: whether
 * so. */
bool shmi_heap_less(struct shmi_heap *hp);

/* ----- heap_make.c ----- */

/* What create is told. */
struct shmi_heap_plan {
	struct shmi_arena *arena; /* or NULL */
	const struct shmi_pages *how;
	void *base; /* memory that the caller gives; NULL: none */
	uint64_t capacity;
	uint32_t flags;
	bool populate;
};

int shmi_heap_create(const struct shmi_heap_plan *plan, struct heap_hdr **out);
int shmi_heap_destroy(struct heap_hdr *h, uint64_t *freed);

/* ----- heap.c: heaps ----- */

/* This process's view of the heap at @h, which may be anything; for _at it is
 * memory that can be read: 0, -EINVAL, -EACCES. */
int shmi_heap_get(const void *h, struct shmi_heap **out);
int shmi_heap_get_at(const void *h, struct shmi_heap **out);
/*
 * Whether the heap that was @id is as it was, and we are @owner in it still.
 * @hold: then what is known of it and its arena's mapping stay until release,
 * whoever destroys the one or closes the other.
 */
bool shmi_heap_is_open(unsigned long id, uint64_t owner, bool hold);
void shmi_heap_release(struct shmi_heap *hp);
/* The heap outside of any arena that has @p in a chunk; NULL. */
struct heap_hdr *shmi_heap_private_around(const void *p);
/* Under heap_lock: 0 or -errno; the copy of the chunks is current then. */
int shmi_heap_lock(struct shmi_heap *hp);
/* The same where the heap may have been destroyed. */
int shmi_heap_lock_late(struct shmi_heap *hp);
/* Under the lock: the heap is no more. Who comes into the lock after that, as a
 * thread that ends, touches nothing. */
void shmi_heap_end(struct shmi_heap *hp);
void shmi_heap_forget(struct heap_hdr *h);
/* Both for the heap that was in memory which is given anew: it needs no destroy. */
void shmi_heap_end_at(struct heap_hdr *h);
void shmi_heap_unlock(struct shmi_heap *hp);
bool shmi_heap_owner_dead(const struct shmi_heap *hp, uint64_t owner);
uint64_t shmi_heap_footprint(const struct shmi_heap *hp);
_Noreturn void shmi_heap_die(const char *what, const void *at, const void *h);

/* ----- run.c: runs of slices; under the lock unless it says not ----- */

struct heap_at {
	uint32_t chunk, slice;
};
void shmi_run_repair(struct shmi_heap *hp);
/* @n free slices whose second is at a multiple of @align (0: any), at the
 * start of a free run. -ENOMEM: there are none. */
int shmi_run_find(struct shmi_heap *hp, uint32_t n, uint64_t align,
		  struct heap_at *at);
/* The table's word there. */
uint32_t shmi_run_word(struct shmi_heap *hp, struct heap_at at);
/* Whether all pages of the first slice are there, by its word. */
bool shmi_run_there(const struct shmi_heap *hp, uint32_t word);
/* The first @n of them are a run of their own that is not zero: before its head
 * is written. */
void shmi_run_prepare(struct shmi_heap *hp, struct heap_at at, uint32_t n);
/* Makes these @n used: one store. @part: the last slice's pages
 * are not all there. */
void shmi_run_take(struct shmi_heap *hp, struct heap_at at, uint32_t n,
		   bool part);
/* Nobody's any more; @flags: as in the table. */
void shmi_run_free(struct shmi_heap *hp, struct heap_run *r, uint32_t flags);
/* The same from outside of the lock, by the run's owner. Pages go back to the
 * system unless @keep and the heap may keep as many. */
void shmi_run_give(struct shmi_heap *hp, struct heap_run *r, bool part,
		   bool keep);
/* Slices of a run in use. */
uint32_t shmi_run_len(struct shmi_heap *hp, const struct heap_run *r);
/* All but the first @n of them, whose pages are there, become a run in use
 * whose head has been written. */
void shmi_run_part(struct shmi_heap *hp, const struct heap_run *r, uint32_t n);
/* Longer or shorter in place: 0 or -ENOMEM. */
int shmi_run_resize(struct shmi_heap *hp, struct heap_run *r, uint32_t n);
/* The head of a run that is large, and @owner's. */
void shmi_run_head(struct shmi_heap *hp, struct heap_run *r, uint64_t owner,
		   const void *block, uint64_t len);
/* From outside of the lock: pages of free runs go back but for @pad bytes. @any:
 * there were some. @owner's is what is in hand meanwhile. 0 or -errno. */
int shmi_run_purge(struct shmi_heap *hp, uint64_t owner, uint64_t pad,
		   bool *any);
/* Calls @each for all used runs until it returns non-zero: that. */
int shmi_run_each(struct shmi_heap *hp,
		  int (*each)(struct shmi_heap *hp, struct heap_run *r,
			      uint32_t n, void *arg),
		  void *arg);
/* Whether runs cover their chunks, and how many slices are free. */
int shmi_run_check(struct shmi_heap *hp, uint64_t *nfree);
static inline uintptr_t heap_slice(const struct shmi_heap *hp,
				   struct heap_at at)
{
	return hp->chunk[at.chunk].start + at.slice * HEAP_SLICE;
}

/* ----- stray.c ----- */

/* Under the lock: a flush that somebody died in. */
void shmi_stray_repair(struct shmi_heap *hp);

/* ----- span.c, block.c ----- */

void *shmi_heap_malloc(struct heap_hdr *h, size_t n);
void *shmi_heap_calloc(struct heap_hdr *h, size_t n, size_t size);
void *shmi_heap_memalign(struct heap_hdr *h, size_t align, size_t n);
void *shmi_heap_realloc(struct heap_hdr *h, void *p, size_t n);
void shmi_heap_free(void *p);
size_t shmi_heap_usable(const void *p);
int shmi_heap_trim(struct heap_hdr *h, size_t pad, bool *released);
int shmi_heap_check(struct heap_hdr *h);
int shmi_heap_stats(struct heap_hdr *h, size_t *peak, size_t *now,
		    size_t *used);

#endif
