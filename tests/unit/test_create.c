/* SPDX-License-Identifier: BSD-3-Clause */
/* test_create.c - an arena appears whole or not at all, on old kernels too. */
#include "test.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "kernel.h"
#include "list.h"
#include "peer.h"
#include "probe.h"

#define ROUNDS 200

/* What the two racers below share. */
struct race {
	const char *path;
	tmc_alloc_t alloc;
	int no_tmpfile;
};

/* Each word is an order to create, close and answer with 0 or errno. */
static int create_on_order(struct peer *self, void *arg)
{
	struct race *r = arg;
	uint64_t word;

	if (r->no_tmpfile && kernel_without_tmpfile())
		return 77;
	while (!peer_get(self, &word)) {
		tmc_shmem_t *shm;
		uint64_t err;

		errno = 0;
		shm = tmc_shmem_create(r->path, &r->alloc, NULL, MIB);
		err = shm ? 0 : (uint64_t)errno;
		if (shm && !tmc_shmem_address(shm))
			return 1;
		tmc_shmem_close(shm);
		if (peer_put(self, err))
			return 1;
	}
	return 0;
}

static void start_pair(struct peer p[2], struct race *r)
{
	assert_int_equal(peer_fork(&p[0], create_on_order, r), 0);
	assert_int_equal(peer_fork(&p[1], create_on_order, r), 0);
}

/* 0, or 77: no such filter on this machine. */
static int end_pair(struct peer p[2])
{
	int a = peer_end(&p[0]), b = peer_end(&p[1]);

	if (a == 77 || b == 77)
		return 77;
	assert_int_equal(a, 0);
	assert_int_equal(b, 0);
	return 0;
}

static int race(struct race *r, const char *dir, const char *companions)
{
	struct peer p[2];
	uint64_t a, b;
	int i;

	start_pair(p, r);
	for (i = 0; i < ROUNDS; i++) {
		tmc_shmem_t *shm;

		if (peer_put(&p[i % 2], 0) || peer_put(&p[!(i % 2)], 0) ||
		    peer_get(&p[0], &a) || peer_get(&p[1], &b))
			break;
		assert_int_equal(a + b, EEXIST);
		assert_true(a == 0 || b == 0);
		assert_int_equal(probe_files(dir), 1);
		if (companions)
			assert_int_equal(probe_files(companions), 1);
		shm = tmc_shmem_open(r->path);
		assert_non_null(shm);
		tmc_shmem_close(shm);
		assert_int_equal(tmc_shmem_unlink(r->path), 0);
		assert_int_equal(probe_files(dir), 0);
		if (companions)
			assert_int_equal(probe_files(companions), 0);
	}
	return end_pair(p);
}

static void of_two_creators_one_wins_and_nothing_is_left(void **state)
{
	struct race r = { .alloc = TMC_ALLOC_INIT };
	int rc;

	(void)state;
	assert_int_equal(mkdir(box_path("race"), 0777), 0);
	r.path = strdup(box_path("race/arena"));
	assert_int_equal(race(&r, box_path("race"), NULL), 0);
	r.no_tmpfile = 1;
	rc = race(&r, box_path("race"), NULL);
	free((char *)r.path);
	assert_int_equal(rmdir(box_path("race")), 0);
	if (rc == 77)
		skip();
}

static void with_huge_pages_of_two_creators_one_wins(void **state)
{
	struct race r = { .alloc = TMC_ALLOC_INIT };
	size_t huge = tmc_alloc_get_huge_pagesize();
	const char *dir, *companions;

	(void)state;
	if (!huge || box_hugetlbfs("huge", huge, ""))
		skip();
	tmc_alloc_set_huge(&r.alloc);
	assert_int_equal(mkdir(box_path("race"), 0777), 0);
	r.path = strdup(box_path("race/arena"));
	dir = strdup(box_path("race"));
	companions = strdup(box_path("huge"));
	assert_int_equal(race(&r, dir, companions), 0);
	r.no_tmpfile = 1;
	race(&r, dir, companions);
	free((char *)r.path);
	free((char *)dir);
	free((char *)companions);
	assert_int_equal(rmdir(box_path("race")), 0);
	assert_int_equal(box_umount("huge"), 0);
}

/* Opens the path all the time: it is not there, or it is whole. */
static int open_always(struct peer *self, void *arg)
{
	struct race *r = arg;
	uint64_t opened = 0;
	tmc_shmem_t *shm;

	do {
		shm = tmc_shmem_open(r->path);
		PEER_CHECK(shm || errno == ENOENT);
		if (!shm)
			continue;
		PEER_CHECK(tmc_shmem_maximum_size(shm) == GIB);
		PEER_CHECK(tmc_shmem_current_size(shm) == 0);
		tmc_shmem_close(shm);
		opened++;
	} while (access(box_path("stop"), F_OK));
	/* The last one stays: at least that is seen. */
	shm = tmc_shmem_open(r->path);
	PEER_CHECK(shm);
	return peer_put(self, opened);
}

static void create_while_opened(struct race *r)
{
	struct peer p;
	uint64_t opened;
	tmc_shmem_t *shm = NULL;
	int i, fd;

	assert_int_equal(peer_fork(&p, open_always, r), 0);
	for (i = 0; i < ROUNDS; i++) {
		if (i)
			assert_int_equal(tmc_shmem_unlink(r->path), 0);
		shm = tmc_shmem_create(r->path, &r->alloc, NULL, GIB);
		assert_non_null(shm);
		tmc_shmem_close(shm);
	}
	fd = open(box_path("stop"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(peer_get(&p, &opened), 0);
	assert_int_equal(peer_end(&p), 0);
	assert_int_equal(unlink(box_path("stop")), 0);
	assert_int_equal(tmc_shmem_unlink(r->path), 0);
}

static void a_path_never_names_a_half_made_arena(void **state)
{
	struct race r = { .alloc = TMC_ALLOC_INIT };
	size_t huge = tmc_alloc_get_huge_pagesize();

	(void)state;
	r.path = strdup(box_path("whole"));
	create_while_opened(&r);
	if (huge && !box_hugetlbfs("huge", huge, "")) {
		tmc_alloc_set_huge(&r.alloc);
		create_while_opened(&r);
		assert_int_equal(box_umount("huge"), 0);
	}
	free((char *)r.path);
}

/* Everything once, in the directory @arg, without O_TMPFILE. */
static int all_without_tmpfile(struct peer *self, void *arg)
{
	char path[4096], temp[4096];
	tmc_shmem_t *shm, *other;
	struct stat st;

	(void)self;
	if (kernel_without_tmpfile())
		return 77;
	snprintf(path, sizeof(path), "%s/a", (const char *)arg);
	snprintf(temp, sizeof(temp), "%s/XXXXXX", (const char *)arg);
	umask(0777);
	shm = tmc_shmem_create(path, NULL, NULL, 64 * MIB);
	PEER_CHECK(shm);
	PEER_CHECK(probe_files(arg) == 1);
	PEER_CHECK(stat(path, &st) == 0);
	PEER_CHECK((st.st_mode & 07777) == 0600 && st.st_nlink == 1);
	PEER_CHECK(list_add(shm, 100) == 0);
	PEER_CHECK(!tmc_shmem_create(path, NULL, NULL, 0) && errno == EEXIST);
	PEER_CHECK(!tmc_shmem_create(path, NULL, NULL, SIZE_MAX));
	other = tmc_shmem_create_temp(temp, NULL, NULL, MIB);
	PEER_CHECK(other);
	PEER_CHECK(probe_files(arg) == 2);
	PEER_CHECK(tmc_shmem_unlink(temp) == 0);
	tmc_shmem_close(other);
	strcpy(temp, path);
	PEER_CHECK(!tmc_shmem_create(temp, NULL, (char *)tmc_shmem_address(shm),
				     MIB));
	strcat(temp, "2");
	PEER_CHECK(!tmc_shmem_create(temp, NULL, (char *)tmc_shmem_address(shm),
				     MIB));
	PEER_CHECK(errno == EADDRINUSE);
	PEER_CHECK(probe_files(arg) == 1);
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(path);
	PEER_CHECK(shm && list_count(shm) == 100);
	PEER_CHECK(tmc_shmem_unlink(path) == 0);
	PEER_CHECK(probe_files(arg) == 0);
	return 0;
}

/* The name would fit and the temporary one does not. */
static int create_deep_down(struct peer *self, void *arg)
{
	static char dir[5000];
	size_t len = strlen(box_path("")), i;

	(void)self;
	(void)arg;
	if (kernel_without_tmpfile())
		return 77;
	strcpy(dir, box_path(""));
	while (len < 4085) {
		size_t n = 4090 - len < 200 ? 4090 - len : 200;

		dir[len++] = '/';
		for (i = 1; i < n; i++)
			dir[len++] = 'd';
		PEER_CHECK(mkdir(dir, 0700) == 0);
	}
	PEER_CHECK(len == 4090);
	strcpy(dir + len, "/a");
	PEER_CHECK(!tmc_shmem_create(dir, NULL, NULL, MIB));
	PEER_CHECK(errno == ENAMETOOLONG);
	dir[len] = '\0';
	PEER_CHECK(probe_files(dir) == 0);
	while (strcmp(dir, box_path("")) && !rmdir(dir))
		*strrchr(dir, '/') = '\0';
	PEER_CHECK(probe_files(box_path("")) == 0);
	return 0;
}

static void a_temporary_name_that_is_too_long_is_an_error(void **state)
{
	(void)state;
	assert_int_equal(peer_run(create_deep_down, NULL), 0);
}

static int all_without_noreplace(struct peer *self, void *arg)
{
	kernel_refuse(SYS_renameat2, EINVAL);
	return all_without_tmpfile(self, arg);
}

/* 0, or -1: no such attribute here, or no right to it. */
static int only_takes_names(const char *dir, int on)
{
	int fd = open(dir, O_RDONLY | O_CLOEXEC), flags = 0, rc;

	rc = ioctl(fd, FS_IOC_GETFLAGS, &flags);
	flags = on ? flags | FS_APPEND_FL : flags & ~FS_APPEND_FL;
	if (!rc)
		rc = ioctl(fd, FS_IOC_SETFLAGS, &flags);
	close(fd);
	return rc;
}

/* As chattr +a has it: names come and do not go. */
static int create_where_names_stay(struct peer *self, void *arg)
{
	const char *path = box_path("stay/a");
	tmc_shmem_t *shm;

	(void)self;
	kernel_without_tmpfile();
	if (*(int *)arg)
		kernel_refuse(SYS_renameat2, ENOSYS);
	shm = tmc_shmem_create(path, NULL, NULL, MIB);
	if (*(int *)arg) {
		PEER_CHECK(shm && !access(path, F_OK));
		tmc_shmem_close(shm);
		shm = tmc_shmem_open(path);
		PEER_CHECK(shm && tmc_shmem_grow(shm, 1));
	} else {
		PEER_CHECK(!shm && errno == EPERM);
		PEER_CHECK(access(path, F_OK) == -1);
	}
	tmc_shmem_close(shm);
	return 0;
}

static void a_create_that_fails_has_not_made_its_path(void **state)
{
	const char *dir = box_path("stay");
	int refuse, rc;

	(void)state;
	assert_int_equal(mkdir(dir, 0777), 0);
	for (refuse = 0; refuse < 2; refuse++) {
		if (only_takes_names(dir, 1)) {
			rmdir(dir);
			print_message("FS_APPEND_FL cannot be set here\n");
			skip();
		}
		rc = peer_run(create_where_names_stay, &refuse);
		assert_int_equal(only_takes_names(dir, 0), 0);
		assert_int_equal(rc, 0);
		unlink(box_path("stay/a"));
		/* And removes the temporary name that could not go. */
		assert_int_equal(probe_files(dir), 1);
		rc = peer_run(all_without_tmpfile, (char *)dir);
		assert_int_equal(rc, 0);
	}
	assert_int_equal(rmdir(dir), 0);
}

static void without_o_tmpfile_all_is_the_same(void **state)
{
	const char *dir = box_path("named");
	int rc;

	(void)state;
	assert_int_equal(mkdir(dir, 0777), 0);
	rc = peer_run(all_without_tmpfile, (char *)dir);
	if (!rc)
		rc = peer_run(all_without_noreplace, (char *)dir);
	assert_int_equal(rmdir(dir), 0);
	if (rc == 77)
		skip();
	assert_int_equal(rc, 0);
}

/* Names that look like those of create, in "named", and what they are. */
static const struct {
	const char *name;
	mode_t type;
} others[] = {
	{ ".a.tmcnew-notes.txt", S_IFREG },
	{ ".a.tmcnew-0123456789abcde", S_IFREG },
	{ ".a.tmcnew-0123456789abcdef0", S_IFREG },
	{ ".a.tmcnew-0123456789ABCDEF", S_IFREG },
	{ ".a.tmcnew-", S_IFREG },
	{ ".b.tmcnew-0123456789abcdef", S_IFREG },
	{ ".a.tmcnew-1123456789abcdef", S_IFIFO },
	{ ".a.tmcnew-2123456789abcdef", S_IFLNK },
	{ ".a.tmcnew-3123456789abcdef", S_IFCHR },
};
#define OTHERS (sizeof(others) / sizeof(others[0]))

static const char *in_named(const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s", box_path("named"), name);
	return path;
}

static void make_other(size_t i)
{
	const char *path = in_named(others[i].name);

	if (others[i].type == S_IFLNK)
		assert_int_equal(symlink(others[0].name, path), 0);
	else if (mknod(path, others[i].type | 0600, makedev(1, 3)))
		print_message("no device can be made: %s left out\n", path);
}

/* Creates "a" on a file system without O_TMPFILE; all is opened that may be. */
static int create_among_others(struct peer *self, void *arg)
{
	char events[8192], *e = events;
	const char *path = in_named("a"); /* its only call here */
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	tmc_shmem_t *shm;
	ssize_t n;

	(void)self;
	(void)arg;
	if (fd < 0 || inotify_add_watch(fd, box_path("named"), IN_OPEN) < 0 ||
	    kernel_without_tmpfile())
		return 77;
	shm = tmc_shmem_create(path, NULL, NULL, MIB);
	PEER_CHECK(shm);
	tmc_shmem_close(shm);
	PEER_CHECK(tmc_shmem_unlink(path) == 0);
	n = read(fd, events, sizeof(events));
	PEER_CHECK(n > 0);
	while (e < events + n) {
		struct inotify_event *one = (void *)e;
		size_t i;

		for (i = 0; i < OTHERS && one->len; i++)
			PEER_CHECK(strcmp(one->name, others[i].name));
		e += sizeof(*one) + one->len;
	}
	close(fd);
	return 0;
}

static void create_removes_its_own_left_overs_and_nothing_else(void **state)
{
	static const char left[] = ".a.tmcnew-0123456789abcdef";
	struct stat st;
	size_t i, made;
	int rc;

	(void)state;
	assert_int_equal(mkdir(box_path("named"), 0777), 0);
	for (i = 0; i < OTHERS; i++)
		make_other(i);
	made = probe_files(box_path("named"));
	assert_int_equal(mknod(in_named(left), S_IFREG | 0600, 0), 0);
	rc = peer_run(create_among_others, NULL);
	if (rc != 77) {
		assert_int_equal(rc, 0);
		assert_int_equal(lstat(in_named(left), &st), -1);
		assert_int_equal(probe_files(box_path("named")), made);
	} else {
		unlink(in_named(left));
	}
	for (i = 0; i < OTHERS; i++)
		unlink(in_named(others[i].name));
	assert_int_equal(rmdir(box_path("named")), 0);
	if (rc == 77) {
		print_message("no inotify on this machine\n");
		skip();
	}
}

static int huge_without_tmpfile(struct peer *self, void *arg)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;
	int i;

	(void)self;
	(void)arg;
	if (kernel_without_tmpfile())
		return 77;
	tmc_alloc_set_huge(&a);
	for (i = 0; i < 3; i++) {
		shm = tmc_shmem_create(box_path("h"), &a, NULL, GIB);
		PEER_CHECK(shm);
		PEER_CHECK(probe_files(box_path("huge")) == 1);
		PEER_CHECK(!tmc_shmem_create(box_path("h"), &a, NULL, GIB));
		PEER_CHECK(errno == EEXIST);
		PEER_CHECK(!tmc_shmem_create(box_path("no/h"), &a, NULL, GIB));
		PEER_CHECK(errno == ENOENT);
		PEER_CHECK(probe_files(box_path("huge")) == 1);
		tmc_shmem_close(shm);
		shm = tmc_shmem_open(box_path("h"));
		PEER_CHECK(shm);
		tmc_shmem_close(shm);
		PEER_CHECK(tmc_shmem_unlink(box_path("h")) == 0);
		PEER_CHECK(probe_files(box_path("huge")) == 0);
	}
	return 0;
}

static void without_o_tmpfile_companions_leave_nothing(void **state)
{
	size_t huge = tmc_alloc_get_huge_pagesize();
	int rc;

	(void)state;
	if (!huge || box_hugetlbfs("huge", huge, ""))
		skip();
	rc = peer_run(huge_without_tmpfile, NULL);
	assert_int_equal(box_umount("huge"), 0);
	if (rc == 77)
		skip();
	assert_int_equal(rc, 0);
}

/* Grows with pages that are there, or ENOMEM; on a mount of 8 MiB. */
static int all_is_there_or_enomem(void)
{
	const char *path = box_path("small/a");
	tmc_shmem_t *shm;
	struct stat st, now;
	char *p;

	shm = tmc_shmem_create(path, NULL, NULL, 64 * MIB);
	PEER_CHECK(shm);
	p = tmc_shmem_grow(shm, MIB);
	PEER_CHECK(p && probe_present(p, MIB) == MIB);
	PEER_CHECK(probe_zero(p, MIB));
	memset(p, 1, MIB);
	fstat(tmc_shmem_fd(shm), &st);
	PEER_CHECK(!tmc_shmem_grow(shm, 20 * MIB) && errno == ENOMEM);
	PEER_CHECK(!tmc_shmem_grow(shm, 7 * MIB + MIB / 2) && errno == ENOMEM);
	fstat(tmc_shmem_fd(shm), &now);
	PEER_CHECK(now.st_size == st.st_size && now.st_blocks == st.st_blocks);
	PEER_CHECK(tmc_shmem_current_size(shm) == MIB);
	p = tmc_shmem_grow(shm, 5 * MIB);
	PEER_CHECK(p && probe_present(p, 5 * MIB) == 5 * MIB);
	PEER_CHECK(probe_zero(p, 5 * MIB));
	PEER_CHECK(tmc_shmem_shrink(shm, MIB, 5 * MIB) == 0);
	PEER_CHECK(!tmc_shmem_create(box_path("b"), NULL, p, MIB));
	PEER_CHECK(errno == EADDRINUSE);
	tmc_shmem_close(shm);
	PEER_CHECK(tmc_shmem_unlink(path) == 0);
	return 0;
}

static int all_on_an_old_kernel(struct peer *self, void *arg)
{
	(void)self;
	(void)arg;
	if (kernel_without_populate_write() || kernel_without_noreplace())
		return 77;
	return all_is_there_or_enomem();
}

static int all_without_fallocate(struct peer *self, void *arg)
{
	(void)self;
	(void)arg;
	if (kernel_without_allocate())
		return 77;
	return all_is_there_or_enomem();
}

static int all_on_the_oldest_kernel(struct peer *self, void *arg)
{
	if (kernel_without_allocate())
		return 77;
	return all_on_an_old_kernel(self, arg);
}

static void run_on_a_small_mount(peer_fn *fn)
{
	int rc;

	if (box_mount("small", "tmpfs", "size=8m,mode=1777"))
		skip();
	rc = peer_run(fn, NULL);
	assert_int_equal(box_umount("small"), 0);
	if (rc == 77)
		skip();
	assert_int_equal(rc, 0);
}

static void without_newer_calls_memory_is_there_or_enomem(void **state)
{
	(void)state;
	run_on_a_small_mount(all_on_an_old_kernel);
	run_on_a_small_mount(all_on_the_oldest_kernel);
}

static void without_fallocate_memory_is_there_or_enomem(void **state)
{
	(void)state;
	run_on_a_small_mount(all_without_fallocate);
}

static int huge_on_an_old_kernel(struct peer *self, void *arg)
{
	const size_t huge = *(size_t *)arg;
	tmc_alloc_t a = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;
	struct stat st;
	char *p;

	(void)self;
	if (kernel_without_populate_write() || kernel_without_noreplace())
		return 77;
	shm = tmc_shmem_create(box_path("h"), tmc_alloc_set_huge(&a), NULL,
			       64 * huge);
	PEER_CHECK(shm);
	p = tmc_shmem_grow(shm, 2 * huge);
	PEER_CHECK(p && probe_present(p, 2 * huge) == 2 * huge);
	memset(p, 1, 2 * huge);
	PEER_CHECK(!tmc_shmem_grow(shm, 3 * huge) && errno == ENOMEM);
	PEER_CHECK(!fstat(tmc_shmem_hugefd(shm), &st));
	PEER_CHECK(st.st_size == (off_t)(2 * huge));
	PEER_CHECK(st.st_blocks * 512 == (off_t)(2 * huge));
	p = tmc_shmem_grow(shm, 2 * huge);
	PEER_CHECK(p && probe_present(p, 2 * huge) == 2 * huge);
	PEER_CHECK(probe_zero(p, 2 * huge));
	tmc_shmem_close(shm);
	PEER_CHECK(tmc_shmem_unlink(box_path("h")) == 0);
	return 0;
}

static void without_newer_calls_huge_pages_are_there_or_enomem(void **state)
{
	size_t huge = tmc_alloc_get_huge_pagesize();
	char options[64];
	int rc;

	(void)state;
	snprintf(options, sizeof(options), "size=%zu,min_size=%zu", 4 * huge,
		 4 * huge);
	if (!huge || box_pool(huge, 4) < 4 ||
	    box_hugetlbfs("huge", huge, options))
		skip();
	rc = peer_run(huge_on_an_old_kernel, &huge);
	assert_int_equal(box_umount("huge"), 0);
	if (rc == 77)
		skip();
	assert_int_equal(rc, 0);
}

static int end_pool(void **state)
{
	(void)state;
	box_pool_end();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(of_two_creators_one_wins_and_nothing_is_left),
		cmocka_unit_test(with_huge_pages_of_two_creators_one_wins),
		cmocka_unit_test(a_path_never_names_a_half_made_arena),
		cmocka_unit_test(a_temporary_name_that_is_too_long_is_an_error),
		cmocka_unit_test(without_o_tmpfile_all_is_the_same),
		cmocka_unit_test(a_create_that_fails_has_not_made_its_path),
		cmocka_unit_test(
			create_removes_its_own_left_overs_and_nothing_else),
		cmocka_unit_test(without_o_tmpfile_companions_leave_nothing),
		cmocka_unit_test(without_newer_calls_memory_is_there_or_enomem),
		cmocka_unit_test(without_fallocate_memory_is_there_or_enomem),
		cmocka_unit_test_teardown(
			without_newer_calls_huge_pages_are_there_or_enomem,
			end_pool),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
