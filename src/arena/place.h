/* SPDX-License-Identifier: BSD-3-Clause */
/* place.h - automatic addresses. Layer: place; uses os. */
#ifndef SHMI_PLACE_H
#define SHMI_PLACE_H

#include <stddef.h>
#include <stdint.h>

/*
 * Calls @try with addresses for @size bytes, multiples of @align (a power of
 * two), until it returns something other than -EADDRINUSE: that. -ENOMEM when
 * @size is larger than any zone or no place was free.
 */
int shmi_place(size_t size, size_t align, int (*try)(uintptr_t addr, void *arg),
	       void *arg);

#endif
