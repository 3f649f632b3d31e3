/* SPDX-License-Identifier: BSD-3-Clause */
/* test_no_proc.c - arenas where /proc is not mounted. */
#include "test.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "kernel.h"
#include "list.h"
#include "peer.h"
#include "probe.h"

#define NOBODY 65534

static uid_t user;

/* Neither of the ways to give a file without a name one. */
static int cannot_link(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), rc;
	char from[64], to[4096];

	PEER_CHECK(fd >= 0);
	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	snprintf(to, sizeof(to), "%s/a", dir);
	rc = linkat(fd, "", AT_FDCWD, to, AT_EMPTY_PATH);
	PEER_CHECK(rc == -1 && errno == ENOENT);
	rc = linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW);
	PEER_CHECK(rc == -1 && errno == ENOENT);
	close(fd);
	return 0;
}

static int create_all(struct peer *self, void *arg)
{
	const char *dir = arg, *path = box_path("dir/a");
	tmc_shmem_t *shm, *other;
	char temp[4096];
	struct stat st;
	void *base;

	(void)self;
	PEER_CHECK(!unshare(CLONE_NEWNS) &&
		   !mount("none", "/proc", "tmpfs", 0, NULL));
	PEER_CHECK(!user || !peer_become(user));
	PEER_CHECK(!kernel_without_empty_path());
	PEER_CHECK(access("/proc/self", F_OK) == -1);
	if (cannot_link(dir))
		return 1;
	shm = tmc_shmem_create(path, NULL, NULL, 64 * MIB);
	PEER_CHECK(shm && probe_files(dir) == 1);
	PEER_CHECK(stat(path, &st) == 0);
	PEER_CHECK((st.st_mode & 07777) == 0600 && st.st_nlink == 1);
	PEER_CHECK(list_add(shm, 100) == 0);
	PEER_CHECK(!tmc_shmem_create(path, NULL, NULL, 0) && errno == EEXIST);
	snprintf(temp, sizeof(temp), "%s/XXXXXX", dir);
	other = tmc_shmem_create_temp(temp, NULL, NULL, MIB);
	PEER_CHECK(other && probe_files(dir) == 2);
	PEER_CHECK(strcmp(temp + strlen(temp) - 6, "XXXXXX"));
	base = tmc_shmem_address(other);
	PEER_CHECK(!tmc_shmem_unlink(temp));
	/* The second attempt fails, too, and leaves nothing. */
	snprintf(temp, sizeof(temp), "%s/b", dir);
	PEER_CHECK(!tmc_shmem_create(temp, NULL, base, MIB));
	PEER_CHECK(errno == EADDRINUSE && probe_files(dir) == 1);
	tmc_shmem_close(other);
	/* As asked for in the second one, too. */
	other = tmc_shmem_create(temp, NULL, base, MIB);
	PEER_CHECK(tmc_shmem_address(other) == base);
	PEER_CHECK(!tmc_shmem_unlink(temp));
	tmc_shmem_close(other);
	snprintf(temp, sizeof(temp), "%s/none/a", dir);
	PEER_CHECK(!tmc_shmem_create(temp, NULL, NULL, MIB));
	PEER_CHECK(errno == ENOENT);
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(path);
	PEER_CHECK(shm && list_count(shm) == 100);
	tmc_shmem_close(shm);
	PEER_CHECK(!tmc_shmem_unlink(path) && probe_files(dir) == 0);
	return 0;
}

/* Of root, too, an older kernel wants rights that a container may not have. */
static void a_file_that_cannot_be_linked_is_named_first(void **state)
{
	const char *dir = box_path("dir");

	(void)state;
	if (!box_can_mount())
		skip();
	assert_int_equal(mkdir(dir, 0777), 0);
	assert_int_equal(chmod(dir, 0777), 0);
	assert_int_equal(peer_run(create_all, (void *)(uintptr_t)dir), 0);
	user = NOBODY;
	assert_int_equal(peer_run(create_all, (void *)(uintptr_t)dir), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_that_cannot_be_linked_is_named_first),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
