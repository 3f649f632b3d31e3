/* SPDX-License-Identifier: BSD-3-Clause */
/* test_bad.c - bad input gets its errno, and nothing is leaked or touched. */
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "layout.h"
#include "list.h"
#include "peer.h"
#include "probe.h"

static size_t page;

static void write_file(const char *path, const void *bytes, size_t len)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	close(fd);
}

/* All four calls that take a path to an arena refuse it, and it stays. */
static void assert_refused(const char *path, int err)
{
	struct stat before, after;

	assert_int_equal(lstat(path, &before), 0);
	assert_null_errno(tmc_shmem_open(path), err);
	assert_null_errno(tmc_shmem_open_readonly(path), err);
	assert_minus_errno(tmc_shmem_unlink(path), err);
	assert_null_errno(tmc_shmem_create(path, NULL, NULL, MIB), EEXIST);
	assert_int_equal(lstat(path, &after), 0);
	assert_int_equal(after.st_ino, before.st_ino);
	assert_int_equal(after.st_size, before.st_size);
	assert_int_equal(after.st_mode, before.st_mode);
}

static void files_that_are_no_arena_are_refused(void **state)
{
	const char *path = box_path("file");
	char *much = calloc(1, 4 * MIB);

	(void)state;
	write_file(path, "", 0);
	assert_refused(path, EINVAL);
	write_file(path, "hello\n", 6);
	assert_refused(path, EINVAL);
	write_file(path, much, 4 * MIB);
	assert_refused(path, EINVAL);
	memset(much, 0xff, 4 * MIB);
	write_file(path, much, 4 * MIB);
	assert_refused(path, EINVAL);
	free(much);
	assert_int_equal(unlink(path), 0);
}

static void a_directory_is_refused(void **state)
{
	(void)state;
	assert_int_equal(mkdir(box_path("dir"), 0700), 0);
	assert_refused(box_path("dir"), EINVAL);
	assert_int_equal(rmdir(box_path("dir")), 0);
	assert_refused("/", EINVAL);
}

/* A FIFO without a writer would block who opens it. */
static void a_fifo_is_refused_at_once(void **state)
{
	(void)state;
	assert_int_equal(mkfifo(box_path("fifo"), 0600), 0);
	assert_refused(box_path("fifo"), EINVAL);
	assert_int_equal(unlink(box_path("fifo")), 0);
}

static void a_socket_is_refused(void **state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	snprintf(a.sun_path, sizeof(a.sun_path), "%.100s", box_path("socket"));
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_refused(box_path("socket"), EINVAL);
	close(fd);
	assert_int_equal(unlink(box_path("socket")), 0);
}

static void devices_are_refused(void **state)
{
	const char *const devices[] = { "/dev/null", "/dev/zero", "/dev/full",
					"/dev/ptmx" };
	size_t i;

	(void)state;
	for (i = 0; i < 4; i++)
		assert_refused(devices[i], EINVAL);
	if (mknod(box_path("none"), S_IFCHR | 0600, makedev(250, 250)))
		return;
	assert_refused(box_path("none"), EINVAL);
	assert_int_equal(unlink(box_path("none")), 0);
}

static void links_that_lead_nowhere_are_refused(void **state)
{
	const char *dangling = box_path("dangling"), *loop = box_path("loop");

	(void)state;
	assert_int_equal(symlink(box_path("nothing"), dangling), 0);
	assert_null_errno(tmc_shmem_open(dangling), ENOENT);
	assert_null_errno(tmc_shmem_open_readonly(dangling), ENOENT);
	assert_int_equal(tmc_shmem_unlink(dangling), -1);
	assert_true(errno == ENOENT || errno == EINVAL);
	assert_null_errno(tmc_shmem_create(dangling, NULL, NULL, MIB), EEXIST);
	assert_int_equal(access(box_path("nothing"), F_OK), -1);
	assert_int_equal(unlink(dangling), 0);
	assert_int_equal(symlink(loop, loop), 0);
	assert_null_errno(tmc_shmem_open(loop), ELOOP);
	assert_null_errno(tmc_shmem_create(loop, NULL, NULL, MIB), EEXIST);
	assert_int_equal(unlink(loop), 0);
}

static void paths_that_are_none_are_refused(void **state)
{
	const char *missing = box_path("missing"), *in = box_path("file/x");
	static char long_name[5000];

	(void)state;
	assert_null_errno(tmc_shmem_create(NULL, NULL, NULL, MIB), EINVAL);
	assert_null_errno(tmc_shmem_open(NULL), EINVAL);
	assert_null_errno(tmc_shmem_open_readonly(NULL), EINVAL);
	assert_minus_errno(tmc_shmem_unlink(NULL), EINVAL);
	assert_null_errno(tmc_shmem_create("", NULL, NULL, MIB), ENOENT);
	assert_null_errno(tmc_shmem_open(""), ENOENT);
	assert_null_errno(tmc_shmem_open_readonly(""), ENOENT);
	assert_minus_errno(tmc_shmem_unlink(""), ENOENT);
	assert_null_errno(tmc_shmem_open(missing), ENOENT);
	assert_null_errno(tmc_shmem_open_readonly(missing), ENOENT);
	assert_minus_errno(tmc_shmem_unlink(missing), ENOENT);
	assert_int_equal(access(missing, F_OK), -1);
	write_file(box_path("file"), "x", 1);
	assert_null_errno(tmc_shmem_open(in), ENOTDIR);
	assert_minus_errno(tmc_shmem_unlink(in), ENOTDIR);
	assert_null_errno(tmc_shmem_create(in, NULL, NULL, MIB), ENOTDIR);
	assert_int_equal(unlink(box_path("file")), 0);
	assert_null_errno(tmc_shmem_create(in, NULL, NULL, MIB), ENOENT);
	memset(long_name, 'a', sizeof(long_name) - 1);
	assert_null_errno(tmc_shmem_open(long_name), ENAMETOOLONG);
	assert_minus_errno(tmc_shmem_unlink(long_name), ENAMETOOLONG);
	assert_null_errno(tmc_shmem_create(long_name, NULL, NULL, MIB),
			  ENAMETOOLONG);
	long_name[300] = '\0';
	assert_null_errno(tmc_shmem_open(box_path(long_name)), ENAMETOOLONG);
	assert_null_errno(
		tmc_shmem_create(box_path(long_name), NULL, NULL, MIB),
		ENAMETOOLONG);
	assert_null_errno(tmc_shmem_create(box_path("dir/"), NULL, NULL, MIB),
			  EISDIR);
}

/* The box is the root directory here, and there is no /proc. */
static int create_in_the_root(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;

	(void)self;
	(void)arg;
	PEER_CHECK(chdir(box_path("")) == 0 && chroot(".") == 0);
	shm = tmc_shmem_create("/root", NULL, NULL, MIB);
	PEER_CHECK(shm && tmc_shmem_grow(shm, MIB));
	tmc_shmem_close(shm);
	shm = tmc_shmem_open("root");
	PEER_CHECK(shm && tmc_shmem_current_size(shm) == MIB);
	tmc_shmem_close(shm);
	PEER_CHECK(tmc_shmem_unlink("/root") == 0);
	PEER_CHECK(access("/root", F_OK) == -1);
	return 0;
}

static void the_root_directory_is_one_like_others(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(peer_run(create_in_the_root, NULL), 0);
}

static void a_descriptor_without_rights_is_refused(void **state)
{
	const char *path = box_path("rights");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, MIB);
	int fd;

	(void)state;
	assert_non_null(shm);
	fd = open(path, O_PATH | O_CLOEXEC);
	assert_null_errno(tmc_shmem_open_fds(fd, -1), EBADF);
	close(fd);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_null_errno(tmc_shmem_open_fds(fd, -1), EACCES);
	close(fd);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* As if 3,584 processes had it open: users.c has the bytes. */
static int take_all_slots(struct peer *self, void *arg)
{
	struct flock all = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = ((off_t)1 << 62) + 16 + LAYOUT_GUESTS,
		.l_len = LAYOUT_SLOTS - LAYOUT_GUESTS,
	};
	int fd = open(arg, O_RDWR | O_CLOEXEC);
	tmc_shmem_t *shm;

	(void)self;
	PEER_CHECK(fcntl(fd, F_OFD_SETLK, &all) == 0);
	PEER_CHECK(!tmc_shmem_open(arg) && errno == EUSERS);
	shm = tmc_shmem_open_readonly(arg);
	PEER_CHECK(shm);
	PEER_CHECK(!tmc_shmem_open(arg) && errno == EUSERS);
	PEER_CHECK(!tmc_shmem_grow(shm, 1) && errno == EACCES);
	close(fd);
	PEER_CHECK(tmc_shmem_open(arg));
	return 0;
}

static void a_writer_too_many_is_told_eusers(void **state)
{
	const char *path = box_path("users");

	(void)state;
	tmc_shmem_close(tmc_shmem_create(path, NULL, NULL, MIB));
	assert_int_equal(peer_run(take_all_slots, (char *)path), 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void no_handle_has_no_root_pointer(void **state)
{
	(void)state;
	assert_null(tmc_shmem_get_data(NULL));
}

static void create_refuses_bad_attributes(void **state)
{
	const char *path = box_path("bad");
	tmc_alloc_t a;

	(void)state;
	tmc_alloc_init(&a)->pagesize = 12345;
	assert_null_errno(tmc_shmem_create(path, &a, NULL, MIB), EINVAL);
	tmc_alloc_init(&a)->pagesize = page * 2; /* no machine has it */
	assert_null_errno(tmc_shmem_create(path, &a, NULL, MIB), EINVAL);
	tmc_alloc_init(&a)->mmap_prot = 1;
	assert_null_errno(tmc_shmem_create(path, &a, NULL, MIB), EINVAL);
	tmc_alloc_init(&a)->mmap_prot = 0;
	assert_null_errno(tmc_shmem_create(path, &a, NULL, MIB), EINVAL);
	tmc_alloc_init(&a)->mmap_flags |= 0x10; /* MAP_FIXED */
	assert_null_errno(tmc_shmem_create(path, &a, NULL, MIB), EINVAL);
	tmc_alloc_init(&a)->mbind_policy = 99;
	assert_null_errno(tmc_shmem_create(path, &a, NULL, MIB), EINVAL);
	assert_int_equal(access(path, F_OK), -1);
}

/* A whole arena's file as bytes: header and some list nodes. */
static char *arena_bytes(size_t *len)
{
	const char *path = box_path("whole");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, MIB);
	struct stat st;
	char *bytes;
	int fd;

	assert_non_null(shm);
	assert_int_equal(list_add(shm, 100), 0);
	tmc_shmem_close(shm);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	*len = (size_t)st.st_size;
	bytes = malloc(*len);
	assert_int_equal(read(fd, bytes, *len), *len);
	close(fd);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	return bytes;
}

/* Open may say so, or find what is left of it; nothing else may happen. */
static void try_open(const char *path)
{
	tmc_shmem_t *shm = tmc_shmem_open(path);

	if (!shm) {
		assert_int_equal(errno, EINVAL);
		shm = tmc_shmem_open_readonly(path);
		if (!shm)
			assert_int_equal(errno, EINVAL);
		tmc_shmem_close(shm);
		return;
	}
	if (tmc_shmem_grow(shm, page))
		*(char *)tmc_shmem_address(shm) = 1;
	tmc_shmem_close(shm);
}

static void a_truncated_arena_is_refused_or_smaller(void **state)
{
	const char *path = box_path("cut");
	size_t len, cut;
	char *bytes = arena_bytes(&len);
	tmc_shmem_t *shm;

	(void)state;
	for (cut = 0; cut < 20000; cut += cut < 600 ? 1 : 1021) {
		write_file(path, bytes, len);
		assert_int_equal(truncate(path, (off_t)cut), 0);
		if (cut < page)
			assert_refused(path, EINVAL);
		else
			try_open(path);
	}
	/* Its pages are gone: it opens without them. */
	write_file(path, bytes, len);
	assert_int_equal(truncate(path, (off_t)(len - page)), 0);
	shm = tmc_shmem_open_readonly(path);
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_current_size(shm), 0);
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(path);
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_current_size(shm), 0);
	assert_ptr_equal(tmc_shmem_grow(shm, page), tmc_shmem_address(shm));
	tmc_shmem_close(shm);
	free(bytes);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void a_damaged_header_does_no_harm(void **state)
{
	static const unsigned char masks[] = { 0x01, 0x80, 0xff };
	const char *path = box_path("damaged");
	size_t len, at, i, fds, opened = 0;
	char *bytes = arena_bytes(&len);
	int fd;

	(void)state;
	write_file(path, bytes, len);
	fd = open(path, O_RDWR | O_CLOEXEC);
	fds = probe_fds();
	for (at = 0; at < 2048; at++) {
		for (i = 0; i < sizeof(masks); i++) {
			char bad = (char)(bytes[at] ^ masks[i]);

			assert_int_equal(pwrite(fd, bytes, 16384, 0), 16384);
			assert_int_equal(pwrite(fd, &bad, 1, (off_t)at), 1);
			try_open(path);
		}
		opened++;
	}
	assert_int_equal(opened, 2048);
	assert_int_equal(probe_fds(), fds);
	/* Magic, version, sizes: whatever comes first must be checked. */
	for (at = 0; at < 32; at++) {
		char bad = (char)(bytes[at] ^ 0x11);

		assert_int_equal(pwrite(fd, bytes, 16384, 0), 16384);
		assert_int_equal(pwrite(fd, &bad, 1, (off_t)at), 1);
		assert_refused(path, EINVAL);
	}
	close(fd);
	free(bytes);
	assert_int_equal(unlink(path), 0);
}

static void a_header_damaged_under_an_open_handle_does_no_harm(void **state)
{
	const char *path = box_path("live");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, MIB);
	static char noise[2048];
	size_t i, round;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	(void)state;
	assert_non_null(shm);
	srandom(1);
	/* The constants, which every handle keeps for itself. */
	for (round = 0; round < 50; round++) {
		for (i = 0; i < 128; i++)
			noise[i] = (char)random();
		assert_int_equal(pwrite(fd, noise, 128, 0), 128);
		assert_non_null(tmc_shmem_grow(shm, page));
		assert_int_equal(tmc_shmem_maximum_size(shm), MIB);
	}
	assert_int_equal(tmc_shmem_current_size(shm), 50 * page);
	assert_minus_errno(tmc_shmem_unlink(path), EINVAL);
	tmc_shmem_close(shm);
	close(fd);
	assert_int_equal(unlink(path), 0);
}

static void sizes_in_the_header_are_not_believed(void **state)
{
	static const uint64_t bad[] = { 1,	    4095,      4097,
					1 << 21,    1UL << 40, 1UL << 63,
					UINT64_MAX, ~4095UL };
	const char *path = box_path("sizes");
	size_t len, i, at;
	char *bytes = arena_bytes(&len);

	(void)state;
	for (at = 0; at < 1024; at += 8)
		for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			char keep[8];

			memcpy(keep, bytes + at, 8);
			memcpy(bytes + at, &bad[i], 8);
			write_file(path, bytes, len < 20000 ? len : 20000);
			assert_int_equal(truncate(path, (off_t)len), 0);
			try_open(path);
			memcpy(bytes + at, keep, 8);
		}
	free(bytes);
	assert_int_equal(unlink(path), 0);
}

/* One of each kind of failing call. */
static void fail_all_ways(tmc_shmem_t *shm, const char *path, const char *file)
{
	char template[4096];
	tmc_alloc_t a = TMC_ALLOC_INIT;
	char *at = tmc_shmem_address(shm);

	assert_null(tmc_shmem_open(box_path("missing")));
	assert_null(tmc_shmem_open(file));
	assert_null(tmc_shmem_open_readonly(file));
	assert_null(tmc_shmem_open("/dev/null"));
	assert_null(tmc_shmem_open(box_path("")));
	assert_null(tmc_shmem_create(path, NULL, NULL, MIB));
	assert_null(tmc_shmem_create(box_path("no/x"), NULL, NULL, MIB));
	assert_null(tmc_shmem_create(box_path("x"), NULL, at, MIB));
	assert_null(tmc_shmem_create(box_path("x"), NULL, at + 1, MIB));
	assert_null(tmc_shmem_create(box_path("x"), NULL, NULL, 1UL << 62));
	a.pagesize = 777;
	assert_null(tmc_shmem_create(box_path("x"), &a, NULL, MIB));
	assert_null(tmc_alloc_map(&a, page));
	tmc_alloc_init(&a);
	if (!(tmc_alloc_get_available_nodes() >> 63)) {
		tmc_alloc_set_nodes(&a, 1UL << 63);
		assert_null(tmc_shmem_create(box_path("x"), &a, NULL, MIB));
		assert_null(tmc_alloc_map(&a, page));
	}
	if (box_can_mount() && tmc_alloc_get_huge_pagesize()) {
		tmc_alloc_set_huge(tmc_alloc_init(&a));
		assert_null(tmc_shmem_create(box_path("x"), &a, NULL, MIB));
	}
	strcpy(template, box_path("no/XXXXXX"));
	assert_null(tmc_shmem_create_temp(template, NULL, NULL, MIB));
	strcpy(template, box_path("XXXXXX"));
	assert_null(tmc_shmem_create_temp(template, NULL, at, MIB));
	assert_null(tmc_shmem_open_fds(0, -1));
	assert_null(tmc_shmem_open_fds(tmc_shmem_fd(shm), 0));
	assert_null(tmc_shmem_open_fds(-1, -1));
	assert_null(tmc_shmem_grow(shm, MIB + 1));
	assert_null(tmc_shmem_grow(shm, 0));
	assert_int_equal(tmc_shmem_shrink(shm, 0, page), -1);
	assert_int_equal(tmc_alloc_unmap(at, page), -1);
	assert_int_equal(tmc_alloc_unmap(template, page), -1);
	assert_int_equal(tmc_shmem_unlink(file), -1);
	assert_int_equal(tmc_shmem_unlink(box_path("missing")), -1);
	assert_null(tmc_alloc_map(NULL, 1UL << 62));
	assert_null(tmc_alloc_map_at(NULL, at, page));
}

static void a_thousand_failing_calls_of_each_kind_leak_nothing(void **state)
{
	const char *path = strdup(box_path("arena"));
	const char *file = strdup(box_path("file"));
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, MIB);
	size_t fds, maps, files;
	int i;

	(void)state;
	assert_non_null(tmc_shmem_grow(shm, 2 * page));
	write_file(file, "no arena\n", 9);
	fail_all_ways(shm, path, file);
	fds = probe_fds();
	maps = probe_maps();
	files = probe_files(box_path(""));
	for (i = 0; i < 1000; i++)
		fail_all_ways(shm, path, file);
	assert_int_equal(probe_fds(), fds);
	if (!UNDER_SANITIZER) /* which maps shadow as it likes */
		assert_true(probe_maps() <= maps);
	assert_int_equal(probe_files(box_path("")), files);
	assert_int_equal(tmc_shmem_current_size(shm), 2 * page);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_int_equal(unlink(file), 0);
	free((char *)path);
	free((char *)file);
}

static void a_thousand_arenas_leave_nothing(void **state)
{
	const char *path = box_path("again");
	size_t fds = 0, maps = 0;
	size_t files = probe_files(box_path(""));
	int i;

	(void)state;
	for (i = 0; i < 1001; i++) {
		tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, MIB);
		tmc_shmem_t *again = tmc_shmem_open(path);

		assert_non_null(shm);
		assert_non_null(again);
		assert_non_null(tmc_shmem_grow(again, page));
		tmc_shmem_close(shm);
		tmc_shmem_close(again);
		assert_int_equal(tmc_shmem_unlink(path), 0);
		if (i == 0) {
			fds = probe_fds();
			maps = probe_maps();
		}
	}
	assert_int_equal(probe_fds(), fds);
	if (!UNDER_SANITIZER) /* which maps shadow as it likes */
		assert_true(probe_maps() <= maps);
	assert_int_equal(probe_files(box_path("")), files);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_that_are_no_arena_are_refused),
		cmocka_unit_test(a_directory_is_refused),
		cmocka_unit_test(a_fifo_is_refused_at_once),
		cmocka_unit_test(a_socket_is_refused),
		cmocka_unit_test(devices_are_refused),
		cmocka_unit_test(links_that_lead_nowhere_are_refused),
		cmocka_unit_test(paths_that_are_none_are_refused),
		cmocka_unit_test(the_root_directory_is_one_like_others),
		cmocka_unit_test(a_descriptor_without_rights_is_refused),
		cmocka_unit_test(a_writer_too_many_is_told_eusers),
		cmocka_unit_test(no_handle_has_no_root_pointer),
		cmocka_unit_test(create_refuses_bad_attributes),
		cmocka_unit_test(a_truncated_arena_is_refused_or_smaller),
		cmocka_unit_test(a_damaged_header_does_no_harm),
		cmocka_unit_test(
			a_header_damaged_under_an_open_handle_does_no_harm),
		cmocka_unit_test(sizes_in_the_header_are_not_believed),
		cmocka_unit_test(
			a_thousand_failing_calls_of_each_kind_leak_nothing),
		cmocka_unit_test(a_thousand_arenas_leave_nothing),
	};

	page = (size_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
