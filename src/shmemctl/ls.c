/* SPDX-License-Identifier: BSD-3-Clause */
/* ls.c - arenas, their memory, and who has them open */
#include "ctl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
	"usage: shmemctl ls [--json] [DIR...]\n"
	"Lists the arenas in /dev/shm and in the folders given (or files), "
	"and\n"
	"those without a name that processes have open.\n\n"
	"  SIZE     bytes in use\n"
	"  MAX      what it can grow to\n"
	"  USED     memory or disk that its files really have\n"
	"  PAGE     page size\n"
	"  STATE    open, stale (nobody has it open), no name, or damaged\n"
	"  OPEN BY  processes\n\n"
	"  --json   for programs\n"
	"Exit code: 0; 1 a folder cannot be read, or an arena is damaged.\n";

/* An arena that was found, its files closed again. */
struct item {
	struct ctl_arena a;
	struct ctl_locks l;
	char *path;
	char *name;  /* the same as it can be shown */
	bool gone;   /* it has none any more, this is what it was */
	char *where; /* gone: a process's descriptor */
	char *users; /* or, first, what is wrong with it */
};

struct list {
	struct item *v;
	size_t n;
	struct ctl_procs procs;
	unsigned int closed; /* files that may not be read */
	unsigned int damaged;
	int code;
};

/* ----- finding ----- */

static void add(struct list *l, struct ctl_arena *a, const char *name,
		bool gone)
{
	struct item *it;

	if (!(l->n & (l->n - 1)))
		l->v = ctl_alloc(l->v, l->n ? 2 * l->n : 1, sizeof(*l->v));
	it = &l->v[l->n++];
	memset(it, 0, sizeof(*it));
	ctl_procs_companion(&l->procs, a);
	ctl_locks(a->fd, &it->l);
	it->path = ctl_format("%s", name);
	it->name = ctl_clean(name);
	it->gone = gone;
	if (gone)
		it->where = ctl_format("%s", a->path);
	it->users = ctl_procs_text(&l->procs, a, &it->l);
	l->damaged += a->wrong[0] != '\0';
	ctl_inspect_close(a);
	it->a = *a;
}

static bool listed(const struct list *l, const struct stat *st)
{
	size_t i;

	for (i = 0; i < l->n; i++)
		if (l->v[i].a.st.st_dev == st->st_dev &&
		    l->v[i].a.st.st_ino == st->st_ino)
			return true;
	return false;
}

/* What is no arena, or may not be read, is not what was asked for. */
static void add_names(struct list *l, const char *dir, int fd)
{
	struct dirent **names;
	int n = scandirat(fd, ".", &names, NULL, alphasort), i;

	for (i = 0; i < n; i++) {
		struct ctl_arena a = { .fd = -1 };
		char *path = ctl_format("%s%s%s", dir,
					dir[strlen(dir) - 1] == '/' ? "" : "/",
					names[i]->d_name);

		errno = 0;
		if (!ctl_inspect_at(fd, names[i]->d_name, path, &a)) {
			if (listed(l, &a.st))
				ctl_inspect_end(&a);
			else
				add(l, &a, path, false);
		} else if (errno == EACCES) {
			l->closed++;
		}
		free(path);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	else
		l->code = ctl_errno(dir);
}

static void add_place(struct list *l, const char *path, bool must)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct ctl_arena a = { .fd = -1 };
	const char *wrong;

	if (fd >= 0) {
		add_names(l, path, fd);
		close(fd);
		return;
	}
	if (!must)
		return;
	wrong = errno == ENOTDIR ? ctl_inspect(path, &a) : strerror(errno);
	if (wrong)
		l->code = ctl_error(path, "%s", wrong);
	else if (listed(l, &a.st))
		ctl_inspect_end(&a);
	else
		add(l, &a, path, false);
}

/* The name that it had, as that descriptor of it tells. */
static char *old_name(pid_t pid, int fd)
{
	static const char mark[] = " (deleted)";
	char link[64], text[PATH_MAX];
	ssize_t n;
	size_t len;

	snprintf(link, sizeof(link), "/proc/%d/fd/%d", pid, fd);
	n = readlink(link, text, sizeof(text) - 1);
	len = n > 0 ? (size_t)n : 0;
	if (len > sizeof(mark) &&
	    !memcmp(text + len - (sizeof(mark) - 1), mark, sizeof(mark) - 1))
		len -= sizeof(mark) - 1;
	text[len] = '\0';
	return ctl_format("%s", len ? text : "?");
}

/* What its creator has is "#" and a number, since it had no name at first. */
static char *best_name(const struct ctl_procs *p, const struct stat *st)
{
	const struct ctl_proc *v = ctl_procs_find(p, 0, st);
	char *name = ctl_format("?");

	for (; v; v = ctl_procs_find(p, (size_t)(v - p->v) + 1, st)) {
		const char *last;

		free(name);
		name = old_name(v->pid, v->fd);
		last = strrchr(name, '/');
		if (!last || last[1] != '#')
			break;
	}
	return name;
}

static void add_nameless(struct list *l)
{
	size_t i;

	for (i = 0; i < l->procs.n; i++) {
		const struct ctl_proc *v = &l->procs.v[i];
		struct stat st = { .st_dev = v->dev, .st_ino = v->ino };
		struct ctl_arena a = { .fd = -1 };
		char *name;

		if (!v->gone || v->huge || listed(l, &st) ||
		    ctl_procs_inspect(&l->procs, v->pid, v->fd, &a))
			continue;
		name = best_name(&l->procs, &a.st);
		add(l, &a, name, true);
		free(name);
	}
}

/* ----- showing ----- */

enum { SIZE, MAX, USED, PAGE, STATE, NUMBERS };
static const char *const heads[NUMBERS] = { "SIZE", "MAX", "USED", "PAGE",
					    "STATE" };
struct row {
	char text[NUMBERS][CTL_HUMAN];
	enum ctl_colour colour;
};

static void make_row(const struct item *it, struct row *r)
{
	bool open = *it->users || ctl_locked(&it->l);

	if (it->a.valid) {
		ctl_human(it->a.size, r->text[SIZE]);
		ctl_human(it->a.h.c.maxsize, r->text[MAX]);
		ctl_human(it->a.h.c.pagesize, r->text[PAGE]);
	} else {
		snprintf(r->text[SIZE], CTL_HUMAN, "-");
		snprintf(r->text[MAX], CTL_HUMAN, "-");
		snprintf(r->text[PAGE], CTL_HUMAN, "-");
	}
	ctl_human(ctl_used(&it->a), r->text[USED]);
	snprintf(r->text[STATE], CTL_HUMAN, "%s",
		 it->a.wrong[0] ? "damaged"
		 : it->gone	? "no name"
		 : open		? "open"
				: "stale");
	r->colour = it->a.wrong[0] ? CTL_RED
		    : it->gone	   ? CTL_MAGENTA
		    : open	   ? CTL_GREEN
				   : CTL_YELLOW;
}

/* @text in at most @columns, or with an ellipsis at its end. */
static void print_cut(const char *text, unsigned int columns)
{
	const char *dots = ctl_utf8() ? "\u2026" : "...";
	unsigned int mark = ctl_utf8() ? 1 : 3;
	char *copy = ctl_format("%s", text);
	size_t len = strlen(copy);

	if (ctl_columns(copy) > columns) {
		while (len && ctl_columns(copy) + mark > columns) {
			do
				len--;
			while (len && (copy[len] & 0xc0) == 0x80);
			copy[len] = '\0';
		}
		printf("%s%s", copy, columns >= mark ? dots : "");
	} else {
		fputs(copy, stdout);
	}
	free(copy);
}

static char *last_column(const struct item *it)
{
	const char *parts[3] = { it->a.wrong, it->users,
				 it->where ? it->where : "" };
	char *text = ctl_format("%s", "");
	size_t i;

	for (i = 0; i < 3; i++) {
		char *old = text;

		if (!*parts[i])
			continue;
		text = ctl_format("%s%s%s", old, *old ? "; " : "", parts[i]);
		free(old);
	}
	return text;
}

struct table {
	unsigned int name, number[NUMBERS]; /* columns */
	unsigned int width;		    /* of all; 0: as wide as it gets */
};

static unsigned int figures(const struct table *t)
{
	unsigned int sum = 0, k;

	for (k = 0; k < NUMBERS; k++)
		sum += 2 + t->number[k];
	return sum;
}

#define LAST_MIN 18u
#define NAME_MIN 10u

static void measure(const struct list *l, const struct row *rows,
		    struct table *t)
{
	unsigned int most;
	size_t i, k;

	memset(t, 0, sizeof(*t));
	t->width = ctl_width(0);
	t->name = 4;
	for (k = 0; k < NUMBERS; k++)
		t->number[k] = (unsigned int)strlen(heads[k]);
	for (i = 0; i < l->n; i++) {
		unsigned int n = ctl_columns(l->v[i].name);

		if (n > t->name)
			t->name = n;
		for (k = 0; k < NUMBERS; k++) {
			n = (unsigned int)strlen(rows[i].text[k]);
			if (n > t->number[k])
				t->number[k] = n;
		}
	}
	if (!t->width)
		return;
	most = t->width > figures(t) + LAST_MIN + 2 + NAME_MIN
		       ? t->width - figures(t) - LAST_MIN - 2
		       : NAME_MIN;
	if (t->name > most)
		t->name = most;
}

static void print_row(const struct table *t, const char *name,
		      const struct row *r, const char *last)
{
	unsigned int n = ctl_columns(name), k, left;

	/* A name that is too long has a line of its own. */
	if (n > t->name)
		printf("%s\n%*s", name, (int)t->name, "");
	else
		printf("%s%*s", name, (int)(t->name - n), "");
	for (k = 0; k < STATE; k++)
		printf("  %*s", (int)t->number[k], r->text[k]);
	printf("  %s%s%s", ctl_colour(r->colour), r->text[STATE],
	       ctl_colour(CTL_PLAIN));
	if (*last) {
		printf("%*s",
		       (int)(t->number[STATE] + 2 -
			     (unsigned int)strlen(r->text[STATE])),
		       "");
		left = t->name + figures(t) + 2;
		if (!t->width)
			fputs(last, stdout);
		else
			print_cut(last, t->width > left ? t->width - left : 0);
	}
	putchar('\n');
}

static void print_table(const struct list *l)
{
	struct row *rows = ctl_alloc(NULL, l->n, sizeof(*rows)), head;
	struct table t;
	size_t i;

	for (i = 0; i < l->n; i++)
		make_row(&l->v[i], &rows[i]);
	measure(l, rows, &t);
	for (i = 0; i < NUMBERS; i++)
		snprintf(head.text[i], CTL_HUMAN, "%s", heads[i]);
	head.colour = CTL_PLAIN;
	if (l->n)
		print_row(&t, "NAME", &head, "OPEN BY");
	for (i = 0; i < l->n; i++) {
		char *last = last_column(&l->v[i]);

		print_row(&t, l->v[i].name, &rows[i], last);
		free(last);
	}
	if (l->closed)
		printf("%u file%s may not be read\n", l->closed,
		       l->closed == 1 ? "" : "s");
	free(rows);
}

static void print_json(const struct list *l)
{
	size_t i;

	ctl_json_open(NULL, '[');
	for (i = 0; i < l->n; i++) {
		const struct item *it = &l->v[i];
		const struct ctl_arena *a = &it->a;

		ctl_json_open(NULL, '{');
		ctl_json_text("name", it->path);
		ctl_json_bool("name_gone", it->gone);
		ctl_json_text("descriptor", it->where);
		ctl_json_arena(a);
		ctl_json_bool("stale", !*it->users && !ctl_locked(&it->l));
		ctl_procs_json(&l->procs, a, &it->l);
		ctl_json_close();
	}
	ctl_json_close();
}

static void end(struct list *l)
{
	size_t i;

	for (i = 0; i < l->n; i++) {
		ctl_inspect_end(&l->v[i].a);
		free(l->v[i].path);
		free(l->v[i].name);
		free(l->v[i].where);
		free(l->v[i].users);
	}
	free(l->v);
	ctl_procs_end(&l->procs);
}

int ctl_ls(int argc, char **argv)
{
	static const struct option longs[] = { { "json", 0, NULL, 'j' },
					       { "help", 0, NULL, 'h' },
					       { 0 } };
	struct list l = { .code = CTL_OK };
	bool json = false;
	int c;

	while ((c = ctl_option(argc, argv, "hj", longs, help)) != -1)
		json = json || c == 'j';
	ctl_procs_scan(&l.procs);
	add_place(&l, "/dev/shm", false);
	for (; optind < argc; optind++)
		add_place(&l, argv[optind], true);
	add_nameless(&l);
	if (json)
		print_json(&l);
	else
		print_table(&l);
	if (l.damaged)
		l.code = ctl_error(NULL, "%u arena%s damaged", l.damaged,
				   l.damaged == 1 ? " is" : "s are");
	c = l.code;
	end(&l);
	return c;
}
