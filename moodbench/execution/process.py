"""One command as a process: its JSON events as it prints them, then how it ended."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

from moodbench.execution.executor import Outcome, outcome_of

STDERR_LINES = 20


class RunningProcess:
    """A started command. Libraries in it use `num_threads` threads."""

    def __init__(self, argv: tuple[str, ...], stdin: str, num_threads: int) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"OMP_NUM_THREADS": str(num_threads), "MKL_NUM_THREADS": str(num_threads)}
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed by messages()
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdin is not None
        self._process.stdin.write(stdin)
        self._process.stdin.close()

    def messages(self) -> Iterator[dict[str, Any]]:
        """Each event that the command prints, then `{"outcome": kind, "detail": ...}`."""
        assert self._process.stdout is not None
        with self._errors, self._process.stdout:
            for line in self._process.stdout:
                yield json.loads(line)
            return_code = self._process.wait()
            self._errors.seek(0)
            outcome = outcome_of(return_code, "\n".join(self._errors.read().splitlines()[-STDERR_LINES:]))
        yield {"outcome": outcome.kind, "detail": outcome.detail}

    def kill(self) -> None:
        """Nothing; ends the process at once."""
        self._process.kill()


def ended(message: dict[str, Any]) -> Outcome | None:
    """The outcome in the last message of a process; None for an event."""
    return Outcome(message["outcome"], message["detail"]) if "outcome" in message else None
