"""Weights that fine-tuning changed in place: which are trained, saved, and put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WEIGHTS = "weights.safetensors"
"""File of an artifact with all weights that were trained, where none of them is an adapter's."""


def train_all(model: Any) -> Any:
    """Return `model` with every weight to be trained, but for the token embeddings and the head of a language model.

    Label words are read by that head, which often shares its weights with the embeddings: both stay what they were.
    """
    from moodbench.models.label_words import LabelWordClassifier

    model.requires_grad_(True)
    if isinstance(model, LabelWordClassifier):
        model.get_input_embeddings().requires_grad_(False)
        model.get_output_embeddings().requires_grad_(False)
    return model


def freeze_first_layers(model: Any, share: float) -> None:
    """Train neither the first `share` (0 to below 1, rounded to whole layers) of the layers nor what stands before them."""
    depths = layer_depths(model)
    num_frozen = round(share * (max(depths.values()) - 1))
    for name, parameter in model.named_parameters():
        if num_frozen and depths[name] <= num_frozen:
            parameter.requires_grad_(False)


def layer_depths(model: Any) -> dict[str, int]:
    """Return the depth of each parameter by its name: 0 before the first numbered layer, n in the n-th, one more elsewhere."""
    layers: dict[str, int] = {}
    depths: dict[str, int | None] = {}
    for name, _ in model.named_parameters():
        parts = name.split(".")
        number = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if number is not None:
            depths[name] = layers.setdefault(".".join(parts[: number + 1]), len(layers) + 1)
        else:
            depths[name] = None if layers else 0
    return {name: len(layers) + 1 if depth is None else depth for name, depth in depths.items()}


def save_trained(model: Any, path: Path) -> None:
    """Write the weights of `model` that are trained, by their names, to the safetensors file `path`."""
    from safetensors.torch import save_file

    trained = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    save_file(trained, path, metadata={"format": "pt"})


def put_trained(model: Any, path: Path) -> Any:
    """Return `model` with the weights of the safetensors file `path` in place of its own."""
    import torch
    from safetensors.torch import load_file

    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in load_file(path).items():
            parameters[name].copy_(tensor)
    return model
