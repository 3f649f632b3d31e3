/* SPDX-License-Identifier: BSD-3-Clause */
/* test_shmemctl_map.c - shmemctl map: which pages are there, and that nothing
 * is taken by looking. */
#include "test.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shmem.h>

#include "layout.h"
#include "peer.h"
#include "probe.h"
#include "shell.h"

#define NPAGES 8 /* huge ones; what a test may use */
#define NOBODY 65534

static size_t page, huge;

static int begin(void **state)
{
	page = (size_t)sysconf(_SC_PAGESIZE);
	huge = tmc_alloc_get_huge_pagesize();
	return test_box_open(state);
}

static int end_pool(void **state)
{
	(void)state;
	box_pool_end();
	return 0;
}

/* ----- pages ----- */

static void pages_and_holes_are_where_they_are(void **state)
{
	const char *path = box_path("pages");
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;
	long long before;
	char *base;
	int i;

	(void)state;
	shm = tmc_shmem_create(path, tmc_alloc_clear_populate(&alloc), NULL, 0);
	assert_non_null(shm);
	base = tmc_shmem_grow(shm, 512 * page);
	assert_non_null(base);
	for (i = 0; i < 10; i++)
		base[(size_t)i * page] = 1;
	base[12 * page] = 1;
	base[511 * page] = 1;
	before = probe_blocks(path);
	assert_int_equal(shell("$ctl map %s", path), 0);
	assert_string_equal(shell_rest("      0 "),
			    "##########..#..................................."
			    "................");
	assert_shows("\n      * \n");
	assert_string_equal(shell_rest("  1.7M "),
			    "................................................"
			    "...............#");
	assert_string_equal(shell_rest("of at most "),
			    "1G, pages of 4K: 48K small, 1.9M holes; node 0");
	assert_shows("It is in use");
	assert_null(strstr(shell_out, "heap"));
	/* Half a row, each sign several pages. */
	assert_int_equal(shell("COLUMNS=40 $ctl map --rows=1 %s", path), 0);
	assert_string_equal(shell_rest("      0 "),
			    "+..............................:");
	assert_int_equal(probe_blocks(path), before);
	tmc_shmem_close(shm);
	/* What cannot be told, here for want of a descriptor, is said. */
	assert_int_equal(shell("sh -c \"ulimit -n 5; $ctl map %s\"", path), 0);
	assert_shows("##########..#...");
	assert_shows("it takes userfaultfd(2)");
	assert_int_equal(shell("$ctl map %s", path), 0);
	assert_null(strstr(shell_out, "It is in use"));
	assert_int_equal(probe_blocks(path), before);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* An arena on disk; pages of it that are not in memory. */
static void pages_that_are_only_on_disk_are_there(void **state)
{
	const char *path = box_path("disk/a");
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;
	char *base;
	int fd;

	(void)state;
	if (box_image("disk", "ext4", 32)) {
		print_message("no ext4 on a loop device\n");
		skip();
	}
	shm = tmc_shmem_create(path, tmc_alloc_clear_populate(&alloc), NULL, 0);
	assert_non_null(shm);
	base = tmc_shmem_grow(shm, 64 * page);
	assert_non_null(base);
	memset(base + 16 * page, 1, 8 * page);
	tmc_shmem_close(shm);
	assert_int_equal(shell("$ctl map %s", path), 0);
	assert_string_equal(shell_rest("      0 "),
			    "................########........................"
			    "................");
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	close(fd);
	assert_int_equal(shell("$ctl map %s", path), 0);
	assert_string_equal(shell_rest("      0 "),
			    "................~~~~~~~~........................"
			    "................");
	assert_int_equal(box_umount("disk"), 0);
}

/* Larger than what is mapped at a time; and something behind the end. */
static void a_large_one_is_looked_at_in_parts(void **state)
{
	const size_t size = 600 * MIB;
	const char *path = box_path("large");
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;
	char *base;

	(void)state;
	shm = tmc_shmem_create(path, tmc_alloc_clear_populate(&alloc), NULL, 0);
	assert_non_null(shm);
	base = tmc_shmem_grow(shm, size);
	assert_non_null(base);
	memset(base + 256 * MIB - 2 * page, 1, 4 * page);
	base[size - 1] = 1;
	tmc_shmem_close(shm);
	assert_int_equal(shell_damage(path, LAYOUT_DATA_OFF + size, 1), 0);
	assert_int_equal(shell("$ctl map --rows=1 %s", path), 0);
	assert_shows(": 20K small, 599M holes");
	assert_string_equal(shell_rest("      0 "),
			    "...............::....................:");
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* Here there is one; of two, all pages are on the first. */
static int look_with_two_nodes(struct peer *self, void *arg)
{
	const char *online = "/sys/devices/system/node/online";
	const char *path = arg;

	(void)self;
	PEER_CHECK(shell("echo 0-1 >%s", box_path("online")) == 0);
	if (unshare(CLONE_NEWNS) ||
	    mount(box_path("online"), online, NULL, MS_BIND, NULL))
		return 2;
	PEER_CHECK(shell("$ctl map %s", path) == 0);
	PEER_CHECK(strstr(shell_out, "\n      0 ##..##..."));
	PEER_CHECK(strstr(shell_out, "\n   node 00  00   "));
	PEER_CHECK(strstr(shell_out, " 16K small, 112K holes; node 0 16K\n"));
	PEER_CHECK(shell("sh -c \"ulimit -n 5; $ctl map %s\"", path) == 0);
	PEER_CHECK(strstr(shell_out, "\n   node ?\?  ??   "));
	PEER_CHECK(strstr(shell_out, "; node not known 16K\n"));
	return 0;
}

static void nodes_are_shown_where_there_are_several(void **state)
{
	char path[PATH_MAX];
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;
	char *base;
	int rc;

	(void)state;
	strcpy(path, box_path("nodes"));
	shm = tmc_shmem_create(path, tmc_alloc_clear_populate(&alloc), NULL, 0);
	assert_non_null(shm);
	base = tmc_shmem_grow(shm, 32 * page);
	assert_non_null(base);
	memset(base, 1, 2 * page);
	memset(base + 4 * page, 1, 2 * page);
	tmc_shmem_close(shm);
	/* Something behind the end, which is no part of it. */
	assert_int_equal(shell_damage(path, LAYOUT_DATA_OFF + 40 * page, 1), 0);
	rc = peer_run(look_with_two_nodes, path);
	assert_int_equal(tmc_shmem_unlink(path), 0);
	if (rc == 2) {
		print_message("cannot pretend that there are two nodes\n");
		skip();
	}
	assert_int_equal(rc, 0);
}

static void an_empty_one_has_no_rows(void **state)
{
	const char *path = box_path("empty");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 0);

	(void)state;
	assert_non_null(shm);
	tmc_shmem_close(shm);
	assert_int_equal(shell("$ctl map %s", path), 0);
	assert_int_equal(shell_lines(), 2);
	assert_string_equal(shell_rest("\n0 of at most "),
			    "1G, pages of 4K: 0 holes");
	assert_int_equal(shell("$ctl heap %s", path), 0);
	assert_string_equal(shell_rest("empty: "), "0 heaps");
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void huge_pages_are_told_apart(void **state)
{
	const char *path = box_path("huge");
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;
	size_t free;
	char *base;

	(void)state;
	if (huge != 2 * MIB || box_pool(huge, NPAGES) < NPAGES ||
	    box_hugetlbfs("mount", huge, "mode=1777")) {
		print_message("no huge pages of 2 MiB\n");
		skip();
	}
	tmc_alloc_set_huge(&alloc);
	shm = tmc_shmem_create(path, tmc_alloc_clear_populate(&alloc), NULL, 0);
	assert_non_null(shm);
	base = tmc_shmem_grow(shm, 6 * huge);
	assert_non_null(base);
	base[0] = base[huge] = base[5 * huge] = 1;
	free = box_pool_free(huge);
	assert_int_equal(shell("$ctl map %s", path), 0);
	assert_string_equal(shell_rest("      0 "), "HH...H");
	assert_string_equal(shell_rest("of at most "),
			    "1G, pages of 2M: 6M huge, 6M holes; node 0");
	assert_int_equal(box_pool_free(huge), free);
	/* With a heap, signs are not larger than its slices. */
	assert_non_null(tmc_mspace_create_special(0, 0, tmc_shmem_alloc(shm)));
	assert_int_equal(shell("$ctl map %s", path), 0);
	assert_shows("\n   heap T...............................\n");
	assert_shows("one sign is 64K, a row 4M");
	/* By a descriptor whose companion has no name. */
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_int_equal(shell("$ctl map /proc/%d/fd/%d", (int)getpid(),
			       tmc_shmem_fd(shm)),
			 0);
	assert_shows(" huge, 6M holes");
	tmc_shmem_close(shm);
	assert_int_equal(box_umount("mount"), 0);
}

/*
 * What stands between the program and its kernel: NO_SCAN is Linux before 6.7,
 * NO_UFFD a container that refuses userfaultfd(2).
 */
static const char older[] =
	"#define _GNU_SOURCE\n"
	"#include <dlfcn.h>\n"
	"#include <errno.h>\n"
	"#include <stdlib.h>\n"
	"#include <sys/syscall.h>\n"
	"long syscall(long nr, long a, long b, long c, long d, long e, long "
	"f)\n"
	"{\n"
	"	long (*next)(long, ...) = dlsym(RTLD_NEXT, \"syscall\");\n"
	"	if (nr != SYS_userfaultfd || !getenv(\"NO_UFFD\"))\n"
	"		return next(nr, a, b, c, d, e, f);\n"
	"	errno = EPERM;\n"
	"	return -1;\n"
	"}\n"
	"int ioctl(int fd, unsigned long nr, void *p)\n"
	"{\n"
	"	int (*next)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "
	"\"ioctl\");\n"
	"	if ((nr & 0xffff) != 0x6610 || !getenv(\"NO_SCAN\"))\n"
	"		return next(fd, nr, p);\n"
	"	errno = ENOTTY;\n"
	"	return -1;\n"
	"}\n";

static bool make_older(void)
{
	FILE *f = fopen(box_path("older.c"), "we");

	if (!f || fputs(older, f) < 0 || fclose(f))
		return false;
	return !shell("${CC:-cc} -w -shared -fPIC -o %s %s -ldl",
		      box_path("older.so"), box_path("older.c"));
}

static void an_older_kernel_tells_less(void **state)
{
	const char *path = box_path("old"), *with = box_path("older.so");
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;
	char *base;

	(void)state;
	if (!box_can_mount()) {
		print_message("needs a tmpfs: a disk's pages are not asked\n");
		skip();
	}
	if (UNDER_SANITIZER || !make_older()) {
		print_message("nothing can be loaded before a sanitizer, or no "
			      "compiler\n");
		skip();
	}
	shm = tmc_shmem_create(path, NULL, NULL, 0);
	assert_non_null(shm);
	assert_non_null(tmc_shmem_grow(shm, 3 * page));
	tmc_shmem_close(shm);
	assert_int_equal(
		shell("NO_SCAN=1 LD_PRELOAD=%s $ctl map %s", with, path), 0);
	assert_string_equal(shell_rest("      0 "), "###");
	assert_shows("that takes Linux 6.7");
	assert_int_equal(
		shell("NO_UFFD=1 LD_PRELOAD=%s $ctl map %s", with, path), 0);
	assert_shows("userfaultfd(2), which is refused");
	assert_int_equal(tmc_shmem_unlink(path), 0);
	if (huge != 2 * MIB || box_pool(huge, NPAGES) < NPAGES ||
	    box_hugetlbfs("mount", huge, "mode=1777")) {
		print_message("no huge pages of 2 MiB\n");
		skip();
	}
	tmc_alloc_clear_populate(tmc_alloc_set_huge(&alloc));
	shm = tmc_shmem_create(path, &alloc, NULL, 0);
	assert_non_null(shm);
	base = tmc_shmem_grow(shm, 2 * huge);
	assert_non_null(base);
	assert_int_equal(
		shell("NO_UFFD=1 LD_PRELOAD=%s $ctl map %s", with, path), 0);
	assert_string_equal(shell_rest("      0 "), "..");
	base[huge] = 1;
	assert_int_equal(
		shell("NO_SCAN=1 LD_PRELOAD=%s $ctl map %s", with, path), 0);
	assert_string_equal(shell_rest("      0 "), ".H");
	assert_int_equal(
		shell("NO_UFFD=1 LD_PRELOAD=%s $ctl map %s", with, path), 0);
	assert_string_equal(shell_rest("      0 "), "??");
	base[0] = 1;
	assert_int_equal(
		shell("NO_UFFD=1 LD_PRELOAD=%s $ctl map %s", with, path), 0);
	assert_string_equal(shell_rest("      0 "), "HH");
	assert_int_equal(tmc_shmem_unlink(path), 0);
	tmc_shmem_close(shm);
	assert_int_equal(box_umount("mount"), 0);
}

static void so_are_transparent_ones(void **state)
{
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;
	char *base;

	(void)state;
	if (page != 4 * KIB || box_mount("thp", "tmpfs", "huge=always")) {
		print_message("no tmpfs with huge=always\n");
		skip();
	}
	shm = tmc_shmem_create(box_path("thp/a"),
			       tmc_alloc_clear_populate(&alloc), NULL, 0);
	assert_non_null(shm);
	base = tmc_shmem_grow(shm, 8 * MIB);
	assert_non_null(base);
	base[0] = base[4 * MIB] = 1;
	assert_int_equal(shell("$ctl map -n 1 %s", box_path("thp/a")), 0);
	tmc_shmem_close(shm);
	if (strstr(shell_out, " small")) {
		print_message("the kernel gives no transparent huge pages\n");
		skip();
	}
	assert_string_equal(shell_rest("      0 "),
			    "HHHHHHHHHHHHHHHH................"
			    "HHHHHHHHHHHHHHHH................");
	assert_int_equal(box_umount("thp"), 0);
}

/* ----- bad input ----- */

static int look_as_nobody(struct peer *self, void *arg)
{
	(void)self;
	PEER_CHECK(peer_become(NOBODY) == 0);
	PEER_CHECK(shell("$ctl map %s", (const char *)arg) == 1);
	PEER_CHECK(shell_lines() == 1 &&
		   strstr(shell_out, "Permission denied"));
	PEER_CHECK(shell("chmod 644 %s", (const char *)arg) != 0);
	return 0;
}

static int look_as_a_reader(struct peer *self, void *arg)
{
	(void)self;
	PEER_CHECK(peer_become(NOBODY) == 0);
	PEER_CHECK(shell("$ctl map %s", (const char *)arg) == 0);
	PEER_CHECK(strstr(shell_out, "      0 ##"));
	PEER_CHECK(shell("$ctl heap %s", (const char *)arg) == 0);
	return 0;
}

static void what_is_wrong_is_one_line(void **state)
{
	const char *path = box_path("input"), *none = box_path("none");
	char copy[PATH_MAX];
	tmc_shmem_t *shm;

	(void)state;
	shm = tmc_shmem_create(path, NULL, NULL, 0);
	assert_non_null(shm);
	assert_non_null(tmc_shmem_grow(shm, 64 * page));
	tmc_shmem_close(shm);
	assert_says(1, "No such file", "$ctl map %s", none);
	assert_says(1, "No such file", "$ctl heap %s", none);
	assert_says(1, "directory", "$ctl map %s", box_path(""));
	assert_says(1, "FIFO", "mkfifo %s; $ctl heap %s", none, none);
	assert_says(1, "no arena", "$ctl map $ctl");
	assert_says(1, "empty", "rm %s; >%s; $ctl heap %s", none, none, none);
	assert_says(1, "", "$ctl map /proc/1/fd/99999");
	assert_says(2, "missing", "$ctl map");
	assert_says(2, "too many", "$ctl heap %s x", path);
	assert_says(2, "--dots", "$ctl map --dots %s", path);
	assert_says(2, "12Q", "$ctl map --rows=12Q %s", path);
	assert_says(2, "-1", "$ctl map --rows=-1 %s", path);
	assert_says(2, "0 is too small", "$ctl map -n 0 %s", path);
	assert_says(2, "1e99", "$ctl map -n 1e99 %s", path);
	assert_says(2, "too large", "$ctl map -n 99999999999999999999 %s",
		    path);
	assert_says(1, "No space left", "$ctl map %s >/dev/full", path);
	assert_says(1, "No space left", "$ctl heap %s >/dev/full", path);
	assert_int_equal(shell("$ctl heap %s | true", path), 0);
	assert_string_equal(shell_out, "");
	strcpy(copy, path);
	if (box_can_mount()) {
		assert_int_equal(peer_run(look_as_nobody, copy), 0);
		assert_int_equal(chmod(path, 0644), 0);
		assert_int_equal(peer_run(look_as_a_reader, copy), 0);
	}
	assert_int_equal(unlink(none), 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_and_holes_are_where_they_are),
		cmocka_unit_test(pages_that_are_only_on_disk_are_there),
		cmocka_unit_test(a_large_one_is_looked_at_in_parts),
		cmocka_unit_test(nodes_are_shown_where_there_are_several),
		cmocka_unit_test(an_empty_one_has_no_rows),
		cmocka_unit_test_teardown(huge_pages_are_told_apart, end_pool),
		cmocka_unit_test(so_are_transparent_ones),
		cmocka_unit_test_teardown(an_older_kernel_tells_less, end_pool),
		cmocka_unit_test(what_is_wrong_is_one_line),
	};

	return cmocka_run_group_tests(tests, begin, test_box_close);
}
