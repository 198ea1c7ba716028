"""Full fine-tuning: which weights are trained, and how they are saved and restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WEIGHTS = "weights.safetensors"
"""File of an artifact with all trained weights, for models that were fine-tuned without an adapter."""


def train_all(model: Any) -> Any:
    """Return `model` with all weights trainable, except the token embeddings and the output layer of a language model.

    That layer scores the label words and often shares its weights with the embeddings, so both stay frozen.
    """
    from moodbench.models.label_words import LabelWordClassifier

    model.requires_grad_(True)
    if isinstance(model, LabelWordClassifier):
        model.get_input_embeddings().requires_grad_(False)
        model.get_output_embeddings().requires_grad_(False)
    return model


def save_trained(model: Any, path: Path) -> None:
    """Write the trainable weights of `model` to the safetensors file `path`."""
    from safetensors.torch import save_file

    trained = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    save_file(trained, path, metadata={"format": "pt"})


def put_trained(model: Any, path: Path) -> Any:
    """Return `model` with the weights in the safetensors file `path` copied over its own."""
    import torch
    from safetensors.torch import load_file

    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in load_file(path).items():
            parameters[name].copy_(tensor)
    return model
