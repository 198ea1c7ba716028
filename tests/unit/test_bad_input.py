"""What a person can get wrong on the command line: one table, one message each, exit code 2, nothing written or lost."""

import json
import os
import re
from collections import namedtuple
from pathlib import Path

import bad_requests as requests
import pandas as pd
import pytest
from bad_files import FILES
from bad_stores import STORES
from own_files import sentence
from refused import fail
from toy_store import change_row, write_toy_store

from moodbench.benchmark import preflight
from moodbench.cli import main

pytestmark = pytest.mark.usefixtures("empty_folder")

Usage = namedtuple("Usage", "total used free")
Memory = namedtuple("Memory", "total available")


def written(name, text):
    Path(name).write_text(text)
    return name


def full_disk(monkeypatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 1000, 1000))
    return [*requests.RUN, *requests.FULL]


def little_memory(monkeypatch):
    monkeypatch.setattr("moodbench.hardware.psutil.virtual_memory", lambda: Memory(10**9, 10**8))
    return [*requests.RUN, *requests.FULL]


def harmed(harm, arguments):
    def make(monkeypatch):
        write_toy_store(Path("results"))
        harm(Path("results"), monkeypatch)
        return arguments

    return make


# name -> what makes the situation and gives the command line, and the parts of the message: where, value seen, what to do
TABLE = {
    **{" ".join(argv): (lambda _, argv=argv: argv, [said]) for argv, said in requests.REQUESTS},
    **{f"overlay {text!r}": (lambda _, text=text: [*requests.RUN, "--config", written("overlay.yaml", text)], [said])
       for text, said in requests.CATALOGUES},
    **{f"{command} {text!r}": (lambda _, text=text, command=command: [command, written("spec.yaml", text)], [said])
       for text, said in requests.SPECS for command in ("run", "plan")},
    **{f"data: {name}": (lambda _, make=make: make(), parts) for name, (make, parts) in FILES.items()},
    **{f"store: {name}": (harmed(harm, argv), parts) for name, (harm, argv, parts) in STORES.items()},
    "a full disk": (full_disk, ["6 missing phases may write 0.", "its disk has 0.00 GiB free; free some space, give a folder on another disk"]),
    "little memory": (little_memory, ["fitting needs about 0.", "of memory, 0.09 GiB of", "close other programs, or leave the model out"]),
}  # fmt: skip
BEGUN = (
    "store: missing samples",
    "store: a disk that fills while the examples are written",
    "store: a quota that ends while the examples are written",
)
"""Rows whose fault comes while a run writes; what was there before must be there still."""


def seen(folder):
    """Every path below `folder` with its size and time of change; folders by name alone."""
    whole = {}
    for root, folders, files, handle in os.fwalk(folder):  # by handle: a row of the table makes listing by path fail
        at = os.path.relpath(root, folder)
        for name in files:
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            whole[f"{at}/{name}"] = (status.st_size, status.st_mtime_ns)
        whole |= {f"{at}/{name}": None for name in folders}
    return whole


RECORDS = ("results/fits", "results/evaluations", "results/measurements", "results/artifacts", "results/predictions")


@pytest.mark.parametrize("case", TABLE)
def test_a_bad_input_ends_with_two_says_where_what_and_what_to_do_and_changes_nothing(case, monkeypatch, capsys):
    make, parts = TABLE[case]
    arguments = make(monkeypatch)
    here = Path.cwd()
    before = seen(here)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code == 2, printed
    assert "Traceback" not in printed.err
    for part in parts:
        assert part in printed.err
    monkeypatch.undo()
    after = seen(here)
    if case in BEGUN:
        assert {path: after.get(path) for path in before if str(path).startswith(RECORDS)} == {
            path: what for path, what in before.items() if str(path).startswith(RECORDS)
        }, "nothing is lost"
    else:
        assert after == before, "nothing is written"
    if case.startswith("data: "):
        assert printed.out == "" and len(printed.err.strip().splitlines()) == 1
    assert sentence(3)[:31] not in printed.err, "no text of the data is printed"


def test_every_row_of_the_table_names_more_than_a_word_and_there_are_many():
    assert len(TABLE) >= 150
    assert [name for name, (_, parts) in TABLE.items() if sum(map(len, parts)) < 14] == []


CONTRIBUTING = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text()
SHOWN = re.findall(r"^\| `moodbench (.+?)` \| (.+) \|$", CONTRIBUTING, flags=re.MULTILINE)


def test_contributing_shows_messages_at_all():
    assert len(SHOWN) >= 14


@pytest.mark.parametrize(("request_", "message"), SHOWN)
def test_the_messages_in_contributing_are_what_is_said(request_, message, capsys):
    assert message in fail(request_.split(), capsys)


def test_changed_weights_are_refused_before_anything_runs(capsys):
    text = f"models:\n  MiniLM-L6:\n    source: {{sha256: {'0' * 64}}}\n"
    message = fail(["run", "quickstart", "--config", written("overlay.yaml", text)], capsys)
    assert "has sha256 53aa5117" in message
    assert "the catalogue pins 0000" in message


def test_a_weights_package_that_is_not_installed_is_named_with_its_remedy(capsys):
    text = "models:\n  MiniLM-L6:\n    source: {package: no-such-package}\n"
    message = fail(["run", "quickstart", "--config", written("overlay.yaml", text)], capsys)
    assert "no-such-package, which is not installed; `uv sync`" in message


def test_a_folder_of_something_else_is_not_written_to(capsys):
    Path("thesis").mkdir()
    Path("thesis/chapter.tex").write_text("")
    assert "not a MoodBench store" in fail([*requests.RUN, "--store", "thesis"], capsys)
    assert [p.name for p in Path("thesis").iterdir()] == ["chapter.tex"]


def test_a_foreign_record_in_the_store_stops_the_command(capsys):
    Path("shop/fits/aa").mkdir(parents=True)
    pd.DataFrame({"price": [1]}).to_parquet("shop/fits/aa/aa.parquet")
    assert "aa.parquet: not written by MoodBench" in fail(["leaderboard", "--store", "shop"], capsys)
    assert [p.name for p in Path("shop").rglob("*") if p.is_file()] == ["aa.parquet"]


def test_a_store_that_cannot_be_written_is_refused_before_anything_runs(capsys, monkeypatch):
    # A read-only folder stops no test that runs as root, so the file system's refusal is given here.
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("moodbench.store.store.os.link", refuse)
    message = fail([*requests.RUN, "--store", "locked"], capsys)
    assert "locked: cannot be written (Permission denied); change its permissions or give another folder" in message
    assert not Path("locked").exists()


@pytest.mark.parametrize("command", ["evaluate", "benchmark"])
def test_without_a_fit_there_is_a_hint_how_to_make_one(command, capsys):
    assert "has no fit yet; `moodbench train` or `moodbench run` makes one" in fail([command], capsys)


@pytest.fixture
def toy():
    return write_toy_store(Path("toy"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["evaluate", "tpy"], ("unknown fit or model in", "did you mean 'toy'? known are toy")),
        (["benchmark", "--models", "tpy"], ("unknown fit or model in", "did you mean 'toy'?")),
        (["evaluate", "0123456789abcdef0123"], ("unknown fit or model in", "0123456789abcdef0123")),
        (["evaluate", "--datasets", "toyset"], ("unknown dataset in", "did you mean 'toy-set'?")),
        (["evaluate", "--seeds", "3"], ("none of its 1 fits matches", "--seeds")),
        (["benchmark", "--protocol", "ful"], ("unknown measuring protocol 'ful'", "did you mean 'full'?")),
        (["benchmark", "--device", "mps"], ("device mps", "choose auto or cpu")),
    ],
)
def test_a_wrong_choice_of_fits_is_explained(arguments, expected, toy, capsys):
    said = fail([*arguments, "--store", "toy"], capsys)
    assert all(part in said for part in expected)


def test_a_fit_whose_id_this_version_would_not_give_is_refused(toy, capsys):
    spec = json.loads(toy.records("fits")["spec"][0])
    change_row(toy, "fits/*/*.parquet", spec=json.dumps(spec | {"code_version": 99}))
    assert "was written by another version of moodbench (its id would be" in fail(
        ["evaluate", "--store", "toy"], capsys
    )
