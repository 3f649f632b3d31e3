/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * producer.c - shares a growing tree of plain pointers with another program.
 *
 * Makes an arena, grows it while it builds a tree there, publishes the tree
 * when it is complete and waits for consumer.c to hand back all nodes in
 * order, in memory by which the consumer has grown the arena. The two are
 * started in either order, from two terminals or as here:
 *
 *	.build/examples/consumer & .build/examples/producer
 *
 * --path PATH names the arena, the same for both; --huge takes huge pages;
 * --remove only removes what a killed producer has left.
 */
#include <shmem.h>
#include "exchange.h"

#define NODES 100000
#define STEP ((size_t)256 << 10)   /* bytes to grow by; whole pages */
#define MAXIMUM ((size_t)16 << 30) /* costs nothing until it is used */

/* Where the node of that name is, or where it belongs. */
static struct node **find(struct node **n, const char *name)
{
	int order;

	while (*n && (order = strcmp(name, (*n)->name)) != 0)
		n = order < 0 ? &(*n)->left : &(*n)->right;
	return n;
}

/* The complete tree, or NULL where the arena cannot grow. */
static struct root *build(tmc_shmem_t *shm, unsigned int *grows)
{
	size_t step = tmc_alloc_size(tmc_shmem_alloc(shm), STEP);
	struct root *root = tmc_shmem_grow(shm, sizeof(*root));
	struct node *n = NULL, *end = NULL;

	if (!root)
		return NULL;
	root->producer = getpid();
	for (*grows = 1; root->nodes < NODES; root->nodes++, n++) {
		if (n == end) {
			n = tmc_shmem_grow(shm, step); /* comes zeroed */
			if (!n)
				return NULL;
			end = n + step / sizeof(*n);
			++*grows;
		}
		snprintf(n->name, sizeof(n->name), "n%08x",
			 (unsigned int)root->nodes * 0x9e3779b1);
		n->sum = checksum(n->name);
		root->sum += n->sum;
		*find(&root->tree, n->name) = n;
	}
	return root;
}

/* Whether the answer has every node once: pointers are the same in both. */
static bool verify(struct root *root, const struct answer *a)
{
	struct node *const *s = a->sorted;

	for (size_t i = 0; i < a->nodes; i++)
		if (*find(&root->tree, s[i]->name) != s[i] ||
		    (i && strcmp(s[i - 1]->name, s[i]->name) >= 0))
			return false;
	return a->nodes == root->nodes;
}

static int produce(tmc_shmem_t *shm, bool huge)
{
	unsigned int grows;
	struct root *root = build(shm, &grows);
	const struct answer *a;

	if (!root || tmc_shmem_set_data(shm, root))
		return failed("producer: cannot build the tree", huge);
	printf("producer: grew it %u times to %zu KiB for %zu nodes; root at "
	       "%p, checksum %016jx\n",
	       grows, tmc_shmem_current_size(shm) >> 10, root->nodes,
	       (void *)root, (uintmax_t)root->sum);
	if (wait_done(&root->state))
		return failed("producer: no answer", false);
	a = root->answer;
	errno = EBADMSG;
	if (!verify(root, a))
		return failed("producer: the answer is wrong", false);
	printf("producer: process %d has sorted all %zu, from %s to %s\n",
	       (int)a->consumer, a->nodes, a->sorted[0]->name,
	       a->sorted[a->nodes - 1]->name);
	return 0;
}

int main(int argc, char **argv)
{
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	bool huge = false, removing = false;
	const char *path;
	tmc_shmem_t *shm;
	int err;

	if (options(argc, argv, &path, &huge, &removing))
		return 1;
	if (removing)
		return tmc_shmem_unlink(path) ? -failed(path, false) : 0;
	shm = tmc_shmem_create(path, huge ? tmc_alloc_set_huge(&alloc) : &alloc,
			       NULL, MAXIMUM);
	if (!shm)
		return -failed(path, huge);
	printf("producer: process %d made %s at %p, %zu KiB pages\n",
	       (int)getpid(), path, tmc_shmem_address(shm),
	       tmc_shmem_page_size(shm) >> 10);
	err = produce(shm, huge);
	if (tmc_shmem_unlink(path))
		err = failed(path, huge);
	tmc_shmem_close(shm);
	return err ? 1 : 0;
}
