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
	bool named;		  /* huge: its file had a name to be found by */
	_Atomic bool writable;	  /* only ever becomes true */
	_Atomic bool no_allocate; /* the file system has no fallocate; only ever
				   * becomes true */
	_Atomic int kind;	  /* of the bytes' file system; 0: not known */
	unsigned int populating;  /* grows of ours outside the lock; under it */

	/* The registry's, under its lock. */
	unsigned int refs; /* of handles */
	unsigned int uses; /* by calls that are under way */
	uint64_t dev, ino; /* of the arena's file */
	unsigned long id;  /* never used twice in a process */
	struct shmi_arena *next;
};

enum { SHMI_KIND_TMPFS = 1, SHMI_KIND_OTHER };

static inline int shmi_arena_data_fd(const struct shmi_arena *a)
{
	return shmi_header_huge(&a->c) ? a->hugefd : a->fd;
}

static inline char *shmi_arena_base(const struct shmi_arena *a)
{
	return (char *)(uintptr_t)a->c.base;
}

/* Give a handle's reference back, or a call's; the last one unmaps and closes. */
void shmi_arena_close(struct shmi_arena *a);
void shmi_arena_done(struct shmi_arena *a);

/*
 * Registers what is done at a fork, if it is not yet. Who holds a lock of his
 * own over the registry's calls this before he registers his: handlers before
 * a fork run in the reverse order, so that his lock is taken first there, too.
 */
void shmi_arena_watch_fork(void);

/* Called when an arena is about to be unmapped, under the registry's lock. */
void shmi_arena_on_close(void (*closes)(void));

/*
 * The open arena with @id or around @p, for the length of a call: it stays
 * until shmi_arena_done(). NULL if there is none. In a child there is no such
 * call but the caller's own.
 */
struct shmi_arena *shmi_arena_by_id(unsigned long id);
struct shmi_arena *shmi_arena_around(const void *p);

/* ----- for open.c and create.c ----- */

/*
 * An arena on the way into the registry: its files, and when it is mapped the
 * arena. A fork in another thread leaves all in the child, which must get rid
 * of them, since the parent's file locks, and the memory of a companion that is
 * removed, last as long as either. So they are noted, and descriptors, mappings
 * and note change together under a lock that fork takes too: the registry's, or
 * where a companion is looked for shmi_arena_search()'s.
 */
struct shmi_opening {
	int fd;		      /* -1: none */
	int hugefd;	      /* its companion; below 0: none */
	int dirfd;	      /* of one that is being made; below 0: none */
	struct shmi_arena *a; /* NULL: not mapped yet */
	bool entered;	      /* of this file: */
	uint64_t dev, ino;
	struct shmi_opening *next;
};

/* o->fd becomes what @get returns, a descriptor or -errno; it may set
 * o->hugefd, too. */
void shmi_arena_begin(struct shmi_opening *o, int (*get)(void *arg), void *arg);
/*
 * Runs @search, which looks through mounts and may make or find a companion,
 * and returns what that does. No other thread forks meanwhile: what it opens,
 * and does not close again, is in an opening when it is over. It waits for no
 * other process.
 */
int shmi_arena_search(int (*search)(void *arg), void *arg);
/*
 * Waits until no other thread of this process is between this and the end of
 * its opening of the same file, or its registration: then that arena is found
 * in the registry. The gate (users.h) keeps processes apart, and not threads:
 * readers share it, a guest's locks are its process's, and a create has let
 * others in before it is registered. Before the gate, so that nobody who is in
 * there waits for a thread that is not.
 */
void shmi_arena_enter(struct shmi_opening *o, uint64_t dev, uint64_t ino);
/* Closes what there still is. */
void shmi_arena_end(struct shmi_opening *o);

/* An arena that is not in the registry. */
struct shmi_arena *shmi_arena_new(void);
/* Maps header and bytes as @a->c says: there, or -EADDRINUSE. */
int shmi_arena_map(struct shmi_opening *o, struct shmi_arena *a);
/* Undoes both, for one that does not get into the registry; keeps its fds. */
void shmi_arena_drop(struct shmi_opening *o, struct shmi_arena *a);
/* Puts it there. Its descriptors, o->fd and o->hugefd, are its own now; o->dirfd
 * is closed. @alone: and lets others in (users.h). */
void shmi_arena_register(struct shmi_opening *o, struct shmi_arena *a,
			 bool alone);
/* One that was a reader's and has a slot now; @alone: as above. */
void shmi_arena_now_writable(struct shmi_arena *a, bool alone);
/* The one with this file, with one more reference, for a handle. */
struct shmi_arena *shmi_arena_find_file(uint64_t dev, uint64_t ino);
/* Maps an arena that is open for reading for writing, too, and puts @fd and
 * @hugefd in the place of its descriptors; they stay the caller's. */
int shmi_arena_upgrade(struct shmi_arena *a, int fd, int hugefd);

#endif
