"""Commands run as processes under Ray tasks, on this machine's own Ray."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

from moodbench.errors import PrerequisiteError
from moodbench.execution.executor import Command, Ended, Hear, Isolation, Outcome, Progress, outcome_of

EXCLUSIVE = "exclusive"
"""Resource of which each node has 1: an exclusive command takes all of it, any other a sliver."""
SLIVER = 0.001
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else every worker would run `uv run` again
    "RAY_grpc_client_keepalive_time_ms": "10000",  # a cut link is noticed in seconds, not minutes
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class RayExecutor:
    """A Ray of its own on this machine, with a token that only this run knows."""

    isolation: Isolation = "resource"

    def __init__(self, num_cpus: int) -> None:
        os.environ.update(SETTINGS)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # Ray starts three times slower without byte code
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        import ray

        self._ray = ray
        try:
            ray.init(
                address="local",
                num_cpus=num_cpus,
                resources={EXCLUSIVE: 1},
                include_dashboard=False,
                object_store_memory=100 * 2**20,
                log_to_driver=False,
                logging_level="ERROR",
            )
        except (ConnectionError, RuntimeError, OSError) as error:
            raise PrerequisiteError(
                f"Ray did not start on this machine: {error}. `--executor inline` runs without it, one phase at a time"
            ) from error
        self._run = ray.remote(max_retries=0, num_returns="streaming")(_stream_command)
        self._running: dict[Any, str] = {}

    def start(self, command: Command) -> None:
        """Nothing; Ray starts the command when its resources are free."""
        task = self._run.options(
            num_cpus=command.num_cpus,
            resources={EXCLUSIVE: 1 if command.exclusive else SLIVER},
            name=command.key,
        )
        self._running[task.remote(list(command.argv), command.stdin, command.num_cpus)] = command.key

    def poll(self, timeout_s: float, hear: Hear) -> list[Ended]:
        """Commands that ended; `hear` gets what the running ones told. Waits up to `timeout_s` for the first news."""
        ended: list[Ended] = []
        heard = False
        while self._running:
            patience = 0.0 if heard else timeout_s
            ready, _ = self._ray.wait(list(self._running), timeout=patience, fetch_local=False)
            if not ready:
                break
            heard = True
            for stream in ready:
                news = self._next(stream)
                if isinstance(news, Ended):
                    ended.append(news)
                else:
                    hear(news)
        return ended

    def close(self) -> None:
        """Nothing; Ray and everything it runs is ended."""
        self._running.clear()
        self._ray.shutdown()

    def _next(self, stream: Any) -> Progress | Ended:
        key = self._running[stream]
        try:
            message = self._ray.get(next(stream))
        except StopIteration:
            message = {"lost": "the task ended without an outcome"}
        except self._ray.exceptions.RayError as error:
            message = {"lost": str(error)}
        if "lost" in message:
            del self._running[stream]
            return Ended(key, Outcome("infrastructure", message["lost"]))
        if "return_code" in message:
            del self._running[stream]
            return Ended(key, outcome_of(message["return_code"], message["stderr"]))
        return Progress(key, message)


def _stream_command(argv: list[str], stdin: str, num_threads: int) -> Iterator[dict[str, Any]]:
    """The JSON events of a process as it prints them, then its return code and the end of its standard error."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads), "MKL_NUM_THREADS": str(num_threads)}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            text=True,
            encoding="utf-8",
        )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(stdin)
        process.stdin.close()
        for line in process.stdout:
            yield json.loads(line)
        return_code = process.wait()
        errors.seek(0)
        yield {"return_code": return_code, "stderr": "\n".join(errors.read().splitlines()[-20:])}
