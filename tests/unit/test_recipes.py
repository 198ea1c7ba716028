"""Recipes: which suits which model, what may change it, and that each is somebody's."""

import dataclasses

import pytest

from moodbench.benchmark.recipe import FitDevice, RequestedModel, recipe_of
from moodbench.benchmark.resolve import entry_of
from moodbench.config import load_catalogue
from moodbench.config.schema import LoraDefaults, TrainDefaults
from moodbench.errors import SpecError, UnknownNameError
from moodbench.hardware import Hardware
from moodbench.spec import BenchmarkSpec, ResolvedModel

CATALOGUE = load_catalogue()
MACHINE = Hardware(cpu="Toy CPU", num_cores=2, memory_bytes=8 * 2**30, gpus=(), mps=False)
LABELS = ("negative", "positive")
FINE_TUNED = [name for name, entry in CATALOGUE.models.items() if entry.method == "lora"]


def recipe(model, catalogue=CATALOGUE, **asked):
    spec = BenchmarkSpec(models=[model], datasets=["x"], **asked)
    entry = entry_of(model, catalogue, spec)
    requested = RequestedModel(ResolvedModel(name=model, method=entry.method), entry)
    return recipe_of(requested, FitDevice("cpu"), LABELS, catalogue, spec)


def learned(model, **asked):
    found = recipe(model, **asked)
    return found["train"].learning_rate, found["train"].effective_batch_size, found["lora"].target_modules


@pytest.mark.parametrize(
    ("model", "asked", "name"),
    [
        ("BERT-tiny", {}, "tiny-encoder"), ("MiniLM-L6", {}, "small-encoder"), ("BERT-base", {}, "encoder"),
        ("ModernBERT-large", {}, "encoder"), ("SmolLM2-135M", {}, "small-decoder"), ("Pythia-410m", {}, "small-decoder"),
        ("Phi-3-mini", {}, "decoder"), ("SmolLM2-135M", {"head": "classification"}, "small-decoder-head"),
        ("Phi-3-mini", {"head": "classification"}, "decoder-head"), ("BERT-tiny", {"recipe": "classic"}, "classic"),
        ("Phi-3-mini", {"recipe": "small-encoder"}, "small-encoder"),
        ("BERT-tiny", {"method": "full"}, "small-encoder-full"), ("BERT-base", {"method": "full"}, "encoder-full"),
        ("SmolLM2-135M", {"method": "full"}, "decoder-full"), ("BERT-base", {"method": "lora"}, "encoder"),
    ],
)  # fmt: skip
def test_a_model_gets_the_recipe_of_its_kind_head_and_size_or_the_one_asked_for(model, asked, name):
    found, expected = recipe(model, **asked), CATALOGUE.recipe(name)
    for part, schema, changes in (("lora", LoraDefaults, expected.lora), ("train", TrainDefaults, expected.train)):
        base = getattr(CATALOGUE.training, part).model_dump()
        if part == "lora" and asked.get("method") == "full":
            assert "lora" not in found and "target_modules" not in found
            continue
        whole = schema.model_validate(base | changes).model_dump()
        # The catalogue's batch sizes and the device change these two.
        kept = {k: v for k, v in whole.items() if k not in ("max_device_batch_size", "precision")}
        assert {k: v for k, v in found[part].model_dump().items() if k in kept} == kept


def test_what_is_asked_for_comes_last_and_an_entry_after_its_recipe():
    assert learned("MiniLM-L6", train={"learning_rate": 0.5}, lora={"target_modules": "attention"})[0::2] == (
        0.5,
        "attention",
    )
    entry = CATALOGUE.model("MiniLM-L6").model_copy(update={"train": {"learning_rate": 0.25}})
    own = dataclasses.replace(CATALOGUE, models={**CATALOGUE.models, "mine": entry})
    assert recipe("mine", own)["train"].learning_rate == 0.25
    assert recipe("mine", own, recipe="classic")["train"].learning_rate == 2e-4, "asked for, so not the entry's"
    assert recipe("mine", own, recipe="classic", train={"learning_rate": 0.5})["train"].learning_rate == 0.5


def test_a_users_own_defaults_come_after_recipes_and_before_entries(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("training: {train: {learning_rate: 0.125}}\nmodels: {MiniLM-L3: {train: {learning_rate: 0.25}}}")
    mine = load_catalogue(path)
    assert [recipe(name, mine)["train"].learning_rate for name in ("MiniLM-L6", "MiniLM-L3")] == [0.125, 0.25]
    assert recipe("MiniLM-L6", mine)["train"].min_steps == recipe("MiniLM-L6")["train"].min_steps
    assert recipe("MiniLM-L6", mine, recipe="classic")["train"].learning_rate == 2e-4


@pytest.mark.parametrize(
    ("asked", "epochs", "min_steps"),
    [({}, 2, 100), ({"epochs": 1}, 1, 0), ({"epochs": 1, "min_steps": 50}, 1, 50), ({"learning_rate": 0.5}, 2, 100)],
)
def test_epochs_that_are_asked_for_are_not_extended(asked, epochs, min_steps):
    found = recipe("MiniLM-L6", train=asked)["train"]
    assert (found.epochs, found.min_steps) == (epochs, min_steps)


def test_classic_is_what_was_published_first_and_no_models_own():
    found = recipe("MiniLM-L6", recipe="classic")
    assert (found["lora"].r, found["lora"].lora_alpha, found["lora"].target_modules) == (8, 16, "attention")
    train = found["train"]
    assert (train.learning_rate, train.effective_batch_size // train.max_device_batch_size) == (2e-4, 4)


@pytest.mark.parametrize("name", CATALOGUE.training.recipes)
def test_every_recipe_is_the_default_of_a_model_or_is_asked_for_by_name(name):
    reached = {
        CATALOGUE.default_recipe(kind, head, num_params, method)
        for method in ("lora", "full")
        for kind in ("encoder", "decoder", "encoder-decoder")
        for head in ("classification", "label-words")
        for num_params in (4e6, 30e6, 110e6, 3.8e9)
    }
    assert name in reached or CATALOGUE.recipe(name).kind is None


def test_every_fine_tuned_model_adapts_all_linear_layers_by_its_own_recipe():
    assert {recipe(name)["lora"].target_modules for name in FINE_TUNED} == {"all-linear"}


def test_a_model_of_unknown_size_gets_no_recipe_for_small_ones():
    assert not CATALOGUE.recipe("small-encoder").applies_to("encoder", "classification", 0)
    assert CATALOGUE.recipe("encoder").applies_to("encoder", "classification", 0)


def test_an_unknown_recipe_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown recipe 'clasic': did you mean 'classic'"):
        recipe("MiniLM-L6", recipe="clasic")


def test_all_weights_are_trained_as_they_are_and_other_methods_stay_what_they_are():
    assert recipe("Phi-3-mini", method="full")["dtype"] == "fp32"
    with pytest.raises(SpecError, match=r"model BERT-tiny: method 'full' with quantization 'nf4': .*--method lora"):
        recipe("BERT-tiny", method="full", quantization="nf4")
    assert "probe" in recipe("MiniLM-L6-probe", method="full") and "tfidf" in recipe("tfidf-logreg", method="full")
