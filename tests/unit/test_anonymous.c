/* SPDX-License-Identifier: BSD-3-Clause */
/* test_anonymous.c - arenas that never have a name. */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "kernel.h"
#include "list.h"
#include "peer.h"
#include "probe.h"

#define NOBODY 65534
#define NPAGES 6 /* huge ones; what a test may use */
#define KILLS 100

static size_t page, huge;
static tmc_alloc_t huge_alloc;

static int begin(void **state)
{
	page = (size_t)sysconf(_SC_PAGESIZE);
	huge = tmc_alloc_get_huge_pagesize();
	tmc_alloc_set_huge(tmc_alloc_init(&huge_alloc));
	return test_box_open(state);
}

static int end_pool(void **state)
{
	(void)state;
	box_pool_end();
	return 0;
}

static void it_works_as_any_arena(void **state)
{
	tmc_shmem_t *shm, *again;
	size_t fds = probe_fds(), maps = probe_maps();
	char *base;

	(void)state;
	shm = tmc_shmem_create_anonymous(NULL, NULL, 0);
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_maximum_size(shm), GIB);
	assert_int_equal(tmc_shmem_page_size(shm), page);
	assert_int_equal(tmc_shmem_current_size(shm), 0);
	assert_int_equal(tmc_shmem_hugefd(shm), -1);
	assert_int_equal(fcntl(tmc_shmem_fd(shm), F_GETFD), FD_CLOEXEC);
	base = tmc_shmem_address(shm);
	assert_ptr_equal(tmc_shmem_find(base + 1, NULL), shm);
	assert_int_equal(list_add(shm, 1000), 0);
	assert_int_equal(list_count(shm), 1000);
	assert_int_equal(probe_present(base, page), page);
	assert_int_equal(tmc_shmem_shrink(shm, 0, tmc_shmem_current_size(shm)),
			 0);
	assert_ptr_equal(tmc_shmem_grow(shm, 10 * MIB), base);
	assert_true(probe_zero(base, 10 * MIB));
	assert_int_equal(probe_present(base, 10 * MIB), 10 * MIB);
	/* By its descriptor, in one process: the same mapping. */
	again = tmc_shmem_open_fds(tmc_shmem_fd(shm), -1);
	assert_non_null(again);
	assert_ptr_equal(tmc_shmem_address(again), base);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_current_size(again), 10 * MIB);
	tmc_shmem_close(again);
	assert_int_equal(probe_fds(), fds);
	if (!UNDER_SANITIZER)
		assert_int_equal(probe_maps(), maps);
}

static void it_has_no_name_anywhere(void **state)
{
	char link[32], target[256];
	struct stat st;
	tmc_shmem_t *shm;
	ssize_t n;

	(void)state;
	assert_int_equal(chdir(box_path("")), 0);
	shm = tmc_shmem_create_anonymous(NULL, NULL, 0);
	assert_int_equal(probe_files(box_path("")), 0);
	assert_int_equal(chdir("/"), 0);
	assert_non_null(shm);
	assert_int_equal(fstat(tmc_shmem_fd(shm), &st), 0);
	assert_int_equal(st.st_nlink, 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", tmc_shmem_fd(shm));
	n = readlink(link, target, sizeof(target) - 1);
	assert_true(n > 0);
	target[n] = '\0';
	assert_string_equal(target, "/memfd:libshmem (deleted)");
	tmc_shmem_close(shm);
}

static void nobody_can_seal_it(void **state)
{
	tmc_shmem_t *shm = tmc_shmem_create_anonymous(NULL, NULL, 0);

	(void)state;
	assert_non_null(shm);
	assert_minus_errno(fcntl(tmc_shmem_fd(shm), F_ADD_SEALS, F_SEAL_GROW),
			   EPERM);
	assert_non_null(tmc_shmem_grow(shm, page));
	tmc_shmem_close(shm);
}

static void address_maximum_and_mode_are_as_asked(void **state)
{
	const unsigned int modes[] = { 0600, 0, 0666, 0755 };
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm = tmc_shmem_create_anonymous(NULL, NULL, 1), *other;
	char *base;
	struct stat st;
	size_t i;

	(void)state;
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_maximum_size(shm), page);
	base = tmc_shmem_address(shm);
	assert_null_errno(tmc_shmem_create_anonymous(NULL, base, 1),
			  EADDRINUSE);
	assert_null_errno(tmc_shmem_create_anonymous(NULL, base + 1, 1),
			  EINVAL);
	assert_null_errno(tmc_shmem_create_anonymous(NULL, NULL, SIZE_MAX),
			  ENOMEM);
	tmc_shmem_close(shm);
	for (i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		tmc_alloc_set_mode(&alloc, modes[i]);
		other = tmc_shmem_create_anonymous(&alloc, base, 3 * page);
		assert_non_null(other);
		assert_ptr_equal(tmc_shmem_address(other), base);
		assert_int_equal(fstat(tmc_shmem_fd(other), &st), 0);
		assert_int_equal(st.st_mode & 07777, modes[i]);
		assert_ptr_equal(tmc_shmem_grow(other, 3 * page), base);
		assert_null_errno(tmc_shmem_grow(other, 1), ENOMEM);
		tmc_shmem_close(other);
	}
	alloc.mmap_flags |= 0x10000;
	assert_null_errno(tmc_shmem_create_anonymous(&alloc, NULL, 0), EINVAL);
	tmc_alloc_set_nodes(tmc_alloc_init(&alloc), 1ul << 63);
	assert_null_errno(tmc_shmem_create_anonymous(&alloc, NULL, 0), EINVAL);
}

static int refused_by_the_kernel(struct peer *self, void *arg)
{
	size_t fds = probe_fds();

	(void)self;
	(void)arg;
	kernel_refuse(SYS_memfd_create, ENOSYS);
	PEER_CHECK(!tmc_shmem_create_anonymous(NULL, NULL, 0));
	PEER_CHECK(errno == ENOSYS);
	kernel_refuse(-1, 0);
	kernel_without_huge_memfd();
	if (huge) {
		PEER_CHECK(!tmc_shmem_create_anonymous(&huge_alloc, NULL, 0));
		PEER_CHECK(errno == ENODEV);
	}
	PEER_CHECK(probe_fds() == fds);
	return 0;
}

static int on_an_older_kernel(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;

	(void)self;
	(void)arg;
	/* The third call that can fail, after two of calloc(), is the first
	 * of memfd_create. */
	kernel_fail(3, EINVAL);
	shm = tmc_shmem_create_anonymous(NULL, NULL, 0);
	PEER_CHECK(kernel_failed());
	PEER_CHECK(shm && tmc_shmem_grow(shm, page));
	PEER_CHECK(fcntl(tmc_shmem_fd(shm), F_ADD_SEALS, F_SEAL_GROW) == -1);
	tmc_shmem_close(shm);
	return 0;
}

static void a_kernel_without_it_says_so(void **state)
{
	(void)state;
	assert_int_equal(peer_run(refused_by_the_kernel, NULL), 0);
	assert_int_equal(peer_run(on_an_older_kernel, NULL), 0);
}

/* ----- others who have it ----- */

static void a_stranger_gets_it_by_descriptor(void **state)
{
	const char *const visit[] = { "scm", "small", "list", "100", "add",
				      "100", "step",  "list", "300", NULL };
	tmc_shmem_t *shm = tmc_shmem_create_anonymous(NULL, NULL, 0);
	struct peer p;
	uint64_t word;

	(void)state;
	assert_non_null(shm);
	assert_int_equal(list_add(shm, 100), 0);
	assert_int_equal(peer_exec(&p, "visitor", visit), 0);
	assert_int_equal(peer_put_fd(&p, tmc_shmem_fd(shm)), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	assert_int_equal(list_count(shm), 200);
	assert_int_equal(list_add(shm, 100), 0);
	/* The stranger goes on when we have gone. */
	tmc_shmem_close(shm);
	assert_int_equal(peer_put(&p, 0), 0);
	assert_int_equal(peer_end(&p), 0);
}

static int grow_as_nobody(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;
	int fd, mine;

	(void)arg;
	PEER_CHECK(peer_become(NOBODY) == 0);
	fd = peer_get_fd(self);
	shm = tmc_shmem_open_fds(fd, -1);
	PEER_CHECK(shm);
	/* A description of its own: the offset is not shared. */
	PEER_CHECK(lseek(fd, 77, SEEK_SET) == 77);
	mine = lseek(tmc_shmem_fd(shm), 0, SEEK_CUR) == 0;
	PEER_CHECK(tmc_shmem_grow(shm, page));
	tmc_shmem_close(shm);
	return mine ? 2 : 0;
}

static void another_user_gets_it_whatever_the_mode(void **state)
{
	const unsigned int mode[] = { 0600, 0666 };
	const int result[] = { 0, 2 };
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	struct peer p;
	tmc_shmem_t *shm;
	int i;

	(void)state;
	if (!box_can_mount())
		skip();
	for (i = 0; i < 2; i++) {
		assert_int_equal(peer_fork(&p, grow_as_nobody, NULL), 0);
		tmc_alloc_set_mode(&alloc, mode[i]);
		shm = tmc_shmem_create_anonymous(&alloc, NULL, 0);
		assert_non_null(shm);
		assert_int_equal(peer_put_fd(&p, tmc_shmem_fd(shm)), 0);
		assert_int_equal(peer_end(&p), result[i]);
		assert_int_equal(tmc_shmem_current_size(shm), page);
		tmc_shmem_close(shm);
	}
}

static int grow_for_ever(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = arg;

	PEER_CHECK(peer_put(self, 1) == 0);
	for (;;) {
		volatile char *p = tmc_shmem_grow(shm, page);

		PEER_CHECK(p && *p == 0);
		*p = 1;
		tmc_shmem_shrink(
			shm, (off_t)(p - (char *)tmc_shmem_address(shm)), page);
	}
}

/* Children; two are always at it, wherever they die. */
static void killed_children_stop_nobody(void **state)
{
	tmc_shmem_t *shm = tmc_shmem_create_anonymous(NULL, NULL, 0);
	struct peer p[2];
	uint64_t word;
	int i, k;

	(void)state;
	assert_non_null(shm);
	for (i = 0; i < 2; i++)
		assert_int_equal(peer_fork(&p[i], grow_for_ever, shm), 0);
	for (i = 0; i < KILLS; i++) {
		struct peer *v = &p[i % 2];

		assert_int_equal(peer_get(v, &word), 0);
		for (k = 0; k < i; k++)
			assert_non_null(tmc_shmem_address(shm));
		peer_kill(v);
		assert_non_null(tmc_shmem_grow(shm, page));
		assert_int_equal(peer_fork(v, grow_for_ever, shm), 0);
	}
	for (i = 0; i < 2; i++)
		peer_kill(&p[i]);
	assert_true(tmc_shmem_current_size(shm) >= KILLS * page);
	assert_non_null(tmc_shmem_grow(shm, page));
	tmc_shmem_close(shm);
}

/* ----- huge pages ----- */

static int use_child(struct peer *self, void *arg)
{
	(void)self;
	PEER_CHECK(list_count(arg) == 100);
	PEER_CHECK(list_add(arg, 100) == 0);
	return 0;
}

/* The box has no mount of hugetlbfs. */
static void huge_pages_need_no_mount(void **state)
{
	const char *const visit[] = { "scm", "huge", "list", "200",
				      "add", "100",  NULL };
	tmc_shmem_t *shm;
	struct peer p;
	size_t free;
	char *base;

	(void)state;
	if (!huge || box_pool(huge, NPAGES) < NPAGES)
		skip();
	free = box_pool_free(huge);
	shm = tmc_shmem_create_anonymous(&huge_alloc, NULL, 2 * NPAGES * huge);
	assert_non_null(shm);
	assert_int_equal(box_pool_free(huge), free);
	base = tmc_shmem_address(shm);
	assert_int_equal(tmc_shmem_page_size(shm), huge);
	assert_int_equal(list_add(shm, 100), 0);
	assert_int_equal(probe_smaps(base, "KernelPageSize") * KIB, huge);
	assert_int_equal(box_pool_free(huge), free - 1);
	assert_int_equal(peer_run(use_child, shm), 0);
	assert_int_equal(peer_exec(&p, "visitor", visit), 0);
	assert_int_equal(peer_put_fd(&p, tmc_shmem_fd(shm)), 0);
	assert_int_equal(peer_put_fd(&p, tmc_shmem_hugefd(shm)), 0);
	assert_int_equal(peer_end(&p), 0);
	assert_int_equal(list_count(shm), 300);
	assert_null_errno(tmc_shmem_grow(shm, 2 * NPAGES * huge), ENOMEM);
	assert_int_equal(fcntl(tmc_shmem_hugefd(shm), F_GETFD), FD_CLOEXEC);
	/* The two belong together. */
	assert_null_errno(
		tmc_shmem_open_fds(tmc_shmem_fd(shm), tmc_shmem_fd(shm)),
		EINVAL);
	tmc_shmem_close(shm);
	assert_int_equal(box_pool_free(huge), free);
}

static void preferred_huge_pages_fall_back(void **state)
{
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm, *hog;
	size_t free;

	(void)state;
	if (!huge || box_pool(huge, NPAGES) < NPAGES)
		skip();
	free = box_pool_free(huge);
	tmc_alloc_set_huge_preferred(&alloc);
	shm = tmc_shmem_create_anonymous(&alloc, NULL, huge);
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_page_size(shm), huge);
	tmc_shmem_close(shm);
	if (box_pool_size(huge) != free || free > 64)
		skip(); /* a large pool, or somebody else's come and go */
	hog = tmc_shmem_create_anonymous(&huge_alloc, NULL, free * huge);
	assert_non_null(hog);
	assert_non_null(tmc_shmem_grow(hog, free * huge));
	shm = tmc_shmem_create_anonymous(&alloc, NULL, huge);
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_page_size(shm), page);
	tmc_shmem_close(shm);
	tmc_shmem_close(hog);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_works_as_any_arena),
		cmocka_unit_test(it_has_no_name_anywhere),
		cmocka_unit_test(nobody_can_seal_it),
		cmocka_unit_test(address_maximum_and_mode_are_as_asked),
		cmocka_unit_test(a_kernel_without_it_says_so),
		cmocka_unit_test(a_stranger_gets_it_by_descriptor),
		cmocka_unit_test(another_user_gets_it_whatever_the_mode),
		cmocka_unit_test(killed_children_stop_nobody),
		cmocka_unit_test_teardown(huge_pages_need_no_mount, end_pool),
		cmocka_unit_test_teardown(preferred_huge_pages_fall_back,
					  end_pool),
	};

	return cmocka_run_group_tests(tests, begin, test_box_close);
}
