/* SPDX-License-Identifier: BSD-3-Clause */
/* harness_header.h - opens and uses an arena with a header from the input. */
#ifndef FUZZ_HARNESS_HEADER_H
#define FUZZ_HARNESS_HEADER_H

#include "harness.h"

/* forged.flags */
#define F_SEAL 1u      /* with a right checksum */
#define F_HUGE 2u      /* from an arena with a companion */
#define F_BUSY 4u      /* somebody has it open */
#define F_READER 8u    /* read-only first, then both */
#define F_LIVE 16u     /* changed once more after the open */
#define F_UNLINK 32u   /* removed in the end */
#define F_STRANGER 64u /* huge_ino is the stranger's */
#define F_NO_GROW 128u

struct words {
	uint64_t size, ahead, epoch, root, lock;
} __attribute__((packed));

/*
 * The input, zeros where it ends early. All of it is XORed over a whole arena,
 * so zeros are one.
 */
struct forged {
	uint8_t flags;
	uint8_t npages; /* to grow by, in the end to shrink by */
	uint64_t len;	/* of the file */
	uint8_t constants[sizeof(struct layout_const)];
	struct words words;
	uint64_t live_len;
	struct words live;
	struct {
		uint16_t slot;
		uint32_t value;
	} __attribute__((packed)) slots[8];
} __attribute__((packed));

static void xor_words(unsigned char *header, const struct words *w)
{
	struct layout_hdr *h = (struct layout_hdr *)header;

	h->size ^= w->size;
	h->ahead ^= w->ahead;
	h->epoch ^= w->epoch;
	h->root ^= w->root;
	h->lock ^= w->lock;
}

static void forge(const struct forged *in, unsigned char *header)
{
	struct layout_hdr *h = (struct layout_hdr *)header;
	unsigned char *c = header;
	size_t i;

	memcpy(header, world.header, LAYOUT_HDR_LEN);
	if (world.huge && (in->flags & F_HUGE)) {
		h->c.huge_ino = in->flags & F_STRANGER ? world.stranger_ino
						       : world.companion_ino;
		h->c.pagesize = HUGE;
		h->c.maxsize = 4 * HUGE;
		h->size = 0;
	}
	for (i = 0; i < sizeof(in->constants); i++)
		c[i] ^= in->constants[i];
	if (in->flags & F_SEAL)
		h->c.checksum = world_checksum(&h->c);
	xor_words(header, &in->words);
	for (i = 0; i < 8; i++)
		h->slot[in->slots[i].slot % LAYOUT_SLOTS] ^= in->slots[i].value;
	if (in->flags & F_BUSY)
		h->lock = world_no_live_owner(h->lock);
}

/* What header.h says must hold, said once more. */
static bool plausible(const struct layout_const *c, uint64_t len)
{
	const struct layout_const *t = world_const();
	uint64_t pages = c->huge_ino ? shmi_os_huge_sizes() : PAGE;

	if (c->magic != t->magic || c->format != t->format ||
	    c->abi != t->abi || c->checksum != world_checksum(c) ||
	    len < LAYOUT_HDR_LEN || c->flags > 3)
		return false;
	if (__builtin_popcountll(c->pagesize) != 1 || !(c->pagesize & pages))
		return false;
	return c->base && !(c->base % c->pagesize) && c->maxsize &&
	       !(c->maxsize % c->pagesize) && !(c->base >> 63) &&
	       !(c->maxsize >> 63) && !((c->base + c->maxsize) >> 63);
}

static void check_size(const tmc_shmem_t *shm, const struct layout_const *c)
{
	size_t size = tmc_shmem_current_size(shm);

	CHECK(size <= c->maxsize && size % c->pagesize == 0);
	CHECK((uintptr_t)tmc_shmem_address(shm) == c->base);
	CHECK(tmc_shmem_maximum_size(shm) == c->maxsize);
	CHECK(tmc_shmem_page_size(shm) == c->pagesize);
	tmc_shmem_get_data(shm);
}

/* Reads the first and the last byte that size and file say are there. */
static void read_ends(const tmc_shmem_t *shm, const struct layout_const *c)
{
	volatile char *at = tmc_shmem_address(shm);
	uint64_t size = tmc_shmem_current_size(shm), len = world_len(world.fd);

	if (c->huge_ino || len <= LAYOUT_DATA_OFF)
		return;
	if (size > len - LAYOUT_DATA_OFF)
		size = len - LAYOUT_DATA_OFF;
	if (size)
		(void)(at[0] + at[size - 1]);
}

static void change_size(tmc_shmem_t *shm, const struct layout_const *c,
			const struct forged *in)
{
	size_t n = (in->npages & 7) * c->pagesize, size;
	char *at = n ? tmc_shmem_grow(shm, n) : NULL;

	check_size(shm, c);
	if (at) {
		size = tmc_shmem_current_size(shm);
		CHECK((uintptr_t)at - c->base + n == size);
		if (!c->huge_ino) {
			CHECK(!at[0] && !at[n - 1]);
			at[n - 1] = 1;
		}
	}
	CHECK(!tmc_shmem_set_data(shm, shm));
	size = tmc_shmem_current_size(shm);
	n = (in->npages >> 3 & 7) * c->pagesize;
	if (n && n <= size && !tmc_shmem_shrink(shm, (off_t)(size - n), n))
		CHECK(tmc_shmem_current_size(shm) == size - n);
	check_size(shm, c);
}

/* A peer that may write the file does so; not where it means SIGBUS for us. */
static void scribble(const struct forged *in)
{
	unsigned char header[LAYOUT_HDR_LEN];
	struct layout_hdr *h = (struct layout_hdr *)header;
	uint64_t len = world_len(world.fd) ^ in->live_len;

	CHECK(pread(world.fd, header, sizeof(header), 0) == LAYOUT_HDR_LEN);
	xor_words(header, &in->live);
	h->lock = world_no_live_owner(h->lock);
	CHECK(pwrite(world.fd, header + 256, sizeof(header) - 256, 256) > 0);
	if (in->live_len && len >= LAYOUT_HDR_LEN && len <= INT64_MAX &&
	    ftruncate(world.fd, (off_t)len))
		return; /* too long for the file system */
}

static void use(tmc_shmem_t *shm, const struct layout_const *c,
		const struct forged *in)
{
	world_check_place(shm);
	check_size(shm, c);
	read_ends(shm, c);
	if (in->flags & F_LIVE) {
		scribble(in);
		check_size(shm, c);
		read_ends(shm, c);
	}
	if (!(in->flags & F_NO_GROW))
		change_size(shm, c, in);
}

static bool expected(int err)
{
	return err == EINVAL || err == EADDRINUSE || err == ENOMEM ||
	       err == ENOENT;
}

static void use_readonly(const struct layout_const *c, bool plausibly)
{
	tmc_shmem_t *shm = tmc_shmem_open_readonly(world.a);

	if (!shm) {
		CHECK(expected(errno));
		return;
	}
	CHECK(plausibly);
	world_check_place(shm);
	check_size(shm, c);
	read_ends(shm, c);
	CHECK(!tmc_shmem_grow(shm, PAGE) && errno == EACCES);
	tmc_shmem_close(shm);
}

static void try_unlink(bool plausibly)
{
	struct stat st;
	int err = world_unlink_companion();

	CHECK(!err || err == -ENOENT || err == -ENODATA);
	if (!tmc_shmem_unlink(world.a)) {
		CHECK(plausibly);
		CHECK(lstat(world.a, &st) && errno == ENOENT);
	} else {
		CHECK(expected(errno));
		CHECK(!lstat(world.a, &st));
	}
	world_put_back();
}

static void header_run(const uint8_t *data, size_t len)
{
	static unsigned char header[LAYOUT_HDR_LEN];
	const struct layout_const *c = (const struct layout_const *)header;
	struct forged in;
	tmc_shmem_t *shm, *reader = NULL;
	uint64_t natural, longest;
	bool ok;

	world_begin();
	memset(&in, 0, sizeof(in));
	memcpy(&in, data, len < sizeof(in) ? len : sizeof(in));
	forge(&in, header);
	natural =
		world.huge && (in.flags & F_HUGE) ? LAYOUT_HDR_LEN : world.len;
	natural ^= in.len;
	if (!world_lay(header, natural))
		return;
	ok = plausible(c, natural);
	if (in.flags & F_BUSY)
		world_busy(true);
	use_readonly(c, ok);
	if (in.flags & F_READER)
		reader = tmc_shmem_open_readonly(world.a);
	shm = tmc_shmem_open(world.a);
	if (shm) {
		CHECK(ok);
		use(shm, c, &in);
	} else {
		CHECK(expected(errno));
	}
	if (reader)
		check_size(reader, c);
	tmc_shmem_close(reader);
	tmc_shmem_close(shm);
	longest = ok ? LAYOUT_DATA_OFF + c->maxsize : 0;
	if (longest < natural)
		longest = natural;
	CHECK((in.flags & F_LIVE) || world_len(world.fd) <= longest);
	if (in.flags & F_BUSY)
		world_busy(false);
	if (in.flags & F_UNLINK)
		try_unlink(ok);
	world_check();
}

#endif
