"""Seconds that phases take: a roofline, which stored history corrects elsewhere."""

from __future__ import annotations

import math

from moodbench.config.schema import DeviceClass, MeasureProtocol, TrainDefaults
from moodbench.estimate.memory import Load, activation_bytes, weights_bytes
from moodbench.estimate.shape import Shape
from moodbench.estimate.workload import Workload
from moodbench.spec.fit_schedule import schedule_of

START_S = {"cpu": 8.0, "cuda": 15.0, "mps": 12.0}
"""Starting a process with torch, transformers and peft, and the device."""
LOAD_BYTES_PER_S = 0.5e9
"""Weights from disk to where they are used."""
PADDING = {True: 1.1, False: 1.9}
"""Tokens multiplied per token of a training text, with and without batches of similar length: 1.08 and 1.9 on the reviews and
tweets of the catalogue in batches of 32, see moodbench.training.batches."""
SORTED_PADDING = 1.05
"""Likewise of validation and test texts, which are in order of length."""
QUANTIZED_SLOWDOWN = {"none": 1.0, "int8": 1.6, "nf4": 1.5}
"""4-bit and 8-bit weights are converted before each use."""
BASELINE_S_PER_TOKEN = {"majority": 1e-9, "vader": 1.2e-5, "tfidf-logreg": 6e-6}
BASELINE_START_S = 3.0
BASELINE_FIXED_S = 0.02
"""Reading texts and writing the artifact."""


def forward_s(shape: Shape, device: DeviceClass, load: Load, num_texts: float, mean_tokens: float) -> float:
    """Seconds of forward passes over so many texts: the larger of arithmetic and memory traffic, and kernel starts.

    Each pass reads all weights once, and writes and reads its activations. Source of the bound: Williams et al. 2009.
    """
    passes = math.ceil(num_texts / load.batch_size)
    arithmetic = num_texts * shape.forward_flops(mean_tokens) / _flops_per_s(device, load)
    one_pass = 2 * activation_bytes(shape, load) * mean_tokens / max(load.num_tokens, 1) + weights_bytes(shape, load)
    traffic = passes * one_pass / (device.bandwidth_gb_s * 1e9)
    starts = passes * shape.num_layers * device.overhead_ms_per_layer / 1e3
    return QUANTIZED_SLOWDOWN[load.quantization] * max(arithmetic, traffic) + starts


def fine_tune_s(shape: Shape, device: DeviceClass, load: Load, train: TrainDefaults, work: Workload) -> float:
    """Return the seconds of fine-tuning, with its validation runs; no early stop is assumed.

    A backward pass through frozen weights costs one forward pass (their own gradients are not computed), through weights
    that are trained two, and one more with checkpointing.
    """
    schedule = schedule_of(train, work.num_train, work.num_validation)
    tokens = PADDING[train.group_by_length] * work.mean_tokens
    passes = 2 + load.checkpointing + load.full
    training = passes * forward_s(shape, device, load, schedule.num_texts, tokens)
    validating = forward_s(shape, device, load, schedule.num_validation_texts, SORTED_PADDING * work.mean_tokens)
    return load_s(shape, load) + training + validating


def predict_s(shape: Shape, device: DeviceClass, load: Load, num_texts: int, work: Workload) -> float:
    """Seconds of predicting so many texts in sorted batches."""
    return load_s(shape, load) + forward_s(shape, device, load, num_texts, SORTED_PADDING * work.mean_tokens)


def measure_s(protocol: MeasureProtocol, latency_s: float, start_s: float) -> float:
    """Seconds of one undisturbed measurement: fresh processes, each with warm-up, single requests and batches."""
    batches = len(protocol.batch_sizes) * protocol.batch_repeats * protocol.batch_seconds
    return protocol.processes * (start_s + protocol.warmup_s + protocol.requests * latency_s + batches)


def load_s(shape: Shape, load: Load) -> float:
    """Seconds until the weights are where they are used."""
    return weights_bytes(shape, load) / LOAD_BYTES_PER_S


def baseline_s(name: str, num_texts: int, mean_tokens: float) -> float:
    """Seconds of fitting or asking a classical baseline over so many texts, without the start of the process."""
    return BASELINE_S_PER_TOKEN[name] * num_texts * mean_tokens


def _flops_per_s(device: DeviceClass, load: Load) -> float:
    peak = device.tflops.get(load.precision) or device.tflops["fp32"]
    return peak * 1e12 * device.efficiency
