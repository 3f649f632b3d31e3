/* SPDX-License-Identifier: BSD-3-Clause */
/* test_idle.c - tmc_shmem_unlink_idle(): never an arena that is in use. */
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "kernel.h"
#include "layout.h"
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

/* Who may only read can do this much, and no more. */
static void a_lock_on_the_gate_keeps_it(void **state)
{
	struct flock l = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	const char *path = box_path("idle");
	int fd;

	(void)state;
	tmc_shmem_close(make(path));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	l.l_start = (off_t)LAYOUT_LOCK_GATE;
	l.l_len = 1;
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &l), 0);
	assert_minus_errno(tmc_shmem_unlink_idle(path), EBUSY);
	close(fd);
	assert_int_equal(tmc_shmem_unlink_idle(path), 0);
}

/* ----- another takes the name while it is removed ----- */

static char idle[200], second[200], third[200]; /* arenas at rest */

static ino_t inode(const char *path)
{
	struct stat st;

	return lstat(path, &st) ? 0 : st.st_ino;
}

static int make_three(void **state)
{
	(void)state;
	snprintf(idle, sizeof(idle), "%s", box_path("idle"));
	snprintf(second, sizeof(second), "%s", box_path("second"));
	snprintf(third, sizeof(third), "%s", box_path("third"));
	tmc_shmem_close(make(idle));
	tmc_shmem_close(make(second));
	tmc_shmem_close(make(third));
	return 0;
}

/* Also what a test that failed has left aside. */
static int remove_all(void **state)
{
	struct dirent *e;
	DIR *d = opendir(box_path(""));

	(void)state;
	while (d && (e = readdir(d)))
		unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	kernel_before_look(NULL);
	kernel_before_rename(NULL);
	return 0;
}

#define WITH_THREE(test)                                                       \
	cmocka_unit_test_setup_teardown(test, make_three, remove_all)

static void second_comes(void)
{
	rename(second, idle);
}

static void third_comes(void)
{
	rename(third, idle);
}

static void second_and_then_third_come(void)
{
	second_comes();
	kernel_before_rename(third_comes);
}

static void one_that_has_come_before_is_left_alone(void **state)
{
	ino_t new = inode(second);

	(void)state;
	kernel_before_look(second_comes);
	assert_minus_errno(tmc_shmem_unlink_idle(idle), ENOENT);
	assert_int_equal(inode(idle), new);
	assert_int_equal(probe_files(box_path("")), 2);
	assert_int_equal(tmc_shmem_unlink_idle(idle), 0);
}

static void one_that_comes_between_is_moved_back(void **state)
{
	ino_t new = inode(second);

	(void)state;
	kernel_before_rename(second_comes);
	assert_minus_errno(tmc_shmem_unlink_idle(idle), ENOENT);
	assert_int_equal(inode(idle), new);
	assert_int_equal(probe_files(box_path("")), 2);
	assert_int_equal(tmc_shmem_unlink_idle(idle), 0);
}

static int create_by_name(struct peer *self, void *path)
{
	tmc_shmem_t *shm;

	(void)self;
	PEER_CHECK(!kernel_without_tmpfile());
	shm = tmc_shmem_create(path, NULL, NULL, MAX);
	PEER_CHECK(shm);
	tmc_shmem_close(shm);
	return 0;
}

/* The path of what has been moved aside. */
static void find_aside(char path[512])
{
	struct dirent *e;
	DIR *d = opendir(box_path(""));

	path[0] = '\0';
	while (d && (e = readdir(d)))
		if (!strncmp(e->d_name, ".idle.tmcold-", 13))
			snprintf(path, 512, "%s", box_path(e->d_name));
	closedir(d);
}

/* It may be somebody's: no create takes it for a leftover. */
static void one_that_cannot_be_moved_back_stays(void **state)
{
	ino_t new = inode(second), last = inode(third);
	char aside[512];
	tmc_shmem_t *shm;

	(void)state;
	kernel_before_rename(second_and_then_third_come);
	assert_minus_errno(tmc_shmem_unlink_idle(idle), EEXIST);
	assert_int_equal(inode(idle), last);
	find_aside(aside);
	assert_int_equal(inode(aside), new);
	assert_int_equal(probe_files(box_path("")), 2);
	assert_int_equal(tmc_shmem_unlink_idle(idle), 0);
	assert_int_equal(peer_run(create_by_name, idle), 0);
	shm = tmc_shmem_open(aside);
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_current_size(shm), MIB);
	assert_minus_errno(tmc_shmem_unlink_idle(aside), EBUSY);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink_idle(aside), 0);
}

static int idle_says(int err)
{
	return tmc_shmem_unlink_idle(idle) == -1 && errno == err;
}

/* What a rename fails with is told, and nothing is removed. */
static int no_rename(struct peer *self, void *arg)
{
	ino_t old = inode(idle), new = inode(second);

	(void)self;
	(void)arg;
	kernel_without_rename(ENOENT);
	PEER_CHECK(idle_says(ENOENT) && inode(idle) == old);
	kernel_without_rename(EACCES);
	PEER_CHECK(idle_says(EACCES) && inode(idle) == old);
	/* Where only the rename is wrong it does without, and looks. */
	kernel_without_rename(EINVAL);
	kernel_before_rename(second_comes);
	PEER_CHECK(idle_says(ENOENT) && inode(idle) == new);
	PEER_CHECK(!tmc_shmem_unlink_idle(idle));
	return 0;
}

static void a_failing_rename_removes_no_other(void **state)
{
	(void)state;
	assert_int_equal(peer_run(no_rename, NULL), 0);
	assert_int_equal(probe_files(box_path("")), 1);
}

/* Nor does the way back replace one where there is no RENAME_NOREPLACE. */
static int no_renameat2(struct peer *self, void *arg)
{
	ino_t new, last = inode(third);

	(void)self;
	(void)arg;
	kernel_refuse(SYS_renameat2, EINVAL);
	kernel_before_rename(second_and_then_third_come);
	PEER_CHECK(idle_says(EEXIST) && inode(idle) == last);
	PEER_CHECK(!create_by_name(self, second));
	new = inode(second);
	kernel_before_rename(second_comes);
	PEER_CHECK(idle_says(ENOENT) && inode(idle) == new);
	PEER_CHECK(!create_by_name(self, second));
	return 0;
}

static void the_way_back_never_replaces(void **state)
{
	(void)state;
	assert_int_equal(peer_run(no_renameat2, NULL), 0);
	assert_int_equal(probe_files(box_path("")), 3);
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
#define EACH 1000 /* rounds: waits for either outcome */

static struct {
	_Atomic int over;	   /* the racers have ended, or one failed */
	_Atomic unsigned int kept; /* how often EBUSY was the answer */
} * shared;

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

/* Waits until a removal has failed since this process had it open. */
static void wait_for_busy(void)
{
	/* relaxed: nothing else comes with these words */
	unsigned int before =
		atomic_load_explicit(&shared->kept, memory_order_relaxed);

	while (atomic_load_explicit(&shared->kept, memory_order_relaxed) ==
		       before &&
	       !atomic_load_explicit(&shared->over, memory_order_relaxed))
		sched_yield();
}

/*
 * Waits until a removal has worked. When the other racer waits here, too, or
 * has ended, nobody has it open and nobody makes it anew.
 */
static void wait_for_removal(const char *path)
{
	/* relaxed: as above */
	while (!access(path, F_OK) &&
	       !atomic_load_explicit(&shared->over, memory_order_relaxed))
		sched_yield();
}

static int races(struct peer *self, const struct way *r)
{
	uint64_t word;
	int i;

	PEER_CHECK(!peer_get(self, &word));
	for (i = 1; i <= ROUNDS; i++) {
		tmc_shmem_t *shm = open_or_create(r);

		PEER_CHECK(shm);
		if (i % EACH == 0)
			wait_for_busy();
		PEER_CHECK(has_name(shm, r->path));
		tmc_shmem_close(shm);
		if (i % EACH == 0)
			wait_for_removal(r->path);
	}
	return 0;
}

static int removes(const char *path, uint64_t *removed)
{
	/* relaxed: as above */
	while (!atomic_load_explicit(&shared->over, memory_order_relaxed)) {
		if (!tmc_shmem_unlink_idle(path))
			++*removed;
		else if (errno == EBUSY)
			atomic_fetch_add_explicit(&shared->kept, 1,
						  memory_order_relaxed);
		else
			PEER_CHECK(errno == ENOENT);
	}
	return 0;
}

/* Who fails does not let the others wait for it. */
static int racer(struct peer *self, void *arg)
{
	int rc = races(self, arg);

	if (rc)
		atomic_store_explicit(&shared->over, 1, memory_order_relaxed);
	return rc;
}

static int remover(struct peer *self, void *path)
{
	uint64_t removed = 0;
	int rc = removes(path, &removed);

	if (rc)
		atomic_store_explicit(&shared->over, 1, memory_order_relaxed);
	return rc | peer_put(self, removed);
}

/* Who has it open has its name as well, as long as all remove it this way. */
static void of_opening_and_removing_one_comes_first(void **state)
{
	const char *path = box_path("idle");
	struct way ways[] = { { path, tmc_shmem_open },
			      { path, tmc_shmem_open_readonly } };
	uint64_t removed = 0, n = 0;
	unsigned int kept;
	struct peer p[4];
	int i, bad = 0;

	(void)state;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(shared, MAP_FAILED);
	for (i = 0; i < 2; i++) {
		assert_int_equal(peer_fork(&p[i], racer, &ways[i]), 0);
		assert_int_equal(peer_fork(&p[2 + i], remover, (void *)path),
				 0);
	}
	for (i = 0; i < 2; i++)
		assert_int_equal(peer_put(&p[i], 1), 0);
	for (i = 0; i < 2; i++)
		bad += peer_end(&p[i]);
	/* relaxed: as above */
	atomic_store_explicit(&shared->over, 1, memory_order_relaxed);
	for (i = 2; i < 4; i++) {
		bad += peer_get(&p[i], &n);
		bad += peer_end(&p[i]);
		removed += n;
	}
	kept = atomic_load_explicit(&shared->kept, memory_order_relaxed);
	print_message("removed %u times, kept %u times\n",
		      (unsigned int)removed, kept);
	munmap(shared, sizeof(*shared));
	assert_int_equal(bad, 0);
	assert_in_range(removed, ROUNDS / EACH, UINT64_MAX);
	assert_in_range(kept, ROUNDS / EACH, UINT_MAX);
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
		cmocka_unit_test(a_lock_on_the_gate_keeps_it),
		WITH_THREE(one_that_has_come_before_is_left_alone),
		WITH_THREE(one_that_comes_between_is_moved_back),
		WITH_THREE(one_that_cannot_be_moved_back_stays),
		WITH_THREE(a_failing_rename_removes_no_other),
		WITH_THREE(the_way_back_never_replaces),
		cmocka_unit_test(of_opening_and_removing_one_comes_first),
		cmocka_unit_test(its_companion_goes_too),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
