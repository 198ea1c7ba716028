"""ASHA with rungs that double, which also stops trials at chance level once another trial is above it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ray.tune.schedulers import MedianStoppingRule, TrialScheduler
from ray.tune.schedulers.async_hyperband import AsyncHyperBandScheduler, _Bracket

GO_ON: str = TrialScheduler.CONTINUE
EQUAL = 1e-6
"""Scores that differ by less count as equal."""


class Rungs(_Bracket):  # type: ignore[misc]
    """Bracket of ASHA with its rungs at `milestones`.

    A trial continues past a rung if its score is among the best one in `keep_one_in` of the trials that reached the
    rung. A trial whose score is no better than `chance` continues only while no other score at the rung is: the order
    of scores at chance level carries no information.

    Source: Li et al. 2020, the stopping variant.
    """

    def __init__(self, milestones: Sequence[int], keep_one_in: float, chance: float | None) -> None:
        self.rf, self._chance, self._stop_last_trials = keep_one_in, chance, False
        self._rungs: list[tuple[int, dict[str, float]]] = [(at, {}) for at in sorted(milestones, reverse=True)]

    def cutoff(self, recorded: Mapping[str, float]) -> Any:
        """Return the score below which a trial is stopped at a rung.

        None, which stops no trial, for the first trial at the rung and while all trials there are at chance level.
        """
        quantile = super().cutoff(recorded)
        if quantile is None or self._chance is None:
            return quantile
        return max(quantile, self._chance + EQUAL) if max(recorded.values()) > self._chance + EQUAL else None


Spares = Callable[[Any], bool]
"""Predicate on a Ray Tune trial: whether it is never stopped before its end."""


class DoublingASHA(AsyncHyperBandScheduler):  # type: ignore[misc]
    """Ray's ASHA on several brackets; it compares `score` after `texts`.

    Each trial is assigned to one of `brackets` at random, with the probabilities in `shares`.
    """

    def __init__(
        self, brackets: Sequence[Rungs], shares: Sequence[float], max_t: int, mode: str, spares: Spares
    ) -> None:
        super().__init__(time_attr="texts", metric="score", mode=mode, max_t=max_t, stop_last_trials=False)
        self._spares = spares
        self._brackets, self._shares = list(brackets), list(shares)
        self._generator = np.random.default_rng(0)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Assign the trial to a bracket."""
        drawn = self._generator.choice(len(self._brackets), p=self._shares)
        self._trial_info[trial.trial_id] = self._brackets[drawn]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return whether the trial continues; a spared trial always does, and its scores count for the others."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return GO_ON if self._spares(trial) else decision


class SparingMedian(MedianStoppingRule):  # type: ignore[misc]
    """Ray's median stopping rule, which never stops spared trials."""

    def __init__(self, mode: str, grace_period: int, spares: Spares) -> None:
        super().__init__(
            time_attr="texts", metric="score", mode=mode, grace_period=grace_period, min_time_slice=float("inf")
        )
        self._spares = spares

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return whether the trial continues; a spared trial always does, and its scores count for the others."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if not self._spares(trial):
            return decision
        self._stopped_trials.discard(trial)
        return GO_ON
