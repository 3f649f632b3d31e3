/* SPDX-License-Identifier: BSD-3-Clause */
/* ctl.h - what the subcommands of shmemctl have in common. */
/*
 * For all that the interface offers shmemctl uses the public headers. It also
 * includes layout.h, and in map.c, heap.c and heaps.c heap_layout.h, which are
 * structs only: a damaged file is what people look at most, and the interface
 * refuses it; and whoever opens an arena is one of its users, while who only
 * looks must not be. So it reads files with pread(2), which changes nothing in
 * them and takes no memory for holes.
 *
 * A subcommand is one function, `int ctl_NAME(int argc, char **argv)` with
 * argv[0] its name, in a file of its own, and a line of the table in main.c. It
 * returns an exit code. Errors are one line on stderr, from ctl_error().
 */
#ifndef SHMEMCTL_CTL_H
#define SHMEMCTL_CTL_H

#include "layout.h"

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <tmc/shmem.h>

/* Exit codes; shmemctl(1) has them, too. */
enum {
	CTL_OK = 0,
	CTL_FAILED = 1, /* could not be done */
	CTL_USAGE = 2,	/* not understood */
	CTL_NO = 3,	/* the answer of check and why is no */
};

int ctl_ls(int argc, char **argv);
int ctl_stat(int argc, char **argv);
int ctl_map(int argc, char **argv);
int ctl_heap(int argc, char **argv);
int ctl_check(int argc, char **argv);
int ctl_create(int argc, char **argv);
int ctl_grow(int argc, char **argv);
int ctl_rm(int argc, char **argv);
int ctl_gc(int argc, char **argv);
int ctl_why(int argc, char **argv);

/* ----- out.c: what people see ----- */

/*
 * `shmemctl: PATH: what is wrong`, in one line, whatever is in @path. Returns
 * CTL_FAILED. ctl_errno() says what errno means.
 */
int ctl_error(const char *path, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
int ctl_errno(const char *path);

/* The same for arguments, with a hint at --help. Returns CTL_USAGE. */
int ctl_usage(const char *command, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * As getopt_long(); -1 at the end. Prints @help and exits at --help, and exits
 * with CTL_USAGE at what is not in @longs or @shorts.
 */
int ctl_option(int argc, char **argv, const char *shorts,
	       const struct option *longs, const char *help);

/* The first of @n words after the options; exits where there are not @n. */
char *ctl_words(int argc, char **argv, int n);

/* Bytes for people: 4K, 1.5M, 2G. Into @text, which is returned. */
#define CTL_HUMAN 16
const char *ctl_human(uint64_t bytes, char text[CTL_HUMAN]);

/*
 * Numbers that people write. NULL, or what is wrong with @text, to be shown
 * behind it. Sizes: digits and then K, M, G, T, P or E, with or without iB.
 */
const char *ctl_parse_size(const char *text, uint64_t *bytes);
const char *ctl_parse_address(const char *text, uint64_t *addr);
const char *ctl_parse_number(const char *text, uint64_t max, uint64_t *n);

/* Whether stdout is a terminal. */
bool ctl_is_terminal(void);

/*
 * Columns to print in: COLUMNS, or those of the terminal that stdout is, or
 * @otherwise.
 */
unsigned int ctl_width(unsigned int otherwise);

/* The same of another descriptor, and not of COLUMNS. */
unsigned int ctl_terminal_width(int fd, unsigned int otherwise);

/* Whether the locale has more than ASCII. */
bool ctl_utf8(void);

/* The escape sequence for it, or "" where there are to be no colours. */
enum ctl_colour {
	CTL_PLAIN, /* ends the others */
	CTL_BOLD,
	CTL_DIM,
	CTL_RED,
	CTL_GREEN,
	CTL_YELLOW,
	CTL_BLUE,
	CTL_MAGENTA,
	CTL_CYAN
};
const char *ctl_colour(enum ctl_colour c);

/*
 * A name as it can be shown: what would move the cursor, or is no text, is a
 * question mark. Freed by the caller; never NULL. And its columns.
 */
char *ctl_clean(const char *name);
unsigned int ctl_columns(const char *text);

/* Memory or an end. */
void *ctl_alloc(void *old, size_t n, size_t size);
char *ctl_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * At the end: what was printed has arrived, or the code is another one. A
 * closed pipe is no news for anybody, and a full disk is one line.
 */
int ctl_finish(int code);

/* ----- json.c ----- */

/*
 * Writes to stdout. @key NULL: in an array, or the outermost. Names that are no
 * UTF-8 have their odd bytes as \udcXX, as Python's os.fsdecode() has them.
 */
void ctl_json_open(const char *key, char bracket); /* '{' or '[' */
void ctl_json_close(void);
void ctl_json_text(const char *key, const char *value); /* NULL: null */
void ctl_json_number(const char *key, uint64_t value);
void ctl_json_bool(const char *key, bool value);

/* ----- inspect.c: an arena's files, whole or damaged ----- */

struct ctl_arena {
	char *path; /* as it can be shown */
	int fd;	    /* reads only */
	struct stat st;
	struct layout_hdr_words h; /* as read, from anybody: bound every use */
	size_t header_len;	   /* bytes of it that the file has */
	bool huge;		   /* its bytes are in the companion */
	int hugefd;	     /* reads only; -1: small pages, or not found */
	struct stat huge_st; /* all 0 without a companion */
	char *companion;     /* its path; NULL: none */
	const char *missing; /* what is said then */
	bool gone;	     /* it is on no mount that it can be on, and not
				    * just out of sight */
	bool valid;	     /* constants are right: base, maxsize and
				    * pagesize can be used */
	bool lost;	     /* its companion is gone, with all that it
				    * had; nothing else is wrong */
	uint64_t size;	     /* bytes in use: h.size, but not more than
				    * the maximum and the files have */
	uint64_t data_off;   /* of the bytes in the file that has them */
	char wrong[160];     /* the first thing that is; "": nothing */
};

/*
 * Looks at @path, which may also be /proc/PID/fd/N. NULL, or what is wrong with
 * it. What begins as an arena does is one, however damaged it is: see valid and
 * wrong. _at: @name in @dirfd, not through a link.
 */
const char *ctl_inspect(const char *path, struct ctl_arena *a);
const char *ctl_inspect_at(int dirfd, const char *name, const char *path,
			   struct ctl_arena *a);
/* Closes its files; what was read stays. And forgets that, too. */
void ctl_inspect_close(struct ctl_arena *a);
void ctl_inspect_end(struct ctl_arena *a);

/* @fd, which becomes @a's, is the companion if it fits: whether it does. */
bool ctl_inspect_companion(struct ctl_arena *a, int fd, const char *path);

/* The same with the line on stderr, also for a damaged one: an exit code. */
int ctl_inspect_valid(const char *path, struct ctl_arena *a);

/* The descriptor that has the arena's bytes, from a->data_off on. */
static inline int ctl_data_fd(const struct ctl_arena *a)
{
	return a->huge ? a->hugefd : a->fd;
}

/* Bytes of memory or disk that its files really have. */
static inline uint64_t ctl_used(const struct ctl_arena *a)
{
	return ((uint64_t)a->st.st_blocks + (uint64_t)a->huge_st.st_blocks) *
	       512;
}

/* As members of a JSON object: sizes, address, what is wrong. */
void ctl_json_arena(const struct ctl_arena *a);

/* A field of the header, for people. */
struct ctl_field {
	const char *name;
	const char *meaning;
	char value[48];
	char wrong[112]; /* ""; or what is */
	bool note;	 /* which is no damage */
};
#define CTL_FIELDS 18
size_t ctl_fields(const struct ctl_arena *a, struct ctl_field f[CTL_FIELDS]);

/*
 * Calls @each for every hugetlbfs mount, with its page size, until it returns
 * non-zero: that. Where it cannot be looked into @dirfd is -1, and the page
 * size what the mount table says, or 0.
 */
int ctl_each_hugetlbfs(int (*each)(int dirfd, const char *dir,
				   uint64_t pagesize, void *arg),
		       void *arg);

/* ----- error.c, grow.c: what the library does and says ----- */

/*
 * What errno means after a call with @path failed; for a grow by @bytes; and
 * what ENOMEM or ENOSPC of a create does. All return CTL_FAILED.
 */
int ctl_arena_error(const char *path);
int ctl_create_error(const char *path, uint64_t maximum);
int ctl_room_error(const char *path, const tmc_shmem_t *shm, uint64_t bytes);

/* With a bar on a terminal. @populate -1: as the arena has it. An exit code. */
int ctl_grow_by(const char *path, tmc_shmem_t *shm, uint64_t bytes,
		int populate);

/* ----- procs.c: who has an arena open ----- */

/* One process that has one file open, or several times the same. */
struct ctl_proc {
	pid_t pid;
	int fd; /* one of its descriptors */
	bool writes;
	bool gone; /* the file has no name any more */
	bool huge; /* the file is on a hugetlbfs */
	dev_t dev;
	ino_t ino;
	char name[32]; /* command, as it can be shown */
};

struct ctl_procs {
	struct ctl_proc *v; /* by pid */
	size_t n;
	size_t hidden; /* processes that we may not look into */
};

/* All that have files open which could be arenas, without this one. */
void ctl_procs_scan(struct ctl_procs *p);
void ctl_procs_end(struct ctl_procs *p);

/* The first from @from on that has that file open; NULL: none. */
const struct ctl_proc *ctl_procs_find(const struct ctl_procs *p, size_t from,
				      const struct stat *st);

/* What the file locks say, which also know of processes that are hidden. */
struct ctl_locks {
	unsigned int writers; /* each has a lock of its own */
	bool guests;	      /* one or more */
	bool readers;	      /* one or more */
	bool known;	      /* the file system has told */
};
/*
 * The arena of that descriptor of another process, as ctl_inspect(); its
 * companion, which may have no name, is looked for in @p.
 */
const char *ctl_procs_inspect(const struct ctl_procs *p, pid_t pid, int fd,
			      struct ctl_arena *a);

/* Finds a companion that has no name any more, if @a has none. */
void ctl_procs_companion(const struct ctl_procs *p, struct ctl_arena *a);

/* "12 producer, 15 consumer", or ""; and of those that only locks know of
 * "and 1 not visible". Freed by the caller. */
char *ctl_procs_text(const struct ctl_procs *p, const struct ctl_arena *a,
		     const struct ctl_locks *l);
/* The same as members of a JSON object: open, processes, locks. */
void ctl_procs_json(const struct ctl_procs *p, const struct ctl_arena *a,
		    const struct ctl_locks *l);

/* @fd: of the arena's file. */
void ctl_locks(int fd, struct ctl_locks *l);
static inline bool ctl_locked(const struct ctl_locks *l)
{
	return l->writers || l->guests || l->readers;
}

#endif
