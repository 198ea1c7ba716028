"""Export of a fit as a folder that transformers loads without MoodBench."""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import uuid4

from moodbench.analysis.leaderboard import choose_machine, trials_frame
from moodbench.config import Catalogue
from moodbench.errors import PrerequisiteError, UsageError
from moodbench.hardware import hardware
from moodbench.serving.card import CardFacts, model_card
from moodbench.serving.classifier import ChosenFit, choose_fit
from moodbench.store import Store

WHY_NOT = {
    "linear-probe": "is a linear layer on mean-pooled, normalised embeddings, for which transformers has no class, "
    "so a pipeline could not load it",
    "prompted": "is the published model itself with a template, and nothing was trained",
    "baseline": "is a classical baseline and no transformer, so a pipeline could not load it",
}


def export_model(store: Store, model: str, folder: Path, catalogue: Catalogue) -> ChosenFit:
    """Export the fit that `model` names to `folder`, and return the fit.

    `folder` must be absent or empty. It appears when complete, with the merged weights, tokenizer and model card.
    Raises: UsageError if transformers cannot load the model or `folder` is not empty; PrerequisiteError if `folder`
    cannot be written.
    """
    fit = choose_fit(store, model)
    _check_exportable(fit)
    check_free(folder)
    artifact = store.artifact(fit.fit_id)
    # Imported here so that a refused request does not wait for torch.
    from moodbench.models.device import prepare_torch
    from moodbench.models.transformer import save_merged

    prepare_torch(hardware().num_cores)
    target = folder.resolve()
    partial = target.with_name(f".{target.name}.{uuid4().hex[:8]}.part")
    try:
        partial.mkdir(parents=True)
        save_merged(fit.spec, artifact, partial)
        (partial / "README.md").write_text(model_card(facts_of(store, fit, catalogue)), encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise PrerequisiteError(
            f"export-model {folder}: {error.strerror or error}; nothing was written there"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return fit


def _check_exportable(fit: ChosenFit) -> None:
    """Raise UsageError if transformers cannot load the model of `fit` or would label texts otherwise."""
    method = fit.spec.model.method
    if method in WHY_NOT:
        raise UsageError(
            f"export-model: {fit} {WHY_NOT[method]}; use `moodbench predict --model {fit.fit_id}` or "
            "moodbench.load_predictor; fine-tuned models can be exported (see `moodbench catalogue models`)"
        )
    if fit.spec.preparation:
        raise UsageError(
            f"export-model: {fit} reads texts after {', '.join(fit.spec.preparation)}, "
            f"which transformers would leave out; use `moodbench predict --model {fit.fit_id}` or "
            "moodbench.load_predictor"
        )


def check_free(folder: Path) -> None:
    """Raise UsageError if `folder` is a file or is not empty."""
    if folder.is_dir():
        held = sorted(p.name for p in folder.iterdir())
        if held:
            raise UsageError(f"export-model {folder}: is not empty (it holds {', '.join(held[:3])}); give a new folder")
    elif folder.exists() or folder.is_symlink():
        raise UsageError(f"export-model {folder}: is a file; give a new folder")


def facts_of(store: Store, fit: ChosenFit, catalogue: Catalogue) -> CardFacts:
    """Return the input of the model card: the records of this recipe, with speeds of this machine type if measured."""
    fits, evaluations, measurements = (store.records(kind) for kind in ("fits", "evaluations", "measurements"))
    fits = fits[fits["config_id"] == fit.record["config_id"]]
    evaluations = evaluations[evaluations["fit_id"].isin(fits["fit_id"])]
    own = measurements[measurements["fit_id"] == fit.fit_id]
    trials = trials_frame(fits, evaluations, choose_machine(own, hardware().machine_key))
    return CardFacts(
        fit,
        trials,
        catalogue.models.get(fit.spec.model.name),
        catalogue.datasets.get(fit.spec.dataset.name),
    )
