"""What must hold for any board: adding or removing a row never moves the pinned score or the order of the others on a track."""

import json

import pytest
from board_records import ANCHORS, BASELINE, board_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

# Without shrinking: a board takes a tenth of a second, and a failing one is small already.
SETTINGS = settings(
    max_examples=8, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=[HealthCheck.too_slow]
)
PINNED = {"tfidf": dict(ANCHORS.baseline_tfidf), "preparation": [], "augmentation": None}
OTHER = PINNED | {"tfidf": PINNED["tfidf"] | {"min_document_count": 5}}
ZERO = BASELINE | {"recipe": "m", "spec": PINNED}
shares = st.floats(0.55, 0.99)


@st.composite
def trials(draw, model):
    """One entry on one dataset, clean or disturbed, with or without a measurement."""
    return {
        "model": model,
        "recipe": draw(st.sampled_from("abc")),
        "dataset": draw(st.sampled_from(["movie", "tweets"])),
        "accuracy": draw(shares),
        "f1_macro": draw(shares),
        "texts_per_s": 10.0 ** draw(st.floats(0, 5)),
        "latency_s": 10.0 ** draw(st.floats(-4, 0)),
        "verdict": draw(st.sampled_from(["clean", "clean", "clean", "contaminated", "invalid"])),
        "measured": draw(st.booleans()),
    }


@st.composite
def boards(draw):
    """Baselines of the pinned configuration on both datasets, and up to five entries."""
    zeros = [ZERO | {"dataset": d, "accuracy": draw(shares), "f1_macro": draw(shares)} for d in ("movie", "tweets")]
    return [*zeros, *(draw(trials(f"m{i}")) for i in range(draw(st.integers(1, 5))))]


def scores_and_order(board, keys):
    """Track to the scores of the rows with these keys, and to those of them with a rank in order."""
    rows = board[board["dataset"] != "overall"]
    rows = rows[[key in keys for key in zip(rows["track"], rows["config_id"], strict=True)]]
    found = {}
    for track, part in rows.groupby("track"):
        clean = part[part["score"].notna() & ~part["provisional"].astype(bool)].sort_values(["score", "config_id"])
        found[track] = (part.set_index("config_id")["score"].sort_index().to_dict(), clean["config_id"].tolist())
    return found


def assert_unmoved(before, more):
    """The rows of `before` have the scores and the order that they have beside `more` rows too."""
    one, other = board_of(*before), board_of(*before, *more)
    keys = set(zip(one["track"], one["config_id"], strict=True))
    left, right = (scores_and_order(b, keys) for b in (one, other))
    assert left.keys() == right.keys()
    for track, (scores, order) in left.items():
        assert right[track][0] == pytest.approx(scores, nan_ok=True)
        assert right[track][1] == order
        ranks = other[(other["track"] == track) & other["rank"].notna()].set_index("config_id")["rank"]
        places = [ranks[c] for c in order if c in ranks]
        assert places == sorted(places, reverse=True), "the board's ranks follow the scores"


@SETTINGS
@given(boards(), trials("new"))
def test_one_more_recipe_moves_no_other(before, more):
    """Read from right to left: taking it away moves none either. A disturbed row is one of those drawn."""
    assert_unmoved(before, [more])


@SETTINGS
@given(boards(), trials("m0"), st.booleans())
def test_one_more_data_set_moves_nobody_on_the_others(before, more, with_baseline):
    added = [more | {"dataset": "shop"}, *([ZERO | {"dataset": "shop"}] if with_baseline else [])]
    assert_unmoved(before, added)


@SETTINGS
@given(boards(), st.sampled_from("az"), shares, st.sampled_from(["clean", "contaminated"]))
def test_a_second_recipe_of_the_baseline_moves_nobody(before, recipe, accuracy, verdict):
    """Whether its id comes before or after that of the pinned configuration, and however good it is."""
    assert json.dumps(OTHER) != json.dumps(PINNED)
    second = BASELINE | {"recipe": recipe, "spec": OTHER, "accuracy": accuracy, "verdict": verdict}
    assert_unmoved(before, [second])


@SETTINGS
@given(boards(), trials("new"))
def test_a_provisional_row_moves_nobody(before, more):
    assert_unmoved(before, [more | {"verdict": "contaminated", "measured": True}])
