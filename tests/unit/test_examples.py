import hashlib
import unicodedata
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodbench.data.examples import Examples, example_ids, labels_of_ratings, load_examples, subsample
from moodbench.errors import DataError

# mean rating: label of 2 classes with band 0, of 2 with band 0.5, of 3 with band 0, of 3 with band 0.5; -1 is left out
RATED = {
    -4.0: (0, 0, 0, 0),
    -0.51: (0, 0, 0, 0),
    -0.5: (0, 0, 0, 0),
    -0.49: (0, -1, 0, 1),
    0.0: (-1, -1, 1, 1),
    0.49: (1, -1, 2, 1),
    0.5: (1, 1, 2, 2),
    0.51: (1, 1, 2, 2),
    4.0: (1, 1, 2, 2),
}


@pytest.mark.parametrize(("column", "num_labels", "band"), [(0, 2, 0.0), (1, 2, 0.5), (2, 3, 0.0), (3, 3, 0.5)])
def test_the_label_is_the_sign_of_the_mean_rating_outside_the_neutral_band(column, num_labels, band):
    means = np.array(list(RATED))
    assert labels_of_ratings(means, num_labels, band).tolist() == [row[column] for row in RATED.values()]


@given(st.lists(st.floats(-4, 4), min_size=1), st.floats(0, 4))
def test_turning_every_rating_round_turns_every_label_round(ratings, band):
    means = np.array(ratings)
    for num_labels in (2, 3):
        labels, turned = labels_of_ratings(means, num_labels, band), labels_of_ratings(-means, num_labels, band)
        assert np.where(labels < 0, -1, num_labels - 1 - labels).tolist() == turned.tolist()


def test_an_example_id_is_sixteen_bytes_of_the_hash_of_source_text_and_occurrence():
    assert example_ids("films", ["good", "bad", "good"]) == [
        hashlib.sha256(content).hexdigest()[:32] for content in (b"films|good|0", b"films|bad|0", b"films|good|1")
    ]
    # printf 'films|good|0' | sha256sum
    assert example_ids("films", ["good"]) == ["c2231340c351d9911c0f089cc28ebff4"]


def test_an_id_is_the_same_however_the_accents_are_encoded():
    composed, apart = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    assert composed != apart
    assert example_ids("s", [composed]) == example_ids("s", [apart])
    assert len(set(example_ids("s", [composed, apart]))) == 2


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=12), st.randoms())
def test_ids_are_unique_and_as_a_set_do_not_depend_on_the_order_of_the_texts(texts, random):
    shuffled = random.sample(texts, len(texts))
    ids = example_ids("s", texts)
    assert len(set(ids)) == len(texts)
    assert set(ids) == set(example_ids("s", shuffled))


def rows_of(counts, split="train"):
    """`counts[label]` rows of each label."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    ids = example_ids("toy", [f"text {i}" for i in range(len(labels))])
    return pd.DataFrame({"example_id": ids, "label": labels, "split": split})


def toy(frame):
    return Examples("toy", ("negative", "positive"), 0.5, frame)


def test_a_fingerprint_and_a_split_depend_on_content_and_not_on_the_order_of_rows():
    rows = pd.concat([rows_of((3, 4)), rows_of((5, 5), "test"), rows_of((2, 2), "validation")], ignore_index=True)
    shuffled = rows.sample(frac=1, random_state=1)
    for split in ("train", "validation", "test"):
        assert toy(rows).fingerprint(split) == toy(shuffled).fingerprint(split)
        pd.testing.assert_frame_equal(toy(rows).split(split), toy(shuffled).split(split))
    assert toy(rows).revision == toy(shuffled).revision
    assert len({toy(rows).fingerprint(split) for split in ("train", "validation", "test")}) == 3


def test_a_fingerprint_is_the_hash_of_sorted_ids_and_labels():
    rows = pd.DataFrame({"example_id": ["b", "a"], "label": [1, 0], "split": "train"})
    assert toy(rows).fingerprint("train") == hashlib.sha256(b'[["a",0],["b",1]]').hexdigest()[:20]


@pytest.mark.parametrize(("column", "value"), [("label", 1), ("example_id", "other"), ("split", "test")])
def test_a_changed_label_id_or_split_changes_revision_and_fingerprint(column, value):
    rows = rows_of((3, 4))
    changed = rows.assign(**{column: [value, *rows[column][1:]]})
    assert toy(changed).fingerprint("train") != toy(rows).fingerprint("train")
    assert toy(changed).revision != toy(rows).revision


def test_class_names_are_part_of_the_revision():
    rows = rows_of((3, 4))
    assert Examples("toy", ("bad", "good"), 0.5, rows).revision != toy(rows).revision


SHARES = [
    # rows of each class, size wanted, rows taken of each class
    ((60, 40), 10, (6, 4)),
    ((50, 30, 20), 7, (4, 2, 1)),  # 3.5, 2.1, 1.4: floors 3, 2, 1, and the largest remainder is .5
    ((55, 25, 20), 9, (5, 2, 2)),  # 4.95, 2.25, 1.8: two remainders, .95 and .8
    ((50, 50), 5, (3, 2)),  # equal remainders: the lower label
    ((98, 1, 1), 10, (8, 1, 1)),  # 9.8, .1, .1: at least one each, and still no more than 10
    ((904, 8, 88), 100, (90, 1, 9)),  # 90.4, .8, 8.8: the second class has had its one
    ((990, 5, 5), 100, (98, 1, 1)),  # 99, .5, .5
    ((3, 4), 7, (3, 4)),
    ((3, 4), 99, (3, 4)),
    ((3, 4), None, (3, 4)),
]


@pytest.mark.parametrize(("counts", "size", "taken"), SHARES)
def test_a_subsample_keeps_the_class_shares_by_largest_remainder(counts, size, taken):
    labels = Counter(subsample(rows_of(counts), size, seed=0)["label"])
    assert tuple(labels[k] for k in range(len(counts))) == taken


@given(st.lists(st.integers(1, 30), min_size=2, max_size=4), st.data())
def test_a_subsample_has_the_size_asked_for_and_some_of_every_class(counts, data):
    size = data.draw(st.integers(len(counts), sum(counts)))
    taken = subsample(rows_of(counts), size, seed=0)
    assert len(taken) == size
    assert set(taken["label"]) == set(range(len(counts)))


def test_a_subsample_is_the_same_for_a_seed_whatever_the_order_and_keeps_the_order_it_finds():
    rows = rows_of((40, 60))
    shuffled = rows.sample(frac=1, random_state=3)
    taken = subsample(rows, 20, seed=5)
    assert set(taken["example_id"]) == set(subsample(shuffled, 20, seed=5)["example_id"])
    assert set(taken["example_id"]) != set(subsample(rows, 20, seed=6)["example_id"])
    assert taken["example_id"].tolist() == [i for i in rows["example_id"] if i in set(taken["example_id"])]


def test_every_row_is_as_likely_to_be_taken():
    rows = rows_of((6, 4))
    taken = Counter(i for seed in range(600) for i in subsample(rows, 5, seed)["example_id"])
    # 3 of 6 and 2 of 4: each row in half the samples, 300 +- 4.5 standard deviations of 12.2
    assert all(245 < taken[i] < 355 for i in rows["example_id"])


@pytest.mark.parametrize("labels", [("negative", "positive"), ("negative", "neutral", "positive")])
def test_a_neutral_band_that_leaves_a_class_empty_is_refused_with_both_named(labels):
    with pytest.raises(DataError, match=r"dataset mine: its \w+ split has no example of class .*neutral_band 4.5"):
        load_examples("mine", "icwsm-movie", labels, 4.5)


def test_loaded_examples_are_labelled_as_their_ratings_say():
    examples = load_examples("mine", "icwsm-tweets", ("negative", "neutral", "positive"), 1.0)
    frame = examples.frame
    by_hand = [0 if r <= -1 else 2 if r >= 1 else 1 for r in frame["mean_rating"]]
    assert frame["label"].tolist() == by_hand
    two = load_examples("mine", "icwsm-tweets", ("negative", "positive"), 1.0).frame
    assert len(two) == sum(label != 1 for label in by_hand)
