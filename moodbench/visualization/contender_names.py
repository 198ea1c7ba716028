"""Which recipe of a store a name such as `bert`, `bert nf4`, `bert #1a2b3c` or `bert@1` means."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from moodbench.comparison.board import TRACK, contender_names, plain_names
from moodbench.errors import UnknownNameError, UsageError


class Contender(NamedTuple):
    """A name as given: NAME, or NAME@SEED for one of its fits."""

    label: str
    seed: int | None


def named_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """`trials` (TRACK, model, quantization, config_id and more) with `name`, as on the board, and `plain`, without the recipe's id."""
    quantised = trials.assign(quantization=trials["quantization"].fillna("none"))
    return quantised.assign(name=contender_names(quantised), plain=plain_names(quantised))


def parse(text: str, trials: pd.DataFrame, uri: str) -> Contender:
    """The contender that `text` names in `named_trials`; UnknownNameError, with the nearest name, for another or for a seed not there."""
    if len(meant(trials, text)):
        return Contender(text, None)
    label, at, seed = text.rpartition("@")
    rows = meant(trials, label) if at else trials.iloc[:0]
    if rows.empty:
        raise UnknownNameError(f"model in {uri}:", label if at else text, set(trials["model"]) | set(trials["name"]))
    seeds = sorted(set(rows["seed"]))
    if seed not in map(str, seeds):
        raise UnknownNameError(f"seed of {label} in {uri}:", seed, [str(s) for s in seeds])
    return Contender(label, int(seed))


def one_recipe(track: pd.DataFrame, label: str, where: str) -> pd.DataFrame:
    """The rows of one track that `label` means: one for each seed, the newest. Empty where it is not there.

    UsageError where it means several recipes, which it names.
    """
    rows = meant(track, label)
    if rows["config_id"].nunique() > 1:
        names = ", ".join(repr(name) for name in sorted(set(rows["name"])))
        raise UsageError(f"{label!r} names several recipes on {where}: {names}; give one of these names in quotes")
    found: pd.DataFrame = rows.sort_values("ended_at").groupby("seed").tail(1)
    return found


def meant(trials: pd.DataFrame, label: str) -> pd.DataFrame:
    """On each track the rows with that name on the board, else those of that model, or whose recipe's id begins so."""
    exact = trials["name"] == label
    plain, mark, start = label.rpartition(" #")
    begun = (trials["plain"] == plain) & trials["config_id"].str.startswith(start) if mark and start else False
    loose = (trials["model"] == label) | (trials["plain"] == label) | begun
    has_exact = exact.groupby([trials[c] for c in TRACK]).transform("any").astype(bool)
    return trials[exact | (loose & ~has_exact)]
