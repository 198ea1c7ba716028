"""Trials for fits that a store already holds, to be evaluated and measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from pydantic import ValidationError

from moodbench.benchmark.resolve import device_of, trial_of
from moodbench.config import Catalogue
from moodbench.errors import StoreError, UnknownNameError
from moodbench.hardware import Hardware
from moodbench.spec import FitSpec, TrialSpec
from moodbench.store import Store


def trials_from_store(
    store: Store,
    catalogue: Catalogue,
    machine: Hardware,
    *,
    fits: Sequence[str] = (),
    datasets: Sequence[str] = (),
    seeds: Sequence[int] = (),
    protocol: str | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> list[TrialSpec]:
    """Return the trials of the stored fits that `fits` (ids or model names), `datasets` and `seeds` select; empty: all.

    Nothing is resolved again: each trial has the stored fit spec and the same ids.

    Raises: StoreError if there is no fit, none is selected, or another version of the program wrote the spec;
    UnknownNameError for an id or name that is not in the store.
    """
    found = store.records("fits")
    found = found[found["status"] == "ok"]
    if found.empty:
        raise StoreError(
            f"{store.uri}: has no fit yet; `moodbench train` or `moodbench run` makes one, or give --store"
        )
    chosen = _chosen(found, fits, datasets, seeds, store.uri)
    if chosen.empty:
        raise StoreError(
            f"{store.uri}: none of its {len(found)} fits is asked for; leave out a name, --datasets or --seeds, "
            "or make the fit with `moodbench train`"
        )
    how, size = catalogue.protocol(protocol), catalogue.evaluation.prediction_batch_size
    specs = []
    for record in chosen.to_dict("records"):
        specs.append(fit_spec_of(record, store.uri))
        if specs[-1].fit_id != record["fit_id"]:
            raise _of_another_version(record, store.uri, f"its id would be {specs[-1].fit_id} now")
    return [trial_of(s, device_of(s.model.method, machine.device(device)), machine, how, size) for s in specs]


def fit_spec_of(record: Mapping[Any, Any] | pd.Series[Any], uri: str) -> FitSpec:
    """Return the spec in the record of a fit.

    Raises: StoreError if another version of the program wrote it with other fields.
    """
    try:
        return FitSpec.model_validate_json(record["spec"])
    except ValidationError as error:
        raise _of_another_version(record, uri, error.errors()[0]["msg"]) from error


def _of_another_version(record: Mapping[Any, Any] | pd.Series[Any], uri: str, reason: str) -> StoreError:
    return StoreError(
        f"{uri}: the spec of fit {record['fit_id']} was written by another version of moodbench "
        f"({reason}); use that version, or fit it again"
    )


def _chosen(
    found: pd.DataFrame, fits: Sequence[str], datasets: Sequence[str], seeds: Sequence[int], uri: str
) -> pd.DataFrame:
    for name in fits:
        if not ((found["fit_id"] == name) | (found["model"] == name)).any():
            known = found["fit_id"] if re.fullmatch("[0-9a-f]{8,20}", name) else found["model"]
            raise UnknownNameError(f"fit or model in {uri}:", name, set(known))
    for name in datasets:
        if name not in set(found["dataset"]):
            raise UnknownNameError(f"dataset in {uri}:", name, set(found["dataset"]))
    if fits:
        found = found[found["fit_id"].isin(fits) | found["model"].isin(fits)]
    if datasets:
        found = found[found["dataset"].isin(datasets)]
    return found[found["seed"].isin(seeds)] if seeds else found
