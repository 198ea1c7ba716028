"""The Speed tab: latency and its spread, batches, cold start, memory, and verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from moodbench.app.html import hint, legend, not_shown, table
from moodbench.app.leaderboard_table import missing_reason
from moodbench.app.snapshot import Snapshot
from moodbench.app.tab import Layout, Services, Tab
from moodbench.app.url_state import State
from moodbench.evaluation.measuring import used_samples
from moodbench.report import figures
from moodbench.report.charts import NoData
from moodbench.report.formatting import MISSING, marked, mebibytes, milliseconds, missing, percent
from moodbench.store import Store

MAX_SHOWN = 6
COLD_START_PARTS = {
    "cold_interpreter_s": "interpreter",
    "cold_import_s": "imports",
    "cold_load_s": "loading",
    "cold_first_label_s": "first label",
}
MEMORY_PARTS = {
    "memory_imports_bytes": "libraries",
    "memory_loaded_bytes": "weights",
    "memory_peak_batch1_bytes": "working memory of one text",
    "memory_peak_bytes": "of the largest batch",
}
"""Column of the memory reached to what it adds to the one before."""
PLOTS = {
    "latency": "How long does one text take?",
    "batches": "How much faster are batches?",
    "cold-start": "How long until the first label?",
    "memory": "Where does memory go?",
}
HEADINGS = (
    "Model", "Verdict and causes", "Clean windows %", "Clean requests", "P50 ms [95 %]", "P99 ms [95 %]",
    "Peak RAM MiB",
)  # fmt: skip


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab."""
    layout.html("mb-verdicts")
    for key, title in PLOTS.items():
        layout.plot(key, title)
        layout.html(f"mb-{key}-legend")


def render(snapshot: Snapshot, state: State, services: Services) -> Sequence[Any]:
    """Return the verdicts with the models not shown, and the four figures, each with the models it lacks."""
    rows = snapshot.pinned_rows(state, default=MAX_SHOWN)
    measured = _measurements(snapshot, rows)
    failures = snapshot.results.records.failures
    reasons = {str(r["name"]): missing_reason("latency_p50_s", r, failures) for _, r in rows.iterrows()}
    absent = {name: reason for name, reason in reasons.items() if name not in measured}
    note = legend(snapshot.dataset_note(state))
    if not measured:
        text = "None of these entries was measured on the machine shown; `moodbench run` measures what is missing."
        return [note + hint(text) + not_shown(absent), *[NoData("Not measured"), ""] * len(PLOTS)]
    latencies = {name: samples for name, m in measured.items() if len(samples := _latencies(snapshot.store, m))}
    sweeps = {name: points for name, m in measured.items() if (points := _sweep(m["throughput_points"]))}
    frame = pd.DataFrame(measured.values(), index=pd.Index(measured, name="name"))
    cold = frame[list(COLD_START_PARTS)].astype(float).rename(columns=COLD_START_PARTS)
    memory = memory_parts(frame)

    def lacking(shown: Iterable[str], reason: str) -> str:
        return not_shown(absent | {name: reason for name in measured if name not in set(shown)})

    return [
        note + _verdicts(measured, str(rows.iloc[0]["track"])) + not_shown(absent),
        figures.latency_distribution({_marked(name, measured[name]): v for name, v in latencies.items()}),
        lacking(latencies, "no usable timed requests are stored"),
        figures.batch_sweep({_marked(name, measured[name]): points for name, points in sweeps.items()}),
        lacking(sweeps, "no throughput was recorded"),
        figures.stacked_parts(cold, "seconds from starting the process to the first label", digits=2),
        lacking(cold.dropna().index, "a part of the cold start was not recorded"),
        figures.stacked_parts(memory, "MiB of the whole process"),
        lacking(memory.dropna().index, "a part of the memory was not recorded"),
    ]


def _measurements(snapshot: Snapshot, rows: pd.DataFrame) -> dict[str, pd.Series[Any]]:
    """Return, by name, the measurement of each row's first measured seed."""
    known = snapshot.results.records.measurements.set_index("measurement_id", drop=False)
    found = {}
    for name, ids in zip(rows["name"], rows["measurement_ids"], strict=True):
        measured = [i for i in ids if i in known.index] if isinstance(ids, list) else []
        if measured:
            found[str(name)] = known.loc[measured[0]]
    return found


def _latencies(store: Store, measurement: pd.Series[Any]) -> Any:
    """Return the usable latencies of single texts, in seconds."""
    samples = store.samples([str(measurement["measurement_id"])])
    single = used_samples(samples[samples["scenario"] == "single_stream"], str(measurement["verdict"]))
    return single["latency_s"].to_numpy(dtype=float)


def _sweep(points: Any) -> list[Mapping[str, Any]]:
    return [] if _is_empty(points) else [p for p in points if not missing(p["texts_per_s"])]


def memory_parts(measurements: pd.DataFrame) -> pd.DataFrame:
    """Return what each part adds to the process memory at its largest batch, in MiB; the parts add up to the peak."""
    parts = {}
    reached = pd.Series(0.0, index=measurements.index)
    for column, title in MEMORY_PARTS.items():
        top = pd.concat([reached, measurements[column].astype(float)], axis=1).max(axis=1, skipna=False)
        parts[title] = (top - reached) / 2**20
        reached = top
    return pd.DataFrame(parts)


def _marked(name: str, measurement: pd.Series[Any]) -> str:
    return marked({"name": name, "verdict": measurement["verdict"], "quick": measurement["quick"]})


def _verdicts(measured: dict[str, pd.Series[Any]], track: str) -> str:
    rows = []
    for name, m in measured.items():
        causes = "" if _is_empty(m["causes"]) else "; ".join(str(c) for c in m["causes"])
        rows.append(
            [
                _marked(name, m),
                f"{m['verdict']}: {causes}" if causes else str(m["verdict"]),
                percent(m["clean_share"]),
                _requests(m),
                _interval_ms(m, "latency_p50"),
                _interval_ms(m, "latency_p99"),
                mebibytes(m["memory_peak_bytes"]),
            ]
        )
    return table(HEADINGS, rows, f"Measurements on {track}, one seed per model", left=2)


def _requests(measurement: pd.Series[Any]) -> str:
    clean, total = measurement["num_clean_requests"], measurement["num_requests"]
    return MISSING if missing(total) else f"{clean:,.0f} of {total:,.0f}"


def _interval_ms(measurement: pd.Series[Any], quantity: str) -> str:
    middle, low, high = (milliseconds(measurement[f"{quantity}{end}_s"]) for end in ("", "_low", "_high"))
    return f"{middle} [{low}, {high}]"


def _is_empty(values: Any) -> bool:
    return values is None or (isinstance(values, float) and pd.isna(values)) or len(values) == 0


TAB = Tab("speed", "Speed", build, render)
