/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_lower_limit.c - RLIMIT_NOFILE lowered below an arena's descriptor, as
 * programs do that lock themselves in: its number cannot be used anew.
 */
#include "test.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "layout.h"
#include "peer.h"

#define ABOVE 64 /* descriptors that come before the arena's */

static size_t page;

/* The handle's descriptor is beyond the limit, and lower ones are free. */
static tmc_shmem_t *open_beyond(tmc_shmem_t *(*open_it)(const char *path))
{
	int low[ABOVE], i;
	struct rlimit limit;
	tmc_shmem_t *shm;

	for (i = 0; i < ABOVE; i++)
		low[i] = dup(0);
	shm = open_it(box_path("arena"));
	for (i = 0; i < ABOVE; i++)
		close(low[i]);
	if (getrlimit(RLIMIT_NOFILE, &limit))
		return NULL;
	limit.rlim_cur = (rlim_t)low[ABOVE / 2];
	return setrlimit(RLIMIT_NOFILE, &limit) ? NULL : shm;
}

/* Processes that have a slot, as the kernel tells. */
static int slots_held(void)
{
	const off_t end = (off_t)LAYOUT_LOCK_SLOT0 + LAYOUT_SLOTS;
	off_t at = (off_t)LAYOUT_LOCK_SLOT0 + LAYOUT_GUESTS;
	int fd = open(box_path("arena"), O_RDWR | O_CLOEXEC), n = 0;

	while (at < end) {
		struct flock l = {
			.l_type = F_WRLCK,
			.l_whence = SEEK_SET,
			.l_start = at,
			.l_len = 1,
		};

		assert_int_equal(fcntl(fd, F_OFD_GETLK, &l), 0);
		n += l.l_type != F_UNLCK;
		at++;
	}
	close(fd);
	return n;
}

static int read_and_want_to_write(struct peer *self, void *arg)
{
	tmc_shmem_t *reader;
	uint64_t word;

	(void)arg;
	PEER_CHECK(peer_get(self, &word) == 0);
	reader = open_beyond(tmc_shmem_open_readonly);
	PEER_CHECK(reader);
	PEER_CHECK(!tmc_shmem_open(box_path("arena")) && errno == EMFILE);
	PEER_CHECK(*(char *)tmc_shmem_address(reader) == 'x');
	PEER_CHECK(!tmc_shmem_grow(reader, page) && errno == EACCES);
	PEER_CHECK(peer_put(self, 0) == 0 && peer_get(self, &word) == 0);
	PEER_CHECK(*(char *)tmc_shmem_address(reader) == 'y');
	tmc_shmem_close(reader);
	return 0;
}

static void a_reader_that_cannot_become_a_writer_stops_nobody(void **state)
{
	tmc_shmem_t *shm;
	uint64_t word;
	struct peer p;
	char *base;

	(void)state;
	assert_int_equal(peer_fork(&p, read_and_want_to_write, NULL), 0);
	shm = tmc_shmem_create(box_path("arena"), NULL, NULL, MIB);
	base = tmc_shmem_grow(shm, page);
	assert_non_null(base);
	*base = 'x';
	tmc_shmem_close(shm);
	assert_int_equal(peer_put(&p, 0) || peer_get(&p, &word), 0);
	shm = tmc_shmem_open(box_path("arena"));
	assert_non_null(shm);
	assert_non_null(tmc_shmem_grow(shm, page));
	*base = 'y';
	assert_int_equal(peer_put(&p, 0), 0);
	assert_int_equal(peer_end(&p), 0);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink_idle(box_path("arena")), 0);
}

/* The child of a fork goes on, its parent closes. */
static int fork_and_close(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;
	uint64_t word;
	int status;
	pid_t pid;

	(void)arg;
	PEER_CHECK(peer_get(self, &word) == 0);
	shm = open_beyond(tmc_shmem_open);
	PEER_CHECK(shm);
	pid = fork();
	PEER_CHECK(pid >= 0);
	if (pid == 0) {
		PEER_CHECK(peer_put(self, 0) == 0);
		PEER_CHECK(peer_get(self, &word) == 0);
		PEER_CHECK(tmc_shmem_grow(shm, page));
		PEER_CHECK(fcntl(tmc_shmem_fd(shm), F_GETFD) == FD_CLOEXEC);
		tmc_shmem_close(shm);
		return 0;
	}
	tmc_shmem_close(shm);
	PEER_CHECK(peer_put(self, 0) == 0);
	PEER_CHECK(waitpid(pid, &status, 0) == pid);
	return status;
}

static void the_child_of_a_fork_does_not_keep_its_parents_place(void **state)
{
	tmc_shmem_t *shm;
	uint64_t word;
	struct peer p;

	(void)state;
	assert_int_equal(peer_fork(&p, fork_and_close, NULL), 0);
	shm = tmc_shmem_create(box_path("arena"), NULL, NULL, MIB);
	assert_non_null(shm);
	assert_int_equal(slots_held(), 1);
	assert_int_equal(peer_put(&p, 0), 0);
	assert_int_equal(peer_get(&p, &word) || peer_get(&p, &word), 0);
	assert_int_equal(slots_held(), 2); /* ours and the child's */
	assert_int_equal(peer_put(&p, 0), 0);
	assert_int_equal(peer_end(&p), 0);
	assert_int_equal(tmc_shmem_current_size(shm), page);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink_idle(box_path("arena")), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_reader_that_cannot_become_a_writer_stops_nobody),
		cmocka_unit_test(
			the_child_of_a_fork_does_not_keep_its_parents_place),
	};

	page = (size_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
