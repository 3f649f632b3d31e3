/* SPDX-License-Identifier: BSD-3-Clause */
/* test_failing.c - whichever system call fails, all is as before the call. */
#include "test.h"

#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <shmem.h>

#include "kernel.h"
#include "peer.h"
#include "probe.h"

#define MANY 1000 /* more system calls than any call makes */

static char path[4096]; /* box_path() has few buffers */
static tmc_alloc_t alloc;
static size_t page;
static int fds[2]; /* of an arena, for call_fds() */

/*
 * Runs @call with its first system call failing, then its second, and so on,
 * until it makes fewer. Whether it fails or gets by without, @undo leaves
 * everything as it was. The result is the number of system calls, or 0.
 */
struct trial {
	int (*call)(struct trial *t); /* 0, or -1 with errno */
	void (*undo)(struct trial *t, int rc);
	tmc_shmem_t *shm; /* open all the time; or NULL */
	tmc_shmem_t *made;
	void *p;
	size_t size;
};

static unsigned long each_fails(struct trial *t, int err)
{
	size_t open_fds, files, maps, size;
	unsigned long n;
	int rc, failed;

	if (t->call(t)) /* what is made once is made now */
		return 0;
	t->undo(t, 0);
	for (n = 1; n < MANY; n++) {
		open_fds = probe_fds();
		files = probe_files(box_path(""));
		maps = probe_maps();
		size = tmc_shmem_current_size(t->shm);
		kernel_fail(n, err);
		errno = 0;
		rc = t->call(t);
		if (rc && !errno) {
			fprintf(stderr, "call %lu: no errno\n", n);
			return 0;
		}
		failed = kernel_failed();
		kernel_fail(0, 0);
		t->undo(t, rc);
		if (!failed && rc)
			perror("with all calls");
		if (!failed)
			return rc ? 0 : n - 1;
		if (probe_fds() != open_fds ||
		    probe_files(box_path("")) > files ||
		    (!UNDER_SANITIZER && probe_maps() != maps) ||
		    tmc_shmem_current_size(t->shm) != size) {
			fprintf(stderr,
				"call %lu left something: %zu %zu, %zu %zu, "
				"%zu %zu, %zu %zu\n",
				n, open_fds, probe_fds(), files,
				probe_files(box_path("")), maps, probe_maps(),
				size, tmc_shmem_current_size(t->shm));
			return 0;
		}
	}
	return 0;
}

static void assert_each_fails(struct trial *t)
{
	assert_in_range(each_fails(t, EIO), 1, MANY);
	/* After it mmap is asked once more, in a way that kills a program
	 * under the thread sanitizer; see map_exactly(). */
	if (!UNDER_SANITIZER)
		assert_in_range(each_fails(t, ENOMEM), 1, MANY);
	assert_in_range(each_fails(t, ENOSPC), 1, MANY);
}

static int call_create(struct trial *t)
{
	t->made = tmc_shmem_create(path, &alloc, NULL, GIB);
	return t->made ? 0 : -1;
}

static void undo_create(struct trial *t, int rc)
{
	if (!rc)
		tmc_shmem_close(t->made);
	if (!rc)
		tmc_shmem_unlink(path);
}

static int call_temp(struct trial *t)
{
	snprintf(path, sizeof(path), "%s", box_path("t-XXXXXX"));
	t->made = tmc_shmem_create_temp(path, &alloc, NULL, GIB);
	return t->made ? 0 : -1;
}

static int call_anonymous(struct trial *t)
{
	t->made = tmc_shmem_create_anonymous(&alloc, NULL, GIB);
	return t->made ? 0 : -1;
}

static int call_open(struct trial *t)
{
	t->made = tmc_shmem_open(path);
	return t->made ? 0 : -1;
}

static int call_readonly(struct trial *t)
{
	t->made = tmc_shmem_open_readonly(path);
	return t->made ? 0 : -1;
}

static void undo_open(struct trial *t, int rc)
{
	if (!rc)
		tmc_shmem_close(t->made);
}

/* What became a writer's stays one, so it begins anew as a reader's. */
static void undo_upgrade(struct trial *t, int rc)
{
	undo_open(t, rc);
	tmc_shmem_close(t->shm);
	t->shm = tmc_shmem_open_readonly(path);
}

static int call_fds(struct trial *t)
{
	t->made = tmc_shmem_open_fds(fds[0], fds[1]);
	return t->made ? 0 : -1;
}

static int call_unlink(struct trial *t)
{
	(void)t;
	return tmc_shmem_unlink(path);
}

static int call_unlink_idle(struct trial *t)
{
	(void)t;
	return tmc_shmem_unlink_idle(path);
}

static void undo_unlink(struct trial *t, int rc)
{
	(void)t;
	(void)rc;
	tmc_shmem_unlink(path);
	tmc_shmem_close(tmc_shmem_create(path, &alloc, NULL, GIB));
}

static int call_grow(struct trial *t)
{
	return tmc_shmem_grow(t->shm, t->size) ? 0 : -1;
}

static void undo_grow(struct trial *t, int rc)
{
	if (!rc)
		tmc_shmem_shrink(t->shm, 0, t->size);
}

static int call_map(struct trial *t)
{
	t->p = tmc_alloc_map(&alloc, 8 * page);
	return t->p ? 0 : -1;
}

static void undo_map(struct trial *t, int rc)
{
	if (!rc)
		tmc_alloc_unmap(t->p, 8 * page);
}

static int call_remap(struct trial *t)
{
	void *q;

	t->p = tmc_alloc_map(&alloc, page);
	if (!t->p)
		return -1;
	q = tmc_alloc_remap(t->p, page, 4 * MIB, MREMAP_MAYMOVE);
	if (q != MAP_FAILED) {
		tmc_alloc_unmap(q, 4 * MIB);
		return 0;
	}
	tmc_alloc_unmap(t->p, page);
	return -1;
}

static int call_heap(struct trial *t)
{
	t->p = tmc_mspace_create_special(
		MIB, 0, t->shm ? tmc_shmem_alloc(t->shm) : &alloc);
	return t->p ? 0 : -1;
}

static void undo_heap(struct trial *t, int rc)
{
	if (!rc)
		tmc_mspace_destroy(t->p);
}

static int call_family(struct trial *t)
{
	(void)t;
	return tmc_cmem_init(0);
}

static void undo_family(struct trial *t, int rc)
{
	(void)t;
	if (!rc)
		tmc_cmem_close();
}

static void undo_nothing(struct trial *t, int rc)
{
	(void)t;
	(void)rc;
}

static void set_up(const char *name, size_t *huge)
{
	snprintf(path, sizeof(path), "%s", box_path(name));
	page = (size_t)sysconf(_SC_PAGESIZE);
	tmc_alloc_init(&alloc);
	tmc_alloc_set_nodes(&alloc, 1);
	if (!huge)
		return;
	*huge = tmc_alloc_get_huge_pagesize();
	if (*huge && box_pool(*huge, 8) >= 8 &&
	    !box_hugetlbfs("huge", *huge, "size=16M"))
		tmc_alloc_set_huge(&alloc);
	else
		*huge = 0;
}

static void whatever_fails_create_leaves_nothing(void **state)
{
	struct trial t = { .call = call_create, .undo = undo_create };

	(void)state;
	set_up("create", NULL);
	assert_each_fails(&t);
	t.call = call_temp;
	assert_each_fails(&t);
}

static int without_tmpfile(struct peer *self, void *arg)
{
	struct trial *t = arg;

	(void)self;
	kernel_without_tmpfile();
	PEER_CHECK(each_fails(t, EIO) > 0);
	PEER_CHECK(each_fails(t, ENOSPC) > 0);
	return 0;
}

static void whatever_fails_create_with_a_name_leaves_nothing(void **state)
{
	struct trial t = { .call = call_create, .undo = undo_create };

	(void)state;
	set_up("named", NULL);
	assert_int_equal(peer_run(without_tmpfile, &t), 0);
}

static void whatever_fails_create_of_huge_pages_leaves_nothing(void **state)
{
	struct trial t = { .call = call_create, .undo = undo_create };
	size_t huge;

	(void)state;
	set_up("create-huge", &huge);
	if (!huge)
		skip();
	assert_each_fails(&t);
	assert_int_equal(peer_run(without_tmpfile, &t), 0);
	assert_int_equal(probe_files(box_path("huge")), 0);
	assert_int_equal(box_umount("huge"), 0);
	box_pool_end();
}

static void whatever_fails_create_without_a_name_leaves_nothing(void **state)
{
	struct trial t = { .call = call_anonymous, .undo = undo_open };
	size_t huge;

	(void)state;
	set_up("anonymous", NULL);
	assert_each_fails(&t);
	set_up("anonymous", &huge);
	if (!huge)
		skip();
	assert_each_fails(&t);
	assert_int_equal(box_umount("huge"), 0);
	box_pool_end();
}

static int keep_open(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = tmc_shmem_open(path);
	uint64_t word;

	(void)arg;
	PEER_CHECK(shm);
	PEER_CHECK(peer_put(self, 1) == 0);
	PEER_CHECK(peer_get(self, &word) == 0);
	tmc_shmem_close(shm);
	return 0;
}

static void open_beside_another(struct trial *t)
{
	struct peer p;
	uint64_t word;

	assert_int_equal(peer_fork(&p, keep_open, NULL), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	assert_each_fails(t);
	/* What some file systems say where others say EAGAIN. */
	assert_in_range(each_fails(t, EACCES), 1, MANY);
	assert_int_equal(peer_put(&p, 1), 0);
	assert_int_equal(peer_end(&p), 0);
}

static int open_as_guest(struct peer *self, void *arg)
{
	struct trial *t = arg;

	(void)self;
	kernel_without_reopen();
	PEER_CHECK(each_fails(t, EIO) > 0);
	return 0;
}

static void open_all(tmc_shmem_t *shm)
{
	struct trial t = { .call = call_open, .undo = undo_open };

	assert_non_null(shm);
	fds[0] = dup(tmc_shmem_fd(shm));
	fds[1] = dup(tmc_shmem_hugefd(shm));
	tmc_shmem_close(shm);
	assert_each_fails(&t);
	open_beside_another(&t);
	t.call = call_fds;
	assert_each_fails(&t);
	assert_int_equal(peer_run(open_as_guest, &t), 0);
	t.call = call_readonly;
	assert_each_fails(&t);
	/* A reader that becomes a writer. */
	t.shm = tmc_shmem_open_readonly(path);
	assert_non_null(t.shm);
	t.call = call_open;
	t.undo = undo_upgrade;
	assert_in_range(each_fails(&t, EIO), 1, MANY);
	tmc_shmem_close(t.shm);
	close(fds[0]);
	close(fds[1]);
	t.shm = NULL;
	t.call = call_unlink;
	t.undo = undo_unlink;
	assert_each_fails(&t);
	t.call = call_unlink_idle;
	assert_each_fails(&t);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void whatever_fails_open_leaves_nothing(void **state)
{
	size_t huge;

	(void)state;
	set_up("open", NULL);
	open_all(tmc_shmem_create(path, &alloc, NULL, GIB));
	set_up("open-huge", &huge);
	if (!huge)
		skip();
	open_all(tmc_shmem_create(path, &alloc, NULL, GIB));
	assert_int_equal(box_umount("huge"), 0);
	box_pool_end();
}

static void whatever_fails_grow_changes_nothing(void **state)
{
	struct trial t = { .call = call_grow, .undo = undo_grow };
	static const size_t sizes[] = { 4096, 4 * MIB, 9 * MIB };
	size_t i;

	(void)state;
	set_up("grow", NULL);
	for (i = 0; i < 6; i++) {
		if (i == 3)
			tmc_alloc_set_thp(&alloc);
		t.shm = tmc_shmem_create(path, &alloc, NULL, GIB);
		assert_non_null(t.shm);
		t.size = (sizes[i % 3] + page - 1) / page * page;
		assert_each_fails(&t);
		assert_in_range(each_fails(&t, EHWPOISON), 1, MANY);
		tmc_shmem_close(t.shm);
		assert_int_equal(tmc_shmem_unlink(path), 0);
	}
}

/* A signal in any of its system calls is nothing to the caller. */
static void an_interrupted_grow_goes_on(void **state)
{
	struct trial t = { .call = call_grow, .undo = undo_grow };
	int failed;
	unsigned long n;
	size_t i;

	(void)state;
	set_up("signal", NULL);
	t.shm = tmc_shmem_create(path, &alloc, NULL, GIB);
	assert_non_null(t.shm);
	for (i = 0; i < 2; i++) {
		t.size = (i ? 9 * MIB : 0) + 5 * page;
		for (n = 1, failed = 1; failed; n++) {
			kernel_fail(n, EINTR);
			assert_int_equal(t.call(&t), 0);
			failed = kernel_failed();
			kernel_fail(0, 0);
			t.undo(&t, 0);
		}
		assert_true(n > 2);
	}
	tmc_shmem_close(t.shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* Some pages are written, which no signal interrupts. */
static int grow_with_signals_only(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, GIB);
	const size_t sizes[] = { page, 9 * MIB };
	size_t i;

	(void)self;
	(void)arg;
	kernel_interrupted_allocate();
	PEER_CHECK(shm);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		PEER_CHECK(!tmc_shmem_grow(shm, sizes[i]) && errno == ENOMEM);
		PEER_CHECK(tmc_shmem_current_size(shm) == 0);
	}
	PEER_CHECK(tmc_shmem_grow(shm, 5 * page));
	tmc_shmem_close(shm);
	return tmc_shmem_unlink(path);
}

static void a_grow_that_signals_leave_no_time_is_enomem(void **state)
{
	(void)state;
	set_up("signal", NULL);
	assert_int_equal(peer_run(grow_with_signals_only, NULL), 0);
}

/* Without CAP_IPC_LOCK, which root has, all that is mapped counts. */
static int lock_all_memory(void)
{
	const struct rlimit limit = { 65536, 65536 };
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3
	};
	struct __user_cap_data_struct caps[2];

	if (syscall(SYS_capget, &head, caps))
		return -1;
	caps[0].effective &= ~(1u << CAP_IPC_LOCK);
	if (syscall(SYS_capset, &head, caps) ||
	    setrlimit(RLIMIT_MEMLOCK, &limit))
		return -1;
	return mlockall(MCL_FUTURE);
}

static int call_with_locked_memory(struct peer *self, void *arg)
{
	const size_t files = probe_files(box_path("")), open_fds = probe_fds();
	tmc_shmem_t *shm;

	(void)self;
	(void)arg;
	if (lock_all_memory())
		return 77;
	shm = tmc_shmem_create(box_path("more"), &alloc, NULL, GIB);
	PEER_CHECK(!shm && errno == ENOMEM);
	PEER_CHECK(!tmc_shmem_open(path) && errno == ENOMEM);
	PEER_CHECK(!tmc_shmem_open_readonly(path) && errno == ENOMEM);
	PEER_CHECK(!tmc_alloc_map(NULL, MIB) && errno == ENOMEM);
	PEER_CHECK(probe_fds() == open_fds);
	PEER_CHECK(probe_files(box_path("")) == files);
	return 0;
}

static void more_locked_memory_than_the_limit_is_enomem(void **state)
{
	tmc_shmem_t *shm;
	int rc;

	(void)state;
	if (UNDER_SANITIZER) /* mlockall does nothing there */
		skip();
	set_up("locked", NULL);
	shm = tmc_shmem_create(path, &alloc, NULL, GIB);
	assert_non_null(shm);
	tmc_shmem_close(shm);
	rc = peer_run(call_with_locked_memory, NULL);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	if (rc == 77) {
		print_message("mlockall(MCL_FUTURE) is not allowed here\n");
		skip();
	}
	assert_int_equal(rc, 0);
}

/* Without it the file locks alone tell of deaths. */
static int grow_without_robust_list(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, GIB);

	(void)self;
	(void)arg;
	kernel_refuse(SYS_get_robust_list, ENOSYS);
	PEER_CHECK(shm && tmc_shmem_grow(shm, page) == tmc_shmem_address(shm));
	PEER_CHECK(tmc_shmem_shrink(shm, 0, page) == 0);
	tmc_shmem_close(shm);
	return tmc_shmem_unlink(path);
}

static int create_for_nodes_that_are_refused(struct peer *self, void *arg)
{
	(void)self;
	(void)arg;
	kernel_refuse(SYS_mbind, EINVAL);
	PEER_CHECK(!tmc_shmem_create(path, &alloc, NULL, GIB));
	PEER_CHECK(errno == EINVAL && access(path, F_OK));
	return 0;
}

static void calls_that_a_kernel_refuses(void **state)
{
	(void)state;
	set_up("refused", NULL);
	assert_int_equal(peer_run(grow_without_robust_list, NULL), 0);
	assert_int_equal(peer_run(create_for_nodes_that_are_refused, NULL), 0);
}

static void whatever_fails_map_and_remap_leave_nothing(void **state)
{
	struct trial t = { .call = call_map, .undo = undo_map };

	(void)state;
	set_up("map", NULL);
	assert_each_fails(&t);
	t.call = call_remap;
	t.undo = undo_nothing;
	assert_each_fails(&t);
	tmc_alloc_clear_populate(&alloc);
	assert_each_fails(&t);
}

static void whatever_fails_a_heap_leaves_nothing(void **state)
{
	struct trial t = { .call = call_heap, .undo = undo_heap };
	size_t before;

	(void)state;
	set_up("heap", NULL);
	t.shm = tmc_shmem_create(path, &alloc, NULL, GIB);
	assert_non_null(t.shm);
	assert_each_fails(&t);
	/* Where the heap is not at once at the arena's end. */
	assert_non_null(tmc_shmem_grow(t.shm, page));
	assert_int_equal(t.call(&t), 0);
	t.undo(&t, 0);
	assert_each_fails(&t);
	tmc_shmem_close(t.shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	t.shm = NULL;
	assert_int_equal(t.call(&t), 0);
	t.undo(&t, 0);
	before = probe_space();
	assert_each_fails(&t);
	if (!UNDER_SANITIZER)
		assert_int_equal(probe_space(), before);
	tmc_alloc_set_shared(&alloc);
	assert_each_fails(&t);
	t.call = call_family;
	t.undo = undo_family;
	assert_each_fails(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_fails_create_leaves_nothing),
		cmocka_unit_test(
			whatever_fails_create_with_a_name_leaves_nothing),
		cmocka_unit_test(
			whatever_fails_create_of_huge_pages_leaves_nothing),
		cmocka_unit_test(
			whatever_fails_create_without_a_name_leaves_nothing),
		cmocka_unit_test(whatever_fails_open_leaves_nothing),
		cmocka_unit_test(whatever_fails_grow_changes_nothing),
		cmocka_unit_test(an_interrupted_grow_goes_on),
		cmocka_unit_test(a_grow_that_signals_leave_no_time_is_enomem),
		cmocka_unit_test(more_locked_memory_than_the_limit_is_enomem),
		cmocka_unit_test(calls_that_a_kernel_refuses),
		cmocka_unit_test(whatever_fails_map_and_remap_leave_nothing),
		cmocka_unit_test(whatever_fails_a_heap_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
