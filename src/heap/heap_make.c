/* SPDX-License-Identifier: BSD-3-Clause */
/* heap_make.c - heaps are made, and destroyed */
/*
 * A heap appears with its magic, which is written last, and with the arena's new
 * size, if it is to be at the arena's end. It goes with its magic, too.
 */
#include "heap.h"

#include "os.h"
#include "size.h"

#include <errno.h>
#include <string.h>

#define FIRST_SLICES 4u /* of a heap that says nothing */
/* So that one block can have all of the capacity. */
#define BLOCK_HEAD ((HEAP_COLOURS - 1) * HEAP_COLOUR + HEAP_RUN_LEN)

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

/* The heap appears with the arena's new size, or not at all. @at, @by: of what
 * the arena has grown. */
static int create_in_arena(struct shmi_heap *hp,
			   const struct shmi_heap_plan *plan, uint64_t n,
			   uint64_t *at, uint64_t *by)
{
	int err = shmi_size_lock(hp->arena);

	if (err)
		return err;
	err = shmi_chunk_stage(hp, n, at, by);
	if (!err) {
		uint64_t start = heap_slice_up(hp->arena->c.base + *at);

		hp->h = (struct heap_hdr *)(uintptr_t)start;
		n = (hp->arena->c.base + *at + *by - start) / HEAP_SLICE;
		err = write_header(hp, plan, n);
		if (err)
			shmi_size_unstage(hp->arena);
		else
			shmi_size_publish(hp->arena, *at + *by);
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
	/* Of an arena, pages that are there. */
	if (plan->arena && !plan->arena->writable)
		return -EACCES;
	if (plan->arena && start - plan->arena->c.base + n * HEAP_SLICE >
				   shmi_size_now(plan->arena))
		return -ENOMEM;
	err = shmi_heap_have(hp, hp->h, sizeof(*hp->h) + n * sizeof(uint32_t));
	if (err)
		return err;
	shmi_heap_end_at(hp->h);
	memset(hp->h, 0, sizeof(*hp->h) + n * sizeof(uint32_t));
	return write_header(hp, plan, n);
}

static int create_private(struct shmi_heap *hp,
			  const struct shmi_heap_plan *plan, uint64_t n)
{
	uint64_t start;
	int err = shmi_chunk_map(plan->how, n, &start);

	if (err)
		return err;
	hp->h = (struct heap_hdr *)(uintptr_t)start;
	err = write_header(hp, plan, n);
	if (err)
		shmi_chunk_unmap(start, n);
	return err;
}

/* It is whole, and this process cannot have it. Nobody knows of it yet. */
static void take_back(struct shmi_heap *hp, const struct shmi_heap_plan *plan,
		      uint64_t n, uint64_t at, uint64_t by)
{
	shmi_heap_forget(hp->h);
	hp->h->magic = 0;
	if (plan->base)
		return;
	if (!plan->arena)
		shmi_chunk_unmap((uintptr_t)hp->h, n);
	else if (shmi_size_shrink(plan->arena, at, by))
		shmi_heap_punch(hp, plan->arena->c.base + at, by);
}

int shmi_heap_create(const struct shmi_heap_plan *plan, struct heap_hdr **out)
{
	struct shmi_heap tmp = { .arena = plan->arena,
				 .populate = plan->populate,
				 .how.pagesize = shmi_os_pagesize() };
	uint64_t n = plan->capacity ? heap_slices(plan->capacity + BLOCK_HEAD)
				    : FIRST_SLICES;
	uint64_t at = 0, by = 0;
	struct shmi_heap *hp;
	int err;

	n += heap_slices(sizeof(struct heap_hdr) + n * sizeof(uint32_t));
	if (plan->capacity > HEAP_COUNT * HEAP_SLICE / 2)
		return -ENOMEM;
	if (plan->base) {
		err = create_at_base(&tmp, plan);
	} else if (plan->arena) {
		err = create_in_arena(&tmp, plan, n, &at, &by);
	} else {
		tmp.how = *plan->how;
		err = create_private(&tmp, plan, n);
	}
	if (err)
		return err;
	err = shmi_heap_get_at(tmp.h, &hp);
	if (err) {
		take_back(&tmp, plan, n, at, by);
		return err;
	}
	if (!plan->arena && !plan->base) {
		hp->how = *plan->how;
		hp->populate = plan->populate;
		hp->growable = !(plan->flags & HEAP_NOGROW);
	}
	*out = tmp.h;
	return 0;
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
	shmi_heap_end(hp);
	shmi_heap_unlock(hp);
	for (i = hp->nchunks; i-- > 0;) {
		uint64_t start = hp->chunk[i].start;
		uint64_t len = hp->chunk[i].nslices * HEAP_SLICE;

		if (a &&
		    (known || hp->flags & HEAP_GIVEN ||
		     shmi_size_shrink(a, start - a->c.base, len) == -EINVAL))
			shmi_heap_punch(hp, start, len);
		else if (!a && !(hp->flags & HEAP_GIVEN))
			shmi_chunk_unmap(start, hp->chunk[i].nslices);
	}
	shmi_heap_forget(h);
	return 0;
}
