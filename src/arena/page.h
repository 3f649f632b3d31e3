/* SPDX-License-Identifier: BSD-3-Clause */
/* page.h - pages that are no arena's. Layer: page; uses os. */
#ifndef SHMI_PAGE_H
#define SHMI_PAGE_H

#include "os.h"

/* How a map was made; remembered for each, so that it can be undone. */
struct shmi_pages {
	struct shmi_map_how how;
	size_t pagesize;
	bool preferred; /* if not these huge pages, then small ones */
	bool populate;
	int policy; /* NUMA; 0: none */
	unsigned long nodes;
};

/* All: 0 or -errno, nothing changed on failure. Lengths are rounded up; an
 * address that is no multiple of the page size is -EINVAL. */
int shmi_page_map(const struct shmi_pages *how, void *addr, size_t len,
		  void **at);
/* -EINVAL for what is not wholly inside one map of this library. */
int shmi_page_unmap(void *addr, size_t len);
/* @fixed: to that place; NULL: in place, or anywhere if @may_move. */
int shmi_page_remap(void *old, size_t old_len, size_t new_len, bool may_move,
		    void *fixed, void **at);

#endif
