/* SPDX-License-Identifier: BSD-3-Clause */
/* api_mspace.c - tmc/mspace.h: checks arguments, calls down, sets errno */
#include "api.h"

#include "span.h"

#include <tmc/mspace.h>

#include <errno.h>

#define SHARED_MOST ((size_t)64 << 30) /* or twice the capacity */
#define FLAGS (TMC_MSPACE_LOCKED | TMC_MSPACE_NOGROW | TMC_MSPACE_SPINLOCK)

/*
 * The arena of @alloc, with a reference, or pages of the process's own.
 * -EINVAL for an arena that has been closed.
 */
static int source(const tmc_alloc_t *alloc, struct shmi_heap_plan *plan,
		  struct shmi_pages *how)
{
	static const tmc_alloc_t defaults = TMC_ALLOC_INIT;
	const int both = SHMI_PROT_READ | SHMI_PROT_WRITE;
	tmc_alloc_t real;
	int err;

	if (!alloc)
		alloc = &defaults;
	if (alloc->internal_flags & SHMI_ALLOC_CMEM) {
		err = shmi_cmem_alloc(alloc, &real);
		if (err)
			return err;
		alloc = &real;
	}
	plan->how = how;
	plan->populate = tmc_alloc_get_populate(alloc);
	if (!alloc->internal_arena)
		return (alloc->mmap_prot & both) == both
			       ? shmi_api_pages(alloc, how)
			       : -EINVAL;
	if (alloc->internal_flags & SHMI_ALLOC_READONLY)
		return -EACCES;
	plan->arena = shmi_arena_by_id(alloc->internal_arena);
	return plan->arena ? 0 : -EINVAL;
}

static tmc_mspace create(void *base, size_t capacity, unsigned int flags,
			 const tmc_alloc_t *alloc)
{
	struct shmi_heap_plan plan = { .base = base,
				       .capacity = capacity,
				       .flags = flags };
	struct shmi_pages how = { .pagesize = 0 };
	struct heap_hdr *h = NULL;
	int err = flags & ~FLAGS ? -EINVAL : 0;
	SHMI_API_BEGIN;

	if (base)
		plan.flags |= TMC_MSPACE_NOGROW;
	if (!err && base)
		plan.arena = shmi_arena_around(base);
	else if (!err)
		err = source(alloc, &plan, &how);
	if (!err)
		err = shmi_heap_create(&plan, &h);
	if (plan.arena)
		shmi_arena_done(plan.arena);
	SHMI_API_END;
	return shmi_api_result(err) ? NULL : h;
}

/*
 * Memory that a forked child is to share: an arena of its own, without a name.
 * So the heap outlives any death in the family, as in any other arena.
 */
static tmc_mspace create_shared(size_t capacity, unsigned int flags,
				const tmc_alloc_t *alloc)
{
	size_t most = capacity > SHARED_MOST / 2 ? capacity : SHARED_MOST / 2;
	struct shmi_heap *hp;
	tmc_shmem_t *shm;
	tmc_mspace h;
	int err;

	if (flags & ~FLAGS || most > SIZE_MAX / 4) {
		errno = flags & ~FLAGS ? EINVAL : ENOMEM;
		return NULL;
	}
	shm = tmc_shmem_create_anonymous(alloc, NULL, most * 2);
	if (!shm)
		return NULL;
	h = create(NULL, capacity, flags, tmc_shmem_alloc(shm));
	if (h && !shmi_heap_get(h, &hp)) {
		hp->backing = shm;
		return h;
	}
	err = errno;
	tmc_shmem_close(shm);
	errno = err;
	return NULL;
}

tmc_mspace tmc_mspace_create(size_t capacity, unsigned int flags)
{
	return create(NULL, capacity, flags, NULL);
}

tmc_mspace tmc_mspace_create_special(size_t capacity, unsigned int flags,
				     const tmc_alloc_t *alloc)
{
	if (alloc && tmc_alloc_get_shared(alloc) && !alloc->internal_arena &&
	    !(alloc->internal_flags & SHMI_ALLOC_CMEM))
		return create_shared(capacity, flags, alloc);
	return create(NULL, capacity, flags, alloc);
}

tmc_mspace tmc_mspace_create_with_base_special(void *base, size_t capacity,
					       unsigned int flags,
					       const tmc_alloc_t *alloc)
{
	(void)alloc;
	if (!base) {
		errno = EINVAL;
		return NULL;
	}
	return create(base, capacity, flags, NULL);
}

tmc_mspace tmc_mspace_create_with_base(void *base, size_t capacity,
				       unsigned int flags)
{
	return tmc_mspace_create_with_base_special(base, capacity, flags, NULL);
}

tmc_mspace tmc_mspace_access_with_base(void *base)
{
	uintptr_t start = ((uintptr_t)base + HEAP_SLICE - 1) &
			  ~(uintptr_t)(HEAP_SLICE - 1);
	struct shmi_heap *hp;
	int err;
	SHMI_API_BEGIN;

	err = shmi_heap_get_at((void *)start, &hp);
	SHMI_API_END;
	return shmi_api_result(err) ? NULL : (tmc_mspace)start;
}

size_t tmc_mspace_destroy(tmc_mspace msp)
{
	struct shmi_heap *hp;
	void *backing = NULL;
	uint64_t freed = 0;
	int err;
	SHMI_API_BEGIN;

	err = shmi_heap_get(msp, &hp);
	if (!err) {
		backing = hp->backing;
		err = shmi_heap_destroy(msp, &freed);
	}
	SHMI_API_END;
	if (!err)
		tmc_shmem_close(backing);
	return shmi_api_result(err) ? 0 : freed;
}

/*
 * malloc, free and their like do without SHMI_API_BEGIN, which would take longer
 * than they do: what can be a cancellation point in them is guarded where it
 * is (heap_page.c, heap.c, thread.c, lock.c). An asynchronous cancellation must
 * not meet them, as it must not meet the C library's.
 */
static void *slow_malloc(void *msp, size_t n)
{
	return shmi_heap_malloc(msp, n);
}

void *tmc_mspace_malloc(tmc_mspace msp, size_t n)
{
	return shmi_span_quick_malloc(msp, n, slow_malloc);
}

void *tmc_mspace_calloc(tmc_mspace msp, size_t n, size_t size)
{
	return shmi_heap_calloc(msp, n, size);
}

void *tmc_mspace_realloc(tmc_mspace msp, void *p, size_t n)
{
	return shmi_heap_realloc(msp, p, n);
}

void *tmc_mspace_memalign(tmc_mspace msp, size_t align, size_t n)
{
	return shmi_heap_memalign(msp, align, n);
}

/* Out of line, or the common free would save registers for it. */
static __attribute__((noinline, cold)) void slow_free(void *p)
{
	int kept = errno;

	if (p)
		shmi_heap_free(p);
	errno = kept;
}

void tmc_mspace_free(void *p)
{
	shmi_span_quick_free(p, slow_free);
}

size_t tmc_mspace_usable_size(const void *p)
{
	return p ? shmi_heap_usable(p) : 0;
}

int tmc_mspace_trim(tmc_mspace msp, size_t pad)
{
	bool released = false;
	int err;
	SHMI_API_BEGIN;

	err = shmi_heap_trim(msp, pad, &released);
	SHMI_API_END;
	return err ? shmi_api_result(err) : released;
}

void tmc_mspace_statistics(tmc_mspace msp, size_t *max_footprint,
			   size_t *footprint, size_t *used)
{
	size_t peak = 0, now = 0, in_use = 0;
	int kept = errno;
	SHMI_API_BEGIN;

	shmi_heap_stats(msp, &peak, &now, &in_use);
	SHMI_API_END;
	if (max_footprint)
		*max_footprint = peak;
	if (footprint)
		*footprint = now;
	if (used)
		*used = in_use;
	errno = kept;
}

int tmc_mspace_check(tmc_mspace msp)
{
	int err;
	SHMI_API_BEGIN;

	err = shmi_heap_check(msp);
	SHMI_API_END;
	return shmi_api_result(err);
}

/* What a heap of no arena was made with; @alloc has the defaults, which memory
 * that was given keeps. */
static void describe_pages(const struct shmi_pages *how, tmc_alloc_t *alloc)
{
	if (!how->how.prot)
		return;
	alloc->mmap_prot = how->how.prot;
	if (how->how.huge) {
		tmc_alloc_set_huge(alloc);
		alloc->pagesize = how->pagesize;
	}
	if (how->preferred)
		tmc_alloc_set_huge_preferred(alloc);
	if (how->how.thp)
		tmc_alloc_set_thp(alloc);
	alloc->mbind_policy = how->policy;
	alloc->mbind_nodemask = how->nodes;
}

tmc_alloc_t *tmc_mspace_allocator(tmc_mspace msp)
{
	static _Thread_local tmc_alloc_t alloc;
	struct shmi_heap *hp;
	int err;
	SHMI_API_BEGIN;

	err = shmi_heap_get(msp, &hp);
	SHMI_API_END;
	if (shmi_api_result(err))
		return NULL;
	tmc_alloc_init(&alloc);
	if (!hp->populate)
		tmc_alloc_clear_populate(&alloc);
	if (hp->arena) {
		tmc_alloc_set_shared(&alloc);
		alloc.pagesize = hp->arena->c.pagesize;
		alloc.internal_arena = hp->arena_id;
	} else {
		describe_pages(&hp->how, &alloc);
	}
	return &alloc;
}
