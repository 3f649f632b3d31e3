/* SPDX-License-Identifier: BSD-3-Clause */
/* test_address.c - where arenas are mapped. */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "kernel.h"
#include "os.h"
#include "peer.h"
#include "probe.h"

#define LEN (16 * MIB)

static size_t page;
static const char *path;

/* Room for @len bytes that the library would choose: free in sanitizers too */
static char *free_place(size_t len)
{
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, len);
	char *at;

	assert_non_null(shm);
	at = tmc_shmem_address(shm);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_true(probe_free(at, len));
	return at;
}

static void an_explicit_address_is_taken_exactly(void **state)
{
	char *at = free_place(GIB) + 5 * page;
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, at, LEN);

	(void)state;
	assert_non_null(shm);
	assert_ptr_equal(tmc_shmem_address(shm), at);
	assert_ptr_equal(tmc_shmem_grow(shm, page), at);
	tmc_shmem_close(shm);
	assert_true(probe_free(at, LEN));
	shm = tmc_shmem_open(path);
	assert_ptr_equal(tmc_shmem_address(shm), at);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* Where in the arena's range something else is. */
static const size_t places[] = { 0, LEN / 2, LEN - 4096 };

static void create_over_something_is_eaddrinuse(void **state)
{
	char *at = free_place(LEN);
	size_t i, fds = probe_fds();

	(void)state;
	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		char *mine = at + places[i] / page * page;

		assert_ptr_equal(probe_occupy(mine, page), mine);
		assert_null_errno(tmc_shmem_create(path, NULL, at, LEN),
				  EADDRINUSE);
		assert_true(probe_untouched(mine, page));
		assert_true(probe_free(at, LEN));
		assert_int_equal(access(path, F_OK), -1);
	}
	assert_int_equal(probe_fds(), fds);
}

static void neighbours_of_an_arena_do_not_matter(void **state)
{
	char *at = free_place(LEN + 2 * page);
	tmc_shmem_t *shm;

	(void)state;
	assert_non_null(probe_occupy(at, page));
	assert_non_null(probe_occupy(at + page + LEN, page));
	shm = tmc_shmem_create(path, NULL, at + page, LEN);
	assert_non_null(shm);
	assert_ptr_equal(tmc_shmem_grow(shm, LEN), at + page);
	memset(at + page, 1, LEN);
	tmc_shmem_close(shm);
	assert_true(probe_untouched(at, page));
	assert_true(probe_untouched(at + page + LEN, page));
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static int open_over_something(struct peer *self, void *arg)
{
	char *at = arg;
	tmc_shmem_t *shm;
	size_t i;

	(void)self;
	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		char *mine = at + places[i] / page * page;

		PEER_CHECK(probe_occupy(mine, page) == mine);
		PEER_CHECK(!tmc_shmem_open(path) && errno == EADDRINUSE);
		PEER_CHECK(!tmc_shmem_open_readonly(path));
		PEER_CHECK(errno == EADDRINUSE);
		PEER_CHECK(probe_untouched(mine, page));
		PEER_CHECK(probe_free(at, LEN));
	}
	shm = tmc_shmem_open(path);
	PEER_CHECK(shm);
	PEER_CHECK(tmc_shmem_grow(shm, page) == at);
	return 0;
}

static int open_over_without_noreplace(struct peer *self, void *arg)
{
	if (kernel_without_noreplace())
		return 77;
	return open_over_something(self, arg);
}

static void open_over_something_is_eaddrinuse(void **state)
{
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, LEN);
	char *at = tmc_shmem_address(shm);
	int rc;

	(void)state;
	assert_non_null(shm);
	tmc_shmem_close(shm);
	assert_int_equal(peer_run(open_over_something, at), 0);
	shm = tmc_shmem_open(path);
	assert_int_equal(tmc_shmem_shrink(shm, 0, page), 0);
	tmc_shmem_close(shm);
	rc = peer_run(open_over_without_noreplace, at);
	assert_true(rc == 0 || rc == 77);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void addresses_that_no_arena_can_have_are_refused(void **state)
{
	char *at = free_place(LEN);
	const uintptr_t top = SIZE_MAX - page + 1;

	(void)state;
	assert_null_errno(tmc_shmem_create(path, NULL, at + 1, LEN), EINVAL);
	assert_null_errno(tmc_shmem_create(path, NULL, at + page / 2, LEN),
			  EINVAL);
	assert_null(tmc_shmem_create(path, NULL, (void *)top, page));
	assert_true(errno == ENOMEM || errno == EINVAL);
	assert_null(tmc_shmem_create(path, NULL, (void *)top, GIB));
	assert_true(errno == ENOMEM || errno == EINVAL);
	assert_null(tmc_shmem_create(path, NULL, (void *)(1UL << 63), GIB));
	assert_true(errno == ENOMEM || errno == EINVAL);
	assert_int_equal(access(path, F_OK), -1);
}

static void sizes_that_no_arena_can_have_are_enomem(void **state)
{
	const size_t sizes[] = {
		SIZE_MAX,  SIZE_MAX - page, SIZE_MAX - page + 1,
		1UL << 63, 1UL << 62,	    1UL << 57
	};
	char *at = free_place(LEN);
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_null_errno(tmc_shmem_create(path, NULL, NULL, sizes[i]),
				  ENOMEM);
		assert_null_errno(tmc_shmem_create(path, NULL, at, sizes[i]),
				  ENOMEM);
	}
	assert_int_equal(access(path, F_OK), -1);
}

static void fresh_programs_all_open_the_same_automatic_arena(void **state)
{
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 0);
	char at[32];
	const char *const args[] = {
		"open", path, "at", at, "grow", "1", NULL
	};
	int i;

	(void)state;
	snprintf(at, sizeof(at), "%zx", (size_t)tmc_shmem_address(shm));
	for (i = 0; i < 200; i++)
		assert_int_equal(peer_run_agent("visitor", args), 0);
	assert_int_equal(tmc_shmem_current_size(shm), 200 * page);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void automatic_addresses_suit_transparent_huge_pages(void **state)
{
	const size_t sizes[] = { 4096, MIB, 3 * MIB, GIB, 5 * GIB };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		assert_int_equal((uintptr_t)free_place(sizes[i]) % (2 * MIB),
				 0);
}

static void many_automatic_arenas_live_side_by_side(void **state)
{
	tmc_shmem_t *shm[50];
	size_t i, k;

	(void)state;
	for (i = 0; i < 50; i++) {
		shm[i] = tmc_shmem_create(path, NULL, NULL, GIB);
		assert_non_null(shm[i]);
		assert_int_equal(tmc_shmem_unlink(path), 0);
		assert_non_null(tmc_shmem_grow(shm[i], page));
		memset(tmc_shmem_address(shm[i]), (int)i + 1, page);
	}
	for (i = 0; i < 50; i++) {
		unsigned char *p = tmc_shmem_address(shm[i]);

		for (k = 0; k < page; k++)
			assert_int_equal(p[k], i + 1);
		tmc_shmem_close(shm[i]);
	}
}

/* In a zone of 64 GiB: the arenas are in it and do not meet. */
static int create_in_zone(struct peer *self, void *arg)
{
	const uintptr_t start = (uintptr_t)arg, end = start + 64 * GIB;
	char zone[64];
	int i;

	(void)self;
	snprintf(zone, sizeof(zone), "%lx-%lx", start, end);
	setenv("TMC_SHMEM_ZONE", zone, 1);
	for (i = 0; i < 8; i++) {
		tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, GIB);
		uintptr_t at = (uintptr_t)tmc_shmem_address(shm);

		PEER_CHECK(shm);
		PEER_CHECK(at >= start && at + GIB <= end);
		PEER_CHECK(tmc_shmem_unlink(path) == 0);
		PEER_CHECK(tmc_shmem_grow(shm, page));
	}
	return 0;
}

static void the_environment_moves_the_zone(void **state)
{
	/* Away from where the library would look, in any sanitizer too. */
	char *elsewhere = free_place(128 * GIB);

	(void)state;
	assert_int_equal(peer_run(create_in_zone, elsewhere), 0);
}

/* All but the last GiB of a zone of 2 GiB is taken. */
static int create_in_the_rest(struct peer *self, void *arg)
{
	char *start = arg, zone[64];
	tmc_shmem_t *one, *two;
	uintptr_t from;

	(void)self;
	snprintf(zone, sizeof(zone), "%lx-%lx", (uintptr_t)start,
		 (uintptr_t)start + 2 * GIB);
	setenv("TMC_SHMEM_ZONE", zone, 1);
	PEER_CHECK(mmap(start, GIB, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			0) == start);
	one = tmc_shmem_create(path, NULL, NULL, 64 * MIB);
	PEER_CHECK(one);
	PEER_CHECK(tmc_shmem_unlink(path) == 0);
	two = tmc_shmem_create(path, NULL, NULL, 64 * MIB);
	PEER_CHECK(two);
	PEER_CHECK(tmc_shmem_unlink(path) == 0);
	from = (uintptr_t)start + GIB;
	PEER_CHECK((uintptr_t)tmc_shmem_address(one) >= from);
	PEER_CHECK((uintptr_t)tmc_shmem_address(two) >= from);
	PEER_CHECK(tmc_shmem_address(one) != tmc_shmem_address(two));
	/* No place in the zone: the caller's range, and nothing else. */
	PEER_CHECK(!tmc_shmem_create(path, NULL, NULL, 2 * GIB));
	PEER_CHECK(errno == ENOMEM);
	PEER_CHECK(!tmc_shmem_create(path, NULL, NULL, 4 * GIB));
	PEER_CHECK(errno == ENOMEM);
	PEER_CHECK(access(path, F_OK) == -1);
	return 0;
}

static void a_taken_place_leads_to_another(void **state)
{
	(void)state;
	assert_int_equal(peer_run(create_in_the_rest, free_place(2 * GIB)), 0);
}

static int create_with_bad_zone(struct peer *self, void *arg)
{
	static const char *const bad[] = {
		"",
		"-",
		"zzz",
		"garbage",
		"10",
		"1000-",
		"2000-1000",
		"0-0",
		"-1000",
		"1-ffffffffffffffff",
		"ffffffffffffffff-1",
		"400000000000-480000000000 ",
	};
	const uintptr_t top = shmi_os_address_top();
	size_t i;

	(void)self;
	(void)arg;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		tmc_shmem_t *shm;
		uintptr_t at;

		setenv("TMC_SHMEM_ZONE", bad[i], 1);
		shm = tmc_shmem_create(path, NULL, NULL, MIB);
		PEER_CHECK(shm);
		/* The main part, or under a sanitizer the high one. */
		at = (uintptr_t)tmc_shmem_address(shm);
		PEER_CHECK(at >= top / 2 && at < top / 3 * 2);
		PEER_CHECK(tmc_shmem_unlink(path) == 0);
		tmc_shmem_close(shm);
	}
	return 0;
}

static void nonsense_in_the_environment_does_no_harm(void **state)
{
	(void)state;
	assert_int_equal(peer_run(create_with_bad_zone, NULL), 0);
}

static int open_box(void **state)
{
	int err = test_box_open(state);

	path = strdup(box_path("address"));
	page = (size_t)sysconf(_SC_PAGESIZE);
	return err;
}

static int close_box(void **state)
{
	free((char *)path);
	return test_box_close(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_explicit_address_is_taken_exactly),
		cmocka_unit_test(create_over_something_is_eaddrinuse),
		cmocka_unit_test(neighbours_of_an_arena_do_not_matter),
		cmocka_unit_test(open_over_something_is_eaddrinuse),
		cmocka_unit_test(addresses_that_no_arena_can_have_are_refused),
		cmocka_unit_test(sizes_that_no_arena_can_have_are_enomem),
		cmocka_unit_test(
			fresh_programs_all_open_the_same_automatic_arena),
		cmocka_unit_test(
			automatic_addresses_suit_transparent_huge_pages),
		cmocka_unit_test(many_automatic_arenas_live_side_by_side),
		cmocka_unit_test(the_environment_moves_the_zone),
		cmocka_unit_test(a_taken_place_leads_to_another),
		cmocka_unit_test(nonsense_in_the_environment_does_no_harm),
	};

	return cmocka_run_group_tests(tests, open_box, close_box);
}
