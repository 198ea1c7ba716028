"""Amount of text that a phase processes."""

from __future__ import annotations

from dataclasses import dataclass

TOKENS_PER_WORD = 1.3
"""Subwords per English word, rounded up.

WordPiece and byte-level BPE vocabularies of 30,000 to 250,000 entries give 1.15 to 1.35.
"""
SPECIAL_TOKENS = 2


@dataclass(frozen=True)
class Workload:
    """Sizes of a dataset as tokenized by one model."""

    num_train: int
    num_validation: int
    num_test: int
    mean_tokens: float
    """Mean tokens per text after truncation to the maximum input length."""
    max_tokens: int
    """Tokens of the longest input that occurs."""
    num_labels: int = 2


def tokens_of_words(num_words: float, max_length: int) -> float:
    """Return the number of tokens of a text of `num_words`, truncated to `max_length`."""
    return min(float(max_length), TOKENS_PER_WORD * num_words + SPECIAL_TOKENS)


@dataclass(frozen=True)
class DataSize:
    """Sizes of a dataset in words, before tokenization."""

    num_train: int
    num_validation: int
    num_test: int
    mean_words: float
    """Mean words per text, over the test split or as stated by the publisher."""
    max_words: float | None = None
    """Words of the longest text; None: longer than any model reads."""
    num_labels: int = 2

    def as_read(self, max_length: int, num_template_words: float = 0.0, num_examples: int = 0) -> Workload:
        """Return the workload of the texts inside a prompt, truncated to `max_length` tokens.

        Each prompt has `num_examples` labelled examples and the text, each in a template of `num_template_words`.
        """
        added = num_template_words + num_examples * (self.mean_words + num_template_words)
        longest = max_length if self.max_words is None else round(tokens_of_words(self.max_words + added, max_length))
        mean = tokens_of_words(self.mean_words + added, max_length)
        return Workload(self.num_train, self.num_validation, self.num_test, mean, longest, self.num_labels)
