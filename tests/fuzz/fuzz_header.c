/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz_header.c - libFuzzer: an arena with a forged header is opened. */
#include "harness_header.h"

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
	header_run(data, len);
	return 0;
}
