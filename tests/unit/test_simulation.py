"""The simulation that checks intervals and tests: its worlds, and a reduced table."""

import re
from pathlib import Path

import numpy as np
import pytest
import simulation_board_worlds as board_worlds
from scipy.stats import binom
from simulate_coverage import COVERS, ERRS, WILSON, Finding, as_markdown, document, simulate
from simulation_draws import ITEM_SD, World, outcomes, seen, truth
from simulation_worlds import wilson_coverage, worlds

from moodbench.report.tables import pair_sentence
from moodbench.statistics.intervals import Interval
from moodbench.statistics.paired import paired_accuracy

NUM_WORLDS = 60
FALSE_ALARM = 1e-3
"""Of one row that is just allowed."""


@pytest.fixture(scope="module")
def table():
    return simulate(NUM_WORLDS, seed=1, reduced=True)


def alarm(finding):
    """Whether so many misses would be seen in less than one of a thousand runs if the row were just allowed."""
    missed = round(finding.num_worlds * (1 - finding.share if finding.kind == "covers" else finding.share))
    return binom.sf(missed - 1, finding.num_worlds, 1 - COVERS if finding.kind == "covers" else ERRS) < FALSE_ALARM


def test_the_truth_of_a_simulated_world_is_its_long_run_mean():
    right = outcomes(np.random.default_rng(1), 400, 600, 2, 0.3, 1.5)
    assert right.mean() == pytest.approx(truth(0.3, 1.5), abs=0.004 + 3 * right.mean(axis=(0, 2)).std() / 20)
    lower = outcomes(np.random.default_rng(1), 400, 600, 2, 0.3, 1.5, np.full(600, 0.5))
    assert lower.mean() == pytest.approx(truth(0.3, 1.5, 0.5), abs=0.004 + 3 * lower.mean(axis=(0, 2)).std() / 20)


def test_wilson_covers_as_published():
    """Brown, Cai & DasGupta 2001: the downward spike at 0.1765 / n has the limit exp(-0.1765) = 0.838."""
    assert wilson_coverage(1000, 0.17651 / 1000)[0] == pytest.approx(0.838, abs=5e-4)
    assert wilson_coverage(1000, 0.1772 / 1000)[0] > 0.98
    # n = 10, p = 1/2: k = 2 ... 8 cover, 1 - 2 x 11 / 1024
    assert wilson_coverage(10, 0.5)[0] == pytest.approx(1 - 22 / 1024)


@pytest.mark.slow
def test_no_interval_and_no_test_is_far_from_its_level(table):
    """So few worlds find what is badly wrong; in full: python tools/simulate_coverage.py."""
    for f in table:
        assert f.reached if f.num_worlds is None else not alarm(f), f
    for kind in ("covers", "errs"):
        share = np.mean([f.share for f in table if f.kind == kind])
        assert share >= COVERS if kind == "covers" else share <= ERRS, (kind, share)


def test_a_method_that_forgets_the_seeds_or_the_other_pairs_raises_the_alarm():
    """Three trainings taken for items alone, and fifteen pairs each at 5 %: the reduced size finds both."""

    def items_alone(rng):
        means = outcomes(rng, 1000, 1, 3, 0.3, ITEM_SD)[0].mean(axis=1)
        half = 1.96 * means.std(ddof=1) / 1000**0.5
        return seen(
            Interval(means.mean(), means.mean() - half, means.mean() + half, 0.95, "", "recipe", 1000),
            truth(0.3, ITEM_SD),
        )

    def every_pair_alone(rng):
        right = outcomes(rng, 300, 6, 1, 0.0, ITEM_SD)
        return any(paired_accuracy(right[a], right[b]).p_value <= 0.05 for a in range(6) for b in range(a)), None

    for kind, once in (("covers", items_alone), ("errs", every_pair_alone)):
        row, rng = World("bad", "w", kind, once), np.random.default_rng(2)
        hits = [row.once(rng)[0] for _ in range(NUM_WORLDS)]
        assert alarm(Finding(row.what, row.world, kind, float(np.mean(hits)), None, NUM_WORLDS))


def test_ranges_of_places_that_take_speed_as_measured_raise_the_alarm(monkeypatch):
    """Where most of the weight is on speed, processes that differ by 30 % move places that a range without their noise misses."""
    monkeypatch.setattr(board_worlds, "speed_noise", lambda measured, num: np.zeros((num, len(measured), 2)))
    (row,) = (w for w in worlds() if "speed noise" in w.what and "1 seed" in w.world and "80 %" in w.world)
    rng = np.random.default_rng(2)
    hits = [row.once(rng)[0] for _ in range(NUM_WORLDS)]
    assert alarm(Finding(row.what, row.world, "covers", float(np.mean(hits)), None, NUM_WORLDS))


def test_two_trainings_of_one_recipe_never_have_a_winner_in_words():
    """A/A: 60 pairs of trainings with 4 points between one and the next; told apart or not, the sentence names none."""
    rng, apart = np.random.default_rng(3), 0
    for _ in range(NUM_WORLDS):
        found = paired_accuracy(*outcomes(rng, 1000, 2, 1, 0.3, ITEM_SD))
        apart += found.verdict in ("better", "worse")
        words = pair_sentence("a@0", "a@1", "t", found, same_recipe=True)
        assert "no winner is named" in words and "better" not in words
    assert apart > 10, "these weights do differ, and only the recipe does not"


def test_a_row_that_does_not_reach_what_is_asked_is_named():
    good, bad = Finding("A", "w", "covers", 0.95, 0.1, 400), Finding("B", "v", "errs", 0.1, None, 400)
    assert (good.reached, bad.reached) == (True, False)
    assert "Not reached: B (v): 10.0 %." in document([good, bad], 0)
    assert "Every row reaches what is asked." in document([good], 0)
    assert "| A | w | covers 95 % | 95.0 % (± 1.1) | 10.0 points |" in as_markdown([good, bad])


def test_the_document_in_the_tree_has_the_rows_of_the_table_and_reaches_what_is_asked():
    text = (Path(__file__).parents[2] / "docs" / "STATISTICS.md").read_text(encoding="utf-8")
    written = re.findall(r"^\| (.+?) \| (.+?) \| (covers|errs) \d+ % \| ([\d.]+) %", text, flags=re.M)
    known = {(row.what, row.world) for row in worlds()} | {
        ("Wilson, accuracy", f"n = {n:,}, accuracy {p}") for n, p in WILSON
    }
    assert {(what, world) for what, world, _, _ in written} == known, (
        "write it again: see the command in its first lines"
    )
    reached = all(float(share) >= 93 if kind == "covers" else float(share) <= 5.6 for _, _, kind, share in written)
    assert reached == ("Every row reaches what is asked." in text)
