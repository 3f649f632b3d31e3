/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_mspace_misuse.c - what a heap says when it is misused, word by word: the
 * heap, what is wrong and where, in one line; and then it aborts.
 */
#include "test.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shmem.h>

#include "heap.h"
#include "peer.h"
#include "poison.h"

static tmc_shmem_t *shm;
static tmc_mspace heap;
static char *others;	 /* a block of the parent's, in use */
static char *more[4][3]; /* and more of that size, for who frees them */
static char *page;	 /* of the arena, and of no heap */
static void **where;	 /* in the heap: what the message must name */

/* Populated, and too large to save pages: what it keeps is given as it was. */
static int make_heap(void **state)
{
	int i;

	(void)state;
	shm = tmc_shmem_create(box_path("misuse"), NULL, NULL, GIB);
	heap = tmc_mspace_create_special(8 * MIB, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	others = tmc_mspace_malloc(heap, 500);
	for (i = 0; i < 12; i++)
		more[i / 3][i % 3] = tmc_mspace_malloc(heap, 500);
	page = tmc_shmem_grow(shm, 256 * KIB);
	where = tmc_mspace_malloc(heap, sizeof(*where));
	return !others || !more[3][2] || !page || !where;
}

static int drop_heap(void **state)
{
	(void)state;
	tmc_shmem_close(shm);
	return tmc_shmem_unlink(box_path("misuse"));
}

/* What the message is to name: known before the call that ends us. */
static void *names(void *at)
{
	*where = at;
	return at;
}

static char *take(size_t n)
{
	return tmc_mspace_malloc(heap, n);
}

/* Free blocks are poisoned where AddressSanitizer is. */
SHMI_MAY_TOUCH
static void overwrite_with(char *p, const void *with, size_t n)
{
	volatile char *at = p;
	size_t i;

	for (i = 0; i < n; i++)
		at[i] = ((const char *)with)[i];
}

static void twice(void)
{
	char *p = take(100);

	tmc_mspace_free(p);
	tmc_mspace_free(names(p));
}

static void twice_not_the_last_one(void)
{
	char *p = take(100), *q = take(100);

	tmc_mspace_free(p);
	tmc_mspace_free(q);
	tmc_mspace_free(names(p));
}

static void twice_of_another_process(void)
{
	tmc_mspace_free(others);
	tmc_mspace_free(names(others));
}

/* What free blocks' words are exclusive-or. */
static uint64_t secret(void)
{
	return ((struct heap_hdr *)heap)->secret & ~(HEAP_SLICE - 1);
}

/*
 * What a correct program may do: in a block that it never wrote there are
 * words of free blocks that were there before, and it moves them to the start.
 */
static void move_what_was_there(char *p, size_t n)
{
	uint64_t word;
	size_t i;

	for (i = 16; i < n; i += 16) {
		memcpy(&word, p + i, sizeof(word));
		if (!((word ^ secret()) >> 48))
			break;
	}
	if (i < n)
		memmove(p, p + i, n - i);
	else
		tmc_mspace_free(names(p + 1)); /* the test is none */
}

#define SMALL 2000

/* A large block where small ones were; the span's pages were kept. */
static char *where_small_ones_were(void)
{
	static char *small[SMALL];
	size_t i;
	char *p;

	for (i = 0; i < SMALL; i++)
		small[i] = take(16);
	for (i = 0; i < SMALL; i++)
		tmc_mspace_free(small[i]);
	tmc_mspace_trim(heap, MIB);
	p = take(1024);
	move_what_was_there(p, 1024);
	return p;
}

static void *free_it(void *p)
{
	tmc_mspace_free(p);
	return NULL;
}

static void freed_by(char *p, int another)
{
	pthread_t t;

	if (!another)
		tmc_mspace_free(p);
	else if (!pthread_create(&t, NULL, free_it, p))
		pthread_join(t, NULL);
}

/* Each of the ways that a block goes, and then once more. */
static void twice_where_small_ones_were(void)
{
	char *p = where_small_ones_were();

	tmc_mspace_free(p);
	tmc_mspace_free(names(p));
}

static void twice_and_one_in_between(void)
{
	char *p = take(3000), *q = take(3000), *r = take(3000);

	tmc_mspace_free(p);
	freed_by(q, 1);
	freed_by(names(r), 1);
	freed_by(r, 1);
}

static void twice_by_two_threads(void)
{
	char *p = take(3000);

	freed_by(names(p), 0);
	freed_by(p, 1);
}

/* Has a span of its own, and knows the parent's after the first one. */
static void keep_strays(char *const *block)
{
	take(500);
	tmc_mspace_free(block[0]);
	tmc_mspace_free(block[1]);
	tmc_mspace_free(block[2]);
}

static void twice_a_stray(void)
{
	keep_strays(more[0]);
	tmc_mspace_free(names(more[0][1]));
}

static void *keep_and_wait(void *both)
{
	keep_strays(more[1]);
	pthread_barrier_wait(both);
	pthread_barrier_wait(both); /* never */
	return NULL;
}

static void twice_a_stray_of_another_thread(void)
{
	pthread_barrier_t both;
	pthread_t t;

	names(more[1][1]);
	pthread_barrier_init(&both, NULL, 2);
	if (pthread_create(&t, NULL, keep_and_wait, &both))
		return;
	pthread_barrier_wait(&both);
	tmc_mspace_free(more[1][1]);
}

static int keeps_and_waits(struct peer *self, void *arg)
{
	uint64_t word;

	(void)arg;
	keep_strays(more[2]);
	PEER_CHECK(!peer_put(self, 0));
	PEER_CHECK(peer_get(self, &word)); /* until we are gone */
	return 0;
}

static void twice_a_stray_of_another_process(void)
{
	struct peer p;
	uint64_t word;

	names(more[2][1]);
	if (!peer_fork(&p, keeps_and_waits, NULL) && !peer_get(&p, &word))
		tmc_mspace_free(more[2][1]);
}

static void twice_a_stray_that_came_home(void)
{
	keep_strays(more[3]);
	tmc_mspace_trim(heap, 0);
	tmc_mspace_free(names(more[3][1]));
}

static void twice_large(void)
{
	char *p = take(100 * KIB);

	tmc_mspace_free(p);
	p = take(100 * KIB); /* is held when it is freed */
	tmc_mspace_free(p);
	tmc_mspace_free(names(p));
}

static void twice_in_realloc(void)
{
	char *p = take(100);

	tmc_mspace_free(p);
	(void)!tmc_mspace_realloc(heap, names(p), 5000);
}

static void inside(void)
{
	tmc_mspace_free(names(take(100) + 16));
}

static void inside_unaligned(void)
{
	tmc_mspace_free(names(take(100) + 1));
}

static void inside_large(void)
{
	tmc_mspace_free(names(take(MIB) + 4096));
}

static void inside_large_further_on(void)
{
	tmc_mspace_free(names(take(MIB) + 512 * KIB));
}

static void inside_and_its_size(void)
{
	tmc_mspace_usable_size(names(take(100) + 16));
}

static void inside_and_realloc(void)
{
	(void)!tmc_mspace_realloc(heap, names(take(100) + 16), 200);
}

/* The heap is the one that we used last, as it is for the common free. */
static void inside_of_another_process(void)
{
	take(100);
	tmc_mspace_free(names(others + 16));
}

static void twice_of_another_process_we_know(void)
{
	take(100);
	tmc_mspace_free(names(others));
	tmc_mspace_free(others);
}

/* In a span, behind all blocks of it that there have been. */
static void never_a_block(void)
{
	char *p = take(1024);

	tmc_mspace_free(names(p + 32 * 1024));
}

static void never_a_block_of_another_process(void)
{
	take(100);
	tmc_mspace_free(names(others + 64 * 512));
}

/* Where blocks could be, and none has been. */
static void hole(void)
{
	tmc_mspace_free(names((char *)heap + 15 * 64 * KIB + 4096));
}

/* Where one was; too large to be held. */
static void hole_that_was_a_block(void)
{
	char *p = take(1500 * KIB), *q = take(1500 * KIB);

	tmc_mspace_free(p);
	names(q);
	tmc_mspace_free(q);
	tmc_mspace_free(q);
}

static void *take_and_free(void *arg)
{
	char *p = take(3000);

	tmc_mspace_free(p);
	*(char **)arg = p;
	return NULL;
}

/* Its thread gave the span back when it ended. */
static void gone_with_its_thread(void)
{
	pthread_t t;
	char *p = NULL;

	take(100);
	if (!pthread_create(&t, NULL, take_and_free, &p))
		pthread_join(t, NULL);
	tmc_mspace_free(names(p));
}

static void closed(void)
{
	char *p = take(100);

	names(p);
	tmc_shmem_close(shm);
	tmc_mspace_free(p);
}

static void no_heaps(void)
{
	tmc_mspace_free(names(page + 100 * KIB));
}

static void of_the_c_library(void)
{
	static char *p;

	p = malloc(100);
	tmc_mspace_free(names(p));
}

static void of_nobody(void)
{
	tmc_mspace_free(names((void *)4096));
}

/* Into the next one, which is free. */
static void beyond_the_end(void)
{
	char *p = take(100), *q = take(100), text[120];

	while (q != p + tmc_mspace_usable_size(p)) {
		p = q; /* two in a row */
		q = take(100);
	}
	tmc_mspace_free(q);
	memset(text, 'x', sizeof(text));
	overwrite_with(p, text, 120);
	names(q);
	(void)!take(100);
	(void)!take(100);
}

/* ----- words of the heap's own that somebody has overwritten ----- */

/* Fills several spans; the first ones are full then. */
static char *first_of_many(void)
{
	char *p = take(1000);
	int i;

	for (i = 0; i < 2000; i++)
		(void)!take(1000);
	return p;
}

static void place(uint32_t place)
{
	char *p = first_of_many();
	struct heap_run *r = names(heap_run_of(p));

	r->place = place;
	tmc_mspace_free(p);
}

static void place_that_is_none(void)
{
	place(UINT32_MAX / 2);
}

static void place_of_another(void)
{
	place(heap_run_of(first_of_many())->place);
}

/* The word of a run that is in use, in its chunk's table: how long it is,
 * counted from its place or from the chunk's end. */
static void table_word(uint32_t n, int from_end)
{
	struct heap_hdr *h = heap;
	char *p = take(100 * KIB);
	size_t i = ((uintptr_t)p - (uintptr_t)h) / HEAP_SLICE;
	_Atomic uint32_t *table = (void *)(h + 1);

	if (i >= h->chunk[0].nslices)
		return;
	names(&table[i]);
	table[i] = HEAP_USED |
		   (from_end ? h->chunk[0].nslices - (uint32_t)i + n : n);
	tmc_mspace_trim(heap, 0);
}

static void run_beyond_its_chunk(void)
{
	table_word(1000, 0);
}

static void run_of_no_length(void)
{
	table_word(0, 0);
}

static void run_just_beyond_its_chunk(void)
{
	table_word(1, 1);
}

static void list_beyond_the_arena(void)
{
	char *p = take(100);
	uint64_t word = secret() ^ (uintptr_t)names(page + 256 * KIB);

	tmc_mspace_free(p);
	overwrite_with(p, &word, sizeof(word));
	if (take(100) == p)
		(void)!take(100);
}

/* free() has to look along a list that leads nowhere: it goes on, and the next
 * malloc tells. */
static void list_that_free_finds_damaged(void)
{
	char *p = take(3000), *q = take(3000);
	uint64_t key = secret();

	tmc_mspace_free(names(p));
	overwrite_with(p, "damaged!", 8);
	memcpy(q, &key, sizeof(key));
	tmc_mspace_free(q);
	if (take(3000) == q)
		(void)!take(3000);
}

/* A list whose first block would begin in the arena's last 16 bytes, and what
 * the library itself writes is more. */
static char *hang_out(size_t n)
{
	char *p = take(n);
	struct heap_run *r = heap_run_of(p);
	uint64_t key = secret();
	char *last = page + 256 * KIB - 16;

	overwrite_with(names(last), &key, sizeof(key));
	r->state = (uint64_t)(uintptr_t)last << SPAN_LIST_SHIFT |
		   (uint16_t)r->state;
	return p;
}

/* All is as it must be, but for where it is. */
static void list_of_what_is_not_aligned(void)
{
	char *p = take(100);
	struct heap_run *r = heap_run_of(p);
	uint64_t key = secret();

	overwrite_with(names(p + 8), &key, sizeof(key));
	r->state = (uint64_t)(uintptr_t)(p + 8) << SPAN_LIST_SHIFT |
		   (uint16_t)r->state;
	(void)!take(100);
}

static void calloc_of_a_block_that_hangs_out(void)
{
	hang_out(1000);
	(void)!tmc_mspace_calloc(heap, 1, 1000);
}

static void realloc_to_a_block_that_hangs_out(void)
{
	char *p = take(5000);

	hang_out(1000);
	(void)!tmc_mspace_realloc(heap, p, 1000);
}

static void memalign_in_a_block_that_hangs_out(void)
{
	hang_out(1000);
	(void)!tmc_mspace_memalign(heap, 512, 500);
}

#define ONE_OF(f, what)                                                        \
	{                                                                      \
#f, f, "libshmem: heap %p: " what " at %p\n", 1                \
	}
#define OF_NONE(f, what)                                                       \
	{                                                                      \
#f, f, "libshmem: heap %p: " what " at %p\n", 0                \
	}

static const struct misuse {
	const char *name;
	void (*call)(void);
	const char *format;
	int ours; /* the heap is known */
} misuses[] = {
	ONE_OF(twice, "block freed twice"),
	ONE_OF(twice_not_the_last_one, "block freed twice"),
	ONE_OF(twice_of_another_process, "block freed twice"),
	ONE_OF(twice_where_small_ones_were, "block freed twice"),
	ONE_OF(twice_and_one_in_between, "block freed twice"),
	ONE_OF(twice_by_two_threads, "block freed twice"),
	ONE_OF(twice_large, "block freed twice"),
	ONE_OF(twice_a_stray, "block freed twice"),
	ONE_OF(twice_a_stray_of_another_thread, "block freed twice"),
	ONE_OF(twice_a_stray_of_another_process, "block freed twice"),
	ONE_OF(twice_a_stray_that_came_home, "block freed twice"),
	ONE_OF(inside, "no block"),
	ONE_OF(inside_unaligned, "no block"),
	ONE_OF(inside_large, "no block"),
	ONE_OF(inside_of_another_process, "no block"),
	ONE_OF(twice_of_another_process_we_know, "block freed twice"),
	ONE_OF(never_a_block, "no block"),
	ONE_OF(never_a_block_of_another_process, "no block"),
	ONE_OF(inside_and_its_size, "no block"),
	ONE_OF(inside_and_realloc, "no block"),
	OF_NONE(inside_large_further_on,
		"no block of a heap that is open here"),
	OF_NONE(hole, "no block of a heap that is open here"),
	ONE_OF(hole_that_was_a_block, "no block"),
	ONE_OF(gone_with_its_thread, "no block"),
	OF_NONE(closed, "no block of a heap that is open here"),
	OF_NONE(no_heaps, "no block of a heap that is open here"),
	OF_NONE(of_the_c_library, "no block of a heap that is open here"),
	OF_NONE(of_nobody, "no block of a heap that is open here"),
	ONE_OF(place_that_is_none, "head of a span overwritten"),
	ONE_OF(place_of_another, "head of a span overwritten"),
	/* The last, since who takes over that span aborts, too. */
	ONE_OF(beyond_the_end, "free block overwritten"),
};

/* Each with a heap of its own, which nobody can use afterwards. */
static const struct misuse damages[] = {
	ONE_OF(run_beyond_its_chunk, "table of runs overwritten"),
	ONE_OF(run_just_beyond_its_chunk, "table of runs overwritten"),
	ONE_OF(run_of_no_length, "table of runs overwritten"),
	ONE_OF(list_beyond_the_arena, "free block overwritten"),
	ONE_OF(list_that_free_finds_damaged, "free block overwritten"),
	ONE_OF(list_of_what_is_not_aligned, "free block overwritten"),
	ONE_OF(calloc_of_a_block_that_hangs_out, "free block overwritten"),
	ONE_OF(realloc_to_a_block_that_hangs_out, "free block overwritten"),
	ONE_OF(memalign_in_a_block_that_hangs_out, "free block overwritten"),
};

static int do_it(struct peer *self, void *arg)
{
	PEER_CHECK(self);
	((const struct misuse *)arg)->call();
	return 0;
}

static void is_told(const struct misuse *m)
{
	char text[1000], expected[200];
	int rc = peer_run_said(do_it, (void *)(uintptr_t)m, text, sizeof(text));

	snprintf(expected, sizeof(expected), m->format, m->ours ? heap : NULL,
		 *where);
	if (rc != 128 + SIGABRT || strcmp(text, expected))
		fail_msg("%s: %d, %s", m->name, rc, text);
}

static void misuse_is_told_in_one_line_and_an_abort(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(misuses) / sizeof(misuses[0]); i++)
		is_told(&misuses[i]);
}

static void damage_is_told_in_one_line_and_an_abort(void **state)
{
	size_t i;

	for (i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
		is_told(&damages[i]);
		assert_int_equal(drop_heap(state), 0);
		assert_int_equal(make_heap(state), 0);
	}
}

/* The same of a call that changes its size; there ASan is first. */
static void realloc_of_a_freed_block_is_told_when_it_moves(void **state)
{
	const struct misuse m = ONE_OF(twice_in_realloc, "block freed twice");

	(void)state;
	if (SHMI_ASAN) {
		print_message("AddressSanitizer tells it first\n");
		skip();
	}
	is_told(&m);
}

static int free_where_small_ones_were(struct peer *self, void *another)
{
	char *p = where_small_ones_were(), *q;

	(void)self;
	freed_by(p, another != NULL);
	q = take(1024);
	PEER_CHECK(q);
	memset(q, 'x', 1024);
	tmc_mspace_free(q);
	PEER_CHECK(!tmc_mspace_check(heap));
	return 0;
}

static void what_a_block_was_given_with_may_be_moved(void **state)
{
	int another;

	(void)state;
	assert_int_equal(peer_run(free_where_small_ones_were, NULL), 0);
	assert_int_equal(peer_run(free_where_small_ones_were, &another), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_heap, drop_heap)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(misuse_is_told_in_one_line_and_an_abort),
		TEST(damage_is_told_in_one_line_and_an_abort),
		TEST(realloc_of_a_freed_block_is_told_when_it_moves),
		TEST(what_a_block_was_given_with_may_be_moved),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
