"""The catalogue: the packaged YAML merged with the user's overlay and validated as a whole."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from moodbench.config.schema import (
    DatasetEntry,
    DatasetsFile,
    DeviceClass,
    DevicesFile,
    EvaluationFile,
    Family,
    Head,
    MeasureProtocol,
    ModelEntry,
    ModelKind,
    ModelsFile,
    ModelSource,
    Preset,
    PresetsFile,
    PromptEntry,
    PromptsFile,
    PublishedFile,
    PublishedResult,
    Recipe,
    TrainingFile,
)
from moodbench.config.yaml_files import line_of, load_yaml, read_yaml_text, validated
from moodbench.errors import PrerequisiteError, SpecError, UnknownNameError
from moodbench.paths import existing_folder

SCHEMAS: dict[str, type[BaseModel]] = {
    "models": ModelsFile,
    "datasets": DatasetsFile,
    "training": TrainingFile,
    "evaluation": EvaluationFile,
    "presets": PresetsFile,
    "devices": DevicesFile,
    "prompts": PromptsFile,
    "published": PublishedFile,
}
_SECTION_FILE = {"families": "models"} | {name: name for name in SCHEMAS}
"""Top-level key of a single-file overlay -> catalogue file that it belongs to."""


@dataclass(frozen=True)
class Catalogue:
    """Everything that a spec can name, and the default settings."""

    models: dict[str, ModelEntry]
    families: dict[str, Family]
    datasets: dict[str, DatasetEntry]
    training: TrainingFile
    evaluation: EvaluationFile
    presets: dict[str, Preset]
    devices: dict[str, DeviceClass]
    prompts: dict[str, PromptEntry]
    published: dict[str, tuple[PublishedResult, ...]] = field(default_factory=dict)
    """Model -> published results of the fine-tuned model."""
    own_training: dict[str, Any] = field(default_factory=dict)
    """The `training` section of the user's overlay; its lora and train values override the default recipes."""
    trust_remote_code: bool = False
    """Whether models given by hub id or folder, and not by a catalogue name, may run their own code."""

    def model(self, name: str) -> ModelEntry:
        """Return the entry of model `name`, or a new entry for a folder or a hub id.

        Raises: UnknownNameError, which suggests the nearest name.
        """
        if name not in self.models and (own := own_source(name, trust_remote_code=self.trust_remote_code)):
            return ModelEntry(method="lora", source=own, licence="not stated", description="a model of your own")
        return _named(self.models, "model", name)

    def dataset(self, name: str) -> DatasetEntry:
        """Return the entry of dataset `name`, or raise UnknownNameError with the nearest name."""
        return _named(self.datasets, "dataset", name)

    def preset(self, name: str) -> Preset:
        """Return the preset `name`, or raise UnknownNameError with the nearest name."""
        return _named(self.presets, "preset", name)

    def device_class(self, name: str) -> DeviceClass:
        """Return the device class `name`, or raise UnknownNameError with the nearest name."""
        return _named(self.devices, "device class", name)

    def prompt(self, name: str) -> PromptEntry:
        """Return the prompt `name`, or raise UnknownNameError with the nearest name."""
        return _named(self.prompts, "prompt", name)

    def recipe(self, name: str) -> Recipe:
        """Return the recipe `name`, or raise UnknownNameError with the nearest name."""
        return _named(self.training.recipes, "recipe", name)

    def default_recipe(self, kind: ModelKind, head: Head, num_params: int, method: str = "lora") -> str | None:
        """Return the name of the default recipe of such models with fine-tuning `method`, or None."""
        recipes = self.training.recipes.items()
        return next((name for name, r in recipes if r.applies_to(kind, head, num_params, method)), None)

    def fine_tuning(
        self, entry: ModelEntry, kind: ModelKind, head: Head, num_params: int, asked: str | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the lora and train values of a model.

        Later layers override earlier ones: defaults, the model's default recipe, the user's own defaults, the model's
        entry. If a recipe is `asked` for by name, it replaces all layers after the defaults.
        Raises: UnknownNameError if there is no recipe with that name.
        """
        recipe = self.default_recipe(kind, head, num_params, entry.method) if asked is None else asked
        layers: list[dict[str, Any]] = [self.recipe(recipe).model_dump()] if recipe else []
        if asked is None:
            layers += [self.own_training, {"lora": entry.lora, "train": entry.train}]
        lora, train = self.training.lora.model_dump(), self.training.train.model_dump()
        for layer in layers:
            lora, train = merge(lora, layer.get("lora", {})), with_changed_training(train, layer.get("train", {}))
        return lora, train

    def protocol(self, name: str | None = None) -> MeasureProtocol:
        """Return the measurement protocol `name` (None for the default), or raise UnknownNameError."""
        return _named(self.evaluation.protocols, "measuring protocol", name or self.evaluation.protocol)


def own_source(name: str, *, trust_remote_code: bool = False) -> ModelSource | None:
    """Return the source of a model that is not in the catalogue: a local folder or a hub id `owner/name`, else None."""
    trusted = {"trust_remote_code": trust_remote_code}
    if any(mark in name for mark in "/\\~") and (folder := existing_folder(name)):
        return ModelSource.model_validate({"path": str(folder), **trusted})
    on_hub = re.fullmatch(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", name)
    return ModelSource.model_validate({"hub": name, **trusted}) if on_hub else None


def load_catalogue(overlay: Path | None = None, *, trust_remote_code: bool = False) -> Catalogue:
    """Return the packaged catalogue, merged with the user's `overlay`.

    `overlay` is a folder with any of models.yaml, datasets.yaml, training.yaml, evaluation.yaml, presets.yaml,
    devices.yaml, prompts.yaml and published.yaml, or one file with `models`, `families`, `datasets`, `presets`,
    `devices`, `prompts`, `published`, `training` and `evaluation` as top-level keys. Mappings are merged key by key,
    all else is replaced; results under `published` are added to those of the same model.
    With `trust_remote_code`, models given by hub id or folder may run their own code.
    Raises: SpecError with file, line, key, value seen and what is allowed; PrerequisiteError if the overlay does not
    exist; UnknownNameError for an unknown file, key, or name in `published`.
    """
    layers = _overlay_layers(overlay) if overlay else {}
    models = _merged_file(ModelsFile, "models", layers)
    datasets = _merged_file(DatasetsFile, "datasets", layers)
    published = _merged_file(PublishedFile, "published", layers)
    _check_names(published, models, datasets, layers.get("published"))
    return Catalogue(
        models=models.models,
        families=models.families,
        datasets=datasets.datasets,
        training=_merged_file(TrainingFile, "training", layers),
        evaluation=_merged_file(EvaluationFile, "evaluation", layers),
        presets=_merged_file(PresetsFile, "presets", layers).presets,
        devices=_merged_file(DevicesFile, "devices", layers).devices,
        prompts=_merged_file(PromptsFile, "prompts", layers).prompts,
        published=published.published,
        own_training=layers["training"].values if "training" in layers else {},
        trust_remote_code=trust_remote_code,
    )


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` updated with `over`; mappings are merged key by key, all else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def with_changed_training(train: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the training values updated with `changes`.

    If `changes` has `epochs` but not `min_steps`, min_steps is set to 0, so that the number of epochs is not extended.
    """
    defaults = {"min_steps": 0} if "epochs" in changes and "min_steps" not in changes else {}
    return merge(train, defaults | changes)


@cache
def _packaged(name: str) -> dict[str, Any]:
    return load_yaml(files("moodbench.config").joinpath(f"{name}.yaml").read_text("utf-8"), f"{name}.yaml")


@cache
def _packaged_file(name: str) -> BaseModel:
    return SCHEMAS[name].model_validate(_packaged(name))


@dataclass(frozen=True)
class _Layer:
    where: str
    text: str
    prefix: tuple[str, ...]
    values: dict[str, Any]


def _overlay_layers(overlay: Path) -> dict[str, _Layer]:
    if overlay.is_dir():
        found = {name: overlay / f"{name}.yaml" for name in SCHEMAS if (overlay / f"{name}.yaml").exists()}
        for path in sorted(overlay.glob("*.y*ml")):
            if path not in found.values():
                raise UnknownNameError(f"catalogue file in {overlay}:", path.name, [f"{name}.yaml" for name in SCHEMAS])
        if not found:
            raise PrerequisiteError(f"{overlay}: no {', '.join(f'{n}.yaml' for n in SCHEMAS)} in this folder")
        texts = {name: read_yaml_text(path, "catalogue entries", "--config") for name, path in found.items()}
        return {n: _Layer(str(found[n]), text, (), load_yaml(text, str(found[n]))) for n, text in texts.items()}
    if not overlay.exists():
        raise PrerequisiteError(f"{overlay}: no such file or folder; --config names a YAML file or a folder of them")
    text = read_yaml_text(overlay, "catalogue entries", "--config")
    values = load_yaml(text, str(overlay))
    layers: dict[str, _Layer] = {}
    for key, value in values.items():
        line = line_of(text, (key,))
        if key not in _SECTION_FILE:
            raise UnknownNameError(f"top-level key in {overlay}, line {line}:", str(key), _SECTION_FILE)
        if not isinstance(value, dict):
            raise SpecError(f"{overlay}, line {line}: {key}: expected keys below it, seen {value!r}")
        name = _SECTION_FILE[key]
        if name == key and name in ("training", "evaluation"):
            layers[name] = _Layer(str(overlay), text, (key,), value)
        else:
            earlier = layers[name].values if name in layers else {}
            layers[name] = _Layer(str(overlay), text, (), earlier | {key: value})
    return layers


def _merged_file[T: BaseModel](schema: type[T], name: str, layers: dict[str, _Layer]) -> T:
    """Return the packaged catalogue file `name`, merged with the user's layer."""
    layer = layers.get(name)
    if layer is None:
        packaged = _packaged_file(name)
        assert isinstance(packaged, schema)
        return packaged
    return validated(schema, _merged(_packaged(name), layer.values, name), layer.where, layer.text, layer.prefix)


def _merged(packaged: dict[str, Any], own: dict[str, Any], name: str) -> dict[str, Any]:
    """Return `own` merged into `packaged`; a model's published results from `own` come first.

    Their indices in validation errors then match the user's file.
    """
    merged = merge(packaged, own)
    if name != "published" or not isinstance(own.get(name), dict):
        return merged
    rows = {m: [*r, *packaged[name].get(m, ())] for m, r in own[name].items() if isinstance(r, list)}
    return merge(merged, {name: rows})


def _check_names(published: PublishedFile, models: ModelsFile, datasets: DatasetsFile, layer: _Layer | None) -> None:
    """Raise UnknownNameError for published results of a model or dataset that is not in the catalogue."""
    for model, results in published.published.items():
        if model not in models.models and own_source(model) is None:
            raise UnknownNameError(f"model {_place(layer, (model,))}", model, models.models)
        for number, result in enumerate(results):
            if result.dataset not in datasets.datasets:
                raise UnknownNameError(
                    f"dataset {_place(layer, (model, number, 'dataset'))}", result.dataset, datasets.datasets
                )


def _place(layer: _Layer | None, path: tuple[str | int, ...]) -> str:
    whole = ("published", *path)
    if layer is None:
        return f"in published.yaml: {'.'.join(map(str, whole))}:"
    return f"in {layer.where}, line {line_of(layer.text, whole)}: {'.'.join(map(str, whole))}:"


def _named[T](entries: dict[str, T], kind: str, name: str) -> T:
    if name not in entries:
        raise UnknownNameError(kind, name, entries)
    return entries[name]
