"""Load datasets by name from any source: embedded, a file, Kaggle or the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import pandas as pd

from moodbench.config import Catalogue, load_catalogue
from moodbench.config.schema import DatasetEntry, Sampling
from moodbench.data.examples import SPLITS, Examples, load_examples, subsample
from moodbench.data.hub import commit_of
from moodbench.data.official import load_official
from moodbench.data.own import load_own
from moodbench.spec import ResolvedDataset


def load_source(name: str, data: DatasetEntry | ResolvedDataset) -> Examples:
    """Return the examples of dataset `name`.

    Raises: DataError, PrerequisiteError or UnknownNameError.
    """
    if data.file is not None:
        return load_own(name, data.file)
    if data.hub is not None:
        return load_official(name, data.hub)
    assert data.embedded is not None
    return load_examples(name, data.embedded, data.labels, data.neutral_band or 0.0)


class Sources:
    """The datasets of one command, each loaded once."""

    def __init__(self) -> None:
        self._loaded: dict[str, Examples] = {}

    def load(self, name: str, data: DatasetEntry | ResolvedDataset) -> Examples:
        """Return the examples of dataset `name`; see `load_source`."""
        source = data.file or data.hub
        key = f"{name} {source.model_dump_json() if source else (data.embedded, data.labels, data.neutral_band)}"
        if key not in self._loaded:
            self._loaded[key] = load_source(name, data)
        return self._loaded[key]


def pinned_source(entry: DatasetEntry, neutral_band: float) -> DatasetEntry:
    """Return `entry` pinned for all processes of a run: absolute path, commit of the repository, `neutral_band`.

    Raises: PrerequisiteError if the commit of the repository cannot be determined.
    """
    file, hub = entry.file, entry.hub
    if file is not None and file.kaggle is None:
        file = file.model_copy(update={"path": str(Path(file.path).expanduser().absolute())})
    if hub is not None:
        hub = hub.model_copy(update={"revision": commit_of(hub)})
    return entry.model_copy(update={"file": file, "hub": hub, "neutral_band": neutral_band})


def fetch_dataset(name: str, entry: DatasetEntry) -> str:
    """Download what a run on dataset `name` needs, and return one line that describes what is now on this machine.

    Raises: PrerequisiteError if it cannot be obtained; DataError if it does not match the entry.
    """
    examples = load_source(name, entry)
    counts = examples.frame["split"].value_counts()
    sizes = ", ".join(f"{counts[split]:,} {split}" for split in SPLITS)
    reading = examples.reading
    where = f"{reading.file}, {reading.format}" if reading else "in the package"
    return f"dataset {name}: {where}; {sizes} texts"


def source_of(entry: DatasetEntry) -> str:
    """Return where the texts of `entry` come from: a repository id, a Kaggle dataset, a file, or `embedded`."""
    if entry.hub:
        return entry.hub.id
    if entry.file:
        return f"kaggle:{entry.file.kaggle}" if entry.file.kaggle else entry.file.path
    return "embedded"


class _Supported:
    """Descriptor that reads the catalogue on access, because importing a module must not read files."""

    def __get__(self, instance: object, owner: type) -> Mapping[str, str]:
        return {name: source_of(entry) for name, entry in load_catalogue().datasets.items()}


class SentimentDataLoader:
    """The datasets of a catalogue, loaded with fixed splits and seeded sub-samples."""

    SUPPORTED_DATASETS = _Supported()
    """Name -> source of every dataset in the packaged catalogue."""

    def __init__(self, catalogue: Catalogue | None = None) -> None:
        self._given = catalogue
        self._sources = Sources()

    @cached_property
    def catalogue(self) -> Catalogue:
        """The given catalogue, or the packaged one."""
        return self._given or load_catalogue()

    def load(self, name: str) -> Examples:
        """Return all examples of dataset `name`.

        Raises: UnknownNameError, DataError or PrerequisiteError.
        """
        return self._sources.load(name, self.catalogue.dataset(name))

    def sample(self, name: str, split: str, size: int, *, seed: int = 0, by: Sampling = "stratified") -> pd.DataFrame:
        """Return at most `size` rows (example_id, text, label, ...) of one split.

        `by` is `stratified` (class shares of the split) or `balanced` (the same number of each class).
        """
        return subsample(self.load(name).split(split), size, seed, by)
