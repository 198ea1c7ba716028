"""The Speed tab: latency and its spread, batches, cold start, memory, and verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from moodbench.app.html import hint, not_shown, table
from moodbench.app.shared import one_track, pinned_rows
from moodbench.app.snapshot import Reading
from moodbench.app.tab import Layout, Services, Tab
from moodbench.app.url_state import State
from moodbench.app.why_missing import why_missing
from moodbench.evaluation.measuring import used_samples
from moodbench.report import figures
from moodbench.report.charts import NoData
from moodbench.report.charts_plotly import plotly_figure
from moodbench.report.formatting import MISSING, marked, mebibytes, milliseconds, missing, percent

SHOWN = 6
COLD = {
    "cold_interpreter_s": "interpreter",
    "cold_import_s": "imports",
    "cold_load_s": "loading",
    "cold_first_label_s": "first label",
}


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab."""
    import gradio as gr

    layout.output(gr.HTML(elem_id="mb-verdicts", elem_classes="mb"))
    for title, elem in (
        ("How long does one text take?", "latency"),
        ("What do batches bring?", "batches"),
        ("How long until the first label?", "cold-start"),
        ("Where does memory go?", "memory"),
    ):
        gr.HTML(f"<h2>{title}</h2>", elem_classes="mb")
        layout.output(gr.Plot(show_label=False, container=False, elem_id=elem))
        layout.output(gr.HTML(elem_classes="mb"))


def render(reading: Reading, state: State, services: Services) -> Sequence[Any]:
    """Return the verdicts with the models not shown, and the four figures, each with the models it lacks."""
    view = reading.order(state.weights)
    rows = pinned_rows(one_track(view, state), state, SHOWN)
    measured = _measurements(reading, rows)
    why = {str(r["name"]): why_missing("latency_p50_s", r, view.failures) for _, r in rows.iterrows()}
    absent = {name: reason for name, reason in why.items() if name not in measured}
    if not measured:
        text = "None of these entries was measured on the machine shown; `moodbench run` measures what is missing."
        return [hint(text) + not_shown(absent), *[plotly_figure(NoData("Not measured")), ""] * 4]
    latencies, sweeps = {}, {}
    for name, m in measured.items():
        samples = reading.store.samples([str(m["measurement_id"])])
        single = used_samples(samples[samples["scenario"] == "single_stream"], str(m["verdict"]))
        if len(single):
            latencies[name] = single["latency_s"].to_numpy(dtype=float)
        if points := _points(m["throughput_points"]):
            sweeps[name] = points
    frame = pd.DataFrame(measured.values(), index=pd.Index(measured, name="name"))
    cold, memory = frame[list(COLD)].astype(float).rename(columns=COLD), memory_parts(frame)

    def lacking(shown: Iterable[str], reason: str) -> str:
        return not_shown(absent | {name: reason for name in measured if name not in set(shown)})

    return [
        _verdicts(measured) + not_shown(absent),
        plotly_figure(figures.latency_distribution({_marked(n, measured[n]): v for n, v in latencies.items()})),
        lacking(latencies, "no timed requests are kept that may be used"),
        plotly_figure(figures.batch_sweep({_marked(n, measured[n]): points for n, points in sweeps.items()})),
        lacking(sweeps, "no throughput was recorded"),
        plotly_figure(figures.stacked_parts(cold, "seconds from starting the process to the first label", digits=2)),
        lacking(cold.dropna().index, "a part of the start was not recorded"),
        plotly_figure(figures.stacked_parts(memory, "MiB of the whole process")),
        lacking(memory.dropna().index, "a part of the memory was not recorded"),
    ]


def _points(value: Any) -> list[Mapping[str, Any]]:
    """Return the points of a batch sweep that have a throughput."""
    return [] if _none(value) else [p for p in value if not missing(p["texts_per_s"])]


def memory_parts(measurements: pd.DataFrame) -> pd.DataFrame:
    """Return what each part adds to the process memory at its largest batch, in MiB; the parts add up to the peak."""
    m = measurements.astype(
        dict.fromkeys(
            ("memory_imports_bytes", "memory_loaded_bytes", "memory_peak_batch1_bytes", "memory_peak_bytes"), float
        )
    )
    steps = [m["memory_imports_bytes"], m["memory_loaded_bytes"], m["memory_peak_batch1_bytes"], m["memory_peak_bytes"]]
    titles = ("interpreter and libraries", "the model", "one text", "the largest batch")
    made = {}
    reached = pd.Series(0.0, index=m.index)
    for title, step in zip(titles, steps, strict=True):
        top = pd.concat([reached, step], axis=1).max(axis=1, skipna=False)
        made[title] = (top - reached) / 2**20
        reached = top
    return pd.DataFrame(made)


def _measurements(reading: Reading, rows: pd.DataFrame) -> dict[str, pd.Series[Any]]:
    """Return, by name, the measurement of each row's first measured seed."""
    known = reading.results.records.measurements.set_index("measurement_id", drop=False)
    found = {}
    for _, row in rows.iterrows():
        ids = (
            [i for i in row["measurement_ids"] if i in known.index] if isinstance(row["measurement_ids"], list) else []
        )
        if ids:
            found[str(row["name"])] = known.loc[ids[0]]
    return found


def _marked(name: str, measurement: pd.Series[Any]) -> str:
    """Return the model's name with the marks of its measurement."""
    return marked(pd.Series({"name": name, "verdict": measurement["verdict"], "quick": measurement["quick"]}))


def _verdicts(measured: dict[str, pd.Series[Any]]) -> str:
    rows = []
    for name, m in measured.items():
        causes = "" if _none(m["causes"]) else "; ".join(str(c) for c in m["causes"])
        requests = (
            MISSING if missing(m["num_requests"]) else f"{m['num_clean_requests']:,.0f} of {m['num_requests']:,.0f}"
        )
        rows.append(
            [
                _marked(name, m),
                f"{m['verdict']}: {causes}" if causes else str(m["verdict"]),
                percent(m["clean_share"]),
                requests,
                f"{milliseconds(m['latency_p50_s'])} "
                f"[{milliseconds(m['latency_p50_low_s'])}, {milliseconds(m['latency_p50_high_s'])}]",
                f"{milliseconds(m['latency_p99_s'])} "
                f"[{milliseconds(m['latency_p99_low_s'])}, {milliseconds(m['latency_p99_high_s'])}]",
                mebibytes(m["memory_peak_bytes"]),
            ]
        )
    headings = [
        "Model", "Verdict and causes", "Clean windows %", "Clean requests", "P50 ms [95 %]", "P99 ms [95 %]",
        "RAM MiB, at most",
    ]  # fmt: skip
    return table(headings, rows, "What was measured, one seed each", left=2)


def _none(value: Any) -> bool:
    return value is None or (isinstance(value, float) and pd.isna(value)) or len(value) == 0


TAB = Tab("speed", "Speed", build, render)
