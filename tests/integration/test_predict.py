"""The winner put to use: predictions equal the evaluated ones, and an export is loaded by transformers alone."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from command_line import moodbench as command
from scipy.special import softmax

import moodbench
from moodbench.errors import UnknownNameError
from moodbench.store import Store

pytestmark = pytest.mark.integration
MODELS = ["MiniLM-L3", "MiniLM-L6-probe", "tfidf-logreg"]


@pytest.fixture(scope="module")
def results(ray_run):
    return ray_run[0] / "results"


def evaluated(store: Store, model: str) -> pd.DataFrame:
    """The test texts of a model's only fit with the stored logits."""
    evaluation = store.records("evaluations").set_index("model").loc[model]
    fit = store.records("fits").set_index("model").loc[model]
    predictions = store.predictions([evaluation["evaluation_id"]])
    examples = store.examples("icwsm-tweets", fit["dataset_revision"])[["example_id", "text"]]
    return predictions.merge(examples, on="example_id", validate="one_to_one")


@pytest.mark.parametrize("model", MODELS)
def test_predictions_of_the_test_texts_are_the_evaluated_ones(results, model):
    stored = evaluated(Store.open(results), model)
    made = moodbench.load_predictor(model, store=results).predict(stored["text"].tolist())
    assert [("negative", "positive").index(p.label) for p in made] == stored["predicted"].tolist()
    again = np.array([list(p.probabilities.values()) for p in made])
    np.testing.assert_allclose(again, softmax(np.stack(stored["logits"]).astype(float), axis=1), atol=1e-5)
    assert [p.truncated for p in made] == stored["truncated"].tolist()


@pytest.mark.parametrize("model", MODELS)
def test_empty_and_very_long_texts_are_texts_like_any_other(results, model):
    long = "the film was wonderful " * 4348  # just over 100,000 characters
    one, two, three = moodbench.load_predictor(model, store=results).predict(["", long[:100_000], "   \n "])
    for made in (one, two, three):
        assert sum(made.probabilities.values()) == pytest.approx(1) and made.probability >= 0.5
    assert (one.truncated, two.truncated, three.truncated) == (False, model != "tfidf-logreg", False)


def test_a_pipe_and_a_csv_file_give_the_same_labels_in_the_same_order(ray_run, results, tmp_path):
    stored = evaluated(Store.open(results), "MiniLM-L3").head(300)
    texts = stored["text"].str.replace("\n", " ")
    asked = [sys.executable, "-m", "moodbench", "predict", "--model", "MiniLM-L3", "--input", "-"]
    given = "\n".join(texts).encode()
    piped = subprocess.run(asked, input=given, capture_output=True, cwd=ray_run[0], timeout=300, check=False)
    assert piped.returncode == 0, piped.stderr.decode()
    rows = [json.loads(line) for line in piped.stdout.decode().splitlines()]
    assert [row["index"] for row in rows] == list(range(300))
    assert all(set(row) == {"index", "label", "probability", "truncated"} for row in rows)
    assert b"MiniLM-L3, fit " in piped.stderr

    pd.DataFrame({"id": range(300), "review": texts}).to_csv(tmp_path / "in.csv", index=False)
    asked = ["--text-column", "review", "--output", tmp_path / "out.csv", "--probabilities", "all", "--batch-size", 7]
    command("predict", "--model", "MiniLM-L3", "--input", tmp_path / "in.csv", *asked, cwd=ray_run[0])
    frame = pd.read_csv(tmp_path / "out.csv")
    assert frame["label"].tolist() == [row["label"] for row in rows]
    np.testing.assert_allclose(frame["probability"], [row["probability"] for row in rows], atol=1e-5)
    both = frame[["probability_negative", "probability_positive"]]
    np.testing.assert_allclose(both.sum(axis=1), 1)
    np.testing.assert_allclose(both.max(axis=1), frame["probability"])


PIPELINE = """
import json, sys
assert not any(m.split(".")[0] in ("moodbench", "peft") for m in sys.modules)
from transformers import pipeline
classify = pipeline("text-classification", sys.argv[1], device="cpu")
texts = json.load(open(sys.argv[2]))
raw = classify(texts, truncation=True, top_k=None, function_to_apply="none")
best = classify(texts[-3:], truncation=True)
logits = [{row["label"]: row["score"] for row in rows} for rows in raw]
told = {"logits": logits, "best": best, "moodbench": "moodbench" in sys.modules, "peft": "peft" in sys.modules}
json.dump(told, open(sys.argv[3], "w"))
"""


@pytest.fixture(scope="module")
def exported(ray_run, tmp_path_factory):
    """The folder that `export-model` wrote."""
    folder = tmp_path_factory.mktemp("export") / "below" / "model"
    done = command("export-model", "MiniLM-L3", folder, cwd=ray_run[0])
    assert "its figures are in README.md" in done.stdout
    return folder


def test_an_exported_model_gives_equal_logits_in_a_transformers_pipeline(results, exported, tmp_path):
    stored = evaluated(Store.open(results), "MiniLM-L3").head(60)  # a pipeline takes them one by one
    long = "dull and " * 2000
    texts = [*stored["text"], "", long]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    elsewhere = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-I", "-c", PIPELINE, str(exported), str(tmp_path / "texts.json"), str(tmp_path / "told.json")],
        check=True, timeout=300, cwd=tmp_path, env=elsewhere,
    )  # fmt: skip
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["moodbench"] is False
    logits = np.array([[row["negative"], row["positive"]] for row in told["logits"]])
    np.testing.assert_allclose(logits[:-2], np.stack(stored["logits"]), atol=1e-5)
    ours = moodbench.load_predictor("MiniLM-L3", store=results).predict(texts)
    assert [best["label"] for best in told["best"]] == [p.label for p in ours[-3:]]
    np.testing.assert_allclose([b["score"] for b in told["best"]], [p.probability for p in ours[-3:]], atol=1e-5)


def test_an_export_holds_plain_files_and_nothing_of_this_machine(exported):
    names = {p.name for p in exported.iterdir()}
    assert names >= {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert not {p.suffix for p in exported.iterdir()} - {".md", ".json", ".safetensors", ".txt", ".jinja"}
    config = json.loads((exported / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"} and config["num_hidden_layers"] == 3
    for path in exported.glob("*.json"):
        assert "site-packages" not in path.read_text(), path.name
    assert [p.name for p in exported.parent.iterdir()] == ["model"], "no temporary neighbour is left"


def test_the_card_holds_the_boards_own_figures(ray_run, exported):
    card = (exported / "README.md").read_text()
    (row,) = (r for r in ray_run[1]["board"] if r["name"] == "MiniLM-L3")
    assert card.startswith("---\nlibrary_name: transformers\n")
    for figure in (
        f"{100 * row['accuracy']:.1f}; 95 % interval {100 * row['accuracy_low']:.1f} to {100 * row['accuracy_high']:.1f}",
        f"| F1, averaged over classes, % | {100 * row['f1_macro']:.1f} |",
        f"| Most memory of the process, one text at a time, MiB | {row['memory_peak_batch1_bytes'] / 2**20:,.0f} |",
        "| 99th percentile, ms | withheld: too few requests |",
        f"| Device | {row['device_name']}, ",
        "| Training texts | 96 |",
        "| Test texts | 687, never trained on |",
        "| Dataset's licence | MIT |",
        "Hutto & Gilbert (2014)",
        'license: "apache-2.0"',
        "- Its encoder was trained for sentence similarity, not for sentiment.",
        "- One seed:",
        "- Speed was measured with a quick protocol",
        row["fit_ids"][0],
    ):
        assert figure in card, figure
    milliseconds = float(card.split("| Median time to label of one text, ms | ")[1].split(" |")[0])
    assert milliseconds == pytest.approx(1000 * row["latency_p50_s"], rel=0.01)
    assert "nan" not in card.lower().replace("finance", "") and "None" not in card


def test_the_snippet_of_the_card_is_what_the_pipeline_accepts(exported):
    card = (exported / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace("PATH/TO/THIS/FOLDER", str(exported))
    done = subprocess.run(
        [sys.executable, "-c", code + "\nprint(len(_ := classify(['x'])))"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1"


def test_a_card_without_measurement_says_so(results, tmp_path):
    shutil.copytree(results, tmp_path / "results")
    shutil.rmtree(tmp_path / "results" / "measurements")
    shutil.rmtree(tmp_path / "results" / "evaluations")
    command("export-model", "MiniLM-L3", tmp_path / "model", "--store", tmp_path / "results", cwd=tmp_path)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "Not measured: the store holds no evaluation of this fit." in card
    assert "Not measured: the store holds no measurement of this fit." in card


def test_a_linear_probe_is_not_exported_and_the_way_out_is_told(ray_run, tmp_path):
    done = command("export-model", "MiniLM-L6-probe", tmp_path / "model", cwd=ray_run[0], code=2)
    assert "is a linear layer on mean-pooled, normalised embeddings" in done.stderr
    assert "moodbench predict --model" in done.stderr
    assert not (tmp_path / "model").exists()


def test_the_board_from_python_is_the_board_of_the_command(ray_run, results):
    board = moodbench.leaderboard(store=results)
    assert json.loads(board.to_json(orient="records", double_precision=15)) == ray_run[1]["board"]
    assert board.attrs["notes"] == ray_run[1]["notes"]
    by_latency = moodbench.leaderboard(store=results, weights={"latency": 1})
    assert sorted(by_latency["name"]) == MODELS
    with pytest.raises(UnknownNameError):
        moodbench.leaderboard(store=results, weights={"speed": 1.0})


def test_a_run_from_python_commits_what_is_missing_and_nothing_again(tmp_path, config):
    asked = {"store": tmp_path / "results", "config": config, "executor": "inline", "protocol": "short", "seeds": 1}
    heard = []
    first = moodbench.run("majority", "icwsm-tweets", max_train_examples=96, listen=heard.append, **asked)
    assert (first.num_committed, first.failures) == (6, []), "the baseline of the score is added: two trials"
    assert heard[0]["event"] == "run_started" and heard[-1]["event"] == "run_ended"
    again = moodbench.run(["majority"], ["icwsm-tweets"], max_train_examples=96, **asked)
    assert again.num_committed == 0
    assert sorted(moodbench.leaderboard(store=tmp_path / "results")["name"]) == ["majority", "tfidf-logreg"]
    assert moodbench.load_predictor("majority", tmp_path / "results").predict([""])[0].probability >= 0.5
