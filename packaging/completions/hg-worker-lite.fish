# Completion of hg-worker-lite for fish. Made by 'cargo run -p hg-tests --bin manuals': change
# the program's table instead.

function __hg_worker_lite_at
    set -l words (commandline -xpc 2>/dev/null; or commandline -opc)
    set -l at 'hg-worker-lite'
    set -l skip no
    for word in $words[2..-1]
        if test $skip = yes
            set skip no
            continue
        end
        switch "$at $word"
            case 'hg-worker-lite join --coordinator' 'hg-worker-lite join --state' 'hg-worker-lite join --tls-ca'
                set skip yes
            case 'hg-worker-lite join -*'
            case 'hg-worker-lite serve --coordinator' 'hg-worker-lite serve --tls-ca' 'hg-worker-lite serve --tls-cert' 'hg-worker-lite serve --tls-key' 'hg-worker-lite serve --slots' 'hg-worker-lite serve --nice' 'hg-worker-lite serve --name' 'hg-worker-lite serve --http' 'hg-worker-lite serve --state' 'hg-worker-lite serve --scratch' 'hg-worker-lite serve --blobs' 'hg-worker-lite serve --sandbox' 'hg-worker-lite serve --toolchains' 'hg-worker-lite serve --compilers' 'hg-worker-lite serve --container'
                set skip yes
            case 'hg-worker-lite serve -*'
            case 'hg-worker-lite serve'
                set at 'hg-worker-lite serve'
            case 'hg-worker-lite join'
                set at 'hg-worker-lite join'
            case 'hg-worker-lite -*'
        end
    end
    test "$at" = "$argv[1]"
end

complete -c hg-worker-lite -f
complete -c hg-worker-lite -s h -l help -d 'say how it is used'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite"' -s V -l version -d 'print the version and exit'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite"' -a serve -d 'Dials a coordinator and takes compiles from it until SIGTERM or SIGINT, which finish what runs and take no more'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite"' -a join -d 'Keeps a token that lets this worker serve a grid'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l coordinator -x -d 'where the coordinator listens'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l no-mdns -d 'a coordinator that is not where it was is not looked for by mDNS'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l tls-ca -r -F -d 'authorities, in PEM, by which the coordinator is known instead of by a token'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l tls-cert -r -F -d 'a certificate of your own, in PEM, that says that this is a worker'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l tls-key -r -F -d 'its private key'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l insecure -d 'the coordinator runs with --insecure'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l slots -x -d 'compiles at a time'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l nice -x -d 'how far below other programs compilers run, 0 to 19'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l dedicated -d 'offer all slots however busy others keep this machine'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l name -x -d 'what people call this worker'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l http -r -a 'off' -d 'where /health and /metrics are, on loopback, with port 0 for any free one'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l state -r -a '(__fish_complete_directories)' -d 'the folder for the lock and for running compiles, not shared with another worker'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l scratch -r -a 'auto (__fish_complete_directories)' -d 'where the files of running compiles are'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l blobs -x -d 'how much of the disk of --state is for headers and sources that came, so that they need not come again, in MiB'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l sandbox -r -a 'auto require off' -d 'what holds compilers'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l toolchains -r -a 'clients own' -d 'whose compilers are run'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l compilers -r -a 'auto none' -d 'where this machine\'s compilers are looked for'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite serve"' -l container -x -d 'container images whose compilers are offered beside this machine\'s'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite join"' -l coordinator -x -d 'where the coordinator listens'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite join"' -l state -r -a '(__fish_complete_directories)' -d 'the folder that \'serve\' will have as --state'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite join"' -l tls-ca -r -F -d 'authorities, in PEM, by which the coordinator is known instead of by the token'
complete -c hg-worker-lite -n '__hg_worker_lite_at "hg-worker-lite join"' -F
