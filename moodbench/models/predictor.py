"""Predictor interface of all fitted models: texts to logits, in two steps that can be timed separately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Encoded:
    """Texts as the inputs of a predictor, in their original order."""

    inputs: Sequence[Any]
    num_tokens: npt.NDArray[np.int32]
    """Tokens of each text after truncation, including special tokens; -1 for models without tokens."""
    truncated: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[np.int64]) -> Encoded:
        """Return only these rows, in this order."""
        return Encoded([self.inputs[i] for i in rows], self.num_tokens[rows], self.truncated[rows])

    def __len__(self) -> int:
        return len(self.inputs)


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
    return predict_encoded(predictor, encoded, batch_size), encoded


def predict_encoded(predictor: Predictor, encoded: Encoded, batch_size: int) -> Logits:
    """Return logits (texts, labels) in the order of `encoded`; batches hold similar lengths to limit padding."""
    order = np.argsort(encoded.num_tokens, kind="stable")
    parts = [
        predictor.logits(encoded.take(order[start : start + batch_size])) for start in range(0, len(order), batch_size)
    ]
    in_order = np.concatenate(parts)
    logits = np.empty_like(in_order)
    logits[order] = in_order
    return logits
