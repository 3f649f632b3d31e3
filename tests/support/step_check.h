/* SPDX-License-Identifier: BSD-3-Clause */
/* step_check.h - looks at an arena that somebody died in. For step_case.c. */
#ifndef TESTS_STEP_CHECK_H
#define TESTS_STEP_CHECK_H

#include "step_case.h"

struct step_check {
	const struct step_case *c;
	struct spot *s;
	const char *path; /* the arena or its copy */
	int rival;	  /* two have created it */
};

/* All these run in peers: 0, 1 for a failure that is told on stderr. */

/* Makes the arena as it is before the call, and leaves it open. */
int step_check_setup(const struct step_check *k, tmc_shmem_t **shm);

/* By somebody who has it open: 0 or 2: size is that before, or after. */
int step_check_open(const struct step_check *k, tmc_shmem_t *shm);

/* By a new process; 0 or 2. Removes the arena in the end. */
int step_check_fresh(const struct step_check *k);

/* That everything is gone, pages of the pool too. */
int step_check_gone(const struct step_check *k);

#endif
