"""A fine-tuned model as a plain transformers folder: merged weights, tokenizer, configuration."""

from __future__ import annotations

from pathlib import Path

from moodbench.models.adapter import merged_model
from moodbench.models.encoder import TOKENIZER
from moodbench.models.tokenizer import load_tokenizer
from moodbench.spec import FitSpec


def save_merged(spec: FitSpec, artifact: Path, folder: Path) -> None:
    """Nothing; writes the LoRA model of `artifact` to `folder`, its adapter folded in, for transformers alone.

    The tokenizer's longest length is the one that the model was trained with, so that `truncation=True` cuts alike.
    """
    from transformers import AutoTokenizer

    assert spec.text is not None
    tokenizer = load_tokenizer(spec, artifact / TOKENIZER)
    model = merged_model(spec, artifact, tokenizer.pad_id)
    model.config.problem_type = "single_label_classification"
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)  # written for its owner only
    saved = AutoTokenizer.from_pretrained(artifact / TOKENIZER, trust_remote_code=spec.model.trust_remote_code)
    saved.model_max_length = min(spec.text.max_length, saved.model_max_length)
    saved.truncation_side = spec.text.truncation_side
    saved.padding_side = "right"
    saved.save_pretrained(folder)
