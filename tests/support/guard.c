/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guard.c - the process that tidies up after a test program.
 *
 * It is made before the private mount namespace, so that it sees the bare
 * directory; it sits in a session of its own, where neither Ctrl-C nor
 * timeout(1) reaches it, and sees the program's end through a pidfd, which no
 * other process can hold back. It alone owns the lock of the huge-page pool
 * (a flock of the directory in sysfs: nothing to leave behind), so the pool
 * is back to its size before another test run can have it.
 */
#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define POOLS "/sys/kernel/mm/hugepages"

struct guard_order {
	size_t pagesize;
	size_t npages;
};

/* What the guardian has changed; page sizes of 0 are free places. */
static struct {
	int lock;
	size_t pagesize[8];
	size_t old[8];
} pool = { .lock = -1 };

static void pool_path(char *path, size_t room, size_t pagesize,
		      const char *name)
{
	snprintf(path, room, POOLS "/hugepages-%zukB/%s", pagesize / 1024,
		 name);
}

size_t guard_pool_read(size_t pagesize, const char *name)
{
	char path[128];
	size_t n = 0;
	FILE *f;

	pool_path(path, sizeof(path), pagesize, name);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%zu", &n) != 1)
		n = 0;
	fclose(f);
	return n;
}

static void pool_write(size_t pagesize, size_t n)
{
	char path[128];
	FILE *f;

	pool_path(path, sizeof(path), pagesize, "nr_hugepages");
	f = fopen(path, "we");
	if (!f)
		return;
	fprintf(f, "%zu\n", n);
	fclose(f);
}

static void pool_restore(void)
{
	int i;

	for (i = 0; i < 8; i++)
		if (pool.pagesize[i])
			pool_write(pool.pagesize[i], pool.old[i]);
	memset(pool.pagesize, 0, sizeof(pool.pagesize));
	if (pool.lock >= 0)
		close(pool.lock);
	pool.lock = -1;
}

static void pool_raise(size_t pagesize, size_t npages)
{
	size_t have, nr;
	int i;

	if (pool.lock < 0) {
		pool.lock = open(POOLS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		/* The parent's death interrupts the wait. */
		if (pool.lock < 0 || flock(pool.lock, LOCK_EX)) {
			close(pool.lock);
			pool.lock = -1;
			return;
		}
	}
	nr = guard_pool_read(pagesize, "nr_hugepages");
	for (i = 0; i < 7 && pool.pagesize[i]; i++)
		if (pool.pagesize[i] == pagesize)
			break;
	if (!pool.pagesize[i]) {
		pool.pagesize[i] = pagesize;
		/* Surplus pages go when who has them still lets go. */
		pool.old[i] =
			nr - guard_pool_read(pagesize, "surplus_hugepages");
	}
	have = guard_pool_read(pagesize, "free_hugepages");
	if (have < npages)
		pool_write(pagesize, nr + npages - have);
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	remove(path);
	return 0;
}

void guard_remove(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* Serves orders until the test program has ended. @parent -1: there is no
 * descriptor that tells, and it is looked for once a second. */
static void serve(int fd, int parent, pid_t pid)
{
	struct pollfd p[2] = { { .fd = parent, .events = POLLIN },
			       { .fd = fd, .events = POLLIN } };
	struct guard_order o;
	size_t n;
	int ready;

	for (;;) {
		ready = poll(p, 2, parent < 0 ? 1000 : -1);
		if (ready < 0 && errno != EINTR)
			return;
		if (parent < 0 ? getppid() != pid : p[0].revents)
			return;
		if (ready <= 0 || !p[1].revents)
			continue;
		if (recv(fd, &o, sizeof(o), 0) != sizeof(o))
			return;
		if (o.pagesize)
			pool_raise(o.pagesize, o.npages);
		else
			pool_restore();
		n = guard_pool_read(o.pagesize, "free_hugepages");
		send(fd, &n, sizeof(n), MSG_NOSIGNAL);
	}
}

static void wake_up(int sig)
{
	(void)sig;
}

static void be_guardian(int fd, int parent, pid_t pid, const char *dir)
{
	struct sigaction wake = { .sa_handler = wake_up };
	sigset_t all;
	int null = open("/dev/null", O_RDWR);
	int i;

	setsid();
	sigaction(SIGUSR1, &wake, NULL);
	sigfillset(&all);
	sigdelset(&all, SIGUSR1);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_PDEATHSIG, SIGUSR1);
	for (i = 0; i < 3; i++)
		dup2(null, i);
	for (i = 3; i < 256; i++)
		if (i != fd && i != parent)
			close(i);
	if (chdir("/") == 0)
		serve(fd, parent, pid);
	pool_restore();
	guard_remove(dir);
	_exit(0);
}

int guard_start(struct guard *g, const char *dir)
{
	int sv[2], self;
	pid_t pid = getpid();

	self = (int)syscall(SYS_pidfd_open, pid, 0);
	if (self < 0 && errno != ENOSYS) /* Valgrind's answer */
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv)) {
		close(self);
		return -1;
	}
	fflush(NULL);
	g->pid = fork();
	if (g->pid == 0)
		be_guardian(sv[1], self, pid, dir);
	close(self);
	close(sv[1]);
	g->fd = sv[0];
	return g->pid < 0 ? -1 : 0;
}

void guard_stop(struct guard *g)
{
	char byte = 0;

	send(g->fd, &byte, 1, MSG_NOSIGNAL);
	close(g->fd);
	while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

size_t guard_pool(struct guard *g, size_t pagesize, size_t npages)
{
	struct guard_order o = { .pagesize = pagesize, .npages = npages };
	size_t n = 0;

	if (send(g->fd, &o, sizeof(o), MSG_NOSIGNAL) != sizeof(o) ||
	    recv(g->fd, &n, sizeof(n), 0) != sizeof(n))
		return 0;
	return n;
}
