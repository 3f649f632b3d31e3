/* SPDX-License-Identifier: BSD-3-Clause */
/* replay.h - runs what the fuzzers found worth keeping. For tests. */
#ifndef FUZZ_REPLAY_H
#define FUZZ_REPLAY_H

#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define CORPUS "tests/fuzz/corpus/"

/* All inputs in @dir; how many. */
static int replay(const char *dir, void (*run)(const uint8_t *, size_t))
{
	static unsigned char bytes[4096];
	DIR *d = opendir(dir);
	struct dirent *entry;
	char path[512];
	int n = 0;

	assert_non_null(d);
	while ((entry = readdir(d))) {
		ssize_t len;
		int fd;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		len = read(fd, bytes, sizeof(bytes));
		assert_true(len >= 0);
		close(fd);
		run(bytes, (size_t)len);
		n++;
	}
	closedir(d);
	return n;
}

#endif
