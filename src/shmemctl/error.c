/* SPDX-License-Identifier: BSD-3-Clause */
/* error.c - what the library says of an arena, in words */
#include "ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/vfs.h>

int ctl_arena_error(const char *path)
{
	int err = errno;
	struct ctl_arena a;
	const char *wrong;

	switch (err) {
	case EADDRINUSE:
		return ctl_error(path, "its address range is taken here");
	case EUSERS:
		return ctl_error(path, "more processes have it open than fit");
	case EUCLEAN:
		return ctl_error(path, "what others share was overwritten");
	case EBUSY:
		return ctl_error(path, "somebody has it open");
	case ENODEV:
		return ctl_error(path, "no hugetlbfs mount of that page size "
				       "that we can write to");
	case EOPNOTSUPP:
	case ENOLCK:
		return ctl_error(path, "the file system has no file locks");
	case EINVAL:
	case ENOENT:
		/* It only says that; a look says what it is. */
		wrong = ctl_inspect(path, &a);
		if (wrong)
			return ctl_error(path, "%s", wrong);
		if (a.wrong[0])
			ctl_error(path, "%s", a.wrong);
		else
			ctl_error(path, "%s", strerror(err));
		ctl_inspect_end(&a);
		return CTL_FAILED;
	}
	return ctl_error(path, "%s", strerror(err));
}

/* Whether a file of that length is more than ulimit -f lets be; then the line,
 * too. */
static bool is_limited(const char *path, uint64_t len)
{
	char text[CTL_HUMAN];
	struct rlimit r;

	if (getrlimit(RLIMIT_FSIZE, &r) || r.rlim_cur == RLIM_INFINITY ||
	    len <= r.rlim_cur)
		return false;
	ctl_error(path, "files of this process are limited to %s (ulimit -f)",
		  ctl_human(r.rlim_cur, text));
	return true;
}

int ctl_create_error(const char *path, uint64_t maximum)
{
	char *folder = ctl_format("%s", path), *slash = strrchr(folder, '/');
	char text[CTL_HUMAN];
	struct statfs s;
	bool known;

	if (slash)
		slash[slash == folder] = '\0';
	known = !statfs(slash ? folder : ".", &s);
	free(folder);
	if (is_limited(path, LAYOUT_DATA_OFF))
		return CTL_FAILED;
	if (known && s.f_files && !s.f_ffree)
		return ctl_error(path, "the file system has no room for one "
				       "more file (inode)");
	if (known && s.f_blocks &&
	    (uint64_t)s.f_bavail * (uint64_t)s.f_bsize < LAYOUT_HDR_LEN)
		return ctl_error(path, "the file system is full");
	return ctl_error(path, "no room for a maximum of %s",
			 ctl_human(maximum, text));
}

int ctl_room_error(const char *path, const tmc_shmem_t *shm, uint64_t bytes)
{
	uint64_t max = tmc_shmem_maximum_size(shm);
	uint64_t size = tmc_shmem_current_size(shm);
	char want[CTL_HUMAN], have[CTL_HUMAN];
	int fd = tmc_shmem_hugefd(shm);
	uint64_t off = fd < 0 ? LAYOUT_DATA_OFF : 0;
	struct statfs s;

	if (errno != ENOMEM)
		return ctl_arena_error(path);
	if (bytes > max - size)
		return ctl_error(path, "%s more are beyond its maximum, %s",
				 ctl_human(bytes, want), ctl_human(max, have));
	if (is_limited(path, off + size + bytes))
		return CTL_FAILED;
	if (fd < 0)
		fd = tmc_shmem_fd(shm);
	if (!fstatfs(fd, &s) && s.f_blocks &&
	    bytes > (uint64_t)s.f_bavail * (uint64_t)s.f_bsize)
		return ctl_error(
			path, "no room for %s, the file system has %s left",
			ctl_human(bytes, want),
			ctl_human((uint64_t)s.f_bavail * (uint64_t)s.f_bsize,
				  have));
	return ctl_error(path, "no room for %s", ctl_human(bytes, want));
}
