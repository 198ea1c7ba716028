"""Human agreement on the same examples: reference rows beside the leaderboard, without rank or score."""

from __future__ import annotations

import json
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.data.ceiling import leave_one_out_agreement, split_half_ceiling
from moodbench.evaluation.predicting import CEILING_SEED
from moodbench.store import Store
from moodbench.store.reading import read_bulk
from moodbench.store.schema import EXAMPLES

ONE_RATER, HALF_PANEL = "one rater", "majority of raters"
HELP = {
    ONE_RATER: "one person: each rater's label against that of all other raters on the same text (leave one out)",
    HALF_PANEL: "the ceiling: the majority label of half of the raters against that of the other half; "
    "this is quality 1 in the pinned score",
}
"""Name of a reference row to its explanation."""
COLUMNS = ("track", "name", "accuracy", "accuracy_low", "accuracy_high", "f1_macro", "num_test", "num_ratings")


def reference_rows(
    track: str, rating_counts: npt.NDArray[np.int64], num_labels: int, neutral_band: float
) -> list[dict[str, Any]]:
    """Return the reference rows of one dataset, keyed by `COLUMNS`, from the ratings of its test examples `(items, 9)`.

    `rating_counts` is sorted by example_id, as the rows of an evaluation are. The intervals are those of a mean over
    items (normal, 95 %), for new examples with the same number of raters. Macro-F1 is missing for one rater, whose
    agreement is an expectation and not a list of labels.
    """
    rule = (rating_counts, num_labels, neutral_band)
    ceiling = split_half_ceiling(*rule, np.random.default_rng(CEILING_SEED))
    alone = leave_one_out_agreement(*rule)
    found = []
    for name, agreement, f1 in ((HALF_PANEL, ceiling.agreement, ceiling.f1_macro), (ONE_RATER, alone, None)):
        kept = agreement[~np.isnan(agreement)]
        if len(kept) < 2:
            continue
        half = NormalDist().inv_cdf(0.975) * float(kept.std(ddof=1)) / np.sqrt(len(kept))
        mean = float(kept.mean())
        row = (track, name, mean, max(0.0, mean - half), min(1.0, mean + half), f1, len(kept), int(rating_counts.sum()))
        found.append(dict(zip(COLUMNS, row, strict=True)))
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
    return pd.DataFrame(found, columns=list(COLUMNS))
