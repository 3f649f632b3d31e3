/* SPDX-License-Identifier: BSD-3-Clause */
/* look.h - what is in an arena: its pages, and its heaps. For map and heap. */
#ifndef SHMEMCTL_LOOK_H
#define SHMEMCTL_LOOK_H

#include "ctl.h"
#include "heap_class.h"
#include "heap_layout.h"

/* ----- look.c ----- */

/*
 * Looks at @path and at who has it open; an arena without a name may have a
 * companion that only its users know. CTL_OK; or a line on stderr and
 * CTL_FAILED, for a damaged one, too.
 */
int ctl_look(const char *path, struct ctl_arena *a, struct ctl_locks *l);

/* ----- pages.c: which pages are there ----- */

enum ctl_page_kind {
	CTL_SMALL,   /* in memory */
	CTL_HUGE,    /* the same, as part of a huge page */
	CTL_OUT,     /* in swap, or on disk alone */
	CTL_UNKNOWN, /* there or not: the system does not tell */
};

/* A range without a hole; offsets in the arena. */
struct ctl_pages {
	uint64_t at, len;
	enum ctl_page_kind kind;
	int node; /* -1: not known */
};

typedef void ctl_pages_fn(const struct ctl_pages *p, void *arg);

/*
 * Calls @each for all that is there, from the start to the end. Maps pages
 * that are there, a part at a time, and makes none. NULL; or a line that says
 * what cannot be told: then pages are small, or unknown, and nodes -1.
 */
const char *ctl_pages_each(const struct ctl_arena *a, ctl_pages_fn *each,
			   void *arg);

/* Of the machine; those that this process may use can be fewer. */
bool ctl_several_nodes(void);

/* From @off on, offsets in the arena: the next range that is no hole, or
 * false. Of huge pages all is one range. */
bool ctl_data_next(const struct ctl_arena *a, uint64_t off, uint64_t *from,
		   uint64_t *to);

/* ----- spans.c: heaps, as anybody may have written them ----- */

struct ctl_heaps;

struct ctl_heap {
	const struct ctl_arena *a;
	struct ctl_heaps *all; /* that it was found with */
	uint64_t off;	       /* of its header, in the arena */
	uint64_t addr;	       /* the same as an address */
	bool root;	       /* the root pointer leads to it */
	bool in_use;	       /* by others; what is wrong is looked at again */
	/* Known from its walk on. */
	uint64_t secret; /* in marks and lists; without the bits of a slice */
	struct heap_hdr *h; /* during the walk */
	uint32_t flags;
	uint64_t peak;
	uint32_t nchunks; /* that make sense, and lie in the arena */
	uint64_t nslices; /* of these */
	bool gone;	  /* it has been destroyed meanwhile */
	char wrong[160];  /* the first thing that is; "": nothing */
};

/* Of all that the arena has. Freed with ctl_heaps_end(). */
struct ctl_heaps {
	struct ctl_heap *v;
	size_t n;
	uint8_t *
		claimed; /* by slice of the arena: what begins there was seen */
	uint64_t spare;	 /* slices that may be claimed again, and looks that */
	uint64_t looks;	 /* may be taken again, at what is in use */
};
void ctl_heaps_find(const struct ctl_arena *a, bool in_use,
		    struct ctl_heaps *l);
void ctl_heaps_end(struct ctl_heaps *l);

enum ctl_owner {
	CTL_NOBODY,
	CTL_ALIVE,
	CTL_DEAD, /* or gone to where it cannot be seen from here */
};

/* A run of slices, or a chunk's table (no word, no head). */
struct ctl_run {
	uint64_t off; /* in the arena */
	uint32_t nslices;
	uint32_t word; /* of the table; 0: these slices are the table */
	struct heap_run head;
	enum ctl_owner owner;
};

static inline bool ctl_run_is_span(const struct ctl_run *r)
{
	return r->word & HEAP_USED && r->head.kind < HEAP_CLASSES;
}

/* Blocks of a span that are in use, and how many it has room for. */
uint32_t ctl_span_used(const struct ctl_run *r);
uint32_t ctl_span_strays(const struct ctl_run *r);
uint32_t ctl_span_room(const struct ctl_heap *h, const struct ctl_run *r);

/*
 * Once for a heap. Calls @each for the tables and runs of its chunks, as far as
 * they make sense; checks what tmc_mspace_check() does, and says in h->wrong what is
 * not right. What others change meanwhile is seen before or after that.
 */
typedef void ctl_run_fn(const struct ctl_heap *h, const struct ctl_run *r,
			void *arg);
void ctl_heap_walk(struct ctl_heap *h, ctl_run_fn *each, void *arg);

#endif
