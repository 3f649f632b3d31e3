/* SPDX-License-Identifier: BSD-3-Clause */
/* bare.h - the same work as an arena's by bare system calls, for bench_*.c. */
#ifndef TESTS_BARE_H
#define TESTS_BARE_H

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <shmem.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* An arena's file: header, a hole, and its bytes from here on. */
#define BARE_HDR 16384u
#define BARE_DATA 0x200000

struct bare {
	char *base; /* the reservation, at a fixed address */
	char *hdr;
	size_t max; /* bytes reserved */
	size_t page;
	size_t size; /* bytes in use */
	off_t data;  /* where they start in the file */
	int fd;
};

/*
 * A place of @max bytes where an arena would be, so that both have the same
 * page tables to fill. NULL with errno.
 */
static inline char *bare_place(const char *scratch, size_t max)
{
	tmc_shmem_t *a = tmc_shmem_create(scratch, NULL, NULL, max);
	char *at;

	if (!a)
		return NULL;
	at = tmc_shmem_address(a);
	tmc_shmem_close(a);
	tmc_shmem_unlink(scratch);
	return at;
}

static inline void *bare_map(char *at, size_t len, int prot, int fd, off_t off)
{
	int flags = MAP_SHARED | (at ? MAP_NORESERVE | MAP_FIXED_NOREPLACE : 0);
	void *p = mmap(at, len, prot, flags, fd, off);

	return p == MAP_FAILED ? NULL : p;
}

static inline void bare_free(struct bare *b)
{
	if (b->base)
		munmap(b->base, b->max);
	if (b->hdr)
		munmap(b->hdr, BARE_HDR);
	close(b->fd);
}

/*
 * A file without a name in @dir (on a hugetlbfs mount: huge pages) of the same
 * shape and mapped in the same way as an arena of size 0, at @at. 0 or -1.
 */
static inline int bare_make(struct bare *b, const char *dir, char *at,
			    size_t max, size_t page)
{
	int huge = page > (size_t)sysconf(_SC_PAGESIZE);
	char header[BARE_HDR];

	memset(b, 0, sizeof(*b));
	b->max = max;
	b->page = page;
	b->data = huge ? 0 : BARE_DATA;
	b->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (b->fd < 0)
		return -1;
	memset(header, 1, sizeof(header));
	if (!huge && (pwrite(b->fd, header, BARE_HDR, 0) != BARE_HDR ||
		      ftruncate(b->fd, b->data)))
		goto undo;
	if (!huge) {
		b->hdr = bare_map(NULL, BARE_HDR, PROT_READ | PROT_WRITE, b->fd,
				  0);
		if (!b->hdr)
			goto undo;
	}
	/* Writable at once, a file of huge pages would be made longer. */
	b->base = bare_map(at, max, huge ? PROT_READ : PROT_READ | PROT_WRITE,
			   b->fd, b->data);
	if (!b->base ||
	    (huge && mprotect(b->base, max, PROT_READ | PROT_WRITE)))
		goto undo;
	return 0;
undo:
	bare_free(b);
	return -1;
}

static inline int bare_resize(struct bare *b, size_t size)
{
	if (ftruncate(b->fd, b->data + (off_t)size))
		return -1;
	b->size = size;
	return 0;
}

/* ----- ways to get @n bytes more, present and mapped; 0, or -1 ----- */

typedef int bare_way(struct bare *b, size_t n);

static inline int bare_allocate(struct bare *b, size_t n)
{
	if (fallocate(b->fd, 0, b->data + (off_t)b->size, (off_t)n))
		return -1;
	b->size += n;
	return 0;
}

static inline int bare_populate(char *at, size_t n)
{
	return madvise(at, n, MADV_POPULATE_WRITE);
}

static inline int bare_touch(struct bare *b, char *at, size_t n)
{
	size_t i;

	for (i = 0; i < n; i += b->page)
		*(volatile char *)(at + i) = 0;
	return 0;
}

static inline int way_touch(struct bare *b, size_t n)
{
	char *at = b->base + b->size;

	return bare_resize(b, b->size + n) ? -1 : bare_touch(b, at, n);
}

static inline int way_populate(struct bare *b, size_t n)
{
	char *at = b->base + b->size;

	return bare_resize(b, b->size + n) ? -1 : bare_populate(at, n);
}

static inline int way_allocate_touch(struct bare *b, size_t n)
{
	char *at = b->base + b->size;

	return bare_allocate(b, n) ? -1 : bare_touch(b, at, n);
}

static inline int way_allocate_populate(struct bare *b, size_t n)
{
	char *at = b->base + b->size;

	return bare_allocate(b, n) ? -1 : bare_populate(at, n);
}

static inline int way_pieces(struct bare *b, size_t n)
{
	const size_t most = 4u << 20;

	while (n) {
		size_t piece = n < most ? n : most;

		if (way_allocate_populate(b, piece))
			return -1;
		n -= piece;
	}
	return 0;
}

/* hugetlbfs takes no writes. */
static inline int way_write(struct bare *b, size_t n)
{
	enum { PARTS = 64, PART = 4096 };
	static const char zeros[PART];
	const volatile char *at = b->base + b->size;
	struct iovec part[PARTS];
	size_t done, i;
	ssize_t wrote;

	for (i = 0; i < PARTS; i++)
		part[i] = (struct iovec){ (void *)(uintptr_t)zeros, PART };
	for (done = 0; done < n; done += (size_t)wrote) {
		size_t left = (n - done) / PART;

		wrote = pwritev(b->fd, part, (int)(left < PARTS ? left : PARTS),
				b->data + (off_t)(b->size + done));
		if (wrote <= 0)
			return -1;
		for (i = 0; i < (size_t)wrote; i += PART)
			(void)at[done + i];
	}
	b->size += n;
	return 0;
}

#endif
