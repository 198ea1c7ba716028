"""Weights that bitsandbytes stores in 4 or 8 bits: how, which not, and their values again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moodbench.config.schema import NumberFormat, Quantization
from moodbench.models.families import FORMAT_NAMES
from moodbench.models.spreading import empty_classifier


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


def unquantised_modules(config: Any, trust_remote_code: bool = False) -> tuple[str, ...]:
    """What is trained in full or may be drawn at random, and so must not be quantised: the head, and poolers."""
    model = empty_classifier(config, trust_remote_code=trust_remote_code)
    poolers = [name for name, _ in model.named_modules() if name.endswith("pooler")]
    return (*head_modules(model), *poolers)


def head_modules(model: Any) -> tuple[str, ...]:
    """The children of a classifier outside its backbone that hold parameters."""
    prefix = model.base_model_prefix
    return tuple(n for n, child in model.named_children() if n != prefix and any(True for _ in child.parameters()))


def is_quantised(model: Any) -> bool:
    """Whether bitsandbytes holds weights of the model."""
    return bool(getattr(model, "is_quantized", False))


def widen_unquantised(model: Any) -> None:
    """Nothing; whatever bitsandbytes left in 16 bits, such as norms, is fp32 from now on, and so is what flows between layers.

    The numbers are those after peft's prepare_model_for_kbit_training, which casts the table of words too. Here that stays
    in 16 bits, the half of its bytes (1.2 GB for 256,000 words of width 2,304), and what is looked up in it is cast.
    """
    import torch

    table = model.get_input_embeddings()
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
