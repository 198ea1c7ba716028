"""Fits of a store that were not trained enough, and the trials that train them longer."""

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
from moodbench.training.outcome import NOT_ENOUGH, TrainingVerdict, suggested_epochs, worst_training_verdict

MAX_EPOCHS = 1000
"""Upper limit of `TrainDefaults.epochs`."""


@dataclass(frozen=True)
class Undertrained:
    """A model and dataset whose latest fits with the requested recipe, epochs aside, were not all trained enough."""

    model: str
    dataset: str
    seeds: tuple[int, ...]
    """Seeds of the fits that were not trained enough."""
    verdict: TrainingVerdict
    """Worst verdict of these fits."""
    num_steps: int
    """Optimizer steps of the longest of these fits."""
    epochs: float
    """Largest number of epochs of these fits."""
    suggested: TrainDefaults | None
    """Training settings with the suggested epochs; None if no allowed number of epochs is larger."""


def longer(train: TrainDefaults, num_train: int, num_steps: int) -> TrainDefaults | None:
    """Return the training settings of a fit with the epochs suggested for it.

    The fit took `num_steps` steps on `num_train` texts. A lower `max_steps` is raised with the epochs. None if
    `MAX_EPOCHS` give no more steps than were planned for the fit.
    """
    planned = steps_of(train, num_train)
    epochs = min(suggested_epochs(num_steps, planned.steps_per_epoch, train.epochs), MAX_EPOCHS)
    most = None if train.max_steps is None else max(train.max_steps, epochs * planned.steps_per_epoch)
    more = train.model_copy(update={"epochs": float(epochs), "max_steps": most})
    return more if steps_of(more, num_train).num_steps > planned.num_steps else None


def longer_of(record: Mapping[Any, Any]) -> TrainDefaults | None:
    """Return `longer` of a fit's record; None if it has no gradient fit."""
    train = json.loads(record["spec"]).get("train") if isinstance(record["spec"], str) else None
    if train is None or pd.isna(record["num_steps"]):
        return None
    return longer(TrainDefaults.model_validate(train), int(record["num_train"]), int(record["num_steps"]))


def undertrained(trials: Sequence[TrialSpec], fits: pd.DataFrame) -> list[Undertrained]:
    """Return the models of `trials` that need more training, in the order of `trials`.

    A fit counts if it differs from the trial only in epochs, `min_steps` and `max_steps`; for each seed, the latest of
    these `fits` decides.
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
    """Return longer trials of the models in `found` that can have more epochs, for all seeds.

    Each has the suggested epochs, or its own if these are more.
    """
    wanted = {(each.model, each.dataset): each.suggested for each in found if each.suggested is not None}
    longer_trials = []
    for trial in trials:
        train, suggested = trial.fit.train, wanted.get((trial.fit.model.name, trial.fit.dataset.name))
        if train is None or suggested is None:
            continue
        limits = [limit for limit in (train.max_steps, suggested.max_steps) if limit is not None]
        most = max(limits) if len(limits) == 2 else None
        epochs = max(train.epochs, suggested.epochs)
        # With few texts, min_steps sets the batch size, on which the suggested number of epochs depends.
        changes = {"epochs": epochs, "min_steps": suggested.min_steps, "max_steps": most}
        longer_trials.append(_with_fit(trial, trial.fit.model_copy(update={"train": train.model_copy(update=changes)})))
    return longer_trials


def _with_fit(trial: TrialSpec, fit: FitSpec) -> TrialSpec:
    return TrialSpec(
        fit=fit,
        evaluate=trial.evaluate.model_copy(update={"fit": fit}),
        measure=trial.measure.model_copy(update={"fit": fit}),
    )


def _latest(fits: pd.DataFrame) -> dict[str, dict[Any, Any]]:
    """Return the latest gradient fit of each recipe and seed, whatever its epochs."""
    found: dict[str, dict[Any, Any]] = {}
    for record in fits[fits["status"] == "ok"].sort_values("ended_at").to_dict("records"):
        spec = json.loads(record["spec"]) if isinstance(record["spec"], str) else {}
        if spec.get("train"):
            found[_without_epochs(spec)] = record
    return found


def _without_epochs(spec: Mapping[str, Any]) -> str:
    """Return a fit id that ignores the length of training.

    It is the same for fits that differ only in epochs and step limits.
    """
    return fit_ids({**spec, "train": {**spec["train"], "epochs": 0, "min_steps": 0, "max_steps": None}})[1]
