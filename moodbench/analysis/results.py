"""Results of a store for a leaderboard: its records, and all that is computed from them before any weights.

Human agreement on the same examples is shown in reference rows beside the leaderboard, without rank or score.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.analysis.leaderboard import entries, with_quality_columns
from moodbench.analysis.scoring import Scoring
from moodbench.analysis.trials import choose_machine, trials_frame
from moodbench.errors import StoreError, UnknownNameError
from moodbench.evaluation.predicting import CEILING_SEED, leave_one_out_agreement, split_half_ceiling
from moodbench.hardware import Hardware
from moodbench.statistics.all_pairs import AllPairs, all_pairs, pair_p_values
from moodbench.statistics.bootstrap import BootstrapDraws, Floats, bootstrap_draws, speed_noise
from moodbench.statistics.overall import OVERALL, covered, mean_draws, mean_ties
from moodbench.store import PREDICTIONS, Store
from moodbench.store.reading import read_bulk
from moodbench.store.schema import EXAMPLES

NUM_DRAWS = 2000
"""Number of bootstrap draws: about a second for 18 models on 25,000 examples."""
ONE_RATER, HALF_PANEL = "one rater", "majority of raters"
LAST = "~"
"""Attempt of a damaged record among failures: later than the time that begins the name of every attempt."""
REFERENCE_HELP = {
    ONE_RATER: "one person: each rater's label against that of all other raters on the same text (leave one out)",
    HALF_PANEL: "the ceiling: the majority label of half of the raters against that of the other half; "
    "this is quality 1 in the pinned score",
}
"""Name of a reference row to its explanation."""
REFERENCE_COLUMNS = (
    "track", "name", "accuracy", "accuracy_low", "accuracy_high", "f1_macro", "num_test", "num_ratings",
)  # fmt: skip


@dataclass(frozen=True)
class Records:
    """The records that a leaderboard is made from."""

    fits: pd.DataFrame
    evaluations: pd.DataFrame
    measurements: pd.DataFrame
    """Measurements of the machine type shown."""
    num_elsewhere: int
    """Number of measurements of other machine types, which are not shown."""
    failures: pd.DataFrame
    """Last failed attempt of each phase that has no record yet, or whose record is damaged."""


@dataclass(frozen=True)
class Computed:
    """All that does not depend on weights; a pure function of the records and their predictions.

    A track is a dataset at one training size; `overall` is the track of all datasets together.
    """

    entries: pd.DataFrame
    """One row per entry and track, without scores: see `leaderboard.entries`."""
    draws: Mapping[str, BootstrapDraws]
    """Bootstrap draws of the entries by track; a track whose entries were tested on different examples has none."""
    covered: Sequence[str]
    """Tracks that `overall` covers."""
    overall_draws: BootstrapDraws | None
    """Mean of the draws of the covered tracks; None unless all of them have draws."""
    ties: pd.DataFrame | None
    """Rank intervals and significance groups of each entry, from `overall_draws`: see `overall.mean_ties`."""
    pairs: Mapping[str, AllPairs]
    """Detectable differences of the tests of all pairs, by track or `overall`."""

    def draws_of(self, track: str) -> BootstrapDraws | None:
        """Return the bootstrap draws of one track or of `overall`; None where examples cannot be paired."""
        return self.overall_draws if track.startswith(OVERALL) else self.draws.get(track)


@dataclass(frozen=True)
class Results:
    """Results of a store for a leaderboard: read once, shown under as many weights as needed."""

    records: Records
    computed: Computed
    references: pd.DataFrame
    """Human agreement on the test examples, where raters are known: no entries, so without rank and score."""
    _scorings: dict[str, Scoring] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def entries(self) -> pd.DataFrame:
        """One row per entry and track, without scores."""
        return self.computed.entries

    @property
    def rows(self) -> pd.DataFrame:
        """Rows of all tracks, then the overall rows, without scores; the same for every composite."""
        known = next(iter(self._scorings.values()), None)
        return (known or self.scoring("pinned")).rows

    def scoring(self, composite: str) -> Scoring:
        """Return the scoring by this composite; only the last is cached, as the draws of many entries take memory."""
        found = self._scorings.get(composite)
        if found is None:
            found = Scoring(
                self.entries,
                self.computed.covered,
                composite=composite,
                draws=self.computed.draws,
                ties=self.computed.ties,
            )
            self._scorings.clear()
            self._scorings[composite] = found
        return found


def read_results(store: Store, machine: Hardware, dataset: str | None = None) -> Results:
    """Read the results of one dataset or of all, as seen from `machine`; see `cache.cached_results` for large stores.

    Raises: UnknownNameError for a dataset without evaluations.
    """
    records = read_records(store, machine, dataset)
    return results_of(store, records, compute(store, records))


def results_of(store: Store, records: Records, computed: Computed) -> Results:
    """Return the results, with the human reference rows of `store`."""
    return Results(records, computed, references(store, computed.entries, records.fits))


def read_records(store: Store, machine: Hardware, dataset: str | None = None) -> Records:
    """Read the records for the leaderboard of one dataset or of all.

    Measurements are those of this machine type if there are any, otherwise those of the most common one.

    Raises: UnknownNameError for a dataset without evaluations.
    """
    sound = [store.sound_records(kind) for kind in ("fits", "evaluations", "measurements", "failures")]
    damaged = [each for _, found in sound for each in found]
    lost = {each.id for each in damaged if each.kind == "fits"}
    fits, evaluations, measurements = (frame[~frame["fit_id"].isin(lost)] for frame, _ in sound[:3])
    if dataset is not None:
        known = set(evaluations["dataset"])
        if dataset not in known:
            raise UnknownNameError(f"dataset in {store.uri}:", dataset, known)
        evaluations = evaluations[evaluations["dataset"] == dataset]
    shown = choose_machine(measurements, machine.machine_key)
    done = {*fits["fit_id"], *evaluations["evaluation_id"], *measurements["measurement_id"]}
    failures = sound[3][0]
    if damaged:
        rows = pd.DataFrame([{**each.as_failure(), "attempt": LAST} for each in damaged])
        failures = pd.concat([failures.astype(object), rows.reindex(columns=failures.columns)], ignore_index=True)
    failed = failures[~failures["id"].isin(done)].sort_values("attempt").groupby("id").tail(1)
    return Records(fits, evaluations, shown, len(measurements) - len(shown), failed)


def compute(store: Store, records: Records) -> Computed:
    """Compute the entries, their bootstrap draws and all pairs from `records` and their predictions in `store`."""
    predicted = PredictedClasses(store, records.evaluations)
    trials = trials_frame(records.fits, records.evaluations, records.measurements)
    rows = entries(trials, predicted.correct)
    draws, tests = _bootstrap(rows, predicted)
    by_track = dict(iter(rows.groupby("track"))) if draws else {}
    draws = {name: replace(j, speed_noise=speed_noise(by_track[name], NUM_DRAWS)) for name, j in draws.items()}
    rows = with_quality_columns(rows.drop(columns="process_speed", errors="ignore"), draws)
    tracks = covered(rows)
    overall_draws = mean_draws({t: draws[t] for t in tracks}) if tracks and set(tracks) <= set(draws) else None
    pairs = {name: all_pairs(own, tests[name]) for name, own in draws.items() if len(own.names) > 1}
    if overall_draws is not None and len(overall_draws.names) > 1:
        pairs[OVERALL] = all_pairs(overall_draws, None)
    return Computed(
        rows, draws, tracks, overall_draws, None if overall_draws is None else mean_ties(overall_draws), pairs
    )


class PredictedClasses:
    """Predicted classes of the evaluations of a store, read once per entry."""

    def __init__(self, store: Store, evaluations: pd.DataFrame) -> None:
        self._store = store
        self._keys = {
            str(i): [f["path"] for f in named if f["path"].startswith("predictions/")]
            for i, named in zip(evaluations["evaluation_id"], evaluations["files"], strict=True)
        }
        self._read: dict[str, pd.DataFrame] = {}

    def of(self, evaluation_ids: list[str]) -> pd.DataFrame:
        """Return the predicted class of each example by each evaluation of one entry, in their order, and its label."""
        first = evaluation_ids[0]
        if first not in self._read:
            keys = [key for i in evaluation_ids for key in self._keys[i]]
            columns = ["evaluation_id", "example_id", "label", "predicted"]
            rows = read_bulk(self._store.location, keys, PREDICTIONS, columns)
            wide = rows.pivot(index="example_id", columns="evaluation_id", values="predicted")
            labels = rows.drop_duplicates("example_id").set_index("example_id")["label"]
            self._read[first] = wide.reindex(columns=evaluation_ids).assign(label=labels)
        return self._read[first]

    def complete(self, evaluation_ids: list[str]) -> pd.DataFrame:
        """Return `of(evaluation_ids)`.

        Raises: StoreError for an evaluation without predictions.
        """
        classes = self.of(evaluation_ids)
        absent = classes.columns[classes.isna().all()]
        if len(absent):
            raise StoreError(
                f"{self._store.uri}: evaluation {absent[0]} has no predictions, so it cannot be paired with another"
            )
        return classes

    def correct(self, evaluation_ids: list[str]) -> npt.NDArray[np.bool_]:
        """Return whether each example was labelled correctly, `(items, seeds)`; no rows if predictions are missing."""
        classes = self.of(evaluation_ids)
        if classes.isna().any(axis=None):  # the predictions of some seeds are not stored
            classes = classes.iloc[:0]
        return classes[evaluation_ids].eq(classes["label"], axis=0).to_numpy(dtype=bool)


def _bootstrap(rows: pd.DataFrame, predicted: PredictedClasses) -> tuple[dict[str, BootstrapDraws], dict[str, Floats]]:
    """Return the bootstrap draws of each track, and the p-values of its pairs from their own tests."""
    found: dict[str, BootstrapDraws] = {}
    tests: dict[str, Floats] = {}
    if rows.empty:
        return found, tests
    for number, (name, track) in enumerate(rows.groupby("track", sort=True)):  # tracks are independent: a seed for each
        classes = [predicted.of(ids) for ids in track["evaluation_ids"]]
        index, labels = classes[0].index, classes[0]["label"].to_numpy()
        if len(index) == 0 or not all(
            frame.index.equals(index) and not frame.isna().any(axis=None) for frame in classes
        ):
            continue
        tables = [frame.drop(columns="label").to_numpy(dtype=np.int64) for frame in classes]
        if min(int(table.min()) for table in tables) < 0:
            continue
        num_classes = int(max(labels.max(), *(table.max() for table in tables))) + 1
        found[str(name)] = bootstrap_draws(
            labels,
            tables,
            track["name"].tolist(),
            num_classes,
            seeds=track["seeds"].tolist(),
            kinds=track["method"].tolist(),
            num_draws=NUM_DRAWS,
            seed=number,
        )
        tests[str(name)] = pair_p_values(labels, tables, track["seeds"].tolist(), track["method"].tolist())
    return found, tests


def reference_rows(
    track: str, rating_counts: npt.NDArray[np.int64], num_labels: int, neutral_band: float
) -> list[dict[str, Any]]:
    """Return the reference rows of one dataset, from the ratings of its test texts `(items, 9)`.

    `rating_counts` is sorted by example_id, as the rows of an evaluation are. The intervals are those of a mean over
    items (normal, 95 %), for new examples with the same number of raters. Macro-F1 is missing for one rater, whose
    agreement is an expectation and not a list of labels.
    """
    rule = (rating_counts, num_labels, neutral_band)
    ceiling = split_half_ceiling(*rule, np.random.default_rng(CEILING_SEED))
    alone = leave_one_out_agreement(*rule)
    found = []
    for name, agreement, f1 in ((HALF_PANEL, ceiling.agreement, ceiling.f1_macro), (ONE_RATER, alone, None)):
        rated = agreement[~np.isnan(agreement)]
        if len(rated) < 2:
            continue
        half = NormalDist().inv_cdf(0.975) * float(rated.std(ddof=1)) / np.sqrt(len(rated))
        mean = float(rated.mean())
        low, high = max(0.0, mean - half), min(1.0, mean + half)
        row = (track, name, mean, low, high, f1, len(rated), int(rating_counts.sum()))
        found.append(dict(zip(REFERENCE_COLUMNS, row, strict=True)))
    return found


def references(store: Store, rows: pd.DataFrame, fits: pd.DataFrame) -> pd.DataFrame:
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
        found += reference_rows(str(row["track"]), counts, len(data["labels"]), data["neutral_band"])
    return pd.DataFrame(found, columns=list(REFERENCE_COLUMNS))
