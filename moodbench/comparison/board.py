"""Records to the leaderboard: one row per contender and track, with intervals, composite score and rank.

A *track* is a data set with a number of training examples: contenders are compared only where they learned from the same
rows and were tested on the same rows. Seeds are averaged first (quality by the mean, speed by the median), then data
sets by the unweighted mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.comparison.composite import Anchors, Composite, Weights, get_composite
from moodbench.comparison.intervals import Interval, mean_of_independent, two_way, wilson
from moodbench.comparison.joint import JointDraws
from moodbench.comparison.pareto import layers
from moodbench.comparison.standing import ScoreDraws, mean_draws, score_draws, with_places, with_quality

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
    "memory_peak_bytes",
    "weights_bytes",
    "clean_share",
)
COSTS = ("train_time_s", "num_params", "num_trainable")
TRACK = ["dataset", "dataset_revision", "num_train"]
CONTENDER = [*TRACK, "model", "config_id"]
OVERALL = "overall"
Correct = Callable[[list[str]], npt.NDArray[np.bool_]]
"""Evaluation ids of one contender's seeds to whether each item (rows) was right with each seed (columns)."""


def trials_frame(fits: pd.DataFrame, evaluations: pd.DataFrame, measurements: pd.DataFrame) -> pd.DataFrame:
    """One row per evaluated fit: its newest evaluation, and its measurement: full before quick, the newest of equals."""
    kept = ["fit_id", *TRACK[1:], "method", "quantization", "family", "status", *COSTS]
    latest = evaluations.sort_values("ended_at").groupby("fit_id").tail(1).sort_index()
    joined = latest.drop(columns=["environment", "files"]).merge(
        fits[kept].fillna({"quantization": "none"}), on="fit_id", validate="many_to_one"
    )
    best = measurements.sort_values(["quick", "ended_at"], ascending=[False, True]).groupby("fit_id").tail(1)
    speed = ["fit_id", "measurement_id", "quick", "verdict", "perf_key", "device_name", "num_threads", *SPEED]
    provisional = ["cpu_time_p50_s", "throughput_points"]
    return joined.merge(best[speed + provisional], on="fit_id", how="left", validate="many_to_one")


def choose_machine(measurements: pd.DataFrame, preferred: str) -> pd.DataFrame:
    """The measurements of one kind of machine: the `preferred` one, else the one with the most of them."""
    here = measurements[measurements["machine_key"] == preferred]
    if len(here) or measurements.empty:
        return here
    counts = measurements.groupby("machine_key").size()
    return measurements[measurements["machine_key"] == counts.sort_index().idxmax()]


def leaderboard(
    trials: pd.DataFrame, correct: Correct, *, weights: Weights, anchors: Anchors, composite: str = "pinned"
) -> pd.DataFrame:
    """The board: rows of each track, then of all tracks together where there are several, best first.

    `trials` comes from `trials_frame`. Columns: track, dataset, num_train, model, quantization, config_id, num_seeds, num_test, the
    quality means with accuracy_low and accuracy_high (their method and estimand beside), speed medians, costs, score,
    rank (missing where the score is, or is provisional beside clean ones), provisional, quick, verdict.
    """
    return scored(contenders(trials, correct, anchors), weights=weights, anchors=anchors, composite=composite)


def contenders(trials: pd.DataFrame, correct: Correct, anchors: Anchors) -> pd.DataFrame:
    """One row per contender and track with all that does not depend on weights: reading it once serves any weights."""
    if trials.empty:
        return pd.DataFrame(columns=[*CONTENDER, "track", "score", "rank"])
    ordered = trials.sort_values(["seed", "evaluation_id"])
    rows = pd.DataFrame([_contender(key, group, correct) for key, group in ordered.groupby(CONTENDER, sort=True)])
    rows = rows.assign(name=_names(rows), track=_track_names(rows))
    return _with_references(rows, anchors)


def scored(
    rows: pd.DataFrame,
    *,
    weights: Weights,
    anchors: Anchors,
    composite: str = "pinned",
    joints: Mapping[str, JointDraws] | None = None,
) -> pd.DataFrame:
    """The board of the `contenders` under these weights; see `leaderboard`.

    With joint draws by track, the rows say where each contender may stand: see `standing.with_places`.
    """
    if rows.empty:
        return rows
    parts, drawn = [], draws_by_track(rows, joints or {}, weights=weights, anchors=anchors, composite=composite)
    scheme = get_composite(composite)
    for name, track in rows.groupby("track", sort=False):
        part = _ranked(
            track.assign(score=scheme.score(track.assign(**speed_for_score(track)), weights, anchors)), scheme
        )
        parts.append(part if joints is None else with_places(part, drawn.get(str(name))))
    if len(parts) > 1:
        part = _ranked(_overall(pd.concat(parts)), scheme)
        whole = mean_draws(list(drawn.values())) if len(drawn) == len(parts) else None
        parts.append(part if joints is None else with_places(part, whole))
    return pd.concat(parts, ignore_index=True)


def draws_by_track(
    rows: pd.DataFrame, joints: Mapping[str, JointDraws], *, weights: Weights, anchors: Anchors, composite: str
) -> dict[str, ScoreDraws]:
    """Track to the joint draws of the scores of its contenders; a track without draws or scores is left out."""
    found = {}
    for name, track in rows.groupby("track", sort=False):
        speed = speed_for_score(track)
        scored = track.assign(score=get_composite(composite).score(track.assign(**speed), weights, anchors))
        draws = score_draws(scored, joints.get(str(name)), speed, weights, anchors, composite)
        if draws is not None:
            found[str(name)] = draws
    return found


def with_standing(rows: pd.DataFrame, joints: Mapping[str, JointDraws], anchors: Anchors) -> pd.DataFrame:
    """The `contenders` with what joint draws say of them whatever the weights: see `standing.with_quality`."""
    if rows.empty:
        return rows
    parts = [
        with_quality(track, joints.get(str(name)), speed_for_score(track)["latency_p50_s"], anchors)
        for name, track in rows.groupby("track", sort=False)
    ]
    return pd.concat(parts)


def _contender(key: Any, group: pd.DataFrame, correct: Correct) -> dict[str, Any]:
    """One contender on one track: its seeds together."""
    row: dict[str, Any] = dict(zip(CONTENDER, key, strict=True))
    row |= {
        "method": group["method"].iloc[0],
        "quantization": group["quantization"].iloc[0],
        "num_seeds": group["seed"].nunique(),
        "num_test": int(group["num_test"].iloc[0]),
        "fit_ids": group["fit_id"].tolist(),
        "evaluation_ids": group["evaluation_id"].tolist(),
        "measurement_ids": group["measurement_id"].dropna().tolist(),
        "measured": int(group["measurement_id"].notna().sum()),
    }
    row |= {name: group[name].mean() for name in QUALITY}
    row |= {name: group[name].median() for name in (*SPEED, *COSTS, "cpu_time_p50_s")}
    row |= {name: group[name].mean() for name in ("ceiling_accuracy", "ceiling_f1_macro")}
    row |= _as_dict(accuracy_interval(group, correct))
    worst = _worst_verdict(group["verdict"])
    row |= {
        "verdict": worst,
        "provisional": worst == "contaminated",
        "quick": bool((group["quick"] == True).any()),  # noqa: E712 - missing is not quick
        "device_name": next(iter(group["device_name"].dropna()), None),
        "texts_per_cpu_s": group["throughput_points"].map(_best_per_cpu).median(),
    }
    return row


def _worst_verdict(verdicts: pd.Series[str]) -> str | None:
    known = set(verdicts.dropna())
    return next((v for v in ("invalid", "contaminated", "unknown", "clean") if v in known), None)


def accuracy_interval(group: pd.DataFrame, correct: Correct) -> Interval:
    """The interval of accuracy: Wilson's for one seed (these weights), items x seeds for several (the recipe)."""
    if len(group) == 1:
        only = group.iloc[0]
        return wilson(round(only["accuracy"] * only["num_test"]), int(only["num_test"]))
    return two_way(correct(group["evaluation_id"].tolist()).astype(float))


def _as_dict(interval: Interval) -> dict[str, Any]:
    return {
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "interval_method": interval.method,
        "estimand": interval.estimand,
    }


def _best_per_cpu(points: Any) -> float:
    if points is None or (isinstance(points, float) and np.isnan(points)):
        return np.nan
    values = [p["texts_per_cpu_s"] for p in points if p["texts_per_cpu_s"] is not None]
    return max(values, default=np.nan)


def _names(rows: pd.DataFrame) -> pd.Series[str]:
    """The model's name and how its weights are quantised, with the start of the recipe's id where a track has several such."""
    named = rows["model"].where(rows["quantization"] == "none", rows["model"] + " " + rows["quantization"])
    several = rows.assign(named=named).groupby([*TRACK, "named"])["config_id"].transform("nunique") > 1
    return named.where(~several, named + " #" + rows["config_id"].str[:6])


def _track_names(rows: pd.DataFrame) -> pd.Series[str]:
    """Data set and training size, with the start of the revision where the board holds several of one data set."""
    several = rows.groupby(["dataset", "num_train"])["dataset_revision"].transform("nunique") > 1
    revision = (", revision " + rows["dataset_revision"].str[:6]).where(several, "")
    return rows["dataset"] + rows["num_train"].map(" ({:,} training texts".format) + revision + ")"


def _with_references(rows: pd.DataFrame, anchors: Anchors) -> pd.DataFrame:
    """`rows` with the baseline's scores on the same track, which are the zero of the pinned score."""
    baseline = rows[rows["model"] == anchors.baseline].groupby(TRACK)[["accuracy", "f1_macro"]].mean()
    return rows.merge(baseline.add_prefix("base_").reset_index(), on=TRACK, how="left")


def speed_for_score(track: pd.DataFrame) -> Mapping[str, pd.Series[float]]:
    """Wall-clock speed, or its CPU-time estimate where the measurement was disturbed; none where it is invalid."""
    valid = track["verdict"] != "invalid"
    wall = ~track["provisional"]
    return {
        "latency_p50_s": track["latency_p50_s"].where(wall, track["cpu_time_p50_s"]).where(valid),
        "throughput_texts_per_s": track["throughput_texts_per_s"].where(wall, track["texts_per_cpu_s"]).where(valid),
    }


def _ranked(track: pd.DataFrame, scheme: Composite) -> pd.DataFrame:
    """`track`, best score first, with ranks among the clean rows, or among all where none is clean.

    Without a score the rank is that of the Pareto layer of error, latency and memory: 1 is beaten by none.
    """
    order = track["score"]
    if scheme.utilities is None:
        known = track.assign(**speed_for_score(track)) if track["dataset"].iloc[0] != OVERALL else track
        costs = [1 - known["accuracy"], known["latency_p50_s"], known["memory_peak_batch1_bytes"]]
        clean = ~track["provisional"].astype(bool) & known["latency_p50_s"].notna()
        fit = clean if clean.any() else pd.Series(True, index=track.index)
        fit &= track.get("on_all", True)
        order = pd.Series(-layers(np.stack([c.astype(float).where(fit) for c in costs], axis=1)), index=track.index)
    scored = order.notna()
    clean = scored & ~track["provisional"].astype(bool)
    ranked = clean if clean.any() else scored
    ranks = order.where(ranked).rank(ascending=False, method="min" if scheme.utilities else "dense")
    return track.assign(rank=ranks.astype("Int64")).sort_values(
        ["rank", "score", "accuracy"], ascending=[True, False, False], na_position="last"
    )


def _overall(board: pd.DataFrame) -> pd.DataFrame:
    """Contenders over all tracks: unweighted means; a contender that misses a track has no score.

    The interval of the mean joins the tracks' intervals as independent: see `intervals.mean_of_independent`.
    """
    num_tracks = board.groupby(TRACK).ngroups
    what = "data sets" if board["dataset"].nunique() == num_tracks else "tracks"
    groups = board.groupby("name", sort=True)
    means, medians = [*QUALITY, "score", "train_time_s"], [*SPEED, "num_params", "num_trainable"]
    numeric = board[["name", *means, *medians]].astype(dict.fromkeys([*means, *medians], "float64")).groupby("name")
    size, first = groups.size(), groups[["model", "method", "quantization", "estimand", "device_name"]].first()
    rows = pd.concat([numeric[means].mean(), numeric[medians].median(), first], axis=1)
    ends_of = {"accuracy": "accuracy"} | ({"f1": "f1_macro"} if "f1_low" in board else {})
    ends = pd.DataFrame(
        {name: _joined(group, ends_of) for name, group in groups},
        index=[f"{s}_{e}" for s in ends_of for e in ("low", "high")],
    ).T
    whole = (size == num_tracks) & (groups["score"].count() == size)
    rows = rows.assign(
        track=f"{OVERALL} ({num_tracks} {what})",
        dataset=OVERALL,
        num_seeds=groups["num_seeds"].min(),
        num_test=groups["num_test"].sum(),
        num_train=groups["num_train"].sum(),
        on_all=size == num_tracks,
        interval_method="mover",
        **{f"{short}_{end}": ends[f"{short}_{end}"] for short in ends_of for end in ("low", "high")},
        provisional=groups["provisional"].any(),
        quick=groups["quick"].any(),
        verdict=groups["verdict"].agg(_worst_verdict),
        score=rows["score"].where(whole),
    )
    return rows.reset_index()


def _joined(group: pd.DataFrame, columns: Mapping[str, str]) -> list[float]:
    """The ends of the intervals of one contender's means over tracks: low and high of each of `columns`."""
    found: list[float] = []
    for short, column in columns.items():
        points, low, high = (group[c].astype(float).to_numpy() for c in (column, f"{short}_low", f"{short}_high"))
        method, estimand = group["interval_method"].iloc[0], group["estimand"].iloc[0]
        parts = [
            Interval(float(p), float(a), float(b), 0.95, method, estimand, int(n))
            for p, a, b, n in zip(points, low, high, group["num_test"], strict=True)
        ]
        joined = mean_of_independent(parts)
        found += [joined.low, joined.high]
    return found
