/* SPDX-License-Identifier: BSD-3-Clause */
/* tmc/alloc.h - which kind of memory, and pages of it. Manual: libshmem(7). */
#ifndef LIBSHMEM_TMC_ALLOC_H
#define LIBSHMEM_TMC_ALLOC_H

#if !defined(__linux__) || !defined(__LP64__)
#error "libshmem is for 64-bit Linux"
#endif

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TMC_API __attribute__((visibility("default")))

/*
 * Values that <sys/mman.h> and <numaif.h> do not declare in every mode. They
 * are part of the kernel's interface, and the same on all machines that the
 * library builds for (it checks).
 */
#define TMC_MAP_POPULATE 0x8000
#define TMC_MPOL_DEFAULT 0
#define TMC_MPOL_PREFERRED 1
#define TMC_MPOL_BIND 2
#define TMC_MPOL_INTERLEAVE 3
#define TMC_MPOL_LOCAL 4

/**
 * tmc_alloc_t - attributes of memory
 *
 * A plain struct: copy it, put it on the stack, fill it with TMC_ALLOC_INIT
 * or tmc_alloc_init() and then with the setters. Whoever takes one copies
 * what it needs. Concurrent changes of one object are the caller's to order.
 */
typedef struct tmc_alloc {
	int mmap_prot;	  /* PROT_READ | PROT_WRITE; arenas take no
			   * other value */
	int mmap_flags;	  /* MAP_POPULATE, MAP_SHARED or MAP_PRIVATE,
			   * MAP_HUGETLB with or without a size */
	int mbind_policy; /* TMC_MPOL_* */
	unsigned long mbind_nodemask; /* bit n is NUMA node n */
	size_t pagesize;	      /* bytes; 0: decided by mmap_flags */
	unsigned int internal_flags;  /* the library's */
	unsigned long internal_arena; /* the library's; 0: no arena's */
} tmc_alloc_t;

/* Small pages, readable and writable, private, prefaulted, default NUMA. */
#define TMC_ALLOC_INIT                                                         \
	{                                                                      \
		0x3, TMC_MAP_POPULATE, TMC_MPOL_DEFAULT, 0, 0, 0, 0            \
	}

/**
 * tmc_alloc_init() - the same as TMC_ALLOC_INIT, at run time
 *
 * Return: @alloc. As every setter it takes NULL, does nothing with it and
 * returns it, so that a failed call can stand inside another.
 */
TMC_API tmc_alloc_t *tmc_alloc_init(tmc_alloc_t *alloc);

/**
 * tmc_alloc_set_huge() - ask for huge pages of the machine's default size
 *
 * Never fails; where the machine has no huge pages, tmc_alloc_get_pagesize()
 * is 0 afterwards and what uses @alloc fails with EINVAL.
 * tmc_alloc_clear_huge() goes back to small pages.
 *
 * Return: @alloc.
 */
TMC_API tmc_alloc_t *tmc_alloc_set_huge(tmc_alloc_t *alloc);
TMC_API tmc_alloc_t *tmc_alloc_clear_huge(tmc_alloc_t *alloc);

/**
 * tmc_alloc_set_huge_preferred() - huge pages if possible, else small ones
 *
 * Of the size that @alloc asks for already, or of the default one. What uses
 * @alloc tries with huge pages first, and where that fails, for whatever
 * reason, with small ones; only if that fails, too, it fails, as for small
 * pages. Possible means, for an arena, that create can make one and that there
 * is a page for it at that moment; it keeps its page size for good, and a later
 * grow can find the pool empty. For memory that is no arena's it means that the
 * kernel has reserved all of its pages. tmc_alloc_size() and
 * tmc_alloc_get_pagesize() tell of huge pages where the machine has them, and
 * of small ones elsewhere. The next call that sets or clears huge pages or a
 * page size ends it.
 *
 * Return: @alloc.
 */
TMC_API tmc_alloc_t *tmc_alloc_set_huge_preferred(tmc_alloc_t *alloc);
TMC_API int tmc_alloc_get_huge_preferred(const tmc_alloc_t *alloc);

/* Return: 1 for huge pages of any size, 0 for small pages and for NULL. */
TMC_API int tmc_alloc_get_huge(const tmc_alloc_t *alloc);

/**
 * tmc_alloc_set_pagesize() - ask for pages that hold @size bytes in one
 * @size: bytes
 *
 * Takes the smallest page size of the machine that is not below @size.
 *
 * Return: @alloc; or NULL where no page is that large: then the largest one
 * is set.
 */
TMC_API tmc_alloc_t *tmc_alloc_set_pagesize(tmc_alloc_t *alloc, size_t size);

/**
 * tmc_alloc_set_pagesize_exact() - ask for pages of @pagesize bytes
 *
 * Return: @alloc; or NULL, and @alloc is as before, where the machine has no
 * such page size.
 */
TMC_API tmc_alloc_t *tmc_alloc_set_pagesize_exact(tmc_alloc_t *alloc,
						  size_t pagesize);

/*
 * Bytes in a page of @alloc (NULL: of the defaults); 0 where it asks for huge
 * pages and the machine has none.
 */
TMC_API size_t tmc_alloc_get_pagesize(const tmc_alloc_t *alloc);

/* Bytes in a huge page of the default size; 0 where there is none. */
TMC_API size_t tmc_alloc_get_huge_pagesize(void);

/* The bitwise or of all page sizes of the machine, the small one included. */
TMC_API unsigned long tmc_alloc_get_pagesizes(void);

/**
 * tmc_alloc_set_populate() - prefault (the default)
 *
 * Memory is there and mapped in the caller when a call returns, or the call
 * fails with ENOMEM. tmc_alloc_clear_populate() leaves it to the first touch,
 * which raises SIGBUS where the memory has run out meanwhile. The same bit as
 * MAP_POPULATE in mmap_flags. This and the other get functions answer 0 for
 * NULL.
 */
TMC_API tmc_alloc_t *tmc_alloc_set_populate(tmc_alloc_t *alloc);
TMC_API tmc_alloc_t *tmc_alloc_clear_populate(tmc_alloc_t *alloc);
TMC_API int tmc_alloc_get_populate(const tmc_alloc_t *alloc);

/**
 * tmc_alloc_set_thp() - ask for transparent huge pages
 *
 * A hint, ignored where the kernel or the mount does not give them. An
 * arena's address should be a multiple of 2 MiB then (an automatic one is).
 */
TMC_API tmc_alloc_t *tmc_alloc_set_thp(tmc_alloc_t *alloc);
TMC_API tmc_alloc_t *tmc_alloc_clear_thp(tmc_alloc_t *alloc);
TMC_API int tmc_alloc_get_thp(const tmc_alloc_t *alloc);

/**
 * tmc_alloc_set_shared() - shared with children that are forked later
 *
 * For memory of tmc_alloc_map() that is no arena's; an arena is always
 * shared. tmc_alloc_clear_shared() makes it private (the default).
 */
TMC_API tmc_alloc_t *tmc_alloc_set_shared(tmc_alloc_t *alloc);
TMC_API tmc_alloc_t *tmc_alloc_clear_shared(tmc_alloc_t *alloc);
TMC_API int tmc_alloc_get_shared(const tmc_alloc_t *alloc);

/**
 * tmc_alloc_set_mode() - permissions of an arena's files
 * @mode: as for chmod(2), no bits but 0777
 *
 * What create gives the arena's file, and its companion, whatever the umask
 * is; the default is 0600. Of no meaning for memory that is no arena's.
 *
 * Return: @alloc; or NULL with errno set, and @alloc is as before:
 *   EINVAL  @mode has other bits
 */
TMC_API tmc_alloc_t *tmc_alloc_set_mode(tmc_alloc_t *alloc, unsigned int mode);
TMC_API unsigned int tmc_alloc_get_mode(const tmc_alloc_t *alloc);

/**
 * tmc_alloc_set_nodes() - NUMA placement
 * @mask: bit n is node n
 * @node: 0 to 63
 *
 * set_nodes binds to the nodes of @mask, set_node_preferred prefers one,
 * set_nodes_interleaved spreads the pages over @mask, set_node_local takes
 * the node of the thread that first touches a page, set_node_default what the
 * process has set for itself.
 *
 * Holds for tmpfs, hugetlbfs and memory that is no arena's. Ignored for other
 * file systems and where the kernel or the container refuses mbind(2). Nodes
 * that do not exist make the call that uses @alloc fail with EINVAL.
 *
 * Return: @alloc.
 */
TMC_API tmc_alloc_t *tmc_alloc_set_nodes(tmc_alloc_t *alloc,
					 unsigned long mask);
TMC_API tmc_alloc_t *tmc_alloc_set_node_preferred(tmc_alloc_t *alloc, int node);
TMC_API tmc_alloc_t *tmc_alloc_set_nodes_interleaved(tmc_alloc_t *alloc,
						     unsigned long mask);
TMC_API tmc_alloc_t *tmc_alloc_set_node_local(tmc_alloc_t *alloc);
TMC_API tmc_alloc_t *tmc_alloc_set_node_default(tmc_alloc_t *alloc);

/* The nodes this process may take memory from, as a mask and as a number. */
TMC_API unsigned long tmc_alloc_get_available_nodes(void);
TMC_API unsigned long tmc_alloc_num_available_nodes(void);

/**
 * tmc_alloc_size() - bytes that a request of @size bytes really takes
 *
 * Return: @size rounded up to the page size of @alloc (NULL: the defaults);
 * 0 where that wraps or the page size does not exist.
 */
TMC_API size_t tmc_alloc_size(const tmc_alloc_t *alloc, size_t size);

/**
 * tmc_alloc_map() - take zeroed pages
 * @alloc: attributes; NULL for the defaults. The alloc of an arena, from
 *	tmc_shmem_alloc(), or a copy of it: pages from the arena's end, as by
 *	tmc_shmem_grow(). What tmc_cmem_alloc_init() has made: pages of a
 *	family's memory
 * @size: bytes, rounded up to the page size
 *
 * The memory is the caller's until tmc_alloc_unmap(). Thread-safe, not
 * async-signal-safe. A process that dies leaves nothing of its own memory;
 * an arena is as before or after the call.
 *
 * Return: start of the pages, or NULL with errno set:
 *   ENOMEM  the memory, the huge-page pool, the address space or the arena's
 *           maximum is exhausted; nothing has changed
 *   EINVAL  size 0, a page size, protection, flag or NUMA node that does not
 *           exist, or the alloc of an arena that has been closed
 *   EACCES  the arena's handle is read-only
 *   EMFILE, ENFILE  no descriptor left to see how large huge pages are
 *   others  what the arena's file system says, as for tmc_shmem_grow(); for a
 *           family's memory also as for tmc_cmem_prepare_alloc()
 */
TMC_API void *tmc_alloc_map(const tmc_alloc_t *alloc, size_t size);

/**
 * tmc_alloc_map_at() - the same, at @start
 * @start: a multiple of the page size; for an arena its current end
 *
 * Return: as tmc_alloc_map(), and
 *   EADDRINUSE  something is mapped there already (it is untouched), or
 *               @start is not the arena's end
 *   EINVAL      also for a start that is NULL or no multiple of the page size
 */
TMC_API void *tmc_alloc_map_at(const tmc_alloc_t *alloc, void *start,
			       size_t size);

/**
 * tmc_alloc_unmap() - give pages back
 * @start: a page's start inside memory from tmc_alloc_map() or an arena
 * @size: bytes; rounded up to the page size of that memory
 *
 * Of an arena only the tail can go back; the file shrinks then, see
 * tmc_shmem_shrink(). Of other memory any range of pages can.
 *
 * Return: 0, or -1 with errno set and nothing touched:
 *   EINVAL  not memory of this library, or not a range of whole pages of one
 *           map; in an arena: not its tail; size 0
 *   EACCES  the arena is open read-only
 *   ENOMEM  no room to note the two parts of a map that is cut in the middle
 *   EIO, EPERM, EUCLEAN, EUSERS  an arena's, as for tmc_shmem_shrink()
 */
TMC_API int tmc_alloc_unmap(void *start, size_t size);

/**
 * tmc_alloc_remap() - change the size of a map, as mremap(2) does
 * @old: start of a map or of an arena's tail
 * @old_len: its length, bytes; rounded up to its page size
 * @new_len: bytes, not 0; rounded up likewise
 * @flags: 0, MREMAP_MAYMOVE, or MREMAP_MAYMOVE | MREMAP_FIXED with the new
 *	address as a fifth argument
 *
 * In an arena the tail from @old on grows or shrinks in place, whatever the
 * flags; MREMAP_FIXED is refused. Shared maps of no arena can only shrink
 * (EINVAL), as the kernel gives them no more memory than they began with.
 * Memory that was prefaulted is prefaulted in its new part too.
 *
 * Return: start of the map, or MAP_FAILED with errno set and nothing changed:
 *   ENOMEM      no room to grow in place, or no memory
 *   EINVAL      lengths or flags as above do not hold; not this library's; or
 *               it had to be copied, and it cannot be read and written
 *   EADDRINUSE  MREMAP_FIXED, and something is mapped there (it is untouched)
 *   EACCES      the arena is open read-only
 *   EIO, EPERM, EUCLEAN, EUSERS  an arena's, as for tmc_shmem_grow()
 */
TMC_API void *tmc_alloc_remap(void *old, size_t old_len, size_t new_len,
			      int flags, ...);

#ifdef __cplusplus
}
#endif
#endif
