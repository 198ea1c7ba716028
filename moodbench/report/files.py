"""The report and the leaderboard as files: Markdown, HTML, CSV, Parquet, JSON, and the formats of other tools."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from moodbench.errors import StoreError
from moodbench.evaluation.measuring import used_samples
from moodbench.paths import write_files
from moodbench.report.formatting import csv_of
from moodbench.report.interop import evaluated, every_eval_ever, hub_results, latex, model_index
from moodbench.report.leaderboard_view import EXPORTED, LeaderboardView
from moodbench.report.report import Picture, markdown, page, report_blocks, track_calibrations
from moodbench.statistics.overall import OVERALL
from moodbench.store import Store

REPORT = ("md", "html", "csv", "json", "calibration")
"""Formats of the whole report."""
FORMATS: Mapping[str, str] = {
    "md": "report.md with its figures as .svg and .png",
    "html": "one page with the figures inside, which needs no network",
    "csv": "the leaderboard in base units, as `moodbench leaderboard --csv` prints it",
    "parquet": "the same with types",
    "json": "the same with reference rows and notes",
    "calibration": "the calibration of each entry as .csv and .json",
    "classic": "one flat JSON per model, MODEL_results.json, in ms, MB and hours",
    "hf-card": "the metadata of a Hugging Face model card with its results",
    "every-eval-ever": "one record per model and dataset",
    "latex": "a table per dataset",
}
"""Format to what is written."""
COUNTS = (
    "num_train", "rank", "num_steps", "num_seeds", "num_test",
    "rank_low", "rank_high", "accuracy_rank_low", "accuracy_rank_high",
)  # fmt: skip
FLAGS = ("provisional", "quick", "trivial", "tied_best", "tied_f1", "tied_latency")
TEXTS = (
    "track", "dataset", "name", "model", "method", "quantization", "interval_method", "estimand",
    "verdict", "device_name", "config_id", "accuracy_letters", "training_verdict",
)  # fmt: skip


def write(view: LeaderboardView, store: Store, formats: Collection[str], folder: Path) -> list[Path]:
    """Write the leaderboard to `folder` in the given FORMATS and return the paths of the files.

    Each file is replaced as a whole; files of other names stay. The files contain no text of a dataset.

    Raises: StoreError where the store holds no evaluated model; PrerequisiteError if the folder cannot be written.
    """
    if view.rows.empty:
        raise StoreError(
            f"{store.uri}: holds no evaluated model, so there is nothing to write; `moodbench run` makes some"
        )
    contents: dict[str, bytes] = {}
    if {"md", "html", "calibration"}.intersection(formats):
        contents |= _report_files(view, store, formats)
    for form in formats:
        contents |= _leaderboard_files(view, store, form)
    return list(write_files(folder, contents))


def _report_files(view: LeaderboardView, store: Store, formats: Collection[str]) -> dict[str, bytes]:
    calibrations = track_calibrations(view, store)
    files: dict[str, bytes] = {}
    if "md" in formats or "html" in formats:
        blocks = report_blocks(view, calibrations)
        if "md" in formats:
            files["report.md"] = markdown(blocks).encode()
            pictures = [block for block in blocks if isinstance(block, Picture)]
            files |= {f"{each.stem}.svg": each.drawing.svg_file for each in pictures}
            files |= {f"{each.stem}.png": each.drawing.png for each in pictures}
        if "html" in formats:
            files["report.html"] = page("MoodBench report", blocks).encode()
    if "calibration" in formats:
        records = [{"track": track, **each.to_record()} for track, found in calibrations.items() for each in found]
        files["calibration.csv"] = _calibration_csv(records)
        files["calibration.json"] = json.dumps(records, indent=1).encode()
    return files


def _calibration_csv(records: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the calibration as CSV: one row per track, entry and seed, in base units.

    Columns: scores before and after temperature scaling, the parts of CORP's decomposition, the null distribution of
    ECE.
    """
    rows = [
        {"track": record["track"], "name": record["name"], "number": number, **seed}
        for record in records
        for number, seed in enumerate(record["seeds"])
    ]
    return csv_of(pd.json_normalize(rows, sep="_")).encode()


def _leaderboard_files(view: LeaderboardView, store: Store, form: str) -> dict[str, bytes]:
    """Return the files of the leaderboard alone in one format, without those of the report."""
    match form:
        case "csv" | "parquet" | "json":
            return {f"leaderboard.{form}": leaderboard_bytes(view, form)}
        case "classic":
            return classic_files(view, store)
        case "latex":
            return {"leaderboard.tex": latex(view)}
        case "hf-card" | "every-eval-ever":
            return _entry_files(view, store, form)
    return {}


def _entry_files(view: LeaderboardView, store: Store, form: str) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for each in evaluated(view, store):
        # Entries may share a model's name, and a recipe has the same id on all datasets of one name and revision.
        stem = _plain(f"{each.row['model']}_{each.row['dataset']}_{each.row['config_id'][:8]}")
        if form == "every-eval-ever":
            files[f"{stem}.json"] = every_eval_ever(each)
            continue
        files[f"{stem}_model_index.yaml"] = model_index(each)
        on_hub = hub_results(each)
        if on_hub is not None:
            files[f"{stem}_eval_results.yaml"] = on_hub
    return files


def classic_files(view: LeaderboardView, store: Store) -> dict[str, bytes]:
    """Return the flat JSON of every entry of every track by file name, without the rows of `overall`.

    The name is MODEL_results.json, or MODEL_DATASET_ID_results.json with the first 8 digits of the config_id where a
    model has several entries. Characters other than letters, digits, dots, hyphens and underscores become _.
    """
    rows = [row for _, row in view.rows.iterrows() if row["dataset"] != OVERALL]
    short = [_file_name(row["model"]) for row in rows]
    uses = Counter(name.casefold() for name in short)  # some file systems ignore case
    measurements = store.sound_records("measurements")[0].set_index("measurement_id")
    files = {}
    for row, name in zip(rows, short, strict=True):
        if uses[name.casefold()] > 1:
            name = _file_name(f"{row['model']}_{row['dataset']}_{row['config_id'][:8]}")
        files[name] = _json_bytes(classic(row, measurements, store))
    return files


def classic(row: pd.Series[Any], measurements: pd.DataFrame, store: Store) -> dict[str, Any]:
    """Return the classic flat values of one leaderboard row, None where there is none.

    Quality is the mean over seeds, with macro averages. Speed, memory (in 10^6 bytes) and time are medians over seeds.
    Time to first token is the mean over the same requests as the latency percentiles. Memory is the peak that the GPU
    allocated, or on a CPU the whole process, with the largest batch. The format has no field for a verdict: a
    measurement with wrong labels gives no values, and one disturbed by other load gives them as measured. The other
    formats include the verdict.
    """
    measured = measurements.loc[row["measurement_ids"]]
    measured = measured[measured["verdict"] != "invalid"]
    memory = measured["gpu_peak_allocated_bytes"].fillna(measured["memory_peak_bytes"])
    ttft = [_mean_latency(store, str(id_), verdict) for id_, verdict in measured["verdict"].items()]
    return {
        "model_name": row["model"],
        "accuracy": _number(row["accuracy"]),
        "f1": _number(row["f1_macro"]),
        "precision": _number(row["precision_macro"]),
        "recall": _number(row["recall_macro"]),
        "ttft_mean_ms": _number(pd.Series(ttft, dtype=float).median(), 1e3),
        "latency_median_ms": _number(measured["latency_p50_s"].median(), 1e3),
        "latency_p99_ms": _number(measured["latency_p99_s"].median(), 1e3),
        "throughput_tokens_per_sec": _number(measured["throughput_tokens_per_s"].median()),
        "memory_allocated_mb": _number(memory.median(), 1e-6),
        "training_time_hours": _number(row["train_time_s"], 1 / 3600),
    }


def _mean_latency(store: Store, measurement_id: str, verdict: str) -> float:
    samples = store.samples([measurement_id])
    used = used_samples(samples[samples["scenario"] == "single_stream"], verdict)
    return float(used["latency_s"].mean())


def leaderboard_bytes(view: LeaderboardView, form: str) -> bytes:
    """Return the rows of `view` as a file in the format csv, parquet or json."""
    records = view.to_records()
    if form == "json":
        return _json_bytes({"board": records, "references": view.reference_records(), "notes": list(view.notes)})
    if form == "csv":
        return csv_of(pd.DataFrame(records, columns=EXPORTED)).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(records, schema=_parquet_schema()), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _parquet_schema() -> pa.Schema:
    types = dict.fromkeys(EXPORTED, pa.float64()) | dict.fromkeys(COUNTS, pa.int64())
    types |= dict.fromkeys(FLAGS, pa.bool_()) | dict.fromkeys(TEXTS, pa.string()) | {"fit_ids": pa.list_(pa.string())}
    return pa.schema(list(types.items()))


def _number(value: Any, factor: float = 1.0) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value) * factor


def _file_name(name: str) -> str:
    return _plain(name) + "_results.json"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
