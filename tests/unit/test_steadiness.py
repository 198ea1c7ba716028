"""Intervals of P50 and the verdict `not steady`, in worlds whose true median is known.

A world is a run of processes, windows and requests. The logarithm of a latency is normal noise (texts of several lengths)
plus what makes requests depend on each other: slow swings of the machine within a process, a level of each process, a
drift. The true median is 1 in all worlds without drift, as every part is symmetric around 0.
"""

import numpy as np
import pytest
from scipy.signal import lfilter

from moodbench.metrics.measurement import (
    MAX_DRIFT,
    QuantileEstimate,
    Verdict,
    interval_ranks,
    quantile_with_interval,
    request_quantiles,
    with_steadiness,
)

WINDOWS, SIZE, WORLDS = 16, 25, 200
CLEAN = Verdict("clean", (), 1.0, ())


def world(rng, processes=3, windows=WINDOWS, swing=0.0, memory=0.0, level=0.0, drift=0.0, noise=0.2):
    """Latencies (processes, windows, requests): `swing` is the sd of an AR(1) with correlation `memory` of neighbours."""
    count = windows * SIZE
    logs = rng.normal(0, noise, (processes, count)) + rng.normal(0, level, (processes, 1))
    if swing:
        began, shocks = (
            rng.normal(0, swing, processes),
            rng.normal(0, swing * np.sqrt(1 - memory**2), (count, processes)),
        )
        logs += lfilter([1.0], [1.0, -memory], np.vstack([began, shocks[:-1]]), axis=0).T
    logs += np.linspace(0, drift, count)
    return np.exp(logs).reshape(processes, windows, SIZE)


SCENARIOS = {
    "independent requests": {},
    "swings of 10 requests": {"swing": 0.1, "memory": 0.9},
    "swings of 50 requests": {"swing": 0.1, "memory": 0.98},
    "swings of 200 requests": {"swing": 0.05, "memory": 0.995},
    "processes with levels of their own": {"level": 0.05},
    "levels and swings": {"level": 0.05, "swing": 0.05, "memory": 0.98},
    "one process, swings of 10 requests": {"processes": 1, "windows": 28, "swing": 0.1, "memory": 0.9},
    "one process, swings of 50 requests": {"processes": 1, "windows": 28, "swing": 0.05, "memory": 0.98},
}


def misses(scenario, of):
    rng = np.random.default_rng(7)
    intervals = [of(world(rng, **SCENARIOS[scenario])) for _ in range(WORLDS)]
    return sum(not found.low <= 1 <= found.high for found in intervals) / WORLDS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_interval_of_the_median_covers_it_in_93_percent_of_worlds(scenario):
    assert misses(scenario, lambda made: request_quantiles(made, (0.5,))[0]) <= 0.07


def test_intervals_for_independent_requests_miss_the_median_of_dependent_ones():
    """What the widest of three is for; the simulation would show nothing if these covered too."""
    assert misses("swings of 50 requests", lambda made: quantile_with_interval(made.ravel(), 0.5)) > 0.3
    assert misses("processes with levels of their own", lambda made: quantile_with_interval(made.ravel(), 0.5)) > 0.2


def test_two_runs_of_one_artifact_have_intervals_that_overlap():
    rng, apart = np.random.default_rng(3), 0
    for _ in range(WORLDS):
        one, two = (request_quantiles(world(rng, **SCENARIOS["levels and swings"]), (0.5,))[0] for _ in range(2))
        apart += one.low > two.high or two.low > one.high
    assert apart / WORLDS <= 0.05


def test_the_interval_contains_that_for_independent_requests_and_students_of_the_processes():
    made = world(np.random.default_rng(1), level=0.3)
    (found,) = request_quantiles(made, (0.5,))
    alone = quantile_with_interval(made.ravel(), 0.5)
    assert found.low <= alone.low < alone.high <= found.high
    logs = np.log(np.median(made.reshape(3, -1), axis=1))
    reach = 4.302653 * logs.std(ddof=1) / np.sqrt(3)  # t(0.975, 2) of a printed table
    assert (np.log(found.low), np.log(found.high)) == pytest.approx(
        (logs.mean() - reach, logs.mean() + reach), rel=1e-5
    )
    assert (found.point, found.num_samples) == (alone.point, alone.num_samples)


def test_one_window_has_the_interval_for_independent_requests():
    (found,) = request_quantiles([[np.arange(1.0, 101.0)]], (0.5,))
    low, high = interval_ranks(100, 0.5)
    assert (found.low, found.high) == (low, high)


def test_an_upper_end_that_the_sample_cannot_support_stays_unknown():
    made = world(np.random.default_rng(1), processes=1)[:, :12]
    (found,) = request_quantiles(made, (0.99,))
    assert isinstance(found, QuantileEstimate) and found.high is None


def verdict_of(made):
    return with_steadiness(CLEAN, np.median(made, axis=2).tolist())


@pytest.mark.parametrize(
    ("parts", "most"),
    [
        ({}, 0.0),
        ({"swing": 0.1, "memory": 0.9}, 0.03),
        ({"level": 0.01, "swing": 0.02, "memory": 0.98}, 0.05),
        ({"noise": 0.8}, 0.03),  # texts of very different lengths
    ],
)
def test_steady_measurements_are_seldom_said_to_drift(parts, most):
    rng = np.random.default_rng(5)
    said = [verdict_of(world(rng, **parts)).verdict == "not steady" for _ in range(WORLDS)]
    assert np.mean(said) <= most


@pytest.mark.parametrize("processes", [1, 3])
def test_a_machine_that_slows_down_by_half_is_not_steady(processes):
    rng = np.random.default_rng(5)
    said = [verdict_of(world(rng, processes, drift=np.log(1.5))) for _ in range(WORLDS)]
    assert np.mean([found.verdict == "not steady" for found in said]) >= 0.99
    assert "half 2 against process" in said[0].causes[0]


def test_processes_whose_levels_differ_are_not_steady_and_the_cause_names_them():
    made = world(np.random.default_rng(2), noise=0.01)
    made[1] *= 1.8
    found = verdict_of(made)
    assert found.verdict == "not steady"
    assert (
        found.causes[0].startswith(("latency differs by 80 %", "latency differs by 81 %"))
        and "(process 2" in found.causes[0]
    )


def test_the_limit_is_a_tenth():
    made = np.ones((1, 8))
    for factor, verdict in ((1 + 0.99 * MAX_DRIFT, "clean"), (1 + 1.01 * MAX_DRIFT, "not steady")):
        made[0, 4:] = factor
        assert with_steadiness(CLEAN, made.tolist()).verdict == verdict


def test_few_windows_and_disturbed_measurements_are_not_judged_by_their_latencies():
    drifting = [[1.0, 1.0, 1.0, 2.0, 2.0]]
    assert with_steadiness(CLEAN, drifting) == CLEAN
    disturbed = Verdict("contaminated", (), 0.1, ())
    assert with_steadiness(disturbed, [[1.0] * 4 + [2.0] * 4]) == disturbed
    assert with_steadiness(CLEAN, []) == CLEAN
