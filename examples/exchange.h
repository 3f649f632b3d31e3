/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exchange.h - what producer.c and consumer.c share: the structures that lie
 * in the arena, the word by which they take turns, options and messages.
 */
#ifndef EXAMPLES_EXCHANGE_H
#define EXAMPLES_EXCHANGE_H

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE 30 /* seconds without a sign of the other process */

/* One name of the tree, made by the producer. Checksum: of the name. */
struct node {
	struct node *left, *right; /* smaller and larger names, or NULL */
	uint64_t sum;
	char name[40];
};

/* All nodes in the order of their names, made by the consumer. */
struct answer {
	pid_t consumer;
	size_t nodes;
	struct node *sorted[]; /* the producer's nodes themselves */
};

/*
 * What tmc_shmem_set_data() publishes, when the tree is complete. From then
 * on only state and answer change: the consumer that takes READY to TAKEN
 * writes answer and then DONE (release), or FAILED; who reads DONE (acquire)
 * sees the whole answer.
 */
struct root {
	pid_t producer;
	size_t nodes;
	uint64_t sum; /* of all names */
	struct node *tree;
	struct answer *answer;
	atomic_uint state; /* one of these; also a futex */
};
enum { READY, TAKEN, DONE, FAILED };

/* FNV-1a */
static inline uint64_t checksum(const char *s)
{
	uint64_t h = 0xcbf29ce484222325;

	while (*s)
		h = (h ^ (unsigned char)*s++) * 0x100000001b3;
	return h;
}

/* 0 when the state is DONE, else -1: ECANCELED for FAILED, or ETIMEDOUT. */
static inline int wait_done(atomic_uint *state)
{
	const struct timespec t = { .tv_sec = PATIENCE };
	unsigned int s;

	while ((s = atomic_load_explicit(state, memory_order_acquire)) < DONE)
		if (syscall(SYS_futex, state, FUTEX_WAIT, s, &t) < 0 &&
		    errno != EAGAIN && errno != EINTR)
			return -1;
	errno = ECANCELED;
	return s == DONE ? 0 : -1;
}

/* Says in one line what failed and, where it is known, what to do. */
static inline int failed(const char *what, bool huge)
{
	const char *hint = "";

	if (errno == EEXIST || errno == EALREADY)
		hint = ": left by a killed producer? `producer --remove`";
	if (errno == ETIMEDOUT)
		hint = ": the other program has not come, or died";
	if (huge && (errno == ENODEV || errno == EINVAL || errno == ENOMEM))
		hint = ": for huge pages, as root: sysctl vm.nr_hugepages=16; "
		       "mount -t hugetlbfs none /dev/hugepages";
	fprintf(stderr, "%s: %s%s\n", what, strerror(errno), hint);
	return -1;
}

/* @removing is NULL where --remove is not an option. */
static inline int options(int argc, char **argv, const char **path, bool *huge,
			  bool *removing)
{
	static char own[64];

	snprintf(own, sizeof(own), "/dev/shm/libshmem-demo-%u", getuid());
	*path = own;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--path") && i + 1 < argc) {
			*path = argv[++i];
		} else if (!strcmp(argv[i], "--huge")) {
			*huge = true;
		} else if (removing && !strcmp(argv[i], "--remove")) {
			*removing = true;
		} else {
			fprintf(stderr, "usage: %s [--huge] [--path PATH]%s\n",
				argv[0], removing ? " [--remove]" : "");
			return -1;
		}
	}
	/* Each line at once, in a pipe too. */
	return setvbuf(stdout, NULL, _IOLBF, 0) ? failed("stdout", false) : 0;
}

#endif
