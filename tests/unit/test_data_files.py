"""A person's own file: what is read from it, how it is split, and what is said of the reading."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from own_files import SPLIT, STARS, N, json_lines, load, parquet, rows, sentence, source, splits_of, table

from moodbench.data import splits
from moodbench.data.examples import SPLITS
from moodbench.data.files import unpacked_bytes
from moodbench.data.labelling import order_classes
from moodbench.data.labels import label_text
from moodbench.data.own import load_own
from moodbench.errors import PrerequisiteError
from moodbench.evaluation.predicting import ceiling_columns, figures_of_predictions, predictions_on
from moodbench.models.baselines import Majority

pytestmark = pytest.mark.usefixtures("empty_folder")


NEWLINE = [("first line\nsecond line, with a comma and quotes", "negative"), *rows()]
FIVE = ("1", "2", "3", "4", "5")
TWO = ("negative", "positive")
# file name, content, options, class names, rows used, what the reading says
GOOD = {
    "a comma": ("a.csv", table(rows()), {}, TWO, N, {"separator": ",", "encoding": "utf-8", "format": "CSV"}),
    "a semicolon": ("a.csv", table(rows(), ";"), {}, TWO, N, {"separator": ";"}),
    "a tab in a csv": ("a.csv", table(rows(), "\t"), {}, TWO, N, {"separator": "\t"}),
    "a bar": ("a.csv", table(rows(), "|"), {}, TWO, N, {"separator": "|"}),
    "a tsv": ("a.tsv", table(rows(), "\t"), {}, TWO, N, {"separator": "\t", "format": "TSV"}),
    "an ending in capitals": ("A.CSV", table(rows()), {}, TWO, N, {}),
    "more commas than columns in a semicolon header": (
        "a.csv", table([(*r, "") for r in rows()], ";", ("text", "label", "a,b,c,d,e")), {}, TWO, N, {"separator": ";"}
    ),
    "a byte order mark": ("a.csv", b"\xef\xbb\xbf" + table(rows()), {}, TWO, N, {"encoding": "utf-8"}),
    "cp1252": ("a.csv", table([("très “mauvais” – l’été à 5 €", "negative"), *rows()]).decode().encode("cp1252"), {}, TWO,
               N + 1, {"encoding": "cp1252"}),
    "latin-1 with a control": ("a.csv", table([("très mauvais \x81 é", "negative"), *rows()]).decode().encode("latin-1"),
                               {}, TWO, N + 1, {"encoding": "latin-1"}),
    "quoted newlines": ("a.csv", table(NEWLINE), {}, TWO, N + 1, {}),
    "line ends of Unix": ("a.csv", table(rows()).replace(b"\r\n", b"\n"), {}, TWO, N, {}),
    "blank lines": ("a.csv", b"\n" + table(rows()).replace(b"\r\n", b"\n\n"), {}, TWO, N, {"num_rows": N}),
    "stars as classes": ("a.csv", table(STARS), {}, FIVE, 300, {}),
    "stars with decimals": ("a.csv", table([(t, f"{s}.0") for t, s in STARS]), {}, FIVE, 300, {}),
    "stars in words": ("a.csv", table([(t, f"{s} star") for t, s in STARS]), {}, FIVE, 300, {}),
    "ten before nine is no order": ("a.csv", table(rows(("10", "9"))), {}, ("9", "10"), N, {}),
    "zero and one": ("a.csv", table(rows(("1", "0"))), {}, ("0", "1"), N, {}),
    "stars by a map": (
        "a.csv", table(STARS), {"label_map": {"1": "negative", "2": "negative", "3": "drop", "4": "positive", "5": "positive"}},
        TWO, 240, {"dropped": {"by the label map": 60}},
    ),
    "a map with YAML's numbers": (
        "a.csv", table(STARS), {"label_map": {1: "neg", 2: "neg", 3: "neutral", 4.0: "pos", 5: "pos"}},
        ("neg", "neutral", "pos"), 300, {},
    ),
    "known words out of alphabet": ("a.csv", table(rows(("good", "bad"))), {}, ("bad", "good"), N, {"warnings": ()}),
    "five known words": (
        "a.csv", table(rows(("Positive", "very_negative", "Neutral", "very positive", "negative"), 300)), {},
        ("very_negative", "negative", "Neutral", "Positive", "very positive"), 300, {},
    ),
    "three known words": ("a.csv", table(rows(("pos", "neu", "neg"), 300)), {}, ("neg", "neu", "pos"), 300, {}),
    "percentages": ("a.csv", table(rows(("100%", "20 %"))), {}, ("20 %", "100%"), N, {"warnings": ()}),
    "thumbs": ("a.csv", table(rows(("👎🏽", "👍"))), {}, ("👎🏽", "👍"), N, {"warnings": ()}),
    "known words of other languages": (
        "a.csv", table(rows(("positif", "négatif", "neutre"), 300)), {}, ("négatif", "neutre", "positif"), 300, {"warnings": ()},
    ),
    "unknown words by the alphabet": ("a.csv", table(rows(("spam", "ham"))), {}, ("ham", "spam"), N, {}),
    "labels given": ("a.csv", table(rows(("spam", "ham"))), {"labels": ("spam", "ham")}, ("spam", "ham"), N, {"warnings": ()}),
    "white space round labels": ("a.csv", table([(t, f" {lb} ") for t, lb in rows()]), {}, TWO, N, {}),
    "no text": ("a.csv", table([("", "negative"), ("  ", "positive"), *rows()]), {}, TWO, N, {"dropped": {"without text": 2}}),
    "no label": ("a.csv", table([("some text", ""), *rows()]), {}, TWO, N, {"dropped": {"without label": 1}}),
    "repeated rows": ("a.csv", table([*rows(), *rows()[:7]]), {}, TWO, N, {"dropped": {"repeated": 7}}),
    "repeated rows that disagree": (
        "a.csv", table([*rows(), (sentence(0), "positive")]), {}, TWO, N - 1,
        {"dropped": {"repeated with contradicting labels": 2}},
    ),
    "json lines": ("a.jsonl", json_lines({"text": t, "label": lb} for t, lb in rows()), {}, TWO, N, {"format": "JSONL"}),
    "json lines with numbers and gaps": (
        "a.ndjson", json_lines([{"text": None, "label": 1}, {"label": 0}, {"text": "lonely words"}]
                               + [{"text": t, "label": float(lb)} for t, lb in rows(("0", "1"))]),
        {}, ("0", "1"), N, {"dropped": {"without text": 2, "without label": 1}},
    ),
    "json lines with truth values": (
        "a.jsonl", json_lines({"text": t, "label": lb == "b"} for t, lb in rows(("a", "b"))), {}, ("false", "true"), N, {}
    ),
    "parquet": ("a.parquet", parquet(text=[t for t, _ in rows()], label=[i % 2 for i in range(N)]), {}, ("0", "1"), N,
                {"format": "Parquet", "encoding": None}),
    "parquet with gaps": (
        "a.pq", parquet(text=[None, *(t for t, _ in rows())], label=[1.0, np.nan, *(float(i % 2) for i in range(1, N))]),
        {}, ("0", "1"), N - 1, {"dropped": {"without text": 1, "without label": 1}},
    ),
    "a split column": (
        "a.csv", table(SPLIT, header=("text", "label", "part")), {"split_column": "part"}, TWO, N, {}
    ),
    "a text of 100,000 characters": ("a.csv", table([("long " * 20_000, "negative"), *rows()]), {}, TWO, N + 1, {}),
    "a text of 300,000 characters": ("a.csv", table([("x" * 300_000, "negative"), *rows()]), {}, TWO, N + 1, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
def test_a_good_file_gives_its_classes_and_rows_and_says_how_it_was_read(case):
    name, content, options, labels, used, said = GOOD[case]
    data = load(name, content, **options)
    assert data.labels == labels
    assert len(data.frame) == used
    for key, value in said.items():
        seen = getattr(data.reading, key)
        assert ({k: v for k, v in seen.items() if v} if key == "dropped" else seen) == value
    assert data.reading.num_rows == used + sum(data.reading.dropped.values())
    for split in SPLITS:
        assert set(data.split(split)["label"]) == set(range(len(labels)))
    assert data.private


def test_quoted_cells_come_back_as_they_were_written():
    assert NEWLINE[0][0] in set(load("a.csv", table(NEWLINE)).frame["text"])
    page = table([("caf\u00e9 &amp; cr\u00e8me", "negative"), *rows()]).decode().encode("latin-1")
    assert "caf\u00e9 &amp; cr\u00e8me" in set(load("b.csv", page).frame["text"])


def test_all_formats_of_the_same_rows_give_the_same_revision():
    data = rows()
    texts, labels = zip(*data, strict=True)
    made = [
        load("a.csv", table(data)),
        load("a.tsv", table(data, "\t")),
        load("a.jsonl", json_lines({"label": lb, "text": t} for t, lb in data)),
        load("a.parquet", parquet(text=texts, label=labels)),
        load("b.csv", table(data[::-1])),
    ]
    assert len({d.revision for d in made}) == 1
    assert len({frozenset(splits_of(d).items()) for d in made}) == 1


def test_own_splits_are_70_10_20_in_every_class():
    counts = Counter(zip(*load("a.csv", table(rows(n=400))).frame[["label", "split"]].to_numpy().T, strict=True))
    for label in (0, 1):
        assert [counts[label, split] for split in SPLITS] == pytest.approx([140, 20, 40], abs=1)


def test_near_duplicates_stay_on_one_side():
    words = [f"alpha{i} beta{i} gamma{i} delta{i} epsilon{i} zeta{i} eta{i} theta{i} iota{i}" for i in range(N)]
    pairs = [(text, "negative") for text in words] + [(f"{text.upper()} kappa", "positive") for text in words]
    split = splits_of(load("a.csv", table(pairs)))
    assert all(split[a] == split[f"{a.upper()} kappa"] for a in words)
    assert set(split.values()) == set(SPLITS)


def test_groups_stay_on_one_side_and_rows_without_a_group_stand_alone():
    lines = [(*r, f"shop {i // 4}" if i < 120 else "") for i, r in enumerate(rows(n=160))]
    data = load("a.csv", table(lines, header=("text", "label", "shop")), group_column="shop")
    split = splits_of(data)
    sides = {}
    for text, _, shop in lines:
        if shop:
            sides.setdefault(shop, set()).add(split[text])
    assert {len(side) for side in sides.values()} == {1}
    assert data.reading.num_groups == 30
    assert data.reading.num_kept_together == 120
    assert "40 rows have no group and are split one by one" in data.reading.warnings


def test_above_the_limit_only_equal_texts_are_kept_together_and_the_report_says_so(monkeypatch):
    monkeypatch.setattr(splits, "MAX_COMPARED", 100)
    monkeypatch.setattr(splits, "MAX_CHARACTERS", 1_000)
    data = load("many.csv", table([*rows(), (sentence(0).upper() + "!", "negative")]))
    split = splits_of(data)
    assert split[sentence(0)] == split[sentence(0).upper() + "!"]
    assert data.reading.num_kept_together == 2
    assert "151 texts with 5,554 characters are more" in data.reading.warnings[0]
    assert "more than 100 texts and 1,000 characters, so only texts that are equal" in data.reading.warnings[0]


def test_the_comparison_of_many_texts_is_kept_for_the_next_process(monkeypatch, tmp_path):
    monkeypatch.setenv("MOODBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(splits, "MIN_KEPT", 100)
    first = load("a.csv", table([*rows(), (sentence(0).upper(), "negative")]))
    (kept,) = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert np.load(kept).max() == N - 1
    monkeypatch.setattr(splits, "find_clusters", None)
    again = load("b.csv", Path("a.csv").read_bytes())
    assert splits_of(again) == splits_of(first)
    assert b"sentence" not in kept.read_bytes()


def test_a_failed_write_to_the_cache_leaves_no_file_and_stops_nothing(monkeypatch, tmp_path):
    def full(file, array):
        file.write(b"part of it")
        raise OSError("no space left on device")

    monkeypatch.setenv("MOODBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(splits, "MIN_KEPT", 100)
    monkeypatch.setattr(splits.np, "save", full)
    assert len(splits_of(load("a.csv", table(rows())))) == N
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == []


def test_given_splits_are_kept_and_a_missing_validation_is_an_eighth_of_train():
    lines = [(*r, "test" if i % 5 in (3, 4) else "train") for i, r in enumerate(rows(n=400))]
    data = load("a.csv", table(lines, header=("text", "label", "part")), split_column="part")
    split = splits_of(data)
    assert {t for t, s in split.items() if s == "test"} == {t for t, _, part in lines if part == "test"}
    assert Counter(split.values()) == {"train": 210, "validation": 30, "test": 160}
    assert "validation is an eighth of train" in data.reading.split_rule


@pytest.mark.parametrize(
    ("cell", "text"),
    [(4, "4"), (4.0, "4"), ("4.0", "4"), (" 4 ", "4"), (-1.0, "-1"), (1.5, "1.5"), ("1.50", "1.50"), (True, "true"),
     ("", None), (None, None), (float("nan"), None), ("1e3", "1e3"), ("v1.0", "v1.0")],
)  # fmt: skip
def test_a_label_is_the_same_however_the_file_writes_it(cell, text):
    assert label_text(cell) == text


def test_words_that_stand_on_one_rank_do_not_order_classes():
    order = order_classes({"good", "positive"}, (), "x")
    assert order.names == ("good", "positive") and order.warning


def test_a_parquet_file_is_weighed_unpacked_and_by_the_columns_that_are_read(monkeypatch):
    texts = [f"{i} " + "very much the same, " * 1000 for i in range(200)]
    packed = parquet(text=texts, label=[i % 2 for i in range(200)], other=["x" * 9 for _ in range(200)])
    Path("a.parquet").write_bytes(packed)
    weight = unpacked_bytes(Path("a.parquet"), ["text", "label"])
    assert len(packed) < 10**6 < 4 * 10**6 < sum(map(len, texts)) <= weight < 1.01 * sum(map(len, texts))
    monkeypatch.setattr("moodbench.hardware.psutil.virtual_memory", lambda: SimpleNamespace(available=15_000_000))
    with pytest.raises(
        PrerequisiteError,
        match=r"a.parquet: the columns to read have 0.0 GiB unpacked; loading them takes at least 4 times",
    ):
        load_own("mine", source("a.parquet"))


def test_without_human_ratings_there_is_no_ceiling():
    data = load("a.csv", table(rows()))
    assert ceiling_columns(data.split("test"), 2, 0.0) == {"ceiling_accuracy": None, "ceiling_f1_macro": None}
    found = figures_of_predictions(predictions_on(Majority([0.0, 1.0]), data.split("test"), 8))
    assert found["accuracy"] == data.split("test")["label"].mean()
