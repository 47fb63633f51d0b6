# Completion of meerkatctl for bash. Made by `make gen` from src/admin/meerkat_cli_options.erl.
_meerkatctl() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    local command= words= i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            -s | --socket) i=$((i + 1)) ;;
            -*) ;;
            *) command=${COMP_WORDS[i]}; break ;;
        esac
    done
    if [ "$before" = -s ] || [ "$before" = --socket ]; then
        compopt -o default
        return
    elif [ -z "$command" ]; then
        words='foreground version status check allocations allocation watch capture explain disconnect revoke credentials users secrets peers realms drain undrain upgrade reload fleet loglevel doctor config import info help --version --json -s'
    else
        case "$command $before" in
            'check --family') words='4 6' ;;
            'allocations --sort') words='age bytes user' ;;
            'fleet --sort') words='age bytes user' ;;
            'foreground -c') compopt -o default; return ;;
            'check --user') return ;;
            'check --password') return ;;
            'check --secret') return ;;
            'check --cacert') compopt -o default; return ;;
            'check --fingerprint') return ;;
            'allocations --user') return ;;
            'allocations --peer') return ;;
            'allocations --limit') return ;;
            'watch --user') return ;;
            'watch --client') return ;;
            'watch --seconds') return ;;
            'capture -o') return ;;
            'capture --seconds') return ;;
            'capture --max-bytes') return ;;
            'explain --user') return ;;
            'disconnect --user') return ;;
            'revoke --ttl') return ;;
            'credentials --ttl') return ;;
            'credentials --realm') return ;;
            'users --password') return ;;
            'users --key') return ;;
            'users --realm') return ;;
            'secrets --secret') return ;;
            'secrets --realm') return ;;
            'peers --realm') return ;;
            'realms --user-quota') return ;;
            'realms --total-quota') return ;;
            'realms --max-bps') return ;;
            'realms --max-pps') return ;;
            'realms --new-peers-rate') return ;;
            'realms --realm') return ;;
            'drain --deadline') return ;;
            'fleet --user') return ;;
            'fleet --peer') return ;;
            'fleet --limit') return ;;
            'fleet --ttl') return ;;
            'fleet --deadline') return ;;
            'doctor --stun') return ;;
            'doctor --file') compopt -o default; return ;;
            'doctor --xmpp') return ;;
            'doctor --jid') return ;;
            'doctor --graphql') return ;;
            'doctor --user') return ;;
            'doctor --domain') return ;;
            'doctor --password') return ;;
            'doctor --cacert') compopt -o default; return ;;
            'config --realm') return ;;
            'import --into') return ;;
            'config check' | 'config show' | import\ *) compopt -o default; return ;;
            help\ *) words='foreground version status check allocations allocation watch capture explain disconnect revoke credentials users secrets peers realms drain undrain upgrade reload fleet loglevel doctor config import info help' ;;
            *)
                case $command in
                    foreground) words='-c --self-signed --json -s' ;;
                    version) words='--json -s' ;;
                    status) words='--json -s' ;;
                    check) words='--user --password --secret --family --cacert --fingerprint --insecure --json -s' ;;
                    allocations) words='--user --peer --sort --limit --json -s' ;;
                    allocation) words='--json -s' ;;
                    watch) words='--user --client --seconds --json -s' ;;
                    capture) words='-o --seconds --max-bytes --payload --json -s' ;;
                    explain) words='--user --json -s' ;;
                    disconnect) words='--user --json -s' ;;
                    revoke) words='--ttl --json -s' ;;
                    credentials) words='--ttl --realm --json -s' ;;
                    users) words='list add remove --password --key --realm --json -s' ;;
                    secrets) words='list add remove --secret --realm --json -s' ;;
                    peers) words='list add remove --allowed --denied --realm --json -s' ;;
                    realms) words='list set remove --user-quota --total-quota --max-bps --max-pps --new-peers-rate --realm --json -s' ;;
                    drain) words='--deadline --stay --json -s' ;;
                    undrain) words='--json -s' ;;
                    upgrade) words='--json -s' ;;
                    reload) words='--dry-run --json -s' ;;
                    fleet) words='status allocations disconnect revoke drain undrain loglevel dns --user --peer --sort --limit --ttl --deadline --stay --json -s' ;;
                    loglevel) words='debug info notice warning error critical alert emergency --json -s' ;;
                    doctor) words='--stun --file --xmpp --jid --graphql --user --domain --password --cacert --json -s' ;;
                    config) words='check show --realm --json -s' ;;
                    import) words='--into --json -s' ;;
                    info) words='--json -s' ;;
                    help) words='--json -s' ;;
                esac ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _meerkatctl meerkatctl
