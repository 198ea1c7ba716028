"""Which rows are drawn of a source with too many, and which pairs of texts are found to be nearly alike."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodbench.config import load_catalogue
from moodbench.data.examples import class_sizes, draw_rows
from moodbench.data.loader import SentimentDataLoader
from moodbench.data.near_duplicates import find_repeats


@pytest.mark.parametrize(
    ("counts", "size", "by", "expected"),
    [
        ([60, 30, 10], 10, "stratified", [6, 3, 1]),
        ([50, 50, 1], 10, "stratified", [4, 5, 1]),  # 4.95 each: 4, 4 and the one kept; the remainder to one of them
        ([30, 60, 10], 2, "stratified", [1, 1, 0]),  # one each of the largest
        ([60, 30, 10], 9, "balanced", [3, 3, 3]),
        ([60, 30, 10], 10, "balanced", [4, 3, 3]),
        ([60, 30, 2], 20, "balanced", [9, 9, 2]),
        ([60, 0, 10], 10, "balanced", [5, 0, 5]),
        ([3, 4], 10, "balanced", [3, 4]),
    ],
)
def test_sizes_by_hand(counts, size, by, expected):
    found = class_sizes(np.array(counts), size, by)
    assert sorted(found) == sorted(expected) if counts[0] == counts[1] else list(found) == expected


@given(st.lists(st.integers(0, 60), min_size=2, max_size=5).filter(lambda c: sum(c) > 5), st.integers(1, 80), st.data())
def test_no_class_gives_more_than_it_has_and_all_together_what_is_wanted(counts, size, data):
    by = data.draw(st.sampled_from(["stratified", "balanced"]))
    found = class_sizes(np.array(counts), size, by)
    assert (found <= counts).all() and found.sum() == min(size, sum(counts))
    if by == "balanced":
        short = [n for n, c in zip(found, counts, strict=True) if n < c]
        assert not short or max(found) - min(short) <= 1


def test_a_draw_takes_each_row_at_most_once_from_everywhere_and_never_a_hidden_label():
    labels = np.repeat([0, 1, -1], [6000, 3000, 1000]).astype(np.int32)
    rows = draw_rows(labels, 900, seed=5)
    assert len(set(rows.tolist())) == 900 and (np.diff(rows) > 0).all()
    assert Counter(labels[rows].tolist()) == {0: 600, 1: 300}
    assert (rows == draw_rows(labels, 900, seed=5)).all() and (rows != draw_rows(labels, 900, seed=6)).any()
    # A fair draw without replacement: the mean place of 600 of 6,000 rows has a standard error of 67.
    assert abs(rows[labels[rows] == 0].mean() - 2999.5) < 4 * 67
    assert len(draw_rows(labels, None, seed=0)) == 9000


def test_rare_words_find_the_pairs_that_comparing_all_finds():
    draw = random.Random(0)
    vocabulary = [f"w{int(draw.paretovariate(0.7))}" for _ in range(4000)]
    texts = [" ".join(draw.sample(vocabulary, draw.randint(2, 14))) for _ in range(300)]
    for text in texts[:150]:
        words = text.split()
        words[draw.randrange(len(words))] = draw.choice(vocabulary)
        texts.append(" ".join(words))
    left, right = texts[:250], texts[250:]

    def jaccard(a, b):
        return len(a & b) / len(a | b)

    sets = [[set(t.split()) for t in side] for side in (left, right)]
    expected = {
        j
        for i, a in enumerate(sets[0])
        for j, b in enumerate(sets[1])
        if min(len(a), len(b)) >= 4 and jaccard(a, b) >= 0.8
    }
    assert set(np.flatnonzero(find_repeats(left, right).found)) == expected and len(expected) > 20
    assert find_repeats(["a b"], ["a c"]).found.tolist() == [False] and not len(find_repeats([], []).found)


def test_the_loader_names_its_data_sets_and_samples_them_by_seed():
    supported = SentimentDataLoader.SUPPORTED_DATASETS
    wanted = {
        "imdb": "stanfordnlp/imdb",
        "sst2": "stanfordnlp/sst2",
        "amazon": "fancyzhx/amazon_polarity",
        "yelp": "fancyzhx/yelp_polarity",
        "disney": "kaggle:arushchillar/disneyland-reviews",
    }
    assert {name: supported[name] for name in wanted} == wanted
    loader = SentimentDataLoader()
    rows = loader.sample("icwsm-product-3", "train", 90, seed=1, by="balanced")
    assert rows["label"].value_counts().to_dict() == {0: 30, 1: 30, 2: 30}
    assert set(rows["example_id"]) == set(
        loader.sample("icwsm-product-3", "train", 90, seed=1, by="balanced")["example_id"]
    )
    assert set(rows["example_id"]) != set(
        loader.sample("icwsm-product-3", "train", 90, seed=2, by="balanced")["example_id"]
    )


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("sst2", {"train": 65349, "validation": 2000, "test": 872}),
        ("amazon", {"train": 20000, "validation": 2000, "test": 10000}),
        ("rotten_tomatoes", {"train": 8530, "validation": 1066, "test": 1066}),
        ("disney", {"train": 29859, "validation": 4266, "test": 8531}),
        ("icwsm-movie", None),
    ],
)
def test_a_plan_knows_how_many_texts_a_source_will_give(name, rows):
    assert load_catalogue().dataset(name).expected_rows == rows
