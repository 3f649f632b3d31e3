/* SPDX-License-Identifier: BSD-3-Clause */
/* heap_layout.h - a heap as it lies in its arena. Nothing here runs. */
#ifndef SHMI_HEAP_LAYOUT_H
#define SHMI_HEAP_LAYOUT_H

#include "layout.h"

/*
 * A heap has chunks, each a range of its arena (or of other memory) whose
 * start is a multiple of SLICE. A chunk is cut into slices; the first ones
 * hold its table, one word for each slice, and in the heap's first chunk
 * struct heap_hdr before that. The rest is runs of slices:
 *
 *	free
 *	a span	 one slice of small blocks of one size, behind struct heap_run
 *	large	 one block, behind struct heap_run
 *
 * A block is never at the start of a slice, and a large one begins in the first
 * slice of its run or right behind it. So for every block
 *
 *	slice = (block - 1) rounded down to HEAP_SLICE
 *	run   = slice + slice / HEAP_SLICE % HEAP_COLOURS * HEAP_COLOUR
 *
 * The second line is for the caches: heads at the same place of each slice
 * would all want the same few lines of them.
 *
 * What was taken, and what it brought, in ns for a malloc and its free as far as
 * the steps were measured apart (busy machine; make bench-heap has the whole):
 *
 *	one word for a list and its count, so that each step is one store; the
 *	common path inlined. pair 40 -> 7 to 9
 *	fewer instructions on the common path: a table from a size to its span;
 *	what free asks for in one private line; a bound that is the top of its
 *	word; no register saved for the other paths. 82 -> 68 of them for a
 *	malloc and its free; pair 3.5 -> 3.0, batch 5.0 -> 4.5 (Zen 5)
 *	a private table from a slice to the thread's span in it, instead of
 *	comparing owner and mark in the head; what threads have at hand is
 *	voided when an arena closes (view.h), instead of a look at a count of
 *	closes each time. batch 13 -> 10.5
 *	a thread keeps some empty spans, instead of giving each back at once,
 *	whose pages come and go then. batch 18 -> 8.5
 *	others' frees are counted where they are pushed, since a walk along
 *	their list reads blocks in another processor's cache.
 *	xfree 101 -> 37, larson 38 -> 24
 *	who frees another's block finds all to check it in the head's first
 *	line, leaves the owner's alone, and does it in one function. xfree
 *	19 -> 9.6, larson 14.4 -> 10.8, or 76 -> 37 and 49 -> 36 where the
 *	processors share no cache. The line to write is fetched first: larson
 *	10.2 and 31, xfree 10.3 and 37 (tcmalloc: larson 5.5, 21, xfree 38, 139)
 *	freed large blocks are held by the thread, and kept by the heap, within
 *	limits. large 149,000 -> 160
 *	others' blocks that a thread frees go into a list of its own, for its
 *	next mallocs, and by the same way as its own blocks: lists have
 *	addresses, not offsets in a slice, and what free must know of another's
 *	span it finds where it looks for its own. larson 20.5 -> 12.0, xfree 19.8
 *	-> 19.0, pair 3.0 -> 3.3, batch 4.6 -> 4.75 (Xeon; tcmalloc larson 11.4,
 *	nearly all of it the harness's waiting for memory)
 *	what free knows of another's span is compared with the mark in its head,
 *	so that another heap's in its place, or none, is not taken for it. A
 *	price: pair 3.30 -> 3.38, batch 4.85 -> 5.1, as long as a thread that
 *	knows only spans of its own asked, too; now pair 3.25, batch 4.93
 *	the owner's line away from those that others read: xfree 23.3 -> 20.9,
 *	larson 12.4 -> 12.0
 *	a span that is used up is noted as full only where a thread has many.
 *	larson 12.0 -> 11.8
 *	heads at different places of their slices: no difference beyond the
 *	noise here; with one place all would share a few lines of the caches.
 *
 * Not taken: free blocks in private memory, as the heaps have that are a bit
 * faster: a death would lose them, and nobody could tell which they were.
 *
 * Nor one list for all free blocks of a class in a thread's hands, its own, too:
 * larson 11.6, but pair 4.2 and batch 5.5, since two words change with each call
 * then; and blocks come back from all spans alike, so that none ever empties.
 *
 * Nor a list of others' blocks with a way of its own in free: half of larson's
 * frees, at random, take another way than the others then. larson 20, no gain.
 *
 * Format 1 of the heap; everything in bytes unless it says slices.
 */
#define HEAP_MAGIC 0x3170616568736d74ull /* "tmsheap1" */
#define HEAP_FORMAT 1u
#define HEAP_SLICE ((uint64_t)65536)
#define HEAP_CHUNKS 512u
#define HEAP_RUN_LEN 192u /* of struct heap_run; blocks follow */
#define HEAP_COLOURS 8u
#define HEAP_COLOUR 128u
#define HEAP_CLASSES 37u       /* sizes of small blocks; heap_class.h */
#define HEAP_KNOWN_CLASSES 20u /* up to HEAP_QUICK */
#define HEAP_SCALES 12u	       /* of lengths of free runs: 2^k slices or more */

/*
 * A table's word, for the first slice of a run: how many slices it has, and
 * what it is. Words of other slices are 0. The runs of a chunk, one after the
 * other, cover it; each change is one store (run.c).
 */
#define HEAP_USED 0x80000000u  /* else free */
#define HEAP_DIRTY 0x40000000u /* free: not all zero */
#define HEAP_KEPT 0x20000000u  /* free: its pages were not given back */
#define HEAP_PART 0x10000000u  /* last slice: pages may be missing */
#define HEAP_COUNT 0x0fffffffu /* slices */

/* In the header's flags: TMC_MSPACE_NOGROW; the memory is the caller's, before
 * and after. */
#define HEAP_NOGROW 0x2u
#define HEAP_GIVEN 0x80000000u

struct heap_chunk {
	_Atomic uint64_t start; /* multiple of HEAP_SLICE */
	_Atomic uint32_t nslices, nhead;
	/* No free run of 2^k slices or more begins before low[k]: a hint. */
	_Atomic uint32_t low[HEAP_SCALES];
};

/*
 * "lock": written under the arena's lock. All of it is hostile to a reader:
 * checked by heap.c at each attach and at each change of generation.
 */
struct heap_hdr {
	_Atomic uint64_t magic;	   /* HEAP_MAGIC; stored last by create */
	uint32_t format;	   /* HEAP_FORMAT */
	uint32_t flags;		   /* TMC_MSPACE_*, HEAP_GIVEN; never changes */
	uint64_t self;		   /* address of this */
	uint64_t secret;	   /* random; marks runs and free blocks */
	_Atomic uint64_t grown_at; /* lock; arena offset and bytes of a chunk */
	_Atomic uint64_t grown_by; /* that is being made; 0: none */
	_Atomic uint64_t deaths;   /* lock; the arena's count when tables were
				    * last put right */
	_Atomic uint64_t peak;	   /* lock; largest footprint, a hint */
	_Atomic uint32_t nchunks;  /* lock; stored last by what adds one */
	_Atomic uint32_t gen;	   /* lock; moves when chunks change */
	_Atomic uint32_t orphans;  /* spans given up by threads that ended, a
				    * hint: when to look for them */
	uint32_t spare;
	_Atomic uint64_t kept; /* lock; slices that are, a hint */
	uint8_t pad[4096 - 88];
	struct heap_chunk chunk[HEAP_CHUNKS]; /* lock */
	_Atomic uint32_t life[LAYOUT_SLOTS];  /* lock; how often this slot
						   * of the arena came here */
};

/*
 * The head of a run. What others read at each free is in the first line, and
 * seldom changes; the second is everybody's; the third is the owner's, a
 * thread, written by it alone, or under the lock by who adopts the span when the
 * owner is gone. Lines come into caches in pairs, so that one is not beside the
 * others' (HEAP_COLOUR is a pair). Each word is checked where it is used.
 */
struct heap_run {
	_Atomic uint64_t mark;	   /* a run of this heap and kind (heap.h) */
	_Atomic uint64_t owner;	   /* heap.h; 0: nobody */
	uint32_t kind;		   /* size class, or HEAP_LARGE */
	_Atomic uint32_t interior; /* 1: a block's user has an address inside
				    * of it (memalign) */
	_Atomic uint32_t ever;	   /* span: bytes of blocks that were ever used,
				* behind which are new ones */
	uint8_t spare[64 - 28];

	_Atomic uint64_t others; /* span: blocks that others have freed; see
				  * below */
	uint8_t pad[64 - 8];

	_Atomic uint64_t state;	 /* span: see below */
	_Atomic uint64_t stray;	 /* span: see below */
	_Atomic uint32_t ready;	 /* span: bytes of blocks that have their pages;
				 * large: slices, if all have, else 0, or
				 * HEAP_HOLES */
	_Atomic uint16_t taken;	 /* span: list on its way from others to the
				  * owner's, */
	_Atomic uint16_t strays; /* how many there may be, for statistics */
	_Atomic uint32_t adding; /* new blocks on their way there, up to here;
				  * span.c has both */
	uint32_t place;		 /* in the owner's private table, a hint */
	_Atomic uint64_t flight; /* span: a stray on its way home; stray.c */
	uint64_t heap;		 /* address of the heap's header */
	uint64_t len;		 /* large: bytes that the block's user has */
	uint64_t block;		 /* large: its address */
};

/*
 * A list of free blocks. All that malloc and free change is one word, so
 * that each step is one store and a death finds it done or not:
 *
 *	bits 0..13   state: blocks not free, as far as the owner knows
 *		     stray: how many more the list takes
 *	bit 14	     state: the owner takes blocks from here now
 *	bit 15	     state: the owner found nothing here, and wants to hear of a
 *		     free
 *	bits 16..63  address of the first block; 0: none
 *
 * The owner's own blocks are in the state of their spans. Those of others that
 * he freed are in the stray list of one of his spans of that class, for his next
 * mallocs; to their spans they are in use.
 *
 * A free block's first word is the next one's address, or 0, exclusive-or the
 * secret, of whichever list.
 */
#define SPAN_USED 0x3fffu
#define SPAN_CURRENT 0x4000u
#define SPAN_FULL 0x8000u
#define SPAN_LIST_SHIFT 16
/* Instead of how far new blocks were added: all are free, and what the list
 * leads to may be gone. */
#define SPAN_GOES UINT32_MAX

/*
 * "others", which anybody pushes a block on; 0 but for the last: none.
 *
 *	bits 0..15   offset in the slice of the first
 *	bits 16..31  how many
 *	bits 32..47  offset of the last
 *	bits 48..63  strays that came home, modulo 2^16 (stray.c)
 */
#define OTHERS_FIRST 0xfff0u
#define OTHERS_ONE ((uint64_t)1 << 16)
#define OTHERS_LAST_SHIFT 32
#define OTHERS_HOME ((uint64_t)1 << 48)
#define OTHERS_LIST (OTHERS_HOME - 1)

#define HEAP_LARGE 63u /* no size class */
/* Pages of the run may be missing anywhere: they are not to be kept. */
#define HEAP_HOLES UINT32_MAX

static_assert(sizeof(struct heap_run) == HEAP_RUN_LEN, "heap format 1");
static_assert(offsetof(struct heap_run, state) == 128, "heap format 1");
static_assert(offsetof(struct heap_run, others) == 64, "heap format 1");
static_assert(offsetof(struct heap_hdr, chunk) == 4096, "heap format 1");
static_assert(sizeof(struct heap_hdr) % 64 == 0, "heap format 1");

#endif
