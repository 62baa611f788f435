#!/usr/bin/env bash
# Makes an authority of one's own in FOLDER, and a certificate that it vouches for, good for the NAMEs and addresses given:
#   deploy/certificates.sh FOLDER NAME...
# For a machine, a test, a cluster without cert-manager. What is there already stays: ca.crt is given to clients once.
set -euo pipefail
folder=$1
shift
mkdir -p "$folder"
cd "$folder"
umask 077
quietly() { "$@" 2>openssl.log || { cat openssl.log >&2; exit 1; }; }
if [ ! -f ca.crt ]; then
    quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
        -keyout ca.key -out ca.crt -subj "/CN=DPU authority" -addext keyUsage=critical,keyCertSign
fi
names=$(for name in "$@"; do [[ $name =~ ^[0-9.]+$ ]] && printf ',IP:%s' "$name" || printf ',DNS:%s' "$name"; done)
quietly openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -keyout tls.key.new -out request.pem -subj "/CN=$1"
quietly openssl x509 -req -in request.pem -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -out tls.crt.new \
    -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "${names#,}")
mv tls.key.new tls.key
mv tls.crt.new tls.crt
rm -f request.pem openssl.log ca.srl
chmod 644 ca.crt tls.crt
