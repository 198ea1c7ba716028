"""Random commands, specs, catalogues and data: each ends with a known exit code and a sentence, and changes no result."""

import argparse
import contextlib
import io
import os
from pathlib import Path

import pytest
import yaml
from fitted_majority import commit_fit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_store import write_toy_store

from moodbench.cli import main
from moodbench.cli.commands import COMMANDS, parser
from moodbench.store import Store

bounded = settings(
    max_examples=int(os.environ.get("MOODBENCH_FUZZ", "60")),
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
"""The same inputs every time; MOODBENCH_FUZZ=1000 tries more of them."""

ODD = [
    "", " ", "-", "--", ".", "..", "../..", "/", "/dev/null", "/dev/full", "/proc/self/mem", "~", "~nobody-here/x", "loop",
    "loop/x", "folder", "x" * 300, "x" * 5000, "\udcff", "\udcc3(", "\x1b[2J", "\u202e", "\ufeff", "é", "日本", "🙂", "nan",
    "inf", "1e999", "-1", "0", "1", "9" * 5000, "0.5", "a=b", "a=", "=b", "=", "a=b=c", "[", "{", "}", "*a", "&a", "!!int x",
    "%s", "{0}", "toy", "toy@0", "toy@x", "toy-set", "majority", "vader", "icwsm-tweets", "quickstart", "hub:", "hub:a/b@c",
    "hub:../..", "s3://", "file://", "file:///", "http://x", "a,b", ",", "accuracy=1", "accuracy=nan", "spec.yaml", "data.csv",
    "data.jsonl", "data.parquet", "con", "nul.csv", "a\nb", "a\tb", "'", '"', "\\", "$(ls)", ";",
]  # fmt: skip
"""Words that have broken programs."""
QUIET = {"leaderboard", "compare", "mislabelled", "report", "export", "predict", "export-model", "plan", "store", "recipes",
         "catalogue", "models", "datasets"}  # fmt: skip
"""Commands that neither train, serve nor connect."""
NOT_HERE = {"fetch", "pin", "compact", "recompute", "--set-aside"}
"""Words of those commands that connect, or that write to the store as they should."""
words = st.sampled_from(ODD) | st.text(max_size=12).map(lambda t: t.replace("\0", ""))


@pytest.fixture
def place(empty_folder):
    """A folder with a store of a fit that can predict and a board, and with odd files beside it."""
    store = write_toy_store(Path("results"))
    commit_fit(store, "majority")
    Path("loop").symlink_to("loop")
    Path("folder").mkdir()
    Path("data.csv").write_text("text,label\n" + "".join(f"text {i},{'good' if i % 2 else 'bad'}\n" for i in range(40)))
    Path("data.jsonl").write_text('{"text": "a", "label": 1}\n')
    return empty_folder


def contents(folder):
    """The bytes of the records and of what belongs to them; not of exports and caches."""
    return {
        str(p): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.relative_to(folder).parts[0] not in ("exports", "snapshots")
    }


def check(arguments, folder, before):
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(arguments)
    err.flush()
    said = err.buffer.getvalue().decode()
    assert ended.value.code in (0, 1, 2, 130), (arguments, said)
    assert "Traceback" not in said and "an error of MoodBench itself" not in said, (arguments, said)
    if ended.value.code == 2:
        assert said.strip(), arguments
    assert contents(folder / "results") == before, arguments


def option_strings(made: argparse.ArgumentParser) -> list[str]:
    found = []
    for action in made._actions:
        found += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                found += [name, *option_strings(inner)]
    return found


OPTIONS = {
    name: sorted({*option_strings(parser(name)._subparsers._group_actions[0].choices[name])} - NOT_HERE)
    for name in QUIET
}


@st.composite
def command_lines(draw):
    name = draw(st.sampled_from(sorted(QUIET)))
    line = [name]
    for _ in range(draw(st.integers(0, 5))):
        line += [draw(st.sampled_from(OPTIONS[name]) | words)] if draw(st.booleans()) else [
            draw(st.sampled_from(OPTIONS[name])), draw(words)
        ]  # fmt: skip
    return [word for word in line if word not in NOT_HERE]


def test_the_quiet_commands_are_commands():
    assert set(COMMANDS) >= QUIET


def test_a_random_command_ends_as_a_command_should(place):
    before = contents(place / "results")

    @bounded
    @given(command_lines())
    def trial(arguments):
        check(arguments, place, before)

    trial()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words.filter(str.isprintable),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words.filter(str.isprintable), inner, max_size=3),
    max_leaves=6,
)
SPEC_KEYS = ["models", "datasets", "data", "text_column", "label_column", "label_map", "labels", "split_column", "data_name",
             "splits", "seeds", "max_train_examples", "neutral_band", "protocol", "device", "quantization", "method", "head",
             "prompt", "recipe", "lora", "train", "text", "prepare", "augment", "sampling"]  # fmt: skip
SECTIONS = [
    "models",
    "families",
    "datasets",
    "training",
    "evaluation",
    "presets",
    "devices",
    "prompts",
    "published",
    "other",
]
ENTRY_KEYS = ["method", "source", "licence", "description", "hub", "path", "file", "embedded", "labels", "text_column", "train",
              "lora", "recipes", "protocols", "revision", "kaggle", "template", "words", "kind", "attention"]  # fmt: skip
entries = st.dictionaries(
    st.sampled_from(ENTRY_KEYS), values | st.dictionaries(st.sampled_from(ENTRY_KEYS), values), max_size=4
)


@st.composite
def damaged_texts(draw, document):
    """YAML of `document`, often with a piece cut out, repeated or replaced."""
    text = yaml.safe_dump(draw(document), allow_unicode=True)
    for _ in range(draw(st.integers(0, 2))):
        at, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        text = text[:at] + draw(words | st.just(text[at:end])) + text[end:]
    return text.encode("utf-8", "surrogateescape" if draw(st.booleans()) else "replace")


def test_a_random_spec_is_planned_or_refused(place):
    before = contents(place / "results")

    @bounded
    @given(damaged_texts(st.dictionaries(st.sampled_from(SPEC_KEYS), values, max_size=5)))
    def trial(content):
        Path("spec.yaml").write_bytes(content)
        check(["plan", "spec.yaml"], place, before)

    trial()


def test_a_random_value_in_a_good_spec_is_planned_or_refused(place):
    before = contents(place / "results")
    good = {"models": ["vader"], "datasets": ["icwsm-tweets"], "max_train_examples": 50}

    @bounded
    @given(st.sampled_from(SPEC_KEYS), values)
    def trial(key, value):
        Path("spec.yaml").write_text(yaml.safe_dump(good | {key: value}), "utf-8")
        check(["plan", "spec.yaml"], place, before)

    trial()


def test_a_random_catalogue_is_read_or_refused(place):
    before = contents(place / "results")

    @bounded
    @given(
        damaged_texts(
            st.dictionaries(
                st.sampled_from(SECTIONS),
                st.dictionaries(words.filter(str.isprintable), entries, max_size=3) | values,
                max_size=3,
            )
        )
    )
    def trial(content):
        Path("spec.yaml").write_bytes(content)
        check(["catalogue", "models", "--config", "spec.yaml"], place, before)

    trial()


TABLES = {
    "data.csv": b"text,label\n"
    + b"".join(b"text number %d,%s\n" % (i, b"good" if i % 2 else b"bad") for i in range(40)),
    "data.tsv": b"text\tlabel\n" + b"".join(b"text number %d\t%d\n" % (i, i % 5 + 1) for i in range(40)),
    "data.jsonl": b"".join(b'{"text": "text number %d", "label": %d}\n' % (i, i % 2) for i in range(40)),
}
BYTES = st.sampled_from(
    [b"\xff", b"\x00", b"\x92", b'"', b"'", b"\n", b"\r", b",", b"\t", b";", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80",
     b"[" * 3000, b"{", b"}", b"null", b"1e999", b"\\ud800", b"=cmd|' /C calc'!A0", b"9" * 5000, b"\x1b[31m", b"label"]
) | st.binary(max_size=4)  # fmt: skip


@st.composite
def damaged_tables(draw):
    name = draw(st.sampled_from(sorted(TABLES)))
    content = TABLES[name]
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(BYTES) + content[at + draw(st.integers(0, 3)) :]
    return name, content


def test_random_data_is_read_or_refused(place):
    before = contents(place / "results")

    @bounded
    @given(damaged_tables(), st.booleans())
    def trial(table, predicts):
        name, content = table
        Path(name).write_bytes(content)
        if predicts:
            check(["predict", "--model", "majority", "--input", name, "--output", "out.csv"], place, before)
        else:
            command = [
                "plan",
                "--models",
                "majority",
                "--data",
                name,
                "--text-column",
                "text",
                "--label-column",
                "label",
            ]
            check(command, place, before)

    trial()


def test_random_records_are_shown_or_named(place):
    records = sorted(
        p for kind in ("fits", "evaluations", "measurements") for p in Path("results", kind).rglob("*.parquet")
    )
    whole = [path.read_bytes() for path in records]

    @bounded
    @given(st.integers(0, len(records) - 1), st.data())
    def trial(which, data):
        content = bytearray(whole[which])
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        records[which].write_bytes(content)
        try:
            for command in (["leaderboard"], ["store", "verify"]):
                check(command, place, contents(place / "results"))
        finally:
            records[which].write_bytes(whole[which])

    trial()
    assert Store.open("results").records("fits").shape[0] == 2
