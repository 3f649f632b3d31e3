/* SPDX-License-Identifier: BSD-3-Clause */
/* shell.c - runs shmemctl by the shell. Asserts nothing. */
#include "shell.h"

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"

char shell_out[1 << 18];

/* What the coverage's run-time says where it may not write is not ours. */
static void drop_profiling(void)
{
	char *at, *rest;

	while ((at = strstr(shell_out, "profiling:"))) {
		rest = at + strcspn(at, "\n");
		rest += *rest == '\n';
		memmove(at, rest, strlen(rest) + 1);
	}
}

int shell(const char *format, ...)
{
	char command[PATH_MAX * 2], all[PATH_MAX * 4];
	size_t n;
	va_list list;
	FILE *f;
	int rc;

	va_start(list, format);
	vsnprintf(command, sizeof(command), format, list);
	va_end(list);
	snprintf(all, sizeof(all),
		 "unset COLUMNS NO_COLOR; export LC_ALL=C; ctl='%s'; "
		 "{ %s; } 2>&1",
		 command_shmemctl_path(), command);
	f = popen(all, "re");
	if (!f)
		return -1;
	n = fread(shell_out, 1, sizeof(shell_out) - 1, f);
	shell_out[n] = '\0';
	rc = pclose(f);
	drop_profiling();
	return WIFEXITED(rc) ? WEXITSTATUS(rc) : 128 + WTERMSIG(rc);
}

const char *shell_rest(const char *what)
{
	static char text[4096];
	const char *at = strstr(shell_out, what);

	if (!at) {
		fprintf(stderr, "no \"%s\" in:\n%s\n", what, shell_out);
		return "";
	}
	at += strlen(what);
	snprintf(text, sizeof(text), "%.*s", (int)strcspn(at, "\n"), at);
	return text;
}

size_t shell_lines(void)
{
	return (size_t)command_lines(shell_out);
}

/* In UTF-8. */
size_t shell_longest(void)
{
	size_t most = 0, n = 0;
	const char *p;

	for (p = shell_out; *p; p++) {
		n = *p == '\n' ? 0 : n + (((unsigned char)*p & 0xc0) != 0x80);
		most = n > most ? n : most;
	}
	return most;
}

int shell_damage(const char *path, size_t off, uint64_t word)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = pwrite(fd, &word, sizeof(word), (off_t)off);

	if (fd >= 0)
		close(fd);
	return n == sizeof(word) ? 0 : -1;
}
