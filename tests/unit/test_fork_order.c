/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_fork_order.c - fork takes the library's locks in the order that others
 * do, whichever part of it the program has used first: so this program must
 * use a heap of its own before any arena.
 */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmem.h>

#define FORKS 1000
#define THREADS 3

static tmc_mspace heap;
static _Atomic int stop;
static _Atomic unsigned long rounds;

/* A close sends threads to look at their heaps anew. */
static void *close_and_take(void *arg)
{
	(void)arg;
	while (!stop) {
		tmc_shmem_close(tmc_shmem_create_anonymous(NULL, NULL, MIB));
		tmc_mspace_free(tmc_mspace_malloc(heap, 100));
		rounds++;
	}
	return NULL;
}

static void a_private_heap_before_an_arena_does_not_stop_fork(void **state)
{
	tmc_mspace first = tmc_mspace_create(0, TMC_MSPACE_LOCKED);
	tmc_shmem_t *shm = tmc_shmem_create_anonymous(NULL, NULL, 0);
	pthread_t t[THREADS];
	int i, status;
	pid_t pid;

	(void)state;
	assert_non_null(first);
	assert_non_null(shm);
	heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	assert_non_null(heap);
	for (i = 0; i < THREADS; i++)
		assert_int_equal(
			pthread_create(&t[i], NULL, close_and_take, NULL), 0);
	for (i = 0; i < FORKS || rounds < FORKS; i++) {
		pid = fork();
		if (pid == 0)
			_exit(0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
	stop = 1;
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	tmc_shmem_close(shm);
	tmc_mspace_destroy(first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_private_heap_before_an_arena_does_not_stop_fork),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
