/* SPDX-License-Identifier: BSD-3-Clause */
/* test_shmemctl_rest.c - shmemctl and huge pages, namespaces, narrow terminals,
 * and what else it meets. */
#include "shmemctl_test.h"

#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "layout.h"
#include "peer.h"
#include "probe.h"

#define HUGE_PAGE (2 * MIB)
#define LEFT_OUT 99 /* a peer's word: it could not be tried */

/* ----- huge pages ----- */

/* A mount and pages, or why not. */
static const char *huge_pages(size_t npages)
{
	if (box_hugetlbfs("huge", HUGE_PAGE, ""))
		return "no hugetlbfs";
	if (box_pool(HUGE_PAGE, npages) >= npages)
		return NULL;
	box_umount("huge");
	return "no huge pages of 2 MiB";
}

static char *companion(void)
{
	static char path[400];
	DIR *d = opendir(box_path("huge"));
	struct dirent *e;

	path[0] = '\0';
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			snprintf(path, sizeof(path), "%s/%s", box_path("huge"),
				 e->d_name);
	closedir(d);
	return path;
}

static void memory_is_that_of_the_companion_too(void **state)
{
	const char *why = huge_pages(2);
	tmc_shmem_t *shm;

	(void)state;
	UNLESS(!why, why);
	IS(0, "create", "--page=2M", "--size=4M", a, "8M");
	IS(0, "ls", dir);
	SAYS(text("%s 4M 8M 4M 2M stale\n", a));
	IS(0, "stat", a);
	SAYS(text(" in the file, 4M in %s\n", companion()));
	IS(0, "why", a, text("%d", getpid()));
	SAYS("yes it may read and write the companion\n");
	IS(0, "check", a);
	SAYS("header, companion right\nwhole\n");
	/* Without names a process's descriptors lead to both. */
	shm = tmc_shmem_open(a);
	assert_non_null(shm);
	IS(0, "rm", a);
	IS(0, "ls");
	SAYS(text("%s 4M 8M 4M 2M no name %d test_shmemctl_r; "
		  "/proc/%d/fd/%d\n",
		  a, getpid(), getpid(), tmc_shmem_fd(shm)));
	IS(0, "stat", text("/proc/%d/fd/%d", getpid(), tmc_shmem_fd(shm)));
	SAYS("4M in /proc/");
	IS(0, "check", "-r",
	   text("/proc/%d/fd/%d", getpid(), tmc_shmem_fd(shm)));
	tmc_shmem_close(shm);
	assert_int_equal(probe_files(box_path("huge")), 0);
	box_pool_end();
	assert_int_equal(box_umount("huge"), 0);
}

static void a_companion_that_is_gone_or_another_is_damage(void **state)
{
	char name[400];

	(void)state;
	UNLESS(!box_hugetlbfs("huge", HUGE_PAGE, ""), "no hugetlbfs");
	IS(0, "create", "--page=2M", a);
	snprintf(name, sizeof(name), "%s", companion());
	assert_int_equal(unlink(name), 0);
	FAILS(1, "huge: the companion is not there", "stat", a);
	FAILS(1, "the companion is not there", "map", a);
	FAILS(3, "the companion is not there", "check", a);
	close(open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	IS(1, "ls", dir);
	SAYS("damaged huge: the companion is not there\n");
	FAILS(1, "the companion is not there", "grow", a, "2M");
	IS(0, "rm", a);
	assert_int_equal(access(a, F_OK), -1);
	assert_int_equal(access(name, F_OK), 0);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(box_umount("huge"), 0);
}

/* ----- create and numbers ----- */

static void create_takes_kinds_of_memory(void **state)
{
	tmc_shmem_t *shm;

	(void)state;
	IS(0, "create", "--prefer-huge", "--thp", "-n", "0", a, "64MiB");
	shm = tmc_shmem_open(a);
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_maximum_size(shm), 64 * MIB);
	tmc_shmem_close(shm);
	IS(0, "rm", a);
	IS(0, "create", "--thp", "-s", "512B", a, "1MB");
	shm = tmc_shmem_open(a);
	assert_non_null(shm);
	assert_int_equal(tmc_shmem_maximum_size(shm), MIB);
	assert_int_equal(tmc_shmem_current_size(shm), 4096);
	assert_true(tmc_alloc_get_thp(tmc_shmem_alloc(shm)));
	tmc_shmem_close(shm);
	IS(0, "grow", "--populate", a, "4K");
	coded(1, (const char *const[]){ "create", "-H", b, NULL });
	if (cmd.code)
		assert_non_null(strstr(cmd.err, "no hugetlbfs mount"));
	FAILS(1, "no such page size, or NUMA node", "create", "-n", "63", b);
	FAILS(2, "has a node that does not exist", "create", "-n", "0-99", b);
	FAILS(2, "has a node that does not exist", "create", "-n", "3-2", b);
	FAILS(2, "is no list of nodes", "create", "-n", "1-", b);
	FAILS(2, "is no list of nodes", "create", "-n", "0x", b);
	FAILS(2, "is no mode", "create", "-m", "1777", b);
	FAILS(2, "is no place for one", "create", "-a", "0", b);
	FAILS(2, "a command is missing", NULL);
}

/* ----- how it looks ----- */

/* Runs `ls` of the folder with variables. */
static void ls_with(const char *columns, const char *locale)
{
	const char *argv[] = {
		"/usr/bin/env", columns, locale, command_shmemctl_path(),
		"ls",		dir,	 NULL
	};

	assert_int_equal(command_run(&cmd, argv), 0);
}

static int sits(struct peer *self, void *path)
{
	tmc_shmem_t *shm = tmc_shmem_open_readonly(path);
	uint64_t word;

	PEER_CHECK(shm);
	PEER_CHECK(!peer_put(self, 1) && !peer_get(self, &word));
	return 0;
}

static void a_table_is_cut_to_the_columns_there_are(void **state)
{
	struct peer p[9];
	size_t i, len, most = 0;
	const char *line;
	uint64_t word;

	(void)state;
	tmc_shmem_close(make(a, MIB));
	for (i = 0; i < 9; i++) {
		assert_int_equal(peer_fork(&p[i], sits, a), 0);
		assert_int_equal(peer_get(&p[i], &word), 0);
	}
	ls_with("COLUMNS=70", "LC_ALL=C");
	for (line = cmd.out; *line; line += len + 1) {
		len = strcspn(line, "\n");
		if (*line != '/' && len > most)
			most = len;
	}
	assert_int_equal(most, 70);
	assert_non_null(strstr(cmd.out, "...\n"));
	/* The name has a line of its own. */
	assert_non_null(strstr(cmd.out, text("\n%s\n", a)));
	ls_with("COLUMNS=70", "LC_ALL=C.UTF-8");
	assert_non_null(strstr(cmd.out, "\u2026\n"));
	ls_with("COLUMNS=10", "LC_ALL=C");
	assert_int_equal(cmd.code, 0);
	ls_with("COLUMNS=12Q", "LC_ALL=C");
	assert_null(strstr(cmd.out, "...\n"));
	for (i = 0; i < 9; i++) {
		assert_non_null(strstr(cmd.out, text("%d test", p[i].pid)));
		assert_int_equal(peer_put(&p[i], 1), 0);
		assert_int_equal(peer_end(&p[i]), 0);
	}
}

static void ls_lists_files_too_and_nothing_twice(void **state)
{
	const char *const args[] = { "ls", a, dir, dir, a, NULL };
	const char *first;

	(void)state;
	tmc_shmem_close(make(a, MIB));
	assert_int_equal(symlink(a, b), 0); /* in a folder it is no file */
	/* Who tests beside us may have one that is damaged, so it may exit 1. */
	assert_int_equal(command_shmemctl(&cmd, args), 0);
	first = strstr(cmd.out, a);
	assert_non_null(first);
	assert_null(strstr(first + 1, a));
	assert_int_equal(unlink(b), 0);
	FAILS(1, "No such file", "ls", dir, b);
	assert_non_null(strstr(cmd.out, a));
}

/* ----- gc, where it is not let ----- */

static void gc_says_what_it_may_not_remove(void **state)
{
	(void)state;
	UNLESS(!getuid(), "needs another user: root");
	tmc_shmem_close(make(a, MIB));
	assert_int_equal(chmod(a, 0644), 0);
	assert_int_equal(chmod(box_path(""), 0755), 0);
	cmd.uid = NOBODY;
	FAILS(1, "Permission denied", "gc", "-y", dir);
	SAYS("removed 0 files, 0\n");
}

static void gc_does_nothing_at_a_no(void **state)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	(void)state;
	UNLESS(master >= 0 && !grantpt(master) && !unlockpt(master),
	       "no pseudo terminals");
	tmc_shmem_close(make(a, MIB));
	assert_int_equal(write(master, "n\n", 2), 2);
	cmd.terminal = ptsname(master);
	IS(1, "gc", dir);
	assert_string_equal(cmd.err, "");
	assert_int_equal(access(a, F_OK), 0);
	close(master);
}

/* ----- why ----- */

static int owner(struct peer *self, void *arg)
{
	uint64_t word;

	(void)arg;
	PEER_CHECK(!peer_become(NOBODY));
	PEER_CHECK(!peer_put(self, 1) && !peer_get(self, &word));
	return 0;
}

static int member(struct peer *self, void *arg)
{
	gid_t group = 12345;
	uint64_t word;

	(void)arg;
	PEER_CHECK(!setgroups(1, &group) && !setresgid(1, 1, 1) &&
		   !setresuid(NOBODY, NOBODY, NOBODY));
	PEER_CHECK(!peer_put(self, 1) && !peer_get(self, &word));
	return 0;
}

/* In a mount namespace where the folder is another; with @path made there. */
static int elsewhere(struct peer *self, void *path)
{
	uint64_t word;

	PEER_CHECK(!unshare(CLONE_NEWNS));
	PEER_CHECK(!mount("none", dir, "tmpfs", 0, NULL));
	if (path)
		close(open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	PEER_CHECK(!peer_put(self, 1) && !peer_get(self, &word));
	return 0;
}

static int has_other(struct peer *self, void *path)
{
	tmc_shmem_t *shm = tmc_shmem_open(path);
	uint64_t word;

	PEER_CHECK(shm);
	PEER_CHECK(!peer_put(self, (uint64_t)tmc_shmem_fd(shm)));
	PEER_CHECK(!peer_get(self, &word));
	return 0;
}

/* What `why` says of a peer that runs @fn, %d being the word that it puts. */
static void ask_why(int want, const char *says, peer_fn *fn, void *arg)
{
	struct peer p;
	uint64_t word = 0;

	assert_int_equal(peer_fork(&p, fn, arg), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	IS(want, "why", a, text("%d", p.pid));
	if (strstr(says, "descriptor"))
		says = text("%s %u\n", says, (unsigned int)word);
	SAYS(says);
	assert_int_equal(peer_put(&p, 1), 0);
	assert_int_equal(peer_end(&p), 0);
}

static void why_knows_users_and_groups(void **state)
{
	(void)state;
	UNLESS(!getuid(), "needs other users: root");
	IS(0, "create", "-m", "660", a);
	assert_int_equal(chmod(box_path(""), 0755), 0);
	assert_int_equal(chown(a, 0, 12345), 0);
	ask_why(3, "no user 65534 may not read and write the arena", owner,
		NULL);
	ask_why(0, "yes it may read and write the arena\n", member, NULL);
	assert_int_equal(chown(a, NOBODY, 0), 0);
	ask_why(0, "yes it may read and write the arena\n", owner, NULL);
}

static void why_knows_what_the_process_sees_by_that_name(void **state)
{
	(void)state;
	UNLESS(box_can_mount(), "cannot mount");
	IS(0, "create", a);
	ask_why(3, "no it sees no file of that name\n", elsewhere, NULL);
	ask_why(3, "no by that name it sees another file\n", elsewhere, a);
}

static void why_knows_an_arena_that_is_in_the_way(void **state)
{
	(void)state;
	/* Where the thread sanitizer lets them be, too. */
	IS(0, "create", "-a", "0x551000000000", b);
	IS(0, "create", "-a", "0x551000001000", a);
	ask_why(3, text("%s: an arena, its descriptor", b), has_other, b);
}

/* Puts whether an open works, or with @none that it was not tried; waits. */
static int tries(struct peer *self, bool none)
{
	tmc_shmem_t *shm = none ? NULL : tmc_shmem_open(a);
	uint64_t word = none ? LEFT_OUT : shm != NULL;

	tmc_shmem_close(shm);
	PEER_CHECK(!peer_put(self, word) && !peer_get(self, &word));
	return 0;
}

/* `why` says of a peer that runs @fn what is so, and @says. */
static void why_is_right(int want, const char *says, peer_fn *fn, void *arg)
{
	struct peer p;
	uint64_t word = 0;

	assert_int_equal(peer_fork(&p, fn, arg), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	if (word != LEFT_OUT) {
		IS(want, "why", a, text("%d", p.pid));
		SAYS(says);
		assert_int_equal(word, want == 0);
	}
	assert_int_equal(peer_put(&p, 1), 0);
	assert_int_equal(peer_end(&p), 0);
	UNLESS(word != LEFT_OUT, "no user namespaces");
}

static bool writes(const char *path, const char *what)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, what, strlen(what)) > 0;

	if (fd >= 0)
		close(fd);
	return done;
}

/* With all capabilities there, over users that are mapped: root, or nobody. */
static int in_user_namespace(struct peer *self, void *mapped)
{
	bool none = unshare(CLONE_NEWUSER);

	if (mapped && !none)
		PEER_CHECK(writes("/proc/self/setgroups", "deny") &&
			   writes("/proc/self/uid_map", "0 0 1") &&
			   writes("/proc/self/gid_map", "0 0 1"));
	return tries(self, none);
}

static void why_knows_user_namespaces(void **state)
{
	(void)state;
	UNLESS(!getuid(), "needs namespaces: root");
	IS(0, "create", a);
	assert_int_equal(chmod(a, 0), 0); /* only a capability helps */
	why_is_right(0, "yes it may read and write the arena",
		     in_user_namespace, a);
	why_is_right(3, "no user 0 may not read and write the arena",
		     in_user_namespace, NULL);
}

static int read_only(struct peer *self, void *arg)
{
	(void)arg;
	PEER_CHECK(!unshare(CLONE_NEWNS));
	PEER_CHECK(!mount(dir, dir, NULL, MS_BIND, NULL));
	PEER_CHECK(!mount(NULL, dir, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY,
			  NULL));
	return tries(self, false);
}

static void why_knows_a_mount_that_is_read_only(void **state)
{
	(void)state;
	UNLESS(box_can_mount(), "cannot mount");
	IS(0, "create", a);
	why_is_right(3, "no it has that mounted read-only\n", read_only, NULL);
}

/* Numbers that are free from the lowest one on: as many as @arg points to. */
static int few_files(struct peer *self, void *arg)
{
	int n = *(int *)arg, low = dup(self->fd), more = n ? dup(low) : -1;
	struct rlimit r = { (rlim_t)(n ? more : low), 4096 };

	PEER_CHECK(low >= 0 && !setrlimit(RLIMIT_NOFILE, &r));
	close(low);
	if (n)
		close(more);
	return tries(self, false);
}

static void why_knows_how_many_files_it_may_open(void **state)
{
	int n = 0;

	(void)state;
	IS(0, "create", a);
	why_is_right(3, "and this needs 1 more\n", few_files, &n);
	n = 1;
	why_is_right(0, "could open it\n", few_files, &n);
}

static void why_knows_what_is_no_process(void **state)
{
	siginfo_t info;
	pid_t pid = fork();
	char name[16] = "";
	FILE *f;

	(void)state;
	if (!pid)
		_exit(0);
	IS(0, "create", a);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	FAILS(1, text("process %d, ", pid), "why", a, text("%d", pid));
	assert_non_null(strstr(cmd.err, ", has ended\n"));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	f = fopen("/proc/2/comm", "re");
	if (f && !fgets(name, sizeof(name), f))
		name[0] = '\0';
	if (f)
		fclose(f);
	UNLESS(!strcmp(name, "kthreadd\n"), "kernel threads are not seen");
	FAILS(1, "process 2, kthreadd, is a kernel thread\n", "why", a, "2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(memory_is_that_of_the_companion_too),
		TEST(a_companion_that_is_gone_or_another_is_damage),
		TEST(create_takes_kinds_of_memory),
		TEST(a_table_is_cut_to_the_columns_there_are),
		TEST(ls_lists_files_too_and_nothing_twice),
		TEST(gc_says_what_it_may_not_remove),
		TEST(gc_does_nothing_at_a_no),
		TEST(why_knows_users_and_groups),
		TEST(why_knows_what_the_process_sees_by_that_name),
		TEST(why_knows_an_arena_that_is_in_the_way),
		TEST(why_knows_user_namespaces),
		TEST(why_knows_a_mount_that_is_read_only),
		TEST(why_knows_how_many_files_it_may_open),
		TEST(why_knows_what_is_no_process),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
