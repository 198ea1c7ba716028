"""Columns, types and units of every table in the store."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 2
"""Incremented when tables or ids change; a store of another version is refused."""
VERSION_KEY = b"moodbench.schema_version"

_TEXT, _INT, _REAL, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_TIME = pa.timestamp("us", tz="UTC")
_FILES = pa.list_(pa.struct([("path", _TEXT), ("bytes", _INT), ("sha256", _TEXT)]))
_WHERE = [
    ("attempts", pa.int32()),
    ("node", _TEXT),
    ("started_at", _TIME),
    ("ended_at", _TIME),
    ("environment", _TEXT),  # JSON
    ("files", _FILES),
]
_TRIAL = [
    ("schema_version", _TEXT),
    ("run_id", _TEXT),
    ("fit_id", _TEXT),
    ("config_id", _TEXT),
    ("model", _TEXT),
    ("dataset", _TEXT),
    ("seed", _INT),
]

FITS = pa.schema(
    [
        *_TRIAL,
        ("status", _TEXT),  # ok
        ("model_revision", _TEXT),
        ("family", _TEXT),
        ("num_params", _INT),
        ("num_trainable", _INT),
        ("method", _TEXT),
        ("quantization", _TEXT),
        ("dataset_revision", _TEXT),
        ("num_train", _INT),
        ("num_validation", _INT),
        ("train_fingerprint", _TEXT),
        ("seeds", _TEXT),  # JSON
        ("hparams", _TEXT),  # JSON
        ("spec", _TEXT),  # JSON of the whole fit spec
        ("best_step", _INT),
        ("num_steps", _INT),  # optimiser steps; null without gradient training
        ("training_verdict", _TEXT),  # ok | chance | undertrained | overfitted; null in the same cases
        (
            "curve",
            pa.list_(pa.struct([("step", _INT), ("loss", _REAL), ("metric", _TEXT), ("validation_score", _REAL)])),
        ),
        ("validation_accuracy", _REAL),
        ("validation_f1_macro", _REAL),
        ("train_time_s", _REAL),
        ("validation_time_s", _REAL),  # part of train_time_s; null for baselines
        ("train_texts_per_s", _REAL),
        ("train_peak_memory_bytes", _INT),
        ("devices", _TEXT),
        *_WHERE,
    ]
)

METRIC_COLUMNS = (
    "accuracy",
    "f1_macro",
    "f1_positive",
    "precision_macro",
    "precision_positive",
    "recall_macro",
    "recall_positive",
    "mcc",
    "auroc",
    "nll",
    "brier",
    "ece",
)

EVALUATIONS = pa.schema(
    [
        *_TRIAL,
        ("evaluation_id", _TEXT),
        ("evaluation_set", _TEXT),
        ("num_test", _INT),
        ("test_fingerprint", _TEXT),
        ("inference_dtype", _TEXT),  # fp32 | fp16 | bf16, of weights that are not quantised; null: fp32
        ("num_classes", _INT),
        *((name, _REAL) for name in METRIC_COLUMNS),
        ("confusion", pa.list_(pa.list_(_INT))),  # rows are true labels
        ("truncated_share", _REAL),
        ("ceiling_accuracy", _REAL),  # agreement of two independent halves of the human raters
        ("ceiling_f1_macro", _REAL),
        ("device", _TEXT),
        *_WHERE,
    ]
)

MEASUREMENTS = pa.schema(
    [
        *_TRIAL,
        ("measurement_id", _TEXT),
        ("form", _TEXT),
        ("inference_dtype", _TEXT),  # as in evaluations
        ("perf_key", _TEXT),
        ("machine_key", _TEXT),
        ("device", _TEXT),
        ("device_name", _TEXT),
        ("num_threads", _INT),
        ("protocol_version", _INT),
        ("protocol", _TEXT),  # JSON
        ("quick", _FLAG),
        ("verdict", _TEXT),  # clean | contaminated | not steady | invalid | unknown
        ("causes", pa.list_(_TEXT)),
        ("clean_share", _REAL),
        ("run_delay_share", _REAL),
        ("isolation", _TEXT),  # what kept our other work away: none | alone (no Ray on the machine) | resource | pg
        ("turns", pa.list_(pa.struct([("started_at", _TIME), ("ended_at", _TIME)]))),  # one per fresh process
        (  # signals by which windows are judged, in order: of single requests (batch_size null), then of batches
            "windows",
            pa.list_(
                pa.struct(
                    [
                        ("process", _INT),
                        ("batch_size", _INT),
                        ("wall_s", _REAL),
                        ("cpu_s", _REAL),  # of the thread that answers
                        ("run_delay_s", _REAL),  # of the thread that waited longest
                        ("steal_s", _REAL),  # time for which a hypervisor gave a CPU to others, of the CPU with most
                        ("canary_s", _REAL),  # a fixed piece of work just before
                    ]
                )
            ),
        ),
        ("num_processes", _INT),
        (  # per fresh process: median of the requests that count, and texts per second at the knee of all processes
            "process_speed",
            pa.list_(pa.struct([("latency_p50_s", _REAL), ("texts_per_s", _REAL)])),
        ),
        ("num_requests", _INT),
        ("num_clean_requests", _INT),
        *((f"latency_{q}_{part}", _REAL) for q in ("p50", "p90", "p95", "p99") for part in ("s", "low_s", "high_s")),
        ("latency_p99_needed", _INT),  # clean requests needed to report P99
        ("cpu_time_p50_s", _REAL),
        ("cpu_time_p99_s", _REAL),
        ("length_intercept_s", _REAL),
        ("length_slope_s_per_token", _REAL),
        ("throughput_texts_per_s", _REAL),  # at the knee
        ("throughput_tokens_per_s", _REAL),
        ("throughput_batch_size", _INT),
        (
            "throughput_points",
            pa.list_(
                pa.struct(
                    [
                        ("batch_size", _INT),
                        ("texts_per_s", _REAL),
                        ("tokens_per_s", _REAL),
                        ("texts_per_cpu_s", _REAL),
                        ("useful_share", _REAL),
                        ("num_texts", _INT),
                        ("seconds", _REAL),
                    ]
                )
            ),
        ),
        ("cold_start_s", _REAL),
        ("cold_interpreter_s", _REAL),
        ("cold_import_s", _REAL),
        ("cold_load_s", _REAL),
        ("cold_first_label_s", _REAL),
        ("weights_bytes", _INT),
        ("memory_imports_bytes", _INT),
        ("memory_loaded_bytes", _INT),
        ("memory_peak_load_bytes", _INT),  # peak until the model is loaded
        ("memory_peak_batch1_bytes", _INT),  # peak of the process after the single-text requests
        ("memory_peak_bytes", _INT),  # peak of the process after the largest batch
        ("gpu_peak_allocated_bytes", _INT),
        ("gpu_peak_reserved_bytes", _INT),
        ("num_compared", _INT),
        ("agreement", _REAL),  # share of timed labels equal to the evaluated ones
        ("form_accuracy", _REAL),
        *_WHERE,
    ]
)

ADDED = ("windows", "inference_dtype")
"""Columns that files of this schema version may lack, because they were added to it later; they are then null."""

FAILURES = pa.schema(
    [
        *_TRIAL,
        ("phase", _TEXT),
        ("id", _TEXT),
        ("attempt", _TEXT),
        ("error_class", _TEXT),
        ("message", _TEXT),
        ("traceback", _TEXT),
        ("peak_memory_bytes", _INT),
        *_WHERE,
    ]
)

PREDICTIONS = pa.schema(
    [
        ("evaluation_id", _TEXT),
        ("example_id", _TEXT),
        ("label", pa.int32()),
        ("predicted", pa.int32()),
        ("logits", pa.list_(pa.float32())),
        ("num_tokens", pa.int32()),
        ("truncated", _FLAG),
        ("failed", _FLAG),
    ]
)

SAMPLES = pa.schema(
    [
        ("measurement_id", _TEXT),
        ("process", pa.int32()),
        ("scenario", _TEXT),
        ("request", pa.int32()),
        ("example_id", _TEXT),
        ("num_tokens", pa.int32()),
        ("latency_s", _REAL),
        ("cpu_s", _REAL),
        ("run_delay_s", _REAL),
        ("window", pa.int32()),
        ("kept", _FLAG),
    ]
)

EXAMPLES = pa.schema(
    [
        ("example_id", _TEXT),
        ("text", _TEXT),
        ("label", pa.int32()),
        ("split", _TEXT),
        ("group", _TEXT),
        ("segment", _TEXT),  # such as a shop's branch; null where the source has none
        ("stars", pa.int32()),  # 1 to 5 review stars, for the net promoter score; null in the same cases
        ("mean_rating", _REAL),
        ("rating_counts", pa.list_(pa.int32())),
        ("private", _FLAG),  # a person's own text, shown only on request
    ]
)

RECORDS: dict[str, tuple[pa.Schema, str]] = {
    "fits": (FITS, "fit_id"),
    "evaluations": (EVALUATIONS, "evaluation_id"),
    "measurements": (MEASUREMENTS, "measurement_id"),
}
"""Schema and id column by kind of record."""
WITH_FAILURES = {**RECORDS, "failures": (FAILURES, "id")}
"""RECORDS, and those of failed attempts, of which an id may have several."""


def stamped(schema: pa.Schema) -> pa.Schema:
    """Return `schema` with the schema version in its metadata, as in every file of a store."""
    return schema.with_metadata({VERSION_KEY: str(SCHEMA_VERSION)})
