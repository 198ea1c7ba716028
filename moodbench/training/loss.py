"""Losses of a classifier that a recipe may ask for in place of the plain cross-entropy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from moodbench.config.schema import TrainDefaults

if TYPE_CHECKING:
    import torch

LossFunction = Callable[..., "torch.Tensor"]
"""From a model's outputs, labels (texts,) and the number of texts of the optimiser step to the loss."""


def loss_function(train: TrainDefaults, num_per_class: Sequence[int]) -> LossFunction | None:
    """Return the loss of a recipe for training texts of which `num_per_class` have each label; None for the plain one.

    A text of class c with predicted probabilities p costs w_c (1 - p_c)**gamma H, where H is its cross-entropy to the
    smoothed target (Szegedy et al. 2016, arXiv:1512.00567, section 7), gamma that of the focal loss (Lin et al. 2017,
    arXiv:1708.02002, equation 4), and w_c = texts / (classes x texts of c) with balanced classes, else 1. The loss is the
    mean over texts, those of all forward passes of one optimiser step.
    """
    if train.class_weights == "none" and train.focal_gamma == 0 and train.label_smoothing == 0:
        return None
    import torch
    from torch.nn import functional

    total, classes = sum(num_per_class), len(num_per_class)
    weights = [total / (classes * max(n, 1)) if train.class_weights == "balanced" else 1.0 for n in num_per_class]

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None) -> torch.Tensor:
        logits = outputs.logits.float()
        each = functional.cross_entropy(logits, labels, label_smoothing=train.label_smoothing, reduction="none")
        if train.focal_gamma:
            own = logits.softmax(-1).gather(1, labels.unsqueeze(1)).squeeze(1)
            each = each * (1 - own) ** train.focal_gamma
        each = each * torch.tensor(weights, device=each.device)[labels]
        return each.sum() / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return loss
