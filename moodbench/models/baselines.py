"""Classical baselines: majority class, VADER, and logistic regression on TF-IDF; saved without pickle."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from moodbench.models.tokenizer import Encoded, Logits

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

PARAMETERS = "baseline.json"
ARRAYS = "arrays.safetensors"
NEUTRAL_COMPOUND = 0.05
"""Compound scores closer to 0 than this are neutral. Source: Hutto & Gilbert 2014, p. 9."""
WORDS_AND_SYMBOLS = r"\w+|[^\w\s]"
"""Tokens of TF-IDF: runs of letters and digits, and each other visible character, such as an emoji, on its own."""
MIN_CHARACTERS = 2
"""Length of the shortest n-grams of characters, the space on either side of a word included."""
WORDS = r"(?u)\b\w\w+\b"
"""The tokens of earlier artifacts, scikit-learn's default: words of two letters or more."""


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


@dataclass(frozen=True)
class NgramFeatures:
    """TF-IDF of the n-grams of words or of characters, with sublinear term frequencies and rows of length 1."""

    analyzer: Literal["word", "char_wb"]
    """As in scikit-learn; `char_wb` reads words with a space on either side, and text without spaces as one word."""
    max_ngram: int
    terms: Mapping[str, int]
    """Column of each n-gram."""
    idf: npt.NDArray[np.float64]
    token_pattern: str = WORDS_AND_SYMBOLS

    @classmethod
    def fit(
        cls, analyzer: Literal["word", "char_wb"], max_ngram: int, min_document_count: int, texts: Sequence[str]
    ) -> tuple[NgramFeatures, csr_matrix] | None:
        """Return the n-grams of at least `min_document_count` texts, with the rows of the texts; None without any."""
        vectorizer = _vectorizer(analyzer, max_ngram, WORDS_AND_SYMBOLS, min_df=min_document_count)
        try:
            rows = vectorizer.fit_transform(texts)
        except ValueError as error:  # scikit-learn has no exception class for an empty vocabulary
            if "vocabulary" not in str(error) and "no terms remain" not in str(error):
                raise
            return None
        terms = {term: int(column) for term, column in vectorizer.vocabulary_.items()}
        return cls(analyzer, max_ngram, terms, vectorizer.idf_), rows

    def vectorizer(self) -> TfidfVectorizer:
        """Return the fitted vectorizer of scikit-learn."""
        vectorizer = _vectorizer(self.analyzer, self.max_ngram, self.token_pattern, vocabulary=self.terms)
        vectorizer.idf_ = self.idf
        return vectorizer


def _vectorizer(analyzer: str, max_ngram: int, token_pattern: str, **options: Any) -> TfidfVectorizer:
    from sklearn.feature_extraction.text import TfidfVectorizer

    tokens = {"token_pattern": token_pattern} if analyzer == "word" else {}
    shortest = 1 if analyzer == "word" else MIN_CHARACTERS
    return TfidfVectorizer(analyzer=analyzer, ngram_range=(shortest, max_ngram), sublinear_tf=True, **tokens, **options)


class TfidfLogreg:
    """Baseline of scikit-learn: logistic regression on TF-IDF of the n-grams of words and of characters.

    Characters make it read scripts without spaces between words, and endings and misspellings.
    """

    def __init__(
        self,
        features: Sequence[NgramFeatures],
        coefficients: npt.NDArray[np.float64],
        intercepts: npt.NDArray[np.float64],
    ) -> None:
        self._features, self._coefficients, self._intercepts = tuple(features), coefficients, intercepts
        self._vectorizers = [part.vectorizer() for part in features]
        self.weights_bytes = sum(part.idf.nbytes for part in features) + coefficients.nbytes + intercepts.nbytes
        self._tokens = re.compile(features[0].token_pattern)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the texts with their token counts: words, and other visible characters such as emoji."""
        counts = np.array([len(self._tokens.findall(text)) for text in texts], dtype=np.int32)
        return Encoded(texts, counts, np.zeros(len(texts), dtype=bool))

    def logits(self, encoded: Encoded) -> Logits:
        """Return float32 logits (texts, labels); with two labels, minus and plus half the log odds."""
        rows = [vectorizer.transform(encoded.inputs) for vectorizer in self._vectorizers]
        return linear_logits(rows, self._coefficients, self._intercepts)

    def save(self, folder: Path) -> None:
        """Write the n-grams and the arrays to `folder`."""
        from safetensors.numpy import save_file

        saved, arrays = [], {"coefficients": self._coefficients, "intercepts": self._intercepts}
        for part in self._features:
            known = {"analyzer": part.analyzer, "max_ngram": part.max_ngram, "token_pattern": part.token_pattern}
            saved.append(known | {"terms": sorted(part.terms, key=part.terms.__getitem__)})
            arrays[f"idf_{part.analyzer}"] = part.idf
        _write_json(folder, {"features": saved})
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, folder / ARRAYS)

    @classmethod
    def load(cls, folder: Path) -> TfidfLogreg:
        """Return the model saved in `folder`."""
        from safetensors.numpy import load_file

        saved, arrays = _read_json(folder), load_file(folder / ARRAYS)
        if "words" in saved:  # an artifact of version 1 of the anchors, before characters were read
            words = {"analyzer": "word", "max_ngram": saved["max_ngram"], "token_pattern": WORDS}
            saved, arrays["idf_word"] = {"features": [words | {"terms": saved["words"]}]}, arrays["idf"]
        features = [
            NgramFeatures(
                analyzer=part["analyzer"],
                max_ngram=part["max_ngram"],
                terms={term: column for column, term in enumerate(part["terms"])},
                idf=arrays[f"idf_{part['analyzer']}"],
                token_pattern=part["token_pattern"],
            )
            for part in saved["features"]
        ]
        return cls(features, arrays["coefficients"], arrays["intercepts"])


def linear_logits(
    rows: Sequence[csr_matrix], coefficients: npt.NDArray[np.float64], intercepts: npt.NDArray[np.float64]
) -> Logits:
    """Return the float32 logits (texts, labels) of a logistic regression on features side by side in `rows`.

    With two labels there is one row of coefficients, of the log odds: the logits are minus and plus half of them.
    """
    ends = np.cumsum([block.shape[1] for block in rows])
    parts = zip(rows, np.split(coefficients, ends[:-1], axis=1), strict=True)
    scores = sum((block @ weights.T for block, weights in parts), start=intercepts)
    if scores.shape[1] == 1:
        scores = np.concatenate([-scores / 2, scores / 2], axis=1)
    return np.asarray(scores, dtype=np.float32)


def _write_json(folder: Path, values: dict[str, Any]) -> None:
    (folder / PARAMETERS).write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")


def _read_json(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / PARAMETERS).read_text("utf-8"))
    return values
