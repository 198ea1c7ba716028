"""`moodbench run` on models and datasets of the hub, from download to board, and filling the caches beforehand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import hub_data
from hub_server import HubServer
from tiny_models import rows

from moodbench.models.hub import BOT, TITLE

pytestmark = pytest.mark.integration
FETCH = """
from moodbench.config import load_catalogue
from moodbench.data.loader import fetch_dataset
print(fetch_dataset("sst2", load_catalogue().dataset("sst2")))
"""


def environment(folder, hub, **more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "PYTHONDONTWRITE"))}
    caches = {"HF_HOME": str(folder / "hf"), "MOODBENCH_CACHE": str(folder / "cache"), "HF_HUB_DISABLE_XET": "1"}
    return kept | caches | {"HF_ENDPOINT": hub.url} | more


def run(arguments, folder, env):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=590
    )


LEARNED = ("learning_rate=1e-2", "epochs=5", "effective_batch_size=16", "base_dropout=0")
"""Tiny random weights learn in seconds with these."""


def learnable(sizes, *, text, label, config="default"):
    """Files of a repository whose texts hold `good` or `bad`, that being the label."""
    files = {"README.md": hub_data.card(config, sizes, label, ("negative", "positive"), (text,))}
    for seed, (split, count) in enumerate(sizes.items()):
        made = rows(count, seed).sort_values("label")
        columns = {text: made["text"].tolist(), label: [-1] * count if split == "hidden" else made["label"].tolist()}
        files[f"{config}/{split}-00000-of-00001.parquet"] = hub_data.parquet(**columns)
    return files


def fit_specs(store):
    """Model -> the fit spec in the store."""
    fits = [pq.read_table(path).to_pylist()[0] for path in store.glob("fits/**/*.parquet")]
    return {fit["model"]: json.loads(fit["spec"]) for fit in fits}


def test_bert_tiny_on_sst2_goes_from_the_hub_to_the_board(tmp_path, config, checkpoint):
    with HubServer() as hub:
        pickles = {k: v for k, v in checkpoint.items() if k != "model.safetensors"} | {"pytorch_model.bin": b"pickle"}
        converted = pickles | {"model.safetensors": checkpoint["model.safetensors"]}
        proposal = {"num": 1, "title": TITLE, "author": BOT}
        repository = hub.add(
            "model", "prajjwal1/bert-tiny", pickles, refs={"refs/pr/1": converted}, discussions=[proposal]
        )
        weights = repository.at("refs/pr/1").commit
        texts = hub.add(
            "dataset", "stanfordnlp/sst2", learnable({"train": 400, "validation": 100}, text="sentence", label="label")
        ).commit
        command = ["-m", "moodbench", "run", "--models", "BERT-tiny", "--dataset", "sst2", "--protocol", "short", "--config",
                   str(config), "--executor", "inline", "--json", "--train", *LEARNED]  # fmt: skip
        done = run(command, tmp_path, environment(tmp_path, hub))
        assert done.returncode == 0, done.stderr
        assert "BERT-tiny: weights are refs/pr/1 of prajjwal1/bert-tiny, safetensors that" in done.stderr
        asked = {path for _, path in hub.requests}
    assert f"/prajjwal1/bert-tiny/resolve/{weights}/model.safetensors" in asked
    assert any(path.startswith(f"/datasets/stanfordnlp/sst2/resolve/{texts}/default/train") for path in asked)
    board = {row["model"]: row for row in json.loads(done.stdout)["board"]}
    assert set(board) == {"BERT-tiny", "tfidf-logreg"}
    row = board["BERT-tiny"]
    assert row["num_test"] > 90 and row["accuracy"] > 0.7 and row["latency_p50_s"] > 0 and row["memory_peak_bytes"] > 0
    spec = fit_specs(tmp_path / "results")["BERT-tiny"]
    assert (spec["model"]["source"]["hub"], spec["model"]["revision"]) == ("prajjwal1/bert-tiny", weights)
    assert spec["dataset"]["hub"]["revision"] == texts


PUBLISHED = """
published:
  BERT-tiny:
  - {dataset: sst2, split: dev, accuracy: 60, method: full fine-tuning, source: a first paper}
  - {dataset: sst2, split: dev, accuracy: 100, method: full fine-tuning, source: a second paper}
"""


def test_a_check_of_a_recipe_trains_and_evaluates_once_and_measures_nothing(tmp_path, checkpoint):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(PUBLISHED)
    with HubServer() as hub:
        hub.add("model", "prajjwal1/bert-tiny", checkpoint)
        hub.add(
            "dataset", "stanfordnlp/sst2", learnable({"train": 300, "validation": 100}, text="sentence", label="label")
        )
        command = ["-m", "moodbench", "recipes", "check", "BERT-tiny", "--config", str(overlay), "--seeds", "2",
                   "--executor", "inline", "--max-train-examples", "64", "--train", "min_steps=0", "max_steps=4"]  # fmt: skip
        done = run([*command, "--json"], tmp_path, environment(tmp_path, hub))
        assert done.returncode == 0, done.stderr
        again = run(command, tmp_path, environment(tmp_path, hub))
        assert again.returncode == 0, again.stderr
    document = json.loads(done.stdout)
    assert (document["model"], document["recipe"]) == ("BERT-tiny", "tiny-encoder")
    first, second, packaged = document["results"]
    assert [row["source"] for row in (first, second)] == ["a first paper", "a second paper"]
    for row in (first, second):
        assert (row["published_split"], row["seeds"], row["num_train"]) == ("dev", [0, 1], 64)
        assert row["interval_method"] == "two-way items x seeds" and row["accuracy_low"] < row["accuracy_high"]
        assert row["difference_points"] == round(100 * row["accuracy"] - 100 * row["published_accuracy"], 6)
        assert row["notes"] == ["sst2: ours is trained on 64 of 67,349 texts"]
    assert not second["as_published"] and second["advice"][0].startswith("all training texts")
    assert (
        packaged["published_split"] == "GLUE test" and "are hidden; ours is on the validation" in packaged["notes"][0]
    )
    folders = {path.parts[len(tmp_path.parts) + 1] for path in (tmp_path / "results").glob("**/*.parquet")}
    assert {"fits", "evaluations"} <= folders and "measurements" not in folders
    assert {spec["model"]["name"] for spec in fit_specs(tmp_path / "results").values()} == {"BERT-tiny"}
    assert "Nothing left to do." in again.stdout
    assert f"BERT-tiny on sst2: {second['verdict']}: try all training texts" in " ".join(again.stdout.split())


def test_any_data_set_of_the_hub_runs_by_id_and_columns(tmp_path, config):
    with HubServer() as hub:
        files = learnable({"learn": 300, "check": 80}, text="body", label="mood", config="shops")
        commit = hub.add("dataset", "shop/reviews", files).commit
        data = ["--data", "hub:shop/reviews", "--text-column", "body", "--label-column", "mood", "--data-config", "shops",
                "--label-map", "negative=bad,positive=good", "--splits", "train=learn,test=check"]  # fmt: skip
        env = environment(tmp_path, hub)
        wrong = run(["-m", "moodbench", "run", "--models", "vader", *data, "--label-column", "moood"], tmp_path, env)
        assert wrong.returncode == 2 and "Traceback" not in wrong.stderr
        told = "no label column 'moood': did you mean 'mood'? its columns are body, mood"
        assert told in " ".join(wrong.stderr.split())
        assert not (tmp_path / "results").exists()
        fetched = run(["-m", "moodbench", "catalogue", "fetch", *data], tmp_path, env)
        assert f"dataset reviews: shop/reviews (shops) at {commit[:12]}" in " ".join(fetched.stdout.split())
        command = ["-m", "moodbench", "run", "--models", "vader", *data, "--protocol", "short", "--config", str(config),
                   "--executor", "inline", "--json"]  # fmt: skip
        done = run(command, tmp_path, env | {"HF_HUB_OFFLINE": "1"})
        assert done.returncode == 0, done.stderr
    board = {row["model"]: row for row in json.loads(done.stdout)["board"]}
    assert {row["dataset"] for row in board.values()} == {"reviews"}
    assert board["tfidf-logreg"]["accuracy"] > 0.9, "one of two words tells the class"
    spec = fit_specs(tmp_path / "results")["vader"]
    assert spec["dataset"]["labels"] == ["bad", "good"] and spec["dataset"]["hub"]["revision"] == commit


def test_a_run_on_sst2_fetched_before_ends_with_a_board_without_a_network(tmp_path, config):
    with HubServer() as hub:
        repository, files = hub_data.REPOSITORIES["sst2"]
        commit = hub.add("dataset", repository, files()).commit
        fetched = run(["-c", FETCH], tmp_path, environment(tmp_path, hub))
        assert fetched.stdout == (
            f"dataset sst2: stanfordnlp/sst2 (default) at {commit[:12]}, Hugging Face hub; 350 train, 50 validation, 60 test "
            "texts\n"
        ), fetched.stderr
        asked = len(hub.requests)
        arguments = ["run", "--models", "vader", "tfidf-logreg", "--dataset", "sst2", "--protocol", "short", "--config",
                     str(config), "--executor", "inline", "--json"]  # fmt: skip
        done = run(["-m", "moodbench", *arguments], tmp_path, environment(tmp_path, hub, HF_HUB_OFFLINE="1"))
        assert done.returncode == 0, done.stderr
        assert len(hub.requests) == asked
    (track,) = json.loads(done.stdout)["tracks"] if "tracks" in json.loads(done.stdout) else [json.loads(done.stdout)]
    assert "licence: not stated (card says unknown)" in done.stderr and f"at {commit[:12]}" in done.stderr
    store = tmp_path / "results"
    (examples,) = store.glob("examples/*/*.parquet")
    table = pq.read_table(examples)
    assert table.num_rows == 460 and not any(table["private"].to_pylist())
    fits = [pq.read_table(path).to_pylist()[0] for path in store.glob("fits/**/*.parquet")]
    assert {fit["model"] for fit in fits} == {"vader", "tfidf-logreg"}
    assert all(json.loads(fit["spec"])["dataset"]["hub"]["revision"] == commit for fit in fits)
    assert track
