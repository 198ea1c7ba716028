"""What a person, a program or a visitor of the page can get wrong: one table of bad inputs.

Each ends with the exit code 2 (or the status of an HTTP answer) and one message that says where, what and what to do;
nothing is written or lost, and no traceback is printed.
"""

import hashlib
import json
import os
import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import bad_requests as requests
import bad_yaml
import pytest
from bad_calls import CALLS, ENVIRONMENT, PAGES
from bad_files import FILES
from bad_spaces import SPACES
from bad_stores import STORES
from bad_texts import PREDICT, TEXTS
from fitted_majority import commit_fit
from own_files import sentence
from refused import fail
from toy_store import change_row, write_toy_store

from moodbench.benchmark import preflight
from moodbench.cli import main
from moodbench.store import Store

pytestmark = pytest.mark.usefixtures("empty_folder")

Usage = namedtuple("Usage", "total used free")
Memory = namedtuple("Memory", "total available")
REFUSED = 2


class BadInput(NamedTuple):
    """One row of the table."""

    given: str
    """How it is given: a command's options, a file of a kind, the environment, a call, or a request to the page."""
    name: str
    make: Callable[[pytest.MonkeyPatch], list[str] | Callable[[], tuple[int, str]]]
    """Makes the situation; returns the command line, or what gives the code and the message."""
    code: int
    says: tuple[str, ...]
    """Parts of the message."""


def command(given, name, arguments, says, prepare=None):
    """A command line that must be refused, after `prepare` has made the situation in the current folder."""

    def make(monkeypatch):
        if prepare is not None:
            prepare(monkeypatch)
        return arguments

    return BadInput(given, name, make, REFUSED, (says,) if isinstance(says, str) else tuple(says))


def written(name, content):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())


def file_of(name, content):
    return lambda monkeypatch: written(name, content)


def odd_places(monkeypatch):
    """A file, a folder, and links that lead to themselves."""
    written("a.txt", "good\n")
    Path("folder").mkdir()
    for name in ("loop", "loop.yaml", "loop.csv"):
        Path(name).symlink_to(name)
    written("kaggle.yaml", "datasets: {kaggle: {file: {kaggle: a/b, path: a.csv, text_column: t, label_column: l}}}")


def full_disk(monkeypatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 1000, 1000))


def little_memory(monkeypatch):
    monkeypatch.setattr("moodbench.hardware.psutil.virtual_memory", lambda: Memory(10**9, 10**8))


def from_environment(values):
    def prepare(monkeypatch):
        odd_places(monkeypatch)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return prepare


def searched(options):
    given = ["tune", *options]
    for name, value in (("--model", "MiniLM-L3"), ("--dataset", "icwsm-movie")):
        given += [] if name in options else [name, value]
    return given


def predicted(options):
    return ["predict", *options, *([] if "--store" in options else ["--store", "majority"])]


def own_data(name, make, says):
    return BadInput("a data file", name, lambda monkeypatch: make(), REFUSED, tuple(says))


def harmed(name, harm, arguments, says):
    return command("a store", name, arguments, says, lambda monkeypatch: harm(Path("results"), monkeypatch))


def of_another_version(monkeypatch):
    store = Store.open("results")
    spec = json.loads(store.records("fits")["spec"][0])
    change_row(store, "fits/*/*.parquet", spec=json.dumps(spec | {"code_version": 99}))


CONFIG = [*requests.RUN, "--config", "overlay.yaml"]
LISTED = ["catalogue", "models", "--config", "overlay.yaml"]
ON_CLUSTER = ["cluster", "status", "--address", "127.0.0.1:1", "--cluster", "cluster.yaml"]
TO_LABEL = ["--model", "majority", "--output", "out.jsonl"]
WEIGHTS = "models:\n  MiniLM-L6:\n    source: {%s}\n"
BAD_INPUTS: list[BadInput] = [
    *(command("options of run and others", " ".join(given)[:80], given, says) for given, says in requests.REQUESTS),
    *(command("options about results", " ".join(given)[:80], given, says) for given, says in requests.RESULTS),
    *(command("paths", " ".join(given)[:80], given, says, odd_places) for given, says in requests.PATHS),
    *(command("options of tune", " ".join(given), searched(given), says) for given, says in requests.TUNE),
    *(command("options of app", " ".join(given), ["app", *given], says) for given, says in requests.APP),
    *(command("options of predict", " ".join(given)[:80], predicted(given), says, odd_places) for given, says in PREDICT),
    *(command("a cluster", " ".join(given), given, says) for given, says in requests.CLUSTER),
    *(command("a cluster file", text, ON_CLUSTER, says, file_of("cluster.yaml", text)) for text, says in requests.CLUSTER_FILES),
    *(command("a catalogue", str(text)[:90], CONFIG, says, file_of("overlay.yaml", text)) for text, says in bad_yaml.CATALOGUES),
    *(command("YAML", f"{text[:60]} ({len(text)})", LISTED, says, file_of("overlay.yaml", text)) for text, says in bad_yaml.YAML),
    *(command("a spec", text, ["plan", "spec.yaml"], says, file_of("spec.yaml", text)) for text, says in bad_yaml.SPECS),
    command("a spec", "of run", ["run", "spec.yaml"], bad_yaml.SPECS[0][1], file_of("spec.yaml", bad_yaml.SPECS[0][0])),
    *(command("a search space", name, searched(["--space", "space.yaml"]), ("space.yaml", *says), file_of("space.yaml", text))
      for name, (text, says) in SPACES.items()),
    *(own_data(name, make, says) for name, (make, says) in FILES.items()),
    *(command("texts", f"{name} {content[:30]!r} {column or ''}", predicted([*TO_LABEL, "--input", name, *(["--text-column", column] if column else [])]),
              says, file_of(name, content)) for name, content, column, says in TEXTS),
    *(harmed(name, *row) for name, row in STORES.items()),
    command("a store", "a fit of another version", ["evaluate"], "was written by another version of moodbench (its id would be",
            of_another_version),
    *(command("the environment", name, given, says, from_environment(values)) for name, (values, given, says) in ENVIRONMENT.items()),
    command("the machine", "a full disk", [*requests.RUN, *requests.FULL],
            ["6 missing phases may write 0.", "its disk has 0.00 GiB free; free some space, give a folder on another disk"], full_disk),
    command("the machine", "little memory", [*requests.RUN, *requests.FULL],
            ["fitting needs about 0.", "of memory, 0.09 GiB of", "close other programs, or leave the model out"], little_memory),
    command("weights", "changed", ["run", "quickstart", "--config", "overlay.yaml"],
            ["has sha256 53aa5117", "the catalogue pins 0000"], file_of("overlay.yaml", WEIGHTS % f"sha256: {'0' * 64}")),
    command("weights", "not installed", ["run", "quickstart", "--config", "overlay.yaml"],
            "no-such-package, which is not installed; `uv sync`", file_of("overlay.yaml", WEIGHTS % "package: no-such-package")),
    command("weights", "of nobody", ["run", "--models", "MiniLM-L6", "--datasets", "icwsm-tweets", "--config", "overlay.yaml"],
            ["MiniLM-L6", "~no-such-user/x", "write the folder in full"],
            file_of("overlay.yaml", WEIGHTS % "package: null, folder: null, sha256: null, path: ~no-such-user/x")),
    *(BadInput("a call from Python", name, lambda _, attempt=attempt: attempt, REFUSED, tuple(says))
      for name, (attempt, says) in CALLS.items()),
    *(BadInput("the page", name, lambda _, attempt=attempt: attempt, code, tuple(says))
      for name, (attempt, code, says) in PAGES.items()),
]  # fmt: skip
BEGUN = (
    "missing samples",
    "a disk that fills while the examples are written",
    "a quota that ends while the examples are written",
)
"""Rows whose fault comes while a command writes; what was there before must be there still."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A folder with the stores that all rows begin with: a whole trial in results/, a fit that can predict in majority/."""
    folder = tmp_path_factory.mktemp("stores")
    write_toy_store(folder / "results")
    commit_fit(Store.open(folder / "majority"), "majority")
    return folder


def seen(folder):
    """Every path below `folder` with its size and time of change, in a store with its hash; folders by name alone."""
    whole = {}
    for root, folders, files, handle in os.fwalk(folder):  # by handle: a row of the table makes listing by path fail
        at = os.path.relpath(root, folder)
        for name in files:
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            whole[f"{at}/{name}"] = (status.st_size, status.st_mtime_ns)
            if at.startswith(("results", "majority")):
                content = open(os.open(name, os.O_RDONLY, dir_fd=handle), "rb")  # noqa: SIM115, PTH123
                with content:
                    whole[f"{at}/{name}"] += (hashlib.sha256(content.read()).hexdigest(),)
        whole |= {f"{at}/{name}": None for name in folders}
    return whole


RECORDS = ("results/fits", "results/evaluations", "results/measurements", "results/artifacts", "results/predictions")


def outcome(attempt, capsys):
    """The code with which a command or a call ends, its message, and what it printed besides."""
    if callable(attempt):
        return *attempt(), ""
    with pytest.raises(SystemExit) as ended:
        main(attempt)
    printed = capsys.readouterr()
    return ended.value.code, printed.err, printed.out


@pytest.mark.parametrize("row", BAD_INPUTS, ids=lambda row: f"{row.given}: {row.name}")
def test_a_bad_input_ends_with_its_code_says_where_what_and_what_to_do_and_changes_nothing(
    row, stores, monkeypatch, capsys
):
    for name in ("RAY_ADDRESS", "MOODBENCH_APP_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(stores, Path.cwd(), dirs_exist_ok=True)
    attempt = row.make(monkeypatch)
    here = Path.cwd()
    before = seen(here)
    code, message, printed = outcome(attempt, capsys)
    assert code == row.code, message
    assert "Traceback" not in message and "an error of MoodBench itself" not in message
    for part in row.says:
        assert part in message
    monkeypatch.undo()
    after = seen(here)
    if row.name in BEGUN:
        kept = {path: what for path, what in before.items() if str(path).startswith(RECORDS)}
        assert {path: after.get(path) for path in kept} == kept, "nothing is lost"
    else:
        assert after == before, "nothing is written"
    if row.given == "a data file":
        assert printed == "" and len(message.strip().splitlines()) == 1
    assert sentence(3)[:31] not in message, "no text of the data is printed"


def test_the_table_has_hundreds_of_rows_of_many_kinds_none_of_them_twice():
    rows = {(row.given, row.name) for row in BAD_INPUTS}
    assert len(BAD_INPUTS) == len(rows) >= 300 and len({row.given for row in BAD_INPUTS}) >= 15
    assert [row.name for row in BAD_INPUTS if not "".join(row.says)] == []


CONTRIBUTING = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text()
SHOWN = re.findall(r"^\| `moodbench (.+?)` \| (.+) \|$", CONTRIBUTING, flags=re.MULTILINE)


def test_contributing_shows_messages_at_all():
    assert len(SHOWN) >= 14


@pytest.mark.parametrize(("request_", "message"), SHOWN)
def test_the_messages_in_contributing_are_what_is_said(request_, message, capsys):
    assert message in fail(request_.split(), capsys)
