"""evaluation.yaml: how predictions are made and how speed is measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from moodbench.config.schema.base import BatchSize, Entry, Seconds


class MeasureProtocol(Entry):
    """How speed and memory are measured."""

    processes: Annotated[int, Field(ge=1, le=1000)]
    """Fresh processes, each of which answers all requests."""
    requests: Annotated[int, Field(ge=1, le=10_000_000)]
    """Single-stream requests per process."""
    window_requests: Annotated[int, Field(ge=1, le=10_000_000)]
    """Requests per window, the unit that is kept or dropped for disturbance."""
    warmup_s: Seconds
    """Least time of warm-up per process."""
    batch_sizes: tuple[BatchSize, ...] = Field(min_length=1, max_length=100)
    """Batch sizes of the throughput points."""
    batch_seconds: Annotated[Seconds, Field(gt=0)]
    """Least time of one throughput point."""
    batch_repeats: Annotated[int, Field(ge=1, le=1000)]
    """Repeats of each throughput point; the median is reported."""
    max_attempts: Annotated[int, Field(ge=1, le=1000)]
    """Attempts until a measurement is undisturbed; the last is kept and marked."""
    backoff_s: Seconds
    """Wait before the second attempt; doubles each time."""
    quick: bool
    """Marks a protocol too short for publication."""


class EvaluationFile(Entry):
    """evaluation.yaml: how predictions are made and how speed is measured."""

    prediction_batch_size: BatchSize
    """Texts per batch when the test split is predicted."""
    protocols: dict[str, MeasureProtocol]
    """Named measuring protocols."""
    protocol: str
    """The protocol used when none is named."""

    @model_validator(mode="after")
    def _protocol_exists(self) -> EvaluationFile:
        if self.protocol not in self.protocols:
            raise ValueError(f"protocol {self.protocol!r} is not one of {sorted(self.protocols)}")
        return self
