#!/usr/bin/env bash
# Makes the image that deploy/Dockerfile begins with from Debian's packages, under its name, where no registry is in
# reach: for tests only. It trusts whom this machine trusts, so it is never to be published.
#   deploy/base/make.sh [NAME]      needs root, mmdebstrap and podman
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
name=${1:-$(sed -n 's/^ARG BASE=//p' "$here/../Dockerfile")}
trusted=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=minbase --include=ca-certificates,netbase,python3,python3-pip,python3-venv,tzdata \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$folder/base.tar"
podman import --quiet "$folder/base.tar" localhost/debian:bookworm-python >/dev/null
cp "$trusted" "$folder/trusted.crt"
podman build --quiet --tag "$name" --file "$here/Containerfile" "$folder"
