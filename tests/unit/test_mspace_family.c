/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_mspace_family.c - heaps over shared memory that is no arena's, for a
 * process and those that it forks, some of which are killed.
 */
#include "test.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include <shmem.h>

#include "peer.h"
#include "probe.h"

#define SLOTS 300
#define CHILDREN 4u
#define TURNS ((uint64_t)test_steps(20000))

struct block {
	size_t len;
	unsigned char bytes[];
};

/* In the heap, which has no root of its own: known by address. */
static struct table {
	tmc_mspace heap;
	_Atomic(struct block *) slot[SLOTS];
	_Atomic uint64_t turns[CHILDREN];
} * table;

static tmc_mspace create(size_t capacity, unsigned int flags)
{
	tmc_alloc_t shared = TMC_ALLOC_INIT;

	return tmc_mspace_create_special(capacity, flags,
					 tmc_alloc_set_shared(&shared));
}

static size_t used(tmc_mspace heap)
{
	size_t n = 1;

	tmc_mspace_statistics(heap, NULL, NULL, &n);
	return n;
}

static int give(struct block *b)
{
	size_t i;

	for (i = 0; b && i < b->len; i++)
		if (b->bytes[i] != (unsigned char)b->len)
			return 1;
	tmc_mspace_free(b);
	return 0;
}

static int exchange(uint64_t *rng)
{
	size_t i = (*rng >> 33) % SLOTS, n;
	struct block *b;

	*rng = *rng * 6364136223846793005u + 1442695040888963407u;
	n = *rng >> 40;
	n = n % 50 ? n % 2000 : n % 100000;
	b = tmc_mspace_malloc(table->heap, sizeof(*b) + n);
	if (!b)
		return 1;
	b->len = n;
	memset(b->bytes, (int)n, n);
	return give(atomic_exchange(&table->slot[i], b));
}

static int play(struct peer *self, void *number)
{
	uint64_t rng = (uintptr_t)number * 77 + 1;
	_Atomic uint64_t *turns = &table->turns[(uintptr_t)number];

	PEER_CHECK(self);
	while (atomic_fetch_add(turns, 1) < TURNS)
		PEER_CHECK(!exchange(&rng));
	return 0;
}

static void a_family_shares_a_heap_and_some_die(void **state)
{
	struct peer peer[CHILDREN];
	uint64_t rng = 99;
	uintptr_t i;
	tmc_mspace heap = create(0, TMC_MSPACE_LOCKED);

	(void)state;
	assert_non_null(heap);
	table = tmc_mspace_calloc(heap, 1, sizeof(*table));
	assert_non_null(table);
	table->heap = heap;
	for (i = 0; i < 1000; i++) /* we own spans when they are forked */
		assert_int_equal(exchange(&rng), 0);
	for (i = 0; i < CHILDREN; i++)
		assert_int_equal(peer_fork(&peer[i], play, (void *)i), 0);
	while (atomic_load(&table->turns[0]) < TURNS / 4)
		assert_int_equal(exchange(&rng), 0);
	peer_kill(&peer[0]);
	while (atomic_load(&table->turns[1]) < TURNS / 2)
		assert_int_equal(exchange(&rng), 0);
	peer_kill(&peer[1]);
	for (i = 2; i < CHILDREN; i++)
		assert_int_equal(peer_end(&peer[i]), 0);
	assert_int_equal(tmc_mspace_check(heap), 0);
	for (i = 0; i < SLOTS; i++)
		assert_int_equal(give(atomic_exchange(&table->slot[i], NULL)),
				 0);
	tmc_mspace_free(table);
	assert_int_equal(tmc_mspace_trim(heap, 0), 1);
	/* Two at most in the hands of each that died. */
	assert_in_range(used(heap), 0, 4 * 102 * KIB);
	assert_int_equal(tmc_mspace_check(heap), 0);
	assert_true(tmc_mspace_destroy(heap) > 0);
}

static int write_and_take(struct peer *self, void *text)
{
	char *mine, *theirs = text;

	PEER_CHECK(!strcmp(theirs, "of the parent"));
	strcpy(theirs, "of the child");
	mine = tmc_mspace_malloc(table->heap, 100);
	PEER_CHECK(mine);
	strcpy(mine, "left");
	PEER_CHECK(!peer_put(self, (uintptr_t)mine));
	return 0;
}

/* Whatever the flags say: a thread's own heap costs no more. */
static void blocks_are_seen_by_all_of_the_family(void **state)
{
	static struct table here;
	tmc_mspace heap = create(MIB, TMC_MSPACE_NOGROW);
	char *text = tmc_mspace_malloc(heap, 100), *left;
	struct peer peer;
	uint64_t word;

	(void)state;
	assert_non_null(text);
	here.heap = heap;
	table = &here;
	strcpy(text, "of the parent");
	assert_int_equal(peer_fork(&peer, write_and_take, text), 0);
	assert_int_equal(peer_get(&peer, &word), 0);
	left = (char *)(uintptr_t)word;
	assert_int_equal(peer_end(&peer), 0);
	assert_string_equal(text, "of the child");
	assert_string_equal(left, "left");
	tmc_mspace_free(left);
	tmc_mspace_free(text);
	assert_null_errno(tmc_mspace_malloc(heap, 2 * MIB), ENOMEM);
	assert_non_null(tmc_mspace_malloc(heap, 900 * KIB));
	assert_true(tmc_mspace_destroy(heap) > 0);
}

static void destroy_leaves_nothing(void **state)
{
	size_t fds = probe_fds(), maps, i;
	tmc_mspace heap;

	(void)state;
	maps = 0;
	for (i = 0; i < 5; i++) {
		heap = create(0, 0);
		assert_non_null(heap);
		assert_non_null(tmc_mspace_malloc(heap, MIB));
		assert_true(tmc_mspace_destroy(heap) > 0);
		assert_int_equal(tmc_mspace_destroy(heap), 0);
		assert_int_equal(probe_fds(), fds);
		if (!i)
			maps = probe_maps();
		if (!UNDER_SANITIZER) /* which has maps of its own */
			assert_in_range(probe_maps(), 0, maps);
	}
	assert_null_errno(create(0, 8), EINVAL);
	assert_null_errno(create(SIZE_MAX, 0), ENOMEM);
	assert_null_errno(create(SIZE_MAX / 8, 0), ENOMEM);
	assert_int_equal(probe_fds(), fds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_family_shares_a_heap_and_some_die),
		cmocka_unit_test(blocks_are_seen_by_all_of_the_family),
		cmocka_unit_test(destroy_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
