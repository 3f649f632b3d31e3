/* SPDX-License-Identifier: BSD-3-Clause */
/* gc_remove.c - removing a file only if nobody has it open */
#include "gc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEX "0123456789abcdef"

bool gc_is_temporary(const char *name)
{
	static const char mark[] = ".tmcnew-";
	size_t len = strlen(name), tail = sizeof(mark) - 1 + 16;

	return name[0] == '.' && len > tail + 1 &&
	       !strncmp(name + len - tail, mark, sizeof(mark) - 1) &&
	       strspn(name + len - 16, HEX) == 16;
}

bool gc_companion_owner(const char *name, uint64_t *ino)
{
	static const char mark[] = "libshmem-";
	const char *number = name + sizeof(mark) - 1, *token;

	if (strncmp(name, mark, sizeof(mark) - 1) ||
	    strspn(number, HEX) != 16 || number[16] != '-')
		return false;
	token = number + 17;
	if (strspn(token, HEX) != 32)
		return false;
	*ino = strtoull(number, NULL, 16);
	token += 32;
	return !*token ||
	       (*token == '.' && strspn(token + 1, HEX) == 16 && !token[17]);
}

bool gc_owned(const struct gc_list *l, uint64_t ino)
{
	size_t i;

	for (i = 0; i < l->nowners; i++)
		if (l->owners[i] == ino)
			return true;
	return false;
}

static int still_that(int fd, const char *path)
{
	struct stat a, b;

	if (fstat(fd, &a) || lstat(path, &b))
		return -1;
	if (a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		return 0;
	errno = ENOENT;
	return -1;
}

/* What a user, or the maker of the file, holds; see users.h. */
static int lock_out(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	l.l_start = (off_t)LAYOUT_LOCK_FIRST;
	l.l_len = (off_t)(LAYOUT_LOCK_GATE + 1 - LAYOUT_LOCK_FIRST);
	if (!fcntl(fd, F_OFD_SETLK, &l))
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		errno = EBUSY;
	return -1;
}

/* Its creator looks, when it has its lock, whether the name is still there,
 * and else makes another one. */
static int remove_temporary(const char *path)
{
	int fd = open(path, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	int rc = -1, err;

	if (fd < 0)
		return -1;
	if (!lock_out(fd) && !still_that(fd, path))
		rc = unlink(path);
	err = errno;
	close(fd);
	errno = err;
	return rc;
}

/* Whether the arena with file @ino is in @dir now: 0; -1 and errno. */
static int has_no_owner(const char *dir, uint64_t ino)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	struct ctl_arena a;
	struct stat st;
	int err = 0;

	if (!d)
		return -1;
	while (!err && (errno = 0, e = readdir(d))) {
		if (!fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) &&
		    (uint64_t)st.st_ino == ino && S_ISREG(st.st_mode) &&
		    !ctl_inspect_at(dirfd(d), e->d_name, e->d_name, &a)) {
			err = a.huge ? EBUSY : 0;
			ctl_inspect_end(&a);
		}
	}
	if (!err)
		err = errno;
	closedir(d);
	errno = err;
	return err ? -1 : 0;
}

/*
 * While we have the lease an opener is told to try again; should it be there
 * already, there is no lease. Who creates has the companion open until the
 * arena has its name. So with the lease ours the arena has one by now, which
 * the look sees, or never will.
 */
static int remove_companion(const char *dir, const char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	uint64_t ino = 0;
	int rc = -1, err;

	if (fd < 0)
		return -1;
	gc_companion_owner(strrchr(path, '/') + 1, &ino);
	signal(SIGIO, SIG_IGN); /* somebody is waiting; it is only a moment */
	if (!fcntl(fd, F_SETLEASE, F_WRLCK)) {
		rc = still_that(fd, path);
		if (!rc)
			rc = has_no_owner(dir, ino);
		if (!rc)
			rc = unlink(path);
	} else if (errno == EAGAIN) {
		errno = EBUSY;
	}
	err = errno;
	close(fd);
	errno = err;
	return rc;
}

int gc_remove(const char *dir, const struct gc_item *it)
{
	switch (it->kind) {
	case GC_TEMPORARY:
		return remove_temporary(it->path);
	case GC_COMPANION:
		return remove_companion(dir, it->path);
	default:
		return tmc_shmem_unlink_idle(it->path);
	}
}
