"""ASHA with our rungs: each at twice the one before, and what still answers by chance where another does not is stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ray.tune.schedulers import MedianStoppingRule, TrialScheduler
from ray.tune.schedulers.async_hyperband import AsyncHyperBandScheduler, _Bracket

GO_ON: str = TrialScheduler.CONTINUE
EQUAL = 1e-6
"""Scores that differ by less are equal."""


class Rungs(_Bracket):  # type: ignore[misc]
    """A bracket of ASHA (Li et al. 2020, the variant that stops) whose rungs lie at `milestones`.

    A trial goes on past a rung with a score among the best one in `keep_one_in` of those that came there. One whose score
    is no better than `chance` goes on only as long as no score at the rung is: among equals at chance the order says nothing.
    """

    def __init__(self, milestones: Sequence[int], keep_one_in: float, chance: float | None) -> None:
        self.rf, self._chance, self._stop_last_trials = keep_one_in, chance, False
        self._rungs: list[tuple[int, dict[str, float]]] = [(at, {}) for at in sorted(milestones, reverse=True)]

    def cutoff(self, recorded: Mapping[str, float]) -> Any:
        """The score below which a trial is stopped at a rung; None, and none is, for the first that comes there, and as long as
        all that came answer by chance."""
        quantile = super().cutoff(recorded)
        if quantile is None or self._chance is None:
            return quantile
        return max(quantile, self._chance + EQUAL) if max(recorded.values()) > self._chance + EQUAL else None


Spares = Callable[[Any], bool]
"""A trial of Ray Tune to whether it is never stopped before its end."""


class DoublingASHA(AsyncHyperBandScheduler):  # type: ignore[misc]
    """Ray's ASHA on `brackets`, of which a trial gets one with the probability in `shares`; scores are `score` after `texts`."""

    def __init__(
        self, brackets: Sequence[Rungs], shares: Sequence[float], max_t: int, mode: str, spares: Spares
    ) -> None:
        super().__init__(time_attr="texts", metric="score", mode=mode, max_t=max_t, stop_last_trials=False)
        self._spares = spares
        self._brackets, self._shares = list(brackets), list(shares)
        self._generator = np.random.default_rng(0)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Nothing; the trial belongs to a bracket from now on."""
        drawn = self._generator.choice(len(self._brackets), p=self._shares)
        self._trial_info[trial.trial_id] = self._brackets[drawn]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether the trial goes on; one that is spared goes on, and counts for the others."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return GO_ON if self._spares(trial) else decision


class SparingMedian(MedianStoppingRule):  # type: ignore[misc]
    """Ray's median stopping rule, which stops none of those that are spared."""

    def __init__(self, mode: str, grace_period: int, spares: Spares) -> None:
        super().__init__(
            time_attr="texts", metric="score", mode=mode, grace_period=grace_period, min_time_slice=float("inf")
        )
        self._spares = spares

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether the trial goes on; one that is spared goes on, and counts for the others."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if not self._spares(trial):
            return decision
        self._stopped_trials.discard(trial)
        return GO_ON
