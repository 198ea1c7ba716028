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
