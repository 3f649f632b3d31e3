/* SPDX-License-Identifier: BSD-3-Clause */
/* grow.c - append pages to an arena, and show how far it is */
#include "ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char help[] =
	"usage: shmemctl grow [--no-populate | --populate] PATH BYTES\n"
	"Appends BYTES (as 4096, 64K or 2G), rounded up to pages, to an "
	"arena.\n"
	"All who have it open can use them at once. It grows by all or "
	"nothing.\n"
	"On a terminal it shows on stderr how far it is.\n\n"
	"  --populate     make the pages present now\n"
	"  --no-populate  leave that to whoever touches them first;\n"
	"                 without either it is as create has been told\n"
	"Exit code: 0; 1 it has not grown.\n";

/*
 * The library's call grows by all or nothing and returns when it is done. So
 * it has a thread of its own, and this one looks how many blocks the file has.
 */
struct growth {
	tmc_shmem_t *shm;
	tmc_alloc_t alloc;
	size_t bytes;
	void *start; /* NULL: not done, see err */
	int err;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool over; /* under the mutex */
};

static void *grow(void *arg)
{
	struct growth *g = arg;

	g->start = tmc_alloc_map(&g->alloc, g->bytes);
	g->err = errno;
	pthread_mutex_lock(&g->mutex);
	g->over = true;
	pthread_cond_signal(&g->cond);
	pthread_mutex_unlock(&g->mutex);
	return NULL;
}

/* ----- the bar ----- */

#define PERIOD_NS 100000000L
#define WORTH_IT ((size_t)64 << 20)

static uint64_t blocks(const struct growth *g)
{
	int fd = tmc_shmem_hugefd(g->shm);
	struct stat st;

	if (fstat(fd < 0 ? tmc_shmem_fd(g->shm) : fd, &st))
		return 0;
	return (uint64_t)st.st_blocks * 512;
}

static void draw(uint64_t done, uint64_t all)
{
	char a[CTL_HUMAN], b[CTL_HUMAN];
	unsigned int width, filled, i;

	if (done > all)
		done = all;
	width = ctl_terminal_width(STDERR_FILENO, 80);
	width = width > 30 ? (width > 90 ? 60 : width - 30) : 0;
	filled = (unsigned int)((double)done / (double)all * width);
	fputs("\r[", stderr);
	for (i = 0; i < width; i++)
		fputc(i < filled ? '#' : '.', stderr);
	fprintf(stderr, "] %3u %%  %s of %s\033[K",
		(unsigned int)((double)done / (double)all * 100),
		ctl_human(done, a), ctl_human(all, b));
	fflush(stderr);
}

static void watch(struct growth *g)
{
	uint64_t before = blocks(g), now;
	struct timespec until;

	pthread_mutex_lock(&g->mutex);
	clock_gettime(CLOCK_MONOTONIC, &until);
	while (!g->over) {
		now = blocks(g);
		draw(now > before ? now - before : 0, g->bytes);
		until.tv_nsec += PERIOD_NS;
		if (until.tv_nsec >= 1000000000L) {
			until.tv_nsec -= 1000000000L;
			until.tv_sec++;
		}
		while (!g->over && pthread_cond_timedwait(&g->cond, &g->mutex,
							  &until) != ETIMEDOUT)
			;
	}
	pthread_mutex_unlock(&g->mutex);
	if (g->start)
		draw(g->bytes, g->bytes);
	fputc('\n', stderr);
}

/* ----- the call ----- */

/* errno of it; 0: done. */
static int run(struct growth *g)
{
	bool show = isatty(STDERR_FILENO) && g->bytes >= WORTH_IT &&
		    tmc_alloc_get_populate(&g->alloc);
	pthread_condattr_t attr;
	pthread_t thread;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&g->mutex, NULL);
	pthread_cond_init(&g->cond, &attr);
	if (!show || pthread_create(&thread, NULL, grow, g)) {
		grow(g);
	} else {
		watch(g);
		pthread_join(thread, NULL);
	}
	return g->start ? 0 : g->err;
}

int ctl_grow_by(const char *path, tmc_shmem_t *shm, uint64_t bytes,
		int populate)
{
	struct growth g = { .shm = shm, .bytes = bytes };

	g.alloc = *tmc_shmem_alloc(shm);
	if (populate > 0)
		tmc_alloc_set_populate(&g.alloc);
	else if (!populate)
		tmc_alloc_clear_populate(&g.alloc);
	errno = run(&g);
	return errno ? ctl_room_error(path, shm, bytes) : CTL_OK;
}

int ctl_grow(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "populate", 0, NULL, 'p' },
		{ "no-populate", 0, NULL, 'n' },
		{ "help", 0, NULL, 'h' },
		{ 0 },
	};
	char by[CTL_HUMAN], to[CTL_HUMAN], *clean;
	int c, populate = -1;
	const char *path, *wrong;
	tmc_shmem_t *shm;
	uint64_t bytes;

	while ((c = ctl_option(argc, argv, "hpn", longs, help)) != -1)
		populate = c == 'p';
	path = ctl_words(argc, argv, 2);
	wrong = ctl_parse_size(argv[optind + 1], &bytes);
	if (!wrong && !bytes)
		wrong = "is nothing to grow by";
	if (wrong)
		return ctl_usage("grow", "%s %s", argv[optind + 1], wrong);
	shm = tmc_shmem_open(path);
	if (!shm)
		return ctl_arena_error(path);
	c = ctl_grow_by(path, shm, bytes, populate);
	clean = ctl_clean(path);
	if (!c)
		printf("%s: grown by %s to %s\n", clean,
		       ctl_human(tmc_alloc_size(tmc_shmem_alloc(shm), bytes),
				 by),
		       ctl_human(tmc_shmem_current_size(shm), to));
	free(clean);
	tmc_shmem_close(shm);
	return c;
}
