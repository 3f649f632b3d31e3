/* SPDX-License-Identifier: BSD-3-Clause */
/* instance.c - the files of ODP instances: made, joined, and swept away */
/*
 * An instance is the file odp-ID in a directory, an arena of small pages that
 * has the table of blocks in front; and, from when they are wanted, further
 * arenas, odp-ID.hp-XXXXXX of huge pages, odp-ID.lz-XXXXXX whose memory comes
 * when it is touched. The table has their names.
 *
 * Who has an instance open, be it his own or one he imports from, holds a
 * shared flock(2) on odp-ID, with a descriptor of his own that children
 * inherit. The kernel drops it at the end of the last of them, in every PID
 * namespace. So a file is a leftover if an exclusive lock on it can be had.
 * (These locks and those of libshmem, of fcntl(2), know nothing of each other.)
 *
 * A file is made, then locked, and a sweep may come in between. So whoever has
 * locked a file looks whether it is still the one of that name; if not, a maker
 * makes another one, and one who joins finds none.
 *
 * A further arena may be made by several at once. Each makes one of a temporary
 * name, with its heap, under the lock; the first to put his name into the table
 * has made it, others remove theirs. What one leaves who dies before that, the
 * next maker sweeps away: it is not the table's and its lock is free.
 */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_MEMORY ((uint64_t)16 << 30)
#define DEFAULT_BLOCKS 16384u
#define MOST_BLOCKS (1u << 24)
#define NAME_LEN 20 /* of odp-ID */
#define PATH_LEN 512

static struct odp_instance self;
static _Atomic bool joined;
static _Atomic(struct odp_instance *) others;

/* Who has called init: a child is in the instance, too, but the lock is also
 * its parent's, and tells nothing about that. */
static pid_t owner;
static bool *owner_mark; /* in a page of its own; NULL: could not be had */

struct odp_instance *odpi_self(void)
{
	/* acquire: with the release of the one who has filled it */
	if (atomic_load_explicit(&joined, memory_order_acquire))
		return &self;
	errno = ENXIO;
	return NULL;
}

/* ----- names ----- */

static const char *directory(void)
{
	const char *dir = getenv("ODP_SHM_DIR");

	return dir && *dir ? dir : "/dev/shm";
}

/* 0 or -1. */
static int path_of(odp_instance_t id, const char *rest, char *path)
{
	int n = snprintf(path, PATH_LEN, "%s/odp-%016llx%s", directory(),
			 (unsigned long long)id, rest);

	if (n < PATH_LEN)
		return 0;
	errno = ENAMETOOLONG;
	return -1;
}

static const char *const ending[ODP_FURTHER] = {
	[ODP_HUGE] = ".hp-XXXXXX",
	[ODP_LAZY] = ".lz-XXXXXX",
};
#define REST_LEN 16

/* The end of a further arena's name, from what the table has. */
static void rest_of(enum odp_where kind, uint64_t name, char rest[REST_LEN])
{
	snprintf(rest, REST_LEN, "%s", ending[kind]);
	memcpy(rest + 4, &name, 6);
}

/* 0: no name of ours. @further: whether it is that of a further arena. */
static odp_instance_t id_of(const char *name, bool *further)
{
	unsigned long long id;
	char again[NAME_LEN + 1];
	const char *rest = name + strnlen(name, NAME_LEN);

	*further = false;
	if (strncmp(name, "odp-", 4))
		return 0;
	id = strtoull(name + 4, NULL, 16);
	snprintf(again, sizeof(again), "odp-%016llx", id);
	*further = strlen(rest) == 10 &&
		   (!strncmp(rest, ".hp-", 4) || !strncmp(rest, ".lz-", 4));
	return !strncmp(again, name, NAME_LEN) && (*further || !*rest) ? id : 0;
}

/* ----- locks ----- */

static int flock_again(int fd, int how)
{
	int err;

	do
		err = flock(fd, how);
	while (err && errno == EINTR);
	return err;
}

/* Whether the file behind @fd is (still) the one of that name. */
static bool is_named(int fd, const char *path)
{
	struct stat have, is;

	return !fstat(fd, &have) && !lstat(path, &is) &&
	       have.st_dev == is.st_dev && have.st_ino == is.st_ino;
}

/*
 * A descriptor of the file with a lock. -1 with errno: EWOULDBLOCK, it is in
 * use; ENOENT, it is not that name's any more.
 */
static int lock_file(const char *path, int how)
{
	/* Not to hang on what is no file at all. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK),
	    err;

	if (fd < 0)
		return -1;
	if (!flock_again(fd, how)) {
		if (is_named(fd, path))
			return fd;
		errno = ENOENT;
	}
	err = errno;
	close(fd);
	errno = err;
	return -1;
}

/* ----- what others have left ----- */

/* One that the table names. */
static bool is_ours(const struct odp_instance *in, const char *file)
{
	char rest[REST_LEN];
	unsigned int kind;

	for (kind = 0; in && kind < ODP_FURTHER; kind++) {
		/* acquire: its maker has let go of the lock after he had set
		 * this */
		uint64_t name = atomic_load_explicit(&in->dir->further[kind],
						     memory_order_acquire);

		rest_of(kind, name, rest);
		if (name && !strcmp(file + NAME_LEN, rest))
			return true;
	}
	return false;
}

/* Further arenas of instance @id that nobody makes or has made. @in: it is ours,
 * or else nobody's. */
static void sweep_further(odp_instance_t id, const struct odp_instance *in)
{
	DIR *dir = opendir(directory());
	struct dirent *e;
	char path[PATH_LEN];
	bool further;
	int fd;

	while (dir && (e = readdir(dir))) {
		if (id_of(e->d_name, &further) != id || !further ||
		    path_of(id, e->d_name + NAME_LEN, path))
			continue;
		fd = lock_file(path, LOCK_EX | LOCK_NB);
		if (fd < 0)
			continue;
		if (!is_ours(in, e->d_name))
			tmc_shmem_unlink(path); /* if it is an arena */
		close(fd);
	}
	if (dir)
		closedir(dir);
}

/* The first file last, so that a sweep which dies is done again. */
static void remove_instance(odp_instance_t id, const char *path)
{
	sweep_further(id, NULL);
	tmc_shmem_unlink(path);
}

static void sweep(void)
{
	DIR *dir = opendir(directory());
	struct dirent *e;
	char path[PATH_LEN];
	odp_instance_t id;
	bool further;
	int fd;

	while (dir && (e = readdir(dir))) {
		id = id_of(e->d_name, &further);
		if (!id || path_of(id, "", path))
			continue;
		fd = lock_file(path, LOCK_EX | LOCK_NB);
		if (fd >= 0) {
			remove_instance(id, path);
			close(fd);
		} else if (further && errno == ENOENT) {
			sweep_further(id, NULL);
		}
	}
	if (dir)
		closedir(dir);
}

/* ----- further arenas ----- */

static void set_alloc(tmc_alloc_t *alloc, const struct odp_directory *d)
{
	tmc_alloc_init(alloc);
	tmc_alloc_set_mode(alloc, d->mode);
}

/* An arena with a heap, and a lock on it, at @path, which is a template. */
static tmc_shmem_t *new_arena(struct odp_instance *in, enum odp_where kind,
			      char *path, int *lock)
{
	tmc_alloc_t alloc;
	tmc_shmem_t *shm;
	tmc_mspace heap;

	set_alloc(&alloc, in->dir);
	if (kind == ODP_HUGE)
		tmc_alloc_set_huge(&alloc);
	else
		tmc_alloc_clear_populate(&alloc);
	shm = tmc_shmem_create_temp(path, &alloc, NULL, in->dir->max_memory);
	if (!shm)
		return NULL;
	*lock = lock_file(path, LOCK_SH | LOCK_NB);
	if (*lock >= 0) {
		heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
						 tmc_shmem_alloc(shm));
		if (heap && !tmc_shmem_set_data(shm, heap))
			return shm;
		close(*lock);
	}
	/* No page is free; or one who sweeps was faster, which is once in a
	 * blue moon, and so there is no other attempt. */
	tmc_shmem_unlink(path);
	tmc_shmem_close(shm);
	errno = ENOMEM;
	return NULL;
}

/* NULL also where another one has made it at the same time. */
static tmc_shmem_t *make_further(struct odp_instance *in, enum odp_where kind)
{
	char path[PATH_LEN];
	tmc_shmem_t *shm;
	uint64_t none = 0, name = 0;
	int lock;

	errno = ENODEV;
	if (kind == ODP_HUGE && !in->huge_size)
		return NULL;
	sweep_further(in->id, in);
	if (path_of(in->id, ending[kind], path))
		return NULL;
	shm = new_arena(in, kind, path, &lock);
	if (!shm)
		return NULL;
	memcpy(&name, path + strlen(path) - 6, 6);
	/* release: it is complete. Dying before this leaves a file for the next
	 * sweep. */
	if (!atomic_compare_exchange_strong_explicit(
		    &in->dir->further[kind], &none, name, memory_order_release,
		    memory_order_relaxed)) {
		tmc_shmem_unlink(path);
		tmc_shmem_close(shm);
		shm = NULL;
	}
	close(lock);
	return shm;
}

static tmc_shmem_t *open_further(struct odp_instance *in, enum odp_where kind,
				 bool make)
{
	char path[PATH_LEN], rest[REST_LEN];
	tmc_shmem_t *shm = NULL;
	/* acquire, here and below: with the release of who made it */
	uint64_t name = atomic_load_explicit(&in->dir->further[kind],
					     memory_order_acquire);

	errno = ENOENT;
	if (!name && make) {
		shm = make_further(in, kind);
		if (!shm)
			name = atomic_load_explicit(&in->dir->further[kind],
						    memory_order_acquire);
	}
	if (!name)
		return shm;
	rest_of(kind, name, rest);
	return path_of(in->id, rest, path) ? NULL : tmc_shmem_open(path);
}

tmc_shmem_t *odpi_further(struct odp_instance *in, enum odp_where kind,
			  bool make)
{
	/* acquire: with the release of the thread that has opened it */
	tmc_shmem_t *shm = atomic_load_explicit(&in->further[kind],
						memory_order_acquire),
		    *none = NULL;

	if (shm)
		return shm;
	shm = open_further(in, kind, make);
	if (!shm)
		return NULL;
	/* Of two threads one keeps his. release, acquire: as above. */
	if (!atomic_compare_exchange_strong_explicit(&in->further[kind], &none,
						     shm, memory_order_acq_rel,
						     memory_order_acquire)) {
		tmc_shmem_close(shm);
		shm = none;
	}
	return shm;
}

/* ----- opening ----- */

static void begin(struct odp_instance *in, odp_instance_t id)
{
	memset(in, 0, sizeof(*in));
	in->id = id;
	in->lock = -1;
	in->huge_size = tmc_alloc_get_huge_pagesize();
}

static void leave(struct odp_instance *in)
{
	unsigned int kind;
	int err = errno;

	for (kind = 0; kind < ODP_FURTHER; kind++)
		tmc_shmem_close(atomic_load(&in->further[kind]));
	tmc_shmem_close(in->shm);
	if (in->lock >= 0)
		close(in->lock);
	memset(in, 0, sizeof(*in));
	errno = err;
}

/* What is in front of the arena, if it is that, into @in. 0 or -1. */
static int find_directory(struct odp_instance *in)
{
	struct odp_directory *d = tmc_shmem_get_data(in->shm);
	size_t size = tmc_shmem_current_size(in->shm);

	errno = ENOENT; /* not yet complete, or never */
	if (!d)
		return -1;
	errno = EINVAL;
	if ((void *)d != tmc_shmem_address(in->shm) || size < sizeof(*d) ||
	    d->magic != ODP_MAGIC)
		return -1;
	in->dir = d;
	in->nlines = d->nlines; /* and what is there is not read again */
	return in->nlines && !(in->nlines & (in->nlines - 1)) &&
			       in->nlines <=
				       (size - sizeof(*d)) / sizeof(d->line[0])
		       ? 0
		       : -1;
}

static int enter(struct odp_instance *in, odp_instance_t id)
{
	char path[PATH_LEN];

	begin(in, id);
	if (path_of(id, "", path))
		return -1;
	in->lock = lock_file(path, LOCK_SH);
	if (in->lock >= 0)
		in->shm = tmc_shmem_open(path);
	if (in->shm && !find_directory(in))
		return 0;
	leave(in);
	return -1;
}

static struct odp_instance *find_other(odp_instance_t id)
{
	/* acquire: with the release in odpi_other() */
	struct odp_instance *in =
		atomic_load_explicit(&others, memory_order_acquire);

	while (in && in->id != id)
		in = atomic_load_explicit(&in->next, memory_order_relaxed);
	return in;
}

/* Two threads may enter the same one twice, which does no harm. */
struct odp_instance *odpi_other(odp_instance_t id)
{
	struct odp_instance *in = find_other(id), *first;

	if (in)
		return in;
	in = malloc(sizeof(*in));
	if (!in)
		return NULL;
	if (enter(in, id)) {
		free(in);
		return NULL;
	}
	first = atomic_load_explicit(&others, memory_order_relaxed);
	do /* release: it is complete */
		atomic_store_explicit(&in->next, first, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&others, &first, in,
						      memory_order_release,
						      memory_order_relaxed));
	return in;
}

/* ----- making ----- */

/* Dying in here leaves an arena without a root pointer, which nobody joins and
 * the next sweep removes. */
static int lay_out(struct odp_instance *in, const struct odp_directory *like)
{
	const tmc_alloc_t *alloc = tmc_shmem_alloc(in->shm);
	uint64_t nlines = 8;
	struct odp_directory *d;

	/* Seven slots for four blocks. */
	while (nlines * 4 < like->max_blocks)
		nlines *= 2;
	d = tmc_shmem_grow(in->shm, sizeof(*d) + nlines * sizeof(d->line[0]));
	if (!d)
		return -1;
	d->nlines = nlines;
	d->max_memory = like->max_memory;
	d->lazy_size = like->lazy_size;
	d->mode = like->mode;
	d->max_blocks = like->max_blocks;
	d->records = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED, alloc);
	d->blocks = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED, alloc);
	if (!d->records || !d->blocks)
		return -1;
	d->magic = ODP_MAGIC;
	in->dir = d;
	in->nlines = nlines;
	return tmc_shmem_set_data(in->shm, d);
}

/* Process id and time: never twice at once, and not soon again. */
static odp_instance_t new_id(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)getpid() << 32 |
	       ((uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000) %
		       UINT32_MAX;
}

static int make(struct odp_instance *in, const struct odp_directory *like)
{
	char path[PATH_LEN];
	tmc_alloc_t alloc;

	set_alloc(&alloc, like);
	do {
		begin(in, new_id());
		if (path_of(in->id, "", path))
			return -1;
		in->shm =
			tmc_shmem_create(path, &alloc, NULL, like->max_memory);
		if (in->shm) {
			in->lock = lock_file(path, LOCK_SH);
			if (in->lock >= 0)
				break;
			if (errno == ENOENT) /* swept away: another one */
				errno = EEXIST;
			else
				tmc_shmem_unlink(path);
			tmc_shmem_close(in->shm);
		}
	} while (errno == EEXIST);
	if (!in->shm)
		return -1;
	if (in->lock >= 0 && !lay_out(in, like))
		return 0;
	tmc_shmem_unlink(path);
	leave(in);
	return -1;
}

/* @setup with its defaults, as the directory has it. 0 or -1. */
static int read_setup(const odp_shm_setup_t *setup, struct odp_directory *like)
{
	static const odp_shm_setup_t none;
	tmc_alloc_t alloc = TMC_ALLOC_INIT;

	if (!setup)
		setup = &none;
	memset(like, 0, sizeof(*like));
	like->max_memory =
		setup->max_memory ? setup->max_memory : DEFAULT_MEMORY;
	like->max_blocks =
		setup->max_blocks ? setup->max_blocks : DEFAULT_BLOCKS;
	like->mode = setup->mode ? setup->mode : 0600;
	like->lazy_size = setup->lazy_size ? setup->lazy_size : UINT64_MAX;
	if (like->max_memory <= ODP_MOST_MEMORY &&
	    like->max_blocks <= MOST_BLOCKS &&
	    tmc_alloc_set_mode(&alloc, like->mode))
		return 0;
	errno = EINVAL;
	return -1;
}

/* ----- the owner ----- */

static void set_owner(void)
{
	size_t len = (size_t)sysconf(_SC_PAGESIZE);

	owner = getpid();
	if (!owner_mark) {
		void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			return;
		owner_mark = p;
		madvise(p, len, MADV_WIPEONFORK); /* an old kernel has none */
	}
	*owner_mark = true;
}

/* The id is not enough where a child has the same one in a PID namespace of its
 * own, or long after its parent's end. */
static bool is_owner(void)
{
	return owner == getpid() && (!owner_mark || *owner_mark);
}

/* ----- the calls ----- */

static int already(void)
{
	if (!atomic_load_explicit(&joined, memory_order_acquire))
		return 0;
	errno = EBUSY;
	return -1;
}

int odp_shm_init_global(odp_instance_t *instance, const odp_shm_setup_t *setup)
{
	struct odp_directory like;

	if (already() || read_setup(setup, &like))
		return -1;
	if (!instance) {
		errno = EINVAL;
		return -1;
	}
	sweep();
	if (make(&self, &like))
		return -1;
	*instance = self.id;
	set_owner();
	atomic_store_explicit(&joined, true, memory_order_release);
	return 0;
}

int odp_shm_init_local(odp_instance_t instance)
{
	if (already() || enter(&self, instance))
		return -1;
	set_owner();
	atomic_store_explicit(&joined, true, memory_order_release);
	return 0;
}

int odp_shm_term_local(void)
{
	struct odp_instance *in, *next;

	if (!odpi_self())
		return -1;
	atomic_store_explicit(&joined, false, memory_order_release);
	for (in = atomic_exchange(&others, NULL); in; in = next) {
		next = atomic_load_explicit(&in->next, memory_order_relaxed);
		leave(in);
		free(in);
	}
	leave(&self);
	return 0;
}

int odp_shm_term_global(odp_instance_t instance)
{
	struct odp_instance *in = odpi_self();
	char path[PATH_LEN];

	if (!in)
		return -1;
	errno = EINVAL;
	if (instance != in->id || path_of(in->id, "", path))
		return -1;
	errno = EPERM;
	if (!is_owner())
		return -1;
	if (flock_again(in->lock, LOCK_EX | LOCK_NB)) {
		/* The kernel has dropped our lock before it tried, and in that
		 * moment somebody's sweep may have done the work. */
		flock_again(in->lock, LOCK_SH);
		errno = EBUSY;
		if (is_named(in->lock, path))
			return -1;
	} else {
		remove_instance(in->id, path);
	}
	return odp_shm_term_local();
}
