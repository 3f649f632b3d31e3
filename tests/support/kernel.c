/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel.c - stands between the library and the C library's system calls. */
/*
 * The linker's --wrap (see the Makefile) sends the library's calls here first.
 * Not seccomp: on Linux 6.18 the death of some thousand processes with a
 * filter each deadlocks the kernel. Its workers in bpf_prog_pack_free wait for
 * a mutex whose holder waits, through vfree and flush_work, for one more
 * worker, of which there are only 1,024. From then on nothing on that machine
 * can install a filter.
 */
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

static struct {
	bool tmpfile, noreplace, populate_write, reopen, huge_memfd, empty_path;
	int allocate; /* errno */
	long nr;
	int err, rename;     /* 0: it works */
	unsigned long nodes; /* 0: those that are there */
} without = { .nr = -1 };

/* Atomic, since threads of a test that sets none look at them, too. */
static void (*_Atomic before_look)(void);
static void (*_Atomic before_open)(void);
static void (*_Atomic before_rename)(void);
static unsigned long calls, fail_at;
static int fail_with;
static _Atomic unsigned int unlock_yields; /* a test of threads sets it */

void kernel_slow_unlock(unsigned int yields)
{
	unlock_yields = yields;
}

void kernel_before_look(void (*hook)(void))
{
	before_look = hook;
}

void kernel_before_open(void (*hook)(void))
{
	before_open = hook;
}

void kernel_before_rename(void (*hook)(void))
{
	before_rename = hook;
}

/* Once; it may set the next one. */
static void call_hook(void (*_Atomic *which)(void))
{
	void (*hook)(void) = *which;

	if (!hook)
		return;
	*which = (void (*)(void))0;
	hook();
}

void kernel_fail(unsigned long n, int err)
{
	calls = 0;
	fail_at = n;
	fail_with = err;
}

int kernel_failed(void)
{
	return fail_at && calls >= fail_at;
}

static bool fails(void)
{
	if (!fail_at || ++calls != fail_at)
		return false;
	errno = fail_with;
	return true;
}

static bool refused(bool really, int err)
{
	if (really)
		errno = err;
	return really;
}

int kernel_refuse(long nr, int err)
{
	without.nr = nr;
	without.err = err;
	return 0;
}

int kernel_without_rename(int err)
{
	without.rename = err;
	return 0;
}

int kernel_without_tmpfile(void)
{
	without.tmpfile = true;
	return 0;
}

int kernel_without_noreplace(void)
{
	without.noreplace = true;
	return 0;
}

int kernel_without_populate_write(void)
{
	without.populate_write = true;
	return 0;
}

int kernel_without_allocate(void)
{
	without.allocate = EOPNOTSUPP;
	return 0;
}

int kernel_interrupted_allocate(void)
{
	without.allocate = EINTR;
	return 0;
}

int kernel_without_reopen(void)
{
	without.reopen = true;
	return 0;
}

int kernel_without_huge_memfd(void)
{
	without.huge_memfd = true;
	return 0;
}

int kernel_without_empty_path(void)
{
	without.empty_path = true;
	return 0;
}

int kernel_with_nodes(unsigned long nodes)
{
	without.nodes = nodes;
	return 0;
}

/* One that is passed on or fails, and nothing else. */
#define PASS_ON(type, name, failure, parameters, arguments)                    \
	type __real_##name parameters;                                         \
	type __wrap_##name parameters;                                         \
	type __wrap_##name parameters                                          \
	{                                                                      \
		return fails() ? (failure) : __real_##name arguments;          \
	}

PASS_ON(int, stat, -1, (const char *path, struct stat *st), (path, st))
PASS_ON(int, lstat, -1, (const char *path, struct stat *st), (path, st))
PASS_ON(int, fstat, -1, (int fd, struct stat *st), (fd, st))
PASS_ON(int, fstatat, -1,
	(int dirfd, const char *path, struct stat *st, int flags),
	(dirfd, path, st, flags))
PASS_ON(int, fstatfs, -1, (int fd, struct statfs *st), (fd, st))
PASS_ON(int, dup3, -1, (int fd, int over, int flags), (fd, over, flags))
PASS_ON(int, link, -1, (const char *from, const char *to), (from, to))
PASS_ON(int, fchmod, -1, (int fd, mode_t mode), (fd, mode))
PASS_ON(ssize_t, pread, -1, (int fd, void *buf, size_t len, off_t off),
	(fd, buf, len, off))
PASS_ON(ssize_t, pwrite, -1, (int fd, const void *buf, size_t len, off_t off),
	(fd, buf, len, off))
PASS_ON(ssize_t, pwritev, -1,
	(int fd, const struct iovec *part, int n, off_t off),
	(fd, part, n, off))
PASS_ON(int, ftruncate, -1, (int fd, off_t len), (fd, len))
PASS_ON(ssize_t, getrandom, -1, (void *buf, size_t len, unsigned int flags),
	(buf, len, flags))
PASS_ON(int, mprotect, -1, (void *addr, size_t len, int prot),
	(addr, len, prot))
PASS_ON(void *, calloc, NULL, (size_t n, size_t size), (n, size))

int __real_linkat(int fd, const char *from, int to_fd, const char *to,
		  int flags);
int __wrap_linkat(int fd, const char *from, int to_fd, const char *to,
		  int flags);
int __real_renameat(int fd, const char *from, int to_fd, const char *to);
int __wrap_renameat(int fd, const char *from, int to_fd, const char *to);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __real_openat(int dirfd, const char *path, int flags, ...);
int __wrap_openat(int dirfd, const char *path, int flags, ...);
int __real_fcntl(int fd, int what, ...);
int __wrap_fcntl(int fd, int what, ...);
int __real_fallocate(int fd, int mode, off_t off, off_t len);
int __wrap_fallocate(int fd, int mode, off_t off, off_t len);
void *__real_mmap(void *addr, size_t len, int prot, int flags, int fd,
		  off_t off);
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd,
		  off_t off);
void *__real_mremap(void *old, size_t old_len, size_t len, int flags, ...);
void *__wrap_mremap(void *old, size_t old_len, size_t len, int flags, ...);
int __real_madvise(void *addr, size_t len, int advice);
int __wrap_madvise(void *addr, size_t len, int advice);
long __real_syscall(long nr, ...);
long __wrap_syscall(long nr, ...);

int __wrap_linkat(int fd, const char *from, int to_fd, const char *to,
		  int flags)
{
	if (refused((flags & AT_EMPTY_PATH) && without.empty_path, ENOENT) ||
	    fails())
		return -1;
	return __real_linkat(fd, from, to_fd, to, flags);
}

int __wrap_renameat(int fd, const char *from, int to_fd, const char *to)
{
	call_hook(&before_rename);
	if (refused(without.rename, without.rename) || fails())
		return -1;
	return __real_renameat(fd, from, to_fd, to);
}

int __wrap_open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list ap;

	call_hook(&before_open);
	if (refused((flags & O_TMPFILE) == O_TMPFILE && without.tmpfile,
		    EOPNOTSUPP) ||
	    refused(without.reopen && !strncmp(path, "/proc/self/fd/", 14),
		    EACCES) ||
	    fails())
		return -1;
	if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	return __real_open(path, flags, mode);
}

/* The library creates nothing with it. */
int __wrap_openat(int dirfd, const char *path, int flags, ...)
{
	return fails() ? -1 : __real_openat(dirfd, path, flags);
}

int __wrap_fcntl(int fd, int what, ...)
{
	struct flock *l;
	va_list ap;

	va_start(ap, what);
	l = va_arg(ap, struct flock *);
	va_end(ap);
	if (what == F_OFD_GETLK)
		call_hook(&before_look);
	if ((what == F_OFD_SETLK || what == F_SETLK) && l->l_type == F_UNLCK) {
		unsigned int i;

		for (i = 0; i < unlock_yields; i++)
			sched_yield();
	} else if (fails()) {
		return -1;
	}
	return __real_fcntl(fd, what, l);
}

int __wrap_fallocate(int fd, int mode, off_t off, off_t len)
{
	if (refused(without.allocate, without.allocate) || fails())
		return -1;
	return __real_fallocate(fd, mode, off, len);
}

void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd,
		  off_t off)
{
	if (refused((flags & MAP_FIXED_NOREPLACE) && without.noreplace,
		    EOPNOTSUPP) ||
	    fails())
		return MAP_FAILED;
	return __real_mmap(addr, len, prot, flags, fd, off);
}

/* The library never gives a new address. */
void *__wrap_mremap(void *old, size_t old_len, size_t len, int flags, ...)
{
	return fails() ? MAP_FAILED : __real_mremap(old, old_len, len, flags);
}

int __wrap_madvise(void *addr, size_t len, int advice)
{
	if (refused(advice == MADV_POPULATE_WRITE && without.populate_write,
		    EINVAL) ||
	    fails())
		return -1;
	return __real_madvise(addr, len, advice);
}

/*
 * Passes on six arguments, whatever the caller gave, as the C library does.
 * Futexes and thread ids do not fail.
 */
__attribute__((no_sanitize("address"))) long __wrap_syscall(long nr, ...)
{
	long a[6];
	va_list ap;
	int i;

	va_start(ap, nr);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (nr == SYS_renameat2)
		call_hook(&before_rename);
	if (refused(nr == without.nr, without.err) ||
	    refused(nr == SYS_memfd_create && without.huge_memfd &&
			    (a[1] & MFD_HUGETLB),
		    EINVAL) ||
	    (nr != SYS_futex && nr != SYS_gettid && fails()))
		return -1;
	if (without.nodes && nr == SYS_mbind)
		return 0;
	if (without.nodes && nr == SYS_get_mempolicy) {
		*(unsigned long *)a[1] = without.nodes;
		return 0;
	}
	return __real_syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

#ifdef WITH_GCOV
void __gcov_dump(void);
_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);

/* What a peer has run counts for the coverage, too. */
_Noreturn void __wrap__exit(int status)
{
	__gcov_dump();
	__real__exit(status);
}

_Noreturn void __real_abort(void);
_Noreturn void __wrap_abort(void);

_Noreturn void __wrap_abort(void)
{
	__gcov_dump();
	__real_abort();
}
#endif
