import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodbench.data.examples import SPLITS, content_key
from moodbench.data.near_duplicates import find_clusters, normalised
from moodbench.data.splits import stratified_group_split

# Few words, so that near-duplicates and chains of them are common.
WORDS = st.lists(st.sampled_from(["a", "good", "film", "it", "is", "not", "very", "bad"]), max_size=8).map(" ".join)


def partition(labels):
    """The sets of row numbers with the same label, whatever the labels are."""
    labels = list(labels)
    return {frozenset(row for row, other in enumerate(labels) if other == label) for label in labels}


def merged_one_pair_at_a_time(texts, groups):
    cluster = list(range(len(texts)))
    for i, left in enumerate(texts):
        for j, right in enumerate(texts):
            a, b = set(left.split()), set(right.split())
            similar = min(len(a), len(b)) >= 4 and len(a & b) / len(a | b) >= 0.8
            if left == right or similar or groups[i] == groups[j]:
                cluster = [cluster[i] if c == cluster[j] else c for c in cluster]
    return partition(cluster)


@given(st.lists(st.tuples(WORDS, st.integers(0, 20)), max_size=12))
def test_clusters_are_those_of_merging_every_similar_pair(rows):
    texts, groups = [text for text, _ in rows], [group for _, group in rows]
    assert partition(find_clusters(texts, groups).ids) == merged_one_pair_at_a_time(texts, groups)


def test_case_punctuation_and_width_do_not_tell_texts_apart():
    assert find_clusters(["Well, wow!", "WELL wow", "ｗｅｌｌ  wow..."]).ids.tolist() == [0, 0, 0]


def test_emoticons_are_not_all_the_same_text():
    assert normalised(" :) ") == ":)"
    assert find_clusters([":)", ":(", ":)", ""]).ids.tolist() == [0, 1, 0, 2]


def test_four_of_five_words_are_near_and_three_of_four_are_not():
    assert find_clusters(["one two three four", "one two three four five"]).ids.tolist() == [0, 0]
    assert find_clusters(["one two three", "one two three four"]).ids.tolist() == [0, 1]
    assert find_clusters(["one two three four", "one two three five"]).ids.tolist() == [0, 1]


def test_near_duplicates_join_their_whole_groups():
    texts = ["so good", "red", "So good!", "blue", "green"]
    assert find_clusters(texts, ["r1", "r1", "r2", "r2", "r3"]).ids.tolist() == [0, 0, 0, 0, 1]


def test_chunks_do_not_change_the_clusters(monkeypatch):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefghijkl"), size=6)) for _ in range(60)]
    whole = find_clusters(texts).ids.tolist()
    monkeypatch.setattr("moodbench.data.near_duplicates._CHUNK_PAIRS", 1)
    assert find_clusters(texts).ids.tolist() == whole
    assert len(set(whole)) < len(texts)


def test_no_texts_have_no_clusters():
    assert find_clusters([]).ids.tolist() == []


# Three sizes of groups, two strata; the content decides the rest.
ROWS = [(f"text {row}", f"group {row // 3 if row < 90 else row}", row % 7 < 2) for row in range(300)]


def split_by_text(rows):
    texts, groups, strata = zip(*rows, strict=True)
    return dict(
        zip(texts, stratified_group_split(strata, groups, [content_key(t) for t in texts]).tolist(), strict=True)
    )


@given(st.permutations(ROWS))
def test_the_order_of_the_rows_does_not_move_a_text(rows):
    assert split_by_text(rows) == split_by_text(ROWS)


def test_groups_stay_whole_and_each_stratum_is_shared_out():
    side = split_by_text(ROWS)
    assert all(len({side[text] for text, group, _ in ROWS if group == f"group {g}"}) == 1 for g in range(30))
    for stratum in (True, False):
        sides = [side[text] for text, _, s in ROWS if s == stratum]
        for split, share in zip(SPLITS, (0.7, 0.1, 0.2), strict=True):
            assert sides.count(split) == pytest.approx(share * len(sides), abs=2)


def test_the_shares_can_be_chosen():
    keys = [content_key(str(i)) for i in range(10)]
    split = stratified_group_split([0] * 10, range(10), keys, (0.5, 0.3, 0.2)).tolist()
    assert [split.count(name) for name in SPLITS] == [5, 3, 2]


def test_a_group_goes_where_its_own_stratum_is_missing():
    # Worked out by hand. The two pairs go to train and validation. Then "e" (stratum x) finds train and validation
    # holding their pairs of x and test empty, so it goes to test; "f" (stratum y) finds all empty and goes to train.
    strata, groups = ["x", "x", "x", "x", "x", "y"], ["p", "p", "q", "q", "e", "f"]
    split = stratified_group_split(strata, groups, ["1", "2", "3", "4", "5", "6"], (0.4, 0.3, 0.3))
    assert split.tolist() == ["train", "train", "validation", "validation", "test", "train"]


def test_one_text_in_two_groups_is_refused():
    with pytest.raises(ValueError, match="same key stands in two groups"):
        stratified_group_split([0, 0], ["a", "b"], ["k", "k"])


@pytest.mark.parametrize("shares", [(0.7, 0.1, 0.1), (0.8, 0.0, 0.2)])
def test_shares_that_leave_a_split_empty_or_do_not_sum_to_one_are_refused(shares):
    with pytest.raises(ValueError, match="shares must be positive"):
        stratified_group_split([0], ["a"], ["k"], shares)


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="2 groups for 1 texts"):
        find_clusters(["a"], [1, 2])
    with pytest.raises(ValueError, match="1 strata, 2 groups, 1 keys"):
        stratified_group_split([0], ["a", "b"], ["k"])
