/* SPDX-License-Identifier: BSD-3-Clause */
/* file.c - files that tests copy, or fill a file system with. */
#include "file.h"

#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

int file_copy(const char *from, const char *to)
{
	static const int how = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = in < 0 ? -1 : open(to, how, 0600);
	char room[65536];
	ssize_t n = -1;

	if (out >= 0)
		while ((n = read(in, room, sizeof(room))) > 0)
			if (write(out, room, (size_t)n) != n)
				break;
	close(in);
	close(out);
	return n ? -1 : 0;
}

int file_fill(const char *path, size_t left)
{
	struct statfs sf;
	size_t len;
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), rc = -1;

	if (fd >= 0 && !fstatfs(fd, &sf)) {
		len = (size_t)sf.f_bavail * (size_t)sf.f_bsize;
		rc = len > left ? posix_fallocate(fd, 0, (off_t)(len - left))
				: 0;
	}
	close(fd);
	return rc ? -1 : 0;
}
