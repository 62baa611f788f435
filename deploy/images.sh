#!/usr/bin/env bash
# Builds the images dpu/control and dpu/worker, tagged with the version of pyproject.toml, by podman or docker
# (ENGINE=...), with further OPTIONS. The same commit and the same base give the same layers: all times are the commit's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
engine=${ENGINE:-$(command -v podman docker | head -n 1)}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
case $(basename "${engine:?neither podman nor docker is installed}") in
    podman) dated=(--timestamp "$SOURCE_DATE_EPOCH" --ignorefile deploy/Dockerfile.dockerignore) ;;
    # BuildKit finds the list of what is ignored by its name, and the moment in the variable.
    *) dated=(--build-arg SOURCE_DATE_EPOCH --output type=docker,rewrite-timestamp=true) ;;
esac
[ $# -gt 0 ] || set -- control worker
for image in "$@"; do
    # shellcheck disable=SC2086  # OPTIONS are several words
    "$engine" build "${dated[@]}" ${OPTIONS:-} --network host --file deploy/Dockerfile --target "$image" --tag "dpu/$image:$version" .
done
