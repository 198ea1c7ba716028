"""Uncertainty of the measured speed of each entry: bootstrap draws over fresh processes, on a log scale."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.statistics.ranks import rank_all

Floats = npt.NDArray[np.float64]
SPEEDS = ("latency_p50_s", "texts_per_s")


def process_logs(processes: Sequence[Mapping[str, Any]] | None) -> Floats:
    """Return ln latency and ln throughput of each process, `(processes, 2)`; NaN if unknown or not positive."""
    rows = [] if processes is None else [[p[name] for name in SPEEDS] for p in processes]
    table = np.array(rows, dtype=np.float64).reshape(-1, len(SPEEDS))
    return np.log(np.where(table > 0, table, np.nan))


def measurement_noise(logs: Floats, measurement_id: str, num_draws: int) -> Floats:
    """Return draws `(num_draws, 2)` of the error of the median ln latency and ln throughput over processes.

    A draw is the median of processes drawn with replacement minus the median of all processes; both columns use the
    same processes. The variance between n resampled processes is (n - 1) / n of that between fresh ones, so draws are
    multiplied by sqrt(n / (n - 1)). They are 0 with fewer than two known processes: the speed is then taken as
    measured. The random numbers depend on `measurement_id` alone, so that other entries do not change the draws.
    """
    made = np.zeros((num_draws, len(SPEEDS)))
    for column, values in enumerate(logs.T):
        known = values[np.isfinite(values)]
        n = len(known)
        if n < 2:
            continue
        uniform = np.random.default_rng(zlib.crc32(measurement_id.encode())).random((num_draws, n))
        drawn = np.median(known[(uniform * n).astype(np.int64)], axis=1)
        made[:, column] = (drawn - np.median(known)) * np.sqrt(n / (n - 1))
    return made


def speed_noise(track: pd.DataFrame, num_draws: int) -> Floats:
    """Return draws `(num_draws, rows, 2)` of the error of ln latency and ln throughput of each row of `track`.

    `track` holds the leaderboard rows of one dataset. A row with several seeds shows the median of their measurements,
    and so does a draw. Draws are 0 if `process_speed` has fewer than two processes, and if other load disturbed the
    clock (`provisional`), because the speed is then computed from CPU time.
    """
    made = np.zeros((num_draws, len(track), len(SPEEDS)))
    for m, (ids, measured, provisional) in enumerate(
        zip(track["measurement_ids"], track["process_speed"], track["provisional"], strict=True)
    ):
        if provisional:
            continue
        seeds = [(str(i), process_logs(p)) for i, p in zip(ids, measured, strict=True)]
        for column in range(len(SPEEDS)):
            known = [(i, logs) for i, logs in seeds if np.isfinite(logs[:, column]).any()]
            if not known:
                continue
            middle = np.array([np.nanmedian(logs[:, column]) for _, logs in known])
            drawn = np.stack([measurement_noise(logs, i, num_draws)[:, column] for i, logs in known], axis=1) + middle
            made[:, m, column] = np.median(drawn, axis=1) - np.median(middle)
    return made


def tied_fastest(latency_s: npt.ArrayLike, noise: Floats) -> list[bool | None]:
    """Return for each entry whether no other one is significantly faster; None if its latency is unknown.

    All pairs are tested together at 5 %. `latency_s` `(M,)` are the medians shown, `noise` `(B, M)` are draws of the
    error of their logs, 0 for an entry with unknown processes. With three processes each, one of six equal entries is
    excluded in 9 % of simulations.
    Source: as `ranks.rank_all`, whose correction for the number of examples does not apply to times.
    """
    logs = np.log(np.asarray(latency_s, dtype=np.float64))
    known = np.flatnonzero(np.isfinite(logs))
    names = [str(m) for m in known]
    ranking = rank_all(names, -logs[known], -(logs + noise)[:, known], num_items=sys.maxsize)
    tied = dict(zip(known.tolist(), ranking.tied_best.tolist(), strict=True))
    return [tied.get(m) for m in range(len(logs))]
