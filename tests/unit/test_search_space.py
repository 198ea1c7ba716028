"""Search spaces: what they propose, and which values fits accept; what a person can get wrong is in test_bad_input.py."""

from pathlib import Path
from typing import get_args

import pytest
from bad_spaces import GOOD

from moodbench.config import load_catalogue
from moodbench.config.schema import LoraDefaults, LoraInitialisation, TrainDefaults
from moodbench.config.search_space import (
    SearchSpace,
    default_configuration,
    ends_of,
    overrides,
    values_of,
)
from moodbench.config.space_file import available_spaces, load_space
from moodbench.errors import MoodBenchError
from moodbench.tune.encoding import grid, grid_counts, suggest

TRAINING = load_catalogue().training


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "space.yaml"
    path.write_text(text, "utf-8")
    return str(path)


@pytest.mark.parametrize("name", ["lora_full", "lora_rank_alpha", "lora_variants"])
def test_every_shipped_space_holds_the_default_recipe(name: str) -> None:
    assert name in available_spaces()
    space = load_space(name, TRAINING, max_rank=384)
    point = default_configuration(space, TRAINING.lora, TRAINING.train)
    assert point is not None and point["lora.r"] == TRAINING.lora.r
    changed = overrides(point, TRAINING.lora)
    assert TRAINING.lora.model_copy(update=changed["lora"]) == TRAINING.lora
    assert TRAINING.train.model_copy(update=changed["train"]) == TRAINING.train


def test_alpha_follows_the_rank() -> None:
    assert overrides({"lora.r": 32}, TRAINING.lora)["lora"] == {"r": 32, "lora_alpha": 64.0}
    assert overrides({"lora.r": 32, "lora.alpha_over_r": 0.5}, TRAINING.lora)["lora"] == {"r": 32, "lora_alpha": 16.0}
    assert overrides({"train.learning_rate": 1e-3}, TRAINING.lora) == {"lora": {}, "train": {"learning_rate": 1e-3}}


def test_a_grid_has_every_combination_once(tmp_path: Path) -> None:
    space = load_space(written(tmp_path, GOOD), TRAINING)
    points = [(p["lora.r"], p["lora.alpha_over_r"]) for p in grid(space)]
    assert points == [(2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2)]


def test_a_condition_switches_a_parameter_off_and_the_grid_counts_it_once(tmp_path: Path) -> None:
    text = """description: x
parameters:
  lora.target_modules: {distribution: choice, values: [attention, all-linear]}
  lora.lora_dropout: {distribution: uniform, low: 0, high: 0.3, when: {lora.target_modules: [all-linear]}}
"""
    space = load_space(written(tmp_path, text), TRAINING)
    assert grid(space) == [{"lora.target_modules": "attention"}] + [
        {"lora.target_modules": "all-linear", "lora.lora_dropout": pytest.approx(x)} for x in (0, 0.1, 0.2, 0.3)
    ]
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = []
    for _ in range(30):
        trial = study.ask()
        assert suggest(trial, space) == trial.params
        drawn.append(trial.params)
    assert {len(params) for params in drawn} == {1, 2}
    assert all(("lora.lora_dropout" in p) == (p["lora.target_modules"] == "all-linear") for p in drawn)


@pytest.mark.parametrize("name", ["lora_rank_alpha", "qlora"])
def test_the_size_of_a_grid_is_known_without_making_it(name: str) -> None:
    space = load_space(name, TRAINING, 384)
    assert grid_counts(space) == {None: len(grid(space))}


def test_the_points_of_a_grid_are_counted_by_their_epochs_and_conditions(tmp_path: Path) -> None:
    text = """description: x
parameters:
  lora.target_modules: {distribution: choice, values: [attention, all-linear]}
  lora.lora_dropout: {distribution: uniform, low: 0, high: 0.3, when: {lora.target_modules: [all-linear]}}
  train.epochs: {distribution: integer, low: 1, high: 3, when: {lora.target_modules: [attention]}}
"""
    # attention with 1, 2 or 3 epochs; all-linear with four dropouts and the recipe's own epochs
    space = load_space(written(tmp_path, text), TRAINING)
    assert grid_counts(space) == {1: 1, 2: 1, 3: 1, None: 4} and len(grid(space)) == 7


def test_a_family_goes_before_its_kind_and_others_are_left_as_they_are(tmp_path: Path) -> None:
    text = (
        GOOD
        + """  train.learning_rate: {distribution: log_uniform, low: 1e-4, high: 1e-3}
families:
  decoder: {train.learning_rate: {distribution: log_uniform, low: 1e-5, high: 1e-4}}
  llama: {train.learning_rate: {distribution: choice, values: [2e-5, 3e-5]}}
"""
    )
    path, families = written(tmp_path, text), load_catalogue().families
    low = {
        family: ends_of(load_space(path, TRAINING, None, families, family).parameters["train.learning_rate"])[0]
        for family in ("bert", "gpt2", "llama")
    }
    assert low == {"bert": 1e-4, "gpt2": 1e-5, "llama": 2e-5}


def test_every_shipped_space_can_be_drawn_from_and_fits_accept_it() -> None:
    import optuna

    for name in available_spaces():
        for family in ("bert", "llama"):
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
            space = load_space(name, TRAINING, 384, load_catalogue().families, family)
            for _ in range(60):
                trial = study.ask()
                suggest(trial, space)
                changed = overrides(space.active(trial.params), TRAINING.lora)
                LoraDefaults.model_validate(TRAINING.lora.model_dump() | changed["lora"])
                TrainDefaults.model_validate(TRAINING.train.model_dump() | changed["train"])


def test_a_value_that_is_taken_out_takes_what_depends_on_it_along(tmp_path: Path) -> None:
    text = """description: x
parameters:
  quantization: {distribution: choice, values: [none, nf4, int8]}
  lora.r: {distribution: power_of_two, low: 2, high: 8, when: {quantization: [nf4]}}
  train.epochs: {distribution: integer, low: 1, high: 2, when: {quantization: [none]}}
"""
    space = load_space(written(tmp_path, text), TRAINING)
    assert values_of(space.without("quantization", ["int8"]).parameters["quantization"]) == ("none", "nf4")
    plain = space.without("quantization", ["int8", "nf4"])
    assert list(plain.parameters) == ["train.epochs"] and not plain.parameters["train.epochs"].when


README = Path(__file__).parents[2] / "tune_spaces" / "README.md"


def test_the_worked_example_of_the_readme_is_as_it_says(tmp_path: Path) -> None:
    text = README.read_text("utf-8")
    example = text.split("```yaml\n")[1].split("```")[0]
    path, families = written(tmp_path, example), load_catalogue().families
    spaces = {name: load_space(path, TRAINING, 384, families, name) for name in ("bert", "gpt2", "llama")}
    rates = {name: ends_of(space.parameters["train.learning_rate"]) for name, space in spaces.items()}
    assert rates == {"bert": (5e-5, 1e-3), "gpt2": (2e-5, 5e-4), "llama": (2e-5, 3e-4)}
    modules = [point["lora.target_modules"] for point in grid(spaces["bert"])]
    assert (modules.count("attention"), modules.count("all-linear")) == (64, 256)
    assert "64 points with `attention` and 256 with `all-linear`" in text
    point = default_configuration(spaces["bert"], TRAINING.lora, TRAINING.train)
    assert point is not None and point["train.base_dropout"] is None and "lora.lora_dropout" not in point

    wrong = example.replace("lora.alpha_over_r: {distribution: choice, ", "lora.alpha_over_r: {")
    with pytest.raises(MoodBenchError) as caught:
        load_space(written(tmp_path, wrong), TRAINING)
    assert f"    {str(caught.value).replace(path, 'mine.yaml')}\n" in text


def test_families_of_the_shipped_spaces_change_what_they_are_said_to() -> None:
    families = load_catalogue().families
    for name in available_spaces():
        top = {f: ends_of(load_space(name, TRAINING, None, families, f).parameters["train.learning_rate"])[1]
               for f in ("bert", "roberta", "deberta-v2", "qwen3")}  # fmt: skip
        assert top == {"bert": 5e-3, "roberta": 1e-3, "deberta-v2": 1e-3, "qwen3": 5e-4}
    full = load_space("lora_full", TRAINING, None, families, "qwen3").parameters["train.effective_batch_size"]
    assert values_of(full) == (8, 16, 32)


def test_what_the_catalogue_gives_a_model_is_well_inside_its_search() -> None:
    catalogue = load_catalogue()
    held = 0
    for name in available_spaces():
        for model in (m for m in catalogue.models.values() if m.method == "lora"):
            space = load_space(name, catalogue.training, None, catalogue.families, model.family)
            rate = model.train.get("learning_rate", catalogue.training.train.learning_rate)
            lowest, highest = ends_of(space.parameters["train.learning_rate"])
            assert 2 * lowest <= rate <= highest / 2, (name, model.family, rate)
            held += 1
    assert held >= 4 * 18


def test_the_variants_cover_dora_rslora_lora_plus_and_every_initialisation() -> None:
    space = load_space("lora_variants", TRAINING)
    assert values_of(space.parameters["lora.init_lora_weights"]) == get_args(LoraInitialisation)
    for name in ("lora.use_dora", "lora.use_rslora"):
        assert values_of(space.parameters[name]) == (False, True)
    assert (values_of(space.parameters["lora.loraplus_lr_ratio"]) or ())[-1] == 16


def test_null_can_be_searched_where_a_fit_has_it(tmp_path: Path) -> None:
    text = GOOD + "  train.base_dropout: {distribution: choice, values: [null, 0, 0.1]}\n"
    space = load_space(written(tmp_path, text), TRAINING)
    assert {point["train.base_dropout"] for point in grid(space)} == {None, 0, 0.1}
    assert default_configuration(space, TRAINING.lora, TRAINING.train) == {
        "lora.r": 8, "lora.alpha_over_r": 2, "train.base_dropout": None,
    }  # fmt: skip
    assert SearchSpace.model_validate_json(space.model_dump_json()) == space
