/* SPDX-License-Identifier: BSD-3-Clause */
/* test_arena_peer.c - one arena in many processes: exec, fork, descriptors. */
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "kernel.h"
#include "list.h"
#include "peer.h"
#include "probe.h"

#define MAX (64 * MIB)
#define NOBODY 65534

static size_t page;

static int make_arena(void **state)
{
	*state = tmc_shmem_create(box_path("peer"), NULL, NULL, MAX);
	return *state ? 0 : -1;
}

static int drop_arena(void **state)
{
	tmc_shmem_close(*state);
	return tmc_shmem_unlink(box_path("peer"));
}

static const char *text(const char *format, size_t n)
{
	static char room[16][64];
	static unsigned int next;
	char *p = room[next++ % 16];

	snprintf(p, 64, format, n);
	return p;
}

#define VISIT(...)                                                             \
	peer_run_agent("visitor", (const char *[]){ __VA_ARGS__, NULL })

static void a_stranger_finds_the_same_data_at_the_same_address(void **state)
{
	tmc_shmem_t *shm = *state;
	const char *at = text("%zx", (size_t)tmc_shmem_address(shm));

	assert_int_equal(list_add(shm, 10000), 0);
	assert_int_equal(VISIT("open", box_path("peer"), "at", at, "list",
			       "10000", "add", "5000"),
			 0);
	assert_int_equal(list_count(shm), 15000);
	assert_int_equal(VISIT("open", box_path("peer"), "add", "1"), 0);
	assert_int_equal(list_count(shm), 15001);
}

static void peers_see_growth_and_data_with_no_call(void **state)
{
	tmc_shmem_t *shm = *state;
	const char *args[] = { "open",
			       box_path("peer"),
			       "size",
			       "0",
			       "step",
			       "get",
			       text("%zu", 20 * MIB - 1),
			       "77",
			       "size",
			       text("%zu", 20 * MIB),
			       "put",
			       text("%zu", 10 * MIB),
			       "78",
			       "grow",
			       text("%zu", 5 * MIB),
			       "step",
			       "size",
			       text("%zu", 26 * MIB),
			       NULL };
	struct peer p;
	uint64_t word;
	char *start;

	assert_int_equal(peer_exec(&p, "visitor", args), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	start = tmc_shmem_grow(shm, 20 * MIB);
	assert_non_null(start);
	start[20 * MIB - 1] = 77;
	assert_int_equal(peer_put(&p, 0), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	assert_int_equal(start[10 * MIB], 78);
	assert_int_equal(tmc_shmem_current_size(shm), 25 * MIB);
	start[25 * MIB - 1] = 1;
	assert_ptr_equal(tmc_shmem_grow(shm, MIB), start + 25 * MIB);
	assert_int_equal(peer_put(&p, 0), 0);
	assert_int_equal(peer_end(&p), 0);
}

static void the_cut_tail_raises_sigbus_in_every_process(void **state)
{
	tmc_shmem_t *shm = *state;
	const char *args[] = { "open", box_path("peer"),
			       "get",  text("%zu", 3 * page),
			       "1",    "step",
			       "bus",  text("%zu", 3 * page),
			       "get",  text("%zu", page),
			       "1",    NULL };
	char *start = tmc_shmem_grow(shm, 4 * page);
	struct peer p;
	uint64_t word;

	memset(start, 1, 4 * page);
	assert_int_equal(peer_exec(&p, "visitor", args), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	assert_int_equal(tmc_shmem_shrink(shm, (off_t)(2 * page), 2 * page), 0);
	assert_int_equal(peer_put(&p, 0), 0);
	assert_int_equal(peer_end(&p), 0);
	assert_int_equal(
		VISIT("open", box_path("peer"), "bus", text("%zu", 2 * page)),
		0);
}

static void a_shrink_of_what_a_peer_has_grown_is_refused(void **state)
{
	tmc_shmem_t *shm = *state;

	assert_non_null(tmc_shmem_grow(shm, page));
	assert_int_equal(VISIT("open", box_path("peer"), "grow", "1"), 0);
	assert_minus_errno(tmc_shmem_shrink(shm, 0, page), EINVAL);
	assert_int_equal(tmc_shmem_shrink(shm, 0, 2 * page), 0);
}

static void a_reader_reads_and_cannot_write(void **state)
{
	tmc_shmem_t *shm = *state;

	assert_int_equal(list_add(shm, 100), 0);
	assert_int_equal(VISIT("ro", box_path("peer"), "list", "100", "size",
			       text("%zu", tmc_shmem_current_size(shm)), "segv",
			       "0", "bus",
			       text("%zu", tmc_shmem_current_size(shm))),
			 0);
	assert_int_equal(list_count(shm), 100);
}

static int read_as_nobody(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;

	(void)self;
	(void)arg;
	PEER_CHECK(peer_become(NOBODY) == 0);
	PEER_CHECK(!tmc_shmem_open(box_path("peer")));
	PEER_CHECK(errno == EACCES);
	shm = tmc_shmem_open_readonly(box_path("peer"));
	PEER_CHECK(shm);
	PEER_CHECK(list_count(shm) == 100);
	PEER_CHECK(!tmc_shmem_grow(shm, 1) && errno == EACCES);
	PEER_CHECK(tmc_shmem_shrink(shm, 0, tmc_shmem_current_size(shm)) &&
		   errno == EACCES);
	PEER_CHECK(tmc_shmem_set_data(shm, NULL) && errno == EACCES);
	return 0;
}

/* Closed first: the peer must not have it through its parent. */
static void a_reader_needs_only_permission_to_read(void **state)
{
	if (!box_can_mount())
		skip();
	assert_int_equal(list_add(*state, 100), 0);
	assert_int_equal(fchmod(tmc_shmem_fd(*state), 0444), 0);
	tmc_shmem_close(*state);
	*state = NULL;
	assert_int_equal(peer_run(read_as_nobody, NULL), 0);
}

static int refused_as_nobody(struct peer *self, void *arg)
{
	(void)self;
	(void)arg;
	PEER_CHECK(peer_become(NOBODY) == 0);
	PEER_CHECK(!tmc_shmem_open(box_path("peer")) && errno == EACCES);
	PEER_CHECK(!tmc_shmem_open_readonly(box_path("peer")) &&
		   errno == EACCES);
	PEER_CHECK(tmc_shmem_unlink(box_path("peer")) == -1);
	PEER_CHECK(errno == EACCES || errno == EPERM);
	PEER_CHECK(!tmc_shmem_create(box_path("locked/x"), NULL, NULL, MIB));
	PEER_CHECK(errno == EACCES);
	return 0;
}

static void other_users_are_kept_out(void **state)
{
	if (!box_can_mount())
		skip();
	tmc_shmem_close(*state);
	*state = NULL;
	assert_int_equal(mkdir(box_path("locked"), 0755), 0);
	assert_int_equal(peer_run(refused_as_nobody, NULL), 0);
	assert_int_equal(rmdir(box_path("locked")), 0);
	assert_int_equal(access(box_path("peer"), F_OK), 0);
}

static int grow_as_nobody(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;

	(void)self;
	(void)arg;
	PEER_CHECK(peer_become(NOBODY) == 0);
	shm = tmc_shmem_open(box_path("peer"));
	PEER_CHECK(shm);
	PEER_CHECK(list_add(shm, 100) == 0);
	return 0;
}

static void fchmod_and_fchown_let_others_in(void **state)
{
	tmc_shmem_t *shm = *state;

	if (!box_can_mount())
		skip();
	assert_int_equal(fchmod(tmc_shmem_fd(shm), 0666), 0);
	tmc_shmem_close(shm);
	*state = NULL;
	assert_int_equal(peer_run(grow_as_nobody, NULL), 0);
	shm = tmc_shmem_open(box_path("peer"));
	assert_int_equal(fchmod(tmc_shmem_fd(shm), 0600), 0);
	assert_int_equal(fchown(tmc_shmem_fd(shm), NOBODY, NOBODY), 0);
	tmc_shmem_close(shm);
	assert_int_equal(peer_run(grow_as_nobody, NULL), 0);
	shm = tmc_shmem_open(box_path("peer"));
	assert_int_equal(list_count(shm), 200);
	tmc_shmem_close(shm);
}

static void inherited_descriptors_open_the_arena(void **state)
{
	tmc_shmem_t *shm = *state;
	int fd = dup(tmc_shmem_fd(shm)); /* without close-on-exec */
	int ro = open(box_path("peer"), O_RDONLY);

	assert_int_equal(list_add(shm, 10), 0);
	assert_int_equal(VISIT("fds", text("%zu", (size_t)fd), "-1", "list",
			       "10", "add", "10"),
			 0);
	assert_int_equal(list_count(shm), 20);
	assert_int_equal(VISIT("fds", text("%zu", (size_t)ro), "-1", "list",
			       "20", "segv", "0"),
			 0);
	close(fd);
	close(ro);
}

static void descriptors_over_a_socket_open_the_arena(void **state)
{
	tmc_shmem_t *shm = *state;
	const char *args[] = {
		"scm", "small", "list", "10", "add", "10", NULL
	};
	struct peer p;

	assert_int_equal(list_add(shm, 10), 0);
	assert_int_equal(peer_exec(&p, "visitor", args), 0);
	assert_int_equal(peer_put_fd(&p, tmc_shmem_fd(shm)), 0);
	assert_int_equal(peer_end(&p), 0);
	assert_int_equal(list_count(shm), 20);
}

/* Who may not open the file again through /proc duplicates the descriptor. */
static int grow_as_guest(struct peer *self, void *arg)
{
	uint64_t word;
	tmc_shmem_t *shm;
	int fd;

	(void)arg;
	PEER_CHECK(peer_become(NOBODY) == 0);
	fd = peer_get_fd(self);
	PEER_CHECK(fd >= 0);
	PEER_CHECK(!tmc_shmem_open(box_path("peer")) && errno == EACCES);
	shm = tmc_shmem_open_fds(fd, -1);
	PEER_CHECK(shm);
	close(fd);
	PEER_CHECK(list_add(shm, 100) == 0);
	PEER_CHECK(!peer_put(self, 1) && !peer_get(self, &word));
	PEER_CHECK(list_count(shm) == 200);
	PEER_CHECK(tmc_shmem_grow(shm, 8 * MIB));
	PEER_CHECK(word == 1 || raise(SIGKILL));
	tmc_shmem_close(shm);
	return 0;
}

static void a_guest_with_a_descriptor_alone_can_do_all(void **state)
{
	struct peer p;
	tmc_shmem_t *shm;
	uint64_t word;
	int killed;

	if (!box_can_mount())
		skip();
	tmc_shmem_close(*state);
	*state = NULL;
	for (killed = 0; killed < 2; killed++) {
		assert_int_equal(peer_fork(&p, grow_as_guest, NULL), 0);
		shm = tmc_shmem_open(box_path("peer"));
		assert_non_null(shm);
		assert_int_equal(tmc_shmem_set_data(shm, NULL), 0);
		assert_int_equal(peer_put_fd(&p, tmc_shmem_fd(shm)), 0);
		assert_int_equal(peer_get(&p, &word), 0);
		assert_int_equal(list_count(shm), 100);
		assert_int_equal(list_add(shm, 100), 0);
		assert_int_equal(peer_put(&p, !killed), 0);
		assert_int_equal(peer_end(&p), killed ? 128 + SIGKILL : 0);
		assert_non_null(tmc_shmem_grow(shm, 8 * MIB));
		tmc_shmem_close(shm);
	}
}

static void open_fds_leaves_the_callers_descriptors_alone(void **state)
{
	tmc_shmem_t *shm = *state, *other;
	int fd = dup(tmc_shmem_fd(shm));

	other = tmc_shmem_open_fds(fd, -1);
	assert_non_null(other);
	assert_int_not_equal(tmc_shmem_fd(other), fd);
	assert_int_equal(fcntl(fd, F_GETFD), 0);
	assert_int_equal(close(fd), 0);
	assert_non_null(tmc_shmem_grow(other, page));
	fd = dup(tmc_shmem_fd(shm));
	tmc_shmem_close(other);
	assert_int_equal(close(fd), 0);
}

static void open_fds_refuses_what_does_not_fit(void **state)
{
	tmc_shmem_t *shm = *state;
	int null = open("/dev/null", O_RDWR), p[2];

	assert_int_equal(pipe(p), 0);
	assert_null_errno(tmc_shmem_open_fds(-1, -1), EBADF);
	assert_null_errno(tmc_shmem_open_fds(1 << 20, -1), EBADF);
	assert_null_errno(tmc_shmem_open_fds(tmc_shmem_fd(shm), 1 << 20),
			  EBADF);
	assert_null_errno(tmc_shmem_open_fds(null, -1), EINVAL);
	assert_null_errno(tmc_shmem_open_fds(p[0], -1), EINVAL);
	assert_null_errno(tmc_shmem_open_fds(tmc_shmem_fd(shm), null), EINVAL);
	assert_null_errno(
		tmc_shmem_open_fds(tmc_shmem_fd(shm), tmc_shmem_fd(shm)),
		EINVAL);
	close(null);
	close(p[0]);
	close(p[1]);
}

static int use_in_child(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = arg;
	uint64_t word;
	char *p;

	PEER_CHECK(list_count(shm) == 10);
	p = tmc_shmem_grow(shm, 10 * MIB);
	PEER_CHECK(p);
	PEER_CHECK(probe_present(p, 10 * MIB) == 10 * MIB);
	memset(p, 4, 10 * MIB);
	PEER_CHECK(!peer_put(self, (uintptr_t)p));
	PEER_CHECK(!peer_get(self, &word));
	PEER_CHECK(*(char *)(uintptr_t)word == 5);
	PEER_CHECK(tmc_shmem_current_size(shm) == 20 * MIB + page);
	PEER_CHECK(list_count(shm) == 10);
	tmc_shmem_close(shm);
	return 0;
}

static void a_forked_child_uses_the_handle_and_both_see_growth(void **state)
{
	tmc_shmem_t *shm = *state;
	struct peer p;
	uint64_t word;
	char *q;

	assert_int_equal(list_add(shm, 10), 0);
	assert_int_equal(peer_fork(&p, use_in_child, shm), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	assert_int_equal(*(char *)(uintptr_t)word, 4);
	q = tmc_shmem_grow(shm, 10 * MIB);
	assert_ptr_equal(q, (char *)(uintptr_t)word + 10 * MIB);
	q[0] = 5;
	assert_int_equal(peer_put(&p, (uintptr_t)q), 0);
	assert_int_equal(peer_end(&p), 0);
	/* The child's close was its own. */
	assert_non_null(tmc_shmem_grow(shm, page));
	assert_int_equal(q[0], 5);
}

static int outlive_parent(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = arg;
	uint64_t word;

	PEER_CHECK(!peer_get(self, &word));
	PEER_CHECK(list_count(shm) == 10);
	PEER_CHECK(list_add(shm, 10) == 0);
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(box_path("peer"));
	PEER_CHECK(shm);
	PEER_CHECK(list_count(shm) == 20);
	return 0;
}

static void a_forked_child_goes_on_after_the_parents_close(void **state)
{
	struct peer p;

	assert_int_equal(list_add(*state, 10), 0);
	assert_int_equal(peer_fork(&p, outlive_parent, *state), 0);
	tmc_shmem_close(*state);
	*state = NULL;
	assert_int_equal(peer_put(&p, 0), 0);
	assert_int_equal(peer_end(&p), 0);
	*state = tmc_shmem_open(box_path("peer"));
	assert_int_equal(list_count(*state), 20);
}

static int read_in_child(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;

	(void)self;
	PEER_CHECK(list_count(arg) == 10);
	PEER_CHECK(!tmc_shmem_grow(arg, page) && errno == EACCES);
	shm = tmc_shmem_open(box_path("peer"));
	PEER_CHECK(shm && list_add(shm, 1) == 0);
	PEER_CHECK(list_count(arg) == 11);
	return 0;
}

static int read_and_fork(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = tmc_shmem_open_readonly(box_path("peer"));

	(void)self;
	(void)arg;
	PEER_CHECK(shm && list_count(shm) == 10);
	PEER_CHECK(peer_run(read_in_child, shm) == 0);
	PEER_CHECK(list_count(shm) == 11);
	return 0;
}

static void the_child_of_a_reader_is_a_reader(void **state)
{
	assert_int_equal(list_add(*state, 10), 0);
	tmc_shmem_close(*state);
	*state = NULL;
	assert_int_equal(peer_run(read_and_fork, NULL), 0);
	*state = tmc_shmem_open(box_path("peer"));
	assert_int_equal(list_count(*state), 11);
}

static int grow_in_grandchild(struct peer *self, void *arg)
{
	(void)self;
	return tmc_shmem_grow(arg, page) ? 0 : 1;
}

static int fork_again(struct peer *self, void *arg)
{
	int i;

	(void)self;
	for (i = 0; i < 20; i++)
		PEER_CHECK(peer_run(grow_in_grandchild, arg) == 0);
	PEER_CHECK(tmc_shmem_grow(arg, page));
	return 0;
}

static void children_of_children_grow_too(void **state)
{
	int i;

	for (i = 0; i < 3; i++)
		assert_int_equal(peer_run(fork_again, *state), 0);
	assert_int_equal(tmc_shmem_current_size(*state), 63 * page);
}

static int grow_forever(struct peer *self, void *arg)
{
	int i;

	peer_put(self, 0);
	for (i = 0; i < 500; i++) {
		char *p = tmc_shmem_grow(arg, page);

		PEER_CHECK(p);
		/* Also where others wait and it is mapped outside the lock. */
		PEER_CHECK(probe_present(p, page) == page);
		PEER_CHECK(probe_zero(p, page));
		memset(p, 1, page);
	}
	return 0;
}

static int grow_forever_on_an_old_kernel(struct peer *self, void *arg)
{
	PEER_CHECK(kernel_without_populate_write() == 0);
	return grow_forever(self, arg);
}

static int grow_forever_without_fallocate(struct peer *self, void *arg)
{
	PEER_CHECK(kernel_without_allocate() == 0);
	return grow_forever(self, arg);
}

static void processes_grow_at_once_and_get_different_pages(void **state)
{
	peer_fn *const fn[4] = { grow_forever, grow_forever,
				 grow_forever_on_an_old_kernel,
				 grow_forever_without_fallocate };
	struct peer p[4];
	uint64_t word;
	int i;

	for (i = 0; i < 4; i++) {
		assert_int_equal(peer_fork(&p[i], fn[i], *state), 0);
		assert_int_equal(peer_get(&p[i], &word), 0);
	}
	for (i = 0; i < 4; i++)
		assert_int_equal(peer_end(&p[i]), 0);
	assert_int_equal(tmc_shmem_current_size(*state), 2000 * page);
}

static void a_visitor_forks_and_its_child_goes_on(void **state)
{
	assert_int_equal(list_add(*state, 10), 0);
	assert_int_equal(VISIT("open", box_path("peer"), "forked", "list", "10",
			       "add", "10", "forked", "list", "20"),
			 0);
	assert_int_equal(list_count(*state), 20);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_arena, drop_arena)

/* ----- a fork while another thread opens ----- */

#define FORKS 200

static _Atomic int stop, failed;

/* Each time alone in there. */
static void *open_and_close(void *path)
{
	while (!stop) {
		tmc_shmem_t *shm = tmc_shmem_open(path);

		if (!shm)
			failed = errno;
		tmc_shmem_close(shm);
	}
	return NULL;
}

static int grow_if_open(struct peer *self, void *path)
{
	tmc_shmem_t *shm = tmc_shmem_open(path);

	(void)self;
	kernel_slow_unlock(0);
	PEER_CHECK(shm);
	PEER_CHECK(tmc_shmem_grow(shm, page));
	PEER_CHECK(!tmc_shmem_shrink(
		shm, (off_t)(tmc_shmem_current_size(shm) - page), page));
	tmc_shmem_close(shm);
	return 0;
}

/* Without a place of its own in it the child could not grow. */
static void a_child_made_in_the_middle_of_an_open_can_grow(void **state)
{
	const char *path = box_path("alone");
	pthread_t t;
	int i;

	(void)state;
	tmc_shmem_close(tmc_shmem_create(path, NULL, NULL, MAX));
	assert_int_equal(pthread_create(&t, NULL, open_and_close,
					(void *)(uintptr_t)path),
			 0);
	kernel_slow_unlock(100);
	for (i = 0; i < FORKS; i++)
		assert_int_equal(
			peer_run(grow_if_open, (void *)(uintptr_t)path), 0);
	kernel_slow_unlock(0);
	stop = 1;
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(failed, 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_stranger_finds_the_same_data_at_the_same_address),
		TEST(peers_see_growth_and_data_with_no_call),
		TEST(the_cut_tail_raises_sigbus_in_every_process),
		TEST(a_shrink_of_what_a_peer_has_grown_is_refused),
		TEST(a_reader_reads_and_cannot_write),
		TEST(a_reader_needs_only_permission_to_read),
		TEST(other_users_are_kept_out),
		TEST(fchmod_and_fchown_let_others_in),
		TEST(inherited_descriptors_open_the_arena),
		TEST(descriptors_over_a_socket_open_the_arena),
		TEST(a_guest_with_a_descriptor_alone_can_do_all),
		TEST(open_fds_leaves_the_callers_descriptors_alone),
		TEST(open_fds_refuses_what_does_not_fit),
		TEST(a_forked_child_uses_the_handle_and_both_see_growth),
		TEST(a_forked_child_goes_on_after_the_parents_close),
		TEST(the_child_of_a_reader_is_a_reader),
		TEST(children_of_children_grow_too),
		TEST(processes_grow_at_once_and_get_different_pages),
		TEST(a_visitor_forks_and_its_child_goes_on),
		cmocka_unit_test(
			a_child_made_in_the_middle_of_an_open_can_grow),
	};

	page = (size_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
