"""Four adapters of one base model trained in step beside one after another: texts x adapters per second, as a ratio.

`uv run pytest -n 0 -s -m performance tests/performance/test_adapters_in_step.py`; MOODBENCH_REPEATS=5 repeats more often. Both sides take
turns in one process on one core, and what is compared is its processor time, which other load changes little. Nothing is asserted
about time; that both sides end with the same predictions is.
"""

import os
import statistics
import time

import numpy as np
import pytest

from moodbench.benchmark.resolve import resolve
from moodbench.config import load_catalogue
from moodbench.config.schema import LoraDefaults
from moodbench.data.examples import subsample
from moodbench.hardware import hardware
from moodbench.models.device import prepare_torch
from moodbench.models.predictor import load_predictor, predict_texts
from moodbench.spec import BenchmarkSpec
from moodbench.training.checkpoints import CheckpointArea
from moodbench.training.fitting import fit
from moodbench.training.multi_adapter import JointTraining
from moodbench.trial import examples_of

pytestmark = [
    pytest.mark.performance,
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
REPEATS = int(os.environ.get("MOODBENCH_REPEATS", "3"))
MODEL, NUM_TRAIN, NUM_TEXTS = "MiniLM-L6", 128, 200
RANKS = (2, 4, 8, 16)


@pytest.fixture(scope="module", params=(32, 8), ids=lambda size: f"batches of {size}")
def members(request):
    """The four fits, with their texts."""
    batch_size = request.param
    asked = BenchmarkSpec(
        models=(MODEL,),
        datasets=("icwsm-movie",),
        max_train_examples=NUM_TRAIN,
        train={"epochs": 1, "evaluations_per_epoch": 1, "effective_batch_size": batch_size},
    )
    base = next(t.fit for t in resolve(asked, load_catalogue(), hardware()) if t.fit.model.name == MODEL)
    specs = [
        base.model_copy(
            update={"lora": LoraDefaults.model_validate(base.lora.model_dump() | {"r": r, "lora_alpha": 2.0 * r})}
        )
        for r in RANKS
    ]
    examples = examples_of(base)
    prepare_torch(1)  # as a search does: one core for each process
    train, validation = subsample(examples.split("train"), NUM_TRAIN, 0), subsample(examples.split("validation"), 32, 0)
    return specs, train, validation, examples.split("test")["text"].tolist()[:NUM_TEXTS]


def trained(spec, train, validation, folder):
    artifact = folder / f"r{spec.lora.r}"
    artifact.mkdir(parents=True)
    area = CheckpointArea(folder / f"checkpoints-{spec.lora.r}", lambda: 0)
    area.folder.mkdir()
    return fit(spec, train, validation, artifact, "cpu", lambda _: None, area)


def predictions(spec, folder, texts):
    return predict_texts(load_predictor(spec, folder / f"r{spec.lora.r}", "as_trained", "cpu"), texts, 32)[0]


def test_four_adapters_in_step_beside_one_after_another(members, tmp_path):
    specs, train, validation, texts = members
    seconds = {"in step": [], "one after another": []}
    for number in range(REPEATS):
        folders = {name: tmp_path / f"{name}-{number}" for name in seconds}
        for name in sorted(seconds, reverse=number % 2 == 1):
            began = time.process_time()
            jobs = [lambda s=s, f=folders[name]: trained(s, train, validation, f) for s in specs]
            outcomes = JointTraining().run(jobs) if name == "in step" else [job() for job in jobs]
            seconds[name].append(time.process_time() - began)
            if name == "in step":
                joined = [outcome.chosen.get("trained_together") for outcome in outcomes]
    both = [
        [predictions(spec, tmp_path / f"{name}-0", texts) for spec in specs]
        for name in ("in step", "one after another")
    ]
    differences = [float(np.abs(a - b).max()) for a, b in zip(*both, strict=True)]
    agreement = [float((a.argmax(1) == b.argmax(1)).mean()) for a, b in zip(*both, strict=True)]
    speeds = {name: len(specs) * NUM_TRAIN / statistics.median(each) for name, each in seconds.items()}
    for name, each in seconds.items():
        print(
            f"\n{name}: {speeds[name]:.1f} texts x adapters per processor second, median of {REPEATS}: {np.round(each, 1)} s",
            end="",
        )
    size = specs[0].train.effective_batch_size
    print(
        f"\nbatches of {size}: ratio {speeds['in step'] / speeds['one after another']:.2f}; the most fits that shared a pass: {joined}"
    )
    print(f"same class on {NUM_TEXTS} texts: {agreement}; largest difference of a logit: {max(differences):.1e}")
    assert joined == [len(specs)] * len(specs)
    assert min(agreement) >= 0.99 and max(differences) < 1e-2
