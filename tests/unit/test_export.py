"""`moodbench export`: the board as files, figures by the hand of toy_store, nothing of the texts."""

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from toy_store import SECRET, change_row, toy_fit, write_toy_store, write_toy_trial

from moodbench.cli import main
from moodbench.report.leaderboard_view import EXPORTED
from moodbench.store import Store

CLASSIC = [
    "model_name", "accuracy", "f1", "precision", "recall", "ttft_mean_ms", "latency_median_ms", "latency_p99_ms",
    "throughput_tokens_per_sec", "memory_allocated_mb", "training_time_hours",
]  # fmt: skip


@pytest.fixture
def store(tmp_path):
    return write_toy_store(tmp_path / "results")


def export(store, capsys, *arguments) -> dict[str, Path]:
    """Name to path of the files that the command says it wrote."""
    with pytest.raises(SystemExit) as ended:
        main(["export", "--store", store.uri, *map(str, arguments)])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    return {Path(line).name: Path(line) for line in printed.out.splitlines()}


def test_csv_parquet_and_json_hold_the_same_board(store, capsys):
    (csv,) = export(store, capsys).values()
    assert csv == Path(store.uri) / "exports" / "leaderboard.csv"
    (parquet,) = export(store, capsys, "--format", "parquet").values()
    (document,) = export(store, capsys, "--format", "json").values()
    row = pd.read_csv(csv).iloc[0]
    (typed,) = pq.read_table(parquet).to_pylist()
    (plain,) = json.loads(document.read_text())["board"]
    assert list(row.index) == list(typed) == list(plain) == EXPORTED
    assert (row["model"], row["accuracy"], row["num_test"]) == ("toy", 0.75, 8)
    assert typed == plain
    assert typed["latency_p50_s"] == pytest.approx(0.0035, rel=1e-12)
    assert typed["fit_ids"] == [toy_fit().fit_id]


def test_the_csv_is_that_of_the_leaderboard_to_the_letter(store, capsys):
    (csv,) = export(store, capsys).values()
    with pytest.raises(SystemExit):
        main(["leaderboard", "--store", store.uri, "--csv"])
    assert capsys.readouterr().out == csv.read_text()


def test_the_classic_file_has_exactly_its_keys_in_their_units(store, capsys):
    files = export(store, capsys, "--format", "classic")
    assert list(files) == ["toy_results.json"]
    figures = json.loads(files["toy_results.json"].read_text())
    assert list(figures) == CLASSIC
    assert figures == {
        "model_name": "toy",
        "accuracy": 0.75,
        "f1": pytest.approx(0.75),
        "precision": pytest.approx(0.75),
        "recall": pytest.approx(0.75),
        "ttft_mean_ms": pytest.approx(3.5),  # nine requests each of 2, 3, 4 and 5 ms
        "latency_median_ms": pytest.approx(3.5),
        "latency_p99_ms": None,  # 36 requests do not tell
        "throughput_tokens_per_sec": 390 * 25,
        "memory_allocated_mb": pytest.approx(3.0),
        "training_time_hours": pytest.approx(0.01),
    }


def test_what_was_not_measured_is_null(store, capsys):
    for path in (Path(store.uri) / "measurements").rglob("*.parquet"):
        path.unlink()
    figures = json.loads(export(store, capsys, "--format", "classic")["toy_results.json"].read_text())
    assert [name for name in CLASSIC if figures[name] is None] == CLASSIC[5:10]


def test_a_measurement_with_wrong_labels_gives_no_speed(store, capsys):
    change_row(store, "measurements/c0/*.parquet", verdict="invalid")
    figures = json.loads(export(store, capsys, "--format", "classic")["toy_results.json"].read_text())
    assert figures["ttft_mean_ms"] is figures["latency_median_ms"] is figures["memory_allocated_mb"] is None
    assert figures["accuracy"] == 0.75


def test_memory_on_a_gpu_is_what_it_allocated(store, capsys):
    change_row(store, "measurements/c0/*.parquet", gpu_peak_allocated_bytes=7_000_000)
    figures = json.loads(export(store, capsys, "--format", "classic")["toy_results.json"].read_text())
    assert figures["memory_allocated_mb"] == pytest.approx(7.0)


def test_several_recipes_of_one_model_and_names_that_clash_have_files_of_their_own(store, capsys):
    other = toy_fit(max_train_examples=2)
    names = {"org/m": toy_fit("org/m"), "org_M": toy_fit("org_M"), "../up": toy_fit("../up")}
    for number, fit in enumerate([other, *names.values()], start=1):
        write_toy_trial(store, fit, f"e{number}" + "0" * 18, f"c{number}" + "0" * 18)
    files = export(store, capsys, "--format", "classic")
    assert set(files) == {
        f"toy_toy-set_{toy_fit().config_id[:8]}_results.json",
        f"toy_toy-set_{other.config_id[:8]}_results.json",
        f"org_m_toy-set_{names['org/m'].config_id[:8]}_results.json",
        f"org_M_toy-set_{names['org_M'].config_id[:8]}_results.json",
        ".._up_results.json",
    }
    assert {path.parent for path in files.values()} == {Path(store.uri) / "exports"}
    assert json.loads(files[".._up_results.json"].read_text())["model_name"] == "../up"


def test_seeds_are_one_file_with_the_mean_of_the_quality(store, capsys):
    write_toy_trial(store, toy_fit(seed=1), "e1" + "0" * 18, "c1" + "0" * 18)
    change_row(store, "evaluations/e1/*.parquet", accuracy=0.25)
    (path,) = export(store, capsys, "--format", "classic").values()
    assert json.loads(path.read_text())["accuracy"] == 0.5


@pytest.mark.parametrize("form", ["csv", "parquet", "json", "classic", "huggingface", "every-eval-ever", "latex"])
def test_no_text_of_the_data_is_exported_and_nothing_half_written_is_left(store, tmp_path, form, capsys):
    out = tmp_path / "elsewhere" / "deep"
    export(store, capsys, "--format", form, "--out", out)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    export(store, capsys, "--format", form, "--out", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    assert len(first) == 1
    assert all(SECRET.encode() not in content for content in first.values())
    assert not (Path(store.uri) / "exports").exists()


def test_an_export_over_a_file_is_explained(store, tmp_path, capsys):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["export", "--store", store.uri, "--out", str(tmp_path / "taken")])
    assert ended.value.code == 2
    assert "taken: cannot be written" in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_full_disk_leaves_the_old_file_as_it_was(store, capsys, monkeypatch):
    (path,) = export(store, capsys).values()
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(SystemExit) as ended:
        main(["export", "--store", store.uri])
    assert ended.value.code == 2
    assert "leaderboard.csv: No space left on device; nothing was written there" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_store_of_fits_alone_has_nothing_to_export(store, capsys):
    for path in Path(store.uri).glob("[em]*s/??/*.parquet"):
        path.unlink()
    assert Store.open(store.uri).ids("fits")
    with pytest.raises(SystemExit) as ended:
        main(["export", "--store", store.uri])
    assert ended.value.code == 2
    assert "nothing to write" in capsys.readouterr().err
