"""Parameters of a search as axes from 0 to 1, from its space or, if that is not stored, from its trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from moodbench.config.search_space import LogUniform, SearchSpace, values_of
from moodbench.tune.records import SearchTrial

MOST_LISTED = 8
"""Numbers known only from trials form a list up to this many different values, and a range above it."""
WIDE = 20
"""A range known only from trials is logarithmic if the ratio of its ends is at least this."""
OTHERS = 0.1
"""Part of an axis that is reserved for values that are not numbers."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Axis:
    """One parameter of a search."""

    name: str
    values: tuple[Any, ...] | None
    """Possible values, in order; None for a range."""
    low: float = 0.0
    high: float = 1.0
    """`low` and `high`: ends of the range."""
    is_log: bool = False
    has_other: bool = False
    """For a range: whether a trial has a value that is not a number, such as null; it takes the lowest tenth."""

    def place(self, value: Any) -> float:
        """Return the position of `value` from 0 to 1: the middle of its part of a list, or its place in a range."""
        if self.values is not None:
            return (self.values.index(value) + 0.5) / len(self.values)
        if not _is_number(value):
            return OTHERS / 2
        low, high, here = self.low, self.high, float(value)
        if self.is_log:
            low, high, here = math.log(low), math.log(high), math.log(here)
        share = (here - low) / (high - low) if high > low else 0.5
        return OTHERS + (1 - OTHERS) * share if self.has_other else share

    def with_value(self, value: Any) -> Axis:
        """Return the axis, extended if `value` does not lie on it."""
        if self.values is not None:
            return self if value in self.values else Axis(self.name, (*self.values, value))
        if not _is_number(value):
            return replace(self, has_other=True)
        low, high = min(self.low, float(value)), max(self.high, float(value))
        return replace(self, low=low, high=high, is_log=self.is_log and value > 0)


def axes_of(space: SearchSpace) -> tuple[Axis, ...]:
    """Return the axes of `space`, in its order."""
    made = []
    for name, each in space.parameters.items():
        values = values_of(each)
        if values is not None:
            made.append(Axis(name, values))
        else:
            made.append(
                Axis(
                    name,
                    None,
                    float(each.low),  # type: ignore[union-attr]
                    float(each.high),  # type: ignore[union-attr]
                    isinstance(each, LogUniform),
                )
            )
    return tuple(made)


def axes_seen(trials: Sequence[SearchTrial]) -> tuple[Axis, ...]:
    """Return the axes of the parameters in `trials`, sorted by name: a list of the values, or the range that occurs."""
    seen: dict[str, list[Any]] = {}
    for trial in trials:
        for name, value in trial.configuration.items():
            if value not in seen.setdefault(name, []):
                seen[name].append(value)
    return tuple(_axis_of(name, values) for name, values in sorted(seen.items()))


def _axis_of(name: str, values: Sequence[Any]) -> Axis:
    numbers = [v for v in values if _is_number(v)]
    if len(numbers) < len(values):
        return Axis(name, tuple(sorted(values, key=str)))
    if len(numbers) <= MOST_LISTED and not any(isinstance(v, float) and not v.is_integer() for v in numbers):
        return Axis(name, tuple(sorted(numbers)))
    if len(numbers) <= MOST_LISTED and name.endswith("alpha_over_r"):
        return Axis(name, tuple(sorted(numbers)))
    low, high = float(min(numbers)), float(max(numbers))
    return Axis(name, None, low, high, low > 0 and high / low >= WIDE)


def points(axes: Sequence[Axis], trials: Sequence[SearchTrial], defaults: Mapping[str, Any]) -> list[list[float]]:
    """Return the position of each trial on each axis, one row per trial.

    A parameter that a trial does not use is at its default.

    Source: Hutter et al. 2014, section 3: parameters that a condition switches off have their default value.
    """
    filled = [{axis.name: t.configuration.get(axis.name, defaults.get(axis.name)) for axis in axes} for t in trials]
    longer = []
    for axis in axes:
        for row in filled:
            axis = axis.with_value(row[axis.name])
        longer.append(axis)
    return [[axis.place(row[axis.name]) for axis in longer] for row in filled]
