/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_heap_shortage.c - a heap whose file system or pool of huge pages has
 * nothing more to give: calls say ENOMEM and bring no signal, all is as before,
 * and when there are pages again they work.
 *
 * What is done without pages is done by a peer, whose exit code tells a SIGBUS.
 */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shmem.h>

#include "file.h"
#include "heap.h"
#include "kernel.h"
#include "peer.h"
#include "probe.h"

#define HUGE_PAGES 16

/* Where the arenas are, and what they are made of. */
static struct place {
	size_t page;
	const char *path, *fill; /* in the box; fill takes what is left */
	tmc_alloc_t alloc;
	size_t left; /* bytes */
	int old;     /* a kernel without what tells of a shortage */
} here;

static tmc_shmem_t *shm;
static tmc_mspace heap;

static void fill_up(size_t left)
{
	assert_int_equal(file_fill(box_path(here.fill), left), 0);
}

static void make_room(void)
{
	assert_int_equal(unlink(box_path(here.fill)), 0);
}

static void make_arena(size_t maxsize)
{
	shm = tmc_shmem_create(box_path(here.path), &here.alloc, NULL, maxsize);
	assert_non_null(shm);
	heap = NULL;
}

static void drop_arena(void)
{
	tmc_shmem_close(shm);
	shm = NULL;
	assert_int_equal(tmc_shmem_unlink(box_path(here.path)), 0);
}

static void make_heap(size_t capacity)
{
	heap = tmc_mspace_create_special(capacity, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	assert_non_null(heap);
}

static int is_lazy(void)
{
	return !tmc_alloc_get_populate(&here.alloc);
}

/* What a call that fails must leave as it was. */
struct state {
	size_t size, used;
	blkcnt_t blocks;
};

static struct state look(void)
{
	int fd = tmc_shmem_hugefd(shm);
	struct state s = { .size = tmc_shmem_current_size(shm) };
	struct stat st;

	tmc_mspace_statistics(heap, NULL, NULL, &s.used);
	if (!fstat(fd < 0 ? tmc_shmem_fd(shm) : fd, &st))
		s.blocks = st.st_blocks;
	return s;
}

static int same(const struct state *a, const struct state *b)
{
	return a->size == b->size && a->used == b->used &&
	       a->blocks == b->blocks;
}

/* ----- places ----- */

static int on_tmpfs(int lazy)
{
	here = (struct place){ .page = (size_t)sysconf(_SC_PAGESIZE),
			       .path = "small/a",
			       .fill = "small/fill",
			       .alloc = TMC_ALLOC_INIT };
	if (lazy)
		tmc_alloc_clear_populate(&here.alloc);
	if (!box_mount("small", "tmpfs", "size=24m"))
		return 1;
	print_message("mounts need root\n");
	return 0;
}

static int on_hugetlbfs(int lazy)
{
	const size_t huge = tmc_alloc_get_huge_pagesize();
	char options[64];

	here = (struct place){ .page = huge,
			       .path = "named",
			       .fill = "huge/fill",
			       .alloc = TMC_ALLOC_INIT };
	tmc_alloc_set_huge(&here.alloc);
	if (lazy)
		tmc_alloc_clear_populate(&here.alloc);
	snprintf(options, sizeof(options), "size=%zu,min_size=%zu",
		 HUGE_PAGES * huge, HUGE_PAGES * huge);
	if (huge && box_pool(huge, HUGE_PAGES) >= HUGE_PAGES &&
	    !box_hugetlbfs("huge", huge, options))
		return 1;
	print_message("no huge pages\n");
	return 0;
}

/* Also of a test that failed. */
static int leave(void **state)
{
	(void)state;
	tmc_shmem_close(shm);
	shm = NULL;
	unlink(box_path("named"));
	box_umount("small");
	box_umount("huge");
	box_pool_end();
	return 0;
}

/* ----- all calls, with any number of pages left ----- */

#define BLOCKS 33

static const size_t sizes[] = { 1,	   100,	       700,	   3000,
				9000,	   20000,      HEAP_SLICE, 100 * KIB,
				300 * KIB, 1000 * KIB, 3 * MIB };
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* Small blocks have their pages in any heap. */
static void write_all(char *p, size_t n)
{
	if (!is_lazy() || n <= 32176)
		memset(p, 0x5a, n);
}

static int take(char **p, int must)
{
	size_t i, n;

	for (i = 0; i < BLOCKS; i++) {
		n = sizes[i % SIZES];
		errno = 0;
		p[i] = i % 3 ? tmc_mspace_malloc(heap, n)
			     : tmc_mspace_calloc(heap, 1, n);
		PEER_CHECK(p[i] || (!must && errno == ENOMEM));
		if (!p[i])
			continue;
		PEER_CHECK(i % 3 || is_lazy() || probe_zero(p[i], n));
		write_all(p[i], n);
	}
	return 0;
}

/* Longer and shorter, in place and elsewhere. */
static int resize(char **p)
{
	size_t i, n;
	char *q;

	for (i = 0; i < BLOCKS; i++) {
		n = sizes[(i * 7 + 3) % SIZES];
		errno = 0;
		q = tmc_mspace_realloc(heap, p[i], n);
		PEER_CHECK(q || errno == ENOMEM);
		if (!q)
			continue;
		p[i] = q;
		PEER_CHECK(tmc_mspace_usable_size(q) >= n);
		write_all(q, n);
	}
	return 0;
}

static int give(char **p)
{
	size_t i;

	for (i = 0; i < BLOCKS; i++)
		tmc_mspace_free(p[i]);
	return 0;
}

static int use_without_pages(struct peer *self, void *arg)
{
	char *p[BLOCKS];
	size_t round, used;

	PEER_CHECK(self && !arg);
	PEER_CHECK(!file_fill(box_path(here.fill), here.left));
	if (here.old)
		PEER_CHECK(!kernel_without_populate_write() &&
			   !kernel_without_allocate());
	errno = 0;
	heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	PEER_CHECK(heap || (errno == ENOMEM && !tmc_shmem_current_size(shm)));
	for (round = 0; heap && round < 3; round++) {
		PEER_CHECK(!take(p, 0) && !resize(p));
		PEER_CHECK(!tmc_mspace_check(heap));
		PEER_CHECK(!give(p) && tmc_mspace_trim(heap, 0) >= 0);
		PEER_CHECK(!tmc_mspace_check(heap));
	}
	PEER_CHECK(!unlink(box_path(here.fill)));
	if (!heap)
		heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
						 tmc_shmem_alloc(shm));
	PEER_CHECK(heap && !take(p, !is_lazy()) && !give(p));
	PEER_CHECK(tmc_mspace_trim(heap, 0) >= 0 && !tmc_mspace_check(heap));
	tmc_mspace_statistics(heap, NULL, NULL, &used);
	PEER_CHECK(used == 0);
	return 0;
}

static void calls_with_up_to(size_t pages, size_t step)
{
	for (here.left = 0; here.left <= pages * here.page;
	     here.left += step * here.page) {
		make_arena(GIB);
		if (peer_run(use_without_pages, NULL))
			fail_msg("with %zu pages left", here.left / here.page);
		drop_arena();
	}
}

static void a_full_tmpfs_is_enomem(void **state)
{
	(void)state;
	if (!on_tmpfs(0))
		skip();
	calls_with_up_to(60, 1);
	calls_with_up_to(1200, 61);
}

static void a_full_tmpfs_is_enomem_to_a_lazy_heap(void **state)
{
	(void)state;
	if (!on_tmpfs(1))
		skip();
	calls_with_up_to(60, 1);
	calls_with_up_to(1200, 61);
}

static void and_to_one_on_an_old_kernel(void **state)
{
	(void)state;
	if (!on_tmpfs(1))
		skip();
	here.old = 1;
	calls_with_up_to(60, 3);
	calls_with_up_to(1200, 122);
}

static void a_pool_without_pages_is_enomem(void **state)
{
	(void)state;
	if (!on_hugetlbfs(0))
		skip();
	calls_with_up_to(HUGE_PAGES, 1);
}

static void a_pool_without_pages_is_enomem_to_a_lazy_heap(void **state)
{
	(void)state;
	if (!on_hugetlbfs(1))
		skip();
	calls_with_up_to(HUGE_PAGES, 1);
}

/* Small blocks until there is no room: none of it is kept from others. */
static int use_all_room(struct peer *self, void *arg)
{
	struct state before, after;
	size_t n;

	PEER_CHECK(self && !arg && tmc_mspace_malloc(heap, 64));
	PEER_CHECK(!file_fill(box_path(here.fill), here.left));
	for (n = 0, before = look(); tmc_mspace_malloc(heap, 64); n++)
		before = look();
	PEER_CHECK(errno == ENOMEM);
	after = look();
	PEER_CHECK(same(&before, &after));
	/* A span begins with so much. */
	PEER_CHECK(n * 64 + 16 * KIB + here.page >= here.left);
	PEER_CHECK(!tmc_mspace_check(heap) && !unlink(box_path(here.fill)));
	PEER_CHECK(tmc_mspace_malloc(heap, 64));
	return 0;
}

static void what_is_left_of_a_tmpfs_is_used_for_small_blocks(void **state)
{
	int lazy;

	(void)state;
	for (lazy = 0; lazy < 2; lazy++) {
		if (!on_tmpfs(lazy))
			skip();
		for (here.left = 0; here.left < 40 * here.page;
		     here.left += here.page) {
			make_arena(GIB);
			make_heap(0);
			assert_int_equal(peer_run(use_all_room, NULL), 0);
			drop_arena();
		}
		box_umount("small");
	}
}

/* ----- holes, and new chunks ----- */

static int all_is_enomem(struct peer *self, void *len)
{
	struct state before = look(), after;
	size_t i;

	PEER_CHECK(self);
	for (i = 0; i < 3; i++) {
		PEER_CHECK(!tmc_mspace_malloc(heap, *(size_t *)len));
		PEER_CHECK(errno == ENOMEM);
		PEER_CHECK(!tmc_mspace_calloc(heap, 1, *(size_t *)len));
		PEER_CHECK(errno == ENOMEM);
		after = look();
		PEER_CHECK(same(&before, &after));
		PEER_CHECK(!tmc_mspace_check(heap));
	}
	return 0;
}

/* @len fits a hole, @longer does not. */
static void a_hole_needs_pages_again(size_t len, size_t longer)
{
	char *mine, *p;
	size_t size;

	make_arena(GIB);
	make_heap(0);
	mine = tmc_mspace_malloc(heap, 3000);
	p = tmc_mspace_malloc(heap, len);
	assert_true(mine && p);
	memset(mine, 7, 3000);
	memset(p, 8, len);
	size = tmc_shmem_current_size(shm);
	tmc_mspace_free(p);
	fill_up(0);
	assert_int_equal(peer_run(all_is_enomem, &len), 0);
	assert_int_equal(peer_run(all_is_enomem, &longer), 0);
	make_room();
	p = tmc_mspace_calloc(heap, 1, len);
	assert_non_null(p);
	assert_int_equal(tmc_shmem_current_size(shm), size);
	assert_true(probe_zero(p, len));
	memset(p, 9, len);
	tmc_mspace_free(p);
	p = tmc_mspace_malloc(heap, longer);
	assert_non_null(p);
	memset(p, 9, longer);
	tmc_mspace_free(p);
	assert_true(mine[0] == 7 && !memcmp(mine, mine + 1, 2999));
	assert_int_equal(tmc_mspace_check(heap), 0);
	drop_arena();
}

static void a_hole_on_a_full_tmpfs_is_enomem(void **state)
{
	(void)state;
	if (!on_tmpfs(0))
		skip();
	a_hole_needs_pages_again(6 * MIB, 16 * MIB);
}

static void a_hole_without_huge_pages_is_enomem(void **state)
{
	(void)state;
	if (!on_hugetlbfs(0))
		skip();
	a_hole_needs_pages_again(3 * here.page, 5 * here.page);
}

/* All of them: what is left over of the heap is in its first page. */
static void freed_huge_pages_are_the_pools_again(void **state)
{
	struct state before, after;
	char *p;

	(void)state;
	if (!on_hugetlbfs(0))
		skip();
	make_arena(GIB);
	make_heap(0);
	assert_non_null(tmc_mspace_malloc(heap, 100));
	before = look();
	p = tmc_mspace_malloc(heap, 5 * here.page);
	assert_non_null(p);
	tmc_mspace_free(p);
	after = look();
	assert_in_range(after.blocks, before.blocks,
			before.blocks + (blkcnt_t)(2 * here.page / 512));
	p = tmc_mspace_malloc(heap, 100 * KIB);
	tmc_mspace_free(p);
	assert_int_equal(tmc_mspace_trim(heap, 0), 1);
	after = look();
	assert_int_equal(after.blocks, before.blocks);
	drop_arena();
}

/* Each shorter than a page. */
static void trim_gives_huge_pages_back_that_short_runs_had(void **state)
{
	struct state before, after;
	char *p[6];
	size_t i;

	(void)state;
	if (!on_hugetlbfs(0))
		skip();
	make_arena(GIB);
	make_heap(20 * here.page);
	assert_non_null(tmc_mspace_malloc(heap, 100));
	before = look();
	for (i = 0; i < 6; i++)
		assert_non_null(p[i] = tmc_mspace_malloc(heap, 1900 * KIB));
	for (i = 0; i < 6; i++)
		tmc_mspace_free(p[i]);
	after = look();
	assert_true(after.blocks >=
		    before.blocks + (blkcnt_t)(5 * here.page / 512));
	assert_int_equal(tmc_mspace_trim(heap, 0), 1);
	after = look();
	assert_int_equal(after.blocks, before.blocks);
	assert_int_equal(tmc_mspace_check(heap), 0);
	drop_arena();
}

/* The rest of a free run, none of whose pages is there. */
static int use_what_is_kept(struct peer *self, void *arg)
{
	PEER_CHECK(self && !arg);
	PEER_CHECK(!tmc_mspace_calloc(heap, 1, 1000 * KIB));
	PEER_CHECK(errno == ENOMEM);
	PEER_CHECK(!tmc_mspace_check(heap));
	PEER_CHECK(tmc_mspace_trim(heap, 0) == 1);
	PEER_CHECK(tmc_mspace_trim(heap, 0) == 0);
	PEER_CHECK(!tmc_mspace_check(heap));
	return 0;
}

static void what_a_lazy_heap_keeps_may_be_holes(void **state)
{
	size_t pages;

	(void)state;
	if (!on_tmpfs(1))
		skip();
	/* With none for a head, and with one. */
	for (pages = 0; pages < 2; pages++) {
		make_arena(GIB);
		make_heap(4 * MIB);
		tmc_mspace_free(tmc_mspace_malloc(heap, 1900 * KIB));
		assert_non_null(tmc_mspace_malloc(heap, 600 * KIB));
		fill_up(pages * here.page);
		assert_int_equal(peer_run(use_what_is_kept, NULL), 0);
		make_room();
		drop_arena();
	}
}

static int take_one_chunk_more(struct peer *self, void *arg)
{
	struct heap_hdr *h = heap;
	uint32_t n = h->nchunks;
	char *p;

	PEER_CHECK(self && !arg);
	PEER_CHECK(!file_fill(box_path(here.fill), here.left));
	errno = 0;
	p = tmc_mspace_malloc(heap, 2 * GIB);
	PEER_CHECK(!unlink(box_path(here.fill)));
	PEER_CHECK(p || errno == ENOMEM);
	PEER_CHECK(!p || h->nchunks == n + 1);
	PEER_CHECK(!tmc_mspace_check(heap));
	return 0;
}

/* The header's words of it are in a page that no other chunk has used. */
static void the_64th_new_chunk_without_a_page_is_enomem(void **state)
{
	struct heap_hdr *h;

	(void)state;
	if (!on_tmpfs(1))
		skip();
	make_arena(64 * GIB);
	make_heap(0);
	h = heap;
	while (h->nchunks < 64)
		assert_non_null(tmc_mspace_malloc(heap, 50 * MIB));
	for (here.left = 0; h->nchunks < 65; here.left += here.page) {
		assert_int_equal(peer_run(take_one_chunk_more, NULL), 0);
		assert_true(here.left < 100 * here.page);
	}
	assert_true(here.left > 2 * here.page);
	drop_arena();
}

/* ----- memory that the caller gives ----- */

static int make_at_base(struct peer *self, void *base)
{
	PEER_CHECK(self);
	errno = 0;
	PEER_CHECK(!tmc_mspace_create_with_base(base, MIB, 0));
	PEER_CHECK(errno == ENOMEM);
	PEER_CHECK(!tmc_mspace_access_with_base(base) || errno == EINVAL);
	PEER_CHECK(!unlink(box_path(here.fill)));
	heap = tmc_mspace_create_with_base(base, MIB, 0);
	PEER_CHECK(heap && tmc_mspace_malloc(heap, 500 * KIB));
	return 0;
}

static void a_heap_in_given_memory_without_pages_is_enomem(void **state)
{
	char *base;

	(void)state;
	if (!on_tmpfs(1))
		skip();
	make_arena(GIB);
	base = tmc_shmem_grow(shm, MIB);
	assert_non_null(base);
	fill_up(5 * here.page);
	assert_int_equal(peer_run(make_at_base, base), 0);
	drop_arena();
}

/* ----- what deaths and the ends of heaps leave ----- */

static int use_it(struct peer *self, void *arg)
{
	PEER_CHECK(self && !arg);
	PEER_CHECK(!tmc_mspace_malloc(heap, 100) && errno == ENOMEM);
	PEER_CHECK(!tmc_mspace_malloc(heap, 100 * MIB) && errno == ENOMEM);
	PEER_CHECK(tmc_mspace_trim(heap, 0) >= 0);
	PEER_CHECK(!tmc_mspace_check(heap));
	return 0;
}

/*
 * One who cut off a chunk has died, and the application has grown the arena
 * since: whether that is the chunk is in a page that nobody has touched.
 */
static void a_chunk_cut_by_the_dead_may_be_a_hole(void **state)
{
	struct heap_hdr *h;
	size_t size, i;
	char *p;

	(void)state;
	if (!on_tmpfs(1))
		skip();
	make_arena(GIB);
	make_heap(0);
	h = heap;
	for (i = 0; i < 1000; i++)
		assert_non_null(tmc_mspace_malloc(heap, 100));
	size = tmc_shmem_current_size(shm);
	p = tmc_shmem_grow(shm, MIB);
	assert_non_null(p);
	h->grown_at = size;
	h->grown_by = MIB;
	fill_up(0);
	assert_int_equal(peer_run(use_it, NULL), 0);
	assert_int_equal(h->nchunks, 1);
	make_room();
	assert_non_null(tmc_mspace_malloc(heap, 100 * MIB));
	assert_int_equal(h->grown_by, 0);
	assert_int_equal(h->nchunks, 2);
	assert_true(probe_zero(p, MIB));
	drop_arena();
}

static void *end_after_the_heap(void *peer)
{
	uint64_t word;

	if (!tmc_mspace_malloc(heap, 100) || peer_put(peer, 0) ||
	    peer_get(peer, &word))
		return peer;
	return NULL;
}

static int have_a_thread_that_ends(struct peer *self, void *arg)
{
	pthread_t t;
	void *failed;

	PEER_CHECK(!arg && !pthread_create(&t, NULL, end_after_the_heap, self));
	PEER_CHECK(!pthread_join(t, &failed));
	PEER_CHECK(!failed);
	return 0;
}

static void a_thread_ends_after_a_heap_that_is_a_hole(void **state)
{
	struct peer peer;
	uint64_t word;

	(void)state;
	if (!on_tmpfs(0))
		skip();
	make_arena(GIB);
	make_heap(0);
	assert_int_equal(peer_fork(&peer, have_a_thread_that_ends, NULL), 0);
	assert_int_equal(peer_get(&peer, &word), 0);
	assert_true(tmc_mspace_destroy(heap) > 0);
	fill_up(0);
	assert_int_equal(peer_put(&peer, 0), 0);
	assert_int_equal(peer_end(&peer), 0);
	drop_arena();
}

#define TEST(f) cmocka_unit_test_teardown(f, leave)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_full_tmpfs_is_enomem),
		TEST(a_full_tmpfs_is_enomem_to_a_lazy_heap),
		TEST(and_to_one_on_an_old_kernel),
		TEST(what_is_left_of_a_tmpfs_is_used_for_small_blocks),
		TEST(a_pool_without_pages_is_enomem),
		TEST(a_pool_without_pages_is_enomem_to_a_lazy_heap),
		TEST(a_hole_on_a_full_tmpfs_is_enomem),
		TEST(a_hole_without_huge_pages_is_enomem),
		TEST(freed_huge_pages_are_the_pools_again),
		TEST(trim_gives_huge_pages_back_that_short_runs_had),
		TEST(what_a_lazy_heap_keeps_may_be_holes),
		TEST(the_64th_new_chunk_without_a_page_is_enomem),
		TEST(a_heap_in_given_memory_without_pages_is_enomem),
		TEST(a_chunk_cut_by_the_dead_may_be_a_hole),
		TEST(a_thread_ends_after_a_heap_that_is_a_hole),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
