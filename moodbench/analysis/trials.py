"""Trials: each fit's records of fitting, evaluating and measuring in one row."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from moodbench.statistics.composite import Anchors, load_anchors
from moodbench.statistics.overall import SIZES, SPEED

TRACK = ["dataset", "dataset_revision", "num_train"]
COSTS = ("train_time_s", *SIZES)
MAX_CANARY_RATIO = 1.10
"""Ratio of the canary to that of the quickest measurement of the machine, above which an entry is marked."""


def trials_frame(fits: pd.DataFrame, evaluations: pd.DataFrame, measurements: pd.DataFrame) -> pd.DataFrame:
    """Return one row per evaluated fit, with its newest evaluation and its best measurement, if it has one.

    The best measurement is the newest full one, or without any the newest quick one, of those with weights in the
    number format of the evaluation.
    """
    kept = ["fit_id", *TRACK[1:], "method", "quantization", "family", "status", "num_steps", "training_verdict", *COSTS]
    latest = evaluations.sort_values("ended_at").groupby("fit_id").tail(1).sort_index()
    formats = [frame["inference_dtype"].fillna("fp32") for frame in (latest, measurements)]
    same = formats[1] == measurements["fit_id"].map(dict(zip(latest["fit_id"], formats[0], strict=True)))
    own = fits[kept].fillna({"quantization": "none"}).assign(departures=_departures(fits))
    joined = latest.drop(columns=["environment", "files"]).merge(own, on="fit_id", validate="many_to_one")
    best = measurements[same].sort_values(["quick", "ended_at"], ascending=[False, True]).groupby("fit_id").tail(1)
    best = best.assign(**memory_parts(best), **_without_summed_cpu_time(best), canary_ratio=canary_ratios(measurements))
    speed = ["fit_id", "measurement_id", "quick", "verdict", "perf_key", "device_name", "num_threads", *SPEED]
    others = ["cpu_time_p50_s", "throughput_points", "process_speed", "canary_ratio"]
    return joined.merge(best[speed + others], on="fit_id", how="left", validate="many_to_one")


def canary_ratios(measurements: pd.DataFrame) -> pd.Series[float]:
    """Return how slow the machine was in each of its measurements, as a ratio to the quickest of them; NaN if unknown.

    It is the median time of the canary, a fixed piece of work that does not depend on the model.
    """
    seconds = [
        np.nan if windows is None else float(np.median([window["canary_s"] for window in windows] or [np.nan]))
        for windows in measurements["windows"]
    ]
    canaries = pd.Series(seconds, index=measurements.index, dtype="float64")
    return canaries / canaries.groupby(measurements["machine_key"]).transform("min")


def _without_summed_cpu_time(measurements: pd.DataFrame) -> dict[str, pd.Series[Any]]:
    """Return the columns that rest on CPU time, without that of several threads in protocol version 1.

    It was summed over the threads, so that it exceeded the latency that it stands for in disturbed measurements.
    """
    alone = (measurements["protocol_version"].astype("float64") != 1) | (measurements["num_threads"] == 1)
    points = [
        p if keep or not isinstance(p, list | np.ndarray) else [{**point, "texts_per_cpu_s": None} for point in p]
        for keep, p in zip(alone, measurements["throughput_points"], strict=True)
    ]
    return {
        "cpu_time_p50_s": measurements["cpu_time_p50_s"].where(alone),
        "throughput_points": pd.Series(points, index=measurements.index, dtype="object"),
    }


def memory_parts(measurements: pd.DataFrame) -> dict[str, pd.Series[float]]:
    """Return the parts of memory_peak_batch1_bytes, which add up to it: libraries, weights and working memory.

    They are what the process held after its imports, what loading the model added, and what one text at a time added at
    most. Memory that was given back before the peak counts in no part.
    """
    peak = measurements["memory_peak_batch1_bytes"].astype("float64")
    libraries = measurements["memory_imports_bytes"].astype("float64").clip(upper=peak)
    loaded = measurements["memory_loaded_bytes"].astype("float64").clip(lower=libraries, upper=peak)
    return {
        "memory_libraries_bytes": libraries,
        "memory_weights_bytes": loaded - libraries,
        "memory_working_bytes": peak - loaded,
    }


def choose_machine(measurements: pd.DataFrame, preferred: str) -> pd.DataFrame:
    """Return the measurements of one kind of machine: the `preferred` one, else the one with most measurements."""
    here = measurements[measurements["machine_key"] == preferred]
    if len(here) or measurements.empty:
        return here
    counts = measurements.groupby("machine_key").size()
    return measurements[measurements["machine_key"] == counts.sort_index().idxmax()]


def _departures(fits: pd.DataFrame) -> pd.Series[float]:
    """Return the number of settings in which each baseline fit differs from the pinned configuration.

    NaN for fits of other models and for fits without a spec. The settings are those of `Anchors.baseline_tfidf`, a
    preparation or an augmentation of the texts, and another sampling of the training or validation examples than the
    catalogue's.
    """
    anchors = load_anchors()
    counted = [
        _spec_departures(json.loads(spec), anchors) if model == anchors.baseline and isinstance(spec, str) else np.nan
        for model, spec in zip(fits["model"], fits["spec"], strict=True)
    ]
    return pd.Series(counted, index=fits.index, dtype="float64")


def _spec_departures(spec: dict[str, Any], anchors: Anchors) -> int:
    tfidf, data = spec.get("tfidf") or {}, spec.get("dataset") or {}
    changed = [tfidf.get(name) != value for name, value in anchors.baseline_tfidf.items()]
    changed += [bool(spec.get("preparation")), bool(spec.get("augmentation"))]
    changed += [data.get("sampling", "stratified") != "stratified", data.get("max_validation_examples") is not None]
    return sum(changed)
