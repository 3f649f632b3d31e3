/* SPDX-License-Identifier: BSD-3-Clause */
/* create.c - making arenas */
/*
 * An arena is built in a file without a name (O_TMPFILE), complete with
 * header, mapping and our own slot, and then gets its name by one link(2),
 * which never replaces anything. So a path names a whole arena or nothing, of
 * two makers of one path one gets EEXIST, and if we die the kernel takes the
 * file back. What can remain is one companion, empty and recognisable; see
 * companion.c for it and for the order of names.
 *
 * Where the file system has no O_TMPFILE (some overlays, NFS) the file has a
 * temporary name first, ".NAME.tmcnew-RANDOM" in the same directory. If we die
 * with it, the next create of NAME there that needs one, too, removes it: it
 * knows the name, and by the SLOT's file lock that its maker is gone. The same
 * where such a file cannot be linked, which before Linux 6.10 takes /proc or
 * CAP_DAC_READ_SEARCH: only the link tells, so all begins anew then.
 *
 * An anonymous arena is built the same way in files of memfd_create(2), which
 * have no place where a name could be; so there is nothing to publish, and the
 * companion is found by nobody but who gets its descriptor.
 */
#include "open.h"

#include "companion.h"
#include "os.h"
#include "place.h"
#include "users.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define MODE 0600u /* while it is made */
#define MODE_X 0111u
#define TEMP_TRIES 1000

/* What is made, in the order in which it is. */
struct making {
	const struct shmi_plan *plan;
	char dir[PATH_MAX];    /* of the path */
	const char *name;      /* in it */
	struct shmi_opening o; /* the file */
	char temp[PATH_MAX];   /* its temporary name; empty: none */
	bool no_link;	       /* one without a name gets none here */
	struct shmi_companion k;
	struct shmi_arena *a;
	uint64_t ino;
};

static int split_path(struct making *m)
{
	const char *path = m->plan->path;

	if (!*path)
		return -ENOENT;
	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	m->name = shmi_os_split(path, m->dir);
	return *m->name ? 0 : -EISDIR;
}

/* ----- the file ----- */

struct left_over {
	int dirfd;
	char prefix[NAME_MAX + 1];
};

/* Exactly what named_file() makes: others may like names that begin so. */
static bool is_left_over(const struct left_over *l, const char *name)
{
	const char *random = name + strlen(l->prefix);
	struct shmi_stat st;

	return !strncmp(name, l->prefix, strlen(l->prefix)) &&
	       strspn(random, "0123456789abcdef") == 16 && !random[16] &&
	       !shmi_os_stat_at(l->dirfd, name, &st) &&
	       (st.mode & SHMI_MODE_TYPE) == SHMI_MODE_REG;
}

/* Our own is never among them: it is made later. */
static int remove_left_over(const char *name, void *arg)
{
	const struct left_over *l = arg;
	int fd;

	if (!is_left_over(l, name))
		return 0;
	fd = shmi_os_openat(l->dirfd, name, true);
	if (fd < 0)
		return 0;
	/* If its maker is only about to lock it, he finds the name gone. */
	if (shmi_users_lock_out(fd))
		shmi_os_unlink(l->dirfd, name);
	shmi_os_close(fd);
	return 0;
}

static int named_file(struct making *m)
{
	struct left_over l;
	uint64_t random;
	int fd, err = shmi_os_random(&random, sizeof(random));

	if (err)
		return err;
	snprintf(l.prefix, sizeof(l.prefix), ".%.200s" SHMI_OPEN_MARK, m->name);
	l.dirfd = shmi_os_open_dir(m->dir);
	if (l.dirfd < 0)
		return l.dirfd;
	shmi_os_names(l.dirfd, remove_left_over, &l);
	shmi_os_close(l.dirfd);
	if (snprintf(m->temp, sizeof(m->temp), "%s/%s%016" PRIx64, m->dir,
		     l.prefix, random) >= (int)sizeof(m->temp)) {
		m->temp[0] = '\0';
		return -ENAMETOOLONG;
	}
	fd = shmi_os_create(m->temp, MODE);
	if (fd < 0)
		m->temp[0] = '\0';
	return fd;
}

static int get_file(void *arg)
{
	struct making *m = arg;
	int fd;

	if (!m->plan->path)
		return shmi_os_memfd(0, m->plan->mode & MODE_X);
	fd = m->no_link ? -EOPNOTSUPP : shmi_os_tmpfile(m->dir, MODE);
	/* What kernels and file systems without O_TMPFILE say. */
	if (fd == -EOPNOTSUPP || fd == -EISDIR || fd == -EINVAL ||
	    fd == -ENOENT)
		fd = named_file(m);
	return fd;
}

/*
 * Another maker of the same name may have taken a temporary name for a
 * left-over before our lock was on the file. Afterwards it cannot.
 */
static int still_there(struct making *m, uint64_t ino)
{
	struct shmi_stat st;
	int err;

	if (!m->temp[0])
		return 0;
	err = shmi_os_stat(m->temp, false, &st);
	return err || st.ino == ino ? err : -ENOENT;
}

/* Ours alone, and locked as by one who has the arena open. */
static int make_file(struct making *m)
{
	struct shmi_stat st;
	bool alone;
	int err, tries = 0;

	do {
		shmi_arena_end(&m->o);
		m->temp[0] = '\0';
		shmi_arena_begin(&m->o, get_file, m);
		if (m->o.fd < 0)
			return m->o.fd;
		err = shmi_os_fstat(m->o.fd, &st);
		if (!err && shmi_os_on_hugetlbfs(m->o.fd, &st))
			err = -EINVAL; /* as open.c of such a file */
		if (err)
			return err;
		/* A thread that opens it by its new name is to find it in the
		 * registry. */
		shmi_arena_enter(&m->o, st.dev, st.ino);
		err = shmi_users_enter(m->o.fd, true, &alone);
		if (err)
			return err;
		err = still_there(m, st.ino);
	} while (err == -ENOENT && ++tries < TEMP_TRIES);
	if (err)
		return err;
	m->ino = st.ino;
	m->a->dev = st.dev;
	m->a->ino = st.ino;
	if (m->plan->path)
		shmi_os_overwrite(m->o.fd);
	/* The umask may have taken something away. */
	if ((st.mode & 07777) != MODE)
		return shmi_os_fchmod(m->o.fd, MODE);
	return 0;
}

/* For the left-overs of companions: this directory and name. */
static int place_key(struct making *m, uint64_t *key)
{
	struct shmi_stat st;
	int err = shmi_os_stat(m->dir, true, &st);
	const char *p;

	*key = (st.dev * 0x100000001b3ull ^ st.ino) * 0x100000001b3ull;
	for (p = m->name; *p; p++)
		*key = (*key ^ (unsigned char)*p) * 0x100000001b3ull;
	return err;
}

struct looking {
	const char *dir;
	uint64_t ino;
};

/* Whatever cannot be looked at may be what is looked for. */
static int is_inode(const char *name, void *arg)
{
	const struct looking *l = arg;
	char path[PATH_MAX];
	struct shmi_stat st;
	int err;

	if (snprintf(path, sizeof(path), "%s/%s", l->dir, name) >=
	    (int)sizeof(path))
		return 1;
	err = shmi_os_stat(path, false, &st);
	return err ? err != -ENOENT : st.ino == l->ino;
}

/*
 * Whether a left-over of this place has an arena: one that died after it had
 * linked the file. Of a template any name in the directory can be that.
 */
static bool owned(uint64_t ino, void *arg)
{
	const struct making *m = arg;
	struct looking l = { m->dir, ino };
	struct shmi_stat st;
	int dirfd, rc;

	if (!m->plan->temp)
		return shmi_os_stat(m->plan->path, false, &st) != -ENOENT;
	dirfd = shmi_os_open_dir(m->dir);
	if (dirfd < 0)
		return true;
	rc = shmi_os_names(dirfd, is_inode, &l);
	shmi_os_close(dirfd);
	return rc != 0;
}

static int nameless_companion(struct making *m)
{
	struct shmi_stat st;
	int fd = shmi_os_memfd(m->plan->pagesize, m->plan->mode & MODE_X);
	int err;

	if (fd < 0)
		return fd;
	m->k.fd = fd;
	err = shmi_os_fstat(fd, &st);
	if (err)
		return err;
	m->k.ino = st.ino;
	return shmi_os_fchmod(fd, MODE);
}

/* Its descriptors are noted, too, for a fork; and closed from there. */
static int make_companion(void *arg)
{
	struct making *m = arg;
	uint64_t key;
	int err;

	if (m->plan->path) {
		err = place_key(m, &key);
		if (!err)
			err = shmi_companion_make(&m->k, m->plan->pagesize, key,
						  owned, m);
	} else {
		err = nameless_companion(m);
	}
	if (!err && m->plan->preferred)
		err = shmi_os_has_page(m->k.fd, m->plan->pagesize);
	if (!err)
		m->a->c.huge_ino = m->k.ino;
	m->o.hugefd = m->k.fd;
	m->o.dirfd = m->k.dirfd;
	return err;
}

/* ----- the arena ----- */

static int try_map(uintptr_t addr, void *arg)
{
	struct making *m = arg;

	m->a->c.base = addr;
	return shmi_arena_map(&m->o, m->a);
}

static int map_somewhere(struct making *m)
{
	const struct shmi_plan *plan = m->plan;

	if (plan->addr)
		return try_map((uintptr_t)plan->addr, m);
	return shmi_place(plan->maxsize, plan->pagesize, try_map, m);
}

/*
 * Written and not stored through the mapping: want of room is an error of
 * pwrite and would be a signal of a store. All of it, so that no later store
 * to a slot's word needs room.
 */
static int write_header(struct making *m)
{
	unsigned char page[LAYOUT_HDR_LEN] = { 0 };

	shmi_header_seal(&m->a->c);
	memcpy(page, &m->a->c, sizeof(m->a->c));
	return shmi_os_pwrite(m->o.fd, page, sizeof(page), 0);
}

/* From here on the arena owns the descriptors. */
static int make_arena(struct making *m)
{
	const struct shmi_plan *plan = m->plan;
	struct shmi_arena *a = m->a;
	int err;

	a->fd = m->o.fd;
	a->hugefd = m->k.fd;
	a->writable = true;
	a->c.maxsize = plan->maxsize;
	a->c.pagesize = plan->pagesize;
	a->c.flags = plan->flags;
	err = shmi_os_random(a->c.token, sizeof(a->c.token));
	if (!err && plan->huge)
		err = shmi_companion_bind(&a->c, a->fd, m->ino);
	/* Its length first: it is what asks for the limits. */
	if (!err)
		err = shmi_os_extend(
			a->fd, plan->huge ? LAYOUT_HDR_LEN : LAYOUT_DATA_OFF,
			shmi_os_file_limit());
	if (!err)
		err = map_somewhere(m);
	if (!err && plan->policy)
		err = shmi_os_bind(shmi_arena_base(a), a->c.maxsize,
				   plan->policy, plan->nodes);
	if (!err)
		err = write_header(m);
	if (!err)
		err = shmi_users_claim(a->fd, true, &a->lock.slot);
	if (!err)
		shmi_users_let_in(a->fd, true, true);
	return err;
}

/* ----- names ----- */

static int link_as(struct making *m, const char *path)
{
	int err;

	if (m->temp[0])
		return shmi_os_move(m->temp, path);
	err = shmi_os_link(m->o.fd, -1, path);
	m->no_link = err == -ENOENT; /* or the directory is gone */
	return err;
}

static int link_temp(struct making *m)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	char *x = m->plan->temp + strlen(m->plan->temp) - 6;
	int err = -EEXIST, tries, i;

	for (tries = 0; tries < TEMP_TRIES && err == -EEXIST; tries++) {
		uint64_t random;

		err = shmi_os_random(&random, sizeof(random));
		if (err)
			break;
		for (i = 0; i < 6; i++, random /= 62)
			x[i] = letters[random % 62];
		err = link_as(m, m->plan->temp);
	}
	if (err)
		memcpy(x, "XXXXXX", 6);
	return err;
}

/*
 * As late as can be: until then a left-over can be opened by its owner, as its
 * removal must.
 */
static int set_mode(struct making *m)
{
	unsigned int mode = m->plan->mode;
	int err = mode == MODE ? 0 : shmi_os_fchmod(m->o.fd, mode);

	if (!err && mode != MODE && m->k.fd >= 0)
		err = shmi_os_fchmod(m->k.fd, mode);
	return err;
}

/* Before the link nobody can see it, after it all is there. */
static int publish(struct making *m)
{
	struct shmi_stat st;
	int err;

	if (!m->plan->path)
		return set_mode(m);
	err = shmi_companion_announce(&m->k, &m->a->c, m->ino);
	if (!err)
		err = set_mode(m);
	if (err)
		return err;
	err = m->plan->temp ? link_temp(m) : link_as(m, m->plan->path);
	if (err)
		return err;
	m->temp[0] = '\0';
	shmi_companion_settle(&m->k, &m->a->c, m->ino);
	m->a->named = m->plan->huge && !shmi_os_fstat(m->o.fd, &st) && st.nlink;
	return 0;
}

static int create(struct making *m, struct shmi_arena **out)
{
	int err;

	m->k.fd = m->k.dirfd = -1;
	m->a = shmi_arena_new();
	if (!m->a)
		return -ENOMEM;
	err = make_file(m);
	if (!err && m->plan->huge)
		err = shmi_arena_search(make_companion, m);
	if (!err)
		err = make_arena(m);
	if (!err)
		err = publish(m);
	if (err)
		goto undo;
	shmi_arena_register(&m->o, m->a, false);
	*out = m->a;
	return 0;

undo:
	shmi_arena_drop(&m->o, m->a);
	shmi_companion_undo(&m->k);
	if (m->temp[0])
		shmi_os_unlink_path(m->temp);
	shmi_arena_end(&m->o);
	return err;
}

int shmi_open_create(const struct shmi_plan *plan, struct shmi_arena **out)
{
	struct making m = { .plan = plan, .o = { .fd = -1 } };
	struct shmi_stat st;
	int err = 0;

	/* The link would say so, too, but what comes before might complain
	 * of an address that the very arena of this path has here. */
	if (plan->path && !plan->temp && !shmi_os_stat(plan->path, false, &st))
		return -EEXIST;
	if (plan->path)
		err = split_path(&m);
	if (err)
		return err;
	err = create(&m, out);
	if (m.no_link)
		err = create(&m, out);
	/* No block for the header, no inode for the file. */
	return shmi_os_shortage(err);
}
