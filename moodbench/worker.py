"""Worker process: run the phases of one job and commit each (`python -m moodbench.worker`, job as JSON on stdin).

Standard output carries one JSON event per line and nothing else; the output of libraries goes to standard error. The
exit code is 0 when every phase has a record, 1 after a failure (itself recorded), 3 when memory ran out, 4 when this
machine is at fault, 5 when GPU memory ran out, and 6 when native code of a measuring process crashed.
"""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from moodbench.errors import DISK_ERRORS, SpecError, is_of_disk
from moodbench.evaluation.measuring import MeasuringProcessError
from moodbench.hardware import Device, die_with_parent
from moodbench.runtime.executor import outcome_of
from moodbench.spec import EvaluateSpec, FitSpec, MeasureSpec
from moodbench.store import PREDICTIONS, SAMPLES, Attempt, Store, stamped, write_table
from moodbench.training.checkpoints import DEFAULT_INTERVAL_S
from moodbench.training.multi_adapter import JointTraining
from moodbench.trial import identity, run_evaluate, run_fit, run_measure, surroundings, training_peak_bytes

OK, FAILED, OUT_OF_MEMORY, MACHINE, OUT_OF_GPU_MEMORY, CRASHED = 0, 1, 3, 4, 5, 6
KIND_OF_CODE = {
    FAILED: "program error",
    OUT_OF_MEMORY: "out of memory",
    MACHINE: "infrastructure",
    OUT_OF_GPU_MEMORY: "out of memory",
    CRASHED: "crash",
}
MACHINE_ERRORS = DISK_ERRORS | {
    getattr(errno, name)
    for name in (
        "EIO", "ESTALE", "ENOTCONN", "ETIMEDOUT", "ECONNRESET", "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EPIPE",
        "EAGAIN", "EMFILE", "ENFILE",
    )
    if hasattr(errno, name)
}  # fmt: skip
"""Error numbers of an OSError that another machine may not meet.

The disk is full, broken or unreachable, or the machine has run out of processes or open files.
"""
PhaseName = Literal["fit", "evaluate", "measure"]
Tell = Callable[[Mapping[str, Any]], None]
type Steps[T] = Generator[None, None, T]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FitPhase(_Part):
    """Phase that trains a model and saves it."""

    phase: Literal["fit"] = "fit"
    spec: FitSpec
    num_gpus: int = 1
    """Number of CUDA devices that the model is spread over."""

    @property
    def id(self) -> str:
        """Id of the record."""
        return self.spec.fit_id


class EvaluatePhase(_Part):
    """Phase that predicts the test texts and scores the predictions."""

    phase: Literal["evaluate"] = "evaluate"
    spec: EvaluateSpec
    num_gpus: int = 1
    """Number of CUDA devices that the model is spread over."""

    @property
    def id(self) -> str:
        """Id of the record."""
        return self.spec.evaluation_id


class MeasurePhase(_Part):
    """Phase that times the model in fresh processes."""

    phase: Literal["measure"] = "measure"
    spec: MeasureSpec
    num_gpus: int = 1
    """Number of CUDA devices that the model is spread over; the other devices of the machine idle."""

    @property
    def id(self) -> str:
        """Id of the record."""
        return self.spec.measurement_id


Phase = Annotated[FitPhase | EvaluatePhase | MeasurePhase, Field(discriminator="phase")]
KIND_OF_PHASE = {"fit": "fits", "evaluate": "evaluations", "measure": "measurements"}


def checkpoint_interval_s() -> float:
    """Return the seconds between checkpoints: MOODBENCH_CHECKPOINT_S where it is set, else the default.

    Raises: SpecError if the variable is not a number above 0.
    """
    given = os.environ.get("MOODBENCH_CHECKPOINT_S")
    try:
        seconds = DEFAULT_INTERVAL_S if given is None else float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise SpecError(
            f"MOODBENCH_CHECKPOINT_S={given!r}: allowed is a number of seconds above 0; correct or unset it"
        )
    return seconds


class Job(_Part):
    """The work of one worker process."""

    run_id: str
    store: str
    phases: tuple[Phase, ...]
    """Phases in order: of one trial, of measurements that take turns, or of fits that train together.

    A phase that already has a record is skipped.
    """
    device: Device
    num_threads: int
    checkpoint_interval_s: float = Field(default_factory=checkpoint_interval_s)
    """Seconds of training between the checkpoints from which a stopped fit resumes."""
    together: bool = False
    """Whether the fits of this job are trained in step and share passes through their base model."""
    isolation: Literal["none", "alone", "resource", "pg"] = "none"
    """Protection that keeps our other trials off the machine during a measurement; see runtime.executor.Isolation."""


def run_job(job: Job, tell: Tell) -> int:
    """Run the phases of `job`, committing each before the next starts, and return the exit code.

    Measurements take turns, one fresh process of each after another, so that drift of the machine affects all of them
    alike. A measurement that fails does not stop the others, nor does a fit of a job that trains its fits together.
    """
    store = Store.open(job.store)
    if job.together:
        codes = JointTraining().run(
            [
                lambda phase=phase: _finished(_steps(store, job, phase, tell))  # type: ignore[misc]
                for phase in job.phases
            ]
        )
        return max(codes)
    measurements = deque(_steps(store, job, phase, tell) for phase in job.phases if isinstance(phase, MeasurePhase))
    for phase in job.phases:
        if not isinstance(phase, MeasurePhase):
            code = _finished(_steps(store, job, phase, tell))
            if code != OK:
                return code
    worst = OK
    while measurements:
        steps = measurements.popleft()
        try:
            next(steps)
            measurements.append(steps)
        except StopIteration as end:
            worst = max(worst, end.value)
    return worst


def _finished(steps: Steps[int]) -> int:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return int(end.value)


def _steps(store: Store, job: Job, phase: Phase, tell: Tell) -> Steps[int]:
    """Run one phase and return its exit code; yield wherever another measurement may take its turn."""
    started = datetime.now(UTC)
    # The edge of a trial: any failure in it becomes a record, and other trials continue.
    try:
        if store.record(KIND_OF_PHASE[phase.phase], phase.id) is not None:
            tell({"event": "skipped", "phase": phase.phase, "id": phase.id})
            return OK
        tell({"event": "started", "phase": phase.phase, "id": phase.id})
        with store.attempt() as attempt:
            won = yield from _run_and_commit(store, attempt, job, phase, tell)
    except Exception as error:  # noqa: BLE001
        code = code_of(error)
        failure: dict[str, Any] = {"event": "failed", "phase": phase.phase, "id": phase.id, "error": _short(error)}
        try:
            with store.attempt() as attempt:
                failure["record"] = _record_failure(attempt, job, phase, error, started)
        except OSError as unrecorded:
            failure["no_record"] = str(unrecorded)
        tell({**failure, "kind": KIND_OF_CODE[code], "on_gpu": code == OUT_OF_GPU_MEMORY})
        return code
    tell({"event": "committed", "phase": phase.phase, "id": phase.id, "won": won})
    return OK


def _run_and_commit(store: Store, attempt: Attempt, job: Job, phase: Phase, tell: Tell) -> Steps[bool]:
    def report(progress: Mapping[str, Any]) -> None:
        memory = {}
        if isinstance(phase, FitPhase):
            memory["peak_memory_bytes"] = None if job.together else training_peak_bytes(phase.spec, job.device)
        tell({"event": "progress", "phase": phase.phase, "id": phase.id, **memory, **progress})

    outputs: dict[str, Path] = {}
    if isinstance(phase, FitPhase):
        _prepare(phase.spec, job)
        folder = attempt.folder / "artifact"
        folder.mkdir()
        checkpoints, earlier = attempt.checkpoints(phase.id)
        result = run_fit(
            phase.spec,
            folder,
            job.device,
            report,
            checkpoints,
            earlier,
            job.checkpoint_interval_s,
            num_gpus=phase.num_gpus,
            alone=not job.together,
        )
        outputs[f"artifacts/{phase.id}"] = folder
    elif isinstance(phase, EvaluatePhase):
        _prepare(phase.spec.fit, job)
        artifact = store.artifact(phase.spec.fit.fit_id)
        result = run_evaluate(phase.spec, artifact, job.device, report, num_gpus=phase.num_gpus)
        file = f"dataset={phase.spec.fit.dataset.name}/{phase.id}.parquet"
        outputs[f"predictions/{file}"] = _write(result.table, PREDICTIONS, attempt.folder / "rows.parquet")
        outputs[f"validation/{file}"] = _write(result.validation, PREDICTIONS, attempt.folder / "validation.parquet")
    else:
        fit = phase.spec.fit
        evaluation_id = EvaluateSpec(fit=fit, batch_size=1).evaluation_id
        evaluated = store.predictions([evaluation_id])
        scratch = attempt.folder / "scratch"
        scratch.mkdir()
        artifact = store.artifact(fit.fit_id)
        result = yield from run_measure(
            phase.spec, artifact, evaluated, scratch, job.isolation, report, num_gpus=phase.num_gpus
        )
        outputs[f"samples/{phase.id}.parquet"] = _write(result.table, SAMPLES, attempt.folder / "rows.parquet")
    record = {**result.columns, "run_id": job.run_id}
    return attempt.commit(KIND_OF_PHASE[phase.phase], phase.id, record, outputs).won


def _prepare(spec: FitSpec, job: Job) -> None:
    if spec.model.method != "baseline":
        from moodbench.models.device import import_peft, prepare_torch

        prepare_torch(job.num_threads)
        if spec.train is not None:
            import_peft(quantised=any(_fit_of(phase).quantization != "none" for phase in job.phases))


def _fit_of(phase: Phase) -> FitSpec:
    return phase.spec if isinstance(phase.spec, FitSpec) else phase.spec.fit


def _write(rows: pd.DataFrame | None, schema: pa.Schema, path: Path) -> Path:
    assert rows is not None
    table = pa.Table.from_pandas(rows, schema=stamped(schema), preserve_index=False)
    return write_table(table.replace_schema_metadata(stamped(schema).metadata), path)


def _record_failure(attempt: Attempt, job: Job, phase: Phase, error: Exception, started: datetime) -> str:
    fit = _fit_of(phase)
    record = {
        **identity(fit),
        "run_id": job.run_id,
        "phase": phase.phase,
        "error_class": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
        **surroundings(started, job.device),
    }
    return attempt.fail(phase.id, record)


def code_of(error: Exception) -> int:
    """Return the exit code for the kind of failure that `error` is: memory, this machine, or the program."""
    if type(error).__name__ == "OutOfMemoryError":  # torch raises it on an accelerator, and RuntimeError on the CPU
        return OUT_OF_GPU_MEMORY
    if isinstance(error, MeasuringProcessError):
        return _code_of_ending(error)
    no_memory = isinstance(error, OSError) and error.errno == errno.ENOMEM
    if no_memory or isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return OUT_OF_MEMORY
    away = isinstance(error, OSError) and (error.errno in MACHINE_ERRORS or _is_of_object_store(error))
    return MACHINE if away or is_of_disk(error) else FAILED


def _code_of_ending(error: MeasuringProcessError) -> int:
    """Return the exit code for a measuring process that failed, by the same kinds of failure as for a worker."""
    if "OutOfMemoryError" in error.tail:
        return OUT_OF_GPU_MEMORY
    if error.out_of_memory or "MemoryError" in error.tail or "DefaultCPUAllocator" in error.tail:
        return OUT_OF_MEMORY
    kind = outcome_of(error.return_code, error.tail).kind
    away = any(f"[Errno {number}]" in error.tail for number in MACHINE_ERRORS)
    return MACHINE if kind == "infrastructure" or away or is_of_disk(error) else CRASHED if kind == "crash" else FAILED


def _is_of_object_store(error: OSError) -> bool:
    """Return whether the S3 client reports the failure; it sets no errno."""
    return error.errno is None and "AWS Error" in str(error)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def main() -> None:
    """Run the job on standard input and exit with the code of `run_job`."""
    die_with_parent()
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # the output of libraries must not be parsed as events

    def tell(event: Mapping[str, Any]) -> None:
        events.write(json.dumps({"time": time.time(), **event}) + "\n")

    job = Job.model_validate_json(sys.stdin.read())
    try:
        code = run_job(job, tell)
    except Exception as error:  # noqa: BLE001 - outside any phase, such as an unreachable store
        traceback.print_exc()
        code = code_of(error)
    sys.exit(code)


if __name__ == "__main__":
    main()
