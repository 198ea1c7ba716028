"""Estimates of what trials need, on this machine or on device classes, corrected by the history of a store."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from pydantic import ValidationError

from moodbench.benchmark.plan import NOT_LOOKED_UP, Plan
from moodbench.config import Catalogue
from moodbench.config.schema import DeviceClass
from moodbench.data.examples import SPLITS, Examples
from moodbench.data.loader import Sources
from moodbench.estimate import DataSize, Estimator, History, Shape, TrialEstimate, shape_of_config, shape_of_size
from moodbench.estimate.estimator import Observation
from moodbench.hardware import GIB, Device, Gpu, Hardware
from moodbench.models.locate import config_of
from moodbench.spec import FitSpec, ResolvedDataset
from moodbench.spec.job import KIND_OF_PHASE, PhaseName
from moodbench.store import Store

CORE_TFLOPS, CORE_BANDWIDTH_GB_S = 0.1, 12.0
"""TFLOP/s of one core with AVX2 or NEON, and its share of the memory bandwidth in GB/s."""
CPU_BF16_GAIN = 2.0
"""Training speed in bf16 relative to fp32 on a processor with bf16 instructions.

Measured on one core with AVX-512 BF16: matrix products alone are 4 times as fast, a whole training step of SmolLM2-135M
2.2 times.
"""
MEAN_WORDS = 150.0
"""Mean words per text if a dataset states no length; rather too high than too low."""


def estimator_of(fits: Iterable[FitSpec], catalogue: Catalogue, store: Store, sources: Sources) -> Estimator:
    """Return an estimator for `fits` whose durations are corrected by the history in `store`."""
    models = {fit.model.name for fit in fits}
    sizes = {fit.dataset.name: size for fit in fits if (size := size_of(fit.dataset, catalogue, sources)) is not None}
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
    return known_shape(config_of(name, entry.source))


def known_shape(config: Mapping[str, Any] | None) -> Shape | None:
    """Return the shape that a config.json states; None without one, or for an unknown kind of model."""
    try:
        return None if config is None else shape_of_config(config)
    except KeyError:
        return None


def size_of(dataset: ResolvedDataset, catalogue: Catalogue, sources: Sources) -> DataSize | None:
    """Return the rows and words of a dataset; None if unknown.

    They are counted if the dataset is on this machine, otherwise as published.
    """
    if dataset.revision != NOT_LOOKED_UP:
        return counted_size(sources.load(dataset.name, dataset))
    entry = catalogue.datasets[dataset.name]
    rows = entry.expected_rows
    if rows is None:
        return None
    num_labels = max(2, len(dataset.labels or entry.class_names))
    return DataSize(rows["train"], rows["validation"], rows["test"], entry.mean_words or MEAN_WORDS, None, num_labels)


def counted_size(examples: Examples) -> DataSize:
    """Return the rows of each split, and the words of all texts, separated by white space."""
    counts = examples.frame["split"].value_counts()
    num_words = [len(text.split()) for text in examples.frame["text"]]
    train, validation, test = (int(counts.get(split, 0)) for split in SPLITS)
    mean_words = sum(num_words) / len(num_words)
    return DataSize(train, validation, test, mean_words, float(max(num_words)), len(examples.labels))


def class_here(machine: Hardware, device: Device, catalogue: Catalogue) -> DeviceClass:
    """Return this machine as a device class.

    A CUDA device gets the figures of the catalogue class that matches its name, otherwise of the class nearest in
    memory. An Apple GPU gets those of the first `mps` class. A CPU gets conservative figures for its number of cores.
    """
    gib = machine.memory_bytes / GIB
    cores: dict[str, Any] = {"num_cpus": machine.num_cores, "memory_gib": gib}
    if device == "cuda" and machine.gpus:
        gpu = machine.gpus[0]
        near = _class_of_gpu(gpu, catalogue)
        return near.model_copy(update={**cores, "description": gpu.name, "gpu_memory_gib": gpu.memory_bytes / GIB})
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
    gib = gpu.memory_bytes / GIB
    return min(classes, key=lambda each: abs((each.gpu_memory_gib or math.inf) - gib))


def estimates_of(
    plan: Plan, catalogue: Catalogue, store: Store, machines: Iterable[Hardware], sources: Sources
) -> dict[str, dict[str, TrialEstimate]]:
    """Return what each trial of `plan` needs on each kind of machine, without adapting it to the machine.

    Keyed by `machine_key`, then by fit id. Trials of unknown size, or without a device on the machine, are left out.
    """
    trials = [planned.trial for planned in plan.trials]
    estimator = estimator_of([trial.fit for trial in trials], catalogue, store, sources)
    return {
        machine.machine_key: {
            trial.fit.fit_id: estimator.trial(
                trial.fit,
                class_here(machine, trial.measure.device, catalogue),
                trial.measure.protocol,
                batch_size=trial.evaluate.batch_size,
                machine=machine_of(machine, trial.measure.device),
                inference_dtype=trial.measure.dtype,
            )
            for trial in trials
            if estimator.knows(trial.fit) and trial.measure.device in machine.devices
        }
        for machine in machines
    }


def machine_of(machine: Hardware, device: str) -> str:
    """Return the key under which durations are comparable: the kind of processor and the device."""
    gpu = machine.gpus[0].name if machine.gpus else ""
    return f"{machine.cpu} x {machine.num_cores} {gpu if device == 'cuda' else device}"


def history_of(store: Store, estimator: Estimator, catalogue: Catalogue) -> History:
    """Return the observed durations of stored phases beside their estimates.

    Only models and datasets that `estimator` knows are included.
    """
    fits = store.records("fits")
    fits = fits[fits["status"] == "ok"] if len(fits) else fits
    specs = {row["fit_id"]: spec for row in fits.to_dict("records") if (spec := _spec_of(row)) is not None}
    found: list[Observation] = []
    for phase, kind in KIND_OF_PHASE.items():
        frame = fits if kind == "fits" else store.records(kind)
        for row in frame.to_dict("records"):
            spec = specs.get(row["fit_id"])
            if spec is not None and isinstance(row["environment"], str) and estimator.knows(spec):
                found.append(_observation(phase, row, spec, estimator, catalogue))
    return History.of(found)


def _observation(
    phase: PhaseName, row: Mapping[Any, Any], spec: FitSpec, estimator: Estimator, catalogue: Catalogue
) -> Observation:
    environment = json.loads(row["environment"])
    machine, device = Hardware.from_json(environment["hardware"]), environment.get("device", "cpu")
    protocol = catalogue.protocol(None)
    if phase == "measure":
        protocol = type(protocol).model_validate(json.loads(row["protocol"]))
    estimated = estimator.trial(
        spec,
        class_here(machine, device, catalogue),
        protocol,
        batch_size=catalogue.evaluation.prediction_batch_size,
    ).phase(phase)
    model = spec.model
    family = model.family or ""
    return Observation(
        phase, machine_of(machine, device), model.method, family, model.name, estimated.work_s, _seconds(row)
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
