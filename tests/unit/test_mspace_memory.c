/* SPDX-License-Identifier: BSD-3-Clause */
/* test_mspace_memory.c - the memory that a heap takes, and gives back. */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include <shmem.h>

#include "peer.h"
#include "poison.h"
#include "probe.h"

static tmc_shmem_t *shm;

/* Each test has a fresh arena with a heap, which is its root. */
static int make_heap(void **state)
{
	shm = tmc_shmem_create(box_path("heap"), NULL, NULL, GIB);
	*state = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					   tmc_shmem_alloc(shm));
	return !*state || tmc_shmem_set_data(shm, *state);
}

static int drop_heap(void **state)
{
	(void)state;
	tmc_shmem_close(shm);
	return tmc_shmem_unlink(box_path("heap"));
}

static size_t used(tmc_mspace heap)
{
	size_t n = 0;

	tmc_mspace_statistics(heap, NULL, NULL, &n);
	return n;
}

static size_t blocks(void)
{
	struct stat st;

	return fstat(tmc_shmem_fd(shm), &st) ? 0 : (size_t)st.st_blocks * 512;
}

static int is_zero(const unsigned char *p, size_t n)
{
	while (n && !p[n - 1])
		n--;
	return !n;
}

static void a_large_block_gives_its_memory_back(void **state)
{
	size_t before = blocks(), size = tmc_shmem_current_size(shm);
	char *p = tmc_mspace_malloc(*state, 10 * MIB);

	assert_non_null(p);
	assert_true(blocks() >= before + 10 * MIB);
	size = tmc_shmem_current_size(shm);
	tmc_mspace_free(p);
	assert_in_range(blocks(), before, before + 64 * KIB);
	assert_int_equal(tmc_shmem_current_size(shm), size);
	p = tmc_mspace_calloc(*state, 10, MIB);
	assert_non_null(p);
	assert_int_equal(tmc_shmem_current_size(shm), size);
	assert_true(is_zero((unsigned char *)p, 10 * MIB));
}

/* libshmem(7) says how much may be held for the next blocks. */
static void what_is_held_is_bounded_and_trim_gives_it_back(void **state)
{
	static char *p[50000];
	const struct {
		size_t size, n, most;
	} turn[] = { { 500 * KIB, 100,
		       20 * MIB + SHMI_ASAN * 256 * KIB }, /* large.c */
		     { 700, 50000, 6 * MIB } };
	size_t before = blocks(), i, k;

	for (k = 0; k < 2; k++) {
		for (i = 0; i < turn[k].n; i++) {
			p[i] = tmc_mspace_malloc(*state, turn[k].size);
			assert_non_null(p[i]);
		}
		assert_true(blocks() > before + turn[k].n * turn[k].size);
		for (i = 0; i < turn[k].n; i++)
			tmc_mspace_free(p[i]);
		assert_in_range(blocks(), before, before + turn[k].most);
		assert_int_equal(tmc_mspace_trim(*state, 0), 1);
		assert_in_range(blocks(), before, before + 128 * KIB);
		assert_int_equal(tmc_mspace_trim(*state, 0), 0);
	}
	assert_int_equal(used(*state), 0);
	assert_int_equal(tmc_mspace_check(*state), 0);
}

static void a_small_heap_takes_little(void **state)
{
	size_t before = blocks();
	tmc_mspace heap;

	(void)state;
	heap = tmc_mspace_create_special(0, 0, tmc_shmem_alloc(shm));
	assert_non_null(heap);
	assert_non_null(tmc_mspace_malloc(heap, 1));
	assert_in_range(blocks() - before, 1, 64 * KIB);
}

/* A heap that is full but for what the thread holds for the next blocks. */
static void what_is_held_is_not_missing(void **state)
{
	tmc_mspace heap = tmc_mspace_create_special(8 * MIB, TMC_MSPACE_NOGROW,
						    tmc_shmem_alloc(shm));
	char *p[32];
	size_t n, i;

	(void)state;
	assert_non_null(heap);
	for (n = 0; (p[n] = tmc_mspace_malloc(heap, 400 * KIB)); n++)
		;
	assert_int_equal(errno, ENOMEM);
	assert_in_range(n, 8, 31);
	while (tmc_mspace_malloc(heap, 20000))
		;
	assert_int_equal(errno, ENOMEM);
	tmc_mspace_free(p[0]);
	tmc_mspace_free(p[1]);
	p[0] = tmc_mspace_malloc(heap, 800 * KIB);
	assert_non_null(p[0]);
	tmc_mspace_free(p[0]);
	for (i = 0; i < 20; i++)
		assert_non_null(tmc_mspace_malloc(heap, 20000));
	assert_int_equal(tmc_mspace_check(heap), 0);
}

/* More slices than the first of a chunk has room for in its table. */
static void a_chunk_with_a_long_table_is_whole(void **state)
{
	tmc_alloc_t lazy = TMC_ALLOC_INIT;
	tmc_shmem_t *large;
	tmc_mspace heap;
	char *p, *q;

	(void)state;
	tmc_alloc_clear_populate(&lazy);
	large = tmc_shmem_create(box_path("large"), &lazy, NULL, 4 * GIB);
	assert_non_null(large);
	heap = tmc_mspace_create_special(0, 0, tmc_shmem_alloc(large));
	p = tmc_mspace_malloc(heap, 1200 * MIB);
	assert_non_null(p);
	p[0] = p[1200 * MIB - 1] = 1;
	tmc_mspace_free(p);
	p = tmc_mspace_malloc(heap, 1100 * MIB);
	q = tmc_mspace_malloc(heap, 90 * MIB);
	assert_true(p && q > p && q < p + 1200 * MIB);
	tmc_mspace_free(q);
	tmc_mspace_free(p);
	assert_int_equal(tmc_mspace_check(heap), 0);
	tmc_shmem_close(large);
	assert_int_equal(tmc_shmem_unlink(box_path("large")), 0);
}

/* ----- the arena's end ----- */

#define MANY 3000

static void take_many(tmc_mspace heap, char **p)
{
	size_t i;

	for (i = 0; i < MANY; i++) {
		size_t n = i % 100 ? i * 7 % 3000 : i * 700;

		p[i] = tmc_mspace_malloc(heap, n);
		assert_non_null(p[i]);
		memset(p[i], (int)i, n);
	}
}

static void give_many(char **p)
{
	size_t i;

	for (i = 0; i < MANY; i++)
		tmc_mspace_free(p[i]);
}

static size_t footprint(tmc_mspace heap)
{
	size_t n = 0;

	tmc_mspace_statistics(heap, NULL, &n, NULL);
	return n;
}

static void trim_cuts_the_arenas_end(void **state)
{
	static char *p[MANY];
	size_t first = tmc_shmem_current_size(shm), full = 0, round;
	size_t small = footprint(*state);

	for (round = 0; round < 3; round++) {
		take_many(*state, p);
		if (round)
			assert_in_range(tmc_shmem_current_size(shm), first,
					full);
		full = tmc_shmem_current_size(shm);
		assert_true(full > first + 20 * MIB);
		give_many(p);
		assert_int_equal(tmc_shmem_current_size(shm), full);
		assert_int_equal(tmc_mspace_trim(*state, 0), 1);
		assert_int_equal(tmc_shmem_current_size(shm), first);
		assert_int_equal(footprint(*state), small);
		assert_int_equal(tmc_mspace_check(*state), 0);
		assert_int_equal(tmc_mspace_trim(*state, 0), 0);
	}
}

/* What is not the heap's stays, and the heap's below it. */
static void trim_cuts_nothing_of_others(void **state)
{
	static char *p[MANY];
	size_t size, below;
	char *page;

	take_many(*state, p);
	below = tmc_shmem_current_size(shm);
	page = tmc_shmem_grow(shm, 1);
	assert_non_null(page);
	*page = 7;
	size = tmc_shmem_current_size(shm);
	give_many(p);
	assert_int_equal(tmc_mspace_trim(*state, 0), 1);
	assert_int_equal(tmc_shmem_current_size(shm), size);
	assert_int_equal(*page, 7);
	assert_int_equal(tmc_shmem_shrink(shm, (off_t)below, size - below), 0);
	assert_int_equal(tmc_mspace_trim(*state, 0), 1);
	assert_true(tmc_shmem_current_size(shm) < below);
	take_many(*state, p);
	p[0] = tmc_mspace_realloc(*state, p[0], 5 * MIB);
	assert_non_null(p[0]);
	give_many(p);
	assert_int_equal(tmc_mspace_check(*state), 0);
}

static int use_when_told(struct peer *self, void *heap)
{
	static char *p[MANY];
	uint64_t word;
	size_t i;

	do {
		for (i = 0; i < MANY; i++)
			PEER_CHECK((p[i] = tmc_mspace_malloc(heap, i * 9)));
		give_many(p);
		PEER_CHECK(tmc_mspace_trim(heap, 0) == 1);
		PEER_CHECK(!peer_put(self, 0));
	} while (!peer_get(self, &word));
	PEER_CHECK(!tmc_mspace_check(heap));
	return 0;
}

static void another_process_goes_on_after_the_cut(void **state)
{
	size_t first = tmc_shmem_current_size(shm), round;
	static char *p[MANY];
	struct peer peer;
	uint64_t word;

	assert_int_equal(peer_fork(&peer, use_when_told, *state), 0);
	for (round = 0; round < 4; round++) {
		assert_int_equal(peer_get(&peer, &word), 0);
		assert_int_equal(tmc_shmem_current_size(shm), first);
		take_many(*state, p);
		give_many(p);
		assert_int_equal(tmc_mspace_trim(*state, 0), 1);
		assert_int_equal(tmc_shmem_current_size(shm), first);
		if (round < 3)
			assert_int_equal(peer_put(&peer, 0), 0);
	}
	assert_int_equal(peer_end(&peer), 0);
}

static void trim_leaves_the_pad(void **state)
{
	static char *p[MANY];
	size_t before = blocks();

	take_many(*state, p);
	give_many(p);
	assert_true(blocks() > before + 4 * MIB);
	assert_int_equal(tmc_mspace_trim(*state, 4 * MIB), 1);
	assert_in_range(blocks(), before + 2 * MIB, before + 5 * MIB);
	take_many(*state, p);
	give_many(p);
	assert_int_equal(tmc_mspace_check(*state), 0);
	tmc_mspace_trim(*state, SIZE_MAX);
	assert_true(blocks() > before + 4 * MIB);
	assert_int_equal(tmc_mspace_trim(*state, 0), 1);
	assert_in_range(blocks(), 0, before + 128 * KIB);
}

static void a_private_heap_gets_smaller_too(void **state)
{
	static char *p[MANY];
	tmc_mspace heap = tmc_mspace_create(0, 0);
	size_t small = footprint(heap), round;

	(void)state;
	for (round = 0; round < 3; round++) {
		take_many(heap, p);
		assert_true(footprint(heap) > small + 20 * MIB);
		give_many(p);
		assert_int_equal(tmc_mspace_trim(heap, 0), 1);
		assert_int_equal(footprint(heap), small);
	}
	assert_true(tmc_mspace_destroy(heap) > 0);
}

static void come_and_go(size_t capacity, unsigned int flags,
			const tmc_alloc_t *alloc, size_t large)
{
	tmc_mspace heap = tmc_mspace_create_special(capacity, flags, alloc);

	assert_non_null(heap);
	assert_non_null(tmc_mspace_malloc(heap, 100));
	assert_non_null(tmc_mspace_malloc(heap, large));
	assert_true(tmc_mspace_destroy(heap) > 0);
}

/* Of address space, either: what aligning a chunk takes goes back as well. */
static void destroy_leaves_nothing_of_a_private_heap(void **state)
{
	static const unsigned int flags[] = { 0, TMC_MSPACE_NOGROW };
	size_t before, i, k;

	(void)state;
	if (UNDER_SANITIZER)
		skip();
	for (i = 0; i < 2; i++) {
		come_and_go(MIB, flags[i], NULL, MIB / 2);
		before = probe_space();
		for (k = 0; k < 100; k++)
			come_and_go(MIB, flags[i], NULL, MIB / 2);
		assert_int_equal(probe_space(), before);
	}
	come_and_go(0, 0, NULL, 3 * MIB);
	before = probe_space();
	for (k = 0; k < 100; k++)
		come_and_go(0, 0, NULL, 3 * MIB);
	assert_int_equal(probe_space(), before);
}

static void nor_does_it_of_one_with_huge_pages(void **state)
{
	size_t huge = tmc_alloc_get_huge_pagesize(), before, i;
	tmc_alloc_t alloc = TMC_ALLOC_INIT;

	(void)state;
	if (!huge || box_pool(huge, 16) < 16) {
		box_pool_end();
		skip();
	}
	tmc_alloc_set_huge(&alloc);
	before = box_pool_free(huge);
	/* With and without a page behind what it needs. */
	for (i = 1; i <= 40; i++) {
		come_and_go(i * 2 * 64 * KIB, TMC_MSPACE_NOGROW, &alloc, 1);
		assert_int_equal(box_pool_free(huge), before);
	}
	come_and_go(0, 0, &alloc, 3 * MIB);
	assert_int_equal(box_pool_free(huge), before);
	box_pool_end();
}

/* ----- the end of a heap that others know ----- */

#define AT_HAND 500

static tmc_mspace one_more(void)
{
	tmc_mspace heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
						    tmc_shmem_alloc(shm));

	assert_non_null(heap);
	return heap;
}

static int take_and_give(tmc_mspace heap)
{
	char *p[AT_HAND];
	size_t i;

	for (i = 0; i < AT_HAND; i++) {
		PEER_CHECK((p[i] = tmc_mspace_malloc(heap, i * 2)));
		memset(p[i], 'p', i * 2);
	}
	for (i = 0; i < AT_HAND; i++)
		tmc_mspace_free(p[i]);
	return 0;
}

static void *in_a_thread(void *peer)
{
	uint64_t word, n;

	/* Has spans of the old heap at hand, and frees blocks of the new one,
	 * which is all that it does there until it is told of it. */
	if (peer_get(peer, &word) || take_and_give((void *)word) ||
	    peer_put(peer, 0))
		return peer;
	for (n = 0; n < AT_HAND; n++) {
		if (peer_get(peer, &word))
			return peer;
		tmc_mspace_free((void *)word);
	}
	if (peer_put(peer, 0) || peer_get(peer, &word) ||
	    take_and_give((void *)word) || tmc_mspace_check((void *)word))
		return peer;
	return NULL;
}

static int know_two_heaps(struct peer *self, void *arg)
{
	pthread_t t;
	void *failed;

	(void)arg;
	PEER_CHECK(!pthread_create(&t, NULL, in_a_thread, self));
	PEER_CHECK(!pthread_join(t, &failed));
	PEER_CHECK(!failed);
	return 0;
}

/* The common malloc and free do not look whether a heap is still there. */
static void the_next_heap_is_not_taken_for_the_one_before(void **state)
{
	char *p[AT_HAND], *mine[AT_HAND];
	tmc_mspace heap = one_more();
	struct peer peer;
	uint64_t word;
	size_t i, before;

	(void)state;
	assert_int_equal(peer_fork(&peer, know_two_heaps, NULL), 0);
	assert_int_equal(peer_put(&peer, (uintptr_t)heap), 0);
	assert_int_equal(peer_get(&peer, &word), 0);
	before = blocks();
	assert_true(tmc_mspace_destroy(heap) > 0);
	assert_true(blocks() < before);
	heap = one_more();
	for (i = 0; i < AT_HAND; i++) {
		assert_non_null(p[i] = tmc_mspace_malloc(heap, i * 2));
		assert_non_null(mine[i] = tmc_mspace_malloc(heap, i * 2));
	}
	for (i = 0; i < AT_HAND; i++)
		assert_int_equal(peer_put(&peer, (uintptr_t)p[i]), 0);
	assert_int_equal(peer_get(&peer, &word), 0);
	for (i = 0; i < AT_HAND; i++)
		memset(mine[i], 'm', i * 2);
	assert_int_equal(peer_put(&peer, (uintptr_t)heap), 0);
	assert_int_equal(peer_end(&peer), 0);
	for (i = 0; i < AT_HAND; i++) {
		assert_true(!i || (mine[i][0] == 'm' &&
				   !memcmp(mine[i], mine[i] + 1, i * 2 - 1)));
		tmc_mspace_free(mine[i]);
	}
	assert_int_equal(tmc_mspace_check(heap), 0);
	tmc_mspace_trim(heap, 0);
	assert_int_equal(used(heap), 0);
	/* Nobody else who knows it is alive: as it was before. */
	before = tmc_shmem_current_size(shm);
	assert_true(tmc_mspace_destroy(heap) > 0);
	assert_true(tmc_shmem_current_size(shm) < before);
}

static struct peer *outliving;

static int outlive(struct peer *self, tmc_mspace heap)
{
	uint64_t word;

	PEER_CHECK(!take_and_give(heap));
	PEER_CHECK(!peer_put(self, 0));
	PEER_CHECK(!peer_get(self, &word));
	errno = 0;
	PEER_CHECK(tmc_mspace_destroy(heap) == 0 && errno == EINVAL);
	PEER_CHECK(tmc_mspace_check(heap) == -1 && errno == EINVAL);
	return 0;
}

static void *outlive_in_a_thread(void *heap)
{
	return outlive(outliving, heap) ? heap : NULL;
}

static int have_a_thread_that_outlives(struct peer *self, void *heap)
{
	pthread_t t;
	void *failed;

	outliving = self;
	PEER_CHECK(!pthread_create(&t, NULL, outlive_in_a_thread, heap));
	PEER_CHECK(!pthread_join(t, &failed));
	PEER_CHECK(!failed);
	return 0;
}

/* Its spans have gone with the heap. */
static void a_thread_may_end_after_its_heap(void **state)
{
	tmc_mspace heap = one_more();
	struct peer peer;
	uint64_t word;

	(void)state;
	assert_int_equal(peer_fork(&peer, have_a_thread_that_outlives, heap),
			 0);
	assert_int_equal(peer_get(&peer, &word), 0);
	assert_true(tmc_mspace_destroy(heap) > 0);
	assert_int_equal(peer_put(&peer, 0), 0);
	assert_int_equal(peer_end(&peer), 0);
}

/* Forked by one who knew the old heap, and has not used it. */
static int use_at_last(struct peer *self, void *arg)
{
	uint64_t word;

	(void)arg;
	PEER_CHECK(!peer_get(self, &word));
	PEER_CHECK(!take_and_give((void *)word));
	PEER_CHECK(!tmc_mspace_check((void *)word));
	return 0;
}

static void a_child_finds_another_heap_at_an_address_it_inherited(void **state)
{
	tmc_mspace old = one_more(), heap;
	struct peer peer;

	(void)state;
	assert_int_equal(take_and_give(old), 0);
	assert_int_equal(peer_fork(&peer, use_at_last, NULL), 0);
	assert_true(tmc_mspace_destroy(old) > 0);
	heap = one_more();
	assert_ptr_equal(heap, old);
	assert_int_equal(take_and_give(heap), 0);
	assert_int_equal(peer_put(&peer, (uintptr_t)heap), 0);
	assert_int_equal(peer_end(&peer), 0);
	assert_int_equal(tmc_mspace_check(heap), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_heap, drop_heap)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_large_block_gives_its_memory_back),
		TEST(what_is_held_is_bounded_and_trim_gives_it_back),
		TEST(a_small_heap_takes_little),
		TEST(what_is_held_is_not_missing),
		TEST(a_chunk_with_a_long_table_is_whole),
		TEST(trim_cuts_the_arenas_end),
		TEST(trim_cuts_nothing_of_others),
		TEST(another_process_goes_on_after_the_cut),
		TEST(trim_leaves_the_pad),
		TEST(a_private_heap_gets_smaller_too),
		TEST(destroy_leaves_nothing_of_a_private_heap),
		TEST(nor_does_it_of_one_with_huge_pages),
		TEST(the_next_heap_is_not_taken_for_the_one_before),
		TEST(a_thread_may_end_after_its_heap),
		TEST(a_child_finds_another_heap_at_an_address_it_inherited),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
