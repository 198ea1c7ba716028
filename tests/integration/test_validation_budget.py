"""A fit that may not validate on all texts at each look chooses by a part of them, and is scored on the whole split."""

import pytest

from moodbench.benchmark.resolve import resolve
from moodbench.config import load_catalogue
from moodbench.data.examples import subsample
from moodbench.hardware import hardware
from moodbench.metrics import score_all
from moodbench.models.predictor import load_predictor, predict_texts
from moodbench.spec import BenchmarkSpec
from moodbench.spec.fit_schedule import schedule_of
from moodbench.training.checkpoints import CheckpointArea
from moodbench.training.fitting import fit
from moodbench.trial import examples_of

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
RECIPE = {"epochs": 2, "evaluations_per_epoch": 2, "effective_batch_size": 8, "validation_share": 0.65,
          "min_steps": 0, "patience": 100}  # fmt: skip


def test_the_chosen_checkpoint_is_scored_on_the_whole_split_and_looks_on_a_part(tmp_path):
    request = BenchmarkSpec(models=("MiniLM-L3",), datasets=("icwsm-tweets",), train=RECIPE | {"learning_rate": 5e-3})
    trials = resolve(request, load_catalogue(), hardware())
    spec = next(t.fit for t in trials if t.fit.model.name == "MiniLM-L3")
    examples = examples_of(spec)
    train, validation = subsample(examples.split("train"), 76, 0), examples.split("validation")
    schedule = schedule_of(spec.train, len(train), len(validation))
    assert (schedule.validation_steps, schedule.validation_size, schedule.final_size) == (
        (7, 14, 20),
        120,
        len(validation),
    )

    (tmp_path / "area").mkdir()
    reports = []
    area = CheckpointArea(tmp_path / "area", lambda: 0)
    outcome = fit(spec, train, validation, tmp_path / "artifact", "cpu", reports.append, area)

    predictor = load_predictor(spec, tmp_path / "artifact", "as_trained", "cpu")
    part = subsample(validation, schedule.validation_size, spec.seeds.subsample)
    for rows, found in (
        (validation, outcome.validation),
        (
            part,
            {"f1_macro": next(p.validation_score for p in outcome.curve if p.step == outcome.best_step and p.metric)},
        ),
    ):
        logits, _ = predict_texts(predictor, rows["text"].tolist(), 32)
        scores = score_all(logits, rows["label"])
        assert found == pytest.approx({name: scores[name] for name in found}, abs=1e-4)

    assert [p.step for p in outcome.curve if p.validation_score is not None] == [7, 14, 20]
    assert [r["step"] for r in reports if "eval_f1_macro" in r] == [7, 14, 20], "the last score is no look"
    assert outcome.num_texts_trained == 2 * 76
    assert 0 < outcome.validation_time_s < outcome.train_time_s
