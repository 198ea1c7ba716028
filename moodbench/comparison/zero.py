"""Which recipe of the baseline is the zero of the pinned score on a track."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from moodbench.comparison.composite import Anchors


def departures(fits: pd.DataFrame, anchors: Anchors) -> pd.Series[float]:
    """In how many settings each fit of the baseline departs from the pinned configuration; NaN for others and where unknown.

    Settings: those of `anchors.baseline_tfidf`, a preparation or augmentation of the texts, and another way to draw the
    training and validation texts than the catalogue's.
    """
    counted = [
        _departures(json.loads(spec), anchors) if model == anchors.baseline and isinstance(spec, str) else np.nan
        for model, spec in zip(_column(fits, "model"), _column(fits, "spec"), strict=True)
    ]
    return pd.Series(counted, index=fits.index, dtype="float64")


def with_zero(rows: pd.DataFrame, anchors: Anchors, track: Sequence[str]) -> pd.DataFrame:
    """`rows`, one per contender, with base_accuracy, base_f1_macro and base_name: the one zero of each `track` (columns).

    The zero is the recipe of the baseline with the fewest departures from the pinned configuration, of equals the one whose
    config_id comes first. So a second recipe of the baseline is a contender like any other, and moves no score
    as long as the pinned configuration is there.
    """
    keys = list(track)
    own = rows[(rows["model"] == anchors.baseline) & (rows["quantization"] == "none")]
    first = own.sort_values(["departures", "config_id"], na_position="last").drop_duplicates(keys)
    zero = first[[*keys, "name", "accuracy", "f1_macro"]].set_index(keys).add_prefix("base_").reset_index()
    made = rows.drop(columns="departures").merge(zero, on=keys, how="left")
    return made.astype({"base_name": "object"})  # all NaN where no track has a baseline


def _departures(spec: dict[str, Any], anchors: Anchors) -> int:
    """Of one fit."""
    tfidf, data = spec.get("tfidf") or {}, spec.get("dataset") or {}
    changed = [tfidf.get(name) != value for name, value in anchors.baseline_tfidf.items()]
    changed += [bool(spec.get("preparation")), bool(spec.get("augmentation"))]
    changed += [data.get("sampling", "stratified") != "stratified", data.get("max_validation_examples") is not None]
    return sum(changed)


def _column(fits: pd.DataFrame, name: str) -> pd.Series[Any]:
    return fits[name] if name in fits else pd.Series(None, index=fits.index, dtype="object")
