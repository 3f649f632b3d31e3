#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# rounds.sh [N] - runs the suite as it is built N times (50) in two checkouts at
# once, and says what passed, what failed and what is left on the machine. An
# interrupt ends it after the rounds that are under way, with what there is.

cd "$(dirname "$0")/../.." || exit 2
n=${1:-50} B=${BUILD:-.build}
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
stop=
trap 'stop=1' INT HUP TERM

# The other checkout, built as this one is.
mkdir "$work/two" "$work/log"
tar -c Makefile LICENSE README.md include src tests examples "$B/src" \
	"$B/tests" "$B/examples" "$B"/libshmem.* "$B/shmemctl" | tar -x -C "$work/two" || exit 2
programs=$(find "$B/tests/unit" "$B/tests/crash" -name 'test_*' ! -name '*.*' | sort)

# What tests could leave. The pool's size under the lock that its users take.
look() {
	ls -A /dev/shm | sed 's|^|file /dev/shm/|'
	ls -d /tmp/shmtest.* 2>/dev/null | sed 's/^/file /'
	sed 's/^[^ ]* [^ ]* [^ ]* /mount /' /proc/self/mountinfo
	losetup -ln -O NAME,BACK-FILE 2>/dev/null | sed 's/^/loop /'
	for p in /sys/kernel/mm/hugepages/*; do
		echo "pages $p $(flock /sys/kernel/mm/hugepages cat "$p/nr_hugepages")"
	done
	find /sys/fs/cgroup -type d -name 'shmtest*' 2>/dev/null | sed 's/^/group /'
	for p in /proc/[0-9]*; do
		case $(readlink "$p/exe" 2>/dev/null) in
		"$PWD/$B/"* | "$work/"*) echo "process $(tr '\0' ' ' <"$p/cmdline")" ;;
		esac
	done
}

suite() { # DIRECTORY LOG
	(cd "$1" && exec env BUILD="$B" setsid -w tests/support/run.sh \
		$programs tests/install/*.sh) >"$2" 2>&1 </dev/null
}

finish() { # PID: an interrupt ends a wait, not the run
	while :; do
		wait "$1" && return 0
		kill -0 "$1" 2>/dev/null || return 1
	done
}

look >"$work/before"
passed=0 failed=0 skipped=0 runs=0 bad=0 i=0
while [ $i -lt "$n" ] && [ -z "$stop" ]; do
	i=$((i + 1))
	suite . "$work/log/1" & one=$!
	suite "$work/two" "$work/log/2" & two=$!
	finish $one
	finish $two
	for log in 1 2; do
		last=$(tail -n 1 "$work/log/$log")
		set -- $(echo "$last" | tr -d ,)
		case $last in
		*" passed, "*" failed, "*" skipped") ;;
		*) set -- 0 - 1 - 0 ;; # the run itself died
		esac
		runs=$((runs + 1))
		passed=$((passed + $1)) failed=$((failed + $3)) skipped=$((skipped + $5))
		if [ "$3" != 0 ]; then
			bad=$((bad + 1))
			echo "round $i, checkout $log:"
			sed -n '/^----/,/failed .* skipped$/p' "$work/log/$log"
		fi
		echo "round $i, checkout $log: $last"
	done
done
look >"$work/after"
left=$(diff "$work/before" "$work/after" | sed -n 's/^> /  /p')
[ -z "$left" ] || printf 'left, by these or by others who test here now:\n%s\n' "$left"
echo "$runs runs in $i rounds of two at once, $bad with a failure:" \
	"$passed passed, $failed failed, $skipped skipped;" \
	"left over: $(printf %s "$left" | grep -c .)"
[ $failed = 0 ] && [ -z "$left" ]
