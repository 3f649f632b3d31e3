# SPDX-License-Identifier: BSD-3-Clause
# shmemctl.bash - completes shmemctl's words in bash, from what its --help says
#
# shellcheck disable=SC2207

_shmemctl() {
	local word=${COMP_WORDS[COMP_CWORD]} command= i arguments=0
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-*) ;;
		*) if [ -z "$command" ]; then
			command=${COMP_WORDS[i]}
		else
			arguments=$((arguments + 1))
		fi ;;
		esac
	done
	if [ -z "$command" ]; then
		COMPREPLY=($(compgen -W "--help --version $(
			shmemctl --help 2>/dev/null |
				sed -n 's/^  \([a-z][a-z]*\) .*/\1/p')" \
			-- "$word"))
		return
	fi
	case $word in
	-*)
		COMPREPLY=($(compgen -W "$(
			shmemctl "$command" --help 2>/dev/null |
				grep -o -- '--[a-z][a-z-]*' | sort -u) --help" \
			-- "$word"))
		return
		;;
	esac
	case $command/$arguments in
	ls/* | gc/*)
		COMPREPLY=($(compgen -d -- "$word"))
		compopt -o filenames 2>/dev/null
		;;
	why/1)
		COMPREPLY=($(compgen -W "$(cd /proc && echo [0-9]*)" \
			-- "$word"))
		;;
	rm/* | */0)
		COMPREPLY=($(compgen -f -- "${word:-/dev/shm/}"))
		compopt -o filenames 2>/dev/null
		;;
	esac
}
complete -F _shmemctl shmemctl
