/* SPDX-License-Identifier: BSD-3-Clause */
/* shmemctl_test.h - what the tests of shmemctl have in common. */
#ifndef TESTS_SHMEMCTL_TEST_H
#define TESTS_SHMEMCTL_TEST_H

#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shmem.h>

#include "command.h"

#define MAX (64 * MIB)
#define NOBODY 65534

static struct command cmd;

/* One of 8 buffers that are used in turn. */
static inline const char *text(const char *format, ...)
	__attribute__((format(printf, 1, 2)));

static inline const char *text(const char *format, ...)
{
	static char room[8][512];
	static unsigned int next;
	char *p = room[next++ % 8];
	va_list list;

	va_start(list, format);
	vsnprintf(p, 512, format, list);
	va_end(list);
	return p;
}

/* Runs shmemctl: its exit code, with what it said where that is not @want. */
static inline int coded(int want, const char *const *args)
{
	assert_int_equal(command_shmemctl(&cmd, args), 0);
	if (cmd.code != want)
		print_message("%s: %d\n%s%s", args[0], cmd.code, cmd.out,
			      cmd.err);
	return cmd.code;
}
#define IS(want, ...)                                                          \
	assert_int_equal(                                                      \
		coded(want, (const char *const[]){ __VA_ARGS__, NULL }), want)

/* The same, and it says one line, with @says in it. */
#define FAILS(want, says, ...)                                                 \
	do {                                                                   \
		IS(want, __VA_ARGS__);                                         \
		assert_int_equal(command_lines(cmd.err), 1);                   \
		assert_memory_equal(cmd.err, "shmemctl: ", 10);                \
		assert_non_null(strstr(cmd.err, says));                        \
	} while (0)

#define SAYS(what) assert_non_null(strstr(command_squeeze(cmd.out), what))

static inline tmc_shmem_t *make(const char *path, size_t size)
{
	tmc_shmem_t *shm;

	unlink(path); /* of a test that failed */
	shm = tmc_shmem_create(path, NULL, NULL, MAX);
	assert_non_null(shm);
	if (size)
		assert_non_null(tmc_shmem_grow(shm, size));
	return shm;
}

/* Fixtures: a folder in the box, and names in it, in buffers of their own. */
static char dir[200], a[220], b[220];

static inline int begin(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "%s", box_path("arenas"));
	snprintf(a, sizeof(a), "%s/a", dir);
	snprintf(b, sizeof(b), "%s/b", dir);
	return mkdir(dir, 0755);
}

static inline int end(void **state)
{
	struct dirent *e;
	DIR *d = opendir(dir);

	(void)state;
	while (d && (e = readdir(d)))
		unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	memset(&cmd, 0, sizeof(cmd));
	return rmdir(dir);
}
#define TEST(t) cmocka_unit_test_setup_teardown(t, begin, end)

/* Without a reason to go on. */
#define UNLESS(cond, why)                                                      \
	do {                                                                   \
		if (!(cond)) {                                                 \
			print_message("%s\n", why);                            \
			skip();                                                \
		}                                                              \
	} while (0)

#endif
