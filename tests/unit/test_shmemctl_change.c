/* SPDX-License-Identifier: BSD-3-Clause */
/* test_shmemctl_change.c - shmemctl create, grow, rm, gc, why and check. */
#include "shmemctl_test.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "heap_layout.h"
#include "layout.h"
#include "peer.h"
#include "probe.h"

/* ----- create, grow, rm ----- */

static void create_makes_what_it_is_told(void **state)
{
	tmc_shmem_t *shm;
	struct stat st;

	(void)state;
	IS(0, "create", a);
	shm = tmc_shmem_open(a);
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_maximum_size(shm), GIB);
	assert_int_equal(tmc_shmem_current_size(shm), 0);
	assert_string_equal(cmd.out, text("%s: at %p, maximum 1G\n", a,
					  tmc_shmem_address(shm)));
	tmc_shmem_close(shm);
	FAILS(1, "File exists", "create", a);
	IS(0, "create", "-a", "0x551000000000", "--mode=640", "--size=5M",
	   "--no-populate", b, "3G");
	shm = tmc_shmem_open(b);
	assert_non_null(shm);
	assert_ptr_equal(tmc_shmem_address(shm), (void *)0x551000000000);
	assert_int_equal(tmc_shmem_maximum_size(shm), 3 * GIB);
	assert_int_equal(tmc_shmem_current_size(shm), 5 * MIB);
	assert_int_equal(tmc_alloc_get_populate(tmc_shmem_alloc(shm)), 0);
	assert_int_equal(fstat(tmc_shmem_fd(shm), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_true(st.st_blocks * 512 < 1 << 20);
	tmc_shmem_close(shm);
	IS(0, "create", "--temp", text("%s/t.XXXXXX", dir));
	assert_memory_equal(cmd.out, text("%s/t.", dir), strlen(dir) + 3);
	assert_int_equal(probe_files(dir), 3);
}

static void create_that_fails_leaves_nothing(void **state)
{
	(void)state;
	FAILS(1, "beyond its maximum", "create", "-s", "2M", a, "1M");
	FAILS(1, "no room for a maximum of 8E", "create", a, "8E");
	FAILS(1, "no multiple", "create", "-a", "1001", a);
	FAILS(1, "XXXXXX", "create", "-t", a);
	FAILS(1, "No such file", "create", text("%s/x", a));
	FAILS(1, "File exists", "create", text("%s/", dir));
	assert_int_equal(probe_files(dir), 0);
}

static void grow_appends_and_says_nothing_on_the_way(void **state)
{
	tmc_shmem_t *shm = make(a, 0);
	struct stat st;

	(void)state;
	IS(0, "grow", a, "5");
	assert_string_equal(cmd.out, text("%s: grown by 4K to 4K\n", a));
	IS(0, "grow", a, "63M");
	assert_string_equal(cmd.out, text("%s: grown by 63M to 63M\n", a));
	assert_string_equal(cmd.err, "");
	assert_int_equal(tmc_shmem_current_size(shm), 63 * MIB + 4096);
	assert_int_equal(fstat(tmc_shmem_fd(shm), &st), 0);
	assert_true((size_t)st.st_blocks * 512 >= 63 * MIB);
	FAILS(1, "2M more are beyond its maximum, 64M", "grow", a, "2M");
	assert_int_equal(tmc_shmem_current_size(shm), 63 * MIB + 4096);
	tmc_shmem_close(shm);
	IS(0, "rm", a);
	shm = make(a, 0);
	IS(0, "grow", "--no-populate", a, "32M");
	assert_int_equal(fstat(tmc_shmem_fd(shm), &st), 0);
	assert_true(st.st_blocks * 512 < 1 << 20);
	tmc_shmem_close(shm);
}

static void a_full_disk_is_named(void **state)
{
	char path[300];

	(void)state;
	if (!box_can_mount() || box_mount("small", "tmpfs", "size=2m")) {
		print_message("cannot mount\n");
		skip();
	}
	snprintf(path, sizeof(path), "%s/a", box_path("small"));
	IS(0, "create", path);
	FAILS(1, "no room for 4M, the file system has ", "grow", path, "4M");
	IS(0, "grow", path, "1M");
	assert_string_equal(cmd.out, text("%s: grown by 1M to 1M\n", path));
	FAILS(1, "no room for 4M", "create", "-s", "4M",
	      text("%s/b", box_path("small")));
	assert_int_equal(probe_files(box_path("small")), 1);
	assert_int_equal(box_umount("small"), 0);
}

static void rm_removes_arenas_and_nothing_else(void **state)
{
	tmc_shmem_t *shm = make(a, MIB);
	int fd = open(b, O_CREAT | O_RDWR | O_CLOEXEC, 0600);

	(void)state;
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	FAILS(1, "somebody has it open", "rm", "--idle", a);
	FAILS(1, "is no arena", "rm", b, a);
	assert_int_equal(access(b, F_OK), 0);
	assert_int_equal(access(a, F_OK), -1);
	assert_non_null(tmc_shmem_grow(shm, MIB));
	tmc_shmem_close(shm);
}

/* ----- gc ----- */

static void gc_asks_first(void **state)
{
	(void)state;
	tmc_shmem_close(make(a, MIB));
	FAILS(1, "without --yes", "gc", dir);
	IS(0, "gc", "--dry-run", dir);
	assert_non_null(strstr(cmd.out, a));
	assert_int_equal(access(a, F_OK), 0);
	IS(0, "gc", "--yes", dir);
	assert_non_null(strstr(cmd.out, "removed 1 file, 1M\n"));
	assert_int_equal(access(a, F_OK), -1);
	IS(0, "gc", dir);
	assert_string_equal(cmd.out, "");
	FAILS(1, "No such file", "gc", a);
}

static void gc_keeps_what_is_in_use_or_damaged_or_no_arena(void **state)
{
	tmc_shmem_t *shm = make(a, MIB);
	char other[300];
	int fd;

	(void)state;
	tmc_shmem_close(make(b, MIB));
	assert_int_equal(truncate(b, 5000), 0);
	snprintf(other, sizeof(other), "%s/c", dir);
	fd = open(other, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	FAILS(0, "left alone", "gc", "--yes", dir);
	assert_string_equal(cmd.out, "1 in use are kept\n");
	assert_int_equal(probe_files(dir), 3);
	tmc_shmem_close(shm);
	/* One that has it open by other means counts, too. */
	close(fd);
	fd = open(a, O_RDONLY | O_CLOEXEC);
	IS(0, "gc", "--yes", dir);
	assert_int_equal(probe_files(dir), 3);
	close(fd);
	IS(0, "gc", "--yes", dir);
	assert_int_equal(probe_files(dir), 2);
}

/*
 * Where it sees no process but its own, something is kept nevertheless. The
 * box has made all mounts private already; in a chroot unshare could not.
 */
static void gc_unseen(const char *options)
{
	const char *argv[] = { "/bin/sh",
			       "-c",
			       "own='unshare --propagation unchanged "
			       "--pid --fork --mount-proc'; "
			       "$own true 2>/dev/null || exit 77; "
			       "exec $own \"$0\" gc \"$1\" \"$2\"",
			       command_shmemctl_path(),
			       options,
			       dir,
			       NULL };

	assert_int_equal(command_run(&cmd, argv), 0);
	if (cmd.code != 77)
		assert_non_null(strstr(cmd.err, "came into use; kept"));
}

/* As create.c makes it where there is no O_TMPFILE, and locks it. */
static void gc_removes_what_a_death_in_create_left(void **state)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char temp[300];
	int fd;

	(void)state;
	snprintf(temp, sizeof(temp), "%s/.a.tmcnew-0123456789abcdef", dir);
	fd = open(temp, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	l.l_start = (off_t)LAYOUT_LOCK_SLOT0;
	l.l_len = 1;
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &l), 0);
	IS(0, "gc", "--yes", dir); /* /proc says so */
	assert_int_equal(access(temp, F_OK), 0);
	if (!getuid()) {
		/* And where that is not seen the lock does. */
		gc_unseen("--yes");
		assert_int_equal(access(temp, F_OK), 0);
	}
	close(fd);
	IS(0, "gc", "--yes", dir);
	assert_int_equal(access(temp, F_OK), -1);
}

static int has_name(tmc_shmem_t *shm, const char *path)
{
	struct stat x, y;

	return !fstat(tmc_shmem_fd(shm), &x) && !stat(path, &y) &&
	       x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

/* The other end of gc's terminal: opens the arena when asked, and says yes. */
static int says_yes(struct peer *self, void *path)
{
	char seen[4096] = "";
	int master = peer_get_fd(self);
	tmc_shmem_t *shm;
	uint64_t word;

	PEER_CHECK(master >= 0);
	PEER_CHECK(!command_wait_for(master, "[y/N] ", seen, sizeof(seen)));
	PEER_CHECK(strstr(seen, "Remove 2 files? [y/N] "));
	shm = tmc_shmem_open(path);
	PEER_CHECK(shm);
	PEER_CHECK(write(master, "y\n", 2) == 2);
	PEER_CHECK(!peer_get(self, &word));
	PEER_CHECK(has_name(shm, path));
	tmc_shmem_close(shm);
	return 0;
}

static void gc_keeps_what_came_into_use_since_the_list(void **state)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct peer p;

	(void)state;
	if (master < 0 || grantpt(master) || unlockpt(master)) {
		print_message("no pseudo terminals\n");
		skip();
	}
	tmc_shmem_close(make(a, MIB));
	tmc_shmem_close(make(b, MIB));
	assert_int_equal(peer_fork(&p, says_yes, a), 0);
	assert_int_equal(peer_put_fd(&p, master), 0);
	cmd.terminal = ptsname(master);
	FAILS(0, "came into use; kept", "gc", dir);
	assert_non_null(strstr(cmd.err, a));
	assert_int_equal(access(b, F_OK), -1);
	assert_int_equal(peer_put(&p, 1), 0);
	assert_int_equal(peer_end(&p), 0);
	assert_int_equal(access(a, F_OK), 0);
	close(master);
}

static _Atomic int *over; /* shared: gc has had enough turns */

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Opens or creates, and while it has it open the name is its own. */
static int user(struct peer *self, void *path)
{
	uint64_t opened = 0, start, until;
	struct stat st;

	/* relaxed: nothing else comes with it */
	while (!atomic_load_explicit(over, memory_order_relaxed)) {
		tmc_shmem_t *shm;

		start = now();
		shm = tmc_shmem_open(path);
		if (!shm && errno == ENOENT)
			shm = tmc_shmem_create(path, NULL, NULL, MAX);
		if (!shm && errno == EEXIST)
			continue;
		PEER_CHECK(shm);
		PEER_CHECK(has_name(shm, path));
		tmc_shmem_close(shm);
		opened++;
		/* Idle for four times as long, as gc must find it so first. */
		until = now() + 4 * (now() - start);
		while (now() < until)
			stat(path, &st);
	}
	return peer_put(self, opened);
}

static void gc_never_removes_one_in_use(void **state)
{
	int i, removed = 0, bad = 0;
	struct peer p[2];

	(void)state;
	over = mmap(NULL, sizeof(*over), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(over, MAP_FAILED);
	for (i = 0; i < 2; i++)
		assert_int_equal(peer_fork(&p[i], user, a), 0);
	for (i = 0; i < 200 && removed < 8; i++) {
		IS(0, "gc", "--yes", dir);
		removed += strstr(cmd.out, "removed 1 ") != NULL;
	}
	/* relaxed: nothing else comes with it */
	atomic_store_explicit(over, 1, memory_order_relaxed);
	for (i = 0; i < 2; i++) {
		uint64_t opened = 0;

		bad += peer_get(&p[i], &opened);
		bad += peer_end(&p[i]);
		print_message("opened %u times\n", (unsigned int)opened);
	}
	print_message("removed %d times\n", removed);
	munmap((void *)over, sizeof(*over));
	assert_int_equal(bad, 0);
	assert_int_not_equal(removed, 0);
}

static void gc_takes_companions_when_told(void **state)
{
	char mount[200], orphan[300], keyed[400], used[300];
	int fd;

	(void)state;
	if (box_hugetlbfs("huge", 2 * MIB, "")) {
		print_message("no hugetlbfs\n");
		skip();
	}
	snprintf(mount, sizeof(mount), "%s", box_path("huge"));
	snprintf(orphan, sizeof(orphan),
		 "%s/libshmem-00000000000000ff-"
		 "00112233445566778899aabbccddeeff",
		 mount);
	snprintf(keyed, sizeof(keyed), "%s.0123456789abcdef", orphan);
	snprintf(used, sizeof(used),
		 "%s/libshmem-00000000000000fe-"
		 "00112233445566778899aabbccddeeff",
		 mount);
	close(open(orphan, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	close(open(keyed, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	close(open(text("%s/else", mount), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	close(open(text("%s/libshmem-00000000000000ff-zz", mount),
		   O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	fd = open(used, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	/* One at rest, which has its arena in the folder, until that goes. */
	IS(0, "create", "--page=2M", a);
	assert_int_equal(probe_files(mount), 6);
	IS(0, "gc", "--dry-run", "--companions", dir);
	assert_int_equal(command_lines(cmd.out), 3);
	IS(0, "gc", "--yes", dir);
	assert_int_equal(probe_files(mount), 5);
	assert_int_equal(probe_files(dir), 0);
	IS(0, "gc", "--yes", "--companions", dir);
	assert_int_equal(probe_files(mount), 3);
	assert_int_equal(access(used, F_OK), 0);
	if (!getuid()) {
		/* Not seen in /proc, and the lease is refused. */
		gc_unseen("-yc");
		assert_int_equal(access(used, F_OK), 0);
	}
	close(fd);
	IS(0, "gc", "--yes", "--companions", dir);
	assert_int_equal(probe_files(mount), 2);
	assert_int_equal(box_umount("huge"), 0);
}

/* ----- why ----- */

static int sits_there(struct peer *self, void *addr)
{
	uint64_t word;
	char *at = probe_occupy(addr, 8192);

	PEER_CHECK(at == addr);
	PEER_CHECK(!peer_put(self, 1) && !peer_get(self, &word));
	return 0;
}

static int limited(struct peer *self, void *arg)
{
	struct rlimit r = { 8 * GIB, 8 * GIB };
	uint64_t word;

	(void)arg;
	PEER_CHECK(!setrlimit(RLIMIT_AS, &r));
	PEER_CHECK(!peer_put(self, 1) && !peer_get(self, &word));
	return 0;
}

static int stranger(struct peer *self, void *arg)
{
	uint64_t word;

	(void)arg;
	PEER_CHECK(!peer_become(NOBODY));
	PEER_CHECK(!peer_put(self, 1) && !peer_get(self, &word));
	return 0;
}

/* What `why` says of a peer that runs @fn. */
static void ask_why(int want, const char *says, peer_fn *fn, void *arg)
{
	struct peer p;
	uint64_t word;

	assert_int_equal(peer_fork(&p, fn, arg), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	IS(want, "why", a, text("%d", p.pid));
	assert_non_null(strstr(command_squeeze(cmd.out), says));
	assert_string_equal(cmd.err, "");
	assert_int_equal(peer_put(&p, 1), 0);
	assert_int_equal(peer_end(&p), 0);
}

static void why_names_what_is_in_the_way(void **state)
{
	tmc_shmem_t *shm;
	char *base, *inside;

	(void)state;
	IS(0, "create", "--size=1M", a, "16G");
	shm = tmc_shmem_open(a);
	assert_non_null(shm);
	base = tmc_shmem_address(shm);
	IS(0, "why", a, text("%d", getpid()));
	assert_non_null(strstr(cmd.out, "it has it open"));
	tmc_shmem_close(shm);
	IS(0, "why", a, text("%d", getpid()));
	assert_non_null(strstr(cmd.out, "the address range is free there"));
	inside = base + 3 * GIB;
	ask_why(3,
		text("no in its way: %p-%p rw-p memory without a name",
		     (void *)inside, (void *)(inside + 8192)),
		sits_there, inside);
	inside = base - 8192;
	ask_why(0, "the address range is free there", sits_there, inside);
	if (!UNDER_SANITIZER)
		ask_why(3, "its address space is limited to 8G", limited, NULL);
	if (!getuid()) {
		assert_int_equal(chmod(dir, 0700), 0);
		ask_why(3, text("it may not pass the folder %s\n", dir),
			stranger, NULL);
		assert_int_equal(chmod(dir, 0755), 0);
		ask_why(3, "user 65534 may not read and write the arena",
			stranger, NULL);
	}
}

static void why_knows_when_it_cannot_tell(void **state)
{
	struct peer p;
	pid_t pid;
	uint64_t word;

	(void)state;
	IS(0, "create", a);
	assert_int_equal(peer_fork(&p, stranger, NULL), 0);
	pid = p.pid;
	if (!getuid())
		assert_int_equal(peer_get(&p, &word), 0);
	peer_kill(&p);
	FAILS(1, text("there is no process %d", pid), "why", a,
	      text("%d", pid));
	FAILS(1, "there is no process", "why", a, "2147483647");
	FAILS(2, "too large", "why", a, "2147483648");
}

/* ----- check ----- */

static void check_finds_heaps_and_damage(void **state)
{
	tmc_shmem_t *shm = make(a, 0);
	tmc_mspace heap = tmc_mspace_create_special(MIB, TMC_MSPACE_LOCKED,
						    tmc_shmem_alloc(shm));
	struct heap_hdr *h = heap;
	char *block;

	(void)state;
	assert_non_null(heap);
	block = tmc_mspace_malloc(heap, 100);
	assert_non_null(block);
	IS(0, "check", a);
	assert_non_null(strstr(command_squeeze(cmd.out),
			       text("heap %p right\nwhole\n", heap)));
	IS(0, "check", "--readonly", a);
	assert_non_null(
		strstr(command_squeeze(cmd.out),
		       text("heap %p right, from outside\nwhole\n", heap)));
	/* The head of the span that the block is in. */
	block = (char *)(((uintptr_t)block - 1) & ~(HEAP_SLICE - 1));
	memset(block, 0xa5, 2048);
	h->chunk[0].nslices = 1u << 20;
	FAILS(3, "heap ", "check", a);
	assert_non_null(strstr(cmd.out, "damaged\n"));
	FAILS(3, "heap ", "check", "-r", a);
	tmc_shmem_close(shm);
	FAILS(3, "heap ", "check", a);
}

static void check_goes_on_from_outside_where_it_cannot_open(void **state)
{
	tmc_shmem_t *shm = make(a, 0);
	tmc_mspace heap = tmc_mspace_create_special(MIB, TMC_MSPACE_LOCKED,
						    tmc_shmem_alloc(shm));

	(void)state;
	assert_non_null(heap);
	if (getuid()) {
		print_message("needs another user: root\n");
		skip();
	}
	assert_int_equal(fchmod(tmc_shmem_fd(shm), 0644), 0);
	assert_int_equal(chmod(box_path(""), 0755), 0);
	cmd.uid = NOBODY;
	IS(0, "check", a);
	assert_non_null(strstr(cmd.out, "may not be opened for writing"));
	cmd.uid = 0;
	tmc_shmem_close(shm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(create_makes_what_it_is_told),
		TEST(create_that_fails_leaves_nothing),
		TEST(grow_appends_and_says_nothing_on_the_way),
		TEST(a_full_disk_is_named),
		TEST(rm_removes_arenas_and_nothing_else),
		TEST(gc_asks_first),
		TEST(gc_keeps_what_is_in_use_or_damaged_or_no_arena),
		TEST(gc_removes_what_a_death_in_create_left),
		TEST(gc_keeps_what_came_into_use_since_the_list),
		TEST(gc_never_removes_one_in_use),
		TEST(gc_takes_companions_when_told),
		TEST(why_names_what_is_in_the_way),
		TEST(why_knows_when_it_cannot_tell),
		TEST(check_finds_heaps_and_damage),
		TEST(check_goes_on_from_outside_where_it_cannot_open),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
