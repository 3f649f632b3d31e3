/* SPDX-License-Identifier: BSD-3-Clause */
/* harness_calls.h - a sequence of calls from the input, with the file changed
 * in between. */
#ifndef FUZZ_HARNESS_CALLS_H
#define FUZZ_HARNESS_CALLS_H

#include "harness.h"

#include <sys/wait.h>

#define HANDLES 4
#define STEPS 48
/* The first byte of an arena whose grows are populated outside the lock. */
#define BIG 0xb1
#define BIG_MAX (8u << 20)

/*
 * While nobody has meddled with the file the arena behaves as the model here
 * says. After that what counts is that nothing worse happens than calls that
 * fail.
 */
static struct calls {
	const uint8_t *p, *end; /* the input */
	tmc_shmem_t *shm[HANDLES];
	bool ro[HANDLES];
	int rdonly; /* a descriptor that cannot write */
	uint64_t maxsize;
	uint64_t size; /* as it must be */
	bool meddled;
	uint64_t root;
} calls;
static unsigned int bigs, forks;

static unsigned int next(void)
{
	return calls.p < calls.end ? *calls.p++ : 0;
}

/*
 * What is slow is done at the first time that it is asked for, so that each
 * input alone means the same always, and then every 32nd.
 */
static bool rarely(unsigned int *times)
{
	return (*times)++ % 32 == 0;
}

static int pick(void)
{
	return (int)(next() % HANDLES);
}

static char *base(void)
{
	return (char *)(uintptr_t)world_const()->base;
}

static void check_handle(int i)
{
	tmc_shmem_t *shm = calls.shm[i];
	size_t size;

	if (!shm)
		return;
	size = tmc_shmem_current_size(shm);
	CHECK(size <= calls.maxsize && size % PAGE == 0);
	CHECK(tmc_shmem_maximum_size(shm) == calls.maxsize);
	CHECK(tmc_shmem_address(shm) == base());
	if (calls.meddled)
		return;
	CHECK(size == calls.size);
	CHECK((uintptr_t)tmc_shmem_get_data(shm) == calls.root);
}

/* What only a meddler can bring about is left to him. */
static void check_failed(void)
{
	CHECK(calls.meddled || errno == ENOMEM || errno == EACCES ||
	      errno == EINVAL);
}

/* New pages at @at: zero, and now marked. */
static void check_new(char *at, size_t bytes, bool zero)
{
	uint64_t off = (uint64_t)(at - base());
	size_t i;

	CHECK(off <= calls.maxsize && bytes <= calls.maxsize - off);
	if (calls.meddled)
		return;
	CHECK(off == calls.size);
	calls.size += bytes;
	CHECK(world_len(world.fd) == LAYOUT_DATA_OFF + calls.size);
	for (i = 0; i < bytes && zero; i += PAGE)
		CHECK(!at[i] && !at[i + PAGE - 1]);
	memset(at, 0x77, 8);
	memset(at + bytes - 8, 0x77, 8);
}

/* ----- the calls ----- */

static void do_open(bool by_path, bool ro)
{
	int i = pick(), fd = ro ? calls.rdonly : world.fd;

	if (calls.shm[i])
		return;
	if (!by_path)
		calls.shm[i] = tmc_shmem_open_fds(fd, -1);
	else if (ro)
		calls.shm[i] = tmc_shmem_open_readonly(world.a);
	else
		calls.shm[i] = tmc_shmem_open(world.a);
	if (!calls.shm[i]) {
		CHECK(calls.meddled);
		CHECK(errno == EINVAL || errno == ENOMEM ||
		      errno == EADDRINUSE);
		return;
	}
	calls.ro[i] = ro;
	world_check_place(calls.shm[i]);
}

static void do_close(void)
{
	int i = pick();

	tmc_shmem_close(calls.shm[i]);
	calls.shm[i] = NULL;
}

static size_t some_pages(unsigned int byte)
{
	/* In a big arena often beyond what is populated in one piece. */
	if (calls.maxsize == BIG_MAX && byte >= 0x80)
		return (byte & 7) << 20;
	return (byte & 15) * (size_t)PAGE;
}

static void do_grow(void)
{
	int i = pick();
	size_t n = some_pages(next());
	char *at;

	if (!calls.shm[i])
		return;
	at = tmc_shmem_grow(calls.shm[i], n);
	if (at)
		check_new(at, n, true);
	else
		check_failed();
	CHECK(!at || !calls.ro[i]);
}

static void shrunk(int rc, size_t n)
{
	if (rc)
		check_failed();
	else if (!calls.meddled)
		calls.size -= n;
}

static void do_shrink(void)
{
	int i = pick();
	size_t n = some_pages(next()), size;

	if (!calls.shm[i])
		return;
	size = tmc_shmem_current_size(calls.shm[i]);
	if (n > size)
		n = size;
	shrunk(tmc_shmem_shrink(calls.shm[i], (off_t)(size - n), n), n);
}

/* Any offset and length, mostly wrong ones. */
static void do_shrink_wrong(void)
{
	int i = pick();
	unsigned int a = next(), b = next();
	off_t off = (off_t)a * (b & 1 ? PAGE : PAGE / 2) - (b & 2 ? PAGE : 0);
	size_t n = b & 4 ? SIZE_MAX - a : (size_t)(b >> 3) * PAGE;
	uint64_t was = calls.size;

	if (!calls.shm[i] || tmc_shmem_shrink(calls.shm[i], off, n))
		return;
	if (calls.meddled)
		return;
	n = (n + PAGE - 1) & ~(size_t)(PAGE - 1);
	CHECK(off >= 0 && (uint64_t)off % PAGE == 0 &&
	      (uint64_t)off + n == was);
	calls.size = (uint64_t)off;
}

static void do_map(void)
{
	int i = pick();
	unsigned int byte = next();
	size_t n = some_pages(byte);
	tmc_alloc_t alloc;
	char *at;

	if (!calls.shm[i])
		return;
	alloc = *tmc_shmem_alloc(calls.shm[i]);
	if (byte & 16)
		tmc_alloc_clear_populate(&alloc);
	if (byte & 32)
		at = tmc_alloc_map_at(&alloc, base() + (byte & 15) * PAGE, n);
	else
		at = tmc_alloc_map(&alloc, n);
	if (at)
		check_new(at, n, true);
	else
		CHECK(errno == EADDRINUSE || (check_failed(), 1));
}

static void do_unmap(void)
{
	size_t n = some_pages(next());
	int i = pick();

	if (!calls.shm[i])
		return;
	if (!calls.meddled && n > calls.size)
		n = calls.size;
	shrunk(tmc_alloc_unmap(
		       base() + tmc_shmem_current_size(calls.shm[i]) - n, n),
	       n);
}

static void do_remap(void)
{
	int i = pick();
	size_t from = some_pages(next()), to = some_pages(next()), size;
	char *at;

	if (!calls.shm[i])
		return;
	size = tmc_shmem_current_size(calls.shm[i]);
	at = from > size ? base() : base() + size - from;
	if (tmc_alloc_remap(at, from, to, 0) == MAP_FAILED) {
		check_failed();
	} else if (!calls.meddled) {
		CHECK(from && to && from <= size);
		calls.size = calls.size - from + to;
	}
}

/* What is not the library's stays; world_check() looks. */
static void do_unmap_foreign(void)
{
	unsigned int n = next();

	CHECK(tmc_alloc_unmap(world.canary + (n & 15) * PAGE, PAGE));
	CHECK(tmc_alloc_unmap(base() + calls.maxsize, (n + 1) * PAGE));
	CHECK(tmc_alloc_remap(world.canary, PAGE, n * PAGE, 0) == MAP_FAILED);
}

static void do_root(void)
{
	int i = pick();
	uint64_t value = (uint64_t)next() << 40;

	if (!calls.shm[i])
		return;
	if (tmc_shmem_set_data(calls.shm[i], (void *)(uintptr_t)value))
		CHECK(errno == EACCES && calls.ro[i]);
	else
		calls.root = value;
}

/*
 * A child uses what it inherits; with all its own checks. Not while a forged
 * lock word has an owner: if that is our slot, the child waits for us as for
 * any owner that is alive, and we wait for the child.
 */
static void do_fork(void)
{
	int i = pick(), status;
	uint64_t lock = 0;
	pid_t pid;

	if (next() != 0xf0 || !calls.shm[i] || !rarely(&forks))
		return;
	if (pread(world.fd, &lock, sizeof(lock),
		  offsetof(struct layout_hdr, lock)) != sizeof(lock) ||
	    (lock & 0xffff))
		return;
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		char *at = tmc_shmem_grow(calls.shm[i], PAGE);

		if (at)
			check_new(at, PAGE, true);
		check_handle(i);
		tmc_shmem_close(calls.shm[i]);
		_exit(at ? 1 : 0);
	}
	while (waitpid(pid, &status, 0) != pid)
		CHECK(errno == EINTR); /* libFuzzer has a timer */
	CHECK(WIFEXITED(status));
	CHECK(WEXITSTATUS(status) <= 1);
	if (WEXITSTATUS(status))
		calls.size += PAGE;
	calls.p = calls.end; /* once: it is slow */
}

/* ----- the meddler ----- */

static bool anybody(void)
{
	return calls.shm[0] || calls.shm[1] || calls.shm[2] || calls.shm[3];
}

static void do_truncate(void)
{
	unsigned int byte = next();
	uint64_t len = LAYOUT_DATA_OFF + byte * (uint64_t)PAGE / 2;

	calls.meddled = true;
	if (byte >= 0xf0) /* below the header only when nobody has it mapped */
		len = anybody() ? LAYOUT_HDR_LEN : (byte & 15) * 2048u;
	else if (byte >= 0xe0)
		len = (uint64_t)1 << (20 + (byte & 15));
	if (ftruncate(world.fd, (off_t)len))
		return; /* too long */
}

/* A word, or a slot's, or a constant becomes something. */
static void do_scribble(void)
{
	static const uint64_t values[] = {
		0,	  1,	      PAGE,   UINT64_MAX, INT64_MAX,
		PAGE - 1, 0x10000000, 0xffff, UINT32_MAX, 1ull << 40,
	};
	static const unsigned int at[] = { 256, 264, 272, 280, 320 };
	unsigned int which = next(), kind = next();
	uint64_t value = values[kind % 10] + (kind >> 5) * PAGE;
	off_t off;

	calls.meddled = true;
	if (which < 128)
		off = at[which % 5];
	else if (which < 192)
		off = 1024 + (off_t)next() * 4;
	else
		off = (which - 192) / 8 * 8;
	if (off == 320) {
		value = (uint64_t)next() << 16 | (next() << 8 & 0xff00);
		value = world_no_live_owner(value | (kind & 0xff));
	}
	CHECK(pwrite(world.fd, &value, sizeof(value), off) == sizeof(value));
}

/* An arena as new, when nobody has it open: the model holds again. */
static void do_renew(void)
{
	if (anybody())
		return;
	CHECK(!ftruncate(world.fd, 0));
	calls.size = (uint64_t)NPAGES * PAGE;
	calls.root = 0;
	calls.meddled = false;
}

static void lay_template(uint64_t maxsize)
{
	static unsigned char header[LAYOUT_HDR_LEN];
	struct layout_hdr *h = (struct layout_hdr *)header;

	memcpy(header, world.header, sizeof(header));
	h->c.maxsize = maxsize;
	h->c.checksum = world_checksum(&h->c);
	CHECK(world_lay(header, world.len));
}

static void step(void)
{
	unsigned int op = next();

	switch (op & 15) {
	case 0:
	case 1:
	case 2:
	case 3:
		do_open(op & 1, op & 2);
		break;
	case 4:
		do_close();
		break;
	case 5:
		do_grow();
		break;
	case 6:
		do_shrink();
		break;
	case 7:
		do_shrink_wrong();
		break;
	case 8:
		do_map();
		break;
	case 9:
		do_unmap();
		break;
	case 10:
		do_remap();
		break;
	case 11:
		do_unmap_foreign();
		break;
	case 12:
		do_root();
		break;
	case 13:
		do_truncate();
		break;
	case 14:
		do_scribble();
		break;
	default:
		if (op & 16) {
			do_fork();
		} else if (!anybody()) {
			do_renew();
			lay_template(calls.maxsize);
		}
	}
}

static void calls_run(const uint8_t *data, size_t len)
{
	int i, n;

	world_begin();
	memset(&calls, 0, sizeof(calls));
	calls.p = data;
	calls.end = data + len;
	calls.maxsize = next() == BIG && rarely(&bigs) ? BIG_MAX : MAXSIZE;
	calls.size = (uint64_t)NPAGES * PAGE;
	calls.rdonly = open(world.a, O_RDONLY | O_CLOEXEC);
	CHECK(calls.rdonly >= 0);
	lay_template(calls.maxsize);
	for (n = 0; n < STEPS && calls.p < calls.end; n++) {
		step();
		for (i = 0; i < HANDLES; i++)
			check_handle(i);
	}
	for (i = 0; i < HANDLES; i++)
		tmc_shmem_close(calls.shm[i]);
	close(calls.rdonly);
	world_check();
}

#endif
