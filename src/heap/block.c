/* SPDX-License-Identifier: BSD-3-Clause */
/* block.c - blocks of all sizes, for the heap's users */
/*
 * What fits is a small block of a span (span.c). Anything else is a run of its
 * own (large.c).
 */
#include "large.h"

#include "os.h"

#include <errno.h>
#include <string.h>

#define get(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define set(word, to) atomic_store_explicit(&(word), to, memory_order_release)

static bool is_small(const struct heap_run *r)
{
	return r->kind < HEAP_CLASSES;
}

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
	if ((uintptr_t)p % 16 ||
	    get((*r)->mark) != heap_mark(t->hp, *r, (*r)->kind))
		shmi_heap_die("no block", p, t->h);
	return t;
}

/* ----- for users ----- */

static void *allocate(struct heap_hdr *h, size_t n, bool *zero)
{
	struct shmi_thread *t;
	void *p;
	int err = 0;

	*zero = false;
	t = thread_of(h, &err);
	if (err)
		return failed(err);
	if (n > HEAP_SMALL)
		return shmi_large_malloc(t, n, 16, zero);
	p = shmi_span_malloc(t, heap_class(n));
	if (!p && errno == ENOMEM && shmi_large_make_room(t))
		p = shmi_span_malloc(t, heap_class(n));
	return p;
}

void *shmi_heap_malloc(struct heap_hdr *h, size_t n)
{
	bool zero;

	return allocate(h, n, &zero);
}

/* Bytes of a large block that the library itself is to read or write: they may
 * be missing where the heap is not populated. */
static int have_bytes(const struct shmi_thread *t, const void *p, size_t n)
{
	return t->hp->populate ? 0 : shmi_heap_have(t->hp, p, n);
}

void *shmi_heap_calloc(struct heap_hdr *h, size_t n, size_t size)
{
	struct shmi_thread *t;
	size_t bytes;
	bool zero;
	void *p;
	int err = 0;

	if (__builtin_mul_overflow(n, size, &bytes))
		return failed(-ENOMEM);
	p = allocate(h, bytes, &zero);
	if (!p || zero)
		return p;
	if (bytes > HEAP_SMALL) {
		t = thread_of(h, &err);
		if (!err)
			err = have_bytes(t, p, bytes);
	}
	if (err) {
		shmi_heap_free(p);
		return failed(err);
	}
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
		return err ? failed(err)
			   : shmi_large_malloc(t, n, align, &zero);
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
	shmi_large_check(t, r, p);
	shmi_large_free(t, r);
}

static size_t usable(struct shmi_thread *t, struct heap_run *r, const void *p)
{
	uint32_t class;
	char *start;

	if (is_small(r)) {
		start = shmi_span_block(t->hp, r, p, &class);
		return heap_size[class] - (size_t)((const char *)p - start);
	}
	return shmi_large_len(t, r, p);
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
	int err = 0;

	if (!p)
		return shmi_heap_malloc(h, n);
	t = owner_of(p, &r);
	if (t->h != h)
		return failed(-EINVAL);
	have = usable(t, r, p);
	if (is_small(r) && n <= have && (n >= have / 2 || have <= 128))
		return p;
	if (!is_small(r) && n > HEAP_SMALL &&
	    !shmi_large_resize(t, r, p, have, n))
		return p;
	q = shmi_heap_malloc(h, n);
	if (!q)
		return NULL;
	have = n < have ? n : have;
	if (!is_small(r))
		err = have_bytes(t, p, have);
	if (!err && n > HEAP_SMALL)
		err = have_bytes(t, q, have);
	if (err) {
		shmi_heap_free(q);
		return failed(err);
	}
	memcpy(q, p, have);
	shmi_heap_free(p);
	return q;
}

/* ----- the heap as a whole ----- */

int shmi_heap_trim(struct heap_hdr *h, size_t pad, bool *released)
{
	struct shmi_thread *t;
	struct shmi_heap *hp;
	int err = 0;

	t = thread_of(h, &err);
	if (err)
		return err;
	hp = t->hp;
	shmi_large_let_go(t);
	err = shmi_heap_lock(hp);
	if (err)
		return err;
	/* What comes home here may be blocks of our spans. */
	shmi_stray_let_go(t);
	shmi_span_sweep(hp, NULL, 0);
	shmi_heap_unlock(hp);
	shmi_span_let_go(t);
	err = shmi_run_purge(hp, t->owner, pad, released);
	if (!err)
		err = shmi_heap_lock(hp);
	if (err)
		return err;
	while (shmi_heap_less(hp))
		*released = true;
	shmi_heap_unlock(hp);
	shmi_thread_refresh(t); /* there may be less memory now */
	return 0;
}

static int check_run(struct shmi_heap *hp, struct heap_run *r, uint32_t n,
		     void *arg)
{
	(void)arg;
	if (get(r->mark) != heap_mark(hp, r, r->kind))
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
	else if (!get(r->owner))
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
	/* A block that was no stray yet when its span was looked at. */
	if (*used > SIZE_MAX / 2)
		*used = 0;
	shmi_heap_unlock(hp);
	return 0;
}
