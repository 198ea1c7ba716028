"""Where a command meets the system: closed and narrow streams, odd arguments and paths, and errors of our own."""

import json
import os
import re
import subprocess
import sys
from email.message import Message
from pathlib import Path

import pytest
from fitted_majority import commit_fit
from refused import fail
from toy_store import write_toy_store

from moodbench.cli import _report_to, main
from moodbench.store import Store

pytestmark = pytest.mark.usefixtures("empty_folder")
BOARD = [sys.executable, "-m", "moodbench", "leaderboard", "--store", "results"]


def files(folder):
    return {str(p): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def board_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    write_toy_store(folder / "results")
    return folder


def shell(script, folder, *argv, **environment):
    """What `script`, in which "$@" is the command, ends with; the store is as before."""
    before = files(folder / "results")
    done = subprocess.run(
        ["bash", "-c", script, "bash", *argv], cwd=folder, capture_output=True, check=False, timeout=120,
        env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | environment,
    )  # fmt: skip
    assert files(folder / "results") == before
    for part in (b"Traceback", b"Exception ignored"):
        assert part not in done.stderr
    return done


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_takes_nothing_with_it(closed, board_store):
    assert shell(f'"$@" {closed}', board_store, *BOARD).returncode == 0


def test_predictions_for_a_closed_output_are_refused(tmp_path):
    commit_fit(Store.open(tmp_path / "results"), "majority")
    Path("a.txt").write_text("good\n")
    command = [sys.executable, "-m", "moodbench", "predict", "--model", "majority", "--input", "a.txt"]
    done = shell('"$@" >&-', tmp_path, *command)
    assert done.returncode == 2 and b"--output -: standard output is closed; give a file's name" in done.stderr


@pytest.mark.parametrize("option", [[], ["--json"], ["--csv"]])
def test_a_reader_that_leaves_early_ends_nothing(option, board_store):
    done = shell('"$@" | true; exit ${PIPESTATUS[0]}', board_store, *BOARD, *option)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_output_that_is_full_is_reported(board_store):
    done = shell('"$@" > /dev/full', board_store, *BOARD)
    assert done.returncode == 2 and b"No space left on device" in done.stderr


def test_narrow_encodings_get_the_same_numbers(board_store):
    wide = shell('"$@"', board_store, *BOARD, "--json", PYTHONIOENCODING="utf-8")
    for environment in ({"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C"}):
        narrow = shell('"$@"', board_store, *BOARD, "--json", **environment)
        assert narrow.returncode == 0 and json.loads(narrow.stdout) == json.loads(wide.stdout)
    shown = shell('"$@"', board_store, *BOARD, PYTHONIOENCODING="ascii")
    assert shown.returncode == 0 and b"toy-set" in shown.stdout and b"\\u2013" not in shown.stdout


def test_a_deleted_working_folder_is_explained(board_store):
    done = shell('mkdir gone && cd gone && rmdir ../gone && "$@"', board_store, *BOARD)
    assert done.returncode == 2 and b"the working folder no longer exists; change to another one" in done.stderr


def test_bytes_that_are_no_text_are_shown_as_escapes(board_store):
    done = shell('"$@" "$(printf "\\377\\033[31m")"', board_store, *BOARD[:3], "report", "--store")
    assert done.returncode == 2 and rb"\udcff\x1b[31m: holds no records" in done.stderr


def test_an_error_of_our_own_is_a_sentence_with_what_a_report_needs(monkeypatch, capsys):
    def broken(*_, **__):
        raise KeyError("nobody \x1b[31m expected this")

    write_toy_store(Path("results"))
    monkeypatch.setattr("moodbench.cli.leaderboard.view_leaderboard", broken)
    said = fail(["leaderboard", "--store", "results"], capsys)
    assert said.startswith("moodbench: an error of MoodBench itself, not of your request: KeyError: ")
    assert "Committed results are safe. Please report it to " in said and "\x1b" not in said
    assert ", with the command, the output of `moodbench doctor` and the file " in said
    kept = Path(re.search(r"and the file (\S+), which has the details", said).group(1))
    assert "in broken" in kept.read_text() and "Traceback" in kept.read_text()
    kept.unlink()


@pytest.mark.parametrize(
    ("urls", "where"),
    [
        ([], "the maintainers of MoodBench, or whoever installed it for you"),
        (["Homepage, https://moodbench.example"], "the maintainers of MoodBench, or whoever installed it for you"),
        (["Homepage, https://moodbench.example", "Issues, https://tracker.example/1"], "https://tracker.example/1"),
        (["Bug Tracker, https://tracker.example/2"], "https://tracker.example/2"),
    ],
)
def test_the_place_to_report_to_is_that_of_the_installed_package(urls, where, monkeypatch):
    given = Message()
    for url in urls:
        given["Project-URL"] = url
    monkeypatch.setattr("importlib.metadata.metadata", lambda name: given)
    assert _report_to() == where


def test_an_error_message_that_cannot_be_printed_ends_with_two_as_well(monkeypatch):
    class Full:
        def write(self, _):
            raise OSError(28, "No space left on device")

        flush = write

    monkeypatch.setattr(sys, "stderr", Full())
    with pytest.raises(SystemExit) as ended:
        main(["run", "quickstat"])
    assert ended.value.code == 2
