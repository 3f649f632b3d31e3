#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# cplusplus.sh - the headers and the library from C++. 77: skipped.

set -eu
cd "$(dirname "$0")/../.."
if [ -n "${SAN_FLAGS:-}" ]; then
	echo "the installed library is not the sanitizers' business"
	exit 77
fi
if ! CXX=$(command -v "${CXX:-c++}"); then
	echo "no C++ compiler"
	exit 77
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT HUP TERM
warn="-Wall -Wextra -Wpedantic -Werror"

for std in c++11 c++17; do
	for h in shmem.h tmc/alloc.h tmc/shmem.h; do
		echo "#include <$h>" >"$tmp/alone.cc"
		# shellcheck disable=SC2086
		"$CXX" -std=$std -pedantic $warn -Iinclude -fsyntax-only \
			"$tmp/alone.cc"
	done
	# shellcheck disable=SC2086
	"$CXX" -std=$std -pedantic $warn -Iinclude -o "$tmp/consumer" \
		-x c++ tests/install/consumer.c -x none \
		"${BUILD:-.build}/libshmem.a" -pthread
	"$tmp/consumer"
done
