/* SPDX-License-Identifier: BSD-3-Clause */
/* step.h - runs another process one instruction, or one system call, a time. */
#ifndef TESTS_STEP_H
#define TESTS_STEP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * The stepped process is a fork of the one that steps it, so that code and
 * stack lie at the same addresses each time and can be read here. It calls
 * step_me(), then STEP_EDGE right before and right after what is to be
 * stepped through.
 */
#if defined(__x86_64__)
#define STEP_EDGE() __asm__ volatile("int3" ::: "memory")
#else
#define STEP_EDGE() __builtin_trap()
#endif

/* One run of a call from edge to edge. */
struct step_trace {
	size_t n; /* instructions; a string instruction is one */
	size_t nsyscalls;
	size_t nstores; /* steps that changed the arena's mapped header */
	size_t room;
	uint64_t *rip; /* [n + 1]; of what comes next after i instructions */
	uint32_t *nth; /* [n + 1]; how often we have been at rip[i] before */
	uint8_t *mark; /* [n + 1]; STEP_* of what the last one did */
};
#define STEP_SYSCALL 1
#define STEP_STORE 2
#define STEP_WATCHED 4

/* From now on a change of [@at, @at + @len) is a mark, too. */
#define STEP_WATCH_MOST 256
void step_watch(const void *at, size_t len);

/* NULL; or why nothing can be stepped here, to be told by a skipped test. */
const char *step_impossible(void);
/* The same for step_to_syscall(), which more machines can do. */
const char *step_impossible_by_call(void);

/*
 * First in main(): begins anew with LD_BIND_NOW, so that looking up symbols,
 * of which there are different numbers each time, is no part of a call.
 */
void step_bind_now(char **argv);

/* In the process that is to be stepped. */
void step_me(void);
/* Forks one that steps through @call, after @before; -1: it could not. */
pid_t step_fork(void (*before)(void), void (*call)(void));

/* Waits until @pid is at its first edge. 0 or -1. */
int step_begin(pid_t pid);

/*
 * From an edge to the next fork. Returns the child, stopped at its first
 * instruction, to be stepped on to its first edge; -1: there was none. @pid
 * runs on, on its own.
 */
pid_t step_into_fork(pid_t pid);

/* From edge to edge; @pid is stopped at the second one. 0 or -1. */
int step_record(pid_t pid, struct step_trace *t);
void step_forget(struct step_trace *t);

/* Stopped at the second edge: runs on, on its own. */
void step_past(pid_t pid);

/*
 * From the first edge, and by @t as fast as it gets, to where @n instructions
 * have been executed: 0, it is stopped there; 1, stopped at the second edge
 * (the run was not quite like the recorded one); -1, it has ended.
 */
int step_to(pid_t pid, const struct step_trace *t, size_t n);

/*
 * Which n to kill at: all up to @most; where there are more, all that are
 * within a few instructions of a mark and, evenly, of the rest. In @points,
 * which has room for t->n + 1. Returns how many.
 */
size_t step_choose(const struct step_trace *t, size_t most, size_t *points);

/*
 * Takes hold of a running thread, of any process below us. 0 or -1. Then:
 * stopped at the entry of system call @nr (before it has any effect) when this
 * returns 0. step_let_go() lets it run on.
 */
int step_seize(pid_t tid);
int step_to_syscall(pid_t tid, long nr);
int step_past_syscall(pid_t tid); /* from its entry: it has been executed */
void step_let_go(pid_t tid);

/*
 * Waits until @tid sleeps in futex(2) (then 1; also one that was stopped in
 * it and let go), in fcntl(2) (2), or until there is something to read from
 * @fd (0).
 */
int step_wait_blocked(pid_t tid, int fd);

#endif
