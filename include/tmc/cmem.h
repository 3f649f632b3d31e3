/* SPDX-License-Identifier: BSD-3-Clause */
/* tmc/cmem.h - memory for a family of processes. Manual: libshmem(7). */
#ifndef LIBSHMEM_TMC_CMEM_H
#define LIBSHMEM_TMC_CMEM_H

#include <tmc/alloc.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * One process sets it up, and its children have it over fork(2), and over exec
 * where that is asked for: an arena without a name, with a heap, at one address
 * in all of them. What is in it belongs to the family: any of them frees what
 * another took. Any thread may call any of the functions; none is
 * async-signal-safe or a cancellation point. To close is for when no other
 * thread is in a call.
 *
 * Where nothing is set up, a call looks for what the program that executed
 * this one has left in the environment variable TMC_CMEM_INFO, and takes part
 * in that. What it says is checked; where it is not true, nothing is mapped and
 * the call fails:
 *   ENODATA  nothing is set up, and there is no such variable (it is ignored
 *            in set-user-id programs)
 *   EBADMSG  the variable is not what the library writes
 *   ESTALE   the descriptors that it names are not, or no more, those arenas
 *   EADDRINUSE, EACCES, ENOMEM, EMFILE, ENFILE, EUSERS
 *            as for tmc_shmem_open_fds()
 */

/* Bytes. */
#define TMC_CMEM_DEFAULT_CAPACITY ((size_t)256 << 20)

/* As TMC_ALLOC_INIT, for pages of the family's memory. */
#define TMC_CMEM_ALLOC_INIT                                                    \
	{                                                                      \
		0x3, TMC_MAP_POPULATE | 0x1, TMC_MPOL_DEFAULT, 0, 0, 8, 0      \
	}

/**
 * tmc_cmem_init() - set it up
 * @capacity: bytes, rounded up to the page size, at least 1 MiB; the heap's own
 *	needs are taken from it; 0: TMC_CMEM_DEFAULT_CAPACITY. Costs nothing
 *	until it is used
 *
 * The memory has small pages, prefaulted, and an address that the library
 * picks, or the one in the environment variable TMC_CMEM_START (hexadecimal,
 * ignored in set-user-id programs).
 *
 * Return: 0; 1 with errno EINVAL where it is there already, by this process, a
 * forked ancestor or TMC_CMEM_INFO, and then it is as it was; or -1 with errno
 * set:
 *   ENOMEM      no such room in the address space, or no memory
 *   EINVAL      TMC_CMEM_START is no number, or no multiple of the page size
 *   EADDRINUSE  something is mapped at TMC_CMEM_START
 *   ENOSYS, EACCES, EPERM, EMFILE, ENFILE  as for tmc_shmem_create_anonymous()
 *   EBADMSG, ESTALE, EUSERS  TMC_CMEM_INFO is there and cannot be followed
 */
TMC_API int tmc_cmem_init(size_t capacity);

/**
 * tmc_cmem_close() - done with it, in this process
 *
 * Others go on; the memory goes with the last of them. What was to persist
 * after exec does no more.
 *
 * Return: 0, or -1 with errno set where it is not set up: ENODATA, EBADMSG,
 * ESTALE, EADDRINUSE, EACCES, ENOMEM, EMFILE, ENFILE, EUSERS as above.
 */
TMC_API int tmc_cmem_close(void);

/**
 * tmc_cmem_get_capacity() - bytes that it can grow to, and that are left
 *
 * What is left is not in one piece; approximate while others are at work. Both
 * tell of the memory that tmc_cmem_malloc() uses.
 *
 * Return: bytes; 0 with errno set where it is not set up: ENODATA, EBADMSG,
 * ESTALE, EADDRINUSE, EACCES, ENOMEM, EMFILE, ENFILE, EUSERS as above.
 */
TMC_API size_t tmc_cmem_get_capacity(void);
TMC_API size_t tmc_cmem_get_available(void);

/**
 * tmc_cmem_persist_after_exec() - have it in programs that are executed, or not
 * @flag: 1, from now on; 0, no more (so it is at first)
 *
 * With 1 the descriptors that the next program needs are no more closed by
 * exec, TMC_CMEM_INFO is put into the environment, and the set of arenas is
 * frozen for good. A program in between that knows nothing of it, a shell say, passes
 * it on. In a program that came to it in this way it persists already.
 *
 * Changes the environment, as setenv(3) does: not beside another thread that
 * reads it.
 *
 * Return: 0, or -1 with errno set and nothing changed:
 *   ENODATA, EBADMSG, ESTALE, EADDRINUSE, EACCES, EUSERS  not set up, as above
 *   EMFILE, ENFILE  no descriptors left
 *   ENOMEM  no room in the environment, or as above
 */
TMC_API int tmc_cmem_persist_after_exec(int flag);

/**
 * tmc_cmem_alloc_init() - the same as TMC_CMEM_ALLOC_INIT, at run time
 *
 * With such an object tmc_alloc_map() takes pages of the family's memory, and
 * tmc_mspace_create_special() makes heaps there. After other setters, of huge
 * pages or NUMA nodes, they come from a further arena with these attributes
 * and the same capacity. tmc_shmem_find() tells which one memory is in.
 *
 * Return: @alloc, also where it is NULL.
 */
TMC_API tmc_alloc_t *tmc_cmem_alloc_init(tmc_alloc_t *alloc);

/**
 * tmc_cmem_prepare_alloc() - make the arena with these attributes
 * @alloc: page size, NUMA placement, THP; the rest does not matter
 *
 * A process that was there before an arena was made does not have it. So what
 * relatives are to share is prepared before they are forked. For memory of one
 * process the first tmc_alloc_map() does it. Only the process that has set it
 * up can make arenas, and only until tmc_cmem_persist_after_exec(1).
 *
 * Return: 0, it is there; or -1 with errno set:
 *   EPERM   there is none, and the set is frozen, or we were forked
 *   EINVAL  NULL; a page size, protection, flag or NUMA node that does not
 *           exist
 *   EMFILE  there are 32 already, or no descriptors left
 *   ENOMEM, ENODEV, ENOSYS, EADDRINUSE, ENFILE  as for
 *           tmc_shmem_create_anonymous()
 *   ENODATA, EBADMSG, ESTALE, EACCES, EUSERS  not set up, as above
 */
TMC_API int tmc_cmem_prepare_alloc(const tmc_alloc_t *alloc);

/**
 * tmc_cmem_malloc() - take a block of the family's heap
 *
 * As tmc_mspace_malloc() and its like. tmc_cmem_free() takes NULL, keeps errno,
 * and aborts with a message for what is no block.
 *
 * Return: the block, or NULL with errno set:
 *   ENOMEM  the capacity is used up, there is no memory, or the size wraps
 *   EINVAL  @align is no power of two, or @p is no block of this heap
 *   EUCLEAN, EUSERS  as for tmc_shmem_grow()
 *   ENODATA, EBADMSG, ESTALE, EADDRINUSE, EACCES, EMFILE, ENFILE  not set up,
 *           as above
 */
TMC_API void *tmc_cmem_malloc(size_t n);
TMC_API void *tmc_cmem_calloc(size_t n, size_t size);
TMC_API void *tmc_cmem_realloc(void *p, size_t n);
TMC_API void *tmc_cmem_memalign(size_t align, size_t n);
TMC_API void tmc_cmem_free(void *p);

#ifdef __cplusplus
}
#endif
#endif
