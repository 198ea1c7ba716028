"""Verdicts by what the machine did: canary, steal time, throughput windows, Little's law; and two runs of one artifact."""

import numpy as np
import pandas as pd
import pytest
from board_records import BASELINE, WORKED, board_of, row_of

from moodbench.analysis.trials import MAX_CANARY_RATIO, canary_ratios
from moodbench.evaluation.measuring import check_little, disturbed_processes, judge, samples_of, summarise, windows_of
from moodbench.metrics.measurement import CLOCK_TICK_S, Verdict, Window, judge_windows, with_little
from moodbench.report.formatting import marks

WINDOWS, SIZE = 16, 25
COLD = dict.fromkeys(("cold_start_s", "cold_interpreter_s", "cold_import_s", "cold_load_s", "cold_first_label_s"), 1.0)
SIZES = dict.fromkeys(
    ("weights_bytes", "memory_imports_bytes", "memory_loaded_bytes", "memory_peak_load_bytes", "memory_peak_batch1_bytes",
     "memory_peak_bytes", "gpu_peak_allocated_bytes", "gpu_peak_reserved_bytes"), 1
)  # fmt: skip
EVALUATED = pd.DataFrame({"example_id": ["a"], "label": [0], "predicted": [0], "logits": [np.float32([1.0, 0.0])]})


def process(latency_s, canary_s=0.02, points=((1, None, 0.0), (8, 900.0, 0.0))):
    """One process that took `latency_s` (windows, requests); a point is batch size, texts/s and run delay in a second.

    The throughput at batch size 1 is what the latencies give unless it is stated. `canary_s` is of all windows or of each.
    """
    flat, canaries = np.asarray(latency_s).ravel(), np.broadcast_to(canary_s, len(latency_s)).tolist()
    own = [
        {"batch_size": None, "canary_s": canary, "wall_s": float(window.sum()), "cpu_s": float(window.sum()),
         "run_delay_s": 0.0, "steal_s": 0.0}
        for window, canary in zip(latency_s, canaries, strict=True)
    ]  # fmt: skip
    own += [
        {"batch_size": size, "canary_s": canaries[0], "wall_s": 1.0, "cpu_s": 1.0, "run_delay_s": delay, "steal_s": 0.0}
        for size, _, delay in points
    ]
    throughput = [
        {"batch_size": size, "texts_per_s": rate or 1 / flat.mean(), "tokens_per_s": None, "texts_per_cpu_s": None,
         "useful_share": None, "num_texts": 100, "seconds": 1.0}
        for size, rate, _ in points
    ]  # fmt: skip
    requests = {
        "latency_s": flat.tolist(), "cpu_s": flat.tolist(), "run_delay_s": [0.0] * len(flat), "num_tokens": [-1] * len(flat),
        "window": np.repeat(np.arange(len(latency_s)), len(flat) // len(latency_s)).tolist(), "predicted": [0] * len(flat),
    }  # fmt: skip
    return {"requests": requests, "request_rows": [0] * len(flat), "throughput_points": throughput, "windows": own,
            **COLD, **SIZES}  # fmt: skip


def record_of(*processes):
    verdict, samples = judge(samples_of(list(processes), np.array(["a"])), 1, windows_of(list(processes)))
    return summarise(None, list(processes), samples, verdict, EVALUATED), samples


STEADY = np.full((WINDOWS, SIZE), 0.01)


def test_a_quiet_machine_is_clean():
    record, _ = record_of(process(STEADY), process(STEADY))
    assert (record["verdict"], record["causes"], record["clean_share"]) == ("clean", [], 1.0)
    assert [w["process"] for w in record["windows"]] == [0] * 18 + [1] * 18
    assert [w["batch_size"] for w in record["windows"][14:18]] == [None, None, 1, 8]


def test_windows_after_a_slow_canary_are_dropped_whatever_their_latency():
    canaries = [0.02] * 14 + [0.03] * 2
    record, samples = record_of(process(STEADY, canaries))
    assert set(samples.loc[~samples["kept"], "window"]) == {14, 15}
    assert (record["verdict"], record["clean_share"]) == ("clean", 14 / 16)
    assert record["causes"][1].startswith("2 of 16 windows: a fixed piece of work")


def test_most_windows_with_a_slow_canary_are_a_disturbed_measurement():
    assert record_of(process(STEADY, [0.02] * 11 + [0.03] * 5))[0]["verdict"] == "contaminated"


def test_stolen_time_counts_from_a_twentieth_and_a_tick_of_the_clock():
    window = Window(1.0, 1.0, 0.0, steal_s=0.05 + CLOCK_TICK_S)
    assert judge_windows([window], num_threads=2).verdict == "clean"
    stolen = judge_windows([Window(1.0, 1.0, 0.0, steal_s=0.051 + CLOCK_TICK_S)], num_threads=2)
    assert (stolen.verdict, stolen.causes[-1]) == (
        "contaminated", "1 of 1 windows: a hypervisor gave more than 5 % of wall time to others",
    )  # fmt: skip
    unseen = judge_windows([Window(1.0, 1.0, 0.0, steal_s=None)], num_threads=2)
    assert unseen.verdict == "clean", "systems that do not tell it"


def test_a_disturbed_window_of_throughput_is_left_out_where_a_clean_one_has_the_same_batch_size():
    points = ((1, 100.0, 0.0), (8, 900.0, 0.0), (8, 300.0, 0.3), (8, 850.0, 0.01), (16, 500.0, 0.2), (1, 100.0, 0.0),
              (16, 520.0, 0.0), (1, 100.0, 0.0))  # fmt: skip
    record, _ = record_of(process(STEADY, points=points))
    assert [p["texts_per_s"] for p in record["throughput_points"]] == [100.0, 875.0, 520.0]
    assert record["process_speed"][0]["texts_per_s"] == record["throughput_texts_per_s"] == 875.0
    assert record["verdict"] == "clean"
    assert "throughput: 2 of 8 windows: run delay above 5 % of wall time" in record["causes"]


def test_throughput_that_was_mostly_disturbed_disturbs_the_measurement_and_keeps_its_only_figures():
    record, _ = record_of(process(STEADY, points=((1, 100.0, 0.5), (8, 200.0, 0.5))))
    assert (record["verdict"], record["throughput_texts_per_s"]) == ("contaminated", 200.0)
    assert record["causes"][0] == "throughput: only 0 % of windows are clean"


@pytest.mark.parametrize(
    ("mean_s", "texts_per_s", "verdict"),
    [
        (0.010, 100.0, "clean"),
        (0.010, 1 / 0.0119, "clean"),
        (0.010, 1 / 0.0121, "not steady"),
        (0.010, 1 / 0.0079, "not steady"),  # an answer that was not waited for
        (0.000004, 1 / 0.00005, "clean"),  # a constant answer: reading the clock takes longer
    ],
)
def test_latency_and_throughput_of_single_texts_obey_littles_law(mean_s, texts_per_s, verdict):
    found = with_little(Verdict("clean", (), 1.0, ()), mean_s, texts_per_s)
    assert found.verdict == verdict
    assert bool(found.causes) == (verdict == "not steady")


def test_littles_law_is_asked_only_where_single_texts_were_batched_too():
    clean = Verdict("clean", (True,), 1.0, ())
    samples = pd.DataFrame({"latency_s": [0.01], "kept": [True]})
    assert check_little(clean, samples, [{"batch_size": 4, "texts_per_s": 1.0}]) == clean
    assert check_little(clean, samples, [{"batch_size": 1, "texts_per_s": 1.0}]).verdict == "not steady"
    assert check_little(clean, samples, [{"batch_size": 1, "texts_per_s": 1.0}], protocol_version=1) == clean


def test_the_canary_compares_the_measurements_of_one_machine():
    times = [[0.02, 0.02, 0.5], [0.03], None, [0.01]]
    measurements = pd.DataFrame(
        {
            "machine_key": ["m", "m", "m", "other"],
            "windows": [None if t is None else [{"canary_s": s} for s in t] for t in times],
        }
    )
    assert canary_ratios(measurements).tolist() == pytest.approx([1.0, 1.5, np.nan, 1.0], nan_ok=True)


def test_an_entry_that_a_slow_machine_measured_is_marked():
    def at(seconds):
        return {"windows": [{"canary_s": seconds}]}

    board = board_of(BASELINE | at(0.02), WORKED | at(0.02 * 1.01 * MAX_CANARY_RATIO))
    assert marks(row_of(board, "mini")) == ("slow machine",)
    assert marks(row_of(board, "tfidf-logreg")) == ()
    assert marks(row_of(board_of(BASELINE | at(0.02), WORKED), "mini")) == (), "measured before there was a canary"


def run_of(rng):
    """A measurement on a machine whose state changes from one measurement to the next, by up to a factor of 1.8.

    Processes differ by 2 %, requests by 20 %; neighbours are correlated.
    """
    state = rng.choice([1.0, 1.0, 1.3, 1.8])
    made = []
    for _ in range(3):
        swings = np.repeat(rng.normal(0, 0.03, WINDOWS), SIZE).reshape(WINDOWS, SIZE)
        latency = 0.01 * state * np.exp(rng.normal(0, 0.02) + swings + rng.normal(0, 0.2, (WINDOWS, SIZE)))
        made.append(process(latency, canary_s=0.02 * state * np.exp(rng.normal(0, 0.01))))
    return record_of(*made)[0]


def test_two_runs_of_one_artifact_agree_within_their_intervals_or_one_is_marked():
    rng, apart, unmarked, runs = np.random.default_rng(11), 0, 0, 100
    for _ in range(runs):
        pair = [run_of(rng), run_of(rng)]
        disjoint = max(r["latency_p50_low_s"] for r in pair) > min(r["latency_p50_high_s"] for r in pair)
        frame = pd.DataFrame({"machine_key": "m", "windows": [r["windows"] for r in pair]})
        told = (canary_ratios(frame) > MAX_CANARY_RATIO).any() or any(r["verdict"] != "clean" for r in pair)
        apart += disjoint
        unmarked += disjoint and not told
    assert apart / runs > 0.2, "a machine that is 1.8 times as slow shows in the intervals"
    assert unmarked / runs <= 0.05


def test_processes_with_disturbed_throughput_are_measured_again_and_drift_alone_repeats_nothing():
    delayed = process(STEADY, points=((1, None, 0.1), (8, 900.0, 0.1)))
    processes = [process(STEADY), delayed, process(STEADY)]
    windows = windows_of(processes)
    verdict, samples = judge(samples_of(processes, np.array(["a"])), 1, windows)
    assert (verdict.verdict, disturbed_processes(verdict, samples, windows)) == ("contaminated", [1])
    drifting = [process(STEADY), process(1.2 * STEADY)]
    windows = windows_of(drifting)
    verdict, samples = judge(samples_of(drifting, np.array(["a"])), 1, windows)
    assert (verdict.verdict, disturbed_processes(verdict, samples, windows)) == ("not steady", [])
