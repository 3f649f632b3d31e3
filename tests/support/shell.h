/* SPDX-License-Identifier: BSD-3-Clause */
/* shell.h - runs shmemctl by the shell, as people do. */
#ifndef TESTS_SHELL_H
#define TESTS_SHELL_H

#include <stddef.h>
#include <stdint.h>

/* What the last one printed, errors too. */
extern char shell_out[1 << 18];

/*
 * Runs the shell's @format, where $ctl is this build's shmemctl, in a plain
 * locale, and without what people have in their environment. Its exit code, or
 * 128 and the signal that ended it; -1: it could not be run.
 */
int shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The rest of the first line that has @what in it; "" and a word on stderr
 * where none has. */
const char *shell_rest(const char *what);

size_t shell_lines(void);   /* how many there are */
size_t shell_longest(void); /* characters in the longest one */

/* Writes into a file, as nobody should. 0 or -1. */
int shell_damage(const char *path, size_t off, uint64_t word);

/* For test.h: one line that says so, and how it ended. */
#define assert_says(code, text, ...)                                           \
	do {                                                                   \
		assert_int_equal(shell(__VA_ARGS__), code);                    \
		assert_int_equal(shell_lines(), 1);                            \
		if (!strstr(shell_out, text))                                  \
			fail_msg("no \"%s\" in: %s", text, shell_out);         \
	} while (0)
#define assert_shows(text)                                                     \
	do {                                                                   \
		if (!strstr(shell_out, text))                                  \
			fail_msg("no \"%s\" in:\n%s", text, shell_out);        \
	} while (0)

#endif
