/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client.c - gets an arena from server.c over a UNIX socket and writes into it.
 *
 * It knows nothing of the arena but what comes over the socket: descriptors,
 * from which the library maps it at the address that it has in the server. The
 * argument is what it writes. It waits for the server:
 *
 *	.build/examples/client hello
 */
#include <shmem.h>
#include <time.h>
#include "handover.h"

/* Tries until the server is there; -1 when it has been long enough. */
static int connected(const struct sockaddr_un *sun)
{
	const struct timespec nap = { .tv_nsec = 10000000 };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), left;

	if (sock < 0)
		return failed("client: socket");
	for (left = PATIENCE * 100; left; left--) {
		if (!connect(sock, (const void *)sun, sizeof(*sun)))
			return sock;
		if (errno != ENOENT && errno != ECONNREFUSED)
			break;
		nanosleep(&nap, NULL);
	}
	failed(sun->sun_path);
	close(sock);
	return -1;
}

/* The descriptors are no more needed when the arena is open. */
static tmc_shmem_t *receive_arena(int sock)
{
	int fd, hugefd;
	tmc_shmem_t *shm;

	if (receive_fds(sock, &fd, &hugefd)) {
		perror("client: no descriptors");
		return NULL;
	}
	shm = tmc_shmem_open_fds(fd, hugefd);
	if (!shm)
		perror("client: tmc_shmem_open_fds");
	close(fd);
	if (hugefd >= 0)
		close(hugefd);
	return shm;
}

static int write_entry(tmc_shmem_t *shm, const char *text)
{
	struct book *book = tmc_shmem_get_data(shm);
	struct entry *e = book ? tmc_shmem_grow(shm, sizeof(*e)) : NULL;

	if (!e)
		return failed("client: no book, or no memory");
	e->pid = getpid();
	snprintf(e->text, sizeof(e->text), "%s", text);
	e->next = atomic_load_explicit(&book->entries, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&book->entries, &e->next,
						      e, memory_order_release,
						      memory_order_relaxed))
		;
	printf("client: process %d has process %d's arena at %p, too\n",
	       (int)getpid(), (int)book->server, tmc_shmem_address(shm));
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_un sun;
	tmc_shmem_t *shm = NULL;
	int sock = -1, err = -1;

	if (!socket_address(&sun))
		sock = connected(&sun);
	if (sock >= 0)
		shm = receive_arena(sock);
	if (shm)
		err = write_entry(shm, argc > 1 ? argv[1] : "was here");
	/* The server reads the book when it has heard of all. */
	if (!err && send(sock, "d", 1, MSG_NOSIGNAL) != 1)
		err = failed("client: the server went");
	tmc_shmem_close(shm);
	if (sock >= 0)
		close(sock);
	return err ? 1 : 0;
}
