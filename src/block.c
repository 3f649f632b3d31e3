/* SPDX-License-Identifier: BSD-3-Clause */
/* block.c - blocks of all sizes, for the heap's users */
/*
 * What fits is a small block of a span (span.c). Anything else is a run of its
 * own: a head, and the block behind it. While a large block is not yet in its
 * user's hands, or not any more, the head names the thread that is at work;
 * after a death there a sweep frees the run. Large blocks are made present
 * outside of the lock, and their pages go back when they are freed: the run
 * stays in the heap, as a hole.
 */
#include "span.h"

#include "os.h"

#include <errno.h>
#include <string.h>

#define get(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define set(word, to) atomic_store_explicit(&(word), to, memory_order_release)

static void *failed(int err)
{
	errno = -err;
	return NULL;
}

static struct shmi_thread *thread_of(struct heap_hdr *h, int *err)
{
	struct shmi_thread *t = shmi_thread_last;

	if (!shmi_thread_valid(t, h))
		*err = shmi_thread_get(h, &t);
	return t;
}

/* The thread's view of the heap that @p is a block of, and the run. Ends the
 * program if it is none. */
static struct shmi_thread *owner_of(const void *p, struct heap_run **r)
{
	struct shmi_thread *t = shmi_thread_around(p);

	*r = heap_run_of(p);
	if (!t)
		shmi_heap_die("no block of a heap that is open here", p, NULL);
	if ((uintptr_t)p % 16 || get((*r)->mark) != heap_mark(t->hp, *r))
		shmi_heap_die("no block", p, t->h);
	return t;
}

/* ----- large blocks ----- */

/* Bytes from the start of a run's slice to the block, with room for any head. */
static uint64_t front(uint64_t align)
{
	uint64_t head = (HEAP_COLOURS - 1) * HEAP_COLOUR + HEAP_RUN_LEN;

	if (align >= HEAP_SLICE)
		return HEAP_SLICE;
	return (head + align - 1) & ~(align - 1);
}

/* Under the lock. */
static int find_run(struct shmi_heap *hp, uint32_t n, uint64_t align,
		    struct heap_at *at)
{
	uint64_t room = n + (align > HEAP_SLICE ? align / HEAP_SLICE : 0);
	int err = shmi_run_find(hp, n, align, at);

	if (err != -ENOMEM)
		return err;
	shmi_span_sweep(hp, NULL, 0);
	err = shmi_run_find(hp, n, align, at);
	if (err == -ENOMEM)
		err = shmi_heap_more(hp, room);
	return err ? err : shmi_run_find(hp, n, align, at);
}

/* A run, and what of it is yet to be made present. */
struct part {
	struct heap_run *r;
	uint64_t from, to; /* offsets in the run */
	bool zero;
};

/* Under the lock. New pages are made present as far as the block goes; the end
 * of a kept run to the last, so that it is whole from then on. */
static int take_run(struct shmi_thread *t, uint64_t n, uint64_t align,
		    uint32_t count, struct part *out)
{
	struct shmi_heap *hp = t->hp;
	struct heap_run *r;
	struct heap_at at;
	uint32_t word;
	int err = find_run(hp, count, align, &at);

	if (err)
		return err;
	word = shmi_run_word(hp, at);
	r = out->r = heap_head(heap_slice(hp, at));
	out->zero = !(word & HEAP_DIRTY);
	out->from = out->to = count * HEAP_SLICE; /* nothing */
	if (!(word & HEAP_KEPT)) {
		out->from = 0;
		out->to = front(align) + n;
		err = shmi_heap_fill(hp, (uintptr_t)r, HEAP_RUN_LEN);
	} else if ((word & HEAP_PART) && (word & HEAP_COUNT) == count) {
		out->from -= HEAP_SLICE;
	}
	if (err)
		return err;
	r->heap = (uintptr_t)hp->h;
	r->kind = HEAP_LARGE;
	r->len = n;
	r->block = heap_slice(hp, at) + front(align);
	set(r->owner, t->owner); /* not yet the user's */
	set(r->mark, heap_mark(hp, r));
	shmi_run_take(hp, at, count, out->to < count * HEAP_SLICE);
	return 0;
}

static void *large(struct shmi_thread *t, uint64_t n, uint64_t align,
		   bool *zero)
{
	uint64_t end = front(align) + n;
	struct part got;
	int err;

	if (n > HEAP_COUNT * HEAP_SLICE / 2)
		return failed(-ENOMEM);
	err = shmi_heap_lock(t->hp);
	if (err)
		return failed(err);
	err = take_run(t, n, align,
		       (uint32_t)((end + HEAP_SLICE - 1) / HEAP_SLICE), &got);
	shmi_heap_unlock(t->hp);
	shmi_thread_refresh(t);
	if (err)
		return failed(err);
	if (got.from < got.to)
		err = shmi_heap_fill(t->hp, heap_base(got.r) + got.from,
				     got.to - got.from);
	if (err) {
		shmi_run_give(t->hp, got.r, false, false);
		return failed(err);
	}
	*zero = got.zero;
	set(got.r->owner, 0); /* the user's */
	return (void *)(uintptr_t)got.r->block;
}

static void check_large(struct shmi_thread *t, const struct heap_run *r,
			const void *p)
{
	if (r->kind != HEAP_LARGE || r->block != (uintptr_t)p)
		shmi_heap_die("no block", p, t->h);
	if (get(r->owner))
		shmi_heap_die("block freed twice", p, t->h);
}

static bool is_small(const struct heap_run *r)
{
	return r->kind < HEAP_CLASSES;
}

/* In place: 0, or -ENOMEM. */
static int resize_large(struct shmi_thread *t, struct heap_run *r, size_t n)
{
	uint64_t off = r->block - heap_base(r), old = r->len;
	uint32_t count;
	int err;

	if (n > HEAP_COUNT * HEAP_SLICE / 2)
		return -ENOMEM;
	count = (uint32_t)((off + n + HEAP_SLICE - 1) / HEAP_SLICE);
	err = shmi_heap_lock(t->hp);
	if (err)
		return err;
	err = shmi_run_resize(t->hp, r, count);
	shmi_heap_unlock(t->hp);
	if (!err && n > old)
		err = shmi_heap_fill(t->hp, r->block + old, n - old);
	/* Dying before this: the block is as it was, in a run that is longer
	 * than it needs. */
	if (!err)
		r->len = n;
	return err;
}

/* ----- for users ----- */

static void *allocate(struct heap_hdr *h, size_t n, bool *zero)
{
	struct shmi_thread *t;
	int err = 0;

	*zero = false;
	t = thread_of(h, &err);
	if (err)
		return failed(err);
	if (n <= HEAP_SMALL)
		return shmi_span_malloc(t, heap_class(n));
	return large(t, n, 16, zero);
}

void *shmi_heap_malloc(struct heap_hdr *h, size_t n)
{
	bool zero;

	return allocate(h, n, &zero);
}

void *shmi_heap_calloc(struct heap_hdr *h, size_t n, size_t size)
{
	size_t bytes;
	bool zero;
	void *p;

	if (__builtin_mul_overflow(n, size, &bytes))
		return failed(-ENOMEM);
	p = allocate(h, bytes, &zero);
	if (p && !zero)
		memset(p, 0, bytes);
	return p;
}

/*
 * A small block with room to spare, and an address inside of it. The span
 * notes that it has such, before the address is given out.
 */
void *shmi_heap_memalign(struct heap_hdr *h, size_t align, size_t n)
{
	struct shmi_thread *t;
	uintptr_t p, aligned;
	bool zero;
	int err = 0;

	if (!align || align & (align - 1))
		return failed(-EINVAL);
	if (align <= 16)
		return shmi_heap_malloc(h, n);
	if (!n)
		n = 1; /* an address at the block's end would be another's */
	if (n > SIZE_MAX - align || align > (size_t)1 << 40)
		return failed(-ENOMEM);
	if (n + align > HEAP_SMALL) {
		t = thread_of(h, &err);
		return err ? failed(err) : large(t, n, align, &zero);
	}
	p = (uintptr_t)shmi_heap_malloc(h, n + align - 16);
	aligned = (p + align - 1) & ~(align - 1);
	if (p && aligned != p)
		set(heap_run_of((void *)p)->interior, 1);
	return (void *)aligned;
}

void shmi_heap_free(void *p)
{
	struct heap_run *r;
	struct shmi_thread *t = owner_of(p, &r);

	if (is_small(r)) {
		shmi_span_free(t, r, p);
		return;
	}
	check_large(t, r, p);
	set(r->owner, t->owner); /* the user's no more; if we die, a sweep's */
	shmi_run_give(t->hp, r, false, true);
}

static size_t usable(struct shmi_thread *t, struct heap_run *r, const void *p)
{
	char *start;

	if (is_small(r)) {
		start = shmi_span_block(t->hp, r, p);
		return heap_size[r->kind] - (size_t)((const char *)p - start);
	}
	check_large(t, r, p);
	return r->len;
}

size_t shmi_heap_usable(const void *p)
{
	struct heap_run *r;
	struct shmi_thread *t = owner_of(p, &r);

	return usable(t, r, p);
}

void *shmi_heap_realloc(struct heap_hdr *h, void *p, size_t n)
{
	struct heap_run *r;
	struct shmi_thread *t;
	size_t have;
	void *q;

	if (!p)
		return shmi_heap_malloc(h, n);
	t = owner_of(p, &r);
	if (t->h != h)
		return failed(-EINVAL);
	have = usable(t, r, p);
	if (is_small(r) && n <= have && (n >= have / 2 || have <= 128))
		return p;
	if (!is_small(r) && n > HEAP_SMALL && !resize_large(t, r, n))
		return p;
	q = shmi_heap_malloc(h, n);
	if (!q)
		return NULL;
	memcpy(q, p, n < have ? n : have);
	shmi_heap_free(p);
	return q;
}

/* ----- the heap as a whole ----- */

int shmi_heap_trim(struct heap_hdr *h, size_t pad, bool *released)
{
	struct shmi_heap *hp;
	int err = shmi_heap_get(h, &hp);

	(void)pad;
	if (!err)
		err = shmi_heap_lock(hp);
	if (err)
		return err;
	shmi_span_sweep(hp, NULL, 0);
	*released = shmi_run_purge(hp);
	shmi_heap_unlock(hp);
	return 0;
}

static int check_run(struct shmi_heap *hp, struct heap_run *r, uint32_t n,
		     void *arg)
{
	(void)arg;
	if (get(r->mark) != heap_mark(hp, r))
		return -EUCLEAN;
	if (r->kind != HEAP_LARGE)
		return shmi_span_check(hp, r);
	if (r->block - heap_base(r) > HEAP_SLICE ||
	    r->len > n * HEAP_SLICE - (r->block - heap_base(r)))
		return -EUCLEAN;
	return 0;
}

int shmi_heap_check(struct heap_hdr *h)
{
	struct shmi_heap *hp;
	uint64_t nfree;
	int err = shmi_heap_get(h, &hp);

	if (!err)
		err = shmi_heap_lock(hp);
	if (err)
		return err;
	err = shmi_run_check(hp, &nfree);
	if (!err)
		err = shmi_run_each(hp, check_run, NULL);
	shmi_heap_unlock(hp);
	return err;
}

static int add_used(struct shmi_heap *hp, struct heap_run *r, uint32_t n,
		    void *sum)
{
	(void)hp;
	(void)n;
	if (is_small(r))
		*(size_t *)sum += shmi_span_used(r);
	else
		*(size_t *)sum += r->len;
	return 0;
}

int shmi_heap_stats(struct heap_hdr *h, size_t *peak, size_t *now, size_t *used)
{
	struct shmi_heap *hp;
	int err = shmi_heap_get(h, &hp);

	if (!err)
		err = shmi_heap_lock(hp);
	if (err)
		return err;
	*peak = get(h->peak);
	*now = shmi_heap_footprint(hp);
	*used = 0;
	shmi_run_each(hp, add_used, used);
	shmi_heap_unlock(hp);
	return 0;
}
