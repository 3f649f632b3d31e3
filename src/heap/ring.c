/* SPDX-License-Identifier: BSD-3-Clause */
/* ring.c - the spans that a thread has, and knows */
/*
 * All of it is private, and for speed: a ring of the thread's own spans for each
 * class, with the current one, where blocks come from; and a map from a slice to
 * the span in it and the list that takes its blocks. That is the span's own
 * state, or the stray list of one of the thread's spans, its home for that
 * class. Nothing here is needed after a death.
 *
 * In the map is every span of the thread's own, unless two are at the same place
 * of it. A span of another's is there once the thread has freed a block of it,
 * and may be gone since: its mark is not there then, nor, if there is something
 * else, ever again but for a span of that heap and class, which is as good.
 * Who looks into the map asks for the mark only if the thread has a home: without
 * one there are no others' spans in it.
 */
#include "span.h"

#define get(word) atomic_load_explicit(&(word), memory_order_relaxed)

/* Makes the span known, whose blocks @list takes. */
static void get_to_know(const struct shmi_thread *t, struct heap_run *r,
			uint32_t class, _Atomic uint64_t *list)
{
	struct heap_known *k = shmi_ring_known(t, r);
	uint32_t ever = span_ever(r), bytes = span_bytes(r, class);

	k->blocks = r + 1;
	k->list = list;
	k->ever = (uint16_t)(ever < bytes ? ever : bytes);
	k->magic = heap_magic[class];
	k->mark = heap_mark(t->hp, r, class);
}

static bool is_ours(const struct heap_known *k)
{
	return k->ever && k->list == &k->blocks[-1].state;
}

void shmi_ring_used(struct shmi_thread *t, const struct heap_run *r,
		    uint32_t ever)
{
	struct heap_known *k = shmi_ring_known(t, r);

	if (k->blocks == r + 1)
		k->ever = (uint16_t)ever;
}

static void forget(struct heap_known *k)
{
	k->ever = 0;
}

void shmi_ring_aim(struct shmi_thread *t, uint32_t class,
		   _Atomic uint64_t *list)
{
	uint32_t i = class ? heap_size[class - 1] / 16u + 1 : 0;

	if (class >= HEAP_KNOWN_CLASSES || t->quick[i] == list)
		return;
	for (; i <= heap_size[class] / 16u; i++)
		t->quick[i] = list;
}

void shmi_ring_make_current(struct shmi_thread *t, uint32_t class, uint32_t e)
{
	struct heap_run *old = t->of[class].cur, *r = &shmi_span_none;

	if (old != r)
		span_set_low(old, span_state(old) & ~(uint64_t)SPAN_CURRENT);
	if (e != SPAN_NO_ENTRY) {
		r = t->own[e].run;
		t->idle -= t->own[e].idle;
		t->own[e].idle = false;
		span_set_low(r, (span_state(r) & ~(uint64_t)SPAN_FULL) |
					SPAN_CURRENT);
	}
	t->of[class].ring = e;
	t->of[class].cur = r;
	shmi_ring_aim(t, class, &r->state);
}

/* Behind entry @at. */
static void ring_in(struct shmi_thread *t, uint32_t at, uint32_t e)
{
	t->own[e].prev = at;
	t->own[e].next = t->own[at].next;
	t->own[t->own[e].next].prev = e;
	t->own[at].next = e;
}

void shmi_ring_add(struct shmi_thread *t, uint32_t class, struct heap_run *r)
{
	uint32_t e = t->spare, at = t->of[class].ring;

	t->spare = t->own[e].next;
	t->own[e].run = r;
	t->own[e].class = (uint8_t) class;
	t->own[e].idle = false;
	t->own[e].bytes = span_bytes(r, class);
	get_to_know(t, r, class, &r->state);
	if (at == SPAN_NO_ENTRY)
		t->own[e].next = t->own[e].prev = e;
	else
		ring_in(t, at, e);
	t->of[class].count++;
	t->spans++;
	r->place = e;
	shmi_ring_make_current(t, class, e);
}

static void ring_out(struct shmi_thread *t, uint32_t e)
{
	t->own[t->own[e].prev].next = t->own[e].next;
	t->own[t->own[e].next].prev = t->own[e].prev;
}

void shmi_ring_drop(struct shmi_thread *t, uint32_t class, uint32_t e)
{
	struct heap_known *k = shmi_ring_known(t, t->own[e].run);
	uint32_t next = t->own[e].next;

	if (t->of[class].ring == e)
		shmi_ring_make_current(t, class,
				       next == e ? SPAN_NO_ENTRY : next);
	ring_out(t, e);
	if (k->blocks == t->own[e].run + 1)
		forget(k);
	t->own[e].run = NULL;
	t->own[e].next = t->spare;
	t->spare = e;
	t->of[class].count--;
	t->spans--;
	t->idle -= t->own[e].idle;
}

uint32_t shmi_ring_entry(const struct shmi_thread *t, const struct heap_run *r)
{
	uint32_t e = r->place;

	if (e >= t->room || t->own[e].run != r)
		shmi_heap_die("head of a span overwritten", r, t->h);
	return e;
}

void shmi_ring_next(struct shmi_thread *t, uint32_t class, uint32_t e)
{
	uint32_t at = t->of[class].ring;

	if (at == e || t->own[at].next == e)
		return;
	ring_out(t, e);
	ring_in(t, at, e);
}

void shmi_ring_leave_home(struct shmi_thread *t, struct heap_run *r,
			  uint32_t class)
{
	uint32_t i;

	if (t->of[class].home != r)
		return;
	for (i = 0; i < HEAP_KNOWN; i++)
		if (t->map[i].list == &r->stray)
			forget(&t->map[i]);
	t->of[class].home = NULL;
	if (!--t->homes)
		shmi_thread_show_map(t);
	shmi_ring_aim(t, class, &t->of[class].cur->state);
}

void shmi_ring_know_other(struct shmi_thread *t, struct heap_run *r,
			  uint32_t class)
{
	struct shmi_of_class *of = &t->of[class];

	if (class >= HEAP_KNOWN_CLASSES || is_ours(shmi_ring_known(t, r)))
		return;
	if (!of->home && of->ring != SPAN_NO_ENTRY) {
		of->home = of->cur;
		t->homes++;
		shmi_thread_show_map(t);
	}
	if (of->home)
		get_to_know(t, r, class, &of->home->stray);
}
