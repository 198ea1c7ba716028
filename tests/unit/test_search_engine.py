"""The parts of a search without Ray's processes: what is proposed, what is stopped, what a killed command leaves."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from test_search_analysis import trial as tried
from test_search_request import search_in

from moodbench.store import Store
from moodbench.tune.run import SearchCallback, is_default_in
from moodbench.tune.search import Search
from moodbench.tune.searcher import StudySearcher, first_points, objective_values, open_journal
from moodbench.tune.trials import Journal, Progress, SearchTrial, read_progress, search_trials

SPACE = """description: x
parameters:
  lora.r: {distribution: power_of_two, low: 2, high: 8}
  lora.alpha_over_r: {distribution: choice, values: [1, 2]}
"""


def search_of(tmp_path: Path, num_wanted: int = 100, **asked: Any) -> tuple[Search, Store]:
    store = Store.open(str(tmp_path / "results"))
    made, _ = search_in(tmp_path, store=store, text=SPACE, asked={"num_trials": num_wanted, **asked})
    return made, store


def open_search(
    tmp_path: Path, *, num_wanted: int, known: Sequence[SearchTrial] = (), **asked: Any
) -> tuple[StudySearcher, Search, optuna.Study]:
    """A command's searcher, its search, and its study."""
    search, store = search_of(tmp_path, num_wanted, **asked)
    journal = open_journal(search, store, tmp_path, len(known))
    return StudySearcher(search, journal, known), search, journal.study


def recorded(tmp_path: Path, r: int, ratio: int, score: float | None, status="finished", memory=None) -> SearchTrial:
    configuration = {"lora.r": r, "lora.alpha_over_r": ratio}
    fit_id = search_of(tmp_path)[0].fit(configuration).fit_id
    made = tried(0, score, status)
    return replace(made, configuration=configuration, fit_id=fit_id, memory_bytes=memory)


def ended(searcher: StudySearcher, search: Search, point: dict[str, Any], score=0.5, memory=None) -> None:
    """Nothing; tells the end of a configuration as the callback does."""
    fit_id = search.fit(point).fit_id
    searcher.finish(fit_id, replace(tried(0, score), fit_id=fit_id, configuration=point, memory_bytes=memory))


def id_of(point: dict[str, Any]) -> str:
    return f"{point['lora.r']}-{point['lora.alpha_over_r']:g}"


def test_every_point_of_a_small_space_is_proposed_once_and_then_the_search_ends(tmp_path: Path) -> None:
    searcher, search, _ = open_search(tmp_path, num_wanted=100)
    seen = []
    for number in itertools.count():
        config = searcher.suggest(f"t{number}")
        if config == searcher.FINISHED:
            break
        point = config
        seen.append(id_of(point))
        ended(searcher, search, point, score=0.9 if seen[-1] == "8-2" else 0.1)
    assert sorted(seen) == ["2-1", "2-2", "4-1", "4-2", "8-1", "8-2"]


def test_what_a_trial_reached_is_told_to_the_study(tmp_path: Path) -> None:
    searcher, search, study = open_search(tmp_path, num_wanted=5)
    reached: dict[str, float | None] = {}
    for number, score in enumerate((0.6, 0.9, 0.7)):
        point = searcher.suggest(f"t{number}")
        reached[id_of(point)] = score
        ended(searcher, search, point, score)
    lost = searcher.suggest("t3")
    searcher.finish(search.fit(lost).fit_id, None)
    reached[id_of(lost)] = None
    told = {(id_of(t.params), t.value) for t in study.trials}  # a point may be proposed again, and is answered
    assert told == set(reached.items()) and len(told) == 4


def test_what_is_known_is_told_to_the_study_and_not_proposed(tmp_path: Path) -> None:
    known = [recorded(tmp_path, 8, 2, 0.9), recorded(tmp_path, 2, 1, None, "failed")]
    searcher, _, study = open_search(tmp_path, num_wanted=4, known=known)
    assert study.best_params == {"lora.r": 8, "lora.alpha_over_r": 2}
    configs = [searcher.suggest(f"t{number}") for number in range(3)]
    proposed_now = {id_of(config) for config in configs[:2]}
    assert len(proposed_now) == 2 and not proposed_now & {"8-2", "2-1"}
    assert configs[2] is None, "four are known or running: nothing more until one ends"


def test_the_same_seed_proposes_the_same_configurations(tmp_path: Path) -> None:
    proposals = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / folder).mkdir()
        text = SPACE + "  train.learning_rate: {distribution: log_uniform, low: 1e-4, high: 1e-3}\n" + f"seed: {seed}\n"
        store = Store.open(str(tmp_path / folder / "results"))
        search, _ = search_in(tmp_path / folder, store=store, text=text, asked={"num_trials": 12})
        searcher = StudySearcher(search, open_journal(search, store, tmp_path / folder, 0), [])
        points = []
        for number in range(12):
            point = searcher.suggest(f"t{number}")
            ended(searcher, search, point, score=0.5 + number % 5 / 10)
            points.append(point)
        proposals.append(points)
    assert proposals[0] == proposals[1] != proposals[2]


def test_a_killed_command_leaves_its_proposals_to_the_next_which_begins_with_them(tmp_path: Path) -> None:
    searcher, search, study = open_search(tmp_path, num_wanted=5)
    begun = [searcher.suggest(f"t{number}") for number in range(3)]
    ended(searcher, search, begun[0], 0.8)  # and killed before anything else
    journal = tmp_path / "results" / "searches" / search.search_id / "journal.log"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    done = replace(recorded(tmp_path, 2, 1, 0.8), fit_id=search.fit(begun[0]).fit_id, configuration=begun[0])
    again, _, reopened = open_search(tmp_path, num_wanted=5, known=[done])
    assert [t.state.name for t in reopened.trials] == ["COMPLETE", "FAIL", "FAIL"]
    assert [again.suggest(f"u{number}") for number in range(2)] == begun[1:]
    fresh = again.suggest("u2")
    assert fresh not in begun
    started = read_progress(Store.open(str(tmp_path / "results")), search.search_id).started
    assert [each.configuration for each in started.values()] == [*begun, fresh]
    assert len(study.trials) == len(reopened.trials), "both see what is in the journal"


def test_a_record_whose_outcome_the_journal_lacks_is_told_when_it_is_opened_again(tmp_path: Path) -> None:
    searcher, search, _ = open_search(tmp_path, num_wanted=5)
    point = searcher.suggest("t0")
    done = replace(recorded(tmp_path, 2, 1, 0.8), fit_id=search.fit(point).fit_id, configuration=point)
    lost = recorded(tmp_path, 4, 1, 0.7)
    _, _, study = open_search(tmp_path, num_wanted=5, known=[done, lost])
    assert [(t.params, t.value) for t in study.trials] == [(point, 0.8), (lost.configuration, 0.7)]


def test_a_full_disk_ends_the_proposals_and_leaves_a_whole_journal(tmp_path: Path, monkeypatch) -> None:
    search, store = search_of(tmp_path)
    journal = open_journal(search, store, tmp_path, 0)
    searcher = StudySearcher(search, journal, [])
    first = searcher.suggest("t0")
    path = tmp_path / "results" / "searches" / search.search_id / "journal.log"

    def full(self: object, logs: object) -> None:
        with path.open("ab") as file:
            file.write(b'{"op_code"')
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("optuna.storages.journal.JournalFileBackend.append_logs", full)
        assert searcher.suggest("t1") is None and isinstance(journal.problem, OSError)
    assert path.read_bytes().endswith(b"\n")
    started = read_progress(store, search.search_id).started
    assert [each.configuration for each in started.values()] == [first]


class RemoteStore:
    """A store whose location is like a bucket: files can be uploaded and downloaded, and are not written in place."""

    def __init__(self, store: Store) -> None:
        self.uri = store.uri
        self._inner = store.location
        self.location = self

    def keys(self, prefix: str) -> list[str]:
        return self._inner.keys(prefix)

    def local(self, key: str) -> Path:
        return self._inner.local(key)

    def replace(self, source: Path, key: str) -> None:
        target = self._inner.local(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())


def test_the_journal_of_a_remote_store_is_uploaded_and_another_machine_goes_on_with_it(tmp_path: Path) -> None:
    search, local = search_of(tmp_path)
    store: Any = RemoteStore(local)
    for machine in ("one", "another"):
        (tmp_path / machine).mkdir()
    journal = open_journal(search, store, tmp_path / "one", 0)
    begun = StudySearcher(search, journal, []).suggest("t0")
    assert read_progress(store, search.search_id) == Progress(), "written on this machine alone so far"
    journal.begin(search.fit(begun).fit_id)
    journal.write(now=True)
    assert [each.configuration for each in read_progress(store, search.search_id).started.values()] == [begun]
    resumed = StudySearcher(search, open_journal(search, store, tmp_path / "another", 0), [])
    assert resumed.suggest("t0") == begun


def test_a_fit_that_is_in_the_store_is_recorded_whole_though_a_scheduler_stops_it_while_it_is_told(
    tmp_path: Path,
) -> None:
    store = Store.open(str(tmp_path / "results"))
    request, _ = search_in(tmp_path, store=store, train={"min_steps": 0})
    journal = open_journal(request, store, tmp_path, 0)
    searcher = StudySearcher(request, journal, [])
    configuration = searcher.suggest("t")
    fit_id = request.fit(configuration).fit_id
    curve = [{"step": step, "validation_score": score} for step, score in ((1, 0.4), (2, None), (3, 0.88), (4, 0.8))]
    kept = {"curve": curve, "train_peak_memory_bytes": 7, "num_train": 40}

    class Holding:
        location, uri, attempt = store.location, store.uri, store.attempt

        def record(self, kind: str, id_: str) -> object:
            return kept if (kind, id_) == ("fits", fit_id) else None

    events: list[object] = []
    callback = SearchCallback(request, Holding(), journal, searcher, [], events.append)  # type: ignore[arg-type]
    trial = SimpleNamespace(trial_id="t", config=configuration)
    callback.on_trial_start(1, [], trial)
    reported = {"error": None, "node": "n", "raw_score": 0.4, "memory_bytes": 5, "texts": 32}
    callback.on_trial_result(1, [], trial, reported)
    assert read_progress(store, request.search_id).started[fit_id].curve == ((32, 0.4),)
    callback.on_trial_complete(1, [], trial)
    (found,) = search_trials(store, request.search_id)
    assert (found.status, found.score, found.texts_trained, found.memory_bytes) == ("finished", 0.88, 80, 7)
    assert found.curve == ((32, 0.4), (72, 0.88), (80, 0.8)), "epochs of a batch of 32 and one of 8"
    assert journal.study.best_value == 0.88


def test_a_budget_that_earlier_commands_spent_is_over(tmp_path: Path) -> None:
    search, store = search_of(tmp_path)
    search = search.model_copy(update={"budget_s": 100.0})
    times = iter(np.arange(0.0, 1e6, 10.0))
    before = Journal(
        store, search.search_id, tmp_path, ["maximize"], optuna.samplers.RandomSampler(0), lambda: next(times)
    )
    before.write(now=True)
    journal = open_journal(search, store, tmp_path, 0)
    searcher = StudySearcher(search, journal, [])
    assert not SearchCallback(search, store, journal, searcher, [], print).is_over()
    while before.elapsed_s < 120:
        before.write(now=True)
    before.write(now=True)
    assert SearchCallback(search, store, journal, searcher, [], print).is_over()
    late = [replace(tried(0, 0.5), elapsed_s=100.0)]
    assert SearchCallback(search, store, open_journal(search, store, tmp_path, 1), searcher, late, print).is_over()


def test_the_study_learns_of_a_recorded_failure_as_of_one_that_it_saw(tmp_path: Path) -> None:
    search, _ = search_of(tmp_path)
    assert objective_values(search, tried(0, 0.7, "failed")) is None
    assert objective_values(search, tried(0, 0.7, "stopped")) == [0.7]


def test_the_default_recipe_is_what_a_search_spares(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "tune_spaces" / "lora_rank_alpha.yaml").read_text("utf-8")
    request, _ = search_in(tmp_path, store=Store.open(str(tmp_path / "results")), text=text)
    spares = is_default_in(request)
    default = first_points(request)[0]
    assert spares(default)
    assert not spares({**default, "lora.r": 16})


def test_what_was_begun_and_what_it_cost_outlives_a_kill(tmp_path: Path) -> None:
    search, store = search_of(tmp_path)
    times = iter(np.arange(0.0, 1000.0, 10.0))
    sampler = optuna.samplers.RandomSampler(seed=0)
    journal = Journal(store, search.search_id, tmp_path, ["maximize"], sampler, clock=lambda: float(next(times)))
    searcher = StudySearcher(search, journal, [])
    point = searcher.suggest("t0")
    fit_id = search.fit(point).fit_id
    journal.begin(fit_id)
    searcher.report(fit_id, ((80, 0.4), (160, 0.6)))
    journal.write(now=True)
    first = read_progress(store, search.search_id)
    assert first.elapsed_s > 0 and first.started[fit_id].seconds > 0
    assert first.started[fit_id].curve == ((80, 0.4), (160, 0.6))
    assert first.without_record({fit_id}) == {} and list(first.without_record(set())) == [fit_id]
    seconds = journal.end(fit_id)
    journal.write(now=True)
    last = read_progress(store, search.search_id)
    assert seconds > first.started[fit_id].seconds and last.elapsed_s > first.elapsed_s
    assert last.started[fit_id].seconds == 0, "its record has its time now"
    assert read_progress(store, "t" * 20) == Progress()
