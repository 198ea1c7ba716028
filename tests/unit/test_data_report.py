"""What is said of a person's own file before a run: overlap, lengths, classes, and what was guessed."""

import json

import numpy as np
import pytest
from own_files import SPLIT, load, rows, sentence, splits_of, table

from moodbench.benchmark.data_report import data_report, token_lengths
from moodbench.data.near_duplicates import normalised

pytestmark = pytest.mark.usefixtures("empty_folder")


def reported(data, **more):
    return data_report(data, **more)


def test_overlap_of_given_splits_is_counted_and_warned_of_and_own_splits_have_none():
    twice = [(sentence(i).upper(), lb, "test") for i, (_, lb) in enumerate(rows()) if SPLIT[i][2] == "train"][:5]
    lines = [*SPLIT, *twice]
    report = reported(load("a.csv", table(lines, header=("text", "label", "part")), split_column="part"))
    assert report.num_test_in_train == 5
    assert any("5 test texts are in train too" in warning for warning in report.warnings)
    own_split = reported(load("b.csv", table([line[:2] for line in lines])))
    assert own_split.num_test_in_train == 0
    in_train = {
        normalised(t) for t, s in splits_of(load("b.csv", table([x[:2] for x in lines]))).items() if s == "train"
    }
    assert not in_train & {
        normalised(t) for t, s in splits_of(load("b.csv", table([x[:2] for x in lines]))).items() if s == "test"
    }


def test_the_report_counts_words_entities_and_classes():
    lines = [(" ".join(f"w{i}x{j}" for j in range(i + 1)), ("bad", "good")[i % 2]) for i in range(200)]
    lines[5] = (lines[5][0] + " a&amp;b", "good")
    lines[6] = (lines[6][0] + " &#39; AT&T; R&D", "bad")
    report = reported(load("a.csv", table([*lines, ("", "bad")])), baselines=["vader", "majority"])
    words = sorted(len(text.split()) for text, _ in lines)
    (said,) = report.lengths
    assert (said.p50, said.p95, said.longest, said.cut_share) == (words[99], words[189], 200, 0.0)
    assert report.num_markup == {"entities": 2, "breaks": 0, "escapes": 0}
    assert any(
        line.endswith("2 texts contain HTML entities such as &amp;; --prepare entities replaces them")
        for line in report.lines()
    )
    assert {name: sum(c.values()) for name, c in report.counts.items()} == {"bad": 100, "good": 100}
    text = "\n".join(report.lines())
    assert "201 read, 200 used; dropped: 1 without text" in text
    assert "positive class: good" in text
    assert "words per text for vader, majority: median 100, P95 190, longest 200; none is cut" in text
    assert not any(line in text for line, _ in lines[20:])
    assert json.loads(json.dumps(report.as_event()))["event"] == "data_report"


def test_the_report_tells_the_tokens_of_each_model_and_what_is_cut():
    data = load("a.csv", table(rows(n=200)))
    is_test = (data.frame["split"] == "test").to_numpy()
    assert is_test.sum() == 40
    tokens = np.where(is_test, 5, np.arange(200) % 100 + 1)
    tokens[np.flatnonzero(is_test)[:10]] = 300
    lengths = [token_lengths(data, ("A", "B"), tokens, 256), token_lengths(data, ("C",), tokens + 1, 5)]
    (words, one, other) = reported(data, lengths=lengths).lengths
    assert (words.unit, words.models, words.max_length) == ("words", (), None)
    assert (one.models, one.max_length, one.longest, one.cut_share, one.test_cut_share) == (
        ("A", "B"),
        256,
        300,
        0.05,
        0.25,
    )
    assert (one.p50, one.p95) == (sorted(tokens)[99], sorted(tokens)[189])
    assert other.test_cut_share == 1.0 and other.cut_share == (tokens + 1 > 5).mean()
    assert one.line().startswith("tokens per text for A, B: median ")
    assert one.line().endswith("longest 300; 5.0% are cut at 256 (25.0% of the test texts)")


def test_what_is_guessed_is_said():
    latin = table([("très cher", "spam"), *rows(("spam", "ham"))]).decode().encode("latin-1")
    told = "\n".join(reported(load("a.csv", latin)).lines())
    assert "warning: the order of the classes is unknown" in told and "'spam' counts as the positive" in told
    assert "warning: the file is not UTF-8 and was read as cp1252" in told
