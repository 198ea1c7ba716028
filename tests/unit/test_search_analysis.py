"""What a search says of itself, checked by hand and by simulation."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from moodbench.config import load_catalogue
from moodbench.config.space_file import load_space
from moodbench.report.notes import search_notes
from moodbench.store import Store
from moodbench.tune.analysis import (
    best_so_far,
    cells,
    equal_scores,
    expected_best,
    expected_curve,
    importances,
    tree_shares,
    variance_shares,
)
from moodbench.tune.encoding import Axis, axes_of, axes_seen, points
from moodbench.tune.request import budget_seconds
from moodbench.tune.result import challenger, search_result, searches, winner
from moodbench.tune.trials import SearchTrial, put_trial, search_trials


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


def test_the_winner_has_the_best_score_and_of_equals_is_finished_and_cheaper() -> None:
    assert winner([trial(2, 0.8), trial(1, 0.8), trial(0, 0.8, "stopped"), trial(3, 0.9, "failed")]) == trial(1, 0.8)
    cut = trial(0, 0.9, "unfinished")
    assert winner([trial(1, 0.8), cut, trial(2, 0.85, "stopped")]) is cut, (
        "training it further could only raise its best"
    )
    assert winner([trial(3, None, "failed")]) is None
    losses = [replace(trial(i, score), metric="nll") for i, score in enumerate((0.4, 0.3, 0.5))]
    assert winner(losses) is losses[1]


def test_the_default_trained_to_its_end_is_the_pick_unless_another_is_more_than_a_point_better() -> None:
    default, near, far = trial(1, 0.80), trial(2, 0.809), trial(3, 0.811, "stopped")
    assert winner([default, near], default=default.fit_id) is default
    assert winner([default, near, far], default=default.fit_id) is far
    assert winner([default, near]) is near, "where no request says what the default was"
    assert challenger([default, near, far], "quality", default.fit_id) is far
    assert challenger([default, near], "quality", default.fit_id) is near, (
        "also one that the default keeps from being the pick"
    )
    assert challenger([default], "quality", default.fit_id) is None
    cut = replace(default, status="stopped")
    assert winner([cut, near], default=cut.fit_id) is near, "what it would have reached is not known"
    cut_too = replace(far, score=0.85)
    assert winner([cut, cut_too], default=cut.fit_id) is cut, "who learns sooner need not end better"
    assert winner([cut_too, replace(cut, status="failed")], default=cut.fit_id) is cut_too
    losses = [replace(trial(i, score), metric="nll") for i, score in enumerate((0.400, 0.391, 0.389))]
    assert winner(losses[:2], default=losses[0].fit_id) is losses[0]
    assert winner(losses, default=losses[0].fit_id) is losses[2]


def test_records_come_back_as_they_were_and_are_written_once(tmp_path: object) -> None:
    store = Store.open(str(tmp_path))
    first = trial(1, 0.8, **{"lora.r": 8, "train.learning_rate": 2e-4})
    put_trial(store, first)
    put_trial(store, trial(1, 0.1))
    put_trial(store, trial(0, None, "failed"))
    assert search_trials(store, "s" * 20) == [trial(0, None, "failed"), first]
    assert search_trials(store, "t" * 20) == []


def test_the_band_of_the_expected_best_holds_it_and_a_loss_is_best_where_it_is_small() -> None:
    scores = [0.5, 0.9, 0.7, 0.6, 0.8]
    curve = expected_curve([trial(i, score) for i, score in enumerate(scores)])
    assert curve is not None and curve.scores.texts is None and curve.scores.cost == 300
    assert (curve.low <= curve.middle).all() and (curve.middle <= curve.high).all()
    assert curve.low[0] < 0.65 < 0.75 < curve.high[0]
    losses = expected_best(scores, -1)
    for num, found in enumerate(losses, start=1):
        assert found == pytest.approx(np.mean([min(draw) for draw in itertools.product(scores, repeat=num)]))


def test_scores_are_compared_after_as_many_texts_as_nine_tenths_of_the_trials_reached() -> None:
    def of(number: int, status: str, *scores: float) -> SearchTrial:
        curve = tuple((100 * (i + 1), score) for i, score in enumerate(scores))
        return replace(trial(number, max(scores), status), curve=curve, texts_trained=100 * len(scores))

    trials = [of(i, "stopped", 0.5 + i / 100, 0.6) for i in range(8)]
    trials += [of(8, "finished", 0.4, 0.3, 0.9), of(9, "finished", 0.7), trial(11, None, "failed")]
    equal = equal_scores(trials)
    assert equal.texts == 200 and equal.num_left_out == 0
    assert equal.scores == (*[0.6] * 7, 0.6, 0.4, 0.7), "not 0.9, and one that finished early keeps its score"
    late = equal_scores([*trials, of(12, "stopped", 0.1)])
    assert late.texts == 200 and late.num_left_out == 1, "one in eleven that was given up early costs no fidelity"
    early = equal_scores([*trials, of(12, "stopped", 0.1), of(13, "stopped", 0.2)])
    assert early.texts == 100 and early.num_left_out == 0 and early.scores[8] == 0.4


def test_best_so_far_counts_only_what_could_be_picked() -> None:
    trials = [trial(0, 0.5), trial(1, 0.9, "failed"), trial(2, 0.7, "stopped"), trial(3, 0.6)]
    assert best_so_far(trials) == [(100, 0.5), (600, 0.7), (1000, 0.7)]
    losses = [replace(t, metric="nll") for t in trials]
    assert best_so_far(losses) == [(100, 0.5), (600, 0.5), (1000, 0.5)]


def test_a_cell_has_students_interval_and_one_trial_has_none() -> None:
    two = [trial(i, score, **{"x": 1, "y": 2}) for i, score in enumerate((0.70, 0.72))]
    found = cells(equal_scores([*two, trial(2, 0.5, x=1, y=3)]), "x", "y")
    assert found[1, 3].num_trials == 1 and found[1, 3].interval is None
    # t(0.975, 1 degree of freedom) = 12.706 by any table; half the range is the standard error of two values.
    assert found[1, 2].interval == pytest.approx((0.71 - 12.706 * 0.01, 0.71 + 12.706 * 0.01), abs=1e-4)


def test_the_interval_of_a_cell_holds_only_what_a_score_can_be() -> None:
    two = [trial(i, score, **{"x": 1, "y": 2}) for i, score in enumerate((0.6, 0.8))]
    assert cells(equal_scores(two), "x", "y")[1, 2].interval == (0, 1)
    losses = [replace(t, metric="nll") for t in two]
    assert cells(equal_scores(losses), "x", "y")[1, 2].interval == (0, pytest.approx(0.7 + 12.706 * 0.1, abs=1e-3))


def test_importance_goes_to_the_parameter_that_sets_the_score() -> None:
    axes = axes_of(load_space("lora_rank_alpha", load_catalogue().training))
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
    found = importances(axes, trials, {})
    assert found[0].parameter == "lora.r" and found[0].share > 0.8 and found[0].low > 0.5
    assert sum(i.share for i in found) == pytest.approx(1, abs=0.1)
    assert importances(axes, trials[:7], {}) == []
    assert importances(axes, [replace(t, curve=((100, 0.5),), score=0.5) for t in trials], {}) == []


def test_a_conditional_parameter_has_an_importance_too() -> None:
    axes = axes_of(load_space("lora_variants", load_catalogue().training))
    generator = np.random.default_rng(1)
    trials = []
    for number in range(48):
        values = {axis.name: axis.values[int(generator.integers(len(axis.values)))] for axis in axes if axis.values}
        values["train.learning_rate"] = float(10 ** generator.uniform(-4.3, -2.7))
        if values["lora.init_lora_weights"] == "mica":
            del values["lora.use_dora"], values["lora.loraplus_lr_ratio"]
        trials.append(trial(number, 0.6 + 0.2 * bool(values.get("lora.use_dora")), **values))
    (search,) = [search_result(trials)]
    found = {i.parameter: i for i in importances(axes, trials, search.defaults)}
    assert set(found) == {axis.name for axis in axes}
    assert found["lora.use_dora"].share > 0.7 and found["lora.loraplus_lr_ratio"].share < 0.1


def test_the_shares_of_a_tree_are_those_of_the_function_that_it_is() -> None:
    from sklearn.tree import DecisionTreeRegressor

    # y = 2 [a > 1/2] + [b > 1/2] without interaction: variances 1 and 1/4 of 5/4; c does nothing.
    places = np.array(list(itertools.product([0.25, 0.75], repeat=3)))
    additive = DecisionTreeRegressor(random_state=0).fit(places, 2 * (places[:, 0] > 0.5) + (places[:, 1] > 0.5))
    assert tree_shares(additive.tree_, 3) == pytest.approx([0.8, 0.2, 0])
    # y = 1 where both are large: variance 3/16, each alone explains 1/16, the rest is interaction.
    product = DecisionTreeRegressor(random_state=0).fit(places, (places[:, :2] > 0.5).all(axis=1).astype(float))
    assert tree_shares(product.tree_, 3) == pytest.approx([1 / 3, 1 / 3, 0])
    assert tree_shares(DecisionTreeRegressor().fit(places, np.ones(8)).tree_, 3) is None


def test_importances_are_those_of_optuna() -> None:
    import optuna

    generator = np.random.default_rng(3)
    places = generator.uniform(size=(60, 3))
    scores = 2 * places[:, 0] + np.sin(6 * places[:, 1])
    study = optuna.create_study()
    flat = {name: optuna.distributions.FloatDistribution(0, 1) for name in "abc"}
    for row, score in zip(places, scores, strict=True):
        params = dict(zip("abc", map(float, row), strict=True))
        study.add_trial(optuna.trial.create_trial(params=params, distributions=flat, value=float(score)))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=32, seed=0)
    theirs = optuna.importance.get_param_importances(study, evaluator=evaluator)
    ours = variance_shares(places, scores, 32, 0)
    assert ours is not None and ours / ours.sum() == pytest.approx([theirs[name] for name in "abc"], abs=0.05)


def test_axes_without_a_request_are_what_the_trials_show() -> None:
    rates = [1e-4, 2e-4, 5e-4, 1e-3, 2e-3]
    trials = [trial(i, 0.5, **{"lora.r": 2**i, "train.learning_rate": rate}) for i, rate in enumerate(rates)]
    trials.append(trial(9, 0.5, **{"lora.r": 8, "lora.use_dora": True, "lora.alpha_over_r": 0.5}))
    found = {axis.name: axis for axis in axes_seen(trials)}
    assert found["lora.r"].values == (1, 2, 4, 8, 16) and found["lora.use_dora"].values == (True,)
    assert found["lora.alpha_over_r"].values == (0.5,)
    rate = found["train.learning_rate"]
    assert rate.values is None and rate.is_log and rate.place(1e-4) == 0 and rate.place(2e-3) == pytest.approx(1)
    assert rate.place(np.sqrt(2e-7)) == pytest.approx(0.5)
    # r has 5 places, so the third, 4, is in the middle; DoRA is not used by the first five, where the default False holds.
    rows = points([found["lora.r"], found["lora.use_dora"]], trials, {"lora.use_dora": False})
    assert rows[2] == pytest.approx([0.5, 0.75]) and rows[-1] == pytest.approx([0.7, 0.25])


def test_a_default_that_is_no_number_has_a_place_of_its_own_beside_a_range() -> None:
    # base_dropout is null where nothing sets it; here one condition switches it on for every other trial.
    space = [Axis("train.base_dropout", None, 0.0, 0.2)]
    trials = [
        trial(i, 0.5 + 0.02 * i, **({"train.base_dropout": 0.02 * i} if i % 2 else {"lora.r": 4})) for i in range(11)
    ]
    rows = [row[0] for row in points(space, trials, {"train.base_dropout": None})]
    assert rows[1] == pytest.approx(0.1 + 0.9 * 0.1) and rows[9] == pytest.approx(0.1 + 0.9 * 0.9)
    assert set(rows[::2]) == {0.05}
    (found,) = importances(space, trials, {"train.base_dropout": None})
    assert found.parameter == "train.base_dropout"


def test_a_search_is_put_together_from_its_trials_alone(tmp_path: object) -> None:
    store = Store.open(str(tmp_path))
    for each in (trial(0, 0.8, **{"lora.r": 4}), trial(1, 0.9, **{"lora.r": 8})):
        put_trial(store, each)
    put_trial(store, replace(trial(2, 0.7, **{"lora.r": 2}), search_id="a" * 20, model="MiniLM-L6"))
    first, second = searches(store)
    assert (first.model, first.best, second.num("finished")) == ("MiniLM-L3", trial(1, 0.9, **{"lora.r": 8}), 1)
    assert first.defaults["lora.use_dora"] is False and first.defaults["lora.alpha_over_r"] == 2


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("$5", 9000)])
def test_a_budget_in_time_or_money(text: str, seconds: float) -> None:
    assert budget_seconds(text, 2.0) == seconds


def test_a_tuned_entry_says_how_many_configurations_it_was_chosen_from() -> None:
    # 100 + 200 + 300 texts in 3 x 1.5 s; the other search's trial of the same model and data counts as well.
    first = search_result([trial(0, 0.8), trial(1, 0.7, "stopped")])
    second = search_result([replace(trial(2, None, "failed"), search_id="t" * 20, space="mine.yaml")])
    elsewhere = search_result([replace(trial(3, 0.9), dataset="icwsm-tweets")])
    names = ("MiniLM-L3", "MiniLM-L3-tuned-ssssss", "MiniLM-L6-tuned-ssssss", "MiniLM-L3-tuned-zzzzzz")
    shown = [(name, "icwsm-movie", name) for name in names]
    note = (
        "MiniLM-L3-tuned-ssssss on icwsm-movie was chosen from 3 configurations (2 searches of lora_rank_alpha, mine.yaml, "
        "validation split): 600 texts trained in 0.1 min of trials, beside its own training time."
    )
    assert search_notes(shown, [first, second, elsewhere]) == [note]
    again = [*shown, ("MiniLM-L3-tuned-ssssss", "icwsm-movie", "another recipe")]
    (longer,) = search_notes(again, [first, second, elsewhere])
    assert longer == f"{note} 2 configurations were tested under this name, so the best of them may be so by luck."
    stays = replace(first, default_fit_id=trial(0, 0.8).fit_id)
    (beside,) = search_notes(shown, [stays, second, elsewhere])
    assert beside == note.replace("was chosen from", "is the best after the default recipe, which remains the pick, of")
