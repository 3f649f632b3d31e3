/* SPDX-License-Identifier: BSD-3-Clause */
/* call.h - a system call's result as a value. Layer: os. */
#ifndef SHMI_CALL_H
#define SHMI_CALL_H

#include <errno.h>

/*
 * Runs a call that sets errno, repeats it after EINTR, and makes it a value
 * or -errno with errno as it was.
 */
#define CALL(type, call)                                                       \
	__extension__({                                                        \
		int kept_ = errno;                                             \
		type value_;                                                   \
		do {                                                           \
			value_ = (type)(call);                                 \
		} while (value_ < 0 && errno == EINTR);                        \
		if (value_ < 0)                                                \
			value_ = (type)-errno;                                 \
		errno = kept_;                                                 \
		value_;                                                        \
	})

#endif
