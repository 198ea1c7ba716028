"""Description of how a store's results were produced, from its records; nothing is claimed that they do not say."""

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
    ok = records.fits[records.fits["status"] == "ok"]
    failed = f"{len(records.failures)} phases have no record because their last attempt failed"
    return [
        *_data(records, ok),
        *_training(ok),
        *_environment(records.fits["environment"].dropna().map(_json)),
        *_measuring(records.measurements),
        *_statistics(results.entries),
        Fact("Failures", failed, "failures"),
    ]


def _data(records: Records, fits: pd.DataFrame) -> Iterable[Fact]:
    for (dataset, revision), group in fits.groupby(["dataset", "dataset_revision"], dropna=False, sort=True):
        tested = records.evaluations.loc[records.evaluations["dataset"] == dataset, "num_test"].dropna()
        sizes = (
            f"{_range(group['num_train'])} training, {_range(group['num_validation'])} validation, "
            f"{_range(tested)} test texts"
        )
        yield Fact("Data", f"{dataset}: {sizes}; revision {_known(revision)}", "fits.num_train, evaluations.num_test")
        prints = ", ".join(each[:12] for each in sorted(set(group["train_fingerprint"].dropna())))
        text = f"{dataset}: fingerprint of the training texts {_known(prints)}"
        yield Fact("Data", text, "fits.train_fingerprint")


def _training(fits: pd.DataFrame) -> Iterable[Fact]:
    for (model, method), group in fits.groupby(["model", "method"], sort=True):
        first = group.iloc[0]
        parts = [
            f"{part}: " + ", ".join(f"{k} {v}" for k, v in values.items() if not isinstance(v, (dict, list)))
            for part, values in _json(first["hparams"]).items()
            if isinstance(values, dict) and values
        ]
        seeds = ", ".join(str(s) for s in sorted(set(group["seed"])))
        text = f"{model} ({method}), seeds {seeds}: {'; '.join(parts) or 'no hyperparameters'}"
        yield Fact("Training", text, "fits.hparams, fits.seed")
        text = f"{model}: revision {_known(first['model_revision'])}, family {_known(first['family'])}"
        yield Fact("Training", text, "fits.model_revision")


def _environment(environments: Iterable[dict[str, Any]]) -> Iterable[Fact]:
    found, revisions = set(), set()
    for each in environments:
        libraries = ", ".join(f"{name} {version}" for name, version in each.get("libraries", {}).items())
        found.add(f"Python {_known(each.get('python'))} on {_known(each.get('os'))}; {_known(libraries)}")
        revisions.add(_known(each.get("code_revision")))
    for text in sorted(found):
        yield Fact("Environment", text, "fits.environment")
    text = f"moodbench at {_known(', '.join(sorted(revisions)))}; schema {SCHEMA_VERSION}"
    yield Fact("Environment", text, "environment.code_revision")


def _measuring(measurements: pd.DataFrame) -> Iterable[Fact]:
    if measurements.empty:
        yield Fact("Measuring", "Nothing was measured on a machine that is shown.", "measurements")
        return
    for (device, threads), group in measurements.groupby(["device_name", "num_threads"], dropna=False, sort=True):
        number = "?" if missing(threads) else f"{threads:.0f}"
        text = f"{len(group)} measurements on {_known(device)} with {number} threads"
        yield Fact("Measuring", text, "measurements.device_name")
    for protocol, group in measurements.groupby("protocol", dropna=False):
        p = _json(protocol)
        text = (
            f"{p.get('processes')} fresh processes of {p.get('requests')} requests each, one text at a time, after "
            f"{p.get('warmup_s')} s of warm-up; batches of {', '.join(map(str, p.get('batch_sizes', [])))} texts; "
            f"windows of {p.get('window_requests')} requests are judged by the time threads waited for a CPU "
            f"({len(group)} measurements{', quick' if p.get('quick') else ''})"
            if p
            else f"protocol {NOT_RECORDED} ({len(group)} measurements)"
        )
        yield Fact("Measuring", text, "measurements.protocol")
    verdicts = measurements["verdict"].fillna(NOT_RECORDED).value_counts()
    yield Fact("Measuring", ", ".join(f"{n} {v}" for v, n in verdicts.items()), "measurements.verdict")
    clean = measurements["clean_share"].dropna()
    if len(clean):
        text = f"{percent(clean.median())} % of the windows were undisturbed (median)"
        yield Fact("Measuring", text, "measurements.clean_share")


def _statistics(entries: pd.DataFrame) -> Iterable[Fact]:
    for (method, estimand), group in entries.groupby(["interval_method", "estimand"]):
        about = "these weights on new texts" if estimand == "checkpoint" else "the recipe trained again, on new texts"
        text = f"95 % intervals of accuracy by {method}, about {about} ({len(group)} rows)"
        yield Fact("Statistics", text, "derived from predictions")
    anchors = load_anchors()
    yield Fact(
        "Statistics",
        f"score: anchors version {anchors.version}, zero at {anchors.baseline}; throughput "
        f"{anchors.throughput_texts_per_s.worst:g} to {anchors.throughput_texts_per_s.best:g} texts/s, latency "
        f"{1e3 * anchors.latency_p50_s.worst:g} to {1e3 * anchors.latency_p50_s.best:g} ms, both logarithmic",
        "statistics/anchors.toml",
    )


def _json(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _known(value: Any) -> str:
    return NOT_RECORDED if missing(value) or value == "" else str(value)


def _range(values: pd.Series[Any]) -> str:
    known = values.dropna()
    if known.empty:
        return NOT_RECORDED
    low, high = int(known.min()), int(known.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
