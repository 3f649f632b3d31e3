/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_step_strays.c - blocks of others that a process has freed, and keeps for
 * its own next mallocs, when it dies at any instruction of what moves them.
 *
 * The blocks are the parent's. After each death it trims the heap, which brings
 * home what the dead one kept, counts what is in use to the block, and then
 * has all of them again, each once. SOAK is for every instruction.
 */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmem.h>

#include "peer.h"
#include "step.h"
#include "step_kill.h"

#define MOST 60	  /* instructions that a call is killed at, in short */
#define DEATHS 50 /* until the arena is renewed */
#define LEN 1000
#define BLOCK 1024 /* what it takes */
#define BLOCKS 200 /* more than the strays that are kept */

struct stray_case {
	const char *name;
	int dead;	       /* somebody has died before, with such blocks */
	void (*prepare)(void); /* in the victim, before the steps */
	void (*call)(void);
	size_t in_hand; /* blocks that the call may die with */
};

static struct {
	tmc_shmem_t *shm;
	tmc_mspace heap;
	unsigned char *block[BLOCKS];
	size_t used; /* bytes, as it must be */
	/* Shared with the victim. */
	struct {
		size_t freed, taken; /* of block[]; by it */
	} * shared;
} w;

/* ----- the calls ----- */

static void free_one(void)
{
	tmc_mspace_free(w.block[w.shared->freed++]);
}

static void *take_one(void)
{
	w.shared->taken++;
	return tmc_mspace_malloc(w.heap, LEN);
}

static int is_block(const void *p)
{
	size_t i;

	for (i = 0; i < w.shared->freed; i++)
		if (p == w.block[i])
			return 1;
	return 0;
}

/* One of them; there may be none at hand, if each was of another span. */
static void take_one_of_them(void)
{
	int i;

	for (i = 0; i < 70 && !is_block(take_one()); i++)
		;
}

static void free_some(int n)
{
	while (n-- > 0)
		free_one();
}

/* As many are kept as the thread uses: more each time that it has used all of
 * them, and there was no room. */
static void keep_some(void)
{
	int i;

	if (!take_one())
		abort();
	for (i = 0; i < 4; i++) {
		free_some(8 << i > 20 ? 20 : 8 << i);
		take_one_of_them();
		while (is_block(take_one()))
			;
	}
	free_some(20);
}

static void keep_all_it_can(void)
{
	keep_some();
	while (w.shared->freed < BLOCKS - 2)
		free_one();
}

/* The next malloc takes one of them, too. */
static void keep_some_and_take_one(void)
{
	keep_some();
	take_one_of_them();
}

static void nothing(void)
{
}

static void call_malloc(void)
{
	(void)!tmc_mspace_malloc(w.heap, LEN);
}

/* Uses up what is left of them, and goes on with its own. */
static void call_malloc_often(void)
{
	int i;

	for (i = 0; i < 30; i++)
		call_malloc();
}

static void call_free(void)
{
	tmc_mspace_free(w.block[w.shared->freed]);
}

static void call_trim(void)
{
	tmc_mspace_trim(w.heap, 0);
}

static const struct stray_case cases[] = {
	{ "free, one more", 0, keep_some, call_free, 1 },
	{ "free, no room for it", 0, keep_all_it_can, call_free, 1 },
	{ "malloc, a stray", 0, keep_some_and_take_one, call_malloc, 1 },
	{ "malloc, all of them", 0, keep_some_and_take_one, call_malloc_often,
	  30 },
	{ "trim, brings them home", 0, keep_some, call_trim, 0 },
	{ "trim, the dead's", 1, nothing, call_trim, 0 },
};

/* ----- the parent ----- */

static size_t in_use(void)
{
	size_t used;

	tmc_mspace_statistics(w.heap, NULL, NULL, &used);
	return used;
}

static int by_address(const void *a, const void *b)
{
	uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;

	return (x > y) - (x < y);
}

/* Each once: they are all different when all have been written. In order, so that
 * the next one to be freed is of a span that is known, mostly. */
static void have_blocks(void)
{
	size_t i, k;

	for (i = 0; i < BLOCKS; i++) {
		w.block[i] = tmc_mspace_malloc(w.heap, LEN);
		assert_non_null(w.block[i]);
	}
	qsort(w.block, BLOCKS, sizeof(*w.block), by_address);
	for (i = 0; i < BLOCKS; i++)
		memset(w.block[i], (int)i, LEN);
	for (i = 0; i < BLOCKS; i++)
		for (k = 0; k < LEN; k++)
			assert_int_equal(w.block[i][k], i);
}

/* What the last victim has left. */
static void account(const struct stray_case *c)
{
	size_t i;

	for (i = w.shared->freed + (c->call == call_free); i < BLOCKS; i++)
		tmc_mspace_free(w.block[i]);
	assert_true(tmc_mspace_trim(w.heap, 0) >= 0);
	assert_int_equal(tmc_mspace_check(w.heap), 0);
	w.used += w.shared->taken * BLOCK;
	/* The call's block, which is not freed here, too. */
	assert_in_range(in_use(), w.used, w.used + c->in_hand * BLOCK);
	w.used = in_use();
	w.shared->freed = w.shared->taken = 0;
}

static int dies_with_some(struct peer *self, void *arg)
{
	(void)arg;
	PEER_CHECK(self);
	keep_some();
	return 0;
}

static pid_t victim(const void *arg)
{
	const struct stray_case *c = arg;

	if (w.block[0])
		account(c);
	have_blocks();
	if (c->dead)
		assert_int_equal(peer_run(dies_with_some, NULL), 0);
	return step_fork(c->prepare, c->call);
}

static int check_peer(struct peer *self, void *arg)
{
	unsigned char *p[200];
	size_t i, k;

	PEER_CHECK(self && !arg);
	PEER_CHECK(!tmc_mspace_check(w.heap));
	for (i = 0; i < 200; i++) {
		p[i] = tmc_mspace_malloc(w.heap, LEN);
		PEER_CHECK(p[i]);
		memset(p[i], (int)i, LEN);
	}
	for (i = w.shared->freed + 1; i < BLOCKS; i++)
		for (k = 0; k < LEN; k++)
			PEER_CHECK(w.block[i][k] == i);
	for (i = 0; i < 200; i++) {
		for (k = 0; k < LEN; k++)
			PEER_CHECK(p[i][k] == i);
		tmc_mspace_free(p[i]);
	}
	PEER_CHECK(tmc_mspace_trim(w.heap, 0) >= 0);
	return 0;
}

static void make_arena(void)
{
	w.shm = tmc_shmem_create(box_path("strays"), NULL, NULL, 4 * GIB);
	assert_non_null(w.shm);
	w.heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					   tmc_shmem_alloc(w.shm));
	assert_non_null(w.heap);
	memset(w.block, 0, sizeof(w.block));
	w.used = 0;
	w.shared->freed = w.shared->taken = 0;
}

static void drop_arena(void)
{
	tmc_shmem_close(w.shm);
	assert_int_equal(tmc_shmem_unlink(box_path("strays")), 0);
}

static void renew_arena(void)
{
	drop_arena();
	make_arena();
}

static void no_block_is_lost_or_there_twice(void **state)
{
	const char *why =
		UNDER_SANITIZER ? "too many instructions" : step_impossible();
	size_t i;

	(void)state;
	if (why) {
		print_message("%s\n", why);
		skip();
	}
	w.shared = mmap(NULL, sizeof(*w.shared), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(w.shared, MAP_FAILED);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct step_kill k = { .name = cases[i].name,
					     .victim = victim,
					     .arg = &cases[i],
					     .check = check_peer,
					     .renew = renew_arena,
					     .deaths = DEATHS,
					     .most = MOST };

		make_arena();
		assert_int_equal(step_kill(&k), 0);
		drop_arena();
	}
	munmap(w.shared, sizeof(*w.shared));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_block_is_lost_or_there_twice),
	};

	(void)argc;
	step_bind_now(argv);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
