"""Labels as files write them: stars, numbers with a point or comma, words in any case, and what stands for none."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping

from moodbench.config.schema import Labelling
from moodbench.data.delimited import clean_name

MISSING = frozenset(
    (
        "n/a",
        "na",
        "#n/a",
        "#na",
        "<na>",
        "nan",
        "-nan",
        "nat",
        "null",
        "none",
        "nil",
        "missing",
        "unlabelled",
        "unlabeled",
    )
)
"""Values (casefolded) that programs write where there is none."""
_FULL, _EMPTY, _HALF = "★⭐🌟✭✮✯", "☆✩✰", "½"
_GLYPHS = re.compile(f"[{_FULL}{_EMPTY}]+{_HALF}?[{_EMPTY}]*")
_STARS = f"(?:stars?|sterne?n?|étoiles?|estrellas?|estrelas?|stelle|stella|sterren|星|[{_FULL}]\ufe0f?)"
_OF_FIVE = re.compile(
    rf"(?:rated )?(\d(?:\.\d+)?) ?(?:/|out of|of|von|sur|su|de|van) ?5(?:\.0)?(?: ?{_STARS})?", re.IGNORECASE
)
_STARS_IN_WORDS = re.compile(rf"(?:rated )?(\d(?:\.\d+)?)[ -]?{_STARS}", re.IGNORECASE)
_WORDS_OF_STARS = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5"}


def label_text(value: object) -> str | None:
    """Return a cell of the label column as text, or None if it is empty.

    4, 4.0, "4.0", "4,0", "★★★★☆", "4 stars" and "4.0 out of 5 stars" all give "4".
    """
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    text = " ".join(clean_name(str(value)).split())
    text = re.sub(r"^([+-]?\d+),(\d{1,2})(?!\d)", r"\1.\2", text)  # a decimal comma; 1,000 has three digits
    text = _num_stars(text)
    whole = re.fullmatch(r"([+-]?\d+)\.0+", text)
    return (whole.group(1) if whole else text) or None


def _num_stars(text: str) -> str:
    """Return the number of stars if `text` is a rating by stars, else `text`."""
    glyphs = text.replace("\ufe0f", "").replace(" ", "")
    if _GLYPHS.fullmatch(glyphs):
        half = ".5" if _HALF in glyphs else ""
        return f"{sum(char in _FULL for char in glyphs)}{half}"
    digits = re.sub(
        r"^(one|two|three|four|five)(?=[ -]stars?$)", lambda m: _WORDS_OF_STARS[m[1].lower()], text, flags=re.I
    )
    found = _OF_FIVE.fullmatch(digits) or _STARS_IN_WORDS.fullmatch(digits)
    return found.group(1) if found else text


def folded(label: str) -> str:
    """Return a label without what does not tell two labels apart: case, width, and white space."""
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())


def classes_of(source: Labelling) -> Callable[[str], str | None]:
    """Return the function that gives the class of a label, or `DROP`; None if neither label map nor labels contain it.

    A label that is not there as written is found by its `folded` form. Without a map and labels, each label is a class.
    """
    if source.label_map:
        named = {label_text(label) or label: target for label, target in source.label_map.items()}
    else:
        named = {label_text(label) or label: label for label in source.labels}
    if not named:
        return lambda label: label
    loose = {folded(label): target for label, target in reversed(named.items())}
    return lambda label: named.get(label, loose.get(folded(label)))


def says_missing(text: str) -> bool:
    """Return whether `text` is what a program writes where there is no value."""
    return text.casefold() in MISSING


def is_missing(label: str, source: Labelling) -> bool:
    """Return whether `label` says that there is none, such as N/A, and is not named as a label by `source`."""
    named = {folded(each) for each in source.label_map or source.labels}
    return says_missing(label) and folded(label) not in named


def spellings(counts: Mapping[str, int]) -> dict[str, str]:
    """Return label -> its most frequent spelling among those with the same `folded` form; ties by the alphabet."""
    best: dict[str, str] = {}
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        best.setdefault(folded(label), label)
    return {label: best[folded(label)] for label in counts}
