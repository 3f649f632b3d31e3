/* SPDX-License-Identifier: BSD-3-Clause */
/* step_kill.h - kills one process after the other, each a bit later in a call.
 */
#ifndef TESTS_STEP_KILL_H
#define TESTS_STEP_KILL_H

#include <stddef.h>
#include <sys/types.h>

#include "peer.h"

struct step_kill {
	const char *name; /* to be printed */
	/* Forks a process that calls step_me() and has the call between two
	 * STEP_EDGE(); or a thread of it does, and its number is returned. It
	 * is the process that is killed. -1: it could not. */
	pid_t (*victim)(const void *arg);
	const void *arg;
	peer_fn *check;	     /* of what is left, in a peer after each death */
	void (*renew)(void); /* NULL, or called after every so many deaths: */
	size_t deaths;	     /* what the dead leave adds up */
	size_t most;	     /* see step_choose(); SOAK: all there are */
	size_t most_kills;   /* of those, evenly; 0: all */
	size_t soak_kills;   /* the same with SOAK */
	size_t soak_turns;   /* SOAK: at the first so many that one
			      * instruction is come to in the call; 0: all */
};

/* SIGKILL to the process that @pid is a thread of, and the wait for it. */
void step_end(pid_t pid);

/* 0, or -1: says on stderr where it was. */
int step_kill(const struct step_kill *k);

#endif
