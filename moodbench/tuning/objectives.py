"""What a search is judged by: quality alone, or quality and the memory that training takes, with the front of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from moodbench.tuning.records import SearchTrial, sign

Objective = Literal["quality", "memory"]
OBJECTIVES: tuple[Objective, ...] = ("quality", "memory")
TOLERANCE = 0.01
"""Of validation scores: a point of accuracy or F1, 0.01 of nll. Differences up to it are of no practical weight."""


def winner(
    trials: Sequence[SearchTrial], objective: Objective = "quality", default: str | None = None
) -> SearchTrial | None:
    """The pick of a search; None without a score. `default` is the fit id of the default recipe.

    By quality: the best validation score; of equals one that was trained to its end, then the cheaper one. A training keeps the
    step that validation preferred, so training one that was stopped or cut off to its end could only raise its score: it may
    be the pick, and is trained in full when it is confirmed. The default, once trained to its end, is the pick unless another is
    better by more than TOLERANCE: the best of many owes more than that to luck (as Breiman et al. 1984 prefer the simpler model).
    It is the pick too where no training came to its end: who learns sooner need not end better.

    By memory: of those whose score is within TOLERANCE of the best and whose memory is known, the one that took the least. It
    lies on the front, unless one that took as little is better.
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
    """Whether a configuration takes the default recipe's place: its score, where more is better, is higher by more than TOLERANCE."""
    return score > default + TOLERANCE


def challenger(trials: Sequence[SearchTrial], objective: Objective, default: str) -> SearchTrial | None:
    """What the pick would be had the default recipe not been tried; None where no other has a score."""
    return winner([t for t in trials if t.fit_id != default], objective)


def front(trials: Sequence[SearchTrial]) -> list[SearchTrial]:
    """The trials to which no other one is better in score or memory and as good in both, least memory first.

    Trials without a score or whose memory is not known are left out, and of equal ones all but one.
    """
    known = [t for t in trials if t.status != "failed" and t.score is not None and t.memory_bytes]
    ordered = sorted(known, key=lambda t: (t.memory_bytes or 0, -sign(t.metric) * (t.score or 0.0), t.fit_id))
    found: list[SearchTrial] = []
    for trial in ordered:
        direction = sign(trial.metric)
        if not found or direction * (trial.score or 0.0) > direction * (found[-1].score or 0.0):
            found.append(trial)
    return found
