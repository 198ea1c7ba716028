"""A person's own file: what is read from it, and what is refused with one clear message."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from own_files import STARS, N, json_lines, parquet, rows, sentence, table

from moodbench.benchmark.resolve import resolve
from moodbench.benchmark.room import check_room
from moodbench.cli import main, parser
from moodbench.cli.request import spec_of
from moodbench.config.catalogue import load_catalogue
from moodbench.config.schema import DatasetEntry, FileSource
from moodbench.data import partition
from moodbench.data.files import unpacked_bytes
from moodbench.data.labelling import label_text, order_classes
from moodbench.data.own import load_own
from moodbench.data.report import ModelLengths, data_report
from moodbench.data.splits import SPLITS, normalised
from moodbench.errors import DataError, PrerequisiteError, SpecError
from moodbench.evaluation.predicting import columns, evaluate
from moodbench.hardware import Hardware
from moodbench.models.baselines import Majority
from moodbench.plan import make_plan
from moodbench.spec import BenchmarkSpec, TrialSpec, spec_of_preset
from moodbench.store import Store

MACHINE = Hardware(cpu="Toy CPU", num_cores=2, memory_bytes=8 * 2**30, gpus=(), mps=False)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def source(path, **more):
    return FileSource(path=str(path), **({"text_column": "text", "label_column": "label"} | more))


def load(name, content, **more):
    Path(name).write_bytes(content)
    return load_own("mine", source(name, **more))


def splits_of(data):
    return dict(zip(data.examples.frame["text"], data.examples.frame["split"], strict=True))


NEWLINE = [("first line\nsecond line, with a comma and quotes", "negative"), *rows()]
SPLIT = [(t, lb, ("train", "Dev", "TEST")[i // 2 % 3]) for i, (t, lb) in enumerate(rows())]
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
    "stars in words": ("a.csv", table([(t, f"{s} star") for t, s in STARS]), {}, tuple(f"{s} star" for s in FIVE), 300, {}),
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
    assert data.examples.labels == labels
    assert len(data.examples.frame) == used
    for key, value in said.items():
        seen = getattr(data.reading, key)
        assert ({k: v for k, v in seen.items() if v} if key == "dropped" else seen) == value
    assert data.reading.num_rows == used + sum(data.reading.dropped.values())
    for split in SPLITS:
        assert set(data.examples.split(split)["label"]) == set(range(len(labels)))
    assert data.examples.private


def test_quoted_cells_come_back_as_they_were_written():
    assert NEWLINE[0][0] in set(load("a.csv", table(NEWLINE)).examples.frame["text"])
    page = table([("caf\u00e9 &amp; cr\u00e8me", "negative"), *rows()]).decode().encode("latin-1")
    assert "caf\u00e9 &amp; cr\u00e8me" in set(load("b.csv", page).examples.frame["text"])


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
    assert len({d.examples.revision for d in made}) == 1
    assert len({frozenset(splits_of(d).items()) for d in made}) == 1


def test_own_splits_are_70_10_20_in_every_class():
    counts = Counter(
        zip(*load("a.csv", table(rows(n=400))).examples.frame[["label", "split"]].to_numpy().T, strict=True)
    )
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
    assert "40 rows have no group and stand alone" in data.reading.warnings


def test_above_the_limit_only_equal_texts_are_kept_together_and_the_report_says_so(monkeypatch):
    monkeypatch.setattr(partition, "MAX_COMPARED", 100)
    data = load("many.csv", table([*rows(), (sentence(0).upper() + "!", "negative")]))
    split = splits_of(data)
    assert split[sentence(0)] == split[sentence(0).upper() + "!"]
    assert data.reading.num_kept_together == 2
    assert "151 texts are more than 100, so only texts that are equal" in data.reading.warnings[0]


def test_the_comparison_of_many_texts_is_kept_for_the_next_process(monkeypatch, tmp_path):
    monkeypatch.setenv("MOODBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(partition, "MIN_KEPT", 100)
    first = load("a.csv", table([*rows(), (sentence(0).upper(), "negative")]))
    (kept,) = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert np.load(kept).max() == N - 1
    monkeypatch.setattr(partition, "near_duplicate_clusters", None)
    again = load("b.csv", Path("a.csv").read_bytes())
    assert splits_of(again) == splits_of(first)
    assert b"sentence" not in kept.read_bytes()


def test_given_splits_are_kept_and_a_missing_validation_is_an_eighth_of_train():
    lines = [(*r, "test" if i % 5 in (3, 4) else "train") for i, r in enumerate(rows(n=400))]
    data = load("a.csv", table(lines, header=("text", "label", "part")), split_column="part")
    split = splits_of(data)
    assert {t for t, s in split.items() if s == "test"} == {t for t, _, part in lines if part == "test"}
    assert Counter(split.values()) == {"train": 210, "validation": 30, "test": 160}
    assert "validation is an eighth of train" in data.reading.split_rule


def reported(data, **more):
    return data_report(data.examples, data.reading, **more)


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
    assert report.num_html_entities == 2
    assert {name: sum(c.values()) for name, c in report.counts.items()} == {"bad": 100, "good": 100}
    text = "\n".join(report.lines())
    assert "201 read, 200 used; dropped: 1 without text" in text
    assert "positive class: good" in text
    assert "words per text for vader, majority: median 100, P95 190, longest 200; none is cut" in text
    assert not any(line in text for line, _ in lines[20:])
    assert json.loads(json.dumps(report.as_event()))["event"] == "data_report"


def test_the_report_tells_the_tokens_of_each_model_and_what_is_cut():
    data = load("a.csv", table(rows(n=200)))
    is_test = (data.examples.frame["split"] == "test").to_numpy()
    assert is_test.sum() == 40
    tokens = np.where(is_test, 5, np.arange(200) % 100 + 1)
    tokens[np.flatnonzero(is_test)[:10]] = 300
    (words, one, other) = reported(
        data, models=[ModelLengths(("A", "B"), tokens, 256), ModelLengths(("C",), tokens + 1, 5)]
    ).lengths
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


def entry(path, **more):
    return DatasetEntry(file=source(path, **more))


def resolved(name, path, models=("tfidf-logreg",), **more):
    catalogue = dataclasses.replace(load_catalogue(), datasets={name: entry(path, **more)})
    return resolve(BenchmarkSpec(models=models, datasets=(name,)), catalogue, MACHINE)


def test_ids_do_not_depend_on_where_the_file_is_but_on_what_it_says():
    for folder in ("here", "there"):
        Path(folder).mkdir()
        Path(folder, "a.csv").write_bytes(table(rows()))
    (here,), (there,) = resolved("mine", "here/a.csv"), resolved("mine", "there/a.csv")
    assert here.fit.dataset.file.path != there.fit.dataset.file.path
    assert Path(here.fit.dataset.file.path).is_absolute() and here.fit.dataset.private
    assert (here.fit.config_id, here.evaluate.evaluation_id) == (there.fit.config_id, there.evaluate.evaluation_id)
    Path("there/a.csv").write_bytes(table([*rows(), ("one more text", "negative")]))
    (changed,) = resolved("mine", "there/a.csv")
    assert changed.fit.config_id != here.fit.config_id
    assert TrialSpec.model_validate_json(here.model_dump_json()).fit.fit_id == here.fit.fit_id


def test_a_parquet_file_is_weighed_unpacked_and_by_the_columns_that_are_read(monkeypatch):
    texts = [f"{i} " + "very much the same, " * 1000 for i in range(200)]
    packed = parquet(text=texts, label=[i % 2 for i in range(200)], other=["x" * 9 for _ in range(200)])
    Path("a.parquet").write_bytes(packed)
    weight = unpacked_bytes(Path("a.parquet"), ["text", "label"])
    assert len(packed) < 10**6 < 4 * 10**6 < sum(map(len, texts)) <= weight < 1.01 * sum(map(len, texts))
    monkeypatch.setattr("moodbench.data.own.psutil.virtual_memory", lambda: SimpleNamespace(available=15_000_000))
    with pytest.raises(
        PrerequisiteError, match=r"a.parquet: what is read has 0.0 GiB unpacked; holding it takes at least 4 times"
    ):
        load_own("mine", source("a.parquet"))


def test_a_worker_refuses_a_file_that_has_changed_since_the_plan():
    from moodbench.trial import examples_of

    Path("a.csv").write_bytes(table(rows()))
    (trial,) = resolved("mine", "a.csv")
    assert examples_of(trial.fit).revision == trial.fit.dataset.revision
    Path("a.csv").write_bytes(table(rows(n=160)))
    with pytest.raises(DataError, match=r"a\.csv has changed since"):
        examples_of(trial.fit)


def test_a_catalogue_entry_may_be_a_file():
    Path("a.csv").write_bytes(table(STARS))
    Path("mine.yaml").write_text(
        "datasets:\n  shop:\n    file:\n      path: a.csv\n      text_column: text\n      label_column: label\n"
        "      label_map: {1: negative, 2: negative, 3: drop, 4: positive, 5: positive}\n"
    )
    (trial,) = resolve(
        BenchmarkSpec(models=("tfidf-logreg",), datasets=("shop",)), load_catalogue(Path("mine.yaml")), MACHINE
    )
    assert trial.fit.dataset.labels == ("negative", "positive")


def test_the_list_of_data_sets_shows_a_file_without_reading_it(capsys):
    Path("mine.yaml").write_text("datasets: {shop: {file: {path: gone.csv, text_column: t, label_column: l}}}")
    with pytest.raises(SystemExit) as ended:
        main(["datasets", "--config", "mine.yaml", "--json"])
    assert ended.value.code == 0
    (row,) = (r for r in json.loads(capsys.readouterr().out) if r["name"] == "shop")
    assert (row["num_texts"], row["labels"], row["licence"]) == (None, None, "not stated")


@pytest.mark.parametrize(
    ("arguments", "datasets"),
    [
        (["quickstart"], ("my-shop",)),
        (["--models", "vader", "--datasets", "icwsm-movie"], ("my-shop", "icwsm-movie")),
        (["quickstart", "--data-name", "shop_2.0"], ("shop_2.0",)),
    ],
)
def test_own_data_take_the_place_of_a_presets_data_and_stand_beside_named_ones(arguments, datasets):
    given = parser().parse_args(
        ["run", *arguments, "--data", "my shop!.csv", "--text-column", "t", "--label-column", "l"]
    )
    spec = spec_of(given, load_catalogue())
    name, entry = spec.own
    assert entry.file == FileSource(path="my shop!.csv", text_column="t", label_column="l")
    assert (name, *spec.datasets) == datasets


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{}", "give exactly one of embedded, file, hub; given: none"),
        ("{embedded: icwsm-movie, file: {path: a, text_column: t, label_column: l}}", "given: embedded, file"),
        (
            "{file: {path: a, text_column: t, label_column: l}, neutral_band: 1}",
            "neutral_band: read for embedded texts only",
        ),
        ("{file: {path: a, text_column: t}}", "datasets.x.file.label_column: Field required"),
        ("{file: {path: a, text_column: t, label_column: l, colour: red}}", "datasets.x.file.colour: unknown key"),
        (
            "{embedded: icwsm-movie, labels: [a, b]}",
            "an embedded text needs citation, description, licence, neutral_band",
        ),
    ],
)
def test_a_catalogue_entry_with_a_wrong_source_is_refused(values, message):
    Path("mine.yaml").write_text(f"datasets:\n  x: {values}\n")
    with pytest.raises(SpecError) as told:
        load_catalogue(Path("mine.yaml"))
    assert message in str(told.value) and "mine.yaml, line 2" in str(told.value)


def test_without_human_ratings_there_is_no_ceiling():
    data = load("a.csv", table(rows()))
    found = columns(evaluate(Majority([0.0, 1.0]), data.examples.split("test"), 2, 0.0, 8))
    assert found["ceiling_accuracy"] is None and found["ceiling_f1_macro"] is None
    assert found["accuracy"] == data.examples.split("test")["label"].mean()


# Ids of the packaged presets, as they were before data sets could be files: old records must stay theirs.
CONFIG_IDS = {
    ("quickstart", "majority", "icwsm-movie"): "fef1fdbeaa678f15182d",
    ("quickstart", "vader", "icwsm-movie"): "d6238454f11ed4e2521a",
    ("quickstart", "tfidf-logreg", "icwsm-movie"): "5ec366b2989043b0b699",
    ("quickstart", "MiniLM-L6-probe", "icwsm-movie"): "76ad491d258030bf1d6e",
    ("quickstart", "MiniLM-L3", "icwsm-movie"): "f3c11ded0c0d0dd3f25c",
    ("quickstart", "MiniLM-L6", "icwsm-movie"): "a0c64030a71500f14e64",
    ("embedded", "majority", "icwsm-movie"): "15d0039c0ce4929fd289",
    ("embedded", "vader", "icwsm-movie"): "7a261d11ab30caf589db",
    ("embedded", "tfidf-logreg", "icwsm-movie"): "8ba2ca66bc010a87c63a",
    ("embedded", "MiniLM-L6-probe", "icwsm-movie"): "5ec30c537584189387f7",
    ("embedded", "MiniLM-L3", "icwsm-movie"): "e6e6780aa37e9cccdc93",
    ("embedded", "MiniLM-L6", "icwsm-movie"): "85d5eae476469e46c935",
    ("embedded", "majority", "icwsm-product"): "2e8f19e271e9185f792d",
    ("embedded", "vader", "icwsm-product"): "b4a7abd2f2761faee0f7",
    ("embedded", "tfidf-logreg", "icwsm-product"): "f8fbfbc8d2e560fd5cef",
    ("embedded", "MiniLM-L6-probe", "icwsm-product"): "ce3e584c0aba9a083e7f",
    ("embedded", "MiniLM-L3", "icwsm-product"): "0d9dcf8d2cdade6ff3db",
    ("embedded", "MiniLM-L6", "icwsm-product"): "e14d091876002ec22da5",
    ("embedded", "majority", "icwsm-tweets"): "2441266610749cce99c4",
    ("embedded", "vader", "icwsm-tweets"): "1073305266c3adde6451",
    ("embedded", "tfidf-logreg", "icwsm-tweets"): "1a3f9a549e8dd1998774",
    ("embedded", "MiniLM-L6-probe", "icwsm-tweets"): "d9d2904d995e0d5f5d90",
    ("embedded", "MiniLM-L3", "icwsm-tweets"): "51bf8eb0ef1808317014",
    ("embedded", "MiniLM-L6", "icwsm-tweets"): "18bbb16e28d9d724239d",
}


@pytest.mark.parametrize("preset", ["quickstart", "embedded"])
def test_the_ids_of_embedded_data_are_what_they_were_before_files(preset):
    catalogue = load_catalogue()
    sizes = {"max_train_examples": 2000, "max_validation_examples": 300} if preset == "quickstart" else {}
    trials = resolve(spec_of_preset(preset, catalogue, sizes), catalogue, MACHINE)
    found = {(preset, t.fit.model.name, t.fit.dataset.name): t.fit.config_id for t in trials}
    assert found == {key: value for key, value in CONFIG_IDS.items() if key[0] == preset}


def test_own_data_with_a_label_map_pass_the_check_of_disk_and_memory():
    Path("a.csv").write_bytes(table(STARS))
    (trial,) = resolved(
        "mine", "a.csv", label_map={"1": "negative", "5": "positive", "2": "drop", "3": "drop", "4": "drop"}
    )
    plan = make_plan([trial], {"fits": set(), "evaluations": set(), "measurements": set()})
    check_room(plan, Store.open("results"), MACHINE)
