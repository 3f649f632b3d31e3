/* SPDX-License-Identifier: BSD-3-Clause */
/* api_shmem.c - tmc/shmem.h: checks arguments, calls down, sets errno */
#include "api.h"

#include "open.h"
#include "size.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MAXSIZE ((size_t)1 << 30)

/* One for each successful open; private to the process. */
struct tmc_shmem {
	struct shmi_arena *arena; /* with a reference */
	tmc_alloc_t alloc;	  /* what tmc_shmem_alloc() returns */
	bool readonly;
	struct shmi_seat *seat; /* for tmc_shmem_find() */
};

unsigned int tmc_shmem_version(void)
{
	return TMC_SHMEM_VERSION_MAJOR << 16 | TMC_SHMEM_VERSION_MINOR << 8 |
	       TMC_SHMEM_VERSION_PATCH;
}

const struct layout_const *shmi_api_constants(const tmc_shmem_t *shm)
{
	return &shm->arena->c;
}

static void fill_alloc(tmc_shmem_t *shm)
{
	const struct layout_const *c = &shm->arena->c;
	tmc_alloc_t *alloc = tmc_alloc_init(&shm->alloc);

	tmc_alloc_set_shared(alloc);
	if (shmi_header_huge(c))
		tmc_alloc_set_huge(alloc);
	alloc->pagesize = c->pagesize;
	if (!(c->flags & LAYOUT_POPULATE))
		tmc_alloc_clear_populate(alloc);
	if (c->flags & LAYOUT_THP)
		tmc_alloc_set_thp(alloc);
	if (shm->readonly)
		alloc->internal_flags |= SHMI_ALLOC_READONLY;
	alloc->internal_arena = shm->arena->id;
}

/* A handle is made before the arena, so that nothing can fail afterwards. */
static tmc_shmem_t *new_handle(void)
{
	tmc_shmem_t *shm = calloc(1, sizeof(*shm));

	if (!shm)
		return NULL;
	shm->seat = shmi_api_seat();
	if (shm->seat)
		return shm;
	free(shm);
	return NULL;
}

static tmc_shmem_t *handle(tmc_shmem_t *shm, int err, bool readonly)
{
	if (err) {
		if (shm)
			shmi_api_rise(shm->seat);
		free(shm);
		errno = -err;
		return NULL;
	}
	shm->readonly = readonly;
	fill_alloc(shm);
	shmi_api_sit(shm->seat, shm, readonly);
	return shm;
}

static int make_plan(struct shmi_plan *plan, const tmc_alloc_t *alloc,
		     void *addr, size_t maxsize)
{
	size_t pagesize, rounded;
	bool huge;
	int err;

	err = shmi_api_pagesize(alloc, &pagesize, &huge);
	if (!err)
		err = shmi_api_policy(alloc);
	if (err)
		return err;
	if (alloc->mmap_prot != (SHMI_PROT_READ | SHMI_PROT_WRITE) ||
	    (uintptr_t)addr % pagesize)
		return -EINVAL;
	err = shmi_api_round(maxsize ? maxsize : DEFAULT_MAXSIZE, pagesize,
			     &rounded);
	if (err)
		return err;
	/* What header.c asks of a file: no sum may wrap. */
	if (rounded > INT64_MAX - LAYOUT_DATA_OFF ||
	    (uintptr_t)addr > INT64_MAX - rounded)
		return -ENOMEM;
	plan->addr = addr;
	plan->maxsize = rounded;
	plan->pagesize = pagesize;
	plan->huge = huge;
	plan->preferred = huge && tmc_alloc_get_huge_preferred(alloc);
	if (tmc_alloc_get_populate(alloc))
		plan->flags |= LAYOUT_POPULATE;
	if (tmc_alloc_get_thp(alloc) && !huge)
		plan->flags |= LAYOUT_THP;
	plan->mode = tmc_alloc_get_mode(alloc);
	plan->policy = alloc->mbind_policy;
	plan->nodes = alloc->mbind_nodemask;
	return 0;
}

static int create_with(const struct shmi_plan *names, const tmc_alloc_t *alloc,
		       void *addr, size_t maxsize, struct shmi_arena **out)
{
	struct shmi_plan plan = *names;
	int err;
	SHMI_API_BEGIN;

	err = make_plan(&plan, alloc, addr, maxsize);
	if (!err)
		err = shmi_open_create(&plan, out);
	SHMI_API_END;
	return err;
}

/* @path NULL: it has none. */
static tmc_shmem_t *create(const char *path, char *temp,
			   const tmc_alloc_t *alloc, void *addr, size_t maxsize)
{
	const struct shmi_plan names = { .path = path, .temp = temp };
	tmc_alloc_t as = TMC_ALLOC_INIT;
	tmc_shmem_t *shm = new_handle();
	int err = -ENOMEM;

	if (alloc)
		as = *alloc;
	if (shm)
		err = create_with(&names, &as, addr, maxsize, &shm->arena);
	if (shm && err && tmc_alloc_get_huge_preferred(&as))
		err = create_with(&names, tmc_alloc_clear_huge(&as), addr,
				  maxsize, &shm->arena);
	return handle(shm, err, false);
}

tmc_shmem_t *tmc_shmem_create(const char *path, const tmc_alloc_t *alloc,
			      void *addr, size_t maxsize)
{
	if (!path) {
		errno = EINVAL;
		return NULL;
	}
	return create(path, NULL, alloc, addr, maxsize);
}

tmc_shmem_t *tmc_shmem_create_anonymous(const tmc_alloc_t *alloc, void *addr,
					size_t maxsize)
{
	return create(NULL, NULL, alloc, addr, maxsize);
}

tmc_shmem_t *tmc_shmem_create_temp(char *path_template,
				   const tmc_alloc_t *alloc, void *addr,
				   size_t maxsize)
{
	size_t len = path_template ? strlen(path_template) : 0;

	if (len < 6 || strcmp(path_template + len - 6, "XXXXXX")) {
		errno = EINVAL;
		return NULL;
	}
	return create(path_template, path_template, alloc, addr, maxsize);
}

static tmc_shmem_t *open_path(const char *path, bool rw)
{
	tmc_shmem_t *shm = new_handle();
	int err = shm ? 0 : -ENOMEM;

	if (!path)
		err = -EINVAL;
	if (!err) {
		SHMI_API_BEGIN;
		err = shmi_open_path(path, rw, &shm->arena);
		SHMI_API_END;
	}
	return handle(shm, err, !rw);
}

tmc_shmem_t *tmc_shmem_open(const char *path)
{
	return open_path(path, true);
}

tmc_shmem_t *tmc_shmem_open_readonly(const char *path)
{
	return open_path(path, false);
}

tmc_shmem_t *tmc_shmem_open_fds(int fd, int hugefd)
{
	tmc_shmem_t *shm = new_handle();
	int err = shm ? 0 : -ENOMEM;
	bool rw = false;

	if (!err) {
		SHMI_API_BEGIN;
		err = shmi_open_fds(fd, hugefd, &rw, &shm->arena);
		SHMI_API_END;
	}
	return handle(shm, err, !rw);
}

void tmc_shmem_close(tmc_shmem_t *shm)
{
	int kept = errno;

	if (!shm)
		return;
	shmi_api_rise(shm->seat);
	{
		SHMI_API_BEGIN;
		shmi_open_close(shm->arena);
		SHMI_API_END;
	}
	free(shm);
	errno = kept;
}

static int unlink_path(const char *path, bool idle)
{
	int err = -EINVAL;

	if (path) {
		SHMI_API_BEGIN;
		err = shmi_open_unlink(path, idle);
		SHMI_API_END;
	}
	return shmi_api_result(err);
}

int tmc_shmem_unlink(const char *path)
{
	return unlink_path(path, false);
}

int tmc_shmem_unlink_idle(const char *path)
{
	return unlink_path(path, true);
}

/* What every call that changes the arena asks of its handle. */
static int may_write(const tmc_shmem_t *shm)
{
	if (!shm)
		return -EINVAL;
	return shm->readonly ? -EACCES : 0;
}

void *tmc_shmem_grow(tmc_shmem_t *shm, size_t bytes)
{
	int err = may_write(shm);
	size_t rounded;
	uint64_t off = 0;

	if (!err)
		err = shmi_api_round(bytes, shm->arena->c.pagesize, &rounded);
	if (!err) {
		SHMI_API_BEGIN;
		err = shmi_size_grow(shm->arena, SHMI_SIZE_ANY, rounded,
				     tmc_alloc_get_populate(&shm->alloc), &off);
		SHMI_API_END;
	}
	if (shmi_api_result(err))
		return NULL;
	return shmi_arena_base(shm->arena) + off;
}

int tmc_shmem_shrink(tmc_shmem_t *shm, off_t offset, size_t bytes)
{
	int err = may_write(shm);
	size_t rounded;

	if (!err && (offset < 0 || (uint64_t)offset % shm->arena->c.pagesize ||
		     shmi_api_round(bytes, shm->arena->c.pagesize, &rounded)))
		err = -EINVAL;
	if (!err) {
		SHMI_API_BEGIN;
		err = shmi_size_shrink(shm->arena, (uint64_t)offset, rounded);
		SHMI_API_END;
	}
	return shmi_api_result(err);
}

tmc_alloc_t *tmc_shmem_alloc(tmc_shmem_t *shm)
{
	return shm ? &shm->alloc : NULL;
}

int tmc_shmem_fd(const tmc_shmem_t *shm)
{
	return shm ? shm->arena->fd : shmi_api_result(-EINVAL);
}

int tmc_shmem_hugefd(const tmc_shmem_t *shm)
{
	return shm ? shm->arena->hugefd : shmi_api_result(-EINVAL);
}

size_t tmc_shmem_current_size(const tmc_shmem_t *shm)
{
	return shm ? shmi_size_now(shm->arena) : 0;
}

size_t tmc_shmem_maximum_size(const tmc_shmem_t *shm)
{
	return shm ? shm->arena->c.maxsize : 0;
}

size_t tmc_shmem_page_size(const tmc_shmem_t *shm)
{
	return shm ? shm->arena->c.pagesize : 0;
}

void *tmc_shmem_address(const tmc_shmem_t *shm)
{
	return shm ? shmi_arena_base(shm->arena) : NULL;
}

int tmc_shmem_set_data(tmc_shmem_t *shm, void *data)
{
	int err = may_write(shm);

	/* release: pairs with the acquire in tmc_shmem_get_data() */
	if (!err)
		atomic_store_explicit(&shm->arena->lock.h->root,
				      (uintptr_t)data, memory_order_release);
	return shmi_api_result(err);
}

void *tmc_shmem_get_data(const tmc_shmem_t *shm)
{
	uintptr_t root;

	if (!shm)
		return NULL;
	root = (uintptr_t)atomic_load_explicit(&shm->arena->lock.h->root,
					       memory_order_acquire);
	return (void *)root; /* the application's; any value is right */
}
