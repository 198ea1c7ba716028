"""Which architecture a model has, and where LoRA can sit in one that the catalogue does not know."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moodbench.config.schema import Family, ModelEntry, ModelSource, NumberFormat
from moodbench.errors import PrerequisiteError
from moodbench.estimate import shape_of_config
from moodbench.models.locate import config_of, locate

FORMAT_NAMES: dict[NumberFormat, str] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Our names of number formats -> torch's and config.json's."""
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)


def family_of(name: str, entry: ModelEntry, families: Mapping[str, Family]) -> tuple[str, Family]:
    """The model type and family of an entry; PrerequisiteError when nothing can be adapted in its architecture."""
    assert entry.source is not None
    if entry.family is not None:
        return entry.family, families[entry.family]
    folder = locate(name, entry.source).folder
    model_type = model_type_of(name, folder)
    if model_type in families:
        return model_type, families[model_type]
    return model_type, family_of_modules(name, folder, entry.source.trust_remote_code)


def published_in(name: str, entry: ModelEntry) -> NumberFormat | None:
    """The number format of the published weights, as the entry or, for a model of one's own, its config.json states it."""
    assert entry.source is not None
    if entry.published_in is not None or entry.family is not None:
        return entry.published_in
    config = _config(name, entry.source)
    stated = str(config.get("dtype") or config.get("torch_dtype"))
    return next((short for short, long in FORMAT_NAMES.items() if long == stated), None)


def _config(name: str, source: ModelSource) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((locate(name, source).folder / "config.json").read_text("utf-8"))
    return config


def num_params_of(name: str, entry: ModelEntry) -> int:
    """The parameters that the entry or the model's config.json states; 0 for a kind of model whose shape is unknown."""
    assert entry.source is not None
    if entry.size is not None:
        return entry.size.num_params
    config = config_of(name, entry.source) if entry.family is not None else _config(name, entry.source)
    try:
        return shape_of_config(config).num_params if config else 0
    except KeyError:
        return 0


def model_type_of(name: str, folder: Path) -> str:
    """The `model_type` that config.json in `folder` states; PrerequisiteError without one."""
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PrerequisiteError(
            f"model {name}: {path} cannot be read as JSON ({error}); expected a folder made by save_pretrained"
        ) from error
    if not isinstance(config.get("model_type"), str):
        raise PrerequisiteError(f"model {name}: {path} states no model_type; expected a folder made by save_pretrained")
    return str(config["model_type"])


def family_of_modules(name: str, folder: Path, trust_remote_code: bool) -> Family:
    """The family read off the modules of the model in `folder`, built without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=trust_remote_code)
    except (ValueError, KeyError, ImportError) as error:
        raise PrerequisiteError(
            f"model {name}: {folder}: transformers cannot make a text classifier of model type "
            f"{model_type_of(name, folder)!r} ({str(error).splitlines()[0]}); choose another model, see `moodbench models`"
        ) from error
    attention, feed_forward = linear_suffixes(model)
    if not attention:
        raise PrerequisiteError(
            f"model {name}: model type {config.model_type!r} has no linear layers inside attention modules, so LoRA finds "
            "nothing to adapt there; give lora.target_modules in a catalogue entry, or choose another model"
        )
    return Family(
        kind="decoder" if hasattr(model, "score") else "encoder",
        attention=attention,
        feed_forward=feed_forward,
        sdpa=bool(model._supports_sdpa),
        gradient_checkpointing=bool(model.supports_gradient_checkpointing),
    )


def linear_suffixes(model: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name endings, after the layer's number, of the linear layers inside attention modules, and of the others."""
    import torch
    from transformers.pytorch_utils import Conv1D

    attention: dict[str, None] = {}
    others: dict[str, None] = {}
    for name, module in model.named_modules():
        layer, _, suffix = re.sub(r"\.\d+\.", "\0", name).rpartition("\0")
        if isinstance(module, torch.nn.Linear | Conv1D) and layer:
            (attention if _ATTENTION.search(suffix) else others)[suffix] = None
    return tuple(attention), tuple(others)
