/* SPDX-License-Identifier: BSD-3-Clause */
/* chunk.pml - a heap's chunks: made, entered, cut off again, for spin */
/*
 * src/heap/heap_chunk.c step by step: every store to the heap's header, to the
 * mark and to the arena's size is one step, and a process may be killed before
 * each of them, while it finishes another's work, too. There is no bound on
 * calls and deaths; a dead process comes back as a new one, without a copy of
 * the chunks.
 *
 * The arena is units, of which a chunk has one or two. Somebody else, who knows
 * no heap, takes units at the arena's end and gives them back: the processes do
 * that, too, with the arena's lock and without a look at the heap.
 *
 * Checked in every state, by auditor():
 *	chunks		each lies in the arena, has a table for its length, and
 *			only units that were taken for the heap; none twice
 * and by whoever has the heap's lock:
 *	copy		what the process knows of the chunks is as in the header
 *	none lost	each unit that was taken for the heap is in a chunk
 *	tidy		grown_by is 0, and no chunk has a mark, where a long
 *			table has a word of its own
 *
 * Abstractions: the first chunk, which stays. The lock and the size are those of
 * lock.pml and grow.pml: the next one after a death in the lock cuts off what is
 * beyond the size. gen never repeats: "it has not moved since I copied" is one
 * bit, same. Chunks begin where the arena ended. Whether a chunk is all free, is
 * any answer.
 *
 * Broken on purpose: GEN_LAST (moved after nchunks), SIZE_FIRST (the size before
 * grown_by), MARK_LAST (the mark after the size), NO_MARK (finish does not look
 * for it), NO_BOUND (nor at the size), TWICE (nor whether it is a chunk),
 * OLD_COPY (finish goes by its copy), MARK_LEFT (finish leaves it in a chunk),
 * BY_EARLY (finish clears grown_by first), NO_FINISH, CUT_FIRST (less: the size
 * before nchunks), UNNAMED (less: neither mark nor grown_by).
 */
#ifndef NP
#define NP 2 /* processes */
#endif
#ifndef MAX
#define MAX 3 /* units of the arena */
#endif
#ifndef NC
#define NC 2 /* HEAP_CHUNKS, without the first */
#endif

byte lock;  /* process + 1 */
bit died;   /* its last owner has, and nobody has repaired the size */
bit doubt;  /* the same of the tables: deaths, in the heap's header */
byte size;

/* The header. */
byte nchunks, start[NC], units[NC];
byte grown_at, grown_by;
byte same; /* bit p: gen has not moved since process p copied */
byte right; /* bit p, ghost: and neither have the chunks */

/* In the units; gone with the pages. */
bit mark[MAX];
byte table[MAX]; /* how long it says that the chunk is */

/* ghost: whose a unit is */
#define NOBODY 0
#define HEAP 1
#define OTHER 2
byte whose[MAX];

#define ME (_pid + 1)
#define IN(chunk, unit)                                                        \
	((unit) >= start[chunk] && (unit) < start[chunk] + units[chunk])
#define BIT (1 << _pid)
#define OR_DIE :: goto dead
#define STEP(what)                                                             \
	if                                                                     \
	:: atomic { what }                                                     \
	OR_DIE                                                                 \
	fi
/* A range's owner, and its pages' contents. */
#define SET(which, from, n, to)                                                \
	for (i : 0 .. MAX - 1) {                                               \
		if                                                             \
		:: i >= (from) && i < (from) + (n) -> which[i] = to            \
		:: else                                                        \
		fi                                                             \
	}                                                                      \
	i = 0
#define TRUNCATE SET(mark, size, MAX, 0); SET(table, size, MAX, 0)
#define MOVE_GEN same = 0
#define ANY_N                                                                  \
	if                                                                     \
	:: n = 1                                                               \
	:: n = 2                                                               \
	fi

/* shmi_chunk_copy() */
#define COPY                                                                   \
	known = nchunks;                                                       \
	same = same | BIT;                                                     \
	right = right | BIT

/* enter_chunk(): [s, s + n), as number "known". */
#ifdef GEN_LAST
#define GEN_BEFORE skip
#define GEN_AFTER STEP(MOVE_GEN)
#else
#define GEN_BEFORE STEP(MOVE_GEN)
#define GEN_AFTER skip
#endif
#define ENTER(s, n)                                                            \
	GEN_BEFORE;                                                            \
	STEP(start[known] = s);                                                \
	STEP(units[known] = n);                                                  \
	STEP(nchunks = known + 1; right = 0);                                             \
	GEN_AFTER

#ifdef NO_MARK
#define MARKED 1
#else
#define MARKED mark[grown_at]
#endif
#ifdef NO_BOUND
#define INSIDE 1
#else
#define INSIDE (by <= size && grown_at <= size - by)
#endif
#ifdef TWICE
#define KNOWN 0
#else
#define KNOWN known_as
#endif

active [NP] proctype process()
{
	byte known; /* how many chunks the copy has */
	byte n, i, by;
	bit known_as, found, less, failed;

idle:
	STEP(!lock -> lock = ME);
	if /* shmi_size_lock() */
	:: died -> STEP(TRUNCATE; died = 0)
	:: else
	fi;
	if
	:: less = 0
	:: less = 1
	:: goto grow
	:: goto shrink
	fi;

	/* ----- current() ----- */
	atomic {
		if
		:: !(same & BIT) -> COPY
		:: else -> known = nchunks
		fi
	}
finish: /* shmi_chunk_finish() */
#ifndef NO_FINISH
	if
	:: !grown_by -> goto current
	:: else
	fi;
	atomic {
		by = grown_by;
#ifndef OLD_COPY
		COPY;
#endif
		known_as = 0;
		for (i : 0 .. NC - 1) {
			known_as = known_as ||
				   (i < known && start[i] == grown_at)
		}
		i = 0
	}
#ifdef BY_EARLY
	STEP(grown_by = 0);
#endif
	atomic {
		if
		:: INSIDE -> assert(grown_at + by <= size); found = MARKED
		:: else
		fi
	}
	if
	:: found ->
		if
		:: !KNOWN && known < NC -> ENTER(grown_at, by)
		:: else
		fi;
#ifndef MARK_LEFT
		STEP(mark[grown_at] = 0)
#endif
	:: else
	fi;
	STEP(grown_by = 0);
	atomic { known_as = 0; found = 0; by = 0; COPY };
#endif
current:
	if
	:: doubt -> /* shmi_run_repair(): words inside of runs are cleared */
		STEP(for (i : 0 .. NC - 1) {
			if
			:: i < known -> mark[start[i]] = 0
			:: else
			fi
		     };
		     i = 0);
		STEP(doubt = 0)
	:: else
	fi;
	atomic {
		if
		:: failed -> COPY /* shmi_heap_less() */
		:: else -> assert(right & BIT)
		fi;
		for (i : 0 .. NC - 1) { assert(i >= known || !mark[start[i]]) }
		for (i : 0 .. MAX - 1) {
			by = 0;
			do
			:: by < known && !IN(by, i) -> by++
			:: else -> break
			od;
			assert(whose[i] != HEAP || by < known)
		}
		by = 0;
		i = 0;
		if
		:: failed -> failed = 0; goto unlock
		:: less -> less = 0; goto cut
		:: else
		fi
	}

	/* ----- more_of_arena() ----- */
	ANY_N;
	if
	:: known == NC || n > MAX - size -> goto unlock
	:: else -> assert(!mark[size] && !table[size]) /* shmi_size_stage() */
	fi;
	STEP(table[size] = n);
	if /* the fill may have failed: shmi_size_unstage() */
	:: atomic { TRUNCATE; goto unlock }
	:: skip
	OR_DIE
	fi;
#ifndef MARK_LAST
	STEP(mark[size] = 1);
#endif
	STEP(grown_at = size);
#ifdef SIZE_FIRST
	STEP(SET(whose, size, n, HEAP); size = size + n);
	STEP(grown_by = n);
#else
	STEP(grown_by = n);
	STEP(SET(whose, size, n, HEAP); size = size + n);
#endif
#ifdef MARK_LAST
	STEP(mark[grown_at] = 1);
#endif
	ENTER(grown_at, n);
	STEP(mark[grown_at] = 0);
	STEP(grown_by = 0);
	atomic { COPY };
	goto unlock;

	/* ----- less_of_arena() ----- */
cut:
	if
	:: atomic { known && start[known - 1] + units[known - 1] == size ->
		n = units[known - 1]
	   }
	:: goto unlock /* it is not free */
	fi;
#ifndef UNNAMED
	STEP(mark[size - n] = 1);
	STEP(grown_at = size - n);
	STEP(grown_by = n);
#endif
#ifdef CUT_FIRST
	STEP(size = size - n; SET(whose, size, MAX, NOBODY));
	STEP(TRUNCATE);
#endif
	GEN_BEFORE;
	STEP(nchunks = known - 1; right = 0);
	GEN_AFTER;
#ifndef CUT_FIRST
	STEP(size = size - n; SET(whose, size, MAX, NOBODY));
	if /* shmi_size_cut() */
	:: atomic { TRUNCATE }
	:: atomic { SET(whose, size, n, HEAP); size = size + n; failed = 1; goto finish }
	OR_DIE
	fi;
#endif
	STEP(grown_by = 0);
	atomic { COPY };
	goto unlock;

	/* ----- another's ranges ----- */
grow:	ANY_N;
	if
	:: n > MAX - size -> goto unlock
	:: else
	fi;
	STEP(assert(!mark[size] && !table[size]);
	     SET(whose, size, n, OTHER);
	     size = size + n);
	goto unlock;
shrink:
	if
	:: !size || whose[size - 1] != OTHER -> goto unlock
	:: else
	fi;
	STEP(size = size - 1; SET(whose, size, MAX, NOBODY));
	STEP(TRUNCATE);

unlock:
	STEP(for (i : 0 .. NC - 1) { /* nobody looks there */
		if
		:: i >= nchunks -> start[i] = 0; units[i] = 0
		:: else
		fi
	     };
	     grown_at = (grown_by -> grown_at : 0);
	     n = 0; known = 0;
	     lock = 0;
	     goto idle);

dead:
	atomic {
		if
		:: lock == ME -> lock = 0; died = 1; doubt = 1
		:: else
		fi;
		same = same & ~BIT;
		right = right & ~BIT;
		n = 0; i = 0; by = 0; known = 0;
		known_as = 0; found = 0; less = 0; failed = 0;
		goto idle
	}
}

active proctype auditor()
{
	byte i, at, seen;

	do
	:: d_step {
		for (i : 0 .. NC - 1) {
			if
			:: i < nchunks ->
				assert(units[i] && start[i] + units[i] <= size);
				assert(table[start[i]] == units[i]);
				for (at : 0 .. MAX - 1) {
					if
					:: IN(i, at) ->
						assert(whose[at] == HEAP);
						assert(!(seen & (1 << at)));
						seen = seen | (1 << at)
					:: else
					fi
				}
			:: else
			fi
		}
		i = 0;
		at = 0;
		seen = 0
	   }
	od
}
