/* SPDX-License-Identifier: BSD-3-Clause */
/* test_shmemctl_gc.c - shmemctl gc, and arenas that come while it looks. */
#include "shmemctl_test.h"

#include <sys/mount.h>
#include <sys/syscall.h>

#include "peer.h"
#include "probe.h"
#include "shell.h"
#include "step.h"

#define MOST 64 /* reads of these folders that gc may do */

static void need_huge(void)
{
	UNLESS(!box_hugetlbfs("huge", 2 * MIB, ""), "no hugetlbfs");
}

static tmc_shmem_t *make_huge(const char *path)
{
	tmc_alloc_t alloc = TMC_ALLOC_INIT;

	if (!tmc_alloc_set_pagesize_exact(&alloc, 2 * MIB))
		return NULL;
	return tmc_shmem_create(path, &alloc, NULL, MAX);
}

static int collects(struct peer *self, void *arg)
{
	int out = open("/dev/null", O_WRONLY | O_CLOEXEC);
	uint64_t word;

	(void)arg;
	PEER_CHECK(out >= 0 && dup2(out, STDOUT_FILENO) >= 0);
	PEER_CHECK(!peer_get(self, &word));
	execl(command_shmemctl_path(), "shmemctl", "gc", "--yes",
	      "--companions", dir, (char *)NULL);
	perror("exec");
	return 1;
}

/* Whether the folder that it is about to read is ours. */
static int reads_ours(pid_t pid)
{
	char line[256] = "", where[512] = "";
	unsigned long nr, fd;
	FILE *f = fopen(text("/proc/%d/syscall", (int)pid), "re");

	if (!f || !fgets(line, sizeof(line), f) ||
	    sscanf(line, "%lu %lx", &nr, &fd) != 2 ||
	    readlink(text("/proc/%d/fd/%lu", (int)pid, fd), where,
		     sizeof(where) - 1) < 0)
		where[0] = '\0';
	if (f)
		fclose(f);
	return !strcmp(where, dir) || !strcmp(where, box_path("huge"));
}

/*
 * At each read of the arenas' and the companions' folders that gc does one more
 * arena is made and closed. Afterwards it is whole, or gone with its companion.
 */
static void gc_never_takes_the_companion_of_a_new_arena(void **state)
{
	const char *why = UNDER_SANITIZER ? "its leak check is against ptrace"
					  : step_impossible_by_call();
	tmc_shmem_t *shm;
	int n = 0, i, whole = 0;
	struct peer p;

	(void)state;
	UNLESS(!why, why);
	need_huge();
	assert_int_equal(peer_fork(&p, collects, NULL), 0);
	assert_int_equal(step_seize(p.pid), 0);
	assert_int_equal(peer_put(&p, 1), 0);
	while (n < MOST && !step_to_syscall(p.pid, SYS_getdents64)) {
		if (!reads_ours(p.pid))
			continue;
		shm = make_huge(text("%s/%d", dir, n++));
		assert_non_null(shm);
		tmc_shmem_close(shm);
	}
	assert_in_range(n, 4, MOST - 1);
	for (i = 0; i < n; i++) {
		if (access(text("%s/%d", dir, i), F_OK))
			continue;
		shm = tmc_shmem_open(text("%s/%d", dir, i));
		if (!shm)
			fail_msg("the %d. of %d: %s", i, n, strerror(errno));
		tmc_shmem_close(shm);
		whole++;
	}
	assert_int_equal(probe_files(box_path("huge")), whole);
	for (i = 0; i < n; i++)
		tmc_shmem_unlink(text("%s/%d", dir, i));
	assert_int_equal(box_umount("huge"), 0);
}

/* The other end of gc's terminal: the arena moves into the folder before it
 * says yes. */
static int moves_it(struct peer *self, void *from)
{
	char seen[4096] = "";
	int master = peer_get_fd(self);

	PEER_CHECK(master >= 0);
	PEER_CHECK(!command_wait_for(master, "[y/N] ", seen, sizeof(seen)));
	PEER_CHECK(strstr(seen, "companion"));
	PEER_CHECK(!rename(from, a));
	PEER_CHECK(write(master, "y\n", 2) == 2);
	return 0;
}

static void gc_looks_again_for_the_owner_of_a_companion(void **state)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	const char *elsewhere = box_path("elsewhere");
	tmc_shmem_t *shm;
	struct peer p;

	(void)state;
	UNLESS(master >= 0 && !grantpt(master) && !unlockpt(master),
	       "no pseudo terminals");
	need_huge();
	shm = make_huge(elsewhere);
	assert_non_null(shm);
	tmc_shmem_close(shm);
	assert_int_equal(peer_fork(&p, moves_it, (void *)elsewhere), 0);
	assert_int_equal(peer_put_fd(&p, master), 0);
	cmd.terminal = ptsname(master);
	FAILS(0, "came into use; kept", "gc", "--companions", dir);
	assert_int_equal(peer_end(&p), 0);
	close(master);
	shm = tmc_shmem_open(a);
	assert_non_null(shm);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(a), 0);
	assert_int_equal(box_umount("huge"), 0);
}

/* What tmc_shmem_unlink_idle() could not move back, or a death of it left. */
static void gc_takes_an_arena_aside_for_an_arena(void **state)
{
	const char *aside = text("%s/.a.tmcold-0123456789abcdef", dir);
	tmc_shmem_t *shm = make(aside, MIB);

	(void)state;
	IS(0, "gc", "--yes", dir);
	assert_string_equal(cmd.out, "1 in use are kept\n");
	assert_int_equal(access(aside, F_OK), 0);
	tmc_shmem_close(shm);
	IS(0, "gc", "--dry-run", dir);
	SAYS(text(" arena %s\n", aside));
	IS(0, "gc", "--yes", dir);
	assert_int_equal(access(aside, F_OK), -1);
}

/* ----- a companion that cannot be seen is not gone ----- */

static void assert_kept(void)
{
	tmc_shmem_t *shm = tmc_shmem_open(a);

	assert_non_null(shm);
	assert_int_equal(*(char *)tmc_shmem_address(shm), 'x');
	tmc_shmem_close(shm);
}

static void gc_keeps_what_has_its_companion_out_of_sight(void **state)
{
	static const char none[] = "no hugetlbfs of this page size is mounted "
				   "here; left alone",
			  hidden[] = "a hugetlbfs mount cannot be looked into; "
				     "left alone";
	char huge[400];
	tmc_shmem_t *shm;
	char *p;

	(void)state;
	UNLESS(box_pool(2 * MIB, 1) >= 1, "no huge page");
	need_huge();
	snprintf(huge, sizeof(huge), "%s", box_path("huge"));
	shm = make_huge(a);
	assert_non_null(shm);
	p = tmc_shmem_grow(shm, 2 * MIB);
	assert_non_null(p);
	*p = 'x';
	tmc_shmem_close(shm);

	/* Another mount namespace: all in it is private, as in the box's. */
	assert_int_equal(shell("unshare -m --propagation unchanged sh -c "
			       "\"umount -a -t hugetlbfs && "
			       "$ctl gc --yes %s\"",
			       dir),
			 0);
	assert_shows(none);
	assert_kept();

	/* Behind another mount. */
	assert_int_equal(mount("none", huge, "tmpfs", 0, NULL), 0);
	FAILS(0, hidden, "gc", "--yes", "--companions", dir);
	assert_int_equal(umount(huge), 0);
	assert_kept();

	/* Somebody else's. */
	assert_int_equal(chmod(huge, 0700) || chmod(dir, 0777) ||
				 chown(a, NOBODY, NOBODY),
			 0);
	cmd.uid = NOBODY;
	FAILS(0, hidden, "gc", "--yes", dir);
	assert_kept();

	cmd.uid = 0;
	IS(0, "gc", "--yes", dir);
	assert_int_equal(access(a, F_OK), -1);
	assert_int_equal(probe_files(huge), 0);
	assert_int_equal(box_umount("huge"), 0);
	box_pool_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(gc_never_takes_the_companion_of_a_new_arena),
		TEST(gc_looks_again_for_the_owner_of_a_companion),
		TEST(gc_takes_an_arena_aside_for_an_arena),
		TEST(gc_keeps_what_has_its_companion_out_of_sight),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
