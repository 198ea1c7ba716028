"""Contenders of one track side by side: paired differences, texts on which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from moodbench.comparison.paired import PairedDifference, paired_accuracy
from moodbench.errors import UsageError
from moodbench.store import Store
from moodbench.visualization.comparison_view import correctness


def evaluations_by_seed(row: pd.Series[Any], evaluations: pd.DataFrame) -> pd.Series[str]:
    """Seed to evaluation id of one row of the board."""
    own = evaluations[evaluations["evaluation_id"].isin(row["evaluation_ids"])]
    found: pd.Series[str] = own.set_index("seed")["evaluation_id"].sort_index()
    return found


def pair(store: Store, a: pd.Series[Any], b: pd.Series[Any], evaluations: pd.DataFrame) -> PairedDifference:
    """The paired difference in accuracy of two rows of one track over the seeds that both have; UsageError without any."""
    sides = [evaluations_by_seed(row, evaluations) for row in (a, b)]
    seeds = sorted(set(sides[0].index) & set(sides[1].index))
    if not seeds:
        raise UsageError(f"{a['name']} and {b['name']} share no seed, so that they cannot be paired")
    right = [correctness(store, side.loc[seeds].tolist()) for side in sides]
    if list(right[0].index) != list(right[1].index):
        raise UsageError(f"{a['name']} and {b['name']} were tested on different texts; they cannot be paired")
    return paired_accuracy(right[0].to_numpy(), right[1].to_numpy())


def all_pairs(store: Store, rows: pd.DataFrame, evaluations: pd.DataFrame) -> list[tuple[str, str, PairedDifference]]:
    """Every pair of `rows`, the one that stands higher first."""
    listed = [row for _, row in rows.iterrows()]
    return [(str(a["name"]), str(b["name"]), pair(store, a, b, evaluations)) for a, b in combinations(listed, 2)]


def answers(store: Store, rows: pd.DataFrame, evaluations: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Name to the predictions of its first seed that all `rows` have, by example id, with probability and right."""
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
    """Texts on which the contenders' labels differ, the most confidently contradicted first.

    Columns: text, label, private, and one per contender with its label and `NAME stated` with its probability.
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
    """Accuracy of each contender in parts of the test set: a row per part with num_texts and a column per contender."""
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
    """How often each true label (rows) was given each label (columns)."""
    table = pd.crosstab(frame["label"], frame["predicted"])
    return table.reindex(index=range(num_labels), columns=range(num_labels), fill_value=0)
