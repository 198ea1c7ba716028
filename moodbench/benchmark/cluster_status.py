"""Table of the nodes of a cluster: class, tags, resources, price, isolation, and which models fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moodbench.benchmark.estimates import CORE_BANDWIDTH_GB_S, CORE_TFLOPS, shape_of
from moodbench.benchmark.plan import intended_trials
from moodbench.benchmark.recipe import FitDevice
from moodbench.benchmark.resolve import fit_device_of
from moodbench.benchmark.tasks import need_of
from moodbench.config import Catalogue
from moodbench.config.cluster import ClusterFile
from moodbench.config.schema import DeviceClass
from moodbench.data.loader import Sources
from moodbench.estimate import DataSize, Estimator, TrialEstimate
from moodbench.estimate.memory import options_for
from moodbench.hardware import GIB, Hardware
from moodbench.runtime.ray_cluster import RayNode
from moodbench.schedule import Need, Node
from moodbench.spec import BenchmarkSpec, FitSpec

MANY_TEXTS = DataSize(25_000, 2_500, 25_000, mean_words=250.0)
"""A large dataset with texts longer than any model reads."""


@dataclass(frozen=True)
class ModelFit:
    """Whether one model fits one node."""

    model: str
    fits: bool
    """With the settings of the catalogue."""
    reason: str = ""
    """Need of the model and supply of the node; empty if it fits."""
    options: str = ""
    """Options of a run with which it fits; empty if it fits without, or not at all."""


class WhatFits:
    """Check of the catalogue's models on any node; models of unknown size are left out."""

    def __init__(self, catalogue: Catalogue, machine: Hardware) -> None:
        self._catalogue = catalogue
        shapes = {name: shape for name in catalogue.models if (shape := shape_of(name, catalogue)) is not None}
        self._data = next(name for name, each in catalogue.datasets.items() if each.embedded)
        self._estimator = Estimator(shapes, {self._data: MANY_TEXTS})
        self._machine = machine
        self._fits: dict[FitDevice, list[FitSpec]] = {}

    def on(self, node: Node, device: DeviceClass | None) -> list[ModelFit]:
        """Return a verdict for each model on `node`; `device` is its class, None if unknown."""
        device = self._class_of(node, device)
        return [self._verdict(fit, node, device) for fit in self._fits_on(device) if self._estimator.knows(fit)]

    def _verdict(self, fit: FitSpec, node: Node, device: DeviceClass) -> ModelFit:
        protocol, batch_size = self._catalogue.protocol(None), self._catalogue.evaluation.prediction_batch_size
        as_configured, changed = (
            self._estimator.trial(fit, device, protocol, batch_size=batch_size, may_change=may) for may in (False, True)
        )
        need = _need(as_configured, "cpu" if fit.model.method == "baseline" else device.device)
        lacks = need.lacks(node)
        if lacks is None:
            return ModelFit(fit.model.name, True)
        options = ""
        if not changed.reason and changed.placement is not None and _need(changed, device.device).lacks(node) is None:
            options = options_for(changed.placement)
        return ModelFit(fit.model.name, False, f"needs {need.text()}, but the node {lacks}", options)

    def _fits_on(self, device: DeviceClass) -> Sequence[FitSpec]:
        key = fit_device_of(device)
        if key not in self._fits:
            spec = BenchmarkSpec(models=tuple(self._catalogue.models), datasets=(self._data,), seeds=(0,))
            intended = intended_trials(spec, self._catalogue, self._machine, key, Sources())
            self._fits[key] = [each.fit for each in intended]
        return self._fits[key]

    def _class_of(self, node: Node, device: DeviceClass | None) -> DeviceClass:
        """Return a device class with the CPUs and memory of the node; its speed does not matter here."""
        num_cpus, gib = max(1, int(node.num_cpus)), node.memory_bytes / GIB
        if device is None and node.num_gpus:
            device = next(each for each in self._catalogue.devices.values() if each.device == "cuda")
        if device is not None and (device.device == "cuda") == (node.num_gpus > 0):
            return device.model_copy(update={"num_cpus": num_cpus, "memory_gib": gib})
        return DeviceClass(
            description=node.name,
            device="cpu",
            tflops={"fp32": CORE_TFLOPS},
            bandwidth_gb_s=CORE_BANDWIDTH_GB_S,
            efficiency=0.4,
            source="any processor",
            num_cpus=num_cpus,
            memory_gib=gib,
        )


def _need(estimate: TrialEstimate, device: str) -> Need:
    return need_of((estimate.fit, estimate.evaluate, estimate.measure), device=device)


@dataclass(frozen=True)
class NodeRow:
    """One node."""

    name: str
    address: str
    kind: str
    tags: tuple[str, ...]
    num_cpus: float
    memory_bytes: float
    num_gpus: float
    gpu_memory_bytes: float | None
    price_per_hour: float | None
    exclusive: bool
    """Whether the node has the resource `exclusive`; otherwise a measurement there holds a placement group."""
    role: str
    """head (offers no CPUs) or worker."""
    models: tuple[ModelFit, ...]
    """One verdict per catalogue model of known size; empty for a head that offers no CPUs."""


def status(nodes: Mapping[str, RayNode], rules: ClusterFile, what_fits: WhatFits) -> list[NodeRow]:
    """Return a row for each node, sorted by name."""
    return [_row(node, rules, what_fits) for node in sorted(nodes.values(), key=lambda node: (node.name, node.id))]


def _row(node: RayNode, rules: ClusterFile, what_fits: WhatFits) -> NodeRow:
    kind = rules.class_of(dict(node.labels))
    rule = rules.devices.get(kind)
    memory = node.resources.get("memory", 0.0)
    num_gpus = node.resources.get("GPU", 0.0)
    worker = node.resources.get("CPU", 0) > 0
    vram = int(rule.gpu_memory_gib * GIB) if rule and rule.gpu_memory_gib else 0
    seen = Node(
        id=node.id,
        name=node.name,
        num_cpus=node.resources.get("CPU", 0.0),
        memory_bytes=memory,
        num_gpus=int(num_gpus),
        gpu_memory_bytes=vram,
        devices=frozenset({"cpu", "cuda"} if num_gpus else {"cpu"}),
    )
    return NodeRow(
        name=node.name,
        address=node.address,
        kind=kind,
        tags=rule.tags if rule else (),
        num_cpus=node.resources.get("CPU", 0.0),
        memory_bytes=memory,
        num_gpus=num_gpus,
        gpu_memory_bytes=vram or None,
        price_per_hour=rule.price_per_hour if rule else None,
        exclusive=node.leasable,
        role="worker" if worker else "head",
        models=tuple(what_fits.on(seen, rule)) if worker else (),
    )


def sentences(rows: Sequence[NodeRow]) -> list[str]:
    """Return lines that say which models fit where.

    For each group of alike nodes: first the models that fit, then each model that does not, with the reason.
    """
    alike: dict[tuple[tuple[ModelFit, ...], str], list[str]] = {}
    for row in rows:
        if row.models:
            unknown = row.kind if row.num_gpus and not row.gpu_memory_bytes else ""
            alike.setdefault((row.models, unknown), []).append(row.name)
    found = []
    for (models, unknown), names in alike.items():
        fitting = [each.model for each in models if each.fits]
        found.append(f"{', '.join(names)}: {', '.join(fitting) or 'no model'}")
        if unknown:
            found.append(
                f"  the GPU memory of class {unknown} is not known, so it is not checked; "
                "give gpu_memory_gib in the --cluster file"
            )
        for each in models:
            if not each.fits:
                remedy = f"; it fits with {each.options}" if each.options else ""
                found.append(f"  {each.model} does not fit: {each.reason}{remedy}")
    return found


def cells(rows: Sequence[NodeRow]) -> list[list[str]]:
    """Return the rows as text cells."""
    return [
        [
            row.name,
            row.address,
            row.kind,
            " ".join(row.tags) or "—",
            f"{row.num_cpus:g}",
            f"{row.memory_bytes / GIB:.1f}",
            _gpus(row),
            "—" if row.price_per_hour is None else f"{row.price_per_hour:g}",
            ("resource" if row.exclusive else "pg") if row.role == "worker" else "—",
            "head only" if row.role == "head" else f"{sum(each.fits for each in row.models)} of {len(row.models)}",
        ]
        for row in rows
    ]


def _gpus(row: NodeRow) -> str:
    if not row.num_gpus:
        return "—"
    return f"{row.num_gpus:g}" + (f" x {row.gpu_memory_bytes / GIB:g} GiB" if row.gpu_memory_bytes else "")
