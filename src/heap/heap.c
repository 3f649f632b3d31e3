/* SPDX-License-Identifier: BSD-3-Clause */
/* heap.c - heaps and their chunks, as this process knows them */
/*
 * A heap is found by the address of its header, which lies at the start of its
 * first chunk. Everything that the header says is checked and copied when the
 * process first meets the heap, and again when the chunks have changed (gen).
 *
 * Who we are in owner words is the arena's slot (users.h), which the kernel
 * frees at our death, and a count of the processes that came to this heap with
 * that slot, so that a slot's next user is not taken for us. Guests' slots
 * have no such witness: their word in the header says that they are there, and
 * is 0 when they have closed the arena, died in its lock, or nobody else has had
 * it open since. So what a guest owned that was killed stays its own until one
 * of these, or until the slot's next user comes to the heap. A file lock of the
 * process's own would be a witness that is lost when the guest closes any
 * descriptor of the file; its spans would be taken over while it uses them.
 *
 * Heaps outside of arenas are one process's at a time: there is nothing whose
 * death the kernel would tell. A fork copies such a heap, and a thread of the
 * parent's that was in it then is not in the copy: as if it had died, which the
 * child repairs when it uses the heap. A fork does not wait for the heap's
 * mutex, since there can be many of them, and since what threads do with spans
 * and blocks outside of the lock must be repairable anyway.
 */
#include "heap.h"

#include "os.h"
#include "poison.h"
#include "size.h"
#include "users.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct shmi_heap *heaps; /* under registry */
static unsigned long last_id;	/* under registry */

/* ----- the message ----- */

void shmi_heap_die(const char *what, const void *at, const void *h)
{
	shmi_os_die("libshmem: heap %p: %s at %p\n", h, what, at);
}

uint64_t shmi_heap_footprint(const struct shmi_heap *hp)
{
	return atomic_load_explicit(&hp->nslices, memory_order_relaxed) *
	       HEAP_SLICE;
}

/* ----- the lock ----- */

/* What somebody left who died in the lock. */
static void repair(struct shmi_heap *hp)
{
	shmi_run_repair(hp);
	shmi_stray_repair(hp);
}

static int current(struct shmi_heap *hp)
{
	struct heap_hdr *h;
	uint64_t deaths;
	int err = 0;

	if (hp->gone)
		return -EINVAL;
	h = hp->h;
	if (h->magic != HEAP_MAGIC) /* another process destroyed it */
		return -EINVAL;
	if (hp->torn || hp->gen != h->gen || !hp->nchunks)
		err = shmi_chunk_copy(hp);
	if (err)
		return err;
	if (hp->torn) {
		repair(hp);
		hp->torn = false;
	}
	if (!hp->arena)
		return 0;
	if (h->grown_by) {
		shmi_chunk_finish(hp);
		err = shmi_chunk_copy(hp);
	}
	deaths = hp->arena->lock.h->deaths;
	if (!err && h->deaths != deaths) {
		repair(hp);
		h->deaths = deaths;
	}
	return err;
}

static int take(struct shmi_heap *hp)
{
	if (hp->arena)
		return shmi_size_lock(hp->arena);
	pthread_mutex_lock(&hp->mutex);
	return 0;
}

int shmi_heap_lock(struct shmi_heap *hp)
{
	int err = take(hp);

	if (err)
		return err;
	err = current(hp);
	if (err)
		shmi_heap_unlock(hp);
	return err;
}

/* If another process has destroyed the heap its header is a hole. */
int shmi_heap_lock_late(struct shmi_heap *hp)
{
	int err = take(hp);

	if (err)
		return err;
	err = hp->gone ? -EINVAL
		       : shmi_heap_have(hp, hp->h, sizeof(hp->h->magic));
	if (!err)
		err = current(hp);
	if (err)
		shmi_heap_unlock(hp);
	return err;
}

void shmi_heap_unlock(struct shmi_heap *hp)
{
	if (hp->arena)
		shmi_size_unlock(hp->arena);
	else
		pthread_mutex_unlock(&hp->mutex);
}

/* ----- owners ----- */

bool shmi_heap_owner_dead(const struct shmi_heap *hp, uint64_t owner)
{
	uint32_t slot = heap_owner_slot(owner);
	uint32_t life = heap_owner_life(owner);

	if (!owner)
		return true;
	if (!hp->arena)
		return slot != hp->slot || life != hp->life;
	if (slot >= LAYOUT_SLOTS || (hp->h->life[slot] & HEAP_THREADS) != life)
		return true;
	if (slot == hp->slot)
		return false;
	/* acquire: what a guest did before it left; users.c */
	if (slot < LAYOUT_GUESTS)
		return !atomic_load_explicit(&hp->arena->lock.h->slot[slot],
					     memory_order_acquire);
	return !shmi_users_alive(hp->arena->fd, hp->slot, slot);
}

/* A run of somebody who had our slot before us: nobody's. */
static int disown(struct shmi_heap *hp, struct heap_run *r, uint32_t n,
		  void *arg)
{
	(void)n;
	(void)arg;
	if (!r->owner || heap_owner_slot(r->owner) != hp->slot)
		return 0;
	if (r->kind == HEAP_LARGE)
		shmi_run_free(hp, r, HEAP_DIRTY);
	else
		r->owner = 0;
	hp->h->orphans++;
	return 0;
}

/*
 * Under the lock. 0 is no life, since it stands for not having come in. When
 * the count begins anew, after 16 million arrivals, what the slot's earlier
 * users left and nobody has taken over must not look like ours. The count is
 * stored after that: if we die, the slot's next user does it again.
 */
static void come_in(struct shmi_heap *hp)
{
	_Atomic uint32_t *count;
	uint32_t life;

	hp->slot = hp->arena ? hp->arena->lock.slot : 0;
	count = &hp->h->life[hp->slot];
	life = (*count + 1) & HEAP_THREADS;
	if (!life) {
		shmi_run_each(hp, disown, NULL);
		life = 1;
	}
	*count = life;
	atomic_store_explicit(&hp->life, life, memory_order_release);
}

/* ----- fork, and arenas that close ----- */

static void before_fork(void)
{
	pthread_mutex_lock(&registry);
}

static void after_fork_in_parent(void)
{
	pthread_mutex_unlock(&registry);
}

/* In a heap of an arena that closes arena.c does it. */
static void unpoison_all(const struct shmi_heap *hp)
{
	uint32_t i;

	for (i = 0; i < hp->nchunks; i++)
		shmi_unpoison((void *)(uintptr_t)hp->chunk[i].start,
			      hp->chunk[i].nslices * HEAP_SLICE);
}

/*
 * Another thread may have been copying the chunks. An arena's are copied anew,
 * all of them, with the lock that we take next. A private heap is found by its
 * copy, which is at worst the one before; it is not read here, since its memory
 * may be gone: who has given it need not destroy the heap.
 */
static void doubt_chunks(struct shmi_heap *hp)
{
	if (hp->arena) {
		hp->nchunks = 0;
		return;
	}
	hp->torn = true;
	unpoison_all(hp);
}

/* What is known of a heap goes, if nobody holds it. */
static void let_go(struct shmi_heap **at)
{
	struct shmi_heap *hp = *at;

	if (hp->holds)
		return;
	*at = hp->next;
	pthread_mutex_destroy(&hp->mutex);
	shmi_os_unmap(hp, sizeof(*hp));
}

/* What the parent's threads own is theirs. */
static void after_fork_in_child(void)
{
	struct shmi_heap **at = &heaps, *hp;

	shmi_view_forked();
	while ((hp = *at)) {
		pthread_mutex_init(&hp->mutex, NULL);
		hp->life = 0;  /* comes in anew */
		hp->holds = 0; /* threads that were ending are not here */
		if (hp->h) {
			doubt_chunks(hp);
			at = &hp->next;
		} else {
			let_go(at);
		}
	}
	pthread_mutex_unlock(&registry);
}

/* Under the registry's lock of arena.c, so it takes none of ours. */
static void arena_closes(void)
{
	shmi_view_void();
}

static void set_up(void)
{
	shmi_arena_watch_fork();
	pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
	shmi_arena_on_close(arena_closes);
}

static void drop(struct shmi_heap **at)
{
	shmi_view_void();
	(*at)->h = NULL;
	let_go(at);
}

static bool still_open(const struct shmi_heap *hp)
{
	struct shmi_arena *a;

	if (!hp->arena)
		return true;
	a = shmi_arena_by_id(hp->arena_id);
	if (a)
		shmi_arena_done(a);
	return a;
}

/* ----- found by address ----- */

static uint64_t secret_of(const struct heap_hdr *h)
{
	return h->secret & ~(uint64_t)(HEAP_SLICE - 1);
}

static struct shmi_heap *new_heap(struct heap_hdr *h, struct shmi_arena *a)
{
	const struct shmi_map_how how = { .prot = SHMI_PROT_READ |
						  SHMI_PROT_WRITE };
	struct shmi_heap *hp;
	void *at;

	/* Not from malloc(), which may be this heap. */
	if (shmi_os_map_anon(&how, NULL, sizeof(*hp), &at))
		return NULL;
	hp = at;
	hp->h = h;
	hp->arena = a;
	hp->arena_id = a ? a->id : 0;
	hp->secret = secret_of(h);
	hp->flags = h->flags;
	hp->growable = a && !(h->flags & HEAP_NOGROW);
	hp->populate = a && (a->c.flags & LAYOUT_POPULATE);
	hp->how.pagesize = shmi_os_pagesize();
	pthread_mutex_init(&hp->mutex, NULL);
	return hp;
}

/* Whether a heap can begin at @h: not yet what it says. */
static int may_be_heap(const struct heap_hdr *h, const struct shmi_arena *a)
{
	if (!h || (uintptr_t)h % HEAP_SLICE)
		return -EINVAL;
	if (!a)
		return 0;
	if (!a->writable)
		return -EACCES;
	return (uintptr_t)h - a->c.base + sizeof(*h) <= shmi_size_now(a)
		       ? 0
		       : -EINVAL;
}

/* @trust: there is memory at @h, though it is no arena's. */
static int meet(struct heap_hdr *h, bool trust, struct shmi_heap **out)
{
	struct shmi_arena *a = shmi_arena_around(h);
	int err = a || trust ? may_be_heap(h, a) : -EINVAL;

	if (!err && (h->magic != HEAP_MAGIC || h->format != HEAP_FORMAT ||
		     h->self != (uintptr_t)h))
		err = -EINVAL;
	if (!err) {
		*out = new_heap(h, a);
		if (!*out)
			err = -ENOMEM;
	}
	if (!err) {
		(*out)->id = ++last_id;
		(*out)->next = heaps;
		heaps = *out;
	}
	if (a)
		shmi_arena_done(a);
	return err;
}

struct heap_hdr *shmi_heap_private_around(const void *p)
{
	struct heap_hdr *found = NULL;
	struct shmi_heap *hp;
	uint32_t i;

	pthread_mutex_lock(&registry);
	for (hp = heaps; hp && !found; hp = hp->next)
		for (i = 0; !hp->arena && hp->h && i < hp->nchunks && !found;
		     i++)
			if ((uintptr_t)p - hp->chunk[i].start <
			    hp->chunk[i].nslices * HEAP_SLICE)
				found = hp->h;
	pthread_mutex_unlock(&registry);
	return found;
}

/*
 * A process that has come in keeps the heap's address from being used anew
 * (destroy). A forked child that has not may find another heap there, or
 * nothing; no thread of it uses what it knows of its parent's. Nor does memory
 * that was given keep its heap: it may be another's file by now, or none, and
 * is looked at where that is asked for (access_with_base).
 */
static bool still_same(const struct shmi_heap *hp, bool trust)
{
	const struct heap_hdr *h = hp->h;

	if (!trust && (!hp->arena ||
		       atomic_load_explicit(&hp->life, memory_order_relaxed)))
		return true;
	return !may_be_heap(h, hp->arena) && h->magic == HEAP_MAGIC &&
	       secret_of(h) == hp->secret;
}

static int find(const void *p, bool trust, struct shmi_heap **out)
{
	struct heap_hdr *h = (struct heap_hdr *)p;
	struct shmi_heap **at = &heaps, *hp = NULL;
	int err = 0;

	pthread_once(&once, set_up);
	pthread_mutex_lock(&registry);
	while (*at && (*at)->h != h)
		at = &(*at)->next;
	if (*at && (!still_open(*at) || !still_same(*at, trust)))
		drop(at);
	else
		hp = *at;
	if (!hp)
		err = meet(h, trust, &hp);
	pthread_mutex_unlock(&registry);
	*out = hp;
	/* acquire: and then slot is right */
	if (err || atomic_load_explicit(&(*out)->life, memory_order_acquire))
		return err;
	err = shmi_heap_lock(*out);
	if (err)
		return err;
	if (!(*out)->life)
		come_in(*out);
	shmi_heap_unlock(*out);
	return 0;
}

bool shmi_heap_is_open(unsigned long id, uint64_t owner, bool hold)
{
	struct shmi_heap **at = &heaps, *hp;
	struct shmi_arena *a = NULL;
	bool same = false;

	pthread_mutex_lock(&registry);
	while (*at && (*at)->id != id)
		at = &(*at)->next;
	hp = *at;
	if (hp && hp->arena)
		a = shmi_arena_by_id(hp->arena_id);
	if (hp && hp->arena && !a)
		drop(at);
	else if (hp && hp->h)
		/* acquire: and then slot is right */
		same = heap_owner_life(owner) ==
			       atomic_load_explicit(&hp->life,
						    memory_order_acquire) &&
		       heap_owner_slot(owner) == hp->slot;
	if (same && hold)
		hp->holds++; /* and the reference is its */
	else if (a)
		shmi_arena_done(a);
	pthread_mutex_unlock(&registry);
	return same;
}

void shmi_heap_release(struct shmi_heap *hp)
{
	struct shmi_arena *a = hp->arena;
	struct shmi_heap **at = &heaps;

	pthread_mutex_lock(&registry);
	hp->holds--;
	while (*at != hp)
		at = &(*at)->next;
	if (!hp->h)
		let_go(at);
	if (a)
		shmi_arena_done(a);
	pthread_mutex_unlock(&registry);
}

int shmi_heap_get(const void *p, struct shmi_heap **out)
{
	return find(p, false, out);
}

int shmi_heap_get_at(const void *p, struct shmi_heap **out)
{
	return find(p, true, out);
}

/* ----- ended ----- */

void shmi_heap_forget(struct heap_hdr *h)
{
	struct shmi_heap **at = &heaps;

	pthread_mutex_lock(&registry);
	while (*at && (*at)->h != h)
		at = &(*at)->next;
	if (*at)
		drop(at);
	pthread_mutex_unlock(&registry);
}

void shmi_heap_end(struct shmi_heap *hp)
{
	hp->gone = true;
	unpoison_all(hp);
}

void shmi_heap_end_at(struct heap_hdr *h)
{
	struct shmi_heap *hp;
	bool open;

	pthread_mutex_lock(&registry);
	for (hp = heaps; hp && hp->h != h; hp = hp->next)
		;
	open = hp && still_open(hp);
	pthread_mutex_unlock(&registry);
	if (open && !take(hp)) {
		shmi_heap_end(hp);
		shmi_heap_unlock(hp);
	}
	shmi_heap_forget(h);
}
