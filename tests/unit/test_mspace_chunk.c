/* SPDX-License-Identifier: BSD-3-Clause */
/* test_mspace_chunk.c - the chunks of a heap: forged, torn, and how many. */
#include "test.h"

#include <errno.h>
#include <string.h>

#include <shmem.h>

#include "heap.h"
#include "kernel.h"
#include "peer.h"

static tmc_shmem_t *shm;
static tmc_mspace heap;

static int make_heap(void **state)
{
	tmc_alloc_t lazy = TMC_ALLOC_INIT;

	(void)state;
	tmc_alloc_clear_populate(&lazy);
	shm = tmc_shmem_create(box_path("chunk"), &lazy, NULL, 40 * GIB);
	heap = tmc_mspace_create_special(MIB, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	return !heap;
}

static int drop_heap(void **state)
{
	(void)state;
	tmc_shmem_close(shm);
	return tmc_shmem_unlink(box_path("chunk"));
}

/* ----- forged ones ----- */

/* A range that another process can say is the heap's second chunk. */
struct range {
	uint64_t off, len; /* in the arena */
};

static int forge_and_call(struct peer *self, void *arg)
{
	const struct range *r = arg;
	uint64_t base = (uintptr_t)tmc_shmem_address(shm);
	uint64_t n = r->len / HEAP_SLICE;
	struct heap_hdr *h = heap;

	PEER_CHECK(self);
	h->chunk[1].start = base + r->off;
	h->chunk[1].nslices = (uint32_t)n;
	h->chunk[1].nhead = (uint32_t)heap_slices(n * sizeof(uint32_t));
	h->nchunks = 2;
	h->gen++;
	errno = 0;
	PEER_CHECK(!tmc_mspace_malloc(heap, 100 * KIB));
	PEER_CHECK(errno == EUCLEAN);
	return 0;
}

static void a_chunk_outside_of_the_arena_is_refused(void **state)
{
	uint64_t size = tmc_shmem_current_size(shm), i;
	uint64_t max = tmc_shmem_maximum_size(shm);
	const struct range ranges[] = {
		{ size, MIB },
		{ size, HEAP_SLICE },
		{ size - HEAP_SLICE, 2 * HEAP_SLICE },
		{ size + MIB, MIB },
		{ size + MIB, 8 * GIB },
		{ max - HEAP_SLICE, HEAP_SLICE },
		{ max - HEAP_SLICE, 2 * GIB },
		{ max, MIB },
		{ 0 - HEAP_SLICE, 2 * HEAP_SLICE },
		{ 0 - HEAP_SLICE, HEAP_SLICE },
		{ 0, size + HEAP_SLICE },
	};

	(void)state;
	assert_int_equal(size % HEAP_SLICE, 0);
	for (i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		assert_int_equal(peer_run(forge_and_call, (void *)&ranges[i]),
				 0);
}

/* ----- a cut that fails ----- */

/* The arena grows and shrinks by this heap alone. */
static int nothing_is_lost(void)
{
	size_t n;

	tmc_mspace_statistics(heap, NULL, &n, NULL);
	return n == tmc_shmem_current_size(shm) && !tmc_mspace_check(heap);
}

static void a_chunk_that_could_not_be_cut_off_stays(void **state)
{
	int failed = 1;
	unsigned long n;
	char *p;

	(void)state;
	for (n = 1; failed; n++) {
		p = tmc_mspace_malloc(heap, 20 * MIB);
		assert_non_null(p);
		tmc_mspace_free(p);
		kernel_fail(n, EIO);
		tmc_mspace_trim(heap, 0);
		failed = kernel_failed();
		kernel_fail(0, 0);
		assert_true(nothing_is_lost());
		assert_in_range(tmc_shmem_current_size(shm), MIB, 30 * MIB);
	}
	assert_true(n > 2);
	assert_true(tmc_shmem_current_size(shm) < 20 * MIB);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_heap, drop_heap)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_chunk_outside_of_the_arena_is_refused),
		TEST(a_chunk_that_could_not_be_cut_off_stays),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
