/* SPDX-License-Identifier: BSD-3-Clause */
/* lock.pml - the arena's lock, its users and the repair, for spin */
/*
 * src/arena/lock.c, users.c and size.c step by step: every access to a word
 * that others see, and every system call with an effect on others, is one step,
 * and a process may be killed before each of them, while repairing too. There
 * is no bound on locks, deaths and new processes, only on how many live at
 * once.
 * Sequentially consistent: where the code needs that it says seq_cst.
 *
 * Checked:
 *	mutual exclusion	assert in ENTER_CS
 *	one successor		the same, and dirty: who gets the lock after a
 *				death is told so, and it alone
 *	recovery		size and the file's length agree when the lock
 *				is had, and nobody ever reads a size that is
 *				not there, whoever died where
 *	no lost wake-up		no invalid end state. "over" may come at any
 *				time: from then on nobody is killed, nobody
 *				comes, no signal interrupts a sleep, and all
 *				must come to their end. The second look once
 *				a second is not in here.
 *	claim of slots		a slot never has two users
 *
 * Abstractions:
 *	count		the lock word's count never repeats: "nobody has
 *			changed it since I looked" is one bit, fresh
 *	thread ids	all are the same, as in many PID namespaces
 *	SPINS		any number
 *	size		0 or 1 pages; the file is as long or longer
 *	QUEUE		not even fair
 *
 * Not in here: grows that populate outside the lock (grow.pml); the mutex among
 * threads of a process.
 *
 * Variants, see run.sh. Of the protocol as it is: NO_WITNESS (the file lock of
 * a slot is not asked), OOM (the kernel may forget the mark; then the second
 * look must help), TRUNCATED (at rest the file is cut and words are forged),
 * OWN_SLOT (a new process takes the same slot again, in one step and without
 * the gate; for 3 processes, of which the whole has too many states), LOSES
 * (who is first in line may not stay it: a thread has closed the file), GUESTS
 * (with OWN_SLOT: so many of the processes are guests, who claim one of their
 * slots by its word and go by the kernel's mark alone). Broken on purpose:
 * GUEST_ZERO (a guest's release leaves 0 in its word, which is then claimed),
 * DESCRIPTION (a guest that dies in line stays there), WAKE_FIRST,
 * CLEAR_TO_TID, NO_RECHECK, NO_QUEUE, NO_COUNT, NO_CLAIM_RULE, NO_REPAIR,
 * SIZE_FIRST.
 */
#ifndef NP
#define NP 3		/* processes alive at once */
#endif
#ifndef NS
#define NS NP		/* slots */
#endif
#define BROKEN (NS + 1) /* as an owner */

#define TID 1	  /* of a slot's word: thread id */
#define WAITERS 2 /* FUTEX_WAITERS */
#define DIED 4	  /* FUTEX_OWNER_DIED */

byte lock;	    /* slot + 1 of the owner, 0, BROKEN */
byte fresh;	    /* bit p: unchanged since process p looked at it */
byte word[NS];	    /* slot[] of the header */
byte held[NS];	    /* SLOT file locks: process + 1 */
byte queue, gate;   /* QUEUE and GATE file locks: process + 1 */
byte asleep[NP];    /* slot + 1 on whose word process p sleeps */
bit size, flen;	    /* what size.c keeps */
bit over;

byte users[NS];	    /* ghost: how many living guests have a slot */
byte inside;	    /* ghost: how many living ones have the lock */
bit dirty;	    /* ghost: an owner died, nobody has repaired yet */

#ifdef GUESTS /* the first slots are theirs */
#define IS_GUEST(slot) (slot <= GUESTS)
#else
#define IS_GUEST(slot) 0
#endif
#ifdef GUEST_ZERO
#define NO_OWNER 0
#else
#define NO_OWNER (IS_GUEST(slot) -> DIED : 0)
#endif

#define ME (1 << _pid)
#define NOBODY (held[0] + held[1] + held[NS - 1] == 0)
#define OR_DIE :: !over -> goto died
#define STORE_LOCK(v) lock = v; fresh = 0
#ifdef NO_COUNT
#define UNCHANGED (lock == seen)
#else
#define UNCHANGED (fresh & ME)
#endif

#define WAKE_ONE(on)                                                           \
	if                                                                     \
	:: asleep[0] == on -> asleep[0] = 0                                    \
	:: asleep[1] == on -> asleep[1] = 0                                    \
	:: asleep[NP - 1] == on -> asleep[NP - 1] = 0                          \
	:: else                                                                \
	fi
#define WAKE_ALL(on)                                                           \
	for (i : 0 .. NP - 1) {                                                \
		if                                                             \
		:: asleep[i] == on -> asleep[i] = 0                            \
		:: else                                                        \
		fi                                                             \
	}                                                                      \
	i = 0
#define ENTER_CS                                                               \
	assert(inside == 0);                                                   \
	inside = 1
#define FORGET seen = 0; s = 0; fresh = fresh & ~ME

active [NP] proctype user()
{
	byte slot;	 /* ours + 1; 0: none */
	byte seen, s, i; /* lock and slot word as read */
	bit alone, pending, cs, broken;

	/* ----- users.c: shmi_users_enter(), open.c: enter() ----- */
enter:
#ifdef OWN_SLOT /* claim and the rest in one step, never alone */
	slot = 0;
	if
	:: over -> goto stop
#ifdef GUESTS
	:: atomic { !over && _pid < GUESTS -> /* shmi_users_claim_guest() */
		if
		:: !word[0] -> slot = 1
		:: word[0] && !word[1] && GUESTS > 1 -> slot = 2
		:: else -> goto stop /* EUSERS */
		fi;
		word[slot - 1] = TID;
		users[slot - 1]++;
		assert(users[slot - 1] == 1);
		goto idle
	   }
#endif
	:: atomic { !over && !IS_GUEST(_pid + 1) && lock != _pid + 1 ->
		slot = _pid + 1;
		held[_pid] = slot;
		goto idle
	   }
	fi;
#endif
	if
	:: over -> goto stop
	:: atomic { /* enter_writer(): all at once, without waiting */
		!over && NOBODY && !gate ->
		for (i : 0 .. NS - 1) { held[i] = _pid + 1 }
		i = 0;
		gate = _pid + 1;
		alone = 1;
		goto reset
	   }
	:: atomic { /* ... else the gate, */
		!over && !(NOBODY && !gate) && !gate -> gate = _pid + 1
	   }
	fi;
	if
	:: atomic { /* and another look: they may all have gone. C asks, and
		     * then takes all; with the gate ours that is one step */
		if
		:: NOBODY ->
			for (i : 0 .. NS - 1) { held[i] = _pid + 1 }
			i = 0;
			alone = 1;
			goto reset
		:: else -> goto claim
		fi
	   }
	OR_DIE
	fi;

	/* ----- open.c: put_right(), alone ----- */
reset:
	if
	:: atomic { /* lock.c: shmi_lock_reset() */
#ifdef TRUNCATED /* what somebody did at rest comes to light here */
		if
		:: flen = 0
		:: skip
		fi;
		if
		:: STORE_LOCK(0)
		:: STORE_LOCK(2)
		:: STORE_LOCK(BROKEN)
		:: skip
		fi;
		if
		:: word[1] = TID | WAITERS
		:: word[1] = DIED
		:: skip
		fi;
#endif
		if
		:: lock -> STORE_LOCK(0)
		:: else
		fi;
		dirty = 0
	   }
	OR_DIE
	fi;
	if
	:: atomic { /* size.c: shmi_size_repair() */
		if
		:: size > flen -> size = flen
		:: else
		fi
	   }
	OR_DIE
	fi;
	if
	:: atomic { flen = size } /* cut() */
	OR_DIE
	fi;
	if
	:: atomic { /* claim: alone, the first slot; shmi_users_let_in() */
		for (i : 1 .. NS - 1) { held[i] = 0 }
		i = 0;
		slot = 1;
		gate = 0;
		alone = 0;
		goto idle
	   }
	OR_DIE
	fi;

	/* ----- users.c: shmi_users_claim() ----- */
claim:
	if
	:: atomic {
		if
		:: !held[0] -> slot = 1
		:: held[0] && !held[1] -> slot = 2
#if NS > 2
		:: held[0] && held[1] && !held[2] -> slot = 3
		:: !held[2] && !held[1] -> slot = 3 /* starts anywhere */
#endif
		:: !held[1] -> slot = 2
		:: else -> gate = 0; goto enter /* EUSERS */
		fi;
		held[slot - 1] = _pid + 1
	   }
	OR_DIE
	fi;
	if
	:: atomic {
#ifndef NO_CLAIM_RULE
		if
		:: lock == slot -> /* a dead owner's: not this one */
			held[slot - 1] = 0;
			slot = 0;
			/* C tries the others; here that is another open */
			gate = 0;
			goto enter
		:: else
		fi;
#endif
		gate = 0 /* shmi_users_let_in() */
	   }
	OR_DIE
	fi;

	/* ----- between two calls ----- */
idle:
	if
	:: atomic { /* shmi_size_now(): may be used at once */
		assert(IS_GUEST(slot) || held[slot - 1] == _pid + 1);
		assert(size <= flen);
		goto take
	   }
	:: atomic { /* shmi_arena_close() */
		if /* shmi_users_leave() */
		:: IS_GUEST(slot) -> word[slot - 1] = 0; users[slot - 1]--
		:: else -> held[slot - 1] = 0
		fi;
		slot = 0;
		goto enter
	   }
	OR_DIE
	fi;

	/* ----- lock.c: shmi_lock_take() ----- */
take:
	if
	:: atomic { word[slot - 1] = TID }
	OR_DIE
	fi;
fast:
	if
	:: atomic { /* shmi_os_robust_announce(); look() */
		pending = 1;
		seen = lock;
		fresh = fresh | ME
	   }
	OR_DIE
	fi;
	if
	:: atomic { !seen ->
		if
		:: UNCHANGED -> /* take_from() */
			STORE_LOCK(slot);
			cs = 1;
			ENTER_CS;
			FORGET;
			goto owner
		:: else -> FORGET; goto fast
		fi
	   }
	:: atomic { seen -> FORGET; goto fast } /* SPINS */
	:: atomic { FORGET } /* enough of it: take_slowly() */
	OR_DIE
	fi;
#ifndef NO_QUEUE
	if
	:: atomic { !queue -> queue = _pid + 1 } /* shmi_users_queue() */
	OR_DIE
	fi;
#endif
again:
	if
	:: atomic { /* look() */
		FORGET;
		seen = lock;
		fresh = fresh | ME;
		if
		:: !seen -> goto cas
		/* wait_for_owner(): no slot, or ours */
		:: seen == BROKEN || seen == slot -> goto cas
		:: else
		fi
	   }
	OR_DIE
	fi;
	if
	:: atomic {
		s = word[seen - 1];
		if
		:: s & DIED -> goto cas
		:: else
		fi
	   }
	OR_DIE
	fi;
#ifndef NO_WITNESS
	if
	:: atomic { /* shmi_users_alive() */
		if
		:: !IS_GUEST(slot) && !IS_GUEST(seen) && !held[seen - 1] ->
			goto cas
		:: else
		fi
	   }
	OR_DIE
	fi;
#endif
	if
	:: atomic { !(s & WAITERS) ->
		if
		:: word[seen - 1] == s ->
			s = s | WAITERS;
			word[seen - 1] = s
		:: else -> goto again
		fi
	   }
	:: s & WAITERS
	OR_DIE
	fi;
#ifndef NO_RECHECK
	if
	:: atomic {
		if
		:: UNCHANGED
		:: else -> goto again
		fi
	   }
	OR_DIE
	fi;
#endif
	if
	:: atomic { /* shmi_os_futex_wait() */
		if
		:: word[seen - 1] == s -> asleep[_pid] = seen
		:: else -> goto again
		fi
	   }
	OR_DIE
	fi;
#ifdef LOSES
sleep:
#endif
	if
	:: atomic { !asleep[_pid] -> goto again }
	:: atomic { !over -> asleep[_pid] = 0; goto again } /* a signal */
#ifdef LOSES
	:: atomic { !over && queue == _pid + 1 -> queue = 0 }; goto sleep
#endif
#ifdef OOM
	/* LOOK_AGAIN: nothing else can happen, and it must help */
	:: atomic { timeout ->
		assert(!lock || lock == BROKEN || !held[lock - 1]);
		asleep[_pid] = 0;
		goto again
	   }
#endif
	OR_DIE
	fi;
cas:
	if
	:: atomic { /* take_from() */
		if
		:: UNCHANGED ->
			STORE_LOCK(slot);
			cs = 1;
			ENTER_CS
		:: else -> goto again
		fi
	   }
	OR_DIE
	fi;
	if
	:: atomic { /* shmi_users_step_back() */
		queue = (queue == _pid + 1 -> 0 : queue);
		if
		:: seen ->
			/* leave_none_asleep(), free_dead_guest() */
			if
			:: seen <= NS -> WAKE_ALL(seen)
			:: else
			fi;
			if
			:: IS_GUEST(seen) && seen != slot -> word[seen - 1] = 0
			:: else
			fi;
			FORGET;
			goto repair /* SHMI_LOCK_DIED */
		:: else -> FORGET; goto owner
		fi
	   }
	OR_DIE
	fi;

	/* ----- size.c: lock() after a death, shmi_size_repair() ----- */
repair:
#ifndef NO_REPAIR
	if
	:: atomic { !over -> broken = 1; goto release } /* it failed */
	:: atomic {
		if
		:: size > flen -> size = flen
		:: else
		fi
	   }
	OR_DIE
	fi;
	if
	:: atomic { flen = size }
	OR_DIE
	fi;
#endif
	dirty = 0;

	/* ----- size.c: grow_inside(), shmi_size_shrink() ----- */
owner:
	if
	:: atomic {
		assert(!dirty && size == flen);
		if
		:: size -> goto shrink
		:: else
		fi;
#ifdef SIZE_FIRST
		size = 1
#else
		flen = 1 /* shmi_os_extend() */
#endif
	   }
	OR_DIE
	fi;
	if
	:: atomic { size = 1; flen = 1; goto release } /* set_size() */
	:: atomic { !over -> flen = 0; goto release } /* ENOMEM after all */
	OR_DIE
	fi;
shrink:
	if
	:: atomic { size = 0 } /* set_size() */
	OR_DIE
	fi;
	if
	:: atomic { flen = 0 } /* cut() */
	OR_DIE
	fi;

	/* ----- lock.c: release() ----- */
release:
	if
	:: atomic { /* set_owner() */
		assert(lock == slot);
		dirty = broken;
		STORE_LOCK((broken -> BROKEN : 0));
		broken = 0;
		cs = 0;
		inside--
	   }
	OR_DIE
	fi;
	if
	:: atomic {
		if
		:: word[slot - 1] & WAITERS
		:: else -> goto withdraw
		fi
	   }
	OR_DIE
	fi;
	/*
	 * The word must have changed before the wake, or a waiter that is
	 * about to sleep on it does so after the wake. And it must be 0: if we
	 * die before the wake the kernel takes a word of 0 that is announced
	 * for just this case, and wakes; with our id and no WAITERS it would
	 * not.
	 */
#ifdef WAKE_FIRST
	if
	:: atomic { WAKE_ALL(slot) }
	OR_DIE
	fi;
	if
	:: atomic { word[slot - 1] = TID }
	OR_DIE
	fi;
#else
	if
#ifdef CLEAR_TO_TID
	:: atomic { word[slot - 1] = TID }
#else
	:: atomic { word[slot - 1] = NO_OWNER }
#endif
	OR_DIE
	fi;
	if
	:: atomic { WAKE_ALL(slot) } /* shmi_os_futex_wake() */
	OR_DIE
	fi;
#endif
withdraw:
	if
	:: atomic { pending = 0; goto idle } /* take_off() */
	OR_DIE
	fi;

	/* ----- the kernel, after SIGKILL ----- */
died:
	atomic {
		asleep[_pid] = 0;
		if
		:: slot && IS_GUEST(slot) -> users[slot - 1]--
		:: else
		fi;
		inside = inside - cs;
		dirty = dirty | cs;
		FORGET;
		cs = 0; broken = 0; alone = 0;
		if
		:: !pending -> goto files
#ifdef OOM
		:: pending -> pending = 0; goto files
#endif
		:: else -> pending = 0
		fi;
		/* handle_futex_death(): pending_op, and not of a PI futex */
		if
		:: word[slot - 1] & TID ->
			s = word[slot - 1] & WAITERS;
			word[slot - 1] = s | DIED
		:: !(word[slot - 1] & TID) -> s = WAITERS
		:: else
		fi
	}
	atomic {
		if
		:: s -> WAKE_ONE(slot)
		:: else
		fi;
		s = 0
	}
files:	/* after the memory: file locks go with the description */
	atomic {
		for (i : 0 .. NS - 1) {
			held[i] = (held[i] == _pid + 1 -> 0 : held[i])
		}
		i = 0;
#ifdef DESCRIPTION
		if
		:: IS_GUEST(slot) && queue == _pid + 1 -> queue = DESCRIPTION
		:: else
		fi;
#endif
		queue = (queue == _pid + 1 -> 0 : queue);
		gate = (gate == _pid + 1 -> 0 : gate);
		slot = 0;
		goto enter
	}
stop:
	skip
}

active proctype fate()
{
	over = 1
}
