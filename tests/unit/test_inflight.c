/* SPDX-License-Identifier: BSD-3-Clause */
/* test_inflight.c - a long populated grow, stopped or killed in its middle. */
#include "test.h"

#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "peer.h"
#include "probe.h"
#include "step.h"

#define LONG (512 * MIB)
#define MAX (2 * GIB)

static size_t page;

struct inflight {
	tmc_shmem_t *shm;
	const char *path;
	struct peer peer; /* stopped in its grow of LONG bytes */
	off_t empty;	  /* file length at size 0 */
	size_t used;	  /* bytes in use when it was stopped */
};

static int grow_long(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = tmc_shmem_open(arg);
	uint64_t word;
	char *p;

	PEER_CHECK(shm);
	PEER_CHECK(!peer_put(self, 0) && !peer_get(self, &word));
	p = tmc_shmem_grow(shm, LONG);
	PEER_CHECK(p);
	PEER_CHECK(!peer_put(self, (uintptr_t)p));
	PEER_CHECK(!peer_get(self, &word));
	PEER_CHECK(probe_resident(p, LONG) == LONG);
	PEER_CHECK(probe_zero(p, LONG));
	memset(p, 3, LONG);
	return 0;
}

static off_t file_len(tmc_shmem_t *shm)
{
	struct stat st;

	return fstat(tmc_shmem_fd(shm), &st) ? -1 : st.st_size;
}

/* Whether the peer's grow has taken memory, but by far not all of it. */
static int in_the_middle(tmc_shmem_t *shm, size_t before)
{
	struct stat st;

	fstat(tmc_shmem_fd(shm), &st);
	return (size_t)st.st_blocks * 512 >= before + 32 * MIB;
}

/*
 * Stops a peer in the middle of its grow. The moment is found by looking at
 * the file; a grow that was over first is another try. 0, or -1.
 */
static int start(struct inflight *f)
{
	uint64_t word;
	int tries;

	f->path = box_path("long");
	f->shm = tmc_shmem_create(f->path, NULL, NULL, MAX);
	if (!f->shm)
		return -1;
	f->empty = file_len(f->shm);
	for (tries = 0; tries < 20; tries++) {
		f->used = tmc_shmem_current_size(f->shm);
		if (peer_fork(&f->peer, grow_long, (char *)f->path) ||
		    peer_get(&f->peer, &word) || peer_put(&f->peer, 0))
			return -1;
		while (!in_the_middle(f->shm, f->used) &&
		       tmc_shmem_current_size(f->shm) == f->used)
			sched_yield();
		if (peer_stop(&f->peer))
			return -1;
		if (tmc_shmem_current_size(f->shm) == f->used)
			return 0;
		peer_kill(&f->peer);
		if (tmc_shmem_shrink(f->shm, (off_t)f->used, LONG))
			return -1;
	}
	return -1;
}

static void end(struct inflight *f)
{
	tmc_shmem_close(f->shm);
	assert_int_equal(tmc_shmem_unlink(f->path), 0);
}

/* All of @p is zero, present and ours: the peer must not use it as well. */
static void use(char *p, size_t len)
{
	assert_non_null(p);
	assert_true(probe_zero(p, len));
	assert_int_equal(probe_present(p, len), len);
	memset(p, 7, len);
}

static void a_stopped_grow_keeps_nobody_out(void **state)
{
	struct inflight f;
	char *a, *b, *theirs;
	uint64_t word;
	size_t i;

	(void)state;
	assert_int_equal(start(&f), 0);
	a = tmc_shmem_grow(f.shm, page);
	use(a, page);
	b = tmc_shmem_grow(f.shm, 24 * MIB);
	use(b, 24 * MIB);
	assert_int_equal(tmc_shmem_current_size(f.shm),
			 f.used + page + 24 * MIB);
	assert_int_equal(kill(f.peer.pid, SIGCONT), 0);
	assert_int_equal(peer_get(&f.peer, &word), 0);
	theirs = (char *)(uintptr_t)word;
	assert_ptr_equal(theirs, b + 24 * MIB);
	assert_int_equal(tmc_shmem_current_size(f.shm),
			 f.used + page + 24 * MIB + LONG);
	assert_int_equal(peer_put(&f.peer, 0), 0);
	assert_int_equal(peer_end(&f.peer), 0);
	assert_int_equal(theirs[0], 3);
	assert_int_equal(theirs[LONG - 1], 3);
	for (i = 0; i < 24 * MIB; i += page)
		assert_int_equal(b[i], 7);
	assert_int_equal(file_len(f.shm) - f.empty,
			 tmc_shmem_current_size(f.shm));
	end(&f);
}

static void a_killed_grow_leaves_nothing_behind(void **state)
{
	struct inflight f;
	char *p;

	(void)state;
	assert_int_equal(start(&f), 0);
	peer_kill(&f.peer);
	assert_int_equal(tmc_shmem_current_size(f.shm), f.used);
	p = tmc_shmem_grow(f.shm, page);
	use(p, page);
	assert_int_equal(file_len(f.shm) - f.empty, f.used + page);
	p = tmc_shmem_grow(f.shm, 64 * MIB);
	use(p, 64 * MIB);
	assert_int_equal(file_len(f.shm) - f.empty, f.used + page + 64 * MIB);
	end(&f);
}

static void a_grow_killed_after_others_grew_loses_nothing(void **state)
{
	struct inflight f;
	char *a, *b;
	size_t i;

	(void)state;
	assert_int_equal(start(&f), 0);
	a = tmc_shmem_grow(f.shm, 40 * MIB);
	use(a, 40 * MIB);
	peer_kill(&f.peer);
	for (i = 0; i < 40 * MIB; i += page)
		assert_int_equal(a[i], 7);
	b = tmc_shmem_grow(f.shm, 5 * MIB);
	assert_ptr_equal(b, a + 40 * MIB);
	use(b, 5 * MIB);
	assert_int_equal(file_len(f.shm) - f.empty, f.used + 45 * MIB);
	for (i = 0; i < 40 * MIB; i += page)
		assert_int_equal(a[i], 7);
	end(&f);
}

static void a_shrink_under_a_stopped_grow_is_felt_by_it(void **state)
{
	struct inflight f;
	uint64_t word;
	char *a;

	(void)state;
	assert_int_equal(start(&f), 0);
	a = tmc_shmem_grow(f.shm, 8 * MIB);
	use(a, 8 * MIB);
	assert_int_equal(
		tmc_shmem_shrink(f.shm, (off_t)(f.used + 4 * MIB), 4 * MIB), 0);
	a = tmc_shmem_grow(f.shm, MIB);
	use(a, MIB);
	assert_int_equal(kill(f.peer.pid, SIGCONT), 0);
	assert_int_equal(peer_get(&f.peer, &word), 0);
	assert_int_equal(word, (uintptr_t)a + MIB);
	assert_int_equal(peer_put(&f.peer, 0), 0);
	assert_int_equal(peer_end(&f.peer), 0);
	assert_int_equal(tmc_shmem_current_size(f.shm),
			 f.used + 5 * MIB + LONG);
	end(&f);
}

static void the_maximum_holds_for_a_grow_under_way(void **state)
{
	struct inflight f;
	tmc_alloc_t lazy;
	uint64_t word;
	int status;

	(void)state;
	assert_int_equal(start(&f), 0);
	/* All the rest, lazily: the other one finds no room when it ends. */
	lazy = *tmc_shmem_alloc(f.shm);
	assert_non_null(
		tmc_alloc_map(tmc_alloc_clear_populate(&lazy), MAX - f.used));
	assert_int_equal(kill(f.peer.pid, SIGCONT), 0);
	assert_int_equal(peer_get(&f.peer, &word), -1);
	status = peer_end(&f.peer);
	assert_int_equal(status, 1); /* its grow returned NULL */
	assert_int_equal(tmc_shmem_current_size(f.shm), MAX);
	assert_int_equal(file_len(f.shm) - f.empty, MAX);
	assert_int_equal(tmc_shmem_shrink(f.shm, 0, MAX), 0);
	end(&f);
}

/* It was about to allocate when a shrink cut the file: beyond the end, then. */
static void a_killed_grow_leaves_nothing_beyond_the_end(void **state)
{
	const char *why = step_impossible_by_call(), *path = box_path("end");
	tmc_shmem_t *shm;
	struct stat before, after;
	struct peer peer;
	uint64_t word;

	(void)state;
	if (why) {
		print_message("%s\n", why);
		skip();
	}
	shm = tmc_shmem_create(path, NULL, NULL, MAX);
	assert_non_null(shm);
	assert_non_null(tmc_shmem_grow(shm, page));
	assert_int_equal(fstat(tmc_shmem_fd(shm), &before), 0);
	assert_non_null(tmc_shmem_grow(shm, page));
	assert_int_equal(peer_fork(&peer, grow_long, (char *)path), 0);
	assert_int_equal(peer_get(&peer, &word), 0);
	assert_int_equal(step_seize(peer.pid), 0);
	assert_int_equal(peer_put(&peer, 0), 0);
	assert_int_equal(step_to_syscall(peer.pid, SYS_fallocate), 0);
	assert_int_equal(tmc_shmem_shrink(shm, (off_t)page, page), 0);
	assert_int_equal(step_past_syscall(peer.pid), 0);
	peer_kill(&peer);
	use(tmc_shmem_grow(shm, page), page);
	assert_int_equal(fstat(tmc_shmem_fd(shm), &after), 0);
	assert_int_equal((size_t)(after.st_blocks - before.st_blocks) * 512,
			 page);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stopped_grow_keeps_nobody_out),
		cmocka_unit_test(a_killed_grow_leaves_nothing_behind),
		cmocka_unit_test(a_grow_killed_after_others_grew_loses_nothing),
		cmocka_unit_test(a_shrink_under_a_stopped_grow_is_felt_by_it),
		cmocka_unit_test(the_maximum_holds_for_a_grow_under_way),
		cmocka_unit_test(a_killed_grow_leaves_nothing_beyond_the_end),
	};

	page = (size_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
