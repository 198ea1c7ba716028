"""What a person can get wrong on the command line: one clear message, exit code 2, the store untouched."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from refused import fail
from toy_store import change_row, write_toy_store

from moodbench.cli import main

RUN = ["run", "--models", "vader", "--datasets", "icwsm-tweets"]


def overlay(text: str) -> str:
    Path("overlay.yaml").write_text(text)
    return "overlay.yaml"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not Path("results").exists(), "a refused request leaves no store behind"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["run", "quickstat"],
            "unknown preset 'quickstat': did you mean 'quickstart'? known are embedded, production, quickstart, research",
        ),
        (["run", "--models", "vadr", "--datasets", "icwsm-tweets"], "unknown model 'vadr': did you mean 'vader'?"),
        (["run", "--models", "vader", "--datasets", "icwsm-tweet"], "unknown data set 'icwsm-tweet': did you mean"),
        (
            ["run"],
            "nothing to run; give a preset (quickstart, embedded, ultra-fast, production, research), a spec file, or both --models and --datasets",
        ),
        (["run", "--models", "vader"], "nothing to run"),
        (["run", "nowhere.yaml"], "nowhere.yaml: No such file or directory; expected a YAML file"),
        ([*RUN, "--seeds", "0"], "seeds"),
        (
            [*RUN, "--max-train-examples", "1"],
            "max_train_examples: Input should be greater than or equal to 2 (seen: 1)",
        ),
        ([*RUN, "--neutral-band", "nan"], "neutral_band"),
        ([*RUN, "--neutral-band", "-1"], "neutral_band: Input should be greater than or equal to 0"),
        ([*RUN, "--neutral-band", "4"], "has no example of class negative"),
        ([*RUN, "--protocol", "quik"], "unknown measuring protocol 'quik': did you mean 'quick'?"),
        ([*RUN, "--config", "nowhere.yaml"], "nowhere.yaml: no such file or folder"),
        (["run", "--models", "vader", "vader", "--datasets", "icwsm-tweets"], "given more than once: vader"),
        (["train", "--model", "vader"], "train: needs exactly one of --dataset and --data; given: neither"),
        (["train", "--model", "vadr", "--dataset", "icwsm-tweets"], "unknown model 'vadr': did you mean 'vader'?"),
        (["train", "--model", "vader", "--dataset", "icwsm-tweets", "--seed", "-1"], "command line: seeds.0: "),
        ([*RUN, "--train", "epochs"], "--train: 'epochs' is not FIELD=VALUE; expected such as epochs=3"),
        ([*RUN, "--train", "epochs=2", "epochs=3"], "--train: field 'epochs' is given twice; give it once"),
        ([*RUN, "--train", "epoch=3"], "command line: train.epoch: unknown key; did you mean 'epochs'?"),
        ([*RUN, "--train", "epochs=[1"], "--train epochs=[1, line 1:"),
        ([*RUN, "--lora", "r=0"], "command line: lora.r: Input should be greater than or equal to 1 (seen: 0)"),
        ([*RUN[:3], "--data", "hub:a/b", "--splits", "train"], "--splits: 'train' is not SPLIT=NAME; expected such as"),
        (
            [*RUN[:3], "--data", "hub:a/b", "--splits", "train=a,train=b"],
            "--splits: 'train' is given twice ('a' and 'b')",
        ),
        (["fetch"], "fetch: nothing to fetch; name models or data sets, or give --data hub:OWNER/NAME"),
        (["train-all", "--models", "vader"], "train-all: nothing to run; give a preset"),
        (["leaderboard", "--weights", "accuracy=0.5"], "add up to 0.5; allowed is a sum of 1"),
        (["leaderboard", "--weights", "speed=1"], "unknown weight 'speed'"),
        (["leaderboard", "--weights", "accuracy"], "is not NAME=NUMBER"),
        (["leaderboard", "--weights", "accuracy=nan,f1=1"], "allowed is a finite number, 0 or more"),
        (["leaderboard", "--store", "nope://bucket"], "nope://bucket"),
        (["leaderboard", "--dataset", "imdb"], "unknown data set in"),
        (["compare", "vader", "majority"], "unknown model in"),
    ],
)
def test_a_wrong_request_is_explained(arguments, expected, capsys):
    assert expected in fail(arguments, capsys)


CONTRIBUTING = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text()
SHOWN = re.findall(r"^\| `moodbench (.+?)` \| (.+) \|$", CONTRIBUTING, flags=re.MULTILINE)


def test_contributing_shows_messages_at_all():
    assert len(SHOWN) >= 14


@pytest.mark.parametrize(("request_", "message"), SHOWN)
def test_the_messages_in_contributing_are_what_is_said(request_, message, capsys):
    assert message in fail(request_.split(), capsys)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training:\n  train:\n    learning_rate: .nan\n", "overlay.yaml, line 3: training.train.learning_rate"),
        ("training:\n  train:\n    learning_rate: .inf\n", "line 3: training.train.learning_rate"),
        ("training:\n  train:\n    learning_rate: -2e-4\n", "greater than 0 (seen: -0.0002)"),
        ("training:\n  train:\n    epochs: many\n", "line 3: training.train.epochs"),
        ("training:\n  train:\n    learningrate: 2e-4\n", "line 3: training.train.learningrate: unknown key"),
        ("training:\n  lora:\n    lora_dropout: 1.5\n", "less than 1 (seen: 1.5)"),
        ("trainig:\n  lora: {}\n", "did you mean 'training'?"),
        ("models:\n  mine: {method: lora, licence: MIT, description: x}\n", "needs `source`"),
        ("models:\n  vader:\n    train: {learning_rate: 1}\n    train: {}\n", "line 4: key 'train' is given twice"),
        ("models: [vader]\n", "line 1: models: expected keys below it"),
        ("- a\n- b\n", "expected `key: value` lines at the top"),
        ("training: {train: [\n", "expected YAML"),
        (
            "datasets:\n  mine: {embedded: x, labels: [a], neutral_band: 0, licence: x, citation: x, description: x}\n",
            "labels",
        ),
    ],
)
def test_a_wrong_catalogue_names_file_line_and_key(text, expected, capsys):
    message = fail([*RUN, "--config", overlay(text)], capsys)
    assert "overlay.yaml" in message
    assert expected in message


def test_an_unknown_embedded_source_suggests_the_nearest(capsys):
    text = "datasets:\n  icwsm-tweets: {embedded: icwsm-tweet}\n"
    assert "did you mean 'icwsm-tweets'?" in fail([*RUN, "--config", overlay(text)], capsys)


def test_changed_weights_are_refused_before_anything_runs(capsys):
    text = f"models:\n  MiniLM-L6:\n    source: {{sha256: {'0' * 64}}}\n"
    message = fail(["run", "quickstart", "--config", overlay(text)], capsys)
    assert "has sha256 53aa5117" in message
    assert "the catalogue pins 0000" in message


def test_a_weights_package_that_is_not_installed_is_named_with_its_remedy(capsys):
    text = "models:\n  MiniLM-L6:\n    source: {package: no-such-package}\n"
    message = fail(["run", "quickstart", "--config", overlay(text)], capsys)
    assert "no-such-package, which is not installed; `uv sync`" in message


def test_a_spec_file_with_an_unknown_key_names_its_line(capsys):
    Path("spec.yaml").write_text("models: [vader]\ndatasets: [icwsm-tweets]\nseed: 3\n")
    assert "spec.yaml, line 3: seed: unknown key" in fail(["run", "spec.yaml"], capsys)


def test_a_folder_of_something_else_is_not_written_to(capsys):
    Path("thesis").mkdir()
    Path("thesis/chapter.tex").write_text("")
    assert "not a MoodBench store" in fail([*RUN, "--store", "thesis"], capsys)
    assert [p.name for p in Path("thesis").iterdir()] == ["chapter.tex"]


def test_a_foreign_record_in_the_store_stops_the_command(capsys):
    Path("shop/fits/aa").mkdir(parents=True)
    pd.DataFrame({"price": [1]}).to_parquet("shop/fits/aa/aa.parquet")
    assert "aa.parquet: not written by MoodBench" in fail(["leaderboard", "--store", "shop"], capsys)
    assert [p.name for p in Path("shop").rglob("*") if p.is_file()] == ["aa.parquet"]


def test_a_store_that_cannot_be_written_is_refused_before_anything_runs(capsys, monkeypatch):
    # A read-only folder stops no test that runs as root, so the file system's refusal is given here.
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("moodbench.store.store.os.link", refuse)
    message = fail([*RUN, "--store", "locked"], capsys)
    assert "locked: cannot be written (Permission denied); change its permissions or give another folder" in message
    assert not Path("locked").exists()


def test_argparse_mistakes_end_with_two_as_well(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", "--executor", "slurm"])
    assert ended.value.code == 2
    assert "invalid choice: 'slurm'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "benchmark"])
def test_without_a_fit_there_is_a_hint_how_to_make_one(command, capsys):
    assert "has no fit yet; `moodbench train` or `moodbench run` makes one" in fail([command], capsys)


@pytest.fixture
def toy():
    return write_toy_store(Path("toy"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["evaluate", "tpy"], ("unknown fit or model in", "did you mean 'toy'? known are toy")),
        (["benchmark", "--models", "tpy"], ("unknown fit or model in", "did you mean 'toy'?")),
        (["evaluate", "0123456789abcdef0123"], ("unknown fit or model in", "0123456789abcdef0123")),
        (["evaluate", "--datasets", "toyset"], ("unknown data set in", "did you mean 'toy-set'?")),
        (["evaluate", "--seeds", "3"], ("none of its 1 fits is asked for", "--seeds")),
        (["benchmark", "--protocol", "ful"], ("unknown measuring protocol 'ful'", "did you mean 'full'?")),
        (["benchmark", "--device", "mps"], ("device mps", "choose auto or cpu")),
    ],
)
def test_a_wrong_choice_of_fits_is_explained(arguments, expected, toy, capsys):
    said = fail([*arguments, "--store", "toy"], capsys)
    assert all(part in said for part in expected)


def test_a_fit_whose_id_this_version_would_not_give_is_refused(toy, capsys):
    spec = json.loads(toy.records("fits")["spec"][0])
    change_row(toy, "fits/*/*.parquet", spec=json.dumps(spec | {"code_version": 99}))
    assert "was written by another version of moodbench (its id would be" in fail(
        ["evaluate", "--store", "toy"], capsys
    )
