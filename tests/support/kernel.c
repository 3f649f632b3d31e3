/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel.c - stands between the library and the C library's system calls. */
/*
 * The linker's --wrap (see the Makefile) sends the library's calls of open,
 * mmap, madvise and syscall here first. Not seccomp: on Linux 6.18 the death
 * of some thousand processes with a filter each deadlocks the kernel. Its
 * workers in bpf_prog_pack_free wait for a mutex whose holder waits, through
 * vfree and flush_work, for one more worker, of which there are only 1,024.
 * From then on nothing on that machine can install a filter.
 */
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
	bool tmpfile, noreplace, populate_write;
	long nr;
	int err;
} without = { .nr = -1 };

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
void *__real_mmap(void *addr, size_t len, int prot, int flags, int fd,
		  off_t off);
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd,
		  off_t off);
int __real_madvise(void *addr, size_t len, int advice);
int __wrap_madvise(void *addr, size_t len, int advice);
long __real_syscall(long nr, ...);
long __wrap_syscall(long nr, ...);

int kernel_refuse(long nr, int err)
{
	without.nr = nr;
	without.err = err;
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

int __wrap_open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list ap;

	if ((flags & O_TMPFILE) == O_TMPFILE && without.tmpfile) {
		errno = EOPNOTSUPP;
		return -1;
	}
	if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	return __real_open(path, flags, mode);
}

void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd,
		  off_t off)
{
	if ((flags & MAP_FIXED_NOREPLACE) && without.noreplace) {
		errno = EOPNOTSUPP;
		return MAP_FAILED;
	}
	return __real_mmap(addr, len, prot, flags, fd, off);
}

int __wrap_madvise(void *addr, size_t len, int advice)
{
	if (advice == MADV_POPULATE_WRITE && without.populate_write) {
		errno = EINVAL;
		return -1;
	}
	return __real_madvise(addr, len, advice);
}

/* As the function itself, this takes six words wherever they come from. */
__attribute__((
	no_sanitize("address"))) /* Passes on six arguments, whatever the caller
				    gave, as the C library does. */
__attribute__((no_sanitize("address"))) long
__wrap_syscall(long nr, ...)
{
	long a[6];
	va_list ap;
	int i;

	va_start(ap, nr);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (nr == without.nr) {
		errno = without.err;
		return -1;
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
#endif
