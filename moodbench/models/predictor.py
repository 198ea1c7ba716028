"""What every fitted contender can do: turn texts into logits, in two steps that can be timed apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Encoded:
    """Texts in the form that a predictor reads, in order."""

    inputs: Sequence[Any]
    num_tokens: npt.NDArray[np.int32]
    """Tokens of each text as the model sees them, special ones included; -1 where the contender has no tokens."""
    truncated: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[np.int64]) -> Encoded:
        """These rows only, in this order."""
        return Encoded([self.inputs[i] for i in rows], self.num_tokens[rows], self.truncated[rows])

    def __len__(self) -> int:
        return len(self.inputs)


class Predictor(Protocol):
    """A fitted contender, loaded and ready."""

    weights_bytes: int
    """Bytes of its parameters in memory."""

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The texts as the model's inputs."""

    def logits(self, encoded: Encoded) -> Logits:
        """float32 (texts, labels): one forward pass over all of `encoded`, the result on the host."""


def predict_texts(predictor: Predictor, texts: Sequence[str], batch_size: int) -> tuple[Logits, Encoded]:
    """Logits (texts, labels) in the order of `texts`, computed in batches of similar length; and the encoding."""
    encoded = predictor.encode(texts)
    return predict_encoded(predictor, encoded, batch_size), encoded


def predict_encoded(predictor: Predictor, encoded: Encoded, batch_size: int) -> Logits:
    """Logits in the order of `encoded`, computed in batches of similar length so that little is padded."""
    order = np.argsort(encoded.num_tokens, kind="stable")
    parts = [
        predictor.logits(encoded.take(order[start : start + batch_size])) for start in range(0, len(order), batch_size)
    ]
    in_order = np.concatenate(parts)
    logits = np.empty_like(in_order)
    logits[order] = in_order
    return logits
