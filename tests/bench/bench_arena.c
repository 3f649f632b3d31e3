/* SPDX-License-Identifier: BSD-3-Clause */
/* bench_arena.c - making, opening, growing and cutting arenas, memory apart */
/*
 * bench_arena [WORD] runs the rows whose names contain WORD. Asserts nothing:
 * "over" is for the reader, the exit code is 0 but where nothing can run.
 */
#include <sched.h>
#include <stdatomic.h>
#include <sys/vfs.h>

#include <shmem.h>

#include "bare.h"
#include "bench.h"
#include "peer.h"

#define TMPFS_KIND 0x01021994

static struct contender c[BENCH_WAYS];

/* Runs @op @n times, by the clock. */
static double clocked(int (*op)(void *arg), void *arg, size_t n)
{
	size_t i;

	bench_clock_start();
	for (i = 0; i < n; i++)
		if (op(arg))
			return -1;
	return bench_clock_stop(n);
}

/* ----- reserve: create, close, unlink ----- */

#define RESERVES 20 /* in a round */

struct reserve {
	const char *path, *dir;
	char *at; /* where the bare calls map */
	size_t max;
};

static int reserve_ours(void *arg)
{
	struct reserve *r = arg;
	tmc_shmem_t *a = tmc_shmem_create(r->path, NULL, NULL, r->max);

	if (!a)
		return -1;
	tmc_shmem_close(a);
	return tmc_shmem_unlink(r->path);
}

static int link_file(int fd, const char *path)
{
	char proc[32];

	if (!linkat(fd, "", AT_FDCWD, path, AT_EMPTY_PATH))
		return 0;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, proc, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
}

/* The least with which a whole arena appears at once. */
static int reserve_bare(void *arg)
{
	struct reserve *r = arg;
	struct bare b;
	int err;

	if (bare_make(&b, r->dir, r->at, r->max, (size_t)sysconf(_SC_PAGESIZE)))
		return -1;
	err = link_file(b.fd, r->path);
	bare_free(&b);
	return err || unlink(r->path);
}

/* What programs do that do not care: no header, seen half made. */
static int reserve_minimal(void *arg)
{
	struct reserve *r = arg;
	int fd = open(r->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	void *p;

	if (fd < 0)
		return -1;
	if (ftruncate(fd, BARE_DATA))
		return -1;
	p = bare_map(r->at, r->max, PROT_READ | PROT_WRITE, fd, 0);
	if (!p)
		return -1;
	munmap(p, r->max);
	close(fd);
	return unlink(r->path);
}

static double run_reserve_ours(void *arg)
{
	return clocked(reserve_ours, arg, RESERVES);
}

static double run_reserve_bare(void *arg)
{
	return clocked(reserve_bare, arg, RESERVES);
}

static double run_reserve_minimal(void *arg)
{
	return clocked(reserve_minimal, arg, RESERVES);
}

static long vm_pte(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	long kib = -1;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmPTE: %ld kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

/* Page tables and file blocks of an arena that is open. */
static void reserve_costs(const char *name, const struct reserve *r)
{
	long before = vm_pte(), pte;
	struct stat st = { 0 };
	tmc_shmem_t *a = tmc_shmem_create(r->path, NULL, NULL, r->max);

	if (!a)
		return;
	pte = vm_pte() - before;
	fstat(tmc_shmem_fd(a), &st);
	tmc_shmem_close(a);
	tmc_shmem_unlink(r->path);
	printf("  %-32s page tables +%ld KiB (0) %s, file blocks %ld KiB (64) "
	       "%s\n",
	       name, pte, pte ? "over" : "ok", (long)st.st_blocks / 2,
	       st.st_blocks > 128 ? "over" : "ok");
}

static void bench_reserve(void)
{
	static const struct {
		const char *name;
		size_t max;
	} row[] = { { "reserve 1 MiB", MIB },
		    { "reserve 1 GiB", GIB },
		    { "reserve 1 TiB", TIB },
		    { "reserve 32 TiB", 32 * TIB } };
	const struct rules rules = { 5, 150, 150, 4, 0 };
	struct reserve r = { box_path("reserve"), box_path(""), NULL, 0 };
	double least = INFINITY, most = 0;
	size_t i;

	for (i = 0; i < 4; i++) {
		if (!bench_wanted(row[i].name))
			continue;
		r.max = row[i].max;
		r.at = bare_place(r.path, r.max);
		if (!r.at) {
			bench_left_out(row[i].name, strerror(errno));
			continue;
		}
		bench_enter(&c[0], "ours", run_reserve_ours, &r);
		bench_enter(&c[1], "bare", run_reserve_bare, &r);
		bench_enter(&c[2], "minimal", run_reserve_minimal, &r);
		if (bench_contest(row[i].name, c, 3, &rules) < 0)
			continue;
		least = fmin(least, median(&c[0]));
		most = fmax(most, median(&c[0]));
		bench_print(row[i].name, &c[0], &c[1], 2);
		bench_print("  to open, map, unmap, unlink", &c[0], &c[2], 0);
		reserve_costs("  while it is open", &r);
	}
	if (most > 0)
		printf("  %-32s %.2f\n", "slowest maximum to fastest",
		       most / least);
}

/* ----- open and close ----- */

#define OPENS 20

struct opening {
	const char *path;
	char *at;
	size_t max;
};

static int open_ours(void *arg)
{
	struct opening *o = arg;
	tmc_shmem_t *a = tmc_shmem_open(o->path);

	tmc_shmem_close(a);
	return a ? 0 : -1;
}

static int open_bare(void *arg)
{
	struct opening *o = arg;
	struct stat st;
	int fd = open(o->path, O_RDWR | O_CLOEXEC);
	void *p;

	if (fd < 0 || fstat(fd, &st))
		return -1;
	p = bare_map(o->at, o->max, PROT_READ | PROT_WRITE, fd, BARE_DATA);
	if (!p || munmap(p, o->max))
		return -1;
	return close(fd);
}

static double run_open_ours(void *arg)
{
	return clocked(open_ours, arg, OPENS);
}

static double run_open_bare(void *arg)
{
	return clocked(open_bare, arg, OPENS);
}

/* A peer that has the arena open until told to end. */
static int holder(struct peer *self, void *arg)
{
	tmc_shmem_t *a = tmc_shmem_open(arg);
	uint64_t word;

	PEER_CHECK(a && !peer_put(self, 1));
	peer_get(self, &word);
	tmc_shmem_close(a);
	return 0;
}

static void open_row(const char *name, struct opening *o)
{
	const struct rules rules = { 5, 200, 200, 4, 0 };

	if (!bench_wanted(name))
		return;
	bench_enter(&c[0], "ours", run_open_ours, o);
	bench_enter(&c[1], "bare", run_open_bare, o);
	if (bench_contest(name, c, 2, &rules) >= 0)
		bench_print(name, &c[0], &c[1], 2.5);
}

static void bench_open(void)
{
	struct opening o = { .path = box_path("open"), .max = GIB };
	tmc_shmem_t *a = tmc_shmem_create(o.path, NULL, NULL, o.max);
	struct peer p;
	uint64_t word;

	if (!a || !tmc_shmem_grow(a, MIB)) {
		bench_left_out("open and close", strerror(errno));
		return;
	}
	o.at = tmc_shmem_address(a);
	tmc_shmem_close(a);
	open_row("open and close, nobody else", &o);
	if (peer_fork(&p, holder, (void *)(uintptr_t)o.path) == 0) {
		if (!peer_get(&p, &word))
			open_row("open and close, another has it", &o);
		peer_end(&p);
	}
	tmc_shmem_unlink(o.path);
}

/* ----- lazy grow and shrink by one page ----- */

#define STEPS 256 /* in a round */
#define START MIB /* size before */

struct stepper {
	tmc_shmem_t *arena;
	struct bare bare;
	size_t page;
	int touch;	  /* the pages, before they are cut off */
	int clock_shrink; /* and not the grow */
};

static int one_grow_ours(void *arg)
{
	struct stepper *s = arg;

	return tmc_shmem_grow(s->arena, s->page) ? 0 : -1;
}

static int one_shrink_ours(void *arg)
{
	struct stepper *s = arg;
	size_t size = tmc_shmem_current_size(s->arena) - s->page;

	return tmc_shmem_shrink(s->arena, (off_t)size, s->page);
}

static int one_grow_bare(void *arg)
{
	struct stepper *s = arg;

	return bare_resize(&s->bare, s->bare.size + s->page);
}

static int one_shrink_bare(void *arg)
{
	struct stepper *s = arg;

	return bare_resize(&s->bare, s->bare.size - s->page);
}

/* STEPS pages more and, by single pages, less again. */
static double up_and_down(struct stepper *s, char *base, int (*grow)(void *),
			  int (*shrink)(void *))
{
	double up = clocked(grow, s, STEPS), wall = bench_wall, down;
	size_t i;

	if (up < 0)
		return -1;
	for (i = 0; s->touch && i < STEPS; i++)
		*(volatile char *)(base + START + i * s->page) = 1;
	down = clocked(shrink, s, STEPS);
	if (down < 0 || s->clock_shrink)
		return down;
	bench_wall = wall;
	return up;
}

static double run_steps_ours(void *arg)
{
	struct stepper *s = arg;

	return up_and_down(s, tmc_shmem_address(s->arena), one_grow_ours,
			   one_shrink_ours);
}

static double run_steps_bare(void *arg)
{
	struct stepper *s = arg;

	return up_and_down(s, s->bare.base, one_grow_bare, one_shrink_bare);
}

static void step_row(const char *name, struct stepper *s)
{
	const struct rules rules = { 5, 100, 100, 4, 0 };

	if (!bench_wanted(name))
		return;
	bench_enter(&c[0], "ours", run_steps_ours, s);
	bench_enter(&c[1], "bare", run_steps_bare, s);
	if (bench_contest(name, c, 2, &rules) >= 0)
		bench_print(name, &c[0], &c[1], 1.5);
}

static void bench_steps(void)
{
	struct stepper s = { .page = (size_t)sysconf(_SC_PAGESIZE) };
	const char *path = box_path("steps");
	char *at = bare_place(path, GIB);
	tmc_alloc_t lazy;

	if (!at || bare_make(&s.bare, box_path(""), at, GIB, s.page)) {
		bench_left_out("lazy grow", strerror(errno));
		return;
	}
	tmc_alloc_clear_populate(tmc_alloc_init(&lazy));
	s.arena = tmc_shmem_create(path, &lazy, NULL, GIB);
	if (s.arena && tmc_shmem_grow(s.arena, START) &&
	    !bare_resize(&s.bare, START)) {
		step_row("lazy grow by one page", &s);
		s.clock_shrink = 1;
		step_row("shrink by one untouched page", &s);
		s.touch = 1;
		step_row("shrink by one touched page", &s);
	} else {
		bench_left_out("lazy grow", strerror(errno));
	}
	tmc_shmem_close(s.arena);
	tmc_shmem_unlink(path);
	bare_free(&s.bare);
}

/* ----- two processes that grow one arena ----- */

#define WORKERS 2

/* In memory that parent and workers share. */
struct meeting {
	atomic_uint here;    /* workers at the line */
	unsigned int wanted; /* so many start together */
	size_t grows[WORKERS];
	size_t page;
	double start[WORKERS], end[WORKERS];
};

struct worker {
	const char *path;
	struct meeting *m;
	int index;
};

/*
 * The rounds of two only count where both were at it from the beginning: on a
 * busy machine one of them may have to wait until the other is done. What
 * comes later, also that one has to wait for the other, is the lock's doing.
 */
#define LATE 0.1
#define TRIES 5

struct pair {
	struct peer peer[WORKERS];
	struct meeting *m;
	tmc_shmem_t *arena;
	size_t total;	   /* grows in a round */
	unsigned int turn; /* whose it is when one grows alone */
	double late;	   /* of the last round: part when not all were at it */
};

/* A processor for each, or the kernel has both take turns on one. */
static void have_processor(int index)
{
	cpu_set_t all, mine;
	size_t cpu;
	int nth = 0;

	if (sched_getaffinity(0, sizeof(all), &all))
		return;
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && nth++ == index)
			break;
	CPU_ZERO(&mine);
	if (cpu < CPU_SETSIZE) {
		CPU_SET(cpu, &mine);
		sched_setaffinity(0, sizeof(mine), &mine);
	}
}

static int work(struct peer *self, void *arg)
{
	struct worker *w = arg;
	struct meeting *m = w->m;
	tmc_shmem_t *a = tmc_shmem_open(w->path);
	uint64_t word;
	size_t i;

	have_processor(w->index);
	PEER_CHECK(a && !peer_put(self, 0));
	while (!peer_get(self, &word)) {
		atomic_fetch_add(&m->here, 1);
		while (atomic_load(&m->here) < m->wanted)
			;
		m->start[w->index] = now_ns();
		for (i = 0; i < m->grows[w->index]; i++)
			PEER_CHECK(tmc_shmem_grow(a, m->page));
		m->end[w->index] = now_ns();
		PEER_CHECK(!peer_put(self, 0));
	}
	tmc_shmem_close(a);
	return 0;
}

/* From the first one's start to the last one's end, for each grow. */
static double together(struct pair *p, unsigned int first, unsigned int n)
{
	struct meeting *m = p->m;
	double start = INFINITY, end = 0, last = 0;
	uint64_t word;
	unsigned int i;

	atomic_store(&m->here, 0);
	m->wanted = n;
	for (i = first; i < first + n; i++)
		m->grows[i] = p->total / n;
	for (i = first; i < first + n; i++)
		peer_put(&p->peer[i], 0);
	for (i = first; i < first + n; i++) {
		if (peer_get(&p->peer[i], &word)) {
			errno = ECHILD;
			return -1;
		}
		start = fmin(start, m->start[i]);
		last = fmax(last, m->start[i]);
		end = fmax(end, m->end[i]);
	}
	p->late = (last - start) / (end - start);
	if (tmc_shmem_current_size(p->arena) != p->total * m->page) {
		errno = EUCLEAN;
		return -1;
	}
	if (tmc_shmem_shrink(p->arena, 0, p->total * m->page))
		return -1;
	bench_wall = (end - start) / (double)p->total;
	return bench_wall;
}

static double run_two(void *arg)
{
	struct pair *p = arg;
	double t;
	int i;

	for (i = 0; i < TRIES; i++) {
		t = together(p, 0, WORKERS);
		if (t < 0 || p->late <= LATE)
			return t;
	}
	errno = EBUSY;
	return -1;
}

static double run_one(void *arg)
{
	struct pair *p = arg;

	return together(p, p->turn++ % WORKERS, 1);
}

static void pair_row(const char *name, size_t total, int populate)
{
	const struct rules rules = { 2, 15, 60, 4, 0 };
	const char *path = box_path("pair");
	struct pair p = { .total = total };
	struct worker w[WORKERS];
	tmc_alloc_t attr;
	uint64_t word;
	int i, n = 0;

	if (!bench_wanted(name))
		return;
	if (sysconf(_SC_NPROCESSORS_ONLN) < WORKERS) {
		bench_left_out(name, "one processor");
		return;
	}
	p.m = mmap(NULL, sizeof(*p.m), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	tmc_alloc_init(&attr);
	if (!populate)
		tmc_alloc_clear_populate(&attr);
	p.arena = tmc_shmem_create(path, &attr, NULL, GIB);
	if (p.m == MAP_FAILED || !p.arena) {
		bench_left_out(name, strerror(errno));
		return;
	}
	p.m->page = tmc_shmem_page_size(p.arena);
	for (; n < WORKERS; n++) {
		w[n] = (struct worker){ path, p.m, n };
		if (peer_fork(&p.peer[n], work, &w[n]))
			break;
		if (peer_get(&p.peer[n], &word)) {
			peer_end(&p.peer[n]);
			break;
		}
	}
	bench_enter(&c[0], "two", run_two, &p);
	bench_enter(&c[1], "one", run_one, &p);
	if (n < WORKERS)
		bench_left_out(name, "no workers");
	else if (bench_contest(name, c, 2, &rules) >= 0)
		bench_print(name, &c[0], &c[1], 1);
	/* One may be waiting at the line for another that has died. */
	for (i = 0; i < n; i++)
		peer_kill(&p.peer[i]);
	tmc_shmem_close(p.arena);
	tmc_shmem_unlink(path);
	munmap(p.m, sizeof(*p.m));
}

int main(int argc, char **argv)
{
	struct statfs fs = { 0 };

	if (bench_begin(argc, argv, 25))
		return 1;
	statfs(box_path(""), &fs);
	if (fs.f_type != TMPFS_KIND)
		puts("No right to mount a tmpfs: figures are of another file "
		     "system.");
	bench_heading("arena, one operation");
	bench_reserve();
	bench_open();
	bench_steps();
	bench_heading("two processes (ours), one (bare)");
	pair_row("grow by one page at once, lazy", 40000, 0);
	pair_row("grow by one page at once, populate", 10000, 1);
	return bench_end();
}
