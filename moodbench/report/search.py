"""A hyperparameter search as text: scores in their unit, the table of trials, the cost and the findings."""

from __future__ import annotations

from typing import Any

from moodbench.report.formatting import hours
from moodbench.tune.analysis import Cell, EqualScores, equal_scores, expected_curve, importances
from moodbench.tune.result import TOLERANCE, SearchResult, front, winner
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


NONE_COMPLETED = "no training was completed, and a configuration that learns faster need not end up better"
"""Why the default recipe stays the pick where all trainings were cut off."""


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
