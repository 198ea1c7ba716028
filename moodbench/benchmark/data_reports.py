"""Reports on a user's own data before training, with text lengths in tokens of the requested models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from moodbench.config import Catalogue
from moodbench.data.report import DataReport, ModelLengths, data_report
from moodbench.data.source import load_source
from moodbench.errors import PrerequisiteError
from moodbench.models.locate import locate
from moodbench.models.predictor import prepare_text
from moodbench.models.tokenizer import Tokenizer, load_tokenizer
from moodbench.spec import FitSpec, TrialSpec


def data_reports(trials: Sequence[TrialSpec], catalogue: Catalogue) -> list[DataReport]:
    """Return one report for each dataset of `trials` that is read from a file, Kaggle or the hub.

    Raises: PrerequisiteError if a tokenizer cannot be loaded.
    """
    fits: dict[str, dict[str, FitSpec]] = {}
    for trial in trials:
        fits.setdefault(trial.fit.dataset.name, {}).setdefault(trial.fit.model.name, trial.fit)
    reports = []
    for dataset, models in fits.items():
        examples, reading = load_source(dataset, next(iter(models.values())).dataset)
        if reading is not None:
            reports.append(
                data_report(
                    examples,
                    reading,
                    baselines=[name for name, fit in models.items() if fit.text is None],
                    models=_lengths(models.values(), examples.frame["text"].tolist()),
                    entry=catalogue.datasets.get(dataset),
                )
            )
    return reports


def _lengths(fits: Iterable[FitSpec], texts: Sequence[str]) -> list[ModelLengths]:
    """Return the number of tokens of each text, counted once for all fits that tokenize alike."""
    alike: dict[tuple[object, ...], list[FitSpec]] = {}
    for fit in fits:
        if fit.text is not None:
            alike.setdefault((fit.model.tokenizer_sha256, fit.text, fit.preparation), []).append(fit)
    counted = []
    for first, *others in alike.values():
        tokenizer = _tokenizer(first)
        prepared = [prepare_text(text, first.preparation) for text in texts]
        names = tuple(fit.model.name for fit in (first, *others))
        counted.append(ModelLengths(names, tokenizer.num_tokens(prepared), tokenizer.limit))
    return counted


def _tokenizer(fit: FitSpec) -> Tokenizer:
    assert fit.model.source is not None
    folder = locate(fit.model.name, fit.model.source).folder
    try:
        return load_tokenizer(fit, folder)
    except Exception as error:  # tokenizer libraries raise many types, even a plain Exception
        raise PrerequisiteError(
            f"model {fit.model.name}: its tokenizer in {folder} cannot be loaded ({str(error)[:200]}); "
            "load it again with `moodbench catalogue fetch`, or leave the model out"
        ) from error
