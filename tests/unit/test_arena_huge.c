/* SPDX-License-Identifier: BSD-3-Clause */
/* test_arena_huge.c - arenas of huge pages and their companion files. */
#include "test.h"

#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "list.h"
#include "peer.h"
#include "probe.h"

#define NPAGES 8 /* of the default size; what a test may use */
#define NOBODY 65534

static size_t huge; /* the default size; 0: none */
static tmc_alloc_t alloc;

static int find_huge(void **state)
{
	huge = tmc_alloc_get_huge_pagesize();
	tmc_alloc_set_huge(tmc_alloc_init(&alloc));
	return test_box_open(state);
}

/* A mount with NPAGES pages that are its own; or the test is skipped. */
static int mount_pages(void)
{
	char options[64];

	snprintf(options, sizeof(options), "size=%zu,min_size=%zu",
		 NPAGES * huge, NPAGES * huge);
	return huge && box_pool(huge, NPAGES) >= NPAGES &&
	       box_hugetlbfs("huge", huge, options) == 0;
}

#define NEED_PAGES()                                                           \
	do {                                                                   \
		if (!mount_pages())                                            \
			skip();                                                \
	} while (0)

static int end_pages(void **state)
{
	(void)state;
	unlink(box_path("a")); /* of a test that failed */
	box_umount("huge");
	box_umount("sized");
	box_pool_end();
	return 0;
}

static size_t free_in(const char *name)
{
	struct statfs fs;

	return statfs(box_path(name), &fs) ? 0 : (size_t)fs.f_bfree;
}

/* An arena's life with pages of @size, at most two of them. */
static void live_with(size_t size, const char *name)
{
	const char *path = box_path("arena");
	const char *const visit[] = { "open", path,  "list", "100",
				      "add",  "100", NULL };
	tmc_alloc_t a = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;
	size_t before = free_in(name);
	char *p;

	assert_non_null(tmc_alloc_set_pagesize_exact(&a, size));
	shm = tmc_shmem_create(path, &a, NULL, 8 * size - 1);
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_page_size(shm), size);
	assert_int_equal(tmc_shmem_maximum_size(shm), 8 * size);
	assert_int_equal((uintptr_t)tmc_shmem_address(shm) % size, 0);
	assert_true(tmc_shmem_hugefd(shm) >= 0);
	assert_int_equal(probe_files(box_path(name)), 1);
	assert_int_equal(free_in(name), before);
	assert_int_equal(list_add(shm, 100), 0);
	p = tmc_shmem_address(shm);
	assert_int_equal(tmc_shmem_current_size(shm), size);
	assert_int_equal(probe_present(p, size), size);
	assert_int_equal(probe_smaps(p, "KernelPageSize") * KIB, size);
	assert_int_equal(free_in(name), before - 1);
	assert_int_equal(peer_run_agent("visitor", visit), 0);
	assert_int_equal(list_count(shm), 200);
	assert_int_equal(tmc_shmem_shrink(shm, (off_t)size, size), 0);
	assert_int_equal(free_in(name), before - 1);
	tmc_shmem_close(shm);
	assert_int_equal(free_in(name), before - 1);
	shm = tmc_shmem_open(path);
	assert_non_null(shm);
	assert_ptr_equal(tmc_shmem_address(shm), p);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_int_equal(probe_files(box_path(name)), 0);
	assert_int_equal(tmc_shmem_shrink(shm, 0, size), 0);
	assert_non_null(tmc_shmem_grow(shm, size));
	tmc_shmem_close(shm);
	assert_int_equal(free_in(name), before);
}

static void arenas_live_with_huge_pages_of_every_size(void **state)
{
	unsigned long sizes = tmc_alloc_get_pagesizes(), bit;
	char options[64];
	int tried = 0;

	(void)state;
	sizes &= ~(unsigned long)sysconf(_SC_PAGESIZE);
	for (bit = 1; bit; bit <<= 1) {
		snprintf(options, sizeof(options), "size=%lu,min_size=%lu",
			 2 * bit, 2 * bit);
		if (!(sizes & bit) || box_pool(bit, 2) < 2 ||
		    box_hugetlbfs("sized", bit, options))
			continue;
		live_with(bit, "sized");
		assert_int_equal(box_umount("sized"), 0);
		tried++;
	}
	if (!tried)
		skip();
}

static void a_lazy_grow_takes_no_huge_page(void **state)
{
	tmc_shmem_t *shm;
	char *p;

	(void)state;
	NEED_PAGES();
	tmc_alloc_clear_populate(&alloc);
	shm = tmc_shmem_create(box_path("a"), &alloc, NULL, 64 * huge);
	tmc_alloc_set_populate(&alloc);
	assert_non_null(shm);
	p = tmc_shmem_grow(shm, 4 * huge);
	assert_ptr_equal(p, tmc_shmem_address(shm));
	assert_int_equal(free_in("huge"), NPAGES);
	p[huge] = 1;
	assert_int_equal(free_in("huge"), NPAGES - 1);
	assert_int_equal(p[0], 0);
	assert_int_equal(tmc_shmem_shrink(shm, 0, 4 * huge), 0);
	assert_int_equal(free_in("huge"), NPAGES);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("a")), 0);
}

static void opening_does_not_enlarge_the_companion(void **state)
{
	tmc_shmem_t *shm, *again;
	struct stat st;

	(void)state;
	NEED_PAGES();
	shm = tmc_shmem_create(box_path("a"), &alloc, NULL, 64 * huge);
	assert_non_null(shm);
	assert_int_equal(fstat(tmc_shmem_hugefd(shm), &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_non_null(tmc_shmem_grow(shm, 2 * huge));
	tmc_shmem_close(shm);
	again = tmc_shmem_open(box_path("a"));
	assert_non_null(again);
	assert_int_equal(fstat(tmc_shmem_hugefd(again), &st), 0);
	assert_int_equal(st.st_size, 2 * huge);
	tmc_shmem_close(again);
	assert_int_equal(tmc_shmem_unlink(box_path("a")), 0);
}

static void beyond_the_end_is_sigbus_and_not_a_page(void **state)
{
	char off[32];
	const char *visit[] = { "open", box_path("a"), "bus", off, NULL };
	tmc_shmem_t *shm;

	(void)state;
	NEED_PAGES();
	snprintf(off, sizeof(off), "%zu", huge);
	shm = tmc_shmem_create(box_path("a"), &alloc, NULL, 64 * huge);
	assert_non_null(tmc_shmem_grow(shm, huge));
	assert_int_equal(peer_run_agent("visitor", visit), 0);
	assert_int_equal(free_in("huge"), NPAGES - 1);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("a")), 0);
}

static void descriptors_of_both_files_open_it_elsewhere(void **state)
{
	const char *args[] = { "scm", "huge", "list", "10", "add", "10", NULL };
	tmc_shmem_t *shm, *other;
	struct peer p;

	(void)state;
	NEED_PAGES();
	shm = tmc_shmem_create(box_path("a"), &alloc, NULL, 64 * huge);
	other = tmc_shmem_create(box_path("b"), &alloc, NULL, 64 * huge);
	assert_int_equal(list_add(shm, 10), 0);
	assert_int_equal(peer_exec(&p, "visitor", args), 0);
	assert_int_equal(peer_put_fd(&p, tmc_shmem_fd(shm)), 0);
	assert_int_equal(peer_put_fd(&p, tmc_shmem_hugefd(shm)), 0);
	assert_int_equal(peer_end(&p), 0);
	assert_int_equal(list_count(shm), 20);
	/* What does not belong together. */
	assert_null_errno(
		tmc_shmem_open_fds(tmc_shmem_fd(shm), tmc_shmem_hugefd(other)),
		EINVAL);
	assert_null_errno(
		tmc_shmem_open_fds(tmc_shmem_fd(shm), tmc_shmem_fd(shm)),
		EINVAL);
	assert_null_errno(
		tmc_shmem_open_fds(tmc_shmem_hugefd(shm), tmc_shmem_fd(shm)),
		EINVAL);
	assert_null_errno(tmc_shmem_open_fds(tmc_shmem_hugefd(shm), -1),
			  EINVAL);
	tmc_shmem_close(shm);
	tmc_shmem_close(other);
	assert_int_equal(tmc_shmem_unlink(box_path("a")), 0);
	assert_int_equal(tmc_shmem_unlink(box_path("b")), 0);
	assert_int_equal(probe_files(box_path("huge")), 0);
}

static int as_nobody(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;

	(void)self;
	(void)arg;
	PEER_CHECK(peer_become(NOBODY) == 0);
	PEER_CHECK((shm = tmc_shmem_open(box_path("a"))));
	PEER_CHECK(list_add(shm, 10) == 0);
	tmc_shmem_close(shm);
	return 0;
}

static int not_as_nobody(struct peer *self, void *arg)
{
	(void)self;
	(void)arg;
	PEER_CHECK(peer_become(NOBODY) == 0);
	PEER_CHECK(!tmc_shmem_open(box_path("a")) && errno == EACCES);
	return 0;
}

static void others_need_permission_for_both_files(void **state)
{
	tmc_shmem_t *shm;

	(void)state;
	NEED_PAGES();
	shm = tmc_shmem_create(box_path("a"), &alloc, NULL, 64 * huge);
	assert_int_equal(list_add(shm, 10), 0);
	assert_int_equal(fchmod(tmc_shmem_fd(shm), 0666), 0);
	tmc_shmem_close(shm);
	assert_int_equal(peer_run(not_as_nobody, NULL), 0);
	shm = tmc_shmem_open(box_path("a"));
	assert_int_equal(fchmod(tmc_shmem_hugefd(shm), 0666), 0);
	tmc_shmem_close(shm);
	assert_int_equal(peer_run(as_nobody, NULL), 0);
	shm = tmc_shmem_open(box_path("a"));
	assert_int_equal(list_count(shm), 20);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("a")), 0);
}

static void without_its_companion_it_opens_with_enoent(void **state)
{
	tmc_shmem_t *shm;
	const char *path = box_path("a");

	(void)state;
	NEED_PAGES();
	shm = tmc_shmem_create(path, &alloc, NULL, 64 * huge);
	assert_non_null(tmc_shmem_grow(shm, huge));
	tmc_shmem_close(shm);
	assert_int_equal(umount(box_path("huge")), 0);
	assert_null_errno(tmc_shmem_open(path), ENOENT);
	assert_null_errno(tmc_shmem_open_readonly(path), ENOENT);
	assert_int_equal(box_hugetlbfs("huge", huge, ""), 0);
	assert_null_errno(tmc_shmem_open(path), ENOENT);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_int_equal(access(path, F_OK), -1);
}

static void unlink_leaves_other_companions_alone(void **state)
{
	tmc_shmem_t *a, *b;

	(void)state;
	NEED_PAGES();
	a = tmc_shmem_create(box_path("a"), &alloc, NULL, 64 * huge);
	b = tmc_shmem_create(box_path("b"), &alloc, NULL, 64 * huge);
	assert_int_equal(list_add(b, 10), 0);
	tmc_shmem_close(a);
	tmc_shmem_close(b);
	assert_int_equal(tmc_shmem_unlink(box_path("a")), 0);
	assert_int_equal(probe_files(box_path("huge")), 1);
	b = tmc_shmem_open(box_path("b"));
	assert_int_equal(list_count(b), 10);
	tmc_shmem_close(b);
	assert_int_equal(tmc_shmem_unlink(box_path("b")), 0);
}

static int no_mount_for_nobody(struct peer *self, void *arg)
{
	(void)self;
	(void)arg;
	PEER_CHECK(peer_become(NOBODY) == 0);
	PEER_CHECK(!tmc_shmem_create(box_path("a"), &alloc, NULL, huge));
	PEER_CHECK(errno == ENODEV);
	return 0;
}

static void without_a_mount_for_us_create_says_enodev(void **state)
{
	const size_t fds = probe_fds(), files = probe_files(box_path(""));

	(void)state;
	if (!box_can_mount() || !huge)
		skip();
	assert_null_errno(tmc_shmem_create(box_path("a"), &alloc, NULL, huge),
			  ENODEV);
	if (tmc_alloc_get_pagesizes() & GIB && huge != GIB) {
		assert_int_equal(box_hugetlbfs("other", GIB, ""), 0);
		assert_null_errno(
			tmc_shmem_create(box_path("a"), &alloc, NULL, huge),
			ENODEV);
		assert_int_equal(box_umount("other"), 0);
	}
	assert_int_equal(box_hugetlbfs("huge", huge, "mode=0755"), 0);
	assert_int_equal(peer_run(no_mount_for_nobody, NULL), 0);
	assert_int_equal(probe_files(box_path("huge")), 0);
	assert_int_equal(box_umount("huge"), 0);
	assert_int_equal(probe_fds(), fds);
	assert_int_equal(probe_files(box_path("")), files);
}

static void a_mount_that_can_be_written_to_is_found(void **state)
{
	tmc_shmem_t *shm;

	(void)state;
	if (!box_can_mount() || !huge)
		skip();
	assert_int_equal(box_hugetlbfs("first", huge, ""), 0);
	assert_int_equal(
		mount("", box_path("first"), "", MS_REMOUNT | MS_RDONLY, ""),
		0);
	assert_int_equal(box_hugetlbfs("sec ond\\", huge, ""), 0);
	shm = tmc_shmem_create(box_path("a"), &alloc, NULL, huge);
	assert_non_null(shm);
	assert_int_equal(probe_files(box_path("sec ond\\")), 1);
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(box_path("a"));
	assert_non_null(shm);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("a")), 0);
	assert_int_equal(probe_files(box_path("sec ond\\")), 0);
	assert_int_equal(box_umount("sec ond\\"), 0);
	assert_int_equal(box_umount("first"), 0);
}

static void huge_arenas_take_explicit_aligned_addresses(void **state)
{
	tmc_shmem_t *shm;
	char *at;

	(void)state;
	NEED_PAGES();
	shm = tmc_shmem_create(box_path("a"), &alloc, NULL, 64 * huge);
	assert_non_null(shm);
	at = tmc_shmem_address(shm);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("a")), 0);
	assert_null_errno(
		tmc_shmem_create(box_path("a"), &alloc, at + huge / 2, huge),
		EINVAL);
	shm = tmc_shmem_create(box_path("a"), &alloc, at + huge, huge);
	assert_non_null(shm);
	assert_ptr_equal(tmc_shmem_address(shm), at + huge);
	assert_ptr_equal(tmc_shmem_grow(shm, 1), at + huge);
	assert_null_errno(tmc_shmem_grow(shm, 1), ENOMEM);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("a")), 0);
}

static void huge_pages_that_come_back_are_zero(void **state)
{
	tmc_shmem_t *shm;
	char *p;

	(void)state;
	NEED_PAGES();
	shm = tmc_shmem_create(box_path("a"), &alloc, NULL, 64 * huge);
	p = tmc_shmem_grow(shm, 4 * huge);
	assert_non_null(p);
	memset(p, 1, 4 * huge);
	assert_minus_errno(tmc_shmem_shrink(shm, 4096, 4 * huge - 4096),
			   EINVAL);
	assert_int_equal(tmc_alloc_unmap(p + huge, 2 * huge + 1), 0);
	assert_ptr_equal(tmc_alloc_map(tmc_shmem_alloc(shm), 3 * huge),
			 p + huge);
	assert_true(probe_zero(p + huge, 3 * huge));
	assert_int_equal(p[huge - 1], 1);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("a")), 0);
}

#define TEST(f) cmocka_unit_test_teardown(f, end_pages)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(arenas_live_with_huge_pages_of_every_size),
		TEST(a_lazy_grow_takes_no_huge_page),
		TEST(opening_does_not_enlarge_the_companion),
		TEST(beyond_the_end_is_sigbus_and_not_a_page),
		TEST(descriptors_of_both_files_open_it_elsewhere),
		TEST(others_need_permission_for_both_files),
		TEST(without_its_companion_it_opens_with_enoent),
		TEST(unlink_leaves_other_companions_alone),
		TEST(without_a_mount_for_us_create_says_enodev),
		TEST(a_mount_that_can_be_written_to_is_found),
		TEST(huge_arenas_take_explicit_aligned_addresses),
		TEST(huge_pages_that_come_back_are_zero),
	};

	return cmocka_run_group_tests(tests, find_huge, test_box_close);
}
