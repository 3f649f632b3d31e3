/* SPDX-License-Identifier: BSD-3-Clause */
/* span.pml - a span of small blocks, its owner, others, and deaths, for spin */
/*
 * src/heap/span.c step by step: every store to a word that others may read is
 * one step, and a process may be killed before each of them, while adopting
 * too. There is no bound on calls and deaths; a dead process comes back as a
 * new one, which owns nothing. Sequentially consistent: the code's release
 * stores and acquire exchange hand over the words that are read here.
 *
 * Blocks are 1 .. NB. The application keeps those that it has in a pool, from
 * where anybody frees them: so a block goes from any process to any other, and
 * what is lost is what the dead one was just taking or giving back.
 *
 * Checked in every state, by auditor():
 *	none twice	a block is in one place: the list, the list of others,
 *			on its way between them, or with a user
 *	none lost	it is in one of them at least, or a process died with it
 *			in the middle of its malloc or free
 *	no cycle	each list ends after at most NB blocks
 * and by asserts: malloc takes only what is nobody's; a list leads only to
 * blocks that are nobody's; a run is freed only when nobody has a block of it;
 * after adoption the count of blocks in use is right.
 *
 * Abstractions: the word of others, of which only the head is compared: a swap
 * that the rest makes fail is repeated and stores the same. One span, one
 * thread in a process. Reading a chain that nobody can change at the time, and
 * the store that comes after it, are one step. Pages, rings and the FULL bit
 * are not in here. Strays are in stray.pml; here each free of another's block
 * goes home at once. The lock is lock.pml's: it is free when its owner is
 * dead.
 *
 * Broken on purpose: TAKEN_EARLY (cleared before the state's step), TAKEN_LATE
 * (set after others is emptied), NO_LINK (the end of what was taken is not
 * linked to the list), NO_FINISH (adoption without finish_collect),
 * STATE_FIRST (free stores the state before the block's word), NO_COUNT
 * (adoption does not count anew), BLIND_PUSH (others' head is stored, not
 * compared and swapped), ADDING_EARLY (cleared before ever is set),
 * ADDING_LATE (set after the state's step), EVER_FIRST (ever is set before the
 * state's step, and no adding), NO_ADDING (adoption without finish_adding),
 * NO_LOOK (adoption takes what was being added without a look at the list),
 * GOES_LATE (a span that is given up says so after its state).
 */
#ifndef NP
#define NP 2 /* processes */
#endif
#ifndef NB
#define NB 3 /* blocks of the span */
#endif
#define NEW 2 /* blocks that are linked at a time */

#define DATA (NB + 1) /* what users leave in a block's word */

#define GOES (NB + 1) /* as adding: the span is being given up */

/* The head of the span, and the words of its blocks. */
byte list, used; /* the state: one word, one step */
byte ever, adding;
byte others, count, end; /* the list of others: one word, too */
byte taken, owner;
byte next[NB + 1];

byte lock;  /* process + 1 */
bit orphan; /* the owner is dead, as the kernel tells */

/* ghost: who has a block */
#define HEAP 0
#define USER (NP + 1)
#define LOST (NP + 2)
byte has[NB + 1]; /* or process + 1: in the middle of malloc or free */

#define ME (_pid + 1)
#define OWN (owner == ME && !orphan)
#define DEAD (owner == 0 || orphan)
#define OR_DIE :: goto died

#ifdef NO_LOOK
#define ADDED_TO_LIST adding > ever
#else
#define ADDED_TO_LIST adding > ever && list == ever + 1
#endif

/* A block's word, where that is a link: for a walk. */
#define FOLLOW(at)                                                             \
	assert(has[at] == HEAP && next[at] <= NB);                             \
	at = next[at]

/* span.c: walk(); at ends at @stop or 0. */
#define WALK(from, stop)                                                       \
	at = from;                                                             \
	last = 0;                                                              \
	n = 0;                                                                 \
	do                                                                     \
	:: at && at != stop ->                                                 \
		last = at;                                                     \
		n++;                                                           \
		assert(n <= NB);                                               \
		FOLLOW(at)                                                     \
	:: else -> break                                                       \
	od
#define END FORGET; b = 0; head = 0; k = 0; e = 0; back = 0; goto between
#define FORGET at = 0; last = 0; n = 0

active [NP] proctype process()
{
	byte b;		  /* the block in hand */
	byte head;	  /* of others, as read */
	byte k, e;	  /* count and end of what was taken */
	byte at, last, n; /* of a walk */
	byte back;	  /* where collect() was called */

between:
	if
	:: atomic { /* span_pop() */
		OWN && list ->
		b = list;
		assert(has[b] == HEAP && next[b] <= NB);
		list = next[b];
		used++;
		has[b] = ME;
		goto got
	   }
	:: atomic { OWN && !list -> goto look }
	:: atomic { OWN && !used -> goto give_up }
	:: atomic { OWN -> goto leave }
	:: atomic { /* any block of the application's */
		if
		:: has[1] == USER -> b = 1
		:: has[2] == USER -> b = 2
		:: has[NB - 1] == USER -> b = NB - 1
		:: has[NB] == USER -> b = NB
		fi;
		has[b] = ME;
		if
		:: OWN -> goto push
		:: else -> goto push_others
		fi
	   }
	:: atomic { DEAD && !lock -> lock = ME; goto sweep }
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

	/* ----- has_block() ----- */
look:
	if
	:: atomic { others -> back = 1; goto collect }
	:: atomic { !others ->
		if
		:: ever < NB
		:: else -> END
		fi
	   }
	OR_DIE
	fi;
	/* add_new() */
	n = ever + NEW;
	n = (n > NB -> NB : n);
	at = ever + 1;
	do
	:: at < n ->
		if
		:: atomic { next[at] = at + 1; at++ }
		OR_DIE
		fi
	:: else -> break
	od;
	if
	:: atomic { next[at] = 0 }
	OR_DIE
	fi;
#if !defined(ADDING_LATE) && !defined(EVER_FIRST)
	if
	:: atomic { adding = n }
	OR_DIE
	fi;
#endif
#ifdef EVER_FIRST
	at = ever + 1;
	if
	:: atomic { ever = n }
	OR_DIE
	fi;
	if
	:: atomic { list = at; END }
	OR_DIE
	fi;
#endif
	if
	:: atomic { list = ever + 1 }
	OR_DIE
	fi;
#ifdef ADDING_LATE
	if
	:: atomic { adding = n }
	OR_DIE
	fi;
#endif
#ifdef ADDING_EARLY
	if
	:: atomic { adding = 0 }
	OR_DIE
	fi;
#endif
	if
	:: atomic { ever = n }
	OR_DIE
	fi;
	if
	:: atomic { adding = 0; END }
	OR_DIE
	fi;

	/* ----- span_push() ----- */
push:
#ifdef STATE_FIRST
	if
	:: atomic { head = list; list = b; used--; has[b] = HEAP }
	OR_DIE
	fi;
	if
	:: atomic { next[b] = head; END }
	OR_DIE
	fi;
#else
	if
	:: atomic { next[b] = list }
	OR_DIE
	fi;
	if
	:: atomic { list = b; used--; has[b] = HEAP; END }
	OR_DIE
	fi;
#endif

	/* ----- push_to_others() ----- */
push_others:
	if
	:: atomic { head = others }
	OR_DIE
	fi;
push_again:
	if
	:: atomic { next[b] = head }
	OR_DIE
	fi;
	if
	:: atomic {
		if
#ifndef BLIND_PUSH
		:: others != head -> head = others; goto push_again
#endif
		:: else ->
			end = (head -> end : b);
			count++;
			others = b;
			has[b] = HEAP;
			END
		fi
	   }
	OR_DIE
	fi;

	/* ----- collect(), by the owner or under the lock ----- */
collect:
	if
	:: atomic {
		head = others;
		if
		:: head
		:: else -> goto collected
		fi
	   }
	OR_DIE
	fi;
collect_again:
#ifndef TAKEN_LATE
	if
	:: atomic { taken = head }
	OR_DIE
	fi;
#endif
	if
	:: atomic {
		if
		:: others != head -> head = others; goto collect_again
		:: else ->
			k = count;
			e = end;
			others = 0;
			count = 0;
			end = 0
		fi
	   }
	OR_DIE
	fi;
#ifdef TAKEN_LATE
	if
	:: atomic { taken = head }
	OR_DIE
	fi;
#endif
#ifndef NO_LINK
	if
	:: atomic { list -> next[e] = list }
	:: atomic { !list -> assert(!next[e]) }
	OR_DIE
	fi;
#endif
#ifdef TAKEN_EARLY
	if
	:: atomic { taken = 0 }
	OR_DIE
	fi;
#endif
	if
	:: atomic { list = head; used = used - k; k = 0; e = 0 }
	OR_DIE
	fi;
#ifndef TAKEN_EARLY
	if
	:: atomic { taken = 0 }
	OR_DIE
	fi;
#endif
collected:
	if
	:: atomic { back == 1 -> END }
	:: atomic { back == 2 -> goto left }
	:: atomic { back == 3 -> goto settled }
	fi;

	/* ----- shmi_span_leave() ----- */
leave:
	if
	:: atomic { !lock -> lock = ME; back = 2; goto collect }
	OR_DIE
	fi;
left:
	if
	:: atomic { used -> owner = 0; lock = 0; END }
	:: atomic { !used -> goto free_run }
	OR_DIE
	fi;

	/* ----- give_up(), not under the lock ----- */
give_up:
#ifdef GOES_LATE
	if
	:: atomic { list = 0 }
	OR_DIE
	fi;
#endif
	if
	:: atomic { adding = GOES }
	OR_DIE
	fi;
	if
	:: atomic { list = 0 }
	OR_DIE
	fi;
	if
	:: atomic { !lock -> lock = ME }
	OR_DIE
	fi;
	/* The run is free with one store; here another takes it at once. */
free_run:
	if
	:: atomic {
		assert(!taken && !others);
		for (at : 1 .. NB) { assert(has[at] == HEAP) }
		at = 0;
		/* new_span() */
		list = 0;
		used = 0;
		ever = 0;
		adding = 0;
		owner = ME;
		orphan = 0;
		lock = 0;
		END
	   }
	OR_DIE
	fi;

	/* ----- sweep_one(): the lock is ours ----- */
sweep:
	if
	:: atomic { adding == GOES -> goto free_run }
	:: atomic { adding != GOES }
	OR_DIE
	fi;
	/* finish_adding() */
#ifndef NO_ADDING
	if
	:: atomic { ADDED_TO_LIST -> ever = adding }
	:: atomic { !(ADDED_TO_LIST) }
	OR_DIE
	fi;
#endif
	if
	:: atomic { adding = 0 }
	OR_DIE
	fi;
	/* finish_collect() */
#ifndef NO_FINISH
	if
	:: atomic { taken }
	:: atomic { !taken -> goto settle }
	OR_DIE
	fi;
	if
	:: atomic {
		WALK(others, taken);
		if
		:: at == taken || list == taken -> FORGET; goto finished
		:: else -> FORGET
		fi
	   }
	OR_DIE
	fi;
	if
	:: atomic {
		if
		:: list ->
			WALK(taken, list);
			if
			:: at != list -> next[last] = list
			:: else
			fi;
			FORGET
		:: else
		fi
	   }
	OR_DIE
	fi;
	if
	:: atomic { list = taken }
	OR_DIE
	fi;
finished:
	if
	:: atomic { taken = 0 }
	OR_DIE
	fi;
settle:
#endif
	if
	:: atomic {
		WALK(list, 0);
		assert(n <= ever);
#ifndef NO_COUNT
		used = ever - n;
#endif
		FORGET;
		back = 3;
		goto collect
	   }
	OR_DIE
	fi;
settled:
	if
	:: atomic {
		WALK(list, 0);
		assert(used == ever - n);
		FORGET;
		if
		:: !used -> goto free_run
		:: used -> owner = ME; orphan = 0; lock = 0; END
		:: used -> lock = 0; END /* of another class */
		fi
	   }
	OR_DIE
	fi;

died:
	atomic {
		has[b] = (b -> LOST : HEAP);
		orphan = (owner == ME -> 1 : orphan);
		lock = (lock == ME -> 0 : lock);
		END
	}
}

#define SEE(at) seen = seen | (1 << at)
#define SEEN(at) (seen & (1 << at))

active proctype auditor()
{
	byte at, n, seen, last;

	do
	:: d_step {
		at = list;
		do
		:: at ->
			assert(!SEEN(at));
			SEE(at);
			FOLLOW(at)
		:: else -> break
		od;
		at = others;
		do
		:: at ->
			assert(!SEEN(at));
			SEE(at);
			n++;
			assert(next[at] || at == end);
			FOLLOW(at)
		:: else -> break
		od;
		assert(n == count);
		/* On their way from the one to the other. */
		at = taken;
		do
		:: at && !SEEN(at) ->
			SEE(at);
			FOLLOW(at)
		:: else -> break
		od;
		/* New ones that are in the list count already. */
		last = (adding > ever && list == ever + 1 -> adding : ever);
		for (n : 1 .. NB) {
			if
			:: adding == GOES -> assert(has[n] == HEAP)
			:: adding != GOES && n <= last ->
				assert(SEEN(n) || has[n] != HEAP)
			:: else -> assert(!SEEN(n) && has[n] == HEAP)
			fi
		}
		at = 0;
		last = 0;
		n = 0;
		seen = 0
	   }
	od
}
