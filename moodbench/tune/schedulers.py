"""Trial schedulers: rules that stop configurations which fall behind, and their adapter to Ray Tune."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from moodbench.data.loader import load_source
from moodbench.metrics import score_all
from moodbench.spec import FitSpec
from moodbench.trial import validation_of
from moodbench.tune.search import SchedulerName

SCHEDULERS: tuple[SchedulerName, ...] = ("asha", "hyperband", "median", "none")
KEEP_ONE_IN = 4
"""ASHA and HyperBand keep one in this many trials at each rung."""
RUNGS = (1, 2, 4, 8)
"""ASHA's rungs, in ninths of the longest training: just before the first, second, fourth and eighth of the default
recipe's eight validations. No trial is stopped before the first rung."""
FIRST_RUNGS = (1, 4, 9)
"""First rung of each HyperBand bracket, in ninths of the longest training. The second bracket stops no trial before
four ninths, the third stops none at all."""
SHARES = (0.65, 0.25, 0.1)
"""Share of the trials in each of these brackets."""
MIN_CURVES = 3
"""The median rule stops no trial while fewer other trials have come as far."""
EQUAL = 1e-6
"""Scores that differ by less count as equal."""
CHANCE_QUANTILE = 0.99
"""Chance level: 99 of 100 sets of random predictions score no better."""
NUM_DRAWS = 2_000


def stopping_rule(name: SchedulerName, longest: int, chance: float | None = None) -> StoppingRule | None:
    """Return the rule `name` for trainings of at most `longest` texts; None for `none`.

    `chance` is the chance level, None if scores separate trainings from the first step on. HyperBand is asynchronous
    and pauses no trial, because a pause would lose the steps since the last checkpoint. No rung lies at the end of the
    longest training, where stopping would only discard finished work.
    """
    if name == "asha":
        return SuccessiveHalving([_milestones(longest, FIRST_RUNGS[0])], (1.0,), chance)
    if name == "hyperband":
        return SuccessiveHalving([_milestones(longest, first) for first in FIRST_RUNGS], SHARES, chance)
    return MedianRule(_ninths(longest, 1)) if name == "median" else None


def _ninths(longest: int, number: int) -> int:
    return max(1, -(-number * longest // 9))


def _milestones(longest: int, first: int) -> list[int]:
    parts = {_ninths(longest, number) for number in RUNGS if number >= first}
    return sorted(part for part in parts if part < longest)


class SuccessiveHalving:
    """Asynchronous successive halving; each trial is assigned at random to one of several brackets of rungs.

    A trial continues past a rung if its score is among the best one in KEEP_ONE_IN of the trials that reached the rung
    before. A trial at chance level continues only while all others at the rung are: the order of scores at chance
    level carries no information.

    Source: Li et al. 2020, the stopping variant.
    """

    def __init__(self, brackets: Sequence[Sequence[int]], shares: Sequence[float], chance: float | None) -> None:
        self.brackets = [{at: dict[str, float]() for at in sorted(rungs, reverse=True)} for rungs in brackets]
        """Of each bracket the rungs, highest first: texts -> trial -> score."""
        self._shares, self._chance = shares, chance
        self._bracket_of: dict[str, Mapping[int, dict[str, float]]] = {}
        self._generator = np.random.default_rng(0)

    def keeps(self, trial_id: str, texts: int, best: float) -> bool:
        """Record the score at the highest rung reached; a trial is judged once per rung."""
        if trial_id not in self._bracket_of:
            self._bracket_of[trial_id] = self.brackets[self._generator.choice(len(self.brackets), p=self._shares)]
        for milestone, scores in self._bracket_of[trial_id].items():
            if texts >= milestone:
                if trial_id in scores:
                    return True
                cutoff = self._cutoff(list(scores.values()))
                scores[trial_id] = best
                return cutoff is None or not best < cutoff  # a score that is not a number is no reason to stop
        return True

    def _cutoff(self, scores: list[float]) -> float | None:
        """Return the score below which a trial is stopped; None for the first, and while all are at chance level."""
        if not scores:
            return None
        quantile = float(np.nanpercentile(scores, 100 * (1 - 1 / KEEP_ONE_IN)))
        if self._chance is None:
            return quantile
        return max(quantile, self._chance + EQUAL) if max(scores) > self._chance + EQUAL else None


class MedianRule:
    """Median stopping rule: stop a trial whose best score is below the median of the others' running means.

    Source: Golovin et al. 2017, Google Vizier, section 3.2.2.
    """

    def __init__(self, grace_texts: int) -> None:
        self._grace = grace_texts
        self._curves: dict[str, dict[int, float]] = {}

    def keeps(self, trial_id: str, texts: int, best: float) -> bool:
        """Compare with the trials that came at least as far, from the end of the grace period on."""
        own = self._curves.setdefault(trial_id, {})
        own[texts] = best
        if texts < self._grace:
            return True
        others = [c for other, c in self._curves.items() if other != trial_id and max(c) >= texts]
        windows = [[score for at, score in curve.items() if self._grace <= at <= texts] for curve in others]
        means = [np.mean(window) for window in windows if window]
        return len(means) < MIN_CURVES or max(own.values()) >= float(np.median(means))


StoppingRule = SuccessiveHalving | MedianRule
"""Decides by `keeps`, after each validation, whether a trial continues; higher scores are better."""


def add_curves(rule: StoppingRule | None, curves: Iterable[Sequence[tuple[int, float]]], direction: int) -> None:
    """Add learning curves (texts, score) of configurations that ended in earlier commands to `rule`."""
    if rule is None:
        return
    for number, curve in enumerate(curves):
        bests = accumulate((direction * score for _, score in curve), max)
        for (texts, _), best in zip(curve, bests, strict=True):
            rule.keeps(f"recorded-{number}", texts, best)


def ray_scheduler(rule: StoppingRule | None, direction: int, is_spared: Callable[[Mapping[str, Any]], bool]) -> Any:
    """Return a Ray Tune scheduler that starts trials in order and stops them by `rule`.

    Trials whose config `is_spared` are never stopped: the score that the others have to beat must be known. `direction`
    is -1 if a lower `score` is better.
    """
    from ray.tune.schedulers import FIFOScheduler, TrialScheduler

    class RuleScheduler(FIFOScheduler):  # type: ignore[misc]
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            keeps = (
                rule is None
                or "score" not in result  # a trial that ended without any report
                or rule.keeps(trial.trial_id, result["texts"], direction * result["score"])
            )
            decision: str = TrialScheduler.CONTINUE if keeps or is_spared(trial.config) else TrialScheduler.STOP
            return decision

    return RuleScheduler()


def chance_level(metric: str, labels: npt.NDArray[np.int64], num_classes: int) -> float | None:
    """Return the highest score of predictions made without reading the texts; None for nll.

    Such predictions are the same class for every text, or drawn for each text, either with equal probabilities or with
    the shares of the classes: an untrained classifier gives one or the other. Of drawn predictions the quantile
    CHANCE_QUANTILE counts. The nll needs no chance level, because it moves from the first step on.
    """
    if metric == "nll":
        return None
    constant = (np.tile(np.eye(num_classes)[each], (len(labels), 1)) for each in range(num_classes))
    same = max(score_all(logits, labels)[metric] or 0.0 for logits in constant)
    sizes = np.bincount(labels, minlength=num_classes)
    generator = np.random.default_rng(0)
    drawn = [
        _drawn_scores(metric, sizes, probabilities, generator)
        for probabilities in (np.full(num_classes, 1 / num_classes), sizes / len(labels))
    ]
    return max(same, *(float(np.quantile(scores, CHANCE_QUANTILE, method="higher")) for scores in drawn))


def _drawn_scores(
    metric: str,
    sizes: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    generator: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Return accuracy or macro-F1 of NUM_DRAWS sets of predictions drawn with these class probabilities.

    `sizes` is the number of texts per class. All draws are computed at once, from counts `(draw, class, prediction)`.
    """
    counts = np.stack([generator.multinomial(size, probabilities, NUM_DRAWS) for size in sizes], axis=1)
    right = np.einsum("dkk->dk", counts)
    if metric == "accuracy":
        return np.asarray(right.sum(axis=1) / sizes.sum())
    return np.asarray((2 * right / np.maximum(counts.sum(axis=1) + sizes, 1)).mean(axis=1))


def chance_level_of(fit: FitSpec) -> float | None:
    """Return the chance level on the validation texts of `fit`, whose dataset is loaded."""
    assert fit.train is not None
    examples = load_source(fit.dataset.name, fit.dataset)
    labels = validation_of(examples, fit)["label"].to_numpy()
    return chance_level(fit.train.select_by, labels, len(fit.dataset.labels))
