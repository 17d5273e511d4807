# Completion of hg-worker-lite for bash. Made by 'cargo run -p hg-tests --bin manuals':
# change the program's table instead.

_hg_worker_lite() {
    local cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
    # An address is one word, although readline ends words at colons.
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref -n =: cur words cword
    fi
    local at='hg-worker-lite' option='' i
    COMPREPLY=()
    for ((i = 1; i < cword; i++)); do
        if [[ -n $option ]]; then
            option=''
            continue
        fi
        case "$at ${words[i]}" in
            'hg-worker-lite join --coordinator' | 'hg-worker-lite join --state' | 'hg-worker-lite join --tls-ca') option=${words[i]} ;;
            'hg-worker-lite join -'*) ;;
            'hg-worker-lite serve --coordinator' | 'hg-worker-lite serve --tls-ca' | 'hg-worker-lite serve --tls-cert' | 'hg-worker-lite serve --tls-key' | 'hg-worker-lite serve --slots' | 'hg-worker-lite serve --nice' | 'hg-worker-lite serve --name' | 'hg-worker-lite serve --http' | 'hg-worker-lite serve --state' | 'hg-worker-lite serve --scratch' | 'hg-worker-lite serve --blobs' | 'hg-worker-lite serve --sandbox' | 'hg-worker-lite serve --toolchains' | 'hg-worker-lite serve --compilers' | 'hg-worker-lite serve --container') option=${words[i]} ;;
            'hg-worker-lite serve -'*) ;;
            'hg-worker-lite serve') at='hg-worker-lite serve' ;;
            'hg-worker-lite join') at='hg-worker-lite join' ;;
            'hg-worker-lite -'*) ;;
        esac
    done
    case "$at $option" in
        'hg-worker-lite serve --tls-ca') local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")) && return ;;
        'hg-worker-lite serve --tls-cert') local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")) && return ;;
        'hg-worker-lite serve --tls-key') local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")) && return ;;
        'hg-worker-lite serve --http') local IFS=$'\n'; COMPREPLY=($(compgen -W $'off' -- "$cur")) && return ;;
        'hg-worker-lite serve --state') local IFS=$'\n'; COMPREPLY=($(compgen -d -- "$cur")) && return ;;
        'hg-worker-lite serve --scratch') local IFS=$'\n'; COMPREPLY=($(compgen -W $'auto' -- "$cur"; compgen -d -- "$cur")) && return ;;
        'hg-worker-lite serve --sandbox') local IFS=$'\n'; COMPREPLY=($(compgen -W $'auto\nrequire\noff' -- "$cur")) && return ;;
        'hg-worker-lite serve --toolchains') local IFS=$'\n'; COMPREPLY=($(compgen -W $'clients\nown' -- "$cur")) && return ;;
        'hg-worker-lite serve --compilers') local IFS=$'\n'; COMPREPLY=($(compgen -W $'auto\nnone' -- "$cur")) && return ;;
        'hg-worker-lite join --state') local IFS=$'\n'; COMPREPLY=($(compgen -d -- "$cur")) && return ;;
        'hg-worker-lite join --tls-ca') local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")) && return ;;
        *' ') ;;
        *) return ;;
    esac
    case "$at" in
        'hg-worker-lite')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'-V\n--version\n-h\n--help' -- "$cur"))
            else
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'serve\njoin' -- "$cur"))
            fi ;;
        'hg-worker-lite serve')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--coordinator\n--no-mdns\n--tls-ca\n--tls-cert\n--tls-key\n--insecure\n--slots\n--nice\n--dedicated\n--name\n--http\n--state\n--scratch\n--blobs\n--sandbox\n--toolchains\n--compilers\n--container\n-h\n--help' -- "$cur"))
            fi ;;
        'hg-worker-lite join')
            if [[ $cur == -* ]]; then
                local IFS=$'\n'; COMPREPLY=($(compgen -W $'--coordinator\n--state\n--tls-ca\n-h\n--help' -- "$cur"))
            else
                local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur"))
            fi ;;
    esac
}

complete -F _hg_worker_lite hg-worker-lite
