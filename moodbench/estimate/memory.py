"""Bytes that fitting and predicting need, part by part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from moodbench.estimate.shape import Shape

Precision = Literal["fp32", "fp16", "bf16"]
Quantization = Literal["none", "int8", "nf4"]
NF4_BYTES = 0.516
"""4 bits, plus 0.127 bits of scales with double quantisation. Source: Dettmers et al. 2023, section 3."""
INT8_BYTES = 1.01
TRAINED_BYTES = 16
"""fp32 weight, gradient and the two AdamW moments of a trained parameter."""
WEIGHT_BYTES = 4
"""Part of TRAINED_BYTES: the weight, which is counted with the loaded weights where these are trained."""
SLACK = {"cpu": 1.15, "cuda": 1.15, "mps": 1.2}
"""Factor for memory that allocators keep beyond what is in use."""
ACTIVATION_SLACK = {"cpu": 2.45, "cuda": 1.15, "mps": 1.2}
"""The same factor for activations.

The CPU value was fitted to the memory peaks of processes that trained MiniLM and SmolLM2. These peaks grow with the
number of batches; the cause is unknown.
"""
FIXED_DEVICE_BYTES = {"cuda": 700 * 2**20, "mps": 500 * 2**20, "cpu": 0}
"""For context, kernels and workspaces on the accelerator."""
TRAINING_PROCESS_BYTES = 1250 * 2**20
"""For a process that imported torch, transformers and peft and began to train, without model and activations."""
CUDA_PROCESS_BYTES = 2 * 2**30
"""Host memory that the CUDA libraries add."""
BASELINE_PROCESS_BYTES = 300 * 2**20
"""For a process that fits a classical baseline, without its texts."""


@dataclass(frozen=True)
class Load:
    """Settings under which a transformer is fitted or predicts."""

    batch_size: int
    num_tokens: int
    """Tokens of the longest text in the largest batch."""
    device: Literal["cpu", "cuda", "mps"] = "cpu"
    precision: Precision = "fp32"
    """Number format of the arithmetic."""
    weights_precision: Precision = "fp32"
    """Number format of the frozen weights that are not quantised."""
    quantization: Quantization = "none"
    checkpointing: bool = False
    """Whether the backward pass recomputes the activations of a layer."""
    dropout: bool = True
    """Whether dropout masks are kept for the backward pass."""
    num_trained: int = 0
    """Number of parameters with gradients: adapter and head, or all."""
    full: bool = False
    """Whether the loaded weights themselves are trained."""


@dataclass(frozen=True)
class FitMemory:
    """Bytes of one fit, by purpose."""

    weights: int
    trained: int
    """Adapter and head with their gradients and optimiser state."""
    activations: int
    transient: int
    """Copies of weights in the number format of the arithmetic."""
    fixed: int
    """Context and workspaces on the accelerator."""
    slack: float
    activation_slack: float
    host: int
    """Other memory of the process, outside the accelerator."""

    @property
    def device_bytes(self) -> int:
        """Bytes on the accelerator, or in the process if there is none; without `host`."""
        kept = self.slack * (self.weights + self.trained + self.transient) + self.activation_slack * self.activations
        return round(kept) + self.fixed


def fit_memory(shape: Shape, load: Load) -> FitMemory:
    """Return the bytes of fine-tuning under `load`."""
    weights = weights_bytes(shape, load)
    if load.quantization == "nf4" or load.precision != load.weights_precision:
        # Multiplied weights are copied to the arithmetic format; without 4-bit storage the autograd graph keeps them.
        copied = shape.layer_matrices if load.quantization == "nf4" or load.checkpointing else shape.num_linear_params
        transient = copied * _bytes(load.precision)
    else:
        transient = 0
    return FitMemory(
        weights=weights,
        trained=(TRAINED_BYTES - (WEIGHT_BYTES if load.full else 0)) * load.num_trained,
        activations=activation_bytes(shape, load),
        transient=transient,
        fixed=FIXED_DEVICE_BYTES[load.device],
        slack=SLACK[load.device],
        activation_slack=ACTIVATION_SLACK[load.device],
        host=host_bytes(weights, load.device),
    )


def predict_memory(shape: Shape, load: Load) -> FitMemory:
    """Return the bytes of predicting under `load`, with the activations of one layer and its input at a time."""
    one = replace(shape, num_layers=1)
    return replace(
        fit_memory(shape, replace(load, num_trained=0, checkpointing=True)),
        activations=activation_bytes(one, replace(load, checkpointing=False, dropout=False)),
    )


def weights_bytes(shape: Shape, load: Load) -> int:
    """Return the bytes of the loaded weights.

    Embeddings, norms and head are not quantised; only the few weights of norms and head are wider than
    `weights_precision`.
    """
    full = _bytes(load.weights_precision)
    if load.quantization == "none":
        return shape.num_params * full
    each = NF4_BYTES if load.quantization == "nf4" else INT8_BYTES
    return round(shape.num_linear_params * each + (shape.num_params - shape.num_linear_params) * full)


def activation_bytes(shape: Shape, load: Load) -> int:
    """Return the bytes of the activations that the forward pass keeps for the backward pass.

    Per layer and token, these are the inputs of both norms and of the projections; queries, keys and values; the input
    of the output projection; the inputs of the feed-forward matrices and of the non-linearity; and one byte per value
    for each of two dropout masks. With 16-bit numbers and a feed-forward width of 4 x hidden, this is the 34 bytes x
    hidden of the source, equation 1; so are the 5 bytes per pair of tokens and head where attention is not fused. With
    checkpointing, the inputs of all layers and everything inside one layer are kept (section 5).

    Fewer activations are needed where weights are frozen, so this estimate errs on the high side. Where fp32
    weights are multiplied in 16 bits, activations between layers are fp32, and each projection keeps its own 16-bit
    copy of its input. Keys and values are kept as attention reads them, repeated for each head.
    Source: Korthikanti et al. 2022.
    """
    size, mask, mixed = _bytes(load.precision), int(load.dropout), load.precision != load.weights_precision
    tokens = load.batch_size * load.num_tokens
    hidden, inner = shape.hidden, shape.intermediate
    copies = (3, 2 if shape.gated else 1) if mixed else (1, 1)
    attention = size * (copies[0] * hidden + 4 * shape.q_width) + mask * hidden
    feed_forward = size * (copies[1] * hidden + (4 if shape.gated else 2) * inner) + mask * hidden
    norms = _bytes(load.weights_precision) * 2 * hidden
    per_layer = tokens * (attention + feed_forward + norms)
    if not shape.fused_attention:
        per_layer += tokens * load.num_tokens * shape.num_heads * (2 * size + mask)
    if load.checkpointing and shape.checkpointing:
        return shape.num_layers * tokens * hidden * size + per_layer
    return shape.num_layers * per_layer


def vocabulary_bytes(shape: Shape, load: Load) -> int:
    """Return the bytes of fp32 scores of the whole vocabulary at every token, and of their gradients.

    Next-token training of a language model keeps them. A model that answers with label words computes only the rows of
    these words, at the last token.
    """
    return 2 * 4 * load.batch_size * load.num_tokens * shape.vocab


def host_bytes(weights: int, device: str) -> int:
    """Return the bytes of memory that a training process needs outside the device.

    On CUDA this includes the weights, which pass through host memory on their way to the GPU.
    """
    return TRAINING_PROCESS_BYTES + (CUDA_PROCESS_BYTES + weights if device == "cuda" else 0)


def _bytes(precision: Precision) -> int:
    return 4 if precision == "fp32" else 2
