/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_mspace_owner.c - who owns what in a heap, when the numbers that say so
 * begin anew, and when a thread ends without a word.
 */
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <shmem.h>

#include "kernel.h"
#include "peer.h"
#include "span.h"

#define MANY 2000

static tmc_shmem_t *shm;
static struct heap_hdr *heap;
static void *p[MANY];

static int make_heap(void **state)
{
	(void)state;
	shm = tmc_shmem_create(box_path("owner"), NULL, NULL, GIB);
	heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	return !heap;
}

static int drop_heap(void **state)
{
	(void)state;
	tmc_shmem_close(shm);
	return tmc_shmem_unlink(box_path("owner"));
}

static size_t used(void)
{
	size_t n = 0;

	tmc_mspace_statistics(heap, NULL, NULL, &n);
	return n;
}

static void take_many(void)
{
	size_t i;

	for (i = 0; i < MANY; i++)
		p[i] = tmc_mspace_malloc(heap, 100);
}

static void give_many(void)
{
	size_t i;

	for (i = 0; i < MANY; i++)
		tmc_mspace_free(p[i]);
}

/* As if so many processes had come to the heap with every slot. */
static void forge_lives(uint32_t n)
{
	size_t i;

	for (i = 0; i < LAYOUT_SLOTS; i++)
		heap->life[i] = n;
}

static uint64_t sum_of_lives(void)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < LAYOUT_SLOTS; i++)
		sum += heap->life[i];
	return sum;
}

/* ----- arrivals ----- */

static int stays_itself(struct peer *self, void *arg)
{
	uint64_t owner, lives;
	size_t i;

	PEER_CHECK(self && !arg);
	take_many();
	owner = shmi_thread_last->owner;
	PEER_CHECK(heap_owner_life(owner));
	lives = sum_of_lives();
	for (i = 0; i < 3; i++)
		PEER_CHECK(!tmc_mspace_check(heap));
	give_many();
	PEER_CHECK(shmi_thread_last->owner == owner);
	PEER_CHECK(sum_of_lives() == lives);
	return 0;
}

static void a_process_is_itself_when_the_count_begins_anew(void **state)
{
	uint32_t n;

	(void)state;
	for (n = HEAP_THREADS - 2; n <= HEAP_THREADS + 1; n++) {
		forge_lives(n);
		assert_int_equal(peer_run(stays_itself, NULL), 0);
	}
	assert_int_equal(tmc_mspace_check(heap), 0);
}

/* Who is alone has the first slot, and the same one the next time. */
static void what_an_earlier_life_left_is_nobodys(void **state)
{
	uint64_t owner;
	void *large;

	(void)state;
	forge_lives(0);
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(box_path("owner"));
	take_many();
	large = tmc_mspace_malloc(heap, 120 * KIB);
	tmc_mspace_free(large);
	large = tmc_mspace_malloc(heap, 120 * KIB);
	tmc_mspace_free(large); /* is held */
	owner = shmi_thread_last->owner;
	assert_int_equal(heap_owner_life(owner), 1);
	forge_lives(HEAP_THREADS);
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(box_path("owner"));
	assert_non_null(shm);
	give_many();
	assert_int_equal(heap_owner_life(shmi_thread_last->owner), 1);
	assert_int_equal(heap_owner_slot(shmi_thread_last->owner),
			 heap_owner_slot(owner));
	assert_int_equal(tmc_mspace_trim(heap, 0), 1);
	assert_int_equal(used(), 0);
	/* Also what was held: all of it is free. */
	assert_int_equal(tmc_mspace_trim(heap, 0), 0);
	assert_int_equal(tmc_mspace_check(heap), 0);
}

/* ----- threads ----- */

static void *my_number(void *number)
{
	tmc_mspace_free(tmc_mspace_malloc(heap, 100));
	*(uint32_t *)number = shmi_thread_last->view.number;
	return NULL;
}

static void no_two_threads_have_one_number(void **state)
{
	uint32_t mine, other;
	pthread_t thread;
	size_t i;

	(void)state;
	my_number(&mine);
	for (i = 0; i < 3; i++) {
		shmi_view_numbers =
			((uint64_t)i + 1) * ((uint64_t)HEAP_THREADS + 1) + mine;
		pthread_create(&thread, NULL, my_number, &other);
		pthread_join(thread, NULL);
		assert_int_equal(other, (mine + 1) & HEAP_THREADS);
	}
}

/* ----- a large block, when the one who held it dies ----- */

#define LARGE (120 * KIB)

static struct peer holder;
static char *given;

static int hold_and_give(struct peer *self, void *arg)
{
	uint64_t word;
	char *block = NULL;
	int i;

	PEER_CHECK(!arg);
	for (i = 0; i < 2; i++) { /* the second time it is held */
		block = tmc_mspace_malloc(heap, LARGE);
		PEER_CHECK(block);
		tmc_mspace_free(block);
	}
	PEER_CHECK(!peer_put(self, 0) && !peer_get(self, &word));
	given = tmc_mspace_malloc(heap, LARGE);
	PEER_CHECK(given == block);
	memset(given, 7, LARGE);
	PEER_CHECK(!peer_put(self, (uintptr_t)given));
	peer_get(self, &word); /* until it is killed */
	return 1;
}

/* The sweep has read whose the run is, and asks whether that one is alive. */
static void it_gives_and_dies(void)
{
	uint64_t word = 0;

	if (!peer_put(&holder, 0))
		peer_get(&holder, &word);
	given = (char *)(uintptr_t)word;
	peer_kill(&holder);
}

static void what_was_given_out_before_a_death_stays(void **state)
{
	uint64_t word;
	size_t i;

	(void)state;
	assert_int_equal(peer_fork(&holder, hold_and_give, NULL), 0);
	assert_int_equal(peer_get(&holder, &word), 0);
	kernel_before_look(it_gives_and_dies);
	assert_true(tmc_mspace_trim(heap, 0) >= 0);
	assert_non_null(given);
	assert_true(tmc_mspace_usable_size(given) >= LARGE);
	for (i = 0; i < LARGE; i++)
		assert_int_equal(given[i], 7);
	tmc_mspace_free(given);
	tmc_mspace_trim(heap, 0);
	assert_int_equal(used(), 0);
}

/* ----- strays, when the one who kept them dies ----- */

#define KEPT 10 /* the first goes home at once: its span is not known yet */

/* Its own span has no block in use. */
static int keep_strays(struct peer *self, void *arg)
{
	void *own = tmc_mspace_malloc(heap, 100);
	uint64_t word;
	size_t i;

	PEER_CHECK(own && !arg);
	for (i = 0; i <= KEPT; i++)
		tmc_mspace_free(p[i]);
	tmc_mspace_free(own);
	PEER_CHECK(!peer_put(self, 0));
	peer_get(self, &word); /* until it is killed */
	return 1;
}

static bool is_dead;

static void it_dies(void)
{
	peer_kill(&holder);
	is_dead = true;
}

/* The first look, for strays of the dead, finds it alive; the next is at the
 * spans. */
static void it_dies_before_the_next_look(void)
{
	kernel_before_look(it_dies);
}

static void strays_of_one_who_dies_during_a_sweep_come_home(void **state)
{
	uint64_t word;
	size_t i;

	(void)state;
	take_many();
	assert_int_equal(peer_fork(&holder, keep_strays, NULL), 0);
	assert_int_equal(peer_get(&holder, &word), 0);
	kernel_before_look(it_dies_before_the_next_look);
	assert_true(tmc_mspace_trim(heap, 0) >= 0);
	assert_true(is_dead);
	for (i = KEPT + 1; i < MANY; i++)
		tmc_mspace_free(p[i]);
	tmc_mspace_trim(heap, 0);
	assert_int_equal(used(), 0);
	assert_int_equal(tmc_mspace_check(heap), 0);
}

/* ----- a span of another's that is known, when its memory is no more ----- */

#define LOW 50000   /* blocks of 64 bytes, in as many slices as it takes */
#define HIGH 280000 /* and of 1000 bytes, HEAP_KNOWN slices further on */

static char *low[LOW], *high[HIGH];

static uintptr_t slice_of(const char *block)
{
	return ((uintptr_t)block - 1) / HEAP_SLICE;
}

/* One of the low blocks that could be one of the 1000 bytes, as far as the
 * map's arithmetic goes, if its span was not so far away. */
static size_t find_low(void)
{
	size_t i;

	for (i = LOW / 2; i < LOW; i++)
		if (((uintptr_t)low[i] - (uintptr_t)(heap_run_of(low[i]) + 1)) %
			    1024 ==
		    64)
			break;
	return i;
}

/* Two next to each other, where the map has the same place for them. */
static size_t find_high(const char *block)
{
	size_t i;

	for (i = 0; i < HIGH - 1; i++)
		if (slice_of(high[i]) == slice_of(block) + HEAP_KNOWN &&
		    high[i + 1] == high[i] + 1024)
			break;
	return i;
}

/* Two that are high, which make their span known, and then a low one. */
static int free_what_it_is_told(struct peer *self, void *arg)
{
	void *own = tmc_mspace_malloc(heap, 1000);
	uint64_t word;
	size_t i;

	PEER_CHECK(own && !arg && !peer_put(self, 0));
	for (i = 0; i < 3; i++) {
		PEER_CHECK(!peer_get(self, &word));
		tmc_mspace_free((void *)(uintptr_t)word);
		PEER_CHECK(!peer_put(self, 0));
	}
	tmc_mspace_free(own);
	return 0;
}

static void has_freed(struct peer *other, char **block)
{
	uint64_t word;

	assert_int_equal(peer_put(other, (uintptr_t)*block), 0);
	*block = NULL;
	assert_int_equal(peer_get(other, &word), 0);
}

static void a_known_span_is_not_looked_at_from_afar(void **state)
{
	struct peer other;
	struct stat st;
	uint64_t word;
	size_t i, k, m;
	char *gone;

	(void)state;
	assert_int_equal(peer_fork(&other, free_what_it_is_told, NULL), 0);
	assert_int_equal(peer_get(&other, &word), 0);
	for (i = 0; i < LOW; i++)
		low[i] = tmc_mspace_malloc(heap, 64);
	for (i = 0; i < HIGH; i++)
		high[i] = tmc_mspace_malloc(heap, 1000);
	k = find_low();
	assert_true(k < LOW);
	m = find_high(low[k]);
	assert_true(m < HIGH - 1);
	gone = high[m];
	has_freed(&other, &high[m]);
	has_freed(&other, &high[m + 1]);
	for (i = 0; i < HIGH; i++)
		tmc_mspace_free(high[i]);
	assert_int_equal(tmc_mspace_trim(heap, 0), 1);
	assert_int_equal(fstat(tmc_shmem_fd(shm), &st), 0);
	assert_true(gone > (char *)heap + st.st_size);
	has_freed(&other, &low[k]);
	assert_int_equal(peer_end(&other), 0);
	for (i = 0; i < LOW; i++)
		tmc_mspace_free(low[i]);
	tmc_mspace_trim(heap, 0);
	assert_int_equal(used(), 0);
}

/* ----- guests, who may not open the file ----- */

/* Told how to end: 0, properly. */
static int take_as_guest(struct peer *self, void *arg)
{
	int fd = peer_get_fd(self);
	tmc_shmem_t *guest;
	uint64_t word = 1;
	size_t i;

	PEER_CHECK(!arg && fd >= 0);
	tmc_shmem_close(shm);
	kernel_without_reopen();
	guest = tmc_shmem_open_fds(fd, -1);
	PEER_CHECK(guest);
	take_many();
	PEER_CHECK(heap_owner_slot(shmi_thread_last->owner) < LAYOUT_GUESTS);
	for (i = 0; i < MANY; i++)
		PEER_CHECK(!peer_put(self, (uintptr_t)p[i]));
	PEER_CHECK(!peer_get(self, &word) && !word);
	tmc_shmem_close(guest);
	return 0;
}

static void have_guest(struct peer *guest)
{
	uint64_t word;
	size_t i;

	assert_int_equal(peer_fork(guest, take_as_guest, NULL), 0);
	assert_int_equal(peer_put_fd(guest, tmc_shmem_fd(shm)), 0);
	for (i = 0; i < MANY; i++) {
		assert_int_equal(peer_get(guest, &word), 0);
		p[i] = (void *)(uintptr_t)word;
	}
	give_many();
	assert_true(tmc_mspace_trim(heap, 0) >= 0);
	assert_true(used() > 0); /* in spans that are the guest's */
}

static void what_a_guest_had_that_left_is_taken_over(void **state)
{
	struct peer guest;

	(void)state;
	have_guest(&guest);
	assert_int_equal(peer_put(&guest, 0), 0);
	assert_int_equal(peer_end(&guest), 0);
	assert_int_equal(tmc_mspace_trim(heap, 0), 1);
	assert_int_equal(used(), 0);
}

/* Nobody knows that it is dead while others have the arena open. */
static void what_a_guest_had_that_was_killed_is_taken_over_at_rest(void **state)
{
	struct peer guest;

	(void)state;
	have_guest(&guest);
	peer_kill(&guest);
	tmc_mspace_trim(heap, 0);
	assert_int_equal(tmc_mspace_check(heap), 0);
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(box_path("owner"));
	assert_non_null(shm);
	assert_int_equal(tmc_mspace_trim(heap, 0), 1);
	assert_int_equal(used(), 0);
}

/* ----- a thread's end ----- */

static void *take_and_vanish(void *arg)
{
	take_many();
	syscall(SYS_exit, 0);
	return arg;
}

static void *take_and_wait(void *fd)
{
	char byte;

	take_many();
	write(((int *)fd)[1], "x", 1);
	for (;;)
		read(((int *)fd)[2], &byte, 1); /* where it is cancelled */
	return NULL;
}

static void *take_and_exit(void *arg)
{
	take_many();
	pthread_exit(arg);
}

static int end_thread(void *(*run)(void *arg))
{
	int fd[4];
	char byte;
	pthread_t thread;

	PEER_CHECK(!pipe(fd) && !pipe(fd + 2));
	PEER_CHECK(!pthread_create(&thread, NULL, run, fd));
	if (run == take_and_wait) {
		PEER_CHECK(read(fd[0], &byte, 1) == 1);
		PEER_CHECK(!pthread_cancel(thread));
	}
	PEER_CHECK(!pthread_join(thread, NULL));
	return 0;
}

static int thread_is_cancelled(struct peer *self, void *how)
{
	PEER_CHECK(self);
	if (end_thread(how ? take_and_exit : take_and_wait))
		return 1;
	give_many();
	PEER_CHECK(tmc_mspace_trim(heap, 0) == 1);
	PEER_CHECK(used() == 0);
	return 0;
}

static void a_thread_that_is_cancelled_gives_its_spans_back(void **state)
{
	(void)state;
	assert_int_equal(peer_run(thread_is_cancelled, NULL), 0);
	assert_int_equal(peer_run(thread_is_cancelled, heap), 0);
	assert_int_equal(used(), 0);
}

/* What it had is its process's, as libshmem(7) says. */
static int thread_vanishes(struct peer *self, void *arg)
{
	size_t footprint, after, i;

	PEER_CHECK(self && !arg && !end_thread(take_and_vanish));
	give_many();
	tmc_mspace_statistics(heap, NULL, &footprint, NULL);
	for (i = 0; i < 10; i++) {
		take_many();
		give_many();
	}
	tmc_mspace_statistics(heap, NULL, &after, NULL);
	PEER_CHECK(after <= footprint + MIB);
	PEER_CHECK(tmc_mspace_trim(heap, 0) >= 0 && !tmc_mspace_check(heap));
	return 0;
}

static void what_a_thread_has_that_vanishes_stays_while_its_process_lives(
	void **state)
{
	(void)state;
	if (UNDER_SANITIZER) {
		print_message("a sanitizer waits for the thread's end\n");
		skip();
	}
	assert_int_equal(peer_run(thread_vanishes, NULL), 0);
	assert_int_equal(tmc_mspace_trim(heap, 0), 1);
	assert_int_equal(used(), 0);
}

#define FEW 300

static int fill_at(void *base, int byte)
{
	size_t i;

	heap = tmc_mspace_access_with_base(base);
	for (i = 0; heap && i < FEW; i++) {
		p[i] = tmc_mspace_malloc(heap, 40);
		if (!p[i])
			return -1;
		memset(p[i], byte, 40);
	}
	return heap ? 0 : -1;
}

static int has_only(int byte)
{
	const unsigned char *q;
	size_t i;

	for (i = 0; i < FEW; i++) {
		q = p[i];
		if (q[0] != byte || memcmp(q, q + 1, 39))
			return 0;
	}
	return 1;
}

/* Has spans of the first heap at a place, and uses the second one there. */
static int uses_both(struct peer *self, void *base)
{
	uint64_t others;
	size_t i;

	PEER_CHECK(!fill_at(base, 1));
	for (i = 0; i < FEW; i += 2)
		tmc_mspace_free(p[i]);
	PEER_CHECK(!peer_put(self, 0) && !peer_get(self, &others));
	PEER_CHECK(!fill_at(base, 3));
	tmc_mspace_free((char *)(uintptr_t)others);
	PEER_CHECK(has_only(3));
	for (i = 0; i < FEW; i++)
		tmc_mspace_free(p[i]);
	PEER_CHECK(!tmc_mspace_check(heap));
	return 0;
}

static void a_heap_is_made_where_others_knew_an_earlier_one(void **state)
{
	char *base = tmc_shmem_grow(shm, 2 * MIB);
	struct peer other;
	uint64_t word;

	(void)state;
	assert_non_null(tmc_mspace_create_with_base(base, 2 * MIB, 0));
	assert_int_equal(fill_at(base, 0), 0);
	assert_int_equal(peer_fork(&other, uses_both, base), 0);
	assert_int_equal(peer_get(&other, &word), 0);
	assert_true(tmc_mspace_destroy(heap) > 0);
	assert_non_null(tmc_mspace_create_with_base(base, 2 * MIB, 0));
	assert_int_equal(fill_at(base, 2), 0);
	assert_int_equal(peer_put(&other, (uintptr_t)p[FEW - 1]), 0);
	p[FEW - 1] = p[0];
	assert_int_equal(peer_end(&other), 0);
	assert_true(has_only(2));
	assert_int_equal(tmc_mspace_check(heap), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_heap, drop_heap)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_process_is_itself_when_the_count_begins_anew),
		TEST(what_an_earlier_life_left_is_nobodys),
		TEST(no_two_threads_have_one_number),
		TEST(what_was_given_out_before_a_death_stays),
		TEST(strays_of_one_who_dies_during_a_sweep_come_home),
		TEST(a_known_span_is_not_looked_at_from_afar),
		TEST(what_a_guest_had_that_left_is_taken_over),
		TEST(what_a_guest_had_that_was_killed_is_taken_over_at_rest),
		TEST(a_thread_that_is_cancelled_gives_its_spans_back),
		TEST(what_a_thread_has_that_vanishes_stays_while_its_process_lives),
		TEST(a_heap_is_made_where_others_knew_an_earlier_one),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
