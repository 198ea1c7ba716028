"""Two contenders of a store compared on every track that both have, and the verdict in words."""

from __future__ import annotations

import pandas as pd

from moodbench.comparison.board import TRACK
from moodbench.comparison.paired import PairedDifference, paired_accuracy
from moodbench.errors import UnknownNameError, UsageError
from moodbench.store import Store


def compare_models(store: Store, a: str, b: str, dataset: str | None) -> list[tuple[str, PairedDifference]]:
    """The paired difference in accuracy of model `a` to model `b` on each track, over the seeds that both have.

    UnknownNameError for a model without evaluations, UsageError where the two share no track.
    """
    fits, evaluations = store.records("fits"), store.records("evaluations")
    trials = evaluations.merge(fits[["fit_id", "dataset_revision", "num_train"]], on="fit_id")
    for name in (a, b):
        if name not in set(trials["model"]):
            raise UnknownNameError(f"model in {store.uri}:", name, set(trials["model"]))
    if dataset is not None:
        trials = trials[trials["dataset"] == dataset]
    found = []
    for key, track in trials.groupby(TRACK, sort=True):
        sides = [_one_recipe(track[track["model"] == name]) for name in (a, b)]
        seeds = sorted(set(sides[0]["seed"]) & set(sides[1]["seed"]))
        if not seeds:
            continue
        correct = [correctness(store, side.set_index("seed").loc[seeds, "evaluation_id"].tolist()) for side in sides]
        if list(correct[0].index) != list(correct[1].index):
            raise UsageError(f"{a} and {b} were tested on different texts of {key[0]}; they cannot be paired")
        label = f"{key[0]} ({key[2]:,} training texts)"
        found.append((label, paired_accuracy(correct[0].to_numpy(), correct[1].to_numpy())))
    if not found:
        raise UsageError(f"{a} and {b} share no data set and seed in {store.uri}; run both on the same, then compare")
    return found


def sentence(a: str, b: str, track: str, difference: PairedDifference) -> str:
    """The verdict: which is better and by how much, or that this many texts do not tell."""
    points = f"{100 * abs(difference.delta):.1f} points of accuracy"
    low, high = 100 * difference.low, 100 * difference.high
    evidence = (
        f"{100 * difference.level:.0f} % interval of the difference {low:+.1f} to {high:+.1f}; of {difference.num_items:,} "
        f"texts only {a} is right on {difference.only_a}, only {b} on {difference.only_b}; p = {difference.p_value:.2g}"
    )
    if difference.low > 0:
        return f"{track}: {a} is better than {b} by {points} ({evidence})."
    if difference.high < 0:
        return f"{track}: {b} is better than {a} by {points} ({evidence})."
    return f"{track}: {a} and {b} are not separated ({evidence})."


def _one_recipe(side: pd.DataFrame) -> pd.DataFrame:
    """The rows of the recipe with the most seeds, the last one run among equals: one row per seed."""
    if side.empty:
        return side
    sizes = side.groupby("config_id").agg(seeds=("seed", "nunique"), last=("ended_at", "max"))
    best = sizes.sort_values(["seeds", "last"]).index[-1]
    chosen: pd.DataFrame = side[side["config_id"] == best]
    return chosen


def correctness(store: Store, evaluation_ids: list[str]) -> pd.DataFrame:
    """Whether each item (rows, by example id) was labelled right in each evaluation (columns, in the order given)."""
    rows = store.predictions(evaluation_ids)
    rows = rows.assign(right=rows["label"] == rows["predicted"])
    wide = rows.pivot(index="example_id", columns="evaluation_id", values="right")
    return wide.loc[:, evaluation_ids]
