"""models.yaml: families of architectures and the contenders."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moodbench.config.changes import ChangesOf
from moodbench.config.schema.base import BatchSize, Count, Entry
from moodbench.config.schema.training import (
    Head,
    LoraDefaults,
    ModelKind,
    ProbeDefaults,
    Quantization,
    TextDefaults,
    TfidfDefaults,
    TrainDefaults,
)

Method = Literal["baseline", "linear-probe", "lora", "full", "prompted"]
Baseline = Literal["majority", "vader", "tfidf-logreg"]
NumberFormat = Literal["fp32", "fp16", "bf16"]


class ModelSource(Entry):
    """Where weights come from: exactly one of an installed package, a hub repository or a local folder."""

    package: str | None = None
    """Name of an installed distribution that carries the files."""
    folder: str | None = None
    """Folder inside that distribution."""
    hub: str | None = None
    """Repository id on the Hugging Face hub."""
    revision: str | None = None
    """Commit of that repository; null until `moodbench catalogue pin` has seen the hub."""
    converted: bool = False
    """Where the main branch holds pickled weights only, take the safetensors that the hub's conversion bot proposes."""
    gated: bool = False
    """The repository's terms must be accepted on the hub, and a token given."""
    trust_remote_code: bool = False
    """Run Python code that the repository or folder brings, for an architecture that transformers lacks."""
    path: str | None = None
    """A folder on this machine."""
    gguf: Annotated[str | None, Field(pattern=r"^[^/\\]+\.gguf$")] = None
    """Name of a GGUF file in the package's folder or in `path`, which is read into fp32."""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Expected digest of model.safetensors, or of the GGUF file."""

    @model_validator(mode="after")
    def _exactly_one(self) -> ModelSource:
        given = [k for k in ("package", "hub", "path") if getattr(self, k)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of package, hub, path; given: {given or 'none'}")
        if bool(self.package) != bool(self.folder):
            raise ValueError("package and folder go together")
        if not self.hub and (self.revision or self.gated or self.converted):
            raise ValueError("revision, gated and converted are read for hub repositories only")
        if self.package and self.trust_remote_code:
            raise ValueError("trust_remote_code is read for hub repositories and folders only")
        if self.gguf and (self.hub or self.trust_remote_code):
            raise ValueError("gguf goes with package and folder, or with path, and without trust_remote_code")
        return self


class Family(Entry):
    """One architecture, named as transformers names its model type: what LoRA and loading need to know of it."""

    kind: ModelKind = "encoder"
    attention: tuple[str, ...]
    """Query, key, value and output projections."""
    feed_forward: tuple[str, ...]
    """Linear layers of the feed-forward block."""
    sdpa: bool = True
    """torch's fused attention is implemented; without it the plain formula is used."""
    fp16: bool = True
    """Activations stay within the range of fp16."""
    gradient_checkpointing: bool = True
    """Activations can be computed again in the backward pass instead of being kept."""

    def targets(self, wanted: Literal["attention", "all-linear"] | tuple[str, ...]) -> tuple[str, ...]:
        """Module names that LoRA adapts, with the family's names filled in."""
        if wanted == "attention":
            return self.attention
        return (*self.attention, *self.feed_forward) if wanted == "all-linear" else wanted


class ModelSize(Entry):
    """The shape of a model, as its configuration states it."""

    num_params: Count
    """Parameters as a classifier with 2 labels, without any language-model head."""
    num_embedding_params: Count
    """Those of all embedding tables; they are neither adapted nor quantised."""
    num_hidden_layers: Count
    hidden_size: Count
    intermediate_size: Count
    """Width of the feed-forward block."""
    num_attention_heads: Count
    num_key_value_heads: Count
    head_dim: Count | None = None
    """Width of one head where it is not hidden_size / num_attention_heads."""
    vocab_size: Count
    context_length: Count
    """Longest input in tokens."""


class DeviceBatch(Entry):
    """Texts that one forward pass in training may hold, by device; a smaller one means more accumulation."""

    cpu: BatchSize
    cuda: BatchSize
    """For a card of 10 GiB."""
    mps: BatchSize


Group = Literal["ultra-tiny", "tiny", "small-llm"]
"""Below 50 million parameters; all between; decoders of 250 million or more."""

_ENCODER = {"family", "source", "num_hidden_layers", "text", "group", "size"}
_READ_BY: dict[str, set[str]] = {
    "majority": set(),
    "vader": set(),
    "tfidf-logreg": {"tfidf"},
    "linear-probe": _ENCODER | {"probe"},
    "lora": _ENCODER | {"lora", "train", "batch_size", "published_in", "head", "prompt"},
    "full": _ENCODER | {"train", "batch_size", "published_in", "head", "prompt"},
    "prompted": _ENCODER | {"batch_size", "published_in", "prompt", "num_examples"},
}
"""Baseline or method -> the optional keys of an entry that bear on it."""


class ModelEntry(Entry):
    """One contender: a model and the way it is fitted."""

    method: Method
    baseline: Baseline | None = None
    """Which classical baseline, when the method is `baseline`."""
    family: str | None = None
    """Architecture, a key of `families`; found out from the model's config.json when null."""
    source: ModelSource | None = None
    num_hidden_layers: Count | None = None
    """Keep only the first so many layers."""
    group: Group | None = None
    size: ModelSize | None = None
    published_in: NumberFormat | None = None
    """Number format of the published weights; null where nobody looked."""
    batch_size: DeviceBatch | None = None
    """Replaces train.max_device_batch_size where that would hold more texts."""
    quantization: Quantization = "none"
    """How the frozen weights are stored; a request may change it."""
    head: Head | None = None
    """Null: label words for decoders and encoder-decoders that have a language-model head, else a classification head."""
    prompt: str | None = None
    """Template and label words, a key of `prompts`; null chooses by the model's kind and the data set's labels."""
    num_examples: Annotated[int, Field(ge=0, le=64)] = 0
    """Labelled training texts that a prompted model sees before each text."""
    licence: str
    description: str
    """One line for lists."""
    caveat: str | None = None
    """What a reader of its scores must know."""
    lora: Annotated[dict[str, object], ChangesOf(LoraDefaults)] = {}
    train: Annotated[dict[str, object], ChangesOf(TrainDefaults)] = {}
    probe: Annotated[dict[str, object], ChangesOf(ProbeDefaults)] = {}
    tfidf: Annotated[dict[str, object], ChangesOf(TfidfDefaults)] = {}
    text: Annotated[dict[str, object], ChangesOf(TextDefaults)] = {}

    @model_validator(mode="after")
    def _complete(self) -> ModelEntry:
        if (self.method == "baseline") != (self.baseline is not None):
            raise ValueError("`baseline` is given exactly when method is baseline")
        if self.method != "baseline" and self.source is None:
            raise ValueError(f"method {self.method} needs `source`")
        if self.quantization != "none" and self.method not in ("lora", "prompted"):
            raise ValueError(f"method {self.method} does not read quantization")
        shape = ("family", "source", "num_hidden_layers", "group", "size", "batch_size", "published_in", "head", "prompt",
                 "num_examples")  # fmt: skip
        fields = (*shape, "lora", "train", "probe", "tfidf", "text")
        idle = [key for key in fields if getattr(self, key) and key not in _READ_BY[self.baseline or self.method]]
        if idle:
            kind = f"baseline {self.baseline}" if self.baseline else f"method {self.method}"
            raise ValueError(f"{kind} does not read {', '.join(idle)}")
        return self


class ModelsFile(Entry):
    """models.yaml."""

    families: dict[str, Family]
    models: dict[str, ModelEntry]

    @model_validator(mode="after")
    def _families_exist(self) -> ModelsFile:
        for name, entry in self.models.items():
            if entry.family is not None and entry.family not in self.families:
                raise ValueError(f"models.{name}.family {entry.family!r} is not one of {sorted(self.families)}")
        return self
