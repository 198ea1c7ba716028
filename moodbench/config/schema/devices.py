"""devices.yaml: kinds of machines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moodbench.config.schema.base import Count, Entry, NonNegative, Positive


class DeviceClass(Entry):
    """Machines of one kind: what a phase may use of one, and how fast it is at best."""

    description: str
    device: Literal["cpu", "cuda", "mps"]
    memory_gib: Positive
    """Memory of the machine; on Apple silicon the GPU's too."""
    num_cpus: Count
    """Cores of the machine."""
    gpu_memory_gib: Positive | None = None
    """Memory of one CUDA device; given exactly for cuda."""
    tflops: dict[Literal["fp32", "fp16", "bf16"], Positive]
    """Peak 10^12 operations per second for each number format that the device computes in."""
    bandwidth_gb_s: Positive
    """Peak 10^9 bytes per second of the memory that holds the weights."""
    efficiency: Annotated[float, Field(gt=0, le=1)]
    """Share of the peak that training reaches where no history says better."""
    overhead_ms_per_layer: NonNegative = 0.0
    """Time to start one layer's kernels in one forward pass; small models on fast devices wait for it."""
    gpu_names: tuple[str, ...] = ()
    """Regular expressions for the name that nvidia-smi shows."""
    labels: dict[str, str] = {}
    """Labels of the nodes of a Ray cluster."""
    tags: tuple[str, ...] = ()
    """Words of your own."""
    price_per_hour: NonNegative | None = None
    """In any currency, the same for all classes."""
    source: str
    """Where the figures are from."""

    @model_validator(mode="after")
    def _complete(self) -> DeviceClass:
        if (self.device == "cuda") != (self.gpu_memory_gib is not None):
            raise ValueError("gpu_memory_gib is given exactly for device cuda")
        if "fp32" not in self.tflops:
            raise ValueError("tflops: fp32 is missing; every device computes in it")
        return self


class DevicesFile(Entry):
    """devices.yaml."""

    devices: dict[str, DeviceClass]
