"""Seconds that phases take, by a roofline model; `history` corrects them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from moodbench.config.schema import DeviceClass, MeasureProtocol, TrainDefaults
from moodbench.estimate.memory import Load, activation_bytes, weights_bytes
from moodbench.estimate.shape import Shape
from moodbench.spec.fit_schedule import schedule_of

START_S = {"cpu": 8.0, "cuda": 15.0, "mps": 12.0}
"""Seconds to start a process with torch, transformers and peft, and to initialise the device."""
LOAD_BYTES_PER_S = 0.5e9
"""Rate at which weights are loaded from disk to the device."""
PADDING = {True: 1.1, False: 1.9}
"""Computed tokens, padding included, per token of a training text, with and without batches of similar length.

1.08 and 1.9 on the reviews and tweets of the catalogue in batches of 32, see moodbench.training.fine_tuning.
"""
PADDING_IN_PARTS = 1.3
"""The same for random batches on a CPU, which computes them in parts by length."""
SORTED_PADDING = 1.05
"""The same for validation and test texts, which are sorted by length."""
QUANTIZED_SLOWDOWN = {"none": 1.0, "int8": 1.6, "nf4": 1.5}
"""Factor on the time of forward passes: 4-bit and 8-bit weights are converted before each use."""
BASELINE_S_PER_TOKEN = {"majority": 1e-9, "vader": 1.2e-5, "tfidf-logreg": 1.3e-5}
TFIDF_S_PER_TOKEN_AND_C = 2e-6
"""Seconds to fit logistic regression on TF-IDF, for each token of the training texts and each C."""
NUM_C_BEYOND_GRID = 2
"""Values of C that are tried beyond the grid, where the best is at its end."""
BASELINE_START_S = 3.0
BASELINE_FIXED_S = 0.02
"""Seconds to read texts and write the artifact."""
CANARY_S = 0.06
"""Seconds of the fixed piece of work before each window of a measurement: 0.03 to 0.15 s by processor."""
TOKENS_PER_WORD = 1.3
"""Subwords per English word, rounded up.

WordPiece and byte-level BPE vocabularies of 30,000 to 250,000 entries give 1.15 to 1.35.
"""
SPECIAL_TOKENS = 2


@dataclass(frozen=True)
class Workload:
    """Sizes of a dataset as tokenized by one model."""

    num_train: int
    num_validation: int
    num_test: int
    mean_tokens: float
    """Mean tokens per text after truncation to the maximum input length."""
    max_tokens: int
    """Tokens of the longest input that occurs."""
    num_labels: int = 2


def tokens_of_words(num_words: float, max_length: int) -> float:
    """Return the number of tokens of a text of `num_words`, truncated to `max_length`."""
    return min(float(max_length), TOKENS_PER_WORD * num_words + SPECIAL_TOKENS)


@dataclass(frozen=True)
class DataSize:
    """Sizes of a dataset in words, before tokenization."""

    num_train: int
    num_validation: int
    num_test: int
    mean_words: float
    """Mean words per text, over the test split or as stated by the publisher."""
    max_words: float | None = None
    """Words of the longest text; None: longer than any model reads."""
    num_labels: int = 2

    def as_read(self, max_length: int, num_template_words: float = 0.0, num_examples: int = 0) -> Workload:
        """Return the workload of the texts inside a prompt, truncated to `max_length` tokens.

        Each prompt has `num_examples` labelled examples and the text, each in a template of `num_template_words`.
        """
        added = num_template_words + num_examples * (self.mean_words + num_template_words)
        longest = max_length if self.max_words is None else round(tokens_of_words(self.max_words + added, max_length))
        mean = tokens_of_words(self.mean_words + added, max_length)
        return Workload(self.num_train, self.num_validation, self.num_test, mean, longest, self.num_labels)


def forward_s(shape: Shape, device: DeviceClass, load: Load, num_texts: float, mean_tokens: float) -> float:
    """Return the seconds of forward passes over `num_texts`.

    They are the larger of arithmetic and memory traffic (the roofline), plus kernel launches. Each pass reads all
    weights once, and writes and reads its activations.
    Source: Williams et al. 2009, for the roofline.
    """
    passes = math.ceil(num_texts / load.batch_size)
    peak = device.tflops.get(load.precision) or device.tflops["fp32"]
    arithmetic = num_texts * shape.forward_flops(mean_tokens) / (peak * 1e12 * device.efficiency)
    one_pass = 2 * activation_bytes(shape, load) * mean_tokens / max(load.num_tokens, 1) + weights_bytes(shape, load)
    traffic = passes * one_pass / (device.bandwidth_gb_s * 1e9)
    starts = passes * shape.num_layers * device.overhead_ms_per_layer / 1e3
    return QUANTIZED_SLOWDOWN[load.quantization] * max(arithmetic, traffic) + starts


def fine_tune_s(shape: Shape, device: DeviceClass, load: Load, train: TrainDefaults, work: Workload) -> float:
    """Return the seconds of fine-tuning with its validation runs, without early stopping.

    A backward pass costs one forward pass through frozen weights, whose own gradients are not computed, or two through
    trained weights. Gradient checkpointing adds one forward pass.
    """
    schedule = schedule_of(train, work.num_train, work.num_validation)
    in_parts = device.device == "cpu" and not train.group_by_length
    tokens = (PADDING_IN_PARTS if in_parts else PADDING[train.group_by_length]) * work.mean_tokens
    passes = 2 + load.checkpointing + load.full
    training = passes * forward_s(shape, device, load, schedule.num_texts, tokens)
    validating = forward_s(shape, device, load, schedule.num_validation_texts, SORTED_PADDING * work.mean_tokens)
    return load_s(shape, load) + training + validating


def predict_s(shape: Shape, device: DeviceClass, load: Load, num_texts: int, work: Workload) -> float:
    """Return the seconds to predict `num_texts` in batches sorted by length."""
    return load_s(shape, load) + forward_s(shape, device, load, num_texts, SORTED_PADDING * work.mean_tokens)


def measure_s(protocol: MeasureProtocol, latency_s: float, start_s: float) -> float:
    """Return the seconds of one undisturbed measurement.

    Each of its fresh processes has a warm-up, single requests and batches.
    """
    batches = len(protocol.batch_sizes) * protocol.batch_repeats * protocol.batch_seconds
    windows = -(-protocol.requests // protocol.window_requests) + len(protocol.batch_sizes) * protocol.batch_repeats
    alone = protocol.requests * latency_s + windows * CANARY_S
    return protocol.processes * (start_s + protocol.warmup_s + alone + batches)


def load_s(shape: Shape, load: Load) -> float:
    """Return the seconds to load the weights from disk to the device."""
    return weights_bytes(shape, load) / LOAD_BYTES_PER_S


def baseline_s(name: str, num_texts: int, mean_tokens: float) -> float:
    """Return the seconds to fit a classical baseline on `num_texts`, or to predict them, without process start."""
    return BASELINE_S_PER_TOKEN[name] * num_texts * mean_tokens
