/* SPDX-License-Identifier: BSD-3-Clause */
/* test_guest.c - descriptors of a file that the receiver may not open. */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmem.h>

#include "kernel.h"
#include "layout.h"
#include "peer.h"
#include "step.h"

#define NOBODY 65534
#define GUESTS 256 /* LAYOUT_GUESTS */
#define ROUNDS 300
#define KILLS 60
#define BIG (5 * MIB) /* two pieces, populated outside the lock */

static size_t page;

/* After the peers have been forked, so that they do not inherit a handle. */
static tmc_shmem_t *create(const char *name)
{
	return tmc_shmem_create(box_path(name), NULL, NULL, GIB);
}

/* A handle from the descriptor that comes over the socket. */
static tmc_shmem_t *receive(struct peer *self)
{
	int fd = peer_get_fd(self);
	tmc_shmem_t *shm = fd < 0 ? NULL : tmc_shmem_open_fds(fd, -1);

	close(fd);
	return shm;
}

static int as_nobody(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;
	char *p;

	(void)arg;
	PEER_CHECK(peer_become(NOBODY) == 0);
	shm = receive(self);
	PEER_CHECK(shm);
	p = tmc_shmem_address(shm);
	PEER_CHECK(*p == 'x');
	PEER_CHECK(tmc_shmem_grow(shm, page) == p + page);
	p[page] = 'y';
	PEER_CHECK(tmc_shmem_grow(shm, page) == p + 2 * page);
	PEER_CHECK(tmc_shmem_shrink(shm, (off_t)(2 * page), page) == 0);
	tmc_shmem_close(shm);
	return 0;
}

static void another_user_uses_what_he_may_not_open(void **state)
{
	tmc_shmem_t *shm;
	struct peer p;
	char *base;

	(void)state;
	if (!box_can_mount())
		skip();
	assert_int_equal(peer_fork(&p, as_nobody, NULL), 0);
	shm = create("user");
	assert_non_null(shm);
	base = tmc_shmem_grow(shm, page);
	assert_non_null(base);
	*base = 'x';
	assert_int_equal(tmc_shmem_unlink(box_path("user")), 0);
	assert_int_equal(peer_put_fd(&p, tmc_shmem_fd(shm)), 0);
	assert_int_equal(peer_end(&p), 0);
	assert_int_equal(base[page], 'y');
	assert_int_equal(tmc_shmem_current_size(shm), 2 * page);
	tmc_shmem_close(shm);
}

/* Pages that others do not get: each writes into its own and looks again. */
static int grow_and_look(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;
	int i;

	(void)arg;
	kernel_without_reopen();
	shm = receive(self);
	PEER_CHECK(shm);
	for (i = 0; i < ROUNDS; i++) {
		volatile int *p = tmc_shmem_grow(shm, page);

		PEER_CHECK(p && *p == 0);
		*p = getpid();
		PEER_CHECK(*p == getpid());
	}
	tmc_shmem_close(shm);
	return 0;
}

static void guests_and_their_host_share_the_lock(void **state)
{
	tmc_shmem_t *shm;
	struct peer p[3];
	int i;

	(void)state;
	for (i = 0; i < 3; i++)
		assert_int_equal(peer_fork(&p[i], grow_and_look, NULL), 0);
	shm = create("share");
	assert_non_null(shm);
	for (i = 0; i < 3; i++) {
		assert_int_equal(peer_put_fd(&p[i], tmc_shmem_fd(shm)), 0);
	}
	for (i = 0; i < ROUNDS; i++)
		assert_non_null(tmc_shmem_grow(shm, page));
	for (i = 0; i < 3; i++)
		assert_int_equal(peer_end(&p[i]), 0);
	assert_int_equal(tmc_shmem_current_size(shm), 4 * ROUNDS * page);
	tmc_shmem_close(shm);
}

static int grow_for_ever(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;

	(void)arg;
	kernel_without_reopen();
	shm = receive(self);
	PEER_CHECK(shm);
	PEER_CHECK(peer_put(self, 1) == 0);
	for (;;) {
		if (tmc_shmem_grow(shm, page))
			tmc_shmem_shrink(shm, 0, page);
	}
}

/* Wherever it dies, also inside the lock. */
static void a_killed_guest_stops_nobody(void **state)
{
	static struct peer p[KILLS];
	tmc_shmem_t *shm;
	uint64_t word;
	int i, k;

	(void)state;
	for (i = 0; i < KILLS; i++)
		assert_int_equal(peer_fork(&p[i], grow_for_ever, NULL), 0);
	shm = create("kill");
	assert_non_null(shm);
	for (i = 0; i < KILLS; i++) {
		assert_int_equal(peer_put_fd(&p[i], tmc_shmem_fd(shm)), 0);
		assert_int_equal(peer_get(&p[i], &word), 0);
		for (k = 0; k < i; k++)
			tmc_shmem_current_size(shm);
		peer_kill(&p[i]);
		assert_non_null(tmc_shmem_grow(shm, page));
		assert_int_equal(
			tmc_shmem_shrink(shm, 0, tmc_shmem_current_size(shm)),
			0);
	}
	tmc_shmem_close(shm);
}

/* More than there is room for: those who are in go on. */
static int crowd(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;
	pid_t child[GUESTS + 8];
	int i, n = 0, status, refused = 0, pipes[2], stay[2];
	char c;

	(void)arg;
	kernel_without_reopen();
	shm = receive(self);
	PEER_CHECK(shm);
	PEER_CHECK(pipe(pipes) == 0 && pipe(stay) == 0);
	for (n = 0; n < GUESTS + 8; n++) {
		child[n] = fork();
		PEER_CHECK(child[n] >= 0);
		if (!child[n]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			char *p = tmc_shmem_grow(shm, page);

			close(pipes[0]);
			close(stay[1]);
			c = p ? 'g' : errno == EUSERS ? 'u' : '?';
			if (write(pipes[1], &c, 1) != 1)
				_exit(1);
			_exit(read(stay[0], &c, 1) != 0);
		}
	}
	for (i = 0; i < n; i++) {
		PEER_CHECK(read(pipes[0], &c, 1) == 1);
		PEER_CHECK(c == 'g' || c == 'u');
		refused += c == 'u';
	}
	PEER_CHECK(refused == 9); /* we have one of the places */
	PEER_CHECK(tmc_shmem_grow(shm, page));
	close(stay[1]);
	for (i = 0; i < n; i++) {
		PEER_CHECK(waitpid(child[i], &status, 0) == child[i]);
		PEER_CHECK(status == 0);
	}
	tmc_shmem_close(shm);
	return 0;
}

static void guests_beyond_the_number_are_told_eusers(void **state)
{
	tmc_shmem_t *shm;
	struct peer p, late;

	(void)state;
	assert_int_equal(peer_fork(&p, crowd, NULL), 0);
	assert_int_equal(peer_fork(&late, grow_and_look, NULL), 0);
	shm = create("crowd");
	assert_non_null(shm);
	assert_int_equal(peer_put_fd(&p, tmc_shmem_fd(shm)), 0);
	assert_int_equal(peer_end(&p), 0);
	/* The dead ones' places are free when nobody has it open. */
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(box_path("crowd"));
	assert_non_null(shm);
	assert_int_equal(peer_put_fd(&late, tmc_shmem_fd(shm)), 0);
	assert_int_equal(peer_end(&late), 0);
	tmc_shmem_close(shm);
}

/* A reader that would like to write, and finds no place for one more guest. */
static int read_on(struct peer *self, void *arg)
{
	uint64_t word;
	tmc_shmem_t *reader;

	(void)arg;
	PEER_CHECK(peer_get(self, &word) == 0);
	reader = tmc_shmem_open_readonly(box_path("full"));
	kernel_without_reopen();
	PEER_CHECK(reader && peer_put(self, 0) == 0);
	PEER_CHECK(!receive(self) && errno == EUSERS);
	PEER_CHECK(*(char *)tmc_shmem_address(reader) == 'x');
	PEER_CHECK(!tmc_shmem_grow(reader, page) && errno == EACCES);
	PEER_CHECK(peer_put(self, 0) == 0 && peer_get(self, &word) == 0);
	tmc_shmem_close(reader);
	return 0;
}

/* Whether the kernel still knows of a process that has a slot of its own. */
static int slot_is_held(const char *path)
{
	struct flock l = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = (off_t)LAYOUT_LOCK_SLOT0 + GUESTS,
		.l_len = LAYOUT_SLOTS - GUESTS,
	};
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int err = fcntl(fd, F_OFD_GETLK, &l);

	close(fd);
	return !err && l.l_type != F_UNLCK;
}

static void a_guest_that_is_refused_takes_nothing_from_its_host(void **state)
{
	uint32_t taken[GUESTS];
	tmc_shmem_t *shm;
	uint64_t word;
	struct peer p;
	char *base;

	(void)state;
	memset(taken, 1, sizeof(taken));
	assert_int_equal(peer_fork(&p, read_on, NULL), 0);
	shm = create("full");
	assert_non_null(shm);
	base = tmc_shmem_grow(shm, page);
	*base = 'x';
	assert_int_equal(pwrite(tmc_shmem_fd(shm), taken, sizeof(taken),
				offsetof(struct layout_hdr, slot)),
			 sizeof(taken));
	assert_int_equal(peer_put(&p, 0) || peer_get(&p, &word), 0);
	assert_true(slot_is_held(box_path("full")));
	assert_int_equal(peer_put_fd(&p, tmc_shmem_fd(shm)), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	assert_true(slot_is_held(box_path("full")));
	assert_int_equal(peer_put(&p, 0), 0);
	assert_int_equal(peer_end(&p), 0);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink_idle(box_path("full")), 0);
}

static void need_ptrace(void)
{
	const char *why = UNDER_SANITIZER ? "a sanitizer calls madvise, too"
					  : step_impossible_by_call();

	if (why) {
		print_message("%s\n", why);
		skip();
	}
}

static int grow_big(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;
	uint64_t word;
	char *p;

	(void)arg;
	kernel_without_reopen();
	shm = receive(self);
	PEER_CHECK(shm);
	PEER_CHECK(!peer_put(self, 0) && !peer_get(self, &word));
	p = tmc_shmem_grow(shm, BIG);
	PEER_CHECK(p);
	p[0] = p[BIG - 1] = 1; /* or SIGBUS */
	tmc_shmem_close(shm);
	return 0;
}

/* Not the host's relative: takes so much that nothing is ahead any more. */
static int grow_lazily(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;
	tmc_alloc_t lazy;
	uint64_t word;

	(void)arg;
	PEER_CHECK(peer_get(self, &word) == 0);
	shm = tmc_shmem_open(box_path("cut"));
	PEER_CHECK(shm);
	lazy = *tmc_shmem_alloc(shm);
	PEER_CHECK(tmc_alloc_map(tmc_alloc_clear_populate(&lazy), BIG));
	tmc_shmem_close(shm);
	return 0;
}

/* The host does not see that its guest is growing: same description. */
static void a_guest_that_grows_feels_what_its_host_cuts(void **state)
{
	struct peer guest, other;
	tmc_shmem_t *shm;
	struct stat st;
	uint64_t word;
	size_t size;

	(void)state;
	need_ptrace();
	assert_int_equal(peer_fork(&guest, grow_big, NULL), 0);
	assert_int_equal(peer_fork(&other, grow_lazily, NULL), 0);
	shm = create("cut");
	assert_non_null(shm);
	assert_int_equal(peer_put_fd(&guest, tmc_shmem_fd(shm)), 0);
	assert_int_equal(peer_get(&guest, &word), 0);
	assert_int_equal(step_seize(guest.pid), 0);
	assert_int_equal(peer_put(&guest, 0), 0);
	/* All its pages are there, and it does not have the lock yet. */
	assert_int_equal(step_to_syscall(guest.pid, SYS_madvise), 0);
	assert_int_equal(step_past_syscall(guest.pid), 0);
	assert_int_equal(step_to_syscall(guest.pid, SYS_madvise), 0);
	assert_int_equal(step_past_syscall(guest.pid), 0);
	assert_int_equal(peer_put(&other, 0), 0);
	assert_int_equal(peer_end(&other), 0);
	assert_non_null(tmc_shmem_grow(shm, page));
	assert_int_equal(tmc_shmem_shrink(shm, 0, BIG + page), 0);
	step_let_go(guest.pid);
	assert_int_equal(peer_end(&guest), 0);
	size = tmc_shmem_current_size(shm);
	assert_int_equal(size, BIG);
	assert_int_equal(fstat(tmc_shmem_fd(shm), &st), 0);
	assert_int_equal(st.st_size, LAYOUT_DATA_OFF + size);
	tmc_shmem_close(shm);
}

/* Opens the arena when told, then grows for each word. */
static int grow_when_told(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;
	uint64_t bytes;

	PEER_CHECK(peer_get(self, &bytes) == 0);
	alarm(20);
	shm = tmc_shmem_open(arg);
	PEER_CHECK(shm && peer_put(self, 0) == 0);
	while (peer_get(self, &bytes) == 0) {
		PEER_CHECK(tmc_shmem_grow(shm, bytes));
		PEER_CHECK(peer_put(self, 0) == 0);
	}
	tmc_shmem_close(shm);
	return 0;
}

/* The same, and gives the descriptor away. */
static int grow_and_lend(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;
	uint64_t bytes;

	PEER_CHECK(peer_get(self, &bytes) == 0);
	shm = tmc_shmem_open(arg);
	PEER_CHECK(shm && peer_put_fd(self, tmc_shmem_fd(shm)) == 0);
	PEER_CHECK(peer_get(self, &bytes) == 0);
	PEER_CHECK(tmc_shmem_grow(shm, bytes));
	tmc_shmem_close(shm);
	return 0;
}

/* The same as a guest. */
static int guest_grows_when_told(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;
	uint64_t bytes;

	(void)arg;
	kernel_without_reopen();
	shm = receive(self);
	PEER_CHECK(shm && peer_put(self, 0) == 0);
	while (peer_get(self, &bytes) == 0) {
		PEER_CHECK(tmc_shmem_grow(shm, bytes));
		PEER_CHECK(peer_put(self, 0) == 0);
	}
	tmc_shmem_close(shm);
	return 0;
}

/* Its description lives on with the host, who wants nothing. */
static void a_guest_that_dies_in_line_lets_others_pass(void **state)
{
	struct peer guest, owner, next;
	char *path;
	tmc_shmem_t *shm;
	uint64_t word;

	(void)state;
	need_ptrace();
	path = strdup(box_path("line"));
	assert_int_equal(peer_fork(&guest, guest_grows_when_told, NULL), 0);
	assert_int_equal(peer_fork(&owner, grow_when_told, path), 0);
	assert_int_equal(peer_fork(&next, grow_when_told, path), 0);
	shm = create("line");
	assert_non_null(shm);
	assert_int_equal(peer_put_fd(&guest, tmc_shmem_fd(shm)), 0);
	assert_int_equal(peer_get(&guest, &word), 0);
	assert_int_equal(peer_put(&owner, 0) || peer_get(&owner, &word), 0);
	assert_int_equal(peer_put(&next, 0) || peer_get(&next, &word), 0);
	/* In the lock. */
	assert_int_equal(step_seize(owner.pid), 0);
	assert_int_equal(peer_put(&owner, page), 0);
	assert_int_equal(step_to_syscall(owner.pid, SYS_fallocate), 0);
	assert_int_equal(peer_put(&guest, page), 0);
	assert_int_equal(step_wait_blocked(guest.pid, guest.fd), 1);
	assert_int_equal(peer_put(&next, page), 0);
	assert_int_equal(step_wait_blocked(next.pid, next.fd), 2);
	peer_kill(&guest);
	step_let_go(owner.pid);
	assert_int_equal(peer_get(&owner, &word), 0);
	assert_int_equal(peer_get(&next, &word), 0);
	assert_int_equal(peer_end(&owner), 0);
	assert_int_equal(peer_end(&next), 0);
	assert_int_equal(tmc_shmem_current_size(shm), 2 * page);
	tmc_shmem_close(shm);
	free(path);
}

/* The other way round: what it had ahead is given back at once. */
static void a_guest_does_not_keep_its_dead_hosts_big_grow(void **state)
{
	struct peer guest, host, other;
	struct stat st;
	char *path;
	tmc_shmem_t *shm;
	uint64_t word;
	int fd;

	(void)state;
	need_ptrace();
	path = strdup(box_path("host"));
	assert_int_equal(peer_fork(&guest, guest_grows_when_told, NULL), 0);
	assert_int_equal(peer_fork(&host, grow_and_lend, path), 0);
	assert_int_equal(peer_fork(&other, grow_when_told, path), 0);
	shm = create("host");
	assert_non_null(shm);
	assert_int_equal(peer_put(&host, 0), 0);
	fd = peer_get_fd(&host);
	assert_true(fd >= 0);
	assert_int_equal(peer_put_fd(&guest, fd), 0);
	close(fd);
	assert_int_equal(peer_get(&guest, &word), 0);
	assert_int_equal(peer_put(&other, 0) || peer_get(&other, &word), 0);
	/* In the middle of its grow, outside the lock. */
	assert_int_equal(step_seize(host.pid), 0);
	assert_int_equal(peer_put(&host, BIG), 0);
	assert_int_equal(step_to_syscall(host.pid, SYS_madvise), 0);
	peer_kill(&host);
	assert_int_equal(peer_put(&other, page) || peer_get(&other, &word), 0);
	assert_int_equal(fstat(tmc_shmem_fd(shm), &st), 0);
	assert_int_equal(st.st_size, LAYOUT_DATA_OFF + page);
	assert_int_equal(peer_put(&guest, page) || peer_get(&guest, &word), 0);
	assert_int_equal(peer_end(&guest), 0);
	assert_int_equal(peer_end(&other), 0);
	tmc_shmem_close(shm);
	free(path);
}

/* ----- alone in an arena at rest ----- */

static void damage(int fd, uint64_t at, const void *words, size_t len)
{
	assert_int_equal(pwrite(fd, words, len, (off_t)at), (ssize_t)len);
}

/* What a guest finds: pages that are new are zero, and nothing waits. */
static int alone_as_guest(struct peer *self, void *arg)
{
	const size_t size = *(size_t *)arg;
	int fd = open(box_path("rest"), O_RDWR | O_CLOEXEC);
	tmc_shmem_t *shm;
	char *p;

	(void)self;
	PEER_CHECK(kernel_without_reopen() == 0);
	shm = tmc_shmem_open_fds(fd, -1);
	close(fd);
	PEER_CHECK(shm && tmc_shmem_current_size(shm) == size);
	p = tmc_shmem_grow(shm, page);
	PEER_CHECK(p == (char *)tmc_shmem_address(shm) + size && *p == 0);
	/* Others find it in use, and get in. */
	PEER_CHECK(tmc_shmem_unlink_idle(box_path("rest")) == -1);
	PEER_CHECK(errno == EBUSY);
	PEER_CHECK(tmc_shmem_shrink(shm, (off_t)size, page) == 0);
	tmc_shmem_close(shm);
	return 0;
}

static void a_guest_alone_puts_right_what_a_death_has_left(void **state)
{
	const uint64_t lock = 7 << 16 | (300 + 1);
	const uint32_t id = 1; /* init's: alive */
	size_t size = 2 * page;
	tmc_shmem_t *shm = create("rest");
	int fd = open(box_path("rest"), O_RDWR | O_CLOEXEC);

	(void)state;
	assert_non_null(shm);
	assert_non_null(tmc_shmem_grow(shm, 2 * page));
	tmc_shmem_close(shm);
	/* An owner, dead for long. */
	damage(fd, offsetof(struct layout_hdr, lock), &lock, sizeof(lock));
	damage(fd, offsetof(struct layout_hdr, slot[300]), &id, sizeof(id));
	assert_int_equal(peer_run(alone_as_guest, &size), 0);
	/* Pages of a grow or shrink that was not completed. */
	damage(fd, LAYOUT_DATA_OFF + size, "left", 4);
	assert_int_equal(peer_run(alone_as_guest, &size), 0);
	/* A file that was cut. */
	size = page;
	assert_int_equal(ftruncate(fd, (off_t)(LAYOUT_DATA_OFF + size)), 0);
	assert_int_equal(peer_run(alone_as_guest, &size), 0);
	close(fd);
	assert_int_equal(tmc_shmem_unlink_idle(box_path("rest")), 0);
}

#define LARGE_BLOCKS 100 /* more than the heap has room for at first */
#define LARGE 40000

/* As many as make the heap look for what the dead have left, before it grows. */
static int use_the_heap_of_its_host(struct peer *self, void *arg)
{
	tmc_shmem_t *shm;
	uint64_t word;
	char *p[LARGE_BLOCKS];
	size_t i;

	(void)arg;
	PEER_CHECK(kernel_without_reopen() == 0);
	shm = receive(self);
	PEER_CHECK(shm);
	for (i = 0; i < LARGE_BLOCKS; i++) {
		p[i] = tmc_mspace_malloc(tmc_shmem_get_data(shm), LARGE);
		PEER_CHECK(p[i]);
		memset(p[i], 'g', LARGE);
	}
	PEER_CHECK(!peer_put(self, 0) && !peer_get(self, &word));
	for (i = 0; i < LARGE_BLOCKS; i++)
		PEER_CHECK(p[i][0] == 'g' &&
			   !memcmp(p[i], p[i] + 1, LARGE - 1));
	tmc_shmem_close(shm);
	return 0;
}

/* The host has a span without a block in use, and goes on with it. */
static void a_guest_takes_nothing_from_its_host_that_is_alive(void **state)
{
	struct peer guest;
	tmc_shmem_t *shm;
	tmc_mspace heap;
	uint64_t word;
	char *p;
	int i;

	(void)state;
	assert_int_equal(peer_fork(&guest, use_the_heap_of_its_host, NULL), 0);
	shm = create("alive");
	heap = tmc_mspace_create_special(0, TMC_MSPACE_LOCKED,
					 tmc_shmem_alloc(shm));
	assert_non_null(heap);
	assert_int_equal(tmc_shmem_set_data(shm, heap), 0);
	tmc_mspace_free(tmc_mspace_malloc(heap, 300));
	assert_int_equal(peer_put_fd(&guest, tmc_shmem_fd(shm)), 0);
	assert_int_equal(peer_get(&guest, &word), 0);
	for (i = 0; i < 50; i++) {
		p = tmc_mspace_malloc(heap, 300);
		assert_non_null(p);
		memset(p, 'h', 300);
	}
	assert_int_equal(peer_put(&guest, 0), 0);
	assert_int_equal(peer_end(&guest), 0);
	assert_int_equal(tmc_mspace_check(heap), 0);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(box_path("alive")), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_guest_alone_puts_right_what_a_death_has_left),
		cmocka_unit_test(another_user_uses_what_he_may_not_open),
		cmocka_unit_test(guests_and_their_host_share_the_lock),
		cmocka_unit_test(a_killed_guest_stops_nobody),
		cmocka_unit_test(guests_beyond_the_number_are_told_eusers),
		cmocka_unit_test(
			a_guest_that_is_refused_takes_nothing_from_its_host),
		cmocka_unit_test(a_guest_that_grows_feels_what_its_host_cuts),
		cmocka_unit_test(a_guest_that_dies_in_line_lets_others_pass),
		cmocka_unit_test(a_guest_does_not_keep_its_dead_hosts_big_grow),
		cmocka_unit_test(
			a_guest_takes_nothing_from_its_host_that_is_alive),
	};

	page = (size_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
