"""The Live tab: the latest run, from its log in the store; the tab refreshes itself while it is open."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from moodbench.analysis.event_log import Job, RunProgress, current_runs, dataset_of
from moodbench.app.html import card, details, hint, table, with_store
from moodbench.app.privacy import Tells, public_datasets, tells_of, untold_hint
from moodbench.app.script import FOLDS_JS
from moodbench.app.starting import build_starting, queue_html
from moodbench.app.tab import Layout, Services, Tab
from moodbench.app.url_state import State
from moodbench.report.formatting import MISSING, duration
from moodbench.runtime.ray_cluster import EXCLUSIVE
from moodbench.runtime.ray_glance import ClusterNow, NodeNow
from moodbench.schedule.resources import GIB
from moodbench.store import Store

ORDER = ("stalled", "running", "retrying", "failed", "stopped", "done", "skipped")
SPARK_WIDTH, SPARK_HEIGHT = 90, 20


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab."""
    import gradio as gr

    if services.runner is not None:
        build_starting(layout, services.runner)
    layout.output(gr.HTML(elem_id="mb-live", js_on_load=FOLDS_JS, elem_classes="mb"))


def render(store: Store, state: State, services: Services) -> Sequence[Any]:
    """Return the run that started last and every other run in progress, below the cluster where there is one."""
    runs = current_runs(store)
    none = f"No run has written to this store. Start one with: {with_store('moodbench run quickstart', store.uri)}"
    cluster = None if services.cluster is None else services.cluster()
    shown = "" if cluster is None else cluster_html(cluster)
    tells = tells_of(public_datasets(store), show_texts=services.show_texts)
    shown += "".join(run_html(run, tells) for run in runs) or hint(none)
    return [shown] if services.runner is None else [queue_html(store, services), shown]


def run_html(run: RunProgress, tells: Tells) -> str:
    """Return a run as HTML: progress, each job, and the last error; messages only for datasets that `tells` allows."""
    heading = "running" if run.is_active else "stopped without saying so"
    if run.ended:
        heading = "cancelled" if run.cancelled else "ended"
    counts = {state: sum(job.state == state for job in run.jobs) for state in ORDER}
    parts = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    share = run.num_jobs_ended / run.num_jobs if run.num_jobs else 1.0
    left = run.remaining_run_s()
    words = f"{run.num_jobs_ended} of {run.num_jobs} jobs ended"
    words += f", {run.num_done_before} phases were done before" if run.num_done_before else ""
    words += f"; {_range(left)} left" if left else ""
    words += _standing(run) if run.is_active else ""
    took = duration(((run.ended or (run.now if run.is_active else run.last_event)) - run.started).total_seconds())
    began = f"began {run.started:%Y-%m-%d %H:%M:%S} UTC, {took}{' so far' if run.is_active else ''}"
    last = run.last_error if tells(dataset_of(run.last_error_trial)) else run.last_error_kind
    error = f"<p><strong>Last error:</strong> {escape(last)}</p>" if last else ""
    error += untold_hint(any(job.error and not tells(dataset_of(job.trial)) for job in run.jobs))
    top = card(
        f"<h3>Run {escape(run.run_id)}: {heading}</h3>"
        f'<progress max="100" value="{100 * share:.0f}" aria-label="jobs ended"></progress>'
        f'<p aria-live="polite">{escape(words)}</p><p>{escape(parts or "no job has begun")}; {began}</p>{error}',
        "warning" if run.num_failed or not (run.ended or run.is_active) else "plain",
    )
    top += table(["Node", "How it stands"], list(run.nodes.items()), "Nodes", left=2) if len(run.nodes) > 1 else ""
    jobs = sorted(run.jobs, key=lambda j: ORDER.index(j.state))
    open_jobs = [j for j in jobs if j.state not in ("done", "skipped")]
    closed = [j for j in jobs if j.state in ("done", "skipped")]
    made = top + (_table(open_jobs, run, "Under way", tells) if open_jobs else "")
    if not closed:
        return made
    return made + details(f"{len(closed)} phases done", _table(closed, run, "Done", tells), key=run.run_id)


def cluster_html(cluster: ClusterNow) -> str:
    """Return the nodes of a Ray cluster with their free resources, or a hint why the cluster does not answer."""
    if cluster.problem:
        return hint(f"Ray at {cluster.address} does not tell: {cluster.problem}. What is below comes from the log.")
    rows = [
        [
            node.name or node.address,
            node.status,
            _of(node, "CPU"),
            _of(node, "memory", GIB),
            _of(node, "GPU"),
            _measured(node),
        ]
        for node in cluster.nodes
    ]
    headings = ["Node", "State", "CPUs free", "Memory free", "GPUs free", "Measures"]
    return table(headings, rows, f"Ray at {cluster.address}", left=2)


def _of(node: NodeNow, resource: str, unit: float = 1.0) -> str:
    """Return how much of a resource of a node is free; memory in GiB, when `unit` is GIB."""
    if resource not in node.total:
        return MISSING
    free, total = (each.get(resource, 0.0) / unit for each in (node.free, node.total))
    return f"{free:.1f} of {total:.1f} GiB" if unit != 1 else f"{free:g} of {total:g}"


def _measured(node: NodeNow) -> str:
    """Return whether a measurement occupies the whole node."""
    if EXCLUSIVE not in node.total:
        return MISSING
    return "alone" if node.free.get(EXCLUSIVE, 0) == 0 else "no"


def _standing(run: RunProgress) -> str:
    """Return what is running, what is queued and for which resource, and the least ETA, as the run reports them."""
    known = run.last_state
    if not known:
        return ""
    waits = ", ".join(f"{n} for {what}" for what, n in dict(known.get("blocked_on") or {}).items())
    words = f"; {known.get('num_running', 0)} running, {known.get('num_queued', 0)} queued"
    words += f" ({waits})" if waits else ""
    eta = known.get("eta_s")
    return words + (f"; at least {duration(eta)} left by its own estimate" if isinstance(eta, (int, float)) else "")


def _table(jobs: list[Job], run: RunProgress, caption: str, tells: Tells) -> str:
    headings = ["Trial", "Phase", "State", "Progress", "Loss", "Left", "Last heard", "Node", "Error"]
    return table(headings, [_row(job, run, tells) for job in jobs], caption, raw=True)


def _row(job: Job, run: RunProgress, tells: Tells) -> list[str]:
    share = job.share
    bar = MISSING
    if share is not None:
        step = f" {job.step} of {job.num_steps}" if job.num_steps and job.state != "done" else ""
        name = escape(f"{job.trial}, {job.phase}")
        bar = f'<progress max="100" value="{100 * share:.0f}" aria-label="{name}"></progress>{100 * share:.0f} %{step}'
    ago = (run.now - job.last_event).total_seconds()
    heard = f"{duration(ago)} ago" if job.state in ("running", "stalled", "retrying") else f"{job.last_event:%H:%M:%S}"
    left = run.remaining_s(job)
    error = job.error if tells(dataset_of(job.trial)) else job.error_kind
    kind = {"done": " mb-done", "skipped": " mb-done", "running": " mb-running"}.get(job.state, " mb-failed")
    return [
        escape(job.trial), escape(job.phase), f'<span class="mb-pill{kind}">{job.state}</span>', bar, _loss(job.losses),
        _range(left) if left else MISSING, heard, escape(job.node) or MISSING, escape(error) or MISSING,
    ]  # fmt: skip


def _range(seconds: tuple[float, float]) -> str:
    low, high = (duration(s) for s in seconds)
    return f"about {low}" if low == high else f"{low} to {high}"


def _loss(losses: list[float]) -> str:
    """Return the last loss, with a sparkline of all losses."""
    if not losses:
        return MISSING
    low, high = min(losses), max(losses)
    span = (high - low) or 1.0
    step = SPARK_WIDTH / max(len(losses) - 1, 1)
    points = " ".join(
        f"{i * step:.1f},{SPARK_HEIGHT - 2 - (v - low) / span * (SPARK_HEIGHT - 4):.1f}" for i, v in enumerate(losses)
    )
    return (
        f'<svg class="mb-spark" width="{SPARK_WIDTH}" height="{SPARK_HEIGHT}" aria-hidden="true">'
        f'<polyline points="{points}"/></svg> {losses[-1]:.3f}'
    )


TAB = Tab("live", "Live", build, render, needs_results=False, is_live=True)
