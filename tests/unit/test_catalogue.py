"""The packaged catalogue, what a user lays over it, and that no key of it is idle."""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from moodbench.benchmark.resolve import resolve
from moodbench.config.catalogue import SCHEMAS, load_catalogue, merge
from moodbench.config.yaml_files import load_yaml
from moodbench.errors import MoodBenchError, PrerequisiteError, SpecError, UnknownNameError
from moodbench.hardware import Hardware
from moodbench.spec import BenchmarkSpec, spec_of_preset

MACHINE = Hardware(cpu="Toy CPU", num_cores=2, memory_bytes=8 * 2**30, gpus=(), mps=False)
MINE = {"method": "lora", "family": "bert", "licence": "MIT", "description": "mine", "source": {"path": "/weights"}}


def one_file(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def a_folder(tmp_path, **parts):
    for name, values in parts.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return tmp_path


def test_the_packaged_catalogue_loads_with_the_figures_of_the_issue():
    catalogue = load_catalogue()
    train, lora = catalogue.training.train, catalogue.training.lora
    assert (lora.r, lora.lora_alpha, lora.lora_dropout, lora.target_modules) == (8, 16, 0.05, "attention")
    assert (train.learning_rate, train.max_evaluation_steps, train.evaluations_per_epoch) == (2e-4, 500, 4)
    assert (train.min_steps, train.max_steps, train.validation_share) == (0, None, 0.2)
    entries = ["majority", "vader", "tfidf-logreg", "MiniLM-L6-probe", "MiniLM-L3", "MiniLM-L6"]
    assert list(catalogue.preset("quickstart").models) == entries
    assert catalogue.protocol("quick").model_dump(include={"processes", "requests", "batch_seconds"}) == {
        "processes": 1, "requests": 700, "batch_seconds": 2.0
    }  # fmt: skip
    assert catalogue.dataset("icwsm-movie-3").labels == ("negative", "neutral", "positive")
    assert catalogue.dataset("icwsm-movie-3").embedded == "icwsm-movie"


OVERLAY = {
    "models": {
        "models": {"mine": MINE, "MiniLM-L6": {"train": {"learning_rate": 5e-4}}},
        "families": {"roberta": {"attention": ["query"], "feed_forward": ["dense"]}},
    },
    "presets": {"presets": {"small": {"description": "two", "models": ["mine"], "datasets": ["icwsm-tweets"]}}},
    "training": {"lora": {"r": 4}},
    "evaluation": {"protocol": "quick"},
    "datasets": {"datasets": {"icwsm-movie": {"neutral_band": 1}}},
}
SECTIONS = OVERLAY["models"] | OVERLAY["presets"] | OVERLAY["datasets"]
SECTIONS |= {name: OVERLAY[name] for name in ("training", "evaluation")}


@pytest.mark.parametrize("form", ["one file", "a folder"])
def test_an_overlay_adds_entries_and_changes_single_fields(tmp_path, form):
    path = one_file(tmp_path, yaml.safe_dump(SECTIONS)) if form == "one file" else a_folder(tmp_path, **OVERLAY)
    packaged, mine = load_catalogue(), load_catalogue(path)
    assert mine.model("mine").source.path == "/weights"
    assert mine.model("MiniLM-L6").train == {"learning_rate": 5e-4}
    assert mine.model("MiniLM-L6").size == packaged.model("MiniLM-L6").size
    assert mine.families["roberta"].attention == ("query",)
    assert mine.families["bert"] == packaged.families["bert"]
    assert (mine.preset("small").seeds, mine.preset("small").models) == (1, ("mine",))
    assert mine.training.lora == packaged.training.lora.model_copy(update={"r": 4})
    assert mine.protocol() == packaged.protocol("quick")
    assert mine.dataset("icwsm-movie").neutral_band == 1
    assert mine.dataset("icwsm-movie").licence == "MIT"
    assert load_catalogue() == packaged


def test_merging_goes_key_by_key_and_leaves_its_arguments_alone():
    base, over = {"a": {"b": 1, "c": [1, 2]}, "d": 1}, {"a": {"c": [3]}, "d": {"e": 2}, "f": 3}
    assert merge(base, over) == {"a": {"b": 1, "c": [3]}, "d": {"e": 2}, "f": 3}
    assert (base, over) == ({"a": {"b": 1, "c": [1, 2]}, "d": 1}, {"a": {"c": [3]}, "d": {"e": 2}, "f": 3})


def test_an_overlay_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("models: {}")

    read_text = type(overlay).read_text

    def denied(self, *arguments):
        if self == overlay:
            raise PermissionError(13, "Permission denied", str(self))
        return read_text(self, *arguments)

    monkeypatch.setattr(type(overlay), "read_text", denied)
    with pytest.raises(
        PrerequisiteError, match=r"--config .*mine.yaml: Permission denied; expected a YAML file with catalogue entries"
    ):
        load_catalogue(overlay)


def test_a_bad_file_of_a_folder_is_named(tmp_path):
    folder = a_folder(tmp_path, training={"train": {"epochs": 0}}, presets={"presets": {}})
    with pytest.raises(SpecError, match=r"training.yaml, line 2: train.epochs: .*greater than 0 \(seen: 0\)"):
        load_catalogue(folder)


def test_an_overlay_that_is_not_there_says_what_it_should_be(tmp_path):
    with pytest.raises(PrerequisiteError, match=r"absent.yaml: no such file or folder"):
        load_catalogue(tmp_path / "absent.yaml")
    with pytest.raises(PrerequisiteError, match=r"no models.yaml, .* in this folder"):
        load_catalogue(tmp_path)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda c: c.model("minilm-l6"), "unknown model 'minilm-l6': did you mean 'MiniLM-L6'"),
        (lambda c: c.dataset("icwsm-movies"), "unknown dataset .*did you mean 'icwsm-movie'"),
        (lambda c: c.preset("quikstart"), "unknown preset .*did you mean 'quickstart'"),
        (lambda c: c.protocol("fulll"), "unknown measuring protocol .*did you mean 'full'"),
    ],
)
def test_unknown_names_suggest_the_nearest(ask, message):
    with pytest.raises(UnknownNameError, match=message):
        ask(load_catalogue())


# Every key of every packaged file is read: each is changed alone, and a run or a list must change with it.

OTHER = {
    "adamw": "adamw_8bit",
    "attention": ["query"], "all-linear": "attention", "linear": "cosine", "f1_macro": "nll", "auto": "bf16",
    "mean": "cls", "right": "left", "full": "quick", "quick": "full", "lora": "linear-probe", "linear-probe": "lora",
    "baseline": "lora", "majority": "vader", "vader": "majority", "tfidf-logreg": "majority", "bert": "gpt",
    "icwsm-movie": "icwsm-product", "icwsm-product": "icwsm-tweets", "icwsm-tweets": "icwsm-movie",
}  # fmt: skip
CHANGED_LISTS = {"models": ["vader"], "datasets": ["icwsm-tweets-3"], "batch_sizes": [2]}
LISTED = {"licence", "description", "caveat", "english_only", "citation", "group", "mean_words"}
"""Keys that a list shows and no run uses."""


def leaves(values, path=()):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def changed(path, value):
    """Another value that the schema may allow."""
    if path[-1] == "mean_words":
        return value + 1.0
    if isinstance(value, bool):
        return not value
    if path[-1] in LISTED:
        return "something else"
    if isinstance(value, list):
        return CHANGED_LISTS.get(path[-1], [*value[:-1], 3 if isinstance(value[-1], int | float) else "changed"])
    if isinstance(value, str):
        return OTHER.get(value, "0" * 64 if path[-1] == "sha256" else "elsewhere")
    if value is None or value == 0:
        return 0.25
    return value + 1 if isinstance(value, int) else value / 2


def nested(path, value):
    return {path[0]: nested(path[1:], value)} if path else value


PACKAGED = {
    name: load_yaml(files("moodbench.config").joinpath(f"{name}.yaml").read_text("utf-8"), name) for name in SCHEMAS
}


def is_of_a_run_here(name, path):
    """Sizes, and what only hub models, GGUF files and hub datasets read, have tests of their own (test_model_sizes.py,
    test_hub_models.py, test_gguf.py, test_hub_data.py)."""
    if name == "datasets":
        return "embedded" in PACKAGED["datasets"]["datasets"][path[1]]
    if name != "models":
        return name not in ("devices", "prompts", "published") and path[0] != "recipes"
    if path[0] == "families":
        return path[1] == "bert"
    return "size" not in path and not {"hub", "gguf"} & PACKAGED["models"]["models"][path[1]].get("source", {}).keys()


LEAVES = [
    (name, path, value) for name in SCHEMAS for path, value in leaves(PACKAGED[name]) if is_of_a_run_here(name, path)
]
"""Devices bear on estimates, not on what runs; prompts, recipes and published results have tests of their own
(test_prompts.py, test_recipes.py, test_published.py)."""


@cache
def plain_model():
    """The packaged encoder without hyper-parameters of its own, so that all defaults reach it."""
    entry = PACKAGED["models"]["models"]["MiniLM-L6"]
    return {k: v for k, v in entry.items() if k not in ("lora", "train", "caveat")}


def requests(name, path, catalogue):
    """The requests that a key of the file `name` bears on."""
    if name == "presets":
        return [spec_of_preset(path[1], catalogue, {})]
    models, datasets, protocol = ("tfidf-logreg", "plain", "MiniLM-L6-probe"), ("icwsm-movie",), None
    if path[0] == "models":
        models = (path[1],)
    if path[0] == "families":
        models = ("plain", "MiniLM-L6")
    if path[0] == "datasets":
        models, datasets = ("tfidf-logreg",), (path[1],)
    if path[0] == "protocols":
        protocol = path[1]
    return [BenchmarkSpec(models=models, datasets=datasets, protocol=protocol)]


def what_runs(name, path, catalogue):
    trials = [t for spec in requests(name, path, catalogue) for t in resolve(spec, catalogue, MACHINE)]
    return json.dumps([t.model_dump(mode="json") for t in trials])


def what_is_listed(path, catalogue):
    return getattr(catalogue, path[0])[path[1]].model_dump()[path[2]]


@pytest.mark.parametrize(("name", "path", "value"), LEAVES, ids=lambda v: ".".join(v) if isinstance(v, tuple) else "")
def test_every_key_of_every_packaged_file_is_read(tmp_path, name, path, value):
    new = changed(path, value)
    assert new != value
    extra = {"models": {"models": {"plain": plain_model()}}}
    before = load_catalogue(a_folder(tmp_path, **extra))
    overlay = merge(extra, {name: nested(path, new)})
    try:
        after = load_catalogue(a_folder(tmp_path, **overlay))
        if path[-1] in LISTED:
            assert what_is_listed(path, before) != what_is_listed(path, after) == new
            assert name == "presets" or what_runs(name, path, before) == what_runs(name, path, after)
            return
        later = what_runs(name, path, after)
    except MoodBenchError as error:
        if (
            isinstance(error, PrerequisiteError) and name == "presets"
        ):  # it names what is on the hub: see what it asks for
            assert spec_of_preset(path[1], before, {}) != spec_of_preset(path[1], after, {})
            return
        assert path[-1] in str(error)
        return
    assert what_runs(name, path, before) != later


def test_the_table_of_keys_holds_every_field_of_the_schemas_that_has_a_default():
    defaults = {path for name, path, _ in LEAVES if name == "training"}
    for part, schema in SCHEMAS["training"].model_fields.items():
        if part == "recipes":
            continue
        assert {(part, field) for field in schema.annotation.model_fields} <= defaults
    assert Path(str(files("moodbench.config"))).joinpath("training.yaml").exists()
