/* SPDX-License-Identifier: BSD-3-Clause */
/* rm.c - remove an arena's name, and its companion's */
#include "ctl.h"

#include <errno.h>

static const char help[] =
	"usage: shmemctl rm [--idle] PATH...\n"
	"Removes arenas, with the files of their huge pages. Those who have "
	"one\n"
	"open go on, and memory goes with the last of them. What is no arena, "
	"or\n"
	"a damaged one, is left alone; rm(1) removes that.\n\n"
	"  -i, --idle  only those that nobody has open\n"
	"Exit code: 0; 1 one of them was not removed.\n";

static int error(const char *path)
{
	struct stat st;
	int err = errno;

	if (err == EINVAL && !lstat(path, &st) && S_ISLNK(st.st_mode))
		return ctl_error(path, "is a link, and rm does not follow "
				       "symbolic links");
	errno = err;
	return ctl_arena_error(path);
}

int ctl_rm(int argc, char **argv)
{
	static const struct option longs[] = { { "idle", 0, NULL, 'i' },
					       { "help", 0, NULL, 'h' },
					       { 0 } };
	int (*remove_it)(const char *path) = tmc_shmem_unlink;
	int code = CTL_OK;

	while (ctl_option(argc, argv, "hi", longs, help) != -1)
		remove_it = tmc_shmem_unlink_idle;
	if (optind == argc)
		ctl_words(argc, argv, 1);
	for (; optind < argc; optind++)
		if (remove_it(argv[optind]))
			code = error(argv[optind]);
	return code;
}
