/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_heap.c - libFuzzer: sequences of calls on a heap in an arena. */
#include "harness_heap.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return box_open();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	heap_run(data, len);
	return 0;
}
