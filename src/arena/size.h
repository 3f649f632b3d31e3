/* SPDX-License-Identifier: BSD-3-Clause */
/* size.h - an arena's size: grow, shrink, repair. Layer: size; uses arena,
 * lock, users, os. */
#ifndef SHMI_SIZE_H
#define SHMI_SIZE_H

#include "arena.h"

#define SHMI_SIZE_ANY UINT64_MAX

/* Bytes in use; whatever the shared word says, a multiple of the page size
 * and not above the maximum. No lock. */
uint64_t shmi_size_now(const struct shmi_arena *a);

/*
 * Appends @bytes, a multiple of the page size and not 0, if the size is @at
 * (SHMI_SIZE_ANY: whatever it is), and stores the offset of the first new one.
 * 0; -ENOMEM; -EADDRINUSE if the size is not @at; or what the file says.
 */
int shmi_size_grow(struct shmi_arena *a, uint64_t at, uint64_t bytes,
		   bool present, uint64_t *off);

/* Cuts from @off to the end, which is @off + @bytes, or -EINVAL. */
int shmi_size_shrink(struct shmi_arena *a, uint64_t off, uint64_t bytes);

/*
 * For the heap. The arena's lock, with the size repaired: 0 or -errno. Under
 * it, stage makes the file @bytes longer, from @off on, for the caller to write
 * into the new pages, which others do not see and which are gone if it dies;
 * then publish, or unstage. cut is shrink, under it. fill makes pages present
 * that are in use; fill_new those of any bytes that nobody uses, which may be
 * zero after it.
 */
int shmi_size_lock(struct shmi_arena *a);
void shmi_size_unlock(struct shmi_arena *a);
int shmi_size_stage(struct shmi_arena *a, uint64_t bytes, uint64_t *off);
void shmi_size_publish(struct shmi_arena *a, uint64_t size);
void shmi_size_unstage(struct shmi_arena *a);
/* Cuts from @off to the end. */
int shmi_size_cut(struct shmi_arena *a, uint64_t off);
int shmi_size_fill(struct shmi_arena *a, uint64_t off, uint64_t bytes);
int shmi_size_fill_new(struct shmi_arena *a, uint64_t off, uint64_t bytes);

/*
 * Makes file and header agree, from these two alone. For the owner of the
 * lock, or an opener that is alone. Can be repeated and interrupted.
 */
int shmi_size_repair(struct shmi_arena *a);

#endif
