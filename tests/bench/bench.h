/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench.h - what the benchmarks share: rounds that alternate, and the table.
 *
 * A row compares contenders: ours, first, and one or more ways to do the same
 * work by bare system calls. In each round every contender runs once, in an
 * order that changes at random from round to round, so that what disturbs the
 * machine disturbs all of them, and none profits from what another one left
 * behind in caches and free lists. The figure of a row is the ratio of the
 * median of ours to the lowest median of the others.
 *
 * Clocks. What one process does by itself is measured in processor time, its
 * own and the kernel's for it: on a machine that others use, too, real time is
 * mostly theirs. Three more columns tell how far to trust a ratio: the same
 * from real time ("wall"), that of the minima, which noise can only raise on
 * either side ("mins"), and where the middle half of the rounds lies, each
 * taken by itself ("half"). What two processes do is measured in real time.
 */
#ifndef TESTS_BENCH_H
#define TESTS_BENCH_H

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "box.h"

#define KIB (1UL << 10)
#define MIB (1UL << 20)
#define GIB (1UL << 30)
#define TIB (1UL << 40)

#define BENCH_ROUNDS 1024 /* the most that a contender can keep */
#define BENCH_WAYS 8	  /* the most contenders in a row */

struct contender {
	const char *name;
	/* One round; bench_clock_stop()'s result, or -1: errno has why not.
	 * Sets up and tidies up by itself, while the clock does not run. */
	double (*run)(void *arg);
	void *arg;
	double v[BENCH_ROUNDS];	   /* by round; NAN where it did not run */
	double wall[BENCH_ROUNDS]; /* the same in real time */
	double sorted[BENCH_ROUNDS];
	size_t n;    /* in sorted */
	int dropped; /* hopeless: it runs no more */
};

static inline void bench_enter(struct contender *c, const char *name,
			       double (*run)(void *arg), void *arg)
{
	c->name = name;
	c->run = run;
	c->arg = arg;
}

struct rules {
	size_t warmups; /* rounds that are thrown away */
	size_t min_rounds, max_rounds;
	double budget; /* seconds after which min_rounds are enough, and twice
			* as many after which 3 are */
	int drop;      /* contenders that are hopeless */
};

/* argv[1]: rows whose names do not contain it are not run. */
static const char *bench_only;
static int bench_over;	      /* rows over their target */
static double bench_deadline; /* by now_ns(): no round starts after it */

static inline double clock_ns(clockid_t which)
{
	struct timespec t;

	clock_gettime(which, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline double now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* Real time of the round that has just run, for each operation. */
static double bench_wall;
static double bench_wall_start, bench_start;

static inline void bench_clock_start(void)
{
	bench_wall_start = now_ns();
	bench_start = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* What a contender's run returns after @n operations. */
static inline double bench_clock_stop(size_t n)
{
	double used = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - bench_start;

	bench_wall = (now_ns() - bench_wall_start) / (double)n;
	return used / (double)n;
}

static inline uint64_t bench_random(void)
{
	static uint64_t x = 88172645463325252u; /* xorshift: same every run */

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/* Where all files are. @seconds: what is not done then is left out. 0, -1. */
/*
 * If we may: before what else wants the processors. Without that two growers of
 * an arena were found at anything from 0.07 to 1.5 times the time of one, on a
 * machine with a load of 10; with it at 0.80 to 0.83. In turns (RR), or two that
 * wait for each other in a loop on one processor would do so for good.
 */
static inline void bench_go_first(void)
{
	const struct sched_param lowest = { .sched_priority = 1 };

	if (!sched_setscheduler(0, SCHED_RR, &lowest))
		return;
	setpriority(PRIO_PROCESS, 0, -20);
	puts("No right to real-time priority: others' work is in the figures.");
}

static inline int bench_begin(int argc, char **argv, double seconds)
{
	bench_only = argc > 1 ? argv[1] : NULL;
	bench_deadline = now_ns() + seconds * 1e9;
	if (box_open()) {
		perror(argv[0]);
		return -1;
	}
	bench_go_first();
	return 0;
}

static inline int bench_end(void)
{
	box_close();
	if (bench_over)
		printf("%d over\n", bench_over);
	return 0;
}

/* ----- figures ----- */

static inline int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* @q of the way from the lowest to the highest of @n sorted values. */
static inline double quantile(const double *sorted, size_t n, double q)
{
	double at = q * (double)(n - 1), low = floor(at);
	size_t i = (size_t)low;

	if (i + 1 >= n)
		return sorted[n - 1];
	return sorted[i] + (at - low) * (sorted[i + 1] - sorted[i]);
}

/* Sorts those that are numbers into @out and returns how many there are. */
static inline size_t sort_values(double *out, const double *v, size_t n)
{
	size_t i, kept = 0;

	for (i = 0; i < n; i++)
		if (!isnan(v[i]))
			out[kept++] = v[i];
	qsort(out, kept, sizeof(double), by_value);
	return kept;
}

static inline void sort_rounds(struct contender *c, size_t rounds)
{
	c->n = sort_values(c->sorted, c->v, rounds);
}

static inline double wall_median(const struct contender *c)
{
	double sorted[BENCH_ROUNDS];
	size_t n = sort_values(sorted, c->wall, BENCH_ROUNDS);

	return quantile(sorted, n, 0.5);
}

static inline double median(const struct contender *c)
{
	return quantile(c->sorted, c->n, 0.5);
}

/* "12.3us", for columns of 8. One of 8 buffers that are used in turn. */
static inline const char *duration(double ns)
{
	static char room[8][16];
	static unsigned int next;
	char *s = room[next++ % 8];

	if (ns < 1e3)
		snprintf(s, 16, "%.0fns", ns);
	else if (ns < 1e6)
		snprintf(s, 16, "%.2fus", ns / 1e3);
	else if (ns < 1e9)
		snprintf(s, 16, "%.2fms", ns / 1e6);
	else
		snprintf(s, 16, "%.2fs", ns / 1e9);
	return s;
}

/* ----- the table ----- */

/* Printed before the first row that comes after it. */
static const char *bench_title;

static inline void bench_heading(const char *title)
{
	bench_title = title;
}

static inline void bench_print_heading(void)
{
	if (bench_title)
		printf("\n%-34s %8s %8s %8s | %8s %8s %8s | "
		       "%5s %5s %5s %9s %6s\n",
		       bench_title, "ours", "min", "max", "bare", "min", "max",
		       "ratio", "wall", "mins", "half", "target");
	bench_title = NULL;
}

static inline int bench_wanted(const char *name)
{
	return !bench_only || strstr(name, bench_only);
}

static inline void bench_left_out(const char *name, const char *why)
{
	if (!bench_wanted(name))
		return;
	bench_print_heading();
	printf("%-34s left out: %s\n", name, why);
	fflush(stdout);
}

/*
 * Whether @ratio is within @target. A target of 1 says "not slower", where
 * noise alone would decide: then three quarters of the rounds must be slower.
 */
static inline const char *verdict(double ratio, double quarter, double target)
{
	int over = target > 1 ? ratio > target : quarter > target;

	bench_over += over;
	return over ? "over" : "ok";
}

/* @target 0: none, the row is for the reader. */
static inline void bench_print(const char *name, const struct contender *ours,
			       const struct contender *bare, double target)
{
	double ratio = median(ours) / median(bare), r[BENCH_ROUNDS], low;
	char half[32];
	size_t i, n;

	for (i = 0; i < BENCH_ROUNDS; i++)
		r[i] = ours->v[i] / bare->v[i];
	n = sort_values(r, r, BENCH_ROUNDS);
	low = quantile(r, n, 0.25);
	snprintf(half, sizeof(half), "%.2f-%.2f", low, quantile(r, n, 0.75));
	bench_print_heading();
	printf("%-34s %8s %8s %8s | ", name, duration(median(ours)),
	       duration(ours->sorted[0]), duration(ours->sorted[ours->n - 1]));
	printf("%8s %8s %8s | %5.2f %5.2f %5.2f %9s ", duration(median(bare)),
	       duration(bare->sorted[0]), duration(bare->sorted[bare->n - 1]),
	       ratio, wall_median(ours) / wall_median(bare),
	       ours->sorted[0] / bare->sorted[0], half);
	if (target > 0)
		printf("%6.2f %s\n", target, verdict(ratio, low, target));
	else
		printf("%6s\n", "-");
	fflush(stdout);
}

/* One line for each contender, where a row has more than two. */
static inline void bench_print_ways(const struct contender *c, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		printf("  %-32s %8s %8s %8s   %zu rounds%s\n", c[i].name,
		       duration(median(&c[i])), duration(c[i].sorted[0]),
		       duration(c[i].sorted[c[i].n - 1]), c[i].n,
		       c[i].dropped ? ", out of the running" : "");
}

/* ----- rounds ----- */

static inline void shuffle(size_t *order, size_t n)
{
	size_t i, j, t;

	for (i = n; i > 1; i--) {
		j = bench_random() % i;
		t = order[i - 1];
		order[i - 1] = order[j];
		order[j] = t;
	}
}

/*
 * A way that at its best takes this much more than the best has lost: after
 * the first round, and after the third.
 */
#define HOPELESS_FIRST 3.0
#define HOPELESS_THIRD 1.15

static inline void drop_hopeless(struct contender *c, size_t n, size_t rounds)
{
	double limit = rounds < 3 ? HOPELESS_FIRST : HOPELESS_THIRD;
	double best = INFINITY;
	size_t i;

	for (i = 1; i < n; i++) {
		sort_rounds(&c[i], rounds);
		best = fmin(best, c[i].sorted[0]);
	}
	for (i = 1; i < n; i++)
		if (c[i].sorted[0] > limit * best)
			c[i].dropped = 1;
}

/* One round; @round below 0: thrown away. 0, or -1 with errno and @failed. */
static inline int bench_round(struct contender *c, size_t n, long round,
			      const char **failed)
{
	size_t order[BENCH_WAYS], i;

	for (i = 0; i < n; i++)
		order[i] = i;
	shuffle(order, n);
	for (i = 0; i < n; i++) {
		struct contender *k = &c[order[i]];
		double t = k->dropped ? NAN : k->run(k->arg);

		if (t < 0) {
			*failed = k->name;
			return -1;
		}
		if (round >= 0 && !k->dropped) {
			k->v[round] = t;
			k->wall[round] = bench_wall;
		}
	}
	return 0;
}

static inline int enough(const struct rules *rules, double start, long round)
{
	double now = now_ns(), spent = (now - start) / 1e9;

	if (round >= (long)rules->max_rounds)
		return 1;
	if (round >= (long)rules->min_rounds && spent > rules->budget)
		return 1;
	return (round >= 3 && spent > 2 * rules->budget) ||
	       now > bench_deadline;
}

/*
 * Runs a row's rounds. Index of the fastest contender but the first, or -1
 * with a line that says what failed.
 */
static inline int bench_contest(const char *name, struct contender *c, size_t n,
				const struct rules *rules)
{
	double start = now_ns();
	const char *failed;
	char why[256];
	long round = -(long)rules->warmups;
	size_t i, r, best = 1;

	for (i = 0; i < n; i++) {
		c[i].dropped = 0;
		for (r = 0; r < BENCH_ROUNDS; r++)
			c[i].v[r] = c[i].wall[r] = NAN;
	}
	for (; !enough(rules, start, round); round++) {
		if (bench_round(c, n, round, &failed)) {
			snprintf(why, sizeof(why), "%s: %s", failed,
				 strerror(errno));
			bench_left_out(name, why);
			return -1;
		}
		if (rules->drop && (round == 0 || round == 2))
			drop_hopeless(c, n, (size_t)round + 1);
	}
	if (round < 1) {
		bench_left_out(name, "no time left, the machine is busy");
		return -1;
	}
	for (i = 0; i < n; i++)
		sort_rounds(&c[i], (size_t)round);
	for (i = 2; i < n; i++)
		if (median(&c[i]) < median(&c[best]))
			best = i;
	return (int)best;
}

#endif
