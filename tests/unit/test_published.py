"""Published results: what the catalogue has, what a user adds, how ours is compared, and the list of recipes."""

import json
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from toy_store import toy_fit, write_toy_trial

from moodbench.benchmark.published import Comparison, Reached, _notes, compare_published
from moodbench.benchmark.resolve import trial_of
from moodbench.cli import main
from moodbench.cli.recipes import recipe_rows
from moodbench.config import load_catalogue
from moodbench.config.schema import PublishedResult
from moodbench.hardware import Hardware
from moodbench.spec import BenchmarkSpec
from moodbench.statistics.intervals import Interval
from moodbench.store import Store

CATALOGUE = load_catalogue()
ROWS = [(model, row) for model, rows in CATALOGUE.published.items() for row in rows]
SPLITS = {"dev", "test", "GLUE test", "test[:1000]"}


def result(accuracy=90.0, dataset="sst2", split="dev"):
    return PublishedResult(dataset=dataset, split=split, accuracy=accuracy, method="full fine-tuning", source="a paper")


def reached(accuracy=0.9, low=0.88, high=0.92, num_train=65_000):
    return Reached(accuracy, Interval(accuracy, low, high, 0.95, "wilson", "checkpoint", 872), (0,), num_train, 872)


def test_every_packaged_result_is_of_a_model_and_a_data_set_here_and_names_its_source():
    assert len(ROWS) > 30
    for model, row in ROWS:
        assert CATALOGUE.models[model].method == "lora" and row.dataset in CATALOGUE.datasets
        assert 50 <= row.accuracy <= 100 and row.split in SPLITS
        assert (
            "README" in row.source or "arXiv:" in row.source or "model card" in row.source or "model list" in row.source
        )
    assert len({(model, row) for model, row in ROWS}) == len(ROWS)


def test_two_results_are_as_their_papers_have_them():
    lora = next(row for row in CATALOGUE.published["RoBERTa-base"] if "LoRA" in row.method)
    assert (lora.accuracy, lora.dataset, lora.split) == (95.1, "sst2", "dev")
    tiny = {(row.split, row.accuracy) for row in CATALOGUE.published["BERT-tiny"]}
    assert tiny == {("GLUE test", 83.2)}


@pytest.mark.parametrize("form", ["one file", "a folder"])
def test_an_overlay_adds_results_to_those_of_a_model_and_of_others(tmp_path, form):
    row = {"dataset": "imdb", "split": "test", "accuracy": 80, "method": "mine", "source": "me"}
    path = tmp_path / "published.yaml"
    path.write_text(yaml.safe_dump({"published": {"BERT-tiny": [row], "MiniLM-L6": [row]}}))
    mine = load_catalogue(path if form == "one file" else tmp_path)
    assert [r.method for r in mine.published["BERT-tiny"]] == ["mine", "full fine-tuning"]
    assert [r.accuracy for r in mine.published["MiniLM-L6"]] == [80]
    assert mine.published["BERT-base"] == CATALOGUE.published["BERT-base"]
    assert load_catalogue().published == CATALOGUE.published


@pytest.mark.parametrize(
    ("published", "ours", "verdict"),
    [
        (90.0, reached(0.9), "as published"),
        (92.0, reached(0.9, high=0.92), "as published"),  # at the end of the interval
        (91.0, reached(0.9, high=0.905), "as published"),  # above it, and 1 point above ours
        (91.1, reached(0.9, high=0.905), "1.1 points below"),
        (80.0, reached(0.9, low=0.88), "as published"),  # ours is better
        (90.0, None, "not evaluated"),
    ],
)
def test_ours_is_as_published_within_the_interval_or_a_point_below(published, ours, verdict):
    assert Comparison("m", result(published), ours, ()).verdict == verdict


@pytest.mark.parametrize(
    ("dataset", "split", "num_train", "parts"),
    [
        ("sst2", "dev", 65_349, []),
        ("sst2", "validation", 65_349, []),
        ("sst2", "GLUE test", 65_349, ["labels of the GLUE test split are hidden; ours is on the validation split"]),
        ("sst2", "dev", 5000, ["ours is trained on 5,000 of 67,349 texts"]),
        ("imdb", "test", 22_500, []),
        ("imdb", "test[:1000]", 22_500, ["published on test[:1000], ours on test"]),
        ("yelp", "test", 20_000, ["10,000 texts drawn from the test split", "trained on 20,000 of 560,000 texts"]),
    ],
)
def test_notes_say_where_texts_differ(dataset, split, num_train, parts):
    notes = _notes(result(dataset=dataset, split=split), CATALOGUE.dataset(dataset), reached(num_train=num_train))
    assert len(notes) == len(parts) and all(part in note for part, note in zip(parts, notes, strict=True))


def test_what_a_store_holds_of_two_seeds_is_compared_with_an_interval_for_the_recipe(tmp_path):
    store = Store.open(tmp_path / "store")
    machine = Hardware(cpu="Toy CPU", num_cores=2, memory_bytes=8 * 2**30, gpus=(), mps=False)
    trials = [trial_of(toy_fit(seed=seed), "cpu", machine, CATALOGUE.protocol(), 32) for seed in (0, 1)]
    for number, trial in enumerate(trials):
        write_toy_trial(store, trial.fit, trial.evaluate.evaluation_id, f"c{number}" + "0" * 18)
    file = {"path": "toy.csv", "text_column": "text", "label_column": "label"}
    row = {"split": "test", "accuracy": 99.5, "method": "full", "source": "me", "dataset": "toy-set"}
    model = {"method": "lora", "licence": "MIT", "description": "toy", "family": "bert", "source": {"path": "/x"}}
    overlay = {"models": {"toy": model}, "datasets": {"toy-set": {"file": file}}, "published": {"toy": [row]}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(overlay))
    spec = BenchmarkSpec(models=("toy",), datasets=("toy-set",), seeds=2)
    (found,) = compare_published(trials, store, load_catalogue(tmp_path / "mine.yaml"), spec)
    # 6 of 8 texts are right with both seeds: the interval is that of the 8 texts, t(7) sqrt(0.75 x 0.25 / 7).
    assert (found.reached.accuracy, found.reached.seeds, found.reached.num_test) == (0.75, (0, 1), 8)
    assert found.reached.interval.method == "two-way items x seeds"
    assert found.reached.interval.low == pytest.approx(0.75 - 2.3646 * (0.75 * 0.25 / 7) ** 0.5, abs=1e-4)
    assert found.reached.interval.high == 1.0
    assert (found.difference_points, found.as_published, found.advice) == (-24.5, True, ())
    assert json.loads(json.dumps(found.to_record()))["published_accuracy"] == 0.995


def test_a_result_that_is_missed_comes_with_what_to_try():
    made = Comparison("m", result(99.0), reached(), (), ("--train epochs=6",)).to_record()
    assert (made["as_published"], made["difference_points"], made["advice"]) == (False, -9.0, ["--train epochs=6"])


def test_the_list_of_recipes_names_each_fine_tuned_model_of_the_catalogue_once(capsys):
    rows = recipe_rows(CATALOGUE)
    assert [row["name"] for row in rows] == list(CATALOGUE.training.recipes)
    named = [model for row in rows for model in row["models"]]
    assert sorted(named) == sorted(name for name, entry in CATALOGUE.models.items() if entry.method == "lora")
    own = {model: row["name"] for row in rows for model in row["models"]}
    assert (own["BERT-tiny"], own["BERT-base"], own["Phi-3-mini"]) == ("tiny-encoder", "encoder", "decoder")
    assert own["SmolLM2-135M-embedded-head"] == "small-decoder-head"
    for arguments in (["recipes", "--json"], ["recipes", "list", "--json"], ["recipes", "--json", "list"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert json.loads(capsys.readouterr().out) == rows
    with pytest.raises(SystemExit):
        main(["recipes"])
    assert "small-encoder" in (shown := capsys.readouterr().out) and "train.learning_rate=0.001" in shown


def test_the_packaged_file_is_where_the_catalogue_reads_it():
    assert Path(str(files("moodbench.config"))).joinpath("published.yaml").exists()
