"""`moodbench store verify`: whatever is tampered with is named, and nothing else."""

import json
import math
import os
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
import toy_store
from toy_store import EVALUATION_ID, MEASUREMENT_ID, change_row, path_of, toy_fit, write_toy_store

from moodbench.cli import main
from moodbench.data.examples import subsample
from moodbench.store import METRIC_COLUMNS
from moodbench.store.location import RemoteLocation
from moodbench.store.reading import compact
from moodbench.store.recompute import scored_validation
from moodbench.store.verify import verify

FIT_ID = toy_fit().fit_id
EVALUATION, MEASUREMENT, FIT = "evaluations/e0/*.parquet", "measurements/c0/*.parquet", "fits/*/*.parquet"
PREDICTIONS, SAMPLES, EXAMPLES = "predictions/*/*.parquet", "samples/*.parquet", "examples/*/*.parquet"


@pytest.fixture
def store(tmp_path):
    return write_toy_store(tmp_path / "results")


def named(store) -> set[tuple[str, str]]:
    """Kind of record and column of every difference."""
    return {(d.kind, d.column) for d in verify(store.location).differences}


def key(store, pattern) -> str:
    return path_of(store, pattern).relative_to(store.uri).as_posix()


def run(arguments, capsys) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code, capsys.readouterr().out


def test_a_store_as_it_was_written_has_no_difference(store):
    found = verify(store.location)
    assert (found.differences, found.orphans, found.leftovers) == ([], [], [])
    # three records; an artifact file, predictions, samples, examples
    assert (found.num_records, found.num_files) == (3, 4)


def test_the_toy_figures_are_those_of_the_hand(store):
    (evaluation,) = store.records("evaluations").to_dict("records")
    assert (evaluation["accuracy"], evaluation["num_test"], evaluation["truncated_share"]) == (0.75, 8, 0.125)
    assert [list(row) for row in evaluation["confusion"]] == [[3, 1], [1, 3]]
    (measurement,) = store.records("measurements").to_dict("records")
    # one window of ten is dropped: 36 requests of 2 to 5 ms remain, the median between 3 and 4
    assert (measurement["num_requests"], measurement["num_clean_requests"]) == (40, 36)
    assert measurement["latency_p50_s"] == pytest.approx(0.0035)
    assert (measurement["verdict"], measurement["throughput_batch_size"]) == ("clean", 8)


@pytest.mark.parametrize("column", [*METRIC_COLUMNS, "truncated_share"])
def test_a_changed_score_is_named_alone(store, column):
    (record,) = store.records("evaluations").to_dict("records")
    change_row(store, EVALUATION, **{column: record[column] + 1e-9})
    (difference,) = verify(store.location).differences
    assert difference[:3] == ("evaluations", EVALUATION_ID, column)
    assert difference.stored == record[column] + 1e-9
    assert difference.recomputed == record[column]


def test_a_changed_accuracy_shows_both_values(store):
    change_row(store, EVALUATION, accuracy=0.875)
    assert verify(store.location).differences == [("evaluations", EVALUATION_ID, "accuracy", 0.875, 0.75)]


def test_a_rounding_of_the_last_digit_is_no_difference_but_a_count_is(store):
    change_row(store, EVALUATION, accuracy=math.nextafter(0.75, 1))
    assert named(store) == set()
    change_row(store, EVALUATION, num_test=9, confusion=[[3, 1], [2, 2]])
    assert named(store) == {("evaluations", "num_test"), ("evaluations", "confusion")}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("num_processes", 2), ("num_requests", 41), ("num_clean_requests", 40), ("run_delay_share", 0.0),
        ("clean_share", 1.0), ("latency_p50_s", 0.003), ("latency_p50_low_s", 0.001), ("latency_p90_high_s", 0.006),
        ("latency_p95_s", 0.001), ("latency_p99_s", 0.005), ("latency_p99_high_s", 0.005), ("latency_p99_needed", 600),
        ("cpu_time_p50_s", 0.001), ("cpu_time_p99_s", 0.001), ("length_intercept_s", 0.0),
        ("length_slope_s_per_token", 0.0002), ("throughput_texts_per_s", 400.0), ("throughput_batch_size", 32),
        ("causes", []),
        ("process_speed", [{"latency_p50_s": 0.0036, "texts_per_s": 390.0}]),
        ("process_speed", [{"latency_p50_s": 0.0035, "texts_per_s": 391.0}]),
        ("process_speed", [{"latency_p50_s": 0.0035, "texts_per_s": 390.0}] * 2), ("process_speed", []),
    ],
)  # fmt: skip
def test_a_changed_figure_of_speed_is_named_alone(store, column, value):
    change_row(store, MEASUREMENT, **{column: value})
    assert [(d.kind, d.id, d.column, d.stored) for d in verify(store.location).differences] == [
        ("measurements", MEASUREMENT_ID, column, value)
    ]


def test_the_latency_of_one_process_of_several_is_worked_out_again(tmp_path, monkeypatch):
    """The second waits 2 ms longer: 36 of 40 requests of each count, 2 to 5 and 4 to 7 ms; its throughput is nowhere else."""
    slow = toy_store.toy_process()
    slow["requests"]["latency_s"] = [s + 0.002 for s in slow["requests"]["latency_s"]]
    monkeypatch.setattr(toy_store, "toy_processes", lambda: [toy_store.toy_process(), slow])
    store = write_toy_store(tmp_path / "two")
    assert named(store) == set()
    speed = store.record("measurements", MEASUREMENT_ID)["process_speed"]
    assert [p["latency_p50_s"] for p in speed] == pytest.approx([0.0035, 0.0055])
    for wrong in (
        [speed[0], speed[1] | {"latency_p50_s": 0.0054}],
        [speed[0], speed[1] | {"latency_p50_s": None}],
        speed[::-1],
        speed[:1],
    ):
        change_row(store, MEASUREMENT, process_speed=wrong)
        assert named(store) == {("measurements", "process_speed")}, wrong


def test_a_verdict_better_than_the_windows_allow_is_named(store):
    for row in range(16, 40):  # six more windows waited for a processor
        change_row(store, SAMPLES, row, run_delay_s=0.01)
    differences = {d.column: d for d in verify(store.location).differences}
    assert (differences["verdict"].stored, differences["verdict"].recomputed) == ("clean", "contaminated")
    assert differences["samples.kept"].stored == "24 of 40 rows"


def test_a_measurement_with_wrong_labels_may_say_so(store):
    change_row(store, MEASUREMENT, verdict="invalid", causes=["3 timed labels differ from the evaluated ones"])
    assert named(store) == set()


def test_a_flipped_logit_is_named_by_the_file_and_by_every_score_it_moves(store):
    change_row(store, PREDICTIONS, 0, logits=[0.0, 2.0])
    found = named(store)
    assert ("evaluations", key(store, PREDICTIONS)) in found, "size or digest"
    moved = {("evaluations", name) for name in ("accuracy", "f1_macro", "confusion", "nll", "brier")}
    assert moved <= found
    assert ("evaluations", "predictions.predicted") in found


def test_a_changed_latency_is_named_by_the_file_and_by_what_it_moves(store):
    change_row(store, SAMPLES, 39, latency_s=9.0)
    found = named(store)
    assert {("measurements", key(store, SAMPLES)), ("measurements", "length_slope_s_per_token")} <= found
    assert not {kind for kind, _ in found} - {"measurements"}


def test_a_dropped_sample_mark_is_named(store):
    change_row(store, SAMPLES, 39, kept=False)
    assert {("measurements", "num_clean_requests"), ("measurements", "samples.kept")} <= named(store)


@pytest.mark.parametrize("pattern", [PREDICTIONS, SAMPLES, "artifacts/*/model.json"])
def test_a_deleted_file_is_named_once(store, pattern):
    path, name = path_of(store, pattern), key(store, pattern)
    size = path.stat().st_size
    path.unlink()
    (difference,) = verify(store.location).differences
    assert difference[2:] == (name, f"{size} bytes", "missing")


@pytest.mark.parametrize("pattern", [PREDICTIONS, SAMPLES, "artifacts/*/model.json"])
def test_a_truncated_file_is_named_and_stops_nothing(store, pattern):
    path = path_of(store, pattern)
    size = path.stat().st_size
    os.truncate(path, size // 2)
    change_row(store, FIT, config_id="0" * 20)  # is found as well
    differences = verify(store.location).differences
    assert (key(store, pattern), f"{size} bytes", f"{size // 2} bytes") in [d[2:] for d in differences]
    assert ("fits", "config_id") in named(store)


@pytest.mark.parametrize(
    ("pattern", "kind"), [(FIT, "fits"), (EVALUATION, "evaluations"), (MEASUREMENT, "measurements")]
)
@pytest.mark.parametrize("content", [None, b"", b"PAR1 and nothing of it", b"\x00" * 5000])
def test_a_damaged_record_is_named_and_stops_nothing(store, pattern, kind, content):
    path = path_of(store, pattern)
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    (difference,) = verify(store.location).differences
    assert (difference.kind, difference.id, difference.column) == (kind, path.stem, key(store, pattern))
    assert "cannot be read as Parquet" in difference.recomputed


def test_a_byte_changed_in_place_is_found_by_the_digest(store):
    path = path_of(store, "artifacts/*/model.json")
    path.write_bytes(path.read_bytes().replace(b"majority", b"minority"))
    (difference,) = verify(store.location).differences
    assert difference.stored.startswith("sha256 ") and difference.recomputed.startswith("sha256 ")


def test_a_value_damaged_on_disk_is_found_though_nothing_implies_it(store):
    path = path_of(store, FIT)
    place = pq.ParquetFile(path).metadata.row_group(0)
    (column,) = (place.column(i) for i in range(place.num_columns) if place.column(i).path_in_schema == "train_time_s")
    start = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[start + column.total_compressed_size - 1] ^= 1
    path.write_bytes(content)
    assert named(store) == {("fits", key(store, FIT))}


def test_a_spec_that_is_not_the_one_hashed_is_named_by_both_ids(store):
    spec = json.loads(store.records("fits")["spec"][0])
    spec["dataset"]["neutral_band"] = 0.5
    change_row(store, FIT, spec=json.dumps(spec))
    assert named(store) == {("fits", "config_id"), ("fits", "fit_id")}
    change_row(store, FIT, spec="{")
    assert ("fits", "spec") in named(store)


def test_a_result_without_its_fit_is_named(store):
    shutil.rmtree(Path(store.uri) / "fits")
    found = verify(store.location)
    assert {d[:3] for d in found.differences} == {
        ("evaluations", EVALUATION_ID, "fit_id"),
        ("measurements", MEASUREMENT_ID, "fit_id"),
    }
    assert any(orphan.startswith(f"artifacts/{FIT_ID}") for orphan in found.orphans)


def test_a_result_filed_under_another_model_is_named(store):
    change_row(store, EVALUATION, model="better")
    assert named(store) == {("evaluations", "model")}


def test_another_label_in_the_examples_is_named(store):
    change_row(store, EXAMPLES, 11, label=0)
    assert named(store) == {
        ("examples", "revision"),
        ("evaluations", "test_fingerprint"),
        ("evaluations", "predictions.label"),
    }


def test_predictions_of_another_split_are_named_with_their_number(store):
    change_row(store, EXAMPLES, 11, split="train")
    columns = {d.column: d for d in verify(store.location).differences}
    assert columns["predictions.example_id"].stored == "8 rows (1 not in it)"
    assert columns["samples.example_id"].stored == "5 of 40 rows differ"  # asked 40 / 8 times


def test_missing_examples_are_named_once(store):
    path_of(store, EXAMPLES).unlink()
    (difference,) = verify(store.location).differences
    assert (difference.kind, difference.recomputed) == ("examples", "missing")


def test_predictions_that_make_no_sense_are_named(store):
    change_row(store, PREDICTIONS, 0, logits=[1.0])
    assert ("evaluations", "predictions") in named(store)
    change_row(store, PREDICTIONS, 0, logits=[float("nan"), 1.0], evaluation_id="other")
    assert {("evaluations", "predictions"), ("evaluations", "8 rows' evaluation_id")} <= named(store)


def test_a_damaged_failure_is_named(store):
    with store.attempt() as attempt:
        name = attempt.fail("f1", {"phase": "fit", "model": "toy", "dataset": "d", "error_class": "OSError"})
    assert named(store) == set()
    (Path(store.uri) / name).write_bytes(b"torn")
    assert named(store) == {("failures", name)}


def test_a_snapshot_that_says_otherwise_than_its_records_is_named(store):
    compact(store.location, "evaluations")
    assert named(store) == set()
    change_row(store, "snapshots/evaluations.parquet", accuracy=1.0)
    assert verify(store.location).differences == [("snapshots", EVALUATION_ID, "accuracy", 1.0, 0.75)]


def test_orphans_and_leftovers_are_listed_and_are_no_error(store, capsys):
    root = Path(store.uri)
    (root / "artifacts" / "nobodys").mkdir()
    (root / "artifacts" / "nobodys" / "model.json").write_text("{}")
    (root / "staging" / "killed" / "artifact").mkdir(parents=True)
    (root / "staging" / "killed" / "artifact" / "half").write_text("")
    code, out = run(["store", "verify", "--store", store.uri], capsys)
    assert code == 0
    assert "no record names artifacts/nobodys/model.json" in out
    assert "left in staging: staging/killed" in out
    assert out.endswith("3 records and 4 files checked: nothing differs.\n")


def test_leftovers_of_a_remote_store_are_those_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("MOODBENCH_CACHE", str(tmp_path / "cache"))
    filesystem = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    location = RemoteLocation(filesystem, "bucket/results")
    assert verify(location).leftovers == []
    checkpoint = location.staging() / "fit-0a1b" / "attempt" / "checkpoint-8"
    checkpoint.mkdir(parents=True)
    (checkpoint / "adapter.safetensors").write_bytes(b"")
    (location.staging() / "killed.lock").write_text("")
    assert verify(location).leftovers == [f"{location.staging()}/fit-0a1b", f"{location.staging()}/killed"]


def test_the_command_ends_with_one_and_names_what_differs(store, capsys):
    change_row(store, EVALUATION, accuracy=0.875)
    code, out = run(["store", "verify", "--store", store.uri], capsys)
    assert code == 1
    assert f"evaluations {EVALUATION_ID}: accuracy: stored 0.875, recomputed 0.75" in out
    assert "1 difference." in out


def test_the_json_is_one_document(store, capsys):
    assert json.loads(run(["store", "verify", "--json", "--store", store.uri], capsys)[1])["differences"] == []
    change_row(store, EVALUATION, accuracy=0.875)
    code, out = run(["store", "verify", "--json", "--store", store.uri], capsys)
    assert code == 1
    assert json.loads(out)["differences"] == [
        {"kind": "evaluations", "id": EVALUATION_ID, "column": "accuracy", "stored": 0.875, "recomputed": 0.75}
    ]


@pytest.mark.parametrize("command", ["store verify", "store compact", "store recompute", "export"])
def test_a_folder_without_records_is_refused_and_not_made(command, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--store", str(tmp_path / "resluts")])
    assert ended.value.code == 2
    assert "resluts: holds no records; give the folder of a run" in capsys.readouterr().err
    assert not (tmp_path / "resluts").exists()


def test_predictions_on_validation_texts_are_read_apart_and_checked_against_their_labels(tmp_path, store):
    assert store.validation([EVALUATION_ID]).empty
    later = write_toy_store(tmp_path / "later", validation_logits=[[2.0, 0.0], [1.0, 0.0]])
    assert verify(later.location).differences == []
    assert later.validation([EVALUATION_ID])["label"].tolist() == [0, 1]
    assert len(later.predictions([EVALUATION_ID])) == 8
    change_row(later, "validation/*/*.parquet", label=1)
    assert ("evaluations", "validation") in named(later)


TRUE_SCORES = {"validation_accuracy": 0.5, "validation_f1_macro": 1 / 3, "num_validation": 2}
"""Of two validation texts, labelled 0 and 1, both predicted as 0: F1 is 2/3 for the one label and 0 for the other."""


@pytest.mark.parametrize(
    ("column", "value"), [("validation_accuracy", 1.0), ("validation_f1_macro", 0.34), ("num_validation", 3)]
)
def test_a_changed_validation_figure_of_a_fit_is_named(tmp_path, column, value):
    store = write_toy_store(tmp_path / "later", validation_logits=[[2.0, 0.0], [1.0, 0.0]])
    change_row(store, FIT, **TRUE_SCORES)
    assert named(store) == set()
    change_row(store, FIT, **{column: value})
    assert named(store) == {("fits", column)}


def test_a_fit_scored_on_a_part_of_its_validation_texts_is_checked_on_that_part():
    texts = pd.DataFrame({"example_id": [f"{i:032x}" for i in range(40)], "label": [0, 1] * 20})
    part = subsample(texts, 10, 7)
    fit = {"spec": json.dumps({"seeds": {"subsample": 7}}), "num_validation": 10}
    found = scored_validation(fit, texts.iloc[::-1])
    assert sorted(found["example_id"]) == sorted(part["example_id"]) and len(part) == 10


def test_a_model_that_was_not_trained_was_not_validated(tmp_path):
    store = write_toy_store(tmp_path / "later", validation_logits=[[2.0, 0.0], [1.0, 0.0]])
    change_row(store, FIT, validation_accuracy=None, validation_f1_macro=None, num_validation=0)
    assert named(store) == set()


@pytest.mark.parametrize(
    ("logits", "accuracy", "differs"),
    [
        ([[2.0, 0.0], [0.0005, 0.0]], 1.0, False),  # merged weights may decide a near tie the other way
        ([[2.0, 0.0], [0.0005, 0.0]], 0.5, False),
        ([[2.0, 0.0], [0.0005, 0.0]], 0.0, False),
        ([[2.0, 0.0], [0.002, 0.0]], 1.0, True),
    ],
)
def test_validation_figures_are_compared_up_to_the_texts_that_nearly_tie(tmp_path, logits, accuracy, differs):
    store = write_toy_store(tmp_path / "later", validation_logits=logits)
    change_row(store, FIT, validation_accuracy=accuracy)
    assert (("fits", "validation_accuracy") in named(store)) == differs
