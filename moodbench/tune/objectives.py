"""Objectives of a search: quality alone, or quality and training memory, with their Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from moodbench.tune.records import SearchTrial, sign

Objective = Literal["quality", "memory"]
OBJECTIVES: tuple[Objective, ...] = ("quality", "memory")
TOLERANCE = 0.01
"""Largest difference of validation scores without practical relevance: a point of accuracy or F1, 0.01 of nll."""


def winner(
    trials: Sequence[SearchTrial], objective: Objective = "quality", default: str | None = None
) -> SearchTrial | None:
    """Return the winner of a search; None if no trial has a score. `default` is the fit id of the default recipe.

    Objective quality: the trial with the best validation score; on ties one that was trained to its end, then the
    cheaper one. A training keeps the step with the best validation score, so training a stopped or interrupted trial to
    its end could only raise its score: such a trial may win, and its confirmation trains it in full. The default
    recipe, once trained to its end, wins unless another trial is better by more than TOLERANCE, because a smaller lead
    of the best of many trials may be luck (Breiman et al. 1984 prefer the simpler model for the same reason). It also
    wins if no trial was trained to its end: a configuration that learns sooner need not end better.

    Objective memory: of the trials whose score is within TOLERANCE of the best and whose memory is known, the one with
    the lowest memory. It is on the Pareto front, or equal to a trial on it.
    """
    scored = [t for t in trials if t.status != "failed" and t.score is not None]

    def quality(trial: SearchTrial) -> tuple[float, bool, int, str]:
        score = sign(trial.metric) * (trial.score or 0.0)
        return score, trial.status == "finished", -trial.texts_trained, trial.fit_id

    best = max(scored, key=quality, default=None)
    if best is None:
        return None
    if objective == "quality":
        known = next((t for t in scored if t.fit_id == default), None)
        if known is None or not any(t.status == "finished" for t in scored):
            return known or best
        return known if known.status == "finished" and not beats(quality(best)[0], quality(known)[0]) else best
    near = [t for t in scored if t.memory_bytes and quality(t)[0] >= quality(best)[0] - TOLERANCE]
    return min(near, key=lambda t: (t.memory_bytes or 0, *(-q for q in quality(t)[:3]), t.fit_id), default=best)


def beats(score: float, default: float) -> bool:
    """Return whether `score` replaces the default recipe's: it is higher by more than TOLERANCE.

    Higher is better in both; a score such as nll is passed with its sign changed.
    """
    return score > default + TOLERANCE


def challenger(trials: Sequence[SearchTrial], objective: Objective, default: str) -> SearchTrial | None:
    """Return the winner without the default recipe; None if no other trial has a score."""
    return winner([t for t in trials if t.fit_id != default], objective)


def front(trials: Sequence[SearchTrial]) -> list[SearchTrial]:
    """Return the Pareto front of score and memory, least memory first.

    Trials without a score or with unknown memory are left out. Of equal trials one is kept.
    """
    known = [t for t in trials if t.status != "failed" and t.score is not None and t.memory_bytes]
    ordered = sorted(known, key=lambda t: (t.memory_bytes or 0, -sign(t.metric) * (t.score or 0.0), t.fit_id))
    found: list[SearchTrial] = []
    for trial in ordered:
        direction = sign(trial.metric)
        if not found or direction * (trial.score or 0.0) > direction * (found[-1].score or 0.0):
            found.append(trial)
    return found
