/* SPDX-License-Identifier: BSD-3-Clause */
/* open.h - making, opening and removing arenas. Layer: open; uses size, arena,
 * companion, place, users, header, os. */
#ifndef SHMI_OPEN_H
#define SHMI_OPEN_H

#include "arena.h"

/* What create needs to know. */
struct shmi_plan {
	const char *path; /* or, if @temp is not NULL, the same as that;
			   * NULL: never has a name */
	char *temp;	  /* a template: its XXXXXX are replaced */
	void *addr;	  /* NULL: automatic */
	uint64_t maxsize; /* a multiple of pagesize */
	uint64_t pagesize;
	bool huge;
	bool preferred;	   /* huge: only if there is a page now */
	uint64_t flags;	   /* LAYOUT_FLAGS */
	unsigned int mode; /* of the files; permission bits */
	int policy;	   /* NUMA; 0: none */
	unsigned long nodes;
};

/*
 * All return 0 or -errno, with everything undone. The arena comes with a
 * reference for shmi_arena_close().
 */
int shmi_open_create(const struct shmi_plan *plan, struct shmi_arena **out);
int shmi_open_path(const char *path, bool rw, struct shmi_arena **out);
/* @rw tells whether @fd can write. */
int shmi_open_fds(int fd, int hugefd, bool *rw, struct shmi_arena **out);
/* For a handle: gives its reference back. */
void shmi_open_close(struct shmi_arena *a);
/* @idle: only if nobody has it open, or -EBUSY. */
int shmi_open_unlink(const char *path, bool idle);

/* In the name of a file that is being made where there is no O_TMPFILE:
 * ".NAME.tmcnew-RANDOM". If it is still there, and nobody has it open, a death
 * has left it, and it has never been an arena that others could open: the next
 * create of NAME without O_TMPFILE removes it, and gc. */
#define SHMI_OPEN_MARK ".tmcnew-"

/* In the name of an arena that is being removed: ".NAME.tmcold-RANDOM". If it
 * is still there it is a whole arena, somebody's perhaps (open.c). So it goes
 * like any other: by an unlink of that name, or gc, if nobody has it open. */
#define SHMI_OPEN_ASIDE ".tmcold-"

#endif
