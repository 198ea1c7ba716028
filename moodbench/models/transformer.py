"""Predictors on transformers: the classifier in its deployed forms, the linear probe, and export as a plain folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from moodbench.config.schema import FORMAT_NAMES, TEXT, NumberFormat
from moodbench.hardware import Device
from moodbench.models.adapter import ADAPTER, WEIGHTS, load_trained_weights, merged_model
from moodbench.models.base import is_quantised, load_classifier, load_encoder, set_pad_token
from moodbench.models.device import dispatch_to_gpus, is_dispatched, parameter_bytes
from moodbench.models.tokenizer import Encoded, Logits, Tokenizer, load_tokenizer
from moodbench.spec import FitSpec

if TYPE_CHECKING:
    import torch

TOKENIZER = "tokenizer"
PROBE_HEAD = "head.safetensors"
PROMPT_FILE = "label_words.json"
"""File of an exported language model with its template, its label words and their tokens."""


class TransformerClassifier:
    """A transformer with a classification head or label words, in one of its deployed forms."""

    def __init__(self, model: Any, tokenizer: Tokenizer, device: Device) -> None:
        # Quantised and spread weights are on their devices already.
        self._model = (model if is_quantised(model) or is_dispatched(model) else model.to(device)).eval()
        self.tokenizer = tokenizer
        self._device = device
        self.weights_bytes = parameter_bytes(model)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the texts as token ids."""
        return self.tokenizer.encode(texts)

    def logits(self, encoded: Encoded) -> Logits:
        """Return float32 logits (texts, labels) from one forward pass."""
        import torch

        with torch.inference_mode():
            batch = {k: v.to(self._device) for k, v in self.tokenizer.pad(encoded.inputs).items()}
            result: Logits = self._model(**batch).logits.float().cpu().numpy()
        return result


class LinearProbe:
    """A linear layer on the pooled hidden states of a frozen encoder."""

    def __init__(
        self,
        encoder: Any,
        tokenizer: Tokenizer,
        pooling: Literal["mean", "cls"],
        weight: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        device: Device,
    ) -> None:
        self.embedder = Embedder(encoder, tokenizer, pooling, device)
        self._weight, self._bias = weight, bias
        self.weights_bytes = parameter_bytes(encoder) + weight.nbytes + bias.nbytes

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the texts as token ids."""
        return self.embedder.tokenizer.encode(texts)

    def logits(self, encoded: Encoded) -> Logits:
        """Return float32 logits (texts, labels) from one forward pass."""
        return np.asarray(self.embedder.embed(encoded) @ self._weight.T + self._bias, dtype=np.float32)


class Embedder:
    """A frozen encoder whose hidden states are pooled to one unit vector per text."""

    def __init__(self, encoder: Any, tokenizer: Tokenizer, pooling: Literal["mean", "cls"], device: Device) -> None:
        self.encoder = encoder.to(device).eval()
        self.tokenizer, self.pooling, self._device = tokenizer, pooling, device

    def embed(self, encoded: Encoded) -> npt.NDArray[np.float32]:
        """Return unit vectors float32 (texts, width)."""
        import torch

        with torch.inference_mode():
            batch = {k: v.to(self._device) for k, v in self.tokenizer.pad(encoded.inputs).items()}
            states = self.encoder(**batch).last_hidden_state.float()
            pooled = states[:, 0] if self.pooling == "cls" else mean_pool(states, batch["attention_mask"])
            result: npt.NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return result


def mean_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean (texts, width) of `states` (texts, tokens, width) over the tokens whose mask is 1."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def load_transformer(
    spec: FitSpec,
    artifact: Path,
    form: Literal["native", "merged", "as_trained"],
    device: Device,
    dtype: NumberFormat,
    num_gpus: int = 1,
) -> TransformerClassifier | LinearProbe:
    """Return the fitted model: base weights from the model's source, trained weights from the folder `artifact`.

    Weights are in `dtype`, except quantised ones, heads, and all of a model as it was trained.
    """
    tokenizer = load_tokenizer(spec, artifact / TOKENIZER)
    if spec.model.method == "linear-probe":
        from safetensors.numpy import load_file

        assert spec.probe is not None
        head = load_file(artifact / PROBE_HEAD)
        encoder = load_encoder(spec, dtype=dtype)
        return LinearProbe(encoder, tokenizer, spec.probe.pooling, head["weight"], head["bias"], device)
    # The seed does not matter: every randomly initialised module is replaced by the saved one.
    if form == "merged":
        merged = merged_model(spec, artifact, tokenizer, dtype=dtype)
        return TransformerClassifier(dispatch_to_gpus(merged, num_gpus) if num_gpus > 1 else merged, tokenizer, device)
    if form == "native" and spec.quantization == "none":
        spec = spec.model_copy(update={"dtype": dtype})
    base = load_classifier(spec, init_seed=0, device=device, num_gpus=num_gpus, tokenizer=tokenizer).model
    set_pad_token(base, tokenizer.pad_id)
    if spec.model.method == "prompted":
        return TransformerClassifier(base, tokenizer, device)
    if spec.model.method == "full":
        return TransformerClassifier(load_trained_weights(base, artifact / WEIGHTS), tokenizer, device)
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(base, artifact / ADAPTER, torch_device=device)
    return TransformerClassifier(adapted, tokenizer, device)


def save_merged(spec: FitSpec, artifact: Path, folder: Path, dtype: NumberFormat = "fp32") -> None:
    """Write the fine-tuned model of `artifact` to `folder`, with the adapter merged, in plain transformers format.

    All weights are in `dtype`, the head too, because transformers loads a model in one format.

    The maximum length of the tokenizer is the one used in training, so that `truncation=True` has the same effect. For
    a language model with label words, PROMPT_FILE holds what is needed to read its answer.
    """
    import torch
    from transformers import AutoTokenizer

    assert spec.text is not None
    tokenizer = load_tokenizer(spec, artifact / TOKENIZER)
    model = merged_model(spec, artifact, tokenizer, dtype=dtype, keep_head=spec.prompt is not None)
    if spec.prompt is not None:
        assert tokenizer.label_tokens is not None and tokenizer.template is not None
        model = model.with_own_head()
        about = {
            **spec.prompt.model_dump(exclude={"num_examples", "chat"}),
            "template": tokenizer.template.fill(TEXT),
            "labels": spec.dataset.labels,
            "label_token_ids": tokenizer.label_tokens.words,
            "ids_after_template": tokenizer.label_tokens.shared,
        }
        (folder / PROMPT_FILE).write_text(json.dumps(about, ensure_ascii=False, indent=1), encoding="utf-8")
    else:
        model.config.problem_type = "single_label_classification"
    model.to(getattr(torch, FORMAT_NAMES[dtype])).save_pretrained(folder)
    # safetensors makes its file readable by the owner only.
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)
    saved = AutoTokenizer.from_pretrained(artifact / TOKENIZER, trust_remote_code=spec.model.trust_remote_code)
    saved.model_max_length = min(spec.text.max_length, saved.model_max_length)
    saved.truncation_side = spec.text.truncation_side
    saved.padding_side = "right"
    saved.save_pretrained(folder)
