"""Estimates for a request, as far as its trials can be resolved here, on this machine or on device classes."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from moodbench.benchmark.resolve import (
    check_changes,
    device_of,
    entry_of,
    recipe_of,
    resolve_dataset,
    resolve_model,
    trial_of,
)
from moodbench.config import Catalogue
from moodbench.config.schema import DatasetEntry, DeviceClass, ModelEntry
from moodbench.data.source import load_source
from moodbench.errors import PrerequisiteError
from moodbench.estimate import DataSize, Estimator, History, Shape, TrialEstimate, shape_of_config, shape_of_size
from moodbench.estimate.history import Observation
from moodbench.hardware import Device, Gpu, Hardware
from moodbench.models.locate import config_of, locate
from moodbench.plan import Plan, make_plan
from moodbench.spec import (
    BASELINE_OF_SCORE,
    BenchmarkSpec,
    FitSpec,
    ResolvedDataset,
    ResolvedModel,
    SeedSpec,
    TrialSpec,
)
from moodbench.spec.job import PhaseName
from moodbench.store import Store

HERE = "this machine"
NOT_LOOKED_UP = "unknown"
CORE_TFLOPS, CORE_BANDWIDTH_GB_S = 0.1, 12.0
"""TFLOP/s of one core with AVX2 or NEON, and its share of the memory bandwidth in GB/s."""
CPU_BF16_GAIN = 2.0
"""Training speed in bf16 relative to fp32 on a processor with bf16 instructions.

Measured on one core with AVX-512 BF16: matrix products alone are 4 times as fast, a whole training step of SmolLM2-135M
2.2 times.
"""
MEAN_WORDS = 150.0
"""Mean words per text if a dataset states no length; rather too high than too low."""
NUM_WORD_SAMPLES = 2000
TWO_LABELS = ("negative", "positive")
"""Labels assumed for datasets whose labels are not known before they are fetched."""


@dataclass(frozen=True)
class Intended:
    """One trial of a request."""

    fit: FitSpec
    """Complete, or with unknown digests where model or data are not on this machine."""
    trial: TrialSpec | None
    """The trial with its ids; None where these cannot be known yet."""
    absent: str
    """Files that this machine lacks; empty if none."""


def intended_trials(
    spec: BenchmarkSpec,
    catalogue: Catalogue,
    machine: Hardware,
    device: Device,
    *,
    bf16_in_hardware: bool | None = None,
) -> list[Intended]:
    """Return the trials of `spec` as they would run on `device`, even if models or data are not on this machine.

    `catalogue` includes the user's own data of `spec`. `bf16_in_hardware` says whether `device` has bf16 arithmetic;
    None takes the answer from `machine`.

    Raises: UnknownNameError, SpecError or DataError if anything else is wrong with the request.
    """
    check_changes(spec, catalogue)
    names = spec.models if BASELINE_OF_SCORE in spec.models else (BASELINE_OF_SCORE, *spec.models)
    entries = {name: entry_of(name, catalogue, spec) for name in names}
    models = {name: _model(name, entry) for name, entry in entries.items()}
    datasets = {name: _dataset(name, catalogue.dataset(name), spec) for name in _names_of_data(spec)}
    protocol = catalogue.protocol(spec.protocol)
    here = device in machine.devices
    found = []
    for dataset, no_data in datasets.values():
        for name, (model, folder, no_model) in models.items():
            entry = entries[name]
            where = device_of(entry.method, device)
            bf16 = machine.multiplies_bf16(where) if bf16_in_hardware is None else bf16_in_hardware
            labels = dataset.labels or TWO_LABELS
            recipe = recipe_of(name, entry, catalogue, spec, where, labels, folder, bf16_in_hardware=bf16)
            absent = "; ".join(filter(None, (no_model, no_data)))
            for seed in spec.seeds:
                seeds = SeedSpec(init=seed, data_order=seed, subsample=seed)
                fit = FitSpec(model=model, dataset=dataset, seeds=seeds, **recipe)
                whole = here and not absent
                batch_size = catalogue.evaluation.prediction_batch_size
                trial = trial_of(fit, where, machine, protocol, batch_size) if whole else None
                found.append(Intended(fit, trial, absent))
    return found


def _names_of_data(spec: BenchmarkSpec) -> tuple[str, ...]:
    return spec.datasets if spec.own is None else (spec.own[0], *spec.datasets)


def plan_of(intended: Iterable[Intended], store: Store) -> Plan:
    """Return the plan of what has no record in `store`, for the trials whose ids are known."""
    stored = {kind: store.ids(kind) for kind in ("fits", "evaluations", "measurements")}
    return make_plan([each.trial for each in intended if each.trial is not None], stored)


def estimator_of(fits: Iterable[FitSpec], catalogue: Catalogue, store: Store) -> Estimator:
    """Return an estimator for `fits` whose durations are corrected by the history in `store`."""
    models = {fit.model.name for fit in fits}
    sizes = {fit.dataset.name: size for fit in fits if (size := size_of(fit.dataset, catalogue)) is not None}
    shapes = {name: shape for name in models if (shape := shape_of(name, catalogue)) is not None}
    plain = Estimator(shapes, sizes)
    return Estimator(shapes, sizes, history_of(store, plain, catalogue))


def shape_of(name: str, catalogue: Catalogue) -> Shape | None:
    """Return the shape of a catalogue model by its entry or its local config.json; None without either."""
    entry = catalogue.models.get(name)
    if entry is None or entry.source is None or entry.family is None:
        return None
    if entry.size is not None:
        return shape_of_size(entry.size, entry.family, catalogue.families[entry.family])
    config = config_of(name, entry.source)
    if config is None:
        return None
    try:
        return shape_of_config(config)
    except KeyError:
        return None


def size_of(dataset: ResolvedDataset, catalogue: Catalogue) -> DataSize | None:
    """Return the rows and words of a dataset; None if unknown.

    They are counted if the dataset is on this machine, otherwise as published.
    """
    if dataset.revision != NOT_LOOKED_UP:
        frame = load_source(dataset.name, dataset).examples.frame
        counted = frame["split"].value_counts()
        words = [len(text.split()) for text in frame["text"].head(NUM_WORD_SAMPLES)]
        return DataSize(
            int(counted.get("train", 0)),
            int(counted.get("validation", 0)),
            int(counted.get("test", 0)),
            sum(words) / len(words),
            float(max(words)),
            len(dataset.labels),
        )
    entry = catalogue.datasets[dataset.name]
    rows = entry.expected_rows
    if rows is None:
        return None
    num_labels = max(2, len(dataset.labels or entry.class_names))
    return DataSize(rows["train"], rows["validation"], rows["test"], entry.mean_words or MEAN_WORDS, None, num_labels)


def class_here(machine: Hardware, device: Device, catalogue: Catalogue) -> DeviceClass:
    """Return this machine as a device class.

    A CUDA device gets the figures of the catalogue class that matches its name, otherwise of the class nearest in
    memory. An Apple GPU gets those of the first `mps` class. A CPU gets conservative figures for its number of cores.
    """
    gib = machine.memory_bytes / 2**30
    cores: dict[str, Any] = {"num_cpus": machine.num_cores, "memory_gib": gib}
    if device == "cuda" and machine.gpus:
        gpu = machine.gpus[0]
        near = _class_of_gpu(gpu, catalogue)
        return near.model_copy(update={**cores, "description": gpu.name, "gpu_memory_gib": gpu.memory_bytes / 2**30})
    if device == "mps":
        known = next(each for each in catalogue.devices.values() if each.device == "mps")
        return known.model_copy(update={**cores, "description": machine.cpu})
    tflops = CORE_TFLOPS * machine.num_cores
    return DeviceClass(
        description=machine.device_name("cpu"),
        device="cpu",
        tflops={"fp32": tflops, "bf16": tflops * (CPU_BF16_GAIN if machine.cpu_bf16 else 0.5)},
        bandwidth_gb_s=CORE_BANDWIDTH_GB_S * machine.num_cores,
        efficiency=0.4,
        source="cores of this machine",
        **cores,
    )


def _class_of_gpu(gpu: Gpu, catalogue: Catalogue) -> DeviceClass:
    classes = [each for each in catalogue.devices.values() if each.device == "cuda"]
    for each in classes:
        if any(re.search(pattern, gpu.name) for pattern in each.gpu_names):
            return each
    gib = gpu.memory_bytes / 2**30
    return min(classes, key=lambda each: abs((each.gpu_memory_gib or math.inf) - gib))


def estimate(
    each: Intended, estimator: Estimator, device: DeviceClass, catalogue: Catalogue, spec: BenchmarkSpec, machine: str
) -> TrialEstimate | None:
    """Return what one trial needs on `device`, adapted to it where possible; None if a size is unknown."""
    if not estimator.knows(each.fit):
        return None
    return estimator.trial(
        each.fit,
        device,
        catalogue.protocol(spec.protocol),
        batch_size=catalogue.evaluation.prediction_batch_size,
        machine=machine,
        may_change=True,
    )


def estimates_of(
    plan: Plan, catalogue: Catalogue, store: Store, machines: Iterable[Hardware]
) -> dict[str, dict[str, TrialEstimate]]:
    """Return what each trial of `plan` needs on each kind of machine, without adapting it to the machine.

    Keyed by `machine_key`, then by fit id. Trials of unknown size, or without a device on the machine, are left out.
    """
    trials = [planned.trial for planned in plan.trials]
    estimator = estimator_of([trial.fit for trial in trials], catalogue, store)
    return {
        machine.machine_key: {
            trial.fit.fit_id: estimator.trial(
                trial.fit,
                class_here(machine, trial.measure.device, catalogue),
                trial.measure.protocol,
                batch_size=trial.evaluate.batch_size,
                machine=machine_of(asdict(machine), trial.measure.device),
            )
            for trial in trials
            if estimator.knows(trial.fit) and trial.measure.device in machine.devices
        }
        for machine in machines
    }


def machine_of(hardware: Mapping[str, Any], device: str) -> str:
    """Return the key under which durations are comparable: the kind of processor and the device."""
    gpus = hardware.get("gpus") or [{"name": ""}]
    return f"{hardware.get('cpu')} x {hardware.get('num_cores')} {gpus[0]['name'] if device == 'cuda' else device}"


def history_of(store: Store, estimator: Estimator, catalogue: Catalogue) -> History:
    """Return the observed durations of stored phases beside their estimates.

    Only models and datasets that `estimator` knows are included.
    """
    fits = store.records("fits")
    fits = fits[fits["status"] == "ok"] if len(fits) else fits
    specs = {row["fit_id"]: spec for row in fits.to_dict("records") if (spec := _spec_of(row)) is not None}
    found: list[Observation] = []
    for kind, phase in (("fits", "fit"), ("evaluations", "evaluate"), ("measurements", "measure")):
        frame = fits if kind == "fits" else store.records(kind)
        for row in frame.to_dict("records"):
            spec = specs.get(row["fit_id"])
            if spec is not None and isinstance(row["environment"], str) and estimator.knows(spec):
                found.append(_observation(phase, row, spec, estimator, catalogue))  # type: ignore[arg-type]
    return History.of(found)


def _observation(
    phase: PhaseName, row: Mapping[Any, Any], spec: FitSpec, estimator: Estimator, catalogue: Catalogue
) -> Observation:
    environment = json.loads(row["environment"])
    hardware = dict(environment["hardware"])
    device = environment.get("device", "cpu")
    then = Hardware(**{**hardware, "gpus": tuple(Gpu(**gpu) for gpu in hardware.get("gpus", ()))})
    protocol = catalogue.protocol(None)
    if phase == "measure":
        protocol = type(protocol).model_validate(json.loads(row["protocol"]))
    estimated = estimator.trial(
        spec,
        class_here(then, device, catalogue),
        protocol,
        batch_size=catalogue.evaluation.prediction_batch_size,
    ).phase(phase)
    model = spec.model
    family = model.family or ""
    return Observation(
        phase, machine_of(hardware, device), model.method, family, model.name, estimated.work_s, _seconds(row)
    )


def _seconds(row: Mapping[Any, Any]) -> float:
    """Return the duration of a phase; for a measurement that took turns with others, the sum of its turns."""
    turns = row.get("turns")
    if turns is not None and len(turns):
        return float(sum(pd.Timedelta(turn["ended_at"] - turn["started_at"]).total_seconds() for turn in turns))
    return float(pd.Timedelta(row["ended_at"] - row["started_at"]).total_seconds())


def _spec_of(row: Mapping[Any, Any]) -> FitSpec | None:
    """Return the fit spec of a record; None if another version of the program wrote it with other fields."""
    try:
        return FitSpec.model_validate_json(row["spec"])
    except ValidationError:
        return None


def _model(name: str, entry: ModelEntry) -> tuple[ResolvedModel, Path | None, str]:
    """Return the model, the folder of its files if there is one here, and what is missing."""
    absent = ResolvedModel(
        name=name, method=entry.method, family=entry.family, num_hidden_layers=entry.num_hidden_layers
    )
    hub = entry.source.hub if entry.source is not None else None
    if hub is not None and not _hub_cache("models", hub).is_dir():
        return absent, None, f"model {name}"
    try:
        with _no_network():
            folder = locate(name, entry.source).folder if entry.source is not None else None
            return resolve_model(name, entry), folder, ""
    except PrerequisiteError:
        return absent, None, f"model {name}"


def _dataset(name: str, entry: DatasetEntry, spec: BenchmarkSpec) -> tuple[ResolvedDataset, str]:
    fetched = entry.hub is not None or (entry.file is not None and entry.file.kaggle is not None)
    if not fetched or _is_cached(entry):
        try:
            with _no_network():
                return resolve_dataset(name, entry, spec), ""
        except PrerequisiteError:
            if not fetched:
                raise
    made = ResolvedDataset(
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
    return made, f"dataset {name}"


def _is_cached(entry: DatasetEntry) -> bool:
    """Return whether anything of the source is in its cache.

    Checks the file system directly, because the libraries take seconds to import.
    """
    if entry.hub is not None:
        return _hub_cache("datasets", entry.hub.id).is_dir()
    assert entry.file is not None and entry.file.kaggle is not None
    root = Path(os.environ.get("KAGGLEHUB_CACHE") or "~/.cache/kagglehub").expanduser()
    return (root / "datasets" / entry.file.kaggle).is_dir()


def _hub_cache(kind: str, repository: str) -> Path:
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    root = Path(os.environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()
    return root / f"{kind}--{repository.replace('/', '--')}"


@contextmanager
def _no_network() -> Iterator[None]:
    """Use only cached files, so that planning downloads nothing."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


def classes_asked(names: Sequence[str], catalogue: Catalogue) -> dict[str, DeviceClass]:
    """Return the device classes of these names.

    Raises: UnknownNameError, which suggests the nearest name.
    """
    return {name: catalogue.device_class(name) for name in names}
