"""Fits that were not trained enough: on the leaderboard, in `compare`, and in what `run --retrain undertrained` does.

The two training texts of the toy store are two steps of an epoch, so that its fit of 2 epochs takes 4.
"""

import json
from argparse import Namespace
from datetime import UTC, datetime

import pandas as pd
import pytest
from board_records import BASELINE, OTHER, WORKED, board_of, row_of
from pydantic import ValidationError
from toy_store import change_row, toy_fit, write_toy_store, write_toy_trial

from moodbench.benchmark.driver import RunSummary
from moodbench.benchmark.from_store import retrained, undertrained
from moodbench.benchmark.resolve import resolve
from moodbench.cli import main
from moodbench.cli import run as run_command
from moodbench.cli.running import longer_command
from moodbench.config import load_catalogue
from moodbench.config.schema import TrainDefaults
from moodbench.hardware import hardware
from moodbench.report.formatting import marked
from moodbench.report.leaderboard_view import answer, view_leaderboard
from moodbench.report.tables import pair_cells, pair_sentence
from moodbench.spec import BenchmarkSpec
from moodbench.statistics.paired import paired_accuracy
from moodbench.store import Store
from moodbench.training.outcome import MAX_EPOCHS, longer

TRAIN = load_catalogue().training.train.model_copy(
    update={"epochs": 2.0, "min_steps": 0, "effective_batch_size": 1, "max_device_batch_size": 1}
)
FIELDS = ("epochs=2", "min_steps=0", "effective_batch_size=32")
REQUEST = BenchmarkSpec(
    models=("MiniLM-L3",), datasets=("icwsm-movie",), seeds=(0, 1), train=dict(pair.split("=") for pair in FIELDS)
)


@pytest.fixture(scope="module")
def trials():
    """Of MiniLM-L3 with two seeds, and of the baseline."""
    return resolve(REQUEST, load_catalogue(), hardware())


def fits_of(trials, *verdicts, num_steps=40, num_train=640, day=1):
    """Records of the gradient fits of `trials` with these verdicts."""
    gradient = [trial.fit for trial in trials if trial.fit.train is not None]
    return pd.DataFrame(
        [
            {"fit_id": fit.fit_id, "model": fit.model.name, "status": "ok", "spec": fit.model_dump_json(), "num_train": num_train,
             "num_steps": num_steps, "training_verdict": verdict, "ended_at": datetime(2026, 1, day, tzinfo=UTC)}
            for fit, verdict in zip(gradient, verdicts, strict=True)
        ]
    )  # fmt: skip


def test_a_fit_is_proposed_again_with_three_times_its_steps_within_the_limits_of_epochs():
    train = TRAIN.model_copy(update={"effective_batch_size": 32})
    assert longer(train, 640, 40).epochs == 6
    assert longer(train, 640, 10).epochs == 3, "one more at least"
    limited = longer(train.model_copy(update={"max_steps": 40}), 640, 40)
    assert (limited.epochs, limited.max_steps) == (6, 120)
    assert longer(train.model_copy(update={"epochs": 700.0}), 640, 14_000).epochs == MAX_EPOCHS
    assert longer(train.model_copy(update={"epochs": float(MAX_EPOCHS)}), 640, 20_000) is None
    TrainDefaults.model_validate(train.model_dump() | {"epochs": MAX_EPOCHS})
    with pytest.raises(ValidationError, match="less than or equal to 1000"):
        TrainDefaults.model_validate(train.model_dump() | {"epochs": MAX_EPOCHS + 1})


def test_all_seeds_of_a_model_with_a_short_fit_are_trained_longer(trials):
    (found,) = undertrained(trials, fits_of(trials, "ok", "undertrained"))
    assert (found.model, found.seeds, found.verdict, found.num_steps) == ("MiniLM-L3", (1,), "undertrained", 40)
    again = retrained(trials, [found])
    assert [(t.fit.model.name, t.fit.seeds.init) for t in again] == [("MiniLM-L3", 0), ("MiniLM-L3", 1)]
    assert {t.fit.train.epochs for t in again} == {found.suggested.epochs} and found.suggested.epochs > 2
    assert not {t.fit.fit_id for t in again} & {t.fit.fit_id for t in trials}
    assert all(t.fit == t.evaluate.fit == t.measure.fit for t in again)


def test_the_latest_fit_counts_whatever_its_epochs(trials):
    first = fits_of(trials, "chance", "undertrained")
    again = retrained(trials, undertrained(trials, first))
    later = fits_of(again, "ok", "ok", num_steps=120, day=2)
    assert undertrained(trials, pd.concat([first, later])) == []
    assert undertrained(trials, pd.concat([later, first])) == [], "in any order of the records"
    still = fits_of(again, "ok", "chance", num_steps=120, day=2)
    (found,) = undertrained(trials, pd.concat([first, still]))
    assert found.verdict == "chance" and found.suggested.epochs > again[0].fit.train.epochs


def test_epochs_that_are_asked_for_find_the_fit_with_a_floor_of_steps_and_keep_its_batch_size():
    few = REQUEST.model_copy(update={"max_train_examples": 64, "train": {"epochs": 2, "min_steps": 100}})
    floor = resolve(few, load_catalogue(), hardware())
    short = fits_of(floor, "undertrained", "ok", num_steps=100, num_train=64)
    asked = resolve(few.model_copy(update={"train": {"epochs": 6}}), load_catalogue(), hardware())
    assert {t.fit.train.min_steps for t in asked if t.fit.train} == {0}
    again = retrained(asked, undertrained(asked, short))
    assert {(t.fit.train.epochs, t.fit.train.min_steps) for t in again} == {(38, 100)}, "300 steps of 8 texts"


def test_verdicts_that_ask_for_nothing_and_other_recipes_propose_nothing(trials):
    assert undertrained(trials, fits_of(trials, "ok", "overfitted")) == []
    assert undertrained(trials, fits_of(trials, None, None)) == [], "an older store"
    other = resolve(
        REQUEST.model_copy(update={"train": {**REQUEST.train, "learning_rate": 1e-5}}), load_catalogue(), hardware()
    )
    assert undertrained(trials, fits_of(other, "chance", "chance")) == []
    assert undertrained([t for t in trials if t.fit.train is None], fits_of(trials, "chance", "ok")) == []


REST = {"config_id": "c", "status": "ok", "dataset_revision": "1", "num_train": 640, "spec": "{}"}
"""Columns that a record must have, beside those of `fits_of`."""


def committed(store, fits):
    for record in fits.to_dict("records"):
        with store.attempt() as attempt:
            attempt.commit("fits", record["fit_id"], REST | record | {"dataset": "icwsm-movie", "seed": 0}, {})


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["run", "--models", "MiniLM-L3", "--datasets", "icwsm-movie", "--seeds", "2", *arguments])
    return ended.value.code, *capsys.readouterr()


def test_run_trains_only_what_was_not_trained_enough_and_proposes_the_command(tmp_path, capsys, monkeypatch, trials):
    store = Store.open(tmp_path / "store")
    committed(store, fits_of(trials, "ok", "undertrained"))
    ran = []

    def carry_out(context, plan, *_):
        ran.extend(plan.requested)
        return RunSummary(run_id="")

    monkeypatch.setattr(run_command, "carry_out", carry_out)
    where = ("--train", *FIELDS, "--store", store.uri)
    code, words, _ = run(capsys, *where)
    assert code == 0 and len(ran) == 4, "the baseline too"
    command = f"moodbench run --datasets icwsm-movie --seeds 2 --train {' '.join(FIELDS)} --store {store.uri} --models MiniLM-L3 --retrain undertrained"
    assert (
        f"MiniLM-L3 on icwsm-movie: undertrained (40 steps, loss still falling); train longer (epochs 2 to 6): {command}"
        in words
    )

    ran.clear()
    code, words, _ = run(capsys, *where, "--retrain", "undertrained")
    assert code == 0 and [t.fit.model.name for t in ran] == ["MiniLM-L3"] * 2
    assert {t.fit.train.epochs for t in ran} == {6}
    assert "is trained again with epochs=6 instead of 2" in words

    _, out, said = run(capsys, *where, "--json")
    assert json.loads(out)["board"] == [], "one document, as of `leaderboard`; the command is on the other stream"
    assert "train longer" in said


def test_nothing_to_train_longer_is_said_and_is_no_error(tmp_path, capsys):
    for command in ("run", "train-all"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--models", "MiniLM-L3", "--datasets", "icwsm-movie", "--retrain", "undertrained",
                  "--store", str(tmp_path / "store")])  # fmt: skip
        assert ended.value.code == 0
        assert "nothing to train longer" in capsys.readouterr().out


def test_a_wrong_word_and_force_are_refused(tmp_path, capsys):
    code, _, error = run(capsys, "--retrain", "all")
    assert code == 2 and "choose from" in error and "undertrained" in error
    code, _, error = run(capsys, "--retrain", "undertrained", "--force", "--store", str(tmp_path))
    assert code == 2 and "leave one out" in error


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("run quickstart --json", "run quickstart --models MiniLM-L3 --retrain undertrained"),
        ("run --mod a b --datasets c --force", "run --datasets c --models MiniLM-L3 --retrain undertrained"),
        ("run x.yaml --models=a --retrain undertrained", "run x.yaml --models MiniLM-L3 --retrain undertrained"),
    ],
)
def test_the_command_is_the_one_given_for_that_model(trials, given, expected):
    (found,) = undertrained(trials, fits_of(trials, "ok", "chance"))
    assert longer_command(Namespace(argv=given.split(), retrain=None), found) == f"moodbench {expected}"


def test_train_is_proposed_with_its_epochs(trials):
    (found,) = undertrained(trials, fits_of(trials, "ok", "chance"))
    given = Namespace(
        argv=["train", "--model", "m", "--train", "epochs=2", "learning_rate=1e-3", "--seed", "1"],
        train=["epochs=2", "learning_rate=1e-3"],
    )
    assert longer_command(given, found) == "moodbench train --model m --seed 1 --train learning_rate=1e-3 epochs=6"


def test_a_row_has_the_worst_verdict_of_its_seeds_and_its_mark():
    short = WORKED | {"training_verdict": "undertrained", "num_steps": 38}
    board = board_of(BASELINE, short, OTHER | {"training_verdict": "ok", "num_steps": 50})
    assert marked(row_of(board, "mini")) == "mini (undertrained)"
    assert marked(row_of(board, "other")) == "other" and marked(row_of(board, "tfidf-logreg")) == "tfidf-logreg"
    assert row_of(board, "mini")["num_steps"] == 38 and pd.isna(row_of(board, "tfidf-logreg")["num_steps"])
    assert answer(board).endswith(
        "mini was not trained enough: a difference to it is a difference of recipes, not of models."
    )
    assert marked(row_of(board_of(BASELINE, WORKED | {"training_verdict": "chance"}), "mini")) == "mini (at chance)"
    plain = board_of(BASELINE, WORKED, OTHER)
    assert row_of(plain, "mini")["rank"] == row_of(board, "mini")["rank"], "ranks stay as they are"


def test_the_mean_over_data_sets_is_marked_as_its_worst_part():
    rows = [trial | {"dataset": name} for name in ("movie", "tweets") for trial in (BASELINE, WORKED)]
    rows[1]["training_verdict"], rows[3]["training_verdict"] = "ok", "undertrained"
    board = board_of(*rows)
    assert marked(row_of(board[board["dataset"] == "overall"], "mini")) == "mini (undertrained)"


@pytest.fixture
def short_store(tmp_path):
    """The toy of the toy store, and `short`, a gradient fit of 4 steps that was not trained enough."""
    store = write_toy_store(tmp_path / "store")
    fit = toy_fit(model="short").model_copy(update={"train": TRAIN})
    write_toy_trial(store, fit, "e1" + "1" * 18, "c1" + "1" * 18)
    pattern = f"fits/**/*{fit.fit_id}*.parquet"
    change_row(store, pattern, training_verdict="undertrained", num_steps=4)
    return store, pattern


def test_the_leaderboard_names_short_fits_and_says_what_to_do(short_store, capsys):
    store, pattern = short_store
    view = view_leaderboard(store, hardware())
    (note,) = [each for each in view.notes if each.startswith("Not trained enough")]
    assert note == (
        "Not trained enough: short on toy-set: undertrained (4 steps, loss still falling); train longer: moodbench run ... "
        "--models short --train epochs=6 --retrain undertrained. A lower rank or group of such an entry shows a difference "
        "of recipes, not of models."
    )
    with pytest.raises(SystemExit):
        main(["leaderboard", "--store", store.uri, "--json"])
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["board"]}
    assert (rows["short"]["training_verdict"], rows["short"]["num_steps"]) == ("undertrained", 4)
    assert (rows["toy"]["training_verdict"], rows["toy"]["num_steps"]) == (None, None)
    with pytest.raises(SystemExit):
        main(["leaderboard", "--store", store.uri])
    assert "short (undertrained)" in capsys.readouterr().out

    change_row(store, pattern, training_verdict="overfitted")
    notes = view_leaderboard(store, hardware()).notes
    assert any(note.startswith("Overfitted at the end: short on toy-set.") for note in notes)
    assert not any(note.startswith("Not trained enough") for note in notes)
    change_row(store, pattern, training_verdict="ok")
    assert not any("trained" in note and "short" in note for note in view_leaderboard(store, hardware()).notes)


def test_compare_names_a_difference_of_recipes(short_store, capsys):
    store, _ = short_store
    with pytest.raises(SystemExit):
        main(["compare", "toy", "short", "--store", store.uri])
    words = capsys.readouterr().out
    assert "short was not trained enough: this is a difference of recipes, not of models" in words
    with pytest.raises(SystemExit):
        main(["compare", "toy", "short", "--store", store.uri, "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert found["training_verdicts"] == {"a": None, "b": "undertrained"} and found["difference_of"] == "recipes"


def test_no_model_is_called_better_than_one_that_was_not_trained_enough():
    first, second = [1] * 900 + [0] * 100, [1] * 800 + [0] * 200
    apart = paired_accuracy(first, second)
    said = pair_sentence("a", "b", "movie", apart, undertrained=["b"])
    assert said.startswith(
        "movie: a as trained scores 10.0 points of accuracy above b as trained; b was not trained enough: this is a difference of "
        "recipes, not of models ("
    )
    assert "better" not in said and "a is better than b" in pair_sentence("a", "b", "movie", apart)
    turned = pair_sentence("b", "a", "movie", paired_accuracy(second, first), undertrained=["b", "a"])
    assert turned.startswith("movie: a as trained scores 10.0 points") and "b and a were not trained enough" in turned
    assert pair_cells([("a", "b", apart)], ["b"])[0][-1] == "significant (recipes, not models)"
    assert pair_cells([("a", "b", apart)])[0][-1] == "significant"
