"""The examples of a data set, wherever its texts are: embedded, in a file, at Kaggle, on the hub."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from moodbench.config.schema import DatasetEntry
from moodbench.data.examples import Examples, load_examples
from moodbench.data.loaded import Loaded
from moodbench.data.official import load_official, pinned
from moodbench.data.own import load_own
from moodbench.spec import ResolvedDataset


def pinned_source(entry: DatasetEntry, neutral_band: float) -> DatasetEntry:
    """`entry` as every process of a run reads it: absolute path, commit of the repository, `neutral_band`.

    Raises PrerequisiteError when the repository cannot be asked.
    """
    file, hub = entry.file, entry.hub
    if file is not None and file.kaggle is None:
        file = file.model_copy(update={"path": str(Path(file.path).expanduser().absolute())})
    return entry.model_copy(update={"file": file, "hub": hub and pinned(hub), "neutral_band": neutral_band})


def load_source(name: str, data: DatasetEntry | ResolvedDataset) -> Loaded:
    """The examples of data set `name` and what became of its source's rows, read once per process (and state of a file).

    Raises DataError, PrerequisiteError or UnknownNameError.
    """
    if data.file is not None:
        return load_own(name, data.file)
    if data.hub is not None:
        return load_official(name, data.hub)
    assert data.embedded is not None
    return Loaded(_embedded(name, data.embedded, data.labels, data.neutral_band or 0.0), None)


@cache
def _embedded(name: str, embedded: str, labels: tuple[str, ...], neutral_band: float) -> Examples:
    return load_examples(name, embedded, labels, neutral_band)
