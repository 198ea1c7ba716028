from types import SimpleNamespace

import pandas as pd
import pytest

from moodbench.analysis.recommend import Limits, recommend, ties
from moodbench.report.tables import cost_text, miss_text, reason

MIB = 2**20


def rows():
    """fast and small 80 %, middle 86 %, big 87 % and slow, unmeasured 90 %."""
    names = ["fast", "middle", "big", "unmeasured"]
    accuracy = [0.80, 0.86, 0.87, 0.90]
    return pd.DataFrame(
        {
            "name": names,
            "accuracy": accuracy,
            "accuracy_low": [a - 0.02 for a in accuracy],
            "accuracy_high": [a + 0.02 for a in accuracy],
            "latency_p50_s": [0.001, 0.010, 0.040, None],
            "latency_p99_s": [0.002, 0.020, None, None],
            "latency_p99_high_s": [0.003, 0.025, 0.100, None],
            "memory_peak_batch1_bytes": [100 * MIB, 500 * MIB, 1000 * MIB, None],
        }
    )


def pick(limits, tied=None, of=None):
    of = rows() if of is None else of
    found = recommend(of, limits, tied or ties(of, None))
    rows_of = {what: getattr(found, what) for what in ("pick", "runner_up", "nearest")}
    return SimpleNamespace(
        **{what: None if row is None else row["name"] for what, row in rows_of.items()},
        num_fitting=found.num_fitting,
        num_rows=found.num_rows,
        why=reason(found),
        costs=tuple(map(cost_text, found.costs)),
        misses=tuple(map(miss_text, found.misses)),
    )


def test_of_those_not_separated_from_the_most_accurate_the_fastest_is_picked():
    choice = pick(Limits(p99_s=0.2))  # all but unmeasured; big and middle overlap, fast does not
    assert (choice.pick, choice.runner_up, choice.num_fitting, choice.num_rows) == ("middle", "big", 3, 4)
    assert "not differ significantly from that of big" in choice.why and "4.0 times as fast" in choice.why


def test_a_separated_leader_is_picked_for_its_accuracy():
    choice = pick(Limits(p99_s=0.2), tied=lambda a, b: False)
    assert (choice.pick, choice.runner_up) == ("big", "middle")
    assert choice.why.startswith("It is the most accurate")


def test_the_unfavourable_end_of_an_interval_must_keep_to_the_limit():
    assert pick(Limits(p99_s=0.024)).pick == "fast", "middle: P99 is 20 ms, but up to 25 ms"
    assert pick(Limits(p99_s=0.025)).pick == "middle", "its upper end is within"
    assert pick(Limits(p99_s=0.1, accuracy=0.845)).pick == "big", "middle: 86 %, but from 84 %"


def test_a_withheld_percentile_is_judged_by_the_end_of_its_interval():
    assert pick(Limits(p99_s=0.1), tied=lambda a, b: False).pick == "big"
    assert pick(Limits(p99_s=0.099), tied=lambda a, b: False).pick == "middle"


def test_what_a_limit_costs_is_said_in_accuracy():
    choice = pick(Limits(p99_s=0.01, memory_bytes=600 * MIB))
    assert choice.pick == "fast"
    # Without the time limit middle (86 %) fits the memory; without the memory limit nothing else is fast enough.
    assert choice.costs == ("+6.0 points of accuracy with up to 25.0 ms at the 99th percentile (middle)",)
    choice = pick(Limits(memory_bytes=600 * MIB), of=rows().head(3))
    assert choice.costs == ("+1.0 points of accuracy with 1,000 MiB (big)",)


def test_where_nothing_fits_the_nearest_miss_is_named():
    choice = pick(Limits(p99_s=0.02, accuracy=0.82))
    assert choice.pick is None and choice.nearest == "fast", "82 / 78 is a smaller ratio than middle's 25 ms / 20 ms"
    assert choice.misses == ("accuracy at least 78.0 %, 4.0 points short",)


def test_a_limit_on_what_is_not_known_is_missed_and_says_so():
    """A P99 that is withheld for want of undisturbed requests is not a time within the limit."""
    withheld = rows().assign(latency_p99_s=None, latency_p99_high_s=None)
    choice = pick(Limits(p99_s=10.0), of=withheld)
    assert choice.pick is None and choice.nearest == "fast", "the first of the board, as all miss it alike"
    assert choice.misses == ("ms at the 99th percentile unknown: not measured, or too few undisturbed requests",)


@pytest.mark.parametrize(
    ("limits", "nearest", "misses"),
    [
        (Limits(p99_s=0.0025), "fast", ("3.00 ms at the 99th percentile, 0.500 over",)),
        (Limits(memory_bytes=80 * MIB), "fast", ("100 MiB, 20 over",)),
        (Limits(accuracy=0.95), "unmeasured", ("accuracy at least 88.0 %, 7.0 points short",)),
    ],
)
def test_a_miss_says_by_how_much(limits, nearest, misses):
    choice = pick(limits)
    assert (choice.pick, choice.nearest, choice.misses) == (None, nearest, misses)


def test_without_limits_all_evaluated_entries_fit():
    assert pick(Limits(), tied=lambda a, b: False).pick == "unmeasured"


def test_an_empty_board_has_no_answer():
    assert pick(Limits(), of=rows().head(0)).why == "No entry has been evaluated here."


def test_an_invalid_measurement_keeps_to_no_limit_and_is_not_the_fastest():
    of = rows().assign(verdict=["clean", "clean", "invalid", "clean"])
    assert pick(Limits(p99_s=0.2), tied=lambda a, b: False, of=of).pick == "middle", "big's 100 ms do not count"
    of = rows().assign(verdict=["clean", "invalid", "clean", "clean"], latency_p50_s=[0.1, 0.001, 0.04, None])
    assert pick(Limits(), tied=lambda a, b: {a, b} <= {"middle", "big", "unmeasured"}, of=of).pick == "big"


def test_the_only_one_is_called_so_and_no_data_separate_it():
    assert pick(Limits(p99_s=0.01)).why == "It is the only entry within the limits."


def test_nobody_is_the_fastest_where_nothing_was_measured():
    of = rows().assign(latency_p50_s=None)
    why = pick(Limits(), tied=lambda a, b: True, of=of).why
    assert why.endswith(
        "not significantly ahead of 3 others within the limits; which of these is the fastest was not measured."
    )


def without_interval(*names):
    """`rows`, of which these have no interval, as where several seeds have no stored predictions."""
    of = rows()
    of.loc[of["name"].isin(names), ["accuracy_low", "accuracy_high"]] = None
    return of


def test_who_has_no_interval_is_separated_from_nobody():
    choice = pick(Limits(p99_s=0.2), of=without_interval("big"))
    assert choice.pick == "fast", "of three that nothing separates the fastest"
    assert "not differ significantly from that of big" in choice.why
    assert pick(Limits(p99_s=0.2), of=without_interval("fast")).pick == "fast", "nor is it, the other way round"


def test_a_limit_on_accuracy_is_missed_by_whom_no_interval_is_known():
    choice = pick(Limits(accuracy=0.85), of=without_interval("fast", "big").head(3).drop(1))
    assert (choice.pick, choice.nearest) == (None, "fast")
    assert choice.misses == ("the interval of its accuracy is unknown",)
    assert pick(Limits(accuracy=0.85), of=without_interval("fast").head(2)).nearest == "middle", "it misses by less"
    fast = pick(Limits(p99_s=0.2, accuracy=0.835), of=without_interval("fast").head(3))
    assert fast.costs == ("10.0 times as fast with less accuracy (fast: accuracy 80.0 %, interval unknown)",)


def test_what_the_limit_on_accuracy_costs_is_said_in_speed():
    choice = pick(Limits(p99_s=0.2, accuracy=0.835), of=rows().head(3))  # middle, 10 ms; fast takes 1 ms
    assert choice.pick == "middle"
    assert choice.costs == ("10.0 times as fast with less accuracy (fast: accuracy 80.0 %, from 78.0 %)",)
    assert pick(Limits(accuracy=0.7)).costs == (), "a limit that binds nobody costs nothing"


def test_who_was_not_run_on_all_data_sets_is_neither_picked_nor_compared():
    partial = rows().assign(on_all=[True, True, False, False])
    choice = pick(Limits(), of=partial)
    assert (choice.pick, choice.runner_up, choice.num_rows) == ("middle", "fast", 2)
    none = pick(Limits(), of=partial.tail(2))
    assert none.pick is None and none.why.startswith("No entry was run on all of these datasets")
    assert pick(Limits(), of=rows().assign(on_all=None)).num_rows == 4, "rows of one dataset"


def test_what_is_no_better_than_the_majority_is_not_recommended_however_fast():
    of = rows().assign(trivial=[True, False, False, False])
    anything = pick(Limits(p99_s=0.2), tied=lambda a, b: True, of=of)
    assert (anything.pick, anything.num_rows) == ("middle", 3)
    alone = pick(Limits(), of=of.head(1))
    assert alone.pick is None and alone.why.startswith("No entry is better than always giving the most frequent label")


DISTURBED = "Other load disturbed the clock of {}, so that this latency counts neither for nor against"


def test_a_disturbed_latency_is_neither_preferred_nor_dismissed():
    of = rows().head(3).assign(provisional=[False, True, False], cpu_time_p50_s=[0.001, 0.009, 0.04])
    choice = pick(Limits(), of=of, tied=lambda a, b: True)
    assert choice.pick == "fast" and DISTURBED.format("middle") in choice.why
    of = of.assign(latency_p50_s=[0.06, 0.01, 0.04])
    choice = pick(Limits(), of=of, tied=lambda a, b: True)
    assert choice.pick == "big", "middle's 10 ms are not compared with undisturbed ones"
    assert DISTURBED.format("middle") in choice.why
    of = rows().head(3).assign(provisional=[False, False, True], cpu_time_p50_s=[0.001, 0.009, 0.002])
    choice = pick(Limits(), of=of)
    assert choice.pick == "middle" and "the speed of big was not measured undisturbed" in choice.why


def test_a_disturbed_latency_above_a_limit_is_unknown_and_one_below_is_within():
    of = rows().head(3).assign(provisional=[False, True, True])
    choice = pick(Limits(p99_s=0.030), tied=lambda a, b: False, of=of)
    assert choice.pick == "middle", "its latency was at most these 25 ms"
    assert DISTURBED.format("big") in choice.why and choice.costs == (
        "+1.0 points of accuracy without that limit (big)",
    )
    choice = pick(Limits(p99_s=0.002), of=of)
    assert choice.pick is None and DISTURBED.format("middle, big") in choice.why
    choice = pick(Limits(p99_s=0.002, accuracy=0.83), of=of)
    assert choice.nearest == "fast", "what is unknown misses the limit by more than anything known"


def test_where_all_were_disturbed_their_cpu_times_are_compared():
    of = rows().head(3).assign(provisional=True, cpu_time_p50_s=[0.002, 0.008, 0.004])
    choice = pick(Limits(), of=of)
    assert choice.pick == "big" and "Other load" not in choice.why, "4 ms of CPU time, middle 8 ms"
    of = of.assign(cpu_time_p50_s=[0.002, 0.004, 0.008])
    choice = pick(Limits(), of=of)
    assert choice.pick == "middle" and "2.0 times as fast" in choice.why


def test_a_cost_in_speed_rests_on_undisturbed_latencies():
    limits, big = Limits(accuracy=0.845), "big"
    plain = rows().head(3)
    assert pick(limits, of=plain).pick == big
    assert pick(limits, of=plain).costs == (
        "40.0 times as fast with less accuracy (fast: accuracy 80.0 %, from 78.0 %)",
    )
    choice = pick(limits, of=plain.assign(provisional=[True, False, False]))
    assert choice.costs == ("4.0 times as fast with less accuracy (middle: accuracy 86.0 %, from 84.0 %)",)
