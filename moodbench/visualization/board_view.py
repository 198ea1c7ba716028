"""The board of a store, as every output shows it: terminal, page, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from moodbench.comparison import people
from moodbench.comparison.board import OVERALL, choose_machine
from moodbench.comparison.composite import Weights, load_anchors
from moodbench.comparison.joint import JointDraws
from moodbench.comparison.overall import MIXED, coverage_note, covered
from moodbench.comparison.pairs import AllPairs
from moodbench.comparison.scoring import Scoring
from moodbench.comparison.standing import AREA_COLUMNS, PARETO_COSTS
from moodbench.comparison.together import mean_joint
from moodbench.errors import UnknownNameError
from moodbench.hardware import Hardware
from moodbench.store import Store
from moodbench.store.reading import read_bulk
from moodbench.store.schema import EXAMPLES
from moodbench.tuning.searched import Searched, searches
from moodbench.visualization.formatting import MARKS, marks
from moodbench.visualization.score_notes import (
    Robustness,
    robustness,
    robustness_notes,
    score_notes,
    standing_notes,
)
from moodbench.visualization.search_notes import search_notes
from moodbench.visualization.training_notes import training_notes
from moodbench.visualization.worked_out import Keep, Records, make_anew, work_out

EXPORTED = [
    "track", "dataset", "num_train", "rank", "name", "model", "method", "quantization", "score", "provisional", "accuracy", "accuracy_low",
    "accuracy_high", "interval_method", "estimand", "f1_macro", "precision_macro", "recall_macro", "mcc", "auroc", "nll",
    "brier", "ece", "latency_p50_s", "latency_p99_s", "throughput_texts_per_s", "throughput_tokens_per_s",
    "throughput_batch_size", "memory_peak_batch1_bytes", "memory_peak_bytes", "weights_bytes", "cold_start_s",
    "train_time_s", "num_steps", "training_verdict", "num_params", "num_trainable", "num_seeds", "num_test", "verdict", "quick", "device_name", "config_id",
    "fit_ids", "rank_low", "rank_high", "p_best", "accuracy_rank_low", "accuracy_rank_high", "accuracy_letters", "tied_best",
    "f1_low", "f1_high", "tied_f1", "tied_latency", *PARETO_COSTS.values(), *AREA_COLUMNS.values(),
]  # fmt: skip
"""Columns of --json and --csv, in base units."""


WIDTH_OF_NONE = 1e-9
"""An interval that is narrower has no width."""


@dataclass(frozen=True)
class BoardView:
    """A board with what must be said beside it."""

    board: pd.DataFrame
    failures: pd.DataFrame
    """Failed attempts of trials that have no record yet."""
    notes: tuple[str, ...]
    references: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(people.COLUMNS)))
    """What people reach on the texts of a track, where raters are known: no contenders, without rank and score."""
    joints: Mapping[str, JointDraws] = field(default_factory=dict)
    """Track to the joint bootstrap of its contenders; a track tested on different reviews has none."""
    robustness: tuple[Robustness, ...] = ()
    """How the order of each track holds when weights and scores move; only where it was asked for."""
    searches: tuple[Searched, ...] = ()
    """Searches of hyper-parameters in the store."""
    pairs: Mapping[str, AllPairs] = field(default_factory=dict)
    """Track, or `overall`, to what all its pairs can show."""

    def pairs_of(self, name: str) -> AllPairs | None:
        """What the pairs of one track can show, or of the data sets together; None where texts cannot be paired."""
        return self.pairs.get(OVERALL if name.startswith(OVERALL) else name)

    def references_of(self, name: str) -> pd.DataFrame:
        """The reference rows of one track."""
        return self.references[self.references["track"] == name]

    @property
    def tracks(self) -> list[str]:
        """The names of the tracks, in order."""
        return [] if self.board.empty else list(dict.fromkeys(self.board["track"]))

    def track(self, name: str) -> pd.DataFrame:
        """The rows of one track."""
        return self.board[self.board["track"] == name]

    def reference_records(self) -> list[dict[str, Any]]:
        """The reference rows as plain values in base units; missing is None."""
        records: list[dict[str, Any]] = json.loads(self.references.to_json(orient="records", double_precision=15))
        return records

    def to_records(self) -> list[dict[str, Any]]:
        """The rows as plain values in base units; missing is None."""
        if self.board.empty:
            return []
        columns = self.board.reindex(columns=EXPORTED)
        records: list[dict[str, Any]] = json.loads(columns.to_json(orient="records", double_precision=15))
        return records


@dataclass(frozen=True)
class Results:
    """What a store holds for a board, before any weights: read once, it is shown under as many as one likes."""

    contenders: pd.DataFrame
    failures: pd.DataFrame
    num_elsewhere: int
    """Measurements of other kinds of machine, which are not shown."""
    fits: pd.DataFrame
    evaluations: pd.DataFrame
    measurements: pd.DataFrame
    """Records of the kind of machine shown."""
    joints: Mapping[str, JointDraws]
    """Track to the joint bootstrap of its contenders; a track tested on different reviews has none."""
    references: pd.DataFrame
    """What people reach, where raters are known."""
    searches: tuple[Searched, ...] = ()
    """Searches of hyper-parameters, with what they tried."""
    together: JointDraws | None = None
    """The mean of the tracks that `overall` covers, draw by draw, where all have draws."""
    ties: pd.DataFrame | None = None
    """What `together` says of each contender: see `together.mean_ties`."""
    pairs: Mapping[str, AllPairs] = field(default_factory=dict)
    """Track, or `overall`, to what all its pairs can show."""
    _scorings: dict[str, Scoring] = field(default_factory=dict, init=False, repr=False, compare=False)

    def joint_of(self, track: str) -> JointDraws | None:
        """The joint draws of one track, or of all tracks together; None where texts cannot be paired."""
        return self.together if track.startswith(OVERALL) else self.joints.get(track)

    def view(
        self,
        weights: Weights | None = None,
        composite: str = "pinned",
        *,
        with_robustness: bool = False,
        placed: str | None = None,
    ) -> BoardView:
        """The board under these weights; `with_robustness` also says how its order holds, `placed` names the one track whose
        rows are to have their ranges of places."""
        weights = weights or Weights()
        scoring = self._scoring(composite)
        board = scoring.board(weights, placed).assign(composite=composite)
        tested = robustness(board, scoring, weights) if with_robustness else []
        notes = [*score_notes(board, scoring, weights), *self._lasting_notes, *robustness_notes(tested)]
        if self.searches and not board.empty:
            notes += search_notes(zip(board["model"], board["dataset"], board["config_id"], strict=True), self.searches)
        if len(self.references):
            notes.append("ref: people on the same texts, no contender. " + _sentence(people.HELP))
        return BoardView(
            board, self.failures, tuple(notes), self.references, self.joints, tuple(tested), self.searches, self.pairs
        )

    def _scoring(self, composite: str) -> Scoring:
        """The scoring by this composite; the last one is kept, as the draws of a large field take room."""
        found = self._scorings.get(composite)
        if found is None:
            found = Scoring(
                self.contenders, anchors=load_anchors(), composite=composite, joints=self.joints, ties=self.ties
            )
            self._scorings.clear()
            self._scorings[composite] = found
        return found

    @cached_property
    def _lasting_notes(self) -> list[str]:
        """What is said of the rows whatever their scores."""
        known = next(iter(self._scorings.values()), None)  # the rows of any composite will do
        rows = (known or self._scoring("pinned")).rows
        return [
            *coverage_note(rows, list(dict.fromkeys(self.contenders["track"]))),
            *_notes(rows, self.failures, self.num_elsewhere),
            *training_notes(rows, self.fits),
            *standing_notes(self.pairs, self.joints, self.contenders),
        ]


def view_board(
    store: Store,
    machine: Hardware,
    *,
    weights: Weights | None = None,
    composite: str = "pinned",
    dataset: str | None = None,
) -> BoardView:
    """The board of `store` as seen from `machine`: its own speeds if there are any, else those of the commonest kind."""
    return read_results(store, machine, dataset).view(weights, composite, with_robustness=True)


def read_results(store: Store, machine: Hardware, dataset: str | None = None, keep: Keep = make_anew) -> Results:
    """What `store` holds for the board of one data set or of all, as seen from `machine`.

    `keep` may know the slow part from before: it is given the records and what makes it.
    """
    fits, evaluations, measurements = (store.records(k) for k in ("fits", "evaluations", "measurements"))
    if dataset is not None:
        known = set(evaluations["dataset"])
        if dataset not in known:
            raise UnknownNameError(f"data set in {store.uri}:", dataset, known)
        evaluations = evaluations[evaluations["dataset"] == dataset]
    chosen = choose_machine(measurements, machine.machine_key)
    records = Records(fits, evaluations, chosen)
    worked = keep(records, lambda: work_out(store, records))
    failures = _open_failures(store.records("failures"), fits, evaluations, measurements)
    rows, joints = worked.contenders, worked.joints
    together = covered(rows) if len(rows) else []
    whole = mean_joint({t: joints[t] for t in together}) if together and set(together) <= set(joints) else None
    return Results(
        rows, failures, len(measurements) - len(chosen), fits, evaluations, chosen, joints, _references(store, rows, fits),
        searches(store), whole, worked.ties, worked.pairs,
    )  # fmt: skip


def _references(store: Store, rows: pd.DataFrame, fits: pd.DataFrame) -> pd.DataFrame:
    """What people reach on every track whose evaluations knew the raters and whose examples the store holds."""
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
        found += people.reference_rows(str(row["track"]), counts, len(data["labels"]), data["neutral_band"])
    return pd.DataFrame(found, columns=list(people.COLUMNS))


def _sentence(parts: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {what}" for name, what in parts.items()) + "."


def _open_failures(
    failures: pd.DataFrame, fits: pd.DataFrame, evaluations: pd.DataFrame, measurements: pd.DataFrame
) -> pd.DataFrame:
    """The last failure of every phase that has no record."""
    done = {*fits["fit_id"], *evaluations["evaluation_id"], *measurements["measurement_id"]}
    return failures[~failures["id"].isin(done)].sort_values("attempt").groupby("id").tail(1)


def _notes(board: pd.DataFrame, failures: pd.DataFrame, num_elsewhere: int) -> list[str]:
    if board.empty:
        return []
    notes = []
    if board["provisional"].any():
        notes.append(
            "* Other load disturbed the clock: these scores use CPU time and are provisional; they have "
            "no rank beside undisturbed ones, and one in brackets where there are none. Quiet the machine and measure again."
        )
    given = [column for column in ("verdict", "provisional", "quick", "on_all") if column in board]
    kinds = board[given].drop_duplicates()  # a few, however many rows: a slider waits
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
            "Mixed: the overall interval joins data sets with one seed (these weights) and with several (training again)."
        )
    if ((board["num_seeds"] > 1) & board["interval_method"].isna()).any():
        notes.append("No interval: several seeds without stored predictions do not say how texts and seeds vary.")
    if "f1_low" in board and (board["f1_high"].astype(float) - board["f1_low"].astype(float) < WIDTH_OF_NONE).any():
        notes.append(
            "F1 with an interval of no width: within each class every text got the same label, and the shares of the classes are held as they are."
        )
    if num_elsewhere:
        notes.append(f"{num_elsewhere} measurements of other kinds of machine are not shown: speeds do not compare.")
    if len(failures):
        notes.append(f"{len(failures)} phases failed; see the list below.")
    return notes
