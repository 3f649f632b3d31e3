/* SPDX-License-Identifier: BSD-3-Clause */
/* test_shortage.c - whatever runs out is an errno, and all is as before. */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "group.h"
#include "layout.h"
#include "list.h"
#include "peer.h"
#include "probe.h"

static size_t page;

/* What a failed grow must leave as it was. */
struct state {
	size_t size;
	off_t len, hugelen;
	blkcnt_t blocks, hugeblocks;
};

static struct state look(tmc_shmem_t *shm)
{
	struct state s = { .size = tmc_shmem_current_size(shm) };
	struct stat st;

	if (!fstat(tmc_shmem_fd(shm), &st)) {
		s.len = st.st_size;
		s.blocks = st.st_blocks;
	}
	if (!fstat(tmc_shmem_hugefd(shm), &st)) {
		s.hugelen = st.st_size;
		s.hugeblocks = st.st_blocks;
	}
	return s;
}

static int same(const struct state *a, const struct state *b)
{
	return a->size == b->size && a->len == b->len &&
	       a->blocks == b->blocks && a->hugelen == b->hugelen &&
	       a->hugeblocks == b->hugeblocks;
}

/* @too_much fails and changes nothing, @enough works: 0, 1 for peers. */
static int grow_fails_cleanly(tmc_shmem_t *shm, size_t too_much, size_t enough)
{
	struct state before = look(shm), after;
	char *end = (char *)tmc_shmem_address(shm) + before.size, *p;

	PEER_CHECK(!tmc_shmem_grow(shm, too_much));
	PEER_CHECK(errno == ENOMEM);
	after = look(shm);
	PEER_CHECK(same(&before, &after));
	p = tmc_shmem_grow(shm, enough);
	PEER_CHECK(p == end);
	PEER_CHECK(probe_present(p, enough) == enough);
	PEER_CHECK(probe_zero(p, enough));
	memset(p, 1, enough);
	PEER_CHECK(!tmc_shmem_grow(shm, too_much));
	PEER_CHECK(errno == ENOMEM);
	PEER_CHECK(tmc_shmem_current_size(shm) == before.size + enough);
	return 0;
}

static void fill_up(const char *path)
{
	static char bytes[65536];
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	while (write(fd, bytes, sizeof(bytes)) > 0)
		;
	while (write(fd, bytes, 1) > 0)
		;
	close(fd);
}

static void a_full_tmpfs_is_enomem(void **state)
{
	const size_t large[] = { 8 * MIB, 16 * MIB, 60 * MIB };
	size_t i;

	(void)state;
	if (box_mount("small", "tmpfs", "size=8m"))
		skip();
	for (i = 0; i < 3; i++) {
		const char *path = box_path("small/a");
		tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 64 * MIB);

		assert_non_null(shm);
		assert_int_equal(grow_fails_cleanly(shm, large[i], MIB), 0);
		assert_int_equal(grow_fails_cleanly(shm, large[i], page), 0);
		assert_int_equal(grow_fails_cleanly(shm, large[i], 5 * MIB), 0);
		assert_int_equal(grow_fails_cleanly(shm, 2 * MIB, MIB), 0);
		tmc_shmem_close(shm);
		assert_int_equal(tmc_shmem_unlink(path), 0);
	}
	assert_int_equal(box_umount("small"), 0);
}

static void a_page_more_than_a_full_tmpfs_has_is_enomem(void **state)
{
	tmc_shmem_t *shm;
	struct state before, after;

	(void)state;
	if (box_mount("small", "tmpfs", "size=1m"))
		skip();
	shm = tmc_shmem_create(box_path("small/a"), NULL, NULL, 64 * MIB);
	assert_int_equal(list_add(shm, 10), 0);
	fill_up(box_path("small/fill"));
	before = look(shm);
	assert_null_errno(tmc_shmem_grow(shm, 1), ENOMEM);
	assert_minus_errno(list_add(shm, 10), ENOMEM);
	after = look(shm);
	assert_true(same(&before, &after));
	assert_int_equal(list_count(shm), 10);
	assert_int_equal(unlink(box_path("small/fill")), 0);
	assert_int_equal(list_add(shm, 10), 0);
	tmc_shmem_close(shm);
	assert_int_equal(box_umount("small"), 0);
}

static void create_on_a_full_file_system_is_enomem_and_no_name(void **state)
{
	const char *types[] = { "tmpfs", "ext4" };
	size_t i;

	(void)state;
	for (i = 0; i < 2; i++) {
		size_t fds = probe_fds();

		if (i == 0 ? box_mount("full", "tmpfs", "size=1m")
			   : box_image("full", types[i], 8))
			skip();
		fill_up(box_path("full/fill"));
		assert_null_errno(
			tmc_shmem_create(box_path("full/a"), NULL, NULL, MIB),
			ENOMEM);
		assert_int_equal(access(box_path("full/a"), F_OK), -1);
		assert_int_equal(probe_fds(), fds);
		assert_int_equal(unlink(box_path("full/fill")), 0);
		assert_int_equal(box_umount("full"), 0);
	}
}

static void create_without_an_inode_is_enomem(void **state)
{
	(void)state;
	if (box_mount("small", "tmpfs", "nr_inodes=1"))
		skip();
	assert_null_errno(
		tmc_shmem_create(box_path("small/a"), NULL, NULL, MIB), ENOMEM);
	assert_int_equal(probe_files(box_path("small")), 0);
	assert_int_equal(box_umount("small"), 0);
}

static void full_disk(const char *type, size_t mib)
{
	char name[32];
	tmc_shmem_t *shm;

	snprintf(name, sizeof(name), "%s/a", type);
	if (box_image(type, type, mib))
		skip();
	shm = tmc_shmem_create(box_path(name), NULL, NULL, GIB);
	assert_non_null(shm);
	assert_int_equal(grow_fails_cleanly(shm, mib * MIB, MIB), 0);
	assert_int_equal(grow_fails_cleanly(shm, 2 * mib * MIB, page), 0);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path(name)), 0);
	assert_int_equal(box_umount(type), 0);
}

static void a_full_ext4_is_enomem(void **state)
{
	(void)state;
	full_disk("ext4", 16);
}

static void a_full_xfs_is_enomem(void **state)
{
	(void)state;
	full_disk("xfs", 300);
}

static void a_full_btrfs_is_enomem(void **state)
{
	(void)state;
	full_disk("btrfs", 256);
}

static void limit(unsigned int what, rlim_t n)
{
	struct rlimit r;

	getrlimit(what, &r);
	r.rlim_cur = n;
	setrlimit(what, &r);
}

static int grow_beyond_file_limit(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = arg;

	(void)self;
	limit(RLIMIT_FSIZE, (rlim_t)look(shm).len + 6 * MIB);
	PEER_CHECK(grow_fails_cleanly(shm, 7 * MIB, page) == 0);
	PEER_CHECK(grow_fails_cleanly(shm, 8 * MIB, 5 * MIB) == 0);
	PEER_CHECK(grow_fails_cleanly(shm, MIB, MIB / 2) == 0);
	PEER_CHECK(!tmc_alloc_map(
		tmc_alloc_clear_populate(tmc_shmem_alloc(shm)), MIB));
	PEER_CHECK(errno == ENOMEM);
	return 0;
}

static void the_file_size_limit_is_enomem_and_no_signal(void **state)
{
	const char *path = box_path("a");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 64 * MIB);

	(void)state;
	assert_non_null(shm);
	assert_int_equal(peer_run(grow_beyond_file_limit, shm), 0);
	assert_int_equal(tmc_shmem_current_size(shm), page + 5 * MIB + MIB / 2);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* Others grow it further than our limit lets us: we can still give back. */
static int shrink_above_file_limit(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = arg;
	const int fd = tmc_shmem_fd(shm);
	const size_t len = (size_t)look(shm).len;
	sigset_t pending;

	(void)self;
	limit(RLIMIT_FSIZE, 3 * MIB);
	PEER_CHECK(tmc_shmem_shrink(shm, 7 * MIB, MIB) == 0);
	PEER_CHECK(tmc_shmem_current_size(shm) == 7 * MIB);
	/* Somebody cuts the file under us, and our cut would make it longer. */
	PEER_CHECK(ftruncate(fd, (off_t)(len - 4 * MIB)) == 0);
	PEER_CHECK(tmc_shmem_shrink(shm, 6 * MIB, MIB) == -1);
	PEER_CHECK(errno == ENOMEM);
	/* And a signal that is somebody else's stays his. */
	sigemptyset(&pending);
	sigaddset(&pending, SIGXFSZ);
	sigprocmask(SIG_BLOCK, &pending, NULL);
	raise(SIGXFSZ);
	PEER_CHECK(tmc_shmem_shrink(shm, 6 * MIB, MIB) == -1);
	sigpending(&pending);
	PEER_CHECK(sigismember(&pending, SIGXFSZ) == 1);
	return 0;
}

static void a_shrink_above_the_file_size_limit_brings_no_signal(void **state)
{
	const char *path = box_path("a");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 64 * MIB);

	(void)state;
	assert_non_null(shm);
	assert_non_null(tmc_shmem_grow(shm, 8 * MIB));
	assert_int_equal(peer_run(shrink_above_file_limit, shm), 0);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static int create_beyond_file_limit(struct peer *self, void *arg)
{
	rlim_t n;

	(void)self;
	(void)arg;
	for (n = 0; n < 3 * MIB; n += MIB / 4) {
		tmc_shmem_t *shm;

		limit(RLIMIT_FSIZE, n);
		shm = tmc_shmem_create(box_path("a"), NULL, NULL, 64 * MIB);
		if (shm) {
			tmc_shmem_close(shm);
			PEER_CHECK(tmc_shmem_unlink(box_path("a")) == 0);
			break;
		}
		PEER_CHECK(errno == ENOMEM);
		PEER_CHECK(access(box_path("a"), F_OK) == -1);
	}
	PEER_CHECK(n > 0 && n < 3 * MIB);
	return 0;
}

static void create_beyond_the_file_size_limit_is_enomem(void **state)
{
	(void)state;
	assert_int_equal(peer_run(create_beyond_file_limit, NULL), 0);
}

static int open_beyond_file_limit(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;

	(void)self;
	limit(RLIMIT_FSIZE, MIB);
	PEER_CHECK(!tmc_shmem_open(arg) && errno == ENOMEM);
	limit(RLIMIT_FSIZE, 3 * MIB);
	shm = tmc_shmem_open(arg);
	PEER_CHECK(shm && tmc_shmem_current_size(shm) == 0);
	PEER_CHECK(tmc_shmem_grow(shm, page));
	tmc_shmem_close(shm);
	return 0;
}

/* The repair of a file that was cut makes it longer. */
static void a_repair_beyond_the_file_size_limit_is_enomem(void **state)
{
	const char *path = box_path("a");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 64 * MIB);

	(void)state;
	assert_non_null(shm);
	assert_non_null(tmc_shmem_grow(shm, page));
	tmc_shmem_close(shm);
	assert_int_equal(truncate(path, LAYOUT_HDR_LEN), 0);
	assert_int_equal(
		peer_run(open_beyond_file_limit, (void *)(uintptr_t)path), 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static int create_beyond_address_space(struct peer *self, void *arg)
{
	const char *path = arg;
	size_t files = probe_files(box_path("")), fds = probe_fds();
	tmc_shmem_t *shm;

	(void)self;
	limit(RLIMIT_AS, 256 * MIB);
	PEER_CHECK(!tmc_shmem_create(box_path("b"), NULL, NULL, GIB));
	PEER_CHECK(errno == ENOMEM);
	PEER_CHECK(!tmc_shmem_open(path) && errno == ENOMEM);
	PEER_CHECK(!tmc_shmem_open_readonly(path) && errno == ENOMEM);
	PEER_CHECK(!tmc_alloc_map(NULL, GIB) && errno == ENOMEM);
	PEER_CHECK(probe_files(box_path("")) == files);
	PEER_CHECK(probe_fds() == fds);
	shm = tmc_shmem_create(box_path("b"), NULL, NULL, 16 * MIB);
	PEER_CHECK(shm);
	PEER_CHECK(tmc_shmem_grow(shm, 16 * MIB));
	tmc_shmem_close(shm);
	PEER_CHECK(tmc_shmem_unlink(box_path("b")) == 0);
	return 0;
}

static void the_address_space_limit_is_enomem(void **state)
{
	const char *path = box_path("a");
	tmc_shmem_t *shm;

	(void)state;
	if (UNDER_SANITIZER) /* they have taken terabytes already */
		skip();
	shm = tmc_shmem_create(path, NULL, NULL, GIB);
	assert_non_null(shm);
	tmc_shmem_close(shm);
	assert_int_equal(peer_run(create_beyond_address_space, (char *)path),
			 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* With 0, 1, 2... descriptors left each call works or says EMFILE. */
static int run_out_of_descriptors(struct peer *self, void *arg)
{
	const char *path = arg, *made = box_path("made");
	size_t fds = probe_fds(), maps = probe_maps(), left, low;
	tmc_shmem_t *shm = NULL, *temp = NULL;
	char name[4096];

	(void)self;
	low = (size_t)dup(2); /* all below are in use */
	close((int)low);
	for (left = 0; !shm && left < 32; left++) {
		limit(RLIMIT_NOFILE, low + left);
		shm = tmc_shmem_create(made, NULL, NULL, MIB);
		PEER_CHECK(shm || errno == EMFILE);
		PEER_CHECK(!shm == !!access(made, F_OK));
	}
	PEER_CHECK(shm && left > 1);
	tmc_shmem_close(shm);
	shm = NULL;
	for (left = 0; !shm && left < 32; left++) {
		limit(RLIMIT_NOFILE, low + left);
		shm = tmc_shmem_open(path);
		PEER_CHECK(shm || errno == EMFILE);
	}
	PEER_CHECK(shm && left > 1);
	limit(RLIMIT_NOFILE, 0);
	PEER_CHECK(tmc_shmem_grow(shm, 8 * MIB));
	PEER_CHECK(tmc_shmem_shrink(shm, 0, 8 * MIB) == 0);
	PEER_CHECK(!tmc_shmem_open(made) && errno == EMFILE);
	PEER_CHECK(!tmc_shmem_open_fds(tmc_shmem_fd(shm), -1));
	PEER_CHECK(errno == EMFILE);
	strcpy(name, box_path("XXXXXX"));
	temp = tmc_shmem_create_temp(name, NULL, NULL, MIB);
	PEER_CHECK(!temp && errno == EMFILE);
	PEER_CHECK(!strcmp(name, box_path("XXXXXX")));
	PEER_CHECK(tmc_shmem_unlink(made) == -1 && errno == EMFILE);
	tmc_shmem_close(shm);
	limit(RLIMIT_NOFILE, 1024);
	PEER_CHECK(tmc_shmem_unlink(made) == 0);
	PEER_CHECK(probe_fds() == fds);
	PEER_CHECK(probe_maps() <= maps + 1 + UNDER_SANITIZER * 900);
	return 0;
}

static void running_out_of_descriptors_is_emfile(void **state)
{
	const char *path = box_path("a");
	size_t files = probe_files(box_path(""));
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 64 * MIB);

	(void)state;
	assert_non_null(shm);
	tmc_shmem_close(shm);
	assert_int_equal(peer_run(run_out_of_descriptors, (char *)path), 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_int_equal(probe_files(box_path("")), files);
}

static tmc_shmem_t *huge_arena(size_t huge)
{
	tmc_alloc_t a = TMC_ALLOC_INIT;

	return tmc_shmem_create(box_path("h"), tmc_alloc_set_huge(&a), NULL,
				1024 * huge);
}

static int end_pool(void **state)
{
	(void)state;
	unlink(box_path("h")); /* of a test that failed */
	box_umount("huge");
	box_pool_end();
	return 0;
}

/* @ok: the call worked, or else with EMFILE: then all is as before. */
static int worked_or_emfile(size_t ok, size_t companions, size_t fds)
{
	const int err = errno;

	limit(RLIMIT_NOFILE, 1024);
	PEER_CHECK(ok || err == EMFILE);
	PEER_CHECK(probe_files(box_path("huge")) == companions);
	PEER_CHECK(!access(box_path("h"), F_OK) == !!companions);
	PEER_CHECK(probe_fds() == fds);
	return 0;
}

/* With 0, 1, 2, ... free descriptors, until each of the calls works. */
static int run_out_with_huge_pages(struct peer *self, void *arg)
{
	const size_t fds = probe_fds();
	size_t worked = 0, left, low, ok;
	tmc_shmem_t *shm;

	(void)self;
	low = (size_t)dup(2); /* all below are in use */
	close((int)low);
	for (left = 0; worked < 3 && left < 32; left++) {
		worked = 0;
		limit(RLIMIT_NOFILE, low + left);
		shm = huge_arena(*(size_t *)arg);
		ok = !!shm;
		tmc_shmem_close(shm);
		PEER_CHECK(worked_or_emfile(ok, ok, fds) == 0);
		if (!ok)
			tmc_shmem_close(huge_arena(*(size_t *)arg));
		worked += ok;
		limit(RLIMIT_NOFILE, low + left);
		shm = tmc_shmem_open(box_path("h"));
		ok = !!shm;
		tmc_shmem_close(shm);
		PEER_CHECK(worked_or_emfile(ok, 1, fds) == 0);
		worked += ok;
		limit(RLIMIT_NOFILE, low + left);
		ok = !tmc_shmem_unlink(box_path("h"));
		PEER_CHECK(worked_or_emfile(ok, !ok, fds) == 0);
		if (!ok)
			PEER_CHECK(tmc_shmem_unlink(box_path("h")) == 0);
		worked += ok;
	}
	PEER_CHECK(worked == 3 && left > 4);
	return 0;
}

static void with_huge_pages_running_out_of_descriptors_is_emfile(void **state)
{
	size_t huge = tmc_alloc_get_huge_pagesize();

	(void)state;
	if (!huge || box_hugetlbfs("huge", huge, ""))
		skip();
	assert_int_equal(peer_run(run_out_with_huge_pages, &huge), 0);
}

static void a_full_hugetlbfs_is_enomem(void **state)
{
	const size_t huge = tmc_alloc_get_huge_pagesize();
	tmc_shmem_t *shm;
	char options[64];

	(void)state;
	snprintf(options, sizeof(options), "size=%zu,min_size=%zu", 4 * huge,
		 4 * huge);
	if (!huge || box_pool(huge, 16) < 16 ||
	    box_hugetlbfs("huge", huge, options))
		skip();
	shm = huge_arena(huge);
	assert_non_null(shm);
	assert_int_equal(grow_fails_cleanly(shm, 5 * huge, huge), 0);
	assert_int_equal(grow_fails_cleanly(shm, 4 * huge, 3 * huge), 0);
	assert_null_errno(tmc_shmem_grow(shm, 1), ENOMEM);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("h")), 0);
}

static void an_empty_pool_is_enomem_and_no_sigbus(void **state)
{
	const size_t huge = tmc_alloc_get_huge_pagesize();
	tmc_shmem_t *shm;
	char options[64];
	size_t n;

	(void)state;
	/* No size=: what ends is the machine's pool. 8 pages of it are ours. */
	snprintf(options, sizeof(options), "min_size=%zu", 8 * huge);
	if (!huge || box_pool(huge, 8) < 8 ||
	    box_hugetlbfs("huge", huge, options))
		skip();
	n = box_pool_size(huge);
	if (n > 512) /* a machine set up for huge pages: leave it some */
		skip();
	shm = huge_arena(huge);
	assert_non_null(shm);
	assert_int_equal(grow_fails_cleanly(shm, (n + 1) * huge, 2 * huge), 0);
	assert_int_equal(grow_fails_cleanly(shm, (n + 1) * huge, 6 * huge), 0);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("h")), 0);
}

static int grow_huge_beyond_file_limit(struct peer *self, void *arg)
{
	const size_t huge = tmc_alloc_get_huge_pagesize();

	(void)self;
	limit(RLIMIT_FSIZE, 3 * huge);
	return grow_fails_cleanly(arg, 4 * huge, 2 * huge);
}

static void the_file_size_limit_holds_for_huge_pages(void **state)
{
	const size_t huge = tmc_alloc_get_huge_pagesize();
	tmc_shmem_t *shm;

	(void)state;
	if (!huge || box_pool(huge, 8) < 8 || box_hugetlbfs("huge", huge, ""))
		skip();
	shm = huge_arena(huge);
	assert_non_null(shm);
	assert_int_equal(peer_run(grow_huge_beyond_file_limit, shm), 0);
	assert_int_equal(tmc_shmem_current_size(shm), 2 * huge);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("h")), 0);
}

static tmc_shmem_t *in_group;

/* Also for a test that failed: as long as there are pages there is a group. */
static int end_group(void **state)
{
	int rc;

	tmc_shmem_close(in_group);
	in_group = NULL;
	unlink(box_path("h"));
	rc = group_close();
	end_pool(state);
	return rc;
}

static int grow_beyond_group_limit(struct peer *self, void *arg)
{
	const size_t huge = tmc_alloc_get_huge_pagesize();

	(void)self;
	PEER_CHECK(group_enter() == 0);
	PEER_CHECK(group_limit(4 * huge) == 0);
	PEER_CHECK(grow_fails_cleanly(arg, 5 * huge, 3 * huge) == 0);
	PEER_CHECK(grow_fails_cleanly(arg, 2 * huge, huge) == 0);
	PEER_CHECK(group_limit(8 * huge) == 0);
	return grow_fails_cleanly(arg, 5 * huge, 4 * huge);
}

/* A kernel has both versions, a controller is in one of them at a time. */
static void the_limit_of_a_hugetlb_cgroup_is_enomem(void **state)
{
	const size_t huge = tmc_alloc_get_huge_pagesize();
	int version, tried = 0;

	(void)state;
	/* More pages than the group may have: what ends is not the pool. */
	if (!huge || box_pool(huge, 16) < 16 || box_hugetlbfs("huge", huge, ""))
		skip();
	for (version = 1; version <= 2; version++) {
		if (group_open(version, huge)) {
			print_message("no hugetlb in cgroup v%d\n", version);
			continue;
		}
		tried++;
		in_group = huge_arena(huge);
		assert_non_null(in_group);
		assert_int_equal(peer_run(grow_beyond_group_limit, in_group),
				 0);
		assert_int_equal(tmc_shmem_current_size(in_group), 8 * huge);
		/* Who is in no such group is not held by its limit. */
		assert_non_null(tmc_shmem_grow(in_group, huge));
		tmc_shmem_close(in_group);
		in_group = NULL;
		assert_int_equal(tmc_shmem_unlink(box_path("h")), 0);
		assert_int_equal(group_close(), 0);
	}
	if (!tried)
		skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_tmpfs_is_enomem),
		cmocka_unit_test(a_page_more_than_a_full_tmpfs_has_is_enomem),
		cmocka_unit_test(
			create_on_a_full_file_system_is_enomem_and_no_name),
		cmocka_unit_test(create_without_an_inode_is_enomem),
		cmocka_unit_test(a_full_ext4_is_enomem),
		cmocka_unit_test(a_full_xfs_is_enomem),
		cmocka_unit_test(a_full_btrfs_is_enomem),
		cmocka_unit_test(the_file_size_limit_is_enomem_and_no_signal),
		cmocka_unit_test(create_beyond_the_file_size_limit_is_enomem),
		cmocka_unit_test(
			a_shrink_above_the_file_size_limit_brings_no_signal),
		cmocka_unit_test(a_repair_beyond_the_file_size_limit_is_enomem),
		cmocka_unit_test(the_address_space_limit_is_enomem),
		cmocka_unit_test(running_out_of_descriptors_is_emfile),
		cmocka_unit_test_teardown(
			with_huge_pages_running_out_of_descriptors_is_emfile,
			end_pool),
		cmocka_unit_test_teardown(a_full_hugetlbfs_is_enomem, end_pool),
		cmocka_unit_test_teardown(an_empty_pool_is_enomem_and_no_sigbus,
					  end_pool),
		cmocka_unit_test_teardown(
			the_file_size_limit_holds_for_huge_pages, end_pool),
		cmocka_unit_test_teardown(
			the_limit_of_a_hugetlb_cgroup_is_enomem, end_group),
	};

	page = (size_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
