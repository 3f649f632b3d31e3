/* SPDX-License-Identifier: BSD-3-Clause */
/* tmc/shmem.h - a growable arena shared at one address. Manual: libshmem(7). */
#ifndef LIBSHMEM_TMC_SHMEM_H
#define LIBSHMEM_TMC_SHMEM_H

#include <stddef.h>
#include <sys/types.h>
#include <tmc/alloc.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * What holds for every function here unless its own text says otherwise:
 *
 * - Any thread may call any of them. None is async-signal-safe and none is a
 *   cancellation point.
 * - On failure errno is set and everything is as before the call.
 * - A process may be killed at any instruction: the others go on, and the
 *   arena is in the state before or after the call. What a dead process left
 *   half done is repaired by the next one that needs it.
 * - Sizes and offsets are bytes from tmc_shmem_address(); the header of the
 *   arena is not among them.
 * - A handle stays usable in a child of fork(2), which has it open on its own
 *   account, and is gone after exec. Children of vfork(2), _Fork(3) or a bare
 *   clone(2) must not use it.
 * - A NULL handle is EINVAL where a call can fail, and 0 or NULL where it
 *   cannot.
 *
 * tmc_shmem_t is opaque. Each successful create or open has its close.
 */
typedef struct tmc_shmem tmc_shmem_t;

#define TMC_SHMEM_VERSION_MAJOR 0
#define TMC_SHMEM_VERSION_MINOR 1
#define TMC_SHMEM_VERSION_PATCH 0

/* The version of the library in use, major << 16 | minor << 8 | patch. */
TMC_API unsigned int tmc_shmem_version(void);

/**
 * tmc_shmem_create() - make an arena
 * @path: its name; a new file, close-on-exec, of mode 0600 or what
 *	tmc_alloc_set_mode() has set, whatever the umask
 * @alloc: attributes, recorded in the arena; NULL for the defaults
 * @addr: where it is mapped in all processes, a multiple of the page size;
 *	NULL: the library picks an address that is very likely free in every
 *	other process as well
 * @maxsize: what it can grow to, bytes, rounded up to the page size;
 *	0: 1 GiB. Costs nothing until it is used
 *
 * The arena is mapped here and its size is 0. The path appears with the whole
 * arena or not at all. With huge pages a companion file holds the bytes, on a
 * hugetlbfs mount of that page size which this process can write to.
 *
 * Return: handle for tmc_shmem_close(), or NULL with errno set:
 *   EEXIST      @path exists
 *   EINVAL      NULL path, or one on hugetlbfs, where only companions can be;
 *               @addr no multiple of the page size; a page size, protection,
 *               flag or NUMA node that does not exist
 *   EADDRINUSE  something is mapped in that range here
 *   ENOMEM      no such room: the address space (@addr + @maxsize beyond its
 *               end, no free place for an automatic address), RLIMIT_AS,
 *               RLIMIT_FSIZE, after mlockall(2) RLIMIT_MEMLOCK, or the file
 *               system has no place for it
 *   ENODEV      no hugetlbfs mount of that page size that we can write to
 *   EACCES, EISDIR, ELOOP, EMFILE, ENAMETOOLONG, ENFILE, ENOENT,
 *   ENOTDIR, EPERM, EROFS, EIO  as for open(2) and link(2)
 *   EOPNOTSUPP, ENOLCK  the file system has no file locks
 */
TMC_API tmc_shmem_t *tmc_shmem_create(const char *path,
				      const tmc_alloc_t *alloc, void *addr,
				      size_t maxsize);

/**
 * tmc_shmem_create_temp() - make an arena with a name of its own
 * @path_template: ends in XXXXXX, which is replaced in place by what makes
 *	the name unique, as mkstemp(3) does; unchanged on failure
 *
 * Return: as tmc_shmem_create(), but EEXIST only when no free name was found;
 * EINVAL also for a template without XXXXXX at its end.
 */
TMC_API tmc_shmem_t *tmc_shmem_create_temp(char *path_template,
					   const tmc_alloc_t *alloc, void *addr,
					   size_t maxsize);

/**
 * tmc_shmem_create_anonymous() - make an arena that never has a name
 * @alloc, @addr, @maxsize: as for tmc_shmem_create(); its mode decides who may
 *	open a descriptor of it anew
 *
 * It lives in files of memfd_create(2), with huge pages without a mount. Others
 * have it as children of fork(2), or by descriptors and tmc_shmem_open_fds();
 * its memory goes with the last of them.
 *
 * Return: handle for tmc_shmem_close(), or NULL with errno set:
 *   EINVAL      @addr no multiple of the page size; a page size, protection,
 *               flag or NUMA node that does not exist
 *   EADDRINUSE  something is mapped in that range here
 *   ENOMEM      no such room, as for tmc_shmem_create(), or no memory
 *   ENODEV      the kernel gives no files of that huge page size
 *   ENOSYS, EACCES, EPERM  the system does not let us have such files
 *   EMFILE, ENFILE         as for open(2)
 */
TMC_API tmc_shmem_t *tmc_shmem_create_anonymous(const tmc_alloc_t *alloc,
						void *addr, size_t maxsize);

/**
 * tmc_shmem_open() - map an existing arena at its recorded address
 * @path: its name
 *
 * Fails rather than map elsewhere or over something else. Does not block on
 * what is no arena and creates nothing. A second open of an arena in one
 * process shares the mapping. Waits for another opener that is repairing.
 *
 * Return: handle for tmc_shmem_close(), or NULL with errno set:
 *   ENOENT      no such file, or the companion of huge pages is gone
 *   EACCES      no permission to read and write it
 *   EADDRINUSE  something else is mapped in that range here
 *   EINVAL      no arena; damaged; of another format version, byte order,
 *               word size or page size; NULL path
 *   ENOMEM      no such room in the address space (RLIMIT_AS, and after
 *               mlockall(2) RLIMIT_MEMLOCK), or on the file system for what a
 *               copy has left out of the header
 *   EUSERS      more processes have it open than the header has room for
 *   ELOOP, EMFILE, ENAMETOOLONG, ENFILE, ENOTDIR, EROFS, ETXTBSY, EPERM, EIO
 *               as for open(2)
 *   EOPNOTSUPP, ENOLCK  the file system has no file locks
 */
TMC_API tmc_shmem_t *tmc_shmem_open(const char *path);

/**
 * tmc_shmem_open_readonly() - the same for one that only looks
 *
 * Needs only permission to read. Grow, shrink and set_data fail with EACCES,
 * and writing to the memory raises SIGSEGV, unless this process has the arena
 * open for writing as well.
 *
 * Return: as tmc_shmem_open().
 */
TMC_API tmc_shmem_t *tmc_shmem_open_readonly(const char *path);

/**
 * tmc_shmem_open_fds() - the same from descriptors
 * @fd: the arena's file, from tmc_shmem_fd() of some process
 * @hugefd: its companion, from tmc_shmem_hugefd(); -1 for small pages
 *
 * The descriptors stay the caller's. Where they may be opened again through
 * /proc (permission is as for open(2)), the handle gets open file descriptions
 * of its own. Where not, they are duplicated, and what such a process has
 * reserved for itself when it dies is free again only after all have closed
 * the arena. A descriptor that can only read gives a read-only handle.
 *
 * Return: as tmc_shmem_open(), and
 *   EBADF   a descriptor is not open
 *   EINVAL  also when the two do not belong together
 */
TMC_API tmc_shmem_t *tmc_shmem_open_fds(int fd, int hugefd);

/**
 * tmc_shmem_close() - done with an arena
 * @shm: handle, invalid afterwards; NULL is allowed
 *
 * The last close in a process unmaps it. The file stays. errno is kept.
 */
TMC_API void tmc_shmem_close(tmc_shmem_t *shm);

/**
 * tmc_shmem_unlink() - remove an arena's name
 *
 * Those who have it open go on, grow included; memory goes with the last.
 * Removes the companion first and then the file, so that what a death has
 * interrupted can be called again; works also where the companion is gone.
 * Anything that is no arena is left alone, and so is a companion that is not
 * provably this arena's.
 *
 * Return: 0, or -1 with errno set:
 *   ENOENT  no such file
 *   EINVAL  not an arena, or NULL
 *   EACCES, EBUSY, EPERM, EROFS, ELOOP, ENAMETOOLONG, ENOTDIR, EMFILE, ENFILE
 *           as for open(2) and unlink(2)
 */
TMC_API int tmc_shmem_unlink(const char *path);

/**
 * tmc_shmem_unlink_idle() - remove an arena's name if nobody has it open
 *
 * Whoever opens it by name at the same time either has it open, and then this
 * fails, or finds no file any more. Needs permission to write to the arena.
 * For the moment of the call the file may have another name in its folder,
 * ".NAME.tmcold-RANDOM"; who finds one that stays may call this for it.
 *
 * Return: 0, or -1 with errno set:
 *   EBUSY   some process has it open, this one perhaps, or is opening it; or
 *           has inherited a descriptor of one that had; or holds a file lock
 *           on it, for which permission to read is enough
 *   ENOENT  no such file
 *   EEXIST  it was gone; two new arenas took its name during the call, and the
 *           first of them is now ".NAME.tmcold-RANDOM"
 *   EINVAL  not an arena, or NULL
 *   EACCES, EPERM, EROFS, ELOOP, ENAMETOOLONG, ENOTDIR, EMFILE, ENFILE, ETXTBSY
 *           as for open(2) for writing and unlink(2)
 *   EOPNOTSUPP, ENOLCK  the file system has no file locks
 */
TMC_API int tmc_shmem_unlink_idle(const char *path);

/**
 * tmc_shmem_grow() - append zeroed pages
 * @bytes: rounded up to the page size
 *
 * All processes can use them at once and need no call for it. With populate
 * they are present and mapped in the caller; without, memory is taken by the
 * first touch. Where another process holds the arena's lock it waits, without
 * using the processor.
 *
 * Return: start of the new pages, or NULL with errno set:
 *   ENOMEM  the maximum, the file system, the huge-page pool, a hugetlb
 *           cgroup or a resource limit is exhausted; or signals came so close
 *           together that not a page could be taken between them
 *   EINVAL  @bytes is 0, or @shm NULL
 *   EACCES  the handle is read-only
 *   EIO, EPERM  what the file system says (EPERM: a sealed file)
 *   EUCLEAN shared state of the arena has been overwritten
 *   EUSERS  in a forked child: no room for one more process
 */
TMC_API void *tmc_shmem_grow(tmc_shmem_t *shm, size_t bytes);

/**
 * tmc_shmem_shrink() - cut the tail off
 * @offset: the new size, a multiple of the page size
 * @bytes: what is cut, above 0; @offset plus @bytes (rounded up) is the size
 *
 * The memory goes back to the system; touching it raises SIGBUS everywhere.
 *
 * Return: 0, or -1 with errno set:
 *   EINVAL  @offset and @bytes do not name the tail (somebody grew meanwhile)
 *   EACCES  the handle is read-only
 *   ENOMEM  somebody has cut the file to less, and RLIMIT_FSIZE does not let
 *           it be made longer again; no signal
 *   EIO, EPERM, EUCLEAN, EUSERS  as for tmc_shmem_grow()
 */
TMC_API int tmc_shmem_shrink(tmc_shmem_t *shm, off_t offset, size_t bytes);

/**
 * tmc_shmem_alloc() - the page allocator of an arena
 *
 * For tmc_alloc_map(), tmc_alloc_unmap() and heaps. It belongs to the handle
 * and is valid as long. A copy with populate set or cleared serves the same
 * arena, prefaulted or not; a copy used after close is refused with EINVAL.
 *
 * Return: never NULL but for a NULL handle.
 */
TMC_API tmc_alloc_t *tmc_shmem_alloc(tmc_shmem_t *shm);

/*
 * Descriptors of the arena: for fchmod(2), fchown(2) and for passing on, and
 * the library's to close. hugefd is -1 for small pages. A NULL handle: -1 and
 * EINVAL.
 */
TMC_API int tmc_shmem_fd(const tmc_shmem_t *shm);
TMC_API int tmc_shmem_hugefd(const tmc_shmem_t *shm);

/* Bytes in use now. Takes no lock; never above the maximum. */
TMC_API size_t tmc_shmem_current_size(const tmc_shmem_t *shm);

/* Bytes it can grow to, bytes in a page, first byte: these never change. */
TMC_API size_t tmc_shmem_maximum_size(const tmc_shmem_t *shm);
TMC_API size_t tmc_shmem_page_size(const tmc_shmem_t *shm);
TMC_API void *tmc_shmem_address(const tmc_shmem_t *shm);

/**
 * tmc_shmem_find() - which open arena an address lies in
 * @p: any address
 * @offset: where its distance from tmc_shmem_address() goes; NULL: nowhere
 *
 * Looks at the arenas that this process has open, at the whole of their
 * maximum, so what comes out may lie beyond the current size. Takes no lock
 * and makes no system call; never reads what @p points to. The handle is one
 * that some part of the program has opened, is that part's to close, and is
 * good as long as it does not. Of several for one arena it is one that can
 * write, if there is one.
 *
 * Return: handle; or NULL with errno set, and @offset untouched:
 *   ENOENT  @p lies in no arena that is open here
 */
TMC_API tmc_shmem_t *tmc_shmem_find(const void *p, size_t *offset);

/**
 * tmc_shmem_set_data() - publish the application's root pointer
 * @data: any value; NULL at first
 *
 * A store with release order, so that what was written before is seen by who
 * gets the pointer with tmc_shmem_get_data(), a load with acquire order. One
 * word, set last wins. No lock.
 *
 * Return: 0, or -1 with EACCES for a read-only handle, EINVAL for a NULL one.
 */
TMC_API int tmc_shmem_set_data(tmc_shmem_t *shm, void *data);
TMC_API void *tmc_shmem_get_data(const tmc_shmem_t *shm);

#ifdef __cplusplus
}
#endif
#endif
