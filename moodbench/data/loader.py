"""Review data sets by name, as one object for Python programs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import pandas as pd

from moodbench.config import Catalogue, load_catalogue
from moodbench.config.schema import DatasetEntry, Sampling
from moodbench.data.examples import Examples, subsample
from moodbench.data.source import load_source


def source_of(entry: DatasetEntry) -> str:
    """Where the texts of `entry` come from: a repository id, a Kaggle data set, a file, or `embedded`."""
    if entry.hub:
        return entry.hub.id
    if entry.file:
        return f"kaggle:{entry.file.kaggle}" if entry.file.kaggle else entry.file.path
    return "embedded"


class _Supported:
    """Read when it is asked for, as importing a module reads no file."""

    def __get__(self, instance: object, owner: type) -> Mapping[str, str]:
        return {name: source_of(entry) for name, entry in load_catalogue().datasets.items()}


class SentimentDataLoader:
    """The data sets of a catalogue, loaded with fixed splits and sub-samples that a seed determines."""

    SUPPORTED_DATASETS = _Supported()
    """Name -> source of every data set of the packaged catalogue."""

    def __init__(self, catalogue: Catalogue | None = None) -> None:
        self._given = catalogue

    @cached_property
    def catalogue(self) -> Catalogue:
        """The catalogue that was given, or the packaged one."""
        return self._given or load_catalogue()

    def load(self, name: str) -> Examples:
        """All examples of data set `name`; raises UnknownNameError, DataError or PrerequisiteError."""
        return load_source(name, self.catalogue.dataset(name)).examples

    def sample(self, name: str, split: str, size: int, *, seed: int = 0, by: Sampling = "stratified") -> pd.DataFrame:
        """At most `size` rows (example_id, text, label, ...) of one split; `by` balanced takes as many of each class."""
        return subsample(self.load(name).split(split), size, seed, by)
