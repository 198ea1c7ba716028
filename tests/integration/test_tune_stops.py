"""A search that is killed, interrupted or meets a failing configuration goes on, and trains nothing twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moodbench.config import load_catalogue
from moodbench.hardware import hardware
from moodbench.spec.benchmark_spec import spec_from_values
from moodbench.store import Store
from moodbench.tune.request import make_search
from moodbench.tune.trials import read_progress, search_trials

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3 * 400)]
WORDS = ["tune", "--model", "MiniLM-L3", "--dataset", "icwsm-movie", "--max-train-examples", "400",
         "--max-validation-examples", "60", "--scheduler", "none", "--train", "epochs=2", "evaluations_per_epoch=5",
         "--seeds", "0", "--trials", "2"]  # fmt: skip
LIMIT_S = 400


def started(folder: Path, *more: str) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"MOODBENCH_CHECKPOINT_S": "0.5"}
    command = [sys.executable, "-m", "moodbench", *WORDS, *more]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen) -> str:
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, said
    return said


def await_(seen, process: subprocess.Popen) -> None:
    end = time.monotonic() + LIMIT_S
    while not seen():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.2)


def the_search(folder: Path) -> str:
    (found,) = (folder / "results" / "searches").iterdir()
    return found.name


def steps_of(folder: Path) -> list[int]:
    return [int(p.parent.name.partition("-")[2]) for p in folder.glob("results/staging/**/checkpoint-*/moodbench.json")]


@pytest.mark.slow
def test_after_sigkill_the_same_configurations_go_on_from_their_checkpoints(tmp_path: Path) -> None:
    first = started(tmp_path)
    await_(lambda: steps_of(tmp_path), first)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=LIMIT_S)  # nothing that it started holds its output
    store = Store.open(str(tmp_path / "results"))
    search_id = the_search(tmp_path)
    before = read_progress(store, search_id)
    begun = before.started
    assert begun and not search_trials(store)
    assert before.elapsed_s > 0 and any(each.seconds > 0 for each in begun.values())

    said = ended(started(tmp_path))
    assert f"{len(begun)} started and resumed" in said
    trials = search_trials(store)
    assert [t.status for t in trials] == ["finished", "finished"]
    after = read_progress(store, search_id).started
    assert list(after)[: len(begun)] == list(begun)
    assert store.ids("fits") == {t.fit_id for t in trials} == after.keys()
    assert not (tmp_path / "results" / "duplicates").exists()
    assert max(store.record("fits", fit_id)["attempts"] for fit_id in begun) >= 2
    for trial in trials:
        record = store.record("fits", trial.fit_id)
        scores = [p["validation_score"] for p in record["curve"] if p["validation_score"] is not None]
        assert [score for _, score in trial.curve] == pytest.approx(scores), "what came before the kill is in the curve"
        assert trial.elapsed_s > before.elapsed_s


def test_ctrl_c_ends_the_search_and_not_only_its_trials(tmp_path: Path) -> None:
    process = started(tmp_path, "--seeds", "1")
    store = Store.open(str(tmp_path / "results"))

    def is_training() -> bool:
        started_trials = read_progress(store, the_search(tmp_path)).started if store.location.keys("searches") else {}
        return any(each.seconds > 0 for each in started_trials.values())

    await_(is_training, process)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, said
    assert "rerun the command to resume" in said and "Confirmation" not in said
    started_trials = read_progress(store, the_search(tmp_path)).started.values()
    assert any(each.seconds > 1 for each in started_trials), "the time of what was cut off is noted"


SPACE = """description: a space of three
parameters:
  lora.r: {distribution: choice, values: [2, 4, 8]}
"""


@pytest.mark.slow
def test_a_configuration_that_fails_is_a_record_and_the_rest_goes_on(tmp_path: Path) -> None:
    space, store = tmp_path / "space.yaml", Store.open(str(tmp_path / "results"))
    space.write_text(SPACE, "utf-8")
    values = {
        "models": ("MiniLM-L3",),
        "datasets": ("icwsm-movie",),
        "max_train_examples": 64,
        "max_validation_examples": 60,
        "train": {"epochs": 2, "evaluations_per_epoch": 5},
    }
    spec = spec_from_values(values, "the test")
    how = {"searcher": "optuna", "scheduler": "none", "num_trials": 9, "budget_s": None}
    request = make_search(spec, str(space), load_catalogue(), hardware(), store=store, **how)
    refused = request.fit({"lora.r": 4}).fit_id
    (tmp_path / "results" / "staging").mkdir(parents=True)
    (tmp_path / "results" / "staging" / f"fit-{refused}").write_text("a file where its checkpoints would be")

    said = ended(started(tmp_path, "--space", str(space), "--trials", "9", "--max-train-examples", "64"))
    trials = {t.configuration["lora.r"]: t for t in search_trials(store)}
    assert len(trials) == len(search_trials(store)) == 3, "the space has no more, and none is tried twice"
    assert {r: t.status for r, t in trials.items()} == {2: "finished", 4: "failed", 8: "finished"}
    assert trials[4].fit_id == refused and refused in str(trials[4].error)
    assert "1 failed" in said
