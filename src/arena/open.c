/* SPDX-License-Identifier: BSD-3-Clause */
/* open.c - opening and removing arenas */
/*
 * System calls of an open of small pages by path, where nobody else has the
 * arena open, and why:
 *
 *	stat		what is no regular file is not opened: a device could
 *			do something, a FIFO block
 *	open
 *	fstat		still a regular file; its inode names the arena
 *	fstatfs		only of blocks as large as huge pages (tmpfs with huge=):
 *			not hugetlbfs
 *	pread		constants into private memory, checked before use
 *	fcntl		SLOTs, GUEST and GATE at once: we are alone (users.h)
 *	mmap		the arena's bytes, at their address
 *	mmap		the header
 *	madvise		no core dump of it
 *	fstat		the file's length, and whether it still has a name
 *	lseek		only of a file with holes: the header has none, which
 *			would be filled
 *	pread		the words that change: if they fit, nothing is repaired
 *	fcntl		all but our slot let go: others may come in
 *
 * With others in there, from the first fcntl on:
 *
 *	fcntl		SLOTs, GUEST and GATE at once: refused
 *	fcntl		the gate, which who is alone in there holds
 *	fcntl		another look: they may all have gone
 *	mmap, mmap, madvise
 *	fcntl		a slot
 *	pread		the lock word: not the slot of an owner that died
 *	fcntl		out of the gate
 *
 * Nothing is repaired then, nor by a reader, who has these from there on:
 *
 *	fcntl		READER
 *	fcntl		the gate, shared with other readers
 *	mmap, mmap, madvise
 *	fstat		whether the file still has a name
 *	fcntl		out of the gate
 *
 * Huge pages add, between the first pread and the fcntl after it:
 *
 *	stat		in /sys/kernel/mm/hugepages: they have this size here
 *	fstatfs		the arena's own, which its token is made of
 *	open, fstat	/proc/self/mountinfo
 *	read		again and again, and for each mount of hugetlbfs in it
 *	open, fstatfs	its directory: the size of its pages; where that is right
 *	openat		the companion in it; where there is none, close and go on
 *	fstat, fstatfs	it is what the header says
 *	close, close	the directory, the table
 *
 * What is mapped first and looked at for its length is the companion then; for
 * writing it is mapped for reading and an mprotect follows (os_map.c).
 *
 * Close: munmap, munmap, close of the companion, if there is one, and close;
 * with a companion fstat before that, whether the file has lost its name.
 *
 * A death in between leaves nothing but what the kernel takes back, since the
 * file is changed only by the repair, which can be repeated.
 */
#include "open.h"

#include "companion.h"
#include "os.h"
#include "size.h"
#include "users.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

struct by_path {
	const char *path;
	bool rw;
};

static int get_path(void *arg)
{
	const struct by_path *p = arg;

	return shmi_os_open(p->path, p->rw);
}

/* What open(2) says of things that are no files at all. */
static int no_arena(int err)
{
	return err == -EISDIR || err == -ENXIO || err == -ENODEV ? -EINVAL
								 : err;
}

static int read_constants(int fd, struct shmi_stat *st, struct layout_const *c)
{
	int err = shmi_os_fstat(fd, st);

	if (err)
		return err;
	/* Of a map there the kernel unmaps whole huge pages or nothing. */
	if ((st->mode & SHMI_MODE_TYPE) != SHMI_MODE_REG ||
	    st->len < LAYOUT_HDR_LEN || shmi_os_on_hugetlbfs(fd, st))
		return -EINVAL;
	err = shmi_os_pread(fd, c, sizeof(*c), 0);
	if (err)
		return err == -ENODATA ? -EINVAL : err;
	return shmi_header_check(c, st->len);
}

/* Everything that an open in progress has. */
struct attempt {
	struct shmi_opening o; /* the arena's file */
	bool rw;
	bool named; /* found by a name, which it had before that */
	bool guest; /* the description is shared with strangers */
	bool alone;
};

/* Whether who makes the arena known here lets others in, in one step with that
 * as a fork sees it. */
static bool holds_all(const struct attempt *t)
{
	return t->alone && !t->guest;
}

/*
 * The beginning of the header, with the words that change and the guests'
 * slots: as everybody leaves it who is not killed. Read and not looked at
 * through the mapping, whose first touch costs ten times as much (3.3 us).
 */
static bool is_right(const struct shmi_arena *a, uint64_t len)
{
	struct {
		struct layout_hdr_words w;
		uint32_t guests[LAYOUT_GUESTS];
	} h;
	size_t i;

	if (shmi_os_pread(a->fd, &h, sizeof(h), 0))
		return false;
	for (i = 0; i < LAYOUT_GUESTS; i++)
		if (h.guests[i])
			return false;
	return !(h.w.lock & 0xffff) && !h.w.ahead && h.w.size <= a->c.maxsize &&
	       h.w.size % a->c.pagesize == 0 &&
	       len == shmi_header_data_off(&a->c) + h.w.size;
}

/*
 * In the gate: -ENOENT for an arena that shmi_open_unlink() has found idle,
 * between our finding its name and our passing the gate. Who took it away must
 * not learn later that somebody has it open after all. Of huge pages the
 * companion is the first to go.
 */
static int still_named(const struct attempt *t, int fd, struct shmi_stat *st)
{
	int err = shmi_os_fstat(fd, st);

	return !err && t->named && !st->nlink ? -ENOENT : err;
}

/*
 * A copy may have holes where the header is zero. A store there takes room, and
 * is a signal where there is none. Not looked for where the file takes so much
 * that there is none; nor through a guest's description, whose offset would
 * move for its host, too. @st: of the file with the bytes.
 */
static int fill_header(const struct attempt *t, struct shmi_arena *a,
		       const struct shmi_stat *st)
{
	uint64_t full = LAYOUT_HDR_LEN;
	int err;

	if (st->len > LAYOUT_DATA_OFF)
		full += st->len - LAYOUT_DATA_OFF;
	if (!shmi_header_huge(&a->c) && st->room >= full)
		return 0;
	if (!t->guest && !shmi_os_has_hole(a->fd, LAYOUT_HDR_LEN))
		return 0;
	err = shmi_os_allocate(a->fd, 0, LAYOUT_HDR_LEN, false, INT64_MAX);
	return err == -EOPNOTSUPP ? 0 : err;
}

/* Alone in there: what the words that change say is a leftover. */
static int put_right(const struct attempt *t, struct shmi_arena *a)
{
	struct shmi_stat st;
	int err = still_named(t, shmi_arena_data_fd(a), &st);

	if (!err)
		err = fill_header(t, a, &st);
	if (err || is_right(a, st.len))
		return err;
	shmi_lock_reset(a->lock.h);
	err = shmi_size_repair(a);
	return err == -EUCLEAN ? -EINVAL : err;
}

static int take_slot(struct attempt *t, struct shmi_arena *a)
{
	if (t->guest)
		return shmi_users_claim_guest(t->o.fd, a->lock.h,
					      &a->lock.slot);
	return shmi_users_claim(t->o.fd, t->alone, &a->lock.slot);
}

/*
 * This process has the arena open already: another reference to that, made
 * writable if it was not. If that fails half way it is still a reader's, and
 * lets go of what it held for that: a mapping may keep the description.
 */
static int share(struct attempt *t, struct shmi_arena *a)
{
	int err;

	if (!t->rw || a->writable)
		return 0;
	err = shmi_arena_upgrade(a, t->o.fd, t->o.hugefd);
	if (!err && t->alone)
		err = put_right(t, a);
	if (!err)
		err = take_slot(t, a);
	if (err) {
		shmi_users_step_down(t->o.fd, t->guest);
		return err;
	}
	shmi_arena_now_writable(a, holds_all(t));
	return 0;
}

/* Inside the gate: maps it, repairs it if we are alone, takes a slot. */
static int enter(struct attempt *t, struct shmi_arena *a)
{
	int err = shmi_arena_map(&t->o, a);
	struct shmi_stat st;

	if (err)
		return err;
	if (!t->rw)
		return still_named(t, a->fd, &st);
	if (t->alone)
		err = put_right(t, a);
	return err ? err : take_slot(t, a);
}

/* For a companion; how it is opened is of no concern where it is removed. */
struct search {
	int fd; /* of the arena's file, and its inode number */
	uint64_t ino;
	const struct layout_const *c;
	bool rw;
	int *found;
};

static int search_companion(void *arg)
{
	const struct search *s = arg;

	*s->found = shmi_companion_open(s->c, s->fd, s->ino, s->rw);
	return *s->found < 0 ? *s->found : 0;
}

/* One that was not given is found by its name. */
static int find_companion(struct attempt *t, const struct layout_const *c,
			  uint64_t ino)
{
	struct search s = { t->o.fd, ino, c, t->rw, &t->o.hugefd };

	if (!shmi_header_huge(c))
		return t->o.hugefd < 0 ? 0 : -EINVAL;
	if (t->o.hugefd >= 0)
		return shmi_companion_check(t->o.hugefd, c);
	return shmi_arena_search(search_companion, &s);
}

/* Takes the descriptors of @t if it makes a new arena of them. */
static int open_new(struct attempt *t, const struct shmi_stat *st,
		    const struct layout_const *c, struct shmi_arena **out)
{
	struct shmi_arena *a = shmi_arena_new();
	int err;

	if (!a)
		return -ENOMEM;
	a->c = *c;
	a->dev = st->dev;
	a->ino = st->ino;
	a->writable = t->rw;
	a->fd = t->o.fd;
	a->hugefd = t->o.hugefd;
	a->named = st->nlink;
	err = enter(t, a);
	if (err) {
		shmi_arena_drop(&t->o, a);
		return err;
	}
	shmi_arena_register(&t->o, a, holds_all(t));
	*out = a;
	return 0;
}

static int pass_gate(struct attempt *t)
{
	if (!t->guest)
		return shmi_users_enter(t->o.fd, t->rw, &t->alone);
	return t->rw ? shmi_users_enter_guest(t->o.fd, &t->alone) : 0;
}

/*
 * Who held all has let others in already; or has failed, and lets go of all at
 * once, by the close: it must not look to the next as if somebody had the arena
 * open who has put it right. A guest is in the gate only if alone.
 */
static void leave_gate(const struct attempt *t, int fd)
{
	if (!t->alone && !t->guest)
		shmi_users_let_in(fd, t->rw, false);
	else if (t->alone && t->guest)
		shmi_users_let_in_guest(fd);
}

/*
 * Of two threads of this process that open the same arena at once the second
 * waits, and finds the first one's in the registry.
 */
static int attach(struct attempt *t, struct shmi_arena **out)
{
	struct layout_const c;
	struct shmi_stat st;
	struct shmi_arena *a;
	int fd = t->o.fd, err = read_constants(fd, &st, &c);

	if (!err)
		err = find_companion(t, &c, st.ino);
	if (err)
		goto undo_open;
	shmi_arena_enter(&t->o, st.dev, st.ino);
	err = pass_gate(t);
	if (err)
		goto undo_open;
	a = shmi_arena_find_file(st.dev, st.ino);
	if (a) {
		err = share(t, a);
		if (err)
			shmi_arena_close(a);
		else
			*out = a;
	} else {
		err = open_new(t, &st, &c, out);
	}
	leave_gate(t, fd); /* o.fd may be the arena's now */
undo_open:
	shmi_arena_end(&t->o);
	return err;
}

int shmi_open_path(const char *path, bool rw, struct shmi_arena **out)
{
	struct attempt t = { .rw = rw };
	struct by_path p = { path, rw };
	struct shmi_stat st;
	int err = shmi_os_stat(path, true, &st);

	if (err)
		return err;
	if ((st.mode & SHMI_MODE_TYPE) != SHMI_MODE_REG)
		return -EINVAL;
	t.named = st.nlink; /* not so through /proc, perhaps */
	shmi_arena_begin(&t.o, get_path, &p);
	if (t.o.fd < 0)
		return no_arena(t.o.fd);
	return attach(&t, out);
}

struct by_fd {
	int fd, hugefd; /* the caller's */
	struct attempt *t;
};

/* A description of our own if we may have one, else the caller's. */
static int get_main(const struct by_fd *f)
{
	int fd = shmi_os_reopen(f->fd, f->t->rw);

	if (fd >= 0 || fd == -EMFILE || fd == -ENFILE)
		return fd;
	f->t->guest = true;
	return shmi_os_dup(f->fd);
}

static int get_fds(void *arg)
{
	const struct by_fd *f = arg;
	int hugefd = f->hugefd < 0 ? -1 : shmi_os_dup(f->hugefd), fd;

	if (f->hugefd >= 0 && hugefd < 0)
		return hugefd;
	fd = get_main(f);
	if (fd < 0)
		shmi_os_close(hugefd);
	else
		f->t->o.hugefd = hugefd;
	return fd;
}

int shmi_open_fds(int fd, int hugefd, bool *rw, struct shmi_arena **out)
{
	struct attempt t = { 0 };
	struct by_fd f = { fd, hugefd, &t };
	struct shmi_stat st;
	int rdonly = shmi_os_is_rdonly(fd), err;

	if (rdonly < 0)
		return rdonly;
	err = shmi_os_fstat(fd, &st);
	if (err)
		return err;
	if ((st.mode & SHMI_MODE_TYPE) != SHMI_MODE_REG)
		return -EINVAL;
	if (hugefd >= 0) {
		int huge_rdonly = shmi_os_is_rdonly(hugefd);

		if (huge_rdonly < 0)
			return huge_rdonly;
		if (huge_rdonly)
			rdonly = 1;
	}
	t.rw = *rw = !rdonly;
	shmi_arena_begin(&t.o, get_fds, &f);
	if (t.o.fd < 0)
		return t.o.fd;
	return attach(&t, out);
}

/* ----- unlink ----- */

/* 0 if @path still is that file, else -ENOENT. */
static int same_file(const char *path, const struct shmi_stat *st)
{
	struct shmi_stat now;
	int err = shmi_os_stat(path, false, &now);

	if (!err && (now.dev != st->dev || now.ino != st->ino))
		err = -ENOENT;
	return err;
}

/* Whether it is the rename that cannot be done here, and unlink(2) can. */
static bool no_rename(int err)
{
	return err == -EINVAL || err == -ENOSYS || err == -EOPNOTSUPP ||
	       err == -ENAMETOOLONG || err == -ENOSPC || err == -EDQUOT;
}

/*
 * Removes @path if it is that file, which we keep others out of. Who removes it
 * this way, too, has done so before: that is seen by a look. But between look
 * and unlink(2) somebody could unlink it without asking and create another
 * arena of that name, which would go instead, with users who just began. So
 * the name is moved aside first, to one that nobody else makes up, and looked
 * at there.
 *
 * What remains: if all that happens between the look and the move, the other
 * arena has no name until it is moved back, and whoever opens it then gets
 * ENOENT. If a third one has been created there meanwhile it keeps the name,
 * and the other stays aside, as it does if we die: whole, with its users, and
 * EEXIST tells of it. If we die with our own aside, it is what we found: an
 * arena that nobody has open. Neither is taken for a leftover of a create; gc
 * removes both as it does any arena, if nobody has it open.
 */
static int remove_just(const char *path, const struct shmi_stat *st)
{
	const char *name = shmi_os_split(path, NULL);
	char aside[PATH_MAX];
	uint64_t random = 0;
	int err = shmi_os_random(&random, sizeof(random)), back, len;

	len = snprintf(aside, sizeof(aside),
		       "%.*s.%.200s" SHMI_OPEN_ASIDE "%016" PRIx64,
		       (int)(name - path), path, name, random);
	if (!err)
		err = same_file(path, st);
	if (err)
		return err;
	err = len < (int)sizeof(aside) ? shmi_os_rename(-1, path, aside)
				       : -ENAMETOOLONG;
	if (no_rename(err)) {
		err = same_file(path, st);
		return err ? err : shmi_os_unlink_path(path);
	}
	if (err)
		return err;
	err = same_file(aside, st);
	if (!err)
		err = shmi_os_unlink_path(aside);
	if (!err)
		return 0;
	back = shmi_os_move(aside, path);
	return back ? back : err;
}

static int unlink_companion(void *arg)
{
	const struct search *s = arg;

	return shmi_companion_unlink(s->c, s->fd, s->ino);
}

/*
 * rm(1), or an unlink by who cannot see the mount, takes the file and leaves the
 * companion. Nobody can open it by its name any more, and a file that has lost
 * its last name gets no other; so who closes it takes the companion along. A
 * death does not: "shmemctl gc --companions" is for the rest.
 */
static void remove_orphan(struct shmi_arena *a)
{
	struct search s = { .fd = a->fd, .ino = a->ino, .c = &a->c };
	struct shmi_stat st;

	if (a->hugefd < 0 || !a->named || shmi_os_fstat(a->fd, &st) ||
	    st.nlink || shmi_os_fstat(a->hugefd, &st) || !st.nlink)
		return;
	shmi_arena_search(unlink_companion, &s);
}

void shmi_open_close(struct shmi_arena *a)
{
	remove_orphan(a);
	shmi_arena_close(a);
}

/* Through a descriptor of its own, so that a file which is put in the place of
 * the arena's meanwhile is not taken for it. */
static int unlink_both(int fd, const char *path, bool idle)
{
	struct layout_const c;
	struct shmi_stat st;
	int err = read_constants(fd, &st, &c);

	if (!err && idle)
		err = shmi_users_lock_idle(fd);
	if (err)
		return err;
	/* With another name left the arena stays, and may be opened by that. */
	if (shmi_header_huge(&c) && st.nlink == 1) {
		struct search s = { .fd = fd, .ino = st.ino, .c = &c };

		/* A link may have come before we opened @path. */
		err = same_file(path, &st);
		if (err)
			return err;
		err = shmi_os_may_unlink(path);
		if (!err)
			err = shmi_arena_search(unlink_companion, &s);
		if (err && err != -ENOENT)
			return err;
	}
	if (idle)
		return remove_just(path, &st);
	err = same_file(path, &st);
	return err ? err : shmi_os_unlink_path(path);
}

/*
 * Only where asked to look for users does this enter the gate: those who have
 * it open are not concerned. If we die between companion and file, the next
 * call finds no companion and removes the file.
 */
int shmi_open_unlink(const char *path, bool idle)
{
	struct by_path p = { path, idle };
	struct shmi_opening o;
	struct shmi_stat st;
	int err = shmi_os_stat(path, false, &st);

	if (err)
		return err;
	if ((st.mode & SHMI_MODE_TYPE) != SHMI_MODE_REG)
		return -EINVAL; /* also a link: it would go, and not the file */
	/* A child of another thread's fork must not keep the gate. */
	shmi_arena_begin(&o, get_path, &p);
	if (o.fd < 0)
		return no_arena(o.fd);
	err = unlink_both(o.fd, path, idle);
	shmi_arena_end(&o);
	return err;
}
