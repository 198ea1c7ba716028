"""What stops configurations that fall behind."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

SchedulerName = Literal["asha", "hyperband", "median", "none"]
SCHEDULERS: tuple[SchedulerName, ...] = ("asha", "hyperband", "median", "none")
REDUCTION = 3
"""ASHA and HyperBand keep one in so many trials at each rung."""
GRACE_SHARE = 9
"""No trial is stopped before one part in so many of the longest training."""
BRACKETS = 3
"""Of HyperBand: the second spares a trial until a third of the longest training, the third lets it go on to its end."""


def scheduler_of(name: SchedulerName, longest: int, mode: str) -> Any:
    """Ray Tune's scheduler called `name` for trainings of at most `longest` texts; None for `none`.

    HyperBand is the asynchronous one: nothing is paused, which would lose the steps since the last checkpoint. No rung lies
    at the end of the longest training, where stopping would only throw away what is done.
    """
    from ray.tune import schedulers

    grace = max(1, -(-longest // GRACE_SHARE))
    if name in ("asha", "hyperband"):
        return schedulers.ASHAScheduler(
            time_attr="texts",
            metric="score",
            mode=mode,
            max_t=max(grace, longest - 1),
            grace_period=grace,
            reduction_factor=REDUCTION,
            brackets=BRACKETS if name == "hyperband" else 1,
            stop_last_trials=False,
        )
    if name == "median":
        return schedulers.MedianStoppingRule(
            time_attr="texts", metric="score", mode=mode, grace_period=grace, min_time_slice=math.inf
        )
    return None


@dataclass(eq=False)
class PastTrial:
    """As much of a trial of Ray Tune as its schedulers look at."""

    trial_id: str
    status: str = "RUNNING"
    config: dict[str, Any] = field(default_factory=dict)


def prime(scheduler: Any, curves: Iterable[Sequence[tuple[int, float]]], direction: int) -> None:
    """Nothing; `scheduler` has seen the learning curves (texts, score) of configurations that ended before it was made."""
    if scheduler is None:
        return
    for number, curve in enumerate(curves):
        trial = PastTrial(f"recorded-{number}")
        scheduler.on_trial_add(None, trial)
        best = None
        for texts, score in curve:
            best = score if best is None or direction * score > direction * best else best
            scheduler.on_trial_result(None, trial, {"texts": texts, "score": best})
        if best is not None:
            scheduler.on_trial_complete(None, trial, {"texts": curve[-1][0], "score": best})
