/* SPDX-License-Identifier: BSD-3-Clause */
/* run.pml - a chunk's table of runs, large blocks in it, and deaths, for spin */
/*
 * src/heap/run.c, and of large.c what goes to and fro between it and a user,
 * step by step: every store to the table and to a head, every system call on a
 * run's pages is one step, and a process may be killed before each of them,
 * while repairing and sweeping, too. There is no bound on calls and deaths; a
 * dead process comes back as a new one. Who has the table's lock dies in it: the
 * next one repairs.
 *
 * The application keeps its blocks in a pool, from where anybody frees them or
 * makes them longer or shorter. A block that a process dies with in the middle
 * of realloc is the application's as before.
 *
 * Checked in every state, by auditor():
 *	cover		from the first slice on, runs cover the chunk
 *	one user	a run in use has one user, or none who lives, and then its
 *			head names somebody dead; a free run has none
 *	zero		a free run that is not dirty is all zero
 *	there		a run that is kept, or in use without a note of holes,
 *			has its pages, but maybe for the last slice if it says
 *			so; a block has all that it is long
 *	ready		is the length of a user's run, where it is one, while
 *			nobody has the lock
 *	tidy		while nobody has the lock and nobody died in it, words
 *			inside of runs are 0, and "kept" is right
 * and by asserts: who takes slices takes what is nobody's; what a process holds
 * is its own when it gives it out again; a sweep finds a mark in each run in use.
 *
 * Lengths of blocks are in halves of slices; pages are there up to a half or to
 * the end. Abstractions: the lock is lock.pml's. Which run is found, of those
 * that fit, is any; "low" is not in here. Whether a run may be kept, and what is
 * purged, is any answer. A system call fails as a whole. A process holds one
 * run. What nobody reads is forgotten, so that there are fewer states: FORGET.
 * The words of the table, and what is done to them: run_table.pml.
 *
 * Broken on purpose: SPLIT_FIRST (the shorter first word before the second's),
 * JOIN_FIRST (the second word is cleared before the first's is longer),
 * JOIN_ZERO (what is joined is as dirty as its first), JOIN_KEPT (kept as its
 * first is), JOIN_PART (kept in spite of a gap), SPLIT_PART (the rest's last
 * slice is thought to be there), NO_REPAIR, NO_DIRTY (nothing says that a head
 * will be written), TAKE_FIRST (the table's word before the head), NO_NAME
 * (free does not name who is at work), PUNCH_HEAD (outside of the lock),
 * ZERO_FIRST (the word says so before the pages have gone), KEEP_HOLES,
 * NO_HOLES (longer, without the note), PART_FIRST (the shorter first word
 * before the end's), END_BARE (the end's head is written after that),
 * READY_LATE (the first one's ready stays until the run is shorter, as large.c
 * once had it), SAME_WHOLE (no note in the table where the length stays, as
 * run.c once had it), LONGER_FIRST (what is behind is cleared before the run is
 * longer), SWEEP_KEPT (a sweep keeps pages), PURGE_KEPT (the word says kept
 * until the pages have gone).
 */
#ifndef NP
#define NP 2 /* processes */
#endif
#ifndef NS
#define NS 2 /* slices */
#endif
#define MOST (2 * NS) /* halves that a block is long */

#include "run_table.pml"

#ifdef NO_HOLES
#define AT_WORK(was) was
#else
#define AT_WORK(was) HOLES
#endif

#ifdef SAME_WHOLE
#define SAME_LENGTH skip
#else
#define SAME_LENGTH STEP(table[at] = table[at] | PART)
#endif

/* Up to halves. */
#define FILL(from, n, up_to)                                                  \
	EACH(from, n, there[i] = (((up_to) & 1) && i == (from) + (n) - 1 ->   \
					  (there[i] -> there[i] : 1) : 2))

/*
 * What nobody reads, or need not be told apart: heads where no run in use
 * begins, and of the dead; pages of runs that are not kept, contents of those
 * that are dirty.
 */
#define FORGET                                                                 \
	side = 0;                                                              \
	do                                                                     \
	:: side < NS ->                                                        \
		if                                                             \
		:: FREE(side) -> mark[side] = 0; owner[side] = 0               \
		:: else                                                        \
		fi;                                                            \
		if                                                             \
		:: FREE(side) || owner[side] == DEAD ->                        \
			ready[side] = 0; halves[side] = 0                      \
		:: else                                                        \
		fi;                                                            \
		for (i : 0 .. NS - 1) {                                        \
			if                                                     \
			:: i >= side && i < END(side) ->                       \
				if                                             \
				:: i > side -> mark[i] = 0; owner[i] = 0;      \
					ready[i] = 0; halves[i] = 0            \
				:: else                                        \
				fi;                                            \
				if                                             \
				:: owner[side] == DEAD || (FREE(side) &&       \
				   (!(table[side] & KEPT) ||                   \
				    ((table[side] & PART) &&                   \
				     i == END(side) - 1))) -> there[i] = 0     \
				:: else                                        \
				fi;                                            \
				dirt[i] = dirt[i] || owner[side] == DEAD ||    \
					  (table[side] & DIRTY) ||             \
					  has[side] == USER                    \
			:: else                                                \
			fi                                                     \
		}                                                              \
		side = END(side)                                               \
	:: else -> break                                                       \
	od;                                                                    \
	side = 0;                                                              \
	i = 0
#define UNLOCK FORGET; lock = 0

/* The block is the application's, which writes all over it. */
#define HAND_OUT                                                               \
	MOVE(at, LEN(at), ME, USER);                                           \
	EACH(at, SLICES(halves[at]), dirt[i] = 1)

/* Any block of the application's. */
#define ANY_BLOCK                                                              \
	do                                                                     \
	:: at < NS - 1 -> at++                                                 \
	:: break                                                               \
	od;                                                                    \
	if                                                                     \
	:: has[at] == USER && !owner[at] && halves[at] ->                      \
		MOVE(at, LEN(at), USER, ME)                                    \
	:: else -> at = 0; goto none                                           \
	fi

/* What the lock is taken for; 0: anything else, and then what is done. */
#define GIVE 1
#define GIVE_MORE 2
#define LONGER 3
#define BACK 4
#define SWEEP 5

#define FORGET_ALL                                                             \
	at = 0; n = 0; h = 0; i = 0; other = 0; side = 0; room = 0;            \
	skipped = 0; flags = 0; was = 0; op = 0; fill = 0; found = 0;          \
	keep = 0; zero = 0; part = 0

active [NP] proctype process()
{
	byte at, n, h;	       /* the run in hand; slices and halves wanted */
	byte i, other, side, room, skipped, flags, was;
	byte op, fill;
	bit found, keep, zero, part;
	byte held, nheld;      /* what large.c holds: slice + 1 */

	table[0] -> skip;
idle:
	if
	:: atomic { /* malloc */
		held ->
		at = held - 1; held = 0; n = nheld; nheld = 0;
		if
		:: h = 2 * n
		:: h = 2 * n - 1
		fi;
		goto from_held
	   }
	:: atomic { /* free */
		ANY_BLOCK;
		goto free
	   }
	:: goto take_lock
	OR_DIE
	fi;

take_lock:
	if
	:: atomic { !lock ->
		lock = ME;
		if
		:: died -> goto repair
		:: else
		fi
	   }
	OR_DIE
	fi;
locked:
	if
	:: !op -> goto sweep
	:: !op -> goto purge
	:: !op -> goto take
	:: atomic { !op && held -> /* give_held() */
		at = held - 1; held = 0; nheld = 0;
		keep = 1;
		goto give
	   }
	:: atomic { !op ->
		ANY_BLOCK;
		do
		:: h < MOST -> h++
		:: break
		od;
		if
		:: h > halves[at] -> op = LONGER; goto longer
		:: h && h < halves[at] -> goto shorter
		:: else -> MOVE(at, LEN(at), ME, USER); goto unlock
		fi
	   }
	:: op == GIVE -> goto give
	:: op == GIVE_MORE -> goto set_free
	:: op == BACK -> goto resize
	fi;

	/* ----- shmi_run_repair(); i: the next run ----- */
repair:
#ifndef NO_REPAIR
	STEP(kept = 0);
	do
	:: atomic { side < NS && side == i ->
		kept = kept + N_KEPT(table[side]);
		i = END(side);
		side++
	   }
	:: atomic { side < NS && side != i -> table[side] = 0; side++ }
	:: atomic { side == NS -> break }
	OR_DIE
	od;
#else
	atomic { /* "kept" alone */
		kept = 0;
		do
		:: side < NS -> kept = kept + N_KEPT(table[side]); side = END(side)
		:: else -> break
		od
	}
#endif
	STEP(side = 0; i = 0; died = 0; goto locked);

	/* ----- find_run(), take_run() ----- */
take:
	atomic {
		h = 1;
		do
		:: h < MOST -> h++
		:: break
		od;
		n = SLICES(h);
		do
		:: at < NS - 1 -> at++
		:: break
		od;
		if
		:: skipped = 0 /* lead() */
		:: skipped = 1
		fi;
		if
		:: table[at] && FREE(at) -> BEFORE(at); ROOM(at)
		:: else -> goto unlock
		fi;
		if
		:: (table[at] & KEPT) && skipped + n <= LEN(at)
		:: !found && skipped + n <= room
		:: else -> goto unlock
		fi;
		found = 0;
		room = 0
	}
	do
	:: LEN(at) < skipped + n -> atomic { side = END(at) }; JOIN(at, side)
	:: else -> atomic { side = 0; break }
	od;
	if
	:: skipped -> SPLIT(at, skipped); atomic { at = at + skipped; skipped = 0 }
	:: else
	fi;
	atomic {
		if
		:: !(table[at] & KEPT) -> fill = 1; part = h & 1
		:: (table[at] & KEPT) && (table[at] & PART) && LEN(at) == n ->
			fill = 2
		:: else
		fi
	}
	/* shmi_run_prepare() */
	if
	:: LEN(at) > n -> SPLIT(at, n)
	:: else
	fi;
#ifndef NO_DIRTY
	STEP(table[at] = table[at] | DIRTY);
#endif
#define WRITE_HEAD                                                             \
	STEP(dirt[at] = 1; owner[at] = ME; halves[at] = h;                        \
	     ready[at] = (part -> 0 : n); mark[at] = 1)
#ifndef TAKE_FIRST
	WRITE_HEAD;
#endif
	STEP(kept = kept - N_KEPT(table[at]);
	     MOVE(at, n, 0, ME);
	     table[at] = USED | (part -> PART : 0) | n);
#ifdef TAKE_FIRST
	WRITE_HEAD;
#endif
	STEP(UNLOCK);
	if /* from_heap(): outside */
	:: atomic { fill == 1 -> FILL(at, n, h) }
	:: atomic { fill == 2 -> there[at + n - 1] = 2 }
	:: atomic { !fill }
	:: atomic { fill -> op = GIVE; goto take_lock }
	OR_DIE
	fi;
hand_out:
	STEP(owner[at] = 0; HAND_OUT; FORGET_ALL; goto idle);

from_held:
	STEP(halves[at] = h);
	atomic { EACH(at, n, assert(has[i] == ME)) }
	goto hand_out;

	/* ----- shmi_large_free(), shmi_run_give() ----- */
free:
#ifndef NO_NAME
	STEP(owner[at] = ME);
#endif
	if
	:: atomic { !held && ready[at] && ready[at] != HOLES ->
		held = at + 1;
		nheld = ready[at];
		FORGET_ALL;
		goto idle
	   }
	:: atomic { keep = 1; op = GIVE; goto take_lock }
	fi;
give:
	atomic {
		assert(table[at] & USED);
		n = LEN(at);
		zero = 1;
		if
#ifdef KEEP_HOLES
		:: keep ->
#else
		:: keep && ready[at] != HOLES ->
#endif
			flags = DIRTY | KEPT | (table[at] & PART);
			goto set_free
		:: n == 1 -> flags = DIRTY; goto set_free
		:: n > 1 -> flags = DIRTY
		fi
	}
	STEP(UNLOCK);
	if
#ifdef PUNCH_HEAD
	:: atomic { PUNCH(at, n); mark[at] = 0; owner[at] = 0; halves[at] = 0 }
#else
	:: atomic { PUNCH(at + 1, n - 1) }
#endif
	:: atomic { zero = 0 }
	OR_DIE
	fi;
	atomic { op = GIVE_MORE; goto take_lock };

set_free:
	STEP(MOVE(at, LEN(at), (op == SWEEP -> 0 : ME), 0);
	     table[at] = flags | LEN(at));
	STEP(mark[at] = 0; kept = kept + N_KEPT(table[at]));
	if
	:: op == SWEEP || (flags & KEPT)
	:: else ->
#ifdef ZERO_FIRST
		if
		:: zero -> STEP(table[at] = LEN(at))
		:: else
		fi;
		STEP(PUNCH(at, 1))
#else
		if
		:: atomic { PUNCH(at, 1) }
		:: atomic { zero = 0 }
		OR_DIE
		fi;
		if
		:: zero -> STEP(table[at] = LEN(at))
		:: else
		fi
#endif
	fi;
	SETTLE(at);
	if
	:: op == SWEEP -> goto swept
	:: else -> goto unlock
	fi;

	/* ----- enlarge(), back(), shmi_run_resize() ----- */
longer:
	STEP(n = SLICES(h); was = ready[at]; ready[at] = AT_WORK(was));
resize:
	if
	:: n < LEN(at) -> goto cut
	:: n == LEN(at) -> SAME_LENGTH; goto resized
	:: else
	fi;
	atomic {
		if
		:: END(at) == NS -> goto no_room
		:: else -> ROOM(END(at))
		fi;
		if
		:: room < n - LEN(at) -> goto no_room
		:: else -> room = END(at)
		fi
	}
	do
	:: LEN(room) < n - LEN(at) -> atomic { side = END(room) }; JOIN(room, side)
	:: else -> atomic { side = 0; break }
	od;
	if
	:: LEN(room) > n - LEN(at) -> SPLIT(room, n - LEN(at))
	:: else
	fi;
#ifdef LONGER_FIRST
	STEP(kept = kept - N_KEPT(table[room]); table[room] = 0);
#endif
	STEP(kept = kept - N_KEPT(table[room]);
	     MOVE(room, n - LEN(at), 0, ME);
	     table[at] = USED | PART | n);
	STEP(table[room] = 0; room = 0; goto resized);
cut:
	atomic { assert(ready[at] == HOLES); room = at + n };
	STEP(table[room] = DIRTY | (LEN(at) - n));
	STEP(MOVE(room, LEN(room), ME, 0); table[at] = USED | PART | n);
	if
	:: atomic { PUNCH(room, LEN(room)); zero = 1 }
	:: atomic { zero = 0 }
	OR_DIE
	fi;
	STEP(table[room] = (zero -> 0 : DIRTY) | LEN(room); zero = 0);
	SETTLE(room);
	atomic { room = 0 };
resized:
	if
	:: op == BACK -> STEP(ready[at] = 0); goto done
	:: else
	fi;
	STEP(UNLOCK);
	if
	:: atomic { FILL(at, n, h) }
	:: atomic { n = SLICES(halves[at]); goto too_short }
	OR_DIE
	fi;
	STEP(halves[at] = h);
	STEP(ready[at] = 0; HAND_OUT; FORGET_ALL; goto idle);
too_short:
	if
	:: SLICES(h) > n ->
		if
		:: atomic { PUNCH(at + n, SLICES(h) - n) }
		:: skip
		OR_DIE
		fi
	:: else
	fi;
	atomic { op = BACK; goto take_lock };
no_room:
	STEP(room = 0; ready[at] = was);
	goto done;

	/* ----- shorten(), shmi_run_part(); room: the end ----- */
shorter:
	STEP(n = SLICES(h); was = SLICES(halves[at]); halves[at] = h);
	if
	:: n < was && n < LEN(at) -> atomic { room = at + n }
	:: else -> goto done
	fi;
#define END_HEAD                                                               \
	STEP(owner[room] = ME; halves[room] = 0; mark[room] = 1;                  \
	     ready[room] = (ready[at] == HOLES -> HOLES : 0))
#ifndef END_BARE
	END_HEAD;
#endif
#ifndef READY_LATE
	if
	:: ready[at] != HOLES -> STEP(ready[at] = 0)
	:: else
	fi;
#endif
#ifdef PART_FIRST
	STEP(was = table[at]; table[at] = USED | n);
	STEP(table[room] = was - n);
#else
	STEP(table[room] = table[at] - n);
	STEP(table[at] = USED | n);
#endif
#ifdef END_BARE
	END_HEAD;
#endif
	STEP(ready[at] = 0);
	STEP(UNLOCK; MOVE(at, LEN(at), ME, USER));
	atomic { at = room; room = 0; keep = 1; op = GIVE; goto take_lock };

done: /* realloc's end: the block is the application's again */
	STEP(UNLOCK; HAND_OUT; FORGET_ALL; goto idle);

	/* ----- shmi_run_purge() ----- */
purge:
	if
	:: at >= NS -> goto unlock
	:: at < NS && !FREE(at) -> goto purged
	:: at < NS && FREE(at) && (table[at] & (DIRTY | KEPT))
	:: at < NS && FREE(at) && (table[at] & KEPT) -> goto pass /* stays */
	:: at < NS && FREE(at) && !(table[at] & (DIRTY | KEPT)) -> goto pass
	fi;
#ifdef PURGE_KEPT
	STEP(PUNCH(at, LEN(at)));
#endif
	STEP(kept = kept - N_KEPT(table[at]); table[at] = DIRTY | LEN(at));
	if
	:: atomic { PUNCH(at, LEN(at)) }; STEP(table[at] = LEN(at))
	:: skip
	OR_DIE
	fi;
pass:
	JOIN_BEFORE(at);
purged:
	at = END(at);
	goto purge;

	/* ----- shmi_run_each(), sweep_one(); was: the next ----- */
sweep:
	op = SWEEP;
sweep_on:
	if
	:: at >= NS -> goto unlock
	:: atomic { at < NS -> was = END(at) }
	fi;
	atomic {
		if
		:: FREE(at) -> goto swept
		:: !FREE(at) -> assert(mark[at])
		fi;
		if
		:: owner[at] == DEAD ->
#ifdef SWEEP_KEPT
			flags = DIRTY | KEPT;
#else
			flags = DIRTY;
#endif
			goto set_free
		:: else
		fi
	}
swept:
	atomic {
		at = was;
		do
		:: at < NS && !table[at] -> at++
		:: else -> break
		od;
		goto sweep_on
	}

unlock:
	STEP(UNLOCK; FORGET_ALL; goto idle);
none:	/* no such block */
	if
	:: lock == ME -> goto unlock
	:: else -> goto idle
	fi;

dead:
	atomic {
		i = 0;
		do /* a run of ours is the application's, or nobody's */
		:: i < NS ->
			n = (table[i] & USED && !owner[i] -> USER : 0);
			side = END(i);
			do
			:: i < side && i < NS ->
				has[i] = (has[i] == ME -> n : has[i]);
				i++
			:: else -> break
			od;
			assert(i == side)
		:: else -> break
		od;
		for (i : 0 .. NS - 1) {
			owner[i] = (owner[i] == ME -> DEAD : owner[i])
		}
		if
		:: lock == ME -> lock = 0; died = 1
		:: else
		fi;
		held = 0;
		nheld = 0;
		if
		:: !lock -> FORGET
		:: else
		fi;
		FORGET_ALL;
		goto idle
	}
}

active proctype auditor()
{
	byte i, at, n, sum;
	bit open;

	table[0] = NS;
	do
	:: d_step {
		do
		:: at < NS ->
			n = LEN(at);
			assert(n && n <= NS - at);
			i = at;
			do
			:: i < at + n && FREE(at) ->
				assert(!has[i]);
				assert((table[at] & DIRTY) || !dirt[i]);
				assert(!(table[at] & KEPT) || there[i] == 2 ||
				       ((table[at] & PART) && i == at + n - 1));
				i++
			:: i < at + n && !FREE(at) ->
				assert(mark[at] && has[i] == has[at]);
				assert(has[i] || owner[at] == DEAD);
				assert(has[i] != USER || !owner[at]);
				assert(owner[at] || i - at >= SLICES(halves[at]) ||
				       there[i] + 2 * (i - at) >= halves[at] ||
				       there[i] == 2);
				assert(owner[at] || ready[at] == HOLES ||
				       there[i] == 2 || ((table[at] & PART) &&
							 i == at + n - 1));
				assert(lock || owner[at] || ready[at] == 0 ||
				       ready[at] == HOLES || (ready[at] == n &&
							      there[i] == 2));
				i++
			:: else -> break
			od;
			sum = sum + N_KEPT(table[at]);
			at++;
			do
			:: at < i -> assert(lock || died || !table[at]); at++
			:: else -> break
			od
		:: else -> break
		od;
		assert(lock || died || kept == sum);
		at = 0; i = 0; n = 0; sum = 0
	   }
	od
}
