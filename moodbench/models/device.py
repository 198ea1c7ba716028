"""Torch on the chosen devices: threads, memory, parameter counts, and layers spread over several GPUs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from moodbench.errors import PrerequisiteError
from moodbench.estimate.memory import Memory
from moodbench.hardware import GIB, Device, Gpu, Hardware, hardware

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


def check_cards(gpus: Sequence[Gpu], architectures: Sequence[str], version: str) -> None:
    """Raise PrerequisiteError for the first GPU that a torch of this `version`, built for `architectures`, cannot use.

    Without architectures, torch was built without CUDA, or its driver is too old.
    """
    if gpus and not architectures:
        raise PrerequisiteError(
            f"device cuda: torch {version} finds no CUDA device, though nvidia-smi lists {gpus[0].name}: it was built "
            f"without CUDA, or driver {gpus[0].driver} is too old for it; choose --device cpu, or install the build of "
            "torch for this driver"
        )
    for gpu in gpus:
        if not gpu.runs(architectures):
            raise PrerequisiteError(
                f"device cuda: {gpu.name} has compute capability {gpu.compute_capability}, torch {version} is built "
                f"for {', '.join(architectures)}; choose --device cpu, hide this card with CUDA_VISIBLE_DEVICES, or "
                "install a build of torch for it"
            )


def reset_gpu_peak(device: Device) -> None:
    """Reset the peak of the accelerator's memory; on Apple's GPU, release the cache of the allocator."""
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif device == "mps":
        torch.mps.empty_cache()


def gpu_peak_bytes(device: Device) -> tuple[int | None, int | None]:
    """Return peak allocated and peak reserved bytes of the accelerator since the reset.

    Both are None on the CPU. torch.mps records no peaks; its second value is what the driver has allocated, which only
    grows, as the allocator keeps what it has had.
    """
    if device == "cpu":
        return None, None
    import torch

    if device == "mps":
        return None, torch.mps.driver_allocated_memory()
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


def empty_model(auto: Any, config: Any, *, trust_remote_code: bool = False) -> Any:
    """Return the model that the auto class `auto` builds from `config`, on the meta device: shapes without values."""
    import torch

    with torch.device("meta"):
        return auto.from_config(config, trust_remote_code=trust_remote_code)


def layer_device_map(model: Any, num_gpus: int) -> dict[str, int]:
    """Return the CUDA device of each part of `model`, in order; reads shapes only.

    Layers are never split, each device has consecutive parts, and the largest number of bytes on a device is minimal.
    accelerate's "balanced" map leaves devices empty, or puts more than half of a model of 24 layers on one of three.
    """
    whole = frozenset(getattr(model, "_no_split_modules", None) or ())
    parts = list(_parts("", model, whole))
    groups = split([num_bytes for _, num_bytes in parts], num_gpus)
    return {name: group for (name, _), group in zip(parts, groups, strict=True)}


def split(sizes: Sequence[int], num_groups: int) -> list[int]:
    """Return the group of each item, for at most `num_groups` runs of consecutive items with minimal largest sum."""
    low, high = max(sizes), sum(sizes)
    while low < high:
        limit = (low + high) // 2
        if _filled(sizes, limit)[-1] < num_groups:
            high = limit
        else:
            low = limit + 1
    return _filled(sizes, low)


def _filled(sizes: Sequence[int], limit: int) -> list[int]:
    """Return the group of each item, filling groups in order up to the sum `limit`."""
    groups, group, held = [], 0, 0
    for size in sizes:
        if held + size > limit:
            group, held = group + 1, 0
        held += size
        groups.append(group)
    return groups


def _parts(name: str, module: Any, whole: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Yield name and bytes of the parts of `module` that are not split: layers, and modules with own parameters."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    children = list(module.named_children())
    if name and (own or not children or type(module).__name__ in whole):
        yield name, sum(p.numel() * p.element_size() for p in module.parameters())
        return
    for child_name, child in children:
        yield from _parts(f"{name}.{child_name}".lstrip("."), child, whole)


def memory_of(machine: Hardware, device: Device) -> Memory:
    """Return the memory of a machine, and for CUDA that of its smallest GPU."""
    gpu = min(gpu.memory_bytes for gpu in machine.gpus) / GIB if device == "cuda" else None
    return Memory(device, machine.memory_bytes / GIB, gpu)


def dispatch_to_gpus(model: Any, num_gpus: int) -> Any:
    """Return `model` with its layers moved to `num_gpus` CUDA devices; its interface does not change."""
    from accelerate import dispatch_model

    return dispatch_model(model, layer_device_map(model, num_gpus))


def is_dispatched(model: Any) -> bool:
    """Return whether the model is placed on several devices."""
    return len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1
