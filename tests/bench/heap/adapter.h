/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * adapter.h - the allocators that the benchmark compares, one for each worker
 * program; -DUSE_... says which.
 *
 * All are called in the same way: take() and give() are inlined into the
 * workloads and call a function of a shared library. SHARED: blocks can be
 * handed to other processes. OWN_FILE: the heap is in a file, private or not,
 * whose pages count as its memory. OVERRIDES: it replaces malloc and free, and
 * is linked in front of the C library.
 *
 *	heap_make(path)	a heap; 0 or -1
 *	heap_join(path)	what another process has made; SHARED only
 *	heap_file()	where its memory is; OWN_FILE only
 *	heap_trim()	free memory back to the system
 *	heap_end(path)	removes what is left behind in file systems
 *	as_word(p), from_word(w): a block as other processes know it
 */
#ifndef BENCH_ADAPTER_H
#define BENCH_ADAPTER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEAP_MAX (2048UL << 20) /* bytes; the most that a heap may have */

#if defined(USE_OURS)
#include <shmem.h>
#define NAME "ours"
#define SHARED 1
#define OWN_FILE 1

static tmc_mspace heap;

static int heap_make(const char *path)
{
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, HEAP_MAX);

	if (!shm)
		return -1;
	heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	return heap ? tmc_shmem_set_data(shm, heap) : -1;
}
static inline int heap_join(const char *path)
{
	tmc_shmem_t *shm = tmc_shmem_open(path);

	heap = shm ? tmc_shmem_get_data(shm) : NULL;
	return heap ? 0 : -1;
}
static inline void heap_file(const char *path, char *name, size_t len)
{
	snprintf(name, len, "%s", path);
}
static inline void heap_trim(void)
{
	tmc_mspace_trim(heap, 0);
}
static void heap_end(const char *path)
{
	tmc_shmem_unlink(path);
}
static inline void *take(size_t n)
{
	return tmc_mspace_malloc(heap, n);
}
static inline void give(void *p)
{
	tmc_mspace_free(p);
}

#elif defined(USE_BOOST)
#define NAME "boost"
#define SHARED 1
#define OWN_FILE 1
#define WORDS 1
/* In boost.cpp. */
int boost_make(const char *name, size_t max);
int boost_join(const char *name);
void boost_remove(const char *name);
void *boost_take(size_t n);
void boost_give(void *p);
uint64_t boost_word(const void *p);
void *boost_address(uint64_t w);

static const char *boost_name(const char *path)
{
	return strrchr(path, '/') + 1;
}
static int heap_make(const char *path)
{
	return boost_make(boost_name(path), HEAP_MAX);
}
static inline int heap_join(const char *path)
{
	return boost_join(boost_name(path));
}
static inline void heap_file(const char *path, char *name, size_t len)
{
	snprintf(name, len, "/dev/shm/%s", boost_name(path));
}
static inline void heap_trim(void)
{
}
static void heap_end(const char *path)
{
	boost_remove(boost_name(path));
}
static inline void *take(size_t n)
{
	return boost_take(n);
}
static inline void give(void *p)
{
	boost_give(p);
}
static inline uint64_t as_word(const void *p)
{
	return boost_word(p);
}
static inline void *from_word(uint64_t w)
{
	return boost_address(w);
}

#elif defined(USE_PMEMOBJ)
#include <libpmemobj.h>
#define NAME "pmemobj"
#define SHARED 0 /* a pool is one process's at a time */
#define OWN_FILE 1

static PMEMobjpool *pool;

/* A pool takes all of its memory when it is made, so it is a small one. */
static int heap_make(const char *path)
{
	/* tmpfs is memory: no msync after each store. */
	setenv("PMEM_IS_PMEM_FORCE", "1", 1);
	pool = pmemobj_create(path, "bench", HEAP_MAX / 8, 0600);
	return pool ? 0 : -1;
}
static inline void heap_file(const char *path, char *name, size_t len)
{
	snprintf(name, len, "%s", path);
}
static inline void heap_trim(void)
{
}
static void heap_end(const char *path)
{
	unlink(path);
}
static inline void *take(size_t n)
{
	PMEMoid oid;

	return pmemobj_alloc(pool, &oid, n, 0, NULL, NULL)
		       ? NULL
		       : pmemobj_direct(oid);
}
static inline void give(void *p)
{
	PMEMoid oid = pmemobj_oid(p);

	pmemobj_free(&oid);
}

#elif defined(USE_EMPTY)
/* Nothing but the harness: the next bytes of 256 KiB, over and over. */
#include <sys/mman.h>
#define NAME "empty"
#define SHARED 1
#define OWN_FILE 0
#define EMPTY_LEN (256UL << 10)

static char *empty_memory;
static _Thread_local char *empty_place; /* a worker's part of it */
static _Thread_local size_t empty_at;

/* Before the workers fork. */
static int empty_begin(void)
{
	empty_memory = mmap(NULL, EMPTY_LEN * 2 + 1024, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	return empty_memory == MAP_FAILED ? -1 : 0;
}
static int heap_make(const char *path)
{
	(void)path;
	return 0;
}
static inline int heap_join(const char *path)
{
	(void)path;
	return 0;
}
static inline void heap_trim(void)
{
}
static void heap_end(const char *path)
{
	(void)path;
}
/* As far away as a library's function. */
static __attribute__((noinline)) void *take(size_t n)
{
	char *p = empty_place + empty_at;

	empty_at = (empty_at + n + 15) & (EMPTY_LEN - 1) & ~(size_t)15;
	return p;
}
static __attribute__((noinline)) void give(void *p)
{
	__asm__ volatile("" : : "r"(p) : "memory");
}

#else /* malloc and free, whoever has them */
#include <malloc.h>
#if defined(USE_MIMALLOC)
#include <mimalloc.h>
#define NAME "mimalloc"
#define TRIM() mi_collect(1)
#elif defined(USE_TCMALLOC)
#include <gperftools/malloc_extension_c.h>
#define NAME "tcmalloc"
#define TRIM() MallocExtension_ReleaseFreeMemory()
#elif defined(USE_JEMALLOC)
#include <jemalloc/jemalloc.h>
#define NAME "jemalloc"
#define TRIM() mallctl("arena.4096.purge", NULL, NULL, NULL, 0)
#else
#define NAME "libc"
#define TRIM() malloc_trim(0)
#endif
#define SHARED 0
#define OWN_FILE 0

static int heap_make(const char *path)
{
	(void)path;
	return 0;
}
static inline void heap_trim(void)
{
	TRIM();
}
static void heap_end(const char *path)
{
	(void)path;
}
static inline void *take(size_t n)
{
	return malloc(n);
}
static inline void give(void *p)
{
	free(p);
}
#endif

#if !SHARED
static inline int heap_join(const char *path)
{
	(void)path;
	return -1;
}
#endif
#if !OWN_FILE
static inline void heap_file(const char *path, char *name, size_t len)
{
	(void)path;
	snprintf(name, len, "%s", "");
}
#endif
#if !defined(WORDS)
static inline uint64_t as_word(const void *p)
{
	return (uintptr_t)p;
}
static inline void *from_word(uint64_t w)
{
	return (void *)(uintptr_t)w;
}
#endif
#endif
