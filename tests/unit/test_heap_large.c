/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_heap_large.c - large blocks and runs: what a death, a shortage, or
 * somebody who writes into the heap's own words, leaves behind.
 */
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <shmem.h>

#include "file.h"
#include "peer.h"
#include "probe.h"
#include "span.h"
#include "step.h"

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

/* ----- when pages run out ----- */

static size_t arena_blocks(tmc_shmem_t *arena)
{
	struct stat st;

	return fstat(tmc_shmem_fd(arena), &st) ? 0 : (size_t)st.st_blocks;
}

/* On a file system that has 80 KiB left. */
static int use_what_is_left(struct peer *self, void *arena)
{
	tmc_mspace h = tmc_shmem_get_data(arena);
	char *p = tmc_mspace_malloc(h, 300000), *q;
	size_t before;

	PEER_CHECK(self && p);
	memset(p, 7, 300000);
	PEER_CHECK(!file_fill(box_path("small/fill"), 80 * KIB));
	before = arena_blocks(arena);
	PEER_CHECK(!tmc_mspace_realloc(h, p, 1900000) && errno == ENOMEM);
	PEER_CHECK(arena_blocks(arena) == before);
	PEER_CHECK(p[0] == 7 && p[299999] == 7);
	PEER_CHECK(tmc_mspace_usable_size(p) == 300000);
	tmc_mspace_free(p);
	PEER_CHECK(!tmc_mspace_malloc(h, 1900000) && errno == ENOMEM);
	p = tmc_mspace_malloc(h, 300000);
	PEER_CHECK(p);
	memset(p, 8, 300000);
	PEER_CHECK(!tmc_mspace_malloc(h, 1900000) && errno == ENOMEM);
	PEER_CHECK(!tmc_mspace_check(h));
	PEER_CHECK(!unlink(box_path("small/fill")));
	q = tmc_mspace_malloc(h, 1900000);
	PEER_CHECK(q);
	memset(q, 9, 1900000);
	q = tmc_mspace_realloc(h, q, 4 * MIB);
	PEER_CHECK(q);
	memset(q, 9, 4 * MIB);
	tmc_mspace_free(q);
	tmc_mspace_free(p);
	PEER_CHECK(!tmc_mspace_check(h));
	return 0;
}

static void a_block_that_cannot_get_its_pages_is_enomem_and_no_sigbus(void **s)
{
	tmc_shmem_t *arena;
	tmc_mspace h;

	(void)s;
	if (box_mount("small", "tmpfs", "size=24m")) {
		print_message("mounts need root\n");
		skip();
	}
	arena = tmc_shmem_create(box_path("small/a"), NULL, NULL, GIB);
	h = tmc_mspace_create_special(64 * MIB, TMC_MSPACE_LOCKED,
				      tmc_shmem_alloc(arena));
	assert_non_null(h);
	assert_int_equal(tmc_shmem_set_data(arena, h), 0);
	assert_int_equal(peer_run(use_what_is_left, arena), 0);
	tmc_shmem_close(arena);
	assert_int_equal(box_umount("small"), 0);
}

/* ----- the lock ----- */

static char *large;

static int shorten_when_told(struct peer *self, void *arg)
{
	uint64_t word;

	PEER_CHECK(!arg && !peer_get(self, &word));
	PEER_CHECK(tmc_mspace_realloc(heap, large, 100 * KIB) == large);
	PEER_CHECK(tmc_mspace_usable_size(large) == 100 * KIB);
	PEER_CHECK(!tmc_mspace_check(heap));
	return 0;
}

static int take_the_lock(struct peer *self, void *arg)
{
	PEER_CHECK(self && !arg);
	alarm(20);
	PEER_CHECK(!tmc_mspace_check(heap));
	return 0;
}

/* Bytes that it is about to give back to the system in madvise(2). */
static unsigned long to_be_removed(pid_t pid)
{
	unsigned long nr, at, len, advice = 0;
	char path[64];
	FILE *f;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)pid);
	f = fopen(path, "re");
	if (f) {
		n = fscanf(f, "%lu %lx %lx %lx", &nr, &at, &len, &advice);
		fclose(f);
	}
	return n == 4 && advice == MADV_REMOVE ? len : 0;
}

/* The call is stopped where it gives back as much as @least bytes. */
static void stop_in(int (*call)(struct peer *self, void *arg), size_t least,
		    struct peer *peer)
{
	int rc;

	assert_int_equal(peer_fork(peer, call, NULL), 0);
	assert_int_equal(step_seize(peer->pid), 0);
	assert_int_equal(peer_put(peer, 0), 0);
	do {
		rc = step_to_syscall(peer->pid, SYS_madvise);
	} while (!rc && to_be_removed(peer->pid) < least &&
		 !step_past_syscall(peer->pid));
	assert_int_equal(rc, 0);
}

static void others_go_on_while(int (*call)(struct peer *self, void *arg),
			       size_t least)
{
	struct peer peer;
	int rc;

	stop_in(call, least, &peer);
	rc = peer_run(take_the_lock, NULL);
	step_let_go(peer.pid);
	assert_int_equal(peer_end(&peer), 0);
	assert_int_equal(rc, 0);
}

static void a_realloc_gives_pages_back_outside_of_the_lock(void **state)
{
	size_t before = arena_blocks(shm);

	(void)state;
	large = tmc_mspace_malloc(heap, 20 * MIB);
	assert_non_null(large);
	memset(large, 7, 20 * MIB);
	others_go_on_while(shorten_when_told, 4 * MIB);
	assert_in_range(arena_blocks(shm), before, before + 256 * KIB / 512);
	assert_true(large[0] == 7 && large[100 * KIB - 1] == 7);
	tmc_mspace_free(large);
	large = tmc_mspace_calloc(heap, 1, 20 * MIB);
	assert_non_null(large);
	assert_true(probe_zero(large, 20 * MIB));
}

/* What a heap may keep: several runs of 16 MiB in all. */
static int trim_when_told(struct peer *self, void *arg)
{
	uint64_t word;

	PEER_CHECK(!arg && !peer_get(self, &word));
	PEER_CHECK(tmc_mspace_trim(heap, 0) == 1);
	PEER_CHECK(tmc_mspace_trim(heap, 0) == 0);
	PEER_CHECK(!tmc_mspace_check(heap));
	return 0;
}

static void have_much_kept(void)
{
	char *p[8];
	size_t before = arena_blocks(shm), i;

	for (i = 0; i < 8; i++)
		assert_non_null(p[i] = tmc_mspace_malloc(heap, 1900 * KIB));
	for (i = 0; i < 8; i++)
		tmc_mspace_free(p[i]);
	assert_true(arena_blocks(shm) > before + 12 * MIB / 512);
}

static void trim_gives_pages_back_outside_of_the_lock(void **state)
{
	size_t before = arena_blocks(shm), size;

	(void)state;
	have_much_kept();
	size = tmc_shmem_current_size(shm);
	others_go_on_while(trim_when_told, MIB);
	assert_in_range(arena_blocks(shm), before, before + 256 * KIB / 512);
	assert_true(tmc_shmem_current_size(shm) < size);
	large = tmc_mspace_calloc(heap, 1, 20 * MIB);
	assert_non_null(large);
	assert_true(probe_zero(large, 20 * MIB));
}

static void what_the_dead_had_in_hand_to_trim_is_free_again(void **state)
{
	size_t first = tmc_shmem_current_size(shm), before = arena_blocks(shm);
	struct peer peer;

	(void)state;
	have_much_kept();
	assert_true(tmc_shmem_current_size(shm) > first);
	stop_in(trim_when_told, MIB, &peer);
	peer_kill(&peer);
	assert_int_equal(tmc_mspace_check(heap), 0);
	assert_int_equal(tmc_mspace_trim(heap, 0), 1);
	assert_int_equal(tmc_shmem_current_size(shm), first);
	assert_in_range(arena_blocks(shm), before, before + 256 * KIB / 512);
	assert_int_equal(tmc_mspace_trim(heap, 0), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_heap, drop_heap)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_block_is_where_the_heap_put_it),
		TEST(a_length_beyond_the_arena_is_told),
		TEST(what_the_caller_gave_stays_there_after_destroy),
		TEST(a_block_that_cannot_get_its_pages_is_enomem_and_no_sigbus),
		TEST(a_realloc_gives_pages_back_outside_of_the_lock),
		TEST(trim_gives_pages_back_outside_of_the_lock),
		TEST(what_the_dead_had_in_hand_to_trim_is_free_again),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
