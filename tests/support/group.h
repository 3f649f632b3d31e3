/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * group.h - a hugetlb cgroup that goes away with the process, however it ends.
 *
 * One at a time. Hold box_pool(), so that two test runs do not meet.
 */
#ifndef TESTS_GROUP_H
#define TESTS_GROUP_H

#include <stddef.h>

/* Of cgroup version 1 or 2. 0, or -1: not to be had on this machine. */
int group_open(int version, size_t pagesize);

/* The caller goes in; the group may have that much. 0 or -1. */
int group_enter(void);
int group_limit(size_t bytes);

/* 0, or -1: the machine is not as it was. */
int group_close(void);

#endif
