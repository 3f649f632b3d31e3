/* SPDX-License-Identifier: BSD-3-Clause */
/* why.c - could that process open the arena, and if not, what is in the way */
/*
 * What tmc_shmem_open() would meet in the other process, from /proc: its name
 * for the file, its permission, its mappings, its limits.
 * Access control lists, security modules and seccomp are not asked.
 */
#include "ctl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
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
/* For one with a companion at a time: itself, the list of mounts, one of
 * these, and the companion. */
#define COMPANION_FILES 4
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
	bool apart;	      /* in a user namespace that is not ours */
	bool ended, kernel;   /* a zombie; a thread of the kernel */
	uint64_t space;	      /* bytes of address space it has */
	uint64_t limit;	      /* and may have */
	uint64_t files;	      /* descriptors it may have */
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
	s->kernel = true; /* it has no memory */
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
			s->kernel = false;
		} else if (!strncmp(line, "State:\t", 7)) {
			s->ended = line[7] == 'Z' || line[7] == 'X';
		}
	}
	free(line);
	fclose(f);
	return 0;
}

/* Behind its name in a line of limits; as it is: without one. */
static void read_limit(const char *line, const char *name, uint64_t *limit)
{
	size_t len = strlen(name);
	char *end;
	uint64_t n;

	if (strncmp(line, name, len))
		return;
	n = strtoull(line + len, &end, 10);
	if (end != line + len)
		*limit = n;
}

static void read_limits(struct subject *s)
{
	FILE *f = open_text(s, "limits");
	char *line = NULL;
	size_t len = 0;

	s->limit = s->files = UINT64_MAX;
	while (f && getline(&line, &len, f) > 0) {
		read_limit(line, "Max address space", &s->limit);
		read_limit(line, "Max open files", &s->files);
	}
	free(line);
	if (f)
		fclose(f);
}

static void read_namespace(struct subject *s)
{
	struct stat its, ours;

	s->apart = !fstatat(s->procfd, "ns/user", &its, 0) &&
		   !stat("/proc/self/ns/user", &ours) &&
		   (its.st_ino != ours.st_ino || its.st_dev != ours.st_dev);
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

/* Whether @id, as we know it, is in @name, uid_map or gid_map. */
static bool is_mapped(const struct subject *s, const char *name, uint32_t id)
{
	FILE *f = open_text(s, name);
	unsigned int first, n;
	bool is = false;

	while (f && !is && fscanf(f, "%*u %u %u", &first, &n) == 2)
		is = id - first < n;
	if (f)
		fclose(f);
	return is;
}

/* In a namespace of its own root is root only over users and groups that are
 * there. */
static bool overrides(const struct subject *s, const struct stat *st)
{
	return s->caps >> CAP_DAC_OVERRIDE & 1 &&
	       (!s->apart || (is_mapped(s, "uid_map", st->st_uid) &&
			      is_mapped(s, "gid_map", st->st_gid)));
}

/* Whether it has all bits of @want (rwx) on what @st is of. */
static bool may(const struct subject *s, const struct stat *st,
		unsigned int want)
{
	unsigned int mode = st->st_mode & 0777;

	if (overrides(s, st))
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

/* The mount that @path, of its own root, is in. */
static bool is_readonly(const struct subject *s, const char *path)
{
	int fd = openat(s->procfd, path, O_PATH | O_CLOEXEC);
	struct statvfs v;
	bool is = fd >= 0 && !fstatvfs(fd, &v) && v.f_flag & ST_RDONLY;

	if (fd >= 0)
		close(fd);
	return is;
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
		else if (is_readonly(s, path))
			AGAINST(s, "%s", "it has that mounted read-only");
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

/* Numbers that are not less than its limit count for nothing: a limit that was
 * lowered closes no descriptor. */
static void judge_files(struct subject *s, uint64_t need)
{
	int fd = openat(s->procfd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	uint64_t n = 0, below = 0;
	struct dirent *e;

	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		n++;
		below += strtoull(e->d_name, NULL, 10) < s->files;
	}
	if (d && need > s->files - below)
		AGAINST(s,
			"it has %" PRIu64 " descriptors, may have %" PRIu64
			", and this needs %" PRIu64 " more",
			n, s->files, need);
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
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
	judge_files(s, a->companion ? COMPANION_FILES : 1);
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
	} else if (s.ended) {
		code = ctl_error(path, "process %d, %s, has ended", s.pid,
				 s.name);
	} else if (s.kernel) {
		code = ctl_error(path, "process %d, %s, is a kernel thread",
				 s.pid, s.name);
	} else {
		read_limits(&s);
		read_namespace(&s);
		ctl_procs_scan(&s.procs);
		code = judge(&s, &a, path);
		ctl_procs_end(&s.procs);
	}
	if (s.procfd >= 0)
		close(s.procfd);
	ctl_inspect_end(&a);
	return code;
}
