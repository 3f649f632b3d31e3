/* SPDX-License-Identifier: BSD-3-Clause */
/* churn.c - relatives that exchange blocks of common memory all the time. */
#include "churn.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <shmem.h>

static struct churn_block *new_block(unsigned int *seed)
{
	static const size_t most[] = { 40, 400, 4000, 40000, 200000 };
	size_t len = (size_t)rand_r(seed) % most[rand_r(seed) % 5];
	struct churn_block *b = tmc_cmem_malloc(sizeof(*b) + len);

	if (!b)
		return NULL;
	b->len = len;
	b->stamp = (uint64_t)rand_r(seed) << 16 | (uintptr_t)b >> 4;
	memset(b->bytes, (int)(b->stamp & 0xff), len);
	return b;
}

static int whole(const struct churn_block *b)
{
	size_t i;

	for (i = 0; i < b->len; i++)
		if (b->bytes[i] != (b->stamp & 0xff))
			return 0;
	return 1;
}

/* Pages of another arena: zero when they come, and back if nobody grew. */
static int pages(size_t page)
{
	tmc_alloc_t alloc = TMC_CMEM_ALLOC_INIT;
	unsigned char *p = tmc_alloc_map(tmc_alloc_set_thp(&alloc), page);

	if (!p)
		return errno == ENOMEM;
	if (p[0] || p[page - 1])
		return 0;
	memset(p, 1, page);
	return tmc_alloc_unmap(p, page) == 0 || errno == EINVAL;
}

int churn(struct churn *c, unsigned int player, unsigned int seed)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	while (!atomic_load(&c->stop)) {
		unsigned int i = (unsigned int)rand_r(&seed) % CHURN_SLOTS;
		struct churn_block *b =
			rand_r(&seed) % 4 ? new_block(&seed) : NULL;

		b = atomic_exchange(&c->slot[i], b);
		if (b && !whole(b))
			atomic_fetch_add(&c->wrong, 1);
		tmc_cmem_free(b);
		if (i % 16 == 0 && !pages(page))
			atomic_fetch_add(&c->wrong, 1);
		atomic_fetch_add(&c->turns[player], 1);
	}
	return atomic_load(&c->wrong) != 0;
}

int churn_clear(struct churn *c)
{
	int i, n = 0;

	for (i = 0; i < CHURN_SLOTS; i++) {
		struct churn_block *b = atomic_exchange(&c->slot[i], NULL);

		if (b && !whole(b))
			return -1;
		n += b != NULL;
		tmc_cmem_free(b);
	}
	return n;
}
