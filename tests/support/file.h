/* SPDX-License-Identifier: BSD-3-Clause */
/* file.h - files that tests copy, or fill a file system with. */
#ifndef TESTS_FILE_H
#define TESTS_FILE_H

#include <stddef.h>

/* A new file @to with the bytes of @from, 0600 at most: 0 or -1. */
int file_copy(const char *from, const char *to);

/* A file @path that takes all but about @left bytes of its file system, or all
 * huge pages but these: 0 or -1. */
int file_fill(const char *path, size_t left);

#endif
