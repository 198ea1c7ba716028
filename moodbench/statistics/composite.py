"""Several criteria at once: a composite score of quality and speed, and Pareto sets.

Weights, pinned anchors, exchange rate and effective shares belong to the score. Read it together with its exchange rate
and effective shares: the choice of anchors is a choice of weights too.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.errors import SpecError, UnknownNameError

Floats = npt.NDArray[np.float64]
CRITERIA = ("accuracy", "f1", "throughput", "latency")
"""Names of the weighted criteria, which are the columns of the utilities."""

MEASURED = ("accuracy", "f1_macro", "throughput_texts_per_s", "latency_p50_s")
"""Leaderboard columns of the criteria, in the same order."""
ERROR_FLOOR = 5e-4
"""Smallest error that counts: no test set here resolves errors below 0.05 points."""


@dataclass(frozen=True)
class Weights:
    """Weight of each criterion, 0 or more; the weights sum to 1."""

    accuracy: float = 0.3
    f1: float = 0.3
    throughput: float = 0.2
    latency: float = 0.2

    def __post_init__(self) -> None:
        values = asdict(self)
        for name, value in values.items():
            if not math.isfinite(value) or value < 0:
                raise SpecError(f"weight {name} is {value}; allowed is a finite number, 0 or more")
        if abs(sum(values.values()) - 1) > 1e-9:
            shown = ", ".join(f"{name}={value:g}" for name, value in values.items())
            raise SpecError(f"weights {shown} add up to {sum(values.values()):g}; allowed is a sum of 1")

    @classmethod
    def parse(cls, text: str) -> Weights:
        """Parse weights such as `accuracy=0.5,f1=0.3,latency=0.2`; a criterion that is not named has weight 0.

        Raises: SpecError if the text or a value is invalid, UnknownNameError for an unknown criterion.
        """
        given: dict[str, float] = {}
        for part in text.split(","):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if not equals:
                raise SpecError(f"weights {text!r}: {part!r} is not NAME=NUMBER; write accuracy=0.5,f1=0.5")
            if name not in CRITERIA:
                raise UnknownNameError("weight", name, CRITERIA)
            if name in given:
                raise SpecError(f"weights {text!r} name {name} twice; once is allowed")
            try:
                given[name] = float(value)
            except ValueError as error:
                raise SpecError(f"weight {name} is {value!r}; allowed is a finite number, 0 or more") from error
        return cls(**(dict.fromkeys(CRITERIA, 0.0) | given))

    def as_series(self) -> pd.Series[float]:
        """Return the weights by criterion."""
        return pd.Series(asdict(self), dtype="float64")


@dataclass(frozen=True)
class LogScale:
    """Log scale with utility 0 at `worst` and 1 at `best`, clipped outside."""

    worst: float
    best: float

    @property
    def log_span(self) -> float:
        """ln(best / worst), negative if less is better."""
        return math.log(self.best / self.worst)

    def utility(self, values: Floats) -> Floats:
        """Return the utility of each value, 0 to 1; NaN for values that are missing or not positive."""
        return np.asarray(np.clip(np.log(np.where(values > 0, values, np.nan) / self.worst) / self.log_span, 0, 1))

    def log_ratio(self, values: Floats) -> Floats:
        """Return ln of the ratio of each value to the geometric mean of the ends, positive if better."""
        return np.asarray(np.sign(self.log_span) * np.log(values / np.sqrt(self.worst * self.best)))


@dataclass(frozen=True)
class Anchors:
    """Fixed ends of the scales, from the packaged anchors.toml."""

    version: int
    """Incremented whenever another field changes."""
    baseline: str
    """Model with skill 0."""
    baseline_tfidf: Mapping[str, Any]
    """Configuration of the baseline: if a dataset has several of its recipes, the one nearest to this has skill 0."""
    skill_floor: float
    throughput_texts_per_s: LogScale
    latency_p50_s: LogScale


@cache
def load_anchors() -> Anchors:
    """Return the anchors that ship with the package."""
    table = tomllib.loads((files("moodbench.statistics") / "anchors.toml").read_text(encoding="utf-8"))
    scales = {f.name: LogScale(**table[f.name]) for f in fields(Anchors) if f.type == "LogScale"}
    return Anchors(**(table | scales))


def _pinned(values: Floats, base: Floats, ceiling: Floats, anchors: Anchors) -> Floats:
    """Return utilities of a row from that row and the anchors alone, so that a score depends on no other row.

    Quality is a skill, (x - base) / (ceiling - base), clipped to skill_floor ... 1: skill 0 is the baseline on the same
    data, skill 1 the label-noise ceiling, or 1.0 if that is unknown. A row much worse than the baseline has a negative
    score (down to -30 with the default weights).
    """
    skill = np.clip((values[..., :2] - base) / np.maximum(ceiling - base, 1e-9), anchors.skill_floor, 1)
    speed = [anchors.throughput_texts_per_s.utility(values[..., 2]), anchors.latency_p50_s.utility(values[..., 3])]
    return np.concatenate([skill, np.stack(speed, axis=-1)], axis=-1)


def _minmax(values: Floats, base: Floats, ceiling: Floats, anchors: Anchors) -> Floats:
    """Return each criterion, scaled linearly to 0 ... 1 over the rows: the classic composite, relative to these rows.

    Adding or removing a row changes the other scores and can reverse their order. A criterion with one value in all
    rows is 1.0, because no row is worse than the best.
    """
    better = np.concatenate([values[..., :3], -values[..., 3:]], axis=-1)
    low, span = better.min(axis=-2, keepdims=True), np.ptp(better, axis=-2, keepdims=True)
    return np.where(span > 0, (better - low) / np.where(span > 0, span, 1), 1.0)


def _geomean(values: Floats, base: Floats, ceiling: Floats, anchors: Anchors) -> Floats:
    """Return ln of the ratio of each criterion to its reference; 0 is the reference.

    The reference of an error (1 - accuracy, 1 - F1; at least ERROR_FLOOR) is the baseline's on the same data, that of a
    speed the geometric mean of the anchors. The order of the entries does not depend on the reference.
    Source: Fleming & Wallace 1986; as in SPEC benchmarks, with errors for quality.
    """
    quality = np.log(np.maximum(1 - base, ERROR_FLOOR)) - np.log(np.maximum(1 - values[..., :2], ERROR_FLOOR))
    speed = [anchors.throughput_texts_per_s.log_ratio(values[..., 2]), anchors.latency_p50_s.log_ratio(values[..., 3])]
    return np.concatenate([quality, np.stack(speed, axis=-1)], axis=-1)


@dataclass(frozen=True)
class Composite:
    """Rule that combines the criteria into one score: link(weights x utilities)."""

    utilities: Callable[[Floats, Floats, Floats, Anchors], Floats] | None
    """Function of the values `(..., M, 4)` of CRITERIA and of the base and ceiling of quality `(..., M, 2)`.

    It returns the utilities `(..., M, 4)`. None if there is no score.
    """
    link: Callable[[Any], Any]
    help: str

    def score(self, utilities: pd.DataFrame, weights: Weights) -> pd.Series[float]:
        """Return the score of each row of `utilities`; NaN if any utility is.

        Weights are never re-normalised, and a criterion with weight 0 is still required.
        """
        made: pd.Series[float] = self.link(utilities.mul(weights.as_series()).sum(axis=1, skipna=False))
        return made


COMPOSITES: Mapping[str, Composite] = {
    "pinned": Composite(_pinned, lambda u: 100 * u, "fixed anchors: a score depends on no other row"),
    "minmax": Composite(_minmax, lambda u: 100 * u, "relative to the rows shown"),
    "geomean": Composite(_geomean, lambda u: 100 * np.exp(u), "weighted product of ratios to the baseline"),
    "none": Composite(None, lambda u: u, "no weights: Pareto order of error, latency and memory"),
}


def utilities_of(rows: pd.DataFrame, composite: Composite, anchors: Anchors) -> pd.DataFrame:
    """Return the utilities of each row of one dataset, with a column for each of CRITERIA; NaN if a value is missing.

    Columns read: MEASURED, and base_ and ceiling_ of accuracy and f1_macro.
    """
    assert composite.utilities is not None, "a composite without a score has no utilities"
    values, base, ceiling = values_of(rows)
    known = np.isfinite(values).all(axis=1) & (values[:, 2:] > 0).all(axis=1)
    made = np.full(values.shape, np.nan)
    if known.any():
        made[known] = composite.utilities(values[known], base[known], ceiling[known], anchors)
    return pd.DataFrame(made, index=rows.index, columns=list(CRITERIA))


def values_of(rows: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """Return the values of CRITERIA `(M, 4)` and the base and ceiling of quality `(M, 2)` of the rows of one dataset.

    A ceiling that is unknown is 1.0; one that is not above the base is NaN, because there is no scale then.
    """
    base, ceiling = (_numbers(rows, [f"{end}_{c}" for c in MEASURED[:2]]) for end in ("base", "ceiling"))
    ceiling = np.where(np.isnan(ceiling), 1.0, ceiling)
    return _numbers(rows, MEASURED), base, np.where(ceiling > base, ceiling, np.nan)


def get_composite(name: str) -> Composite:
    """Return the composite of that name.

    Raises: UnknownNameError, with the nearest name, if there is none.
    """
    if name not in COMPOSITES:
        raise UnknownNameError("composite", name, COMPOSITES)
    return COMPOSITES[name]


def spread(utilities: pd.DataFrame) -> pd.Series[float]:
    """Return the standard deviation (ddof 0) of each criterion over the complete rows."""
    return utilities[list(CRITERIA)].dropna().std(ddof=0)


def effective_shares(spreads: pd.Series[float], weights: Weights) -> dict[str, float]:
    """Return the share of each criterion in the score differences: weight x `spread`, scaled to sum to 1.

    All NaN if nothing differs, as on a leaderboard with one row.
    """
    moved = weights.as_series() * spreads
    total = float(moved.sum())
    return {name: float(moved[name]) / total if total > 0 else math.nan for name in CRITERIA}


def exchange_rate(weights: Weights, anchors: Anchors, accuracy_span: float, f1_span: float) -> float:
    """Return the factor s of speed worth +1 point (0.01) of accuracy and F1 in the pinned score, between the anchors.

    The factor means throughput x s together with latency / s. The spans are ceiling - base of each metric, as shares.
    1.0 if quality has no weight, infinite if speed has none.
    Raises: ValueError unless both spans are positive.
    """
    if not min(accuracy_span, f1_span) > 0:
        raise ValueError(f"the spans are {accuracy_span} and {f1_span}; needed is base < ceiling, a span above 0")
    gain = 0.01 * (weights.accuracy / accuracy_span + weights.f1 / f1_span)
    gain_per_log = (
        weights.throughput / anchors.throughput_texts_per_s.log_span - weights.latency / anchors.latency_p50_s.log_span
    )
    if gain_per_log == 0:
        return math.inf
    log_factor = gain / gain_per_log
    return math.exp(log_factor) if log_factor < 700 else math.inf


def latency_for_a_point(
    composite: str,
    weights: Weights,
    anchors: Anchors,
    row: Mapping[str, Any],
    accuracy_span: float,
    latency_span_s: float,
) -> float | None:
    """Return by how many seconds latency may rise for the same score with one more point (0.01) of accuracy alone.

    None if there is no such number: latency has no weight, the composite has no score, or the error is below a point.
    The spans are those of the complete rows shown, which `minmax` needs.
    """
    latency, base = float(row["latency_p50_s"]), float(row["base_accuracy"])
    if weights.latency == 0 or not latency > 0:
        return None
    share = weights.accuracy / weights.latency
    if composite == "minmax":
        return share * 0.01 / accuracy_span * latency_span_s if accuracy_span > 0 else None
    if composite == "pinned":
        ceiling = row.get("ceiling_accuracy")
        span = (1.0 if ceiling is None or math.isnan(ceiling) else float(ceiling)) - base
        log_factor = share * 0.01 / span * abs(anchors.latency_p50_s.log_span) if span > 0 else math.inf
    elif composite == "geomean" and 1 - float(row["accuracy"]) - 0.01 > ERROR_FLOOR:
        error = 1 - float(row["accuracy"])
        log_factor = share * math.log(error / (error - 0.01))
    else:
        return None
    return latency * math.expm1(log_factor) if log_factor < 50 else None


def _numbers(rows: pd.DataFrame, columns: Sequence[str]) -> Floats:
    """Return columns as float64 `(rows, columns)`; None and infinite values become NaN."""
    values = rows[list(columns)].astype("float64").to_numpy()
    return np.where(np.isfinite(values), values, np.nan)


def pareto_set(costs: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return whether each row of `costs` `(M, K)` is in the Pareto set, `(M,)`; a row with NaN never is.

    Less is better: no other row is as good in all columns and better in one.
    """
    table = np.asarray(costs, dtype=np.float64)
    no_worse = (table[:, None] <= table[None]).all(axis=2)
    better = (table[:, None] < table[None]).any(axis=2)
    return np.asarray(~(no_worse & better).any(axis=0) & np.isfinite(table).all(axis=1))


def membership(error_draws: npt.ArrayLike, cost: npt.ArrayLike) -> Floats:
    """Return the share of the draws in which each entry is in the Pareto set of error and `cost`, `(M,)`.

    The bootstrap draws of the error are `(B, M)`; `cost` is `(M,)`, or `(B, M)` if it is drawn too.
    """
    errors, costs = np.asarray(error_draws, dtype=np.float64), np.atleast_2d(np.asarray(cost, dtype=np.float64))
    found = np.zeros(errors.shape[1])
    for m in range(errors.shape[1]):
        gap = errors - errors[:, [m]]  # (B, M), negative where the other entry has the lower error
        own = costs[:, [m]]
        beaten = ((gap <= 0) & (costs < own)) | ((gap < 0) & (costs <= own))
        found[m] = (~beaten.any(axis=1)).mean() if np.isfinite(own).all() else 0.0
    return found


def contributions(costs: npt.ArrayLike, reference: tuple[float, float]) -> Floats:
    """Return how much the hypervolume of `costs` `(M, 2)` falls without each row, `(M,)`; NaN for a missing cost."""
    table = np.asarray(costs, dtype=np.float64)
    known = np.isfinite(table).all(axis=1)
    whole = hypervolume(table[known], reference)
    left = [
        whole - hypervolume(table[known & (np.arange(len(table)) != m)], reference) if known[m] else np.nan
        for m in range(len(table))
    ]
    return np.array(left, dtype=np.float64)


def layers(costs: npt.ArrayLike) -> Floats:
    """Return the Pareto layer of each row of `costs` `(M, K)`, `(M,)`; NaN for rows with a missing cost.

    Layer 1 is the Pareto set, layer 2 the Pareto set of the rest, and so on.
    Source: Goldberg 1989 (non-dominated sorting).
    """
    table = np.asarray(costs, dtype=np.float64).copy()
    found = np.full(len(table), np.nan)
    layer = 0
    while np.isfinite(table).all(axis=1).any():
        layer += 1
        front = pareto_set(table)
        found[front] = layer
        table[front] = np.nan
    return found


def hypervolume(costs: npt.ArrayLike, reference: tuple[float, float]) -> float:
    """Return the area that the rows of `costs` `(M, 2)` dominate below `reference`.

    Source: Zitzler & Thiele 1998.
    """
    table = np.asarray(costs, dtype=np.float64)
    inside = table[(table < np.asarray(reference)).all(axis=1)]
    area, ceiling = 0.0, reference[1]
    for x, y in inside[np.lexsort((inside[:, 1], inside[:, 0]))]:
        if y < ceiling:
            area += (reference[0] - x) * (ceiling - y)
            ceiling = y
    return float(area)
