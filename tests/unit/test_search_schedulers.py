"""Rules by which a search stops trials early, also against those of Ray Tune."""

from types import SimpleNamespace

import numpy as np
import pytest

from moodbench.tune.schedulers import StoppingRule, SuccessiveHalving, add_curves, ray_scheduler, stopping_rule


@pytest.mark.parametrize("name", ["asha", "hyperband"])
@pytest.mark.parametrize("longest", [10, 64, 576, 580, 1000, 4001])
def test_nothing_is_stopped_where_its_training_ends(name: str, longest: int) -> None:
    rule = stopping_rule(name, longest)  # type: ignore[arg-type]
    assert isinstance(rule, SuccessiveHalving)
    assert all(milestone < longest for bracket in rule.brackets for milestone in bracket)


def rule_of(name: str, longest: int) -> StoppingRule:
    rule = stopping_rule(name, longest)  # type: ignore[arg-type]
    assert rule is not None
    return rule


def test_a_scheduler_that_saw_recorded_curves_stops_what_they_beat() -> None:
    rule = rule_of("asha", 900)
    add_curves(rule, [[(100, 0.8), (300, 0.9)], [(100, 0.7)]], 1)
    assert not rule.keeps("new", 100, 0.2)
    assert rule_of("asha", 900).keeps("new", 100, 0.2)


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_what_is_spared_goes_on_to_its_end_and_is_beaten_by_none_unseen(name: str) -> None:
    from ray.tune.schedulers import TrialScheduler

    rule = rule_of(name, 900)
    add_curves(rule, [[(100 * part, 0.8 + 0.01 * part) for part in range(1, 10)]] * 8, 1)
    scheduler = ray_scheduler(rule, 1, lambda config: config["name"] == "default")
    other, default = (SimpleNamespace(trial_id=name, config={"name": name}) for name in ("other", "default"))
    poor = [{"texts": 100 * part, "score": 0.3} for part in range(1, 10)]
    assert any(scheduler.on_trial_result(None, other, result) == TrialScheduler.STOP for result in poor[:-1])
    assert {scheduler.on_trial_result(None, default, result) for result in poor[:-1]} == {TrialScheduler.CONTINUE}


def test_a_lower_loss_is_better_for_a_scheduler() -> None:
    from ray.tune.schedulers import TrialScheduler

    rule = rule_of("asha", 900)
    add_curves(rule, [[(100, 0.3)], [(100, 0.4)]], -1)
    scheduler = ray_scheduler(rule, -1, lambda config: False)
    for loss, decision in ((0.2, TrialScheduler.CONTINUE), (0.5, TrialScheduler.STOP)):
        trial = SimpleNamespace(trial_id=str(loss), config={})
        assert scheduler.on_trial_result(None, trial, {"texts": 100, "score": loss}) == decision


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_recorded_curves_that_fall_behind_one_another_are_taken_in_whole(name: str) -> None:
    rule = rule_of(name, 900)
    add_curves(rule, [[(100 * part, 0.9 - 0.1 * number) for part in range(1, 10)] for number in range(6)], 1)
    assert rule.keeps("good", 200, 0.95)
    if name != "hyperband":  # which may have drawn a bracket that spares it
        assert not rule.keeps("bad", 200, 0.1)


@pytest.mark.parametrize("seed", range(5))
def test_the_rules_decide_as_those_of_ray_tune(seed: int) -> None:
    from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

    class Alike:  # what Ray's schedulers read of a trial
        def __init__(self, trial_id: str) -> None:
            self.trial_id = trial_id

    generator = np.random.default_rng(seed)
    curves = np.maximum.accumulate(generator.uniform(size=(12, 16)), axis=1)
    theirs = {
        "asha": AsyncHyperBandScheduler("texts", "score", "max", 64, 1, 4, stop_last_trials=False),
        "median": MedianStoppingRule("texts", "score", "max", 1, min_time_slice=float("inf")),
    }
    ours: dict[str, StoppingRule] = {
        "asha": SuccessiveHalving([(1, 4, 16, 64)], (1.0,), None),
        "median": rule_of("median", 9),
    }
    for name, scheduler in theirs.items():
        running = {str(number): Alike(str(number)) for number in range(len(curves))}
        for each in running.values():
            scheduler.on_trial_add(None, each)
        num_stopped = 0
        for step in range(16):
            for trial_id, each in list(running.items()):
                result = {"texts": step + 1, "score": float(curves[int(trial_id), step])}
                stops = scheduler.on_trial_result(None, each, result) == TrialScheduler.STOP
                assert ours[name].keeps(trial_id, result["texts"], result["score"]) != stops
                if stops:
                    del running[trial_id]
                    num_stopped += 1
        assert 0 < num_stopped < len(curves)


def test_what_is_spared_is_not_stopped_by_a_rung_that_its_last_batches_lie_beyond() -> None:
    from ray.tune.schedulers import TrialScheduler

    # Points at 96 and 128 texts, of curves that count a short batch as a whole one, where the longest training has 74.
    rule = rule_of("asha", 74)
    add_curves(rule, [[(32, 0.8), (64, 0.9), (96, 0.9), (128, 0.9)]] * 5, 1)
    scheduler = ray_scheduler(rule, 1, lambda config: True)
    for texts in (32, 64, 96):
        decided = scheduler.on_trial_result(
            None, SimpleNamespace(trial_id="default", config={}), {"texts": texts, "score": 0.3}
        )
        assert decided == TrialScheduler.CONTINUE
