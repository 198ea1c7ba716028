"""A made-up measurement that can be worked out by hand.

A process answers requests of 10, 20, 30, ... tokens in 1 ms + 0.1 ms a token, in windows of a few requests.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from moodbench.config.catalogue import load_catalogue
from moodbench.evaluation.measuring import NEAR_TIE, disturbed_processes, judge, samples_of, summarise
from moodbench.metrics.measurement import Window, interval_ranks, judge_windows, samples_needed

IDS = np.array(["a", "b", "c"])
LABELS = {"a": 0, "b": 1, "c": 1}
EVALUATED = pd.DataFrame(
    {
        "example_id": IDS,
        "label": [0, 1, 0],
        "predicted": [0, 1, 1],
        "logits": [np.float32([2.0, -1.0]), np.float32([0.0, 0.5]), np.float32([0.0, NEAR_TIE / 2])],
    }
)
SIZES = {
    "weights_bytes": 100, "memory_imports_bytes": 200, "memory_loaded_bytes": 300, "memory_peak_load_bytes": 400,
    "memory_peak_batch1_bytes": 500, "memory_peak_bytes": 600,
    "gpu_peak_allocated_bytes": None, "gpu_peak_reserved_bytes": None,
}  # fmt: skip
COLD = {
    "cold_start_s": 4.0,
    "cold_interpreter_s": 1.0,
    "cold_import_s": 1.5,
    "cold_load_s": 1.0,
    "cold_first_label_s": 0.5,
}


def point(batch_size, texts_per_s, **changes):
    return {
        "batch_size": batch_size, "texts_per_s": texts_per_s, "tokens_per_s": 20 * texts_per_s,
        "texts_per_cpu_s": texts_per_s / 2, "useful_share": 0.9, "num_texts": 640, "seconds": 2.0,
    } | changes  # fmt: skip


POINTS = [point(1, 285.0), point(4, 390.0), point(16, 400.0), point(64, 380.0)]


def process(num_requests=40, window_requests=10, delayed_windows=(), points=POINTS, shift_s=0.0, **changes):
    """The raw figures of one process; `delayed_windows` waited for a processor a tenth of their time."""
    rows = [i % 3 for i in range(num_requests)]
    tokens = [10 * (1 + i % 4) for i in range(num_requests)]
    latency = [0.001 + 0.0001 * n + shift_s for n in tokens]
    window = [i // window_requests for i in range(num_requests)]
    requests = {
        "latency_s": latency,
        "cpu_s": [value / 2 for value in latency],
        "run_delay_s": [0.1 * x if w in delayed_windows else 0.0 for x, w in zip(latency, window, strict=True)],
        "num_tokens": tokens,
        "window": window,
        "predicted": [LABELS[IDS[row]] for row in rows],
    }
    return {"requests": requests | changes, "request_rows": rows, "throughput_points": points, **COLD, **SIZES}


@pytest.fixture(scope="module")
def spec():
    from moodbench.benchmark.resolve import resolve
    from moodbench.hardware import Hardware
    from moodbench.spec import BenchmarkSpec

    request = BenchmarkSpec(models=("majority",), datasets=("icwsm-movie",))
    return resolve(request, load_catalogue(), Hardware("Toy CPU", 2, 2**33, (), mps=False))[-1].measure


def measured(spec, *processes, evaluated=EVALUATED, num_threads=1):
    verdict, samples = judge(samples_of(list(processes), IDS), num_threads)
    return summarise(spec, list(processes), samples, verdict, evaluated)


def test_samples_are_every_request_in_order_with_its_process_window_and_example():
    samples = samples_of([process(6, 3), process(3, 3)], IDS)
    assert samples["process"].tolist() == [0] * 6 + [1] * 3
    assert samples["request"].tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert samples["window"].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert samples["example_id"].tolist() == list("abcabcabc")
    assert set(samples["scenario"]) == {"single_stream"}


def test_an_entry_without_tokens_has_no_token_counts_and_no_length_model(spec):
    record = measured(spec, process(num_tokens=[-1] * 40))
    assert samples_of([process(num_tokens=[-1] * 40)], IDS)["num_tokens"].isna().all()
    assert (record["length_intercept_s"], record["length_slope_s_per_token"]) == (None, None)


def test_the_median_of_an_undisturbed_stream_is_that_of_its_latencies(spec):
    record = measured(spec, process())
    assert (record["verdict"], record["clean_share"], record["causes"]) == ("clean", 1.0, [])
    assert (record["num_processes"], record["num_requests"], record["num_clean_requests"]) == (1, 40, 40)
    # ten requests each of 2, 3, 4 and 5 ms
    assert record["latency_p50_s"] == pytest.approx(0.0035)
    low, high = interval_ranks(40, 0.5)
    assert (record["latency_p50_low_s"], record["latency_p50_high_s"]) == pytest.approx(
        (0.002 + 0.001 * ((low - 1) // 10), 0.002 + 0.001 * ((high - 1) // 10))
    )
    assert record["cpu_time_p50_s"] == pytest.approx(0.00175)
    assert record["run_delay_share"] == 0


def test_the_length_model_recovers_the_line_the_latencies_lie_on(spec):
    record = measured(spec, process())
    assert record["length_intercept_s"] == pytest.approx(0.001)
    assert record["length_slope_s_per_token"] == pytest.approx(0.0001)


def test_texts_of_one_length_have_no_length_model(spec):
    assert measured(spec, process(num_tokens=[10] * 40))["length_slope_s_per_token"] is None


KNEES = [
    # texts/s at batch sizes 1, 4, 16, 64, and the smallest that reaches 95 % of the best
    ((100, 390, 400, 380), 4),
    ((100, 379, 400, 380), 16),
    ((100, 380, 400, 380), 4),
    ((380, 390, 400, 400), 1),
    ((100, 200, 300, 400), 64),
]


@pytest.mark.parametrize(("rates", "knee"), KNEES)
def test_the_knee_is_the_smallest_batch_within_five_percent_of_the_best(spec, rates, knee):
    points = [point(size, float(rate)) for size, rate in zip((1, 4, 16, 64), rates, strict=True)]
    record = measured(spec, process(points=points[::-1]))
    rate = rates[(1, 4, 16, 64).index(knee)]
    assert (record["throughput_batch_size"], record["throughput_texts_per_s"]) == (knee, rate)
    assert record["throughput_tokens_per_s"] == 20 * rate
    assert [p["batch_size"] for p in record["throughput_points"]] == [1, 4, 16, 64]


def test_a_throughput_point_is_the_median_over_repeats_and_processes(spec):
    first = process(points=[point(1, 10.0), point(1, 90.0)])
    second = process(points=[point(1, 20.0, texts_per_cpu_s=None)])
    (only,) = measured(spec, first, second)["throughput_points"]
    assert (only["texts_per_s"], only["texts_per_cpu_s"], only["num_texts"]) == (20.0, 25.0, 640)


def test_each_process_has_its_own_median_latency_and_its_rate_at_the_knee_of_all(spec):
    slow = [point(1, 50.0), point(4, 300.0), point(4, 100.0), point(16, 90.0), point(64, 80.0)]
    record = measured(spec, process(), process(shift_s=0.002, points=slow))
    assert record["throughput_batch_size"] == 4, "medians 75, 300, 245, 230"
    # ten requests each of 2, 3, 4 and 5 ms, and 2 ms more
    assert record["process_speed"] == [
        {"latency_p50_s": pytest.approx(0.0035), "texts_per_s": 390.0},
        {"latency_p50_s": pytest.approx(0.0055), "texts_per_s": 200.0},
    ]


def test_throughput_of_an_entry_without_tokens_has_no_token_rate(spec):
    record = measured(spec, process(points=[point(1, 10.0, tokens_per_s=None, useful_share=None)]))
    assert (record["throughput_texts_per_s"], record["throughput_tokens_per_s"]) == (10.0, None)


def test_cold_start_and_memory_are_medians_over_processes_and_unknown_when_one_does_not_know(spec):
    figures = ({"cold_start_s": 1.0, "memory_peak_bytes": 10}, {"cold_start_s": 9.0}, {"cold_start_s": 5.0})
    record = measured(spec, *(process() | f for f in figures))
    assert (record["cold_start_s"], record["memory_peak_bytes"], record["weights_bytes"]) == (5.0, 600, 100)
    assert record["gpu_peak_allocated_bytes"] is None
    assert measured(spec, process(), process() | {"memory_loaded_bytes": None})["memory_loaded_bytes"] is None


def test_windows_are_kept_by_their_run_delay_alone_and_never_by_their_latency():
    slow = [1.0 if i // 10 == 2 else 0.002 for i in range(200)]
    calm = process(200, 10, latency_s=slow, cpu_s=slow, run_delay_s=[0.0] * 200)
    verdict, samples = judge(samples_of([calm], IDS), 1)
    assert (verdict.verdict, samples["kept"].all()) == ("clean", True)
    delayed = process(200, 10, delayed_windows=(2, 5))
    verdict, samples = judge(samples_of([delayed], IDS), 1)
    assert verdict.verdict == "clean"
    assert verdict.share_clean == pytest.approx(0.9)
    assert set(samples.loc[~samples["kept"], "window"]) == {2, 5}
    assert samples["kept"].sum() == 180


def test_a_window_is_one_of_one_process():
    verdict, samples = judge(samples_of([process(40, 10, (1,)), process(40, 10)], IDS), 1)
    dropped = samples[~samples["kept"]]
    assert set(zip(dropped["process"], dropped["window"], strict=True)) == {(0, 1)}
    assert len(verdict.kept) == 8


def test_a_clean_measurement_uses_the_kept_windows_and_a_contaminated_one_all(spec):
    def with_slow_delayed(num_delayed):
        windows = set(range(num_delayed))
        latency = [0.9 if i // 10 in windows else 0.002 for i in range(200)]
        delay = [0.09 if i // 10 in windows else 0.0 for i in range(200)]
        return process(200, 10, points=POINTS[1:], latency_s=latency, cpu_s=latency, run_delay_s=delay)

    clean, contaminated = measured(spec, with_slow_delayed(6)), measured(spec, with_slow_delayed(12))
    assert (clean["verdict"], clean["num_clean_requests"], clean["latency_p50_s"]) == ("clean", 140, 0.002)
    assert (contaminated["verdict"], contaminated["num_clean_requests"]) == ("contaminated", 80)
    assert contaminated["latency_p50_s"] == 0.9
    assert contaminated["run_delay_share"] == pytest.approx(0.1, rel=0.01)
    assert any("40 % of windows are clean" in cause for cause in contaminated["causes"])


@pytest.mark.parametrize(("num_threads", "verdict"), [(1, "clean"), (4, "unknown")])
def test_without_run_delay_one_thread_is_judged_by_cpu_time_and_several_are_not_judged(spec, num_threads, verdict):
    busy = [0.001 + 0.0001 * 10 * (1 + i % 4) for i in range(40)]
    record = measured(spec, process(run_delay_s=[None] * 40, cpu_s=busy), num_threads=num_threads)
    assert (record["verdict"], record["run_delay_share"]) == (verdict, None)
    assert record["latency_p50_s"] == pytest.approx(0.0035)


@pytest.mark.parametrize(("num_requests", "published"), [(661, False), (662, True)])
def test_p99_is_withheld_below_662_clean_requests(spec, num_requests, published):
    record = measured(spec, process(num_requests, 100))
    assert (record["latency_p99_s"] is not None) == published
    assert record["latency_p99_needed"] == samples_needed(0.99) == 662
    assert record["latency_p90_s"] == pytest.approx(0.005)


def test_requests_of_dropped_windows_do_not_count_towards_p99(spec):
    one, two = measured(spec, process(700, 25, (3,))), measured(spec, process(700, 25, (3, 9)))
    assert (one["num_clean_requests"], two["num_clean_requests"]) == (675, 650)
    assert (one["latency_p99_s"], two["latency_p99_s"]) == (pytest.approx(0.005), None)


def test_timed_labels_that_equal_the_evaluated_ones_agree(spec):
    record = measured(spec, process(39))
    # b and c are called 1; c is truly 0
    assert (record["num_compared"], record["agreement"]) == (39, 1.0)
    assert record["form_accuracy"] == pytest.approx(2 / 3)


def flipped(example_id):
    return [1 - LABELS[IDS[i % 3]] if IDS[i % 3] == example_id else LABELS[IDS[i % 3]] for i in range(39)]


@pytest.mark.parametrize(
    ("example_id", "verdict", "accuracy"), [("a", "invalid", 1 / 3), ("b", "invalid", 1 / 3), ("c", "clean", 1)]
)
def test_a_changed_label_makes_a_measurement_invalid_unless_it_was_a_near_tie(spec, example_id, verdict, accuracy):
    record = measured(spec, process(39, predicted=flipped(example_id)))
    assert record["verdict"] == verdict
    assert record["agreement"] == pytest.approx(2 / 3)
    assert record["form_accuracy"] == pytest.approx(accuracy)
    assert record["causes"] == ([] if verdict == "clean" else ["13 timed labels differ from the evaluated ones"])


def test_a_near_tie_is_between_the_two_labels_and_not_any_two(spec):
    logits = [np.float32([5.0, 0.0, 0.0]), np.float32([0.0, 3.0, 3.0 - NEAR_TIE / 2]), np.float32([0.0, 1.0, 0.0])]
    three = EVALUATED.assign(logits=logits)
    for label, verdict in ((2, "clean"), (0, "invalid")):
        timed = [label if IDS[i % 3] == "b" else LABELS[IDS[i % 3]] for i in range(39)]
        assert measured(spec, process(39, predicted=timed), evaluated=three)["verdict"] == verdict


def test_the_order_of_the_evaluated_rows_does_not_matter(spec):
    assert measured(spec, process(39), evaluated=EVALUATED[::-1]) == measured(spec, process(39))


def test_the_windows_judged_are_the_sums_over_their_requests():
    verdict, _ = judge(samples_of([process(20, 10, (1,))], IDS), 1)
    # 10 requests of 2, 3, 4, 5, 2, 3, ... ms: 33 and 37 ms
    by_hand = [Window(0.033, 0.0165, 0.0), Window(0.037, 0.0185, 0.0037)]
    assert verdict == judge_windows(by_hand, num_threads=1)


def test_of_a_disturbed_measurement_only_the_disturbed_processes_are_measured_again():
    processes = [process(), process(40, 10, (0, 1, 2, 3)), process(40, 10, (2,))]
    verdict, samples = judge(samples_of(processes, IDS), 1)
    assert verdict.verdict == "contaminated"  # 7 of 12 windows are clean
    assert disturbed_processes(verdict, samples, []) == [1]
    calm = [process(), process(40, 10, (0, 1)), process()]
    verdict, samples = judge(samples_of(calm, IDS), 1)
    assert (verdict.verdict, disturbed_processes(verdict, samples, [])) == ("clean", [])


def test_a_measurement_repeats_the_disturbed_process_says_why_and_keeps_the_others(spec, monkeypatch):
    from moodbench import trial

    asked, told = [], []

    def run_process(spec, artifact, texts, number, report, num_gpus):
        asked.append(number)
        return process(40, 10, (0, 1, 2, 3) if asked.count(1) == 1 and number == 1 else ())

    rows = pd.DataFrame({"example_id": IDS, "text": ["x", "y", "z"]})
    monkeypatch.setattr(trial.measuring, "run_process", run_process)
    monkeypatch.setattr(trial, "examples_of", lambda fit: SimpleNamespace(split=lambda name: rows))
    protocol = spec.protocol.model_copy(update={"processes": 3, "max_attempts": 3, "backoff_s": 0.0})
    steps = trial.run_measure(
        spec.model_copy(update={"protocol": protocol}), Path("artifact"), EVALUATED, "exclusive", told.append
    )
    with pytest.raises(StopIteration) as ended:
        while True:
            next(steps)
    record = ended.value.value.columns
    assert asked == [0, 1, 2, 1]
    assert (record["verdict"], record["attempts"], record["num_processes"], len(record["turns"])) == ("clean", 2, 3, 4)
    assert [event["disturbed_processes"] for event in told] == [1]
    assert told[0]["causes"] == ["only 67 % of windows are clean", "4 of 12 windows: run delay above 5 % of wall time"]
