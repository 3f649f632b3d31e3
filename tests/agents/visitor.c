/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * visitor.c - a stranger to an arena: does what its arguments say, in order.
 *
 * open PATH | ro PATH | fds FD HUGEFD | scm SMALL-OR-HUGE	get a handle
 * fail ERRNO	the next of these fails so
 * at HEX | size N | list N | zero OFF LEN	what must be true
 * grow N | add N | put OFF BYTE | get OFF BYTE	what to do
 * segv OFF | bus OFF	a store there, a load from there raises that signal
 * step		tell the parent, and wait for it
 * forked	the rest is done by a child of ours
 *
 * Exit code: 0; or 1 and a line on stderr.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "list.h"
#include "peer.h"
#include "probe.h"

static tmc_shmem_t *shm;
static int failing;

static char *byte_at(const char *off)
{
	return (char *)tmc_shmem_address(shm) + strtoul(off, NULL, 0);
}

/* A handle is there, or is not, as `fail` has said. */
static int got(tmc_shmem_t *handle)
{
	int want = failing;

	failing = 0;
	if (want)
		return !handle && errno == want;
	shm = handle;
	return handle != NULL;
}

static int open_scm(const char *kind)
{
	struct peer parent;
	int fd, hugefd = -1, ok;

	peer_self(&parent);
	fd = peer_get_fd(&parent);
	if (!strcmp(kind, "huge"))
		hugefd = peer_get_fd(&parent);
	ok = got(tmc_shmem_open_fds(fd, hugefd));
	close(fd);
	if (hugefd >= 0)
		close(hugefd);
	return ok;
}

static int raises(int sig, volatile char *p)
{
	const struct rlimit no_core = { 0, 0 };
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		if (sig == SIGSEGV)
			*p = 1;
		else
			(void)*p;
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) && WTERMSIG(status) == sig;
}

static int step(void)
{
	struct peer parent;
	uint64_t word;

	peer_self(&parent);
	return !peer_put(&parent, 0) && !peer_get(&parent, &word);
}

static int go_on_in_child(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		return 1;
	waitpid(pid, &status, 0);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

/* One command with its arguments; NULL: not this many. 1: as it must be. */
static int obey(const char *cmd, const char *a, const char *b, int *used)
{
	unsigned long n = a ? strtoul(a, NULL, 0) : 0;

	*used = 1;
	if (!strcmp(cmd, "step"))
		return step();
	if (!strcmp(cmd, "forked"))
		return go_on_in_child();
	*used = 2;
	if (!strcmp(cmd, "open"))
		return got(tmc_shmem_open(a));
	if (!strcmp(cmd, "ro"))
		return got(tmc_shmem_open_readonly(a));
	if (!strcmp(cmd, "scm"))
		return open_scm(a);
	if (!strcmp(cmd, "fail"))
		return failing = (int)n;
	if (!strcmp(cmd, "at"))
		return tmc_shmem_address(shm) == (void *)strtoul(a, NULL, 16);
	if (!strcmp(cmd, "size"))
		return tmc_shmem_current_size(shm) == n;
	if (!strcmp(cmd, "list"))
		return list_count(shm) == (long)n;
	if (!strcmp(cmd, "grow"))
		return tmc_shmem_grow(shm, n) != NULL;
	if (!strcmp(cmd, "add"))
		return list_add(shm, n) == 0;
	if (!strcmp(cmd, "segv"))
		return raises(SIGSEGV, byte_at(a));
	if (!strcmp(cmd, "bus"))
		return raises(SIGBUS, byte_at(a));
	*used = 3;
	if (!strcmp(cmd, "fds"))
		return got(tmc_shmem_open_fds(atoi(a), atoi(b)));
	if (!strcmp(cmd, "zero"))
		return probe_zero(byte_at(a), strtoul(b, NULL, 0));
	if (!strcmp(cmd, "put"))
		return *byte_at(a) = (char)strtoul(b, NULL, 0), 1;
	if (!strcmp(cmd, "get"))
		return *byte_at(a) == (char)strtoul(b, NULL, 0);
	return 0;
}

int main(int argc, char **argv)
{
	int i, used;

	for (i = 1; i < argc; i += used)
		if (!obey(argv[i], argv[i + 1],
			  argv[i + 1] ? argv[i + 2] : NULL, &used)) {
			fprintf(stderr, "visitor: argument %d: %s %s: %s\n", i,
				argv[i], argv[i + 1] ? argv[i + 1] : "",
				strerror(errno));
			return 1;
		}
	tmc_shmem_close(shm);
	return 0;
}
