/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_step_names.c - a process dies at any instruction of create, open,
 * close, unlink or fork, small pages.
 */
#include "step_calls.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 220 /* instructions that a call is killed at, in short */

static int open_readonly(struct spot *s)
{
	s->shm = tmc_shmem_open_readonly(s->path);
	return !s->shm;
}

static int open_fds(struct spot *s)
{
	s->shm = tmc_shmem_open_fds(*(int *)s->mem, -1);
	return !s->shm;
}

static int prepare_fd(struct spot *s)
{
	static int fd;

	fd = open(s->path, O_RDWR | O_CLOEXEC);
	s->mem = &fd;
	return fd < 0;
}

/*
 * The child joins the users of the arena before fork returns in it. It dies;
 * the parent goes on.
 */
static int fork_it(struct spot *s)
{
	size_t size = tmc_shmem_current_size(s->shm);
	pid_t pid = fork();
	int ok;

	if (pid == 0)
		return 0;
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		_exit(1);
	ok = tmc_shmem_grow(s->shm, s->page) &&
	     !tmc_shmem_shrink(s->shm, (off_t)size, s->page);
	_exit(!ok);
}

static const struct step_case create_case = {
	.name = "create",
	.creates = 1,
	.prepare = nothing,
	.call = create,
};

static const struct step_case named_case = {
	.name = "create, no O_TMPFILE",
	.creates = 1,
	.named = 1,
	.prepare = nothing,
	.call = create,
};

static const struct step_case temp_case = {
	.name = "create_temp",
	.creates = 1,
	.temp = 1,
	.prepare = nothing,
	.call = create_temp,
};

static const struct step_case named_temp_case = {
	.name = "create_temp, no O_TMPFILE",
	.creates = 1,
	.temp = 1,
	.named = 1,
	.prepare = nothing,
	.call = create_temp,
};

static const struct step_case anonymous_case = {
	.name = "create_anonymous",
	.creates = 1,
	.anonymous = 1,
	.prepare = nothing,
	.call = create_anonymous,
};

static const struct step_case open_case = {
	.name = "open",
	.opens = 1,
	.pages = 3,
	.prepare = nothing,
	.call = open_it,
};

/* What the last owner of the lock left when all died. */
static const struct step_case repair_case = {
	.name = "open with repair",
	.opens = 1,
	.after_death = 1,
	.pages = 3,
	.prepare = nothing,
	.call = open_it,
};

static const struct step_case second_case = {
	.name = "open, second handle",
	.pages = 3,
	.call = open_it,
};

static const struct step_case readonly_case = {
	.name = "open_readonly",
	.opens = 1,
	.pages = 3,
	.prepare = nothing,
	.call = open_readonly,
};

static const struct step_case fds_case = {
	.name = "open_fds",
	.opens = 1,
	.pages = 3,
	.prepare = prepare_fd,
	.call = open_fds,
};

static const struct step_case close_case = {
	.name = "close",
	.opens = 1,
	.pages = 3,
	.call = close_it,
};

static const struct step_case unlink_case = {
	.name = "unlink",
	.removes = 1,
	.pages = 3,
	.prepare = nothing,
	.call = unlink_it,
};

static const struct step_case idle_case = {
	.name = "unlink_idle",
	.removes = 1,
	.idle = 1,
	.pages = 3,
	.prepare = nothing,
	.call = unlink_idle,
};

static const struct step_case fork_case = {
	.name = "fork, in the child",
	.forks = 1,
	.pages = 3,
	.call = fork_it,
};

#define DIES(name, which, way) STEP_TEST(name, which, way, MOST)

DIES(a_death_in_create_leaves_an_arena_or_nothing, create, STEP_ALONE)
DIES(a_death_in_create_does_not_stop_another_create, create, STEP_WAITED)
DIES(a_death_in_create_by_name_leaves_one_name_at_most, named, STEP_ALONE)
DIES(a_death_in_create_by_name_does_not_stop_another, named, STEP_WAITED)
DIES(a_death_in_create_temp_leaves_an_arena_or_nothing, temp, STEP_ALONE)
DIES(a_death_in_create_temp_leaves_one_name_at_most, named_temp, STEP_ALONE)
DIES(a_death_in_create_anonymous_leaves_nothing, anonymous, STEP_ALONE)
DIES(nobody_is_hurt_by_a_death_in_open_at_rest, open, STEP_ALONE)
DIES(nobody_is_hurt_by_a_death_in_open, open, STEP_BESIDE)
DIES(a_death_in_open_lets_who_waits_at_the_gate_in, open, STEP_WAITED)
DIES(nobody_is_hurt_by_a_death_in_a_repair_at_rest, repair, STEP_ALONE)
DIES(a_death_in_a_repair_lets_who_waits_at_the_gate_in, repair, STEP_WAITED)
DIES(nobody_is_hurt_by_a_death_in_a_second_open, second, STEP_BESIDE)
DIES(nobody_is_hurt_by_a_death_in_open_readonly, readonly, STEP_BESIDE)
DIES(a_death_in_open_readonly_lets_others_in, readonly, STEP_WAITED)
DIES(nobody_is_hurt_by_a_death_in_open_fds, fds, STEP_BESIDE)
DIES(a_death_in_open_fds_lets_others_in, fds, STEP_WAITED)
DIES(nobody_is_hurt_by_a_death_in_close_at_rest, close, STEP_ALONE)
DIES(nobody_is_hurt_by_a_death_in_close, close, STEP_BESIDE)
DIES(a_death_in_close_lets_others_in, close, STEP_WAITED)
DIES(a_death_in_unlink_can_be_finished, unlink, STEP_ALONE)
DIES(users_go_on_after_a_death_in_unlink, unlink, STEP_BESIDE)
DIES(a_death_in_unlink_idle_leaves_one_name_at_most, idle, STEP_ALONE)
DIES(a_death_in_a_forked_child_hurts_nobody, fork, STEP_BESIDE)
DIES(a_death_in_a_forked_child_lets_others_go_on, fork, STEP_WAITED)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_death_in_create_leaves_an_arena_or_nothing),
		cmocka_unit_test(
			a_death_in_create_does_not_stop_another_create),
		cmocka_unit_test(
			a_death_in_create_by_name_leaves_one_name_at_most),
		cmocka_unit_test(
			a_death_in_create_by_name_does_not_stop_another),
		cmocka_unit_test(
			a_death_in_create_temp_leaves_an_arena_or_nothing),
		cmocka_unit_test(
			a_death_in_create_temp_leaves_one_name_at_most),
		cmocka_unit_test(a_death_in_create_anonymous_leaves_nothing),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_open_at_rest),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_open),
		cmocka_unit_test(a_death_in_open_lets_who_waits_at_the_gate_in),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_a_repair_at_rest),
		cmocka_unit_test(
			a_death_in_a_repair_lets_who_waits_at_the_gate_in),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_a_second_open),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_open_readonly),
		cmocka_unit_test(a_death_in_open_readonly_lets_others_in),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_open_fds),
		cmocka_unit_test(a_death_in_open_fds_lets_others_in),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_close_at_rest),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_close),
		cmocka_unit_test(a_death_in_close_lets_others_in),
		cmocka_unit_test(a_death_in_unlink_can_be_finished),
		cmocka_unit_test(users_go_on_after_a_death_in_unlink),
		cmocka_unit_test(
			a_death_in_unlink_idle_leaves_one_name_at_most),
		cmocka_unit_test(a_death_in_a_forked_child_hurts_nobody),
		cmocka_unit_test(a_death_in_a_forked_child_lets_others_go_on),
	};

	(void)argc;
	step_bind_now(argv);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
