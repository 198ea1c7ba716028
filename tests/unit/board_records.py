"""Small records made by hand, and the boards of them. The score of WORKED is worked out in test_composite.py: 59.5."""

import json

import numpy as np
import pandas as pd

from moodbench.analysis.leaderboard import entries
from moodbench.analysis.scoring import Scoring
from moodbench.analysis.trials import trials_frame
from moodbench.statistics.composite import Weights, load_anchors
from moodbench.statistics.overall import QUALITY, SPEED, covered

ANCHORS = load_anchors()
BASELINE = {"model": "tfidf-logreg", "accuracy": 0.80, "f1_macro": 0.82, "texts_per_s": 1e4, "latency_s": 0.001}
WORKED = {"model": "mini", "accuracy": 0.90, "f1_macro": 0.94, "texts_per_s": 1000.0, "latency_s": 0.010}
OTHER = WORKED | {"model": "other", "accuracy": 0.85, "f1_macro": 0.90}


def records(*trials):
    """Fits, evaluations and measurements of trials given as the values that matter to a test."""
    fits, evaluations, measurements = [], [], []
    for trial in trials:
        t = {
            "dataset": "movie", "revision": "r1", "num_train": 3000, "seed": 0, "recipe": "x", "verdict": "clean",
            "quick": False, "num_test": 200, "quantization": "none", "machine": "m1", "train_time_s": 10.0, "measured": True,
            "ceiling_accuracy": np.nan, "ceiling_f1_macro": 0.98, "texts_per_cpu_s": 700.0, "cpu_s": 0.015,
        } | trial  # fmt: skip
        config_id = f"{t['recipe'] * 6}-{t['model']}-{t['dataset']}-{t['revision']}-{t['num_train']}"
        fit_id = f"{config_id}-{t['seed']}"
        fits.append(
            {"fit_id": fit_id, "model": t["model"], "spec": json.dumps(t["spec"]) if "spec" in t else None,
             "dataset_revision": t["revision"], "num_train": t["num_train"], "method": "lora",
             "quantization": t["quantization"], "training_verdict": t.get("training_verdict"), "num_steps": t.get("num_steps"),
             "family": "bert", "status": "ok", "train_time_s": t["train_time_s"], "num_params": 22, "num_trainable": 2}
        )  # fmt: skip
        quality = dict.fromkeys(QUALITY, 0.5) | {k: t[k] for k in ("accuracy", "f1_macro")}
        evaluations.append(
            {"fit_id": fit_id, "evaluation_id": f"e-{fit_id}", "ended_at": pd.Timestamp(0, unit="s"), "config_id": config_id, "environment": "{}", "files": [],
             "inference_dtype": t.get("evaluated_in"),
             **{k: t[k] for k in ("model", "dataset", "seed", "num_test", "ceiling_accuracy", "ceiling_f1_macro")},
             **quality}
        )  # fmt: skip
        speed = dict.fromkeys(SPEED, 1.0)
        speed |= {"latency_p50_s": t["latency_s"], "throughput_texts_per_s": t["texts_per_s"]}
        points = [{"batch_size": 1, "texts_per_cpu_s": 1.0}, {"batch_size": 4, "texts_per_cpu_s": t["texts_per_cpu_s"]}]
        measurements.append(
            {"fit_id": fit_id, "measurement_id": f"m-{fit_id}-{t['quick']}", "quick": t["quick"], "verdict": t["verdict"],
             "machine_key": t["machine"], "perf_key": "k", "device_name": "Toy", "num_threads": 2, "protocol_version": t.get("protocol_version", 2), "ended_at": pd.Timestamp(t.get("at", 0), unit="s"),
             "cpu_time_p50_s": t["cpu_s"], "throughput_points": points,
             "inference_dtype": t.get("measured_in"), "process_speed": t.get("process_speed"), "windows": t.get("windows"), "memory_imports_bytes": 0.25, "memory_loaded_bytes": 0.75, **speed}
        )  # fmt: skip
        if not t["measured"]:
            measurements.pop()
    columns = ["fit_id", "measurement_id", "quick", "verdict", "machine_key", "perf_key", "device_name", "num_threads", "protocol_version",
               "ended_at", "inference_dtype",
               "cpu_time_p50_s", "throughput_points", "process_speed", "windows", "memory_imports_bytes", "memory_loaded_bytes",
               *SPEED]  # fmt: skip
    return (
        pd.DataFrame(fits).drop_duplicates("fit_id"),
        pd.DataFrame(evaluations).drop_duplicates("evaluation_id"),
        pd.DataFrame(measurements, columns=columns),
    )


def no_items(evaluation_ids):
    raise AssertionError("the items of one seed are not needed")


def right(evaluation_ids):
    """200 items; each seed is right about the first 170 and about 5 more, its own."""
    table = np.zeros((200, len(evaluation_ids)), dtype=bool)
    table[:170] = True
    for column in range(len(evaluation_ids)):
        table[170 + 5 * column : 175 + 5 * column, column] = True
    return table


def leaderboard(trials, correct, composite="pinned"):
    rows = entries(trials, correct)
    return Scoring(rows, covered(rows), composite=composite).leaderboard(Weights())


def board_of(*trials, correct=no_items, composite="pinned"):
    return leaderboard(trials_frame(*records(*trials)), correct, composite)


def row_of(board, name, track=None):
    (row,) = board[(board["name"] == name) & ((board["track"] == track) | (track is None))].to_dict("records")
    return row


def ranks(board):
    return {name: None if pd.isna(rank) else int(rank) for name, rank in zip(board["name"], board["rank"], strict=True)}
