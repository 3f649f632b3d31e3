/* SPDX-License-Identifier: BSD-3-Clause */
/* odp.h - what tests of examples/odp_shm share: an instance in the box. */
#ifndef TESTS_ODP_H
#define TESTS_ODP_H

#include "test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../examples/odp_shm/odp_shm.h"

#define ODP_TEST_LAZY MIB

/*
 * For who makes an instance that others import from, or into: with a number of
 * its own they cannot meet. Elsewhere the chance is one in thousands; what the
 * thread sanitizer leaves has 340 places.
 */
static inline void odp_own_zone(unsigned int number)
{
#if UNDER_SANITIZER && defined(__x86_64__)
	uint64_t len = 84 * GIB, start = 0x550000000000 + number % 4 * len;
	char zone[64];

	snprintf(zone, sizeof(zone), "%llx-%llx", (unsigned long long)start,
		 (unsigned long long)(start + len));
	setenv("TMC_SHMEM_ZONE", zone, 1);
#else
	(void)number;
#endif
}

/* The tests' own. 0 or -1. */
static inline int odp_begin(odp_instance_t *id, uint32_t max_blocks,
			    uint64_t lazy_size)
{
	odp_shm_setup_t setup = { .max_memory = GIB,
				  .max_blocks = max_blocks,
				  .lazy_size = lazy_size };

	odp_shm_term_local(); /* what a failed test may be in */
	setenv("ODP_SHM_DIR", box_path(""), 1);
	return odp_shm_init_global(id, &setup);
}

/* Fixtures of one test. */
static inline int odp_test_begin(void **state)
{
	static odp_instance_t id;

	*state = &id;
	return odp_begin(&id, 0, 0);
}

static inline int odp_test_end(void **state)
{
	return odp_shm_term_global(*(odp_instance_t *)*state);
}

#define odp_test(test)                                                         \
	cmocka_unit_test_setup_teardown(test, odp_test_begin, odp_test_end)

#define assert_invalid(call, err)                                              \
	do {                                                                   \
		errno = 0;                                                     \
		assert_true((call) == ODP_SHM_INVALID);                        \
		assert_int_equal(errno, err);                                  \
	} while (0)

/* Files in the box whose names begin so; of an instance; and its first. */
static inline int odp_files(const char *start)
{
	DIR *dir = opendir(box_path(""));
	struct dirent *e;
	int n = 0;

	while (dir && (e = readdir(dir)))
		n += !strncmp(e->d_name, start, strlen(start));
	if (dir)
		closedir(dir);
	return n;
}

static inline const char *odp_file_of(odp_instance_t id)
{
	char name[32];

	snprintf(name, sizeof(name), "odp-%016llx", (unsigned long long)id);
	return box_path(name);
}

static inline int odp_files_of(odp_instance_t id)
{
	return odp_files(strrchr(odp_file_of(id), '/') + 1);
}

#endif
