# Leaves behind what the next command of the session shall find. Run at the end of each command, also by its EXIT trap.
# Nothing here may depend on options or on functions that the command has set.
builtin set +eux
IFS=$' \t\n'
if [ -e "$__aedile_state" ]; then
    builtin pwd -P >|"$__aedile_state.cwd" 2>/dev/null
    {
        for __aedile_name in $(builtin compgen -v); do
            case $__aedile_name in
                __aedile_* | _ | BASH* | COMP_* | DIRSTACK | EPOCH* | EUID | FUNCNAME | GROUPS | HISTCMD | IFS | LINENO | OPT* | PIPESTATUS | PPID | PWD | RANDOM | SECONDS | SHELLOPTS | SHLVL | SRANDOM | UID) ;;
                *) builtin declare -p "$__aedile_name" ;;
            esac
        done
        builtin declare -f
        builtin echo '# whole'
    } >|"$__aedile_state" 2>/dev/null
fi
