/* SPDX-License-Identifier: BSD-3-Clause */
/* test_shmemctl_odd.c - shmemctl with odd names, descriptors and files. */
#include "shmemctl_test.h"

#include <poll.h>

#include "layout.h"
#include "peer.h"
#include "probe.h"
#include "shell.h"

/* ----- descriptors ----- */

static void closed_descriptors_are_never_the_arena(void **state)
{
	(void)state;
	IS(0, "create", "-s", "8K", a, "1M");
	assert_int_equal(shell("$ctl grow %s 1E 2>&-", a), 1);
	assert_int_equal(shell("$ctl grow %s 1E >&- 2>&-", a), 1);
	assert_int_equal(shell("$ctl grow %s 1E <&- >&- 2>&-", a), 1);
	/* What cannot be printed is told, as ever. */
	assert_says(1, "output: Bad file descriptor", "$ctl grow %s 4K >&-", a);
	IS(0, "stat", a);
	IS(0, "check", a);
}

/* ----- damage ----- */

static uint64_t base_of(const char *path)
{
	tmc_shmem_t *shm = tmc_shmem_open(path);
	uint64_t base;

	assert_non_null(shm);
	base = (uintptr_t)tmc_shmem_address(shm);
	tmc_shmem_close(shm);
	return base;
}

static void a_file_that_was_cut_is_damage(void **state)
{
	static const off_t lost[] = { 1, 4096, MIB, MIB + 4096 };
	size_t i;

	(void)state;
	for (i = 0; i < 4; i++) {
		tmc_shmem_close(make(a, MIB));
		assert_int_equal(
			truncate(a, LAYOUT_DATA_OFF + (off_t)MIB - lost[i]), 0);
		FAILS(3, "room: is less than the size", "check", "-r", a);
		FAILS(1, "room: is less than the size", "stat", a);
		assert_null(strstr(cmd.out, "next open"));
		IS(1, "ls", dir);
		SAYS("damaged room: is less than the size");
	}
	/* One without a byte in use, too. */
	tmc_shmem_close(make(a, 0));
	assert_int_equal(truncate(a, LAYOUT_DATA_OFF - 4096), 0);
	FAILS(3, "room: is less", "check", "-r", a);
	/* What is too long is not, as a death leaves it. */
	tmc_shmem_close(make(a, MIB));
	assert_int_equal(truncate(a, LAYOUT_DATA_OFF + 2 * (off_t)MIB), 0);
	IS(0, "check", "-r", a);
	SAYS("room note: is more than the size; the next open");
}

static void a_root_beyond_the_size_is_noted(void **state)
{
	uint64_t root;
	size_t off = offsetof(struct layout_hdr_words, root);

	(void)state;
	tmc_shmem_close(make(a, MIB));
	root = base_of(a) + MIB;
	assert_int_equal(shell_damage(a, off, root), 0);
	IS(0, "check", a);
	SAYS("root note: points beyond the bytes in use");
	IS(0, "stat", a);
	SAYS("note: points beyond the bytes in use");
	assert_int_equal(shell_damage(a, off, root - 8), 0);
	IS(0, "check", a);
	assert_null(strstr(cmd.out, "note"));
	assert_int_equal(shell_damage(a, off, root + MAX), 0);
	IS(0, "check", a);
	assert_null(strstr(cmd.out, "note"));
}

/* While it is looked at, sizes change all the time. */
static int changes(struct peer *self, void *path)
{
	tmc_shmem_t *shm = tmc_shmem_open(path);
	struct pollfd p = { .fd = self->fd, .events = POLLIN };

	PEER_CHECK(shm && !peer_put(self, 1));
	while (!poll(&p, 1, 0)) {
		PEER_CHECK(tmc_shmem_grow(shm, 4096));
		PEER_CHECK(!tmc_shmem_shrink(shm, (off_t)MIB, 4096));
	}
	tmc_shmem_close(shm);
	return 0;
}

static void one_that_changes_is_whole(void **state)
{
	struct peer p;
	uint64_t word;
	int i;

	(void)state;
	tmc_shmem_close(make(a, MIB));
	assert_int_equal(peer_fork(&p, changes, a), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	for (i = 0; i < 100; i++)
		IS(0, "check", "-r", a);
	assert_int_equal(peer_put(&p, 1), 0);
	assert_int_equal(peer_end(&p), 0);
}

/* ----- gc ----- */

static void gc_keeps_damage_of_any_kind(void **state)
{
	static const struct {
		size_t off;
		uint64_t word;
	} damage[] = {
		{ offsetof(struct layout_hdr_words, size), 4097 },
		{ offsetof(struct layout_hdr_words, size), 8 * MIB },
		{ offsetof(struct layout_hdr_words, size), 1ull << 60 },
		{ offsetof(struct layout_hdr_words, lock), 0xffff },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
		tmc_shmem_close(make(a, MIB));
		assert_int_equal(shell_damage(a, damage[i].off, damage[i].word),
				 0);
		FAILS(0, "left alone", "gc", "--yes", dir);
		assert_int_equal(access(a, F_OK), 0);
	}
}

static void gc_takes_what_has_no_companion(void **state)
{
	(void)state;
	UNLESS(!box_hugetlbfs("huge", 2 * MIB, ""), "no hugetlbfs");
	IS(0, "create", "--page=2M", a);
	assert_int_equal(shell("rm %s/libshmem-*", box_path("huge")), 0);
	tmc_shmem_close(make(b, MIB));
	assert_int_equal(shell("cp %s %s/c", a, dir), 0);
	assert_int_equal(shell_damage(text("%s/c", dir),
				      offsetof(struct layout_hdr_words, lock),
				      0xffff),
			 0);
	FAILS(0, "/c: huge: the companion is not there; left alone", "gc",
	      "--yes", dir);
	assert_int_equal(access(a, F_OK), -1);
	assert_int_equal(probe_files(dir), 1);
	assert_int_equal(box_umount("huge"), 0);
}

/* ----- names ----- */

static void an_empty_name_is_none(void **state)
{
	(void)state;
	tmc_shmem_close(make(a, MIB));
	cmd.directory = dir;
	FAILS(1, ": No such file or directory\n", "ls", "");
	FAILS(1, ": No such file or directory\n", "gc", "--yes", "");
	FAILS(1, ": No such file or directory\n", "stat", "");
	assert_int_equal(access(a, F_OK), 0);
}

/* Sequences for a terminal, a line's end, and what turns text around, hides or
 * is no character at all; and one that is to be seen as it is. */
static void names_are_shown_without_what_they_would_do(void **state)
{
	static const char name[] = "x\\033[2J\\n\\342\\200\\256"
				   "\\342\\200\\213\\357\\273\\277\\377"
				   "\\303\\244";
	static const char shown[] = "x?[2J?????\303\244";
	static const char *const calls[] = { "create", "grow", "stat", "ls",
					     "create" };
	size_t i;

	(void)state;
	for (i = 0; i < 5; i++) {
		assert_int_equal(
			shell("export LC_ALL=C.UTF-8; p=%s/$(printf '%s'); "
			      "$ctl %s \"$p\" %s",
			      dir, name, calls[i],
			      !strcmp(calls[i], "grow") ? "4K" : ""),
			i == 4);
		assert_shows(text("/%s", shown));
	}
}

/* ----- what is in the way ----- */

static void create_says_what_is_full(void **state)
{
	const char *small = box_path("small"), *out;

	(void)state;
	assert_says(1, "files of this process are limited to 1M (ulimit -f)",
		    "ulimit -f 2048; $ctl create %s", a);
	assert_int_equal(access(a, F_OK), -1);
	assert_says(1, "limited to 4M (ulimit -f)",
		    "ulimit -f 8192; $ctl create -s 3M %s", a);
	UNLESS(box_can_mount() && !box_mount("small", "tmpfs", "size=1m"),
	       "cannot mount");
	assert_int_equal(shell("cat /dev/zero 2>/dev/null >%s/x", small), 1);
	out = text("%s/a", small);
	FAILS(1, "a: the file system is full\n", "create", out);
	cmd.directory = small;
	FAILS(1, "a: the file system is full\n", "create", "a");
	cmd.directory = NULL;
	assert_int_equal(box_umount("small"), 0);
	assert_int_equal(box_mount("small", "tmpfs", "nr_inodes=1"), 0);
	FAILS(1, "a: the file system has no room for one more file", "create",
	      out);
	assert_int_equal(box_umount("small"), 0);
}

static void rm_says_that_it_is_a_link(void **state)
{
	(void)state;
	tmc_shmem_close(make(a, MIB));
	assert_int_equal(symlink(a, b), 0);
	FAILS(1, "b: is a link", "rm", b);
	assert_int_equal(access(b, F_OK), 0);
	IS(0, "rm", a);
	FAILS(1, "b: is a link", "rm", b);
}

static void ls_says_that_there_is_damage(void **state)
{
	(void)state;
	tmc_shmem_close(make(a, MIB));
	assert_int_equal(truncate(a, LAYOUT_DATA_OFF), 0);
	FAILS(1, " damaged\n", "ls", dir);
	FAILS(1, " damaged\n", "ls", "--json", dir);
}

static void gc_says_that_it_cannot_see_all(void **state)
{
	(void)state;
	UNLESS(!getuid(), "needs another user: root");
	tmc_shmem_close(make(a, MIB));
	assert_int_equal(chmod(box_path(""), 0755), 0);
	assert_int_equal(chmod(dir, 0744), 0);
	cmd.uid = NOBODY;
	FAILS(1, "arenas: Permission denied", "gc", "--yes", dir);
	cmd.uid = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(closed_descriptors_are_never_the_arena),
		TEST(a_file_that_was_cut_is_damage),
		TEST(a_root_beyond_the_size_is_noted),
		TEST(one_that_changes_is_whole),
		TEST(gc_keeps_damage_of_any_kind),
		TEST(gc_takes_what_has_no_companion),
		TEST(an_empty_name_is_none),
		TEST(create_says_what_is_full),
		TEST(rm_says_that_it_is_a_link),
		TEST(ls_says_that_there_is_damage),
		TEST(gc_says_that_it_cannot_see_all),
		TEST(names_are_shown_without_what_they_would_do),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
