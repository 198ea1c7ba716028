"""Split labelled texts into train, validation and test; near-duplicates and groups stay in the same split.

All of it depends only on the content and not on the order of the rows, so that a text always stays in the same split.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.typing import NDArray

from moodbench.cache import atomic_write, cache_folder
from moodbench.data.examples import SPLITS, content_key
from moodbench.data.labelling import shown
from moodbench.errors import DataError
from moodbench.spec.resolved import content_id

JACCARD = 0.8
"""Minimum Jaccard similarity of the word sets of near-duplicates: words in common / words of either text."""
MIN_WORDS = 4
"""Texts with fewer distinct words are near-duplicates only if they are equal after normalisation."""
_CHUNK_PAIRS = 5_000_000
"""Shared rare words counted at once; bounds memory to a few hundred MB."""
_CHUNK_ROWS = 100_000
"""Pairs of texts compared at once; also bounds memory."""
SHARES = (0.7, 0.1, 0.2)
CARVED = 1 / 8
"""Share of train that becomes validation if the source has no validation split."""
MIN_TEXTS = {"train": 20, "validation": 10, "test": 20}
"""Minimum texts per split; a smaller split is not informative."""
MAX_COMPARED = 100_000
"""Maximum number of texts among which near-duplicates are searched; with more texts, only equal texts are found.

The search takes seconds for sentences, and about a minute for long reviews.
"""
MIN_KEPT = 2_000
"""Number of texts above which the clusters are cached for the other processes of a run, as computing them is slow."""


def normalised(text: str) -> str:
    """Return the text in NFKC and casefolded, reduced to words of letters and digits separated by single spaces.

    A text without any letter or digit, such as an emoticon, keeps its punctuation: ":)" and ":(" stay different.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(char if char.isalnum() else " " for char in folded).split()
    return " ".join(words or folded.split())


def near_duplicate_clusters(
    texts: Sequence[str], groups: Sequence[Hashable] | None = None, *, only_equal: bool = False
) -> NDArray[np.int64]:
    """Return one cluster id per text, numbered 0, 1, 2, ... by first appearance; shape `(texts,)`.

    Two texts are near-duplicates if they are equal after `normalised`, or if both have at least `MIN_WORDS` distinct
    words and their word sets have a Jaccard similarity of at least `JACCARD`; with `only_equal`, only equality counts.
    Near-duplicates and members of one group share a cluster, transitively. Only texts that share a rare word are
    compared, see `near_duplicate_pairs`: 10,605 sentences take 0.3 s of CPU time, 20,000 texts of 230 words 10 s.
    """
    import scipy.sparse as sp
    from scipy.sparse.csgraph import connected_components

    if groups is not None and len(groups) != len(texts):
        raise ValueError(f"near_duplicate_clusters: {len(groups)} groups for {len(texts)} texts")
    if not texts:
        return np.empty(0, dtype=np.int64)
    norms = [normalised(text) for text in texts]
    links = [_links_to_first(norms)] if only_equal else [_links_to_first(norms), _similar_pairs(norms)]
    if groups is not None:
        links.append(_links_to_first(groups))
    pairs = np.concatenate(links)
    graph = sp.coo_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(len(texts),) * 2)
    _, component = connected_components(graph.tocsr(), directed=False)
    number: dict[int, int] = {}
    return np.array([number.setdefault(int(c), len(number)) for c in component], dtype=np.int64)


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


def _links_to_first(labels: Sequence[Hashable]) -> NDArray[np.int64]:
    """Return pairs `(row, first row with the same label)`, shape `(rows, 2)`."""
    first: dict[Hashable, int] = {}
    pairs = [(row, first.setdefault(label, row)) for row, label in enumerate(labels)]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def near_duplicate_pairs(left: Sequence[str], right: Sequence[str]) -> NDArray[np.int64]:
    """Return pairs `(index in left, index in right)` of near-duplicates among normalised texts, shape `(pairs, 2)`.

    A pair has at least `MIN_WORDS` distinct words in each text and a Jaccard similarity of the word sets of at least
    `JACCARD`; equal texts are excluded. The search is exact, and fast on long texts, because only texts that share one
    of their rare words are compared: sets this similar share a word among the |x| - ceil(JACCARD |x|) + 1 rarest words
    of each set x.
    Source: prefix filtering, Chaudhuri, Ganti & Kaushik (2006), https://doi.org/10.1109/ICDE.2006.9; Bayardo, Ma &
    Srikant (2007), https://doi.org/10.1145/1242572.1242591.
    """
    pairs = _similar_pairs([*left, *right])
    crossing = pairs[(pairs[:, 0] < len(left)) & (pairs[:, 1] >= len(left))] - [0, len(left)]
    different = [left[i] != right[j] for i, j in crossing.tolist()]
    remaining: NDArray[np.int64] = crossing[np.array(different, dtype=bool)]
    return remaining


def _similar_pairs(norms: Sequence[str]) -> NDArray[np.int64]:
    """Return pairs of rows (i < j) with sufficiently similar word sets, shape `(pairs, 2)`."""
    import scipy.sparse as sp

    sets = {row: words for row, norm in enumerate(norms) if len(words := set(norm.split())) >= MIN_WORDS}
    if not sets:
        return np.empty((0, 2), dtype=np.int64)
    frequency = Counter(word for words in sets.values() for word in words)
    rank = {word: i for i, (word, _) in enumerate(sorted(frequency.items(), key=lambda item: (item[1], item[0])))}
    rows = np.array(list(sets), dtype=np.int64)
    ranks = [
        np.sort(np.fromiter((rank[w] for w in words), dtype=np.int32, count=len(words))) for words in sets.values()
    ]
    sizes = np.array([len(r) for r in ranks], dtype=np.int64)
    prefixes = sizes - np.ceil(JACCARD * sizes - 1e-9).astype(np.int64) + 1

    def matrix(parts: Sequence[NDArray[np.int32]]) -> Any:
        starts = np.concatenate([[0], np.cumsum([len(p) for p in parts])])
        flat = np.concatenate(parts)
        return sp.csr_array((np.ones(len(flat), dtype=np.int32), flat, starts), shape=(len(parts), len(rank)))

    rare, whole = matrix([r[:n] for r, n in zip(ranks, prefixes, strict=True)]), matrix(ranks)
    rare_by_word, links = rare.T.tocsr(), [np.empty((0, 2), dtype=np.int64)]
    work = np.concatenate([[0], np.cumsum(rare @ np.diff(rare_by_word.indptr))])
    start = 0
    while start < len(rows):
        stop = max(start + 1, int(np.searchsorted(work, work[start] + _CHUNK_PAIRS, side="right")) - 1)
        candidates = (rare[start:stop] @ rare_by_word).tocoo()
        left, right = candidates.coords[0].astype(np.int64) + start, candidates.coords[1].astype(np.int64)
        ordered = (left < right) & (
            np.minimum(sizes[left], sizes[right]) >= JACCARD * np.maximum(sizes[left], sizes[right])
        )
        left, right = left[ordered], right[ordered]
        for at in range(0, len(left), _CHUNK_ROWS):
            some, others = left[at : at + _CHUNK_ROWS], right[at : at + _CHUNK_ROWS]
            common = np.asarray(whole[some].multiply(whole[others]).sum(axis=1)).ravel()
            near = common >= JACCARD * (sizes[some] + sizes[others] - common)
            links.append(np.stack([rows[some[near]], rows[others[near]]], axis=1))
        start = stop
    return np.concatenate(links)


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


def check_sizes(frame: pd.DataFrame, labels: tuple[str, ...], where: str, remedy: str) -> None:
    """Raise DataError if a split is too small or lacks a class."""
    for split in SPLITS:
        counts = frame.loc[frame["split"] == split, "label"].value_counts()
        absent = [shown(label) for i, label in enumerate(labels) if counts.get(i, 0) == 0]
        if counts.sum() < MIN_TEXTS[split]:
            raise DataError(
                f"{where}: the {split} split has {counts.sum()} texts (of {len(frame)} usable ones), needed are at "
                f"least {MIN_TEXTS[split]}; {remedy}"
            )
        if absent:
            raise DataError(
                f"{where}: the {split} split has no text of class {', '.join(absent)}; {remedy}, or merge classes "
                "with a label map"
            )


def clusters_of(texts: Sequence[str], groups: Sequence[Any] | None) -> tuple[npt.NDArray[np.int64], str | None]:
    """Return the cluster id of each text, and a warning if near-duplicates were not searched.

    Shape of the ids: `(texts,)`. See `near_duplicate_clusters`.
    """
    compare = len(texts) <= MAX_COMPARED
    if len(texts) > MIN_KEPT:
        clusters = _cached_clusters(texts, groups, only_equal=not compare)
    else:
        clusters = near_duplicate_clusters(texts, groups, only_equal=not compare)
    warning = (
        f"{len(texts):,} texts are more than {MAX_COMPARED:,}, so only texts that are equal after normalisation are "
        "kept in the same split; near-duplicates are not searched for"
    )
    return clusters, None if compare else warning


def _cached_clusters(texts: Sequence[str], groups: Sequence[Any] | None, *, only_equal: bool) -> npt.NDArray[np.int64]:
    """Return the cluster ids through the cache, so that the workers of a run reuse them; no texts are stored."""
    content = {"texts": [content_key(text) for text in texts], "groups": groups, "only_equal": only_equal}
    path = cache_folder() / "clusters" / f"{content_id('clusters', content)}.npy"
    if path.exists():
        found: npt.NDArray[np.int64] = np.load(path)
        return found
    clusters = near_duplicate_clusters(texts, groups, only_equal=only_equal)
    # The cache only saves time, so a failed write must not stop the run.
    with suppress(OSError), atomic_write(path) as file:
        np.save(file, clusters)
    return clusters
