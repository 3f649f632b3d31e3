/* SPDX-License-Identifier: BSD-3-Clause */
/* command.c - runs a program and keeps what it prints. Asserts nothing. */
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "box.h"
#include "file.h"
#include "peer.h"

struct pipes {
	const struct command *c;
	const char *const *argv;
	int out[2], err[2];
};

static int child(struct peer *self, void *arg)
{
	const struct pipes *p = arg;
	const char *input = p->c->terminal ? p->c->terminal : "/dev/null";
	const char *output = p->c->terminal ? p->c->terminal : p->c->output;
	int in = open(input, O_RDONLY | O_NOCTTY), out = p->out[1];

	(void)self;
	if (output)
		out = open(output, O_WRONLY | O_NOCTTY);
	if (dup2(in, 0) || dup2(out, 1) != 1 || dup2(p->err[1], 2) != 2)
		return 126;
	if (p->c->directory && chdir(p->c->directory))
		return 126;
	if (p->c->ignores_pipe)
		signal(SIGPIPE, SIG_IGN);
	if (p->c->uid && peer_become(p->c->uid))
		return 126;
	execv(p->argv[0], (char *const *)p->argv);
	return 126;
}

/* Until both pipes' other ends are closed. */
static void collect(struct command *c, struct pipes *p)
{
	struct pollfd fds[2] = { { p->out[0], POLLIN, 0 },
				 { p->err[0], POLLIN, 0 } };
	char *to[2] = { c->out, c->err };
	size_t room[2] = { sizeof(c->out) - 1, sizeof(c->err) - 1 };
	int left = 2, i;

	while (left) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		for (i = 0; i < 2; i++) {
			ssize_t n;
			char rest[512];

			if (fds[i].fd < 0 || !fds[i].revents)
				continue;
			n = room[i] ? read(fds[i].fd, to[i], room[i])
				    : read(fds[i].fd, rest, sizeof(rest));
			if (n <= 0) {
				fds[i].fd = -1;
				left--;
			} else if (room[i]) {
				to[i] += n;
				room[i] -= (size_t)n;
			}
		}
	}
	*to[0] = *to[1] = '\0';
}

/* What `make coverage` says where another user may not write its counts. */
static void drop_profiling(char *text)
{
	static const char mark[] = "profiling:";
	char *line;

	while ((line = strstr(text, mark))) {
		char *end = strchr(line, '\n');

		if (!end) {
			*line = '\0';
			break;
		}
		memmove(line, end + 1, strlen(end + 1) + 1);
	}
}

int command_run(struct command *c, const char *const *argv)
{
	struct pipes p = { .c = c, .argv = argv };
	struct peer peer;

	if (pipe2(p.out, O_CLOEXEC) || pipe2(p.err, O_CLOEXEC) ||
	    peer_fork(&peer, child, &p))
		return -1;
	close(p.out[1]);
	close(p.err[1]);
	collect(c, &p);
	drop_profiling(c->err);
	close(p.out[0]);
	close(p.err[0]);
	c->code = peer_end(&peer);
	return c->code == 126 ? -1 : 0;
}

/*
 * /.../tests/agents/x is beside /.../shmemctl. As root a copy of it in the box:
 * others may not be let in where it was built (/root, say).
 */
const char *command_shmemctl_path(void)
{
	static char path[PATH_MAX + 16];
	char *end;

	if (path[0])
		return path;
	snprintf(path, PATH_MAX, "%s", peer_agent("x"));
	end = strstr(path, "/tests/agents/x");
	strcpy(end ? end : path, "/shmemctl");
	if (box_can_mount()) {
		const char *copy = box_path(".bin/shmemctl");

		/* Whatever the umask is. A peer may have made it before. */
		if (!mkdir(box_path(".bin"), 0755) && !file_copy(path, copy) &&
		    !chmod(copy, 0755))
			chmod(box_path(".bin"), 0755);
		if (!access(copy, X_OK))
			snprintf(path, PATH_MAX, "%s", copy);
	}
	return path;
}

int command_shmemctl(struct command *c, const char *const *args)
{
	const char *argv[64];
	int i;

	argv[0] = command_shmemctl_path();
	for (i = 1; i < 63 && args[i - 1]; i++)
		argv[i] = args[i - 1];
	argv[i] = NULL;
	return command_run(c, argv);
}

int command_lines(const char *text)
{
	int n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

const char *command_squeeze(const char *text)
{
	static char room[4][4096];
	static unsigned int next;
	char *start = room[next++ % 4], *to = start;

	for (; *text && to < start + 4095; text++)
		if (*text != ' ' || (to > start && to[-1] != ' '))
			*to++ = *text;
	*to = '\0';
	return start;
}

const char *command_line(const char *text, const char *start)
{
	static char line[4096];
	size_t n = strlen(start);

	while (*text) {
		const char *end = strchr(text, '\n');
		size_t len = end ? (size_t)(end - text) : strlen(text);
		size_t blank = strspn(text, " ");

		if (!strncmp(text + blank, start, n)) {
			snprintf(line, sizeof(line), "%.*s", (int)len, text);
			return line;
		}
		text += len + (end != NULL);
	}
	return NULL;
}

int command_wait_for(int terminal, const char *text, char *seen, size_t room)
{
	size_t n = strlen(seen);

	while (!strstr(seen, text)) {
		ssize_t got = read(terminal, seen + n, room - 1 - n);

		if (got <= 0)
			return -1;
		n += (size_t)got;
		seen[n] = '\0';
	}
	return 0;
}
