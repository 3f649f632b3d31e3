/* SPDX-License-Identifier: BSD-3-Clause */
/* test_odp_shm.c - OpenDataPlane's shared memory calls of examples/odp_shm. */
#include "odp.h"

#include <fcntl.h>
#include <unistd.h>

#include <tmc/alloc.h>

#include "peer.h"

#define MOST GIB /* that an instance of the tests can grow to */

/* ----- blocks ----- */

static void a_block_is_as_it_was_asked_for(void **state)
{
	const uint32_t flags = ODP_SHM_PROC | ODP_SHM_SINGLE_VA |
			       ODP_SHM_EXPORT | ODP_SHM_NO_HP;
	odp_shm_t shm = odp_shm_reserve("a block", 5000, 4096, flags);
	odp_shm_segment_info_t seg;
	odp_shm_info_t info;

	(void)state;
	assert_true(shm != ODP_SHM_INVALID);
	assert_true(odp_shm_lookup("a block") == shm);
	assert_int_equal(odp_shm_info(shm, &info), 0);
	assert_string_equal(info.name, "a block");
	assert_ptr_equal(info.addr, odp_shm_addr(shm));
	assert_int_equal((uintptr_t)info.addr % 4096, 0);
	assert_int_equal(info.size, 5000);
	assert_int_equal(info.page_size, sysconf(_SC_PAGESIZE));
	assert_int_equal(info.flags, flags);
	assert_int_equal(info.num_seg, 1);
	assert_int_equal(odp_shm_segment_info(shm, 0, 1, &seg), 0);
	assert_int_equal(seg.addr, (uintptr_t)info.addr);
	assert_int_equal(seg.len, 5000);
	assert_true(seg.iova == ODP_SHM_IOVA_INVALID);
	assert_true(seg.pa == ODP_SHM_PA_INVALID);
	assert_true(odp_shm_to_u64(shm) != 0);
	memset(info.addr, 1, 5000);
	assert_int_equal(odp_shm_free(shm), 0);
	assert_invalid(odp_shm_lookup("a block"), ENOENT);
}

static void names_are_checked_and_need_not_be_unique(void **state)
{
	char name[1000];
	odp_shm_t one, two, none, first;

	(void)state;
	memset(name, 'n', sizeof(name));
	name[999] = 0;
	assert_invalid(odp_shm_reserve(name, 1, 0, 0), ENAMETOOLONG);
	assert_invalid(odp_shm_lookup(name), ENOENT);
	name[ODP_SHM_NAME_LEN] = 0;
	assert_invalid(odp_shm_reserve(name, 1, 0, 0), ENAMETOOLONG);
	name[ODP_SHM_NAME_LEN - 1] = 0;
	one = odp_shm_reserve(name, 1, 0, 0);
	two = odp_shm_reserve(name, 1, 0, 0);
	none = odp_shm_reserve(NULL, 1, 0, 0);
	assert_true(one && two && none && one != two);
	first = odp_shm_lookup(name);
	assert_true(first == one || first == two);
	assert_int_equal(odp_shm_free(first), 0);
	assert_true(odp_shm_lookup(name) == (first == one ? two : one));
	assert_int_equal(odp_shm_free(odp_shm_lookup(name)), 0);
	assert_invalid(odp_shm_lookup(name), ENOENT);
	/* A name is compared as a whole. */
	one = odp_shm_reserve("short", 1, 0, 0);
	assert_invalid(odp_shm_lookup("shor"), ENOENT);
	assert_invalid(odp_shm_lookup("shorter"), ENOENT);
	assert_int_equal(odp_shm_free(one), 0);

	assert_invalid(odp_shm_lookup(NULL), ENOENT);
	assert_invalid(odp_shm_lookup(""), ENOENT);
	assert_int_equal(odp_shm_free(none), 0);
}

static void every_alignment_can_be_had(void **state)
{
	const uint64_t sizes[] = { 1, 100, 4096, 100000 };
	odp_shm_capability_t capa;
	odp_shm_t shm[4];
	uint64_t align;
	size_t i;

	(void)state;
	assert_int_equal(odp_shm_capability(&capa), 0);
	assert_true(capa.max_align >= 2 * MIB &&
		    capa.max_align >= tmc_alloc_get_huge_pagesize());
	for (align = 1; align <= capa.max_align; align *= 2) {
		for (i = 0; i < 4; i++) {
			shm[i] = odp_shm_reserve("aligned", sizes[i], align, 0);
			assert_true(shm[i] != ODP_SHM_INVALID);
			assert_int_equal(
				(uintptr_t)odp_shm_addr(shm[i]) % align, 0);
			memset(odp_shm_addr(shm[i]), 1, sizes[i]);
		}
		for (i = 0; i < 4; i++)
			assert_int_equal(odp_shm_free(shm[i]), 0);
	}
	assert_invalid(odp_shm_reserve("a", 1, capa.max_align * 2, 0), EINVAL);
	assert_invalid(odp_shm_reserve("a", 1, (uint64_t)1 << 63, 0), EINVAL);
	assert_invalid(odp_shm_reserve("a", 1, 3, 0), EINVAL);
	assert_invalid(odp_shm_reserve("a", 1, UINT64_MAX, 0), EINVAL);
}

static void flags_and_sizes_are_checked(void **state)
{
	odp_shm_capability_t capa;
	uint32_t bit;

	(void)state;
	assert_int_equal(odp_shm_capability(&capa), 0);
	assert_true(capa.max_blocks >= 10000);
	for (bit = 1; bit; bit <<= 1) {
		odp_shm_t shm;

		if (bit == ODP_SHM_HP)
			continue; /* depends on what there is, see below */
		errno = 0;
		shm = odp_shm_reserve("f", 1, 0, bit);
		if (capa.flags & bit)
			assert_int_equal(odp_shm_free(shm), 0);
		else
			assert_true(!shm && errno == EINVAL);
	}
	assert_int_equal(capa.flags & ~(uint32_t)ODP_SHM_HP,
			 ODP_SHM_PROC | ODP_SHM_SINGLE_VA | ODP_SHM_EXPORT |
				 ODP_SHM_NO_HP);
	assert_invalid(odp_shm_reserve("f", 1, 0, ODP_SHM_HP | ODP_SHM_NO_HP),
		       EINVAL);
	assert_invalid(odp_shm_reserve("s", 0, 0, 0), EINVAL);
	assert_invalid(odp_shm_reserve("s", MOST, 0, 0), ENOMEM);
	assert_invalid(odp_shm_reserve("s", UINT64_MAX, 0, 0), ENOMEM);
	assert_invalid(odp_shm_reserve("s", UINT64_MAX, 2 * MIB, 0), ENOMEM);
	assert_invalid(odp_shm_reserve("s", INT64_MAX, 1, 0), ENOMEM);
	assert_invalid(odp_shm_lookup("s"), ENOENT);
}

/* ----- bad handles ----- */

static int is_refused(odp_shm_t shm)
{
	odp_shm_segment_info_t seg;
	odp_shm_info_t info;

	return odp_shm_free(shm) == -1 && errno == EINVAL &&
	       !odp_shm_addr(shm) && errno == EINVAL &&
	       odp_shm_info(shm, &info) == -1 && errno == EINVAL &&
	       odp_shm_segment_info(shm, 0, 1, &seg) == -1;
}

static void bad_handles_are_refused(void **state)
{
	odp_shm_t shm = odp_shm_reserve("h", 100, 0, 0), again;
	odp_shm_segment_info_t seg[2];
	unsigned int seed = 5;
	int i;

	(void)state;
	assert_int_equal(odp_shm_info(shm, NULL), -1);
	assert_int_equal(odp_shm_segment_info(shm, 0, 1, NULL), -1);
	assert_int_equal(odp_shm_segment_info(shm, 0, 2, seg), -1);
	assert_int_equal(odp_shm_segment_info(shm, 1, 1, seg), -1);
	assert_int_equal(odp_shm_segment_info(shm, 0, 0, seg), -1);
	assert_int_equal(odp_shm_capability(NULL), -1);
	assert_int_equal(odp_shm_free(shm), 0);
	assert_true(is_refused(shm));
	/* The same slot, another block. */
	again = odp_shm_reserve("h", 100, 0, 0);
	assert_true(again != shm);
	assert_true(is_refused(shm));
	assert_true(is_refused(ODP_SHM_INVALID));
	for (i = 0; i < 64; i++)
		assert_true(is_refused(
			(odp_shm_t)((uint64_t)again ^ (uint64_t)1 << i)));
	for (i = 0; i < 200000; i++) {
		uint64_t forged = (uint64_t)rand_r(&seed) << 42 ^
				  (uint64_t)rand_r(&seed) << 21 ^
				  (uint64_t)rand_r(&seed);

		forged >>= (unsigned int)i % 64;
		if (forged != odp_shm_to_u64(again))
			assert_true(is_refused((odp_shm_t)forged));
	}
	assert_int_equal(odp_shm_free(again), 0);
}

static void nothing_works_outside_of_an_instance(void **state)
{
	odp_shm_setup_t bad[] = { { .max_memory = UINT64_MAX },
				  { .max_blocks = UINT32_MAX },
				  { .mode = 04777 } };
	odp_shm_capability_t capa;
	odp_instance_t id;
	size_t i;

	(void)state;
	errno = 0;
	assert_int_equal(odp_shm_capability(&capa), -1);
	assert_int_equal(errno, ENXIO);
	assert_invalid(odp_shm_reserve("x", 1, 0, 0), ENXIO);
	assert_invalid(odp_shm_lookup("x"), ENXIO);
	assert_invalid(odp_shm_import("x", 1, "x"), ENXIO);
	assert_minus_errno(odp_shm_free((odp_shm_t)1), ENXIO);
	assert_null_errno(odp_shm_addr((odp_shm_t)1), ENXIO);
	odp_shm_print_all();
	odp_shm_print((odp_shm_t)1);
	assert_minus_errno(odp_shm_term_local(), ENXIO);
	assert_minus_errno(odp_shm_term_global(1), ENXIO);
	assert_minus_errno(odp_shm_init_local(1), ENOENT);
	assert_minus_errno(odp_shm_init_global(NULL, NULL), EINVAL);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_minus_errno(odp_shm_init_global(&id, &bad[i]), EINVAL);
	setenv("ODP_SHM_DIR", box_path("nowhere"), 1);
	assert_minus_errno(odp_shm_init_global(&id, NULL), ENOENT);
}

/* ----- memory ----- */

static void a_full_file_system_is_an_error(void **state)
{
	static odp_shm_t shm[1000];
	odp_instance_t id;
	int n, i;

	(void)state;
	if (!box_can_mount()) {
		print_message("needs the right to mount\n");
		skip();
	}
	assert_int_equal(box_mount("tiny", "tmpfs", "size=64k"), 0);
	assert_int_equal(box_mount("small", "tmpfs", "size=8m"), 0);
	setenv("ODP_SHM_DIR", box_path("tiny"), 1);
	assert_minus_errno(odp_shm_init_global(&id, NULL), ENOMEM);
	setenv("ODP_SHM_DIR", box_path("small"), 1);
	assert_int_equal(odp_shm_init_global(&id, NULL), 0);
	for (n = 0; n < 1000; n++) {
		shm[n] = odp_shm_reserve("fill", 100000, 0, 0);
		if (!shm[n])
			break;
		memset(odp_shm_addr(shm[n]), 1, 100000);
	}
	assert_int_equal(errno, ENOMEM);
	assert_in_range(n, 30, 80);
	for (i = 0; i < n; i++)
		assert_int_equal(odp_shm_free(shm[i]), 0);
	assert_int_equal(odp_shm_free(odp_shm_reserve("a", 3 * MIB, 0, 0)), 0);
	assert_int_equal(odp_shm_term_global(id), 0);
	assert_int_equal(box_umount("small"), 0);
	assert_int_equal(box_umount("tiny"), 0);
}

static void lazy_blocks_take_no_memory_until_touched(void **state)
{
	odp_shm_setup_t setup = { .max_memory = MOST, .lazy_size = MIB };
	odp_instance_t id;
	odp_shm_info_t info;
	odp_shm_t shm, small;

	(void)state;
	if (!box_can_mount()) {
		print_message("needs the right to mount\n");
		skip();
	}
	assert_int_equal(box_mount("lazy", "tmpfs", "size=16m"), 0);
	setenv("ODP_SHM_DIR", box_path("lazy"), 1);
	assert_int_equal(odp_shm_init_global(&id, &setup), 0);
	shm = odp_shm_reserve("lazy", 300 * MIB, 4096, ODP_SHM_NO_HP);
	small = odp_shm_reserve("small", 1000, 0, 0);
	assert_true(shm && small);
	assert_int_equal(odp_shm_info(shm, &info), 0);
	memset(info.addr, 1, 10000);
	memset((char *)info.addr + 200 * MIB, 1, 10000);
	assert_invalid(odp_shm_reserve("now", 300 * MIB, 0, ODP_SHM_HP), errno);
	assert_int_equal(odp_shm_free(shm), 0);
	assert_int_equal(odp_shm_free(small), 0);
	assert_int_equal(odp_shm_term_global(id), 0);
	assert_int_equal(box_umount("lazy"), 0);
}

static uint64_t page_size_of(odp_shm_t shm)
{
	odp_shm_info_t info;

	assert_int_equal(odp_shm_info(shm, &info), 0);
	memset(info.addr, 1, info.size);
	return info.page_size;
}

/* By one of another instance, who then becomes one of this. */
static int import_and_free(struct peer *self, void *arg)
{
	odp_instance_t id = *(odp_instance_t *)arg, other;
	odp_shm_info_t info;
	odp_shm_t shm;

	(void)self;
	PEER_CHECK(!odp_shm_term_local());
	odp_own_zone(1);
	PEER_CHECK(!odp_shm_init_global(&other, NULL));
	shm = odp_shm_import("hp", id, "theirs");
	PEER_CHECK(shm && !odp_shm_info(shm, &info));
	PEER_CHECK(info.page_size > 4096 && *(char *)info.addr == 1);
	PEER_CHECK(!odp_shm_term_global(other));
	PEER_CHECK(!odp_shm_init_local(id));
	/* Which is not open in this process yet. */
	PEER_CHECK(!odp_shm_free(odp_shm_lookup("hp")));
	return 0;
}

static void huge_pages_where_they_are_asked_for_or_would_serve(void **state)
{
	size_t huge = tmc_alloc_get_huge_pagesize();
	uint64_t small = (uint64_t)sysconf(_SC_PAGESIZE);
	odp_instance_t instance;
	odp_shm_t a, b, c, d, more[64];
	int n;

	(void)state;
	if (!box_can_mount() || !huge || huge > 64 * MIB ||
	    box_pool(huge, 8) < 8) {
		box_pool_end();
		print_message("needs 8 huge pages and the right to mount\n");
		skip();
	}
	assert_int_equal(box_hugetlbfs("huge", huge, ""), 0);
	odp_own_zone(0);
	assert_int_equal(odp_begin(&instance, 0, 0), 0);
	a = odp_shm_reserve("hp", 100, huge, ODP_SHM_HP | ODP_SHM_EXPORT);
	b = odp_shm_reserve("free to choose", huge, 0, 0);
	c = odp_shm_reserve("no hp", huge, 0, ODP_SHM_NO_HP);
	d = odp_shm_reserve("small", 100, 0, 0);
	assert_true(a && b && c && d);
	assert_int_equal(page_size_of(a), huge);
	assert_int_equal((uintptr_t)odp_shm_addr(a) % huge, 0);
	assert_int_equal(page_size_of(b), huge);
	assert_int_equal(page_size_of(c), small);
	assert_int_equal(page_size_of(d), small);
	for (n = 0; n < 64; n++) {
		more[n] = odp_shm_reserve("all", huge, 0, ODP_SHM_HP);
		if (!more[n])
			break;
	}
	assert_int_equal(errno, ENOMEM);
	assert_int_equal(odp_shm_free(b), 0);
	/* There may be one in the pool again. */
	while ((b = odp_shm_reserve(NULL, huge, 0, ODP_SHM_HP)))
		more[n++] = b;
	b = odp_shm_reserve("small ones will do", 4 * huge, 0, 0);
	assert_int_equal(page_size_of(b), small);
	while (n)
		assert_int_equal(odp_shm_free(more[--n]), 0);
	assert_int_equal(peer_run(import_and_free, &instance), 0);
	assert_null(odp_shm_addr(a));
	assert_int_equal(odp_shm_free(b) | odp_shm_free(c) | odp_shm_free(d),
			 0);
	assert_int_equal(odp_shm_term_global(instance), 0);
	assert_int_equal(box_umount("huge"), 0);
	box_pool_end();
}

static void without_huge_pages_hp_fails_and_the_rest_is_small(void **state)
{
	size_t huge = tmc_alloc_get_huge_pagesize();
	odp_shm_t shm;

	(void)state;
	if (!box_can_mount()) {
		print_message("needs a place without hugetlbfs: to mount\n");
		skip();
	}
	assert_invalid(odp_shm_reserve("hp", 100, 0, ODP_SHM_HP), ENODEV);
	shm = odp_shm_reserve("large", huge ? huge : 2 * MIB, 0, 0);
	assert_int_equal(page_size_of(shm), sysconf(_SC_PAGESIZE));
	assert_int_equal(odp_shm_free(shm), 0);
}

/* ----- print ----- */

static int print_to_pipe(struct peer *self, void *arg)
{
	int fd = *(int *)arg;

	(void)self;
	PEER_CHECK(dup2(fd, STDOUT_FILENO) == STDOUT_FILENO);
	odp_shm_print_all();
	odp_shm_print(odp_shm_lookup("to be shown"));
	odp_shm_print((odp_shm_t)12345);
	fflush(stdout);
	return 0;
}

static void print_shows_what_there_is(void **state)
{
	odp_shm_t shm = odp_shm_reserve("to be shown", 4711, 256,
					ODP_SHM_PROC | ODP_SHM_EXPORT);
	odp_shm_t none = odp_shm_reserve(NULL, 17, 0, 0);
	odp_shm_t odd = odp_shm_reserve("\033[2J\n\x9bx", 1, 0, 0);
	char text[4096], handle[32];
	int fd[2];
	ssize_t n;

	(void)state;
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	assert_int_equal(peer_run(print_to_pipe, &fd[1]), 0);
	close(fd[1]);
	n = read(fd[0], text, sizeof(text) - 1);
	close(fd[0]);
	assert_true(n > 0);
	text[n] = 0;
	snprintf(handle, sizeof(handle), "%#llx",
		 (unsigned long long)odp_shm_to_u64(shm));
	assert_non_null(strstr(text, handle));
	assert_non_null(strstr(text, "to be shown"));
	assert_non_null(strstr(text, "4711"));
	assert_non_null(strstr(text, " PE "));
	assert_non_null(strstr(text, "3 blocks, own ones with 4729 bytes"));
	assert_non_null(strstr(text, "?[2J??x "));
	assert_non_null(strstr(text, "no shared memory block: 0x3039"));
	assert_int_equal(odp_shm_free(shm) | odp_shm_free(none), 0);
	assert_int_equal(odp_shm_free(odd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		odp_test(a_block_is_as_it_was_asked_for),
		odp_test(names_are_checked_and_need_not_be_unique),
		odp_test(every_alignment_can_be_had),
		odp_test(flags_and_sizes_are_checked),
		odp_test(bad_handles_are_refused),
		cmocka_unit_test(nothing_works_outside_of_an_instance),
		cmocka_unit_test(a_full_file_system_is_an_error),
		cmocka_unit_test(lazy_blocks_take_no_memory_until_touched),
		odp_test(without_huge_pages_hp_fails_and_the_rest_is_small),
		cmocka_unit_test(
			huge_pages_where_they_are_asked_for_or_would_serve),
		odp_test(print_shows_what_there_is),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
