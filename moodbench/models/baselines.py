"""Classical baselines: majority class, VADER, and logistic regression on TF-IDF; saved without pickle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from moodbench.models.interface import Encoded, Logits

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

PARAMETERS = "baseline.json"
ARRAYS = "arrays.safetensors"
NEUTRAL_COMPOUND = 0.05
"""Compound scores closer to 0 than this are neutral. Source: Hutto & Gilbert 2014, p. 9."""


def _words(texts: Sequence[str]) -> npt.NDArray[np.int32]:
    return np.array([len(text.split()) for text in texts], dtype=np.int32)


class Majority:
    """Baseline whose logits are, for every text, the log class shares of the training split."""

    def __init__(self, log_shares: Sequence[float]) -> None:
        self._log_shares = np.asarray(log_shares, dtype=np.float32)
        self.weights_bytes = self._log_shares.nbytes

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the texts unchanged, without token counts."""
        return Encoded(texts, np.full(len(texts), -1, dtype=np.int32), np.zeros(len(texts), dtype=bool))

    def logits(self, encoded: Encoded) -> Logits:
        """Return the same float32 row (labels) for every text."""
        return np.tile(self._log_shares, (len(encoded), 1))

    def save(self, folder: Path) -> None:
        """Write the parameters to `folder`."""
        _write_json(folder, {"log_shares": self._log_shares.tolist()})

    @classmethod
    def load(cls, folder: Path) -> Majority:
        """Return the model saved in `folder`."""
        return cls(_read_json(folder)["log_shares"])


class Vader:
    """Baseline that turns VADER's compound score c in [-1, 1] into logits; the lexicon is fixed, the sharpness fitted.

    Two labels: the log odds of the positive class are sharpness x c, or the training log odds if c is 0, that is if no
    word of the text is in the lexicon. Three labels: the logits are sharpness x (-c - 0.05), 0 and
    sharpness x (c - 0.05), so that the largest logit agrees with the authors' thresholds.
    """

    def __init__(self, sharpness: float, prior_log_odds: float, num_labels: int) -> None:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self._analyzer = SentimentIntensityAnalyzer()
        self.sharpness, self.prior_log_odds, self.num_labels = sharpness, prior_log_odds, num_labels
        self.weights_bytes = 8 * len(self._analyzer.lexicon)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the texts with their token counts; tokens are separated by whitespace, as in VADER."""
        return Encoded(texts, _words(texts), np.zeros(len(texts), dtype=bool))

    def compounds(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return VADER's compound score (texts,) of each text."""
        return np.array([self._analyzer.polarity_scores(text)["compound"] for text in texts])

    def logits(self, encoded: Encoded) -> Logits:
        """Return float32 logits (texts, labels)."""
        return self.logits_of_compounds(self.compounds(encoded.inputs))

    def logits_of_compounds(self, compounds: npt.NDArray[np.float64]) -> Logits:
        """Return float32 logits (texts, labels) from compound scores."""
        if self.num_labels == 2:
            log_odds = np.where(compounds == 0, self.prior_log_odds, self.sharpness * compounds)
            return np.stack([-log_odds / 2, log_odds / 2], axis=1).astype(np.float32)
        sides = [-compounds - NEUTRAL_COMPOUND, np.zeros_like(compounds), compounds - NEUTRAL_COMPOUND]
        return (self.sharpness * np.stack(sides, axis=1)).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write the parameters to `folder`."""
        values = {"sharpness": self.sharpness, "prior_log_odds": self.prior_log_odds, "num_labels": self.num_labels}
        _write_json(folder, values)

    @classmethod
    def load(cls, folder: Path) -> Vader:
        """Return the model saved in `folder`."""
        return cls(**_read_json(folder))


class TfidfLogreg:
    """Baseline of scikit-learn: logistic regression on TF-IDF of word n-grams, with sublinear term frequencies."""

    def __init__(
        self,
        vocabulary: dict[str, int],
        max_ngram: int,
        idf: npt.NDArray[np.float64],
        coefficients: npt.NDArray[np.float64],
        intercepts: npt.NDArray[np.float64],
    ) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vectorizer = TfidfVectorizer(ngram_range=(1, max_ngram), sublinear_tf=True, vocabulary=vocabulary)
        self.vectorizer.idf_ = idf
        self._vocabulary, self._max_ngram, self._idf = vocabulary, max_ngram, idf
        self._coefficients, self._intercepts = coefficients, intercepts
        self.weights_bytes = idf.nbytes + coefficients.nbytes + intercepts.nbytes
        self._count = self.vectorizer.build_tokenizer()

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the texts with their token counts; tokens are those of scikit-learn's word tokenizer."""
        counts = np.array([len(self._count(text)) for text in texts], dtype=np.int32)
        return Encoded(texts, counts, np.zeros(len(texts), dtype=bool))

    def logits(self, encoded: Encoded) -> Logits:
        """Return float32 logits (texts, labels); with two labels, minus and plus half the log odds."""
        return self.logits_of_features(self.vectorizer.transform(encoded.inputs))

    def logits_of_features(self, features: csr_matrix) -> Logits:
        """Return float32 logits (texts, labels) from TF-IDF rows."""
        scores = features @ self._coefficients.T + self._intercepts
        if scores.shape[1] == 1:
            scores = np.concatenate([-scores / 2, scores / 2], axis=1)
        return np.asarray(scores, dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write the vocabulary and the arrays to `folder`."""
        from safetensors.numpy import save_file

        words = sorted(self._vocabulary, key=self._vocabulary.__getitem__)
        _write_json(folder, {"max_ngram": self._max_ngram, "words": words})
        arrays = {"idf": self._idf, "coefficients": self._coefficients, "intercepts": self._intercepts}
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, folder / ARRAYS)

    @classmethod
    def load(cls, folder: Path) -> TfidfLogreg:
        """Return the model saved in `folder`."""
        from safetensors.numpy import load_file

        saved, arrays = _read_json(folder), load_file(folder / ARRAYS)
        vocabulary = {word: i for i, word in enumerate(saved["words"])}
        return cls(vocabulary, saved["max_ngram"], arrays["idf"], arrays["coefficients"], arrays["intercepts"])


def _write_json(folder: Path, values: dict[str, Any]) -> None:
    (folder / PARAMETERS).write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")


def _read_json(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / PARAMETERS).read_text("utf-8"))
    return values
