"""Choices of a visitor of the page, as one frozen value and as the query string of its address.

The encoding is canonical: values at their default are left out, so a plain address stays plain. Reading never fails: an
address can come from anywhere, and an invalid value counts as not given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from moodbench.statistics.composite import COMPOSITES, CRITERIA, Weights

MAX_MODELS = 4
MAX_TEXT = 200
"""Largest number of characters of a name or a search."""
MAX_NAMES = 256
"""Largest number of names in a list."""
PRESETS: Mapping[str, tuple[int, int, int, int]] = {
    "Balanced": (30, 30, 20, 20),
    "Most accurate": (50, 50, 0, 0),
    "Quality first": (40, 40, 10, 10),
    "Fastest": (0, 0, 50, 50),
}
"""Preset name to the weights of accuracy, F1, throughput and latency."""


@dataclass(frozen=True)
class State:
    """One view of the page."""

    tab: str = "leaderboard"
    track: str = ""
    """Name of the leaderboard's track; empty for the first to show."""
    accuracy: int = 30
    """Weight of the criterion, like the next three: 0 to 100, relative to their sum."""
    f1: int = 30
    throughput: int = 20
    latency: int = 20
    composite: str = "pinned"
    """Name of the composite that makes the score from the criteria."""
    search: str = ""
    """Parts of names, families or methods separated by `;`, at least one of which must occur."""
    methods: tuple[str, ...] = ()
    """Methods to show; empty for all."""
    max_params: float | None = None
    """Largest number of parameters to show, in millions."""
    columns: tuple[str, ...] = ()
    """Columns to show in the table besides the usual ones."""
    against: str = "latency_p50_s"
    """Cost on the horizontal axis of the trade-off figure."""
    models: tuple[str, ...] = ()
    """Models to compare side by side, at most MAX_MODELS."""
    max_p99_ms: float | None = None
    """Limit of `Which model?`, like the next two; None means no limit. The tab refuses one that is out of range."""
    max_memory_mib: float | None = None
    min_accuracy_percent: float | None = None
    tuning: str = ""
    """Id of the search to show; empty for the first."""
    sort: str = ""
    """Column that the table is sorted by, with - in front for descending; empty for rank."""

    @property
    def weights(self) -> Weights:
        """Weights as shares; the default ones where all are 0."""
        total = self.accuracy + self.f1 + self.throughput + self.latency
        if not total:
            return Weights()
        return Weights(**{name: getattr(self, name) / total for name in CRITERIA})

    def to_query(self) -> str:
        """Return the canonical query string, without the question mark."""
        changed = {name: value for name, value in asdict(self).items() if value != getattr(DEFAULT, name)}
        return urlencode({name: _text(value) for name, value in changed.items()})


DEFAULT = State()


def read_state(given: Mapping[str, Any]) -> State:
    """Return the state that `given` describes by field: the strings of a query or the values of the page's controls."""
    values: dict[str, Any] = {
        f.name: _READERS[f.name](given[f.name]) for f in fields(State) if given.get(f.name) is not None
    }
    return State(**{name: value for name, value in values.items() if value is not None})


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ";".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def clamped(value: Any, low: float, high: float) -> float | None:
    """Return the number that `value` gives, clamped to `low` and `high`, with six digits; None if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return float(f"{min(max(number, low), high):.6g}") if math.isfinite(number) else None


def _weight(value: Any) -> int | None:
    number = clamped(value, 0, 100)
    return None if number is None else round(number)


def _size(value: Any) -> float | None:
    number = clamped(value, 0, 1e9)
    return number if number else None


def _printable(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    return "".join(c if c.isprintable() else " " for c in value[:MAX_TEXT]).strip()


def read_names(value: Any) -> tuple[str, ...] | None:
    """Return up to MAX_NAMES different names of a list or of a text that separates them by `;`; None for others."""
    parts: Sequence[Any] = value.split(";") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        return None
    names = (_printable(part.replace(";", " ")) for part in parts if isinstance(part, str))
    return tuple(islice(dict.fromkeys(name for name in names if name), MAX_NAMES))


def _few_names(value: Any) -> tuple[str, ...] | None:
    names = read_names(value)
    return None if names is None else names[:MAX_MODELS]


_READERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("tab", "track", "search", "against", "sort", "tuning"), _printable),
    **dict.fromkeys(CRITERIA, _weight),
    "max_params": _size,
    **dict.fromkeys(("max_p99_ms", "max_memory_mib", "min_accuracy_percent"), partial(clamped, low=-1e9, high=1e9)),
    "composite": lambda value: value if isinstance(value, str) and value in COMPOSITES else None,
    "methods": read_names,
    "columns": read_names,
    "models": _few_names,
}
