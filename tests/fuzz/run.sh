#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# run.sh - builds and runs the fuzzers, two at once. run.sh [SECONDS|NUMBERx]
#
# Each of the four runs for SECONDS (60), or for NUMBER executions where an x
# follows; ONLY="heap calls" names those that are wanted. Findings go to $BUILD/fuzz, the corpus grows there; `run.sh merge`
# puts what adds coverage into tests/fuzz/corpus. 77 without clang.

cd "$(dirname "$0")/../.." || exit 1
out=${BUILD:-.build}/fuzz
cc=${FUZZ_CC:-clang}
much=${1:-60}
names=${ONLY:-header calls heap heap_forged}

if ! echo 'int LLVMFuzzerTestOneInput(void); int LLVMFuzzerTestOneInput(void)
	{ return 0; }' | $cc -x c - -o /dev/null -fsanitize=fuzzer 2>/dev/null
then
	echo "no clang with libFuzzer"
	exit 77
fi
mkdir -p "$out"
for name in $names; do
	case $name in
	heap_forged) wrap=-Wl,--wrap=__sanitizer_cov_8bit_counters_init ;;
	*) wrap= ;;
	esac
	$cc -O1 -g -fno-omit-frame-pointer -std=gnu11 -D_GNU_SOURCE \
		-DTMC_VERSION='"fuzz"' -Iinclude -Isrc/os -Isrc/arena -Isrc/heap -Isrc/api \
		-Itests/support \
		-Wall -Wno-unused-function -ftls-model=initial-exec \
		-fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=all $FUZZ_CFLAGS $wrap \
		-o "$out/fuzz_$name" "tests/fuzz/fuzz_$name.c" \
		tests/support/box.c tests/support/guard.c \
		$(ls src/os/*.c src/arena/*.c src/heap/*.c src/api/*.c) -pthread || exit 1
done

case $much in
merge)
	for name in $names; do
		mkdir -p "tests/fuzz/corpus/$name"
		new=$(mktemp -d) || exit 1
		"$out/fuzz_$name" -set_cover_merge=1 "$new" \
			"tests/fuzz/corpus/$name" "$out/$name" \
			>"$out/$name.log" 2>&1 || exit 1
		cp "$new"/* "tests/fuzz/corpus/$name" && rm -rf "$new"
	done
	du -sb tests/fuzz/corpus/*
	exit ;;
*x) limit=-runs=${much%x} ;;
*) limit=-max_total_time=$much ;;
esac

# fuzz NAME
fuzz() {
	case $1 in
	header) longest=226 ;;
	calls) longest=160 ;;
	*) longest=300 ;;
	esac
	mkdir -p "$out/$1"
	"$out/fuzz_$1" $limit -max_len=$longest -timeout=$patience \
		-rss_limit_mb=4096 -print_final_stats=1 \
		-artifact_prefix="$out/$1-" "$out/$1" \
		"tests/fuzz/corpus/$1" >"$out/$1.log" 2>&1
}

# A child of heap_forged has its own, shorter patience.
patience=100
failed=0 pids=
trap 'kill $pids 2>/dev/null; exit 130' INT HUP TERM
both() {
	for name; do
		fuzz "$name" & pids="$pids $!"
	done
	for pid in $pids; do
		wait "$pid" || failed=1
	done
	pids=
	for name; do
		runs=$(sed -n 's/^stat::number_of_executed_units: *//p' \
			"$out/$name.log")
		rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' \
			"$out/$name.log")
		echo "fuzz_$name: ${runs:-0} executions, ${rate:-0} a second"
	done
}

set -- $names
while [ $# -gt 1 ]; do
	both "$1" "$2"
	shift 2
done
[ $# = 0 ] || both "$1"
[ $failed = 0 ] || tail -n 40 "$out"/*.log
exit $failed
