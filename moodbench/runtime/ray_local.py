"""Executor on this machine: packed commands under a local Ray, exclusive ones on their own, even without Ray."""

from __future__ import annotations

import queue
import secrets
import threading
from contextlib import suppress
from typing import Any

import psutil

from moodbench.errors import PrerequisiteError
from moodbench.runtime.executor import Command, Ended, Hear, Isolation, Progress
from moodbench.runtime.process import RunningProcess, ended
from moodbench.runtime.ray_phases import Phases, own_sigterm
from moodbench.runtime.ray_settings import core_with_settings, private_token, set_up_environment

TRIES = 3
"""Number of attempts to start Ray: it gives its daemons 30 s, which no setting changes, and busy machines may retry."""
TOKEN = secrets.token_hex(32)
"""Authentication token of every Ray that this process starts."""


def start_ray(num_cpus: int, *, memory_bytes: int | None = None) -> Any:
    """Start Ray on this machine, with a token that only this process knows, and return the module ray.

    `memory_bytes` is the total memory that its tasks may request; None leaves that to Ray.

    Raises:
        PrerequisiteError: If Ray does not start.
    """
    set_up_environment()
    ours = set(psutil.Process().children())
    for attempt in range(1, TRIES + 1):
        try:
            with own_sigterm(), private_token(TOKEN):
                ray = core_with_settings()
                ray.init(
                    address="local",
                    num_cpus=num_cpus,
                    _memory=memory_bytes,
                    include_dashboard=False,
                    object_store_memory=100 * 2**20,
                    log_to_driver=False,
                    logging_level="ERROR",
                )
        except Exception as error:  # Ray raises a plain Exception if its daemons were too slow
            _end_daemons(ours)
            if attempt < TRIES and "timed out" in str(error).lower():
                continue
            raise PrerequisiteError(
                f"Ray did not start on this machine: {error}. `--executor inline` runs without it, one phase at a time"
            ) from error
        except BaseException:  # Ctrl-C or SIGTERM
            _end_daemons(ours)
            raise
        break
    return ray


def _end_daemons(others: set[psutil.Process]) -> None:
    """Kill the children of this process that are not in `others`: what a failed start of Ray leaves behind."""
    left = [child for child in psutil.Process().children() if child not in others]
    for each in left:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(left, timeout=10)


class LocalRayExecutor:
    """Executor with a local Ray, started when a command needs it, with a token that only this process knows.

    Ray's daemons use about 4 % of a core: too much beside a measurement that uses every core. So an exclusive command,
    which the policy starts only when nothing else runs, stops Ray first and runs as a plain process.
    """

    def __init__(self, num_cpus: int) -> None:
        self._num_cpus = num_cpus
        self._ray: Any = None
        self._phases: Phases | None = None
        self._alone: _Alone | None = None

    def isolation(self, node_id: str) -> Isolation:
        """Return "alone": exclusive commands run without Ray beside them."""
        return "alone"

    def start(self, command: Command, node_id: str) -> None:
        """Start the command: a packed one when Ray has free CPUs, an exclusive one now."""
        if command.exclusive:
            if self._phases or self._alone:
                raise RuntimeError(f"{command.key} must run alone, but other commands are running")
            self._stop_ray()
            self._alone = _Alone(command)
            return
        self._started().start(command)

    def poll(self, timeout_s: float, hear: Hear) -> list[Ended]:
        """Return the commands that ended and pass events to `hear`; wait up to `timeout_s` for the first."""
        if self._alone:
            finished = self._alone.poll(timeout_s, hear)
            if finished:
                self._alone = None
            return finished
        finished = self._phases.poll(timeout_s, hear) if self._phases else []
        if any(each.outcome.kind == "infrastructure" for each in finished) and not self._phases:
            self._stop_ray()  # Ray itself may have died: the next command gets a new one
        return finished

    def begun(self, key: str) -> bool:
        """Return whether this command's process has started."""
        return (self._alone is not None and self._alone.key == key) or (
            self._phases is not None and self._phases.begun(key)
        )

    def free(self, node_id: str) -> str:
        """Return an empty string: this Ray has no other user."""
        return ""

    def forget(self, key: str) -> None:
        """Kill the command."""
        if self._alone and self._alone.key == key:
            self._alone.kill()
            self._alone = None
        elif self._phases:
            self._phases.forget(key)

    def close(self) -> None:
        """Kill all commands and stop Ray."""
        if self._alone:
            self._alone.kill()
        self._stop_ray()

    def _started(self) -> Phases:
        if self._phases is None:
            self._ray = start_ray(self._num_cpus)
            self._phases = Phases(self._ray)
        return self._phases

    def _stop_ray(self) -> None:
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = self._phases = None


class _Alone:
    """A process whose messages a thread collects."""

    def __init__(self, command: Command) -> None:
        self.key = command.key
        self._messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._process: RunningProcess | None = None
        started = threading.Event()

        # The thread that starts a process must outlive it: on Linux the process is set to die with that thread.
        def collect() -> None:
            try:
                process = RunningProcess(command.argv, command.stdin, command.num_threads)
                self._process = process
                started.set()
                for message in process.messages(deadline_s=command.deadline_s):
                    self._messages.put(message)
            except Exception as error:  # noqa: BLE001 - no process, thread or disk space available
                self._messages.put({"outcome": "infrastructure", "detail": f"its process cannot run: {error}"})
            finally:
                started.set()

        threading.Thread(target=collect, daemon=True).start()
        started.wait()

    def kill(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.kill()

    def poll(self, timeout_s: float, hear: Hear) -> list[Ended]:
        """Return the end of the process, if it ended, and pass its events to `hear`."""
        try:
            message = self._messages.get(timeout=timeout_s)
            while (outcome := ended(message)) is None:
                hear(Progress(self.key, message))
                message = self._messages.get_nowait()
        except queue.Empty:
            return []
        return [Ended(self.key, outcome)]
