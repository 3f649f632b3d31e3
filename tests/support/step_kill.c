/* SPDX-License-Identifier: BSD-3-Clause */
/* step_kill.c - kills one process after the other, each a bit later in a call.
 */
#include "step_kill.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "step.h"

/* What a thread is of. */
static pid_t process_of(pid_t tid)
{
	char path[64], line[128];
	pid_t pid = tid;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Tgid: %d", &pid) == 1)
			break;
	if (f)
		fclose(f);
	return pid;
}

void step_end(pid_t pid)
{
	pid_t process;
	int status;

	if (pid <= 0)
		return;
	process = process_of(pid);
	kill(process, SIGKILL);
	waitpid(pid, &status, __WALL);
	if (process != pid)
		waitpid(process, &status, 0);
}

static int kill_at(const struct step_kill *k, const struct step_trace *t,
		   size_t n)
{
	pid_t pid = k->victim(k->arg);
	int bad = pid < 0 || step_begin(pid) || step_to(pid, t, n) < 0;

	step_end(pid);
	if (!bad)
		bad = peer_run(k->check, NULL);
	if (bad)
		fprintf(stderr, "%s: killed after %zu of %zu instructions\n",
			k->name, n, t->n);
	return bad ? -1 : 0;
}

static int kill_at_each(const struct step_kill *k, const struct step_trace *t,
			size_t *points)
{
	int soak = getenv("SOAK") != NULL, bad = 0;
	size_t n = step_choose(t, soak ? t->n + 1 : k->most, points);
	size_t most = soak ? k->soak_kills : k->most_kills;
	size_t step = most && n > most ? n / most : 1, kills = 0, i;
	size_t turns = soak ? k->soak_turns : 0;

	for (i = 0; i < n && !bad; i += step) {
		if (turns && t->nth[points[i]] >= turns)
			continue;
		bad = kill_at(k, t, points[i]);
		if (++kills % (k->renew ? k->deaths : n + 1) == 0)
			k->renew();
	}
	printf("%-24s %6zu instructions, killed at %zu\n", k->name, t->n,
	       kills);
	return bad;
}

int step_kill(const struct step_kill *k)
{
	struct step_trace t = { 0 };
	pid_t pid = k->victim(k->arg);
	int bad = pid < 0 || step_begin(pid) || step_record(pid, &t);
	size_t *points;

	step_end(pid);
	points = bad ? NULL : calloc(t.n + 1, sizeof(*points));
	bad = points ? kill_at_each(k, &t, points) : -1;
	free(points);
	step_forget(&t);
	return bad;
}
