# SPDX-License-Identifier: BSD-3-Clause
# shmemctl.bash - completes shmemctl's words in bash, from what its --help says

# $1: a command, or "": its options, or its options with a value.
_shmemctl_options() {
	# shellcheck disable=SC2086
	shmemctl $1 --help 2>/dev/null | case ${2-} in
	values)
		# "-s, --size SIZE      grow it ..." has two; so has --size=SIZE.
		sed -n 's/^  *\(-[a-zA-Z], \)\{0,1\}\(--[a-z-]*\)[ =]\([A-Z][A-Z]*\) .*/\1\2/p' |
			tr ',\n' '  '
		;;
	*)
		grep -o -- '--[a-z][a-z-]*' | sort -u
		;;
	esac
}

_shmemctl() {
	local word=${COMP_WORDS[COMP_CWORD]} command='' values='' i arguments=0
	local value=0 # 1: the word that comes is an option's
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		if ((value)); then
			value=0
			# Bash takes --size=8M for three words.
			[ "${COMP_WORDS[i]}" != = ] || value=1
			continue
		fi
		case ${COMP_WORDS[i]} in
		-*)
			case " $values " in
			*" ${COMP_WORDS[i]} "*) value=1 ;;
			esac
			;;
		*) if [ -z "$command" ]; then
			command=${COMP_WORDS[i]}
			values=$(_shmemctl_options "$command" values)
		else
			arguments=$((arguments + 1))
		fi ;;
		esac
	done
	((!value)) || return 0
	if [ -z "$command" ]; then
		mapfile -t COMPREPLY < <(compgen -W "--help --version $(
			shmemctl --help 2>/dev/null |
				sed -n 's/^  \([a-z][a-z]*\) .*/\1/p')" \
			-- "$word")
		return
	fi
	case $word in
	-*)
		mapfile -t COMPREPLY < <(compgen -W \
			"$(_shmemctl_options "$command") --help" -- "$word")
		return
		;;
	esac
	case $command/$arguments in
	gc/0)
		mapfile -t COMPREPLY < <(compgen -d -- "$word")
		compopt -o filenames 2>/dev/null
		;;
	why/1)
		mapfile -t COMPREPLY < <(compgen -W "$(cd /proc &&
			echo [0-9]*)" -- "$word")
		;;
	rm/* | ls/* | */0)
		mapfile -t COMPREPLY < <(compgen -f -- "${word:-/dev/shm/}")
		compopt -o filenames 2>/dev/null
		;;
	esac
}
complete -F _shmemctl shmemctl
