"""Pretrained weights as a classifier with a new head, frozen and stored as a recipe asks, and made ready for training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from moodbench.config.schema import NumberFormat, Quantization
from moodbench.errors import PrerequisiteError
from moodbench.hardware import Device
from moodbench.models.device import parameter_count
from moodbench.models.families import FORMAT_NAMES
from moodbench.models.features import uses_checkpointing
from moodbench.models.locate import locate, source_of
from moodbench.models.quantised import (
    head_modules,
    quantization_config,
    unquantised_modules,
    widen_unquantised,
)
from moodbench.models.spreading import empty_classifier, spread
from moodbench.spec import FitSpec, ResolvedModel


class BaseModel(NamedTuple):
    """A classifier on pretrained weights, and the modules that the checkpoint did not fill."""

    model: Any
    new_modules: tuple[str, ...]
    """Modules drawn at random at this load; an adapter must carry them."""


def base_folder(model: ResolvedModel) -> Path:
    """The folder of the base model's files on this machine, checked against the digests in the spec."""
    located = locate(model.name, source_of(model))
    if located.tokenizer_sha256 != model.tokenizer_sha256:
        raise PrerequisiteError(
            f"model {model.name}: tokenizer files in {located.folder} differ from those the run was planned with "
            f"(digest {located.tokenizer_sha256[:12]}, planned {str(model.tokenizer_sha256)[:12]}); install the same version"
        )
    return located.folder


def load_classifier(spec: FitSpec, init_seed: int, device: Device = "cpu", num_gpus: int = 1) -> BaseModel:
    """The base model with a classification head; what the checkpoint lacks is drawn from `init_seed`."""
    changes: dict[str, Any] = {"trust_remote_code": True} if spec.model.trust_remote_code else {}
    if spec.model.num_hidden_layers:
        changes["num_hidden_layers"] = spec.model.num_hidden_layers
    return load_base(
        base_folder(spec.model),
        spec.dataset.labels,
        init_seed,
        spec.quantization,
        spec.dtype,
        device,
        num_gpus,
        **changes,
    )


def load_base(
    folder: Path,
    labels: Sequence[str],
    init_seed: int,
    quantization: Quantization = "none",
    dtype: NumberFormat = "fp32",
    device: Device = "cpu",
    num_gpus: int = 1,
    **changes: Any,
) -> BaseModel:
    """The model in `folder` with a head for `labels`; frozen weights as asked, the head in fp32, never quantised.

    Quantised weights are put on `device`, and any on CUDA devices when there are several to spread over.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed

    set_seed(init_seed)
    names = dict(enumerate(labels))
    trusted = bool(changes.get("trust_remote_code"))
    layers = {k: v for k, v in changes.items() if k == "num_hidden_layers"}
    if quantization != "none":
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
        changes["quantization_config"] = quantization_config(quantization, dtype, unquantised_modules(config, trusted))
        changes["device_map"] = {"": device}
    if num_gpus > 1:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trusted, **layers)
        changes["device_map"] = spread(empty_classifier(config, trust_remote_code=trusted), num_gpus)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder,
        output_loading_info=True,
        num_labels=len(names),
        id2label=names,
        label2id={label: i for i, label in names.items()},
        dtype=FORMAT_NAMES[dtype],
        **changes,
    )
    if quantization == "nf4":
        # Otherwise CPUs with AVX-512 BF16 answer from weights packed anew, in bf16: other logits than in training.
        for module in model.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
    new_modules = owners_of_missing(info["missing_keys"], model.base_model_prefix)
    if dtype != "fp32":
        keep_in_fp32(model, {*new_modules, *head_modules(model)})
        if quantization != "none":
            widen_unquantised(model)
    return BaseModel(model, new_modules)


def owners_of_missing(missing_keys: Sequence[str], prefix: str) -> tuple[str, ...]:
    """The modules that hold the missing parameters: inside the backbone the owner itself, outside it the whole head."""
    owners = {key.rpartition(".")[0] for key in missing_keys}
    return tuple(sorted({o if o.startswith(prefix + ".") else o.partition(".")[0] for o in owners}))


def keep_in_fp32(model: Any, names: Iterable[str]) -> None:
    """Nothing; these modules hold fp32 from now on, and read their inputs so."""
    import torch

    def cast(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(x.float() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs)

    for name in names:
        module = model.get_submodule(name)
        module.float()
        module.register_forward_pre_hook(cast)


def prepare_for_training(base: BaseModel) -> None:
    """Nothing; activations of large models are computed again in the backward pass instead of being kept.

    Of what peft's prepare_model_for_kbit_training does, `load_base` has done the casts, for the model that is loaded to
    answer as well, and adding the adapter freezes the rest.
    """
    model = base.model
    if uses_checkpointing(parameter_count(model), bool(model.supports_gradient_checkpointing)):
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.config.use_cache = False


def set_dropout(model: Any, share: float) -> None:
    """Nothing; every dropout inside `model` drops `share` from now on, attention probabilities included."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = share


def set_pad_token(model: Any, pad_id: int) -> None:
    """Nothing; a decoder finds the last token of each text by it, as padding on the right follows."""
    model.config.pad_token_id = pad_id
    model.config.get_text_config().pad_token_id = pad_id


def load_encoder(spec: FitSpec) -> Any:
    """The bare pretrained encoder in fp32, without a head."""
    from transformers import AutoModel

    layers = spec.model.num_hidden_layers
    return AutoModel.from_pretrained(
        base_folder(spec.model),
        dtype="float32",
        trust_remote_code=spec.model.trust_remote_code,
        **({"num_hidden_layers": layers} if layers else {}),
    )
