"""Table of the nodes of a cluster: class, tags, resources, price, isolation, and which models fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moodbench.benchmark.what_fits import Verdict, WhatFits
from moodbench.config.cluster import ClusterFile
from moodbench.runtime.ray_cluster import RayNode
from moodbench.schedule import Node
from moodbench.schedule.resources import GIB


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
    models: tuple[Verdict, ...]
    """One verdict per catalogue model of known size; empty for a head that offers no CPUs."""

    @property
    def num_fitting(self) -> int:
        """Number of models that fit with the settings of the catalogue."""
        return sum(each.fits for each in self.models)


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
    said: dict[tuple[tuple[Verdict, ...], str], list[str]] = {}
    for row in rows:
        if row.models:
            unknown = row.kind if row.num_gpus and not row.gpu_memory_bytes else ""
            said.setdefault((row.models, unknown), []).append(row.name)
    found = []
    for (models, unknown), names in said.items():
        fitting = [each.model for each in models if each.fits]
        found.append(f"{', '.join(names)}: {', '.join(fitting) or 'no model'}")
        if unknown:
            found.append(
                f"  if a GPU holds it: how much memory those of class {unknown} have is not known; "
                "give gpu_memory_gib in the --cluster file"
            )
        for each in models:
            if not each.fits:
                way = f"; with {each.options} it fits" if each.options else ""
                found.append(f"  not {each.model}: {each.reason}{way}")
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
            _fitting(row),
        ]
        for row in rows
    ]


def _gpus(row: NodeRow) -> str:
    if not row.num_gpus:
        return "—"
    return f"{row.num_gpus:g}" + (f" x {row.gpu_memory_bytes / GIB:g} GiB" if row.gpu_memory_bytes else "")


def _fitting(row: NodeRow) -> str:
    return "leads only" if row.role == "head" else f"{row.num_fitting} of {len(row.models)}"
