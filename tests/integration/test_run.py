"""A whole run as a person makes it, on real weights and text."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import moodbench
from safetensors.numpy import load_file, save_file

from moodbench.benchmark import preflight
from moodbench.errors import PrerequisiteError
from moodbench.metrics import score_all
from moodbench.spec import FitSpec
from moodbench.store import Store
from moodbench.store.recompute import scored_validation

pytestmark = pytest.mark.integration
MODELS = ["MiniLM-L3", "MiniLM-L6-probe", "tfidf-logreg"]


def store_of(run) -> Store:
    return Store.open(run[0] / "results")


def test_the_board_lists_every_entry_with_real_figures(ray_run):
    board = {row["name"]: row for row in ray_run[1]["board"]}
    assert sorted(board) == MODELS
    for row in board.values():
        assert row["num_train"] == 96 and row["num_test"] == 687
        assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
        assert row["latency_p50_s"] > 0 and row["throughput_texts_per_s"] > 0
        assert row["latency_p99_s"] is None, "100 requests are too few for a P99"
    assert board["MiniLM-L6-probe"]["weights_bytes"] > 4 * 22_000_000
    assert board["tfidf-logreg"]["latency_p50_s"] < board["MiniLM-L6-probe"]["latency_p50_s"]


def test_the_disk_that_a_whole_run_takes_is_less_than_was_asked_for(ray_run, config, tmp_path, monkeypatch):
    asked = []

    def check_disks(_, needed, *__):
        asked.append(needed - preflight.SPARE_DISK_BYTES)
        raise PrerequisiteError("enough is known")

    monkeypatch.setattr(preflight, "_check_disks", check_disks)
    assert "enough is known" in moodbench("run", "small", "--config", config, cwd=tmp_path, code=2).stderr
    folders = ("fits", "evaluations", "measurements", "artifacts", "predictions", "validation", "samples", "examples")
    files = [p for name in folders for p in (ray_run[0] / "results" / name).rglob("*") if p.is_file()]
    assert len(files) > 20 and sum(p.stat().st_size for p in files) < sum(asked)


def test_scores_follow_from_the_stored_logits_alone(ray_run):
    store = store_of(ray_run)
    for row in store.records("evaluations").to_dict("records"):
        predictions = store.predictions([row["evaluation_id"]])
        again = score_all(np.stack(predictions["logits"]), predictions["label"].to_numpy())
        assert {k: row[k] for k in again} == again
        assert (np.stack(predictions["logits"]).argmax(axis=1) == predictions["predicted"]).all()


def test_the_kept_predictions_of_validation_texts_score_as_the_fit_did(ray_run):
    store = store_of(ray_run)
    fits = store.records("fits").set_index("fit_id")
    for row in store.records("evaluations").to_dict("records"):
        fit, said = fits.loc[row["fit_id"]], store.validation([row["evaluation_id"]])
        scored = scored_validation(fit, said)
        assert len(scored) == fit["num_validation"] <= len(said)
        assert set(said["example_id"]).isdisjoint(store.predictions([row["evaluation_id"]])["example_id"])
        scores = score_all(np.stack(scored["logits"]), scored["label"].to_numpy())
        assert scores["accuracy"] == pytest.approx(fit["validation_accuracy"], abs=1e-9)


def test_measurements_hold_the_signals_of_their_windows(ray_run):
    """2 processes of 50 requests in windows of 25, and of two batch sizes."""
    for row in store_of(ray_run).records("measurements").to_dict("records"):
        assert [w["batch_size"] for w in row["windows"]] == 2 * [None, None, 1, 8]
        assert all(0.005 < w["canary_s"] < 5 and 0 < w["cpu_s"] <= 1.05 * w["wall_s"] for w in row["windows"])
        samples = store_of(ray_run).samples([row["measurement_id"]])
        assert (samples["cpu_s"] <= samples["latency_s"] + 1e-4).all(), "CPU time of one thread, not of all"


LOADED = """
import json, sys
from pathlib import Path
from moodbench.models.predictor import deployed_form, import_libraries, load_predictor, predict_texts
from moodbench.spec import FitSpec
spec = FitSpec.model_validate_json(sys.stdin.readline())
import_libraries(spec, 1)
if len(sys.argv) > 1:
    predict_texts(load_predictor(spec, Path(sys.argv[1]), deployed_form(spec), "cpu"), ["a fine film"], 1)
print(json.dumps([name for name in ("peft", "bitsandbytes") if name in sys.modules]))
"""


def loaded_by(spec, *arguments):
    command = [sys.executable, "-c", LOADED, *map(str, arguments)]
    return json.loads(subprocess.run(command, input=spec, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("model", MODELS)
def test_a_deployed_model_answers_without_peft_and_bitsandbytes(ray_run, model):
    fit = store_of(ray_run).records("fits").set_index("model").loc[model]
    assert loaded_by(fit["spec"], store_of(ray_run).artifact(fit["fit_id"])) == []


def test_an_adapter_on_quantised_weights_loads_them_before_the_model_so_that_their_time_is_that_of_imports(ray_run):
    fit = store_of(ray_run).records("fits").set_index("model").loc["MiniLM-L3"]
    assert loaded_by(json.dumps(json.loads(fit["spec"]) | {"quantization": "nf4"})) == ["peft", "bitsandbytes"]


def test_test_texts_are_never_trained_on(ray_run):
    store = store_of(ray_run)
    (revision,) = set(store.records("fits")["dataset_revision"])
    examples = store.examples("icwsm-tweets", revision).set_index("example_id")
    (tested,) = {
        frozenset(g) for _, g in store.predictions(store.ids("evaluations")).groupby("evaluation_id")["example_id"]
    }
    assert set(examples.loc[list(tested), "split"]) == {"test"}
    assert examples.loc[examples["split"] == "test"].index.isin(list(tested)).all()


def test_timed_labels_are_those_of_the_evaluated_model(ray_run):
    measurements = store_of(ray_run).records("measurements").set_index("model")
    assert list(measurements["agreement"]) == [1.0] * 3
    assert measurements.loc["MiniLM-L3", "form"] == "merged"
    assert set(measurements["isolation"]) == {"alone"}


def test_percentiles_follow_from_the_stored_samples(ray_run):
    store = store_of(ray_run)
    for row in store.records("measurements").to_dict("records"):
        samples = store.samples([row["measurement_id"]])
        assert len(samples) == row["num_requests"] == 100
        assert sorted(set(samples["process"])) == [0, 1]
        used = samples[samples["kept"]] if row["verdict"] == "clean" else samples
        ordered = np.sort(used["latency_s"])
        assert ordered[0] <= row["latency_p50_s"] <= ordered[-1]
        assert abs(np.searchsorted(ordered, row["latency_p50_s"]) - len(ordered) / 2) <= 1
        assert samples["cpu_s"].gt(0).any() and samples["run_delay_s"].notna().all()


def test_measurements_overlap_nothing(ray_run):
    store = store_of(ray_run)
    packed = [
        (row["started_at"], row["ended_at"])
        for kind in ("fits", "evaluations")
        for row in store.records(kind).to_dict("records")
    ]
    measurements = store.records("measurements").to_dict("records")
    turns = [(turn["started_at"], turn["ended_at"]) for row in measurements for turn in row["turns"]]
    assert len(turns) == 3 * 2, "three entries, two fresh processes each"
    for started, ended in turns:
        assert all(e <= started or s >= ended for s, e in [*packed, *turns] if (s, e) != (started, ended))
    for row in measurements:
        assert all(e <= row["started_at"] or s >= row["ended_at"] for s, e in packed)


def test_measurements_take_turns(ray_run):
    rows = store_of(ray_run).records("measurements").to_dict("records")
    order = sorted((turn["started_at"], row["model"]) for row in rows for turn in row["turns"])
    models = [model for _, model in order]
    assert models[:3] == models[3:] and len(set(models[:3])) == 3, "A, B, C, A, B, C"


def test_the_same_command_again_runs_nothing(ray_run, config):
    before = {p: p.stat().st_mtime_ns for p in (ray_run[0] / "results").rglob("*") if p.is_file()}
    done = moodbench("run", "small", "--config", config, cwd=ray_run[0])
    assert "0 phases to run, 9 done already and skipped" in done.stdout
    assert "Nothing left to do" in done.stdout
    assert {p: p.stat().st_mtime_ns for p in (ray_run[0] / "results").rglob("*") if p.is_file()} == before


def test_a_missing_record_is_made_again_and_nothing_else(ray_run, config, tmp_path):
    import shutil

    shutil.copytree(ray_run[0] / "results", tmp_path / "results")
    store = Store.open(tmp_path / "results")
    measurements = store.records("measurements").set_index("model")
    lost = measurements.loc["tfidf-logreg", "measurement_id"]
    (path,) = (tmp_path / "results" / "measurements").rglob(f"{lost}.parquet")
    path.unlink()
    done = moodbench("run", "small", "--config", config, "--executor", "inline", cwd=tmp_path)
    assert "1 phases to run, 8 done already" in done.stdout
    again = store.records("measurements").set_index("model")
    assert again.loc["tfidf-logreg", "measurement_id"] == lost
    assert len(again) == 3


def test_inline_gives_the_same_predictions_as_ray(ray_run, config, tmp_path):
    small = [
        "--max-train-examples",
        96,
        "--max-validation-examples",
        48,
        "--train",
        "epochs=1",
        "evaluations_per_epoch=1",
    ]
    models = ["--models", "tfidf-logreg", "MiniLM-L3", "MiniLM-L6-probe"]
    moodbench("train-all", "--dataset", "icwsm-tweets", *models, *small, "--executor", "inline", cwd=tmp_path)
    moodbench("evaluate", "--executor", "inline", cwd=tmp_path)
    by_ray, inline = store_of(ray_run), Store.open(tmp_path / "results")
    assert by_ray.ids("evaluations") == inline.ids("evaluations")
    for evaluation_id in by_ray.ids("evaluations"):
        a, b = (s.predictions([evaluation_id]).set_index("example_id").sort_index() for s in (by_ray, inline))
        np.testing.assert_array_equal(np.stack(a["logits"]), np.stack(b["logits"]))


RELOAD = """
import sys
from pathlib import Path
import numpy as np, pandas as pd
from moodbench.models.device import prepare_torch
from moodbench.models.predictor import load_predictor
from moodbench.models.predictor import predict_texts
from moodbench.spec import FitSpec
folder, texts, form, out = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
spec = FitSpec.model_validate_json((folder / "model.json").read_text())
prepare_torch(1)
rows = pd.read_parquet(texts)
logits, _ = predict_texts(load_predictor(spec, folder, form, "cpu"), rows["text"].tolist(), 32)
np.save(out, logits)
"""


@pytest.mark.parametrize(("form", "tolerance"), [("merged", 0.0), ("as_trained", 1e-5)])
def test_a_saved_adapter_reloads_to_the_same_logits_in_a_new_process(ray_run, tmp_path, form, tolerance):
    store = store_of(ray_run)
    fit = store.records("fits").set_index("model").loc["MiniLM-L3"]
    evaluation = store.records("evaluations").set_index("model").loc["MiniLM-L3"]
    stored = store.predictions([evaluation["evaluation_id"]])
    examples = store.examples("icwsm-tweets", fit["dataset_revision"]).set_index("example_id")
    examples.loc[stored["example_id"], ["text"]].to_parquet(tmp_path / "texts.parquet")
    command = [sys.executable, "-W", "ignore", "-c", RELOAD, str(store.artifact(fit["fit_id"]))]
    subprocess.run(
        [*command, str(tmp_path / "texts.parquet"), form, str(tmp_path / "logits.npy")], check=True, timeout=300
    )
    again = np.load(tmp_path / "logits.npy")
    assert np.abs(again - np.stack(stored["logits"])).max() <= tolerance


def test_the_artifact_explains_itself_and_holds_no_pickle(ray_run):
    store = store_of(ray_run)
    for fit_id in store.ids("fits"):
        folder = store.artifact(fit_id)
        assert FitSpec.model_validate_json((folder / "model.json").read_text()).fit_id == fit_id
        suffixes = {p.suffix for p in folder.rglob("*") if p.is_file()}
        assert not suffixes & {".pkl", ".pickle", ".joblib", ".bin", ".pt"}, suffixes


def test_csv_json_and_terminal_agree(ray_run):
    folder, first = ray_run
    again = json.loads(moodbench("leaderboard", "--json", cwd=folder).stdout)
    assert again == first
    csv = pd.read_csv(pd.io.common.StringIO(moodbench("leaderboard", "--csv", cwd=folder).stdout))
    assert csv["name"].tolist() == [row["name"] for row in first["board"]]
    assert csv["accuracy"].tolist() == [row["accuracy"] for row in first["board"]]
    shown = moodbench("leaderboard", cwd=folder).stdout
    assert all(f"{100 * row['accuracy']:.1f} [" in shown for row in first["board"])


def test_other_weights_change_the_order_by_their_sum(ray_run):
    folder, _ = ray_run
    rows = json.loads(moodbench("leaderboard", "--json", "--weights", "latency=1", cwd=folder).stdout)["board"]
    latency = {row["name"]: row["latency_p50_s"] for row in rows}
    provisional = {row["name"] for row in rows if row["provisional"]}
    ranked = [row["name"] for row in rows if row["rank"] is not None and row["name"] not in provisional]
    assert ranked == sorted(ranked, key=latency.__getitem__)


def test_compare_says_which_is_better_or_that_it_cannot_tell(ray_run):
    folder, _ = ray_run
    (found,) = json.loads(moodbench("compare", "MiniLM-L6-probe", "tfidf-logreg", "--json", cwd=folder).stdout)
    accuracy = {row["name"]: row["accuracy"] for row in ray_run[1]["board"]}
    assert found["delta"] == pytest.approx(accuracy["MiniLM-L6-probe"] - accuracy["tfidf-logreg"])
    assert (found["only_a"] - found["only_b"]) / 687 == pytest.approx(found["delta"])
    words = moodbench("compare", "MiniLM-L6-probe", "tfidf-logreg", cwd=folder).stdout
    assert ("is better than" in words) == (found["low"] > 0 or found["high"] < 0)


def test_a_failing_fit_is_a_record_and_the_others_go_on(tmp_path, config, checkpoint):
    overlay = tmp_path / "bad.yaml"
    broken = tmp_path / "weights"
    broken.mkdir()
    overlay.write_text(
        Path(config).read_text()
        + f"""models:
  broken:
    method: linear-probe
    family: bert
    source: {{path: {broken}}}
    licence: none
    description: weights that are not numbers
"""
    )
    for name, content in checkpoint.items():
        (broken / name).write_bytes(content)
    nothing = {name: np.full_like(tensor, np.nan) for name, tensor in load_file(broken / "model.safetensors").items()}
    save_file(nothing, broken / "model.safetensors", metadata={"format": "pt"})
    command = ["run", "--models", "broken", "--datasets", "icwsm-tweets", "--protocol", "short", "--config", overlay]
    done = moodbench(*command, "--max-train-examples", 96, "--executor", "inline", "--json", cwd=tmp_path, code=1)
    printed = json.loads(done.stdout)
    assert [row["name"] for row in printed["board"]] == ["tfidf-logreg"]
    assert [(f["model"], f["phase"]) for f in printed["failures"]] == [("broken", "fit")]
    failures = Store.open(tmp_path / "results").records("failures")
    assert "Traceback" in failures["traceback"][0]
