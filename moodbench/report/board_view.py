"""The leaderboard of a store with its notes, shared by terminal, page, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from moodbench.analysis import human_reference
from moodbench.analysis.leaderboard import OVERALL, choose_machine
from moodbench.analysis.results import Keep, Records, make_anew, work_out
from moodbench.analysis.scoring import Scoring
from moodbench.errors import UnknownNameError
from moodbench.hardware import Hardware
from moodbench.report.formatting import MARKS, marks
from moodbench.report.score_notes import (
    Robustness,
    robustness,
    robustness_notes,
    score_notes,
    standing_notes,
)
from moodbench.report.search_notes import search_notes
from moodbench.report.training_notes import training_notes
from moodbench.statistics.bootstrap import JointDraws
from moodbench.statistics.composite import Weights, load_anchors
from moodbench.statistics.overall import MIXED, coverage_note, covered
from moodbench.statistics.pairs import AllPairs
from moodbench.statistics.rank_intervals import AREA_COLUMNS, PARETO_COSTS
from moodbench.statistics.together import mean_joint
from moodbench.store import Store
from moodbench.store.reading import read_bulk
from moodbench.store.schema import EXAMPLES
from moodbench.tune.result import Searched, searches

EXPORTED = [
    "track", "dataset", "num_train", "rank", "name", "model", "method", "quantization", "score", "provisional",
    "accuracy", "accuracy_low", "accuracy_high", "interval_method", "estimand",
    "f1_macro", "precision_macro", "recall_macro", "mcc", "auroc", "nll", "brier", "ece",
    "latency_p50_s", "latency_p99_s", "throughput_texts_per_s", "throughput_tokens_per_s", "throughput_batch_size",
    "memory_peak_batch1_bytes", "memory_peak_bytes", "weights_bytes", "cold_start_s",
    "train_time_s", "num_steps", "training_verdict", "num_params", "num_trainable", "num_seeds", "num_test",
    "verdict", "quick", "device_name", "config_id", "fit_ids",
    "rank_low", "rank_high", "p_best", "accuracy_rank_low", "accuracy_rank_high", "accuracy_letters", "tied_best",
    "f1_low", "f1_high", "tied_f1", "tied_latency", *PARETO_COSTS.values(), *AREA_COLUMNS.values(),
]  # fmt: skip
"""Columns of `--json` and `--csv`, in base units."""


WIDTH_OF_NONE = 1e-9
"""Intervals narrower than this share count as having no width."""


@dataclass(frozen=True)
class BoardView:
    """A leaderboard with the notes, failures and statistics shown beside it.

    A track is a dataset at one training size; `overall` is the track of all datasets together.
    """

    board: pd.DataFrame
    failures: pd.DataFrame
    """Last failed attempt of each phase that has no record yet."""
    notes: tuple[str, ...]
    references: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(human_reference.COLUMNS)))
    """Human agreement on the test examples, where raters are known: no entries, so without rank and score."""
    joints: Mapping[str, JointDraws] = field(default_factory=dict)
    """Bootstrap draws of the entries by track; a track whose entries were tested on different examples has none."""
    robustness: tuple[Robustness, ...] = ()
    """How robust the order of each track is to changes of weights and scores; only computed on request."""
    searches: tuple[Searched, ...] = ()
    """Hyperparameter searches in the store."""
    pairs: Mapping[str, AllPairs] = field(default_factory=dict)
    """Detectable differences of the tests of all pairs, by track or `overall`."""

    def pairs_of(self, name: str) -> AllPairs | None:
        """Return what the tests of all pairs of a track can detect; None where its examples cannot be paired."""
        return self.pairs.get(OVERALL if name.startswith(OVERALL) else name)

    def references_of(self, name: str) -> pd.DataFrame:
        """Return the human reference rows of one track."""
        return self.references[self.references["track"] == name]

    @property
    def tracks(self) -> list[str]:
        """Names of the tracks, in order."""
        return [] if self.board.empty else list(dict.fromkeys(self.board["track"]))

    def track(self, name: str) -> pd.DataFrame:
        """Return the rows of one track."""
        return self.board[self.board["track"] == name]

    def reference_records(self) -> list[dict[str, Any]]:
        """Return the reference rows as plain values in base units, None where missing."""
        records: list[dict[str, Any]] = json.loads(self.references.to_json(orient="records", double_precision=15))
        return records

    def to_records(self) -> list[dict[str, Any]]:
        """Return the rows as plain values in base units, None where missing."""
        if self.board.empty:
            return []
        columns = self.board.reindex(columns=EXPORTED)
        records: list[dict[str, Any]] = json.loads(columns.to_json(orient="records", double_precision=15))
        return records


@dataclass(frozen=True)
class Results:
    """Results of a store for a leaderboard, before any weights: read once, shown under as many weights as needed."""

    entries: pd.DataFrame
    failures: pd.DataFrame
    num_elsewhere: int
    """Number of measurements from other machine types, which are not shown."""
    fits: pd.DataFrame
    evaluations: pd.DataFrame
    measurements: pd.DataFrame
    """Measurements of the machine type shown."""
    joints: Mapping[str, JointDraws]
    """Bootstrap draws of the entries by track; a track whose entries were tested on different examples has none."""
    references: pd.DataFrame
    """Human reference rows, where raters are known."""
    searches: tuple[Searched, ...] = ()
    """Hyperparameter searches with their trials."""
    together: JointDraws | None = None
    """Mean of the tracks that `overall` covers, draw by draw; None unless all of them have draws."""
    ties: pd.DataFrame | None = None
    """Rank intervals and significance groups of each entry, from `together`: see `together.mean_ties`."""
    pairs: Mapping[str, AllPairs] = field(default_factory=dict)
    """Detectable differences of the tests of all pairs, by track or `overall`."""
    _scorings: dict[str, Scoring] = field(default_factory=dict, init=False, repr=False, compare=False)

    def joint_of(self, track: str) -> JointDraws | None:
        """Return the bootstrap draws of one track or of `overall`; None where examples cannot be paired."""
        return self.together if track.startswith(OVERALL) else self.joints.get(track)

    def view(
        self,
        weights: Weights | None = None,
        composite: str = "pinned",
        *,
        with_robustness: bool = False,
        placed: str | None = None,
    ) -> BoardView:
        """Return the leaderboard under these weights.

        `with_robustness` adds how robust its order is. `placed` names the only track whose rows get rank intervals; by
        default all rows get them.
        """
        weights = weights or Weights()
        scoring = self._scoring(composite)
        board = scoring.board(weights, placed).assign(composite=composite)
        tested = robustness(board, scoring, weights) if with_robustness else []
        notes = [*score_notes(board, scoring, weights), *self._lasting_notes, *robustness_notes(tested)]
        if self.searches and not board.empty:
            notes += search_notes(zip(board["model"], board["dataset"], board["config_id"], strict=True), self.searches)
        if len(self.references):
            notes.append("ref: people on the same texts, no entry. " + _sentence(human_reference.HELP))
        return BoardView(
            board, self.failures, tuple(notes), self.references, self.joints, tuple(tested), self.searches, self.pairs
        )

    def _scoring(self, composite: str) -> Scoring:
        """Return the scoring by this composite; only the last is cached, as the draws of many entries take memory."""
        found = self._scorings.get(composite)
        if found is None:
            found = Scoring(
                self.entries, anchors=load_anchors(), composite=composite, joints=self.joints, ties=self.ties
            )
            self._scorings.clear()
            self._scorings[composite] = found
        return found

    @cached_property
    def _lasting_notes(self) -> list[str]:
        """Notes that do not depend on the scores of the rows."""
        known = next(iter(self._scorings.values()), None)  # the rows are the same for every composite
        rows = (known or self._scoring("pinned")).rows
        return [
            *coverage_note(rows, list(dict.fromkeys(self.entries["track"]))),
            *_notes(rows, self.failures, self.num_elsewhere),
            *training_notes(rows, self.fits),
            *standing_notes(self.pairs, self.joints, self.entries),
        ]


def view_board(
    store: Store,
    machine: Hardware,
    *,
    weights: Weights | None = None,
    composite: str = "pinned",
    dataset: str | None = None,
) -> BoardView:
    """Return the leaderboard of `store` as seen from `machine`.

    Speeds are those of this machine type if it was measured, otherwise those of the most common one.
    """
    return read_results(store, machine, dataset).view(weights, composite, with_robustness=True)


def read_results(store: Store, machine: Hardware, dataset: str | None = None, keep: Keep = make_anew) -> Results:
    """Read what `store` holds for the leaderboard of one dataset or of all, as seen from `machine`.

    `keep` gets the records and a function that computes the slow part; it may return a cached result instead.

    Raises: UnknownNameError for a dataset without evaluations.
    """
    fits, evaluations, measurements = (store.records(k) for k in ("fits", "evaluations", "measurements"))
    if dataset is not None:
        known = set(evaluations["dataset"])
        if dataset not in known:
            raise UnknownNameError(f"dataset in {store.uri}:", dataset, known)
        evaluations = evaluations[evaluations["dataset"] == dataset]
    chosen = choose_machine(measurements, machine.machine_key)
    records = Records(fits, evaluations, chosen)
    worked = keep(records, lambda: work_out(store, records))
    failures = _open_failures(store.records("failures"), fits, evaluations, measurements)
    rows, joints = worked.entries, worked.joints
    together = covered(rows) if len(rows) else []
    whole = mean_joint({t: joints[t] for t in together}) if together and set(together) <= set(joints) else None
    return Results(
        rows, failures, len(measurements) - len(chosen), fits, evaluations, chosen, joints,
        _references(store, rows, fits), searches(store), whole, worked.ties, worked.pairs,
    )  # fmt: skip


def _references(store: Store, rows: pd.DataFrame, fits: pd.DataFrame) -> pd.DataFrame:
    """Return the human reference rows of every track with known raters whose examples are in the store."""
    found: list[dict[str, Any]] = []
    known = rows[rows["ceiling_accuracy"].notna()] if len(rows) else rows
    for _, row in known.drop_duplicates("track").iterrows():
        key = f"examples/dataset={row['dataset']}/revision={row['dataset_revision']}.parquet"
        if key not in store.location.keys(f"examples/dataset={row['dataset']}"):
            continue
        examples = read_bulk(store.location, [key], EXAMPLES, ["example_id", "split", "rating_counts"])
        test = examples[examples["split"] == "test"].sort_values("example_id")
        if len(test) == 0 or test["rating_counts"].isna().any():
            continue
        spec = fits.loc[fits["fit_id"] == row["fit_ids"][0], "spec"].iloc[0]
        if not isinstance(spec, str):
            continue
        data = json.loads(spec)["dataset"]
        counts = np.stack(test["rating_counts"].to_list()).astype(np.int64)
        found += human_reference.reference_rows(str(row["track"]), counts, len(data["labels"]), data["neutral_band"])
    return pd.DataFrame(found, columns=list(human_reference.COLUMNS))


def _sentence(parts: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {what}" for name, what in parts.items()) + "."


def _open_failures(
    failures: pd.DataFrame, fits: pd.DataFrame, evaluations: pd.DataFrame, measurements: pd.DataFrame
) -> pd.DataFrame:
    """Return the last failure of every phase that has no record."""
    done = {*fits["fit_id"], *evaluations["evaluation_id"], *measurements["measurement_id"]}
    return failures[~failures["id"].isin(done)].sort_values("attempt").groupby("id").tail(1)


def _notes(board: pd.DataFrame, failures: pd.DataFrame, num_elsewhere: int) -> list[str]:
    if board.empty:
        return []
    notes = []
    if board["provisional"].any():
        notes.append(
            "* Other load disturbed the clock: these scores use CPU time and are provisional; they have "
            "no rank beside undisturbed ones, and one in brackets where there are none. "
            "Quiet the machine and measure again."
        )
    given = [column for column in ("verdict", "provisional", "quick", "on_all") if column in board]
    kinds = board[given].drop_duplicates()  # few, and a slider of the page waits for this
    found = {mark for _, row in kinds.iterrows() for mark in marks(row)}
    for mark in ("quick", "unknown", "invalid", "partial"):
        if mark in found:
            notes.append(f"({mark}): {MARKS[mark]}.")
    if (board["num_seeds"] == 1).any():
        notes.append("One seed: intervals hold for these weights on new texts, not for training again.")
    if (board["estimand"] == "recipe").any():
        notes.append("Several seeds: intervals hold for the recipe trained again, on new texts.")
    if (board["estimand"] == MIXED).any():
        notes.append(
            "Mixed: the overall interval joins datasets with one seed (these weights) "
            "and with several (training again)."
        )
    if ((board["num_seeds"] > 1) & board["interval_method"].isna()).any():
        notes.append("No interval: several seeds without stored predictions do not say how texts and seeds vary.")
    if "f1_low" in board and (board["f1_high"].astype(float) - board["f1_low"].astype(float) < WIDTH_OF_NONE).any():
        notes.append(
            "F1 with an interval of no width: within each class every text got the same label, "
            "and the shares of the classes are held as they are."
        )
    if num_elsewhere:
        notes.append(f"{num_elsewhere} measurements of other kinds of machine are not shown: speeds do not compare.")
    if len(failures):
        notes.append(f"{len(failures)} phases failed; see the list below.")
    return notes
