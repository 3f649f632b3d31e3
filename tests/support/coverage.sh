#!/bin/sh
# coverage.sh DIR - lines of src/ that a run of DIR's build has executed
cd "$(dirname "$0")/../.." || exit 2
mkdir -p "$1/report"
total=0 hit=0
for f in src/*.c; do
	o=$1/${f%.c}.o
	# With the headers that it includes, one file after the other.
	gcov -o "$(dirname "$o")" -t "$f" 2>/dev/null >"$1/report/$(basename "$f").gcov"
	set -- "$1" $(awk -F: -v name="$f" '
		/:Source:/ { ours = $0 ~ "/" name "$" || $0 ~ "Source:" name "$" }
		!ours { next } # those of a header
		{ n = $1; gsub(/[ *]/, "", n) }
		n == "-" { next }
		{ all++ }
		n == "#####" || n == "=====" { next }
		{ hit++ }
		END { print all + 0, hit + 0 }' "$1/report/$(basename "$f").gcov")
	[ "$2" -gt 0 ] || continue
	printf '%-22s %4d of %4d lines, %5.1f %%\n' "$f" "$3" "$2" \
		"$(echo "$3 $2" | awk '{ print 100 * $1 / $2 }')"
	total=$((total + $2)) hit=$((hit + $3))
done
echo "not run:"
grep -H '#####' "$1"/report/*.gcov | grep -v VALGRIND_PRINTF | sed 's/^.*report\///; s/\.gcov: *#####: */ /'
echo "$hit $total" | awk '{ printf "coverage: %d of %d lines of src, %.1f %%\n", $1, $2, 100 * $1 / $2
	exit $1 / $2 < 0.95 }'
