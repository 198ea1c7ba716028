"""Every field of TrainDefaults changes what the trainer receives, or where it shows otherwise."""

import math
from pathlib import Path

import pytest

from moodbench.config.catalogue import load_catalogue
from moodbench.config.schema import TrainDefaults
from moodbench.models.base import set_dropout
from moodbench.spec.fit_schedule import schedule_of
from moodbench.training.batches import LengthBuckets
from moodbench.training.fine_tuning import _trainer, accumulation_steps, training_arguments

DEFAULTS = load_catalogue().training.train
NUM_TRAIN = 7400  # 232 steps an epoch at 32 examples a step
NUM_VALIDATION = 1000


def scheduled(train):
    return schedule_of(train, NUM_TRAIN, NUM_VALIDATION)


def arguments(tmp_path=Path("unused"), device="cpu", **changes):
    train = DEFAULTS.model_copy(update=changes)
    return training_arguments(train, scheduled(train), 11, 13, device, tmp_path)


REACHES = {
    # field: (another value, what the trainer then receives)
    "epochs": (3.5, {"max_steps": 812}),
    "min_steps": (500, {"max_steps": 500}),
    "max_steps": (100, {"max_steps": 100}),
    "learning_rate": (1e-3, {"learning_rate": 1e-3}),
    "weight_decay": (0.5, {"weight_decay": 0.5}),
    "warmup_share": (0.25, {"warmup_steps": 0.25}),
    "lr_scheduler": ("cosine", {"lr_scheduler_type": "cosine"}),
    "effective_batch_size": (64, {"per_device_train_batch_size": 32, "gradient_accumulation_steps": 2}),
    "max_device_batch_size": (
        8,
        {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4, "per_device_eval_batch_size": 8},
    ),
    "max_grad_norm": (0.5, {"max_grad_norm": 0.5}),
    "select_by": ("nll", {"metric_for_best_model": "eval_nll", "greater_is_better": False}),
    "optimizer": ("adamw_8bit", {"optim": "adamw_8bit"}),
    "precision": ("bf16", {"bf16": True, "fp16": False}),
}
LOOKS = {
    "evaluations_per_epoch": (1, (232, 464)),
    "max_evaluation_steps": (50, (47, 93, 140, 186, 232, 279, 325, 372, 418, 464)),
    "validation_share": (0, (464,)),
}
"""Field: another value, the steps of the looks then."""
ELSEWHERE = {"base_dropout", "patience", "group_by_length"}
"""Read where the model is made ready and where the trainer gets its callbacks and sampler, see the tests below."""


def test_the_table_holds_every_field():
    assert set(REACHES) | set(LOOKS) | ELSEWHERE == set(TrainDefaults.model_fields)


@pytest.mark.integration
@pytest.mark.parametrize("field", REACHES)
def test_a_changed_field_reaches_the_trainer(field):
    value, received = REACHES[field]
    before, after = arguments(), arguments(**{field: value})
    assert {name: getattr(after, name) for name in received} == received
    assert any(getattr(before, name) != getattr(after, name) for name in received)


@pytest.mark.integration
def test_the_trainer_has_the_packaged_defaults_and_sends_nothing_home(tmp_path):
    given = arguments(tmp_path)
    assert (given.seed, given.data_seed, given.output_dir) == (11, 13, str(tmp_path))
    assert (given.report_to, given.use_cpu, given.load_best_model_at_end) == ([], True, True)
    assert (given.eval_steps, given.metric_for_best_model, given.greater_is_better) == (464, "eval_f1_macro", True)
    assert (given.train_sampling_strategy, given.fp16, given.bf16) == ("random", False, False)
    assert given.get_warmup_steps(464) == math.ceil(0.06 * 464)


@pytest.mark.integration
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_warm_up_share_is_always_a_share_of_the_steps(share):
    assert arguments(warmup_share=share).get_warmup_steps(1000) == round(1000 * share)


def a_trainer(tmp_path, rows=(), **changes):
    import torch

    train = DEFAULTS.model_copy(update=changes)
    given = training_arguments(train, scheduled(train), 0, 13, "cpu", tmp_path)
    return _trainer(torch.nn.Linear(1, 1), given, rows, rows, None, train, scheduled(train), lambda _: None)


@pytest.mark.integration
@pytest.mark.parametrize("field", LOOKS)
def test_a_changed_field_moves_the_looks(field, tmp_path):
    from transformers import TrainerControl, TrainerState

    value, looks = LOOKS[field]
    for changes, expected in (({}, (58, 116, 174, 232, 290, 348, 406, 464)), ({field: value}, looks)):
        trainer, state = a_trainer(tmp_path, **changes), TrainerState()
        state.max_steps = trainer.args.max_steps
        state.compute_steps(trainer.args, trainer.args.max_steps)
        seen = []
        for state.global_step in range(1, trainer.args.max_steps + 1):
            control = trainer.callback_handler.on_step_end(trainer.args, state, TrainerControl())
            seen += [state.global_step] if control.should_evaluate else []
        assert tuple(seen) == expected


@pytest.mark.integration
def test_batches_are_of_similar_length_only_if_asked_for(tmp_path):
    from datasets import Dataset
    from torch.utils.data import RandomSampler

    lengths = [5, 9, 7, 1] * 20
    rows = Dataset.from_dict({"length": lengths})
    grouped = a_trainer(tmp_path, rows, group_by_length=True, effective_batch_size=4, max_device_batch_size=2)
    order = list(grouped._get_train_sampler(rows))
    assert order == list(LengthBuckets(lengths, 4, 13)), "of the whole batch, by the seed of the order"
    assert isinstance(a_trainer(tmp_path, rows)._get_train_sampler(rows), RandomSampler)
    for trainer in (grouped, a_trainer(tmp_path, rows)):
        assert [lengths[i] for i in trainer._get_eval_sampler(rows)] == sorted(lengths, reverse=True)


@pytest.mark.integration
@pytest.mark.parametrize("patience", [1, 7])
def test_patience_is_that_of_early_stopping(tmp_path, patience):
    from transformers import EarlyStoppingCallback

    trainer = a_trainer(tmp_path, patience=patience)
    stopping = [c for c in trainer.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)]
    assert [c.early_stopping_patience for c in stopping] == [patience]


@pytest.mark.integration
@pytest.mark.parametrize("share", [0.0, 0.25])
def test_base_dropout_is_that_of_every_dropout_inside_the_model(share):
    import torch

    class Attention(torch.nn.Module):
        attention_dropout = 0.1

    model = torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.Sequential(Attention(), torch.nn.Dropout(0.2)))
    set_dropout(model, share)
    assert [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)] == [share, share]
    assert model[1][0].attention_dropout == share


@pytest.mark.parametrize(
    ("effective", "largest", "steps"),
    [(32, 32, 1), (32, 64, 1), (32, 16, 2), (32, 8, 4), (32, 12, 4), (33, 32, 3), (7, 4, 7), (1, 1, 1)],
)
def test_accumulation_keeps_the_effective_batch_exactly_in_as_few_passes_as_fit(effective, largest, steps):
    assert accumulation_steps(effective, largest) == steps
    assert effective % steps == 0
    assert effective // steps <= largest
