/* SPDX-License-Identifier: BSD-3-Clause */
/* heap_class.c - tables of the sizes of small blocks */
#include "heap_class.h"

#define HEAP_MAGIC_OF(size) (uint32_t)(((uint64_t)1 << 32) / (size) + 1)
const uint32_t heap_magic[HEAP_KINDS] = { HEAP_SIZES(HEAP_MAGIC_OF) };
