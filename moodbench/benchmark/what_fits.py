"""Catalogue models that a cluster node can fine-tune, by the same estimates and rules as a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from moodbench.benchmark.estimating import intended_trials, shape_of
from moodbench.config import Catalogue
from moodbench.config.schema import DeviceClass
from moodbench.estimate import DataSize, Estimator, TrialEstimate
from moodbench.estimate.placement import options_for
from moodbench.hardware import Hardware
from moodbench.schedule import Need, Node
from moodbench.spec import BenchmarkSpec, FitSpec

MANY_TEXTS = DataSize(25_000, 2_500, 25_000, mean_words=250.0)
"""A large dataset with texts longer than any model reads."""
CORE_TFLOPS, CORE_BANDWIDTH_GB_S = 0.1, 6.0


@dataclass(frozen=True)
class Verdict:
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
        self._fits: dict[tuple[str, bool], list[FitSpec]] = {}

    def on(self, node: Node, device: DeviceClass | None) -> list[Verdict]:
        """Return a verdict for each model on `node`; `device` is its class, None if unknown."""
        device = self._class_of(node, device)
        return [self._verdict(fit, node, device) for fit in self._fits_on(device) if self._estimator.knows(fit)]

    def _verdict(self, fit: FitSpec, node: Node, device: DeviceClass) -> Verdict:
        asked, changed = (self._estimate(fit, device, may_change=may) for may in (False, True))
        need = _need(asked, "cpu" if fit.model.method == "baseline" else device.device)
        lacks = need.lacks(node)
        if lacks is None:
            return Verdict(fit.model.name, True)
        options = ""
        if not changed.reason and changed.placement is not None and _need(changed, device.device).lacks(node) is None:
            options = options_for(changed.placement)
        return Verdict(fit.model.name, False, f"needs {need.text()}, and the node {lacks}", options)

    def _estimate(self, fit: FitSpec, device: DeviceClass, *, may_change: bool) -> TrialEstimate:
        protocol, batch_size = self._catalogue.protocol(None), self._catalogue.evaluation.prediction_batch_size
        return self._estimator.trial(fit, device, protocol, batch_size=batch_size, may_change=may_change)

    def _fits_on(self, device: DeviceClass) -> Sequence[FitSpec]:
        bf16 = "bf16" in device.tflops
        key = (device.device, bf16)
        if key not in self._fits:
            spec = BenchmarkSpec(models=tuple(self._catalogue.models), datasets=(self._data,), seeds=(0,))
            intended = intended_trials(spec, self._catalogue, self._machine, device.device, bf16_in_hardware=bf16)
            self._fits[key] = [each.fit for each in intended]
        return self._fits[key]

    def _class_of(self, node: Node, device: DeviceClass | None) -> DeviceClass:
        """Return a device class with the CPUs and memory of the node; its speed does not matter here."""
        num_cpus, gib = max(1, int(node.num_cpus)), node.memory_bytes / 2**30
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
    parts = (estimate.fit, estimate.evaluate, estimate.measure)
    need = Need(1, memory_bytes=max(part.memory_bytes for part in parts), device=device)
    if device != "cuda":
        return need
    most = max(part.gpu_memory_bytes for part in parts)
    return replace(need, gpu_memory_bytes=most, gpu_fixed_bytes=estimate.fit.gpu_fixed_bytes)
