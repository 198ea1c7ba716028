"""Trained weights, a LoRA adapter or all weights: added to the base model, saved, restored and merged.

`LoRAConfigManager` is the Python API that prepares a model from the catalogue, the hub or a folder for LoRA.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodbench.config import Catalogue, load_catalogue
from moodbench.config.schema import FROM_ANY_WEIGHTS, LoraDefaults, NumberFormat, Quantization, TextDefaults
from moodbench.errors import PrerequisiteError, SpecError
from moodbench.estimate import Load
from moodbench.hardware import Device, hardware
from moodbench.models.base import (
    BaseModel,
    copy_dequantised,
    load_base,
    load_classifier,
    prepare_for_training,
    set_pad_token,
)
from moodbench.models.device import get_device, memory_of
from moodbench.models.families import family_of, num_params_of, published_in, shape_of_entry
from moodbench.models.features import (
    GPU_MEMORY_GIB,
    check_quantization,
    device_batch_size,
    precision_of,
    weights_format,
)
from moodbench.models.locate import locate
from moodbench.models.tokenizer import Tokenizer
from moodbench.spec import FitSpec

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

ADAPTER = "adapter"
"""Folder of an artifact with the adapter in peft's format."""
WEIGHTS = "weights.safetensors"
"""File of an artifact with all trained weights, for models that were fine-tuned without an adapter."""
Initial = dict[str, "torch.Tensor"]
"""The matrices A and B of an adapter before training, by their names in the saved file."""
CHANGE_THE_BASE = ("olora", "pissa", "pissa_niter_16")
"""Initialisations that subtract the initial update from the frozen weights, so that the model starts unchanged."""


def add_lora(base: BaseModel, lora: LoraDefaults, target_modules: Sequence[str]) -> PeftModel:
    """Return `base` with LoRA on `target_modules` and trainable copies of its new modules.

    Every randomly initialised module is saved with the adapter, as a reloaded base model has other random values.
    """
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers.pytorch_utils import Conv1D

    from moodbench.models.label_words import LabelWordClassifier

    targets = lora_targets(base.model, target_modules, base.new_modules)
    config = LoraConfig(
        # For SEQ_CLS peft saves the head with the adapter; the output layer of a language model is frozen.
        task_type=None if isinstance(base.model, LabelWordClassifier) else TaskType.SEQ_CLS,
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=targets,
        fan_in_fan_out=any(isinstance(base.model.get_submodule(name), Conv1D) for name in targets),
        modules_to_save=list(base.new_modules),
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        init_lora_weights=True if lora.init_lora_weights == "default" else lora.init_lora_weights,
    )
    check_rank(base.model, targets, lora)
    return get_peft_model(base.model, config)


def check_rank(model: Any, targets: Sequence[str], lora: LoraDefaults) -> None:
    """Raise PrerequisiteError if the rank is too large for an initialisation from the weights."""
    for name in targets if lora.init_lora_weights not in FROM_ANY_WEIGHTS else ():
        width = min(model.get_submodule(name).weight.shape)
        if lora.r > width:
            raise PrerequisiteError(
                f"lora.r {lora.r} with init_lora_weights {lora.init_lora_weights}: {name} is {width} wide; "
                f"allowed are ranks up to {width}"
            )


def lora_targets(model: Any, suffixes: Sequence[str], new_modules: Sequence[str]) -> list[str]:
    """Return the full names of the modules that end with one of `suffixes`, except new modules.

    Only modules inside a numbered layer match, and only on whole name parts. The longest suffix wins: with both given,
    `attention.output.dense` does not match `output.dense`.

    Raises: PrerequisiteError if a suffix matches no module.
    """
    found: dict[str, list[str]] = {suffix: [] for suffix in suffixes}
    longest_first = sorted(suffixes, key=len, reverse=True)
    for name, module in model.named_modules():
        if not hasattr(module, "weight") or any(name == n or name.startswith(n + ".") for n in new_modules):
            continue
        for suffix in longest_first:
            if name.endswith("." + suffix) and any(part.isdigit() for part in name.split(".")):
                found[suffix].append(name)
                break
    for suffix, names in found.items():
        if not names:
            outside = [name for name, module in model.named_modules() if name.split(".")[-1] == suffix]
            where = (
                f"is outside the layers ({outside[0]}): embeddings and heads are not adapted, as they may share their "
                "weights"
                if outside
                else f"matches no module of {type(model).__name__}"
            )
            raise PrerequisiteError(
                f"LoRA target {suffix!r} {where}; see its named_modules() and correct target_modules"
            )
    return [name for names in found.values() for name in names]


def merged_model(
    spec: FitSpec, artifact: Path, tokenizer: Tokenizer, *, dtype: NumberFormat = "fp32", keep_head: bool = False
) -> Any:
    """Return the fitted model with plain weights in `dtype` and without adapter; quantised weights are dequantised.

    Sums are made in fp32 and rounded once; heads stay in fp32. `keep_head` keeps the complete output layer of a
    language model, so that it can be saved.
    """
    unquantised = spec.model_copy(update={"quantization": "none", "dtype": dtype})
    plain = load_classifier(unquantised, init_seed=0, tokenizer=tokenizer, keep_head=keep_head).model
    if spec.quantization != "none":
        copy_dequantised(load_classifier(spec, init_seed=0, tokenizer=tokenizer).model, plain)
    set_pad_token(plain, tokenizer.pad_id)
    if spec.model.method == "full":
        return load_trained_weights(plain, artifact / WEIGHTS)
    return merge_adapter(plain, artifact / ADAPTER)


def merge_adapter(model: Any, adapter: Path) -> Any:
    """Return `model` with a LoRA adapter merged into its weights, W + scale B A, and saved modules restored.

    The scale is lora_alpha / r, with rsLoRA lora_alpha / sqrt(r). With DoRA each row of the sum is rescaled to the
    learned magnitude. peft is not imported, which keeps the process that serves a merged model small.

    Raises: PrerequisiteError if the adapter is of another kind.

    Source: Hu et al. 2021, LoRA, arXiv:2106.09685, section 4.1; Kalajdzievski 2023, rsLoRA, arXiv:2312.03732; Liu et
    al. 2024, DoRA, arXiv:2402.09353, equation 5.
    """
    import torch
    from safetensors.torch import load_file
    from transformers.pytorch_utils import Conv1D

    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    variants = [k for k in ("rank_pattern", "alpha_pattern") if config.get(k)]
    if config["peft_type"] != "LORA" or variants:
        raise PrerequisiteError(
            f"{adapter}: a {config['peft_type']} adapter with {variants or 'no variant'}; merge it with peft"
        )
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    tensors = {
        k.removeprefix("base_model.model."): v for k, v in load_file(adapter / "adapter_model.safetensors").items()
    }
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            module, _, kind = name.rpartition(".lora_")
            if kind == "A.weight":
                update = scale * tensors[f"{module}.lora_B.weight"] @ tensor
                target = parameters[f"{module}.weight"]
                transposed = isinstance(model.get_submodule(module), Conv1D)
                whole = (target.T if transposed else target).float() + update
                magnitude = tensors.get(f"{module}.lora_magnitude_vector")
                if magnitude is not None:
                    whole *= (magnitude / torch.linalg.norm(whole, dim=1)).unsqueeze(1)
                target.copy_(whole.T if transposed else whole)
            elif not module:
                parameters[name].copy_(tensor)
    return model


def unfreeze(model: Any) -> Any:
    """Return `model` with all weights trainable, except the token embeddings and the output layer of a language model.

    That layer scores the label words and often shares its weights with the embeddings, so both stay frozen.
    """
    from moodbench.models.label_words import LabelWordClassifier

    model.requires_grad_(True)
    if isinstance(model, LabelWordClassifier):
        model.get_input_embeddings().requires_grad_(False)
        model.get_output_embeddings().requires_grad_(False)
    return model


def save_trained_weights(model: Any, path: Path) -> None:
    """Write the trainable weights of `model` to the safetensors file `path`."""
    from safetensors.torch import save_file

    trained = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    save_file(trained, path, metadata={"format": "pt"})


def load_trained_weights(model: Any, path: Path) -> Any:
    """Return `model` with the weights in the safetensors file `path` copied over its own."""
    import torch
    from safetensors.torch import load_file

    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in load_file(path).items():
            parameters[name].copy_(tensor)
    return model


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


@dataclass(frozen=True)
class PreparedModel:
    """A model with a trainable adapter and head, and its tokenizer."""

    model: Any
    """A peft model; its frozen weights are stored as `quantization` says."""
    tokenizer: Tokenizer
    device: Device
    quantization: Quantization


class LoRAConfigManager:
    """Prepares models for LoRA, or for QLoRA if their weights are quantised; needs no instance."""

    @staticmethod
    def prepare_model(
        model_name: str,
        num_labels: int,
        device: Device | None = None,
        *,
        seed: int = 0,
        quantization: Quantization | None = None,
        catalogue: Catalogue | None = None,
    ) -> PreparedModel:
        """Return the model `model_name` with LoRA adapters and a classification head, on `device`.

        `model_name` is a name in the catalogue, a hub id or a folder. `device` defaults to the best device of this
        machine, `quantization` to the one of the model's entry. Weights that the checkpoint does not contain are
        initialised from `seed`.

        Raises: UnknownNameError, SpecError or PrerequisiteError if the model cannot be prepared.
        """
        catalogue = catalogue or load_catalogue()
        entry = catalogue.model(model_name)
        if entry.method != "lora" or entry.source is None:
            raise SpecError(f"model {model_name}: its method is {entry.method}; prepare_model makes LoRA models")
        if num_labels < 2:
            raise SpecError(f"model {model_name}: num_labels {num_labels}; a classifier needs 2 or more")
        place = device or get_device()
        text = TextDefaults.model_validate(catalogue.training.text.model_dump() | entry.text)
        family_name, family = family_of(model_name, entry, catalogue.families)
        num_params = num_params_of(model_name, entry)
        lora = LoraDefaults.model_validate(catalogue.fine_tuning(entry, family.kind, "classification", num_params)[0])
        quantization = check_quantization(quantization or entry.quantization, place, model_name)
        precision = precision_of(
            "auto",
            place,
            model_name,
            fp16_safe=family.fp16,
            published=published_in(model_name, entry),
            bf16_in_hardware=hardware().multiplies_bf16(place),
            num_params=num_params,
        )
        targets = family.targets(lora.target_modules)
        shape = shape_of_entry(model_name, entry, family_name, family)
        if shape is not None:
            shape = shape.first_layers(entry.num_hidden_layers or shape.num_layers)
        batch_size = device_batch_size(entry, catalogue.training.train.max_device_batch_size, place, num_params)
        num_trained = shape.lora_params(targets, lora.r) if shape else 0
        load = Load(batch_size, text.max_length, place, precision, quantization=quantization, num_trained=num_trained)
        gib = memory_of(hardware(), place).gpu_memory_gib or GPU_MEMORY_GIB
        dtype = weights_format(shape, load, gib, catalogue.evaluation.prediction_batch_size)
        folder = locate(model_name, entry.source).folder
        changes: dict[str, Any] = {"trust_remote_code": True} if entry.source.trust_remote_code else {}
        if entry.num_hidden_layers:
            changes["num_hidden_layers"] = entry.num_hidden_layers
        labels = [f"label {i}" for i in range(num_labels)]
        base = load_base(folder, labels, seed, quantization, dtype, place, **changes)
        tokenizer = Tokenizer.load(folder, text, trust_remote_code=entry.source.trust_remote_code)
        set_pad_token(base.model, tokenizer.pad_id)
        prepare_for_training(base.model, replace(load, weights_precision=dtype))
        model = add_lora(base, lora, targets)
        return PreparedModel(model if quantization != "none" else model.to(place), tokenizer, place, quantization)
