/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel.h - lets the library in this process meet another kernel. */
#ifndef TESTS_KERNEL_H
#define TESTS_KERNEL_H

/*
 * From now on, here and in children that are forked: it cannot be taken back,
 * so call these in a peer. All return 0.
 */
int kernel_without_tmpfile(void);	 /* O_TMPFILE: EOPNOTSUPP */
int kernel_without_noreplace(void);	 /* MAP_FIXED_NOREPLACE: EOPNOTSUPP */
int kernel_without_populate_write(void); /* MADV_POPULATE_WRITE: EINVAL */
int kernel_without_allocate(void);	 /* fallocate: EOPNOTSUPP */
int kernel_interrupted_allocate(void);	 /* fallocate: EINTR, always */
int kernel_without_reopen(void);	 /* open in /proc/self/fd: EACCES */
int kernel_without_huge_memfd(void);	 /* MFD_HUGETLB: EINVAL */
int kernel_without_empty_path(void);	 /* AT_EMPTY_PATH of linkat: ENOENT */
int kernel_without_rename(int err);	 /* renameat: that error; 0: none */
int kernel_refuse(long nr, int err);	 /* one call that has no function */

/* Before the library asks the next time who has a file lock: once. */
void kernel_before_look(void (*hook)(void));
/* And before it opens a file by its path. */
void kernel_before_open(void (*hook)(void));
/* And before it gives a file another name. */
void kernel_before_rename(void (*hook)(void));

/*
 * The machine has these NUMA nodes. Memory bound to one of them is wherever the
 * real kernel puts it.
 */
int kernel_with_nodes(unsigned long nodes);

/*
 * The system call number @n (1 is the next) that could fail does, with @err;
 * those before and after it are as always. 0: none. What gives something back
 * (close, munmap, unlink, unlock) does not count and does not fail.
 * kernel_failed() tells whether it has come so far.
 */
void kernel_fail(unsigned long n, int err);
int kernel_failed(void);

/* Each unlock of a file's range comes so many sched_yield()s later, so that
 * others have time in between. */
void kernel_slow_unlock(unsigned int yields);

#endif
