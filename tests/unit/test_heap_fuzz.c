/* SPDX-License-Identifier: BSD-3-Clause */
/* test_heap_fuzz.c - what the fuzzers of the heap found worth keeping. */
#include "test.h"

#define FORGED
#include "../fuzz/harness_heap.h"
#include "../fuzz/replay.h"

static int aborted;

static void run_forged(const uint8_t *data, size_t len)
{
	aborted += heap_forged_run(data, len);
}

static void a_heap_does_as_the_model_says(void **state)
{
	(void)state;
	assert_true(replay(CORPUS "heap", heap_run) > 20);
}

static void an_overwritten_heap_fails_or_aborts(void **state)
{
	int n;

	(void)state;
	n = replay(CORPUS "heap_forged", run_forged);
	print_message("%d inputs, %d aborted\n", n, aborted);
	assert_in_range(aborted, 1, n - 1);
	assert_true(n > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_heap_does_as_the_model_says),
		cmocka_unit_test(an_overwritten_heap_fails_or_aborts),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
