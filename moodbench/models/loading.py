"""Loading of any fitted model from its artifact folder."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Literal

from moodbench.hardware import Device
from moodbench.models.predictor import Predictor
from moodbench.models.preparation import Preparing
from moodbench.spec import FitSpec

Form = Literal["native", "merged", "as_trained"]


def deployed_form(spec: FitSpec) -> Literal["native", "merged"]:
    """Return the form in which a model is measured: "merged" for LoRA on plain weights, otherwise "native".

    Adapters on quantised weights are not merged: the sum would have to be quantised again, or lose the memory savings.
    """
    return "merged" if spec.model.method == "lora" and spec.quantization == "none" else "native"


def load_predictor(spec: FitSpec, artifact: Path, form: Form, device: Device, *, num_gpus: int = 1) -> Predictor:
    """Return the fitted model in `artifact` on `device`, including the text preprocessing of `spec`.

    The layers of a transformer are spread over `num_gpus` CUDA devices.
    """
    model = _load_model(spec, artifact, form, device, num_gpus)
    return Preparing(model, spec.preparation) if spec.preparation else model


def _load_model(spec: FitSpec, artifact: Path, form: Form, device: Device, num_gpus: int) -> Predictor:
    if spec.model.method != "baseline":
        from moodbench.models.encoder import load_transformer

        return load_transformer(spec, artifact, form, device, num_gpus)
    from moodbench.models.baselines import Majority, TfidfLogreg, Vader

    kinds: dict[str, type[Majority] | type[Vader] | type[TfidfLogreg]] = {
        "majority": Majority,
        "vader": Vader,
        "tfidf-logreg": TfidfLogreg,
    }
    assert spec.model.baseline is not None
    return kinds[spec.model.baseline].load(artifact)


def import_libraries(spec: FitSpec, num_threads: int) -> None:
    """Import the libraries that the model needs, so that a cold start can be split into import and load time."""
    modules: dict[str | None, tuple[str, ...]] = {
        None: ("torch", "transformers"),
        "majority": (),
        "vader": ("vaderSentiment.vaderSentiment",),
        "tfidf-logreg": ("safetensors.numpy", "sklearn.feature_extraction.text"),
    }
    if spec.model.baseline is None:
        from moodbench.models.device import prepare_torch

        prepare_torch(num_threads)
    for module in modules[spec.model.baseline]:
        import_module(module)
