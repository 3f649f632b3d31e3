/* SPDX-License-Identifier: BSD-3-Clause */
/* test_mspace.c - the heap in an arena, against a model of it. */
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <shmem.h>

#include "heap.h"
#include "peer.h"

#define BLOCKS 800
#define STEPS test_steps(100000)

static tmc_shmem_t *shm;

/* Each test has a fresh arena with a heap, which is its root. */
static int make_heap(void **state)
{
	shm = tmc_shmem_create(box_path("heap"), NULL, NULL, GIB);
	*state = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					   tmc_shmem_alloc(shm));
	return !*state || tmc_shmem_set_data(shm, *state);
}

static int drop_heap(void **state)
{
	(void)state;
	tmc_shmem_close(shm);
	return tmc_shmem_unlink(box_path("heap"));
}

static size_t used(tmc_mspace heap)
{
	size_t n = 0;

	tmc_mspace_statistics(heap, NULL, NULL, &n);
	return n;
}

/* ----- random calls, each block with a pattern of its own ----- */

struct model {
	unsigned char *p[BLOCKS];
	size_t n[BLOCKS];
	uint64_t rng;
	unsigned char salt;
};

static uint64_t rnd(struct model *m)
{
	m->rng ^= m->rng << 13;
	m->rng ^= m->rng >> 7;
	return m->rng ^= m->rng << 17;
}

static size_t some_size(struct model *m)
{
	uint64_t r = rnd(m);

	if (r % 64 == 0)
		return (r >> 8) % (300 * KIB);
	return (r >> 8) % (r % 8 ? 600 : 33 * KIB);
}

static void paint(struct model *m, size_t i)
{
	memset(m->p[i], (int)(m->salt + i), m->n[i]);
}

static int is_painted(struct model *m, size_t i, size_t n)
{
	size_t k;

	for (k = 0; k < n; k++)
		if (m->p[i][k] != (unsigned char)(m->salt + i))
			return 0;
	return 1;
}

static int is_zero(const unsigned char *p, size_t n)
{
	while (n && !p[n - 1])
		n--;
	return !n;
}

static int take(struct model *m, tmc_mspace heap, size_t i)
{
	size_t align = (size_t)16 << rnd(m) % 14;

	m->n[i] = some_size(m);
	switch (rnd(m) % 4) {
	case 0:
		m->p[i] = tmc_mspace_calloc(heap, m->n[i], 1);
		if (!m->p[i] || !is_zero(m->p[i], m->n[i]))
			return -1;
		break;
	case 1:
		m->p[i] = tmc_mspace_memalign(heap, align, m->n[i]);
		if ((uintptr_t)m->p[i] % align)
			return -1;
		break;
	default:
		m->p[i] = tmc_mspace_malloc(heap, m->n[i]);
	}
	if (!m->p[i] || (uintptr_t)m->p[i] % 16 ||
	    tmc_mspace_usable_size(m->p[i]) < m->n[i])
		return -1;
	paint(m, i);
	return 0;
}

static int change(struct model *m, tmc_mspace heap, size_t i)
{
	size_t n = some_size(m);
	unsigned char *p = tmc_mspace_realloc(heap, m->p[i], n);

	if (!p)
		return -1;
	m->p[i] = p;
	if (!is_painted(m, i, n < m->n[i] ? n : m->n[i]))
		return -1;
	m->n[i] = n;
	paint(m, i);
	return 0;
}

static int play(tmc_mspace heap, uint64_t seed, int steps)
{
	struct model *m = calloc(1, sizeof(*m));
	int bad = !m;
	size_t i;

	for (m->rng = seed * 0x9e3779b97f4a7c15ull + 1,
	    m->salt = (unsigned char)(seed * 37);
	     steps-- > 0 && !bad;) {
		i = rnd(m) % BLOCKS;
		if (!m->p[i]) {
			bad = take(m, heap, i);
		} else if (!is_painted(m, i, m->n[i])) {
			bad = 1;
		} else if (rnd(m) % 5 == 0) {
			bad = change(m, heap, i);
		} else {
			tmc_mspace_free(m->p[i]);
			m->p[i] = NULL;
		}
	}
	for (i = 0; i < BLOCKS; i++) {
		if (m->p[i] && !is_painted(m, i, m->n[i]))
			bad = 1;
		tmc_mspace_free(m->p[i]);
	}
	free(m);
	return bad;
}

static void random_calls_agree_with_a_model(void **state)
{
	assert_int_equal(play(*state, 1, STEPS), 0);
	assert_int_equal(tmc_mspace_check(*state), 0);
	assert_int_equal(used(*state), 0);
}

static int play_peer(struct peer *self, void *arg)
{
	PEER_CHECK(!play(tmc_shmem_get_data(shm), *(uint64_t *)arg, STEPS));
	PEER_CHECK(self);
	return 0;
}

static void processes_share_a_heap(void **state)
{
	uint64_t seed[] = { 11, 12, 13 };
	struct peer peer[3];
	size_t i;

	for (i = 0; i < 3; i++)
		assert_int_equal(peer_fork(&peer[i], play_peer, &seed[i]), 0);
	for (i = 0; i < 3; i++)
		assert_int_equal(peer_end(&peer[i]), 0);
	assert_int_equal(tmc_mspace_check(*state), 0);
	assert_int_equal(tmc_mspace_trim(*state, 0), 1);
	assert_int_equal(used(*state), 0);
}

static void *play_thread(void *arg)
{
	return (void *)(intptr_t)play(tmc_shmem_get_data(shm),
				      (uint64_t)(uintptr_t)arg, STEPS);
}

static void threads_share_a_heap_and_leave_nothing(void **state)
{
	pthread_t thread[4];
	void *bad;
	size_t i;

	for (i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, play_thread,
			       (void *)(uintptr_t)(21 + i));
	for (i = 0; i < 4; i++) {
		pthread_join(thread[i], &bad);
		assert_null(bad);
	}
	assert_int_equal(tmc_mspace_check(*state), 0);
	assert_int_equal(used(*state), 0);
}

/* ----- one process takes, another gives back ----- */

#define HANDED test_steps(20000)

static int free_what_comes(struct peer *self, void *arg)
{
	uint64_t word;
	size_t i;

	(void)arg;
	for (i = 0; i < (size_t)HANDED; i++) {
		unsigned char *p;

		PEER_CHECK(!peer_get(self, &word));
		p = (unsigned char *)(uintptr_t)word;
		PEER_CHECK(p[0] == (unsigned char)i && p[99] == p[0]);
		tmc_mspace_free(p);
	}
	return 0;
}

static void a_block_can_be_freed_by_another_process(void **state)
{
	struct peer peer;
	size_t i, footprint;

	assert_int_equal(peer_fork(&peer, free_what_comes, NULL), 0);
	for (i = 0; i < (size_t)HANDED; i++) {
		unsigned char *p = tmc_mspace_malloc(*state, 100);

		assert_non_null(p);
		memset(p, (int)i, 100);
		assert_int_equal(peer_put(&peer, (uintptr_t)p), 0);
	}
	assert_int_equal(peer_end(&peer), 0);
	assert_int_equal(tmc_mspace_check(*state), 0);
	tmc_mspace_statistics(*state, NULL, &footprint, NULL);
	assert_in_range(footprint, 0, 4 * MIB);
}

/* ----- the arena ----- */

static void a_heap_is_found_again_after_a_restart(void **state)
{
	char *p = tmc_mspace_malloc(*state, 1000), *q;

	strcpy(p, "still here");
	q = tmc_mspace_malloc(*state, 200 * KIB);
	assert_non_null(q);
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(box_path("heap"));
	assert_non_null(shm);
	assert_ptr_equal(tmc_shmem_get_data(shm), *state);
	assert_ptr_equal(tmc_mspace_access_with_base(*state), *state);
	assert_string_equal(p, "still here");
	assert_int_equal(tmc_mspace_check(*state), 0);
	assert_int_equal(play(*state, 31, STEPS / 10), 0);
	assert_string_equal(p, "still here");
	tmc_mspace_free(p);
	tmc_mspace_free(q);
	tmc_mspace_trim(*state, 0);
	assert_int_equal(used(*state), 0);
}

static void application_and_heaps_grow_in_any_order(void **state)
{
	tmc_mspace other =
		tmc_mspace_create_special(0, 0, tmc_shmem_alloc(shm));
	char *page, *p, *q;
	int i;

	assert_non_null(other);
	for (i = 0; i < 40; i++) {
		page = tmc_shmem_grow(shm, 1);
		assert_non_null(page);
		*page = 1;
		p = tmc_mspace_malloc(*state, 100 * KIB);
		q = tmc_mspace_malloc(other, 100 * KIB);
		assert_true(p && q);
		memset(p, 2, 100 * KIB);
		memset(q, 3, 100 * KIB);
		assert_int_equal(*page, 1);
	}
	assert_int_equal(tmc_mspace_check(*state), 0);
	assert_int_equal(tmc_mspace_check(other), 0);
	assert_int_equal(play(other, 41, STEPS / 10), 0);
	assert_true(tmc_mspace_destroy(other) > 4 * MIB);
	assert_minus_errno(tmc_mspace_check(other), EINVAL);
}

static void large_alignments_hold(void **state)
{
	size_t align;

	for (align = 32; align <= 64 * MIB; align *= 2) {
		char *p = tmc_mspace_memalign(*state, align, 100 * KIB);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % align, 0);
		memset(p, 7, 100 * KIB);
		tmc_mspace_free(p);
	}
	assert_int_equal(tmc_mspace_check(*state), 0);
}

/* ----- limits and refusals ----- */

static void a_full_heap_says_enomem_and_works_on(void **state)
{
	tmc_mspace heap = tmc_mspace_create_special(MIB, TMC_MSPACE_NOGROW,
						    tmc_shmem_alloc(shm));
	void *p[32], *q;
	int i;

	(void)state;
	assert_non_null(heap);
	for (i = 0; i < 32; i++) {
		p[i] = tmc_mspace_malloc(heap, 60000);
		if (!p[i])
			break;
	}
	assert_in_range(i, 12, 31);
	assert_null_errno(tmc_mspace_malloc(heap, 60000), ENOMEM);
	while (i-- > 0)
		tmc_mspace_free(p[i]);
	q = tmc_mspace_malloc(heap, 600000);
	assert_non_null(q);
	tmc_mspace_free(q);
	assert_int_equal(tmc_mspace_check(heap), 0);
}

static void sizes_that_wrap_are_enomem(void **state)
{
	tmc_mspace heap = *state;

	assert_null_errno(tmc_mspace_malloc(heap, SIZE_MAX), ENOMEM);
	assert_null_errno(tmc_mspace_malloc(heap, SIZE_MAX / 2), ENOMEM);
	assert_null_errno(tmc_mspace_malloc(heap, 2 * GIB), ENOMEM);
	assert_null_errno(tmc_mspace_calloc(heap, SIZE_MAX / 4, 5), ENOMEM);
	assert_null_errno(tmc_mspace_memalign(heap, 64, SIZE_MAX - 8), ENOMEM);
	assert_null_errno(tmc_mspace_memalign(heap, 24, 1), EINVAL);
	assert_null_errno(tmc_mspace_memalign(heap, 0, 1), EINVAL);
	assert_int_equal(tmc_mspace_check(heap), 0);
}

static void what_is_no_heap_is_refused(void **state)
{
	char *page = tmc_shmem_grow(shm, MIB);

	assert_null_errno(tmc_mspace_create(0, 8), EINVAL);
	assert_null_errno(tmc_mspace_access_with_base(page), EINVAL);
	assert_null_errno(tmc_mspace_malloc(page, 1), EINVAL);
	assert_null_errno(tmc_mspace_malloc(NULL, 1), EINVAL);
	assert_minus_errno(tmc_mspace_check(page), EINVAL);
	assert_minus_errno(tmc_mspace_trim(page, 0), EINVAL);
	assert_int_equal(tmc_mspace_destroy(page), 0);
	assert_null_errno(tmc_mspace_create_with_base(NULL, MIB, 0), EINVAL);
	assert_null_errno(tmc_mspace_create_with_base(page, 1000, 0), ENOMEM);
	assert_null_errno(tmc_mspace_create_with_base(page + 1, 1000, 0),
			  ENOMEM);
	assert_null_errno(tmc_mspace_create(SIZE_MAX, 0), ENOMEM);
	assert_null_errno(
		tmc_mspace_create_special(2 * GIB, 0, tmc_shmem_alloc(shm)),
		ENOMEM);
	assert_null_errno(tmc_mspace_memalign(page, 64, 40 * KIB), EINVAL);
	assert_null_errno(tmc_mspace_memalign(page, 64, 40), EINVAL);
	assert_null_errno(tmc_mspace_calloc(page, 64, 40), EINVAL);
	assert_non_null(tmc_mspace_memalign(*state, 8, 10));
}

static void one_block_can_have_all_of_the_capacity(void **state)
{
	static const size_t sizes[] = { 1, 64 * KIB, MIB - 1, MIB, 5 * MIB };
	const tmc_alloc_t *allocs[] = { NULL, tmc_shmem_alloc(shm) };
	tmc_mspace heap;
	size_t i;

	(void)state;
	for (i = 0; i < 10; i++) {
		heap = tmc_mspace_create_special(
			sizes[i / 2], TMC_MSPACE_NOGROW, allocs[i % 2]);
		assert_non_null(tmc_mspace_malloc(heap, sizes[i / 2]));
		assert_true(tmc_mspace_destroy(heap) > 0);
	}
}

static void a_heap_lives_in_memory_of_the_caller(void **state)
{
	char *base = tmc_shmem_grow(shm, 2 * MIB);
	tmc_mspace heap = tmc_mspace_create_with_base(base, 2 * MIB, 0);

	(void)state;
	assert_non_null(heap);
	assert_ptr_equal(tmc_mspace_access_with_base(base), heap);
	assert_null_errno(tmc_mspace_malloc(heap, 2 * MIB), ENOMEM);
	assert_non_null(tmc_mspace_malloc(heap, MIB));
	assert_int_equal(tmc_mspace_check(heap), 0);
}

/* Nor is anything written where there is no room. */
static void a_heap_ends_with_the_pages_that_are_there(void **state)
{
	char *base = tmc_shmem_grow(shm, 2 * MIB);
	size_t size = tmc_shmem_current_size(shm), i;

	(void)state;
	memset(base, 7, 2 * MIB);
	assert_null_errno(tmc_mspace_create_with_base(base, 8 * MIB, 0),
			  ENOMEM);
	assert_null_errno(
		tmc_mspace_create_with_base(base, 2 * MIB + 64 * KIB, 0),
		ENOMEM);
	for (i = 0; i < 2 * MIB; i++)
		assert_int_equal(base[i], 7);
	assert_int_equal(tmc_shmem_current_size(shm), size);
	assert_non_null(tmc_mspace_create_with_base(base, 2 * MIB, 0));
}

static void a_private_heap_works_too(void **state)
{
	tmc_mspace heap = tmc_mspace_create(0, 0);
	tmc_alloc_t *alloc;

	(void)state;
	assert_non_null(heap);
	assert_int_equal(play(heap, 51, STEPS), 0);
	alloc = tmc_mspace_allocator(heap);
	assert_non_null(alloc);
	assert_int_equal(tmc_mspace_check(heap), 0);
	assert_true(tmc_mspace_destroy(heap) > 0);
}

static void *keep_some(void *arg)
{
	void **p = arg;
	size_t i;

	for (i = 0; i < 100; i++)
		p[i] = tmc_mspace_malloc(tmc_shmem_get_data(shm), 3000);
	return NULL;
}

static void what_a_thread_leaves_is_taken_over(void **state)
{
	void *p[100], *more[100];
	pthread_t thread;
	size_t i, before, after;

	pthread_create(&thread, NULL, keep_some, p);
	pthread_join(thread, NULL);
	for (i = 0; i < 100; i += 2)
		tmc_mspace_free(p[i]);
	tmc_mspace_statistics(*state, NULL, &before, NULL);
	for (i = 0; i < 100; i++) {
		more[i] = tmc_mspace_malloc(*state, 3000);
		assert_non_null(more[i]);
	}
	tmc_mspace_statistics(*state, NULL, &after, NULL);
	assert_in_range(after, before, before + 2 * MIB);
	for (i = 0; i < 100; i++) {
		tmc_mspace_free(more[i]);
		if (i % 2)
			tmc_mspace_free(p[i]);
	}
	tmc_mspace_trim(*state, 0);
	assert_int_equal(used(*state), 0);
}

static void a_heap_stops_at_the_arenas_maximum(void **state)
{
	const char *path = box_path("small");
	tmc_shmem_t *small = tmc_shmem_create(path, NULL, NULL, MIB);
	tmc_mspace heap =
		tmc_mspace_create_special(0, 0, tmc_shmem_alloc(small));
	size_t peak = 0, n = 0, rounds;

	(void)state;
	assert_non_null(heap);
	for (rounds = 0; rounds < 3; rounds++) {
		void *list = NULL, *p;

		for (n = 0; (p = tmc_mspace_malloc(heap, 500)); n++) {
			*(void **)p = list;
			list = p;
		}
		assert_int_equal(errno, ENOMEM);
		assert_null_errno(tmc_mspace_malloc(heap, 300 * KIB), ENOMEM);
		assert_null_errno(tmc_mspace_memalign(heap, 64, 400), ENOMEM);
		assert_true(n > 1000);
		for (; list; list = p) {
			p = *(void **)list;
			tmc_mspace_free(list);
		}
	}
	assert_int_equal(tmc_mspace_check(heap), 0);
	tmc_mspace_statistics(heap, &peak, NULL, NULL);
	assert_in_range(peak, 512 * KIB, MIB);
	tmc_shmem_close(small);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* In a process that has nothing but a read-only handle. */
static int look_only(struct peer *self, void *heap)
{
	tmc_shmem_t *ro;
	tmc_alloc_t alloc;

	tmc_shmem_close(shm);
	ro = tmc_shmem_open_readonly(box_path("heap"));
	PEER_CHECK(self && ro);
	PEER_CHECK(!tmc_mspace_malloc(heap, 1) && errno == EACCES);
	PEER_CHECK(tmc_mspace_check(heap) == -1 && errno == EACCES);
	alloc = *tmc_shmem_alloc(ro);
	PEER_CHECK(!tmc_mspace_create_special(0, 0, &alloc) && errno == EACCES);
	PEER_CHECK(!tmc_mspace_create_with_base(tmc_shmem_address(ro),
						tmc_shmem_current_size(ro),
						0) &&
		   errno == EACCES);
	PEER_CHECK(!tmc_mspace_allocator(heap) && errno == EACCES);
	return 0;
}

static void readers_of_an_arena_have_no_heap(void **state)
{
	assert_int_equal(peer_run(look_only, *state), 0);
}

static void the_allocator_of_a_heap_is_its_arenas(void **state)
{
	tmc_alloc_t *alloc = tmc_mspace_allocator(*state);
	size_t size = tmc_shmem_current_size(shm);

	assert_non_null(alloc);
	assert_non_null(tmc_alloc_map(alloc, 1));
	assert_true(tmc_shmem_current_size(shm) > size);
	assert_null_errno(tmc_mspace_allocator(NULL), EINVAL);
}

static void so_it_is_of_a_heap_in_no_arena(void **state)
{
	static _Alignas(4096) char given[MIB];
	tmc_alloc_t alloc = TMC_ALLOC_INIT, *found;
	tmc_mspace heap;

	(void)state;
	tmc_alloc_set_thp(tmc_alloc_clear_populate(&alloc));
	tmc_alloc_set_nodes(&alloc, 1);
	alloc.mmap_prot |= PROT_EXEC;
	heap = tmc_mspace_create_special(0, 0, &alloc);
	found = tmc_mspace_allocator(heap);
	assert_int_equal(found->mmap_prot, alloc.mmap_prot);
	assert_int_equal(found->mbind_policy, alloc.mbind_policy);
	assert_int_equal(found->mbind_nodemask, 1);
	assert_int_equal(tmc_alloc_get_thp(found), 1);
	assert_int_equal(tmc_alloc_get_populate(found), 0);
	assert_true(tmc_mspace_destroy(heap) > 0);
	tmc_alloc_set_huge_preferred(&alloc);
	heap = tmc_mspace_create_special(0, 0, &alloc);
	found = tmc_mspace_allocator(heap);
	assert_int_equal(tmc_alloc_get_huge(found),
			 tmc_alloc_get_huge_pagesize() != 0);
	assert_int_equal(tmc_alloc_get_pagesize(found),
			 tmc_alloc_get_pagesize(&alloc));
	assert_int_equal(tmc_alloc_get_huge_preferred(found),
			 tmc_alloc_get_huge(found));
	assert_true(tmc_mspace_destroy(heap) > 0);
	/* Of memory that was given: the defaults. */
	heap = tmc_mspace_create_with_base(given, sizeof(given), 0);
	assert_non_null(tmc_mspace_allocator(heap));
	assert_int_equal(tmc_mspace_allocator(heap)->mmap_prot,
			 PROT_READ | PROT_WRITE);
	assert_true(tmc_mspace_destroy(heap) > 0);
}

static void a_heap_needs_memory_to_read_and_write(void **state)
{
	tmc_alloc_t alloc = TMC_ALLOC_INIT;

	(void)state;
	alloc.mmap_prot = PROT_READ;
	assert_null_errno(tmc_mspace_create_special(0, 0, &alloc), EINVAL);
	alloc.mmap_prot = PROT_WRITE;
	assert_null_errno(tmc_mspace_create_special(0, 0, &alloc), EINVAL);
	alloc.mmap_prot = PROT_NONE;
	assert_null_errno(tmc_mspace_create_special(0, 0, &alloc), EINVAL);
}

/* What a forger writes into the header is told by a process that comes new. */
static int finds_damage(struct peer *self, void *heap)
{
	PEER_CHECK(self);
	PEER_CHECK(tmc_mspace_check(heap) == -1 && errno == EUCLEAN);
	PEER_CHECK(!tmc_mspace_malloc(heap, 1) && errno == EUCLEAN);
	return 0;
}

static void a_damaged_heap_is_euclean(void **state)
{
	uint64_t *chunk = (uint64_t *)((char *)*state + 4096), kept = *chunk;
	uint32_t *gen = (uint32_t *)((char *)*state + 64 + 4), *nchunks;
	char *p = tmc_mspace_malloc(*state, 100 * KIB);
	struct heap_run *run = heap_run_of(p);
	uint64_t mark;

	assert_non_null(p);
	*chunk += 64 * KIB;
	++*gen;
	assert_int_equal(peer_run(finds_damage, *state), 0);
	*chunk = kept;
	nchunks = (uint32_t *)((char *)*state + 64);
	*nchunks += 1000;
	assert_int_equal(peer_run(finds_damage, *state), 0);
	*nchunks -= 1000;
	++*gen;
	mark = run->mark;
	run->mark = 1;
	assert_minus_errno(tmc_mspace_check(*state), EUCLEAN);
	run->mark = mark;
	assert_int_equal(tmc_mspace_check(*state), 0);
	run->len *= 100;
	assert_minus_errno(tmc_mspace_check(*state), EUCLEAN);
	run->len /= 100;
	tmc_mspace_free(p);
	p = tmc_mspace_malloc(*state, 100);
	run = heap_run_of(p);
	run->kind += 100;
	assert_minus_errno(tmc_mspace_check(*state), EUCLEAN);
	run->kind -= 100;
	assert_int_equal(tmc_mspace_check(*state), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_heap, drop_heap)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(random_calls_agree_with_a_model),
		TEST(processes_share_a_heap),
		TEST(threads_share_a_heap_and_leave_nothing),
		TEST(a_block_can_be_freed_by_another_process),
		TEST(a_heap_is_found_again_after_a_restart),
		TEST(application_and_heaps_grow_in_any_order),
		TEST(large_alignments_hold),
		TEST(a_full_heap_says_enomem_and_works_on),
		TEST(sizes_that_wrap_are_enomem),
		TEST(what_is_no_heap_is_refused),
		TEST(one_block_can_have_all_of_the_capacity),
		TEST(a_heap_lives_in_memory_of_the_caller),
		TEST(a_heap_ends_with_the_pages_that_are_there),
		TEST(a_private_heap_works_too),
		TEST(what_a_thread_leaves_is_taken_over),
		TEST(a_heap_stops_at_the_arenas_maximum),
		TEST(readers_of_an_arena_have_no_heap),
		TEST(the_allocator_of_a_heap_is_its_arenas),
		TEST(so_it_is_of_a_heap_in_no_arena),
		TEST(a_heap_needs_memory_to_read_and_write),
		TEST(a_damaged_heap_is_euclean),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
