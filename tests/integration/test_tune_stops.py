"""A search that is killed, interrupted or meets a failing configuration goes on, and trains nothing twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moodbench.store import Store
from moodbench.tuning.records import search_trials
from moodbench.tuning.underway import proposed, spent

pytestmark = pytest.mark.integration
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


def test_after_sigkill_the_same_configurations_go_on_from_their_checkpoints(tmp_path: Path) -> None:
    first = started(tmp_path)
    await_(lambda: steps_of(tmp_path), first)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    store = Store.open(str(tmp_path / "results"))
    search_id = the_search(tmp_path)
    begun = proposed(store, search_id)
    assert begun and not search_trials(store)
    before = spent(store, search_id)
    assert before.elapsed_s > 0 and before.open.keys() <= begun.keys()

    said = ended(started(tmp_path))
    assert f"{len(begun)} begun and gone on with" in said
    trials = search_trials(store)
    assert [t.status for t in trials] == ["finished", "finished"]
    assert list(proposed(store, search_id))[: len(begun)] == list(begun)
    assert store.ids("fits") == {t.fit_id for t in trials} == proposed(store, search_id).keys()
    assert not (tmp_path / "results" / "duplicates").exists()
    continued = [store.record("fits", fit_id) for fit_id in begun]
    assert max(json.loads(record["environment"]).get("num_attempts", record.get("num_attempts", 1)) for record in continued) >= 2  # fmt: skip
    for trial in trials:
        record = store.record("fits", trial.fit_id)
        scores = [p["validation_score"] for p in record["curve"] if p["validation_score"] is not None]
        assert [score for _, score in trial.curve] == pytest.approx(scores), "what came before the kill is in the curve"
        assert trial.elapsed_s > before.elapsed_s


def test_ctrl_c_ends_the_search_and_not_only_its_trials(tmp_path: Path) -> None:
    process = started(tmp_path, "--seeds", "1")
    store = Store.open(str(tmp_path / "results"))
    await_(lambda: any(store.location.keys("searches")) and proposed(store, the_search(tmp_path)), process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, said
    assert "the same command goes on" in said and "Confirmation" not in said
    assert spent(store, the_search(tmp_path)).open, "the time of what was cut off is noted"


SPACE = """description: one of the two cannot be trained
parameters:
  train.learning_rate: {distribution: choice, values: [1.0e-3, 1.0e+20]}
  lora.r: {distribution: choice, values: [2, 4]}
"""


def test_a_configuration_that_fails_is_a_record_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE, "utf-8")
    said = ended(started(tmp_path, "--space", "space.yaml", "--trials", "9", "--max-train-examples", "64"))
    trials = search_trials(Store.open(str(tmp_path / "results")))
    assert len(trials) == 4, "the space has no more, and none is tried twice"
    by_rate = {t.configuration["train.learning_rate"]: t for t in trials}
    assert by_rate[1e-3].status == "finished"
    assert by_rate[1e20].status == "failed" and "diverged" in str(by_rate[1e20].error)
    assert "2 failed" in said
