/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * harness_heap.h - a sequence of a heap's calls from the input. Used by the
 * fuzzers and by test_heap_fuzz.c. What must not happen aborts.
 *
 * heap_run()		the heap behaves as the model here says, and
 *			tmc_mspace_check() finds it whole after each call
 * heap_forged_run()	words of the heap are overwritten between the calls. A
 *			call may fail or abort with its message; it must not
 *			crash or hang, and what it returns is aligned and in the
 *			arena. In a forked child, which is allowed to abort.
 */
#ifndef FUZZ_HARNESS_HEAP_H
#define FUZZ_HARNESS_HEAP_H

#include <shmem.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "box.h"
#include "heap.h"

#define CHECK(what)                                                            \
	do {                                                                   \
		if (!(what)) {                                                 \
			fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__,    \
				__LINE__, #what, errno);                       \
			broken();                                              \
		}                                                              \
	} while (0)

#define ADDR 0x550040000000ull /* free under all sanitizers */
#define MAXSIZE ((size_t)8 << 20)
#define BLOCKS 48
#define STEPS 96
#define HANG 60 /* seconds that one input may take */

#ifdef FORGED
/*
 * What is forged makes blocks overlap: what AddressSanitizer knows of free ones
 * then says nothing about the library.
 */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allow_user_poisoning=0";
}
#endif

/* How a child ends. */
enum { CHILD_WELL, CHILD_ABORTED = 3, CHILD_BROKEN = 4 };

static struct play {
	const uint8_t *p, *end; /* the input */
	bool forged, child;
	tmc_shmem_t *shm;
	char *base;
	tmc_mspace heap[2]; /* the second comes and goes */
	struct play_block {
		unsigned char *p; /* NULL: none */
		size_t n;
		unsigned char salt;
		int heap;
	} b[BLOCKS];
} play;

static void broken(void)
{
	if (play.child)
		_exit(CHILD_BROKEN);
	abort();
}

static unsigned int byte(void)
{
	return play.p < play.end ? *play.p++ : 0;
}

static uint64_t word(void)
{
	uint64_t w = byte();

	w |= (uint64_t)byte() << 8;
	return w | (uint64_t)byte() << 16;
}

/* Small ones, those at the ends of classes, large ones, and a few that wrap. */
static size_t some_size(void)
{
	unsigned int kind = byte();
	size_t n = byte();

	switch (kind % 8) {
	case 0:
	case 1:
		return n;
	case 2:
		return n * 8 - (kind >> 6);
	case 3:
		return n * 128 + (kind >> 5);
	case 4:
		return n * 1024 - (kind >> 5);
	case 5:
		return HEAP_SLICE * (n % 32) - kind;
	case 6:
		return n * 8192;
	default:
		return kind & 8 ? SIZE_MAX - n * 4096 : (size_t)n << (n % 48);
	}
}

/* ----- blocks ----- */

/* These take most of the time: the fuzzer need not look at them. */
#ifdef __clang__
#define UNSEEN __attribute__((no_sanitize("coverage")))
#else
#define UNSEEN
#endif

/* All of a block up to 512 bytes; of more every 509th. */
static inline UNSEEN size_t after(size_t i)
{
	return i + (i < 512 ? 1 : 509);
}

static UNSEEN void paint(struct play_block *b)
{
	size_t i;

	for (i = 0; i < b->n; i = after(i))
		b->p[i] = (unsigned char)(b->salt + i);
}

static UNSEEN void check_paint(const struct play_block *b, size_t n)
{
	size_t i;

	for (i = 0; i < n && !play.forged; i = after(i))
		CHECK(b->p[i] == (unsigned char)(b->salt + i));
}

static UNSEEN void check_zero(const unsigned char *p, size_t n)
{
	size_t i;

	for (i = 0; i < n && !play.forged; i = after(i))
		CHECK(!p[i]);
}

/* In the arena; of nobody else. */
static void check_place(const struct play_block *b, size_t align)
{
	size_t off = (size_t)((char *)b->p - play.base), usable;
	size_t size = tmc_shmem_current_size(play.shm);
	int i;

	CHECK((uintptr_t)b->p % align == 0 && (uintptr_t)b->p % 16 == 0);
	CHECK(off < size && b->n <= size - off);
	if (play.forged)
		return;
	usable = tmc_mspace_usable_size(b->p);
	CHECK(usable >= b->n);
	for (i = 0; i < BLOCKS; i++) {
		const struct play_block *o = &play.b[i];

		CHECK(o == b || !o->p || o->p + o->n <= b->p ||
		      b->p + usable <= o->p);
	}
}

static void made(struct play_block *b, void *p, size_t n, int heap,
		 size_t align)
{
	if (!p) {
		CHECK(errno && (play.forged || errno == ENOMEM));
		return;
	}
	*b = (struct play_block){ p, n, (unsigned char)byte(), heap };
	check_place(b, align);
	paint(b);
}

static int some_heap(void)
{
	return byte() % 4 == 0 && play.heap[1];
}

static void do_malloc(struct play_block *b)
{
	int h = some_heap();
	size_t n = some_size();

	if (!b->p)
		made(b, tmc_mspace_malloc(play.heap[h], n), n, h, 16);
}

static void do_calloc(struct play_block *b)
{
	int h = some_heap();
	size_t n = some_size(), m = byte() % 5, bytes = 0;
	void *p;

	if (b->p)
		return;
	p = tmc_mspace_calloc(play.heap[h], n, m);
	if (__builtin_mul_overflow(n, m, &bytes))
		CHECK(!p);
	if (p)
		check_zero(p, bytes);
	made(b, p, bytes, h, 16);
}

static void do_memalign(struct play_block *b)
{
	int h = some_heap();
	size_t n = some_size(), align = (size_t)1 << byte() % 24;

	if (!b->p)
		made(b, tmc_mspace_memalign(play.heap[h], align, n), n, h,
		     align);
}

static void do_realloc(struct play_block *b)
{
	size_t n = some_size(), least;
	void *p;

	if (!b->p)
		return;
	check_paint(b, b->n);
	least = n < b->n ? n : b->n;
	p = tmc_mspace_realloc(play.heap[b->heap], b->p, n);
	if (!p) {
		CHECK(errno && (play.forged || errno == ENOMEM));
		check_paint(b, b->n);
		return;
	}
	b->p = p;
	b->n = n;
	check_place(b, 16);
	check_paint(b, least);
	paint(b);
}

static void do_free(struct play_block *b)
{
	if (b->p)
		check_paint(b, b->n);
	tmc_mspace_free(b->p);
	b->p = NULL;
}

/* ----- the heap and the arena ----- */

static void do_second_heap(void)
{
	unsigned int how = byte();
	int i;

	if (!play.heap[1]) {
		play.heap[1] = tmc_mspace_create_special(
			(size_t)(how & 15) << 14, how & 16 ? 2 : 1,
			tmc_shmem_alloc(play.shm));
		return;
	}
	for (i = 0; i < BLOCKS; i++)
		if (play.b[i].heap == 1)
			play.b[i].p = NULL;
	CHECK(tmc_mspace_destroy(play.heap[1]) || play.forged);
	play.heap[1] = NULL;
}

static void do_grow(void)
{
	char *at = tmc_shmem_grow(play.shm, (byte() % 16 + 1) * 4096u);

	CHECK(at || errno == ENOMEM || play.forged);
	if (at && !play.forged)
		check_zero((unsigned char *)at, 4096);
}

static void do_statistics(int h)
{
	size_t peak, now, used, mine = 0;
	int i;

	tmc_mspace_statistics(play.heap[h], &peak, &now, &used);
	for (i = 0; i < BLOCKS; i++)
		if (play.b[i].p && play.b[i].heap == h)
			mine += play.b[i].n;
	CHECK(play.forged || (used >= mine && now >= used && peak >= now));
}

/* ----- the meddler ----- */

/* A head, a table's word, the header: what the library must not believe. */
static _Atomic uint64_t *some_word(unsigned int which)
{
	struct heap_hdr *h = play.heap[0];
	const struct play_block *b = &play.b[byte() % BLOCKS];
	char *at = (char *)h;

	switch (which % 8) {
	case 0: /* the header's first page, and chunks */
		at += word() % sizeof(struct heap_hdr);
		break;
	case 1:
		at += byte() % 88;
		break;
	case 2:
		at += 4096 + byte() % 128;
		break;
	case 3: /* the table */
		at += sizeof(struct heap_hdr) + byte() % 64 * 4;
		break;
	case 4: /* a free block, or somebody's data */
		at = play.base + word() % tmc_shmem_current_size(play.shm);
		break;
	default: /* the head of a run */
		if (b->p)
			at = (char *)heap_run_of(b->p) + byte() % HEAP_RUN_LEN;
	}
	at = (char *)((uintptr_t)at & ~(uintptr_t)3);
	if (at < play.base ||
	    at + 8 > play.base + tmc_shmem_current_size(play.shm))
		return NULL;
	return (_Atomic uint64_t *)at;
}

static void do_scribble(void)
{
	static const uint64_t values[] = { 0,	      1,	  UINT64_MAX,
					   INT64_MAX, 0xffff,	  0xfff0,
					   HEAP_USED, HEAP_COUNT, UINT32_MAX };
	unsigned int which = byte(), how = byte();
	char *at = (char *)some_word(which);
	uint64_t v = word(), w;

	if (!at)
		return;
	memcpy(&w, at, 8);
	switch (how % 8) {
	case 0:
		w = values[v % 9];
		break;
	case 1:
		w ^= (uint64_t)1 << v % 64;
		break;
	case 2:
		w += v;
		break;
	case 3:
		w -= v;
		break;
	case 4:
		w = v << 16 | v;
		break;
	case 5:
		w ^= v << v % 41;
		break;
	case 6: /* a link as it would be, to anywhere near */
		w = ((struct heap_hdr *)play.heap[0])->secret &
		    ~(uint64_t)(HEAP_SLICE - 1);
		w ^= heap_base(heap_run_of(at)) + (v & 0x3fff0);
		break;
	default:
		w = (uintptr_t)play.base + v;
	}
	memcpy(at, &w, how & 128 ? 4 : 8);
}

/* ----- */

static void step(void)
{
	unsigned int op = byte();
	struct play_block *b = &play.b[op / 16 * 3 % BLOCKS];

	if (op % 16 != 15 && byte() & 1)
		b = &play.b[byte() % BLOCKS];
	switch (op % 16) {
	case 0:
	case 1:
	case 2:
		do_malloc(b);
		break;
	case 3:
		do_calloc(b);
		break;
	case 4:
		do_memalign(b);
		break;
	case 5:
	case 6:
		do_realloc(b);
		break;
	case 7:
	case 8:
	case 9:
		do_free(b);
		break;
	case 10:
		CHECK(tmc_mspace_trim(play.heap[0], 0) >= 0 || play.forged);
		break;
	case 11:
		CHECK(tmc_mspace_usable_size(b->p) >= (b->p ? b->n : 0) ||
		      play.forged);
		break;
	case 12:
		do_second_heap();
		break;
	case 13:
		do_grow();
		break;
	case 14:
		do_statistics(some_heap());
		break;
	default:
		if (play.forged)
			do_scribble();
	}
}

static void check_heaps(void)
{
	int h;

	for (h = 0; h < 2; h++)
		if (play.heap[h])
			CHECK(!tmc_mspace_check(play.heap[h]) || play.forged);
}

/* All is given back, and all can be had again. */
static void give_all_back(void)
{
	size_t used, i;

	for (i = 0; i < BLOCKS; i++)
		do_free(&play.b[i]);
	CHECK(tmc_mspace_trim(play.heap[0], 0) >= 0 || play.forged);
	tmc_mspace_statistics(play.heap[0], NULL, NULL, &used);
	CHECK(!used || play.forged);
	check_heaps();
}

static void play_run(const uint8_t *data, size_t len, bool forged)
{
	int n;

	memset(&play.b, 0, sizeof(play.b));
	play.p = data;
	play.end = data + len;
	play.forged = forged;
	play.shm =
		tmc_shmem_create(box_path("heap"), NULL, (void *)ADDR, MAXSIZE);
	CHECK(play.shm && !tmc_shmem_unlink(box_path("heap")));
	play.base = tmc_shmem_address(play.shm);
	play.heap[1] = NULL;
	play.heap[0] = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
						 tmc_shmem_alloc(play.shm));
	CHECK(play.heap[0]);
	for (n = 0; n < STEPS && play.p < play.end; n++) {
		step();
		if (!forged || byte() % 8 == 0)
			check_heaps();
	}
	give_all_back();
	tmc_shmem_close(play.shm);
}

static void heap_run(const uint8_t *data, size_t len)
{
	play_run(data, len, false);
}

/* ----- in a child, whose coverage the fuzzer is to see ----- */

static char *counters; /* of edges; set by fuzz_heap_forged.c */
static size_t ncounters;
static char *copied; /* shared with the child */

static _Noreturn void child_ends(int code)
{
	if (ncounters)
		memcpy(copied, counters, ncounters);
	_exit(code);
}

static void child_aborts(int sig)
{
	(void)sig;
	child_ends(CHILD_ABORTED);
}

/* 1 if it aborted. */
static int heap_forged_run(const uint8_t *data, size_t len)
{
	int status;
	pid_t pid;

	if (!copied)
		copied = mmap(NULL, ncounters + 1, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(copied != MAP_FAILED);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

		play.child = true;
		signal(SIGALRM, SIG_DFL);
		signal(SIGABRT, child_aborts);
		alarm(HANG);
		if (!getenv("FUZZ_VERBOSE"))
			dup2(fd, 2); /* the heap's message */
		play_run(data, len, true);
		child_ends(CHILD_WELL);
	}
	while (waitpid(pid, &status, 0) != pid)
		CHECK(errno == EINTR); /* libFuzzer has a timer */
	if (ncounters)
		memcpy(counters, copied, ncounters);
	CHECK(WIFEXITED(status));
	CHECK(WEXITSTATUS(status) == CHILD_WELL ||
	      WEXITSTATUS(status) == CHILD_ABORTED);
	return WEXITSTATUS(status) == CHILD_ABORTED;
}

#endif
