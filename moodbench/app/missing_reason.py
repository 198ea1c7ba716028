"""Why a cell of the leaderboard has no value."""

from __future__ import annotations

import pandas as pd

from moodbench.analysis.leaderboard import AREA_COLUMNS, MEASURED, PARETO_COSTS
from moodbench.report.formatting import Row, missing

SCORE_REASON_COLUMNS = ("fit_ids", "base_accuracy", *MEASURED)
"""Columns that explain why there is no score."""
AREA_COSTS = {column: cost for cost, column in AREA_COLUMNS.items()}


def missing_reason(key: str, row: Row, failures: pd.DataFrame) -> str:
    """Return why the cell of column `key` in this row of the leaderboard has no value."""
    if key == "rank" and not missing(row["score"]):
        return "no rank: the score is provisional, and other entries were measured undisturbed"
    if key == "p_pareto_latency":
        return _no_pareto_reason(row, failures)
    if key == "accuracy_letters":
        return _not_compared_reason(row)
    if key in AREA_COSTS:
        cost = AREA_COSTS[key]
        return missing_reason(cost, row, failures) if missing(row.get(cost)) else _not_compared_reason(row)
    if key == "score" and row.get("composite") == "none":
        return "no score was requested"
    if key in ("rank", "score", "p_best"):
        return _no_score_reason(row, failures)
    if key not in MEASURED:
        return "not recorded"
    if ((failures["phase"] == "measure") & failures["fit_id"].isin(_fit_ids(row))).any():
        return "measurement failed, see below"
    if all(missing(row.get(m)) for m in MEASURED):
        return "not measured on the machine shown"
    return "withheld: too few clean requests" if key.startswith("latency_") else "not recorded"


def _fit_ids(row: Row) -> list[str]:
    return row["fit_ids"] if isinstance(row.get("fit_ids"), list) else []


def _no_score_reason(row: Row, failures: pd.DataFrame) -> str:
    if not _fit_ids(row):
        return "not scored on every dataset"
    if row["verdict"] == "invalid":
        return "no rank: the timed model and the evaluated one gave different labels"
    is_composite = row.get("composite") != "none"
    if is_composite and row.get("composite") != "minmax" and missing(row.get("base_accuracy")):
        return "not scored: the baseline has no result on this dataset"
    parts = ("latency_p50_s", "throughput_texts_per_s" if is_composite else "memory_peak_batch1_bytes")
    absent = [m for m in parts if missing(row[m])]
    if absent:
        return missing_reason(absent[0], row, failures)
    if row["provisional"]:
        return "no rank: other load disturbed the clock, and other entries were measured undisturbed"
    return "not scored: the baseline is already perfect, so the quality scale has no range"


def _no_pareto_reason(row: Row, failures: pd.DataFrame) -> str:
    """Return why there is no letter: the probability is small for each known cost, or no cost is known."""
    if any(not missing(row.get(cost)) for cost in PARETO_COSTS.values()):
        return "in no Pareto set with a probability of 5 % or more"
    if _fit_ids(row) and all(missing(row.get(cost)) for cost in PARETO_COSTS):
        return missing_reason("latency_p50_s", row, failures)
    return _not_compared_reason(row)


def _not_compared_reason(row: Row) -> str:
    """Return why a value that is computed from all models at once is missing in a row."""
    if row.get("on_all") == False:  # noqa: E712 - a missing value is a row of one dataset
        return "computed only for entries that were run on all of these datasets"
    if not _fit_ids(row):
        return "computed for each dataset separately"
    return "unknown: the entries were tested on different texts"
