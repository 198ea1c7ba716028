"""Probably mislabelled test examples of a store by dataset, with the raters' labels where they are known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from moodbench.analysis.leaderboard import TRACK
from moodbench.analysis.mislabelled import MIN_ENTRIES, MIN_SHARE, suspects
from moodbench.data.ceiling import RATINGS
from moodbench.data.examples import labels_of_ratings
from moodbench.errors import StoreError, UnknownNameError, UsageError
from moodbench.store import PREDICTIONS, Store
from moodbench.store.reading import read_bulk

EXPLAINED = (
    f"Listed: test texts of which at least {100 * MIN_SHARE:.0f} % of the entries say another label, "
    "and are together at least as sure of it as of texts that bear it; the least believed label first. "
    "To be looked at by a person: hard texts are listed too, and what all entries learned wrongly. "
    "Where two thirds of the raters or more gave the given label, it is rather the entries that are wrong."
)
BACKED = 2 / 3
"""Smallest share of raters that confirms a doubted label."""
HEADINGS = ("Given", "Probably", "Say other", "Stated %", "Raters for given %")

Entries = tuple[tuple[tuple[str, tuple[str, ...]], ...], ...]
"""Evaluations of each model: their ids and the files with their predictions."""


@dataclass(frozen=True)
class Queue:
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
    def heading(self) -> str:
        """Numbers of listed examples, and of those whose label most raters confirm, in words."""
        text = f"{self.track}: {len(self.rows)} of {self.num_texts:,} test texts have a doubtful label"
        if self.rows["raters"].isna().all():
            return text
        return f"{text}; for {int((self.rows['raters'] >= BACKED).sum())} of them most raters gave it all the same"

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


def mislabelled(store: Store, dataset: str | None = None) -> list[Queue]:
    """Return the queue of every track of `store`, or of those of one dataset, from the predictions of all recipes.

    Raises: UnknownNameError for a dataset without evaluations; UsageError where no track has enough models.
    """
    fits, evaluations = store.records("fits"), store.records("evaluations")
    known = ["fit_id", "dataset_revision", "num_train", "spec"]
    trials = evaluations.merge(fits[known], on="fit_id").sort_values(["seed", "ended_at"])
    if dataset is not None and dataset not in set(trials["dataset"]):
        raise UnknownNameError(f"dataset in {store.uri}:", dataset, set(trials["dataset"]))
    if dataset is not None:
        trials = trials[trials["dataset"] == dataset]
    queues = []
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
        queues.append(_queue(store, f"{key[0]} ({key[2]:,} training texts)", track, entries))
    if not queues:
        raise UsageError(
            f"{store.uri}: at least {MIN_ENTRIES} entries on one dataset are needed to doubt a label together; "
            "run more models on it"
        )
    return queues


def queue_cells(queue: Queue, most: int) -> list[list[str]]:
    """Return the first `most` rows of the queue as cells, under `HEADINGS`."""
    return [
        [
            str(row["label"]),
            str(row["suggested"]),
            f"{row['num_wrong']} of {row['num_entries']}",
            f"{100 * row['stated']:.0f}",
            "" if pd.isna(row["raters"]) else f"{100 * row['raters']:.0f}",
        ]
        for _, row in queue.rows.head(most).iterrows()
    ]


def _queue(store: Store, name: str, track: pd.DataFrame, entries: Entries) -> Queue:
    first = track.iloc[0]
    if not isinstance(first["spec"], str):
        raise StoreError(f"{name}: the record of fit {first['fit_id']} has no spec, which names the labels")
    data = json.loads(first["spec"])["dataset"]
    ids, labels, probabilities = _probabilities(store, entries)
    found = suspects(labels, {str(i): table for i, table in enumerate(probabilities)})
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
    return Queue(name, len(labels), rows)


def _rater_shares(counts: pd.Series[Any], labels: pd.Series[int], num_labels: int, band: float) -> pd.Series[float]:
    """Return the share of each text's ratings for its label; with two labels a rating of 0 is for neither."""
    classes = labels_of_ratings(RATINGS.astype(float), num_labels, 0.0 if num_labels == 2 else band)
    shares = [
        np.nan if np.ndim(given) == 0 else float(np.sum(given[classes == label]) / np.sum(given))
        for given, label in zip(counts, labels, strict=True)
    ]
    return pd.Series(shares, index=labels.index, dtype="float64")


def _probabilities(
    store: Store, entries: Entries
) -> tuple[list[str], np.ndarray[Any, Any], list[np.ndarray[Any, Any]]]:
    """Return the example ids, the labels `(n,)`, and the probabilities of each model `(n, k)`.

    Probabilities are averaged over the evaluations of the model.
    """
    return _read(store.uri, entries)


@lru_cache(maxsize=8)
def _read(uri: str, entries: Entries) -> tuple[list[str], np.ndarray[Any, Any], list[np.ndarray[Any, Any]]]:
    """Read what `_probabilities` returns, cached: the predictions of an evaluation_id never change."""
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
                raise StoreError(f"{uri}: what evaluation {evaluation_id} said of each text is not stored")
            said = by_evaluation[evaluation_id].set_index("example_id").sort_index()
            logits = np.stack(said["logits"].to_list()).astype(float)
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            parts.append(powers / powers.sum(axis=1, keepdims=True))
            if labels is None:
                labels = said["label"]
            elif list(said.index) != list(labels.index):
                raise UsageError(f"{uri}: evaluation {evaluation_id} is of other test texts than its rivals'")
        tables.append(np.mean(parts, axis=0))
    assert labels is not None
    return list(labels.index), labels.to_numpy(), tables
