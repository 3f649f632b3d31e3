/* SPDX-License-Identifier: BSD-3-Clause */
/* test_alloc_map.c - tmc_alloc_map, map_at and unmap of private memory. */
#include "test.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <tmc/alloc.h>

#include "kernel.h"
#include "peer.h"
#include "probe.h"

static size_t page;

/* An address where @len bytes are free. */
static void *free_place(size_t len)
{
	void *p =
		mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	munmap(p, len);
	return p;
}

static void pages_are_zero_writable_and_present(void **state)
{
	char *p = tmc_alloc_map(NULL, 10 * page + 1);

	(void)state;
	assert_non_null(p);
	assert_int_equal((uintptr_t)p % page, 0);
	assert_int_equal(probe_present(p, 11 * page), 11 * page);
	assert_true(probe_zero(p, 11 * page));
	memset(p, 1, 11 * page);
	assert_int_equal(tmc_alloc_unmap(p, 10 * page + 1), 0);
	assert_true(probe_free(p, 11 * page));
}

static void lazy_pages_come_with_the_first_touch(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;
	char *p;

	(void)state;
	/* Large enough not to share a huge page with anything. */
	p = tmc_alloc_map(tmc_alloc_clear_populate(&a), 64 * page);
	assert_non_null(p);
	assert_int_equal(probe_present(p, 64 * page), 0);
	p[5 * page] = 1;
	assert_true(probe_present(p, 64 * page) >= page);
	assert_int_equal(tmc_alloc_unmap(p, 64 * page), 0);
}

static int write_one(struct peer *self, void *arg)
{
	(void)self;
	*(char *)arg = 1;
	return 0;
}

static void private_memory_is_not_seen_by_a_child_and_shared_is(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;
	char *private = tmc_alloc_map(&a, page);
	char *shared = tmc_alloc_map(tmc_alloc_set_shared(&a), page);

	(void)state;
	assert_non_null(private);
	assert_non_null(shared);
	assert_int_equal(probe_present(shared, page), page);
	assert_int_equal(peer_run(write_one, private), 0);
	assert_int_equal(peer_run(write_one, shared), 0);
	assert_int_equal(*private, 0);
	assert_int_equal(*shared, 1);
	assert_int_equal(tmc_alloc_unmap(private, page), 0);
	assert_int_equal(tmc_alloc_unmap(shared, page), 0);
}

static void map_refuses_bad_attributes(void **state)
{
	tmc_alloc_t a;

	(void)state;
	assert_null_errno(tmc_alloc_map(NULL, 0), EINVAL);
	tmc_alloc_init(&a)->mmap_prot = 0x40000000;
	assert_null_errno(tmc_alloc_map(&a, page), EINVAL);
	tmc_alloc_init(&a)->mmap_flags |= MAP_FIXED;
	assert_null_errno(tmc_alloc_map(&a, page), EINVAL);
	tmc_alloc_init(&a)->pagesize = 12345;
	assert_null_errno(tmc_alloc_map(&a, page), EINVAL);
	tmc_alloc_init(&a)->mbind_policy = 99;
	assert_null_errno(tmc_alloc_map(&a, page), EINVAL);
	tmc_alloc_init(&a)->mmap_flags |= MAP_HUGETLB | 13 << 26;
	assert_null_errno(tmc_alloc_map(&a, page), EINVAL);
	tmc_alloc_init(&a)->internal_arena = 12345;
	assert_null_errno(tmc_alloc_map(&a, page), EINVAL);
}

static void map_refuses_sizes_that_no_memory_has(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;

	(void)state;
	assert_null_errno(tmc_alloc_map(NULL, SIZE_MAX), ENOMEM);
	assert_null_errno(tmc_alloc_map(NULL, SIZE_MAX - page), ENOMEM);
	assert_null_errno(tmc_alloc_map(&a, 1UL << 62), ENOMEM);
	tmc_alloc_clear_populate(&a);
	assert_null_errno(tmc_alloc_map(&a, 1UL << 62), ENOMEM);
}

static void map_takes_memory_of_nodes_that_exist(void **state)
{
	unsigned long nodes = tmc_alloc_get_available_nodes();
	tmc_alloc_t a = TMC_ALLOC_INIT;
	int i;

	(void)state;
	for (i = 0; i < 5; i++) {
		void *p;

		if (i == 0)
			tmc_alloc_set_nodes(&a, nodes);
		else if (i == 1)
			tmc_alloc_set_node_preferred(&a, __builtin_ctzl(nodes));
		else if (i == 2)
			tmc_alloc_set_nodes_interleaved(&a, nodes);
		else if (i == 3)
			tmc_alloc_set_node_local(&a);
		else
			tmc_alloc_set_node_default(&a);
		p = tmc_alloc_map(&a, page);
		assert_non_null(p);
		assert_int_equal(tmc_alloc_unmap(p, page), 0);
	}
}

static void map_refuses_nodes_that_do_not_exist(void **state)
{
	const size_t maps = probe_maps();
	tmc_alloc_t a = TMC_ALLOC_INIT;

	(void)state;
	if (tmc_alloc_get_available_nodes() >> 63)
		skip();
	tmc_alloc_set_nodes(&a, 1UL << 63);
	assert_null_errno(tmc_alloc_map(&a, page), EINVAL);
	tmc_alloc_set_node_preferred(&a, 63);
	assert_null_errno(tmc_alloc_map(&a, page), EINVAL);
	tmc_alloc_set_nodes_interleaved(&a, 1UL << 63);
	assert_null_errno(tmc_alloc_map(&a, page), EINVAL);
	tmc_alloc_set_node_preferred(&a, 64);
	assert_null_errno(tmc_alloc_map(&a, page), EINVAL);
	tmc_alloc_set_node_preferred(&a, -1);
	assert_null_errno(tmc_alloc_map(&a, page), EINVAL);
	assert_int_equal(probe_maps(), maps);
}

static void map_at_maps_exactly_there(void **state)
{
	char *want = free_place(4 * page), *p;

	(void)state;
	p = tmc_alloc_map_at(NULL, want, 4 * page);
	assert_ptr_equal(p, want);
	p[4 * page - 1] = 1;
	assert_int_equal(tmc_alloc_unmap(p, 4 * page), 0);
}

static void map_at_leaves_alone_what_is_there(void **state)
{
	char *want = free_place(4 * page);

	(void)state;
	assert_ptr_equal(probe_occupy(want + 3 * page, page), want + 3 * page);
	assert_null_errno(tmc_alloc_map_at(NULL, want, 4 * page), EADDRINUSE);
	assert_null_errno(tmc_alloc_map_at(NULL, want + 3 * page, page),
			  EADDRINUSE);
	assert_true(probe_untouched(want + 3 * page, page));
	assert_true(probe_free(want, 4 * page));
}

static void map_at_leaves_alone_maps_of_its_own(void **state)
{
	char *p = tmc_alloc_map(NULL, 2 * page);

	(void)state;
	assert_non_null(p);
	*p = 7;
	assert_null_errno(tmc_alloc_map_at(NULL, p, page), EADDRINUSE);
	assert_int_equal(*p, 7);
	assert_int_equal(tmc_alloc_unmap(p, 2 * page), 0);
}

static void map_at_refuses_null_and_unaligned_starts(void **state)
{
	char *want = free_place(4 * page);

	(void)state;
	assert_null_errno(tmc_alloc_map_at(NULL, NULL, page), EINVAL);
	assert_null_errno(tmc_alloc_map_at(NULL, want + 1, page), EINVAL);
	assert_null_errno(tmc_alloc_map_at(NULL, want, 0), EINVAL);
	assert_true(probe_free(want, 4 * page));
}

static void map_at_refuses_ranges_beyond_the_address_space(void **state)
{
	void *top = (void *)(SIZE_MAX - page + 1);

	(void)state;
	assert_null(tmc_alloc_map_at(NULL, top, page));
	assert_true(errno == ENOMEM || errno == EINVAL);
	assert_null(tmc_alloc_map_at(NULL, top, 2 * page));
	assert_true(errno == ENOMEM || errno == EINVAL);
	assert_null_errno(tmc_alloc_map_at(NULL, (void *)(16 * MIB), SIZE_MAX),
			  ENOMEM);
}

static int map_at_on_an_old_kernel(struct peer *self, void *arg)
{
	char *want = arg, *p;

	(void)self;
	if (kernel_without_noreplace() || kernel_without_populate_write())
		return 77;
	p = tmc_alloc_map_at(NULL, want, 4 * page);
	PEER_CHECK(p == want);
	PEER_CHECK(probe_present(p, 4 * page) == 4 * page);
	PEER_CHECK(tmc_alloc_unmap(p, 4 * page) == 0);
	PEER_CHECK(probe_occupy(want + page, page));
	PEER_CHECK(!tmc_alloc_map_at(NULL, want, 4 * page));
	PEER_CHECK(errno == EADDRINUSE);
	PEER_CHECK(probe_untouched(want + page, page));
	PEER_CHECK(probe_free(want, 4 * page));
	return 0;
}

static void map_at_does_the_same_on_an_old_kernel(void **state)
{
	int rc = peer_run(map_at_on_an_old_kernel, free_place(4 * page));

	(void)state;
	if (rc == 77)
		skip();
	assert_int_equal(rc, 0);
}

static void any_pages_of_a_map_can_be_given_back(void **state)
{
	char *p = tmc_alloc_map(NULL, 8 * page);

	(void)state;
	assert_non_null(p);
	memset(p, 9, 8 * page);
	assert_int_equal(tmc_alloc_unmap(p + 3 * page, page + 1), 0);
	assert_true(probe_free(p + 3 * page, 2 * page));
	assert_int_equal(tmc_alloc_unmap(p, page), 0);
	assert_int_equal(tmc_alloc_unmap(p + 7 * page, 1), 0);
	assert_int_equal(p[page], 9);
	assert_int_equal(p[7 * page - 1], 9);
	assert_minus_errno(tmc_alloc_unmap(p + page, 4 * page), EINVAL);
	assert_int_equal(tmc_alloc_unmap(p + page, 2 * page), 0);
	assert_int_equal(tmc_alloc_unmap(p + 5 * page, 2 * page), 0);
	assert_true(probe_free(p, 8 * page));
}

static void unmap_refuses_what_is_not_its_own(void **state)
{
	char *p = tmc_alloc_map(NULL, 4 * page);
	char *foreign = probe_occupy(NULL, 4 * page);
	char local[64];

	(void)state;
	assert_non_null(p);
	assert_non_null(foreign);
	assert_minus_errno(tmc_alloc_unmap(foreign, 4 * page), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(foreign + page, page), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(local, sizeof(local)), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(NULL, page), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(p, 0), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(p + 1, page), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(p, 5 * page), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(p + page, 4 * page), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(p, SIZE_MAX), EINVAL);
	assert_minus_errno(tmc_alloc_unmap(p, SIZE_MAX - page + 1), EINVAL);
	assert_true(probe_untouched(foreign, 4 * page));
	memset(p, 1, 4 * page);
	assert_int_equal(tmc_alloc_unmap(p, 4 * page), 0);
	assert_minus_errno(tmc_alloc_unmap(p, 4 * page), EINVAL);
}

static void unmap_refuses_a_range_of_two_maps(void **state)
{
	char *want = free_place(4 * page);

	(void)state;
	assert_ptr_equal(tmc_alloc_map_at(NULL, want, 2 * page), want);
	assert_ptr_equal(tmc_alloc_map_at(NULL, want + 2 * page, 2 * page),
			 want + 2 * page);
	assert_minus_errno(tmc_alloc_unmap(want, 4 * page), EINVAL);
	memset(want, 1, 4 * page);
	assert_int_equal(tmc_alloc_unmap(want, 2 * page), 0);
	assert_int_equal(tmc_alloc_unmap(want + 2 * page, 2 * page), 0);
}

static void map_and_unmap_leave_nothing_behind(void **state)
{
	size_t maps = 0;
	int i;

	(void)state;
	for (i = 0; i < 2000; i++) {
		char *p = tmc_alloc_map(NULL, 3 * page);

		assert_non_null(p);
		assert_int_equal(tmc_alloc_unmap(p + page, page), 0);
		assert_int_equal(tmc_alloc_unmap(p, page), 0);
		assert_int_equal(tmc_alloc_unmap(p + 2 * page, page), 0);
		if (i == 999)
			maps = probe_maps();
	}
	assert_true(probe_maps() <= maps + (UNDER_SANITIZER ? 900 : 0));
}

/* More than there is room for at first; every second one goes, then all. */
static void a_thousand_maps_are_kept_apart(void **state)
{
	static char *p[1000];
	int i, k;

	(void)state;
	for (i = 0; i < 1000; i++) {
		p[i] = tmc_alloc_map(NULL, page);
		assert_non_null(p[i]);
		*p[i] = (char)i;
	}
	for (k = 1; k >= 0; k--)
		for (i = k; i < 1000; i += 2) {
			assert_int_equal(*p[i], (char)i);
			assert_int_equal(tmc_alloc_unmap(p[i], page), 0);
			assert_minus_errno(tmc_alloc_unmap(p[i], page), EINVAL);
		}
}

static void *map_and_unmap(void *arg)
{
	int i;

	for (i = 0; i < 300; i++) {
		char *p = tmc_alloc_map(NULL, 4 * page);
		char *q;

		if (!p || !probe_zero(p, 4 * page))
			return NULL;
		memset(p, 0xff, 4 * page);
		if (tmc_alloc_unmap(p + page, page))
			return NULL;
		q = tmc_alloc_remap(p + 2 * page, 2 * page, 3 * page,
				    MREMAP_MAYMOVE);
		if (q == MAP_FAILED || tmc_alloc_unmap(q, 3 * page) ||
		    tmc_alloc_unmap(p, page))
			return NULL;
	}
	return arg;
}

static void threads_map_and_unmap_at_once(void **state)
{
	pthread_t t[4];
	void *result;
	int i;

	(void)state;
	for (i = 0; i < 4; i++)
		assert_int_equal(
			pthread_create(&t[i], NULL, map_and_unmap, &page), 0);
	for (i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(t[i], &result), 0);
		assert_ptr_equal(result, &page);
	}
}

static void thp_is_only_a_hint(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;
	char *p = tmc_alloc_map(tmc_alloc_set_thp(&a), 4 * MIB);

	(void)state;
	assert_non_null(p);
	assert_int_equal(probe_present(p, 4 * MIB), 4 * MIB);
	assert_int_equal(tmc_alloc_unmap(p, 4 * MIB), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_are_zero_writable_and_present),
		cmocka_unit_test(lazy_pages_come_with_the_first_touch),
		cmocka_unit_test(
			private_memory_is_not_seen_by_a_child_and_shared_is),
		cmocka_unit_test(map_refuses_bad_attributes),
		cmocka_unit_test(map_refuses_sizes_that_no_memory_has),
		cmocka_unit_test(map_takes_memory_of_nodes_that_exist),
		cmocka_unit_test(map_refuses_nodes_that_do_not_exist),
		cmocka_unit_test(map_at_maps_exactly_there),
		cmocka_unit_test(map_at_leaves_alone_what_is_there),
		cmocka_unit_test(map_at_leaves_alone_maps_of_its_own),
		cmocka_unit_test(map_at_refuses_null_and_unaligned_starts),
		cmocka_unit_test(
			map_at_refuses_ranges_beyond_the_address_space),
		cmocka_unit_test(map_at_does_the_same_on_an_old_kernel),
		cmocka_unit_test(any_pages_of_a_map_can_be_given_back),
		cmocka_unit_test(unmap_refuses_what_is_not_its_own),
		cmocka_unit_test(unmap_refuses_a_range_of_two_maps),
		cmocka_unit_test(a_thousand_maps_are_kept_apart),
		cmocka_unit_test(map_and_unmap_leave_nothing_behind),
		cmocka_unit_test(threads_map_and_unmap_at_once),
		cmocka_unit_test(thp_is_only_a_hint),
	};

	page = (size_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
