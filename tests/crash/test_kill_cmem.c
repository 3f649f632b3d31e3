/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_kill_cmem.c - relatives die at random while they exchange blocks.
 *
 * Four of them, forked and executed by turns, play in one memory; one after the
 * other is killed and replaced. SOAK makes it 2,500 deaths.
 */
#include "test.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <shmem.h>

#include "churn.h"
#include "peer.h"

#define KILLS 100

static struct churn *c;

static int play(struct peer *self, void *arg)
{
	unsigned int player = (unsigned int)(uintptr_t)arg;

	return churn(c, player, (unsigned int)(uintptr_t)self * 7 + player);
}

static void start(struct peer *p, unsigned int player, int executed)
{
	char hex[32], number[16];
	const char *const args[] = { "churn", hex, number, NULL };

	snprintf(hex, sizeof(hex), "%lx", (unsigned long)c);
	snprintf(number, sizeof(number), "%u", player);
	if (executed)
		assert_int_equal(peer_exec(p, "relative", args), 0);
	else
		assert_int_equal(peer_fork(p, play, (void *)(uintptr_t)player),
				 0);
}

/* Until it has done @n turns more. */
static void let_play(unsigned int player, uint64_t n)
{
	uint64_t until = atomic_load(&c->turns[player]) + n;

	while (atomic_load(&c->turns[player]) < until)
		sched_yield();
}

static void relatives_go_on_whoever_dies(void **state)
{
	const char *soak = getenv("SOAK");
	int kills = soak ? 25 * KILLS : KILLS, i, left;
	tmc_alloc_t thp = TMC_CMEM_ALLOC_INIT;
	struct peer p[CHURN_PLAYERS];
	unsigned int player, seed = 3;
	uint64_t turns = 0;
	tmc_mspace heap;

	(void)state;
	assert_int_equal(tmc_cmem_init(GIB), 0);
	assert_int_equal(tmc_cmem_prepare_alloc(tmc_alloc_set_thp(&thp)), 0);
	assert_int_equal(tmc_cmem_persist_after_exec(1), 0);
	c = tmc_cmem_calloc(1, sizeof(*c));
	assert_non_null(c);
	for (player = 0; player < CHURN_PLAYERS; player++)
		start(&p[player], player, player % 2);
	for (i = 0; i < kills; i++) {
		player = (unsigned int)rand_r(&seed) % CHURN_PLAYERS;
		let_play(player, (uint64_t)rand_r(&seed) % 50 + 1);
		peer_kill(&p[player]);
		start(&p[player], player, i % 2);
		/* Nobody is stopped by it, we neither. */
		let_play((player + 1) % CHURN_PLAYERS, 1);
		tmc_cmem_free(tmc_cmem_malloc(1000));
	}
	atomic_store(&c->stop, 1);
	for (player = 0; player < CHURN_PLAYERS; player++) {
		assert_int_equal(peer_end(&p[player]), 0);
		turns += atomic_load(&c->turns[player]);
	}
	assert_int_equal(atomic_load(&c->wrong), 0);
	heap = tmc_shmem_get_data(tmc_shmem_find(c, NULL));
	assert_int_equal(tmc_mspace_check(heap), 0);
	left = churn_clear(c);
	assert_in_range(left, 1, CHURN_SLOTS);
	assert_int_equal(tmc_mspace_check(heap), 0);
	printf("%d kills, %llu turns, %d blocks at the end, %zu of %zu bytes "
	       "free then\n",
	       kills, (unsigned long long)turns, left, tmc_cmem_get_available(),
	       tmc_cmem_get_capacity());
	tmc_cmem_free(c);
	assert_int_equal(tmc_cmem_close(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(relatives_go_on_whoever_dies),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
