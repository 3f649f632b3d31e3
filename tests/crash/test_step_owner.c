/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_step_owner.c - a process dies at any instruction while what is in a heap
 * changes its owner: as a thread of it ends, while it takes over what the dead
 * had, and as it makes or destroys a heap. See step_heap.h.
 */
#include "step_heap.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "heap.h"

/* ----- a thread ends ----- */

static pthread_key_t last_key;

static void after_the_librarys(void *set)
{
	(void)set;
	STEP_EDGE();
}

/*
 * A key's destructor comes after those of keys that were made before: the
 * library made its own when this program first used a heap.
 */
static void see_the_end(void)
{
	if (pthread_key_create(&last_key, after_the_librarys) ||
	    pthread_setspecific(last_key, w.j))
		abort();
}

/* Spans with blocks in use, its own free ones and others', one without any that
 * it keeps, and a large block that it holds. */
static void own_all_kinds(void)
{
	size_t i;

	for (i = 0; i < LIVE; i++)
		take(i, 100);
	for (i = 8; i < 24; i++)
		give(i);
	for (i = 24; i < 32; i++)
		give_by_bystander(i);
	for (i = 100; i < 108; i++)
		take(i, 20000);
	give(100);
	give_by_bystander(103);
	for (i = 110; i < 112; i++)
		take(i, 5000);
	give(110);
	give_by_bystander(111); /* all are free, and it does not know */
	take(112, 3000);
	give(112);
	hold(113);
	take(114, 200 * KIB);
	see_the_end();
}

struct ending {
	const struct heap_case *c;
	int fd;
};

/* Only the thread that asks for it is stepped. */
static void *stepped_thread(void *arg)
{
	const struct ending *e = arg;
	pid_t tid = (pid_t)syscall(SYS_gettid);

	e->c->prepare();
	step_me();
	if (write(e->fd, &tid, sizeof(tid)) != sizeof(tid))
		abort();
	STEP_EDGE();
	e->c->call();
	return NULL;
}

/* What changes in the head of the run of block @i is a mark. */
static void watch_head(size_t i)
{
	step_watch(heap_run_of(w.j->mine[i]), sizeof(struct heap_run));
}

/* Returns the thread that is to be stepped; the other one has blocks too. */
static pid_t thread_victim(const void *c)
{
	struct ending e = { .c = c };
	pid_t pid, tid = -1;
	pthread_t thread;
	int fd[2];
	size_t i;

	if (before_victim() || pipe2(fd, O_CLOEXEC))
		return -1;
	pid = fork();
	if (pid == 0) {
		for (i = 200; i < 264; i++)
			take(i, 100);
		give(210);
		e.fd = fd[1];
		if (!pthread_create(&thread, NULL, stepped_thread, &e))
			pthread_join(thread, NULL);
		_exit(1);
	}
	close(fd[1]);
	if (pid > 0 && read(fd[0], &tid, sizeof(tid)) != sizeof(tid))
		tid = -1;
	close(fd[0]);
	watch_head(0);
	return tid;
}

static void return_from_thread(void)
{
}

/* ----- what the dead had is taken over ----- */

#define EACH 8	    /* blocks that each of the dead has had */
#define DIED 4	    /* in collect, each a bit later */
#define LENGTH 5000 /* of a block; a span has 12 */

/* Some free blocks in the list, some that others have freed, some in use. */
static void own_a_span(size_t who)
{
	size_t first = who * EACH, i;

	for (i = 0; i < EACH; i++)
		take(first + i, LENGTH);
	for (i = 1; i < 3; i++)
		give(first + i);
	for (i = 3; i < 6; i++)
		give_by_bystander(first + i);
}

static pid_t collector(size_t who)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	step_me();
	own_a_span(who);
	STEP_EDGE();
	tmc_mspace_trim(w.heap, 0);
	STEP_EDGE();
	_exit(0);
}

/* How it takes what others have freed, and where to die in that. */
static struct step_trace collect;
static size_t die_at[DIED];

/* The words of a span change: taken, others, state, and taken again. */
static int record_collect(void)
{
	pid_t pid = collector(0);
	int err = pid < 0 || step_begin(pid);
	size_t seen = 0, i, at[DIED];

	if (!err) {
		watch_head(0);
		err = step_record(pid, &collect);
	}
	step_end(pid);
	for (i = 0; i < EACH; i++)
		give(i);
	for (i = 0; !err && i <= collect.n && seen < DIED; i++)
		if (collect.mark[i] & STEP_WATCHED)
			at[seen++] = i;
	if (seen < DIED)
		return -1;
	die_at[0] = at[0];     /* taken, and still the others' */
	die_at[1] = at[1];     /* nobody's */
	die_at[2] = at[2] - 1; /* its end is linked to the list */
	die_at[3] = at[2];     /* in the list */
	return 0;
}

static int die_in_collect(size_t who)
{
	pid_t pid = collector(who);
	int err = pid < 0 || step_begin(pid) ||
		  step_to(pid, &collect, die_at[who]);

	step_end(pid);
	return err ? -1 : 0;
}

static void *own_and_end(void *arg)
{
	own_a_span(DIED);
	return arg;
}

/* One who holds a large block, keeps a span without any, and had a thread,
 * whose span is an orphan already: so that the next malloc looks. */
static int die_after_a_thread(void)
{
	pid_t pid = fork();
	pthread_t thread;
	int status;

	if (pid == 0) {
		hold(400);
		take(401, 3000);
		give(401);
		take(402, 200 * KIB);
		_exit(pthread_create(&thread, NULL, own_and_end, NULL) ||
		      pthread_join(thread, NULL));
	}
	return pid < 0 || waitpid(pid, &status, 0) != pid || status ? -1 : 0;
}

static pid_t adopter(const void *c)
{
	size_t i;

	if (before_victim())
		return -1;
	if (!collect.n && (record_collect() || before_victim()))
		return -1;
	for (i = 0; i < DIED; i++)
		if (die_in_collect(i))
			return -1;
	watch_head((DIED - 1) * EACH);
	return die_after_a_thread() ? -1 : fork_victim(c);
}

/* It has come to the heap, and to no span. */
static void come(void)
{
	take(500, 100 * KIB);
}

static void adopt_by_malloc(void)
{
	take(501, LENGTH);
}

static void adopt_by_large(void)
{
	take(501, 7 * MIB);
}

static void adopt_by_trim(void)
{
	tmc_mspace_trim(w.heap, 0);
}

/* ----- another heap in the arena ----- */

static void nothing(void)
{
}

static void make_second(void)
{
	w.j->second = tmc_mspace_create_special(0, 0, tmc_shmem_alloc(w.shm));
}

/* In two chunks. */
static int fill_second(struct peer *self, void *arg)
{
	size_t i;

	PEER_CHECK(self && !arg);
	make_second();
	for (i = 0; i < LIVE; i++) {
		w.j->mine[i] = tmc_mspace_malloc(w.j->second, 1000);
		PEER_CHECK(w.j->mine[i]);
		memset(w.j->mine[i], (int)i, 1000);
	}
	PEER_CHECK(tmc_mspace_malloc(w.j->second, MIB));
	return 0;
}

/* A change of its header is a mark: it is where its end begins. */
static pid_t destroyer(const void *c)
{
	if (before_victim() || peer_run(fill_second, NULL))
		return -1;
	step_watch(w.j->second, offsetof(struct heap_hdr, pad));
	return fork_victim(c);
}

static void come_to_second(void)
{
	tmc_mspace_check(w.j->second);
}

static void come_and_show_second(void)
{
	come_to_second();
	show_to_bystander(w.j->second);
}

static void destroy_second(void)
{
	tmc_mspace_destroy(w.j->second);
}

static int second_is_whole(void)
{
	const unsigned char *p;
	size_t i;

	for (i = 0; i < LIVE && w.j->mine[i]; i++) {
		p = w.j->mine[i];
		if (p[0] != i || memcmp(p, p + 1, 999))
			return 0;
	}
	return tmc_mspace_malloc(w.j->second, 1000) &&
	       !tmc_mspace_check(w.j->second) &&
	       tmc_mspace_destroy(w.j->second);
}

/* It is as it was, or it is none. Then another one can be made, elsewhere where
 * the bystander knows it. */
static int second_is_fine(void)
{
	const tmc_mspace was = w.j->second;
	size_t i;
	int fine = 1;

	if (w.j->second && !tmc_mspace_check(w.j->second))
		fine = second_is_whole();
	else if (w.j->second)
		fine = errno == EINVAL;
	for (i = 0; i < MINE; i++)
		w.j->mine[i] = NULL;
	if (!fine || tmc_shmem_current_size(w.shm) > w.j->size + w.c->heap)
		return 0;
	make_second();
	if (w.c->prepare == come_and_show_second && w.j->second == was)
		return 0;
	return w.j->second && can_be_used(w.j->second) &&
	       tmc_mspace_destroy(w.j->second) &&
	       tmc_shmem_current_size(w.shm) <= w.j->size + w.c->heap;
}

#define SOME 130		    /* each is eight processes */
#define TURNS 50		    /* destroy looks at thousands of slots */
#define SMALL_HEAP (6 * HEAP_SLICE) /* one that has just been made */
#define LARGER_HEAP (2 * MIB)

static const struct heap_case cases[] = {
	{ "a thread ends", own_all_kinds, return_from_thread,
	  .victim = thread_victim },
	{ "adopt by malloc", come, adopt_by_malloc, .hand = 5120,
	  .victim = adopter, .most_kills = SOME },
	{ "adopt by large malloc", come, adopt_by_large, .hand = 7 * MIB,
	  .victim = adopter, .most_kills = SOME },
	{ "adopt by trim", come, adopt_by_trim, .victim = adopter,
	  .most_kills = SOME },
	{ "create", nothing, make_second, .heap = SMALL_HEAP,
	  .heap_is_fine = second_is_fine },
	{ "destroy", come_to_second, destroy_second, .heap = LARGER_HEAP,
	  .heap_is_fine = second_is_fine, .victim = destroyer,
	  .soak_turns = TURNS },
	{ "destroy, in use", come_and_show_second, destroy_second,
	  .heap = LARGER_HEAP, .heap_is_fine = second_is_fine,
	  .victim = destroyer, .soak_turns = TURNS },
};

static void what_changes_hands_survives_a_death_anywhere(void **state)
{
	(void)state;
	run_cases(cases, sizeof(cases) / sizeof(cases[0]));
	step_forget(&collect);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_changes_hands_survives_a_death_anywhere),
	};

	(void)argc;
	step_bind_now(argv);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
