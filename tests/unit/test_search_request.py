"""What a search is asked for: earlier finds that it begins from, options that stay, resources, what was tested before, and what is refused."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moodbench.cli import main
from moodbench.config import load_catalogue
from moodbench.config.schema import ModelEntry
from moodbench.errors import SpecError, StoreError
from moodbench.hardware import hardware
from moodbench.spec.benchmark_spec import spec_from_values
from moodbench.store import Store
from moodbench.tune.request import make_search, narrowest
from moodbench.tune.result import searches, tuned_entry
from moodbench.tune.search import Search, register, registered, warm_points
from moodbench.tune.searcher import StudySearcher, first_points, open_journal
from moodbench.tune.trial_resources import TrialNode, local_placement
from moodbench.tune.trials import Journal, SearchTrial, put_trial, read_progress

SPACE = """description: x
parameters:
  lora.r: {distribution: power_of_two, low: 2, high: 8}
  train.optimizer: {distribution: choice, values: [adafactor, paged_adamw_8bit]}
"""


def search_in(tmp_path: Path, *, store: Store, text: str = SPACE, asked: Mapping[str, Any] = {}, **options):
    """The request for a search of this space with `options` of the specification, and the specification."""
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
    made = make_search(
        spec,
        str(path),
        load_catalogue(),
        hardware(),
        **{"searcher": "optuna", "scheduler": "none", "num_trials": None, "budget_s": None, "store": store, **asked},
    )
    return made, spec


def started(request: Search, store: Store, number: int) -> tuple[StudySearcher, Journal]:
    """Let a command propose this number of configurations and no more."""
    journal = open_journal(request, store, Path(store.uri), 0)
    searcher = StudySearcher(request, journal, [])
    for each in range(number):
        searcher.suggest(f"trial{each}")
    return searcher, journal


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
    request, _ = search_in(tmp_path, store=store, text=text)
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
    assert asked.warm_points == points and asked.confirmation_seeds == (0, 1, 2), (
        "what came later does not change a registered search"
    )


def test_the_one_optimiser_that_a_device_has_of_a_space_stays_with_the_winner_and_so_do_options(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "results"))
    request, spec = search_in(tmp_path, store=store, train={"epochs": 1}, lora={"lora_dropout": 0.3})
    assert request.fixed == {"train.optimizer": "adafactor"} and list(request.space.parameters) == ["lora.r"]
    best = trial(0, 0.9, "a", "icwsm-movie", **{"lora.r": 4})
    entry: ModelEntry = tuned_entry(request, best, 5, load_catalogue(), spec)
    assert entry.train["optimizer"] == "adafactor" and entry.train["epochs"] == 1
    assert entry.lora["r"] == 4 and entry.lora["lora_dropout"] == 0.3
    assert request.fit(best.configuration).train.optimizer == "adafactor"
    assert not request.is_default(request.base.fit_id), "the model's own recipe has another optimiser"


def test_a_trial_asks_for_the_memory_it_is_estimated_to_need_and_goes_where_that_is(tmp_path: Path) -> None:
    text = "description: x\nparameters:\n  train.effective_batch_size: {distribution: choice, values: [8, 64]}\n"
    store = Store.open(str(tmp_path / "results"))
    request, _ = search_in(tmp_path, store=store, text=text, train={"max_device_batch_size": 64, "min_steps": 0})
    placement = local_placement(request, load_catalogue(), hardware(), store)
    small, large = ({"train.effective_batch_size": size} for size in (8, 64))
    needs = [placement.resources.of(config)[0]["memory"] for config in (small, large)]
    assert needs[0] < needs[1] and placement.resources.of(small)[1] is None
    (here,) = placement.resources.nodes
    between = (needs[0] + needs[1]) / 2
    nodes = tuple(
        TrialNode(name, here.kind, memory, 1, leasable=True) for name, memory in (("tight", between), ("roomy", 1e12))
    )
    shared = type(placement.resources)(**{**vars(placement.resources), "nodes": nodes})
    assert shared.of(small)[1] == ["tight", "roomy"] and shared.of(large)[1] == ["roomy"]
    group = shared(large)
    assert group.bundles[0]["memory"] == needs[1] and group.bundles[0]["CPU"] == 1
    nowhere = type(placement.resources)(
        **{**vars(placement.resources), "nodes": (TrialNode("tight", here.kind, 1000.0, 1),)}
    )
    assert nowhere.of(small) == ({"CPU": 1.0, "memory": 1000.0}, ["tight"])


def test_what_a_budget_is_worth_is_counted_over_the_nodes_that_have_room(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "results"))
    request, _ = search_in(tmp_path, store=store)
    resources = local_placement(request, load_catalogue(), hardware(), store).resources
    (here,) = resources.nodes
    one_s = resources.estimator.trial(
        request.base, here.kind, resources.protocol, batch_size=resources.batch_size
    ).fit.seconds
    assert here.machine and resources.trainings(request.base, 3 * one_s) == pytest.approx(3)

    slow_kind = here.kind.model_copy(update={"tflops": {k: v / 1e9 for k, v in here.kind.tflops.items()}})
    nodes = (here, replace(here, id="twin"), replace(here, id="tight", memory_bytes=1000.0))
    assert replace(resources, nodes=nodes).trainings(request.base, one_s) == pytest.approx(2), "one has no room"
    nodes = (here, replace(here, id="slow", kind=slow_kind))
    assert replace(resources, nodes=nodes).trainings(request.base, one_s) == pytest.approx(1, abs=1e-3)
    unknown = request.base.model_copy(update={"model": request.base.model.model_copy(update={"name": "unheard-of"})})
    assert resources.trainings(unknown, one_s) is None


def test_a_budget_for_few_of_the_configurations_is_said_before_they_are_tried(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("moodbench.tune.run.run_search", lambda *_: [])
    monkeypatch.setattr("moodbench.cli.tune.check_models", lambda *_, **__: [])  # its own tests load models
    options = (
        "--model",
        "MiniLM-L3",
        "--dataset",
        "icwsm-movie",
        "--device",
        "cpu",
        "--store",
        str(tmp_path / "results"),
    )

    def said(*more: str) -> str:
        with pytest.raises(SystemExit):
            main(["tune", *options, *more])
        return " ".join(capsys.readouterr().out.split())

    assert "for 40 requested configurations" in said("--trials", "40", "--budget", "20m")
    assert "requested configurations" not in said("--trials", "40", "--budget", "300h")
    assert "requested configurations" not in said("--trials", "40")
    (search,) = (tmp_path / "results" / "searches").iterdir()
    store = Store.open(str(tmp_path / "results"))
    known = registered(store, search.name)
    assert known is not None
    started(known, store, 1)
    assert "requested configurations" not in said("--trials", "40", "--budget", "20m"), "its own pace is known by now"


@pytest.mark.parametrize(("num_gpus", "num_cpus", "worth"), [(4, 8, 4), (4, 2, 2), (1, 8, 1)])
def test_each_gpu_of_a_node_with_a_core_for_it_counts(tmp_path: Path, num_gpus: int, num_cpus: int, worth: int) -> None:
    store = Store.open(str(tmp_path / "results"))
    request, _ = search_in(tmp_path, store=store)
    resources = local_placement(request, load_catalogue(), hardware(), store).resources
    kind = load_catalogue().device_class("rtx-3080-10g")
    node = TrialNode("node", kind, 1e12, num_cpus, num_gpus)
    on_gpu = request.model_copy(update={"device": "cuda"})
    gpus = replace(resources, search=on_gpu, nodes=(node, replace(node, id="cpu", num_gpus=0)))
    one_s = gpus.estimator.trial(request.base, kind, gpus.protocol, batch_size=gpus.batch_size).fit.seconds
    assert gpus.trainings(request.base, one_s) == pytest.approx(worth), "a node without a GPU trains nothing"


def test_what_was_cut_off_is_a_trial_as_far_as_it_came(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "results"))
    request, _ = search_in(tmp_path, store=store, asked={"searcher": "grid"})
    register(store, request, 3)
    searcher, journal = started(request, store, 3)
    fits = [request.fit({"lora.r": r}).fit_id for r in (2, 4, 8)]
    for fit_id, curve in zip(fits, (((32, 0.4), (64, 0.3)), ((32, 0.6),), ()), strict=True):
        journal.begin(fit_id)
        if curve:
            searcher.report(fit_id, curve)
    journal.write(now=True)
    (search,) = searches(store)
    assert [(t.configuration["lora.r"], t.score, t.texts_trained, t.status) for t in search.trials] == [
        (2, 0.4, 64, "unfinished"),
        (4, 0.6, 32, "unfinished"),
    ], "the third has no score yet"
    assert search.best is search.trials[1] and search.trials[0].curve == ((32, 0.4), (64, 0.3))
    put_trial(store, replace(search.trials[1], status="stopped", score=0.65))
    assert [t.status for t in searches(store)[0].trials] == ["stopped", "unfinished"], "a record goes before"


def test_a_search_of_another_version_is_known_by_its_records_alone(tmp_path: Path, caplog) -> None:
    store = Store.open(str(tmp_path / "results"))
    put_trial(store, trial(0, 0.8, "a", "icwsm-movie", **{"lora.r": 4}))
    folder = tmp_path / "results" / "searches" / ("a" * 20)
    (folder / "request.json").write_text('{"schema_version": 1}', "utf-8")
    (folder / "proposals").mkdir()
    (folder / "proposals" / "fit.json").write_text("{}", "utf-8")
    (search,) = searches(store)
    assert search.max_texts is None and [t.score for t in search.trials] == [0.8]
    assert "request.json: base: Field required" in caplog.text and len(caplog.records) == 1
    (folder / "request.json").unlink()
    (folder / "journal.log").write_text("no journal\nat all\n", "utf-8")
    with pytest.raises(StoreError, match=r"journal.log: is no journal of Optuna"):
        read_progress(store, "a" * 20)


def test_the_default_recipe_as_a_point_of_the_space_is_the_fit_of_the_base(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "results"))
    text = (Path(__file__).parents[2] / "tune_spaces" / "lora_rank_alpha.yaml").read_text("utf-8")
    request, _ = search_in(tmp_path, store=store, text=text)
    point = first_points(request)[0]
    assert point["lora.r"] == 8 and request.fit(point).fit_id == request.base.fit_id


def test_a_budget_in_which_nothing_could_end_is_refused_before_a_search_begins_and_not_after(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "results"))
    request, _spec = search_in(tmp_path, store=store)

    def asked(budget_s: float) -> Search:
        return search_in(tmp_path, store=store, asked={"budget_s": budget_s})[0]

    with pytest.raises(SpecError, match=r"--budget of 0 s: one configuration of .*space.yaml \(2 epochs of 64 texts\)"):
        asked(0.1)
    started(request, store, 1)
    assert asked(0.1).budget_s == 0.1


@pytest.mark.parametrize(
    ("config", "family", "width"),
    [
        ({"hidden_size": 384, "num_attention_heads": 12, "num_key_value_heads": 12}, "bert", 384),
        ({"hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3}, "llama", 192),
        ({"hidden_size": 640, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256}, "llama", 256),
        ({"n_embd": 768, "num_attention_heads": 12, "num_key_value_heads": 1}, "gpt2", 768),
        ({"model_type": "strange"}, "bert", None),
    ],
)
def test_the_narrowest_layer_is_that_of_the_keys_where_heads_share_them(
    config: dict[str, int], family: str, width: int | None
) -> None:
    assert narrowest(config, load_catalogue().families[family]) == width
