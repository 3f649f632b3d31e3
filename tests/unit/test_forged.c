/* SPDX-License-Identifier: BSD-3-Clause */
/* test_forged.c - a forged or damaged file makes calls fail and no more. */
/*
 * What must not happen aborts in the harness that the fuzzers share with this
 * test: a wrong errno, an arena over memory in use, another file touched, a
 * descriptor left.
 */
#include "test.h"

#include <stdlib.h>

#include "../fuzz/harness_calls.h"
#include "../fuzz/harness_header.h"
#include "../fuzz/replay.h"

#include "probe.h"

#define FIELD(name) offsetof(struct layout_const, name)

static const uint64_t extremes[] = {
	0,
	1,
	2,
	PAGE - 1,
	PAGE,
	PAGE + 1,
	LAYOUT_DATA_OFF,
	INT32_MAX,
	UINT32_MAX,
	1ull << 32,
	(1ull << 47) - PAGE,
	1ull << 47,
	1ull << 62,
	(1ull << 62) - PAGE,
	INT64_MAX - PAGE + 1,
	INT64_MAX - LAYOUT_DATA_OFF - PAGE + 1,
	INT64_MAX,
	1ull << 63,
	UINT64_MAX - PAGE + 1,
	UINT64_MAX,
};
#define N_EXTREMES (sizeof(extremes) / sizeof(extremes[0]))

static int open_world(void **state)
{
	return test_box_open(state) || world_open();
}

static int close_world(void **state)
{
	world_close();
	return test_box_close(state);
}

/* ----- what the fuzzers found worth keeping ----- */

static void headers_of_the_corpus_do_no_harm(void **state)
{
	(void)state;
	assert_true(replay(CORPUS "header", header_run) > 20);
}

static void calls_of_the_corpus_do_no_harm(void **state)
{
	(void)state;
	assert_true(replay(CORPUS "calls", calls_run) > 20);
}

/* ----- constants ----- */

static void a_whole_arena_is_opened_used_and_removed(void **state)
{
	struct forged in = { .flags = F_SEAL | F_UNLINK, .npages = 0x0a };
	tmc_shmem_t *shm;

	(void)state;
	header_run((const uint8_t *)&in, sizeof(in));
	assert_true(world_lay(world.header, world.len));
	shm = tmc_shmem_open(world.a);
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_current_size(shm), NPAGES * PAGE);
	tmc_shmem_close(shm);
}

/* Damage at rest, the checksum as it was. */
static void every_other_byte_in_the_constants_is_refused(void **state)
{
	unsigned char header[LAYOUT_HDR_LEN];
	size_t at;
	int with;

	(void)state;
	memcpy(header, world.header, sizeof(header));
	assert_true(world_lay(header, world.len));
	for (at = 0; at < sizeof(struct layout_const); at++) {
		for (with = 1; with < 256; with++) {
			unsigned char c = header[at] ^ (unsigned char)with;

			assert_int_equal(pwrite(world.fd, &c, 1, (off_t)at), 1);
			assert_null_errno(tmc_shmem_open(world.a), EINVAL);
			if (with & (with - 1))
				continue;
			assert_null_errno(tmc_shmem_open_readonly(world.a),
					  EINVAL);
			assert_null_errno(tmc_shmem_open_fds(world.fd, -1),
					  EINVAL);
			assert_minus_errno(tmc_shmem_unlink(world.a), EINVAL);
		}
		assert_int_equal(pwrite(world.fd, header + at, 1, (off_t)at),
				 1);
	}
	world_begin();
	world_check();
}

/* Lays an arena with field @off of the constants as @value, and a checksum. */
static void lay_field(size_t off, uint64_t value)
{
	unsigned char header[LAYOUT_HDR_LEN];
	struct layout_const *c = (struct layout_const *)header;

	memcpy(header, world.header, sizeof(header));
	memcpy(header + off, &value, sizeof(value));
	c->checksum = world_checksum(c);
	assert_true(world_lay(header, world.len));
}

/* @err of all calls that open; unlink says the same of what is no arena. */
static void assert_field_refused(size_t off, uint64_t value, int err)
{
	lay_field(off, value);
	world_begin();
	assert_null_errno(tmc_shmem_open(world.a), err);
	assert_null_errno(tmc_shmem_open_readonly(world.a), err);
	assert_null_errno(tmc_shmem_open_fds(world.fd, -1), err);
	if (err == EINVAL)
		assert_minus_errno(tmc_shmem_unlink(world.a), err);
	world_check();
}

static void sealed_constants_out_of_range_are_refused(void **state)
{
	const uint64_t format =
		(uint64_t)world_const()->abi << 32 | world_const()->format;
	size_t i;

	(void)state;
	for (i = 0; i < N_EXTREMES; i++) {
		uint64_t v = extremes[i];

		assert_field_refused(FIELD(magic), v, EINVAL);
		assert_field_refused(FIELD(format), v, EINVAL);
		if (v != PAGE)
			assert_field_refused(FIELD(pagesize), v, EINVAL);
		if (v > LAYOUT_FLAGS)
			assert_field_refused(FIELD(flags), v, EINVAL);
		if (v % PAGE || !v || v > INT64_MAX) {
			assert_field_refused(FIELD(base), v, EINVAL);
			assert_field_refused(FIELD(maxsize), v, EINVAL);
		}
	}
	assert_field_refused(FIELD(magic), __builtin_bswap64(LAYOUT_MAGIC),
			     EINVAL);
	assert_field_refused(FIELD(format), format + 1, EINVAL);
	assert_field_refused(FIELD(format), format ^ 0xc00000000000000, EINVAL);
	/* Ends above what a program can have. */
	assert_field_refused(FIELD(base), (1ull << 62), ENOMEM);
	assert_field_refused(FIELD(maxsize), 1ull << 62, ENOMEM);
}

/* Each with every checker of the harness behind it, and used if it opens. */
static void every_extreme_of_every_constant_does_no_harm(void **state)
{
	const uint8_t flags[] = { 0, F_HUGE, F_BUSY | F_UNLINK, F_READER };
	size_t off, i, j;

	(void)state;
	for (off = 0; off < FIELD(checksum); off += 8) {
		for (i = 0; i < N_EXTREMES; i++) {
			for (j = 0; j < sizeof(flags); j++) {
				struct forged in = { .npages = 0x09 };
				uint64_t was;

				memcpy(&was, world.header + off, sizeof(was));
				was ^= extremes[i];
				memcpy(in.constants + off, &was, sizeof(was));
				in.flags = F_SEAL | flags[j];
				header_run((const uint8_t *)&in, sizeof(in));
			}
		}
	}
}

/* ----- where it would lie ----- */

static void assert_place_taken(const void *in_use)
{
	uint64_t at = (uintptr_t)in_use & ~(uint64_t)(PAGE - 1);

	assert_field_refused(FIELD(base), at, EADDRINUSE);
	/* Only its last page would lie there. */
	assert_field_refused(FIELD(base), at + PAGE - MAXSIZE, EADDRINUSE);
}

static void memory_in_use_is_never_mapped_over(void **state)
{
	size_t maps;
	int on_stack;
	void *heap = malloc(100);

	(void)state;
	assert_place_taken(world.canary);
	assert_place_taken(&on_stack);
	assert_place_taken(heap);
	assert_place_taken(&world);
	assert_place_taken((void *)(uintptr_t)abort);
	assert_place_taken((void *)(uintptr_t)world_open);
	assert_field_refused(FIELD(base),
			     (uintptr_t)world.canary + CANARY_LEN - PAGE,
			     EADDRINUSE);
	free(heap);
	lay_field(FIELD(base), (uintptr_t)world.canary);
	maps = probe_maps();
	assert_null_errno(tmc_shmem_open(world.a), EADDRINUSE);
	assert_int_equal(probe_maps(), maps);
}

/* ----- the file's length, and the words that change ----- */

static void any_length_of_the_file_does_no_harm(void **state)
{
	const uint64_t around[] = { 0,
				    sizeof(struct layout_const),
				    256,
				    1024,
				    PAGE,
				    LAYOUT_HDR_LEN,
				    LAYOUT_DATA_OFF,
				    LAYOUT_DATA_OFF + PAGE,
				    LAYOUT_DATA_OFF + NPAGES * PAGE,
				    LAYOUT_DATA_OFF + MAXSIZE,
				    1ull << 40 };
	size_t i, j;

	(void)state;
	for (i = 0; i < sizeof(around) / sizeof(around[0]); i++) {
		for (j = 0; j < 3; j++) {
			uint64_t len = around[i] + j - 1;
			struct forged in = { .flags = j ? F_READER : F_BUSY,
					     .npages = 0x09,
					     .len = len ^ world.len };

			header_run((const uint8_t *)&in, sizeof(in));
			if (!world_lay(world.header, len) ||
			    len >= LAYOUT_HDR_LEN)
				continue;
			assert_null_errno(tmc_shmem_open(world.a), EINVAL);
			assert_minus_errno(tmc_shmem_unlink(world.a), EINVAL);
		}
	}
}

/* At rest they are voided or refused; from a live peer they are bounded. */
static void extreme_words_do_no_harm_at_rest_and_live(void **state)
{
	const uint8_t flags[] = { 0, F_BUSY, F_READER, F_HUGE };
	const struct layout_hdr *h = (const struct layout_hdr *)world.header;
	size_t i, j, k;

	(void)state;
	for (i = 0; i < N_EXTREMES; i++) {
		for (j = 0; j < sizeof(flags); j++) {
			for (k = 0; k < 5; k++) {
				struct forged in = { .flags = flags[j],
						     .npages = 0x09 };
				uint64_t v = extremes[i] ^ (k ? 0 : h->size);

				memcpy((char *)&in.words + k * 8, &v, 8);
				header_run((const uint8_t *)&in, sizeof(in));
				memset(&in.words, 0, sizeof(in.words));
				memcpy((char *)&in.live + k * 8, &v, 8);
				in.flags |= F_LIVE;
				header_run((const uint8_t *)&in, sizeof(in));
			}
		}
	}
}

/* Alone every owner is void; else one that is dead is replaced. */
static void no_owner_in_a_file_at_rest_stops_a_grow(void **state)
{
	unsigned int owner;

	(void)state;
	for (owner = 1; owner < 0x10000;
	     owner += owner < LAYOUT_SLOTS + 8 ? 7 : 4001) {
		struct forged in = { .npages = 0x09 };

		in.words.lock = owner | 0x123450000ull;
		header_run((const uint8_t *)&in, sizeof(in));
		in.flags = F_BUSY;
		header_run((const uint8_t *)&in, sizeof(in));
	}
}

static void a_size_beyond_the_file_is_cut_to_what_is_there(void **state)
{
	unsigned char header[LAYOUT_HDR_LEN];
	struct layout_hdr *h = (struct layout_hdr *)header;
	tmc_shmem_t *shm;

	(void)state;
	memcpy(header, world.header, sizeof(header));
	h->size = 10 * PAGE;
	assert_true(world_lay(header, LAYOUT_DATA_OFF + 2 * PAGE + 100));
	shm = tmc_shmem_open_readonly(world.a);
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_current_size(shm), 2 * PAGE);
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(world.a);
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_current_size(shm), 2 * PAGE);
	assert_int_equal(world_len(world.fd), LAYOUT_DATA_OFF + 2 * PAGE);
	tmc_shmem_close(shm);
	h->size = MAXSIZE + PAGE;
	assert_true(world_lay(header, world.len));
	assert_null_errno(tmc_shmem_open(world.a), EINVAL);
}

/* ----- companions ----- */

static void need_huge(void)
{
	if (!world.huge)
		skip();
}

/* Lays a small-page arena's header made one of huge pages. */
static void lay_huge(uint64_t ino, uint64_t token)
{
	unsigned char header[LAYOUT_HDR_LEN];
	struct layout_const *c = (struct layout_const *)header;

	memcpy(header, world.header, sizeof(header));
	c->huge_ino = ino;
	c->pagesize = HUGE;
	c->maxsize = 4 * HUGE;
	c->token[0] ^= token;
	c->checksum = world_checksum(c);
	((struct layout_hdr *)header)->size = 0;
	assert_true(world_lay(header, LAYOUT_HDR_LEN));
}

static void a_forged_companion_leads_nowhere(void **state)
{
	struct stat st;

	(void)state;
	need_huge();
	assert_int_equal(lstat(victim_name(1), &st), 0);
	lay_huge(world.stranger_ino, 0);
	assert_null_errno(tmc_shmem_open(world.a), ENOENT);
	assert_null_errno(tmc_shmem_open_readonly(world.a), ENOENT);
	lay_huge(st.st_ino, 0);
	assert_null_errno(tmc_shmem_open(world.a), ENOENT);
	lay_huge(world.companion_ino, 1);
	assert_null_errno(tmc_shmem_open(world.a), ENOENT);
	lay_huge(0, 0); /* small pages of 2 MiB */
	assert_null_errno(tmc_shmem_open(world.a), EINVAL);
	world_begin();
	world_check();
}

/* Also where a stranger may make files on the hugetlbfs mount. */
static void what_lies_at_the_companions_name_is_not_followed(void **state)
{
	struct stat st;
	int fd;

	(void)state;
	need_huge();
	assert_int_equal(unlink(world.companion), 0);
	lay_huge(world.stranger_ino, 0);
	/* Some kernels have no symbolic links there. */
	if (!symlink(world.stranger, world.companion)) {
		assert_null(tmc_shmem_open(world.a));
		assert_null(tmc_shmem_open_readonly(world.a));
		assert_int_equal(unlink(world.companion), 0);
	}
	assert_int_equal(mkfifo(world.companion, 0600), 0);
	assert_null_errno(tmc_shmem_open(world.a), ENOENT);
	assert_null_errno(tmc_shmem_open_readonly(world.a), ENOENT);
	assert_int_equal(unlink(world.companion), 0);
	make_companion();
	lay_huge(world.companion_ino, 0);
	fd = open(victim_name(0), O_RDWR | O_CLOEXEC);
	assert_null_errno(tmc_shmem_open_fds(world.fd, fd), EINVAL);
	close(fd);
	assert_int_equal(lstat(world.companion, &st), 0);
	world_begin();
	world_check();
}

static void unlink_with_a_forged_companion_removes_nothing_else(void **state)
{
	const uint64_t inos[] = { world.stranger_ino, world.victims[0].st_ino,
				  1, UINT64_MAX };
	struct stat st, companion;
	size_t i;

	(void)state;
	need_huge();
	assert_int_equal(lstat(world.companion, &companion), 0);
	for (i = 0; i < 4; i++) {
		lay_huge(inos[i], 0);
		assert_int_not_equal(world_unlink_companion(), -ENODATA);
		same_file(world.companion, &companion);
		assert_int_equal(tmc_shmem_unlink(world.a), 0);
		world_put_back();
		same_file(world.companion, &companion);
	}
	lay_huge(world.companion_ino, 1);
	assert_int_equal(world_unlink_companion(), -ENOENT);
	same_file(world.companion, &companion);
	/* And its own goes. */
	lay_huge(world.companion_ino, 0);
	assert_int_equal(world_unlink_companion(), 0);
	assert_int_equal(lstat(world.companion, &st), -1);
	world_put_back();
	world_begin();
	world_check();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_arena_is_opened_used_and_removed),
		cmocka_unit_test(headers_of_the_corpus_do_no_harm),
		cmocka_unit_test(calls_of_the_corpus_do_no_harm),
		cmocka_unit_test(every_other_byte_in_the_constants_is_refused),
		cmocka_unit_test(sealed_constants_out_of_range_are_refused),
		cmocka_unit_test(every_extreme_of_every_constant_does_no_harm),
		cmocka_unit_test(memory_in_use_is_never_mapped_over),
		cmocka_unit_test(any_length_of_the_file_does_no_harm),
		cmocka_unit_test(extreme_words_do_no_harm_at_rest_and_live),
		cmocka_unit_test(no_owner_in_a_file_at_rest_stops_a_grow),
		cmocka_unit_test(
			a_size_beyond_the_file_is_cut_to_what_is_there),
		cmocka_unit_test(a_forged_companion_leads_nowhere),
		cmocka_unit_test(
			what_lies_at_the_companions_name_is_not_followed),
		cmocka_unit_test(
			unlink_with_a_forged_companion_removes_nothing_else),
	};

	return cmocka_run_group_tests(tests, open_world, close_world);
}
