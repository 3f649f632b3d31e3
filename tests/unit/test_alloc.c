/* SPDX-License-Identifier: BSD-3-Clause */
/* test_alloc.c - tmc_alloc_t: setters, page sizes, NUMA nodes, sizes. */
#include "test.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <tmc/shmem.h>

static size_t small_page(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t largest_page(void)
{
	size_t bit = 1UL << 63;

	while (!(tmc_alloc_get_pagesizes() & bit))
		bit >>= 1;
	return bit;
}

static void assert_same(const tmc_alloc_t *a, const tmc_alloc_t *b)
{
	assert_int_equal(a->mmap_prot, b->mmap_prot);
	assert_int_equal(a->mmap_flags, b->mmap_flags);
	assert_int_equal(a->mbind_policy, b->mbind_policy);
	assert_int_equal(a->mbind_nodemask, b->mbind_nodemask);
	assert_int_equal(a->pagesize, b->pagesize);
	assert_int_equal(a->internal_flags, b->internal_flags);
	assert_int_equal(a->internal_arena, b->internal_arena);
}

static void init_makes_what_the_initialiser_makes(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT, b;

	(void)state;
	memset(&b, 0xff, sizeof(b));
	assert_ptr_equal(tmc_alloc_init(&b), &b);
	assert_same(&a, &b);
}

static void defaults_are_populated_private_small_read_and_write(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;

	(void)state;
	assert_int_equal(a.mmap_prot, PROT_READ | PROT_WRITE);
	assert_int_equal(a.mmap_flags, MAP_POPULATE);
	assert_int_equal(tmc_alloc_get_populate(&a), 1);
	assert_int_equal(tmc_alloc_get_shared(&a), 0);
	assert_int_equal(tmc_alloc_get_huge(&a), 0);
	assert_int_equal(tmc_alloc_get_thp(&a), 0);
	assert_int_equal(tmc_alloc_get_pagesize(&a), small_page());
}

static void setters_take_null_and_return_it(void **state)
{
	(void)state;
	assert_null(tmc_alloc_init(NULL));
	assert_null(tmc_alloc_set_huge(NULL));
	assert_null(tmc_alloc_clear_huge(NULL));
	assert_null(tmc_alloc_set_huge_preferred(NULL));
	assert_null(tmc_alloc_set_pagesize(NULL, 1));
	assert_null(tmc_alloc_set_pagesize_exact(NULL, small_page()));
	assert_null(tmc_alloc_set_populate(NULL));
	assert_null(tmc_alloc_clear_populate(NULL));
	assert_null(tmc_alloc_set_thp(NULL));
	assert_null(tmc_alloc_clear_thp(NULL));
	assert_null(tmc_alloc_set_shared(NULL));
	assert_null(tmc_alloc_clear_shared(NULL));
	assert_null(tmc_alloc_set_mode(NULL, 0644));
	assert_null(tmc_alloc_set_nodes(NULL, 1));
	assert_null(tmc_alloc_set_node_preferred(NULL, 0));
	assert_null(tmc_alloc_set_nodes_interleaved(NULL, 1));
	assert_null(tmc_alloc_set_node_local(NULL));
	assert_null(tmc_alloc_set_node_default(NULL));
}

static void setters_return_their_argument_so_that_they_nest(void **state)
{
	tmc_alloc_t a, *p = &a;

	(void)state;
	p = tmc_alloc_set_node_default(
		tmc_alloc_set_node_local(tmc_alloc_set_nodes_interleaved(
			tmc_alloc_set_node_preferred(
				tmc_alloc_set_nodes(tmc_alloc_init(p), 1), 0),
			1)));
	assert_ptr_equal(p, &a);
	p = tmc_alloc_clear_thp(tmc_alloc_set_thp(
		tmc_alloc_clear_populate(tmc_alloc_set_populate(p))));
	assert_ptr_equal(p, &a);
	p = tmc_alloc_clear_shared(tmc_alloc_set_shared(
		tmc_alloc_clear_huge(tmc_alloc_set_huge(p))));
	assert_ptr_equal(p, &a);
	p = tmc_alloc_set_pagesize_exact(tmc_alloc_set_pagesize(p, 1),
					 small_page());
	assert_ptr_equal(p, &a);
}

static void getters_take_null_for_the_defaults(void **state)
{
	(void)state;
	assert_int_equal(tmc_alloc_get_huge(NULL), 0);
	assert_int_equal(tmc_alloc_get_pagesize(NULL), small_page());
	assert_int_equal(tmc_alloc_size(NULL, 1), small_page());
}

static void populate_is_the_bit_of_mmap(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;

	(void)state;
	tmc_alloc_clear_populate(&a);
	assert_int_equal(a.mmap_flags & MAP_POPULATE, 0);
	assert_int_equal(tmc_alloc_get_populate(&a), 0);
	a.mmap_flags |= MAP_POPULATE;
	assert_int_equal(tmc_alloc_get_populate(&a), 1);
	a.mmap_flags = 0;
	tmc_alloc_set_populate(&a);
	assert_int_equal(a.mmap_flags & MAP_POPULATE, MAP_POPULATE);
}

static void each_attribute_is_set_and_cleared_alone(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;
	const tmc_alloc_t fresh = a;

	(void)state;
	tmc_alloc_set_thp(&a);
	assert_int_equal(tmc_alloc_get_thp(&a), 1);
	tmc_alloc_set_shared(&a);
	assert_int_equal(tmc_alloc_get_shared(&a), 1);
	assert_int_equal(tmc_alloc_get_thp(&a), 1);
	assert_int_equal(tmc_alloc_get_populate(&a), 1);
	tmc_alloc_clear_thp(&a);
	assert_int_equal(tmc_alloc_get_thp(&a), 0);
	assert_int_equal(tmc_alloc_get_shared(&a), 1);
	tmc_alloc_clear_shared(&a);
	assert_int_equal(tmc_alloc_get_shared(&a), 0);
	assert_int_equal(a.pagesize, fresh.pagesize);
	assert_int_equal(tmc_alloc_get_populate(&a), 1);
}

static void a_mode_is_permission_bits_or_refused(void **state)
{
	const unsigned int bad[] = { 01000, 04755, 0100600, UINT32_MAX };
	const tmc_alloc_t fresh = TMC_ALLOC_INIT;
	tmc_alloc_t a = fresh, before;
	unsigned int mode;
	size_t i;

	(void)state;
	assert_int_equal(tmc_alloc_get_mode(NULL), 0);
	assert_int_equal(tmc_alloc_get_mode(&a), 0600);
	for (mode = 0; mode <= 0777; mode++) {
		assert_ptr_equal(tmc_alloc_set_mode(&a, mode), &a);
		assert_int_equal(tmc_alloc_get_mode(&a), mode);
	}
	tmc_alloc_set_thp(&a);
	before = a;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_null_errno(tmc_alloc_set_mode(&a, bad[i]), EINVAL);
	assert_same(&a, &before);
	assert_int_equal(tmc_alloc_get_thp(&a), 1);
	tmc_alloc_clear_thp(tmc_alloc_set_mode(&a, 0600));
	assert_same(&a, &fresh);
}

static void huge_means_the_default_huge_page_and_back(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;

	(void)state;
	tmc_alloc_set_huge(&a);
	assert_int_equal(tmc_alloc_get_huge(&a), 1);
	assert_int_equal(tmc_alloc_get_pagesize(&a),
			 tmc_alloc_get_huge_pagesize());
	tmc_alloc_clear_huge(&a);
	assert_int_equal(tmc_alloc_get_huge(&a), 0);
	assert_int_equal(tmc_alloc_get_pagesize(&a), small_page());
}

static void a_preference_lasts_until_the_next_choice(void **state)
{
	const tmc_alloc_t fresh = TMC_ALLOC_INIT;
	size_t huge = tmc_alloc_get_huge_pagesize();
	tmc_alloc_t a = fresh;

	(void)state;
	assert_int_equal(tmc_alloc_get_huge_preferred(NULL), 0);
	assert_int_equal(tmc_alloc_get_huge_preferred(&a), 0);
	assert_ptr_equal(tmc_alloc_set_huge_preferred(&a), &a);
	assert_int_equal(tmc_alloc_get_huge_preferred(&a), 1);
	assert_int_equal(tmc_alloc_get_huge(&a), 1);
	assert_int_equal(tmc_alloc_get_pagesize(&a),
			 huge ? huge : small_page());
	assert_int_equal(tmc_alloc_size(&a, 1), huge ? huge : small_page());
	assert_int_equal(tmc_alloc_get_huge_preferred(tmc_alloc_set_huge(&a)),
			 0);
	assert_int_equal(tmc_alloc_get_huge(&a), 1);
	tmc_alloc_set_huge_preferred(&a);
	tmc_alloc_set_pagesize(&a, 1);
	assert_int_equal(tmc_alloc_get_huge_preferred(&a), 0);
	tmc_alloc_clear_huge(tmc_alloc_set_huge_preferred(&a));
	assert_same(&a, &fresh);
	/* A size that no machine has: flags alone can ask for it. */
	a.mmap_flags |= (int)(MAP_HUGETLB | 60u << 26);
	assert_int_equal(tmc_alloc_get_pagesize(&a), 0);
	tmc_alloc_set_huge_preferred(&a);
	assert_int_equal(tmc_alloc_get_pagesize(&a), small_page());
	assert_int_equal(tmc_alloc_size(&a, 1), small_page());
}

static void huge_page_size_is_what_meminfo_says(void **state)
{
	FILE *f = fopen("/proc/meminfo", "re");
	size_t kb = 0;
	char line[256];

	(void)state;
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Hugepagesize: %zu kB", &kb) == 1)
			break;
	fclose(f);
	assert_int_equal(tmc_alloc_get_huge_pagesize(), kb * KIB);
}

static void page_sizes_are_those_of_sysfs_and_the_small_one(void **state)
{
	unsigned long sizes = tmc_alloc_get_pagesizes(), bit, kb;
	char path[128];

	(void)state;
	assert_int_equal(sizes & (2 * small_page() - 1), small_page());
	for (bit = 2 * small_page(); bit; bit <<= 1) {
		kb = bit / KIB;
		snprintf(path, sizeof(path),
			 "/sys/kernel/mm/hugepages/hugepages-%lukB", kb);
		assert_int_equal((sizes & bit) != 0, access(path, F_OK) == 0);
	}
}

static void set_pagesize_takes_the_smallest_that_holds_it(void **state)
{
	unsigned long sizes = tmc_alloc_get_pagesizes(), bit, below = 0;
	tmc_alloc_t a = TMC_ALLOC_INIT;

	(void)state;
	for (bit = 1; bit; bit <<= 1) {
		if (!(sizes & bit))
			continue;
		assert_ptr_equal(tmc_alloc_set_pagesize(&a, bit), &a);
		assert_int_equal(tmc_alloc_get_pagesize(&a), bit);
		assert_ptr_equal(tmc_alloc_set_pagesize(&a, below + 1), &a);
		assert_int_equal(tmc_alloc_get_pagesize(&a), bit);
		assert_int_equal(tmc_alloc_get_huge(&a), bit != small_page());
		below = bit;
	}
	assert_ptr_equal(tmc_alloc_set_pagesize(&a, 0), &a);
	assert_int_equal(tmc_alloc_get_pagesize(&a), small_page());
}

static void a_page_too_large_sets_the_largest_and_says_null(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;

	(void)state;
	assert_null(tmc_alloc_set_pagesize(&a, largest_page() + 1));
	assert_int_equal(tmc_alloc_get_pagesize(&a), largest_page());
	tmc_alloc_init(&a);
	assert_null(tmc_alloc_set_pagesize(&a, SIZE_MAX));
	assert_int_equal(tmc_alloc_get_pagesize(&a), largest_page());
}

static void exact_pagesize_is_there_or_nothing_changes(void **state)
{
	unsigned long sizes = tmc_alloc_get_pagesizes(), bit;
	const size_t bad[] = {
		0, 1, 3000, small_page() + 1, sizes + 1, SIZE_MAX
	};
	tmc_alloc_t a = TMC_ALLOC_INIT, before;
	size_t i;

	(void)state;
	tmc_alloc_set_pagesize(tmc_alloc_set_thp(&a), 1);
	before = a;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_null(tmc_alloc_set_pagesize_exact(&a, bad[i]));
		assert_same(&a, &before);
	}
	for (bit = 1; bit; bit <<= 1) {
		tmc_alloc_init(&a);
		before = a;
		if (sizes & bit) {
			assert_ptr_equal(tmc_alloc_set_pagesize_exact(&a, bit),
					 &a);
			assert_int_equal(tmc_alloc_get_pagesize(&a), bit);
		} else {
			assert_null(tmc_alloc_set_pagesize_exact(&a, bit));
			assert_same(&a, &before);
		}
	}
}

static void flags_alone_can_ask_for_huge_pages(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;

	(void)state;
	a.mmap_flags |= MAP_HUGETLB;
	assert_int_equal(tmc_alloc_get_huge(&a), 1);
	assert_int_equal(tmc_alloc_get_pagesize(&a),
			 tmc_alloc_get_huge_pagesize());
	if (!(tmc_alloc_get_pagesizes() & 2 * MIB))
		skip();
	a.mmap_flags |= 21 << 26;
	assert_int_equal(tmc_alloc_get_pagesize(&a), 2 * MIB);
}

static void numa_setters_fill_policy_and_mask(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;

	(void)state;
	tmc_alloc_set_nodes(&a, 5);
	assert_int_equal(a.mbind_policy, TMC_MPOL_BIND);
	assert_int_equal(a.mbind_nodemask, 5);
	tmc_alloc_set_node_preferred(&a, 3);
	assert_int_equal(a.mbind_policy, TMC_MPOL_PREFERRED);
	assert_int_equal(a.mbind_nodemask, 8);
	tmc_alloc_set_node_preferred(&a, 63);
	assert_int_equal(a.mbind_nodemask, 1UL << 63);
	tmc_alloc_set_nodes_interleaved(&a, 6);
	assert_int_equal(a.mbind_policy, TMC_MPOL_INTERLEAVE);
	assert_int_equal(a.mbind_nodemask, 6);
	tmc_alloc_set_node_local(&a);
	assert_int_equal(a.mbind_policy, TMC_MPOL_LOCAL);
	tmc_alloc_set_node_default(&a);
	assert_int_equal(a.mbind_policy, TMC_MPOL_DEFAULT);
}

static void available_nodes_are_those_the_kernel_allows(void **state)
{
	unsigned long mask = tmc_alloc_get_available_nodes(), allowed = 0;
	FILE *f = fopen("/proc/self/status", "re");
	char line[4096], *low;

	(void)state;
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, "Mems_allowed:", 13))
			continue;
		/* Groups of 32 bits, the lowest last; nodes below 32 do. */
		low = strrchr(line, ',');
		assert_int_equal(
			sscanf(low ? low + 1 : line + 13, "%lx", &allowed), 1);
	}
	fclose(f);
	assert_int_not_equal(mask, 0);
	assert_int_equal(mask & 0xffffffff & ~allowed, 0);
	assert_int_equal(__builtin_popcountl(mask),
			 tmc_alloc_num_available_nodes());
}

static void size_is_rounded_up_to_the_page_size(void **state)
{
	const size_t page = small_page(), huge = tmc_alloc_get_huge_pagesize();
	tmc_alloc_t a = TMC_ALLOC_INIT;

	(void)state;
	assert_int_equal(tmc_alloc_size(&a, 0), 0);
	assert_int_equal(tmc_alloc_size(&a, 1), page);
	assert_int_equal(tmc_alloc_size(&a, page), page);
	assert_int_equal(tmc_alloc_size(&a, page + 1), 2 * page);
	assert_int_equal(tmc_alloc_size(&a, SIZE_MAX - page + 1),
			 SIZE_MAX - page + 1);
	if (!huge)
		skip();
	tmc_alloc_set_huge(&a);
	assert_int_equal(tmc_alloc_size(&a, 1), huge);
	assert_int_equal(tmc_alloc_size(&a, huge + 1), 2 * huge);
}

static void size_that_wraps_or_has_no_page_size_is_0(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;

	(void)state;
	assert_int_equal(tmc_alloc_size(&a, SIZE_MAX), 0);
	assert_int_equal(tmc_alloc_size(NULL, SIZE_MAX - 1), 0);
	a.pagesize = 12345;
	assert_int_equal(tmc_alloc_size(&a, 1), 0);
}

/* Each looks into files of the kernel's. */
static void *look_when_cancelled(void *arg)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;

	pthread_cancel(pthread_self());
	tmc_alloc_get_pagesizes();
	tmc_alloc_get_huge_pagesize();
	tmc_alloc_get_available_nodes();
	tmc_alloc_num_available_nodes();
	tmc_alloc_set_pagesize(&a, small_page() + 1);
	tmc_alloc_get_pagesize(tmc_alloc_set_huge(&a));
	tmc_alloc_size(&a, 1);
	tmc_alloc_set_pagesize_exact(&a, small_page());
	tmc_alloc_get_pagesize(tmc_alloc_set_huge_preferred(&a));
	tmc_shmem_create("/proc/none/arena", tmc_alloc_set_huge(&a), NULL, 0);
	return arg;
}

static void nothing_is_a_cancellation_point(void **state)
{
	pthread_t thread;
	void *rc = NULL;

	assert_int_equal(
		pthread_create(&thread, NULL, look_when_cancelled, state), 0);
	assert_int_equal(pthread_join(thread, &rc), 0);
	assert_ptr_equal(rc, state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(init_makes_what_the_initialiser_makes),
		cmocka_unit_test(
			defaults_are_populated_private_small_read_and_write),
		cmocka_unit_test(setters_take_null_and_return_it),
		cmocka_unit_test(
			setters_return_their_argument_so_that_they_nest),
		cmocka_unit_test(getters_take_null_for_the_defaults),
		cmocka_unit_test(populate_is_the_bit_of_mmap),
		cmocka_unit_test(each_attribute_is_set_and_cleared_alone),
		cmocka_unit_test(a_mode_is_permission_bits_or_refused),
		cmocka_unit_test(huge_means_the_default_huge_page_and_back),
		cmocka_unit_test(a_preference_lasts_until_the_next_choice),
		cmocka_unit_test(huge_page_size_is_what_meminfo_says),
		cmocka_unit_test(
			page_sizes_are_those_of_sysfs_and_the_small_one),
		cmocka_unit_test(set_pagesize_takes_the_smallest_that_holds_it),
		cmocka_unit_test(
			a_page_too_large_sets_the_largest_and_says_null),
		cmocka_unit_test(exact_pagesize_is_there_or_nothing_changes),
		cmocka_unit_test(flags_alone_can_ask_for_huge_pages),
		cmocka_unit_test(numa_setters_fill_policy_and_mask),
		cmocka_unit_test(available_nodes_are_those_the_kernel_allows),
		cmocka_unit_test(size_is_rounded_up_to_the_page_size),
		cmocka_unit_test(size_that_wraps_or_has_no_page_size_is_0),
		cmocka_unit_test(nothing_is_a_cancellation_point),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
