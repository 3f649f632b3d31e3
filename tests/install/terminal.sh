#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# terminal.sh - shmemctl at a real terminal, of 80 and 200 columns. 77: skipped.
#
# tmux is the terminal; what it shows is compared with text. What varies is
# masked: M is this script's folder, N a number of a process, A an address.

set -eu
command -v tmux >/dev/null 2>&1 || {
	echo "no tmux"
	exit 77
}
cd "$(dirname "$0")/../.."
build=$(cd "${BUILD:-.build}" && pwd)
ctl=$build/shmemctl
# Only its own processes and /dev/shm are to be seen.
if [ -z "${INSIDE:-}" ]; then
	if [ "$(id -u)" != 0 ] ||
		! unshare --pid --mount --fork --mount-proc true 2>/dev/null; then
		echo "needs namespaces of its own: root and unshare"
		exit 77
	fi
	INSIDE=1 exec unshare --pid --mount --fork --kill-child --mount-proc \
		sh "$0"
fi
mount -t tmpfs none /dev/shm

tmp=$(mktemp -d)
holder=
mux() { TMUX='' tmux -S "$tmp/socket" -f /dev/null "$@"; }
quit() {
	mux kill-server 2>/dev/null || :
	[ -z "$holder" ] || kill "$holder"
	rm -rf "$tmp"
}
trap quit EXIT
trap 'exit 130' INT HUP TERM
unset COLUMNS NO_COLOR || :
bad=0 shot=0

# A shell in a terminal of $1 columns.
terminal() {
	columns=$1
	mux -u new-session -d -s s -x "$columns" -y 50 \
		"exec env LC_ALL=C.UTF-8 PS1= TERM=screen-256color sh"
}

# Runs $1 there, and has what is on the screen then in $tmp/screen; $2: options
# of capture-pane. The terminal does not show what is typed.
shoot() {
	shot=$((shot + 1))
	printf '%s\n' "$1" >"$tmp/command"
	mux send-keys -l "stty -echo; clear; . $tmp/command; echo \$? >$tmp/code; tmux -S $tmp/socket wait-for -S shot$shot"
	mux send-keys Enter
	mux wait-for "shot$shot"
	# shellcheck disable=SC2086
	mux capture-pane -p ${2:-} | sed -e "s|$tmp|M|g" >"$tmp/screen"
}

# The screen, masked by the sed script $1, is what comes on standard input.
shows() {
	sed -e "$1" -e 's/ *$//' "$tmp/screen" |
		sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' >"$tmp/found"
	sed 's/^	*|//' >"$tmp/wanted"
	diff "$tmp/wanted" "$tmp/found" >"$tmp/diff" || {
		echo "FAILED: $columns columns:"
		cat "$tmp/diff"
		bad=1
	}
}

must() {
	"$@" || {
		echo "FAILED: $columns columns: $*"
		cat "$tmp/screen"
		bad=1
	}
}

mkdir "$tmp/a-folder-with-a-name-that-is-quite-long"
long=$tmp/a-folder-with-a-name-that-is-quite-long
"$ctl" create -s 8M /dev/shm/demo 1G >/dev/null
"$ctl" create -s 4K "$long/table" 64M >/dev/null
"$ctl" create -s 4K /dev/shm/worn 64M >/dev/null
printf '\002' | dd of=/dev/shm/worn bs=1 seek=8 conv=notrunc 2>/dev/null
# Who has it open, if not through the library; up to here it may be sh yet.
tail -f /dev/null </dev/shm/demo &
holder=$!
until grep -q '^tail$' "/proc/$holder/comm"; do :; done
mask='s/[0-9][0-9]* tail\>/N tail/g; s/0x[0-9a-f]*  */A /g'

small() {
	shoot "$ctl ls $long"
	shows "$mask" <<-'EOF'
		|NAME                          SIZE  MAX  USED  PAGE  STATE    OPEN BY
		|/dev/shm/demo                   8M   1G    8M    4K  open     N tail
		|/dev/shm/worn                    -    -   20K     -  damaged  format: this shme…
		|M/a-folder-with-a-name-that-is-quite-long/table
		|                                4K  64M   20K    4K  stale
		|shmemctl: 1 arena is damaged
	EOF
	must test "$(cat "$tmp/code")" = 1
}

large() {
	shoot "$ctl ls $long"
	shows "$mask; s/NAME */NAME /; s/table */table /; s/demo */demo /; s/worn */worn /" <<-'EOF'
		|NAME SIZE  MAX  USED  PAGE  STATE    OPEN BY
		|/dev/shm/demo 8M   1G    8M    4K  open     N tail
		|/dev/shm/worn -    -   20K     -  damaged  format: this shmemctl knows format 1
		|M/a-folder-with-a-name-that-is-quite-long/table 4K  64M   20K    4K  stale
		|shmemctl: 1 arena is damaged
	EOF
}

both() {
	shoot "$ctl stat /dev/shm/demo"
	shows "$mask; s/^\(  token *\)[0-9a-f]*/\1T/; s/^  *[0-9][0-9]*  tail/  N  tail/" <<-'EOF'
		|/dev/shm/demo
		|  file      10485760                 length of the named file, bytes
		|  magic     A says that this is an arena, and byte order
		|  format    1                        of the file
		|  abi       A sizes that all users must have in common
		|  checksum  A over the fields that never change
		|  address   A of its first byte, in every process
		|  maximum   1073741824 (1G)          bytes that it can grow to
		|  page      4096 (4K)                its page size, bytes
		|  flags     populate                 populate: pages present; thp: huge hint
		|  token     T random; in the companion's name
		|  huge      0                        inode of the companion; 0: small pages
		|  size      8388608 (8M)             bytes in use
		|  room      8388608 (8M)             bytes that the file has for them
		|  ahead     0                        length on the way to it, by grows; 0: none
		|  epoch     1                        times that pages beyond size were dropped
		|  root      0                        the application's pointer
		|  deaths    0                        owners of the lock that died in it
		|  lock      free, 4                  slot of its owner, count of changes
		|  memory    8M in the file
		|  mode      0600, user 0, group 0
		|open, not through the library
		|  N  tail             reads
	EOF
	must test "$(cat "$tmp/code")" = 0

	# Nothing that is shown is wider than the terminal: no line is broken,
	# so that it is the same when broken ones are joined.
	mux clear-history
	shoot "for c in 'ls $long' 'stat /dev/shm/demo' 'check /dev/shm/demo' \
		'map /dev/shm/demo' 'heap /dev/shm/demo' 'gc -n /dev/shm' --help \
		'ls --help' 'stat --help' 'check --help' 'create --help' \
		'grow --help' 'rm --help' 'gc --help' 'why --help' \
		'map --help' 'heap --help' 'why /dev/shm/demo 1'; do
		$ctl \$c; done" "-S -"
	sed 's/ *$//' "$tmp/screen" >"$tmp/as-shown"
	mux capture-pane -p -S - -J | sed -e "s|$tmp|M|g" -e 's/ *$//' \
		>"$tmp/screen"
	must diff "$tmp/as-shown" "$tmp/screen"
	must test "$(grep -c '^usage: shmemctl' "$tmp/screen")" = 11
	mux clear-history

	# Colours, and none for who wants none.
	shoot "$ctl ls" -e
	must grep -q "$(printf '\033')\[32mopen" "$tmp/screen"
	shoot "NO_COLOR=1 $ctl ls" -e
	must grep -q ' open ' "$tmp/screen"
	must sh -c "! grep -q '$(printf '\033')\[32m' '$tmp/screen'"

	# A bar at a terminal, and none into a pipe or for what is done at once.
	"$ctl" create -s 8M /dev/shm/grown 1G >/dev/null
	shoot "$ctl grow /dev/shm/grown 64M"
	bar=$(sed -n 1p "$tmp/screen")
	must test "${bar%%\]*}]${bar##*\]}" = \
		"[$(printf '%*s' "$1" '' | tr ' ' '#')] 100 %  64M of 64M"
	must test "$(sed -n 2p "$tmp/screen")" = \
		"/dev/shm/grown: grown by 64M to 72M"
	shoot "$ctl grow /dev/shm/grown 64M 2>&1 | cat"
	must test "$(sed -n 1p "$tmp/screen")" = \
		"/dev/shm/grown: grown by 64M to 136M"

	"$ctl" rm /dev/shm/grown

	# gc asks, and does nothing at a no.
	shoot "echo n | $ctl gc $long"
	must grep -q 'nothing is removed without --yes' "$tmp/screen"
}

for c in 80 200; do
	terminal $c
	case $c in
	80) small && both 50 ;;
	200) large && both 60 ;;
	esac
	mux kill-server
	rm -f "$tmp/socket"
done
exit $bad
