"""Torch on the chosen device: threads, synchronisation, memory peaks and parameter counts."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal

from moodbench.hardware import Device, hardware

if TYPE_CHECKING:
    import torch


def prepare_torch(num_threads: int) -> None:
    """Set torch's number of threads and silence library notices; call once per process, before any work."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import logging

    import torch
    import transformers

    torch.set_num_threads(num_threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def import_peft(*, quantised: bool) -> None:
    """Import peft, faster if this process quantises no weights.

    peft imports bitsandbytes, which loads torch's compiler for functions that only quantised weights call. If the
    process quantises weights later nevertheless, as trials run inline may, these functions run uncompiled.
    """
    with nullcontext() if quantised else _no_compiler():
        import peft  # noqa: F401


@contextmanager
def _no_compiler() -> Iterator[None]:
    """Leave functions that are decorated with torch.compile inside this context uncompiled."""
    name, before = "TORCHDYNAMO_DISABLE", os.environ.get("TORCHDYNAMO_DISABLE")
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def get_device(wanted: Literal["auto", "cpu", "cuda", "mps"] = "auto") -> Device:
    """Return the device to use: `wanted`, or for "auto" the best device of this machine.

    Raises: PrerequisiteError if this machine does not have `wanted`.
    """
    return hardware().device(wanted)


def wait_for(device: Device) -> None:
    """Wait until all work queued on the accelerator is done."""
    if device != "cpu":
        import torch

        torch.accelerator.synchronize()


def reset_gpu_peak(device: Device) -> None:
    """Reset the peak of CUDA memory."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()


def gpu_peak_bytes(device: Device) -> tuple[int | None, int | None]:
    """Return peak allocated and peak reserved CUDA bytes since the reset.

    Both are None on other devices; torch.mps records no peak.
    """
    if device != "cuda":
        return None, None
    import torch

    return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()


def parameter_bytes(module: torch.nn.Module) -> int:
    """Return the bytes of all parameters, buffers and scales of quantised weights; shared tensors count once."""
    states = [state for p in module.parameters() if (state := getattr(p, "quant_state", None)) is not None]
    scales = [t for s in states for t in s.as_dict(packed=True).values() if hasattr(t, "nbytes")]
    tensors = {t.data_ptr(): t.nbytes for t in (*module.parameters(), *module.buffers(), *scales)}
    return sum(tensors.values())


def parameter_count(module: torch.nn.Module) -> int:
    """Return the number of parameters; 4-bit weights, stored two to a byte, are counted individually."""
    states = ((p, getattr(p, "quant_state", None)) for p in module.parameters())
    return sum(math.prod(state.shape) if state is not None else p.numel() for p, state in states)
