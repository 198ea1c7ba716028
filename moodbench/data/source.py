"""The examples of a data set, whether its texts are embedded or in a person's own file."""

from __future__ import annotations

from functools import cache

from moodbench.config.schema import FileSource
from moodbench.data.examples import Examples, load_examples
from moodbench.data.own import load_own


def load_data(
    name: str, embedded: str | None, file: FileSource | None, labels: tuple[str, ...], neutral_band: float
) -> Examples:
    """The examples of data set `name`, read once per process; of a file, once per state of the file.

    Raises DataError, PrerequisiteError or UnknownNameError.
    """
    if file is not None:
        return load_own(name, file).examples
    assert embedded is not None
    return _embedded(name, embedded, labels, neutral_band)


@cache
def _embedded(name: str, embedded: str, labels: tuple[str, ...], neutral_band: float) -> Examples:
    return load_examples(name, embedded, labels, neutral_band)
