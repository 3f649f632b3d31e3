/* SPDX-License-Identifier: BSD-3-Clause */
/* bench_populate.c - how fast a grow gets memory, against all ways to get it */
/*
 * bench_populate [WORD] runs the rows whose names contain WORD. Asserts
 * nothing. A row is left out by name where the machine has not got what it
 * needs: the right to mount, memory, huge pages.
 *
 * How fast a page comes depends on what was freed before, and on a virtual
 * machine much more on whether the host has taken back free memory, which it
 * does after a second or two. So each run starts from a fresh file, after as
 * much memory as it needs has been taken and given back, outside the clock;
 * rounds that come first are thrown away, and the order changes (bench.h).
 */
#include <sys/file.h>

#include <shmem.h>

#include "bare.h"
#include "bench.h"

#define HUGE (2 * MIB)

static const struct {
	const char *name;
	bare_way *way;
} ways[] = {
	{ "touch", way_touch },
	{ "MADV_POPULATE_WRITE", way_populate },
	{ "fallocate, MADV_POPULATE_WRITE", way_allocate_populate },
	{ "fallocate, touch", way_allocate_touch },
	{ "the two in pieces of 4 MiB", way_pieces },
	{ "zeros written, and looked at", way_write },
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

/* One kind of memory. */
struct kind {
	const char *big, *small; /* names of its rows */
	const char *path;	 /* of our arena */
	const char *dir;	 /* of the bare files */
	char *at;		 /* where the bare files are mapped */
	tmc_alloc_t attr;
	size_t page;
	size_t max;  /* bytes that a round gets */
	size_t step; /* bytes for each call */
	size_t warm; /* bytes for rewarm() */
};

struct entry {
	const struct kind *kind;
	bare_way *way;
};

static struct contender c[BENCH_WAYS];

/* 0 where transparent huge pages, and with them rewarm(), are off. */
static int have_thp(void)
{
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	char line[128] = "";
	int on = f && fgets(line, sizeof(line), f) && !strstr(line, "[never]");

	if (f)
		fclose(f);
	return on;
}

/* Has the host give us the memory that is next in the kernel's free lists. */
static void rewarm(size_t len)
{
	static int on = -1;
	void *p;

	if (on < 0)
		on = have_thp();
	if (!on)
		return;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return;
	if (!madvise(p, len, MADV_HUGEPAGE))
		madvise(p, len, MADV_POPULATE_WRITE);
	munmap(p, len);
}

static double run_ours(void *arg)
{
	const struct kind *k = ((struct entry *)arg)->kind;
	tmc_shmem_t *a;
	size_t done = 0;
	double t;
	int err;

	rewarm(k->warm);
	a = tmc_shmem_create(k->path, &k->attr, NULL, k->max);
	if (!a)
		return -1;
	bench_clock_start();
	while (done < k->max && tmc_shmem_grow(a, k->step))
		done += k->step;
	t = bench_clock_stop(k->max / k->step);
	err = errno;
	tmc_shmem_close(a);
	tmc_shmem_unlink(k->path);
	errno = err;
	return done < k->max ? -1 : t;
}

static double run_way(void *arg)
{
	const struct entry *e = arg;
	const struct kind *k = e->kind;
	struct bare b;
	size_t done = 0;
	double t;
	int err;

	rewarm(k->warm);
	if (bare_make(&b, k->dir, k->at, k->max, k->page))
		return -1;
	if (tmc_alloc_get_thp(&k->attr))
		madvise(b.base, b.max, MADV_HUGEPAGE);
	bench_clock_start();
	while (done < k->max && !e->way(&b, k->step))
		done += k->step;
	t = bench_clock_stop(k->max / k->step);
	err = errno;
	bare_free(&b);
	errno = err;
	return done < k->max ? -1 : t;
}

static void row(const char *name, const struct kind *k, double target,
		double budget)
{
	struct rules rules = { !k->warm, 7, 25, budget, 1 };
	struct entry e[WAYS + 1];
	size_t n = 1, i;
	int best;

	if (!bench_wanted(name))
		return;
	e[0] = (struct entry){ k, NULL };
	bench_enter(&c[0], "ours", run_ours, &e[0]);
	for (i = 0; i < WAYS; i++) {
		/* With a page at a time there are no pieces. */
		if (k->step == k->page && ways[i].way == way_pieces)
			continue;
		if (k->page == HUGE && ways[i].way == way_write)
			continue;
		e[n] = (struct entry){ k, ways[i].way };
		bench_enter(&c[n], ways[i].name, run_way, &e[n]);
		n++;
	}
	if (k->max < GIB) {
		rules.warmups = 5;
		rules.max_rounds = BENCH_ROUNDS;
	}
	best = bench_contest(name, c, n, &rules);
	if (best < 0)
		return;
	bench_print(name, &c[0], &c[best], target);
	bench_print_ways(c + 1, n - 1);
}

static size_t available_memory(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[256];
	size_t kib = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %zu kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib * KIB;
}

static int kind_wanted(const struct kind *k)
{
	return bench_wanted(k->big) || (k->small && bench_wanted(k->small));
}

/* The rows of one kind: 1 GiB at once, and 256 pages, each by itself. */
static void rows(struct kind *k, double budget)
{
	k->at = bare_place(k->path, GIB);
	if (!k->at) {
		bench_left_out(k->big, strerror(errno));
		return;
	}
	if (k->small) {
		k->step = k->page;
		k->max = 256 * k->page;
		row(k->small, k, 1.2, 5);
	}
	k->max = k->step = GIB;
	k->warm = k->page == HUGE ? 0 : GIB + 64 * MIB;
	row(k->big, k, 1.05, budget);
}

static void small_pages(void)
{
	struct kind k = { .big = "1 GiB, small pages",
			  .small = "one page of 256, small pages",
			  .path = box_path("small/arena"),
			  .dir = box_path("small"),
			  .page = (size_t)sysconf(_SC_PAGESIZE) };

	if (!kind_wanted(&k))
		return;
	tmc_alloc_init(&k.attr);
	if (box_mount("small", "tmpfs", "huge=never,size=1100m"))
		bench_left_out(k.big, "cannot mount a tmpfs");
	else
		rows(&k, 30);
}

static void transparent_pages(void)
{
	struct kind k = { .big = "1 GiB, THP",
			  .path = box_path("thp/arena"),
			  .dir = box_path("thp"),
			  .page = (size_t)sysconf(_SC_PAGESIZE) };

	if (!kind_wanted(&k))
		return;
	tmc_alloc_set_thp(tmc_alloc_init(&k.attr));
	if (box_mount("thp", "tmpfs", "huge=advise,size=1100m"))
		bench_left_out(k.big, "cannot mount a tmpfs for it");
	else
		rows(&k, 10);
}

/*
 * Whether no other test run has the pool; box_pool() waits for it without end.
 * Asks again for 20 s.
 */
static int pool_is_free(void)
{
	const struct timespec pause = { .tv_nsec = 100000000 };
	int fd = open("/sys/kernel/mm/hugepages", O_RDONLY | O_CLOEXEC);
	int tries = 200, taken;

	if (fd < 0)
		return 0;
	while ((taken = flock(fd, LOCK_EX | LOCK_NB)) && --tries)
		nanosleep(&pause, NULL);
	close(fd);
	return !taken;
}

static void huge_pages(void)
{
	struct kind k = { .big = "1 GiB, hugetlb",
			  .small = "one page of 256, hugetlb",
			  .path = box_path("hugearena"),
			  .dir = box_path("huge"),
			  .page = HUGE };
	size_t npages = GIB / HUGE;

	if (!kind_wanted(&k))
		return;
	tmc_alloc_init(&k.attr);
	if (!tmc_alloc_set_pagesize_exact(&k.attr, HUGE))
		bench_left_out(k.big, "no 2 MiB pages");
	else if (box_hugetlbfs("huge", HUGE, ""))
		bench_left_out(k.big, "cannot mount a hugetlbfs");
	else if (!pool_is_free())
		bench_left_out(k.big, "another run has the huge pages");
	else if (box_pool(HUGE, npages) < npages)
		bench_left_out(k.big, "pool cannot be raised");
	else
		rows(&k, 6);
	box_pool_end();
}

int main(int argc, char **argv)
{
	if (bench_begin(argc, argv, 75))
		return 1;
	bench_heading("populate, against the fastest way");
	if (available_memory() < GIB + GIB / 2) {
		bench_left_out("1 GiB, all kinds", "memory");
	} else {
		/* Shortest first: the last one has what time is left. */
		huge_pages();
		transparent_pages();
		small_pages();
	}
	return bench_end();
}
