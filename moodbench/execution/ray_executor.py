"""Packed commands under this machine's own Ray, exclusive ones alone beside nothing, not even Ray."""

from __future__ import annotations

import os
import queue
import secrets
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

from moodbench.errors import PrerequisiteError
from moodbench.execution.executor import Command, Ended, Hear, Isolation, Outcome, Progress
from moodbench.execution.process import RunningProcess, ended

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else every worker would run `uv run` again
    "RAY_grpc_client_keepalive_time_ms": "10000",  # a cut link is noticed in seconds, not minutes
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@cache
def _token() -> str:
    """The token of every Ray that this process starts: Ray's client remembers the first it was given."""
    return secrets.token_hex(32)


class LocalRayExecutor:
    """A Ray of its own on this machine, with a token that only this run knows, started when a command needs it.

    Ray's daemons take about 4 % of a core: too much beside a measurement that uses every core. So an exclusive command,
    which the policy starts only when nothing else runs, ends Ray first and runs as a plain process.
    """

    isolation: Isolation = "alone"

    def __init__(self, num_cpus: int) -> None:
        self._num_cpus = num_cpus
        self._ray: Any = None
        self._streams: dict[Any, str] = {}
        self._alone: _Alone | None = None

    def start(self, command: Command) -> None:
        """Nothing; a packed command starts when Ray has processors free, an exclusive one now."""
        if command.exclusive:
            if self._streams or self._alone:
                raise RuntimeError(f"{command.key} must run alone, but other commands are running")
            self._stop_ray()
            self._alone = _Alone(command)
            return
        ray = self._start_ray()
        task = ray.remote(_stream_command).options(
            num_cpus=command.num_cpus, max_retries=0, num_returns="streaming", name=command.key
        )
        self._streams[task.remote(command.argv, command.stdin, command.num_cpus)] = command.key

    def poll(self, timeout_s: float, hear: Hear) -> list[Ended]:
        """Commands that ended; `hear` gets what the running ones told. Waits up to `timeout_s` for the first news."""
        if self._alone:
            finished = self._alone.poll(timeout_s, hear)
            if finished:
                self._alone = None
            return finished
        finished, heard = [], False
        while self._streams:
            patience = 0.0 if heard else timeout_s
            ready, _ = self._ray.wait(list(self._streams), timeout=patience, fetch_local=False)
            if not ready:
                break
            heard = True
            for stream in ready:
                news = self._next(stream)
                if isinstance(news, Ended):
                    finished.append(news)
                else:
                    hear(news)
        return finished

    def close(self) -> None:
        """Nothing; Ray and everything that runs is ended."""
        if self._alone:
            self._alone.process.kill()
        self._stop_ray()

    def _next(self, stream: Any) -> Progress | Ended:
        key = self._streams[stream]
        try:
            message = self._ray.get(next(stream))
        except StopIteration:
            message = {"outcome": "infrastructure", "detail": "the task ended without an outcome"}
        except self._ray.exceptions.RayError as error:
            message = {"outcome": "infrastructure", "detail": str(error)}
        outcome = ended(message)
        if outcome is None:
            return Progress(key, message)
        del self._streams[stream]
        return Ended(key, outcome)

    def _start_ray(self) -> Any:
        if self._ray is None:
            os.environ.update(SETTINGS)
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # Ray starts three times slower without byte code
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN"] = _token()
            import ray

            try:
                ray.init(
                    address="local",
                    num_cpus=self._num_cpus,
                    include_dashboard=False,
                    object_store_memory=100 * 2**20,
                    log_to_driver=False,
                    logging_level="ERROR",
                )
            except (ConnectionError, RuntimeError, OSError) as error:
                raise PrerequisiteError(
                    f"Ray did not start on this machine: {error}. "
                    "`--executor inline` runs without it, one phase at a time"
                ) from error
            self._ray = ray
        return self._ray

    def _stop_ray(self) -> None:
        if self._ray is not None:
            self._streams.clear()
            self._ray.shutdown()
            self._ray = None


class _Alone:
    """A process whose messages a thread collects."""

    def __init__(self, command: Command) -> None:
        self._key = command.key
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.process: RunningProcess
        started = threading.Event()

        # The thread that starts a process must live as long: on Linux the process is told to die with it.
        def collect() -> None:
            self.process = RunningProcess(command.argv, command.stdin, command.num_cpus)
            started.set()
            for message in self.process.messages():
                self._messages.put(message)

        threading.Thread(target=collect, daemon=True).start()
        started.wait()

    def poll(self, timeout_s: float, hear: Hear) -> list[Ended]:
        """The end of the process, if it came; events go to `hear`."""
        try:
            message = self._messages.get(timeout=timeout_s)
            while (outcome := ended(message)) is None:
                hear(Progress(self._key, message))
                message = self._messages.get_nowait()
        except queue.Empty:
            return []
        return [Ended(self._key, Outcome(outcome.kind, outcome.detail))]


def _stream_command(argv: tuple[str, ...], stdin: str, num_threads: int) -> Iterator[dict[str, Any]]:
    """The messages of a command that runs on whichever node Ray chose."""
    yield from RunningProcess(argv, stdin, num_threads).messages()
