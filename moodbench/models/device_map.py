"""Pipeline placement of models too large for one CUDA device: whole layers on several devices, run by accelerate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def empty_model(auto: Any, config: Any, *, trust_remote_code: bool = False) -> Any:
    """Return the model that the auto class `auto` builds from `config`, on the meta device: shapes without values."""
    import torch

    with torch.device("meta"):
        return auto.from_config(config, trust_remote_code=trust_remote_code)


def spread(model: Any, num_gpus: int) -> dict[str, int]:
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


def on_gpus(model: Any, num_gpus: int) -> Any:
    """Return `model` with its layers moved to `num_gpus` CUDA devices; its interface does not change."""
    from accelerate import dispatch_model

    return dispatch_model(model, spread(model, num_gpus))


def is_spread(model: Any) -> bool:
    """Return whether the model is placed on several devices."""
    return len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1
