from dataclasses import fields

import numpy as np
import pytest

from moodbench.metrics.measurement import Window, judge_windows

CLEAN = Window(wall_s=1.0, cpu_s=0.9, run_delay_s=0.02)
SUSPECT = Window(wall_s=2.0, cpu_s=1.9, run_delay_s=0.1)
BAD = Window(wall_s=1.0, cpu_s=1.0, run_delay_s=0.06)


@pytest.mark.parametrize(
    ("num_clean", "verdict"), [(20, "clean"), (18, "clean"), (17, "clean"), (14, "clean"), (13, "contaminated")]
)
def test_the_verdict_follows_the_share_of_clean_windows(num_clean, verdict):
    judged = judge_windows([CLEAN] * num_clean + [BAD] * (20 - num_clean), num_threads=1)
    assert judged.verdict == verdict
    assert judged.share_clean == pytest.approx(num_clean / 20)
    assert judged.kept == (True,) * num_clean + (False,) * (20 - num_clean)


def test_the_share_is_named_only_where_windows_decide():
    assert judge_windows([CLEAN] * 10, num_threads=1).causes == ()
    assert judge_windows([CLEAN] * 9 + [BAD], num_threads=1).causes == (
        "1 of 10 windows: run delay above 5 % of wall time",
    )
    assert (
        judge_windows([CLEAN] * 8 + [BAD, SUSPECT], num_threads=1).causes[0] == "only the 80 % clean windows are used"
    )
    assert judge_windows([CLEAN] * 6 + [BAD] * 4, num_threads=1).causes[0] == "only 60 % of windows are clean"


def test_suspect_windows_are_dropped_and_counted_apart():
    judged = judge_windows([CLEAN, SUSPECT, BAD], num_threads=4)
    assert judged.kept == (True, False, False)
    assert judged.causes[1:] == (
        "1 of 3 windows: run delay of 2-5 % of wall time",
        "1 of 3 windows: run delay above 5 % of wall time",
    )


def test_run_delay_decides_even_where_cpu_time_says_otherwise():
    assert judge_windows([Window(1.0, 0.3, 0.0)], num_threads=1).verdict == "clean"
    assert judge_windows([Window(1.0, 1.0, 0.5)], num_threads=1).verdict == "contaminated"


def test_without_run_delay_one_thread_is_judged_by_cpu_time_and_more_are_not():
    on_cpu, starved = Window(1.0, 0.95, None), Window(1.0, 0.94, None)
    judged = judge_windows([on_cpu] * 9 + [starved], num_threads=1)
    assert (judged.verdict, judged.kept[-1]) == ("clean", False)
    assert judged.causes == ("1 of 10 windows: CPU time below 95 % of wall time",)
    unknown = judge_windows([on_cpu] * 10, num_threads=2)
    assert (unknown.verdict, unknown.share_clean, unknown.kept) == ("unknown", None, (True,) * 10)


def test_one_window_without_a_signal_leaves_the_verdict_unknown_but_bad_ones_are_dropped():
    judged = judge_windows([CLEAN, BAD, Window(1.0, 1.9, None)], num_threads=2)
    assert (judged.verdict, judged.kept) == ("unknown", (True, False, True))


def test_no_windows_give_no_verdict():
    assert judge_windows([], num_threads=1).verdict == "unknown"


def test_latency_does_not_matter():
    """A window has no latencies, and ones 100 times slower with the same shares are kept and dropped alike."""
    assert {f.name for f in fields(Window)} == {"wall_s", "cpu_s", "run_delay_s", "steal_s", "canary"}
    rng = np.random.default_rng(3)
    delays = rng.uniform(0, 0.04, 50)
    slowness = rng.choice([1.0, 100.0], 50)
    fast = [Window(1.0, 1.0, delay) for delay in delays]
    mixed = [Window(slow, slow, delay * slow) for delay, slow in zip(delays, slowness, strict=True)]
    assert judge_windows(fast, num_threads=1) == judge_windows(mixed, num_threads=1)
    assert judge_windows(fast, num_threads=1).kept == tuple(delays <= 0.02)


def test_impossible_clocks_are_refused():
    with pytest.raises(ValueError, match="takes time"):
        Window(0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="at least 1"):
        judge_windows([CLEAN], num_threads=0)
