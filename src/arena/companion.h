/* SPDX-License-Identifier: BSD-3-Clause */
/* companion.h - the file of huge pages beside an arena. Layer: companion; uses
 * header, os. */
#ifndef SHMI_COMPANION_H
#define SHMI_COMPANION_H

#include "header.h"

#include <stdbool.h>

/*
 * Makes the second half of @c's token out of the first, the inode number @ino
 * of the arena's file and the file system that @fd, this file, is on.
 */
int shmi_companion_bind(struct layout_const *c, int fd, uint64_t ino);

/* One that is being made; dirfd and fd, which the caller closes, are -1 where
 * there is none. */
struct shmi_companion {
	int dirfd, fd;
	uint64_t ino;
	uint64_t key;  /* of the place where the arena will be */
	char name[96]; /* while it has one; empty if not */
};

/*
 * An empty file without a name on a mount of @pagesize that takes it. Also
 * removes what a create of the same place (@key) left when it died, unless
 * @owned says that there is an arena whose file has that inode number. 0,
 * -ENODEV without such a mount, or -errno.
 */
int shmi_companion_make(struct shmi_companion *k, uint64_t pagesize,
			uint64_t key, bool (*owned)(uint64_t ino, void *arg),
			void *arg);

/*
 * Gives it its provisional name: before the arena's file has one. @c has the
 * token, @ino is the arena file's inode.
 */
int shmi_companion_announce(struct shmi_companion *k,
			    const struct layout_const *c, uint64_t ino);
/* And its final one, when the arena's file has its own. */
void shmi_companion_settle(struct shmi_companion *k,
			   const struct layout_const *c, uint64_t ino);
/* Removes its name again, if it has one. */
void shmi_companion_undo(struct shmi_companion *k);

/* The fd of the companion of the arena whose file is @fd, with inode @ino.
 * -ENOENT. */
int shmi_companion_open(const struct layout_const *c, int fd, uint64_t ino,
			bool rw);

/* 0 if @fd is provably that companion, else -EINVAL. */
int shmi_companion_check(int fd, const struct layout_const *c);

/* Removes its name; 0 also where there is none. */
int shmi_companion_unlink(const struct layout_const *c, int fd, uint64_t ino);

#endif
