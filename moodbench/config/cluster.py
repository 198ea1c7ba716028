"""The cluster file: device classes in addition to the catalogue's, and how a run uses their nodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from moodbench.config.catalogue import merge
from moodbench.config.schema import DeviceClass, Entry
from moodbench.config.yaml_files import load_yaml, read_yaml_text, validated
from moodbench.errors import SpecError

ACCELERATOR_LABEL = "ray.io/accelerator-type"


class Deadlines(Entry):
    """Time limits of tasks, derived from their estimated durations."""

    factor: Annotated[float, Field(gt=0)] = 10.0
    extra_s: Annotated[float, Field(ge=0)] = 900.0
    without_estimate_s: Annotated[float, Field(gt=0)] = 86_400.0

    def of(self, expected_s: float | None) -> float:
        """Return the time limit in seconds of a task with this estimated duration; None: no estimate."""
        return self.without_estimate_s if expected_s is None else self.factor * expected_s + self.extra_s


class ClusterFile(Entry):
    """Contents of the file given with `--cluster FILE`."""

    devices: dict[str, DeviceClass] = Field(default_factory=dict)
    """Device classes, merged into the catalogue's key by key as with --config; see `class_of` for their order."""
    measure_on: tuple[str, ...] = ()
    """Device classes whose nodes run measurements; empty prefers machines with a GPU, then the kind with most
    measurements in the store, then the most common kind."""
    drain_at: Annotated[int, Field(ge=1)] = 4
    """Number of waiting measurements at which a node takes no more fits until they have run."""
    node_return_s: Annotated[float, Field(ge=0)] = 300.0
    """Seconds to wait for a lost node to return if no other node can run its trials."""
    deadline: Deadlines = Deadlines()

    def class_of(self, labels: dict[str, str]) -> str:
        """Return the name of the device class of a node with these labels.

        It is the first class of which the node has all labels; classes of the cluster file come before the catalogue's.
        Without a match, it is the node's accelerator label, or `cpu`.
        """
        for name, each in self.devices.items():
            if each.labels and all(labels.get(key) == value for key, value in each.labels.items()):
                return name
        return labels.get(ACCELERATOR_LABEL) or "cpu"


def read_cluster_file(path: Path | None, devices: Mapping[str, DeviceClass] | None = None) -> ClusterFile:
    """Return the cluster file at `path`, merged into the catalogue's `devices`; None reads as an empty file.

    Raises: SpecError, which lists every problem with its location; PrerequisiteError if the file cannot be read.
    """
    text = "" if path is None else read_yaml_text(path, "node classes", "--cluster")
    given = load_yaml(text, str(path)) if text.strip() else {}
    known = {name: each.model_dump(exclude_unset=True) for name, each in (devices or {}).items()}
    own = given.get("devices", {})
    if isinstance(own, dict):
        given = {**given, "devices": {**{name: None for name in own}, **merge(known, own)}}
    read = validated(ClusterFile, given, str(path), text)
    unknown = sorted(set(read.measure_on) - set(read.devices) - {"cpu"})
    if unknown:
        raise SpecError(
            f"{path}: measure_on names {', '.join(unknown)}; known classes are {', '.join(read.devices) or 'none'}"
        )
    return read
