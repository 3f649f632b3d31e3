/* SPDX-License-Identifier: BSD-3-Clause */
/* poison.h - tells AddressSanitizer which memory of a heap is free. Layer:
 * poison; uses nothing. */
#ifndef SHMI_POISON_H
#define SHMI_POISON_H

#include <stddef.h>
#include <stdint.h>

/*
 * Nothing in a usual build. In one with AddressSanitizer the use of a freed
 * block is reported, as far as that can be known: what the sanitizer has been
 * told is one process's own, and another process may hand out what this one has
 * freed. So memory is poisoned only while nobody but the thread that poisoned
 * it can give it out again:
 *
 *	a block in the list of a span that the thread owns
 *	a large block that the thread holds for the next one
 *
 * and no more from when the thread gives out the block or gives up the span or
 * run, and in a forked child, where all of it is the parent's. What another
 * thread's span gets back is poisoned when the owner takes it into its list.
 */
#if defined(__SANITIZE_ADDRESS__)
#define SHMI_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SHMI_ASAN 1
#endif
#endif

#ifndef SHMI_ASAN
#define SHMI_ASAN 0
#endif

#if SHMI_ASAN
#include <sanitizer/asan_interface.h>
#include <sys/mman.h>
#include <unistd.h>

/* A function that may read and write free blocks. */
#define SHMI_MAY_TOUCH __attribute__((no_sanitize("address")))

static inline void shmi_poison(const void *p, size_t n)
{
	__asan_poison_memory_region(p, n);
}

/*
 * The sanitizer writes a byte for every eight, and what is large here may be a
 * size without memory: an arena's that grew lazily, or a forged one. So from
 * this size on whole pages of its bytes are given back, and read as zero: not
 * poisoned. In locked memory that is refused, and they are written. The caller
 * has all of that memory mapped.
 */
#define SHMI_UNPOISON_WRITTEN ((size_t)256 << 20)

static inline void shmi_unpoison(const void *p, size_t n)
{
	size_t scale, offset, unit;
	uintptr_t from = (uintptr_t)p, end = from + n, to;

	if (n >= SHMI_UNPOISON_WRITTEN) {
		__asan_get_shadow_mapping(&scale, &offset);
		unit = (size_t)getpagesize() << scale;
		from = (from + unit - 1) / unit * unit;
		to = end / unit * unit;
		if (!madvise((void *)((from >> scale) + offset),
			     (to - from) >> scale, MADV_DONTNEED)) {
			__asan_unpoison_memory_region(p, from - (uintptr_t)p);
			p = (const void *)to;
			n = end - to;
		}
	}
	__asan_unpoison_memory_region(p, n);
}
#else
#define SHMI_MAY_TOUCH
static inline void shmi_poison(const void *p, size_t n)
{
	(void)p;
	(void)n;
}

static inline void shmi_unpoison(const void *p, size_t n)
{
	(void)p;
	(void)n;
}
#endif

#endif
