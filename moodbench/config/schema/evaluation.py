"""evaluation.yaml: settings of prediction, and of speed and memory measurements."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from moodbench.config.schema.base import BatchSize, Entry, Seconds


class MeasureProtocol(Entry):
    """Protocol of speed and memory measurements."""

    processes: Annotated[int, Field(ge=1, le=1000)]
    """Number of fresh processes; each answers all requests."""
    requests: Annotated[int, Field(ge=1, le=10_000_000)]
    """Single-stream requests per process."""
    window_requests: Annotated[int, Field(ge=1, le=10_000_000)]
    """Requests per window; a window disturbed by other load is dropped as a whole."""
    warmup_s: Seconds
    """Minimum warm-up time per process."""
    batch_sizes: tuple[BatchSize, ...] = Field(min_length=1, max_length=100)
    """Batch sizes at which throughput is measured."""
    batch_seconds: Annotated[Seconds, Field(gt=0)]
    """Minimum time of one throughput measurement, in seconds."""
    batch_repeats: Annotated[int, Field(ge=1, le=1000)]
    """Repetitions per batch size; the median is reported."""
    max_attempts: Annotated[int, Field(ge=1, le=1000)]
    """Maximum attempts to get an undisturbed measurement; if all fail, the last one is kept and marked."""
    backoff_s: Seconds
    """Wait before the second attempt; doubles with each further attempt."""
    quick: bool
    """Whether the protocol is too short for publication."""


class EvaluationFile(Entry):
    """Schema of evaluation.yaml."""

    prediction_batch_size: BatchSize
    """Texts per batch when predicting the test split."""
    protocols: dict[str, MeasureProtocol]
    """Name -> measurement protocol."""
    protocol: str
    """Name of the default protocol."""

    @model_validator(mode="after")
    def _protocol_exists(self) -> EvaluationFile:
        if self.protocol not in self.protocols:
            raise ValueError(f"protocol {self.protocol!r} is not one of {sorted(self.protocols)}")
        return self
