/* SPDX-License-Identifier: BSD-3-Clause */
/* list.h - a structure of plain pointers that tests build in an arena. */
#ifndef TESTS_LIST_H
#define TESTS_LIST_H

#include <stddef.h>
#include <stdint.h>
#include <tmc/shmem.h>

struct list_node {
	struct list_node *next;
	uint64_t value;
};

/* Grows @shm and puts @n nodes in front of its root pointer. 0 or -1. */
int list_add(tmc_shmem_t *shm, size_t n);

/* Number of nodes from the root pointer on, if all are whole; else -1. */
long list_count(tmc_shmem_t *shm);

#endif
