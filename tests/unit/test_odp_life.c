/* SPDX-License-Identifier: BSD-3-Clause */
/* test_odp_life.c - instances of examples/odp_shm: joined, imported from, dead
 * and swept away. */
#include "odp.h"

#include <signal.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmem.h>

#include "../../examples/odp_shm/internal.h"
#include "peer.h"

#define LAZY ODP_TEST_LAZY

/* An instance of the box, of this process or a peer's. */
static odp_instance_t begin(void)
{
	odp_instance_t id;

	return odp_begin(&id, 64, LAZY) ? 0 : id;
}

static int in_box(void **state)
{
	(void)state;
	odp_own_zone(0);
	odp_shm_term_local(); /* what a failed test may be in */
	return setenv("ODP_SHM_DIR", box_path(""), 1);
}

/* What a new instance does first. */
static void sweep(void)
{
	odp_instance_t id = begin();

	assert_true(id);
	assert_int_equal(odp_shm_term_global(id), 0);
}

/* ----- a peer with an instance of its own, or in one ----- */

enum order { RESERVE_ALL = 1, FREE_ALL, JOIN, IMPORT, ADDR_OF, END, LEAVE };

static int reserve_all(void)
{
	const uint32_t flags = ODP_SHM_EXPORT | ODP_SHM_NO_HP;
	odp_shm_t a = odp_shm_reserve("exported", 1000, 0, flags);
	odp_shm_t b = odp_shm_reserve("lazy", LAZY, 4096, flags);
	odp_shm_t c = odp_shm_reserve("not exported", 1000, 0, 0);

	PEER_CHECK(a && b && c);
	strcpy(odp_shm_addr(a), "hello");
	strcpy(odp_shm_addr(b), "hello, lazily");
	return 0;
}

static int free_all(void)
{
	PEER_CHECK(!odp_shm_free(odp_shm_lookup("exported")));
	PEER_CHECK(!odp_shm_free(odp_shm_lookup("lazy")));
	PEER_CHECK(!odp_shm_free(odp_shm_lookup("not exported")));
	return 0;
}

/* Each order has an argument, and an answer. */
static int serve(struct peer *self, void *arg)
{
	uint64_t order, with, answer;
	odp_instance_t id = 0;

	odp_own_zone(*(unsigned int *)arg);
	/* What our parent may be in. */
	odp_shm_term_local();
	while (!peer_get(self, &order) && !peer_get(self, &with)) {
		answer = 0;
		switch (order) {
		case RESERVE_ALL:
			id = begin();
			PEER_CHECK(id && !reserve_all());
			answer = id;
			break;
		case FREE_ALL:
			answer = (uint64_t)free_all();
			break;
		case JOIN:
			answer = odp_shm_init_local(with) ? (uint64_t)errno : 0;
			break;
		case IMPORT: /* into an instance of ours */
			if (!id)
				id = begin();
			answer = (uintptr_t)odp_shm_import("lazy", with, "l");
			break;
		case ADDR_OF:
			answer = (uintptr_t)odp_shm_addr((odp_shm_t)with);
			break;
		case END:
			answer = odp_shm_term_global(id) ? (uint64_t)errno : 0;
			break;
		case LEAVE:
			answer = (uint64_t)odp_shm_term_local();
			break;
		}
		PEER_CHECK(!peer_put(self, answer));
	}
	return 0;
}

static void start(struct peer *p)
{
	static unsigned int number;

	number = number % 3 + 1; /* ours is 0 */
	assert_int_equal(peer_fork(p, serve, &number), 0);
}

static uint64_t ask(struct peer *p, enum order order, uint64_t with)
{
	uint64_t answer;

	assert_int_equal(peer_put(p, order) | peer_put(p, with), 0);
	assert_int_equal(peer_get(p, &answer), 0);
	return answer;
}

/* ----- export and import ----- */

static void exported_blocks_can_be_imported(void **state)
{
	struct peer other, third;
	odp_instance_t theirs, ours;
	odp_shm_t a, b;
	odp_shm_info_t info;

	(void)state;
	start(&other);
	start(&third);
	theirs = ask(&other, RESERVE_ALL, 0);
	ours = begin();
	assert_true(ours && ours != theirs);
	a = odp_shm_import("exported", theirs, "mine");
	b = odp_shm_import("lazy", theirs, NULL);
	assert_true(a && b && odp_shm_lookup("mine") == a);
	assert_string_equal(odp_shm_addr(a), "hello");
	assert_string_equal(odp_shm_addr(b), "hello, lazily");
	assert_int_equal(odp_shm_info(a, &info), 0);
	assert_string_equal(info.name, "mine");
	assert_int_equal(info.size, 1000);
	assert_ptr_equal(info.addr, odp_shm_addr(a));
	odp_shm_print_all();

	/* The same address there, and in a process of ours that did not import
	 * it. */
	assert_int_equal(ask(&third, JOIN, ours), 0);
	assert_int_equal(ask(&third, ADDR_OF, odp_shm_to_u64(a)),
			 (uintptr_t)info.addr);
	assert_int_equal(ask(&third, ADDR_OF, odp_shm_to_u64(b)),
			 (uintptr_t)odp_shm_addr(b));

	/* Ours is but the handle. */
	assert_int_equal(odp_shm_free(a), 0);
	assert_null(odp_shm_addr(a));
	a = odp_shm_import("exported", theirs, "again");
	assert_string_equal(odp_shm_addr(a), "hello");
	assert_int_equal(ask(&other, END, 0), EBUSY);
	assert_int_equal(ask(&other, FREE_ALL, 0), 0);
	assert_null(odp_shm_addr(a));
	assert_null(odp_shm_addr(b));
	assert_int_equal(odp_shm_info(a, &info), -1);
	assert_int_equal(odp_shm_free(a) | odp_shm_free(b), 0);
	assert_int_equal(odp_shm_term_global(ours), -1);
	assert_int_equal(peer_end(&third), 0);
	assert_int_equal(odp_shm_term_global(ours), 0);
	assert_int_equal(ask(&other, END, 0), 0);
	assert_int_equal(peer_end(&other), 0);
	assert_int_equal(odp_files("odp-"), 0);
}

static void imports_are_checked(void **state)
{
	char name[100];
	struct peer other;
	odp_instance_t theirs, ours;

	(void)state;
	start(&other);
	theirs = ask(&other, RESERVE_ALL, 0);
	ours = begin();
	memset(name, 'n', sizeof(name));
	name[99] = 0;
#define assert_no_import(name, id, local, err)                                 \
	do {                                                                   \
		errno = 0;                                                     \
		assert_true(!odp_shm_import(name, id, local));                 \
		assert_int_equal(errno, err);                                  \
	} while (0)
	assert_no_import("not exported", theirs, "x", ENOENT);
	assert_no_import("not there", theirs, "x", ENOENT);
	assert_no_import(NULL, theirs, "x", EINVAL);
	assert_no_import("", theirs, "x", EINVAL);
	assert_no_import(name, theirs, "x", ENAMETOOLONG);
	assert_no_import("exported", theirs, name, ENAMETOOLONG);
	assert_no_import("exported", ours, "x", EINVAL);
	assert_no_import("exported", 0, "x", ENOENT);
	assert_no_import("exported", UINT64_MAX, "x", ENOENT);
	assert_true(!odp_shm_lookup("x"));
	assert_int_equal(odp_shm_term_global(ours), 0);
	assert_int_equal(ask(&other, END, 0), 0);
	assert_int_equal(peer_end(&other), 0);
}

/* ----- deaths ----- */

static void a_killed_holders_blocks_stay(void **state)
{
	struct peer holder;
	odp_instance_t id = begin();
	odp_shm_t shm;

	(void)state;
	start(&holder);
	assert_int_equal(ask(&holder, JOIN, id), 0);
	assert_int_equal(reserve_all(), 0);
	shm = odp_shm_lookup("lazy");
	assert_int_equal(ask(&holder, ADDR_OF, odp_shm_to_u64(shm)),
			 (uintptr_t)odp_shm_addr(shm));
	peer_kill(&holder);
	assert_string_equal(odp_shm_addr(shm), "hello, lazily");
	assert_int_equal(free_all(), 0);
	assert_int_equal(odp_shm_term_global(id), 0);
}

static int hold_and_die(struct peer *self, void *arg)
{
	odp_shm_term_local();
	PEER_CHECK(!odp_shm_init_local(*(odp_instance_t *)arg));
	PEER_CHECK(!reserve_all());
	PEER_CHECK(!peer_put(self, 0));
	raise(SIGKILL);
	return 0;
}

static void what_the_killed_have_reserved_others_free(void **state)
{
	odp_instance_t id = begin();

	(void)state;
	assert_int_equal(peer_run(hold_and_die, &id), 128 + SIGKILL);
	assert_string_equal(odp_shm_addr(odp_shm_lookup("exported")), "hello");
	assert_string_equal(odp_shm_addr(odp_shm_lookup("lazy")),
			    "hello, lazily");
	assert_int_equal(free_all(), 0);
	assert_int_equal(odp_shm_term_global(id), 0);
	assert_int_equal(odp_files("odp-"), 0);
}

static void leftovers_go_when_nobody_uses_them(void **state)
{
	struct peer maker, member, importer;
	odp_instance_t id;

	(void)state;
	start(&maker);
	start(&member);
	start(&importer);
	id = ask(&maker, RESERVE_ALL, 0);
	assert_int_equal(odp_files_of(id), 2);
	assert_int_equal(ask(&member, JOIN, id), 0);
	assert_true(ask(&importer, IMPORT, id));
	sweep();
	assert_int_equal(odp_files_of(id), 2);
	peer_kill(&maker);
	sweep();
	assert_int_equal(odp_files_of(id), 2);
	assert_int_equal(ask(&member, LEAVE, 0), 0);
	sweep();
	assert_int_equal(odp_files_of(id), 2); /* has been imported */
	assert_int_equal(ask(&importer, END, 0), 0);
	sweep();
	assert_int_equal(odp_files_of(id), 0);
	assert_int_equal(peer_end(&member) | peer_end(&importer), 0);
	assert_int_equal(odp_files("odp-"), 0);
}

static int wait_for_end(struct peer *self, void *arg)
{
	uint64_t word;

	(void)arg;
	peer_get(self, &word);
	PEER_CHECK(!free_all());
	return 0;
}

/* A child of a fork is in it by what it has inherited. */
static int make_and_leave_child(struct peer *self, void *arg)
{
	odp_instance_t id = begin();
	struct peer *child = arg;

	PEER_CHECK(id && !reserve_all());
	PEER_CHECK(!peer_fork(child, wait_for_end, NULL));
	PEER_CHECK(!peer_put(self, id) && !peer_put_fd(self, child->fd));
	peer_get(self, &id);
	return 0;
}

static void a_child_keeps_its_parents_instance(void **state)
{
	struct peer parent, child = { .fd = -1 };
	odp_instance_t id;

	(void)state;
	assert_int_equal(peer_fork(&parent, make_and_leave_child, &child), 0);
	assert_int_equal(peer_get(&parent, &id), 0);
	sweep();
	assert_int_equal(odp_files_of(id), 2);
	peer_end(&parent); /* and with it its child */
	while (odp_files_of(id))
		sweep();
}

/* ----- what only looks like it ----- */

static void other_files_of_such_names_stay(void **state)
{
	const odp_instance_t id = 0x12345;
	tmc_shmem_t *shm;
	FILE *f = fopen(odp_file_of(id), "w");

	(void)state;
	assert_non_null(f);
	fputs("somebody's", f);
	fclose(f);
	assert_int_equal(mkfifo(odp_file_of(id + 1), 0600), 0);
	assert_int_equal(mkdir(odp_file_of(id + 2), 0700), 0);
	assert_int_equal(symlink(odp_file_of(id), odp_file_of(id + 3)), 0);
	shm = tmc_shmem_create(box_path("odp-12345"), NULL, NULL, MIB);
	assert_non_null(shm);
	tmc_shmem_close(shm);
	sweep();
	assert_int_equal(odp_files("odp-"), 5);
	assert_minus_errno(odp_shm_init_local(id), EINVAL);
	assert_int_equal(odp_shm_init_local(id + 1), -1);
	assert_int_equal(odp_shm_init_local(id + 2), -1);
	assert_int_equal(odp_shm_init_local(id + 3), -1);
	assert_int_equal(unlink(odp_file_of(id)) | unlink(odp_file_of(id + 1)) |
				 rmdir(odp_file_of(id + 2)) |
				 unlink(odp_file_of(id + 3)),
			 0);
	assert_int_equal(tmc_shmem_unlink(box_path("odp-12345")), 0);
}

/* What a maker leaves who dies in the middle. */
static void half_made_instances_cannot_be_joined_and_go(void **state)
{
	const odp_instance_t id = 0xabcdef;
	char further[ODP_SHM_NAME_LEN * 2];
	uint64_t *word;
	tmc_shmem_t *shm = tmc_shmem_create(odp_file_of(id), NULL, NULL, MIB);

	(void)state;
	assert_non_null(shm);
	assert_minus_errno(odp_shm_init_local(id), ENOENT);
	word = tmc_shmem_grow(shm, 4096);
	assert_int_equal(tmc_shmem_set_data(shm, word), 0);
	word[1] = 8; /* lines of a table, for which there is room */
	assert_minus_errno(odp_shm_init_local(id), EINVAL); /* no magic */
	word[0] = 0x3130647365706d73; /* of a complete one */
	word[1] = 64;
	assert_minus_errno(odp_shm_init_local(id), EINVAL); /* no room */
	word[1] = 7;
	assert_minus_errno(odp_shm_init_local(id), EINVAL); /* no power of 2 */
	word[1] = 0;
	assert_minus_errno(odp_shm_init_local(id), EINVAL);
	assert_int_equal(tmc_shmem_set_data(shm, word + 512), 0);
	assert_minus_errno(odp_shm_init_local(id), EINVAL); /* beyond */
	tmc_shmem_close(shm);
	/* And one whose first file has gone already. */
	snprintf(further, sizeof(further), "odp-%016x.lz-abcdef", 0x77);
	shm = tmc_shmem_create(box_path(further), NULL, NULL, MIB);
	assert_non_null(shm);
	tmc_shmem_close(shm);
	assert_int_equal(odp_files("odp-"), 2);
	sweep();
	assert_int_equal(odp_files("odp-"), 0);
}

/* Slots and records with anything in them. */
static int look_at_damage(struct peer *self, void *arg)
{
	struct odp_directory *d = odpi_self()->dir;
	unsigned int rng = (unsigned int)(uintptr_t)arg;
	uint64_t i, k, word;
	odp_shm_info_t info;

	(void)self;
	for (i = 0; i < d->nlines; i++)
		for (k = 0; k < 8; k++) {
			word = (uint64_t)rand_r(&rng) << 33 ^
			       (uint64_t)rand_r(&rng);
			(&d->line[i].reach)[k] = word >> rand_r(&rng) % 48;
		}
	d->nlines = UINT64_MAX;
	PEER_CHECK(freopen("/dev/null", "w", stdout));
	odp_shm_print_all();
	for (i = 0; i < 100000; i++) {
		odp_shm_t shm = (odp_shm_t)((i % 200 + 1) |
					    (uint64_t)rand_r(&rng) % 64 << 40);
		char name[2] = { (char)(i % 255 + 1) };

		odp_shm_addr(shm);
		odp_shm_info(shm, &info);
		odp_shm_lookup(name);
	}
	return 0;
}

static void a_damaged_table_makes_calls_fail(void **state)
{
	uintptr_t i;

	(void)state;
	for (i = 0; i < 20; i++) {
		odp_instance_t id = begin();

		assert_int_equal(reserve_all(), 0);
		assert_int_equal(peer_run(look_at_damage, (void *)i), 0);
		assert_int_equal(odp_shm_term_global(id), 0);
	}
}

static int reserve_lazy(struct peer *self, void *arg)
{
	odp_instance_t id = *(odp_instance_t *)arg;
	odp_shm_t shm;
	uint64_t word;

	odp_shm_term_local();
	PEER_CHECK(!odp_shm_init_local(id));
	PEER_CHECK(!peer_put(self, 0) && !peer_get(self, &word));
	shm = odp_shm_reserve(NULL, LAZY, 0, ODP_SHM_NO_HP);
	PEER_CHECK(shm);
	memset(odp_shm_addr(shm), 1, 100);
	PEER_CHECK(!odp_shm_free(shm));
	return 0;
}

static void a_further_arena_is_made_once_by_many(void **state)
{
	struct peer p[8];
	uint64_t word;
	int i, round;

	(void)state;
	for (round = 0; round < 20; round++) {
		odp_instance_t id = begin();

		for (i = 0; i < 8; i++) {
			assert_int_equal(peer_fork(&p[i], reserve_lazy, &id),
					 0);
			assert_int_equal(peer_get(&p[i], &word), 0);
		}
		for (i = 0; i < 8; i++)
			assert_int_equal(peer_put(&p[i], 0), 0);
		for (i = 0; i < 8; i++)
			assert_int_equal(peer_end(&p[i]), 0);
		assert_int_equal(odp_files_of(id), 2);
		assert_int_equal(odp_shm_term_global(id), 0);
		assert_int_equal(odp_files_of(id), 0);
	}
}

static int may_not_end_it(struct peer *self, void *arg)
{
	odp_instance_t id = *(odp_instance_t *)arg;

	(void)self;
	PEER_CHECK(odp_shm_term_global(id) == -1 && errno == EPERM);
	/* It has left nothing by that, and can leave, and join by itself. */
	PEER_CHECK(odp_shm_lookup("x") != ODP_SHM_INVALID);
	PEER_CHECK(!odp_shm_term_local());
	PEER_CHECK(!odp_shm_init_local(id));
	PEER_CHECK(odp_shm_term_global(id) == -1 && errno == EBUSY);
	return 0;
}

static void a_child_does_not_end_its_parents_instance(void **state)
{
	odp_instance_t id = begin();
	odp_shm_t x = odp_shm_reserve("x", 1, 0, 0);

	(void)state;
	assert_true(x != ODP_SHM_INVALID);
	assert_int_equal(peer_run(may_not_end_it, &id), 0);
	assert_int_equal(access(odp_file_of(id), F_OK), 0);
	assert_int_equal(odp_shm_term_global(id), 0);
}

/* Process 1 of a namespace, as the first in a container is; its child is the
 * same in another one. */
static int first_of_two(void)
{
	odp_instance_t id = begin();
	int status = -1;
	pid_t pid;

	if (getpid() != 1 || !id || unshare(CLONE_NEWPID))
		return 1;
	pid = fork();
	if (!pid)
		_exit(getpid() != 1 || odp_shm_term_global(id) != -1 ||
		      errno != EPERM);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		return 2;
	return odp_shm_term_global(id) ? 3 : 0;
}

static int in_a_namespace(struct peer *self, void *arg)
{
	int status = -1;
	pid_t pid;

	(void)self;
	(void)arg;
	if (unshare(CLONE_NEWPID))
		return 77;
	pid = fork();
	if (!pid)
		_exit(first_of_two());
	PEER_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	PEER_CHECK(!status);
	return 0;
}

static void a_child_with_the_same_id_does_not_either(void **state)
{
	int code = peer_run(in_a_namespace, NULL);

	(void)state;
	if (code == 77) {
		print_message("no PID namespaces\n");
		skip();
	}
	assert_int_equal(code, 0);
}

static void the_last_one_ends_an_instance(void **state)
{
	struct peer member;
	odp_instance_t id = begin(), other;

	(void)state;
	assert_minus_errno(odp_shm_init_global(&other, NULL), EBUSY);
	assert_minus_errno(odp_shm_init_local(id), EBUSY);
	assert_minus_errno(odp_shm_term_global(id + 1), EINVAL);
	start(&member);
	assert_int_equal(ask(&member, JOIN, id), 0);
	assert_minus_errno(odp_shm_term_global(id), EBUSY);
	assert_int_equal(ask(&member, LEAVE, 0), 0);
	assert_int_equal(odp_shm_term_global(id), 0);
	assert_int_equal(ask(&member, JOIN, id), ENOENT);
	assert_int_equal(peer_end(&member), 0);
}

static void others_may_join_if_the_mode_lets_them(void **state)
{
	const odp_shm_setup_t open = { .max_memory = GIB,
				       .mode = 0660,
				       .lazy_size = LAZY };
	struct stat st;
	odp_instance_t id = begin();

	(void)state;
	assert_int_equal(stat(odp_file_of(id), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(odp_shm_term_global(id), 0);
	assert_int_equal(odp_shm_init_global(&id, &open), 0);
	assert_int_equal(stat(odp_file_of(id), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(odp_shm_term_global(id), 0);
}

#define in_the_box(test) cmocka_unit_test_setup(test, in_box)

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_the_box(exported_blocks_can_be_imported),
		in_the_box(imports_are_checked),
		in_the_box(a_killed_holders_blocks_stay),
		in_the_box(what_the_killed_have_reserved_others_free),
		in_the_box(leftovers_go_when_nobody_uses_them),
		in_the_box(a_child_keeps_its_parents_instance),
		in_the_box(a_child_does_not_end_its_parents_instance),
		in_the_box(a_child_with_the_same_id_does_not_either),
		in_the_box(other_files_of_such_names_stay),
		in_the_box(half_made_instances_cannot_be_joined_and_go),
		in_the_box(a_damaged_table_makes_calls_fail),
		in_the_box(a_further_arena_is_made_once_by_many),
		in_the_box(the_last_one_ends_an_instance),
		in_the_box(others_may_join_if_the_mode_lets_them),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
