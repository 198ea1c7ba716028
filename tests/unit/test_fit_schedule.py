"""Steps and validation runs of a fit: a table worked out by hand, and what must hold for every recipe."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodbench.config.catalogue import load_catalogue
from moodbench.data.examples import subsample
from moodbench.spec.fit_schedule import MIN_VALIDATION_TEXTS, TRAINING_COST, Steps, schedule_of, steps_of

DEFAULTS = load_catalogue().training.train.model_copy(
    update={"epochs": 2, "effective_batch_size": 32, "evaluations_per_epoch": 4, "max_evaluation_steps": 500,
            "min_steps": 0, "max_steps": None, "validation_share": 0.2}
)  # fmt: skip


def recipe(**changes):
    return DEFAULTS.model_copy(update=changes)


# A fifth of the time is 2.5 x 0.2 / 0.8 = 0.625 validation texts per training text.
BY_HAND = [
    # changes, training texts, validation texts -> batch, steps, looks, texts per look, texts of the last score
    # 20 texts allow 12, but 100 are the least
    ({}, 10, 200, 32, 2, (2,), 100, 100),
    # 2 steps an epoch of 8 and 2, 30 epochs of 10 texts: 187 validation texts
    ({"min_steps": 60}, 10, 200, 8, 60, (60,), 187, 187),
    # of a small split four whole looks, and the last score is one of them
    ({"min_steps": 60}, 10, 40, 8, 60, (15, 30, 45, 60), 40, 40),
    # 12 epochs and a half of 64 texts: 500, of which 200 are for the last score
    ({"min_steps": 100}, 64, 200, 8, 100, (34, 67, 100), 100, 200),
    ({}, 64, 200, 32, 4, (4,), 100, 100),
    # 768 texts: 480, 150 for the last score, 330 for the 3 of 12 looks for which that is enough
    ({"epochs": 3}, 256, 150, 32, 24, (8, 16, 24), 110, 150),
    # 8 steps an epoch: no smaller batch
    ({"min_steps": 10}, 256, 40, 32, 16, (2, 4, 6, 8, 10, 12, 14, 16), 40, 40),
    # 1200 texts: 750, 200 for the last score, 550 for 5 looks
    ({}, 600, 200, 32, 38, (8, 16, 23, 31, 38), 110, 200),
    # an epoch of 19 steps and one of the next: 632 texts, 395, too few for two looks and the last score
    ({"max_steps": 20}, 600, 200, 32, 20, (20,), 200, 200),
    # 1500 texts: 937
    ({"epochs": 1, "evaluations_per_epoch": 1}, 1500, 1008, 32, 47, (47,), 937, 937),
    # 3000 texts: 1875, 1008 for the last score, 867 for 8 looks
    ({}, 1500, 1008, 32, 94, (12, 24, 36, 47, 59, 71, 83, 94), 108, 1008),
    # the whole split would leave 175 for looks: one half each
    ({}, 1500, 1700, 32, 94, (12, 24, 36, 47, 59, 71, 83, 94), 117, 937),
    ({"validation_share": 1}, 1500, 1700, 32, 94, (12, 24, 36, 47, 59, 71, 83, 94), 1700, 1700),
    ({"validation_share": 0}, 1500, 1700, 32, 94, (94,), 100, 100),
    # 14100 texts: 8812, enough for 8 x 1008
    ({}, 7050, 1008, 32, 442, (56, 111, 166, 221, 277, 332, 387, 442), 1008, 1008),
    # 12 looks, one in 37 steps: 8812 - 1008 = 7804 for them
    ({"max_evaluation_steps": 40, "epochs": 2.0}, 7050, 1008, 32, 442,
     (37, 74, 111, 148, 185, 221, 258, 295, 332, 369, 406, 442), 650, 1008),
]  # fmt: skip


@pytest.mark.parametrize(
    (
        "changes",
        "num_train",
        "num_validation",
        "batch_size",
        "num_steps",
        "validations",
        "validation_size",
        "final_size",
    ),
    BY_HAND,
)
def test_schedules_by_hand(
    changes, num_train, num_validation, batch_size, num_steps, validations, validation_size, final_size
):
    found = schedule_of(recipe(**changes), num_train, num_validation)
    assert (found.batch_size, found.num_steps) == (batch_size, num_steps)
    assert (found.validation_steps, found.validation_size, found.final_size) == (
        validations,
        validation_size,
        final_size,
    )


@pytest.mark.parametrize(
    ("num_train", "effective", "batch_size"),
    [
        (57, 32, 8),  # 8 steps of 8
        (56, 32, 8),  # 7 steps, but no batch is smaller
        (112, 32, 8),
        (113, 32, 16),  # 8 steps of 16, the last of one text
        (224, 32, 16),
        (225, 32, 32),
        (225, 64, 32),
        (10_000, 64, 64),
        (100, 12, 12),  # 9 steps
        (80, 12, 8),
        (4, 4, 4),
        (4, 1, 1),
    ],
)
def test_batches_are_smaller_where_an_epoch_would_have_fewer_than_eight_steps(num_train, effective, batch_size):
    train = recipe(effective_batch_size=effective, min_steps=1)
    assert steps_of(train, num_train).batch_size == batch_size
    assert steps_of(recipe(effective_batch_size=effective), num_train).batch_size == effective


def test_texts_are_counted_as_they_are_processed_with_the_short_last_batch_of_an_epoch():
    steps = Steps(num_train=10, batch_size=4, num_steps=7)
    assert [steps.texts_at(n) for n in range(8)] == [0, 4, 8, 10, 14, 18, 20, 24]
    assert (steps.steps_per_epoch, steps.epochs, steps.num_texts) == (3, 7 / 3, 24)


recipes = st.builds(
    recipe,
    epochs=st.floats(0.1, 20),
    effective_batch_size=st.sampled_from([1, 4, 8, 12, 32, 128]),
    evaluations_per_epoch=st.integers(1, 20),
    max_evaluation_steps=st.integers(1, 500),
    min_steps=st.integers(0, 300),
    max_steps=st.none() | st.integers(300, 1000),
    validation_share=st.floats(0, 1),
)


@given(recipes, st.integers(1, 20_000), st.integers(0, 20_000))
def test_what_every_schedule_keeps(train, num_train, num_validation):
    found = schedule_of(train, num_train, num_validation)
    assert found.num_steps >= train.min_steps and found.num_steps <= (train.max_steps or found.num_steps)
    assert found.batch_size <= train.effective_batch_size
    assert list(found.validation_steps) == sorted(set(found.validation_steps))
    assert found.validation_steps[0] >= 1 and found.validation_steps[-1] == found.num_steps
    least = min(MIN_VALIDATION_TEXTS, num_validation)
    assert least <= found.validation_size <= found.final_size <= num_validation
    if found.num_validation_texts > least:
        time = found.num_validation_texts + TRAINING_COST * found.num_texts
        assert found.num_validation_texts <= train.validation_share * time * (1 + 1e-9)


@given(recipes, st.integers(1, 20_000), st.integers(1, 5000))
def test_the_budget_only_reduces_the_wishes(train, num_train, num_validation):
    none, some, unlimited = (
        schedule_of(train.model_copy(update={"validation_share": share}), num_train, num_validation)
        for share in (0.0, 0.3, 1.0)
    )
    assert none.num_steps == some.num_steps == unlimited.num_steps
    assert 1 == len(none.validation_steps) <= len(some.validation_steps) <= len(unlimited.validation_steps)
    assert none.validation_size == none.final_size == min(MIN_VALIDATION_TEXTS, num_validation)
    assert unlimited.validation_size == unlimited.final_size == num_validation


def test_the_part_seen_by_looks_has_the_classes_of_the_split_and_is_in_any_larger_part():
    rows = pd.DataFrame({"example_id": [f"{n:04}" for n in range(1000)], "label": [0] * 700 + [1] * 200 + [2] * 100})
    part, larger = (subsample(rows, size, 3) for size in (110, 400))
    assert part["label"].value_counts().tolist() == [77, 22, 11]
    assert set(part["example_id"]) < set(larger["example_id"])
    assert subsample(rows.sample(frac=1, random_state=1), 110, 3)["example_id"].isin(part["example_id"]).all()
    assert set(subsample(rows, 110, 4)["example_id"]) != set(part["example_id"])
