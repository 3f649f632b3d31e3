/* SPDX-License-Identifier: BSD-3-Clause */
/* test_shmemctl_map.c - shmemctl's map and heap: what people see of pages and
 * heaps, at a terminal too, and nothing taken by looking. */
#include "test.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmem.h>

#include "heap_layout.h"
#include "layout.h"
#include "peer.h"

#define NPAGES 8    /* huge ones; what a test may use */
#define DAMAGES 150 /* at random places */
#define LOOKS 15    /* at what others change */
#define NOBODY 65534

static size_t page, huge;
static char ctl[PATH_MAX + 64]; /* the program's path */
static char out[1 << 18];	/* what it printed, with its errors */

static int begin(void **state)
{
	page = (size_t)sysconf(_SC_PAGESIZE);
	huge = tmc_alloc_get_huge_pagesize();
	snprintf(ctl, sizeof(ctl), "%s/../shmemctl", peer_agent("."));
	*strstr(ctl, "/agents/./") = '\0';
	strcat(ctl, "/../shmemctl");
	unsetenv("COLUMNS");
	unsetenv("NO_COLOR");
	setenv("LC_ALL", "C", 1);
	return test_box_open(state);
}

static int end_pool(void **state)
{
	(void)state;
	box_pool_end();
	return 0;
}

/* What the coverage's run-time says where it may not write is not ours. */
static void drop_profiling(void)
{
	char *at;

	while ((at = strstr(out, "profiling:")))
		memmove(at, at + strcspn(at, "\n") + 1,
			strlen(at + strcspn(at, "\n")));
}

/* Runs the shell's @format, where $ctl is the program; its exit code. */
static int run(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int run(const char *format, ...)
{
	char command[PATH_MAX * 2], all[PATH_MAX * 4];
	size_t n;
	va_list list;
	FILE *f;
	int rc;

	va_start(list, format);
	vsnprintf(command, sizeof(command), format, list);
	va_end(list);
	snprintf(all, sizeof(all), "ctl='%s'; { %s; } 2>&1", ctl, command);
	f = popen(all, "re");
	if (!f)
		return -1;
	n = fread(out, 1, sizeof(out) - 1, f);
	out[n] = '\0';
	rc = pclose(f);
	drop_profiling();
	return WIFEXITED(rc) ? WEXITSTATUS(rc) : 128 + WTERMSIG(rc);
}

/* The rest of the first line with @what in it. */
static const char *line(const char *what)
{
	static char text[4096];
	const char *at = strstr(out, what);

	if (!at) {
		print_message("no \"%s\" in:\n%s\n", what, out);
		return "";
	}
	snprintf(text, sizeof(text), "%.*s",
		 (int)strcspn(at + strlen(what), "\n"), at + strlen(what));
	return text;
}

static size_t lines(void)
{
	size_t n = 0;
	const char *p;

	for (p = out; *p; p++)
		n += *p == '\n';
	return n;
}

/* One line that says so, and how it ended. */
#define assert_says(code, text, ...)                                           \
	do {                                                                   \
		assert_int_equal(run(__VA_ARGS__), code);                      \
		assert_int_equal(lines(), 1);                                  \
		if (!strstr(out, text))                                        \
			fail_msg("no \"%s\" in: %s", text, out);               \
	} while (0)

/* The numbers behind @row in a heap's table, up to the blocks in use. */
static int columns(const char *row, int v[6])
{
	return sscanf(line(row), "%d %d %d %d %d %d", &v[0], &v[1], &v[2],
		      &v[3], &v[4], &v[5]);
}

static long long blocks(const char *path)
{
	struct stat st;

	return stat(path, &st) ? -1 : (long long)st.st_blocks;
}

/* Into a file, as nobody should. */
static void put_word(const char *path, size_t off, uint64_t word)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_int_equal(pwrite(fd, &word, sizeof(word), (off_t)off),
			 sizeof(word));
	close(fd);
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
	before = blocks(path);
	assert_int_equal(run("$ctl map %s", path), 0);
	assert_string_equal(line("      0 "),
			    "##########..#..................................."
			    "................");
	assert_non_null(strstr(out, "\n      * \n"));
	assert_string_equal(line("  1.7M "),
			    "................................................"
			    "...............#");
	assert_string_equal(line("of at most "),
			    "1G, pages of 4K: 48K small, 1.9M holes; node 0");
	assert_non_null(strstr(out, "It is in use"));
	assert_null(strstr(out, "heap"));
	/* Half a row, each sign several pages. */
	assert_int_equal(run("COLUMNS=40 $ctl map --rows=1 %s", path), 0);
	assert_string_equal(line("      0 "),
			    "+..............................:");
	assert_int_equal(blocks(path), before);
	tmc_shmem_close(shm);
	/* What cannot be told, here for want of a descriptor, is said. */
	assert_int_equal(run("sh -c \"ulimit -n 5; $ctl map %s\"", path), 0);
	assert_non_null(strstr(out, "##########..#..."));
	assert_non_null(strstr(out, "it takes userfaultfd(2)"));
	assert_int_equal(run("$ctl map %s", path), 0);
	assert_null(strstr(out, "It is in use"));
	assert_int_equal(blocks(path), before);
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
	assert_int_equal(run("$ctl map %s", path), 0);
	assert_string_equal(line("      0 "),
			    "................########........................"
			    "................");
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	close(fd);
	assert_int_equal(run("$ctl map %s", path), 0);
	assert_string_equal(line("      0 "),
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
	put_word(path, LAYOUT_DATA_OFF + size + page, 1);
	assert_int_equal(run("$ctl map --rows=1 %s", path), 0);
	print_message("%s",out);assert_non_null(strstr(out, ": 20K small, 599.9M holes"));
	assert_string_equal(line("      0 "),
			    "...............::.....................:");
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* Here there is one; of two, all pages are on the first. */
static int look_with_two_nodes(struct peer *self, void *arg)
{
	const char *online = "/sys/devices/system/node/online";
	const char *path = arg;

	(void)self;
	PEER_CHECK(run("echo 0-1 >%s", box_path("online")) == 0);
	if (unshare(CLONE_NEWNS) ||
	    mount(box_path("online"), online, NULL, MS_BIND, NULL))
		return 2;
	PEER_CHECK(run("$ctl map %s", path) == 0);
	PEER_CHECK(strstr(out, "\n      0 ##..##..."));
	PEER_CHECK(strstr(out, "\n   node 00  00   "));
	PEER_CHECK(strstr(out, " 16K small, 112K holes; node 0 16K\n"));
	PEER_CHECK(run("sh -c \"ulimit -n 5; $ctl map %s\"", path) == 0);
	PEER_CHECK(strstr(out, "\n   node ?\?  ??   "));
	PEER_CHECK(strstr(out, "; node not known 16K\n"));
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
	assert_int_equal(run("$ctl map %s", path), 0);
	assert_int_equal(lines(), 2);
	assert_string_equal(line("\n0 of at most "),
			    "1G, pages of 4K: 0 holes");
	assert_int_equal(run("$ctl heap %s", path), 0);
	assert_string_equal(line("empty: "), "0 heaps");
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
	assert_int_equal(run("$ctl map %s", path), 0);
	assert_string_equal(line("      0 "), "HH...H");
	assert_string_equal(line("of at most "),
			    "1G, pages of 2M: 6M huge, 6M holes; node 0");
	assert_int_equal(box_pool_free(huge), free);
	/* With a heap, signs are not larger than its slices. */
	assert_non_null(tmc_mspace_create_special(0, 0, tmc_shmem_alloc(shm)));
	assert_int_equal(run("$ctl map %s", path), 0);
	print_message("%s",out);assert_non_null(strstr(out, "\n   heap ................"));
	assert_non_null(strchr(line("heap .."), 'T'));
	assert_non_null(strstr(out, "one sign is 64K, a row 4M"));
	/* By a descriptor whose companion has no name. */
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_int_equal(run("$ctl map /proc/%d/fd/%d", (int)getpid(),
			     tmc_shmem_fd(shm)),
			 0);
	assert_non_null(strstr(out, " huge, 6M holes"));
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
	assert_int_equal(run("$ctl map -n 1 %s", box_path("thp/a")), 0);
	tmc_shmem_close(shm);
	if (strstr(out, " small")) {
		print_message("the kernel gives no transparent huge pages\n");
		skip();
	}
	assert_string_equal(line("      0 "),
			    "HHHHHHHHHHHHHHHH................"
			    "HHHHHHHHHHHHHHHH................");
	assert_int_equal(box_umount("thp"), 0);
}

/* ----- heaps ----- */

/* A heap that the root pointer leads to, and blocks in it. */
static tmc_mspace fill(tmc_shmem_t *shm, void *p[100])
{
	tmc_mspace h = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
						 tmc_shmem_alloc(shm));
	int i;

	assert_non_null(h);
	assert_int_equal(tmc_shmem_set_data(shm, h), 0);
	for (i = 0; i < 100; i++)
		p[i] = tmc_mspace_malloc(h, i < 60   ? 64
					    : i < 98 ? 8000
						     : 300000);
	assert_non_null(p[99]);
	return h;
}

static void a_heap_is_shown_by_what_is_in_it(void **state)
{
	const char *path = box_path("heap");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 0);
	char used[64], human[32];
	size_t most, now, n;
	long long before;
	int v[6];
	void *p[100];
	tmc_mspace h;

	(void)state;
	assert_non_null(shm);
	h = fill(shm, p);
	before = blocks(path);
	assert_int_equal(run("$ctl map %s", path), 0);
	assert_non_null(strchr(line("   heap "), 'd'));
	assert_non_null(strchr(line("   heap "), 'F'));
	assert_true(out + strlen("T") < strstr(out, "   heap TTTT"));
	assert_non_null(strstr(line("heap    "), "d 64  F 8192"));
	assert_non_null(strstr(out, "= large blocks"));

	assert_int_equal(run("$ctl heap %s", path), 0);
	assert_non_null(strstr(out, "the root pointer leads to it"));
	tmc_mspace_statistics(h, &most, &now, &n);
	snprintf(used, sizeof(used), "%zuK", n >> 10);
	sscanf(line("  used "), "%31s", human);
	assert_string_equal(human, used);
	sscanf(line("  footprint "), "%31s", human);
	assert_int_equal((size_t)(strtod(human, NULL) * 1024) >> 10, now >> 20);
	assert_int_equal(columns("\n       64 ", v), 6);
	assert_int_equal(v[0] + v[1], 2); /* a span that is owned */
	assert_int_equal(v[2] + v[3] + v[4], 0);
	assert_int_equal(v[5], 60);
	assert_non_null(strstr(out, "large blocks in use: 2"));
	assert_non_null(strstr(out, "check: whole\n"));
	assert_int_equal(blocks(path), before);
	/* Nobody is alive where nobody has it open. */
	tmc_shmem_close(shm);
	assert_int_equal(run("$ctl heap %s", path), 0);
	assert_int_equal(columns("\n       64 ", v), 6);
	assert_true(v[0] == 1 && v[1] == 0 && v[2] == 1);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void heaps_are_found_wherever_they_are(void **state)
{
	const char *path = box_path("heaps");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 0);
	tmc_alloc_t alloc;
	tmc_mspace h[3];
	void *p;
	int i;

	(void)state;
	assert_non_null(shm);
	/* Behind something else, in a block of another one, and gone again. */
	assert_non_null(tmc_shmem_grow(shm, 3 * page));
	alloc = *tmc_shmem_alloc(shm);
	h[0] = tmc_mspace_create_special(0, 0, &alloc);
	p = tmc_mspace_malloc(h[0], 2 * MIB);
	assert_non_null(p);
	h[1] = tmc_mspace_create_with_base(p, 2 * MIB, TMC_MSPACE_NOGROW);
	assert_non_null(h[1]);
	assert_int_equal(tmc_shmem_set_data(shm, (char *)h[1] + 64), 0);
	/* With a large table, and without its pages. */
	tmc_alloc_clear_populate(&alloc);
	h[2] = tmc_mspace_create_special(100 * MIB, 0, &alloc);
	assert_non_null(h[2]);
	assert_non_null(tmc_mspace_malloc(h[2], 90 * MIB));
	for (i = 0; i < 20; i++)
		assert_non_null(tmc_mspace_malloc(h[2], 300000));
	assert_int_equal(run("$ctl heap %s", path), 0);
	assert_string_equal(line("heaps: "), "3 heaps; it is in use, and "
					     "numbers may be of different "
					     "times");
	tmc_mspace_destroy(h[2]);
	assert_int_equal(run("$ctl heap %s", path), 0);
	assert_non_null(strstr(out, ": 2 heaps"));
	assert_non_null(strstr(out, "does not grow"));
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* ----- others at work ----- */

struct stage {
	tmc_shmem_t *shm;
	tmc_mspace h;
};

static int work_on(struct peer *self, void *arg)
{
	struct stage *s = arg;
	void *p[256] = { NULL };
	unsigned int seed = 7, i;

	PEER_CHECK(peer_put(self, 0) == 0);
	for (;;) {
		i = (unsigned int)rand_r(&seed) % 256;
		tmc_mspace_free(p[i]);
		p[i] = tmc_mspace_malloc(s->h, (size_t)rand_r(&seed) %
						       (i % 16 ? 900 : 90000));
		PEER_CHECK(p[i]);
	}
}

static void a_heap_in_use_is_whole_each_time(void **state)
{
	const char *path = box_path("live");
	struct stage s = { tmc_shmem_create(path, NULL, NULL, 0), NULL };
	struct peer p[2];
	uint64_t word;
	void *q[100];
	int v[6], i;

	(void)state;
	assert_non_null(s.shm);
	s.h = fill(s.shm, q);
	for (i = 0; i < 2; i++) {
		assert_int_equal(peer_fork(&p[i], work_on, &s), 0);
		assert_int_equal(peer_get(&p[i], &word), 0);
	}
	for (i = 0; i < LOOKS; i++) {
		assert_int_equal(run("$ctl heap %s", path), 0);
		assert_non_null(strstr(out, "check: whole"));
		assert_int_equal(run("$ctl map %s", path), 0);
	}
	for (i = 0; i < 2; i++)
		peer_kill(&p[i]);
	/* What the two had is a dead one's, and ours is alive. */
	assert_int_equal(run("$ctl heap %s", path), 0);
	assert_non_null(strstr(out, "check: whole"));
	assert_int_equal(columns("\n      all ", v), 6);
	assert_true(v[1] > 0 && v[2] > 0 && v[0] == v[1] + v[2] + v[3]);
	tmc_shmem_close(s.shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* ----- damage ----- */

/* An arena with a heap that nobody has open; where its bytes begin. */
static char *at_rest(const char *path)
{
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 0);
	void *p[100];
	char *base;

	assert_non_null(shm);
	fill(shm, p);
	tmc_mspace_free(p[0]);
	tmc_mspace_free(p[99]);
	base = tmc_shmem_address(shm);
	tmc_shmem_close(shm);
	return base;
}

static void damage_is_one_line_and_a_failure(void **state)
{
	const size_t data = LAYOUT_DATA_OFF;
	const size_t chunk = data + offsetof(struct heap_hdr, chunk);
	const size_t run_head = data + HEAP_SLICE + HEAP_COLOUR;
	const struct {
		size_t off;
		uint64_t word;
		const char *says;
	} damage[] = {
		{ data, 0, "its magic is overwritten" },
		{ data + 8, 77, "format 77" },
		{ data + offsetof(struct heap_hdr, nchunks), 0, "0 chunks" },
		{ data + offsetof(struct heap_hdr, nchunks), 99999, "99999" },
		{ chunk, 4711, "its first chunk does not begin" },
		{ chunk + 8, UINT64_MAX, "chunk 0 makes no sense" },
		{ chunk + sizeof(struct heap_chunk), 0, "chunk 1 makes no" },
		{ data + sizeof(struct heap_hdr) + 4, HEAP_USED,
		  "begins no run" },
		{ run_head, 1, "mark" },
		{ run_head + offsetof(struct heap_run, heap), 1, "head of" },
		{ 0, 0, "arena" },
		{ 16, 0, "checksum" },
		{ 256, UINT64_MAX, "size" },
	};
	const char *path = box_path("whole"), *bad = box_path("bad");
	char *base;
	size_t i;

	(void)state;
	base = at_rest(path);
	assert_int_equal((uintptr_t)base % (HEAP_SLICE * 16), 0);
	for (i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
		assert_int_equal(run("cp %s %s", path, bad), 0);
		put_word(bad, damage[i].off, damage[i].word);
		assert_says(1, damage[i].says, "$ctl map %s >/dev/null", bad);
		assert_says(1, damage[i].says, "$ctl heap %s >/dev/null", bad);
	}
	assert_int_equal(run("cp %s %s", path, bad), 0);
	put_word(bad, chunk + sizeof(struct heap_chunk),
		 (uintptr_t)base + HEAP_SLICE);
	assert_says(1, "chunk 1 lies in another one", "$ctl map %s >/dev/null", bad);
	assert_int_equal(unlink(bad), 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* It is looked at again, and stays; the next time it is whole. */
static void damage_in_one_in_use_is_told_too(void **state)
{
	const char *path = box_path("use");
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 0);
	uint64_t *mark, kept;
	void *p[100];

	(void)state;
	assert_non_null(shm);
	fill(shm, p);
	mark = (uint64_t *)((char *)tmc_shmem_address(shm) + HEAP_SLICE +
			    HEAP_COLOUR);
	kept = *mark;
	*mark = 1;
	assert_says(1, "the mark of the run at offset 65536 is overwritten",
		    "$ctl heap %s >/dev/null", path);
	assert_int_equal(run("$ctl heap %s", path), 1);
	assert_non_null(strstr(out, "that may have been a change under way"));
	*mark = kept;
	assert_int_equal(run("$ctl heap %s", path), 0);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* Random words in header, tables and heads: never worse than a failure. */
static void no_damage_is_more_than_a_failure(void **state)
{
	const char *path = box_path("whole"), *bad = box_path("bad");
	unsigned int seed = 1, i, k, failed = 0;
	int rc;

	(void)state;
	at_rest(path);
	for (i = 0; i < DAMAGES; i++) {
		assert_int_equal(run("cp %s %s", path, bad), 0);
		for (k = 0; k < 8; k++) {
			size_t off = (size_t)rand_r(&seed) % 80 * 8;
			uint64_t word = (uint64_t)rand_r(&seed)
					<< rand_r(&seed) % 64;

			off += k % 4 == 0   ? LAYOUT_DATA_OFF
			       : k % 4 == 1 ? LAYOUT_DATA_OFF +
						      sizeof(struct heap_hdr)
			       : k % 4 == 2 ? LAYOUT_DATA_OFF + HEAP_SLICE
					    : LAYOUT_DATA_OFF + 4096;
			put_word(bad, i % 8 ? off : 256, word);
		}
		rc = run("$ctl heap %s >/dev/null", bad);
		assert_in_range(rc, 0, 1);
		assert_in_range(lines(), 0, 1);
		failed += rc == 1;
		assert_in_range(run("$ctl map %s >/dev/null", bad), 0, 1);
	}
	assert_in_range(failed, DAMAGES / 4, DAMAGES);
	assert_int_equal(unlink(bad), 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* ----- bad input ----- */

static int look_as_nobody(struct peer *self, void *arg)
{
	(void)self;
	PEER_CHECK(peer_become(NOBODY) == 0);
	PEER_CHECK(run("$ctl map %s", (const char *)arg) == 1);
	PEER_CHECK(lines() == 1 && strstr(out, "Permission denied"));
	PEER_CHECK(run("chmod 644 %s", (const char *)arg) != 0);
	return 0;
}

static int look_as_a_reader(struct peer *self, void *arg)
{
	(void)self;
	PEER_CHECK(peer_become(NOBODY) == 0);
	PEER_CHECK(run("$ctl map %s", (const char *)arg) == 0);
	PEER_CHECK(strstr(out, "      0 ##"));
	PEER_CHECK(run("$ctl heap %s", (const char *)arg) == 0);
	return 0;
}

static void what_is_wrong_is_one_line(void **state)
{
	const char *path = box_path("input"), *none = box_path("none");
	char copy[PATH_MAX];

	(void)state;
	at_rest(path);
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
	assert_int_equal(run("$ctl heap %s | true", path), 0);
	assert_string_equal(out, "");
	/* Cut in the middle of a table. */
	assert_int_equal(run("cp %s %s; truncate -s %zu %s", path, none,
			     LAYOUT_DATA_OFF + page, none),
			 0);
	assert_int_equal(run("$ctl heap %s >/dev/null", none), 1);
	assert_int_equal(lines(), 1);
	strcpy(copy, path);
	if (box_can_mount()) {
		assert_int_equal(peer_run(look_as_nobody, copy), 0);
		assert_int_equal(chmod(path, 0644), 0);
		assert_int_equal(peer_run(look_as_a_reader, copy), 0);
	}
	assert_int_equal(unlink(none), 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* ----- the terminal ----- */

/* What stands on a terminal of so many columns, -e: with its colours. */
static void at_a_terminal(int width, const char *options, const char *env,
			  const char *command)
{
	static unsigned int n; /* a server that ends is no new one */
	int rc = run("export LC_ALL=C.UTF-8; S=\"tmux -S %s%u -f /dev/null\"; "
		     "$S new-session -d -x %d -y 50 \"env %s sh -c "
		     "'$ctl %s; $S wait-for -S done; read x'\"; "
		     "$S wait-for done; $S capture-pane -p %s; $S kill-server",
		     box_path("tmux"), n++, width, env, command, options);

	if (rc)
		fail_msg("tmux: %d: %s", rc, out);
}

static size_t longest(void)
{
	size_t most = 0, n = 0;
	const unsigned char *p;

	for (p = (unsigned char *)out; *p; p++) {
		n = *p == '\n' ? 0 : n + ((*p & 0xc0) != 0x80);
		most = n > most ? n : most;
	}
	return most;
}

static void it_fits_a_terminal_of_80_and_of_200_columns(void **state)
{
	const char *path = box_path("term");
	char map[PATH_MAX], heap[PATH_MAX];

	(void)state;
	if (run("tmux -V")) {
		print_message("no tmux\n");
		skip();
	}
	at_rest(path);
	snprintf(map, sizeof(map), "map %s", path);
	snprintf(heap, sizeof(heap), "heap %s", path);
	at_a_terminal(80, "", "LC_ALL=C.UTF-8", map);
	assert_in_range(longest(), 8 + 64, 80);
	assert_non_null(strstr(line("      0 "), "\u2588\u2588"));
	assert_non_null(strstr(out, "heap TTTT"));
	assert_non_null(strstr(out, "\u00b7 hole"));
	assert_null(strchr(out, '\033'));
	at_a_terminal(200, "", "LC_ALL=C.UTF-8", map);
	assert_in_range(longest(), 8 + 192, 200);
	at_a_terminal(80, "", "LC_ALL=C.UTF-8", heap);
	assert_in_range(longest(), 70, 80);
	assert_non_null(strstr(out, "check: whole"));
	at_a_terminal(200, "", "LC_ALL=C.UTF-8", heap);
	assert_non_null(strstr(out, "check: whole"));
	/* Colours, unless they are not wanted; plain letters for plain
	 * locales. */
	at_a_terminal(80, "-e", "LC_ALL=C.UTF-8", map);
	assert_non_null(strstr(out, "\033["));
	at_a_terminal(80, "-e", "LC_ALL=C NO_COLOR=1", map);
	assert_null(strchr(out, '\033'));
	assert_non_null(strstr(out, "      0 ##"));
	/* None of that into a pipe. */
	assert_int_equal(run("LC_ALL=C.UTF-8 $ctl map %s", path), 0);
	assert_null(strchr(out, '\033'));
	assert_in_range(longest(), 8 + 64, 80);
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
		cmocka_unit_test(a_heap_is_shown_by_what_is_in_it),
		cmocka_unit_test(heaps_are_found_wherever_they_are),
		cmocka_unit_test(a_heap_in_use_is_whole_each_time),
		cmocka_unit_test(damage_is_one_line_and_a_failure),
		cmocka_unit_test(damage_in_one_in_use_is_told_too),
		cmocka_unit_test(no_damage_is_more_than_a_failure),
		cmocka_unit_test(what_is_wrong_is_one_line),
		cmocka_unit_test(it_fits_a_terminal_of_80_and_of_200_columns),
	};

	return cmocka_run_group_tests(tests, begin, test_box_close);
}
