"""Choice of the baseline recipe that has skill 0 in the pinned score of a dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from moodbench.statistics.composite import Anchors


def departures(fits: pd.DataFrame, anchors: Anchors) -> pd.Series[float]:
    """Return the number of settings in which each baseline fit differs from the pinned configuration.

    NaN for fits of other models and for fits without a spec. The settings are those of `anchors.baseline_tfidf`, a
    preparation or an augmentation of the texts, and another sampling of the training or validation examples than the
    catalogue's.
    """
    counted = [
        _departures(json.loads(spec), anchors) if model == anchors.baseline and isinstance(spec, str) else np.nan
        for model, spec in zip(_column(fits, "model"), _column(fits, "spec"), strict=True)
    ]
    return pd.Series(counted, index=fits.index, dtype="float64")


def with_zero(rows: pd.DataFrame, anchors: Anchors, track: Sequence[str]) -> pd.DataFrame:
    """Return `rows`, one per entry, with base_accuracy, base_f1_macro and base_name of the dataset's baseline.

    `track` names the columns that identify a dataset; the column `departures` is dropped. The baseline, which has
    skill 0, is the unquantised baseline recipe with the fewest departures from the pinned configuration, and among
    equals the one with the first config_id. A second recipe of the baseline is therefore an ordinary entry and changes
    no score while the pinned configuration is present.
    """
    keys = list(track)
    own = rows[(rows["model"] == anchors.baseline) & (rows["quantization"] == "none")]
    first = own.sort_values(["departures", "config_id"], na_position="last").drop_duplicates(keys)
    zero = first[[*keys, "name", "accuracy", "f1_macro"]].set_index(keys).add_prefix("base_").reset_index()
    made = rows.drop(columns="departures").merge(zero, on=keys, how="left")
    return made.astype({"base_name": "object"})  # float if no dataset has a baseline


def _departures(spec: dict[str, Any], anchors: Anchors) -> int:
    """Return the number of departures of one fit."""
    tfidf, data = spec.get("tfidf") or {}, spec.get("dataset") or {}
    changed = [tfidf.get(name) != value for name, value in anchors.baseline_tfidf.items()]
    changed += [bool(spec.get("preparation")), bool(spec.get("augmentation"))]
    changed += [data.get("sampling", "stratified") != "stratified", data.get("max_validation_examples") is not None]
    return sum(changed)


def _column(fits: pd.DataFrame, name: str) -> pd.Series[Any]:
    return fits[name] if name in fits else pd.Series(None, index=fits.index, dtype="object")
