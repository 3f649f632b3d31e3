/* SPDX-License-Identifier: BSD-3-Clause */
/* guard.h - the process that tidies up after a test program. For box.c. */
#ifndef TESTS_GUARD_H
#define TESTS_GUARD_H

#include <stddef.h>
#include <sys/types.h>

struct guard {
	pid_t pid;
	int fd; /* packets of struct guard_order */
};

/* Removes @dir with all that is in it when the caller ends. 0 or -1. */
int guard_start(struct guard *g, const char *dir);

/* Has it do so now, and waits. */
void guard_stop(struct guard *g);

/* Raises the pool, see box_pool(); @pagesize 0 puts it back. */
size_t guard_pool(struct guard *g, size_t pagesize, size_t npages);

/* A number from the pool's directory in sysfs; 0 where there is none. */
size_t guard_pool_read(size_t pagesize, const char *name);

/* rm -rf, not across mounts. */
void guard_remove(const char *path);

#endif
