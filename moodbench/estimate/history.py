"""Observed times of phases beside their estimates: factors that correct later estimates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from moodbench.spec.job import PhaseName


class Observation(NamedTuple):
    """One phase that ran."""

    phase: PhaseName
    machine: str
    """Key of the machine type and device."""
    method: str
    """Baseline, linear-probe or lora."""
    family: str
    model: str
    estimated_s: float
    """The uncorrected estimate."""
    observed_s: float


class Correction(NamedTuple):
    """Correction factor, and the number of observations that it is based on."""

    factor: float
    num_observations: int
    """0: the estimate is not corrected."""


@dataclass(frozen=True)
class History:
    """Observations of one store."""

    observations: tuple[Observation, ...] = ()

    @classmethod
    def of(cls, observations: Iterable[Observation]) -> History:
        """Return the history of the observations whose times are positive."""
        return cls(tuple(o for o in observations if o.estimated_s > 0 and o.observed_s > 0))

    def correction(self, phase: PhaseName, machine: str, method: str, family: str, model: str) -> Correction:
        """Return the median of observed / estimated time for the same phase and method on the same machine type.

        It is taken over the observations of this model if there are any, else of its family, else of its method (not
        for baselines). Without observations, the factor is 1.
        """
        here = [o for o in self.observations if o.phase == phase and o.machine == machine and o.method == method]
        for chosen in (
            [o for o in here if o.model == model],
            [o for o in here if o.family == family],
            here if method != "baseline" else [],
        ):
            if chosen:
                return Correction(median(o.observed_s / o.estimated_s for o in chosen), len(chosen))
        return Correction(1.0, 0)
