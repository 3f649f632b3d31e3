/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * step_case.c - kills a call after each of its instructions.
 *
 * Workers, one for each CPU, share the points between them. Each has its own
 * directory and hugetlbfs, and stays on its CPU with all its processes, which
 * makes a step three times as fast. For each point: one process makes the
 * arena anew and stays or goes; the victim opens it, is stepped and killed; a
 * process that never saw the arena looks at it. Whoever takes longer than
 * LIMIT has hung, and the alarm ends it.
 */
#include "step_case.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "box.h"
#include "kernel.h"
#include "layout.h"
#include "lock.h"
#include "open.h"
#include "peer.h"
#include "step.h"
#include "step_check.h"

#define WORKERS STEP_WORKERS
#define LIMIT 30 /* seconds */
#define SMALL_MAX ((size_t)16 << 20)
#define MANY_FAILURES 3
#define TRIES 6
#define LATE_NS 900000000u /* who is not woken looks again after a second */

/* What a worker tells; in memory that it shares with the test. */
struct tally {
	size_t instructions, syscalls, stores;
	size_t points, old, new, strayed, blocked;
	uint64_t worst_ns; /* from a kill to the end of a grow that waited */
	int failed;
};

struct job {
	const struct step_case *c;
	enum step_way way;
	size_t most;
	unsigned int nworkers, worker;
	struct spot s;
	struct step_trace t;
	struct step_trace head; /* STEP_LEAVING: the way to the lock, */
	size_t hold;		/* which is taken after so many steps */
	struct tally *tally;
	int late;      /* the last grow that waited was not woken at once */
	pid_t stepped; /* the victim or its child */
};

static const char *const ways[] = { "alone", "beside", "waited for", "leaving",
				    "copied" };

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ----- the processes ----- */

static struct step_check check_of(struct job *j, const char *path)
{
	struct step_check k = {
		.c = j->c,
		.s = &j->s,
		.path = path,
		.rival = j->way == STEP_WAITED,
	};

	return k;
}

/*
 * Makes the arena and tells so. Then each word asks for something: CHECK, a
 * look at it; GROW, a page, given back at once; LOCK, a call that needs the
 * lock and changes nothing.
 */
enum { CHECK, GROW, LOCK };

static int grow_a_page(const struct spot *s, tmc_shmem_t *shm)
{
	char *at;

	PEER_CHECK(tmc_shmem_current_size(shm) % s->page == 0);
	at = tmc_shmem_grow(shm, s->page);
	PEER_CHECK(at);
	PEER_CHECK(*at == 0 && at[s->page - 1] == 0);
	memset(at, 0x77, s->page);
	PEER_CHECK(tmc_shmem_shrink(shm, at - (char *)tmc_shmem_address(shm),
				    s->page) == 0);
	return 0;
}

/* Two pages are never all that there are here. */
static int take_lock(const struct spot *s, tmc_shmem_t *shm)
{
	PEER_CHECK(tmc_shmem_shrink(shm, 0, 2 * s->page) == -1);
	PEER_CHECK(errno == EINVAL);
	return 0;
}

static int obey(struct job *j, tmc_shmem_t *shm, uint64_t order)
{
	struct step_check k = check_of(j, j->s.path);

	if (order == GROW)
		return grow_a_page(&j->s, shm);
	if (order == LOCK)
		return take_lock(&j->s, shm);
	return step_check_open(&k, shm);
}

static int bystander(struct peer *self, void *arg)
{
	struct job *j = arg;
	struct step_check k = check_of(j, j->s.path);
	int opens = j->c->opens && j->way == STEP_WAITED, rc;
	tmc_shmem_t *shm = NULL;
	uint64_t order;

	alarm(LIMIT);
	if (step_check_setup(&k, &shm))
		return 1;
	if (opens)
		tmc_shmem_close(shm);
	PEER_CHECK(peer_put(self, 0) == 0);
	if (j->way == STEP_ALONE || j->way == STEP_COPIED)
		return 0;
	while (peer_get(self, &order) == 0) {
		alarm(LIMIT);
		if (opens)
			shm = tmc_shmem_open(j->s.path);
		PEER_CHECK(shm);
		rc = obey(j, shm, order);
		if (opens)
			tmc_shmem_close(shm);
		PEER_CHECK(peer_put(self, (uint64_t)rc) == 0);
	}
	if (!opens)
		tmc_shmem_close(shm);
	return 0;
}

/* Creates what the victim is about to create; may come too late. */
static int rival(struct peer *self, void *arg)
{
	struct job *j = arg;
	struct spot *s = &j->s;
	tmc_shmem_t *shm;

	(void)self;
	alarm(LIMIT);
	if (j->c->named)
		PEER_CHECK(kernel_without_tmpfile() == 0);
	shm = tmc_shmem_create(s->path, &s->alloc, NULL, s->maxsize);
	PEER_CHECK(shm || errno == EEXIST);
	tmc_shmem_close(shm);
	return 0;
}

/* Dies in the lock, in the middle of a grow. */
static int corpse(struct peer *self, void *arg)
{
	struct job *j = arg;
	struct shmi_arena *a;
	uint64_t off;
	int fd;

	(void)self;
	PEER_CHECK(shmi_open_path(j->s.path, true, &a) == 0);
	PEER_CHECK(shmi_lock_take(&a->lock) == 0);
	fd = shmi_arena_data_fd(a);
	off = j->c->huge ? 0 : LAYOUT_DATA_OFF;
	off += (j->c->pages + 3) * j->s.page;
	PEER_CHECK(ftruncate(fd, (off_t)off) == 0);
	memset(shmi_arena_base(a) + j->c->pages * j->s.page, 0x5a,
	       3 * j->s.page);
	raise(SIGKILL);
	return 1;
}

static int victim(struct peer *self, void *arg)
{
	struct job *j = arg;
	struct spot *s = &j->s;
	int rc;

	(void)self;
	if (j->c->prepare) {
		PEER_CHECK(j->c->prepare(s) == 0);
	} else {
		s->shm = tmc_shmem_open(s->path);
		PEER_CHECK(s->shm);
	}
	if (j->c->after_death && peer_run(corpse, j) != 128 + SIGKILL)
		return 1;
	if (j->c->named)
		PEER_CHECK(kernel_without_tmpfile() == 0);
	step_me();
	STEP_EDGE();
	rc = j->c->call(s);
	STEP_EDGE();
	PEER_CHECK(rc == 0);
	return 0;
}

static int fresh(struct peer *self, void *arg)
{
	struct step_check *k = arg;

	(void)self;
	alarm(LIMIT);
	return step_check_fresh(k);
}

/* ----- one death ----- */

static int copy_file(const char *from, const char *to)
{
	static char buf[LAYOUT_HDR_LEN];
	FILE *in = fopen(from, "re"), *out = fopen(to, "we");
	struct stat st;
	size_t n = 0;
	int err = !in || !out || fstat(fileno(in), &st);

	/* Its length first: what nobody writes is a hole. */
	err = err || ftruncate(fileno(out), st.st_size);
	if (!err)
		n = fread(buf, 1, sizeof(buf), in);
	err = err || fwrite(buf, 1, n, out) != n ||
	      fseek(in, LAYOUT_DATA_OFF, SEEK_SET) ||
	      fseek(out, LAYOUT_DATA_OFF, SEEK_SET);
	while (!err && (n = fread(buf, 1, sizeof(buf), in)) > 0)
		err = fwrite(buf, 1, n, out) != n;
	if (in)
		fclose(in);
	if (out && fclose(out))
		err = 1;
	return err;
}

/* Has the bystander do something; 1 if it fails. */
static int ask(struct peer *b, uint64_t order)
{
	uint64_t rc = 1;

	if (peer_put(b, order) || peer_get(b, &rc))
		return 1;
	return rc == 1;
}

/* The victim; its child, and then it sees that it can go on. */
static int kill_victim(struct job *j, struct peer *v)
{
	if (!j->c->forks) {
		peer_kill(v);
		return 0;
	}
	kill(j->stepped, SIGKILL);
	while (waitpid(j->stepped, NULL, __WALL) > 0)
		;
	return peer_end(v);
}

static int kill_while_waited_for(struct job *j, struct peer *v, struct peer *b)
{
	uint64_t rc = 1, t0;

	if (j->way == STEP_WAITED && peer_put(b, GROW))
		return 1;
	if (step_wait_blocked(b->pid, b->fd) > 0)
		j->tally->blocked++;
	t0 = now_ns();
	if (kill_victim(j, v) || peer_get(b, &rc))
		return 1;
	t0 = now_ns() - t0;
	j->late = t0 > LATE_NS;
	if (t0 > j->tally->worst_ns && !j->late)
		j->tally->worst_ns = t0;
	return rc != 0;
}

static int look_at(struct job *j, const char *path)
{
	struct step_check k = check_of(j, path);
	int state = peer_run(fresh, &k);

	if (state == 0)
		j->tally->old++;
	else if (state == 2)
		j->tally->new ++;
	return state != 0 && state != 2;
}

/* Up to the first edge. */
static int begin(struct job *j, struct peer *b, struct peer *v)
{
	uint64_t word;

	b->pid = 0;
	if (!j->c->creates) {
		if (peer_fork(b, bystander, j) || peer_get(b, &word))
			return 1;
		if (j->way == STEP_ALONE || j->way == STEP_COPIED) {
			if (peer_end(b))
				return 1;
			b->pid = 0;
		}
	}
	if (peer_fork(v, victim, j) || step_begin(v->pid))
		return 1;
	j->stepped = v->pid;
	if (j->c->forks)
		j->stepped = step_into_fork(v->pid);
	if (j->stepped < 0)
		return 1;
	/*
	 * The victim goes on: a grow that prefaults outside the lock takes it
	 * again, and may add its pages between a grow of the waiter's and the
	 * shrink that is to undo it.
	 */
	return j->hold &&
	       (step_to(v->pid, &j->head, j->hold) || peer_put(b, LOCK) ||
		step_wait_blocked(b->pid, b->fd) <= 0);
}

static int one_death(struct job *j, size_t n)
{
	struct step_check k = check_of(j, j->s.path);
	struct peer b, v;
	int failed = 0, rc;

	if (begin(j, &b, &v))
		return 1;
	rc = step_to(j->stepped, &j->t, n);
	if (rc < 0)
		failed = 1;
	if (rc == 1 && n < j->t.n)
		j->tally->strayed++;
	if (j->way == STEP_COPIED)
		failed = failed || copy_file(j->s.path, j->s.copy);
	if (j->way == STEP_WAITED && j->c->creates)
		failed = failed || peer_run(rival, j);
	if ((j->way == STEP_WAITED || j->way == STEP_LEAVING) && b.pid)
		failed = failed || kill_while_waited_for(j, &v, &b);
	else
		failed = kill_victim(j, &v) || failed;
	/* Who goes on looks first at even points, who comes anew at odd ones */
	if (b.pid && n % 2 == 0)
		failed = failed || ask(&b, CHECK);
	if (j->way == STEP_COPIED)
		failed = failed || look_at(j, j->s.copy);
	failed = failed || look_at(j, j->s.path);
	if (b.pid) {
		if (!j->c->opens || j->way != STEP_WAITED)
			failed = failed || ask(&b, CHECK);
		failed = peer_end(&b) || failed;
	}
	return failed || step_check_gone(&k);
}

/* The run that is measured, to its end. */
static int record_once(struct job *j)
{
	struct step_check k = check_of(j, j->s.path);
	struct peer b, v;
	uint64_t rc = 0;

	PEER_CHECK(begin(j, &b, &v) == 0);
	PEER_CHECK(step_record(j->stepped, &j->t) == 0);
	step_past(j->stepped);
	PEER_CHECK(peer_end(&v) == 0);
	if (j->hold)
		PEER_CHECK(peer_get(&b, &rc) == 0 && rc == 0);
	PEER_CHECK(look_at(j, j->s.path) == 0);
	j->tally->old = j->tally->new = 0;
	return (b.pid && peer_end(&b)) || step_check_gone(&k);
}

/* The second store to the header is that of the lock. */
static int record(struct job *j)
{
	size_t i, n = 0;

	if (record_once(j))
		return 1;
	if (j->way != STEP_LEAVING)
		return 0;
	for (i = 0; i <= j->t.n && n < 2; i++)
		n += (j->t.mark[i] & STEP_STORE) != 0;
	PEER_CHECK(n == 2);
	j->hold = i - 1;
	j->head = j->t;
	return record_once(j);
}

/* ----- workers ----- */

static void stay_on_cpu(unsigned int nth)
{
	cpu_set_t all, one;
	size_t cpu;

	if (sched_getaffinity(0, sizeof(all), &all))
		return;
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && nth-- == 0)
			break;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

static void remove_all(const char *dir)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -rf %.90s/* %.90s/.a*", dir,
		 dir);
	if (system(command))
		return;
}

static int make_spot(struct job *j)
{
	struct spot *s = &j->s;
	char name[16];

	tmc_alloc_init(&s->alloc);
	s->page = (size_t)sysconf(_SC_PAGESIZE);
	s->maxsize = SMALL_MAX;
	snprintf(name, sizeof(name), "w%u", j->worker);
	strcpy(s->dir, box_path(name));
	if (mkdir(s->dir, 0700) && errno != EEXIST)
		return 1;
	remove_all(s->dir);
	snprintf(s->path, sizeof(s->path), "%s/%s", s->dir,
		 j->c->temp ? "aXXXXXX" : "a");
	snprintf(s->copy, sizeof(s->copy), "%s/copy", s->dir);
	if (j->c->lazy)
		tmc_alloc_clear_populate(&s->alloc);
	if (!j->c->huge)
		return 0;
	s->page = STEP_HUGE_PAGE;
	s->maxsize = STEP_POOL * s->page;
	tmc_alloc_set_pagesize(&s->alloc, s->page);
	snprintf(name, sizeof(name), "h%u", j->worker);
	strcpy(s->hugedir, box_path(name));
	return unshare(CLONE_NEWNS) || box_hugetlbfs(name, s->page, "size=24M");
}

static int work(struct peer *self, void *arg)
{
	struct job *j = arg;
	struct tally *t = j->tally;
	size_t *points, n, i;

	(void)self;
	stay_on_cpu(j->worker);
	PEER_CHECK(make_spot(j) == 0);
	PEER_CHECK(record(j) == 0);
	points = calloc(j->t.n + 1, sizeof(*points));
	PEER_CHECK(points);
	n = step_choose(&j->t, j->most, points);
	t->instructions = j->t.n;
	t->syscalls = j->t.nsyscalls;
	t->stores = j->t.nstores;
	for (i = j->worker; i < n; i += j->nworkers) {
		unsigned int tries = TRIES;
		int failed;

		/* Who is not woken is late each time, others on a machine
		 * with too much to do now and then. */
		do {
			failed = one_death(j, points[i]);
		} while (!failed && j->late && --tries);
		if (failed || j->late) {
			fprintf(stderr,
				"%s, %s: killed after %zu of %zu "
				"instructions%s\n",
				j->c->name, ways[j->way], points[i], j->t.n,
				j->late ? ": who waited was not woken" : "");
			if (++t->failed == MANY_FAILURES)
				break;
			remove_all(j->s.dir);
		}
		t->points++;
	}
	free(points);
	step_forget(&j->t);
	step_forget(&j->head);
	return 0;
}

static void print(const struct job *j, const struct tally *t)
{
	printf("%-36s %-10s %6zu instructions, %2zu system calls, %2zu "
	       "stores; killed at %zu: %zu before, %zu after",
	       j->c->name, ways[j->way], t->instructions, t->syscalls,
	       t->stores, t->points, t->old, t->new);
	if (j->way == STEP_WAITED || j->way == STEP_LEAVING)
		printf("; %zu waited, at most %.1f ms", t->blocked,
		       (double)t->worst_ns / 1e6);
	if (t->strayed)
		printf("; %zu ended early", t->strayed);
	printf("\n");
}

static void add(struct tally *sum, const struct tally *t)
{
	sum->points += t->points;
	sum->old += t->old;
	sum->new += t->new;
	sum->strayed += t->strayed;
	sum->blocked += t->blocked;
	sum->failed += t->failed;
	if (t->worst_ns > sum->worst_ns)
		sum->worst_ns = t->worst_ns;
}

int step_case_run(const struct step_case *c, enum step_way way, size_t most)
{
	struct tally *tallies =
		mmap(NULL, sizeof(*tallies) * WORKERS, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	long ncpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct job j = { .c = c, .way = way, .most = most };
	struct peer w[WORKERS];
	struct tally sum;
	unsigned int i;

	if (tallies == MAP_FAILED)
		return -1;
	if (getenv("SOAK"))
		j.most = SIZE_MAX;
	j.nworkers = ncpus < 1	       ? 1
		     : ncpus > WORKERS ? WORKERS
				       : (unsigned int)ncpus;
	for (i = 0; i < j.nworkers; i++) {
		j.worker = i;
		j.tally = &tallies[i];
		if (peer_fork(&w[i], work, &j))
			return -1;
	}
	sum = (struct tally){ 0 };
	for (i = 0; i < j.nworkers; i++)
		if (peer_end(&w[i]))
			sum.failed++;
	sum.instructions = tallies[0].instructions;
	sum.syscalls = tallies[0].syscalls;
	sum.stores = tallies[0].stores;
	for (i = 0; i < j.nworkers; i++)
		add(&sum, &tallies[i]);
	print(&j, &sum);
	/* Else nothing was stepped. */
	if (sum.instructions < 50 || (c->change && (!sum.old || !sum.new)))
		sum.failed++;
	munmap(tallies, sizeof(*tallies) * WORKERS);
	return sum.failed;
}
