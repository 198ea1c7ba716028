"""A recommendation in sentences: why this model, what the limits cost, and which limits the nearest model misses."""

from __future__ import annotations

import pandas as pd

from moodbench.analysis.recommend import Cost, Miss, Recommendation
from moodbench.report.formatting import mebibytes, milliseconds, percent


def reason(found: Recommendation) -> str:
    """Return why the pick was picked, or why there is none."""
    pick, best = found.pick, found.most_accurate
    if pick is None or best is None:
        if found.num_given and not found.num_rows:
            return "No entry was run on all of these datasets: look at one of them."
        return (
            "No entry has been evaluated here." if found.nearest is None else "No measured entry keeps to all limits."
        )
    if found.num_fitting == 1:
        return "It is the only one within the limits."
    if found.num_tied == 1:
        return "It is the most accurate of those within the limits, and the data separate it from the others."
    if pick["name"] == best["name"]:
        others = f"{found.num_tied - 1} other{'s' if found.num_tied > 2 else ''} within the limits"
        text = f"It is the most accurate of those within the limits, not separated from {others}"
        if pd.isna(pick["latency_p50_s"]):
            return f"{text}; which of these is the fastest was not measured."
        return f"{text}, and the fastest of these."
    if pd.isna(best["latency_p50_s"]):  # the pick has a latency, or it would sort last
        faster = f"; the speed of {best['name']} was not measured"
    else:
        faster = f", and it answers {best['latency_p50_s'] / pick['latency_p50_s']:.1f} times as fast"
    return (
        f"The data do not separate its accuracy from that of {best['name']}, the most accurate within the limits "
        f"({percent(best['accuracy'])} %){faster}."
    )


def cost_words(cost: Cost) -> str:
    """Describe what one limit costs."""
    row = cost.row
    if cost.limit == "accuracy":
        low = row["accuracy_low"]
        end = "its interval not known" if pd.isna(low) else f"from {percent(low)} %"
        accuracy = f"accuracy {percent(row['accuracy'])} %, {end}"
        return f"{cost.gain:.1f} times as fast with less accuracy ({row['name']}: {accuracy})"
    p99 = row["latency_p99_s"] if pd.isna(row["latency_p99_high_s"]) else row["latency_p99_high_s"]
    needed = "without that limit"
    if cost.limit == "p99_s" and not pd.isna(p99):
        needed = f"with up to {milliseconds(p99)} ms at the 99th percentile"
    elif cost.limit == "memory_bytes" and not pd.isna(row["memory_peak_batch1_bytes"]):
        needed = f"with {mebibytes(row['memory_peak_batch1_bytes'])} MiB"
    return f"+{100 * cost.gain:.1f} points of accuracy {needed} ({row['name']})"


def miss_words(miss: Miss) -> str:
    """Describe by how much a limit is missed."""
    if miss.limit == "accuracy":
        if pd.isna(miss.value):
            return "the interval of its accuracy is not known"
        short = 100 * (miss.allowed - miss.value)
        return f"accuracy at least {percent(miss.value)} %, {short:.1f} points short"
    show, unit = (milliseconds, "ms at the 99th percentile") if miss.limit == "p99_s" else (mebibytes, "MiB")
    if pd.isna(miss.value):
        return f"{unit} not known, for want of a measurement or of enough undisturbed requests"
    return f"{show(miss.value)} {unit}, {show(miss.value - miss.allowed)} over"
