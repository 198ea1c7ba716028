"""Placement of a search: the nodes that train its configurations, and the resources of each Ray Tune trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from moodbench.benchmark.cluster_target import ClusterTarget
from moodbench.benchmark.estimating import class_here, estimator_of, machine_of
from moodbench.benchmark.target import Deadlines
from moodbench.config import Catalogue
from moodbench.config.schema import DeviceClass, MeasureProtocol
from moodbench.errors import PrerequisiteError
from moodbench.estimate import Estimator, PhaseEstimate
from moodbench.estimate.placement import USABLE, gpu_share
from moodbench.hardware import Device, Hardware
from moodbench.runtime.ray_cluster import EXCLUSIVE, SLIVER
from moodbench.runtime.ray_local import start_ray
from moodbench.spec import FitSpec
from moodbench.store import Store
from moodbench.store.location import LocalLocation
from moodbench.tune.request import SearchRequest
from moodbench.tune.searcher import members_of
from moodbench.tune.trainable import Sent

NODE = "ray.io/node-id"


@dataclass(frozen=True)
class Room:
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
class Bundles:
    """Callable that returns the placement group of a trial: the resources to reserve, and the nodes it may run on.

    Ray Tune gets it as a callable, so that each trial of a search requests its own resources.
    """

    fit_of: Callable[[Mapping[str, Any]], FitSpec]
    rooms: tuple[Room, ...]
    device: Device
    estimator: Estimator
    protocol: MeasureProtocol
    batch_size: int

    def __call__(self, config: Mapping[str, Any]) -> Any:
        """Return the placement group of a trial."""
        from ray.tune import PlacementGroupFactory

        bundle, nodes = self.of(config)
        if nodes is None:
            return PlacementGroupFactory([bundle])
        label = nodes[0] if len(nodes) == 1 else f"in({','.join(nodes)})"
        return PlacementGroupFactory([bundle], bundle_label_selector=[{NODE: label}])

    def of(self, config: Mapping[str, Any]) -> tuple[dict[str, float], list[str] | None]:
        """Return the resources of the trial's bundle and the ids of the nodes it fits on.

        The ids are None if there is only this machine.
        """
        specs = [self.fit_of(each) for each in members_of(config)]
        suiting = [(room, needs) for room in self.rooms if (needs := self.needs(specs, room)) is not None]
        if not suiting:  # by estimate it fits nowhere: the largest node may try, with nothing beside it
            largest = max(self.rooms, key=lambda room: room.memory_bytes)
            gpu = {"GPU": 1.0} if self.device == "cuda" else {}
            suiting = [(largest, {"CPU": 1.0, "memory": float(largest.memory_bytes), **gpu})]
        names = {name for _, needs in suiting for name in needs}
        bundle = {name: max(needs.get(name, 0.0) for _, needs in suiting) for name in sorted(names)}
        if all(room.leasable for room, _ in suiting):
            bundle[EXCLUSIVE] = SLIVER
        ids = [room.id for room, _ in suiting if room.id is not None]
        return bundle, ids or None

    def needs(self, specs: Sequence[FitSpec], room: Room) -> dict[str, float] | None:
        """Return the resources that fits in one shared process need on a node; None if they exceed the node's."""
        if self.device == "cuda" and not room.num_gpus:
            return None
        needs = {"CPU": 1.0} | ({"GPU": 1.0} if self.device == "cuda" else {})
        if not all(self.estimator.knows(spec) for spec in specs):
            return needs
        found = [self.estimate(spec, room) for spec in specs]
        memory = sum(each.memory_bytes for each in found)
        if memory > room.memory_bytes:
            return None
        if self.device == "cuda":
            share = gpu_share(sum(each.gpu_memory_bytes for each in found), room.kind)
            if share > 1:
                return None
            needs["GPU"] = max(share, 0.01)
        return needs | {"memory": float(memory)}

    def estimate(self, spec: FitSpec, room: Room, *, machine: str = "") -> PhaseEstimate:
        """Return the estimate of one training on a node.

        `machine` is the key under which past trainings are looked up; without it, they are not used.
        """
        return self.estimator.trial(spec, room.kind, self.protocol, batch_size=self.batch_size, machine=machine).fit

    def trainings(self, spec: FitSpec, seconds: float) -> float | None:
        """Estimate how many trainings like `spec` all nodes together finish in `seconds`; None if a size is unknown.

        Trainings that share a node share its time, so a node counts once, or once per GPU.
        """
        if not self.estimator.knows(spec):
            return None
        return sum(
            max(1, min(room.num_gpus, int(room.num_cpus)))
            * seconds
            / self.estimate(spec, room, machine=room.machine).seconds
            for room in self.rooms
            if self.needs([spec], room) is not None
        )


@dataclass(frozen=True)
class Place:
    """Where a search runs: on this machine or on a cluster."""

    bundles: Bundles
    num_slots: int
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
        (room,) = self.bundles.rooms
        ray = start_ray(int(room.num_cpus), memory_bytes=int(room.memory_bytes))
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


def local_place(request: SearchRequest, catalogue: Catalogue, machine: Hardware, store: Store) -> Place:
    """Return the place of a search on this machine.

    Raises:
        PrerequisiteError: If, by estimate, the recipe itself does not fit on it.
    """
    kind = class_here(machine, request.device, catalogue)
    free = USABLE["cpu"] * psutil.virtual_memory().available
    gpus = len(machine.gpus) if request.device == "cuda" else 0
    key = machine_of(asdict(machine), request.device)
    room = Room(None, kind, free, machine.num_cores, gpus, machine=key)
    slots = 1 if request.device == "mps" else machine.num_cores
    return _place(request, (room,), catalogue, store, Deadlines(), slots, shared=False)


def cluster_place(request: SearchRequest, catalogue: Catalogue, target: ClusterTarget, store: Store) -> Place:
    """Return the place of a search on the nodes of a cluster that passed their preflight check.

    Raises:
        PrerequisiteError: If, by estimate, the recipe itself fits on none of them.
    """
    unleased = set(target.without_lease())
    nodes = target.nodes()
    rooms = tuple(
        Room(
            node.id,
            class_here(
                target.machine_of(node.id), request.device if request.device in node.devices else "cpu", catalogue
            ),
            USABLE["cpu"] * node.memory_bytes,
            node.num_cpus,
            node.num_gpus,
            node.name not in unleased,
            machine_of(asdict(target.machine_of(node.id)), request.device),
        )
        for node in nodes
    )
    slots = int(sum(node.num_cpus for node in nodes))
    return _place(request, rooms, catalogue, store, target.deadlines, slots, shared=True)


def _place(
    request: SearchRequest,
    rooms: tuple[Room, ...],
    catalogue: Catalogue,
    store: Store,
    deadlines: Deadlines,
    slots: int,
    *,
    shared: bool,
) -> Place:
    estimator = estimator_of([request.base], catalogue, store)
    bundles = Bundles(
        Sent.of(request, store, None).fit,
        rooms,
        request.device,
        estimator,
        catalogue.protocol(None),
        catalogue.evaluation.prediction_batch_size,
    )
    if all(bundles.needs([request.base], room) is None for room in rooms):
        whole = max(room.memory_bytes for room in rooms) / 2**30
        raise PrerequisiteError(
            f"{request.base.model.name}: by estimate a fit has no room {'on any node' if shared else 'here'}: "
            f"{whole:.1f} GiB of memory are free at most; end other programs, search a smaller model, or give smaller "
            "steps with --train max_device_batch_size=N"
        )
    return Place(bundles, max(1, slots), _deadline_s(request, bundles, deadlines), shared)


def _deadline_s(request: SearchRequest, bundles: Bundles, deadlines: Deadlines) -> float | None:
    """Return the deadline of the longest training on the slowest node; None if it cannot be estimated."""
    train = request.base.train
    if train is None or not bundles.estimator.knows(request.base):
        return None
    longest = train.model_copy(update={"epochs": request.longest_epochs})
    fit = request.base.model_copy(update={"train": longest})
    return deadlines.of(max(bundles.estimate(fit, room).seconds for room in bundles.rooms))
