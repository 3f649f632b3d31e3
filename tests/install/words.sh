#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# words.sh - shmemctl's manual, help and bash completion have the same words.
# 77: skipped.

set -eu
[ -n "${BASH_VERSION:-}" ] || {
	command -v bash >/dev/null 2>&1 || {
		echo "no bash"
		exit 77
	}
	exec bash "$0"
}
cd "$(dirname "$0")/../.."
PATH=$(cd "${BUILD:-.build}" && pwd):$PATH
page=src/man/shmemctl.1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT HUP TERM
bad=0
fail() {
	echo "FAILED: $*"
	bad=1
}

commands=$(shmemctl --help | sed -n 's/^  \([a-z][a-z]*\) .*/\1/p')
[ "$(echo "$commands" | wc -l)" = 10 ] || fail "commands: $commands"

# What $COMP_WORDS could go on with, the last one being what is typed so far.
. src/shmemctl/shmemctl.bash
complete_words() {
	COMP_WORDS=(shmemctl "$@")
	COMP_CWORD=$#
	COMPREPLY=()
	_shmemctl
	printf '%s\n' "${COMPREPLY[@]}" | sort
}
same() {
	[ "$1" = "$2" ] || fail "$3: $1, not $2"
}
complete -p shmemctl >/dev/null || fail "nothing completes shmemctl"

same "$(complete_words '' | grep -v '^-')" "$(echo "$commands" | sort)" \
	"commands"
same "$(complete_words st)" stat st
same "$(complete_words --v)" --version --v
for c in $commands; do
	grep -q "^\.SS $c\$" "$page" || fail "no $c in the manual"
	grep -q "shmemctl $c " "$page" || fail "no $c in the synopsis"
	options=$(shmemctl "$c" --help | grep -o -- '--[a-z][a-z-]*' | sort -u)
	for o in $options; do
		grep -q -- "$(echo "$o" | sed 's/-/\\\\-/g')" "$page" ||
			fail "no $o of $c in the manual"
		# It is one: what is said of it is not that it is unknown.
		shmemctl "$c" "$o" --help 2>&1 </dev/null |
			grep -q 'not understood' && fail "$c has no $o"
	done
	same "$(complete_words "$c" --)" \
		"$(printf '%s\n' $options --help | sort)" "$c --"
done
# The manual has none that the program has not.
sed -n 's/\\-/-/g; s/^\.BR* .*\(--[a-z][a-z-]*\).*/\1/p' "$page" | sort -u |
	while read -r o; do
		case $o in
		--help | --version) continue ;;
		esac
		for c in $commands; do
			shmemctl "$c" --help
		done | grep -q -- "$o" || echo "$o"
	done >"$tmp/more"
[ ! -s "$tmp/more" ] || fail "in the manual only: $(cat "$tmp/more")"

mkdir "$tmp/folder"
: >"$tmp/file"
same "$(complete_words stat "$tmp/f")" "$(printf '%s\n' "$tmp/file" \
	"$tmp/folder")" "stat, a file"
same "$(complete_words gc "$tmp/f")" "$tmp/folder" "gc, a folder"
same "$(complete_words ls "$tmp/f")" "$(printf '%s\n' "$tmp/file" \
	"$tmp/folder")" "ls, both"
same "$(complete_words gc "$tmp/folder" "$tmp/f")" "" "gc, one only"
# One word each, whatever is in it; a star stays one.
mkdir "$tmp/odd"
: >"$tmp/odd/with space"
: >"$tmp/odd/with *"
same "$(complete_words rm "$tmp/odd/w")" "$(printf '%s\n' \
	"$tmp/odd/with *" "$tmp/odd/with space")" "rm, odd names"
# What an option takes is no path, and the path comes behind it.
for before in '-s 8M' '--size 8M' '--size = 8M' '--thp' '-s 8M -m 640'; do
	# shellcheck disable=SC2086
	same "$(complete_words create $before "$tmp/fi")" "$tmp/file" \
		"create $before, a file"
done
same "$(complete_words create -s '')$(complete_words create --size = '')" "" \
	"create -s, a size"
same "$(complete_words map -n 5 "$tmp/fi")" "$tmp/file" "map -n 5, a file"
complete_words why "$tmp/file" '' | grep -qx $$ || fail "why, a process"
same "$(complete_words grow "$tmp/file" '')" "" "grow, a number"
exit $bad
