/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * consumer.c - walks a tree that another program has built, and answers.
 *
 * Waits for the arena of producer.c, whichever of the two is started first,
 * and for its tree; follows the producer's plain pointers, checks every node,
 * grows the arena itself and puts there an array of the nodes in order:
 *
 *	.build/examples/producer & .build/examples/consumer
 *
 * --path PATH names the arena, the same for both. --huge is accepted so that
 * both can be called alike: the arena itself knows its page size.
 */
#include <shmem.h>
#include "exchange.h"

/* A short sleep; -1 and ETIMEDOUT when there have been enough of them. */
static int nap(void)
{
	const struct timespec t = { .tv_nsec = 10000000 };
	static int left = PATIENCE * 100;

	if (left-- == 0) {
		errno = ETIMEDOUT;
		return -1;
	}
	return nanosleep(&t, NULL) && errno != EINTR ? -1 : 0;
}

/* Appends the nodes from @n down to @a, in order; -1: a node is not right. */
static int walk(const struct root *root, struct node *n, struct answer *a)
{
	for (; n; n = n->right) {
		if (walk(root, n->left, a) || a->nodes == root->nodes ||
		    n->sum != checksum(n->name))
			return -1;
		a->sorted[a->nodes++] = n;
	}
	return 0;
}

static int answer(tmc_shmem_t *shm, struct root *root)
{
	size_t size = sizeof(struct answer) + root->nodes * sizeof(void *);
	struct answer *a = tmc_shmem_grow(shm, size);
	uint64_t sum = 0;

	if (!a)
		return failed("consumer", tmc_shmem_hugefd(shm) >= 0);
	a->consumer = getpid();
	errno = EBADMSG;
	if (walk(root, root->tree, a))
		return failed("consumer: a node is damaged", false);
	for (size_t i = 0; i < a->nodes; i++)
		sum += a->sorted[i]->sum;
	if (a->nodes != root->nodes || sum != root->sum)
		return failed("consumer: the tree is damaged", false);
	printf("consumer: %zu nodes of process %d are right, checksum %016jx\n",
	       a->nodes, (int)root->producer, (uintmax_t)sum);
	printf("consumer: grew it to %zu KiB; answer at %p\n",
	       tmc_shmem_current_size(shm) >> 10, (void *)a);
	root->answer = a; /* published by DONE */
	return 0;
}

/* Release: with DONE the producer sees the whole answer. Wakes it, too. */
static int set_state(atomic_uint *state, unsigned int value)
{
	atomic_store_explicit(state, value, memory_order_release);
	return syscall(SYS_futex, state, FUTEX_WAKE, 1) < 0 ? -1 : 0;
}

static int consume(tmc_shmem_t *shm)
{
	unsigned int state = READY;
	struct root *root;
	int err;

	while (!(root = tmc_shmem_get_data(shm)))
		if (nap())
			return failed("consumer: nothing published", false);
	/* Only decides who it is; the tree came by tmc_shmem_get_data(). */
	errno = EALREADY;
	if (!atomic_compare_exchange_strong_explicit(
		    &root->state, &state, TAKEN, memory_order_relaxed,
		    memory_order_relaxed))
		return failed("consumer: another has answered", false);
	err = answer(shm, root);
	if (set_state(&root->state, err ? FAILED : DONE))
		err = failed("consumer: cannot wake the producer", false);
	return err;
}

int main(int argc, char **argv)
{
	bool huge = false;
	const char *path;
	tmc_shmem_t *shm;
	int err;

	if (options(argc, argv, &path, &huge, NULL))
		return 1;
	shm = tmc_shmem_open(path);
	if (!shm && errno == ENOENT)
		printf("consumer: waiting for %s\n", path);
	while (!shm && errno == ENOENT && !nap())
		shm = tmc_shmem_open(path);
	if (!shm)
		return -failed(path, huge);
	printf("consumer: process %d opened it at %p, too\n", (int)getpid(),
	       tmc_shmem_address(shm));
	err = consume(shm);
	tmc_shmem_close(shm);
	return err ? 1 : 0;
}
