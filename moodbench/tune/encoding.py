"""Encodings of a search space: Optuna suggestions, a grid, and axes from 0 to 1 for plots and importances."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from moodbench.config.search_space import (
    Configuration,
    Integer,
    LogUniform,
    SearchSpace,
    Uniform,
    values_of,
)
from moodbench.errors import SpecError
from moodbench.tune.trials import SearchTrial

if TYPE_CHECKING:
    from optuna import Trial

EPOCHS = "train.epochs"
GRID_LIMIT = 10_000
GRID_POINTS = 4
"""Number of grid values per range."""
MOST_LISTED = 8
"""Numbers known only from trials form a list up to this many different values, and a range above it."""
WIDE = 20
"""A range known only from trials is logarithmic if the ratio of its ends is at least this."""
OTHERS = 0.1
"""Part of an axis that is reserved for values that are not numbers."""


def suggest(trial: Trial, space: SearchSpace) -> Configuration:
    """Return the active parameters that the sampler of an Optuna `trial` suggests, unconditional ones first."""
    drawn: Configuration = {}
    for name in sorted(space.parameters, key=lambda name: bool(space.parameters[name].when)):
        each = space.parameters[name]
        if not all(drawn.get(other) in allowed for other, allowed in each.when.items()):
            continue
        if isinstance(each, Integer):
            drawn[name] = trial.suggest_int(name, each.low, each.high)
        elif isinstance(each, Uniform | LogUniform):
            drawn[name] = trial.suggest_float(name, each.low, each.high, log=isinstance(each, LogUniform))
        else:
            drawn[name] = trial.suggest_categorical(name, each.values)
    return drawn


def grid_counts(space: SearchSpace) -> Counter[float | None]:
    """Count the grid points per value of train.epochs; None counts the points that keep the recipe's epochs."""
    asked = {other for each in space.parameters.values() for other in each.when}
    axes = {name: _axis(each) for name, each in space.parameters.items()}
    counts: Counter[float | None] = Counter()
    for values in product(*(axes[name] for name in asked)):
        point = dict(zip(asked, values, strict=True))
        active = [
            name
            for name, each in space.parameters.items()
            if name not in asked and all(point[other] in allowed for other, allowed in each.when.items())
        ]
        num = math.prod(len(axes[name]) for name in active if name != EPOCHS)
        lengths = axes[EPOCHS] if EPOCHS in active else (point.get(EPOCHS),)
        counts.update(dict.fromkeys(lengths, num))
    return counts


def grid(space: SearchSpace) -> list[Configuration]:
    """Return every combination of values once, with four values per range.

    Parameters that a condition switches off are dropped.

    Raises:
        SpecError: If there are more than GRID_LIMIT combinations.
    """
    points: dict[str, Configuration] = {}
    axes = [_axis(each) for each in space.parameters.values()]
    total = math.prod(map(len, axes))
    if total > GRID_LIMIT:
        raise SpecError(f"--search grid: {total:,} combinations; possible are {GRID_LIMIT:,}. Use random or optuna")
    for values in product(*axes):
        point = space.active(dict(zip(space.parameters, values, strict=True)))
        points.setdefault(repr(sorted(point.items())), point)
    return list(points.values())


def _axis(distribution: Any) -> tuple[Any, ...]:
    """Return the grid values of a distribution: all of a list, GRID_POINTS of a range."""
    values = values_of(distribution)
    if values is not None:
        return values
    low, high = distribution.low, distribution.high
    shares = [i / (GRID_POINTS - 1) for i in range(GRID_POINTS)]
    if isinstance(distribution, LogUniform):
        return tuple(float(low * (high / low) ** share) for share in shares)
    return tuple(float(low + (high - low) * share) for share in shares)


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
    return tuple(
        Axis(name, None, each.low, each.high, isinstance(each, LogUniform))
        if isinstance(each, Uniform | LogUniform)
        else Axis(name, values_of(each))
        for name, each in space.parameters.items()
    )


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
    if len(numbers) <= MOST_LISTED and (name.endswith("alpha_over_r") or all(float(v).is_integer() for v in numbers)):
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
