/* SPDX-License-Identifier: BSD-3-Clause */
/* pages.c - which pages of an arena are there, without making any */
/*
 * Where holes are, lseek(2) tells, but not on hugetlbfs, where all of a file
 * is data to it. Whether a page is part of a huge one, and its node, only a
 * process can ask that has it mapped, and whose page tables have it, so that
 * it must be touched; and to touch a hole is to fill it.
 *
 * So the map is registered with userfaultfd(2) for missing pages, with the
 * feature that makes them an error instead of a message: then a fault finds a
 * page that is there, or fails, and never makes one. That is allowed to every
 * user where it is for faults in user mode only, and madvise(2) faults on our
 * behalf without a signal. The map is private, so that a descriptor for reading
 * will do, and takes nothing from the pool, since it reserves nothing.
 *
 * Pages in swap are not touched: mincore(2) knows them.
 *
 * Tried and dropped: mincore(2) for huge pages (looks at the page tables
 * only), cachestat(2) (refuses hugetlbfs), UFFDIO_CONTINUE (maps parts of
 * transparent huge pages one by one, which hides that they are).
 */
#include "look.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HUGE ((uint64_t)2 << 20)     /* alignment that huge pages want */
#define WINDOW ((uint64_t)256 << 20) /* mapped at a time; page tables cost */
#define PIECE ((uint64_t)2 << 20)    /* of it that is touched at a time */
#define BATCH 1024u		     /* pages that are asked for at a time */

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

/* ioctl(2) of /proc/PID/pagemap, Linux 6.7; headers may be older. */
struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof, returned;
};
struct scanned {
	uint64_t start, end, categories;
};
#define SCAN _IOWR('f', 16, struct scan)
#define SCAN_PRESENT ((uint64_t)1 << 3)
#define SCAN_HUGE ((uint64_t)1 << 6)

struct looker {
	const struct ctl_arena *a;
	ctl_pages_fn *each;
	void *arg;
	uint64_t page;
	int pagemap;	     /* -1: cannot tell */
	bool nodes;	     /* there is more than one, or none is known */
	const char *unknown; /* NULL; or what cannot be told, and why */
	char *hold;	     /* address space of a window, and what aligns it */
	char *map;	     /* of the window */
	uint64_t at, len;    /* of the window, offsets in the arena */
	int uffd;	     /* of the window; -1: nothing can be touched */
	unsigned char *core;
	struct ctl_pages last; /* not yet told; len 0: none */
};

/* ----- holes ----- */

bool ctl_data_next(const struct ctl_arena *a, uint64_t off, uint64_t *from,
		   uint64_t *to)
{
	off_t start, end;

	if (off >= a->size)
		return false;
	*from = off;
	*to = a->size;
	if (a->huge)
		return true;
	start = lseek(a->fd, (off_t)(a->data_off + off), SEEK_DATA);
	if (start < 0)
		return errno != ENXIO; /* cannot tell: all of it */
	end = lseek(a->fd, start, SEEK_HOLE);
	*from = (uint64_t)start - a->data_off;
	if (end > start)
		*to = (uint64_t)end - a->data_off;
	if (*from >= a->size)
		return false;
	if (*to > a->size)
		*to = a->size;
	return true;
}

/* ----- telling ----- */

static void flush(struct looker *l)
{
	if (l->last.len)
		l->each(&l->last, l->arg);
	l->last.len = 0;
}

static void tell(struct looker *l, uint64_t at, uint64_t len,
		 enum ctl_page_kind kind, int node)
{
	if (!len)
		return;
	if (l->last.len && l->last.at + l->last.len == at &&
	    l->last.kind == kind && l->last.node == node) {
		l->last.len += len;
		return;
	}
	flush(l);
	l->last = (struct ctl_pages){ at, len, kind, node };
}

/* The node of each page that is mapped. */
static void tell_nodes(struct looker *l, uint64_t at, uint64_t len,
		       enum ctl_page_kind kind)
{
	uint64_t step = kind == CTL_HUGE && l->page < HUGE ? HUGE : l->page;
	uint64_t next, end = at + len;
	void *pages[BATCH];
	int status[BATCH];
	unsigned long n, i;

	while (at < end) {
		for (n = 0, next = at; n < BATCH && next < end; n++) {
			pages[n] = l->map + (next - l->at);
			next = (next / step + 1) * step;
			status[n] = -1;
		}
		syscall(SYS_move_pages, 0, n, pages, NULL, status, 0);
		for (i = 0; i < n; i++) {
			next = (at / step + 1) * step;
			if (next > end)
				next = end;
			tell(l, at, next - at, kind,
			     status[i] < 0 ? -1 : status[i]);
			at = next;
		}
	}
}

static void tell_mapped(struct looker *l, uint64_t at, uint64_t len,
			enum ctl_page_kind kind)
{
	if (l->nodes)
		tell_nodes(l, at, len, kind);
	else
		tell(l, at, len, kind, 0);
}

/* ----- a window ----- */

static void watch(struct looker *l)
{
	struct uffdio_api api = { .api = UFFD_API,
				  .features = UFFD_FEATURE_SIGBUS };
	struct uffdio_register reg = {
		.range = { (uintptr_t)l->map, l->len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	l->uffd = (int)syscall(SYS_userfaultfd,
			       O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (l->uffd < 0) {
		l->unknown = "Huge pages and nodes cannot be told: it takes "
			     "userfaultfd(2), which is refused.";
		return;
	}
	if (!ioctl(l->uffd, UFFDIO_API, &api) &&
	    !ioctl(l->uffd, UFFDIO_REGISTER, &reg))
		return;
	close(l->uffd);
	l->uffd = -1;
	if (l->nodes)
		l->unknown = "Nodes of this file system's pages "
			     "cannot be told.";
}

/* Maps the part from @at on, at an address that huge pages can have. */
static bool open_window(struct looker *l, uint64_t at)
{
	uint64_t most = l->page > WINDOW ? l->page : WINDOW;
	uint64_t align = l->page > HUGE ? l->page : HUGE;
	uintptr_t start = ((uintptr_t)l->hold + align - 1) & ~(align - 1);

	l->at = at / most * most;
	l->len = l->a->size - l->at < most ? l->a->size - l->at : most;
	l->uffd = -1;
	l->map = mmap((void *)start, l->len, PROT_READ,
		      MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED,
		      ctl_data_fd(l->a), (off_t)(l->a->data_off + l->at));
	return l->map != MAP_FAILED;
}

static void close_window(struct looker *l)
{
	if (l->uffd >= 0)
		close(l->uffd);
	if (l->map != MAP_FAILED)
		l->map = mmap(l->map, l->len, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
				      MAP_FIXED,
			      -1, 0);
}

/* Maps what is there of [@at, @at + @len). */
static void touch(struct looker *l, uint64_t at, uint64_t len)
{
	uint64_t end = at + len, n, step, page;

	for (; at < end; at += n) {
		step = l->page > PIECE ? l->page : PIECE;
		n = (at / step + 1) * step - at;
		if (n > end - at)
			n = end - at;
		if (!madvise(l->map + (at - l->at), n, MADV_POPULATE_READ))
			continue;
		/* It ends at the first hole. */
		for (page = at; n > l->page && page < at + n; page += l->page)
			madvise(l->map + (page - l->at), l->page,
				MADV_POPULATE_READ);
	}
}

/* What the page tables of [@at, @at + @len) have, and whether that is known. */
static bool scan(struct looker *l, uint64_t at, uint64_t len)
{
	struct scanned found[64] = { 0 };
	struct scan s = {
		.size = sizeof(s),
		.start = (uintptr_t)l->map + (at - l->at),
		.vec = (uintptr_t)found,
		.vec_len = sizeof(found) / sizeof(found[0]),
		.mask = SCAN_PRESENT,
		.returned = SCAN_PRESENT | SCAN_HUGE,
	};
	uint64_t map = (uintptr_t)l->map;
	int n, i;

	s.end = s.start + len;
	do {
		n = ioctl(l->pagemap, SCAN, &s);
		for (i = 0; i < n; i++)
			tell_mapped(l, found[i].start - map + l->at,
				    found[i].end - found[i].start,
				    found[i].categories & SCAN_HUGE
					    ? CTL_HUGE
					    : CTL_SMALL);
		s.start = s.walk_end;
	} while (n == (int)s.vec_len && s.start < s.end);
	return n >= 0;
}

/* An older kernel: of huge pages every one is asked for its node, which those
 * that are not there have not. */
static void ask(struct looker *l, uint64_t at, uint64_t len)
{
	uint64_t end = at + len;
	int status;

	if (!l->a->huge) {
		l->unknown = "Transparent huge pages cannot be told: that "
			     "takes Linux 6.7.";
		tell_mapped(l, at, len, CTL_SMALL);
	}
	for (; l->a->huge && at < end; at += l->page) {
		void *page = l->map + (at - l->at);

		status = -1;
		if (!syscall(SYS_move_pages, 0, 1ul, &page, NULL, &status, 0) &&
		    status >= 0)
			tell(l, at, l->page, CTL_HUGE, status);
	}
}

/* What cannot be touched. Of huge pages their number may say it all. */
static void guess(struct looker *l, uint64_t at, uint64_t len)
{
	uint64_t there = (uint64_t)l->a->huge_st.st_blocks * 512;

	if (!l->a->huge)
		tell(l, at, len, CTL_SMALL, l->nodes ? -1 : 0);
	else if (there)
		tell(l, at, len, there < l->a->size ? CTL_UNKNOWN : CTL_HUGE,
		     -1);
}

/* In memory, or of huge pages perhaps. */
static void look_at(struct looker *l, uint64_t at, uint64_t len)
{
	if (l->uffd < 0) {
		guess(l, at, len);
		return;
	}
	touch(l, at, len);
	if (!scan(l, at, len))
		ask(l, at, len);
}

/* A range of small pages that is no hole, in the window. */
static void look_at_data(struct looker *l, uint64_t at, uint64_t len)
{
	uint64_t n = (len + l->page - 1) / l->page, i, k;

	if (mincore(l->map + (at - l->at), len, l->core))
		memset(l->core, 1, n);
	for (i = 0; i < n; i = k) {
		uint64_t from = at + i * l->page, to;

		for (k = i + 1; k < n && !((l->core[k] ^ l->core[i]) & 1); k++)
			;
		to = k < n ? at + k * l->page : at + len;
		if (l->core[i] & 1)
			look_at(l, from, to - from);
		else
			tell(l, from, to - from, CTL_OUT, -1);
	}
}

/* A range that is no hole, window by window. */
static void look_through(struct looker *l, uint64_t from, uint64_t to)
{
	while (from < to) {
		uint64_t end = to;

		if (!open_window(l, from)) {
			guess(l, from, to - from);
			return;
		}
		if (end > l->at + l->len)
			end = l->at + l->len;
		watch(l);
		if (l->a->huge)
			look_at(l, from, end - from);
		else
			look_at_data(l, from, end - from);
		close_window(l);
		from = end;
	}
}

bool ctl_several_nodes(void)
{
	FILE *f = fopen("/sys/devices/system/node/online", "re");
	char text[8] = "";
	bool one = f && fgets(text, sizeof(text), f) && !strcmp(text, "0\n");

	if (f)
		fclose(f);
	return !one;
}

static bool begin(struct looker *l, const struct ctl_arena *a)
{
	uint64_t most, align;

	l->a = a;
	l->page = a->h.c.pagesize;
	l->uffd = -1;
	l->nodes = ctl_several_nodes();
	most = l->page > WINDOW ? l->page : WINDOW;
	align = l->page > HUGE ? l->page : HUGE;
	l->hold = mmap(NULL, most + align, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (l->hold == MAP_FAILED)
		return false;
	l->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	l->core = ctl_alloc(NULL, most / l->page, 1);
	return true;
}

static void end(struct looker *l)
{
	uint64_t most = l->page > WINDOW ? l->page : WINDOW;
	uint64_t align = l->page > HUGE ? l->page : HUGE;

	flush(l);
	munmap(l->hold, most + align);
	if (l->pagemap >= 0)
		close(l->pagemap);
	free(l->core);
}

const char *ctl_pages_each(const struct ctl_arena *a, ctl_pages_fn *each,
			   void *arg)
{
	struct looker l = { .each = each, .arg = arg };
	uint64_t from, to = 0;

	if (!begin(&l, a))
		return "There is no room to map it.";
	while (ctl_data_next(a, to, &from, &to))
		look_through(&l, from, to);
	end(&l);
	return l.unknown;
}
