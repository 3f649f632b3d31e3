/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * group.c - a hugetlb cgroup that goes away with the process.
 *
 * A keeper, made as box.c's guardian is, makes the group and removes it. They
 * reach the hierarchy through a descriptor of a mount that has no place: the
 * box's directory may be gone before the keeper is done. The kernel lets go of
 * a removed group some time later and tells nobody; until then version 1 keeps
 * the controller although nothing is mounted, and nobody else gets it. So
 * the keeper goes on until /proc/cgroups says what it said before.
 */
#include "group.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define CONTROL "cgroup.subtree_control"
#define TRIES 1000 /* of 10 ms: a hang is a failure */

static struct {
	int version, hierarchy, enabled;
	char name[32], limit[96];
	pid_t keeper;
	int mount, fd;
} group = { .fd = -1 };

static int put_in(const char *file, const char *what)
{
	int fd = openat(group.mount, file, O_WRONLY | O_CLOEXEC), ok;

	ok = fd >= 0 && write(fd, what, strlen(what)) == (ssize_t)strlen(what);
	if (fd >= 0)
		close(fd);
	return ok ? 0 : -1;
}

/* 0: version 2's, or nobody's; -1: the kernel has no such controller. */
static int hierarchy(void)
{
	FILE *f = fopen("/proc/cgroups", "re");
	char line[256];
	int n = -1;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "hugetlb %d", &n) == 1)
			break;
	if (f)
		fclose(f);
	return n;
}

static int is_enabled(void)
{
	int fd = openat(group.mount, CONTROL, O_RDONLY | O_CLOEXEC);
	char all[256] = "";

	if (fd >= 0 && read(fd, all, sizeof(all) - 1) < 0)
		*all = '\0';
	close(fd);
	return strstr(all, "hugetlb") != NULL;
}

/* A descriptor of the hierarchy's root, mounted as long as it is open. */
static int mount_it(int version)
{
	int fs = (int)syscall(SYS_fsopen, version == 1 ? "cgroup" : "cgroup2",
			      FSOPEN_CLOEXEC);
	int fd = -1;

	if ((version == 2 || !syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG,
				      "hugetlb", NULL, 0)) &&
	    !syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	close(fs);
	return fd;
}

/* Where nobody has version 1 mounted, an unmount makes the kernel see it. */
static void let_go(void)
{
	if (hierarchy() > 0)
		close(mount_it(1));
}

static int make(void)
{
	if (group.version == 2 && !is_enabled()) {
		if (put_in(CONTROL, "+hugetlb"))
			return -1;
		group.enabled = 1;
	}
	return mkdirat(group.mount, group.name, 0755);
}

/* The kernel takes its time after let_go(), too, so not at each try. */
static int as_before(int try)
{
	if (group.mount >= 0) {
		if (unlinkat(group.mount, group.name, AT_REMOVEDIR) &&
		    errno != ENOENT)
			return 0; /* somebody in there is not quite dead */
		if (group.enabled && put_in(CONTROL, "-hugetlb"))
			return 0;
		close(group.mount);
		group.mount = -1;
	}
	if (!hierarchy() || hierarchy() == group.hierarchy)
		return 1;
	if (try % 32 == 31)
		let_go();
	return 0;
}

static void keep(int fd, int parent)
{
	struct pollfd p[2] = { { .fd = parent, .events = POLLIN },
			       { .fd = fd, .events = POLLIN } };
	char ok;
	sigset_t all;
	int i;

	setsid();
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	ok = !make();
	send(fd, &ok, 1, MSG_NOSIGNAL);
	while (ok && poll(p, 2, -1) < 0)
		;
	for (i = 0; i < TRIES && !as_before(i); i++)
		poll(NULL, 0, 10);
	_exit(i == TRIES);
}

int group_open(int version, size_t pagesize)
{
	const size_t unit = pagesize < GIB ? MIB : GIB;
	int sv[2], self;
	char ok = 0;

	let_go(); /* of what a run left that was killed with its keeper */
	group.version = version;
	group.enabled = 0;
	group.hierarchy = hierarchy();
	group.mount = mount_it(version);
	if (group.mount < 0)
		return -1;
	snprintf(group.name, sizeof(group.name), "shmtest.%d", (int)getpid());
	snprintf(group.limit, sizeof(group.limit), "%s/hugetlb.%zu%s.%s",
		 group.name, pagesize / unit, unit == MIB ? "MB" : "GB",
		 version == 1 ? "limit_in_bytes" : "max");
	self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (self < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv)) {
		close(self);
		close(group.mount);
		return -1;
	}
	fflush(NULL);
	group.keeper = fork();
	if (group.keeper == 0)
		keep(sv[1], self);
	close(self);
	close(sv[1]);
	group.fd = sv[0];
	if (recv(group.fd, &ok, 1, 0) == 1 && ok)
		return 0;
	group_close();
	return -1;
}

int group_enter(void)
{
	char procs[64];

	snprintf(procs, sizeof(procs), "%s/cgroup.procs", group.name);
	return put_in(procs, "0");
}

int group_limit(size_t bytes)
{
	char n[32];

	snprintf(n, sizeof(n), "%zu", bytes);
	return put_in(group.limit, n);
}

int group_close(void)
{
	char byte = 0;
	int status = -1;

	if (group.fd < 0)
		return 0;
	close(group.mount);
	send(group.fd, &byte, 1, MSG_NOSIGNAL);
	close(group.fd);
	group.fd = -1;
	while (waitpid(group.keeper, &status, 0) < 0 && errno == EINTR)
		;
	return status ? -1 : 0;
}
