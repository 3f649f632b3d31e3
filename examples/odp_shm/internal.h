/* SPDX-License-Identifier: BSD-3-Clause */
/* internal.h - what the parts of this ODP shared memory share. */
#ifndef ODP_SHM_INTERNAL_H
#define ODP_SHM_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <shmem.h>

#include "odp_shm.h"

#define ODP_KNOWN_FLAGS                                                        \
	(ODP_SHM_PROC | ODP_SHM_SINGLE_VA | ODP_SHM_EXPORT | ODP_SHM_HP |      \
	 ODP_SHM_NO_HP)

/* What memory a block is in. */
enum odp_where { ODP_HUGE, ODP_LAZY, ODP_SMALL, ODP_IMPORTED };
#define ODP_FURTHER 2 /* the first two: not in the first arena */

/*
 * What is known of a block. Written by who makes it, before others can find
 * it; it never changes then. Lives in a heap where nothing else does, as
 * readers may look at it when it has just gone: they copy it word by word, and
 * look then whether it still was one (directory.c). So that heap is never
 * trimmed, which could cut off what they look at.
 */
union odp_record {
	struct {
		char name[ODP_SHM_NAME_LEN]; /* filled up with zeroes */
		uint64_t addr, size, align;
		uint32_t flags;
		uint32_t where;	  /* enum odp_where */
		uint64_t origin;  /* of an imported one: the instance, and */
		uint64_t remote;  /* handle there */
		uint64_t creator; /* process id, to be shown */
		uint64_t page_size;
	};
	_Atomic uint64_t word[16];
};
#define ODP_RECORD_LEN 128u
#define ODP_RECORD_ALIGN 64u
#define ODP_MOST_MEMORY ((uint64_t)1 << 38) /* a slot's word says no more */
_Static_assert(sizeof(union odp_record) == ODP_RECORD_LEN, "see directory.c");

/* One cache line; see directory.c. */
struct odp_line {
	_Atomic uint64_t reach; /* how many lines on a name of this one can be;
				 * only ever rises */
	_Atomic uint64_t slot[7];
};

/* First in an instance's arena. Apart from what is atomic, constant. */
#define ODP_MAGIC 0x3130647365706d73ull
struct odp_directory {
	uint64_t magic;	 /* ODP_MAGIC, stored last */
	uint64_t nlines; /* a power of two */
	uint64_t max_memory;
	uint64_t lazy_size; /* UINT64_MAX: never */
	uint32_t mode;
	uint32_t max_blocks;
	tmc_mspace records; /* all present */
	tmc_mspace blocks;  /* the same */
	/* The six characters that complete the name of each further arena, as
	 * the lower bytes of a number; 0: there is none yet. Set once, when it
	 * is complete. */
	_Atomic uint64_t further[ODP_FURTHER];
	_Alignas(64) struct odp_line line[];
};
_Static_assert(sizeof(struct odp_line) == 64, "a cache line");

/* An instance that this process has open: its own, or one it imports from. */
struct odp_instance {
	odp_instance_t id;
	tmc_shmem_t *shm;
	struct odp_directory *dir;
	uint64_t nlines;    /* of it, checked */
	uint64_t huge_size; /* of such a page; 0: there are none. Kept, as to
			     * ask is to read files */
	_Atomic(tmc_shmem_t *) further[ODP_FURTHER]; /* NULL: not open here */
	_Atomic bool no_huge; /* it did not work: for blocks without HP we do
			       * not try again */
	int lock;	      /* descriptor; instance.c */
	_Atomic(struct odp_instance *) next;
};

/* ----- directory.c; handles here are numbers, 0: none ----- */

/* Word by word, where others may write or read the same. */
void odpi_copy(union odp_record *to, const union odp_record *from);

/* Makes @r, a record in its heap and filled, findable. 0: no room. */
uint64_t odpi_publish(struct odp_instance *in, union odp_record *r);

/* Takes it out again; it is the caller's then. NULL: somebody has already, or
 * it is no handle. */
union odp_record *odpi_withdraw(struct odp_instance *in, uint64_t handle);

/* A copy of the block's record; @at, if not NULL: where it is. */
bool odpi_read(struct odp_instance *in, uint64_t handle, union odp_record *out,
	       const union odp_record **at);

/* A block with all of @flags. The handle. */
uint64_t odpi_find(struct odp_instance *in, const char *name, uint32_t flags,
		   union odp_record *out);

/* All of them, one by one; *@at is 0 at first. The handle, 0 at the end. */
uint64_t odpi_next(struct odp_instance *in, uint64_t *at,
		   union odp_record *out);

/* ----- instance.c ----- */

/* Our own; NULL with errno ENXIO. */
struct odp_instance *odpi_self(void);

/* Another one, which is opened if need be, and stays. NULL with errno. */
struct odp_instance *odpi_other(odp_instance_t id);

/* The arena of memory of that kind, which is one of the further ones; @make:
 * if there is none yet. NULL with errno. */
tmc_shmem_t *odpi_further(struct odp_instance *in, enum odp_where kind,
			  bool make);

#endif
