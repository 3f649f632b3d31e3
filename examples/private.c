/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * private.c - an arena without a name, for a process and its children.
 *
 * The arena's name is removed as soon as it exists: nobody else can open it,
 * and nothing is left behind however the processes end. Children inherit the
 * handle over fork(). Each looks for primes, grows the arena for what it
 * finds and hangs that into a list; the parent counts and adds up. Run it as
 * .build/examples/private. The arena is made in $TMPDIR, or in /dev/shm.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <shmem.h>

#define CHILDREN 4
#define BLOCKS 20u   /* of numbers, dealt out to the children in turn */
#define BLOCK 10000u /* numbers in a block */
#define PRIMES 17984 /* below BLOCKS * BLOCK */

/* The primes of one block. Complete before it is in the list. */
struct found {
	struct found *next;
	size_t count;
	unsigned int prime[];
};

/* In the arena; last in, first out; pushed by release, read by acquire. */
typedef _Atomic(struct found *) list_t;

static int is_prime(unsigned int n)
{
	for (unsigned int d = 2; d * d <= n; d++)
		if (n % d == 0)
			return 0;
	return n > 1;
}

static int search(tmc_shmem_t *shm, list_t *list, unsigned int from)
{
	size_t size = sizeof(struct found) + BLOCK * sizeof(unsigned int);
	struct found *f = tmc_shmem_grow(shm, size);

	if (!f) {
		perror("private: tmc_shmem_grow");
		return -1;
	}
	for (unsigned int n = from; n < from + BLOCK; n++)
		if (is_prime(n))
			f->prime[f->count++] = n;
	f->next = atomic_load_explicit(list, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(
		list, &f->next, f, memory_order_release, memory_order_relaxed))
		;
	return 0;
}

/* Starts the children and waits for them; 0 if all of them succeed. */
static int run(tmc_shmem_t *shm, list_t *list)
{
	int status, err = 0;
	pid_t pid;

	for (unsigned int nr = 0; nr < CHILDREN; nr++) {
		pid = fork();
		if (pid < 0)
			err = -1;
		if (pid != 0)
			continue;
		for (unsigned int b = nr; b < BLOCKS && !err; b += CHILDREN)
			err = search(shm, list, b * BLOCK);
		tmc_shmem_close(shm);
		_exit(err ? 1 : 0);
	}
	while (wait(&status) > 0)
		if (status != 0)
			err = -1;
	return err;
}

int main(void)
{
	const char *dir = getenv("TMPDIR");
	char path[4096];
	unsigned long long sum = 0;
	size_t count = 0;
	const struct found *f;
	tmc_shmem_t *shm;
	list_t *list;

	snprintf(path, sizeof(path), "%s/private-XXXXXX",
		 dir && *dir ? dir : "/dev/shm");
	shm = tmc_shmem_create_temp(path, NULL, NULL, 0);
	if (!shm || tmc_shmem_unlink(path)) {
		perror(path);
		return 1;
	}
	list = tmc_shmem_grow(shm, sizeof(*list)); /* zeroed: it is empty */
	if (!list || run(shm, list)) {
		fprintf(stderr, "private: not all of it has been done\n");
		tmc_shmem_close(shm);
		return 1;
	}
	f = atomic_load_explicit(list, memory_order_acquire);
	for (; f; f = f->next) {
		for (size_t i = 0; i < f->count; i++)
			sum += f->prime[i];
		count += f->count;
	}
	printf("private: %d children grew it to %zu KiB at %p\n", CHILDREN,
	       tmc_shmem_current_size(shm) >> 10, tmc_shmem_address(shm));
	printf("private: %zu primes below %u, their sum is %llu\n", count,
	       BLOCKS * BLOCK, sum);
	tmc_shmem_close(shm);
	return count == PRIMES ? 0 : 1;
}
