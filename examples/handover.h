/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handover.h - what server.c and client.c share: the structures that lie in
 * the arena, and how descriptors go over a UNIX socket.
 */
#ifndef EXAMPLES_HANDOVER_H
#define EXAMPLES_HANDOVER_H

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE 30 /* seconds without a sign of the other process */

/* What a client adds. Complete before it is in the list. */
struct entry {
	struct entry *next;
	pid_t pid;
	char text[100];
};

/* The root: last in, first out; pushed by release, read by acquire. */
struct book {
	pid_t server;
	_Atomic(struct entry *) entries;
};

static inline int failed(const char *what)
{
	perror(what);
	return -1;
}

/* $TMPDIR/handover or /tmp/handover-UID: 0, or -1, it is too long. */
static inline int socket_address(struct sockaddr_un *sun)
{
	const char *dir = getenv("TMPDIR");
	size_t room = sizeof(sun->sun_path);
	int n;

	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	if (dir && *dir)
		n = snprintf(sun->sun_path, room, "%s/handover", dir);
	else
		n = snprintf(sun->sun_path, room, "/tmp/handover-%u", getuid());
	errno = ENAMETOOLONG;
	return (size_t)n < room ? 0 : failed("TMPDIR");
}

/* Descriptors go beside the data; at least one byte of data there must be. */
union fds_message {
	struct cmsghdr align;
	char room[CMSG_SPACE(2 * sizeof(int))];
};

/* Sends the arena's file, and its companion if it has one. */
static inline int send_fds(int sock, int fd, int hugefd)
{
	int fds[2] = { fd, hugefd };
	size_t len = sizeof(int) * (hugefd < 0 ? 1 : 2);
	struct iovec iov = { .iov_base = "a", .iov_len = 1 };
	union fds_message u;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	memset(&u, 0, sizeof(u));
	m.msg_control = &u;
	m.msg_controllen = CMSG_SPACE(len);
	c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), fds, len);
	return sendmsg(sock, &m, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

/* The caller closes both; *hugefd is -1 where there is none. */
static inline int receive_fds(int sock, int *fd, int *hugefd)
{
	int fds[2] = { -1, -1 };
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	union fds_message u;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	m.msg_control = &u;
	m.msg_controllen = sizeof(u);
	if (recvmsg(sock, &m, 0) != 1)
		return -1;
	c = CMSG_FIRSTHDR(&m);
	errno = EBADMSG;
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	*fd = fds[0];
	*hugefd = fds[1];
	return 0;
}

#endif
