# Completion of hgbuild for fish. Made by 'cargo run -p hg-tests --bin manuals': change
# the program's table instead.

function __hgbuild_at
    set -l words (commandline -xpc 2>/dev/null; or commandline -opc)
    set -l at 'hgbuild'
    set -l skip no
    for word in $words[2..-1]
        if test $skip = yes
            set skip no
            continue
        end
        switch "$at $word"
            case 'hgbuild completions -*'
            case 'hgbuild explain -*'
            case 'hgbuild explain *'
                set at foreign
                break
            case 'hgbuild cache verify -*'
            case 'hgbuild cache prune --max-size'
                set skip yes
            case 'hgbuild cache prune -*'
            case 'hgbuild cache clear -*'
            case 'hgbuild cache zero -*'
            case 'hgbuild cache stats -*'
            case 'hgbuild cache stats'
                set at 'hgbuild cache stats'
            case 'hgbuild cache zero'
                set at 'hgbuild cache zero'
            case 'hgbuild cache clear'
                set at 'hgbuild cache clear'
            case 'hgbuild cache prune'
                set at 'hgbuild cache prune'
            case 'hgbuild cache verify'
                set at 'hgbuild cache verify'
            case 'hgbuild cache -*'
            case 'hgbuild ship --language'
                set skip yes
            case 'hgbuild ship -*'
            case 'hgbuild config -*'
            case 'hgbuild doctor -*'
            case 'hgbuild leave -*'
            case 'hgbuild join --coordinator'
                set skip yes
            case 'hgbuild join -*'
            case 'hgbuild top --interval'
                set skip yes
            case 'hgbuild top -*'
            case 'hgbuild workers -*'
            case 'hgbuild status -*'
            case 'hgbuild status'
                set at 'hgbuild status'
            case 'hgbuild workers'
                set at 'hgbuild workers'
            case 'hgbuild top'
                set at 'hgbuild top'
            case 'hgbuild join'
                set at 'hgbuild join'
            case 'hgbuild leave'
                set at 'hgbuild leave'
            case 'hgbuild doctor'
                set at 'hgbuild doctor'
            case 'hgbuild config'
                set at 'hgbuild config'
            case 'hgbuild ship'
                set at 'hgbuild ship'
            case 'hgbuild cache'
                set at 'hgbuild cache'
            case 'hgbuild explain'
                set at 'hgbuild explain'
            case 'hgbuild completions'
                set at 'hgbuild completions'
            case 'hgbuild --trace' 'hgbuild --coordinator' 'hgbuild --tls-ca' 'hgbuild --tls-cert' 'hgbuild --tls-key'
                set skip yes
            case 'hgbuild -*'
            case 'hgbuild *'
                set at foreign
                break
        end
    end
    test "$at" = "$argv[1]"
end

complete -c hgbuild -f
complete -c hgbuild -s h -l help -d 'say how it is used'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -s v -l verbose -d 'say where each compile went, and why'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -l no-fallback -d 'a failure of the grid is an error, not a local compile'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -l trace -r -F -d 'write what a build\'s time went to, for Perfetto'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -l coordinator -x -d 'where the coordinator\'s grid port is'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -l tls-ca -r -F -d 'authorities, in PEM, by which the coordinator is known instead of a token'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -l tls-cert -r -F -d 'a certificate of your own, in PEM, that says who you are'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -l tls-key -r -F -d 'its private key'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -l insecure -d 'the coordinator runs with --insecure'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -s V -l version -d 'print the version'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -a status -d 'show what the coordinator says of the grid'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -a workers -d 'list the workers'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -a top -d 'watch the grid work'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -a join -d 'keep a token that lets this user use a grid'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -a leave -d 'forget the grid that was joined'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -a doctor -d 'say whether this machine can use its grid, what each worker makes of its compilers, and what to do where something is wrong'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -a config -d 'list each setting, its value and where that comes from, and what is wrong with settings'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -a ship -d 'give this machine\'s compilers to workers that have none like them, and try what others have'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -a cache -d 'look at the local cache, or tend it'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -a explain -d 'say of a source where its last compile went, why, and what helps'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -a completions -d 'print a script that completes hgbuild\'s own words in a shell'
complete -c hgbuild -n '__hgbuild_at "hgbuild"' -a '(__fish_complete_command)'
complete -c hgbuild -n '__hgbuild_at "hgbuild status"' -l json -d 'print JSON'
complete -c hgbuild -n '__hgbuild_at "hgbuild workers"' -l json -d 'print JSON'
complete -c hgbuild -n '__hgbuild_at "hgbuild top"' -l interval -x -d 'time between two looks'
complete -c hgbuild -n '__hgbuild_at "hgbuild top"' -l json -d 'print JSON, one line for each look'
complete -c hgbuild -n '__hgbuild_at "hgbuild join"' -l coordinator -x -d 'where the coordinator\'s grid port is'
complete -c hgbuild -n '__hgbuild_at "hgbuild join"' -F
complete -c hgbuild -n '__hgbuild_at "hgbuild doctor"' -l json -d 'print JSON'
complete -c hgbuild -n '__hgbuild_at "hgbuild doctor"' -a '(__fish_complete_command)'
complete -c hgbuild -n '__hgbuild_at "hgbuild config"' -l json -d 'print JSON'
complete -c hgbuild -n '__hgbuild_at "hgbuild ship"' -l language -x -d 'what it compiles'
complete -c hgbuild -n '__hgbuild_at "hgbuild ship"' -l updates -d 'try compilers of others that differ by a stable update of their vendor\'s'
complete -c hgbuild -n '__hgbuild_at "hgbuild ship"' -l background -d 'leave the terminal, and end where another one is at it'
complete -c hgbuild -n '__hgbuild_at "hgbuild ship"' -a '(__fish_complete_command)'
complete -c hgbuild -n '__hgbuild_at "hgbuild cache"' -a stats -d 'show size, hits and misses'
complete -c hgbuild -n '__hgbuild_at "hgbuild cache"' -a zero -d 'set the counts to zero'
complete -c hgbuild -n '__hgbuild_at "hgbuild cache"' -a clear -d 'remove all entries'
complete -c hgbuild -n '__hgbuild_at "hgbuild cache"' -a prune -d 'remove the entries that were not used for longest'
complete -c hgbuild -n '__hgbuild_at "hgbuild cache"' -a verify -d 'read every entry and remove those that are damaged'
complete -c hgbuild -n '__hgbuild_at "hgbuild cache stats"' -l json -d 'print JSON'
complete -c hgbuild -n '__hgbuild_at "hgbuild cache prune"' -l max-size -x -d 'down to this size, as in 5GiB or 500M'
complete -c hgbuild -n '__hgbuild_at "hgbuild explain"' -l json -d 'of a source'
complete -c hgbuild -n '__hgbuild_at "hgbuild explain"' -l last -d 'of a compile'
complete -c hgbuild -n '__hgbuild_at "hgbuild explain"' -a '(__fish_complete_command)'
complete -c hgbuild -n '__hgbuild_at "hgbuild completions"' -a 'bash zsh fish'
complete -c hgbuild -n '__hgbuild_at foreign' -a '(__fish_complete_subcommand)'
