"""Run moodbench commands in tests, in this process or as a user does, and a preset that takes seconds."""

import contextlib
import io
import logging
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from unittest import mock

import pytest
from filelock import FileLock

from moodbench.cli import main

SHORT = """
evaluation:
  protocols:
    short: {processes: 2, requests: 50, window_requests: 25, warmup_s: 0, batch_sizes: [1, 8], batch_seconds: 0.1,
            batch_repeats: 1, max_attempts: 1, backoff_s: 0, quick: true}
presets:
  small:
    description: three entries on few tweets
    models: [tfidf-logreg, MiniLM-L3, MiniLM-L6-probe]
    datasets: [icwsm-tweets]
    max_train_examples: 96
    max_validation_examples: 48
    protocol: short
    train: {epochs: 1, evaluations_per_epoch: 1}
"""


@dataclass(frozen=True)
class Ended:
    """A moodbench command that ended: what it wrote and its exit code."""

    stdout: str
    stderr: str
    code: int


def moodbench(*arguments, cwd, code=0):
    """Run a moodbench command in this process, in folder `cwd`; it must exit with `code`."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
        warnings.catch_warnings(),
        mock.patch.object(logging.root, "handlers", []),  # the command logs to its own standard error
        pytest.raises(SystemExit) as exit_,
    ):
        warnings.resetwarnings()  # a user's Python raises no warnings as errors
        main([str(each) for each in arguments])
    return _checked(Ended(*(each.buffer.getvalue().decode() for each in streams), exit_.value.code), code)


def moodbench_process(*arguments, cwd, code=0):
    """Run a moodbench command as a user does, in a new process, in folder `cwd`; it must exit with `code`."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-m", "moodbench", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=500,
        check=False,
    )
    return _checked(Ended(done.stdout, done.stderr, done.returncode), code)


def _checked(ended, code):
    assert ended.code == code, f"exit {ended.code}\n{ended.stdout}\n{ended.stderr}"
    return ended


def made_once(tmp_path_factory, name, make):
    """Return the folder `name` that `make(folder)` fills, once for all test processes of this session."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / name
    filled = folder.with_suffix(".filled")
    with FileLock(f"{folder}.lock"):
        if not filled.exists():
            folder.mkdir()
            make(folder)
            filled.touch()
    return folder
