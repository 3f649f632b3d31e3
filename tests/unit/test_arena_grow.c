/* SPDX-License-Identifier: BSD-3-Clause */
/* test_arena_grow.c - grow, shrink, and the arena's page allocator. */
#include "test.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "probe.h"

#define MAX (64 * MIB)

static size_t page;

/* Each test has a fresh arena. */
static int make_arena(void **state)
{
	*state = tmc_shmem_create(box_path("grow"), NULL, NULL, MAX);
	return *state ? 0 : -1;
}

static int drop_arena(void **state)
{
	tmc_shmem_close(*state);
	return tmc_shmem_unlink(box_path("grow"));
}

static size_t blocks(tmc_shmem_t *shm)
{
	struct stat st;

	return fstat(tmc_shmem_fd(shm), &st) ? 0 : (size_t)st.st_blocks * 512;
}

static void the_first_grow_returns_the_address(void **state)
{
	tmc_shmem_t *shm = *state;
	char *p = tmc_shmem_grow(shm, 1);

	assert_ptr_equal(p, tmc_shmem_address(shm));
	assert_int_equal(tmc_shmem_current_size(shm), page);
	assert_ptr_equal(tmc_shmem_grow(shm, page + 1), p + page);
	assert_int_equal(tmc_shmem_current_size(shm), 3 * page);
}

static void grown_pages_are_zero_and_present_in_the_caller(void **state)
{
	tmc_shmem_t *shm = *state;
	const size_t sizes[] = { page,	  5 * page,	  3 * MIB,
				 4 * MIB, 4 * MIB + page, 20 * MIB };
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *p = tmc_shmem_grow(shm, sizes[i]);

		assert_non_null(p);
		assert_int_equal(probe_present(p, sizes[i]), sizes[i]);
		assert_true(probe_zero(p, sizes[i]));
		memset(p, 0xee, sizes[i]);
	}
}

static void lazy_pages_take_no_memory_until_touched(void **state)
{
	tmc_shmem_t *shm = *state;
	tmc_alloc_t lazy = *tmc_shmem_alloc(shm);
	size_t before = blocks(shm);
	char *p = tmc_alloc_map(tmc_alloc_clear_populate(&lazy), 8 * MIB);

	assert_ptr_equal(p, tmc_shmem_address(shm));
	assert_int_equal(tmc_shmem_current_size(shm), 8 * MIB);
	assert_int_equal(blocks(shm), before);
	assert_int_equal(probe_present(p, 8 * MIB), 0);
	p[4 * MIB] = 1;
	assert_true(blocks(shm) > before);
	assert_int_equal(p[8 * MIB - 1], 0);
}

static void an_arena_made_lazy_grows_lazily(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;
	tmc_shmem_t *shm, *again;
	size_t before;

	(void)state;
	shm = tmc_shmem_create(box_path("lazy"), tmc_alloc_clear_populate(&a),
			       NULL, MAX);
	assert_non_null(shm);
	before = blocks(shm);
	assert_int_equal(tmc_alloc_get_populate(tmc_shmem_alloc(shm)), 0);
	assert_non_null(tmc_shmem_grow(shm, MIB));
	assert_int_equal(blocks(shm), before);
	tmc_shmem_close(shm);
	/* It is recorded. */
	again = tmc_shmem_open(box_path("lazy"));
	assert_non_null(again);
	assert_non_null(tmc_shmem_grow(again, MIB));
	assert_int_equal(blocks(again), before);
	/* A copy with populate set prefaults. */
	a = *tmc_shmem_alloc(again);
	assert_non_null(tmc_alloc_map(tmc_alloc_set_populate(&a), MIB));
	assert_true(blocks(again) >= before + MIB);
	tmc_shmem_close(again);
	assert_int_equal(tmc_shmem_unlink(box_path("lazy")), 0);
}

static void all_of_the_maximum_can_be_used_and_no_more(void **state)
{
	tmc_shmem_t *shm = *state;
	char *p = tmc_shmem_grow(shm, MAX - page);

	assert_non_null(p);
	assert_null_errno(tmc_shmem_grow(shm, page + 1), ENOMEM);
	assert_int_equal(tmc_shmem_current_size(shm), MAX - page);
	assert_ptr_equal(tmc_shmem_grow(shm, 1), p + MAX - page);
	memset(p, 1, MAX);
	assert_null_errno(tmc_shmem_grow(shm, 1), ENOMEM);
	assert_int_equal(tmc_shmem_current_size(shm), MAX);
}

static void shrink_cuts_the_tail_and_gives_memory_back(void **state)
{
	tmc_shmem_t *shm = *state;
	size_t empty = blocks(shm);
	char *p = tmc_shmem_grow(shm, 10 * MIB);

	memset(p, 1, 10 * MIB);
	assert_int_equal(tmc_shmem_shrink(shm, 6 * MIB, 4 * MIB), 0);
	assert_int_equal(tmc_shmem_current_size(shm), 6 * MIB);
	assert_true(blocks(shm) <= empty + 6 * MIB);
	assert_int_equal(tmc_shmem_shrink(shm, (off_t)(6 * MIB - page), 1), 0);
	assert_int_equal(tmc_shmem_current_size(shm), 6 * MIB - page);
	assert_int_equal(tmc_shmem_shrink(shm, 0, 6 * MIB - page), 0);
	assert_int_equal(tmc_shmem_current_size(shm), 0);
	assert_int_equal(blocks(shm), empty);
}

static void pages_that_come_back_are_zero(void **state)
{
	tmc_shmem_t *shm = *state;
	char *p = tmc_shmem_grow(shm, 8 * MIB);

	memset(p, 1, 8 * MIB);
	assert_int_equal(tmc_shmem_shrink(shm, MIB, 7 * MIB), 0);
	assert_ptr_equal(tmc_shmem_grow(shm, 7 * MIB), p + MIB);
	assert_true(probe_zero(p + MIB, 7 * MIB));
	assert_int_equal(p[MIB - 1], 1);
}

static void shrink_refuses_what_is_not_the_tail(void **state)
{
	tmc_shmem_t *shm = *state;
	const off_t p = (off_t)page;

	assert_non_null(tmc_shmem_grow(shm, 4 * page));
	assert_minus_errno(tmc_shmem_shrink(shm, 0, page), EINVAL);
	assert_minus_errno(tmc_shmem_shrink(shm, p, page), EINVAL);
	assert_minus_errno(tmc_shmem_shrink(shm, 3 * p, 0), EINVAL);
	assert_minus_errno(tmc_shmem_shrink(shm, 4 * p, 0), EINVAL);
	assert_minus_errno(tmc_shmem_shrink(shm, 4 * p, page), EINVAL);
	assert_minus_errno(tmc_shmem_shrink(shm, 3 * p, 2 * page), EINVAL);
	assert_minus_errno(tmc_shmem_shrink(shm, 3 * p - 1, page + 1), EINVAL);
	assert_minus_errno(tmc_shmem_shrink(shm, -p, 5 * page), EINVAL);
	assert_minus_errno(tmc_shmem_shrink(shm, 5 * p, (size_t)-p), EINVAL);
	assert_minus_errno(tmc_shmem_shrink(shm, 3 * p, SIZE_MAX), EINVAL);
	assert_minus_errno(tmc_shmem_shrink(shm, 0, SIZE_MAX), EINVAL);
	assert_minus_errno(tmc_shmem_shrink(shm, INT64_MAX, page), EINVAL);
	assert_minus_errno(tmc_shmem_shrink(shm, INT64_MIN, page), EINVAL);
	assert_int_equal(tmc_shmem_current_size(shm), 4 * page);
}

static void grow_refuses_nothing_and_too_much(void **state)
{
	tmc_shmem_t *shm = *state;

	assert_null_errno(tmc_shmem_grow(shm, 0), EINVAL);
	assert_null_errno(tmc_shmem_grow(shm, MAX + 1), ENOMEM);
	assert_null_errno(tmc_shmem_grow(shm, SIZE_MAX), ENOMEM);
	assert_null_errno(tmc_shmem_grow(shm, SIZE_MAX - page + 1), ENOMEM);
	assert_null_errno(tmc_shmem_grow(shm, 1UL << 63), ENOMEM);
	assert_int_equal(tmc_shmem_current_size(shm), 0);
	assert_non_null(tmc_shmem_grow(shm, page));
	assert_null_errno(tmc_shmem_grow(shm, SIZE_MAX - page + 1), ENOMEM);
}

static void pages_are_mapped_from_the_end(void **state)
{
	tmc_shmem_t *shm = *state;
	tmc_alloc_t *a = tmc_shmem_alloc(shm);
	char *p = tmc_alloc_map(a, page + 1);

	assert_ptr_equal(p, tmc_shmem_address(shm));
	assert_int_equal(tmc_alloc_get_pagesize(a), page);
	assert_ptr_equal(tmc_alloc_map_at(a, p + 2 * page, page), p + 2 * page);
	assert_null_errno(tmc_alloc_map_at(a, p, page), EADDRINUSE);
	assert_null_errno(tmc_alloc_map_at(a, p + 4 * page, page), EADDRINUSE);
	assert_null_errno(tmc_alloc_map_at(a, p - page, page), EADDRINUSE);
	assert_null_errno(tmc_alloc_map_at(a, p + 3 * page + 1, page), EINVAL);
	assert_null_errno(tmc_alloc_map_at(a, NULL, page), EINVAL);
	assert_null_errno(tmc_alloc_map(a, 0), EINVAL);
	assert_null_errno(tmc_alloc_map(a, MAX), ENOMEM);
	assert_null_errno(tmc_alloc_map(a, SIZE_MAX), ENOMEM);
	assert_int_equal(tmc_shmem_current_size(shm), 3 * page);
	assert_null(tmc_shmem_alloc(NULL));
}

static void large_maps_at_the_end_are_present_too(void **state)
{
	tmc_shmem_t *shm = *state;
	tmc_alloc_t *a = tmc_shmem_alloc(shm);
	char *p = tmc_shmem_address(shm);

	assert_ptr_equal(tmc_alloc_map_at(a, p, 16 * MIB), p);
	assert_int_equal(probe_present(p, 16 * MIB), 16 * MIB);
	assert_null_errno(tmc_alloc_map_at(a, p, 16 * MIB), EADDRINUSE);
	assert_int_equal(tmc_shmem_current_size(shm), 16 * MIB);
}

static void only_the_tail_can_be_unmapped(void **state)
{
	tmc_shmem_t *shm = *state;
	char *p = tmc_shmem_grow(shm, 8 * page);

	assert_minus_errno(tmc_alloc_unmap(p, page), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(p + page, 6 * page), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(p + 7 * page, 2 * page), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(p + 8 * page, page), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(p + 7 * page, 0), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(p + 7 * page + 1, 1), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(p, SIZE_MAX), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(p - page, 9 * page), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(p + MAX - page, page), EINVAL);
	assert_int_equal(tmc_alloc_unmap(p + 6 * page, page + 1), 0);
	assert_int_equal(tmc_shmem_current_size(shm), 6 * page);
	assert_int_equal(tmc_alloc_unmap(p, 6 * page), 0);
	assert_int_equal(tmc_shmem_current_size(shm), 0);
}

#define assert_remap_fails(call, err)                                          \
	do {                                                                   \
		errno = 0;                                                     \
		assert_ptr_equal(call, MAP_FAILED);                            \
		assert_int_equal(errno, err);                                  \
	} while (0)

static void the_tail_can_be_remapped_in_place(void **state)
{
	tmc_shmem_t *shm = *state;
	char *p = tmc_shmem_grow(shm, 8 * page), *tail = p + 4 * page;

	memset(p, 1, 8 * page);
	assert_ptr_equal(tmc_alloc_remap(tail, 4 * page, 6 * page, 0), tail);
	assert_int_equal(tmc_shmem_current_size(shm), 10 * page);
	assert_true(probe_zero(p + 8 * page, 2 * page));
	assert_int_equal(tail[4 * page - 1], 1);
	assert_ptr_equal(tmc_alloc_remap(tail, 6 * page, 1, MREMAP_MAYMOVE),
			 tail);
	assert_int_equal(tmc_shmem_current_size(shm), 5 * page);
	assert_ptr_equal(tmc_alloc_remap(p, 5 * page, 5 * page, 0), p);
	assert_remap_fails(tmc_alloc_remap(p, page, 2 * page, 0), EINVAL);
	assert_remap_fails(tmc_alloc_remap(p, 4 * page, page, 0), EINVAL);
	assert_remap_fails(tmc_alloc_remap(p, 5 * page, 0, 0), EINVAL);
	assert_remap_fails(tmc_alloc_remap(p, page, page, 0), EINVAL);
	assert_remap_fails(tmc_alloc_remap(p, 5 * page, 6 * page,
					   MREMAP_MAYMOVE | MREMAP_FIXED,
					   p + MAX),
			   EINVAL);
	assert_remap_fails(tmc_alloc_remap(p, 5 * page, MAX + 1, 0), ENOMEM);
	assert_remap_fails(tmc_alloc_remap(p, 5 * page, SIZE_MAX, 0), ENOMEM);
	/* Ends that wrap around to the tail's. */
	tail = p + 8 * page;
	assert_remap_fails(tmc_alloc_remap(tail, 0 - 3 * page, 0 - 3 * page, 0),
			   EINVAL);
	assert_remap_fails(tmc_alloc_remap(tail, 0 - 3 * page, 0 - 8 * page, 0),
			   EINVAL);
	assert_remap_fails(tmc_alloc_remap(tail, 0 - 3 * page, 0 - 2 * page, 0),
			   EINVAL);
	assert_int_equal(tmc_shmem_current_size(shm), 5 * page);
}

static void an_alloc_of_a_closed_arena_is_refused(void **state)
{
	const char *path = box_path("closed");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, MIB), *next;
	tmc_alloc_t copy = *tmc_shmem_alloc(shm);
	char *p = tmc_shmem_grow(shm, page);

	(void)state;
	assert_non_null(p);
	tmc_shmem_close(shm);
	assert_null_errno(tmc_alloc_map(&copy, page), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(p, page), EINVAL);
	/* Nor does it serve the one that is opened next. */
	next = tmc_shmem_open(path);
	assert_non_null(next);
	assert_null_errno(tmc_alloc_map(&copy, page), EINVAL);
	assert_null_errno(tmc_alloc_map_at(&copy, p + page, page), EINVAL);
	assert_int_equal(tmc_shmem_current_size(next), page);
	tmc_shmem_close(next);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void the_alloc_of_a_readonly_handle_only_looks(void **state)
{
	tmc_shmem_t *ro = tmc_shmem_open_readonly(box_path("grow"));
	char *p = tmc_shmem_grow(*state, page);

	assert_non_null(ro);
	assert_null_errno(tmc_alloc_map(tmc_shmem_alloc(ro), page), EACCES);
	assert_null_errno(tmc_alloc_map_at(tmc_shmem_alloc(ro), p + page, page),
			  EACCES);
	tmc_shmem_close(ro);
}

static void null_handles_are_refused(void **state)
{
	(void)state;
	assert_null_errno(tmc_shmem_grow(NULL, page), EINVAL);
	assert_minus_errno(tmc_shmem_shrink(NULL, 0, page), EINVAL);
	assert_minus_errno(tmc_shmem_set_data(NULL, NULL), EINVAL);
	assert_minus_errno(tmc_shmem_fd(NULL), EINVAL);
	assert_minus_errno(tmc_shmem_hugefd(NULL), EINVAL);
}

/* A page that two get is not zero for the second of them. */
static void *grow_much(void *arg)
{
	tmc_shmem_t *shm = arg;
	int i;

	for (i = 0; i < 200; i++) {
		size_t n = (size_t)(i % 3 + 1) * page;
		char *p = tmc_shmem_grow(shm, n);

		if (!p || !probe_zero(p, n))
			return NULL;
		memset(p, 1, n);
	}
	return arg;
}

static void threads_grow_at_once_and_get_different_pages(void **state)
{
	pthread_t t[4];
	void *result;
	int i;

	for (i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, grow_much, *state),
				 0);
	for (i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(t[i], &result), 0);
		assert_ptr_equal(result, *state);
	}
	/* 67 times 1 page, 67 times 2, 66 times 3 */
	assert_int_equal(tmc_shmem_current_size(*state), 4 * 399 * page);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_arena, drop_arena)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_first_grow_returns_the_address),
		TEST(grown_pages_are_zero_and_present_in_the_caller),
		TEST(lazy_pages_take_no_memory_until_touched),
		TEST(an_arena_made_lazy_grows_lazily),
		TEST(all_of_the_maximum_can_be_used_and_no_more),
		TEST(shrink_cuts_the_tail_and_gives_memory_back),
		TEST(pages_that_come_back_are_zero),
		TEST(shrink_refuses_what_is_not_the_tail),
		TEST(grow_refuses_nothing_and_too_much),
		TEST(pages_are_mapped_from_the_end),
		TEST(large_maps_at_the_end_are_present_too),
		TEST(only_the_tail_can_be_unmapped),
		TEST(the_tail_can_be_remapped_in_place),
		TEST(an_alloc_of_a_closed_arena_is_refused),
		TEST(the_alloc_of_a_readonly_handle_only_looks),
		TEST(null_handles_are_refused),
		TEST(threads_grow_at_once_and_get_different_pages),
	};

	page = (size_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
