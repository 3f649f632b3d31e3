#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# demo.sh - runs the examples. `make demo` calls it; by hand: BUILD=.build.
set -eu

bin=${BUILD:-.build}/examples
dir=$(mktemp -d /dev/shm/demo.XXXXXX 2>/dev/null || mktemp -d)
export TMPDIR="$dir"
peer=

clean() {
	status=$?
	trap '' EXIT HUP INT TERM
	if [ -n "$peer" ]; then
		kill "$peer" 2>/dev/null || :
		wait "$peer" 2>/dev/null || :
	fi
	if [ -e "$dir/arena" ]; then
		"$bin/producer" --remove --path "$dir/arena" || :
	fi
	rm -rf "$dir"
	[ "$status" = 0 ] || echo "demo: failed" >&2
	exit "$status"
}
trap clean EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# both FIRST SECOND [--huge]: the two share one arena.
both() {
	"$bin/$1" --path "$dir/arena" ${3:+"$3"} &
	peer=$!
	sleep 0.2
	"$bin/$2" --path "$dir/arena" ${3:+"$3"}
	wait "$peer"
	peer=
}

# Eight free huge pages of the default size and a mount that has them?
huge() {
	free=$(awk '/^HugePages_Free/ { n += $2 } /^HugePages_Rsvd/ { n -= $2 }
		END { print n + 0 }' /proc/meminfo)
	size=$(awk '/^Hugepagesize/ {
		print ($2 < 1024 ? $2 "K" : $2 / 1024 "M") }' /proc/meminfo)
	[ "$free" -ge 8 ] || return 1
	while read -r _ mount type opts _; do
		case $type,$opts, in
		hugetlbfs,rw,*pagesize="$size",*)
			[ ! -w "$mount" ] || return 0 ;;
		esac
	done </proc/mounts
	return 1
}

echo "== two programs, one growing memory; the consumer is started first"
both consumer producer
echo
echo "== the producer is started first"
both producer consumer
echo
echo "== in huge pages"
if huge; then
	both producer consumer --huge
else
	echo "left out: needs a hugetlbfs mount and 8 free huge pages, see" \
		"libshmem(7)"
fi
echo
echo "== an arena without a name, shared with children"
"$bin/private"
echo
echo "== a temporary arena, its name given to another program"
"$bin/temp"
echo
echo "== an arena that never had a name, given to who connects"
"$bin/server" 2 &
peer=$!
"$bin/client" "the first"
"$bin/client" "the second"
wait "$peer"
peer=
echo
echo "== a hash table on a heap; of those who fill it half are killed"
"$bin/table"
echo
echo "== a std::map and a std::vector of strings on a heap"
if [ -x "$bin/words" ]; then
	"$bin/words"
else
	echo "left out: words was not built, there is no C++ compiler"
fi
echo
echo "== OpenDataPlane's shared memory calls: two programs, two instances"
ODP_SHM_DIR="$dir" "$bin/odp_shm/demo"
if [ -n "$(ls -A "$dir")" ]; then
	echo "demo: left behind:" >&2
	ls -lA "$dir" >&2
	exit 1
fi
