/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_calls.c - libFuzzer: sequences of calls on an arena that is meddled
 * with. */
#include "harness_calls.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return box_open() || world_open();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	calls_run(data, len);
	return 0;
}
