"""Split labelled texts into train, validation and test; near-duplicates and groups stay in the same split.

All of it depends only on the content and not on the order of the rows, so that a text always stays in the same split.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.typing import NDArray

from moodbench.data.examples import SPLITS, content_key
from moodbench.data.labelling import shown
from moodbench.data.near_duplicates import NUM_NEIGHBOURS, Clusters, find_clusters
from moodbench.errors import DataError
from moodbench.paths import atomic_write, cache_folder
from moodbench.spec.resolved import content_id

SHARES = (0.7, 0.1, 0.2)
CARVED = 1 / 8
"""Share of train that becomes validation if the source has no validation split."""
MIN_TEXTS = {"train": 20, "validation": 10, "test": 20}
"""Minimum texts per split; a smaller split is not informative."""
MAX_COMPARED, MAX_CHARACTERS = 100_000, 300_000_000
"""Maximum number of texts and of their characters among which near-duplicates are searched.

If both are exceeded, only equal texts are found. The search takes seconds for sentences, and minutes at the limit.
"""
MIN_KEPT = 2_000
"""Number of texts above which the clusters are cached for the other processes of a run, as computing them is slow."""


def stratified_group_split(
    strata: Sequence[Hashable],
    groups: Sequence[Hashable],
    keys: Sequence[str],
    shares: tuple[float, ...] = (0.7, 0.1, 0.2),
    names: tuple[str, ...] = SPLITS,
) -> NDArray[np.str_]:
    """Return one of `names` per row; groups stay together, and each stratum is divided according to `shares`.

    `keys` are content hashes, see `content_key`. Groups are assigned greedily, the largest first, ties by their
    smallest key. A group goes to the split in which its own strata are filled least relative to their target size,
    weighted by the number of its rows in each stratum; ties go to the earlier split. Rows with equal keys must share a
    group, otherwise the result would depend on the order of the rows.
    Raises: ValueError for inconsistent arguments.
    """
    if not len(strata) == len(groups) == len(keys):
        raise ValueError(f"stratified_group_split: {len(strata)} strata, {len(groups)} groups, {len(keys)} keys")
    if len(shares) != len(names):
        raise ValueError(f"stratified_group_split: {len(shares)} shares for {len(names)} names")
    if min(shares) <= 0 or not math.isclose(sum(shares), 1):
        raise ValueError(f"stratified_group_split: shares must be positive and sum to 1, got {shares}")
    if len(set(zip(keys, groups, strict=True))) != len(set(keys)):
        raise ValueError("stratified_group_split: the same key stands in two groups; merge them first")
    counts: dict[Hashable, Counter[Hashable]] = {}
    smallest: dict[Hashable, str] = {}
    for stratum, group, key in zip(strata, groups, keys, strict=True):
        counts.setdefault(group, Counter())[stratum] += 1
        smallest[group] = min(smallest.get(group, key), key)
    total = Counter(strata)
    placed: list[Counter[Hashable]] = [Counter() for _ in names]
    side: dict[Hashable, str] = {}
    for group in sorted(counts, key=lambda g: (-counts[g].total(), smallest[g])):
        fills = [
            math.fsum(num * have[stratum] / (share * total[stratum]) for stratum, num in counts[group].items())
            for share, have in zip(shares, placed, strict=True)
        ]
        lowest = fills.index(min(fills))
        placed[lowest].update(counts[group])
        side[group] = names[lowest]
    return np.array([side[group] for group in groups], dtype=np.str_)


@dataclass(frozen=True)
class Partition:
    """The split of each row, and how the splits were made."""

    names: Sequence[str]
    clusters: Sequence[int]
    """Cluster id of each row; all rows of a cluster are in the same split."""
    rule: str
    warning: str | None = None
    num_groups: int | None = None


def by_content(frame: pd.DataFrame, *, grouped: bool = False) -> Partition:
    """Return a 70/10/20 partition by the content of the texts.

    Near-duplicates stay in the same split, and so do the members of a group (column extra, with `grouped`).
    """
    given = frame["extra"].tolist() if grouped else [None] * len(frame)
    alone = given.count(None) if grouped else 0
    groups = [("row", i) if group is None else ("group", group) for i, group in enumerate(given)]
    clusters, warning = clusters_of(frame["text"].tolist(), groups)
    names = stratified_group_split(frame["label"].tolist(), clusters.tolist(), frame["key"].tolist(), SHARES)
    if alone:
        note = f"{alone:,} rows have no group and are split one by one"
        warning = f"{warning}; {note}" if warning else note
    rule = "70/10/20 by content, near-duplicates in the same split"
    num_groups = len({g for g in given if g is not None}) if grouped else None
    return Partition(names.tolist(), clusters.tolist(), rule, warning, num_groups)


def as_given(frame: pd.DataFrame, rule: str, num_validation: int | None = None) -> Partition:
    """Return the partition given by column extra.

    A missing validation split is taken from train: an eighth of its rows, or `num_validation` rows if that is fewer.
    Raises: DataError if there is no train or no test split.
    """
    names = np.array(frame["extra"].tolist(), dtype=object)
    missing = [split for split in ("train", "test") if split not in names]
    if missing:
        raise DataError(f"has no row of {' and '.join(missing)}; found are {', '.join(sorted(set(names)))}")
    clusters, warning = np.arange(len(frame)), None
    if "validation" not in names:
        train = np.flatnonzero(names == "train")
        rows = frame.iloc[train]
        share = CARVED if num_validation is None else min(CARVED, num_validation / len(train))
        near, warning = clusters_of(rows["text"].tolist(), None)
        sides = stratified_group_split(
            rows["label"].tolist(),
            near.tolist(),
            rows["key"].tolist(),
            (1 - share, share),
            ("train", "validation"),
        )
        names[train], clusters[train] = sides, len(frame) + near
        rule += f", validation is {'an eighth' if share == CARVED else f'{share:.1%}'} of train"
    return Partition(names.tolist(), clusters.tolist(), rule, warning)


def check_sizes(
    frame: pd.DataFrame, labels: tuple[str, ...], where: str, remedy: str, places: Mapping[str, str] | None = None
) -> None:
    """Raise DataError if a split is too small or lacks a class; `places` says where a class occurs first."""
    for split in SPLITS:
        counts = frame.loc[frame["split"] == split, "label"].value_counts()
        absent = [label for i, label in enumerate(labels) if counts.get(i, 0) == 0]
        if counts.sum() < MIN_TEXTS[split]:
            raise DataError(
                f"{where}: the {split} split has {counts.sum()} texts (of {len(frame)} usable ones), needed are at "
                f"least {MIN_TEXTS[split]}; {remedy}"
            )
        if absent:
            raise DataError(
                f"{where}: the {split} split has no text of class {', '.join(map(shown, absent))} "
                f"({'; '.join(_rarity(frame, labels, label, places) for label in absent)}); {remedy}, or merge classes "
                "with a label map"
            )


def _rarity(frame: pd.DataFrame, labels: tuple[str, ...], label: str, places: Mapping[str, str] | None) -> str:
    """Return how many texts a class has and, of a file, where the first is."""
    count = int((frame["label"] == labels.index(label)).sum())
    where = f", the first in {places[label]}" if places and label in places else ""
    return f"{count} {'text' if count == 1 else 'texts'} in all{where}"


def clusters_of(texts: Sequence[str], groups: Sequence[Any] | None) -> tuple[npt.NDArray[np.int64], str | None]:
    """Return the cluster id of each text, and a warning if the search for near-duplicates was limited.

    Shape of the ids: `(texts,)`. See `find_clusters`.
    """
    characters = sum(map(len, texts))
    compare = len(texts) <= MAX_COMPARED or characters <= MAX_CHARACTERS
    search = _cached_clusters if len(texts) > MIN_KEPT else find_clusters
    clusters = search(texts, groups, only_equal=not compare)
    if compare:
        return clusters.ids, limit_note(clusters.num_limited)
    return clusters.ids, (
        f"{len(texts):,} texts with {characters:,} characters are more than {MAX_COMPARED:,} texts and "
        f"{MAX_CHARACTERS:,} characters, so only texts that are equal after normalisation are kept in the same split; "
        "near-duplicates are not searched for"
    )


def limit_note(num_limited: int) -> str | None:
    """Return where the search for near-duplicates was limited, or None if all were found."""
    if not num_limited:
        return None
    return (
        f"{num_limited:,} texts share one of their rarest words with very many others, as boilerplate does; of these, "
        f"each was compared with {NUM_NEIGHBOURS} that begin alike, so some near-duplicates may not be found"
    )


def _cached_clusters(texts: Sequence[str], groups: Sequence[Any] | None, *, only_equal: bool) -> Clusters:
    """Return the clusters through the cache, so that the workers of a run reuse them; no texts are stored."""
    keys = [content_key(text) for text in texts]
    content = {"texts": keys, "groups": groups, "only_equal": only_equal, "code_version": 2}
    path = cache_folder() / "clusters" / f"{content_id('clusters', content)}.npy"
    if path.exists():
        *ids, num_limited = np.load(path).tolist()
        return Clusters(np.array(ids, dtype=np.int64), num_limited)
    clusters = find_clusters(texts, groups, only_equal=only_equal)
    # The cache only saves time, so a failed write must not stop the run.
    with suppress(OSError), atomic_write(path) as file:
        np.save(file, np.append(clusters.ids, clusters.num_limited))
    return clusters
