"""The slow part of a leaderboard, which does not depend on weights: its rows, their bootstrap draws, and all pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.analysis.leaderboard import OVERALL, entries, trials_frame, with_standing
from moodbench.statistics.bootstrap import Floats, JointDraws, joint_draws
from moodbench.statistics.composite import load_anchors
from moodbench.statistics.overall import covered
from moodbench.statistics.pairs import AllPairs, all_pairs, pair_p_values
from moodbench.statistics.speed_noise import speed_noise
from moodbench.statistics.together import mean_joint, mean_ties
from moodbench.store import PREDICTIONS, Store
from moodbench.store.reading import read_bulk
from moodbench.store.schema import SAMPLES

NUM_DRAWS = 2000
"""Number of bootstrap draws: about a second for 18 models on 25,000 examples."""


@dataclass(frozen=True)
class Records:
    """The records that a leaderboard is made from."""

    fits: pd.DataFrame
    evaluations: pd.DataFrame
    measurements: pd.DataFrame
    """Measurements of the machine type shown."""


@dataclass(frozen=True)
class Worked:
    """Results computed from records and predictions."""

    entries: pd.DataFrame
    joints: Mapping[str, JointDraws]
    """Bootstrap draws of the entries by track; a track whose entries were tested on different examples has none."""
    ties: pd.DataFrame | None
    """`together.mean_ties` of the tracks that `overall` covers; None unless all of them have draws."""
    pairs: Mapping[str, AllPairs]
    """Detectable differences of the tests of all pairs, by track or `overall`."""


Keep = Callable[[Records, Callable[[], Worked]], Worked]
"""Cache policy: gets the records and the function that computes the result; returns the result, computed or cached."""


def make_anew(records: Records, make: Callable[[], Worked]) -> Worked:
    """Return what `make` computes: the policy that caches nothing."""
    return make()


def work_out(store: Store, records: Records) -> Worked:
    """Compute the results of `records`, with their predictions from `store`."""
    evaluations = records.evaluations
    predictions = {
        str(i): [f["path"] for f in named if f["path"].startswith("predictions/")]
        for i, named in zip(evaluations["evaluation_id"], evaluations["files"], strict=True)
    }

    read: dict[str, pd.DataFrame] = {}

    def classes(evaluation_ids: list[str]) -> pd.DataFrame:
        """Return the predicted class of each example by each evaluation, in their order, and its label.

        Read once per entry, however often it is called.
        """
        if evaluation_ids[0] not in read:
            keys = [key for i in evaluation_ids for key in predictions[i]]
            said = read_bulk(store.location, keys, PREDICTIONS, ["evaluation_id", "example_id", "label", "predicted"])
            wide = said.pivot(index="example_id", columns="evaluation_id", values="predicted").reindex(
                columns=evaluation_ids
            )
            labels = said.drop_duplicates("example_id").set_index("example_id")["label"]
            read[evaluation_ids[0]] = wide.assign(label=labels)
        return read[evaluation_ids[0]]

    def correct(evaluation_ids: list[str]) -> npt.NDArray[np.bool_]:
        said = classes(evaluation_ids).dropna()
        if len(said) < len(classes(evaluation_ids)):  # the predictions of some seeds are not stored
            said = said.iloc[:0]
        return said[evaluation_ids].eq(said["label"], axis=0).to_numpy(dtype=bool)

    trials = trials_frame(records.fits, evaluations, records.measurements)
    trials = with_process_speed(store, trials, records.measurements)
    rows = entries(trials, correct, load_anchors())
    joints, tests = _joints(rows, classes)
    by_track = dict(iter(rows.groupby("track"))) if joints else {}
    joints = {name: replace(j, speed_noise=speed_noise(by_track[name], NUM_DRAWS)) for name, j in joints.items()}
    rows = with_standing(rows.drop(columns="process_speed", errors="ignore"), joints, load_anchors())
    together = covered(rows) if len(rows) else []
    whole = mean_joint({t: joints[t] for t in together}) if together and set(together) <= set(joints) else None
    pairs = {name: all_pairs(joint, tests[name]) for name, joint in joints.items() if len(joint.names) > 1}
    if whole is not None and len(whole.names) > 1:
        pairs[OVERALL] = all_pairs(whole, None)
    return Worked(rows, joints, None if whole is None else mean_ties(whole), pairs)


def _joints(
    rows: pd.DataFrame, classes: Callable[[list[str]], pd.DataFrame]
) -> tuple[dict[str, JointDraws], dict[str, Floats]]:
    """Return the bootstrap draws of each track, and the p-values of its pairs from their own tests."""
    found: dict[str, JointDraws] = {}
    tests: dict[str, Floats] = {}
    if rows.empty:
        return found, tests
    for number, (name, track) in enumerate(rows.groupby("track", sort=True)):  # tracks are independent: a seed for each
        said = [classes(ids) for ids in track["evaluation_ids"]]
        index, labels = said[0].index, said[0]["label"].to_numpy()
        if len(index) == 0 or not all(frame.index.equals(index) and not frame.isna().any(axis=None) for frame in said):
            continue
        tables = [frame.drop(columns="label").to_numpy(dtype=np.int64) for frame in said]
        if min(int(table.min()) for table in tables) < 0:
            continue
        num_classes = int(max(labels.max(), *(table.max() for table in tables))) + 1
        found[str(name)] = joint_draws(
            labels,
            tables,
            track["name"].tolist(),
            num_classes,
            seeds=track["seeds"].tolist(),
            num_draws=NUM_DRAWS,
            seed=number,
        )
        tests[str(name)] = pair_p_values(labels, tables, track["seeds"].tolist())
    return found, tests


def with_process_speed(store: Store, trials: pd.DataFrame, measurements: pd.DataFrame) -> pd.DataFrame:
    """Return `trials` with the latency of each process where a record of several processes is older than that column.

    The latency comes from the samples. Throughput stays unknown, because samples do not have it; so does the latency
    where the samples are not stored.
    """
    several = measurements[(measurements["num_processes"] > 1) & measurements["process_speed"].isna()]
    old = several[several["measurement_id"].isin(trials["measurement_id"].dropna())]
    keys = [f["path"] for files in old["files"] for f in files if f["path"].startswith("samples/")]
    if not keys:
        return trials
    columns = ["measurement_id", "process", "latency_s", "kept"]
    samples = read_bulk(store.location, keys, SAMPLES, columns)
    clean = samples["measurement_id"].map(old.set_index("measurement_id")["verdict"]) == "clean"
    used = samples[samples["kept"] | ~clean]
    found = {
        i: [{"latency_p50_s": float(s), "texts_per_s": None} for s in own.groupby("process")["latency_s"].median()]
        for i, own in used.groupby("measurement_id")
    }
    known = trials["measurement_id"].map(found)
    return trials.assign(process_speed=trials["process_speed"].where(known.isna(), known))
