"""A model too large for one CUDA device: its layers on several, one after another; accelerate moves what passes between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def empty_model(auto: Any, config: Any, *, trust_remote_code: bool = False) -> Any:
    """Return the model that the class `auto` makes of a transformers `config`, without values: modules and shapes only."""
    import torch

    with torch.device("meta"):
        return auto.from_config(config, trust_remote_code=trust_remote_code)


def spread(model: Any, num_gpus: int) -> dict[str, int]:
    """For each part of `model`, in order, the number of the CUDA device it goes to; no layer is cut. Reads shapes only.

    Neighbours stay together, and the device with the most bytes has as few as that allows. (accelerate's own "balanced"
    map leaves devices empty, or more than half of a model of 24 layers on one of three.)
    """
    whole = frozenset(getattr(model, "_no_split_modules", None) or ())
    parts = list(_parts("", model, whole))
    groups = split([num_bytes for _, num_bytes in parts], num_gpus)
    return {name: group for (name, _), group in zip(parts, groups, strict=True)}


def split(sizes: Sequence[int], num_groups: int) -> list[int]:
    """The group of each item: at most `num_groups` runs of neighbours whose largest sum is as small as can be."""
    low, high = max(sizes), sum(sizes)
    while low < high:
        limit = (low + high) // 2
        if _filled(sizes, limit)[-1] < num_groups:
            high = limit
        else:
            low = limit + 1
    return _filled(sizes, low)


def _filled(sizes: Sequence[int], limit: int) -> list[int]:
    """The group of each item when a new group begins wherever the last would hold more than `limit`."""
    groups, group, held = [], 0, 0
    for size in sizes:
        if held + size > limit:
            group, held = group + 1, 0
        held += size
        groups.append(group)
    return groups


def _parts(name: str, module: Any, whole: frozenset[str]) -> Iterator[tuple[str, int]]:
    """The parts of `module` that stay in one piece, each with its bytes: layers, and what holds values of its own."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    children = list(module.named_children())
    if name and (own or not children or type(module).__name__ in whole):
        yield name, sum(p.numel() * p.element_size() for p in module.parameters())
        return
    for child_name, child in children:
        yield from _parts(f"{name}.{child_name}".lstrip("."), child, whole)


def on_gpus(model: Any, num_gpus: int) -> Any:
    """`model` with its layers moved to `num_gpus` CUDA devices, called as before."""
    from accelerate import dispatch_model

    return dispatch_model(model, spread(model, num_gpus))


def is_spread(model: Any) -> bool:
    """Whether parts of the model are on several devices."""
    return len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1
