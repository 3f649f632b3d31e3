/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fork_huge.c - a child that is forked in the middle of another thread's
 * call has no descriptor of a companion, or its memory stays with the child.
 */
#include "test.h"

#include <dirent.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "kernel.h"
#include "peer.h"
#include "probe.h"

#define FORKS 300

static size_t huge; /* the default size; 0: none */
static tmc_alloc_t alloc;
static char path[4096], mount_point[4096];

static int find_huge(void **state)
{
	huge = tmc_alloc_get_huge_pagesize();
	tmc_alloc_set_huge(tmc_alloc_init(&alloc));
	return test_box_open(state);
}

static int mount_it(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "%s", box_path("a"));
	snprintf(mount_point, sizeof(mount_point), "%s", box_path("huge"));
	return 0;
}

static int umount_it(void **state)
{
	(void)state;
	tmc_shmem_unlink(path); /* of a test that failed */
	box_umount("huge");
	return 0;
}

/* No page is ever touched. */
#define NEED_HUGE()                                                            \
	do {                                                                   \
		if (!huge || box_hugetlbfs("huge", huge, ""))                  \
			skip();                                                \
	} while (0)

/* Descriptors of this process on the mount. */
static int held(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	int n = 0;

	while (d && (e = readdir(d))) {
		char to[4096] = "";

		if (readlinkat(dirfd(d), e->d_name, to, sizeof(to) - 1) > 0)
			n += !strncmp(to, mount_point, strlen(mount_point));
	}
	if (d)
		closedir(d);
	return d ? n : -1;
}

/* ----- at a given call of another's ----- */

static int held_by_child; /* -1: none was forked there */

static void fork_here(void)
{
	pid_t pid = fork();
	int status = -1;

	if (!pid)
		_exit(held());
	if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status))
		held_by_child = WEXITSTATUS(status);
}

static int stay(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = tmc_shmem_open(path);
	uint64_t word;

	(void)arg;
	PEER_CHECK(shm && !peer_put(self, 0));
	PEER_CHECK(peer_get(self, &word) == -1);
	return 0;
}

/* At the look for other users, who are there. */
static void a_child_of_an_open_has_no_companion(void **state)
{
	tmc_shmem_t *shm, *other;
	struct peer p;
	uint64_t word;
	int fds[2];

	(void)state;
	NEED_HUGE();
	tmc_shmem_close(tmc_shmem_create(path, &alloc, NULL, 4 * huge));
	assert_int_equal(peer_fork(&p, stay, NULL), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	held_by_child = -1;
	kernel_before_look(fork_here);
	shm = tmc_shmem_open(path);
	assert_non_null(shm);
	assert_int_equal(held(), 1);
	assert_int_equal(held_by_child, 0);

	/* Descriptors of the caller's are the child's, too. */
	fds[0] = dup(tmc_shmem_fd(shm));
	fds[1] = dup(tmc_shmem_hugefd(shm));
	tmc_shmem_close(shm);
	held_by_child = -1;
	kernel_before_look(fork_here);
	other = tmc_shmem_open_fds(fds[0], fds[1]);
	assert_non_null(other);
	assert_int_equal(held(), 2);
	assert_int_equal(held_by_child, 1);
	close(fds[0]);
	close(fds[1]);
	tmc_shmem_close(other);
	assert_int_equal(held(), 0);
	peer_kill(&p);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* When the companion gets its last name, and all is there. */
static void a_child_of_a_create_has_no_companion(void **state)
{
	tmc_shmem_t *shm;

	(void)state;
	NEED_HUGE();
	held_by_child = -1;
	kernel_before_rename(fork_here);
	shm = tmc_shmem_create(path, &alloc, NULL, 4 * huge);
	assert_non_null(shm);
	assert_int_equal(held(), 1);
	assert_int_equal(held_by_child, 0);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* ----- wherever ----- */

static _Atomic bool stop;
static _Atomic int failed;

static void *make_open_and_remove(void *arg)
{
	void *base = arg;
	tmc_shmem_t *shm;

	while (!stop && !failed) {
		shm = tmc_shmem_create(path, &alloc, base, 4 * huge);
		if (!shm)
			failed = errno;
		tmc_shmem_close(shm);
		shm = tmc_shmem_open(path);
		if (!shm)
			failed = errno;
		tmc_shmem_close(shm);
		if (tmc_shmem_unlink(path))
			failed = errno;
	}
	return NULL;
}

/* It has what its parent had in the registry, and nothing else. */
static int has_what_is_mapped(struct peer *self, void *base)
{
	(void)self;
	PEER_CHECK(held() == !probe_free(base, 4 * huge));
	return 0;
}

static void a_child_has_a_companion_only_with_the_arena(void **state)
{
	tmc_shmem_t *shm;
	void *base;
	pthread_t t;
	int i;

	(void)state;
	NEED_HUGE();
	shm = tmc_shmem_create(path, &alloc, NULL, 4 * huge);
	assert_non_null(shm);
	base = tmc_shmem_address(shm);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_int_equal(pthread_create(&t, NULL, make_open_and_remove, base),
			 0);
	for (i = 0; i < test_steps(FORKS); i++)
		assert_int_equal(peer_run(has_what_is_mapped, base), 0);
	stop = true;
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(failed, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, mount_it, umount_it)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_child_of_an_open_has_no_companion),
		T(a_child_of_a_create_has_no_companion),
		T(a_child_has_a_companion_only_with_the_arena),
	};

	return cmocka_run_group_tests(tests, find_huge, test_box_close);
}
