"""Filling the caches of a data set, for machines and clusters without a network."""

from __future__ import annotations

from moodbench.config.schema import DatasetEntry
from moodbench.data.source import load_source


def fetch_dataset(name: str, entry: DatasetEntry) -> str:
    """One line that says what is on this machine now; downloads what a run of data set `name` needs.

    Raises PrerequisiteError when it cannot be had, DataError when it is not as the entry says.
    """
    examples, reading = load_source(name, entry)
    counts = examples.frame["split"].value_counts()
    sizes = ", ".join(f"{counts[split]:,} {split}" for split in ("train", "validation", "test"))
    where = f"{reading.file}, {reading.format}" if reading else "in the package"
    return f"data set {name}: {where}; {sizes} texts"
