"""What a finished search says: the value of a budget, and which hyper-parameters mattered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moodbench.config.search_space import SearchSpace
from moodbench.tuning.optuna_space import distributions
from moodbench.tuning.records import SearchTrial, sign

NUM_FORESTS = 16


def expected_best(scores: Sequence[float]) -> np.ndarray:
    """The expected best validation score of 1 to N configurations drawn as these N were. Shape (N,).

    Dodge et al. (2019), Show Your Work: E[max of n] = sum over the distinct scores v of v (F(v)^n - F(v-)^n), F the
    empirical distribution. It describes random draws; a guided search does better at equal cost, if it works.
    """
    values = np.sort(np.asarray(scores, dtype=float))
    num = len(values)
    upto = np.arange(1, num + 1) / num
    budgets = np.arange(1, num + 1)[:, None]
    result: np.ndarray = ((upto**budgets - (upto - 1 / num) ** budgets) * values).sum(axis=1)
    return result


@dataclass(frozen=True)
class Importance:
    """Share of the variance of the validation score that one hyper-parameter explains alone."""

    parameter: str
    share: float
    low: float
    high: float
    """5 % and 95 % quantile over bootstrap samples of the trials."""


def importances(space: SearchSpace, trials: Sequence[SearchTrial], seed: int = 0) -> list[Importance]:
    """fANOVA importances (Hutter et al. 2014, optuna's implementation), most important first.

    Empty with fewer than 8 usable trials, or equal scores, or where parameters are conditional: nothing could be told.
    """
    import optuna

    names = [name for name, distribution in space.parameters.items() if not distribution.when]
    usable = [t for t in trials if t.score is not None and all(name in t.configuration for name in names)]
    if len(usable) < 8 or len({t.score for t in usable}) == 1 or len(names) < 2:
        return []
    axes = {name: each for name, each in distributions(space).items() if name in names}
    generator = np.random.default_rng(seed)
    shares: dict[str, list[float]] = {name: [] for name in names}
    for forest in range(NUM_FORESTS):
        drawn = generator.integers(len(usable), size=len(usable)) if forest else np.arange(len(usable))
        study = optuna.create_study(direction="maximize" if sign(usable[0].metric) > 0 else "minimize")
        for index in drawn:
            trial = usable[int(index)]
            study.add_trial(
                optuna.trial.create_trial(
                    params={name: trial.configuration[name] for name in names}, distributions=axes, value=trial.score
                )
            )
        try:
            found = optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=forest), params=names
            )
        except (RuntimeError, ValueError):  # a sample whose scores are all equal says nothing
            continue
        for name in names:
            shares[name].append(found[name])
    if not shares[names[0]]:
        return []
    results = [
        Importance(name, float(np.median(s)), float(np.quantile(s, 0.05)), float(np.quantile(s, 0.95)))
        for name, s in shares.items()
    ]
    return sorted(results, key=lambda i: -i.share)
