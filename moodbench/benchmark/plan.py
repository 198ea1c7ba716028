"""Plan of a request: its trials, as far as they can be resolved here, and the phases that still lack a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from moodbench.benchmark.recipe import FitDevice, RequestedModel, check_changes
from moodbench.benchmark.resolve import (
    dataset_names,
    entries_of,
    fits_of,
    resolve_dataset,
    resolve_model,
    trial_of,
)
from moodbench.config import Catalogue
from moodbench.config.schema import DatasetEntry, ModelEntry, NumberFormat
from moodbench.data.loader import Sources
from moodbench.data.own import kaggle_cache_folder
from moodbench.errors import PrerequisiteError
from moodbench.hardware import Hardware
from moodbench.hub import hub_cache_folder, no_network
from moodbench.models.predictor import deployed_dtype
from moodbench.spec import BenchmarkSpec, FitSpec, ResolvedDataset, ResolvedModel, TrialSpec
from moodbench.spec.fit_schedule import TRAINING_COST, num_trained_on, steps_of
from moodbench.spec.job import PhaseName
from moodbench.store import Store
from moodbench.store.schema import RECORDS

NOT_LOOKED_UP = "unknown"
"""Revision of a dataset that is not on this machine."""
PHASES: tuple[PhaseName, ...] = ("fit", "evaluate", "measure")
"""In order: each phase needs the output of those before it."""


@dataclass(frozen=True)
class PlannedTrial:
    """A trial and its phases that have no record yet."""

    trial: TrialSpec
    missing: tuple[PhaseName, ...]


@dataclass(frozen=True)
class Plan:
    """The trials that remain, longest fits first, and the number of phases that are already done."""

    trials: tuple[PlannedTrial, ...]
    num_phases_done: int
    requested: tuple[TrialSpec, ...] = ()
    """All trials of the request in its order, those that are complete too."""

    @property
    def num_phases_missing(self) -> int:
        """Number of phases without a record."""
        return sum(len(t.missing) for t in self.trials)


def make_plan(trials: Sequence[TrialSpec], stored: Mapping[str, Set[str]], until: PhaseName = "measure") -> Plan:
    """Return the plan for `trials` up to the phase `until`, given the `stored` ids of each kind of record.

    The kinds are fits, evaluations and measurements.
    """
    wanted = PHASES[: PHASES.index(until) + 1]
    planned, done = [], 0
    for trial in trials:
        has: dict[PhaseName, bool] = {
            "fit": trial.fit.fit_id in stored["fits"],
            "evaluate": trial.evaluate.evaluation_id in stored["evaluations"],
            "measure": trial.measure.measurement_id in stored["measurements"],
        }
        missing = tuple(name for name in wanted if not has[name])
        done += len(wanted) - len(missing)
        if missing:
            planned.append(PlannedTrial(trial, missing))
    planned.sort(key=lambda p: -relative_work(p.trial.fit))
    return Plan(tuple(planned), done, tuple(trials))


def relative_work(fit: FitSpec) -> float:
    """Return the cost of a fit relative to others, in arbitrary units, for ordering only.

    The cost is layers x forward passes over the training texts, where an epoch of training counts as TRAINING_COST
    passes. A transformer whose depth the spec does not limit counts as 12 layers. Where the spec does not limit the
    training texts, limits on steps are ignored, because the number of epochs they amount to is unknown.
    """
    if fit.model.method == "baseline":
        return 0.0
    layers = fit.model.num_hidden_layers or 12
    if fit.train is None:
        return float(layers)
    num_train = fit.dataset.max_train_examples
    epochs = steps_of(fit.train, num_trained_on(fit, num_train)).epochs if num_train else fit.train.epochs
    return layers * TRAINING_COST * epochs


def plan_of(trials: Sequence[TrialSpec], store: Store, until: PhaseName = "measure") -> Plan:
    """Return the plan of what `store` lacks of `trials`, up to the phase `until`.

    Records are read, because the name of a file alone does not show that it is complete.

    Raises: StoreError if a record cannot be read.
    """
    stored = {kind: set(store.records(kind)[column]) for kind, (_, column) in RECORDS.items()}
    return make_plan(trials, stored, until)


@dataclass(frozen=True)
class Intended:
    """One trial of a request."""

    fit: FitSpec
    """Complete, or with unknown digests where model or data are not on this machine."""
    trial: TrialSpec | None
    """The trial with its ids; None where these cannot be known yet."""
    absent: str
    """Files that this machine lacks; empty if none."""
    dtype: NumberFormat
    """Number format in which weights that are not quantised are evaluated and measured."""


def intended_trials(
    spec: BenchmarkSpec, catalogue: Catalogue, machine: Hardware, device: FitDevice, sources: Sources
) -> list[Intended]:
    """Return the trials of `spec` as they would run on `device`, even if models or data are not on this machine.

    `catalogue` includes the user's own data of `spec`. Nothing is downloaded or converted.

    Raises: UnknownNameError, SpecError or DataError if anything else is wrong with the request.
    """
    check_changes(spec, catalogue)
    models = [_model(name, entry) for name, entry in entries_of(spec, catalogue).items()]
    datasets = [_dataset(name, catalogue.dataset(name), spec, sources) for name in dataset_names(spec)]
    absent_of_model = {model.name: absent for model, absent in models}
    absent_of_dataset = {dataset.name: absent for dataset, absent in datasets}
    protocol, batch_size = catalogue.protocol(spec.protocol), catalogue.evaluation.prediction_batch_size
    found = []
    for fit in fits_of(spec, catalogue, [d for d, _ in datasets], [m for m, _ in models], device):
        absent = "; ".join(filter(None, (absent_of_model[fit.model.name], absent_of_dataset[fit.dataset.name])))
        known = device.name in machine.devices and not absent
        dtype = deployed_dtype(fit, device.name, spec.inference_dtype)  # raises for quantised weights, absent ones too
        trial = trial_of(fit, device.name, machine, protocol, batch_size, spec.inference_dtype) if known else None
        found.append(Intended(fit, trial, absent, dtype))
    return found


def _model(name: str, entry: ModelEntry) -> tuple[RequestedModel, str]:
    """Return the model, and what is missing of it."""
    hub = entry.source.hub if entry.source is not None else None
    if hub is None or hub_cache_folder(hub, "model").is_dir():
        try:
            with no_network():
                return resolve_model(name, entry, convert=False), ""
        except PrerequisiteError:
            pass
    layers = entry.num_hidden_layers
    resolved = ResolvedModel(name=name, method=entry.method, family=entry.family, num_hidden_layers=layers)
    return RequestedModel(resolved, entry), f"model {name}"


def _dataset(name: str, entry: DatasetEntry, spec: BenchmarkSpec, sources: Sources) -> tuple[ResolvedDataset, str]:
    """Return the dataset, and what is missing of it."""
    downloaded = entry.hub is not None or (entry.file is not None and entry.file.kaggle is not None)
    if not downloaded:
        return resolve_dataset(name, entry, spec, sources), ""
    if _cache_of(entry).is_dir():
        try:
            with no_network():
                return resolve_dataset(name, entry, spec, sources), ""
        except PrerequisiteError:
            pass
    unknown = ResolvedDataset(
        name=name,
        revision=NOT_LOOKED_UP,
        labels=entry.class_names,
        neutral_band=0.0,
        max_train_examples=spec.max_train_examples,
        max_validation_examples=spec.max_validation_examples,
        train_fingerprint=NOT_LOOKED_UP,
        validation_fingerprint=NOT_LOOKED_UP,
        test_fingerprint=NOT_LOOKED_UP,
    )
    return unknown, f"dataset {name}"


def _cache_of(entry: DatasetEntry) -> Path:
    """Return the cache folder of a downloaded dataset, without the libraries that take seconds to import."""
    if entry.hub is not None:
        return hub_cache_folder(entry.hub.id, "dataset")
    assert entry.file is not None and entry.file.kaggle is not None
    return kaggle_cache_folder(entry.file.kaggle)
