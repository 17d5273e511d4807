# Completion of hg-coord for fish. Made by 'cargo run -p hg-tests --bin manuals': change
# the program's table instead.

function __hg_coord_at
    set -l words (commandline -xpc 2>/dev/null; or commandline -opc)
    set -l at 'hg-coord'
    set -l skip no
    for word in $words[2..-1]
        if test $skip = yes
            set skip no
            continue
        end
        switch "$at $word"
            case 'hg-coord rotate --overlap' 'hg-coord rotate --state'
                set skip yes
            case 'hg-coord rotate -*'
            case 'hg-coord revoke --state'
                set skip yes
            case 'hg-coord revoke -*'
            case 'hg-coord tokens --state'
                set skip yes
            case 'hg-coord tokens -*'
            case 'hg-coord token --role' 'hg-coord token --expires' 'hg-coord token --name' 'hg-coord token --state'
                set skip yes
            case 'hg-coord token -*'
            case 'hg-coord invite --role' 'hg-coord invite --name' 'hg-coord invite --expires' 'hg-coord invite --coordinator' 'hg-coord invite --state'
                set skip yes
            case 'hg-coord invite -*'
            case 'hg-coord cache verify --state'
                set skip yes
            case 'hg-coord cache verify -*'
            case 'hg-coord cache clear --worker' 'hg-coord cache clear --state'
                set skip yes
            case 'hg-coord cache clear -*'
            case 'hg-coord cache stats --state'
                set skip yes
            case 'hg-coord cache stats -*'
            case 'hg-coord cache stats'
                set at 'hg-coord cache stats'
            case 'hg-coord cache clear'
                set at 'hg-coord cache clear'
            case 'hg-coord cache verify'
                set at 'hg-coord cache verify'
            case 'hg-coord cache -*'
            case 'hg-coord readmit --coordinator' 'hg-coord readmit --state'
                set skip yes
            case 'hg-coord readmit -*'
            case 'hg-coord drain --coordinator' 'hg-coord drain --state'
                set skip yes
            case 'hg-coord drain -*'
            case 'hg-coord serve --listen' 'hg-coord serve --http' 'hg-coord serve --state' 'hg-coord serve --client-weight' 'hg-coord serve --audit' 'hg-coord serve --idle-audit' 'hg-coord serve --cache-size' 'hg-coord serve --cache-backend' 'hg-coord serve --cache-backend-key' 'hg-coord serve --otlp' 'hg-coord serve --tls-cert' 'hg-coord serve --tls-key' 'hg-coord serve --tls-ca'
                set skip yes
            case 'hg-coord serve -*'
            case 'hg-coord serve'
                set at 'hg-coord serve'
            case 'hg-coord drain'
                set at 'hg-coord drain'
            case 'hg-coord readmit'
                set at 'hg-coord readmit'
            case 'hg-coord cache'
                set at 'hg-coord cache'
            case 'hg-coord invite'
                set at 'hg-coord invite'
            case 'hg-coord token'
                set at 'hg-coord token'
            case 'hg-coord tokens'
                set at 'hg-coord tokens'
            case 'hg-coord revoke'
                set at 'hg-coord revoke'
            case 'hg-coord rotate'
                set at 'hg-coord rotate'
            case 'hg-coord -*'
        end
    end
    test "$at" = "$argv[1]"
end

complete -c hg-coord -f
complete -c hg-coord -s h -l help -d 'say how it is used'
complete -c hg-coord -n '__hg_coord_at "hg-coord"' -s V -l version -d 'print the version and exit'
complete -c hg-coord -n '__hg_coord_at "hg-coord"' -a serve -d 'Run the coordinator until SIGTERM or SIGINT'
complete -c hg-coord -n '__hg_coord_at "hg-coord"' -a drain -d 'Give a worker no more tasks, and wait until it has finished those it has and is gone, or idle'
complete -c hg-coord -n '__hg_coord_at "hg-coord"' -a readmit -d 'Give a worker tasks again that an operator has taken out by \'drain --stay\', or that returned another object than its client\'s own compiler makes'
complete -c hg-coord -n '__hg_coord_at "hg-coord"' -a cache -d 'Look after the results that a coordinator keeps in its state folder, whether or not it runs'
complete -c hg-coord -n '__hg_coord_at "hg-coord"' -a invite -d 'Print the line to type on a machine that shall compile for others, and the one for a developer\'s machine'
complete -c hg-coord -n '__hg_coord_at "hg-coord"' -a token -d 'Print a join token, one line that lets its holder in'
complete -c hg-coord -n '__hg_coord_at "hg-coord"' -a tokens -d 'List whom tokens were given to'
complete -c hg-coord -n '__hg_coord_at "hg-coord"' -a revoke -d 'Make void all tokens that were made until now for a name, and its certificate'
complete -c hg-coord -n '__hg_coord_at "hg-coord"' -a rotate -d 'Make a new root secret, or a new certificate, or both'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l listen -x -d 'address for clients and workers, port 0 for any free one'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l no-mdns -d 'do not announce the coordinator by mDNS on the networks that it listens on'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l http -r -a 'off' -d 'address for health, metrics and the REST API, or \'off\''
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l state -r -a '(__fish_complete_directories)' -d 'folder for state'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l client-weight -x -d 'the share of who holds a token of this name is WEIGHT times that of others while all want it'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l audit -x -d 'one of N results of each worker and toolchain is compiled by its client too, and compared'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l idle-audit -x -d 'how many percent of each worker\'s results a second worker, which idles, compiles too, to be compared'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l cache-size -r -a 'off' -d 'how much of the disk of --state is for results, which answer whoever asks for the same compile again'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l cache-backend -x -d 'where results are kept beyond this machine, for all coordinators that are told the same'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l cache-backend-key -r -F -d 'file with the key by which coordinators of one --cache-backend know each other\'s results'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l otlp -x -d 'where a collector takes what became of tasks, as OpenTelemetry\'s spans by gRPC'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l tls-cert -r -F -d 'a certificate of your own in PEM, shown to those who join without a token\'s fingerprint'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l tls-key -r -F -d 'its private key'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l tls-ca -r -F -d 'authorities, in PEM, whose certificates say who a peer is'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l require-client-cert -d 'turn peers away that have no such certificate'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l insecure -d 'for experiments'
complete -c hg-coord -n '__hg_coord_at "hg-coord serve"' -l insecure-any-address -d 'with --insecure, listen beyond this machine although anybody who reaches the port can then run compiles and see sources'
complete -c hg-coord -n '__hg_coord_at "hg-coord drain"' -l coordinator -x -d 'where the coordinator listens'
complete -c hg-coord -n '__hg_coord_at "hg-coord drain"' -l state -r -a '(__fish_complete_directories)' -d 'the coordinator\'s folder for state'
complete -c hg-coord -n '__hg_coord_at "hg-coord drain"' -l insecure -d 'that coordinator runs with --insecure'
complete -c hg-coord -n '__hg_coord_at "hg-coord drain"' -l stay -d 'it keeps running, and gets tasks again by \'hg-coord readmit\''
complete -c hg-coord -n '__hg_coord_at "hg-coord drain"' -l no-wait -d 'do not wait'
complete -c hg-coord -n '__hg_coord_at "hg-coord readmit"' -l coordinator -x -d 'where the coordinator listens'
complete -c hg-coord -n '__hg_coord_at "hg-coord readmit"' -l state -r -a '(__fish_complete_directories)' -d 'the coordinator\'s folder for state'
complete -c hg-coord -n '__hg_coord_at "hg-coord readmit"' -l insecure -d 'that coordinator runs with --insecure'
complete -c hg-coord -n '__hg_coord_at "hg-coord cache"' -a stats -d 'Print how many results there are, and how much of the disk they take'
complete -c hg-coord -n '__hg_coord_at "hg-coord cache"' -a clear -d 'Remove all results, or those of one worker'
complete -c hg-coord -n '__hg_coord_at "hg-coord cache"' -a verify -d 'Read all results, and remove those that are damaged or void'
complete -c hg-coord -n '__hg_coord_at "hg-coord cache stats"' -l json -d 'print JSON'
complete -c hg-coord -n '__hg_coord_at "hg-coord cache stats"' -l state -r -a '(__fish_complete_directories)' -d 'the coordinator\'s folder for state'
complete -c hg-coord -n '__hg_coord_at "hg-coord cache clear"' -l worker -x -d 'only those that a worker of this name made'
complete -c hg-coord -n '__hg_coord_at "hg-coord cache clear"' -l state -r -a '(__fish_complete_directories)' -d 'the coordinator\'s folder for state'
complete -c hg-coord -n '__hg_coord_at "hg-coord cache verify"' -l state -r -a '(__fish_complete_directories)' -d 'the coordinator\'s folder for state'
complete -c hg-coord -n '__hg_coord_at "hg-coord invite"' -l role -r -a 'worker client admin' -d 'print only the line for a worker, a client or an admin'
complete -c hg-coord -n '__hg_coord_at "hg-coord invite"' -l name -x -d 'who will have it, for \'hg-coord revoke\' and the audit lines'
complete -c hg-coord -n '__hg_coord_at "hg-coord invite"' -l expires -x -d 'how long it holds, as in 30d or 12h, or never'
complete -c hg-coord -n '__hg_coord_at "hg-coord invite"' -l coordinator -x -d 'where the invited reach the coordinator'
complete -c hg-coord -n '__hg_coord_at "hg-coord invite"' -l state -r -a '(__fish_complete_directories)' -d 'the coordinator\'s folder for state'
complete -c hg-coord -n '__hg_coord_at "hg-coord token"' -l role -r -a 'worker client viewer admin' -d 'what the holder may be'
complete -c hg-coord -n '__hg_coord_at "hg-coord token"' -l expires -x -d 'how long it holds, as in 30d or 12h, or never'
complete -c hg-coord -n '__hg_coord_at "hg-coord token"' -l name -x -d 'who will have it, for \'hg-coord revoke\' and the audit lines'
complete -c hg-coord -n '__hg_coord_at "hg-coord token"' -l state -r -a '(__fish_complete_directories)' -d 'the coordinator\'s folder for state'
complete -c hg-coord -n '__hg_coord_at "hg-coord tokens"' -l state -r -a '(__fish_complete_directories)' -d 'the coordinator\'s folder for state'
complete -c hg-coord -n '__hg_coord_at "hg-coord revoke"' -l state -r -a '(__fish_complete_directories)' -d 'the coordinator\'s folder for state'
complete -c hg-coord -n '__hg_coord_at "hg-coord rotate"' -l secret -d 'the root secret, which tokens are derived from'
complete -c hg-coord -n '__hg_coord_at "hg-coord rotate"' -l certificate -d 'the certificate, whose fingerprint is in tokens'
complete -c hg-coord -n '__hg_coord_at "hg-coord rotate"' -l overlap -x -d 'how long the old ones hold, as in 30d or 12h'
complete -c hg-coord -n '__hg_coord_at "hg-coord rotate"' -l state -r -a '(__fish_complete_directories)' -d 'the coordinator\'s folder for state'
