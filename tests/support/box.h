/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * box.h - a place for tests that goes away with the process, however it ends.
 *
 * A directory; as root also a private mount namespace, a tmpfs on that
 * directory and whatever else is mounted below it, and huge pages for the
 * machine's pool. A guardian process waits for our end: it removes the
 * directory and puts the pool's size back.
 */
#ifndef TESTS_BOX_H
#define TESTS_BOX_H

#include <stddef.h>

/* 0, or -1 where not even a directory can be made. Call before threads. */
int box_open(void);
void box_close(void);

/* 1 where mounts can be made: root. */
int box_can_mount(void);

/* "DIRECTORY/@name"; one of 16 buffers that are used in turn. */
const char *box_path(const char *name);

/* Makes the directory @name in the box and mounts there. 0 or -1. */
int box_mount(const char *name, const char *type, const char *options);
int box_overlay(const char *name);
int box_hugetlbfs(const char *name, size_t pagesize, const char *options);

/*
 * A fresh file system of @mib MiB on a loop device: ext4, xfs or btrfs. -1
 * also where its mkfs is missing.
 */
int box_image(const char *name, const char *type, size_t mib);

/* Unmounts and removes it all. 0, or -1: something in it is still in use. */
int box_umount(const char *name);

/*
 * Makes at least @npages huge pages free, waiting for other test runs on this
 * machine that have asked before. Number of free pages then; less than
 * @npages where the machine has not got them. box_pool_end() puts things back.
 */
size_t box_pool(size_t pagesize, size_t npages);
void box_pool_end(void);

/* Free pages of that size now. */
size_t box_pool_free(size_t pagesize);

/* Pages of that size in the pool, in use or not: more nobody can get. */
size_t box_pool_size(size_t pagesize);

#endif
