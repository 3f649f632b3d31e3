/* SPDX-License-Identifier: BSD-3-Clause */
/* test_idle.c - tmc_shmem_unlink_idle(): never an arena that is in use. */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "kernel.h"
#include "peer.h"
#include "probe.h"

#define MAX (64 * MIB)
#define NOBODY 65534

static tmc_shmem_t *make(const char *path)
{
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, MAX);

	assert_non_null(shm);
	assert_non_null(tmc_shmem_grow(shm, MIB));
	return shm;
}

static void an_arena_that_nobody_has_open_goes(void **state)
{
	const char *path = box_path("idle");
	size_t fds = probe_fds(), files = probe_files(box_path(""));

	(void)state;
	tmc_shmem_close(make(path));
	assert_int_equal(tmc_shmem_unlink_idle(path), 0);
	assert_minus_errno(tmc_shmem_unlink_idle(path), ENOENT);
	assert_int_equal(probe_fds(), fds);
	assert_int_equal(probe_files(box_path("")), files);
}

/* What a user does: opens it that way, and ends when told so. */
struct way {
	const char *path;
	tmc_shmem_t *(*open_path)(const char *path);
};

static int user(struct peer *self, void *arg)
{
	const struct way *w = arg;
	tmc_shmem_t *shm = w->open_path(w->path);
	uint64_t word;

	PEER_CHECK(shm);
	PEER_CHECK(!peer_put(self, 1) && !peer_get(self, &word));
	tmc_shmem_close(shm);
	return 0;
}

static void one_user_of_any_kind_keeps_it(void **state)
{
	const char *path = box_path("idle");
	struct way ways[] = { { path, tmc_shmem_open },
			      { path, tmc_shmem_open_readonly } };
	struct peer p;
	uint64_t word;
	size_t i;

	(void)state;
	tmc_shmem_close(make(path));
	for (i = 0; i < 2; i++) {
		tmc_shmem_t *shm = ways[i].open_path(path);

		assert_non_null(shm);
		assert_minus_errno(tmc_shmem_unlink_idle(path), EBUSY);
		tmc_shmem_close(shm);
		assert_int_equal(peer_fork(&p, user, &ways[i]), 0);
		assert_int_equal(peer_get(&p, &word), 0);
		assert_minus_errno(tmc_shmem_unlink_idle(path), EBUSY);
		if (i) /* a killed one is none */
			peer_kill(&p);
		else
			assert_int_equal(peer_put(&p, 1) || peer_end(&p), 0);
	}
	assert_int_equal(tmc_shmem_unlink_idle(path), 0);
}

static int relative(struct peer *self, void *shm)
{
	uint64_t word;

	PEER_CHECK(!peer_put(self, 1) && !peer_get(self, &word));
	PEER_CHECK(tmc_shmem_grow(shm, MIB));
	return 0;
}

static void a_forked_child_is_a_user(void **state)
{
	const char *path = box_path("idle");
	tmc_shmem_t *shm = make(path);
	struct peer p;
	uint64_t word;

	(void)state;
	assert_int_equal(peer_fork(&p, relative, shm), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	tmc_shmem_close(shm);
	assert_minus_errno(tmc_shmem_unlink_idle(path), EBUSY);
	assert_int_equal(peer_put(&p, 1), 0);
	assert_int_equal(peer_end(&p), 0);
	assert_int_equal(tmc_shmem_unlink_idle(path), 0);
}

/* One that has its descriptor from us and may not open it anew. */
static int guest(struct peer *self, void *arg)
{
	int fd = peer_get_fd(self);
	tmc_shmem_t *shm;
	uint64_t word;

	(void)arg;
	kernel_without_reopen();
	PEER_CHECK(fd >= 0);
	shm = tmc_shmem_open_fds(fd, -1);
	PEER_CHECK(shm);
	PEER_CHECK(!peer_put(self, 1) && !peer_get(self, &word));
	tmc_shmem_close(shm);
	return 0;
}

static void a_guest_is_a_user(void **state)
{
	const char *path = box_path("idle");
	struct peer p;
	uint64_t word;
	int fd;

	(void)state;
	tmc_shmem_close(make(path));
	assert_int_equal(peer_fork(&p, guest, NULL), 0);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(peer_put_fd(&p, fd), 0);
	close(fd);
	assert_int_equal(peer_get(&p, &word), 0);
	assert_minus_errno(tmc_shmem_unlink_idle(path), EBUSY);
	assert_int_equal(peer_put(&p, 1), 0);
	assert_int_equal(peer_end(&p), 0);
	assert_int_equal(tmc_shmem_unlink_idle(path), 0);
}

static int no_permission(struct peer *self, void *path)
{
	(void)self;
	PEER_CHECK(!peer_become(NOBODY));
	PEER_CHECK(tmc_shmem_unlink_idle(path) == -1 && errno == EACCES);
	return 0;
}

static void what_is_no_arena_is_left_alone(void **state)
{
	const char *path = box_path("file"), *link = box_path("link");
	int fd = open(path, O_CREAT | O_RDWR, 0600);

	(void)state;
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	assert_minus_errno(tmc_shmem_unlink_idle(NULL), EINVAL);
	assert_minus_errno(tmc_shmem_unlink_idle(path), EINVAL);
	assert_minus_errno(tmc_shmem_unlink_idle(box_path("")), EINVAL);
	assert_int_equal(unlink(path), 0);
	assert_minus_errno(tmc_shmem_unlink_idle(path), ENOENT);
	tmc_shmem_close(make(path));
	assert_int_equal(symlink(path, link), 0);
	assert_minus_errno(tmc_shmem_unlink_idle(link), EINVAL);
	assert_int_equal(unlink(link), 0);
	if (!getuid())
		assert_int_equal(peer_run(no_permission, (void *)path), 0);
	assert_int_equal(tmc_shmem_unlink_idle(path), 0);
}

/* Where the temporary name is too long it does without one. */
static void a_path_may_be_as_long_as_can_be(void **state)
{
	char path[4096];
	const char *dir = box_path("");
	size_t len = strlen(dir);

	(void)state;
	memset(path, '/', sizeof(path));
	memcpy(path, dir, len);
	strcpy(path + sizeof(path) - 5, "idle");
	tmc_shmem_close(make(path));
	assert_int_equal(tmc_shmem_unlink_idle(path), 0);
	assert_int_not_equal(access(box_path("idle"), F_OK), 0);
}

static void its_companion_goes_too(void **state)
{
	const char *path = box_path("idle");
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;

	(void)state;
	if (box_hugetlbfs("huge", 2 * MIB, "") ||
	    !tmc_alloc_set_pagesize_exact(&alloc, 2 * MIB)) {
		print_message("no hugetlbfs\n");
		skip();
	}
	shm = tmc_shmem_create(path, &alloc, NULL, MAX);
	assert_non_null(shm);
	assert_int_equal(probe_files(box_path("huge")), 1);
	assert_minus_errno(tmc_shmem_unlink_idle(path), EBUSY);
	assert_int_equal(probe_files(box_path("huge")), 1);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink_idle(path), 0);
	assert_int_equal(probe_files(box_path("huge")), 0);
	assert_int_equal(box_umount("huge"), 0);
}

/* ----- at the same time ----- */

#define ROUNDS 6000

/* Whether the name is this arena's. Nothing but a removal can change that. */
static int has_name(tmc_shmem_t *shm, const char *path)
{
	struct stat a, b;

	return !fstat(tmc_shmem_fd(shm), &a) && !stat(path, &b) &&
	       a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static tmc_shmem_t *open_or_create(const struct way *r)
{
	tmc_shmem_t *shm;

	for (;;) {
		shm = r->open_path(r->path);
		if (shm || errno != ENOENT)
			return shm;
		shm = tmc_shmem_create(r->path, NULL, NULL, MAX);
		if (shm || errno != EEXIST)
			return shm;
	}
}

static int race(struct peer *self, void *arg)
{
	const struct way *r = arg;
	uint64_t word;
	int i;

	PEER_CHECK(!peer_get(self, &word));
	for (i = 0; i < ROUNDS; i++) {
		tmc_shmem_t *shm = open_or_create(r);

		PEER_CHECK(shm);
		PEER_CHECK(has_name(shm, r->path));
		tmc_shmem_close(shm);
	}
	return 0;
}

static _Atomic int *over; /* shared: the others have ended */

static int removes(struct peer *self, void *path)
{
	uint64_t removed = 0;

	/* relaxed: nothing else comes with it */
	while (!atomic_load_explicit(over, memory_order_relaxed)) {
		if (!tmc_shmem_unlink_idle(path))
			removed++;
		else
			PEER_CHECK(errno == EBUSY || errno == ENOENT);
	}
	return peer_put(self, removed);
}

/* Who has it open has its name as well, as long as all remove it this way. */
static void of_opening_and_removing_one_comes_first(void **state)
{
	const char *path = box_path("idle");
	struct way ways[] = { { path, tmc_shmem_open },
			      { path, tmc_shmem_open_readonly } };
	uint64_t removed = 0, n;
	struct peer p[4];
	int i, bad = 0;

	(void)state;
	over = mmap(NULL, sizeof(*over), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(over, MAP_FAILED);
	for (i = 0; i < 2; i++) {
		assert_int_equal(peer_fork(&p[i], race, &ways[i]), 0);
		assert_int_equal(peer_fork(&p[2 + i], removes, (void *)path),
				 0);
	}
	for (i = 0; i < 2; i++)
		assert_int_equal(peer_put(&p[i], 1), 0);
	for (i = 0; i < 2; i++)
		bad += peer_end(&p[i]);
	/* relaxed: nothing else comes with it */
	atomic_store_explicit(over, 1, memory_order_relaxed);
	for (i = 2; i < 4; i++) {
		bad += peer_get(&p[i], &n);
		bad += peer_end(&p[i]);
		removed += n;
	}
	print_message("removed %u times\n", (unsigned int)removed);
	assert_int_equal(bad, 0);
	munmap((void *)over, sizeof(*over));
	assert_int_not_equal(removed, 0);
	assert_true(tmc_shmem_unlink_idle(path) == 0 || errno == ENOENT);
	assert_int_equal(probe_files(box_path("")), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_arena_that_nobody_has_open_goes),
		cmocka_unit_test(one_user_of_any_kind_keeps_it),
		cmocka_unit_test(a_forked_child_is_a_user),
		cmocka_unit_test(a_guest_is_a_user),
		cmocka_unit_test(what_is_no_arena_is_left_alone),
		cmocka_unit_test(a_path_may_be_as_long_as_can_be),
		cmocka_unit_test(of_opening_and_removing_one_comes_first),
		cmocka_unit_test(its_companion_goes_too),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
