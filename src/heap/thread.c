/* SPDX-License-Identifier: BSD-3-Clause */
/* thread.c - what a thread knows of its heaps */
/*
 * One thread-local pointer leads to the heap used last, and to the thread's
 * others behind it. What is there is private and holds the thread's spans. It
 * is void when the epoch has moved (an arena was closed, a heap destroyed, or
 * this is a forked child), and then looked at again: a heap that is still open
 * here, under the same life, is as before; anything else is forgotten, and
 * its spans are the dead's, for the next sweep.
 *
 * At a thread's end a key's destructor gives the spans back.
 */
#include "span.h"

#include "os.h"
#include "size.h"

#include <errno.h>

#define FIRST_ROOM 64u

static struct shmi_thread no_heaps = {
	.view = { .h = SHMI_NO_HEAP, .map = (uintptr_t)shmi_view_empty }
};
_Thread_local struct shmi_thread *shmi_thread_last = &no_heaps;

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const struct shmi_map_how plain = { .prot = SHMI_PROT_READ |
						   SHMI_PROT_WRITE };

static void let_go(struct shmi_thread *t)
{
	shmi_view_drop(&t->view);
	if (t->map)
		shmi_os_unmap(t->map, HEAP_KNOWN * sizeof(*t->map));
	if (t->own)
		shmi_os_unmap(t->own, t->room * sizeof(*t->own));
	shmi_os_unmap(t, sizeof(*t));
}

/* relaxed, and as for show(): view.h */
void shmi_thread_show_map(struct shmi_thread *t)
{
	atomic_store_explicit(&t->view.map,
			      (uintptr_t)t->map + (t->homes ? VIEW_OTHERS : 0),
			      memory_order_relaxed);
}

/* What the quick ways see. Who moves the epoch may take it away late, when we
 * have found that our heap has outlived that: the next call shows it again. */
static void show(struct shmi_thread *t)
{
	shmi_thread_show_map(t);
	atomic_store_explicit(&t->view.h, t->h, memory_order_relaxed);
}

/* After the epoch has moved. */
static bool still_good(struct shmi_thread *t)
{
	uint64_t now =
		atomic_load_explicit(&shmi_heap_epoch, memory_order_relaxed);

	if (t->epoch == now)
		return true;
	if (!shmi_heap_is_open(t->id, t->owner, false))
		return false;
	t->epoch = now;
	return true;
}

static void ends(void *list)
{
	struct shmi_thread *t = list, *next;

	/* shmi_thread_last, and not what the key was set to: that is only a
	 * mark that there is something. */
	for (t = shmi_thread_last; t != &no_heaps; t = next) {
		next = t->next;
		/* Its user is done with the heap, and may have told somebody
		 * who destroys it now, or closes the arena. */
		if (shmi_heap_is_open(t->id, t->owner, true)) {
			shmi_span_leave(t);
			shmi_heap_release(t->hp);
		}
		let_go(t);
	}
	shmi_thread_last = &no_heaps;
}

static void set_up(void)
{
	pthread_key_create(&key, ends);
}

void shmi_thread_refresh(struct shmi_thread *t)
{
	struct shmi_arena *a = t->hp->arena;

	if (a) {
		t->lo = a->c.base;
		t->len = shmi_size_now(a);
		t->from = t->lo;
		/* so all of a block is in it */
		t->places = (t->len - HEAP_QUICK) / 16;
	} else {
		t->lo = t->hp->chunk[0].start;
		t->len = t->hp->chunk[0].nslices * HEAP_SLICE;
		t->from = 1;
		t->places = UINT64_MAX;
	}
}

int shmi_thread_room(struct shmi_thread *t)
{
	uint32_t room = t->room ? t->room * 2 : FIRST_ROOM, i;
	void *at;
	int err;

	if (t->spare != SPAN_NO_ENTRY)
		return 0;
	if (t->own)
		err = shmi_os_remap(t->own, t->room * sizeof(*t->own),
				    room * sizeof(*t->own), true, &at);
	else
		err = shmi_os_map_anon(&plain, NULL, room * sizeof(*t->own),
				       &at);
	if (err)
		return err;
	t->own = at;
	for (i = t->room; i < room; i++) {
		t->own[i].run = NULL;
		t->own[i].next = i + 1 < room ? i + 1 : SPAN_NO_ENTRY;
	}
	t->spare = t->room;
	t->room = room;
	return 0;
}

static int make(struct heap_hdr *h, struct shmi_heap *hp, uint64_t epoch,
		struct shmi_thread **out)
{
	struct shmi_thread *t;
	void *at;
	uint32_t i;
	int err = shmi_os_map_anon(&plain, NULL, sizeof(*t), &at);

	if (err)
		return err;
	t = at;
	err = shmi_os_map_anon(&plain, NULL, HEAP_KNOWN * sizeof(*t->map), &at);
	if (err) {
		shmi_os_unmap(t, sizeof(*t));
		return err;
	}
	t->map = at;
	t->h = h;
	t->hp = hp;
	t->secret = hp->secret;
	t->end = SPAN_END;
	t->id = hp->id;
	t->epoch = epoch;
	shmi_view_add(&t->view, HEAP_THREADS);
	t->owner = heap_owner(hp->slot, hp->life, t->view.number);
	t->spare = SPAN_NO_ENTRY;
	for (i = 0; i < HEAP_KINDS; i++)
		t->of[i].cur = &shmi_span_none;
	for (i = 0; i <= HEAP_QUICK / 16; i++)
		t->quick[i] = &shmi_span_none.state;
	for (i = 0; i < HEAP_CLASSES; i++)
		t->of[i].ring = SPAN_NO_ENTRY;
	shmi_thread_refresh(t);
	show(t);
	*out = t;
	return 0;
}

/* To the front, so that the next call finds it at once. */
static void first(struct shmi_thread *t)
{
	t->next = shmi_thread_last;
	shmi_thread_last = t;
}

int shmi_thread_get(struct heap_hdr *h, struct shmi_thread **out)
{
	struct shmi_thread **at = &shmi_thread_last, *t;
	struct shmi_heap *hp;
	uint64_t epoch;
	int cancel, err;

	pthread_once(&once, set_up);
	cancel = shmi_os_cancel_off(); /* what is below opens and reads files */
	while ((t = *at) != &no_heaps) {
		if (t->h == h || !still_good(t)) {
			*at = t->next;
			if (t->h == h && still_good(t)) {
				show(t);
				first(t);
				*out = t;
				shmi_os_cancel_restore(cancel);
				return 0;
			}
			let_go(t);
		} else {
			at = &t->next;
		}
	}
	epoch = atomic_load_explicit(&shmi_heap_epoch, memory_order_relaxed);
	err = shmi_heap_get(h, &hp);
	if (!err)
		err = make(h, hp, epoch, &t);
	shmi_os_cancel_restore(cancel);
	if (err)
		return err;
	pthread_setspecific(key, t);
	first(t);
	*out = t;
	return 0;
}

/* The heap that the head of @p's run names, if that can be read. */
static struct heap_hdr *heap_named(const void *p)
{
	uintptr_t run = (uintptr_t)heap_run_of(p);
	struct shmi_arena *a = shmi_arena_around(p);
	uint64_t h = 0;

	if (!a)
		return shmi_heap_private_around(p);
	if (run >= a->c.base && run - a->c.base < shmi_size_now(a))
		h = ((struct heap_run *)run)->heap;
	/* Of the same arena, or it is no block. */
	if (h - a->c.base >= a->c.maxsize)
		h = 0;
	shmi_arena_done(a);
	return (struct heap_hdr *)(uintptr_t)h;
}

struct shmi_thread *shmi_thread_around(const void *p)
{
	struct heap_run *r = heap_run_of(p);
	struct shmi_thread *t = shmi_thread_last;
	struct heap_hdr *h;

	if (t->h && shmi_thread_valid(t, t->h) &&
	    (uintptr_t)r - t->lo < t->len && r->heap == (uintptr_t)t->h)
		return t;
	h = heap_named(p);
	if (!h || shmi_thread_get(h, &t))
		return NULL;
	shmi_thread_refresh(t);
	return t;
}
