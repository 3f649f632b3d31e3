#!/bin/sh
# cross.sh - clean builds for other machines, and a smoke run where qemu can
cd "$(dirname "$0")/../.." || exit 2
B=${BUILD:-.build}
bad=0
for m in aarch64 riscv64; do
	cc=$m-linux-gnu-gcc
	if ! command -v "$cc" >/dev/null; then
		echo "cross: $m left out, no $cc (make deps-all)"
		continue
	fi
	"$MAKE" -s CC="$cc" CXX="$m-linux-gnu-g++" \
		AR="$m-linux-gnu-ar" BUILD="$B/$m" \
		WERROR=-Werror LDFLAGS=-static all 2>"$B/cross.$m" ||
		"$MAKE" -s CC="$cc" CXX="$m-linux-gnu-g++" \
		AR="$m-linux-gnu-ar" BUILD="$B/$m" \
			WERROR=-Werror all || { bad=1; continue; }
	echo "cross: $m builds clean"
	qemu=$(command -v "qemu-$m-static" || command -v "qemu-$m") || continue
	if QEMU_LD_PREFIX=/usr/$m-linux-gnu "$qemu" "$B/$m/examples/private"; then
		echo "cross: $m runs examples/private under $qemu"
	else
		echo "cross: $m does not run under $qemu"
		bad=1
	fi
done
exit $bad
