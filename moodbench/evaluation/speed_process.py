"""Measurement of a saved artifact in a fresh process: `python -m moodbench.evaluation.speed_process`.

Standard input is JSON with the measure spec, the artifact folder, the number of GPUs, the texts, a seed and the time
at which the process was spawned. Nothing else runs in this process, so that its memory is that of the model.
"""

from __future__ import annotations

import time

STARTED_NS = time.monotonic_ns()

import gc  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from moodbench.evaluation.process_clock import (  # noqa: E402
    WindowLog,
    cpu_seconds,
    peak_resident_bytes,
    reset_peak,
    resident_bytes,
)
from moodbench.hardware import Device, die_with_parent  # noqa: E402
from moodbench.models.predictor import (  # noqa: E402
    Predictor,
    import_libraries,
    in_batches,
    load_predictor,
)
from moodbench.runtime.process import exit_with_outcome, take_over_stdout  # noqa: E402
from moodbench.spec import MeasureSpec  # noqa: E402

CHUNK_BATCHES = 8
"""Batches of texts that a throughput run tokenises at once and sorts by length, as a service would."""


def measure_here(spec: MeasureSpec, job: dict[str, Any]) -> dict[str, Any]:
    """Return the raw measurements of one process: cold start, single stream, throughput points and memory."""
    clock = _Stopwatch(STARTED_NS)
    import_libraries(spec.fit, spec.num_threads)
    result: dict[str, Any] = {
        "cold_interpreter_s": (STARTED_NS - job["spawned_ns"]) / 1e9,
        "cold_import_s": clock.lap(),
        "memory_imports_bytes": resident_bytes(),
    }
    predictor = load_predictor(
        spec.fit, Path(job["artifact"]), spec.form, spec.device, dtype=spec.dtype, num_gpus=job["num_gpus"]
    )
    result |= {
        "cold_load_s": clock.lap(),
        "memory_loaded_bytes": resident_bytes(),
        "memory_peak_load_bytes": peak_resident_bytes(),
        "weights_bytes": predictor.weights_bytes,
    }
    texts: list[str] = job["texts"]
    _label(predictor, texts[:1])
    result["cold_first_label_s"] = clock.lap()
    result["cold_start_s"] = (time.monotonic_ns() - job["spawned_ns"]) / 1e9

    order = _request_order(len(texts), spec.protocol.requests, np.random.default_rng(job["seed"]))
    _warm_up(predictor, texts, spec)
    reset_peak()
    if spec.device == "cuda":
        from moodbench.models.device import reset_gpu_peak

        reset_gpu_peak(spec.device)
    log = WindowLog()
    result["requests"] = _single_stream(predictor, [texts[i] for i in order], spec.protocol.window_requests, log)
    result["request_rows"] = order
    result["memory_peak_batch1_bytes"] = peak_resident_bytes()
    result["throughput_points"] = [
        _throughput(predictor, [texts[i] for i in order], batch_size, spec.protocol.batch_seconds, log)
        for _ in range(spec.protocol.batch_repeats)
        for batch_size in spec.protocol.batch_sizes
    ]
    result["windows"] = log.rows
    result["memory_peak_bytes"] = peak_resident_bytes()
    result |= _gpu_peaks(spec.device)
    return result


class _Stopwatch:
    def __init__(self, started_ns: int) -> None:
        self._last = started_ns

    def lap(self) -> float:
        """Return the seconds since the previous lap."""
        now = time.monotonic_ns()
        seconds, self._last = (now - self._last) / 1e9, now
        return seconds


def _label(predictor: Predictor, texts: list[str]) -> list[int]:
    """Return the predicted labels of `texts` on the host, which completes a request."""
    labels: list[int] = predictor.logits(predictor.encode(texts)).argmax(axis=1).tolist()
    return labels


def _request_order(num_texts: int, num_requests: int, rng: np.random.Generator) -> list[int]:
    """Return the text index of each request: a random permutation, followed by others if there are too few texts."""
    rows: list[int] = []
    while len(rows) < num_requests:
        rows += rng.permutation(num_texts).tolist()
    return rows[:num_requests]


def _warm_up(predictor: Predictor, texts: list[str], spec: MeasureSpec) -> None:
    """Warm up all kinds of input shapes: single texts at six length quantiles, and each batch size at median length."""
    by_length = sorted(texts, key=len)
    singles = [by_length[int(q * (len(by_length) - 1))] for q in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)]
    middle = by_length[len(by_length) // 2]
    for batch_size in spec.protocol.batch_sizes:
        _label(predictor, [middle] * batch_size)
    end, passes = time.monotonic() + spec.protocol.warmup_s, 0
    while passes < 2 or time.monotonic() < end:
        for text in singles:
            _label(predictor, [text])
        passes += 1


def _single_stream(
    predictor: Predictor, texts: list[str], window_requests: int, log: WindowLog
) -> dict[str, list[Any]]:
    """Return latency, CPU time, run delay and label of each text, processed one at a time.

    Latency is measured from the string to its label on the host. `log` gets a window for each `window_requests`.
    """
    columns: dict[str, list[Any]] = {
        k: [] for k in ("latency_s", "cpu_s", "run_delay_s", "num_tokens", "window", "predicted")
    }
    gc.collect()
    gc.freeze()
    gc.disable()
    for number, text in enumerate(texts):
        if number % window_requests == 0:
            if number:
                log.end()
            log.begin(None)
        delays, cpu_before = log.delays(), cpu_seconds()
        started = time.perf_counter_ns()
        encoded = predictor.encode([text])
        (predicted,) = predictor.logits(encoded).argmax(axis=1).tolist()
        ended = time.perf_counter_ns()
        columns["cpu_s"].append(cpu_seconds() - cpu_before)
        columns["run_delay_s"].append(log.add(delays))
        columns["latency_s"].append((ended - started) / 1e9)
        columns["num_tokens"].append(int(encoded.num_tokens[0]))
        columns["window"].append(number // window_requests)
        columns["predicted"].append(predicted)
    log.end()
    gc.enable()
    gc.unfreeze()
    return columns


def _throughput(
    predictor: Predictor, texts: list[str], batch_size: int, seconds: float, log: WindowLog
) -> dict[str, Any]:
    """Return the throughput at one batch size, from strings to labels, which is one window of `log`.

    Texts are processed in whole chunks of CHUNK_BATCHES batches sorted by length, until `seconds` have passed. Tokens
    exclude padding; `useful_share` is their share of all token positions, padding included.
    """
    size, start, count, tokens, slots = CHUNK_BATCHES * batch_size, 0, 0, 0, 0
    log.begin(batch_size)
    delays = log.delays()
    cpu_before, began = cpu_seconds(), time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        chunk = [texts[(start + i) % len(texts)] for i in range(size)]
        encoded = predictor.encode(chunk)
        in_batches(predictor.logits, encoded, batch_size).argmax(axis=1).tolist()
        start, count = start + size, count + size
        lengths = np.sort(encoded.num_tokens).reshape(-1, batch_size)
        tokens += int(lengths.sum())
        slots += int(lengths.max(axis=1).sum()) * batch_size
    cpu = cpu_seconds() - cpu_before
    log.add(delays)
    log.end()
    known = tokens > 0
    return {
        "batch_size": batch_size,
        "texts_per_s": count / elapsed,
        "tokens_per_s": tokens / elapsed if known else None,
        "texts_per_cpu_s": count / cpu if cpu > 0 else None,
        "useful_share": tokens / slots if known else None,
        "num_texts": count,
        "seconds": elapsed,
    }


def _gpu_peaks(device: Device) -> dict[str, int | None]:
    if device != "cuda":
        return {"gpu_peak_allocated_bytes": None, "gpu_peak_reserved_bytes": None}
    from moodbench.models.device import gpu_peak_bytes

    allocated, reserved = gpu_peak_bytes(device)
    return {"gpu_peak_allocated_bytes": allocated, "gpu_peak_reserved_bytes": reserved}


def main() -> None:
    """Measure what the job on standard input describes, and print the result as an event."""
    die_with_parent()
    send = take_over_stdout()
    with exit_with_outcome():
        job = json.loads(sys.stdin.read())
        send({"event": "measured", **measure_here(MeasureSpec.model_validate(job["spec"]), job)})


if __name__ == "__main__":
    main()
