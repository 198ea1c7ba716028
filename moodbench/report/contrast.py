"""Models of one track side by side: paired differences, disagreements, slices of the test set."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from moodbench.errors import UsageError
from moodbench.report.comparison_view import correctness
from moodbench.statistics.paired import PairedDifference, paired_accuracy
from moodbench.store import Store


def evaluations_by_seed(row: pd.Series[Any], evaluations: pd.DataFrame) -> pd.Series[str]:
    """Return the evaluation ids of one leaderboard row, indexed by seed."""
    own = evaluations[evaluations["evaluation_id"].isin(row["evaluation_ids"])]
    found: pd.Series[str] = own.set_index("seed")["evaluation_id"].sort_index()
    return found


def pair(store: Store, a: pd.Series[Any], b: pd.Series[Any], evaluations: pd.DataFrame) -> PairedDifference:
    """Return the paired difference in accuracy of two rows of one track over the seeds that both have.

    Raises: UsageError without a common seed, or where the two were tested on different examples.
    """
    sides = [evaluations_by_seed(row, evaluations) for row in (a, b)]
    seeds = sorted(set(sides[0].index) & set(sides[1].index))
    if not seeds:
        raise UsageError(f"{a['name']} and {b['name']} share no seed, so that they cannot be paired")
    right = [correctness(store, side.loc[seeds].tolist()) for side in sides]
    if list(right[0].index) != list(right[1].index):
        raise UsageError(f"{a['name']} and {b['name']} were tested on different texts; they cannot be paired")
    return paired_accuracy(right[0].to_numpy(), right[1].to_numpy())


def all_pairs(store: Store, rows: pd.DataFrame, evaluations: pd.DataFrame) -> list[tuple[str, str, PairedDifference]]:
    """Return every pair of `rows` with its paired difference, the higher row first."""
    listed = [row for _, row in rows.iterrows()]
    return [(str(a["name"]), str(b["name"]), pair(store, a, b, evaluations)) for a, b in combinations(listed, 2)]


def answers(store: Store, rows: pd.DataFrame, evaluations: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the predictions of each model, by name, for the first seed that all `rows` have.

    Frames are indexed by example id; `stated` is the probability of the predicted label, `right` whether it is correct.
    """
    sides = {str(row["name"]): evaluations_by_seed(row, evaluations) for _, row in rows.iterrows()}
    common = sorted(set.intersection(*(set(side.index) for side in sides.values()))) if sides else []
    if not common:
        return {}
    found = {}
    for name, side in sides.items():
        frame = store.predictions([side.loc[common[0]]]).set_index("example_id")
        logits = np.stack(frame["logits"].to_list()).astype(float)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        stated = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1)
        found[name] = frame.assign(stated=stated, right=frame["label"] == frame["predicted"])
    return found


def disagreements(said: dict[str, pd.DataFrame], examples: pd.DataFrame, most: int = 20) -> pd.DataFrame:
    """Return at most `most` examples on which the predicted labels differ, the most confident contradictions first.

    Columns: text, label, private, and for each model NAME with its label and `NAME stated` with its probability.
    """
    first = next(iter(said.values()))
    wide = pd.DataFrame({name: frame["predicted"] for name, frame in said.items()}).dropna()
    stated = pd.DataFrame({f"{name} stated": frame["stated"] for name, frame in said.items()}).loc[wide.index]
    differ = wide[wide.nunique(axis=1) > 1].index
    order = stated.loc[differ].min(axis=1).sort_values(ascending=False, kind="stable").index[:most]
    texts = examples.set_index("example_id")[["text", "private"]]
    return (
        first.loc[order, ["label"]]
        .join(wide.loc[order].astype(int))
        .join(stated.loc[order])
        .join(texts[~texts.index.duplicated()], how="left")
    )


def slices(said: dict[str, pd.DataFrame], examples: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Return the accuracy of each model on slices of the test set: all examples, each label, thirds by number of words.

    One row per slice (`part`) with `num_texts` and a column per model.
    """
    first = next(iter(said.values()))
    texts = examples.set_index("example_id")["text"]
    words = texts[~texts.index.duplicated()].reindex(first.index).fillna("").map(lambda text: len(str(text).split()))
    parts: dict[str, pd.Series[bool]] = {"all test texts": pd.Series(True, index=first.index)}
    for number, label in enumerate(labels):
        parts[f"label {label}"] = first["label"] == number
    ends = [int(words.quantile(q)) for q in (1 / 3, 2 / 3)]
    parts[f"up to {ends[0]} words"] = words <= ends[0]
    parts[f"{ends[0] + 1} to {ends[1]} words"] = (words > ends[0]) & (words <= ends[1])
    parts[f"over {ends[1]} words"] = words > ends[1]
    rows = []
    for part, mask in parts.items():
        if mask.any():
            accuracy = {name: frame["right"].reindex(first.index)[mask].mean() for name, frame in said.items()}
            rows.append({"part": part, "num_texts": int(mask.sum()), **accuracy})
    return pd.DataFrame(rows)


def confusion(frame: pd.DataFrame, num_labels: int) -> pd.DataFrame:
    """Return the confusion matrix: counts of true labels (rows) by predicted labels (columns)."""
    table = pd.crosstab(frame["label"], frame["predicted"])
    return table.reindex(index=range(num_labels), columns=range(num_labels), fill_value=0)
