/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_kill_odp.c - users of examples/odp_shm are killed at random.
 *
 * Six processes of one instance reserve, look up and free blocks: each those
 * of its own names, which nobody else frees, and all those of some common
 * ones. One after the other is killed and replaced; who comes next under its
 * name goes on with its blocks. At the end all that is left is what the dead
 * had in hand. SOAK makes it 10,000 deaths.
 */
#include "test.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <shmem.h>

#include "../../examples/odp_shm/internal.h"
#include "longest.h"
#include "peer.h"

#define KILLS 40
#define PLAYERS 6u
#define OWN 40u
#define COMMON 20u
#define LAZY MIB

static struct game {
	_Atomic int stop, wrong;
	_Atomic uint64_t longest; /* ns that one call took */
	_Atomic uint64_t turns[PLAYERS];
} * g;

/* At the start of a block that its owner has got from reserve. */
struct stamp {
	uint64_t size, name;
};

static uint64_t size_of(unsigned int r)
{
	if (r % 50 == 0)
		return LAZY + r % LAZY;
	return r % 20 ? 16 + r % 6000 : 16 + r % (200 * KIB);
}

static odp_shm_t reserve(const char *name, unsigned int r)
{
	uint64_t t = longest_now();
	odp_shm_t shm = odp_shm_reserve(name, size_of(r), r % 8 ? 0 : 4096,
					ODP_SHM_NO_HP);

	longest_note(&g->longest, t);
	return shm;
}

static int give(odp_shm_t shm)
{
	uint64_t t = longest_now();
	int err = odp_shm_free(shm);

	longest_note(&g->longest, t);
	return err;
}

static void own_name(unsigned int player, unsigned int i, char *name)
{
	snprintf(name, ODP_SHM_NAME_LEN, "player %u: %u", player, i);
}

static void common_name(unsigned int i, char *name)
{
	snprintf(name, ODP_SHM_NAME_LEN, "common: %u", i);
}

/* @fresh: its owner may have died before it was stamped. */
static void check_own(odp_shm_t shm, unsigned int i, bool fresh)
{
	odp_shm_info_t info;
	struct stamp *s, *last;

	if (odp_shm_info(shm, &info)) {
		atomic_store(&g->wrong, 1);
		return;
	}
	s = info.addr;
	last = (struct stamp *)((char *)info.addr + info.size / 16 * 16) - 1;
	if (!fresh && (s->size != info.size || last->size != info.size ||
		       s->name != i || last->name != i))
		atomic_store(&g->wrong, 2);
}

static void turn_own(unsigned int me, unsigned int *rng, bool *fresh)
{
	unsigned int i = (unsigned int)rand_r(rng) % OWN;
	char name[ODP_SHM_NAME_LEN];
	odp_shm_info_t info;
	odp_shm_t shm;

	own_name(me, i, name);
	shm = odp_shm_lookup(name);
	if (shm) {
		check_own(shm, i, fresh[i]);
		if (give(shm))
			atomic_store(&g->wrong, 3);
		return;
	}
	fresh[i] = false;
	shm = reserve(name, (unsigned int)rand_r(rng));
	if (!shm || odp_shm_info(shm, &info)) {
		atomic_store(&g->wrong, 4);
		return;
	}
	*(struct stamp *)info.addr = (struct stamp){ info.size, i };
	((struct stamp *)((char *)info.addr + info.size / 16 * 16))[-1] =
		(struct stamp){ info.size, i };
}

static int play(struct peer *self, void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;
	unsigned int rng =
		(unsigned int)(uintptr_t)self ^ (unsigned int)longest_now();
	char name[ODP_SHM_NAME_LEN];
	bool fresh[OWN];
	odp_shm_t shm;

	memset(fresh, 1, sizeof(fresh));
	while (!atomic_load(&g->stop)) {
		if (rand_r(&rng) % 3) {
			turn_own(me, &rng, fresh);
		} else {
			common_name((unsigned int)rand_r(&rng) % COMMON, name);
			shm = odp_shm_lookup(name);
			if (shm)
				give(shm); /* or another one has just done so */
			else
				reserve(name, (unsigned int)rand_r(&rng));
		}
		atomic_fetch_add(&g->turns[me], 1);
	}
	return 0;
}

static int join_and_play(struct peer *self, void *arg)
{
	odp_instance_t id = odpi_self()->id;

	PEER_CHECK(!odp_shm_term_local() && !odp_shm_init_local(id));
	/* The same address as before. */
	PEER_CHECK(odp_shm_addr(odp_shm_lookup("game")) == g);
	return play(self, arg);
}

static void start(struct peer *p, unsigned int player, int joins)
{
	assert_int_equal(peer_fork(p, joins ? join_and_play : play,
				   (void *)(uintptr_t)player),
			 0);
}

/* Until it has done @n turns more; fails if it has ended by itself. */
static void let_play(const struct peer *p, unsigned int player, uint64_t n)
{
	uint64_t until = atomic_load(&g->turns[player]) + n;
	siginfo_t ended = { 0 };

	while (atomic_load(&g->turns[player]) < until) {
		waitid(P_PID, (id_t)p[player].pid, &ended,
		       WEXITED | WNOHANG | WNOWAIT);
		assert_int_equal(ended.si_pid, 0);
		assert_int_equal(atomic_load(&g->wrong), 0);
		sched_yield();
	}
}

static void free_all(void)
{
	char name[ODP_SHM_NAME_LEN];
	unsigned int i, k;
	odp_shm_t shm;

	for (i = 0; i < PLAYERS; i++)
		for (k = 0; k < OWN; k++) {
			own_name(i, k, name);
			while ((shm = odp_shm_lookup(name)))
				assert_int_equal(odp_shm_free(shm), 0);
		}
	for (k = 0; k < COMMON; k++) {
		common_name(k, name);
		while ((shm = odp_shm_lookup(name)))
			assert_int_equal(odp_shm_free(shm), 0);
	}
}

/* Bytes in use in a heap that is as it should be. */
static size_t used_in(tmc_mspace heap)
{
	size_t used;

	assert_int_equal(tmc_mspace_check(heap), 0);
	tmc_mspace_trim(heap, 0); /* what the dead had in their threads */
	assert_int_equal(tmc_mspace_check(heap), 0);
	tmc_mspace_statistics(heap, NULL, NULL, &used);
	return used;
}

static void report(int kills)
{
	struct odp_instance *in = odpi_self();
	tmc_shmem_t *lazy = odpi_further(in, ODP_LAZY, false);
	uint64_t at = 0, turns = 0;
	union odp_record r;
	unsigned int i;
	size_t records, blocks, lazies;

	for (i = 0; i < PLAYERS; i++)
		turns += atomic_load(&g->turns[i]);
	/* The game's own, and no other. */
	assert_true(odpi_next(in, &at, &r));
	assert_string_equal(r.name, "game");
	assert_true(!odpi_next(in, &at, &r));
	records = used_in(in->dir->records);
	blocks = used_in(in->dir->blocks);
	assert_non_null(lazy);
	lazies = used_in(tmc_shmem_get_data(lazy));
	printf("%d kills, %llu turns; in use at the end: records %zu, blocks "
	       "%zu, lazy ones %zu bytes; the longest call %.1f ms\n",
	       kills, (unsigned long long)turns, records, blocks, lazies,
	       (double)atomic_load(&g->longest) / 1e6);
	assert_in_range(records, 128, 1000 + (size_t)kills * 512);
	assert_in_range(blocks + lazies, sizeof(*g),
			4096 + (size_t)kills * (2 * LAZY + 8192));
}

static void instances_go_on_whoever_dies(void **state)
{
	const odp_shm_setup_t setup = { .max_memory = 8 * GIB,
					.max_blocks = 100,
					.lazy_size = LAZY };
	int kills = getenv("SOAK") ? 250 * KILLS : KILLS, i;
	struct peer p[PLAYERS];
	unsigned int player, rng = 7;
	odp_instance_t id;
	odp_shm_t game;

	(void)state;
	setenv("ODP_SHM_DIR", box_path(""), 1);
	assert_int_equal(odp_shm_init_global(&id, &setup), 0);
	game = odp_shm_reserve("game", sizeof(*g), 0, 0);
	g = odp_shm_addr(game);
	assert_non_null(g);
	memset(g, 0, sizeof(*g));
	for (player = 0; player < PLAYERS; player++)
		start(&p[player], player, player % 2);
	for (i = 0; i < kills; i++) {
		player = (unsigned int)rand_r(&rng) % PLAYERS;
		let_play(p, player, (uint64_t)rand_r(&rng) % 30 + 1);
		peer_kill(&p[player]);
		start(&p[player], player, i % 2);
		let_play(p, (player + 1) % PLAYERS, 1);
	}
	atomic_store(&g->stop, 1);
	for (player = 0; player < PLAYERS; player++)
		assert_int_equal(peer_end(&p[player]), 0);
	assert_int_equal(atomic_load(&g->wrong), 0);
	free_all();
	report(kills);
	assert_int_equal(odp_shm_free(game), 0);
	assert_int_equal(odp_shm_term_global(id), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(instances_go_on_whoever_dies),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
