/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_heap_large.c - large blocks and runs: what a death, a shortage, or
 * somebody who writes into the heap's own words, leaves behind.
 */
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <shmem.h>

#include "peer.h"
#include "span.h"

static tmc_shmem_t *shm;
static tmc_mspace heap;

static int make_heap(void **state)
{
	(void)state;
	shm = tmc_shmem_create(box_path("large"), NULL, NULL, GIB);
	heap = tmc_mspace_create_special(8 * MIB, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	return !heap;
}

static int drop_heap(void **state)
{
	(void)state;
	tmc_shmem_close(shm);
	return tmc_shmem_unlink(box_path("large"));
}

/* ----- heads that somebody overwrites ----- */

static int ask_its_size(struct peer *self, void *p)
{
	PEER_CHECK(self);
	tmc_mspace_usable_size(p);
	return 0;
}

static int enlarge(struct peer *self, void *p)
{
	PEER_CHECK(self);
	(void)!tmc_mspace_realloc(heap, p, 900 * MIB);
	return 0;
}

/* realloc would copy what lies behind the arena. */
static void a_length_beyond_the_arena_is_told(void **state)
{
	char *p = tmc_mspace_malloc(heap, MIB), text[1000];

	(void)state;
	assert_non_null(p);
	heap_run_of(p)->len = (uint64_t)1 << 40;
	assert_int_equal(peer_run_said(ask_its_size, p, text, sizeof(text)),
			 128 + SIGABRT);
	assert_non_null(strstr(text, "head of a block overwritten"));
	assert_int_equal(peer_run_said(enlarge, p, text, sizeof(text)),
			 128 + SIGABRT);
	assert_non_null(strstr(text, "head of a block overwritten"));
}

/* Says so when it begins; until it is killed. */
static int overwrite_block(struct peer *self, void *run)
{
	volatile uint64_t *at = &((struct heap_run *)run)->block;

	PEER_CHECK(!peer_put(self, 0));
	for (;;)
		*at = (uintptr_t)MAP_FAILED;
	return 0;
}

/* The head's word of where the block is may say anything by then. */
static void a_block_is_where_the_heap_put_it(void **state)
{
	char *p = tmc_mspace_malloc(heap, 4 * MIB), *q;
	struct peer peer;
	uint64_t word;
	size_t i;

	(void)state;
	assert_non_null(p);
	tmc_mspace_free(p);
	assert_int_equal(peer_fork(&peer, overwrite_block, heap_run_of(p)), 0);
	assert_int_equal(peer_get(&peer, &word), 0);
	for (i = 0; i < 50; i++) {
		q = tmc_mspace_malloc(heap, 4 * MIB);
		assert_ptr_equal(q, p);
		/* Gives it back, since its head is none to be freed by. */
		heap_run_of(q)->owner = shmi_thread_last->owner;
		shmi_run_give(shmi_thread_last->hp, heap_run_of(q), false,
			      false);
	}
	peer_kill(&peer);
}

/* ----- memory that the caller gave ----- */

static void what_the_caller_gave_stays_there_after_destroy(void **state)
{
	char *given = tmc_shmem_grow(shm, MIB);
	size_t size = tmc_shmem_current_size(shm);
	tmc_mspace inner;

	(void)state;
	assert_non_null(given);
	inner = tmc_mspace_create_with_base(given, MIB, 0);
	assert_non_null(inner);
	assert_non_null(tmc_mspace_malloc(inner, 300 * KIB));
	assert_true(tmc_mspace_destroy(inner) > 0);
	assert_int_equal(tmc_shmem_current_size(shm), size);
	memset(given, 7, MIB);
	inner = tmc_mspace_create_with_base(given, MIB, 0);
	assert_non_null(inner);
	assert_true(tmc_mspace_destroy(inner) > 0);
	assert_int_equal(tmc_shmem_current_size(shm), size);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_heap, drop_heap)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_block_is_where_the_heap_put_it),
		TEST(a_length_beyond_the_arena_is_told),
		TEST(what_the_caller_gave_stays_there_after_destroy),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
