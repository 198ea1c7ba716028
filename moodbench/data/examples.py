"""A dataset as examples: text, label and fixed split, with ids and fingerprints derived from their content."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.config.schema import Sampling
from moodbench.data.draw import class_sizes
from moodbench.data.embedded import read_embedded
from moodbench.errors import DataError
from moodbench.spec.canonical import canonical_json

SPLITS = ("train", "validation", "test")
COLUMNS = (
    "example_id",
    "text",
    "label",
    "split",
    "group",
    "segment",
    "stars",
    "mean_rating",
    "rating_counts",
)
"""Columns of `Examples.frame`."""


@dataclass(frozen=True)
class Examples:
    """The labelled examples of one dataset.

    `frame` has the `COLUMNS` example_id, text, label (0 .. k-1), split, group, segment (such as a shop's branch), stars
    (1 to 5), mean_rating and rating_counts; the last four are null where unknown. Texts of a `private` dataset are
    never shown unless the user asks for them.
    """

    name: str
    labels: tuple[str, ...]
    neutral_band: float
    frame: pd.DataFrame
    private: bool = False

    def split(self, name: str) -> pd.DataFrame:
        """Return the rows of one split sorted by example_id, independent of the order of the source."""
        rows = self.frame[self.frame["split"] == name]
        return rows.sort_values("example_id", ignore_index=True)

    def fingerprint(self, split: str) -> str:
        """Return a digest of the ids and labels of a split, independent of their order."""
        rows = self.split(split)
        content = [[str(i), int(label)] for i, label in zip(rows["example_id"], rows["label"], strict=True)]
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:20]

    @cached_property
    def revision(self) -> str:
        """Digest of all examples, labels and splits."""
        content = "".join(f"{s}:{self.fingerprint(s)};" for s in SPLITS) + canonical_json(list(self.labels))
        return hashlib.sha256(content.encode()).hexdigest()[:20]


def load_examples(name: str, embedded: str, labels: tuple[str, ...], neutral_band: float) -> Examples:
    """Return the embedded dataset `embedded`, labelled by the sign of the mean human rating.

    With two labels, items with |mean| below `neutral_band` (or exactly 0) are left out; with three, they form the
    middle class.
    Raises: DataError if a split has no example of a class.
    """
    frame = read_embedded(embedded).to_pandas()
    frame["example_id"] = example_ids(embedded, frame["text"].tolist())
    classes = labels_of_ratings(frame["mean_rating"].to_numpy(), len(labels), neutral_band)
    frame = frame.assign(label=classes)[classes >= 0].astype({"label": "int32"})
    frame = frame.assign(segment=None, stars=None)
    examples = Examples(name, labels, neutral_band, frame[list(COLUMNS)].reset_index(drop=True))
    for split in SPLITS:
        counts = examples.split(split)["label"].value_counts()
        missing = [label for i, label in enumerate(labels) if counts.get(i, 0) == 0]
        if missing:
            raise DataError(
                f"dataset {name}: its {split} split has no example of class {', '.join(missing)} with "
                f"neutral_band {neutral_band}; ratings run from -4 to 4, choose a smaller band"
            )
    return examples


def labels_of_ratings(
    mean_ratings: npt.NDArray[np.float64], num_labels: int, neutral_band: float
) -> npt.NDArray[np.int32]:
    """Return the class of each mean rating by its sign, shape `(n,)`.

    Ratings in the neutral band (or exactly 0) are the middle class of three labels, and -1 (left out) with two.
    """
    neutral = (np.abs(mean_ratings) < neutral_band) | (mean_ratings == 0)
    positive = num_labels - 1
    return np.where(neutral, 1 if num_labels == 3 else -1, np.where(mean_ratings > 0, positive, 0)).astype(np.int32)


def example_ids(source: str, texts: list[str]) -> list[str]:
    """Return the id of each text: the first 16 bytes, in hex, of a SHA-256.

    The hash covers the source, the NFC text and the number of earlier occurrences of the same text.
    """
    seen: Counter[str] = Counter()
    ids = []
    for text in texts:
        normal = unicodedata.normalize("NFC", text)
        ids.append(hashlib.sha256(f"{source}|{normal}|{seen[normal]}".encode()).digest()[:16].hex())
        seen[normal] += 1
    return ids


def subsample(rows: pd.DataFrame, size: int | None, seed: int, by: Sampling = "stratified") -> pd.DataFrame:
    """Return a seeded sub-sample of at most `size` rows, in their original order.

    `class_sizes` sets the number of rows per class. The chosen rows do not depend on the order of `rows`.
    """
    if size is None or size >= len(rows):
        return rows
    counts = rows["label"].value_counts().sort_index()
    rng = np.random.default_rng(seed)
    chosen: list[str] = []
    for label, wanted in zip(counts.index, class_sizes(np.array(counts, dtype=np.int64), size, by), strict=True):
        ids = rows.loc[rows["label"] == label, "example_id"].sort_values().to_numpy()
        chosen += rng.permutation(ids)[:wanted].tolist()
    return rows[rows["example_id"].isin(chosen)].reset_index(drop=True)
