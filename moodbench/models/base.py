"""Loading of pretrained weights as a classifier, in the number format and quantization of a recipe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from moodbench.config.schema import FORMAT_NAMES, MASK, TEXT, NumberFormat, Quantization
from moodbench.errors import PrerequisiteError
from moodbench.estimate import Load
from moodbench.hardware import Device, hardware
from moodbench.models.device import empty_model, layer_device_map, memory_of, parameter_count
from moodbench.models.features import needs_checkpointing
from moodbench.models.locate import locate
from moodbench.models.tokenizer import Tokenizer, load_tokenizer
from moodbench.spec import FitSpec, ResolvedModel

LANGUAGE_MODELS = {
    "causal": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
}
"""Auto class of transformers that loads the language model of each prompt kind."""


Place = Device | Literal["meta"]
"""Device of a model; on `meta` the weights have shapes and no values, which shows in seconds whether they load."""


class _Loaded(NamedTuple):
    """A model as transformers loads it."""

    model: Any
    missing: Sequence[str]
    """Names of the parameters that the checkpoint lacks."""
    mismatched: Sequence[str]
    """Names of the parameters that have another shape in the checkpoint."""


class BaseModel(NamedTuple):
    """A classifier on pretrained weights, with the modules that the checkpoint does not contain."""

    model: Any
    new_modules: tuple[str, ...]
    """Modules that this load initialised at random; they must be saved with the adapter."""


def base_folder(model: ResolvedModel) -> Path:
    """Return the local folder of the base model's files.

    Raises: PrerequisiteError if weights, tokenizer or configuration differ from the digests in the spec.
    """
    assert model.source is not None
    located = locate(model.name, model.source)
    for files, found, planned in (
        ("tokenizer", located.tokenizer_sha256, model.tokenizer_sha256),
        ("configuration", located.config_sha256, model.config_sha256),
    ):
        if found != planned:
            raise PrerequisiteError(
                f"model {model.name}: {files} files in {located.folder} differ from those the run was planned with "
                f"(digest {found[:12]}, planned {str(planned)[:12]}); install the same version"
            )
    return located.folder


def load_classifier(
    spec: FitSpec,
    init_seed: int,
    device: Place = "cpu",
    num_gpus: int = 1,
    *,
    tokenizer: Tokenizer | None = None,
    keep_head: bool = False,
) -> BaseModel:
    """Return the base model of `spec` as a classifier.

    Without a prompt it gets a new head, initialised from `init_seed`. With a prompt it scores the label words as
    tokenised by `tokenizer`, by default the tokenizer of the base model. `keep_head` keeps the complete output layer of
    a language model, so that it can be saved.
    """
    changes = spec.model.loading_options
    folder = base_folder(spec.model)
    if spec.prompt is not None:
        tokenizer = tokenizer or load_tokenizer(spec, folder)
        return _load_label_words(spec, folder, tokenizer, device, num_gpus, keep_head, changes)
    return load_base(folder, spec.dataset.labels, init_seed, spec.quantization, spec.dtype, device, num_gpus, **changes)


def load_base(
    folder: Path,
    labels: Sequence[str],
    init_seed: int,
    quantization: Quantization = "none",
    dtype: NumberFormat = "fp32",
    device: Place = "cpu",
    num_gpus: int = 1,
    **changes: Any,
) -> BaseModel:
    """Return the model in `folder` with a classification head for `labels`.

    The head is new, unless the checkpoint has one whose config.json names the same labels in the same order.
    `quantization` and `dtype` apply to the frozen weights; the head is in fp32 and never quantised. Quantised weights
    are loaded onto `device`. With `num_gpus` above 1 the layers are spread over CUDA devices, quantised or not.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(init_seed)  # transformers.set_seed does so too, but its module imports peft and bitsandbytes
    names = dict(enumerate(labels))
    changes |= {"num_labels": len(names), "id2label": names, "label2id": {label: i for i, label in names.items()}}
    changes["problem_type"] = "single_label_classification"
    auto = AutoModelForSequenceClassification
    model, missing, mismatched = _load(auto, folder, quantization, dtype, device, num_gpus, changes)
    heads = head_modules(model)
    _refuse_partial(folder, model, missing, [key for key in mismatched if key.partition(".")[0] not in heads])
    new_modules = owners_of_missing(missing, model.base_model_prefix)
    stale = tuple(name for name in heads if name not in new_modules)
    if stale and (mismatched or stated_labels(folder) != normalised(labels)):
        initialise(model, stale, init_seed)
        new_modules = tuple(sorted({*new_modules, *stale}))
    _keep_precision(model, {*new_modules, *heads}, quantization, dtype)
    return BaseModel(model, new_modules)


def normalised(labels: Iterable[str]) -> tuple[str, ...]:
    """Return label names in the form in which those of a checkpoint and of a dataset are compared."""
    return tuple(label.strip().lower() for label in labels)


def stated_labels(folder: Path) -> tuple[str, ...] | None:
    """Return the class names in the order of a checkpoint's own head, normalised; None if config.json names none."""
    stated = json.loads((folder / "config.json").read_text("utf-8")).get("id2label")
    if not isinstance(stated, dict) or not all(str(key).isdecimal() for key in stated):
        return None
    return normalised(str(stated[key]) for key in sorted(stated, key=int))


def initialise(model: Any, names: Iterable[str], init_seed: int) -> None:
    """Replace the weights of the modules `names` by random ones, as the model class initialises a new head."""
    import torch

    torch.manual_seed(init_seed)
    for name in names:
        head = model.get_submodule(name)
        for parameter in head.parameters():
            parameter._is_hf_initialized = False  # otherwise transformers keeps what it has loaded
        for module in head.modules():
            model._init_weights(module)


def _refuse_partial(folder: Path, model: Any, missing: Iterable[str], mismatched: Iterable[str]) -> None:
    """Raise PrerequisiteError if the weights lack tensors of the layers or embeddings, or have other shapes."""
    wrong = sorted(mismatched)
    if wrong:
        raise PrerequisiteError(
            f"{folder}: {len(wrong)} tensors of the weights do not have the shapes that config.json says, such as "
            f"{wrong[0]}; get configuration and weights of the same model"
        )
    table = model.get_input_embeddings()
    inside = [name for name, module in model.named_modules() if module is table]
    lost = sorted(
        key for key in missing if any(part.isdecimal() for part in key.split(".")) or key.rpartition(".")[0] in inside
    )
    if lost:
        raise PrerequisiteError(
            f"{folder}: the weights lack {len(lost)} tensors of the layers that config.json says, such as {lost[0]}; "
            "get the whole checkpoint, or correct num_hidden_layers"
        )


def _load_label_words(
    spec: FitSpec,
    folder: Path,
    tokenizer: Tokenizer,
    device: Place,
    num_gpus: int,
    keep_head: bool,
    changes: dict[str, Any],
) -> BaseModel:
    import transformers

    from moodbench.models.label_words import LabelWordClassifier

    prompt, tokens = spec.prompt, tokenizer.label_tokens
    assert prompt is not None and tokens is not None
    auto = getattr(transformers, LANGUAGE_MODELS[prompt.kind])
    lm, missing, mismatched = _load(auto, folder, spec.quantization, spec.dtype, device, num_gpus, changes)
    _refuse_partial(folder, lm, missing, mismatched)
    if lost := owners_of_missing(missing, lm.base_model_prefix):
        raise PrerequisiteError(
            f"model {spec.model.name}: {folder} has no weights of its language-model head ({', '.join(lost)}), which "
            "label words need; use --head classification, or a checkpoint that was saved with its head"
        )
    mask_id, after = tokenizer.hf.mask_token_id, prompt.template.partition(TEXT)[2]
    model = LabelWordClassifier(
        lm, tokens, prompt.kind, mask_id=mask_id, mask_is_last=MASK in after, keep_head=keep_head
    )
    head = output_layer(lm)
    _keep_precision(model, {f"lm.{head}"}, spec.quantization, spec.dtype, table=lm.get_input_embeddings())
    return BaseModel(model, ())


def _load(
    auto: Any,
    folder: Path,
    quantization: Quantization,
    dtype: NumberFormat,
    device: Place,
    num_gpus: int,
    changes: dict[str, Any],
) -> _Loaded:
    """Return the model that the auto class `auto` loads, and how the checkpoint differs from it."""
    from transformers import AutoConfig

    trusted = bool(changes.get("trust_remote_code"))
    layers = {k: v for k, v in changes.items() if k == "num_hidden_layers"}
    if device == "meta":
        changes["device_map"] = {"": "meta"}
    elif quantization != "none":
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
        skipped = unquantised_modules(empty_model(auto, config, trust_remote_code=trusted))
        changes |= {
            "quantization_config": quantization_config(quantization, dtype, skipped),
            "device_map": {"": device},
        }
    if num_gpus > 1:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trusted, **layers)
        changes["device_map"] = layer_device_map(empty_model(auto, config, trust_remote_code=trusted), num_gpus)
    model, info = auto.from_pretrained(
        folder, output_loading_info=True, ignore_mismatched_sizes=True, dtype=FORMAT_NAMES[dtype], **changes
    )
    if quantization == "nf4":
        # Otherwise CPUs with AVX-512 BF16 repack the weights for inference in bf16: other logits than in training.
        for module in model.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
    return _Loaded(model, sorted(info["missing_keys"]), sorted(key for key, *_ in info["mismatched_keys"]))


def _keep_precision(
    model: Any, heads: Iterable[str], quantization: Quantization, dtype: NumberFormat, table: Any = None
) -> None:
    """Keep the heads in fp32, and with quantised weights also all parameters that are not quantised."""
    if dtype != "fp32":
        keep_in_fp32(model, heads)
        if quantization != "none":
            widen_unquantised(model, table if table is not None else model.get_input_embeddings())


def owners_of_missing(missing_keys: Sequence[str], prefix: str) -> tuple[str, ...]:
    """Return the modules that own the missing parameters, sorted.

    Inside the backbone, whose name is `prefix`, this is the module itself; outside it is the whole head.
    """
    owners = {key.rpartition(".")[0] for key in missing_keys}
    return tuple(sorted({o if o.startswith(prefix + ".") else o.partition(".")[0] for o in owners}))


def keep_in_fp32(model: Any, names: Iterable[str]) -> None:
    """Cast the modules `names` to fp32, and their inputs on each forward pass."""
    import torch

    def cast(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(x.float() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs)

    for name in names:
        module = model.get_submodule(name)
        module.float()
        module.register_forward_pre_hook(cast)


def prepare_for_training(model: Any, load: Load) -> bool:
    """Enable gradient checkpointing, and return True, if training under `load` does not fit this machine without it.

    It replaces peft's prepare_model_for_kbit_training, whose casts `load_base` makes, for inference too.
    """
    if not model.supports_gradient_checkpointing:
        return False
    memory = memory_of(hardware(), load.device)
    needed = needs_checkpointing(model.config.to_dict(), parameter_count(model), load, memory)
    if needed:
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.config.use_cache = False
    return needed


def set_dropout(model: Any, share: float) -> None:
    """Set the probability of every dropout in `model` to `share`, including dropout on attention probabilities."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = share


def set_pad_token(model: Any, pad_id: int) -> None:
    """Set the padding token in the configuration; decoders use it to find the last token before right padding."""
    model.config.pad_token_id = pad_id
    model.config.get_text_config().pad_token_id = pad_id


def load_encoder(spec: FitSpec, device: Literal["cpu", "meta"] = "cpu", dtype: NumberFormat = "fp32") -> Any:
    """Return the pretrained encoder without a head, its weights in `dtype`.

    Raises: PrerequisiteError if its weights are not complete.
    """
    from transformers import AutoModel

    folder = base_folder(spec.model)
    model, missing, mismatched = _load(AutoModel, folder, "none", dtype, device, 1, dict(spec.model.loading_options))
    _refuse_partial(folder, model, missing, mismatched)
    return model


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
