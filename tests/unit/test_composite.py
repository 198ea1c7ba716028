"""Hand-worked row, on anchors 1 ... 100,000 texts/s and 1000 ... 0.1 ms:

accuracy 0.90 over base 0.80, ceiling missing (1.0)   skill 0.10 / 0.20 = 0.5
F1       0.94 over base 0.82, ceiling 0.98            skill 0.12 / 0.16 = 0.75
throughput 1,000 texts/s, 3 of 5 decades              0.6
latency 10 ms, 2 of 4 decades                         0.5
30 x 0.5 + 30 x 0.75 + 20 x 0.6 + 20 x 0.5 = 59.5
"""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodbench.errors import SpecError, UnknownNameError
from moodbench.statistics.composite import (
    COMPOSITES,
    MEASURED,
    Weights,
    effective_shares,
    exchange_rate,
    get_composite,
    load_anchors,
    spread,
    utilities_of,
)

ANCHORS = load_anchors()
DEFAULT = Weights()
ROW = {
    "accuracy": 0.90, "f1_macro": 0.94, "throughput_texts_per_s": 1000.0, "latency_p50_s": 0.010,
    "base_accuracy": 0.80, "base_f1_macro": 0.82, "ceiling_accuracy": math.nan, "ceiling_f1_macro": 0.98,
}  # fmt: skip


def utilities(rows, composite="pinned"):
    return utilities_of(rows, COMPOSITES[composite], ANCHORS)


def score(rows, weights=DEFAULT, composite="pinned"):
    return COMPOSITES[composite].score(utilities(rows, composite), weights)


def frame(*changes):
    return pd.DataFrame([ROW | change for change in changes])


def test_the_row_worked_by_hand():
    rows = frame({})
    assert utilities(rows).iloc[0].to_dict() == pytest.approx(
        {"accuracy": 0.5, "f1": 0.75, "throughput": 0.6, "latency": 0.5}
    )
    assert score(rows).tolist() == pytest.approx([59.5])


def test_the_baseline_at_the_slow_ends_scores_zero_and_the_ceiling_at_the_fast_ends_100():
    slow = {"accuracy": 0.80, "f1_macro": 0.82, "throughput_texts_per_s": 1.0, "latency_p50_s": 1.0}
    fast = {"accuracy": 1.0, "f1_macro": 0.98, "throughput_texts_per_s": 1e5, "latency_p50_s": 1e-4}
    assert score(frame(slow, fast)).tolist() == pytest.approx([0, 100])


def test_values_beyond_the_anchors_are_clipped_and_quality_at_minus_one_half():
    beyond = {"accuracy": 0.1, "f1_macro": 0.1, "throughput_texts_per_s": 1e9, "latency_p50_s": 50.0}
    assert utilities(frame(beyond)).iloc[0].tolist() == pytest.approx([-0.5, -0.5, 1, 0])
    assert score(frame(beyond)).tolist() == pytest.approx([-15 - 15 + 20])


@pytest.mark.parametrize("column", [*MEASURED, "base_accuracy", "base_f1_macro"])
def test_a_missing_component_leaves_the_row_without_a_score(column):
    rows = frame({column: None}, {})
    assert score(rows).isna().tolist() == [True, False]
    assert score(rows, Weights.parse("accuracy=0.4,f1=0.4,latency=0.1,throughput=0.1")).isna()[0]
    if column in MEASURED:
        assert score(rows, composite="minmax").isna().tolist() == [True, False]


def test_a_component_without_weight_is_needed_all_the_same():
    assert score(frame({"latency_p50_s": None}), Weights.parse("accuracy=1")).isna().all()


def test_a_ceiling_that_is_not_above_the_base_gives_no_score():
    assert score(frame({"ceiling_f1_macro": 0.82}, {"ceiling_f1_macro": 0.5})).isna().all()


@pytest.mark.parametrize(("column", "value"), [("throughput_texts_per_s", 0.0), ("latency_p50_s", -1.0)])
def test_a_speed_that_is_not_positive_is_missing(column, value):
    assert score(frame({column: value})).isna().all()


entries = st.lists(
    st.fixed_dictionaries(
        {
            "accuracy": st.floats(0, 1),
            "f1_macro": st.floats(0, 1),
            "throughput_texts_per_s": st.floats(0.01, 1e7),
            "latency_p50_s": st.floats(1e-6, 100) | st.none(),
        }
    ),
    min_size=1,
    max_size=8,
)


@given(entries, st.data())
def test_adding_or_removing_entries_never_changes_a_pinned_score(changes, data):
    board = frame(*changes)
    shown = data.draw(st.lists(st.sampled_from(range(len(changes))), min_size=1, unique=True))
    pd.testing.assert_series_equal(score(board.iloc[shown]), score(board).iloc[shown], rtol=1e-12)


@given(entries, st.sampled_from(MEASURED), st.floats(1.0, 3.0))
def test_a_better_component_never_lowers_the_score(changes, column, factor):
    board = frame(*changes)
    better = board.assign(
        **{column: board[column].astype(float) * (1 / factor if column == "latency_p50_s" else factor)}
    )
    before, after = score(board), score(better)
    assert (after.isna() == before.isna()).all()
    assert (after.dropna() >= before.dropna() - 1e-9).all()


def test_within_the_anchors_each_component_raises_the_score():
    steps = [{}, {"accuracy": 0.91}, {"f1_macro": 0.95}, {"throughput_texts_per_s": 1001.0}, {"latency_p50_s": 0.0099}]
    scores = score(frame(*steps))
    assert (scores[1:] > scores[0]).all()


def test_minmax_scales_between_the_worst_and_the_best_shown():
    a = {"accuracy": 0.9, "f1_macro": 0.9, "throughput_texts_per_s": 100.0, "latency_p50_s": 0.010}
    b = {"accuracy": 0.8, "f1_macro": 0.8, "throughput_texts_per_s": 300.0, "latency_p50_s": 0.005}
    middle = {"accuracy": 0.85, "f1_macro": 0.85, "throughput_texts_per_s": 150.0, "latency_p50_s": 0.009}
    # the middle one: 30 x 0.5 twice, 20 x 50/200, 20 x 1/5
    assert score(frame(a, b, middle), composite="minmax").tolist() == pytest.approx([60, 40, 15 + 15 + 5 + 4])


def test_under_minmax_a_third_model_reverses_two_and_under_pinned_it_cannot():
    a = {"accuracy": 0.90, "f1_macro": 0.90, "throughput_texts_per_s": 100.0, "latency_p50_s": 0.010}
    b = {"accuracy": 0.89, "f1_macro": 0.89, "throughput_texts_per_s": 300.0, "latency_p50_s": 0.005}
    poor = {"accuracy": 0.50, "f1_macro": 0.50, "throughput_texts_per_s": 200.0, "latency_p50_s": 0.008}
    two, three = score(frame(a, b), composite="minmax"), score(frame(a, b, poor), composite="minmax")
    assert two[0] > two[1]
    assert three[0] < three[1]
    assert score(frame(a, b)).tolist() == score(frame(a, b, poor))[:2].tolist()


def test_under_minmax_a_column_without_differences_counts_in_full_and_incomplete_rows_do_not_stretch_it():
    rows = frame({}, {"throughput_texts_per_s": 2000.0}, {"throughput_texts_per_s": 9e9, "accuracy": None})
    found = utilities(rows, "minmax")
    assert found["accuracy"].tolist() == pytest.approx([1, 1, math.nan], nan_ok=True)
    assert found["throughput"].tolist() == pytest.approx([0, 1, math.nan], nan_ok=True)


def test_a_board_of_one_row_is_full_marks_under_minmax():
    assert score(frame({}), composite="minmax").tolist() == [100.0]


def test_scores_keep_the_index_of_the_rows_and_an_empty_board_has_none():
    rows = frame({}, {}).set_axis(["bert", "tiny"])
    for name in COMPOSITES.keys() - {"none"}:
        assert score(rows, composite=name).index.tolist() == ["bert", "tiny"]
        assert score(rows.iloc[:0], composite=name).empty


def test_the_effective_share_is_weight_times_spread():
    utilities = pd.DataFrame({"accuracy": [0.4, 0.6], "f1": [0.5, 0.5], "throughput": [0, 1], "latency": [1, 0.5]})
    # spreads 0.1, 0, 0.5, 0.25 -> 0.03, 0, 0.10, 0.05
    assert effective_shares(spread(utilities), DEFAULT) == pytest.approx(
        {"accuracy": 3 / 18, "f1": 0, "throughput": 10 / 18, "latency": 5 / 18}
    )
    assert all(math.isnan(share) for share in effective_shares(spread(utilities[:1]), DEFAULT).values())


@pytest.mark.parametrize("weights", [DEFAULT, Weights(0.5, 0.1, 0.1, 0.3), Weights(0.5, 0.3, 0.0, 0.2)])
def test_the_exchange_rate_pays_for_one_point_of_quality(weights):
    factor = exchange_rate(weights, ANCHORS, accuracy_span=0.2, f1_span=0.3)
    same = {"base_f1_macro": 0.68, "ceiling_f1_macro": 0.98}
    better = same | {"accuracy": 0.91, "f1_macro": 0.95}
    faster = same | {"throughput_texts_per_s": 1000 * factor, "latency_p50_s": 0.010 / factor}
    scores = score(frame(better, faster, same), weights)
    assert scores[0] == pytest.approx(scores[1])
    assert scores[1] > scores[2]


def test_the_exchange_rate_where_one_side_has_no_weight():
    assert exchange_rate(Weights(0, 0, 0.5, 0.5), ANCHORS, 0.2, 0.2) == 1.0
    assert exchange_rate(Weights(0.5, 0.5, 0, 0), ANCHORS, 0.2, 0.2) == math.inf
    with pytest.raises(ValueError, match="base < ceiling"):
        exchange_rate(DEFAULT, ANCHORS, 0.2, 0.0)


def test_weights_are_read_from_text_and_unnamed_ones_are_zero():
    assert Weights.parse("accuracy=0.3, f1=0.3,throughput=.2,latency=0.2") == DEFAULT
    assert Weights.parse("latency=0.25,accuracy=0.75") == Weights(0.75, 0.0, 0.0, 0.25)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy=0.5", "add up to 0.5; allowed is a sum of 1"),
        ("accuracy=1.5,f1=-0.5", "f1 is -0.5; allowed is a finite number"),
        ("accuracy=nan,f1=1", "accuracy is nan"),
        ("accuracy=inf", "accuracy is inf"),
        ("accuracy=high", "'high'; allowed is a finite number"),
        ("accuracy", "not NAME=NUMBER"),
        ("", "not NAME=NUMBER"),
        ("f1=0.5,f1=0.5", "f1 twice"),
    ],
)
def test_weights_that_make_no_sense_are_refused_with_what_is_allowed(text, message):
    with pytest.raises(SpecError, match=message):
        Weights.parse(text)


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'accuracy'"):
        Weights.parse("acuracy=1")
    with pytest.raises(UnknownNameError, match="did you mean 'pinned'"):
        get_composite("pined")
    assert get_composite("pinned") is COMPOSITES["pinned"]


def test_the_shipped_anchors_are_those_of_the_design():
    assert (ANCHORS.version, ANCHORS.baseline, ANCHORS.skill_floor) == (2, "tfidf-logreg", -0.5)
    assert (ANCHORS.throughput_texts_per_s.worst, ANCHORS.throughput_texts_per_s.best) == (1, 100_000)
    assert (ANCHORS.latency_p50_s.worst, ANCHORS.latency_p50_s.best) == (1.0, 0.0001)
    assert np.isclose(ANCHORS.latency_p50_s.log_span, -4 * math.log(10))


def test_the_geometric_mean_worked_by_hand():
    """Error 0.10 against 0.20 is 2, F1's 0.06 against 0.18 is 3; 1,000 texts/s against sqrt(1 x 100,000); 10 ms is the middle."""
    expected = 100 * 2**0.3 * 3**0.3 * (1000 / math.sqrt(1e5)) ** 0.2
    assert score(frame({}), composite="geomean").tolist() == pytest.approx([expected])


@given(st.floats(0.5, 0.999), st.floats(0.5, 0.999), st.floats(0.5, 0.99), st.floats(0.5, 0.99))
def test_whose_geometric_mean_is_larger_does_not_depend_on_the_baseline(a, b, base, other):
    orders = []
    for reference in (base, other):
        rows = frame({"accuracy": a, "base_accuracy": reference}, {"accuracy": b, "base_accuracy": reference})
        first, second = score(rows, composite="geomean")
        orders.append(0 if math.isclose(first, second, rel_tol=1e-12) else math.copysign(1, first - second))
    assert orders[0] == orders[1]


@given(st.lists(st.floats(0.5, 1.0), min_size=2, max_size=6), st.data())
def test_adding_or_removing_entries_never_changes_a_geometric_mean(accuracies, data):
    rows = frame(*({"accuracy": a} for a in accuracies))
    kept = data.draw(st.sets(st.sampled_from(range(len(rows))), min_size=1))
    assert (
        score(rows.loc[sorted(kept)], composite="geomean").tolist()
        == score(rows, composite="geomean")[sorted(kept)].tolist()
    )
