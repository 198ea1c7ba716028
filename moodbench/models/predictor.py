"""Predictors: load any fitted model from its artifact, and predict texts with it, in two steps timed separately."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from moodbench.config.schema import FORMAT_NAMES, InferenceDtype, NumberFormat, PreparationStep
from moodbench.errors import SpecError
from moodbench.hardware import Device
from moodbench.models.tokenizer import Encoded, Logits
from moodbench.preparation import prepare_text
from moodbench.spec import FitSpec

Form = Literal["native", "merged", "as_trained"]


class Predictor(Protocol):
    """A fitted model, loaded and ready for inference."""

    weights_bytes: int
    """Bytes of the model's parameters in memory."""

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the texts as the model's inputs."""

    def logits(self, encoded: Encoded) -> Logits:
        """Return float32 logits (texts, labels) on the host, from one forward pass over all of `encoded`."""


def predict_texts(predictor: Predictor, texts: Sequence[str], batch_size: int) -> tuple[Logits, Encoded]:
    """Return logits (texts, labels) in the order of `texts`, and the encoded texts."""
    encoded = predictor.encode(texts)
    return in_batches(predictor.logits, encoded, batch_size), encoded


def in_batches(
    compute: Callable[[Encoded], Logits],
    encoded: Encoded,
    batch_size: int,
    report: Callable[[Mapping[str, int]], None] = lambda _: None,
) -> Logits:
    """Return the rows that `compute` gives for `encoded`, in its order; batches hold similar lengths to limit padding.

    `report` is called after each batch with its number `step`, from 1, and their number `num_steps`.
    """
    order = np.argsort(encoded.num_tokens, kind="stable")
    parts = []
    starts = range(0, len(order), batch_size)
    for step, start in enumerate(starts, 1):
        parts.append(compute(encoded.take(order[start : start + batch_size])))
        report({"step": step, "num_steps": len(starts)})
    in_order = np.concatenate(parts)
    rows = np.empty_like(in_order)
    rows[order] = in_order
    return rows


class PreparedPredictor:
    """A predictor that preprocesses its texts with the steps that its training texts went through."""

    def __init__(self, predictor: Predictor, steps: Sequence[PreparationStep]) -> None:
        self._predictor, self._steps = predictor, tuple(steps)
        self.weights_bytes = predictor.weights_bytes

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the preprocessed texts as the model's inputs."""
        return self._predictor.encode([prepare_text(text, self._steps) for text in texts])

    def logits(self, encoded: Encoded) -> Logits:
        """Return logits float32 (texts, labels)."""
        return self._predictor.logits(encoded)


def deployed_form(spec: FitSpec) -> Literal["native", "merged"]:
    """Return the form in which a model is measured: "merged" for LoRA on plain weights, otherwise "native".

    Adapters on quantised weights are not merged: the sum would have to be quantised again, or lose the memory savings.
    """
    return "merged" if spec.model.method == "lora" and spec.quantization == "none" else "native"


def deployed_dtype(spec: FitSpec, device: Device, wanted: InferenceDtype = "auto") -> NumberFormat:
    """Return the number format in which weights that are not quantised are evaluated, measured and served on `device`.

    It is the one `wanted`. For "auto" it is that in which they were trained, on the CPU fp32: otherwise a model that
    was trained from 16-bit weights because fp32 did not fit could not be evaluated or served.

    Raises: SpecError if a format other than "auto" is wanted for quantised weights.
    """
    if spec.model.method == "baseline" or (wanted == "auto" and device == "cpu"):
        return "fp32"
    if wanted == "auto":
        return spec.dtype
    if spec.quantization != "none":
        raise SpecError(
            f"model {spec.model.name}: inference_dtype {wanted!r} with quantization {spec.quantization!r}: quantised "
            "weights are used as they are stored; leave one of the two out"
        )
    return next(short for short, name in FORMAT_NAMES.items() if name == wanted)


def load_predictor(
    spec: FitSpec, artifact: Path, form: Form, device: Device, *, dtype: NumberFormat | None = None, num_gpus: int = 1
) -> Predictor:
    """Return the fitted model in `artifact` on `device`, including the text preprocessing of `spec`.

    Its weights are in `dtype`, by default as `deployed_dtype` says. The layers of a transformer are spread over
    `num_gpus` CUDA devices.
    """
    model: Predictor
    if spec.model.method != "baseline":
        from moodbench.models.transformer import load_transformer

        model = load_transformer(spec, artifact, form, device, dtype or deployed_dtype(spec, device), num_gpus)
    else:
        from moodbench.models.baselines import Majority, TfidfLogreg, Vader

        kinds: dict[str | None, type[Majority] | type[Vader] | type[TfidfLogreg]] = {
            "majority": Majority,
            "vader": Vader,
            "tfidf-logreg": TfidfLogreg,
        }
        model = kinds[spec.model.baseline].load(artifact)
    return PreparedPredictor(model, spec.preparation) if spec.preparation else model


def import_libraries(spec: FitSpec, num_threads: int) -> None:
    """Import the libraries that the deployed form needs, so that a cold start can be split into import and load time.

    peft and bitsandbytes take memory and seconds: only quantised weights and adapters that stay apart need them.
    """
    modules: dict[str | None, tuple[str, ...]] = {
        None: ("torch", "transformers"),
        "majority": (),
        "vader": ("vaderSentiment.vaderSentiment",),
        "tfidf-logreg": ("safetensors.numpy", "sklearn.feature_extraction.text"),
    }
    if spec.model.baseline is None:
        from moodbench.models.device import prepare_torch

        prepare_torch(num_threads)
    needed = [*modules[spec.model.baseline]]
    needed += ["bitsandbytes"] if spec.quantization != "none" else []
    needed += ["peft"] if spec.model.method == "lora" and deployed_form(spec) == "native" else []
    for module in needed:
        import_module(module)
