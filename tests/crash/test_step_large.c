/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_step_large.c - a process dies at any instruction of a realloc of a large
 * block that is not its own. It is the others' block as before, or already as
 * long as it should be. After each death a fresh process frees it, takes one as
 * long as it was, and as many more as would meet it if its run was shorter.
 */
#include "test.h"

#include <string.h>
#include <unistd.h>

#include <shmem.h>

#include "heap.h"
#include "peer.h"
#include "step.h"
#include "step_kill.h"

#define MOST 40 /* instructions that a call is killed at, in short */
/* With its head it fills its slices to the end, so that who frees it holds it
 * for the next one, and asks no table how long it is. */
#define LEN (4 * HEAP_SLICE - (HEAP_COLOURS - 1) * HEAP_COLOUR - HEAP_RUN_LEN)
#define SHORT (100 * KIB)

static struct {
	tmc_shmem_t *shm;
	tmc_mspace heap;
	unsigned char *block;
} w;

static pid_t victim(const void *arg)
{
	const size_t *to = arg;
	void *behind;
	pid_t pid;

	w.block = tmc_mspace_malloc(w.heap, LEN);
	behind = tmc_mspace_malloc(w.heap, 2 * MIB);
	if (!w.block || !behind)
		return -1;
	memset(w.block, 1, LEN);
	/* What is told of the block is in there. */
	step_watch(heap_run_of(w.block), sizeof(struct heap_run));
	pid = fork();
	if (pid)
		return pid;
	step_me();
	tmc_mspace_free(tmc_mspace_malloc(w.heap, 100));
	tmc_mspace_free(behind); /* so that it becomes longer in place */
	STEP_EDGE();
	w.block = tmc_mspace_realloc(w.heap, w.block, *to);
	STEP_EDGE();
	_exit(0);
}

static int all_are(const unsigned char *p, unsigned char what, size_t n)
{
	while (n && p[n - 1] == what)
		n--;
	return !n;
}

static int take_the_same(struct peer *self, void *arg)
{
	unsigned char *p[4];
	size_t i;

	PEER_CHECK(self && !arg);
	PEER_CHECK(all_are(w.block, 1, SHORT));
	tmc_mspace_free(w.block);
	/* The first one is what this thread holds, the others are found after a
	 * look for what the dead had. */
	for (i = 0; i < 4; i++) {
		p[i] = tmc_mspace_malloc(w.heap, LEN);
		PEER_CHECK(p[i]);
		memset(p[i], (int)i, LEN);
		PEER_CHECK(i || tmc_mspace_trim(w.heap, 0) >= 0);
	}
	for (i = 0; i < 4; i++) {
		PEER_CHECK(all_are(p[i], (unsigned char)i, LEN));
		tmc_mspace_free(p[i]);
	}
	PEER_CHECK(!tmc_mspace_check(w.heap));
	PEER_CHECK(tmc_mspace_trim(w.heap, 0) >= 0);
	return 0;
}

static void die_in_realloc(const char *name, size_t to)
{
	const struct step_kill k = { .name = name,
				     .victim = victim,
				     .arg = &to,
				     .check = take_the_same,
				     .most = MOST };
	const char *why =
		UNDER_SANITIZER ? "too many instructions" : step_impossible();

	if (why) {
		print_message("%s\n", why);
		skip();
	}
	w.shm = tmc_shmem_create(box_path("step"), NULL, NULL, GIB);
	w.heap = tmc_mspace_create_special(8 * MIB, 0, tmc_shmem_alloc(w.shm));
	assert_non_null(w.heap);
	assert_int_equal(step_kill(&k), 0);
	tmc_shmem_close(w.shm);
	assert_int_equal(tmc_shmem_unlink(box_path("step")), 0);
}

static void a_death_in_a_shorter_realloc_leaves_a_block(void **state)
{
	(void)state;
	die_in_realloc("realloc, shorter", SHORT);
}

static void a_death_in_a_longer_realloc_leaves_a_block(void **state)
{
	(void)state;
	die_in_realloc("realloc, longer", 2 * LEN);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_death_in_a_shorter_realloc_leaves_a_block),
		cmocka_unit_test(a_death_in_a_longer_realloc_leaves_a_block),
	};

	(void)argc;
	step_bind_now(argv);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
