/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_mspace_asan.c - what AddressSanitizer says about blocks of a heap, in a
 * build with it: the use of a freed one is reported, and nothing else is.
 */
#include "test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <shmem.h>

#include "peer.h"
#include "poison.h"

#define MANY 2000 /* blocks of 100 bytes, several spans */

static tmc_shmem_t *shm;
static tmc_mspace heap;

static int make_heap(void **state)
{
	(void)state;
	shm = tmc_shmem_create(box_path("asan"), NULL, NULL, GIB);
	heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	return !heap || tmc_shmem_set_data(shm, heap);
}

static int drop_heap(void **state)
{
	(void)state;
	tmc_shmem_close(shm);
	return tmc_shmem_unlink(box_path("asan"));
}

/* The compiler must neither know nor drop it. */
static void touch(void *p)
{
	*(volatile char *)p += 1;
}

static void take_many(char **p)
{
	size_t i;

	for (i = 0; i < MANY; i++)
		p[i] = tmc_mspace_malloc(heap, 100);
}

static void *free_many(void *blocks)
{
	char **p = blocks;
	size_t i;

	for (i = 0; i < MANY; i++)
		tmc_mspace_free(p[i]);
	return NULL;
}

static void in_a_thread(void *(*run)(void *arg), void *arg)
{
	pthread_t thread;

	if (!pthread_create(&thread, NULL, run, arg))
		pthread_join(thread, NULL);
}

/* ----- what is reported ----- */

static void use_first_word(void)
{
	char *p = tmc_mspace_malloc(heap, 100);

	tmc_mspace_free(p);
	touch(p);
}

static void use_last_byte(void)
{
	char *p = tmc_mspace_malloc(heap, 100);
	size_t n = tmc_mspace_usable_size(p);

	touch(p + n - 1);
	tmc_mspace_free(p);
	touch(p + n - 1);
}

static void use_large(void)
{
	char *p = tmc_mspace_malloc(heap, 100 * KIB);

	touch(p + 100 * KIB - 1);
	tmc_mspace_free(p);
	touch(p + 100 * KIB - 1);
}

static void use_aligned(void)
{
	char *p = tmc_mspace_memalign(heap, 256, 300);

	touch(p);
	tmc_mspace_free(p);
	touch(p);
}

static void use_after_realloc(void)
{
	char *p = tmc_mspace_malloc(heap, 100);

	if (tmc_mspace_realloc(heap, p, 5000) != p)
		touch(p);
}

/* Another thread has freed it, and ours has taken it back since. */
static void use_others(void)
{
	static char *p[MANY];
	char *q;
	size_t i;

	take_many(p);
	in_a_thread(free_many, p);
	do { /* until it is one of those, and the next of them is in the list */
		q = tmc_mspace_malloc(heap, 100);
		for (i = 0; i + 1 < MANY && p[i + 1] != q; i++)
			;
	} while (i + 1 == MANY);
	touch(p[i]);
}

static int say(struct peer *self, void *use)
{
	PEER_CHECK(self);
	alarm(20);
	(*(void (**)(void))use)();
	return 0;
}

static void the_use_of_a_freed_block_is_reported(void **state)
{
	static void (*const use[])(void) = {
		use_first_word, use_last_byte,	   use_large,
		use_aligned,	use_after_realloc, use_others,
	};
	static char text[65536];
	size_t i;

	(void)state;
	if (!SHMI_ASAN) {
		print_message("a build without AddressSanitizer\n");
		skip();
	}
	for (i = 0; i < sizeof(use) / sizeof(use[0]); i++) {
		if (!peer_run_said(say, (void *)&use[i], text, sizeof(text)))
			fail_msg("use %zu is not reported", i);
		if (!strstr(text, "AddressSanitizer: use-after-poison"))
			fail_msg("use %zu: %s", i, text);
	}
}

/* ----- what is not ----- */

/* In the arena, where our freed blocks were: the peer's now. */
static int take_and_tell(struct peer *self, void *arg)
{
	static char *p[MANY];
	uint64_t word;
	size_t i;

	PEER_CHECK(!arg && !peer_get(self, &word));
	take_many(p);
	for (i = 0; i < MANY; i++)
		PEER_CHECK(p[i] && !peer_put(self, (uintptr_t)p[i]));
	return 0;
}

/* Has it take blocks, and writes into them. */
static void use_what_it_takes(struct peer *peer)
{
	uint64_t word;
	size_t i;

	assert_int_equal(peer_put(peer, 0), 0);
	for (i = 0; i < MANY; i++) {
		assert_int_equal(peer_get(peer, &word), 0);
		memset((char *)(uintptr_t)word, 1, 100);
	}
	assert_int_equal(peer_end(peer), 0);
}

static void what_another_process_gives_out_is_not(void **state)
{
	static char *p[MANY];
	struct peer peer;

	(void)state;
	assert_int_equal(peer_fork(&peer, take_and_tell, NULL), 0);
	take_many(p);
	free_many(p);
	p[0] = tmc_mspace_malloc(heap, 500 * KIB);
	tmc_mspace_free(p[0]);
	assert_int_equal(tmc_mspace_trim(heap, 0), 1);
	use_what_it_takes(&peer);
}

static int read_what_comes(struct peer *self, void *arg)
{
	uint64_t word;

	PEER_CHECK(!arg);
	while (!peer_get(self, &word) && word)
		touch((char *)(uintptr_t)word);
	return 0;
}

/* Freed when it was forked, given out again since. */
static void what_the_parent_gives_out_is_not(void **state)
{
	static char *p[MANY];
	struct peer peer;
	size_t i;

	(void)state;
	take_many(p);
	p[0] = tmc_mspace_realloc(heap, p[0], 100 * KIB);
	free_many(p);
	assert_int_equal(peer_fork(&peer, read_what_comes, NULL), 0);
	take_many(p);
	p[0] = tmc_mspace_realloc(heap, p[0], 100 * KIB);
	for (i = 0; i < MANY; i++)
		assert_int_equal(peer_put(&peer, (uintptr_t)p[i]), 0);
	assert_int_equal(peer_put(&peer, 0), 0);
	assert_int_equal(peer_end(&peer), 0);
}

static int take_from_copy(struct peer *self, void *private)
{
	char *p;

	PEER_CHECK(self);
	for (p = NULL; (p = tmc_mspace_malloc(private, 100 * KIB));)
		memset(p, 1, 100 * KIB);
	return 0;
}

static void a_childs_copy_of_a_private_heap_is_not(void **state)
{
	tmc_mspace private = tmc_mspace_create(512 * KIB, TMC_MSPACE_NOGROW);

	(void)state;
	tmc_mspace_free(tmc_mspace_malloc(private, 100 * KIB));
	assert_int_equal(peer_run(take_from_copy, private), 0);
	assert_true(tmc_mspace_destroy(private) > 0);
}

static void *take_and_leave(void *arg)
{
	static char *p[MANY];
	size_t i;

	take_many(p);
	tmc_mspace_free(tmc_mspace_malloc(heap, 100 * KIB));
	for (i = 0; i < MANY; i++)
		if (i % 100)
			tmc_mspace_free(p[i]);
	return arg;
}

static void what_a_thread_left_is_not(void **state)
{
	struct peer peer;

	(void)state;
	assert_int_equal(peer_fork(&peer, take_and_tell, NULL), 0);
	in_a_thread(take_and_leave, NULL);
	memset(tmc_mspace_malloc(heap, 100 * KIB), 1, 100 * KIB);
	use_what_it_takes(&peer);
}

static void an_arena_that_was_opened_again_is_not(void **state)
{
	static char *p[MANY];
	size_t i;

	(void)state;
	take_many(p);
	free_many(p);
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(box_path("asan"));
	assert_non_null(shm);
	for (i = 0; i < MANY; i++)
		assert_int_equal(((volatile char *)p[i])[50], 0);
}

static void memory_of_a_heap_that_ended_is_not(void **state)
{
	static char memory[512 * KIB];
	char *p;

	(void)state;
	tmc_mspace_free(tmc_mspace_malloc(heap, 100));
	tmc_mspace_free(tmc_mspace_malloc(heap, 100 * KIB));
	assert_true(tmc_mspace_destroy(heap) > 0);
	p = tmc_shmem_grow(shm, MIB);
	assert_non_null(p);
	memset(p, 1, MIB);
	heap = tmc_mspace_create_with_base(memory, sizeof(memory), 0);
	assert_non_null(heap);
	tmc_mspace_free(tmc_mspace_malloc(heap, 100));
	tmc_mspace_free(tmc_mspace_malloc(heap, 100 * KIB));
	assert_true(tmc_mspace_destroy(heap) > 0);
	memset(memory, 1, sizeof(memory));
}

static long most_kib(void)
{
	struct rusage r = { 0 };

	getrusage(RUSAGE_SELF, &r);
	return r.ru_maxrss;
}

#define MUCH (8 * GIB) /* 1 GiB for the sanitizer, if it wrote them */

static int took_little(struct peer *self, void *before)
{
	PEER_CHECK(self);
	PEER_CHECK(most_kib() - *(long *)before < 256 * 1024);
	return 0;
}

/* An arena of that size with little memory: forked, closed, opened again. */
static int use_empty(struct peer *self, void *path)
{
	tmc_alloc_t lazy = TMC_ALLOC_INIT;
	tmc_shmem_t *s = tmc_shmem_create(path, tmc_alloc_clear_populate(&lazy),
					  NULL, MUCH + GIB);
	long before;
	char *p;

	PEER_CHECK(s);
	heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(s));
	PEER_CHECK(heap && tmc_shmem_grow(s, MUCH));
	p = tmc_mspace_malloc(heap, 100);
	PEER_CHECK(p);
	tmc_mspace_free(p);
	before = most_kib();
	PEER_CHECK(!peer_run(took_little, &before));
	tmc_shmem_close(s);
	PEER_CHECK(!took_little(self, &before));
	s = tmc_shmem_open(path);
	PEER_CHECK(s);
	touch(p);
	tmc_shmem_close(s);
	return 0;
}

static void the_end_of_a_large_arena_takes_no_memory(void **state)
{
	static char path[300];

	(void)state;
	snprintf(path, sizeof(path), "%s", box_path("empty"));
	assert_int_equal(peer_run(use_empty, path), 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_heap, drop_heap)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_use_of_a_freed_block_is_reported),
		TEST(what_another_process_gives_out_is_not),
		TEST(what_the_parent_gives_out_is_not),
		TEST(a_childs_copy_of_a_private_heap_is_not),
		TEST(what_a_thread_left_is_not),
		TEST(an_arena_that_was_opened_again_is_not),
		TEST(memory_of_a_heap_that_ended_is_not),
		TEST(the_end_of_a_large_arena_takes_no_memory),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
