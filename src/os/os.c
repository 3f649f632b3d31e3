/* SPDX-License-Identifier: BSD-3-Clause */
/* os.c - the machine and its files */
#include "call.h"
#include "os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define HUGE_PAGES "/sys/kernel/mm/hugepages"
#define HUGETLBFS_KIND 0x958458f6
#define TMPFS_KIND 0x01021994
#define BTRFS_KIND 0x9123683e
#define OVERLAY_KIND 0x794c7630 /* on btrfs, perhaps */
#define MEMS_ALLOWED 4		/* MPOL_F_MEMS_ALLOWED */

bool shmi_os_ran_out(int err)
{
	return err == -EMFILE || err == -ENFILE || err == -ENOMEM;
}

size_t shmi_os_pagesize(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* "Hugepagesize:    2048 kB" */
static int default_line(char *line, void *arg)
{
	unsigned long kib;

	if (sscanf(line, "Hugepagesize: %lu kB", &kib) != 1)
		return 0;
	*(size_t *)arg = (size_t)kib << 10;
	return 1;
}

int shmi_os_huge_default(size_t *size)
{
	int rc;

	*size = 0;
	rc = shmi_os_lines("/proc/meminfo", default_line, size);
	if (rc == 1)
		rc = shmi_os_has_huge(*size);
	if (rc != 1)
		*size = 0;
	return shmi_os_ran_out(rc) ? rc : 0;
}

/* Takes no descriptor. */
int shmi_os_has_huge(uint64_t size)
{
	struct shmi_stat st;
	char path[64];
	int err;

	snprintf(path, sizeof(path), HUGE_PAGES "/hugepages-%" PRIu64 "kB",
		 size >> 10);
	err = shmi_os_stat(path, true, &st);
	return shmi_os_ran_out(err) ? err : !err;
}

static int size_name(const char *name, void *arg)
{
	unsigned long kib;

	if (sscanf(name, "hugepages-%lukB", &kib) == 1)
		*(unsigned long *)arg |= kib << 10;
	return 0;
}

unsigned long shmi_os_huge_sizes(void)
{
	unsigned long sizes = 0;
	int fd = shmi_os_open_dir(HUGE_PAGES);

	if (fd < 0)
		return 0;
	shmi_os_names(fd, size_name, &sizes);
	shmi_os_close(fd);
	return sizes;
}

unsigned long shmi_os_nodes(void)
{
	unsigned long nodes[16] = { 0 }; /* 1,024 nodes, the kernel's most */

	if (CALL(long, syscall(SYS_get_mempolicy, NULL, nodes,
			       sizeof(nodes) * CHAR_BIT, 0, MEMS_ALLOWED)))
		return 0;
	return nodes[0];
}

int shmi_os_random(void *buf, size_t len)
{
	ssize_t n = CALL(ssize_t, getrandom(buf, len, 0));

	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -EIO;
}

const char *shmi_os_env(const char *name)
{
	return secure_getenv(name);
}

int shmi_os_set_env(const char *name, const char *value)
{
	int kept = errno, err;

	err = (value ? setenv(name, value, 1) : unsetenv(name)) ? -errno : 0;
	errno = kept;
	return err;
}

uint32_t shmi_os_tid(void)
{
	return (uint32_t)syscall(SYS_gettid);
}

uint32_t shmi_os_clock(void)
{
	struct timespec now = { 0 };

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint32_t)now.tv_nsec;
}

static int stat_result(int err, const struct stat *sb, struct shmi_stat *st)
{
	if (err)
		return err;
	st->dev = sb->st_dev;
	st->ino = sb->st_ino;
	st->len = (uint64_t)sb->st_size;
	st->room = (uint64_t)sb->st_blocks * 512;
	st->mode = sb->st_mode;
	st->uid = sb->st_uid;
	st->nlink = (uint32_t)sb->st_nlink;
	st->blksize = (uint32_t)sb->st_blksize;
	return 0;
}

int shmi_os_stat(const char *path, bool follow, struct shmi_stat *st)
{
	struct stat sb;

	return stat_result(
		CALL(int, follow ? stat(path, &sb) : lstat(path, &sb)), &sb,
		st);
}

/* Of a symbolic link that is the link. */
int shmi_os_stat_at(int dirfd, const char *name, struct shmi_stat *st)
{
	struct stat sb;

	return stat_result(
		CALL(int, fstatat(dirfd, name, &sb, AT_SYMLINK_NOFOLLOW)), &sb,
		st);
}

int shmi_os_fstat(int fd, struct shmi_stat *st)
{
	struct stat sb;

	return stat_result(CALL(int, fstat(fd, &sb)), &sb, st);
}

/* O_NONBLOCK: whatever @path has become meanwhile, this does not wait. */
static int open_flags(bool rw)
{
	return (rw ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
}

int shmi_os_open(const char *path, bool rw)
{
	return CALL(int, open(path, open_flags(rw)));
}

int shmi_os_open_dir(const char *path)
{
	return CALL(int, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

int shmi_os_openat(int dirfd, const char *name, bool rw)
{
	return CALL(int, openat(dirfd, name, open_flags(rw) | O_NOFOLLOW));
}

static void proc_name(char name[32], int fd)
{
	snprintf(name, 32, "/proc/self/fd/%d", fd);
}

int shmi_os_reopen(int fd, bool rw)
{
	char name[32];

	proc_name(name, fd);
	return shmi_os_open(name, rw);
}

int shmi_os_dup(int fd)
{
	return CALL(int, fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

int shmi_os_dup_above(int fd, int least)
{
	int copy = CALL(int, fcntl(fd, F_DUPFD_CLOEXEC, least));

	return copy == -EINVAL || copy == -EMFILE ? shmi_os_dup(fd) : copy;
}

void shmi_os_keep_on_exec(int fd)
{
	if (fd >= 0)
		CALL(int, fcntl(fd, F_SETFD, 0));
}

int shmi_os_dup_over(int fd, int over)
{
	int flags = CALL(int, fcntl(over, F_GETFD));
	int err;

	if (flags < 0)
		return flags;
	err = CALL(int, dup3(fd, over, flags & FD_CLOEXEC ? O_CLOEXEC : 0));
	if (err == -EBADF) /* the limit was lowered below @over */
		err = -EMFILE;
	return err < 0 ? err : 0;
}

int shmi_os_is_rdonly(int fd)
{
	int flags = CALL(int, fcntl(fd, F_GETFL));

	if (flags < 0)
		return flags;
	if (flags & O_PATH)
		return -EBADF;
	if ((flags & O_ACCMODE) == O_WRONLY)
		return -EACCES;
	return (flags & O_ACCMODE) == O_RDONLY;
}

int shmi_os_tmpfile(const char *dir, unsigned int mode)
{
	return CALL(int, open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, mode));
}

int shmi_os_create(const char *path, unsigned int mode)
{
	return CALL(int,
		    open(path,
			 O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW,
			 mode));
}

#define MEMFD_CLOEXEC 0x1u
#define MEMFD_HUGETLB 0x4u
#define MEMFD_NOEXEC_SEAL 0x8u /* Linux 6.3; else a line in its log */
#define MEMFD_EXEC 0x10u
#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#endif
#define SEAL_SEAL 0x1

/* Nobody can seal the file: that would be a grow that fails for all. */
int shmi_os_memfd(size_t huge, bool exec)
{
	unsigned int flags = MEMFD_CLOEXEC;
	int fd, err;

	if (huge)
		flags |= MEMFD_HUGETLB | (unsigned int)__builtin_ctzl(huge)
						 << SHMI_MAP_HUGE_SHIFT;
	fd = CALL(int, (int)syscall(SYS_memfd_create, "libshmem",
				    flags | (exec ? MEMFD_EXEC
						  : MEMFD_NOEXEC_SEAL)));
	if (fd == -EINVAL) /* an older kernel, whose files are sealed anyway */
		fd = CALL(int,
			  (int)syscall(SYS_memfd_create, "libshmem", flags));
	else if (fd >= 0 && !exec) {
		err = CALL(int, fcntl(fd, F_ADD_SEALS, SEAL_SEAL));
		if (err < 0) {
			shmi_os_close(fd);
			fd = err;
		}
	}
	return huge && fd == -EINVAL ? -ENODEV : fd;
}

int shmi_os_link(int fd, int dirfd, const char *name)
{
	char proc[32];
	int err;

	if (dirfd < 0)
		dirfd = AT_FDCWD;
	/* Without CAP_DAC_READ_SEARCH an older kernel says ENOENT here. */
	err = CALL(int, linkat(fd, "", dirfd, name, AT_EMPTY_PATH));
	if (!err || err == -EEXIST)
		return err;
	proc_name(proc, fd);
	return CALL(int,
		    linkat(AT_FDCWD, proc, dirfd, name, AT_SYMLINK_FOLLOW));
}

int shmi_os_rename(int dirfd, const char *from, const char *to)
{
	if (dirfd < 0)
		dirfd = AT_FDCWD;
	return CALL(int, renameat(dirfd, from, dirfd, to));
}

/*
 * In one step where kernel and file system can do that. Else @from is there
 * beside @to for a moment, after a death for longer, and where no name can be
 * removed (chattr +a) for good: @to is what was asked for then.
 */
int shmi_os_move(const char *from, const char *to)
{
	const unsigned int noreplace = 1;
	int err = CALL(int, (int)syscall(SYS_renameat2, AT_FDCWD, from,
					 AT_FDCWD, to, noreplace));

	if (err != -EINVAL && err != -ENOSYS)
		return err;
	err = CALL(int, link(from, to));
	if (err)
		return err;
	err = shmi_os_unlink_path(from);
	return err && !shmi_os_unlink_path(to) ? err : 0;
}

int shmi_os_unlink(int dirfd, const char *name)
{
	return CALL(int, unlinkat(dirfd, name, 0));
}

int shmi_os_unlink_path(const char *path)
{
	return CALL(int, unlink(path));
}

/* CAP_FOWNER: what a sticky directory asks for of who owns neither. */
static bool owns_all(void)
{
	struct {
		uint32_t version;
		int pid;
	} head = { 0x20080522, 0 }; /* _LINUX_CAPABILITY_VERSION_3 */
	struct {
		uint32_t effective, permitted, inheritable;
	} caps[2] = { 0 };

	return !syscall(SYS_capget, &head, caps) && caps[0].effective >> 3 & 1;
}

const char *shmi_os_split(const char *path, char dir[PATH_MAX])
{
	const char *slash = strrchr(path, '/');

	if (dir && slash)
		snprintf(dir, PATH_MAX, "%.*s",
			 slash == path ? 1 : (int)(slash - path), path);
	else if (dir)
		memcpy(dir, ".", 2);
	return slash ? slash + 1 : path;
}

int shmi_os_may_unlink(const char *path)
{
	const uint64_t fixed = STATX_ATTR_APPEND | STATX_ATTR_IMMUTABLE;
	char dir[PATH_MAX];
	struct statx f, d;
	int err;

	shmi_os_split(path, dir);
	err = CALL(int,
		   statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_UID, &f));
	if (!err)
		err = CALL(int,
			   statx(AT_FDCWD, dir, 0, STATX_UID | STATX_MODE, &d));
	if (!err)
		err = CALL(int,
			   faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS));
	if (err)
		return err;
	if (f.stx_attributes & STATX_ATTR_MOUNT_ROOT)
		return -EBUSY;
	if ((f.stx_attributes | d.stx_attributes) & fixed)
		return -EPERM;
	if (d.stx_mode & S_ISVTX && f.stx_uid != geteuid() &&
	    d.stx_uid != geteuid() && !owns_all())
		return -EPERM;
	return 0;
}

int shmi_os_fchmod(int fd, unsigned int mode)
{
	return CALL(int, fchmod(fd, mode));
}

int shmi_os_pread(int fd, void *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n =
			CALL(ssize_t, pread(fd, (char *)buf + done, len - done,
					    (off_t)(off + done)));
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -ENODATA;
		done += (size_t)n;
	}
	return 0;
}

int shmi_os_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n =
			CALL(ssize_t, pwrite(fd, (const char *)buf + done,
					     len - done, (off_t)(off + done)));
		if (n < 0)
			return (int)n;
		done += (size_t)n;
	}
	return 0;
}

int shmi_os_is_hugetlbfs(int fd, uint64_t pagesize)
{
	struct statfs sf;
	int err = CALL(int, fstatfs(fd, &sf));

	if (err)
		return err;
	return sf.f_type == HUGETLBFS_KIND && (uint64_t)sf.f_bsize == pagesize;
}

bool shmi_os_on_hugetlbfs(int fd, const struct shmi_stat *st)
{
	return st->blksize > shmi_os_pagesize() &&
	       shmi_os_is_hugetlbfs(fd, st->blksize) == 1;
}

bool shmi_os_is_tmpfs(int fd)
{
	struct statfs sf;

	return !CALL(int, fstatfs(fd, &sf)) && sf.f_type == TMPFS_KIND;
}

void shmi_os_overwrite(int fd)
{
	struct statfs sf;
	int flags = 0;

	if (CALL(int, fstatfs(fd, &sf)) ||
	    (sf.f_type != BTRFS_KIND && sf.f_type != OVERLAY_KIND) ||
	    CALL(int, ioctl(fd, FS_IOC_GETFLAGS, &flags)))
		return;
	/* It must not be compressed when it is set. */
	if (flags & FS_COMPR_FL) {
		flags &= ~FS_COMPR_FL;
		CALL(int, ioctl(fd, FS_IOC_SETFLAGS, &flags));
	}
	flags |= FS_NOCOW_FL;
	CALL(int, ioctl(fd, FS_IOC_SETFLAGS, &flags));
}

int shmi_os_fsid(int fd, uint64_t *id)
{
	struct statfs sf;
	struct stat st;
	int err = CALL(int, fstatfs(fd, &sf));

	if (err)
		return err;
	memcpy(id, &sf.f_fsid, sizeof(*id)); /* two words of 32 bits */
	if (!*id) {
		err = CALL(int, fstat(fd, &st));
		*id = err ? 0 : st.st_dev;
	}
	return err;
}

void shmi_os_close(int fd)
{
	int kept = errno;

	if (fd >= 0)
		close(fd); /* on Linux it is closed whatever it says */
	errno = kept;
}

int shmi_os_lines(const char *path, int (*each)(char *line, void *arg),
		  void *arg)
{
	int kept = errno, rc = 0;
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;

	if (!f) {
		rc = -errno;
		errno = kept;
		return rc;
	}
	while (!rc && getline(&line, &room, f) >= 0)
		rc = each(line, arg);
	if (!rc && !feof(f))
		rc = -errno;
	free(line);
	fclose(f);
	errno = kept;
	return rc;
}

int shmi_os_names(int dirfd, int (*each)(const char *name, void *arg),
		  void *arg)
{
	int kept = errno, rc = 0;
	int fd = shmi_os_openat(dirfd, ".", false);
	struct dirent *entry;
	DIR *dir;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		rc = -errno;
		shmi_os_close(fd);
		errno = kept;
		return rc;
	}
	while (!rc && (entry = readdir(dir)))
		rc = each(entry->d_name, arg);
	closedir(dir);
	errno = kept;
	return rc;
}
