/* SPDX-License-Identifier: BSD-3-Clause */
/* api_find.c - which open arena an address lies in, without a lock */
/*
 * Every handle has a seat here from before its arena is mapped until before it
 * is unmapped. A seat has a version: odd while its fields change or before
 * they are set, and then the seat counts as empty. So nobody ever waits: not a
 * reader for a writer, nor a child of fork for a thread that it has not got,
 * whose seat just stays odd. Blocks of seats are never given back, so that a
 * reader can walk them at any time; their number follows the most handles
 * that were open at once.
 *
 *	reader	version even; fields (acquire); version still the same
 *	writer	version odd; fields (release); version even (release)
 *
 * A reader that has seen one field of a change sees at least the odd version
 * that came before it.
 *
 * While a reader walks, a handle behind it can be opened and one before it be
 * closed, and it would miss an arena that is open all the time. So every
 * publication counts @changes, and who has found nothing and finds another
 * count looks again.
 */
#include "api.h"

#include <errno.h>

#define SEATS 63u
#define READONLY ((uintptr_t)1) /* in @handle */

struct shmi_seat {
	_Atomic uint64_t version; /* odd: claimed, not to be looked at */
	_Atomic uintptr_t start;  /* address of the arena */
	_Atomic size_t len;	  /* its maximum, bytes */
	_Atomic uintptr_t handle; /* with READONLY; 0: free */
};

struct block {
	_Atomic uint32_t used; /* seats that were ever claimed; only grows */
	struct shmi_seat seat[SEATS];
	_Atomic(struct block *) next; /* set once */
};

static struct block first;
static _Atomic uint64_t changes;

/* ----- writers ----- */

static struct block *next_block(struct block *b)
{
	const struct shmi_map_how how = { .prot = SHMI_PROT_READ |
						  SHMI_PROT_WRITE };
	struct block *next =
		atomic_load_explicit(&b->next, memory_order_acquire);
	void *at;

	if (next)
		return next;
	/* Not from malloc(), where it would look like a leak. */
	if (shmi_os_map_anon(&how, NULL, sizeof(*b), &at))
		return NULL;
	/* release: pairs with the acquire of who walks */
	if (atomic_compare_exchange_strong_explicit(&b->next, &next, at,
						    memory_order_acq_rel,
						    memory_order_acquire))
		return at;
	shmi_os_unmap(at, sizeof(*b));
	return next;
}

/* One of @b that was free; it is odd now. */
static struct shmi_seat *claim_in(struct block *b)
{
	uint32_t i, used;

	for (i = 0; i < SEATS; i++) {
		struct shmi_seat *s = &b->seat[i];
		uint64_t v =
			atomic_load_explicit(&s->version, memory_order_acquire);

		/* acquire: the free seat's last user is done with it */
		if (v & 1 ||
		    atomic_load_explicit(&s->handle, memory_order_acquire) ||
		    !atomic_compare_exchange_strong_explicit(
			    &s->version, &v, v + 1, memory_order_acq_rel,
			    memory_order_relaxed))
			continue;
		used = atomic_load_explicit(&b->used, memory_order_relaxed);
		while (used <= i &&
		       !atomic_compare_exchange_weak_explicit(
			       &b->used, &used, i + 1, memory_order_release,
			       memory_order_relaxed))
			;
		return s;
	}
	return NULL;
}

struct shmi_seat *shmi_api_seat(void)
{
	struct shmi_seat *s = NULL;
	struct block *b;

	for (b = &first; b && !s; b = next_block(b))
		s = claim_in(b);
	return s;
}

void shmi_api_sit(struct shmi_seat *s, tmc_shmem_t *shm, bool readonly)
{
	const uintptr_t flag = readonly ? READONLY : 0;

	atomic_store_explicit(&s->start, (uintptr_t)tmc_shmem_address(shm),
			      memory_order_release);
	atomic_store_explicit(&s->len, tmc_shmem_maximum_size(shm),
			      memory_order_release);
	atomic_store_explicit(&s->handle, (uintptr_t)shm | flag,
			      memory_order_release);
	atomic_fetch_add_explicit(&s->version, 1, memory_order_release);
	/* After it: who sees the count sees the seat. */
	atomic_fetch_add_explicit(&changes, 1, memory_order_release);
}

void shmi_api_rise(struct shmi_seat *s)
{
	/* relaxed: nobody else changes the version of a seat that is taken */
	if (!(atomic_load_explicit(&s->version, memory_order_relaxed) & 1))
		atomic_fetch_add_explicit(&s->version, 1, memory_order_acq_rel);
	atomic_store_explicit(&s->handle, 0, memory_order_release);
	atomic_fetch_add_explicit(&s->version, 1, memory_order_release);
}

/* ----- readers ----- */

/* The handle in @s, with READONLY, if @addr is in its arena; else 0. */
static uintptr_t look(struct shmi_seat *s, uintptr_t addr, size_t *off)
{
	uint64_t seen, now;
	uintptr_t handle, start;
	size_t len;

	/* Nearly always it is another's, and whether these two are of one
	 * moment does not matter: if not, there is a change under way. */
	start = atomic_load_explicit(&s->start, memory_order_acquire);
	len = atomic_load_explicit(&s->len, memory_order_acquire);
	if (addr - start >= len)
		return 0;
	now = atomic_load_explicit(&s->version, memory_order_acquire);
	do {
		seen = now;
		if (seen & 1)
			return 0;
		handle = atomic_load_explicit(&s->handle, memory_order_acquire);
		start = atomic_load_explicit(&s->start, memory_order_acquire);
		len = atomic_load_explicit(&s->len, memory_order_acquire);
		/* acquire again: another round begins with it */
		now = atomic_load_explicit(&s->version, memory_order_acquire);
	} while (now != seen);
	*off = addr - start;
	return *off < len ? handle : 0;
}

/* A handle that may write goes before others of the same arena. */
static uintptr_t walk(uintptr_t addr, size_t *off)
{
	uintptr_t found = 0, handle;
	struct block *b;
	uint32_t i, used;
	size_t at;

	for (b = &first; b;
	     b = atomic_load_explicit(&b->next, memory_order_acquire)) {
		used = atomic_load_explicit(&b->used, memory_order_acquire);
		for (i = 0; i < used; i++) {
			handle = look(&b->seat[i], addr, &at);
			if (!handle)
				continue;
			found = handle;
			*off = at;
			if (!(handle & READONLY))
				return found;
		}
	}
	return found;
}

tmc_shmem_t *tmc_shmem_find(const void *p, size_t *offset)
{
	uint64_t seen, now;
	uintptr_t found;
	size_t off = 0;

	/* acquire: pairs with the release in shmi_api_sit() */
	now = atomic_load_explicit(&changes, memory_order_acquire);
	do {
		seen = now;
		found = walk((uintptr_t)p, &off);
		now = atomic_load_explicit(&changes, memory_order_acquire);
	} while (!found && now != seen);
	if (!found) {
		errno = ENOENT;
		return NULL;
	}
	if (offset)
		*offset = off;
	return (tmc_shmem_t *)(found & ~READONLY);
}
