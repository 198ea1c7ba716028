#!/usr/bin/env bash
# A node that runs trials. Usage: start-worker.sh HEAD:6379 LABELS [more `ray start` options]
#   start-worker.sh 10.0.0.1:6379 "pool=gpu,ray.io/accelerator-type=A10G"
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,4p' "$0" >&2; exit 2; }
head=$1 labels=$2; shift 2
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
[ -s "$RAY_AUTH_TOKEN_PATH" ] || { echo "no token in $RAY_AUTH_TOKEN_PATH: copy the head's there" >&2; exit 2; }
exec ray start --address="$head" --labels="$labels" --resources='{"exclusive": 1}' --disable-usage-stats "$@"
