"""What will run, with everything looked up: the specs whose hashes are the ids, and that workers receive as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from moodbench.config.schema import (
    Augmentation,
    Baseline,
    FileSource,
    HubSource,
    LoraDefaults,
    MeasureProtocol,
    Method,
    NumberFormat,
    PreparationStep,
    ProbeDefaults,
    Quantization,
    Sampling,
    TextDefaults,
    TfidfDefaults,
    TrainDefaults,
)
from moodbench.spec.canonical import content_id

FIT_CODE_VERSION = 2
"""Raised by hand when a change of the fit phase may change results."""
EVALUATE_CODE_VERSION = 1
"""Raised by hand when a change of the evaluate phase may change results."""
MEASURE_PROTOCOL_VERSION = 1
"""Raised by hand when measurements stop being comparable with earlier ones."""


class Frozen(BaseModel):
    """Base of resolved specs: immutable data that round-trips through JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with these fields changed; ids that were worked out for the original are not taken along."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied


class ResolvedModel(Frozen):
    """A contender with its weights pinned by digest."""

    name: str
    method: Method
    baseline: Baseline | None = None
    family: str | None = None
    source: Literal["none", "package", "hub", "path"] = "none"
    location: str | None = None
    """Distribution and folder (`name:folder`), repository id, or folder."""
    revision: str | None = None
    """Version of the distribution or commit of the repository."""
    weights_sha256: str | None = None
    tokenizer_sha256: str | None = None
    num_hidden_layers: int | None = None
    trust_remote_code: bool = False


class ResolvedDataset(Frozen):
    """A data set with its splits pinned by fingerprint."""

    name: str
    embedded: str | None = None
    """Name of the embedded text; None for a file."""
    file: FileSource | None = None
    """Where a worker finds a table of texts; no part of any id."""
    hub: HubSource | None = None
    """The hub repository at the commit that was found; no part of any id, as `revision` says what came of it."""
    revision: str
    """Digest of the source."""
    labels: tuple[str, ...]
    neutral_band: float
    max_train_examples: int | None = None
    max_validation_examples: int | None = None
    sampling: Sampling = "stratified"
    """Class shares of those sub-samples."""
    train_fingerprint: str
    validation_fingerprint: str
    test_fingerprint: str
    """Each fingerprint is a digest of the split's example ids and labels, before sub-sampling."""

    @property
    def private(self) -> bool:
        """True for a person's own texts, which are shown nowhere unless asked for."""
        return self.file is not None and self.file.kaggle is None


class SeedSpec(Frozen):
    """The seeds of one fit."""

    init: int
    data_order: int
    subsample: int


class Prompt(Frozen):
    """A template, and the words after it that stand for the classes."""

    kind: Literal["causal", "masked", "seq2seq"]
    """Where the word is: after the input, in place of a mask, or the first that an encoder-decoder writes."""
    template: str
    """With `{text}`, and `{mask}` for masked language models."""
    label_words: tuple[str, ...]
    """One word per class, in the order of the labels."""
    chat: bool = False
    """The template is a user's turn in the chat format of the tokenizer."""
    num_examples: int = 0
    """Labelled training texts that come before each text, drawn with the seed of the sub-sample."""


class FitSpec(Frozen):
    """Everything that determines a fitted artifact."""

    model: ResolvedModel
    dataset: ResolvedDataset
    text: TextDefaults | None = None
    lora: LoraDefaults | None = None
    target_modules: tuple[str, ...] = ()
    """Module names that LoRA adapts, after the family's names are filled in."""
    quantization: Quantization = "none"
    dtype: NumberFormat = "fp32"
    """Number format of the frozen weights; the head and the adapter are fp32 always."""
    train: TrainDefaults | None = None
    probe: ProbeDefaults | None = None
    tfidf: TfidfDefaults | None = None
    preparation: tuple[PreparationStep, ...] = ()
    """How every text is prepared before the model reads it, in training and in use."""
    augmentation: Augmentation | None = None
    """How training texts are multiplied; None for not at all."""
    prompt: Prompt | None = None
    """Template and label words of a language model that answers with a word; None for a classification head."""
    code_version: int = FIT_CODE_VERSION
    seeds: SeedSpec

    @cached_property
    def config_id(self) -> str:
        """Id of the recipe: everything but the seeds, and local paths, as the digests of weights and data say it all."""
        return fit_ids(self.model_dump(mode="json"))[0]

    @cached_property
    def fit_id(self) -> str:
        """Id of this fit: the recipe and its seeds."""
        return fit_ids(self.model_dump(mode="json"))[1]


_PLAIN_LORA = {"use_rslora": False, "use_dora": False, "init_lora_weights": "default", "loraplus_lr_ratio": 1.0}
"""LoRA's younger fields as they were before there were any."""
_PLAIN_TRAIN = {"optimizer": "adamw", "min_steps": 0, "max_steps": None, "validation_share": 1.0}
"""Likewise those of fine-tuning."""
_ADDED = ("preparation", "augmentation", "prompt")
"""Fields of a fit spec that came later: empty, they are no part of the ids, which thereby stay what they were."""


def fit_ids(spec: Mapping[str, Any]) -> tuple[str, str]:
    """The config_id and fit_id of a fit spec as JSON values, whatever version of the program wrote it."""
    added = {name for name in _ADDED if not spec.get(name)}
    recipe = {name: value for name, value in spec.items() if name != "seeds" and name not in added}
    recipe["dataset"] = {name: value for name, value in recipe["dataset"].items() if name not in ("file", "hub")}
    if recipe["dataset"].get("sampling") == "stratified":
        del recipe["dataset"]["sampling"]
    # Fields younger than the first records are left out where they say what was the only way before.
    recipe = {name: value for name, value in recipe.items() if (name, value) != ("dtype", "fp32")}
    recipe["model"] = {k: v for k, v in recipe["model"].items() if (k, v) != ("trust_remote_code", False)}
    if recipe.get("train"):
        recipe["train"] = {k: v for k, v in recipe["train"].items() if k not in _PLAIN_TRAIN or v != _PLAIN_TRAIN[k]}
    if recipe.get("lora"):
        recipe["lora"] = {k: v for k, v in recipe["lora"].items() if k not in _PLAIN_LORA or v != _PLAIN_LORA[k]}
    if recipe["model"]["source"] == "path":
        recipe["model"] = {name: value for name, value in recipe["model"].items() if name != "location"}
    config_id = content_id("config", recipe)
    return config_id, content_id("fit", {"config_id": config_id, "seeds": spec["seeds"]})


class EvaluateSpec(Frozen):
    """One evaluation set for one fit."""

    fit: FitSpec
    evaluation_set: Literal["test"] = "test"
    batch_size: int
    code_version: int = EVALUATE_CODE_VERSION

    @cached_property
    def evaluation_id(self) -> str:
        """Id of these predictions; the batch size only sets speed and is not part of it."""
        return content_id(
            "evaluation",
            {
                "fit_id": self.fit.fit_id,
                "evaluation_set": self.evaluation_set,
                "test_fingerprint": self.fit.dataset.test_fingerprint,
                "code_version": self.code_version,
            },
        )


class MeasureSpec(Frozen):
    """One measurement of one fit's artifact on one kind of machine."""

    fit: FitSpec
    form: Literal["native", "merged"]
    """Deployed form: `merged` for a LoRA model whose adapter is folded in, `native` for all others."""
    protocol: MeasureProtocol
    perf_key: str
    num_threads: int
    device: Literal["cpu", "cuda", "mps"]
    protocol_version: int = MEASURE_PROTOCOL_VERSION

    @cached_property
    def measurement_id(self) -> str:
        """Id of this measurement: artifact, form, kind of machine and protocol."""
        value: dict[str, Any] = {
            "fit_id": self.fit.fit_id,
            "form": self.form,
            "perf_key": self.perf_key,
            "protocol": self.protocol.model_dump(mode="json"),
            "protocol_version": self.protocol_version,
        }
        return content_id("measurement", value)


class TrialSpec(Frozen):
    """One trial: a fit, its evaluation and its measurement."""

    fit: FitSpec
    evaluate: EvaluateSpec
    measure: MeasureSpec

    @property
    def label(self) -> str:
        """Short human name of the trial."""
        return f"{self.fit.model.name} · {self.fit.dataset.name} · seed {self.fit.seeds.init}"
