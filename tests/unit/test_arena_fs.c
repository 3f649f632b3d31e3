/* SPDX-License-Identifier: BSD-3-Clause */
/* test_arena_fs.c - the same arena on every kind of file system; THP, NUMA. */
#include "test.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "kernel.h"
#include "list.h"
#include "peer.h"
#include "probe.h"

static size_t page;

/* An arena's life at @name in the box, with a stranger in it. */
static void live_in(const char *name)
{
	const char *path = box_path(name);
	const char *const visit[] = { "open", path,   "list",	"1000",
				      "add",  "500",  "forked", "add",
				      "500",  "list", "2000",	NULL };
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 64 * MIB);
	tmc_alloc_t lazy;
	struct stat st;
	char *p;

	assert_non_null(shm);
	assert_null_errno(tmc_shmem_create(path, NULL, NULL, 0), EEXIST);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_nlink, 1);
	assert_true(st.st_blocks * 512 <= 64 * 1024);
	assert_int_equal(list_add(shm, 1000), 0);
	assert_int_equal(peer_run_agent("visitor", visit), 0);
	assert_int_equal(list_count(shm), 2000);
	p = tmc_shmem_grow(shm, 10 * MIB);
	assert_non_null(p);
	assert_int_equal(probe_present(p, 10 * MIB), 10 * MIB);
	assert_true(probe_zero(p, 10 * MIB));
	memset(p, 1, 10 * MIB);
	assert_int_equal(tmc_alloc_unmap(p, 10 * MIB), 0);
	lazy = *tmc_alloc_clear_populate(tmc_shmem_alloc(shm));
	assert_ptr_equal(tmc_alloc_map(&lazy, 10 * MIB), p);
	assert_true(probe_zero(p, 10 * MIB));
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(path);
	assert_non_null(shm);
	assert_int_equal(list_count(shm), 2000);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_non_null(tmc_shmem_grow(shm, MIB));
	tmc_shmem_close(shm);
	assert_int_equal(access(path, F_OK), -1);
}

static void arenas_live_on_tmpfs(void **state)
{
	(void)state;
	assert_int_equal(mkdir(box_path("tmpfs"), 0777), 0);
	live_in("tmpfs/arena");
	assert_int_equal(rmdir(box_path("tmpfs")), 0);
}

static void arenas_live_on_an_overlay(void **state)
{
	(void)state;
	if (box_overlay("overlay"))
		skip();
	live_in("overlay/arena");
	assert_int_equal(probe_files(box_path("overlay")), 0);
	assert_int_equal(box_umount("overlay"), 0);
}

static void live_on_image(const char *type, size_t mib)
{
	char name[32];

	snprintf(name, sizeof(name), "%s/arena", type);
	if (box_image(type, type, mib))
		skip();
	live_in(name);
	assert_int_equal(box_umount(type), 0);
}

static void arenas_live_on_ext4(void **state)
{
	(void)state;
	live_on_image("ext4", 64);
}

static void arenas_live_on_xfs(void **state)
{
	(void)state;
	live_on_image("xfs", 512);
}

static void arenas_live_on_btrfs(void **state)
{
	(void)state;
	live_on_image("btrfs", 256);
}

/* Takes all the room of a mount, and lets it be written to the disk. */
static void fill(const char *name)
{
	const size_t len = 4 * MIB;
	char *bytes = calloc(1, len);
	int fd = open(box_path(name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	size_t n = len;

	memset(bytes, 7, len);
	while (n >= page)
		if (write(fd, bytes, n) < 0 || fsync(fd))
			n /= 2;
	syncfs(fd);
	close(fd);
	free(bytes);
}

/* Whether this kernel lets a page of that file be written again now. */
static int can_write_again(char *at)
{
	return !madvise(at, page, MADV_POPULATE_WRITE);
}

/* Pages that were written to the disk are written again when it is full. */
static int work_on_a_full_disk(struct peer *self, void *arg)
{
	tmc_shmem_t *shm =
		tmc_shmem_create(box_path("btrfs/a"), NULL, NULL, GIB);
	char *p = tmc_shmem_grow(shm, MIB);
	tmc_alloc_t lazy = *tmc_shmem_alloc(shm);

	(void)self;
	(void)arg;
	PEER_CHECK(p);
	memset(p, 1, MIB);
	fill("btrfs/b");
	if (!can_write_again(p))
		return 77;
	PEER_CHECK(!tmc_shmem_grow(shm, 16 * MIB) && errno == ENOMEM);
	PEER_CHECK(tmc_alloc_map(tmc_alloc_clear_populate(&lazy), page));
	PEER_CHECK(tmc_shmem_set_data(shm, p) == 0);
	PEER_CHECK(tmc_shmem_shrink(shm, MIB, page) == 0);
	memset(p, 2, MIB);
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(box_path("btrfs/a"));
	PEER_CHECK(shm && tmc_shmem_get_data(shm) == p);
	PEER_CHECK(tmc_shmem_shrink(shm, 0, MIB) == 0);
	tmc_shmem_close(shm);
	return 0;
}

static void a_full_btrfs_raises_no_signal(void **state)
{
	int rc, flags = FS_COMPR_FL, dir;
	tmc_shmem_t *shm;

	(void)state;
	if (box_image("btrfs", "btrfs", 256))
		skip();
	/* What is made there would be compressed, and that beside the old. */
	dir = open(box_path("btrfs"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(ioctl(dir, FS_IOC_SETFLAGS, &flags), 0);
	close(dir);
	shm = tmc_shmem_create(box_path("btrfs/flags"), NULL, NULL, MIB);
	assert_non_null(shm);
	assert_int_equal(ioctl(tmc_shmem_fd(shm), FS_IOC_GETFLAGS, &flags), 0);
	assert_true(flags & FS_NOCOW_FL);
	tmc_shmem_close(shm);
	rc = peer_run(work_on_a_full_disk, NULL);
	assert_int_equal(box_umount("btrfs"), 0);
	if (rc == 77)
		print_message("this kernel takes room for it all the same\n");
	else
		assert_int_equal(rc, 0);
}

static void arenas_live_where_the_machine_keeps_files(void **state)
{
	char path[] = "/var/tmp/shmtest.XXXXXX";
	tmc_shmem_t *shm = tmc_shmem_create_temp(path, NULL, NULL, MIB);

	(void)state;
	if (!shm && (errno == EACCES || errno == ENOENT || errno == EROFS))
		skip();
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_int_equal(list_add(shm, 100), 0);
	tmc_shmem_close(shm);
}

static void a_read_only_mount_can_be_read(void **state)
{
	const char *path;
	tmc_shmem_t *shm;

	(void)state;
	if (box_mount("rofs", "tmpfs", ""))
		skip();
	path = box_path("rofs/arena");
	shm = tmc_shmem_create(path, NULL, NULL, MIB);
	assert_non_null(shm);
	assert_int_equal(list_add(shm, 10), 0);
	tmc_shmem_close(shm);
	assert_int_equal(
		mount("", box_path("rofs"), "", MS_REMOUNT | MS_RDONLY, ""), 0);
	assert_null_errno(tmc_shmem_open(path), EROFS);
	assert_null_errno(tmc_shmem_create(box_path("rofs/b"), NULL, NULL, MIB),
			  EROFS);
	assert_minus_errno(tmc_shmem_unlink(path), EROFS);
	shm = tmc_shmem_open_readonly(path);
	assert_non_null(shm);
	assert_int_equal(list_count(shm), 10);
	tmc_shmem_close(shm);
	assert_int_equal(box_umount("rofs"), 0);
}

static void a_sealed_file_does_not_change_its_size(void **state)
{
	const char *path = box_path("seal");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, MIB), *sealed;
	char bytes[4096];
	struct stat st;
	off_t at;
	int fd = memfd_create("arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)state;
	assert_int_equal(list_add(shm, 100), 0);
	assert_int_equal(fstat(tmc_shmem_fd(shm), &st), 0);
	for (at = 0; at < st.st_size; at += (off_t)sizeof(bytes)) {
		assert_int_equal(
			pread(tmc_shmem_fd(shm), bytes, sizeof(bytes), at),
			sizeof(bytes));
		assert_int_equal(pwrite(fd, bytes, sizeof(bytes), at),
				 sizeof(bytes));
	}
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK),
			 0);
	sealed = tmc_shmem_open_fds(fd, -1);
	assert_non_null(sealed);
	assert_int_equal(list_count(sealed), 100);
	assert_null_errno(tmc_shmem_grow(sealed, page), EPERM);
	assert_null_errno(tmc_shmem_grow(sealed, MIB / 2), EPERM);
	assert_minus_errno(tmc_shmem_shrink(sealed, 0, page), EPERM);
	assert_int_equal(tmc_shmem_current_size(sealed), page);
	assert_int_equal(list_count(sealed), 100);
	tmc_shmem_close(sealed);
	close(fd);
}

/*
 * The named file cannot lie on hugetlbfs, whatever is in it: lengths there are
 * those of huge pages, and nothing can be written but through a mapping.
 */
static void create_in_huge_mount_fails(const tmc_alloc_t *a)
{
	char template[4096];

	strcpy(template, box_path("huge/XXXXXX"));
	assert_null_errno(tmc_shmem_create(box_path("huge/x"), a, NULL, MIB),
			  EINVAL);
	assert_null_errno(tmc_shmem_create_temp(template, a, NULL, MIB),
			  EINVAL);
}

/* The beginning of an arena of small pages, in a page of a file there. */
static int forge_in_huge_mount(const char *path, size_t huge)
{
	tmc_shmem_t *shm =
		tmc_shmem_create(box_path("real"), NULL, NULL, MIB + page);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char *at = mmap(NULL, huge, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_non_null(shm);
	assert_true(at != MAP_FAILED);
	assert_int_equal(pread(tmc_shmem_fd(shm), at, 16 * KIB, 0), 16 * KIB);
	assert_int_equal(munmap(at, huge), 0);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("real")), 0);
	return fd;
}

static void the_named_file_does_not_lie_on_hugetlbfs(void **state)
{
	const size_t huge = tmc_alloc_get_huge_pagesize();
	const char *path = box_path("huge/forged");
	tmc_alloc_t a = TMC_ALLOC_INIT;
	size_t maps, fds;
	struct stat st;
	int fd;

	(void)state;
	if (!box_can_mount() || !huge || box_pool(huge, 4) < 4 ||
	    box_hugetlbfs("huge", huge, ""))
		skip();
	fd = forge_in_huge_mount(path, huge);
	maps = probe_maps();
	fds = probe_fds();
	create_in_huge_mount_fails(NULL);
	create_in_huge_mount_fails(tmc_alloc_set_huge(&a));
	assert_null_errno(tmc_shmem_open(path), EINVAL);
	assert_null_errno(tmc_shmem_open_readonly(path), EINVAL);
	assert_null_errno(tmc_shmem_open_fds(fd, -1), EINVAL);
	assert_minus_errno(tmc_shmem_unlink(path), EINVAL);
	if (!UNDER_SANITIZER) /* which maps shadow as it likes */
		assert_int_equal(probe_maps(), maps);
	assert_int_equal(probe_fds(), fds);
	assert_int_equal(probe_files(box_path("huge")), 1);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, huge);
	close(fd);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(box_umount("huge"), 0);
	box_pool_end();
}

/* Whether the kernel maps a huge page on this mount for a bare program. */
static int bare_thp(const char *name)
{
	int fd = open(box_path(name), O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	int got;
	char *p;

	if (fd < 0 || ftruncate(fd, 16 * MIB))
		return 0;
	p = mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return 0;
	madvise(p, 16 * MIB, MADV_HUGEPAGE);
	memset(p, 1, 16 * MIB);
	got = probe_smaps(p, "ShmemPmdMapped") != 0;
	munmap(p, 16 * MIB);
	return got;
}

static void thp_gives_huge_pages_where_the_mount_does(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;
	char *p;

	(void)state;
	if (box_mount("thp", "tmpfs", "huge=advise"))
		skip();
	if (!bare_thp("thp")) {
		box_umount("thp");
		skip();
	}
	tmc_alloc_set_thp(&a);
	shm = tmc_shmem_create(box_path("thp/a"), &a, NULL, 64 * MIB);
	assert_non_null(shm);
	assert_int_equal((uintptr_t)tmc_shmem_address(shm) % (2 * MIB), 0);
	assert_int_equal(tmc_alloc_get_thp(tmc_shmem_alloc(shm)), 1);
	p = tmc_shmem_grow(shm, 16 * MIB);
	assert_int_equal(probe_present(p, 16 * MIB), 16 * MIB);
	assert_true(probe_smaps(p, "ShmemPmdMapped") > 0);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("thp/a")), 0);
	assert_int_equal(box_umount("thp"), 0);
}

static void thp_is_ignored_where_the_mount_gives_none(void **state)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;
	const char *path = box_path("nothp");

	(void)state;
	shm = tmc_shmem_create(path, tmc_alloc_set_thp(&a), NULL, 64 * MIB);
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_page_size(shm), page);
	assert_ptr_equal(tmc_shmem_grow(shm, 5 * page), tmc_shmem_address(shm));
	assert_int_equal(probe_present(tmc_shmem_address(shm), 5 * page),
			 5 * page);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void set_policy(tmc_alloc_t *a, int i, unsigned long nodes)
{
	tmc_alloc_init(a);
	if (i == 0)
		tmc_alloc_set_nodes(a, nodes);
	else if (i == 1)
		tmc_alloc_set_node_preferred(a, __builtin_ctzl(nodes));
	else if (i == 2)
		tmc_alloc_set_nodes_interleaved(a, nodes);
	else if (i == 3)
		tmc_alloc_set_node_local(a);
	else
		tmc_alloc_set_node_default(a);
}

static int numa_works(struct peer *self, void *arg)
{
	const char *path = box_path("numa");
	tmc_alloc_t a;
	int i;

	(void)self;
	if (arg && kernel_refuse(SYS_mbind, *(int *)arg))
		return 77;
	for (i = 0; i < 5; i++) {
		tmc_shmem_t *shm;

		set_policy(&a, i, tmc_alloc_get_available_nodes());
		shm = tmc_shmem_create(path, &a, NULL, MIB);
		PEER_CHECK(shm);
		PEER_CHECK(list_add(shm, 10) == 0);
		tmc_shmem_close(shm);
		PEER_CHECK(tmc_shmem_unlink(path) == 0);
	}
	return 0;
}

static void numa_policies_of_nodes_that_exist_are_taken(void **state)
{
	(void)state;
	assert_int_equal(peer_run(numa_works, NULL), 0);
}

static void numa_is_ignored_where_mbind_is_refused(void **state)
{
	int errors[] = { EPERM, ENOSYS };
	size_t i;

	(void)state;
	for (i = 0; i < 2; i++) {
		int rc = peer_run(numa_works, &errors[i]);

		if (rc == 77)
			skip();
		assert_int_equal(rc, 0);
	}
}

static void nodes_that_do_not_exist_are_refused_and_leave_nothing(void **state)
{
	const size_t fds = probe_fds(), files = probe_files(box_path(""));
	tmc_alloc_t a;
	int i;

	(void)state;
	if (tmc_alloc_get_available_nodes() >> 63)
		skip();
	for (i = 0; i < 3; i++) {
		set_policy(&a, i, 1UL << 63);
		assert_null_errno(
			tmc_shmem_create(box_path("numa"), &a, NULL, MIB),
			EINVAL);
	}
	assert_int_equal(probe_fds(), fds);
	assert_int_equal(probe_files(box_path("")), files);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arenas_live_on_tmpfs),
		cmocka_unit_test(arenas_live_on_an_overlay),
		cmocka_unit_test(arenas_live_on_ext4),
		cmocka_unit_test(arenas_live_on_xfs),
		cmocka_unit_test(arenas_live_on_btrfs),
		cmocka_unit_test(a_full_btrfs_raises_no_signal),
		cmocka_unit_test(arenas_live_where_the_machine_keeps_files),
		cmocka_unit_test(a_read_only_mount_can_be_read),
		cmocka_unit_test(a_sealed_file_does_not_change_its_size),
		cmocka_unit_test(the_named_file_does_not_lie_on_hugetlbfs),
		cmocka_unit_test(thp_gives_huge_pages_where_the_mount_does),
		cmocka_unit_test(thp_is_ignored_where_the_mount_gives_none),
		cmocka_unit_test(numa_policies_of_nodes_that_exist_are_taken),
		cmocka_unit_test(numa_is_ignored_where_mbind_is_refused),
		cmocka_unit_test(
			nodes_that_do_not_exist_are_refused_and_leave_nothing),
	};

	page = (size_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
