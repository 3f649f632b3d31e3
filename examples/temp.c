/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * temp.c - a temporary arena whose name travels over a pipe.
 *
 * The parent makes an arena with a name that nobody else has, leaves a
 * question in it and executes a second program (itself, with an argument),
 * which reads the name from its standard input, opens the arena and puts the
 * answer into memory by which it has grown it. Run:
 *
 *	.build/examples/temp
 *
 * The arena is made in $TMPDIR, or in /dev/shm.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <shmem.h>

struct talk {
	char question[64];
	char *answer; /* the child's; whole when the child has ended well */
};

static int failed(const char *what)
{
	perror(what);
	return -1;
}

/* The program that is executed: knows nothing but the arena's name. */
static int child(void)
{
	char path[4096] = "";
	tmc_shmem_t *shm;
	struct talk *t;

	if (!fgets(path, sizeof(path), stdin))
		return failed("temp: no name on standard input");
	shm = tmc_shmem_open(path);
	if (!shm)
		return failed(path);
	t = tmc_shmem_get_data(shm);
	if (!t || !(t->answer = tmc_shmem_grow(shm, 100)))
		return failed("temp: nothing there, or no memory");
	printf("temp: process %d opened %s at %p: \"%s\"\n", (int)getpid(),
	       path, tmc_shmem_address(shm), t->question);
	snprintf(t->answer, 100, "yes, process %d can", (int)getpid());
	tmc_shmem_close(shm);
	return 0;
}

/* Executes @self with @path in a pipe as its standard input, and waits. */
static int run_child(char *self, const char *path)
{
	char *argv[] = { self, "child", NULL };
	size_t len = strlen(path);
	int p[2], status;
	pid_t pid;

	if (pipe(p))
		return failed("temp: pipe");
	/* Fits into an empty pipe; written first, it cannot raise SIGPIPE. */
	if (write(p[1], path, len) != (ssize_t)len || close(p[1]))
		return failed("temp: write");
	pid = fork();
	if (pid < 0)
		return failed("temp: fork");
	if (pid == 0) {
		if (dup2(p[0], STDIN_FILENO) < 0 || close(p[0]))
			_exit(127);
		execvp(self, argv);
		_exit(127);
	}
	if (close(p[0]) || waitpid(pid, &status, 0) != pid)
		return failed("temp: waitpid");
	return status == 0 ? 0 : -1;
}

static int parent(tmc_shmem_t *shm, char *self, const char *path)
{
	struct talk *t = tmc_shmem_grow(shm, sizeof(*t));

	if (!t)
		return failed("temp: tmc_shmem_grow");
	strcpy(t->question, "can you read this?");
	if (tmc_shmem_set_data(shm, t))
		return failed("temp: tmc_shmem_set_data");
	if (run_child(self, path))
		return -1;
	printf("temp: process %d finds the answer at %p: \"%s\"\n",
	       (int)getpid(), (void *)t->answer, t->answer);
	return 0;
}

int main(int argc, char **argv)
{
	const char *dir = getenv("TMPDIR");
	char path[4096];
	tmc_shmem_t *shm;
	int err;

	if (argc > 1)
		return child() ? 1 : 0;
	snprintf(path, sizeof(path), "%s/temp-XXXXXX",
		 dir && *dir ? dir : "/dev/shm");
	shm = tmc_shmem_create_temp(path, NULL, NULL, 0);
	if (!shm)
		return -failed(path);
	err = parent(shm, argv[0], path);
	if (tmc_shmem_unlink(path))
		err = failed(path);
	tmc_shmem_close(shm);
	return err ? 1 : 0;
}
