/* SPDX-License-Identifier: BSD-3-Clause */
/* command.h - runs a program and keeps what it prints. */
#ifndef TESTS_COMMAND_H
#define TESTS_COMMAND_H

#include <sys/types.h>

struct command {
	/* Set before, or 0. */
	uid_t uid;	       /* runs as that user, without rights */
	const char *directory; /* runs in there */
	const char *output;    /* a file instead of @out */
	const char *terminal;  /* a file for input and output */
	int ignores_pipe;      /* SIGPIPE is ignored, as its parent can say */

	/* Set by the run. */
	int code; /* exit code, or 128 and the signal that ended it */
	char out[1 << 18], err[1 << 14];
};

/* @argv[0] is a path. 0, or -1: it could not be run. */
int command_run(struct command *c, const char *const *argv);

/* The same for shmemctl of this build; @args ends in NULL. */
int command_shmemctl(struct command *c, const char *const *args);

/* Its path. */
const char *command_shmemctl_path(void);

#define SHMEMCTL(c, ...)                                                       \
	command_shmemctl(c, (const char *const[]){ __VA_ARGS__, NULL })

/* Lines of @text. */
int command_lines(const char *text);

/* @text with runs of blanks as one; one of 4 buffers that are used in turn. */
const char *command_squeeze(const char *text);

/* The line of @text that begins with @start, or has it behind blanks; NULL. */
const char *command_line(const char *text, const char *start);

/* Reads from @terminal until @text has been seen: 0, or -1: it never was. @seen
 * is what was read before, and all that was afterwards. */
int command_wait_for(int terminal, const char *text, char *seen, size_t room);

#endif
