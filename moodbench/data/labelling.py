"""From what stands in a label column to ordered class names: stars, numbers, words, or a map."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from moodbench.errors import DataError

DROP = "drop"
"""In a label map: leave out the rows with this label."""
NUM_CLASSES = (2, 3, 5)
_RANKS = {
    0: "very negative, very bad, terrible",
    1: "negative, neg, bad, false",
    2: "neutral, neu, mixed",
    3: "positive, pos, good, true",
    4: "very positive, very good, excellent",
}
SENTIMENT = {word: rank for rank, words in _RANKS.items() for word in words.split(", ")}
"""Known names of classes -> where they stand, most negative first."""


class Order(NamedTuple):
    """Class names, most negative first, and what a reader should know about how they were ordered."""

    names: tuple[str, ...]
    warning: str | None = None


def label_text(value: object) -> str | None:
    """A cell of the label column as text: 4, 4.0 and "4.0" are all "4"; None where there is nothing."""
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value).strip()
    whole = re.fullmatch(r"([+-]?\d+)\.0+", text)
    return (whole.group(1) if whole else text) or None


def target_of(label: str, label_map: Mapping[str, str], labels: Collection[str]) -> str | None:
    """The class that `label` stands for, or `DROP`; None when nothing says."""
    if label_map:
        return label_map.get(label)
    return label if not labels or label in labels else None


def order_classes(found: Collection[str], labels: tuple[str, ...], where: str) -> Order:
    """The classes `found`, in the order of `labels` when given, else by number, by known words, or by the alphabet.

    DataError unless there are as many classes as `NUM_CLASSES` allows, and all of `labels` are found.
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
        f"the order of the classes is unknown, so they stand by the alphabet and {shown(names[-1])} counts as the positive "
        "one; say otherwise with --labels, most negative first",
    )


def shown(label: str) -> str:
    """A label for messages: quoted, and cut, as a label column chosen by mistake may hold private text."""
    return repr(label if len(label) <= 30 else label[:27] + "...")


def _number(name: str) -> float | None:
    """The number in "4", "-1.5" or "4 stars"."""
    found = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)(?: ?stars?)?", name.casefold())
    return float(found.group(1)) if found else None


def _sentiment(name: str) -> float | None:
    return SENTIMENT.get(re.sub(r"[\s_-]+", " ", name.casefold()).strip())
