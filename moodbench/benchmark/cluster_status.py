"""The nodes of a cluster as a table: class, tags, what each has, what uses it now, and which models fit there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moodbench.config.cluster import ClusterFile
from moodbench.execution.ray_cluster import RayNode
from moodbench.schedule.resources import GIB
from moodbench.store import Store


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
    """False: a measurement there holds a placement group instead."""
    role: str
    """head (offers no processors) or worker."""
    fits: tuple[str, ...]
    """Models whose recorded fits would have had memory enough here."""
    too_big: tuple[str, ...]


def status(nodes: Mapping[str, RayNode], rules: ClusterFile, peaks: Mapping[str, int]) -> list[NodeRow]:
    """A row for each node, by name; `peaks` is the most memory that a fit of each model was seen to use, in bytes."""
    return [_row(node, rules, peaks) for node in sorted(nodes.values(), key=lambda node: (node.name, node.id))]


def recorded_peaks(store: Store) -> dict[str, int]:
    """The largest peak memory of the fits of each model in `store`, in bytes."""
    fits = store.records("fits")
    known = fits[fits["train_peak_memory_bytes"].notna()]
    return {str(model): int(peak) for model, peak in known.groupby("model")["train_peak_memory_bytes"].max().items()}


def _row(node: RayNode, rules: ClusterFile, peaks: Mapping[str, int]) -> NodeRow:
    kind = rules.class_of(dict(node.labels))
    rule = rules.devices.get(kind)
    memory = node.resources.get("memory", 0.0)
    worker = node.resources.get("CPU", 0) > 0
    return NodeRow(
        name=node.name,
        address=node.address,
        kind=kind,
        tags=rule.tags if rule else (),
        num_cpus=node.resources.get("CPU", 0.0),
        memory_bytes=memory,
        num_gpus=node.resources.get("GPU", 0.0),
        gpu_memory_bytes=rule.gpu_memory_gib * GIB if rule and rule.gpu_memory_gib else None,
        price_per_hour=rule.price_per_hour if rule else None,
        exclusive=node.leasable,
        role="worker" if worker else "head",
        fits=tuple(sorted(model for model, peak in peaks.items() if worker and peak <= memory)),
        too_big=tuple(sorted(model for model, peak in peaks.items() if worker and peak > memory)),
    )


def cells(rows: Sequence[NodeRow]) -> list[list[str]]:
    """The rows as text."""
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
            _fitting(row),
        ]
        for row in rows
    ]


def _gpus(row: NodeRow) -> str:
    if not row.num_gpus:
        return "—"
    return f"{row.num_gpus:g}" + (f" x {row.gpu_memory_bytes / GIB:g} GiB" if row.gpu_memory_bytes else "")


def _fitting(row: NodeRow) -> str:
    if row.role == "head":
        return "leads only"
    if not row.fits and not row.too_big:
        return "no recorded fit to judge by"
    return (", ".join(row.fits) or "none") + (f"; too big: {', '.join(row.too_big)}" if row.too_big else "")
