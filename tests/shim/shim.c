/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shim.c - malloc and free of a program, from a heap in an arena. LD_PRELOAD.
 *
 * The arena is a file in SHIM_DIR (/dev/shm) without a name, made at the first
 * call. SHIM=libc passes everything on to the C library: what that costs is
 * the shim's own part.
 *
 * What the library itself allocates, while it works for us, is the C library's;
 * free() knows by the address whose a block is. So is what the child of a fork
 * allocates: it shares the arena with its parent, so it must not touch the
 * heap, and what it frees there stays. That is enough for a child that goes on
 * to exec, and for nothing else.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <shmem.h>

#define ARENA_MAX ((size_t)16 << 30)

#define SHIM __attribute__((visibility("default")))

/* glibc's own, under names that nobody replaces. */
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);
extern void __libc_free(void *p);

SHIM void *malloc(size_t n);
SHIM void *calloc(size_t n, size_t size);
SHIM void *realloc(void *p, size_t n);
SHIM void free(void *p);
SHIM int posix_memalign(void **p, size_t align, size_t n);
SHIM void *aligned_alloc(size_t align, size_t n);
SHIM void *memalign(size_t align, size_t n);
SHIM void *valloc(size_t n);
SHIM void *pvalloc(size_t n);
SHIM size_t malloc_usable_size(void *p);

static _Atomic int state; /* 0 not looked, 1 the heap, 2 the C library */
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;
static tmc_mspace heap;
static uintptr_t lo; /* the arena; 0: none */

/* In a call of the library: what comes now is for the C library. */
static _Thread_local int inside;

static void after_fork(void)
{
	atomic_store(&state, 2);
}

static int make_heap(void)
{
	const char *dir = getenv("SHIM_DIR");
	char path[256];
	tmc_shmem_t *shm;

	snprintf(path, sizeof(path), "%s/libshmem-shim-XXXXXX",
		 dir ? dir : "/dev/shm");
	shm = tmc_shmem_create_temp(path, NULL, NULL, ARENA_MAX);
	if (!shm || tmc_shmem_unlink(path))
		return -1;
	heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	if (!heap || pthread_atfork(NULL, NULL, after_fork))
		return -1;
	lo = (uintptr_t)tmc_shmem_address(shm);
	return 0;
}

static void look(void)
{
	const char *which;

	pthread_mutex_lock(&making);
	if (!atomic_load(&state)) {
		inside = 1;
		which = getenv("SHIM");
		if (which && !strcmp(which, "libc")) {
			atomic_store(&state, 2);
		} else if (make_heap()) {
			perror("shim: no heap");
			_exit(127);
		} else {
			atomic_store(&state, 1);
		}
		inside = 0;
	}
	pthread_mutex_unlock(&making);
}

/* Whether a block is to come from the heap; then leave() has to follow. */
static inline int enter(void)
{
	if (inside)
		return 0;
	if (!atomic_load_explicit(&state, memory_order_acquire))
		look();
	if (atomic_load_explicit(&state, memory_order_relaxed) != 1)
		return 0;
	inside = 1;
	return 1;
}

static inline void leave(void)
{
	inside = 0;
}

static inline int is_ours(const void *p)
{
	return lo && (uintptr_t)p - lo < ARENA_MAX;
}

void *malloc(size_t n)
{
	void *p;

	if (!enter())
		return __libc_malloc(n);
	p = tmc_mspace_malloc(heap, n);
	leave();
	return p;
}

void *calloc(size_t n, size_t size)
{
	void *p;

	if (!enter())
		return __libc_calloc(n, size);
	p = tmc_mspace_calloc(heap, n, size);
	leave();
	return p;
}

void free(void *p)
{
	if (!is_ours(p)) {
		__libc_free(p);
	} else if (enter()) {
		tmc_mspace_free(p);
		leave();
	}
}

/* A block of the other kind, with the same bytes. */
static void *move(void *p, size_t n)
{
	size_t have = malloc_usable_size(p);
	void *q = malloc(n);

	if (q) {
		memcpy(q, p, n < have ? n : have);
		free(p);
	}
	return q;
}

void *realloc(void *p, size_t n)
{
	if (!p)
		return malloc(n);
	if (!n) {
		free(p);
		return NULL;
	}
	if (!is_ours(p))
		return __libc_realloc(p, n);
	if (!enter())
		return move(p, n);
	p = tmc_mspace_realloc(heap, p, n);
	leave();
	return p;
}

void *memalign(size_t align, size_t n)
{
	void *p;

	if (!enter())
		return __libc_memalign(align, n);
	p = tmc_mspace_memalign(heap, align, n);
	leave();
	return p;
}

int posix_memalign(void **p, size_t align, size_t n)
{
	int kept = errno, err = 0;
	void *q;

	if (align % sizeof(void *) || !align || align & (align - 1))
		return EINVAL;
	q = memalign(align, n);
	if (q)
		*p = q;
	else
		err = ENOMEM;
	errno = kept;
	return err;
}

void *aligned_alloc(size_t align, size_t n)
{
	return memalign(align, n);
}

void *valloc(size_t n)
{
	return memalign((size_t)getpagesize(), n);
}

void *pvalloc(size_t n)
{
	size_t page = (size_t)getpagesize();

	return memalign(page, (n + page - 1) / page * page);
}

/* The C library's is hidden by this one; its header is a word before the
 * block, and tells of pages mapped for it alone in bit 1. */
static size_t libc_usable(const void *p)
{
	size_t head = ((const size_t *)p)[-1];

	return (head & ~(size_t)7) - (head & 2 ? 16 : 8);
}

size_t malloc_usable_size(void *p)
{
	if (!p)
		return 0;
	return is_ours(p) ? tmc_mspace_usable_size(p) : libc_usable(p);
}
