"""What loading a data set gives: its examples, and what became of the rows of its source."""

from __future__ import annotations

from typing import NamedTuple

from moodbench.data.examples import Examples
from moodbench.data.report import Reading


class Loaded(NamedTuple):
    """The examples of a source, and what became of its rows (None for an embedded text)."""

    examples: Examples
    reading: Reading | None
