/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_step_heap.c - a process dies at any instruction of a call of the heap:
 * malloc and its like, free and trim. See step_heap.h.
 */
#include "step_heap.h"

static void take_mine(void)
{
	size_t i;

	for (i = 0; i < LIVE; i++)
		take(i, 100);
}

static void nothing(void)
{
}

static void call_malloc(void)
{
	take(0, 100);
}

static void take_large(void)
{
	take(0, 100 * KIB);
}

static void call_free(void)
{
	give(0);
}

static void take_rare(void)
{
	take(0, 20000);
}

/* The only block of a span that is not the current one. */
static void take_last(void)
{
	size_t i;

	for (i = 0; i < 8; i++)
		take(i, 30000);
	for (i = 1; i < 8; i++)
		give(i);
}

/* All of a span, the first three of which the bystander frees. */
static void take_all(void)
{
	size_t i;

	for (i = 0; i < 7; i++)
		take(i, 8000);
	for (i = 0; i < 3; i++)
		give_by_bystander(i);
}

static void call_collect(void)
{
	take(0, 8000);
}

static void free_others(void)
{
	void *p = w.j->others;

	w.j->others = NULL;
	tmc_mspace_free(p);
}

static void call_realloc(void)
{
	w.j->mine[0] = tmc_mspace_realloc(w.heap, forget(0), 5000);
}

static void take_larger(void)
{
	take(0, MIB);
}

static void call_shorten(void)
{
	w.j->mine[0] = tmc_mspace_realloc(w.heap, forget(0), 100 * KIB);
}

static void call_enlarge(void)
{
	w.j->mine[0] = tmc_mspace_realloc(w.heap, forget(0), MIB + 200 * KIB);
}

static void call_memalign(void)
{
	w.j->mine[0] = tmc_mspace_memalign(w.heap, 256, 300);
}

static void call_calloc(void)
{
	w.j->mine[0] = tmc_mspace_calloc(w.heap, 3, 100);
}

static void calloc_large(void)
{
	w.j->mine[0] = tmc_mspace_calloc(w.heap, 1, 100 * KIB);
}

static void hold_large(void)
{
	hold(0);
}

static void hold_and_take(void)
{
	hold(0);
	take_large();
}

static void call_grow(void)
{
	take(0, 3 * GAP);
}

static void call_trim(void)
{
	tmc_mspace_trim(w.heap, 0);
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
	{ "trim", keep_some, call_trim, .heads = 1 },
	{ "trim, a chunk less", grow_free_and_ask, call_trim, .asks = 1 },
	{ "malloc", warm, call_malloc, .hand = 112 },
	{ "malloc, first", nothing, call_malloc, .hand = 112, .heads = 1 },
	{ "malloc, others' frees", take_all, call_collect, .hand = 8192 },
	{ "malloc, large", warm, take_large, .hand = 100 * KIB },
	{ "malloc, large, first", nothing, take_large, .hand = 100 * KIB,
	  .heads = 1 },
	{ "malloc, a new chunk", warm_and_ask, call_grow, .hand = 3 * GAP,
	  .asks = 1 },
	{ "malloc, new span", warm, take_rare, .hand = 21456, .heads = 1 },
	{ "calloc", warm, call_calloc, .hand = 320 },
	{ "calloc, large", nothing, calloc_large, .hand = 100 * KIB,
	  .heads = 1 },
	{ "calloc, held", hold_large, calloc_large, .hand = 100 * KIB },
	{ "memalign", warm, call_memalign, .hand = 640 },
	{ "realloc", take_mine, call_realloc, .hand = 112 + 5120 },
	{ "realloc, shorter", take_larger, call_shorten, .hand = MIB },
	{ "realloc, longer", take_larger, call_enlarge,
	  .hand = MIB + 200 * KIB },
	{ "free", take_mine, call_free, .hand = 112 },
	{ "free, large", take_large, call_free, .hand = 100 * KIB },
	{ "free, large, to hold", hold_and_take, call_free, .hand = 100 * KIB },
	{ "free, last of a span", take_last, call_free, .hand = 32176 },
	{ "free, of another's", warm, free_others, .hand = 112 },
};

static void the_heap_survives_a_death_anywhere(void **state)
{
	(void)state;
	run_cases(cases, sizeof(cases) / sizeof(cases[0]));
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
