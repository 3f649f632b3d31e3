/* SPDX-License-Identifier: BSD-3-Clause */
/* arena.h - arenas that this process has open. Layer: arena; uses lock, users,
 * header, os. */
#ifndef SHMI_ARENA_H
#define SHMI_ARENA_H

#include "header.h"
#include "lock.h"

#include <stdbool.h>

/* One for each arena, however often it is open in this process. */
struct shmi_arena {
	struct layout_const c;	  /* the header's constants, checked; these and
				   * never the shared ones are used */
	struct shmi_lock lock;	  /* lock.h is the shared header, mapped */
	int fd;			  /* the arena's file */
	int hugefd;		  /* its companion; -1: small pages */
	_Atomic bool writable;	  /* only ever becomes true */
	_Atomic bool no_allocate; /* the file system has no fallocate; only ever
				   * becomes true */
	unsigned int populating;  /* grows of ours outside the lock; under it */

	/* The registry's, under its lock. */
	unsigned int refs;
	uint64_t dev, ino; /* of the arena's file */
	unsigned long id;  /* never used twice in a process */
	struct shmi_arena *next;
};

static inline int shmi_arena_data_fd(const struct shmi_arena *a)
{
	return shmi_header_huge(&a->c) ? a->hugefd : a->fd;
}

static inline char *shmi_arena_base(const struct shmi_arena *a)
{
	return (char *)(uintptr_t)a->c.base;
}

/* Gives a reference back; the last one unmaps and closes. */
void shmi_arena_close(struct shmi_arena *a);

/*
 * The open arena with @id or around @p, with one more reference, which the
 * caller gives back with shmi_arena_close(); NULL if there is none.
 */
struct shmi_arena *shmi_arena_by_id(unsigned long id);
struct shmi_arena *shmi_arena_around(const void *p);

/* ----- for open.c and create.c ----- */

/*
 * Descriptors on the way to becoming an arena, which a fork in another thread
 * would leave in the child with the file locks that they carry. They are
 * noted, and the child closes them. Both under one lock with fork: nothing is
 * opened while a fork looks at the list.
 */
struct shmi_opening {
	int fd;
	struct shmi_opening *next;
};
void shmi_arena_begin(struct shmi_opening *o, int (*get)(void *arg), void *arg);
void shmi_arena_end(struct shmi_opening *o, bool keep);

/* An arena that is not in the registry. */
struct shmi_arena *shmi_arena_new(void);
/* Unmaps, closes and frees it. @a->fd and hugefd may be -1. */
void shmi_arena_free(struct shmi_arena *a);
/* Puts it into the registry. */
void shmi_arena_register(struct shmi_arena *a);
/* The one with this file, with one more reference. */
struct shmi_arena *shmi_arena_find_file(uint64_t dev, uint64_t ino);
/* Maps header and bytes as @a->c says: there, or -EADDRINUSE. */
int shmi_arena_map(struct shmi_arena *a);
/* Maps an arena that is open for reading for writing, too, and puts @fd and
 * @hugefd in the place of its descriptors; they stay the caller's. */
int shmi_arena_upgrade(struct shmi_arena *a, int fd, int hugefd);

#endif
