"""train, train-all, evaluate, benchmark: parts of a run by themselves, through the same records."""

import json
import re

import pytest
from command_line import SHORT, moodbench

from moodbench.store import Store

pytestmark = pytest.mark.integration
DATA = ["--dataset", "icwsm-tweets"]
INLINE = ["--executor", "inline"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the tests below work one after the other, as a person does."""
    made = tmp_path_factory.mktemp("commands")
    (made / "short.yaml").write_text(SHORT)
    return made


def counts(folder):
    store = Store.open(folder / "results")
    return tuple(len(store.ids(kind)) for kind in ("fits", "evaluations", "measurements"))


def entries(shown):
    """The names in the rows of a printed board; people's rows begin with `ref` instead of a rank."""
    return re.findall(r"^ +(?:\d\S*|—)  (\S+)  ", shown, flags=re.MULTILINE)


def test_the_parts_of_a_run_make_the_records_of_the_run(folder):
    measure = ["--protocol", "short", "--config", "short.yaml", *INLINE]
    fitted = json.loads(moodbench("train", "--model", "tfidf-logreg", *DATA, *INLINE, "--json", cwd=folder).stdout)
    assert counts(folder) == (1, 0, 0)
    (fit,) = fitted["fits"]
    assert fit["fit_id"] in Store.open(folder / "results").ids("fits")
    assert (fit["model"], fit["dataset"], fit["seed"]) == ("tfidf-logreg", "icwsm-tweets", 0)

    until_fit = ["run", "--until", "fit", *DATA, "--models", "majority", "vader", "--device", "cpu", *INLINE]
    done = moodbench(*until_fit, cwd=folder)
    assert "tfidf-logreg is added" in done.stdout and "2 phases to run, 1 done already" in done.stdout
    assert re.search(r"^ Fit +Model +Dataset", done.stdout, flags=re.MULTILINE), "fits and no leaderboard"
    assert counts(folder) == (3, 0, 0)

    moodbench("evaluate", fit["fit_id"], *INLINE, cwd=folder)
    assert counts(folder) == (3, 1, 0)
    shown = moodbench("evaluate", "--models", "vader", *DATA, *INLINE, cwd=folder).stdout
    assert counts(folder) == (3, 2, 0)
    assert sorted(entries(shown)) == ["tfidf-logreg", "vader"], "majority is not evaluated yet"

    done = moodbench("benchmark", "vader", "majority", *measure, cwd=folder)
    assert counts(folder) == (3, 3, 2), "what has no predictions is evaluated before it is measured"
    scored = moodbench("run", "--until", "evaluate", "--models", "majority", *DATA, *INLINE, "--json", cwd=folder)
    assert "0 phases to run, 4 done already" in scored.stderr and len(json.loads(scored.stdout)["board"]) == 3
    rest = moodbench("run", "--models", "majority", "vader", *DATA, *measure, "--json", cwd=folder)
    assert "1 phases to run, 8 done already" in rest.stderr
    assert counts(folder) == (3, 3, 3)
    assert len(json.loads(rest.stdout)["board"]) == 3
    for command in (["evaluate", *INLINE], ["benchmark", *measure]):
        again = moodbench(*command, "--json", cwd=folder)
        assert re.search(r"0 phases to run, [69] done already and skipped\nNothing left to do", again.stderr)
    moodbench("store", "verify", cwd=folder)


def test_hyper_parameters_from_the_command_line_are_in_the_record(folder):
    options = ["--max-train-examples", "64", "--max-validation-examples", "32", *INLINE, "--json"]
    fields = ["--lora", "r=2", "lora_alpha=6", "--train", "epochs=1", "learning_rate=3e-3"]
    command = ["train", "--model", "MiniLM-L3", *DATA, "--seed", "7", *fields, *options]
    (fit,) = json.loads(moodbench(*command, cwd=folder).stdout)["fits"]
    record = Store.open(folder / "results").record("fits", fit["fit_id"])
    hparams = json.loads(record["hparams"])
    assert (hparams["lora"]["r"], hparams["lora"]["lora_alpha"], hparams["train"]["learning_rate"]) == (2, 6.0, 3e-3)
    assert (record["seed"], record["num_train"]) == (7, 64)
    # 384 wide, 3 layers: 4 attention projections and 2 feed-forward layers of rank 2, a head of 384 x 2 + 2, all trained
    assert record["num_trainable"] == 3 * 2 * (4 * (384 + 384) + 2 * (384 + 1536)) + 384 * 2 + 2
    assert "1 done already and skipped" in moodbench(*command, cwd=folder).stderr


def test_a_spec_file_is_planned_then_run_and_then_nothing_is_left_of_its_plan(tmp_path):
    (tmp_path / "short.yaml").write_text(SHORT)
    (tmp_path / "spec.yaml").write_text(
        "models: [majority, vader]\ndatasets: [icwsm-tweets]\nseeds: [0]\nprotocol: short\n"
    )

    def done():
        (here,) = json.loads(moodbench("plan", "spec.yaml", "--config", "short.yaml", "--json", cwd=tmp_path).stdout)[
            "classes"
        ]
        return {trial["model"]: sorted(trial["done"]) for trial in here["trials"]}

    # The baseline, which every run trains, comes on top of the two of the file.
    assert done() == {"tfidf-logreg": [], "majority": [], "vader": []}
    assert not (tmp_path / "results").exists(), "a plan writes nothing"
    board = json.loads(moodbench("run", "spec.yaml", "--config", "short.yaml", *INLINE, "--json", cwd=tmp_path).stdout)[
        "board"
    ]
    assert {row["model"] for row in board} == {"majority", "vader", "tfidf-logreg"}
    assert done() == {name: ["evaluate", "fit", "measure"] for name in ("tfidf-logreg", "majority", "vader")}


def test_train_all_fine_tunes_on_the_device_that_is_named(tmp_path):
    few = ["--max-train-examples", "48", "--max-validation-examples", "24", "--train", "epochs=1"]
    moodbench("train-all", *DATA, "--models", "MiniLM-L3", "majority", "--device", "cpu", *few, *INLINE, cwd=tmp_path)
    store = Store.open(tmp_path / "results")
    fits = {fit["model"]: fit for fit in store.records("fits").to_dict("records")}
    assert set(fits) == {"MiniLM-L3", "majority", "tfidf-logreg"}
    assert json.loads(fits["MiniLM-L3"]["environment"])["device"] == "cpu"
    assert fits["MiniLM-L3"]["num_train"] == 48 and fits["MiniLM-L3"]["num_trainable"] > 0
