/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table.c - processes fill a hash table, and half of them are killed.
 *
 * The heap survives deaths by itself. In the table an entry is whole before one
 * compare-and-swap makes it the first of its bucket: a death loses the entry in
 * hand at most. Run .build/examples/table; the arena is in $TMPDIR or /dev/shm.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <shmem.h>

enum { WORKERS = 8, ENTRIES = 20000, BUCKETS = 65536 };
struct entry { /* 32 bytes, which is what the heap takes for it */
	struct entry *next;
	size_t worker, nr, sum;
};

struct table {
	_Atomic(struct entry *) bucket[BUCKETS];
	atomic_size_t done[WORKERS]; /* entries of each that are in for sure */
};

static int insert(struct table *t, tmc_mspace heap, size_t worker)
{
	size_t nr = t->done[worker];
	size_t hash = (nr * WORKERS + worker) * 0x9e3779b97f4a7c15 >> 48;
	struct entry *e = tmc_mspace_malloc(heap, sizeof(*e));

	if (!e)
		return -1;
	*e = (struct entry){ t->bucket[hash], worker, nr, worker ^ nr };
	while (!atomic_compare_exchange_weak(&t->bucket[hash], &e->next, e))
		;
	t->done[worker] = nr + 1;
	return 0;
}

/* Of one worker: how many entries are in the table; -1: not as it must be. */
static long count(struct table *t, size_t worker)
{
	size_t done = t->done[worker], n = 0;

	for (size_t b = 0; b < BUCKETS; b++)
		for (const struct entry *e = t->bucket[b]; e; e = e->next)
			n += e->worker == worker && e->nr <= done &&
			     e->sum == (worker ^ e->nr);
	/* One more, where it died between the swap and the store. */
	return n == done || n == done + 1 ? (long)n : -1;
}

/* Starts all. Odd ones go on until they are killed; 0 if the others end well. */
static int run(struct table *t, tmc_mspace heap)
{
	pid_t pid[WORKERS];
	int status, err = 0;

	for (size_t w = 0; w < WORKERS; w++) {
		pid[w] = fork();
		if (pid[w] < 0)
			return -1;
		while (!pid[w] && !err && (w % 2 || t->done[w] < ENTRIES))
			err = insert(t, heap, w);
		if (!pid[w])
			_exit(err || count(t, w) != ENTRIES);
	}
	for (size_t w = 1; w < WORKERS; w += 2) {
		while (t->done[w] < ENTRIES / WORKERS * w)
			if (waitpid(pid[w], &status, WNOHANG))
				return -1;
		kill(pid[w], SIGKILL);
	}
	while (wait(&status) > 0)
		err |= !WIFSIGNALED(status) && status;
	return err;
}

/* What the heap has given out and the table has not got is lost. */
static int report(struct table *t, tmc_mspace heap)
{
	long n, sum = 0, lost;
	size_t used;

	for (size_t w = 0; w < WORKERS; sum += n, w++) {
		if ((n = count(t, w)) < 0)
			return -1;
		printf("table: %ld of worker %zu\n", n, w);
	}
	tmc_mspace_statistics(heap, NULL, NULL, &used);
	lost = (long)((used - sizeof(*t)) / sizeof(struct entry)) - sum;
	printf("table: %ld in all, %ld lost in dead hands\n", sum, lost);
	return lost < 0 || lost > (long)WORKERS / 2 ? -1 : 0;
}

int main(void)
{
	const char *dir = getenv("TMPDIR");
	char path[4096];
	tmc_shmem_t *shm;
	tmc_mspace heap;
	struct table *t;

	snprintf(path, sizeof(path), "%s/table-XXXXXX", dir ? dir : "/dev/shm");
	shm = tmc_shmem_create_temp(path, NULL, NULL, 0);
	if (!shm || tmc_shmem_unlink(path))
		return perror(path), 1;
	heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	t = tmc_mspace_calloc(heap, 1, sizeof(*t));
	if (!t || run(t, heap) || tmc_mspace_trim(heap, 0) < 0 ||
	    tmc_mspace_check(heap) || report(t, heap))
		return fprintf(stderr, "table: not as it must be\n"), 1;
	tmc_shmem_close(shm);
	return 0;
}
