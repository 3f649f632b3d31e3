/* SPDX-License-Identifier: BSD-3-Clause */
/* os_room.c - how long a file is, and its pages */
#include "call.h"
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define TRIES 64 /* more than the halvings of any length */
#define PARTS 64 /* of ZEROS each, in one write */
#define ZEROS 4096

/*
 * Asked before each call that makes a file longer, since the kernel refuses
 * with SIGXFSZ, whichever call it is. It is a quarter of a lazy grow (0.14 of
 * 0.59 us), and nothing cheaper was found: a value kept from an earlier call is
 * wrong once setrlimit, or another's prlimit, lowers it, which nobody tells us;
 * to block the signal takes two calls; and a file made longer in steps needs
 * fewer calls, but is not as long as size says, which repair and readers of a
 * file cut at rest go by (size.c).
 */
uint64_t shmi_os_file_limit(void)
{
#ifdef SYS_getrlimit
	/* Half the price of prlimit64, which the C library takes. */
	struct {
		unsigned long soft, hard;
	} limit;

	if (syscall(SYS_getrlimit, RLIMIT_FSIZE, &limit))
		return INT64_MAX;
	return limit.soft < INT64_MAX ? limit.soft : INT64_MAX;
#else
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit))
		return INT64_MAX;
	return limit.rlim_cur < INT64_MAX ? limit.rlim_cur : INT64_MAX;
#endif
}

int shmi_os_shortage(int err)
{
	if (err == -ENOSPC || err == -EDQUOT || err == -EFBIG)
		return -ENOMEM;
	return err;
}

int shmi_os_extend(int fd, uint64_t len, uint64_t limit)
{
	if (len > limit)
		return -ENOMEM;
	return shmi_os_shortage(CALL(int, ftruncate(fd, (off_t)len)));
}

/*
 * With the signal held back, and taken away if the call has brought it. It is
 * sent to the thread, so no other one gets it meanwhile.
 */
static int cut_above_limit(int fd, uint64_t len)
{
	const struct timespec now = { 0, 0 };
	sigset_t xfsz, before, pending;
	int err;

	sigemptyset(&xfsz);
	sigaddset(&xfsz, SIGXFSZ);
	pthread_sigmask(SIG_BLOCK, &xfsz, &before);
	sigpending(&pending);
	err = CALL(int, ftruncate(fd, (off_t)len));
	if (err == -EFBIG && !sigismember(&pending, SIGXFSZ)) {
		int kept = errno;

		while (sigtimedwait(&xfsz, NULL, &now) < 0 && errno == EINTR)
			;
		errno = kept;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return shmi_os_shortage(err);
}

/*
 * Somebody who may write the file could have cut it to less right before, so
 * that this makes it longer. Above the limit that would be a signal.
 */
int shmi_os_cut(int fd, uint64_t len)
{
	if (len > shmi_os_file_limit())
		return cut_above_limit(fd, len);
	return CALL(int, ftruncate(fd, (off_t)len));
}

/*
 * Kernels give a piece up, and undo it, when a signal comes; so the pieces
 * get smaller. The signal is delivered in between, so that even a timer that
 * fires all the time lets single pages pass sooner or later. TRIES in a row
 * without a piece, the last of them for a single page, is where we say that it
 * does not, with -ENOMEM (os.h).
 */
int shmi_os_allocate(int fd, uint64_t off, uint64_t len, bool extend,
		     uint64_t limit)
{
	int kept = errno, mode = extend ? 0 : FALLOC_FL_KEEP_SIZE;
	uint64_t piece = len, done = 0;
	unsigned int tries = 0;
	int err = extend && off + len > limit ? -ENOMEM : 0;

	while (!err && done < len) {
		if (piece > len - done)
			piece = len - done;
		if (!fallocate(fd, mode, (off_t)(off + done), (off_t)piece)) {
			done += piece;
			tries = 0;
			continue;
		}
		if (errno == EINTR && ++tries == TRIES)
			err = -ENOMEM;
		else if (errno != EINTR)
			err = errno == ENOSYS ? -EOPNOTSUPP : -errno;
		else if (piece / 2 >= 4096)
			piece = piece / 2 & ~4095ull;
	}
	errno = kept;
	return shmi_os_shortage(err);
}

int shmi_os_zero(int fd, uint64_t off, uint64_t len, uint64_t limit)
{
	static const char zeros[ZEROS]; /* one page: it stays in the cache */
	struct iovec part[PARTS];
	uint64_t done = 0, n;
	ssize_t wrote;
	int flags, i;

	if (off + len > limit)
		return -EFBIG;
	/* It would go to the file's end: a descriptor that the user gave. */
	flags = CALL(int, fcntl(fd, F_GETFL));
	if (flags < 0 || flags & O_APPEND)
		return -EOPNOTSUPP;
	while (done < len) {
		for (i = 0, n = 0; i < PARTS && done + n < len; i++) {
			part[i].iov_base = (void *)(uintptr_t)zeros;
			part[i].iov_len = len - done - n < ZEROS
						  ? (size_t)(len - done - n)
						  : ZEROS;
			n += part[i].iov_len;
		}
		wrote = CALL(ssize_t,
			     pwritev(fd, part, i, (off_t)(off + done)));
		if (wrote <= 0)
			return wrote ? (int)wrote : -EIO;
		done += (uint64_t)wrote;
	}
	return 0;
}
