/* SPDX-License-Identifier: BSD-3-Clause */
/* test_mspace_chunk.c - the chunks of a heap: forged, torn, and how many. */
#include "test.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

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

/* ----- another thread in the heap at a fork ----- */

#define RUN (20 * HEAP_SLICE - 1152) /* a block that fills 20 slices */

/*
 * Two free runs that are being joined, as a fork finds them: the first word has
 * the length of both, the second is still there.
 */
static char *be_joining(tmc_mspace private)
{
	char *behind;
	struct heap_hdr *h = private;
	_Atomic uint32_t *table = (void *)(h + 1);
	char *a = tmc_mspace_malloc(private, RUN);
	char *b = tmc_mspace_malloc(private, RUN);
	size_t i = ((uintptr_t)a - (uintptr_t)h) / HEAP_SLICE;
	size_t k = ((uintptr_t)b - (uintptr_t)h) / HEAP_SLICE;
	uint32_t word;

	behind = tmc_mspace_malloc(private, RUN);
	assert_non_null(behind);
	assert_true(i < k && k < h->chunk[0].nslices);
	assert_int_equal(table[i] & HEAP_COUNT, 20);
	tmc_mspace_free(a);
	word = table[i];
	tmc_mspace_free(b);
	tmc_mspace_trim(private, 0);
	assert_int_equal(table[i] & HEAP_COUNT, 40);
	assert_int_equal(table[k], 0);
	assert_false(word & HEAP_USED);
	table[k] = word;
	return behind;
}

struct joined {
	tmc_mspace heap;
	char *behind;
};

/* What is freed behind its block seems to have a free run before it. */
static int use_the_joined(struct peer *self, void *arg)
{
	const struct joined *j = arg;
	size_t n = RUN + 20 * HEAP_SLICE, i;
	char *p = tmc_mspace_malloc(j->heap, n);

	PEER_CHECK(self && p && p < j->behind && j->behind < p + n + 4096);
	memset(p, 7, n);
	tmc_mspace_free(j->behind);
	tmc_mspace_trim(j->heap, 0);
	for (i = 0; i < n; i++)
		PEER_CHECK(p[i] == 7);
	tmc_mspace_free(p);
	PEER_CHECK(!tmc_mspace_check(j->heap));
	return 0;
}

static void a_private_heap_is_repaired_in_a_child(void **state)
{
	struct joined j = { .heap = tmc_mspace_create(16 * MIB,
						      TMC_MSPACE_LOCKED) };

	(void)state;
	assert_non_null(j.heap);
	j.behind = be_joining(j.heap);
	assert_int_equal(peer_run(use_the_joined, &j), 0);
}

static int grow_to(struct peer *self, void *len)
{
	PEER_CHECK(self && tmc_mspace_malloc(heap, *(size_t *)len));
	return 0;
}

static int use_it(struct peer *self, void *arg)
{
	PEER_CHECK(self && !arg && nothing_is_lost());
	PEER_CHECK(tmc_mspace_malloc(heap, 100 * KIB));
	PEER_CHECK(tmc_mspace_malloc(heap, 10 * MIB));
	PEER_CHECK(nothing_is_lost());
	return 0;
}

/* As if a thread had come to its last store but those behind it. */
static void be_copying(struct shmi_heap *hp)
{
	struct heap_hdr *h = heap;

	assert_int_equal(h->nchunks, 2);
	hp->chunk[1].start = h->chunk[1].start;
	hp->chunk[1].table = (void *)(uintptr_t)hp->chunk[1].start;
	hp->chunk[1].nslices = h->chunk[1].nslices;
	hp->chunk[1].nhead = 0;
}

static void half_a_copy_of_chunks_is_made_anew_in_a_child(void **state)
{
	size_t len = 20 * MIB;
	struct shmi_heap *hp;

	(void)state;
	assert_non_null(tmc_mspace_malloc(heap, 1));
	assert_int_equal(shmi_heap_get(heap, &hp), 0);
	assert_int_equal(hp->nchunks, 1);
	assert_int_equal(peer_run(grow_to, &len), 0);
	assert_int_equal(hp->nchunks, 1);
	be_copying(hp);
	assert_int_equal(peer_run(use_it, NULL), 0);
}

/* In the place of another, which has been cut off. */
static void half_a_copy_of_another_chunk_is_made_anew(void **state)
{
	size_t len = 20 * MIB;
	struct shmi_heap *hp;
	struct heap_hdr *h = heap;
	uint32_t before;

	(void)state;
	tmc_mspace_free(tmc_mspace_malloc(heap, 10 * MIB));
	assert_int_equal(shmi_heap_get(heap, &hp), 0);
	assert_int_equal(hp->nchunks, 2);
	before = h->chunk[1].nslices;
	assert_int_equal(tmc_mspace_trim(heap, 0), 1);
	assert_int_equal(hp->nchunks, 1);
	assert_int_equal(peer_run(grow_to, &len), 0);
	assert_true(h->chunk[1].nslices > before);
	hp->nchunks = 2;
	be_copying(hp);
	assert_int_equal(peer_run(use_it, NULL), 0);
}

/* ----- how many ----- */

/* Bytes that it got in blocks of @n, at most @most. */
static size_t take(size_t n, size_t most)
{
	size_t got = 0;

	while (got < most && tmc_mspace_malloc(heap, n))
		got += n;
	return got;
}

static size_t chunks(void)
{
	return ((struct heap_hdr *)heap)->nchunks;
}

static size_t memory(void)
{
	struct stat st;

	return fstat(tmc_shmem_fd(shm), &st) ? 0 : (size_t)st.st_blocks * 512;
}

/* A sanitizer has memory of its own for each block of them. */
static void need_no_sanitizer(void)
{
	if (!UNDER_SANITIZER)
		return;
	print_message("a sanitizer would take more memory than there is\n");
	skip();
}

/* Of each block only the head is touched. */
static void a_heap_is_as_large_as_its_arena(void **state)
{
	size_t max = tmc_shmem_maximum_size(shm), got;

	(void)state;
	need_no_sanitizer();
	got = take(7 * MIB, SIZE_MAX);
	assert_int_equal(errno, ENOMEM);
	assert_true(got > max / 100 * 95);
	got += take(500 * KIB, SIZE_MAX);
	assert_true(got > max / 100 * 98);
	assert_true(tmc_shmem_current_size(shm) > max - 2 * MIB);
	assert_in_range(chunks(), 20, 150);
	assert_true(memory() < 100 * MIB);
	assert_int_equal(tmc_mspace_check(heap), 0);
}

/* Far beyond what an arena has: the number of chunks must not grow with it. */
static void a_heap_may_be_larger_than_any_arena(void **state)
{
	tmc_alloc_t lazy = TMC_ALLOC_INIT;
	tmc_shmem_t *first = shm;
	tmc_mspace small = heap;

	(void)state;
	need_no_sanitizer();
	tmc_alloc_clear_populate(&lazy);
	shm = tmc_shmem_create(box_path("large"), &lazy, NULL, 2048 * GIB);
	if (!shm) {
		print_message("no arena of 2 TiB: %s\n", strerror(errno));
		shm = first;
		skip();
	}
	heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	assert_non_null(heap);
	assert_true(take(300 * MIB, 1900 * GIB) >= 1900 * GIB);
	assert_in_range(chunks(), 20, 250);
	/* A 16,384th is the tables. */
	assert_true(memory() < 200 * MIB);
	assert_int_equal(tmc_mspace_check(heap), 0);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("large")), 0);
	shm = first;
	heap = small;
}

/* How many slices a private heap that seems to have 16 GiB grows by. */
static uint32_t grows_by(bool populated)
{
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	struct shmi_heap *hp;
	struct heap_hdr *h;
	uint32_t n;

	if (populated)
		tmc_alloc_set_populate(&alloc);
	else
		tmc_alloc_clear_populate(&alloc);
	h = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED, &alloc);
	assert_non_null(h);
	assert_int_equal(shmi_heap_get(h, &hp), 0);
	hp->nslices = 16 * GIB / HEAP_SLICE;
	assert_non_null(tmc_mspace_malloc(h, MIB));
	assert_int_equal(h->nchunks, 2);
	n = h->chunk[1].nslices;
	tmc_mspace_destroy(h);
	return n;
}

static void a_chunk_that_is_made_present_stays_small(void **state)
{
	(void)state;
	assert_int_equal(grows_by(false), GIB / HEAP_SLICE);
	assert_int_equal(grows_by(true), 64 * MIB / HEAP_SLICE);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_heap, drop_heap)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_chunk_outside_of_the_arena_is_refused),
		TEST(a_chunk_that_could_not_be_cut_off_stays),
		TEST(a_private_heap_is_repaired_in_a_child),
		TEST(half_a_copy_of_chunks_is_made_anew_in_a_child),
		TEST(half_a_copy_of_another_chunk_is_made_anew),
		TEST(a_heap_is_as_large_as_its_arena),
		TEST(a_heap_may_be_larger_than_any_arena),
		TEST(a_chunk_that_is_made_present_stays_small),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
