/* SPDX-License-Identifier: BSD-3-Clause */
/* header.h - the header's constants, made and checked. Layer: header; uses os.
 */
#ifndef SHMI_HEADER_H
#define SHMI_HEADER_H

#include "layout.h"

#include <stdbool.h>

/* Fills in what every header has, and the checksum; the rest is set. */
void shmi_header_seal(struct layout_const *c);

/*
 * Whether @c, from a file of @file_len bytes, is an arena's header of this
 * format and machine whose fields fit together. 0 or -EINVAL. What passes can
 * be used without a further look.
 */
int shmi_header_check(const struct layout_const *c, uint64_t file_len);

static inline bool shmi_header_huge(const struct layout_const *c)
{
	return c->huge_ino != 0;
}

/* Offset of the arena's bytes in the file that holds them. */
static inline uint64_t shmi_header_data_off(const struct layout_const *c)
{
	return shmi_header_huge(c) ? 0 : LAYOUT_DATA_OFF;
}

#endif
