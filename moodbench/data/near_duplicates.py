"""Near-duplicates among texts: pairs and clusters of texts that have most of their words in common."""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

JACCARD = 0.8
"""Minimum Jaccard similarity of the word sets of near-duplicates: words in common / words of either text."""
MIN_WORDS = 4
"""Texts with fewer distinct words are near-duplicates only if they are equal after normalisation."""
MAX_WORK = 100_000_000
"""Pairs of texts with a rare word in common up to which the search is exact."""
NUM_NEIGHBOURS = 5
"""Rows after each row with which it is compared beyond that."""
_CHUNK_PAIRS = 5_000_000
"""Shared rare words counted at once; bounds memory to a few hundred MB."""
_CHUNK_ROWS = 100_000
"""Pairs of texts compared at once; also bounds memory."""


def normalised(text: str) -> str:
    """Return the text in NFKC and casefolded, reduced to words of letters and digits separated by single spaces.

    A text without any letter or digit, such as an emoticon, keeps its punctuation: ":)" and ":(" stay different.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(char if char.isalnum() else " " for char in folded).split()
    return " ".join(words or folded.split())


class Clusters(NamedTuple):
    """Clusters of near-duplicates, and where the search for them was limited."""

    ids: NDArray[np.int64]
    """Cluster of each text, numbered 0, 1, 2, ... by first appearance; shape `(texts,)`."""
    num_limited: int
    """Texts with a word for which they were only compared with `NUM_NEIGHBOURS` others, see `_WordSets`."""


class Repeats(NamedTuple):
    """Which texts have a near-duplicate among others, and where the search for them was limited."""

    found: NDArray[np.bool_]
    """Whether each text has a near-duplicate; shape `(texts,)`."""
    num_limited: int
    """See `Clusters`; counts the texts of both sides."""


def find_clusters(
    texts: Sequence[str], groups: Sequence[Hashable] | None = None, *, only_equal: bool = False
) -> Clusters:
    """Return the clusters of near-duplicates among `texts`.

    Two texts are near-duplicates if they are equal after `normalised`, or if both have at least `MIN_WORDS` distinct
    words and their word sets have a Jaccard similarity of at least `JACCARD`; with `only_equal`, only equality counts.
    Near-duplicates and members of one group share a cluster, transitively. Only texts that share a rare word are
    compared, see `_WordSets`.
    """
    if groups is not None and len(groups) != len(texts):
        raise ValueError(f"find_clusters: {len(groups)} groups for {len(texts)} texts")
    if not texts:
        return Clusters(np.empty(0, dtype=np.int64), 0)
    norms = [normalised(text) for text in texts]
    first = _links_to_first(norms)
    labels = _merged(np.arange(len(texts)), first)
    if groups is not None:
        labels = _merged(labels, _links_to_first(groups))
    num_limited = 0
    if not only_equal:
        sets = _WordSets(norms, np.unique(first[:, 1]))
        num_limited = sets.num_limited
        for pairs in sets.candidates():
            ends = labels[sets.rows[pairs]]
            apart = pairs[ends[:, 0] != ends[:, 1]]
            if len(near := apart[sets.are_similar(apart)]):
                labels = _merged(labels, sets.rows[near])
    number: dict[int, int] = {}
    ids = np.array([number.setdefault(c, len(number)) for c in labels.tolist()], dtype=np.int64)
    return Clusters(ids, num_limited)


def find_repeats(left: Sequence[str], right: Sequence[str]) -> Repeats:
    """Return which of the normalised texts `right` have a near-duplicate among the normalised texts `left`.

    Both texts have at least `MIN_WORDS` distinct words, and their word sets a Jaccard similarity of at least `JACCARD`.
    Only texts that share a rare word are compared, see `_WordSets`; no pairs are kept.
    """
    sets = _WordSets([*left, *right], np.arange(len(left) + len(right)), num_left=len(left))
    found = np.zeros(len(left) + len(right), dtype=bool)
    for pairs in sets.candidates():
        first, second = sets.rows[pairs].T
        new = pairs[(first < len(left)) & (second >= len(left)) & ~found[second]]
        found[sets.rows[new[sets.are_similar(new), 1]]] = True
    return Repeats(found[len(left) :], sets.num_limited)


def _links_to_first(labels: Sequence[Hashable]) -> NDArray[np.int64]:
    """Return pairs `(row, first row with the same label)`, shape `(rows, 2)`."""
    first: dict[Hashable, int] = {}
    pairs = [(row, first.setdefault(label, row)) for row, label in enumerate(labels)]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _merged(labels: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the cluster of each row after joining the clusters of each pair of rows."""
    import scipy.sparse as sp
    from scipy.sparse.csgraph import connected_components

    ends = labels[pairs]
    size = len(labels)
    graph = sp.coo_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(size, size))
    _, component = connected_components(graph.tocsr(), directed=False)
    return np.asarray(component[labels], dtype=np.int64)


class _WordSets:
    """The word sets of normalised texts, and the pairs that may be similar.

    Sets this similar share a word among the |x| - ceil(JACCARD |x|) + 1 rarest words of each set x, so only texts with
    such a word in common are candidates: 10,605 sentences take 0.3 s of CPU time, 20,000 texts of 230 words 10 s. If
    that makes more than `MAX_WORK` pairs, as boilerplate does, the texts with the most frequent of these words are only
    compared with `NUM_NEIGHBOURS` others in the order of their most frequent words, so that time and memory stay linear
    in the number of texts.
    Source: prefix filtering, Chaudhuri, Ganti & Kaushik (2006), https://doi.org/10.1109/ICDE.2006.9; Bayardo, Ma &
    Srikant (2007), https://doi.org/10.1145/1242572.1242591; sorted neighbourhood, Hernandez & Stolfo (1995),
    https://doi.org/10.1145/223784.223807.
    """

    def __init__(self, norms: Sequence[str], rows: NDArray[np.int64], num_left: int | None = None) -> None:
        """Take the texts `norms[rows]`; with `num_left`, only pairs of a row before it and a later one are wanted."""
        import scipy.sparse as sp

        number: dict[str, int] = {}
        words, starts, used = array("i"), array("q", [0]), array("q")
        for row in rows.tolist():
            found = set(norms[row].split())
            if len(found) >= MIN_WORDS:
                used.append(row)
                words.extend(number.setdefault(word, len(number)) for word in found)
                starts.append(len(words))
        self.rows = np.array(used, dtype=np.int64)
        """Row of each text that has enough words; pairs are indices into it."""
        self._is_left = None if num_left is None else self.rows < num_left
        self._starts, flat = np.array(starts, dtype=np.int64), np.array(words, dtype=np.int32)
        self._sizes = np.diff(self._starts)
        names, frequency = list(number), np.bincount(flat, minlength=len(number)).tolist()
        rank = np.empty(len(names), dtype=np.int32)
        rank[sorted(range(len(names)), key=lambda i: (frequency[i], names[i]))] = np.arange(len(names), dtype=np.int32)
        owner = np.repeat(np.arange(len(used), dtype=np.int32), self._sizes)
        keys = owner.astype(np.int64) << 32 | rank[flat]
        keys.sort()
        self._ranks = (keys & 0xFFFFFFFF).astype(np.int32)
        """Words of each text, rarest first."""
        del flat, keys  # the largest arrays; 1,000,000 texts of 40 words have 40,000,000 entries
        self._whole = sp.csr_array(
            (np.ones(len(owner), dtype=np.int32), self._ranks, self._starts), shape=(len(used), len(names))
        )
        prefixes = self._sizes - np.ceil(JACCARD * self._sizes - 1e-9).astype(np.int64) + 1
        ends = np.zeros(len(owner) + 1, dtype=np.int8)
        ends[self._starts[:-1]] += 1
        ends[self._starts[:-1] + prefixes] -= 1
        is_rare = np.cumsum(ends[:-1], dtype=np.int8).astype(bool)
        self._rare_words, self._rare_owners = self._ranks[is_rare], owner[is_rare]
        self._lengths = np.bincount(self._rare_words, minlength=len(names))
        """Texts that have each word among their rare ones."""
        self._longest = self._longest_exact()
        limited = self._rare_owners[self._lengths[self._rare_words] > self._longest]
        self.num_limited = len(np.unique(limited))
        """Texts with a rare word that too many others have, for which they are compared with `NUM_NEIGHBOURS` alone."""

    def candidates(self) -> Iterator[NDArray[np.int64]]:
        """Yield the pairs (i < j) that may be similar, in arrays `(pairs, 2)` of at most `_CHUNK_ROWS`."""
        for chunks in (self._neighbours(), self._sharing()):
            for pairs in chunks:
                sizes = self._sizes[pairs]
                pairs = pairs[sizes.min(axis=1) >= JACCARD * sizes.max(axis=1)]
                yield from (pairs[at : at + _CHUNK_ROWS] for at in range(0, len(pairs), _CHUNK_ROWS))

    def are_similar(self, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each pair whether its word sets are similar."""
        if not len(pairs):
            return np.empty(0, dtype=bool)
        common = np.asarray(self._whole[pairs[:, 0]].multiply(self._whole[pairs[:, 1]]).sum(axis=1)).ravel()
        return np.asarray(common >= JACCARD * (self._sizes[pairs].sum(axis=1) - common), dtype=bool)

    def _longest_exact(self) -> int:
        """Return the number of texts of a word up to which all of them are compared."""
        lengths, counts = np.unique(self._lengths, return_counts=True)
        work = np.cumsum(counts * (lengths * (lengths - 1) // 2))
        return int(lengths[work <= MAX_WORK].max(initial=0))

    def _neighbours(self) -> Iterator[NDArray[np.int64]]:
        """Yield pairs of neighbours among the texts of each word with more texts than `_longest`."""
        of_long = self._lengths[self._rare_words] > self._longest
        if not of_long.any():
            return
        keys = [self._ranks[a:b][::-1].astype(">i4").tobytes() for a, b in pairwise(self._starts)]
        place = np.empty(len(keys), dtype=np.int64)
        place[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
        words, owners = self._rare_words[of_long], self._rare_owners[of_long]
        order = np.lexsort((place[owners], words))
        words, owners = words[order], owners[order]
        if self._is_left is None:
            of_left = asked = np.arange(len(owners))
            offsets = np.arange(1, NUM_NEIGHBOURS + 1)
        else:
            of_left, asked = np.flatnonzero(self._is_left[owners]), np.flatnonzero(~self._is_left[owners])
            offsets = np.arange(-NUM_NEIGHBOURS, NUM_NEIGHBOURS)
        step = max(1, _CHUNK_PAIRS // len(offsets))
        for start in range(0, len(asked) if len(of_left) else 0, step):
            some = asked[start : start + step, None]
            index = np.searchsorted(of_left, some) + offsets
            others = of_left[index.clip(0, len(of_left) - 1)]
            near = (index >= 0) & (index < len(of_left)) & (words[others] == words[some])
            ends = np.stack([np.broadcast_to(owners[some], near.shape)[near], owners[others[near]]], axis=1)
            keys_of_pairs = np.unique(ends.min(axis=1).astype(np.int64) << 32 | ends.max(axis=1))
            yield np.stack([keys_of_pairs >> 32, keys_of_pairs & 0xFFFFFFFF], axis=1)

    def _sharing(self) -> Iterator[NDArray[np.int64]]:
        """Yield the pairs of texts that share a rare word with at most `_longest` texts."""
        import scipy.sparse as sp

        kept = self._lengths[self._rare_words] <= self._longest
        words, owners = self._rare_words[kept], self._rare_owners[kept]
        rare = sp.csr_array((np.ones(len(words), dtype=np.int32), (owners, words)), shape=self._whole.shape)
        by_word = rare.T.tocsr()
        work = np.concatenate([[0], np.cumsum(rare @ np.diff(by_word.indptr))])
        start = 0
        while start < len(self.rows):
            stop = max(start + 1, int(np.searchsorted(work, work[start] + _CHUNK_PAIRS, side="right")) - 1)
            found = (rare[start:stop] @ by_word).tocoo()
            left, right = found.coords[0].astype(np.int64) + start, found.coords[1].astype(np.int64)
            yield np.stack([left, right], axis=1)[left < right]
            start = stop
