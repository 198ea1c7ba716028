# Sourced by start-head.sh and start-worker.sh: what every node's Ray must be started with. See README.md.
: "${RAY_AUTH_TOKEN_PATH:=$HOME/.ray/auth_token}"
export RAY_AUTH_TOKEN_PATH
export RAY_AUTH_MODE=token                      # never left to Ray's guess: it depends on whether a file happens to exist
export RAY_USAGE_STATS_ENABLED=0
export RAY_ENABLE_UV_RUN_RUNTIME_ENV=0          # else every worker process would run `uv run` again
export RAY_worker_niceness=0                    # Ray's 15 lets trials starve, and measurements wait, for whatever else runs
export RAY_health_check_initial_delay_ms=5000 RAY_health_check_period_ms=1000
export RAY_health_check_timeout_ms=3000 RAY_health_check_failure_threshold=3
export RAY_grpc_client_keepalive_time_ms=10000 RAY_grpc_client_keepalive_timeout_ms=5000  # a cut link: seconds, not minutes
unset PYTHONDONTWRITEBYTECODE                   # Ray starts three times slower without byte code

# Jobs run the first `python` on the PATH that Ray was started with: it must be the one moodbench is installed in.
venv="${MOODBENCH_VENV:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv}"
export PATH="$venv/bin:$PATH"
command -v ray >/dev/null || { echo "no ray in $venv: run 'uv sync --compile-bytecode', or set MOODBENCH_VENV" >&2; exit 2; }
