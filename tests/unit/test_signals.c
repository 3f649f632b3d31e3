/* SPDX-License-Identifier: BSD-3-Clause */
/* test_signals.c - signals all the time: no call fails or hangs of them. */
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "peer.h"
#include "probe.h"
#include "step.h"

#define ROUNDS 60
#define BIG (5 * MIB) /* populated outside the lock, in two pieces */
#define EVERY_US 200

static _Atomic int *signals; /* shared with the test */

static void count(int sig)
{
	(void)sig;
	(*signals)++;
}

/* Without SA_RESTART: each of them interrupts what can be interrupted. */
static int storm(void)
{
	struct itimerval every = { { 0, EVERY_US }, { 0, EVERY_US } };
	struct sigaction act = { .sa_handler = count };

	return sigaction(SIGALRM, &act, NULL) ||
	       setitimer(ITIMER_REAL, &every, NULL);
}

static int create_and_remove(const char *path)
{
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 16 * MIB);

	PEER_CHECK(shm);
	tmc_shmem_close(shm);
	PEER_CHECK(tmc_shmem_unlink(path) == 0);
	return 0;
}

/* The other one may have grown behind it. */
static int give_back(tmc_shmem_t *shm, const char *at, size_t len)
{
	off_t off = at - (char *)tmc_shmem_address(shm);

	PEER_CHECK(tmc_shmem_shrink(shm, off, len) == 0 || errno == EINVAL);
	return 0;
}

static int live(struct peer *self, void *arg)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char own[128];
	tmc_shmem_t *shm;
	char *at;
	int i;

	(void)self;
	snprintf(own, sizeof(own), "%s-%d", (char *)arg, (int)getpid());
	PEER_CHECK(storm() == 0);
	for (i = 0; i < ROUNDS; i++) {
		if (create_and_remove(own))
			return 1;
		shm = tmc_shmem_open(arg);
		PEER_CHECK(shm);
		at = tmc_shmem_grow(shm, page);
		PEER_CHECK(at && probe_zero(at, page));
		if (give_back(shm, at, page))
			return 1;
		at = tmc_shmem_grow(shm, BIG);
		PEER_CHECK(at && probe_zero(at, BIG));
		if (give_back(shm, at, BIG))
			return 1;
		tmc_shmem_close(shm);
	}
	return 0;
}

static int open_in_storm(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;

	(void)self;
	PEER_CHECK(storm() == 0);
	shm = tmc_shmem_open(arg);
	PEER_CHECK(shm);
	tmc_shmem_close(shm);
	return 0;
}

static int open_quietly(struct peer *self, void *arg)
{
	uint64_t word;

	PEER_CHECK(peer_get(self, &word) == 0);
	tmc_shmem_close(tmc_shmem_open(arg));
	return 0;
}

/* Somebody stands in the gate while the signals come. */
static void who_waits_for_the_gate_is_not_thrown_out_by_signals(void **state)
{
	const char *path = box_path("gate"), *why = step_impossible_by_call();
	void *arg = (void *)(uintptr_t)path;
	struct peer inside, outside;

	(void)state;
	if (why || UNDER_SANITIZER) {
		print_message("%s\n", why ? why : "madvise of a sanitizer's");
		skip();
	}
	tmc_shmem_close(tmc_shmem_create(path, NULL, NULL, MIB));
	assert_int_equal(peer_fork(&inside, open_quietly, arg), 0);
	assert_int_equal(step_seize(inside.pid), 0);
	assert_int_equal(peer_put(&inside, 0), 0);
	assert_int_equal(step_to_syscall(inside.pid, SYS_madvise), 0);
	*signals = 0;
	assert_int_equal(peer_fork(&outside, open_in_storm, arg), 0);
	assert_int_equal(step_wait_blocked(outside.pid, outside.fd), 2);
	while (*signals < ROUNDS && !kill(outside.pid, 0))
		if (step_wait_blocked(outside.pid, outside.fd) == 0)
			break; /* it has ended, and fails below */
	step_let_go(inside.pid);
	assert_int_equal(peer_end(&outside), 0);
	assert_int_equal(peer_end(&inside), 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void no_call_fails_or_hangs_of_signals(void **state)
{
	const char *path = box_path("a");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, GIB);
	struct peer p[2];
	int i;

	(void)state;
	assert_non_null(shm);
	for (i = 0; i < 2; i++)
		assert_int_equal(
			peer_fork(&p[i], live, (void *)(uintptr_t)path), 0);
	for (i = 0; i < 2; i++)
		assert_int_equal(peer_end(&p[i]), 0);
	assert_true(*signals > ROUNDS);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_call_fails_or_hangs_of_signals),
		cmocka_unit_test(
			who_waits_for_the_gate_is_not_thrown_out_by_signals),
	};

	signals = mmap(NULL, sizeof(*signals), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (signals == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
