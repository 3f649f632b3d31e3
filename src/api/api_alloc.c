/* SPDX-License-Identifier: BSD-3-Clause */
/* api_alloc.c - tmc/alloc.h: checks arguments, calls down, sets errno */
#include "api.h"

#include "page.h"
#include "size.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>

#define HUGE_SHIFT SHMI_MAP_HUGE_SHIFT
#define HUGE_MASK 0x3fu
#define HUGE_BITS ((int)(HUGE_MASK << HUGE_SHIFT))
#define FAILED ((void *)-1) /* MAP_FAILED */

static_assert(SHMI_MAP_POPULATE == TMC_MAP_POPULATE, "one value");

static const tmc_alloc_t defaults = TMC_ALLOC_INIT;

int shmi_api_result(int err)
{
	if (!err)
		return 0;
	errno = -err;
	return -1;
}

int shmi_api_round(size_t bytes, size_t pagesize, size_t *rounded)
{
	if (!bytes || !pagesize)
		return -EINVAL;
	*rounded = (bytes + pagesize - 1) & ~(pagesize - 1);
	return *rounded < bytes ? -ENOMEM : 0;
}

/* ----- setters ----- */

tmc_alloc_t *tmc_alloc_init(tmc_alloc_t *alloc)
{
	if (alloc)
		*alloc = defaults;
	return alloc;
}

static tmc_alloc_t *set_flags(tmc_alloc_t *alloc, int set, int clear)
{
	if (alloc)
		alloc->mmap_flags = (alloc->mmap_flags & ~clear) | set;
	return alloc;
}

static tmc_alloc_t *set_huge_flag(tmc_alloc_t *alloc, bool huge,
				  size_t pagesize)
{
	if (alloc) {
		alloc->pagesize = pagesize;
		alloc->internal_flags &= ~SHMI_ALLOC_HUGE_PREFERRED;
	}
	return set_flags(alloc, huge ? SHMI_MAP_HUGETLB : 0,
			 SHMI_MAP_HUGETLB | HUGE_BITS);
}

tmc_alloc_t *tmc_alloc_set_huge(tmc_alloc_t *alloc)
{
	return set_huge_flag(alloc, true, 0);
}

tmc_alloc_t *tmc_alloc_clear_huge(tmc_alloc_t *alloc)
{
	return set_huge_flag(alloc, false, 0);
}

tmc_alloc_t *tmc_alloc_set_huge_preferred(tmc_alloc_t *alloc)
{
	if (!tmc_alloc_get_huge(alloc))
		tmc_alloc_set_huge(alloc);
	if (alloc)
		alloc->internal_flags |= SHMI_ALLOC_HUGE_PREFERRED;
	return alloc;
}

int tmc_alloc_get_huge_preferred(const tmc_alloc_t *alloc)
{
	return alloc && (alloc->internal_flags & SHMI_ALLOC_HUGE_PREFERRED);
}

int tmc_alloc_get_huge(const tmc_alloc_t *alloc)
{
	if (!alloc)
		return 0;
	if (alloc->pagesize)
		return alloc->pagesize > shmi_os_pagesize();
	return (alloc->mmap_flags & SHMI_MAP_HUGETLB) != 0;
}

unsigned long tmc_alloc_get_pagesizes(void)
{
	unsigned long sizes;
	SHMI_API_BEGIN;

	sizes = shmi_os_pagesize() | shmi_os_huge_sizes();
	SHMI_API_END;
	return sizes;
}

size_t tmc_alloc_get_huge_pagesize(void)
{
	size_t size;
	SHMI_API_BEGIN;

	shmi_os_huge_default(&size);
	SHMI_API_END;
	return size;
}

/* Of an object that asks for huge pages; 0: the machine has none such. */
static int huge_pagesize(const tmc_alloc_t *alloc, size_t *size)
{
	unsigned int shift =
		(unsigned int)alloc->mmap_flags >> HUGE_SHIFT & HUGE_MASK;
	int has;

	if (!shift)
		return shmi_os_huge_default(size);
	has = shmi_os_has_huge((uint64_t)1 << shift);
	*size = has == 1 ? (size_t)1 << shift : 0;
	return has < 0 ? has : 0;
}

/* *@pagesize as tmc_alloc_get_pagesize(); if that is 0, perhaps -errno. */
static int find_pagesize(const tmc_alloc_t *alloc, size_t *pagesize)
{
	int err = 0;

	*pagesize = shmi_os_pagesize();
	if (alloc && alloc->pagesize) {
		*pagesize = alloc->pagesize;
	} else if (tmc_alloc_get_huge(alloc)) {
		err = huge_pagesize(alloc, pagesize);
		if (!*pagesize && tmc_alloc_get_huge_preferred(alloc)) {
			*pagesize = shmi_os_pagesize();
			err = 0;
		}
	}
	return err;
}

size_t tmc_alloc_get_pagesize(const tmc_alloc_t *alloc)
{
	size_t pagesize;
	SHMI_API_BEGIN;

	find_pagesize(alloc, &pagesize);
	SHMI_API_END;
	return pagesize;
}

int shmi_api_pagesize(const tmc_alloc_t *alloc, size_t *pagesize, bool *huge)
{
	const int known = SHMI_MAP_HUGETLB | HUGE_BITS | SHMI_MAP_SHARED |
			  SHMI_MAP_PRIVATE | SHMI_MAP_POPULATE |
			  SHMI_MAP_ANONYMOUS;
	int err;

	if (alloc->mmap_flags & ~known)
		return -EINVAL;
	err = find_pagesize(alloc, pagesize);
	if (err)
		return err;
	*huge = tmc_alloc_get_huge(alloc) && *pagesize != shmi_os_pagesize();
	/* A caller can have stored anything in the field. */
	if (!*pagesize || (*pagesize & (*pagesize - 1)))
		return -EINVAL;
	if (*pagesize == shmi_os_pagesize())
		return 0;
	err = shmi_os_has_huge(*pagesize);
	return err < 0 ? err : err ? 0 : -EINVAL;
}

tmc_alloc_t *tmc_alloc_set_pagesize_exact(tmc_alloc_t *alloc, size_t pagesize)
{
	if (!pagesize || (pagesize & (pagesize - 1)) ||
	    !(tmc_alloc_get_pagesizes() & pagesize))
		return NULL;
	return set_huge_flag(alloc, pagesize > shmi_os_pagesize(), pagesize);
}

tmc_alloc_t *tmc_alloc_set_pagesize(tmc_alloc_t *alloc, size_t size)
{
	unsigned long sizes = tmc_alloc_get_pagesizes();
	size_t page = 0;

	/* From the smallest bit to the largest. */
	for (; sizes; sizes &= sizes - 1) {
		page = sizes & -sizes;
		if (page >= size)
			return tmc_alloc_set_pagesize_exact(alloc, page);
	}
	tmc_alloc_set_pagesize_exact(alloc, page);
	return NULL;
}

tmc_alloc_t *tmc_alloc_set_populate(tmc_alloc_t *alloc)
{
	return set_flags(alloc, SHMI_MAP_POPULATE, 0);
}

tmc_alloc_t *tmc_alloc_clear_populate(tmc_alloc_t *alloc)
{
	return set_flags(alloc, 0, SHMI_MAP_POPULATE);
}

int tmc_alloc_get_populate(const tmc_alloc_t *alloc)
{
	return alloc && (alloc->mmap_flags & SHMI_MAP_POPULATE);
}

tmc_alloc_t *tmc_alloc_set_thp(tmc_alloc_t *alloc)
{
	if (alloc)
		alloc->internal_flags |= SHMI_ALLOC_THP;
	return alloc;
}

tmc_alloc_t *tmc_alloc_clear_thp(tmc_alloc_t *alloc)
{
	if (alloc)
		alloc->internal_flags &= ~SHMI_ALLOC_THP;
	return alloc;
}

int tmc_alloc_get_thp(const tmc_alloc_t *alloc)
{
	return alloc && (alloc->internal_flags & SHMI_ALLOC_THP);
}

tmc_alloc_t *tmc_alloc_set_shared(tmc_alloc_t *alloc)
{
	return set_flags(alloc, SHMI_MAP_SHARED, SHMI_MAP_PRIVATE);
}

tmc_alloc_t *tmc_alloc_clear_shared(tmc_alloc_t *alloc)
{
	return set_flags(alloc, 0, SHMI_MAP_SHARED);
}

int tmc_alloc_get_shared(const tmc_alloc_t *alloc)
{
	return alloc && (alloc->mmap_flags & SHMI_MAP_SHARED);
}

/* ----- mode ----- */

#define MODE_DEFAULT 0600u /* so that an object without one has it */
#define MODE_BITS 0777u

tmc_alloc_t *tmc_alloc_set_mode(tmc_alloc_t *alloc, unsigned int mode)
{
	if (mode & ~MODE_BITS) {
		errno = EINVAL;
		return NULL;
	}
	if (alloc) {
		alloc->internal_flags &= ~(MODE_BITS << SHMI_ALLOC_MODE_SHIFT);
		alloc->internal_flags |= (mode ^ MODE_DEFAULT)
					 << SHMI_ALLOC_MODE_SHIFT;
	}
	return alloc;
}

unsigned int tmc_alloc_get_mode(const tmc_alloc_t *alloc)
{
	if (!alloc)
		return 0;
	return (alloc->internal_flags >> SHMI_ALLOC_MODE_SHIFT & MODE_BITS) ^
	       MODE_DEFAULT;
}

/* ----- NUMA ----- */

static tmc_alloc_t *set_policy(tmc_alloc_t *alloc, int policy,
			       unsigned long nodes)
{
	if (alloc) {
		alloc->mbind_policy = policy;
		alloc->mbind_nodemask = nodes;
	}
	return alloc;
}

tmc_alloc_t *tmc_alloc_set_nodes(tmc_alloc_t *alloc, unsigned long mask)
{
	return set_policy(alloc, TMC_MPOL_BIND, mask);
}

/* A node that no mask can hold becomes one that no machine has. */
tmc_alloc_t *tmc_alloc_set_node_preferred(tmc_alloc_t *alloc, int node)
{
	return set_policy(alloc, TMC_MPOL_PREFERRED,
			  node < 0 || node > 63 ? 0 : 1ul << node);
}

tmc_alloc_t *tmc_alloc_set_nodes_interleaved(tmc_alloc_t *alloc,
					     unsigned long mask)
{
	return set_policy(alloc, TMC_MPOL_INTERLEAVE, mask);
}

tmc_alloc_t *tmc_alloc_set_node_local(tmc_alloc_t *alloc)
{
	return set_policy(alloc, TMC_MPOL_LOCAL, 0);
}

tmc_alloc_t *tmc_alloc_set_node_default(tmc_alloc_t *alloc)
{
	return set_policy(alloc, TMC_MPOL_DEFAULT, 0);
}

/* A kernel that does not tell has one node. */
unsigned long tmc_alloc_get_available_nodes(void)
{
	unsigned long nodes = shmi_os_nodes();

	return nodes ? nodes : 1;
}

unsigned long tmc_alloc_num_available_nodes(void)
{
	unsigned long nodes = tmc_alloc_get_available_nodes();

	return (unsigned long)__builtin_popcountl(nodes);
}

int shmi_api_policy(const tmc_alloc_t *alloc)
{
	switch (alloc->mbind_policy) {
	case TMC_MPOL_DEFAULT:
	case TMC_MPOL_LOCAL:
		return alloc->mbind_nodemask ? -EINVAL : 0;
	case TMC_MPOL_PREFERRED:
	case TMC_MPOL_BIND:
	case TMC_MPOL_INTERLEAVE:
		return alloc->mbind_nodemask ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}

/* ----- pages ----- */

size_t tmc_alloc_size(const tmc_alloc_t *alloc, size_t size)
{
	size_t pagesize, rounded;
	bool huge;
	int err;
	SHMI_API_BEGIN;

	err = shmi_api_pagesize(alloc ? alloc : &defaults, &pagesize, &huge);
	SHMI_API_END;
	if (err || shmi_api_round(size, pagesize, &rounded))
		return 0;
	return rounded;
}

static int map_from_arena(const tmc_alloc_t *alloc, void *start, size_t size,
			  void **at)
{
	struct shmi_arena *a = shmi_arena_by_id(alloc->internal_arena);
	uint64_t where = SHMI_SIZE_ANY, off = 0;
	size_t rounded = 0;
	int err;

	if (!a)
		return -EINVAL;
	err = shmi_api_round(size, a->c.pagesize, &rounded);
	if (!err && (alloc->internal_flags & SHMI_ALLOC_READONLY))
		err = -EACCES;
	if (!err && start) {
		where = (uintptr_t)start - a->c.base;
		if (where & (a->c.pagesize - 1))
			err = -EINVAL;
		else if (where > a->c.maxsize)
			err = -EADDRINUSE;
	}
	if (!err)
		err = shmi_size_grow(a, where, rounded,
				     tmc_alloc_get_populate(alloc), &off);
	*at = shmi_arena_base(a) + off;
	shmi_arena_done(a);
	return err;
}

int shmi_api_pages(const tmc_alloc_t *alloc, struct shmi_pages *how)
{
	bool huge;
	int err = shmi_api_pagesize(alloc, &how->pagesize, &huge);

	if (!err)
		err = shmi_api_policy(alloc);
	if (err)
		return err;
	if (alloc->mmap_prot &
	    ~(SHMI_PROT_READ | SHMI_PROT_WRITE | SHMI_PROT_EXEC))
		return -EINVAL;
	how->populate = tmc_alloc_get_populate(alloc);
	how->how.prot = alloc->mmap_prot;
	how->how.shared = tmc_alloc_get_shared(alloc);
	how->how.huge = huge ? how->pagesize : 0;
	how->how.thp = tmc_alloc_get_thp(alloc);
	how->preferred = huge && tmc_alloc_get_huge_preferred(alloc);
	how->policy = alloc->mbind_policy;
	how->nodes = alloc->mbind_nodemask;
	return 0;
}

static int map_pages(const tmc_alloc_t *alloc, void *start, size_t size,
		     void **at)
{
	struct shmi_pages how = { .pagesize = 0 };
	int err = shmi_api_pages(alloc, &how);

	return err ? err : shmi_page_map(&how, start, size, at);
}

static void *map(const tmc_alloc_t *alloc, void *start, size_t size)
{
	tmc_alloc_t real;
	void *at = NULL;
	int err = 0;
	SHMI_API_BEGIN;

	if (!alloc)
		alloc = &defaults;
	if (alloc->internal_flags & SHMI_ALLOC_CMEM) {
		err = shmi_cmem_alloc(alloc, &real);
		alloc = &real;
	}
	if (err)
		at = NULL;
	else if (alloc->internal_arena)
		err = map_from_arena(alloc, start, size, &at);
	else
		err = map_pages(alloc, start, size, &at);
	SHMI_API_END;
	return shmi_api_result(err) ? NULL : at;
}

void *tmc_alloc_map(const tmc_alloc_t *alloc, size_t size)
{
	return map(alloc, NULL, size);
}

void *tmc_alloc_map_at(const tmc_alloc_t *alloc, void *start, size_t size)
{
	if (!start) {
		errno = EINVAL;
		return NULL;
	}
	return map(alloc, start, size);
}

/* What both calls below ask of a range in an arena: where its tail begins. */
static int arena_tail(const struct shmi_arena *a, const void *start,
		      size_t size, uint64_t *off, size_t *rounded)
{
	*off = (uintptr_t)start - a->c.base;
	if ((*off & (a->c.pagesize - 1)) ||
	    shmi_api_round(size, a->c.pagesize, rounded))
		return -EINVAL;
	return a->writable ? 0 : -EACCES;
}

int tmc_alloc_unmap(void *start, size_t size)
{
	struct shmi_arena *a;
	uint64_t off;
	size_t rounded;
	int err;
	SHMI_API_BEGIN;

	a = shmi_arena_around(start);
	if (a) {
		err = arena_tail(a, start, size, &off, &rounded);
		if (!err)
			err = shmi_size_shrink(a, off, rounded);
		shmi_arena_done(a);
	} else {
		err = shmi_page_unmap(start, size);
	}
	SHMI_API_END;
	return shmi_api_result(err);
}

static int remap_tail(struct shmi_arena *a, void *old, size_t old_len,
		      size_t new_len, int flags)
{
	uint64_t off, unused;
	size_t from, to;
	int err = arena_tail(a, old, old_len, &off, &from);

	/* Or the sums below could wrap. */
	if (!err && (flags & SHMI_REMAP_FIXED || from > a->c.maxsize - off))
		err = -EINVAL;
	if (!err)
		err = shmi_api_round(new_len, a->c.pagesize, &to);
	if (err)
		return err;
	if (to < from)
		return shmi_size_shrink(a, off + to, from - to);
	if (to == from)
		return off + from == shmi_size_now(a) ? 0 : -EINVAL;
	err = shmi_size_grow(a, off + from, to - from,
			     (a->c.flags & LAYOUT_POPULATE) != 0, &unused);
	return err == -EADDRINUSE ? -EINVAL : err;
}

static int remap(void *old, size_t old_len, size_t new_len, int flags,
		 void *fixed, void **at)
{
	struct shmi_arena *a = shmi_arena_around(old);
	int err;

	*at = old;
	if (a) {
		err = remap_tail(a, old, old_len, new_len, flags);
		shmi_arena_done(a);
		return err;
	}
	return shmi_page_remap(old, old_len, new_len,
			       flags & SHMI_REMAP_MAYMOVE, fixed, at);
}

void *tmc_alloc_remap(void *old, size_t old_len, size_t new_len, int flags, ...)
{
	void *fixed = NULL, *at = NULL;
	int err = 0;

	if (flags & SHMI_REMAP_FIXED) {
		va_list ap;

		va_start(ap, flags);
		fixed = va_arg(ap, void *);
		va_end(ap);
		if (!fixed || !(flags & SHMI_REMAP_MAYMOVE))
			err = -EINVAL;
	}
	if (flags & ~(SHMI_REMAP_MAYMOVE | SHMI_REMAP_FIXED))
		err = -EINVAL;
	if (!err) {
		SHMI_API_BEGIN;
		err = remap(old, old_len, new_len, flags, fixed, &at);
		SHMI_API_END;
	}
	return shmi_api_result(err) ? FAILED : at;
}
