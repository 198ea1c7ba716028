"""Speed and memory of a saved artifact, measured in consecutive fresh processes and summarised in one record."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.metrics.measurement import (
    MIN_CLEAN_SHARE,
    Verdict,
    Window,
    judge_windows,
    quantile_with_interval,
    request_quantiles,
    with_batches,
    with_little,
    with_steadiness,
)
from moodbench.runtime.process import Outcome, ProcessError, RunningProcess
from moodbench.spec import MeasureSpec
from moodbench.spec.resolved import MEASURE_PROTOCOL_VERSION

NEAR_TIE = 1e-3
"""Logit difference below which labels may differ between batch shapes.

A label that differs by more shows that the measured form of the model is wrong.
"""
STEADINESS_FROM_VERSION = 2
"""Protocol version from which drift is judged, and intervals allow for requests that depend on each other."""
KNEE_SHARE = 0.95
"""Share of the best throughput that defines the knee, the smallest batch size to reach it."""

Processes = Sequence[Mapping[str, Any]]
Windows = Sequence[Mapping[str, Any]]


def run_process(
    spec: MeasureSpec,
    artifact: Path,
    texts: list[str],
    number: int,
    report: Callable[[Mapping[str, Any]], None],
    num_gpus: int = 1,
) -> Mapping[str, Any]:
    """Return the raw measurements of a fresh process, the one with this `number`, from 0.

    The order of requests is seeded and differs between numbers. A model too large for one CUDA device is spread over
    `num_gpus`.

    Raises: ProcessError if the process ends without its measurements.
    """
    job = {"spec": spec.model_dump(mode="json"), "artifact": str(artifact), "num_gpus": num_gpus, "texts": texts}
    report({"step": number, "num_steps": spec.protocol.processes})
    process = RunningProcess(
        ("-m", "moodbench.evaluation.speed_process"),
        json.dumps({**job, "seed": number, "spawned_ns": time.monotonic_ns()}),
        spec.num_threads,
        environment={"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
    )
    measured: Mapping[str, Any] = {}
    for message in process.messages():
        if not isinstance(message, Outcome):
            measured = message
        elif message.kind != "ok":
            raise ProcessError("measuring", message)
    report({"step": number + 1, "num_steps": spec.protocol.processes})
    return measured


def samples_of(processes: Processes, example_ids: npt.NDArray[Any]) -> pd.DataFrame:
    """Return one row per single-stream request, in order, with its process and window; `judge` adds `kept`."""
    frames = []
    for number, process in enumerate(processes):
        frame = pd.DataFrame(process["requests"])
        frame.insert(0, "process", number)
        frame["request"] = range(len(frame))
        frame["example_id"] = example_ids[process["request_rows"]]
        frames.append(frame)
    samples = pd.concat(frames, ignore_index=True)
    return samples.assign(
        scenario="single_stream",
        num_tokens=samples["num_tokens"].where(samples["num_tokens"] >= 0),
        run_delay_s=samples["run_delay_s"].astype("float64"),  # all None on systems without schedstat
    )


def windows_of(processes: Processes) -> list[dict[str, Any]]:
    """Return the signals of the windows of all processes in order, as in a measurement record."""
    return [
        {"process": number, **row} for number, process in enumerate(processes) for row in process.get("windows", ())
    ]


def judge(
    samples: pd.DataFrame,
    num_threads: int,
    windows: Windows = (),
    *,
    protocol_version: int = MEASURE_PROTOCOL_VERSION,
) -> tuple[Verdict, pd.DataFrame]:
    """Return the verdict whether the measurement was disturbed or drifted, and the samples with the column `kept`.

    `windows` has further signals of the windows of single requests, and those of the windows of throughput.

    Windows are dropped by their signals only, never by their latencies, which decide only whether an undisturbed
    measurement is steady.
    """
    sums = samples.groupby(["process", "window"], sort=True)[["latency_s", "cpu_s"]].sum()
    delays = samples.groupby(["process", "window"], sort=True)["run_delay_s"].sum(min_count=1)
    signals = _signals(windows, single=True) or [(None, None)] * len(sums)
    single = [
        Window(wall, cpu, None if np.isnan(delay) else float(delay), *signal)
        for wall, cpu, delay, signal in zip(sums["latency_s"], sums["cpu_s"], delays, signals, strict=True)
    ]
    verdict = judge_windows(single, num_threads=num_threads)
    kept = dict(zip(sums.index, verdict.kept, strict=True))
    keys = zip(samples["process"], samples["window"], strict=True)
    judged = samples.assign(kept=[kept[key] for key in keys])
    if batches := _batch_windows(windows):
        verdict = with_batches(verdict, judge_windows(batches, num_threads=num_threads))
    if protocol_version >= STEADINESS_FROM_VERSION:
        verdict = with_steadiness(verdict, _relative_medians(judged[judged["kept"]]))
    return verdict, judged


def disturbed_processes(verdict: Verdict, samples: pd.DataFrame, windows: Windows) -> list[int]:
    """Return the numbers of the processes of a contaminated measurement that have too few clean windows.

    They are to be measured again. `samples` are those of `judge`. Windows of single requests and of throughput count
    apart. A measurement that is not steady is not repeated: to choose one by its latencies would bend them.
    """
    if verdict.verdict != "contaminated":
        return []
    clean = samples.groupby(["process", "window"])["kept"].first().groupby(level="process").mean()
    numbers = [window["process"] for window in windows if window["batch_size"] is not None]
    batches = pd.Series(verdict.kept_batches, dtype=float).groupby(np.asarray(numbers, dtype=int)).mean()
    return sorted({*clean.index[clean < MIN_CLEAN_SHARE], *batches.index[batches < MIN_CLEAN_SHARE]})


def check_little(
    verdict: Verdict,
    samples: pd.DataFrame,
    points: Sequence[Mapping[str, Any]],
    *,
    protocol_version: int = MEASURE_PROTOCOL_VERSION,
) -> Verdict:
    """Return `verdict` after the comparison of latency and throughput at batch size 1, where that was measured."""
    alone = next((float(point["texts_per_s"]) for point in points if point["batch_size"] == 1), None)
    used = used_samples(samples, verdict.verdict)
    if alone is None or used.empty or protocol_version < STEADINESS_FROM_VERSION:
        return verdict
    return with_little(verdict, float(used["latency_s"].mean()), alone)


def _signals(windows: Windows, *, single: bool) -> list[tuple[float | None, float | None]]:
    """Return steal time and canary of the windows of single requests, or of those of throughput.

    The quick time of the canary is its 5th percentile over the whole measurement.
    """
    quick = float(np.quantile([window["canary_s"] for window in windows], 0.05)) if windows else 1.0
    return [(w["steal_s"], w["canary_s"] / quick) for w in windows if (w["batch_size"] is None) == single]


def _batch_windows(windows: Windows) -> list[Window]:
    batches = [window for window in windows if window["batch_size"] is not None]
    return [
        Window(window["wall_s"], window["cpu_s"], window["run_delay_s"], *signals)
        for window, signals in zip(batches, _signals(windows, single=False), strict=True)
    ]


def _relative_medians(used: pd.DataFrame) -> list[list[float]]:
    """Return the median latency of each window in order, by process, relative to that of texts of the same lengths."""
    line = _length_model(used)
    expected = np.ones(len(used))
    if line["length_slope_s_per_token"] is not None and line["length_intercept_s"] is not None:
        fitted = line["length_intercept_s"] + line["length_slope_s_per_token"] * used["num_tokens"].to_numpy(
            dtype=float
        )
        expected = fitted if fitted.min() > 0 else expected
    medians = (used["latency_s"] / expected).groupby([used["process"], used["window"]]).median()
    return [own.tolist() for _, own in medians.groupby(level="process")]


def summarise(
    spec: MeasureSpec, processes: Processes, samples: pd.DataFrame, verdict: Verdict, evaluated: pd.DataFrame
) -> dict[str, Any]:
    """Return the columns of a measurement record, all derived from the raw measurements.

    `evaluated` holds the stored predictions (example_id, label, predicted, logits) that the timed labels must match.
    """
    points = _undisturbed(_points(processes), verdict.kept_batches)
    throughput = _throughput(points)
    verdict = check_little(verdict, samples, throughput["throughput_points"])
    record: dict[str, Any] = {
        "clean_share": verdict.share_clean,
        **figures_of_samples(samples, verdict.verdict),
        "windows": windows_of(processes),
        **throughput,
        **_medians(processes),
    }
    record["process_speed"] = _process_speed(
        points, used_samples(samples, verdict.verdict), len(processes), record["throughput_batch_size"]
    )
    agreement = _agreement(samples, evaluated)
    causes = list(verdict.causes)
    if agreement["num_wrong"]:
        causes.append(f"{agreement['num_wrong']} timed labels differ from the evaluated ones")
    record |= {k: v for k, v in agreement.items() if k != "num_wrong"}
    return record | {"verdict": "invalid" if agreement["num_wrong"] else verdict.verdict, "causes": causes}


def figures_of_samples(
    samples: pd.DataFrame, verdict: str, *, protocol_version: int = MEASURE_PROTOCOL_VERSION
) -> dict[str, Any]:
    """Return the columns of a measurement record that depend only on its `samples` (with `kept`) and `verdict`."""
    used, delays = used_samples(samples, verdict), samples["run_delay_s"]
    return {
        "num_processes": int(samples["process"].nunique()),
        "num_requests": len(samples),
        "num_clean_requests": int(samples["kept"].sum()),
        "run_delay_share": None if delays.isna().any() else float(delays.sum() / samples["latency_s"].sum()),
        **_latencies(used, independent=protocol_version < STEADINESS_FROM_VERSION),
        **_length_model(used),
    }


def used_samples(samples: pd.DataFrame, verdict: str) -> pd.DataFrame:
    """Return the samples to summarise: the kept ones if the measurement was not disturbed, otherwise all."""
    return samples[samples["kept"]] if verdict in ("clean", "not steady") else samples


def _latencies(used: pd.DataFrame, *, independent: bool) -> dict[str, Any]:
    """Return the quantiles with their intervals; `independent` requests are those of the first protocol version."""
    record: dict[str, Any] = {}
    processes = [
        [window.to_numpy() for _, window in own.groupby("window", sort=True)["latency_s"]]
        for _, own in used.groupby("process", sort=True)
    ]
    latencies, qs = used["latency_s"].to_numpy(), (0.5, 0.9, 0.95, 0.99)
    alone = [quantile_with_interval(latencies, q) for q in qs]
    for estimate in alone if independent else request_quantiles(processes, qs):
        name = f"p{100 * estimate.q:.0f}"
        record |= {
            f"latency_{name}_s": estimate.point,
            f"latency_{name}_low_s": estimate.low,
            f"latency_{name}_high_s": estimate.high,
        }
    record["latency_p99_needed"] = estimate.num_needed
    for name, q in (("p50", 0.5), ("p99", 0.99)):
        record[f"cpu_time_{name}_s"] = quantile_with_interval(used["cpu_s"].to_numpy(), q).point
    return record


def _length_model(used: pd.DataFrame) -> dict[str, float | None]:
    """Return the least-squares fit of latency = intercept + slope x tokens, for estimates on other length mixes."""
    lengths = used["num_tokens"].to_numpy(dtype=float, na_value=np.nan)
    if np.isnan(lengths).any() or len(np.unique(lengths)) < 2:
        return {"length_intercept_s": None, "length_slope_s_per_token": None}
    slope, intercept = np.polyfit(lengths, used["latency_s"].to_numpy(), 1)
    return {"length_intercept_s": float(intercept), "length_slope_s_per_token": float(slope)}


def _points(processes: Processes) -> pd.DataFrame:
    """Return the throughput of each window, in order, with the number of its process."""
    return pd.DataFrame(
        [{"process": n, **point} for n, process in enumerate(processes) for point in process["throughput_points"]]
    )


def _throughput(points: pd.DataFrame) -> dict[str, Any]:
    """Return the median throughput of each batch size over processes and repeats, and the knee."""
    medians = points.drop(columns="process").groupby("batch_size", sort=True).median(numeric_only=True).reset_index()
    rows = [{str(k): None if pd.isna(v) else v for k, v in row.items()} for row in medians.to_dict("records")]
    for row in rows:
        row["num_texts"] = int(row["num_texts"] or 0)
    return {"throughput_points": rows, **knee_of(rows)}


def _undisturbed(points: pd.DataFrame, kept: Sequence[bool]) -> pd.DataFrame:
    """Return the points whose windows are `kept`, and all points of batch sizes without such windows."""
    if not kept:
        return points
    clean = pd.Series(kept, index=points.index, dtype=bool)
    return points[clean | ~clean.groupby(points["batch_size"]).transform("any")]


def _process_speed(
    points: pd.DataFrame, used: pd.DataFrame, num_processes: int, knee: int
) -> list[dict[str, float | None]]:
    """Return median latency and throughput of each process, the latter at the batch size `knee`; None without data."""
    rates = points[points["batch_size"] == knee].groupby("process")["texts_per_s"].median()
    return [
        {"latency_p50_s": latency, "texts_per_s": float(rates[number]) if number in rates.index else None}
        for number, latency in enumerate(process_latencies(used, num_processes))
    ]


def process_latencies(used: pd.DataFrame, num_processes: int) -> list[float | None]:
    """Return the median latency in seconds of each process over its `used` requests; None for a process without any."""
    medians = used.groupby("process")["latency_s"].median()
    return [float(medians[n]) if n in medians.index else None for n in range(num_processes)]


def knee_of(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the throughput columns at the knee of `points`, which must be sorted by batch size."""
    best = max(point["texts_per_s"] for point in points)
    knee = next(point for point in points if point["texts_per_s"] >= KNEE_SHARE * best)
    return {
        "throughput_texts_per_s": float(knee["texts_per_s"]),
        "throughput_tokens_per_s": knee.get("tokens_per_s"),
        "throughput_batch_size": int(knee["batch_size"]),
    }


def _medians(processes: Processes) -> dict[str, Any]:
    """Return cold start times and memory as medians over the processes."""
    seconds = ("cold_start_s", "cold_interpreter_s", "cold_import_s", "cold_load_s", "cold_first_label_s")
    sizes = (
        "weights_bytes",
        "memory_imports_bytes",
        "memory_loaded_bytes",
        "memory_peak_load_bytes",
        "memory_peak_batch1_bytes",
        "memory_peak_bytes",
        "gpu_peak_allocated_bytes",
        "gpu_peak_reserved_bytes",
    )
    record: dict[str, Any] = {k: float(np.median([p[k] for p in processes])) for k in seconds}
    for key in sizes:
        values = [p[key] for p in processes]
        record[key] = None if None in values else int(np.median(values))
    return record


def _agreement(samples: pd.DataFrame, evaluated: pd.DataFrame) -> dict[str, Any]:
    """Return the agreement of timed and evaluated labels; `num_wrong` counts differences beyond NEAR_TIE."""
    known = evaluated.set_index("example_id").loc[samples["example_id"]]
    expected, truth = known["predicted"].to_numpy(), known["label"].to_numpy()
    timed = samples["predicted"].to_numpy()
    logits, rows = np.stack(known["logits"].to_list()), np.arange(len(samples))
    far = logits[rows, expected] - logits[rows, timed] > NEAR_TIE
    differs = timed != expected
    return {
        "num_compared": len(samples),
        "agreement": float(np.mean(~differs)),
        "form_accuracy": float(np.mean(timed == truth)),
        "num_wrong": int((differs & far).sum()),
    }
