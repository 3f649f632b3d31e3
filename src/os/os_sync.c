/* SPDX-License-Identifier: BSD-3-Clause */
/* os_sync.c - file ranges, futexes, and the thread's robust list */
#include "os.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct flock range(int how, uint64_t off, uint64_t len)
{
	struct flock l = {
		.l_type = (short)how,
		.l_whence = SEEK_SET,
		.l_start = (off_t)off,
		.l_len = (off_t)len,
	};

	return l;
}

static int set_range(int fd, int command, enum shmi_range how, uint64_t off,
		     uint64_t len)
{
	static const int types[] = { F_UNLCK, F_RDLCK, F_WRLCK };
	struct flock l = range(types[how], off, len);
	int kept = errno, err;

	do {
		err = fcntl(fd, command, &l) ? -errno : 0;
	} while (err == -EINTR);
	errno = kept;
	if (err == -EACCES)
		return -EAGAIN;
	return err == -EINVAL || err == -ENOSYS ? -EOPNOTSUPP : err;
}

int shmi_os_range(int fd, enum shmi_range how, uint64_t off, uint64_t len,
		  bool wait)
{
	return set_range(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, how, off, len);
}

int shmi_os_own_range(int fd, enum shmi_range how, uint64_t off, uint64_t len,
		      bool wait)
{
	return set_range(fd, wait ? F_SETLKW : F_SETLK, how, off, len);
}

static int range_held(int fd, int command, uint64_t off, uint64_t len)
{
	struct flock l = range(F_WRLCK, off, len);
	int kept = errno, err = fcntl(fd, command, &l) ? -errno : 0;

	errno = kept;
	return err ? err : l.l_type != F_UNLCK;
}

int shmi_os_range_held(int fd, uint64_t off, uint64_t len)
{
	return range_held(fd, F_OFD_GETLK, off, len);
}

int shmi_os_own_range_held(int fd, uint64_t off, uint64_t len)
{
	return range_held(fd, F_GETLK, off, len);
}

void shmi_os_futex_wait(_Atomic uint32_t *word, uint32_t seen,
			unsigned int seconds)
{
	struct timespec limit = { .tv_sec = (time_t)seconds };
	int kept = errno;

	syscall(SYS_futex, word, FUTEX_WAIT, seen, &limit, NULL, 0);
	errno = kept;
}

void shmi_os_futex_wake(_Atomic uint32_t *word)
{
	int kept = errno;

	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	errno = kept;
}

/*
 * The kernel keeps one pointer for each thread, to a robust_list_head that
 * the C library owns: a list, the distance from a list entry to its futex
 * word, and list_op_pending, one entry that is about to enter or leave the
 * list. At the thread's death the kernel looks at the list and at that entry.
 * We never touch the list, whose links would lie in the shared page. We only
 * lend list_op_pending, which is private memory: the C library uses it
 * inside its own calls on robust mutexes, none of which we make in between.
 */
struct shmi_robust {
	struct robust_list_head head;
};

/* musl registers a thread's list when it first locks a robust mutex. */
static void make_library_register(void)
{
	pthread_mutexattr_t attr;
	pthread_mutex_t mutex;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	if (!pthread_mutex_init(&mutex, &attr)) {
		if (!pthread_mutex_lock(&mutex))
			pthread_mutex_unlock(&mutex);
		pthread_mutex_destroy(&mutex);
	}
	pthread_mutexattr_destroy(&attr);
}

struct shmi_robust *shmi_os_robust(void)
{
	struct shmi_robust *r = NULL;
	size_t len = 0;
	int kept = errno, i;

	for (i = 0; i < 2 && !r; i++) {
		if (i)
			make_library_register();
		if (syscall(SYS_get_robust_list, 0, &r, &len) ||
		    len != sizeof(struct robust_list_head))
			r = NULL;
	}
	errno = kept;
	return r;
}

/*
 * Only the kernel reads what is stored here, on behalf of this very thread;
 * so program order is all that is needed, and the fences keep the compiler to
 * it.
 */
void shmi_os_robust_announce(struct shmi_robust *r, _Atomic uint32_t *word)
{
	struct robust_list *volatile *pending = &r->head.list_op_pending;

	*pending = (struct robust_list *)((uintptr_t)word -
					  (uintptr_t)r->head.futex_offset);
	atomic_signal_fence(memory_order_seq_cst);
}

void shmi_os_robust_clear(struct shmi_robust *r)
{
	struct robust_list *volatile *pending = &r->head.list_op_pending;

	atomic_signal_fence(memory_order_seq_cst);
	*pending = NULL;
}

/*
 * The type as well: glibc's signal for an asynchronous cancellation may be
 * under way when the state changes, and its handler goes by the type.
 */
int shmi_os_cancel_off(void)
{
	int state, type;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
	return type << 1 | state;
}

void shmi_os_cancel_restore(int was)
{
	int unused;

	pthread_setcanceltype(was >> 1, &unused);
	pthread_setcancelstate(was & 1, &unused);
}

static_assert((PTHREAD_CANCEL_DISABLE | PTHREAD_CANCEL_ENABLE) == 1,
	      "the state is one bit");

/* Without stdio, whose malloc may be what is broken. */
void shmi_os_die(const char *format, const void *heap, const char *what,
		 const void *at)
{
	char line[200];
	int n = snprintf(line, sizeof(line), format, heap, what, at);

	if (n > 0 && write(2, line, (size_t)n) < 0) {
		/* There is nobody to tell. */
	}
	abort();
}
