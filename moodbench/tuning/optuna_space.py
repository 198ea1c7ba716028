"""A search space in Optuna's terms."""

from __future__ import annotations

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

GRID_POINTS = 4
"""Values of a range in a grid."""


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Parameter -> Optuna's distribution, conditions left aside."""
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
    """Asks an Optuna trial for the parameters of `space` that are active, unconditional ones first."""

    space: SearchSpace

    def __call__(self, trial: Trial) -> None:
        """Nothing; the trial has its parameters."""
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


def grid(space: SearchSpace) -> list[Configuration]:
    """Every combination of the values, four of each range; what a condition switches off is dropped, once each."""
    points: dict[str, Configuration] = {}
    axes: list[tuple[Any, ...]] = []
    for each in space.parameters.values():
        values = values_of(each)
        axes.append(values if values is not None else _spaced(each))
    total = 1
    for axis in axes:
        total *= len(axis)
    if total > 10_000:
        raise SpecError(f"--search grid: {total:,} combinations; possible are 10,000. Use random or optuna")
    for values in product(*axes):
        point = space.active(dict(zip(space.parameters, values, strict=True)))
        points.setdefault(repr(sorted(point.items())), point)
    return list(points.values())


def _spaced(distribution: Any) -> tuple[float, ...]:
    low, high = distribution.low, distribution.high
    shares = [i / (GRID_POINTS - 1) for i in range(GRID_POINTS)]
    if isinstance(distribution, LogUniform):
        return tuple(float(low * (high / low) ** share) for share in shares)
    return tuple(float(low + (high - low) * share) for share in shares)
