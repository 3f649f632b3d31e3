/* SPDX-License-Identifier: BSD-3-Clause */
/* users.h - who has an arena open, told by the kernel. Layer: users; uses os.
 */
#ifndef SHMI_USERS_H
#define SHMI_USERS_H

#include "layout.h"

#include <stdbool.h>

/*
 * File locks on bytes of the arena's file, far behind any data. They belong
 * to an open file description, which here is one process's own: fork gives
 * the child a new one (arena.c). The kernel drops them when that description
 * is closed, so also at death, and knows them in every PID namespace.
 *
 * The first two are the process's, since a description that guests have lives
 * on when one of them dies, and nobody would ever be first in line again. What
 * that costs: a process that closes any descriptor of the file loses them, and
 * only what they are good for is less fair or tidied up early then.
 *
 *	QUEUE	exclusive: first in line for the arena's lock (lock.c)
 *	GROWING	shared: a grow of this process populates outside the lock
 *	READER	shared: open for reading only
 *	SLOT i	exclusive: a process that has the arena open, for as long as
 *		it has; slot[i] of the header is its word
 *	GUEST	shared: processes that cannot have a description of their own
 *		(descriptors from a stranger whose file they may not open).
 *		They have the slots below LAYOUT_GUESTS, claimed in the
 *		header's word alone; those are free again only when nobody has
 *		the arena open
 *	GATE	exclusive: opening; shared: opening for reading only
 *
 * An opener that gets all of SLOT, GUEST and GATE is alone: nobody else has
 * the arena open for writing, so whatever the words that change say is a
 * leftover. It puts them right and only then lets go of the GATE. That is
 * why a copied file, a restored backup or a reboot needs no clean-up. A guest
 * asks with locks of its process, since those on the description it shares
 * would stay when it dies.
 *
 * If a process dies at any point here, its locks are gone and nothing else
 * has changed but perhaps one guest's word.
 */
#define USERS_NO_SLOT UINT32_MAX

/* Passes the gate and holds it. Readers only wait until nobody is alone in
 * there. @alone: see above. 0 or -errno. */
int shmi_users_enter(int fd, bool writer, bool *alone);

/* Takes a slot, not one that the header's lock word names as its owner. Needs
 * the gate, or a slot held by a relative all the while. 0 or -EUSERS. */
int shmi_users_claim(int fd, bool alone, uint32_t *slot);

/* For a relative of a reader: no gate. */
int shmi_users_join_reader(int fd);

/* Opens the gate again. */
void shmi_users_let_in(int fd, bool writer, bool alone);

/* Instead of a claim that did not work out: a reader, out of the gate. What
 * is on a @guest's description is its host's, too, and stays. */
void shmi_users_step_down(int fd, bool guest);

/*
 * For a guest, who cannot pass the gate: whether it is alone, which keeps others
 * out until shmi_users_let_in_guest(). Where guests were before and their
 * description still is, it never is.
 */
int shmi_users_enter_guest(int fd, bool *alone);
void shmi_users_let_in_guest(int fd);

/* A slot for a guest. 0 or -EUSERS. */
int shmi_users_claim_guest(int fd, struct layout_hdr *h, uint32_t *slot);

/* Before the description is closed. */
void shmi_users_leave(struct layout_hdr *h, uint32_t slot);

/* Whether somebody else holds @slot: 0 (it is dead), 1; 1 for guests. To a guest,
 * who has slot @ours, its host is alive as long as itself. */
int shmi_users_alive(int fd, uint32_t ours, uint32_t slot);

/* Keeps everybody out until @fd is closed, if nobody is in: whether so. */
bool shmi_users_lock_out(int fd);

/*
 * If nobody has the arena open, keeps those out who would open it until @fd is
 * closed: 0 or -EBUSY. A reader that comes now waits at the gate.
 */
int shmi_users_lock_idle(int fd);

/* First in line; waits. shmi_users_step_back always succeeds. */
int shmi_users_queue(int fd);
void shmi_users_step_back(int fd);

int shmi_users_growing(int fd, bool on);
/* Whether another process populates outside the lock: 0, 1. */
int shmi_users_others_growing(int fd);

#endif
