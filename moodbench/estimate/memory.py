"""Bytes that fitting and predicting need, part by part, and whether a device class has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from moodbench.config.schema import DeviceClass
from moodbench.estimate.shape import Shape
from moodbench.hardware import GIB

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
CUDA_PROCESS_BYTES = 2 * GIB
"""Host memory that the CUDA libraries add."""
BASELINE_PROCESS_BYTES = 300 * 2**20
"""For a process that fits a classical baseline, without its texts."""
USABLE = {"cpu": 0.85, "mps": 0.70, "cuda": 0.95}
"""Share of a device's memory that fits may use.

macOS lets its GPU use about 70 % of the memory of the machine, and the system needs the rest.
"""


class Memory(NamedTuple):
    """Memory of a device and its machine, without the speed that a device class has."""

    device: Literal["cpu", "cuda", "mps"]
    memory_gib: float
    """Memory of the machine."""
    gpu_memory_gib: float | None = None
    """Memory of a CUDA device."""


Capacity = DeviceClass | Memory


QLORA = "QLoRA (nf4)"
"""Entry of `Placement.changes` if 4-bit weights made the fit possible."""


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
        scaled = self.slack * (self.weights + self.trained + self.transient) + self.activation_slack * self.activations
        return round(scaled) + self.fixed


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


@dataclass(frozen=True)
class Placement:
    """One fit on one device class."""

    load: Load
    memory: FitMemory
    fits: bool
    changes: tuple[str, ...]
    """Changes that make it fit, in words; empty if it fits as requested."""
    reason: str
    """Why it does not fit; empty if it does."""


def place(
    shape: Shape,
    requested: Load,
    device: DeviceClass,
    *,
    may_change: bool = True,
    prediction_batch_size: int = 0,
    inference_dtype: Precision | None = None,
) -> Placement:
    """Return the first variant that fits on `device`, in training and in predicting `prediction_batch_size` texts.

    Variants in order: as `asked`, smaller batches, 4-bit weights where the device supports them, both. Gradients of
    smaller batches are accumulated to the same effective batch, so they do not change what is learnt; 4-bit weights do.
    If nothing fits, return the smallest variant with the reason.
    """
    tried: list[tuple[tuple[str, ...], Load, FitMemory]] = []
    for changes, load in _variants(requested, device) if may_change else [((), requested)]:
        memory = fit_memory(shape, load)
        predicting = prediction_load(load, prediction_batch_size, inference_dtype)
        if fits(memory, device) and (not prediction_batch_size or fits(predict_memory(shape, predicting), device)):
            return Placement(load, memory, True, changes, "")
        tried.append((changes, load, memory))
    changes, load, memory = min(tried, key=lambda variant: needed_bytes(variant[2], device))
    if fits(memory, device):
        predicting = prediction_load(load, prediction_batch_size, inference_dtype)
        reason = f"evaluating {_reason(predict_memory(shape, predicting), predicting, device)}"
        return Placement(load, memory, False, changes, reason)
    return Placement(load, memory, False, changes, _reason(memory, load, device))


def with_checkpointing(shape: Shape, load: Load, capacity: Capacity) -> Load:
    """Return `load`, with gradient checkpointing if training does not fit without and the architecture has it."""
    return replace(load, checkpointing=shape.checkpointing and not fits(fit_memory(shape, load), capacity))


def fits_in_fp32(shape: Shape, load: Load, gpu_memory_gib: float, prediction_batch_size: int) -> bool:
    """Return whether a GPU can train from fp32 weights under `load` and predict with them, nothing recomputed."""
    wide = replace(load, weights_precision="fp32", quantization="none", checkpointing=False)
    needs = (fit_memory(shape, wide), predict_memory(shape, prediction_load(wide, prediction_batch_size)))
    return max(need.device_bytes for need in needs) <= USABLE["cuda"] * gpu_memory_gib * GIB


def prediction_load(load: Load, batch_size: int, dtype: Precision | None = None) -> Load:
    """Return the settings under which a model that was fitted under `load` predicts, with weights in `dtype`.

    By default weights keep their format; quantised ones always do. They are also the format of the arithmetic.
    """
    stored = load.weights_precision if dtype is None or load.quantization != "none" else dtype
    kept = replace(load, precision=stored, weights_precision=stored)
    return replace(kept, batch_size=batch_size, num_trained=0, checkpointing=False, dropout=False)


def options_for(placement: Placement) -> str:
    """Return the options of `moodbench run` that apply the changes of `placement`, or an empty string."""
    options = ["--quantization nf4"] if QLORA in placement.changes else []
    if any(change.startswith("batch ") for change in placement.changes):
        options.append(f"--train max_device_batch_size={placement.load.batch_size}")
    return " ".join(options)


def fits(memory: FitMemory, device: Capacity) -> bool:
    """Return whether the device and its machine have enough memory."""
    if device.device == "cuda":
        assert device.gpu_memory_gib is not None
        return memory.device_bytes <= USABLE["cuda"] * device.gpu_memory_gib * GIB and (
            memory.host <= USABLE["cpu"] * device.memory_gib * GIB
        )
    return needed_bytes(memory, device) <= USABLE[device.device] * device.memory_gib * GIB


def needed_bytes(memory: FitMemory, device: Capacity) -> int:
    """Return the bytes needed on the GPU, or in machine memory if the device has none of its own."""
    return memory.device_bytes if device.device == "cuda" else memory.device_bytes + memory.host


def gpu_share(gpu_memory_bytes: int, device: DeviceClass) -> float:
    """Return the share of one GPU of this class that `gpu_memory_bytes` takes.

    A share above 1/2 is rounded up to a whole GPU. A share above 1 does not fit.
    """
    if device.gpu_memory_gib is None:
        return 0.0
    share = gpu_memory_bytes / (device.gpu_memory_gib * GIB)
    return max(1.0, share) if share > 0.5 else share


def _variants(requested: Load, device: DeviceClass) -> Iterator[tuple[tuple[str, ...], Load]]:
    yield (), requested
    storages: list[tuple[tuple[str, ...], Load]] = [((), requested)]
    if device.device != "mps" and requested.quantization == "none" and not requested.full:  # MPS lacks bitsandbytes
        quantised = replace(requested, quantization="nf4", weights_precision=requested.precision)
        storages.append(((QLORA,), quantised))
    for changes, load in storages:
        if changes:
            yield changes, load
        batch = requested.batch_size
        while batch > 1:
            batch = -(-batch // 2)
            yield (*changes, f"batch {batch}"), replace(load, batch_size=batch)


def _reason(memory: FitMemory, load: Load, device: DeviceClass) -> str:
    limit = device.gpu_memory_gib if device.device == "cuda" else device.memory_gib
    assert limit is not None
    needed = needed_bytes(memory, device)
    if needed <= USABLE[device.device] * limit * GIB:
        return (
            f"needs {memory.host / GIB:.1f} GiB of the machine's memory, "
            f"{USABLE['cpu'] * device.memory_gib:.1f} of {device.memory_gib:g} GiB are usable"
        )
    parts = memory.weights + memory.trained + memory.activations
    no_bits = "; 4-bit weights work on CUDA and on CPUs only" if device.device == "mps" else ""
    where = "on the GPU" if device.device == "cuda" else "of memory"
    return (
        f"needs {needed / GIB:.1f} GiB {where} even with batches of {load.batch_size} "
        f"(weights {memory.weights / GIB:.1f}, trained parameters and optimiser {memory.trained / GIB:.1f}, "
        f"activations {memory.activations / GIB:.1f}, process, copies and reserve {(needed - parts) / GIB:.1f}), "
        f"{USABLE[device.device] * limit:.1f} of {limit:g} GiB are usable{no_bits}"
    )
