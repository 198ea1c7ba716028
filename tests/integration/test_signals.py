"""SIGTERM ends a command as Ctrl-C does: with one line and an exit code of its own, and nothing half-made is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import SHORT, moodbench

from moodbench.store import Store

pytestmark = pytest.mark.integration
ENDINGS = pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])


def started(*arguments, cwd: Path) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.Popen(
        [sys.executable, "-m", "moodbench", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_(seen, process: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while not seen():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)


def ended_by(number: int, process: subprocess.Popen) -> str:
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    return errors


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    moodbench("train", "--model", "majority", "--dataset", "icwsm-tweets", "--executor", "inline", cwd=folder)
    return folder / "results"


@ENDINGS
def test_predict_leaves_no_part_of_its_output(results, tmp_path, number, code):
    arguments = ("predict", "--model", "majority", "--input", "-", "--output", "labels.csv")
    process = started(*arguments, "--store", results, cwd=tmp_path)
    await_(lambda: list(tmp_path.iterdir()), process)
    assert [p.suffix for p in tmp_path.iterdir()] == [".part"], "it waits for texts, its output begun"
    assert "moodbench: interrupted" in ended_by(number, process)
    assert process.returncode == code
    assert list(tmp_path.iterdir()) == []


@ENDINGS
def test_a_run_leaves_nothing_staged_and_says_what_to_do(tmp_path, number, code):
    (tmp_path / "overlay.yaml").write_text(SHORT)
    arguments = ("run", "small", "--config", "overlay.yaml", "--executor", "inline", "--json")
    process = started(*arguments, cwd=tmp_path)
    await_(lambda: list(tmp_path.glob("results/staging/*.lock")), process)
    errors = ended_by(number, process)
    assert process.returncode == code, errors
    assert "rerun the command to resume" in errors and "Traceback" not in errors
    assert list(tmp_path.glob("results/staging/*")) == []
    Store.open(tmp_path / "results").records("fits")


def test_sigterm_that_comes_while_code_made_from_text_runs_keeps_its_exit_code(tmp_path):
    """As in dataclasses and named tuples; Python remembers a plain KeyboardInterrupt that passes there, and ends by SIGINT."""
    (tmp_path / "ended.py").write_text(
        "import moodbench.cli, moodbench.__main__ as command\n"
        "moodbench.cli.main = lambda: exec('import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)')\n"
        "command.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "ended"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (143, "moodbench: interrupted\n")
