"""The search for near-duplicates: what it finds, that its work stays linear on boilerplate, and what is said then."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_files import load, rows, table

from moodbench.data import near_duplicates
from moodbench.data.near_duplicates import find_clusters, find_repeats

WORDS = st.lists(st.sampled_from([f"w{i}" for i in range(9)]), max_size=9).map(" ".join)


def similar(a, b):
    a, b = set(a.split()), set(b.split())
    return min(len(a), len(b)) >= 4 and len(a & b) / len(a | b) >= 0.8


@pytest.fixture
def compared(monkeypatch):
    """The number of pairs of each call that verifies pairs."""
    counts = []
    verify = near_duplicates._WordSets.are_similar

    def are_similar(sets, pairs):
        counts.append(len(pairs))
        return verify(sets, pairs)

    monkeypatch.setattr(near_duplicates._WordSets, "are_similar", are_similar)
    return counts


@given(st.lists(WORDS, max_size=10), st.lists(WORDS, max_size=10))
def test_the_texts_with_a_near_duplicate_are_those_that_comparing_all_finds(left, right):
    repeats = find_repeats(left, right)
    assert repeats.found.tolist() == [any(similar(a, b) for a in left) for b in right]
    assert repeats.num_limited == 0


@given(st.lists(WORDS, max_size=12))
def test_a_limited_search_joins_nothing_that_is_not_alike_and_counts_whom_it_limits(texts):
    exact = find_clusters(texts).ids.tolist()
    before, near_duplicates.MAX_WORK = near_duplicates.MAX_WORK, 0
    try:
        limited = find_clusters(texts)
    finally:
        near_duplicates.MAX_WORK = before
    joined = {(a, b) for a, b in zip(limited.ids.tolist(), exact, strict=True)}
    assert len(joined) == len(set(limited.ids.tolist()))  # each of its clusters lies in one exact cluster
    assert 0 <= limited.num_limited <= len(texts)
    if limited.ids.tolist() != exact:
        assert limited.num_limited > 0


def halves(n, *, shared):
    """Texts of which each `shared` have the same first 20 of 40 words, and 1 of 100 repeats another but for a word."""
    draw = random.Random(0)
    vocabulary = [f"w{i}" for i in range(2_000)]
    firsts = [draw.choices(vocabulary, k=20) for _ in range(n // shared)]
    texts = [firsts[i % len(firsts)] + draw.choices(vocabulary, k=20) for i in range(n)]
    planted = [(i, (i * 7919 + 1) % n) for i in range(0, n, 100)]
    for copy, original in planted:
        texts[copy] = [*texts[original][:-1], f"only{copy}"]
    return [" ".join(words) for words in texts], planted


def recall(ids, planted):
    return np.mean([ids[a] == ids[b] for a, b in planted])


def test_comparisons_grow_with_the_texts_where_halves_are_shared(monkeypatch, compared):
    monkeypatch.setattr(near_duplicates, "MAX_WORK", 10_000)

    def comparisons(n):
        compared.clear()
        texts, planted = halves(n, shared=n // 4)
        found = find_clusters(texts)
        assert recall(found.ids, planted) > 0.9 and found.num_limited > 0.9 * n
        return sum(compared)

    # 9 of 40 words are among the rarest, each text has 5 neighbours for each, and 10,000 pairs are compared exactly
    assert comparisons(1_000) <= 9 * 5 * 1_000 + 10_000
    assert comparisons(4_000) <= 9 * 5 * 4_000 + 10_000  # of 8 million pairs


def test_no_pairs_are_kept_of_texts_that_are_all_alike(compared):
    shared = " ".join(f"word{i}" for i in range(40))
    left, right = ([f"{shared} {side}{i}" for i in range(3_000)] for side in ("a", "b"))
    assert find_repeats(left, right).found.all()
    assert sum(compared) < 1_000_000  # of 9 million pairs


def test_a_limited_search_is_said(monkeypatch, empty_folder):
    monkeypatch.setattr(near_duplicates, "MAX_WORK", 0)
    lines = [(f"{text} and some more of it", label) for text, label in rows()]
    said = " | ".join(load("a.csv", table([*lines, *[(f"{t} again", lb) for t, lb in lines]])).reading.warnings)
    assert "300 texts share one of their rarest words with very many others" in said
    assert "some near-duplicates may not be found" in said
    monkeypatch.undo()


@pytest.mark.slow
def test_the_work_on_200_000_texts_of_shared_halves_is_bounded(compared):
    texts, planted = halves(200_000, shared=5_000)
    found = find_clusters(texts)
    assert recall(found.ids, planted) > 0.95
    assert sum(compared) <= near_duplicates.MAX_WORK + 60 * len(texts)  # of 20 billion pairs
