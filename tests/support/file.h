/* SPDX-License-Identifier: BSD-3-Clause */
/* file.h - files that tests copy as they are. */
#ifndef TESTS_FILE_H
#define TESTS_FILE_H

/* A new file @to with the bytes of @from, 0600 at most: 0 or -1. */
int file_copy(const char *from, const char *to);

#endif
