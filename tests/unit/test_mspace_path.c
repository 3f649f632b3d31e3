/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_mspace_path.c - what malloc and free execute when nothing is special: no
 * locked instruction, no fence and no system call. Each instruction is looked
 * at as it comes.
 */
#include "test.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmem.h>

#include "step.h"

#define SIZES 64 /* 16, 32, ... 1,024 bytes */
#define MANY 300
#define ROUNDS 4
#define FIRST_STRAYS (4 * ROUNDS + 1) /* of the sets of others' blocks */
#define SETS (FIRST_STRAYS + 3)

static struct {
	tmc_shmem_t *shm;
	tmc_mspace heap;
	void *block[SIZES];
	void *others[SETS][SIZES]; /* in spans of the parent's */
} w;

/* What a traced process does from edge to edge, after what goes before. */
struct path {
	void (*before)(void);
	void (*call)(void);
};

struct counts {
	size_t instructions, locked, syscalls;
};

/*
 * Whether the instruction at @p waits for other processors: a lock prefix, an
 * exchange with memory (locked without one), or mfence.
 */
static int is_locked(const unsigned char *p)
{
	while (*p && strchr("\x26\x2e\x36\x3e\x64\x65\x66\x67\xf2\xf3", *p))
		p++;
	if (*p == 0xf0)
		return 1;
	if ((*p & 0xf0) == 0x40) /* REX */
		p++;
	if (*p == 0x86 || *p == 0x87)
		return p[1] < 0xc0; /* else of two registers */
	return p[0] == 0x0f && p[1] == 0xae && (p[2] & 0xf8) == 0xf0;
}

static pid_t traced(const struct path *path)
{
	return step_fork(path->before, path->call);
}

static void count(const struct path *path, struct counts *c)
{
	struct step_trace t = { 0 };
	pid_t pid = traced(path);
	size_t i;

	assert_true(pid > 0);
	assert_int_equal(step_begin(pid), 0);
	assert_int_equal(step_record(pid, &t), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	memset(c, 0, sizeof(*c));
	c->instructions = t.n;
	c->syscalls = t.nsyscalls;
	for (i = 0; i < t.n; i++)
		c->locked += (size_t)is_locked((void *)(uintptr_t)t.rip[i]);
	step_forget(&t);
}

static void take(void)
{
	size_t i;

	for (i = 0; i < SIZES; i++)
		w.block[i] = tmc_mspace_malloc(w.heap, 16 * (i + 1));
}

static void give(void)
{
	size_t i;

	for (i = 0; i < SIZES; i++)
		tmc_mspace_free(w.block[i]);
}

/* So that there is a block of each size that was in use, and one that is. */
static void warm(void)
{
	take();
	take();
	give();
}

static void warm_and_take(void)
{
	warm();
	take();
}

static void give_others(size_t i)
{
	memcpy(w.block, w.others[i], sizeof(w.block));
	give();
}

/* More than a thread has at hand of its own, and all strays. */
static void take_many(void)
{
	size_t i, k;

	for (i = 0; i < SIZES; i++)
		for (k = 0; k < MANY; k++)
			(void)!tmc_mspace_malloc(w.heap, 16 * (i + 1));
}

/* The first one of a span goes home, and the span is known from then on. Who
 * takes all strays again and again keeps more of them. */
static void warm_and_know(size_t first)
{
	size_t i;

	warm();
	for (i = 0; i < 2 * ROUNDS; i += 2) {
		give_others(first + i);
		give_others(first + i + 1);
		take_many();
	}
}

static void know(void)
{
	warm_and_know(0);
}

static void give_known(void)
{
	give_others(2 * ROUNDS);
}

static int is_stray(const void *p)
{
	size_t i;

	for (i = 0; i < 3 * SIZES; i++)
		if (p == w.others[FIRST_STRAYS + i / SIZES][i % SIZES])
			return 1;
	return 0;
}

/* Until what the thread has of its own is used up, and strays are next: those
 * that were freed last. Of each size there are two more. */
static void know_and_keep(void)
{
	size_t i, k;

	warm_and_know(2 * ROUNDS + 1);
	for (i = 0; i < 3; i++)
		give_others(FIRST_STRAYS + i);
	for (i = 0; i < SIZES; i++)
		for (k = 0; k < 2 * MANY; k++)
			if (is_stray(tmc_mspace_malloc(w.heap, 16 * (i + 1))))
				break;
}

static void take_strays(void)
{
	take();
	/* Sizes with a span of their own. */
	if (w.block[0] != w.others[FIRST_STRAYS + 1][0] ||
	    w.block[7] != w.others[FIRST_STRAYS + 1][7])
		abort();
}

static void nothing(void)
{
}

static void one_of_each(void)
{
	static _Atomic int n;

	atomic_fetch_add(&n, 1);
#if defined(__x86_64__)
	static uint64_t m;

	__asm__ volatile("xchg %%rax, %0" : "+m"(m) : : "rax");
	__asm__ volatile("xchg %%rax, %%r12\n\txchg %%rax, %%r12\n\tmfence" ::
				 : "rax", "r12", "memory");
#endif
	syscall(SYS_getpid);
}

static int skipped(void)
{
	const char *why =
		UNDER_SANITIZER ? "code of the sanitizer's" : step_impossible();

#if defined(WITH_GCOV)
	why = "counters are locked";
#endif
	if (why)
		print_message("%s\n", why);
	return why != NULL;
}

static void locked_instructions_and_calls_are_counted(void **state)
{
	const struct path path = { nothing, one_of_each };
	struct counts c;

	(void)state;
	if (skipped())
		skip();
	count(&path, &c);
	assert_int_equal(c.locked, 3);
	assert_int_equal(c.syscalls, 1);
}

static void the_common_path_locks_nothing_and_calls_nobody(void **state)
{
	const struct path paths[] = { { warm, take },
				      { warm_and_take, give },
				      { know, give_known },
				      { know_and_keep, take_strays } };
	const char *names[] = { "malloc", "free", "free of another's",
				"malloc of a stray" };
	struct counts c;
	size_t i;

	(void)state;
	if (skipped())
		skip();
	for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		count(&paths[i], &c);
		print_message("%s: %.1f instructions\n", names[i],
			      (double)c.instructions / SIZES);
		assert_true(c.instructions > 5UL * SIZES);
		assert_int_equal(c.locked, 0);
		assert_int_equal(c.syscalls, 0);
	}
}

static int set_up(void **state)
{
	size_t i;

	if (test_box_open(state))
		return -1;
	w.shm = tmc_shmem_create(box_path("path"), NULL, NULL, GIB);
	if (!w.shm)
		return -1;
	w.heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					   tmc_shmem_alloc(w.shm));
	if (!w.heap)
		return -1;
	for (i = 0; i < SETS * SIZES; i++)
		w.others[i / SIZES][i % SIZES] =
			tmc_mspace_malloc(w.heap, 16 * (i % SIZES + 1));
	return 0;
}

static int tear_down(void **state)
{
	tmc_shmem_close(w.shm);
	return test_box_close(state);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(locked_instructions_and_calls_are_counted),
		cmocka_unit_test(
			the_common_path_locks_nothing_and_calls_nobody),
	};

	(void)argc;
	step_bind_now(argv);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
