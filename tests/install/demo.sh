#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# demo.sh - the examples work with each other: producer and consumer, server
# and client, each way. 77: skipped.
#
# What they say is compared with what each must have got from the other.

set -eu
[ -z "${SAN_FLAGS:-}" ] || {
	echo "examples are tested without SAN_FLAGS"
	exit 77
}
cd "$(dirname "$0")/../.."
out=$(mktemp)
trap 'rm -f "$out"' EXIT
trap 'exit 130' INT HUP TERM
bad=0

BUILD=${BUILD:-.build} examples/demo.sh >"$out" 2>&1 || {
	echo "FAILED: demo.sh ended with $?"
	bad=1
}

# has COUNT PATTERN: so many lines of the output are that.
has() {
	n=$(grep -c "^$2\$" "$out" || :)
	[ "$n" = "$1" ] || {
		echo "FAILED: $n lines, not $1: $2"
		bad=1
	}
}
number='[1-9][0-9]*' address='0x[0-9a-f]*'
has 1 "server: process $number wrote at $address: the first"
has 1 "server: process $number wrote at $address: the second"
has 2 "client: process $number has process $number's arena at $address, too"
has 1 "temp: process $number opened .* at $address: \"can you read this?\""
# Both sides of each pair have the same sum over what the producer wrote.
sums() { sed -n "s/^$1: .*checksum \([0-9a-f]*\).*/\1/p" "$out"; }
if [ -z "$(sums producer)" ] || [ "$(sums producer)" != "$(sums consumer)" ]; then
	echo "FAILED: checksums $(sums producer), $(sums consumer)"
	bad=1
fi
[ $bad = 0 ] || cat "$out"
exit $bad
