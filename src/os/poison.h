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

/* A function that may read and write free blocks. */
#define SHMI_MAY_TOUCH __attribute__((no_sanitize("address")))

static inline void shmi_poison(const void *p, size_t n)
{
	__asan_poison_memory_region(p, n);
}

static inline void shmi_unpoison(const void *p, size_t n)
{
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
