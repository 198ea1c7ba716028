"""Transformer contenders: base model, LoRA and linear probe, made, saved and loaded again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.config.schema import LoraDefaults, ModelSource, NumberFormat, Quantization
from moodbench.errors import PrerequisiteError
from moodbench.hardware import Device
from moodbench.models.device import parameter_bytes, parameter_count
from moodbench.models.features import uses_checkpointing
from moodbench.models.locate import locate
from moodbench.models.predictor import Encoded, Logits
from moodbench.models.spreading import empty_classifier, is_spread, on_gpus, spread
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
    if model.source == "hub":
        trusted = model.trust_remote_code
        return ModelSource(
            hub=model.location, revision=model.revision, sha256=model.weights_sha256, trust_remote_code=trusted
        )
    return ModelSource(path=model.location, sha256=model.weights_sha256)


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
        dtype=TORCH_NAMES[dtype],
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
    return BaseModel(model, new_modules)


TORCH_NAMES: dict[NumberFormat, str] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def quantization_config(quantization: Quantization, dtype: NumberFormat, skipped: Sequence[str]) -> Any:
    """How bitsandbytes stores weights: NF4 with doubly quantised scales (Dettmers et al. 2023, QLoRA), or LLM.int8."""
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(skipped))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=TORCH_NAMES[dtype],
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


def keep_in_fp32(model: Any, names: Iterable[str]) -> None:
    """Nothing; these modules hold fp32 from now on, and read their inputs so."""
    import torch

    def cast(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(x.float() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs)

    for name in names:
        module = model.get_submodule(name)
        module.float()
        module.register_forward_pre_hook(cast)


def is_quantised(model: Any) -> bool:
    """Whether bitsandbytes holds weights of the model."""
    return bool(getattr(model, "is_quantized", False))


def prepare_for_training(base: BaseModel) -> None:
    """Nothing; freezes a quantised base as k-bit training needs it, and saves activations of large models."""
    model = base.model
    checkpointing = uses_checkpointing(parameter_count(model), bool(model.supports_gradient_checkpointing))
    again = {"use_reentrant": False}
    if is_quantised(model):
        from peft import prepare_model_for_kbit_training

        prepare_model_for_kbit_training(model, checkpointing, again)
    elif checkpointing:
        model.gradient_checkpointing_enable(again)
    if checkpointing:
        model.config.use_cache = False


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
    from transformers.pytorch_utils import Conv1D

    targets = lora_targets(base.model, target_modules, base.new_modules)
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
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
    if lora.init_lora_weights != "default":
        check_rank(base.model, targets, lora)
    return get_peft_model(base.model, config)


def check_rank(model: Any, targets: Sequence[str], lora: LoraDefaults) -> None:
    """Nothing; PrerequisiteError for a rank that an initialisation from the weights cannot fill."""
    for name in targets:
        width = min(model.get_submodule(name).weight.shape)
        if lora.init_lora_weights != "gaussian" and lora.r > width:
            raise PrerequisiteError(
                f"lora.r {lora.r} with init_lora_weights {lora.init_lora_weights}: {name} is {width} wide; "
                f"allowed are ranks up to {width}"
            )


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
        # bitsandbytes has put quantised weights on the device already.
        self._model = (model if is_quantised(model) or is_spread(model) else model.to(device)).eval()
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
    spec: FitSpec,
    artifact: Path,
    form: Literal["native", "merged", "as_trained"],
    device: Device,
    num_gpus: int = 1,
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
    if form == "merged":
        merged = merged_model(spec, artifact, tokenizer.pad_id)
        return TransformerClassifier(on_gpus(merged, num_gpus) if num_gpus > 1 else merged, tokenizer, device)
    from peft import PeftModel

    base = load_classifier(spec, init_seed=0, device=device, num_gpus=num_gpus).model
    set_pad_token(base, tokenizer.pad_id)
    adapted = PeftModel.from_pretrained(base, artifact / ADAPTER, torch_device=device)
    return TransformerClassifier(adapted, tokenizer, device)


def set_pad_token(model: Any, pad_id: int) -> None:
    """Nothing; a decoder finds the last token of each text by it, as padding on the right follows."""
    model.config.pad_token_id = pad_id
    model.config.get_text_config().pad_token_id = pad_id


def merged_model(spec: FitSpec, artifact: Path, pad_id: int) -> Any:
    """The fitted model as plain fp32 weights without adapter; quantised weights are taken at their rounded values."""
    plain = load_classifier(spec.model_copy(update={"quantization": "none", "dtype": "fp32"}), init_seed=0).model
    if spec.quantization != "none":
        copy_dequantised(load_classifier(spec, init_seed=0).model, plain)
    set_pad_token(plain, pad_id)
    return merge_adapter(plain, artifact / ADAPTER)


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


def merge_adapter(model: Any, adapter: Path) -> Any:
    """`model` with a LoRA adapter folded into its weights: W + scale B A, saved modules put in place.

    The scale is lora_alpha / r (Hu et al. 2021, LoRA, arXiv:2106.09685, section 4.1), with rsLoRA lora_alpha / sqrt(r)
    (Kalajdzievski 2023, arXiv:2312.03732). With DoRA each row of the sum is stretched to the learned magnitude (Liu et
    al. 2024, arXiv:2402.09353, equation 5). Does without peft, so that the process that serves a merged model is no larger
    than it need be. PrerequisiteError for an adapter of another kind.
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
                whole = (target.T if transposed else target) + update
                magnitude = tensors.get(f"{module}.lora_magnitude_vector")
                if magnitude is not None:
                    whole *= (magnitude / torch.linalg.norm(whole, dim=1)).unsqueeze(1)
                target.copy_(whole.T if transposed else whole)
            elif not module:
                parameters[name].copy_(tensor)
    return model
