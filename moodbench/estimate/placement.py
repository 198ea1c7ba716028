"""Placement of a fit on a device class: what makes it fit, or why it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from moodbench.config.schema import DeviceClass
from moodbench.estimate.memory import FitMemory, Load, fit_memory
from moodbench.estimate.shape import Shape

GIB = 2**30
USABLE = {"cpu": 0.85, "mps": 0.70, "cuda": 0.95}
"""Share of a device's memory that fits may use.

macOS lets its GPU use about 70 % of the memory of the machine, and the system needs the rest.
"""

QLORA = "QLoRA (nf4)"
"""Entry of `Placement.changes` if 4-bit weights made the fit possible."""


@dataclass(frozen=True)
class Placement:
    """One fit on one device class."""

    load: Load
    memory: FitMemory
    fits: bool
    changes: tuple[str, ...]
    """Changes that make it fit, in words; empty if it fits as requested."""
    reason: str
    """Why it does not fit; empty if it does."""


def place(shape: Shape, asked: Load, device: DeviceClass, *, may_change: bool = True) -> Placement:
    """Return the first variant that fits on `device`.

    Variants in order: as `asked`, smaller batches, 4-bit weights where the device supports them, both. Gradients of
    smaller batches are accumulated to the same effective batch, so they do not change what is learnt; 4-bit weights do.
    If nothing fits, return the smallest variant with the reason.
    """
    tried: list[tuple[tuple[str, ...], Load, FitMemory]] = []
    for changes, load in _ways(shape, asked, device) if may_change else [((), asked)]:
        memory = fit_memory(shape, load)
        if fits(memory, device):
            return Placement(load, memory, True, changes, "")
        tried.append((changes, load, memory))
    changes, load, memory = min(tried, key=lambda way: needed_bytes(way[2], device))
    return Placement(load, memory, False, changes, _reason(memory, load, device))


def options_for(placement: Placement) -> str:
    """Return the options of `moodbench run` that apply the changes of `placement`, or an empty string."""
    options = ["--quantization nf4"] if QLORA in placement.changes else []
    if any(change.startswith("batch ") for change in placement.changes):
        options.append(f"--train max_device_batch_size={placement.load.batch_size}")
    return " ".join(options)


def fits(memory: FitMemory, device: DeviceClass) -> bool:
    """Return whether the device and its machine have enough memory."""
    if device.device == "cuda":
        assert device.gpu_memory_gib is not None
        return memory.device_bytes <= USABLE["cuda"] * device.gpu_memory_gib * GIB and (
            memory.host <= USABLE["cpu"] * device.memory_gib * GIB
        )
    return needed_bytes(memory, device) <= USABLE[device.device] * device.memory_gib * GIB


def needed_bytes(memory: FitMemory, device: DeviceClass) -> int:
    """Return the bytes needed on the GPU, or in machine memory if the device has none of its own."""
    return memory.device_bytes if device.device == "cuda" else memory.device_bytes + memory.host


def gpu_share(gpu_memory_bytes: int, device: DeviceClass) -> float:
    """Return the share of one GPU of this class that `gpu_memory_bytes` takes.

    A share above 1/2 is rounded up to a whole GPU. A share above 1 does not fit.
    """
    if device.gpu_memory_gib is None:
        return 0.0
    share = gpu_memory_bytes / (device.gpu_memory_gib * GIB)
    return max(1.0, share) if share > 0.5 else share


def _ways(shape: Shape, asked: Load, device: DeviceClass) -> Iterator[tuple[tuple[str, ...], Load]]:
    yield (), asked
    stores: list[tuple[tuple[str, ...], Load]] = [((), asked)]
    if device.device != "mps" and asked.quantization == "none" and not asked.full:  # MPS lacks bitsandbytes
        quantised = replace(asked, quantization="nf4", weights_precision=asked.precision)
        stores.append(((QLORA,), quantised))
    for said, load in stores:
        if said:
            yield said, load
        batch = asked.batch_size
        while batch > 1:
            batch = -(-batch // 2)
            yield (*said, f"batch {batch}"), replace(load, batch_size=batch)


def _reason(memory: FitMemory, load: Load, device: DeviceClass) -> str:
    limit = device.gpu_memory_gib if device.device == "cuda" else device.memory_gib
    assert limit is not None
    needed = needed_bytes(memory, device)
    if needed <= USABLE[device.device] * limit * GIB:
        return (
            f"needs {memory.host / GIB:.1f} GiB of the machine's memory, "
            f"{USABLE['cpu'] * device.memory_gib:.1f} of {device.memory_gib:g} GiB are usable"
        )
    parts = memory.weights + memory.trained + memory.activations
    no_bits = "; 4-bit weights work on CUDA and on CPUs only" if device.device == "mps" else ""
    where = "on the GPU" if device.device == "cuda" else "of memory"
    return (
        f"needs {needed / GIB:.1f} GiB {where} even with batches of {load.batch_size} "
        f"(weights {memory.weights / GIB:.1f}, trained parameters and optimiser {memory.trained / GIB:.1f}, "
        f"activations {memory.activations / GIB:.1f}, process, copies and reserve {(needed - parts) / GIB:.1f}), "
        f"{USABLE[device.device] * limit:.1f} of {limit:g} GiB are usable{no_bits}"
    )
