"""Whether a run finds the disk and memory it needs on this machine, before it starts rather than in its middle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import psutil

from moodbench.benchmark.estimating import class_here
from moodbench.config import load_catalogue
from moodbench.config.schema import DeviceClass
from moodbench.data.source import load_source
from moodbench.errors import PrerequisiteError
from moodbench.estimate import DataSize, Estimator, Shape, TrialEstimate, shape_of_config
from moodbench.estimate.placement import options_for
from moodbench.hardware import Device, Hardware
from moodbench.models.locate import config_of, locate, source_of
from moodbench.plan import Plan, PlannedTrial
from moodbench.spec import ResolvedDataset, ResolvedModel
from moodbench.store import Store
from moodbench.store.location import LocalLocation

SPARE_DISK_BYTES = 100 * 2**20
"""Left for the log, failures and other programs."""
TRANSFORMER_DISK_BYTES = 64 * 2**20
"""Adapter, head and tokenizer of a fit, with its checkpoints while it is under way."""
BASELINE_DISK_BYTES_PER_TEXT = 2 * 2**10
"""A vocabulary grows no faster than the texts."""
ROW_BYTES = 100
"""Of a prediction or a timing, before compression."""


def check_room(plan: Plan, store: Store, machine: Hardware) -> None:
    """Nothing; PrerequisiteError when what is missing of `plan` needs more disk or memory than there is here."""
    datasets = {planned.trial.fit.dataset.revision: planned.trial.fit.dataset for planned in plan.trials}
    sizes = {revision: _size_of(data) for revision, data in datasets.items()}
    if isinstance(store.location, LocalLocation):
        _check_disk(plan, sizes, store.location.root)
    _check_memory(plan.trials, sizes, machine)


def disk_bytes(planned: PlannedTrial, size: DataSize) -> int:
    """At most so many bytes are written for what `planned` lacks."""
    fit, measure = planned.trial.fit, planned.trial.measure
    needed = 0
    if "fit" in planned.missing:
        baseline = fit.model.method == "baseline"
        needed += BASELINE_DISK_BYTES_PER_TEXT * size.num_train if baseline else TRANSFORMER_DISK_BYTES
    if "evaluate" in planned.missing:
        needed += (size.num_test + size.num_validation) * (ROW_BYTES + 4 * len(fit.dataset.labels))
    if "measure" in planned.missing:
        needed += 3 * measure.protocol.processes * measure.protocol.requests * ROW_BYTES
    return needed


def _check_disk(plan: Plan, sizes: dict[str, DataSize], root: Path) -> None:
    needed = SPARE_DISK_BYTES + sum(disk_bytes(p, sizes[p.trial.fit.dataset.revision]) for p in plan.trials)
    free = shutil.disk_usage(next(p for p in (root, *root.parents) if p.exists())).free
    if needed > free:
        raise PrerequisiteError(
            f"--store {root}: the {plan.num_phases_missing} missing phases may write {_gib(needed)}, its disk has "
            f"{_gib(free)} free; free some, give a folder on another disk with --store, or ask for fewer models"
        )


def _check_memory(trials: Sequence[PlannedTrial], sizes: dict[str, DataSize], machine: Hardware) -> None:
    """Raises for the first fit that alone needs more than its device holds, or on the CPU more than is free."""
    free = psutil.virtual_memory().available
    classes: dict[Device, DeviceClass] = {}
    shapes: dict[str, Shape | None] = {}
    for planned in trials:
        fit, measure = planned.trial.fit, planned.trial.measure
        if "fit" not in planned.missing:
            continue
        if fit.model.method != "baseline":
            if fit.model.name not in shapes:
                shapes[fit.model.name] = _shape_of(fit.model)
            if shapes[fit.model.name] is None:
                continue  # a kind of model whose shape nobody has written down
        if measure.device not in classes:
            classes[measure.device] = class_here(machine, measure.device, load_catalogue())
        device = classes[measure.device]
        known = {name: shape for name, shape in shapes.items() if shape is not None}
        estimator = Estimator(known, {fit.dataset.name: sizes[fit.dataset.revision]})
        asked, changed = (
            estimator.trial(fit, device, measure.protocol, batch_size=1, may_change=may) for may in (False, True)
        )
        if measure.device != "cpu":
            if asked.reason:
                raise PrerequisiteError(
                    f"{planned.trial.label} on {device.description}: {asked.reason}; {_remedy(changed)}"
                )
        elif asked.fit.memory_bytes > free:
            smaller = (
                f"; or train with a max_device_batch_size below {fit.train.max_device_batch_size}" if fit.train else ""
            )
            raise PrerequisiteError(
                f"{planned.trial.label}: fitting needs about {_gib(asked.fit.memory_bytes)} of memory, {_gib(free)} of "
                f"{_gib(machine.memory_bytes)} are free; end other programs, leave the model out{smaller}"
            )


def _remedy(changed: TrialEstimate) -> str:
    """What makes the fit possible on the same device, or where else to look."""
    if changed.reason or changed.placement is None:
        return "leave the model out, or see with `moodbench plan --device-class` which device holds it"
    return f"it fits with {options_for(changed.placement)}"


def _shape_of(model: ResolvedModel) -> Shape | None:
    """The shape that config.json states, of a hub model that in the hub's cache; None for an unknown kind of model."""
    if model.source == "hub":
        config = json.loads((locate(model.name, source_of(model)).folder / "config.json").read_text("utf-8"))
    else:
        config = config_of(model.name, source_of(model))
    try:
        return None if config is None else shape_of_config(config)
    except KeyError:
        return None


def _size_of(data: ResolvedDataset) -> DataSize:
    frame = load_source(data.name, data).examples.frame
    counted = frame["split"].value_counts()
    words = frame["text"].str.count(r"\s+") + 1
    return DataSize(
        int(counted.get("train", 0)),
        int(counted.get("validation", 0)),
        int(counted.get("test", 0)),
        float(words.mean()),
        float(words.max()),
        len(data.labels),
    )


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
