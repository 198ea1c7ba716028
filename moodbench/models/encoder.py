"""Transformer contenders: base model, LoRA and linear probe, made, saved and loaded again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.config.schema import LoraDefaults, ModelSource
from moodbench.errors import PrerequisiteError
from moodbench.hardware import Device
from moodbench.models.device import parameter_bytes
from moodbench.models.locate import locate
from moodbench.models.predictor import Encoded, Logits
from moodbench.models.tokenizer import Tokenizer
from moodbench.spec import FitSpec, ResolvedModel

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

ADAPTER = "adapter"
TOKENIZER = "tokenizer"
PROBE_HEAD = "head.safetensors"


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


def source_of(model: ResolvedModel) -> ModelSource:
    """Where the files of a resolved model are looked for."""
    assert model.location is not None
    if model.source == "package":
        package, _, folder = model.location.partition(":")
        return ModelSource(package=package, folder=folder, sha256=model.weights_sha256)
    return ModelSource(path=model.location, sha256=model.weights_sha256)


def load_classifier(spec: FitSpec, init_seed: int) -> BaseModel:
    """The base model with a classification head in fp32; what the checkpoint lacks is drawn from `init_seed`."""
    from transformers import AutoModelForSequenceClassification, set_seed

    set_seed(init_seed)
    labels = dict(enumerate(spec.dataset.labels))
    model, info = AutoModelForSequenceClassification.from_pretrained(
        base_folder(spec.model),
        output_loading_info=True,
        num_labels=len(labels),
        id2label=labels,
        label2id={label: i for i, label in labels.items()},
        dtype="float32",
        **({"num_hidden_layers": spec.model.num_hidden_layers} if spec.model.num_hidden_layers else {}),
    )
    return BaseModel(model, owners_of_missing(info["missing_keys"], model.base_model_prefix))


def owners_of_missing(missing_keys: Sequence[str], prefix: str) -> tuple[str, ...]:
    """The modules that hold the missing parameters: inside the backbone the owner itself, outside it the whole head."""
    owners = {key.rpartition(".")[0] for key in missing_keys}
    return tuple(sorted({o if o.startswith(prefix + ".") else o.partition(".")[0] for o in owners}))


def set_dropout(model: Any, share: float) -> None:
    """Nothing; every dropout inside `model` drops `share` from now on, attention probabilities included."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = share


def add_lora(base: BaseModel, lora: LoraDefaults, target_modules: Sequence[str]) -> PeftModel:
    """`base` with trainable low-rank updates on `target_modules` and trainable copies of its new modules.

    Every randomly drawn module is saved with the adapter; otherwise a reloaded adapter would meet other random values.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=lora.r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=lora_targets(base.model, target_modules, base.new_modules),
        modules_to_save=list(base.new_modules),
    )
    return get_peft_model(base.model, config)


def lora_targets(model: Any, suffixes: Sequence[str], new_modules: Sequence[str]) -> list[str]:
    """Full names of the modules inside the backbone whose name ends with one of `suffixes`, new modules left out.

    A suffix matches whole name parts, inside a numbered layer only: `output.dense` is also a part of
    `attention.output.dense`, which counts as its own suffix. PrerequisiteError when one matches nothing.
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
            raise PrerequisiteError(
                f"LoRA target {suffix!r} matches no module of {type(model).__name__}; "
                "see its named_modules() and correct target_modules"
            )
    return [name for names in found.values() for name in names]


class TransformerClassifier:
    """A transformer with a classification head, in one of its deployed forms."""

    def __init__(self, model: Any, tokenizer: Tokenizer, device: Device) -> None:
        self._model = model.to(device).eval()
        self.tokenizer = tokenizer
        self._device = device
        self.weights_bytes = parameter_bytes(model)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The texts as token ids."""
        return encode_tokens(self.tokenizer, texts)

    def logits(self, encoded: Encoded) -> Logits:
        """float32 (texts, labels) of one forward pass."""
        import torch

        with torch.inference_mode():
            batch = {k: v.to(self._device) for k, v in self.tokenizer.pad(encoded.inputs).items()}
            result: Logits = self._model(**batch).logits.float().cpu().numpy()
        return result


class LinearProbe:
    """A linear layer on the pooled states of a frozen encoder."""

    def __init__(
        self,
        encoder: Any,
        tokenizer: Tokenizer,
        pooling: Literal["mean", "cls"],
        weight: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        device: Device,
    ) -> None:
        self.embedder = Embedder(encoder, tokenizer, pooling, device)
        self._weight, self._bias = weight, bias
        self.weights_bytes = parameter_bytes(encoder) + weight.nbytes + bias.nbytes

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The texts as token ids."""
        return encode_tokens(self.embedder.tokenizer, texts)

    def logits(self, encoded: Encoded) -> Logits:
        """float32 (texts, labels) of one forward pass."""
        return np.asarray(self.embedder.embed(encoded) @ self._weight.T + self._bias, dtype=np.float32)


class Embedder:
    """A frozen encoder whose token states are pooled to one unit vector per text."""

    def __init__(self, encoder: Any, tokenizer: Tokenizer, pooling: Literal["mean", "cls"], device: Device) -> None:
        self.encoder = encoder.to(device).eval()
        self.tokenizer, self.pooling, self._device = tokenizer, pooling, device

    def embed(self, encoded: Encoded) -> npt.NDArray[np.float32]:
        """Unit vectors float32 (texts, width)."""
        import torch

        with torch.inference_mode():
            batch = {k: v.to(self._device) for k, v in self.tokenizer.pad(encoded.inputs).items()}
            states = self.encoder(**batch).last_hidden_state.float()
            pooled = states[:, 0] if self.pooling == "cls" else mean_pool(states, batch["attention_mask"])
            result: npt.NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return result


def mean_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean (texts, width) of token states (texts, tokens, width) over tokens whose mask is 1."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def encode_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> Encoded:
    """The texts as token ids with their counts."""
    tokens = tokenizer.encode(texts)
    counts = np.array([len(t.input_ids) for t in tokens], dtype=np.int32)
    return Encoded([t.input_ids for t in tokens], counts, np.array([t.truncated for t in tokens], dtype=bool))


def load_encoder(spec: FitSpec) -> Any:
    """The bare pretrained encoder in fp32, without a head."""
    from transformers import AutoModel

    layers = spec.model.num_hidden_layers
    return AutoModel.from_pretrained(
        base_folder(spec.model), dtype="float32", **({"num_hidden_layers": layers} if layers else {})
    )


def load_transformer(
    spec: FitSpec, artifact: Path, form: Literal["native", "merged", "as_trained"], device: Device
) -> TransformerClassifier | LinearProbe:
    """The fitted contender in `artifact`: the base model from its source, the learned part from the folder."""
    assert spec.text is not None
    tokenizer = Tokenizer.load(artifact / TOKENIZER, spec.text)
    if spec.model.method == "linear-probe":
        from safetensors.numpy import load_file

        assert spec.probe is not None
        head = load_file(artifact / PROBE_HEAD)
        return LinearProbe(load_encoder(spec), tokenizer, spec.probe.pooling, head["weight"], head["bias"], device)
    # The seed of the head is irrelevant here: every randomly drawn module is replaced by the saved one.
    base = load_classifier(spec, init_seed=0).model
    if form == "merged":
        return TransformerClassifier(merge_adapter(base, artifact / ADAPTER), tokenizer, device)
    from peft import PeftModel

    return TransformerClassifier(PeftModel.from_pretrained(base, artifact / ADAPTER), tokenizer, device)


def merge_adapter(model: Any, adapter: Path) -> Any:
    """`model` with a plain LoRA adapter added into its weights: W + lora_alpha / r * B A, saved modules put in place.

    Does without peft, so that the process that serves a merged model is no larger than it need be. PrerequisiteError for
    an adapter of another kind. Source: Hu et al. (2021), LoRA, arXiv:2106.09685, section 4.1.
    """
    import torch
    from safetensors.torch import load_file

    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    variants = [k for k in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern") if config.get(k)]
    if config["peft_type"] != "LORA" or variants:
        raise PrerequisiteError(
            f"{adapter}: a {config['peft_type']} adapter with {variants or 'no variant'}; merge it with peft"
        )
    tensors = {
        k.removeprefix("base_model.model."): v for k, v in load_file(adapter / "adapter_model.safetensors").items()
    }
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            module, _, kind = name.rpartition(".lora_")
            if kind == "A.weight":
                update = config["lora_alpha"] / config["r"] * tensors[f"{module}.lora_B.weight"] @ tensor
                weight = parameters[f"{module}.weight"]
                weight += update if weight.shape == update.shape and not config["fan_in_fan_out"] else update.T
            elif not module:
                parameters[name].copy_(tensor)
    return model
