/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * step_heap.h - a process dies at any instruction of a call of the heap.
 *
 * DEATHS victims die in one and the same arena, one after the other. What the
 * heap has given them stands in a journal in shared memory, but for what the
 * call that they die in takes or gives back. After each death a fresh process
 * walks the heap, finds the blocks of the living as they were, takes, fills and
 * gives back blocks of all sizes by the thousand, and gives back what the
 * journal has. Then no more is in use than before, but for the block that the
 * call had in its hands (struct heap_case: hand), and no less.
 *
 * At the end of an arena the same is asked of its size and of the memory that
 * it takes, in whole slices: a block that is lost keeps those that it lies in.
 * That is the bound for each death which libshmem(7) states.
 *
 * A bystander lives on all the time. It looks at the heap right before the
 * calls that make or cut a chunk, and goes on with what it knows before the
 * fresh process comes; and it frees blocks of others. SOAK is for every
 * instruction, CASE=name for one of the calls.
 */
#ifndef TESTS_STEP_HEAP_H
#define TESTS_STEP_HEAP_H

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
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
#define MINE 512
#define USE 2000      /* blocks that the fresh process takes */
#define GAP (3 * MIB) /* is not kept when it is freed */
/* What there is then where so much is needed: a heap grows by a quarter. */
#define GROWN(n) ((n) + (n) / 4 + MIB)
#define LIVE_LEN(i) ((size_t)(i)*37 % 900 + 8)

struct heap_case {
	const char *name;
	void (*prepare)(void); /* in the victim, before the steps */
	void (*call)(void);
	size_t hand; /* bytes in use that a death in the call costs, at most */
	int asks;    /* prepare() asks the bystander */
	int heads;   /* writes heads of runs: look whether they stay hidden */
	/* Where it is about another heap: bytes of the arena that may be lost
	 * with that one, and whether nothing else is. */
	size_t heap;
	int (*heap_is_fine)(void);
	pid_t (*victim)(const void *c); /* NULL: the thread that calls fork() */
	size_t most_kills, soak_turns;	/* as in step_kill.h */
};

/* In memory that all the victims and checkers share. */
struct journal {
	void *mine[MINE]; /* the victim's */
	void *others;
	tmc_mspace second; /* another heap in the arena */
	size_t used, size; /* before the victim came */
};

/* In memory that they inherit. */
static struct {
	tmc_shmem_t *shm;
	tmc_mspace heap;
	unsigned char *live[LIVE];
	struct journal *j;
	struct peer bystander;
	const struct heap_case *c;
	size_t deaths; /* in this arena */
	size_t size, memory, lost;
} w;

/* ----- what victims do ----- */

static inline void take(size_t i, size_t n)
{
	w.j->mine[i] = tmc_mspace_malloc(w.heap, n);
}

/* The journal forgets it first: the dead one had it in hand. */
static inline void *forget(size_t i)
{
	void *p = w.j->mine[i];

	w.j->mine[i] = NULL;
	return p;
}

static inline void give(size_t i)
{
	tmc_mspace_free(forget(i));
}

/* A large block that the thread holds for the next: its pages are all there
 * since it had them before. */
static inline void hold(size_t i)
{
	int k;

	for (k = 0; k < 2; k++) {
		take(i, 100 * KIB);
		if (w.j->mine[i])
			memset(w.j->mine[i], 0xee, 100 * KIB);
		give(i);
	}
}

static inline void tell_bystander(uint64_t word)
{
	if (peer_put(&w.bystander, word) || peer_get(&w.bystander, &word))
		abort();
}

static inline void ask_bystander(void)
{
	tell_bystander(0);
}

/* A block, a multiple of 16, it frees; from a heap, and 1, it has taken one. */
static inline void give_by_bystander(size_t i)
{
	tell_bystander((uintptr_t)forget(i));
}

static inline void show_to_bystander(tmc_mspace heap)
{
	tell_bystander((uintptr_t)heap + 1);
}

static inline void warm(void)
{
	size_t i;

	for (i = 0; i < LIVE; i++)
		take(i, 100);
	for (i = 0; i < LIVE; i++)
		give(i);
}

/* ----- victims, the bystander and checkers ----- */

static inline size_t in_use(void)
{
	size_t n;

	tmc_mspace_statistics(w.heap, NULL, NULL, &n);
	return n;
}

/* The test's own process, before a victim comes: 0 or -1. */
static inline int before_victim(void)
{
	size_t i;

	/* What a recorded victim has left. */
	for (i = 0; i < MINE && !w.c->heap; i++)
		if (w.j->mine[i])
			give(i);
	if (w.j->others)
		tmc_mspace_free(w.j->others);
	memset(w.j, 0, sizeof(*w.j));
	w.j->others = tmc_mspace_malloc(w.heap, 100);
	if (!w.j->others || tmc_mspace_trim(w.heap, 0) < 0)
		return -1;
	w.j->used = in_use();
	w.j->size = tmc_shmem_current_size(w.shm);
	w.deaths++;
	return 0;
}

static inline pid_t fork_victim(const struct heap_case *c)
{
	return step_fork(c->prepare, c->call);
}

static inline pid_t victim(const void *c)
{
	return before_victim() ? -1 : fork_victim(c);
}

/* Nobody else grows this arena: no chunk is lost, or there twice. */
static inline int nothing_is_lost(void)
{
	size_t n;

	tmc_mspace_statistics(w.heap, NULL, &n, NULL);
	return n == tmc_shmem_current_size(w.shm);
}

static inline int stand_by(struct peer *self, void *arg)
{
	uint64_t word;
	void *p;

	(void)arg;
	while (!peer_get(self, &word)) {
		if (word & 1) {
			p = tmc_mspace_malloc((tmc_mspace)(word - 1), 100);
			PEER_CHECK(p);
		} else if (word) {
			tmc_mspace_free((void *)word);
		} else {
			PEER_CHECK(!tmc_mspace_check(w.heap));
			PEER_CHECK(nothing_is_lost());
		}
		PEER_CHECK(!peer_put(self, 0));
	}
	return 0;
}

/*
 * The arena's root is a large block. Behind it lie free slices, whose pages trim
 * has given back. The dead may have written heads there. So free slices that
 * calloc takes for zero begin before them when that block is freed.
 */
static inline int calloc_is_zero(void)
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

static inline size_t use_len(size_t i)
{
	return i % 400 ? i * 31 % 900 : 70 * KIB;
}

/* Thousands of blocks, none of which lies in another. */
static inline int can_be_used(tmc_mspace heap)
{
	static unsigned char *p[USE];
	size_t i, n;
	int whole = 1;

	for (i = 0; i < USE; i++) {
		p[i] = tmc_mspace_malloc(heap, use_len(i));
		if (!p[i])
			return 0;
		memset(p[i], (int)(i * 7), use_len(i));
	}
	for (i = 0; i < USE; i++) {
		n = use_len(i);
		whole &= !n || (p[i][0] == (unsigned char)(i * 7) &&
				!memcmp(p[i], p[i] + 1, n - 1));
		tmc_mspace_free(p[i]);
	}
	return whole;
}

static inline int live_is_whole(void)
{
	size_t i, k;

	for (i = 0; i < LIVE; i++)
		for (k = 0; k < LIVE_LEN(i); k++)
			if (w.live[i][k] != (unsigned char)i)
				return 0;
	return 1;
}

static inline int check_peer(struct peer *self, void *arg)
{
	size_t i, n;
	uint64_t word;

	PEER_CHECK(self && !arg);
	if (w.c->asks) {
		PEER_CHECK(!peer_put(&w.bystander, 0));
		PEER_CHECK(!peer_get(&w.bystander, &word));
	}
	PEER_CHECK(!tmc_mspace_check(w.heap));
	PEER_CHECK(w.c->heap ? w.c->heap_is_fine() : nothing_is_lost());
	PEER_CHECK(live_is_whole());
	PEER_CHECK(!w.c->heads || calloc_is_zero());
	PEER_CHECK(can_be_used(w.heap));
	for (i = 0; i < MINE; i++)
		if (w.j->mine[i])
			give(i);
	PEER_CHECK(live_is_whole());
	PEER_CHECK(!tmc_mspace_check(w.heap));
	PEER_CHECK(tmc_mspace_trim(w.heap, 0) >= 0);
	n = in_use();
	PEER_CHECK(n >= w.j->used);
	PEER_CHECK(n - w.j->used <= w.c->hand);
	return 0;
}

/* ----- one arena after the other ----- */

static inline size_t memory(void)
{
	struct stat st;

	assert_int_equal(fstat(tmc_shmem_fd(w.shm), &st), 0);
	return (size_t)st.st_blocks * 512;
}

static inline void make_arena(void)
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
	w.j->others = NULL;
	w.deaths = 0;
	w.size = tmc_shmem_current_size(w.shm);
	w.memory = memory();
	assert_int_equal(peer_fork(&w.bystander, stand_by, NULL), 0);
}

/* That blocks lie in which have so many bytes: one, with a head before it, or
 * the two small ones of realloc. */
static inline size_t slices_of(size_t hand)
{
	return hand ? (hand + 2 * HEAP_SLICE - 1) / HEAP_SLICE : 0;
}

/* Adds what is still in use to w.lost. */
static inline void drop_arena(void)
{
	size_t most = slices_of(w.c->hand) * HEAP_SLICE + w.c->heap, i;

	peer_kill(&w.bystander);
	assert_true(tmc_mspace_trim(w.heap, 0) >= 0);
	assert_int_equal(tmc_mspace_check(w.heap), 0);
	assert_in_range(tmc_shmem_current_size(w.shm), w.size,
			GROWN(w.size + w.deaths * most));
	/* And pages of the header, where those who came are counted. */
	assert_in_range(memory(), 0, w.memory + w.deaths * most + HEAP_SLICE);
	for (i = 0; i < LIVE; i++)
		tmc_mspace_free(w.live[i]);
	tmc_mspace_free(tmc_shmem_get_data(w.shm));
	tmc_mspace_free(w.j->others);
	assert_in_range(in_use(), 0, w.deaths * w.c->hand);
	w.lost += in_use();
	tmc_shmem_close(w.shm);
	assert_int_equal(tmc_shmem_unlink(box_path("step")), 0);
}

static inline void renew_arena(void)
{
	drop_arena();
	make_arena();
}

static inline void run_case(const struct heap_case *c)
{
	const struct step_kill k = { .name = c->name,
				     .victim = c->victim ? c->victim : victim,
				     .arg = c,
				     .check = check_peer,
				     .renew = renew_arena,
				     .deaths = DEATHS,
				     .most = MOST,
				     .most_kills = c->most_kills,
				     .soak_turns = c->soak_turns };

	w.lost = 0;
	w.c = c;
	make_arena();
	assert_int_equal(step_kill(&k), 0);
	drop_arena();
	printf("%24s in use by the dead: %zu KiB\n", "", w.lost / KIB);
}

/* All of them, or skips. */
static inline void run_cases(const struct heap_case *c, size_t n)
{
	const char *why =
		UNDER_SANITIZER ? "too many instructions" : step_impossible();
	const char *only = getenv("CASE");
	size_t i;

	if (why) {
		print_message("%s\n", why);
		skip();
	}
	w.j = mmap(NULL, sizeof(*w.j), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(w.j != MAP_FAILED);
	for (i = 0; i < n; i++)
		if (!only || !strcmp(only, c[i].name))
			run_case(&c[i]);
	munmap(w.j, sizeof(*w.j));
}

#endif
