/* SPDX-License-Identifier: BSD-3-Clause */
/* test_mspace_memory.c - the memory that a heap takes, and gives back. */
#include "test.h"

#include <errno.h>
#include <sys/stat.h>

#include <shmem.h>

#include "poison.h"

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

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_heap, drop_heap)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_large_block_gives_its_memory_back),
		TEST(what_is_held_is_bounded_and_trim_gives_it_back),
		TEST(a_small_heap_takes_little),
		TEST(what_is_held_is_not_missing),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
