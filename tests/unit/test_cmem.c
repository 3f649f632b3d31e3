/* SPDX-License-Identifier: BSD-3-Clause */
/* test_cmem.c - memory for a family: one process, its threads and children. */
#include "test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <shmem.h>

#include "kernel.h"
#include "peer.h"
#include "probe.h"

#define THREADS 8
#define ROUNDS 400
#define MOST_ARENAS 32 /* tmc_cmem_alloc_init(3) */
#define NPAGES 4       /* huge ones; what a test may use */

static size_t page, huge;

static int begin(void **state)
{
	page = (size_t)sysconf(_SC_PAGESIZE);
	huge = tmc_alloc_get_huge_pagesize();
	unsetenv("TMC_CMEM_INFO");
	unsetenv("TMC_CMEM_START");
	return test_box_open(state);
}

static int end(void **state)
{
	(void)state;
	unsetenv("TMC_CMEM_INFO");
	unsetenv("TMC_CMEM_START");
	tmc_cmem_close();
	box_pool_end();
	return 0;
}

static tmc_shmem_t *arena_of(const void *p)
{
	return tmc_shmem_find(p, NULL);
}

/* ----- one process ----- */

static void nothing_works_before_it_is_set_up(void **state)
{
	tmc_alloc_t alloc = TMC_CMEM_ALLOC_INIT;

	(void)state;
	assert_null_errno(tmc_cmem_malloc(1), ENODATA);
	assert_null_errno(tmc_cmem_calloc(1, 1), ENODATA);
	assert_null_errno(tmc_cmem_realloc(NULL, 1), ENODATA);
	assert_null_errno(tmc_cmem_memalign(64, 1), ENODATA);
	errno = 5;
	tmc_cmem_free(NULL);
	assert_int_equal(errno, 5);
	assert_int_equal(tmc_cmem_get_capacity(), 0);
	assert_int_equal(errno, ENODATA);
	errno = 0;
	assert_int_equal(tmc_cmem_get_available(), 0);
	assert_int_equal(errno, ENODATA);
	assert_minus_errno(tmc_cmem_close(), ENODATA);
	assert_minus_errno(tmc_cmem_persist_after_exec(1), ENODATA);
	assert_minus_errno(tmc_cmem_persist_after_exec(0), ENODATA);
	assert_minus_errno(tmc_cmem_prepare_alloc(&alloc), ENODATA);
	assert_minus_errno(tmc_cmem_prepare_alloc(NULL), EINVAL);
	assert_null_errno(tmc_alloc_map(&alloc, 1), ENODATA);
	assert_null_errno(tmc_mspace_create_special(0, 0, &alloc), ENODATA);
	assert_null(getenv("TMC_CMEM_INFO"));
}

static void it_is_set_up_once(void **state)
{
	size_t fds = probe_fds(), maps = probe_maps();

	(void)state;
	assert_int_equal(tmc_cmem_init(0), 0);
	assert_int_equal(tmc_cmem_get_capacity(), TMC_CMEM_DEFAULT_CAPACITY);
	errno = 0;
	assert_int_equal(tmc_cmem_init(GIB), 1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(tmc_cmem_get_capacity(), 256 * MIB);
	assert_int_equal(tmc_cmem_close(), 0);
	assert_minus_errno(tmc_cmem_close(), ENODATA);
	assert_int_equal(probe_fds(), fds);
	assert_int_equal(tmc_cmem_init(64 * MIB + 1), 0);
	assert_int_equal(tmc_cmem_get_capacity(), 64 * MIB + page);
	assert_int_equal(tmc_cmem_close(), 0);
	if (!UNDER_SANITIZER) /* and a thread's heap keeps something */
		assert_true(probe_maps() <= maps + 2);
	assert_minus_errno(tmc_cmem_init(SIZE_MAX), ENOMEM);
	assert_minus_errno(tmc_cmem_init((size_t)1 << 62), ENOMEM);
	assert_null_errno(tmc_cmem_malloc(1), ENODATA);
}

static void blocks_come_and_go(void **state)
{
	size_t before, i;
	char *p, *q;

	(void)state;
	assert_int_equal(tmc_cmem_init(0), 0);
	p = tmc_cmem_malloc(100);
	assert_non_null(p);
	strcpy(p, "hello");
	p = tmc_cmem_realloc(p, 100000);
	assert_string_equal(p, "hello");
	q = tmc_cmem_memalign(4096, 10);
	assert_int_equal((uintptr_t)q % 4096, 0);
	assert_null_errno(tmc_cmem_memalign(3, 10), EINVAL);
	before = tmc_cmem_get_available();
	tmc_cmem_free(q);
	q = tmc_cmem_calloc(1000, 1000);
	assert_non_null(q);
	for (i = 0; i < 1000000; i++)
		assert_int_equal(q[i], 0);
	assert_true(tmc_cmem_get_available() <= before - 900000);
	assert_true(arena_of(p) && arena_of(p) == arena_of(q));
	errno = 7;
	tmc_cmem_free(q);
	assert_int_equal(errno, 7);
	tmc_cmem_free(p);
	assert_true(tmc_cmem_get_available() > before);
	assert_true(tmc_cmem_get_available() <= tmc_cmem_get_capacity());
}

static void the_capacity_is_what_there_is(void **state)
{
	void *p[64];
	size_t left;
	int i, n;

	(void)state;
	assert_int_equal(tmc_cmem_init(1), 0);
	assert_int_equal(tmc_cmem_get_capacity(), MIB);
	left = tmc_cmem_get_available();
	assert_true(left > MIB / 2 && left <= MIB);
	for (n = 0; n < 64; n++) {
		p[n] = tmc_cmem_malloc(30 * KIB);
		if (!p[n])
			break;
	}
	assert_int_equal(errno, ENOMEM);
	assert_in_range(n, 8, 40);
	assert_true(tmc_cmem_get_available() < left - 200 * KIB);
	for (i = 0; i < n; i++)
		tmc_cmem_free(p[i]);
	assert_null_errno(tmc_cmem_malloc(2 * MIB), ENOMEM);
	assert_non_null(tmc_cmem_malloc(30 * KIB));
}

static int start_at(const char *text)
{
	return setenv("TMC_CMEM_START", text, 1);
}

static void the_environment_moves_its_address(void **state)
{
	const char *const bad[] = { "x",  "40000000000z",	"400000000001",
				    "-1", " -ffffc00000000000", "0" };
	tmc_alloc_t alloc = TMC_CMEM_ALLOC_INIT;
	tmc_shmem_t *shm;
	char text[32], *at, *p;
	size_t i;

	(void)state;
	/* A place that is free. */
	shm = tmc_shmem_create_anonymous(NULL, NULL, GIB);
	assert_non_null(shm);
	at = tmc_shmem_address(shm);
	snprintf(text, sizeof(text), "%lx", (unsigned long)at);
	assert_int_equal(start_at(text), 0);
	assert_minus_errno(tmc_cmem_init(0), EADDRINUSE);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_cmem_init(0), 0);
	p = tmc_cmem_malloc(1);
	assert_ptr_equal(tmc_shmem_address(arena_of(p)), at);
	/* The next one comes behind it, or where it is free. */
	p = tmc_alloc_map(tmc_alloc_set_thp(&alloc), 1);
	assert_true(p >= at + 256 * MIB && p < at + 64 * GIB);
	assert_int_equal(tmc_cmem_close(), 0);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(start_at(bad[i]), 0);
		assert_minus_errno(tmc_cmem_init(0), EINVAL);
	}
	snprintf(text, sizeof(text), "0x%lx", (unsigned long)at);
	assert_int_equal(start_at(text), 0);
	assert_int_equal(tmc_cmem_init(0), 0);
	assert_non_null(arena_of(at));
}

/* ----- further arenas ----- */

static void the_initialiser_is_what_init_makes(void **state)
{
	const tmc_alloc_t a = TMC_CMEM_ALLOC_INIT;
	tmc_alloc_t b;

	(void)state;
	assert_null(tmc_cmem_alloc_init(NULL));
	memset(&b, 0xff, sizeof(b));
	assert_ptr_equal(tmc_cmem_alloc_init(&b), &b);
	assert_int_equal(a.mmap_prot, b.mmap_prot);
	assert_int_equal(a.mmap_flags, b.mmap_flags);
	assert_int_equal(a.mbind_policy, b.mbind_policy);
	assert_int_equal(a.mbind_nodemask, b.mbind_nodemask);
	assert_int_equal(a.pagesize, b.pagesize);
	assert_int_equal(a.internal_flags, b.internal_flags);
	assert_int_equal(a.internal_arena, b.internal_arena);
	assert_int_equal(tmc_alloc_get_shared(&b), 1);
	assert_int_equal(tmc_alloc_get_populate(&b), 1);
	assert_int_equal(tmc_alloc_get_mode(&b), 0600);
}

static void pages_come_from_the_arena_with_their_attributes(void **state)
{
	tmc_alloc_t plain = TMC_CMEM_ALLOC_INIT, thp = plain, node = plain;
	tmc_alloc_t lazy = plain, bad = plain;
	char *block, *p, *q, *r;
	size_t fds;

	(void)state;
	assert_int_equal(tmc_cmem_init(64 * MIB), 0);
	block = tmc_cmem_malloc(10);
	p = tmc_alloc_map(&plain, 3 * page);
	assert_ptr_equal(arena_of(p), arena_of(block));
	assert_int_equal(probe_present(p, 3 * page), 3 * page);
	tmc_alloc_clear_populate(&lazy);
	q = tmc_alloc_map(&lazy, 8 * MIB);
	assert_ptr_equal(q, p + 3 * page);
	assert_int_equal(probe_present(q, 8 * MIB), 0);
	fds = probe_fds();
	tmc_alloc_set_thp(&thp);
	q = tmc_alloc_map(&thp, page);
	assert_non_null(arena_of(q));
	assert_ptr_not_equal(arena_of(q), arena_of(p));
	assert_int_equal(tmc_shmem_maximum_size(arena_of(q)), 64 * MIB);
	assert_ptr_equal(tmc_alloc_map(&thp, page), q + page);
	assert_int_equal(tmc_alloc_unmap(q + page, page), 0);
	tmc_alloc_set_node_local(&node);
	r = tmc_alloc_map(&node, page);
	assert_ptr_not_equal(arena_of(r), arena_of(p));
	assert_ptr_not_equal(arena_of(r), arena_of(q));
	assert_int_equal(tmc_cmem_prepare_alloc(&node), 0);
	assert_int_equal(tmc_cmem_prepare_alloc(&plain), 0);
	assert_int_equal(probe_fds(), fds + 2);
	/* What cannot be. */
	tmc_alloc_set_nodes(&bad, 1ul << 63);
	assert_minus_errno(tmc_cmem_prepare_alloc(&bad), EINVAL);
	bad = plain;
	bad.mmap_prot = 1;
	assert_null_errno(tmc_alloc_map(&bad, page), EINVAL);
	assert_null_errno(tmc_alloc_map(&plain, 64 * MIB), ENOMEM);
	assert_null_errno(tmc_alloc_map(&plain, 0), EINVAL);
	assert_int_equal(probe_fds(), fds + 2);
}

static void each_combination_has_an_arena_of_its_own(void **state)
{
	tmc_alloc_t alloc;
	tmc_shmem_t *seen[10];
	int i, k;

	(void)state;
	assert_int_equal(tmc_cmem_init(0), 0);
	for (i = 0; i < 10; i++) {
		tmc_cmem_alloc_init(&alloc);
		if (i & 1)
			tmc_alloc_set_thp(&alloc);
		if (i / 2 == 1)
			tmc_alloc_set_nodes(&alloc, 1);
		if (i / 2 == 2)
			tmc_alloc_set_node_preferred(&alloc, 0);
		if (i / 2 == 3)
			tmc_alloc_set_nodes_interleaved(&alloc, 1);
		if (i / 2 == 4)
			tmc_alloc_set_node_local(&alloc);
		seen[i] = arena_of(tmc_alloc_map(&alloc, 1));
		assert_non_null(seen[i]);
		for (k = 0; k < i; k++)
			assert_ptr_not_equal(seen[k], seen[i]);
		assert_ptr_equal(arena_of(tmc_alloc_map(&alloc, 1)), seen[i]);
	}
}

static void huge_pages_are_an_arena_of_their_own(void **state)
{
	tmc_alloc_t alloc = TMC_CMEM_ALLOC_INIT;
	char *p;

	(void)state;
	if (!huge || box_pool(huge, NPAGES) < NPAGES)
		skip();
	assert_int_equal(tmc_cmem_init(0), 0);
	tmc_alloc_set_huge(&alloc);
	p = tmc_alloc_map(&alloc, 1);
	assert_non_null(p);
	assert_int_equal(probe_smaps(p, "KernelPageSize") * KIB, huge);
	assert_ptr_equal(tmc_alloc_map(&alloc, 1), p + huge);
	tmc_alloc_set_huge_preferred(&alloc);
	assert_ptr_equal(tmc_alloc_map(&alloc, 1), p + 2 * huge);
}

static void preferred_huge_pages_may_be_small(void **state)
{
	tmc_alloc_t alloc = TMC_CMEM_ALLOC_INIT;
	tmc_shmem_t *shm;
	char *p;

	(void)state;
	/* Also keeps others from raising the pool meanwhile. */
	if (huge && box_pool(huge, 0))
		skip(); /* they are to be had */
	assert_int_equal(tmc_cmem_init(0), 0);
	tmc_alloc_set_huge_preferred(&alloc);
	p = tmc_alloc_map(&alloc, 1);
	assert_non_null(p);
	shm = arena_of(p);
	assert_int_equal(tmc_shmem_page_size(shm), page);
	assert_ptr_equal(shm, arena_of(tmc_cmem_malloc(1)));
}

static void a_heap_can_stand_in_it(void **state)
{
	tmc_alloc_t alloc = TMC_CMEM_ALLOC_INIT;
	tmc_mspace h;

	(void)state;
	assert_int_equal(tmc_cmem_init(0), 0);
	h = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED, &alloc);
	assert_non_null(h);
	assert_ptr_equal(arena_of(h), arena_of(tmc_cmem_malloc(1)));
	assert_non_null(tmc_mspace_malloc(h, 1000));
	assert_int_equal(tmc_mspace_check(h), 0);
}

/* The heap's arena, and one on each of the other nodes. */
static int make_all_that_there_can_be(struct peer *self, void *arg)
{
	const char *const visit[] = { "capacity", "1048576", NULL };
	tmc_alloc_t alloc = TMC_CMEM_ALLOC_INIT;
	tmc_shmem_t *seen[MOST_ARENAS] = { NULL };
	size_t i, fds;

	(void)self;
	(void)arg;
	kernel_with_nodes(~0ul);
	PEER_CHECK(tmc_cmem_init(1) == 0);
	seen[0] = arena_of(tmc_cmem_malloc(1));
	for (i = 1; i < MOST_ARENAS; i++) {
		tmc_alloc_set_nodes(&alloc, 1ul << i);
		seen[i] = arena_of(tmc_alloc_map(&alloc, page));
		PEER_CHECK(seen[i] && seen[i] != seen[i - 1]);
	}
	fds = probe_fds();
	tmc_alloc_set_nodes(&alloc, 1ul << MOST_ARENAS);
	PEER_CHECK(tmc_cmem_prepare_alloc(&alloc) == -1 && errno == EMFILE);
	PEER_CHECK(!tmc_alloc_map(&alloc, page) && errno == EMFILE);
	PEER_CHECK(probe_fds() == fds);
	/* Those that are there go on, and all of them are handed on. */
	for (i = 1; i < MOST_ARENAS; i++) {
		tmc_alloc_set_nodes(&alloc, 1ul << i);
		PEER_CHECK(arena_of(tmc_alloc_map(&alloc, page)) == seen[i]);
	}
	PEER_CHECK(tmc_cmem_persist_after_exec(1) == 0);
	PEER_CHECK(probe_fds() == fds + MOST_ARENAS);
	PEER_CHECK(peer_run_agent("relative", visit) == 0);
	PEER_CHECK(tmc_cmem_close() == 0);
	PEER_CHECK(probe_fds() == fds - MOST_ARENAS);
	return 0;
}

static void one_arena_too_many_is_emfile(void **state)
{
	(void)state;
	assert_int_equal(peer_run(make_all_that_there_can_be, NULL), 0);
}

/* ----- children ----- */

struct family {
	char *word;
	tmc_shmem_t *thp;
};

static int child_works(struct peer *self, void *arg)
{
	struct family *f = arg;
	tmc_alloc_t alloc = TMC_CMEM_ALLOC_INIT;
	char *p;

	PEER_CHECK(!strcmp(f->word, "from the parent"));
	PEER_CHECK(tmc_cmem_init(0) == 1 && errno == EINVAL);
	tmc_cmem_free(f->word);
	p = tmc_cmem_malloc(100);
	PEER_CHECK(p);
	strcpy(p, "from the child");
	PEER_CHECK(peer_put(self, (uintptr_t)p) == 0);
	/* What was prepared is there; more there cannot be. */
	PEER_CHECK(arena_of(tmc_alloc_map(tmc_alloc_set_thp(&alloc), 1)) ==
		   f->thp);
	tmc_alloc_set_node_local(&alloc);
	PEER_CHECK(tmc_cmem_prepare_alloc(&alloc) == -1 && errno == EPERM);
	PEER_CHECK(!tmc_alloc_map(&alloc, 1) && errno == EPERM);
	PEER_CHECK(tmc_cmem_close() == 0);
	PEER_CHECK(!tmc_cmem_malloc(1) && errno == ENODATA);
	/* A new one of its own. */
	PEER_CHECK(tmc_cmem_init(0) == 0);
	PEER_CHECK(tmc_cmem_prepare_alloc(&alloc) == 0);
	return 0;
}

static void children_have_it_too(void **state)
{
	tmc_alloc_t alloc = TMC_CMEM_ALLOC_INIT;
	struct family f;
	struct peer p;
	uint64_t word;
	int i;

	(void)state;
	assert_int_equal(tmc_cmem_init(0), 0);
	f.thp = arena_of(tmc_alloc_map(tmc_alloc_set_thp(&alloc), 1));
	assert_non_null(f.thp);
	for (i = 0; i < 3; i++) {
		f.word = tmc_cmem_malloc(100);
		assert_non_null(f.word);
		strcpy(f.word, "from the parent");
		assert_int_equal(peer_fork(&p, child_works, &f), 0);
		assert_int_equal(peer_get(&p, &word), 0);
		assert_int_equal(peer_end(&p), 0);
		assert_string_equal((char *)word, "from the child");
		tmc_cmem_free((char *)word);
	}
}

/* ----- threads ----- */

static struct {
	pthread_barrier_t start;
	int rc[THREADS];
	int bad[THREADS];
	void *arena[THREADS];
} team;

static void *work_in_team(void *arg)
{
	size_t me = (size_t)arg, i;
	tmc_alloc_t alloc = TMC_CMEM_ALLOC_INIT;
	char *p[16] = { NULL };

	pthread_barrier_wait(&team.start);
	team.rc[me] = tmc_cmem_init(0);
	for (i = 0; i < ROUNDS; i++) {
		char **slot = &p[i % 16];
		size_t n = (i * 37 + me) % 3000 + 1;

		if (*slot && **slot != (char)me)
			team.bad[me]++;
		tmc_cmem_free(*slot);
		*slot = tmc_cmem_malloc(n);
		if (!*slot)
			team.bad[me]++;
		else
			memset(*slot, (int)me, n);
	}
	tmc_alloc_set_thp(&alloc);
	team.arena[me] = arena_of(tmc_alloc_map(&alloc, page));
	for (i = 0; i < 16; i++)
		tmc_cmem_free(p[i]);
	return NULL;
}

static void threads_set_it_up_once_and_share_it(void **state)
{
	pthread_t t[THREADS];
	int i, firsts = 0;

	(void)state;
	pthread_barrier_init(&team.start, NULL, THREADS);
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, work_in_team,
						(void *)(size_t)i),
				 0);
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	for (i = 0; i < THREADS; i++) {
		firsts += team.rc[i] == 0;
		assert_in_range(team.rc[i], 0, 1);
		assert_int_equal(team.bad[i], 0);
		assert_non_null(team.arena[i]);
		assert_ptr_equal(team.arena[i], team.arena[0]);
	}
	assert_int_equal(firsts, 1);
	pthread_barrier_destroy(&team.start);
}

static _Atomic int stop;

static void *fork_and_prepare(void *arg)
{
	tmc_alloc_t alloc = TMC_CMEM_ALLOC_INIT;

	(void)arg;
	while (!stop) {
		tmc_cmem_persist_after_exec(1);
		tmc_cmem_persist_after_exec(0);
		tmc_cmem_prepare_alloc(&alloc);
		tmc_cmem_free(tmc_cmem_malloc(10));
	}
	return NULL;
}

static int use_after_fork(struct peer *self, void *arg)
{
	(void)self;
	(void)arg;
	PEER_CHECK(tmc_cmem_init(0) == 1);
	PEER_CHECK(tmc_cmem_persist_after_exec(1) == 0);
	PEER_CHECK(tmc_cmem_malloc(1000));
	PEER_CHECK(tmc_cmem_close() == 0);
	return 0;
}

/* Whatever another thread is in the middle of. */
static void a_fork_at_any_time_has_it_whole(void **state)
{
	pthread_t t;
	int i;

	(void)state;
	assert_int_equal(tmc_cmem_init(0), 0);
	stop = 0;
	assert_int_equal(pthread_create(&t, NULL, fork_and_prepare, NULL), 0);
	for (i = 0; i < 60; i++)
		assert_int_equal(peer_run(use_after_fork, NULL), 0);
	stop = 1;
	assert_int_equal(pthread_join(t, NULL), 0);
}

/* ----- what fails ----- */

static int without_descriptors(struct peer *self, void *arg)
{
	struct rlimit limit, before;
	tmc_alloc_t alloc = TMC_CMEM_ALLOC_INIT;

	(void)self;
	(void)arg;
	PEER_CHECK(tmc_cmem_init(0) == 0);
	PEER_CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
	limit = before;
	limit.rlim_cur = (rlim_t)dup(0); /* the lowest free one */
	PEER_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	PEER_CHECK(tmc_cmem_prepare_alloc(tmc_alloc_set_thp(&alloc)) == -1);
	PEER_CHECK(errno == EMFILE);
	PEER_CHECK(tmc_cmem_persist_after_exec(1) == -1 && errno == EMFILE);
	PEER_CHECK(!getenv("TMC_CMEM_INFO"));
	PEER_CHECK(tmc_cmem_malloc(10));
	/* The set is not frozen by what failed. */
	PEER_CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
	PEER_CHECK(tmc_cmem_prepare_alloc(&alloc) == 0);
	return 0;
}

static void a_want_of_descriptors_is_emfile(void **state)
{
	(void)state;
	assert_int_equal(peer_run(without_descriptors, NULL), 0);
}

static int each_call_fails(struct peer *self, void *arg)
{
	tmc_alloc_t alloc = TMC_CMEM_ALLOC_INIT;
	size_t fds = probe_fds();
	unsigned long n;
	int rc;

	(void)self;
	(void)arg;
	for (n = 1;; n++) {
		kernel_fail(n, ENOMEM);
		rc = tmc_cmem_init(0);
		if (rc == 0)
			rc = tmc_cmem_prepare_alloc(tmc_alloc_set_thp(&alloc));
		if (rc == 0)
			rc = tmc_cmem_persist_after_exec(1);
		PEER_CHECK(rc == 0 || errno == ENOMEM || errno == EMFILE);
		if (!kernel_failed())
			break;
		kernel_fail(0, 0);
		tmc_cmem_close();
		PEER_CHECK(!getenv("TMC_CMEM_INFO"));
		PEER_CHECK(probe_fds() == fds);
	}
	PEER_CHECK(rc == 0 && n > 20);
	kernel_fail(0, 0);
	PEER_CHECK(getenv("TMC_CMEM_INFO"));
	PEER_CHECK(tmc_cmem_close() == 0);
	PEER_CHECK(!getenv("TMC_CMEM_INFO"));
	PEER_CHECK(probe_fds() == fds);
	return 0;
}

static void whichever_system_call_fails_nothing_is_left(void **state)
{
	(void)state;
	if (UNDER_SANITIZER)
		skip(); /* see map_exactly() */
	assert_int_equal(peer_run(each_call_fails, NULL), 0);
}

#define T(name) cmocka_unit_test_teardown(name, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(nothing_works_before_it_is_set_up),
		T(it_is_set_up_once),
		T(blocks_come_and_go),
		T(the_capacity_is_what_there_is),
		T(the_environment_moves_its_address),
		T(the_initialiser_is_what_init_makes),
		T(pages_come_from_the_arena_with_their_attributes),
		T(each_combination_has_an_arena_of_its_own),
		T(huge_pages_are_an_arena_of_their_own),
		T(preferred_huge_pages_may_be_small),
		T(a_heap_can_stand_in_it),
		T(one_arena_too_many_is_emfile),
		T(children_have_it_too),
		T(threads_set_it_up_once_and_share_it),
		T(a_fork_at_any_time_has_it_whole),
		T(a_want_of_descriptors_is_emfile),
		T(whichever_system_call_fails_nothing_is_left),
	};

	return cmocka_run_group_tests(tests, begin, test_box_close);
}
