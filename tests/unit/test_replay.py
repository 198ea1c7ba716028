"""Searches played again: the accounts checked by hand, and the schedulers on curves whose outcome is known."""

from pathlib import Path

import numpy as np
import pytest
from replay_schedulers import Replay, main, read_curves, replay, replays
from scipy.stats import binom
from sklearn.metrics import f1_score

from moodbench.tune.schedulers import SCHEDULERS, chance_level, stopping_rule

RECORDED = Path(__file__).parent / "learning_curves.json"
"""Of `moodbench tune --model MiniLM-L3 --dataset icwsm-movie --scheduler none --search random --seeds 0 --max-train-examples 2000
--max-validation-examples 500`, and of the same with a copy of the space whose seed is 1 and --warm-start none; kept by
`python tools/replay_schedulers.py --store S --search ID ID --output F`. What was finished when both were stopped."""

RISING = [[(t * 100, 0.5 + level * 0.01 * t) for t in range(1, 10)] for level in range(27)]
"""27 curves that never cross; the last is the best, 0.5 + 26 x 0.09."""


def test_without_early_stopping_everything_is_trained_and_the_best_is_found() -> None:
    assert replays(RISING, lambda: None, 3, 2) == [Replay(1.0, 0.0)] * 3


def test_asha_on_one_worker_by_hand() -> None:
    # Best first: the rung at 100 texts has no one to beat at first, and then keeps only who is in the top third of those
    # that came by. 8 is the best of all, so it runs through; every later one is below the quantile and stops at 100.
    curves = [[(t * 100, 0.5 + 0.01 * level * t) for t in range(1, 10)] for level in range(9)]
    found = replay(curves, stopping_rule("asha", 900), list(range(8, -1, -1)), 1)
    assert found == Replay(pytest.approx((900 + 8 * 100) / 8100), pytest.approx(0.0))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_under_every_scheduler_something_is_trained_to_its_end(name: str) -> None:
    found = replays(RISING, lambda: stopping_rule(name, 900), 20, 2)
    assert all(np.isfinite(r.regret) and r.share <= 1 for r in found)
    assert np.mean([r.share for r in found]) < 1 or name == "none"


def test_hyperband_spares_more_trials_than_asha() -> None:
    shares = {
        name: np.mean([r.share for r in replays(RISING, lambda name=name: stopping_rule(name, 900), 40, 2)])
        for name in ("asha", "hyperband")
    }
    assert shares["asha"] < shares["hyperband"] < 1


def test_what_a_stopped_best_costs_is_the_difference_to_a_full_training_of_the_pick() -> None:
    # The late bloomer is last at the first rung, so it is stopped, and 0.9 - 0.6 is lost.
    curves = [
        [(100, 0.55), (900, 0.6)],
        [(100, 0.54), (900, 0.58)],
        [(100, 0.53), (900, 0.57)],
        [(100, 0.1), (900, 0.9)],
    ]
    found = replay(curves, stopping_rule("asha", 900), [0, 1, 2, 3], 1)
    assert found.regret == pytest.approx(0.3)


def test_the_default_stays_the_pick_unless_another_is_better_by_more_than_a_point() -> None:
    for score, lost in ((0.81, 0.01), (0.8101, 0.0)):  # 0.8 + 0.01 and a little more
        curves = [[(100, 0.5), (900, 0.8)], [(100, 0.6), (900, score)]]
        assert replay(curves, None, [0, 1], 1, default=0).regret == pytest.approx(lost)
        assert replay(curves, None, [0, 1], 1).regret == 0, "where none of them is the default"


def test_asha_saves_most_steps_where_curves_do_not_cross() -> None:
    found = replays(RISING, lambda: stopping_rule("asha", 900), 40, 2)
    assert np.mean([r.share for r in found]) < 0.5
    assert np.mean([r.regret <= 0.005 for r in found]) > 0.9


def test_what_learned_nothing_is_stopped_where_another_did_and_goes_on_where_none_did() -> None:
    rule = stopping_rule("asha", 900, chance=0.4)
    assert rule is not None

    def decided(name: str, *points: tuple[int, float]) -> list[bool]:
        return [rule.keeps(name, texts, score) for texts, score in points]

    on, stop = True, False
    assert decided("a", (100, 0.33), (200, 0.33)) == [on, on]
    assert decided("b", (100, 0.40), (200, 0.40)) == [on, on], "at chance like all before it"
    assert decided("f", (100, 0.33), (200, 0.33)) == [on, on], "answers with the rarer class: no worse than the others"
    assert decided("c", (100, 0.40), (200, 0.60)) == [on, on], "learns between the two rungs"
    assert decided("d", (100, 0.40), (200, 0.40)) == [on, stop], "as high as a quarter of the others, but c has learned"
    assert decided("e", (100, 0.40), (200, 0.65), (400, 0.65)) == [on, on, on]


def test_chance_is_what_answers_reach_that_were_given_without_reading() -> None:
    lopsided = np.repeat([0, 1], [70, 430])
    assert chance_level("accuracy", lopsided, 2) == 430 / 500, "always the frequent class"
    # Always class 1: precision 0.86, recall 1, F1 0.925 and 0 for class 0; answers with the classes' shares reach more.
    assert chance_level("f1_macro", lopsided, 2) > 0.925 / 2
    even = np.arange(500) % 2
    assert chance_level("accuracy", even, 2) == pytest.approx(binom.ppf(0.99, 500, 0.5) / 500, abs=0.003)
    assert chance_level("nll", even, 2) is None


@pytest.mark.parametrize("sizes", [(250, 250), (70, 430), (60, 200, 240)])
def test_one_in_a_hundred_sets_of_drawn_answers_has_a_higher_f1_than_chance(sizes: tuple[int, ...]) -> None:
    labels, generator = np.repeat(np.arange(len(sizes)), sizes), np.random.default_rng(5)
    chance = chance_level("f1_macro", labels, len(sizes))
    for shares in (np.full(len(sizes), 1 / len(sizes)), np.array(sizes) / sum(sizes)):
        drawn = (generator.choice(len(sizes), size=len(labels), p=shares) for _ in range(400))
        higher = sum(f1_score(labels, answers, average="macro") > chance for answers in drawn)
        assert higher <= 12, "4 of 400 are expected of the better of the two, more than 12 in 1 of 3,000 runs"
    assert chance > f1_score(labels, generator.permutation(labels), average="macro")


def test_answers_at_random_count_as_nothing_learned() -> None:
    """0.50 of a training that answers at random must not stop those that still give one answer, 0.33, and learn later."""
    chance = chance_level("f1_macro", np.arange(500) % 2, 2)
    curves = [
        [(100, 0.50), (200, 0.51), (400, 0.52), (900, 0.63)],
        [(100, 0.33), (200, 0.64), (400, 0.70), (900, 0.79)],
    ]
    assert replay(curves, stopping_rule("asha", 900, chance), [0, 1], 1).regret == 0
    assert replay(curves, stopping_rule("asha", 900, 0.34), [0, 1], 1).regret == pytest.approx(0.16)


def test_on_recorded_trainings_asha_takes_two_fifths_of_the_steps_and_picks_as_full_training_does() -> None:
    curves, chance, default = read_curves(RECORDED.read_text("utf-8"))
    assert len(curves) >= 24 and default is not None and chance == pytest.approx(0.552, abs=1e-4)
    longest = max(curve[-1][0] for curve in curves)

    def asha() -> object:
        return stopping_rule("asha", longest, chance)

    as_searched = replays(curves, asha, 200, 2, default=default)
    assert np.mean([r.share for r in as_searched]) <= 0.40
    assert np.mean([r.regret <= 0.005 for r in as_searched]) >= 0.8
    # The default recipe is the best here, so beginning with it sets the bar at once; without that more is trained.
    in_any_order = replays(curves, asha, 200, 2)
    assert np.mean([r.share for r in in_any_order]) <= 0.5
    assert np.mean([r.regret <= 0.005 for r in in_any_order]) >= 0.9


def test_the_table_of_recorded_trainings_is_printed_from_their_file(capsys: pytest.CaptureFixture[str]) -> None:
    main([str(RECORDED), "--replays", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(SCHEDULERS)
    assert lines[-1] == "| none | 100 % | 0.00 | 100 % of replays |"
