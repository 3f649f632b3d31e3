/* SPDX-License-Identifier: BSD-3-Clause */
/* main.c - shmemctl: a command to look inside arenas. Manual: shmemctl(1). */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <tmc/shmem.h>
#include <unistd.h>

static const struct {
	const char *name, *args, *summary;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "ls", "[DIR...]", "arenas, their memory, and who has them open",
	  ctl_ls },
	{ "stat", "PATH", "what the header says, and whether it is right",
	  ctl_stat },
	{ "map", "PATH", "a picture of its pages", ctl_map },
	{ "heap", "PATH", "its heaps: statistics and a check", ctl_heap },
	{ "check", "PATH", "whether it is whole; the exit code says it, too",
	  ctl_check },
	{ "create", "PATH [MAX]", "make an arena", ctl_create },
	{ "grow", "PATH BYTES", "append pages to it", ctl_grow },
	{ "rm", "PATH...", "remove its name, and the companion's", ctl_rm },
	{ "gc", "[DIR]", "remove what nobody has open", ctl_gc },
	{ "why", "PATH PID", "could that process open it, and if not, why",
	  ctl_why },
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void help(void)
{
	size_t i;

	printf("usage: shmemctl COMMAND [OPTION...] [ARGUMENT...]\n"
	       "Looks at arenas of libshmem, and makes and removes them.\n\n");
	for (i = 0; i < COMMANDS; i++)
		printf("  %-7s %-12s %s\n", commands[i].name, commands[i].args,
		       commands[i].summary);
	printf("\n  --help      this, or with a command its own\n"
	       "  --version   the version\n\n"
	       "Exit code: 0 done, 1 not done, 2 not understood, "
	       "3 check or why: no.\n"
	       "Manual: shmemctl(1)\n");
}

/*
 * A descriptor that was closed would be given to the next file, which can be
 * an arena, and what is printed would be written into that. What takes its
 * place cannot be used either, so that lost output is told as it would be.
 */
static int take_standard_files(void)
{
	int fd;

	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd)
			return -1;
	return 0;
}

int main(int argc, char **argv)
{
	size_t i;

	if (take_standard_files())
		return CTL_FAILED; /* and nowhere to say why */
	setlocale(LC_CTYPE, "");
	if (argc < 2)
		return ctl_finish(ctl_usage(NULL, "a command is missing"));
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
	    !strcmp(argv[1], "help")) {
		help();
		return ctl_finish(CTL_OK);
	}
	if (!strcmp(argv[1], "--version")) {
		unsigned int v = tmc_shmem_version();

		printf("shmemctl %u.%u.%u\n", v >> 16, v >> 8 & 255, v & 255);
		return ctl_finish(CTL_OK);
	}
	for (i = 0; i < COMMANDS; i++)
		if (!strcmp(argv[1], commands[i].name))
			return ctl_finish(commands[i].run(argc - 1, argv + 1));
	return ctl_finish(ctl_usage(NULL, "there is no command %s", argv[1]));
}
