/* SPDX-License-Identifier: BSD-3-Clause */
/* gc.h - what gc finds, and how it is removed. For gc.c and gc_remove.c. */
#ifndef SHMEMCTL_GC_H
#define SHMEMCTL_GC_H

#include "ctl.h"

enum gc_kind { GC_ARENA, GC_TEMPORARY, GC_COMPANION };

struct gc_item {
	enum gc_kind kind;
	char *path;
	uint64_t used; /* bytes */
};

struct gc_list {
	const char *dir;
	struct gc_item *v;
	size_t n;
	uint64_t *owners; /* inodes of arenas in @dir with huge pages */
	size_t nowners;
	unsigned int in_use; /* arenas that are kept */
};

/* ".NAME.tmcnew-RANDOM". */
bool gc_is_temporary(const char *name);
/* "libshmem-INODE-TOKEN" or the same with ".KEY": the arena's inode. */
bool gc_companion_owner(const char *name, uint64_t *ino);
bool gc_owned(const struct gc_list *l, uint64_t ino);

/*
 * 0, or -1 and errno: EBUSY, it is in use now, or its arena is in @dir; ENOENT,
 * it is gone already.
 */
int gc_remove(const char *dir, const struct gc_item *it);

#endif
