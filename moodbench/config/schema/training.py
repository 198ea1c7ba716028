"""training.yaml: how every fit is made unless an entry or a request changes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moodbench.config.changes import ChangesOf
from moodbench.config.schema.base import BatchSize, Count, Entry, Positive, Regularisation, Share, ShareBelowOne

ModelKind = Literal["encoder", "decoder", "encoder-decoder"]
"""An encoder reads both ways; a decoder answers at the last token, and so must be padded on the right."""
Head = Literal["classification", "label-words"]
"""Where class scores come from: a new linear layer, or the language model's own head at a few words after a template."""

Quantization = Literal["none", "int8", "nf4"]
"""How frozen weights are stored: as they are, 8 bits (LLM.int8), or 4-bit NormalFloat with doubly quantised scales."""
FineTuning = Literal["lora", "full"]
"""What fine-tuning changes: a LoRA adapter beside frozen weights, or all weights."""
Optimizer = Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "adafactor", "sgd"]
LoraInitialisation = Literal["default", "gaussian", "olora", "pissa", "pissa_niter_16", "orthogonal", "mica"]
"""Those of peft that need neither training texts nor a calibration pass; `default` is Kaiming-uniform A and B = 0."""
FROM_ANY_WEIGHTS: tuple[LoraInitialisation, ...] = ("default", "gaussian")
"""Initialisations that do not look at the frozen weights, and so bear quantised ones."""
PreparationStep = Literal["entities", "links", "mentions", "lowercase"]
MAX_LORA_ALPHA = 1e4


class LoraDefaults(Entry):
    """Low-rank adaptation, with the fields spelled as peft spells them."""

    r: Annotated[int, Field(ge=1, le=1024)]
    """Rank of the update matrices."""
    lora_alpha: Annotated[float, Field(gt=0, le=MAX_LORA_ALPHA, allow_inf_nan=False)]
    """Scale of the update: it is multiplied by lora_alpha / r."""
    lora_dropout: ShareBelowOne
    """Share of adapter inputs dropped in training."""
    target_modules: (
        Literal["attention", "all-linear"] | Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]
    )
    """`attention` (the family's projections), `all-linear` (and its feed-forward), or module names."""
    use_rslora: bool = False
    """rsLoRA (Kalajdzievski 2023): the update is multiplied by lora_alpha / sqrt(r) instead."""
    use_dora: bool = False
    """DoRA (Liu et al. 2024): the norm of each row of the adapted weight is learned apart from its direction."""
    init_lora_weights: LoraInitialisation = "default"
    """What A and B hold at the start; olora and pissa take their first value out of the frozen weight."""
    loraplus_lr_ratio: Annotated[float, Field(ge=1, le=1000, allow_inf_nan=False)] = 1.0
    """LoRA+ (Hayou et al. 2024): B learns so many times as fast as A; 1 is plain LoRA."""

    @model_validator(mode="after")
    def _possible_together(self) -> LoraDefaults:
        if self.init_lora_weights == "orthogonal" and self.r % 2:
            raise ValueError(f"init_lora_weights orthogonal with r {self.r}: needs an even rank")
        if self.init_lora_weights == "mica" and (self.use_dora or self.loraplus_lr_ratio != 1):
            other = "use_dora" if self.use_dora else "loraplus_lr_ratio"
            raise ValueError(f"init_lora_weights mica with {other}: mica learns A alone; leave one of the two out")
        return self


def unlike_quantised(lora: LoraDefaults, quantization: Quantization) -> str | None:
    """Why `lora` cannot sit on weights so stored, with what can; None where it can."""
    if quantization != "none" and lora.init_lora_weights not in FROM_ANY_WEIGHTS:
        return (
            f"init_lora_weights {lora.init_lora_weights!r} is worked out from weights as they are, not from {quantization}; "
            f"allowed there are {', '.join(FROM_ANY_WEIGHTS)}"
        )
    if quantization == "int8" and lora.use_dora:
        return "use_dora needs the norms of the weights, which bitsandbytes loses with int8; nf4 and none keep them"
    return None


class TrainDefaults(Entry):
    """Gradient fine-tuning."""

    epochs: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
    """Passes over the training split; the last may be partial."""
    min_steps: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Optimiser steps at least: there are more epochs until it is reached, and with few training texts smaller batches."""
    max_steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Optimiser steps at most; null: those of the epochs."""
    learning_rate: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
    """Decoupled weight decay."""
    warmup_share: ShareBelowOne
    """Share of steps in which the learning rate rises from 0."""
    lr_scheduler: Literal["linear", "cosine", "constant_with_warmup"]
    """Shape of the learning rate after warm-up."""
    effective_batch_size: BatchSize
    """Examples per optimiser step; with `min_steps` and few training texts fewer, down to 8."""
    max_device_batch_size: BatchSize
    """Examples that one forward pass may hold; smaller than the effective batch means accumulation."""
    max_grad_norm: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
    """Gradients are clipped to this norm."""
    base_dropout: ShareBelowOne | None
    """Dropout inside the base model while training; null keeps the checkpoint's own."""
    group_by_length: bool
    """Batches of texts of similar length in random order, so that less is padded."""
    validation_share: Share = 1.0
    """Share of a fit's time for validation at most: fewer runs, or on a part of the split; 1 is no limit."""
    evaluations_per_epoch: Annotated[int, Field(ge=1, le=1000)]
    """Validation runs per epoch."""
    max_evaluation_steps: Annotated[int, Field(ge=1, le=1_000_000)]
    """A validation run at least every so many steps."""
    patience: Annotated[int, Field(ge=1, le=1_000_000)]
    """Stop after so many validation runs without a better score."""
    select_by: Literal["f1_macro", "accuracy", "nll"]
    """The validation score that chooses the kept checkpoint."""
    precision: Literal["auto", "fp32", "fp16", "bf16"]
    """Number format in training; auto is fp32, on a CPU with bf16 instructions bf16 from 100 million parameters on, and on CUDA fp16, or bf16 for families that overflow in fp16 and, where the
    device has it in hardware, for weights published in it."""
    optimizer: Optimizer = "adamw"
    """adamw_8bit keeps its state in 8 bits; the paged ones move it to host memory when a CUDA card is full."""

    @model_validator(mode="after")
    def _steps_in_order(self) -> TrainDefaults:
        if self.max_steps is not None and self.max_steps < self.min_steps:
            raise ValueError(
                f"max_steps {self.max_steps} is below min_steps {self.min_steps}; raise max_steps, or lower min_steps to it"
            )
        return self


class ProbeDefaults(Entry):
    """A linear classifier on frozen embeddings."""

    pooling: Literal["mean", "cls"]
    """How token states become one vector."""
    inverse_regularisation: tuple[Regularisation, ...] = Field(min_length=1, max_length=100)
    """Values of C tried; validation chooses."""


class TfidfDefaults(Entry):
    """Logistic regression on TF-IDF of word n-grams."""

    max_ngram: Annotated[int, Field(ge=1, le=10)]
    """Longest word n-gram."""
    min_document_count: Count
    """An n-gram must occur in so many training texts."""
    inverse_regularisation: tuple[Regularisation, ...] = Field(min_length=1, max_length=100)
    """Values of C tried; validation chooses."""


class TextDefaults(Entry):
    """How a text becomes tokens."""

    max_length: Annotated[int, Field(ge=8, le=131_072)]
    """Longest input in tokens; what is longer is cut, and counted as truncated."""
    truncation_side: Literal["right", "left"]
    """Which end is cut."""


class Augmentation(Entry):
    """Changed copies of training texts; validation and test texts are never changed."""

    word_dropout: ShareBelowOne = 0.0
    """Share of words left out."""
    word_swap: Share = 0.0
    """Share of words that change places with the next."""
    punctuation: Share = 0.0
    """Share of words that get a punctuation mark before them."""
    copies: Annotated[int, Field(ge=1, le=16)] = 1
    """Changed copies beside each text."""

    @model_validator(mode="after")
    def _changes_something(self) -> Augmentation:
        if not (self.word_dropout or self.word_swap or self.punctuation):
            raise ValueError("give at least one of word_dropout, word_swap, punctuation a share above 0")
        return self


class Recipe(Entry):
    """Changes of the defaults that suit models of one kind and size, or that are asked for by name."""

    description: str
    """What it is for, and where it comes from."""
    kind: ModelKind | None = None
    """The recipe is the default of models of this kind, up to `max_params`; null: only by name."""
    head: Head | None = None
    """Only of models with this head."""
    method: FineTuning = "lora"
    """Only of models fine-tuned so."""
    max_params: Positive | None = None
    """Only of models with at most so many parameters."""
    lora: Annotated[dict[str, object], ChangesOf(LoraDefaults)] = {}
    train: Annotated[dict[str, object], ChangesOf(TrainDefaults)] = {}

    def suits(self, kind: ModelKind, head: Head, num_params: int, method: str = "lora") -> bool:
        """Return whether this is a default of models of this kind, head, size (0 where it is unknown) and method."""
        return (
            self.kind == kind
            and self.method == method
            and self.head in (None, head)
            and (self.max_params is None or 0 < num_params <= self.max_params)
        )


class TrainingFile(Entry):
    """training.yaml: defaults of every fit, which recipes, model and preset entries may change."""

    lora: LoraDefaults
    train: TrainDefaults
    probe: ProbeDefaults
    tfidf: TfidfDefaults
    text: TextDefaults
    recipes: dict[str, Recipe] = {}
    """By name; of those that suit a model the first is its default."""
