/* SPDX-License-Identifier: BSD-3-Clause */
/* lock.h - the arena's lock, which no death leaves behind. Layer: lock; uses
 * users, os. */
#ifndef SHMI_LOCK_H
#define SHMI_LOCK_H

#include "layout.h"

#include <pthread.h>
#include <stdbool.h>

/*
 * Lock order: the registry of arena.c, then @mutex, then the arena's word.
 * Private to a process; one for each arena that it has open.
 */
struct shmi_lock {
	pthread_mutex_t mutex; /* among the threads of this process */
	struct layout_hdr *h;
	int fd;	       /* of the arena's file, a description of ours */
	uint32_t slot; /* ours; USERS_NO_SLOT: cannot lock */
	bool waited;   /* under @mutex: the last take found another owner */
};

void shmi_lock_init(struct shmi_lock *l, struct layout_hdr *h, int fd,
		    uint32_t slot);

/*
 * 0; or SHMI_LOCK_DIED, the lock is taken over from a process that died in it
 * and the caller must repair; or -EUSERS without a slot.
 */
#define SHMI_LOCK_DIED 1
int shmi_lock_take(struct shmi_lock *l);
void shmi_lock_release(struct shmi_lock *l);

/* The same when the caller could not repair: the next one must. */
void shmi_lock_release_broken(struct shmi_lock *l);

/* An opener that is alone voids what the words say. */
void shmi_lock_reset(struct layout_hdr *h);

/* In a forked child: thread ids are new, and nobody holds @mutex. */
void shmi_lock_forked(void);
void shmi_lock_reinit(struct shmi_lock *l, int fd, uint32_t slot);

#endif
