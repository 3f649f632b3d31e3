/* SPDX-License-Identifier: BSD-3-Clause */
/* lock.c - the arena's lock, which no death leaves behind */
/*
 * The lock is one 64-bit word in the header: which slot owns it, and a count
 * that every change moves, so that no stale compare-and-swap can succeed. The
 * owner's slot has a word of its own, which holds the owner's thread id for
 * the kernel: a thread announces its own slot's word to the kernel (os_sync.c)
 * before it touches the lock and withdraws it after it let go. If it dies in
 * between, the kernel sets FUTEX_OWNER_DIED in that word and wakes one who
 * waits there.
 *
 *	take	mutex; slot word = my thread id; announce it; CAS lock 0 -> me
 *	release	lock = 0; if slot word has WAITERS: slot word = 0, wake;
 *		withdraw
 *	wait	file lock QUEUE; then, first in line: set WAITERS in the
 *		*owner's* slot word, look at the lock again, futex-wait there
 *	death	lock names a slot whose word says OWNER_DIED, or whose file
 *		lock nobody holds: CAS lock dead -> me; repair
 *
 * What follows from it:
 *
 * - Exactly one successor: it is a CAS on a word that never repeats. One that
 *   dies while repairing is an owner that died.
 * - A dead thread's kernel compares the word with its id in its own PID
 *   namespace. As a slot's word is announced by nobody but its own user, no
 *   other process with an equal id can mark a living owner dead. So the mark
 *   needs no second witness.
 * - Only the first in line sleeps on a futex, the others sleep in the kernel's
 *   queue for the QUEUE range. So it does not matter that the kernel wakes
 *   only one waiter, who may be dying too: when it dies the range goes to the
 *   next, and that one looks at the words before it sleeps. Where QUEUE does
 *   not keep them apart (users.h), release wakes all, and so does who takes
 *   the lock from a dead owner.
 * - The mark can be missing: the kernel's out-of-memory killer may take the
 *   thread's memory, where the announcement is, before it looks there. Then
 *   the slot's file lock, free because the process is gone, is the witness;
 *   a waiter looks at it before it sleeps and once a second after that.
 * - What is announced lies in private memory (the C library's per-thread head)
 *   and is an address that we computed; nothing that another process writes
 *   makes this one write elsewhere. Who scribbles over lock or slot words can
 *   stop others, as a stopped owner does, or make two hold the lock at once:
 *   their sizes are checked at each use (size.c).
 * - Threads of one process are kept apart by the mutex, so that a slot's word
 *   has one thread's id at a time. exec kills the other threads one by one,
 *   each marked by the kernel as above.
 * - A forked child has a slot and a file description of its own (arena.c) and
 *   a new mutex; what its parent's threads were doing remains the parent's.
 * - At rest the words mean nothing: who opens an arena that nobody has open
 *   voids them, see users.h.
 * - Guests (users.h) go by the kernel's mark alone.
 *
 * Dropped: glibc's robust mutexes, which keep list pointers in the shared page
 * and are fooled by equal ids in two PID namespaces; file locks alone, which
 * need two system calls (1.1 us) for each lock and unlock where this takes
 * none (25 ns); a lock word with the owner's id, which waiters must announce
 * too and so can mark a living owner dead.
 *
 * tests/model/lock.pml is this protocol for spin.
 */
#include "lock.h"

#include "os.h"
#include "users.h"

#include <errno.h>
#include <linux/futex.h>

#define OWNER 0xffffu  /* of the lock word: slot + 1 */
#define BROKEN 0xffffu /* no slot has this number: owner "dead" */
#define SPINS 200      /* about as long as a short critical section */
#define LOOK_AGAIN 1   /* seconds */

static_assert(LAYOUT_SLOTS < BROKEN, "slot numbers fit the lock word");

static _Atomic uint32_t forks = 1; /* changes in a forked child */

/* What a thread asks the kernel once. */
static _Thread_local struct {
	struct shmi_robust *robust;
	uint32_t tid;
	uint32_t forks;
} me;

static void know_me(void)
{
	/* relaxed: changes only while the process has a single thread */
	uint32_t now = atomic_load_explicit(&forks, memory_order_relaxed);

	if (me.forks == now)
		return;
	me.robust = shmi_os_robust();
	me.tid = shmi_os_tid();
	me.forks = now;
}

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static uint32_t owner_of(uint64_t word)
{
	return (uint32_t)word & OWNER;
}

/* acquire: pairs with the release in set_owner() by the one before us. */
static bool take_from(struct shmi_lock *l, uint64_t seen)
{
	uint64_t mine = ((seen >> 16) + 1) << 16 | (l->slot + 1);

	return atomic_compare_exchange_strong_explicit(&l->h->lock, &seen, mine,
						       memory_order_acq_rel,
						       memory_order_relaxed);
}

/* acquire: who finds it free sees what the last owner wrote. */
static uint64_t look(struct shmi_lock *l)
{
	return atomic_load_explicit(&l->h->lock, memory_order_acquire);
}

/*
 * seq_cst: the owner stores the lock and then loads its slot word, a waiter
 * changes the slot word and then loads the lock; one of them must see the
 * other's store.
 */
static void set_owner(struct shmi_lock *l, uint32_t owner)
{
	uint64_t seen = atomic_load_explicit(&l->h->lock, memory_order_relaxed);

	atomic_store_explicit(&l->h->lock, ((seen >> 16) + 1) << 16 | owner,
			      memory_order_seq_cst);
}

static void take_off(struct shmi_lock *l)
{
	if (me.robust)
		shmi_os_robust_clear(me.robust);
	pthread_mutex_unlock(&l->mutex);
}

/* A guest shares its description with others and cannot see their locks. */
static int witness(struct shmi_lock *l, uint32_t slot)
{
	return l->slot < LAYOUT_GUESTS ||
	       shmi_users_alive(l->fd, l->slot, slot);
}

/*
 * First in line, and @seen has an owner. Sleeps unless it has changed, and
 * says whether that owner is dead: 0, 1.
 */
static int wait_for_owner(struct shmi_lock *l, uint64_t seen)
{
	uint32_t slot = owner_of(seen) - 1, s;
	_Atomic uint32_t *word;

	/* A number that is no slot is a lock given back unrepaired, or
	 * nonsense; our own is a predecessor's that died (or nonsense). */
	if (slot >= LAYOUT_SLOTS || slot == l->slot)
		return 1;
	word = &l->h->slot[slot];
	/* acquire: sees what the kernel or the owner did before the mark */
	s = atomic_load_explicit(word, memory_order_acquire);
	if ((s & FUTEX_OWNER_DIED) || !witness(l, slot))
		return 1;
	/* seq_cst: see set_owner(). If we die after this, the owner makes one
	 * needless wake. */
	if (!(s & FUTEX_WAITERS) &&
	    !atomic_compare_exchange_strong_explicit(
		    word, &s, s | FUTEX_WAITERS, memory_order_seq_cst,
		    memory_order_relaxed))
		return 0;
	if (atomic_load_explicit(&l->h->lock, memory_order_seq_cst) == seen)
		shmi_os_futex_wait(word, s | FUTEX_WAITERS, LOOK_AGAIN);
	return 0;
}

/*
 * The kernel wakes one of those who wait at a dead owner's word, us perhaps.
 * There may be more, though QUEUE keeps them apart: see users.h.
 */
static void leave_none_asleep(struct shmi_lock *l, uint32_t slot)
{
	if (slot < LAYOUT_SLOTS)
		shmi_os_futex_wake(&l->h->slot[slot]);
}

/*
 * A guest's slot that died in the lock is free again once the lock has been
 * taken from it: nobody else has a reason to look at its word.
 */
static void free_dead_guest(struct shmi_lock *l, uint32_t slot)
{
	if (slot < LAYOUT_GUESTS && slot != l->slot)
		atomic_store_explicit(&l->h->slot[slot], 0,
				      memory_order_relaxed);
}

/* Before anything is repaired: if we die, the next one counts again. */
static void count_death(struct layout_hdr *h)
{
	/* relaxed: read under the lock, or alone */
	atomic_fetch_add_explicit(&h->deaths, 1, memory_order_relaxed);
}

static int take_slowly(struct shmi_lock *l)
{
	int cancel = shmi_os_cancel_off(), i, queued;
	uint64_t seen;

	for (i = 0; i < SPINS; i++) {
		seen = look(l);
		if (!owner_of(seen) && take_from(l, seen)) {
			shmi_os_cancel_restore(cancel);
			return 0;
		}
		relax();
	}
	/* Without the queue only its fairness is gone: out of lock records, or
	 * EDEADLK, as the kernel takes what two threads do for one's doing. */
	queued = !shmi_users_queue(l->fd);
	for (;;) {
		bool dead = false;

		seen = look(l);
		if (owner_of(seen))
			dead = wait_for_owner(l, seen);
		if ((dead || !owner_of(seen)) && take_from(l, seen))
			break;
	}
	if (queued)
		shmi_users_step_back(l->fd);
	shmi_os_cancel_restore(cancel);
	if (!owner_of(seen))
		return 0;
	count_death(l->h);
	leave_none_asleep(l, owner_of(seen) - 1);
	free_dead_guest(l, owner_of(seen) - 1);
	return SHMI_LOCK_DIED;
}

int shmi_lock_take(struct shmi_lock *l)
{
	_Atomic uint32_t *mine;
	uint64_t seen;

	know_me();
	pthread_mutex_lock(&l->mutex);
	if (l->slot == USERS_NO_SLOT) {
		pthread_mutex_unlock(&l->mutex);
		return -EUSERS;
	}
	mine = &l->h->slot[l->slot];
	/*
	 * relaxed: read by the kernel for this thread, in program order, and
	 * by waiters only after they saw us in the lock word. A waiter's
	 * WAITERS from our last turn may get lost here; it looks at the lock
	 * and then at this very value before it sleeps. Dying from here on
	 * without the lock marks a word that nobody looks at.
	 */
	if (atomic_load_explicit(mine, memory_order_relaxed) != me.tid)
		atomic_store_explicit(mine, me.tid, memory_order_relaxed);
	if (me.robust)
		shmi_os_robust_announce(me.robust, mine);
	seen = look(l);
	l->waited = owner_of(seen) || !take_from(l, seen);
	return l->waited ? take_slowly(l) : 0;
}

/*
 * What stands in our word before we wake: nothing that a waiter who comes
 * late could go to sleep on, and no owner. At the death of a thread the kernel
 * wakes one who waits at the announced word if that has no owner, so the gap
 * between this store and the wake is covered. (The other order loses a waiter
 * that sleeps after the wake; our id without WAITERS loses one at our death.)
 * A guest's word must not be 0, which is a free slot; kernels before 6.2 do
 * not cover the gap for it.
 */
static uint32_t no_owner(const struct shmi_lock *l)
{
	return l->slot < LAYOUT_GUESTS ? FUTEX_OWNER_DIED : 0;
}

/* Dying before set_owner(): an owner that died. After it: the lock is free, and
 * the kernel wakes the waiter for us, by WAITERS or by the word's 0. */
static void release(struct shmi_lock *l, uint32_t owner)
{
	_Atomic uint32_t *mine = &l->h->slot[l->slot];

	set_owner(l, owner);
	if (atomic_load_explicit(mine, memory_order_seq_cst) & FUTEX_WAITERS) {
		/* relaxed: the system call orders it for waiters */
		atomic_store_explicit(mine, no_owner(l), memory_order_relaxed);
		shmi_os_futex_wake(mine);
	}
	take_off(l);
}

void shmi_lock_release(struct shmi_lock *l)
{
	release(l, 0);
}

void shmi_lock_release_broken(struct shmi_lock *l)
{
	release(l, BROKEN);
}

/* Nobody else is in there: relaxed will do, the gate's file lock orders it. */
void shmi_lock_reset(struct layout_hdr *h)
{
	uint64_t seen = atomic_load_explicit(&h->lock, memory_order_relaxed);
	uint32_t i;

	if (owner_of(seen)) {
		count_death(h);
		atomic_store_explicit(&h->lock, ((seen >> 16) + 1) << 16,
				      memory_order_relaxed);
	}
	for (i = 0; i < LAYOUT_GUESTS; i++)
		if (atomic_load_explicit(&h->slot[i], memory_order_relaxed))
			atomic_store_explicit(&h->slot[i], 0,
					      memory_order_relaxed);
}

void shmi_lock_init(struct shmi_lock *l, struct layout_hdr *h, int fd,
		    uint32_t slot)
{
	l->h = h;
	l->fd = fd;
	l->slot = slot;
	pthread_mutex_init(&l->mutex, NULL);
}

void shmi_lock_forked(void)
{
	atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
}

void shmi_lock_reinit(struct shmi_lock *l, int fd, uint32_t slot)
{
	pthread_mutex_init(&l->mutex, NULL);
	l->fd = fd;
	l->slot = slot;
}
