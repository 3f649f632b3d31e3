/* SPDX-License-Identifier: BSD-3-Clause */
/* api_cmem_info.c - TMC_CMEM_INFO: written, read, compared with the truth */
/*
 *	1;FD.HUGEFD+1.BASE.TOKEN.TOKEN.POLICY.NODES.THP;...
 *
 * The format's number, and for each arena fields in lower-case hexadecimal. It
 * is read strictly: a text that was not written here is refused as a whole.
 *
 * Nobody is kept from writing one who can start the program, and who can do
 * that can give it any memory; what matters is that nothing is taken for an
 * arena of the family by mistake, as after a program in between has closed the
 * descriptors and their numbers mean something else. The tokens, random
 * numbers in the arenas' headers, tell.
 */
#include "api_cmem.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define FORMAT "1;"
#define FIELDS 8

void shmi_cmem_write(const struct cmem_info *info, char text[CMEM_TEXT])
{
	char *at = text + sizeof(FORMAT) - 1;
	uint32_t i;

	memcpy(text, FORMAT, sizeof(FORMAT));
	for (i = 0; i < info->n; i++) {
		const struct cmem_part *p = &info->part[i];

		/* Eight fields of at most 16 digits, with a separator each. */
		at += snprintf(
			at, (size_t)(text + CMEM_TEXT - at),
			"%s%x.%x.%" PRIx64 ".%" PRIx64 ".%" PRIx64 ".%x.%lx.%x",
			i ? ";" : "", (unsigned int)p->fd,
			(unsigned int)(p->hugefd + 1), p->base, p->token[0],
			p->token[1], (unsigned int)p->key.policy, p->key.nodes,
			(unsigned int)p->key.thp);
	}
}

/* One number and the character behind it, or false. */
static bool number(const char **text, uint64_t *n, char *end)
{
	const char *s = *text;

	for (*n = 0; *s && strchr("0123456789abcdef", *s); s++)
		*n = *n << 4 | (uint64_t)(*s <= '9' ? *s - '0' : *s - 'a' + 10);
	if (s == *text || s - *text > 16 || (**text == '0' && s - *text > 1))
		return false;
	*end = *s;
	*text = *s ? s + 1 : s;
	return true;
}

static bool part(const char **text, struct cmem_part *p, char *end)
{
	uint64_t f[FIELDS];
	int i;

	for (i = 0; i < FIELDS; i++)
		if (!number(text, &f[i], end) ||
		    (*end == '.') != (i < FIELDS - 1))
			return false;
	if (f[0] > INT_MAX || f[1] > INT_MAX || f[5] > TMC_MPOL_LOCAL ||
	    f[7] > 1)
		return false;
	p->fd = (int)f[0];
	p->hugefd = (int)f[1] - 1;
	p->base = f[2];
	p->token[0] = f[3];
	p->token[1] = f[4];
	p->key.policy = (int)f[5];
	p->key.nodes = f[6];
	p->key.thp = f[7];
	return true;
}

/* No descriptor twice, and the first arena is the one with the heap. */
static bool sensible(const struct cmem_info *info)
{
	const struct cmem_part *first = &info->part[0], *p = first;
	uint32_t i, k;

	if (first->hugefd >= 0 || first->key.policy || first->key.nodes ||
	    first->key.thp)
		return false;
	for (i = 0; i < info->n; i++, p++) {
		if (p->fd == p->hugefd)
			return false;
		for (k = 0; k < i; k++) {
			const struct cmem_part *q = &info->part[k];

			if (p->fd == q->fd || p->fd == q->hugefd ||
			    (p->hugefd >= 0 &&
			     (p->hugefd == q->fd || p->hugefd == q->hugefd)))
				return false;
		}
	}
	return true;
}

int shmi_cmem_read(const char *text, struct cmem_info *info)
{
	char end = ';';

	memset(info, 0, sizeof(*info));
	if (strncmp(text, FORMAT, sizeof(FORMAT) - 1))
		return -EBADMSG;
	text += sizeof(FORMAT) - 1;
	while (end == ';') {
		if (info->n == CMEM_PARTS ||
		    !part(&text, &info->part[info->n++], &end))
			return -EBADMSG;
	}
	return end || !sensible(info) ? -EBADMSG : 0;
}

int shmi_cmem_check(const struct cmem_part *p)
{
	struct layout_const c;
	struct shmi_stat st;

	/* A regular file first: to read something else might do something. */
	if (shmi_os_fstat(p->fd, &st) ||
	    (st.mode & SHMI_MODE_TYPE) != SHMI_MODE_REG ||
	    shmi_os_pread(p->fd, &c, sizeof(c), 0))
		return -ESTALE;
	if (c.magic != LAYOUT_MAGIC || c.base != p->base ||
	    c.token[0] != p->token[0] || c.token[1] != p->token[1])
		return -ESTALE;
	return 0;
}
