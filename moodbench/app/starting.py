"""Start and cancel a run from the Live tab, where the page was opened with --allow-runs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from moodbench.app.html import card, error
from moodbench.app.privacy import UNTOLD, may_quote
from moodbench.app.tab import Layout, Services
from moodbench.app.url_state import State
from moodbench.benchmark.background_run import BackgroundRun
from moodbench.spec import spec_of_preset
from moodbench.spec.benchmark_spec import spec_from_values
from moodbench.store import Store

MOST_SEEDS = 10


def build_starting(layout: Layout, queue: BackgroundRun) -> None:
    """Create the form and its buttons."""
    import gradio as gr

    catalogue = queue.catalogue
    with gr.Accordion("Start a run", open=False, elem_id="mb-start"):
        with gr.Row():
            preset = gr.Dropdown(
                [("none: choose below", ""), *((p, p) for p in catalogue.presets)],
                value="",
                label="Preset",
                elem_id="run-preset",
                min_width=180,
            )
            models = gr.Dropdown(
                list(catalogue.models),
                multiselect=True,
                label="Models, in place of the preset's",
                elem_id="run-models",
                min_width=240,
            )
            datasets = gr.Dropdown(
                list(catalogue.datasets),
                multiselect=True,
                label="Datasets, likewise",
                elem_id="run-datasets",
                min_width=240,
            )
            seeds = gr.Slider(
                0,
                MOST_SEEDS,
                value=0,
                step=1,
                label="Seeds; 0: as the preset says, else 1",
                elem_id="run-seeds",
                min_width=160,
                buttons=[],
            )
        with gr.Row():
            start = gr.Button("Start", variant="primary", elem_id="run-start")
            cancel = gr.Button("Cancel", elem_id="run-cancel")
    told = gr.HTML(elem_id="mb-queue", elem_classes="mb")
    layout.output(told)
    layout.action(told, [start.click], [preset, models, datasets, seeds], _start)
    layout.action(told, [cancel.click], [], _cancel)


def queue_html(store: Store, services: Services) -> str:
    """Return the state of the run that this page started; empty before there is one."""
    queue = services.runner
    assert queue is not None
    state, message = queue.state
    if state == "idle":
        return ""
    if state == "failed" and not services.show_texts and may_quote(store, queue.catalogue):
        message = UNTOLD
    kind = {"ended": "good", "failed": "warning", "cancelled": "warning"}.get(state, "plain")
    return card(f"<p><strong>Started here: {state}.</strong> {escape(message)}</p>", kind)


def _start(
    store: Store,
    state: State,
    services: Services,
    preset: str,
    models: Sequence[str],
    datasets: Sequence[str],
    seeds: float,
) -> str:
    queue = services.runner
    assert queue is not None
    if not preset and not (models and datasets):
        return error("Nothing to run: choose a preset, or models and datasets.")
    values = asked(models, datasets, int(seeds))
    if preset:
        queue.start(spec_of_preset(preset, queue.catalogue, values))
    else:
        queue.start(spec_from_values({"seeds": (0,), **values}, "the page"))
    return queue_html(store, services)


def asked(models: Sequence[str], datasets: Sequence[str], num_seeds: int) -> dict[str, Any]:
    """Return the choices in the form as values of a spec, which replace those of a preset."""
    values: dict[str, Any] = {"models": tuple(models), "datasets": tuple(datasets), "seeds": tuple(range(num_seeds))}
    return {name: value for name, value in values.items() if value}


def _cancel(store: Store, state: State, services: Services) -> str:
    queue = services.runner
    assert queue is not None
    queue.cancel()
    return queue_html(store, services)
