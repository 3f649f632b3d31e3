/* SPDX-License-Identifier: BSD-3-Clause */
/* companion.c - the file of huge pages beside an arena */
/*
 * hugetlbfs has neither write(2) nor attributes, so a companion is told by
 * its name and inode alone. The name is made of the inode number of the
 * arena's file and the token from the header, the companion's own inode
 * number is recorded in the header, and the file must be a regular one on a
 * hugetlbfs mount of the right page size. Half of the token is random, the
 * other half is made of that, the inode number and the file system of the
 * arena's file: a copy on another file system may have the same inode number,
 * and who forges a header there finds none that has the name of somebody
 * else's companion. So no header leads anywhere else, least of all unlink.
 *
 *	libshmem-INODE-TOKEN		of an arena that is whole
 *	libshmem-INODE-TOKEN.KEY	while it is being created
 *
 * Names appear and go in this order:
 *
 *	create	companion as .KEY, arena's file, companion renamed
 *	unlink	companion, arena's file
 *
 * If create dies before the arena's file has its name, an empty companion of
 * zero huge pages remains, as .KEY. KEY is made of the directory and name of
 * the arena's file, and the creator holds a file lock on the companion: the
 * next create in that place finds a .KEY that nobody locks and removes it. If
 * it dies after that, the first opener finds .KEY and renames it.
 */
#include "companion.h"

#include "os.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MODE 0600u
#define TRIES 1000
#define LOCK_BYTE ((uint64_t)1 << 62)

static void final_name(char name[96], const struct layout_const *c,
		       uint64_t ino)
{
	snprintf(name, 96, LAYOUT_COMPANION, ino, c->token[0], c->token[1]);
}

/* splitmix64's: each bit of @x changes half of those that come out. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

int shmi_companion_bind(struct layout_const *c, int fd, uint64_t ino)
{
	uint64_t fsid;
	int err = shmi_os_fsid(fd, &fsid);

	if (!err)
		c->token[1] = mix(mix(c->token[0] ^ fsid) + ino);
	return err;
}

/* 0, or -ENOENT: a companion of this header is another file's. */
static int check_bound(const struct layout_const *c, int fd, uint64_t ino)
{
	struct layout_const right = *c;
	int err = shmi_companion_bind(&right, fd, ino);

	if (!err && right.token[1] != c->token[1])
		err = -ENOENT;
	return err;
}

/* ----- mounts ----- */

struct search {
	uint64_t pagesize;
	int (*each)(int dirfd, void *arg);
	void *arg;
};

/* mountinfo writes white space and backslashes as three octal digits. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] &&
		    s[3]) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 |
				       (s[3] - '0'));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

/* 36 35 98:0 /root /mount/point options... - hugetlbfs source options */
static int mount_line(char *line, void *arg)
{
	const struct search *s = arg;
	char *kind = strstr(line, " - "), *point = line, *end;
	int dirfd, rc = 0, i;

	if (!kind || strncmp(kind + 3, "hugetlbfs ", 10))
		return 0;
	for (i = 0; i < 4 && point; i++) {
		point = strchr(point, ' ');
		if (point)
			point++;
	}
	end = point ? strchr(point, ' ') : NULL;
	if (!end)
		return 0;
	*end = '\0';
	unescape(point);
	dirfd = shmi_os_open_dir(point);
	if (dirfd < 0) /* else hidden by another mount, or not for us */
		return shmi_os_ran_out(dirfd) ? dirfd : 0;
	if (shmi_os_is_hugetlbfs(dirfd, s->pagesize) == 1)
		rc = s->each(dirfd, s->arg);
	if (rc != 1)
		shmi_os_close(dirfd);
	return rc;
}

/*
 * Until @each returns non-zero: 1 to keep dirfd, or -errno. 0: none did. A
 * search that has run out of descriptors or memory has not seen all mounts, so
 * that is its result and not "none".
 */
static int each_mount(uint64_t pagesize, int (*each)(int dirfd, void *arg),
		      void *arg)
{
	struct search s = { pagesize, each, arg };

	return shmi_os_lines("/proc/self/mountinfo", mount_line, &s);
}

/* ----- create ----- */

struct left_over {
	int dirfd;
	bool (*owned)(uint64_t ino, void *arg);
	void *arg;
	char suffix[32];
};

static int remove_left_over(const char *name, void *arg)
{
	const struct left_over *l = arg;
	size_t len = strlen(name), tail = strlen(l->suffix);
	struct shmi_stat st;
	uint64_t ino;
	int fd;

	if (len <= tail || strcmp(name + len - tail, l->suffix) ||
	    sscanf(name, "libshmem-%16" SCNx64 "-", &ino) != 1)
		return 0;
	fd = shmi_os_openat(l->dirfd, name, true);
	if (fd < 0)
		return 0;
	/* With its lock, so that its creator, if he was about to take it,
	 * finds the name gone; and then look whether there is an arena. */
	if (!shmi_os_fstat(fd, &st) && st.len == 0 &&
	    !shmi_os_range(fd, SHMI_EXCLUSIVE, LOCK_BYTE, 1, false) &&
	    !l->owned(ino, l->arg))
		shmi_os_unlink(l->dirfd, name);
	shmi_os_close(fd);
	return 0;
}

static int make_here(int dirfd, void *arg)
{
	struct shmi_companion *k = arg;
	char self[32];
	int err;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", dirfd);
	k->fd = shmi_os_tmpfile(self, MODE);
	if (k->fd == -EOPNOTSUPP || k->fd == -EISDIR || k->fd == -ENOENT) {
		uint64_t random[2];
		char path[160];

		/* A kernel without it, or no /proc: a name, gone at once. */
		if (!shmi_os_random(random, sizeof(random))) {
			snprintf(k->name, sizeof(k->name),
				 "libshmem-0-%016" PRIx64 "%016" PRIx64
				 ".%016" PRIx64,
				 random[0], random[1], k->key);
			snprintf(path, sizeof(path), "%s/%s", self, k->name);
			k->fd = shmi_os_create(path, MODE);
		}
	}
	if (k->fd < 0) {
		err = k->fd;
		k->fd = -1;
		k->name[0] = '\0';
		/* Else another mount may take it. */
		return shmi_os_ran_out(err) ? err : 0;
	}
	k->dirfd = dirfd;
	return 1;
}

/* Another create of the same place may have taken a named one for a left-over
 * before our lock was on it. Afterwards it cannot. */
static int still_there(const struct shmi_companion *k)
{
	struct shmi_stat st;
	int fd, err;

	if (!k->name[0])
		return 0;
	fd = shmi_os_openat(k->dirfd, k->name, false);
	if (fd < 0)
		return fd;
	err = shmi_os_fstat(fd, &st);
	shmi_os_close(fd);
	return err || st.ino == k->ino ? err : -ENOENT;
}

static int make_locked(struct shmi_companion *k, uint64_t pagesize)
{
	struct shmi_stat st;
	int err;

	k->fd = k->dirfd = -1;
	k->name[0] = '\0';
	err = each_mount(pagesize, make_here, k);
	if (err < 0 && err != -ENOENT)
		return err;
	if (err != 1) /* what cannot be written to is no mount for us */
		return -ENODEV;
	err = shmi_os_range(k->fd, SHMI_EXCLUSIVE, LOCK_BYTE, 1, false);
	if (err == -EAGAIN) /* by who is about to remove it */
		err = -ENOENT;
	if (!err)
		err = shmi_os_fstat(k->fd, &st);
	if (!err) {
		k->ino = st.ino;
		err = shmi_os_fchmod(k->fd, MODE);
	}
	if (!err)
		err = still_there(k);
	if (err) {
		shmi_companion_undo(k);
		shmi_os_close(k->fd);
		shmi_os_close(k->dirfd);
		k->fd = k->dirfd = -1;
	}
	return err;
}

int shmi_companion_make(struct shmi_companion *k, uint64_t pagesize,
			uint64_t key, bool (*owned)(uint64_t ino, void *arg),
			void *arg)
{
	struct left_over l = { -1, owned, arg, "" };
	int err, tries = 0;

	k->key = key;
	do {
		err = make_locked(k, pagesize);
	} while (err == -ENOENT && ++tries < TRIES);
	if (err)
		return err;
	l.dirfd = k->dirfd;
	snprintf(l.suffix, sizeof(l.suffix), ".%016" PRIx64, key);
	shmi_os_names(k->dirfd, remove_left_over, &l);
	return 0;
}

int shmi_companion_announce(struct shmi_companion *k,
			    const struct layout_const *c, uint64_t ino)
{
	char name[96 + 32];
	char final[96];
	int err;

	if (k->fd < 0)
		return 0;
	final_name(final, c, ino);
	snprintf(name, sizeof(name), "%s.%016" PRIx64, final, k->key);
	if (k->name[0])
		err = shmi_os_rename(k->dirfd, k->name, name);
	else
		err = shmi_os_link(k->fd, k->dirfd, name);
	if (!err)
		snprintf(k->name, sizeof(k->name), "%.95s", name);
	return err;
}

void shmi_companion_settle(struct shmi_companion *k,
			   const struct layout_const *c, uint64_t ino)
{
	char name[96];

	if (k->fd < 0)
		return;
	final_name(name, c, ino);
	/* ENOENT: an opener was faster. Otherwise one will do it. */
	shmi_os_rename(k->dirfd, k->name, name);
	k->name[0] = '\0';
	shmi_os_range(k->fd, SHMI_UNLOCK, LOCK_BYTE, 1, false);
}

void shmi_companion_undo(struct shmi_companion *k)
{
	if (k->dirfd >= 0 && k->name[0])
		shmi_os_unlink(k->dirfd, k->name);
	k->name[0] = '\0';
}

/* ----- open and unlink ----- */

struct finding {
	const struct layout_const *c;
	uint64_t ino;
	bool rw, remove;
	int fd, err;
	char name[96];
};

int shmi_companion_check(int fd, const struct layout_const *c)
{
	struct shmi_stat st;

	if (shmi_os_fstat(fd, &st) ||
	    (st.mode & SHMI_MODE_TYPE) != SHMI_MODE_REG ||
	    st.ino != c->huge_ino || shmi_os_is_hugetlbfs(fd, c->pagesize) != 1)
		return -EINVAL;
	return 0;
}

struct renaming {
	int dirfd;
	const char *final;
};

static int settle_other(const char *name, void *arg)
{
	const struct renaming *r = arg;
	size_t len = strlen(r->final);

	if (strncmp(name, r->final, len) || name[len] != '.')
		return 0;
	return shmi_os_rename(r->dirfd, name, r->final) ? 0 : 1;
}

/* Whether it is here: 1 to end the search, 0 to go on. */
static int find_here(int dirfd, void *arg)
{
	struct finding *f = arg;
	struct renaming r = { dirfd, f->name };
	int fd = shmi_os_openat(dirfd, f->name, f->rw);

	if (fd == -ENOENT) {
		int rc = shmi_os_names(dirfd, settle_other, &r);

		if (rc == 1)
			fd = shmi_os_openat(dirfd, f->name, f->rw);
		else if (shmi_os_ran_out(rc))
			fd = rc;
	}
	if (shmi_os_ran_out(fd))
		return fd;
	if (fd < 0) {
		if (fd != -ENOENT)
			f->err = fd;
		return 0;
	}
	if (shmi_companion_check(fd, f->c)) {
		shmi_os_close(fd);
		return 0;
	}
	if (f->remove) {
		f->err = shmi_os_unlink(dirfd, f->name);
		shmi_os_close(fd);
		fd = -1;
	}
	f->fd = fd;
	shmi_os_close(dirfd);
	return 1;
}

int shmi_companion_open(const struct layout_const *c, int fd, uint64_t ino,
			bool rw)
{
	struct finding f = { c, ino, rw, false, -1, -ENOENT, "" };
	int rc = check_bound(c, fd, ino);

	if (rc)
		return rc;
	final_name(f.name, c, ino);
	rc = each_mount(c->pagesize, find_here, &f);
	if (rc == 1)
		return f.fd;
	return rc < 0 ? rc : f.err;
}

int shmi_companion_unlink(const struct layout_const *c, int fd, uint64_t ino)
{
	struct finding f = { c, ino, false, true, -1, 0, "" };
	int rc = check_bound(c, fd, ino);

	if (rc)
		return rc;
	final_name(f.name, c, ino);
	rc = each_mount(c->pagesize, find_here, &f);
	return rc < 0 ? rc : f.err;
}
