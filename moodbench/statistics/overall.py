"""All datasets together: the datasets covered, each entry's means over those, and the means of its bootstrap draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from moodbench.statistics.bootstrap import BootstrapDraws
from moodbench.statistics.intervals import Interval, mean_of_independent, percentile_interval
from moodbench.training.outcome import worst_training_verdict

OVERALL = "overall"
QUALITY = ("accuracy", "f1_macro", "precision_macro", "recall_macro", "mcc", "auroc", "nll", "brier", "ece")
SPEED = (
    "latency_p50_s",
    "latency_p99_s",
    "latency_p99_high_s",
    "throughput_texts_per_s",
    "throughput_tokens_per_s",
    "throughput_batch_size",
    "cold_start_s",
    "memory_peak_batch1_bytes",
    "memory_libraries_bytes",
    "memory_weights_bytes",
    "memory_working_bytes",
    "memory_peak_bytes",
    "weights_bytes",
    "clean_share",
)
SIZES = ("num_params", "num_trainable")
TIES = ("accuracy_rank_low", "accuracy_rank_high", "accuracy_letters", "tied_best", "tied_f1")
"""Columns of `mean_ties`."""
MIXED = "mixed"
"""Estimand of a mean over datasets with both estimands, checkpoint and recipe."""


def covered(rows: pd.DataFrame) -> list[str]:
    """Return the datasets of the overall rows: those with a baseline and results of more than half of the entries.

    One entry with one more dataset therefore takes no other entry's overall score away. Entries are counted by name:
    several recipes of one name count once, and the baseline, which every run includes, does not count. Without any
    baseline in the store, none is required. Empty if fewer than two datasets remain, because there is nothing to
    average.
    """
    if rows.empty:
        return []
    known = rows["base_name"].notna()
    rows = rows[known] if known.any() else rows
    plain, zero = (rows[c].astype("object").str.split(" #").str[0] for c in ("name", "base_name"))
    others = rows.assign(plain=plain)[plain != zero]
    if others.empty:
        tracks = list(dict.fromkeys(rows["track"]))
    else:
        counts = others.groupby("track", sort=False)["plain"].nunique()
        tracks = counts.index[2 * counts > others["plain"].nunique()].tolist()
    return tracks if len(tracks) > 1 else []


def overall(leaderboard: pd.DataFrame, tracks: Sequence[str]) -> pd.DataFrame:
    """Return one row per entry over the datasets `tracks`: unweighted means of quality, medians of speed.

    `leaderboard` holds the rows of all datasets. The interval of a mean combines the intervals of the datasets as
    independent ones: see `intervals.mean_of_independent`. Its estimand is theirs, or `mixed`. `device_name` is set only
    if it is the same for all. `on_all` says whether the entry has results on every dataset; `covers` lists datasets.
    """
    part = leaderboard[leaderboard["track"].isin(tracks)]
    every, sets = leaderboard["track"].nunique(), part["dataset"].nunique() == len(tracks)
    what = "datasets" if sets else "tracks"
    number = f"{len(tracks)}" if every == len(tracks) else f"{len(tracks)} of {every}"
    groups = part.groupby("name", sort=True)
    means, medians = [*QUALITY, "train_time_s"], [*SPEED, *SIZES]
    numeric = part[["name", *means, *medians]].astype(dict.fromkeys([*means, *medians], "float64")).groupby("name")
    size, first = groups.size(), groups[["model", "method", "quantization"]].first()
    rows = pd.concat([numeric[means].mean(), numeric[medians].median(), first], axis=1)
    ends_of = {"accuracy": "accuracy"} | ({"f1": "f1_macro"} if "f1_low" in part else {})
    ends = pd.DataFrame(
        {name: _joined(group, ends_of) for name, group in groups},
        index=[f"{s}_{e}" for s in ends_of for e in ("low", "high")],
    ).T
    rows = rows.assign(
        track=f"{OVERALL} ({number} {what})",
        dataset=OVERALL,
        covers=pd.Series([tuple(tracks)] * len(rows), index=rows.index),
        num_seeds=groups["num_seeds"].min(),
        num_test=groups["num_test"].sum(),
        num_train=groups["num_train"].sum(),
        on_all=size == len(tracks),
        interval_method="mover",
        estimand=_joined_texts(part, "estimand", partial(_common, otherwise=MIXED)),
        device_name=_joined_texts(part, "device_name", _common),
        **{f"{short}_{end}": ends[f"{short}_{end}"] for short in ends_of for end in ("low", "high")},
        provisional=groups["provisional"].any(),
        trivial=groups["trivial"].all() if "trivial" in part else False,
        quick=groups["quick"].any(),
        slow_machine=groups["slow_machine"].any(),
        verdict=_joined_texts(part, "verdict", worst_verdict),
        training_verdict=_joined_texts(part, "training_verdict", worst_training_verdict),
    )
    return rows.reset_index()


def _joined_texts(part: pd.DataFrame, column: str, join: Callable[[Iterable[Any]], str | None]) -> pd.Series[str]:
    """Return `join` of each entry's values, by name; plain lists, because a groupby is too slow for a slider."""
    values: dict[str, list[Any]] = {}
    for name, value in zip(part["name"], part[column], strict=True):
        values.setdefault(name, []).append(value)
    return pd.Series({name: join(given) for name, given in values.items()}, dtype=object)


def _known(values: Iterable[Any]) -> list[str]:
    return [str(v) for v in dict.fromkeys(values) if pd.notna(v)]


def worst_verdict(verdicts: Iterable[Any]) -> str | None:
    """Return the worst verdict of several measurements, or None if none is known."""
    known = _known(verdicts)
    return next((v for v in ("invalid", "contaminated", "not steady", "unknown", "clean") if v in known), None)


def _common(values: Iterable[Any], otherwise: str | None = None) -> str | None:
    """Return the common value, `otherwise` if the values differ, or None if none is known."""
    found = _known(values)
    return None if not found else found[0] if len(found) == 1 else otherwise


def _joined(group: pd.DataFrame, columns: Mapping[str, str]) -> list[float]:
    """Return the interval ends of one entry's means over datasets: low and high of each of `columns`."""
    found: list[float] = []
    for short, column in columns.items():
        points, low, high = (group[c].astype(float).to_numpy() for c in (column, f"{short}_low", f"{short}_high"))
        parts = [  # any common estimand will do: that of the mean is given apart
            Interval(float(p), float(a), float(b), 0.95, "any", "checkpoint", int(n))
            for p, a, b, n in zip(points, low, high, group["num_test"], strict=True)
        ]
        joined = mean_of_independent(parts)
        found += [joined.low, joined.high]
    return found


def mean_draws(tracks: Mapping[str, BootstrapDraws]) -> BootstrapDraws | None:
    """Return the unweighted mean over datasets, draw by draw, of the entries that all datasets have; None without any.

    Datasets are independent, so that any draw of one can be paired with any draw of another. With a tiny class
    in any of them, the mean of macro-F1 separates nobody either.
    """
    parts = list(tracks.values())
    names = [n for n in parts[0].names if all(n in part.names for part in parts)] if parts else []
    if not names:
        return None
    at = [[part.names.index(n) for n in names] for part in parts]
    accuracy, f1, accuracy_draws, f1_draws = (
        np.mean([getattr(part, what)[..., here] for part, here in zip(parts, at, strict=True)], axis=0)
        for what in ("accuracy", "f1_macro", "accuracy_draws", "f1_draws")
    )
    seeds = np.min([np.array(part.num_seeds)[here] for part, here in zip(parts, at, strict=True)], axis=0)
    return BootstrapDraws(
        names=tuple(names),
        accuracy=accuracy,
        f1_macro=f1,
        accuracy_draws=accuracy_draws,
        f1_draws=f1_draws,
        num_items=items_of_mean([part.num_items for part in parts]),
        num_seeds=tuple(seeds.tolist()),
        discordance=float(np.mean([part.discordance for part in parts])),
        rarest_class=min((part.rarest_class for part in parts if part.rarest_class is not None), default=None),
        num_f1_items=items_of_mean([part.f1_items for part in parts]),
    )


def items_of_mean(num_items: Sequence[int]) -> int:
    """Return how many examples one dataset needs to know a score as well as the unweighted mean over these datasets.

    The variance of the mean over D datasets is that of an example times the sum of 1 / n, divided by D squared: four
    datasets of 300 examples count as 1,200, one of 100 beside three of 10,000 as 1,553.
    """
    return round(len(num_items) ** 2 / sum(1 / n for n in num_items))


def mean_ties(bootstrap: BootstrapDraws) -> pd.DataFrame:
    """Return TIES of each entry, by name, from all pairs of entries."""
    accuracy, f1 = bootstrap.accuracy_ranking, bootstrap.f1_ranking
    columns = [accuracy.low, accuracy.high, accuracy.letters, accuracy.tied_best, f1.tied_best]
    return pd.DataFrame(dict(zip(TIES, columns, strict=True)), index=pd.Index(bootstrap.names, name="name"))


def separated(bootstrap: BootstrapDraws, a: str, b: str, level: float = 0.95) -> bool:
    """Return whether the interval of the difference in accuracy of two entries excludes 0."""
    draws = bootstrap.accuracy_draws
    low, high = percentile_interval(draws[:, bootstrap.names.index(a)] - draws[:, bootstrap.names.index(b)], level)
    return low > 0 or high < 0
