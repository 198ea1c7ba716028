"""Every field of TrainDefaults changes what the trainer receives, or where it shows otherwise."""

import math
from pathlib import Path

import pytest

from moodbench.config.catalogue import load_catalogue
from moodbench.config.schema import TrainDefaults
from moodbench.models.base import set_dropout
from moodbench.training.lora import _trainer, accumulation_steps, evaluation_interval, training_arguments

DEFAULTS = load_catalogue().training.train
NUM_TRAIN = 7400  # 232 steps an epoch at 32 examples a step


def arguments(tmp_path=Path("unused"), device="cpu", **changes):
    train = DEFAULTS.model_copy(update=changes)
    return training_arguments(train, NUM_TRAIN, 11, 13, device, tmp_path)


REACHES = {
    # field: (another value, what the trainer then receives)
    "epochs": (3.5, {"num_train_epochs": 3.5}),
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
    "group_by_length": (False, {"train_sampling_strategy": "random"}),
    "evaluations_per_epoch": (8, {"eval_steps": 29}),
    "max_evaluation_steps": (10, {"eval_steps": 10}),
    "select_by": ("nll", {"metric_for_best_model": "eval_nll", "greater_is_better": False}),
    "optimizer": ("adamw_8bit", {"optim": "adamw_8bit"}),
    "precision": ("bf16", {"bf16": True, "fp16": False}),
}
ELSEWHERE = {"base_dropout", "patience"}
"""Read where the model is made ready and where the trainer gets its callbacks, see the tests below."""


def test_the_table_holds_every_field():
    assert set(REACHES) | ELSEWHERE == set(TrainDefaults.model_fields)


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
    assert (given.eval_steps, given.metric_for_best_model, given.greater_is_better) == (58, "eval_f1_macro", True)
    assert (given.train_sampling_strategy, given.fp16, given.bf16) == ("group_by_length", False, False)
    assert given.get_warmup_steps(464) == math.ceil(0.06 * 464)


@pytest.mark.integration
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_warm_up_share_is_always_a_share_of_the_steps(share):
    assert arguments(warmup_share=share).get_warmup_steps(1000) == round(1000 * share)


@pytest.mark.integration
@pytest.mark.parametrize("patience", [1, 7])
def test_patience_is_that_of_early_stopping(tmp_path, patience):
    import torch
    from transformers import EarlyStoppingCallback

    train = DEFAULTS.model_copy(update={"patience": patience})
    given = training_arguments(train, NUM_TRAIN, 0, 0, "cpu", tmp_path)
    trainer = _trainer(torch.nn.Linear(1, 1), given, [], [], None, train, lambda _: None)
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
    train = DEFAULTS.model_copy(update={"effective_batch_size": effective, "max_device_batch_size": largest})
    assert accumulation_steps(train) == steps
    assert effective % steps == 0
    assert effective // steps <= largest


@pytest.mark.parametrize(
    ("num_train", "epochs", "per_epoch", "limit", "steps"),
    [
        (7400, 2, 4, 500, 58),  # 232 steps an epoch, a quarter of it
        (3000, 1, 2, 500, 47),  # 94 steps, a half
        (100_000, 2, 4, 500, 500),  # 3,125 steps, a quarter is 781
        (60, 2, 4, 500, 1),  # 2 steps
        (3000, 0.25, 1, 500, 23),  # 94 steps in an epoch but only 24 in the run: it must be validated once
        (32, 0.5, 1, 500, 1),
    ],
)
def test_validation_runs_are_a_share_of_an_epoch_within_the_limit_and_the_run(
    num_train, epochs, per_epoch, limit, steps
):
    changes = {"epochs": epochs, "evaluations_per_epoch": per_epoch, "max_evaluation_steps": limit}
    assert evaluation_interval(DEFAULTS.model_copy(update=changes), num_train) == steps
