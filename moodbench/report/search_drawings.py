"""Static figures of a search for the report, the same as those of `search_figures` for the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from moodbench.config.search_space import ALPHA_OVER_R
from moodbench.report.report_figures import BLUE, GREY, INK, ORANGE, Drawing, panel
from moodbench.report.search_words import RANK, UNUSED, after, axis_title, cell_words, factor, mib, value_words
from moodbench.tune.objectives import front
from moodbench.tune.records import sign
from moodbench.tune.result import Searched
from moodbench.tune.study import best_so_far, cells, equal_scores, expected_curve, importances


def rank_alpha_drawing(search: Searched) -> Drawing | None:
    """Plot the mean score by rank and alpha over rank; None where the search did not vary both.

    Cells show the interval of the mean and the number of trials.
    """
    equal = equal_scores(search.trials)
    found = cells(equal, RANK, ALPHA_OVER_R)
    if not found:
        return None
    ranks, ratios = sorted({r for r, _ in found}), sorted({a for _, a in found})
    figure, axes = panel(0.9 + 0.75 * len(ratios))
    axes.grid(visible=False)
    means = np.array([[found[r, a].mean if (r, a) in found else np.nan for r in ranks] for a in ratios])
    colours = "cividis" if sign(search.metric) > 0 else "cividis_r"
    drawn = axes.imshow(factor(search.metric) * means, origin="lower", aspect="auto", cmap=colours)
    middle = (np.nanmin(means) + np.nanmax(means)) / 2
    for (rank, ratio), cell in found.items():
        dark = sign(search.metric) * (cell.mean - middle) <= 0
        axes.text(
            ranks.index(rank),
            ratios.index(ratio),
            "\n".join(cell_words(cell, search.metric)),
            ha="center",
            va="center",
            fontsize=7,
            color="white" if dark else INK,
        )
    axes.set_xticks(range(len(ranks)), [str(r) for r in ranks])
    axes.set_yticks(range(len(ratios)), [str(a) for a in ratios])
    axes.set_xlabel("rank")
    axes.set_ylabel("alpha / rank")
    figure.colorbar(drawn, ax=axes, label=axis_title(search.metric))
    return Drawing(figure, f"map {search.search_id}")


def coordinates_drawing(search: Searched) -> Drawing | None:
    """Plot each trial as a line through its hyperparameters to its score; None with fewer than two scores.

    Scores are compared after equally many training texts.
    """
    equal = equal_scores(search.trials)
    if len(equal.scores) < 2:
        return None
    figure, axes = panel(3.6)
    axes.grid(visible=False)
    scores = factor(search.metric) * np.array(equal.scores)
    columns, titles = [], []
    for axis in search.axes:
        values = [t.configuration.get(axis.name, UNUSED) for t in equal.trials]
        used = [v for v in values if v is not UNUSED]
        if not used:
            continue
        some_not = len(used) < len(values)
        wider = axis
        for value in used:
            wider = wider.with_value(value)
        columns.append(
            [0.0 if v is UNUSED else 0.12 * some_not + (1 - 0.12 * some_not) * wider.place(v) for v in values]
        )
        titles.append(axis.name.replace(".", ".\n", 1))
        for value in (wider.values or (min(used), max(used))) + ((UNUSED,) if some_not else ()):
            place = 0.0 if value is UNUSED else 0.12 * some_not + (1 - 0.12 * some_not) * wider.place(value)
            words = value_words(value)
            axes.annotate(words, (len(columns) - 1, place), xytext=(3, 0), textcoords="offset points", fontsize=6.5)
    spread = float(scores.max() - scores.min()) or 1.0
    columns.append(list((scores - scores.min()) / spread))
    titles.append(axis_title(search.metric).replace(",", "\n"))
    for text, place in ((f"{scores.max():.4g}", 1.0), (f"{scores.min():.4g}", 0.0)):
        axes.annotate(text, (len(columns) - 1, place), xytext=(3, 0), textcoords="offset points", fontsize=6.5)
    from matplotlib import colormaps

    shades = colormaps["cividis" if sign(search.metric) > 0 else "cividis_r"]
    for number in np.argsort(sign(search.metric) * scores):
        line = [column[number] for column in columns]
        axes.plot(line, color=shades(float(columns[-1][number])), linewidth=1, alpha=0.8)
    for x in range(len(columns)):
        axes.axvline(x, color=GREY, linewidth=0.8)
    axes.set_xticks(range(len(columns)), titles, fontsize=7)
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.margins(x=0.06)
    return Drawing(figure, f"coordinates {search.search_id}")


def budget_drawing(search: Searched) -> Drawing | None:
    """Plot the best score so far over texts trained, and the expected best of random search; None with neither.

    The expected best is that of as many random draws.
    """
    scale, so_far, curve = factor(search.metric), best_so_far(search.trials), expected_curve(search.trials)
    if not so_far and curve is None:
        return None
    figure, axes = panel(3.4)
    if curve is not None:
        x = curve.scores.cost * np.arange(1, len(curve.middle) + 1)
        axes.fill_between(x, scale * curve.low, scale * curve.high, color=BLUE, alpha=0.2, linewidth=0)
        label = f"expected best of random draws, {after(curve.scores).split(',')[0]}; 5 to 95 % over resamples"
        axes.plot(x, scale * curve.middle, "--", color=BLUE, label=label)
    if so_far:
        spent, scores = zip(*so_far, strict=True)
        label = "best so far"
        axes.step(spent, scale * np.array(scores), "o-", where="post", color=ORANGE, markersize=4, label=label)
    axes.set_xlim(left=0)
    axes.set_xlabel("texts trained, all configurations together")
    axes.set_ylabel(axis_title(search.metric))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8)
    return Drawing(figure, f"budget {search.search_id}")


def importance_drawing(search: Searched) -> Drawing | None:
    """Plot the share of the score's variance that each hyperparameter explains alone, with its interval.

    None with too few comparable scores.
    """
    found = importances(search.axes, search.trials, search.defaults)[::-1]
    if not found:
        return None
    figure, axes = panel(0.32 * len(found) + 1.0)
    for y, each in enumerate(found):
        axes.plot([100 * each.low, 100 * each.high], [y, y], color=BLUE, linewidth=2, solid_capstyle="butt")
        axes.plot([100 * each.share], [y], "o", color=BLUE)
    axes.set_yticks(range(len(found)), [each.parameter for each in found])
    axes.set_xlim(0, 101)
    axes.set_xlabel("share of the variance explained alone, % (fANOVA; 5 to 95 % over 100 resamples)")
    return Drawing(figure, f"importance {search.search_id}")


def front_drawing(search: Searched) -> Drawing | None:
    """Plot the best score over training memory, with the Pareto front and the pick.

    None with fewer than two trials that have both.
    """
    known = [t for t in search.trials if t.score is not None and t.memory_bytes and t.status != "failed"]
    if len(known) < 2:
        return None
    figure, axes = panel(3.2)
    scale, line = factor(search.metric), front(search.trials)
    axes.step(
        [mib(t) for t in line], [scale * (t.score or 0.0) for t in line], where="post", color=ORANGE, label="front"
    )
    for trial in known:
        face = BLUE if trial is search.best else "none"
        axes.plot([mib(trial)], [scale * (trial.score or 0.0)], "o", markeredgecolor=BLUE, markerfacecolor=face)
    axes.set_xlabel("peak memory of training, MiB")
    axes.set_ylabel(axis_title(search.metric))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8)
    return Drawing(figure, f"front {search.search_id}")


DRAWN: Mapping[str, Callable[[Any], Drawing | None]] = {
    "map": rank_alpha_drawing,
    "coordinates": coordinates_drawing,
    "budget": budget_drawing,
    "importance": importance_drawing,
    "front": front_drawing,
}
"""Figure of TITLES to the function that draws it."""
