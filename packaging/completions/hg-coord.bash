# Completion of hg-coord for bash. Made by 'cargo run -p hg-tests --bin manuals':
# change the program's table instead.

_hg_coord() {
    local cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
    # An address is one word, although readline ends words at colons.
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref -n =: cur words cword
    fi
    local at='hg-coord' option='' i
    COMPREPLY=()
    for ((i = 1; i < cword; i++)); do
        if [[ -n $option ]]; then
            option=''
            continue
        fi
        case "$at ${words[i]}" in
            'hg-coord rotate --overlap' | 'hg-coord rotate --state') option=${words[i]} ;;
            'hg-coord rotate -'*) ;;
            'hg-coord revoke --state') option=${words[i]} ;;
            'hg-coord revoke -'*) ;;
            'hg-coord tokens --state') option=${words[i]} ;;
            'hg-coord tokens -'*) ;;
            'hg-coord token --role' | 'hg-coord token --expires' | 'hg-coord token --name' | 'hg-coord token --state') option=${words[i]} ;;
            'hg-coord token -'*) ;;
            'hg-coord invite --role' | 'hg-coord invite --name' | 'hg-coord invite --expires' | 'hg-coord invite --coordinator' | 'hg-coord invite --state') option=${words[i]} ;;
            'hg-coord invite -'*) ;;
            'hg-coord cache verify --state') option=${words[i]} ;;
            'hg-coord cache verify -'*) ;;
            'hg-coord cache clear --worker' | 'hg-coord cache clear --state') option=${words[i]} ;;
            'hg-coord cache clear -'*) ;;
            'hg-coord cache stats --state') option=${words[i]} ;;
            'hg-coord cache stats -'*) ;;
            'hg-coord cache stats') at='hg-coord cache stats' ;;
            'hg-coord cache clear') at='hg-coord cache clear' ;;
            'hg-coord cache verify') at='hg-coord cache verify' ;;
            'hg-coord cache -'*) ;;
            'hg-coord readmit --coordinator' | 'hg-coord readmit --state') option=${words[i]} ;;
            'hg-coord readmit -'*) ;;
            'hg-coord drain --coordinator' | 'hg-coord drain --state') option=${words[i]} ;;
            'hg-coord drain -'*) ;;
            'hg-coord serve --listen' | 'hg-coord serve --http' | 'hg-coord serve --state' | 'hg-coord serve --client-weight' | 'hg-coord serve --audit' | 'hg-coord serve --idle-audit' | 'hg-coord serve --cache-size' | 'hg-coord serve --cache-backend' | 'hg-coord serve --cache-backend-key' | 'hg-coord serve --otlp' | 'hg-coord serve --tls-cert' | 'hg-coord serve --tls-key' | 'hg-coord serve --tls-ca') option=${words[i]} ;;
            'hg-coord serve -'*) ;;
            'hg-coord serve') at='hg-coord serve' ;;
            'hg-coord drain') at='hg-coord drain' ;;
            'hg-coord readmit') at='hg-coord readmit' ;;
            'hg-coord cache') at='hg-coord cache' ;;
            'hg-coord invite') at='hg-coord invite' ;;
            'hg-coord token') at='hg-coord token' ;;
            'hg-coord tokens') at='hg-coord tokens' ;;
            'hg-coord revoke') at='hg-coord revoke' ;;
            'hg-coord rotate') at='hg-coord rotate' ;;
            'hg-coord -'*) ;;
        esac
    done
    case "$at $option" in
        'hg-coord serve --http') local IFS=$'\n'; COMPREPLY=($(compgen -W $'off' -- "$cur")) && return ;;
        'hg-coord serve --state') local IFS=$'\n'; COMPREPLY=($(compgen -d -- "$cur")) && return ;;
        'hg-coord serve --cache-size') local IFS=$'\n'; COMPREPLY=($(compgen -W $'off' -- "$cur")) && return ;;
        'hg-coord serve --cache-backend-key') local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")) && return ;;
        'hg-coord serve --tls-cert') local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")) && return ;;
        'hg-coord serve --tls-key') local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")) && return ;;
        'hg-coord serve --tls-ca') local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")) && return ;;
        'hg-coord drain --state') local IFS=$'\n'; COMPREPLY=($(compgen -d -- "$cur")) && return ;;
        'hg-coord readmit --state') local IFS=$'\n'; COMPREPLY=($(compgen -d -- "$cur")) && return ;;
        'hg-coord cache stats --state') local IFS=$'\n'; COMPREPLY=($(compgen -d -- "$cur")) && return ;;
        'hg-coord cache clear --state') local IFS=$'\n'; COMPREPLY=($(compgen -d -- "$cur")) && return ;;
        'hg-coord cache verify --state') local IFS=$'\n'; COMPREPLY=($(compgen -d -- "$cur")) && return ;;
        'hg-coord invite --role') local IFS=$'\n'; COMPREPLY=($(compgen -W $'worker\nclient\nadmin' -- "$cur")) && return ;;
        'hg-coord invite --state') local IFS=$'\n'; COMPREPLY=($(compgen -d -- "$cur")) && return ;;
        'hg-coord token --role') local IFS=$'\n'; COMPREPLY=($(compgen -W $'worker\nclient\nviewer\nadmin' -- "$cur")) && return ;;
        'hg-coord token --state') local IFS=$'\n'; COMPREPLY=($(compgen -d -- "$cur")) && return ;;
        'hg-coord tokens --state') local IFS=$'\n'; COMPREPLY=($(compgen -d -- "$cur")) && return ;;
        'hg-coord revoke --state') local IFS=$'\n'; COMPREPLY=($(compgen -d -- "$cur")) && return ;;
        'hg-coord rotate --state') local IFS=$'\n'; COMPREPLY=($(compgen -d -- "$cur")) && return ;;
        *' ') ;;
        *) return ;;
    esac
    case "$at" in
        'hg-coord')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'-V\n--version\n-h\n--help' -- "$cur"))
            else
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'serve\ndrain\nreadmit\ncache\ninvite\ntoken\ntokens\nrevoke\nrotate' -- "$cur"))
            fi ;;
        'hg-coord serve')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--listen\n--no-mdns\n--http\n--state\n--client-weight\n--audit\n--idle-audit\n--cache-size\n--cache-backend\n--cache-backend-key\n--otlp\n--tls-cert\n--tls-key\n--tls-ca\n--require-client-cert\n--insecure\n--insecure-any-address\n-h\n--help' -- "$cur"))
            fi ;;
        'hg-coord drain')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--coordinator\n--state\n--insecure\n--stay\n--no-wait\n-h\n--help' -- "$cur"))
            fi ;;
        'hg-coord readmit')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--coordinator\n--state\n--insecure\n-h\n--help' -- "$cur"))
            fi ;;
        'hg-coord cache')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'-h\n--help' -- "$cur"))
            else
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'stats\nclear\nverify' -- "$cur"))
            fi ;;
        'hg-coord cache stats')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--json\n--state\n-h\n--help' -- "$cur"))
            fi ;;
        'hg-coord cache clear')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--worker\n--state\n-h\n--help' -- "$cur"))
            fi ;;
        'hg-coord cache verify')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--state\n-h\n--help' -- "$cur"))
            fi ;;
        'hg-coord invite')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--role\n--name\n--expires\n--coordinator\n--state\n-h\n--help' -- "$cur"))
            fi ;;
        'hg-coord token')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--role\n--expires\n--name\n--state\n-h\n--help' -- "$cur"))
            fi ;;
        'hg-coord tokens')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--state\n-h\n--help' -- "$cur"))
            fi ;;
        'hg-coord revoke')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--state\n-h\n--help' -- "$cur"))
            fi ;;
        'hg-coord rotate')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--secret\n--certificate\n--overlap\n--state\n-h\n--help' -- "$cur"))
            fi ;;
    esac
}

complete -F _hg_coord hg-coord
