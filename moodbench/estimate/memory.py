"""Bytes that fitting and predicting take, part by part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from moodbench.estimate.shape import Shape

Precision = Literal["fp32", "fp16", "bf16"]
Quantization = Literal["none", "int8", "nf4"]
NF4_BYTES = 0.516
"""4 bits, and with double quantisation 0.127 bits of scales. Source: Dettmers et al. 2023, section 3."""
INT8_BYTES = 1.01
TRAINED_BYTES = 16
"""fp32 weight, gradient and AdamW's two moments of a trained parameter."""
WEIGHT_BYTES = 4
"""Of them the weight, which is counted with the loaded weights where these are trained."""
SLACK = {"cpu": 1.15, "cuda": 1.15, "mps": 1.2}
"""Allocators keep more than is in use."""
ACTIVATION_SLACK = {"cpu": 2.45, "cuda": 1.15, "mps": 1.2}
"""Likewise of activations. That of a CPU was fitted to the peaks of processes that trained MiniLM and SmolLM2, which grow with the
number of batches; why they do was not found."""
FIXED_DEVICE_BYTES = {"cuda": 700 * 2**20, "mps": 500 * 2**20, "cpu": 0}
"""Context, kernels and workspaces on the accelerator."""
TRAINING_PROCESS_BYTES = 1250 * 2**20
"""A process that has imported torch, transformers and peft and has begun to train, without model and activations."""
CUDA_PROCESS_BYTES = 2 * 2**30
"""Host memory that CUDA's libraries add."""
BASELINE_PROCESS_BYTES = 300 * 2**20
"""A process that fits a classical baseline, without its texts."""


@dataclass(frozen=True)
class Load:
    """How a transformer is fitted or asked."""

    batch_size: int
    num_tokens: int
    """Tokens of the longest text of the largest batch."""
    device: Literal["cpu", "cuda", "mps"] = "cpu"
    precision: Precision = "fp32"
    """Number format of the arithmetic."""
    weights_precision: Precision = "fp32"
    """Number format of the frozen weights that are not quantised."""
    quantization: Quantization = "none"
    checkpointing: bool = False
    """Activations of a layer are computed again in the backward pass."""
    dropout: bool = True
    """Masks are kept for the backward pass."""
    num_trained: int = 0
    """Parameters with gradients: adapter and head, or all."""
    full: bool = False
    """The loaded weights themselves are trained."""


@dataclass(frozen=True)
class FitMemory:
    """Bytes of one fit, by what they are for."""

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
    """Memory of the process beside all this, outside the accelerator."""

    @property
    def device_bytes(self) -> int:
        """Bytes on the accelerator; without one, in the process."""
        kept = self.slack * (self.weights + self.trained + self.transient) + self.activation_slack * self.activations
        return round(kept) + self.fixed


def fit_memory(shape: Shape, load: Load) -> FitMemory:
    """Return the bytes of fine-tuning under `load`."""
    weights = weights_bytes(shape, load)
    if load.quantization == "nf4" or load.precision != load.weights_precision:
        # What is multiplied is copied to the format of the arithmetic; without 4-bit storage the graph keeps the copies.
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
    """The bytes of predicting under `load`: of activations, one layer's and its input are alive at a time."""
    one = replace(shape, num_layers=1)
    return replace(
        fit_memory(shape, replace(load, num_trained=0, checkpointing=True)),
        activations=activation_bytes(one, replace(load, checkpointing=False, dropout=False)),
    )


def weights_bytes(shape: Shape, load: Load) -> int:
    """Bytes of the loaded weights; embeddings, norms and head are not quantised, and of them only the few of norms and head
    are wider than `weights_precision`."""
    full = _bytes(load.weights_precision)
    if load.quantization == "none":
        return shape.num_params * full
    each = NF4_BYTES if load.quantization == "nf4" else INT8_BYTES
    return round(shape.num_linear_params * each + (shape.num_params - shape.num_linear_params) * full)


def activation_bytes(shape: Shape, load: Load) -> int:
    """Bytes that the backward pass needs of the forward pass.

    Per layer and token: inputs of both norms, of the projections, queries, keys, values, the input of the output
    projection, the inputs of the feed-forward matrices and of its non-linearity, with a byte per value for each of two
    dropout masks; for 16-bit numbers and a width of 4 x hidden these are the 34 bytes x hidden of Korthikanti et al. 2022,
    equation 1, and so are the 5 bytes per pair of tokens and head where attention is not fused. With checkpointing the
    inputs of all layers and everything inside one (ibid., section 5). Fewer need be kept where weights are frozen, so
    this is rather too much than too little. Where fp32 weights are multiplied in 16 bits, what is between the layers is
    fp32, and each projection keeps a 16-bit copy of its input of its own. Keys and values are kept as attention reads them,
    repeated for each head.
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

    Training a language model on its next token keeps them; one that answers with label words computes their rows alone, at
    the last token.
    """
    return 2 * 4 * load.batch_size * load.num_tokens * shape.vocab


def host_bytes(weights: int, device: str) -> int:
    """Memory of a training process beside what is on the device; weights pass through it on their way to a GPU."""
    return TRAINING_PROCESS_BYTES + (CUDA_PROCESS_BYTES + weights if device == "cuda" else 0)


def _bytes(precision: Precision) -> int:
    return 4 if precision == "fp32" else 2
