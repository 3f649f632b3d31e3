/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_mspace_end.c - what threads know of a heap, when that ends: while they
 * end themselves, in the child of a fork, or by another heap in the same memory.
 */
#include "test.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shmem.h>

#include "peer.h"
#include "span.h"

#define THREADS 8
#define ROUNDS test_steps(300)
#define LEN (4 * MIB)
#define MANY 3000

/* ----- threads that end, and say so a bit early ----- */

static struct {
	tmc_shmem_t *shm;
	tmc_mspace heap;
	void *base;
	sem_t done;
} w;

static void *use_and_end(void *arg)
{
	char *small = tmc_mspace_malloc(w.heap, 100);
	char *other = tmc_mspace_malloc(w.heap, 1000);
	char *large = tmc_mspace_malloc(w.heap, 100 * KIB);

	if (!small || !other || !large)
		return w.heap;
	*small = *other = *large = 1;
	tmc_mspace_free(large);
	tmc_mspace_free(small);
	sem_post(&w.done);
	return arg;
}

/* What has been made ends when no thread is in a call any more. */
struct way {
	int (*begin)(void);
	int (*end)(void);
	int (*meanwhile)(void); /* or NULL */
};

static int end_while_threads_end(struct peer *self, void *way)
{
	const struct way *by = way;
	pthread_t thread[THREADS];
	void *failed;
	int i, k;

	PEER_CHECK(self && !sem_init(&w.done, 0, 0));
	for (k = 0; k < ROUNDS; k++) {
		PEER_CHECK(!by->begin() && w.heap);
		for (i = 0; i < THREADS; i++)
			PEER_CHECK(!pthread_create(&thread[i], NULL,
						   use_and_end, NULL));
		for (i = 0; i < THREADS; i++)
			PEER_CHECK(!sem_wait(&w.done) &&
				   (!by->meanwhile || !by->meanwhile()));
		PEER_CHECK(!by->end());
		for (i = 0; i < THREADS; i++) {
			PEER_CHECK(!pthread_join(thread[i], &failed));
			PEER_CHECK(!failed);
		}
	}
	return 0;
}

static int new_arena(void)
{
	w.shm = tmc_shmem_create_anonymous(NULL, NULL, GIB);
	w.heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					   tmc_shmem_alloc(w.shm));
	return !w.heap;
}

static int new_heap(void)
{
	if (!w.shm)
		return new_arena();
	w.heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					   tmc_shmem_alloc(w.shm));
	return !w.heap;
}

static int new_private(void)
{
	w.heap = tmc_mspace_create(0, TMC_MSPACE_LOCKED);
	return !w.heap;
}

static int new_at_base(void)
{
	if (!w.base)
		w.base = mmap(NULL, LEN, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	w.heap = tmc_mspace_create_with_base(w.base, LEN, 0);
	return !w.heap;
}

static int close_arena(void)
{
	tmc_shmem_close(w.shm);
	return 0;
}

static int destroy(void)
{
	return !tmc_mspace_destroy(w.heap);
}

/* The memory is the next heap's. */
static int make_anew(void)
{
	return new_at_base() || tmc_mspace_check(w.heap);
}

/* The child has no such thread: a close there leaves nothing of the arena. */
static int close_the_only(struct peer *self, void *arg)
{
	void *base = tmc_shmem_address(w.shm);

	PEER_CHECK(self && !arg);
	tmc_shmem_close(w.shm);
	PEER_CHECK(tmc_shmem_create_anonymous(NULL, base, GIB));
	return 0;
}

static int close_in_a_child(void)
{
	return peer_run(close_the_only, NULL);
}

static int is_free(struct peer *self, void *base)
{
	PEER_CHECK(self && tmc_shmem_create_anonymous(NULL, base, GIB));
	return 0;
}

/* Threads that end may have it a bit longer, but not in the child. */
static int close_before_a_child(void)
{
	void *base = tmc_shmem_address(w.shm);

	tmc_shmem_close(w.shm);
	return peer_run(is_free, base);
}

static void a_heap_may_end_while_threads_that_used_it_do(void **state)
{
	struct way way[] = {
		{ new_arena, close_arena, NULL },
		{ new_heap, destroy, NULL },
		{ new_private, destroy, NULL },
		{ new_at_base, make_anew, NULL },
		{ new_arena, close_arena, close_in_a_child },
		{ new_arena, close_before_a_child, NULL },
	};
	size_t i, n = sizeof(way) / sizeof(*way);

	(void)state;
	/* ThreadSanitizer takes the parent's threads for the child's. */
	n -= UNDER_SANITIZER * 2;
	for (i = 0; i < n; i++)
		assert_int_equal(peer_run(end_while_threads_end, &way[i]), 0);
}

/* ----- calls that are under way in a parent ----- */

static struct {
	tmc_shmem_t *shm[2];
	tmc_mspace heap[2];
	atomic_bool stop;
} two;

/* Blocks of the heap that was not used last are looked for in all arenas. */
static void *use_both(void *arg)
{
	char *p[2] = { NULL };
	size_t i;

	while (!two.stop) {
		for (i = 0; i < 2; i++)
			p[i] = tmc_mspace_malloc(two.heap[i], 100);
		for (i = 0; i < 2; i++)
			if (tmc_mspace_usable_size(p[i]) < 100)
				return p[i];
		for (i = 0; i < 2; i++)
			tmc_mspace_free(p[i]);
	}
	return arg;
}

static int close_both(struct peer *self, void *arg)
{
	void *base[2];
	size_t i;

	PEER_CHECK(self && !arg);
	for (i = 0; i < 2; i++) {
		base[i] = tmc_shmem_address(two.shm[i]);
		tmc_shmem_close(two.shm[i]);
	}
	for (i = 0; i < 2; i++)
		PEER_CHECK(tmc_shmem_create_anonymous(NULL, base[i], MIB));
	return 0;
}

static void a_child_closes_what_threads_of_its_parent_use(void **state)
{
	pthread_t thread[3];
	void *failed;
	int i, k;

	(void)state;
	if (UNDER_SANITIZER)
		skip(); /* see above */
	for (i = 0; i < 2; i++) {
		two.shm[i] = tmc_shmem_create_anonymous(NULL, NULL, GIB);
		two.heap[i] = tmc_mspace_create_special(
			0, TMC_MSPACE_LOCKED, tmc_shmem_alloc(two.shm[i]));
		assert_non_null(two.heap[i]);
	}
	for (i = 0; i < 3; i++)
		assert_int_equal(
			pthread_create(&thread[i], NULL, use_both, NULL), 0);
	for (k = 0; k < 200; k++)
		assert_int_equal(peer_run(close_both, NULL), 0);
	two.stop = true;
	for (i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(thread[i], &failed), 0);
		assert_null(failed);
	}
	for (i = 0; i < 2; i++)
		tmc_shmem_close(two.shm[i]);
}

/* ----- what is at hand ----- */

/*
 * Who closes another arena can be late: our thread has seen that something has
 * closed, and that its heap has not, before what it has at hand is taken.
 */
static void what_is_taken_away_late_is_shown_again(void **state)
{
	tmc_mspace heap = tmc_mspace_create(0, 0);
	void *p = tmc_mspace_malloc(heap, 100);
	struct shmi_thread *t = shmi_thread_last;

	(void)state;
	assert_non_null(p);
	assert_true(shmi_thread_valid(t, heap));
	t->view.h = SHMI_NO_HEAP;
	t->view.map = (uintptr_t)shmi_view_empty;
	tmc_mspace_free(p);
	assert_non_null(tmc_mspace_malloc(heap, 100));
	assert_ptr_equal(shmi_thread_last, t);
	assert_true(shmi_thread_valid(t, heap));
	assert_ptr_equal((void *)t->view.map, t->map);
	assert_true(tmc_mspace_destroy(heap) > 0);
}

/* ----- memory that is given again ----- */

static unsigned char *block[MANY];

static size_t size_of(size_t i)
{
	return 16 + i % 300;
}

static int fill(tmc_mspace heap)
{
	size_t i, k;

	for (i = 0; i < MANY; i++) {
		block[i] = tmc_mspace_malloc(heap, size_of(i));
		PEER_CHECK(block[i]);
		memset(block[i], (int)i, size_of(i));
	}
	for (i = 0; i < MANY; i++)
		for (k = 0; k < size_of(i); k++)
			PEER_CHECK(block[i][k] == (unsigned char)i);
	PEER_CHECK(!tmc_mspace_check(heap));
	return 0;
}

static int fill_and_empty(tmc_mspace heap)
{
	size_t i, before, after;

	tmc_mspace_statistics(heap, NULL, NULL, &before);
	if (fill(heap))
		return 1;
	for (i = 0; i < MANY; i++)
		tmc_mspace_free(block[i]);
	tmc_mspace_statistics(heap, NULL, NULL, &after);
	PEER_CHECK(after == before && !tmc_mspace_check(heap));
	return 0;
}

static int give_twice(struct peer *self, void *base)
{
	size_t len;

	PEER_CHECK(self);
	for (len = LEN; len >= MIB * 2; len /= 2) {
		tmc_mspace heap = tmc_mspace_create_with_base(base, len, 0);

		PEER_CHECK(heap && !fill_and_empty(heap) && !fill(heap));
		PEER_CHECK(tmc_mspace_access_with_base(base) == heap);
	}
	return 0;
}

static void given_memory_can_be_given_again_without_destroy(void **state)
{
	tmc_shmem_t *shm = tmc_shmem_create_anonymous(NULL, NULL, GIB);
	void *base = mmap(NULL, LEN, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *pages = tmc_shmem_grow(shm, LEN);

	(void)state;
	assert_true(base != MAP_FAILED && pages);
	assert_int_equal(peer_run(give_twice, base), 0);
	assert_int_equal(peer_run(give_twice, pages), 0);
	munmap(base, LEN);
	tmc_shmem_close(shm);
}

struct file_at {
	int fd;
	void *base;
};

static tmc_mspace map_it(const struct file_at *f, tmc_mspace (*get)(void *base))
{
	void *at = mmap(f->base, LEN, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_FIXED, f->fd, 0);

	return at == f->base ? get(at) : NULL;
}

static tmc_mspace create_there(void *base)
{
	return tmc_mspace_create_with_base(base, LEN, 0);
}

static int make_one(struct peer *self, void *file)
{
	PEER_CHECK(self);
	return fill(map_it(file, create_there));
}

/* One after the other at the same place. */
static int use_all(struct peer *self, void *files)
{
	const struct file_at *f = files;
	size_t i;

	PEER_CHECK(self);
	for (i = 0; i < 4; i++) {
		tmc_mspace heap =
			map_it(&f[i % 2], tmc_mspace_access_with_base);

		PEER_CHECK(heap && !tmc_mspace_check(heap));
		PEER_CHECK(!fill_and_empty(heap));
		munmap(f->base, LEN);
	}
	return 0;
}

static void the_heap_that_is_there_now_is_accessed(void **state)
{
	void *base =
		mmap(NULL, LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct file_at f[2];
	size_t i;

	(void)state;
	assert_true(base != MAP_FAILED);
	for (i = 0; i < 2; i++) {
		f[i].base = base;
		f[i].fd = memfd_create("heap", MFD_CLOEXEC);
		assert_int_equal(ftruncate(f[i].fd, (off_t)LEN), 0);
		assert_int_equal(peer_run(make_one, &f[i]), 0);
	}
	assert_int_equal(peer_run(use_all, f), 0);
	for (i = 0; i < 2; i++)
		close(f[i].fd);
	munmap(base, LEN);
}

/* ----- another process's destroy ----- */

/* Uses what the parent has destroyed meanwhile, or now. */
static int use_too_late(struct peer *self, void *call)
{
	char *p = tmc_mspace_malloc(w.heap, 100);
	uint64_t word;

	PEER_CHECK(p && !peer_put(self, 0) && !peer_get(self, &word));
	if (call) {
		tmc_mspace_free(p);
		return 0;
	}
	errno = 0;
	PEER_CHECK(!tmc_mspace_malloc(w.heap, 100) && errno == EINVAL);
	PEER_CHECK(!tmc_mspace_malloc(w.heap, 10) && errno == EINVAL);
	return 0;
}

static size_t blocks(void)
{
	struct stat st;

	return fstat(tmc_shmem_fd(w.shm), &st) ? 0 : (size_t)st.st_blocks;
}

static void a_heap_is_not_used_after_another_process_destroyed_it(void **state)
{
	struct peer peer;
	uint64_t word;
	size_t i, before;

	(void)state;
	for (i = 0; i < 2; i++) {
		assert_int_equal(new_arena(), 0);
		before = blocks();
		assert_int_equal(peer_fork(&peer, use_too_late, i ? &w : NULL),
				 0);
		assert_int_equal(peer_get(&peer, &word), 0);
		assert_true(tmc_mspace_destroy(w.heap) > 0);
		assert_true(blocks() < before);
		before = blocks();
		assert_int_equal(peer_put(&peer, 0), 0);
		assert_int_equal(peer_end(&peer), i ? 128 + SIGABRT : 0);
		/* But for the page that says so. */
		assert_in_range(blocks(), before, before + 8 * 2);
		tmc_shmem_close(w.shm);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_heap_may_end_while_threads_that_used_it_do),
		cmocka_unit_test(a_child_closes_what_threads_of_its_parent_use),
		cmocka_unit_test(what_is_taken_away_late_is_shown_again),
		cmocka_unit_test(
			given_memory_can_be_given_again_without_destroy),
		cmocka_unit_test(the_heap_that_is_there_now_is_accessed),
		cmocka_unit_test(
			a_heap_is_not_used_after_another_process_destroyed_it),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
