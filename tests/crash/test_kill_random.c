/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_kill_random.c - processes with several threads grow, shrink, open,
 * close and fork, and one of them is killed every few milliseconds.
 *
 * Each thread keeps a book, in memory that the test shares with it, of the
 * ranges of the arena that are its own: what it has grown it alone may give
 * back, so all that the books call OWNED, by the living and the dead, must be
 * in the arena when all are dead, with what was written there, none of it
 * twice. SEED repeats the random choices, not their timing; with SOAK there
 * are more.
 */
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <shmem.h>

#include "peer.h"
#include "probe.h"

#define PROCESSES 4
#define THREADS 3
#define RANGES 5
#define KILLS_EACH 120 /* of a round, which has an arena of its own */
#define LIVES (PROCESSES + KILLS_EACH)
#define CALLS_PER_KILL 100 /* of all threads together, about */
#define BIG_PAGES 1030	   /* more than 4 MiB of small pages */
#define HUGE_PAGE (2 * MIB)
#define HUGE_POOL 48
#define HANGS_S 60

enum { FREE, GROWING, OWNED, SHRINKING };

struct range {
	_Atomic int state;
	size_t off, len; /* bytes */
	uint64_t stamp;	 /* what is written there depends on it */
};

struct book {
	struct range range[RANGES];
	uint64_t calls, slow;
	uint64_t worst_ns; /* of a call that may wait for the lock */
};

struct round {
	const char *path;
	size_t page;
	int pace;   /* a pipe: bytes from the threads, now and then, */
	int killer; /* and its other end */
	unsigned int huge;
	uint64_t seed;
	struct book *books; /* [LIVES][THREADS] */
};

struct life {
	struct round *r;
	unsigned int nth;
	tmc_shmem_t *shm;
};

struct actor {
	struct life *life;
	struct book *book;
	uint64_t rng;
	uint64_t stamps;
	pthread_t thread;
};

static uint64_t random_word(uint64_t *r)
{
	*r ^= *r >> 12;
	*r ^= *r << 25;
	*r ^= *r >> 27;
	return *r * 0x2545f4914f6cdd1du;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void note_time(struct book *b, uint64_t t0)
{
	uint64_t ns = now_ns() - t0;

	b->calls++;
	if (ns > b->worst_ns)
		b->worst_ns = ns;
	if (ns > 900000000u)
		b->slow++;
}

/* A word at the start of each 4 KiB, and one near their end. */
static void fill(char *at, const struct range *g)
{
	size_t i;

	for (i = 0; i < g->len; i += 4096) {
		uint64_t w[2] = { g->stamp + i, ~(g->stamp + i) };

		memcpy(at + i, &w[0], 8);
		memcpy(at + i + 4000, &w[1], 8);
	}
}

static int is_filled(const char *at, const struct range *g)
{
	size_t i;

	for (i = 0; i < g->len; i += 4096) {
		uint64_t w[2] = { g->stamp + i, ~(g->stamp + i) };

		if (memcmp(at + i, &w[0], 8) || memcmp(at + i + 4000, &w[1], 8))
			return 0;
	}
	return 1;
}

/* ----- what the threads do; 0, or 1 for what must not be ----- */

static char *base_of(const struct actor *a)
{
	return tmc_shmem_address(a->life->shm);
}

static int do_grow(struct actor *a, struct range *g)
{
	const struct round *r = a->life->r;
	uint64_t which = random_word(&a->rng), t0;
	size_t npages = 1 + (which >> 8) % 4;
	char *at;

	if (r->huge)
		npages = 1 + (which >> 8) % 3;
	else if (which % 200 == 0)
		npages = BIG_PAGES;
	atomic_store(&g->state, GROWING);
	t0 = now_ns();
	at = tmc_shmem_grow(a->life->shm, npages * r->page);
	note_time(a->book, t0);
	if (!at) {
		PEER_CHECK(errno == ENOMEM);
		atomic_store(&g->state, FREE);
		return 0;
	}
	g->off = (size_t)(at - base_of(a));
	g->len = npages * r->page;
	g->stamp = (uint64_t)a->life->nth << 48 | ++a->stamps << 24 |
		   (uintptr_t)a % 4096;
	PEER_CHECK(tmc_shmem_current_size(a->life->shm) >= g->off + g->len);
	PEER_CHECK(probe_zero(at, g->len));
	fill(at, g);
	atomic_store(&g->state, OWNED);
	return 0;
}

/* Only the tail goes: it fails where others have grown since. */
static int do_shrink(struct actor *a, struct range *g)
{
	uint64_t t0 = now_ns();
	int rc;

	PEER_CHECK(is_filled(base_of(a) + g->off, g));
	atomic_store(&g->state, SHRINKING);
	rc = tmc_shmem_shrink(a->life->shm, (off_t)g->off, g->len);
	note_time(a->book, t0);
	PEER_CHECK(rc == 0 || errno == EINVAL);
	atomic_store(&g->state, rc ? OWNED : FREE);
	return 0;
}

static int do_open(struct actor *a)
{
	uint64_t t0 = now_ns();
	tmc_shmem_t *shm = tmc_shmem_open(a->life->r->path);

	note_time(a->book, t0);
	PEER_CHECK(shm);
	PEER_CHECK(tmc_shmem_address(shm) == base_of(a));
	PEER_CHECK(tmc_shmem_current_size(shm) <= tmc_shmem_maximum_size(shm));
	tmc_shmem_close(shm);
	return 0;
}

/* A child, forked while other threads are in the middle of calls. */
static int do_fork(struct actor *a)
{
	size_t page = a->life->r->page;
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		char *at;

		alarm(HANGS_S);
		at = tmc_shmem_grow(a->life->shm, page);
		if (!at)
			_exit(errno != ENOMEM);
		if (*at || at[page - 1])
			_exit(2);
		*at = 1;
		tmc_shmem_shrink(a->life->shm, at - base_of(a), page);
		_exit(0);
	}
	PEER_CHECK(pid > 0);
	PEER_CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	return 0;
}

/* The range with the highest offset is the one that may be the tail. */
static struct range *last_range(struct book *b)
{
	struct range *last = NULL;
	int i;

	for (i = 0; i < RANGES; i++)
		if (b->range[i].state == OWNED &&
		    (!last || b->range[i].off > last->off))
			last = &b->range[i];
	return last;
}

static int do_something(struct actor *a)
{
	uint64_t w = random_word(&a->rng);
	struct range *g = &a->book->range[(w >> 32) % RANGES];

	w %= 64;
	if (w == 0)
		return do_fork(a);
	if (w < 5)
		return do_open(a);
	if (w < 35)
		return g->state == FREE ? do_grow(a, g) : 0;
	if (w < 55) {
		g = last_range(a->book);
		return g ? do_shrink(a, g) : 0;
	}
	PEER_CHECK(g->state != OWNED || is_filled(base_of(a) + g->off, g));
	return 0;
}

static void *actor_thread(void *arg)
{
	struct actor *a = arg;

	while (!do_something(a))
		if (random_word(&a->rng) % CALLS_PER_KILL == 0 &&
		    write(a->life->r->pace, "", 1) < 0)
			break;
	_exit(3); /* which the killer sees */
}

/* Lives until it is killed. */
static int live(struct peer *self, void *arg)
{
	struct life *l = arg;
	struct actor actor[THREADS];
	int i;

	(void)self;
	l->shm = tmc_shmem_open(l->r->path);
	PEER_CHECK(l->shm);
	for (i = 0; i < THREADS; i++) {
		actor[i] = (struct actor){
			.life = l,
			.book = &l->r->books[l->nth * THREADS +
					     (unsigned int)i],
			.rng = l->r->seed + l->nth * THREADS + (unsigned int)i +
			       1,
		};
		PEER_CHECK(pthread_create(&actor[i].thread, NULL, actor_thread,
					  &actor[i]) == 0);
	}
	pthread_join(actor[0].thread, NULL);
	return 4;
}

/* ----- afterwards ----- */

static int by_offset(const void *a, const void *b)
{
	const struct range *const *l = a, *const *r = b;

	return (*l)->off < (*r)->off ? -1 : (*l)->off > (*r)->off;
}

static int check_books(struct round *r, const char *base, size_t size)
{
	static struct range *owned[LIVES * THREADS * RANGES];
	size_t n = 0, i;

	for (i = 0; i < LIVES * THREADS * RANGES; i++) {
		struct range *g = &r->books[i / RANGES].range[i % RANGES];

		if (g->state == OWNED)
			owned[n++] = g;
	}
	qsort(owned, n, sizeof(owned[0]), by_offset);
	for (i = 0; i < n; i++) {
		PEER_CHECK(owned[i]->off + owned[i]->len <= size);
		PEER_CHECK(is_filled(base + owned[i]->off, owned[i]));
		if (i)
			PEER_CHECK(owned[i - 1]->off + owned[i - 1]->len <=
				   owned[i]->off);
	}
	return 0;
}

/* A new process, when nobody else has the arena open. */
static int check_round(struct peer *self, void *arg)
{
	struct round *r = arg;
	tmc_shmem_t *shm;
	char *base, *at;
	size_t size;

	(void)self;
	alarm(HANGS_S);
	shm = tmc_shmem_open(r->path);
	PEER_CHECK(shm);
	base = tmc_shmem_address(shm);
	size = tmc_shmem_current_size(shm);
	if (check_books(r, base, size))
		return 1;
	at = tmc_shmem_grow(shm, r->page);
	if (at) {
		PEER_CHECK(at == base + size && probe_zero(at, r->page));
		PEER_CHECK(tmc_shmem_shrink(shm, (off_t)size, r->page) == 0);
	} else {
		PEER_CHECK(errno == ENOMEM);
	}
	if (size)
		PEER_CHECK(tmc_shmem_shrink(shm, 0, size) == 0);
	PEER_CHECK(tmc_shmem_grow(shm, r->page) == base);
	PEER_CHECK(probe_zero(base, r->page));
	tmc_shmem_close(shm);
	PEER_CHECK(tmc_shmem_unlink(r->path) == 0);
	return 0;
}

static int make_round(struct peer *self, void *arg)
{
	struct round *r = arg;
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	tmc_shmem_t *shm;

	(void)self;
	if (r->huge)
		tmc_alloc_set_pagesize_exact(&alloc, HUGE_PAGE);
	else if (r->seed & 1)
		tmc_alloc_clear_populate(&alloc);
	shm = tmc_shmem_create(r->path, &alloc, NULL,
			       r->huge ? HUGE_POOL * HUGE_PAGE : 256 * MIB);
	PEER_CHECK(shm);
	r->page = tmc_shmem_page_size(shm);
	tmc_shmem_close(shm);
	return 0;
}

/* ----- the killer ----- */

struct total {
	unsigned int kills;
	uint64_t calls, slow, worst_ns;
};

static int begin_life(struct round *r, struct peer *p, unsigned int nth)
{
	struct life l = { .r = r, .nth = nth };

	PEER_CHECK(peer_fork(p, live, &l) == 0);
	return 0;
}

/* It must have lived until now. */
static int end_life(struct peer *p)
{
	kill(p->pid, SIGKILL);
	PEER_CHECK(peer_end(p) == 128 + SIGKILL);
	return 0;
}

/* A process of its own, to which the orphans come. */
static int kill_many(struct peer *self, void *arg)
{
	struct peer p[PROCESSES];
	struct round *r = arg;
	uint64_t rng = r->seed * 31 + 7;
	unsigned int i, which;
	char byte;

	(void)self;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (i = 0; i < PROCESSES; i++)
		if (begin_life(r, &p[i], i))
			return 1;
	for (i = PROCESSES; i < LIVES; i++) {
		/* Blocks until enough has been done: or they all hang. */
		alarm(HANGS_S);
		PEER_CHECK(read(r->killer, &byte, 1) == 1);
		which = (unsigned int)(random_word(&rng) >> 32) % PROCESSES;
		if (end_life(&p[which]) || begin_life(r, &p[which], i))
			return 1;
	}
	for (i = 0; i < PROCESSES; i++)
		if (end_life(&p[i]))
			return 1;
	/* Children that the dead had forked finish on their own. */
	while (waitpid(-1, NULL, 0) > 0)
		;
	return 0;
}

static void run_round(struct round *r, struct total *t)
{
	size_t len = LIVES * THREADS * sizeof(struct book), i, before = 0;
	int pace[2];

	r->books = mmap(NULL, len, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(r->books != MAP_FAILED);
	assert_int_equal(pipe(pace), 0);
	r->pace = pace[1];
	r->killer = pace[0];
	if (r->huge)
		before = box_pool_free(HUGE_PAGE);
	assert_int_equal(peer_run(make_round, r), 0);
	r->page = r->huge ? HUGE_PAGE : (size_t)sysconf(_SC_PAGESIZE);
	assert_int_equal(peer_run(kill_many, r), 0);
	close(pace[0]);
	close(pace[1]);
	assert_int_equal(peer_run(check_round, r), 0);
	if (r->huge)
		assert_int_equal(box_pool_free(HUGE_PAGE), before);
	for (i = 0; i < LIVES * THREADS; i++) {
		t->calls += r->books[i].calls;
		t->slow += r->books[i].slow;
		if (r->books[i].worst_ns > t->worst_ns)
			t->worst_ns = r->books[i].worst_ns;
	}
	t->kills += LIVES;
	munmap(r->books, len);
}

static void run_rounds(const char *name, unsigned int huge, unsigned int rounds)
{
	const char *env = getenv("SEED");
	uint64_t seed = env ? strtoull(env, NULL, 0) : now_ns() % 1000000000;
	struct round r = { .path = box_path("a"), .huge = huge };
	char *path = strdup(r.path);
	struct total t = { 0 };
	unsigned int i;

	if (getenv("SOAK"))
		rounds *= 30;
	r.path = path;
	printf("SEED=%llu\n", (unsigned long long)seed);
	for (i = 0; i < rounds; i++) {
		r.seed = seed + i;
		run_round(&r, &t);
	}
	printf("%s: %u kills, %llu calls, the longest %.1f ms; "
	       "%llu above 900 ms\n",
	       name, t.kills, (unsigned long long)t.calls,
	       (double)t.worst_ns / 1e6, (unsigned long long)t.slow);
	free(path);
}

static void random_kills_hurt_nobody_else(void **state)
{
	(void)state;
	run_rounds("small pages", 0, 3);
}

static void random_kills_hurt_nobody_else_with_huge_pages(void **state)
{
	(void)state;
	if (box_pool(HUGE_PAGE, HUGE_POOL) < HUGE_POOL ||
	    box_hugetlbfs("h", HUGE_PAGE, "")) {
		print_message("no huge pages of 2 MiB\n");
		skip();
	}
	run_rounds("huge pages", 1, 1);
	box_umount("h");
	box_pool_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_kills_hurt_nobody_else),
		cmocka_unit_test(random_kills_hurt_nobody_else_with_huge_pages),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
