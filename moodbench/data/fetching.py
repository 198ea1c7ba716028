"""Fill the caches of a dataset, for machines and clusters without a network."""

from __future__ import annotations

from moodbench.config.schema import DatasetEntry
from moodbench.data.source import load_source


def fetch_dataset(name: str, entry: DatasetEntry) -> str:
    """Download what a run on dataset `name` needs, and return one line that describes what is now on this machine.

    Raises: PrerequisiteError if it cannot be obtained; DataError if it does not match the entry.
    """
    examples, reading = load_source(name, entry)
    counts = examples.frame["split"].value_counts()
    sizes = ", ".join(f"{counts[split]:,} {split}" for split in ("train", "validation", "test"))
    where = f"{reading.file}, {reading.format}" if reading else "in the package"
    return f"dataset {name}: {where}; {sizes} texts"
