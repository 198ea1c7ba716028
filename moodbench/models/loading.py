"""A fitted contender from its artifact folder, whatever it is."""

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
    """The form in which a contender is measured: LoRA folded into plain weights, all else as it is.

    Quantised weights keep their adapter beside them: folded in they would be rounded again, or no longer be small.
    """
    return "merged" if spec.model.method == "lora" and spec.quantization == "none" else "native"


def load_predictor(spec: FitSpec, artifact: Path, form: Form, device: Device, *, num_gpus: int = 1) -> Predictor:
    """The contender that `spec` describes and `artifact` holds, ready on `device`; it prepares texts as `spec` says.

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
    """Nothing; imports what the contender needs, so that a cold start can be told apart into import and load."""
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
