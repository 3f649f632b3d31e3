/* SPDX-License-Identifier: BSD-3-Clause */
/* inspect.c - an arena's files, whole or damaged */
/*
 * Everything here comes from pread(2) and fstat(2), so that it changes nothing
 * and nobody sees it: no lock, no mapping, no place among the users.
 */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <mntent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <tmc/alloc.h>
#include <unistd.h>

#define HUGETLBFS 0x958458f6
#define NOT_ONE "is no arena"
#define NO_COMPANION "the companion is not there"
#define NO_MOUNT "no hugetlbfs of this page size is mounted here"
#define NO_LOOK "a hugetlbfs mount cannot be looked into"

/* ----- hugetlbfs ----- */

/* By the options, where the mount itself cannot be asked; 0: not known. */
static uint64_t said_pagesize(const struct mntent *m)
{
	const char *option = hasmntopt(m, "pagesize");
	uint64_t n;
	char unit;

	if (!option || sscanf(option, "pagesize=%" SCNu64 "%c", &n, &unit) != 2)
		return 0;
	return n << (unit == 'K' ? 10 : unit == 'M' ? 20 : 0);
}

int ctl_each_hugetlbfs(int (*each)(int dirfd, const char *dir,
				   uint64_t pagesize, void *arg),
		       void *arg)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	struct mntent *m;
	struct statfs s;
	int rc = 0;

	if (!f)
		return 0;
	while (!rc && (m = getmntent(f))) {
		int dirfd;

		if (strcmp(m->mnt_type, "hugetlbfs"))
			continue;
		dirfd = open(m->mnt_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		/* Another mount may hide it. */
		if (dirfd >= 0 && !fstatfs(dirfd, &s) && s.f_type == HUGETLBFS)
			rc = each(dirfd, m->mnt_dir, (uint64_t)s.f_bsize, arg);
		else
			rc = each(-1, m->mnt_dir, said_pagesize(m), arg);
		if (dirfd >= 0)
			close(dirfd);
	}
	endmntent(f);
	return rc;
}

struct finding {
	struct ctl_arena *a;
	bool seen;   /* a mount of its page size, and it is not there */
	bool hidden; /* one that might have it */
	char name[96];
};

static bool take_companion(struct ctl_arena *a, int fd, const char *path)
{
	struct statfs s;

	if (!fstat(fd, &a->huge_st) && S_ISREG(a->huge_st.st_mode) &&
	    a->huge_st.st_ino == a->h.c.huge_ino && !fstatfs(fd, &s) &&
	    s.f_type == HUGETLBFS && (uint64_t)s.f_bsize == a->h.c.pagesize) {
		a->hugefd = fd;
		a->companion = ctl_clean(path);
		return true;
	}
	memset(&a->huge_st, 0, sizeof(a->huge_st));
	close(fd);
	return false;
}

static int try_companion(int dirfd, const char *dir, uint64_t pagesize,
			 void *arg)
{
	struct finding *f = arg;
	bool right = pagesize == f->a->h.c.pagesize, done;
	char *path;
	int fd;

	if (dirfd < 0) {
		f->hidden = f->hidden || right || !pagesize;
		return 0;
	}
	f->seen = f->seen || right;
	fd = openat(dirfd, f->name,
		    O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		f->hidden = f->hidden || (right && errno != ENOENT);
		return 0;
	}
	path = ctl_format("%s/%s", dir, f->name);
	done = take_companion(f->a, fd, path);
	free(path);
	return done;
}

/* By its name. It is gone only where all mounts that might have it were looked
 * into. */
static void find_companion(struct ctl_arena *a)
{
	struct finding f = { .a = a };

	snprintf(f.name, sizeof(f.name), LAYOUT_COMPANION,
		 (uint64_t)a->st.st_ino, a->h.c.token[0], a->h.c.token[1]);
	ctl_each_hugetlbfs(try_companion, &f);
	a->missing = f.hidden ? NO_LOOK : f.seen ? NO_COMPANION : NO_MOUNT;
	a->gone = f.seen && !f.hidden;
}

/* ----- fields ----- */

static uint64_t checksum(const struct layout_const *c)
{
	const unsigned char *p = (const unsigned char *)c, *end;
	uint64_t sum = 0xcbf29ce484222325ull; /* FNV-1a, as header.c has it */

	for (end = p + offsetof(struct layout_const, checksum); p < end; p++)
		sum = (sum ^ *p) * 0x100000001b3ull;
	return sum;
}

struct table {
	const struct ctl_arena *a;
	struct ctl_field *f;
	size_t n;
};

static struct ctl_field *add(struct table *t, const char *name,
			     const char *meaning)
{
	struct ctl_field *f = &t->f[t->n++];

	memset(f, 0, sizeof(*f));
	f->name = name;
	f->meaning = meaning;
	return f;
}

static struct ctl_field *add_number(struct table *t, const char *name,
				    const char *meaning, uint64_t n)
{
	struct ctl_field *f = add(t, name, meaning);

	snprintf(f->value, sizeof(f->value), "%" PRIu64, n);
	return f;
}

static struct ctl_field *add_word(struct table *t, const char *name,
				  const char *meaning, uint64_t n)
{
	struct ctl_field *f = add(t, name, meaning);

	snprintf(f->value, sizeof(f->value), "%#" PRIx64, n);
	return f;
}

static struct ctl_field *add_bytes(struct table *t, const char *name,
				   const char *meaning, uint64_t n)
{
	struct ctl_field *f = add_number(t, name, meaning, n);
	size_t len = strlen(f->value);
	char human[CTL_HUMAN];

	if (n >= 1024)
		snprintf(f->value + len, sizeof(f->value) - len, " (%s)",
			 ctl_human(n, human));
	return f;
}

#define WRONG(f, ...) snprintf((f)->wrong, sizeof((f)->wrong), __VA_ARGS__)

static bool is_pagesize(const struct layout_const *c)
{
	uint64_t n = c->pagesize, small = (uint64_t)sysconf(_SC_PAGESIZE);

	if (!c->huge_ino)
		return n == small;
	return n && n != small && !(n & (n - 1)) &&
	       (tmc_alloc_get_pagesizes() & n);
}

static void add_identity(struct table *t)
{
	const struct layout_const *c = &t->a->h.c;
	uint32_t abi = (uint32_t)sizeof(void *) << 24 | LAYOUT_SLOTS << 8 |
		       LAYOUT_HDR_LEN >> 12;
	struct ctl_field *f;

	f = add_number(t, "file", "length of the named file, bytes",
		       (uint64_t)t->a->st.st_size);
	if (t->a->st.st_size < LAYOUT_HDR_LEN)
		WRONG(f, "the file is cut: a header has %u bytes",
		      LAYOUT_HDR_LEN);
	f = add_word(t, "magic", "says that this is an arena, and byte order",
		     c->magic);
	if (c->magic != LAYOUT_MAGIC)
		WRONG(f, "is not %#" PRIx64, (uint64_t)LAYOUT_MAGIC);
	f = add_number(t, "format", "of the file", c->format);
	if (c->format != LAYOUT_FORMAT)
		WRONG(f, "this shmemctl knows format %u", LAYOUT_FORMAT);
	f = add_word(t, "abi", "sizes that all users must have in common",
		     c->abi);
	if (c->abi != abi)
		WRONG(f, "is not %#x: made on another kind of machine", abi);
	f = add_word(t, "checksum", "over the fields that never change",
		     c->checksum);
	if (c->checksum != checksum(c))
		WRONG(f, "is not %#" PRIx64 ": fields were overwritten",
		      checksum(c));
}

static void add_geometry(struct table *t)
{
	const struct layout_const *c = &t->a->h.c;
	uint64_t page = is_pagesize(c) ? c->pagesize : 1;
	struct ctl_field *f;

	f = add_word(t, "address", "of its first byte, in every process",
		     c->base);
	if (!c->base || c->base % page)
		WRONG(f, "is no multiple of the page size");
	else if (c->base > INT64_MAX)
		WRONG(f, "is outside of the address space");
	f = add_bytes(t, "maximum", "bytes that it can grow to", c->maxsize);
	if (!c->maxsize || c->maxsize % page)
		WRONG(f, "is no multiple of the page size");
	else if (c->maxsize > INT64_MAX - LAYOUT_DATA_OFF ||
		 (c->base <= INT64_MAX && c->maxsize > INT64_MAX - c->base))
		WRONG(f, "reaches beyond the address space");
	f = add_bytes(t, "page", "its page size, bytes", c->pagesize);
	if (page == 1)
		WRONG(f, "this machine has no %s pages of that size",
		      c->huge_ino ? "huge" : "small");
	f = add(t, "flags", "populate: pages present; thp: huge hint");
	snprintf(f->value, sizeof(f->value), "%s%s%s",
		 c->flags & LAYOUT_POPULATE ? "populate" : "",
		 (c->flags & LAYOUT_FLAGS) == LAYOUT_FLAGS ? "," : "",
		 c->flags & LAYOUT_THP ? "thp" : "");
	if (!c->flags)
		snprintf(f->value, sizeof(f->value), "none");
	if (c->flags & ~(uint64_t)LAYOUT_FLAGS)
		WRONG(f, "has unknown bits: %#" PRIx64, c->flags);
	f = add(t, "token", "random; in the companion's name");
	snprintf(f->value, sizeof(f->value), "%016" PRIx64 "%016" PRIx64,
		 c->token[0], c->token[1]);
	f = add_number(t, "huge", "inode of the companion; 0: small pages",
		       c->huge_ino);
	if (c->huge_ino && t->a->hugefd < 0)
		WRONG(f, "%s", t->a->missing);
}

static uint64_t data_len(const struct ctl_arena *a)
{
	return (uint64_t)(a->huge ? a->huge_st.st_size : a->st.st_size);
}

/* Bytes that the files have room for. */
static uint64_t room(const struct ctl_arena *a)
{
	uint64_t len = data_len(a);

	return len > a->data_off ? len - a->data_off : 0;
}

/*
 * Whether somebody has cut the file that has the bytes. No death does: size is
 * stored last by a grow and first by a shrink.
 */
static bool is_cut(const struct ctl_arena *a)
{
	return (!a->huge || a->hugefd >= 0) &&
	       (room(a) < a->h.size || data_len(a) < a->data_off);
}

static void add_room(struct table *t)
{
	static const char meaning[] = "bytes that the file has for them";
	const struct ctl_arena *a = t->a;
	struct ctl_field *f;

	if (a->huge && a->hugefd < 0) {
		f = add(t, "room", meaning);
		snprintf(f->value, sizeof(f->value), "not known");
		return;
	}
	f = add_bytes(t, "room", meaning, room(a));
	if (is_cut(a)) {
		WRONG(f, "is less than the size: the file was cut");
	} else if (room(a) != a->h.size) {
		WRONG(f, "is more than the size; the next open puts it right");
		f->note = true;
	}
}

/* Others may be elsewhere, as the application likes; or be none. */
static void add_root(struct table *t)
{
	const struct layout_hdr_words *h = &t->a->h;
	struct ctl_field *f =
		add_word(t, "root", "the application's pointer", h->root);
	uint64_t off = h->root - h->c.base;

	if (h->root >= h->c.base && off < h->c.maxsize && off >= h->size) {
		WRONG(f, "points beyond the bytes in use");
		f->note = true;
	}
}

static void add_changing(struct table *t)
{
	const struct ctl_arena *a = t->a;
	const struct layout_hdr_words *h = &a->h;
	uint64_t page = is_pagesize(&h->c) ? h->c.pagesize : 1;
	struct ctl_field *f;

	f = add_bytes(t, "size", "bytes in use", h->size);
	if (h->size > h->c.maxsize)
		WRONG(f, "is above the maximum");
	else if (h->size % page)
		WRONG(f, "is no multiple of the page size");
	add_room(t);
	add_bytes(t, "ahead", "length on the way to it, by grows; 0: none",
		  h->ahead);
	add_number(t, "epoch", "times that pages beyond size were dropped",
		   h->epoch);
	add_root(t);
	add_number(t, "deaths", "owners of the lock that died in it",
		   h->deaths);
	f = add(t, "lock", "slot of its owner, count of changes");
	if (h->lock & 0xffff)
		snprintf(f->value, sizeof(f->value), "%u, %" PRIu64,
			 (unsigned int)(h->lock & 0xffff) - 1, h->lock >> 16);
	else
		snprintf(f->value, sizeof(f->value), "free, %" PRIu64,
			 h->lock >> 16);
	if ((h->lock & 0xffff) > LAYOUT_SLOTS)
		WRONG(f, "there is no such slot");
}

size_t ctl_fields(const struct ctl_arena *a, struct ctl_field f[CTL_FIELDS])
{
	struct table t = { a, f, 0 };

	add_identity(&t);
	add_geometry(&t);
	add_changing(&t);
	return t.n;
}

/* ----- opening ----- */

/* As much as there is. */
static ssize_t read_start(int fd, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n =
			pread(fd, (char *)buf + done, len - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (!n)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

#define LOOKS 1000 /* at one that somebody changes all the time */

/*
 * Header and length are of different moments, and in between a shrink can have
 * cut the file, or a grow have stored a larger size. So a length that is too
 * small is looked at again until the header is the same before and after.
 * Whoever changes the size has the lock for it, which counts.
 */
static void look_again(struct ctl_arena *a)
{
	struct layout_hdr_words before;
	unsigned int i;

	for (i = 0; i < LOOKS && is_cut(a); i++) {
		before = a->h;
		if (fstat(a->fd, &a->st) ||
		    (a->hugefd >= 0 && fstat(a->hugefd, &a->huge_st)) ||
		    read_start(a->fd, &a->h, sizeof(a->h)) !=
			    (ssize_t)sizeof(a->h)) {
			a->h = before;
			return;
		}
		if (a->h.lock == before.lock && a->h.size == before.size)
			return;
	}
}

/* What is right is what the library would open, its companion apart. */
static void judge(struct ctl_arena *a)
{
	struct ctl_field f[CTL_FIELDS];
	size_t n, i;

	look_again(a);
	n = ctl_fields(a, f);
	a->wrong[0] = '\0';
	a->valid = true;
	a->lost = false;
	for (i = 0; i < n; i++) {
		bool fixed = strcmp(f[i].name, "size") &&
			     strcmp(f[i].name, "room") &&
			     strcmp(f[i].name, "lock") &&
			     strcmp(f[i].name, "huge");

		if (!f[i].wrong[0] || f[i].note)
			continue;
		if (fixed)
			a->valid = false;
		/* Nothing else is, so far. */
		a->lost = a->gone && !a->wrong[0] && !strcmp(f[i].name, "huge");
		if (!a->wrong[0])
			snprintf(a->wrong, sizeof(a->wrong), "%s: %s",
				 f[i].name, f[i].wrong);
	}
	if (!a->valid)
		return;
	a->size = a->h.size < a->h.c.maxsize ? a->h.size : a->h.c.maxsize;
	if (a->size > room(a))
		a->size = room(a);
	a->size &= ~(a->h.c.pagesize - 1);
}

static const char *what_it_is(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "is a directory, not an arena";
	case S_IFIFO:
		return "is a FIFO, not an arena";
	case S_IFSOCK:
		return "is a socket, not an arena";
	case S_IFCHR:
	case S_IFBLK:
		return "is a device, not an arena";
	case S_IFLNK:
		return "is a link, not an arena";
	}
	return NULL;
}

const char *ctl_inspect_at(int dirfd, const char *name, const char *path,
			   struct ctl_arena *a)
{
	int nofollow = dirfd == AT_FDCWD ? 0 : AT_SYMLINK_NOFOLLOW;
	const char *wrong = NULL;
	ssize_t n;

	memset(a, 0, sizeof(*a));
	a->fd = a->hugefd = -1;
	/* Before it is opened: a device could do something. */
	if (fstatat(dirfd, name, &a->st, nofollow))
		return strerror(errno);
	wrong = what_it_is(a->st.st_mode);
	if (wrong)
		return wrong;
	a->fd = openat(dirfd, name,
		       O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC |
			       (nofollow ? O_NOFOLLOW : 0));
	if (a->fd < 0)
		return strerror(errno);
	n = read_start(a->fd, &a->h, sizeof(a->h));
	if (n < 0 || fstat(a->fd, &a->st))
		wrong = strerror(errno);
	else if (n < (ssize_t)sizeof(a->h.c.magic) ||
		 a->h.c.magic != LAYOUT_MAGIC)
		wrong = a->st.st_size ? NOT_ONE : "is empty, not an arena";
	if (wrong) {
		ctl_inspect_end(a);
		return wrong;
	}
	a->header_len = (size_t)n;
	a->path = ctl_clean(path);
	a->huge = a->h.c.huge_ino != 0;
	a->data_off = a->huge ? 0 : LAYOUT_DATA_OFF;
	if (a->huge)
		find_companion(a);
	judge(a);
	return NULL;
}

bool ctl_inspect_companion(struct ctl_arena *a, int fd, const char *path)
{
	if (!take_companion(a, fd, path))
		return false;
	judge(a);
	return true;
}

const char *ctl_inspect(const char *path, struct ctl_arena *a)
{
	return ctl_inspect_at(AT_FDCWD, path, path, a);
}

int ctl_inspect_valid(const char *path, struct ctl_arena *a)
{
	const char *wrong = ctl_inspect(path, a);

	if (!wrong && !a->wrong[0])
		return CTL_OK;
	if (wrong)
		return ctl_error(path, "%s", wrong);
	ctl_error(path, "%s", a->wrong);
	ctl_inspect_end(a);
	return CTL_FAILED;
}

void ctl_inspect_close(struct ctl_arena *a)
{
	if (a->fd >= 0)
		close(a->fd);
	if (a->hugefd >= 0)
		close(a->hugefd);
	a->fd = a->hugefd = -1;
}

void ctl_inspect_end(struct ctl_arena *a)
{
	ctl_inspect_close(a);
	free(a->path);
	free(a->companion);
	memset(a, 0, sizeof(*a));
	a->fd = a->hugefd = -1;
}

void ctl_json_arena(const struct ctl_arena *a)
{
	char address[24];

	snprintf(address, sizeof(address), "%#" PRIx64, a->h.c.base);
	ctl_json_bool("valid", a->valid);
	ctl_json_text("wrong", a->wrong[0] ? a->wrong : NULL);
	if (a->valid) {
		ctl_json_text("address", address);
		ctl_json_number("size", a->size);
		ctl_json_number("maximum", a->h.c.maxsize);
		ctl_json_number("page", a->h.c.pagesize);
	}
	ctl_json_number("used", ctl_used(a));
	ctl_json_bool("huge", a->huge);
	ctl_json_text("companion", a->companion);
}
