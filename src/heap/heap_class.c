/* SPDX-License-Identifier: BSD-3-Clause */
/* heap_class.c - tables of the sizes of small blocks */
#include "heap_class.h"

#define HEAP_MAGIC_OF(size) (uint32_t)(((uint64_t)1 << 32) / (size) + 1)
const uint32_t heap_magic[HEAP_KINDS] = { HEAP_SIZES(HEAP_MAGIC_OF) };

const uint8_t heap_quick[HEAP_QUICK / 16 + 1] = {
	0,  0,	1,  2,	3,  4,	5,  6,	7,  8,	8,  9,	9,  10, 10, 11, 11,
	12, 12, 12, 12, 13, 13, 13, 13, 14, 14, 14, 14, 15, 15, 15, 15, 16,
	16, 16, 16, 16, 16, 16, 16, 17, 17, 17, 17, 17, 17, 17, 17, 18, 18,
	18, 18, 18, 18, 18, 18, 19, 19, 19, 19, 19, 19, 19, 19,
};
