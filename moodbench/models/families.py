"""Model families: the architecture of a model, and LoRA targets of architectures that the catalogue lacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moodbench.config.schema import FORMAT_NAMES, Family, ModelEntry, NumberFormat
from moodbench.errors import PrerequisiteError
from moodbench.estimate import Shape, shape_of_config, shape_of_size
from moodbench.models.locate import config_of, locate, read_object

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)


def family_of(name: str, entry: ModelEntry, families: Mapping[str, Family]) -> tuple[str, Family]:
    """Return the model type and family of an entry.

    Raises: PrerequisiteError if its architecture has no modules that LoRA can adapt.
    """
    assert entry.source is not None
    if entry.family is not None:
        return entry.family, families[entry.family]
    folder = locate(name, entry.source).folder
    model_type = model_type_of(name, folder)
    if model_type in families:
        return model_type, families[model_type]
    return model_type, family_of_modules(name, folder, entry.source.trust_remote_code)


def published_in(name: str, entry: ModelEntry) -> NumberFormat | None:
    """Return the number format of the published weights, from the entry or, for a user's own model, its config.json.

    None if neither gives a known format.
    """
    assert entry.source is not None
    if entry.published_in is not None or entry.family is not None:
        return entry.published_in
    config = read_object(name, locate(name, entry.source).folder / "config.json")
    stated = str(config.get("dtype") or config.get("torch_dtype"))
    return next((short for short, long in FORMAT_NAMES.items() if long == stated), None)


def num_params_of(name: str, entry: ModelEntry) -> int:
    """Return the number of parameters from the entry or the model's config.json, or 0 for an unknown architecture."""
    if entry.size is not None:
        return entry.size.num_params
    shape = _shape_of_files(name, entry)
    return shape.num_params if shape else 0


def shape_of_entry(name: str, entry: ModelEntry, family_name: str, family: Family) -> Shape | None:
    """Return the shape of a model with all its layers, from the entry or its config.json; None for an unknown one."""
    if entry.size is not None:
        return shape_of_size(entry.size, family_name, family)
    return _shape_of_files(name, entry)


def _shape_of_files(name: str, entry: ModelEntry) -> Shape | None:
    assert entry.source is not None
    if entry.family is None:
        config = read_object(name, locate(name, entry.source).folder / "config.json")
    else:
        config = config_of(name, entry.source) or {}
    try:
        return shape_of_config(config)
    except KeyError:
        return None


def model_type_of(name: str, folder: Path) -> str:
    """Return the `model_type` from config.json in `folder`, or raise PrerequisiteError if there is none."""
    model_type = read_object(name, folder / "config.json").get("model_type")
    if not isinstance(model_type, str):
        raise PrerequisiteError(
            f"model {name}: {folder / 'config.json'} has no model_type; expected a folder made by save_pretrained"
        )
    return model_type


def family_of_modules(name: str, folder: Path, trust_remote_code: bool) -> Family:
    """Return the family derived from the modules of the model in `folder`, which is built without weights.

    Raises: PrerequisiteError if transformers has no text classifier of this type, or LoRA finds nothing to adapt.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModelForSequenceClassification

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=trust_remote_code)
    except (ValueError, KeyError, TypeError, ImportError, ArithmeticError, StrictDataclassError) as error:
        raise PrerequisiteError(
            f"model {name}: {folder}: transformers cannot make a text classifier of model type "
            f"{model_type_of(name, folder)!r} ({' '.join(str(error).split())[:200]}); choose another model, see "
            "`moodbench catalogue models`"
        ) from error
    attention, feed_forward = linear_suffixes(model)
    if not attention:
        raise PrerequisiteError(
            f"model {name}: model type {config.model_type!r} has no linear layers inside attention modules, so LoRA "
            "has nothing to adapt; set lora.target_modules in a catalogue entry, or choose another model"
        )
    return Family(
        kind="decoder" if hasattr(model, "score") else "encoder",
        attention=attention,
        feed_forward=feed_forward,
        sdpa=bool(model._supports_sdpa),
        gradient_checkpointing=bool(model.supports_gradient_checkpointing),
    )


def linear_suffixes(model: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the name suffixes of linear layers inside attention modules, and of the other linear layers.

    A suffix is the part of a module name after the number of its layer.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    attention: dict[str, None] = {}
    others: dict[str, None] = {}
    for name, module in model.named_modules():
        layer, _, suffix = re.sub(r"\.\d+\.", "\0", name).rpartition("\0")
        if isinstance(module, torch.nn.Linear | Conv1D) and layer:
            (attention if _ATTENTION.search(suffix) else others)[suffix] = None
    return tuple(attention), tuple(others)
