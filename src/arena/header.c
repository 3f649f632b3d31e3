/* SPDX-License-Identifier: BSD-3-Clause */
/* header.c - the header's constants, made and checked */
#include "header.h"

#include "os.h"

#include <errno.h>

/* Against damage, not against forgery: a forger makes his own checksum. */
static uint64_t checksum(const struct layout_const *c)
{
	const unsigned char *p = (const unsigned char *)c;
	uint64_t sum = 0xcbf29ce484222325ull; /* FNV-1a */
	size_t i;

	for (i = 0; i < offsetof(struct layout_const, checksum); i++)
		sum = (sum ^ p[i]) * 0x100000001b3ull;
	return sum;
}

/*
 * What two builds must agree on beyond the format: sizes of words and of the
 * parts of the file. The byte order is in the magic number.
 */
static uint32_t abi(void)
{
	return (uint32_t)sizeof(void *) << 24 | LAYOUT_SLOTS << 8 |
	       LAYOUT_HDR_LEN >> 12;
}

void shmi_header_seal(struct layout_const *c)
{
	c->magic = LAYOUT_MAGIC;
	c->format = LAYOUT_FORMAT;
	c->abi = abi();
	c->checksum = checksum(c);
}

static int check_pagesize(const struct layout_const *c)
{
	int has;

	if (!c->pagesize || (c->pagesize & (c->pagesize - 1)))
		return -EINVAL;
	if (shmi_header_huge(c))
		has = shmi_os_has_huge(c->pagesize);
	else
		has = c->pagesize == shmi_os_pagesize();
	return has < 0 ? has : has ? 0 : -EINVAL;
}

int shmi_header_check(const struct layout_const *c, uint64_t file_len)
{
	int err;

	if (c->magic != LAYOUT_MAGIC || c->format != LAYOUT_FORMAT ||
	    c->abi != abi() || c->checksum != checksum(c))
		return -EINVAL;
	if (file_len < LAYOUT_HDR_LEN || (c->flags & ~(uint64_t)LAYOUT_FLAGS))
		return -EINVAL;
	err = check_pagesize(c);
	if (err)
		return err;
	if (!c->base || c->base % c->pagesize || !c->maxsize ||
	    c->maxsize % c->pagesize)
		return -EINVAL;
	/* No sum of these wraps, neither as address nor as file offset. */
	if (c->base > INT64_MAX || c->maxsize > INT64_MAX - LAYOUT_DATA_OFF ||
	    c->base + c->maxsize > INT64_MAX)
		return -EINVAL;
	return 0;
}
