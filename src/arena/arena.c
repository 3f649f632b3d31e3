/* SPDX-License-Identifier: BSD-3-Clause */
/* arena.c - arenas that this process has open */
/*
 * The registry is private to the process: a list of open arenas, each with a
 * count of its handles, and of descriptors that are being opened. Its mutex is
 * held for short: over list changes, open(2), mmap and munmap, never while
 * waiting for another process. For longer only by a create where there is no
 * O_TMPFILE, which looks through the directory for left-overs (create.c). What
 * looks through mounts for a companion holds a mutex of its own instead, which
 * keeps nobody from anything but a fork, or another such look.
 *
 * Fork. The child inherits descriptors and mappings, and with each of them a
 * hold on the parent's open file description, to which the parent's file locks
 * belong (users.h). If the child kept one, the parent's death would not be
 * seen. So in the child, before fork returns, each arena's file is opened anew
 * through /proc, a slot of the child's own is taken, new mappings replace the
 * old in place, and the new description the old one under the same number, if
 * the limit of descriptors still has that.
 * Until then the child holds the parent's, so nobody can find the arena
 * unused. What another thread was just opening is closed and unmapped. Who is
 * alone in an arena holds every slot of it, so he lets others in while he
 * still has the registry: no child is made that finds no slot for itself.
 * Where the file may not be opened anew the child becomes a guest (users.h).
 *
 * Both mutexes are taken before the fork and given back after it, so the child
 * finds the lists whole, and has no descriptor that is not in them. What another
 * thread of the parent was doing with the arena's lock is the parent's; that
 * mutex of the child is made anew. Nor does the child have the calls of those
 * threads, for whose length they had arenas.
 */
#include "arena.h"

#include "os.h"
#include "poison.h"
#include "users.h"

#include <stdlib.h>

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif
#endif

static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static struct shmi_arena *arenas;     /* under registry */
static struct shmi_opening *openings; /* under registry */
static unsigned long last_id;	      /* under registry */
/* One of the openings has ended. */
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
/* See shmi_arena_search(). Before the registry's, by who takes both. */
static pthread_mutex_t searching = PTHREAD_MUTEX_INITIALIZER;

/* ----- fork ----- */

static void before_fork(void)
{
	pthread_mutex_lock(&searching);
	pthread_mutex_lock(&registry);
}

static void after_fork_in_parent(void)
{
	pthread_mutex_unlock(&registry);
	pthread_mutex_unlock(&searching);
}

/* ----- mappings ----- */

static void advise(struct shmi_arena *a)
{
	char *base = shmi_arena_base(a);

	/* Else a core dump writes all of it, once the file has no name. */
	shmi_os_advise_nodump(base, a->c.maxsize);
	if (a->c.flags & LAYOUT_THP)
		shmi_os_advise_thp(base, a->c.maxsize);
}

static int map_bytes(struct shmi_arena *a, int fd, int hugefd, bool rw,
		     bool over_own)
{
	bool huge = shmi_header_huge(&a->c);

	return shmi_os_map_data(huge ? hugefd : fd, shmi_header_data_off(&a->c),
				shmi_arena_base(a), a->c.maxsize, rw, huge,
				over_own);
}

/*
 * New mappings replace our own in one step each, so that other threads, which
 * read through them, notice nothing.
 */
static int map_over(struct shmi_arena *a, int fd, int hugefd, bool rw)
{
	int err = map_bytes(a, fd, hugefd, rw, true);

	if (!err)
		err = shmi_os_map_data(fd, 0, a->lock.h, LAYOUT_HDR_LEN, rw,
				       false, true);
	advise(a);
	return err;
}

/*
 * Of an arena that has been open: the header of one that could not be made may
 * have no page. relaxed: pages beyond the size, whenever it was that, are
 * nobody's.
 */
static void unpoison(struct shmi_arena *a)
{
	uint64_t size;

	if (!SHMI_ASAN)
		return;
	size = atomic_load_explicit(&a->lock.h->size, memory_order_relaxed);
	shmi_unpoison(shmi_arena_base(a),
		      size < a->c.maxsize ? size : a->c.maxsize);
}

static void unmap_all(struct shmi_arena *a)
{
	if (!a->lock.h)
		return;
	shmi_os_unmap(shmi_arena_base(a), a->c.maxsize);
	shmi_os_unmap(a->lock.h, LAYOUT_HDR_LEN);
	a->lock.h = NULL;
	pthread_mutex_destroy(&a->lock.mutex);
}

/* ----- the child of a fork ----- */

static uint32_t join_as_guest(struct shmi_arena *a)
{
	uint32_t slot;

	if (shmi_users_claim_guest(a->fd, a->lock.h, &slot))
		return USERS_NO_SLOT;
	return slot;
}

static void join(struct shmi_arena *a)
{
	uint32_t slot = USERS_NO_SLOT;
	int fd;

	a->populating = 0;
	fd = shmi_os_reopen(a->fd, a->writable);
	if (fd < 0) {
		if (a->writable)
			slot = join_as_guest(a);
	} else {
		if (!a->writable)
			shmi_users_join_reader(fd);
		else if (shmi_users_claim(fd, false, &slot))
			slot = USERS_NO_SLOT;
		map_over(a, fd, a->hugefd, a->writable);
		if (shmi_os_dup_over(fd, a->fd)) {
			/* A limit lowered below that number: a new one. */
			int parents = a->fd;

			a->fd = fd;
			fd = parents;
		}
	}
	shmi_os_close(fd);
	shmi_lock_reinit(&a->lock, a->fd, slot);
}

/* Its handles were closed while another thread of the parent used it; the slot
 * is the parent's. Not freed: free() may be a heap of ours, and before its own
 * handler. */
static void leave_to_parent(struct shmi_arena *a)
{
	unmap_all(a);
	shmi_os_close(a->hugefd);
	shmi_os_close(a->fd);
}

static void after_fork_in_child(void)
{
	struct shmi_arena **at = &arenas, *a;

	shmi_lock_forked();
	for (; openings; openings = openings->next) {
		if (openings->a)
			unmap_all(openings->a);
		shmi_os_close(openings->dirfd);
		shmi_os_close(openings->hugefd);
		shmi_os_close(openings->fd);
	}
	while ((a = *at)) {
		unpoison(a);
		a->uses = 0;
		if (a->refs) {
			join(a);
			at = &a->next;
		} else {
			*at = a->next;
			leave_to_parent(a);
		}
	}
	pthread_cond_init(&ended, NULL); /* who waited is the parent's */
	pthread_mutex_unlock(&registry); /* taken by this thread */
	pthread_mutex_unlock(&searching);
}

static void register_fork(void)
{
	pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* ----- opening ----- */

void shmi_arena_watch_fork(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, register_fork);
}

void shmi_arena_begin(struct shmi_opening *o, int (*get)(void *arg), void *arg)
{
	shmi_arena_watch_fork();
	pthread_mutex_lock(&registry);
	o->a = NULL;
	o->entered = false;
	o->hugefd = o->dirfd = -1;
	o->fd = get(arg);
	if (o->fd >= 0) {
		o->next = openings;
		openings = o;
	}
	pthread_mutex_unlock(&registry);
}

int shmi_arena_search(int (*search)(void *arg), void *arg)
{
	int rc;

	shmi_arena_watch_fork();
	pthread_mutex_lock(&searching);
	rc = search(arg);
	pthread_mutex_unlock(&searching);
	return rc;
}

/* Under the registry's lock. */
static bool has_entered(uint64_t dev, uint64_t ino)
{
	const struct shmi_opening *o;

	for (o = openings; o; o = o->next)
		if (o->entered && o->dev == dev && o->ino == ino)
			return true;
	return false;
}

void shmi_arena_enter(struct shmi_opening *o, uint64_t dev, uint64_t ino)
{
	pthread_mutex_lock(&registry);
	while (has_entered(dev, ino))
		pthread_cond_wait(&ended, &registry);
	o->dev = dev;
	o->ino = ino;
	o->entered = true;
	pthread_mutex_unlock(&registry);
}

/* Under the registry's lock. */
static void forget(struct shmi_opening *o)
{
	struct shmi_opening **at = &openings;

	while (*at != o)
		at = &(*at)->next;
	*at = o->next;
	shmi_os_close(o->dirfd);
	o->fd = o->hugefd = o->dirfd = -1;
	o->a = NULL;
	pthread_cond_broadcast(&ended);
}

void shmi_arena_end(struct shmi_opening *o)
{
	int fd = o->fd, hugefd = o->hugefd;

	if (fd < 0)
		return;
	pthread_mutex_lock(&registry);
	forget(o);
	shmi_os_close(hugefd);
	shmi_os_close(fd);
	pthread_mutex_unlock(&registry);
}

int shmi_arena_map(struct shmi_opening *o, struct shmi_arena *a)
{
	void *h;
	int err;

	pthread_mutex_lock(&registry);
	err = map_bytes(a, a->fd, a->hugefd, a->writable, false);
	if (!err) {
		err = shmi_os_map_header(a->fd, LAYOUT_HDR_LEN, a->writable,
					 &h);
		if (err)
			shmi_os_unmap(shmi_arena_base(a), a->c.maxsize);
	}
	if (!err) {
		shmi_lock_init(&a->lock, h, a->fd, USERS_NO_SLOT);
		o->a = a;
	}
	pthread_mutex_unlock(&registry);
	if (!err)
		advise(a);
	return err;
}

void shmi_arena_drop(struct shmi_opening *o, struct shmi_arena *a)
{
	pthread_mutex_lock(&registry);
	if (a->lock.h)
		shmi_users_leave(a->lock.h, a->lock.slot);
	unmap_all(a);
	o->a = NULL;
	pthread_mutex_unlock(&registry);
	free(a);
}

/* ----- the registry ----- */

struct shmi_arena *shmi_arena_new(void)
{
	struct shmi_arena *a = calloc(1, sizeof(*a));

	if (a) {
		a->fd = a->hugefd = -1;
		a->lock.slot = USERS_NO_SLOT;
		a->refs = 1;
	}
	return a;
}

void shmi_arena_register(struct shmi_opening *o, struct shmi_arena *a,
			 bool alone)
{
	pthread_mutex_lock(&registry);
	forget(o);
	a->id = ++last_id;
	a->next = arenas;
	arenas = a;
	if (alone)
		shmi_users_let_in(a->fd, true, true);
	pthread_mutex_unlock(&registry);
}

void shmi_arena_now_writable(struct shmi_arena *a, bool alone)
{
	pthread_mutex_lock(&registry);
	a->writable = true;
	if (alone)
		shmi_users_let_in(a->fd, true, true);
	pthread_mutex_unlock(&registry);
}

/* Set once; the registry's lock orders it. */
static void (*on_close)(void);

void shmi_arena_on_close(void (*closes)(void))
{
	pthread_mutex_lock(&registry);
	on_close = closes;
	pthread_mutex_unlock(&registry);
}

/* Under the same lock as the unmap, so that an open right after a close finds
 * the addresses free. @count: of which one goes. */
static void give_back(struct shmi_arena *a, unsigned int *count)
{
	struct shmi_arena **at = &arenas;

	pthread_mutex_lock(&registry);
	--*count;
	if (!a->refs && !a->uses) {
		if (on_close)
			on_close();
		while (*at != a)
			at = &(*at)->next;
		*at = a->next;
		shmi_users_leave(a->lock.h, a->lock.slot);
		unpoison(a);
		unmap_all(a);
		shmi_os_close(a->hugefd);
		shmi_os_close(a->fd);
		free(a);
	}
	pthread_mutex_unlock(&registry);
}

void shmi_arena_close(struct shmi_arena *a)
{
	give_back(a, &a->refs);
}

void shmi_arena_done(struct shmi_arena *a)
{
	give_back(a, &a->uses);
}

struct wanted {
	unsigned long id;
	const void *p;
	uint64_t dev, ino;
};

static bool is_wanted(const struct shmi_arena *a, const struct wanted *w)
{
	if (w->id)
		return a->id == w->id;
	if (w->p)
		return (uintptr_t)w->p - a->c.base < a->c.maxsize;
	return a->dev == w->dev && a->ino == w->ino;
}

/* For a handle, or a call. */
static struct shmi_arena *get(const struct wanted *w, bool handle)
{
	struct shmi_arena *a;

	pthread_mutex_lock(&registry);
	for (a = arenas; a && !is_wanted(a, w); a = a->next)
		;
	if (a && handle)
		a->refs++;
	else if (a)
		a->uses++;
	pthread_mutex_unlock(&registry);
	return a;
}

struct shmi_arena *shmi_arena_by_id(unsigned long id)
{
	struct wanted w = { .id = id };

	return id ? get(&w, false) : NULL;
}

struct shmi_arena *shmi_arena_around(const void *p)
{
	struct wanted w = { .p = p };

	return p ? get(&w, false) : NULL;
}

struct shmi_arena *shmi_arena_find_file(uint64_t dev, uint64_t ino)
{
	struct wanted w = { .dev = dev, .ino = ino };

	return get(&w, true);
}

/*
 * If a later step fails, an earlier one has only made something writable that
 * the handle does not let write.
 */
int shmi_arena_upgrade(struct shmi_arena *a, int fd, int hugefd)
{
	int err = map_over(a, fd, hugefd, true);

	if (!err && hugefd >= 0)
		err = shmi_os_dup_over(hugefd, a->hugefd);
	return err ? err : shmi_os_dup_over(fd, a->fd);
}

/*
 * Valgrind's search for leaks reads whatever is mapped, and takes a SIGBUS for
 * each word beyond the end of the file: minutes for an arena that is still
 * open at exit. Elsewhere this is a few instructions that do nothing.
 */
#ifdef VALGRIND_MAKE_MEM_NOACCESS
__attribute__((destructor)) static void hide_from_leak_search(void)
{
	struct shmi_arena *a;

	for (a = arenas; a; a = a->next)
		(void)VALGRIND_MAKE_MEM_NOACCESS(a->c.base, a->c.maxsize);
}
#endif
