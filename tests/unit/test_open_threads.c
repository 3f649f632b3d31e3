/* SPDX-License-Identifier: BSD-3-Clause */
/* test_open_threads.c - threads of one process that open one arena at once. */
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "kernel.h"
#include "peer.h"
#include "step.h"

#define THREADS 4
#define ROUNDS 500
#define PAGE ((size_t)sysconf(_SC_PAGESIZE))

/* What one thread does in a round, by its number; NULL: it failed. */
typedef tmc_shmem_t *open_fn(int who, int round);

static struct {
	open_fn *open;
	char path[4096];
	int fd;	     /* of the file */
	bool guests; /* open_fds() makes them */
	tmc_shmem_t *shm[THREADS];
	int err[THREADS];
	int threads, rounds;
	_Atomic bool given_up; /* nobody will make it */
	_Atomic int arrived;
	_Atomic unsigned int meetings;
} race;

/* Without a sleep, out of which one would come long before the other. */
static void meet(void)
{
	unsigned int meeting = race.meetings;

	if (++race.arrived == race.threads) {
		race.arrived = 0;
		race.meetings++;
	}
	while (race.meetings == meeting)
		sched_yield();
}

static tmc_shmem_t *open_fds(int who, int round)
{
	(void)who;
	(void)round;
	return tmc_shmem_open_fds(race.fd, -1);
}

static tmc_shmem_t *open_as_reader(int who, int round)
{
	(void)who;
	(void)round;
	return tmc_shmem_open_readonly(race.path);
}

static tmc_shmem_t *open_in_all_ways(int who, int round)
{
	int way = (who + round) % 3;

	if (!way)
		return tmc_shmem_open_fds(race.fd, -1);
	return way == 1 ? tmc_shmem_open(race.path)
			: tmc_shmem_open_readonly(race.path);
}

/* The first one makes it, the others wait for its name. */
static tmc_shmem_t *create_and_open(int who, int round)
{
	tmc_shmem_t *shm;

	(void)round;
	if (!who) {
		shm = tmc_shmem_create(race.path, NULL, NULL, MIB);
		if (!shm)
			race.given_up = true;
		return shm;
	}
	do {
		shm = who == 1 ? tmc_shmem_open(race.path)
			       : tmc_shmem_open_readonly(race.path);
	} while (!shm && errno == ENOENT && !race.given_up);
	return shm;
}

static void open_at_once(int who, int round)
{
	meet();
	errno = 0;
	race.shm[who] = race.open(who, round);
	race.err[who] = errno;
	meet();
}

static void *opener(void *arg)
{
	int who = *(int *)arg, i;

	for (i = 0; i < race.rounds; i++) {
		open_at_once(who, i);
		meet(); /* all are closed */
	}
	return NULL;
}

/* All have it, at one address, and one who may grows it. */
static int look(int round)
{
	void *p = NULL;
	int i;

	for (i = 0; i < race.threads; i++)
		if (!race.shm[i])
			fprintf(stderr, "round %d, thread %d: errno %d\n",
				round, i, race.err[i]);
	for (i = 0; i < race.threads; i++) {
		tmc_shmem_t *shm = race.shm[i];

		PEER_CHECK(shm);
		PEER_CHECK(tmc_shmem_address(shm) ==
			   tmc_shmem_address(race.shm[0]));
		if (!p)
			p = tmc_shmem_grow(shm, PAGE);
	}
	if (race.open == open_as_reader) {
		PEER_CHECK(!p && errno == EACCES);
	} else {
		PEER_CHECK(p == tmc_shmem_address(race.shm[0]));
		*(char *)p = 'x';
		for (i = 0; i < race.threads; i++)
			PEER_CHECK(tmc_shmem_current_size(race.shm[i]) == PAGE);
	}
	return 0;
}

/* The last to close is another one each time. */
static int put_back(int round)
{
	int i;

	for (i = 0; i < race.threads; i++) {
		tmc_shmem_t *shm = race.shm[(round + i) % race.threads];

		tmc_shmem_shrink(shm, 0, PAGE);
		tmc_shmem_close(shm);
	}
	if (race.open == create_and_open)
		PEER_CHECK(!tmc_shmem_unlink(race.path));
	return 0;
}

static int race_rounds(struct peer *self, void *arg)
{
	pthread_t thread[THREADS];
	int who[THREADS], i;

	(void)self;
	(void)arg;
	race.rounds = test_steps(ROUNDS);
	if (race.guests)
		kernel_without_reopen();
	for (i = 1; i < race.threads; i++) {
		who[i] = i;
		PEER_CHECK(!pthread_create(&thread[i], NULL, opener, &who[i]));
	}
	for (i = 0; i < race.rounds; i++) {
		open_at_once(0, i);
		if (look(i) || put_back(i))
			return 1;
		meet();
	}
	for (i = 1; i < race.threads; i++)
		PEER_CHECK(!pthread_join(thread[i], NULL));
	return 0;
}

static void run(open_fn *fn, int threads, const char *name)
{
	snprintf(race.path, sizeof(race.path), "%s", box_path(name));
	race.open = fn;
	race.threads = threads;
	if (fn != create_and_open) {
		tmc_shmem_t *shm = tmc_shmem_create(race.path, NULL, NULL, MIB);

		assert_non_null(shm);
		tmc_shmem_close(shm);
		race.fd = open(race.path, O_RDWR | O_CLOEXEC);
		assert_true(race.fd >= 0);
	}
	assert_int_equal(peer_run(race_rounds, NULL), 0);
	if (fn != create_and_open) {
		close(race.fd);
		assert_int_equal(tmc_shmem_unlink_idle(race.path), 0);
	}
}

static void guests_get_one_mapping(void **state)
{
	(void)state;
	race.guests = true;
	run(open_fds, 2, "guests");
	run(open_fds, THREADS, "more-guests");
	race.guests = false;
}

static void readers_get_one_mapping(void **state)
{
	(void)state;
	run(open_as_reader, 2, "readers");
	run(open_as_reader, THREADS, "more-readers");
}

static void readers_and_writers_get_one_mapping(void **state)
{
	(void)state;
	run(open_in_all_ways, 2, "two-ways");
	run(open_in_all_ways, 3, "all-ways");
}

static void guests_readers_and_writers_get_one_mapping(void **state)
{
	(void)state;
	race.guests = true;
	run(open_in_all_ways, 2, "two-with-guests");
	run(open_in_all_ways, 3, "all-with-guests");
	race.guests = false;
}

static void who_opens_what_is_just_made_gets_its_mapping(void **state)
{
	(void)state;
	run(create_and_open, 2, "made");
	run(create_and_open, 3, "made-and-read");
}

/* ----- at the moment between name and registry ----- */

static struct {
	pthread_t thread;
	int pipe[2];
	_Atomic pid_t tid;
	tmc_shmem_t *shm;
	int started, err;
} late;

static void *open_late(void *arg)
{
	(void)arg;
	late.tid = (pid_t)syscall(SYS_gettid);
	errno = 0;
	late.shm = tmc_shmem_open(race.path);
	late.err = errno;
	if (write(late.pipe[1], "", 1) != 1)
		abort();
	return NULL;
}

/* The arena has its name, the companion is about to get its last one. */
static void start_late(void)
{
	late.started = !pthread_create(&late.thread, NULL, open_late, NULL);
	while (late.started && !late.tid)
		sched_yield();
	/* It has come back, or waits. */
	if (late.started)
		step_wait_blocked(late.tid, late.pipe[0]);
}

static void who_comes_before_a_create_has_ended_waits(void **state)
{
	size_t huge = tmc_alloc_get_huge_pagesize();
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;

	(void)state;
	if (!huge || box_hugetlbfs("huge", huge, ""))
		skip();
	snprintf(race.path, sizeof(race.path), "%s", box_path("late"));
	assert_int_equal(pipe(late.pipe), 0);
	kernel_before_rename(start_late);
	shm = tmc_shmem_create(race.path, tmc_alloc_set_huge(&alloc), NULL,
			       huge);
	assert_non_null(shm);
	assert_true(late.started);
	assert_int_equal(pthread_join(late.thread, NULL), 0);
	if (!late.shm)
		fail_msg("errno %d", late.err);
	assert_ptr_equal(tmc_shmem_address(late.shm), tmc_shmem_address(shm));
	tmc_shmem_close(shm);
	tmc_shmem_close(late.shm);
	assert_int_equal(tmc_shmem_unlink(race.path), 0);
	assert_int_equal(box_umount("huge"), 0);
	close(late.pipe[0]);
	close(late.pipe[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guests_get_one_mapping),
		cmocka_unit_test(readers_get_one_mapping),
		cmocka_unit_test(readers_and_writers_get_one_mapping),
		cmocka_unit_test(guests_readers_and_writers_get_one_mapping),
		cmocka_unit_test(who_opens_what_is_just_made_gets_its_mapping),
		cmocka_unit_test(who_comes_before_a_create_has_ended_waits),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
