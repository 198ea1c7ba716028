"""The figures of records worked out again from what is stored beside them, by the code that made them.

What cannot be worked out again, because its raw figures are not stored: cold start, memory, the throughput of each batch
size, and the agreement of timed with evaluated labels; and of a fit, how long it took and what it cost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from moodbench.evaluation.measuring import figures_of_samples, judge, knee_of
from moodbench.evaluation.predicting import figures_of_predictions
from moodbench.spec import fit_ids

RELATIVE, ABSOLUTE = 1e-12, 1e-15
"""Floats that differ by less are equal: sums come in another order on another processor. Counts must be exact."""


def fit_figures(record: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a fit record that follow from its spec: both ids and what identifies the trial."""
    spec = json.loads(record["spec"])
    config_id, fit_id = fit_ids(spec)
    return {
        "fit_id": fit_id,
        "config_id": config_id,
        "model": spec["model"]["name"],
        "method": spec["model"]["method"],
        "dataset": spec["dataset"]["name"],
        "dataset_revision": spec["dataset"]["revision"],
        "train_fingerprint": spec["dataset"]["train_fingerprint"],
        "seed": spec["seeds"]["init"],
    }


def evaluation_figures(predictions: pd.DataFrame) -> dict[str, Any]:
    """The columns of an evaluation record that follow from its predictions."""
    return figures_of_predictions(predictions)


def measurement_figures(record: Mapping[str, Any], samples: pd.DataFrame) -> dict[str, Any]:
    """The columns of a measurement record that follow from its samples, and from its throughput points.

    The samples that count are those stored as kept. The verdict is judged again from the windows' signals; for a
    measurement stored as invalid, whose labels were wrong, verdict and causes are left out.
    """
    verdict, _ = judge(samples, record["num_threads"])
    invalid = record["verdict"] == "invalid"
    figures = {
        **figures_of_samples(samples, verdict.verdict if invalid else record["verdict"]),
        "clean_share": verdict.share_clean,
    }
    if not invalid:
        figures |= {"verdict": verdict.verdict, "causes": list(verdict.causes)}
    if record["throughput_points"]:
        figures |= knee_of(record["throughput_points"])
    return figures


def num_kept_otherwise(record: Mapping[str, Any], samples: pd.DataFrame) -> int:
    """How many samples are stored as kept and would be dropped, or the other way round."""
    _, judged = judge(samples, record["num_threads"])
    return int((judged["kept"] != samples["kept"]).sum())


def same(stored: Any, recomputed: Any) -> bool:
    """Whether two values of a column are equal: floats up to rounding, everything else exactly."""
    if isinstance(stored, float) and isinstance(recomputed, float):
        return math.isclose(stored, recomputed, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return bool(stored == recomputed)
