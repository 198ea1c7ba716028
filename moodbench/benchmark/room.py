"""Whether a run finds the disk and memory it needs on this machine, before it starts rather than in its middle."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import psutil

from moodbench.benchmark.estimating import class_here
from moodbench.config.schema import DeviceClass
from moodbench.data.source import load_source
from moodbench.errors import PrerequisiteError
from moodbench.estimate import DataSize, Estimator, shape_of_config
from moodbench.hardware import Hardware
from moodbench.models.encoder import source_of
from moodbench.models.locate import config_of
from moodbench.plan import Plan, PlannedTrial
from moodbench.spec import ResolvedDataset
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
    """Raises for the first fit on the CPU that alone needs more than is free; what a GPU holds is `plan`'s to say."""
    free = psutil.virtual_memory().available
    here: DeviceClass | None = None
    for planned in trials:
        fit, measure = planned.trial.fit, planned.trial.measure
        if "fit" not in planned.missing or measure.device != "cpu":
            continue
        shapes = {}
        if fit.model.method != "baseline":
            config = config_of(fit.model.name, source_of(fit.model))
            if config is None:
                continue
            try:
                shapes[fit.model.name] = shape_of_config(config)
            except KeyError:
                continue  # a kind of model whose shape nobody has written down
        if here is None:
            here = class_here_cpu(machine)
        estimator = Estimator(shapes, {fit.dataset.name: sizes[fit.dataset.revision]})
        needed = estimator.trial(fit, here, measure.protocol, batch_size=1).fit.memory_bytes
        if needed > free:
            smaller = (
                f"; or train with a max_device_batch_size below {fit.train.max_device_batch_size}" if fit.train else ""
            )
            raise PrerequisiteError(
                f"{planned.trial.label}: fitting needs about {_gib(needed)} of memory, {_gib(free)} of "
                f"{_gib(machine.memory_bytes)} are free; end other programs, leave the model out{smaller}"
            )


def class_here_cpu(machine: Hardware) -> DeviceClass:
    """The processors of this machine as a class of devices."""
    from moodbench.config import load_catalogue

    return class_here(machine, "cpu", load_catalogue())


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
