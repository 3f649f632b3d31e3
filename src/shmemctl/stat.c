/* SPDX-License-Identifier: BSD-3-Clause */
/* stat.c - what a header says, whether it is right, and who has it open */
#include "ctl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
	"usage: shmemctl stat [--json] PATH\n"
	"Shows each field of an arena's header with its meaning and whether "
	"it\n"
	"is right, its memory, and the processes that have it open. PATH can\n"
	"be /proc/PID/fd/N, for an arena without a name.\n\n"
	"  --json   for programs\n"
	"Exit code: 0; 1 it cannot be looked at, is no arena, or is damaged.\n";

static void print_fields(const struct ctl_arena *a)
{
	struct ctl_field f[CTL_FIELDS];
	size_t n = ctl_fields(a, f), i;

	for (i = 0; i < n; i++) {
		printf("  %-9s %-24s %s%s%s\n", f[i].name, f[i].value,
		       ctl_colour(CTL_DIM), f[i].meaning,
		       ctl_colour(CTL_PLAIN));
		if (f[i].wrong[0])
			printf("            %s%s: %s%s\n",
			       ctl_colour(f[i].note ? CTL_YELLOW : CTL_RED),
			       f[i].note ? "note" : "wrong", f[i].wrong,
			       ctl_colour(CTL_PLAIN));
	}
}

static void print_memory(const struct ctl_arena *a)
{
	char text[CTL_HUMAN];

	printf("  memory    %s in the file",
	       ctl_human((uint64_t)a->st.st_blocks * 512, text));
	if (a->huge && a->companion)
		printf(", %s in %s",
		       ctl_human((uint64_t)a->huge_st.st_blocks * 512, text),
		       a->companion);
	printf("\n  mode      %04o, user %u, group %u\n",
	       (unsigned int)a->st.st_mode & 07777, (unsigned int)a->st.st_uid,
	       (unsigned int)a->st.st_gid);
}

static void print_processes(const struct ctl_procs *p,
			    const struct ctl_arena *a,
			    const struct ctl_locks *l)
{
	const struct ctl_proc *v = ctl_procs_find(p, 0, &a->st);

	if (!v && !ctl_locked(l)) {
		printf("nobody has it open\n");
		return;
	}
	if (ctl_locked(l))
		printf("open by %u that write%s%s\n", l->writers,
		       l->guests ? ", guests" : "",
		       l->readers ? ", readers" : "");
	else
		printf("open, not through the library\n");
	for (; v; v = ctl_procs_find(p, (size_t)(v - p->v) + 1, &a->st))
		printf("  %7d  %-16s %s\n", v->pid, v->name,
		       v->writes ? "reads and writes" : "reads");
	if (p->hidden)
		printf("  %s%zu processes may not be looked into%s\n",
		       ctl_colour(CTL_DIM), p->hidden, ctl_colour(CTL_PLAIN));
}

static void print_json(const char *path, const struct ctl_procs *p,
		       const struct ctl_arena *a, const struct ctl_locks *l)
{
	struct ctl_field f[CTL_FIELDS];
	size_t n = ctl_fields(a, f), i;

	ctl_json_open(NULL, '{');
	ctl_json_text("name", path);
	ctl_json_arena(a);
	ctl_json_open("fields", '[');
	for (i = 0; i < n; i++) {
		ctl_json_open(NULL, '{');
		ctl_json_text("name", f[i].name);
		ctl_json_text("value", f[i].value);
		ctl_json_text("meaning", f[i].meaning);
		ctl_json_bool("right", !f[i].wrong[0] || f[i].note);
		ctl_json_text("remark", f[i].wrong[0] ? f[i].wrong : NULL);
		ctl_json_close();
	}
	ctl_json_close();
	ctl_procs_json(p, a, l);
	ctl_json_close();
}

int ctl_stat(int argc, char **argv)
{
	static const struct option longs[] = { { "json", 0, NULL, 'j' },
					       { "help", 0, NULL, 'h' },
					       { 0 } };
	struct ctl_procs p;
	struct ctl_arena a;
	struct ctl_locks l;
	const char *path, *wrong;
	bool json = false;
	int c;

	while ((c = ctl_option(argc, argv, "hj", longs, help)) != -1)
		json = json || c == 'j';
	path = ctl_words(argc, argv, 1);
	wrong = ctl_inspect(path, &a);
	if (wrong)
		return ctl_error(path, "%s", wrong);
	ctl_procs_scan(&p);
	ctl_procs_companion(&p, &a);
	ctl_locks(a.fd, &l);
	if (json) {
		print_json(path, &p, &a, &l);
	} else {
		printf("%s%s%s\n", ctl_colour(CTL_BOLD), a.path,
		       ctl_colour(CTL_PLAIN));
		print_fields(&a);
		print_memory(&a);
		print_processes(&p, &a, &l);
	}
	c = a.wrong[0] ? ctl_error(path, "%s", a.wrong) : CTL_OK;
	ctl_procs_end(&p);
	ctl_inspect_end(&a);
	return c;
}
