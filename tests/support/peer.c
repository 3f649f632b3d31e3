/* SPDX-License-Identifier: BSD-3-Clause */
/* peer.c - other processes for tests. Asserts nothing: the caller does. */
#include "peer.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void child_setup(pid_t parent)
{
	sigset_t none;
	int sig;

	for (sig = 1; sig < 32; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(126);
}

/* As fork(); both sides have their end of the socket in @p. */
static pid_t start(struct peer *p)
{
	pid_t parent = getpid();
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		return -1;
	fflush(NULL);
	p->pid = fork();
	if (p->pid == 0)
		child_setup(parent);
	p->fd = sv[p->pid == 0];
	close(sv[p->pid != 0]);
	if (p->pid < 0)
		close(p->fd);
	return p->pid;
}

int peer_fork(struct peer *p, peer_fn *fn, void *arg)
{
	pid_t pid = start(p);

	if (pid == 0) {
		int rc = fn(p, arg);

		fflush(NULL);
		_exit(rc);
	}
	return pid < 0 ? -1 : 0;
}

static char program[PATH_MAX]; /* our own file */

/* At once: in a chroot the answer is another one after box_open(). */
__attribute__((constructor)) static void find_program(void)
{
	if (readlink("/proc/self/exe", program, sizeof(program) - 1) < 0)
		program[0] = '\0';
}

/* /.../tests/unit/test_x runs /.../tests/agents/@agent */
const char *peer_agent(const char *agent)
{
	static char path[PATH_MAX + 64];
	char exe[PATH_MAX];
	int i;

	memcpy(exe, program, sizeof(exe));
	for (i = 0; i < 2; i++)
		if (strrchr(exe, '/'))
			*strrchr(exe, '/') = '\0';
	snprintf(path, sizeof(path), "%s/agents/%s", exe, agent);
	return path;
}

static void run_agent(struct peer *p, const char *agent,
		      const char *const *args)
{
	const char *path = peer_agent(agent);
	char *argv[64];
	int i;

	argv[0] = strdup(path);
	for (i = 1; i < 63 && args[i - 1]; i++)
		argv[i] = strdup(args[i - 1]);
	argv[i] = NULL;
	if (dup2(p->fd, 0) == 0)
		execv(path, argv);
	fprintf(stderr, "cannot run %s: %s\n", path, strerror(errno));
	_exit(126);
}

int peer_exec(struct peer *p, const char *agent, const char *const *args)
{
	pid_t pid = start(p);

	if (pid == 0)
		run_agent(p, agent, args);
	return pid < 0 ? -1 : 0;
}

void peer_self(struct peer *self)
{
	self->pid = 0;
	self->fd = 0;
}

int peer_put(struct peer *p, uint64_t word)
{
	return send(p->fd, &word, sizeof(word), MSG_NOSIGNAL) == sizeof(word)
		       ? 0
		       : -1;
}

int peer_get(struct peer *p, uint64_t *word)
{
	return recv(p->fd, word, sizeof(*word), MSG_WAITALL) == sizeof(*word)
		       ? 0
		       : -1;
}

union fd_message {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(int))];
};

int peer_put_fd(struct peer *p, int fd)
{
	union fd_message u;
	struct iovec iov = { .iov_base = "f", .iov_len = 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	memset(&u, 0, sizeof(u));
	m.msg_control = &u;
	m.msg_controllen = sizeof(u);
	c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(p->fd, &m, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

int peer_get_fd(struct peer *p)
{
	union fd_message u;
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	int fd;

	m.msg_control = &u;
	m.msg_controllen = sizeof(u);
	if (recvmsg(p->fd, &m, MSG_CMSG_CLOEXEC) != 1)
		return -1;
	c = CMSG_FIRSTHDR(&m);
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

int peer_end(struct peer *p)
{
	int status;

	shutdown(p->fd, SHUT_WR);
	while (waitpid(p->pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	close(p->fd);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void peer_kill(struct peer *p)
{
	kill(p->pid, SIGKILL);
	peer_end(p);
}

int peer_stop(struct peer *p)
{
	siginfo_t si;

	si.si_pid = 0;
	kill(p->pid, SIGSTOP);
	if (waitid(P_PID, (id_t)p->pid, &si, WSTOPPED | WEXITED | WNOWAIT))
		return -1;
	return si.si_code == CLD_STOPPED ? 0 : -1;
}

int peer_run(peer_fn *fn, void *arg)
{
	struct peer p;

	return peer_fork(&p, fn, arg) ? -1 : peer_end(&p);
}

struct said {
	peer_fn *fn;
	void *arg;
	int fd[2];
};

static int say(struct peer *self, void *arg)
{
	struct said *s = arg;

	return dup2(s->fd[1], 2) < 0 ? 1 : s->fn(self, s->arg);
}

int peer_run_said(peer_fn *fn, void *arg, char *text, size_t room)
{
	struct said s = { .fn = fn, .arg = arg };
	size_t len = 0;
	ssize_t n = 0;
	struct peer p;

	text[0] = '\0';
	if (pipe2(s.fd, O_CLOEXEC))
		return -1;
	if (peer_fork(&p, say, &s))
		n = -1;
	close(s.fd[1]);
	while (!n && len + 1 < room) {
		ssize_t got = read(s.fd[0], text + len, room - 1 - len);

		if (got <= 0)
			break;
		len += (size_t)got;
	}
	text[len] = '\0';
	close(s.fd[0]);
	return n ? -1 : peer_end(&p);
}

int peer_run_agent(const char *agent, const char *const *args)
{
	struct peer p;

	return peer_exec(&p, agent, args) ? -1 : peer_end(&p);
}

int peer_become(uid_t uid)
{
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) ||
	    setresuid(uid, uid, uid))
		return -1;
	/* The change of user has taken these two away. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_DUMPABLE, 1);
	return 0;
}
