"""Resolved specs: their hashes are the ids of fits, evaluations and measurements; workers receive them as JSON."""

from __future__ import annotations

import hashlib
import json
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
    ModelSource,
    NumberFormat,
    PreparationStep,
    ProbeDefaults,
    Quantization,
    Sampling,
    TextDefaults,
    TfidfDefaults,
    TrainDefaults,
)

IDENTITY_VERSION = 1
"""Incremented when the meaning of ids changes; part of every hashed object."""
FIT_CODE_VERSION = 1
"""Increment when a code change of the fit phase may change results.

It was not incremented when a checkpoint's head of equal shape began to be replaced unless it names the same classes: no
model of the catalogue has such a head, and every other fit would have been made again. Make fits of your own
checkpoints that have one again with `--force`.
"""
EVALUATE_CODE_VERSION = 1
"""Increment when a code change of the evaluate phase may change results."""
MEASURE_PROTOCOL_VERSION = 2
"""Increment when measurements are no longer comparable with earlier ones."""


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with sorted keys, no spaces and shortest round-trip floats.

    Raises: ValueError for NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_id(kind: str, value: Any) -> str:
    """Return the first 20 hex digits of the SHA-256 of the canonical JSON of `kind`, `value` and IDENTITY_VERSION."""
    hashed = canonical_json({"identity_version": IDENTITY_VERSION, "kind": kind, "value": value})
    return hashlib.sha256(hashed.encode("utf-8")).hexdigest()[:20]


class Frozen(BaseModel):
    """Base class of resolved specs: immutable data that round-trips through JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with the fields in `update` changed; cached ids of the original are discarded."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied


class ResolvedModel(Frozen):
    """A model with its weights pinned by digest."""

    name: str
    method: Method
    baseline: Baseline | None = None
    family: str | None = None
    source: ModelSource | None = None
    """Origin of the files, pinned to a commit and to the digest of the weights; not part of any id."""
    revision: str | None = None
    """Version of the distribution, or commit of the repository; part of an id only for a baseline without weights."""
    weights_sha256: str | None = None
    tokenizer_sha256: str | None = None
    config_sha256: str | None = None
    """Digest of config.json, generation_config.json and, if the model may run its own code, that code."""
    num_hidden_layers: int | None = None

    @property
    def trust_remote_code(self) -> bool:
        """Whether the model may run code of its own; the code itself is part of `config_sha256`."""
        return self.source is not None and self.source.trust_remote_code

    @property
    def loading_options(self) -> dict[str, Any]:
        """Options of `from_pretrained` in transformers, where they differ from its defaults."""
        options: dict[str, Any] = {"trust_remote_code": True} if self.trust_remote_code else {}
        return options | ({"num_hidden_layers": self.num_hidden_layers} if self.num_hidden_layers else {})


class ResolvedDataset(Frozen):
    """A dataset with its splits pinned by fingerprint."""

    name: str
    embedded: str | None = None
    """Name of the embedded dataset; None for other sources."""
    file: FileSource | None = None
    """Location of a table of texts for workers; not part of any id."""
    hub: HubSource | None = None
    """Hub repository at the resolved commit; not part of any id."""
    revision: str
    """Digest of the contents of the dataset."""
    labels: tuple[str, ...]
    neutral_band: float
    max_train_examples: int | None = None
    max_validation_examples: int | None = None
    sampling: Sampling = "stratified"
    """Class shares of the sub-samples of train and validation."""
    train_fingerprint: str
    validation_fingerprint: str
    test_fingerprint: str
    """Each fingerprint is a digest of the split's example ids and labels, before sub-sampling."""

    @property
    def private(self) -> bool:
        """Whether these are the user's own texts, which are never shown unless the user asks for them."""
        return self.file is not None and self.file.kaggle is None


class SeedSpec(Frozen):
    """The seeds of one fit."""

    init: int
    data_order: int
    subsample: int


class Prompt(Frozen):
    """A template and its label words, one per class."""

    kind: Literal["causal", "masked", "seq2seq"]
    """Position of the label word: after the input, at the mask token, or the first token that the decoder generates."""
    template: str
    """Contains `{text}` and, for masked language models, `{mask}`."""
    label_words: tuple[str, ...]
    """One word per class, in the order of the labels."""
    chat: bool = False
    """Whether to apply the tokenizer's chat template, with the template as the user's turn."""
    num_examples: int = 0
    """Number of few-shot examples: labelled training texts before each text, drawn with the sub-sample seed."""


class FitSpec(Frozen):
    """Everything that determines the artifact of a fit."""

    model: ResolvedModel
    dataset: ResolvedDataset
    text: TextDefaults | None = None
    lora: LoraDefaults | None = None
    target_modules: tuple[str, ...] = ()
    """Module names that LoRA adapts; `attention` and `all-linear` are already replaced by the family's names."""
    quantization: Quantization = "none"
    dtype: NumberFormat = "fp32"
    """Number format of the frozen weights; the head and the adapter are always fp32."""
    train: TrainDefaults | None = None
    probe: ProbeDefaults | None = None
    tfidf: TfidfDefaults | None = None
    preparation: tuple[PreparationStep, ...] = ()
    """Preprocessing steps of every text, in training and inference."""
    augmentation: Augmentation | None = None
    """Augmentation of the training texts; None for no augmentation."""
    prompt: Prompt | None = None
    """Template and label words of the `label-words` head; None for a classification head."""
    code_version: int = FIT_CODE_VERSION
    seeds: SeedSpec

    @cached_property
    def config_id(self) -> str:
        """Id of the configuration: everything except the seeds and the origin of files."""
        return fit_ids(self.model_dump(mode="json"))[0]

    @cached_property
    def fit_id(self) -> str:
        """Id of this fit: the configuration and its seeds."""
        return fit_ids(self.model_dump(mode="json"))[1]


def fit_ids(spec: Mapping[str, Any]) -> tuple[str, str]:
    """Return the config_id and fit_id of a fit spec in JSON values.

    Ids hash what changes the outcome: digests stand for weights, tokenizer, configuration and data. Where the files
    came from and the commit of a hub repository are only recorded.
    """
    origin = {"source", "revision"} if spec["model"]["weights_sha256"] else {"source"}
    recipe = {name: value for name, value in spec.items() if name != "seeds"}
    recipe["model"] = {name: value for name, value in recipe["model"].items() if name not in origin}
    recipe["dataset"] = {name: value for name, value in recipe["dataset"].items() if name not in ("file", "hub")}
    config_id = content_id("config", recipe)
    return config_id, content_id("fit", {"config_id": config_id, "seeds": spec["seeds"]})


class EvaluateSpec(Frozen):
    """The evaluation of one fit on one evaluation set."""

    fit: FitSpec
    evaluation_set: Literal["test"] = "test"
    batch_size: int
    dtype: NumberFormat = "fp32"
    """Number format of weights that are not quantised, see `deployed_dtype`."""
    code_version: int = EVALUATE_CODE_VERSION

    @cached_property
    def evaluation_id(self) -> str:
        """Id of these predictions; the batch size only affects speed and is not part of it."""
        value = {
            "fit_id": self.fit.fit_id,
            "evaluation_set": self.evaluation_set,
            "test_fingerprint": self.fit.dataset.test_fingerprint,
            "code_version": self.code_version,
        }
        return content_id("evaluation", value | _deployed(self.fit, self.dtype))


def _deployed(fit: FitSpec, dtype: NumberFormat) -> dict[str, str]:
    """Return the number format of deployed weights for ids; nothing for fp32 and for quantised weights."""
    return {"deployed_dtype": dtype} if fit.quantization == "none" and dtype != "fp32" else {}


class MeasureSpec(Frozen):
    """One measurement of the artifact of a fit on one kind of machine."""

    fit: FitSpec
    form: Literal["native", "merged"]
    """Deployed form: `merged` for a LoRA model with the adapter merged into its weights, `native` for all others."""
    protocol: MeasureProtocol
    perf_key: str
    num_threads: int
    device: Literal["cpu", "cuda", "mps"]
    dtype: NumberFormat = "fp32"
    """Number format of weights that are not quantised, see `deployed_dtype`."""
    protocol_version: int = MEASURE_PROTOCOL_VERSION

    @property
    def evaluation_id(self) -> str:
        """Id of the evaluation with which timed labels are compared."""
        return EvaluateSpec(fit=self.fit, batch_size=1, dtype=self.dtype).evaluation_id

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
        return content_id("measurement", value | _deployed(self.fit, self.dtype))


class TrialSpec(Frozen):
    """One trial: a fit, its evaluation and its measurement."""

    fit: FitSpec
    evaluate: EvaluateSpec
    measure: MeasureSpec

    @property
    def label(self) -> str:
        """Short human-readable name of the trial."""
        return f"{self.fit.model.name} · {self.fit.dataset.name} · seed {self.fit.seeds.init}"
