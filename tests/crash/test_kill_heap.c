/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_kill_heap.c - users of one heap are killed at random.
 *
 * Eight processes take, change, swap and give back blocks, each with a journal
 * of what it has in the arena itself. One after the other is killed, what its
 * journal has is freed for it, and it is replaced. At the end all that is left
 * is what the dead had in hand between a call and their journal, which also says
 * how large that is. SOAK makes it 10,000 deaths, KILLS=n n.
 */
#include "test.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shmem.h>

#include "file.h"
#include "heap.h"
#include "heap_class.h"
#include "longest.h"
#include "peer.h"

#define KILLS 100
#define IN_A_ROW 1000
#define RESTARTS 5
#define PLAYERS 8u
#define SLOTS 200u
#define SWAPS 32u
#define MOST_BYTES (150 * KIB)
/* What there is then where so much is needed: a heap grows by a quarter. */
#define GROWN(n) ((n) + (n) / 4 + MIB)
/* Of a run, before a large block. */
#define FRONT ((HEAP_COLOURS - 1) * HEAP_COLOUR + HEAP_RUN_LEN)
#define TABLES (256 * KIB) /* of new chunks */
/* Spans that our own thread keeps in use, since it frees for the dead. */
#define STRAYS (HEAP_KNOWN_CLASSES * SPAN_STRAYS_FIRST * HEAP_SLICE)

struct block {
	uint32_t bytes, seed;
	unsigned char rest[];
};

static struct game {
	tmc_mspace heap;
	_Atomic int stop, wrong;
	_Atomic uint64_t longest; /* ns that one call took */
	struct {
		_Atomic uint64_t turns;
		/* Bytes, at most, of a block that is in no slot now, since it
		 * is being taken or given. */
		_Atomic uint32_t hand;
		_Atomic(struct block *) slot[SLOTS];
	} journal[PLAYERS];
	_Atomic(struct block *) swap[SWAPS];
} * g;

static void fill(struct block *b, uint32_t bytes, uint32_t seed)
{
	b->bytes = bytes;
	b->seed = seed;
	memset(b->rest, (int)seed, bytes - sizeof(*b));
}

/* Both ends and the middle of it. */
static int is_whole(const struct block *b)
{
	uint32_t n = b->bytes - (uint32_t)sizeof(*b);
	unsigned char c = (unsigned char)b->seed;

	return b->bytes > sizeof(*b) && b->bytes <= MOST_BYTES &&
	       b->rest[0] == c && b->rest[n / 2] == c && b->rest[n - 1] == c;
}

static uint32_t some_bytes(uint32_t r)
{
	return r % 50 ? 16 + r / 64 % 2000
		      : (uint32_t)(MOST_BYTES - r / 64 % MOST_BYTES / 2);
}

/* In the journal: a block whose contents are not yet written. */
static struct block *raw(struct block *b)
{
	return (struct block *)((uintptr_t)b | 1);
}

/* Into slot @i of @me, which is empty. */
static void take(unsigned int me, unsigned int i, uint32_t r)
{
	uint32_t bytes = some_bytes(r);
	uint64_t t = longest_now();
	struct block *b;

	atomic_store(&g->journal[me].hand, bytes);
	b = tmc_mspace_malloc(g->heap, bytes);
	atomic_store(&g->journal[me].slot[i], b ? raw(b) : NULL);
	atomic_store(&g->journal[me].hand, 0);
	longest_note(&g->longest, t);
	if (b)
		fill(b, bytes, r);
	atomic_store(&g->journal[me].slot[i], b);
}

static void check(const struct block *b)
{
	if (!is_whole(b))
		atomic_store(&g->wrong, 1);
}

static void give(unsigned int me, unsigned int i, struct block *b)
{
	uint64_t t;

	check(b);
	atomic_store(&g->journal[me].hand, b->bytes);
	atomic_store(&g->journal[me].slot[i], NULL);
	t = longest_now();
	tmc_mspace_free(b);
	longest_note(&g->longest, t);
	atomic_store(&g->journal[me].hand, 0);
}

/* Nobody knows how large the one is that it gets. */
static void swap(unsigned int me, unsigned int i, unsigned int at,
		 struct block *b)
{
	atomic_store(&g->journal[me].hand, (uint32_t)MOST_BYTES);
	atomic_store(&g->journal[me].slot[i], NULL);
	b = atomic_exchange(&g->swap[at], b);
	atomic_store(&g->journal[me].slot[i], b);
	atomic_store(&g->journal[me].hand, 0);
}

/* The journal is behind the call by what the player has in hand. */
static int play(struct peer *self, void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;
	unsigned int rng =
		(unsigned int)(uintptr_t)self ^ (unsigned int)longest_now();

	while (!atomic_load(&g->stop)) {
		unsigned int i = (unsigned int)rand_r(&rng) % SLOTS;
		unsigned int r = (unsigned int)rand_r(&rng);
		struct block *b = atomic_load(&g->journal[me].slot[i]);

		if (!b)
			take(me, i, r);
		else if (r % 4)
			give(me, i, b);
		else
			swap(me, i, r / 4 % SWAPS, b);
		atomic_fetch_add(&g->journal[me].turns, 1);
	}
	return 0;
}

static void clear(_Atomic(struct block *) *slot, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		struct block *b = atomic_exchange(&slot[i], NULL);

		if (b && b != raw(b))
			check(b);
		tmc_mspace_free((void *)((uintptr_t)b & ~(uintptr_t)1));
	}
}

static void start(struct peer *p, unsigned int player)
{
	assert_int_equal(peer_fork(p, play, (void *)(uintptr_t)player), 0);
}

/* Until it has done @n turns more. */
static void let_play(unsigned int player, uint64_t n)
{
	uint64_t until = atomic_load(&g->journal[player].turns) + n;

	while (atomic_load(&g->journal[player].turns) < until)
		sched_yield();
}

/* g is the arena's root. */
static tmc_shmem_t *make_game(void)
{
	tmc_shmem_t *shm =
		tmc_shmem_create(box_path("kill-heap"), NULL, NULL, 4 * GIB);
	tmc_mspace heap;

	assert_non_null(shm);
	heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	g = tmc_mspace_calloc(heap, 1, sizeof(*g));
	assert_non_null(g);
	g->heap = heap;
	assert_int_equal(tmc_shmem_set_data(shm, g), 0);
	return shm;
}

/* ----- what deaths cost ----- */

/* Of the heap and its arena, when all that is reachable has been freed. */
struct cost {
	size_t used, size, memory;
};

static struct cost now(tmc_shmem_t *shm)
{
	struct cost c;
	struct stat st;

	assert_int_equal(tmc_mspace_check(g->heap), 0);
	assert_true(tmc_mspace_trim(g->heap, 0) >= 0);
	tmc_mspace_statistics(g->heap, NULL, NULL, &c.used);
	c.size = tmc_shmem_current_size(shm);
	assert_int_equal(fstat(tmc_shmem_fd(shm), &st), 0);
	c.memory = (size_t)st.st_blocks * 512;
	return c;
}

static void add_hand(unsigned int player, struct cost *sum)
{
	uint32_t bytes = atomic_exchange(&g->journal[player].hand, 0);
	void *like = bytes ? tmc_mspace_malloc(g->heap, bytes) : NULL;

	/* Those of its size, and the slices that they keep. */
	sum->used += tmc_mspace_usable_size(like);
	if (like)
		sum->memory += heap_slices(FRONT + bytes) * HEAP_SLICE;
	tmc_mspace_free(like);
}

static void a_heap_goes_on_whoever_dies(void **state)
{
	tmc_shmem_t *shm = make_game();
	const char *some = getenv("KILLS");
	int kills = some ? atoi(some) : getenv("SOAK") ? 100 * KILLS : KILLS;
	int i;
	struct peer p[PLAYERS];
	unsigned int player, rng = 7;
	struct cost first = now(shm), hands = { 0 }, last;
	uint64_t turns = 0;

	(void)state;
	for (player = 0; player < PLAYERS; player++)
		start(&p[player], player);
	for (i = 0; i < kills; i++) {
		player = (unsigned int)rand_r(&rng) % PLAYERS;
		let_play(player, (uint64_t)rand_r(&rng) % 300 + 1);
		peer_kill(&p[player]);
		add_hand(player, &hands);
		clear(g->journal[player].slot, SLOTS);
		start(&p[player], player);
		let_play((player + 1) % PLAYERS, 1);
	}
	atomic_store(&g->stop, 1);
	for (player = 0; player < PLAYERS; player++) {
		assert_int_equal(peer_end(&p[player]), 0);
		clear(g->journal[player].slot, SLOTS);
		turns += atomic_load(&g->journal[player].turns);
	}
	clear(g->swap, SWAPS);
	assert_int_equal(atomic_load(&g->wrong), 0);
	last = now(shm);
	printf("%d kills, %llu turns; lost: %zu bytes, of %zu in the hands of "
	       "the dead; memory %zu KiB; the longest call %.1f ms\n",
	       kills, (unsigned long long)turns, last.used - first.used,
	       hands.used, last.memory / KIB,
	       (double)atomic_load(&g->longest) / 1e6);
	assert_in_range(last.used, first.used, first.used + hands.used);
	tmc_mspace_free(g);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("kill-heap")), 0);
}

/* How the one and only player ends, after so many turns: as it likes, or not. */
static void live(uint64_t turns, bool killed, struct cost *hands)
{
	struct peer p;

	atomic_store(&g->stop, 0);
	start(&p, 0);
	let_play(0, turns);
	if (killed) {
		peer_kill(&p);
	} else {
		atomic_store(&g->stop, 1);
		assert_int_equal(peer_end(&p), 0);
	}
	add_hand(0, hands);
	clear(g->journal[0].slot, SLOTS);
}

/*
 * The bound for a death is that of libshmem(7): the block in hand, and of what
 * the arena and its memory grow by the slices that it keeps. The arena is as
 * large before anybody trims it, but for what one life needs, and for what we
 * keep: until the end that may be in the way of using a range again.
 */
static void deaths_in_a_row_cost_no_more_than_what_was_in_hand(void **state)
{
	tmc_shmem_t *shm = make_game();
	int deaths = getenv("SOAK") ? 10 * IN_A_ROW : test_steps(IN_A_ROW), i;
	struct cost hands = { 0 }, first, last;
	unsigned int rng = 11;
	size_t one, all;

	(void)state;
	live(10000, false, &hands);
	one = tmc_shmem_current_size(shm);
	clear(g->swap, SWAPS);
	assert_int_equal(hands.used, 0);
	first = now(shm);
	for (i = 0; i < deaths; i++)
		live((uint64_t)rand_r(&rng) % 300 + 1, true, &hands);
	clear(g->swap, SWAPS);
	assert_int_equal(atomic_load(&g->wrong), 0);
	all = tmc_shmem_current_size(shm);
	last = now(shm);
	printf("%d deaths in a row; lost: %zu bytes, of %zu in their hands; "
	       "the arena %zu KiB, was %zu; trimmed %zu, was %zu; its memory "
	       "%zu KiB, was %zu; slices in hand %zu KiB\n",
	       deaths, last.used - first.used, hands.used, all / KIB, one / KIB,
	       last.size / KIB, first.size / KIB, last.memory / KIB,
	       first.memory / KIB, hands.memory / KIB);
	assert_in_range(last.used, first.used, first.used + hands.used);
	assert_in_range(all, 0, GROWN(one + hands.memory + STRAYS));
	assert_in_range(last.size, 0,
			GROWN(first.size + hands.memory + STRAYS));
	assert_in_range(last.memory, 0, first.memory + hands.memory + TABLES);
	tmc_mspace_free(g);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("kill-heap")), 0);
}

/* ----- all at once ----- */

/* What a program finds that opens it as the first after that. */
static void assert_as_it_was(const char *path)
{
	tmc_shmem_t *shm = tmc_shmem_open(path);
	unsigned int player, i;
	size_t used;
	void *p;

	assert_non_null(shm);
	g = tmc_shmem_get_data(shm);
	assert_int_equal(tmc_mspace_check(g->heap), 0);
	for (i = 0; i < 1000; i++) {
		p = tmc_mspace_calloc(g->heap, 1, i);
		assert_non_null(p);
		memset(p, 0xee, i);
	}
	for (player = 0; player < PLAYERS; player++)
		clear(g->journal[player].slot, SLOTS);
	clear(g->swap, SWAPS);
	assert_int_equal(atomic_load(&g->wrong), 0);
	assert_int_equal(tmc_mspace_check(g->heap), 0);
	assert_true(tmc_mspace_trim(g->heap, 0) >= 0);
	tmc_mspace_statistics(g->heap, NULL, NULL, &used);
	/* And no more than a block, in whole slices, in the hands of each. */
	assert_in_range(used, sizeof(*g),
			sizeof(*g) + 1000 * 1100 +
				PLAYERS * (MOST_BYTES + 64 * KIB));
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink_idle(path), 0);
}

static void when_all_die_at_once_file_and_copy_are_whole(void **state)
{
	tmc_shmem_t *shm;
	struct peer p[PLAYERS];
	unsigned int player;
	int i;

	(void)state;
	for (i = 0; i < RESTARTS; i++) {
		shm = make_game();
		for (player = 0; player < PLAYERS; player++)
			start(&p[player], player);
		for (player = 0; player < PLAYERS; player++)
			let_play(player, 1000);
		for (player = 0; player < PLAYERS; player++)
			kill(p[player].pid, SIGKILL);
		for (player = 0; player < PLAYERS; player++)
			assert_int_equal(peer_end(&p[player]), 128 + SIGKILL);
		tmc_shmem_close(shm);
		assert_int_equal(
			file_copy(box_path("kill-heap"), box_path("copy")), 0);
		assert_as_it_was(box_path("kill-heap"));
		assert_as_it_was(box_path("copy"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_heap_goes_on_whoever_dies),
		cmocka_unit_test(
			deaths_in_a_row_cost_no_more_than_what_was_in_hand),
		cmocka_unit_test(when_all_die_at_once_file_and_copy_are_whole),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
