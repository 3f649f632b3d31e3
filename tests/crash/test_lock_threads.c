/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lock_threads.c - the arena's lock when processes with several threads
 * fork, execute, cancel a thread, or close.
 */
#include "actor.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>

static void need_ptrace(void)
{
	const char *why = step_impossible_by_call();

	if (!why)
		return;
	print_message("%s\n", why);
	skip();
}

/* ----- one thread grows, another one forks or executes ----- */

/*
 * Two actors in one process, each with a socket: the thread grows, the main
 * thread does what makes trouble.
 */
enum { FORK = 100, EXEC };

struct troubled {
	const char *path;
	int grower[2]; /* sockets; [1] is the thread's */
	int child[2];  /* [1] is the forked child's */
	tmc_shmem_t *shm;
};

static void *grower_thread(void *arg)
{
	struct troubled *t = arg;
	struct peer self = { .fd = t->grower[1] };

	/* Its first answer is the process; this one, before, the thread. */
	if (peer_put(&self, (uint64_t)syscall(SYS_gettid)) == 0)
		actor_serve(&self, t->shm);
	return NULL;
}

static int forked_child(struct troubled *t, struct peer *parent)
{
	struct peer self = { .fd = t->child[1] };

	/* Else its sockets would keep the others' ends open. */
	close(parent->fd);
	close(t->grower[0]);
	close(t->grower[1]);
	close(t->child[0]);
	return actor_serve(&self, t->shm);
}

static int troubled_main(struct peer *self, void *arg)
{
	static char cat[] = "cat";
	char *const argv[] = { cat, NULL };
	struct troubled *t = arg;
	pthread_t thread;
	uint64_t order;

	t->shm = tmc_shmem_open(t->path);
	PEER_CHECK(t->shm);
	PEER_CHECK(pthread_create(&thread, NULL, grower_thread, t) == 0);
	PEER_CHECK(peer_get(self, &order) == 0);
	if (order == FORK && fork() == 0)
		_exit(forked_child(t, self));
	if (order == EXEC && dup2(self->fd, 0) == 0)
		execvp(cat, argv);
	peer_get(self, &order);
	return 0;
}

/* The process, its growing thread in the lock, and one who waits. */
struct scene {
	struct troubled t;
	struct peer p, grower, child, w;
	pid_t tid;
};

static void set_scene_without_owner(struct scene *s, const char *name)
{
	memset(s, 0, sizeof(*s));
	s->t.path = actor_arena(name);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s->t.grower), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s->t.child), 0);
	assert_int_equal(peer_fork(&s->p, troubled_main, &s->t), 0);
	close(s->t.grower[1]);
	close(s->t.child[1]);
	s->grower.fd = s->t.grower[0];
	s->child.fd = s->t.child[0];
	s->tid = (pid_t)actor_answer(&s->grower, LATE_MS);
	actor_answer(&s->grower, LATE_MS);
	actor_start(&s->w, s->t.path);
}

static void set_scene(struct scene *s, const char *name)
{
	set_scene_without_owner(s, name);
	actor_hold(&s->grower, s->tid);
}

static void end_scene(struct scene *s)
{
	actor_end(&s->w);
	close(s->grower.fd);
	close(s->child.fd);
	actor_check_sound(s->t.path);
}

static void reap_thread(pid_t tid)
{
	int status;

	while (waitpid(tid, &status, __WALL) > 0 && WIFSTOPPED(status))
		;
}

static void a_forked_child_does_not_keep_its_dead_parents_lock(void **state)
{
	struct scene s;
	uint64_t off;

	(void)state;
	need_ptrace();
	set_scene(&s, "fork");
	assert_int_equal(peer_put(&s.p, FORK), 0);
	s.child.pid = (pid_t)actor_answer(&s.child, LATE_MS);
	actor_blocks(&s.w, ACTOR_GROW);
	kill(s.p.pid, SIGKILL);
	reap_thread(s.tid);
	assert_int_equal(peer_end(&s.p), 128 + SIGKILL);
	off = actor_answer(&s.w, PROMPT_MS);
	assert_int_equal(off, 0);
	assert_int_equal(actor_ask(&s.child, ACTOR_GROW), 4096);
	assert_int_equal(actor_ask(&s.child, ACTOR_SHRINK), 0);
	end_scene(&s);
}

static void a_forked_child_waits_for_its_living_parents_lock(void **state)
{
	struct scene s;
	uint64_t off[2];

	(void)state;
	need_ptrace();
	set_scene(&s, "fork2");
	assert_int_equal(peer_put(&s.p, FORK), 0);
	s.child.pid = (pid_t)actor_answer(&s.child, LATE_MS);
	actor_blocks(&s.child, ACTOR_GROW);
	assert_false(actor_answers_within(&s.child, 1300));
	step_let_go(s.tid);
	off[0] = actor_answer(&s.grower, PROMPT_MS);
	off[1] = actor_answer(&s.child, PROMPT_MS);
	assert_int_equal(off[0], 0);
	assert_int_equal(off[1], 4096);
	/* The parent dies; its child and others have not noticed any lock. */
	peer_kill(&s.p);
	assert_int_equal(actor_ask(&s.child, ACTOR_GROW), 2 * 4096);
	assert_int_equal(actor_ask(&s.w, ACTOR_GROW), 3 * 4096);
	end_scene(&s);
}

static void exec_by_another_thread_in_a_grow_leaves_no_lock(void **state)
{
	struct scene s;

	(void)state;
	need_ptrace();
	set_scene(&s, "exec");
	actor_blocks(&s.w, ACTOR_GROW);
	assert_int_equal(peer_put(&s.p, EXEC), 0);
	reap_thread(s.tid);
	assert_int_equal(actor_answer(&s.w, PROMPT_MS), 0);
	/* The new program is there and has nothing of ours. */
	assert_int_equal(kill(s.p.pid, 0), 0);
	assert_int_equal(peer_end(&s.p), 0);
	end_scene(&s);
}

/* As set_scene(), but the owner of the lock is another process: the thread is
 * the first of those who wait, which the kernel knows by a file lock. */
static void a_forked_child_does_not_keep_its_dead_parents_place(void **state)
{
	struct peer owner;
	struct scene s;

	(void)state;
	need_ptrace();
	set_scene_without_owner(&s, "place");
	actor_start(&owner, s.t.path);
	actor_hold(&owner, owner.pid);
	s.grower.pid = s.tid;
	assert_int_equal(actor_blocks(&s.grower, ACTOR_GROW), 1);
	assert_int_equal(peer_put(&s.p, FORK), 0);
	s.child.pid = (pid_t)actor_answer(&s.child, LATE_MS);
	actor_blocks(&s.w, ACTOR_GROW);
	peer_kill(&s.p);
	step_let_go(owner.pid);
	assert_int_equal(actor_answer(&owner, PROMPT_MS), 0);
	assert_int_equal(actor_answer(&s.w, PROMPT_MS), 4096);
	actor_end(&owner);
	end_scene(&s);
}

/* Its parent died in the middle of opening another arena. */
static void a_forked_child_does_not_keep_its_dead_parents_gate(void **state)
{
	const char *other;
	struct scene s;
	struct peer late;

	(void)state;
	need_ptrace();
	if (UNDER_SANITIZER) {
		print_message("a sanitizer calls madvise with its own locks\n");
		skip();
	}
	other = actor_arena("other");
	set_scene_without_owner(&s, "gate");
	assert_int_equal(step_seize(s.tid), 0);
	assert_int_equal(peer_put(&s.grower, ACTOR_OPEN), 0);
	/* After it has mapped, before it lets others in. */
	assert_int_equal(step_to_syscall(s.tid, SYS_madvise), 0);
	assert_int_equal(peer_put(&s.p, FORK), 0);
	s.child.pid = (pid_t)actor_answer(&s.child, LATE_MS);
	kill(s.p.pid, SIGKILL);
	reap_thread(s.tid);
	assert_int_equal(peer_end(&s.p), 128 + SIGKILL);
	actor_start(&late, other);
	assert_int_equal(actor_ask(&late, ACTOR_GROW), 0);
	actor_end(&late);
	actor_check_sound(other);
	end_scene(&s);
}

/* Its parent died while it populated outside the lock. */
static void a_forked_child_does_not_keep_its_dead_parents_big_grow(void **st)
{
	struct scene s;

	(void)st;
	need_ptrace();
	set_scene_without_owner(&s, "big");
	assert_int_equal(step_seize(s.tid), 0);
	assert_int_equal(peer_put(&s.grower, ACTOR_BIG_GROW), 0);
	assert_int_equal(step_to_syscall(s.tid, SYS_madvise), 0);
	assert_int_equal(peer_put(&s.p, FORK), 0);
	s.child.pid = (pid_t)actor_answer(&s.child, LATE_MS);
	kill(s.p.pid, SIGKILL);
	reap_thread(s.tid);
	assert_int_equal(peer_end(&s.p), 128 + SIGKILL);
	assert_int_equal(actor_ask(&s.w, ACTOR_GROW), 0);
	assert_int_equal(actor_ask(&s.w, ACTOR_SURPLUS), 0);
	end_scene(&s);
}

/* ----- cancellation ----- */

struct victim {
	const char *path;
	tmc_shmem_t *shm;
	int async;
	_Atomic unsigned int rounds;
};

static void *open_and_grow(void *arg)
{
	struct victim *v = arg;

	for (;;) {
		tmc_shmem_t *shm = tmc_shmem_open(v->path);
		char *at = tmc_shmem_grow(shm, 4096);

		tmc_shmem_shrink(shm, at - (char *)tmc_shmem_address(shm),
				 4096);
		tmc_shmem_close(shm);
		v->rounds++;
		pthread_testcancel();
	}
	return NULL;
}

static void *only_grow(void *arg)
{
	struct victim *v = arg;
	char *base = tmc_shmem_address(v->shm);
	int old;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	for (;;) {
		char *at = tmc_shmem_grow(v->shm, 4096);

		tmc_shmem_shrink(v->shm, at - base, 4096);
		v->rounds++;
	}
	return NULL;
}

/* After each cancellation the main thread can use the arena. */
static int cancel_many(struct peer *self, void *arg)
{
	struct victim *v = arg;
	unsigned int i, until;
	pthread_t thread;
	size_t size;
	void *rc;

	(void)self;
	alarm(60);
	srand(1);
	v->shm = tmc_shmem_open(v->path);
	PEER_CHECK(v->shm);
	for (i = 0; i < 300; i++) {
		until = v->rounds + (unsigned int)rand() % 8;
		PEER_CHECK(pthread_create(&thread, NULL,
					  v->async ? only_grow : open_and_grow,
					  v) == 0);
		while (v->rounds < until)
			sched_yield();
		PEER_CHECK(pthread_cancel(thread) == 0);
		/* Its loop has no other end. (What it returns is wrong in
		 * glibc 2.36 for one that was cancelled asynchronously.) */
		PEER_CHECK(pthread_join(thread, &rc) == 0);
		/* Cancelled between its two calls it leaves a page. */
		size = tmc_shmem_current_size(v->shm);
		PEER_CHECK(size == 0 || (v->async && size == 4096));
		if (size)
			PEER_CHECK(tmc_shmem_shrink(v->shm, 0, 4096) == 0);
		PEER_CHECK(tmc_shmem_grow(v->shm, 4096) ==
			   tmc_shmem_address(v->shm));
		PEER_CHECK(tmc_shmem_shrink(v->shm, 0, 4096) == 0);
	}
	tmc_shmem_close(v->shm);
	return 0;
}

static void a_cancelled_thread_leaves_no_lock(void **state)
{
	struct victim v = { .path = actor_arena("cancel") };

	(void)state;
	assert_int_equal(peer_run(cancel_many, &v), 0);
	actor_check_sound(v.path);
}

static void a_thread_cancelled_at_any_moment_of_grow_leaves_no_lock(void **s)
{
	struct victim v = { .path = actor_arena("async"), .async = 1 };

	(void)s;
	if (UNDER_SANITIZER)
		skip(); /* its own code must not be cancelled so */
	assert_int_equal(peer_run(cancel_many, &v), 0);
	actor_check_sound(v.path);
}

/* ----- close beside others ----- */

#define CLOSERS 4
#define CLOSER_ROUNDS 300

static void *closer(void *arg)
{
	struct victim *v = arg;
	uintptr_t bad = 0;
	unsigned int i;

	for (i = 0; i < CLOSER_ROUNDS && !bad; i++) {
		tmc_shmem_t *shm = tmc_shmem_open(v->path);
		char *at = shm ? tmc_shmem_grow(shm, 4096) : NULL;

		if (!at || *at || at[4095]) {
			bad = 1;
		} else {
			memset(at, (int)i | 1, 4096);
			bad = at[17] != (char)((int)i | 1);
			/* Fails if another one has grown meanwhile. */
			tmc_shmem_shrink(
				shm, at - (char *)tmc_shmem_address(shm), 4096);
		}
		tmc_shmem_close(shm);
	}
	return (void *)bad;
}

static int close_beside_others(struct peer *self, void *arg)
{
	struct victim *v = arg;
	pthread_t thread[CLOSERS];
	int i, bad = 0;
	void *rc;

	(void)self;
	alarm(60);
	for (i = 0; i < CLOSERS; i++)
		PEER_CHECK(pthread_create(&thread[i], NULL, closer, v) == 0);
	for (i = 0; i < CLOSERS; i++) {
		PEER_CHECK(pthread_join(thread[i], &rc) == 0);
		bad |= rc != NULL;
	}
	return bad;
}

static void a_close_does_not_disturb_other_handles(void **state)
{
	struct victim v = { .path = actor_arena("close") };
	struct peer beside;

	(void)state;
	/* Once the last close unmaps, once another process stays. */
	assert_int_equal(peer_run(close_beside_others, &v), 0);
	actor_start(&beside, v.path);
	assert_int_equal(peer_run(close_beside_others, &v), 0);
	assert_true(actor_ask(&beside, ACTOR_GROW) != ACTOR_NOT);
	actor_end(&beside);
	actor_check_sound(v.path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_forked_child_does_not_keep_its_dead_parents_lock),
		cmocka_unit_test(
			a_forked_child_waits_for_its_living_parents_lock),
		cmocka_unit_test(
			a_forked_child_does_not_keep_its_dead_parents_place),
		cmocka_unit_test(
			a_forked_child_does_not_keep_its_dead_parents_gate),
		cmocka_unit_test(
			a_forked_child_does_not_keep_its_dead_parents_big_grow),
		cmocka_unit_test(
			exec_by_another_thread_in_a_grow_leaves_no_lock),
		cmocka_unit_test(a_cancelled_thread_leaves_no_lock),
		cmocka_unit_test(
			a_thread_cancelled_at_any_moment_of_grow_leaves_no_lock),
		cmocka_unit_test(a_close_does_not_disturb_other_handles),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
