/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_step_odp.c - a process dies at any instruction of a call of
 * examples/odp_shm.
 *
 * Calls that concern a block: all victims die in one instance, and after each
 * a fresh process finds the blocks of the living, and the victim's whole or
 * not at all. Calls that make or end an instance, or its further arenas: each
 * victim has one of its own, which the next sweep must remove with all that it
 * has. SOAK: at 4,000 places of each, and of some more calls.
 *
 * And one who is stopped at any instruction of a lookup, while others free what
 * he looks at.
 */
#include "test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shmem.h>

#include "../../examples/odp_shm/internal.h"
#include "peer.h"
#include "step.h"
#include "step_kill.h"

#define MOST 20 /* instructions that a call is killed at, in short */
#define MOST_IN_SOAK 4000
#define LIVE 40
#define LAZY MIB

static const odp_shm_setup_t setup = { .max_memory = GIB,
				       .max_blocks = 100,
				       .lazy_size = LAZY };

/* What victims and checkers inherit. */
static odp_instance_t ours;
static odp_shm_t live[LIVE], mine;

struct odp_case {
	const char *name;
	int own;     /* the victim has an instance of its own */
	int lengthy; /* so many instructions that only a soak has the time */
	void (*prepare)(void);
	void (*call)(void);
};

/* ----- the calls ----- */

static void nothing(void)
{
}

static void call_reserve(void)
{
	mine = odp_shm_reserve("victim", 5000, 4096, 0);
}

static void call_free(void)
{
	odp_shm_free(mine);
}

static void warm(void)
{
	call_reserve();
	call_free();
}

static void reserve_lazy(void)
{
	mine = odp_shm_reserve("victim", LAZY, 0, ODP_SHM_NO_HP);
}

static void call_lookup(void)
{
	odp_shm_addr(odp_shm_lookup("victim"));
}

static void join(void)
{
	odp_instance_t id = ours;

	odp_shm_term_local();
	odp_shm_init_local(id);
}

static void call_init(void)
{
	odp_instance_t id;

	odp_shm_init_global(&id, &setup);
}

static void call_term(void)
{
	odp_shm_term_global(odpi_self()->id);
}

static void init_with_lazy(void)
{
	call_init();
	reserve_lazy();
}

static void call_import(void)
{
	mine = odp_shm_import("live", ours, "victim");
}

static const struct odp_case cases[] = {
	{ "reserve", 0, 0, warm, call_reserve },
	{ "reserve, first", 0, 0, nothing, call_reserve },
	{ "reserve, lazy", 0, 1, nothing, reserve_lazy },
	{ "free", 0, 0, call_reserve, call_free },
	{ "free, lazy", 0, 1, reserve_lazy, call_free },
	{ "lookup", 0, 0, call_reserve, call_lookup },
	{ "join", 0, 1, nothing, join },
	{ "init", 1, 1, nothing, call_init },
	{ "term", 1, 0, init_with_lazy, call_term },
	{ "further arena", 1, 0, call_init, reserve_lazy },
	{ "import", 1, 1, call_init, call_import },
};

/* ----- victims and checkers ----- */

static pid_t victim(const void *arg)
{
	const struct odp_case *c = arg;
	pid_t pid = fork();

	if (pid)
		return pid;
	step_me();
	if (c->own)
		odp_shm_term_local();
	c->prepare();
	STEP_EDGE();
	c->call();
	STEP_EDGE();
	_exit(0);
}

static int check_block(void)
{
	odp_shm_t shm = odp_shm_lookup("victim"), p[20];
	odp_shm_info_t info;
	int i;

	while (shm) { /* two, if one has died after the call's end */
		PEER_CHECK(!odp_shm_info(shm, &info));
		PEER_CHECK(info.size == 5000 || info.size == LAZY);
		memset((char *)info.addr + info.size - 5000, 0xee, 5000);
		memset(info.addr, 0xee, 5000);
		PEER_CHECK(!odp_shm_free(shm) && !odp_shm_addr(shm));
		shm = odp_shm_lookup("victim");
	}
	for (i = 0; i < 20; i++) {
		p[i] = odp_shm_reserve("another", 5000, 4096, 0);
		PEER_CHECK(p[i]);
		memset(odp_shm_addr(p[i]), 0xee, 5000);
	}
	for (i = 0; i < 20; i++)
		PEER_CHECK(!odp_shm_free(p[i]));
	return 0;
}

static int check_live(void)
{
	struct odp_directory *d = odpi_self()->dir;
	int i, k;

	PEER_CHECK(!tmc_mspace_check(d->records));
	PEER_CHECK(!tmc_mspace_check(d->blocks));
	for (i = 0; i < LIVE; i++) {
		unsigned char *p = odp_shm_addr(live[i]);

		PEER_CHECK(p);
		for (k = 0; k < 1000; k++)
			PEER_CHECK(p[k] == (unsigned char)i);
	}
	return 0;
}

static int check_peer(struct peer *self, void *arg)
{
	(void)self;
	(void)arg;
	PEER_CHECK(!check_block());
	return check_live();
}

/* One who makes an instance finds no other than ours afterwards. */
static int check_sweep(struct peer *self, void *arg)
{
	char keep[32];
	struct dirent *e;
	DIR *dir;

	(void)self;
	(void)arg;
	snprintf(keep, sizeof(keep), "odp-%016llx", (unsigned long long)ours);
	PEER_CHECK(!odp_shm_term_local());
	call_init();
	PEER_CHECK(odpi_self());
	PEER_CHECK(odp_shm_import("live", ours, "l"));
	call_term();
	PEER_CHECK(!odpi_self());
	dir = opendir(box_path(""));
	PEER_CHECK(dir);
	while ((e = readdir(dir)))
		PEER_CHECK(*e->d_name == '.' || !strncmp(e->d_name, keep, 20));
	closedir(dir);
	return 0;
}

static void run_case(const struct odp_case *c)
{
	const struct step_kill k = { .name = c->name,
				     .victim = victim,
				     .arg = c,
				     .check = c->own ? check_sweep : check_peer,
				     .most = MOST,
				     .most_kills = MOST,
				     .soak_kills = MOST_IN_SOAK };

	assert_int_equal(step_kill(&k), 0);
}

/* An instance of our own, or the test is skipped. */
static void start(void)
{
	const char *why =
		UNDER_SANITIZER ? "too many instructions" : step_impossible();

	if (why) {
		print_message("%s\n", why);
		skip();
	}
	setenv("ODP_SHM_DIR", box_path(""), 1);
	assert_int_equal(odp_shm_init_global(&ours, &setup), 0);
}

static void no_call_leaves_halves_wherever_it_is_killed(void **state)
{
	size_t i, records, blocks;
	struct odp_directory *d;

	(void)state;
	start();
	for (i = 0; i < LIVE; i++) {
		live[i] = odp_shm_reserve("live", 1000, 0, ODP_SHM_EXPORT);
		assert_true(live[i] != ODP_SHM_INVALID);
		memset(odp_shm_addr(live[i]), (int)i, 1000);
	}
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (!cases[i].lengthy || getenv("SOAK"))
			run_case(&cases[i]);
	for (i = 0; i < LIVE; i++)
		assert_int_equal(odp_shm_free(live[i]), 0);
	d = odpi_self()->dir;
	tmc_mspace_trim(d->records, 0);
	tmc_mspace_trim(d->blocks, 0);
	tmc_mspace_statistics(d->records, NULL, NULL, &records);
	tmc_mspace_statistics(d->blocks, NULL, NULL, &blocks);
	printf("the dead had in hand: records %zu, blocks %zu KiB\n",
	       records / KIB, blocks / KIB);
	assert_int_equal(odp_shm_term_global(ours), 0);
}

/* ----- one who looks, and one who changes what he looks at ----- */

/* Its exit code: 0, what it found was whole, or had gone. */
static pid_t looker(void)
{
	odp_shm_info_t info;
	odp_shm_t shm;
	pid_t pid = fork();
	int err;

	if (pid)
		return pid;
	step_me();
	STEP_EDGE();
	shm = odp_shm_lookup("moving");
	err = odp_shm_info(shm, &info);
	STEP_EDGE();
	_exit(!err && info.size != 1000);
}

/* It runs from where it stands to its end: what that says, or -1. */
static int let_end(pid_t pid)
{
	int status;

	if (ptrace(PTRACE_CONT, pid, NULL, NULL) ||
	    waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status) ||
	    ptrace(PTRACE_DETACH, pid, NULL, NULL) ||
	    waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/* Stopped after @n instructions, while the block goes and its record becomes
 * that of another one. */
static int look_in_between(const struct step_trace *t, size_t n)
{
	odp_shm_t shm = odp_shm_reserve("moving", 1000, 0, 0);
	pid_t pid = looker();
	int rc = -1;

	if (shm && pid > 0 && !step_begin(pid) && step_to(pid, t, n) >= 0 &&
	    !odp_shm_free(shm)) {
		shm = odp_shm_reserve("another", 2000, 0, 0);
		rc = let_end(pid);
		odp_shm_free(shm);
	}
	if (rc)
		fprintf(stderr, "stopped after %zu of %zu instructions: %d\n",
			n, t->n, rc);
	return rc;
}

static void what_a_lookup_finds_is_whole_whatever_others_do(void **state)
{
	size_t step = getenv("SOAK") ? 1 : 5, i;
	struct step_trace t = { 0 };
	odp_shm_t shm;
	pid_t pid;

	(void)state;
	start();
	shm = odp_shm_reserve("moving", 1000, 0, 0);
	pid = looker();
	assert_true(shm && pid > 0);
	assert_int_equal(step_begin(pid) | step_record(pid, &t), 0);
	step_past(pid);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(odp_shm_free(shm), 0);
	/* The last one is at the edge itself. */
	for (i = 0; i < t.n; i += step)
		assert_int_equal(look_in_between(&t, i), 0);
	step_forget(&t);
	assert_int_equal(odp_shm_term_global(ours), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_call_leaves_halves_wherever_it_is_killed),
		cmocka_unit_test(
			what_a_lookup_finds_is_whole_whatever_others_do),
	};

	(void)argc;
	step_bind_now(argv);
	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
