/* SPDX-License-Identifier: BSD-3-Clause */
/* run_table.pml - for run.pml: the words, and what run.c does to the table */
/*
 * "at" is a run's first slice, each STEP() one store, before which the process
 * may die.
 */
/* The table's words. */
#define USED 128
#define DIRTY 64
#define KEPT 32
#define PART 16
#define COUNT 15
byte table[NS];

/* Heads, in the first slices of runs in use. */
#define HOLES 15 /* as ready */
bit mark[NS];
byte owner[NS], ready[NS], halves[NS];

byte lock;  /* process + 1 */
bit died;   /* its last owner has, and nobody has repaired */
byte kept;

/* ghost */
byte has[NS]; /* process + 1, USER */
bit dirt[NS];
byte there[NS]; /* halves */

#define ME (_pid + 1)
#define USER (NP + 1)
#define DEAD (NP + 2) /* as owner: somebody dead, as the kernel tells */

#define LEN(a) (table[a] & COUNT)
#define END(a) ((a) + LEN(a))
#define FREE(a) (!(table[a] & USED))
#define N_KEPT(word) (((word) & KEPT) && !((word) & USED) -> (word) & COUNT : 0)
#define SLICES(up_to) (((up_to) + 1) / 2)
#define OR_DIE :: goto dead
#define STEP(what)                                                             \
	if                                                                     \
	:: atomic { what }                                                     \
	OR_DIE                                                                 \
	fi
#define EACH(from, n, what)                                                    \
	for (i : 0 .. NS - 1) {                                                \
		if                                                             \
		:: i >= (from) && i < (from) + (n) -> what                     \
		:: else                                                        \
		fi                                                             \
	}                                                                      \
	i = 0
#define MOVE(from, n, was, is) EACH(from, n, assert(has[i] == was); has[i] = is)
#define PUNCH(from, n) EACH(from, n, there[i] = 0; dirt[i] = 0)

/* ----- run.c: join(), split(), settle() ----- */

#ifdef JOIN_ZERO
#define J_DIRTY(w, o) ((w) & DIRTY)
#else
#define J_DIRTY(w, o) (((w) | (o)) & DIRTY)
#endif
#ifdef JOIN_PART
#define J_KEPT(w, o) ((w) & (o) & KEPT)
#else
#ifdef JOIN_KEPT
#define J_KEPT(w, o) (((w) & KEPT) && !((w) & PART))
#else
#define J_KEPT(w, o) (((w) & (o) & KEPT) && !((w) & PART))
#endif
#endif
#define JOINED(w, o)                                                           \
	(J_DIRTY(w, o) | (J_KEPT(w, o) -> KEPT | ((o) & PART) : 0)) +          \
		((w) & COUNT) + ((o) & COUNT)
#define JOIN_STORE(a)                                                          \
	     kept = kept - N_KEPT(table[a]) - N_KEPT(other);                   \
	     table[a] = JOINED(table[a], other);                               \
	     kept = kept + N_KEPT(table[a])
#ifdef JOIN_FIRST
#define JOIN(a, b)                                                             \
	STEP(other = table[b]; table[b] = 0);                                  \
	STEP(JOIN_STORE(a); other = 0)
#else
#define JOIN(a, b)                                                             \
	STEP(other = table[b]; JOIN_STORE(a); other = 0);                      \
	STEP(table[b] = 0)
#endif

#ifdef SPLIT_PART
#define S_FLAGS (DIRTY | KEPT)
#else
#define S_FLAGS (DIRTY | KEPT | PART)
#endif
#ifdef SPLIT_FIRST
#define SPLIT(a, n)                                                            \
	STEP(other = table[a]; table[a] = (other & (DIRTY | KEPT)) | n);       \
	STEP(table[(a) + (n)] = (other & S_FLAGS) | ((other & COUNT) - (n));   \
	     other = 0)
#else
#define SPLIT(a, n)                                                            \
	STEP(table[(a) + (n)] = (table[a] & S_FLAGS) | (LEN(a) - (n)));        \
	STEP(table[a] = (table[a] & (DIRTY | KEPT)) | n)
#endif

#define ALIKE(w, o)                                                            \
	(!(((w) | (o)) & USED) && ((w) & KEPT) == ((o) & KEPT) && !((w) & PART))

/* side: the run before a; found: it is free. */
#define BEFORE(a)                                                              \
	side = a;                                                              \
	found = 0;                                                             \
	do                                                                     \
	:: side > 0 ->                                                         \
		side--;                                                        \
		if                                                             \
		:: table[side] -> found = FREE(side) && END(side) == a; break  \
		:: else                                                        \
		fi                                                             \
	:: else -> break                                                       \
	od
#define JOIN_BEFORE(a)                                                         \
	atomic { BEFORE(a) };                                                  \
	if                                                                     \
	:: found && ALIKE(table[side], table[a]) ->                            \
		JOIN(side, a);                                                 \
		atomic { a = side; side = 0; found = 0 }                       \
	:: else -> atomic { side = 0; found = 0 }                              \
	fi
#define SETTLE(a)                                                              \
	atomic { side = END(a) };                                              \
	if                                                                     \
	:: side < NS && ALIKE(table[a], table[side]) -> JOIN(a, side)          \
	:: else                                                                \
	fi;                                                                    \
	JOIN_BEFORE(a)

/* free_from(), as "room" */
#define ROOM(a)                                                                \
	side = a;                                                              \
	room = 0;                                                              \
	do                                                                     \
	:: side < NS && FREE(side) -> room = room + LEN(side); side = END(side) \
	:: else -> side = 0; break                                             \
	od
