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

#define FIRST_SLICES 4u /* of a heap that says nothing */
#define NOGROW 0x2u	/* TMC_MSPACE_NOGROW */

static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct shmi_heap *heaps; /* under registry */

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
	struct heap_hdr *h = hp->h;
	uint64_t deaths;
	int err = 0;

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

int shmi_heap_lock(struct shmi_heap *hp)
{
	int err = 0;

	if (hp->arena)
		err = shmi_size_lock(hp->arena);
	else
		pthread_mutex_lock(&hp->mutex);
	if (err)
		return err;
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
	return !shmi_users_alive(hp->arena->fd, slot);
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

/* What the parent's threads own is theirs. */
static void after_fork_in_child(void)
{
	struct shmi_heap *hp;

	shmi_view_forked();
	for (hp = heaps; hp; hp = hp->next) {
		doubt_chunks(hp);
		pthread_mutex_init(&hp->mutex, NULL);
		hp->life = 0; /* comes in anew */
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
	struct shmi_heap *hp = *at;

	*at = hp->next;
	shmi_view_void();
	pthread_mutex_destroy(&hp->mutex);
	shmi_os_unmap(hp, sizeof(*hp));
}

static bool still_open(const struct shmi_heap *hp)
{
	struct shmi_arena *a;

	if (!hp->arena)
		return true;
	a = shmi_arena_by_id(hp->arena_id);
	if (a)
		shmi_arena_close(a);
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
	hp->growable = a && !(h->flags & NOGROW);
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
		(*out)->next = heaps;
		heaps = *out;
	}
	if (a)
		shmi_arena_close(a);
	return err;
}

struct heap_hdr *shmi_heap_private_around(const void *p)
{
	struct heap_hdr *found = NULL;
	struct shmi_heap *hp;
	uint32_t i;

	pthread_mutex_lock(&registry);
	for (hp = heaps; hp && !found; hp = hp->next)
		for (i = 0; !hp->arena && i < hp->nchunks && !found; i++)
			if ((uintptr_t)p - hp->chunk[i].start <
			    hp->chunk[i].nslices * HEAP_SLICE)
				found = hp->h;
	pthread_mutex_unlock(&registry);
	return found;
}

/*
 * A process that has come in keeps the heap's address from being used anew
 * (destroy), unless that is memory of the user's own. A forked child that has not
 * may find another heap there, or nothing; no thread of it uses what it knows of
 * its parent's.
 */
static bool still_same(const struct shmi_heap *hp)
{
	const struct heap_hdr *h = hp->h;

	if (!hp->arena ||
	    (!(hp->flags & HEAP_GIVEN) &&
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
	if (*at && (!still_open(*at) || !still_same(*at)))
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

int shmi_heap_get(const void *p, struct shmi_heap **out)
{
	return find(p, false, out);
}

int shmi_heap_get_at(const void *p, struct shmi_heap **out)
{
	return find(p, true, out);
}

/* ----- create ----- */

/* Into pages that are ours alone. */
static int write_header(struct shmi_heap *hp, const struct shmi_heap_plan *plan,
			uint64_t n)
{
	struct heap_hdr *h = hp->h;
	/* And as many entries of chunks as one page has. */
	int err = shmi_heap_have(hp, h, 4096 + 64);

	if (!err)
		err = shmi_heap_have(hp, (void *)h->life, sizeof(h->life));
	if (!err)
		err = shmi_chunk_table(hp, (uintptr_t)h, n, sizeof(*h));
	if (!err)
		err = shmi_os_random(&h->secret, sizeof(h->secret));
	if (err)
		return err;
	/* So that no small number and no address, which users have at the start
	 * of their blocks, looks like a free block's word. */
	h->secret = (h->secret & ~((uint64_t)3 << 62)) | (uint64_t)1 << 63;
	h->format = HEAP_FORMAT;
	h->flags = plan->flags | (plan->base ? HEAP_GIVEN : 0);
	h->self = (uintptr_t)h;
	h->chunk[0].start = (uintptr_t)h;
	h->chunk[0].nslices = (uint32_t)n;
	h->chunk[0].nhead = (uint32_t)shmi_chunk_heads(hp, (uintptr_t)h, n);
	h->nchunks = 1;
	h->peak = n * HEAP_SLICE;
	if (hp->arena)
		h->deaths = hp->arena->lock.h->deaths;
	h->magic = HEAP_MAGIC;
	return 0;
}

/* The heap appears with the arena's new size, or not at all. */
static int create_in_arena(struct shmi_heap *hp,
			   const struct shmi_heap_plan *plan, uint64_t n)
{
	uint64_t at, by;
	int err = shmi_size_lock(hp->arena);

	if (err)
		return err;
	err = shmi_chunk_stage(hp, n, &at, &by);
	if (!err) {
		uint64_t start = heap_slice_up(hp->arena->c.base + at);

		hp->h = (struct heap_hdr *)(uintptr_t)start;
		n = (hp->arena->c.base + at + by - start) / HEAP_SLICE;
		err = write_header(hp, plan, n);
		if (err)
			shmi_size_unstage(hp->arena);
		else
			shmi_size_publish(hp->arena, at + by);
	}
	shmi_size_unlock(hp->arena);
	return err;
}

static int create_at_base(struct shmi_heap *hp,
			  const struct shmi_heap_plan *plan)
{
	uintptr_t base = (uintptr_t)plan->base;
	uintptr_t start = heap_slice_up(base);
	uint64_t n;
	int err;

	if (start < base || start - base > plan->capacity)
		return -ENOMEM;
	n = (plan->capacity - (start - base)) / HEAP_SLICE;
	hp->h = (struct heap_hdr *)start;
	if (n > HEAP_COUNT || n <= shmi_chunk_heads(hp, start, n))
		return -ENOMEM;
	err = shmi_heap_have(hp, hp->h, sizeof(*hp->h) + n * sizeof(uint32_t));
	if (err)
		return err;
	memset(hp->h, 0, sizeof(*hp->h) + n * sizeof(uint32_t));
	return write_header(hp, plan, n);
}

int shmi_heap_create(const struct shmi_heap_plan *plan, struct heap_hdr **out)
{
	struct shmi_heap tmp = { .arena = plan->arena,
				 .populate = plan->populate,
				 .how.pagesize = shmi_os_pagesize() };
	uint64_t n =
		plan->capacity ? heap_slices(plan->capacity) : FIRST_SLICES;
	uint64_t start;
	struct shmi_heap *hp;
	int err;

	n += heap_slices(sizeof(struct heap_hdr) + n * sizeof(uint32_t));
	if (plan->capacity > HEAP_COUNT * HEAP_SLICE / 2)
		return -ENOMEM;
	if (plan->base) {
		err = create_at_base(&tmp, plan);
	} else if (plan->arena) {
		err = create_in_arena(&tmp, plan, n);
	} else {
		tmp.how = *plan->how;
		err = shmi_chunk_map(plan->how, n, &start);
		if (!err) {
			tmp.h = (struct heap_hdr *)(uintptr_t)start;
			err = write_header(&tmp, plan, n);
		}
	}
	if (!err)
		err = shmi_heap_get_at(tmp.h, &hp);
	if (err)
		return err;
	if (!plan->arena && !plan->base) {
		hp->how = *plan->how;
		hp->populate = plan->populate;
		hp->growable = !(plan->flags & NOGROW);
	}
	*out = tmp.h;
	return 0;
}

static void forget(struct heap_hdr *h)
{
	struct shmi_heap **at = &heaps;

	pthread_mutex_lock(&registry);
	while (*at && (*at)->h != h)
		at = &(*at)->next;
	if (*at)
		drop(at);
	pthread_mutex_unlock(&registry);
}

/* Under the lock. Whether another process that is alive has come to the heap.
 * A slot's next user is taken for the one that came. */
static bool others_came(const struct shmi_heap *hp)
{
	uint32_t slot, life;

	for (slot = 0; hp->arena && slot < LAYOUT_SLOTS; slot++) {
		life = hp->h->life[slot] & HEAP_THREADS;
		if (life && slot != hp->slot &&
		    !shmi_heap_owner_dead(hp, heap_owner(slot, life, 0)))
			return true;
	}
	return false;
}

/*
 * magic first: the heap is gone then, and what a death leaves is pages that
 * are nobody's. From the last chunk to the first, since only the arena's tail
 * can be cut; what is below something else is punched out. So is memory that
 * the caller gave: it stays his, wherever it is.
 *
 * The same goes for all of it if other processes have come to the heap and are
 * alive. They know nothing of its end: their threads have spans there at hand,
 * and the common malloc and free ask no header. If the tail was cut, the next heap
 * could be where this one was. To them it would be the old one, with the old
 * secret, and what they free they would push as owners into spans of others. As
 * it is, no later heap has an address that they know, and what they read there
 * is zeroes: no block, no heap. The arena's end stays where it is, as it does
 * after a death in here; there is nothing for a recovery to do.
 */
int shmi_heap_destroy(struct heap_hdr *h, uint64_t *freed)
{
	struct shmi_heap *hp;
	struct shmi_arena *a;
	int err = shmi_heap_get(h, &hp);
	bool known;
	uint32_t i;

	if (!err)
		err = shmi_heap_lock(hp);
	if (err)
		return err;
	known = others_came(hp);
	*freed = shmi_heap_footprint(hp);
	a = hp->arena;
	h->magic = 0;
	unpoison_all(hp);
	shmi_heap_unlock(hp);
	for (i = hp->nchunks; i-- > 0;) {
		uint64_t start = hp->chunk[i].start;
		uint64_t len = hp->chunk[i].nslices * HEAP_SLICE;

		if (a &&
		    (known || hp->flags & HEAP_GIVEN ||
		     shmi_size_shrink(a, start - a->c.base, len) == -EINVAL))
			shmi_heap_punch(hp, start, len);
		else if (!a && hp->growable)
			shmi_page_unmap((void *)(uintptr_t)start, len);
	}
	forget(h);
	return 0;
}
