/* SPDX-License-Identifier: BSD-3-Clause */
/* layout.h - the arena's header as it lies in the file. Nothing here runs. */
#ifndef SHMI_LAYOUT_H
#define SHMI_LAYOUT_H

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The file, format 1:
 *
 *	0	struct layout_const, written before the file has a name and
 *		never again; sealed by a checksum
 *	256	struct layout_hdr's words that change
 *	1024	one word for each process that has the arena open ("slot")
 *	16384	a hole
 *	2 MiB	the arena's bytes, LAYOUT_DATA_OFF + size long. Starting at
 *		2 MiB and not behind the header lets file offset and address
 *		agree modulo 2 MiB, without which there are no transparent huge
 *		pages; a hole costs nothing.
 *
 * With huge pages the named file ends after the hole, and the arena's bytes
 * are a second file, the companion, from its offset 0 on.
 *
 * File locks (open file description locks) are taken on bytes far behind any
 * data; users.h has their meaning.
 */
#define LAYOUT_MAGIC 0x316d656d68736d74ull /* "tmshmem1" */
#define LAYOUT_FORMAT 1u
#define LAYOUT_HDR_LEN 16384u
#define LAYOUT_DATA_OFF 0x200000u

#define LAYOUT_SLOTS 3840u /* words; the header's second part */
#define LAYOUT_GUESTS 256u /* the first of them, without a file lock */

/* Bytes of the file that locks are on, one for each purpose: users.h. A
 * process that has the arena open holds the byte of its slot, a guest
 * LAYOUT_LOCK_GUEST, a reader LAYOUT_LOCK_READER. */
#define LAYOUT_LOCK_FIRST ((uint64_t)1 << 62)
#define LAYOUT_LOCK_READER (LAYOUT_LOCK_FIRST + 2)
#define LAYOUT_LOCK_SLOT0 (LAYOUT_LOCK_FIRST + 16)
#define LAYOUT_LOCK_GUEST (LAYOUT_LOCK_SLOT0 + LAYOUT_SLOTS)
#define LAYOUT_LOCK_GATE (LAYOUT_LOCK_GUEST + 1)

/* The companion's name, for printf: inode number of the arena's file, token. */
#define LAYOUT_COMPANION "libshmem-%016" PRIx64 "-%016" PRIx64 "%016" PRIx64

/* layout_const.flags */
#define LAYOUT_POPULATE 1u
#define LAYOUT_THP 2u
#define LAYOUT_FLAGS (LAYOUT_POPULATE | LAYOUT_THP)

/*
 * Everything is checked by header.c against the machine, the file and the
 * other fields before any of it is used, and copied to private memory: what
 * stands in the file afterwards does not matter. Sizes are in bytes.
 */
struct layout_const {
	uint64_t magic;	   /* LAYOUT_MAGIC; also tells the byte order */
	uint32_t format;   /* LAYOUT_FORMAT */
	uint32_t abi;	   /* word size, lengths above; header.c */
	uint64_t base;	   /* fixed address; multiple of pagesize */
	uint64_t maxsize;  /* multiple of pagesize; base + maxsize does
			    * not wrap */
	uint64_t pagesize; /* the small one, or a huge one of the machine */
	uint64_t flags;	   /* LAYOUT_FLAGS */
	uint64_t token[2]; /* random; part of the companion's name */
	uint64_t huge_ino; /* inode of the companion; 0: small pages */
	uint64_t checksum; /* over the fields above */
};

/*
 * The words that change. "lock": written by the owner of @lock only, or by an
 * opener that is provably alone. Readers take them as hostile: every use is
 * bounded by the private copy of the constants.
 */
struct layout_hdr {
	struct layout_const c;
	uint8_t pad0[256 - sizeof(struct layout_const)];

	_Atomic uint64_t size;	 /* lock; bytes in use; multiple of pagesize,
				 * <= maxsize; stored last by a grow, first by
				 * a shrink */
	_Atomic uint64_t ahead;	 /* lock; 0, or the length to which the file was
				 * extended beyond size by grows that populate
				 * outside the lock, or 1 for one that was cut;
				 * size.c */
	_Atomic uint64_t epoch;	 /* lock; counts the times that pages beyond
				 * size were thrown away */
	_Atomic uint64_t root;	 /* the application's; any value */
	_Atomic uint64_t deaths; /* lock; counts the owners that died in it, so
				  * that heaps see that there was one */
	uint8_t pad1[24];
	_Atomic uint64_t lock; /* count of changes << 16 | slot + 1 of the
				* owner, 0 for none; lock.c */
	uint8_t pad2[56];
	uint8_t pad3[1024 - 384];

	_Atomic uint32_t slot[LAYOUT_SLOTS]; /* thread id of the slot's user
					      * while it takes or has @lock,
					      * with the kernel's FUTEX_WAITERS
					      * and OWNER_DIED; only its user
					      * and the kernel store an id */
};

/* The first 1,024 bytes of it, as plain memory to be read into. */
struct layout_hdr_words {
	struct layout_const c;
	uint8_t pad0[256 - sizeof(struct layout_const)];
	uint64_t size, ahead, epoch, root, deaths;
	uint8_t pad1[24];
	uint64_t lock;
	uint8_t pad2[1024 - 328];
};

static_assert(offsetof(struct layout_hdr_words, ahead) ==
		      offsetof(struct layout_hdr, ahead),
	      "the same words");
static_assert(offsetof(struct layout_hdr_words, lock) ==
		      offsetof(struct layout_hdr, lock),
	      "the same words");
static_assert(sizeof(struct layout_hdr_words) ==
		      offsetof(struct layout_hdr, slot),
	      "the same words");
static_assert(offsetof(struct layout_const, base) == 16, "format 1 is frozen");
static_assert(sizeof(struct layout_const) == 80, "format 1 is frozen");
static_assert(offsetof(struct layout_hdr, size) == 256, "format 1 is frozen");
static_assert(offsetof(struct layout_hdr, lock) == 320, "format 1 is frozen");
static_assert(offsetof(struct layout_hdr, slot) == 1024, "format 1 is frozen");
static_assert(sizeof(struct layout_hdr) == LAYOUT_HDR_LEN,
	      "format 1 is frozen");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
	      "words shared between processes cannot have a hidden lock");

#endif
