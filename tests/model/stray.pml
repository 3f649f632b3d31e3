/* SPDX-License-Identifier: BSD-3-Clause */
/* stray.pml - blocks that others freed and keep, on their way home, for spin */
/*
 * src/heap/stray.c, with what span.c and span_orphan.c do to such blocks, and
 * heap.c at the lock. Every store to a word that others may read is one step,
 * and a process may be killed before each of them, while it repairs, too.
 * There is no bound on calls and deaths; a dead process comes back as a new
 * one, which owns nothing and knows nothing. The lock is lock.pml's: it is
 * free when its owner is dead, and the next one in it is told ("died").
 *
 * Two spans, A with block 1, B with the others, which any process makes,
 * adopts, leaves and gives up. The application keeps the blocks that it has in
 * a pool, from where anybody frees them. A process has one home, as for one
 * class.
 *
 * Checked in every state, by auditor():
 *	none twice	a block is in one place: its span's list or list of
 *			others, somebody's strays, in flight, or with a user
 *	none lost	it is in one of them at least, or a process died with it
 *			in the middle of its malloc or free
 *	home once	is these two: in flight is a block that a flight names
 *			and the list has no more, as long as no more came home
 *			to its span than the flight says. It is nowhere else
 *			then, and it is somewhere else once one more came
 *	no cycle	each list ends after at most NB blocks
 *	no run		of a free run nobody has a block, or keeps one in it
 * and by asserts: malloc takes only what is nobody's; a list leads only to
 * blocks that are nobody's.
 *
 * Abstractions: what span.pml has step by step is one step here: new blocks,
 * collect, adoption, a push on others. The lists are without their counts.
 * What came home is counted modulo 2, in the code modulo 2^16. One thread in a
 * process. Pages, rings and the map of spans are not in here.
 *
 * Broken on purpose: NO_REPAIR, BLIND_REPAIR (pushes without a look at what
 * came home), NO_LIST_LOOK (nor at the list), CLEAR_FIRST (the flight is
 * cleared before the push), LIST_FIRST (the flight is stored after the list),
 * PUSH_FIRST (the list's step comes after the push), NO_HOME (the push does
 * not say that one came home), ALL_HOME (each free's push does), NO_LOCK (a
 * flush by the owner is not under the lock), NO_BRING (a sweep leaves strays
 * where they are), BRING_ONCE (a sweep looks for them before it looks at the
 * spans, but not at the span again: its owner may have died in between),
 * GIVE_UP (a span is given up with strays).
 */
#ifndef NP
#define NP 2 /* processes */
#endif
#ifndef NB
#define NB 3 /* blocks */
#endif
#define NS 2			     /* spans: A is 0 */
#define SPAN(block) ((block) > 1)    /* that a block is of */
#define FIRST(s) (s -> 2 : 1)	     /* block of a span */
#define LAST(s) (s -> NB : 1)

#define DATA (NB + 1) /* what users leave in a block's word */

/* The heads of the spans, and the words of the blocks. */
bit inuse[NS];	    /* the table: in use */
byte owner[NS];	    /* process + 1; 0: nobody, or somebody dead */
byte list[NS];	    /* the state, */
byte used[NS];	    /* one word with it */
byte others[NS];    /* and one more word: */
bit came[NS];	    /* how many strays came home */
byte stray[NS];
byte flight[NS];    /* one word: the block, */
bit count[NS];	    /* and what had come home */
byte next[NB + 1];

byte lock;  /* process + 1 */
bit died;   /* its owner did, and nobody has repaired that */

/* ghost: who has a block */
#define HEAP 0
#define USER (NP + 1)
#define LOST (NP + 2)
byte has[NB + 1]; /* or process + 1: in the middle of malloc or free */

#define ME (_pid + 1)
#define OWN(s) (inuse[s] && owner[s] == ME)
#define DEAD(s) (inuse[s] && !owner[s])
#define OR_DIE :: goto gone
#define END b = 0; s = 0; f = 0; at = 0; why = 0; goto between

/* A free block's word. */
#define LINK(at) assert(has[at] == HEAP && next[at] <= NB)

#define POP(from)                                                              \
	b = from;                                                              \
	LINK(b);                                                               \
	from = next[b];                                                        \
	has[b] = ME

/* span.c: push_others(); the swap has been seen to succeed. */
#define PUSH(block, more)                                                      \
	assert(inuse[SPAN(block)]);                                              \
	next[block] = others[SPAN(block)];                                     \
	others[SPAN(block)] = block;                                           \
	came[SPAN(block)] = came[SPAN(block)] ^ more

/* span.c: collect() */
#define COLLECT(s)                                                             \
	at = others[s];                                                        \
	do                                                                     \
	:: at ->                                                               \
		used[s]--;                                                     \
		LINK(at);                                                      \
		if                                                             \
		:: next[at] -> at = next[at]                                   \
		:: else ->                                                     \
			next[at] = list[s];                                    \
			list[s] = others[s];                                   \
			others[s] = 0;                                         \
			at = 0                                                 \
		fi                                                             \
	:: else -> break                                                       \
	od

/* span.c: new_span(); all is written before the run is taken. */
#define NEW(s)                                                                 \
	for (at : FIRST(s) .. LAST(s)) {                                       \
		next[at] = (at < LAST(s) -> at + 1 : 0)                        \
	}                                                                      \
	list[s] = FIRST(s);                                                    \
	used[s] = 0;                                                           \
	others[s] = 0;                                                         \
	came[s] = 0;                                                           \
	stray[s] = 0;                                                          \
	flight[s] = 0;                                                         \
	count[s] = 0;                                                          \
	inuse[s] = 1;                                                            \
	owner[s] = ME

/* A free run's words are as new, which only makes fewer states. */
#define FREE(s)                                                                \
	assert(!others[s] && !used[s]);                                        \
	inuse[s] = 0;                                                            \
	owner[s] = 0;                                                          \
	list[s] = 0;                                                           \
	came[s] = 0;                                                           \
	flight[s] = 0;                                                         \
	count[s] = 0

#define AT_HOME	 1 /* where flush was called: trim, */
#define AT_END	 2 /* leave, */
#define AT_BRING 3 /* sweep, */
#define AT_ONE	 4 /* and for one span in it */

#ifdef ALL_HOME
#define FREED 1
#else
#define FREED 0
#endif
#ifdef GIVE_UP
#define NOTHING_IN(s) (!used[s])
#else
#define NOTHING_IN(s) (!used[s] && !stray[s])
#endif
#ifdef NO_HOME
#define BROUGHT 0
#else
#define BROUGHT 1
#endif

active [NP] proctype process()
{
	byte b;	   /* the block in hand */
	byte home; /* span + 1 that has our strays; 0: none */
	byte s;	   /* the span looked at */
	byte f;	   /* the block in flight */
	byte at;   /* of a walk */
	byte why;

between:
	if
	:: atomic { OWN(0) && list[0] -> POP(list[0]); used[0]++; goto got }
	:: atomic { OWN(1) && list[1] -> POP(list[1]); used[1]++; goto got }
	:: atomic { home && stray[home - 1] -> POP(stray[home - 1]); goto got }
	:: atomic { OWN(0) && others[0] -> COLLECT(0); END }
	:: atomic { OWN(1) && others[1] -> COLLECT(1); END }
	:: atomic { /* any block of the application's */
		if
		:: has[1] == USER -> b = 1
		:: has[2] == USER -> b = 2
		:: has[NB - 1] == USER -> b = NB - 1
		:: has[NB] == USER -> b = NB
		fi;
		has[b] = ME;
		if
		:: OWN(SPAN(b)) -> goto push
		:: !OWN(SPAN(b)) && home -> goto keep
		:: !OWN(SPAN(b)) && !home && OWN(0) -> home = 1; goto keep
		:: !OWN(SPAN(b)) && !home && OWN(1) -> home = 2; goto keep
		:: !OWN(SPAN(b)) -> goto push_others
		fi
	   }
	:: atomic { !lock -> lock = ME; goto repair }
#ifdef NO_LOCK
	:: atomic { home && stray[home - 1] ->
		s = home - 1;
		goto flush
	   }
#endif
	OR_DIE
	fi;

got:	if
	:: atomic { /* the word is cleared, and the user's */
		next[b] = DATA;
		has[b] = USER;
		END
	   }
	OR_DIE
	fi;

push:	if
	:: atomic { next[b] = list[SPAN(b)] }
	OR_DIE
	fi;
	if
	:: atomic {
		list[SPAN(b)] = b;
		used[SPAN(b)]--;
		has[b] = HEAP;
		END
	   }
	OR_DIE
	fi;

keep:	if
	:: atomic { next[b] = stray[home - 1] }
	OR_DIE
	fi;
	if
	:: atomic { stray[home - 1] = b; has[b] = HEAP; END }
	OR_DIE
	fi;

push_others:
	if
	:: atomic { PUSH(b, FREED); has[b] = HEAP; END }
	OR_DIE
	fi;

	/* ----- the lock is ours from here on: current(), repair ----- */
repair:
#ifndef NO_REPAIR
	if
	:: atomic { !died -> goto locked }
	:: atomic { died }
	fi;
repair_one: /* finish_flight() */
	if
	:: atomic { s == NS -> died = 0; s = 0; goto locked }
	:: atomic { s < NS && (!inuse[s] || !flight[s]) -> s++; goto repair_one }
	:: atomic { s < NS && inuse[s] && flight[s] ->
		f = flight[s];
		if
#ifndef NO_LIST_LOOK
		:: stray[s] == f -> goto repaired
#endif
#ifndef BLIND_REPAIR
		:: stray[s] != f && came[SPAN(f)] != count[s] -> goto repaired
#endif
		:: else
		fi
	   }
	OR_DIE
	fi;
#ifdef CLEAR_FIRST
	if
	:: atomic { flight[s] = 0; count[s] = 0 }
	OR_DIE
	fi;
#endif
	if
	:: atomic { PUSH(f, BROUGHT) }
	OR_DIE
	fi;
repaired:
	if
	:: atomic { flight[s] = 0; count[s] = 0; f = 0; s++; goto repair_one }
	OR_DIE
	fi;
locked:
#endif
	if
	:: atomic { home && stray[home - 1] -> /* trim */
		s = home - 1;
		why = AT_HOME;
		goto flush
	   }
	:: atomic { DEAD(0) || DEAD(1) -> s = 0; goto bring }
	:: atomic { OWN(0) || OWN(1) -> /* the thread ends */
		s = (home -> home - 1 : 0);
		why = AT_END;
		if
		:: home && stray[s] -> goto flush
		:: else -> s = 0; goto leave
		fi
	   }
	:: atomic { OWN(0) || OWN(1) -> /* a span without a block in use */
		if
		:: OWN(0) -> s = 0
		:: OWN(1) -> s = 1
		fi;
		if
		:: NOTHING_IN(s) -> /* asked before the lock; but it is ours */
			home = (home == s + 1 -> 0 : home);
			FREE(s)
		:: else
		fi;
		lock = 0;
		END
	   }
	:: atomic { !inuse[0] || !inuse[1] ->
		if
		:: !inuse[0] -> NEW(0)
		:: !inuse[1] -> NEW(1)
		fi;
		lock = 0;
		END
	   }
	:: atomic { lock = 0; END }
	OR_DIE
	fi;

	/* ----- shmi_stray_flush(): of span s ----- */
flush:
	if
	:: atomic { !stray[s] -> goto flushed }
	:: atomic { stray[s] ->
		f = stray[s];
		LINK(f);
#ifndef LIST_FIRST
		flight[s] = f;
		count[s] = came[SPAN(f)]
#endif
	   }
	OR_DIE
	fi;
#ifdef PUSH_FIRST
	if
	:: atomic { at = next[f]; PUSH(f, BROUGHT) }
	OR_DIE
	fi;
	if
	:: atomic { stray[s] = at; at = 0; f = 0; goto flush }
	OR_DIE
	fi;
#endif
	if
	:: atomic { stray[s] = next[f] }
	OR_DIE
	fi;
#ifdef LIST_FIRST
	if
	:: atomic { flight[s] = f; count[s] = came[SPAN(f)] }
	OR_DIE
	fi;
#endif
	if
	:: atomic { PUSH(f, BROUGHT); f = 0; goto flush }
	OR_DIE
	fi;
flushed:
	if
	:: atomic {
		flight[s] = 0;
		count[s] = 0;
		if
		:: why == 0 -> END
		:: why == AT_HOME -> s = 0; goto bring
		:: why == AT_END -> s = 0; goto leave
		:: why == AT_BRING -> s++; goto bring
		:: why == AT_ONE -> goto settle
		fi
	   }
	OR_DIE
	fi;

	/* ----- shmi_span_leave() ----- */
leave:
	if
	:: atomic { s == NS -> home = 0; lock = 0; END }
	:: atomic { s < NS && !OWN(s) -> s++; goto leave }
	:: atomic { s < NS && OWN(s) -> COLLECT(s) }
	OR_DIE
	fi;
	if
	:: atomic { used[s] -> owner[s] = 0; s++; goto leave }
	:: atomic { !used[s] -> FREE(s); s++; goto leave }
	OR_DIE
	fi;

	/* ----- shmi_span_sweep() ----- */
bring:
#ifndef NO_BRING
	if
	:: atomic { s == NS -> s = 0 }
	:: atomic { s < NS && !(DEAD(s) && stray[s]) -> s++; goto bring }
	:: atomic { s < NS && DEAD(s) && stray[s] ->
		why = AT_BRING;
		goto flush
	   }
	OR_DIE
	fi;
#endif
sweep:
	if
	:: atomic { s == NS -> lock = 0; END }
	:: atomic { s < NS && !DEAD(s) -> s++; goto sweep }
	:: atomic { s < NS && DEAD(s) ->
#if !defined(NO_BRING) && !defined(BRING_ONCE)
		if
		:: stray[s] -> why = AT_ONE; goto flush
		:: else
		fi
#endif
	   }
	OR_DIE
	fi;
settle:
	if
	:: atomic { COLLECT(s) }
	OR_DIE
	fi;
	if
	:: atomic { !used[s] -> FREE(s); s++; goto sweep }
	:: atomic { used[s] -> owner[s] = ME; s++; goto sweep }
	:: atomic { used[s] -> s++; goto sweep } /* of another class */
	OR_DIE
	fi;

gone:
	atomic {
		has[b] = (b -> LOST : HEAP);
		for (at : 0 .. NS - 1) {
			owner[at] = (owner[at] == ME -> 0 : owner[at])
		}
		died = (lock == ME -> 1 : died);
		lock = (lock == ME -> 0 : lock);
		home = 0;
		END
	}
}

#define SEE(at)                                                                \
	assert(!(seen & (1 << at)));                                           \
	seen = seen | (1 << at)
#define SEEN(at) (seen & (1 << at))

#define WALK(from)                                                             \
	at = from;                                                             \
	do                                                                     \
	:: at ->                                                               \
		SEE(at);                                                       \
		LINK(at);                                                      \
		at = next[at]                                                  \
	:: else -> break                                                       \
	od

active proctype auditor()
{
	byte at, s, seen;

	do
	:: d_step {
		for (s : 0 .. NS - 1) {
			if
			:: inuse[s] ->
				WALK(list[s]);
				WALK(others[s]);
				WALK(stray[s]);
				at = flight[s];
				if
				:: at && at != stray[s] &&
				   came[SPAN(at)] == count[s] ->
					SEE(at);
					assert(has[at] == HEAP)
				:: else
				fi
			:: else
			fi
		}
		for (at : 1 .. NB) {
			if
			:: inuse[SPAN(at)] -> assert(SEEN(at) || has[at] != HEAP)
			:: else -> assert(!SEEN(at) && has[at] == HEAP)
			fi
		}
		at = 0;
		s = 0;
		seen = 0
	   }
	od
}
