/* SPDX-License-Identifier: BSD-3-Clause */
/* page.c - pages that are no arena's */
/*
 * The maps that this process has made are kept in one array, sorted by
 * address, without overlaps, under one mutex. It lies in a mapping of its own
 * and not in the C library's heap, which may itself stand on these pages.
 * Room for an entry is made sure before the kernel is asked for anything, so
 * that what has been mapped or cut can always be noted. A fork copies it; the
 * mutex is taken over the fork, so the child finds it whole.
 */
#include "page.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

struct map {
	uintptr_t start;
	size_t len;
	struct shmi_pages how;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct map *maps;  /* under mutex, as the two below */
static size_t used, room; /* entries */

static void take(void)
{
	pthread_mutex_lock(&mutex);
}

static void give(void)
{
	pthread_mutex_unlock(&mutex);
}

static void register_fork(void)
{
	pthread_atfork(take, give, give);
}

/* Room for @n more entries. */
static int make_room(size_t n)
{
	const struct shmi_map_how how = { .prot = SHMI_PROT_READ |
						  SHMI_PROT_WRITE };
	size_t page = shmi_os_pagesize();
	size_t len = room * sizeof(*maps);
	void *at;
	int err;

	if (used + n <= room)
		return 0;
	if (!maps) {
		len = page;
		err = shmi_os_map_anon(&how, NULL, len, &at);
	} else {
		len = (len + page - 1) / page * page;
		err = shmi_os_remap(maps, len, 2 * len, true, &at);
		len *= 2;
	}
	if (err)
		return err;
	maps = at;
	room = len / sizeof(*maps);
	return 0;
}

/* Index of the first map that ends above @addr. */
static size_t find(uintptr_t addr)
{
	size_t low = 0, high = used;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (maps[mid].start + maps[mid].len > addr)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

static void insert(uintptr_t start, size_t len, const struct shmi_pages *how)
{
	size_t i = find(start);

	memmove(maps + i + 1, maps + i, (used - i) * sizeof(*maps));
	maps[i].start = start;
	maps[i].len = len;
	maps[i].how = *how;
	used++;
}

static void drop(size_t i)
{
	used--;
	memmove(maps + i, maps + i + 1, (used - i) * sizeof(*maps));
}

static int round_up(size_t *len, size_t pagesize)
{
	size_t rounded = (*len + pagesize - 1) & ~(pagesize - 1);

	if (!*len || !pagesize)
		return -EINVAL;
	if (rounded < *len)
		return -ENOMEM;
	*len = rounded;
	return 0;
}

/* Hints, NUMA policy and pages of a new part of a map. */
static int furnish(const struct shmi_pages *how, void *addr, size_t len)
{
	int err = 0;

	if (how->how.thp && !how->how.huge)
		shmi_os_advise_thp(addr, len);
	if (how->policy)
		err = shmi_os_bind(addr, len, how->policy, how->nodes);
	/* What may not be written cannot be populated by writing. */
	if (!err && how->populate && (how->how.prot & SHMI_PROT_WRITE))
		err = shmi_os_populate(addr, len, how->pagesize);
	return err;
}

static int make(const struct shmi_pages *how, void *addr, size_t len, void **at)
{
	int err = shmi_os_map_anon(&how->how, addr, len, at);

	if (err)
		return err;
	err = furnish(how, *at, len);
	if (err)
		shmi_os_unmap(*at, len);
	return err;
}

static int map(const struct shmi_pages *how, void *addr, size_t len, void **at)
{
	int err = round_up(&len, how->pagesize);

	if (!err && ((uintptr_t)addr & (how->pagesize - 1)))
		err = -EINVAL;
	if (err)
		return err;
	pthread_once(&once, register_fork);
	/* Not under the mutex: it may take long. Nobody knows the map yet. */
	err = make(how, addr, len, at);
	if (err)
		return err;
	take();
	err = make_room(1);
	if (err)
		shmi_os_unmap(*at, len);
	else
		insert((uintptr_t)*at, len, how);
	give();
	return err;
}

/*
 * The kernel reserves huge pages when it maps them, present or not, so a map
 * of them that succeeds gets them all.
 */
int shmi_page_map(const struct shmi_pages *how, void *addr, size_t len,
		  void **at)
{
	struct shmi_pages small = *how;
	int err = map(how, addr, len, at);

	if (!err || !how->preferred)
		return err;
	small.pagesize = shmi_os_pagesize();
	small.how.huge = 0;
	return map(&small, addr, len, at);
}

/* The map that has all of [addr, addr + len), len rounded; or -EINVAL. */
static int inside(uintptr_t addr, size_t *len, size_t *index)
{
	size_t i = find(addr);
	const struct map *m;

	if (i == used)
		return -EINVAL;
	m = &maps[i];
	if (addr < m->start || (addr & (m->how.pagesize - 1)) ||
	    round_up(len, m->how.pagesize) || *len > m->len - (addr - m->start))
		return -EINVAL;
	*index = i;
	return 0;
}

/* Forgets [addr, addr + len) of map @i; there is room for one more. */
static void cut_out(size_t i, uintptr_t addr, size_t len)
{
	struct map m = maps[i];
	uintptr_t end = m.start + m.len;

	if (addr == m.start)
		drop(i);
	else
		maps[i].len = addr - m.start;
	if (addr + len < end)
		insert(addr + len, end - addr - len, &m.how);
}

int shmi_page_unmap(void *addr, size_t len)
{
	size_t i;
	int err;

	take();
	err = inside((uintptr_t)addr, &len, &i);
	if (!err)
		err = make_room(1);
	if (!err)
		err = shmi_os_unmap_part(addr, len);
	if (!err)
		cut_out(i, (uintptr_t)addr, len);
	give();
	return err;
}

/* Under the mutex: map @i, or its part at @old, is longer by the rest. */
static int grow_in_place(size_t i, void *old, size_t old_len, size_t new_len)
{
	const struct map *m = maps + i;
	char *tail = (char *)old + old_len;
	void *at;
	int err;

	/* What is behind it may be a map of ours, or of others. */
	if ((uintptr_t)tail != m->start + m->len)
		return -ENOMEM;
	err = shmi_os_remap(old, old_len, new_len, false, &at);
	if (err) /* EINVAL: huge pages do not grow */
		return err == -EINVAL ? -ENOMEM : err;
	err = furnish(&m->how, tail, new_len - old_len);
	if (err) {
		shmi_os_unmap(tail, new_len - old_len);
		return err;
	}
	maps[i].len += new_len - old_len;
	return 0;
}

/* Lazy pages are moved as they are, those that are not there yet too. */
static int move_lazily(size_t i, void *old, size_t old_len, size_t new_len,
		       void **at)
{
	const struct shmi_pages how = maps[i].how;
	int err = make_room(2);

	if (!err)
		err = shmi_os_remap(old, old_len, new_len, true, at);
	if (err)
		return err;
	cut_out(i, (uintptr_t)old, old_len);
	insert((uintptr_t)*at, new_len, &how);
	return 0;
}

/*
 * A new map with a copy, and only then the old one goes: a map that was moved
 * first and could then not be populated has no safe way back.
 */
static int move(size_t i, void *old, size_t old_len, size_t new_len,
		void *fixed, void **at)
{
	const struct shmi_pages how = maps[i].how;
	size_t keep = old_len < new_len ? old_len : new_len;
	int err;

	if (~how.how.prot & (SHMI_PROT_READ | SHMI_PROT_WRITE))
		return -EINVAL;
	err = make_room(2);
	if (!err)
		err = make(&how, fixed, new_len, at);
	if (err)
		return err;
	memcpy(*at, old, keep);
	err = shmi_os_unmap_part(old, old_len);
	if (err) {
		shmi_os_unmap(*at, new_len);
		return err;
	}
	cut_out(i, (uintptr_t)old, old_len);
	insert((uintptr_t)*at, new_len, &how);
	return 0;
}

static int remap(size_t i, void *old, size_t old_len, size_t new_len,
		 bool may_move, void *fixed, void **at)
{
	bool shared = maps[i].how.how.shared;
	int err;

	*at = old;
	if (shared && (fixed || new_len > old_len))
		return -EINVAL; /* a copy would be shared with nobody */
	if (fixed)
		return move(i, old, old_len, new_len, fixed, at);
	if (new_len == old_len)
		return 0;
	if (new_len < old_len) {
		uintptr_t tail = (uintptr_t)old + new_len;

		err = make_room(1);
		if (!err)
			err = shmi_os_unmap_part((char *)old + new_len,
						 old_len - new_len);
		if (!err)
			cut_out(i, tail, old_len - new_len);
		return err;
	}
	err = grow_in_place(i, old, old_len, new_len);
	if (err && may_move && !maps[i].how.populate)
		err = move_lazily(i, old, old_len, new_len, at);
	if (err && may_move)
		err = move(i, old, old_len, new_len, NULL, at);
	return err;
}

int shmi_page_remap(void *old, size_t old_len, size_t new_len, bool may_move,
		    void *fixed, void **at)
{
	size_t i, pagesize;
	int err;

	take();
	err = inside((uintptr_t)old, &old_len, &i);
	if (!err) {
		pagesize = maps[i].how.pagesize;
		err = round_up(&new_len, pagesize);
		if (!err && ((uintptr_t)fixed & (pagesize - 1)))
			err = -EINVAL;
	}
	if (!err)
		err = remap(i, old, old_len, new_len, may_move, fixed, at);
	give();
	return err;
}
