"""A dataset as examples: text, label and fixed split, with ids and fingerprints derived from their content."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.config.schema import Augmentation, PreparationStep, Sampling
from moodbench.data.embedded import read_embedded
from moodbench.errors import DataError
from moodbench.spec.resolved import canonical_json

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
MARKS = (".", ",", "!", "?", ";", ":")
"""Marks that augmentation inserts."""
RATINGS = np.arange(-4, 5)
"""Ratings that a rater can give."""


@dataclass(frozen=True)
class Reading:
    """How the rows of a file or repository were read, dropped and split."""

    file: str
    """Name of the file, without its folder."""
    format: str
    encoding: str | None
    separator: str | None
    num_rows: int
    dropped: Mapping[str, int]
    """Reason -> number of dropped rows."""
    num_kept_together: int
    """Texts kept in the same split as a near-duplicate or another member of their group."""
    num_groups: int | None
    """Distinct values of the group column; None without one."""
    split_rule: str
    """How the splits were made, as text."""
    num_near_duplicates: int | None = None
    """Test texts with a near-duplicate in train; None if near-duplicates are always kept in the same split."""
    source_rows: Mapping[str, int] = field(default_factory=dict)
    """Split of the source -> rows; empty if the source has no splits."""
    prepared: Mapping[PreparationStep, int] = field(default_factory=dict)
    """Preparation step of the source -> texts that it changed."""
    warnings: tuple[str, ...] = ()


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
    reading: Reading | None = None
    """How the source was read; None for an embedded dataset."""

    def split(self, name: str) -> pd.DataFrame:
        """Return the rows of one split sorted by example_id, independent of the order of the source."""
        rows = self.frame[self.frame["split"] == name]
        return rows.sort_values("example_id", ignore_index=True)

    def fingerprint(self, split: str) -> str:
        """Return a digest of the ids and labels of a split, independent of their order."""
        return self._fingerprints[split]

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        """Split -> digest of its rows."""
        return {name: _digest(self.split(name)) for name in SPLITS}

    @cached_property
    def revision(self) -> str:
        """Digest of all examples, labels and splits."""
        content = "".join(f"{s}:{self.fingerprint(s)};" for s in SPLITS) + canonical_json(list(self.labels))
        return hashlib.sha256(content.encode()).hexdigest()[:20]


def _digest(rows: pd.DataFrame) -> str:
    content = list(zip(rows["example_id"].tolist(), rows["label"].tolist(), strict=True))
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:20]


def load_examples(name: str, embedded: str, labels: tuple[str, ...], neutral_band: float) -> Examples:
    """Return the embedded dataset `embedded`, labelled by the sign of the mean human rating.

    With two labels, items with |mean| below `neutral_band` (or exactly 0) are left out; with three, they form the
    middle class.
    Raises: DataError if a split has no example of a class.
    """
    frame = _embedded_rows(embedded)
    classes = labels_of_ratings(frame["mean_rating"].to_numpy(), len(labels), neutral_band)
    frame = frame.assign(label=classes)[classes >= 0].astype({"label": "int32"})
    frame = frame.assign(segment=None, stars=None)
    examples = Examples(name, labels, neutral_band, frame[list(COLUMNS)].reset_index(drop=True))
    for split in SPLITS:
        counts = examples.frame.loc[examples.frame["split"] == split, "label"].value_counts()
        missing = [label for i, label in enumerate(labels) if counts.get(i, 0) == 0]
        if missing:
            raise DataError(
                f"dataset {name}: its {split} split has no example of class {', '.join(missing)} with "
                f"neutral_band {neutral_band}; ratings run from -4 to 4, choose a smaller band"
            )
    return examples


@cache
def _embedded_rows(embedded: str) -> pd.DataFrame:
    """Return the rows of an embedded dataset with their ids; the same frame each time, which nobody changes."""
    frame: pd.DataFrame = read_embedded(embedded).to_pandas()
    frame["example_id"] = example_ids(embedded, frame["text"].tolist())
    return frame


def content_key(text: str) -> str:
    """Return the SHA-256 of the UTF-8 text as 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


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


def class_sizes(counts: npt.NDArray[np.int64], size: int, by: Sampling = "stratified") -> npt.NDArray[np.int64]:
    """Return how many rows to take from each class, shape `(classes,)`; they sum to `size`.

    `counts` `(classes,)` are the available rows; all are taken if there are no more than `size`. `stratified` keeps the
    class shares with the largest-remainder method: round down, then add one to the classes with the largest remainders.
    A class whose exact share is below one row still gets one, at the expense of the largest class; with fewer rows than
    classes, the largest classes get one each. `balanced` takes the same number from each class. If a class has too few
    rows, the others make up for it equally, and the first classes get the remainder.
    """
    counts = np.asarray(counts, dtype=np.int64)
    if size >= counts.sum():
        return counts
    if by == "balanced":
        return _balanced(counts, size)
    available = counts > 0
    exact = counts * size / counts.sum()
    take = np.where(available, np.maximum(np.floor(exact).astype(np.int64), 1), 0)
    for label in np.argsort(-(exact - np.floor(exact)), kind="stable"):
        if take.sum() < size and exact[label] >= 1:
            take[label] += 1
    while take.sum() > size and take.max() > 1:
        take[take.argmax()] -= 1
    if take.sum() > size:  # fewer rows than classes
        take[np.argsort(-counts, kind="stable")[size:]] = 0
    return take


def _balanced(counts: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    level = int(np.searchsorted([np.minimum(counts, n).sum() for n in range(size + 1)], size, side="right")) - 1
    take = np.minimum(counts, level)
    take[np.flatnonzero(counts > level)[: size - take.sum()]] += 1
    return take


def draw_rows(
    labels: npt.NDArray[np.int32], size: int | None, seed: int, by: Sampling = "stratified"
) -> npt.NDArray[np.int64]:
    """Return the ascending indices of at most `size` rows with a non-negative label, determined by `seed`.

    Each class is sampled without replacement from all of its rows, so the source may be sorted by label.
    """
    known = np.flatnonzero(labels >= 0)
    if size is None or size >= len(known):
        return known
    take = class_sizes(np.bincount(labels[known]), size, by)
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:wanted] for label, wanted in enumerate(take)]
    return np.sort(np.concatenate(chosen))


def augmented(train: pd.DataFrame, augmentation: Augmentation, seed: int) -> pd.DataFrame:
    """Return `train` (example_id, text, label, ...) followed by `copies` augmented copies of each row, with new ids.

    Each text has its own random generator, seeded with `seed`, the number of the copy and the example id, so that the
    result does not depend on the order of the rows. The original rows do not change.

    Source: Wei & Zou (2019), EDA, https://doi.org/10.18653/v1/D19-1670 (random deletion and swap); Karimi, Rossi &
    Prati (2021), AEDA, https://doi.org/10.18653/v1/2021.findings-emnlp.234 (punctuation). Unlike there, each word is
    drawn independently, so that the expected share of changed words is the requested one.
    """
    parts = [train]
    for copy in range(1, augmentation.copies + 1):
        changed = train.copy()
        changed["text"] = [
            changed_text(text, augmentation, np.random.default_rng([seed, copy, int(example_id, 16)]))
            for text, example_id in zip(train["text"], train["example_id"], strict=True)
        ]
        changed["example_id"] = [f"{example_id}-{copy}" for example_id in train["example_id"]]
        parts.append(changed)
    return pd.concat(parts, ignore_index=True)


def changed_text(text: str, augmentation: Augmentation, rng: np.random.Generator) -> str:
    """Return `text` with words deleted, then swapped with the next, then preceded by marks; one word always remains."""
    words = text.split()
    remaining = [
        word for word, drop in zip(words, rng.random(len(words)) < augmentation.word_dropout, strict=True) if not drop
    ]
    words = remaining or words[:1]
    for place in np.flatnonzero(rng.random(max(0, len(words) - 1)) < augmentation.word_swap):
        words[place], words[place + 1] = words[place + 1], words[place]
    with_marks: list[str] = []
    for word, insert in zip(words, rng.random(len(words)) < augmentation.punctuation, strict=True):
        with_marks += [str(rng.choice(MARKS)), word] if insert else [word]
    return " ".join(with_marks)
