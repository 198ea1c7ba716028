"""Worker process: run the phases of one job and commit each (`python -m moodbench.worker`, job as JSON on stdin).

Standard output carries one JSON event per line and nothing else; the output of libraries goes to standard error. The
exit code is that of the worst outcome: 0 when every phase has a record, see `runtime.process.CODES`.
"""

from __future__ import annotations

import sys
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from moodbench.hardware import die_with_parent
from moodbench.models.device import import_peft, prepare_torch
from moodbench.runtime.process import Outcome, exit_with_outcome, take_over_stdout
from moodbench.spec import FitSpec
from moodbench.spec.job import KIND_OF_PHASE, EvaluatePhase, FitPhase, Job, MeasurePhase, Phase
from moodbench.store import PREDICTIONS, SAMPLES, Attempt, Store, stamped, write_table
from moodbench.trial import identity, preload, run_evaluate, run_fit, run_measure, surroundings, training_peak_bytes

__all__ = ["main", "preload", "run_job"]
Emit = Callable[[Mapping[str, Any]], None]
type Steps[T] = Generator[None, None, T]


def run_job(job: Job, emit: Emit) -> Outcome:
    """Run the phases of `job`, committing each before the next starts, and return the worst outcome.

    Measurements take turns, one fresh process of each after another, so that drift of the machine affects all of them
    alike. A measurement that fails does not stop the others.
    """
    store = Store.open(job.store)
    for phase in job.phases:
        if not isinstance(phase, MeasurePhase):
            outcome = _in_turns([_steps(store, job, phase, emit)])
            if outcome.kind != "ok":
                return outcome
    return _in_turns(_steps(store, job, phase, emit) for phase in job.phases if isinstance(phase, MeasurePhase))


def _in_turns(phases: Iterable[Steps[Outcome]]) -> Outcome:
    turns, outcomes = deque(phases), [Outcome("ok")]
    while turns:
        phase = turns.popleft()
        try:
            next(phase)
            turns.append(phase)
        except StopIteration as end:
            outcomes.append(end.value)
    return max(outcomes, key=lambda outcome: outcome.exit_code)


def _steps(store: Store, job: Job, phase: Phase, emit: Emit) -> Steps[Outcome]:
    """Run one phase and return its outcome; yield wherever another measurement may take its turn."""
    started = datetime.now(UTC)
    about = {"phase": phase.phase, "id": phase.id}
    # The edge of a phase: any failure in it becomes a record, and other trials continue.
    try:
        if store.record(KIND_OF_PHASE[phase.phase], phase.id) is not None:
            emit({"event": "skipped", **about})
            return Outcome("ok")
        emit({"event": "started", **about})
        with store.attempt() as attempt:
            won = yield from _run_and_commit(store, attempt, job, phase, emit)
    except Exception as error:  # noqa: BLE001
        outcome = Outcome.of_error(error)
        failure: dict[str, Any] = {
            "event": "failed",
            **about,
            "error": f"{type(error).__name__}: {error}".splitlines()[0],
        }
        try:
            with store.attempt() as attempt:
                failure["record"] = _record_failure(attempt, job, phase, error, started)
        except OSError as unrecorded:
            failure["no_record"] = str(unrecorded)
        emit({**failure, "kind": outcome.kind, "on_gpu": outcome.on_gpu})
        return Outcome(outcome.kind, on_gpu=outcome.on_gpu)
    emit({"event": "committed", **about, "won": won})
    return Outcome("ok")


def _run_and_commit(store: Store, attempt: Attempt, job: Job, phase: Phase, emit: Emit) -> Steps[bool]:
    def report(progress: Mapping[str, Any]) -> None:
        memory = {}
        if isinstance(phase, FitPhase):
            memory["peak_memory_bytes"] = training_peak_bytes(phase.spec, job.device)
        emit({"event": "progress", "phase": phase.phase, "id": phase.id, **memory, **progress})

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
        )
        outputs[f"artifacts/{phase.id}"] = folder
    elif isinstance(phase, EvaluatePhase):
        _prepare(phase.fit, job)
        artifact = store.artifact(phase.fit.fit_id)
        result = run_evaluate(phase.spec, artifact, job.device, report, num_gpus=phase.num_gpus)
        file = f"dataset={phase.fit.dataset.name}/{phase.id}.parquet"
        outputs[f"predictions/{file}"] = _write(result.table, PREDICTIONS, attempt.folder / "rows.parquet")
        outputs[f"validation/{file}"] = _write(result.validation, PREDICTIONS, attempt.folder / "validation.parquet")
    else:
        evaluated = store.predictions([phase.spec.evaluation_id])
        artifact = store.artifact(phase.fit.fit_id)
        result = yield from run_measure(phase.spec, artifact, evaluated, job.isolation, report, num_gpus=phase.num_gpus)
        outputs[f"samples/{phase.id}.parquet"] = _write(result.table, SAMPLES, attempt.folder / "rows.parquet")
    record = {**result.columns, "run_id": job.run_id}
    return attempt.commit(KIND_OF_PHASE[phase.phase], phase.id, record, outputs)


def _prepare(spec: FitSpec, job: Job) -> None:
    if spec.model.method != "baseline":
        prepare_torch(job.num_threads)
        if spec.train is not None:
            import_peft(quantised=any(phase.fit.quantization != "none" for phase in job.phases))


def _write(rows: pd.DataFrame | None, schema: pa.Schema, path: Path) -> Path:
    assert rows is not None
    table = pa.Table.from_pandas(rows, schema=stamped(schema), preserve_index=False)
    return write_table(table.replace_schema_metadata(stamped(schema).metadata), path)


def _record_failure(attempt: Attempt, job: Job, phase: Phase, error: Exception, started: datetime) -> str:
    fit = phase.fit
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


def main() -> None:
    """Run the job on standard input and exit with the code of its outcome."""
    die_with_parent()
    emit = take_over_stdout()
    with exit_with_outcome():
        outcome = run_job(Job.model_validate_json(sys.stdin.read()), emit)
    sys.exit(outcome.exit_code)


if __name__ == "__main__":
    main()
