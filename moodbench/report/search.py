"""A hyperparameter search as text and figures: scores in their unit, trials, cost, findings and pick."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from moodbench.config.search_space import ALPHA_OVER_R
from moodbench.report.charts import (
    PALETTE,
    Axis,
    Chart,
    Dimension,
    Figure,
    Heatmap,
    NoData,
    ParallelCoordinates,
    Series,
    names_axis,
)
from moodbench.report.formatting import hours
from moodbench.statistics.paired import PairedDifference
from moodbench.tune.analysis import Cell, EqualScores, best_so_far, cells, equal_scores, expected_curve, importances
from moodbench.tune.result import TOLERANCE, SearchResult, front, winner
from moodbench.tune.search import Search
from moodbench.tune.trials import SearchTrial, sign

RANK = "lora.r"
UNUSED = "not used"
"""Shown for a hyperparameter that a condition switches off."""
SELECTION_BIAS = (
    "The best of many scores is biased upwards: measure the pick by a confirmation with other seeds on the test split."
)
TITLES = {
    "map": "Validation score by rank and alpha over rank",
    "coordinates": "Configurations and their validation score",
    "budget": "Best score by budget",
    "importance": "Importance of the hyperparameters",
    "front": "Validation score and memory of training",
}
"""Figure to its heading, in display order."""
UNUSED_SHARE = 0.12
"""Lowest part of an axis, where lines of configurations that do not use the hyperparameter pass."""
NONE_COMPLETED = "no training was completed, and a configuration that learns faster need not end up better"
"""Why the default recipe stays the pick where all trainings were cut off."""


def factor(metric: str) -> float:
    """Return the factor from a score to the value shown."""
    return 1.0 if metric == "nll" else 100.0


def axis_title(metric: str) -> str:
    """Return the title of a score axis, with the unit and which end is better."""
    return "validation nll, less is better" if sign(metric) < 0 else f"validation {metric}, %"


def shown(score: float | None, metric: str) -> str:
    """Format a score as percent, or with three decimals where it is not a share."""
    if score is None:
        return "none"
    return f"{score:.3f}" if factor(metric) == 1 else f"{100 * score:.1f}"


def budget_warning(num_wanted: int, budget_s: float, num_trainings: float, scheduler: str) -> str:
    """Describe what a budget is too small for by estimate, and what to do; empty if it covers half of `num_wanted`.

    `num_trainings` is how many full trainings of the default recipe the budget allows.
    """
    if num_trainings >= num_wanted / 2:
        return ""
    return (
        f"By estimate this budget is worth {num_trainings:.1f} trainings of the default recipe, "
        f"for {num_wanted} requested configurations; "
        f"all of them would take {hours(num_wanted * budget_s / num_trainings)}"
        + (" if none were stopped early" if scheduler != "none" else "")
        + ". To compare more of them, give a longer --budget, "
        "or fewer texts with --max-train-examples and --max-validation-examples."
    )


def mib(trial: SearchTrial) -> float:
    """Return the peak memory of training in MiB, 0 where unknown."""
    return (trial.memory_bytes or 0) / 2**20


def value_text(value: Any) -> str:
    """Format the value of a hyperparameter."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def after(equal: EqualScores) -> str:
    """Describe after how many texts scores are compared."""
    if equal.texts is None:
        return "at the end of training"
    left = f"; {equal.num_left_out} that ended before are left out" if equal.num_left_out else ""
    return f"after {equal.texts:,} texts each, as many as nine tenths of the configurations reached{left}"


def cell_lines(cell: Cell, metric: str) -> list[str]:
    """Return the lines of a cell: the mean, its interval and the number of trials."""
    if cell.interval is None:
        return [shown(cell.mean, metric), "one trial,", "no interval"]
    low, high = (shown(end, metric) for end in cell.interval)
    return [shown(cell.mean, metric), f"[{low}, {high}]", f"{cell.num_trials} trials"]


def caption(key: str, search: SearchResult) -> str:
    """Return the heading of a figure and what it compares."""
    equal = equal_scores(search.trials)
    more = {
        "map": f"Scores {after(equal)}; below each mean its 95 % t interval over the trials of the cell, "
        "which differ in the other parameters",
        "coordinates": f"Scores {after(equal)}",
        "budget": "The expected best describes random draws; a guided search does better at equal cost, if it works",
        "importance": f"Scores {after(equal)}; what a condition switches off counts with its default",
        "front": "Best score and peak memory of the training process; the line joins the front, "
        "on which no other configuration is better in one and as good in the other; the filled mark is the pick",
    }
    return f"{TITLES[key]}. {more[key]}."


def cost_sentence(search: SearchResult) -> str:
    """Describe how many configurations were tried, with their status and cost."""
    texts, seconds = sum(t.texts_trained for t in search.trials), sum(t.train_time_s for t in search.trials)
    share = ""
    if search.max_texts:
        full = len(search.trials) * search.max_texts
        share = f", {100 * texts / full:.0f} % of training all of them in full"
    num, num_left = len(search.trials), search.num("unfinished")
    left = f", {num_left} unfinished" if num_left else ""
    return (
        f"{num} configuration{'s' if num != 1 else ''}: {search.num('finished')} completed, "
        f"{search.num('stopped')} stopped early, {search.num('failed')} failed{left}. {texts:,} texts trained in "
        f"{seconds:.0f} s of trials{share}."
    )


def search_sentences(search: SearchResult) -> list[str]:
    """Return sentences on what was tried, its cost, the pick, the worth of a budget and the importances."""
    return [cost_sentence(search), *findings(search)]


def findings(search: SearchResult) -> list[str]:
    """Return sentences on the pick, the worth of a budget and the importance of the hyperparameters."""
    best = search.best
    if best is None:
        return ["No configuration has a validation score, so there is no pick."]
    found = [*_pick(search, best), *_expected_best(search, best.metric)]
    shares = importances(search.axes, search.trials, search.defaults)
    if shares:
        each = "; ".join(f"{i.parameter} {i.share:.2f} [{i.low:.2f}, {i.high:.2f}]" for i in shares)
        found.append(f"Importance (fANOVA, 5 to 95 % over 100 resamples of the configurations): {each}.")
    return found


def _pick(search: SearchResult, best: SearchTrial) -> list[str]:
    chosen = ", ".join(f"{name} {value_text(value)}" for name, value in best.configuration.items())
    score = f"{best.metric} {shown(best.score, best.metric)}"
    tolerance = f"{factor(search.metric) * TOLERANCE:g}"
    ended = "" if best.status == "finished" else f" after {best.texts_trained:,} texts, not completed,"
    first = winner(search.trials)
    if search.objective == "quality" and first is not None and first is not best:
        why = f"but {NONE_COMPLETED}"
        if best.status == "finished":
            why = f"not more than {tolerance} better, which may be luck among {len(search.trials)}"
        return [
            f"Pick: the default recipe, {chosen}; validation {score}. "
            f"The best score was {shown(first.score, first.metric)}, {why}."
        ]
    if search.objective == "memory":
        points = "; ".join(f"{shown(t.score, t.metric)} with {mib(t):,.0f} MiB" for t in front(search.trials))
        return [
            f"Pick:{ended} {chosen}; validation {score}. {SELECTION_BIAS}",
            f"Picked by memory: the least among the scores at most {tolerance} below the best. "
            f"Front of score and memory of training: {points or 'no memory is known'}.",
        ]
    return [f"Best on validation:{ended} {chosen}; {score}. {SELECTION_BIAS}"]


def describe_pick(
    search: Search, best: SearchTrial, other: SearchTrial | None, difference: PairedDifference | None
) -> str:
    """Describe the pick, with the test result of the confirmed configuration against the default recipe."""
    result = None if difference is None else _describe_difference(difference)
    pick = f"Pick: {json.dumps(best.configuration)}"
    if not search.is_default(best.fit_id):
        return f"{pick}; {result}." if result else f"{pick}."
    why = f"no configuration beat it by more than {shown(TOLERANCE, best.metric)} on validation"
    if search.objective == "memory":
        why = "of the scores near the best it takes the least memory"
    elif best.status != "finished":
        why = NONE_COMPLETED
    pick = f"{pick}, the default recipe: {why}."
    if other is None or result is None:
        return pick
    return (
        f"{pick} The best of the others, {json.dumps(other.configuration)}: {result}. "
        "The pick was made on validation and does not change."
    )


def _describe_difference(difference: PairedDifference) -> str:
    """Return the difference on the test split, its interval, and the lower end of the narrower one for equivalence."""
    low, high = (f"{100 * end:+.1f}" for end in (difference.low, difference.high))
    narrow = f"{100 * max(2 * difference.level - 1, 0.01):.0f} % interval from {100 * difference.rope_low:+.1f}"
    return (
        f"accuracy on the test split {100 * difference.delta:+.1f} points to the default, "
        f"{100 * difference.level:.0f} % interval {low} to {high}, {narrow}"
    )


def _expected_best(search: SearchResult, metric: str) -> list[str]:
    curve = expected_curve(search.trials)
    if curve is None or len(curve.middle) < 4:
        return []
    at = [
        f"of {n} configurations {shown(curve.middle[n - 1], metric)} "
        f"[{shown(curve.low[n - 1], metric)}, {shown(curve.high[n - 1], metric)}]"
        for n in (len(curve.middle) // 2, len(curve.middle))
    ]
    return [
        f"Expected best {', '.join(at)}, as if drawn at random (Dodge et al. 2019; 5 to 95 % over resampled "
        f"configurations), {after(curve.scores)}."
    ]


def trial_table(search: SearchResult) -> tuple[list[str], list[list[str]]]:
    """Return the headings and rows of a table of all trials.

    The pick comes first, then the finished trials by score, then the others.
    """
    best, direction = search.best, sign(search.metric)
    order = {"finished": 0, "unfinished": 1, "stopped": 2, "failed": 3}
    trials = sorted(search.trials, key=lambda t: (t is not best, order[t.status], -direction * (t.score or 0.0)))
    names = [axis.name for axis in search.axes]
    headings = ["Ended", f"Validation {search.metric}{'' if factor(search.metric) == 1 else ' %'}", "Texts", "Seconds"]
    rows = [
        [
            t.status if t is not best else "pick" if t.status == "finished" else f"pick, {t.status}",
            shown(t.score, t.metric),
            f"{t.texts_trained:,}",
            f"{t.train_time_s:.0f}",
            *(value_text(t.configuration[name]) if name in t.configuration else UNUSED for name in names),
        ]
        for t in trials
    ]
    return [*headings, *names], rows


def rank_alpha_map(search: SearchResult) -> Heatmap | NoData:
    """Show the mean score by rank and alpha over rank, with the interval of the mean and the number of trials."""
    found = cells(equal_scores(search.trials), RANK, ALPHA_OVER_R)
    if not found:
        return NoData("The search does not try both ranks and alpha over rank")
    ranks, ratios = sorted({r for r, _ in found}), sorted({a for _, a in found})
    scale = factor(search.metric)
    return Heatmap(
        columns=list(map(str, ranks)),
        rows=list(map(str, ratios)),
        values=np.array([[scale * found[r, a].mean if (r, a) in found else np.nan for r in ranks] for a in ratios]),
        texts=[
            ["\n".join(cell_lines(found[r, a], search.metric)) if (r, a) in found else "" for r in ranks]
            for a in ratios
        ],
        x_title="rank",
        y_title="alpha / rank",
        value_title=axis_title(search.metric),
        higher_is_better=sign(search.metric) > 0,
        height=150 + 70 * len(ratios),
    )


def parallel_coordinates(search: SearchResult) -> ParallelCoordinates | NoData:
    """Show each trial as a line through its hyperparameters to its score after equally many training texts."""
    equal = equal_scores(search.trials)
    if len(equal.scores) < 2:
        return NoData("Fewer than two configurations have a score")
    dimensions = []
    for axis in search.axes:
        values = [t.configuration.get(axis.name, UNUSED) for t in equal.trials]
        used = [v for v in values if v is not UNUSED]
        if not used:
            continue
        for value in used:
            axis = axis.with_value(value)
        start = UNUSED_SHARE if len(used) < len(values) else 0.0
        places = {value: start + (1 - start) * axis.place(value) for value in used} | ({UNUSED: 0.0} if start else {})
        numbers = [value for value in used if axis.values is None and value is not None]
        ticked = [v for v in places if v not in numbers or v in (min(numbers), max(numbers))]
        ticks = {places[value]: value_text(value) for value in ticked}
        dimensions.append(Dimension(axis.name, [places[value] for value in values], ticks))
    scores = factor(search.metric) * np.array(equal.scores)
    low, high = float(scores.min()), float(scores.max())
    shares = list((scores - low) / ((high - low) or 1.0))
    dimensions.append(Dimension(axis_title(search.metric), shares, {0.0: f"{low:.4g}", 1.0: f"{high:.4g}"}))
    return ParallelCoordinates(dimensions=dimensions, higher_is_better=sign(search.metric) > 0, height=420)


def budget_curve(search: SearchResult) -> Chart | NoData:
    """Show the best score so far over texts trained, and the expected best of as many random draws."""
    scale, so_far, curve = factor(search.metric), best_so_far(search.trials), expected_curve(search.trials)
    series = []
    if curve is not None:
        series.append(
            Series(
                x=curve.scores.cost * np.arange(1, len(curve.middle) + 1),
                y=scale * curve.middle,
                name=f"expected best of random draws, {after(curve.scores).split(',')[0]}; 5 to 95 % over resamples",
                colour=PALETTE[0],
                dash="dash",
                band=(scale * curve.low, scale * curve.high),
            )
        )
    if so_far:
        spent, scores = zip(*so_far, strict=True)
        y = scale * np.array(scores)
        line = Series(x=spent, y=y, name="best so far", colour=PALETTE[1], dash="solid", steps="hv", symbol="circle")
        series.append(line)
    if not series:
        return NoData("No configuration has a score")
    furthest = 1.03 * max(max(each.x) for each in series)
    x = Axis(title="texts trained, all configurations together", range=(0, furthest))
    return Chart(series=series, x=x, y=Axis(title=axis_title(search.metric)), height=430)


def importance_intervals(search: SearchResult) -> Chart | NoData:
    """Show the share of the score's variance that each hyperparameter explains alone, with its interval."""
    found = importances(search.axes, search.trials, search.defaults)[::-1]
    if not found:
        return NoData("Fewer than 8 configurations have scores that can be compared")
    series = Series(
        x=[100 * i.share for i in found],
        y=range(len(found)),
        colour=PALETTE[0],
        symbol="circle",
        hover=[f"{i.parameter}: {100 * i.share:.0f} %" for i in found],
        x_interval=([100 * i.low for i in found], [100 * i.high for i in found]),
    )
    title = "share of the variance explained alone, % (fANOVA; 5 to 95 % over 100 resamples)"
    y = names_axis(i.parameter for i in found)
    return Chart(series=[series], x=Axis(title=title, range=(0, 101)), y=y, height=130 + 30 * len(found))


def memory_front(search: SearchResult) -> Chart | NoData:
    """Show the best score over training memory, with the Pareto front and the pick."""
    known = [t for t in search.trials if t.score is not None and t.memory_bytes and t.status != "failed"]
    if len(known) < 2:
        return NoData("Fewer than two configurations have a score and a known memory")
    scale, best, line = factor(search.metric), search.best, front(search.trials)
    configurations = [", ".join(f"{name} {value_text(v)}" for name, v in t.configuration.items()) for t in known]
    marks = Series(
        x=[mib(t) for t in known],
        y=[scale * (t.score or 0.0) for t in known],
        name="configurations, the pick filled",
        colour=PALETTE[0],
        symbol="circle",
        hollow=[t is not best for t in known],
        hover=[
            f"{mib(t):,.0f} MiB, {shown(t.score, t.metric)}<br>{configuration}"
            for t, configuration in zip(known, configurations, strict=True)
        ],
    )
    edge = Series(
        x=[mib(t) for t in line],
        y=[scale * (t.score or 0.0) for t in line],
        name="front",
        colour=PALETTE[1],
        dash="solid",
        steps="hv",
    )
    x = Axis(title="peak memory of training, MiB")
    return Chart(series=[edge, marks], x=x, y=Axis(title=axis_title(search.metric)), height=400)


FIGURES: Mapping[str, Callable[[SearchResult], Figure]] = {
    "map": rank_alpha_map,
    "coordinates": parallel_coordinates,
    "budget": budget_curve,
    "importance": importance_intervals,
    "front": memory_front,
}
"""Figure of TITLES to the function that returns it."""
