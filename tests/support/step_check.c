/* SPDX-License-Identifier: BSD-3-Clause */
/* step_check.c - what must hold in an arena that somebody died in. */
#include "step_check.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "kernel.h"
#include "layout.h"
#include "peer.h"
#include "probe.h"

/* Words at this distance are enough to tell a page from another. */
#define EVERY 512

static uint64_t word_at(const char *p)
{
	return ((uintptr_t)p >> 3) * 0x9e3779b97f4a7c15u | 1;
}

static void fill(char *at, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += EVERY) {
		uint64_t w = word_at(at + i);

		memcpy(at + i, &w, sizeof(w));
	}
}

static int is_filled(const char *at, size_t len)
{
	size_t i;

	for (i = 0; i < len; i += EVERY) {
		uint64_t w = word_at(at + i);

		if (memcmp(at + i, &w, sizeof(w)))
			return 0;
	}
	return 1;
}

/* What the root pointer of every arena here is. */
static void *root_of(tmc_shmem_t *shm)
{
	return (char *)tmc_shmem_address(shm) + 64;
}

int step_check_setup(const struct step_check *k, tmc_shmem_t **shm)
{
	struct spot *s = k->s;
	size_t len = k->c->pages * s->page;
	char *at;

	*shm = tmc_shmem_create(s->path, &s->alloc, NULL, s->maxsize);
	PEER_CHECK(*shm);
	PEER_CHECK(tmc_shmem_set_data(*shm, root_of(*shm)) == 0);
	if (!len)
		return 0;
	at = tmc_shmem_grow(*shm, len);
	PEER_CHECK(at == tmc_shmem_address(*shm));
	fill(at, len);
	return 0;
}

/* The length of the file that has the bytes, as it must be in peace. */
static int length_fits(tmc_shmem_t *shm)
{
	int fd = tmc_shmem_hugefd(shm);
	uint64_t off = fd < 0 ? LAYOUT_DATA_OFF : 0;
	struct stat st;

	if (fstat(fd < 0 ? tmc_shmem_fd(shm) : fd, &st))
		return 0;
	return (uint64_t)st.st_size == off + tmc_shmem_current_size(shm);
}

/* It grows and shrinks; new pages are zero although others had them. */
static int check_use(const struct spot *s, tmc_shmem_t *shm)
{
	size_t size = tmc_shmem_current_size(shm), i;
	char *at;

	for (i = 1; i <= 2; i++) {
		at = tmc_shmem_grow(shm, i * s->page);
		PEER_CHECK(at == (char *)tmc_shmem_address(shm) + size);
		PEER_CHECK(tmc_shmem_current_size(shm) == size + i * s->page);
		PEER_CHECK(length_fits(shm));
		PEER_CHECK(probe_zero(at, i * s->page));
		memset(at, 0x5a, i * s->page);
		PEER_CHECK(tmc_shmem_shrink(shm, (off_t)size, i * s->page) ==
			   0);
		PEER_CHECK(tmc_shmem_current_size(shm) == size);
		PEER_CHECK(length_fits(shm));
	}
	return 0;
}

int step_check_open(const struct step_check *k, tmc_shmem_t *shm)
{
	const struct step_case *c = k->c;
	const struct spot *s = k->s;
	size_t before = c->pages * s->page;
	size_t after = (size_t)((long)c->pages + c->change) * s->page;
	size_t size = tmc_shmem_current_size(shm);
	size_t kept = before < after ? before : after;
	char *base = tmc_shmem_address(shm);

	PEER_CHECK(size == before || size == after);
	PEER_CHECK(tmc_shmem_get_data(shm) ==
		   (c->creates ? NULL : root_of(shm)));
	if (size < kept)
		kept = size;
	PEER_CHECK(is_filled(base, size == before ? before : kept));
	/* The victim had no time to write there. */
	if (size > before)
		PEER_CHECK(probe_zero(base + before, size - before));
	if (check_use(s, shm))
		return 1;
	PEER_CHECK(is_filled(base, size == before ? before : kept));
	return size == before ? 0 : 2;
}

/* ----- names ----- */

struct names {
	size_t n;	/* in all but the copy */
	size_t temps;	/* ".NAME.tmcnew-*", ".NAME.tmcold-*" */
	size_t keys;	/* companions that are being created: "*.KEY" */
	char temp[300]; /* one of the temps */
	char last[300]; /* one of the others */
};

static int list(const char *dir, struct names *l)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	const char *dot;

	memset(l, 0, sizeof(*l));
	if (!d)
		return -1;
	while ((e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
		    !strcmp(e->d_name, "copy"))
			continue;
		l->n++;
		dot = strrchr(e->d_name, '.');
		if (*e->d_name == '.' && (strstr(e->d_name, ".tmcnew-") ||
					  strstr(e->d_name, ".tmcold-"))) {
			l->temps++;
			snprintf(l->temp, sizeof(l->temp), "%s/%s", dir,
				 e->d_name);
		} else if (!strncmp(e->d_name, "libshmem-", 9) && dot &&
			   strlen(dot + 1) == 16) {
			l->keys++;
		} else {
			snprintf(l->last, sizeof(l->last), "%s/%s", dir,
				 e->d_name);
		}
	}
	closedir(d);
	return 0;
}

/* No page is in use in the worker's own hugetlbfs. */
static int pool_is_full(const struct spot *s)
{
	struct statfs sf;

	return !*s->hugedir ||
	       (!statfs(s->hugedir, &sf) && sf.f_bfree == sf.f_blocks);
}

static int list_both(const struct step_check *k, struct names *dir,
		     struct names *huge)
{
	PEER_CHECK(list(k->s->dir, dir) == 0);
	memset(huge, 0, sizeof(*huge));
	if (k->c->huge)
		PEER_CHECK(list(k->s->hugedir, huge) == 0);
	return 0;
}

int step_check_gone(const struct step_check *k)
{
	struct names dir, huge;

	if (list_both(k, &dir, &huge))
		return 1;
	PEER_CHECK(dir.n == 0);
	PEER_CHECK(huge.n == 0);
	PEER_CHECK(pool_is_full(k->s));
	return 0;
}

/* One arena, whole, and nothing else. */
static int check_only_arena(const struct step_check *k)
{
	struct names dir, huge;

	if (list_both(k, &dir, &huge))
		return 1;
	PEER_CHECK(dir.n == 1 && dir.temps == 0);
	PEER_CHECK(huge.n == (k->c->huge ? 1u : 0u) && huge.keys == 0);
	return 0;
}

static tmc_shmem_t *create_again(const struct step_check *k)
{
	struct spot *s = k->s;

	if (k->c->temp)
		strcpy(s->path + strlen(s->path) - 6, "XXXXXX");
	if (k->c->temp)
		return tmc_shmem_create_temp(s->path, &s->alloc, NULL,
					     s->maxsize);
	return tmc_shmem_create(s->path, &s->alloc, NULL, s->maxsize);
}

/*
 * After a death in create: nothing has the name, but there may be an empty
 * companion or a temporary name; the next one removes them.
 */
static int check_not_created(const struct step_check *k, tmc_shmem_t **shm)
{
	struct names dir, huge;

	if (list_both(k, &dir, &huge))
		return 1;
	PEER_CHECK(dir.n == dir.temps);
	PEER_CHECK(dir.temps <= (k->c->named ? 1u : 0u));
	PEER_CHECK(huge.n == huge.keys && huge.n <= 1);
	PEER_CHECK(pool_is_full(k->s));
	if (!k->c->temp) {
		PEER_CHECK(!tmc_shmem_open(k->path));
		PEER_CHECK(errno == ENOENT);
	}
	*shm = create_again(k);
	PEER_CHECK(*shm);
	return check_only_arena(k);
}

/* What a death in create may leave beside an arena of somebody else's. */
static int check_created(const struct step_check *k, const char *path,
			 tmc_shmem_t **shm)
{
	struct names dir, huge;

	if (list_both(k, &dir, &huge))
		return 1;
	PEER_CHECK(dir.n - dir.temps == 1);
	PEER_CHECK(dir.temps <= (k->c->named ? 1u : 0u));
	PEER_CHECK(huge.n == 0 || k->c->huge);
	PEER_CHECK(huge.n <= (k->rival ? 2u : 1u));
	*shm = tmc_shmem_open(path);
	PEER_CHECK(*shm);
	if (list_both(k, &dir, &huge))
		return 1;
	PEER_CHECK(huge.n - huge.keys == (k->c->huge ? 1u : 0u));
	PEER_CHECK(huge.keys <= (k->rival ? 1u : 0u));
	return 0;
}

/* The next create of that name removes what the dead one has left. */
static int check_next_create(const struct step_check *k)
{
	tmc_shmem_t *shm = create_again(k);

	PEER_CHECK(shm);
	if (check_only_arena(k))
		return 1;
	tmc_shmem_close(shm);
	PEER_CHECK(tmc_shmem_unlink(k->s->path) == 0);
	return step_check_gone(k);
}

/* It must not take what an arena still needs for a left-over. */
static int check_template_again(const struct step_check *k)
{
	tmc_shmem_t *shm = create_again(k);

	PEER_CHECK(shm);
	tmc_shmem_close(shm);
	PEER_CHECK(tmc_shmem_unlink(k->s->path) == 0);
	return 0;
}

static int fresh_create(const struct step_check *k)
{
	char path[300];
	struct names dir;
	tmc_shmem_t *shm;
	int made;

	if (k->c->named)
		PEER_CHECK(kernel_without_tmpfile() == 0);
	PEER_CHECK(list(k->s->dir, &dir) == 0);
	made = dir.n - dir.temps > 0;
	strcpy(path, made ? dir.last : k->s->path);
	if (made && k->c->temp && check_template_again(k))
		return 1;
	if (made ? check_created(k, path, &shm) : check_not_created(k, &shm))
		return 1;
	if (!made && k->c->temp)
		strcpy(path, k->s->path);
	if (step_check_open(k, shm) == 1)
		return 1;
	tmc_shmem_close(shm);
	PEER_CHECK(tmc_shmem_unlink(path) == 0);
	if (made && !k->c->named && !k->rival && step_check_gone(k))
		return 1;
	if (check_next_create(k))
		return 1;
	return made ? 2 : 0;
}

/* Nothing is left of an arena that had no name, and the next one is whole. */
static int fresh_anonymous(const struct step_check *k)
{
	tmc_shmem_t *shm;

	if (step_check_gone(k))
		return 1;
	shm = tmc_shmem_create_anonymous(&k->s->alloc, NULL, k->s->maxsize);
	PEER_CHECK(shm);
	if (step_check_open(k, shm) == 1)
		return 1;
	tmc_shmem_close(shm);
	return 0;
}

/* Under a name that was to be for a moment the arena is unused, too. */
static int check_aside(const struct step_check *k)
{
	struct names dir;

	PEER_CHECK(list(k->s->dir, &dir) == 0);
	PEER_CHECK(dir.temps <= (k->c->idle ? 1u : 0u));
	if (dir.temps)
		PEER_CHECK(tmc_shmem_unlink_idle(dir.temp) == 0);
	return 0;
}

/* Death in unlink: it is whole, or its companion is gone, or all is. */
static int fresh_unlink(const struct step_check *k)
{
	tmc_shmem_t *shm = tmc_shmem_open(k->path);
	int there = access(k->path, F_OK) == 0, state = 2;

	PEER_CHECK(shm || errno == ENOENT);
	PEER_CHECK(shm || !there || k->c->huge);
	if (shm) {
		state = step_check_open(k, shm);
		if (state == 1)
			return 1;
		tmc_shmem_close(shm);
	}
	if (there) {
		PEER_CHECK(tmc_shmem_unlink(k->path) == 0);
	} else {
		PEER_CHECK(tmc_shmem_unlink(k->path) == -1);
		PEER_CHECK(errno == ENOENT);
	}
	return check_aside(k) ? 1 : state;
}

int step_check_fresh(const struct step_check *k)
{
	tmc_shmem_t *shm;
	size_t size;
	int state;

	if (k->c->anonymous)
		return fresh_anonymous(k);
	if (k->c->creates)
		return fresh_create(k);
	if (k->c->removes)
		return fresh_unlink(k);
	if (check_only_arena(k))
		return 1;
	shm = tmc_shmem_open(k->path);
	PEER_CHECK(shm);
	state = step_check_open(k, shm);
	if (state == 1)
		return 1;
	size = tmc_shmem_current_size(shm);
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(k->path);
	PEER_CHECK(shm && tmc_shmem_current_size(shm) == size);
	PEER_CHECK(length_fits(shm));
	tmc_shmem_close(shm);
	PEER_CHECK(tmc_shmem_unlink(k->path) == 0);
	return state;
}
