/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_heap_forged.c - libFuzzer: sequences of calls on a heap in an arena that is
 * overwritten meanwhile. */
#define FORGED
#include "harness_heap.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The linker gives us the call by which libFuzzer hears of the counters. */
void __real___sanitizer_cov_8bit_counters_init(char *begin, char *end);
void __wrap___sanitizer_cov_8bit_counters_init(char *begin, char *end);

void __wrap___sanitizer_cov_8bit_counters_init(char *begin, char *end)
{
	counters = begin;
	ncounters = (size_t)(end - begin);
	__real___sanitizer_cov_8bit_counters_init(begin, end);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return box_open();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	heap_forged_run(data, len);
	return 0;
}
