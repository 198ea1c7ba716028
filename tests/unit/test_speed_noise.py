"""Noise of speed over fresh processes, against a count of all draws and by what must hold."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from test_scoring import ANCHORS, joint, score, score_draws, track

from moodbench.analysis.leaderboard import track_with_quality_columns
from moodbench.analysis.scoring import utility_draws
from moodbench.statistics.bootstrap import BootstrapDraws, measurement_noise, process_logs, speed_noise
from moodbench.statistics.composite import COMPOSITES, membership
from moodbench.statistics.rank_intervals import tied_fastest


def processes(*latencies, texts_per_s=100.0):
    return [{"latency_p50_s": s, "texts_per_s": texts_per_s} for s in latencies]


def board(measured, ids=None, provisional=False):
    names = ids or [[f"m{i}-{s}" for s in range(len(seeds))] for i, seeds in enumerate(measured)]
    return pd.DataFrame({"measurement_ids": names, "process_speed": measured, "provisional": provisional})


def test_draws_have_the_distribution_of_all_27_ways_to_draw_three_processes():
    logs = process_logs(processes(1.0, np.exp(0.1), np.exp(0.4)))
    drawn = measurement_noise(logs, "m", 40_000)[:, 0]
    every = [np.sqrt(3 / 2) * (np.median(ways) - 0.1) for ways in product([0.0, 0.1, 0.4], repeat=3)]
    for value, count in zip(*np.unique(np.round(every, 9), return_counts=True), strict=True):
        assert np.isclose(drawn, value).mean() == pytest.approx(count / 27, abs=0.01)


def test_latency_and_throughput_come_from_the_same_processes():
    both = [{"latency_p50_s": s, "texts_per_s": 1 / s} for s in (0.01, 0.012, 0.013, 0.02, 0.05)]
    drawn = measurement_noise(process_logs(both), "m", 500)
    assert np.ptp(drawn[:, 0]) > 0
    assert drawn[:, 1] == pytest.approx(-drawn[:, 0])


@pytest.mark.parametrize("measured", [None, [], processes(0.01), processes(None, 0.01)])
def test_speed_of_one_process_or_none_is_as_measured(measured):
    assert (speed_noise(board([[measured]]), 50)[:, :, 0] == 0).all()


def test_a_disturbed_clock_has_no_draws_and_unknown_throughput_is_as_measured():
    rows = board([[processes(0.01, 0.02, 0.03, texts_per_s=None)]])
    found = speed_noise(rows, 200)
    assert np.ptp(found[:, 0, 0]) > 0 and (found[:, 0, 1] == 0).all()
    assert (speed_noise(rows.assign(provisional=True), 200) == 0).all()


def test_another_entry_changes_no_draws():
    one, other = [processes(0.01, 0.02, 0.03)], [processes(0.5, 0.7, 0.9)]
    alone = speed_noise(board([one], [["a"]]), 100)
    assert speed_noise(board([other, one], [["b"], ["a"]]), 100)[:, 1] == pytest.approx(alone[:, 0])


def test_seeds_share_a_median_that_varies_less_than_one():
    noisy = processes(0.01, 0.012, 0.015, 0.02, 0.03)
    one, three = (speed_noise(board([[noisy] * n]), 4000)[:, 0, 0].std() for n in (1, 3))
    assert three < 0.9 * one


def with_noise(noise):
    whole = joint(0.0)
    return BootstrapDraws(**{**vars(whole), "speed_noise": noise})


@pytest.mark.parametrize("composite", ["pinned", "minmax", "geomean"])
def test_a_draw_has_the_score_of_a_board_with_that_speed(composite):
    rows = track()
    noise = np.random.default_rng(1).normal(0, 0.2, (500, 3, 2))
    draws = score_draws(rows, with_noise(noise), composite)
    for b in range(3):
        moved = rows.assign(
            latency_p50_s=rows["latency_p50_s"] * np.exp(noise[b, :, 0]),
            throughput_texts_per_s=rows["throughput_texts_per_s"] * np.exp(noise[b, :, 1]),
        )
        expected = score(moved, composite)
        assert draws.scores[b] == pytest.approx(expected.to_numpy())


@pytest.mark.parametrize("composite", ["pinned", "minmax", "geomean"])
def test_no_noise_changes_nothing(composite):
    rows = track()
    without = utility_draws(rows, joint(0.01), ANCHORS, COMPOSITES[composite]).utilities
    still = BootstrapDraws(**{**vars(joint(0.01)), "speed_noise": np.zeros((500, 3, 2))})
    assert utility_draws(rows, still, ANCHORS, COMPOSITES[composite]).utilities == pytest.approx(without)


def test_pareto_membership_hangs_on_the_drawn_latency():
    """The baseline errs more than fast at the same 1 ms: it is in the set in just the draws in which it is the faster."""
    rows = track().assign(memory_peak_batch1_bytes=1.0, train_time_s=1.0)
    noise = np.zeros((500, 3, 2))
    noise[:200, 2, 0] = -0.1
    found = track_with_quality_columns(rows, with_noise(noise), rows["latency_p50_s"])
    assert found["p_pareto_latency"].tolist() == [1, 1, pytest.approx(200 / 500)]


def test_membership_with_drawn_costs_is_that_of_each_draw():
    rng = np.random.default_rng(3)
    errors, costs = rng.random((40, 4)), rng.random((40, 4))
    each = [membership(errors[[b]], costs[b]) for b in range(40)]
    assert membership(errors, costs) == pytest.approx(np.mean(each, axis=0))


def test_entries_whose_processes_overlap_are_tied_for_the_fastest_and_far_or_exact_ones_are_not():
    measured = [processes(0.0100, 0.0110, 0.0120), processes(0.0095, 0.0112, 0.0125), processes(0.0210, 0.0215, 0.0220)]
    rows = board([[m] for m in measured])
    latency = [0.0110, 0.0112, 0.0215]
    assert tied_fastest(latency, speed_noise(rows, 2000)[:, :, 0]) == [True, True, False]
    exact = np.zeros((2000, 3))
    assert tied_fastest(latency, exact) == [True, False, False], "without noise the best alone"
    assert tied_fastest([0.011, 0.011, 0.0215], exact) == [True, True, False], "unless another is level"


def test_who_has_no_latency_is_neither_tied_nor_in_the_way():
    rows = board([[processes(0.0100, 0.0110, 0.0120)], [processes(0.0095, 0.0112, 0.0125)]])
    noise = speed_noise(rows, 500)[:, :, 0]
    assert tied_fastest([np.nan, 0.0112], noise) == [None, True]
    assert tied_fastest([np.nan, np.nan], noise) == [None, None]


@pytest.mark.parametrize(("num_processes", "most"), [(5, 0.05), (3, 0.12)])
def test_of_equally_fast_entries_one_is_seldom_said_to_be_slower(num_processes, most):
    """Six of them: in 300 other worlds it was in 2 % with five processes each, in 9 % with three, of which 5 % are meant."""
    rng, wrong = np.random.default_rng(5), 0
    for world in range(120):
        logs = rng.normal(0, 0.05, (6, num_processes))
        measured = [processes(*np.exp(own).tolist()) for own in logs]
        rows = board([[m] for m in measured], [[f"{world}-{m}"] for m in range(6)])
        wrong += not all(tied_fastest(np.exp(np.median(logs, axis=1)), speed_noise(rows, 400)[:, :, 0]))
    assert wrong / 120 <= most
