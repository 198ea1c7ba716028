"""training.yaml and presets.yaml: default settings of every fit, recipes, and named benchmark runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moodbench.config.schema.base import (
    BatchSize,
    ChangesOf,
    Count,
    Entry,
    Name,
    Positive,
    Regularisation,
    Share,
    ShareBelowOne,
)

ModelKind = Literal["encoder", "decoder", "encoder-decoder"]
"""An encoder is bidirectional; a decoder is pooled at its last token, and so must be padded on the right."""
Head = Literal["classification", "label-words"]
"""Source of the class scores: a new linear layer, or the label words in the language-model head after a template."""

Quantization = Literal["none", "int8", "nf4"]
"""Storage of frozen weights: unquantised, 8 bits (LLM.int8), or 4-bit NormalFloat with double quantisation."""
FineTuning = Literal["lora", "full"]
"""Trained weights: a LoRA adapter on frozen weights, or all weights."""
Optimizer = Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "adafactor", "sgd"]
LoraInitialisation = Literal["default", "gaussian", "olora", "pissa", "pissa_niter_16", "orthogonal", "mica"]
"""Those of peft that need no training texts or calibration pass; `default` is Kaiming-uniform A and B = 0."""
FROM_ANY_WEIGHTS: tuple[LoraInitialisation, ...] = ("default", "gaussian")
"""Initialisations that do not depend on the frozen weights, and so also work with quantised weights."""
PreparationStep = Literal["entities", "breaks", "escapes", "links", "mentions", "lowercase"]
MAX_LORA_ALPHA = 1e4


class LoraDefaults(Entry):
    """Low-rank adaptation (LoRA); field names follow peft."""

    r: Annotated[int, Field(ge=1, le=1024)]
    """Rank of the update matrices."""
    lora_alpha: Annotated[float, Field(gt=0, le=MAX_LORA_ALPHA, allow_inf_nan=False)]
    """Scale of the update, which is multiplied by lora_alpha / r."""
    lora_dropout: ShareBelowOne
    """Dropout probability of the adapter inputs in training."""
    target_modules: (
        Literal["attention", "all-linear"] | Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]
    )
    """`attention` (the family's projections), `all-linear` (also its feed-forward layers), or module names."""
    use_rslora: bool = False
    """rsLoRA (Kalajdzievski 2023): multiply the update by lora_alpha / sqrt(r) instead."""
    use_dora: bool = False
    """DoRA (Liu et al. 2024): learn the norm and the direction of each row of the adapted weight separately."""
    init_lora_weights: LoraInitialisation = "default"
    """Initialisation of A and B; olora and pissa subtract the initial update from the frozen weight."""
    loraplus_lr_ratio: Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False)] = 1.0
    """LoRA+ (Hayou et al. 2024): learning rate of B / learning rate of A; 1 is plain LoRA."""

    @model_validator(mode="after")
    def _possible_together(self) -> LoraDefaults:
        if self.init_lora_weights == "orthogonal" and self.r % 2:
            raise ValueError(f"init_lora_weights orthogonal with r {self.r}: needs an even rank")
        if self.init_lora_weights == "mica" and (self.use_dora or self.loraplus_lr_ratio != 1):
            other = "use_dora" if self.use_dora else "loraplus_lr_ratio"
            raise ValueError(f"init_lora_weights mica with {other}: mica trains only A; remove one of the two")
        return self


def quantization_conflict(lora: LoraDefaults, quantization: Quantization) -> str | None:
    """Return why `lora` is incompatible with `quantization`, and what is allowed; None if they are compatible."""
    if quantization != "none" and lora.init_lora_weights not in FROM_ANY_WEIGHTS:
        return (
            f"init_lora_weights {lora.init_lora_weights!r} is computed from unquantised weights, not from "
            f"{quantization}; allowed there are {', '.join(FROM_ANY_WEIGHTS)}"
        )
    if quantization == "int8" and lora.use_dora:
        return "use_dora needs the norms of the weights, which int8 of bitsandbytes does not keep; use nf4 or none"
    return None


class TrainDefaults(Entry):
    """Gradient-based fine-tuning."""

    epochs: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
    """Number of passes over the training split; the last may be partial."""
    min_steps: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Minimum optimiser steps, reached by more epochs and, with few training texts, smaller batches."""
    max_steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Maximum optimiser steps; null for the steps of the epochs."""
    learning_rate: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
    """Decoupled weight decay."""
    warmup_share: ShareBelowOne
    """Share of the steps during which the learning rate rises from 0."""
    lr_scheduler: Literal["linear", "cosine", "constant_with_warmup"]
    """Learning rate schedule after warm-up."""
    effective_batch_size: BatchSize
    """Examples per optimiser step; reduced, down to 8, by `min_steps` if there are few training texts."""
    max_device_batch_size: BatchSize
    """Maximum examples per forward pass; if below the effective batch size, gradients are accumulated."""
    max_grad_norm: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
    """Gradients are clipped to this norm."""
    base_dropout: ShareBelowOne | None
    """Dropout inside the base model in training; null keeps the value of the checkpoint."""
    group_by_length: bool
    """Length bucketing: batches of texts of similar length, in random order; otherwise batches are random.

    A CPU computes random batches in parts by length, with little more padding.
    """
    validation_share: Share = 1.0
    """Maximum share of a fit's time spent on validation, kept by fewer runs or a part of the split; 1 is no limit."""
    evaluations_per_epoch: Annotated[int, Field(ge=1, le=1000)]
    """Validation runs per epoch."""
    max_evaluation_steps: Annotated[int, Field(ge=1, le=1_000_000)]
    """Maximum number of steps between validation runs."""
    patience: Annotated[int, Field(ge=1, le=1_000_000)]
    """Early stopping: number of validation runs without improvement after which training stops."""
    select_by: Literal["f1_macro", "accuracy", "nll"]
    """Validation score that selects the best checkpoint."""
    precision: Literal["auto", "fp32", "fp16", "bf16"]
    """Number format in training.

    `auto` is fp32, with two exceptions. On a CPU with bf16 instructions, it is bf16 from 100 million parameters on. On
    CUDA, it is fp16, or bf16 for families that overflow in fp16 and, if the device supports bf16 in hardware, for
    weights published in bf16.
    """
    optimizer: Optimizer = "adamw"
    """adamw_8bit keeps its state in 8 bits; the paged ones move it to host memory when CUDA memory is full."""

    @model_validator(mode="after")
    def _steps_in_order(self) -> TrainDefaults:
        if self.max_steps is not None and self.max_steps < self.min_steps:
            raise ValueError(
                f"max_steps {self.max_steps} is below min_steps {self.min_steps}; raise max_steps, or lower min_steps "
                "to it"
            )
        return self


class ProbeDefaults(Entry):
    """A linear classifier on frozen embeddings."""

    pooling: Literal["mean", "cls"]
    """Pooling of the token states into one vector."""
    inverse_regularisation: tuple[Regularisation, ...] = Field(min_length=1, max_length=100)
    """Candidate values of C; the best on validation is used. If it is the first or last, they are continued there."""


class TfidfDefaults(Entry):
    """Logistic regression on TF-IDF of n-grams of words and of characters."""

    max_ngram: Annotated[int, Field(ge=1, le=10)]
    """Maximum length of a word n-gram."""
    max_character_ngram: Annotated[int, Field(ge=2, le=10)] | None = None
    """Maximum length of an n-gram of the characters of a word, of at least 2; null for words alone."""
    min_document_count: Count
    """Minimum number of training texts that contain an n-gram."""
    inverse_regularisation: tuple[Regularisation, ...] = Field(min_length=1, max_length=100)
    """Candidate values of C; the best on validation is used. If it is the first or last, they are continued there."""


class TextDefaults(Entry):
    """Tokenisation of texts."""

    max_length: Annotated[int, Field(ge=8, le=131_072)]
    """Maximum input length in tokens; longer texts are truncated, and counted as such."""
    truncation_side: Literal["right", "left"]
    """Side on which long texts are truncated."""


class Augmentation(Entry):
    """Data augmentation by changed copies of training texts; validation and test texts are never changed."""

    word_dropout: ShareBelowOne = 0.0
    """Share of words dropped."""
    word_swap: Share = 0.0
    """Share of words swapped with the next word."""
    punctuation: Share = 0.0
    """Share of words before which a punctuation mark is inserted."""
    copies: Annotated[int, Field(ge=1, le=16)] = 1
    """Changed copies per text, in addition to the original."""

    @model_validator(mode="after")
    def _changes_something(self) -> Augmentation:
        if not (self.word_dropout or self.word_swap or self.punctuation):
            raise ValueError("give at least one of word_dropout, word_swap, punctuation a share above 0")
        return self


class Recipe(Entry):
    """Changes of the training defaults for models of one kind and size, or for use by name."""

    description: str
    """Purpose and origin of the recipe."""
    kind: ModelKind | None = None
    """Model kind for which the recipe is the default, under the conditions below; null for use by name only."""
    head: Head | None = None
    """Head that the model must have; null for any."""
    method: FineTuning = "lora"
    """Fine-tuning method that the model must use."""
    max_params: Positive | None = None
    """Maximum number of parameters of the model; null for any."""
    lora: Annotated[dict[str, object], ChangesOf(LoraDefaults)] = {}
    train: Annotated[dict[str, object], ChangesOf(TrainDefaults)] = {}

    def applies_to(self, kind: ModelKind, head: Head, num_params: int, method: str = "lora") -> bool:
        """Return whether the recipe is a default of models of this kind, head, size and method.

        `num_params` is 0 if the size is unknown; a recipe with `max_params` then does not apply.
        """
        return (
            self.kind == kind
            and self.method == method
            and self.head in (None, head)
            and (self.max_params is None or 0 < num_params <= self.max_params)
        )


class TrainingFile(Entry):
    """Schema of training.yaml: defaults of every fit, which recipes, models and presets may change."""

    lora: LoraDefaults
    train: TrainDefaults
    probe: ProbeDefaults
    tfidf: TfidfDefaults
    text: TextDefaults
    recipes: dict[Name, Recipe] = {}
    """Name -> recipe; the default of a model is the first one that suits it."""


class Preset(Entry):
    """A named benchmark run that is started by its name alone."""

    description: str
    models: tuple[str, ...] = Field(min_length=1)
    datasets: tuple[str, ...] = Field(min_length=1)
    seeds: Count = 1
    """Number of seeds; the seeds are 0 to seeds - 1."""
    max_train_examples: Count | None = None
    max_validation_examples: Count | None = None
    protocol: str | None = None
    lora: Annotated[dict[str, object], ChangesOf(LoraDefaults)] = {}
    train: Annotated[dict[str, object], ChangesOf(TrainDefaults)] = {}


class PresetsFile(Entry):
    """Schema of presets.yaml."""

    presets: dict[Name, Preset]
