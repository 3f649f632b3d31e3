/* SPDX-License-Identifier: BSD-3-Clause */
/* test_odp_many.c - many blocks, and many processes, of examples/odp_shm. */
#include "odp.h"

#include "peer.h"

#define MANY 20000

static void thousands_of_blocks(void **state)
{
	static odp_shm_t shm[MANY];
	char name[ODP_SHM_NAME_LEN];
	int i, round;

	(void)state;
	for (round = 0; round < 2; round++) {
		for (i = 0; i < MANY; i++) {
			snprintf(name, sizeof(name), "block %d", i);
			shm[i] = odp_shm_reserve(name, 16, 0, ODP_SHM_NO_HP);
			assert_true(shm[i] != ODP_SHM_INVALID);
			*(int *)odp_shm_addr(shm[i]) = i;
		}
		for (i = 0; i < MANY; i += 2)
			assert_int_equal(odp_shm_free(shm[i]), 0);
		for (i = 0; i < MANY; i++) {
			odp_shm_t found;

			snprintf(name, sizeof(name), "block %d", i);
			found = odp_shm_lookup(name);
			assert_true(found == (i % 2 ? shm[i] : NULL));
			assert_true(!found || *(int *)odp_shm_addr(found) == i);
		}
		for (i = 1; i < MANY; i += 2)
			assert_int_equal(odp_shm_free(shm[i]), 0);
	}
}

/* Eight lines of seven slots, for 32 blocks. */
static void a_full_table_is_an_error(void **state)
{
	odp_instance_t id;
	odp_shm_t shm[100];
	int n, i;

	(void)state;
	assert_int_equal(odp_begin(&id, 32, 0), 0);
	for (n = 0; n < 100; n++) {
		shm[n] = odp_shm_reserve("same", 16, 0, 0);
		if (!shm[n])
			break;
	}
	assert_int_equal(errno, ENOSPC);
	assert_int_equal(n, 56);
	assert_invalid(odp_shm_lookup("other"), ENOENT);
	for (i = 0; i < 10000; i++)
		assert_invalid(odp_shm_reserve("x", 65536, 0, 0), ENOSPC);
	assert_int_equal(odp_shm_free(shm[40]), 0);
	shm[40] = odp_shm_reserve("other", 16, 0, 0);
	assert_true(shm[40] && odp_shm_lookup("other") == shm[40]);
	for (i = 0; i < n; i++)
		assert_int_equal(odp_shm_free(shm[i]), 0);
	assert_invalid(odp_shm_lookup("same"), ENOENT);
	assert_int_equal(odp_shm_term_global(id), 0);
}

/* So many that some have the name's hash as far as the table keeps it. */
static void no_name_is_taken_for_another(void **state)
{
	odp_instance_t id;
	char name[ODP_SHM_NAME_LEN];
	odp_shm_t shm[50];
	int base, i;

	(void)state;
	assert_int_equal(odp_begin(&id, 32, 0), 0);
	for (base = 0; base < 100; base++) {
		for (i = 0; i < 50; i++) {
			snprintf(name, sizeof(name), "%d-%d", base, i);
			shm[i] = odp_shm_reserve(name, 16, 0, 0);
			assert_true(shm[i] != ODP_SHM_INVALID);
		}
		snprintf(name, sizeof(name), "%d-", base);
		assert_invalid(odp_shm_lookup(name), ENOENT);
		for (i = 50; i < 100; i++) {
			snprintf(name, sizeof(name), "%d-%d", base, i);
			assert_invalid(odp_shm_lookup(name), ENOENT);
		}
		for (i = 0; i < 50; i++)
			assert_int_equal(odp_shm_free(shm[i]), 0);
	}
	assert_int_equal(odp_shm_term_global(id), 0);
}

#define PLAYERS 6
#define EACH 400

static void name_of(int player, int i, char name[ODP_SHM_NAME_LEN])
{
	snprintf(name, ODP_SHM_NAME_LEN, "%d of %d", i, player);
}

static odp_instance_t common;

/* Reserves its own; and when all have done so, frees those of the next one.
 * Every other one has joined the instance and is no child of it. */
static int swap_blocks(struct peer *self, void *arg)
{
	int me = (int)(intptr_t)arg, theirs = (me + 1) % PLAYERS, i;
	char name[ODP_SHM_NAME_LEN];
	odp_shm_info_t info;
	odp_shm_t shm;
	uint64_t word;

	if (me % 2) {
		PEER_CHECK(odp_shm_term_local() == 0);
		PEER_CHECK(odp_shm_init_local(common) == 0);
	}
	for (i = 0; i < EACH; i++) {
		name_of(me, i, name);
		shm = odp_shm_reserve(name, (uint64_t)(i + 1) * 64, 0, 0);
		PEER_CHECK(shm != ODP_SHM_INVALID);
		memset(odp_shm_addr(shm), me, (size_t)(i + 1) * 64);
	}
	PEER_CHECK(!peer_put(self, 0) && !peer_get(self, &word));
	for (i = 0; i < EACH; i++) {
		name_of(theirs, i, name);
		shm = odp_shm_lookup(name);
		PEER_CHECK(!odp_shm_info(shm, &info));
		PEER_CHECK(!strcmp(info.name, name));
		PEER_CHECK(info.size == (uint64_t)(i + 1) * 64);
		PEER_CHECK(((char *)info.addr)[0] == theirs);
		PEER_CHECK(((char *)info.addr)[info.size - 1] == theirs);
		PEER_CHECK(!odp_shm_free(shm));
	}
	return 0;
}

static void many_processes_reserve_in_one_and_free_in_another(void **state)
{
	struct peer p[PLAYERS];
	uint64_t word;
	char name[ODP_SHM_NAME_LEN];
	int i, k;

	common = *(odp_instance_t *)*state;
	for (i = 0; i < PLAYERS; i++)
		assert_int_equal(
			peer_fork(&p[i], swap_blocks, (void *)(intptr_t)i), 0);
	for (i = 0; i < PLAYERS; i++)
		assert_int_equal(peer_get(&p[i], &word), 0);
	for (i = 0; i < PLAYERS; i++)
		assert_int_equal(peer_put(&p[i], 0), 0);
	for (i = 0; i < PLAYERS; i++)
		assert_int_equal(peer_end(&p[i]), 0);
	for (i = 0; i < PLAYERS; i++)
		for (k = 0; k < EACH; k++) {
			name_of(i, k, name);
			assert_invalid(odp_shm_lookup(name), ENOENT);
		}
}

#define SAME 5000

/* Who is behind gets refusals, and so comes up with who is in front. */
static int free_the_same(struct peer *self, void *arg)
{
	odp_shm_t *shm = odp_shm_addr((odp_shm_t)arg);
	uint64_t i, n = 0, word;

	PEER_CHECK(!peer_get(self, &word));
	for (i = 0; i < SAME; i++)
		n += !odp_shm_free(shm[i]);
	PEER_CHECK(!peer_put(self, n));
	return 0;
}

static void of_many_who_free_a_block_one_succeeds(void **state)
{
	odp_shm_t list = odp_shm_reserve("list", SAME * sizeof(list), 0, 0);
	odp_shm_t *shm = odp_shm_addr(list);
	uint64_t n = 0, freed;
	struct peer p[3];
	int i;

	(void)state;
	assert_non_null(shm);
	for (i = 0; i < SAME; i++) {
		shm[i] = odp_shm_reserve(NULL, 200, 0, 0);
		assert_true(shm[i] != ODP_SHM_INVALID);
	}
	for (i = 0; i < 3; i++)
		assert_int_equal(peer_fork(&p[i], free_the_same, list), 0);
	for (i = 0; i < 3; i++)
		assert_int_equal(peer_put(&p[i], 0), 0);
	for (i = 0; i < 3; i++) {
		assert_int_equal(peer_get(&p[i], &freed), 0);
		assert_int_equal(peer_end(&p[i]), 0);
		n += freed;
	}
	assert_int_equal(n, SAME);
	assert_int_equal(odp_shm_free(list), 0);
}

static _Atomic int *go_on;

static int churn_names(struct peer *self, void *arg)
{
	unsigned int rng = (unsigned int)(intptr_t)arg;
	char name[ODP_SHM_NAME_LEN];
	odp_shm_t shm;

	(void)self;
	while (*go_on) {
		int i = rand_r(&rng) % 16;

		snprintf(name, sizeof(name), "churn %d", i);
		shm = odp_shm_lookup(name);
		if (shm)
			odp_shm_free(shm); /* another one may be faster */
		else
			odp_shm_reserve(name, 100 + (uint64_t)i, 0, 0);
	}
	return 0;
}

/* What is found has that name, or has gone; never anything else. */
static void lookups_see_whole_blocks_while_others_change_them(void **state)
{
	odp_shm_t flag = odp_shm_reserve("flag", sizeof(*go_on), 0, 0), shm;
	struct peer p[3];
	char name[ODP_SHM_NAME_LEN];
	int i, found = 0, gone = 0;

	(void)state;
	go_on = odp_shm_addr(flag);
	*go_on = 1;
	for (i = 0; i < 3; i++)
		assert_int_equal(peer_fork(&p[i], churn_names,
					   (void *)(intptr_t)(i + 1)),
				 0);
	for (i = 0; found + gone < 20000; i = (i + 1) % 16) {
		odp_shm_info_t info;

		snprintf(name, sizeof(name), "churn %d", i);
		shm = odp_shm_lookup(name);
		if (!shm)
			continue;
		if (odp_shm_info(shm, &info)) {
			gone++;
			continue;
		}
		found++;
		assert_int_equal(info.size, 100 + i);
	}
	*go_on = 0;
	for (i = 0; i < 3; i++)
		assert_int_equal(peer_end(&p[i]), 0);
	assert_int_equal(odp_shm_free(flag), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		odp_test(thousands_of_blocks),
		cmocka_unit_test(a_full_table_is_an_error),
		cmocka_unit_test(no_name_is_taken_for_another),
		odp_test(many_processes_reserve_in_one_and_free_in_another),
		odp_test(of_many_who_free_a_block_one_succeeds),
		odp_test(lookups_see_whole_blocks_while_others_change_them),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
