/* SPDX-License-Identifier: BSD-3-Clause */
/* large.h - large blocks. Layer: heap, over spans and threads. */
#ifndef SHMI_LARGE_H
#define SHMI_LARGE_H

#include "span.h"

/* NULL and errno. @zero: whether all of it is. */
void *shmi_large_malloc(struct shmi_thread *t, uint64_t n, uint64_t align,
			bool *zero);
/* Dies unless @r is a large block's run and @p that block, in use. */
void shmi_large_check(struct shmi_thread *t, const struct heap_run *r,
		      const void *p);
/* The same, and its bytes, none of them behind the heap. */
uint64_t shmi_large_len(struct shmi_thread *t, const struct heap_run *r,
			const void *p);
void shmi_large_free(struct shmi_thread *t, struct heap_run *r);
/* The block @p of @old bytes, which have been checked, in place: 0, or -ENOMEM. */
int shmi_large_resize(struct shmi_thread *t, struct heap_run *r, const void *p,
		      size_t old, size_t n);
/* What @t holds goes back to the heap: whether there was anything. */
bool shmi_large_let_go(struct shmi_thread *t);
/* The same of all that it keeps, small blocks too. */
bool shmi_large_make_room(struct shmi_thread *t);

#endif
