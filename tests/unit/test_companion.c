/* SPDX-License-Identifier: BSD-3-Clause */
/* test_companion.c - a companion is one arena's, and stays with it. */
#include "test.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "file.h"
#include "kernel.h"
#include "list.h"
#include "peer.h"
#include "probe.h"

#define NOBODY 65534

static size_t huge; /* the default size; 0: none */
static tmc_alloc_t alloc;

static int find_huge(void **state)
{
	huge = tmc_alloc_get_huge_pagesize();
	tmc_alloc_set_mode(tmc_alloc_set_huge(tmc_alloc_init(&alloc)), 0666);
	return test_box_open(state);
}

static int begin(void **state)
{
	(void)state;
	umask(0);
	return 0;
}

static int end(void **state)
{
	(void)state;
	umount(box_path("one/a"));
	box_umount("one");
	box_umount("two");
	box_umount("huge");
	box_pool_end();
	return 0;
}

#define NEED_PAGES()                                                           \
	do {                                                                   \
		if (!huge || box_pool(huge, 2) < 2 ||                          \
		    box_hugetlbfs("huge", huge, "mode=1777") ||                \
		    box_mount("one", "tmpfs", "") ||                           \
		    box_mount("two", "tmpfs", ""))                             \
			skip();                                                \
	} while (0)

static void make(const char *path)
{
	tmc_shmem_t *shm = tmc_shmem_create(path, &alloc, NULL, 4 * huge);

	assert_non_null(shm);
	assert_int_equal(list_add(shm, 10), 0);
	tmc_shmem_close(shm);
}

static void assert_whole(const char *path)
{
	tmc_shmem_t *shm = tmc_shmem_open(path);

	assert_non_null(shm);
	assert_int_equal(list_count(shm), 10);
	tmc_shmem_close(shm);
}

/* Two file systems that are new number their files alike. */
static void a_copy_with_the_same_inode_number_leads_nowhere(void **state)
{
	const char *a = box_path("one/a"), *b = box_path("two/b");
	struct stat one, two;

	(void)state;
	NEED_PAGES();
	make(a);
	assert_int_equal(file_copy(a, b), 0);
	assert_int_equal(stat(a, &one), 0);
	assert_int_equal(stat(b, &two), 0);
	if (one.st_ino != two.st_ino)
		skip();
	assert_null_errno(tmc_shmem_open(b), ENOENT);
	assert_null_errno(tmc_shmem_open_readonly(b), ENOENT);
	assert_int_equal(tmc_shmem_unlink(b), 0);
	assert_int_equal(access(b, F_OK), -1);
	assert_whole(a);
	assert_int_equal(tmc_shmem_unlink(a), 0);
	assert_int_equal(probe_files(box_path("huge")), 0);
}

static void the_companion_goes_with_the_last_name(void **state)
{
	const char *a = box_path("one/a"), *b = box_path("one/b");

	(void)state;
	NEED_PAGES();
	make(a);
	assert_int_equal(link(a, b), 0);
	assert_int_equal(tmc_shmem_unlink(a), 0);
	assert_int_equal(access(a, F_OK), -1);
	assert_whole(b);
	assert_int_equal(link(b, a), 0);
	assert_int_equal(tmc_shmem_unlink_idle(a), 0);
	assert_whole(b);
	assert_int_equal(tmc_shmem_unlink(b), 0);
	assert_int_equal(probe_files(box_path("huge")), 0);
}

static void a_link_to_another_takes_its_place(void)
{
	unlink(box_path("one/a"));
	if (symlink(box_path("two/b"), box_path("one/a"))) {
		/* Then the test fails. */
	}
}

/* Whoever may change names in a folder must not lead an unlink there to the
 * companion of an arena elsewhere. */
static void unlink_is_not_led_astray_by_a_link(void **state)
{
	const char *a = box_path("one/a"), *b = box_path("two/b");
	tmc_alloc_t small = TMC_ALLOC_INIT;
	int i;

	(void)state;
	NEED_PAGES();
	make(b);
	for (i = 0; i < 2; i++) {
		tmc_shmem_close(tmc_shmem_create(a, &small, NULL, MIB));
		kernel_before_open(a_link_to_another_takes_its_place);
		assert_minus_errno(i ? tmc_shmem_unlink_idle(a)
				     : tmc_shmem_unlink(a),
				   ENOENT);
		assert_int_equal(unlink(a), 0);
		assert_whole(b);
	}
	assert_int_equal(tmc_shmem_unlink(b), 0);
}

/* ----- a companion that has lost its arena ----- */

static int grows_and_closes(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = tmc_shmem_open(arg);
	uint64_t word;

	PEER_CHECK(shm && !peer_put(self, 0) && !peer_get(self, &word));
	PEER_CHECK(list_count(shm) == 10 && tmc_shmem_grow(shm, huge));
	tmc_shmem_close(shm);
	return 0;
}

static void who_closes_takes_a_companion_without_its_arena(void **state)
{
	const char *a = box_path("one/a"), *b = box_path("one/b");
	tmc_shmem_t *shm, *reader;
	struct peer p;
	uint64_t word;

	(void)state;
	NEED_PAGES();
	/* As long as there is any name it stays. */
	make(a);
	shm = tmc_shmem_open(a);
	assert_int_equal(link(a, b) || unlink(a) || rename(b, a), 0);
	tmc_shmem_close(shm);
	assert_whole(a);
	/* Others go on. */
	assert_int_equal(peer_fork(&p, grows_and_closes, (void *)(uintptr_t)a),
			 0);
	assert_int_equal(peer_get(&p, &word), 0);
	shm = tmc_shmem_open(a);
	reader = tmc_shmem_open_readonly(a);
	assert_true(shm && reader);
	assert_int_equal(unlink(a), 0);
	assert_int_equal(probe_files(box_path("huge")), 1);
	tmc_shmem_close(reader);
	assert_int_equal(probe_files(box_path("huge")), 0);
	assert_int_equal(list_count(shm), 10);
	tmc_shmem_close(shm);
	assert_int_equal(peer_put(&p, 0), 0);
	assert_int_equal(peer_end(&p), 0);
	/* Who has made it is no other. */
	shm = tmc_shmem_create(a, &alloc, NULL, huge);
	assert_int_equal(unlink(a), 0);
	tmc_shmem_close(shm);
	assert_int_equal(probe_files(box_path("huge")), 0);
}

static int unlinks_without_the_mount(struct peer *self, void *arg)
{
	(void)self;
	PEER_CHECK(!unshare(CLONE_NEWNS) && !umount(box_path("huge")));
	PEER_CHECK(!tmc_shmem_open(arg) && errno == ENOENT);
	PEER_CHECK(!tmc_shmem_unlink(arg));
	return 0;
}

static int unlinks_as_nobody(struct peer *self, void *arg)
{
	(void)self;
	PEER_CHECK(!peer_become(NOBODY));
	PEER_CHECK(!tmc_shmem_unlink(arg));
	return 0;
}

static void unlink_takes_the_file_where_the_mount_is_not(void **state)
{
	peer_fn *const fn[] = { unlinks_without_the_mount, unlinks_as_nobody };
	const char *a = box_path("one/a");
	tmc_shmem_t *shm;
	size_t i;

	(void)state;
	NEED_PAGES();
	assert_int_equal(chmod(box_path("one"), 0777), 0);
	assert_int_equal(chmod(box_path("huge"), 0700), 0);
	for (i = 0; i < sizeof(fn) / sizeof(fn[0]); i++) {
		make(a);
		shm = tmc_shmem_open(a);
		assert_non_null(shm);
		assert_int_equal(peer_run(fn[i], (void *)(uintptr_t)a), 0);
		assert_int_equal(access(a, F_OK), -1);
		assert_int_equal(probe_files(box_path("huge")), 1);
		assert_int_equal(list_count(shm), 10);
		tmc_shmem_close(shm);
		assert_int_equal(probe_files(box_path("huge")), 0);
	}
}

/* ----- an unlink that fails has changed nothing ----- */

static void refuses(const char *path, int err)
{
	assert_minus_errno(tmc_shmem_unlink(path), err);
	assert_whole(path);
	assert_minus_errno(tmc_shmem_unlink_idle(path), err);
	assert_whole(path);
}

static void unlink_of_a_mount_point_changes_nothing(void **state)
{
	const char *a = box_path("one/a");

	(void)state;
	NEED_PAGES();
	make(a);
	assert_int_equal(mount(a, a, NULL, MS_BIND, NULL), 0);
	refuses(a, EBUSY);
	assert_int_equal(umount(a), 0);
	assert_int_equal(tmc_shmem_unlink(a), 0);
}

static int refuses_nobody(struct peer *self, void *arg)
{
	const char *path = arg;
	int err = path[0] == '!' ? EPERM : EACCES;

	(void)self;
	path += path[0] == '!';
	PEER_CHECK(peer_become(NOBODY) == 0);
	PEER_CHECK(tmc_shmem_unlink(path) == -1 && errno == err);
	PEER_CHECK(tmc_shmem_unlink_idle(path) == -1 && errno == err);
	return 0;
}

static void unlink_without_permission_changes_nothing(void **state)
{
	const char *a = box_path("one/a");
	char sticky[4096] = "!";

	(void)state;
	NEED_PAGES();
	make(a);
	assert_int_equal(chmod(box_path("one"), 0755), 0);
	assert_int_equal(peer_run(refuses_nobody, (void *)(uintptr_t)a), 0);
	assert_whole(a);
	assert_int_equal(chmod(box_path("one"), 01777), 0);
	strncat(sticky, a, sizeof(sticky) - 2);
	assert_int_equal(peer_run(refuses_nobody, sticky), 0);
	assert_whole(a);
	assert_int_equal(tmc_shmem_unlink(a), 0);
}

static void set_flag(const char *path, int flag)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, FS_IOC_SETFLAGS, &flag), 0);
	close(fd);
}

static void unlink_in_an_unchangeable_folder_changes_nothing(void **state)
{
	const char *dir = box_path("image"), *a = box_path("image/a");

	(void)state;
	NEED_PAGES();
	if (box_image("image", "ext4", 16))
		skip();
	make(a);
	set_flag(dir, FS_APPEND_FL);
	refuses(a, EPERM);
	set_flag(dir, 0);
	assert_int_equal(
		mount(NULL, dir, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL),
		0);
	assert_minus_errno(tmc_shmem_unlink(a), EROFS);
	assert_int_equal(mount(NULL, dir, NULL, MS_REMOUNT | MS_BIND, NULL), 0);
	assert_whole(a);
	assert_int_equal(tmc_shmem_unlink(a), 0);
	assert_int_equal(box_umount("image"), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_copy_with_the_same_inode_number_leads_nowhere),
		T(the_companion_goes_with_the_last_name),
		T(unlink_is_not_led_astray_by_a_link),
		T(who_closes_takes_a_companion_without_its_arena),
		T(unlink_takes_the_file_where_the_mount_is_not),
		T(unlink_of_a_mount_point_changes_nothing),
		T(unlink_without_permission_changes_nothing),
		T(unlink_in_an_unchangeable_folder_changes_nothing),
	};

	return cmocka_run_group_tests(tests, find_huge, test_box_close);
}
