"""Review datasets by name, as one object for Python programs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import pandas as pd

from moodbench.config import Catalogue, load_catalogue
from moodbench.config.schema import DatasetEntry, Sampling
from moodbench.data.examples import Examples, subsample
from moodbench.data.source import load_source


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

    @cached_property
    def catalogue(self) -> Catalogue:
        """The given catalogue, or the packaged one."""
        return self._given or load_catalogue()

    def load(self, name: str) -> Examples:
        """Return all examples of dataset `name`.

        Raises: UnknownNameError, DataError or PrerequisiteError.
        """
        return load_source(name, self.catalogue.dataset(name)).examples

    def sample(self, name: str, split: str, size: int, *, seed: int = 0, by: Sampling = "stratified") -> pd.DataFrame:
        """Return at most `size` rows (example_id, text, label, ...) of one split.

        `by` is `stratified` (class shares of the split) or `balanced` (the same number of each class).
        """
        return subsample(self.load(name).split(split), size, seed, by)
