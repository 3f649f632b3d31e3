/* SPDX-License-Identifier: BSD-3-Clause */
/* api_cmem.c - tmc/cmem.h: memory for a family of processes */
/*
 * A set of anonymous arenas, of which the first has small pages and the heap;
 * its root pointer leads to that. The others differ in page size, NUMA
 * placement or THP and are made when they are asked for. It all stands on the
 * public functions for arenas and heaps.
 *
 * Fork. A child has what its parent had, and cannot give anything to relatives
 * that are there already; so it makes no arenas ("frozen"), and what is to be
 * shared is made before. Exec. The arenas' own descriptors are closed, as
 * always: they have the file locks by which the kernel tells that a process
 * is gone (users.h), and a program in between would keep these alive. What
 * exec leaves open are descriptions of the same files that hold no locks. The
 * next program opens them anew and keeps them for those after it.
 *
 * Locks. @making is held while something is set up or taken down, over calls
 * that take time. @known is held for short over changes of the set, and over
 * fork, so that a child finds it whole; nothing is locked under it. What
 * another thread was making at a fork is not in the set: the child has it as
 * it has any handle of a thread that it has not got.
 *
 *	malloc, free	@heap, an atomic word
 *	map		known
 *	init, prepare, persist, close, the first call after exec	making,
 *		and known at the end
 */
#include "api_cmem.h"

#include <tmc/cmem.h>
#include <tmc/mspace.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define INFO "TMC_CMEM_INFO"
#define START "TMC_CMEM_START"
#define LEAST_CAPACITY ((size_t)1 << 20)
#define LEAST_FD 64 /* shells use those below for themselves */
#define PLACE_STEP ((size_t)1 << 30)
#define PLACE_TRIES 64

static_assert(TMC_CMEM_DEFAULT_CAPACITY >= LEAST_CAPACITY, "a capacity");

struct member {
	tmc_shmem_t *shm;
	struct cmem_part part; /* fd, hugefd: -1 unless it persists */
};

struct set {
	uint32_t n; /* 0: nothing is set up */
	bool persists;
	bool frozen; /* no more members */
	struct member member[CMEM_PARTS];
};

static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t known = PTHREAD_MUTEX_INITIALIZER;
static struct set set; /* changes under both; read under either */

/* NULL: nothing is set up. release: who sees it sees the set. */
static _Atomic(tmc_mspace) heap;

/* ----- locks ----- */

static void before_fork(void)
{
	pthread_mutex_lock(&known);
}

static void after_fork_in_parent(void)
{
	pthread_mutex_unlock(&known);
}

static void after_fork_in_child(void)
{
	set.frozen = true;
	pthread_mutex_unlock(&known);
	pthread_mutex_init(&making, NULL); /* nobody here is making anything */
}

static void register_fork(void)
{
	pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static void take(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, register_fork);
	pthread_mutex_lock(&making);
}

static void give(void)
{
	pthread_mutex_unlock(&making);
}

/* ----- arenas ----- */

static bool same_key(const struct cmem_key *a, const struct cmem_key *b)
{
	return a->pagesize == b->pagesize && a->policy == b->policy &&
	       a->nodes == b->nodes && a->thp == b->thp;
}

static int key_of(const tmc_alloc_t *alloc, struct cmem_key *key)
{
	bool huge;
	int err = shmi_api_pagesize(alloc, &key->pagesize, &huge);

	if (!err)
		err = shmi_api_policy(alloc);
	if (!err && alloc->mmap_prot != (SHMI_PROT_READ | SHMI_PROT_WRITE))
		err = -EINVAL;
	key->policy = alloc->mbind_policy;
	key->nodes = alloc->mbind_nodemask;
	key->thp = tmc_alloc_get_thp(alloc) && !huge;
	return err;
}

/* TMC_CMEM_START: 0, and @start 0 where there is none. */
static int start_of_environment(uintptr_t *start)
{
	const char *text = shmi_os_env(START);
	char *end;

	*start = 0;
	if (!text || !*text)
		return 0;
	*start = strtoull(text, &end, 16);
	return *end || !*start || strchr(text, '-') ? -EINVAL : 0;
}

/* Behind the last member, for those that follow TMC_CMEM_START. */
static uintptr_t next_place(size_t pagesize)
{
	size_t step = pagesize > PLACE_STEP ? pagesize : PLACE_STEP;
	uintptr_t end = 0;
	uint32_t i;

	for (i = 0; i < set.n; i++) {
		const tmc_shmem_t *shm = set.member[i].shm;
		uintptr_t to = (uintptr_t)tmc_shmem_address(shm) +
			       tmc_shmem_maximum_size(shm);

		if (to > end)
			end = to;
	}
	return (end + step - 1) & ~(step - 1);
}

static int create(const tmc_alloc_t *alloc, size_t capacity, tmc_shmem_t **shm)
{
	size_t pagesize = tmc_alloc_get_pagesize(alloc);
	uintptr_t addr;
	int tries, err = start_of_environment(&addr);

	if (err)
		return err;
	if (addr && set.n)
		addr = next_place(pagesize);
	for (tries = 0; tries < PLACE_TRIES; tries++) {
		*shm = tmc_shmem_create_anonymous(alloc, (void *)addr,
						  capacity);
		if (*shm)
			return 0;
		if (errno != EADDRINUSE || !set.n)
			break;
		addr += pagesize > PLACE_STEP ? pagesize : PLACE_STEP;
	}
	return -errno;
}

static void fill_member(struct member *m, tmc_shmem_t *shm,
			const struct cmem_key *key)
{
	const struct layout_const *c = shmi_api_constants(shm);

	m->shm = shm;
	m->part.fd = m->part.hugefd = -1;
	m->part.base = c->base;
	memcpy(m->part.token, c->token, sizeof(m->part.token));
	m->part.key = *key;
}

/* ----- set up ----- */

static void set_up(const struct set *made, tmc_mspace h)
{
	pthread_mutex_lock(&known);
	set = *made;
	pthread_mutex_unlock(&known);
	atomic_store_explicit(&heap, h, memory_order_release);
}

static int create_first(size_t capacity)
{
	static const tmc_alloc_t defaults = TMC_ALLOC_INIT;
	struct set made = { .n = 1 };
	struct cmem_key key;
	tmc_shmem_t *shm;
	tmc_mspace h;
	int err = key_of(&defaults, &key);

	if (!capacity)
		capacity = TMC_CMEM_DEFAULT_CAPACITY;
	if (capacity < LEAST_CAPACITY)
		capacity = LEAST_CAPACITY;
	if (!err)
		err = create(&defaults, capacity, &shm);
	if (err)
		return err;
	h = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
				      tmc_shmem_alloc(shm));
	if (!h || tmc_shmem_set_data(shm, h)) {
		err = -errno;
		tmc_shmem_close(shm);
		return err;
	}
	fill_member(&made.member[0], shm, &key);
	set_up(&made, h);
	return 0;
}

/* What tmc_shmem_open_fds() says of what is no arena. */
static int open_error(int err)
{
	return err == EINVAL || err == EBADF || err == EUCLEAN ? -ESTALE : -err;
}

static int open_part(struct cmem_part *p, tmc_shmem_t **shm)
{
	int err = shmi_cmem_check(p);

	if (err)
		return err;
	*shm = tmc_shmem_open_fds(p->fd, p->hugefd);
	if (!*shm)
		return open_error(errno);
	if (tmc_shmem_alloc(*shm)->internal_flags & SHMI_ALLOC_READONLY) {
		tmc_shmem_close(*shm);
		return -EACCES;
	}
	p->key.pagesize = tmc_shmem_page_size(*shm);
	return 0;
}

/* The heap that the root pointer leads to; it may lead anywhere. */
static int find_heap(tmc_shmem_t *shm, tmc_mspace *h)
{
	uintptr_t root = (uintptr_t)tmc_shmem_get_data(shm);

	if (root - (uintptr_t)tmc_shmem_address(shm) >=
	    tmc_shmem_current_size(shm))
		return -ESTALE;
	*h = tmc_mspace_access_with_base((void *)root);
	if (!*h)
		return open_error(errno);
	return (uintptr_t)*h == root ? 0 : -ESTALE;
}

/* What the program before this one has left: all of it, or nothing. */
static int inherit(void)
{
	const char *text = shmi_os_env(INFO);
	struct set made = { .persists = true, .frozen = true };
	struct cmem_info info;
	tmc_mspace h;
	uint32_t i;
	int err;

	if (!text || !*text)
		return -ENODATA;
	err = shmi_cmem_read(text, &info);
	for (i = 0; i < info.n && !err; i++) {
		err = open_part(&info.part[i], &made.member[i].shm);
		made.member[i].part = info.part[i];
		made.n += !err;
	}
	if (!err)
		err = find_heap(made.member[0].shm, &h);
	if (err) {
		while (made.n > 0)
			tmc_shmem_close(made.member[--made.n].shm);
		return err;
	}
	set_up(&made, h);
	return 0;
}

/* With @making: 0 or why it is not set up. */
static int inherit_once(void)
{
	return set.n ? 0 : inherit();
}

static int need(void)
{
	int err;

	/* acquire: pairs with set_up() */
	if (atomic_load_explicit(&heap, memory_order_acquire))
		return 0;
	take();
	err = inherit_once();
	give();
	return err;
}

int tmc_cmem_init(size_t capacity)
{
	int err;
	SHMI_API_BEGIN;

	take();
	err = inherit_once();
	if (err == -ENODATA)
		err = create_first(capacity);
	else if (!err)
		err = 1;
	give();
	SHMI_API_END;
	if (err != 1)
		return shmi_api_result(err);
	errno = EINVAL;
	return 1;
}

/* ----- persist ----- */

static void close_kept(struct set *s)
{
	uint32_t i;

	for (i = 0; i < s->n; i++) {
		shmi_os_close(s->member[i].part.fd);
		shmi_os_close(s->member[i].part.hugefd);
		s->member[i].part.fd = s->member[i].part.hugefd = -1;
	}
}

/* Another description of the file where we may have one: without locks. */
static int keep_one(int fd, int *kept)
{
	int again = shmi_os_reopen(fd, true);

	if (again == -EMFILE || again == -ENFILE)
		return again;
	*kept = shmi_os_dup_above(again < 0 ? fd : again, LEAST_FD);
	shmi_os_close(again);
	return *kept < 0 ? *kept : 0;
}

/* Close-on-exec still. */
static int keep(struct member *m)
{
	int hugefd = tmc_shmem_hugefd(m->shm);
	int err = keep_one(tmc_shmem_fd(m->shm), &m->part.fd);

	/* This one has no locks; and who may not open it anew may have it. */
	if (!err && hugefd >= 0) {
		m->part.hugefd = shmi_os_dup_above(hugefd, LEAST_FD);
		err = m->part.hugefd < 0 ? m->part.hugefd : 0;
	}
	return err;
}

static int put_into_environment(const struct set *s)
{
	struct cmem_info info = { .n = s->n };
	char text[CMEM_TEXT];
	uint32_t i;

	for (i = 0; i < s->n; i++)
		info.part[i] = s->member[i].part;
	shmi_cmem_write(&info, text);
	return shmi_os_set_env(INFO, text);
}

static int persist(void)
{
	struct set made = set;
	uint32_t i;
	int err = 0;

	for (i = 0; i < made.n && !err && !set.persists; i++)
		err = keep(&made.member[i]);
	made.persists = made.frozen = true;
	pthread_mutex_lock(&known);
	if (!err)
		err = put_into_environment(&made);
	if (!err) {
		for (i = 0; i < made.n; i++) {
			shmi_os_keep_on_exec(made.member[i].part.fd);
			shmi_os_keep_on_exec(made.member[i].part.hugefd);
		}
		set = made;
	}
	pthread_mutex_unlock(&known);
	if (err && !set.persists)
		close_kept(&made);
	return err;
}

static void do_not_persist(void)
{
	if (!set.persists)
		return;
	pthread_mutex_lock(&known);
	shmi_os_set_env(INFO, NULL);
	close_kept(&set);
	set.persists = false;
	pthread_mutex_unlock(&known);
}

int tmc_cmem_persist_after_exec(int flag)
{
	int err;
	SHMI_API_BEGIN;

	take();
	err = inherit_once();
	if (!err && flag)
		err = persist();
	else if (!err)
		do_not_persist();
	give();
	SHMI_API_END;
	return shmi_api_result(err);
}

int tmc_cmem_close(void)
{
	struct set old;
	uint32_t i;
	int err;
	SHMI_API_BEGIN;

	take();
	err = inherit_once();
	if (!err) {
		do_not_persist();
		atomic_store_explicit(&heap, NULL, memory_order_release);
		pthread_mutex_lock(&known);
		old = set;
		memset(&set, 0, sizeof(set));
		pthread_mutex_unlock(&known);
		for (i = old.n; i-- > 0;)
			tmc_shmem_close(old.member[i].shm);
	}
	give();
	SHMI_API_END;
	return shmi_api_result(err);
}

/* ----- further arenas ----- */

/* The page allocator of the arena with these attributes, or -ENODATA. */
static int look(const struct cmem_key *key, tmc_alloc_t *real)
{
	int err = -ENODATA;
	uint32_t i;

	pthread_mutex_lock(&known);
	for (i = 0; i < set.n && err; i++)
		if (same_key(&set.member[i].part.key, key)) {
			*real = *tmc_shmem_alloc(set.member[i].shm);
			err = 0;
		}
	pthread_mutex_unlock(&known);
	return err;
}

static int make(const tmc_alloc_t *alloc, const struct cmem_key *key)
{
	struct member m;
	tmc_shmem_t *shm;
	int err;

	if (set.frozen)
		return -EPERM;
	if (set.n == CMEM_PARTS)
		return -EMFILE;
	err = create(alloc, tmc_shmem_maximum_size(set.member[0].shm), &shm);
	if (err)
		return err;
	/* Huge pages that were only preferred: one of small pages is there. */
	if (tmc_shmem_page_size(shm) != key->pagesize) {
		tmc_shmem_close(shm);
		return -ENOMEM;
	}
	fill_member(&m, shm, key);
	pthread_mutex_lock(&known);
	set.member[set.n++] = m;
	pthread_mutex_unlock(&known);
	return 0;
}

static int look_or_make(const tmc_alloc_t *alloc, tmc_alloc_t *real)
{
	struct cmem_key key;
	int err = key_of(alloc, &key);

	if (err || !look(&key, real))
		return err;
	take();
	err = look(&key, real); /* somebody else may have made it */
	if (err)
		err = set.n ? make(alloc, &key) : -ENODATA;
	if (!err)
		err = look(&key, real);
	give();
	return err;
}

/*
 * Preferred huge pages: the arena of such pages if it is there or one can be
 * made with a page to be had, else the one of small pages.
 */
int shmi_cmem_alloc(const tmc_alloc_t *alloc, tmc_alloc_t *real)
{
	tmc_alloc_t as = *alloc;
	int err = need();

	if (err)
		return err;
	err = look_or_make(&as, real);
	if (err && tmc_alloc_get_huge_preferred(alloc))
		err = look_or_make(tmc_alloc_clear_huge(&as), real);
	if (err)
		return err;
	if (tmc_alloc_get_populate(alloc))
		tmc_alloc_set_populate(real);
	else
		tmc_alloc_clear_populate(real);
	return 0;
}

tmc_alloc_t *tmc_cmem_alloc_init(tmc_alloc_t *alloc)
{
	static const tmc_alloc_t defaults = TMC_CMEM_ALLOC_INIT;

	if (alloc)
		*alloc = defaults;
	return alloc;
}

int tmc_cmem_prepare_alloc(const tmc_alloc_t *alloc)
{
	tmc_alloc_t real;
	int err = -EINVAL;

	if (alloc) {
		SHMI_API_BEGIN;
		err = shmi_cmem_alloc(alloc, &real);
		SHMI_API_END;
	}
	return shmi_api_result(err);
}

/* ----- the heap ----- */

/* After exec, or too early: NULL with errno. */
static __attribute__((noinline)) tmc_mspace first_call(void)
{
	int err;
	SHMI_API_BEGIN;

	err = need();
	SHMI_API_END;
	if (shmi_api_result(err))
		return NULL;
	return atomic_load_explicit(&heap, memory_order_acquire);
}

/* NULL with errno where there is none. */
static inline tmc_mspace the_heap(void)
{
	/* acquire: pairs with set_up() */
	tmc_mspace h = atomic_load_explicit(&heap, memory_order_acquire);

	return h ? h : first_call();
}

void *tmc_cmem_malloc(size_t n)
{
	tmc_mspace h = the_heap();

	return h ? tmc_mspace_malloc(h, n) : NULL;
}

void *tmc_cmem_calloc(size_t n, size_t size)
{
	tmc_mspace h = the_heap();

	return h ? tmc_mspace_calloc(h, n, size) : NULL;
}

void *tmc_cmem_realloc(void *p, size_t n)
{
	tmc_mspace h = the_heap();

	return h ? tmc_mspace_realloc(h, p, n) : NULL;
}

void *tmc_cmem_memalign(size_t align, size_t n)
{
	tmc_mspace h = the_heap();

	return h ? tmc_mspace_memalign(h, align, n) : NULL;
}

/* A program that was given a pointer may free it as the first thing. */
void tmc_cmem_free(void *p)
{
	int kept;

	if (p && !atomic_load_explicit(&heap, memory_order_acquire)) {
		kept = errno;
		first_call();
		errno = kept;
	}
	tmc_mspace_free(p);
}

/* The arena with the heap; NULL with errno. */
static tmc_shmem_t *first_arena(void)
{
	tmc_shmem_t *shm;

	if (!the_heap())
		return NULL;
	pthread_mutex_lock(&known);
	shm = set.member[0].shm;
	pthread_mutex_unlock(&known);
	return shm;
}

size_t tmc_cmem_get_capacity(void)
{
	return tmc_shmem_maximum_size(first_arena());
}

size_t tmc_cmem_get_available(void)
{
	tmc_shmem_t *shm = first_arena();
	size_t have, used, size, max;

	if (!shm)
		return 0;
	max = tmc_shmem_maximum_size(shm);
	tmc_mspace_statistics(tmc_shmem_get_data(shm), NULL, &have, &used);
	size = tmc_shmem_current_size(shm);
	/* None of the three is from the same moment. */
	if (used > have)
		used = have;
	return size - have + used < max ? max - (size - have + used) : 0;
}
