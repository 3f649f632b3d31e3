/* SPDX-License-Identifier: BSD-3-Clause */
/* os.h - the kernel. Layer: os, the lowest; the only code with system calls. */
#ifndef SHMI_OS_H
#define SHMI_OS_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Every function returns 0 (or what its comment says) or -errno, and leaves
 * errno alone. EINTR does not come out. Lengths and offsets are bytes.
 */

/* -EMFILE, -ENFILE, -ENOMEM: no answer to what was asked. */
bool shmi_os_ran_out(int err);

struct shmi_stat {
	uint64_t dev, ino;
	uint64_t len;  /* bytes */
	uint64_t room; /* bytes that it takes on its file system */
	uint32_t mode; /* type and permission */
	uint32_t uid;
	uint32_t nlink;
	uint32_t blksize; /* bytes; on hugetlbfs that of its pages */
};

/* Machine. */
size_t shmi_os_pagesize(void);		/* of small pages */
int shmi_os_huge_default(size_t *size); /* 0: none */
/* Whether there are huge pages of @size, a power of two: 0, 1. */
int shmi_os_has_huge(uint64_t size);
unsigned long shmi_os_huge_sizes(void); /* or of all; 0: none */
unsigned long shmi_os_nodes(void);	/* NUMA nodes we may use; 0:
					 * the kernel does not tell */
int shmi_os_random(void *buf, size_t len);
const char *shmi_os_env(const char *name); /* NULL in set-user-id */
int shmi_os_set_env(const char *name, const char *value); /* NULL: none */
uint32_t shmi_os_tid(void);
uint32_t shmi_os_clock(void); /* ns; wraps. No system call where there is a
			       * vDSO */

/* Files. */
#define SHMI_MODE_TYPE 0170000u
#define SHMI_MODE_REG 0100000u
int shmi_os_stat(const char *path, bool follow, struct shmi_stat *st);
int shmi_os_stat_at(int dirfd, const char *name, struct shmi_stat *st);
int shmi_os_fstat(int fd, struct shmi_stat *st);
int shmi_os_open(const char *path, bool rw);		  /* fd; never blocks */
int shmi_os_open_dir(const char *path);			  /* fd */
int shmi_os_openat(int dirfd, const char *name, bool rw); /* fd */
int shmi_os_reopen(int fd, bool rw); /* fd of a new description */
int shmi_os_dup(int fd);	     /* fd */
/* The same, at @least or above where the limit allows. */
int shmi_os_dup_above(int fd, int least);
void shmi_os_keep_on_exec(int fd); /* -1 is allowed */
int shmi_os_dup_over(int fd, int over);
int shmi_os_is_rdonly(int fd);				 /* 0, 1 */
int shmi_os_tmpfile(const char *dir, unsigned int mode); /* fd, no name yet */
int shmi_os_create(const char *path, unsigned int mode); /* fd, new */
/* fd, never has a name; @huge: page size, or 0 for small pages; @exec: its mode
 * may have x. -ENODEV: no pages of that size. */
int shmi_os_memfd(size_t huge, bool exec);
int shmi_os_link(int fd, int dirfd, const char *name); /* never replaces */
int shmi_os_rename(int dirfd, const char *from, const char *to); /* -1: cwd */
int shmi_os_move(const char *from, const char *to); /* never replaces */
int shmi_os_unlink(int dirfd, const char *name);
int shmi_os_unlink_path(const char *path);
/* What that would say, as far as can be told before it is done: 0 or -errno. */
int shmi_os_may_unlink(const char *path);
int shmi_os_fchmod(int fd, unsigned int mode);
int shmi_os_pread(int fd, void *buf, size_t len, uint64_t off); /* all of it */
int shmi_os_pwrite(int fd, const void *buf, size_t len, uint64_t off);
int shmi_os_is_hugetlbfs(int fd, uint64_t pagesize); /* 0, 1 */
/* Whether that is where a file lies: asks only if @st, its own, is like it. */
bool shmi_os_on_hugetlbfs(int fd, const struct shmi_stat *st);
bool shmi_os_is_tmpfs(int fd);
/* In the first @below bytes; moves the description's offset. */
bool shmi_os_has_hole(int fd, uint64_t below);
/* Tells a file's file system from others, in all processes: its f_fsid, or
 * where it has none its device number. */
int shmi_os_fsid(int fd, uint64_t *id);
/* Asks btrfs to write over what an empty file will have, and not beside it,
 * which takes room each time and is a signal where there is none. A hint. */
void shmi_os_overwrite(int fd);
/* Whether one more page can be had for a hugetlbfs file: 0 or -ENOMEM. */
int shmi_os_has_page(int fd, size_t pagesize);
void shmi_os_close(int fd); /* -1 is allowed */

/*
 * The last part of @path, which may be empty. @dir, if not NULL, gets the rest
 * without the slash in between, or ".": of a path below PATH_MAX all of it.
 */
const char *shmi_os_split(const char *path, char dir[PATH_MAX]);

/* Calls @each with a text file's lines until it returns non-zero: that. */
int shmi_os_lines(const char *path, int (*each)(char *line, void *arg),
		  void *arg);
/* Calls @each with the names in a directory until it returns non-zero. */
int shmi_os_names(int dirfd, int (*each)(const char *name, void *arg),
		  void *arg);

/*
 * Length of a file. Beyond RLIMIT_FSIZE the kernel answers with a signal, so
 * who extends a file asks for the limit first; all shortages are -ENOMEM.
 */
/* -ENOMEM for all the ways in which a file has no room, else @err. */
int shmi_os_shortage(int err);
uint64_t shmi_os_file_limit(void); /* bytes; at most INT64_MAX */
int shmi_os_extend(int fd, uint64_t len, uint64_t limit);
/* Asks for the limit itself, where the file may turn out to be shorter. */
int shmi_os_cut(int fd, uint64_t len);
/*
 * Allocates [off, off + len), and extends the file if @extend. -EOPNOTSUPP
 * where the file system cannot. -ENOMEM also where signals leave no time for a
 * single page: the caller has no more memory than without room, and may try
 * again just so; that this was a signal does not help it.
 */
int shmi_os_allocate(int fd, uint64_t off, uint64_t len, bool extend,
		     uint64_t limit);
/* Writes zeros there, which extends the file if need be. What the file's kind
 * or a seal forbids, and -EFBIG above @limit, are for the caller to do
 * otherwise; so is what has been done of it. */
int shmi_os_zero(int fd, uint64_t off, uint64_t len, uint64_t limit);

/* The kernel's values, the same on all machines that we build for. */
#define SHMI_PROT_READ 0x1
#define SHMI_PROT_WRITE 0x2
#define SHMI_PROT_EXEC 0x4
#define SHMI_MAP_SHARED 0x1
#define SHMI_MAP_PRIVATE 0x2
#define SHMI_MAP_ANONYMOUS 0x20
#define SHMI_MAP_POPULATE 0x8000
#define SHMI_MAP_HUGETLB 0x40000
#define SHMI_MAP_HUGE_SHIFT 26
#define SHMI_REMAP_MAYMOVE 1
#define SHMI_REMAP_FIXED 2

/* Mappings. shmi_os_map_* return 0 or -errno; the address goes to @at. */
int shmi_os_map_header(int fd, size_t len, bool rw, void **at);
/* At @addr and there only; -EADDRINUSE if taken. @huge: hugetlbfs. */
int shmi_os_map_data(int fd, uint64_t off, void *addr, size_t len, bool rw,
		     bool huge, bool over_own);
struct shmi_map_how {
	int prot;
	bool shared;
	size_t huge; /* page size, or 0 for small pages */
	bool thp;
};
/* No file. @addr NULL: anywhere. */
int shmi_os_map_anon(const struct shmi_map_how *how, void *addr, size_t len,
		     void **at);
int shmi_os_remap(void *old, size_t old_len, size_t new_len, bool may_move,
		  void **at);
void shmi_os_unmap(void *addr, size_t len);
/* The same where the kernel can refuse: the middle of a map, too many maps. */
int shmi_os_unmap_part(void *addr, size_t len);
void shmi_os_advise_thp(void *addr, size_t len);
void shmi_os_advise_nodump(void *addr, size_t len);
/* -EINVAL for nodes that do not exist; a kernel that refuses is ignored. */
int shmi_os_bind(void *addr, size_t len, int policy, unsigned long nodes);
/*
 * Makes every page of a writable mapping present, as a write would, without
 * changing any byte; -ENOMEM where there is no memory for one. Never raises
 * a signal, also for a range that is not there.
 */
int shmi_os_populate(void *addr, size_t len, size_t pagesize);
/* The same by stores of our own, for pages that are there already. */
void shmi_os_touch(void *addr, size_t len, size_t pagesize);
/* By loads, of which the kernel takes one for 16 pages that are in the file. */
void shmi_os_look(const void *addr, size_t len, size_t pagesize);
/* The pages' memory goes back; they read as zero. Whole pages. */
int shmi_os_discard(void *addr, size_t len);
uintptr_t shmi_os_address_top(void); /* first power of two above user space */

/* Open file description locks on bytes of a file. */
enum shmi_range { SHMI_UNLOCK, SHMI_SHARED, SHMI_EXCLUSIVE };
int shmi_os_range(int fd, enum shmi_range how, uint64_t off, uint64_t len,
		  bool wait); /* -EAGAIN: held by others */
int shmi_os_range_held(int fd, uint64_t off, uint64_t len); /* by others: 1 */
/*
 * The same, but the process's: not shared with whoever has the description,
 * gone with the process, and when it closes any descriptor of the file. The
 * two kinds keep each other out, also within one process.
 */
int shmi_os_own_range(int fd, enum shmi_range how, uint64_t off, uint64_t len,
		      bool wait);
/* Keeps the process from it: 1. So does what is on this very description. */
int shmi_os_own_range_held(int fd, uint64_t off, uint64_t len);

/* Futexes between processes. */
void shmi_os_futex_wait(_Atomic uint32_t *word, uint32_t seen,
			unsigned int seconds);
void shmi_os_futex_wake(_Atomic uint32_t *word);

/*
 * The calling thread's robust futex list: the kernel marks *word with
 * OWNER_DIED, and wakes who waits there, if the thread dies while @word is
 * announced and holds the thread's id. Allocates nothing.
 */
struct shmi_robust;
struct shmi_robust *shmi_os_robust(void); /* of this thread; or NULL */
void shmi_os_robust_announce(struct shmi_robust *r, _Atomic uint32_t *word);
void shmi_os_robust_clear(struct shmi_robust *r);

/* One line on stderr, and abort. */
_Noreturn void shmi_os_die(const char *format, const void *heap,
			   const char *what, const void *at);

/* Threads. Cancellation is off between these two. */
int shmi_os_cancel_off(void);
void shmi_os_cancel_restore(int was);

#endif
