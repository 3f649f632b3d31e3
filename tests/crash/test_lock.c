/* SPDX-License-Identifier: BSD-3-Clause */
/* test_lock.c - deaths, stops and waiting at the arena's lock. */
#include "actor.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define LINE 4 /* processes that wait */

static void need_ptrace(void)
{
	const char *why = step_impossible_by_call();

	if (!why)
		return;
	print_message("%s\n", why);
	skip();
}

/* Offsets of @n grows: all there, none twice. */
static void assert_apart(const uint64_t *off, size_t n)
{
	size_t i, j;

	for (i = 0; i < n; i++) {
		assert_true(off[i] < n * 4096 && off[i] % 4096 == 0);
		for (j = 0; j < i; j++)
			assert_true(off[i] != off[j]);
	}
}

/* Starts @n actors, and has them wait. The first of them sleeps on the word. */
static void line_up(struct peer *w, size_t n, const char *path)
{
	size_t i;

	for (i = 0; i < n; i++)
		actor_start(&w[i], path);
	for (i = 0; i < n; i++)
		assert_int_equal(actor_blocks(&w[i], ACTOR_GROW), i ? 2 : 1);
}

enum order_of_deaths { WAITER_FIRST, OWNER_FIRST, BOTH };

static void die_in_line(enum order_of_deaths how)
{
	const char *path = actor_arena("line");
	struct peer owner, w[LINE];
	uint64_t off[LINE];
	size_t i;

	actor_start(&owner, path);
	actor_hold(&owner, owner.pid);
	line_up(w, LINE, path);
	if (how == WAITER_FIRST)
		peer_kill(&w[0]);
	if (how == BOTH)
		kill(w[0].pid, SIGKILL);
	peer_kill(&owner);
	if (how == OWNER_FIRST)
		kill(w[0].pid, SIGKILL);
	for (i = 1; i < LINE; i++)
		off[i] = actor_answer(&w[i], PROMPT_MS);
	if (how != WAITER_FIRST)
		peer_end(&w[0]);
	/* The one that was killed may have had its turn. */
	for (i = 1; i < LINE; i++)
		assert_true(off[i] < LINE * 4096);
	assert_true(off[1] != off[2] && off[2] != off[3] && off[1] != off[3]);
	for (i = 1; i < LINE; i++)
		actor_end(&w[i]);
	actor_check_sound(path);
}

static void the_next_in_line_goes_on_when_owner_and_first_waiter_die(void **s)
{
	(void)s;
	need_ptrace();
	die_in_line(WAITER_FIRST);
	die_in_line(OWNER_FIRST);
	die_in_line(BOTH);
}

static void a_waiters_death_does_not_free_a_living_owners_lock(void **state)
{
	const char *path;
	struct peer owner, w[2];
	uint64_t off[2];

	(void)state;
	need_ptrace();
	path = actor_arena("living");
	actor_start(&owner, path);
	actor_hold(&owner, owner.pid);
	line_up(w, 2, path);
	peer_kill(&w[0]);
	/* Longer than the second after which a waiter looks again. */
	assert_false(actor_answers_within(&w[1], 1300));
	step_let_go(owner.pid);
	off[0] = actor_answer(&owner, PROMPT_MS);
	off[1] = actor_answer(&w[1], PROMPT_MS);
	assert_apart(off, 2);
	actor_end(&owner);
	actor_end(&w[1]);
	actor_check_sound(path);
}

/*
 * It has looked at the lock and is about to sleep when the owner lets go,
 * wakes whoever sleeps by now, and only then takes the mark from its word.
 */
static void who_comes_to_sleep_during_the_wake_is_woken(void **state)
{
	const char *path;
	struct peer owner, w;

	(void)state;
	need_ptrace();
	path = actor_arena("wake");
	actor_start(&owner, path);
	actor_start(&w, path);
	actor_hold(&owner, owner.pid);
	assert_int_equal(step_seize(w.pid), 0);
	assert_int_equal(peer_put(&w, ACTOR_GROW), 0);
	assert_int_equal(step_to_syscall(w.pid, SYS_futex), 0);
	assert_int_equal(step_to_syscall(owner.pid, SYS_futex), 0);
	assert_int_equal(step_past_syscall(owner.pid), 0);
	step_let_go(w.pid);
	step_wait_blocked(w.pid, w.fd);
	step_let_go(owner.pid);
	assert_int_equal(actor_answer(&owner, PROMPT_MS), 0);
	assert_int_equal(actor_answer(&w, PROMPT_MS), 4096);
	actor_end(&owner);
	actor_end(&w);
	actor_check_sound(path);
}

/* As by the out-of-memory killer, which takes the list before the look. */
static void a_death_that_the_kernel_did_not_mark_is_noticed(void **state)
{
	const char *path;
	struct peer owner, w;

	(void)state;
	need_ptrace();
	path = actor_arena("unmarked");
	actor_start(&owner, path);
	/* The library asks for the list at the first lock only. */
	assert_int_equal(actor_ask(&owner, ACTOR_GROW), 0);
	assert_int_equal(actor_ask(&owner, ACTOR_SHRINK), 0);
	assert_int_equal(actor_ask(&owner, ACTOR_UNMARK), 0);
	actor_hold(&owner, owner.pid);
	line_up(&w, 1, path);
	peer_kill(&owner);
	assert_int_equal(actor_answer(&w, 2000), 0);
	actor_end(&w);
	actor_check_sound(path);
}

/* ----- PID namespaces ----- */

/* As peer_fork(), and it is process 1 of a PID namespace. -1: not allowed. */
static int fork_in_namespace(struct peer *p, const char *path)
{
	int here = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	int sv[2], sig, rc;

	if (here < 0 || unshare(CLONE_NEWPID)) {
		close(here);
		return -1;
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	fflush(NULL);
	p->pid = fork();
	if (p->pid == 0) {
		for (sig = 1; sig < 32; sig++)
			signal(sig, SIG_DFL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(sv[0]);
		p->fd = sv[1];
		rc = actor_main(p, (void *)(uintptr_t)path);
		_exit(rc);
	}
	close(sv[1]);
	p->fd = sv[0];
	assert_int_equal(setns(here, CLONE_NEWPID), 0);
	close(here);
	assert_true(p->pid > 0);
	/* Both have this thread id. */
	assert_int_equal(actor_answer(p, LATE_MS), 1);
	return 0;
}

static void need_namespaces(void)
{
	struct peer p;

	need_ptrace();
	if (fork_in_namespace(&p, actor_arena("try"))) {
		assert_int_equal(tmc_shmem_unlink(box_path("try")), 0);
		print_message("no PID namespaces here\n");
		skip();
	}
	actor_end(&p);
	actor_check_sound(box_path("try"));
}

static void a_waiter_with_the_owners_thread_id_dies_and_frees_nothing(void **s)
{
	const char *path;
	struct peer owner, same, w;
	uint64_t off[2];

	(void)s;
	need_namespaces();
	path = actor_arena("ns");
	assert_int_equal(fork_in_namespace(&owner, path), 0);
	assert_int_equal(fork_in_namespace(&same, path), 0);
	actor_start(&w, path);
	actor_hold(&owner, owner.pid);
	assert_int_equal(actor_blocks(&same, ACTOR_GROW), 1);
	peer_kill(&same);
	actor_blocks(&w, ACTOR_GROW);
	assert_false(actor_answers_within(&w, 1300));
	step_let_go(owner.pid);
	off[0] = actor_answer(&owner, PROMPT_MS);
	off[1] = actor_answer(&w, PROMPT_MS);
	assert_apart(off, 2);
	actor_end(&owner);
	actor_end(&w);
	actor_check_sound(path);
}

static void an_owner_with_the_waiters_thread_id_dies_and_is_noticed(void **s)
{
	const char *path;
	struct peer owner, same, w;
	uint64_t off[2];

	(void)s;
	need_namespaces();
	path = actor_arena("ns");
	assert_int_equal(fork_in_namespace(&owner, path), 0);
	assert_int_equal(fork_in_namespace(&same, path), 0);
	actor_start(&w, path);
	actor_hold(&owner, owner.pid);
	assert_int_equal(actor_blocks(&same, ACTOR_GROW), 1);
	actor_blocks(&w, ACTOR_GROW);
	peer_kill(&owner);
	off[0] = actor_answer(&same, PROMPT_MS);
	off[1] = actor_answer(&w, PROMPT_MS);
	assert_apart(off, 2);
	actor_end(&same);
	actor_end(&w);
	actor_check_sound(path);
}

/* ----- waiting ----- */

static void waiting_costs_no_cpu(void **state)
{
	const char *path;
	struct peer owner, w[LINE];
	size_t i;

	(void)state;
	need_ptrace();
	path = actor_arena("cpu");
	actor_start(&owner, path);
	actor_hold(&owner, owner.pid);
	line_up(w, LINE, path);
	assert_false(actor_answers_within(&w[0], 2500));
	step_let_go(owner.pid);
	for (i = 0; i < LINE; i++)
		actor_answer(&w[i], PROMPT_MS);
	for (i = 0; i < LINE; i++) {
		uint64_t us = actor_ask(&w[i], ACTOR_CPU);

		if (us > 25000)
			fail_msg("%lu us of CPU time in 2.5 s", us);
		actor_end(&w[i]);
	}
	actor_answer(&owner, LATE_MS);
	actor_end(&owner);
	actor_check_sound(path);
}

static void a_stopped_owner_delays_grow_and_nothing_else(void **state)
{
	const char *path;
	struct peer owner, w, late;

	(void)state;
	need_ptrace();
	path = actor_arena("stop");
	actor_start(&owner, path);
	actor_start(&w, path);
	assert_int_equal(actor_ask(&w, ACTOR_GROW), 0);
	actor_hold(&owner, owner.pid);
	assert_int_equal(peer_put(&w, ACTOR_SIZE), 0);
	assert_int_equal(actor_answer(&w, PROMPT_MS), 4096);
	assert_int_equal(peer_put(&w, ACTOR_SET), 0);
	assert_int_equal(actor_answer(&w, PROMPT_MS), 0);
	assert_int_equal(peer_put(&w, ACTOR_GET), 0);
	assert_true(actor_answer(&w, PROMPT_MS) % 4096 == 8);
	/* Opening and closing need no lock either. */
	actor_start(&late, path);
	actor_end(&late);
	actor_blocks(&w, ACTOR_GROW);
	step_let_go(owner.pid);
	actor_answer(&owner, PROMPT_MS);
	actor_answer(&w, PROMPT_MS);
	actor_end(&owner);
	actor_end(&w);
	actor_check_sound(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			the_next_in_line_goes_on_when_owner_and_first_waiter_die),
		cmocka_unit_test(
			a_waiters_death_does_not_free_a_living_owners_lock),
		cmocka_unit_test(who_comes_to_sleep_during_the_wake_is_woken),
		cmocka_unit_test(
			a_death_that_the_kernel_did_not_mark_is_noticed),
		cmocka_unit_test(
			a_waiter_with_the_owners_thread_id_dies_and_frees_nothing),
		cmocka_unit_test(
			an_owner_with_the_waiters_thread_id_dies_and_is_noticed),
		cmocka_unit_test(waiting_costs_no_cpu),
		cmocka_unit_test(a_stopped_owner_delays_grow_and_nothing_else),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
