"""What a search says of itself, checked by hand and by simulation."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from moodbench.config import load_catalogue
from moodbench.config.search_space import load_space
from moodbench.store import Store
from moodbench.tuning.records import SearchTrial, put_trial, search_trials, winner
from moodbench.tuning.request import budget_seconds
from moodbench.tuning.study import expected_best, importances
from moodbench.visualization.search_notes import search_notes


def trial(number: int, score: float | None, status: str = "finished", **configuration: object) -> SearchTrial:
    return SearchTrial(
        search_id="s" * 20,
        fit_id=f"fit{number:03}",
        model="MiniLM-L3",
        dataset="icwsm-movie",
        space="lora_rank_alpha",
        configuration=dict(configuration),
        status=status,  # type: ignore[arg-type]
        metric="f1_macro",
        score=score,
        texts_trained=100 * (number + 1),
        curve=((50, 0.5), (100, score or 0.0)),
        train_time_s=1.5,
        elapsed_s=float(number),
    )


def test_expected_best_equals_the_mean_over_every_possible_draw() -> None:
    scores = [0.5, 0.9, 0.7, 0.7]
    for num, found in enumerate(expected_best(scores), start=1):
        every = [max(draw) for draw in itertools.product(scores, repeat=num)]
        assert found == pytest.approx(np.mean(every))


def test_the_winner_is_a_finished_trial_and_the_cheaper_of_equals() -> None:
    assert winner([trial(0, 0.9, "stopped"), trial(2, 0.8), trial(1, 0.8), trial(3, None, "failed")]) == trial(1, 0.8)
    assert winner([trial(0, 0.9, "stopped")]) is None


def test_records_come_back_as_they_were_and_are_written_once(tmp_path: object) -> None:
    store = Store.open(str(tmp_path))
    first = trial(1, 0.8, **{"lora.r": 8, "train.learning_rate": 2e-4})
    put_trial(store, first)
    put_trial(store, trial(1, 0.1))
    put_trial(store, trial(0, None, "failed"))
    assert search_trials(store, "s" * 20) == [trial(0, None, "failed"), first]
    assert search_trials(store, "t" * 20) == []


def test_importance_goes_to_the_parameter_that_sets_the_score() -> None:
    space = load_space("lora_rank_alpha", load_catalogue().training)
    generator = np.random.default_rng(0)
    trials = []
    for number in range(40):
        rank = int(generator.choice([2, 4, 8, 16, 32, 64]))
        values = {
            "lora.r": rank,
            "lora.alpha_over_r": float(generator.choice([0.5, 1, 2, 4])),
            "train.learning_rate": float(10 ** generator.uniform(-4.3, -2.7)),
        }
        trials.append(trial(number, 0.5 + 0.05 * float(np.log2(rank)), **values))
    found = importances(space, trials)
    assert found[0].parameter == "lora.r" and found[0].share > 0.8 and found[0].low > 0.5
    assert sum(i.share for i in found) == pytest.approx(1, abs=0.1)
    assert importances(space, trials[:7]) == []


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("$5", 9000)])
def test_a_budget_in_time_or_money(text: str, seconds: float) -> None:
    assert budget_seconds(text, 2.0) == seconds


def test_a_tuned_contender_says_how_many_configurations_it_was_chosen_from() -> None:
    # 100 + 200 + 300 texts in 3 x 1.5 s; the other search's trial of the same model and data counts as well.
    behind = [trial(0, 0.8), trial(1, 0.7, "stopped"), replace(trial(2, None, "failed"), search_id="t" * 20)]
    elsewhere = replace(trial(3, 0.9), dataset="icwsm-tweets")
    shown = [("MiniLM-L3", "icwsm-movie"), ("MiniLM-L3-tuned", "icwsm-movie"), ("MiniLM-L6-tuned", "icwsm-movie")]
    assert search_notes(shown, [*behind, elsewhere]) == [
        "MiniLM-L3-tuned on icwsm-movie was chosen from 3 configurations (2 searches, validation split): 600 texts trained "
        "in 0.1 min of trials, beside its own training time."
    ]
