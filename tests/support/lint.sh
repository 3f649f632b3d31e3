#!/bin/sh
# lint.sh - what `make lint` looks at: form, layers, warnings, static analysis,
# exported names, manual. Says what is wrong and exits 1.
cd "$(dirname "$0")/../.." || exit 2
B=${BUILD:-.build}/lint
mkdir -p "$B"
bad=0
say() { echo "lint: $*"; bad=1; }
need() {
	for tool; do
		command -v "$tool" >/dev/null || { "$MAKE" deps-all || exit 2; break; }
	done
}
need clang clang-tidy clang-format cppcheck groff nm python3

ours=$(ls src/*/*.[ch] include/*.h include/tmc/*.h)
code=$(find tests examples -name '*.[ch]' -o -name '*.[ch]pp' | sort)
lib=$(ls src/*/*.c)
flags="-std=gnu11 -D_GNU_SOURCE -Iinclude -Isrc/os -Isrc/arena -Isrc/heap -Isrc/api
	-Itests/support"
warn="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes
	-Wmissing-prototypes -Wundef -Werror"

# form
for f in $ours $code; do
	clang-format --dry-run -Werror "$f" 2>"$B/format" ||
		say "$f is not as .clang-format has it: clang-format -i $f"
	case $(sed -n 1p "$f") in
	*SPDX-License-Identifier:\ BSD-3-Clause*) ;;
	*) say "$f: line 1 is not the SPDX tag" ;;
	esac
	[ "$(wc -l <"$f")" -le 700 ] || say "$f: more than 700 lines"
done

# layers, lowest first: a file includes only what stands before it
layers="layout heap_layout heap_class poison call os users lock header place companion arena size
	open page view heap run span ring stray thread large block api"
included='s/^#include "\([a-z_]*\)\.h"/\1/p'
below=" "
for l in $layers; do
	below="$below$l "
	for f in $(ls src/*/$l.[ch] src/*/"$l"_*.[ch] 2>/dev/null | grep -v ctl/); do
		for i in $(sed -n "$included" "$f"); do
			case $below in
			*" $i "* | *" ${i%%_*} "*) ;; # or a part of such
			*) say "$f includes $i.h, which is above it" ;;
			esac
		done
	done
done
for i in $(sed -n "$included" src/arena/create.c); do
	case " layout poison os users lock header place companion arena size open " in
	*" $i "*) ;;
	*) say "src/arena/create.c includes $i.h, which is above it" ;;
	esac
done
grep -l 'sys/mman.h\|sys/syscall.h\|sys/stat.h\|<fcntl.h>\|<unistd.h>' src/arena/* src/heap/* src/api/* |
	grep -v '^src/os' | sed 's/$/: a kernel header above os/' >"$B/kernel"
[ ! -s "$B/kernel" ] || { cat "$B/kernel"; bad=1; }

# Reads commands, one a line, and runs as many of them at once as there are
# processors. Says which of them fail.
at_once() {
	xargs -P "$(nproc)" -I {} sh -c '{} || { echo "lint: {}"; exit 1; }'
}

# warnings, two compilers, three levels; in tests/fuzz the compiler is clang alone
{
	for f in $lib; do
		for o in -O0 -O2 -O3; do
			for cc in gcc clang; do
				echo $cc $flags $warn $o -c -o "$B/$cc$o.${f##*/}.o" "$f"
			done
		done
	done
	for f in $(echo "$code" | grep '\.c$' | grep -v /fuzz/); do
		echo gcc $flags $warn -O1 -fsyntax-only "$f"
	done
} | at_once || bad=1
for f in $(echo "$code" | grep '^examples/.*pp$'); do
	for cxx in g++ clang++; do
		$cxx -std=c++11 -Iinclude -Wall -Wextra -Wpedantic -Wshadow \
			-Wconversion -Werror -x c++ -fsyntax-only "$f" ||
			say "$cxx $f"
	done
done
for h in shmem.h tmc/alloc.h tmc/shmem.h tmc/mspace.h tmc/cmem.h; do
	echo "#include <$h>" >"$B/h.c"
	gcc -std=c11 -pedantic -Wall -Wextra -Werror -Iinclude -fsyntax-only \
		"$B/h.c" || say "$h does not stand alone in C11"
	g++ -std=c++11 -pedantic -Wall -Wextra -Werror -Iinclude -x c++ \
		-fsyntax-only "$B/h.c" || say "$h does not stand alone in C++"
done

# static analysis
for f in $lib; do
	echo clang-tidy --quiet "$f" -- $flags
done | at_once >"$B/tidy" 2>/dev/null || say "clang-tidy failed"
grep -E 'warning:|error:' "$B/tidy" && say clang-tidy
cppcheck --quiet --enable=warning,performance,portability --inline-suppr \
	--error-exitcode=1 --std=c11 -Iinclude -D__linux__ -D__LP64__ \
	-D__x86_64__ src || say cppcheck

# exported names: the map, the headers and the manual agree
"$MAKE" -s "${BUILD:-.build}/libshmem.so" || exit 2
nm -D --defined-only "${BUILD:-.build}/libshmem.so" |
	awk '$2 == "T" { sub(/@.*/, "", $3); print $3 }' | sort >"$B/exported"
cat include/tmc/*.h | tr '\n\t' '  ' | grep -o 'TMC_API [^;(]*(' |
	grep -o 'tmc_[a-z_]*(' | tr -d '(' | sort >"$B/declared"
diff "$B/declared" "$B/exported" >"$B/names" ||
	{ cat "$B/names"; say "headers (<) and exported names (>) differ"; }
sed -n 's/^\t\(tmc_[a-z_]*\);/\1/p' src/libshmem.map | sort |
	diff "$B/declared" - >"$B/names" ||
	{ cat "$B/names"; say "headers (<) and src/libshmem.map (>) differ"; }

# manual
for m in src/man/*.[1-9]; do
	if grep -q '^\.so ' "$m"; then # an alias
		[ -f "src/man/$(sed -n 's|^\.so man./||p' "$m")" ] ||
			say "$m: alias of nothing"
		continue
	fi
	groff -man -Tutf8 -ww "$m" 2>"$B/groff" >/dev/null
	[ ! -s "$B/groff" ] || { cat "$B/groff"; say "$m"; }
done
tests/support/manual.py || bad=1

# the top level
ls | sort | tr '\n' ' ' >"$B/top"
[ "$(cat "$B/top")" = "LICENSE Makefile README.md examples include src tests " ] ||
	say "top level: $(cat "$B/top")"

[ "$bad" = 0 ] && echo "lint: clean"
exit "$bad"
