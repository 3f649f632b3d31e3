/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_mspace_strays.c - others' blocks that a thread has freed and keeps. What
 * it knows of their spans, which may be gone, is never taken for what is there
 * now; and what it kept is not lost when it dies.
 */
#include "test.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include <shmem.h>

#include "heap.h"
#include "kernel.h"
#include "peer.h"

#define SIZE 48	     /* of blocks; a class */
#define MANY 200000u /* of them: more than the first chunk has room for */

static struct {
	tmc_shmem_t *shm;
	tmc_mspace heap;
	char *block[MANY];
} w;

static int make_heap(void **state)
{
	(void)state;
	w.shm = tmc_shmem_create(box_path("strays"), NULL, NULL, GIB);
	w.heap = tmc_mspace_create_special(MIB, TMC_MSPACE_LOCKED,
					   tmc_shmem_alloc(w.shm));
	return !w.heap;
}

static int drop_heap(void **state)
{
	(void)state;
	tmc_shmem_close(w.shm);
	return tmc_shmem_unlink(box_path("strays"));
}

/* The other one, who has blocks in spans at the arena's end; is told to give all
 * of them back, and the end with them. */
static int has_many(struct peer *self, void *arg)
{
	uint64_t word;
	uint32_t i;

	(void)arg;
	for (i = 0; i < MANY; i++) {
		w.block[i] = tmc_mspace_malloc(w.heap, SIZE);
		PEER_CHECK(w.block[i]);
	}
	PEER_CHECK(!peer_put(self, (uintptr_t)w.block[MANY - 2]));
	PEER_CHECK(!peer_put(self, (uintptr_t)w.block[MANY - 1]));
	PEER_CHECK(!peer_get(self, &word));
	for (i = 0; i < MANY - 2; i++)
		tmc_mspace_free(w.block[i]);
	PEER_CHECK(tmc_mspace_trim(w.heap, 0) == 1);
	PEER_CHECK(!peer_put(self, 0));
	PEER_CHECK(!peer_get(self, &word));
	return 0;
}

/* What a span there is called by who knows it. */
static char *know_a_span_that_goes(struct peer *other)
{
	size_t size;
	uint64_t word;
	char *p;

	assert_non_null(tmc_mspace_malloc(w.heap, SIZE));
	assert_int_equal(peer_fork(other, has_many, NULL), 0);
	assert_int_equal(peer_get(other, &word), 0);
	tmc_mspace_free((char *)(uintptr_t)word);
	assert_int_equal(peer_get(other, &word), 0);
	p = (char *)(uintptr_t)word;
	size = tmc_shmem_current_size(w.shm);
	tmc_mspace_free(p);
	assert_int_equal(peer_put(other, 0), 0);
	assert_int_equal(peer_get(other, &word), 0);
	assert_true(tmc_shmem_current_size(w.shm) < size);
	assert_true(p >= (char *)tmc_shmem_address(w.shm) +
				 tmc_shmem_current_size(w.shm));
	return p;
}

/* In a heap that comes where the span was. */
static void a_block_of_another_heap_goes_home(void **state)
{
	struct peer other;
	char *gone = know_a_span_that_goes(&other), *p, *q;
	tmc_mspace second;

	(void)state;
	second = tmc_mspace_create_special(32 * MIB, TMC_MSPACE_LOCKED,
					   tmc_shmem_alloc(w.shm));
	assert_non_null(second);
	do {
		p = tmc_mspace_malloc(second, SIZE);
		assert_non_null(p);
	} while (heap_run_of(p) != heap_run_of(gone));
	assert_int_equal(tmc_mspace_trim(w.heap, 0), 0); /* the one used last */
	tmc_mspace_free(p);
	q = tmc_mspace_malloc(w.heap, SIZE);
	assert_non_null(q);
	assert_ptr_not_equal(q, p);
	assert_int_equal(tmc_mspace_trim(w.heap, 0), 0);
	assert_int_equal(tmc_mspace_check(w.heap), 0);
	assert_int_equal(peer_put(&other, 0), 0);
	assert_int_equal(peer_end(&other), 0);
}

/* What is at the same place of a thread's table is another's, and what the
 * thread knew has no memory any more. */
static void a_block_of_another_arena_is_freed(void **state)
{
	const char *path = box_path("second");
	struct peer other;
	char *gone = know_a_span_that_goes(&other), *p = NULL;
	char *base = tmc_shmem_address(w.shm);
	tmc_shmem_t *shm = NULL;
	tmc_mspace second;
	uint64_t i;

	(void)state;
	for (i = 1; i < 1000 && !shm; i++)
		shm = tmc_shmem_create(path, NULL, base + (i << 32), GIB);
	assert_non_null(shm);
	second = tmc_mspace_create_special(32 * MIB, TMC_MSPACE_LOCKED,
					   tmc_shmem_alloc(shm));
	assert_non_null(second);
	while (!p || (uint32_t)(uintptr_t)p != (uint32_t)(uintptr_t)gone) {
		p = tmc_mspace_malloc(second, SIZE);
		assert_non_null(p);
	}
	assert_int_equal(tmc_mspace_trim(w.heap, 0), 0); /* the one used last */
	tmc_mspace_free(p);
	assert_int_equal(tmc_mspace_check(second), 0);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_int_equal(peer_put(&other, 0), 0);
	assert_int_equal(peer_end(&other), 0);
}

#define KEPT 20

static size_t used(void)
{
	size_t n;

	tmc_mspace_statistics(w.heap, NULL, NULL, &n);
	return n;
}

/* Has blocks of the parent's, and @arg: one of its own, too. */
static int keeps_some(struct peer *self, void *arg)
{
	uint64_t word;
	char *p = tmc_mspace_malloc(w.heap, SIZE);
	uint32_t i;

	PEER_CHECK(p);
	for (i = 0; i <= KEPT; i++) /* the first goes home */
		tmc_mspace_free(w.block[i]);
	if (!arg)
		tmc_mspace_free(p);
	PEER_CHECK(!peer_put(self, 0));
	PEER_CHECK(!peer_get(self, &word));
	return 0;
}

static struct peer keeper;
static bool killed;

static void kill_it(void)
{
	peer_kill(&keeper);
	killed = true;
}

/* Whoever has strays is asked for first. */
static void kill_it_next_time(void)
{
	kernel_before_look(kill_it);
}

static void strays_of_who_dies_in_a_sweep(void *own)
{
	size_t before;
	uint64_t word;
	uint32_t i;

	for (i = 0; i < 2 * KEPT; i++)
		w.block[i] = tmc_mspace_malloc(w.heap, SIZE);
	before = used();
	assert_int_equal(peer_fork(&keeper, keeps_some, own), 0);
	assert_int_equal(peer_get(&keeper, &word), 0);
	killed = false;
	kernel_before_look(kill_it_next_time);
	assert_true(tmc_mspace_trim(w.heap, 0) >= 0);
	assert_true(killed);
	assert_int_equal(tmc_mspace_check(w.heap), 0);
	assert_int_equal(used(), before - (KEPT + 1) * SIZE + (own ? SIZE : 0));
	/* And they are to be had. */
	for (i = 0; i <= KEPT; i++)
		assert_non_null(tmc_mspace_malloc(w.heap, SIZE));
	assert_int_equal(used(), before + (own ? SIZE : 0));
	for (i = KEPT + 1; i < 2 * KEPT; i++)
		tmc_mspace_free(w.block[i]);
}

static void strays_come_home_of_who_dies_in_a_sweep(void **state)
{
	strays_of_who_dies_in_a_sweep(NULL);
	strays_of_who_dies_in_a_sweep(state);
}

/* Where a block is counted as a stray, and not yet as one that is in use: others
 * move them while we count. */
static void no_less_than_nothing_is_in_use(void **state)
{
	char *p = tmc_mspace_malloc(w.heap, SIZE);

	(void)state;
	assert_non_null(p);
	assert_int_equal(used(), SIZE);
	heap_run_of(p)->stray -= 2;
	assert_int_equal(used(), 0);
	heap_run_of(p)->stray += 2;
	assert_int_equal(used(), SIZE);
}

#define THEIRS 600 /* blocks that fill most of a heap of 1 MiB */
#define ROUNDS 5
#define MINE 200

static int takes_most(struct peer *self, void *arg)
{
	uint64_t word;
	uint32_t i;

	(void)arg;
	for (i = 0; i < THEIRS; i++)
		PEER_CHECK(!peer_put(
			self, (uintptr_t)tmc_mspace_malloc(w.heap, 1000)));
	PEER_CHECK(!peer_get(self, &word));
	return 0;
}

/* Strays are freed and taken until as many are kept as can be. */
static void take_and_give(void)
{
	static char *mine[MINE];
	uint32_t i, k;

	for (k = 0; k < ROUNDS; k++) {
		for (i = 2 * k; i < THEIRS; i += 2 * ROUNDS)
			tmc_mspace_free(w.block[i]);
		for (i = 0; i < MINE; i++) {
			mine[i] = tmc_mspace_malloc(w.heap, 1000);
			assert_non_null(mine[i]);
		}
		for (i = 0; i < MINE; i++)
			tmc_mspace_free(mine[i]);
	}
}

/* What a thread keeps is not what another size lacks: a few blocks of each span
 * are enough to keep all of them. */
static void what_is_kept_is_there_for_all_sizes(void **state)
{
	struct peer other;
	uint64_t word;
	uint32_t i, k;

	(void)state;
	w.heap = tmc_mspace_create_special(
		MIB, TMC_MSPACE_LOCKED | TMC_MSPACE_NOGROW,
		tmc_shmem_alloc(w.shm));
	assert_non_null(w.heap);
	assert_non_null(tmc_mspace_malloc(w.heap, 1000));
	assert_int_equal(peer_fork(&other, takes_most, NULL), 0);
	for (i = 0; i < THEIRS; i++) {
		assert_int_equal(peer_get(&other, &word), 0);
		assert_true(word);
		w.block[i] = (char *)(uintptr_t)word;
	}
	take_and_give();
	for (k = 0; k < 10; k++)
		for (i = 2 * k + 1; i < THEIRS; i += 20)
			tmc_mspace_free(w.block[i]);
	assert_int_equal(peer_put(&other, 0), 0);
	assert_int_equal(peer_end(&other), 0);
	assert_non_null(tmc_mspace_malloc(w.heap, 600 * KIB));
	assert_non_null(tmc_mspace_malloc(w.heap, 100));
	assert_int_equal(tmc_mspace_check(w.heap), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_heap, drop_heap)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_block_of_another_heap_goes_home),
		TEST(a_block_of_another_arena_is_freed),
		TEST(strays_come_home_of_who_dies_in_a_sweep),
		TEST(no_less_than_nothing_is_in_use),
		TEST(what_is_kept_is_there_for_all_sizes),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
