# Completion of hgbuild for bash. Made by 'cargo run -p hg-tests --bin manuals':
# change the program's table instead.

_hgbuild() {
    local cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
    # An address is one word, although readline ends words at colons.
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref -n =: cur words cword
    fi
    local at='hgbuild' option='' i
    COMPREPLY=()
    for ((i = 1; i < cword; i++)); do
        if [[ -n $option ]]; then
            option=''
            continue
        fi
        case "$at ${words[i]}" in
            'hgbuild completions -'*) ;;
            'hgbuild explain -'*) ;;
            'hgbuild explain '*)
                declare -F _command_offset >/dev/null && _command_offset "$i"
                return ;;
            'hgbuild cache verify -'*) ;;
            'hgbuild cache prune --max-size') option=${words[i]} ;;
            'hgbuild cache prune -'*) ;;
            'hgbuild cache clear -'*) ;;
            'hgbuild cache zero -'*) ;;
            'hgbuild cache stats -'*) ;;
            'hgbuild cache stats') at='hgbuild cache stats' ;;
            'hgbuild cache zero') at='hgbuild cache zero' ;;
            'hgbuild cache clear') at='hgbuild cache clear' ;;
            'hgbuild cache prune') at='hgbuild cache prune' ;;
            'hgbuild cache verify') at='hgbuild cache verify' ;;
            'hgbuild cache -'*) ;;
            'hgbuild ship --language') option=${words[i]} ;;
            'hgbuild ship -'*) ;;
            'hgbuild config -'*) ;;
            'hgbuild doctor -'*) ;;
            'hgbuild leave -'*) ;;
            'hgbuild join --coordinator') option=${words[i]} ;;
            'hgbuild join -'*) ;;
            'hgbuild top --interval') option=${words[i]} ;;
            'hgbuild top -'*) ;;
            'hgbuild workers -'*) ;;
            'hgbuild status -'*) ;;
            'hgbuild status') at='hgbuild status' ;;
            'hgbuild workers') at='hgbuild workers' ;;
            'hgbuild top') at='hgbuild top' ;;
            'hgbuild join') at='hgbuild join' ;;
            'hgbuild leave') at='hgbuild leave' ;;
            'hgbuild doctor') at='hgbuild doctor' ;;
            'hgbuild config') at='hgbuild config' ;;
            'hgbuild ship') at='hgbuild ship' ;;
            'hgbuild cache') at='hgbuild cache' ;;
            'hgbuild explain') at='hgbuild explain' ;;
            'hgbuild completions') at='hgbuild completions' ;;
            'hgbuild --trace' | 'hgbuild --coordinator' | 'hgbuild --tls-ca' | 'hgbuild --tls-cert' | 'hgbuild --tls-key') option=${words[i]} ;;
            'hgbuild -'*) ;;
            'hgbuild '*)
                declare -F _command_offset >/dev/null && _command_offset "$i"
                return ;;
        esac
    done
    case "$at $option" in
        'hgbuild --trace') local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")) && return ;;
        'hgbuild --tls-ca') local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")) && return ;;
        'hgbuild --tls-cert') local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")) && return ;;
        'hgbuild --tls-key') local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")) && return ;;
        *' ') ;;
        *) return ;;
    esac
    case "$at" in
        'hgbuild')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'-v\n--verbose\n--no-fallback\n--trace\n--coordinator\n--tls-ca\n--tls-cert\n--tls-key\n--insecure\n-V\n--version\n-h\n--help' -- "$cur"))
            else
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'status\nworkers\ntop\njoin\nleave\ndoctor\nconfig\nship\ncache\nexplain\ncompletions' -- "$cur"; compgen -c -- "$cur"))
            fi ;;
        'hgbuild status')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--json\n-h\n--help' -- "$cur"))
            fi ;;
        'hgbuild workers')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--json\n-h\n--help' -- "$cur"))
            fi ;;
        'hgbuild top')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--interval\n--json\n-h\n--help' -- "$cur"))
            fi ;;
        'hgbuild join')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--coordinator\n-h\n--help' -- "$cur"))
            else
                local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur"))
            fi ;;
        'hgbuild leave')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'-h\n--help' -- "$cur"))
            fi ;;
        'hgbuild doctor')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--json\n-h\n--help' -- "$cur"))
            else
                local IFS=$'\n'; COMPREPLY=($(compgen -c -- "$cur"))
            fi ;;
        'hgbuild config')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--json\n-h\n--help' -- "$cur"))
            fi ;;
        'hgbuild ship')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--language\n--updates\n--background\n-h\n--help' -- "$cur"))
            else
                local IFS=$'\n'; COMPREPLY=($(compgen -c -- "$cur"))
            fi ;;
        'hgbuild cache')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'-h\n--help' -- "$cur"))
            else
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'stats\nzero\nclear\nprune\nverify' -- "$cur"))
            fi ;;
        'hgbuild cache stats')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--json\n-h\n--help' -- "$cur"))
            fi ;;
        'hgbuild cache zero')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'-h\n--help' -- "$cur"))
            fi ;;
        'hgbuild cache clear')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'-h\n--help' -- "$cur"))
            fi ;;
        'hgbuild cache prune')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--max-size\n-h\n--help' -- "$cur"))
            fi ;;
        'hgbuild cache verify')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'-h\n--help' -- "$cur"))
            fi ;;
        'hgbuild explain')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--json\n--last\n-h\n--help' -- "$cur"))
            else
                local IFS=$'\n'; COMPREPLY=($(compgen -c -- "$cur"))
            fi ;;
        'hgbuild completions')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'-h\n--help' -- "$cur"))
            else
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'bash\nzsh\nfish' -- "$cur"))
            fi ;;
    esac
}

complete -F _hgbuild hgbuild
