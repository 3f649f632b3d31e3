/* SPDX-License-Identifier: BSD-3-Clause */
/* test_shmemctl_odd.c - shmemctl with odd names, descriptors and files. */
#include "shmemctl_test.h"

#include <stdlib.h>

#include "layout.h"
#include "probe.h"
#include "shell.h"

/* ----- descriptors ----- */

static void closed_descriptors_are_never_the_arena(void **state)
{
	(void)state;
	IS(0, "create", "-s", "8K", a, "1M");
	assert_int_equal(shell("$ctl grow %s 1E 2>&-", a), 1);
	assert_int_equal(shell("$ctl grow %s 1E >&- 2>&-", a), 1);
	assert_int_equal(shell("$ctl grow %s 1E <&- >&- 2>&-", a), 1);
	/* What cannot be printed is told, as ever. */
	assert_says(1, "output: Bad file descriptor", "$ctl grow %s 4K >&-",
		    a);
	IS(0, "stat", a);
	IS(0, "check", a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(closed_descriptors_are_never_the_arena),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
