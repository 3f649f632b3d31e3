/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * demo.c - two programs of one ODP instance, and a third one of another.
 *
 * The first reserves a block of numbers, and starts this program anew, which
 * joins the instance, finds the block by its name, and answers with another
 * block; that one is freed by the first, who did not reserve it. A second
 * instance imports the numbers. Run it without arguments.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "odp_shm.h"

#define NUMBERS 1000u
#define SUM (NUMBERS * (NUMBERS - 1) / 2)

static int failed(const char *what)
{
	perror(what);
	return 1;
}

/* In all three: plain pointers do, as they mean the same everywhere. */
struct numbers {
	uint64_t *first;
	uint64_t number[NUMBERS];
};

static uint64_t sum_of(odp_shm_t shm)
{
	const struct numbers *n = odp_shm_addr(shm);
	uint64_t sum = 0;

	for (size_t i = 0; n && i < NUMBERS; i++)
		sum += n->first[i];
	return sum;
}

/* The second program. */
static int answer(odp_instance_t instance)
{
	odp_shm_t shm;
	uint64_t *sum;

	if (odp_shm_init_local(instance))
		return failed("odp_shm: join");
	shm = odp_shm_reserve("sum", sizeof(*sum), 0, 0);
	sum = odp_shm_addr(shm);
	if (!sum)
		return failed("odp_shm: reserve");
	*sum = sum_of(odp_shm_lookup("numbers"));
	return odp_shm_term_local() ? failed("odp_shm: leave") : 0;
}

/* The third. */
static int import(odp_instance_t from)
{
	odp_instance_t instance;
	odp_shm_t shm;
	int err;

	if (odp_shm_init_global(&instance, NULL))
		return failed("odp_shm: second instance");
	shm = odp_shm_import("numbers", from, "their numbers");
	err = shm == ODP_SHM_INVALID ? failed("odp_shm: import")
				     : sum_of(shm) != SUM;
	odp_shm_print_all();
	odp_shm_free(shm);
	return odp_shm_term_global(instance) || err;
}

/* This program with arguments; 0 if it ended well. */
static int run(const char *self, const char *role, odp_instance_t instance)
{
	char id[32];
	int status = 1;

	fflush(stdout);
	snprintf(id, sizeof(id), "%llu", (unsigned long long)instance);
	if (fork() == 0) {
		execl(self, self, role, id, (char *)NULL);
		_exit(127);
	}
	return wait(&status) < 0 || status;
}

int main(int argc, char **argv)
{
	odp_instance_t instance;
	struct numbers *n;
	odp_shm_t sum;
	int err;

	if (argc == 3) {
		instance = strtoull(argv[2], NULL, 10);
		return strcmp(argv[1], "join") ? import(instance)
					       : answer(instance);
	}
	if (odp_shm_init_global(&instance, NULL))
		return failed("odp_shm: instance");
	n = odp_shm_addr(odp_shm_reserve("numbers", sizeof(*n), 4096,
					 ODP_SHM_SINGLE_VA | ODP_SHM_EXPORT));
	if (!n)
		return failed("odp_shm: reserve");
	n->first = n->number;
	for (uint64_t i = 0; i < NUMBERS; i++)
		n->number[i] = i;
	err = run("/proc/self/exe", "join", instance);
	sum = odp_shm_lookup("sum");
	odp_shm_print_all();
	err |= run("/proc/self/exe", "import", instance);
	err |= sum == ODP_SHM_INVALID || *(uint64_t *)odp_shm_addr(sum) != SUM;
	err |= odp_shm_free(sum) || odp_shm_free(odp_shm_lookup("numbers"));
	return odp_shm_term_global(instance) || err;
}
