/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_rest.c - files that nobody has open: copied in the middle of a grow,
 * with forged words, cut, with holes. SEED repeats a run.
 */
#include "actor.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "file.h"
#include "kernel.h"
#include "layout.h"
#include "probe.h"

#define PAGES 8
#define ROUNDS 3000

static unsigned long seed(void)
{
	static unsigned long s;
	const char *env = getenv("SEED");
	struct timespec ts;

	if (!s) {
		clock_gettime(CLOCK_REALTIME, &ts);
		s = env ? strtoul(env, NULL, 0) : (unsigned long)ts.tv_nsec | 1;
		printf("SEED=%lu\n", s);
	}
	return s;
}

/* xorshift64* */
static uint64_t random_word(uint64_t *r)
{
	*r ^= *r >> 12;
	*r ^= *r << 25;
	*r ^= *r >> 27;
	return *r * 0x2545f4914f6cdd1du;
}

static size_t pagesize(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* An arena of PAGES pages, the n-th of them full of n + 1; at rest. */
static int make_arena(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = tmc_shmem_create(arg, NULL, NULL, 64 * MIB);
	char *at;
	int i;

	(void)self;
	PEER_CHECK(shm);
	at = tmc_shmem_grow(shm, PAGES * pagesize());
	PEER_CHECK(at);
	for (i = 0; i < PAGES; i++)
		memset(at + (size_t)i * pagesize(), i + 1, pagesize());
	PEER_CHECK(tmc_shmem_set_data(shm, at + 1) == 0);
	tmc_shmem_close(shm);
	return 0;
}

static const char *rest_arena(const char *name)
{
	const char *path = box_path(name);

	assert_int_equal(peer_run(make_arena, (void *)(uintptr_t)path), 0);
	return path;
}

/* In a peer: what is there is right, and it grows and shrinks. */
static int is_sound(tmc_shmem_t *shm)
{
	size_t size = tmc_shmem_current_size(shm), i;
	char *base = tmc_shmem_address(shm), *at;

	PEER_CHECK(size % pagesize() == 0);
	for (i = 0; i < size; i++)
		PEER_CHECK(base[i] == (char)(i / pagesize() + 1));
	at = tmc_shmem_grow(shm, 3 * pagesize());
	PEER_CHECK(at == base + size);
	PEER_CHECK(probe_zero(at, 3 * pagesize()));
	memset(at, 0x77, 3 * pagesize());
	PEER_CHECK(tmc_shmem_shrink(shm, (off_t)size, 3 * pagesize()) == 0);
	PEER_CHECK(tmc_shmem_current_size(shm) == size);
	return 0;
}

/* ----- copies ----- */

static int copy(const char *from, const char *to)
{
	char buf[LAYOUT_HDR_LEN];
	FILE *in = fopen(from, "re"), *out = fopen(to, "we");
	size_t n;

	if (!in || !out)
		return -1;
	while ((n = fread(buf, 1, sizeof(buf), in)) > 0)
		fwrite(buf, 1, n, out);
	fclose(in);
	return fclose(out);
}

/* Two pages that somebody has filled with his process id, or less of them. */
static int open_copy(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;
	size_t size;
	char *at;

	(void)self;
	alarm(10);
	shm = tmc_shmem_open(arg);
	PEER_CHECK(shm);
	size = tmc_shmem_current_size(shm);
	PEER_CHECK(size == 4096);
	at = tmc_shmem_grow(shm, 4096);
	PEER_CHECK(at == (char *)tmc_shmem_address(shm) + size && *at == 0);
	PEER_CHECK(tmc_shmem_shrink(shm, (off_t)size, 4096) == 0);
	tmc_shmem_close(shm);
	PEER_CHECK(tmc_shmem_unlink(arg) == 0);
	return 0;
}

static void assert_copy_opens(const char *path)
{
	const char *to = box_path("copy");
	const struct layout_hdr *h;
	char buf[LAYOUT_HDR_LEN];
	int fd;

	assert_int_equal(copy(path, to), 0);
	/* It is a copy of an arena whose lock has an owner. */
	fd = open(to, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, buf, sizeof(buf)), sizeof(buf));
	close(fd);
	h = (const void *)buf;
	assert_int_not_equal(h->lock & 0xffff, 0);
	assert_int_equal(peer_run(open_copy, (void *)(uintptr_t)to), 0);
}

static void a_copy_of_an_arena_with_a_lock_owner_opens(void **state)
{
	const char *why = step_impossible_by_call(), *path;
	struct peer owner, w;

	(void)state;
	if (why) {
		print_message("%s\n", why);
		skip();
	}
	path = actor_arena("a");
	actor_start(&owner, path);
	actor_start(&w, path);
	assert_int_equal(actor_ask(&w, ACTOR_GROW), 0);
	/* A live owner, stopped; with someone who waits; a dead owner, while
	 * others still have the arena open, and when nobody has. */
	actor_hold(&owner, owner.pid);
	assert_copy_opens(path);
	actor_blocks(&w, ACTOR_GROW);
	assert_copy_opens(path);
	peer_kill(&w);
	assert_copy_opens(path);
	peer_kill(&owner);
	assert_copy_opens(path);
	actor_check_sound(path);
}

/* ----- forged words ----- */

/* What a forger would think of, besides anything. */
static uint64_t evil(uint64_t *r)
{
	static const uint64_t values[] = {
		0,
		1,
		4096,
		PAGES * 4096,
		64 * MIB,
		64 * MIB + 4096,
		UINT64_MAX,
		(uint64_t)INT64_MAX,
		(uint64_t)INT64_MIN,
		0xffff,
		LAYOUT_GUESTS + 1,
		0x40000000,
		0xc0000000,
		0x80000000,
		(uint64_t)-4096,
		LAYOUT_SLOTS,
	};
	uint64_t w = random_word(r);

	switch (w >> 8 & 3) {
	case 0:
		return random_word(r);
	case 1:
		return (random_word(r) & 0xffffff) * 4096;
	default:
		return values[w & 15];
	}
}

static void forge(struct layout_hdr *h, uint64_t *r)
{
	uint64_t which = random_word(r);
	size_t i;

	if (which & 1)
		h->lock = evil(r);
	if (which & 2)
		h->ahead = evil(r);
	if (which & 4)
		h->epoch = evil(r);
	if (which & 8)
		h->size = evil(r);
	if (which & 0x10)
		h->lock = (h->lock & ~0xffffull) |
			  (random_word(r) % (LAYOUT_SLOTS + 2));
	if (which & 0x60)
		for (i = 0; i < LAYOUT_SLOTS; i++)
			h->slot[i] = (uint32_t)evil(r);
}

/*
 * It opens with the size that is there, or with EINVAL for a size that can be
 * none. Afterwards it is as good as any.
 */
static int open_forged(struct peer *self, void *arg)
{
	const char *path = arg;
	uint64_t r = seed();
	struct layout_hdr *h = NULL;
	int i, fd = open(path, O_RDWR | O_CLOEXEC);
	unsigned int refused = 0;

	(void)self;
	h = malloc(sizeof(*h));
	PEER_CHECK(h && fd >= 0);
	for (i = 0; i < ROUNDS; i++) {
		tmc_shmem_t *shm;
		uint64_t size;

		alarm(20);
		PEER_CHECK(pread(fd, h, sizeof(*h), 0) == sizeof(*h));
		forge(h, &r);
		size = h->size;
		PEER_CHECK(pwrite(fd, h, sizeof(*h), 0) == sizeof(*h));
		shm = tmc_shmem_open(path);
		if (size > 64 * MIB || size % pagesize()) {
			PEER_CHECK(!shm && errno == EINVAL);
			refused++;
			h->size = PAGES * pagesize();
			PEER_CHECK(pwrite(fd, h, sizeof(*h), 0) == sizeof(*h));
			shm = tmc_shmem_open(path);
		}
		PEER_CHECK(shm);
		PEER_CHECK(tmc_shmem_current_size(shm) <= PAGES * pagesize());
		if (is_sound(shm))
			return 1;
		/* All PAGES again, for the next round. */
		while (tmc_shmem_current_size(shm) < PAGES * pagesize()) {
			size = tmc_shmem_current_size(shm) / pagesize();
			memset(tmc_shmem_grow(shm, pagesize()), (int)size + 1,
			       pagesize());
		}
		tmc_shmem_close(shm);
	}
	printf("%d forged headers, %u refused\n", i, refused);
	PEER_CHECK(refused && refused < ROUNDS);
	free(h);
	close(fd);
	return 0;
}

static void forged_words_at_rest_stop_nobody(void **state)
{
	const char *path = rest_arena("forged");

	(void)state;
	assert_int_equal(peer_run(open_forged, (void *)(uintptr_t)path), 0);
	unlink(path);
}

/* ----- cut files ----- */

struct cut {
	const char *path;
	size_t len; /* of the file */
};

static int open_cut(struct peer *self, void *arg)
{
	struct cut *c = arg;
	size_t fits = c->len < LAYOUT_DATA_OFF ? 0 : c->len - LAYOUT_DATA_OFF;
	tmc_shmem_t *shm;

	(void)self;
	alarm(10);
	fits = fits / pagesize() * pagesize();
	if (fits > PAGES * pagesize())
		fits = PAGES * pagesize();
	/* Who may only read does not repair, and sees the same. */
	shm = tmc_shmem_open_readonly(c->path);
	if (c->len < LAYOUT_HDR_LEN) {
		PEER_CHECK(!shm && errno == EINVAL);
		PEER_CHECK(!tmc_shmem_open(c->path) && errno == EINVAL);
		PEER_CHECK(tmc_shmem_unlink(c->path) == -1);
		PEER_CHECK(errno == EINVAL);
		return 0;
	}
	PEER_CHECK(shm && tmc_shmem_current_size(shm) == fits);
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(c->path);
	PEER_CHECK(shm && tmc_shmem_current_size(shm) == fits);
	PEER_CHECK((uintptr_t)tmc_shmem_get_data(shm) ==
		   (uintptr_t)tmc_shmem_address(shm) + 1);
	if (is_sound(shm))
		return 1;
	tmc_shmem_close(shm);
	return 0;
}

static void try_length(const char *whole, size_t len)
{
	struct cut c = { .path = box_path("cut"), .len = len };

	assert_int_equal(copy(whole, c.path), 0);
	assert_int_equal(truncate(c.path, (off_t)len), 0);
	if (peer_run(open_cut, &c))
		fail_msg("cut to %zu bytes", len);
	unlink(c.path);
}

static void a_file_that_was_cut_at_rest_has_what_is_there(void **state)
{
	char *whole = strdup(rest_arena("whole"));
	size_t len, full = LAYOUT_DATA_OFF + PAGES * pagesize();

	(void)state;
	for (len = 0; len <= 1024; len += 64)
		try_length(whole, len);
	for (len = 4096; len <= LAYOUT_HDR_LEN; len += 4096) {
		try_length(whole, len - 1);
		try_length(whole, len);
		try_length(whole, len + 1);
	}
	for (len = LAYOUT_HDR_LEN; len < LAYOUT_DATA_OFF; len += 300001)
		try_length(whole, len);
	for (len = LAYOUT_DATA_OFF - 1; len <= full; len += 1365)
		try_length(whole, len);
	for (len = LAYOUT_DATA_OFF; len <= full; len += pagesize()) {
		try_length(whole, len - 1);
		try_length(whole, len);
		try_length(whole, len + 1);
	}
	unlink(whole);
	free(whole);
}

/* Longer than it says, and not zero there. */
static int open_longer(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = tmc_shmem_open(arg);

	(void)self;
	PEER_CHECK(shm);
	PEER_CHECK(tmc_shmem_current_size(shm) == PAGES * pagesize());
	if (is_sound(shm))
		return 1;
	tmc_shmem_close(shm);
	return 0;
}

static void what_was_appended_at_rest_is_not_in_new_pages(void **state)
{
	const char *path = rest_arena("longer");
	FILE *f = fopen(path, "ae");
	int i;

	(void)state;
	assert_non_null(f);
	for (i = 0; i < 50001; i++)
		putc(0x5a, f);
	fclose(f);
	assert_int_equal(peer_run(open_longer, (void *)(uintptr_t)path), 0);
	unlink(path);
}

/* ----- huge pages ----- */

#define HUGE_PAGE (2 * MIB)

struct huge {
	const char *path;
	size_t npages; /* that the companion is cut or extended to */
};

static int make_and_cut(struct peer *self, void *arg)
{
	struct huge *h = arg;
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;
	int fd;

	(void)self;
	tmc_alloc_set_pagesize(&alloc, HUGE_PAGE);
	shm = tmc_shmem_create(h->path, &alloc, NULL, 8 * HUGE_PAGE);
	PEER_CHECK(shm);
	PEER_CHECK(tmc_shmem_grow(shm, 3 * HUGE_PAGE));
	memset(tmc_shmem_address(shm), 0x33, 3 * HUGE_PAGE);
	fd = dup(tmc_shmem_hugefd(shm));
	tmc_shmem_close(shm);
	PEER_CHECK(ftruncate(fd, (off_t)(h->npages * HUGE_PAGE)) == 0);
	close(fd);
	return 0;
}

static int open_cut_huge(struct peer *self, void *arg)
{
	struct huge *h = arg;
	tmc_shmem_t *shm = tmc_shmem_open(h->path);
	size_t fits = (h->npages < 3 ? h->npages : 3) * HUGE_PAGE;
	char *at;

	(void)self;
	alarm(10);
	PEER_CHECK(shm && tmc_shmem_current_size(shm) == fits);
	at = tmc_shmem_grow(shm, HUGE_PAGE);
	PEER_CHECK(at == (char *)tmc_shmem_address(shm) + fits);
	PEER_CHECK(probe_zero(at, HUGE_PAGE));
	for (at = tmc_shmem_address(shm); fits--; at++)
		PEER_CHECK(*at == 0x33);
	tmc_shmem_close(shm);
	PEER_CHECK(tmc_shmem_unlink(h->path) == 0);
	return 0;
}

static void a_companion_that_was_cut_at_rest_has_what_is_there(void **state)
{
	struct huge h = { .path = box_path("huge") };
	size_t before;

	(void)state;
	if (box_pool(HUGE_PAGE, 8) < 8 || box_hugetlbfs("h", HUGE_PAGE, "")) {
		print_message("no huge pages of 2 MiB\n");
		skip();
	}
	before = box_pool_free(HUGE_PAGE);
	for (h.npages = 0; h.npages < 6; h.npages++) {
		assert_int_equal(peer_run(make_and_cut, &h), 0);
		assert_int_equal(peer_run(open_cut_huge, &h), 0);
		assert_int_equal(box_pool_free(HUGE_PAGE), before);
	}
	box_umount("h");
	box_pool_end();
}

/* Opens it as a guest where @as_guest: 0, or 1 where that is ENOMEM. */
struct holed {
	const char *path;
	int as_guest;
};

static int open_holed(struct peer *self, void *arg)
{
	const struct holed *h = arg;
	int fd = open(h->path, O_RDWR | O_CLOEXEC);
	tmc_shmem_t *shm;
	struct stat st;

	(void)self;
	if (h->as_guest)
		kernel_without_reopen();
	shm = h->as_guest ? tmc_shmem_open_fds(fd, -1)
			  : tmc_shmem_open(h->path);
	if (!shm)
		return errno == ENOMEM ? 1 : 2;
	/* Its own pages, and the header's. */
	if (fstat(fd, &st) || is_sound(shm) ||
	    (size_t)st.st_blocks * 512 < LAYOUT_HDR_LEN + PAGES * pagesize())
		return 3;
	tmc_shmem_close(shm);
	return 0;
}

/* As a copy has it that leaves out what is zero. */
static int punch(const char *path)
{
	const off_t from = (off_t)pagesize();
	int fd = open(path, O_RDWR | O_CLOEXEC), rc;

	rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from,
		       (off_t)LAYOUT_HDR_LEN - from);
	close(fd);
	return rc;
}

static void holes_in_the_header_of_a_copy_are_filled_or_enomem(void **state)
{
	struct holed h = { .as_guest = 0 };
	char *path, *room;

	(void)state;
	if (pagesize() >= LAYOUT_HDR_LEN ||
	    box_mount("small", "tmpfs", "size=1m"))
		skip();
	path = strdup(box_path("small/a"));
	room = strdup(box_path("small/room"));
	h.path = path;
	for (; h.as_guest < 2; h.as_guest++) {
		assert_int_equal(peer_run(make_arena, path), 0);
		assert_int_equal(punch(path), 0);
		assert_int_equal(file_fill(room, 0), 0);
		assert_int_equal(peer_run(open_holed, &h), 1);
		assert_int_equal(unlink(room), 0);
		assert_int_equal(peer_run(open_holed, &h), 0);
		assert_int_equal(unlink(path), 0);
	}
	assert_int_equal(box_umount("small"), 0);
	free(path);
	free(room);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_copy_of_an_arena_with_a_lock_owner_opens),
		cmocka_unit_test(forged_words_at_rest_stop_nobody),
		cmocka_unit_test(a_file_that_was_cut_at_rest_has_what_is_there),
		cmocka_unit_test(what_was_appended_at_rest_is_not_in_new_pages),
		cmocka_unit_test(
			holes_in_the_header_of_a_copy_are_filled_or_enomem),
		cmocka_unit_test(
			a_companion_that_was_cut_at_rest_has_what_is_there),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
