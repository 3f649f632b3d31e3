/* SPDX-License-Identifier: BSD-3-Clause */
/* os_map.c - mappings, and making their pages present */
#include "os.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define LOWEST 0x10000u /* vm.mmap_min_addr, mostly */

static_assert(SHMI_PROT_READ == PROT_READ && SHMI_PROT_WRITE == PROT_WRITE &&
		      SHMI_PROT_EXEC == PROT_EXEC &&
		      SHMI_MAP_SHARED == MAP_SHARED &&
		      SHMI_MAP_PRIVATE == MAP_PRIVATE &&
		      SHMI_MAP_ANONYMOUS == MAP_ANONYMOUS &&
		      SHMI_MAP_HUGETLB == MAP_HUGETLB &&
		      SHMI_MAP_POPULATE == MAP_POPULATE &&
		      SHMI_REMAP_MAYMOVE == MREMAP_MAYMOVE &&
		      SHMI_REMAP_FIXED == MREMAP_FIXED,
	      "os.h has this machine's values");

static int call_mmap(void *addr, size_t len, int prot, int flags, int fd,
		     uint64_t off, void **at)
{
	int kept = errno, err = 0;
	void *p = mmap(addr, len, prot, flags, fd, (off_t)off);

	/* EAGAIN: all memory is locked (mlockall), and RLIMIT_MEMLOCK. */
	if (p == MAP_FAILED)
		err = errno == EAGAIN ? -ENOMEM : -errno;
	else
		*at = p;
	errno = kept;
	return err;
}

/*
 * ext4, xfs and btrfs pad a request for the sake of huge pages, so that a free
 * range with a neighbour within 2 MiB does not get its hint. Anonymous memory
 * with a hint is not padded: it holds the range, and is then replaced.
 */
static int map_over_held(void *addr, size_t len, int prot, int flags, int fd,
			 uint64_t off)
{
	void *p = NULL;
	int err = call_mmap(addr, len, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0,
			    &p);

	if (err)
		return -EADDRINUSE;
	err = -EADDRINUSE;
	if (p == addr)
		err = call_mmap(addr, len, prot, flags | MAP_FIXED, fd, off,
				&p);
	if (err)
		shmi_os_unmap(p, len);
	return err;
}

/*
 * The address is a mere hint, which the kernel follows where the range is
 * free and never replaces anything for; what comes back decides. Asking with
 * MAP_FIXED_NOREPLACE first would kill a program under the thread sanitizer,
 * which turns an address that it does not like into 0 and then finds that
 * mapped; and older kernels do not know it. It only tells, where there is no
 * second place of that size, whether the first is taken.
 */
static int map_exactly(void *addr, size_t len, int prot, int flags, int fd,
		       uint64_t off)
{
	uintptr_t top = shmi_os_address_top() - shmi_os_pagesize();
	void *p = NULL;
	int err;

	if (len > top || (uintptr_t)addr > top - len ||
	    (uintptr_t)addr < LOWEST)
		return -ENOMEM;
	err = call_mmap(addr, len, prot, flags, fd, off, &p);
	if (err == -ENOMEM)
		err = call_mmap(addr, len, prot, flags | MAP_FIXED_NOREPLACE,
				fd, off, &p);
	if (err)
		return err == -EEXIST ? -EADDRINUSE : err;
	if (p == addr)
		return 0;
	shmi_os_unmap(p, len);
	return map_over_held(addr, len, prot, flags, fd, off);
}

int shmi_os_map_header(int fd, size_t len, bool rw, void **at)
{
	return call_mmap(NULL, len, rw ? PROT_READ | PROT_WRITE : PROT_READ,
			 MAP_SHARED, fd, 0, at);
}

/*
 * A writable mmap of a hugetlbfs file would enlarge the file to the mapping's
 * end; mapped for reading and made writable afterwards it stays as it is.
 */
int shmi_os_map_data(int fd, uint64_t off, void *addr, size_t len, bool rw,
		     bool huge, bool over_own)
{
	int flags = MAP_SHARED | MAP_NORESERVE;
	int prot = rw && !huge ? PROT_READ | PROT_WRITE : PROT_READ;
	int kept = errno, err;
	void *p = NULL;

	if (over_own)
		err = call_mmap(addr, len, prot, flags | MAP_FIXED, fd, off,
				&p);
	else
		err = map_exactly(addr, len, prot, flags, fd, off);
	if (err || !rw || !huge)
		return err;
	if (!mprotect(addr, len, PROT_READ | PROT_WRITE))
		return 0;
	err = -errno;
	errno = kept;
	if (!over_own)
		shmi_os_unmap(addr, len);
	return err;
}

/*
 * A private map reserves its page in the pool and in the mount, without taking
 * it, and gives the reservation back when it goes. For reading: a writable one
 * would enlarge the file.
 */
int shmi_os_has_page(int fd, size_t pagesize)
{
	void *at = NULL;
	int err = call_mmap(NULL, pagesize, PROT_READ, MAP_PRIVATE, fd, 0, &at);

	if (!err)
		shmi_os_unmap(at, pagesize);
	return err;
}

bool shmi_os_has_hole(int fd, uint64_t below)
{
	int kept = errno;
	off_t at = lseek(fd, 0, SEEK_HOLE);

	errno = kept;
	return at >= 0 && (uint64_t)at < below;
}

int shmi_os_map_anon(const struct shmi_map_how *how, void *addr, size_t len,
		     void **at)
{
	int flags = MAP_ANONYMOUS | (how->shared ? MAP_SHARED : MAP_PRIVATE);
	int err;

	if (how->huge)
		flags |= MAP_HUGETLB |
			 (int)((unsigned int)__builtin_ctzl(how->huge)
			       << SHMI_MAP_HUGE_SHIFT);
	if (!addr)
		return call_mmap(NULL, len, how->prot, flags, -1, 0, at);
	err = map_exactly(addr, len, how->prot, flags, -1, 0);
	if (!err)
		*at = addr;
	return err;
}

int shmi_os_remap(void *old, size_t old_len, size_t new_len, bool may_move,
		  void **at)
{
	int kept = errno, err = 0;
	void *p = mremap(old, old_len, new_len, may_move ? MREMAP_MAYMOVE : 0);

	if (p == MAP_FAILED)
		err = errno == EAGAIN ? -ENOMEM : -errno;
	else
		*at = p;
	errno = kept;
	return err;
}

/*
 * The kernel takes whole pages; ThreadSanitizer forgets only what it is told
 * of, and knows no mremap(), which may put the next memory right there.
 */
int shmi_os_unmap_part(void *addr, size_t len)
{
	size_t page = shmi_os_pagesize();
	int kept = errno, err;

	err = munmap(addr, (len + page - 1) / page * page) ? -errno : 0;
	errno = kept;
	return err;
}

void shmi_os_unmap(void *addr, size_t len)
{
	shmi_os_unmap_part(addr, len);
}

static void advise(void *addr, size_t len, int advice)
{
	int kept = errno;

	if (madvise(addr, len, advice)) {
		/* A hint: without it the memory is as good. */
	}
	errno = kept;
}

void shmi_os_advise_thp(void *addr, size_t len)
{
	advise(addr, len, MADV_HUGEPAGE);
}

void shmi_os_advise_nodump(void *addr, size_t len)
{
	advise(addr, len, MADV_DONTDUMP);
}

/* Of a shared mapping the file's pages; a private one has none. */
int shmi_os_discard(void *addr, size_t len)
{
	int kept = errno, err;

	err = madvise(addr, len, MADV_REMOVE) ? -errno : 0;
	if (err == -EINVAL)
		err = madvise(addr, len, MADV_DONTNEED) ? -errno : 0;
	errno = kept;
	return err;
}

int shmi_os_bind(void *addr, size_t len, int policy, unsigned long nodes)
{
	unsigned long there = shmi_os_nodes();
	int kept = errno, err = 0;

	if (there && (nodes & ~there))
		return -EINVAL;
	/* The kernel reads one bit less than it is told. */
	if (syscall(SYS_mbind, addr, len, policy, nodes ? &nodes : NULL,
		    nodes ? sizeof(nodes) * 8 + 1 : 0, 0) &&
	    errno == EINVAL)
		err = -EINVAL;
	errno = kept;
	return err;
}

/*
 * For kernels before 5.14: an atomic "add 0" done by the kernel faults the
 * page in for writing, changes nothing whatever others do to the word, and
 * is EFAULT where a store of ours would be SIGBUS. The wake in it is of
 * nobody: no one waits privately on our word.
 */
static int touch_pages(char *addr, size_t len, size_t pagesize)
{
	const unsigned int add_zero =
		(unsigned int)FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0);
	_Alignas(4) uint32_t mine = 0;
	size_t at;

	for (at = 0; at < len; at += pagesize)
		if (syscall(SYS_futex, &mine,
			    FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, (void *)0,
			    addr + at, add_zero) < 0)
			return errno == EFAULT ? -ENOMEM : -errno;
	return 0;
}

int shmi_os_populate(void *addr, size_t len, size_t pagesize)
{
	int kept = errno, err;

	do {
		err = madvise(addr, len, MADV_POPULATE_WRITE) ? -errno : 0;
	} while (err == -EINTR || err == -EAGAIN);
	if (err == -EINVAL || err == -ENOSYS || err == -EPERM)
		err = touch_pages(addr, len, pagesize);
	else if (err == -EFAULT)
		err = -ENOMEM; /* no page for the fault */
	else if (err == -EHWPOISON)
		err = -EIO;
	errno = kept;
	return err;
}

/* ThreadSanitizer would take the "or" for a write to its neighbour's block,
 * whose bytes begin the page. */
__attribute__((no_sanitize("thread"))) void shmi_os_touch(void *addr,
							  size_t len,
							  size_t pagesize)
{
	size_t at;

	/* relaxed: "or 0" changes nothing, whoever else writes there */
	for (at = 0; at < len; at += pagesize)
		atomic_fetch_or_explicit((_Atomic unsigned char *)addr + at, 0,
					 memory_order_relaxed);
}

/*
 * Its neighbour's bytes again, which may be poisoned, too. Pages mapped so are
 * clean: where the processor leaves it to the kernel to mark them dirty (arm64
 * before 8.1, some riscv), the first write to each is a fault, for no memory.
 */
__attribute__((no_sanitize("thread"), no_sanitize("address"))) void
shmi_os_look(const void *addr, size_t len, size_t pagesize)
{
	size_t at;

	for (at = 0; at < len; at += pagesize)
		(void)*((const volatile unsigned char *)addr + at);
}

/*
 * On x86-64 a program has 47 bits unless it asks for more. Elsewhere the
 * kernel's configuration decides, and the first stack is near the top of it
 * (this thread's own may be anywhere). Not so under Valgrind, which puts the
 * stack low: hence the constant.
 */
uintptr_t shmi_os_address_top(void)
{
#if defined(__x86_64__)
	return (uintptr_t)1 << 47;
#else
	uintptr_t stack = getauxval(AT_RANDOM);

	if (!stack)
		stack = (uintptr_t)__builtin_frame_address(0);
	return (uintptr_t)1 << (64 - __builtin_clzl(stack));
#endif
}
