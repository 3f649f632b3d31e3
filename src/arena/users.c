/* SPDX-License-Identifier: BSD-3-Clause */
/* users.c - who has an arena open, told by the kernel */
#include "users.h"

#include "os.h"

#include <errno.h>

/* Bytes of the file that locks are on; all far beyond any file's data. */
#define FIRST LAYOUT_LOCK_FIRST
#define QUEUE (FIRST + 0)
#define GROWING (FIRST + 1)
#define READER LAYOUT_LOCK_READER
#define SLOT0 LAYOUT_LOCK_SLOT0
#define FIRST_SLOT (SLOT0 + LAYOUT_GUESTS)
#define GUEST LAYOUT_LOCK_GUEST
#define GATE LAYOUT_LOCK_GATE
#define ALL_LEN (GATE + 1 - FIRST_SLOT) /* FIRST_SLOT to GATE */
#define WITNESSED (LAYOUT_SLOTS - LAYOUT_GUESTS)

/*
 * Alone, one call takes everything. Otherwise wait for the gate, which whoever
 * is alone in there holds too, and look again: they may all have gone. Asking
 * is cheaper than being refused (0.05 us); with the gate ours, nobody but a
 * guest can come between the answer and what follows from it.
 */
static int enter_writer(int fd, bool *alone)
{
	int err, held;

	*alone = true;
	err = shmi_os_range(fd, SHMI_EXCLUSIVE, FIRST_SLOT, ALL_LEN, false);
	if (err != -EAGAIN)
		return err;
	err = shmi_os_range(fd, SHMI_EXCLUSIVE, GATE, 1, true);
	if (err)
		return err;
	held = shmi_os_range_held(fd, FIRST_SLOT, ALL_LEN);
	if (held < 0)
		return held;
	if (!held) {
		err = shmi_os_range(fd, SHMI_EXCLUSIVE, FIRST_SLOT, ALL_LEN,
				    false);
		if (err != -EAGAIN)
			return err;
	}
	*alone = false;
	return 0;
}

/* Nobody takes this byte for himself alone. */
int shmi_users_join_reader(int fd)
{
	return shmi_os_range(fd, SHMI_SHARED, READER, 1, false);
}

int shmi_users_enter(int fd, bool writer, bool *alone)
{
	int err;

	if (writer)
		return enter_writer(fd, alone);
	*alone = false;
	err = shmi_users_join_reader(fd);
	return err ? err : shmi_os_range(fd, SHMI_SHARED, GATE, 1, true);
}

/*
 * A free slot that the lock word names belonged to an owner that has died; it
 * stays unused until the lock has been taken over, since our own id in its
 * word would hide the death. It cannot become the lock's owner later but
 * through us, so one look after the claim is enough.
 */
int shmi_users_claim(int fd, bool alone, uint32_t *slot)
{
	uint32_t first, i;
	uint64_t lock;

	if (alone) {
		*slot = LAYOUT_GUESTS; /* held already; let_in keeps just this
					  one */
		return 0;
	}
	/* Anywhere will do, but not where all begin. */
	first = shmi_os_clock() % WITNESSED;
	for (i = 0; i < WITNESSED; i++) {
		uint32_t s = LAYOUT_GUESTS + (first + i) % WITNESSED;
		int err =
			shmi_os_range(fd, SHMI_EXCLUSIVE, SLOT0 + s, 1, false);

		if (err == -EAGAIN)
			continue;
		if (err)
			return err;
		/* Read and not looked at through the mapping, whose first
		 * touch costs ten times as much. Half of an old value and half
		 * of a new one do no harm: one that names our slot stays. */
		err = shmi_os_pread(fd, &lock, sizeof(lock),
				    offsetof(struct layout_hdr, lock));
		if (err)
			return err == -ENODATA ? -EINVAL : err;
		if ((lock & 0xffff) != s + 1) {
			*slot = s;
			return 0;
		}
		shmi_os_range(fd, SHMI_UNLOCK, SLOT0 + s, 1, false);
	}
	return -EUSERS;
}

void shmi_users_let_in(int fd, bool writer, bool alone)
{
	if (writer && alone)
		shmi_os_range(fd, SHMI_UNLOCK, FIRST_SLOT + 1, ALL_LEN - 1,
			      false);
	else
		shmi_os_range(fd, SHMI_UNLOCK, GATE, 1, false);
}

void shmi_users_step_down(int fd, bool guest)
{
	shmi_users_join_reader(fd);
	if (!guest)
		shmi_os_range(fd, SHMI_UNLOCK, FIRST_SLOT, ALL_LEN, false);
}

/* Locks of the process, which its death ends whoever else has the description;
 * everybody's are in their way, and other guests' GUEST too. */
int shmi_users_enter_guest(int fd, bool *alone)
{
	int err = shmi_os_own_range(fd, SHMI_EXCLUSIVE, FIRST_SLOT, ALL_LEN,
				    false);

	*alone = !err;
	return err == -EAGAIN ? 0 : err;
}

void shmi_users_let_in_guest(int fd)
{
	shmi_os_own_range(fd, SHMI_UNLOCK, FIRST_SLOT, ALL_LEN, false);
}

int shmi_users_claim_guest(int fd, struct layout_hdr *h, uint32_t *slot)
{
	uint32_t tid = shmi_os_tid(), i;
	int err;

	/* Who was alone has put everything right by now. */
	shmi_os_own_range(fd, SHMI_UNLOCK, GUEST, 1, false);
	err = shmi_os_range(fd, SHMI_SHARED, GUEST, 1, true);
	if (err)
		return err;
	for (i = 0; i < LAYOUT_GUESTS; i++) {
		uint32_t none = 0;

		/* relaxed: the word says only that it is taken */
		if (atomic_compare_exchange_strong_explicit(
			    &h->slot[i], &none, tid, memory_order_relaxed,
			    memory_order_relaxed)) {
			*slot = i;
			return 0;
		}
	}
	return -EUSERS;
}

void shmi_users_leave(struct layout_hdr *h, uint32_t slot)
{
	/* Only a guest's word is a claim. release: who sees that it has left
	 * takes over what it had (heap.c). */
	if (slot < LAYOUT_GUESTS)
		atomic_store_explicit(&h->slot[slot], 0, memory_order_release);
}

/* A guest's description is its host's, whose lock would be no other's to it. */
int shmi_users_alive(int fd, uint32_t ours, uint32_t slot)
{
	if (slot < LAYOUT_GUESTS)
		return 1;
	if (ours < LAYOUT_GUESTS)
		return shmi_os_own_range_held(fd, SLOT0 + slot, 1) != 0;
	return shmi_os_range_held(fd, SLOT0 + slot, 1) != 0;
}

bool shmi_users_lock_out(int fd)
{
	return !shmi_os_range(fd, SHMI_EXCLUSIVE, FIRST, GATE + 1 - FIRST,
			      false);
}

/* Readers are asked for and not kept from their byte, for which they never
 * wait; theirs is before the gate, so that none is missed. */
int shmi_users_lock_idle(int fd)
{
	int err = shmi_os_range(fd, SHMI_EXCLUSIVE, FIRST_SLOT, ALL_LEN, false);
	int held = err ? err : shmi_os_range_held(fd, READER, 1);

	if (held > 0)
		held = -EAGAIN;
	if (!err && held)
		shmi_os_range(fd, SHMI_UNLOCK, FIRST_SLOT, ALL_LEN, false);
	return held == -EAGAIN ? -EBUSY : held;
}

int shmi_users_queue(int fd)
{
	return shmi_os_own_range(fd, SHMI_EXCLUSIVE, QUEUE, 1, true);
}

void shmi_users_step_back(int fd)
{
	shmi_os_own_range(fd, SHMI_UNLOCK, QUEUE, 1, false);
}

int shmi_users_growing(int fd, bool on)
{
	return shmi_os_own_range(fd, on ? SHMI_SHARED : SHMI_UNLOCK, GROWING, 1,
				 false);
}

int shmi_users_others_growing(int fd)
{
	return shmi_os_range_held(fd, GROWING, 1) != 0;
}
