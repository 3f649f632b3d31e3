/* SPDX-License-Identifier: BSD-3-Clause */
/* test_arena.c - an arena's life: create, open, close, names, root pointer. */
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "list.h"
#include "probe.h"

static size_t page;

static void a_fresh_arena_is_empty_and_as_large_as_asked(void **state)
{
	const char *path = box_path("fresh");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 100 * page + 1);
	struct stat st;

	(void)state;
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_current_size(shm), 0);
	assert_int_equal(tmc_shmem_maximum_size(shm), 101 * page);
	assert_int_equal(tmc_shmem_page_size(shm), page);
	assert_non_null(tmc_shmem_address(shm));
	assert_null(tmc_shmem_get_data(shm));
	assert_int_equal(tmc_shmem_hugefd(shm), -1);
	assert_int_equal(fstat(tmc_shmem_fd(shm), &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_true(st.st_blocks * 512 <= 64 * 1024);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void maximum_0_is_1_gib(void **state)
{
	tmc_shmem_t *shm = tmc_shmem_create(box_path("gib"), NULL, NULL, 0);

	(void)state;
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_maximum_size(shm), GIB);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("gib")), 0);
}

static void reserving_much_costs_nothing(void **state)
{
	const size_t sizes[] = { MIB, GIB, 1024 * GIB, 16384 * GIB };
	const char *path = box_path("much");
	struct stat st;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		tmc_shmem_t *shm;

		if (UNDER_SANITIZER && sizes[i] > 64 * GIB)
			break;
		shm = tmc_shmem_create(path, NULL, NULL, sizes[i]);
		assert_non_null(shm);
		assert_int_equal(tmc_shmem_maximum_size(shm), sizes[i]);
		assert_int_equal(fstat(tmc_shmem_fd(shm), &st), 0);
		assert_true(st.st_blocks * 512 <= 64 * 1024);
		tmc_shmem_close(shm);
		assert_int_equal(tmc_shmem_unlink(path), 0);
	}
}

static void the_mode_is_0600_under_any_umask(void **state)
{
	const mode_t masks[] = { 0, 022, 077, 0777, 0400 };
	const char *path = box_path("mode");
	struct stat st;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		mode_t before = umask(masks[i]);
		tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, MIB);

		umask(before);
		assert_non_null(shm);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		assert_int_equal(st.st_nlink, 1);
		tmc_shmem_close(shm);
		assert_int_equal(tmc_shmem_unlink(path), 0);
	}
}

static void descriptors_are_close_on_exec(void **state)
{
	const char *path = box_path("cloexec");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, MIB);
	tmc_shmem_t *ro = tmc_shmem_open_readonly(path);
	tmc_shmem_t *fds;

	(void)state;
	assert_non_null(shm);
	assert_non_null(ro);
	fds = tmc_shmem_open_fds(tmc_shmem_fd(shm), -1);
	assert_non_null(fds);
	assert_int_equal(fcntl(tmc_shmem_fd(shm), F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(tmc_shmem_fd(ro), F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(tmc_shmem_fd(fds), F_GETFD), FD_CLOEXEC);
	tmc_shmem_close(fds);
	tmc_shmem_close(ro);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void create_temp_makes_a_name_as_mkstemp(void **state)
{
	char a[4096], b[4096];
	tmc_shmem_t *one, *two, *again;

	(void)state;
	strcpy(a, box_path("temp.XXXXXX"));
	strcpy(b, a);
	one = tmc_shmem_create_temp(a, NULL, NULL, MIB);
	two = tmc_shmem_create_temp(b, NULL, NULL, MIB);
	assert_non_null(one);
	assert_non_null(two);
	assert_string_not_equal(a, b);
	assert_null(strstr(a, "XXXXXX"));
	assert_int_equal(strlen(a), strlen(box_path("temp.XXXXXX")));
	assert_memory_equal(a, box_path("temp."), strlen(box_path("temp.")));
	again = tmc_shmem_open(a);
	assert_non_null(again);
	assert_ptr_equal(tmc_shmem_address(again), tmc_shmem_address(one));
	tmc_shmem_close(again);
	tmc_shmem_close(one);
	tmc_shmem_close(two);
	assert_int_equal(tmc_shmem_unlink(a), 0);
	assert_int_equal(tmc_shmem_unlink(b), 0);
}

static void create_temp_leaves_the_template_when_it_fails(void **state)
{
	static const char *const bad[] = { "", "X", "XXXXX", "aXXXXXXb",
					   "/XXXXX" };
	char text[4096];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		strcpy(text, box_path(bad[i]));
		assert_null_errno(tmc_shmem_create_temp(text, NULL, NULL, MIB),
				  EINVAL);
		assert_string_equal(text, box_path(bad[i]));
	}
	strcpy(text, box_path("none/XXXXXX"));
	assert_null_errno(tmc_shmem_create_temp(text, NULL, NULL, MIB), ENOENT);
	assert_string_equal(text, box_path("none/XXXXXX"));
	assert_null_errno(tmc_shmem_create_temp(NULL, NULL, NULL, MIB), EINVAL);
}

static void the_bytes_outlive_the_handle(void **state)
{
	const char *path = box_path("outlive");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 16 * MIB);
	void *address = tmc_shmem_address(shm);

	(void)state;
	assert_non_null(shm);
	assert_int_equal(list_add(shm, 1000), 0);
	tmc_shmem_close(shm);
	assert_true(probe_free(address, 16 * MIB));
	shm = tmc_shmem_open(path);
	assert_non_null(shm);
	assert_ptr_equal(tmc_shmem_address(shm), address);
	assert_int_equal(tmc_shmem_maximum_size(shm), 16 * MIB);
	assert_int_equal(list_count(shm), 1000);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void a_second_open_shares_the_mapping(void **state)
{
	const size_t maps = probe_maps(), fds = probe_fds();
	const char *path = box_path("second");
	tmc_shmem_t *one = tmc_shmem_create(path, NULL, NULL, 16 * MIB);
	tmc_shmem_t *two = tmc_shmem_open(path);
	tmc_shmem_t *three = tmc_shmem_open_fds(tmc_shmem_fd(one), -1);
	char *p;

	(void)state;
	assert_non_null(one);
	assert_non_null(two);
	assert_non_null(three);
	assert_ptr_equal(tmc_shmem_address(one), tmc_shmem_address(two));
	assert_ptr_equal(tmc_shmem_address(one), tmc_shmem_address(three));
	p = tmc_shmem_grow(two, page);
	assert_ptr_equal(p, tmc_shmem_address(one));
	*p = 5;
	assert_int_equal(tmc_shmem_current_size(one), page);
	assert_int_equal(tmc_shmem_current_size(three), page);
	tmc_shmem_close(one); /* the maker first */
	assert_int_equal(*p, 5);
	assert_ptr_equal(tmc_shmem_grow(three, page), p + page);
	tmc_shmem_close(three);
	p[page] = 6;
	assert_ptr_equal(tmc_shmem_grow(two, page), p + 2 * page);
	tmc_shmem_close(two);
	assert_true(probe_free(p, 16 * MIB));
	assert_true(probe_maps() <= maps + UNDER_SANITIZER * 900);
	assert_int_equal(probe_fds(), fds);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void a_writer_joins_a_reader_in_one_process(void **state)
{
	const char *path = box_path("joins");
	tmc_shmem_t *rw = tmc_shmem_create(path, NULL, NULL, MIB), *ro;
	char *p = tmc_shmem_grow(rw, page);

	(void)state;
	assert_non_null(p);
	tmc_shmem_close(rw);
	ro = tmc_shmem_open_readonly(path);
	assert_non_null(ro);
	assert_int_equal(*p, 0);
	rw = tmc_shmem_open(path);
	assert_non_null(rw);
	*p = 7;
	assert_ptr_equal(tmc_shmem_grow(rw, page), p + page);
	assert_null_errno(tmc_shmem_grow(ro, page), EACCES);
	assert_minus_errno(tmc_shmem_shrink(ro, 0, 2 * page), EACCES);
	assert_minus_errno(tmc_shmem_set_data(ro, p), EACCES);
	assert_int_equal(tmc_shmem_current_size(ro), 2 * page);
	tmc_shmem_close(rw);
	assert_int_equal(*p, 7);
	assert_int_equal(tmc_shmem_current_size(ro), 2 * page);
	tmc_shmem_close(ro);
	assert_true(probe_free(p, MIB));
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void close_takes_null_and_keeps_errno(void **state)
{
	const char *path = box_path("errno");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, MIB);

	(void)state;
	assert_non_null(shm);
	errno = 77;
	tmc_shmem_close(NULL);
	assert_int_equal(errno, 77);
	tmc_shmem_close(shm);
	assert_int_equal(errno, 77);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void success_leaves_errno_alone(void **state)
{
	const char *path = box_path("kept");
	tmc_shmem_t *shm;

	(void)state;
	errno = 78;
	shm = tmc_shmem_create(path, NULL, NULL, MIB);
	assert_non_null(shm);
	assert_non_null(tmc_shmem_grow(shm, page));
	assert_int_equal(tmc_shmem_shrink(shm, 0, page), 0);
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(path);
	assert_non_null(shm);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_int_equal(errno, 78);
}

static void the_root_pointer_is_the_last_one_set(void **state)
{
	const char *path = box_path("root");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, MIB);
	tmc_shmem_t *other = tmc_shmem_open(path);

	(void)state;
	assert_non_null(shm);
	assert_non_null(other);
	assert_int_equal(tmc_shmem_set_data(shm, (void *)SIZE_MAX), 0);
	assert_ptr_equal(tmc_shmem_get_data(other), (void *)SIZE_MAX);
	assert_int_equal(tmc_shmem_set_data(other, NULL), 0);
	assert_null(tmc_shmem_get_data(shm));
	assert_int_equal(tmc_shmem_set_data(shm, state), 0);
	tmc_shmem_close(shm);
	tmc_shmem_close(other);
	shm = tmc_shmem_open(path);
	assert_ptr_equal(tmc_shmem_get_data(shm), state);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void unlink_takes_the_name_and_users_go_on(void **state)
{
	const char *path = box_path("gone");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 16 * MIB);
	tmc_shmem_t *next, *by_fd;
	char *p;

	(void)state;
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_minus_errno(tmc_shmem_unlink(path), ENOENT);
	assert_null_errno(tmc_shmem_open(path), ENOENT);
	p = tmc_shmem_grow(shm, MIB);
	assert_non_null(p);
	memset(p, 1, MIB);
	by_fd = tmc_shmem_open_fds(tmc_shmem_fd(shm), -1);
	assert_non_null(by_fd);
	next = tmc_shmem_create(path, NULL, NULL, 16 * MIB);
	assert_non_null(next);
	assert_ptr_not_equal(tmc_shmem_address(next), p);
	assert_ptr_equal(tmc_shmem_grow(by_fd, page), p + MIB);
	assert_int_equal(tmc_shmem_current_size(next), 0);
	assert_int_equal(tmc_shmem_shrink(shm, 0, MIB + page), 0);
	tmc_shmem_close(shm);
	tmc_shmem_close(by_fd);
	tmc_shmem_close(next);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void paths_may_be_relative_and_links_are_followed(void **state)
{
	const char *path = box_path("real"), *link = box_path("link");
	char before[4096];
	tmc_shmem_t *shm, *other;

	(void)state;
	assert_non_null(getcwd(before, sizeof(before)));
	assert_int_equal(chdir(box_path("")), 0);
	shm = tmc_shmem_create("real", NULL, NULL, MIB);
	assert_int_equal(chdir(before), 0);
	assert_non_null(shm);
	assert_int_equal(symlink(path, link), 0);
	other = tmc_shmem_open(link);
	assert_non_null(other);
	assert_ptr_equal(tmc_shmem_address(shm), tmc_shmem_address(other));
	tmc_shmem_close(other);
	tmc_shmem_close(shm);
	assert_int_equal(unlink(link), 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void a_copy_of_the_file_is_an_arena_of_its_own(void **state)
{
	const char *path = box_path("orig"), *copy = box_path("copy");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 16 * MIB);
	char command[9000];

	(void)state;
	assert_non_null(shm);
	assert_int_equal(list_add(shm, 500), 0);
	tmc_shmem_close(shm);
	snprintf(command, sizeof(command), "cp --sparse=always '%s' '%s'", path,
		 copy);
	assert_int_equal(system(command), 0);
	shm = tmc_shmem_open(path);
	assert_non_null(shm);
	assert_null_errno(tmc_shmem_open(copy), EADDRINUSE);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	shm = tmc_shmem_open(copy);
	assert_non_null(shm);
	assert_int_equal(list_count(shm), 500);
	assert_int_equal(list_add(shm, 500), 0);
	assert_int_equal(list_count(shm), 1000);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(copy), 0);
}

static void nothing_is_left_of_all_this(void **state)
{
	(void)state;
	assert_int_equal(probe_files(box_path("")), 0);
}

static void the_version_is_that_of_the_header(void **state)
{
	(void)state;
	assert_int_equal(tmc_shmem_version(),
			 TMC_SHMEM_VERSION_MAJOR << 16 |
				 TMC_SHMEM_VERSION_MINOR << 8 |
				 TMC_SHMEM_VERSION_PATCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fresh_arena_is_empty_and_as_large_as_asked),
		cmocka_unit_test(maximum_0_is_1_gib),
		cmocka_unit_test(reserving_much_costs_nothing),
		cmocka_unit_test(the_mode_is_0600_under_any_umask),
		cmocka_unit_test(descriptors_are_close_on_exec),
		cmocka_unit_test(create_temp_makes_a_name_as_mkstemp),
		cmocka_unit_test(create_temp_leaves_the_template_when_it_fails),
		cmocka_unit_test(the_bytes_outlive_the_handle),
		cmocka_unit_test(a_second_open_shares_the_mapping),
		cmocka_unit_test(a_writer_joins_a_reader_in_one_process),
		cmocka_unit_test(close_takes_null_and_keeps_errno),
		cmocka_unit_test(success_leaves_errno_alone),
		cmocka_unit_test(the_root_pointer_is_the_last_one_set),
		cmocka_unit_test(unlink_takes_the_name_and_users_go_on),
		cmocka_unit_test(paths_may_be_relative_and_links_are_followed),
		cmocka_unit_test(a_copy_of_the_file_is_an_arena_of_its_own),
		cmocka_unit_test(nothing_is_left_of_all_this),
		cmocka_unit_test(the_version_is_that_of_the_header),
	};

	page = (size_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
