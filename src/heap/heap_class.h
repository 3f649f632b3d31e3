/* SPDX-License-Identifier: BSD-3-Clause */
/* heap_class.h - sizes of small blocks. Private to the heap's sources. */
#ifndef SHMI_HEAP_CLASS_H
#define SHMI_HEAP_CLASS_H

#include "heap_layout.h"

#include <stdbool.h>

#define HEAP_SMALL 32176u /* largest small block; two in a span */
/* Blocks end one step of 16 before the slice, so that offsets of their ends fit
 * in 16 bits. */
#define HEAP_END ((uint32_t)HEAP_SLICE - 16)

/* Steps of 16 up to 128, four to each power of two up to 8 KiB, and then what
 * divides a span well. */
#define HEAP_SIZES(X)                                                          \
	X(16), X(32), X(48), X(64), X(80), X(96), X(112), X(128), X(160),      \
		X(192), X(224), X(256), X(320), X(384), X(448), X(512),        \
		X(640), X(768), X(896), X(1024), X(1280), X(1536), X(1792),    \
		X(2048), X(2560), X(3072), X(3584), X(4096), X(5120), X(6144), \
		X(7168), X(8192), X(10720), X(12864), X(16080), X(21456),      \
		X(32176)
#define HEAP_AS_IS(size) size
static const uint16_t heap_size[HEAP_CLASSES] = { HEAP_SIZES(HEAP_AS_IS) };

#define HEAP_QUICK 1024u /* sizes that the common malloc knows */

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

/* Bytes of as many blocks as there are in @n, one at least. */
static inline uint32_t heap_whole(uint32_t n, uint32_t c)
{
	return n < heap_size[c] ? heap_size[c]
				: n / heap_size[c] * heap_size[c];
}

/* Offset in its slice of a span's first block, and bytes of all of them. */
static inline uint32_t span_start(const struct heap_run *r)
{
	return (uint32_t)((uintptr_t)r % HEAP_SLICE) + HEAP_RUN_LEN;
}

static inline uint32_t span_bytes(const struct heap_run *r, uint32_t c)
{
	return (HEAP_END - span_start(r)) / heap_size[c] * heap_size[c];
}

/* How many blocks of others a thread keeps for its own mallocs, at first and at
 * most: as many as a span has, about. */
#define SPAN_STRAYS_FIRST 4u
#define SPAN_STRAYS 256u
static inline uint32_t span_strays(uint32_t c)
{
	uint32_t n = (uint32_t)HEAP_SLICE / heap_size[c];

	return n < SPAN_STRAYS ? n : SPAN_STRAYS;
}

/*
 * For each kind of run 2^32 / size + 1, so that off % size == 0 is
 * (uint32_t)(off * magic) < magic for off below 2^16. 0, so that nothing is,
 * for what is no class.
 */
#define HEAP_KINDS 64u
extern const uint32_t heap_magic[HEAP_KINDS];

/* The size again; not of 0. */
static inline uint32_t heap_size_of(uint32_t magic)
{
	return (uint32_t)(((uint64_t)1 << 32) / (magic - 1));
}

static inline bool heap_starts_block(uint32_t kind, uint32_t off)
{
	uint32_t magic = heap_magic[kind % HEAP_KINDS];

	return off * magic < magic;
}

#endif
