"""Fitting of the classical baselines."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.config.schema import TfidfDefaults
from moodbench.errors import DataError
from moodbench.metrics import score_all
from moodbench.models.baselines import Majority, TfidfLogreg, Vader
from moodbench.training.outcome import FitOutcome


def fit_majority(train: pd.DataFrame, validation: pd.DataFrame, num_labels: int, folder: Path) -> FitOutcome:
    """Fit the majority baseline by counting labels with add-one smoothing, and save it in `folder`."""
    started = time.perf_counter()
    counts = np.bincount(train["label"], minlength=num_labels)
    model = Majority(np.log((counts + 1) / (counts.sum() + num_labels)).tolist())
    elapsed = time.perf_counter() - started
    model.save(folder)
    scores = score_all(model.logits(model.encode(validation["text"].tolist())), validation["label"])
    return FitOutcome(num_labels, num_labels, len(train), len(validation), elapsed, len(train), None, scores)


def fit_vader(train: pd.DataFrame, validation: pd.DataFrame, num_labels: int, folder: Path) -> FitOutcome:
    """Fit VADER's sharpness to the training labels by maximum likelihood, and save the model in `folder`."""
    from scipy.optimize import minimize_scalar

    started = time.perf_counter()
    labels = train["label"].to_numpy()
    positives = float(np.mean(labels == num_labels - 1))
    prior = float(np.log(positives) - np.log(np.mean(labels == 0)))
    compounds = Vader(1.0, prior, num_labels).compounds(train["text"].tolist())

    def loss(log_sharpness: float) -> float:
        scores = score_all(
            Vader(float(np.exp(log_sharpness)), prior, num_labels).logits_of_compounds(compounds), labels
        )
        nll = scores["nll"]
        assert nll is not None
        return nll

    found = minimize_scalar(loss, bounds=(np.log(0.01), np.log(100)), method="bounded")
    model = Vader(float(np.exp(found.x)), prior, num_labels)
    elapsed = time.perf_counter() - started
    model.save(folder)
    scores = score_all(model.logits(model.encode(validation["text"].tolist())), validation["label"])
    chosen = {"sharpness": model.sharpness}
    num_lexicon = model.weights_bytes // 8
    return FitOutcome(num_lexicon, 1, len(train), len(validation), elapsed, len(train), None, scores, chosen)


def fit_tfidf(
    train: pd.DataFrame, validation: pd.DataFrame, tfidf: TfidfDefaults, num_labels: int, folder: Path
) -> FitOutcome:
    """Fit logistic regression on TF-IDF, select C by validation macro F1, and save the model in `folder`.

    Raises: DataError if no word or phrase occurs in enough training texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    started = time.perf_counter()
    vectorizer = TfidfVectorizer(
        ngram_range=(1, tfidf.max_ngram), min_df=tfidf.min_document_count, sublinear_tf=True, dtype=np.float64
    )
    try:
        features = vectorizer.fit_transform(train["text"])
    except ValueError as error:  # scikit-learn has no exception class for an empty vocabulary
        if "vocabulary" not in str(error) and "no terms remain" not in str(error):
            raise
        raise DataError(
            f"tfidf-logreg: no {'word' if tfidf.max_ngram == 1 else 'word or phrase'} of two letters or more stands in "
            f"at least {tfidf.min_document_count} of the {len(train):,} training texts, so there is nothing to learn "
            "from; check the text column, or lower tfidf.min_document_count"
        ) from error
    vocabulary = {word: int(i) for word, i in vectorizer.vocabulary_.items()}
    validation_features = vectorizer.transform(validation["text"])

    def build(coefficients: npt.NDArray[Any], intercepts: npt.NDArray[Any]) -> TfidfLogreg:
        return TfidfLogreg(vocabulary, tfidf.max_ngram, vectorizer.idf_, coefficients, intercepts)

    def validate(model: TfidfLogreg) -> dict[str, float | None]:
        return score_all(model.logits_of_features(validation_features), validation["label"])

    best: tuple[float, float, TfidfLogreg, dict[str, float | None]] | None = None
    for c in tfidf.inverse_regularisation:
        model = build(*fit_logistic(features, train["label"].to_numpy(), c))
        scores = validate(model)
        f1 = scores["f1_macro"] or 0.0
        if best is None or f1 > best[0]:
            best = (f1, c, model, scores)
    assert best is not None
    elapsed = time.perf_counter() - started
    best[2].save(folder)
    num_params = len(vocabulary) * (num_labels if num_labels > 2 else 1) + (num_labels if num_labels > 2 else 1)
    return FitOutcome(
        num_params,
        num_params,
        len(train),
        len(validation),
        elapsed,
        len(train) * len(tfidf.inverse_regularisation),
        None,
        best[3],
        {"C": best[1]},
    )


def fit_logistic(
    features: Any, labels: npt.NDArray[Any], inverse_regularisation: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return coefficients (labels, features) and intercepts (labels,) of a logistic regression; deterministic.

    With two labels there is a single row, the log odds of the second label.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # A C with weak regularisation may reach max_iter; validation decides whether the result is good enough.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=inverse_regularisation, max_iter=1000).fit(features, labels)
    return model.coef_, model.intercept_
