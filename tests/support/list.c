/* SPDX-License-Identifier: BSD-3-Clause */
/* list.c - a structure of plain pointers in an arena. */
#include "list.h"

int list_add(tmc_shmem_t *shm, size_t n)
{
	struct list_node *node = tmc_shmem_grow(shm, n * sizeof(*node));
	struct list_node *root = tmc_shmem_get_data(shm);

	if (!node)
		return -1;
	for (; n; n--, node++) {
		node->next = root;
		node->value = (uintptr_t)node * 3;
		root = node;
	}
	return tmc_shmem_set_data(shm, root);
}

long list_count(tmc_shmem_t *shm)
{
	struct list_node *node = tmc_shmem_get_data(shm);
	uintptr_t base = (uintptr_t)tmc_shmem_address(shm);
	long n = 0;

	for (; node; node = node->next, n++)
		if ((uintptr_t)node - base >= tmc_shmem_current_size(shm) ||
		    node->value != (uintptr_t)node * 3)
			return -1;
	return n;
}
