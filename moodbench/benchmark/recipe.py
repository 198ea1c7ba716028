"""Recipe of a model in a request: hyper-parameters, prompt, and number formats on a device."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from moodbench.config.catalogue import Catalogue, merge, with_changed_training
from moodbench.config.schema import (
    MASK,
    Augmentation,
    Family,
    LoraDefaults,
    ModelEntry,
    NumberFormat,
    ProbeDefaults,
    PromptEntry,
    TextDefaults,
    TfidfDefaults,
    TrainDefaults,
)
from moodbench.config.yaml_files import load_yaml, read_yaml_text, validated
from moodbench.errors import PrerequisiteError, SpecError
from moodbench.estimate import Load, Shape
from moodbench.hardware import Device
from moodbench.models.families import family_of, num_params_of, published_in, shape_of_entry
from moodbench.models.features import (
    GPU_MEMORY_GIB,
    check_lora,
    check_optimizer,
    check_quantization,
    device_batch_size,
    precision_of,
    weights_format,
)
from moodbench.models.tokenizer import check_prompt
from moodbench.preparation import ordered
from moodbench.spec import BenchmarkSpec, Prompt, ResolvedModel

COUNTING = ("majority", "vader")
"""Baselines that learn class shares at most, so that augmented copies of texts would add nothing."""
PROMPT_KINDS = {"decoder": "causal", "encoder": "masked", "encoder-decoder": "seq2seq"}
DEFAULT_PROMPTS = {"causal": "review", "masked": "mask", "seq2seq": "review"}
STARS = "stars"
"""Prompt of generative models for datasets whose labels are star ratings."""
_LANGUAGE_MODEL_HEAD = re.compile(r"LMHead|ForCausalLM|ForMaskedLM|ForConditionalGeneration|ForPreTraining|ForSeq2Seq")


class FitDevice(NamedTuple):
    """Properties of a device that a recipe depends on."""

    name: Device
    bf16: bool = False
    """Whether it has bf16 arithmetic."""
    gpu_memory_gib: float = GPU_MEMORY_GIB
    """Memory of a CUDA device, rounded to whole GiB, so that drivers and ECC do not change recipes."""


@dataclass(frozen=True)
class RequestedModel:
    """A model of a request."""

    resolved: ResolvedModel
    entry: ModelEntry
    folder: Path | None = None
    """Folder of its files; None for a baseline, or if they are not on this machine."""

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.resolved.name


def check_changes(spec: BenchmarkSpec, catalogue: Catalogue) -> None:
    """Raise SpecError or UnknownNameError for invalid overrides, even if no model of the request reads them."""
    if spec.recipe is not None:
        catalogue.recipe(spec.recipe)
    if spec.prompt is not None:
        read_prompt(spec.prompt, catalogue)
    _overlaid(LoraDefaults, catalogue.training.lora, "the request", "lora", spec.lora)
    _overlaid(TrainDefaults, catalogue.training.train, "the request", "train", spec.train)
    _overlaid(TextDefaults, catalogue.training.text, "the request", "text", spec.text)
    _augmentation_of(spec)


def recipe_of(
    model: RequestedModel, device: FitDevice, labels: Sequence[str], catalogue: Catalogue, spec: BenchmarkSpec
) -> dict[str, Any]:
    """Return the parts of a fit spec that the model's method reads, for a dataset with these `labels`.

    The model's entry overrides the defaults of the catalogue, and the request overrides both.
    """
    entry, defaults, where = model.entry, catalogue.training, f"model {model.name}"
    preparation = tuple(ordered(spec.prepare))
    if entry.baseline in COUNTING:
        return {"preparation": preparation}
    parts: dict[str, Any] = {"preparation": preparation, "augmentation": _augmentation_of(spec)}
    if entry.baseline is not None:
        return parts | {"tfidf": _overlaid(TfidfDefaults, defaults.tfidf, where, "tfidf", entry.tfidf)}
    text = parts["text"] = _overlaid(TextDefaults, defaults.text, where, "text", entry.text, spec.text)
    if entry.method == "linear-probe":
        return parts | {"probe": _overlaid(ProbeDefaults, defaults.probe, where, "probe", entry.probe)}
    return parts | _language_model_parts(model, text, device, labels, catalogue, spec)


def _augmentation_of(spec: BenchmarkSpec) -> Augmentation | None:
    """Return how training texts are augmented; None if they are not.

    Raises: SpecError for an invalid augmentation.
    """
    return _overlaid(Augmentation, None, "the request", "augment", spec.augment) if spec.augment else None


def _language_model_parts(
    model: RequestedModel,
    text: TextDefaults,
    device: FitDevice,
    labels: Sequence[str],
    catalogue: Catalogue,
    spec: BenchmarkSpec,
) -> dict[str, Any]:
    """Return the parts of a prompted or fine-tuned model that reads its texts as `text` says."""
    name, entry, where = model.name, model.entry, f"model {model.name}"
    family = family_of(name, entry, catalogue.families)[1]
    if spec.inference_dtype == "float16" and not family.fp16:
        raise SpecError(
            f"{where}: inference_dtype 'float16': its activations overflow in fp16; use bfloat16 or float32"
        )
    num_params = num_params_of(name, entry)
    prompt = prompt_of(model, family, labels, catalogue, spec)
    head: Literal["classification", "label-words"] = "classification" if prompt is None else "label-words"
    lora_values, train_values = catalogue.fine_tuning(entry, family.kind, head, num_params, spec.recipe)
    train = _overlaid(TrainDefaults, None, where, "train", with_changed_training(train_values, spec.train))
    quantization = check_quantization(spec.quantization or entry.quantization, device.name, name)
    full = entry.method == "full"
    if full and quantization != "none":
        raise SpecError(
            f"{where}: method 'full' with quantization {quantization!r}: quantized weights cannot be trained; use "
            "--quantization none, or --method lora"
        )
    precision = precision_of(
        train.precision,
        device.name,
        name,
        fp16_safe=family.fp16,
        published=published_in(name, entry),
        bf16_in_hardware=device.bf16,
        num_params=num_params,
    )
    batch_size = device_batch_size(entry, train.max_device_batch_size, device.name, num_params)
    load = Load(
        min(batch_size, train.effective_batch_size),
        text.max_length,
        device.name,
        precision,
        quantization=quantization,
        dropout=train.base_dropout != 0,
    )
    parts: dict[str, Any] = {"prompt": prompt, "quantization": quantization}
    if entry.method == "prompted":
        return parts | {"dtype": _dtype(model, family, device, load, catalogue), "augmentation": None}
    changes = {
        "precision": precision,
        "optimizer": check_optimizer(train.optimizer, device.name, name),
        "max_device_batch_size": batch_size,
    }
    parts["train"] = train.model_copy(update=changes)
    if full:
        return parts | {"dtype": "fp32"}
    lora = check_lora(_overlaid(LoraDefaults, None, where, "lora", lora_values, spec.lora), quantization, name)
    targets = family.targets(lora.target_modules)
    dtype = _dtype(
        model, family, device, load, catalogue, lora_params=partial(Shape.lora_params, target_modules=targets, r=lora.r)
    )
    return parts | {"dtype": dtype, "lora": lora, "target_modules": targets}


def _dtype(
    model: RequestedModel,
    family: Family,
    device: FitDevice,
    load: Load,
    catalogue: Catalogue,
    lora_params: Callable[[Shape], int] = lambda _: 0,
) -> NumberFormat:
    """Return the number format of frozen weights; `lora_params` counts the trained ones beside them."""
    shape, entry = None, model.entry
    if device.name == "cuda":
        shape = shape_of_entry(model.name, entry, model.resolved.family or entry.family or "", family)
    if shape is not None:
        shape = shape.first_layers(entry.num_hidden_layers or shape.num_layers)
        load = replace(load, num_trained=lora_params(shape))
    return weights_format(shape, load, device.gpu_memory_gib, catalogue.evaluation.prediction_batch_size)


def prompt_of(
    model: RequestedModel, family: Family, labels: Sequence[str], catalogue: Catalogue, spec: BenchmarkSpec
) -> Prompt | None:
    """Return the prompt of `model` for `labels`; None if it has a classification head.

    The prompt is checked against the model's files if they are on this machine.

    Raises: UnknownNameError, SpecError or PrerequisiteError if the prompt cannot be read or does not suit the model.
    """
    name, entry, folder = model.name, model.entry, model.folder
    head = "label-words" if entry.method == "prompted" else spec.head or entry.head
    has_head = folder is None or has_language_model_head(folder)
    if head == "classification" or (head is None and (family.kind == "encoder" or not has_head)):
        return None
    if not has_head:
        raise PrerequisiteError(
            f"model {name}: {folder} was saved without a language-model head, which label words need; "
            "use --head classification, or a checkpoint of the whole language model"
        )
    kind = PROMPT_KINDS[family.kind]
    default = STARS if kind != "masked" and set(labels) <= set("12345") else DEFAULT_PROMPTS[kind]
    chosen = spec.prompt or entry.prompt or default
    found, where = read_prompt(chosen, catalogue)
    if (MASK in found.template) != (kind == "masked"):
        needs = (
            f"has no {MASK}, where it would answer" if kind == "masked" else f"has {MASK}, which only encoders fill in"
        )
        raise SpecError(f"model {name}: {where}: template {found.template!r} {needs}; choose another with --prompt")
    if len(labels) not in found.label_words:
        raise SpecError(
            f"model {name}: {where}: has label words for {' or '.join(map(str, sorted(found.label_words)))} classes, "
            f"the dataset has {len(labels)} ({', '.join(labels)}); give words for them in a file with --prompt"
        )
    if found.chat and kind != "causal":
        raise SpecError(f"model {name}: {where}: is a chat, which only decoders have; choose another with --prompt")
    prompt = Prompt.model_validate(
        {
            "kind": kind,
            "template": found.template,
            "label_words": found.label_words[len(labels)],
            "chat": found.chat,
            "num_examples": entry.num_examples,
        }
    )
    if folder is not None:
        check_prompt(folder, prompt, name)
    return prompt


def read_prompt(chosen: str, catalogue: Catalogue) -> tuple[PromptEntry, str]:
    """Return the prompt that `chosen` names, and what to call it in a message.

    `chosen` is a name of the catalogue or a YAML file.

    Raises: PrerequisiteError for a file that cannot be read, SpecError for an invalid prompt, UnknownNameError for a
    name that the catalogue does not have.
    """
    if not chosen.endswith((".yaml", ".yml")):
        return catalogue.prompt(chosen), f"prompt {chosen}"
    text = read_yaml_text(Path(chosen), "template and label_words", "--prompt")
    return validated(PromptEntry, load_yaml(text, chosen), chosen, text), chosen


def has_language_model_head(folder: Path) -> bool:
    """Return whether the model class in the config.json of `folder` has a language-model head."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    classes = config.get("architectures") if isinstance(config, dict) else None
    return isinstance(classes, list) and any(_LANGUAGE_MODEL_HEAD.search(str(each)) for each in classes)


def _overlaid[T: BaseModel](schema: type[T], base: T | None, where: str, part: str, *layers: dict[str, object]) -> T:
    """Return `base` merged with the `layers`, later ones first; `where` and `part` name it in error messages."""
    values = base.model_dump() if base is not None else {}
    for layer in layers:
        values = merge(values, layer)
    return validated(schema, values, where, None, (part,))
