"""Probably mislabelled test examples: nearly all entries confidently predict another label."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy  # its parts load when first used; scipy.stats alone takes a second

from moodbench.analysis.trials import TRACK
from moodbench.data.examples import RATINGS, labels_of_ratings
from moodbench.errors import StoreError, UnknownNameError, UsageError
from moodbench.store import PREDICTIONS, Store
from moodbench.store.reading import read_bulk

Floats = npt.NDArray[np.float64]
MIN_SHARE = 0.8
"""Minimum share of the entries that predict another label than the given one."""
MIN_ENTRIES = 2
BACKED = 2 / 3
"""Smallest share of raters that confirms a doubted label."""
Entries = tuple[tuple[tuple[str, tuple[str, ...]], ...], ...]
"""Evaluations of each model: their ids and the files with their predictions."""


@dataclass(frozen=True)
class LabelIssues:
    """The suspected examples of one track, a dataset at one training size."""

    track: str
    num_texts: int
    rows: pd.DataFrame
    """Suspected examples, the least believed label first.

    Columns: example_id, label and suggested (class names), num_wrong, num_entries, given, stated, raters, text and
    private. `given` and `stated` are the mean probabilities of the given and the suggested label. `raters` is the share
    of the ratings for the given label, missing where unknown. text and private are missing where the store does not
    hold the text.
    """

    @property
    def num_confirmed(self) -> int | None:
        """Number of listed examples whose label at least BACKED of the raters gave; None without raters."""
        return None if self.rows["raters"].isna().all() else int((self.rows["raters"] >= BACKED).sum())

    def records(self, most: int | None, with_text: bool) -> list[dict[str, Any]]:
        """Return the first `most` rows as plain values.

        A text that is private, or not known to be public, is only included `with_text`.
        """
        shown = self.rows.head(len(self.rows) if most is None else most)
        public = shown["private"].map(lambda private: private is False or private == False)  # noqa: E712 - np.False_
        texts = shown["text"].where(shown["text"].map(lambda t: isinstance(t, str)) & (public | with_text), None)
        plain = shown.drop(columns=["private"]).assign(text=texts)
        found: list[dict[str, Any]] = json.loads(plain.to_json(orient="records", double_precision=15))
        return [{"track": self.track, **record} for record in found]


def mislabelled(store: Store, dataset: str | None = None) -> list[LabelIssues]:
    """Return the label issues of each track of `store`, or of one dataset, from the predictions of all recipes.

    Raises: UnknownNameError for a dataset without evaluations; UsageError where no track has enough models.
    """
    fits, evaluations = store.sound_records("fits")[0], store.sound_records("evaluations")[0]
    known = ["fit_id", "dataset_revision", "num_train", "spec"]
    trials = evaluations.merge(fits[known], on="fit_id").sort_values(["seed", "ended_at"])
    if dataset is not None and dataset not in set(trials["dataset"]):
        raise UnknownNameError(f"dataset in {store.uri}:", dataset, set(trials["dataset"]))
    if dataset is not None:
        trials = trials[trials["dataset"] == dataset]
    by_track = []
    for key, track in trials.groupby(TRACK, sort=True):
        if track["config_id"].nunique() < MIN_ENTRIES:
            continue
        entries = tuple(
            tuple(
                (str(i), tuple(f["path"] for f in files if f["path"].startswith("predictions/")))
                for i, files in zip(
                    *(group.groupby("seed").tail(1)[c] for c in ("evaluation_id", "files")), strict=True
                )
            )
            for _, group in track.groupby("config_id", sort=True)
        )
        by_track.append(_label_issues(store, f"{key[0]} ({key[2]:,} training texts)", track, entries))
    if not by_track:
        raise UsageError(
            f"{store.uri}: at least {MIN_ENTRIES} entries on one dataset are needed to find label issues; "
            "run more models on it"
        )
    return by_track


def _label_issues(store: Store, name: str, track: pd.DataFrame, entries: Entries) -> LabelIssues:
    first = track.iloc[0]
    if not isinstance(first["spec"], str):
        raise StoreError(f"{name}: the record of fit {first['fit_id']} has no spec, which names the labels")
    data = json.loads(first["spec"])["dataset"]
    ids, labels, probabilities = _probabilities(store.uri, entries)
    found = find_label_issues(labels, {str(i): table for i, table in enumerate(probabilities)})
    examples = store.examples(str(first["dataset"]), str(first["dataset_revision"])).drop_duplicates("example_id")
    about = examples.set_index("example_id").reindex([ids[row] for row in found["row"]])
    names = list(data["labels"])
    rows = found.drop(columns="row").assign(
        example_id=about.index,
        raters=_rater_shares(about["rating_counts"], found["label"], len(names), data["neutral_band"]),
        text=about["text"].to_numpy(),
        private=about["private"].to_numpy(),
        label=[names[c] for c in found["label"]],
        suggested=[names[c] for c in found["suggested"]],
    )
    return LabelIssues(name, len(labels), rows)


def find_label_issues(labels: npt.ArrayLike, probabilities: Mapping[str, Floats]) -> pd.DataFrame:
    """Return the suspicious examples, one row each, the least probable given label first.

    `labels` is `(n,)`; `probabilities` of each entry are `(n, k)`, averaged over its seeds. Columns: `row` (index of
    the example), label, suggested, num_wrong, num_entries (entries counted), and `given` and `stated`, the
    probabilities of the given and the suggested label averaged over the entries.
    An example is listed if at least MIN_SHARE of the entries predict another label, and their mean probability of the
    suggested label is at least their mean over the examples with that label. Entries that predict the same label for
    every example have learned nothing and do not count. Empty if fewer than MIN_ENTRIES remain.
    Source: Northcutt, Jiang & Chuang 2021 (confident learning: the threshold of each class), on averaged probabilities.
    """
    truth = np.asarray(labels, dtype=np.int64)
    columns = ["row", "label", "suggested", "num_wrong", "num_entries", "given", "stated"]
    readers = [table for table in probabilities.values() if len(np.unique(table.argmax(axis=1))) > 1]
    if len(readers) < MIN_ENTRIES:
        return pd.DataFrame(columns=columns)
    mean = np.mean(readers, axis=0)
    thresholds = np.array([mean[truth == c, c].mean() if (truth == c).any() else 1.0 for c in range(mean.shape[1])])
    num_wrong = np.sum([table.argmax(axis=1) != truth for table in readers], axis=0)
    rows = np.arange(len(truth))
    others = np.where(np.eye(mean.shape[1], dtype=bool)[truth], -1.0, mean)
    suggested = others.argmax(axis=1)
    stated, given = mean[rows, suggested], mean[rows, truth]
    listed = (num_wrong >= MIN_SHARE * len(readers)) & (stated >= thresholds[suggested])
    values = (rows, truth, suggested, num_wrong, len(readers), given, stated)
    found = pd.DataFrame(dict(zip(columns, values, strict=True)))[listed]
    return found.sort_values(["given", "row"], ignore_index=True)


def _rater_shares(counts: pd.Series[Any], labels: pd.Series[int], num_labels: int, band: float) -> pd.Series[float]:
    """Return the share of each text's ratings for its label; with two labels a rating of 0 is for neither."""
    classes = labels_of_ratings(RATINGS.astype(float), num_labels, 0.0 if num_labels == 2 else band)
    shares = [
        np.nan if np.ndim(given) == 0 else float(np.sum(given[classes == label]) / np.sum(given))
        for given, label in zip(counts, labels, strict=True)
    ]
    return pd.Series(shares, index=labels.index, dtype="float64")


@lru_cache(maxsize=8)
def _probabilities(uri: str, entries: Entries) -> tuple[list[str], np.ndarray[Any, Any], list[Floats]]:
    """Return the example ids, the labels `(n,)`, and the probabilities of each model `(n, k)`.

    The latter are means over the model's evaluations. Cached: the predictions of an evaluation_id never change.
    """
    location = Store.open(uri).location
    labels: pd.Series[Any] | None = None
    tables = []
    for evaluations in entries:
        keys = [key for _, paths in evaluations for key in paths]
        every = read_bulk(location, keys, PREDICTIONS, ["evaluation_id", "example_id", "label", "logits"])
        by_evaluation = dict(iter(every.groupby("evaluation_id", sort=False)))
        parts = []
        for evaluation_id, _ in evaluations:
            if evaluation_id not in by_evaluation:
                raise StoreError(f"{uri}: the predictions of evaluation {evaluation_id} are not stored")
            rows = by_evaluation[evaluation_id].set_index("example_id").sort_index()
            logits = np.stack(rows["logits"].to_list()).astype(float)
            parts.append(scipy.special.softmax(logits, axis=1))
            if labels is None:
                labels = rows["label"]
            elif list(rows.index) != list(labels.index):
                raise UsageError(f"{uri}: evaluation {evaluation_id} used other test texts than the other evaluations")
        tables.append(np.mean(parts, axis=0))
    assert labels is not None
    return list(labels.index), labels.to_numpy(), tables
