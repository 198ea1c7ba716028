"""Executor on this machine: packed commands under a local Ray, exclusive ones on their own, even without Ray."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, override

import psutil

from moodbench.errors import PrerequisiteError
from moodbench.runtime.executor import Command, Ended, Executor, Isolation, OnEvent, Progress
from moodbench.runtime.forkserver import ADDRESS, fork_server
from moodbench.runtime.process import Outcome, RunningProcess, environment_of
from moodbench.runtime.ray_actors import CommandActors, own_sigterm
from moodbench.runtime.ray_internals import private_token, ray_with_settings, set_up_environment

TRIES = 3
"""Number of attempts to start Ray: it gives its daemons 30 s, which no setting changes, and busy machines may retry."""
TOKEN = secrets.token_hex(32)
"""Authentication token of every Ray that this process starts."""
DRIVER = "MOODBENCH_RAY_DRIVER"
"""Environment variable of all processes of such a Ray: pid and start time of the process that started it."""


@contextmanager
def _marked() -> Iterator[None]:
    """Mark the processes that start inside the context as those of this driver."""
    os.environ[DRIVER] = f"{os.getpid()} {psutil.Process().create_time()}"
    try:
        yield
    finally:
        os.environ.pop(DRIVER, None)


def end_abandoned() -> list[int]:
    """End the processes of every Ray whose driver on this machine is dead, and return their process ids.

    Ray's daemons end with their driver, unless it is killed at a bad moment; then some of its agents live on.
    """
    left = [process for process in psutil.process_iter() if _is_abandoned(process)]
    _kill(left)
    return [each.pid for each in left]


def _kill(processes: Sequence[psutil.Process]) -> None:
    for each in processes:
        with suppress(psutil.Error):
            each.kill()
    psutil.wait_procs(processes, timeout=10)


def _is_abandoned(process: psutil.Process) -> bool:
    try:
        pid, _, started = process.environ().get(DRIVER, "").partition(" ")
    except (psutil.Error, OSError):  # of another user, or gone
        return False
    if not pid.isdigit():
        return False
    try:
        driver = psutil.Process(int(pid))
        return f"{driver.create_time()}" != started or driver.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


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
            with own_sigterm(), private_token(TOKEN), _marked():
                ray = ray_with_settings()
                ray.init(
                    address="local",
                    num_cpus=num_cpus,
                    _memory=memory_bytes,
                    include_dashboard=False,
                    object_store_memory=100 * 2**20,
                    log_to_driver=False,
                    logging_level="ERROR",
                )
        except BaseException as error:  # Ray raises a plain Exception if its daemons were too slow
            _kill([child for child in psutil.Process().children() if child not in ours])
            if not isinstance(error, Exception):  # Ctrl-C or SIGTERM
                raise
            if attempt < TRIES and "timed out" in str(error).lower():
                continue
            raise PrerequisiteError(
                f"Ray did not start on this machine: {error}. `--executor inline` runs without it, one phase at a time"
            ) from error
        break
    return ray


class LocalRayExecutor(Executor):
    """Executor with a local Ray, started when a command needs it, with a token that only this process knows.

    Ray's daemons use about 4 % of a core: too much beside a measurement that uses every core. So an exclusive command,
    which the policy starts only when nothing else runs, stops Ray first and runs as a plain process. Forkable commands
    under Ray are children of a fork server, which stops with Ray.
    """

    def __init__(self, num_cpus: int) -> None:
        self._num_cpus = num_cpus
        self._ray: Any = None
        self._stack = ExitStack()
        """Stops the fork server."""
        self._actors: CommandActors | None = None
        self._alone: tuple[str, RunningProcess | Outcome] | None = None
        """Key and process of an exclusive command, or its outcome if the process could not start."""

    @override
    def isolation(self, node_id: str) -> Isolation:
        return "alone"

    @override
    def start(self, command: Command, node_id: str) -> None:
        if not command.exclusive:
            self._started().start(command, fork_server=self._fork_server(command))
            return
        if self._actors or self._alone:
            raise RuntimeError(f"{command.key} must run alone, but other commands are running")
        self._stop_ray()
        try:
            process = RunningProcess(command.argv, command.stdin, command.num_threads, deadline_s=command.deadline_s)
        except (OSError, RuntimeError) as error:  # no process, thread or disk space available
            self._alone = command.key, Outcome("infrastructure", f"its process cannot run: {error}")
        else:
            self._alone = command.key, process

    @override
    def poll(self, timeout_s: float, on_event: OnEvent) -> list[Ended]:
        if self._alone is not None:
            return self._poll_alone(*self._alone, timeout_s, on_event)
        finished = self._actors.poll(timeout_s, on_event) if self._actors else []
        if any(each.outcome.kind == "infrastructure" for each in finished) and not self._actors:
            self._stop_ray()  # Ray itself may have died: the next command gets a new one
        return finished

    def _poll_alone(
        self, key: str, process: RunningProcess | Outcome, timeout_s: float, on_event: OnEvent
    ) -> list[Ended]:
        while True:
            message = process if isinstance(process, Outcome) else process.message(timeout_s)
            if message is None:
                return []
            if isinstance(message, Outcome):
                self._alone = None
                return [Ended(key, message)]
            on_event(Progress(key, message))
            timeout_s = 0

    @override
    def has_started(self, key: str) -> bool:
        return (self._alone is not None and self._alone[0] == key) or (
            self._actors is not None and self._actors.has_started(key)
        )

    @override
    def cancel(self, key: str) -> None:
        if self._alone is not None and self._alone[0] == key:
            self._close_alone()
        elif self._actors:
            self._actors.cancel(key)

    @override
    def close(self) -> None:
        self._close_alone()
        self._stop_ray()

    def _close_alone(self) -> None:
        if self._alone is not None and isinstance(self._alone[1], RunningProcess):
            self._alone[1].close()
        self._alone = None

    def _fork_server(self, command: Command) -> str | None:
        """Return the address of the fork server for `command`, after starting one if there is none."""
        if not command.forkable:
            return None
        if ADDRESS not in os.environ:
            self._stack.enter_context(fork_server(command.argv[1], environment_of(1)))
        return os.environ.get(ADDRESS)

    def _started(self) -> CommandActors:
        if self._actors is None:
            self._ray = start_ray(self._num_cpus)
            self._actors = CommandActors(self._ray)
        return self._actors

    def _stop_ray(self) -> None:
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = self._actors = None
        self._stack.close()
