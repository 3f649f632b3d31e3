/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * work.c - the heap benchmark's workloads; a program for each allocator.
 *
 *	work-NAME WORKLOAD 1|2t|2p PATH
 *
 * One worker, two threads, or two processes (on one heap where the allocator
 * can share, each with its own where it cannot). Prints nanoseconds for each
 * malloc with its free, "wall N cpu N": the best of SLICES stretches of time,
 * since others on the machine can only make one slower. With two workers,
 * they are divided by what both have done; cpu is halved, to be like wall.
 * "first" and "frag" run once; see there.
 *
 * Every block's first word is written, and looked at before it is freed.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "adapter.h"

#define SLICES 9
#define SLICE_NS 20e6
#define BATCH 1000u /* blocks of batch, and in one array of larson */
#define TABLES 16u
#define RING 1024u
#define PUBLISH 16u
#define LARGE 16u /* blocks that live at once in large */

/* What the workers share. */
static struct ctl {
	_Atomic int made, there, stop, failed;
	struct {
		_Alignas(64) _Atomic uint64_t done; /* written by its worker */
	} count[2];
	_Alignas(64) _Atomic uint64_t put; /* blocks that went into ring */
	_Alignas(64) _Atomic uint64_t got;
	uint64_t ring[RING];
	/* larson: two workers have an array each, the third one's number is
	 * in spare. */
	_Alignas(64) _Atomic uint32_t spare;
	uint64_t array[3][BATCH];
} * ctl;

struct worker {
	_Alignas(64) unsigned int nr;
	uint64_t x; /* random state */
	unsigned int table;
	uint32_t mine; /* larson: array */
	uint64_t at;   /* xfree: how far it is */
	uint64_t seen; /* and the other one, as last read */
	void *block[BATCH];
	uint64_t done;
};

static uint16_t sizes[TABLES][BATCH], order[TABLES][BATCH];

static void die(const char *what)
{
	atomic_store(&ctl->failed, 1);
	fprintf(stderr, "%s: %s: %s\n", NAME, what, strerror(errno));
	_exit(1);
}

static double clock_ns(clockid_t which)
{
	struct timespec t;

	clock_gettime(which, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static inline size_t small_size(uint64_t *x)
{
	return 16 + (next(x) >> 20) % 1009;
}

static inline void *take_marked(size_t n)
{
	void *p = take(n);

	if (!p)
		die("out of memory");
	*(volatile uint64_t *)p = as_word(p);
	return p;
}

static inline void give_marked(void *p)
{
#if !defined(USE_EMPTY)
	if (*(volatile uint64_t *)p != as_word(p))
		die("a block was overwritten");
#endif
	give(p);
}

static int over(void)
{
	return atomic_load_explicit(&ctl->stop, memory_order_relaxed) ||
	       atomic_load_explicit(&ctl->failed, memory_order_relaxed);
}

/* A while in a loop that waits for the other worker. */
static void wait_a_bit(unsigned int *n)
{
	if (++*n % 1024 == 0)
		sched_yield();
	else
		__builtin_ia32_pause();
}

/* ----- workloads; each call is some thousand blocks ----- */

static void pair(struct worker *w)
{
	int i;

	for (i = 0; i < 4000; i++)
		give_marked(take_marked(64));
	w->done += 4000;
}

static void batch(struct worker *w)
{
	const uint16_t *s = sizes[w->table], *o = order[w->table];
	unsigned int i;

	for (i = 0; i < BATCH; i++)
		w->block[i] = take_marked(s[i]);
	for (i = 0; i < BATCH; i++)
		give_marked(w->block[o[i]]);
	w->table = (w->table + 1) % TABLES;
	w->done += BATCH;
}

/* 32 KiB to 1 MiB, all orders of magnitude alike; LARGE of them live. */
static void large(struct worker *w)
{
	int i;

	for (i = 0; i < 100; i++) {
		uint64_t r = next(&w->x);
		unsigned int slot = (r >> 40) % LARGE;
		size_t unit = (32UL << 10) << (r >> 50) % 5;

		if (w->block[slot])
			give_marked(w->block[slot]);
		w->block[slot] = take_marked(unit + (r >> 8) % unit);
	}
	w->done += 100;
}

/*
 * Worker 0 allocates, worker 1 frees. Each tells the other how far it is once
 * in PUBLISH blocks.
 */
static void xfree_put(struct worker *w)
{
	unsigned int i, n = 0;
	uint64_t at = w->at;

	for (i = 0; i < BATCH; i++, at++) {
		void *p = take_marked(sizes[w->table][i]);

		while (at - w->seen >= RING) {
			w->seen = atomic_load_explicit(&ctl->got,
						       memory_order_acquire);
			if (over())
				return;
			if (at - w->seen >= RING)
				wait_a_bit(&n);
		}
		ctl->ring[at % RING] = as_word(p);
		if ((at + 1) % PUBLISH == 0)
			atomic_store_explicit(&ctl->put, at + 1,
					      memory_order_release);
	}
	w->at = at;
	w->table = (w->table + 1) % TABLES;
}

static void xfree_get(struct worker *w)
{
	unsigned int i, n = 0;
	uint64_t at = w->at;

	for (i = 0; i < BATCH; i++, at++) {
		while (at == w->seen) {
			w->seen = atomic_load_explicit(&ctl->put,
						       memory_order_acquire);
			if (over())
				return;
			if (at == w->seen)
				wait_a_bit(&n);
		}
		give_marked(from_word(ctl->ring[at % RING]));
		if ((at + 1) % PUBLISH == 0)
			atomic_store_explicit(&ctl->got, at + 1,
					      memory_order_release);
	}
	w->at = at;
	w->done += BATCH;
}

static void xfree(struct worker *w)
{
	if (w->nr == 0)
		xfree_put(w);
	else
		xfree_get(w);
}

static void fill_array(struct worker *w, uint64_t *a)
{
	unsigned int i;

	for (i = 0; i < BATCH; i++)
		a[i] = as_word(take_marked(small_size(&w->x)));
}

static void larson_begin(struct worker *w)
{
	w->mine = w->nr;
	fill_array(w, ctl->array[w->nr]);
	if (w->nr == 0) {
		fill_array(w, ctl->array[2]);
		atomic_store(&ctl->spare, 2);
	}
}

/*
 * Replaces blocks of its array at random; then lays that aside and goes on
 * with the one that lies there, which is mostly the other worker's last.
 */
static void larson(struct worker *w)
{
	uint64_t *a = ctl->array[w->mine];
	unsigned int i;

	for (i = 0; i < BATCH; i++) {
		uint64_t *slot = a + (next(&w->x) >> 30) % BATCH;

		give_marked(from_word(*slot));
		*slot = as_word(take_marked(small_size(&w->x)));
	}
	w->mine = atomic_exchange_explicit(&ctl->spare, w->mine,
					   memory_order_acq_rel);
	w->done += BATCH;
}

/* ----- what runs once, in a process that has done nothing yet ----- */

/* The first blocks of a heap, written from end to end. The heap is there, and
 * empty; its making is not counted. */
static void first(void)
{
	enum { N = 10000 };
	static void *block[N]; /* not the heap's, and its pages are there */
	const uint16_t *s = sizes[0];
	double u;
	unsigned int i;

	memset(block, 1, sizeof(block));
	u = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	for (i = 0; i < N; i++) {
		block[i] = take(s[i]);
		if (!block[i])
			die("out of memory");
		memset(block[i], 1, s[i]);
	}
	u = clock_ns(CLOCK_THREAD_CPUTIME_ID) - u;
	printf("cpu %.3f\n", u / N);
}

/* Memory that the process has of its own, and what the heap's file has. */
static double footprint(const char *file)
{
	char line[128];
	struct stat st;
	double kib = 0, bytes;
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %lf", &kib) == 1)
			break;
	if (!f)
		die("/proc/self/status");
	fclose(f);
	bytes = kib * 1024;
	if (*file && stat(file, &st))
		die(file);
	if (*file)
		bytes += (double)st.st_blocks * 512;
	return bytes;
}

#define FRAG 100000u /* blocks */
static struct {
	void *block[FRAG];
	uint16_t size[FRAG];
	double live; /* bytes in blocks */
} * set;

static void set_take(struct worker *w, uint64_t i)
{
	set->size[i] = (uint16_t)small_size(&w->x);
	set->block[i] = take_marked(set->size[i]);
	set->live += set->size[i];
}

static void set_give(uint64_t i)
{
	give_marked(set->block[i]);
	set->live -= set->size[i];
}

static void set_replace(struct worker *w, uint64_t n, uint64_t times)
{
	uint64_t i;

	while (times-- > 0) {
		i = (next(&w->x) >> 20) % n;
		set_give(i);
		set_take(w, i);
	}
}

/* Bytes of small pages that @n live blocks lie in; a table of hashes. */
static double pages_held(uint64_t n)
{
	static uint64_t seen[8 * FRAG / 5];
	const uint64_t room = sizeof(seen) / sizeof(*seen);
	uint64_t i, page, last, at, pages = 0;

	memset(seen, 0, sizeof(seen));
	for (i = 0; i < n; i++) {
		page = (uintptr_t)set->block[i] / 4096;
		last = ((uintptr_t)set->block[i] + set->size[i] - 1) / 4096;
		for (; page <= last; page++) {
			at = page * 0x9e3779b97f4a7c15u % room;
			while (seen[at] && seen[at] != page)
				at = (at + 1) % room;
			pages += !seen[at];
			seen[at] = page;
		}
	}
	return (double)pages * 4096;
}

/*
 * Memory divided by bytes in live blocks: "frag" after replacing at random,
 * 20 times as many as there are; "cut" after freeing all but a fifth, at
 * random, and "held", which is as low as cut can be if blocks stay where they
 * are; "later" after replacing 10 times as many as are left; "trimmed" after
 * asking the allocator to give back what it can.
 */
static void frag(struct worker *w, const char *file)
{
	uint64_t n = 0, i;
	double none;

	set = mmap(NULL, sizeof(*set), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (set == MAP_FAILED)
		die("no memory");
	pages_held(0); /* its table's pages are no heap's */
	none = footprint("");
	while (n < FRAG)
		set_take(w, n++);
	set_replace(w, n, 20 * n);
	printf("frag %.4f ", (footprint(file) - none) / set->live);
	while (n > FRAG / 5) {
		i = (next(&w->x) >> 20) % n--;
		set_give(i);
		set->block[i] = set->block[n];
		set->size[i] = set->size[n];
	}
	printf("cut %.4f ", (footprint(file) - none) / set->live);
	printf("held %.4f ", pages_held(n) / set->live);
	set_replace(w, n, 10 * n);
	printf("later %.4f ", (footprint(file) - none) / set->live);
	heap_trim();
	printf("trimmed %.4f\n", (footprint(file) - none) / set->live);
}

/* ----- the workers ----- */

static const struct workload {
	const char *name;
	void (*begin)(struct worker *w);
	void (*run)(struct worker *w);
} workloads[] = {
	{ "pair", NULL, pair },
	{ "batch", NULL, batch },
	{ "large", NULL, large },
	{ "xfree", NULL, xfree },
	{ "larson", larson_begin, larson },
};

static const struct workload *load;
static struct worker workers[2];
static unsigned int nworkers = 1;
static clockid_t cpu_of[2];

static double cpu_used(void)
{
	double sum = 0;
	unsigned int i;

	for (i = 0; i < nworkers; i++)
		sum += clock_ns(cpu_of[i]);
	return sum;
}

static uint64_t work_done(void)
{
	return atomic_load_explicit(&ctl->count[0].done, memory_order_relaxed) +
	       atomic_load_explicit(&ctl->count[1].done, memory_order_relaxed);
}

static void step(struct worker *w)
{
	load->run(w);
	atomic_store_explicit(&ctl->count[w->nr].done, w->done,
			      memory_order_relaxed);
}

/* Two workers are kept apart, each on a processor of its own. */
static void pin(unsigned int nr)
{
	cpu_set_t may, one;
	unsigned int i, seen = 0;

	if (nworkers == 1 || sched_getaffinity(0, sizeof(may), &may))
		return;
	CPU_ZERO(&one);
	for (i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &may) && seen++ == nr)
			CPU_SET(i, &one);
	if (CPU_COUNT(&one))
		sched_setaffinity(0, sizeof(one), &one);
}

static void begin(struct worker *w, unsigned int nr)
{
	w->nr = nr;
	w->x = 88172645463325252u + nr * 977;
#if defined(USE_EMPTY)
	empty_place = empty_memory + nr * EMPTY_LEN;
#endif
	pin(nr);
	if (load && load->begin)
		load->begin(w);
	atomic_fetch_add(&ctl->there, 1);
	while (atomic_load(&ctl->there) != (int)nworkers && !over())
		sched_yield();
}

static void *follow(void *worker)
{
	struct worker *w = worker;

	begin(w, 1);
	while (!over())
		step(w);
	return NULL;
}

/* Works, too, and looks now and then what all have done. */
static void lead(struct worker *w)
{
	double wall = 1e18, cpu = 1e18, t0, u0, t, u;
	uint64_t c0, c;
	int slice;

	begin(w, 0);
	/* The first one is to warm up. */
	for (slice = -1; slice < SLICES && !over(); slice++) {
		/* The other one goes on between these: what it did must lie
		 * within the time, or waiting here would look like speed. */
		u0 = cpu_used();
		t0 = clock_ns(CLOCK_MONOTONIC);
		c0 = work_done();
		do {
			step(w);
			c = work_done();
			t = clock_ns(CLOCK_MONOTONIC);
		} while ((t - t0 < SLICE_NS || c == c0) && !over());
		u = cpu_used();
		if (slice < 0 || c == c0)
			continue;
		t = (t - t0) / (double)(c - c0);
		u = (u - u0) / (double)(c - c0) / nworkers;
		wall = t < wall ? t : wall;
		cpu = u < cpu ? u : cpu;
	}
	if (atomic_load(&ctl->failed))
		die("the other worker failed");
	atomic_store(&ctl->stop, 1);
	printf("wall %.3f cpu %.3f\n", wall, cpu);
}

static void make_heap(const char *path, unsigned int nr)
{
	char own[256];

	snprintf(own, sizeof(own), "%s.%u", path, nr);
	if (heap_make(SHARED ? path : own))
		die("cannot make a heap");
	atomic_store(&ctl->made, 1);
}

static void end_heap(const char *path, unsigned int nr)
{
	char own[256];

	snprintf(own, sizeof(own), "%s.%u", path, nr);
	heap_end(SHARED ? path : own);
}

static void second_process(const char *path)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (SHARED) {
		while (!atomic_load(&ctl->made) && !over())
			sched_yield();
		if (heap_join(path))
			die("cannot join the heap");
	} else {
		make_heap(path, 1);
	}
	follow(&workers[1]);
	if (!SHARED)
		end_heap(path, 1);
	_exit(0);
}

static void two_processes(const char *path)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0)
		second_process(path);
	clock_getcpuclockid(pid, &cpu_of[1]);
	make_heap(path, 0);
	lead(&workers[0]);
	waitpid(pid, NULL, 0);
}

static void two_threads(const char *path)
{
	pthread_t t;

	make_heap(path, 0);
	if (pthread_create(&t, NULL, follow, &workers[1]))
		die("thread");
	pthread_getcpuclockid(t, &cpu_of[1]);
	lead(&workers[0]);
	pthread_join(t, NULL);
}

static void run_once(const char *what, const char *path)
{
	struct worker *w = &workers[0];
	char own[256], file[512];

	nworkers = 1;
	make_heap(path, 0);
	begin(w, 0);
	snprintf(own, sizeof(own), "%s.0", path);
	heap_file(SHARED ? path : own, file, sizeof(file));
	if (!strcmp(what, "first"))
		first();
	else
		frag(w, file);
}

static void make_tables(void)
{
	uint64_t x = 2463534242u;
	unsigned int t, i, j;
	uint16_t swap;

	for (t = 0; t < TABLES; t++)
		for (i = 0; i < BATCH; i++) {
			sizes[t][i] = (uint16_t)small_size(&x);
			order[t][i] = (uint16_t)i;
		}
	for (t = 0; t < TABLES; t++)
		for (i = BATCH - 1; i > 0; i--) {
			j = (unsigned int)((next(&x) >> 20) % (i + 1));
			swap = order[t][i];
			order[t][i] = order[t][j];
			order[t][j] = swap;
		}
}

/*
 * If we may: before what else wants the processors. Where the kernel shares
 * time out between sessions first, that takes a session of our own.
 */
static void go_first(void)
{
	const struct sched_param lowest = { .sched_priority = 1 };
	FILE *f;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* an interrupt passes a session by */
	setsid();
	/* In turns (RR): two may have to wait for each other. */
	if (!sched_setscheduler(0, SCHED_RR, &lowest))
		return;
	setpriority(PRIO_PROCESS, 0, -20);
	f = fopen("/proc/self/autogroup", "w");
	if (f) {
		fputs("-20", f);
		fclose(f);
	}
}

static int usage(void)
{
	fprintf(stderr, "work-%s WORKLOAD 1|2t|2p PATH\n", NAME);
	return 2;
}

int main(int argc, char **argv)
{
	unsigned int i;
	int once;

	if (argc != 4)
		return usage();
	for (i = 0; i < sizeof(workloads) / sizeof(*workloads); i++)
		if (!strcmp(workloads[i].name, argv[1]))
			load = &workloads[i];
	once = !strcmp(argv[1], "first") || !strcmp(argv[1], "frag");
	if (!load && !once)
		return usage();
	ctl = mmap(NULL, sizeof(*ctl), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (ctl == MAP_FAILED)
		return 1;
#if defined(USE_EMPTY)
	if (empty_begin())
		return 1;
#endif
	go_first();
	make_tables();
	nworkers = argv[2][0] == '2' ? 2 : 1;
	cpu_of[0] = CLOCK_THREAD_CPUTIME_ID;
	if (once) {
		run_once(argv[1], argv[3]);
	} else if (!strcmp(argv[2], "2p")) {
		two_processes(argv[3]);
	} else if (!strcmp(argv[2], "2t")) {
		two_threads(argv[3]);
	} else {
		make_heap(argv[3], 0);
		lead(&workers[0]);
	}
	end_heap(argv[3], 0);
	return 0;
}
