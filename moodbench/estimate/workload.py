"""How much text a phase works through."""

from __future__ import annotations

from dataclasses import dataclass

TOKENS_PER_WORD = 1.3
"""Sub-words per English word, rounded up: WordPiece and byte-level BPE vocabularies of 30,000 to 250,000 give 1.15 to 1.35."""
SPECIAL_TOKENS = 2


@dataclass(frozen=True)
class Workload:
    """Sizes of a data set as one model reads it."""

    num_train: int
    num_validation: int
    num_test: int
    mean_tokens: float
    """Tokens per text after cutting at the longest input."""
    max_tokens: int
    """The longest input that occurs."""
    num_labels: int = 2


def tokens_of_words(num_words: float, max_length: int) -> float:
    """Tokens of a text of so many words, cut at `max_length`."""
    return min(float(max_length), TOKENS_PER_WORD * num_words + SPECIAL_TOKENS)


@dataclass(frozen=True)
class DataSize:
    """Sizes of a data set before any model reads it."""

    num_train: int
    num_validation: int
    num_test: int
    mean_words: float
    """Words per text, the mean over the test split or what its publisher says."""
    max_words: float | None = None
    """Words of the longest text; None: longer than any model reads."""
    num_labels: int = 2

    def as_read(self, max_length: int, num_template_words: float = 0.0, num_examples: int = 0) -> Workload:
        """Return the same texts in a template of so many words, after so many labelled examples, cut at `max_length` tokens."""
        added = num_template_words + num_examples * (self.mean_words + num_template_words)
        longest = max_length if self.max_words is None else round(tokens_of_words(self.max_words + added, max_length))
        mean = tokens_of_words(self.mean_words + added, max_length)
        return Workload(self.num_train, self.num_validation, self.num_test, mean, longest, self.num_labels)
