"""Job of one worker process: the phases that it runs, as JSON between the driver and the worker."""

from __future__ import annotations

import math
import os
from typing import Annotated, Literal

from pydantic import Field

from moodbench.errors import SpecError
from moodbench.spec.resolved import EvaluateSpec, FitSpec, Frozen, MeasureSpec

PhaseName = Literal["fit", "evaluate", "measure"]
KIND_OF_PHASE: dict[PhaseName, str] = {"fit": "fits", "evaluate": "evaluations", "measure": "measurements"}
"""Phase -> the store's name of its kind of record."""
DEFAULT_CHECKPOINT_INTERVAL_S = 60.0


class _Phase(Frozen):
    spec: FitSpec | EvaluateSpec | MeasureSpec
    num_gpus: int = 1
    """Number of CUDA devices that the model is spread over; in a measurement, the other devices of the machine idle."""

    @property
    def id(self) -> str:
        """Id of the record."""
        match self.spec:
            case FitSpec():
                return self.spec.fit_id
            case EvaluateSpec():
                return self.spec.evaluation_id
            case MeasureSpec():
                return self.spec.measurement_id

    @property
    def fit(self) -> FitSpec:
        """The fit that is trained, evaluated or measured."""
        return self.spec if isinstance(self.spec, FitSpec) else self.spec.fit


class FitPhase(_Phase):
    """Phase that trains a model and saves it."""

    phase: Literal["fit"] = "fit"
    spec: FitSpec


class EvaluatePhase(_Phase):
    """Phase that predicts the test texts and scores the predictions."""

    phase: Literal["evaluate"] = "evaluate"
    spec: EvaluateSpec


class MeasurePhase(_Phase):
    """Phase that times the model in fresh processes."""

    phase: Literal["measure"] = "measure"
    spec: MeasureSpec


Phase = Annotated[FitPhase | EvaluatePhase | MeasurePhase, Field(discriminator="phase")]


def checkpoint_interval_s() -> float:
    """Return the seconds between checkpoints: MOODBENCH_CHECKPOINT_S where it is set, else the default.

    Raises: SpecError if the variable is not a number above 0.
    """
    given = os.environ.get("MOODBENCH_CHECKPOINT_S")
    try:
        seconds = DEFAULT_CHECKPOINT_INTERVAL_S if given is None else float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise SpecError(
            f"MOODBENCH_CHECKPOINT_S={given!r}: allowed is a number of seconds above 0; correct or unset it"
        )
    return seconds


class Job(Frozen):
    """The work of one worker process."""

    run_id: str
    store: str
    phases: tuple[Phase, ...]
    """Phases in order: of one trial, or of measurements that take turns.

    A phase that already has a record is skipped.
    """
    device: Literal["cpu", "cuda", "mps"]
    num_threads: int
    checkpoint_interval_s: float = Field(default_factory=checkpoint_interval_s)
    """Seconds of training between the checkpoints from which a stopped fit resumes."""
    isolation: Literal["none", "alone", "resource", "pg"] = "none"
    """Protection that keeps our other trials off the machine during a measurement; see runtime.executor.Isolation."""

    @property
    def forkable(self) -> bool:
        """Whether a process may run it that is forked from one with torch, transformers and peft.

        Cold start and memory of a measurement need a new process, as do GPUs. Quantised weights need peft imported in
        another way, and a baseline, whose memory is recorded too, none of these libraries.
        """
        return self.device == "cpu" and all(
            phase.phase != "measure" and phase.fit.model.method != "baseline" and phase.fit.quantization == "none"
            for phase in self.phases
        )
