/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_odp.c - what the calls of examples/odp_shm take.
 *
 * Each figure is the median of rounds, processor time of one process for one
 * call, its own and the kernel's; "4 together" is that of the slowest of four
 * processes at once. A round is 1,000 calls, or what fits into 64 MiB: all
 * blocks are reserved, looked up, and freed; "all" is one block that is
 * reserved, looked up and freed again and again. (The former has the kernel
 * bring and take pages, as the heap keeps just some for itself.) ODP's own
 * reserve was measured at 30 to 90 us with SINGLE_VA, whatever the size.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../examples/odp_shm/odp_shm.h"
#include "box.h"

#define CALLS 1000
#define ROUNDS 21
#define TOGETHER 4

enum { RESERVE, LOOKUP, ADDR, FREE, CYCLE, KINDS };

struct result {
	double us[KINDS];
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* One round with @n blocks there at a time; microseconds of a call. */
static void run(int n, uint64_t size, uint64_t align, double *us)
{
	static odp_shm_t shm[CALLS];
	static char name[CALLS][ODP_SHM_NAME_LEN];
	double t;
	int i;

	for (i = 0; i < n; i++)
		snprintf(name[i], sizeof(name[i]), "%d-%d", (int)getpid(), i);
	t = now();
	for (i = 0; i < n; i++)
		shm[i] = odp_shm_reserve(name[i], size, align, ODP_SHM_NO_HP);
	us[RESERVE] = now() - t;
	t = now();
	for (i = 0; i < n; i++)
		if (odp_shm_lookup(name[i]) != shm[i] || !shm[i])
			exit(3);
	us[LOOKUP] = now() - t;
	t = now();
	for (i = 0; i < n; i++)
		if (!odp_shm_addr(shm[i]))
			exit(3);
	us[ADDR] = now() - t;
	t = now();
	for (i = 0; i < n; i++)
		odp_shm_free(shm[i]);
	us[FREE] = now() - t;
	/* One block that comes and goes. */
	t = now();
	for (i = 0; i < n; i++) {
		odp_shm_reserve(name[i], size, align, ODP_SHM_NO_HP);
		odp_shm_free(odp_shm_lookup(name[i]));
	}
	us[CYCLE] = now() - t;
	for (i = 0; i < KINDS; i++)
		us[i] /= n;
}

static void measure(int n, uint64_t size, uint64_t align, struct result *out)
{
	static double us[KINDS][ROUNDS];
	double one[KINDS];
	int r, k;

	for (r = -2; r < ROUNDS; r++) {
		run(n, size, align, one);
		for (k = 0; r >= 0 && k < KINDS; k++)
			us[k][r] = one[k];
	}
	for (k = 0; k < KINDS; k++) {
		qsort(us[k], ROUNDS, sizeof(double), compare);
		out->us[k] = us[k][ROUNDS / 2];
	}
}

static void show(const char *what, const struct result *r)
{
	printf("%-24s %9.3f %9.3f %9.3f %9.3f %9.3f\n", what, r->us[RESERVE],
	       r->us[LOOKUP], r->us[ADDR], r->us[FREE], r->us[CYCLE]);
	fflush(stdout);
}

static void row(const char *what, uint64_t size, uint64_t align)
{
	uint64_t most = ((uint64_t)64 << 20) / size;
	struct result r;

	measure(most < CALLS ? (int)most : CALLS, size, align, &r);
	show(what, &r);
}

/* One of four that do the same at once, the slowest. */
static void together(const char *what, uint64_t size)
{
	struct result *r =
		mmap(NULL, sizeof(*r) * TOGETHER, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid[TOGETHER];
	int i, slowest = 0;

	if (r == MAP_FAILED)
		return;
	for (i = 0; i < TOGETHER; i++)
		if ((pid[i] = fork()) == 0) {
			measure(CALLS, size, 0, &r[i]);
			_exit(0);
		}
	for (i = 0; i < TOGETHER; i++)
		if (waitpid(pid[i], NULL, 0) < 0)
			return;
	for (i = 1; i < TOGETHER; i++)
		if (r[i].us[CYCLE] > r[slowest].us[CYCLE])
			slowest = i;
	show(what, &r[slowest]);
}

int main(void)
{
	odp_shm_setup_t lazy = { .lazy_size = (uint64_t)1 << 20 };
	odp_instance_t instance;

	if (box_open() || setenv("ODP_SHM_DIR", box_path(""), 1) ||
	    odp_shm_init_global(&instance, NULL)) {
		perror("bench_odp");
		return 1;
	}
	printf("microseconds a call %25s %9s %9s %9s %9s\n", "reserve",
	       "lookup", "addr", "free", "all");
	row("64 bytes", 64, 0);
	row("4 KiB", 4096, 0);
	row("4 KiB, page aligned", 4096, 4096);
	together("4 KiB, 4 together", 4096);
	row("64 KiB", 65536, 0);
	row("1 MiB", (uint64_t)1 << 20, 0);
	row("16 MiB", (uint64_t)16 << 20, 0);
	if (odp_shm_term_global(instance) ||
	    odp_shm_init_global(&instance, &lazy))
		return 1;
	row("1 MiB, at first touch", (uint64_t)1 << 20, 0);
	row("16 MiB, at first touch", (uint64_t)16 << 20, 0);
	odp_shm_term_global(instance);
	box_close();
	return 0;
}
