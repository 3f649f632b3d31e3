#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# run.sh - checks the models of the lock, of the size and of the heap's spans,
# strays, chunks and runs with spin; see lock.pml, grow.pml, span.pml, stray.pml,
# chunk.pml and run.pml. run.sh NAME: that one only.
#
# What is as in src/ must have no error, each broken variant must have one.
# Prints the states of each; 77 where spin is not installed. Takes about eight
# minutes and 4 to 7 GiB; with SOAK the longest ones, too.

here=$(dirname "$0")
command -v spin >/dev/null || { echo "spin is not installed"; exit 77; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT HUP TERM
cp "$here"/*.pml "$work" && cd "$work" || exit 1
failures=0
only=$1

# check ok|error MODEL WHAT DEFINES: all states are visited.
check() {
	[ -z "$only" ] || [ "$2" = "$only" ] || return 0
	want=$1 model=$2.pml what=$3
	shift 3
	hash=22
	case $* in *NP=3*|*NB=4*|*NS=*) hash=26 ;; esac
	opt=-O2
	[ "$want $model" != "error run.pml" ] || opt=-O0 # to compile is the most of it
	rm -f pan* ./*.trail
	if ! spin -a "$@" "$model" >log 2>&1 ||
	   ! ${CC:-cc} $opt -w -DSAFETY -DCOLLAPSE -DMEMLIM=7500 -o pan pan.c
	then
		cat log
		exit 1
	fi
	./pan -m20000000 -w$hash >log 2>&1
	states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' log)
	errors=$(sed -n 's/.*errors: \([0-9]*\)$/\1/p' log)
	found=$(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' log | head -n 1)
	got=error
	[ "$errors" = 0 ] && got=ok
	# Not all of it was looked at.
	if grep -q 'MEMLIM\|max search depth too small\|out of memory' log; then
		got=incomplete
	fi
	[ "$got" = "$want" ] && verdict=as\ expected || verdict=WRONG
	[ "$verdict" != WRONG ] || failures=$((failures + 1))
	printf '%-44s %9s states  %-5s %s%s\n' "$what" "${states:-?}" "$got" \
		"$verdict" "${found:+: $found}"
	if [ "$verdict" = WRONG ] && [ "$got" = error ]; then
		spin -t -p -g "$@" "$model" | tail -n 60
	fi
}

check ok lock "2, slots reused, gate, reset" -DNP=2
check ok lock "2, words and file forged at rest" -DNP=2 -DTRUNCATED
check ok lock "2, without the file-lock witness" -DNP=2 -DNO_WITNESS
check ok lock "2, the kernel's mark may be missing" -DNP=2 -DOOM
check ok lock "3, new processes in their own slots" -DNP=3 -DOWN_SLOT
check ok lock "3, the same without the witness" -DNP=3 -DOWN_SLOT -DNO_WITNESS
check ok lock "2, who is first in line may not stay it" -DNP=2 -DLOSES
check ok lock "2 guests" -DNP=2 -DOWN_SLOT -DGUESTS=2
[ -z "$SOAK" ] ||
check ok lock "2 and a guest" -DNP=3 -DOWN_SLOT -DGUESTS=1
check error lock "wake, and then clear WAITERS" -DNP=2 -DWAKE_FIRST
check error lock "clear WAITERS but keep the id, then wake" -DNP=2 -DCLEAR_TO_TID
check error lock "no look at the lock after WAITERS" -DNP=2 -DNO_RECHECK
check error lock "no QUEUE" -DNP=3 -DOWN_SLOT -DNO_QUEUE
check error lock "no count in the lock word" -DNP=2 -DNO_COUNT
check error lock "a dead owner's slot is claimed" -DNP=2 -DNO_CLAIM_RULE
check error lock "no repair" -DNP=2 -DNO_REPAIR
check error lock "grow stores size first" -DNP=2 -DSIZE_FIRST
check error lock "a guest's release leaves 0" \
	-DNP=2 -DOWN_SLOT -DGUESTS=2 -DGUEST_ZERO
check error lock "QUEUE is the description's" \
	-DNP=2 -DOWN_SLOT -DGUESTS=2 -DDESCRIPTION=9

check ok grow "2, every kind of grow" -DNP=2
check ok grow "2, mapped without allocation" -DNP=2 -DTHP
check ok grow "2, GROWING may be lost or left" -DNP=2 -DLOST
check ok grow "3, one grows outside the lock" -DNP=3 -DROLES
check ok grow "3, the same, GROWING lost or left" -DNP=3 -DROLES -DLOST
check error grow "publish without a look at epoch" -DNP=2 -DNO_EPOCH
check error grow "a failed grow cuts what is ahead" -DNP=2 -DUNDO_ALL
check error grow "shrink cuts first" -DNP=2 -DCUT_FIRST
check error grow "grow stores size first" -DNP=2 -DSIZE_FIRST
check error grow "no repair" -DNP=2 -DNO_REPAIR
check error grow "a cut under a grow clears ahead" -DNP=2 -DCLEAR_AHEAD
check error grow "ahead is forgotten without a cut" -DNP=2 -DFORGET
check error grow "publish of pages that are not there" -DNP=2 -DNOT_PRESENT
check error grow "pages given back unpublished stay" -DNP=2 -DUNDO_STAGED
check error grow "publish without a look at the maximum" -DNP=2 -DNO_MAXIMUM
check error grow "forgotten, and epoch moves with ahead only" \
	-DNP=3 -DROLES -DLOST -DFORGET -DEPOCH_IF_AHEAD

check ok span "2 processes, 3 blocks" -DNP=2
check ok span "3 processes, 3 blocks" -DNP=3
check ok span "2 processes, 4 blocks" -DNP=2 -DNB=4
check error span "taken is cleared before the state's step" -DTAKEN_EARLY
check error span "taken is set after others is emptied" -DTAKEN_LATE
check error span "the end is not linked to the list" -DNO_LINK
check error span "adoption without finish_collect" -DNO_FINISH
check error span "adoption does not count anew" -DNO_COUNT
check error span "free: the state before the block's word" -DSTATE_FIRST
check error span "others are pushed without a comparison" -DBLIND_PUSH
check error span "adding is cleared before ever is set" -DADDING_EARLY
check error span "adding is set after the state's step" -DADDING_LATE
check error span "ever is set before the state's step" -DEVER_FIRST
check error span "adoption without finish_adding" -DNO_ADDING
check error span "adoption adds without a look at the list" -DNO_LOOK
check error span "a span's state goes before it says so" -DGOES_LATE

check ok stray "2 processes, 3 blocks" -DNP=2
[ -z "$SOAK" ] ||
check ok stray "3 processes, 2 blocks" -DNP=3 -DNB=2
check error stray "no repair" -DNO_REPAIR
check error stray "repair without a look at what came home" -DBLIND_REPAIR
check error stray "repair without a look at the list" -DNO_LIST_LOOK
check error stray "repair clears the flight before its push" -DCLEAR_FIRST
check error stray "the flight is stored after the list" -DLIST_FIRST
check error stray "the list's step comes after the push" -DPUSH_FIRST
check error stray "the push does not count what came home" -DNO_HOME
check error stray "each free's push counts as come home" -DALL_HOME
check error stray "a flush without the lock" -DNO_LOCK
check error stray "a sweep does not bring strays home" -DNO_BRING
check error stray "a sweep looks for strays but once, at first" -DBRING_ONCE
check error stray "a span is given up with strays" -DGIVE_UP

check ok chunk "2 processes, 3 units"
check ok chunk "3 processes, 3 units" -DNP=3
check ok chunk "2 processes, 4 units" -DMAX=4 -DNC=3
check error chunk "gen moves after nchunks" -DGEN_LAST
check error chunk "the size before grown_by" -DSIZE_FIRST
check error chunk "the mark after the size" -DMARK_LAST
check error chunk "finish does not look for the mark" -DNO_MARK
check error chunk "finish does not look at the size" -DNO_BOUND
check error chunk "finish enters what is a chunk" -DTWICE
check error chunk "finish goes by its copy of the chunks" -DOLD_COPY
check error chunk "finish leaves the mark in a chunk" -DMARK_LEFT
check error chunk "finish clears grown_by first" -DBY_EARLY
check error chunk "nobody finishes" -DNO_FINISH
check error chunk "trim stores the size before nchunks" -DCUT_FIRST
check error chunk "trim does not name the chunk" -DUNNAMED

check ok run "2 processes, 2 slices" -DNP=2
check ok run "1 process, 3 slices" -DNP=1 -DNS=3
check error run "split: the first word first" -DSPLIT_FIRST
check error run "join: the second word first" -DJOIN_FIRST
check error run "join: as dirty as the first" -DJOIN_ZERO
check error run "join: kept as the first" -DJOIN_KEPT
check error run "join: kept in spite of a gap" -DJOIN_PART
check error run "split: the rest has its pages" -DSPLIT_PART
check error run "no repair" -DNO_REPAIR
check error run "a head in a run that says zero" -DNO_DIRTY
check error run "a run is taken before it has a head" -DTAKE_FIRST
check error run "free does not name who is at work" -DNO_NAME
check error run "the head goes outside of the lock" -DPUNCH_HEAD
check error run "zero before the pages have gone" -DZERO_FIRST
check error run "a run with holes is kept" -DNP=1 -DKEEP_HOLES
check error run "longer, and no note of holes" -DNP=1 -DNO_HOLES
check error run "the same length, and its end is there" -DNP=1 -DSAME_WHOLE
check error run "shorter: the first word first" -DPART_FIRST
check error run "shorter: the end's head later" -DEND_BARE
check error run "shorter: the head says so later" -DNP=1 -DREADY_LATE
check error run "longer: the second word first" -DNP=1 -DLONGER_FIRST
check error run "a sweep keeps pages" -DSWEEP_KEPT
check error run "kept until the pages have gone" -DPURGE_KEPT
[ $failures = 0 ] || { echo "$failures wrong"; exit 1; }
