/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_heap_exchange.c - processes with threads, all at once on one heap, who
 * hand each other their blocks.
 *
 * Blocks change hands in a table in the arena: who takes a word out of it has
 * the block to himself, finds in it what the last one has written, and frees it,
 * changes its size or puts it back. SEED=N repeats the calls of a run, though
 * not how they fell in with each other.
 */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <shmem.h>

#include "peer.h"

/* ThreadSanitizer does not see how processes hand over to each other. */
#if defined(__SANITIZE_THREAD__)
#define PROCESSES 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PROCESSES 1
#endif
#endif
#ifndef PROCESSES
#define PROCESSES 4
#endif
#define THREADS 3 /* of each */
#define STEPS test_steps(UNDER_SANITIZER ? 30000 : 40000)
#define SLOTS 3000
#define HUGE_PAGES 64

/* A block: its length is mant << shift, its address a multiple of 16. */
#define WORD(p, mant, shift)                                                   \
	((uint64_t)(mant) << 48 | (uintptr_t)(p) | (uint64_t)(shift))
#define AT(w) ((unsigned char *)(uintptr_t)((w)&0xfffffffffff0))
#define LEN(w) ((size_t)((w) >> 48) << ((w)&15))

static struct {
	tmc_shmem_t *shm;
	tmc_mspace heap;
	_Atomic uint64_t *slot;
	uint64_t seed;
	int steps, trims; /* whether they trim now and then */
} w;

struct worker {
	uint64_t rng;
};

static uint64_t rnd(struct worker *me)
{
	me->rng ^= me->rng << 13;
	me->rng ^= me->rng >> 7;
	return me->rng ^= me->rng << 17;
}

/* ----- what is in a block: all of a small one, a byte of each page ----- */

static size_t after(size_t i)
{
	return i + (i < 2048 ? 1 : 1021);
}

static unsigned char pattern(uint64_t word, size_t i)
{
	return (unsigned char)((word >> 4) * 0x9d + (word >> 48) + i * 7);
}

static void paint(uint64_t word)
{
	size_t i;

	for (i = 0; i < LEN(word); i = after(i))
		AT(word)[i] = pattern(word, i);
}

static int is_painted(const unsigned char *p, uint64_t word, size_t n)
{
	size_t i;

	for (i = 0; i < n; i = after(i))
		if (p[i] != pattern(word, i))
			return 0;
	return 1;
}

/* ----- calls; -1: not as it must be ----- */

/* In a word with address 0. */
static uint64_t some_length(struct worker *me)
{
	uint64_t r = rnd(me);

	if (r % 256 == 0) /* to 512 KiB */
		return WORD(0, (r >> 8) % 2048, 8);
	if (r % 16 == 0)
		return WORD(0, (r >> 8) % 33000, 0);
	return WORD(0, (r >> 8) % 800, 0);
}

static int is_zero(const unsigned char *p, size_t n)
{
	while (n && !p[n - 1])
		n--;
	return !n;
}

static int make(struct worker *me, uint64_t *word)
{
	size_t n, align = (size_t)16 << rnd(me) % 10;
	unsigned char *p;

	*word = some_length(me);
	n = LEN(*word);
	switch (rnd(me) % 4) {
	case 0:
		p = tmc_mspace_calloc(w.heap, 1, n);
		if (!p || !is_zero(p, n))
			return -1;
		break;
	case 1:
		p = tmc_mspace_memalign(w.heap, align, n);
		if ((uintptr_t)p % align)
			return -1;
		break;
	default:
		p = tmc_mspace_malloc(w.heap, n);
	}
	if (!p || (uintptr_t)p % 16 || tmc_mspace_usable_size(p) < n)
		return -1;
	*word |= (uintptr_t)p;
	paint(*word);
	return 0;
}

static int change(struct worker *me, uint64_t *word)
{
	uint64_t was = *word, now = some_length(me);
	size_t least = LEN(now) < LEN(was) ? LEN(now) : LEN(was);
	unsigned char *p = tmc_mspace_realloc(w.heap, AT(was), LEN(now));

	if (!p || !is_painted(p, was, least))
		return -1;
	*word = now | (uintptr_t)p;
	paint(*word);
	return 0;
}

/* The block of a word that we have to ourselves. */
static int give_back(uint64_t word)
{
	if (!word)
		return 0;
	if (!is_painted(AT(word), word, LEN(word)))
		return -1;
	tmc_mspace_free(AT(word));
	return 0;
}

static _Atomic uint64_t *some_slot(struct worker *me)
{
	return &w.slot[rnd(me) % SLOTS];
}

static int step(struct worker *me)
{
	uint64_t word = atomic_exchange(some_slot(me), 0);
	int bad = 0;

	if (w.trims && rnd(me) % 256 == 0 &&
	    tmc_mspace_trim(w.heap, rnd(me) % 2 * rnd(me) % (4 * MIB)) < 0)
		return -1;
	if (!word) {
		bad = make(me, &word);
	} else if (rnd(me) % 3 == 0) {
		bad = give_back(word);
		word = 0;
	} else if (rnd(me) % 3 == 0) {
		bad = change(me, &word);
	}
	/* To where anybody may find it. */
	if (!bad && word)
		bad = give_back(atomic_exchange(some_slot(me), word));
	return bad;
}

static void *work(void *seed)
{
	struct worker me = { (uintptr_t)seed * 0x9e3779b97f4a7c15u + 1 };
	intptr_t bad = 0;
	int i;

	for (i = 0; i < w.steps && !bad; i++)
		bad = step(&me);
	return (void *)bad;
}

static int process(struct peer *self, void *seed)
{
	pthread_t thread[THREADS];
	uintptr_t i, bad = 0;
	void *result;

	(void)self;
	for (i = 0; i < THREADS; i++)
		PEER_CHECK(!pthread_create(&thread[i], NULL, work,
					   (void *)((uintptr_t)seed + i)));
	for (i = 0; i < THREADS; i++) {
		PEER_CHECK(!pthread_join(thread[i], &result));
		bad |= (uintptr_t)result;
	}
	PEER_CHECK(!bad);
	return 0;
}

/* ----- all of them ----- */

static void all_at_once(uint64_t seed)
{
	struct peer peer[PROCESSES];
	size_t i;

	for (i = 0; i < PROCESSES; i++)
		assert_int_equal(peer_fork(&peer[i], process,
					   (void *)(uintptr_t)(seed * 1000 +
							       i * THREADS)),
				 0);
	for (i = 0; i < PROCESSES; i++)
		assert_int_equal(peer_end(&peer[i]), 0);
}

/* Every other block, by a process that made none of them; then the rest. */
static int free_from(struct peer *self, void *first)
{
	size_t i, step_by = self ? 2 : 1;

	for (i = (uintptr_t)first; i < SLOTS; i += step_by)
		if (give_back(atomic_exchange(&w.slot[i], 0)))
			return 1;
	return 0;
}

static size_t used(void)
{
	size_t n = 1;

	tmc_mspace_statistics(w.heap, NULL, NULL, &n);
	return n;
}

static size_t file_bytes(void)
{
	struct stat st;

	assert_int_equal(fstat(tmc_shmem_fd(w.shm), &st), 0);
	return (size_t)st.st_blocks * 512;
}

static void blocks_that_change_hands_are_whole_and_all_come_back(void **state)
{
	size_t first, full, after_all;
	int round;

	(void)state;
	first = file_bytes();
	for (round = 0; round < 2; round++) {
		all_at_once(w.seed + (uint64_t)round);
		full = file_bytes();
		assert_int_equal(tmc_mspace_check(w.heap), 0);
		assert_int_equal(peer_run(free_from, NULL), 0);
		assert_int_equal(free_from(NULL, NULL), 0);
		assert_int_equal(tmc_mspace_trim(w.heap, 0), 1);
		assert_int_equal(tmc_mspace_check(w.heap), 0);
		assert_int_equal(used(), 0);
		after_all = file_bytes();
		print_message("%zu KiB at first, %zu full, %zu after all\n",
			      first / KIB, full / KIB, after_all / KIB);
		/* Tables of the chunks by which it has grown. */
		assert_in_range(after_all, 0, first + 512 * KIB);
		assert_true(full > after_all + 512 * KIB);
	}
}

static int set_up(void **state)
{
	const char *seed = getenv("SEED");

	w.seed = seed ? strtoull(seed, NULL, 0)
		      : (uint64_t)time(NULL) % 1000000 * 100 +
				 (uint64_t)getpid() % 100;
	print_message("SEED=%ju\n", (uintmax_t)w.seed);
	return test_box_open(state);
}

static int make_heap(void **state)
{
	tmc_alloc_t *alloc = *state;

	w.shm = tmc_shmem_create(box_path("heap"), alloc, NULL, GIB);
	if (!w.shm)
		return -1;
	w.slot = tmc_shmem_grow(w.shm, SLOTS * sizeof(*w.slot));
	w.heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					   tmc_shmem_alloc(w.shm));
	w.steps = alloc ? STEPS / 4 : STEPS;
	w.trims = alloc != NULL;
	return !w.slot || !w.heap;
}

static int drop_heap(void **state)
{
	int rc = 0;

	(void)state;
	if (w.shm) {
		tmc_shmem_close(w.shm);
		w.shm = NULL;
		rc = tmc_shmem_unlink(box_path("heap"));
	}
	box_umount("huge");
	box_pool_end();
	return rc;
}

static void while_all_trim(tmc_alloc_t *alloc)
{
	void *state = alloc;

	assert_int_equal(make_heap(&state), 0);
	all_at_once(w.seed);
	assert_int_equal(tmc_mspace_check(w.heap), 0);
	assert_int_equal(free_from(NULL, NULL), 0);
	assert_true(tmc_mspace_trim(w.heap, 0) >= 0);
	assert_int_equal(tmc_mspace_check(w.heap), 0);
	assert_int_equal(used(), 0);
}

static void all_of_it_holds_while_they_trim(void **state)
{
	tmc_alloc_t alloc = TMC_ALLOC_INIT;

	(void)state;
	while_all_trim(&alloc);
}

static void and_without_populate(void **state)
{
	tmc_alloc_t alloc = TMC_ALLOC_INIT;

	(void)state;
	while_all_trim(tmc_alloc_clear_populate(&alloc));
}

static void and_with_huge_pages(void **state)
{
	size_t huge = tmc_alloc_get_huge_pagesize();
	tmc_alloc_t alloc = TMC_ALLOC_INIT;

	(void)state;
	if (!huge || box_pool(huge, HUGE_PAGES) < HUGE_PAGES ||
	    box_hugetlbfs("huge", huge, "")) {
		print_message("no huge pages\n");
		skip();
	}
	while_all_trim(tmc_alloc_set_huge(&alloc));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			blocks_that_change_hands_are_whole_and_all_come_back,
			make_heap, drop_heap),
		cmocka_unit_test_teardown(all_of_it_holds_while_they_trim,
					  drop_heap),
		cmocka_unit_test_teardown(and_without_populate, drop_heap),
		cmocka_unit_test_teardown(and_with_huge_pages, drop_heap),
	};

	return cmocka_run_group_tests(tests, set_up, test_box_close);
}
