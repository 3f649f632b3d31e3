/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_present.c - pages that the library makes present by writing zeros, and
 * what it does where it may not write.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shmem.h>

#include "kernel.h"
#include "peer.h"
#include "probe.h"

#define BLOCKS 3000
#define BLOCK 300 /* neither a page nor a multiple of one has a whole number */

static size_t page;

static tmc_shmem_t *create(int populate)
{
	tmc_alloc_t alloc = TMC_ALLOC_INIT;

	if (!populate)
		tmc_alloc_clear_populate(&alloc);
	return tmc_shmem_create(box_path("a"), &alloc, NULL, GIB);
}

static void drop(tmc_shmem_t *shm)
{
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("a")), 0);
}

static void whatever_the_length_all_pages_are_mapped(void **state)
{
	tmc_shmem_t *shm = create(1);
	size_t n, len;
	off_t off;
	char *p;

	(void)state;
	assert_non_null(shm);
	for (n = 1; n < 1200; n += n < 40 ? 1 : 97) {
		len = n * page;
		off = (off_t)tmc_shmem_current_size(shm);
		p = tmc_shmem_grow(shm, len);
		assert_non_null(p);
		assert_int_equal(probe_present(p, len), len);
		assert_true(probe_zero(p, len));
		memset(p, 'x', len);
		/* What was written is not there when they come again. */
		if (n % 2) {
			assert_int_equal(tmc_shmem_shrink(shm, off, len), 0);
			assert_ptr_equal(tmc_shmem_grow(shm, len), p);
			assert_true(probe_zero(p, len));
			assert_int_equal(probe_present(p, len), len);
		}
	}
	drop(shm);
}

static int all_are(char *const *block, size_t n)
{
	size_t i, k;

	for (i = 0; i < n; i++)
		for (k = 0; k < BLOCK; k++)
			if (block[i][k] != (char)i)
				return 0;
	return 1;
}

/* Blocks that share a page with the next ones, which get their pages later. */
static int fill_a_heap(tmc_shmem_t *shm)
{
	static char *block[BLOCKS];
	tmc_mspace heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
						    tmc_shmem_alloc(shm));
	size_t i;

	PEER_CHECK(heap);
	for (i = 0; i < BLOCKS; i++) {
		block[i] = tmc_mspace_malloc(heap, BLOCK);
		PEER_CHECK(block[i]);
		memset(block[i], (char)i, BLOCK);
	}
	PEER_CHECK(all_are(block, BLOCKS));
	PEER_CHECK(!tmc_mspace_check(heap));
	return 0;
}

static void new_blocks_leave_those_before_them_alone(void **state)
{
	tmc_shmem_t *shm;
	int populate;

	(void)state;
	for (populate = 0; populate < 2; populate++) {
		shm = create(populate);
		assert_non_null(shm);
		assert_int_equal(fill_a_heap(shm), 0);
		drop(shm);
	}
}

/* A write beyond it would be a signal, also where the file is longer. */
static int use_above_the_limit(struct peer *self, void *shm)
{
	struct rlimit before, limit;
	tmc_mspace heap;
	char *p[100];
	int i;

	(void)self;
	heap = tmc_mspace_create_special(4 * MIB, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	PEER_CHECK(heap && !getrlimit(RLIMIT_FSIZE, &before));
	limit = before;
	limit.rlim_cur = 4096;
	PEER_CHECK(!setrlimit(RLIMIT_FSIZE, &limit));
	for (i = 0; i < 100; i++) {
		p[i] = tmc_mspace_malloc(heap, 10 * KIB);
		PEER_CHECK(p[i]);
		memset(p[i], 'x', 10 * KIB);
	}
	PEER_CHECK(!tmc_mspace_check(heap));
	PEER_CHECK(!tmc_shmem_grow(shm, 8 * page) && errno == ENOMEM);
	/* Counts of coverage are yet to be written. */
	return setrlimit(RLIMIT_FSIZE, &before);
}

static void a_heap_above_the_limit_of_files_works(void **state)
{
	tmc_shmem_t *shm = create(0);

	(void)state;
	assert_non_null(shm);
	assert_int_equal(peer_run(use_above_the_limit, shm), 0);
	drop(shm);
}

/* No reopen: the descriptor stays what its giver has made it. */
static int use_one_that_appends(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;
	struct stat before, after;
	char *p;
	int fd;

	(void)arg;
	kernel_without_reopen();
	fd = peer_get_fd(self);
	PEER_CHECK(fd >= 0 && !fcntl(fd, F_SETFL, O_APPEND));
	shm = tmc_shmem_open_fds(fd, -1);
	PEER_CHECK(shm && !fstat(fd, &before));
	p = tmc_shmem_grow(shm, 8 * page);
	PEER_CHECK(p && probe_present(p, 8 * page) == 8 * page);
	PEER_CHECK(!fstat(fd, &after));
	PEER_CHECK(after.st_size == before.st_size + (off_t)(8 * page));
	PEER_CHECK(fill_a_heap(shm) == 0);
	PEER_CHECK(!fstat(fd, &after));
	PEER_CHECK(after.st_size - before.st_size ==
		   (off_t)tmc_shmem_current_size(shm));
	tmc_shmem_close(shm);
	return 0;
}

static void a_descriptor_that_appends_is_not_written_to(void **state)
{
	tmc_shmem_t *shm;
	struct peer p;

	(void)state;
	assert_int_equal(peer_fork(&p, use_one_that_appends, NULL), 0);
	shm = create(1);
	assert_non_null(shm);
	assert_int_equal(peer_put_fd(&p, tmc_shmem_fd(shm)), 0);
	assert_int_equal(peer_end(&p), 0);
	drop(shm);
}

/*
 * It may be held for dead while one of its threads is still in a write, and what
 * it had be others' by then. Who watches the file is told of a write, and of
 * fallocate, which this kernel has not.
 */
static int use_it_as_a_guest(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;
	tmc_mspace heap;
	char *p;
	int i;

	(void)arg;
	kernel_without_reopen();
	kernel_without_allocate();
	shm = tmc_shmem_open_fds(peer_get_fd(self), -1);
	PEER_CHECK(shm);
	heap = tmc_shmem_get_data(shm);
	for (i = 0; i < 1000; i++) {
		p = tmc_mspace_malloc(heap, BLOCK);
		PEER_CHECK(p);
		memset(p, 'x', BLOCK);
	}
	tmc_shmem_close(shm);
	return 0;
}

static void a_guests_new_blocks_are_not_written_to_the_file(void **state)
{
	tmc_mspace heap;
	tmc_shmem_t *shm;
	struct peer p;
	char event[256];
	int watch;

	(void)state;
	assert_int_equal(peer_fork(&p, use_it_as_a_guest, NULL), 0);
	shm = create(0);
	assert_non_null(shm);
	heap = tmc_mspace_create_special(4 * MIB, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	assert_int_equal(tmc_shmem_set_data(shm, heap), 0);
	watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	assert_true(inotify_add_watch(watch, box_path("a"), IN_MODIFY) >= 0);
	assert_int_equal(peer_put_fd(&p, tmc_shmem_fd(shm)), 0);
	assert_int_equal(peer_end(&p), 0);
	assert_minus_errno(read(watch, event, sizeof(event)), EAGAIN);
	close(watch);
	drop(shm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_the_length_all_pages_are_mapped),
		cmocka_unit_test(new_blocks_leave_those_before_them_alone),
		cmocka_unit_test(a_heap_above_the_limit_of_files_works),
		cmocka_unit_test(a_descriptor_that_appends_is_not_written_to),
		cmocka_unit_test(
			a_guests_new_blocks_are_not_written_to_the_file),
	};

	page = (size_t)getpagesize();
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
