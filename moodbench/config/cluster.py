"""The cluster file: what it adds to the catalogue's classes of devices, and how a run uses their nodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moodbench.config.catalogue import merge
from moodbench.config.explaining import explain
from moodbench.config.schema import DeviceClass
from moodbench.config.yaml_text import load_yaml
from moodbench.errors import PrerequisiteError, SpecError

ACCELERATOR_LABEL = "ray.io/accelerator-type"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DeadlineRule(_Part):
    """A task is given up after factor x its expected seconds + extra_s; after without_estimate_s where nobody knows those."""

    factor: Annotated[float, Field(gt=0)] = 10.0
    extra_s: Annotated[float, Field(ge=0)] = 900.0
    without_estimate_s: Annotated[float, Field(gt=0)] = 86_400.0


class ClusterFile(_Part):
    """What `--cluster FILE` says."""

    devices: dict[str, DeviceClass] = {}
    """Laid over the catalogue's, key by key, as --config does it. The first class whose labels a node bears is its class, those
    of the file first; a node of none is named after its accelerator label."""
    measure_on: tuple[str, ...] = ()
    """Classes whose nodes measure; empty: the kind of machine with a GPU, then of most nodes."""
    drain_at: Annotated[int, Field(ge=1)] = 4
    """So many waiting measurements stop fits on a node until they have run."""
    node_return_s: Annotated[float, Field(ge=0)] = 300.0
    """How long trials wait for a node that left, when no other can run them."""
    deadline: DeadlineRule = DeadlineRule()

    def class_of(self, labels: dict[str, str]) -> str:
        """The name of the class of a node with these labels."""
        for name, each in self.devices.items():
            if each.labels and all(labels.get(key) == value for key, value in each.labels.items()):
                return name
        return labels.get(ACCELERATOR_LABEL) or "cpu"


def read_cluster_file(path: Path | None, devices: Mapping[str, DeviceClass] | None = None) -> ClusterFile:
    """The cluster file at `path`, laid over the catalogue's `devices`; SpecError lists every problem with its place."""
    text = "" if path is None else _text_of(path)
    given = load_yaml(text, str(path)) if text.strip() else {}
    known = {name: each.model_dump(exclude_unset=True) for name, each in (devices or {}).items()}
    own = given.get("devices", {})
    if isinstance(own, dict):
        given = {**given, "devices": {**{name: None for name in own}, **merge(known, own)}}
    try:
        read = ClusterFile.model_validate(given)
    except ValidationError as error:
        raise SpecError(explain(error, str(path), text, schema=ClusterFile)) from error
    unknown = sorted(set(read.measure_on) - set(read.devices) - {"cpu"})
    if unknown:
        raise SpecError(
            f"{path}: measure_on names {', '.join(unknown)}; known classes are {', '.join(read.devices) or 'none'}"
        )
    return read


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise PrerequisiteError(f"--cluster {path}: {error.strerror}; expected a YAML file of node classes") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"--cluster {path}: not UTF-8 text (byte {error.start}); expected YAML") from error
