/* SPDX-License-Identifier: BSD-3-Clause */
/* tmc/mspace.h - a heap in an arena. Manual: libshmem(7). */
#ifndef LIBSHMEM_TMC_MSPACE_H
#define LIBSHMEM_TMC_MSPACE_H

#include <tmc/alloc.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * tmc_mspace - a heap
 *
 * An address in the arena: store it there, use it in every process that has
 * the arena open for writing, and after a restart. All functions may be called
 * from any thread and any such process at once; none is async-signal-safe. A
 * process may be killed at any instruction: others go on, and what is lost
 * are blocks that the dead one had, or was just taking or giving back.
 *
 * A call that finds the heap overwritten, or gets an address that is no block,
 * says so in one line on stderr and aborts.
 */
typedef void *tmc_mspace;

/* Flags. */
#define TMC_MSPACE_LOCKED 0x1u	 /* several threads or processes */
#define TMC_MSPACE_NOGROW 0x2u	 /* never more than the first capacity */
#define TMC_MSPACE_SPINLOCK 0x4u /* the same as LOCKED */

/**
 * tmc_mspace_create() - make a heap
 * @capacity: bytes usable at first; 0: a small default
 * @flags: TMC_MSPACE_*
 * @alloc: where memory comes from, copied; NULL, and the function without it:
 *	small pages of this process's own. An arena's alloc, from
 *	tmc_shmem_alloc() or a copy of it: pages from the arena's end, present
 *	or not as the arena has it
 *
 * With tmc_alloc_set_shared() and no arena's alloc the heap gets an arena of its
 * own without a name, for this process and those that it forks from then on, any
 * of which may be killed. It grows to 64 GiB, or twice the capacity. A heap in
 * private memory is for the threads of one process; in the child of a fork it
 * is a copy.
 *
 * Return: the heap, or NULL with errno set and nothing changed:
 *   ENOMEM  no memory, or the arena's maximum is exhausted
 *   EINVAL  unknown flags, or an @alloc that tmc_alloc_map() refuses or that
 *           does not let read and write
 *   EACCES  the arena's handle is read-only
 *   EMFILE, ENFILE  no descriptors left
 *   EUCLEAN, EUSERS, others  as for tmc_shmem_grow(); for an arena of its own
 *           also as for tmc_shmem_create_anonymous(), in a family's memory as
 *           for tmc_cmem_prepare_alloc()
 */
TMC_API tmc_mspace tmc_mspace_create(size_t capacity, unsigned int flags);
TMC_API tmc_mspace tmc_mspace_create_special(size_t capacity,
					     unsigned int flags,
					     const tmc_alloc_t *alloc);

/**
 * tmc_mspace_create_with_base() - make a heap in memory that is there
 * @base: start of it; the heap uses whole pieces of 64 KiB from there on, the
 *	first of them for itself
 * @capacity: its length, bytes; at least 192 KiB do in any case
 * @alloc: ignored; the heap does not grow
 *
 * In an arena it is for all who have the arena open. Other memory may be used
 * by one process at a time: who shares it with others, a forked child for one,
 * leaves the heap to a single one of them.
 *
 * Return: the heap, or NULL with errno set: ENOMEM, too little memory; EINVAL,
 * unknown flags or @base NULL; EACCES, the arena is open read-only; EUCLEAN,
 * EUSERS, others as for tmc_shmem_grow().
 */
TMC_API tmc_mspace tmc_mspace_create_with_base(void *base, size_t capacity,
					       unsigned int flags);
TMC_API tmc_mspace tmc_mspace_create_with_base_special(
	void *base, size_t capacity, unsigned int flags,
	const tmc_alloc_t *alloc);

/**
 * tmc_mspace_access_with_base() - find the heap that was made at @base
 * @base: outside of any arena there must be memory that can be read
 *
 * By this, in each process, a heap is found that was made where an earlier one
 * was destroyed; without it who used that one takes it for the same.
 *
 * Return: the heap, or NULL with errno set: EINVAL, there is none; EACCES, the
 * arena is open read-only; EUCLEAN, it is damaged; ENOMEM, EUSERS as for malloc.
 */
TMC_API tmc_mspace tmc_mspace_access_with_base(void *base);

/**
 * tmc_mspace_destroy() - end a heap
 *
 * Nobody may use it or its blocks any more. The arena's tail is cut where the
 * heap is at it; the rest of its memory goes back to the system as holes, and
 * so does all of it while another process that used the heap has the arena open:
 * no other heap begins where it knows this one. Memory that the caller gave
 * (create_with_base) is never cut: it stays part of the arena, without contents.
 * An arena of the heap's own is closed in this process only.
 *
 * Return: bytes that the heap had; 0 with errno set: EINVAL, it is none; EACCES,
 * EUCLEAN, ENOMEM, EUSERS as above.
 */
TMC_API size_t tmc_mspace_destroy(tmc_mspace msp);

/**
 * tmc_mspace_malloc() - take a block
 * @n: bytes; 0 gives a block, too
 *
 * Aligned to 16 bytes. calloc gives zeroes. memalign takes a power of two (to
 * 1 TiB). With a populated arena the block's memory is present, and up to 32,176
 * bytes with any; else its user's first touch takes it, or is SIGBUS.
 *
 * Return: the block, or NULL with errno set:
 *   ENOMEM  no memory, a NOGROW heap is full, or the size wraps
 *   EINVAL  @msp is no heap, or @align no power of two
 *   EACCES  the arena is open read-only
 *   EUCLEAN, EUSERS, others  as for tmc_shmem_grow()
 */
TMC_API void *tmc_mspace_malloc(tmc_mspace msp, size_t n);
TMC_API void *tmc_mspace_calloc(tmc_mspace msp, size_t n, size_t size);
TMC_API void *tmc_mspace_memalign(tmc_mspace msp, size_t align, size_t n);

/**
 * tmc_mspace_realloc() - change a block's size
 * @p: a block of @msp; NULL: as malloc
 * @n: bytes; 0: the block shrinks to the smallest one
 *
 * In place where the room is there. A block that moves loses what alignment
 * memalign gave it.
 *
 * Return: the block, or NULL with errno as for malloc and @p as it was; EINVAL
 * also for a block of another heap.
 */
TMC_API void *tmc_mspace_realloc(tmc_mspace msp, void *p, size_t n);

/**
 * tmc_mspace_free() - give a block back, of whatever heap is open here
 * @p: NULL is allowed
 *
 * By any thread of any process. errno stays.
 */
TMC_API void tmc_mspace_free(void *p);

/* Bytes of the block that may be used, at least what was asked for; 0 for
 * NULL. */
TMC_API size_t tmc_mspace_usable_size(const void *p);

/**
 * tmc_mspace_trim() - give free memory back to the system, also what the heap
 *	and the calling thread hold for the next blocks
 * @pad: bytes of what is held that stay
 *
 * Takes back what the dead have left, and punches out what is free. Where the
 * arena ends with a part that the heap has grown by, and all of that is free, it
 * is cut off: who touches it then gets SIGBUS.
 *
 * Return: 1 if there was something, 0 if not, -1 with errno set, EINVAL or as
 * for tmc_shmem_grow().
 */
TMC_API int tmc_mspace_trim(tmc_mspace msp, size_t pad);

/**
 * tmc_mspace_statistics() - bytes that the heap has taken and given out
 * @max_footprint, @footprint: taken from the arena, at most and now
 * @used: in blocks; approximate while others are at work
 *
 * Any of them may be NULL; all are 0 where @msp is no heap.
 */
TMC_API void tmc_mspace_statistics(tmc_mspace msp, size_t *max_footprint,
				   size_t *footprint, size_t *used);

/**
 * tmc_mspace_check() - walk the heap
 *
 * What belongs to a thread at work is checked for bounds only.
 *
 * Return: 0, or -1 with errno EUCLEAN where it is damaged; EINVAL, EACCES,
 * ENOMEM or EUSERS as for malloc.
 */
TMC_API int tmc_mspace_check(tmc_mspace msp);

/**
 * tmc_mspace_allocator() - where the heap's memory comes from
 *
 * Return: an alloc that this thread may use until its next call of this
 * function; NULL with errno set: EINVAL, @msp is no heap; EACCES, EUCLEAN,
 * ENOMEM, EUSERS as for malloc.
 */
TMC_API tmc_alloc_t *tmc_mspace_allocator(tmc_mspace msp);

#ifdef __cplusplus
}
#endif
#endif
