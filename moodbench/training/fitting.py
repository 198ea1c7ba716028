"""Fitting of any model; here are the methods without gradients: classical baselines, linear probe and prompting."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.config.schema import FineTuning, TfidfDefaults
from moodbench.data.examples import subsample
from moodbench.errors import DataError
from moodbench.hardware import Device
from moodbench.metrics import score_all
from moodbench.models.base import LANGUAGE_MODELS, base_folder, load_encoder
from moodbench.models.baselines import Majority, NgramFeatures, TfidfLogreg, Vader, linear_logits
from moodbench.models.device import empty_model, parameter_count
from moodbench.models.predictor import in_batches
from moodbench.models.prompting import template_of
from moodbench.models.tokenizer import Tokenizer, load_tokenizer
from moodbench.models.transformer import PROBE_HEAD, TOKENIZER, Embedder
from moodbench.spec import FitSpec
from moodbench.training.checkpoints import CheckpointArea
from moodbench.training.outcome import FitOutcome, Report

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BATCH = 32
C_LIMITS = (1e-4, 1e4)
"""Bounds within which candidates of C are continued."""

Scores = Mapping[str, float | None]
Weights = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Coefficients (labels, features) and intercepts (labels,) of a logistic regression."""


def fit(
    spec: FitSpec,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    folder: Path,
    device: Device,
    report: Report,
    checkpoints: CheckpointArea,
    *,
    num_gpus: int = 1,
) -> FitOutcome:
    """Fit the model of `spec`, save the artifact in `folder`, and return the outcome.

    `checkpoints` is where a later attempt may resume from; only fine-tuning writes them.
    """
    num_labels = len(spec.dataset.labels)
    if spec.model.method in get_args(FineTuning):
        from moodbench.training.fine_tuning import fine_tune

        return fine_tune(spec, train, validation, folder, device, report, checkpoints, num_gpus=num_gpus)
    if spec.model.method == "prompted":
        return fit_prompted(spec, train, folder)
    if spec.model.method == "linear-probe":
        return fit_probe(spec, train, validation, folder, device, report)
    if spec.model.baseline == "tfidf-logreg":
        assert spec.tfidf is not None
        return fit_tfidf(train, validation, spec.tfidf, num_labels, folder)
    fit_counts = fit_vader if spec.model.baseline == "vader" else fit_majority
    return fit_counts(train, validation, num_labels, folder)


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

    Raises: DataError if no n-gram occurs in enough training texts.
    """
    from scipy.sparse import hstack

    started = time.perf_counter()
    texts, labels = train["text"].tolist(), train["label"].to_numpy()
    features, parts = zip(*_ngram_features(texts, tfidf), strict=True)
    train_rows = hstack(parts, format="csr")
    validation_rows = [part.vectorizer().transform(validation["text"]) for part in features]

    def fit_with(c: float) -> tuple[Scores, Weights]:
        weights = fit_logistic(train_rows, labels, c)
        return score_all(linear_logits(validation_rows, *weights), validation["label"]), weights

    c, tried = choose_regularisation(tfidf.inverse_regularisation, fit_with)
    scores, weights = tried[c]
    model = TfidfLogreg(features, *weights)
    elapsed = time.perf_counter() - started
    model.save(folder)
    num_params = (train_rows.shape[1] + 1) * (num_labels if num_labels > 2 else 1)
    num_read = len(train) * len(tried)
    return FitOutcome(num_params, num_params, len(train), len(validation), elapsed, num_read, None, scores, {"C": c})


def _ngram_features(texts: Sequence[str], tfidf: TfidfDefaults) -> list[tuple[NgramFeatures, csr_matrix]]:
    """Return the features of words and of characters with the texts' rows, without those that have no n-gram."""
    wanted: list[tuple[Literal["word", "char_wb"], int | None]] = [
        ("word", tfidf.max_ngram),
        ("char_wb", tfidf.max_character_ngram),
    ]
    fitted = [NgramFeatures.fit(kind, longest, tfidf.min_document_count, texts) for kind, longest in wanted if longest]
    found = [part for part in fitted if part is not None]
    if not found:
        raise DataError(
            f"tfidf-logreg: no word{' and no sequence of characters' if tfidf.max_character_ngram else ''} occurs in "
            f"at least {tfidf.min_document_count} of the {len(texts):,} training texts, so there is nothing to learn "
            "from; check the text column, or lower tfidf.min_document_count"
        )
    return found


def choose_regularisation[T](
    candidates: Sequence[float], fit_with: Callable[[float], tuple[Scores, T]]
) -> tuple[float, dict[float, tuple[Scores, T]]]:
    """Return the best C, and the validation scores and weights of each C that was tried.

    The best has the highest macro F1, among equals the lowest negative log likelihood. While it is the smallest or
    largest that was tried, the candidates continue at that end in the same ratio, within C_LIMITS; a single candidate
    is used as it is.
    """
    tried = {c: fit_with(c) for c in sorted(candidates)}
    while True:
        best = min(tried, key=lambda c: (-(tried[c][0]["f1_macro"] or 0.0), tried[c][0]["nll"] or 0.0))
        beyond = _continued(sorted(tried), best)
        if beyond is None:
            return best, tried
        tried[beyond] = fit_with(beyond)


def _continued(tried: Sequence[float], best: float) -> float | None:
    """Return the C to try next to the end of `tried` that is `best`; None if it is no end, or has no next one."""
    if len(tried) == 1 or tried[0] < best < tried[-1]:
        return None
    beyond = best * (tried[0] / tried[1] if best == tried[0] else tried[-1] / tried[-2])
    return beyond if C_LIMITS[0] <= beyond <= C_LIMITS[1] else None


def fit_logistic(features: Any, labels: npt.NDArray[Any], inverse_regularisation: float) -> Weights:
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


def fit_probe(
    spec: FitSpec, train: pd.DataFrame, validation: pd.DataFrame, folder: Path, device: Device, report: Report
) -> FitOutcome:
    """Fit logistic regression on embeddings, select C by validation macro F1, and save the probe in `folder`."""
    from safetensors.numpy import save_file

    assert spec.probe is not None
    tokenizer = load_tokenizer(spec, base_folder(spec.model))
    encoder = load_encoder(spec)
    embedder = Embedder(encoder, tokenizer, spec.probe.pooling, device)
    started = time.perf_counter()
    vectors = in_batches(embedder.embed, tokenizer.encode(train["text"].tolist()), BATCH, report)
    validation_vectors = in_batches(embedder.embed, tokenizer.encode(validation["text"].tolist()), BATCH)

    def fit_with(c: float) -> tuple[Scores, dict[str, npt.NDArray[np.float32]]]:
        weight, bias = fit_logistic(vectors, train["label"].to_numpy(), c)
        if len(weight) == 1:  # two labels: scikit-learn returns only the log odds
            weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
        head = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
        return score_all(validation_vectors @ head["weight"].T + head["bias"], validation["label"]), head

    c, tried = choose_regularisation(spec.probe.inverse_regularisation, fit_with)
    scores, head = tried[c]
    elapsed = time.perf_counter() - started
    save_file(head, folder / PROBE_HEAD)
    tokenizer.hf.save_pretrained(folder / TOKENIZER)
    num_head = head["weight"].size + head["bias"].size
    num_params = parameter_count(encoder) + num_head
    return FitOutcome(num_params, num_head, len(train), len(validation), elapsed, len(train), None, scores, {"C": c})


def fit_prompted(spec: FitSpec, train: pd.DataFrame, folder: Path) -> FitOutcome:
    """Save the tokenizer, and the template with its few-shot examples, in `folder`.

    The examples are training texts, sampled with the subsampling seed, balanced over classes as far as possible, and
    shuffled. Texts that exceed an equal share of the maximum input length are excluded; if too few remain, the template
    has fewer examples than the prompt asks for.

    Raises: PrerequisiteError if the template with its examples leaves no space for a text.
    """
    assert spec.prompt is not None and spec.text is not None
    started = time.perf_counter()
    source = base_folder(spec.model)
    tokenizer = load_tokenizer(spec, source)
    shown = _examples(spec, train, tokenizer)
    template = template_of(spec.prompt, shown)
    Tokenizer(tokenizer.hf, spec.text, spec.prompt, template, spec.model.name)  # checks that texts fit in the template
    template.save(folder)
    tokenizer.hf.save_pretrained(folder / TOKENIZER)
    return FitOutcome(
        num_params=_num_params(spec, source),
        num_trainable=0,
        num_train=len(train),
        num_validation=0,
        train_time_s=time.perf_counter() - started,
        num_texts_trained=0,
        best_step=None,
        validation={},
        chosen={"num_examples": len(shown)},
    )


def _num_params(spec: FitSpec, folder: Path) -> int:
    """Return the number of parameters of the language model, without loading its weights."""
    import transformers

    assert spec.prompt is not None
    config = transformers.AutoConfig.from_pretrained(folder, **spec.model.loading_options)
    auto = getattr(transformers, LANGUAGE_MODELS[spec.prompt.kind])
    return parameter_count(empty_model(auto, config, trust_remote_code=spec.model.trust_remote_code))


def _examples(spec: FitSpec, train: pd.DataFrame, tokenizer: Tokenizer) -> list[tuple[str, int]]:
    assert spec.prompt is not None
    number = spec.prompt.num_examples
    if not number:
        return []
    share = tokenizer.limit // (number + 1)
    short = train[tokenizer.num_tokens(train["text"].tolist()) <= share]
    drawn = subsample(short, number, spec.seeds.subsample, "balanced").sample(frac=1, random_state=spec.seeds.subsample)
    return [(str(text), int(label)) for text, label in zip(drawn["text"], drawn["label"], strict=True)]
