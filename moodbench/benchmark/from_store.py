"""Trials of fits that a store already holds: evaluated and measured, rerun and compared, or trained longer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from pydantic import ValidationError

from moodbench.benchmark.resolve import trial_of
from moodbench.config.schema import InferenceDtype, TrainDefaults
from moodbench.errors import StoreError, UnknownNameError
from moodbench.spec import FitSpec, TrialSpec
from moodbench.spec.resolved import content_id, fit_ids
from moodbench.store import Store
from moodbench.training.outcome import NOT_ENOUGH, TrainingVerdict, longer_of, worst_training_verdict

if TYPE_CHECKING:
    from moodbench.benchmark.context import RunContext
    from moodbench.benchmark.plan import Plan


def trials_from_store(
    context: RunContext,
    specs: Sequence[FitSpec],
    *,
    protocol: str | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    inference_dtype: InferenceDtype = "auto",
) -> list[TrialSpec]:
    """Return the trials of the stored fits `specs`; nothing is resolved again, so they have the same ids."""
    machine = context.machine
    measure, batch_size = context.catalogue.protocol(protocol), context.catalogue.evaluation.prediction_batch_size
    return [trial_of(spec, machine.device(device), machine, measure, batch_size, inference_dtype) for spec in specs]


def stored_fits(
    store: Store, *, fits: Sequence[str] = (), datasets: Sequence[str] = (), seeds: Sequence[int] = ()
) -> list[FitSpec]:
    """Return the specs of the fits that `fits` (ids or model names), `datasets` and `seeds` select; empty: all.

    Raises: StoreError if there is no fit, none is selected, or another version of the program wrote the spec;
    UnknownNameError for an id or name that is not in the store.
    """
    found = store.records("fits")
    found = found[found["status"] == "ok"]
    if found.empty:
        raise StoreError(
            f"{store.uri}: has no fit yet; `moodbench train` or `moodbench run` makes one, or give --store"
        )
    chosen = _chosen(found, fits, datasets, seeds, store.uri)
    if chosen.empty:
        raise StoreError(
            f"{store.uri}: none of its {len(found)} fits matches; leave out a name, --datasets or --seeds, "
            "or make the fit with `moodbench train`"
        )
    specs = []
    for record in chosen.to_dict("records"):
        specs.append(fit_spec_of(record, store.uri))
        if specs[-1].fit_id != record["fit_id"]:
            raise _of_another_version(record, store.uri, f"its id would be {specs[-1].fit_id} now")
    return specs


def fit_spec_of(record: Mapping[Any, Any] | pd.Series[Any], uri: str) -> FitSpec:
    """Return the spec in the record of a fit.

    Raises: StoreError if another version of the program wrote it with other fields.
    """
    try:
        return FitSpec.model_validate_json(record["spec"])
    except ValidationError as error:
        raise _of_another_version(record, uri, error.errors()[0]["msg"]) from error


def _of_another_version(record: Mapping[Any, Any] | pd.Series[Any], uri: str, reason: str) -> StoreError:
    return StoreError(
        f"{uri}: the spec of fit {record['fit_id']} was written by another version of moodbench "
        f"({reason}); use that version, or fit it again"
    )


def _chosen(
    found: pd.DataFrame, fits: Sequence[str], datasets: Sequence[str], seeds: Sequence[int], uri: str
) -> pd.DataFrame:
    for name in fits:
        if not ((found["fit_id"] == name) | (found["model"] == name)).any():
            known = found["fit_id"] if re.fullmatch("[0-9a-f]{8,20}", name) else found["model"]
            raise UnknownNameError(f"fit or model in {uri}:", name, set(known))
    for name in datasets:
        if name not in set(found["dataset"]):
            raise UnknownNameError(f"dataset in {uri}:", name, set(found["dataset"]))
    if fits:
        found = found[found["fit_id"].isin(fits) | found["model"].isin(fits)]
    if datasets:
        found = found[found["dataset"].isin(datasets)]
    return found[found["seed"].isin(seeds)] if seeds else found


@dataclass(frozen=True)
class Repeat:
    """One evaluation that two stores hold under the same id; in each pair the value of the first store comes first."""

    evaluation_id: str
    model: str
    dataset: str
    seed: int
    num_texts: int
    num_flips: int
    """Number of texts whose predicted label differs."""
    max_logit_difference: float
    """Largest absolute difference between two logits; 0 if they are equal bit for bit."""
    accuracy: tuple[float, float]
    train_time_s: tuple[float, float]
    """Training time in seconds."""


def open_rerun(context: RunContext, trials: Sequence[TrialSpec]) -> tuple[RunContext, Plan]:
    """Return the context with the store for a rerun of `trials`, and the plan of what it lacks.

    The store is the newest rerun below the store of `context` that was started for exactly these trials and is
    incomplete, otherwise a new one.
    """
    ids = sorted([t.fit.fit_id, t.evaluate.evaluation_id, t.measure.measurement_id] for t in trials)
    request = content_id("rerun", ids)[:12]
    for begun in context.store.reruns(request):
        again = replace(context, store=begun)
        plan = again.plan(trials)
        if plan.trials:
            return again, plan
    again = replace(context, store=context.store.new_rerun(request))
    return again, again.plan(trials)


def compare_repeats(first: Store, again: Store) -> list[Repeat]:
    """Return one comparison per evaluation that both stores hold, sorted by dataset, model and seed."""
    shared = sorted(first.ids("evaluations") & again.ids("evaluations"))
    if not shared:
        return []
    evaluations = [_by_id(store, "evaluations", "evaluation_id") for store in (first, again)]
    fits = [_by_id(store, "fits", "fit_id") for store in (first, again)]
    repeats = []
    for id_ in shared:
        before, after = (store.predictions([id_]).set_index("example_id") for store in (first, again))
        a, b = (np.stack(frame["logits"].tolist()) for frame in (before, after.loc[before.index]))
        row, other = (by_id[id_] for by_id in evaluations)
        fit = fits[1][row["fit_id"]]
        repeats.append(
            Repeat(
                evaluation_id=id_,
                model=str(fit["model"]),
                dataset=str(fit["dataset"]),
                seed=int(fit["seed"]),
                num_texts=len(a),
                num_flips=int((a.argmax(axis=1) != b.argmax(axis=1)).sum()),
                max_logit_difference=float(np.abs(a - b).max()),
                accuracy=(float(row["accuracy"]), float(other["accuracy"])),
                train_time_s=(float(fits[0][row["fit_id"]]["train_time_s"]), float(fit["train_time_s"])),
            )
        )
    return sorted(repeats, key=lambda r: (r.dataset, r.model, r.seed))


def _by_id(store: Store, kind: str, column: str) -> dict[str, dict[str, Any]]:
    rows: Any = store.records(kind).to_dict("records")
    return {row[column]: row for row in rows}


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
        fit = trial.fit.model_copy(update={"train": train.model_copy(update=changes)})
        evaluate, measure = (
            trial.evaluate.model_copy(update={"fit": fit}),
            trial.measure.model_copy(update={"fit": fit}),
        )
        longer_trials.append(TrialSpec(fit=fit, evaluate=evaluate, measure=measure))
    return longer_trials


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
