/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_step_heap.c - a process dies at any instruction of a call of the heap.
 *
 * DEATHS victims die in one and the same arena, one after the other. After each
 * a fresh process walks the heap, finds the blocks of the living as they were,
 * and takes, fills and gives back blocks of all sizes. What the dead had in
 * their hands at the end is printed. SOAK is for every instruction, CASE=name
 * for one of the calls.
 */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <shmem.h>

#include "peer.h"
#include "probe.h"
#include "step.h"
#include "step_kill.h"

#define MOST 120 /* instructions that a call is killed at, in short */
#define DEATHS 250
#define LIVE 64
#define GAP (3 * MIB) /* is not kept when it is freed */
#define LIVE_LEN(i) ((size_t)(i)*37 % 900 + 8)

/* In memory that all the victims and checkers inherit. */
static struct {
	tmc_shmem_t *shm;
	tmc_mspace heap;
	unsigned char *live[LIVE];
	void *mine[LIVE]; /* the victim's */
	unsigned char *others;
} w;

struct heap_case {
	const char *name;
	void (*prepare)(void); /* in the victim, before the steps */
	void (*call)(void);
};

/* ----- the calls ----- */

static void take_mine(void)
{
	int i;

	for (i = 0; i < LIVE; i++)
		w.mine[i] = tmc_mspace_malloc(w.heap, 100);
}

static void give_mine(void)
{
	int i;

	for (i = 0; i < LIVE; i++)
		tmc_mspace_free(w.mine[i]);
}

static void warm(void)
{
	take_mine();
	give_mine();
}

static void nothing(void)
{
}

static void call_malloc(void)
{
	w.mine[0] = tmc_mspace_malloc(w.heap, 100);
}

static void take_large(void)
{
	w.mine[0] = tmc_mspace_malloc(w.heap, 100 * KIB);
}

static void call_free(void)
{
	tmc_mspace_free(w.mine[0]);
}

static void take_rare(void)
{
	w.mine[0] = tmc_mspace_malloc(w.heap, 20000);
}

/* The only block of a span that is not the current one. */
static void take_last(void)
{
	void *p[8];
	int i;

	for (i = 0; i < 8; i++)
		p[i] = tmc_mspace_malloc(w.heap, 30000);
	for (i = 1; i < 8; i++)
		tmc_mspace_free(p[i]);
	w.mine[0] = p[0];
}

static void free_others(void)
{
	tmc_mspace_free(w.others);
}

static void call_realloc(void)
{
	w.mine[0] = tmc_mspace_realloc(w.heap, w.mine[0], 5000);
}

static void take_larger(void)
{
	w.mine[0] = tmc_mspace_malloc(w.heap, MIB);
}

static void call_shorten(void)
{
	w.mine[0] = tmc_mspace_realloc(w.heap, w.mine[0], 100 * KIB);
}

static void call_enlarge(void)
{
	w.mine[0] = tmc_mspace_realloc(w.heap, w.mine[0], MIB + 200 * KIB);
}

static void call_memalign(void)
{
	w.mine[0] = tmc_mspace_memalign(w.heap, 256, 300);
}

static void call_grow(void)
{
	w.mine[0] = tmc_mspace_malloc(w.heap, 3 * GAP);
}

static void grow_and_free(void)
{
	warm();
	tmc_mspace_free(tmc_mspace_malloc(w.heap, 3 * GAP));
}

static void call_trim(void)
{
	tmc_mspace_trim(w.heap, 0);
}

static const struct heap_case cases[] = {
	{ "trim", warm, call_trim },
	{ "trim, a chunk less", grow_and_free, call_trim },
	{ "malloc", warm, call_malloc },
	{ "malloc, first", nothing, call_malloc },
	{ "malloc, large", warm, take_large },
	{ "malloc, large, first", nothing, take_large },
	{ "malloc, a new chunk", warm, call_grow },
	{ "malloc, new span", warm, take_rare },
	{ "memalign", warm, call_memalign },
	{ "realloc", take_mine, call_realloc },
	{ "realloc, shorter", take_larger, call_shorten },
	{ "realloc, longer", take_larger, call_enlarge },
	{ "free", take_mine, call_free },
	{ "free, large", take_large, call_free },
	{ "free, last of a span", take_last, call_free },
	{ "free, of another's", warm, free_others },
};

/* ----- victims and checkers ----- */

static pid_t victim(const void *arg)
{
	const struct heap_case *c = arg;
	pid_t pid;

	w.others = tmc_mspace_malloc(w.heap, 100);
	pid = w.others ? fork() : -1;
	if (pid)
		return pid;
	step_me();
	c->prepare();
	STEP_EDGE();
	c->call();
	STEP_EDGE();
	_exit(0);
}

/*
 * The arena's root is a large block. Behind it lie free slices, whose pages trim
 * has given back. The dead may have written heads there. So free slices that
 * calloc takes for zero begin before them when that block is freed.
 */
static int calloc_is_zero(void)
{
	void *p;
	int zero;

	tmc_mspace_free(tmc_shmem_get_data(w.shm));
	p = tmc_mspace_calloc(w.heap, 1, GAP + 2 * MIB);
	zero = p && probe_zero(p, GAP + 2 * MIB);
	tmc_mspace_free(p);
	p = tmc_mspace_malloc(w.heap, GAP);
	return p && !tmc_shmem_set_data(w.shm, p) && zero;
}

static int check_peer(struct peer *self, void *arg)
{
	void *p[200];
	size_t i, k, n;

	PEER_CHECK(self && !arg && !tmc_mspace_check(w.heap));
	/* Nobody else grows this arena: no chunk is lost, or there twice. */
	tmc_mspace_statistics(w.heap, NULL, &n, NULL);
	PEER_CHECK(n == tmc_shmem_current_size(w.shm));
	for (i = 0; i < LIVE; i++)
		for (k = 0; k < LIVE_LEN(i); k++)
			PEER_CHECK(w.live[i][k] == (unsigned char)i);
	PEER_CHECK(calloc_is_zero());
	for (i = 0; i < 200; i++) {
		n = i % 40 ? i * 31 % 3000 : 70 * KIB;
		p[i] = tmc_mspace_malloc(w.heap, n);
		PEER_CHECK(p[i]);
		memset(p[i], 0xee, n);
	}
	for (i = 0; i < 200; i++)
		tmc_mspace_free(p[i]);
	for (i = 0; i < LIVE; i++)
		for (k = 0; k < LIVE_LEN(i); k++)
			PEER_CHECK(w.live[i][k] == (unsigned char)i);
	PEER_CHECK(!tmc_mspace_check(w.heap));
	PEER_CHECK(tmc_mspace_trim(w.heap, 0) >= 0);
	return 0;
}

static void make_arena(void)
{
	size_t i;

	w.shm = tmc_shmem_create(box_path("step"), NULL, NULL, 4 * GIB);
	assert_non_null(w.shm);
	w.heap = tmc_mspace_create_special(3 * GAP, 0, tmc_shmem_alloc(w.shm));
	assert_non_null(w.heap);
	for (i = 0; i < LIVE; i++) {
		w.live[i] = tmc_mspace_malloc(w.heap, LIVE_LEN(i));
		assert_non_null(w.live[i]);
		memset(w.live[i], (int)i, LIVE_LEN(i));
	}
	assert_int_equal(
		tmc_shmem_set_data(w.shm, tmc_mspace_malloc(w.heap, GAP)), 0);
}

static size_t lost;

/* Adds what is still in use to lost. */
static void drop_arena(void)
{
	size_t i, used;

	assert_true(tmc_mspace_trim(w.heap, 0) >= 0);
	assert_int_equal(tmc_mspace_check(w.heap), 0);
	for (i = 0; i < LIVE; i++)
		tmc_mspace_free(w.live[i]);
	tmc_mspace_free(tmc_shmem_get_data(w.shm));
	tmc_mspace_statistics(w.heap, NULL, NULL, &used);
	lost += used;
	tmc_shmem_close(w.shm);
	assert_int_equal(tmc_shmem_unlink(box_path("step")), 0);
}

static void renew_arena(void)
{
	drop_arena();
	make_arena();
}

static void run_case(const struct heap_case *c)
{
	const struct step_kill k = { .name = c->name,
				     .victim = victim,
				     .arg = c,
				     .check = check_peer,
				     .renew = renew_arena,
				     .deaths = DEATHS,
				     .most = MOST };

	lost = 0;
	make_arena();
	assert_int_equal(step_kill(&k), 0);
	drop_arena();
	printf("%24s in use by the dead: %zu KiB\n", "", lost / KIB);
}

static void the_heap_survives_a_death_anywhere(void **state)
{
	const char *why =
		UNDER_SANITIZER ? "too many instructions" : step_impossible();
	const char *only = getenv("CASE");
	size_t i;

	(void)state;
	if (why) {
		print_message("%s\n", why);
		skip();
	}
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (!only || !strcmp(only, cases[i].name))
			run_case(&cases[i]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_heap_survives_a_death_anywhere),
	};

	(void)argc;
	step_bind_now(argv);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
