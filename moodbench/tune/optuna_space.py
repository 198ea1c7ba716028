"""A search space as Optuna distributions, and as a grid."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
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

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution

EPOCHS = "train.epochs"
GRID_LIMIT = 10_000
GRID_POINTS = 4
"""Number of grid values per range."""


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Return the Optuna distribution of each parameter, ignoring conditions."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    made: dict[str, BaseDistribution] = {}
    for name, each in space.parameters.items():
        if isinstance(each, Integer):
            made[name] = IntDistribution(each.low, each.high)
        elif (values := values_of(each)) is not None:
            made[name] = CategoricalDistribution(values)
        elif isinstance(each, Uniform | LogUniform):
            made[name] = FloatDistribution(each.low, each.high, log=isinstance(each, LogUniform))
    return made


@dataclass(frozen=True)
class DefineByRun:
    """Callable that suggests the active parameters of `space` in an Optuna trial, unconditional ones first."""

    space: SearchSpace

    def __call__(self, trial: Trial) -> None:
        """Suggest the parameters of `trial`."""
        drawn: Configuration = {}
        for name in sorted(self.space.parameters, key=lambda name: bool(self.space.parameters[name].when)):
            each = self.space.parameters[name]
            if not all(drawn.get(other) in allowed for other, allowed in each.when.items()):
                continue
            if isinstance(each, Integer):
                drawn[name] = trial.suggest_int(name, each.low, each.high)
            elif isinstance(each, Uniform | LogUniform):
                drawn[name] = trial.suggest_float(name, each.low, each.high, log=isinstance(each, LogUniform))
            else:
                drawn[name] = trial.suggest_categorical(name, each.values)


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
    values = values_of(distribution)
    return values if values is not None else _spaced(distribution)


def _spaced(distribution: Any) -> tuple[float, ...]:
    low, high = distribution.low, distribution.high
    shares = [i / (GRID_POINTS - 1) for i in range(GRID_POINTS)]
    if isinstance(distribution, LogUniform):
        return tuple(float(low * (high / low) ** share) for share in shares)
    return tuple(float(low + (high - low) * share) for share in shares)
