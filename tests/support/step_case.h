/* SPDX-License-Identifier: BSD-3-Clause */
/* step_case.h - a call, killed after each of its instructions, and what then. */
#ifndef TESTS_STEP_CASE_H
#define TESTS_STEP_CASE_H

#include <limits.h>
#include <stddef.h>

#include <shmem.h>

/* Where one worker lets its processes die, and the victim's handle. */
struct spot {
	char dir[64];	  /* the arena's directory, else empty */
	char path[96];	  /* of the arena; a template for create_temp */
	char copy[96];	  /* of its copy */
	char hugedir[64]; /* a hugetlbfs mount of this worker's */
	tmc_alloc_t alloc;
	size_t page;
	size_t maxsize;
	tmc_shmem_t *shm;
	void *mem;
};

/* Who is there when the victim dies. All call for a check by a new process. */
enum step_way {
	STEP_ALONE,   /* nobody: the file is at rest when it is looked at */
	STEP_BESIDE,  /* a process that has the arena open before and after */
	STEP_WAITED,  /* the same, in the middle of a grow of its own when the
		      * victim dies: waiting where that needs the lock. Of a
		      * create: another one creates the same before that. */
	STEP_LEAVING, /* the same, in a call that changes nothing, and it waits
		       * already when the steps begin,
		       * with the victim in the lock: its release has somebody
		       * to wake */
	STEP_COPIED,  /* nobody; the file is also copied before the kill */
};

struct step_case {
	const char *name;
	int huge;      /* 2 MiB pages */
	int lazy;      /* not prefaulted */
	int named;     /* no O_TMPFILE here */
	int temp;      /* the path is a template */
	int creates;   /* nothing is there before */
	int anonymous; /* nor after: what it creates has no name */
	int removes;   /* nothing is there after */
	int idle;      /* removes: by a temporary name, if nobody has it open */
	int after_death; /* the lock's last owner died in a grow */
	int forks;	 /* it is the child of its fork that is killed */
	int opens;	 /* who waits opens it, too, and not only grows */
	size_t pages;	 /* of the arena before */
	long change;	 /* pages that the call adds */

	/* In the victim: before the steps, if not just to open it, and the
	 * call itself. Both return 0 where all is well. */
	int (*prepare)(struct spot *s);
	int (*call)(struct spot *s);
};

/*
 * Kills at @most instructions or a few more (step_choose()), at all of them
 * if SOAK is set; prints what it did. Number of failures, the first of which
 * are described on stderr; -1: could not begin.
 */
int step_case_run(const struct step_case *c, enum step_way way, size_t most);

#define STEP_WORKERS 8
#define STEP_HUGE_PAGE ((size_t)2 << 20)
#define STEP_POOL 12 /* huge pages of each worker */

#endif
