"""evaluation.yaml and devices.yaml: prediction, speed and memory measurements, and device classes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moodbench.config.schema.base import BatchSize, Count, Entry, Name, NonNegative, Positive, Seconds


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
    """Maximum attempts to measure each process undisturbed; if all fail, the last one is kept and marked."""
    backoff_s: Seconds
    """Wait before the second attempt; doubles with each further attempt."""
    quick: bool
    """Whether the protocol is too short for publication."""


class EvaluationFile(Entry):
    """Schema of evaluation.yaml."""

    prediction_batch_size: BatchSize
    """Texts per batch when predicting the test split."""
    protocols: dict[Name, MeasureProtocol]
    """Name -> measurement protocol."""
    protocol: str
    """Name of the default protocol."""

    @model_validator(mode="after")
    def _protocol_exists(self) -> EvaluationFile:
        if self.protocol not in self.protocols:
            raise ValueError(f"protocol {self.protocol!r} is not one of {sorted(self.protocols)}")
        return self


class DeviceClass(Entry):
    """Machines of one kind: the resources that a trial phase may use, and their peak speed."""

    description: str
    device: Literal["cpu", "cuda", "mps"]
    memory_gib: Positive
    """Memory of the machine in GiB; on Apple silicon shared with the GPU."""
    num_cpus: Count
    """Number of CPU cores."""
    gpu_memory_gib: Positive | None = None
    """Memory of one CUDA device in GiB; required for cuda, not allowed otherwise."""
    tflops: dict[Literal["fp32", "fp16", "bf16"], Positive]
    """Number format -> peak throughput in 10^12 operations per second; only formats that the device supports."""
    bandwidth_gb_s: Positive
    """Peak bandwidth, in 10^9 bytes per second, of the memory that holds the weights."""
    efficiency: Annotated[float, Field(gt=0, le=1)]
    """Share of the peak that training is assumed to reach when there is no history."""
    overhead_ms_per_layer: NonNegative = 0.0
    """Kernel launch time of one layer per forward pass, in ms; it dominates for small models on fast devices."""
    gpu_names: tuple[str, ...] = ()
    """Regular expressions for the GPU name that nvidia-smi shows."""
    labels: dict[str, str] = {}
    """Labels that the nodes of this class have in a Ray cluster."""
    tags: tuple[str, ...] = ()
    """Free-form tags."""
    price_per_hour: NonNegative | None = None
    """Price of one machine, in any currency that all classes share."""
    source: str
    """Source of the figures."""

    @model_validator(mode="after")
    def _complete(self) -> DeviceClass:
        if (self.device == "cuda") != (self.gpu_memory_gib is not None):
            raise ValueError("gpu_memory_gib is given exactly for device cuda")
        if "fp32" not in self.tflops:
            raise ValueError("tflops: fp32 is missing; every device computes in it")
        return self


class DevicesFile(Entry):
    """Schema of devices.yaml."""

    devices: dict[Name, DeviceClass]
