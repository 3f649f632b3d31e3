/* SPDX-License-Identifier: BSD-3-Clause */
/* test_mode.c - arenas with other permissions than 0600. */
#include "test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "kernel.h"
#include "peer.h"

#define NOBODY 65534

static size_t page;

static unsigned int mode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 07777 : st.st_mode & 07777;
}

static unsigned int mode_at(const char *path)
{
	struct stat st;

	return lstat(path, &st) ? 07777 : st.st_mode & 07777;
}

/* With every umask; 0 or the line that is wrong. */
static int create_with(unsigned int mode)
{
	const mode_t masks[] = { 0, 022, 077, 0777 };
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;
	char path[128];
	size_t i;

	for (i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		mode_t before = umask(masks[i]);

		snprintf(path, sizeof(path), "%s", box_path("mode.XXXXXX"));
		shm = tmc_shmem_create_temp(
			path, tmc_alloc_set_mode(&alloc, mode), NULL, MIB);
		umask(before);
		if (!shm)
			return __LINE__;
		if (mode_at(path) != mode || !tmc_shmem_grow(shm, page))
			return __LINE__;
		if (geteuid() && !(mode & 0400)) { /* it must be read */
			if (!tmc_shmem_unlink(path) || errno != EACCES ||
			    unlink(path))
				return __LINE__;
		} else if (tmc_shmem_unlink(path)) {
			return __LINE__;
		}
		tmc_shmem_close(shm);
	}
	return 0;
}

static const unsigned int modes[] = { 0,    0400, 0600, 0640,
				      0660, 0666, 0777, 0007 };

static void the_file_has_just_the_mode_that_was_asked(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		assert_int_equal(create_with(modes[i]), 0);
}

static int create_on_old_file_system(struct peer *self, void *arg)
{
	size_t i;

	(void)self;
	(void)arg;
	kernel_without_tmpfile();
	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		PEER_CHECK(create_with(modes[i]) == 0);
	return 0;
}

static void so_it_has_where_it_is_made_with_a_name(void **state)
{
	(void)state;
	assert_int_equal(peer_run(create_on_old_file_system, NULL), 0);
}

static int open_as_nobody(struct peer *self, void *arg)
{
	const char *path = arg;
	tmc_shmem_t *shm;

	(void)self;
	PEER_CHECK(peer_become(NOBODY) == 0);
	shm = tmc_shmem_open(path);
	if (!shm)
		return errno == EACCES ? 2 : 1;
	PEER_CHECK(tmc_shmem_grow(shm, page));
	tmc_shmem_close(shm);
	return 0;
}

static int look_as_nobody(struct peer *self, void *arg)
{
	const char *path = arg;
	tmc_shmem_t *shm;

	(void)self;
	PEER_CHECK(peer_become(NOBODY) == 0);
	shm = tmc_shmem_open_readonly(path);
	PEER_CHECK(shm);
	PEER_CHECK(!tmc_shmem_grow(shm, page) && errno == EACCES);
	tmc_shmem_close(shm);
	return 0;
}

static void others_come_in_as_the_mode_lets_them(void **state)
{
	const unsigned int mode[] = { 0600, 0644, 0666 };
	const int result[] = { 2, 2, 0 };
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	char *path = (char *)box_path("others");
	tmc_shmem_t *shm;
	int i;

	(void)state;
	if (!box_can_mount())
		skip();
	for (i = 0; i < 3; i++) {
		tmc_alloc_set_mode(&alloc, mode[i]);
		shm = tmc_shmem_create(path, &alloc, NULL, MIB);
		assert_non_null(shm);
		assert_int_equal(peer_run(open_as_nobody, path), result[i]);
		if (mode[i] != 0600)
			assert_int_equal(peer_run(look_as_nobody, path), 0);
		assert_int_equal(tmc_shmem_unlink(path), 0);
		tmc_shmem_close(shm);
	}
}

static void a_companion_has_the_mode_too(void **state)
{
	size_t huge = tmc_alloc_get_huge_pagesize();
	char *path = (char *)box_path("huge.arena");
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;

	(void)state;
	if (!huge || box_pool(huge, 2) < 2 || box_hugetlbfs("huge", huge, ""))
		skip();
	tmc_alloc_set_mode(tmc_alloc_set_huge(&alloc), 0666);
	shm = tmc_shmem_create(path, &alloc, NULL, 4 * huge);
	assert_non_null(shm);
	assert_int_equal(mode_of(tmc_shmem_hugefd(shm)), 0666);
	assert_int_equal(mode_at(path), 0666);
	page = huge;
	assert_int_equal(peer_run(open_as_nobody, path), 0);
	page = (size_t)sysconf(_SC_PAGESIZE);
	assert_int_equal(tmc_shmem_current_size(shm), huge);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	tmc_shmem_close(shm);
	assert_int_equal(box_umount("huge"), 0);
	box_pool_end();
}

/* As one that gets descriptors of a file it may not open. */
static int fork_without_permission(struct peer *self, void *arg)
{
	struct peer child;
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;

	if (arg) {
		PEER_CHECK(tmc_shmem_grow(arg, page));
		PEER_CHECK(peer_put(self, 1) == 0);
		return 0;
	}
	PEER_CHECK(peer_become(NOBODY) == 0);
	tmc_alloc_set_mode(&alloc, 0);
	shm = tmc_shmem_create(box_path("closed"), &alloc, NULL, MIB);
	PEER_CHECK(shm);
	PEER_CHECK(peer_fork(&child, fork_without_permission, shm) == 0);
	PEER_CHECK(peer_end(&child) == 0);
	PEER_CHECK(tmc_shmem_current_size(shm) == page);
	PEER_CHECK(!tmc_shmem_open(box_path("closed")) && errno == EACCES);
	PEER_CHECK(unlink(box_path("closed")) == 0);
	return 0;
}

static void a_mode_of_none_keeps_all_others_out(void **state)
{
	(void)state;
	if (!box_can_mount())
		skip();
	assert_int_equal(peer_run(fork_without_permission, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_file_has_just_the_mode_that_was_asked),
		cmocka_unit_test(so_it_has_where_it_is_made_with_a_name),
		cmocka_unit_test(others_come_in_as_the_mode_lets_them),
		cmocka_unit_test(a_companion_has_the_mode_too),
		cmocka_unit_test(a_mode_of_none_keeps_all_others_out),
	};

	page = (size_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
