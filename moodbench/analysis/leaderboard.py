"""From records to the leaderboard: one row per entry and dataset, with intervals; `scoring` adds score and rank.

An *entry* is a model with one configuration. A row's dataset (`track` in the code) is a dataset revision with a number
of training examples: entries are compared only if they were trained on the same rows and tested on the same rows. Seeds
are averaged first (quality by the mean, speed by the median), then datasets by the unweighted mean: see `overall`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.analysis.trials import COSTS, MAX_CANARY_RATIO, TRACK
from moodbench.statistics.bootstrap import BootstrapDraws
from moodbench.statistics.composite import LogScale, contributions, load_anchors, membership
from moodbench.statistics.intervals import Interval, clipped, two_way, wilson
from moodbench.statistics.overall import QUALITY, SPEED, worst_verdict
from moodbench.statistics.rank_intervals import num_draws_of_pairs, tied_fastest
from moodbench.statistics.seeds import NO_PRIOR, SeedPrior, seed_priors
from moodbench.training.outcome import worst_training_verdict

MAJORITY = "majority"
"""Catalogue name of the model that gives every text the most frequent label."""
ENTRY = [*TRACK, "model", "config_id"]
VARYING = ("accuracy", "f1_macro", "nll")
"""Metrics that differ between the seeds of an entry unless it is deterministic."""
MEASURED = (
    "latency_p50_s", "latency_p50_low_s", "latency_p50_high_s", "latency_p99_s", "latency_p99_high_s",
    "throughput_texts_per_s", "memory_peak_batch1_bytes", "memory_libraries_bytes", "memory_weights_bytes",
    "memory_working_bytes",
)  # fmt: skip
"""Leaderboard columns that come from a measurement."""
PARETO_COSTS: Mapping[str, str] = {
    "latency_p50_s": "p_pareto_latency",
    "memory_peak_batch1_bytes": "p_pareto_memory",
    "train_time_s": "p_pareto_train_time",
}
"""Cost to the column with the probability that no entry has both a lower error and a lower cost."""
AREA_COLUMNS: Mapping[str, str] = {
    "latency_p50_s": "hypervolume_latency",
    "memory_peak_batch1_bytes": "hypervolume_memory",
    "train_time_s": "hypervolume_train_time",
}
"""Cost to the column with the hypervolume of error and that cost that only this entry contributes."""
AREA_SCALES = {"memory_peak_batch1_bytes": LogScale(2**36, 2**25), "train_time_s": LogScale(1e6, 0.1)}
"""Fixed ends of the areas: 64 GiB to 32 MiB, 1,000,000 s to 0.1 s; latency has those of its anchor."""
QUALITY_COLUMNS = (
    "f1_low",
    "f1_high",
    "accuracy_rank_low",
    "accuracy_rank_high",
    "accuracy_letters",
    "tied_best",
    "tied_f1",
    "tied_latency",
    *PARETO_COSTS.values(),
    *AREA_COLUMNS.values(),
)
"""Columns added by `track_with_quality_columns`; null if unknown."""
type SeedPriors = Mapping[tuple[Any, ...], SeedPrior]
"""Values of ENTRY to what comparable entries say about the variance of the accuracy of that entry between seeds."""
Correct = Callable[[list[str]], npt.NDArray[np.bool_]]
"""Function from the evaluation ids of one entry's seeds to right or wrong `(items, seeds)`.

The table has no rows if the predictions of a seed are not stored.
"""


def entries(trials: pd.DataFrame, correct: Correct) -> pd.DataFrame:
    """Return one row per entry and dataset, with everything that does not depend on the weights.

    The records are thus read once for any number of weights.
    """
    if trials.empty:
        return pd.DataFrame(columns=[*ENTRY, "track", "score", "rank"])
    ordered = trials.sort_values(["seed", "evaluation_id"])
    priors = entry_priors(ordered)
    rows = pd.DataFrame([_entry(key, group, correct, priors[key]) for key, group in ordered.groupby(ENTRY, sort=True)])
    # A track is named by dataset and training size, and by the start of the revision if there are several.
    several = rows.groupby(["dataset", "num_train"])["dataset_revision"].transform("nunique") > 1
    revision = (", revision " + rows["dataset_revision"].str[:6]).where(several, "")
    tracks = rows["dataset"] + rows["num_train"].map(" ({:,} training texts".format) + revision + ")"
    rows = rows.assign(name=entry_names(rows), track=tracks)
    rows = rows.assign(trivial=_no_better_than_majority(rows))
    return _with_baseline(rows.astype({"num_steps": "Int64"}))


def with_quality_columns(rows: pd.DataFrame, draws: Mapping[str, BootstrapDraws]) -> pd.DataFrame:
    """Return `rows` of `entries` with the columns of `track_with_quality_columns`, from bootstrap draws by dataset."""
    if rows.empty:
        return rows
    parts = [
        track_with_quality_columns(track, draws.get(str(name)), speed_for_score(track)["latency_p50_s"])
        for name, track in rows.groupby("track", sort=False)
    ]
    return pd.concat(parts)


def speed_for_score(track: pd.DataFrame) -> Mapping[str, pd.Series[float]]:
    """Return the wall-clock speed, or its CPU-time estimate if other load disturbed it; missing if invalid."""
    valid = track["verdict"] != "invalid"
    wall = ~track["provisional"]
    return {
        "latency_p50_s": track["latency_p50_s"].where(wall, track["cpu_time_p50_s"]).where(valid),
        "throughput_texts_per_s": track["throughput_texts_per_s"].where(wall, track["texts_per_cpu_s"]).where(valid),
    }


def valid(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `rows` with the speed and memory of invalid measurements blanked."""
    if "verdict" not in rows:
        return rows
    keep = rows["verdict"] != "invalid"
    return rows.assign(**{column: rows[column].where(keep) for column in MEASURED if column in rows})


def on_all(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the `rows` that cover all datasets of the leaderboard: means over other datasets are not comparable."""
    return rows[rows["on_all"].ne(False)] if "on_all" in rows else rows


def without_trivial(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the `rows` that are better than chance; the others are references that are never the best of a column."""
    return rows[~_flag(rows, "trivial")]


def candidates(rows: pd.DataFrame) -> pd.Series[bool]:
    """Return which of the `rows` of one dataset, or of the overall rows, may come first in a comparison with speed.

    They are on all datasets and not trivial, and no other load disturbed their clock, unless it did for all of them.
    """
    keep = ~_flag(rows, "trivial")
    if "on_all" in rows:
        keep &= rows["on_all"].ne(False)
    clean = keep & ~_flag(rows, "provisional")
    return clean if clean.any() else keep


def _flag(rows: pd.DataFrame, column: str) -> pd.Series[bool]:
    """Return whether `column` is true in each row; false where it is missing."""
    return rows[column].eq(True) if column in rows else pd.Series(False, index=rows.index)


def track_with_quality_columns(
    track: pd.DataFrame, bootstrap: BootstrapDraws | None, latency_s: pd.Series[float]
) -> pd.DataFrame:
    """Return `track`, all rows of one dataset, with QUALITY_COLUMNS, which do not depend on the weights.

    f1_low and f1_high are the ends of the smoothed bootstrap interval, missing where a class has too few texts. The
    column `trivial` is that of the draws, if there are any. The rank interval (accuracy_rank_low, accuracy_rank_high),
    the significance groups (accuracy_letters: entries that share a letter do not differ
    significantly), tied_best and tied_f1 come from all pairs of entries. tied_latency, over fresh processes, comes from
    all pairs of entries whose clock was not disturbed.
    p_pareto_* is the probability of being in the Pareto set of error and that cost; latency is `latency_s`, drawn over
    processes, other costs are as measured. hypervolume_* is the area in error x log cost that only this row
    contributes, as a share of the area from no error at the lowest cost to all wrong at the highest (AREA_SCALES).
    Source: Mogstad et al. 2024 (rank intervals); Zitzler & Thiele 1998 (hypervolume).
    """
    known = bootstrap is not None and set(track["name"]) <= set(bootstrap.names)
    if bootstrap is not None and known and bootstrap.p_above_chance is not None:
        no_better = dict(zip(bootstrap.names, bootstrap.trivial, strict=True))
        track = track.assign(trivial=[no_better[name] for name in track["name"]])
    made = track.assign(**dict.fromkeys(QUALITY_COLUMNS)).assign(**_hypervolumes(track, latency_s))
    if bootstrap is None or not known:
        return made
    at = [bootstrap.names.index(name) for name in track["name"]]
    accuracy, f1 = bootstrap.accuracy_ranking, bootstrap.f1_ranking
    intervals = [bootstrap.interval(name, "f1_macro") for name in track["name"]]
    noise = np.zeros((len(bootstrap.accuracy_draws), len(at)))
    if bootstrap.speed_noise is not None:
        noise = bootstrap.speed_noise[:, at, 0]
    trivial = _flag(track, "trivial").to_numpy()
    latency = latency_s.to_numpy(dtype=np.float64)
    undisturbed = np.where(track["provisional"].to_numpy(dtype=bool) | trivial, np.nan, latency)
    fastest = tied_fastest(undisturbed, noise[: num_draws_of_pairs(len(at))])
    costs = {cost: np.where(trivial, np.nan, track[cost].to_numpy(dtype=np.float64)) for cost in PARETO_COSTS}
    costs["latency_p50_s"] = np.where(candidates(track), latency, np.nan) * np.exp(noise)
    errors = 1 - bootstrap.accuracy_draws[:, at]
    return made.assign(
        f1_low=np.clip([i.low for i in intervals], 0, 1),
        f1_high=np.clip([i.high for i in intervals], 0, 1),
        accuracy_rank_low=accuracy.low[at],
        accuracy_rank_high=accuracy.high[at],
        accuracy_letters=[accuracy.letters[m] for m in at],
        tied_best=accuracy.tied_best[at] & ~trivial,
        tied_f1=f1.tied_best[at] & ~trivial,
        tied_latency=pd.array(fastest, dtype="boolean"),
        **{column: membership(errors, costs[cost]) for cost, column in PARETO_COSTS.items()},
    )


def _hypervolumes(track: pd.DataFrame, latency_s: pd.Series[float]) -> dict[str, npt.NDArray[np.float64]]:
    """Return the columns hypervolume_* of `track_with_quality_columns`."""
    found = {}
    for cost, column in AREA_COLUMNS.items():
        scale = AREA_SCALES.get(cost, load_anchors().latency_p50_s)
        values = np.asarray(latency_s if cost == "latency_p50_s" else track[cost], dtype=np.float64)
        values = np.where(candidates(track) if cost == "latency_p50_s" else ~_flag(track, "trivial"), values, np.nan)
        area = np.stack([1 - track["accuracy"].to_numpy(dtype=np.float64), 1 - scale.utility(values)], axis=1)
        found[column] = contributions(area, (1.0, 1.0))
    return found


def entry_priors(trials: pd.DataFrame) -> SeedPriors:
    """Return the prior of each entry, from those of its dataset, training size and method: see `seeds.seed_priors`.

    `trials` has one row per evaluated fit, with the columns of ENTRY, method, seed and the metrics. An entry whose
    seeds agree in all metrics is deterministic and does not count.
    """
    found: dict[tuple[Any, ...], SeedPrior] = {}
    for _, track in trials.drop_duplicates([*ENTRY, "seed"], keep="last").groupby(TRACK, sort=False):
        own = list(track.groupby(ENTRY, sort=True))
        scores = [each["accuracy"].to_numpy(dtype=np.float64) for _, each in own]
        varies = [bool((each[list(VARYING)].nunique() > 1).any()) for _, each in own]
        priors = seed_priors(scores, [each["method"].iloc[0] for _, each in own], varies)
        found |= dict(zip([key for key, _ in own], priors, strict=True))
    return found


def _entry(key: Any, group: pd.DataFrame, correct: Correct, prior: SeedPrior) -> dict[str, Any]:
    """Return the row of one entry on one dataset, over its seeds."""
    row: dict[str, Any] = dict(zip(ENTRY, key, strict=True))
    row |= {
        "method": group["method"].iloc[0],
        "quantization": group["quantization"].iloc[0],
        "departures": group["departures"].iloc[0],
        "num_seeds": group["seed"].nunique(),
        "seeds": group["seed"].tolist(),
        "num_test": int(group["num_test"].iloc[0]),
        "fit_ids": group["fit_id"].tolist(),
        "evaluation_ids": group["evaluation_id"].tolist(),
        "measurement_ids": group["measurement_id"].dropna().tolist(),
        "process_speed": group.loc[group["measurement_id"].notna(), "process_speed"].tolist(),
        "measured": int(group["measurement_id"].notna().sum()),
        "training_verdict": worst_training_verdict(group["training_verdict"].tolist()),
        "num_steps": group["num_steps"].max(),
    }
    row |= {name: group[name].mean() for name in QUALITY}
    row |= {name: group[name].median() for name in (*SPEED, *COSTS, "cpu_time_p50_s")}
    row |= {name: group[name].mean() for name in ("ceiling_accuracy", "ceiling_f1_macro")}
    interval = accuracy_interval(group, correct, prior)
    row |= {"accuracy_low": np.nan if interval is None else interval.low}
    row |= {"accuracy_high": np.nan if interval is None else interval.high}
    row |= {"interval_method": interval and interval.method, "estimand": interval and interval.estimand}
    worst = worst_verdict(group["verdict"])
    row |= {
        "verdict": worst,
        "provisional": worst == "contaminated",
        "quick": bool((group["quick"] == True).any()),  # noqa: E712 - missing is not quick
        "slow_machine": bool((group["canary_ratio"] > MAX_CANARY_RATIO).any()),
        "device_name": next(iter(group["device_name"].dropna()), None),
        "texts_per_cpu_s": group["throughput_points"].map(_best_per_cpu).median(),
    }
    return row


def accuracy_interval(group: pd.DataFrame, correct: Correct, prior: SeedPrior = NO_PRIOR) -> Interval | None:
    """Return the interval of accuracy, within 0 ... 1: Wilson's for one seed, items x seeds for several.

    `prior` is what comparable entries say about the variance between seeds. The estimand is the checkpoint for one
    seed, the recipe for several. None for several seeds whose predictions are not stored, or with one test example,
    because the variances are then unknown.
    """
    if len(group) == 1:
        only = group.iloc[0]
        return wilson(round(only["accuracy"] * only["num_test"]), int(only["num_test"]))
    right = correct(group["evaluation_id"].tolist())
    return clipped(two_way(right.astype(float), prior=prior)) if len(right) > 1 else None


def _best_per_cpu(points: Any) -> float:
    if points is None or (isinstance(points, float) and np.isnan(points)):
        return np.nan
    values = [p["texts_per_cpu_s"] for p in points if p["texts_per_cpu_s"] is not None]
    return max(values, default=np.nan)


def plain_names(rows: pd.DataFrame) -> pd.Series[str]:
    """Return the model's name of each row, with its quantization if there is one."""
    return rows["model"].where(rows["quantization"] == "none", rows["model"] + " " + rows["quantization"])


def entry_names(rows: pd.DataFrame) -> pd.Series[str]:
    """Return `plain_names`, with the start of the config_id if a dataset has several entries of one name."""
    named = plain_names(rows)
    several = rows.assign(named=named).groupby([*TRACK, "named"])["config_id"].transform("nunique") > 1
    return named.where(~several, named + " #" + rows["config_id"].str[:6])


def _with_baseline(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `rows`, one per entry, with base_accuracy, base_f1_macro and base_name of the dataset's baseline.

    The column `departures` is dropped. The baseline, which has skill 0, is the unquantised baseline recipe with the
    fewest departures from the pinned configuration, and among equals the one with the first config_id. A second recipe
    of the baseline is therefore an ordinary entry and changes no score while the pinned configuration is present.
    """
    own = rows[(rows["model"] == load_anchors().baseline) & (rows["quantization"] == "none")]
    first = own.sort_values(["departures", "config_id"], na_position="last").drop_duplicates(TRACK)
    baseline = first[[*TRACK, "name", "accuracy", "f1_macro"]].set_index(TRACK).add_prefix("base_").reset_index()
    made = rows.drop(columns="departures").merge(baseline, on=TRACK, how="left")
    return made.astype({"base_name": "object"})  # float if no dataset has a baseline


def _no_better_than_majority(rows: pd.DataFrame) -> pd.Series[bool]:
    """Return whether each row is no better than the majority baseline of its dataset, in accuracy and mean recall.

    This is for rows without stored predictions; else `BootstrapDraws.trivial` decides.
    """
    zero = rows[rows["model"] == MAJORITY].groupby(TRACK)[["accuracy", "recall_macro"]].max().add_prefix("zero_")
    own = rows.merge(zero.reset_index(), on=TRACK, how="left").set_axis(rows.index)
    worse = (own["accuracy"] <= own["zero_accuracy"]) & (own["recall_macro"] <= own["zero_recall_macro"])
    return worse | (rows["model"] == MAJORITY)
