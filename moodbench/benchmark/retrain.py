"""Which fits of a store were not trained enough, and the trials that train them longer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from moodbench.config.schema import TrainDefaults
from moodbench.spec import FitSpec, TrialSpec
from moodbench.spec.fit_schedule import steps_of
from moodbench.spec.resolved import fit_ids
from moodbench.training.verdict import NOT_ENOUGH, TrainingVerdict, suggested_epochs, worst_training_verdict

MAX_EPOCHS = 1000
"""The most that TrainDefaults.epochs allows."""


@dataclass(frozen=True)
class Undertrained:
    """A model whose latest fits on a data set, with the recipe asked for but for its epochs, were not all trained enough."""

    model: str
    dataset: str
    seeds: tuple[int, ...]
    """Those of the fits that were not."""
    verdict: TrainingVerdict
    """The worst of them."""
    num_steps: int
    """Optimiser steps of the longest of them."""
    epochs: float
    """Their epochs."""
    suggested: TrainDefaults | None
    """Their training with the epochs proposed; None where no number of epochs that is allowed is more."""


def longer(train: TrainDefaults, num_train: int, num_steps: int) -> TrainDefaults | None:
    """Return the training of a fit that took `num_steps` steps on `num_train` texts with the epochs suggested for it.

    A lower `max_steps` is raised with them. None where MAX_EPOCHS give no more steps than the fit was to take.
    """
    planned = steps_of(train, num_train)
    epochs = min(suggested_epochs(num_steps, planned.steps_per_epoch, train.epochs), MAX_EPOCHS)
    most = None if train.max_steps is None else max(train.max_steps, epochs * planned.steps_per_epoch)
    made = train.model_copy(update={"epochs": float(epochs), "max_steps": most})
    return made if steps_of(made, num_train).num_steps > planned.num_steps else None


def longer_of(record: Mapping[Any, Any]) -> TrainDefaults | None:
    """Return `longer` of a fit's record; None for one without a gradient fit."""
    train = json.loads(record["spec"]).get("train") if isinstance(record["spec"], str) else None
    if train is None or pd.isna(record["num_steps"]):
        return None
    return longer(TrainDefaults.model_validate(train), int(record["num_train"]), int(record["num_steps"]))


def undertrained(trials: Sequence[TrialSpec], fits: pd.DataFrame) -> list[Undertrained]:
    """Return the models of `trials` that need more training, by the latest of the `fits` of each, in the order of `trials`.

    Fits count that differ from the trial in epochs, `min_steps` and `max_steps` only; the latest one speaks for its seed.
    """
    gradient = [trial.fit for trial in trials if trial.fit.train is not None]
    latest = _latest(fits[fits["model"].isin({fit.model.name for fit in gradient})]) if gradient else {}
    found = []
    for (model, dataset), group in groupby(gradient, key=lambda fit: (fit.model.name, fit.dataset.name)):
        known = {fit.seeds.init: latest.get(_without_epochs(fit.model_dump(mode="json"))) for fit in group}
        short = {s: r for s, r in known.items() if r is not None and r["training_verdict"] in NOT_ENOUGH}
        if not short:
            continue
        verdict = worst_training_verdict([record["training_verdict"] for record in short.values()])
        assert verdict is not None
        proposed = [train for record in short.values() if (train := longer_of(record)) is not None]
        found.append(
            Undertrained(
                model=model,
                dataset=dataset,
                seeds=tuple(short),
                verdict=verdict,
                num_steps=max(int(record["num_steps"]) for record in short.values()),
                epochs=max(float(json.loads(record["spec"])["train"]["epochs"]) for record in short.values()),
                suggested=max(proposed, key=lambda train: train.epochs, default=None),
            )
        )
    return found


def retrained(trials: Sequence[TrialSpec], found: Sequence[Undertrained]) -> list[TrialSpec]:
    """Return the trials of the models in `found` that can be trained longer, all seeds, with the epochs suggested, or their
    own where those are more."""
    wanted = {(each.model, each.dataset): each.suggested for each in found if each.suggested is not None}
    made = []
    for trial in trials:
        train, suggested = trial.fit.train, wanted.get((trial.fit.model.name, trial.fit.dataset.name))
        if train is None or suggested is None:
            continue
        limits = [limit for limit in (train.max_steps, suggested.max_steps) if limit is not None]
        most = max(limits) if len(limits) == 2 else None
        epochs = max(train.epochs, suggested.epochs)
        # min_steps sets the batch size of few texts, on which the number of epochs rests.
        changes = {"epochs": epochs, "min_steps": suggested.min_steps, "max_steps": most}
        made.append(_with_fit(trial, trial.fit.model_copy(update={"train": train.model_copy(update=changes)})))
    return made


def _with_fit(trial: TrialSpec, fit: FitSpec) -> TrialSpec:
    return TrialSpec(
        fit=fit,
        evaluate=trial.evaluate.model_copy(update={"fit": fit}),
        measure=trial.measure.model_copy(update={"fit": fit}),
    )


def _latest(fits: pd.DataFrame) -> dict[str, dict[Any, Any]]:
    """The newest gradient fit of each recipe and seed, whatever its epochs."""
    found: dict[str, dict[Any, Any]] = {}
    for record in fits[fits["status"] == "ok"].sort_values("ended_at").to_dict("records"):
        spec = json.loads(record["spec"]) if isinstance(record["spec"], str) else {}
        if spec.get("train"):
            found[_without_epochs(spec)] = record
    return found


def _without_epochs(spec: Mapping[str, Any]) -> str:
    """The fit_id of a spec as if it had no length of its own: the same for fits that differ in epochs and limits of steps only."""
    return fit_ids({**spec, "train": {**spec["train"], "epochs": 0, "min_steps": 0, "max_steps": None}})[1]
