"""The Live tab: runs from their logs in the store, refreshed while it is open; it can also start and cancel a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

from moodbench.analysis.event_log import Job, RunProgress, current_runs, dataset_of
from moodbench.app.html import Html, asset, card, details, hint, legend, progress, table, with_store
from moodbench.app.privacy import REDACTED, MessageFilter, may_quote_private, message_filter, public_datasets
from moodbench.app.tab import Action, Layout, Services, Tab
from moodbench.app.url_state import State, clamped, read_names
from moodbench.benchmark.context import BackgroundRun
from moodbench.errors import UnknownNameError, UsageError
from moodbench.hardware import GIB
from moodbench.report.formatting import MISSING, duration
from moodbench.runtime.ray_cluster import EXCLUSIVE, ClusterSnapshot, RayNode
from moodbench.spec import spec_of_preset
from moodbench.spec.benchmark_spec import spec_from_values
from moodbench.store import Store

STATES = ("stalled", "running", "retrying", "failed", "stopped", "done", "skipped")
"""States of a job in the order in which they are listed."""
CSS = {"done": "mb-done", "skipped": "mb-done", "running": "mb-running"}
SPARK_WIDTH, SPARK_HEIGHT = 90, 20
MAX_SEEDS = 10


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab."""
    if services.runner is not None:
        _build_form(layout, services.runner)
    layout.html("mb-live", js_on_load=asset("folds.js"))


def _build_form(layout: Layout, runner: BackgroundRun) -> None:
    import gradio as gr

    models, datasets = list(runner.catalogue.models), list(runner.catalogue.datasets)
    presets = [("none: choose models and datasets", ""), *((name, name) for name in runner.catalogue.presets)]
    with gr.Accordion("Start a run", open=False, elem_id="mb-start"):
        with gr.Row():
            inputs = [
                gr.Dropdown(presets, value="", label="Preset", elem_id="run-preset", min_width=180),
                gr.Dropdown(models, multiselect=True, label="Models, instead of the preset's", elem_id="run-models",
                            min_width=240),
                gr.Dropdown(datasets, multiselect=True, label="Datasets, instead of the preset's",
                            elem_id="run-datasets", min_width=240),
                gr.Slider(0, MAX_SEEDS, value=0, step=1, label="Seeds; 0: as in the preset, or 1", elem_id="run-seeds",
                          min_width=160, buttons=[]),
            ]  # fmt: skip
        with gr.Row():
            start = gr.Button("Start", variant="primary", elem_id="run-start")
            cancel = gr.Button("Cancel", elem_id="run-cancel")
    # The timer renders the status again, but not the refusal, which the last action removes when the form changes.
    refusal = gr.HTML(elem_id="mb-refusal", elem_classes="mb")
    shown = [refusal, layout.html("mb-runner")]
    layout.actions.append(Action(shown, [start.click], inputs, _start))
    layout.actions.append(Action(shown, [cancel.click], [], _cancel))
    layout.actions.append(Action([refusal], [each.input for each in inputs], [], lambda *_: [""]))


def _start(
    store: Store, state: State, services: Services, preset: Any, models: Any, datasets: Any, num_seeds: Any
) -> list[str]:
    assert services.runner is not None
    chosen, on = read_names(models) or (), read_names(datasets) or ()
    seeds = clamped(num_seeds or 0, -1e6, 1e6)
    if not isinstance(preset, str) or (not preset and not (chosen and on)):
        raise UsageError("Nothing to run: choose a preset, or models and datasets.")
    if seeds is None or seeds not in range(MAX_SEEDS + 1):
        raise UsageError(f"Seeds: {str(num_seeds)[:20]}; allowed is a whole number from 0 to {MAX_SEEDS}.")
    catalogue = services.runner.catalogue
    for what, names, known in (("model", chosen, catalogue.models), ("dataset", on, catalogue.datasets)):
        for name in names:
            if name not in known:
                raise UnknownNameError(what, name, known)
    values = spec_values(chosen, on, int(seeds))
    if preset:
        services.runner.start(spec_of_preset(preset, services.runner.catalogue, values))
    else:
        services.runner.start(spec_from_values({"seeds": (0,), **values}, "the page"))
    return ["", runner_html(store, services)]


def spec_values(models: Sequence[str], datasets: Sequence[str], num_seeds: int) -> dict[str, Any]:
    """Return the choices in the form as values of a spec, which replace those of a preset."""
    values: dict[str, Any] = {"models": tuple(models), "datasets": tuple(datasets), "seeds": tuple(range(num_seeds))}
    return {name: value for name, value in values.items() if value}


def _cancel(store: Store, state: State, services: Services) -> list[str]:
    assert services.runner is not None
    services.runner.cancel()
    return ["", runner_html(store, services)]


def runner_html(store: Store, services: Services) -> str:
    """Return the state of the run that this page started; empty before there is one."""
    assert services.runner is not None
    state, message = services.runner.state
    if state == "idle":
        return ""
    if state == "failed" and not services.show_texts and may_quote_private(store, services.runner.catalogue):
        message = REDACTED
    kind = {"ended": "good", "failed": "warning", "cancelled": "warning"}.get(state, "plain")
    return card(f"<p><strong>Started here: {state}.</strong> {escape(message)}</p>", kind)


def render(store: Store, state: State, services: Services) -> Sequence[Any]:
    """Return the run that started last and every other active run, below the cluster where there is one."""
    cluster = None if services.cluster is None else services.cluster()
    content = "" if cluster is None else cluster_html(cluster)
    may_show = message_filter(public_datasets(store), show_texts=services.show_texts)
    start = with_store("moodbench run quickstart", store.uri)
    no_run = hint(f"No run has written to this store. Start one with: {start}")
    content += "".join(run_html(run, may_show) for run in current_runs(store)) or no_run
    return [content] if services.runner is None else [runner_html(store, services), content]


def run_html(run: RunProgress, may_show: MessageFilter) -> str:
    """Return the progress, the jobs and the last error of a run; messages only for datasets that `may_show` allows."""
    jobs = sorted(run.jobs, key=lambda job: STATES.index(job.state))
    active = [job for job in jobs if job.state not in ("done", "skipped")]
    done = [job for job in jobs if job.state in ("done", "skipped")]
    nodes = table(["Node", "Status"], list(run.nodes.items()), "Nodes", left=2) if len(run.nodes) > 1 else ""
    content = _run_card(run, may_show) + nodes + (_jobs_table(active, run, "Active", may_show) if active else "")
    if not done:
        return content
    return content + details(f"{len(done)} phases done", _jobs_table(done, run, "Done", may_show), key=run.run_id)


def _run_card(run: RunProgress, may_show: MessageFilter) -> str:
    status = "running" if run.is_active else "stopped without an end event"
    if run.ended:
        status = "cancelled" if run.cancelled else "ended"
    counts = Counter[str](job.state for job in run.jobs)
    states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "no job has started"
    took = duration(((run.ended or (run.now if run.is_active else run.last_event)) - run.started).total_seconds())
    started = f"started {run.started:%Y-%m-%d %H:%M:%S} UTC, {took}{' so far' if run.is_active else ''}"
    last = run.last_error if may_show(dataset_of(run.last_error_trial)) else run.last_error_kind
    last_error = f"<p><strong>Last error:</strong> {escape(last)}</p>" if last else ""
    is_redacted = any(job.error and not may_show(dataset_of(job.trial)) for job in run.jobs)
    share = run.num_jobs_ended / run.num_jobs if run.num_jobs else 1.0
    return card(
        f"<h3>Run {escape(run.run_id)}: {status}</h3>{progress(share, 'jobs ended')}"
        f'<p aria-live="polite">{escape(_progress_text(run))}</p><p>{escape(states)}; {started}</p>'
        f"{last_error}{legend(REDACTED) if is_redacted else ''}",
        "warning" if run.num_failed or not (run.ended or run.is_active) else "plain",
    )


def _progress_text(run: RunProgress) -> str:
    """Return the number of ended jobs and the ETA; of an active run also its queue."""
    text = f"{run.num_jobs_ended} of {run.num_jobs} jobs ended"
    if run.num_done_before:
        text += f", {run.num_done_before} phases were already in the store"
    if (left := run.remaining_run_s()) and (left[1] is None or left[1] >= 1):
        text += f"; {_range(left)} left"
    status = run.last_state if run.is_active else {}
    if status:
        waits = ", ".join(f"{n} waiting for {resource}" for resource, n in dict(status.get("blocked_on") or {}).items())
        turns = status.get("num_in_turns") or 0
        text += f"; {status.get('num_running', 0)} running"
        text += f" ({turns} measurements in turns)" if turns else ""
        text += f", {status.get('num_queued', 0)} queued" + (f" ({waits})" if waits else "")
    return text


def _jobs_table(jobs: list[Job], run: RunProgress, caption: str, may_show: MessageFilter) -> str:
    headings = ["Trial", "Phase", "State", "Progress", "Loss", "Left", "Last event", "Node", "Error"]
    return table(headings, [_job_row(job, run, may_show) for job in jobs], caption)


def _job_row(job: Job, run: RunProgress, may_show: MessageFilter) -> list[str]:
    bar = MISSING
    if job.share is not None:
        step = f" {job.step} of {job.num_steps}" if job.num_steps and job.state != "done" else ""
        bar = Html(f"{progress(job.share, f'{job.trial}, {job.phase}')}{100 * job.share:.0f} %{step}")
    ago = (run.now - job.last_event).total_seconds()
    is_active = job.state in ("running", "stalled", "retrying")
    left = run.remaining_s(job)
    message = job.error if may_show(dataset_of(job.trial)) else job.error_kind
    return [
        job.trial, job.phase, Html(f'<span class="mb-pill {CSS.get(job.state, "mb-failed")}">{job.state}</span>'), bar,
        _loss_cell(job.losses), _range(left) if left else MISSING,
        f"{duration(ago)} ago" if is_active else f"{job.last_event:%H:%M:%S}", job.node or MISSING, message or MISSING,
    ]  # fmt: skip


def _range(seconds: tuple[float, float | None]) -> str:
    if seconds[1] is None:
        return f"at least {duration(seconds[0])}"
    low, high = duration(seconds[0]), duration(seconds[1])
    return f"about {low}" if low == high else f"{low} to {high}"


def _loss_cell(losses: list[float]) -> str:
    """Return the last loss, with a sparkline of all losses."""
    if not losses:
        return MISSING
    low, high = min(losses), max(losses)
    span = (high - low) or 1.0
    step = SPARK_WIDTH / max(len(losses) - 1, 1)
    points = " ".join(
        f"{i * step:.1f},{SPARK_HEIGHT - 2 - (v - low) / span * (SPARK_HEIGHT - 4):.1f}" for i, v in enumerate(losses)
    )
    return Html(
        f'<svg class="mb-spark" width="{SPARK_WIDTH}" height="{SPARK_HEIGHT}" aria-hidden="true">'
        f'<polyline points="{points}"/></svg> {losses[-1]:.3f}'
    )


def cluster_html(cluster: ClusterSnapshot) -> str:
    """Return the nodes of a Ray cluster with their free resources, or a hint why the cluster does not answer."""
    if cluster.problem:
        return hint(f"Ray at {cluster.address} does not answer: {cluster.problem}. The runs below are read from logs.")
    rows = [
        [node.name or node.address, node.status, _free(node, "CPU"), _free(node, "memory", GIB), _free(node, "GPU"),
         _measuring(node)]
        for node in cluster.nodes
    ]  # fmt: skip
    headings = ["Node", "State", "CPUs free", "Memory free", "GPUs free", "Measuring"]
    return table(headings, rows, f"Ray at {cluster.address}", left=2)


def _free(node: RayNode, resource: str, unit: float = 1.0) -> str:
    """Return how much of a resource of a node is free; memory in GiB, when `unit` is GIB."""
    if resource not in node.resources:
        return MISSING
    free, total = (each.get(resource, 0.0) / unit for each in (node.free or {}, node.resources))
    return f"{free:.1f} of {total:.1f} GiB" if unit != 1 else f"{free:g} of {total:g}"


def _measuring(node: RayNode) -> str:
    """Return whether a measurement occupies the whole node."""
    if EXCLUSIVE not in node.resources:
        return MISSING
    return "exclusively" if (node.free or {}).get(EXCLUSIVE, 0) == 0 else "no"


TAB = Tab("live", "Live", build, render, is_live=True)
