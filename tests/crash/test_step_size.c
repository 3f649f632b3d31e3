/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_step_size.c - a process dies at any instruction of a call that changes
 * the arena's size, small pages.
 */
#include "step_test.h"

#define MOST 250 /* instructions that a call is killed at, in short */

static int grow(struct spot *s)
{
	return !tmc_shmem_grow(s->shm, 2 * s->page);
}

static const struct step_case grow_case = {
	.name = "grow",
	.pages = 3,
	.change = 2,
	.call = grow,
};

static const struct step_case lazy_case = {
	.name = "grow, lazy",
	.lazy = 1,
	.pages = 3,
	.change = 2,
	.call = grow,
};

/* The first grow of all. */
static const struct step_case first_case = {
	.name = "grow from 0",
	.change = 2,
	.call = grow,
};

/* Takes the lock over from a dead owner, repairs, and grows. */
static const struct step_case repair_case = {
	.name = "grow with repair",
	.after_death = 1,
	.pages = 3,
	.change = 2,
	.call = grow,
};

static int grow_big(struct spot *s)
{
	return !tmc_shmem_grow(s->shm, 1026 * s->page);
}

/* More than 4 MiB: prefaulted outside the lock. */
static const struct step_case big_case = {
	.name = "grow, big",
	.pages = 3,
	.change = 1026,
	.call = grow_big,
};

static int shrink(struct spot *s)
{
	return tmc_shmem_shrink(s->shm, (off_t)s->page, 2 * s->page);
}

static const struct step_case shrink_case = {
	.name = "shrink",
	.pages = 3,
	.change = -2,
	.call = shrink,
};

static const struct step_case shrink_repair_case = {
	.name = "shrink with repair",
	.after_death = 1,
	.pages = 3,
	.change = -2,
	.call = shrink,
};

static int map(struct spot *s)
{
	return !tmc_alloc_map(tmc_shmem_alloc(s->shm), 2 * s->page);
}

static const struct step_case map_case = {
	.name = "tmc_alloc_map",
	.pages = 3,
	.change = 2,
	.call = map,
};

static int unmap(struct spot *s)
{
	return tmc_alloc_unmap((char *)tmc_shmem_address(s->shm) + s->page,
			       2 * s->page);
}

static const struct step_case unmap_case = {
	.name = "tmc_alloc_unmap",
	.pages = 3,
	.change = -2,
	.call = unmap,
};

static int remap(struct spot *s)
{
	return tmc_alloc_remap(tmc_shmem_address(s->shm), 3 * s->page,
			       5 * s->page, 0) == (void *)-1;
}

static const struct step_case remap_case = {
	.name = "tmc_alloc_remap",
	.pages = 3,
	.change = 2,
	.call = remap,
};

#define DIES(name, which, way) STEP_TEST(name, which, way, MOST)

DIES(nobody_is_hurt_by_a_death_in_grow_at_rest, grow, STEP_ALONE)
DIES(nobody_is_hurt_by_a_death_in_grow, grow, STEP_BESIDE)
DIES(a_death_in_grow_lets_who_waits_go_on, grow, STEP_WAITED)
DIES(a_copy_made_in_the_middle_of_grow_opens, grow, STEP_COPIED)
DIES(nobody_is_hurt_by_a_death_in_a_lazy_grow_at_rest, lazy, STEP_ALONE)
DIES(nobody_is_hurt_by_a_death_in_a_lazy_grow, lazy, STEP_BESIDE)
DIES(a_death_in_a_lazy_grow_lets_who_waits_go_on, lazy, STEP_WAITED)
DIES(a_copy_made_in_the_middle_of_a_lazy_grow_opens, lazy, STEP_COPIED)
DIES(nobody_is_hurt_by_a_death_in_the_first_grow, first, STEP_BESIDE)
DIES(nobody_is_hurt_by_a_death_in_a_repair, repair, STEP_BESIDE)
DIES(a_death_in_a_repair_lets_who_waits_go_on, repair, STEP_WAITED)
DIES(nobody_is_hurt_by_a_death_in_a_big_grow_at_rest, big, STEP_ALONE)
DIES(nobody_is_hurt_by_a_death_in_a_big_grow, big, STEP_BESIDE)
DIES(a_death_in_a_big_grow_lets_who_waits_go_on, big, STEP_WAITED)
DIES(a_copy_made_in_the_middle_of_a_big_grow_opens, big, STEP_COPIED)
DIES(nobody_is_hurt_by_a_death_in_shrink_at_rest, shrink, STEP_ALONE)
DIES(nobody_is_hurt_by_a_death_in_shrink, shrink, STEP_BESIDE)
DIES(a_death_in_shrink_lets_who_waits_go_on, shrink, STEP_WAITED)
DIES(a_copy_made_in_the_middle_of_shrink_opens, shrink, STEP_COPIED)
DIES(a_death_in_a_repair_by_shrink_hurts_nobody, shrink_repair, STEP_WAITED)
DIES(nobody_is_hurt_by_a_death_in_map, map, STEP_WAITED)
DIES(nobody_is_hurt_by_a_death_in_unmap, unmap, STEP_WAITED)
DIES(nobody_is_hurt_by_a_death_in_remap, remap, STEP_WAITED)
DIES(a_death_in_the_release_after_grow_wakes_who_waits, grow, STEP_LEAVING)
DIES(a_death_in_the_release_after_a_big_grow_wakes_who_waits, big, STEP_LEAVING)
DIES(a_death_in_the_release_after_shrink_wakes_who_waits, shrink, STEP_LEAVING)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_grow_at_rest),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_grow),
		cmocka_unit_test(a_death_in_grow_lets_who_waits_go_on),
		cmocka_unit_test(a_copy_made_in_the_middle_of_grow_opens),
		cmocka_unit_test(
			nobody_is_hurt_by_a_death_in_a_lazy_grow_at_rest),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_a_lazy_grow),
		cmocka_unit_test(a_death_in_a_lazy_grow_lets_who_waits_go_on),
		cmocka_unit_test(
			a_copy_made_in_the_middle_of_a_lazy_grow_opens),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_the_first_grow),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_a_repair),
		cmocka_unit_test(a_death_in_a_repair_lets_who_waits_go_on),
		cmocka_unit_test(
			nobody_is_hurt_by_a_death_in_a_big_grow_at_rest),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_a_big_grow),
		cmocka_unit_test(a_death_in_a_big_grow_lets_who_waits_go_on),
		cmocka_unit_test(a_copy_made_in_the_middle_of_a_big_grow_opens),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_shrink_at_rest),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_shrink),
		cmocka_unit_test(a_death_in_shrink_lets_who_waits_go_on),
		cmocka_unit_test(a_copy_made_in_the_middle_of_shrink_opens),
		cmocka_unit_test(a_death_in_a_repair_by_shrink_hurts_nobody),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_map),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_unmap),
		cmocka_unit_test(nobody_is_hurt_by_a_death_in_remap),
		cmocka_unit_test(
			a_death_in_the_release_after_grow_wakes_who_waits),
		cmocka_unit_test(
			a_death_in_the_release_after_a_big_grow_wakes_who_waits),
		cmocka_unit_test(
			a_death_in_the_release_after_shrink_wakes_who_waits),
	};

	(void)argc;
	step_bind_now(argv);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
