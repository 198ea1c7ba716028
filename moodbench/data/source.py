"""Load the examples of a dataset from any source: embedded, a file, Kaggle or the Hugging Face hub."""

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
    """Return `entry` pinned for all processes of a run: absolute path, commit of the repository, `neutral_band`.

    Raises: PrerequisiteError if the commit of the repository cannot be determined.
    """
    file, hub = entry.file, entry.hub
    if file is not None and file.kaggle is None:
        file = file.model_copy(update={"path": str(Path(file.path).expanduser().absolute())})
    return entry.model_copy(update={"file": file, "hub": hub and pinned(hub), "neutral_band": neutral_band})


def load_source(name: str, data: DatasetEntry | ResolvedDataset) -> Loaded:
    """Return the examples of dataset `name`, and how its source was read.

    Results are cached per process; a file is read again if it changes.
    Raises: DataError, PrerequisiteError or UnknownNameError.
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
