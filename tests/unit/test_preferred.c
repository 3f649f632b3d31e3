/* SPDX-License-Identifier: BSD-3-Clause */
/* test_preferred.c - huge pages if possible, else small ones. */
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "list.h"
#include "peer.h"
#include "probe.h"

#define NPAGES 4 /* of the default size; what a test may use */

static size_t page, huge;
static tmc_alloc_t prefer;

static int begin(void **state)
{
	page = (size_t)sysconf(_SC_PAGESIZE);
	huge = tmc_alloc_get_huge_pagesize();
	tmc_alloc_set_huge_preferred(tmc_alloc_init(&prefer));
	return test_box_open(state);
}

static int end_pages(void **state)
{
	(void)state;
	unlink(box_path("a"));
	box_umount("huge");
	box_pool_end();
	return 0;
}

/* A mount of @npages pages, in a pool that has them. */
static int mount_pages(size_t npages)
{
	char options[64];

	snprintf(options, sizeof(options), "size=%zu,min_size=%zu",
		 npages * huge, npages * huge);
	return huge && box_pool(huge, npages) >= npages &&
	       box_hugetlbfs("huge", huge, options) == 0;
}

static size_t free_pages(void)
{
	struct statfs fs;

	return statfs(box_path("huge"), &fs) ? 0 : (size_t)fs.f_bfree;
}

/* Takes the mount's last pages until it is closed. */
static int hog(size_t npages)
{
	int fd = open(box_path("huge"), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fallocate(fd, 0, 0, (off_t)(npages * huge)), 0);
	return fd;
}

/* An arena with that page size, which works; its path is gone. */
static tmc_shmem_t *make(void *addr, size_t pagesize)
{
	tmc_shmem_t *shm =
		tmc_shmem_create(box_path("a"), &prefer, addr, 64 * MIB);

	assert_non_null(shm);
	assert_int_equal(tmc_shmem_page_size(shm), pagesize);
	assert_int_equal(tmc_shmem_hugefd(shm) >= 0, pagesize != page);
	assert_int_equal(list_add(shm, 100), 0);
	assert_int_equal(list_count(shm), 100);
	assert_int_equal(tmc_shmem_current_size(shm), pagesize);
	assert_int_equal(tmc_shmem_unlink(box_path("a")), 0);
	return shm;
}

/* The box takes all mounts of hugetlbfs away. */
static void without_a_mount_an_arena_has_small_pages(void **state)
{
	tmc_alloc_t only = TMC_ALLOC_INIT;

	(void)state;
	if (!box_can_mount())
		skip();
	assert_null_errno(tmc_shmem_create(box_path("a"),
					   tmc_alloc_set_huge(&only), NULL, 0),
			  huge ? ENODEV : EINVAL);
	tmc_shmem_close(make(NULL, page));
}

static void with_a_page_to_be_had_an_arena_has_huge_pages(void **state)
{
	tmc_shmem_t *shm;

	(void)state;
	if (!mount_pages(NPAGES))
		skip();
	shm = tmc_shmem_create(box_path("a"), &prefer, NULL, 8 * huge);
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_page_size(shm), huge);
	assert_int_equal(free_pages(), NPAGES); /* nothing is reserved */
	assert_non_null(tmc_shmem_grow(shm, NPAGES * huge));
	/* It keeps its page size. */
	assert_null_errno(tmc_shmem_grow(shm, 1), ENOMEM);
	assert_int_equal(tmc_shmem_unlink(box_path("a")), 0);
	tmc_shmem_close(shm);
	assert_int_equal(free_pages(), NPAGES);
}

static void without_a_page_an_arena_has_small_ones(void **state)
{
	tmc_shmem_t *shm;
	int fd;

	(void)state;
	if (!mount_pages(1))
		skip();
	fd = hog(1);
	shm = make(NULL, page);
	assert_int_equal(probe_files(box_path("huge")), 0);
	tmc_shmem_close(shm);
	close(fd);
	tmc_shmem_close(make(NULL, huge));
	tmc_alloc_clear_populate(&prefer);
	fd = hog(1);
	tmc_shmem_close(make(NULL, page));
	tmc_alloc_set_populate(&prefer);
	close(fd);
}

static void an_address_for_small_pages_gets_small_pages(void **state)
{
	char *base;
	tmc_shmem_t *shm;

	(void)state;
	if (!mount_pages(NPAGES))
		skip();
	shm = make(NULL, huge);
	base = tmc_shmem_address(shm);
	tmc_shmem_close(shm);
	shm = make(base + page, page);
	assert_ptr_equal(tmc_shmem_address(shm), base + page);
	tmc_shmem_close(shm);
	shm = make(base, huge);
	tmc_shmem_close(shm);
}

static void what_fails_for_both_fails(void **state)
{
	size_t fds = probe_fds(), maps;
	tmc_shmem_t *shm = tmc_shmem_create(box_path("a"), NULL, NULL, 0);
	char template[] = "/nowhere/XXXXXX";

	(void)state;
	assert_non_null(shm);
	maps = probe_maps();
	assert_null_errno(tmc_shmem_create(box_path("a"), &prefer, NULL, 0),
			  EEXIST);
	assert_null_errno(tmc_shmem_create(box_path("b"), &prefer,
					   tmc_shmem_address(shm), 0),
			  EADDRINUSE);
	assert_null_errno(tmc_shmem_create(NULL, &prefer, NULL, 0), EINVAL);
	assert_null_errno(tmc_shmem_create_temp(template, &prefer, NULL, 0),
			  ENOENT);
	assert_string_equal(template, "/nowhere/XXXXXX");
	if (!UNDER_SANITIZER)
		assert_int_equal(probe_maps(), maps);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("a")), 0);
	assert_int_equal(probe_fds(), fds);
}

/* ----- memory that is no arena's ----- */

static size_t page_of(const void *p)
{
	return probe_smaps(p, "KernelPageSize") * KIB;
}

static void a_map_that_fits_the_pool_has_huge_pages(void **state)
{
	size_t free;
	char *p;

	(void)state;
	if (!huge || box_pool(huge, NPAGES) < NPAGES)
		skip();
	free = box_pool_free(huge);
	p = tmc_alloc_map(&prefer, 2 * huge);
	assert_non_null(p);
	assert_int_equal(page_of(p), huge);
	assert_int_equal(box_pool_free(huge), free - 2);
	assert_int_equal(tmc_alloc_unmap(p, huge), 0);
	assert_int_equal(tmc_alloc_unmap(p + huge, 1), 0);
	assert_int_equal(box_pool_free(huge), free);
}

static void one_that_does_not_fit_has_small_pages(void **state)
{
	int lazy;
	size_t len;
	char *p;

	(void)state;
	if (!huge || box_pool(huge, NPAGES) < NPAGES)
		skip();
	len = (box_pool_size(huge) + 1) * huge;
	for (lazy = 0; lazy < 2; lazy++) {
		if (lazy)
			tmc_alloc_clear_populate(&prefer);
		p = tmc_alloc_map(&prefer, len);
		assert_non_null(p);
		assert_int_equal(page_of(p), page);
		p[len - 1] = 1;
		/* Pieces of small pages can go. */
		assert_int_equal(tmc_alloc_unmap(p + page, page), 0);
		assert_int_equal(tmc_alloc_unmap(p, page), 0);
		assert_int_equal(tmc_alloc_unmap(p + 2 * page, len - 2 * page),
				 0);
	}
	tmc_alloc_set_populate(&prefer);
}

static void a_place_for_small_pages_gets_small_pages(void **state)
{
	char *p, *q;

	(void)state;
	if (!huge || box_pool(huge, NPAGES) < NPAGES)
		skip();
	p = tmc_alloc_map(&prefer, 2 * huge);
	assert_non_null(p);
	assert_int_equal(tmc_alloc_unmap(p, 2 * huge), 0);
	assert_ptr_equal(tmc_alloc_map_at(&prefer, p, 1), p);
	assert_int_equal(page_of(p), huge);
	assert_int_equal(tmc_alloc_unmap(p, 1), 0);
	q = tmc_alloc_map_at(&prefer, p + page, page);
	assert_ptr_equal(q, p + page);
	assert_int_equal(page_of(q), page);
	/* A huge page would be in the way of that one. */
	assert_ptr_equal(tmc_alloc_map_at(&prefer, p, page), p);
	assert_int_equal(page_of(p), page);
	assert_null_errno(tmc_alloc_map_at(&prefer, p, 1), EADDRINUSE);
	assert_null_errno(tmc_alloc_map_at(&prefer, p + 1, 1), EINVAL);
	assert_null_errno(tmc_alloc_map(&prefer, 0), EINVAL);
	assert_int_equal(tmc_alloc_unmap(p, page), 0);
	assert_int_equal(tmc_alloc_unmap(q, page), 0);
}

#define PAGES_TEST(name) cmocka_unit_test_teardown(name, end_pages)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_mount_an_arena_has_small_pages),
		PAGES_TEST(with_a_page_to_be_had_an_arena_has_huge_pages),
		PAGES_TEST(without_a_page_an_arena_has_small_ones),
		PAGES_TEST(an_address_for_small_pages_gets_small_pages),
		cmocka_unit_test(what_fails_for_both_fails),
		PAGES_TEST(a_map_that_fits_the_pool_has_huge_pages),
		PAGES_TEST(one_that_does_not_fit_has_small_pages),
		PAGES_TEST(a_place_for_small_pages_gets_small_pages),
	};

	return cmocka_run_group_tests(tests, begin, test_box_close);
}
