"""Interface of a fitted model: texts to logits in two steps that can be timed separately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
Form = Literal["native", "merged", "as_trained"]


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
