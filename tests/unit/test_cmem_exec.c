/* SPDX-License-Identifier: BSD-3-Clause */
/* test_cmem_exec.c - a family's memory in programs that are executed. */
#include "test.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shmem.h>

#include "kernel.h"
#include "peer.h"
#include "probe.h"

#define NOBODY 65534
#define MUTANTS 20000
#define NPAGES 4

static int begin(void **state)
{
	unsetenv("TMC_CMEM_INFO");
	unsetenv("TMC_CMEM_START");
	return test_box_open(state);
}

static int end(void **state)
{
	(void)state;
	tmc_cmem_close();
	unsetenv("TMC_CMEM_INFO");
	unsetenv("TMC_CMEM_START");
	box_pool_end();
	return 0;
}

/* A block with @text, and its address in hexadecimal. */
static char *block(const char *text, char hex[32])
{
	char *p = tmc_cmem_malloc(strlen(text) + 1);

	assert_non_null(p);
	strcpy(p, text);
	snprintf(hex, 32, "%lx", (unsigned long)p);
	return p;
}

/* The address of the arena that pages for @alloc come from. */
static void arena_hex(const tmc_alloc_t *alloc, char hex[32])
{
	tmc_shmem_t *shm = tmc_shmem_find(tmc_alloc_map(alloc, 1), NULL);

	assert_non_null(shm);
	snprintf(hex, 32, "%lx", (unsigned long)tmc_shmem_address(shm));
}

/* Descriptors that exec would leave open, beyond the first three. */
static int kept_fds(void)
{
	int fd, n = 0;

	for (fd = 3; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) == 0;
	return n;
}

#define RUN(...)                                                               \
	assert_int_equal(                                                      \
		peer_run_agent("relative",                                     \
			       (const char *const[]){ __VA_ARGS__, NULL }),    \
		0)

static void it_does_not_persist_unless_asked(void **state)
{
	int kept = kept_fds();
	char hex[32];

	(void)state;
	assert_int_equal(tmc_cmem_init(0), 0);
	block("here", hex);
	assert_int_equal(kept_fds(), kept);
	RUN("info", "0", "fail", "61", "init", "0", "0");
	assert_int_equal(tmc_cmem_persist_after_exec(1), 0);
	assert_int_equal(kept_fds(), kept + 1);
	RUN("info", "1", "str", hex, "here");
	/* Asked twice is as asked once. */
	assert_int_equal(tmc_cmem_persist_after_exec(2), 0);
	assert_int_equal(kept_fds(), kept + 1);
	RUN("str", hex, "here");
	assert_int_equal(tmc_cmem_persist_after_exec(0), 0);
	assert_int_equal(tmc_cmem_persist_after_exec(0), 0);
	assert_int_equal(kept_fds(), kept);
	RUN("info", "0", "fail", "61", "init", "0", "0");
}

static void a_program_takes_part_by_its_first_call(void **state)
{
	const char *const visit[] = { "give", "from there", "step", "init",
				      "1",    "22",	    NULL }; /* EINVAL */
	char hex[32], *p;
	struct peer q;
	uint64_t word;

	(void)state;
	assert_int_equal(tmc_cmem_init(32 * MIB), 0);
	assert_int_equal(tmc_cmem_persist_after_exec(1), 0);
	p = block("from here", hex);
	RUN("capacity", "33554432", "str", hex, "from here", "free", hex);
	block("again", hex);
	RUN("init", "1", "22", "str", hex, "again");
	block("to be freed", hex);
	RUN("free", hex);
	assert_int_equal(peer_exec(&q, "relative", visit), 0);
	assert_int_equal(peer_get(&q, &word), 0);
	p = (char *)word;
	assert_int_equal(peer_get(&q, &word), 0);
	assert_string_equal(p, "from there");
	tmc_cmem_free(p);
	assert_int_equal(peer_put(&q, 0), 0);
	assert_int_equal(peer_end(&q), 0);
}

static void so_does_one_that_is_executed_by_it(void **state)
{
	char hex[32];

	(void)state;
	assert_int_equal(tmc_cmem_init(0), 0);
	assert_int_equal(tmc_cmem_persist_after_exec(1), 0);
	block("three times", hex);
	RUN("str", hex, "three times", "again", "str", hex, "three times",
	    "again", "again", "str", hex, "three times");
	/* Until one of them wants it no more. */
	RUN("str", hex, "three times", "persist", "0", "0", "info", "0",
	    "again", "fail", "61");
	RUN("str", hex, "three times", "close", "0", "info", "0", "fail", "61",
	    "again", "fail", "61");
	RUN("close", "0", "again", "fail", "61");
	RUN("persist", "0", "0", "persist", "1", "0", "again", "str", hex,
	    "three times");
	/* What they closed was theirs. */
	RUN("str", hex, "three times");
}

/* Runs a command of the shell with the agent's path in $0; its exit code. */
static int in_a_shell(struct peer *self, void *arg)
{
	const char *const *command = arg;

	if (dup2(self->fd, 0) == 0)
		execl("/bin/sh", "sh", "-c", command[0], peer_agent("relative"),
		      command[1], command[2], NULL);
	return 126;
}

static void a_shell_in_between_passes_it_on(void **state)
{
	char hex[32];
	const char *command[] = {
		"x=$(echo a) && \"$0\" str \"$1\" \"$2\" | cat && "
		"\"$0\" str \"$1\" \"$2\" && exec 5</dev/null 9>&1 && "
		"sh -c '\"$0\" \"$@\"' \"$0\" str \"$1\" \"$2\" free \"$1\"",
		hex, "through a shell"
	};

	(void)state;
	assert_int_equal(tmc_cmem_init(0), 0);
	assert_int_equal(tmc_cmem_persist_after_exec(1), 0);
	block("through a shell", hex);
	assert_int_equal(peer_run(in_a_shell, command), 0);
}

/* In between, nobody's life is prolonged by what the shell holds. */
static void what_is_passed_on_holds_no_locks(void **state)
{
	const char *const visit[] = { "step", "locks", "0", "init",
				      "1",    "22",    NULL };
	struct peer p;
	uint64_t word;

	(void)state;
	assert_int_equal(tmc_cmem_init(0), 0);
	RUN("locks", "-1");
	assert_int_equal(tmc_cmem_persist_after_exec(1), 0);
	RUN("locks", "1");
	assert_int_equal(peer_exec(&p, "relative", visit), 0);
	assert_int_equal(peer_get(&p, &word), 0);
	/* We go; the other still has the descriptor, and nobody has a lock. */
	assert_int_equal(tmc_cmem_close(), 0);
	assert_int_equal(peer_put(&p, 0), 0);
	assert_int_equal(peer_end(&p), 0);
}

static int pass_on_without_proc(struct peer *self, void *arg)
{
	const char *visit[] = { "str", NULL, "as ever", "give", "x", NULL };
	struct peer p;
	char hex[32], *s;
	uint64_t word;

	(void)self;
	(void)arg;
	kernel_without_reopen();
	PEER_CHECK(tmc_cmem_init(0) == 0);
	PEER_CHECK(tmc_cmem_persist_after_exec(1) == 0);
	s = tmc_cmem_malloc(10);
	PEER_CHECK(s);
	strcpy(s, "as ever");
	snprintf(hex, sizeof(hex), "%lx", (unsigned long)s);
	visit[1] = hex;
	PEER_CHECK(peer_exec(&p, "relative", visit) == 0);
	PEER_CHECK(peer_get(&p, &word) == 0);
	PEER_CHECK(peer_end(&p) == 0);
	PEER_CHECK(!strcmp((char *)word, "x"));
	tmc_cmem_free((char *)word);
	return 0;
}

/* The descriptors are duplicates then. */
static void without_proc_it_is_passed_on_all_the_same(void **state)
{
	(void)state;
	assert_int_equal(peer_run(pass_on_without_proc, NULL), 0);
}

static void all_arenas_of_the_set_are_passed_on(void **state)
{
	size_t huge = tmc_alloc_get_huge_pagesize();
	tmc_alloc_t plain = TMC_CMEM_ALLOC_INIT, thp = plain, local = plain;
	char a[32], b[32], c[32];
	int kept = kept_fds();

	(void)state;
	assert_int_equal(tmc_cmem_init(0), 0);
	arena_hex(&plain, a);
	arena_hex(tmc_alloc_set_thp(&thp), b);
	arena_hex(tmc_alloc_set_node_local(&local), c);
	if (huge && box_pool(huge, NPAGES) >= NPAGES) {
		tmc_alloc_t h = plain;

		assert_int_equal(tmc_cmem_prepare_alloc(tmc_alloc_set_huge(&h)),
				 0);
		kept += 2;
	}
	assert_int_equal(tmc_cmem_persist_after_exec(1), 0);
	assert_int_equal(kept_fds(), kept + 3);
	RUN("map", "thp", b, "map", "none", a, "map", "local", c, "again",
	    "map", "local", c);
	/* The set is frozen, here and there, also when it persists no more. */
	tmc_alloc_set_thp(&local);
	assert_minus_errno(tmc_cmem_prepare_alloc(&local), EPERM);
	RUN("prepare", "thp", "0", "prepare", "local", "0");
	assert_int_equal(tmc_cmem_persist_after_exec(0), 0);
	assert_minus_errno(tmc_cmem_prepare_alloc(&local), EPERM);
	assert_int_equal(tmc_cmem_prepare_alloc(&thp), 0);
	assert_int_equal(tmc_cmem_close(), 0);
	assert_int_equal(tmc_cmem_init(0), 0);
	assert_int_equal(tmc_cmem_persist_after_exec(1), 0);
	RUN("prepare", "thp", "1", "persist", "0", "0", "prepare", "thp", "1");
}

/* ----- what is not true ----- */

static const char *const forged[] = {
	"1",
	"1;",
	"2;3.0.1000.1.1.0.0.0",
	"1;3",
	"1;3.0.1000.1.1.0.0",
	"1;3.0.1000.1.1.0.0.0.",
	"1;3.0.1000.1.1.0.0.0;",
	"1;3.0.1000.1.1.0.0.0 ",
	"1;3.0.1000.1.1.0.0.2",
	"1;3.0.1000.1.1.5.0.0",
	"1;3.0.1000.1.1.1.0.0",
	"1;3.0.1000.1.1.0.1.0",
	"1;3.0.1000.1.1.0.0.1",
	"1;3.4.1000.1.1.0.0.0",
	"1;80000000.0.1000.1.1.0.0.0",
	"1;-1.0.1000.1.1.0.0.0",
	"1; 3.0.1000.1.1.0.0.0",
	"1;0x3.0.1000.1.1.0.0.0",
	"1;03.0.1000.1.1.0.0.0",
	"1;A.0.1000.1.1.0.0.0",
	"1;3.0.11112222333344445.1.1.0.0.0",
	"1;3.0.1000.1.1.0.0.0;3.0.2000.2.2.0.0.1",
	"1;3.0.1000.1.1.0.0.0;4.4.2000.2.2.0.0.1",
	"1;3.0.1000.1.1.0.0.0;5.6.2000.2.2.0.0.1",
	"\xff\xff",
};

static void what_the_library_does_not_write_is_ebadmsg(void **state)
{
	size_t i, n;
	char many[4096] = "1;3.0.1000.1.1.0.0.0";

	(void)state;
	for (i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
		assert_int_equal(setenv("TMC_CMEM_INFO", forged[i], 1), 0);
		assert_null_errno(tmc_cmem_malloc(1), EBADMSG);
		assert_minus_errno(tmc_cmem_init(0), EBADMSG);
	}
	for (i = 0; i < 32; i++) {
		n = strlen(many);
		snprintf(many + n, sizeof(many) - n, ";%zx.0.1000.1.1.0.0.0",
			 i + 16);
	}
	assert_int_equal(setenv("TMC_CMEM_INFO", many, 1), 0);
	assert_minus_errno(tmc_cmem_init(0), EBADMSG);
	assert_minus_errno(tmc_cmem_close(), EBADMSG);
	assert_minus_errno(tmc_cmem_persist_after_exec(1), EBADMSG);
	assert_int_equal(tmc_cmem_get_capacity(), 0);
	assert_int_equal(errno, EBADMSG);
	/* As if it were not there. */
	assert_int_equal(setenv("TMC_CMEM_INFO", "", 1), 0);
	assert_null_errno(tmc_cmem_malloc(1), ENODATA);
}

/* Field @nth of the first arena becomes @value. */
static void change_field(int nth, const char *value)
{
	char text[4096], *at;
	const char *info = getenv("TMC_CMEM_INFO"), *rest;

	assert_non_null(info);
	snprintf(text, sizeof(text), "%s", info);
	for (at = strchr(text, ';') + 1; nth > 0; nth--)
		at = strchr(at, '.') + 1;
	rest = info + (at - text) + strcspn(at, ".;");
	snprintf(at, sizeof(text) - (size_t)(at - text), "%s%s", value, rest);
	assert_int_equal(setenv("TMC_CMEM_INFO", text, 1), 0);
}

static void descriptors_that_are_others_are_estale(void **state)
{
	const char *const stale = "116"; /* ESTALE */
	tmc_shmem_t *other = tmc_shmem_create_anonymous(NULL, NULL, 0);
	int other_fd, file, pipes[2];
	char number[16], hex[32], *info;

	(void)state;
	assert_int_equal(ESTALE, 116);
	assert_int_equal(tmc_cmem_init(0), 0);
	assert_int_equal(tmc_cmem_persist_after_exec(1), 0);
	block("right", hex);
	info = strdup(getenv("TMC_CMEM_INFO"));
	assert_non_null(info);
	/* Not open; no file; a pipe; a file; another arena. */
	assert_int_equal(pipe(pipes), 0);
	other_fd = dup(tmc_shmem_fd(other));
	file = open(box_path("file"), O_RDWR | O_CREAT, 0600);
	assert_true(file >= 0 && other_fd >= 0);
	assert_int_equal(ftruncate(file, 1 << 20), 0);
	change_field(0, "3ff");
	RUN("fail", stale, "init", "-1", stale);
	change_field(0, "0");
	RUN("fail", stale);
	snprintf(number, sizeof(number), "%x", (unsigned int)pipes[0]);
	change_field(0, number);
	RUN("fail", stale);
	snprintf(number, sizeof(number), "%x", (unsigned int)file);
	change_field(0, number);
	RUN("fail", stale);
	snprintf(number, sizeof(number), "%x", (unsigned int)other_fd);
	change_field(0, number);
	RUN("fail", stale);
	/* The arena, but not as it says. */
	setenv("TMC_CMEM_INFO", info, 1);
	change_field(2, "400000000000");
	RUN("fail", stale);
	setenv("TMC_CMEM_INFO", info, 1);
	change_field(3, "1");
	RUN("fail", stale);
	setenv("TMC_CMEM_INFO", info, 1);
	change_field(4, "1");
	RUN("fail", stale);
	setenv("TMC_CMEM_INFO", info, 1);
	RUN("str", hex, "right");
	/* The program is still free to begin anew. */
	change_field(4, "1");
	RUN("fail", stale, "init", "-1", stale, "close", stale);
	setenv("TMC_CMEM_INFO", info, 1);
	free(info);
	close(pipes[0]);
	close(pipes[1]);
	close(other_fd);
	close(file);
	tmc_shmem_close(other);
}

/* A second arena that is not right: neither is mapped. */
static void of_several_arenas_all_or_none_are_mapped(void **state)
{
	tmc_alloc_t thp = TMC_CMEM_ALLOC_INIT;
	char hex[32], text[512], *second;

	(void)state;
	assert_int_equal(tmc_cmem_init(0), 0);
	arena_hex(tmc_alloc_set_thp(&thp), hex);
	assert_int_equal(tmc_cmem_persist_after_exec(1), 0);
	RUN("map", "thp", hex);
	RUN("taken", hex, "fail", "98"); /* EADDRINUSE */
	snprintf(text, sizeof(text), "%s", getenv("TMC_CMEM_INFO"));
	second = strrchr(text, ';');
	second[1] ^= 1; /* its descriptor is another one */
	assert_int_equal(setenv("TMC_CMEM_INFO", text, 1), 0);
	RUN("fail", "116");
}

static void a_taken_address_is_eaddrinuse(void **state)
{
	char hex[32], at[32];
	tmc_alloc_t plain = TMC_CMEM_ALLOC_INIT;

	(void)state;
	assert_int_equal(tmc_cmem_init(0), 0);
	assert_int_equal(tmc_cmem_persist_after_exec(1), 0);
	block("x", hex);
	arena_hex(&plain, at);
	RUN("taken", at, "fail", "98", "init", "-1", "98");
}

/* An arena of ours without a heap, or with a root pointer to nowhere. */
static int attach_to(struct peer *self, void *arg)
{
	tmc_shmem_t *shm = tmc_shmem_create_anonymous(NULL, NULL, MIB);
	const uintptr_t roots[] = { 0,	1,    0x7fff00000000, UINTPTR_MAX,
				    16, 4096, 65536 };
	char *base, info[512], number[32];
	uint64_t token[2];
	size_t i, maps;

	(void)self;
	(void)arg;
	PEER_CHECK(shm && tmc_shmem_grow(shm, MIB));
	base = tmc_shmem_address(shm);
	PEER_CHECK(pread(tmc_shmem_fd(shm), token, sizeof(token), 48) == 16);
	snprintf(number, sizeof(number), "%lx", (unsigned long)base);
	for (i = 0; i < sizeof(roots) / sizeof(roots[0]); i++) {
		uintptr_t root = roots[i];

		if (i >= 4)
			root += (uintptr_t)base;
		PEER_CHECK(tmc_shmem_set_data(shm, (void *)root) == 0);
		snprintf(info, sizeof(info), "1;%x.0.%s.%lx.%lx.0.0.0",
			 (unsigned int)tmc_shmem_fd(shm), number, token[0],
			 token[1]);
		PEER_CHECK(setenv("TMC_CMEM_INFO", info, 1) == 0);
		maps = probe_maps();
		PEER_CHECK(!tmc_cmem_malloc(1) && errno == ESTALE);
		PEER_CHECK(UNDER_SANITIZER || probe_maps() == maps);
	}
	return 0;
}

static void an_arena_without_the_heap_is_estale(void **state)
{
	(void)state;
	assert_int_equal(peer_run(attach_to, NULL), 0);
}

/*
 * Every change of a text is refused, and leaves nothing. The child has the
 * descriptor under the number that the text says.
 */
static int mutate(struct peer *self, void *arg)
{
	char good[512], bad[520];
	size_t maps, fds, len, i;
	unsigned int seed = 1;
	int fd, spare;

	(void)self;
	(void)arg;
	snprintf(good, sizeof(good), "%s", getenv("TMC_CMEM_INFO"));
	len = strlen(good);
	fd = (int)strtol(good + 2, NULL, 16);
	spare = dup(fd);
	PEER_CHECK(tmc_cmem_close() == 0);
	PEER_CHECK(dup2(spare, fd) == fd && close(spare) == 0);
	PEER_CHECK(setenv("TMC_CMEM_INFO", good, 1) == 0);
	PEER_CHECK(tmc_cmem_malloc(1));
	spare = dup(fd);
	PEER_CHECK(tmc_cmem_close() == 0);
	PEER_CHECK(dup2(spare, fd) == fd && close(spare) == 0);
	maps = probe_maps();
	fds = probe_fds();
	for (i = 0; i < MUTANTS; i++) {
		size_t at = (size_t)rand_r(&seed) % len;
		char c = "0123456789abcdef.;x "[rand_r(&seed) % 20];

		memcpy(bad, good, sizeof(good));
		switch (rand_r(&seed) % 3) {
		case 0:
			bad[at] = c;
			break;
		case 1:
			memmove(bad + at, bad + at + 1, len - at);
			break;
		default:
			memmove(bad + at + 1, bad + at, len - at + 1);
			bad[at] = c;
		}
		if (!strcmp(bad, good))
			continue;
		PEER_CHECK(setenv("TMC_CMEM_INFO", bad, 1) == 0);
		PEER_CHECK(!tmc_cmem_malloc(1));
		PEER_CHECK(errno == EBADMSG || errno == ESTALE);
	}
	PEER_CHECK(UNDER_SANITIZER || probe_maps() <= maps + 1);
	PEER_CHECK(probe_fds() == fds);
	PEER_CHECK(setenv("TMC_CMEM_INFO", good, 1) == 0);
	PEER_CHECK(tmc_cmem_malloc(1));
	return 0;
}

static void no_change_of_the_text_gets_through(void **state)
{
	(void)state;
	assert_int_equal(tmc_cmem_init(0), 0);
	assert_int_equal(tmc_cmem_persist_after_exec(1), 0);
	assert_int_equal(peer_run(mutate, NULL), 0);
}

/* ----- other users ----- */

static int copy_agent(const char *to, mode_t mode)
{
	char command[2 * PATH_MAX];

	snprintf(command, sizeof(command), "cp '%s' '%s'",
		 peer_agent("relative"), to);
	return system(command) || chmod(to, mode) ? -1 : 0;
}

struct run {
	const char *program;
	const char *args[8];
};

static int run_as_nobody(struct peer *self, void *arg)
{
	const struct run *r = arg;
	char *argv[10] = { (char *)r->program };
	int i;

	for (i = 0; i < 8 && r->args[i]; i++)
		argv[i + 1] = (char *)r->args[i];
	PEER_CHECK(peer_become(NOBODY) == 0);
	PEER_CHECK(dup2(self->fd, 0) == 0);
	PEER_CHECK(execv(r->program, argv) == 0);
	return 1;
}

/* The same program, once with the set-user-id bit and once without. */
static void a_set_user_id_program_ignores_the_environment(void **state)
{
	struct run plain = { box_path("plain"), { NULL } };
	struct run setuid = { box_path("setuid"),
			      { "info", "1", "fail", "61", "init", "0", "0" } };
	char hex[32];

	(void)state;
	if (!box_can_mount())
		skip();
	assert_int_equal(copy_agent(plain.program, 0755), 0);
	assert_int_equal(copy_agent(setuid.program, 04755), 0);
	assert_int_equal(tmc_cmem_init(0), 0);
	assert_int_equal(tmc_cmem_persist_after_exec(1), 0);
	block("not for all", hex);
	plain.args[0] = "str";
	plain.args[1] = hex;
	plain.args[2] = "not for all";
	assert_int_equal(peer_run(run_as_nobody, &plain), 0);
	assert_int_equal(peer_run(run_as_nobody, &setuid), 0);
	assert_int_equal(tmc_cmem_close(), 0);
	/* An address that cannot be: who looks at it fails. */
	assert_int_equal(setenv("TMC_CMEM_START", "1", 1), 0);
	plain = (struct run){ plain.program, { "init", "-1", "22" } };
	setuid = (struct run){ setuid.program, { "init", "0", "0" } };
	assert_int_equal(peer_run(run_as_nobody, &plain), 0);
	assert_int_equal(peer_run(run_as_nobody, &setuid), 0);
}

#define T(name) cmocka_unit_test_teardown(name, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(it_does_not_persist_unless_asked),
		T(a_program_takes_part_by_its_first_call),
		T(so_does_one_that_is_executed_by_it),
		T(a_shell_in_between_passes_it_on),
		T(what_is_passed_on_holds_no_locks),
		T(without_proc_it_is_passed_on_all_the_same),
		T(all_arenas_of_the_set_are_passed_on),
		T(what_the_library_does_not_write_is_ebadmsg),
		T(descriptors_that_are_others_are_estale),
		T(of_several_arenas_all_or_none_are_mapped),
		T(a_taken_address_is_eaddrinuse),
		T(an_arena_without_the_heap_is_estale),
		T(no_change_of_the_text_gets_through),
		T(a_set_user_id_program_ignores_the_environment),
	};

	return cmocka_run_group_tests(tests, begin, test_box_close);
}
