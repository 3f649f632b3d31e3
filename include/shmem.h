/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shmem.h - all of libshmem. OpenSHMEM has a header of this name too: a
 * program that needs both includes <tmc/shmem.h> for this one.
 */
#ifndef LIBSHMEM_SHMEM_H
#define LIBSHMEM_SHMEM_H

#include <tmc/alloc.h>
#include <tmc/cmem.h>
#include <tmc/mspace.h>
#include <tmc/shmem.h>

#endif
