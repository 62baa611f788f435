#!/usr/bin/env bash
# Writes which images production runs, as the component k8s/overlays/production/digests:
#   deploy/digests.sh registry.example.org/dpu/control@sha256:... registry.example.org/dpu/worker@sha256:...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../k8s/overlays/production"
[ $# -eq 2 ] || { echo "two images are needed, control and worker, each by its digest" >&2; exit 2; }
images=''
for target in control worker; do
    [[ $1 =~ ^(.+/$target)@(sha256:[0-9a-f]{64})$ ]] || { echo "'$1' is not .../$target@sha256:<64 digits>" >&2; exit 2; }
    images+="  - {name: dpu/$target, newName: ${BASH_REMATCH[1]}, digest: '${BASH_REMATCH[2]}'}"$'\n'
    shift
done
mkdir -p digests
cat > digests/kustomization.yaml <<END
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
images:
${images%$'\n'}
END
