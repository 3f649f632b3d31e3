/* SPDX-License-Identifier: BSD-3-Clause */
/* look.c - the start of the commands that look inside */
#include "look.h"

static void find_companion(struct ctl_arena *a)
{
	struct ctl_procs p;

	ctl_procs_scan(&p);
	ctl_procs_companion(&p, a);
	ctl_procs_end(&p);
}

int ctl_look(const char *path, struct ctl_arena *a, struct ctl_locks *l)
{
	const char *wrong = ctl_inspect(path, a);

	if (wrong)
		return ctl_error(path, "%s", wrong);
	if (a->huge && a->hugefd < 0)
		find_companion(a);
	if (a->wrong[0]) {
		ctl_error(path, "%s", a->wrong);
		ctl_inspect_end(a);
		return CTL_FAILED;
	}
	ctl_locks(a->fd, l);
	return CTL_OK;
}
