/* SPDX-License-Identifier: BSD-3-Clause */
/* heap_page.c - a heap's pages: had, and given back */
/*
 * What the library itself reads and writes in a heap is in pages that have been
 * had before, whatever the arena was made with. Where one cannot be had the call
 * says ENOMEM, and no malloc, free or trim ends in a SIGBUS:
 *
 *	header	by create, but for entries of chunks that may never be: each
 *		before its chunk is made
 *	tables	whole, before their chunk is there
 *	heads	before their run is taken
 *	links	of free blocks: with the blocks, before they are linked. So a
 *		small block is present in any heap.
 *	large	blocks are their user's. Where the heap is populated they are
 *		made present before he gets them (fill); else at his first
 *		touch, and that is his risk. What calloc and realloc write
 *		there for him is had first.
 *
 * It stays there, since the pages of free runs alone are given back. What a
 * populated heap keeps in free runs is present, too; one that is not does not
 * know what of it is.
 *
 * The system calls in here are cancellation points.
 */
#include "heap.h"

#include "os.h"
#include "size.h"

#include <errno.h>

#define PIECE ((uint64_t)4 << 20)

int shmi_heap_have(struct shmi_heap *hp, const void *from, uint64_t len)
{
	uint64_t page = hp->arena ? hp->arena->c.pagesize : shmi_os_pagesize();
	uint64_t mask = page - 1, at = (uintptr_t)from;
	int cancel, err;

	len = ((at + len + mask) & ~mask) - (at & ~mask);
	at &= ~mask;
	cancel = shmi_os_cancel_off();
	if (hp->arena)
		err = shmi_size_fill(hp->arena, at - hp->arena->c.base, len);
	else
		err = shmi_os_populate((void *)(uintptr_t)at, len, page);
	shmi_os_cancel_restore(cancel);
	return err;
}

int shmi_heap_have_new(struct shmi_heap *hp, const void *from, uint64_t len)
{
	int cancel, err;

	if (!hp->arena)
		return shmi_heap_have(hp, from, len);
	cancel = shmi_os_cancel_off();
	err = shmi_size_fill_new(hp->arena, (uintptr_t)from - hp->arena->c.base,
				 len);
	shmi_os_cancel_restore(cancel);
	return err;
}

int shmi_heap_fill(struct shmi_heap *hp, uintptr_t at, uint64_t len)
{
	return hp->populate ? shmi_heap_have(hp, (void *)at, len) : 0;
}

int shmi_heap_fill_new(struct shmi_heap *hp, uintptr_t at, uint64_t len)
{
	return hp->populate ? shmi_heap_have_new(hp, (void *)at, len) : 0;
}

/* In pieces, since the kernel keeps others from the file meanwhile. */
int shmi_heap_punch(struct shmi_heap *hp, uintptr_t at, uint64_t len)
{
	uint64_t page = heap_pagesize(hp);
	uint64_t piece = PIECE > 64 * page ? PIECE : 64 * page;
	uintptr_t from = (at + page - 1) & ~(page - 1);
	uintptr_t end = (at + len) & ~(page - 1);
	bool whole = from == at && end == at + len && len;
	int cancel = shmi_os_cancel_off(), err = 0;

	for (; from < end && !err; from += piece)
		err = shmi_os_discard((void *)from,
				      end - from < piece ? end - from : piece);
	shmi_os_cancel_restore(cancel);
	/* Else its ends are as they were. */
	return whole ? err : -EINVAL;
}
