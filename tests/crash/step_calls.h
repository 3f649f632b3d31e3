/* SPDX-License-Identifier: BSD-3-Clause */
/* step_calls.h - calls that are stepped with small pages and with huge ones. */
#ifndef TESTS_STEP_CALLS_H
#define TESTS_STEP_CALLS_H

#include "step_test.h"

static inline int nothing(struct spot *s)
{
	(void)s;
	return 0;
}

static inline int create(struct spot *s)
{
	s->shm = tmc_shmem_create(s->path, &s->alloc, NULL, s->maxsize);
	return !s->shm;
}

static inline int create_temp(struct spot *s)
{
	s->shm = tmc_shmem_create_temp(s->path, &s->alloc, NULL, s->maxsize);
	return !s->shm;
}

static inline int create_anonymous(struct spot *s)
{
	s->shm = tmc_shmem_create_anonymous(&s->alloc, NULL, s->maxsize);
	return !s->shm;
}

static inline int open_it(struct spot *s)
{
	s->shm = tmc_shmem_open(s->path);
	return !s->shm;
}

static inline int close_it(struct spot *s)
{
	tmc_shmem_close(s->shm);
	return 0;
}

static inline int unlink_it(struct spot *s)
{
	return tmc_shmem_unlink(s->path);
}

static inline int unlink_idle(struct spot *s)
{
	return tmc_shmem_unlink_idle(s->path);
}

#endif
