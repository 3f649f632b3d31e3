/* SPDX-License-Identifier: BSD-3-Clause */
/* place.c - automatic addresses */
/*
 * An address that is free here must be free in every other process that will
 * ever open the arena, with other libraries, stacks and address space
 * randomisation. So it comes from parts of the address space that nothing
 * uses by itself, and is random in them, so that arenas of different makers,
 * who do not know of each other, do not meet.
 *
 * With "top" the first power of two above user space (47 bits on x86-64, 39
 * to 48 on arm64, 38 and up on riscv):
 *
 *	main	[1/2, 5/8) of top: 0x4000_0000_0000 to 0x5000_0000_0000. Programs
 *		are loaded from 2/3 on, mmap works downwards from the top; Go,
 *		the JVM and mimalloc stay below 1/4.
 *	high	[0.6640625, 0.666656) of top, 340 GiB: 0x5500_0000_0000 to
 *		0x5555_0000_0000. The only part that the thread sanitizer lets
 *		a program have, too; used when nothing in the main part is to
 *		be had.
 *	wide	[1/4, 5/8) of top, for what is too large for the main part.
 *
 * TMC_SHMEM_ZONE=START-END (hexadecimal) replaces all of them.
 *
 * Dropped: asking mmap for an address (it is different in each program, and
 * taken in the next); one fixed address (two arenas in one process).
 */
#include "place.h"

#include "os.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define STEP ((uint64_t)1 << 30) /* automatic addresses are multiples */
#define TRIES 64		 /* in each zone */
#define PAGE_TABLE_ROUND 0x200000ull

struct zone {
	uint64_t start, end;
};

/* Changes @z only if the whole value is sound; else it is as if not there. */
static bool zone_from_environment(struct zone *z)
{
	const char *text = shmi_os_env("TMC_SHMEM_ZONE");
	struct zone asked;
	char *end;

	if (!text)
		return false;
	asked.start = strtoull(text, &end, 16);
	if (end == text || *end != '-')
		return false;
	text = end + 1;
	asked.end = strtoull(text, &end, 16);
	if (end == text || *end || !asked.start || asked.start >= asked.end ||
	    asked.end > INT64_MAX)
		return false;
	*z = asked;
	return true;
}

static uint64_t round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) & ~(to - 1);
}

/* The number of places in @z, and their distance. */
static uint64_t places(const struct zone *z, uint64_t size, uint64_t align,
		       uint64_t *step)
{
	uint64_t first;

	/* A small zone has finer steps. */
	*step = STEP;
	while (*step > PAGE_TABLE_ROUND && (z->end - z->start) / *step < 64)
		*step /= 2;
	if (*step < align)
		*step = align;
	first = round_up(z->start, *step);
	if (first >= z->end || size > z->end - first)
		return 0;
	return (z->end - first - size) / *step + 1;
}

static int try_zone(const struct zone *z, uint64_t size, uint64_t align,
		    int (*try)(uintptr_t addr, void *arg), void *arg)
{
	uint64_t step, n = places(z, size, align, &step), random;
	int err = -ENOMEM, i;

	for (i = 0; i < TRIES && n; i++) {
		err = shmi_os_random(&random, sizeof(random));
		if (err)
			return err;
		err = try(round_up(z->start, step) + random % n * step, arg);
		if (err != -EADDRINUSE)
			return err;
	}
	return n ? -EADDRINUSE : -ENOMEM;
}

int shmi_place(size_t size, size_t align, int (*try)(uintptr_t addr, void *arg),
	       void *arg)
{
	uint64_t top = shmi_os_address_top();
	struct zone zones[3] = {
		{ top / 2, top / 8 * 5 },
		{ top / 256 * 170, top / 32768 * 21845 },
		{ top / 4, top / 8 * 5 },
	};
	size_t n = sizeof(zones) / sizeof(zones[0]), i;
	int err = -ENOMEM;

	if (zone_from_environment(&zones[0]))
		n = 1;
	for (i = 0; i < n; i++) {
		err = try_zone(&zones[i], size, align, try, arg);
		if (err != -EADDRINUSE && err != -ENOMEM)
			return err;
		/* What the machine refuses in one zone it refuses in all, but
		 * a size that does not fit there may fit the next. */
	}
	return err ? -ENOMEM : 0;
}
