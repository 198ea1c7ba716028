"""Text preprocessing of a recipe: HTML entities, links, mentions and lowercasing."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

from moodbench.config.schema import PreparationStep
from moodbench.models.predictor import Encoded, Logits, Predictor

LINK, MENTION = "http", "@user"
"""Placeholders for links and mentions, as in TweetEval.

Source: Barbieri et al. 2020, https://doi.org/10.18653/v1/2020.findings-emnlp.148.
"""
_LINK = re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)
_MENTION = re.compile(r"(?<![\w@.])@\w+")
STEPS: dict[PreparationStep, Callable[[str], str]] = {
    "entities": html.unescape,
    "links": lambda text: _LINK.sub(LINK, text),
    "mentions": lambda text: _MENTION.sub(MENTION, text),
    "lowercase": str.lower,
}
"""Preprocessing steps in the order in which they are applied, whatever order a recipe lists them in."""


def prepare_text(text: str, steps: Sequence[PreparationStep]) -> str:
    """Return `text` after `steps`; idempotent, except for entities that were escaped twice."""
    for name, step in STEPS.items():
        if name in steps:
            text = step(text)
    return text


class Preparing:
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
