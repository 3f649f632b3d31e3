/* SPDX-License-Identifier: BSD-3-Clause */
/* test_find.c - tmc_shmem_find(). */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "peer.h"

#define MANY 150 /* more than two blocks of the table have */
#define ROUNDS 3000

static size_t page;

static tmc_shmem_t *create(const char *name)
{
	return tmc_shmem_create(box_path(name), NULL, NULL, 16 * page);
}

static void end(tmc_shmem_t *shm, const char *name)
{
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path(name)), 0);
}

static void an_address_leads_to_its_arena_and_offset(void **state)
{
	tmc_shmem_t *shm = create("a");
	size_t off = 77;
	char *base;
	int local;

	(void)state;
	assert_non_null(shm);
	base = tmc_shmem_address(shm);
	assert_ptr_equal(tmc_shmem_find(base, &off), shm);
	assert_int_equal(off, 0);
	/* The size is 0: it is the maximum that counts. */
	assert_ptr_equal(tmc_shmem_find(base + 16 * page - 1, &off), shm);
	assert_int_equal(off, 16 * page - 1);
	assert_ptr_equal(tmc_shmem_find(base + 5, NULL), shm);
	off = 77;
	assert_null_errno(tmc_shmem_find(base + 16 * page, &off), ENOENT);
	assert_null_errno(tmc_shmem_find(base - 1, &off), ENOENT);
	assert_null_errno(tmc_shmem_find(NULL, &off), ENOENT);
	assert_null_errno(tmc_shmem_find(&local, NULL), ENOENT);
	assert_null_errno(tmc_shmem_find((void *)UINTPTR_MAX, NULL), ENOENT);
	assert_int_equal(off, 77);
	end(shm, "a");
	assert_null_errno(tmc_shmem_find(base, &off), ENOENT);
}

static void what_fails_to_open_is_not_found(void **state)
{
	tmc_shmem_t *shm = create("a");
	char *base;

	(void)state;
	assert_non_null(shm);
	base = tmc_shmem_address(shm);
	assert_null_errno(tmc_shmem_create(box_path("b"), NULL, base, page),
			  EADDRINUSE);
	assert_null_errno(tmc_shmem_open(box_path("none")), ENOENT);
	assert_ptr_equal(tmc_shmem_find(base, NULL), shm);
	end(shm, "a");
	assert_null_errno(tmc_shmem_find(base, NULL), ENOENT);
}

static void a_handle_that_can_write_goes_first(void **state)
{
	tmc_shmem_t *shm = create("a"), *ro, *ro2, *rw;
	char *base;

	(void)state;
	assert_non_null(shm);
	base = tmc_shmem_address(shm);
	tmc_shmem_close(shm);
	ro = tmc_shmem_open_readonly(box_path("a"));
	assert_non_null(ro);
	assert_ptr_equal(tmc_shmem_find(base, NULL), ro);
	rw = tmc_shmem_open(box_path("a"));
	ro2 = tmc_shmem_open_readonly(box_path("a"));
	assert_non_null(rw);
	assert_non_null(ro2);
	assert_ptr_equal(tmc_shmem_find(base, NULL), rw);
	tmc_shmem_close(ro);
	assert_ptr_equal(tmc_shmem_find(base, NULL), rw);
	tmc_shmem_close(rw);
	assert_ptr_equal(tmc_shmem_find(base, NULL), ro2);
	end(ro2, "a");
}

static void many_arenas_are_told_apart(void **state)
{
	static tmc_shmem_t *shm[MANY];
	char name[16], *p;
	size_t off;
	int i, round;

	(void)state;
	for (round = 0; round < 2; round++) {
		for (i = 0; i < MANY; i++) {
			snprintf(name, sizeof(name), "many%d", i);
			shm[i] = create(name);
			assert_non_null(shm[i]);
		}
		for (i = 0; i < MANY; i++) {
			p = tmc_shmem_address(shm[i]);
			assert_ptr_equal(tmc_shmem_find(p + i, &off), shm[i]);
			assert_int_equal(off, i);
		}
		/* Half of them: their seats are taken by others next time. */
		for (i = 0; i < MANY; i += 2) {
			snprintf(name, sizeof(name), "many%d", i);
			p = tmc_shmem_address(shm[i]);
			end(shm[i], name);
			assert_null_errno(tmc_shmem_find(p, NULL), ENOENT);
		}
		for (i = 1; i < MANY; i += 2) {
			snprintf(name, sizeof(name), "many%d", i);
			p = tmc_shmem_address(shm[i]);
			assert_ptr_equal(tmc_shmem_find(p, NULL), shm[i]);
			end(shm[i], name);
		}
	}
}

static int find_in_child(struct peer *self, void *arg)
{
	char *base = tmc_shmem_address(arg);
	size_t off;

	(void)self;
	PEER_CHECK(tmc_shmem_find(base + 3, &off) == arg && off == 3);
	tmc_shmem_close(arg);
	PEER_CHECK(!tmc_shmem_find(base, NULL) && errno == ENOENT);
	return 0;
}

static void a_forked_child_finds_what_it_inherits(void **state)
{
	tmc_shmem_t *shm = create("a");

	(void)state;
	assert_non_null(shm);
	assert_int_equal(peer_run(find_in_child, shm), 0);
	assert_ptr_equal(tmc_shmem_find(tmc_shmem_address(shm), NULL), shm);
	end(shm, "a");
}

/* ----- beside opens and closes ----- */

static struct {
	_Atomic int stop, lost, wrong;
	_Atomic uint64_t looks;
	char *steady, *flicker;
} race;

static void *look_all_the_time(void *arg)
{
	size_t off;

	(void)arg;
	while (!race.stop) {
		if (!tmc_shmem_find(race.steady + 7, &off))
			race.lost++;
		else if (off != 7)
			race.wrong++;
		off = 9;
		if (tmc_shmem_find(race.flicker + 9, &off) && off != 9)
			race.wrong++;
		race.looks++;
	}
	return NULL;
}

/*
 * One arena is open all the time, but by handles that come and go, so that it
 * moves in the table; another one comes and goes.
 */
static void an_open_arena_is_found_whatever_others_do(void **state)
{
	tmc_shmem_t *one = create("steady"), *two, *other = create("flicker");
	pthread_t looker[2];
	int i;

	(void)state;
	assert_non_null(one);
	assert_non_null(other);
	race.steady = tmc_shmem_address(one);
	race.flicker = tmc_shmem_address(other);
	for (i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&looker[i], NULL,
						look_all_the_time, NULL),
				 0);
	for (i = 0; i < ROUNDS || race.looks < ROUNDS; i++) {
		two = tmc_shmem_open(box_path("steady"));
		assert_non_null(two);
		tmc_shmem_close(one);
		tmc_shmem_close(other);
		other = tmc_shmem_open(box_path("flicker"));
		assert_non_null(other);
		one = two;
	}
	race.stop = 1;
	for (i = 0; i < 2; i++)
		assert_int_equal(pthread_join(looker[i], NULL), 0);
	assert_int_equal(race.lost, 0);
	assert_int_equal(race.wrong, 0);
	end(one, "steady");
	end(other, "flicker");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_address_leads_to_its_arena_and_offset),
		cmocka_unit_test(what_fails_to_open_is_not_found),
		cmocka_unit_test(a_handle_that_can_write_goes_first),
		cmocka_unit_test(many_arenas_are_told_apart),
		cmocka_unit_test(a_forked_child_finds_what_it_inherits),
		cmocka_unit_test(an_open_arena_is_found_whatever_others_do),
	};

	page = (size_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
