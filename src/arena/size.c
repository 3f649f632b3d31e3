/* SPDX-License-Identifier: BSD-3-Clause */
/* size.c - an arena's size: grow, shrink, repair */
/*
 * The truth is the word "size" in the header and the length of the file that
 * holds the bytes. Under the lock, while no grow populates outside of it:
 *
 *	file length == data offset + size, and ahead == 0
 *
 * A grow extends the file first and stores size last; a shrink stores size
 * first and cuts the file last. So whoever reads size may use what it says,
 * and a death in between leaves a file that is longer than size:
 *
 *	repair	file longer: cut to size (new pages are zero again when they
 *		are used next, also after a shrink that died half way).
 *		file shorter (somebody cut it at rest): size is what is there.
 *
 * Grows that populate more than PIECE bytes do so without the lock. They put
 * the length that they need into ahead, extend the file to it, and then make
 * pages present from the old size on, piece by piece, while others grow, too,
 * and may take those very pages: what counts is not which pages a grow made
 * present but that the ones which it gets at the end, from the size as it is
 * then, are. So:
 *
 *	lock; ahead = size + n; extend the file; unlock
 *	make [size, size + n) present; nobody else writes there
 *	lock; the range is now [size', size' + n): what is missing of it is
 *	made present here if it is little, else outside again; size = size' + n
 *
 * Nothing has to be given back when two grows overlap, and there are no holes.
 * Who throws away pages beyond size (shrink, repair) moves epoch, and the
 * grows outside begin anew; after ROUNDS of that, or of others taking what was
 * made present, they populate inside the lock. A grow that fails leaves its
 * pages to others that are under way. Who finds nobody under way cuts the file
 * to size: the last to end, and the next grow after a death.
 *
 * While anybody is under way ahead is not 0 (CUT where nothing is left of it),
 * since one that populates when the file is cut may put a piece beyond the
 * file's end, which nobody would ever give back.
 *
 * Who is under way is told by the file lock GROWING (users.h), which a process
 * loses when another thread closes a descriptor of the file. So GROWING decides
 * only when to tidy up. What keeps pages and size together is epoch, and this,
 * under the lock: for each grow that is outside in the present epoch, what it
 * makes present ends below ahead or size. Therefore every cut below that moves
 * epoch.
 *
 * tests/model/grow.pml is this for spin.
 *
 * The owner of the lock is trusted no further than anybody who can write the
 * file: size is checked at each use, and what comes out of a sum of ahead is
 * bounded by the maximum.
 *
 * How pages are made present (1 GiB, ms, medians here): 4 KiB pages on tmpfs
 * 370 by zeros that are written and a look at each page, for which the kernel
 * maps 16 at a time; 517 by fallocate and MADV_POPULATE_WRITE, 579 without
 * fallocate, 681 by touching. Zeros are for what is done under the lock, as
 * only there nobody can use the bytes: a grow of 1 GiB that takes it for each
 * piece is as fast, but holds it for most of the time, and who is stopped then
 * (SIGSTOP, a debugger, a busy processor) keeps all others out. A single page
 * comes faster by fallocate and a store. With transparent huge pages 47 by
 * MADV_POPULATE_WRITE alone; whatever is put into the file first would be small
 * ones, as it sees the file and not the mapping's hint.
 */
#include "size.h"

#include "os.h"
#include "users.h"

#include <errno.h>

#define PIECE ((uint64_t)4 << 20)
#define ROUNDS 8
#define TOUCH_PAGES 4
#define CUT 1 /* as ahead, which else is a multiple of the page size */

static uint64_t file_len(const struct shmi_arena *a, uint64_t size)
{
	return shmi_header_data_off(&a->c) + size;
}

/* Another process can write these words at any time: 0 or -EUCLEAN. */
static int read_size(const struct shmi_arena *a, uint64_t *size)
{
	/* acquire: pairs with set_size(), for readers without the lock */
	*size = atomic_load_explicit(&a->lock.h->size, memory_order_acquire);
	if (*size > a->c.maxsize || *size & (a->c.pagesize - 1))
		return -EUCLEAN;
	return 0;
}

uint64_t shmi_size_now(const struct shmi_arena *a)
{
	struct shmi_stat st;
	uint64_t size;

	if (read_size(a, &size) && size > a->c.maxsize)
		size = a->c.maxsize;
	/* A reader cannot repair a file that was cut at rest. */
	if (!a->writable && !shmi_os_fstat(shmi_arena_data_fd(a), &st) &&
	    st.len < file_len(a, size))
		size = st.len < file_len(a, 0) ? 0 : st.len - file_len(a, 0);
	return size & ~(a->c.pagesize - 1);
}

/* release: who sees the size may use the pages, which are there already. */
static void set_size(struct shmi_arena *a, uint64_t size)
{
	atomic_store_explicit(&a->lock.h->size, size, memory_order_release);
}

/* ahead and epoch are read and written under the lock, which orders them. */
static uint64_t read_ahead(const struct shmi_arena *a)
{
	uint64_t ahead =
		atomic_load_explicit(&a->lock.h->ahead, memory_order_relaxed);

	return ahead < a->c.maxsize ? ahead : a->c.maxsize;
}

static void set_ahead(struct shmi_arena *a, uint64_t ahead)
{
	atomic_store_explicit(&a->lock.h->ahead, ahead, memory_order_relaxed);
}

static uint64_t read_epoch(const struct shmi_arena *a)
{
	return atomic_load_explicit(&a->lock.h->epoch, memory_order_relaxed);
}

static bool under_way(const struct shmi_arena *a)
{
	return a->populating || shmi_users_others_growing(a->fd);
}

/*
 * Throws away what the file has beyond @size. epoch first: if we die in
 * between, those under way begin anew for nothing. @settle: nobody is.
 */
static int cut(struct shmi_arena *a, uint64_t size, bool settle)
{
	uint64_t ahead = !settle && read_ahead(a) && under_way(a) ? CUT : 0;
	int err;

	atomic_fetch_add_explicit(&a->lock.h->epoch, 1, memory_order_relaxed);
	err = shmi_os_cut(shmi_arena_data_fd(a), file_len(a, size));
	if (!err)
		set_ahead(a, ahead);
	return err;
}

int shmi_size_repair(struct shmi_arena *a)
{
	struct shmi_stat st;
	uint64_t size, there;
	int err = shmi_os_fstat(shmi_arena_data_fd(a), &st);

	if (err)
		return err;
	if (st.len < file_len(a, 0))
		there = 0;
	else
		there = (st.len - file_len(a, 0)) & ~(a->c.pagesize - 1);
	err = read_size(a, &size);
	if (err)
		return err;
	if (size > there) {
		size = there;
		set_size(a, size);
	} else if (st.len == file_len(a, size) && !read_ahead(a)) {
		return 0;
	}
	/* Cut at rest to less than the data's offset. */
	if (st.len < file_len(a, size))
		err = shmi_os_extend(shmi_arena_data_fd(a), file_len(a, size),
				     shmi_os_file_limit());
	return err ? err : cut(a, size, false);
}

int shmi_size_lock(struct shmi_arena *a)
{
	int err = shmi_lock_take(&a->lock), cancel;

	if (err != SHMI_LOCK_DIED)
		return err;
	cancel = shmi_os_cancel_off();
	err = shmi_size_repair(a);
	shmi_os_cancel_restore(cancel);
	if (err)
		shmi_lock_release_broken(&a->lock);
	return err;
}

void shmi_size_unlock(struct shmi_arena *a)
{
	shmi_lock_release(&a->lock);
}

/* Under the lock. If we die here, the next one does the same. */
static int settle_ahead(struct shmi_arena *a, uint64_t size)
{
	return read_ahead(a) && !under_way(a) ? cut(a, size, true) : 0;
}

/* Length that the file has, under the lock. */
static uint64_t extent(const struct shmi_arena *a, uint64_t size)
{
	uint64_t ahead = read_ahead(a) & ~(a->c.pagesize - 1);

	return ahead > size ? ahead : size;
}

static bool on_tmpfs(struct shmi_arena *a)
{
	if (!a->kind)
		a->kind = shmi_os_is_tmpfs(shmi_arena_data_fd(a))
				  ? SHMI_KIND_TMPFS
				  : SHMI_KIND_OTHER;
	return a->kind == SHMI_KIND_TMPFS;
}

static bool allocates_first(const struct shmi_arena *a)
{
	return !(a->c.flags & LAYOUT_THP) && !a->no_allocate;
}

/*
 * A few pages that fallocate has just put into a tmpfs file are mapped by
 * stores of our own, 0.6 us cheaper: there is no want of memory any more that
 * could make them a signal. Who cuts the file right then does what he can do
 * to any access of ours.
 */
static int populate(struct shmi_arena *a, uint64_t from, uint64_t n,
		    bool allocated)
{
	char *start = shmi_arena_base(a) + from;

	if (!allocated || n > TOUCH_PAGES * a->c.pagesize || !on_tmpfs(a))
		return shmi_os_populate(start, n, a->c.pagesize);
	shmi_os_touch(start, n, a->c.pagesize);
	return 0;
}

/*
 * Makes [@from, @to) present and mapped here, in pieces, none of which is so
 * long that a signal must interrupt it. @epoch not NULL: outside the lock, the
 * file has its length, and a move of epoch ends it early (-EAGAIN). Otherwise
 * under the lock, and the file is as long as @len and grows with the pieces.
 */
static int make_present(struct shmi_arena *a, uint64_t from, uint64_t to,
			const uint64_t *epoch, uint64_t len, uint64_t limit)
{
	uint64_t piece = PIECE > a->c.pagesize ? PIECE : a->c.pagesize;
	int fd = shmi_arena_data_fd(a), err = 0;

	while (from < to && !err) {
		uint64_t n = to - from < piece ? to - from : piece;

		if (epoch && read_epoch(a) != *epoch)
			return -EAGAIN;
		if (allocates_first(a)) {
			err = shmi_os_allocate(fd, file_len(a, from), n,
					       !epoch && from + n > len, limit);
			if (err == -EOPNOTSUPP) {
				a->no_allocate = true;
				err = 0;
			} else if (!err && from + n > len) {
				len = from + n;
			}
		}
		if (!err && !epoch && from + n > len) {
			err = shmi_os_extend(fd, file_len(a, to), limit);
			len = to;
		}
		if (!err)
			err = populate(a, from, n,
				       !epoch && allocates_first(a));
		from += n;
	}
	return err;
}

/*
 * The same for bytes that nobody uses nor can begin to: beyond size under the
 * lock, or a heap's that it holds ready. 0, or it must be done as above, which
 * says what is wrong, too.
 */
static int write_present(struct shmi_arena *a, uint64_t from, uint64_t to,
			 uint64_t limit)
{
	uint64_t start = from & ~(a->c.pagesize - 1);
	int err;

	if (to - from <= a->c.pagesize || !allocates_first(a) || !on_tmpfs(a))
		return -EOPNOTSUPP;
	err = shmi_os_zero(shmi_arena_data_fd(a), file_len(a, from), to - from,
			   limit);
	if (!err)
		shmi_os_look(shmi_arena_base(a) + start, to - start,
			     a->c.pagesize);
	return err;
}

/* Under the lock: [@from, @to), which is beyond size. */
static int make_new(struct shmi_arena *a, uint64_t from, uint64_t to,
		    uint64_t len, uint64_t limit)
{
	return write_present(a, from, to, limit)
		       ? make_present(a, from, to, NULL, len, limit)
		       : 0;
}

/* What every grow asks first, under the lock. */
static int may_grow(struct shmi_arena *a, uint64_t at, uint64_t bytes,
		    uint64_t *size)
{
	int err = read_size(a, size);

	if (err)
		return err;
	if (at != SHMI_SIZE_ANY && at != *size)
		return -EADDRINUSE;
	if (bytes > a->c.maxsize - *size)
		return -ENOMEM;
	return settle_ahead(a, *size);
}

/* Under the lock: others under way keep their pages, and ours with them. */
static void undo(struct shmi_arena *a, uint64_t size)
{
	shmi_os_cut(shmi_arena_data_fd(a), file_len(a, extent(a, size)));
}

/*
 * Under the lock: the whole grow in one go, except that on tmpfs, where others
 * wait for the lock, the pages are only put into the file (@unmapped): to map
 * and clear them is the longer half, and cannot fail for want of them. Two
 * processes that grow by a page at once take 0.7 of the time of one with it,
 * 1.1 without; who is alone is 0.4 us faster with the store of populate().
 */
static int grow_inside(struct shmi_arena *a, uint64_t at, uint64_t bytes,
		       bool present, uint64_t limit, uint64_t *off,
		       bool *unmapped)
{
	uint64_t size, len;
	int err = may_grow(a, at, bytes, &size);

	if (err)
		return err;
	len = extent(a, size);
	*unmapped =
		present && a->lock.waited && allocates_first(a) && on_tmpfs(a);
	if (*unmapped) {
		err = shmi_os_allocate(shmi_arena_data_fd(a), file_len(a, size),
				       bytes, size + bytes > len, limit);
		*unmapped = err != -EOPNOTSUPP; /* some sandbox's choice */
	}
	if (present && !*unmapped)
		err = make_new(a, size, size + bytes, len, limit);
	else if (!present && size + bytes > len)
		err = shmi_os_extend(shmi_arena_data_fd(a),
				     file_len(a, size + bytes), limit);
	if (err) {
		undo(a, size);
		return err;
	}
	set_size(a, size + bytes);
	*off = size;
	return 0;
}

/* ----- grows that populate outside the lock ----- */

struct big {
	uint64_t at, bytes;
	uint64_t limit;	     /* RLIMIT_FSIZE */
	uint64_t epoch;	     /* when [from, done) was begun */
	uint64_t from, done; /* present and mapped here, in that epoch */
	unsigned int rounds;
};

/* Under the lock: the file is long enough for [size, size + bytes). */
static int big_extend(struct shmi_arena *a, struct big *b, uint64_t size)
{
	uint64_t to = size + b->bytes, ahead = read_ahead(a);
	uint64_t len = extent(a, size);
	int err;

	/* Either order: if we die here it is inside the lock. */
	if (to > ahead)
		set_ahead(a, to);
	if (to <= len)
		return 0;
	err = shmi_os_extend(shmi_arena_data_fd(a), file_len(a, to), b->limit);
	if (err)
		set_ahead(a, ahead);
	return err;
}

static int big_begin(struct shmi_arena *a, struct big *b)
{
	uint64_t size;
	int err = shmi_size_lock(a);

	if (err)
		return err;
	err = may_grow(a, b->at, b->bytes, &size);
	if (!err)
		err = big_extend(a, b, size);
	if (!err) {
		/* The first of ours takes the file lock for all of ours. */
		if (!a->populating++)
			shmi_users_growing(a->fd, true);
		b->epoch = read_epoch(a);
		b->from = b->done = size;
	}
	shmi_size_unlock(a);
	return err;
}

/* Under the lock. */
static void big_end(struct shmi_arena *a)
{
	uint64_t size;

	if (!--a->populating)
		shmi_users_growing(a->fd, false);
	if (!read_size(a, &size))
		settle_ahead(a, size);
}

/*
 * With the lock taken and @err from populating: 0, done; -EAGAIN, populate
 * [b->done, ...) outside again; or a failure.
 */
static int big_publish(struct shmi_arena *a, struct big *b, int err,
		       uint64_t *off)
{
	uint64_t size, to;
	int bad = read_size(a, &size);

	if (bad)
		return bad;
	if (b->at != SHMI_SIZE_ANY && b->at != size)
		return -EADDRINUSE;
	if (b->bytes > a->c.maxsize - size)
		return -ENOMEM;
	to = size + b->bytes;
	if (read_epoch(a) != b->epoch) {
		/* Pages are gone; what the populating said means nothing. */
		b->epoch = read_epoch(a);
		b->from = b->done = size;
		err = 0;
	}
	if (err)
		return err;
	if (size < b->from || b->done < size)
		b->from = b->done = size;
	if (to > b->done && to - b->done > PIECE && ++b->rounds < ROUNDS) {
		err = big_extend(a, b, size);
		return err ? err : -EAGAIN;
	}
	if (to > b->done)
		err = make_new(a, b->done, to, extent(a, size), b->limit);
	if (err) {
		undo(a, size);
		return err;
	}
	set_size(a, to);
	*off = size;
	return 0;
}

static int grow_outside(struct shmi_arena *a, uint64_t at, uint64_t bytes,
			uint64_t *off)
{
	struct big b = {
		.at = at,
		.bytes = bytes,
		.limit = shmi_os_file_limit(),
	};
	int err = big_begin(a, &b), bad;
	uint64_t to;

	if (err)
		return err;
	do {
		to = b.from + bytes;
		err = make_present(a, b.done, to, &b.epoch, to, b.limit);
		if (!err)
			b.done = to;
		bad = shmi_size_lock(a);
		if (bad) {
			/* The file lock stays until close; so does ahead. */
			return bad;
		}
		err = big_publish(a, &b, err, off);
		if (err != -EAGAIN)
			big_end(a);
		else if (b.done > b.from)
			b.from = shmi_size_now(a);
		shmi_size_unlock(a);
	} while (err == -EAGAIN);
	return err;
}

/* ----- for the heap, which puts something of its own into new pages ----- */

int shmi_size_stage(struct shmi_arena *a, uint64_t bytes, uint64_t *off)
{
	uint64_t limit = shmi_os_file_limit(), size;
	int err = may_grow(a, SHMI_SIZE_ANY, bytes, &size);

	if (!err && size + bytes > extent(a, size))
		err = shmi_os_extend(shmi_arena_data_fd(a),
				     file_len(a, size + bytes), limit);
	*off = size;
	return err;
}

void shmi_size_publish(struct shmi_arena *a, uint64_t size)
{
	set_size(a, size);
}

void shmi_size_unstage(struct shmi_arena *a)
{
	uint64_t size;

	/* Not undo(): what was written there must go. */
	if (!read_size(a, &size))
		cut(a, size, false);
}

int shmi_size_fill(struct shmi_arena *a, uint64_t off, uint64_t bytes)
{
	return make_present(a, off, off + bytes, NULL, UINT64_MAX, UINT64_MAX);
}

int shmi_size_fill_new(struct shmi_arena *a, uint64_t off, uint64_t bytes)
{
	uint64_t mask = a->c.pagesize - 1, to = off + bytes;
	uint64_t first = (off + mask) & ~mask, end = to & ~mask;
	int err = -EOPNOTSUPP;

	/* A guest that dies is nobody's any more as soon as one of its threads
	 * has died in the lock; a write of another one's may not be over. */
	if (a->lock.slot >= LAYOUT_GUESTS)
		err = write_present(a, off, to, shmi_os_file_limit());
	if (!err)
		return 0;
	/* What was written before room ran out would stay with us, where the
	 * file system's other users, our other blocks too, could have it. */
	if (err != -EFBIG && shmi_os_shortage(err) == -ENOMEM && first < end)
		shmi_os_discard(shmi_arena_base(a) + first, end - first);
	off &= ~mask;
	return shmi_size_fill(a, off, ((to + mask) & ~mask) - off);
}

int shmi_size_grow(struct shmi_arena *a, uint64_t at, uint64_t bytes,
		   bool present, uint64_t *off)
{
	uint64_t limit;
	bool unmapped = false;
	int err;

	if (present && bytes > PIECE)
		return grow_outside(a, at, bytes, off);
	/* A system call; others need not wait for it. */
	limit = shmi_os_file_limit();
	err = shmi_size_lock(a);
	if (err)
		return err;
	err = grow_inside(a, at, bytes, present, limit, off, &unmapped);
	shmi_size_unlock(a);
	/* The grow is done, whatever comes: what can fail here is the touch of
	 * pages that somebody has cut off again, which is no news of ours. */
	if (!err && unmapped)
		shmi_os_populate(shmi_arena_base(a) + *off, bytes,
				 a->c.pagesize);
	return err;
}

/*
 * size first: if we die before the cut, the file is longer than size and
 * repair cuts it. Readers of size never see pages that are gone.
 */
int shmi_size_cut(struct shmi_arena *a, uint64_t off)
{
	uint64_t size;
	int err = read_size(a, &size);

	if (err)
		return err;
	set_size(a, off);
	err = cut(a, off, false);
	if (err)
		set_size(a, size);
	return err;
}

int shmi_size_shrink(struct shmi_arena *a, uint64_t off, uint64_t bytes)
{
	uint64_t size;
	int err = shmi_size_lock(a);

	if (err)
		return err;
	err = read_size(a, &size);
	if (!err && (off > size || size - off != bytes))
		err = -EINVAL;
	if (!err)
		err = shmi_size_cut(a, off);
	shmi_size_unlock(a);
	return err;
}
