"""The cluster file: classes of nodes with their tags and prices, and how a run uses them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moodbench.config.catalogue import explain
from moodbench.config.schema import DeviceClass
from moodbench.config.yaml_text import load_yaml
from moodbench.errors import PrerequisiteError, SpecError

ACCELERATOR_LABEL = "ray.io/accelerator-type"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeClass(_Part):
    """Nodes of one kind: those that bear all of its labels."""

    labels: dict[str, str] = Field(min_length=1)
    """Labels given to `ray start --labels`."""
    gpu_memory_gib: Annotated[float, Field(gt=0)] | None = None
    """Memory of each GPU; where the node's driver tells it, that counts."""
    price_per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """In any currency, the same for all; the cheaper of two nodes that will do is taken."""
    tags: tuple[str, ...] = ()
    """Words of your own; shown by `moodbench cluster status`."""


class DeadlineRule(_Part):
    """A task is given up after factor x its expected seconds + extra_s."""

    factor: Annotated[float, Field(gt=0)] = 10.0
    extra_s: Annotated[float, Field(ge=0)] = 900.0


class ClusterFile(_Part):
    """What `--cluster FILE` says."""

    classes: dict[str, NodeClass] = {}
    """The first class whose labels a node bears is its class; the catalogue's `devices` follow these. A node of none is named
    after its accelerator label."""
    measure_on: tuple[str, ...] = ()
    """Classes whose nodes measure; empty: the kind of machine with a GPU, then of most nodes."""
    drain_at: Annotated[int, Field(ge=1)] = 4
    """So many waiting measurements stop fits on a node until they have run."""
    node_return_s: Annotated[float, Field(ge=0)] = 300.0
    """How long trials wait for a node that left, when no other can run them."""
    deadline: DeadlineRule = DeadlineRule()

    def class_of(self, labels: dict[str, str]) -> str:
        """The name of the class of a node with these labels."""
        for name, each in self.classes.items():
            if all(labels.get(key) == value for key, value in each.labels.items()):
                return name
        return labels.get(ACCELERATOR_LABEL) or "cpu"


def read_cluster_file(path: Path | None, devices: Mapping[str, DeviceClass] | None = None) -> ClusterFile:
    """The cluster file at `path`, or one that says nothing; SpecError lists every problem with its place.

    Classes of `devices`, the catalogue's, that have labels follow those of the file.
    """
    read = ClusterFile() if path is None else _read(path)
    known = {name: _node_class(device) for name, device in (devices or {}).items() if device.labels}
    whole = read.model_copy(
        update={"classes": {**read.classes, **{k: v for k, v in known.items() if k not in read.classes}}}
    )
    unknown = sorted(set(whole.measure_on) - set(whole.classes))
    if unknown:
        raise SpecError(
            f"{path}: measure_on names {', '.join(unknown)}; known classes are {', '.join(whole.classes) or 'none'}"
        )
    return whole


def _node_class(device: DeviceClass) -> NodeClass:
    return NodeClass(
        labels=device.labels,
        gpu_memory_gib=device.gpu_memory_gib,
        price_per_hour=device.price_per_hour,
        tags=device.tags,
    )


def _read(path: Path) -> ClusterFile:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise PrerequisiteError(f"--cluster {path}: {error.strerror}; expected a YAML file of node classes") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"--cluster {path}: not UTF-8 text (byte {error.start}); expected YAML") from error
    try:
        return ClusterFile.model_validate(load_yaml(text, str(path)))
    except ValidationError as error:
        raise SpecError(explain(error, str(path), text)) from error
