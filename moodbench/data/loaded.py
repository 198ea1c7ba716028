"""The result of loading a dataset: its examples, and a summary of how its source was read."""

from __future__ import annotations

from typing import NamedTuple

from moodbench.data.examples import Examples
from moodbench.data.report import Reading


class Loaded(NamedTuple):
    """The examples of a source, and how its rows were read (None for an embedded dataset)."""

    examples: Examples
    reading: Reading | None
