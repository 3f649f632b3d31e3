/* SPDX-License-Identifier: BSD-3-Clause */
/* kernel.h - lets the library in this process meet an older kernel. */
#ifndef TESTS_KERNEL_H
#define TESTS_KERNEL_H

/*
 * From now on, here and in children that are forked: it cannot be taken back,
 * so call these in a peer. All return 0.
 */
int kernel_without_tmpfile(void);	 /* O_TMPFILE: EOPNOTSUPP */
int kernel_without_noreplace(void);	 /* MAP_FIXED_NOREPLACE: EOPNOTSUPP */
int kernel_without_populate_write(void); /* MADV_POPULATE_WRITE: EINVAL */
int kernel_refuse(long nr, int err);	 /* one call that has no function */

#endif
