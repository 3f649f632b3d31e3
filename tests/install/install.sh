#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# install.sh - installs to a DESTDIR, uses it from there, uninstalls.
#
# Builds in a folder of its own, so that the user's PREFIX and flags do not
# matter and a first `make install` is tried. 77: skipped.

set -eu
if [ -n "${SAN_FLAGS:-}" ]; then
	echo "the installed library is not the sanitizers' business"
	exit 77
fi
cd "$(dirname "$0")/../.."
# What a make above us has given us is not for the ones below.
unset MAKEFLAGS MFLAGS MAKELEVEL BUILD CFLAGS CPPFLAGS LDFLAGS PREFIX LIBDIR
unset DESTDIR V || :
CC=${CC:-cc}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT HUP TERM
dest=$tmp/dest
warn="-Wall -Wextra -Wpedantic -Werror"

fail() {
	echo "FAILED: $*"
	exit 1
}

make_it() {
	make -s BUILD="$tmp/build" DESTDIR="$dest" PREFIX=/opt/some \
		LIBDIR=/opt/some/lib64 CC="$CC" "$@" >"$tmp/log" 2>&1 || {
		cat "$tmp/log"
		fail "make $*"
	}
}

# Built for another prefix first: what counts is the one of the install.
make_it -j4 PREFIX=/usr/local LIBDIR=/usr/local/lib all
make_it install
lib=$dest/opt/some/lib64
so=$lib/libshmem.so.0

for f in include/shmem.h include/tmc/alloc.h include/tmc/shmem.h \
	lib64/libshmem.a lib64/libshmem.so lib64/libshmem.so.0 \
	lib64/pkgconfig/shmem.pc bin/shmemctl \
	share/bash-completion/completions/shmemctl; do
	[ -e "$dest/opt/some/$f" ] || fail "$f is not installed"
done
for m in src/man/*.[1-9]; do
	[ -e "$m" ] || continue
	[ -e "$dest/opt/some/share/man/man${m##*.}/$(basename "$m")" ] ||
		fail "$(basename "$m") is not installed"
done
for h in include/tmc/*.h; do
	cmp "$h" "$dest/opt/some/$h" || fail "$h differs"
done

# ----- shmem.pc; where pkg-config is missing, read as it would be
pc=$lib/pkgconfig/shmem.pc
if command -v pkg-config >/dev/null 2>&1; then
	flags() {
		PKG_CONFIG_LIBDIR=$lib/pkgconfig \
		PKG_CONFIG_SYSROOT_DIR=$dest pkg-config "$@" shmem
	}
else
	flags() {
		for f; do
			case $f in
			--cflags) echo "-I$dest/opt/some/include" ;;
			--libs) echo "-L$lib -lshmem" ;;
			esac
		done
	}
fi
grep -q '^prefix=/opt/some$' "$pc" || fail "shmem.pc: $(grep ^prefix= "$pc")"
grep -q '^libdir=/opt/some/lib64$' "$pc" ||
	fail "shmem.pc: $(grep ^libdir= "$pc")"
grep -q "^Version: $(sed -n 's/^VERSION *= *//p' Makefile)\$" "$pc" ||
	fail "shmem.pc: $(grep ^Version: "$pc")"
! flags --cflags | grep -q GNU_SOURCE || fail "_GNU_SOURCE in shmem.pc"

# ----- C: shared through pkg-config, the archive, each header alone
src=tests/install/consumer.c
# shellcheck disable=SC2046,SC2086
$CC -std=c11 -pedantic $warn $(flags --cflags) -o "$tmp/shared" $src \
	$(flags --libs) || fail "C, shared"
LD_LIBRARY_PATH=$lib "$tmp/shared" || fail "C, shared, runs"
# shellcheck disable=SC2046,SC2086
$CC -std=c11 -pedantic $warn $(flags --cflags) -o "$tmp/static" $src \
	"$lib/libshmem.a" -pthread || fail "C, archive"
"$tmp/static" || fail "C, archive, runs"
(cd "$dest/opt/some/include" && find . -name '*.h') >"$tmp/headers"
while read -r h; do
	printf '#include "%s"\n#include "%s"\nint main(void) { return 0; }\n' \
		"$h" "$h" >"$tmp/alone.c"
	# shellcheck disable=SC2046,SC2086
	$CC -std=c11 -pedantic $warn $(flags --cflags) -o "$tmp/alone" \
		"$tmp/alone.c" || fail "C, $h alone"
done <"$tmp/headers"

# ----- the shared library
nm -D --defined-only "$so" | awk '$2 != "A" { print $3 }' |
	sed 's/@.*//' | sort >"$tmp/symbols"
! grep -v '^tmc_' "$tmp/symbols" || fail "symbols that are not tmc_*"
grep -hv '^#' include/tmc/*.h | tr '\n' ' ' |
	grep -o 'TMC_API [^;]*(' | sed 's/(.*//; s/.*[ *]//' | sort -u \
	>"$tmp/declared"
[ -s "$tmp/declared" ] || fail "no declarations found"
while read -r s; do
	grep -qx "$s" "$tmp/symbols" || fail "$s is not exported"
done <"$tmp/declared"
readelf -dW "$so" >"$tmp/dynamic"
grep -q 'SONAME.*\[libshmem\.so\.0\]' "$tmp/dynamic" || fail "soname"
grep -qE 'BIND_NOW|FLAGS_1.*NOW' "$tmp/dynamic" || fail "BIND_NOW"
! grep -qE 'RPATH|RUNPATH|TEXTREL' "$tmp/dynamic" || fail "run path"
readelf -lW "$so" | grep -q GNU_RELRO || fail "RELRO"
! readelf -lW "$so" | grep GNU_STACK | grep -q RWE || fail "stack"
! grep NEEDED "$tmp/dynamic" |
	grep -vE '\[(libc|ld-linux[^]]*|libpthread)\.' ||
	fail "needs more than libc"
[ "$(readlink "$lib/libshmem.so")" = libshmem.so.0 ] || fail "link"

# ----- the command, which needs no library of ours
version=$(sed -n 's/^VERSION *= *//p' Makefile)
[ "$("$dest/opt/some/bin/shmemctl" --version)" = "shmemctl $version" ] ||
	fail "shmemctl --version"

make_it uninstall
left=$(find "$dest" ! -type d)
[ -z "$left" ] || fail "uninstall leaves $left"
[ ! -d "$dest/opt/some/include/tmc" ] || fail "uninstall leaves include/tmc"

# ----- a folder with a space in its name; what has the first half of it stays
dest="$tmp/the dest"
echo kept >"$tmp/the"
make_it install
[ -e "$dest/opt/some/include/tmc/alloc.h" ] || fail "install to $dest"
make_it uninstall
left=$(find "$dest" ! -type d)
[ -z "$left" ] || fail "uninstall leaves $left"
[ -e "$tmp/the" ] || fail "uninstall removes $tmp/the"
