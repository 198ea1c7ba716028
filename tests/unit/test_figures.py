import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodbench.app.speed import memory_parts
from moodbench.report import figures
from moodbench.report.charts import Axis, Chart, Series, draw, log_axis
from moodbench.report.charts_plotly import plotly_figure

points = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30)


@given(points)
def test_the_frontier_is_what_no_point_beats(given):
    cost, gain = (np.array(c, dtype=float) for c in zip(*given, strict=True))
    on = figures.frontier(cost, gain)
    for i, (x, y) in enumerate(given):  # by definition, one by one
        beaten = any((a <= x and b >= y) and (a < x or b > y) for a, b in given)
        assert on[i] == (not beaten)


def test_the_frontier_where_more_is_better_and_values_are_missing():
    assert figures.frontier([1, 2, 3, np.nan], [5, 4, 4, 9], less_is_better=False).tolist() == [
        True,
        False,
        True,
        False,
    ]


def board():
    return pd.DataFrame(
        {
            "name": ["a", "b", "c"], "method": ["lora", "baseline", "lora"], "accuracy": [0.9, 0.8, 0.7],
            "accuracy_low": [0.88, 0.77, 0.66], "accuracy_high": [0.93, 0.82, 0.75], "provisional": [False, False, True],
            "latency_p50_s": [0.02, 0.001, 0.005], "latency_p99_s": [None] * 3, "train_time_s": [1.0, 2.0, 3.0],
            "memory_peak_batch1_bytes": [4 * 2**20, 2**20, None], "throughput_texts_per_s": [1.0, 2.0, 3.0],
            "num_params": [1e6, 2e6, 3e6],
        }
    )  # fmt: skip


def test_the_trade_off_shows_milliseconds_percent_intervals_and_the_frontier():
    figure = figures.trade_off(board())
    line, baseline, lora = figure.series
    assert list(line.x) == [1.0, 20.0] and list(line.y) == pytest.approx([80.0, 90.0])
    assert list(baseline.x) == [1.0] and list(lora.x) == [5.0, 20.0]
    low, high = lora.y_interval
    assert list(low) == pytest.approx([66.0, 88.0]) and list(high) == pytest.approx([75.0, 93.0])
    assert list(lora.faint) == [True, False], "only the frontier stands out"
    assert list(lora.hollow) == [True, False], "a disturbed clock has a hollow mark"
    drawn = plotly_figure(figure).data[2]
    assert list(drawn.error_y.array) == pytest.approx([5.0, 3.0])
    assert list(drawn.error_y.arrayminus) == pytest.approx([4.0, 2.0])
    assert list(drawn.text) == ["", "a"], "only the frontier is labelled"
    assert list(drawn.marker.symbol) == ["circle-open", "circle"]


def test_a_disturbed_or_trivial_entry_is_not_on_the_frontier_as_it_has_no_rank():
    rows = board().assign(provisional=False)
    line = figures.trade_off(rows).series[0]
    assert list(line.x) == [1.0, 20.0]
    for column in ("provisional", "trivial"):
        marked = rows.assign(**{column: rows["latency_p50_s"] == 0.001})
        assert 1.0 not in list(figures.trade_off(marked).series[0].x)


def test_the_report_shows_the_same_trade_off_as_error():
    line, _, lora = figures.trade_off(board(), as_error=True).series
    assert list(line.y) == pytest.approx([20.0, 10.0])
    low, high = lora.y_interval
    assert list(low) == pytest.approx([25.0, 7.0]) and list(high) == pytest.approx([34.0, 12.0])


def test_pointed_at_a_mark_says_its_costs_as_the_table_does():
    slow = board().head(1).assign(
        latency_p50_s=1.234, memory_peak_batch1_bytes=1234 * 2**20, train_time_s=3600.0, throughput_texts_per_s=1234.5,
        num_params=22.7e6,
    )  # fmt: skip
    (said,) = figures.trade_off(slow).series[1].hover
    assert said.split("<br>")[2:] == [
        "median time to label: 1,234 ms", "memory of the process: 1,234 MiB", "training time: 60 m 00 s",
        "texts per second: 1,234", "parameters: 22.7M",
    ]  # fmt: skip


def test_means_over_other_data_sets_are_no_trade_off():
    partial = board().assign(on_all=[True, True, False], accuracy=[0.9, 0.8, 0.99])
    assert list(figures.with_trade_off(partial, "latency_p50_s")["name"]) == ["a", "b"]
    of_one_set = board().assign(on_all=None)
    assert len(figures.with_trade_off(of_one_set, "latency_p50_s")) == 3


def test_an_accuracy_without_an_interval_is_said_without_one():
    bare = board().head(1).assign(accuracy_low=float("nan"), accuracy_high=float("nan"))
    (said,) = figures.trade_off(bare).series[1].hover
    assert said.split("<br>")[1] == "accuracy 90.0 %"


def test_a_slow_request_is_said_without_an_exponent():
    line, _ = figures.latency_distribution({"a": np.array([1.5, 2.5])}).series
    assert list(line.hover) == ["a: 50.0 % within 1,500 ms", "a: 100.0 % within 2,500 ms"]


def test_a_figure_of_nothing_says_why():
    empty = board().head(0)
    made = (figures.trade_off(empty), figures.f1_by_dataset(empty.assign(track=[], f1_macro=[])), figures.latency_distribution({}),
            figures.batch_sweep({}), figures.stacked_parts(empty[["accuracy"]], "x"), figures.reliability({}))  # fmt: skip
    assert all(figure.reason == plotly_figure(figure).layout.annotations[0].text != "" for figure in made)


def test_a_distribution_ends_at_all_requests_and_keeps_its_quantiles():
    latencies = np.random.default_rng(1).exponential(0.01, 5000)
    line, _ = figures.latency_distribution({"a": latencies}).series
    assert len(line.x) <= 200 and line.y[-1] == 100 and line.x[-1] == pytest.approx(1e3 * latencies.max())
    nearest = int(np.argmin(np.abs(np.array(line.y) - 50)))
    assert line.x[nearest] == pytest.approx(1e3 * np.median(latencies), rel=0.05)


def test_memory_parts_add_up_to_the_peak():
    mib = 2**20
    row = {"memory_imports_bytes": 100 * mib, "memory_loaded_bytes": 250 * mib, "memory_peak_batch1_bytes": 240 * mib,
           "memory_peak_bytes": 400 * mib}  # fmt: skip
    (parts,) = memory_parts(pd.DataFrame([row], index=["a"])).to_numpy().tolist()
    assert parts == [100, 150, 0, 150], "a part that freed memory adds nothing"


def test_labels_of_the_trade_off_stand_towards_the_middle_where_no_edge_cuts_them():
    ms = [1.0, 5.0, 200.0]
    chart = Chart(series=[Series(x=ms, y=ms, labels=["a", "b", "c"])], x=log_axis("ms", ms), y=Axis(), height=300)
    assert [place.split()[1] for place in plotly_figure(chart).data[0].textposition] == ["right", "right", "left"]


def test_the_f1_figure_names_the_marks_of_each_entry():
    rows = pd.DataFrame(
        {"name": ["a", "b", "a"], "track": ["x", "x", "y"], "f1_macro": [0.5, 0.55, 0.7], "quick": [False, False, True]}
    ).assign(verdict="clean", provisional=False)
    figure = figures.f1_by_dataset(rows)
    assert figure.y.ticks == {0: "b", 1: "a (quick)"}, "the best mean on top"
    assert [list(series.y) for series in figure.series] == [[1, 0], [1]]


def test_bars_are_stacked_in_both_libraries():
    parts = pd.DataFrame({"load": [1.0, 3.0], "first": [2.0, 4.0]}, index=["a", "b"])
    figure = figures.stacked_parts(parts, "s")
    assert figure.y.ticks == {0: "b", 1: "a"}, "the first row on top"
    load, first = plotly_figure(figure).data
    assert list(load.base) == [0, 0] and list(load.x) == [3, 1]
    assert list(first.base) == [3, 1] and list(first.x) == [4, 2]
    assert "load" in draw(figure, "bars", "").svg and "first" in draw(figure, "bars", "").svg
