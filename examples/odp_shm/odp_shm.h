/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * odp_shm.h - OpenDataPlane's shared memory calls. How it works: odp_shm.c.
 *
 * Names, types and meaning are those of ODP's published API (version 1.40 and
 * later). Besides ODP's return values, errno says why a call has failed. Any
 * thread of any process of the instance may make any of the calls at any time,
 * but for the four at the end.
 */
#ifndef ODP_SHM_H
#define ODP_SHM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A block. Good in all processes of the instance: it can be passed on. */
typedef struct odp_shm_handle *odp_shm_t;
#define ODP_SHM_INVALID ((odp_shm_t)0)

/* An ODP instance: some processes that share all of this. */
typedef uint64_t odp_instance_t;

#define ODP_SHM_NAME_LEN 32 /* with the null character */
#define ODP_SHM_IOVA_INVALID ((uint64_t)-1)
#define ODP_SHM_PA_INVALID ((uint64_t)-1)

/*
 * Flags. PROC: other programs can reach the block; here any that joins the
 * instance can. SINGLE_VA: it has one address in all processes; here each has.
 * EXPORT: other instances can import it. HP: of huge pages, or fail. NO_HP: of
 * small ones. Neither: whatever there is. HW_ACCESS: accelerators can reach it;
 * nothing here could promise that, so it is refused, as are bits without a
 * name.
 */
#define ODP_SHM_PROC 0x02u
#define ODP_SHM_SINGLE_VA 0x04u
#define ODP_SHM_EXPORT 0x08u
#define ODP_SHM_HP 0x10u
#define ODP_SHM_HW_ACCESS 0x20u
#define ODP_SHM_NO_HP 0x40u

typedef struct odp_shm_capability_t {
	uint32_t max_blocks; /* that there can be at a time, at least */
	uint64_t max_size;   /* bytes; 0: what memory there is */
	uint64_t max_align;  /* bytes */
	uint32_t flags;	     /* those that are not refused */
} odp_shm_capability_t;

typedef struct odp_shm_info_t {
	const char *name;   /* "" for none; good until the block is freed */
	void *addr;	    /* of its first byte */
	uint64_t size;	    /* bytes, as asked for */
	uint64_t page_size; /* of the memory that it is in */
	uint32_t flags;	    /* as it was reserved */
	uint32_t num_seg;   /* always 1 */
} odp_shm_info_t;

typedef struct odp_shm_segment_info_t {
	uintptr_t addr;
	uint64_t iova; /* ODP_SHM_IOVA_INVALID */
	uint64_t pa;   /* ODP_SHM_PA_INVALID */
	uint64_t len;
} odp_shm_segment_info_t;

/* 0, or below. */
int odp_shm_capability(odp_shm_capability_t *capa);

/**
 * odp_shm_reserve() - get a block
 * @name: NULL or "": without one. Blocks may have the same name; lookup finds
 *	one of them then
 * @size: bytes, above 0
 * @align: 0 (a cache line), or a power of two up to max_align
 * @flags: ODP_SHM_*
 *
 * The memory is there when the call returns, and not cleared. Others can find
 * the block from then on, so before there is anything in it.
 *
 * Return: its handle, or ODP_SHM_INVALID with errno set:
 *   EINVAL        size, align or flags are none
 *   ENAMETOOLONG  @name has ODP_SHM_NAME_LEN bytes or more
 *   ENOMEM        no memory, or with HP no huge pages
 *   ENODEV        HP: this machine gives us none
 *   ENOSPC        the table of blocks is full
 *   ENXIO         this process is in no instance
 */
odp_shm_t odp_shm_reserve(const char *name, uint64_t size, uint64_t align,
			  uint32_t flags);

/*
 * Gives a block back, by whichever process; of an imported one only the handle.
 * 0; or -1, EINVAL: no handle, or one whose block has been freed.
 */
int odp_shm_free(odp_shm_t shm);

/* ODP_SHM_INVALID, ENOENT: there is none of that name. Takes no lock and makes
 * no system call. */
odp_shm_t odp_shm_lookup(const char *name);

/**
 * odp_shm_import() - get a handle to another instance's block
 * @remote_name: of a block there with ODP_SHM_EXPORT
 * @odp_inst: that instance, which is not this one
 * @local_name: for lookup here; NULL or "": none
 *
 * The block has the same address here. It is the other instance's: where that
 * has freed it, the handle has no address any more; those who use the memory
 * must have stopped before. Each handle is to be freed.
 *
 * Return: handle, or ODP_SHM_INVALID with errno set:
 *   ENOENT        no such instance, or no such block to be had from it
 *   EINVAL        NULL, or our own instance
 *   EADDRINUSE    something else has the address in this process
 *   ENAMETOOLONG, ENOMEM, ENOSPC, ENXIO  as above
 *   EACCES and others  as for tmc_shmem_open()
 */
odp_shm_t odp_shm_import(const char *remote_name, odp_instance_t odp_inst,
			 const char *local_name);

/* NULL with errno EINVAL as for odp_shm_free(), or as for odp_shm_import(). */
void *odp_shm_addr(odp_shm_t shm);

/* 0, or -1 with errno as for odp_shm_addr(); EINVAL also for NULL. */
int odp_shm_info(odp_shm_t shm, odp_shm_info_t *info);

/* Of the @num segments from @index on, of which there are num_seg. 0 or -1. */
int odp_shm_segment_info(odp_shm_t shm, uint32_t index, uint32_t num,
			 odp_shm_segment_info_t info[]);

/* To stdout; of names, what is no printable ASCII as question marks. */
void odp_shm_print_all(void);
void odp_shm_print(odp_shm_t shm);

/* A number for log messages. */
uint64_t odp_shm_to_u64(odp_shm_t hdl);

/* ----- not of ODP's API: what its init and term calls would call ----- */

/* Zeroes are the defaults. */
typedef struct odp_shm_setup_t {
	uint64_t max_memory; /* that an instance can grow to, bytes, for each of
			      * small and huge pages; 0: 16 GiB */
	uint32_t max_blocks; /* 0: 16384 */
	uint32_t mode;	     /* who may join, see chmod(2); 0: 0600 */
	uint64_t lazy_size;  /* Blocks of small pages from this size on get
			      * their memory when it is touched, which raises
			      * SIGBUS where there is none; reserve touches a
			      * page of each. 0: none do */
} odp_shm_setup_t;

/*
 * Makes an instance and joins it: for odp_init_global(). @setup may be NULL.
 * Its files are $ODP_SHM_DIR/odp-*, or /dev/shm/odp-*. Removes what others
 * have left there that nobody uses any more. 0; or -1 with errno as for
 * tmc_shmem_create(), or EBUSY: this process is in an instance already.
 */
int odp_shm_init_global(odp_instance_t *instance, const odp_shm_setup_t *setup);

/*
 * Joins one: for odp_init_local() in a process that is no child of one in it.
 * (Children are in it, as are threads.) 0; or -1 with errno as for
 * tmc_shmem_open(), or EBUSY.
 */
int odp_shm_init_local(odp_instance_t instance);

/* This process leaves. Blocks stay. No other thread may be in a call. */
int odp_shm_term_local(void);

/*
 * Ends the instance and leaves it: in a process that has called one of the
 * inits. 0; or -1 and nothing has changed. EBUSY: others have joined it, or use
 * what they have imported. (Who comes next tidies up when they are gone.)
 * EPERM: this is a child of such a process, which may still use it; a child
 * leaves with odp_shm_term_local(), or just ends. The other way round children
 * are not seen: they must be done with it before.
 */
int odp_shm_term_global(odp_instance_t instance);

#ifdef __cplusplus
}
#endif
#endif
