/* SPDX-License-Identifier: BSD-3-Clause */
/* test.h - what every test_*.c includes first: cmocka and what it needs. */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */
#include <errno.h>
#include <stdlib.h>

#include "box.h"

#define KIB (1UL << 10)
#define MIB (1UL << 20)
#define GIB (1UL << 30)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0
#endif

/* How often something random is done: less where each takes long. VALGRIND is
 * what `make valgrind` sets. */
static inline int test_steps(int n)
{
	return getenv("VALGRIND") ? n / 50 : UNDER_SANITIZER ? n / 5 : n;
}

/* The call returns NULL, or -1, with that errno. */
#define assert_null_errno(call, err)                                           \
	do {                                                                   \
		errno = 0;                                                     \
		assert_null(call);                                             \
		assert_int_equal(errno, err);                                  \
	} while (0)
#define assert_minus_errno(call, err)                                          \
	do {                                                                   \
		errno = 0;                                                     \
		assert_int_equal(call, -1);                                    \
		assert_int_equal(errno, err);                                  \
	} while (0)

/* Group fixtures of a program that uses the box. */
static inline int test_box_open(void **state)
{
	(void)state;
	return box_open();
}

static inline int test_box_close(void **state)
{
	(void)state;
	box_close();
	return 0;
}

#endif
