/* SPDX-License-Identifier: BSD-3-Clause */
/* api_cmem.h - what cmem hands to the program that is executed. Layer: api. */
#ifndef SHMI_API_CMEM_H
#define SHMI_API_CMEM_H

#include "api.h"

#define CMEM_PARTS 32u
#define CMEM_TEXT ((size_t)CMEM_PARTS * 160) /* bytes, a text has fewer */

/* By what one arena of the set differs from the others. */
struct cmem_key {
	size_t pagesize;
	int policy; /* NUMA */
	unsigned long nodes;
	bool thp;
};

/* One arena; fd and hugefd are those that exec leaves open. */
struct cmem_part {
	int fd, hugefd; /* -1: none */
	uint64_t base;
	uint64_t token[2];   /* the header's: no other arena has it */
	struct cmem_key key; /* pagesize 0: the arena knows it */
};

struct cmem_info {
	uint32_t n; /* 1 to CMEM_PARTS; the first is the one with the heap */
	struct cmem_part part[CMEM_PARTS];
};

void shmi_cmem_write(const struct cmem_info *info, char text[CMEM_TEXT]);

/* 0 or -EBADMSG. Whatever the text says, the numbers fit their fields. */
int shmi_cmem_read(const char *text, struct cmem_info *info);

/* Whether the descriptor is that arena's, before anything is mapped: 0 or
 * -ESTALE. */
int shmi_cmem_check(const struct cmem_part *part);

#endif
