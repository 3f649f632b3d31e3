/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server.c - gives an arena to those who connect, and to nobody else, ever.
 *
 * The arena has no name at any time. Its descriptors go over a UNIX socket to
 * each client, a program that is no relative, see client.c; here only those of
 * the same user can connect. Each adds an entry to a book in the arena. When
 * as many have been there as the argument says, the server reads the book:
 *
 *	.build/examples/server 2 &
 *	.build/examples/client one; .build/examples/client two
 *
 * --huge before the number: huge pages if there are some.
 */
#include <shmem.h>
#include <sys/stat.h>
#include <sys/time.h>
#include "handover.h"

/* Makes the arena, with an empty book. */
static tmc_shmem_t *make_book(tmc_alloc_t *alloc)
{
	tmc_shmem_t *shm = tmc_shmem_create_anonymous(alloc, NULL, 0);
	struct book *book = shm ? tmc_shmem_grow(shm, sizeof(*book)) : NULL;

	if (book)
		book->server = getpid();
	if (book && !tmc_shmem_set_data(shm, book))
		return shm;
	perror("server: no arena");
	tmc_shmem_close(shm);
	return NULL;
}

/* A socket to which only this user can connect. */
static int listening(const struct sockaddr_un *sun)
{
	const struct timeval patience = { .tv_sec = PATIENCE };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	mode_t before = umask(0077);
	int err = sock < 0 || bind(sock, (const void *)sun, sizeof(*sun));

	umask(before);
	if (err || listen(sock, 16) ||
	    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience,
		       sizeof(patience)))
		return failed(sun->sun_path);
	return sock;
}

/* Gives one client the arena, and waits until it has done its part. */
static int serve(tmc_shmem_t *shm, int sock)
{
	const struct timeval patience = { .tv_sec = PATIENCE };
	int client = accept(sock, NULL, NULL), err = -1;
	char byte;

	if (client < 0)
		return failed("server: nobody came");
	if (!setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience,
			sizeof(patience)) &&
	    !send_fds(client, tmc_shmem_fd(shm), tmc_shmem_hugefd(shm)) &&
	    recv(client, &byte, 1, 0) == 1)
		err = 0;
	else
		failed("server: a client went");
	close(client);
	return err;
}

static int read_book(const struct book *book)
{
	const struct entry *e =
		atomic_load_explicit(&book->entries, memory_order_acquire);
	int n = 0;

	for (; e; e = e->next, n++)
		printf("server: process %d wrote at %p: %s\n", (int)e->pid,
		       (const void *)e, e->text);
	return n;
}

int main(int argc, char **argv)
{
	tmc_alloc_t alloc = TMC_ALLOC_INIT;
	int huge = argc > 1 && !strcmp(argv[1], "--huge");
	int clients = argc > 1 + huge ? atoi(argv[1 + huge]) : 1;
	int sock = -1, served = 0;
	struct sockaddr_un sun;
	tmc_shmem_t *shm;

	if (huge)
		tmc_alloc_set_huge_preferred(&alloc);
	shm = make_book(&alloc);
	if (shm && !socket_address(&sun))
		sock = listening(&sun);
	if (sock >= 0) {
		printf("server: process %d has an arena without a name at %p, "
		       "%zu KiB pages\n",
		       (int)getpid(), tmc_shmem_address(shm),
		       tmc_shmem_page_size(shm) >> 10);
		fflush(stdout);
		while (served < clients && !serve(shm, sock))
			served++;
		unlink(sun.sun_path);
		served = read_book(tmc_shmem_get_data(shm));
	}
	tmc_shmem_close(shm);
	return sock >= 0 && served == clients ? 0 : 1;
}
