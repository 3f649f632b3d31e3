/* SPDX-License-Identifier: BSD-3-Clause */
/* test_alloc_remap.c - tmc_alloc_remap, and memory of huge pages. */
#include "test.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <tmc/alloc.h>

#include "peer.h"
#include "probe.h"

static size_t page;

static char *map_filled(const tmc_alloc_t *a, size_t len)
{
	char *p = tmc_alloc_map(a, len);

	assert_non_null(p);
	return memset(p, 3, len);
}

static int all_three(const char *p, size_t len)
{
	return p[0] == 3 && !memcmp(p, p + 1, len - 1);
}

#define assert_remap_fails(call, err)                                          \
	do {                                                                   \
		errno = 0;                                                     \
		assert_ptr_equal(call, MAP_FAILED);                            \
		assert_int_equal(errno, err);                                  \
	} while (0)

static void remap_grows_keeps_the_data_and_adds_zero_pages(void **state)
{
	char *p = map_filled(NULL, 4 * page), *q;

	(void)state;
	q = tmc_alloc_remap(p, 4 * page, 100 * page, MREMAP_MAYMOVE);
	assert_ptr_not_equal(q, MAP_FAILED);
	assert_true(all_three(q, 4 * page));
	assert_int_equal(probe_present(q, 100 * page), 100 * page);
	assert_true(probe_zero(q + 4 * page, 96 * page));
	assert_int_equal(tmc_alloc_unmap(q, 100 * page), 0);
	assert_true(probe_free(q, 100 * page));
}

static void remap_of_lazy_memory_stays_lazy(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;
	char *p = tmc_alloc_map(tmc_alloc_clear_populate(&a), 4 * page);

	(void)state;
	assert_non_null(p);
	p = tmc_alloc_remap(p, 4 * page, 64 * page, MREMAP_MAYMOVE);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(probe_present(p, 64 * page), 0);
	assert_int_equal(tmc_alloc_unmap(p, 64 * page), 0);
}

static void remap_shrinks_in_place(void **state)
{
	char *p = map_filled(NULL, 8 * page);

	(void)state;
	assert_ptr_equal(tmc_alloc_remap(p, 8 * page, 3 * page, 0), p);
	assert_true(all_three(p, 3 * page));
	assert_true(probe_free(p + 3 * page, 5 * page));
	assert_ptr_equal(tmc_alloc_remap(p, 3 * page, 2 * page + 1, 0), p);
	assert_minus_errno(tmc_alloc_unmap(p, 8 * page), EINVAL);
	assert_int_equal(tmc_alloc_unmap(p, 3 * page), 0);
}

static void remap_that_may_not_move_needs_room(void **state)
{
	char *p = map_filled(NULL, 8 * page);

	(void)state;
	assert_int_equal(tmc_alloc_unmap(p + 4 * page, 4 * page), 0);
	assert_ptr_equal(probe_occupy(p + 6 * page, page), p + 6 * page);
	assert_remap_fails(tmc_alloc_remap(p, 4 * page, 7 * page, 0), ENOMEM);
	assert_true(all_three(p, 4 * page));
	assert_remap_fails(tmc_alloc_remap(p, 2 * page, 3 * page, 0), ENOMEM);
	assert_true(probe_free(p + 4 * page, 2 * page));
	assert_ptr_equal(tmc_alloc_remap(p, 4 * page, 6 * page, 0), p);
	assert_true(probe_zero(p + 4 * page, 2 * page));
	assert_true(probe_untouched(p + 6 * page, page));
	assert_int_equal(tmc_alloc_unmap(p, 6 * page), 0);
}

static void remap_moves_to_an_address_that_is_free(void **state)
{
	char *p = map_filled(NULL, 2 * page);
	char *to = tmc_alloc_map(NULL, 4 * page);

	(void)state;
	assert_non_null(to);
	assert_int_equal(tmc_alloc_unmap(to, 4 * page), 0);
	assert_ptr_equal(tmc_alloc_remap(p, 2 * page, 4 * page,
					 MREMAP_MAYMOVE | MREMAP_FIXED, to),
			 to);
	assert_true(all_three(to, 2 * page));
	assert_true(probe_zero(to + 2 * page, 2 * page));
	assert_true(probe_free(p, 2 * page));
	assert_minus_errno(tmc_alloc_unmap(p, 2 * page), EINVAL);
	assert_int_equal(tmc_alloc_unmap(to, 4 * page), 0);
}

static void remap_never_moves_over_something(void **state)
{
	char *p = map_filled(NULL, 2 * page);
	char *to = probe_occupy(NULL, 4 * page);

	(void)state;
	assert_non_null(to);
	assert_remap_fails(tmc_alloc_remap(p, 2 * page, 4 * page,
					   MREMAP_MAYMOVE | MREMAP_FIXED, to),
			   EADDRINUSE);
	assert_true(all_three(p, 2 * page));
	assert_int_equal(probe_present(p, 2 * page), 2 * page);
	assert_true(probe_untouched(to, 4 * page));
	assert_int_equal(tmc_alloc_unmap(p, 2 * page), 0);
}

static void remap_refuses_wrong_lengths_flags_and_strangers(void **state)
{
	char *p = map_filled(NULL, 4 * page);
	char *foreign = probe_occupy(NULL, 4 * page);
	char *to = foreign + 1;

	(void)state;
	assert_remap_fails(tmc_alloc_remap(p, 4 * page, 0, 0), EINVAL);
	assert_remap_fails(tmc_alloc_remap(p, 0, 4 * page, 0), EINVAL);
	assert_remap_fails(tmc_alloc_remap(p, 5 * page, page, 0), EINVAL);
	assert_remap_fails(tmc_alloc_remap(p + 1, page, page, 0), EINVAL);
	assert_remap_fails(tmc_alloc_remap(p, 4 * page, page, 0x4000), EINVAL);
	assert_remap_fails(tmc_alloc_remap(p, 4 * page, page, MREMAP_FIXED, to),
			   EINVAL);
	assert_remap_fails(tmc_alloc_remap(p, 4 * page, page,
					   MREMAP_FIXED | MREMAP_MAYMOVE, to),
			   EINVAL);
	assert_remap_fails(tmc_alloc_remap(foreign, 4 * page, page, 0), EINVAL);
	assert_remap_fails(tmc_alloc_remap(NULL, page, page, 0), EINVAL);
	assert_remap_fails(
		tmc_alloc_remap(p, 4 * page, SIZE_MAX, MREMAP_MAYMOVE), ENOMEM);
	assert_remap_fails(
		tmc_alloc_remap(p, 4 * page, 1UL << 62, MREMAP_MAYMOVE),
		ENOMEM);
	assert_true(all_three(p, 4 * page));
	assert_true(probe_untouched(foreign, 4 * page));
	assert_int_equal(tmc_alloc_unmap(p, 4 * page), 0);
}

/* Moving is copying, and into such memory nobody can copy. */
static void memory_that_cannot_be_written_does_not_move(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;
	char *p;

	(void)state;
	a.mmap_prot = PROT_READ;
	p = tmc_alloc_map(&a, 2 * page);
	assert_non_null(p);
	assert_int_equal(tmc_alloc_unmap(p + page, page), 0);
	assert_ptr_equal(probe_occupy(p + page, page), p + page);
	assert_remap_fails(tmc_alloc_remap(p, page, 2 * page, MREMAP_MAYMOVE),
			   EINVAL);
	assert_true(probe_zero(p, page));
	assert_true(probe_untouched(p + page, page));
	assert_int_equal(tmc_alloc_unmap(p, page), 0);
}

static void shared_memory_can_only_shrink(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;
	char *p = map_filled(tmc_alloc_set_shared(&a), 4 * page);

	(void)state;
	assert_remap_fails(
		tmc_alloc_remap(p, 4 * page, 8 * page, MREMAP_MAYMOVE), EINVAL);
	assert_true(all_three(p, 4 * page));
	assert_ptr_equal(tmc_alloc_remap(p, 4 * page, 2 * page, 0), p);
	assert_true(all_three(p, 2 * page));
	assert_int_equal(tmc_alloc_unmap(p, 2 * page), 0);
}

/* Needs two free pages of @size; 0: the machine has not got them. */
static int have_pages(size_t size)
{
	return size && box_pool(size, 2) >= 2;
}

static int end_pool(void **state)
{
	(void)state;
	box_pool_end();
	return 0;
}

static void huge_pages_of_every_size_can_be_mapped(void **state)
{
	unsigned long sizes = tmc_alloc_get_pagesizes(), bit;
	int tried = 0;

	(void)state;
	for (bit = 2 * page; bit; bit <<= 1) {
		tmc_alloc_t a = TMC_ALLOC_INIT;
		char *p;

		if (!(sizes & bit) || !have_pages(bit))
			continue;
		assert_non_null(tmc_alloc_set_pagesize_exact(&a, bit));
		p = tmc_alloc_map(&a, bit + 1);
		assert_non_null(p);
		assert_int_equal((uintptr_t)p % bit, 0);
		assert_int_equal(probe_present(p, 2 * bit), 2 * bit);
		assert_int_equal(probe_smaps(p, "KernelPageSize") * KIB, bit);
		assert_true(probe_zero(p, MIB));
		assert_minus_errno(tmc_alloc_unmap(p + page, bit), EINVAL);
		assert_int_equal(tmc_alloc_unmap(p + bit, 1), 0);
		assert_int_equal(tmc_alloc_unmap(p, bit), 0);
		assert_true(probe_free(p, 2 * bit));
		tried++;
	}
	if (!tried)
		skip();
}

static void huge_pages_can_be_mapped_where_asked(void **state)
{
	const size_t huge = tmc_alloc_get_huge_pagesize();
	tmc_alloc_t a = TMC_ALLOC_INIT;
	char *p;

	(void)state;
	if (!have_pages(huge))
		skip();
	tmc_alloc_set_shared(tmc_alloc_set_huge(&a));
	p = tmc_alloc_map(&a, huge);
	assert_non_null(p);
	assert_null_errno(tmc_alloc_map_at(&a, p, huge), EADDRINUSE);
	assert_int_equal(tmc_alloc_unmap(p, huge), 0);
	assert_null_errno(tmc_alloc_map_at(&a, p + page, huge), EINVAL);
	assert_ptr_equal(tmc_alloc_map_at(&a, p, huge), p);
	assert_int_equal(tmc_alloc_unmap(p, huge), 0);
}

static void remap_of_huge_pages_shrinks_and_grows_or_says_enomem(void **state)
{
	const size_t huge = tmc_alloc_get_huge_pagesize();
	tmc_alloc_t a = TMC_ALLOC_INIT;
	char *p, *q;

	(void)state;
	if (!have_pages(huge))
		skip();
	p = tmc_alloc_map(tmc_alloc_set_huge(&a), 2 * huge);
	assert_non_null(p);
	memset(p, 3, 2 * huge);
	assert_ptr_equal(tmc_alloc_remap(p, 2 * huge, huge, 0), p);
	assert_true(all_three(p, huge));
	assert_true(probe_free(p + huge, huge));
	errno = 0;
	q = tmc_alloc_remap(p, huge, 2 * huge, 0);
	if (q == MAP_FAILED) {
		assert_int_equal(errno, ENOMEM);
		assert_int_equal(tmc_alloc_unmap(p, huge), 0);
	} else {
		assert_ptr_equal(q, p);
		assert_true(probe_zero(p + huge, huge));
		assert_int_equal(tmc_alloc_unmap(p, 2 * huge), 0);
	}
}

static void an_empty_huge_page_pool_is_enomem(void **state)
{
	const size_t huge = tmc_alloc_get_huge_pagesize();
	tmc_alloc_t a = TMC_ALLOC_INIT;
	size_t n, maps = probe_maps();
	char *p;

	(void)state;
	if (!have_pages(huge))
		skip();
	n = box_pool_size(huge);
	tmc_alloc_set_huge(&a);
	assert_null_errno(tmc_alloc_map(&a, (n + 1) * huge), ENOMEM);
	assert_null_errno(
		tmc_alloc_map(tmc_alloc_set_shared(&a), (n + 1) * huge),
		ENOMEM);
	assert_int_equal(probe_maps(), maps);
	p = tmc_alloc_map(&a, huge);
	assert_non_null(p);
	assert_int_equal(tmc_alloc_unmap(p, huge), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			remap_grows_keeps_the_data_and_adds_zero_pages),
		cmocka_unit_test(remap_of_lazy_memory_stays_lazy),
		cmocka_unit_test(remap_shrinks_in_place),
		cmocka_unit_test(remap_that_may_not_move_needs_room),
		cmocka_unit_test(remap_moves_to_an_address_that_is_free),
		cmocka_unit_test(remap_never_moves_over_something),
		cmocka_unit_test(
			remap_refuses_wrong_lengths_flags_and_strangers),
		cmocka_unit_test(memory_that_cannot_be_written_does_not_move),
		cmocka_unit_test(shared_memory_can_only_shrink),
		cmocka_unit_test_teardown(
			huge_pages_of_every_size_can_be_mapped, end_pool),
		cmocka_unit_test_teardown(huge_pages_can_be_mapped_where_asked,
					  end_pool),
		cmocka_unit_test_teardown(
			remap_of_huge_pages_shrinks_and_grows_or_says_enomem,
			end_pool),
		cmocka_unit_test_teardown(an_empty_huge_page_pool_is_enomem,
					  end_pool),
	};

	page = (size_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
