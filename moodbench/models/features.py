"""Support of training features and quantization per device, and the defaults that follow; imports no ML library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from moodbench.config.schema import (
    LoraDefaults,
    ModelEntry,
    NumberFormat,
    Optimizer,
    Quantization,
    quantization_conflict,
)
from moodbench.errors import SpecError
from moodbench.estimate import Load, Shape, shape_of_config
from moodbench.estimate.memory import Capacity, fits_in_fp32, with_checkpointing
from moodbench.hardware import GIB, Device

GPU_MEMORY_GIB = 10.0
"""Memory of the GPU for which recipes are made if none is given, that of the catalogue's batch sizes on CUDA."""
MPS_BATCHES = ((50e6, 32), (200e6, 16), (500e6, 8), (1.4e9, 4), (float("inf"), 2))
"""Batch sizes on Apple's GPU: (parameters, texts per forward pass of models with fewer parameters)."""
CPU_BF16_FROM_PARAMS = 100_000_000
"""Number of parameters from which bf16 pays on the CPU: matrix products then take most of a training step."""


class Support(NamedTuple):
    """Whether a feature works on a device, and the reason."""

    works: bool
    why: str


_BITS = {"int8": "8-bit weights (int8)", "nf4": "4-bit weights (nf4)"}
"""Quantization -> its feature."""
_NO_BITS_ON_MPS = "bitsandbytes has no kernels for Apple's GPU; weights stay as they are"
FEATURES: dict[str, dict[Device, Support]] = {
    "4-bit weights (nf4)": {
        "cuda": Support(True, "bitsandbytes kernels; compute in the training format"),
        "cpu": Support(
            True,
            "bitsandbytes on the CPU, compute in fp32; MiniLM-L6: 0.61 of the bytes of weights, 2.1 times the "
            "processor time for one text and 1.4 in batches of 24",
        ),
        "mps": Support(False, _NO_BITS_ON_MPS),
    },
    "8-bit weights (int8)": {
        "cuda": Support(True, "LLM.int8 of bitsandbytes"),
        "cpu": Support(True, "LLM.int8 on the CPU; activations are rounded too"),
        "mps": Support(False, _NO_BITS_ON_MPS),
    },
    "training in fp32": {
        "cuda": Support(True, "always possible"),
        "cpu": Support(True, "always possible, and the default"),
        "mps": Support(True, "always possible, and the default"),
    },
    "training in fp16": {
        "cuda": Support(True, "mixed precision with loss scaling, the default but for weights published in bf16"),
        "cpu": Support(False, "torch scales no loss on the CPU"),
        "mps": Support(False, "kept in fp32: mixed precision with loss scaling was made for CUDA"),
    },
    "training in bf16": {
        "cuda": Support(
            True, "in hardware from compute capability 8.0 on, there the default for weights published in it"
        ),
        "cpu": Support(
            True,
            "where the processor multiplies it in hardware (AVX-512 BF16, AMX) the default from 100 million parameters "
            "on, at twice the speed of fp32 and more; elsewhere slower",
        ),
        "mps": Support(False, "kept in fp32"),
    },
    "optimizer adamw_8bit": {
        "cuda": Support(True, "bitsandbytes"),
        "cpu": Support(True, "bitsandbytes on the CPU; LoRA's few weights gain little"),
        "mps": Support(False, "bitsandbytes has no kernels for Apple's GPU"),
    },
    "paged optimizers": {
        "cuda": Support(True, "state moves to host memory when the card is full"),
        "cpu": Support(False, "there is no second memory to page to; use adamw_8bit"),
        "mps": Support(False, "bitsandbytes has no kernels for Apple's GPU"),
    },
    "gradient checkpointing": {
        "cuda": Support(True, "if training does not fit the memory without, where the architecture has it"),
        "cpu": Support(True, "if training does not fit the memory without, where the architecture has it"),
        "mps": Support(True, "if training does not fit the memory without, where the architecture has it"),
    },
    "pinned host memory": {
        "cuda": Support(True, "batches are copied while the card computes"),
        "cpu": Support(False, "nothing is copied to a device"),
        "mps": Support(False, "memory is shared with the processor"),
    },
}


def support(feature: str, device: Device) -> Support:
    """Return whether `feature`, a key of FEATURES, works on `device`, and why."""
    return FEATURES[feature][device]


def check_quantization(quantization: Quantization, device: Device, name: str) -> Quantization:
    """Return `quantization` if `device` supports it.

    Raises: SpecError if it does not.
    """
    feature = _BITS.get(quantization)
    if feature and not support(feature, device).works:
        raise SpecError(
            f"model {name}: quantization {quantization!r} on {device}: {support(feature, device).why}; "
            f"allowed there is {', '.join(allowed_quantizations(device))}"
        )
    return quantization


def check_lora(lora: LoraDefaults, quantization: Quantization, name: str) -> LoraDefaults:
    """Return `lora` if it works on weights with this quantization.

    Raises: SpecError if it does not.
    """
    problem = quantization_conflict(lora, quantization)
    if problem:
        raise SpecError(f"model {name}: lora.{problem}")
    return lora


def allowed_quantizations(device: Device) -> list[str]:
    """Return the quantizations that work on `device`, "none" first."""
    return ["none", *(q for q, feature in _BITS.items() if support(feature, device).works)]


def precision_of(
    wanted: str,
    device: Device,
    name: str,
    *,
    fp16_safe: bool = True,
    published: NumberFormat | None = None,
    bf16_in_hardware: bool = False,
    num_params: int = 0,
) -> NumberFormat:
    """Return the number format for training: `wanted`, or for "auto" the default.

    The default is fp32 on Apple's GPU. On the CPU it is fp32, but bf16 for models of CPU_BF16_FROM_PARAMS or more if
    the processor multiplies bf16 in hardware. On CUDA it is fp16, but bf16 for families that overflow in fp16, and for
    weights `published` in bf16, whose range exceeds that of fp16, if the device multiplies bf16 in hardware.

    Raises: SpecError if the device does not support the format or the model family overflows in it.
    """
    if wanted == "auto" and device == "cuda":
        return "bf16" if not fp16_safe or (published == "bf16" and bf16_in_hardware) else "fp16"
    if wanted == "auto":
        return "bf16" if device == "cpu" and bf16_in_hardware and num_params >= CPU_BF16_FROM_PARAMS else "fp32"
    if wanted == "fp16" and device == "cuda" and not fp16_safe:
        raise SpecError(
            f"model {name}: train.precision 'fp16': its activations overflow in fp16; use bf16, fp32 or auto"
        )
    allowed = [f for f in get_args(NumberFormat) if support(f"training in {f}", device).works]
    if wanted not in allowed:
        where = {"mps": "Apple's GPU", "cpu": "the CPU", "cuda": "CUDA"}[device]
        raise SpecError(
            f"model {name}: train.precision {wanted!r} on {where}; allowed there "
            f"{'is' if len(allowed) == 1 else 'are'} {' and '.join(allowed)} (or auto)"
        )
    return next(f for f in get_args(NumberFormat) if f == wanted)


def check_optimizer(optimizer: Optimizer, device: Device, name: str) -> Optimizer:
    """Return `optimizer` if `device` supports it.

    Raises: SpecError if it does not.
    """
    feature = "paged optimizers" if optimizer.startswith("paged_") else f"optimizer {optimizer}"
    if feature in FEATURES and not support(feature, device).works:
        raise SpecError(
            f"model {name}: train.optimizer {optimizer!r} on {device}: {support(feature, device).why}; "
            "adamw works everywhere"
        )
    return optimizer


def weights_format(shape: Shape | None, load: Load, gpu_memory_gib: float, prediction_batch_size: int) -> NumberFormat:
    """Return the number format of frozen weights under `load`.

    It is fp32, but on CUDA that of the arithmetic if weights are quantised, or if fp32 weights would not fit a GPU of
    this memory in training and in predicting. A model of unknown `shape` counts as one that fits.
    """
    if load.device != "cuda":
        return "fp32"
    fitting = shape is None or fits_in_fp32(shape, load, gpu_memory_gib, prediction_batch_size)
    return "fp32" if fitting and load.quantization == "none" else load.precision


def needs_checkpointing(config: Mapping[str, Any], num_params: int, load: Load, capacity: Capacity) -> bool:
    """Return whether training a model with this config.json does not fit the memory unless activations are recomputed.

    That costs time and leaves the gradients as they are. If the config does not state the sizes, a quarter of the
    memory is left to the weights.
    """
    gib = capacity.gpu_memory_gib or capacity.memory_gib
    try:
        shape = shape_of_config(config, num_params=num_params)
    except KeyError:
        return 4 * num_params > gib * GIB / 4
    return with_checkpointing(shape, load, capacity).checkpointing


def device_batch_size(entry: ModelEntry, default: int, device: Device, num_params: int = 0) -> int:
    """Return the maximum number of texts per forward pass on `device`, at most `default`.

    It comes from the catalogue entry. Without one it is `default`, except on Apple's GPU, which shares its memory with
    everything else: there it is what the catalogue gives to models of `num_params`. The effective batch size does not
    change, as gradients are accumulated.
    """
    if entry.batch_size is not None:
        return min(default, int(getattr(entry.batch_size, device)))
    if device == "mps":
        return min(default, next(texts for limit, texts in MPS_BATCHES if num_params < limit))
    return default
