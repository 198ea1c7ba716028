"""How the results of a store were produced, in sentences from its records; nothing is claimed that they do not say."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from moodbench.analysis.results import Records, Results
from moodbench.report.formatting import missing, percent
from moodbench.statistics.composite import load_anchors
from moodbench.store.schema import SCHEMA_VERSION

NOT_RECORDED = "not recorded"


class Fact(NamedTuple):
    """One sentence and the field it comes from."""

    about: str
    text: str
    source: str


def facts(results: Results) -> list[Fact]:
    """Return all facts in the records on data, training, measurement, statistics and failures, in that order."""
    records = results.records
    return [*_data(records), *_training(records.fits), *_measuring(records.measurements), *_statistics(results)]


def _data(records: Records) -> Iterable[Fact]:
    ok = records.fits[records.fits["status"] == "ok"]
    for (dataset, revision), group in ok.groupby(["dataset", "dataset_revision"], dropna=False, sort=True):
        tested = records.evaluations.loc[records.evaluations["dataset"] == dataset, "num_test"].dropna()
        sizes = (
            f"{_range(group['num_train'])} training, {_range(group['num_validation'])} validation, "
            f"{_range(tested)} test texts"
        )
        yield Fact("Data", f"{dataset}: {sizes}; revision {_or_not(revision)}", "fits.num_train, evaluations.num_test")
        prints = sorted(set(group["train_fingerprint"].dropna()))
        shown = ", ".join(p[:12] for p in prints) if prints else NOT_RECORDED
        yield Fact("Data", f"{dataset}: fingerprint of the training texts {shown}", "fits.train_fingerprint")


def _training(fits: pd.DataFrame) -> Iterable[Fact]:
    for (model, method), group in fits[fits["status"] == "ok"].groupby(["model", "method"], sort=True):
        first = group.iloc[0]
        hparams = _json(first["hparams"])
        shown = "; ".join(
            f"{part}: " + ", ".join(f"{k} {v}" for k, v in values.items() if not isinstance(v, (dict, list)))
            for part, values in hparams.items()
            if isinstance(values, dict) and values
        )
        seeds = ", ".join(str(s) for s in sorted(set(group["seed"])))
        yield Fact(
            "Training", f"{model} ({method}), seeds {seeds}: {shown or 'nothing to set'}", "fits.hparams, fits.seed"
        )
        revision = _or_not(first["model_revision"])
        yield Fact(
            "Training", f"{model}: revision {revision}, family {_or_not(first['family'])}", "fits.model_revision"
        )
    places = set()
    for text in fits["environment"].dropna():
        known = _json(text)
        libraries = ", ".join(f"{k} {v}" for k, v in known.get("libraries", {}).items())
        places.add(
            f"Python {known.get('python', NOT_RECORDED)} on {known.get('os', NOT_RECORDED)}; "
            f"{libraries or NOT_RECORDED}"
        )
    for place in sorted(places):
        yield Fact("Environment", place, "fits.environment")
    revisions = sorted({str(_json(t).get("code_revision") or NOT_RECORDED) for t in fits["environment"].dropna()})
    yield Fact(
        "Environment",
        f"moodbench at {', '.join(revisions) or NOT_RECORDED}; schema {SCHEMA_VERSION}",
        "environment.code_revision",
    )


def _measuring(measurements: pd.DataFrame) -> Iterable[Fact]:
    if measurements.empty:
        yield Fact("Measuring", "Nothing was measured on a machine that is shown.", "measurements")
        return
    for (device, threads), group in measurements.groupby(["device_name", "num_threads"], dropna=False, sort=True):
        number = "?" if missing(threads) else f"{threads:.0f}"
        yield Fact(
            "Measuring",
            f"{len(group)} measurements on {_or_not(device)} with {number} threads",
            "measurements.device_name",
        )
    for protocol, group in measurements.groupby("protocol", dropna=False):
        p = _json(protocol)
        if not p:
            yield Fact("Measuring", f"protocol {NOT_RECORDED} ({len(group)} measurements)", "measurements.protocol")
            continue
        yield Fact(
            "Measuring",
            f"{p.get('processes')} fresh processes of {p.get('requests')} requests each, one text at a time, after "
            f"{p.get('warmup_s')} s of warm-up; batches of {', '.join(map(str, p.get('batch_sizes', [])))} texts; "
            f"windows of {p.get('window_requests')} requests are judged by the time threads waited for a CPU "
            f"({len(group)} measurements{', quick' if p.get('quick') else ''})",
            "measurements.protocol",
        )
    verdicts = measurements["verdict"].fillna(NOT_RECORDED).value_counts()
    yield Fact("Measuring", ", ".join(f"{n} {v}" for v, n in verdicts.items()), "measurements.verdict")
    clean = measurements["clean_share"].dropna()
    if len(clean):
        yield Fact(
            "Measuring",
            f"{percent(clean.median())} % of the windows were undisturbed (median)",
            "measurements.clean_share",
        )


def _statistics(results: Results) -> Iterable[Fact]:
    rows = results.entries
    for (method, estimand), group in rows.groupby(["interval_method", "estimand"]):
        about = "these weights on new texts" if estimand == "checkpoint" else "the recipe trained again, on new texts"
        yield Fact(
            "Statistics",
            f"95 % intervals of accuracy by {method}, about {about} ({len(group)} rows)",
            "derived from predictions",
        )
    anchors = load_anchors()
    yield Fact(
        "Statistics",
        f"score: anchors version {anchors.version}, zero at {anchors.baseline}; throughput "
        f"{anchors.throughput_texts_per_s.worst:g} to {anchors.throughput_texts_per_s.best:g} texts/s, latency "
        f"{1e3 * anchors.latency_p50_s.worst:g} to {1e3 * anchors.latency_p50_s.best:g} ms, both logarithmic",
        "statistics/anchors.toml",
    )
    yield Fact(
        "Failures",
        f"{len(results.records.failures)} phases have no record because their last attempt failed",
        "failures",
    )


def _json(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _or_not(value: Any) -> str:
    return NOT_RECORDED if missing(value) or value == "" else str(value)


def _range(values: pd.Series[Any]) -> str:
    known = values.dropna()
    if known.empty:
        return NOT_RECORDED
    low, high = int(known.min()), int(known.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
