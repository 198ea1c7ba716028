"""How much the speed of each contender might have come out otherwise: draws over fresh processes, on a log scale."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.comparison.ranks import rank_all

Floats = npt.NDArray[np.float64]
SPEEDS = ("latency_p50_s", "texts_per_s")


def process_logs(processes: Sequence[Mapping[str, Any]] | None) -> Floats:
    """`(processes, 2)`: ln of the latency and of the throughput of each process; NaN where not known or not positive."""
    rows = [] if processes is None else [[p[name] for name in SPEEDS] for p in processes]
    table = np.array(rows, dtype=np.float64).reshape(-1, len(SPEEDS))
    return np.log(np.where(table > 0, table, np.nan))


def measurement_noise(logs: Floats, measurement_id: str, num_draws: int) -> Floats:
    """`(num_draws, 2)`: the median of processes drawn with replacement minus the median of all, of ln latency and ln throughput.

    Both come from the same processes. As n processes drawn from themselves vary by (n - 1) / n of what fresh ones would, it is
    multiplied by sqrt(n / (n - 1)). 0 where fewer than two processes are known: such speed is taken as measured. The draws hang
    on the id alone, so that no other contender changes them.
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
    """`(num_draws, rows, 2)`: by how much ln latency and ln throughput of each row of the board may differ from those shown.

    A row with several seeds shows the median of their measurements, and so does a draw. 0, as measured, where `process_speed`
    knows one process only or none, and where other load disturbed the clock, for the speed is then worked out from CPU time.
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
    """For each contender whether no other answers a text sooner for sure, all pairs at once (5 %); None where the latency is not known.

    `latency_s` `(M,)` are the medians shown, `noise` `(B, M)` draws of how much their logs may differ. One whose processes are not
    known is as measured. With three processes each, one of six equal contenders is left out in 9 % of worlds. Source: as `ranks.rank_all`, whose correction for the number of texts does not apply to times.
    """
    logs = np.log(np.asarray(latency_s, dtype=np.float64))
    known = np.flatnonzero(np.isfinite(logs))
    names = [str(m) for m in known]
    ranking = rank_all(names, -logs[known], -(logs + noise)[:, known], num_items=sys.maxsize)
    tied = dict(zip(known.tolist(), ranking.tied_best.tolist(), strict=True))
    return [tied.get(m) for m in range(len(logs))]
