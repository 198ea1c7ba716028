"""A person's own file as examples: labelled, without duplicates, split so that nothing alike stands on two sides."""

from __future__ import annotations

import tempfile
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.config.schema import FileSource
from moodbench.data.examples import SPLITS, Examples, example_ids
from moodbench.data.files import Cells, open_cells
from moodbench.data.labelling import DROP, label_text, order_classes, shown, target_of
from moodbench.data.report import Reading
from moodbench.data.splits import content_key, near_duplicate_clusters, stratified_group_split
from moodbench.data.tokenised import cache_folder
from moodbench.errors import DataError
from moodbench.spec.canonical import content_id

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
"""Value of a split column -> split."""
SHARES = (0.7, 0.1, 0.2)
CARVED = (7 / 8, 1 / 8)
"""Shares of train and validation where a split column names no validation."""
MIN_TEXTS = {"train": 20, "validation": 10, "test": 20}
"""With fewer texts a split says nothing."""
MAX_COMPARED = 20_000
"""Up to so many texts all pairs are compared for near-duplicates, which takes some 12 s there; above, only equal ones."""
MIN_KEPT = 2_000
"""From more texts on, comparing takes long enough to keep its result for the other processes of a run."""
NO_TEXT, NO_LABEL, BY_MAP = "without text", "without label", "by the label map"
REPEATED, CONTRADICTING = "repeated", "repeated with contradicting labels"


@dataclass(frozen=True)
class OwnData:
    """The examples of a file, and what became of its rows."""

    examples: Examples
    reading: Reading


def load_own(name: str, source: FileSource) -> OwnData:
    """The data set that `source` describes, read once per process and state of the file.

    Raises DataError or PrerequisiteError, which name file, row, column, the value seen and what is allowed.
    """
    path = Path(source.path).expanduser()
    state = (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else (0, 0)
    return _load(name, source.model_dump_json(), state)


@cache
def _load(name: str, source_json: str, state: tuple[int, int]) -> OwnData:
    source = FileSource.model_validate_json(source_json)
    path = Path(source.path).expanduser()
    cells = open_cells(path, _columns(source))
    read = _labelled(path, cells, source)
    order = order_classes(set(read.targets), source.labels, f"{path}: column {source.label_column!r}")
    frame = _without_duplicates(read, within_splits=source.split_column is not None)
    frame["label"] = frame["label"].map(order.names.index).astype("int32")
    split = _split_as_given(frame, path, source) if source.split_column else _split_by_content(frame, source)
    frame = frame.assign(split=split.names, group=[f"{c}" for c in split.clusters])
    _check_sizes(frame, order.names, path, source)
    frame["example_id"] = example_ids(name, frame["text"].tolist())
    frame["mean_rating"], frame["rating_counts"] = np.nan, None
    columns = ["example_id", "text", "label", "split", "group", "mean_rating", "rating_counts"]
    reading = Reading(
        file=path.name,
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
    return OwnData(Examples(name, order.names, 0.0, frame[columns].reset_index(drop=True), private=True), reading)


@dataclass
class _Read:
    texts: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    extra: list[str | None] = field(default_factory=list)
    """The cell of the split or group column, where there is one."""
    num_rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def _columns(source: FileSource) -> dict[str, str]:
    given = {role: getattr(source, role) for role in ("text_column", "label_column", "split_column", "group_column")}
    return {role: name for role, name in given.items() if name is not None}


def _labelled(path: Path, cells: Cells, source: FileSource) -> _Read:
    """The rows with a text and a class."""
    read = _Read()
    unknown: dict[str, tuple[str, int]] = {}
    numbers = 0
    for where, (text, label, *rest) in cells.rows:
        read.num_rows += 1
        text = _text(path, where, source.text_column, text)
        if text is None:
            read.dropped[NO_TEXT] += 1
            continue
        label = _label(path, where, source.label_column, label)
        if label is None:
            read.dropped[NO_LABEL] += 1
            continue
        target = target_of(label, source.label_map, source.labels)
        if target is None:
            first, count = unknown.get(label, (where, 0))
            unknown[label] = (first, count + 1)
            continue
        if target == DROP and source.label_map:
            read.dropped[BY_MAP] += 1
            continue
        numbers += _is_number(text)
        read.texts.append(text)
        read.targets.append(target)
        read.extra.append(_split_name(path, where, source, rest[0]) if source.split_column else _group(rest))
    if read.num_rows == 0:
        raise DataError(f"{path}: a header and no rows below it; expected one row per text")
    if unknown:
        label, (where, count) = next(iter(unknown.items()))
        others = ", ".join(map(shown, list(unknown)[1:6]))
        known = "the label map" if source.label_map else "the labels"
        raise DataError(
            f"{path}: {where}: column {source.label_column!r}: {shown(label)} ({count:,} rows) is not in {known} "
            f"({', '.join(map(shown, source.label_map or source.labels))}){f', nor are {others}' if others else ''}; "
            f"add it, or leave such rows out with the label map VALUE={DROP}"
        )
    if not read.texts:
        gone = ", ".join(f"{count:,} {reason}" for reason, count in read.dropped.items())
        raise DataError(f"{path}: none of its {read.num_rows:,} rows can be used ({gone}); check the column names")
    if numbers == len(read.texts):
        raise DataError(
            f"{path}: column {source.text_column!r}: every cell is a number, so this is not the text; "
            f"its columns are {', '.join(map(shown, cells.columns[:30]))}"
        )
    return read


def _text(path: Path, where: str, column: str, cell: Any) -> str | None:
    if cell is None or cell != cell:
        return None
    if not isinstance(cell, str):
        raise DataError(
            f"{path}: {where}: column {column!r}: a text is expected, found {type(cell).__name__}; choose the text column"
        )
    _check_unicode(path, where, column, cell)
    return cell.strip() or None


def _label(path: Path, where: str, column: str, cell: Any) -> str | None:
    if isinstance(cell, list | dict | bytes | tuple):
        raise DataError(
            f"{path}: {where}: column {column!r}: a word or number is expected as label, found {type(cell).__name__}"
        )
    label = label_text(cell)
    _check_unicode(path, where, column, label or "")
    return label


def _check_unicode(path: Path, where: str, column: str, text: str) -> None:
    """DataError for half of a surrogate pair, which JSON can hold and no file of text can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{path}: {where}: column {column!r}: half a character ({error.reason}) at position {error.start}; "
            "write the whole emoji or sign, or leave it out"
        ) from error


def _split_name(path: Path, where: str, source: FileSource, cell: Any) -> str:
    name = str(cell if cell is not None else "").strip()
    if name.casefold() not in SPLIT_NAMES:
        raise DataError(
            f"{path}: {where}: split column {source.split_column!r}: {shown(name)} is not one of {', '.join(SPLIT_NAMES)}"
        )
    return SPLIT_NAMES[name.casefold()]


def _group(rest: Sequence[Any]) -> str | None:
    return label_text(rest[0]) if rest else None


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _without_duplicates(read: _Read, *, within_splits: bool) -> pd.DataFrame:
    """Columns text, key, label, extra: equal texts of one label once (per given split), those of several labels not at all.

    Sorted by content, so that the order of the file changes nothing. Counts what goes in `read.dropped`.
    """
    frame = pd.DataFrame({"text": read.texts, "label": read.targets, "extra": read.extra}, dtype=object)
    frame["key"] = [content_key(unicodedata.normalize("NFC", text)) for text in frame["text"]]
    frame["order"] = [str(extra) for extra in frame["extra"]]
    frame = frame.sort_values(["key", "order", "label", "text"], ignore_index=True)
    contradicting = frame.groupby("key")["label"].transform("nunique") > 1
    read.dropped[CONTRADICTING] = int(contradicting.sum())
    frame = frame[~contradicting]
    repeated = frame.duplicated(["key", "order"] if within_splits else ["key"])
    read.dropped[REPEATED] = int(repeated.sum())
    return frame[~repeated].reset_index(drop=True)


@dataclass(frozen=True)
class _Split:
    names: Sequence[str]
    clusters: Sequence[int]
    rule: str
    warning: str | None = None
    num_groups: int | None = None


def _split_by_content(frame: pd.DataFrame, source: FileSource) -> _Split:
    """70/10/20 by the content of the texts; near-duplicates and groups stay on one side."""
    given = frame["extra"].tolist() if source.group_column else [None] * len(frame)
    alone = given.count(None) if source.group_column else 0
    groups = [("row", i) if group is None else ("group", group) for i, group in enumerate(given)]
    clusters, warning = _clusters(frame["text"].tolist(), groups)
    names = stratified_group_split(frame["label"].tolist(), clusters.tolist(), frame["key"].tolist(), SHARES)
    if alone:
        note = f"{alone:,} rows have no group and stand alone"
        warning = f"{warning}; {note}" if warning else note
    rule = "70/10/20 by content, near-duplicates on one side"
    num_groups = len({g for g in given if g is not None}) if source.group_column else None
    return _Split(names.tolist(), clusters.tolist(), rule, warning, num_groups)


def _split_as_given(frame: pd.DataFrame, path: Path, source: FileSource) -> _Split:
    """The splits of the split column; a missing validation split is an eighth of train."""
    names = np.array(frame["extra"].tolist(), dtype=object)
    missing = [split for split in ("train", "test") if split not in names]
    if missing:
        raise DataError(
            f"{path}: split column {source.split_column!r} has no row of {' and '.join(missing)}; found are "
            f"{', '.join(sorted(set(names)))}. Leave the split column out, and MoodBench makes the splits"
        )
    clusters, warning = np.arange(len(frame)), None
    rule = f"as column {source.split_column!r} says"
    if "validation" not in names:
        train = np.flatnonzero(names == "train")
        rows = frame.iloc[train]
        near, warning = _clusters(rows["text"].tolist(), None)
        sides = stratified_group_split(
            rows["label"].tolist(), near.tolist(), rows["key"].tolist(), CARVED, ("train", "validation")
        )
        names[train], clusters[train] = sides, len(frame) + near
        rule += ", validation is an eighth of train"
    return _Split(names.tolist(), clusters.tolist(), rule, warning)


def _clusters(texts: Sequence[str], groups: Sequence[Any] | None) -> tuple[Any, str | None]:
    """A cluster of each text, and what to say when not all near-duplicates are found."""
    compare = len(texts) <= MAX_COMPARED
    if len(texts) > MIN_KEPT:
        clusters = _kept_clusters(texts, groups, only_equal=not compare)
    else:
        clusters = near_duplicate_clusters(texts, groups, only_equal=not compare)
    warning = (
        f"{len(texts):,} texts are more than {MAX_COMPARED:,}, so only texts that are equal after normalisation are kept on "
        "one side; near-duplicates are not looked for"
    )
    return clusters, None if compare else warning


def _kept_clusters(texts: Sequence[str], groups: Sequence[Any] | None, *, only_equal: bool) -> npt.NDArray[np.int64]:
    """The clusters from the cache, where the first process of a run leaves them for its workers: numbers, no texts."""
    content = {"texts": [content_key(text) for text in texts], "groups": groups, "only_equal": only_equal}
    path = cache_folder() / "clusters" / f"{content_id('clusters', content)}.npy"
    if path.exists():
        found: npt.NDArray[np.int64] = np.load(path)
        return found
    clusters = near_duplicate_clusters(texts, groups, only_equal=only_equal)
    with suppress(OSError):  # It only saves time, so a cache that cannot be written is no reason to stop.
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as staged:
            np.save(staged, clusters)
        Path(staged.name).replace(path)
    return clusters


def _check_sizes(frame: pd.DataFrame, labels: tuple[str, ...], path: Path, source: FileSource) -> None:
    """DataError when a split is too small or lacks a class."""
    if source.split_column:
        remedy = "give more rows, or leave the split column out"
    elif source.group_column:
        remedy = "give more rows, or a finer group column: large groups stay whole"
    else:
        remedy = "give more rows"
    for split in SPLITS:
        counts = frame.loc[frame["split"] == split, "label"].value_counts()
        absent = [shown(label) for i, label in enumerate(labels) if counts.get(i, 0) == 0]
        if counts.sum() < MIN_TEXTS[split]:
            raise DataError(
                f"{path}: the {split} split has {counts.sum()} texts (of {len(frame)} usable ones), needed are at least "
                f"{MIN_TEXTS[split]}; {remedy}"
            )
        if absent:
            raise DataError(
                f"{path}: the {split} split has no text of class {', '.join(absent)}; {remedy}, or merge classes with a "
                "label map"
            )
