"""A search in words and as a page."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

from moodbench.store import Store
from moodbench.tuning.records import SearchTrial
from moodbench.tuning.request import SearchRequest
from moodbench.tuning.study import expected_best, importances
from moodbench.visualization.search_figures import budget_curve, parallel_coordinates, rank_alpha_map


def search_lines(request: SearchRequest, trials: Sequence[SearchTrial], best: SearchTrial | None) -> list[str]:
    """What was tried, what it cost, the pick, what a budget was worth and which parameters mattered."""
    counts = {status: sum(t.status == status for t in trials) for status in ("finished", "stopped", "failed")}
    texts = sum(t.texts_trained for t in trials)
    full = len(trials) * request.max_texts
    lines = [
        f"{len(trials)} configurations: {counts['finished']} trained to their end, {counts['stopped']} stopped early, "
        f"{counts['failed']} failed. {texts:,} texts trained in {sum(t.train_time_s for t in trials):.0f} s of trials, "
        + (f"{100 * texts / full:.0f} % of training each to the longest end." if full else "nothing trained.")
    ]
    if best is None or best.score is None:
        return lines
    chosen = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in best.configuration.items())
    lines.append(
        f"Best on validation: {chosen}; {best.metric} {_shown(best.score, best.metric)}. The best of many is flattered "
        "by luck: the confirmation below, not this figure, says how good it is."
    )
    scores = [t.score for t in trials if t.score is not None]
    if best.metric != "nll" and len(scores) >= 4:
        curve = expected_best(scores)
        half = len(scores) // 2
        lines.append(
            f"Expected best of {half} configurations {100 * curve[half - 1]:.1f}, of {len(scores)} {100 * curve[-1]:.1f} "
            "(random draws, Dodge et al. 2019)."
        )
    found = importances(request.space, trials)
    if found:
        lines.append(
            "Importance (fANOVA, 5 to 95 % over resampled trials): "
            + "; ".join(f"{i.parameter} {i.share:.2f} [{i.low:.2f}, {i.high:.2f}]" for i in found)
            + "."
        )
    return lines


def write_search_page(store: Store, request: SearchRequest, trials: Sequence[SearchTrial]) -> str | None:
    """The key in the store of a self-contained HTML page with the figures, written anew; None with nothing to show."""
    figures = [
        figure
        for figure in (
            rank_alpha_map(trials),
            parallel_coordinates(request.space, trials),
            budget_curve(trials),
        )
        if figure is not None
    ]
    if not figures:
        return None
    title = f"Search {request.space_name} for {request.base.model.name} on {request.base.dataset.name}"
    parts = [figure.to_html(full_html=False, include_plotlyjs=number == 0) for number, figure in enumerate(figures)]
    body = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title></head>'
        f'<body style="font-family:sans-serif"><h1>{escape(title)}</h1>{"".join(parts)}</body></html>'
    )
    key = f"exports/search-{request.search_id[:12]}.html"
    with tempfile.TemporaryDirectory(dir=store.location.staging()) as folder:
        path = Path(folder) / "page.html"
        path.write_text(body, "utf-8")
        store.location.replace(path, key)
    return f"{store.uri.rstrip('/')}/{key}"


def _shown(score: float, metric: str) -> str:
    return f"{score:.3f}" if metric == "nll" else f"{100 * score:.1f}"
