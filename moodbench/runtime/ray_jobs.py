"""Run a command as a Ray job: submit it over HTTP, follow its log, and return its exit status."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from moodbench.errors import PrerequisiteError, UsageError
from moodbench.runtime.ray_internals import ray_with_settings, set_up_environment, set_up_token

POLL_S = 1.0
SILENCE_S = 120.0
"""After this long without a line, the job's status is queried: the connection may be dead without an error."""
RECONNECT_S = 300.0
"""How long to retry a lost connection."""


def submit(
    address: str, arguments: Sequence[str], *, working_dir: Path | None = None, say: Callable[[str], None]
) -> int:
    """Run `moodbench ARGUMENTS` as a job at `address` (http://HEAD:8265) and return its exit status.

    Its log goes to `say` as it comes. Files that the arguments name by a relative path are uploaded, or all of
    `working_dir` if it is given.

    Raises:
        PrerequisiteError: If the job is not accepted, or the connection is lost for RECONNECT_S.
    """
    client = _client(address)
    with tempfile.TemporaryDirectory(prefix="moodbench-submit-") as folder:
        ship = working_dir or files_to_ship(arguments, Path(folder))
        try:
            job_id = client.submit_job(
                entrypoint=shlex.join(["python", "-m", "moodbench", *arguments]),
                runtime_env={"working_dir": str(ship)} if ship else {},
            )
        except _server_errors() as error:
            raise PrerequisiteError(
                f"--address {address}: the job was not taken: {_short(error)}. See with "
                f"`ray job list --address {address}` whether it is there all the same"
            ) from error
    say(f"[{job_id} submitted to {address}; stop it with: ray job stop --address {address} {job_id}]\n")
    goes_on = f"{job_id} goes on; follow it with: ray job logs --address {address} --follow {job_id}"
    try:
        return LogFollower(client, job_id, say).exit_status()
    except ConnectionError as error:
        raise PrerequisiteError(
            f"--address {address}: the connection was lost and did not come back within {RECONNECT_S:.0f} s ({error}), "
            f"so how the job ends is not known here. {goes_on}"
        ) from error
    except KeyboardInterrupt:
        say(f"\n[{goes_on}]\n")
        return 130


class LogFollower:
    """Follower of a submitted job's log; after a lost connection it reconnects and resumes where it was."""

    def __init__(
        self,
        client: Any,
        job_id: str,
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client, self._job_id, self._say, self._clock, self._sleep = client, job_id, say, clock, sleep
        self._num_printed = 0
        self._lost_at: float | None = None

    def exit_status(self) -> int:
        """Follow the log to its end and return the exit status of the job's command.

        Raises:
            ConnectionError: If the job server was unreachable for RECONNECT_S.
        """
        while True:
            try:
                asyncio.run(self._follow())
                info = self._client.get_job_info(self._job_id)
                if info.status.is_terminal():
                    # The stream may have ended before the end of the log.
                    self._say(self._client.get_job_logs(self._job_id)[self._num_printed :])
                    if info.status == "SUCCEEDED":
                        return 0
                    self._say(f"[{self._job_id} {info.status}: {info.message}]\n")
                    return int(info.driver_exit_code) if info.driver_exit_code else 1
                self._lost_at = None
            except _server_errors() as error:
                if self._lost_at is None:
                    self._lost_at = self._clock()
                    self._say(f"[connection lost: {_short(error)}; trying again]\n")
                if self._clock() - self._lost_at > RECONNECT_S:
                    raise ConnectionError(_short(error)) from error
            self._sleep(POLL_S)

    async def _follow(self) -> None:
        """Pass on the log from where it was left; the server sends it from the beginning."""
        num_received, stream = 0, aiter(self._client.tail_job_logs(self._job_id))
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    text = await anext(stream)
            except (StopAsyncIteration, TimeoutError):
                return
            self._lost_at = None  # the connection is back, whatever ends this stream
            num_received += len(text)
            new = num_received - self._num_printed
            if new > 0:
                self._say(text[-new:])
                self._num_printed = num_received


def files_to_ship(arguments: Sequence[str], folder: Path) -> Path | None:
    """Copy each file that `arguments` name by a relative path into `folder`, under the same path.

    Return `folder`, or None if there is no such file.

    Raises:
        UsageError: If a file is outside the current folder.
    """
    for argument in arguments:
        path = Path(argument)
        if argument and not path.is_absolute() and path.is_file():
            if ".." in path.parts:
                raise UsageError(
                    f"{argument}: lies outside this folder; go there, or give an absolute path that all nodes share"
                )
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / path)
    return folder if any(folder.iterdir()) else None


def _client(address: str) -> Any:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--address {address!r}: expected the job server of Ray's head, such as http://127.0.0.1:8265")
    set_up_environment()
    set_up_token()
    ray_with_settings()
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except _server_errors() as error:
        text = _short(error)
        if "auth" in text.lower() or "token" in text.lower():
            advice = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file that the head was started with"
        else:
            advice = "is the head up, and its dashboard's port (8265) reachable from here?"
        raise PrerequisiteError(f"--address {address}: {text}; {advice}") from error


def _server_errors() -> tuple[type[Exception], ...]:
    """Return what Ray's job client and the HTTP libraries below it raise."""
    from aiohttp import ClientError
    from ray.exceptions import RayError

    return OSError, RuntimeError, ValueError, ClientError, RayError


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
