/* SPDX-License-Identifier: BSD-3-Clause */
/* peer.h - other processes for tests, stepped word by word over a socket. */
#ifndef TESTS_PEER_H
#define TESTS_PEER_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct peer {
	pid_t pid; /* 0 on the peer's side */
	int fd;	   /* a stream socket to the other side */
};

/*
 * What a peer runs; its result is the exit code. It must not use cmocka's
 * asserts: it has a copy of the parent's test loop.
 */
typedef int peer_fn(struct peer *self, void *arg);

/* In a peer: leaves with 1 and a line on stderr where @cond is false. */
#define PEER_CHECK(cond)                                                       \
	do {                                                                   \
		if (!(cond)) {                                                 \
			fprintf(stderr, "%s:%d: peer: %s (errno %d)\n",        \
				__FILE__, __LINE__, #cond, errno);             \
			return 1;                                              \
		}                                                              \
	} while (0)

/* Signals at their defaults, dies with its parent. 0 or -1. */
int peer_fork(struct peer *p, peer_fn *fn, void *arg);

/*
 * Runs tests/agents/@agent with @args (ends in NULL), its socket on
 * descriptor 0: there peer_self() finds it.
 */
int peer_exec(struct peer *p, const char *agent, const char *const *args);
void peer_self(struct peer *self);

/* The path of an agent; good until the next call. */
const char *peer_agent(const char *agent);

/* A word, or descriptors, to the other side and from it. 0, or -1: gone. */
int peer_put(struct peer *p, uint64_t word);
int peer_get(struct peer *p, uint64_t *word);
int peer_put_fd(struct peer *p, int fd);
int peer_get_fd(struct peer *p);

/* Waits for it. Its exit code, or 128 and the signal that ended it. */
int peer_end(struct peer *p);

/* SIGKILL and the wait for it. SIGSTOP and the wait; 0, or -1: it ended. */
void peer_kill(struct peer *p);
int peer_stop(struct peer *p);

/* peer_fork() and peer_end(); peer_exec() and peer_end(). */
int peer_run(peer_fn *fn, void *arg);
int peer_run_agent(const char *agent, const char *const *args);

/* peer_run(), and what the peer says on stderr, as far as @text has room. */
int peer_run_said(peer_fn *fn, void *arg, char *text, size_t room);

/* In a peer: goes on as another user, without any of root's rights. */
int peer_become(uid_t uid);

#endif
