#!/usr/bin/env bash
# The head of a cluster: leads, and runs no trials. Usage: start-head.sh [more `ray start` options]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
    mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
    (umask 077; od -An -tx1 -N32 /dev/urandom | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH")
    echo "new token in $RAY_AUTH_TOKEN_PATH: copy that file to every node and to whoever submits" >&2
fi
exec ray start --head --port=6379 --num-cpus=0 --labels="pool=head" --disable-usage-stats \
    --dashboard-host=127.0.0.1 --dashboard-port=8265 "$@"
