"""models.yaml, prompts.yaml and published.yaml: families (architectures), models, prompts, and published results."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from moodbench.config.schema.base import BatchSize, ChangesOf, Count, Entry, HubId, HubRevision, Name
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
FORMAT_NAMES: dict[NumberFormat, str] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Names of the number formats in torch and in config.json."""
InferenceDtype = Literal["auto", "float32", "bfloat16", "float16"]
"""Number format of deployed weights; auto is that in which they were trained, on the CPU float32."""
Group = Literal["ultra-tiny", "tiny", "small-llm"]
"""Size group: ultra-tiny below 50 million parameters, small-llm for decoders of 250 million or more, tiny otherwise."""
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
"""Baseline or method -> the optional keys of an entry that it uses."""
TEXT, MASK = "{text}", "{mask}"
"""Placeholders of a template: the text, and the mask token of a masked language model."""
LabelWords = Annotated[tuple[str, ...], Field(min_length=2)]
Words = Annotated[str, Field(min_length=1)]


class ModelSource(Entry):
    """Source of the weights: exactly one of an installed package, a hub repository and a local folder."""

    package: str | None = None
    """Name of an installed distribution that contains the files."""
    folder: str | None = None
    """Folder inside that distribution."""
    hub: HubId | None = None
    """Repository id on the Hugging Face hub."""
    revision: HubRevision | None = None
    """Commit of that repository; null until set by `moodbench catalogue pin`."""
    converted: bool = False
    """Whether to use the safetensors that the hub's conversion bot proposes, if main has only pickled weights."""
    gated: bool = False
    """Whether the repository is gated: its terms must be accepted on the hub, and a token is needed."""
    trust_remote_code: bool = False
    """Whether to run Python code of the repository or folder, for an architecture that transformers lacks."""
    path: str | None = None
    """Local folder."""
    gguf: Annotated[str | None, Field(pattern=r"^[^/\\]+\.gguf$")] = None
    """Name of a GGUF file in the package's folder or in `path`; its weights are loaded as fp32."""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Expected SHA-256 of model.safetensors, or of the GGUF file."""

    @model_validator(mode="after")
    def _exactly_one(self) -> ModelSource:
        given = [k for k in ("package", "hub", "path") if getattr(self, k)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of package, hub, path; given: {given or 'none'}")
        if bool(self.package) != bool(self.folder):
            raise ValueError("package and folder must be given together")
        if not self.hub and (self.revision or self.gated or self.converted):
            raise ValueError("revision, gated and converted apply to hub repositories only")
        if self.package and self.trust_remote_code:
            raise ValueError("trust_remote_code applies to hub repositories and folders only")
        if self.gguf and (self.hub or self.trust_remote_code):
            raise ValueError("gguf needs package and folder, or path, and cannot be combined with trust_remote_code")
        return self


class Family(Entry):
    """Properties of one architecture (a `model_type` of transformers) that LoRA and loading need."""

    kind: ModelKind = "encoder"
    attention: tuple[str, ...]
    """Module names of the query, key, value and output projections."""
    feed_forward: tuple[str, ...]
    """Module names of the linear layers of the feed-forward block."""
    sdpa: bool = True
    """Whether torch's scaled dot-product attention is supported; otherwise eager attention is used."""
    fp16: bool = True
    """Whether activations stay within the range of fp16."""
    gradient_checkpointing: bool = True
    """Whether gradient checkpointing is supported."""

    def targets(self, wanted: Literal["attention", "all-linear"] | tuple[str, ...]) -> tuple[str, ...]:
        """Return the module names that LoRA adapts; `attention` and `all-linear` are replaced by the family's names."""
        if wanted == "attention":
            return self.attention
        return (*self.attention, *self.feed_forward) if wanted == "all-linear" else wanted


class ModelSize(Entry):
    """Dimensions of a model, from its configuration."""

    num_params: Count
    """Number of parameters as a classifier with 2 labels, without a language-model head."""
    num_embedding_params: Count
    """Number of parameters of all embedding tables, which are neither adapted nor quantised."""
    num_hidden_layers: Count
    hidden_size: Count
    intermediate_size: Count
    """Width of the feed-forward block."""
    num_attention_heads: Count
    num_key_value_heads: Count
    head_dim: Count | None = None
    """Width of one head; null for hidden_size / num_attention_heads."""
    vocab_size: Count
    context_length: Count
    """Maximum input length in tokens."""


class DeviceBatch(Entry):
    """Maximum texts per forward pass in training, by device; smaller values mean more gradient accumulation."""

    cpu: BatchSize
    cuda: BatchSize
    """For a GPU with 10 GiB."""
    mps: BatchSize


class ModelEntry(Entry):
    """One model and how it is fitted."""

    method: Method
    baseline: Baseline | None = None
    """Name of the classical baseline; given exactly for method `baseline`."""
    family: str | None = None
    """Architecture, a key of `families`; null to read it from the model's config.json."""
    source: ModelSource | None = None
    num_hidden_layers: Count | None = None
    """Number of layers to keep, counted from the first; null keeps all."""
    group: Group | None = None
    size: ModelSize | None = None
    published_in: NumberFormat | None = None
    """Number format of the published weights; null if unknown."""
    batch_size: DeviceBatch | None = None
    """Upper bound for train.max_device_batch_size, by device."""
    quantization: Quantization = "none"
    """Storage format of the frozen weights; a spec may override it."""
    head: Head | None = None
    """Null: label words for decoders and encoder-decoders with a language-model head, else a classification head."""
    prompt: str | None = None
    """Template and label words, a key of `prompts`; null chooses by the model's kind and the dataset's labels."""
    num_examples: Annotated[int, Field(ge=0, le=64)] = 0
    """Number of few-shot examples: labelled training texts that precede each text of a prompted model."""
    licence: str
    description: str
    """One-line description for listings."""
    caveat: str | None = None
    """Warning for readers of the model's scores."""
    english_only: bool = False
    """Whether it was made for, or trained mainly on, English; a run on texts of another language warns of it."""
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
            raise ValueError(f"method {self.method} does not use quantization")
        not_read = set[str]().union(*_READ_BY.values()) - _READ_BY[self.baseline or self.method]
        idle = [key for key in type(self).model_fields if key in not_read and getattr(self, key)]
        if idle:
            kind = f"baseline {self.baseline}" if self.baseline else f"method {self.method}"
            raise ValueError(f"{kind} does not use {', '.join(idle)}")
        return self


class ModelsFile(Entry):
    """Schema of models.yaml."""

    families: dict[Name, Family]
    models: dict[HubId, ModelEntry]

    @model_validator(mode="after")
    def _families_exist(self) -> ModelsFile:
        for name, entry in self.models.items():
            if entry.family is not None and entry.family not in self.families:
                raise ValueError(f"models.{name}.family {entry.family!r} is not one of {sorted(self.families)}")
        return self


class PromptEntry(Entry):
    """A template and its label words, one per class."""

    description: str = "a prompt of your own"
    template: str
    """Contains `{text}` once and, for masked language models, `{mask}` once."""
    chat: bool = False
    """Whether to apply the tokenizer's chat template: the template is the user's turn, the answer the assistant's."""
    label_words: dict[Annotated[int, Field(ge=2)], LabelWords] = Field(min_length=1)
    """Number of classes -> one word per class, most negative first; a plain list has one word per class."""

    @field_validator("label_words", mode="before")
    @classmethod
    def _by_number_of_classes(cls, value: Any) -> Any:
        return {len(value): value} if isinstance(value, list | tuple) else value

    @field_validator("template")
    @classmethod
    def _has_its_text(cls, template: str) -> str:
        if template.count(TEXT) != 1:
            raise ValueError(f"must contain {TEXT} exactly once, where the text goes")
        if template.count(MASK) > 1:
            raise ValueError(f"may contain {MASK} once, where a masked language model answers")
        return template

    @model_validator(mode="after")
    def _one_word_per_class(self) -> PromptEntry:
        for num_classes, words in self.label_words.items():
            if len(words) != num_classes:
                raise ValueError(f"label_words.{num_classes}: has {len(words)} words; give one for each class")
            empty = [word for word in words if not word.strip()]
            if empty:
                raise ValueError(f"label_words.{num_classes}: {empty[0]!r} is empty; give a word")
            repeated = sorted({word for word in words if words.count(word) > 1})
            if repeated:
                raise ValueError(
                    f"label_words.{num_classes}: {repeated[0]!r} is the word of two classes; give each class its own"
                )
        return self


class PromptsFile(Entry):
    """Schema of prompts.yaml."""

    prompts: dict[Name, PromptEntry]


class PublishedResult(Entry):
    """Published accuracy of one fine-tuned model on one dataset, with its source."""

    dataset: Words
    """Name of the dataset in the catalogue."""
    split: Words
    """Evaluated split, as the source calls it: dev, test, GLUE test, test[:1000]."""
    accuracy: Annotated[float, Field(gt=1, le=100, allow_inf_nan=False)]
    """Accuracy in percent, as published; a share (up to 1) is refused."""
    method: Words
    """Training method, such as full fine-tuning."""
    source: Words
    """Paper with its arXiv id and table, or the README of a project."""


class PublishedFile(Entry):
    """Schema of published.yaml."""

    published: dict[str, tuple[PublishedResult, ...]]
    """Model name -> its results."""
