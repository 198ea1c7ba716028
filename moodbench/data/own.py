"""Turn a table of texts and labels into examples with splits: the user's own file, or a file of a Kaggle dataset.

`files` reads the table and finds its columns.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from moodbench.config.schema import FileSource
from moodbench.data.examples import COLUMNS, Examples, Reading, example_ids
from moodbench.data.files import matching, open_tables, unpacked_bytes
from moodbench.data.labelling import (
    CONTRADICTING,
    LabelledRows,
    columns_of,
    labelled_rows,
    order_classes,
    without_duplicates,
)
from moodbench.data.splits import as_given, by_content, check_sizes
from moodbench.errors import DataError, PrerequisiteError
from moodbench.hardware import GIB, free_memory_bytes
from moodbench.hub import offline
from moodbench.paths import expanded

ALIKE = 0.2
"""Share of texts in one cluster of near-duplicates above which it is named."""
MANY = 10
"""Texts in such a cluster up to which it is not named."""
MEMORY_PER_BYTE = 4
"""Minimum bytes of memory per byte of text: the text as read, its normalised form, and copies in two data frames."""


def load_own(name: str, source: FileSource) -> Examples:
    """Return the dataset that `source` describes.

    Raises: DataError or PrerequisiteError, which name the file, row, column, value seen and allowed values.
    """
    paths = [kaggle_file(source)] if source.kaggle else matching(source.path)
    path = paths[0] if len(paths) == 1 else Path(source.path)
    _check_memory(path, sum(unpacked_bytes(each, columns_of(source).values()) for each in paths))
    cells = open_tables(paths, columns_of(source))
    read = labelled_rows(path, cells, source)
    order = order_classes(set(read.targets), source.labels, f"{path}: column {source.label_column!r}")
    frame = without_duplicates(read, within_splits=source.split_column is not None)
    if frame.empty:
        raise DataError(
            f"{path}: every text occurs with contradicting labels ({read.dropped[CONTRADICTING]:,} rows), so none is "
            f"left; decide on one label for each text, or choose another label column than {source.label_column!r}"
        )
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
    check_sizes(frame, order.names, str(path), _remedy(source, frame, read), read.places)
    frame["example_id"] = example_ids(name, frame["text"].tolist())
    frame["mean_rating"], frame["rating_counts"] = np.nan, None
    reading = Reading(
        file=f"{source.kaggle}: {path.name}"
        if source.kaggle
        else path.name + (f" ({len(paths)} files)" if len(paths) > 1 else ""),
        format=cells.format,
        encoding=cells.encoding,
        separator=cells.separator,
        num_rows=read.num_rows,
        dropped=dict(read.dropped),
        prepared=dict(read.prepared),
        num_kept_together=sum(count for count in Counter(split.clusters).values() if count > 1),
        num_groups=split.num_groups,
        split_rule=split.rule,
        warnings=tuple(w for w in (*cells.notes, *read.notes, order.warning, split.warning) if w),
    )
    kept = frame[list(COLUMNS)].reset_index(drop=True)
    return Examples(name, order.names, 0.0, kept, private=source.kaggle is None, reading=reading)


def _check_memory(path: Path, num_bytes: int) -> None:
    """Raise PrerequisiteError if the texts do not fit into free memory; otherwise the machine might swap for hours."""
    free = free_memory_bytes()
    if MEMORY_PER_BYTE * num_bytes > free:
        raise PrerequisiteError(
            f"{path}: the columns to read have {num_bytes / GIB:.1f} GiB unpacked; loading them takes at least "
            f"{MEMORY_PER_BYTE} times as much memory, but {free / GIB:.1f} GiB are free. Give a sample of its rows: "
            "about 100,000 are enough to compare models"
        )


def _remedy(source: FileSource, frame: pd.DataFrame, read: LabelledRows) -> str:
    """Return what helps if a split is too small: what made it small first."""
    contradicting, largest = read.dropped[CONTRADICTING], int(frame["group"].value_counts().iloc[0])
    if 2 * contradicting > read.num_rows:
        return (
            f"{contradicting:,} of its {read.num_rows:,} rows repeat a text with another label and were left out: "
            "decide on one label for each text"
        )
    if not source.split_column and not source.group_column and largest > max(MANY, ALIKE * len(frame)):
        return (
            f"{largest:,} texts are near-duplicates of each other (4 of 5 words alike, such as boilerplate) and stay "
            "in one split: remove what they share, or give a split column (more rows of the kind do not help)"
        )
    if source.split_column:
        return "give more rows, or leave the split column out"
    if source.group_column:
        return "give more rows, or a finer group column: large groups stay whole"
    return "give more rows"


def kaggle_file(source: FileSource) -> Path:
    """Return the path of the file of `source`; download the dataset if it is not cached and the network is allowed.

    Uses the newest complete version in the cache, unless `source.version` is given.
    Raises: PrerequisiteError, which says what is missing and how to get it; DataError if the dataset has no such file.
    """
    assert source.kaggle is not None
    folder = _cached(source.kaggle, source.version) or _downloaded(source.kaggle, source.version)
    path = folder / source.path
    if not path.is_file():
        present = ", ".join(sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())[:10])
        raise DataError(f"Kaggle dataset {source.kaggle}: no file {source.path!r}; it has {present or 'no files'}")
    return path


def _handle(kaggle: str, version: int | None) -> str:
    return kaggle if version is None else f"{kaggle}/versions/{version}"


def kaggle_cache_folder(kaggle: str) -> Path:
    """Return the folder of a dataset in kagglehub's cache, whether it exists or not."""
    root = expanded(os.environ.get("KAGGLEHUB_CACHE") or "~/.cache/kagglehub", "KAGGLEHUB_CACHE=")
    return root / "datasets" / kaggle


def _cached(kaggle: str, version: int | None) -> Path | None:
    """Return the folder of the given version, or of the newest one; only complete downloads count."""
    from kagglehub.cache import Cache
    from kagglehub.handle import parse_dataset_handle

    found = kaggle_cache_folder(kaggle) / "versions"
    present = sorted((int(p.name) for p in found.glob("*") if p.name.isdigit()), reverse=True)
    for number in present if version is None else [version]:
        if path := Cache().load_from_cache(parse_dataset_handle(_handle(kaggle, number))):
            return Path(path)
    return None


def _downloaded(kaggle: str, version: int | None) -> Path:
    import kagglehub
    import requests
    from kagglehub.config import get_cache_folder
    from kagglehub.exceptions import (
        BackendError,
        CredentialError,
        DataCorruptionError,
        KaggleApiHTTPError,
        NotFoundError,
        UnauthenticatedError,
    )

    handle = _handle(kaggle, version)
    remedy = (
        f"download it where there is a network (`kagglehub.dataset_download({handle!r})`, or the page "
        f"https://www.kaggle.com/datasets/{kaggle}), and copy the folder to {get_cache_folder()} "
        "(KAGGLEHUB_CACHE moves it); or take the file itself with `moodbench run --data FILE`"
    )
    if offline():
        raise PrerequisiteError(f"Kaggle dataset {handle} is not in the cache and the network is off; {remedy}")
    try:
        return Path(kagglehub.dataset_download(handle))
    except (KaggleApiHTTPError, NotFoundError, UnauthenticatedError, CredentialError) as error:
        reason = str(error).splitlines()[0]
        raise PrerequisiteError(
            f"Kaggle dataset {handle}: Kaggle refuses it ({reason}); check its name, and your token in "
            f"~/.kaggle (https://www.kaggle.com/settings); {remedy}"
        ) from error
    except (requests.exceptions.RequestException, BackendError, DataCorruptionError, OSError, ValueError) as error:
        raise PrerequisiteError(
            f"Kaggle dataset {handle} cannot be downloaded ({type(error).__name__}); {remedy}"
        ) from error
