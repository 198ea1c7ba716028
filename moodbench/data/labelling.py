"""Labels of a table of texts: its rows that have a text and a class, and the order of the classes."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from moodbench.config.schema import FileSource, PreparationStep
from moodbench.data.examples import content_key
from moodbench.data.files import Cells
from moodbench.data.labels import classes_of, folded, is_missing, label_text, says_missing, spellings
from moodbench.errors import DataError
from moodbench.preparation import prepare_counted

DROP = "drop"
"""Class in a label map whose rows are dropped."""
NUM_CLASSES = (2, 3, 5)
_RANKS = {
    0: "very negative, very bad, terrible, very dissatisfied, sehr negativ, très négatif, muy negativo",
    1: "negative, neg, bad, false, dissatisfied, unhappy, dislike, not recommended, negativ, négatif, negativo, 👎, 🙁",
    2: "neutral, neu, mixed, neutre, neutro, 😐",
    3: "positive, pos, good, true, satisfied, happy, like, recommended, positiv, positif, positivo, 👍, 🙂",
    4: "very positive, very good, excellent, very satisfied, sehr positiv, très positif, muy positivo",
}
SENTIMENT = {word: rank for rank, words in _RANKS.items() for word in words.split(", ")}
"""Known class name -> rank; the most negative has rank 0."""
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
"""Value of a split column (casefolded) -> split."""
ROLES = ("text_column", "label_column", "split_column", "group_column", "id_column", "segment_column")
NO_TEXT, NO_LABEL, BY_MAP = "without text", "without label", "by the label map"
REPEATED, CONTRADICTING, SAME_ID = "repeated", "repeated with contradicting labels", "with an id seen before"
STARS = {str(stars) for stars in range(1, 6)}
"""Labels of review stars: when exactly these occur, the stars are kept next to the class."""


class Order(NamedTuple):
    """Class names, most negative first, and a warning if their order had to be assumed."""

    names: tuple[str, ...]
    warning: str | None = None


def order_classes(found: Collection[str], labels: tuple[str, ...], where: str) -> Order:
    """Return the classes `found`, most negative first.

    The order is that of `labels` if given, else by number, else by known sentiment words, else alphabetical.
    Raises: DataError if the number of classes is not in `NUM_CLASSES`, or one of `labels` is not in `found`.
    """
    absent = [label for label in labels if label not in found]
    if absent:
        raise DataError(
            f"{where}: no row has class {', '.join(map(shown, absent))} of the labels {', '.join(map(shown, labels))}; "
            f"found are {', '.join(map(shown, sorted(found))) or 'none'}"
        )
    if len(found) not in NUM_CLASSES:
        some = ", ".join(map(shown, sorted(found)[:8])) + (" ..." if len(found) > 8 else "")
        only = "only one class" if len(found) == 1 else f"{len(found)} classes"
        raise DataError(
            f"{where}: {only} ({some}); possible are 2, 3 or 5: choose another label column, or merge and drop with a "
            f"label map such as 1=negative,2=negative,3={DROP},4=positive,5=positive"
        )
    if labels:
        return Order(labels)
    for rank in (_number, _sentiment):
        ranks = {name: rank(name) for name in found}
        known = {name: value for name, value in ranks.items() if value is not None}
        if len(set(known.values())) == len(found):
            return Order(tuple(sorted(known, key=known.__getitem__)))
    names = tuple(sorted(found))
    return Order(
        names,
        f"the order of the classes is unknown, so they are sorted alphabetically and {shown(names[-1])} counts as the "
        "positive one; set the order with --labels, most negative first",
    )


def shown(label: str) -> str:
    """Return a label for messages, quoted and shortened: a label column chosen by mistake may hold private text."""
    return repr(label if len(label) <= 30 else label[:27] + "...")


def _number(name: str) -> float | None:
    """Return the number in "4", "-1.5", "80 %" or "8/10", the last as a share."""
    found = re.fullmatch(
        r"([+-]?\d+(?:\.\d+)?)(?: ?(?:/|out of|of) ?(\d+(?:\.\d+)?))?(?: ?(?:stars?|%))?", name.casefold()
    )
    if found is None:
        return None
    return float(found.group(1)) / (float(found.group(2) or 1) or 1)


def _sentiment(name: str) -> float | None:
    bare = re.sub("[\ufe0f\U0001f3fb-\U0001f3ff]", "", name.casefold())  # variants and skin tones of an emoji
    return SENTIMENT.get(re.sub(r"[\s_-]+", " ", bare).strip())


@dataclass
class LabelledRows:
    """The rows that were kept, one list entry per row, and counts of those that were dropped."""

    texts: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    """Label as written in the file, before the label map is applied."""
    extra: list[str | None] = field(default_factory=list)
    """Split name or cell of the group column, if either column is given."""
    segments: list[str | None] = field(default_factory=list)
    """Cell of the segment column, if there is one."""
    ids: list[str | None] = field(default_factory=list)
    """Cell of the id column, if there is one."""
    num_rows: int = 0
    prepared: Counter[PreparationStep] = field(default_factory=Counter)
    """Step of the source -> texts that it changed."""
    dropped: Counter[str] = field(default_factory=Counter)
    seen_labels: Counter[str] = field(default_factory=Counter)
    """Every label in the file and its rows, including those that the label map drops."""
    places: dict[str, str] = field(default_factory=dict)
    """Class -> its first row, for messages."""
    notes: list[str] = field(default_factory=list)
    """Decisions about labels, as sentences for the data report."""

    def stars(self) -> list[int | None]:
        """Return the review stars of each row, 1 to 5, or None for every row if the labels are not stars."""
        if set(self.seen_labels) != STARS:
            return [None] * len(self.labels)
        return [int(label) for label in self.labels]


def columns_of(source: FileSource) -> dict[str, str]:
    """Return role -> column name for the columns that `source` names."""
    given = {role: getattr(source, role) for role in ROLES}
    return {role: name for role, name in given.items() if name is not None}


def labelled_rows(path: Path, cells: Cells, source: FileSource) -> LabelledRows:
    """Return the rows that have a text and a class.

    Raises: DataError, which names the file, row, column, value seen and allowed values.
    """
    read = LabelledRows()
    roles, class_of = list(columns_of(source)), classes_of(source)
    unknown: dict[str, tuple[str, int]] = {}
    written: Counter[str] = Counter()
    numbers = 0
    for where, row in cells.rows:
        cell = dict(zip(roles, row, strict=True))
        read.num_rows += 1
        text = _text(path, where, source.text_column, cell["text_column"])
        text = text and prepare_counted(text, source.prepare, read.prepared)
        if not text:
            read.dropped[NO_TEXT] += 1
            continue
        label = _label(path, where, source.label_column, cell["label_column"])
        if label is None or is_missing(label, source):
            read.dropped[NO_LABEL] += 1
            written.update([label] if label else [])
            continue
        read.seen_labels[label] += 1
        target = class_of(label)
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
        read.labels.append(label)
        read.places.setdefault(target, where)
        read.extra.append(
            _split_name(path, where, source, cell["split_column"])
            if source.split_column
            else _id_text(cell.get("group_column"))
        )
        read.segments.append(_id_text(cell.get("segment_column")))
        read.ids.append(_id_text(cell.get("id_column")))
    read.num_rows += cells.dropped.total()
    read.dropped.update(cells.dropped)
    if read.num_rows == 0:
        raise DataError(f"{path}: a header but no rows; expected one row per text")
    if unknown:
        raise DataError(_unknown_labels(path, unknown, source))
    if not read.texts:
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in read.dropped.items())
        raise DataError(f"{path}: none of its {read.num_rows:,} rows can be used ({dropped}); check the column names")
    if numbers == len(read.texts):
        raise DataError(
            f"{path}: column {source.text_column!r}: every cell is a number, so this is not the text; "
            f"its columns are {', '.join(map(shown, cells.columns[:30]))}"
        )
    read.notes += _label_notes(read, source, written)
    if not source.label_map and not source.labels:
        one = spellings(read.seen_labels)
        read.targets = [one[target] for target in read.targets]
        read.places = {one[target]: where for target, where in reversed(read.places.items())}
    return read


def _label_notes(read: LabelledRows, source: FileSource, written: Mapping[str, int]) -> list[str]:
    """Return what was decided about labels: which count as missing, and which are one label in several spellings."""
    notes = []
    if written:
        values = ", ".join(f"{shown(value)} ({count:,})" for value, count in sorted(written.items())[:5])
        notes.append(
            f"rows labelled {values} count as rows without a label; to keep such a value as a label, name it in the "
            "label map or the labels"
        )
    named = {label_text(label) for label in source.label_map or source.labels}
    groups: dict[str, list[str]] = {}
    for label in sorted(read.seen_labels):
        groups.setdefault(folded(label), []).append(label)
    joined = [group for group in groups.values() if len(group) > 1 and not named.issuperset(group)]
    for group in joined[:5]:
        counts = ", ".join(f"{shown(label)} ({read.seen_labels[label]:,})" for label in group)
        notes.append(f"labels that differ only in case or spaces are one class: {counts}")
    return notes


def without_duplicates(read: LabelledRows, *, within_splits: bool) -> pd.DataFrame:
    """Return the rows without duplicates.

    Keeps one row per id. Equal texts with the same label are kept once (once per split with `within_splits`); equal
    texts with contradicting labels are all dropped. The columns are text, key, label, extra, stars and segment. Rows
    are sorted by content, so the result does not depend on the order of the file. Updates the counts in
    `read.dropped`.
    """
    parts = {"text": read.texts, "label": read.targets, "extra": read.extra, "segment": read.segments, "id": read.ids}
    frame = pd.DataFrame({**parts, "stars": read.stars()}, dtype=object)
    frame["key"] = [content_key(unicodedata.normalize("NFC", text)) for text in frame["text"]]
    by = ["key", "extra", "label", "text", "stars", "segment", "id"]
    frame = frame.sort_values(by, key=lambda column: column.map(str), ignore_index=True)
    same_id = frame["id"].notna() & frame.duplicated("id")
    read.dropped[SAME_ID] = int(same_id.sum())
    frame = frame[~same_id]
    contradicting = frame.groupby("key")["label"].transform("nunique") > 1
    read.dropped[CONTRADICTING] = int(contradicting.sum())
    frame = frame[~contradicting]
    repeated = frame.duplicated(["key", "extra"] if within_splits else ["key"])
    read.dropped[REPEATED] = int(repeated.sum())
    return frame[~repeated].drop(columns="id").reset_index(drop=True)


def _unknown_labels(path: Path, unknown: dict[str, tuple[str, int]], source: FileSource) -> str:
    """Return the error message for labels that are neither in the label map nor in the labels."""
    label, (where, count) = next(iter(unknown.items()))
    others = ", ".join(map(shown, list(unknown)[1:6]))
    known = "the label map" if source.label_map else "the labels"
    return (
        f"{path}: {where}: column {source.label_column!r}: {shown(label)} ({count:,} rows) is not in {known} "
        f"({', '.join(map(shown, source.label_map or source.labels))}){f', nor are {others}' if others else ''}; "
        f"add it, or leave such rows out with the label map VALUE={DROP}"
    )


def _id_text(cell: Any) -> str | None:
    """Return a cell of a group, segment or id column as text, or None if it is empty or says N/A or the like."""
    text = label_text(cell)
    return None if text is None or says_missing(text) else text


def _text(path: Path, where: str, column: str, cell: Any) -> str | None:
    if cell is None or cell != cell:
        return None
    if not isinstance(cell, str):
        raise DataError(
            f"{path}: {where}: column {column!r}: expected text, found {type(cell).__name__}; choose the text column"
        )
    _check_unicode(path, where, column, cell)
    text = cell.strip()
    return text if any(char.isprintable() and not char.isspace() for char in text) else None


def _label(path: Path, where: str, column: str, cell: Any) -> str | None:
    if isinstance(cell, list | dict | bytes | tuple):
        raise DataError(
            f"{path}: {where}: column {column!r}: expected a word or number as label, found {type(cell).__name__}"
        )
    label = label_text(cell)
    _check_unicode(path, where, column, label or "")
    return label


def _check_unicode(path: Path, where: str, column: str, text: str) -> None:
    """Raise DataError for a lone surrogate, which JSON can represent but encoded text cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{path}: {where}: column {column!r}: invalid Unicode ({error.reason}) at position {error.start}; "
            "replace or remove the character"
        ) from error


def _split_name(path: Path, where: str, source: FileSource, cell: Any) -> str:
    name = str(cell if cell is not None else "").strip()
    if name.casefold() not in SPLIT_NAMES:
        raise DataError(
            f"{path}: {where}: split column {source.split_column!r}: {shown(name)} is not one of "
            f"{', '.join(SPLIT_NAMES)}"
        )
    return SPLIT_NAMES[name.casefold()]


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
