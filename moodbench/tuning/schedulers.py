"""What stops configurations that fall behind."""

from __future__ import annotations

from typing import Any, Literal

SchedulerName = Literal["asha", "hyperband", "median", "none"]
REDUCTION = 3
"""ASHA and HyperBand keep one in so many trials at each rung."""
GRACE_SHARE = 1 / 9
"""No trial is stopped before this share of the longest training."""


def scheduler_of(name: SchedulerName, longest: int, mode: str) -> Any:
    """Ray Tune's scheduler called `name` for trainings of at most `longest` texts; None for `none`."""
    from ray.tune import schedulers

    grace = max(1, round(longest * GRACE_SHARE))
    if name == "asha":
        return schedulers.ASHAScheduler(
            time_attr="texts",
            metric="score",
            mode=mode,
            max_t=longest,
            grace_period=grace,
            reduction_factor=REDUCTION,
            stop_last_trials=False,
        )
    if name == "hyperband":
        return schedulers.HyperBandScheduler(
            time_attr="texts", metric="score", mode=mode, max_t=longest, reduction_factor=REDUCTION
        )
    if name == "median":
        return schedulers.MedianStoppingRule(time_attr="texts", metric="score", mode=mode, grace_period=grace)
    return None
