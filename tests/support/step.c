/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * step.c - another process, one instruction at a time.
 *
 * To get to the n-th instruction again costs no n steps: the recorded run
 * tells which address before it, nearest and seldom passed, is worth a
 * breakpoint; from there it is stepped. The breakpoint lies in the stepped
 * process's private copy of the code.
 */
#include "step.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "layout.h"

#define AROUND 4      /* instructions on each side of a mark */
#define BREAK_PRICE 6 /* of one passage of a breakpoint, in steps */

static struct {
	const void *at;
	size_t len;
} watched;

void step_watch(const void *at, size_t len)
{
	watched.at = at;
	watched.len = len < STEP_WATCH_MOST ? len : STEP_WATCH_MOST;
}

void step_me(void)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

pid_t step_fork(void (*before)(void), void (*call)(void))
{
	pid_t pid = fork();

	if (pid)
		return pid;
	step_me();
	before();
	STEP_EDGE();
	call();
	STEP_EDGE();
	_exit(0);
}

void step_bind_now(char **argv)
{
	if (getenv("LD_BIND_NOW"))
		return;
	setenv("LD_BIND_NOW", "1", 1);
	execv("/proc/self/exe", argv);
}

/* waitpid() in a library of signals: the stop signal, or -1 if it ended. */
static int wait_stop(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return -1;
	return WIFSTOPPED(status) ? WSTOPSIG(status) : -1;
}

static int can_trace(void)
{
	pid_t pid;
	int sig;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		step_me();
		raise(SIGSTOP);
		_exit(0);
	}
	sig = pid < 0 ? -1 : wait_stop(pid);
	if (sig > 0) {
		kill(pid, SIGKILL);
		wait_stop(pid);
	}
	/* A SIGSTOP that nobody traces is not reported to waitpid. */
	return sig == SIGSTOP;
}

const char *step_impossible_by_call(void)
{
	if (!can_trace())
		return "ptrace is forbidden here";
	return NULL;
}

const char *step_impossible(void)
{
#if defined(__x86_64__)
	return step_impossible_by_call();
#else
	return "stepping is for x86-64";
#endif
}

/* ----- system calls; any machine ----- */

int step_seize(pid_t tid)
{
	int status;

	if (ptrace(PTRACE_SEIZE, tid, NULL,
		   PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) ||
	    ptrace(PTRACE_INTERRUPT, tid, NULL, NULL))
		return -1;
	while (waitpid(tid, &status, __WALL) < 0)
		if (errno != EINTR)
			return -1;
	return WIFSTOPPED(status) ? 0 : -1;
}

/* The system call that a thread enters, -1 if it comes out of one. */
static long entered(pid_t tid)
{
	struct {
		uint8_t op, pad[3];
		uint32_t arch;
		uint64_t ip, sp, nr, args[6];
	} info;

	memset(&info, 0, sizeof(info));
	if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) <= 0)
		return -1;
	return info.op == 1 ? (long)info.nr : -1;
}

int step_to_syscall(pid_t tid, long nr)
{
	int sig = 0;

	for (;;) {
		if (ptrace(PTRACE_SYSCALL, tid, NULL, (long)sig))
			return -1;
		sig = wait_stop(tid);
		if (sig < 0)
			return -1;
		if (sig == (SIGTRAP | 0x80)) {
			sig = 0;
			if (entered(tid) == nr)
				return 0;
		} else if (sig == SIGTRAP || sig == SIGSTOP) {
			sig = 0;
		}
	}
}

int step_past_syscall(pid_t tid)
{
	if (ptrace(PTRACE_SYSCALL, tid, NULL, NULL))
		return -1;
	return wait_stop(tid) == (SIGTRAP | 0x80) ? 0 : -1;
}

void step_let_go(pid_t tid)
{
	ptrace(PTRACE_DETACH, tid, NULL, NULL);
}

int step_wait_blocked(pid_t tid, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char path[64], line[64];
	ssize_t n;
	int in;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)tid);
	while (poll(&p, 1, 0) == 0) {
		in = open(path, O_RDONLY | O_CLOEXEC);
		if (in < 0)
			return -1;
		n = read(in, line, sizeof(line) - 1);
		close(in);
		line[n > 0 ? n : 0] = '\0';
		if (n > 0 && strncmp(line, "running", 7)) {
			if (atol(line) == SYS_futex ||
			    atol(line) == SYS_restart_syscall)
				return 1;
			if (atol(line) == SYS_fcntl)
				return 2;
		}
		poll(&p, 1, 1);
	}
	return 0;
}

/* ----- single steps ----- */

size_t step_choose(const struct step_trace *t, size_t most, size_t *points)
{
	size_t stride = 1, k = 0, i, j, marked = 0;
	uint8_t *take = calloc(t->n + 1, 1);

	if (!take)
		return 0;
	if (t->n + 1 > most) {
		for (i = 0; i <= t->n; i++) {
			size_t lo = i < AROUND ? 0 : i - AROUND;
			size_t hi = i + AROUND < t->n ? i + AROUND : t->n;

			for (j = lo; t->mark[i] && j <= hi; j++)
				take[j] = 1;
		}
		for (i = 0; i <= t->n; i++)
			marked += take[i];
		stride = most > marked ? t->n / (most - marked) + 1
				       : t->n / 16 + 1;
	}
	for (i = 0; i <= t->n; i++)
		if (take[i] || i % stride == 0 || i == t->n)
			points[k++] = i;
	free(take);
	return k;
}

void step_forget(struct step_trace *t)
{
	if (t->room) {
		munmap(t->rip, t->room * sizeof(*t->rip));
		munmap(t->nth, t->room * sizeof(*t->nth));
		munmap(t->mark, t->room);
	}
	memset(t, 0, sizeof(*t));
}

#if defined(__x86_64__)

#define RIP offsetof(struct user_regs_struct, rip)

/* Shared, so that forks need not copy it. */
static void *room_for(size_t n, size_t size)
{
	void *p = mmap(NULL, n * size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int make_room(struct step_trace *t)
{
	memset(t, 0, sizeof(*t));
	t->room = (size_t)1 << 22;
	t->rip = room_for(t->room, sizeof(*t->rip));
	t->nth = room_for(t->room, sizeof(*t->nth));
	t->mark = room_for(t->room, 1);
	return t->rip && t->nth && t->mark ? 0 : -1;
}

static uint64_t rip_of(pid_t pid)
{
	return (uint64_t)ptrace(PTRACE_PEEKUSER, pid, RIP, NULL);
}

/* The code is the same here as there. */
static int is_edge(uint64_t rip)
{
	return *(const unsigned char *)(uintptr_t)rip == 0xcc;
}

static int is_syscall(uint64_t rip)
{
	const unsigned char *p = (const unsigned char *)(uintptr_t)rip;

	return p[0] == 0x0f && p[1] == 0x05;
}

/* One step, or all the way. 0 at the next trap, -1: it has ended. */
static int resume(pid_t pid, int step)
{
	int sig;

	do {
		if (ptrace(step ? PTRACE_SINGLESTEP : PTRACE_CONT, pid, NULL,
			   NULL))
			return -1;
		sig = wait_stop(pid);
	} while (sig == SIGCHLD);
	return sig == SIGTRAP ? 0 : -1;
}

/*
 * One instruction; *rip is where it is and becomes where it is then. A string
 * instruction stops once for each turn. 0, or -1: it has ended.
 */
static int one(pid_t pid, uint64_t *rip)
{
	uint64_t before = *rip;

	do {
		if (resume(pid, 1))
			return -1;
		*rip = rip_of(pid);
	} while (*rip == before);
	return 0;
}

int step_begin(pid_t pid)
{
	if (wait_stop(pid) != SIGTRAP)
		return -1;
	return ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL) ? -1 : 0;
}

pid_t step_into_fork(pid_t pid)
{
	unsigned long child = 0;

	if (ptrace(PTRACE_SETOPTIONS, pid, NULL,
		   PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK |
			   PTRACE_O_TRACECLONE))
		return -1;
	/* The event is a trap, too. */
	if (resume(pid, 0) || ptrace(PTRACE_GETEVENTMSG, pid, NULL, &child) ||
	    !child || wait_stop((pid_t)child) != SIGSTOP)
		return -1;
	ptrace(PTRACE_DETACH, pid, NULL, NULL);
	return (pid_t)child;
}

/* ----- what a step changed in the shared header ----- */

struct shared {
	pid_t pid;
	int mem;
	uint64_t at; /* 0: not mapped */
	char now[LAYOUT_HDR_LEN], then[LAYOUT_HDR_LEN];
	char watched[STEP_WATCH_MOST];
};

/* "7f00...-7f00... rw-s 00000000 ..." of just the header's length */
static void find_header(struct shared *s)
{
	char path[64], line[4352];
	uint64_t lo, hi, off;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)s->pid);
	s->at = 0;
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		char perms[8];

		if (sscanf(line, "%lx-%lx %7s %lx", &lo, &hi, perms, &off) != 4)
			continue;
		if (hi - lo == LAYOUT_HDR_LEN && off == 0 &&
		    !strcmp(perms, "rw-s"))
			s->at = lo;
	}
	if (f)
		fclose(f);
	if (s->at && pread(s->mem, s->then, LAYOUT_HDR_LEN, (off_t)s->at) < 0)
		s->at = 0;
}

static int header_changed(struct shared *s)
{
	int changed;

	if (!s->at)
		return 0;
	if (pread(s->mem, s->now, LAYOUT_HDR_LEN, (off_t)s->at) !=
	    LAYOUT_HDR_LEN) {
		s->at = 0;
		return 0;
	}
	changed = memcmp(s->now, s->then, LAYOUT_HDR_LEN) != 0;
	if (changed)
		memcpy(s->then, s->now, LAYOUT_HDR_LEN);
	return changed;
}

static int watched_changed(struct shared *s)
{
	char now[STEP_WATCH_MOST];

	if (pread(s->mem, now, watched.len, (off_t)(uintptr_t)watched.at) !=
		    (ssize_t)watched.len ||
	    !memcmp(now, s->watched, watched.len))
		return 0;
	memcpy(s->watched, now, watched.len);
	return 1;
}

static struct shared *watch(pid_t pid)
{
	struct shared *s = calloc(1, sizeof(*s));
	char path[64];

	if (!s)
		return NULL;
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	s->pid = pid;
	s->mem = open(path, O_RDONLY | O_CLOEXEC);
	find_header(s);
	watched_changed(s);
	return s;
}

/* How often each address came before: a table with open addresses. */
static int count_passages(struct step_trace *t)
{
	size_t slots = 1, i, h;
	struct seen {
		uint64_t rip;
		uint32_t n;
	} * seen;

	while (slots < 2 * (t->n + 1))
		slots *= 2;
	seen = calloc(slots, sizeof(*seen));
	if (!seen)
		return -1;
	for (i = 0; i <= t->n; i++) {
		h = t->rip[i] * 0x9e3779b97f4a7c15u >> 20 & (slots - 1);
		while (seen[h].rip && seen[h].rip != t->rip[i])
			h = (h + 1) & (slots - 1);
		seen[h].rip = t->rip[i];
		t->nth[i] = seen[h].n++;
	}
	free(seen);
	return 0;
}

int step_record(pid_t pid, struct step_trace *t)
{
	struct shared *s = watch(pid);
	uint64_t rip = rip_of(pid);
	int err = s ? make_room(t) : -1;

	while (!err && !is_edge(rip) && t->n + 1 < t->room) {
		int call = is_syscall(rip);

		t->rip[t->n] = rip;
		err = one(pid, &rip);
		t->n++;
		if (call) {
			t->mark[t->n] |= STEP_SYSCALL;
			t->nsyscalls++;
			if (s->at)
				header_changed(s); /* the kernel's, or cut */
			else
				find_header(s);
		} else if (header_changed(s)) {
			t->mark[t->n] |= STEP_STORE;
			t->nstores++;
		}
		if (watched.len && watched_changed(s))
			t->mark[t->n] |= STEP_WATCHED;
	}
	if (!err) {
		t->rip[t->n] = rip;
		err = count_passages(t);
	}
	if (s)
		close(s->mem);
	free(s);
	return err || !is_edge(rip) ? -1 : 0;
}

/* ----- there again ----- */

static int poke(pid_t pid, uint64_t addr, long word)
{
	return ptrace(PTRACE_POKETEXT, pid, addr, word) ? -1 : 0;
}

/* Runs until it is at @addr for the time number @passages + 1. */
static int run_to(pid_t pid, uint64_t addr, uint32_t passages, uint64_t *rip)
{
	long code, trap;
	uint32_t i;

	errno = 0;
	code = ptrace(PTRACE_PEEKTEXT, pid, addr, NULL);
	if (errno)
		return -1;
	trap = (code & ~0xffl) | 0xcc;
	for (i = 0;; i++) {
		if (poke(pid, addr, trap) || resume(pid, 0))
			return -1;
		*rip = rip_of(pid) - 1;
		if (poke(pid, addr, code) ||
		    ptrace(PTRACE_POKEUSER, pid, RIP, *rip))
			return -1;
		if (*rip != addr)
			return 1; /* the second edge */
		if (i == passages)
			return 0;
		if (one(pid, rip))
			return -1;
	}
}

int step_to(pid_t pid, const struct step_trace *t, size_t n)
{
	uint64_t rip = rip_of(pid), price, best = n;
	size_t from = 0, i;
	int err;

	for (i = n; i > 0 && n - i < best; i--) {
		price = (uint64_t)BREAK_PRICE * (t->nth[i] + 1) + (n - i);
		if (price < best && i < t->n) {
			best = price;
			from = i;
		}
	}
	if (from) {
		/* The place where we stand does not stop us. */
		uint32_t passages = t->nth[from];

		if (t->rip[from] == t->rip[0]) {
			if (one(pid, &rip))
				return -1;
			passages--;
		}
		err = run_to(pid, t->rip[from], passages, &rip);
		if (err)
			return err;
	}
	for (i = from; i < n; i++) {
		if (is_edge(rip))
			return 1;
		if (one(pid, &rip))
			return -1;
	}
	return is_edge(rip);
}

void step_past(pid_t pid)
{
	ptrace(PTRACE_POKEUSER, pid, RIP, rip_of(pid) + 1);
	ptrace(PTRACE_DETACH, pid, NULL, NULL);
}

#else

int step_begin(pid_t pid)
{
	(void)pid;
	return -1;
}

int step_record(pid_t pid, struct step_trace *t)
{
	(void)pid;
	(void)t;
	return -1;
}

int step_to(pid_t pid, const struct step_trace *t, size_t n)
{
	(void)pid;
	(void)t;
	(void)n;
	return -1;
}

void step_past(pid_t pid)
{
	(void)pid;
}

pid_t step_into_fork(pid_t pid)
{
	(void)pid;
	return -1;
}

#endif
