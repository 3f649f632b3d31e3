/* SPDX-License-Identifier: BSD-3-Clause */
/* why.c - could that process open the arena, and if not, what is in the way */
/*
 * What tmc_shmem_open() would meet in the other process, from /proc: its name
 * for the file, its permission, its mappings, its limit of address space.
 * Access control lists, security modules and seccomp are not asked.
 */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static const char help[] =
	"usage: shmemctl why PATH PID\n"
	"Tells whether that process could open the arena for writing, and if\n"
	"not, why: which of its mappings is in the arena's address range, "
	"whose\n"
	"permission is missing, which limit is in the way.\n\n"
	"Exit code: 0 it could; 3 it could not; 1 that cannot be told.\n";

#define CAP_DAC_OVERRIDE 1
#define GROUPS 256
#define USERS_MOST (LAYOUT_SLOTS - LAYOUT_GUESTS)

/* The process. */
struct subject {
	pid_t pid;
	int procfd;
	char name[40];
	uid_t uid; /* for files */
	gid_t gid, groups[GROUPS];
	size_t ngroups;
	uint64_t caps;	      /* effective */
	uint64_t space;	      /* bytes of address space it has */
	uint64_t limit;	      /* and may have */
	unsigned int against; /* reasons */
	struct ctl_procs procs;
};

/* One reason more; the caller prints it behind that. */
static void against(struct subject *s)
{
	s->against++;
	printf("  %sno%s   ", ctl_colour(CTL_RED), ctl_colour(CTL_PLAIN));
}
#define AGAINST(s, format, ...) (against(s), printf(format "\n", __VA_ARGS__))

static void in_favour(const char *what)
{
	printf("  %syes%s  %s\n", ctl_colour(CTL_GREEN), ctl_colour(CTL_PLAIN),
	       what);
}

/* ----- /proc/PID ----- */

static FILE *open_text(const struct subject *s, const char *name)
{
	int fd = openat(s->procfd, name, O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

	if (!f && fd >= 0)
		close(fd);
	return f;
}

static void read_groups(struct subject *s, const char *text)
{
	char *end;

	for (s->ngroups = 0; s->ngroups < GROUPS; text = end) {
		unsigned long n = strtoul(text, &end, 10);

		if (end == text)
			break;
		s->groups[s->ngroups++] = (gid_t)n;
	}
}

static int read_status(struct subject *s)
{
	FILE *f = open_text(s, "status");
	char *line = NULL;
	size_t len = 0;
	unsigned int fs;

	if (!f)
		return -1;
	while (getline(&line, &len, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, "Name:\t", 6)) {
			char *clean = ctl_clean(line + 6);

			snprintf(s->name, sizeof(s->name), "%s", clean);
			free(clean);
		} else if (sscanf(line, "Uid: %*u %*u %*u %u", &fs) == 1) {
			s->uid = fs;
		} else if (sscanf(line, "Gid: %*u %*u %*u %u", &fs) == 1) {
			s->gid = fs;
		} else if (!strncmp(line, "Groups:", 7)) {
			read_groups(s, line + 7);
		} else if (!strncmp(line, "CapEff:", 7)) {
			s->caps = strtoull(line + 7, NULL, 16);
		} else if (!strncmp(line, "VmSize:", 7)) {
			s->space = strtoull(line + 7, NULL, 10) * 1024;
		}
	}
	free(line);
	fclose(f);
	return 0;
}

static void read_limit(struct subject *s)
{
	static const char name[] = "Max address space";
	FILE *f = open_text(s, "limits");
	char *line = NULL;
	size_t len = 0;

	s->limit = UINT64_MAX;
	while (f && getline(&line, &len, f) > 0) {
		const char *value = line + sizeof(name) - 1;
		char *end;
		uint64_t n;

		if (strncmp(line, name, sizeof(name) - 1))
			continue;
		n = strtoull(value, &end, 10);
		if (end != value)
			s->limit = n;
	}
	free(line);
	if (f)
		fclose(f);
}

/* ----- reasons ----- */

static bool in_group(const struct subject *s, gid_t gid)
{
	size_t i;

	for (i = 0; i < s->ngroups; i++)
		if (s->groups[i] == gid)
			return true;
	return s->gid == gid;
}

/* Whether it has all bits of @want (rwx) on what @st is of. */
static bool may(const struct subject *s, const struct stat *st,
		unsigned int want)
{
	unsigned int mode = st->st_mode & 0777;

	if (s->caps >> CAP_DAC_OVERRIDE & 1)
		return true;
	if (s->uid == st->st_uid)
		mode >>= 6;
	else if (in_group(s, st->st_gid))
		mode >>= 3;
	return (mode & want) == want;
}

/* The folders on the way to @real, a path without links. */
static void judge_folders(struct subject *s, const char *real)
{
	char *path = ctl_format("%s", real), *slash = path;
	struct stat st;

	while ((slash = strchr(slash + 1, '/'))) {
		*slash = '\0';
		if (!stat(path, &st) && !may(s, &st, 1))
			AGAINST(s, "it may not pass the folder %s", path);
		*slash = '/';
	}
	free(path);
}

/* By its own root and mounts. */
static void judge_name(struct subject *s, const char *real,
		       const struct stat *want)
{
	char *path = ctl_format("root%s", real);
	struct stat st;

	if (!fstatat(s->procfd, path, &st, 0)) {
		if (st.st_dev != want->st_dev || st.st_ino != want->st_ino)
			AGAINST(s, "%s", "by that name it sees another file");
	} else if (errno == ENOENT) {
		AGAINST(s, "%s", "it sees no file of that name");
	}
	free(path);
}

static void judge_file(struct subject *s, const char *what, const char *path,
		       const struct stat *st)
{
	char *real = realpath(path, NULL);
	unsigned int before = s->against;

	if (!may(s, st, 6))
		AGAINST(s,
			"user %u may not read and write the %s (mode %04o, "
			"user %u, group %u)",
			(unsigned int)s->uid, what,
			(unsigned int)st->st_mode & 07777,
			(unsigned int)st->st_uid, (unsigned int)st->st_gid);
	if (real && st->st_nlink) {
		judge_folders(s, real);
		judge_name(s, real, st);
	}
	free(real);
	if (s->against == before)
		printf("  %syes%s  it may read and write the %s\n",
		       ctl_colour(CTL_GREEN), ctl_colour(CTL_PLAIN), what);
}

/* An arena's maker has mapped a file that had no name then, and shows none. */
static char *describe(const struct subject *s, const char *name, dev_t dev,
		      ino_t ino)
{
	size_t i;

	for (i = 0; i < s->procs.n && ino; i++) {
		const struct ctl_proc *v = &s->procs.v[i];
		struct ctl_arena a;

		if (v->pid != s->pid || v->ino != ino || v->dev != dev ||
		    ctl_procs_inspect(&s->procs, v->pid, v->fd, &a))
			continue;
		ctl_inspect_end(&a);
		return ctl_format("%s: an arena, its descriptor %d", name,
				  v->fd);
	}
	return ctl_format("%s", *name ? name : "memory without a name");
}

/* Whether the line of maps is something in [from, to); then also says so. */
static void judge_mapping(struct subject *s, const char *line, uint64_t from,
			  uint64_t to)
{
	uint64_t start, end;
	unsigned int major, minor;
	unsigned long ino;
	char perms[8], *what, *clean;
	int at = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %*s %x:%x %lu %n", &start,
		   &end, perms, &major, &minor, &ino, &at) < 6 ||
	    start >= to || end <= from)
		return;
	what = describe(s, line + at, makedev(major, minor), ino);
	clean = ctl_clean(what);
	AGAINST(s, "in its way: %#" PRIx64 "-%#" PRIx64 " %s %s", start, end,
		perms, clean);
	free(clean);
	free(what);
}

/* 0, or -1: it cannot be told. */
static int judge_maps(struct subject *s, const struct ctl_arena *a)
{
	uint64_t from = a->h.c.base, to = from + a->h.c.maxsize;
	FILE *f = open_text(s, "maps");
	unsigned int before = s->against;
	char *line = NULL;
	size_t len = 0, n = 0;

	if (!f)
		return -1;
	errno = 0;
	while (getline(&line, &len, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		judge_mapping(s, line, from, to);
		n++;
	}
	if (!n && !errno)
		errno = ESRCH; /* it has ended */
	free(line);
	fclose(f);
	if (!n)
		return -1;
	if (s->against == before)
		in_favour("the address range is free there");
	return 0;
}

static void judge_limits(struct subject *s, const struct ctl_arena *a)
{
	uint64_t need = a->h.c.maxsize + LAYOUT_HDR_LEN;
	char want[CTL_HUMAN], have[CTL_HUMAN];
	struct ctl_locks l;

	if (s->limit != UINT64_MAX &&
	    (s->space > s->limit || need > s->limit - s->space))
		AGAINST(s,
			"its address space is limited to %s, and this needs "
			"%s more",
			ctl_human(s->limit, have), ctl_human(need, want));
	ctl_locks(a->fd, &l);
	if (l.writers >= USERS_MOST)
		AGAINST(s,
			"%u processes have it open; there is no place for "
			"more",
			l.writers);
}

/* ----- the answer ----- */

static bool has_it_open(const struct subject *s, const struct ctl_arena *a)
{
	size_t i;

	for (i = 0; i < s->procs.n; i++) {
		const struct ctl_proc *v = &s->procs.v[i];

		if (v->pid == s->pid && v->dev == a->st.st_dev &&
		    v->ino == a->st.st_ino && v->writes)
			return true;
	}
	return false;
}

static int judge(struct subject *s, const struct ctl_arena *a, const char *path)
{
	char max[CTL_HUMAN];

	printf("%s in process %d, %s\n"
	       "  it needs %#" PRIx64 "-%#" PRIx64 ", %s\n",
	       a->path, s->pid, s->name, a->h.c.base,
	       a->h.c.base + a->h.c.maxsize, ctl_human(a->h.c.maxsize, max));
	if (has_it_open(s, a)) {
		in_favour("it has it open");
		return CTL_OK;
	}
	judge_file(s, "arena", path, &a->st);
	if (a->companion)
		judge_file(s, "companion", a->companion, &a->huge_st);
	if (judge_maps(s, a)) {
		printf("  ?    its mappings cannot be seen\n");
		return ctl_error(path, "process %d: %s", s->pid,
				 strerror(errno));
	}
	judge_limits(s, a);
	printf("process %d could %sopen it\n", s->pid,
	       s->against ? "not " : "");
	return s->against ? CTL_NO : CTL_OK;
}

int ctl_why(int argc, char **argv)
{
	static const struct option longs[] = { { "help", 0, NULL, 'h' },
					       { 0 } };
	struct subject s = { .pid = 0 };
	struct ctl_arena a;
	const char *path, *wrong;
	uint64_t pid;
	char dir[32];
	int code;

	while (ctl_option(argc, argv, "h", longs, help) != -1)
		;
	path = ctl_words(argc, argv, 2);
	wrong = ctl_parse_number(argv[optind + 1], INT_MAX, &pid);
	if (!wrong && !pid)
		wrong = "is no process";
	if (wrong)
		return ctl_usage("why", "%s %s", argv[optind + 1], wrong);
	code = ctl_inspect_valid(path, &a);
	if (code)
		return code;
	s.pid = (pid_t)pid;
	snprintf(dir, sizeof(dir), "/proc/%d", s.pid);
	s.procfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s.procfd < 0 || read_status(&s)) {
		code = ctl_error(path, "there is no process %d", s.pid);
	} else {
		read_limit(&s);
		ctl_procs_scan(&s.procs);
		code = judge(&s, &a, path);
		ctl_procs_end(&s.procs);
	}
	if (s.procfd >= 0)
		close(s.procfd);
	ctl_inspect_end(&a);
	return code;
}
