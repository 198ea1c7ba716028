"""Tables and sentences on calibration, pairs of models, mislabelled examples and the recommended model."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from moodbench.analysis.calibration import NO_VALIDATION, Calibration
from moodbench.analysis.mislabelled import MIN_SHARE, LabelIssues
from moodbench.analysis.recommend import Cost, Miss, Recommendation
from moodbench.report.formatting import MISSING, mebibytes, milliseconds, missing, percent
from moodbench.report.leaderboard_view import CHANCE_ONLY
from moodbench.report.notes import recipes_text
from moodbench.statistics.paired import F1Difference, PairedDifference

CALIBRATION_EXPLAINED = (
    "Brier (0 to 2, summed over classes) = MCB - DSC + UNC: miscalibration, discrimination, uncertainty (CORP). "
    "ECE: mean gap of stated probability and accuracy of the chosen label, 15 bins of equally many texts; "
    "next to it the ECE of a calibrated model, and how many seeds are above that (p at most 0.05). "
    "T: temperature fitted on validation texts, above 1 if the model was overconfident; after: test texts with it. "
    "Means over seeds; T changes no label."
)
CALIBRATION_HEADINGS = (
    "Model", "NLL", "Brier", "MCB", "DSC", "UNC", "ECE %", "if calibrated", "Above",
    "T", "NLL after", "Brier after", "ECE % after",
)  # fmt: skip
PAIR_HEADINGS = (
    "Pair",
    "Difference, points",
    "95 % interval",
    "Only first right",
    "Only second right",
    "p",
    "Detectable, points (80 % power)",
    "Verdict",
)

_VERDICTS = {
    "better": "significant",
    "worse": "significant",
    "equivalent": "equivalent within {margin}",
    "undecided": "not significant",
}
MISLABELLED_EXPLAINED = (
    f"Listed: test texts for which at least {100 * MIN_SHARE:.0f} % of the entries predict another label, with a mean "
    "probability at least that of texts with that label; the least probable given label first. "
    "Check by hand: hard texts are listed too, and errors that all entries share. "
    "Where two thirds of the raters or more gave the given label, the entries are probably wrong."
)
MISLABELLED_HEADINGS = ("Given", "Suggested", "Disagree", "Probability %", "Raters for given %")


def calibration_cells(found: Sequence[Calibration]) -> list[list[str]]:
    """Return one row of cells per entry, under `CALIBRATION_HEADINGS`."""
    return [_calibration_row(each) for each in found]


def calibration_notes(found: Sequence[Calibration]) -> list[str]:
    """Return what the columns mean, and which entries have no temperature and why."""
    without = list(dict.fromkeys(each.name for each in found if each.note))
    return [CALIBRATION_EXPLAINED, *([f"{', '.join(without)}: {NO_VALIDATION}."] if without else [])]


def _calibration_row(each: Calibration) -> list[str]:
    number = len(each.seeds)
    parts = np.mean([seed.parts for seed in each.seeds], axis=0)
    expected, high = (np.mean([getattr(seed.null, k) for seed in each.seeds]) for k in ("expected", "high"))
    before = (each.mean("nll"), each.mean("brier"), each.mean("ece"))
    after = [MISSING] * 4
    if each.note is None:
        temperatures = [seed.temperature for seed in each.seeds if seed.temperature]
        mean = float(np.exp(np.mean([np.log(t.value) for t in temperatures])))
        scored = np.mean([seed.after for seed in each.seeds if seed.after], axis=0)
        edge = " (limit)" if any(t.at_limit for t in temperatures) else ""
        after = [f"{mean:.2f}{edge}", f"{scored[0]:.3f}", f"{scored[1]:.3f}", percent(scored[2])]
    return [
        each.name,
        f"{before[0]:.3f}",
        f"{before[1]:.3f}",
        *(f"{part:.3f}" for part in parts[1:]),
        percent(before[2]),
        f"{percent(expected)}, up to {percent(high)}",
        f"{each.num_above_null} of {number}",
        *after,
    ]


def pair_sentence(
    a: str,
    b: str,
    track: str,
    difference: PairedDifference,
    f1: F1Difference | None = None,
    *,
    same_recipe: bool = False,
    undertrained: Sequence[str] = (),
) -> str:
    """Return the verdict in words: which is better and by how much, equivalence, or what would decide it.

    If one of the two is in `undertrained`, the difference is called one of recipes, and no model is called better.
    """
    low, high = 100 * difference.low, 100 * difference.high
    over = ", counted once for each seed," if difference.estimand == "recipe" else ""
    evidence = (
        f"{100 * difference.level:.0f} % interval of {a} minus {b} {low:+.1f} to {high:+.1f}, "
        f"of the {difference.estimand}s; "
        f"of {difference.num_items:,} texts{over} only {a} is right on {difference.only_a:,}, "
        f"only {b} on {difference.only_b:,}; p = {difference.p_value:.2g}"
    )
    if difference.detectable > 0:
        evidence += f"; detectable with 80 % power: {100 * difference.detectable:.1f} points"
    if f1 is not None:
        ends = "no interval with so few texts of a class"
        if f1.low is not None and f1.high is not None:
            ends = f"{100 * f1.low:+.1f} to {100 * f1.high:+.1f}"
        evidence += f"; macro-F1 {100 * f1.delta:+.1f}, {ends}, p = {f1.p_value:.2g}"
    verdict = _pair_verdict(a, b, difference, same_recipe, undertrained)
    return f"{track}: {verdict} ({evidence})."


def _pair_verdict(a: str, b: str, difference: PairedDifference, same_recipe: bool, undertrained: Sequence[str]) -> str:
    if same_recipe:
        return (
            f"{a} and {b} are trainings of one recipe: no winner is named; "
            f"retraining changed accuracy by {100 * difference.delta:+.1f} points"
        )
    higher, lower = (a, b) if difference.delta > 0 else (b, a)
    points, margin = f"{100 * abs(difference.delta):.1f} points of accuracy", _margin(difference.rope)
    if difference.verdict == "equivalent":
        verdict = f"{a} and {b} are equivalent within {margin}"
    elif difference.verdict == "undecided":
        verdict = (
            f"{a} and {b} do not differ significantly and are not shown equivalent within {margin}: "
            f"undecided, {_cure(difference)}"
        )
    elif undertrained:
        verdict = f"{higher} as trained scores {points} above {lower} as trained"
    else:
        return f"{higher} is better than {lower} by {points}"
    return "; ".join([verdict, *([recipes_text(undertrained)] if undertrained else [])])


def pair_cells(
    pairs: Sequence[tuple[str, str, PairedDifference]], undertrained: Collection[str] = ()
) -> list[list[str]]:
    """Return one row of cells per pair (a, b, a minus b in accuracy), under `PAIR_HEADINGS`.

    A pair with a model in `undertrained` is marked as a difference of recipes.
    """
    return [
        [
            f"{a} − {b}",
            f"{100 * d.delta:+.1f}",
            f"{100 * d.low:+.1f} to {100 * d.high:+.1f}",
            f"{d.only_a:,}",
            f"{d.only_b:,}",
            f"{d.p_value:.2g}",
            f"{100 * d.detectable:.1f}" if d.detectable > 0 else "—",
            _VERDICTS[d.verdict].format(margin=_margin(d.rope))
            + (" (recipes, not models)" if {a, b} & set(undertrained) else ""),
        ]
        for a, b, d in pairs
    ]


def _margin(rope: float) -> str:
    return f"{100 * rope:g} point{'' if rope == 0.01 else 's'}"


def _cure(difference: PairedDifference) -> str:
    needed = difference.num_items_needed
    if needed is None:
        return "more seeds are needed, not more texts"
    if difference.needed_at_most:
        return f"at most about {needed:,} texts would decide it (an upper limit, because they differ on few texts)"
    return f"about {needed:,} texts would decide it if the difference stays"


def mislabelled_heading(issues: LabelIssues) -> str:
    """Return the numbers of listed examples, and of those whose label most raters confirm."""
    text = f"{issues.track}: {len(issues.rows)} of {issues.num_texts:,} test texts have a doubtful label"
    if issues.num_confirmed is None:
        return text
    return f"{text}; for {issues.num_confirmed} of them most raters gave this label"


def mislabelled_cells(issues: LabelIssues, most: int) -> list[list[str]]:
    """Return the first `most` rows as cells, under `MISLABELLED_HEADINGS`."""
    return [
        [
            str(row["label"]),
            str(row["suggested"]),
            f"{row['num_wrong']} of {row['num_entries']}",
            f"{100 * row['stated']:.0f}",
            "" if pd.isna(row["raters"]) else f"{100 * row['raters']:.0f}",
        ]
        for _, row in issues.rows.head(most).iterrows()
    ]


def reason(found: Recommendation) -> str:
    """Return why the pick was picked, or why there is none, and which entries could not be compared."""
    if not found.disturbed:
        return _reason(found)
    return (
        f"{_reason(found)} Other load disturbed the clock of {', '.join(found.disturbed)}, so that this latency counts "
        "neither for nor against: measure again on a quiet machine."
    )


def _reason(found: Recommendation) -> str:
    pick, best = found.pick, found.most_accurate
    if pick is None or best is None:
        if found.num_trivial and not found.num_rows:
            return CHANCE_ONLY
        if found.num_given and not found.num_rows:
            return "No entry was run on all of these datasets: choose one of them."
        return "No entry has been evaluated here." if found.nearest is None else "No measured entry meets all limits."
    if found.num_fitting == 1:
        return "It is the only entry within the limits."
    if found.num_tied == 1:
        return "It is the most accurate entry within the limits, by a significant difference."
    if pick["name"] == best["name"]:
        others = f"{found.num_tied - 1} other{'s' if found.num_tied > 2 else ''} within the limits"
        text = f"It is the most accurate entry within the limits, not significantly ahead of {others}"
        if missing(pick["latency_compared_s"]):
            return f"{text}; which of these is the fastest was not measured."
        return f"{text}, and the fastest of these."
    if missing(best["latency_compared_s"]):  # the pick has a latency, or it would sort last
        faster = (
            f"; the speed of {best['name']} was not measured{' undisturbed' if best['name'] in found.disturbed else ''}"
        )
    else:
        faster = f", and it is {best['latency_compared_s'] / pick['latency_compared_s']:.1f} times as fast"
    return (
        f"Its accuracy does not differ significantly from that of {best['name']}, the most accurate within the limits "
        f"({percent(best['accuracy'])} %){faster}."
    )


def cost_text(cost: Cost) -> str:
    """Describe what one limit costs."""
    row = cost.row
    if cost.limit == "accuracy":
        end = "interval unknown" if missing(row["accuracy_low"]) else f"from {percent(row['accuracy_low'])} %"
        accuracy = f"accuracy {percent(row['accuracy'])} %, {end}"
        return f"{cost.gain:.1f} times as fast with less accuracy ({row['name']}: {accuracy})"
    p99 = row["latency_p99_s"] if missing(row["latency_p99_high_s"]) else row["latency_p99_high_s"]
    needed = "without that limit"
    if cost.limit == "p99_s" and not missing(p99):
        needed = f"with up to {milliseconds(p99)} ms at the 99th percentile"
    elif cost.limit == "memory_bytes" and not missing(row["memory_peak_batch1_bytes"]):
        needed = f"with {mebibytes(row['memory_peak_batch1_bytes'])} MiB"
    return f"+{100 * cost.gain:.1f} points of accuracy {needed} ({row['name']})"


def miss_text(miss: Miss) -> str:
    """Describe by how much a limit is missed."""
    if miss.limit == "accuracy":
        if pd.isna(miss.value):
            return "the interval of its accuracy is unknown"
        short = 100 * (miss.allowed - miss.value)
        return f"accuracy at least {percent(miss.value)} %, {short:.1f} points short"
    show, unit = (milliseconds, "ms at the 99th percentile") if miss.limit == "p99_s" else (mebibytes, "MiB")
    if pd.isna(miss.value):
        return f"{unit} unknown: not measured, or too few undisturbed requests"
    return f"{show(miss.value)} {unit}, {show(miss.value - miss.allowed)} over"
