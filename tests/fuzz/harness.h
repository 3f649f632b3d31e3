/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * harness.h - a place to open forged arenas in, with all around it watched.
 *
 * One arena's file, "a", in a directory with files that are none of its
 * business, beside a piece of memory that is none either; as root also a
 * hugetlbfs mount with a companion and a stranger. Used by the fuzzers and by
 * test_forged.c. What must not happen aborts.
 */
#ifndef FUZZ_HARNESS_H
#define FUZZ_HARNESS_H

#include <shmem.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "box.h"
#include "companion.h"
#include "header.h"
#include "layout.h"
#include "os.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define PAGE 4096u
#define ADDR 0x550040000000ull /* free under all sanitizers */
#define MAXSIZE (256u << 10)
#define NPAGES 4u /* of the template */
#define CANARY_LEN (64u << 10)
#define HUGE ((uint64_t)2 << 20)
#define LOCKS ((uint64_t)1 << 62) /* users.c: FIRST */
#define BUSY_SLOT 300u

#define CHECK(what)                                                            \
	do {                                                                   \
		if (!(what)) {                                                 \
			fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__,    \
				__LINE__, #what, errno);                       \
			abort();                                               \
		}                                                              \
	} while (0)

static struct world {
	char dir[64], a[80], keep[80];
	unsigned char header[LAYOUT_HDR_LEN]; /* of a whole arena */
	uint64_t len;			      /* of its file */
	uint64_t ino;
	int fd;	     /* of its file, ours */
	int busy;    /* the same, another description */
	int next_fd; /* lowest free descriptor */
	unsigned char *canary;
	struct stat victims[2];
	bool huge;
	char companion[160], stranger[160];
	uint64_t companion_ino, stranger_ino;
	struct stat stranger_st;
} world;

static struct layout_const *world_const(void)
{
	return (struct layout_const *)world.header;
}

static uint64_t world_checksum(const struct layout_const *c)
{
	const unsigned char *p = (const unsigned char *)c;
	uint64_t sum = 0xcbf29ce484222325ull;
	size_t i;

	for (i = 0; i < offsetof(struct layout_const, checksum); i++)
		sum = (sum ^ p[i]) * 0x100000001b3ull;
	return sum;
}

/* ----- what must stay as it is ----- */

static const char *victim_name(int i)
{
	static char name[2][96];

	/* The second has a name as a companion's. */
	if (!i)
		snprintf(name[0], sizeof(name[0]), "%s/victim", world.dir);
	else
		snprintf(name[1], sizeof(name[1]), "%s/libshmem-0", world.dir);
	return name[i];
}

static uint64_t make_file(const char *path, const char *text)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct stat st;

	CHECK(fd >= 0 && !fstat(fd, &st));
	/* hugetlbfs cannot be written to */
	CHECK(!*text || write(fd, text, strlen(text)) > 0);
	close(fd);
	return st.st_ino;
}

static int lowest_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static void same_file(const char *path, const struct stat *was)
{
	struct stat st;

	CHECK(!lstat(path, &st));
	CHECK(st.st_ino == was->st_ino && st.st_size == was->st_size &&
	      st.st_nlink == was->st_nlink && st.st_mode == was->st_mode);
	CHECK(!memcmp(&st.st_mtim, &was->st_mtim, sizeof(st.st_mtim)) &&
	      !memcmp(&st.st_ctim, &was->st_ctim, sizeof(st.st_ctim)));
}

static unsigned int entries(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned int n = 0;

	CHECK(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static bool range_meets(uint64_t base, uint64_t len, const void *p, size_t n)
{
	uint64_t at = (uintptr_t)p;

	return at < base + len && base < at + n;
}

/* An arena that is open lies where nothing else does. */
static void world_check_place(const tmc_shmem_t *shm)
{
	uint64_t base = (uintptr_t)tmc_shmem_address(shm);
	uint64_t len = tmc_shmem_maximum_size(shm);

	CHECK(base && len && base + len > base);
	CHECK(!range_meets(base, len, world.canary, CANARY_LEN));
	CHECK(!range_meets(base, len, &base, sizeof(base)));
	CHECK(!range_meets(base, len, shm, 1));
	CHECK(!range_meets(base, len, &world, sizeof(world)));
	CHECK(!range_meets(base, len, (void *)(uintptr_t)abort, 1));
	CHECK(!range_meets(base, len, (void *)(uintptr_t)lowest_fd, 1));
}

static void world_check(void)
{
	size_t i;

	CHECK(lowest_fd() == world.next_fd);
	for (i = 0; i < CANARY_LEN; i += 64)
		CHECK(world.canary[i] == 0x5a);
	same_file(victim_name(0), &world.victims[0]);
	same_file(victim_name(1), &world.victims[1]);
	CHECK(entries(world.dir) == 2 + 2 + 2); /* a, keep */
	if (world.huge)
		same_file(world.stranger, &world.stranger_st);
}

/* ----- making it ----- */

static void make_companion(void)
{
	world.companion_ino = make_file(world.companion, "");
}

static void make_huge(void)
{
	const uint64_t *token = world_const()->token;
	char dir[] = "fuzzhuge";

	if (!box_can_mount() || !(shmi_os_huge_sizes() & HUGE) ||
	    box_hugetlbfs(dir, HUGE, "size=0")) /* no page is taken */
		return;
	world.huge = true;
	snprintf(world.companion, sizeof(world.companion),
		 "%s/libshmem-%016" PRIx64 "-%016" PRIx64 "%016" PRIx64,
		 box_path(dir), world.ino, token[0], token[1]);
	make_companion();
	/* Of another arena with the same token: no header leads there. */
	snprintf(world.stranger, sizeof(world.stranger),
		 "%s/libshmem-%016" PRIx64 "-%016" PRIx64 "%016" PRIx64,
		 box_path(dir), world.ino + 1, token[0], token[1]);
	world.stranger_ino = make_file(world.stranger, "");
	CHECK(!lstat(world.stranger, &world.stranger_st));
}

static void make_template(void)
{
	tmc_shmem_t *shm;
	struct stat st;

	shm = tmc_shmem_create(world.a, NULL, (void *)ADDR, MAXSIZE);
	if (!shm)
		shm = tmc_shmem_create(world.a, NULL, NULL, MAXSIZE);
	CHECK(shm);
	CHECK(tmc_shmem_grow(shm, (size_t)NPAGES * PAGE));
	tmc_shmem_close(shm);
	world.fd = open(world.a, O_RDWR | O_CLOEXEC);
	world.busy = open(world.a, O_RDWR | O_CLOEXEC);
	CHECK(world.fd >= 0 && world.busy >= 0 && !fstat(world.fd, &st));
	CHECK(pread(world.fd, world.header, LAYOUT_HDR_LEN, 0) ==
	      LAYOUT_HDR_LEN);
	/* The token is known, as far as it is random, so that inputs mean the
	 * same in each run. */
	world_const()->token[0] = 0x1111;
	CHECK(!shmi_companion_bind(world_const(), world.fd, st.st_ino));
	world_const()->checksum = world_checksum(world_const());
	world.len = (uint64_t)st.st_size;
	world.ino = st.st_ino;
	CHECK(!link(world.a, world.keep));
}

/* Needs the box; 0 or -1. */
static int world_open(void)
{
	uint64_t end = ADDR + (16u << 20);
	int i;

	snprintf(world.dir, sizeof(world.dir), "%s", box_path("fuzz"));
	if (mkdir(world.dir, 0700))
		return -1;
	snprintf(world.a, sizeof(world.a), "%s/a", world.dir);
	snprintf(world.keep, sizeof(world.keep), "%s/keep", world.dir);
	for (i = 0; i < 2; i++) {
		make_file(victim_name(i), "not yours");
		CHECK(!lstat(victim_name(i), &world.victims[i]));
	}
	make_template();
	world.canary =
		mmap((void *)end, CANARY_LEN, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (world.canary == MAP_FAILED)
		world.canary = mmap(NULL, CANARY_LEN, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(world.canary != MAP_FAILED);
	memset(world.canary, 0x5a, CANARY_LEN);
	make_huge();
	return 0;
}

static void world_close(void)
{
	close(world.fd);
	close(world.busy);
	munmap(world.canary, CANARY_LEN);
}

/* ----- using it ----- */

/* Before each input. */
static void world_begin(void)
{
	world.next_fd = lowest_fd();
}

/* Puts @header into the file, which is @len long then. 0: it cannot be. */
static bool world_lay(const unsigned char *header, uint64_t len)
{
	size_t n = len < LAYOUT_HDR_LEN ? (size_t)len : LAYOUT_HDR_LEN;

	/* tmpfs accounts for nothing; others may want the same. */
	if (len > INT64_MAX || ftruncate(world.fd, 0) ||
	    ftruncate(world.fd, (off_t)len))
		return false;
	CHECK(pwrite(world.fd, header, n, 0) == (ssize_t)n);
	return true;
}

static uint64_t world_len(int fd)
{
	struct stat st;

	CHECK(!fstat(fd, &st));
	return (uint64_t)st.st_size;
}

/* As if another process had it open. */
static void world_busy(bool on)
{
	struct flock l = {
		.l_type = on ? F_WRLCK : F_UNLCK,
		.l_whence = SEEK_SET,
		.l_start = (off_t)(LOCKS + 16 + BUSY_SLOT),
		.l_len = 1,
	};

	CHECK(!fcntl(world.busy, F_OFD_SETLK, &l));
}

/*
 * A lock word whose owner can be found dead: one of a slot that seems alive
 * would stop us, as a stopped owner does.
 */
static uint64_t world_no_live_owner(uint64_t lock)
{
	uint64_t owner = lock & 0xffff;

	if (owner && (owner <= LAYOUT_GUESTS || owner == BUSY_SLOT + 1))
		return lock & ~(uint64_t)0xffff;
	return lock;
}

/*
 * "a" has a second name, so tmc_shmem_unlink() leaves its companion alone: this
 * is what it does where there is none. -ENODATA: a header that it refuses.
 */
static int world_unlink_companion(void)
{
	struct layout_const c;
	struct stat st;

	CHECK(!fstat(world.fd, &st));
	if (pread(world.fd, &c, sizeof(c), 0) != sizeof(c) ||
	    shmi_header_check(&c, (uint64_t)st.st_size) || !shmi_header_huge(&c))
		return -ENODATA;
	return shmi_companion_unlink(&c, world.fd, world.ino);
}

/* After an unlink of ours: "a" is there again, the same file. */
static void world_put_back(void)
{
	struct stat st;

	if (lstat(world.a, &st))
		CHECK(errno == ENOENT && !link(world.keep, world.a));
	if (world.huge && lstat(world.companion, &st)) {
		CHECK(errno == ENOENT);
		make_companion();
	}
}

#endif
