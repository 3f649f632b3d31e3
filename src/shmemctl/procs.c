/* SPDX-License-Identifier: BSD-3-Clause */
/* procs.c - who has an arena open */
/*
 * Two witnesses. /proc knows pids and commands, but shows descriptors only of
 * those processes that we may trace, and of our PID namespace. The file locks
 * (users.h) know nothing of who it is, but miss nobody. Asking for a lock
 * takes none.
 */
#include "ctl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#define HUGETLBFS 0x958458f6

/* ----- /proc ----- */

static void read_name(int procfd, char name[32])
{
	char raw[20] = "";
	int fd = openat(procfd, "comm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, raw, sizeof(raw) - 1);
	char *clean;

	if (fd >= 0)
		close(fd);
	raw[n > 0 ? n : 0] = '\0';
	raw[strcspn(raw, "\n")] = '\0';
	clean = ctl_clean(raw);
	snprintf(name, 32, "%.31s", clean);
	free(clean);
}

static bool on_hugetlbfs(int fdsfd, const char *name)
{
	int fd = openat(fdsfd, name, O_PATH | O_CLOEXEC);
	struct statfs s;
	bool is = fd >= 0 && !fstatfs(fd, &s) && s.f_type == HUGETLBFS;

	if (fd >= 0)
		close(fd);
	return is;
}

/* A descriptor of @one's process: notes its file, unless it has it already. */
static void note(struct ctl_procs *p, size_t first, const struct ctl_proc *one,
		 int fdsfd, const char *name)
{
	struct ctl_proc *v;
	struct stat st, link;
	bool writes;
	size_t i;

	/* The link's mode is how the descriptor was opened. */
	if (fstatat(fdsfd, name, &st, 0) || !S_ISREG(st.st_mode) ||
	    fstatat(fdsfd, name, &link, AT_SYMLINK_NOFOLLOW))
		return;
	writes = link.st_mode & S_IWUSR;
	for (i = first; i < p->n; i++) {
		v = &p->v[i];
		if (v->dev == st.st_dev && v->ino == st.st_ino) {
			v->writes = v->writes || writes;
			return;
		}
	}
	if (!(p->n & (p->n - 1)))
		p->v = ctl_alloc(p->v, p->n ? 2 * p->n : 1, sizeof(*p->v));
	v = &p->v[p->n++];
	*v = *one;
	v->fd = atoi(name);
	v->writes = writes;
	v->gone = !st.st_nlink;
	v->dev = st.st_dev;
	v->ino = st.st_ino;
	v->huge = on_hugetlbfs(fdsfd, name);
}

static void scan_one(struct ctl_procs *p, int procfd, pid_t pid)
{
	struct ctl_proc one = { .pid = pid };
	size_t first = p->n;
	struct dirent *e;
	DIR *d;
	int fdsfd = openat(procfd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fdsfd < 0 || !(d = fdopendir(fdsfd))) {
		if (errno == EACCES || errno == EPERM)
			p->hidden++;
		if (fdsfd >= 0)
			close(fdsfd);
		return;
	}
	read_name(procfd, one.name);
	errno = 0;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			note(p, first, &one, fdsfd, e->d_name);
	closedir(d);
}

static int by_pid(const void *a, const void *b)
{
	const struct ctl_proc *x = a, *y = b;

	return x->pid != y->pid ? (x->pid < y->pid ? -1 : 1) : x->fd - y->fd;
}

void ctl_procs_scan(struct ctl_procs *p)
{
	DIR *d = opendir("/proc");
	struct dirent *e;

	memset(p, 0, sizeof(*p));
	while (d && (e = readdir(d))) {
		pid_t pid = atoi(e->d_name);
		int procfd;

		if (pid <= 0 || pid == getpid())
			continue;
		procfd = openat(dirfd(d), e->d_name,
				O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (procfd < 0)
			continue; /* it has ended */
		scan_one(p, procfd, pid);
		close(procfd);
	}
	if (d)
		closedir(d);
	if (p->n)
		qsort(p->v, p->n, sizeof(*p->v), by_pid);
}

void ctl_procs_end(struct ctl_procs *p)
{
	free(p->v);
	memset(p, 0, sizeof(*p));
}

const struct ctl_proc *ctl_procs_find(const struct ctl_procs *p, size_t from,
				      const struct stat *st)
{
	size_t i;

	for (i = from; i < p->n; i++)
		if (p->v[i].dev == st->st_dev && p->v[i].ino == st->st_ino)
			return &p->v[i];
	return NULL;
}

/* ----- locks ----- */

/* A lock of others in [from, to): its kind, and which part of it; or F_UNLCK,
 * or -1. */
static int ask(int fd, uint64_t from, uint64_t to, uint64_t *start,
	       uint64_t *end)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	l.l_start = (off_t)from;
	l.l_len = (off_t)(to - from);
	if (fcntl(fd, F_OFD_GETLK, &l))
		return -1;
	*start = (uint64_t)l.l_start > from ? (uint64_t)l.l_start : from;
	*end = l.l_len ? (uint64_t)(l.l_start + l.l_len) : to;
	if (*end > to)
		*end = to;
	return l.l_type;
}

/*
 * Slots that are held. The kernel answers with any lock in a range, so what is
 * on both sides of it is asked for, too. Who is opening alone holds all of
 * them, and counts as one.
 */
static unsigned int count_slots(int fd)
{
	/* Each lock found makes one more of these, and there are no more locks
	 * than slots. */
	static struct {
		uint64_t from, to;
	} range[LAYOUT_SLOTS + 2];
	unsigned int found = 0, n = 1;
	uint64_t start, end;

	range[0].from = LAYOUT_LOCK_SLOT0;
	range[0].to = LAYOUT_LOCK_GUEST;
	while (n) {
		uint64_t from = range[n - 1].from, to = range[n - 1].to;

		n--;
		if (from >= to || n > LAYOUT_SLOTS ||
		    ask(fd, from, to, &start, &end) != F_WRLCK)
			continue;
		found++;
		range[n].from = from;
		range[n++].to = start;
		range[n].from = end;
		range[n++].to = to;
	}
	return found;
}

void ctl_locks(int fd, struct ctl_locks *l)
{
	uint64_t s, e;
	int rc = ask(fd, LAYOUT_LOCK_READER, LAYOUT_LOCK_READER + 1, &s, &e);

	memset(l, 0, sizeof(*l));
	l->known = rc >= 0;
	if (rc < 0)
		return;
	l->readers = rc != F_UNLCK;
	l->writers = count_slots(fd);
	/* Exclusive it is who is opening alone. */
	l->guests = ask(fd, LAYOUT_LOCK_GUEST, LAYOUT_LOCK_GUEST + 1, &s, &e) ==
		    F_RDLCK;
}

/* ----- both, for an arena ----- */

void ctl_procs_companion(const struct ctl_procs *p, struct ctl_arena *a)
{
	size_t i;

	for (i = 0; i < p->n && a->huge && a->hugefd < 0; i++) {
		const struct ctl_proc *v = &p->v[i];
		char path[64];
		int fd;

		if (!v->huge || v->ino != a->h.c.huge_ino)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", v->pid, v->fd);
		fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0)
			ctl_inspect_companion(a, fd, path);
	}
}

const char *ctl_procs_inspect(const struct ctl_procs *p, pid_t pid, int fd,
			      struct ctl_arena *a)
{
	char path[64];
	const char *wrong;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	wrong = ctl_inspect(path, a);
	if (!wrong)
		ctl_procs_companion(p, a);
	return wrong;
}

/* Those that have a lock and were not found in /proc; at least. */
static unsigned int not_visible(const struct ctl_procs *p,
				const struct ctl_arena *a,
				const struct ctl_locks *l)
{
	unsigned int seen = 0, writes = 0, locked;
	const struct ctl_proc *v;

	for (v = ctl_procs_find(p, 0, &a->st); v;
	     v = ctl_procs_find(p, (size_t)(v - p->v) + 1, &a->st)) {
		seen++;
		writes += v->writes;
	}
	locked = l->writers + l->guests;
	if (locked > writes)
		return locked - writes;
	return l->readers && seen == writes && seen <= l->writers;
}

char *ctl_procs_text(const struct ctl_procs *p, const struct ctl_arena *a,
		     const struct ctl_locks *l)
{
	char *text = ctl_format("%s", "");
	const struct ctl_proc *v;
	unsigned int n;

	for (v = ctl_procs_find(p, 0, &a->st); v;
	     v = ctl_procs_find(p, (size_t)(v - p->v) + 1, &a->st)) {
		char *old = text;

		text = ctl_format("%s%s%d %s", old, *old ? ", " : "", v->pid,
				  v->name);
		free(old);
	}
	n = not_visible(p, a, l);
	if (n) {
		char *old = text;

		text = ctl_format("%s%s%u not visible", old,
				  *old ? " and " : "", n);
		free(old);
	}
	return text;
}

void ctl_procs_json(const struct ctl_procs *p, const struct ctl_arena *a,
		    const struct ctl_locks *l)
{
	const struct ctl_proc *v = ctl_procs_find(p, 0, &a->st);

	ctl_json_bool("open", v || ctl_locked(l));
	ctl_json_open("processes", '[');
	for (; v; v = ctl_procs_find(p, (size_t)(v - p->v) + 1, &a->st)) {
		ctl_json_open(NULL, '{');
		ctl_json_number("pid", (uint64_t)v->pid);
		ctl_json_text("command", v->name);
		ctl_json_bool("writes", v->writes);
		ctl_json_close();
	}
	ctl_json_close();
	ctl_json_number("not_visible", not_visible(p, a, l));
	ctl_json_open("locks", '{');
	ctl_json_bool("known", l->known);
	ctl_json_number("writers", l->writers);
	ctl_json_bool("readers", l->readers);
	ctl_json_bool("guests", l->guests);
	ctl_json_close();
}
