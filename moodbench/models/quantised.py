"""Weights that bitsandbytes stores in 4 or 8 bits: how, which not, and their values again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moodbench.config.schema import NumberFormat, Quantization
from moodbench.models.families import FORMAT_NAMES


def quantization_config(quantization: Quantization, dtype: NumberFormat, skipped: Sequence[str]) -> Any:
    """How bitsandbytes stores weights: NF4 with doubly quantised scales (Dettmers et al. 2023, QLoRA), or LLM.int8."""
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(skipped))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=FORMAT_NAMES[dtype],
        llm_int8_skip_modules=list(skipped),  # read for 4 bits as well, whatever its name says
    )


def unquantised_modules(model: Any) -> tuple[str, ...]:
    """Return what is trained in full, read by rows or may be drawn at random, and so is not quantised: heads and poolers."""
    poolers = [name for name, _ in model.named_modules() if name.endswith("pooler")]
    layer = output_layer(model)
    return (*head_modules(model), *poolers, *([layer] if layer else []))


def head_modules(model: Any) -> tuple[str, ...]:
    """The children of a classifier outside its backbone that hold parameters."""
    prefix = model.base_model_prefix
    return tuple(n for n, child in model.named_children() if n != prefix and any(True for _ in child.parameters()))


def output_layer(model: Any) -> str | None:
    """Return the name of a language model's output layer; None for a model without one."""
    layer = model.get_output_embeddings()
    return (
        next((name for name, module in model.named_modules() if module is layer), None) if layer is not None else None
    )


def is_quantised(model: Any) -> bool:
    """Whether bitsandbytes holds weights of the model."""
    return bool(getattr(model, "is_quantized", False))


def widen_unquantised(model: Any, table: Any) -> None:
    """Keep in fp32 whatever bitsandbytes left in 16 bits, such as norms, and what flows between layers; not the `table` of words.

    The numbers are those after peft's prepare_model_for_kbit_training, which casts that table too. Here it stays
    in 16 bits, the half of its bytes (1.2 GB for 256,000 words of width 2,304), and what is looked up in it is cast.
    """
    import torch

    for parameter in model.parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16) and parameter is not table.weight:
            parameter.data = parameter.data.float()
    table.register_forward_hook(lambda module, inputs, found: found.float())


def copy_dequantised(quantised: Any, plain: Any) -> None:
    """Nothing; puts the values that a bitsandbytes model computes with into the same model with plain weights."""
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
