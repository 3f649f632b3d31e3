#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# run.sh - checks the models with spin: lock.pml, span.pml. run.sh [lock|span]
#
# The protocol must have no error, each broken variant must have one. Prints
# the states of each; 77 where spin is not installed. Takes about five
# minutes and 4 GiB.

here=$(dirname "$0")
command -v spin >/dev/null || { echo "spin is not installed"; exit 77; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT HUP TERM
cp "$here"/*.pml "$work" && cd "$work" || exit 1
failures=0

# check ok|error WHAT DEFINES, of $model: all states are visited, and so is every line.
check() {
	want=$1 what=$2
	shift 2
	hash=22
	case $* in *NP=3*|*NB=4*) hash=26 ;; esac
	rm -f pan* ./*.trail
	if ! spin -a "$@" $model.pml >log 2>&1 ||
	   ! ${CC:-cc} -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM=7500 -o pan pan.c
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
		spin -t -p -g "$@" $model.pml | tail -n 60
	fi
}

lock() {
	check ok "2, slots reused, gate, reset" -DNP=2
	check ok "2, words and file forged at rest" -DNP=2 -DTRUNCATED
	check ok "2, without the file-lock witness" -DNP=2 -DNO_WITNESS
	check ok "2, the kernel's mark may be missing" -DNP=2 -DOOM
	check ok "3, new processes in their own slots" -DNP=3 -DOWN_SLOT
	check ok "3, the same without the witness" -DNP=3 -DOWN_SLOT -DNO_WITNESS
	check error "wake, and then clear WAITERS" -DNP=2 -DWAKE_FIRST
	check error "clear WAITERS but keep the id, then wake" -DNP=2 -DCLEAR_TO_TID
	check error "no look at the lock after WAITERS" -DNP=2 -DNO_RECHECK
	check error "no QUEUE" -DNP=3 -DOWN_SLOT -DNO_QUEUE
	check error "no count in the lock word" -DNP=2 -DNO_COUNT
	check error "a dead owner's slot is claimed" -DNP=2 -DNO_CLAIM_RULE
	check error "no repair" -DNP=2 -DNO_REPAIR
	check error "grow stores size first" -DNP=2 -DSIZE_FIRST
}

span() {
	check ok "2 processes, 3 blocks" -DNP=2
	check ok "3 processes, 3 blocks" -DNP=3
	check ok "2 processes, 4 blocks" -DNP=2 -DNB=4
	check error "taken is cleared before the state's step" -DTAKEN_EARLY
	check error "taken is set after others is emptied" -DTAKEN_LATE
	check error "the end is not linked to the list" -DNO_LINK
	check error "adoption without finish_collect" -DNO_FINISH
	check error "adoption does not count anew" -DNO_COUNT
	check error "free: the state before the block's word" -DSTATE_FIRST
	check error "others are pushed without a comparison" -DBLIND_PUSH
}

for model in ${1:-lock span}; do
	echo "$model.pml"
	$model
done
[ $failures = 0 ] || { echo "$failures wrong"; exit 1; }
