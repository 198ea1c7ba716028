"""The cluster file: classes of nodes with their tags and prices, and how a run uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moodbench.config.catalogue import explain
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
    """The first class whose labels a node bears is its class; a node of none is named after its accelerator label."""
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


def read_cluster_file(path: Path | None) -> ClusterFile:
    """The cluster file at `path`, or one that says nothing; SpecError lists every problem with its place."""
    if path is None:
        return ClusterFile()
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise PrerequisiteError(f"--cluster {path}: {error.strerror}; expected a YAML file of node classes") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"--cluster {path}: not UTF-8 text (byte {error.start}); expected YAML") from error
    try:
        read = ClusterFile.model_validate(load_yaml(text, str(path)))
    except ValidationError as error:
        raise SpecError(explain(error, str(path), text)) from error
    unknown = sorted(set(read.measure_on) - set(read.classes))
    if unknown:
        raise SpecError(
            f"{path}: measure_on names {', '.join(unknown)}; the classes of this file are {', '.join(read.classes) or 'none'}"
        )
    return read
