# Completion of meerkatctl for bash. Made by `make gen` from src/admin/meerkat_cli_options.erl.
_meerkatctl() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    local command=${COMP_WORDS[1]-} words=
    if [ "$COMP_CWORD" -eq 1 ]; then
        words='foreground version status check allocations allocation disconnect revoke credentials users drain undrain reload loglevel doctor config import info help --version'
    else
        case "$command $before" in
            'check --family') words='4 6' ;;
            'allocations --sort') words='age bytes user' ;;
            'check --user') return ;;
            'check --password') return ;;
            'check --secret') return ;;
            'check --cacert') compopt -o default; return ;;
            'check --fingerprint') return ;;
            'allocations --user') return ;;
            'allocations --peer') return ;;
            'allocations --limit') return ;;
            'disconnect --user') return ;;
            'revoke --ttl') return ;;
            'credentials --ttl') return ;;
            'credentials --realm') return ;;
            'users --password') return ;;
            'users --key') return ;;
            'users --realm') return ;;
            'drain --deadline') return ;;
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
            'foreground -c') compopt -o default; return ;;
            'config check' | 'config show' | import\ *) compopt -o default; return ;;
            help\ *) words='foreground version status check allocations allocation disconnect revoke credentials users drain undrain reload loglevel doctor config import info help' ;;
            *)
                case $command in
                    foreground) words='--json' ;;
                    version) words='--json' ;;
                    status) words='--json' ;;
                    check) words='--user --password --secret --family --cacert --fingerprint --insecure --json' ;;
                    allocations) words='--user --peer --sort --limit --json' ;;
                    allocation) words='--json' ;;
                    disconnect) words='--user --json' ;;
                    revoke) words='--ttl --json' ;;
                    credentials) words='--ttl --realm --json' ;;
                    users) words='list add remove --password --key --realm --json' ;;
                    drain) words='--deadline --stay --json' ;;
                    undrain) words='--json' ;;
                    reload) words='--dry-run --json' ;;
                    loglevel) words='debug info notice warning error critical alert emergency --json' ;;
                    doctor) words='--stun --file --xmpp --jid --graphql --user --domain --password --cacert --json' ;;
                    config) words='check show --realm --json' ;;
                    import) words='--json' ;;
                    info) words='--json' ;;
                    help) words='--json' ;;
                esac ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _meerkatctl meerkatctl
