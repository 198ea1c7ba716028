"""The simulation that checks intervals and tests: its worlds, and a reduced table."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from moodbench.comparison.simulation import COVERS, ERRS, WILSON, Finding, as_markdown, document, simulate
from moodbench.comparison.worlds import outcomes, truth, wilson_coverage, worlds

NUM_WORLDS = 12


@pytest.fixture(scope="module")
def table():
    return simulate(NUM_WORLDS, seed=1)


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


def test_no_interval_and_no_test_is_far_from_its_level(table):
    """So few worlds find what is badly wrong; in full: python -m moodbench.comparison.simulation."""
    for f in table:
        if f.num_worlds is None:
            assert f.reached, f
            continue
        missed = round(f.num_worlds * (1 - f.share if f.kind == "covers" else f.share))
        allowed = 1 - COVERS if f.kind == "covers" else ERRS
        assert binom.sf(missed - 1, f.num_worlds, allowed) > 1e-4, f
    for kind in ("covers", "errs"):
        share = np.mean([f.share for f in table if f.kind == kind])
        assert share >= COVERS if kind == "covers" else share <= ERRS, (kind, share)


def test_a_row_that_does_not_reach_what_is_asked_is_named():
    good, bad = Finding("A", "w", "covers", 0.95, 0.1, 400), Finding("B", "v", "errs", 0.1, None, 400)
    assert (good.reached, bad.reached) == (True, False)
    assert "Not reached: B (v): 10.0 %." in document([good, bad], 0)
    assert "Every row reaches what is asked." in document([good], 0)
    assert "| A | w | covers 95 % | 95.0 % (± 1.1) | 10.0 points |" in as_markdown([good, bad])


def test_the_document_in_the_tree_has_every_row_and_reaches_what_is_asked():
    text = (Path(__file__).parents[2] / "docs" / "STATISTICS.md").read_text(encoding="utf-8")
    for row in worlds():
        assert f"| {row.what} | {row.world} |" in text, "write it again: see the command in its first lines"
    found = re.findall(r"\| (covers|errs) \d+ % \| ([\d.]+) %", text)
    assert len(found) == len(worlds()) + len(WILSON)
    reached = all(float(share) >= 93 if kind == "covers" else float(share) <= 5.6 for kind, share in found)
    assert reached == ("Every row reaches what is asked." in text)
