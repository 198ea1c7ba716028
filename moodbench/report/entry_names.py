"""Names of models in a store: which recipe `bert`, `bert nf4`, `bert #1a2b3c` or `bert@1` means."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from moodbench.analysis.leaderboard import TRACK, entry_names, plain_names
from moodbench.errors import UnknownNameError, UsageError


class Entry(NamedTuple):
    """A model as the user named it: NAME, or NAME@SEED for one of its fits."""

    label: str
    seed: int | None


def named_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """Add `name`, as on the leaderboard, and `plain`, the name without the recipe id, to `trials`.

    `trials` needs the columns of TRACK, model, quantization and config_id.
    """
    quantised = trials.assign(quantization=trials["quantization"].fillna("none"))
    return quantised.assign(name=entry_names(quantised), plain=plain_names(quantised))


def parse(text: str, trials: pd.DataFrame, uri: str) -> Entry:
    """Return the model that `text` names in `trials`, which come from `named_trials`.

    Raises: UnknownNameError, with the nearest name, for an unknown name or seed.
    """
    if len(meant(trials, text)):
        return Entry(text, None)
    label, at, seed = text.rpartition("@")
    rows = meant(trials, label) if at else trials.iloc[:0]
    if rows.empty:
        raise UnknownNameError(f"model in {uri}:", label if at else text, set(trials["model"]) | set(trials["name"]))
    seeds = sorted(set(rows["seed"]))
    if seed not in map(str, seeds):
        raise UnknownNameError(f"seed of {label} in {uri}:", seed, [str(s) for s in seeds])
    return Entry(label, int(seed))


def one_recipe(track: pd.DataFrame, label: str, where: str) -> pd.DataFrame:
    """Return the rows of one track that `label` means: the newest one per seed; empty where there are none.

    Raises: UsageError, with their names, where it means several recipes.
    """
    rows = meant(track, label)
    if rows["config_id"].nunique() > 1:
        names = ", ".join(repr(name) for name in sorted(set(rows["name"])))
        raise UsageError(f"{label!r} names several recipes on {where}: {names}; give one of these names in quotes")
    found: pd.DataFrame = rows.sort_values("ended_at").groupby("seed").tail(1)
    return found


def meant(trials: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return the rows of each track that `label` means.

    They are those with that name on the leaderboard. If a track has none, they are those of that model, of that name
    without a recipe id, or of the recipes whose id starts with what follows ` #`.
    """
    exact = trials["name"] == label
    plain, mark, start = label.rpartition(" #")
    begun = (trials["plain"] == plain) & trials["config_id"].str.startswith(start) if mark and start else False
    loose = (trials["model"] == label) | (trials["plain"] == label) | begun
    has_exact = exact.groupby([trials[c] for c in TRACK]).transform("any").astype(bool)
    return trials[exact | (loose & ~has_exact)]
