"""Trial schedulers, which stop configurations that fall behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

SchedulerName = Literal["asha", "hyperband", "median", "none"]
SCHEDULERS: tuple[SchedulerName, ...] = ("asha", "hyperband", "median", "none")
KEEP_ONE_IN = 4
"""ASHA and HyperBand keep one in this many trials at each rung."""
RUNGS = (1, 2, 4, 8)
"""ASHA's rungs, in ninths of the longest training: just before the first, second, fourth and eighth of the default
recipe's eight validations. No trial is stopped before the first rung."""
SPARED = (1, 4, 9)
"""First rung of each HyperBand bracket, in ninths of the longest training. The second bracket stops no trial before
four ninths, the third stops none at all."""
SHARES = (0.65, 0.25, 0.1)
"""Share of the trials in each of these brackets."""


def scheduler_of(
    name: SchedulerName,
    longest: int,
    mode: str,
    chance: float | None = None,
    spares: Callable[[Any], bool] = lambda trial: False,
) -> Any:
    """Return the Ray Tune scheduler `name` for trainings of at most `longest` texts; None for `none`.

    `chance` is the chance level: the best score of answers given without reading the texts, or None if scores separate
    trainings from the first step on. Trials for which `spares` is true are never stopped: the score that the others
    have to beat must be known. HyperBand is asynchronous and pauses no trial, because a pause would lose the steps
    since the last checkpoint. No rung lies at the end of the longest training, where stopping would only discard
    finished work.
    """

    def spared(trial: Any) -> bool:
        return getattr(trial, "is_recorded", False) or spares(trial)

    if name in ("asha", "hyperband"):
        from moodbench.tune.rungs import DoublingASHA, Rungs

        firsts, shares = (SPARED, SHARES) if name == "hyperband" else (SPARED[:1], (1.0,))
        brackets = [Rungs(_milestones(longest, first), KEEP_ONE_IN, chance) for first in firsts]
        return DoublingASHA(brackets, shares, longest, mode, spared)
    if name == "median":
        from moodbench.tune.rungs import SparingMedian

        return SparingMedian(mode, _part(longest, 1), spared)
    return None


def _part(longest: int, number: int) -> int:
    return max(1, -(-number * longest // 9))


def _milestones(longest: int, first: int) -> list[int]:
    parts = {_part(longest, number) for number in RUNGS if number >= first}
    return sorted(part for part in parts if part < longest)


@dataclass(eq=False)
class PastTrial:
    """The attributes of a Ray Tune trial that its schedulers read."""

    trial_id: str
    status: str = "RUNNING"
    config: dict[str, Any] = field(default_factory=dict)
    is_recorded: bool = False
    """Whether the trial ended before the scheduler was created, so that it can no longer be stopped."""


def prime(scheduler: Any, curves: Iterable[Sequence[tuple[int, float]]], direction: int) -> None:
    """Feed `scheduler` the learning curves (texts, score) of configurations that ended before it was created."""
    if scheduler is None:
        return
    for number, curve in enumerate(curves):
        trial = PastTrial(f"recorded-{number}", is_recorded=True)
        scheduler.on_trial_add(None, trial)
        best = None
        for texts, score in curve:
            best = score if best is None or direction * score > direction * best else best
            scheduler.on_trial_result(None, trial, {"texts": texts, "score": best})
        if best is not None:
            scheduler.on_trial_complete(None, trial, {"texts": curve[-1][0], "score": best})
