/* SPDX-License-Identifier: BSD-3-Clause */
/* directory.c - the table of an instance's blocks, without a lock */
/*
 * A hash table of lines, each of which fits into a line of the caches and has
 * seven slots. A slot is one word:
 *
 *	bits 0..31   the block's record: its distance from the directory in
 *		     units of 64 bytes; 0: the slot is empty
 *	bits 32..39  of the name's hash, so that few records need be looked at
 *	bits 40..63  generation: how often the slot has been emptied
 *
 * A block enters by one compare-and-swap of a slot, when its record is
 * complete, and leaves by another, which the caller of odp_shm_free() who
 * succeeds owns it after. There is no state in between, so nothing for anybody
 * to wait for or to repair: who dies before the one or after the other takes
 * with him the block that he had in hand, and the heap's own calls, which are
 * where nearly all the time goes, lose nothing.
 *
 * (The alternative, a robust mutex in the arena, would have each call repair
 * what the last owner left, stand still where one is stopped, and cost more
 * than the rest of a lookup.)
 *
 * A handle is a slot's number and its generation, so one whose block has been
 * freed is known as such, until the same slot has been emptied 2^24 times. A
 * reader copies the record, and looks whether the slot's word is still the same
 * then: if so, the record was the block's all the while, as it does not change
 * as long as it is.
 *
 * A name whose own line is full goes into one of the next. Its line's @reach
 * says how far a lookup must look. It never falls, since that would race with
 * one who is just about to use the distance; a line costs a few nanoseconds.
 */
#include "internal.h"

#include <string.h>

#define SLOTS 7u
#define AT_MASK 0xffffffffull
#define TAG_SHIFT 32
#define GEN_SHIFT 40
#define GEN_MASK 0xffffffull

/* The copying races with writers by design, see above. */
#if defined(__SANITIZE_THREAD__)
#define RACY __attribute__((no_sanitize_thread))
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RACY __attribute__((no_sanitize("thread")))
#endif
#endif
#ifndef RACY
#define RACY
#endif

/* FNV-1a, and then its bits are mixed: low ones are to be as good as high. */
static uint64_t hash_of(const union odp_record *r, const char *name)
{
	uint64_t h = 0xcbf29ce484222325;

	/* One without a name has its place by chance. */
	if (!*name)
		h ^= (uintptr_t)r / ODP_RECORD_ALIGN;
	while (*name)
		h = (h ^ (unsigned char)*name++) * 0x100000001b3;
	h = (h ^ h >> 32) * 0xd6e8feb86659fd93;
	return h ^ h >> 32;
}

static _Atomic uint64_t *slot_at(struct odp_directory *d, uint64_t nr)
{
	return &d->line[nr / SLOTS].slot[nr % SLOTS];
}

static uint64_t handle_of(uint64_t nr, uint64_t word)
{
	return (word >> GEN_SHIFT) << 40 | (nr + 1);
}

/* The slot of a handle, and what it says if that block is still there. */
static _Atomic uint64_t *slot_of(struct odp_instance *in, uint64_t handle,
				 uint64_t *word)
{
	uint64_t nr = (handle & (((uint64_t)1 << 40) - 1)) - 1;
	_Atomic uint64_t *slot;

	if (nr >= in->nlines * SLOTS)
		return NULL;
	slot = slot_at(in->dir, nr);
	/* acquire: with the release that published the record */
	*word = atomic_load_explicit(slot, memory_order_acquire);
	return *word & AT_MASK && handle_of(nr, *word) == handle ? slot : NULL;
}

/* NULL where the word has been overwritten with something wild. */
static union odp_record *record_of(struct odp_instance *in, uint64_t word)
{
	uint64_t off = (word & AT_MASK) * ODP_RECORD_ALIGN;

	if (off > tmc_shmem_current_size(in->shm) - ODP_RECORD_LEN)
		return NULL;
	return (union odp_record *)((char *)in->dir + off);
}

RACY void odpi_copy(union odp_record *to, const union odp_record *from)
{
	size_t i;

	/* relaxed: a slot says what they are worth */
	for (i = 0; i < sizeof(to->word) / sizeof(to->word[0]); i++)
		atomic_store_explicit(
			&to->word[i],
			atomic_load_explicit(&from->word[i],
					     memory_order_relaxed),
			memory_order_relaxed);
}

/* Whether @out has become what @word of @slot stands for. */
static bool copy(struct odp_instance *in, _Atomic uint64_t *slot, uint64_t word,
		 union odp_record *out)
{
	const union odp_record *r = record_of(in, word);

	if (!r)
		return false;
	odpi_copy(out, r);
	/* The loads are done before the slot is read again. Had one of them
	 * seen a word of the memory's next use, this would see the slot
	 * emptied, as the free was before that. */
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(slot, memory_order_relaxed) == word;
}

bool odpi_read(struct odp_instance *in, uint64_t handle, union odp_record *out,
	       const union odp_record **at)
{
	uint64_t word;
	_Atomic uint64_t *slot = slot_of(in, handle, &word);

	if (!slot || !copy(in, slot, word, out))
		return false;
	if (at)
		*at = record_of(in, word);
	return true;
}

/* ----- in and out ----- */

/* Before the slot is taken: who can see the block then sees this, too. */
static void raise_reach(struct odp_line *home, uint64_t reach)
{
	uint64_t now = atomic_load_explicit(&home->reach, memory_order_relaxed);

	/* relaxed: ordered by the slot's release */
	while (now < reach &&
	       !atomic_compare_exchange_weak_explicit(&home->reach, &now, reach,
						      memory_order_relaxed,
						      memory_order_relaxed))
		;
}

/* The first empty slot of a line; its number in the line, or SLOTS. */
static unsigned int take_slot(struct odp_line *l, uint64_t value,
			      uint64_t *word)
{
	unsigned int i;

	for (i = 0; i < SLOTS; i++) {
		uint64_t now =
			atomic_load_explicit(&l->slot[i], memory_order_relaxed);

		while (!(now & AT_MASK)) {
			*word = (now & (GEN_MASK << GEN_SHIFT)) | value;
			/* release: the record, and the reach; from here on the
			 * block is there */
			if (atomic_compare_exchange_weak_explicit(
				    &l->slot[i], &now, *word,
				    memory_order_release, memory_order_relaxed))
				return i;
		}
	}
	return SLOTS;
}

uint64_t odpi_publish(struct odp_instance *in, union odp_record *r)
{
	struct odp_directory *d = in->dir;
	uint64_t h = hash_of(r, r->name), home = h & (in->nlines - 1);
	uint64_t at = (uint64_t)((char *)r - (char *)d) / ODP_RECORD_ALIGN;
	uint64_t value = at | (h >> 56) << TAG_SHIFT, i, line, word;
	unsigned int s;

	for (i = 0; i < in->nlines; i++) {
		line = (home + i) & (in->nlines - 1);
		if (i)
			raise_reach(&d->line[home], i);
		s = take_slot(&d->line[line], value, &word);
		if (s < SLOTS)
			return handle_of(line * SLOTS + s, word);
	}
	return 0;
}

union odp_record *odpi_withdraw(struct odp_instance *in, uint64_t handle)
{
	uint64_t word, empty;
	_Atomic uint64_t *slot = slot_of(in, handle, &word);
	union odp_record *r = slot ? record_of(in, word) : NULL;

	if (!r)
		return NULL;
	empty = ((word >> GEN_SHIFT) + 1) << GEN_SHIFT;
	/* Of two who free the same block one gets it. release: nothing that is
	 * done with the memory afterwards can be seen before this. */
	if (!atomic_compare_exchange_strong_explicit(slot, &word, empty,
						     memory_order_acq_rel,
						     memory_order_relaxed))
		return NULL;
	/* For a reader who has read the slot before: copy() has the other
	 * half. */
	atomic_thread_fence(memory_order_release);
	return r;
}

/* ----- looking ----- */

static bool is_it(const union odp_record *r, const char *name, uint32_t flags)
{
	return (r->flags & flags) == flags &&
	       !strncmp(r->name, name, ODP_SHM_NAME_LEN);
}

uint64_t odpi_find(struct odp_instance *in, const char *name, uint32_t flags,
		   union odp_record *out)
{
	struct odp_directory *d = in->dir;
	uint64_t h = hash_of(NULL, name), home = h & (in->nlines - 1), i, reach;

	/* relaxed: who knows of the block knows of the reach */
	reach = atomic_load_explicit(&d->line[home].reach,
				     memory_order_relaxed);
	for (i = 0; i <= reach && i < in->nlines; i++) {
		uint64_t line = (home + i) & (in->nlines - 1), s;

		for (s = 0; s < SLOTS; s++) {
			_Atomic uint64_t *slot = &d->line[line].slot[s];
			/* acquire: with the release that published it */
			uint64_t word = atomic_load_explicit(
				slot, memory_order_acquire);

			if ((word & AT_MASK) &&
			    (word >> TAG_SHIFT & 0xff) == h >> 56 &&
			    copy(in, slot, word, out) &&
			    is_it(out, name, flags))
				return handle_of(line * SLOTS + s, word);
		}
	}
	return 0;
}

uint64_t odpi_next(struct odp_instance *in, uint64_t *at, union odp_record *out)
{
	while (*at < in->nlines * SLOTS) {
		uint64_t nr = (*at)++;
		_Atomic uint64_t *slot = slot_at(in->dir, nr);
		/* acquire: as in odpi_find() */
		uint64_t word =
			atomic_load_explicit(slot, memory_order_acquire);

		if ((word & AT_MASK) && copy(in, slot, word, out))
			return handle_of(nr, word);
	}
	return 0;
}
