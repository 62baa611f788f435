#!/usr/bin/env bash
# Run by deploy/compose.yaml in a container before all others: makes certificates, tokens and the owners of volumes, where
# they are not there yet. What is there stays, so that whoever trusts it goes on.
set -euo pipefail
cd /secrets
umask 027
[ -f tls.crt ] || bash /certificates.sh /secrets scheduler logs codeship archive web localhost "$DPU_HOST"
token() {
    [ -f "$1.token" ] || dpud token "$@" >"$1.token" 2>>tokens.toml
}
token user --role user --role operator
token worker --role worker --project '*'
token outbox --role service --project '*'
if [ ! -f pgpass ]; then
    head -c 24 /dev/urandom | base64 | tr -d '/+=' | tr -d '\n' >database.password
    echo "database:*:dpu:dpu:$(cat database.password)" >pgpass
fi
chown -R 10001:10001 /secrets
chown root:root ca.key
chmod 600 pgpass ca.key
# The database's own user, whoever that is, reads its password; nobody else has this volume but the services.
chmod 755 . && chmod 644 database.password ca.crt
chown 10001:10001 /volumes/*
chmod 2770 /volumes/*
