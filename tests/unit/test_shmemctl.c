/* SPDX-License-Identifier: BSD-3-Clause */
/* test_shmemctl.c - shmemctl ls and stat, and what all commands refuse. */
#include "shmemctl_test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "layout.h"
#include "peer.h"

/* The line of `ls` for @path, with one blank where there are more; NULL. */
static const char *listed(const char *path)
{
	char folder[256];
	const char *line;

	snprintf(folder, sizeof(folder), "%.*s",
		 (int)(strrchr(path, '/') - path), path);
	assert_int_equal(SHMEMCTL(&cmd, "ls", folder), 0);
	line = command_line(cmd.out, path);
	return line ? command_squeeze(line) : NULL;
}

/* ----- ls ----- */

static void ls_tells_sizes_memory_and_users(void **state)
{
	const char *path = box_path("a");
	tmc_shmem_t *shm = make(path, 3 * MIB);

	(void)state;
	assert_string_equal(
		listed(path),
		text("%s 3M 64M 3M 4K open %d test_shmemctl", path, getpid()));
	assert_int_equal(cmd.code, 0);
	tmc_shmem_close(shm);
	assert_string_equal(listed(path), text("%s 3M 64M 3M 4K stale", path));
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_null(listed(path));
}

static void ls_tells_of_arenas_without_a_name(void **state)
{
	const char *path = box_path("a");
	tmc_shmem_t *shm = make(path, MIB), *anonymous;
	tmc_shmem_t *again = tmc_shmem_open(path);
	const char *line;

	(void)state;
	assert_int_equal(tmc_shmem_unlink(path), 0);
	assert_non_null(again);
	anonymous = tmc_shmem_create_anonymous(NULL, NULL, MAX);
	assert_non_null(anonymous);
	assert_int_equal(SHMEMCTL(&cmd, "ls"), 0);
	line = strstr(cmd.out,
		      text("/proc/%d/fd/%d\n", getpid(), tmc_shmem_fd(shm)));
	assert_non_null(line);
	line = strstr(cmd.out, text("/proc/%d/fd/%d\n", getpid(),
				    tmc_shmem_fd(anonymous)));
	assert_non_null(line);
	assert_int_equal(SHMEMCTL(&cmd, "stat",
				  text("/proc/%d/fd/%d", getpid(),
				       tmc_shmem_fd(anonymous))),
			 0);
	assert_int_equal(cmd.code, 0);
	tmc_shmem_close(anonymous);
	tmc_shmem_close(again);
	tmc_shmem_close(shm);
}

static int user(struct peer *self, void *path)
{
	tmc_shmem_t *shm = tmc_shmem_open(path);
	uint64_t word;

	PEER_CHECK(shm);
	PEER_CHECK(!peer_put(self, 1) && !peer_get(self, &word));
	return 0;
}

/* Whom /proc hides the locks tell of. */
static void ls_counts_users_that_may_not_be_seen(void **state)
{
	const char *path = box_path("a");
	tmc_shmem_t *shm = make(path, MIB);
	struct peer p;
	uint64_t word;

	(void)state;
	if (getuid()) {
		print_message("needs another user: root\n");
		skip();
	}
	assert_int_equal(fchmod(tmc_shmem_fd(shm), 0644), 0);
	assert_int_equal(chmod(box_path(""), 0755), 0);
	assert_int_equal(peer_fork(&p, user, (void *)path), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	cmd.uid = NOBODY;
	assert_string_equal(listed(path),
			    text("%s 1M 64M 1M 4K open 2 not visible", path));
	assert_int_equal(SHMEMCTL(&cmd, "stat", path), 0);
	assert_non_null(command_line(cmd.out, "open by 2 that write"));
	cmd.uid = 0;
	assert_int_equal(peer_put(&p, 1), 0);
	assert_int_equal(peer_end(&p), 0);
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* Processes come and go while it looks. */
static int forks(struct peer *self, void *path)
{
	int i;

	for (i = 0; i < 200; i++) {
		struct peer p;
		uint64_t word;

		PEER_CHECK(!peer_fork(&p, user, path));
		PEER_CHECK(!peer_get(&p, &word));
		peer_kill(&p);
	}
	return peer_put(self, 1);
}

static void ls_does_not_mind_processes_that_vanish(void **state)
{
	const char *path = box_path("a");
	struct peer p;
	int i;

	(void)state;
	tmc_shmem_close(make(path, MIB));
	assert_int_equal(peer_fork(&p, forks, (void *)path), 0);
	for (i = 0; i < 20; i++) {
		assert_non_null(listed(path));
		assert_int_equal(cmd.code, 0);
		assert_string_equal(cmd.err, "");
	}
	assert_int_equal(peer_end(&p), 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* Parsed by another program: its exit code. */
static int python(const char *script, const char *json)
{
	static struct command py;
	const char *argv[] = {
		"/bin/sh", "-c", "exec python3 -c \"$1\" \"$2\"", "sh", script,
		json,	   NULL
	};

	if (command_run(&py, argv))
		return -1;
	if (py.code)
		print_message("%s%s", py.out, py.err);
	return py.code;
}

static int have_python(void)
{
	if (!python("import json", ""))
		return 1;
	print_message("no python3\n");
	return 0;
}

static void json_is_json_whatever_a_name_is(void **state)
{
	const char *path =
		box_path("a\n\033[31m\"\\\xff\xc3\xa4\xc3(\xe0\x80\x80z");
	tmc_shmem_t *shm = make(path, MIB);
	const char *script = "import json, sys, os\n"
			     "l = json.loads(sys.argv[1])\n"
			     "l = [a for a in l if a['name'].endswith('z')]\n"
			     "assert len(l) == 1, l\n"
			     "n = os.fsencode(os.path.basename(l[0]['name']))\n"
			     "assert n == "
			     "b'a\\n\\x1b[31m\"\\\\\\xff\\xc3\\xa4\\xc3("
			     "\\xe0\\x80\\x80z', n\n"
			     "a = l[0]\n"
			     "assert a['size'] == 1 << 20, a\n"
			     "assert a['maximum'] == 64 << 20, a\n"
			     "assert a['page'] == 4096 and not a['huge'], a\n"
			     "assert a['open'] and not a['stale'], a\n"
			     "assert len(a['processes']) == 1, a\n"
			     "assert a['processes'][0]['writes'], a\n"
			     "int(a['address'], 16)\n";

	(void)state;
	assert_int_equal(SHMEMCTL(&cmd, "ls", box_path("")), 0);
	assert_null(strchr(cmd.out, '\033'));
	assert_int_equal(SHMEMCTL(&cmd, "stat", path), 0);
	assert_null(strchr(cmd.out, '\033'));
	if (have_python()) {
		assert_int_equal(SHMEMCTL(&cmd, "ls", "--json", box_path("")),
				 0);
		assert_int_equal(python(script, cmd.out), 0);
		assert_int_equal(SHMEMCTL(&cmd, "stat", "--json", path), 0);
		assert_int_equal(python("import json, sys\n"
					"a = json.loads(sys.argv[1])\n"
					"assert len(a['fields']) == 18, a\n",
					cmd.out),
				 0);
	}
	tmc_shmem_close(shm);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* ----- damage ----- */

static void put_word(const char *path, off_t off, uint64_t word, size_t len)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_int_equal(pwrite(fd, &word, len, off), len);
	close(fd);
}

static void reseal(const char *path)
{
	struct layout_const c;
	const unsigned char *p = (const unsigned char *)&c;
	uint64_t sum = 0xcbf29ce484222325ull;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	size_t i;

	assert_int_equal(pread(fd, &c, sizeof(c), 0), sizeof(c));
	for (i = 0; i < offsetof(struct layout_const, checksum); i++)
		sum = (sum ^ p[i]) * 0x100000001b3ull;
	c.checksum = sum;
	assert_int_equal(pwrite(fd, &c, sizeof(c), 0), sizeof(c));
	close(fd);
}

#define CONST(f) offsetof(struct layout_const, f)
#define WORD(f) offsetof(struct layout_hdr_words, f)

static const struct forgery {
	size_t off, len;
	uint64_t word;
	const char *says; /* "": so that checksum says it */
} forgeries[] = {
	{ CONST(format), 4, 2, "format: this shmemctl knows format 1" },
	{ CONST(abi), 4, 7, "abi: is not " },
	{ CONST(checksum), 8, 7, "checksum: is not " },
	{ CONST(base), 8, 0, "address: is no multiple" },
	{ CONST(base), 8, 4097, "address: is no multiple" },
	{ CONST(base), 8, 1ull << 63, "address: is outside" },
	{ CONST(maxsize), 8, 0, "maximum: is no multiple" },
	{ CONST(maxsize), 8, 0x7ffffffffffff000, "maximum: reaches beyond" },
	{ CONST(pagesize), 8, 8192, "page: this machine has no small pages" },
	{ CONST(flags), 8, 64, "flags: has unknown bits: 0x40" },
	{ CONST(huge_ino), 8, 99, "page: this machine has no huge pages" },
	{ WORD(size), 8, 1ull << 40, "size: is above the maximum" },
	{ WORD(size), 8, 5, "size: is no multiple" },
	{ WORD(lock), 8, 0xfffe, "lock: there is no such slot" },
};

/* One after the other; @path is right again in between. */
static void stat_names_what_is_forged(void **state)
{
	const char *path = box_path("a");
	size_t n = sizeof(forgeries) / sizeof(forgeries[0]), i;

	(void)state;
	for (i = 0; i < n; i++) {
		const struct forgery *f = &forgeries[i];

		tmc_shmem_close(make(path, MIB));
		put_word(path, (off_t)f->off, f->word, f->len);
		if (f->off < CONST(checksum))
			reseal(path);
		assert_int_equal(SHMEMCTL(&cmd, "stat", path), 0);
		assert_int_equal(cmd.code, 1);
		assert_non_null(strstr(cmd.err, text("%s: %s", path, f->says)));
		assert_int_equal(command_lines(cmd.err), 1);
		assert_non_null(strstr(cmd.out, "wrong: "));
		assert_non_null(strstr(listed(path), "damaged"));
		assert_int_equal(cmd.code, 1);
		FAILS(3, "", "check", "-r", path);
		FAILS(1, f->says, "why", path, "1");
		assert_int_equal(unlink(path), 0);
	}
}

static void a_size_that_the_file_has_not_got_is_a_note(void **state)
{
	const char *path = box_path("a");

	(void)state;
	tmc_shmem_close(make(path, MIB));
	put_word(path, WORD(size), 4096, 8);
	assert_int_equal(SHMEMCTL(&cmd, "stat", path), 0);
	assert_int_equal(cmd.code, 0);
	assert_non_null(strstr(cmd.out, "note: is more than the size"));
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static const char *const takers[][3] = {
	{ "stat" },	    { "stat", "--json" }, { "map" }, { "heap" },
	{ "check" },	    { "check", "-r" },	  { "ls" },  { "rm" },
	{ "rm", "--idle" },
};
#define TAKERS (sizeof(takers) / sizeof(takers[0]))

static const char *commands(void)
{
	static struct command help;

	assert_int_equal(SHMEMCTL(&help, "--help"), 0);
	return help.out;
}

/* All commands that take a path say in one line what is wrong with it. */
static void all_refuse(const char *path, const char *says)
{
	const char *args[5];
	size_t i;

	for (i = 0; i < TAKERS + 2; i++) {
		const char *const *t = i < TAKERS ? takers[i]
				       : i == TAKERS
					       ? (const char *[3]){ "grow" }
					       : (const char *[3]){ "why" };
		size_t n = 0, k;

		for (k = 0; t[k]; k++)
			args[n++] = t[k];
		args[n++] = path;
		if (i >= TAKERS)
			args[n++] = "4096";
		args[n] = NULL;
		if (!strcmp(t[0], "ls") && !strcmp(says, "directory"))
			continue;
		assert_int_equal(command_shmemctl(&cmd, args), 0);
		if (cmd.code == 0 || command_lines(cmd.err) != 1)
			print_message("%s %s: %d, %s", t[0], path, cmd.code,
				      cmd.err);
		assert_int_equal(cmd.code, 1);
		assert_int_equal(command_lines(cmd.err), 1);
		assert_memory_equal(cmd.err, "shmemctl: ", 10);
		assert_non_null(strstr(cmd.err, path));
		assert_non_null(strstr(cmd.err, says));
	}
}

static void make_file(const char *path, const void *data, size_t n, off_t len)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);

	assert_int_equal(pwrite(fd, data, n, 0), n);
	assert_int_equal(ftruncate(fd, len), 0);
	close(fd);
}

static void what_is_no_arena_is_refused_in_one_line(void **state)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	const char *path = box_path("x"), *link = box_path("y");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char junk[4096];

	(void)state;
	all_refuse(box_path("missing"), "No such file");
	all_refuse(text("%s/x", box_path("missing")), "No such file");
	all_refuse(box_path(""), "directory");
	all_refuse("/dev/null", "device");
	assert_int_equal(mkfifo(path, 0600), 0);
	all_refuse(path, "FIFO");
	assert_int_equal(unlink(path), 0);
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	close(fd);
	all_refuse(path, "socket");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink(link, link), 0);
	all_refuse(link, "symbolic links");
	assert_int_equal(unlink(link), 0);
	make_file(path, "", 0, 0);
	all_refuse(path, "empty");
	memset(junk, 'j', sizeof(junk));
	make_file(path, junk, sizeof(junk), 1 << 20);
	all_refuse(path, "is no arena");
	assert_int_equal(unlink(path), 0);
}

static void a_truncated_arena_is_refused_in_one_line(void **state)
{
	static const off_t lengths[] = { 8, 79, 1024, 16383 };
	const char *path = box_path("a");
	size_t i;

	(void)state;
	for (i = 0; i < 4; i++) {
		tmc_shmem_close(make(path, MIB));
		assert_int_equal(truncate(path, lengths[i]), 0);
		assert_non_null(strstr(listed(path), "the file is cut"));
		assert_int_equal(cmd.code, 1);
		assert_int_equal(SHMEMCTL(&cmd, "stat", path), 0);
		assert_int_equal(cmd.code, 1);
		assert_non_null(strstr(cmd.err, "file: the file is cut"));
		assert_int_equal(SHMEMCTL(&cmd, "grow", path, "4K"), 0);
		assert_int_equal(cmd.code, 1);
		assert_non_null(strstr(cmd.err, "file: the file is cut"));
		assert_int_equal(SHMEMCTL(&cmd, "rm", path), 0);
		assert_int_equal(cmd.code, 1);
		assert_int_equal(unlink(path), 0);
	}
}

static void no_permission_is_one_line(void **state)
{
	const char *path = box_path("a");

	(void)state;
	if (getuid()) {
		print_message("needs another user: root\n");
		skip();
	}
	tmc_shmem_close(make(path, MIB));
	assert_int_equal(chmod(box_path(""), 0755), 0);
	cmd.uid = NOBODY;
	listed(path);
	assert_int_equal(cmd.code, 0);
	assert_non_null(strstr(cmd.out, " may not be read\n"));
	all_refuse(path, "");
	assert_non_null(strstr(cmd.err, "Permission denied"));
	cmd.uid = 0;
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* ----- looking takes nothing ----- */

static void looking_takes_no_memory_and_changes_nothing(void **state)
{
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	const char *path = box_path("a");
	tmc_shmem_t *shm = tmc_shmem_create(
		path, tmc_alloc_clear_populate(&alloc), NULL, GIB);
	struct stat before, after;
	char *p;

	(void)state;
	assert_non_null(shm);
	p = tmc_shmem_grow(shm, 512 * MIB);
	assert_non_null(p);
	p[64 * MIB] = 1;
	tmc_shmem_close(shm);
	assert_int_equal(stat(path, &before), 0);
	assert_true(before.st_blocks * 512 < 1 << 20);
	assert_non_null(listed(path));
	assert_int_equal(SHMEMCTL(&cmd, "stat", path), 0);
	assert_int_equal(cmd.code, 0);
	assert_int_equal(SHMEMCTL(&cmd, "check", "-r", path), 0);
	assert_int_equal(SHMEMCTL(&cmd, "why", path, "1"), 0);
	assert_int_equal(SHMEMCTL(&cmd, "map", path), 0);
	assert_int_equal(cmd.code, 0);
	assert_int_equal(SHMEMCTL(&cmd, "heap", path), 0);
	assert_int_equal(cmd.code, 0);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(after.st_blocks, before.st_blocks);
	assert_int_equal(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
	assert_int_equal(after.st_mtim.tv_sec, before.st_mtim.tv_sec);
	assert_int_equal(after.st_size, before.st_size);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

/* ----- words ----- */

static void absurd_numbers_are_not_understood(void **state)
{
	static const char *const sizes[] = {
		"12Q", "1e99", "",    "0x10", "99999999999999999999",
		"16E", "1.5",  "4KK", " 1",   "+1",
		"-1",  "K",    "0",
	};
	const char *path = box_path("a"), *other = box_path("b");
	size_t n = sizeof(sizes) / sizeof(sizes[0]), i;

	(void)state;
	tmc_shmem_close(make(path, MIB));
	for (i = 0; i < n; i++) {
		assert_int_equal(SHMEMCTL(&cmd, "grow", path, "--", sizes[i]),
				 0);
		assert_int_equal(cmd.code, 2);
		assert_int_equal(command_lines(cmd.err), 1);
		assert_int_equal(
			SHMEMCTL(&cmd, "create", other, "--", sizes[i]), 0);
		assert_int_equal(cmd.code, 2);
		assert_int_equal(command_lines(cmd.err), 1);
		assert_int_equal(SHMEMCTL(&cmd, "why", path, "--",
					  text("%sx", sizes[i])),
				 0);
		assert_int_equal(cmd.code, 2);
	}
	assert_int_equal(SHMEMCTL(&cmd, "why", path, "--", "0"), 0);
	assert_int_equal(cmd.code, 2);
	assert_int_equal(access(other, F_OK), -1);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void words_that_are_missing_or_too_many_are_not_understood(void **state)
{
	static const char *const lines[][5] = {
		{ "nonsense" },
		{ "stat" },
		{ "stat", "a", "b" },
		{ "ls", "--bogus" },
		{ "grow", "a" },
		{ "create" },
		{ "create", "-s" },
		{ "create", "-p", "3K", "x" },
		{ "create", "-a", "zz", "x" },
		{ "create", "-m", "999", "x" },
		{ "create", "-n", "9,x", "x" },
		{ "rm" },
		{ "gc", "a", "b" },
		{ "why", "a" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		assert_int_equal(command_shmemctl(&cmd, lines[i]), 0);
		assert_int_equal(cmd.code, 2);
		assert_int_equal(command_lines(cmd.err), 1);
		assert_string_equal(cmd.out, "");
	}
}

static void each_command_has_help(void **state)
{
	static const char *const names[] = { "ls",   "stat", "check", "create",
					     "grow", "rm",   "gc",    "why" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_non_null(strstr(commands(), text("\n  %s ", names[i])));
		assert_int_equal(SHMEMCTL(&cmd, names[i], "--help"), 0);
		assert_int_equal(cmd.code, 0);
		assert_non_null(command_line(
			cmd.out, text("usage: shmemctl %s", names[i])));
		assert_string_equal(cmd.err, "");
	}
	assert_int_equal(SHMEMCTL(&cmd, "--version"), 0);
	assert_string_equal(cmd.out,
			    text("shmemctl %d.%d.%d\n", TMC_SHMEM_VERSION_MAJOR,
				 TMC_SHMEM_VERSION_MINOR,
				 TMC_SHMEM_VERSION_PATCH));
}

/* ----- output that does not arrive ----- */

static void a_full_disk_is_one_line(void **state)
{
	const char *path = box_path("a");

	(void)state;
	tmc_shmem_close(make(path, MIB));
	cmd.output = "/dev/full";
	assert_int_equal(SHMEMCTL(&cmd, "stat", path), 0);
	assert_int_equal(cmd.code, 1);
	assert_string_equal(cmd.err,
			    "shmemctl: output: No space left on device\n");
	assert_int_equal(SHMEMCTL(&cmd, "--help"), 0);
	assert_int_equal(cmd.code, 1);
	assert_int_equal(SHMEMCTL(&cmd, "ls", "--help"), 0);
	assert_int_equal(cmd.code, 1);
	cmd.output = NULL;
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

static void a_closed_pipe_is_no_news(void **state)
{
	const char *path = box_path("a"), *fifo = box_path("fifo");
	int fd;

	(void)state;
	tmc_shmem_close(make(path, MIB));
	assert_int_equal(mkfifo(fifo, 0600), 0);
	/* A pipe whose reader goes before anything is written. */
	for (cmd.ignores_pipe = 0; cmd.ignores_pipe < 2; cmd.ignores_pipe++) {
		const char *const args[] = {
			"/bin/sh",
			"-c",
			"{ read -r go; exec \"$0\" stat \"$1\"; } <\"$2\" | "
			"{ exec <&-; echo >\"$2\"; }; echo ${PIPESTATUS[0]}",
			command_shmemctl_path(),
			path,
			fifo,
			NULL
		};
		const char *bash[8];

		memcpy(bash, args, sizeof(args));
		bash[0] = "/bin/bash";
		if (access(bash[0], X_OK)) {
			print_message("no bash\n");
			break;
		}
		assert_int_equal(command_run(&cmd, bash), 0);
		assert_string_equal(cmd.err, "");
		assert_string_equal(cmd.out,
				    cmd.ignores_pipe ? "1\n" : "141\n");
	}
	cmd.ignores_pipe = 0;
	fd = unlink(fifo);
	assert_int_equal(fd, 0);
	assert_int_equal(tmc_shmem_unlink(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(ls_tells_sizes_memory_and_users),
		TEST(ls_tells_of_arenas_without_a_name),
		TEST(ls_counts_users_that_may_not_be_seen),
		TEST(ls_does_not_mind_processes_that_vanish),
		TEST(json_is_json_whatever_a_name_is),
		TEST(stat_names_what_is_forged),
		TEST(a_size_that_the_file_has_not_got_is_a_note),
		TEST(what_is_no_arena_is_refused_in_one_line),
		TEST(a_truncated_arena_is_refused_in_one_line),
		TEST(no_permission_is_one_line),
		TEST(looking_takes_no_memory_and_changes_nothing),
		TEST(absurd_numbers_are_not_understood),
		TEST(words_that_are_missing_or_too_many_are_not_understood),
		TEST(each_command_has_help),
		TEST(a_full_disk_is_one_line),
		TEST(a_closed_pipe_is_no_news),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
