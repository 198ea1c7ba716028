"""What a search is asked for: earlier finds that it begins from, options that stay, bundles, and what was tested before."""

from pathlib import Path

import pytest

from moodbench.config import load_catalogue
from moodbench.config.schema import ModelEntry
from moodbench.hardware import hardware
from moodbench.spec.benchmark_spec import spec_from_values
from moodbench.store import Store
from moodbench.tuning.places import Room, local_place
from moodbench.tuning.records import SearchTrial, put_trial
from moodbench.tuning.registered import register, registered
from moodbench.tuning.requesting import make_request, tuned_entry
from moodbench.tuning.warm_start import warm_points

SPACE = """description: x
parameters:
  lora.r: {distribution: power_of_two, low: 2, high: 8}
  train.optimizer: {distribution: choice, values: [adafactor, paged_adamw_8bit]}
"""


def request_in(tmp_path: Path, *, store: Store, text: str = SPACE, searcher: str = "optuna", **options):
    path = tmp_path / "space.yaml"
    path.write_text(text, "utf-8")
    values = {
        "models": ("MiniLM-L3",),
        "datasets": ("icwsm-movie",),
        "max_train_examples": 64,
        "device": "cpu",
        **options,
    }
    spec = spec_from_values(values, "the test")
    made = make_request(
        spec,
        str(path),
        load_catalogue(),
        hardware(),
        searcher=searcher,
        scheduler="none",
        num_trials=None,
        budget_s=None,
        store=store,
    )
    return made, spec


def trial(
    number: int, score: float, search: str, dataset: str, status: str = "finished", **configuration
) -> SearchTrial:
    return SearchTrial(
        search_id=search * 20,
        fit_id=f"{search}{number:03}",
        model="MiniLM-L3",
        dataset=dataset,
        space="other",
        configuration=configuration,
        status=status,  # type: ignore[arg-type]
        metric="f1_macro",
        score=score,
        texts_trained=100,
        curve=((100, score),),
        train_time_s=1.0,
        elapsed_s=1.0,
    )


def test_a_search_begins_from_the_best_that_earlier_ones_found_inside_its_space(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "results"))
    text = SPACE.replace("[adafactor, paged_adamw_8bit]", "[adamw, adafactor]")
    request, _ = request_in(tmp_path, store=store, text=text)
    assert warm_points(store, request) == ()
    for each in (
        trial(0, 0.80, "a", "icwsm-tweets", **{"lora.r": 2}),
        trial(1, 0.99, "a", "icwsm-tweets", **{"lora.r": 64}),  # outside
        trial(2, 0.98, "a", "icwsm-tweets", "stopped", **{"lora.r": 4}),
        trial(
            3, 0.97, "a", "icwsm-tweets", **{"lora.r": 4, "train.learning_rate": 0.5}
        ),  # a rate that is not searched here
        trial(0, 0.60, "b", "icwsm-movie", **{"lora.r": 8, "train.optimizer": "adafactor"}),
        trial(1, 0.50, "b", "icwsm-movie", **{"lora.r": 4}),
    ):
        put_trial(store, each)
    points = warm_points(store, request)
    assert [(p.search_id[0], p.dataset, p.configuration) for p in points] == [
        ("b", "icwsm-movie", {"lora.r": 8, "train.optimizer": "adafactor"}),
        ("a", "icwsm-tweets", {"lora.r": 2, "train.optimizer": "adamw"}),
        ("b", "icwsm-movie", {"lora.r": 4, "train.optimizer": "adamw"}),
    ]
    asked = register(store, request, 3)
    put_trial(store, trial(9, 1.0, "c", "icwsm-movie", **{"lora.r": 2, "train.optimizer": "adafactor"}))
    assert registered(store, request.search_id) == asked == register(store, request, 0)
    assert asked.warm_start == points, "what came later does not change a registered search"


def test_the_one_optimiser_that_a_device_has_of_a_space_stays_with_the_winner_and_so_do_options(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "results"))
    request, spec = request_in(tmp_path, store=store, train={"epochs": 1}, lora={"lora_dropout": 0.3})
    assert dict(request.settled) == {"train.optimizer": "adafactor"} and list(request.space.parameters) == ["lora.r"]
    best = trial(0, 0.9, "a", "icwsm-movie", **{"lora.r": 4})
    entry: ModelEntry = tuned_entry(request, best, 5, load_catalogue(), spec)
    assert entry.train["optimizer"] == "adafactor" and entry.train["epochs"] == 1
    assert entry.lora["r"] == 4 and entry.lora["lora_dropout"] == 0.3
    assert request.fit(best.configuration).train.optimizer == "adafactor"


def test_a_trial_asks_for_the_memory_it_is_estimated_to_need_and_goes_where_that_is(tmp_path: Path) -> None:
    text = "description: x\nparameters:\n  train.effective_batch_size: {distribution: choice, values: [8, 64]}\n"
    store = Store.open(str(tmp_path / "results"))
    request, _ = request_in(tmp_path, store=store, text=text, train={"max_device_batch_size": 64})
    place = local_place(request, load_catalogue(), hardware(), store)
    small, large = ({"members": [{"train.effective_batch_size": size}]} for size in (8, 64))
    needs = [place.bundles.of(config)[0]["memory"] for config in (small, large)]
    assert needs[0] < needs[1] and place.bundles.of(small)[1] is None
    (here,) = place.bundles.rooms
    between = (needs[0] + needs[1]) / 2
    rooms = tuple(
        Room(name, here.kind, memory, 1, leasable=True) for name, memory in (("tight", between), ("roomy", 1e12))
    )
    shared = type(place.bundles)(**{**vars(place.bundles), "rooms": rooms})
    assert shared.of(small)[1] == ["tight", "roomy"] and shared.of(large)[1] == ["roomy"]
    group = shared(large)
    assert group.bundles[0]["memory"] == needs[1] and group.bundles[0]["CPU"] == 1
    two = {"members": [{"train.effective_batch_size": 8}, {"train.effective_batch_size": 64}]}
    assert place.bundles.of(two)[0]["memory"] == pytest.approx(sum(needs))
    nowhere = type(place.bundles)(**{**vars(place.bundles), "rooms": (Room("tight", here.kind, 1000.0, 1),)})
    assert nowhere.of(small) == ({"CPU": 1.0, "memory": 1000.0}, ["tight"])
