/* SPDX-License-Identifier: BSD-3-Clause */
/* test_heap_fuzz.c - what the fuzzers of the heap found worth keeping. */
#include "test.h"

#include "../fuzz/harness_heap.h"

#include <dirent.h>

#define CORPUS "tests/fuzz/corpus/"

/* Runs all inputs in @dir; how many, and the sum of what @run says. */
static int replay(const char *dir, int (*run)(const uint8_t *, size_t),
		  int *sum)
{
	static unsigned char bytes[4096];
	DIR *d = opendir(dir);
	struct dirent *entry;
	char path[512];
	int n = 0, fd;
	ssize_t len;

	assert_non_null(d);
	for (*sum = 0; (entry = readdir(d));) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		len = read(fd, bytes, sizeof(bytes));
		assert_true(len >= 0);
		close(fd);
		*sum += run(bytes, (size_t)len);
		n++;
	}
	closedir(d);
	return n;
}

static int run_sound(const uint8_t *data, size_t len)
{
	heap_run(data, len);
	return 0;
}

static void a_heap_does_as_the_model_says(void **state)
{
	int sum;

	(void)state;
	assert_true(replay(CORPUS "heap", run_sound, &sum) > 20);
}

static void an_overwritten_heap_fails_or_aborts(void **state)
{
	int aborted, n;

	(void)state;
	n = replay(CORPUS "heap_forged", heap_forged_run, &aborted);
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
