"""devices.yaml: device classes, that is, kinds of machines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moodbench.config.schema.base import Count, Entry, NonNegative, Positive


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

    devices: dict[str, DeviceClass]
