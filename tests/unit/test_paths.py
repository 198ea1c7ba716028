"""Paths and names that users give, and output files: what is written where, and what is never replaced."""

import os
import stat
import threading
from pathlib import Path

import pandas as pd
import pytest

from moodbench.errors import MoodBenchError, PrerequisiteError, UsageError
from moodbench.paths import checked_name, expanded, folder_name, output_file, user_path, write_output
from moodbench.spec import BenchmarkSpec
from moodbench.tracking import Point, TrackedRecord, TrackedTrial, log_to_tensorboard
from moodbench.tune.result import tuned_name

pytestmark = pytest.mark.usefixtures("empty_folder")

GOOD = ["imdb", "icwsm-movie-3", "gpt_neox", "Llama 3.2", "отзывы", "a", "_own", "v1.0+cpu"]
BAD = [
    "", ".", "..", "../x", "/etc", "a/b", "a\\b", "-rf", ".hidden", "a\0b", "a\nb", "a:b", "x" * 121, "ж" * 61, "nul",
    "CON", "lpt1.txt", "ends.", "ends ", "~root", "a\ud800", "\u202ea",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_usual_name_is_allowed(name):
    assert checked_name(name) == name


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_could_leave_its_folder_or_that_a_system_lacks_is_refused(name):
    with pytest.raises(ValueError, match=r"allowed are|is the name of a device"):
        checked_name(name)


@pytest.mark.parametrize("name", ["../..", "a/../b", "/a", "a/", "a//b", "a/b/c"])
def test_a_hub_id_has_two_names_and_nothing_else(name):
    assert checked_name("owner/name", parts=2) == "owner/name"
    with pytest.raises(ValueError, match="allowed are"):
        checked_name(name, parts=2)


@pytest.mark.parametrize("name", [*GOOD, *BAD, "/home/me/model", "../../up", "C:\\models\\x", "y/" * 90])
def test_any_text_becomes_a_path_below_the_folder(name):
    folder = Path("base").resolve()
    made = Path(os.path.normpath(folder / folder_name(name)))
    assert made.is_relative_to(folder) and made != folder
    assert all(len(part.encode()) < 200 for part in made.parts)


def test_a_path_that_cannot_be_is_explained():
    Path("loop").symlink_to("loop")
    for given, reason in (("loop", "loop"), ("~no-such-user/x", "home"), ("a\0b", "NUL")):
        with pytest.raises(UsageError, match=reason):
            user_path(given)
    with pytest.raises(UsageError, match="home"):
        expanded("~no-such-user")


def kinds() -> dict[str, object]:
    return {p.name: (stat.S_IFMT(p.lstat().st_mode), p.lstat().st_ino) for p in Path().iterdir()}


def test_a_regular_file_is_replaced_at_once_and_keeps_its_mode():
    target = Path("out.csv")
    target.write_text("before")
    target.chmod(0o640)
    with output_file(target) as file:
        file.write(b"after")
        assert target.read_text() == "before"
    assert target.read_text() == "after"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [p.name for p in Path().iterdir()] == ["out.csv"]


def test_an_error_leaves_the_file_as_it_was():
    Path("out.csv").write_text("before")
    with pytest.raises(KeyError), output_file(Path("out.csv")) as file:
        file.write(b"half")
        raise KeyError("model")
    assert {p.name: p.read_text() for p in Path().iterdir()} == {"out.csv": "before"}


def test_a_name_of_the_longest_length_can_be_written():
    name = "x" * 255
    assert write_output(Path(name), b"all").read_bytes() == b"all"
    with pytest.raises(PrerequisiteError, match="File name too long"):
        write_output(Path(name + "x"), b"all")


def test_a_link_stays_and_what_it_means_is_replaced():
    Path("real").mkdir()
    Path("real/out.csv").write_text("before")
    Path("link.csv").symlink_to("real/out.csv")
    Path("new.csv").symlink_to("real/new.csv")
    before = kinds()
    write_output(Path("link.csv"), b"after")
    write_output(Path("new.csv"), b"new")
    assert kinds() == before
    assert Path("real/out.csv").read_text() == "after" and Path("real/new.csv").read_text() == "new"


def test_a_pipe_is_written_to_and_stays_a_pipe():
    os.mkfifo("pipe")
    before, got = kinds(), []
    reader = threading.Thread(target=lambda: got.append(Path("pipe").read_bytes()))
    reader.start()
    write_output(Path("pipe"), b"rows")
    reader.join(10)
    assert got == [b"rows"] and kinds() == before


def test_a_device_is_written_to_and_stays_a_device():
    Path("null").symlink_to("/dev/null")
    before = Path("/dev/null").stat()
    for path in (Path("/dev/null"), Path("null")):
        write_output(path, b"rows")
    after = Path("/dev/null").stat()
    assert (after.st_ino, after.st_mode, after.st_rdev) == (before.st_ino, before.st_mode, before.st_rdev)
    assert Path("null").is_symlink()


def test_a_full_device_is_reported():
    with pytest.raises(PrerequisiteError, match="--output /dev/full: No space left on device"):
        write_output(Path("/dev/full"), b"rows")


def test_what_is_open_as_standard_output_is_appended_to_and_not_replaced(capfd):
    os.write(1, b"first\n")
    write_output(Path("/dev/stdout"), b"second\n")
    os.write(1, b"third\n")
    assert sorted(capfd.readouterr().out.split()) == ["first", "second", "third"]


def test_folders_sockets_loops_and_protected_files_are_refused_and_stay(monkeypatch):
    import socket

    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    Path("kept").write_text("kept")
    with socket.socket(socket.AF_UNIX) as held:
        held.bind("socket")
        before = kinds()
        with monkeypatch.context() as context:
            context.setattr("moodbench.paths.os.access", lambda *_: False)  # a test that runs as root may write all
            with pytest.raises(PrerequisiteError, match="Permission denied"):
                write_output(Path("kept"), b"x")
        for name in ("folder", "loop", "socket", "folder/../kept/x", "missing/x"):
            with pytest.raises(MoodBenchError, match="--output"):
                write_output(Path(name), b"x")
        assert kinds() == before
    assert Path("kept").read_text() == "kept"


@pytest.mark.parametrize("model", ["/models/mine", "../../mine", "~/mine", "C:\\mine", ".."])
def test_events_of_a_model_from_a_folder_stay_in_the_tracking_folder(model, empty_folder):
    record = TrackedRecord("ab" * 10, pd.Timestamp("2026-01-01", tz="UTC"), (Point("accuracy", 0.5),))
    trial = TrackedTrial({"fit_id": "cd" * 10, "model": model, "dataset": "../data", "seed": 0}, [record])
    assert log_to_tensorboard([trial], empty_folder / "store" / "tracking") == 1
    written = [p for p in empty_folder.rglob("*") if p.is_file()]
    assert len(written) == 1 and written[0].is_relative_to(empty_folder / "store" / "tracking")


@pytest.mark.parametrize("model", ["MiniLM-L6", "owner/name", "/models/mine", "../mine", "./a b"])
def test_the_winner_of_a_search_has_a_name_that_a_catalogue_takes(model):
    assert checked_name(tuned_name(model, "0123456789"), parts=2).endswith("-tuned-012345")


@pytest.mark.parametrize(
    "data", ["nul.csv", "../../x.csv", "x" * 250 + ".csv", "-.csv", "отзывы.csv", "con.csv", "hub:a/con", "a b.csv"]
)
def test_data_of_any_file_name_gets_a_name_that_is_allowed(data):
    spec = BenchmarkSpec(models=("vader",), data=data, text_column="t", label_column="l")
    assert checked_name(spec.own[0]) == spec.own[0]
