/* SPDX-License-Identifier: BSD-3-Clause */
/* step_test.h - step_case.h for cmocka. */
#ifndef TESTS_STEP_TEST_H
#define TESTS_STEP_TEST_H

#include "test.h"

#include <stdio.h>

#include "step.h"
#include "step_case.h"

#define TOO_MANY "under a sanitizer calls have too many instructions"

/* Skips where nothing can be stepped, fails if an instruction did. */
static inline void step_test(const struct step_case *c, enum step_way way,
			     size_t most)
{
	const char *why = UNDER_SANITIZER ? TOO_MANY : step_impossible();
	size_t pages = (size_t)STEP_WORKERS * STEP_POOL, free;

	if (!why && c->huge && box_pool(STEP_HUGE_PAGE, pages) < pages)
		why = "no huge pages of 2 MiB";
	if (why) {
		print_message("%s: %s\n", c->name, why);
		skip();
	}
	free = c->huge ? box_pool_free(STEP_HUGE_PAGE) : 0;
	assert_int_equal(step_case_run(c, way, most), 0);
	if (c->huge)
		assert_int_equal(box_pool_free(STEP_HUGE_PAGE), free);
}

/* A test of that name. */
#define STEP_TEST(name, which, way, most)                                      \
	static void name(void **state)                                         \
	{                                                                      \
		(void)state;                                                   \
		step_test(&which##_case, way, most);                           \
	}

#endif
