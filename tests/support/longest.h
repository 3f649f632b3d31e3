/* SPDX-License-Identifier: BSD-3-Clause */
/* longest.h - which of many processes' calls took longest. */
#ifndef TESTS_LONGEST_H
#define TESTS_LONGEST_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

static inline uint64_t longest_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* *@longest, in shared memory, is at least the ns since @since. */
static inline void longest_note(_Atomic uint64_t *longest, uint64_t since)
{
	uint64_t took = longest_now() - since, most = atomic_load(longest);

	while (took > most &&
	       !atomic_compare_exchange_weak(longest, &most, took))
		;
}

#endif
