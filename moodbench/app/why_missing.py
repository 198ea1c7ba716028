"""Why a cell of the leaderboard has no value, in words."""

from __future__ import annotations

import pandas as pd

from moodbench.analysis.leaderboard import AREA_COLUMNS, MEASURED, PARETO_COSTS
from moodbench.report.formatting import Row, missing

READ_FOR_SCORE = ("fit_ids", "base_accuracy", *MEASURED)
"""Columns that explain why there is no score."""
COST_OF_AREA = {column: cost for cost, column in AREA_COLUMNS.items()}


def why_missing(key: str, row: Row, failures: pd.DataFrame) -> str:
    """Return why the cell of column `key` in this row of the leaderboard has no value."""
    if key == "rank" and not missing(row["score"]):
        return "no place: the score is provisional, and other rows were measured undisturbed"
    if key == "p_pareto_latency":
        return _why_no_pareto(row, failures)
    if key == "accuracy_letters":
        return _why_not_compared(row)
    if key in COST_OF_AREA:
        cost = COST_OF_AREA[key]
        return why_missing(cost, row, failures) if missing(row.get(cost)) else _why_not_compared(row)
    if key == "score" and row.get("composite") == "none":
        return "no score was asked for"
    if key in ("rank", "score", "p_best"):
        return _why_no_score(row, failures)
    if key not in MEASURED:
        return "not recorded"
    if ((failures["phase"] == "measure") & failures["fit_id"].isin(_fit_ids(row))).any():
        return "measuring failed, see below"
    if all(missing(row.get(m)) for m in MEASURED):
        return "not measured on the machine shown"
    return "withheld: too few clean requests" if key.startswith("latency_") else "not recorded"


def _fit_ids(row: Row) -> list[str]:
    return row["fit_ids"] if isinstance(row.get("fit_ids"), list) else []


def _why_no_score(row: Row, failures: pd.DataFrame) -> str:
    if not _fit_ids(row):
        return "not scored on every dataset"
    if row["verdict"] == "invalid":
        return "no place: the timed model gave other labels than the evaluated one"
    by_score = row.get("composite") != "none"
    if by_score and row.get("composite") != "minmax" and missing(row.get("base_accuracy")):
        return "not scored: the baseline has no result on this data"
    parts = ("latency_p50_s", "throughput_texts_per_s" if by_score else "memory_peak_batch1_bytes")
    absent = [m for m in parts if missing(row[m])]
    if absent:
        return why_missing(absent[0], row, failures)
    if row["provisional"]:
        return "no place: other load disturbed the clock, and other rows were measured undisturbed"
    return "not scored: the baseline does as well as can be, so that nothing is left to gain"


def _why_no_pareto(row: Row, failures: pd.DataFrame) -> str:
    """Return why there is no letter: the chance is small for each known cost, or no cost is known."""
    known = [c for c in PARETO_COSTS.values() if not missing(row.get(c))]
    if known:
        return "in no Pareto set with a chance of 5 % or more"
    if _fit_ids(row) and all(missing(row.get(cost)) for cost in PARETO_COSTS):
        return why_missing("latency_p50_s", row, failures)
    return _why_not_compared(row)


def _why_not_compared(row: Row) -> str:
    """Return why a value that is computed from all models at once is missing in a row."""
    if row.get("on_all") == False:  # noqa: E712 - a missing value is a row of one dataset
        return "worked out of those that were run on all of these datasets"
    if not _fit_ids(row):
        return "worked out for each dataset alone"
    return "not known: the entries were tested on different texts"
