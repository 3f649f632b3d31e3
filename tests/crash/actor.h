/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * actor.h - a peer that has an arena open and does what it is told, and the
 * art of stopping it in the middle of a grow.
 */
#ifndef TESTS_ACTOR_H
#define TESTS_ACTOR_H

#include "test.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <shmem.h>

#include "layout.h"
#include "peer.h"
#include "step.h"

/*
 * Orders, each with one word as its answer. A grow is by one page, which is
 * filled with the actor's process id; its answer is the offset, or NOT.
 */
enum actor_order {
	ACTOR_GROW,
	ACTOR_SHRINK, /* the page it grew last */
	ACTOR_SIZE,
	ACTOR_GET,	/* the root pointer */
	ACTOR_SET,	/* the same */
	ACTOR_CPU,	/* microseconds that it has used in its last grow */
	ACTOR_UNMARK,	/* the kernel will not mark its lock when it dies */
	ACTOR_OPEN,	/* the arena "other" */
	ACTOR_BIG_GROW, /* by 8 MiB, prefaulted */
	ACTOR_SURPLUS,	/* bytes of the file that are in no page */
};
#define ACTOR_NOT UINT64_MAX

/* The kernel wakes who waits at once; a look at the file locks is once a
 * second. What takes longer than this was not woken. */
#define PROMPT_MS 900
#define LATE_MS 20000

static inline uint64_t actor_cpu_us(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000u +
	       (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
}

static inline uint64_t actor_unmark(void)
{
	static struct {
		void *next;
		long distance;
		void *pending;
	} empty;

	empty.next = &empty;
	return (uint64_t)syscall(SYS_set_robust_list, &empty, sizeof(empty));
}

static inline uint64_t actor_surplus(tmc_shmem_t *shm)
{
	struct stat st;

	if (fstat(tmc_shmem_fd(shm), &st))
		return ACTOR_NOT;
	return (uint64_t)st.st_size - LAYOUT_DATA_OFF -
	       tmc_shmem_current_size(shm);
}

static inline uint64_t actor_big_grow(tmc_shmem_t *shm)
{
	tmc_alloc_t alloc = *tmc_shmem_alloc(shm);

	tmc_alloc_set_populate(&alloc);
	return tmc_alloc_map(&alloc, 8 * MIB) ? 0 : ACTOR_NOT;
}

/* Serves orders until the other side hangs up. */
static inline int actor_serve(struct peer *self, tmc_shmem_t *shm)
{
	char *base = tmc_shmem_address(shm), *at = NULL;
	size_t page = tmc_shmem_page_size(shm);
	uint64_t order, rc, cpu = 0;

	if (peer_put(self, (uint64_t)getpid()))
		return 1;
	while (peer_get(self, &order) == 0) {
		rc = 0;
		switch (order) {
		case ACTOR_GROW:
			cpu = actor_cpu_us();
			at = tmc_shmem_grow(shm, page);
			cpu = actor_cpu_us() - cpu;
			rc = at ? (uint64_t)(at - base) : ACTOR_NOT;
			if (at)
				memset(at, (int)getpid() & 0xff, page);
			break;
		case ACTOR_SHRINK:
			rc = (uint64_t)tmc_shmem_shrink(shm, at - base, page);
			break;
		case ACTOR_SIZE:
			rc = tmc_shmem_current_size(shm);
			break;
		case ACTOR_GET:
			rc = (uintptr_t)tmc_shmem_get_data(shm);
			break;
		case ACTOR_SET:
			rc = (uint64_t)tmc_shmem_set_data(shm, base + 8);
			break;
		case ACTOR_CPU:
			rc = cpu;
			break;
		case ACTOR_UNMARK:
			rc = actor_unmark();
			break;
		case ACTOR_OPEN:
			rc = tmc_shmem_open(box_path("other")) ? 0 : ACTOR_NOT;
			break;
		case ACTOR_BIG_GROW:
			rc = actor_big_grow(shm);
			break;
		case ACTOR_SURPLUS:
			rc = actor_surplus(shm);
			break;
		}
		if (peer_put(self, rc))
			return 1;
	}
	return 0;
}

static inline int actor_main(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = tmc_shmem_open(arg);
	int rc;

	PEER_CHECK(shm);
	rc = actor_serve(self, shm);
	tmc_shmem_close(shm);
	return rc;
}

/* ----- in the test ----- */

static inline bool actor_answers_within(struct peer *p, int ms)
{
	struct pollfd pfd = { .fd = p->fd, .events = POLLIN };

	return poll(&pfd, 1, ms) == 1;
}

/* Others keep the machine so busy that times say nothing. */
static inline bool machine_is_busy(void)
{
	FILE *f = fopen("/proc/loadavg", "re");
	long running = 0;

	if (!f)
		return false;
	if (fscanf(f, "%*s %*s %*s %ld/", &running) != 1)
		running = 0;
	fclose(f);
	return running > 8 * sysconf(_SC_NPROCESSORS_ONLN);
}

/* The answer to the last order, or why the test fails. */
static inline uint64_t actor_answer(struct peer *p, int ms)
{
	uint64_t rc = ACTOR_NOT;

	if (!actor_answers_within(p, ms) &&
	    !(machine_is_busy() && actor_answers_within(p, LATE_MS)))
		fail_msg("no answer within %d ms", ms);
	assert_int_equal(peer_get(p, &rc), 0);
	return rc;
}

static inline uint64_t actor_ask(struct peer *p, enum actor_order order)
{
	assert_int_equal(peer_put(p, order), 0);
	return actor_answer(p, LATE_MS);
}

static inline void actor_start(struct peer *p, const char *path)
{
	assert_int_equal(peer_fork(p, actor_main, (void *)(uintptr_t)path), 0);
	assert_int_equal(actor_answer(p, LATE_MS), p->pid);
}

static inline void actor_end(struct peer *p)
{
	assert_int_equal(peer_end(p), 0);
}

/* An order that it must not get done now: it sleeps. 1: on a futex. */
static inline int actor_blocks(struct peer *p, enum actor_order order)
{
	int how;

	assert_int_equal(peer_put(p, order), 0);
	how = step_wait_blocked(p->pid, p->fd);
	assert_true(how > 0);
	return how;
}

/*
 * Makes it the owner of the lock: stopped in a grow, about to make the file
 * longer. @tid: of the thread that serves the orders.
 */
static inline void actor_hold(struct peer *p, pid_t tid)
{
	assert_int_equal(step_seize(tid), 0);
	assert_int_equal(peer_put(p, ACTOR_GROW), 0);
	assert_int_equal(step_to_syscall(tid, SYS_ftruncate), 0);
}

/* The new arena of a test: pages are not prefaulted. */
static inline const char *actor_arena(const char *name)
{
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	const char *path = box_path(name);
	tmc_shmem_t *shm;

	tmc_alloc_clear_populate(&alloc);
	shm = tmc_shmem_create(path, &alloc, NULL, 64 * MIB);
	assert_non_null(shm);
	tmc_shmem_close(shm);
	return path;
}

/* By a process that never saw it: @pages, and it grows and shrinks. */
static inline int actor_sound_fn(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = tmc_shmem_open(arg);
	char *base, *at;
	size_t size;

	(void)self;
	PEER_CHECK(shm);
	base = tmc_shmem_address(shm);
	size = tmc_shmem_current_size(shm);
	at = tmc_shmem_grow(shm, 4096);
	PEER_CHECK(at == base + size && *at == 0);
	PEER_CHECK(tmc_shmem_shrink(shm, (off_t)size, 4096) == 0);
	tmc_shmem_close(shm);
	PEER_CHECK(tmc_shmem_unlink(arg) == 0);
	return 0;
}

static inline void actor_check_sound(const char *path)
{
	assert_int_equal(peer_run(actor_sound_fn, (void *)(uintptr_t)path), 0);
}

#endif
