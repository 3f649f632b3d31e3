/* SPDX-License-Identifier: BSD-3-Clause */
/* gc.c - remove what nobody has open */
/*
 * What it lists comes from a look at /proc and at the file locks, and can be
 * old when the answer comes. So nothing is removed because of that look, but
 * only by ways in which the kernel keeps out whoever would open it meanwhile:
 *
 *	arenas		tmc_shmem_unlink_idle()
 *	temporary	files that a death of a create left before they were
 *			arenas: the same locks, as create.c does it
 *	companions	without an arena: a lease, which the kernel gives only
 *			for a file that nobody has open, and then a look
 *			whether the arena is in the folder after all
 *
 * A companion has no way back to its arena but the inode number in its name,
 * and the arena can be on any file system. So of companions it removes only
 * those without an arena in the folder, and only when told to. A companion is
 * there before its arena's name is, so they are listed first: an arena that is
 * made meanwhile is seen where its companion was.
 */
#include "gc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
	"usage: shmemctl gc [OPTION...] [DIR]\n"
	"Removes the arenas in DIR (/dev/shm without) that nobody has open, "
	"with\n"
	"their companions, and what interrupted calls have left. Asks first.\n"
	"What came into use since the list was made is kept.\n\n"
	"  -y, --yes         do not ask\n"
	"  -n, --dry-run     only list\n"
	"  -c, --companions  also files of huge pages that nobody has open "
	"and\n"
	"                    whose arena is not in DIR, be it gone or "
	"elsewhere\n"
	"Exit code: 0; 1 something was not removed.\n";

/* ----- finding ----- */

static void add(struct gc_list *l, enum gc_kind kind, char *path, uint64_t used)
{
	struct gc_item *it;

	if (!(l->n & (l->n - 1)))
		l->v = ctl_alloc(l->v, l->n ? 2 * l->n : 1, sizeof(*l->v));
	it = &l->v[l->n++];
	memset(it, 0, sizeof(*it));
	it->kind = kind;
	it->path = path;
	it->used = used;
}

/* An arena: noted when idle, and its number in any case. */
static void add_arena(struct gc_list *l, const struct ctl_procs *p,
		      struct ctl_arena *a, char *path)
{
	struct ctl_locks locks;

	ctl_locks(a->fd, &locks);
	if (a->huge) {
		l->owners = ctl_alloc(l->owners, l->nowners + 1,
				      sizeof(*l->owners));
		l->owners[l->nowners++] = (uint64_t)a->st.st_ino;
	}
	if (ctl_locked(&locks) || ctl_procs_find(p, 0, &a->st)) {
		l->in_use++;
		free(path);
	} else if (a->wrong[0] && !a->lost) {
		ctl_error(path, "%s; left alone", a->wrong);
		free(path);
	} else {
		add(l, GC_ARENA, path, ctl_used(a));
	}
}

/* An exit code. Who has not seen all arenas must not take a companion for one
 * without. */
static int find_arenas(struct gc_list *l, const struct ctl_procs *p, int fd)
{
	struct dirent **names;
	int n = scandirat(fd, ".", &names, NULL, alphasort), i;

	if (n < 0)
		return ctl_errno(l->dir);
	for (i = 0; i < n; i++) {
		const char *name = names[i]->d_name;
		bool slash = l->dir[strlen(l->dir) - 1] == '/';
		char *path =
			ctl_format("%s%s%s", l->dir, slash ? "" : "/", name);
		struct ctl_arena a;
		struct stat st;

		if (!ctl_inspect_at(fd, name, path, &a)) {
			add_arena(l, p, &a, path);
			ctl_inspect_end(&a);
		} else if (gc_is_temporary(name) &&
			   !fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) &&
			   S_ISREG(st.st_mode) && !ctl_procs_find(p, 0, &st)) {
			add(l, GC_TEMPORARY, path,
			    (uint64_t)st.st_blocks * 512);
		} else {
			free(path);
		}
		free(names[i]);
	}
	free(names);
	return CTL_OK;
}

struct search {
	struct gc_list *l; /* of companions only */
	const struct ctl_procs *p;
	int code; /* an exit code */
};

static int find_companions(int dirfd, const char *dir, uint64_t pagesize,
			   void *arg)
{
	struct search *s = arg;
	struct dirent **names;
	int n, i;

	(void)pagesize;
	if (dirfd < 0)
		return 0;
	n = scandirat(dirfd, ".", &names, NULL, alphasort);
	if (n < 0)
		s->code = ctl_errno(dir);
	for (i = 0; i < n; i++) {
		const char *name = names[i]->d_name;
		struct stat st;
		uint64_t ino;

		if (gc_companion_owner(name, &ino) &&
		    !fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) &&
		    S_ISREG(st.st_mode) && !ctl_procs_find(s->p, 0, &st))
			add(s->l, GC_COMPANION, ctl_format("%s/%s", dir, name),
			    (uint64_t)st.st_blocks * 512);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	return 0;
}

/* Those of @found without an arena in the folder. */
static void add_orphans(struct gc_list *l, struct gc_list *found)
{
	uint64_t ino;
	size_t i;

	for (i = 0; i < found->n; i++) {
		struct gc_item *it = &found->v[i];

		if (gc_companion_owner(strrchr(it->path, '/') + 1, &ino) &&
		    !gc_owned(l, ino)) {
			add(l, GC_COMPANION, it->path, it->used);
			it->path = NULL;
		}
	}
}

static void end(struct gc_list *l)
{
	size_t i;

	for (i = 0; i < l->n; i++)
		free(l->v[i].path);
	free(l->v);
	free(l->owners);
}

/* ----- asking ----- */

static const char *const what[] = {
	[GC_ARENA] = "arena",
	[GC_TEMPORARY] = "temporary",
	[GC_COMPANION] = "companion",
};

static void print_list(const struct gc_list *l)
{
	char text[CTL_HUMAN];
	size_t i;

	for (i = 0; i < l->n; i++) {
		char *clean = ctl_clean(l->v[i].path);

		printf("%6s  %-9s  %s\n", ctl_human(l->v[i].used, text),
		       what[l->v[i].kind], clean);
		free(clean);
	}
	if (l->in_use)
		printf("%u in use are kept\n", l->in_use);
}

/* An exit code; CTL_OK: go on. */
static int ask(const struct gc_list *l)
{
	char answer[16];

	if (!isatty(STDIN_FILENO))
		return ctl_error(NULL, "nothing is removed without --yes, or "
				       "somebody to ask");
	printf("Remove %zu file%s? [y/N] ", l->n, l->n == 1 ? "" : "s");
	fflush(stdout);
	if (!fgets(answer, sizeof(answer), stdin) ||
	    (answer[0] != 'y' && answer[0] != 'Y'))
		return CTL_FAILED;
	return CTL_OK;
}

static int remove_all(const struct gc_list *l)
{
	uint64_t bytes = 0;
	unsigned int n = 0;
	char text[CTL_HUMAN];
	int code = CTL_OK;
	size_t i;

	for (i = 0; i < l->n; i++) {
		const struct gc_item *it = &l->v[i];

		if (!gc_remove(l->dir, it)) {
			n++;
			bytes += it->used;
		} else if (errno == EBUSY) {
			ctl_error(it->path, "came into use; kept");
		} else if (errno != ENOENT) {
			code = ctl_arena_error(it->path);
		}
	}
	printf("removed %u file%s, %s\n", n, n == 1 ? "" : "s",
	       ctl_human(bytes, text));
	return code;
}

static int collect(struct gc_list *l, bool companions)
{
	int fd = open(l->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct gc_list found = { 0 };
	struct ctl_procs p;
	struct search s = { &found, &p, CTL_OK };
	int code;

	if (fd < 0)
		return ctl_errno(l->dir);
	ctl_procs_scan(&p);
	if (companions)
		ctl_each_hugetlbfs(find_companions, &s);
	code = find_arenas(l, &p, fd);
	if (!code)
		code = s.code;
	if (!code)
		add_orphans(l, &found);
	end(&found);
	ctl_procs_end(&p);
	close(fd);
	return code;
}

int ctl_gc(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "yes", 0, NULL, 'y' },
		{ "dry-run", 0, NULL, 'n' },
		{ "companions", 0, NULL, 'c' },
		{ "help", 0, NULL, 'h' },
		{ 0 },
	};
	struct gc_list l = { .dir = "/dev/shm" };
	bool yes = false, dry = false, companions = false;
	int c;

	while ((c = ctl_option(argc, argv, "hync", longs, help)) != -1) {
		yes = yes || c == 'y';
		dry = dry || c == 'n';
		companions = companions || c == 'c';
	}
	/* An empty word is no folder: somebody's variable was not set. */
	if (optind < argc)
		l.dir = ctl_words(argc, argv, 1);
	c = collect(&l, companions);
	if (!c) {
		print_list(&l);
		if (l.n && !dry) {
			c = yes ? CTL_OK : ask(&l);
			if (!c)
				c = remove_all(&l);
		}
	}
	end(&l);
	return c;
}
