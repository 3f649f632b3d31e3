/* SPDX-License-Identifier: BSD-3-Clause */
/* test_old_kernel.c - the kernel itself refuses what older ones have not. */
/*
 * Once for each call, with a seccomp filter: what stands in for it everywhere
 * else, kernel.c, is ours, and this shows that the library's calls are those
 * that it knows. Four processes and no more; kernel.c says why.
 */
#include "test.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <tmc/shmem.h>

#include "peer.h"
#include "probe.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* System call @nr with (argument @arg & @mask) == @value fails with @err. */
struct refusal {
	uint32_t nr, arg, mask, value;
	int err;
};

static const struct refusal refusals[] = {
	{ SYS_openat, 2, O_TMPFILE, O_TMPFILE, EOPNOTSUPP },
	{ SYS_mmap, 3, MAP_FIXED_NOREPLACE, MAP_FIXED_NOREPLACE, EOPNOTSUPP },
	{ SYS_madvise, 2, UINT32_MAX, MADV_POPULATE_WRITE, EINVAL },
	{ SYS_fallocate, 0, 0, 0, ENOSYS },
};

/* The lower half of an argument, on machines of either byte order. */
static uint32_t half(uint32_t arg)
{
	const uint32_t one = 1;

	return (uint32_t)offsetof(struct seccomp_data, args) + 8 * arg +
	       (*(const char *)&one ? 0 : 4);
}

static int install(const struct refusal *r)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, r->nr, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, half(r->arg)),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, r->mask),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, r->value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)r->err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(*code), code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

/* The filter is there: the bare call fails. */
static int is_refused(const struct refusal *r)
{
	long rc = -1;

	errno = 0;
	if (r->nr == SYS_openat)
		rc = open(box_path(""), O_TMPFILE | O_RDWR, 0600);
	else if (r->nr == SYS_mmap)
		rc = (long)mmap((void *)0x560000000000, 4096, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS |
					MAP_FIXED_NOREPLACE,
				-1, 0);
	else if (r->nr == SYS_madvise)
		rc = madvise(NULL, 0, MADV_POPULATE_WRITE);
	else
		rc = fallocate(1, 0, 0, 1);
	return rc == -1 && errno == r->err;
}

static int all_with_a_refusal(struct peer *self, void *arg)
{
	const char *path = box_path("a");
	tmc_shmem_t *shm;
	char *p;

	(void)self;
	if (install(arg))
		return 77;
	PEER_CHECK(is_refused(arg));
	shm = tmc_shmem_create(path, NULL, NULL, 64 * MIB);
	PEER_CHECK(shm);
	PEER_CHECK(!tmc_shmem_create(path, NULL, NULL, MIB) && errno == EEXIST);
	PEER_CHECK(!tmc_shmem_create(box_path("b"), NULL,
				     tmc_shmem_address(shm), MIB));
	PEER_CHECK(errno == EADDRINUSE);
	PEER_CHECK(probe_files(box_path("")) == 1);
	p = tmc_shmem_grow(shm, 5 * MIB);
	PEER_CHECK(p == tmc_shmem_address(shm));
	PEER_CHECK(probe_present(p, 5 * MIB) == 5 * MIB);
	PEER_CHECK(probe_zero(p, 5 * MIB));
	p[MIB] = 'x';
	tmc_shmem_close(shm);
	shm = tmc_shmem_open(path);
	PEER_CHECK(shm && p[MIB] == 'x');
	PEER_CHECK(tmc_shmem_grow(shm, 1) == p + 5 * MIB);
	PEER_CHECK(tmc_shmem_shrink(shm, 0, tmc_shmem_current_size(shm)) == 0);
	tmc_shmem_close(shm);
	return tmc_shmem_unlink(path);
}

static void a_refusing_kernel_is_an_old_one(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		int rc = peer_run(all_with_a_refusal, (void *)&refusals[i]);

		if (rc == 77)
			skip();
		assert_int_equal(rc, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_refusing_kernel_is_an_old_one),
	};

	return cmocka_run_group_tests(tests, test_box_open, test_box_close);
}
