"""The parts of a search without Ray's processes: what is proposed, what is stopped, what is under way."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_search_request import request_in
from test_tuning_study import trial as tried

from moodbench.config import load_catalogue
from moodbench.config.overlay import with_entry
from moodbench.config.space_file import load_space
from moodbench.config.yaml_text import load_yaml
from moodbench.errors import SpecError
from moodbench.store import Store
from moodbench.tune.callbacks import recorder
from moodbench.tune.optuna_space import DefineByRun, grid
from moodbench.tune.records import search_trials
from moodbench.tune.schedulers import PastTrial, prime, scheduler_of
from moodbench.tune.search import _values, default_of, first_points
from moodbench.tune.searcher import MEMBERS, Known, members_of, proposals
from moodbench.tune.trainable import Progress
from moodbench.tune.underway import Session, Spent, proposed, put_proposal, spent

SPACE = """description: x
parameters:
  lora.r: {distribution: power_of_two, low: 2, high: 8}
  lora.alpha_over_r: {distribution: choice, values: [1, 2]}
"""


def id_of(point):
    return f"{point['lora.r']}-{point['lora.alpha_over_r']}"


def searcher(tmp_path: Path, *, num_wanted: int, size: int = 1, known=(), metric="score", mode="max"):
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    path = tmp_path / "space.yaml"
    path.write_text(SPACE, "utf-8")
    space = load_space(str(path), load_catalogue().training)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    first = [each.configuration for each in known]
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=2)
    inner = OptunaSearch(DefineByRun(space), metric=metric, mode=mode, points_to_evaluate=first, sampler=sampler)
    made = proposals(inner, known, id_of, size=size, num_wanted=num_wanted, left=iter(grid(space)), mode="max")
    return made, inner


def ended(made, trial_id, config, score=0.5):
    """Nothing; tells the end of a trial as Ray Tune does, with flattened mappings."""
    from ray.tune.utils import flatten_dict

    told = []
    train = SimpleNamespace(select_by="f1_macro")
    fits = [SimpleNamespace(fit_id=id_of(each), train=train) for each in members_of(config)]
    progress = Progress(fits, told.append)
    for each in members_of(config):
        progress.reached(id_of(each), 32, score)
    made.on_trial_complete(trial_id, flatten_dict(told[-1]))


def test_every_point_of_a_small_space_is_proposed_once_and_then_the_search_ends(tmp_path: Path) -> None:
    from ray.tune.search import Searcher

    made, _ = searcher(tmp_path, num_wanted=100)
    seen = []
    for number in itertools.count():
        config = made.suggest(f"t{number}")
        if config == Searcher.FINISHED:
            break
        seen += [id_of(each) for each in members_of(config)]
        ended(made, f"t{number}", config, score=0.9 if seen[-1] == "8-2" else 0.1)
    assert sorted(seen) == ["2-1", "2-2", "4-1", "4-2", "8-1", "8-2"]


def test_what_a_trial_reached_is_told_to_the_searcher(tmp_path: Path) -> None:
    made, inner = searcher(tmp_path, num_wanted=5)
    reached = {}
    for number, score in enumerate((0.6, 0.9, 0.7)):
        config = made.suggest(f"t{number}")
        reached[id_of(members_of(config)[0])] = score
        ended(made, f"t{number}", config, score)
    lost = made.suggest("t3")
    made.on_trial_complete("t3", None, error=True)
    reached[id_of(members_of(lost)[0])] = None
    heard = {
        (id_of(t.params), t.value) for t in inner._ot_study.trials
    }  # a point may be proposed again, and is answered
    assert heard == set(reached.items()) and len(heard) == 4


def test_what_is_known_is_told_to_the_searcher_and_not_proposed(tmp_path: Path) -> None:
    known = [
        Known({"lora.r": 8, "lora.alpha_over_r": 2}, "8-2", {"score": 0.9}),
        Known({"lora.r": 2, "lora.alpha_over_r": 1}, "2-1", None),
    ]
    made, inner = searcher(tmp_path, num_wanted=4, known=known)
    assert inner._ot_study.best_params == {"lora.r": 8, "lora.alpha_over_r": 2}
    configs = [made.suggest(f"t{number}") for number in range(3)]
    proposed_now = {id_of(members_of(config)[0]) for config in configs[:2]}
    assert len(proposed_now) == 2 and not proposed_now & {"8-2", "2-1"}
    assert configs[2] is None, "four are known or running: nothing more until one ends"


def test_slots_of_several_hold_different_configurations_and_the_last_is_smaller(tmp_path: Path) -> None:
    from ray.tune.search import Searcher

    made, _ = searcher(tmp_path, num_wanted=5, size=3)
    first, second = made.suggest("a"), made.suggest("b")
    assert [len(members_of(first)), len(members_of(second))] == [3, 2]
    every = [id_of(each) for config in (first, second) for each in members_of(config)]
    assert len(set(every)) == 5
    ended(made, "a", first)
    made.on_trial_complete("b", None, error=True)
    assert made.suggest("c") == Searcher.FINISHED


@pytest.mark.parametrize("name", ["asha", "hyperband"])
@pytest.mark.parametrize("longest", [10, 64, 576, 580, 1000, 4001])
def test_nothing_is_stopped_where_its_training_ends(name: str, longest: int) -> None:
    for bracket in scheduler_of(name, longest, "max")._brackets:  # type: ignore[arg-type]
        assert all(milestone < longest for milestone, _ in bracket._rungs)


def test_a_scheduler_that_saw_recorded_curves_stops_what_they_beat() -> None:
    from ray.tune.schedulers import TrialScheduler

    scheduler = scheduler_of("asha", 900, "max")
    bad = PastTrial("new")
    prime(scheduler, [[(100, 0.8), (300, 0.9)], [(100, 0.7)]], 1)
    scheduler.on_trial_add(None, bad)
    assert scheduler.on_trial_result(None, bad, {"texts": 100, "score": 0.2}) == TrialScheduler.STOP
    fresh = scheduler_of("asha", 900, "max")
    fresh.on_trial_add(None, bad)
    assert fresh.on_trial_result(None, bad, {"texts": 100, "score": 0.2}) == TrialScheduler.CONTINUE


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_what_is_spared_goes_on_to_its_end_and_is_beaten_by_none_unseen(name: str) -> None:
    from ray.tune.schedulers import TrialScheduler

    scheduler = scheduler_of(name, 900, "max", spares=lambda trial: trial.trial_id == "default")  # type: ignore[arg-type]
    good = [[(100 * part, 0.8 + 0.01 * part) for part in range(1, 10)]] * 8
    prime(scheduler, good, 1)
    other, default = PastTrial("other"), PastTrial("default")
    for trial in (other, default):
        scheduler.on_trial_add(None, trial)
    poor = [{"texts": 100 * part, "score": 0.3} for part in range(1, 10)]
    assert any(scheduler.on_trial_result(None, other, result) == TrialScheduler.STOP for result in poor[:-1])
    assert {scheduler.on_trial_result(None, default, result) for result in poor[:-1]} == {TrialScheduler.CONTINUE}


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_recorded_curves_that_fall_behind_one_another_are_taken_in_whole(name: str) -> None:
    from ray.tune.schedulers import TrialScheduler

    scheduler = scheduler_of(name, 900, "max")  # type: ignore[arg-type]
    prime(scheduler, [[(100 * part, 0.9 - 0.1 * number) for part in range(1, 10)] for number in range(6)], 1)
    good, bad = PastTrial("good"), PastTrial("bad")
    for trial in (good, bad):
        scheduler.on_trial_add(None, trial)
    assert scheduler.on_trial_result(None, good, {"texts": 200, "score": 0.95}) == TrialScheduler.CONTINUE
    if name != "hyperband":  # which may have drawn a bracket that spares it
        assert scheduler.on_trial_result(None, bad, {"texts": 200, "score": 0.1}) == TrialScheduler.STOP


def test_what_is_spared_is_not_stopped_by_a_rung_that_its_last_batches_lie_beyond() -> None:
    from ray.tune.schedulers import TrialScheduler

    # Points at 96 and 128 texts, of curves that count a short batch as a whole one, where the longest training has 74.
    scheduler = scheduler_of("asha", 74, "max", spares=lambda trial: trial.trial_id == "default")
    prime(scheduler, [[(32, 0.8), (64, 0.9), (96, 0.9), (128, 0.9)]] * 5, 1)
    default = PastTrial("default")
    scheduler.on_trial_add(None, default)
    for texts in (32, 64, 96):
        decided = scheduler.on_trial_result(None, default, {"texts": texts, "score": 0.3})
        assert decided == TrialScheduler.CONTINUE


def test_a_fit_that_is_in_the_store_is_recorded_whole_though_a_scheduler_stops_it_while_it_is_told(
    tmp_path: Path,
) -> None:
    store = Store.open(str(tmp_path / "results"))
    request, _ = request_in(tmp_path, store=store, train={"min_steps": 0})
    configuration = first_points(request, [], [])[0]
    fit_id = request.fit(configuration).fit_id
    curve = [{"step": step, "validation_score": score} for step, score in ((1, 0.4), (2, None), (3, 0.88), (4, 0.8))]
    kept = {"curve": curve, "train_peak_memory_bytes": 7, "num_train": 40}

    class Holding:
        location, uri, attempt = store.location, store.uri, store.attempt

        def record(self, kind: str, id_: str) -> object:
            return kept if (kind, id_) == ("fits", fit_id) else None

    heard: list[object] = []
    session = Session(store, request.search_id)
    watched = recorder(request, Holding(), set(), Spent(), session, None, heard.append)  # type: ignore[arg-type]
    trial = PastTrial("t", config={MEMBERS: [configuration]})
    session.begin(fit_id, 1)
    said = {"errors": {}, "node": "n", "raw_score": 0.4, "fit_id": fit_id, "memory_bytes": 5, "texts": 32}
    watched.on_trial_result(1, [], trial, said)
    watched.on_trial_complete(1, [], trial)
    (found,) = search_trials(store, request.search_id)
    assert (found.status, found.score, found.texts_trained, found.memory_bytes) == ("finished", 0.88, 80, 7)
    assert found.curve == ((32, 0.4), (72, 0.88), (80, 0.8)), "epochs of a batch of 32 and one of 8"


def test_the_searcher_hears_of_a_recorded_failure_as_of_one_that_it_saw() -> None:
    assert _values(tried(0, 0.7, "failed"), both=False) is None
    assert _values(tried(0, 0.7, "stopped"), both=False) == {"score": 0.7}


def test_the_default_recipe_is_what_a_search_spares(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "tune_spaces" / "lora_rank_alpha.yaml").read_text("utf-8")
    request, _ = request_in(tmp_path, store=Store.open(str(tmp_path / "results")), text=text)
    spares = default_of(request)
    default = first_points(request, [], [])[0]
    assert spares(PastTrial("a", config={MEMBERS: [default]}))
    assert not spares(PastTrial("b", config={MEMBERS: [{**default, "lora.r": 16}]}))
    assert spares(PastTrial("c", config={MEMBERS: [{**default, "lora.r": 16}, default]})), "it shares a slot"
    assert not spares(PastTrial("recorded-0"))


def test_what_was_begun_and_what_it_cost_outlives_a_kill(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    put_proposal(store, "s" * 20, 1, "b", {"lora.r": 4})
    put_proposal(store, "s" * 20, 0, "a", {"lora.r": 2})
    assert proposed(store, "s" * 20) == {"a": {"lora.r": 2}, "b": {"lora.r": 4}}
    times = iter(np.arange(0.0, 1000.0, 10.0))
    session = Session(store, "s" * 20, clock=lambda: float(next(times)))
    session.begin("a", 2)  # at 10
    session.reached("a", 80, 0.4)
    session.reached("a", 160, 0.6)
    session.write(now=True)
    first = spent(store, "s" * 20)
    assert first.elapsed_s > 0 and first.open["a"][0] == 160 and first.open["a"][1] > 0
    assert first.curves == {"a": ((80, 0.4), (160, 0.6))}
    assert first.without({"a"}) == (0, 0)
    seconds = session.end("a")
    session.write(now=True)
    last = spent(store, "s" * 20)
    assert seconds > first.open["a"][1] and last.open == last.curves == {} and last.elapsed_s > first.elapsed_s
    assert spent(store, "t" * 20) == Spent()


MINE = """# my models
models:
  # the first
  one: {licence: MIT, description: one}   # kept
  MiniLM-L3-tuned:
    licence: MIT
    description: old

# about training
training: {}
"""


def test_an_entry_is_replaced_and_the_rest_of_the_file_stays() -> None:
    changed, before = with_entry(
        MINE, "mine.yaml", "models", "MiniLM-L3-tuned", {"description": "new", "lora": {"r": 8}}
    )
    assert before == {"licence": "MIT", "description": "old"}
    expected = MINE.replace("    licence: MIT\n    description: old\n", "    description: new\n    lora:\n      r: 8\n")
    assert changed == expected


@pytest.mark.parametrize("text", ["", "# mine\n", "models:\n", "models: {}\n# end\n", "training: {}", MINE])
def test_an_entry_is_added_to_any_file(text: str) -> None:
    changed, before = with_entry(text, "mine.yaml", "models", "new", {"description": "é"})
    old = load_yaml(text, "mine.yaml")
    assert before is None
    assert load_yaml(changed, "mine.yaml") == {
        **old,
        "models": {**(old.get("models") or {}), "new": {"description": "é"}},
    }
    assert all(line in changed.splitlines() for line in text.splitlines() if line.startswith("#"))


def test_a_section_in_one_line_is_refused_with_its_line() -> None:
    with pytest.raises(SpecError, match=r"mine.yaml, line 2: models is written in one line"):
        with_entry("training: {}\nmodels: {one: {description: x}}\n", "mine.yaml", "models", "new", {})
