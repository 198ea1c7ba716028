"""How long phases really took, next to their estimates: factors that correct the next ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple

PhaseName = Literal["fit", "evaluate", "measure"]


class Observation(NamedTuple):
    """One phase that ran."""

    phase: PhaseName
    machine: str
    """Key of the kind of machine and device."""
    method: str
    """Baseline, linear-probe or lora."""
    family: str
    model: str
    estimated_s: float
    """What the uncorrected estimate says of it."""
    observed_s: float


class Correction(NamedTuple):
    """A factor and what it rests on."""

    factor: float
    num_observations: int
    """0: the estimate stands uncorrected."""


@dataclass(frozen=True)
class History:
    """Observations of one store."""

    observations: tuple[Observation, ...] = ()

    @classmethod
    def of(cls, observations: Iterable[Observation]) -> History:
        """The history of those with a time to speak of."""
        return cls(tuple(o for o in observations if o.estimated_s > 0 and o.observed_s > 0))

    def correction(self, phase: PhaseName, machine: str, method: str, family: str, model: str) -> Correction:
        """The median of observed / estimated for the same phase on the same kind of machine: of this model where it ran,
        else of its family, else of its method; 1 where nothing like it ran there."""
        here = [o for o in self.observations if o.phase == phase and o.machine == machine and o.method == method]
        for chosen in (
            [o for o in here if o.model == model],
            [o for o in here if o.family == family],
            here if method != "baseline" else [],
        ):
            if chosen:
                return Correction(median(o.observed_s / o.estimated_s for o in chosen), len(chosen))
        return Correction(1.0, 0)
