/* SPDX-License-Identifier: BSD-3-Clause */
/* heap_class.h - sizes of small blocks. Private to the heap's sources. */
#ifndef SHMI_HEAP_CLASS_H
#define SHMI_HEAP_CLASS_H

#include "heap_layout.h"

#include <stdbool.h>

#define HEAP_SMALL 32704u /* largest small block; two in a span */
#define HEAP_ROOM ((uint32_t)HEAP_SLICE - HEAP_RUN_LEN)

/* Steps of 16 up to 128, four to each power of two up to 8 KiB, and then what
 * divides a span well. */
static const uint16_t heap_size[HEAP_CLASSES] = {
	16,   32,   48,	   64,	  80,	 96,	112,   128,  160,  192,
	224,  256,  320,   384,	  448,	 512,	640,   768,  896,  1024,
	1280, 1536, 1792,  2048,  2560,	 3072,	3584,  4096, 5120, 6144,
	7168, 8192, 10896, 13072, 16352, 21792, 32704,
};

static inline uint32_t heap_class(size_t n)
{
	uint32_t e, c;

	if (n <= 128)
		return n ? (uint32_t)(n - 1) / 16 : 0;
	if (n <= 8192) {
		e = 63 - (uint32_t)__builtin_clzll(n - 1);
		return 8 + (e - 7) * 4 + ((uint32_t)((n - 1) >> (e - 2)) & 3);
	}
	for (c = 32; heap_size[c] < n; c++)
		;
	return c;
}

static inline uint32_t heap_nblocks(uint32_t c)
{
	return HEAP_ROOM / heap_size[c];
}

/* Index of the block around @off bytes behind the run's head; @exact: whether
 * that is its start. No division: off < 65536. */
static inline uint32_t heap_index(uint32_t c, uint32_t off, bool *exact)
{
	uint64_t recip = ((uint64_t)1 << 32) / heap_size[c] + 1;
	uint32_t i = (uint32_t)(off * recip >> 32);

	*exact = i * heap_size[c] == off;
	return i;
}

#endif
