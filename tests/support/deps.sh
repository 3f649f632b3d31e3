#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# deps.sh - installs the Debian packages named, or says how. deps.sh PACKAGE...

missing=
for p; do
	s=$(dpkg-query -W -f '${Status}' "$p" 2>/dev/null) || s=
	[ "$s" = "install ok installed" ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
	echo "installing:$missing"
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2086
	if apt-get update -qq >/dev/null &&
	   apt-get install -y -qq --no-install-recommends $missing >/dev/null
	then
		exit 0
	fi
	echo "could not install:$missing" >&2
	exit 1
fi
echo "missing:$missing; give this command, then try again:" >&2
echo "    sudo apt-get install$missing" >&2
exit 1
