/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * relative.c - a program of a family that has common memory: does what its
 * arguments say, in order. ERRNO is a number, 0 for success.
 *
 * init RC ERRNO | close ERRNO | persist FLAG ERRNO	these calls
 * fail ERRNO	malloc fails so, and nothing is mapped or opened by it
 * str HEX TEXT | free HEX	a block of somebody's
 * give TEXT	a block of ours, its address to the parent
 * capacity N | info 0-or-1	what must be true
 * prepare thp|local|none ERRNO	an arena with that attribute
 * map thp|local|none HEX	the arena that pages come from has that address
 * taken HEX	something else is there
 * locks 0-or-1	whether the first descriptor of TMC_CMEM_INFO has file locks
 * churn HEX PLAYER	as churn.h says
 * step		tell the parent, and wait for it
 * again	the rest is done by this program, executed anew
 *
 * Exit code: 0; or 1 and a line on stderr.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <shmem.h>

#include "churn.h"
#include "peer.h"
#include "probe.h"

/* A sanitizer maps what it likes. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static struct peer parent;

static void *address(const char *hex)
{
	return (void *)strtoul(hex, NULL, 16);
}

/* Whether @rc and errno say what @want does. */
static int said(int rc, const char *want)
{
	int err = atoi(want);

	return err ? rc == -1 && errno == err : rc == 0;
}

static int fails(const char *want)
{
	size_t maps, fds = probe_fds();
	void *p;

	probe_maps(); /* what is made once is made now */
	maps = probe_maps();
	errno = 0;
	p = tmc_cmem_malloc(10);
	if (p || errno != atoi(want))
		return 0;
	return (SANITIZED || maps == probe_maps()) && fds == probe_fds();
}

static int give(const char *text)
{
	char *p = tmc_cmem_malloc(strlen(text) + 1);

	if (!p)
		return 0;
	strcpy(p, text);
	return peer_put(&parent, (uintptr_t)p) == 0;
}

static int step(void)
{
	uint64_t word;

	return !peer_put(&parent, 0) && !peer_get(&parent, &word);
}

static tmc_alloc_t *attribute(const char *name, tmc_alloc_t *alloc)
{
	tmc_cmem_alloc_init(alloc);
	if (!strcmp(name, "thp"))
		tmc_alloc_set_thp(alloc);
	if (!strcmp(name, "local"))
		tmc_alloc_set_node_local(alloc);
	return alloc;
}

static int map(const char *name, const char *hex)
{
	tmc_alloc_t alloc;
	char *p = tmc_alloc_map(attribute(name, &alloc), 1);
	tmc_shmem_t *shm = p ? tmc_shmem_find(p, NULL) : NULL;

	return shm && tmc_shmem_address(shm) == address(hex) && *p == 0;
}

static int has_locks(void)
{
	const char *info = getenv("TMC_CMEM_INFO");
	struct flock l = { .l_type = F_WRLCK, .l_start = (off_t)1 << 62 };
	char path[64];
	int fd, rc;

	if (!info)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%ld",
		 strtol(info + 2, NULL, 16));
	fd = open(path, O_RDWR | O_CLOEXEC);
	rc = fd < 0 ? -1 : fcntl(fd, F_OFD_GETLK, &l);
	close(fd);
	return rc < 0 ? -1 : l.l_type != F_UNLCK;
}

/* One command with its arguments; NULL: not this many. 1: as it must be. */
static int obey(const char *cmd, const char *a, const char *b, int *used)
{
	tmc_alloc_t alloc;

	*used = 1;
	if (!strcmp(cmd, "step"))
		return step();
	*used = 2;
	if (!strcmp(cmd, "fail"))
		return fails(a);
	if (!strcmp(cmd, "free"))
		return tmc_cmem_free(address(a)), 1;
	if (!strcmp(cmd, "give"))
		return give(a);
	if (!strcmp(cmd, "capacity"))
		return tmc_cmem_get_capacity() == strtoul(a, NULL, 0);
	if (!strcmp(cmd, "info"))
		return (getenv("TMC_CMEM_INFO") != NULL) == atoi(a);
	if (!strcmp(cmd, "close"))
		return said(tmc_cmem_close(), a);
	if (!strcmp(cmd, "taken"))
		return probe_occupy(address(a), 4096) == address(a);
	if (!strcmp(cmd, "locks"))
		return has_locks() == atoi(a);
	*used = 3;
	if (!strcmp(cmd, "init"))
		return tmc_cmem_init(0) == atoi(a) &&
		       (!atoi(b) || errno == atoi(b));
	if (!strcmp(cmd, "persist"))
		return said(tmc_cmem_persist_after_exec(atoi(a)), b);
	if (!strcmp(cmd, "str"))
		return tmc_cmem_get_capacity() && !strcmp(address(a), b);
	if (!strcmp(cmd, "prepare"))
		return said(tmc_cmem_prepare_alloc(attribute(a, &alloc)), b);
	if (!strcmp(cmd, "churn"))
		return tmc_cmem_get_capacity() &&
		       churn(address(a), (unsigned int)atoi(b),
			     (unsigned int)getpid()) == 0;
	if (!strcmp(cmd, "map"))
		return map(a, b);
	return 0;
}

int main(int argc, char **argv)
{
	int i, used;

	peer_self(&parent);
	for (i = 1; i < argc; i += used) {
		if (!strcmp(argv[i], "again")) {
			argv[i] = argv[0];
			execv("/proc/self/exe", argv + i);
		}
		if (!obey(argv[i], argv[i + 1],
			  argv[i + 1] ? argv[i + 2] : NULL, &used)) {
			fprintf(stderr, "relative: argument %d: %s %s: %s\n", i,
				argv[i], argv[i + 1] ? argv[i + 1] : "",
				strerror(errno));
			return 1;
		}
	}
	return 0;
}
