/* SPDX-License-Identifier: BSD-3-Clause */
/* probe.h - what a process holds, counted without the library's help. */
#ifndef TESTS_PROBE_H
#define TESTS_PROBE_H

#include <stddef.h>

size_t probe_fds(void);		     /* open descriptors */
size_t probe_maps(void);	     /* lines in /proc/self/maps */
size_t probe_space(void);	     /* bytes of address space in use */
size_t probe_files(const char *dir); /* entries of a directory */

/*
 * Bytes of the range that are mapped to a page now, no fault needed. Where
 * all pages are in memory and a few of them unmapped, that was the kernel's
 * reclaim looking for cold ones: all.
 */
size_t probe_present(const void *start, size_t len);

/* Bytes of the range whose pages are in memory, mapped here or not. */
size_t probe_resident(const void *start, size_t len);

/* Of 512 bytes each, that a file really has. -1: no such file. */
long long probe_blocks(const char *path);

/* 1 where every byte of the range is 0. */
int probe_zero(const void *start, size_t len);

/* 1 where nothing is mapped in the range. */
int probe_free(const void *start, size_t len);

/* kB of @field in the entry of /proc/self/smaps that @p lies in; or 0. */
size_t probe_smaps(const void *p, const char *field);

/* A private map of @len bytes, all 0x5a; @start may be NULL. NULL: taken. */
void *probe_occupy(void *start, size_t len);

/* 1 where a map of probe_occupy() is as it was; then it is unmapped. */
int probe_untouched(void *start, size_t len);

#endif
