/* SPDX-License-Identifier: BSD-3-Clause */
/* api.h - what the api_*.c share. Layer: api, the highest. */
#ifndef SHMI_API_H
#define SHMI_API_H

#include "arena.h"
#include "os.h"
#include "page.h"

#include <tmc/shmem.h>

/* internal_flags of tmc_alloc_t */
#define SHMI_ALLOC_THP 1u
#define SHMI_ALLOC_READONLY 2u /* of a handle that cannot grow its arena */
#define SHMI_ALLOC_HUGE_PREFERRED 4u /* else small pages */
#define SHMI_ALLOC_CMEM 8u	     /* pages of cmem's arenas */
#define SHMI_ALLOC_MODE_SHIFT 16     /* nine bits: mode of files, ^ 0600 */

/*
 * No call is a cancellation point: a thread that is cancelled in the middle
 * would leave locks behind in a living process.
 */
#define SHMI_API_BEGIN int cancel_ = shmi_os_cancel_off()
#define SHMI_API_END shmi_os_cancel_restore(cancel_)

/* 0, or -1 with errno, from 0 or -errno. */
int shmi_api_result(int err);

/* Bytes rounded up, in @rounded; 0, -EINVAL for 0 or no page size, -ENOMEM. */
int shmi_api_round(size_t bytes, size_t pagesize, size_t *rounded);

/* Whether flags and page size of @alloc exist, and which page size that is:
 * 0 or -EINVAL. */
int shmi_api_pagesize(const tmc_alloc_t *alloc, size_t *pagesize, bool *huge);

/* What @alloc says of pages that are no arena's: 0 or -EINVAL. */
int shmi_api_pages(const tmc_alloc_t *alloc, struct shmi_pages *how);

/* NUMA policy: 0, -EINVAL for one that is none. */
int shmi_api_policy(const tmc_alloc_t *alloc);

/* The header of a handle's arena, checked. */
const struct layout_const *shmi_api_constants(const tmc_shmem_t *shm);

/*
 * For an @alloc with SHMI_ALLOC_CMEM: the page allocator of the arena that it
 * means, which is made where it can be. 0 or -errno.
 */
int shmi_cmem_alloc(const tmc_alloc_t *alloc, tmc_alloc_t *real);

/*
 * A handle's place in the table of tmc_shmem_find(). Taken first, since that
 * can fail (NULL); the handle sits down when its arena is there, and rises
 * before it goes, or without ever having sat.
 */
struct shmi_seat;
struct shmi_seat *shmi_api_seat(void);
void shmi_api_sit(struct shmi_seat *s, tmc_shmem_t *shm, bool readonly);
void shmi_api_rise(struct shmi_seat *s);

#endif
