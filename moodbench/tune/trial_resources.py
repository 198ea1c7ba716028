"""Placement of a search: the nodes that train its configurations, and the resources of each Ray Tune trial."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moodbench.benchmark.estimates import class_here, estimator_of, machine_of
from moodbench.benchmark.target import ClusterTarget
from moodbench.config import Catalogue
from moodbench.config.cluster import Deadlines
from moodbench.config.schema import DeviceClass, MeasureProtocol
from moodbench.config.search_space import Configuration
from moodbench.data.loader import Sources
from moodbench.errors import PrerequisiteError
from moodbench.estimate import Estimator, PhaseEstimate
from moodbench.estimate.memory import USABLE, gpu_share
from moodbench.hardware import GIB, Hardware, free_memory_bytes
from moodbench.runtime.forkserver import fork_server
from moodbench.runtime.process import environment_of
from moodbench.runtime.ray_cluster import EXCLUSIVE, SLIVER
from moodbench.runtime.ray_local import start_ray
from moodbench.spec import FitSpec
from moodbench.store import Store
from moodbench.store.location import LocalLocation
from moodbench.tune.search import Search

NODE = "ray.io/node-id"


@dataclass(frozen=True)
class TrialNode:
    """A node that can train configurations."""

    id: str | None
    """Ray's id of the node; None for this machine without a cluster, which needs no label."""
    kind: DeviceClass
    memory_bytes: float
    num_cpus: float
    num_gpus: int = 0
    leasable: bool = False
    """Whether it has the resource `exclusive`, which keeps measurements alone on a node."""
    machine: str = ""
    """Key of the machines whose times are comparable with its own; see `machine_of`."""


@dataclass(frozen=True)
class TrialResources:
    """Callable that returns the placement group of a trial: the resources to reserve, and the nodes it may run on.

    Ray Tune gets it as a callable, so that each trial of a search requests its own resources.
    """

    search: Search
    nodes: tuple[TrialNode, ...]
    estimator: Estimator
    protocol: MeasureProtocol
    batch_size: int

    def __call__(self, config: Configuration) -> Any:
        """Return the placement group of a trial."""
        from ray.tune import PlacementGroupFactory

        bundle, nodes = self.of(config)
        if nodes is None:
            return PlacementGroupFactory([bundle])
        label = nodes[0] if len(nodes) == 1 else f"in({','.join(nodes)})"
        return PlacementGroupFactory([bundle], bundle_label_selector=[{NODE: label}])

    def of(self, config: Configuration) -> tuple[dict[str, float], list[str] | None]:
        """Return the resources of the trial's bundle and the ids of the nodes it fits on.

        The ids are None if there is only this machine.
        """
        spec = self.search.fit(config)
        eligible = [(node, needs) for node in self.nodes if (needs := self.needs(spec, node)) is not None]
        if not eligible:  # by estimate it fits nowhere: the largest node may try, with nothing beside it
            largest = max(self.nodes, key=lambda node: node.memory_bytes)
            gpu = {"GPU": 1.0} if self.search.device == "cuda" else {}
            eligible = [(largest, {"CPU": 1.0, "memory": float(largest.memory_bytes), **gpu})]
        names = {name for _, needs in eligible for name in needs}
        bundle = {name: max(needs.get(name, 0.0) for _, needs in eligible) for name in sorted(names)}
        if all(node.leasable for node, _ in eligible):
            bundle[EXCLUSIVE] = SLIVER
        ids = [node.id for node, _ in eligible if node.id is not None]
        return bundle, ids or None

    def needs(self, spec: FitSpec, node: TrialNode) -> dict[str, float] | None:
        """Return the resources that a fit needs on a node; None if they exceed the node's."""
        if self.search.device == "cuda" and not node.num_gpus:
            return None
        needs = {"CPU": 1.0} | ({"GPU": 1.0} if self.search.device == "cuda" else {})
        if not self.estimator.knows(spec):
            return needs
        found = self.estimate(spec, node)
        if found.memory_bytes > node.memory_bytes:
            return None
        if self.search.device == "cuda":
            share = gpu_share(found.gpu_memory_bytes, node.kind)
            if share > 1:
                return None
            needs["GPU"] = max(share, 0.01)
        return needs | {"memory": float(found.memory_bytes)}

    def estimate(self, spec: FitSpec, node: TrialNode, *, machine: str = "") -> PhaseEstimate:
        """Return the estimate of one training on a node.

        `machine` is the key under which past trainings are looked up; without it, they are not used.
        """
        return self.estimator.trial(spec, node.kind, self.protocol, batch_size=self.batch_size, machine=machine).fit

    def trainings(self, spec: FitSpec, seconds: float) -> float | None:
        """Estimate how many trainings like `spec` all nodes together finish in `seconds`; None if a size is unknown.

        Trainings that share a node share its time, so a node counts once, or once per GPU.
        """
        if not self.estimator.knows(spec):
            return None
        return sum(
            max(1, min(node.num_gpus, int(node.num_cpus)))
            * seconds
            / self.estimate(spec, node, machine=node.machine).seconds
            for node in self.nodes
            if self.needs(spec, node) is not None
        )


@dataclass(frozen=True)
class Placement:
    """Where a search runs: on this machine or on a cluster."""

    resources: TrialResources
    max_concurrent: int
    """Maximum number of concurrent trials; memory may allow fewer."""
    deadline_s: float | None
    """Time limit of one configuration; None for no limit."""
    shared: bool
    """Whether it is a cluster that this process is connected to; otherwise Ray is started on this machine."""

    @contextmanager
    def ray(self) -> Iterator[None]:
        """Keep Ray running inside the context."""
        if self.shared:
            yield
            return
        (node,) = self.resources.nodes
        with fork_server("moodbench.worker", environment_of(1)):  # first, so that Ray's workers know its address
            ray = start_ray(int(node.num_cpus), memory_bytes=int(node.memory_bytes))
            try:
                yield
            finally:
                ray.shutdown()

    def storage(self, store: Store, folder: Path) -> str:
        """Return the folder for Tune's own files.

        On a cluster every node can access it, as the preflight check ensures for the store.
        """
        if self.shared and not isinstance(store.location, LocalLocation):
            return f"{store.uri.rstrip('/')}/staging/{folder.name}"
        return str(folder)


def local_placement(search: Search, catalogue: Catalogue, machine: Hardware, store: Store) -> Placement:
    """Return the placement of a search on this machine.

    Raises: PrerequisiteError if, by estimate, the recipe itself does not fit on it.
    """
    kind = class_here(machine, search.device, catalogue)
    free = USABLE["cpu"] * free_memory_bytes()
    gpus = len(machine.gpus) if search.device == "cuda" else 0
    key = machine_of(machine, search.device)
    node = TrialNode(None, kind, free, machine.num_cores, gpus, machine=key)
    resources = _resources(search, (node,), catalogue, store)
    max_concurrent = 1 if search.device == "mps" else machine.num_cores
    return Placement(resources, max(1, max_concurrent), _deadline_s(resources, Deadlines()), shared=False)


def cluster_placement(search: Search, catalogue: Catalogue, target: ClusterTarget, store: Store) -> Placement:
    """Return the placement of a search on the nodes of a cluster that passed their preflight check.

    Raises: PrerequisiteError if, by estimate, the recipe itself fits on none of them.
    """
    unleased = set(target.without_lease())
    nodes = tuple(
        TrialNode(
            node.id,
            class_here(
                target.machine_of(node.id), search.device if search.device in node.devices else "cpu", catalogue
            ),
            USABLE["cpu"] * node.memory_bytes,
            node.num_cpus,
            node.num_gpus,
            node.name not in unleased,
            machine_of(target.machine_of(node.id), search.device),
        )
        for node in target.nodes()
    )
    resources = _resources(search, nodes, catalogue, store)
    max_concurrent = int(sum(node.num_cpus for node in nodes))
    return Placement(resources, max(1, max_concurrent), _deadline_s(resources, target.deadlines), shared=True)


def _resources(search: Search, nodes: tuple[TrialNode, ...], catalogue: Catalogue, store: Store) -> TrialResources:
    resources = TrialResources(
        search,
        nodes,
        estimator_of([search.base], catalogue, store, Sources()),
        catalogue.protocol(None),
        catalogue.evaluation.prediction_batch_size,
    )
    if all(resources.needs(search.base, node) is None for node in nodes):
        most = max(node.memory_bytes for node in nodes) / GIB
        raise PrerequisiteError(
            f"{search.base.model.name}: not enough memory for a fit by estimate; the most that is free "
            f"{'on a node' if nodes[0].id else 'here'} is {most:.1f} GiB. End other programs, search a smaller model, "
            "or reduce the batches with --train max_device_batch_size=N"
        )
    return resources


def _deadline_s(resources: TrialResources, deadlines: Deadlines) -> float | None:
    """Return the deadline of the longest training on the slowest node; None if it cannot be estimated."""
    search = resources.search
    train = search.base.train
    if train is None or not resources.estimator.knows(search.base):
        return None
    longest = train.model_copy(update={"epochs": search.longest_epochs})
    fit = search.base.model_copy(update={"train": longest})
    return deadlines.of(max(resources.estimate(fit, node).seconds for node in resources.nodes))
