"""Weights quantised by bitsandbytes to 4 or 8 bits: configuration, modules to skip, and dequantisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moodbench.config.schema import NumberFormat, Quantization
from moodbench.models.families import FORMAT_NAMES


def quantization_config(quantization: Quantization, dtype: NumberFormat, skipped: Sequence[str]) -> Any:
    """Return the bitsandbytes configuration for NF4 with double quantisation, or for LLM.int8.

    Source: Dettmers et al. 2023, QLoRA.
    """
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(skipped))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=FORMAT_NAMES[dtype],
        llm_int8_skip_modules=list(skipped),  # applies to 4 bits too, despite its name
    )


def unquantised_modules(model: Any) -> tuple[str, ...]:
    """Return the names of modules that must not be quantised: heads, poolers and the output layer.

    They are trained in full, read by rows, or initialised at random if the checkpoint lacks them.
    """
    poolers = [name for name, _ in model.named_modules() if name.endswith("pooler")]
    layer = output_layer(model)
    return (*head_modules(model), *poolers, *([layer] if layer else []))


def head_modules(model: Any) -> tuple[str, ...]:
    """Return the names of a classifier's children outside the backbone that have parameters."""
    prefix = model.base_model_prefix
    return tuple(n for n, child in model.named_children() if n != prefix and any(True for _ in child.parameters()))


def output_layer(model: Any) -> str | None:
    """Return the name of a language model's output layer, or None for a model without one."""
    layer = model.get_output_embeddings()
    return (
        next((name for name, module in model.named_modules() if module is layer), None) if layer is not None else None
    )


def is_quantised(model: Any) -> bool:
    """Return whether bitsandbytes has quantised weights of the model."""
    return bool(getattr(model, "is_quantized", False))


def widen_unquantised(model: Any, table: Any) -> None:
    """Cast the parameters that bitsandbytes left in 16 bits to fp32, except the token embeddings `table`.

    The hidden states between layers are then in fp32 too. The results equal those of peft's
    prepare_model_for_kbit_training, which casts the embeddings as well. Here the embeddings stay in 16 bits, which
    halves their memory (saves 1.2 GB for 256,000 tokens of width 2,304), and only their outputs are cast.
    """
    import torch

    for parameter in model.parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16) and parameter is not table.weight:
            parameter.data = parameter.data.float()
    table.register_forward_hook(lambda module, inputs, found: found.float())


def copy_dequantised(quantised: Any, plain: Any) -> None:
    """Copy the dequantised weights of a bitsandbytes model into the same model with plain weights."""
    import bitsandbytes as bnb
    import torch
    from peft.utils.integrations import dequantize_module_weight
    from transformers.pytorch_utils import Conv1D

    with torch.no_grad():
        for name, module in quantised.named_modules():
            if isinstance(module, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt):
                target = plain.get_submodule(name)
                values = dequantize_module_weight(module).float()
                target.weight.copy_(values.T if isinstance(target, Conv1D) else values)
