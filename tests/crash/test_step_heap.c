/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_step_heap.c - a process dies at any instruction of a call of the heap.
 *
 * DEATHS victims die in one and the same arena, one after the other. After each
 * a fresh process walks the heap, finds the blocks of the living as they were,
 * and takes, fills and gives back blocks of all sizes. What the dead had in
 * their hands at the end is printed. SOAK is for every instruction, CASE=name
 * for one of the calls.
 *
 * A bystander lives on all the time. It looks at the heap right before the
 * calls that make or cut a chunk, and goes on with what it knows before the
 * fresh process comes.
 */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <shmem.h>

#include "heap_layout.h"
#include "peer.h"
#include "probe.h"
#include "step.h"
#include "step_kill.h"

#define MOST 40 /* instructions that a call is killed at, in short */
#define DEATHS 250
#define LIVE 64
#define GAP (3 * MIB) /* is not kept when it is freed */
#define LIVE_LEN(i) ((size_t)(i)*37 % 900 + 8)

struct heap_case {
	const char *name;
	void (*prepare)(void); /* in the victim, before the steps */
	void (*call)(void);
	int asks;  /* prepare() asks the bystander */
	int heads; /* writes heads of runs: look whether they stay hidden */
};

/* In memory that all the victims and checkers inherit. */
static struct {
	tmc_shmem_t *shm;
	tmc_mspace heap;
	unsigned char *live[LIVE];
	void *mine[LIVE]; /* the victim's */
	unsigned char *others;
	struct peer bystander;
	const struct heap_case *c;
} w;

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

static void call_trim(void)
{
	tmc_mspace_trim(w.heap, 0);
}

static void ask_bystander(void)
{
	uint64_t word;

	if (peer_put(&w.bystander, 0) || peer_get(&w.bystander, &word))
		abort();
}

static void warm_and_ask(void)
{
	warm();
	ask_bystander();
}

/* More than trim has in hand at a time. */
static void keep_some(void)
{
	void *p[2];
	int i;

	warm();
	for (i = 0; i < 2; i++)
		p[i] = tmc_mspace_malloc(w.heap, 1500 * KIB);
	for (i = 0; i < 2; i++)
		tmc_mspace_free(p[i]);
}

static void grow_free_and_ask(void)
{
	warm();
	tmc_mspace_free(tmc_mspace_malloc(w.heap, 3 * GAP));
	ask_bystander();
}

static const struct heap_case cases[] = {
	{ "trim", keep_some, call_trim, 0, 1 },
	{ "trim, a chunk less", grow_free_and_ask, call_trim, 1, 0 },
	{ "malloc", warm, call_malloc, 0, 0 },
	{ "malloc, first", nothing, call_malloc, 0, 1 },
	{ "malloc, large", warm, take_large, 0, 0 },
	{ "malloc, large, first", nothing, take_large, 0, 1 },
	{ "malloc, a new chunk", warm_and_ask, call_grow, 1, 0 },
	{ "malloc, new span", warm, take_rare, 0, 1 },
	{ "memalign", warm, call_memalign, 0, 0 },
	{ "realloc", take_mine, call_realloc, 0, 0 },
	{ "realloc, shorter", take_larger, call_shorten, 0, 0 },
	{ "realloc, longer", take_larger, call_enlarge, 0, 0 },
	{ "free", take_mine, call_free, 0, 0 },
	{ "free, large", take_large, call_free, 0, 0 },
	{ "free, last of a span", take_last, call_free, 0, 0 },
	{ "free, of another's", warm, free_others, 0, 0 },
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

/* Nobody else grows this arena: no chunk is lost, or there twice. */
static int nothing_is_lost(void)
{
	size_t n;

	tmc_mspace_statistics(w.heap, NULL, &n, NULL);
	return n == tmc_shmem_current_size(w.shm);
}

static int stand_by(struct peer *self, void *arg)
{
	uint64_t word;

	(void)arg;
	while (!peer_get(self, &word)) {
		PEER_CHECK(!tmc_mspace_check(w.heap));
		PEER_CHECK(nothing_is_lost());
		PEER_CHECK(!peer_put(self, 0));
	}
	return 0;
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
	uint64_t word;

	PEER_CHECK(self && !arg);
	if (w.c->asks) {
		PEER_CHECK(!peer_put(&w.bystander, 0));
		PEER_CHECK(!peer_get(&w.bystander, &word));
	}
	PEER_CHECK(!tmc_mspace_check(w.heap) && nothing_is_lost());
	for (i = 0; i < LIVE; i++)
		for (k = 0; k < LIVE_LEN(i); k++)
			PEER_CHECK(w.live[i][k] == (unsigned char)i);
	PEER_CHECK(!w.c->heads || calloc_is_zero());
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
	/* How many chunks there are, and which is being made or cut. */
	step_watch(w.heap, offsetof(struct heap_hdr, pad));
	for (i = 0; i < LIVE; i++) {
		w.live[i] = tmc_mspace_malloc(w.heap, LIVE_LEN(i));
		assert_non_null(w.live[i]);
		memset(w.live[i], (int)i, LIVE_LEN(i));
	}
	assert_int_equal(
		tmc_shmem_set_data(w.shm, tmc_mspace_malloc(w.heap, GAP)), 0);
	assert_int_equal(peer_fork(&w.bystander, stand_by, NULL), 0);
}

static size_t lost;

/* Adds what is still in use to lost. */
static void drop_arena(void)
{
	size_t i, used;

	peer_kill(&w.bystander);
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
	w.c = c;
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
