"""A command as a job of a Ray cluster: submitted over HTTP, its log followed, its exit status handed back."""

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
from moodbench.execution.ray_cluster import set_up_token
from moodbench.execution.ray_phases import set_up_environment

POLL_S = 1.0


def submit(
    address: str, arguments: Sequence[str], *, working_dir: Path | None = None, say: Callable[[str], None]
) -> int:
    """The exit status of `moodbench ARGUMENTS` as a job at `address` (http://HEAD:8265); its log goes to `say` as it comes.

    Files that the arguments name by a relative path go along, or all of `working_dir` when it is given.
    """
    client = _client(address)
    with tempfile.TemporaryDirectory(prefix="moodbench-submit-") as folder:
        ship = working_dir or files_to_ship(arguments, Path(folder))
        job_id = client.submit_job(
            entrypoint=shlex.join(["python", "-m", "moodbench", *arguments]),
            runtime_env={"working_dir": str(ship)} if ship else {},
        )
    say(f"[{job_id} submitted to {address}; stop it with: ray job stop --address {address} {job_id}]\n")
    try:
        asyncio.run(_follow(client, job_id, say))
        return _exit_status(client, job_id, say)
    except KeyboardInterrupt:
        say(f"\n[{job_id} goes on; follow it with: ray job logs --address {address} --follow {job_id}]\n")
        return 130


def files_to_ship(arguments: Sequence[str], folder: Path) -> Path | None:
    """`folder` with a copy of each file that `arguments` name by a relative path, at the same place; None for none."""
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
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except Exception as error:
        text = " ".join(str(error).split())
        if "auth" in text.lower() or "token" in text.lower():
            advice = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file that the head was started with"
        else:
            advice = "is the head up, and its dashboard's port (8265) reachable from here?"
        raise PrerequisiteError(f"--address {address}: {text[:300] or type(error).__name__}; {advice}") from error


async def _follow(client: Any, job_id: str, say: Callable[[str], None]) -> None:
    async for text in client.tail_job_logs(job_id):
        say(text)


def _exit_status(client: Any, job_id: str, say: Callable[[str], None]) -> int:
    while not (info := client.get_job_info(job_id)).status.is_terminal():
        time.sleep(POLL_S)
    if info.status == "SUCCEEDED":
        return 0
    say(f"[{job_id} {info.status}: {info.message}]\n")
    return int(info.driver_exit_code) if info.driver_exit_code else 1
