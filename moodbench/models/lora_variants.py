"""LoRA variants that need more than peft's configuration: the LoRA+ optimiser, and PiSSA and OLoRA initialisation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodbench.config.schema import LoraDefaults

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

Initial = dict[str, "torch.Tensor"]
"""The matrices A and B of an adapter before training, by their names in the saved file."""
CHANGE_THE_BASE = ("olora", "pissa", "pissa_niter_16")
"""Initialisations that subtract the initial update from the frozen weights, so that the model starts unchanged."""


def initial_adapter(model: PeftModel, lora: LoraDefaults) -> Initial | None:
    """Return a copy of A and B before training if `save_adapter` will need it, else None."""
    if lora.init_lora_weights not in CHANGE_THE_BASE:
        return None
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model)
    return {k: v.detach().clone().cpu() for k, v in state.items() if "lora_A" in k or "lora_B" in k}


def save_adapter(model: PeftModel, folder: Path, initial: Initial | None) -> None:
    """Write an adapter to `folder` that is correct on the base model as published.

    If the initial update was subtracted from the base weights, the learned weights are W + s(BA - B0 A0), which is an
    adapter of twice the rank and the same scale s.

    Source: Meng et al. (2024), PiSSA, arXiv:2404.02948, appendix on converting PiSSA to LoRA. In addition, this
    function keeps the magnitude vectors of DoRA.
    """
    import torch
    from safetensors.torch import load_file, save_file

    model.save_pretrained(folder)
    path = folder / "adapter_config.json"
    config: dict[str, Any] = json.loads(path.read_text("utf-8"))
    config["init_lora_weights"] = True  # spares loaders an initialisation that the file overwrites
    if initial is not None:
        weights = folder / "adapter_model.safetensors"
        tensors = load_file(weights)
        for name, start in initial.items():
            # [B, B0] [[A], [-A0]] = BA - B0 A0
            parts = [tensors[name], start if "lora_B" in name else -start]
            tensors[name] = torch.cat(parts, dim=1 if "lora_B" in name else 0).contiguous()
        save_file(tensors, weights, metadata={"format": "pt"})
        rank = config["r"]
        config["r"] = 2 * rank
        config["lora_alpha"] *= 2**0.5 if config.get("use_rslora") else 2
    path.write_text(json.dumps(config, indent=2, sort_keys=True), "utf-8")


def loraplus_optimizer(
    model: PeftModel, optimizer_class: Any, settings: dict[str, Any], ratio: float, decay: float
) -> Any:
    """Return peft's LoRA+ optimiser, in which the learning rate of B is `ratio` times that of A.

    Source: Hayou et al. (2024), arXiv:2402.12354.
    """
    from peft.optimizers import create_loraplus_optimizer

    rest = dict(settings)
    return create_loraplus_optimizer(
        model=model,
        optimizer_cls=optimizer_class,
        lr=rest.pop("lr"),
        loraplus_lr_ratio=ratio,
        loraplus_weight_decay=decay,
        **rest,
    )
