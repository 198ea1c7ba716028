"""Load a table of texts and labels as examples: the user's own file, or a file of a Kaggle dataset."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import psutil

from moodbench.config.schema import FileSource
from moodbench.data.examples import COLUMNS, Examples, example_ids
from moodbench.data.files import open_cells, unpacked_bytes
from moodbench.data.kaggle import kaggle_file
from moodbench.data.labelled import columns_of, labelled_rows, without_duplicates
from moodbench.data.labelling import order_classes
from moodbench.data.loaded import Loaded
from moodbench.data.partition import as_given, by_content, check_sizes
from moodbench.data.report import Reading
from moodbench.errors import DataError, PrerequisiteError

MEMORY_PER_BYTE = 4
"""Minimum bytes of memory per byte of text: the text as read, its normalised form, and copies in two data frames."""


def load_own(name: str, source: FileSource) -> Loaded:
    """Return the dataset that `source` describes; cached per process until the file changes.

    Raises: DataError or PrerequisiteError, which name the file, row, column, value seen and allowed values.
    """
    path = kaggle_file(source) if source.kaggle else Path(source.path).expanduser()
    _check_memory(path, unpacked_bytes(path, columns_of(source).values()))
    state = (path.stat().st_mtime_ns, path.stat().st_size)
    return _load(name, str(path), source.model_dump_json(), state)


@cache
def _load(name: str, file: str, source_json: str, state: tuple[int, int]) -> Loaded:
    source, path = FileSource.model_validate_json(source_json), Path(file)
    cells = open_cells(path, columns_of(source))
    read = labelled_rows(path, cells, source)
    order = order_classes(set(read.targets), source.labels, f"{path}: column {source.label_column!r}")
    frame = without_duplicates(read, within_splits=source.split_column is not None)
    frame["label"] = frame["label"].map(order.names.index).astype("int32")
    if source.split_column:
        try:
            split = as_given(frame, f"as column {source.split_column!r} says")
        except DataError as error:
            raise DataError(
                f"{path}: split column {source.split_column!r} {error}. Leave the split column out, and MoodBench "
                "makes the splits"
            ) from error
    else:
        split = by_content(frame, grouped=source.group_column is not None)
    frame = frame.assign(split=split.names, group=[f"{c}" for c in split.clusters])
    check_sizes(frame, order.names, str(path), _remedy(source))
    frame["example_id"] = example_ids(name, frame["text"].tolist())
    frame["mean_rating"], frame["rating_counts"] = np.nan, None
    reading = Reading(
        file=f"{source.kaggle}: {path.name}" if source.kaggle else path.name,
        format=cells.format,
        encoding=cells.encoding,
        separator=cells.separator,
        num_rows=read.num_rows,
        dropped=dict(read.dropped),
        num_kept_together=sum(count for count in Counter(split.clusters).values() if count > 1),
        num_groups=split.num_groups,
        split_rule=split.rule,
        warnings=tuple(w for w in (order.warning, split.warning) if w),
    )
    kept = frame[list(COLUMNS)].reset_index(drop=True)
    return Loaded(Examples(name, order.names, 0.0, kept, private=source.kaggle is None), reading)


def _check_memory(path: Path, num_bytes: int) -> None:
    """Raise PrerequisiteError if the texts do not fit into free memory; otherwise the machine might swap for hours."""
    free = psutil.virtual_memory().available
    if MEMORY_PER_BYTE * num_bytes > free:
        gib = 2**30
        raise PrerequisiteError(
            f"{path}: what is read has {num_bytes / gib:.1f} GiB unpacked; holding it takes at least {MEMORY_PER_BYTE} "
            f"times as much memory, of which {free / gib:.1f} GiB are free. Give a sample of its rows: some 100,000 "
            "tell models apart"
        )


def _remedy(source: FileSource) -> str:
    if source.split_column:
        return "give more rows, or leave the split column out"
    if source.group_column:
        return "give more rows, or a finer group column: large groups stay whole"
    return "give more rows"
