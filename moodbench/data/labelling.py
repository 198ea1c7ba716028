"""Map the values of a label column (stars, numbers or words) to ordered class names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from moodbench.errors import DataError

DROP = "drop"
"""Class in a label map whose rows are dropped."""
NUM_CLASSES = (2, 3, 5)
_RANKS = {
    0: "very negative, very bad, terrible",
    1: "negative, neg, bad, false",
    2: "neutral, neu, mixed",
    3: "positive, pos, good, true",
    4: "very positive, very good, excellent",
}
SENTIMENT = {word: rank for rank, words in _RANKS.items() for word in words.split(", ")}
"""Known class name -> rank; the most negative has rank 0."""


class Order(NamedTuple):
    """Class names, most negative first, and a warning if their order had to be assumed."""

    names: tuple[str, ...]
    warning: str | None = None


def label_text(value: object) -> str | None:
    """Return a cell of the label column as text, or None if it is empty; 4, 4.0 and "4.0" all give "4"."""
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value).strip()
    whole = re.fullmatch(r"([+-]?\d+)\.0+", text)
    return (whole.group(1) if whole else text) or None


def target_of(label: str, label_map: Mapping[str, str], labels: Collection[str]) -> str | None:
    """Return the class of `label`, or `DROP`; None if neither the label map nor `labels` contains it."""
    if label_map:
        return label_map.get(label)
    return label if not labels or label in labels else None


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
        f"the order of the classes is unknown, so they stand by the alphabet and {shown(names[-1])} counts as the "
        "positive one; say otherwise with --labels, most negative first",
    )


def shown(label: str) -> str:
    """Return a label for messages, quoted and shortened: a label column chosen by mistake may hold private text."""
    return repr(label if len(label) <= 30 else label[:27] + "...")


def _number(name: str) -> float | None:
    """Return the number in "4", "-1.5" or "4 stars"."""
    found = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)(?: ?stars?)?", name.casefold())
    return float(found.group(1)) if found else None


def _sentiment(name: str) -> float | None:
    return SENTIMENT.get(re.sub(r"[\s_-]+", " ", name.casefold()).strip())
