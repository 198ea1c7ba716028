"""A fit that was stopped goes on from its last checkpoint and ends as one that nobody stopped, bit by bit."""

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from moodbench.benchmark.resolve import resolve
from moodbench.config import load_catalogue
from moodbench.data.examples import subsample
from moodbench.hardware import hardware
from moodbench.spec import BenchmarkSpec
from moodbench.training.checkpoints import MANIFEST, CheckpointArea
from moodbench.training.fitting import fit
from moodbench.trial import examples_of

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


class Stopped(BaseException):
    """What Ctrl-C is to a fit."""


SIZES = {"train": 40, "validation": 40}


class Fit:
    """One recipe on 40 texts of 5 steps an epoch, a checkpoint after every step, and attempts at it."""

    def __init__(self, folder, sizes=SIZES, method="lora", **changes):
        train = {"epochs": 2, "evaluations_per_epoch": 2, "effective_batch_size": 8, "max_device_batch_size": 8,
                 "validation_share": 1, "min_steps": 0}  # fmt: skip
        request = BenchmarkSpec(models=("MiniLM-L3",), datasets=("icwsm-tweets",), method=method, train=train | changes)
        trials = resolve(request, load_catalogue(), hardware())
        self.spec = next(t.fit for t in trials if t.fit.model.name == "MiniLM-L3")
        examples = examples_of(self.spec)
        self.splits = [subsample(examples.split(name), size, 0) for name, size in sizes.items()]
        self.folder, self.areas, self.notes = folder, [], []

    def attempt(self, stop_at=None, interval_s=1e-9):
        """The outcome and trained weights of a new attempt; Stopped at the first report of a step >= `stop_at`."""
        area = self.folder / f"area-{len(self.areas)}"
        artifact = self.folder / f"artifact-{len(self.areas)}"
        area.mkdir(parents=True)
        artifact.mkdir()

        def report(progress):
            if "note" in progress:
                self.notes.append(progress["note"])
            if stop_at is not None and progress.get("step", 0) >= stop_at:
                raise Stopped

        checkpoints = CheckpointArea(area, lambda: 1000 + len(self.areas), list(reversed(self.areas)), interval_s)
        self.areas.append(area)
        outcome = fit(self.spec, *self.splits, artifact, "cpu", report, checkpoints)
        (weights,) = [*artifact.glob("adapter/*.safetensors"), *artifact.glob("weights.safetensors")]
        return outcome, load_file(weights)

    def stopped_attempt(self, step):
        with pytest.raises(Stopped):
            self.attempt(stop_at=step)

    def steps_kept(self):
        return sorted(int(p.name.partition("-")[2]) for p in self.areas[-1].glob("checkpoint-*"))


def assert_same_fit(one, other):
    (a, weights_a), (b, weights_b) = one, other
    assert weights_a.keys() == weights_b.keys()
    for name in weights_a:
        np.testing.assert_array_equal(weights_a[name], weights_b[name], err_msg=name)
    for outcome in (a, b):
        assert 0 < outcome.validation_time_s < outcome.train_time_s
    times = {"train_time_s": 0.0, "validation_time_s": 0.0}
    ours, theirs = (replace(o, **times, num_attempts=1, peak_memory_bytes=0) for o in (a, b))
    assert ours == theirs


RECIPES = {
    "in random order": {},
    "grouped by length": {"group_by_length": True},
    "accumulated": {"max_device_batch_size": 4},
    "part of an epoch, other schedule": {"epochs": 1.6, "lr_scheduler": "cosine", "base_dropout": 0.2},
    "looks at a part of the validation split": {
        # 2.5 x 152 x 0.65 / 0.35 = 705 texts: the last score on all 344, and 3 looks at 120
        "sizes": {"train": 76, "validation": 344},
        "validation_share": 0.65,
    },
    "all weights": {"method": "full", "learning_rate": 1e-4},
    "steps in place of epochs": {"epochs": 1, "min_steps": 9, "max_steps": 9, "effective_batch_size": 32},
}


@pytest.fixture(scope="module", params=RECIPES)
def undisturbed(request, tmp_path_factory):
    """A recipe and what an attempt that nobody stops and that need write no checkpoint for time makes of it."""
    changes = RECIPES[request.param]
    return changes, Fit(tmp_path_factory.mktemp("undisturbed"), **changes).attempt(interval_s=1e9)


@pytest.mark.parametrize("stops", [(3,), (6,), (8,), (2, 4, 7)], ids=str)
def test_a_stopped_fit_ends_as_an_undisturbed_one(undisturbed, stops, tmp_path):
    changes, expected = undisturbed
    fitting = Fit(tmp_path, **changes)
    for step in stops:
        fitting.stopped_attempt(step)
    finished = fitting.attempt()
    continued = [int(note.removeprefix("continues from the checkpoint of step ")) for note in fitting.notes]
    # A validation that prefers nothing new writes no checkpoint, so the one before may be the last.
    assert all(at in (stop - 1, stop - 2) for at, stop in zip(continued, stops, strict=True)), continued
    assert_same_fit(finished, expected)
    assert finished[0].num_attempts == len(stops) + 1


def test_a_fit_stopped_after_its_last_step_trains_no_more(undisturbed, tmp_path):
    changes, expected = undisturbed
    fitting = Fit(tmp_path, **changes)
    fitting.attempt()
    (last,) = {max(fitting.steps_kept())}
    finished = fitting.attempt()
    assert fitting.notes == [f"continues from the checkpoint of step {last}"]
    assert_same_fit(finished, expected)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The grouped recipe undisturbed, and a fit of it stopped before step 8, to be copied."""
    folder = tmp_path_factory.mktemp("plain")
    expected = Fit(folder / "calm").attempt(interval_s=1e9)
    stopped = Fit(folder / "stopped")
    stopped.stopped_attempt(8)
    return expected, stopped


def copy_of(stopped, folder):
    """A fit whose first attempt is that of `stopped`."""
    fitting = Fit(folder)
    shutil.copytree(stopped.areas[0], folder / "area-0")
    fitting.areas.append(folder / "area-0")
    return fitting


def test_the_newest_checkpoint_and_the_preferred_one_are_kept(plain):
    _, stopped = plain
    newest = max(stopped.steps_kept())
    manifest = json.loads((stopped.areas[0] / f"checkpoint-{newest}" / MANIFEST).read_text())
    assert newest == 7
    assert stopped.steps_kept() == sorted({7, manifest["best_step"]})


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite(field, value):
    def change(path):
        path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))

    return change


DAMAGE = {
    "optimiser cut": ("optimizer.pt", cut, "optimizer.pt is not as it was written"),
    "adapter changed": ("adapter_model.safetensors", flip, "adapter_model.safetensors is not as it was written"),
    "no random state": ("rng_state.pth", lambda p: p.unlink(), "rng_state.pth is not as it was written"),
    "no manifest": (MANIFEST, lambda p: p.unlink(), "it is incomplete, its writer was stopped"),
    "manifest cut": (MANIFEST, cut, "it cannot be read"),
    "another fit's": (MANIFEST, rewrite("fit_id", "0" * 20), "it was made with fit 00000000000000000000, this is fit"),
    "another device's": (MANIFEST, rewrite("device", "cuda"), "it was made with device cuda, this is device cpu"),
    "another torch's": (MANIFEST, rewrite("libraries", {"torch": "1.0"}), "it was made with"),
    "not ours": (MANIFEST, lambda p: p.write_bytes(b"\xff\xfe"), "it cannot be read"),
    "a strange file": ("extra.bin", lambda p: p.write_bytes(b"x"), "extra.bin is not as it was written"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_foreign_checkpoint_is_passed_over_with_a_note(plain, tmp_path, damage):
    from moodbench.training.checkpoints import resume_checkpoint

    _, stopped = plain
    fitting = copy_of(stopped, tmp_path)
    name, change, reason = DAMAGE[damage]
    for checkpoint in fitting.areas[0].glob("checkpoint-*"):
        change(checkpoint / name)
    own, notes = tmp_path / "own", []
    own.mkdir()
    area = CheckpointArea(own, lambda: 0, fitting.areas)
    assert resume_checkpoint(area, fitting.spec.fit_id, "cpu", notes.append) is None
    assert len(notes) == len(fitting.steps_kept())
    assert all(reason in note and note.startswith("checkpoint of step ") for note in notes)
    assert not list(own.iterdir()), "nothing of it stays"


def test_a_fit_whose_checkpoints_are_all_damaged_starts_over(plain, tmp_path):
    expected, stopped = plain
    fitting = copy_of(stopped, tmp_path)
    for checkpoint in fitting.areas[0].glob("checkpoint-*"):
        cut(checkpoint / "optimizer.pt")
    finished = fitting.attempt()
    assert_same_fit(finished, expected)
    assert finished[0].num_attempts == 1


def test_without_the_preferred_checkpoint_an_older_attempts_is_taken(plain, tmp_path):
    expected, stopped = plain
    fitting = copy_of(stopped, tmp_path)
    fitting.stopped_attempt(9)
    for step in fitting.steps_kept():
        cut(fitting.areas[1] / f"checkpoint-{step}" / "scheduler.pt")
    finished = fitting.attempt()
    assert fitting.notes[-1] == "continues from the checkpoint of step 7"
    assert_same_fit(finished, expected)


def test_training_time_and_peak_are_those_of_all_attempts(plain, tmp_path):
    _, stopped = plain
    fitting = copy_of(stopped, tmp_path)
    path = fitting.areas[0] / "checkpoint-7" / MANIFEST
    earlier = {"elapsed_s": 5000.0, "validation_time_s": 2000.0, "peak_memory_bytes": 10**12, "num_attempts": 4}
    path.write_text(json.dumps(json.loads(path.read_text()) | earlier))
    outcome, _ = fitting.attempt()
    assert 5000 < outcome.train_time_s < 5100
    assert 2000 < outcome.validation_time_s < 2050
    assert (outcome.peak_memory_bytes, outcome.num_attempts) == (10**12, 5)


def test_a_short_fit_writes_only_what_validation_prefers(tmp_path):
    fitting = Fit(tmp_path)
    outcome, _ = fitting.attempt(interval_s=60)
    scores = [(p.step, p.validation_score) for p in outcome.curve if p.validation_score is not None]
    records = [step for step, score in scores if score == max(s for at, s in scores if at <= step)]
    assert max(fitting.steps_kept()) in records
    assert outcome.best_step in fitting.steps_kept()


def test_checkpoints_come_at_the_interval(monkeypatch, tmp_path):
    """Each reading of a clock that advances 1 s: with 1e9 s between checkpoints none is due, with 1e-9 all are."""
    from moodbench.training.checkpoints import CheckpointWriter

    ticks = itertools.count()
    area = CheckpointArea(tmp_path, lambda: 0, interval_s=3)
    writer = CheckpointWriter(area, "f", "cpu", None, clock=lambda: next(ticks))  # made at 0 s
    assert [writer.is_due() for _ in range(4)] == [False, False, True, True]  # at 1, 2, 3 and 4 s
