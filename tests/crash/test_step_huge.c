/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_step_huge.c - a process dies at any instruction of a call; huge pages,
 * which have a companion and a pool that must be full again in the end.
 */
#include "step_calls.h"

#define MOST 120 /* instructions that a call is killed at, in short */

static int grow(struct spot *s)
{
	return !tmc_shmem_grow(s->shm, s->page);
}

static int grow_big(struct spot *s)
{
	return !tmc_shmem_grow(s->shm, 3 * s->page);
}

static int shrink(struct spot *s)
{
	return tmc_shmem_shrink(s->shm, (off_t)s->page, s->page);
}

static int map(struct spot *s)
{
	return !tmc_alloc_map(tmc_shmem_alloc(s->shm), s->page);
}

static int unmap(struct spot *s)
{
	return tmc_alloc_unmap((char *)tmc_shmem_address(s->shm) + s->page,
			       s->page);
}

static const struct step_case create_case = {
	.name = "create, huge",
	.huge = 1,
	.creates = 1,
	.prepare = nothing,
	.call = create,
};

static const struct step_case named_case = {
	.name = "create, huge, no O_TMPFILE",
	.huge = 1,
	.creates = 1,
	.named = 1,
	.prepare = nothing,
	.call = create,
};

static const struct step_case temp_case = {
	.name = "create_temp, huge",
	.huge = 1,
	.creates = 1,
	.temp = 1,
	.prepare = nothing,
	.call = create_temp,
};

static const struct step_case anonymous_case = {
	.name = "create_anonymous, huge",
	.huge = 1,
	.creates = 1,
	.anonymous = 1,
	.prepare = nothing,
	.call = create_anonymous,
};

static const struct step_case open_case = {
	.name = "open, huge",
	.huge = 1,
	.opens = 1,
	.pages = 2,
	.prepare = nothing,
	.call = open_it,
};

static const struct step_case repair_case = {
	.name = "open with repair, huge",
	.huge = 1,
	.opens = 1,
	.after_death = 1,
	.pages = 2,
	.prepare = nothing,
	.call = open_it,
};

static const struct step_case close_case = {
	.name = "close, huge",
	.huge = 1,
	.opens = 1,
	.pages = 2,
	.call = close_it,
};

static const struct step_case unlink_case = {
	.name = "unlink, huge",
	.huge = 1,
	.removes = 1,
	.pages = 2,
	.prepare = nothing,
	.call = unlink_it,
};

static const struct step_case idle_case = {
	.name = "unlink_idle, huge",
	.huge = 1,
	.removes = 1,
	.idle = 1,
	.pages = 2,
	.prepare = nothing,
	.call = unlink_idle,
};

static const struct step_case grow_case = {
	.name = "grow, huge",
	.huge = 1,
	.pages = 2,
	.change = 1,
	.call = grow,
};

static const struct step_case lazy_case = {
	.name = "grow, huge, lazy",
	.huge = 1,
	.lazy = 1,
	.pages = 2,
	.change = 1,
	.call = grow,
};

/* More than 4 MiB: prefaulted outside the lock. */
static const struct step_case big_case = {
	.name = "grow, huge, big",
	.huge = 1,
	.pages = 2,
	.change = 3,
	.call = grow_big,
};

static const struct step_case grow_repair_case = {
	.name = "grow with repair, huge",
	.huge = 1,
	.after_death = 1,
	.pages = 2,
	.change = 1,
	.call = grow,
};

static const struct step_case shrink_case = {
	.name = "shrink, huge",
	.huge = 1,
	.pages = 2,
	.change = -1,
	.call = shrink,
};

static const struct step_case map_case = {
	.name = "tmc_alloc_map, huge",
	.huge = 1,
	.pages = 2,
	.change = 1,
	.call = map,
};

static const struct step_case unmap_case = {
	.name = "tmc_alloc_unmap, huge",
	.huge = 1,
	.pages = 2,
	.change = -1,
	.call = unmap,
};

#define DIES(name, which, way) STEP_TEST(name, which, way, MOST)

DIES(a_death_in_create_leaves_one_empty_companion_at_most, create, STEP_ALONE)
DIES(a_death_in_create_does_not_stop_another_create, create, STEP_WAITED)
DIES(a_death_in_create_by_name_leaves_no_more, named, STEP_ALONE)
DIES(a_death_in_create_temp_leaves_one_empty_companion, temp, STEP_ALONE)
DIES(a_death_in_create_anonymous_leaves_nothing, anonymous, STEP_ALONE)
DIES(nobody_is_hurt_by_a_death_in_open_at_rest, open, STEP_ALONE)
DIES(a_death_in_open_lets_who_waits_at_the_gate_in, open, STEP_WAITED)
DIES(nobody_is_hurt_by_a_death_in_a_repair_at_rest, repair, STEP_ALONE)
DIES(nobody_is_hurt_by_a_death_in_close, close, STEP_BESIDE)
DIES(a_death_in_unlink_can_be_finished, unlink, STEP_ALONE)
DIES(users_go_on_after_a_death_in_unlink, unlink, STEP_BESIDE)
DIES(a_death_in_unlink_idle_leaves_one_name_at_most, idle, STEP_ALONE)
DIES(nobody_is_hurt_by_a_death_in_grow_at_rest, grow, STEP_ALONE)
DIES(a_death_in_grow_lets_who_waits_go_on, grow, STEP_WAITED)
DIES(nobody_is_hurt_by_a_death_in_a_lazy_grow_at_rest, lazy, STEP_ALONE)
DIES(a_death_in_a_lazy_grow_lets_who_waits_go_on, lazy, STEP_WAITED)
DIES(nobody_is_hurt_by_a_death_in_a_big_grow_at_rest, big, STEP_ALONE)
DIES(a_death_in_a_big_grow_lets_who_waits_go_on, big, STEP_WAITED)
DIES(a_death_in_a_repair_lets_who_waits_go_on, grow_repair, STEP_WAITED)
DIES(nobody_is_hurt_by_a_death_in_shrink_at_rest, shrink, STEP_ALONE)
DIES(a_death_in_shrink_lets_who_waits_go_on, shrink, STEP_WAITED)
DIES(nobody_is_hurt_by_a_death_in_map, map, STEP_WAITED)
DIES(nobody_is_hurt_by_a_death_in_unmap, unmap, STEP_WAITED)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_death_in_create_leaves_one_empty_companion_at_most),
		cmocka_unit_test(
			a_death_in_create_does_not_stop_another_create),
		cmocka_unit_test(a_death_in_create_by_name_leaves_no_more),
		cmocka_unit_test(
			a_death_in_create_temp_leaves_one_empty_companion),
		cmocka_unit_test(a_death_in_create_anonymous_leaves_nothing),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_open_at_rest),
		cmocka_unit_test(a_death_in_open_lets_who_waits_at_the_gate_in),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_a_repair_at_rest),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_close),
		cmocka_unit_test(a_death_in_unlink_can_be_finished),
		cmocka_unit_test(users_go_on_after_a_death_in_unlink),
		cmocka_unit_test(
			a_death_in_unlink_idle_leaves_one_name_at_most),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_grow_at_rest),
		cmocka_unit_test(a_death_in_grow_lets_who_waits_go_on),
		cmocka_unit_test(
			nobody_is_hurt_by_a_death_in_a_lazy_grow_at_rest),
		cmocka_unit_test(a_death_in_a_lazy_grow_lets_who_waits_go_on),
		cmocka_unit_test(
			nobody_is_hurt_by_a_death_in_a_big_grow_at_rest),
		cmocka_unit_test(a_death_in_a_big_grow_lets_who_waits_go_on),
		cmocka_unit_test(a_death_in_a_repair_lets_who_waits_go_on),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_shrink_at_rest),
		cmocka_unit_test(a_death_in_shrink_lets_who_waits_go_on),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_map),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_unmap),
	};

	(void)argc;
	step_bind_now(argv);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
