"""Quality against memory: the front and the pick by hand, and what a slot and the searcher are told."""

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_search_analysis import trial
from test_search_engine import ended, open_search, recorded
from test_search_request import search_in

from moodbench.cli.tune import _without_score
from moodbench.report.charts_plotly import plotly_figure
from moodbench.report.search import FIGURES, budget_warning, describe_pick, findings
from moodbench.statistics.paired import paired_accuracy
from moodbench.store import Store
from moodbench.tune.result import evaluated, front, search_result, winner
from moodbench.tune.trainable import Reporter
from moodbench.tune.trials import put_trial, search_trials

MIB = 2**20


def of(number: int, score: float | None, mib: int | None, status: str = "finished"):
    return replace(trial(number, score, status), memory_bytes=None if mib is None else mib * MIB)


TRIALS = [
    of(0, 0.800, 900),
    of(1, 0.795, 700),  # the least memory within a point of 0.804
    of(2, 0.790, 500),  # 1.4 points below
    of(3, 0.804, 950),
    of(4, 0.780, 600),  # behind the third in both
    of(5, 0.900, 400, "failed"),
    of(6, 0.800, None),
]


def test_the_front_holds_what_nothing_else_beats() -> None:
    assert [t.fit_id for t in front(TRIALS)] == ["fit002", "fit001", "fit000", "fit003"]
    same = [of(0, 0.8, 500), of(1, 0.8, 500), of(2, 0.8, 600)]
    assert [t.fit_id for t in front(same)] == ["fit000"]
    assert front([of(0, 0.8, None)]) == []


def test_a_pick_by_memory_is_not_called_the_best() -> None:
    (said, by_memory, *_) = findings(replace(search_result([of(0, 0.795, 100), of(1, 0.800, 200)]), objective="memory"))
    assert said.startswith("Pick: ") and "validation f1_macro 79.5" in said and "80.0 with 200 MiB" in by_memory


def test_a_search_whose_default_is_hardly_beaten_says_why_it_is_the_pick() -> None:
    trials = [of(0, 0.800, 500), of(1, 0.808, 500)]
    (said, *_) = findings(replace(search_result(trials), default_fit_id="fit000"))
    assert said.startswith("Pick: the default recipe, ") and "The best score was 80.8, not more than 1 better" in said
    (said, *_) = findings(replace(search_result(trials), default_fit_id="fit001"))
    assert said.startswith("Best on validation: ")


def test_the_end_of_a_search_says_what_is_picked_and_how_the_other_stands_to_the_default(tmp_path: Path) -> None:
    text = "description: x\nparameters:\n  lora.r: {distribution: choice, values: [4, 8]}\n"
    request, _ = search_in(tmp_path, store=Store.open(str(tmp_path / "results")), text=text)
    default, other = (
        replace(trial(0, 0.8, **{"lora.r": 8}), fit_id=request.base.fit_id),
        trial(1, 0.805, **{"lora.r": 4}),
    )
    # 4 of 100 texts only the one has right, 5 only the other: a point less, whatever else is said of it.
    found = paired_accuracy(np.arange(100) >= 5, np.arange(100) < 96)
    low, high = f"{100 * found.low:+.1f}", f"{100 * found.high:+.1f}"
    assert (round(found.delta, 6), found.only_a, found.only_b) == (-0.01, 4, 5)
    said = f"accuracy on the test split -1.0 points to the default, 95 % interval {low} to {high}, 90 % interval from "
    assert describe_pick(request, other, other, found).startswith(f'Pick: {{"lora.r": 4}}; {said}')
    words = describe_pick(request, default, other, found)
    assert words.startswith(
        'Pick: {"lora.r": 8}, the default recipe: no configuration beat it by more than 1.0 on validation.'
    )
    assert f'The best of the others, {{"lora.r": 4}}: {said}' in words and words.endswith("does not change.")
    cut_off = describe_pick(request, replace(default, status="unfinished"), other, found)
    assert (
        "the default recipe: no training was completed, and a configuration that learns faster need not end up better. The best of"
        in cut_off
    )
    alone = describe_pick(request.model_copy(update={"objective": "memory"}), default, None, None)
    assert alone.endswith("the default recipe: of the scores near the best it takes the least memory.")


def test_the_front_is_that_of_a_search_through_all_pairs() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        drawn = [of(i, float(generator.integers(5)) / 10, int(generator.integers(1, 6))) for i in range(12)]
        beaten = {
            b.fit_id
            for a, b in itertools.permutations(drawn, 2)
            if a.score >= b.score
            and a.memory_bytes <= b.memory_bytes
            and (a.score, a.memory_bytes) != (b.score, b.memory_bytes)
        }
        left = {(t.score, t.memory_bytes) for t in drawn if t.fit_id not in beaten}
        assert [(t.score, t.memory_bytes) for t in front(drawn)] == sorted(left, key=lambda each: each[1])


def test_the_pick_by_memory_takes_the_least_within_a_point_of_the_best() -> None:
    assert winner(TRIALS, "memory") is TRIALS[1] and winner(TRIALS) is TRIALS[3]
    assert winner(TRIALS[6:], "memory") is TRIALS[6], "where no memory is known, the best"
    losses = [replace(t, metric="nll", score=1 - (t.score or 0.0)) for t in TRIALS]
    assert winner(losses, "memory") is losses[1]
    search = replace(search_result(TRIALS), objective="memory")
    assert search.best is TRIALS[1]
    said = " ".join(findings(search))
    assert "at most 1 below the best" in said and "79.0 with 500 MiB; 79.5 with 700 MiB; 80.0 with 900 MiB" in said


def test_the_front_is_drawn_with_the_pick_filled() -> None:
    line, points = plotly_figure(FIGURES["front"](replace(search_result(TRIALS), objective="memory"))).data
    assert list(line.x) == [500, 700, 900, 950] and list(line.y) == pytest.approx([79.0, 79.5, 80.0, 80.4])
    assert list(points.marker.symbol) == ["circle-open", "circle", *["circle-open"] * 3]


def test_each_report_of_a_trial_has_its_best_score_and_peak_memory_so_far(tmp_path: Path) -> None:
    request, _ = search_in(tmp_path, store=Store.open(str(tmp_path / "results")))
    reports: list[dict[str, object]] = []
    reporter = Reporter(request.fit({"lora.r": 2}), reports.append)
    for memory in (700, 500, None):
        reporter.add_memory(memory)
    for texts, score in ((32, 0.5), (64, 0.4), (64, 0.4)):
        reporter.add_point(texts, score)
    reporter.close()
    assert [(r["texts"], r["score"], r["raw_score"], r["memory_bytes"]) for r in reports] == [
        (32, 0.5, 0.5, 700),
        (64, 0.5, 0.4, 700),
    ]
    reporter.error = ("memory", "out of memory")
    reporter.close()
    assert reports[2]["error"] == ("memory", "out of memory") and reports[2]["raw_score"] is None


def test_a_searcher_by_memory_learns_both_and_has_the_same_front(tmp_path: Path) -> None:
    scores = {2: (0.70, 500), 4: (0.80, 600), 8: (0.75, 700)}
    known = [recorded(tmp_path, r, 1, score, memory=memory) for r, (score, memory) in scores.items()]
    searcher, search, study = open_search(tmp_path, num_wanted=5, known=known, objective="memory")
    point = searcher.suggest("t0")
    ended(searcher, search, point, 0.9, memory=800)
    best = {tuple(t.values) for t in study.best_trials}
    assert best == {(0.70, 500.0), (0.80, 600.0), (0.9, 800.0)}, "0.75 with 700 is behind 0.80 with 600"
    point = searcher.suggest("t1")
    ended(searcher, search, point, 0.99, memory=None)
    states = [t.state.name for t in study.trials]
    assert states[-1] == "FAIL" and set(states[:-1]) == {"COMPLETE"}, "its memory is not known"


def test_a_search_by_memory_is_another_search_and_its_trials_keep_what_they_took(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "results"))
    request, _spec = search_in(tmp_path, store=store)
    assert request.model_copy(update={"objective": "memory"}).search_id != request.search_id
    put_trial(store, TRIALS[0])
    assert [t.memory_bytes for t in search_trials(store)] == [900 * MIB]


def test_a_search_without_a_score_says_what_stopped_it() -> None:
    failed = [replace(t, status="failed", score=None, error="OutOfMemoryError: 2 GiB\nmore") for t in TRIALS[:2]]
    said = _without_score([*failed, replace(TRIALS[2], status="unfinished", score=None)], None)
    assert (
        "2 of 3 configurations tried failed" in said and "'OutOfMemoryError: 2 GiB'" in said and "--budget" not in said
    )
    assert "give a longer --budget" in _without_score([], 60.0)
    assert "--budget" not in _without_score([], None)


def test_only_what_was_evaluated_with_the_seed_is_measured() -> None:
    trials = [
        SimpleNamespace(
            fit=SimpleNamespace(seeds=SimpleNamespace(init=seed)),
            evaluate=SimpleNamespace(evaluation_id=f"{name}{seed}"),
        )
        for name in "ab"
        for seed in (0, 1)
    ]
    store = SimpleNamespace(ids=lambda kind: {"evaluations": {"a0", "a1", "b1"}}[kind])
    assert evaluated(trials, 0, store) == trials[:1]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("num_wanted", "worth", "scheduler", "said"),
    [
        (
            12,
            1.0,
            "asha",
            ("worth 1.0 trainings", "for 12 requested conf", "take 2.0 h if none were stopped early.", "--max-train"),
        ),
        (12, 1.0, "none", ("take 2.0 h. To compare",)),
        (4, 1.5, "none", ("worth 1.5 trainings", "take 26 m 40 s.")),
    ],
)
def test_a_budget_too_small_for_what_was_asked_is_said(num_wanted, worth, scheduler, said):
    words = budget_warning(num_wanted, 600.0, worth, scheduler)
    assert all(part in words for part in said), words


def test_a_budget_in_which_half_of_it_ends_is_enough():
    assert budget_warning(12, 600.0, 6.0, "asha") == "" and budget_warning(12, 600.0, 5.9, "asha")
