/* SPDX-License-Identifier: BSD-3-Clause */
/* churn.h - relatives that exchange blocks of common memory all the time. */
#ifndef TESTS_CHURN_H
#define TESTS_CHURN_H

#include <stddef.h>
#include <stdint.h>

#define CHURN_SLOTS 256
#define CHURN_PLAYERS 4

/* Whole before it is in a slot, and nobody's but who takes it out. */
struct churn_block {
	size_t len;	/* of bytes */
	uint64_t stamp; /* every byte is its lowest */
	unsigned char bytes[];
};

/* In the common memory. */
struct churn {
	_Atomic(struct churn_block *) slot[CHURN_SLOTS];
	_Atomic uint64_t turns[CHURN_PLAYERS]; /* how often, each */
	_Atomic int wrong;		       /* blocks that were not whole */
	_Atomic int stop;
};

/* Plays as @player until c->stop; 0, or 1: something was wrong. */
int churn(struct churn *c, unsigned int player, unsigned int seed);

/* Takes all blocks out; how many there were, -1: one was not whole. */
int churn_clear(struct churn *c);

#endif
