/* SPDX-License-Identifier: BSD-3-Clause */
/* check.c - whether an arena is whole */
/*
 * Heaps are looked at twice. First from outside, before anybody has put right
 * what a death has left (spans.c). Then by tmc_mspace_check() under the
 * arena's lock, which sees a heap in use at rest; for that the arena is
 * opened as any user does it. A process of its own does that: what it finds
 * may end it, and its address range may be taken in this one.
 */
#include "look.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <tmc/mspace.h>
#include <unistd.h>

static const char help[] =
	"usage: shmemctl check [--readonly] PATH\n"
	"Tells whether an arena is whole: header, length, companion, and "
	"heaps.\n"
	"A heap is found by its mark and its own address, in all that is no "
	"hole.\n"
	"Where it can be, the arena is also opened for tmc_mspace_check(), "
	"which\n"
	"puts right what a death has left.\n\n"
	"  -r, --readonly  do not open it, only look\n"
	"Exit code: 0 whole; 3 damaged; 1 it cannot be looked at.\n";

#define PATIENCE 20u /* seconds for the arena's lock and a walk */

/* What the other process says of the heap with that index; or, with OPENED,
 * of the arena. */
struct verdict {
	uint32_t heap;
	int err; /* errno; 0: right */
};
#define OPENED UINT32_MAX

struct report {
	const char *path;
	unsigned int damages;
};

static void line(const char *what, const char *good, const char *bad)
{
	printf("  %-18s %s%s%s\n", what, ctl_colour(bad ? CTL_RED : CTL_GREEN),
	       bad ? bad : good, ctl_colour(CTL_PLAIN));
}

/* The first goes to stderr, too. */
static void damage(struct report *r, const char *what, const char *bad)
{
	line(what, "", bad);
	if (!r->damages++)
		ctl_error(r->path, "%s: %s", what, bad);
}

/* ----- the arena ----- */

static void check_arena(struct report *r, const struct ctl_arena *a)
{
	struct ctl_field f[CTL_FIELDS];
	size_t n = ctl_fields(a, f), i;
	unsigned int before = r->damages;

	for (i = 0; i < n; i++) {
		if (f[i].wrong[0] && f[i].note)
			printf("  %-18s note: %s\n", f[i].name, f[i].wrong);
		else if (f[i].wrong[0])
			damage(r, f[i].name, f[i].wrong);
	}
	if (r->damages == before)
		line(a->huge ? "header, companion" : "header", "right", NULL);
}

/* ----- heaps, from inside ----- */

static void put(int fd, uint32_t heap, int err)
{
	const struct verdict v = { heap, err };

	if (write(fd, &v, sizeof(v)) != (ssize_t)sizeof(v))
		exit(1);
}

_Noreturn static void inside(int fd, const char *path,
			     const struct ctl_heaps *l)
{
	const struct rlimit none = { 0, 0 };
	tmc_shmem_t *shm;
	size_t i;

	/* What the library says when it aborts is said by us. Nothing is left
	 * in stdout's buffer that an exit would print a second time. */
	if (!freopen("/dev/null", "w", stderr))
		exit(1);
	setrlimit(RLIMIT_CORE, &none);
	alarm(PATIENCE);
	shm = tmc_shmem_open(path);
	put(fd, OPENED, shm ? 0 : errno);
	for (i = 0; shm && i < l->n; i++) {
		void *at = (void *)(uintptr_t)l->v[i].addr;
		tmc_mspace heap;

		/* At rest it is damaged, whatever is found here; and there may
		 * be many of those. */
		if (l->v[i].wrong[0] && !l->v[i].in_use) {
			put(fd, (uint32_t)i, EUCLEAN);
			continue;
		}
		heap = tmc_mspace_access_with_base(at);
		put(fd, (uint32_t)i,
		    heap && !tmc_mspace_check(heap) ? 0 : errno);
	}
	exit(0);
}

/* errs[i]: errno of that heap's check. 0, or errno of the open; -1: it died
 * in the heap behind those with a verdict, @seen of them. */
static int run_inside(const char *path, const struct ctl_heaps *l, int *errs,
		      size_t *seen)
{
	int fds[2], rc = -1, status;
	struct verdict v;
	pid_t pid;

	*seen = 0;
	fflush(stdout);
	if (pipe(fds))
		return errno;
	pid = fork();
	if (!pid)
		inside(fds[1], path, l);
	close(fds[1]);
	while (pid > 0 && read(fds[0], &v, sizeof(v)) == (ssize_t)sizeof(v)) {
		if (v.heap == OPENED) {
			rc = v.err;
		} else if (v.heap < l->n) {
			errs[v.heap] = v.err;
			*seen = v.heap + 1;
		}
	}
	close(fds[0]);
	if (pid < 0)
		return errno;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!rc && WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		return ETIMEDOUT;
	return rc || *seen == l->n ? rc : -1;
}

/* ----- heaps ----- */

static void no_run(const struct ctl_heap *h, const struct ctl_run *r, void *arg)
{
	(void)h;
	(void)r;
	(void)arg;
}

static const char *why_not_inside(int err)
{
	switch (err) {
	case EADDRINUSE:
		return "its address range is taken here";
	case ETIMEDOUT:
		return "somebody keeps its lock, or they are large";
	case EACCES:
	case EROFS:
		return "it may not be opened for writing";
	}
	return strerror(err);
}

static void check_heaps(struct report *r, const struct ctl_arena *a,
			bool readonly, bool in_use)
{
	struct ctl_heaps l;
	size_t i, seen = 0;
	int *errs, rc = 0;

	ctl_heaps_find(a, in_use, &l);
	errs = ctl_alloc(NULL, l.n, sizeof(*errs));
	memset(errs, 0, l.n * sizeof(*errs));
	for (i = 0; i < l.n; i++)
		ctl_heap_walk(&l.v[i], no_run, NULL);
	if (l.n && !readonly)
		rc = run_inside(r->path, &l, errs, &seen);
	for (i = 0; i < l.n; i++) {
		bool inside = !readonly && i < seen;
		char *name = ctl_format("heap %#" PRIx64, l.v[i].addr);

		/* In use it may just be changing, for who has no lock. */
		if (l.v[i].gone)
			line(name, "destroyed meanwhile", NULL);
		else if (l.v[i].wrong[0] && !(in_use && inside && !errs[i]))
			damage(r, name, l.v[i].wrong);
		else if (inside && errs[i])
			damage(r, name, strerror(errs[i]));
		else if (!readonly && rc == -1 && i == seen)
			damage(r, name, "ends who looks at it");
		else
			line(name, inside ? "right" : "right, from outside",
			     NULL);
		free(name);
	}
	if (rc > 0)
		printf("  note: heaps were looked at from outside only, as "
		       "%s\n",
		       why_not_inside(rc));
	free(errs);
	ctl_heaps_end(&l);
}

int ctl_check(int argc, char **argv)
{
	static const struct option longs[] = { { "readonly", 0, NULL, 'r' },
					       { "help", 0, NULL, 'h' },
					       { 0 } };
	struct report r = { .damages = 0 };
	struct ctl_procs p;
	struct ctl_arena a;
	struct ctl_locks l;
	bool readonly = false;
	const char *wrong;
	int c;

	while ((c = ctl_option(argc, argv, "hr", longs, help)) != -1)
		readonly = readonly || c == 'r';
	r.path = ctl_words(argc, argv, 1);
	wrong = ctl_inspect(r.path, &a);
	if (wrong)
		return ctl_error(r.path, "%s", wrong);
	ctl_procs_scan(&p);
	ctl_procs_companion(&p, &a);
	ctl_procs_end(&p);
	ctl_locks(a.fd, &l);
	printf("%s\n", a.path);
	check_arena(&r, &a);
	if (a.valid && ctl_data_fd(&a) >= 0)
		check_heaps(&r, &a, readonly, ctl_locked(&l));
	printf("%s\n", r.damages ? "damaged" : "whole");
	ctl_inspect_end(&a);
	return r.damages ? CTL_NO : CTL_OK;
}
