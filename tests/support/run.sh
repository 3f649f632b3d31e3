#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# run.sh - runs tests and counts. run.sh PROGRAM|SCRIPT.sh...
#
# A program is one with cmocka; a script is one test, 77 says skipped. Each
# has 120 seconds (TEST_TIMEOUT), for the sanitizers' sake. What a failed one
# printed is shown. Programs are run under $UNDER. The last line is `N passed,
# N failed, N skipped`.

out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
trap 'exit 130' INT HUP TERM
passed=0 failed=0 skipped=0 names=

# Sum of the numbers in cmocka's lines "[ $1 ] N test(s)".
count() {
	sed -n "s/^\[ *$1 *\] \([0-9][0-9]*\) test(s).*/\1/p" "$out" |
		{ n=0; while read -r i; do n=$((n + i)); done; echo $n; }
}

judge_program() {
	p=$(count PASSED) f=$(count FAILED) s=$(count SKIPPED)
	# Died, or a fixture failed: something that no test's line tells.
	[ "$1" = 0 ] || [ "$f" != 0 ] || f=1
	[ "$s" = 0 ] || names="$names
$(sed -n 's/^\[ *SKIPPED *\] \([A-Za-z_][A-Za-z0-9_]*\)$/\1/p' "$out" |
	sort -u | sed "s|^|    $2: |")"
}

judge_script() {
	p=0 f=0 s=0
	case $1 in
	0) p=1 ;;
	77) s=1 names="$names
    $2: $(tail -n 1 "$out")" ;;
	*) f=1 ;;
	esac
}

for t; do
	name=$(basename "$t")
	case $t in
	*.sh) shell=sh ;;
	*) shell=$UNDER ;;
	esac
	# In our process group: an interrupt reaches the test itself.
	timeout --foreground -k 5 "${TEST_TIMEOUT:-120}" \
		$shell "$t" >"$out" 2>&1 </dev/null
	rc=$?
	case $t in
	*.sh) judge_script $rc "$name" ;;
	*) judge_program $rc "$name" ;;
	esac
	if [ "$f" != 0 ]; then
		echo "---- $t (exit $rc):"
		cat "$out"
		[ $rc != 124 ] || echo "timed out"
	fi
	# A soak is for its figures, too.
	[ -z "${SOAK:-}" ] || grep -v '^\[' "$out"
	printf '%-32s %3d passed %3d failed %3d skipped\n' \
		"$name" "$p" "$f" "$s"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
[ -z "$names" ] || echo "skipped:$names"
[ $((passed + failed)) != 0 ] || echo "no test ran"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ] && [ $passed != 0 ]
