/* SPDX-License-Identifier: BSD-3-Clause */
/* grow.pml - the arena's size: grows, shrinks and the repair, for spin */
/*
 * src/arena/size.c step by step: every store that others see, every system call
 * with an effect on the file, and each look at epoch outside the lock is one
 * step, and a process may be killed before each of them. Pages are few, and a
 * piece is one of them, so that a grow of two is one that populates outside the
 * lock. The lock is taken for granted (lock.pml): its owner's death is told to
 * the next one, who repairs.
 *
 * Checked, with no bound on calls and deaths:
 *	ranges		no grow gets a page that is somebody's
 *	size		what is published is in the file, always
 *	contents	no page below size is ever cut
 *	zero		pages that a grow gets have never been written since
 *			they were last cut, whoever died where
 *	present		pages that a grow has populated are there
 *	tidy		when nobody is under way and the lock is let go, the
 *			file ends where size says, nothing is beyond it
 *	not stuck	no invalid end state. "over" may come at any time:
 *			from then on nobody is killed or calls anything, and
 *			all must come to their end
 *
 * Abstractions:
 *	epoch		never repeats: "nobody has moved it since I looked" is
 *			one bit, fresh
 *	allocation	may fail at any page (not after "over")
 *	at rest		an opener that is alone does what who takes the lock
 *			from a dead owner does; more is not in here
 *
 * Variants, see run.sh. Of the code as it is: LOST (process 0 and 1 do not see
 * each other's GROWING, one's end ends the other's, and who dies may leave it
 * behind, as if they shared a description; a process that closes a descriptor
 * of the file loses less. "tidy" is about the length alone then), THP (pages
 * are not allocated before they are mapped), ROLES (each process calls one or
 * two things only and nothing fails; for 3 processes, of which the whole has
 * too many states). Broken on purpose: NO_EPOCH, UNDO_ALL, CUT_FIRST,
 * SIZE_FIRST, NO_REPAIR, CLEAR_AHEAD, FORGET, NOT_PRESENT, UNDO_STAGED,
 * NO_MAXIMUM; and FORGET with EPOCH_IF_AHEAD, for LOST, which is how size.c
 * once was.
 */
#ifndef NP
#define NP 2	 /* processes */
#endif
#ifndef MAX
#define MAX 3	 /* pages */
#endif
#define ROUNDS 2 /* of size.c, there 8 */
#define CUT 15	 /* as ahead: a mark without a length */

#define SMALL 0	 /* kinds of grow */
#define WAITED 1 /* small, where others wait: mapped after the unlock */
#define LAZY 2
#define STAGED 3 /* the heap's: written before it is published */
#define BIG 4

byte lock;	    /* process + 1 */
bit died;	    /* its last owner has */
byte size, flen;
byte ahead;
byte fresh;	    /* bit p: epoch has not moved since process p looked */
bit growing[NP];    /* GROWING, by process */
bit over;

bit there[MAX];	    /* page is allocated, maybe beyond flen */
bit dirt[MAX];	    /* ghost: somebody has written to it */
bit used[MAX];	    /* ghost: it is somebody's */

#define ME (1 << _pid)
#define MINE (_pid + 1)
#define LENGTH (ahead == CUT -> 0 : ahead)
#define EXTENT (LENGTH > size -> LENGTH : size)
#define OR_DIE :: !over -> goto dead
#define OR_FAIL :: MAY_FAIL -> goto failed
#ifdef ROLES
#define MAY_FAIL 0
#else
#define MAY_FAIL !over
#endif

#ifdef LOST /* the two see only the third one */
#define OTHERS ((NP > 2 && _pid < 2 && growing[NP - 1]) ||                     \
		(_pid == 2 && (growing[0] || growing[1])))
#define END_GROWING                                                            \
	growing[_pid] = 0;                                                     \
	if                                                                     \
	:: _pid < 2 -> growing[1 - _pid] = 0                                   \
	:: else                                                                \
	fi
#else
#define OTHERS (growing[0] + growing[1] + (NP > 2 -> growing[NP - 1] : 0) >    \
		growing[_pid])
#define END_GROWING growing[_pid] = 0
#endif
#define UNDER_WAY (populating || OTHERS)

#ifdef FORGET
#define MUST_CUT (LENGTH > size)
#else
#define MUST_CUT 1
#endif

#define FITS assert(size <= flen)
#define MOVE_EPOCH fresh = 0
#define TRUNCATE(len)                                                          \
	assert(size <= (len));                                                 \
	for (i : 0 .. MAX - 1) {                                               \
		if                                                             \
		:: i >= (len) -> there[i] = 0; dirt[i] = 0                     \
		:: else                                                        \
		fi                                                             \
	}                                                                      \
	i = 0;                                                                 \
	flen = (len)

/*
 * The range is ours from here on: what a grow promises of it, and the first
 * thing that its owner does there.
 */
#define PUBLISH(from, to, populated, staged)                                   \
	assert((from) == size);                                                \
	for (i : 0 .. MAX - 1) {                                               \
		if                                                             \
		:: i >= (from) && i < (to) ->                                  \
			assert(!used[i]);                                      \
			assert((staged) || !dirt[i]);                          \
			assert(!(populated) || there[i]);                      \
			used[i] = 1;                                           \
			dirt[i] = 1;                                           \
			there[i] = 1                                           \
		:: else                                                        \
		fi                                                             \
	}                                                                      \
	i = 0;                                                                 \
	size = (to);                                                           \
	FITS

active [NP] proctype user()
{
	byte n, to, from, done, i, rounds, how, mark;
	bit populating, err, settled;

idle:
	atomic {
		n = 0; to = 0; from = 0; done = 0; i = 0; rounds = 0; how = 0;
		mark = 0; err = 0; settled = 0;
		assert(!populating)
	}
	if
	:: over -> goto stop
#ifdef ROLES
	:: atomic { !over && _pid == 0 -> how = BIG; n = 2 }
	:: atomic { !over && _pid != 0 -> how = LAZY; n = 1 }
	:: atomic { !over && _pid == 1 -> n = 2; goto shrink }
#else
	:: atomic { !over -> how = SMALL; n = 1 }
#ifndef THP
	:: atomic { !over -> how = WAITED; n = 1 }
#endif
	:: atomic { !over -> how = LAZY; n = 1 }
	:: atomic { !over -> how = STAGED; n = 1 }
	:: atomic { !over -> how = BIG; n = 2 }
	:: atomic { !over -> n = 1; goto shrink }
	:: atomic { !over -> n = 2; goto shrink }
#endif
	fi;

	/* ----- may_grow(), with the lock taken ----- */
take:
	if
	:: atomic { !lock ->
		lock = MINE;
		if
		:: died -> goto repair
		:: else
		fi
	   }
	OR_DIE
	fi;
begin:
	atomic {
#ifndef NO_MAXIMUM
		if
		:: n > MAX - size -> goto failed
		:: else
		fi;
#endif
		if /* settle_ahead() */
		:: ahead && !UNDER_WAY && !MUST_CUT -> ahead = 0
		:: ahead && !UNDER_WAY && MUST_CUT -> mark = 0; settled = 1; goto cut
		:: else
		fi
	}
may_grow:
	settled = 0;
	if
	:: how == BIG -> goto big
	:: how == LAZY || how == STAGED -> goto extend
	:: else
	fi;

	/* ----- grow_inside() ----- */
	if
#ifdef SIZE_FIRST
	:: atomic { PUBLISH(size, size + 1, 1, 0); goto unlock }
#endif
#ifndef THP
	:: atomic { /* make_present(): allocates, and extends the file */
		there[size] = 1;
		if
		:: EXTENT < size + 1 -> flen = size + 1
		:: else
		fi
	   }
#else
	:: atomic { /* shmi_os_extend(), then populate() */
		if
		:: EXTENT < size + 1 -> flen = size + 1
		:: else
		fi
	   }
#endif
	OR_FAIL
	OR_DIE
	fi;
	if
	:: atomic { how == SMALL -> there[size] = 1 } /* populate() */
	:: how == WAITED
	:: MAY_FAIL -> goto undo /* it failed after all */
	OR_DIE
	fi;
	if
	:: atomic { done = size; PUBLISH(size, size + 1, 1, 0) }
	OR_DIE
	fi;
	if
	:: atomic { how != WAITED -> done = 0; goto unlock }
	:: how == WAITED
	OR_DIE
	fi;
	if
	:: atomic { lock = 0; goto late }
	OR_DIE
	fi;
late:	/* mapped after the unlock: whatever is there by now */
	if
	:: atomic {
		if
		:: done < flen -> there[done] = 1
		:: else
		fi;
		goto idle
	   }
	OR_DIE
	fi;

	/* ----- grow_inside() of a lazy one, shmi_size_stage() ----- */
extend:
	if
	:: atomic {
		if
		:: EXTENT < size + 1 -> flen = size + 1
		:: else
		fi
	   }
	OR_FAIL
	OR_DIE
	fi;
	if
	:: atomic { how == LAZY -> PUBLISH(size, size + 1, 0, 0); goto unlock }
	:: atomic { how == STAGED -> there[size] = 1; dirt[size] = 1 }
	OR_DIE
	fi;
	if
	:: atomic { PUBLISH(size, size + 1, 0, 1); goto unlock }
#ifdef UNDO_STAGED
	:: MAY_FAIL -> goto undo
#else
	:: atomic { MAY_FAIL -> /* shmi_size_unstage() */
		mark = (ahead && UNDER_WAY -> CUT : 0);
		goto cut
	   }
#endif
	OR_DIE
	fi;

undo:
	if
#ifdef UNDO_ALL
	:: atomic { TRUNCATE(size); goto failed }
#else
	:: atomic { TRUNCATE(EXTENT); goto failed }
#endif
	OR_DIE
	fi;

	/* ----- grow_outside() ----- */
big:	/* big_extend() */
	if
	:: atomic { /* either order: all this is in the lock */
		mark = ahead;
		to = size + n;
		if
		:: to > LENGTH -> ahead = to
		:: else
		fi
	   }
	OR_DIE
	fi;
	if
	:: atomic {
		if
		:: to > flen -> flen = to
		:: else
		fi;
		mark = 0; to = 0
	   }
	:: atomic { MAY_FAIL -> ahead = mark; mark = 0; to = 0; goto big_end }
	OR_DIE
	fi;
	if
	:: atomic { /* shmi_users_growing() */
		if
		:: !populating ->
			growing[_pid] = 1;
			populating = 1;
			fresh = fresh | ME;
			from = size;
			done = size
		:: else
		fi;
		to = from + n
	   }
	OR_DIE
	fi;
	if
	:: atomic { lock = 0 }
	OR_DIE
	fi;
	/* make_present(), [done, to) */
outside:
	if
	:: atomic { done == to -> goto again }
	:: atomic { done < to && !(fresh & ME) -> err = 1; goto again }
	:: atomic { done < to && (fresh & ME) -> i = done }
	OR_DIE
	fi;
#ifndef THP
	if
	:: atomic { there[i] = 1 } /* KEEP_SIZE: also beyond the end */
	:: atomic { MAY_FAIL -> err = 1; goto again }
	OR_DIE
	fi;
#endif
	if
	:: atomic {
		if
		:: i < flen -> there[i] = 1
		:: else -> err = 1; goto again /* EFAULT */
		fi
	   }
	OR_DIE
	fi;
	if
	:: atomic { i = 0; done++; goto outside }
	OR_DIE
	fi;
again:
	if
	:: atomic { !lock ->
		i = 0;
		lock = MINE;
		if
		:: died -> goto repair
		:: else
		fi
	   }
	OR_DIE
	fi;
publish: /* big_publish() */
	atomic {
#ifndef NO_MAXIMUM
		if
		:: n > MAX - size -> goto big_end
		:: else
		fi;
#endif
		to = size + n;
#ifndef NO_EPOCH
		if
		:: !(fresh & ME) ->
			fresh = fresh | ME;
			from = size; done = size;
			err = 0
		:: else
		fi;
#endif
		if
		:: err -> goto big_end
		:: else
		fi;
		if
		:: size < from || done < size -> from = size; done = size
		:: else
		fi;
		if
		:: to > done && to - done > 1 && rounds + 1 < ROUNDS ->
			rounds++;
			from = size;
			to = 0;
			goto big
		:: else
		fi
	}
#ifndef NOT_PRESENT
	do /* in the lock, from done on */
	:: atomic { done < to ->
		there[done] = 1;
		flen = (flen < done + 1 -> done + 1 : flen);
		done++
	   }
	:: atomic { done >= to -> break }
	:: atomic { MAY_FAIL && done < to -> TRUNCATE(EXTENT); goto big_end }
	OR_DIE
	od;
#endif
	if
	:: atomic { PUBLISH(size, to, 1, 0) }
	OR_DIE
	fi;
big_end:
	if
	:: atomic { /* shmi_users_growing() */
		if
		:: populating -> END_GROWING
		:: else
		fi;
		populating = 0;
		to = 0; from = 0; done = 0; rounds = 0; err = 0
	   }
	OR_DIE
	fi;
	atomic {
		if
		:: ahead && !UNDER_WAY && !MUST_CUT -> ahead = 0; goto unlock
		:: ahead && !UNDER_WAY && MUST_CUT -> mark = 0; goto cut
		:: else -> goto unlock
		fi
	}

	/* ----- shmi_size_shrink() ----- */
shrink:
	if
	:: atomic { !lock ->
		lock = MINE;
		how = CUT;
		if
		:: died -> goto repair
		:: else
		fi
	   }
	OR_DIE
	fi;
to_shrink:
	if
	:: atomic { n > size -> goto failed }
#ifdef CUT_FIRST
	:: atomic { n <= size -> TRUNCATE(size - n) }
#else
	:: atomic { n <= size -> /* set_size() */
		size = size - n;
		for (i : 0 .. MAX - 1) {
			if
			:: i >= size -> used[i] = 0
			:: else
			fi
		}
		i = 0;
		mark = (ahead && UNDER_WAY -> CUT : 0)
	   }
#endif
	OR_DIE
	fi;

	/* ----- cut(), to size ----- */
cut:
	if
#ifdef EPOCH_IF_AHEAD
	:: atomic {
		if
		:: ahead -> MOVE_EPOCH
		:: else
		fi
	   }
#else
	:: atomic { MOVE_EPOCH }
#endif
	OR_DIE
	fi;
	if
	:: atomic { TRUNCATE(size) }
	OR_DIE
	fi;
	if
	:: atomic {
#ifdef CLEAR_AHEAD
		mark = 0;
#endif
		ahead = mark;
		mark = 0;
		if
		:: settled -> goto may_grow
		:: died -> goto repaired
		:: else -> goto unlock
		fi
	   }
	OR_DIE
	fi;

	/* ----- shmi_size_repair() ----- */
repair:
	atomic {
#ifdef NO_REPAIR
		goto repaired;
#endif
		if
		:: flen == size && !ahead -> goto repaired
		:: else -> mark = (ahead && UNDER_WAY -> CUT : 0); goto cut
		fi
	}
repaired:
	atomic {
		died = 0;
		if
		:: populating -> goto publish
		:: how == CUT -> goto to_shrink
		:: else -> goto begin
		fi
	}

failed:
unlock:
	if
	:: atomic {
		FITS;
		if
		:: !ahead ->
			assert(flen == size);
#ifndef LOST
			for (i : 0 .. MAX - 1) {
				assert(!there[i] || i < flen)
			}
			i = 0
#endif
		:: else
		fi;
		lock = 0;
		goto idle
	   }
	OR_DIE
	fi;

	/* ----- the kernel, after SIGKILL ----- */
dead:
	atomic {
		if
		:: lock == MINE -> lock = 0; died = 1
		:: else
		fi;
#ifdef LOST
		if
		:: _pid < 2 /* the description lives on */
		:: growing[_pid] = 0
		fi;
#else
		growing[_pid] = 0;
#endif
		fresh = fresh & ~ME;
		populating = 0;
		goto idle
	}
stop:
	skip
}

active proctype fate()
{
	over = 1
}
