"""A store with a fitted majority baseline, made at once, and a classifier of it."""

import numpy as np
import pandas as pd

from moodbench.models.baselines import Majority
from moodbench.serving.classifier import ChosenFit, Classifier
from moodbench.spec import FitSpec, ResolvedDataset, ResolvedModel, SeedSpec


def spec_of(name, *, num_labels=2, seed=0) -> FitSpec:
    labels = ("negative", "neutral", "positive")[:: 2 if num_labels == 2 else 1]
    data = ResolvedDataset(
        name="toy", embedded="toy", revision="r", labels=labels, neutral_band=0.5, train_fingerprint="a",
        validation_fingerprint="b", test_fingerprint="c",
    )  # fmt: skip
    model = ResolvedModel(name=name, method="baseline", baseline="majority")
    return FitSpec(model=model, dataset=data, seeds=SeedSpec(init=seed, data_order=seed, subsample=seed))


def commit_fit(store, name, *, num_train=100, seed=0, environment="{}", run_id="run") -> str:
    """The id of a committed majority fit whose training texts were one quarter negative."""
    spec = spec_of(name, seed=seed)
    fit_id = f"{name[:4].encode().hex()}{num_train:08x}{seed:04x}"
    record = {
        "fit_id": fit_id, "config_id": spec.config_id, "model": name, "dataset": "toy", "seed": seed, "status": "ok",
        "method": "baseline", "dataset_revision": "r", "num_train": num_train, "spec": spec.model_dump_json(), "environment": environment,
        "run_id": run_id,
        "ended_at": pd.Timestamp("2026-01-01", tz="UTC"),
    }  # fmt: skip
    with store.attempt() as attempt:
        folder = attempt.folder / "artifact"
        folder.mkdir()
        Majority(np.log([0.25, 0.75])).save(folder)
        assert attempt.commit("fits", fit_id, record, {f"artifacts/{fit_id}": folder})
    return fit_id


def classifier() -> Classifier:
    return Classifier(Majority(np.log([0.25, 0.75])), ChosenFit(spec_of("majority"), {"fit_id": "x"}, 0))
