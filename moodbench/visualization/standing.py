"""Places under a reader's weights: which the data leave open, and how probably each contender is the best.

The joint bootstrap of a track is drawn once; under new weights its draws are weighted again, which takes milliseconds. The
anchors of the score are held fixed, and speed is taken as measured: the draws vary the test texts and the seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.comparison.board import OVERALL
from moodbench.comparison.composite import CRITERIA, Anchors, Weights, load_anchors, pinned_utilities
from moodbench.comparison.joint import joint_draws
from moodbench.comparison.ranks import rank_all
from moodbench.store import PREDICTIONS, Store
from moodbench.store.reading import read_bulk

Floats = npt.NDArray[np.float64]
NUM_DRAWS = 2000
MANY = 20
"""With more contenders than this, ranges of places come from fewer draws, so that a slider is answered at once."""
FEW_DRAWS = 500
WAIT_S = 1.0
"""A large store's draws take longer than a visitor waits for the first table."""


@dataclass(frozen=True)
class TrackDraws:
    """The utilities of quality of the contenders of one track in joint draws."""

    names: tuple[str, ...]
    accuracy: Floats
    """`(draws, contenders)`."""
    f1: Floats
    throughput: Floats
    """`(contenders,)`, as measured; so is latency."""
    latency: Floats
    num_items: int


class Standing:
    """The places of the contenders of a board, drawn when a track is first asked for."""

    def __init__(
        self, store: Store, contenders: pd.DataFrame, evaluations: pd.DataFrame, wait_s: float | None = WAIT_S
    ) -> None:
        self._wait_s = wait_s
        self._store, self._contenders = store, contenders
        files = zip(evaluations["evaluation_id"], evaluations["files"], strict=True)
        self._predictions = {
            str(i): [f["path"] for f in named if f["path"].startswith("predictions/")] for i, named in files
        }
        self._classes = dict(zip(evaluations["evaluation_id"], evaluations["num_classes"], strict=True))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="standing")
        self._tied: dict[str, list[set[str]]] = {}
        self._drawing: dict[str, Future[TrackDraws | None]] = {}

    def placed(self, track: pd.DataFrame, weights: Weights) -> pd.DataFrame:
        """The rows of one track of the board with rank_low, rank_high and p_best; missing where a row has no rank.

        The columns are absent where the draws cannot be made: predictions missing, or one contender alone. On one data set
        tied_accuracy and tied_f1_macro say who is not separated from the best.
        """
        track = self._with_ties(track)
        ranked = track[track["rank"].notna()]
        if len(ranked) < 2:
            return track
        names = [str(n) for n in ranked["name"]]
        draws = self._scores(track, ranked, names, weights)
        if draws is None:
            return track
        point = ranked["score"].to_numpy(dtype=float)
        few = draws if len(names) <= MANY else draws[:FEW_DRAWS]
        drawn = [d for d in (future.result() for future in self._drawing.values()) if d is not None]
        ranking = rank_all(names, point, few, min(d.num_items for d in drawn))
        best = np.bincount(draws.argmax(axis=1), minlength=len(names)) / len(draws)
        made = pd.DataFrame({"rank_low": ranking.low, "rank_high": ranking.high, "p_best": best}, index=ranked.index)
        return track.drop(columns=list(made), errors="ignore").join(made)

    def _with_ties(self, track: pd.DataFrame) -> pd.DataFrame:
        name = str(track["track"].iloc[0])
        if track["dataset"].iloc[0] == OVERALL or self._of_track(name, [], Weights()) is None:
            return track
        if name not in self._tied:
            drawn = self._drawing[name].result()
            assert drawn is not None
            few = slice(None) if len(drawn.names) <= MANY else slice(FEW_DRAWS)
            # Utilities rise with accuracy and F1, and the draws lie around those of the board.
            ties = [
                rank_all(drawn.names, d.mean(axis=0), d[few], drawn.num_items).tied_best
                for d in (drawn.accuracy, drawn.f1)
            ]
            self._tied[name] = [{n for n, is_tied in zip(drawn.names, tie, strict=True) if is_tied} for tie in ties]
        accuracy, f1 = self._tied[name]
        return track.assign(tied_accuracy=track["name"].isin(accuracy), tied_f1_macro=track["name"].isin(f1))

    def _scores(
        self, track: pd.DataFrame, ranked: pd.DataFrame, names: Sequence[str], weights: Weights
    ) -> Floats | None:
        """The score of the `names` in every draw, `(draws, names)`."""
        if track["dataset"].iloc[0] != OVERALL:
            return self._of_track(str(track["track"].iloc[0]), names, weights)
        parts = []
        for name in dict.fromkeys(self._contenders["track"]):
            part = self._of_track(str(name), names, weights)
            if part is None:
                return None
            parts.append(part)
        return np.asarray(np.mean(parts, axis=0))

    def _of_track(self, track: str, names: Sequence[str], weights: Weights) -> Floats | None:
        if track not in self._drawing:
            self._drawing[track] = self._pool.submit(self._draw, track)
        try:
            drawn = self._drawing[track].result(timeout=self._wait_s)
        except TimeoutError:
            return None  # shown without ranges; the next look has them
        if drawn is None or not set(names) <= set(drawn.names):
            return None
        columns = [drawn.names.index(name) for name in names]
        speed = weights.throughput * drawn.throughput[columns] + weights.latency * drawn.latency[columns]
        return 100 * (weights.accuracy * drawn.accuracy[:, columns] + weights.f1 * drawn.f1[:, columns] + speed)

    def _draw(self, track: str) -> TrackDraws | None:
        rows = self._contenders[self._contenders["track"] == track]
        ids = [str(i) for row in rows["evaluation_ids"] for i in row]
        keys = [key for i in ids for key in self._predictions.get(i, [])]
        if len(rows) < 2 or len(keys) != len(ids):
            return None
        columns = ["evaluation_id", "example_id", "label", "predicted"]
        said = read_bulk(self._store.location, keys, PREDICTIONS, columns)
        wide = said.pivot(index="example_id", columns="evaluation_id", values="predicted")
        if wide.isna().to_numpy().any():  # not the same texts: such contenders cannot be paired
            return None
        labels = said.drop_duplicates("example_id").set_index("example_id")["label"].loc[wide.index]
        tables = [wide[list(row)].to_numpy() for row in rows["evaluation_ids"]]
        names = [str(n) for n in rows["name"]]
        number = sorted(set(self._contenders["track"])).index(track)
        found = joint_draws(
            labels.to_numpy(), tables, names, int(self._classes[ids[0]]), num_draws=NUM_DRAWS, seed=number
        )
        anchors = load_anchors()
        accuracy, f1 = (
            _utility(rows, column, draws, anchors)
            for column, draws in (("accuracy", found.accuracy_draws), ("f1_macro", found.f1_draws))
        )
        speed = pinned_utilities(with_speed_for_score(rows), anchors)
        return TrackDraws(
            tuple(names), accuracy, f1, speed["throughput"].to_numpy(), speed["latency"].to_numpy(), len(labels)
        )


def with_speed_for_score(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the speed that their score uses: of a disturbed measurement its CPU time."""
    provisional = rows["provisional"].astype(bool)
    return rows.assign(
        latency_p50_s=rows["latency_p50_s"].mask(provisional, rows["cpu_time_p50_s"]),
        throughput_texts_per_s=rows["throughput_texts_per_s"].mask(provisional, rows["texts_per_cpu_s"]),
    )


def _utility(rows: pd.DataFrame, column: str, draws: Floats, anchors: Anchors) -> Floats:
    """The pinned utility of `column` in each draw, `(draws, contenders)`: the board's own function on as many rows."""
    many = rows.loc[rows.index.repeat(len(draws))].assign(**{column: draws.T.ravel()})
    utility = pinned_utilities(many, anchors)[CRITERIA[0] if column == "accuracy" else CRITERIA[1]]
    return utility.to_numpy().reshape(len(rows), len(draws)).T
