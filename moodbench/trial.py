"""Run one phase of a trial: fit, evaluate or measure. Each writes its files to a folder and returns its columns."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from moodbench.data.examples import Examples, augmented, subsample
from moodbench.data.loader import load_source
from moodbench.errors import DataError
from moodbench.evaluation import measuring
from moodbench.evaluation.predicting import ceiling_columns, figures_of_predictions, predictions_on
from moodbench.evaluation.process_clock import peak_resident_bytes
from moodbench.hardware import Device, environment, hardware
from moodbench.models.device import import_peft, prepare_torch
from moodbench.models.predictor import deployed_form, load_predictor
from moodbench.preparation import prepare_text
from moodbench.spec import EvaluateSpec, FitSpec, MeasureSpec
from moodbench.training.checkpoints import CheckpointArea
from moodbench.training.fitting import fit
from moodbench.training.outcome import Report

MODEL_FILE = "model.json"


def preload() -> None:
    """Import what fits and evaluations of transformers use, for a fork server: no thread or device is started."""
    import transformers

    import_peft(quantised=False)
    prepare_torch(num_threads=1)
    for name in ("AutoConfig", "AutoModelForSequenceClassification", "AutoTokenizer", "Trainer"):
        getattr(transformers, name)  # imported only now


@dataclass(frozen=True)
class PhaseResult:
    """Result of a phase: the columns of its record, and its table of rows where it has one."""

    columns: dict[str, Any]
    table: pd.DataFrame | None = None
    validation: pd.DataFrame | None = None
    """Only of an evaluation: predictions on the validation texts, to choose a temperature without the test texts."""


def run_fit(
    spec: FitSpec,
    folder: Path,
    device: Device,
    report: Report,
    checkpoints: Path,
    earlier: Sequence[Path],
    every_s: float,
    *,
    num_gpus: int = 1,
) -> PhaseResult:
    """Fit the model, write the artifact to `folder`, and return the columns of the fit record.

    The artifact includes the spec that explains it, in model.json. A long fit writes a checkpoint to `checkpoints`
    every `every_s` seconds, and resumes from the best checkpoint in the folders `earlier`. A model too large for one
    CUDA device is spread over `num_gpus`.
    """

    started = datetime.now(UTC)
    examples = examples_of(spec)
    data, seed = spec.dataset, spec.seeds.subsample
    train = subsample(examples.split("train"), data.max_train_examples, seed, data.sampling)
    validation = validation_of(examples, spec)
    if spec.augmentation is not None:
        train = augmented(train, spec.augmentation, seed)
    train, validation = (  # for predictions, the predictor prepares the texts itself
        rows.assign(text=[prepare_text(text, spec.preparation) for text in rows["text"]])
        for rows in (train, validation)
    )
    area = CheckpointArea(checkpoints, partial(training_peak_bytes, spec, device), earlier, every_s)
    outcome = fit(spec, train, validation, folder, device, report, area, num_gpus=num_gpus)
    (folder / MODEL_FILE).write_text(spec.model_dump_json(indent=1), encoding="utf-8")
    parts, dumped = ("lora", "train", "probe", "tfidf", "text", "augmentation"), spec.model_dump(mode="json")
    hparams = {name: dumped[name] for name in parts if dumped[name] is not None}
    preparation = {"preparation": list(spec.preparation)} if spec.preparation else {}
    return PhaseResult(
        {
            **identity(spec),
            "status": "ok",
            "model_revision": spec.model.revision,
            "family": spec.model.family,
            "num_params": outcome.num_params,
            "num_trainable": outcome.num_trainable,
            "method": spec.model.method,
            "quantization": spec.quantization,
            "dataset_revision": data.revision,
            "num_train": outcome.num_train,
            "num_validation": outcome.num_validation,
            "train_fingerprint": data.train_fingerprint,
            "seeds": spec.seeds.model_dump_json(),
            "hparams": json.dumps({**hparams, **preparation, "chosen": dict(outcome.chosen)}),
            "spec": spec.model_dump_json(),
            "best_step": outcome.best_step,
            "num_steps": outcome.num_steps,
            "training_verdict": outcome.training_verdict,
            "curve": [asdict(point) for point in outcome.curve],
            "validation_accuracy": outcome.validation.get("accuracy"),
            "validation_f1_macro": outcome.validation.get("f1_macro"),
            "train_time_s": outcome.train_time_s,
            "validation_time_s": outcome.validation_time_s,
            "train_texts_per_s": outcome.num_texts_trained / outcome.train_time_s,
            "train_peak_memory_bytes": outcome.peak_memory_bytes or training_peak_bytes(spec, device),
            "devices": device if num_gpus == 1 else f"{num_gpus} x {device}",
            **surroundings(started, device, attempts=outcome.num_attempts),
        }
    )


def training_peak_bytes(spec: FitSpec, device: Device) -> int:
    """Return the peak memory of the training in this process so far, in bytes.

    It is the memory allocated on all CUDA devices together where the model trains on those, and resident memory
    elsewhere.
    """
    if device != "cuda" or spec.model.method == "baseline":
        return peak_resident_bytes()
    import torch

    return sum(torch.cuda.max_memory_allocated(number) for number in range(torch.cuda.device_count()))


def validation_of(examples: Examples, spec: FitSpec) -> pd.DataFrame:
    """Return the validation texts that a fit of `spec` uses for model selection."""
    data = spec.dataset
    return subsample(examples.split("validation"), data.max_validation_examples, spec.seeds.subsample, data.sampling)


def run_evaluate(
    spec: EvaluateSpec, artifact: Path, device: Device, report: Report, *, num_gpus: int = 1
) -> PhaseResult:
    """Evaluate the artifact and return the columns of the evaluation record with the predictions.

    The predictions are those on the test texts and on the validation texts, in the form that is deployed and measured.
    """
    started = datetime.now(UTC)
    data = spec.fit.dataset
    examples = examples_of(spec.fit)
    rows, validation = examples.split(spec.evaluation_set), validation_of(examples, spec.fit)
    report({"num_texts": len(rows) + len(validation)})
    predictor = load_predictor(spec.fit, artifact, deployed_form(spec.fit), device, dtype=spec.dtype, num_gpus=num_gpus)
    predictions, on_validation = (predictions_on(predictor, each, spec.batch_size) for each in (rows, validation))
    return PhaseResult(
        {
            **identity(spec.fit),
            "evaluation_set": spec.evaluation_set,
            "inference_dtype": spec.dtype,
            "test_fingerprint": data.test_fingerprint,
            "device": device,
            **figures_of_predictions(predictions),
            **ceiling_columns(rows, len(data.labels), data.neutral_band),
            **surroundings(started, device),
        },
        predictions.assign(evaluation_id=spec.evaluation_id),
        on_validation.assign(evaluation_id=spec.evaluation_id),
    )


def run_measure(
    spec: MeasureSpec,
    artifact: Path,
    evaluated: pd.DataFrame,
    isolation: str,
    report: Report,
    *,
    num_gpus: int = 1,
) -> Generator[None, None, PhaseResult]:
    """Measure the artifact and return the columns of the measurement record with its raw samples.

    Disturbed processes are measured again as the protocol says. Yields after each fresh process, so that several
    measurements can take turns and drift of the machine affects all of them alike.
    """
    started = datetime.now(UTC)
    rows = examples_of(spec.fit).split("test")
    texts, ids = rows["text"].tolist(), rows["example_id"].to_numpy()
    measured: dict[int, Mapping[str, Any]] = {}
    missing, attempt, turns = list(range(spec.protocol.processes)), 1, []
    while True:
        for number in missing:
            turn = datetime.now(UTC)
            measured[number] = measuring.run_process(spec, artifact, texts, number, report, num_gpus)
            turns.append({"started_at": turn, "ended_at": datetime.now(UTC)})
            yield
        processes = list(measured.values())
        windows = measuring.windows_of(processes)
        verdict, samples = measuring.judge(measuring.samples_of(processes, ids), spec.num_threads, windows)
        missing = measuring.disturbed_processes(verdict, samples, windows)
        if not missing or attempt == spec.protocol.max_attempts:
            break
        wait = spec.protocol.backoff_s * 2 ** (attempt - 1)
        report({"disturbed_processes": len(missing), "causes": list(verdict.causes), "wait_s": wait})
        time.sleep(wait)
        attempt += 1
    return PhaseResult(
        {
            **identity(spec.fit),
            "form": spec.form,
            "inference_dtype": spec.dtype,
            "perf_key": spec.perf_key,
            "machine_key": hardware().machine_key,
            "device": spec.device,
            "device_name": (f"{num_gpus} x " if num_gpus > 1 else "") + hardware().device_name(spec.device),
            "num_threads": spec.num_threads,
            "protocol_version": spec.protocol_version,
            "protocol": spec.protocol.model_dump_json(),
            "quick": spec.protocol.quick,
            "isolation": isolation,
            "turns": turns,
            **measuring.summarise(spec, processes, samples, verdict, evaluated),
            **surroundings(started, spec.device, attempts=attempt),
        },
        samples.drop(columns="predicted").assign(measurement_id=spec.measurement_id),
    )


def examples_of(spec: FitSpec) -> Examples:
    """Load the examples that `spec` was resolved with.

    Raises: DataError if the examples on this machine have another revision.
    """
    data = spec.dataset
    examples = load_source(data.name, data)
    if examples.revision != data.revision:
        remedy = (
            f"{data.file.path} has changed since; give the same command again for the data as they are now"
            if data.file
            else "install the same version of moodbench on every node"
        )
        raise DataError(
            f"dataset {data.name}: has revision {examples.revision} here, "
            f"the run was planned with {data.revision}; {remedy}"
        )
    return examples


def identity(spec: FitSpec) -> dict[str, Any]:
    """Return the columns that identify every record of a trial."""
    return {
        "fit_id": spec.fit_id,
        "config_id": spec.config_id,
        "model": spec.model.name,
        "dataset": spec.dataset.name,
        "seed": spec.seeds.init,
    }


def surroundings(started: datetime, device: Device, attempts: int = 1) -> dict[str, Any]:
    """Return when, where and in which environment a phase ran."""
    return {
        "attempts": attempts,
        "node": socket.gethostname(),
        "started_at": started,
        "ended_at": datetime.now(UTC),
        "environment": json.dumps(environment(device)),
    }
