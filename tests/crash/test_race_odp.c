/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_race_odp.c - two of examples/odp_shm who want a further arena at once.
 *
 * One is stopped at a system call on the way, the other makes it, and then the
 * first goes on, or dies. There must be one such arena in the end, with both
 * blocks in it.
 */
#include "odp.h"

#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "peer.h"
#include "step.h"

#define LAZY ODP_TEST_LAZY

static odp_instance_t id;

static odp_shm_t reserve_lazy(const char *name)
{
	odp_shm_t shm = odp_shm_reserve(name, LAZY, 0, ODP_SHM_NO_HP);

	if (shm)
		strcpy(odp_shm_addr(shm), name);
	return shm;
}

static int second(struct peer *self, void *arg)
{
	uint64_t word;

	(void)arg;
	PEER_CHECK(!peer_put(self, 0) && !peer_get(self, &word));
	PEER_CHECK(reserve_lazy("second"));
	PEER_CHECK(!peer_put(self, 0));
	return 0;
}

/* A peer that is stopped in its reserve, before system call @nr. */
static void start_up_to(struct peer *p, long nr)
{
	uint64_t word;

	assert_int_equal(odp_begin(&id, 64, LAZY), 0);
	assert_int_equal(peer_fork(p, second, NULL), 0);
	assert_int_equal(peer_get(p, &word), 0);
	assert_int_equal(step_seize(p->pid), 0);
	assert_int_equal(peer_put(p, 0), 0);
	assert_int_equal(step_to_syscall(p->pid, nr), 0);
}

static void check_both(struct peer *p)
{
	uint64_t word;

	assert_true(reserve_lazy("first"));
	step_let_go(p->pid);
	assert_int_equal(peer_get(p, &word), 0);
	assert_int_equal(peer_end(p), 0);
	assert_string_equal(odp_shm_addr(odp_shm_lookup("first")), "first");
	assert_string_equal(odp_shm_addr(odp_shm_lookup("second")), "second");
	assert_int_equal(odp_files_of(id), 2);
	assert_int_equal(odp_shm_term_global(id), 0);
	assert_int_equal(odp_files("odp-"), 0);
}

/* Stopped before the call, or after it. */
static void stop_at(struct peer *p, long nr, bool past)
{
	const char *why = step_impossible_by_call();

	if (why) {
		print_message("%s\n", why);
		skip();
	}
	start_up_to(p, nr);
	if (past)
		assert_int_equal(step_past_syscall(p->pid), 0);
}

/* The second has seen that there is none, and is about to sweep. */
static void one_who_sweeps_late_leaves_what_has_been_made(void **state)
{
	struct peer p;

	(void)state;
	stop_at(&p, SYS_getdents64, false);
	check_both(&p);
}

/* It has made a file, not yet locked: the first takes it for a leftover. */
static void one_whose_file_is_swept_away_takes_the_others(void **state)
{
	struct peer p;

	(void)state;
	stop_at(&p, SYS_flock, false);
	assert_int_equal(odp_files_of(id), 2);
	check_both(&p);
}

/* It has it locked. */
static void one_who_comes_second_removes_his_own(void **state)
{
	struct peer p;

	(void)state;
	stop_at(&p, SYS_flock, true);
	check_both(&p);
}

static void what_one_leaves_who_dies_the_next_removes(void **state)
{
	struct peer p;

	(void)state;
	stop_at(&p, SYS_flock, true);
	peer_kill(&p);
	assert_int_equal(odp_files_of(id), 2);
	assert_true(reserve_lazy("first"));
	assert_int_equal(odp_files_of(id), 2);
	assert_string_equal(odp_shm_addr(odp_shm_lookup("first")), "first");
	assert_int_equal(odp_shm_term_global(id), 0);
	assert_int_equal(odp_files("odp-"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_who_sweeps_late_leaves_what_has_been_made),
		cmocka_unit_test(one_whose_file_is_swept_away_takes_the_others),
		cmocka_unit_test(one_who_comes_second_removes_his_own),
		cmocka_unit_test(what_one_leaves_who_dies_the_next_removes),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
