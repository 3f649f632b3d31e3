/* SPDX-License-Identifier: BSD-3-Clause */
/* test_shmemctl_heap.c - shmemctl heap, and heaps in shmemctl map: what is in
 * them, whole, damaged and in use; and how both look at a terminal. */
#include "test.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shmem.h>

#include "heap_layout.h"
#include "layout.h"
#include "peer.h"
#include "probe.h"
#include "shell.h"

#define DAMAGES 100 /* at random places */
#define LOOKS 15    /* at what others change */
#define TRIMS 30    /* looks at chunks that come and go */
#define FORGED 600u /* headers */

/* The numbers behind @row in a heap's table, up to the blocks in use. */
static int columns(const char *row, int v[6])
{
	return sscanf(shell_rest(row), "%d %d %d %d %d %d", &v[0], &v[1], &v[2],
		      &v[3], &v[4], &v[5]);
}

/* ----- what is in them ----- */

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
	before = probe_blocks(path);
	assert_int_equal(shell("$ctl map %s", path), 0);
	assert_non_null(strchr(shell_rest("   heap "), 'd'));
	assert_non_null(strchr(shell_rest("   heap "), 'F'));
	assert_shows("\n   heap TTTT");
	assert_non_null(strstr(shell_rest("heap    "), "d 64  F 8192"));
	assert_shows("= large blocks");

	assert_int_equal(shell("$ctl heap %s", path), 0);
	assert_shows("the root pointer leads to it");
	tmc_mspace_statistics(h, &most, &now, &n);
	snprintf(used, sizeof(used), "%zuK", n >> 10);
	sscanf(shell_rest("  used "), "%31s", human);
	assert_string_equal(human, used);
	sscanf(shell_rest("  footprint "), "%31s", human);
	assert_int_equal((size_t)(strtod(human, NULL) * 1024) >> 10, now >> 20);
	assert_int_equal(columns("\n       64 ", v), 6);
	assert_int_equal(v[0] + v[1], 2); /* a span that is owned */
	assert_int_equal(v[2] + v[3] + v[4], 0);
	assert_int_equal(v[5], 60);
	assert_shows("large blocks in use: 2");
	assert_shows("check: whole\n");
	assert_int_equal(probe_blocks(path), before);
	/* Nobody is alive where nobody has it open. */
	tmc_shmem_close(shm);
	assert_int_equal(shell("$ctl heap %s", path), 0);
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
	assert_non_null(tmc_shmem_grow(shm, 3 * 4096));
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
	assert_int_equal(shell("$ctl heap %s", path), 0);
	assert_string_equal(shell_rest("heaps: "),
			    "3 heaps; it is in use, and "
			    "numbers may be of different "
			    "times");
	tmc_mspace_destroy(h[2]);
	assert_int_equal(shell("$ctl heap %s", path), 0);
	assert_shows(": 2 heaps");
	assert_shows("does not grow");
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
		assert_int_equal(shell("$ctl heap %s", path), 0);
		assert_shows("check: whole");
		assert_int_equal(shell("$ctl map %s", path), 0);
	}
	for (i = 0; i < 2; i++)
		peer_kill(&p[i]);
	/* What the two had is a dead one's, and ours is alive. */
	assert_int_equal(shell("$ctl heap %s", path), 0);
	assert_shows("check: whole");
	assert_int_equal(columns("\n      all ", v), 6);
	assert_true(v[1] > 0 && v[2] > 0 && v[0] == v[1] + v[2] + v[3]);
	tmc_shmem_close(s.shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* Chunks come, of several sizes, and go. */
static int grow_and_trim(struct peer *self, void *arg)
{
	struct stage *s = arg;
	void *p[12];
	size_t i, n;

	PEER_CHECK(peer_put(self, 0) == 0);
	for (n = 1;; n++) {
		for (i = 0; i < 12; i++) {
			p[i] = tmc_mspace_malloc(s->h, (n % 3 + 1) * MIB);
			PEER_CHECK(p[i]);
		}
		for (i = 0; i < 12; i++)
			tmc_mspace_free(p[i]);
		tmc_mspace_trim(s->h, 0);
	}
}

static void a_heap_that_grows_and_is_trimmed_is_whole(void **state)
{
	const char *path = box_path("trim");
	struct stage s = { tmc_shmem_create(path, NULL, NULL, 256 * MIB),
			   NULL };
	tmc_alloc_t alloc;
	struct peer p;
	uint64_t word;
	int i;

	(void)state;
	assert_non_null(s.shm);
	alloc = *tmc_shmem_alloc(s.shm);
	tmc_alloc_clear_populate(&alloc);
	s.h = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED, &alloc);
	assert_non_null(s.h);
	assert_int_equal(peer_fork(&p, grow_and_trim, &s), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	for (i = 0; i < TRIMS; i++) {
		if (shell("$ctl check -r %s", path))
			fail_msg("check %d: %s", i, shell_out);
		if (shell("$ctl heap %s", path))
			fail_msg("heap %d: %s", i, shell_out);
	}
	assert_int_equal(shell("$ctl map %s", path), 0);
	peer_kill(&p);
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
		assert_int_equal(shell("cp %s %s", path, bad), 0);
		assert_int_equal(
			shell_damage(bad, damage[i].off, damage[i].word), 0);
		assert_says(1, damage[i].says, "$ctl map %s >/dev/null", bad);
		assert_says(1, damage[i].says, "$ctl heap %s >/dev/null", bad);
	}
	assert_int_equal(shell("cp %s %s", path, bad), 0);
	assert_int_equal(shell_damage(bad, chunk + sizeof(struct heap_chunk),
				      (uintptr_t)base + HEAP_SLICE),
			 0);
	assert_says(1, "chunk 1 lies in another one", "$ctl map %s >/dev/null",
		    bad);
	/* Cut in the middle of a table. */
	assert_int_equal(shell("cp %s %s; truncate -s %zu %s", path, bad,
			       data + 4096, bad),
			 0);
	assert_int_equal(shell("$ctl heap %s >/dev/null", bad), 1);
	assert_int_equal(shell_lines(), 1);
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
	assert_int_equal(shell("$ctl heap %s", path), 1);
	assert_shows("that may have been a change under way");
	*mark = kept;
	assert_int_equal(shell("$ctl heap %s", path), 0);
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
		assert_int_equal(shell("cp %s %s", path, bad), 0);
		for (k = 0; k < 8; k++) {
			size_t off = (size_t)rand_r(&seed) % 80 * 8;
			uint64_t word = (uint64_t)rand_r(&seed)
					<< rand_r(&seed) % 64;

			off += k % 4 == 0   ? LAYOUT_DATA_OFF
			       : k % 4 == 1 ? LAYOUT_DATA_OFF +
						      sizeof(struct heap_hdr)
			       : k % 4 == 2 ? LAYOUT_DATA_OFF + HEAP_SLICE
					    : LAYOUT_DATA_OFF + 4096;
			assert_int_equal(
				shell_damage(bad, i % 8 ? off : 256, word), 0);
		}
		rc = shell("$ctl heap %s >/dev/null", bad);
		assert_in_range(rc, 0, 1);
		assert_in_range(shell_lines(), 0, 1);
		failed += rc == 1;
		assert_in_range(shell("$ctl map %s >/dev/null", bad), 0, 1);
	}
	assert_in_range(failed, DAMAGES / 4, DAMAGES);
	assert_int_equal(unlink(bad), 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* Forged headers, each with a first chunk of its own slice and, all the same,
 * a second one of what is behind them: runs in use, without heads. */
static void forge(tmc_shmem_t *shm)
{
	char *base = tmc_shmem_grow(shm, 2 * FORGED * HEAP_SLICE), *slice;
	uint32_t *table = (uint32_t *)(base + FORGED * HEAP_SLICE), i;

	assert_non_null(base);
	for (i = 0; i < FORGED; i++) {
		struct heap_hdr *h =
			(struct heap_hdr *)(slice = base + i * HEAP_SLICE);

		h->magic = HEAP_MAGIC;
		h->format = HEAP_FORMAT;
		h->self = (uintptr_t)slice;
		h->chunk[0].start = (uintptr_t)slice;
		h->nchunks = 2;
		h->chunk[0].nslices = h->chunk[0].nhead = 1;
		h->chunk[1].start = (uintptr_t)table;
		h->chunk[1].nslices = FORGED;
		h->chunk[1].nhead = 1;
		table[i] = HEAP_USED | 1;
	}
}

static unsigned int times(const char *what)
{
	unsigned int n = 0;
	const char *p = shell_out;

	while ((p = strstr(p, what))) {
		p++;
		n++;
	}
	return n;
}

/* Else time is the product of heaps and runs, and memory that of heaps and
 * their headers. */
static void a_slice_is_looked_at_once_for_all_heaps(void **state)
{
	const char *path = box_path("forged");
	/* Sanitizers and valgrind need more addresses. */
	const char *limit =
		UNDER_SANITIZER || getenv("VALGRIND") ? ":" : "ulimit -v 24000";
	tmc_shmem_t *shm = tmc_shmem_create(path, NULL, NULL, 256 * MIB);

	(void)state;
	assert_non_null(shm);
	forge(shm);
	tmc_shmem_close(shm);
	assert_int_equal(shell("%s; $ctl check -r %s 2>&1", limit, path), 3);
	/* The first one is named on standard error, too. */
	assert_int_equal(times("the mark"), 2);
	assert_int_equal(times("slice 0 of chunk 1 belongs to something else"),
			 FORGED - 1);
	assert_int_equal(shell("%s; $ctl heap %s", limit, path), 1);
	assert_int_equal(times("spans of small blocks: 599"), 1);
	assert_int_equal(times("spans of small blocks"), 1);
	assert_int_equal(shell("%s; $ctl map %s", limit, path), 1);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* ----- the terminal ----- */

/* What stands on a terminal of so many columns, -e: with its colours. */
static void at_a_terminal(int width, const char *options, const char *env,
			  const char *command)
{
	static unsigned int n; /* a server that ends is no new one */
	int rc =
		shell("export LC_ALL=C.UTF-8; S=\"tmux -S %s%u -f /dev/null\"; "
		      "$S new-session -d -x %d -y 50 \"env %s sh -c "
		      "'$ctl %s; $S wait-for -S done; read x'\"; "
		      "$S wait-for done; $S capture-pane -p %s; $S kill-server",
		      box_path("tmux"), n++, width, env, command, options);

	if (rc)
		fail_msg("tmux: %d: %s", rc, shell_out);
}

static void it_fits_a_terminal_of_80_and_of_200_columns(void **state)
{
	const char *path = box_path("term");
	char map[PATH_MAX], heap[PATH_MAX];

	(void)state;
	if (shell("tmux -V")) {
		print_message("no tmux\n");
		skip();
	}
	at_rest(path);
	snprintf(map, sizeof(map), "map %s", path);
	snprintf(heap, sizeof(heap), "heap %s", path);
	at_a_terminal(80, "", "LC_ALL=C.UTF-8", map);
	assert_in_range(shell_longest(), 8 + 64, 80);
	assert_non_null(strstr(shell_rest("      0 "), "\u2588\u2588"));
	assert_shows("heap TTTT");
	assert_shows("\u00b7 hole");
	assert_null(strchr(shell_out, '\033'));
	at_a_terminal(200, "", "LC_ALL=C.UTF-8", map);
	assert_in_range(shell_longest(), 8 + 192, 200);
	at_a_terminal(80, "", "LC_ALL=C.UTF-8", heap);
	assert_in_range(shell_longest(), 70, 80);
	assert_shows("check: whole");
	at_a_terminal(200, "", "LC_ALL=C.UTF-8", heap);
	assert_shows("check: whole");
	/* Colours, unless they are not wanted; plain letters for plain
	 * locales. */
	at_a_terminal(80, "-e", "LC_ALL=C.UTF-8", map);
	assert_shows("\033[");
	at_a_terminal(80, "-e", "LC_ALL=C NO_COLOR=1", map);
	assert_null(strchr(shell_out, '\033'));
	assert_shows("      0 ##");
	/* None of that into a pipe. */
	assert_int_equal(shell("LC_ALL=C.UTF-8 $ctl map %s", path), 0);
	assert_null(strchr(shell_out, '\033'));
	assert_in_range(shell_longest(), 8 + 64, 80);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_heap_is_shown_by_what_is_in_it),
		cmocka_unit_test(heaps_are_found_wherever_they_are),
		cmocka_unit_test(a_heap_in_use_is_whole_each_time),
		cmocka_unit_test(a_heap_that_grows_and_is_trimmed_is_whole),
		cmocka_unit_test(damage_is_one_line_and_a_failure),
		cmocka_unit_test(damage_in_one_in_use_is_told_too),
		cmocka_unit_test(no_damage_is_more_than_a_failure),
		cmocka_unit_test(a_slice_is_looked_at_once_for_all_heaps),
		cmocka_unit_test(it_fits_a_terminal_of_80_and_of_200_columns),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
